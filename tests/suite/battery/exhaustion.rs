//! E: exhaustion of the host.
//!
//! Nothing is measured against a clock: what a limit did is read from the
//! counters of the control groups, or is where a count stopped.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::processes::descendants;
use super::{Ground, Sheet, Test, both, said, succeeds};
use crate::support::{CALLERS, Caller, command, eventually, finish, jailrun};

pub const TESTS: &[Test] = &[
    ("E1", fork_bomb),
    ("E2", memory_bomb),
    ("E3", memory_file_systems),
    ("E4", disk),
    ("E5", processors),
    ("E7", tables_of_users),
    ("E8", output),
    ("E9", stopping),
    ("E10", many_launches),
];

/// A running probe.
fn start(ground: &Ground, words: &[&str]) -> Child {
    let mut all = vec!["up", "--quiet", ground.bench.unit.to_str().unwrap(), "--", "/probe"];
    all.extend(words);
    command(Caller::Root, jailrun(), &all).spawn().unwrap()
}

/// The control groups of a running jail.
fn groups(ground: &Ground) -> Vec<PathBuf> {
    let name = format!("jailrun-{}", ground.bench.name);
    let found = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", &name])
        .output()
        .unwrap();
    String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from).collect()
}

/// The content of the first of the files that one of the groups has.
fn counter(ground: &Ground, files: &[&str]) -> String {
    let groups = groups(ground);
    groups
        .iter()
        .flat_map(|group| files.iter().map(move |file| group.join(file)))
        .find_map(|path| fs::read_to_string(path).ok())
        .unwrap_or_else(|| panic!("none of {files:?} in {groups:?}"))
}

/// A number behind a name in a file of counters.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
}

fn fork_bomb(sheet: &mut Sheet) {
    let ground = Ground::new("[limits]\npids = 20\n");
    let free = ground.with(Caller::Root, &["limits.pids=infinity"], &["forks", "100"]).json();
    assert_eq!(free["started"], 100, "the control: {free}");
    let bomb = ground.jail(Caller::Root, &["forks", "100"]).json();
    assert_eq!(bomb["errno"], "EAGAIN", "{bomb}");
    assert!(bomb["started"].as_u64() < Some(20), "{bomb}");
    let control = "100 processes start without the limit";
    sheet.row("E1", "a fork bomb, 20 processes allowed", control, "EAGAIN below 20");
}

fn memory_bomb(sheet: &mut Sheet) {
    let ground = Ground::new("[limits]\nmemory = \"32M\"\nswap = 0\n");
    let free = ["limits.swap=infinity", "limits.memory=infinity"];
    let hog = ground.with(Caller::Root, &free, &["hog", "100000000"]);
    assert_eq!((hog.status, &*hog.stdout), (0, "touched\n"), "the control: {hog:?}");
    let hog = ground.jail(Caller::Root, &["hog", "100000000"]);
    assert_eq!(hog.status, 137, "{hog:?}");
    let last = hog.stderr.lines().last().unwrap();
    assert!(last.contains("killed by the kernel for memory: peak 32M, limit 32M"), "{hog:?}");
    let lower = ["write", "/proc/self/oom_score_adj", "-1000"];
    assert_eq!(ground.jail(Caller::Root, &lower).json()["errno"], "EACCES");
    let control = "100 MB are written to without the limit";
    sheet.row("E2", "a memory bomb, 32 MiB allowed", control, "the jail is killed and says why");
}

fn memory_file_systems(sheet: &mut Sheet) {
    let ground = Ground::new("[limits]\nmemory = \"512M\"\non-missing = \"skip\"\n");
    // What a tmpfs takes without options: half of the memory, a file per page.
    let script = format!(
        "mount -t tmpfs none {0}/data && exec chroot {0} /probe inodes /data 70000",
        ground.bench.root.display()
    );
    let plain = finish(
        command(Caller::Root, Path::new("unshare"), &["-m", "sh", "-c", &script]).spawn().unwrap(),
    );
    let control = succeeds("in a tmpfs without options", &plain);
    for (words, attack) in [
        (["inodes", "/dev/shm", "70000"], "70,000 files in /dev/shm"),
        (["fill", "/dev/shm/file", "100000000"], "100 MB in /dev/shm"),
    ] {
        let stopped = ground.both(&words);
        assert_eq!(stopped, "ENOSPC", "{words:?}");
        sheet.row("E3", attack, &*control, stopped);
    }
    for caller in CALLERS {
        let report = ground.jail(caller, &["report"]).json();
        for mount in report["mounts"].as_array().unwrap() {
            if mount["fstype"] == "tmpfs" {
                let text = mount.to_string();
                assert!(text.contains("size=") && text.contains("nr_inodes="), "{text}");
            }
        }
    }
    sheet.row(
        "E3",
        "a tmpfs without a size or a number of files",
        "as above",
        "every one has both",
    );
}

fn disk(sheet: &mut Sheet) {
    let attack = "direct writes, 8 MB a second allowed";
    let ground =
        Ground::new("[limits.blkio]\ndevices = [{ path = \"{dir}\", write-bps = \"8M\" }]\n");
    let device = fs::metadata(ground.path()).unwrap().dev();
    let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mut child = start(&ground, &["trap"]);
    let mut line = [0_u8; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let rule = counter(&ground, &["blkio.throttle.write_bps_device", "io.max"]);
    let other = fs::read_to_string("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device")
        .unwrap_or_default();
    child.kill().unwrap();
    child.wait().unwrap();
    ground.jail(Caller::Root, &["true"]);
    assert!(rule.contains(&number) && rule.contains("8388608"), "{rule}");
    assert!(!other.contains(&number), "{other}");
    // That the kernel keeps to it takes seconds of writing to see.
    sheet.row(
        "E4",
        attack,
        "no rule outside the jail's group",
        "the kernel has the rule for the device",
    );
}

fn processors(sheet: &mut Sheet) {
    // 20 % of one CPU: a period in which the loop gets more than its quota of
    // 4 ms is throttled, however busy the machine is with others.
    let ground = Ground::new("[limits]\ncpu = 0.2\ncpu-period = \"20ms\"\n");
    let stat = |ground: &Ground, limited: bool| {
        let mut child = start(ground, &["spin", "30"]);
        let mut periods = 0;
        let mut text = String::new();
        eventually("it has been throttled, or twenty periods have passed", || {
            if groups(ground).iter().any(|group| group.join("cpu.stat").exists()) {
                text = counter(ground, &["cpu.stat"]);
                periods = number(&text, "nr_periods");
            }
            let throttled = if text.is_empty() { 0 } else { number(&text, "nr_throttled") };
            throttled >= 5 || (!limited && periods >= 20) || child.try_wait().unwrap().is_some()
        });
        // Nanoseconds on a CPU, in microseconds.
        let used: u64 = descendants(child.id())
            .iter()
            .filter_map(|pid| fs::read_to_string(format!("/proc/{pid}/schedstat")).ok())
            .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
            .sum::<u64>()
            / 1000;
        let after = counter(ground, &["cpu.stat"]);
        child.kill().unwrap();
        child.wait().unwrap();
        ground.jail(Caller::Root, &["true"]);
        (number(&after, "nr_periods"), number(&after, "nr_throttled"), used)
    };
    let (periods, throttled, used) = stat(&ground, true);
    assert!(throttled >= 5, "{throttled} of {periods}");
    // A period's quota is 4 ms. Without the limit it would be 20.
    let quota = (periods + 2) * 4_000;
    assert!(used > 0 && used <= quota + quota / 4, "{used} µs in {periods} periods");
    let free = Ground::new("[limits]\ncpu = 64\ncpu-period = \"20ms\"\n");
    let (free_periods, free_throttled, _) = stat(&free, false);
    assert_eq!(free_throttled, 0, "the control: {free_throttled} of {free_periods}");
    let control = "not throttled where the quota is above what there is";
    sheet.row("E5", "a busy loop, 0.2 CPUs allowed", control, "throttled, and within the quota");
}

fn tables_of_users(sheet: &mut Sheet) {
    let ground = Ground::new("[limits.rlimits]\nnofile = 64\n");
    let free = ground.with(Caller::Root, &["limits.rlimits.nofile=512"], &["fds", "100"]);
    let control = succeeds("with a higher limit", &free);
    let stopped = ground.both(&["fds", "100"]);
    assert_eq!(stopped, "EMFILE");
    sheet.row("E7", "100 descriptors, 64 allowed", control, stopped);
    // Terminals are the jail's own: they are not those of the host's table.
    let before = fs::read_to_string("/proc/sys/kernel/pty/nr").unwrap();
    for caller in CALLERS {
        let run = ground.with(caller, &["limits.rlimits.nofile=64"], &["ptys", "40"]);
        assert_eq!(said(&run), "succeeds", "{run:?}");
    }
    assert!(!before.is_empty());
}

fn output(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let amount = 64 << 20;
    let mut supervised = Vec::new();
    for caller in CALLERS {
        let unit = ground.bench.unit.to_str().unwrap();
        let words = [
            "up",
            "--quiet",
            unit,
            "--set",
            "process.tty=true",
            "--",
            "/probe",
            "flood",
            "67108864",
        ];
        let mut child = command(caller, jailrun(), &words).spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let mut buffer = vec![0; 1 << 16];
        let mut seen = 0;
        let mut largest = 0;
        loop {
            let count = stdout.read(&mut buffer).unwrap();
            if count == 0 {
                break;
            }
            if seen / (8 << 20) != (seen + count) / (8 << 20) {
                let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
                let size = status.unwrap_or_default();
                let data = size.lines().find_map(|line| line.strip_prefix("RssAnon:"));
                let kib =
                    data.and_then(|text| text.trim().strip_suffix(" kB")?.parse::<u64>().ok());
                largest = largest.max(kib.unwrap_or(0));
            }
            seen += count;
        }
        assert_eq!(finish(child).status, 0);
        assert!(seen >= amount, "{seen}");
        assert!(largest > 0 && largest < 8 << 10, "{largest} KiB");
        supervised.push(largest);
    }
    // A reader that keeps everything is what the supervisor must not be.
    let keeps = crate::support::finish(
        command(Caller::Root, crate::support::probe(), &["flood", "67108864"]).spawn().unwrap(),
    );
    assert_eq!(keeps.stdout.len(), amount);
    let control = "a reader that keeps it holds 64 MiB";
    sheet.row(
        "E8",
        "64 MiB of output through a terminal",
        control,
        "the supervisor stays below 8 MiB",
    );
}

fn stopping(sheet: &mut Sheet) {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    let ground = Ground::new("[limits]\npids = 64\n[lifecycle]\nstop-grace = \"100ms\"\n");
    let pid_of = |pid: u32| Pid::from_raw(i32::try_from(pid).unwrap());
    for how in ["stopped", "frozen", "busy"] {
        let mut child = start(&ground, &["ignore-term", "600"]);
        let mut line = [0_u8; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        let inside = descendants(child.id());
        assert_eq!(inside.len(), 2);
        let mut frozen = None;
        match how {
            "stopped" => inside.iter().for_each(|pid| kill(pid_of(*pid), Signal::SIGSTOP).unwrap()),
            "frozen" => frozen = freeze(&ground, &inside),
            _ => {}
        }
        // The control: to what is stopped, TERM does nothing.
        kill(pid_of(inside[1]), Signal::SIGTERM).unwrap();
        assert!(Path::new(&format!("/proc/{}", inside[1])).exists());
        kill(pid_of(child.id()), Signal::SIGTERM).unwrap();
        if let Some(group) = frozen {
            // Frozen from outside by somebody else: it ends when they let go,
            // at the latest, and jailrun does not hang before.
            eventually("jailrun ends or waits for the thaw", || {
                if child.try_wait().unwrap().is_some() {
                    return true;
                }
                thaw(&group)
            });
            finish(child);
            remove(&group);
        } else {
            assert_eq!(finish(child).status, 137, "{how}");
        }
        eventually("its processes are gone", || {
            inside.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
        });
    }
    let attack = "stopping a jail that is stopped, frozen, or ignores TERM";
    sheet.row("E9", attack, "TERM alone does nothing", "killed after the grace");
}

/// Freezes processes in a v1 or v2 group of the test's own.
fn freeze(ground: &Ground, pids: &[u32]) -> Option<PathBuf> {
    let v1 = Path::new("/sys/fs/cgroup/freezer");
    if !v1.exists() {
        return None;
    }
    let group = v1.join(format!("jailrun-frozen-{}", ground.bench.name));
    fs::create_dir(&group).unwrap();
    for pid in pids {
        fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    fs::write(group.join("freezer.state"), "FROZEN").unwrap();
    eventually("it is frozen", || {
        fs::read_to_string(group.join("freezer.state")).unwrap().trim() == "FROZEN"
    });
    Some(group)
}

fn thaw(group: &Path) -> bool {
    fs::write(group.join("freezer.state"), "THAWED").unwrap();
    true
}

fn remove(group: &Path) {
    eventually("the group is empty", || fs::remove_dir(group).is_ok());
}

fn many_launches(sheet: &mut Sheet) {
    let ground = Ground::new("[limits]\nmemory = \"32M\"\non-missing = \"skip\"\n");
    let count = 100;
    for _ in 0..count {
        for caller in CALLERS {
            assert_eq!(ground.jail(caller, &["true"]).status, 0);
        }
    }
    ground.assert_host_unchanged();
    // The control: what a launch makes is there while it runs.
    let mut child = start(&ground, &["trap"]);
    let mut line = [0_u8; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert!(!crate::support::leftovers(&ground.bench.name).is_empty());
    child.kill().unwrap();
    child.wait().unwrap();
    ground.jail(Caller::Root, &["true"]);
    let words = both("nothing left", "nothing left");
    sheet.row("E10", "200 launches", "journal and groups are there while one runs", words);
}
