//! Many launches: in a row, and many jails at once.

use std::fs;
use std::io;
use std::time::Instant;

use crate::sys;
use crate::units::UNITS;
use crate::world::{World, reap};

/// What the processes that were waited for have used, in microseconds.
fn used() -> u64 {
    #[allow(unsafe_code)]
    // SAFETY: rusage is plain data for which all zeroes is a valid value, and
    // it outlives the call.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage);
        usage
    };
    let micros = |time: libc::timeval| time.tv_sec as u64 * 1_000_000 + time.tv_usec as u64;
    micros(usage.ru_utime) + micros(usage.ru_stime)
}

fn begin(world: &World, words: &[String]) -> io::Result<i32> {
    let pid = sys::fork()?;
    if pid == 0 {
        sys::close_from(3).ok();
        crate::trace::silence(Some(&said(world))).ok();
        sys::exec(words);
        sys::exit(99);
    }
    Ok(pid)
}

/// Where all of them write what they have to say.
fn said(world: &World) -> std::path::PathBuf {
    world.scratch.join("said")
}

fn up(world: &World, rest: &[&str]) -> Vec<String> {
    let mut words = vec![world.jailrun.to_string_lossy().into_owned()];
    words.extend(["up", "--quiet"].map(str::to_owned));
    words.push(UNITS[0].path(world).to_string_lossy().into_owned());
    words.extend(rest.iter().map(|word| (*word).to_owned()));
    words
}

/// So many launches, `width` at a time.
pub(crate) fn in_a_row(world: &World, count: usize, width: usize) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let single = sys::wait_for(begin(world, &up(world, &[]))?)?;
    if single != 0 {
        return Ok(vec![format!("a launch ends with {single}")]);
    }
    let before = world.ledger();
    let mut running = 0;
    let mut times = Vec::new();
    let mut mark = (used(), Instant::now());
    let mut ended = 0;
    let tenth = count.div_ceil(10);
    let mut begun = 0;
    while ended < count {
        while running < width && begun < count {
            // Two launches of one name would be in each other's way.
            let name = format!("name=crowd-{begun}");
            begin(world, &up(world, &["--set", &name]))?;
            begun += 1;
            running += 1;
        }
        if let Some((_, sys::Waited::Ended(status))) = sys::wait_any(false)? {
            running -= 1;
            ended += 1;
            if status != 0 {
                found.push(format!("launch {ended} ends with {status}"));
            }
            if ended % tenth == 0 {
                times.push(((used() - mark.0) / tenth as u64, mark.1.elapsed()));
                mark = (used(), Instant::now());
            }
        }
    }
    found.extend(world.differences(&before));
    found.extend(fs::read_to_string(said(world)).unwrap_or_default().lines().map(str::to_owned));
    if let (Some(first), Some(last)) = (times.first(), times.last()) {
        println!(
            "{count} launches, {width} at a time: {} µs of CPU each in the first tenth, {} in the last: {:.2} times",
            first.0,
            last.0,
            last.0 as f64 / first.0.max(1) as f64
        );
    }
    Ok(found)
}

/// So many jails that run at once, `width` of them launching at a time. Each
/// says that it runs by opening a FIFO, and ends when it is told so.
pub(crate) fn at_once(world: &World, count: usize, width: usize) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let root = crate::units::Unit::root(world);
    let script = "echo x > /data/$0; read x < /data/end";
    let before = world.ledger();
    let started = root.join("data");
    let end = started.join("end");
    make_fifo(&end)?;
    let mut pids = Vec::new();
    let mut waiting: Vec<usize> = Vec::new();
    let mut next = 0;
    let began = Instant::now();
    while next < count || !waiting.is_empty() {
        while waiting.len() < width && next < count {
            let name = format!("name=crowd-{next}");
            let mark = next.to_string();
            let words = up(
                world,
                &[
                    "--set",
                    &name,
                    "--set",
                    "process.command=[\"/bin/busybox\", \"sh\", \"-c\"]",
                    "--",
                    script,
                    &mark,
                ],
            );
            pids.push(begin(world, &words)?);
            waiting.push(next);
            next += 1;
        }
        waiting.retain(|number| !started.join(number.to_string()).exists());
        if let Some((pid, sys::Waited::Ended(status))) = sys::wait_any(true)? {
            found.push(format!(
                "jail {:?} ends with {status}",
                pids.iter().position(|known| *known == pid)
            ));
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        if began.elapsed().as_secs() > 600 {
            found.push(format!("only {} of {count} jails run", next - waiting.len()));
            break;
        }
    }
    let groups =
        world.places.cgroups.iter().find(|group| group.to_string_lossy().contains("/pids/"));
    if let Some(groups) = groups {
        let jails = fs::read_dir(groups)?.flatten().filter(|entry| entry.path().is_dir()).count();
        println!("{jails} jails at once");
        if jails != count {
            found.push(format!("{jails} groups for {count} jails"));
        }
    }
    // The end of what is written is the end of every reader's wait.
    let writer = fs::OpenOptions::new().write(true).read(true).open(&end)?;
    {
        use std::io::Write as _;
        let mut writer = &writer;
        for _ in 0..pids.len() {
            writer.write_all(b"x\n")?;
        }
    }
    for pid in pids {
        match sys::wait_for(pid) {
            Ok(0) => {}
            Ok(status) => found.push(format!("a jail ends with {status}")),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {}
            Err(error) => return Err(error),
        }
    }
    drop(writer);
    for entry in fs::read_dir(&started)?.flatten() {
        fs::remove_file(entry.path())?;
    }
    reap();
    found.extend(world.differences(&before));
    Ok(found)
}

fn make_fifo(path: &std::path::Path) -> io::Result<()> {
    let status = std::process::Command::new("mkfifo").arg("-m").arg("666").arg(path).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other("no FIFO")) }
}
