//! Many jails at once, and the memory that one of them holds while it does nothing.

use std::fs;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use crate::contender::{Contender, Launcher, Programs};
use crate::error::Error;
use crate::interrupt;
use crate::jail::Jail;
use crate::report::{self, Crowd, Memory, Target, micros};
use crate::stage::{PAUSE, Stage};

/// How many jails there are at once.
const JAILS: usize = 100;

/// How many of them make a first and a last figure.
const TENTH: usize = JAILS / 10;

/// The longest that a jail may take until its command runs.
const PATIENCE: Duration = Duration::from_secs(30);

/// The most private dirty memory that an idle jail may hold, in KiB.
const DIRTY: f64 = 160.0;

/// Jails that are up, ended when dropped.
struct Up(Vec<Child>);

impl Drop for Up {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Err(error) = end(child) {
                eprintln!("jailbench: cannot end a jail: {error}");
            }
        }
    }
}

/// Tells a launcher to end its jail, and waits until it has.
fn end(child: &mut Child) -> std::io::Result<()> {
    let pid = child.id().try_into().map_err(std::io::Error::other)?;
    // SAFETY: takes no pointer; the child has not been waited for, so that the number is its own.
    if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    child.wait().map(drop)
}

/// Measures how long each of many jails takes to come up beside the others.
pub(crate) fn measure(programs: &Programs, stage: &Stage, bare: Jail) -> Result<(), Error> {
    let mut rows = Vec::new();
    // Each jail of jailrun has a name of its own.
    let jails: Vec<_> = (0..JAILS).map(|number| Jail { number, name: "crowd", ..bare }).collect();
    for index in 0..programs.contenders(&bare, stage)?.len() {
        let mut up = Up(Vec::new());
        let mut times = Vec::new();
        let mut launcher = Launcher::Floor;
        for jail in &jails {
            let mut contender = programs.stays(jail, stage)?.swap_remove(index);
            launcher = contender.launcher;
            let start = Instant::now();
            let child = contender.start()?;
            up.0.push(child);
            command_of(&contender, &up.0[up.0.len() - 1])?;
            times.push(start.elapsed());
            interrupt::check()?;
        }
        let mean = |times: &[Duration]| micros(times.iter().sum::<Duration>()) / times.len() as f64;
        let all = micros(times.iter().sum());
        rows.push((launcher, mean(&times[..TENTH]), mean(&times[JAILS - TENTH..]), all));
    }
    report::print(Crowd { jails: JAILS, rows: &rows })
}

/// Measures the memory of an idle jail of each launcher.
pub(crate) fn memory(
    programs: &Programs,
    stage: &Stage,
    bare: Jail,
) -> Result<Option<Target>, Error> {
    let mut rows = Vec::new();
    for mut contender in programs.stays(&Jail { name: "idle", ..bare }, stage)? {
        let up = Up(vec![contender.start()?]);
        let command = command_of(&contender, &up.0[0])?;
        // What a launcher does last, it does once its command runs.
        thread::sleep(Duration::from_millis(100));
        let mut processes = descendants(up.0[0].id());
        processes.retain(|pid| *pid != command);
        let held = |key| processes.iter().map(|pid| kib(*pid, key)).sum();
        rows.push((contender.launcher, processes.len(), held("Private_Dirty:"), held("Pss:")));
    }
    report::print(Memory { rows: &rows })?;
    let jailrun = rows.iter().find(|row| row.0 == Launcher::Jailrun);
    Ok(jailrun.map(|row| Target {
        name: "idle, KiB of private dirty memory".to_owned(),
        measured: row.2 as f64,
        at_most: DIRTY,
    }))
}

/// Waits until the command of a jail runs, and gives its process.
fn command_of(contender: &Contender, child: &Child) -> Result<u32, Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = descendants(child.id()).into_iter().find(|pid| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.strip_suffix(b"\0") == Some(PAUSE.as_bytes()))
        });
        if let Some(pid) = found {
            return Ok(pid);
        }
        if Instant::now() > deadline {
            return Err(Error::NotUp(contender.launcher.name()));
        }
        thread::yield_now();
    }
}

/// A process and all that came from it.
fn descendants(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next) {
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        all.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok()),
        );
        next += 1;
    }
    all
}

/// A line of a process's memory, in KiB.
fn kib(pid: u32, key: &str) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(Path::new(&path)).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(key)?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0)
}
