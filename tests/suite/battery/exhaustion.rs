//! E: exhaustion of the host.
//!
//! Nothing is measured against a clock: what a limit did is read from the
//! counters of the control groups, or is where a count stopped.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{Ground, Sheet, Test, controls, said, shell, succeeds};
use crate::support::{CALLERS, Caller, command, descendants, eventually, finish, jailrun};

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

/// Why a limit of a control group is tried as root alone.
const ROOT_ONLY: &str = "(root only: an ordinary user has no group here)";

/// A running probe.
fn start(ground: &Ground, words: &[&str]) -> Child {
    start_as(ground, Caller::Root, &[], words)
}

fn start_as(ground: &Ground, caller: Caller, set: &[&str], words: &[&str]) -> Child {
    let mut all = vec!["up", "--quiet", ground.bench.unit.to_str().unwrap()];
    all.extend(set.iter().flat_map(|set| ["--set", *set]));
    all.extend(["--", "/probe"]);
    all.extend(words);
    command(caller, jailrun(), &all).spawn().unwrap()
}

/// The first line of the probe's says that it is ready.
fn wait_until_ready(child: &mut Child) {
    let mut line = [0_u8; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");
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
    let control = format!("100 processes start without the limit {ROOT_ONLY}");
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
    let control = format!("100 MB are written to without the limit {ROOT_ONLY}");
    sheet.row("E2", "a memory bomb, 32 MiB allowed", control, "the jail is killed and says why");
}

fn memory_file_systems(sheet: &mut Sheet) {
    let ground = Ground::new("[limits]\nmemory = \"512M\"\non-missing = \"skip\"\n");
    // What a tmpfs takes without options: half of the memory, a file per page.
    let root = ground.bench.root.display();
    let data = |caller, words: &str| {
        shell(
            caller,
            &format!(
                "mount --rbind /proc {root}/proc && mount -t tmpfs none {root}/data && exec chroot {root} /probe {words}"
            ),
        )
    };
    let how = "in a tmpfs without options";
    let control = controls(how, |caller| data(caller, "inodes /data 70000"));
    assert_eq!(controls(how, |caller| data(caller, "fill /data/file 100000000")), control);
    let bare = data(Caller::Root, "report").json();
    let bare = bare["mounts"].as_array().unwrap().iter().find(|mount| mount["target"] == "/data");
    let bare = bare.unwrap().to_string();
    assert!(!bare.contains("size=") && !bare.contains("nr_inodes="), "the control: {bare}");
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
        "one that mount(8) makes has neither",
        "every one has both",
    );
}

fn disk(sheet: &mut Sheet) {
    let attack = "32 MiB of direct writes, 1 MiB a second allowed";
    let ground =
        Ground::new("[limits.blkio]\ndevices = [{ path = \"{dir}\", write-bps = \"1M\" }]\n");
    let device = fs::metadata(ground.path()).unwrap().dev();
    let number = format!("{}:{}", nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let mut child = start(&ground, &["trap"]);
    wait_until_ready(&mut child);
    let rule = counter(&ground, &["blkio.throttle.write_bps_device", "io.max"]);
    child.kill().unwrap();
    child.wait().unwrap();
    ground.jail(Caller::Root, &["true"]);
    assert!(rule.contains(&number) && rule.contains("1048576"), "{rule}");
    let data = ground.bench.root.join("data");
    let open_to_all = |path: &Path| {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    };
    open_to_all(&data);
    // Both write at the same time, one with the limit: when the other has
    // written all, however long that took, it has come less than half as far.
    let mut limited = start(&ground, &["direct", "/data/limited", &AMOUNT.to_string()]);
    let written = || fs::metadata(data.join("limited")).map_or(0, |file| file.len());
    eventually("it writes", || written() > 0);
    let free = Ground::new("");
    open_to_all(&free.bench.root.join("data"));
    let open = free.jail(Caller::Root, &["direct", "/data/free", &AMOUNT.to_string()]);
    let far = written();
    let control = succeeds("in full without the limit", &open);
    assert!(far < AMOUNT / 2, "{far} of {AMOUNT}");
    limited.kill().unwrap();
    limited.wait().unwrap();
    ground.jail(Caller::Root, &["true"]);
    let control = format!("{control} {ROOT_ONLY}");
    sheet.row("E4", attack, control, "less than half by then; the rule is the kernel's");
}

/// Bytes that are written past the page cache.
const AMOUNT: u64 = 32 << 20;

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
    let control = format!("not throttled where the quota is above what there is {ROOT_ONLY}");
    sheet.row("E5", "a busy loop, 0.2 CPUs allowed", control, "throttled, and within the quota");
}

fn tables_of_users(sheet: &mut Sheet) {
    let ground = Ground::new("[limits.rlimits]\nnofile = 64\n");
    let control = controls("with a higher limit", |caller| {
        ground.with(caller, &["limits.rlimits.nofile=512"], &["fds", "100"])
    });
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

/// Private memory of a process, in KiB.
fn private_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

fn output(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let unit = ground.bench.unit.to_str().unwrap();
    let amount = 64 << 20;
    let flood = ["/probe", "flood", "67108864"];
    for caller in CALLERS {
        // Somebody around the same jail who keeps what they read.
        let line = format!(
            "all=$({} up --quiet {unit} --set process.tty=true -- {}); echo ready; read line",
            jailrun().display(),
            flood.join(" ")
        );
        let mut keeps = command(caller, Path::new("sh"), &["-c", &line]);
        let mut keeps = keeps.stdin(Stdio::piped()).spawn().unwrap();
        wait_until_ready(&mut keeps);
        let kept = private_memory(keeps.id());
        drop(keeps.stdin.take());
        finish(keeps);
        assert!(kept >= 64 << 10, "the control: {kept} KiB");

        let words = [&["up", "--quiet", unit, "--set", "process.tty=true", "--"][..], &flood];
        let mut child = command(caller, jailrun(), &words.concat()).spawn().unwrap();
        // Nobody reads: the command is made to wait.
        let mut written = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20) * crate::support::patience();
        loop {
            let io = descendants(child.id()).last().map(|pid| format!("/proc/{pid}/io"));
            let io = io.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
            written.push(if io.contains("wchar") { number(&io, "wchar:") } else { 0 });
            let last = &written[written.len().saturating_sub(20)..];
            if last.len() == 20 && last[0] > 0 && last.iter().all(|count| *count == last[0]) {
                break;
            }
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "{ended:?} {last:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let stalled = private_memory(child.id());
        assert!(stalled > 0 && stalled < 8 << 10, "{stalled} KiB");
        assert!(*written.last().unwrap() < 8 << 20, "{written:?}");
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
                largest = largest.max(private_memory(child.id()));
            }
            seen += count;
        }
        assert_eq!(finish(child).status, 0);
        assert!(seen >= amount, "{seen}");
        assert!(largest > 0 && largest < 8 << 10, "{largest} KiB");
    }
    let attack = "64 MiB of output through a terminal, read slowly or not at all";
    let control = "a shell that keeps it grows by 64 MiB";
    sheet.row("E8", attack, control, "the supervisor stays below 8 MiB; the command waits");
}

/// A signal's bit among those of a process: `SigIgn`, or what is pending.
fn has_signal(pid: u32, fields: &[&str], signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let sets = fields.iter().filter_map(|field| {
        let text = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t"))?;
        u64::from_str_radix(text, 16).ok()
    });
    sets.fold(0, std::ops::BitOr::bitor) & (1 << (signal as u32 - 1)) != 0
}

const PENDING: [&str; 2] = ["SigPnd", "ShdPnd"];

fn send(pid: u32, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Waits until a process has taken a signal that it was sent.
pub fn wait_until_taken(pid: u32, signal: Signal) {
    eventually("it takes the signal", || !has_signal(pid, &PENDING, signal));
}

/// What keeps a jail from ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    IgnoresTerm,
    Stopped,
    /// By another group of that version.
    Frozen(u32),
}

/// A jail that is held.
struct HeldJail {
    supervisor: Child,
    inside: Vec<u32>,
    /// That holds it.
    group: Option<PathBuf>,
}

impl HeldJail {
    /// `None` where the host cannot hold it so.
    fn new(ground: &Ground, caller: Caller, held: Held, grace: &str) -> Option<Self> {
        let group = match held {
            Held::Frozen(version) => Some(frozen_group(ground, version)?),
            _ => None,
        };
        let grace = format!("lifecycle.stop-grace=\"{grace}\"");
        let mut supervisor = start_as(ground, caller, &[&*grace], &["ignore-term", "600"]);
        wait_until_ready(&mut supervisor);
        let inside = descendants(supervisor.id());
        let jail = Self { supervisor, inside, group };
        match held {
            Held::IgnoresTerm => {}
            Held::Stopped => jail.inside.iter().for_each(|pid| send(*pid, Signal::SIGSTOP)),
            Held::Frozen(_) => {
                let group = jail.group.as_ref().unwrap();
                for pid in &jail.inside {
                    fs::write(group.join("cgroup.procs"), pid.to_string()).unwrap();
                }
            }
        }
        jail.freeze(true);
        Some(jail)
    }

    fn freeze(&self, frozen: bool) {
        let Some(group) = &self.group else { return };
        let (v1, v2) = (group.join("freezer.state"), group.join("cgroup.freeze"));
        if v1.exists() {
            let word = if frozen { "FROZEN" } else { "THAWED" };
            fs::write(&v1, word).unwrap();
            eventually(word, || fs::read_to_string(&v1).unwrap().trim() == word);
        } else if v2.exists() {
            let flag = u8::from(frozen);
            fs::write(&v2, flag.to_string()).unwrap();
            let wanted = format!("frozen {flag}");
            let events = group.join("cgroup.events");
            eventually(&wanted, || fs::read_to_string(&events).unwrap().contains(&wanted));
        }
    }

    fn is_there(&mut self) -> bool {
        self.supervisor.try_wait().unwrap().is_none()
            && self.inside.iter().all(|pid| is_there(*pid))
    }

    /// TERM to the supervisor, which has taken it when this returns.
    fn stop(&self) {
        let pid = self.supervisor.id();
        send(pid, Signal::SIGTERM);
        wait_until_taken(pid, Signal::SIGTERM);
    }

    /// It has been killed, and nothing is left.
    fn ended(mut self) {
        let mut status = None;
        eventually("it ends", || {
            status = self.supervisor.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(137));
        eventually("its processes are gone", || !self.inside.iter().any(|pid| is_there(*pid)));
    }
}

impl Drop for HeldJail {
    fn drop(&mut self) {
        if self.supervisor.try_wait().unwrap().is_none() {
            self.freeze(false);
            self.inside
                .iter()
                .filter(|pid| is_there(**pid))
                .for_each(|pid| send(*pid, Signal::SIGKILL));
            self.supervisor.wait().unwrap();
        }
        if let Some(group) = &self.group {
            eventually("the group is empty", || fs::remove_dir(group).is_ok());
        }
    }
}

fn has_stopped(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && line.contains("T (stopped)"))
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

/// A group of the test's own that can freeze.
fn frozen_group(ground: &Ground, version: u32) -> Option<PathBuf> {
    let hierarchies: &[&str] = match version {
        1 => &["/sys/fs/cgroup/freezer"],
        _ => &["/sys/fs/cgroup/unified", "/sys/fs/cgroup"],
    };
    let is_hierarchy = |path: &&&Path| path.join("cgroup.procs").exists();
    let hierarchies: Vec<&Path> = hierarchies.iter().map(Path::new).collect();
    let group = hierarchies
        .iter()
        .find(is_hierarchy)?
        .join(format!("jailrun-frozen-{}", ground.bench.name));
    fs::create_dir(&group).unwrap();
    let can = group.join("freezer.state").exists() || group.join("cgroup.freeze").exists();
    if !can {
        fs::remove_dir(&group).unwrap();
    }
    can.then_some(group)
}

fn stopping(sheet: &mut Sheet) {
    let ground = Ground::new("");
    for (held, attack) in [
        (Held::IgnoresTerm, "stopping a jail that ignores TERM"),
        (Held::Stopped, "stopping a jail that is stopped"),
        (Held::Frozen(2), "stopping a jail that another group of version 2 has frozen"),
        (Held::Frozen(1), "stopping a jail that another group of version 1 has frozen"),
    ] {
        let mut missing = false;
        for caller in CALLERS {
            // The control: with time to end by itself, it stays.
            let Some(mut open) = HeldJail::new(&ground, caller, held, "1h") else {
                missing = true;
                continue;
            };
            open.stop();
            let first = open.inside[0];
            match held {
                Held::IgnoresTerm => {
                    let command = *open.inside.last().unwrap();
                    assert!(has_signal(command, &["SigIgn"], Signal::SIGTERM));
                }
                // It is continued, to end in order, and ignores TERM.
                Held::Stopped => {
                    eventually("it goes on", || open.inside.iter().all(|pid| !has_stopped(*pid)))
                }
                Held::Frozen(_) => eventually("TERM has arrived, and is not taken", || {
                    has_signal(first, &PENDING, Signal::SIGTERM)
                }),
            }
            assert!(open.is_there(), "the control: {held:?} {caller:?}");
            open.freeze(false);
            // A second one ends it at once.
            open.stop();
            open.ended();

            let mut jail = HeldJail::new(&ground, caller, held, "100ms").unwrap();
            jail.stop();
            // What is frozen so ends when it is let go: the kernel's rule.
            if held == Held::Frozen(1) {
                eventually("it is killed", || {
                    has_signal(jail.inside[0], &PENDING, Signal::SIGKILL)
                });
                assert!(jail.is_there(), "{held:?}");
                jail.freeze(false);
            }
            jail.ended();
        }
        let control = match missing {
            true => "VACUOUS: this host has no such group",
            false => "TERM alone leaves it there, with a long `stop-grace`",
        };
        let jail = match held {
            Held::Frozen(1) => "killed after the grace, gone when it is let go",
            _ => "killed after the grace",
        };
        sheet.row("E9", attack, control, jail);
    }
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
    for caller in CALLERS {
        let mut child = start_as(&ground, caller, &[], &["trap"]);
        wait_until_ready(&mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!crate::support::leftovers(&ground.bench.name).is_empty(), "the control");
        // The next of its name takes back what that one has left.
        eventually("the jail ends", || ground.jail(caller, &["true"]).status == 0);
    }
    let control = "a supervisor that is killed leaves journal and groups";
    sheet.row("E10", "200 launches", control, "nothing left");
}
