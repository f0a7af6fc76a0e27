//! Each limit with its effect, on a host with nothing but control groups of
//! version 2.
//!
//! No test here measures against the clock what could be slowed down by
//! whatever else the host of the machine does: rates have an upper bound, and
//! shares are taken from the kernel's own accounts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use crate::support::{Bench, Caller, Run, command, eventually, finish, jailrun, leftovers};

/// A file system on a disk of its own: `tests/vm/init` has mounted it.
const DISK: &str = "/mnt/disk";

/// A unit over the machine's own tree, with a shell in it.
pub fn unit(limits: &str, script: &str) -> Bench {
    let bench = Bench::new("[process]\ncommand = [\"/bin/true\"]\n");
    let text = format!(
        "name = \"{}\"\n[root]\nhost = true\n[[mounts]]\ntarget = \"{DISK}\"\nbind = \"{DISK}\"\n\
         [process]\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n[limits]\n{limits}\n",
        bench.name
    );
    fs::write(&bench.unit, text).unwrap();
    bench
}

pub fn start(bench: &Bench) -> Child {
    command(Caller::Root, jailrun(), &["up", bench.unit.to_str().unwrap(), "--quiet"])
        .spawn()
        .unwrap()
}

/// The jail's control group, as soon as there are processes in it.
pub fn group(bench: &Bench) -> PathBuf {
    let found = || {
        let output = Command::new("find")
            .args(["/sys/fs/cgroup", "-name", &format!("jailrun-{}", bench.name)])
            .output()
            .unwrap();
        let path = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
        let populated = read(&path, "cgroup.events");
        populated.contains("populated 1").then_some(path)
    };
    eventually("the jail's control group", || found().is_some());
    found().unwrap()
}

fn read(group: &Path, file: &str) -> String {
    fs::read_to_string(group.join(file)).unwrap_or_default()
}

/// Runs a unit to its end, and what the supervisor has called of some calls.
pub fn traced(bench: &Bench, calls: &str, more: &[&str]) -> (Run, String) {
    let trace = bench.directory.path().join("trace");
    let calls = format!("trace={calls}");
    let mut words = vec!["-e", &calls, "-o", trace.to_str().unwrap()];
    words.extend([jailrun().to_str().unwrap(), "up", bench.unit.to_str().unwrap(), "--quiet"]);
    words.extend(more);
    let run = finish(command(Caller::Root, Path::new("strace"), &words).spawn().unwrap());
    (run, fs::read_to_string(trace).unwrap())
}

/// A file of lines with a word and a number.
fn numbers(group: &Path, file: &str) -> BTreeMap<String, u64> {
    read(group, file)
        .lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.parse().ok()?))
        })
        .collect()
}

pub fn stop(bench: &Bench, child: Child) {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::SIGTERM).unwrap();
    finish(child);
    assert_eq!(leftovers(&bench.name), Vec::<String>::new());
}

#[test]
fn the_machine_has_nothing_but_version_2() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(own.lines().count(), 1, "{own}");
    assert!(own.starts_with("0::/"), "{own}");
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap();
    for controller in ["cpuset", "cpu", "io", "memory", "pids"] {
        assert!(controllers.split_whitespace().any(|word| word == controller), "{controllers}");
    }
}

#[test]
fn a_hog_is_killed_for_memory_with_its_group_and_the_report_says_so() {
    // Without `oom-group` the second process would live on and end the jail with 0.
    let bench = unit(
        "memory = \"64M\"\nswap = \"0\"\n",
        "sleep 1000 & tail /dev/zero; wait; echo the group lives",
    );
    let run = bench.up(Caller::Root, &[]);
    assert_eq!(run.status, 137, "{run:?}");
    assert_eq!(run.stdout, "", "{run:?}");
    let last = run.stderr.lines().last().unwrap_or_default();
    assert!(last.contains("killed by the kernel for memory: peak 64M, limit 64M"), "{run:?}");
    bench.assert_nothing_left();

    let alone = unit(
        "memory = \"64M\"\nswap = \"0\"\noom-group = false\n",
        "tail /dev/zero; echo the group lives",
    );
    let run = alone.up(Caller::Root, &[]);
    assert_eq!(run.stdout, "the group lives\n", "{run:?}");
}

#[test]
fn memory_is_pushed_back_above_memory_high() {
    let bench = unit(
        "memory = \"512M\"\nmemory-high = \"48M\"\n",
        &format!(
            "dd if=/dev/zero of={DISK}/high bs=1M count=160 status=none; rm {DISK}/high; sleep 1000"
        ),
    );
    let child = start(&bench);
    let group = group(&bench);
    eventually("the limit is felt", || {
        numbers(&group, "memory.events").get("high").is_some_and(|times| *times > 0)
    });
    let peak: u64 = read(&group, "memory.peak").trim().parse().unwrap_or(0);
    assert!(peak < 160 << 20, "{peak}");
    assert_eq!(numbers(&group, "memory.events")["oom_kill"], 0);
    stop(&bench, child);
}

#[test]
fn memory_low_protects_a_jail_from_its_neighbours_reclaim() {
    // As many pages of files in two jails; what is reclaimed from both is taken
    // from the one that is not protected.
    let script = |name: &str| {
        format!(
            "dd if=/dev/zero of={DISK}/{name} bs=1M count=24 conv=fsync status=none; sleep 1000"
        )
    };
    let kept = unit("memory = \"128M\"\nmemory-low = \"64M\"\n", &script("kept"));
    let taken = unit("memory = \"128M\"\n", &script("taken"));
    let children = [start(&kept), start(&taken)];
    let groups = [group(&kept), group(&taken)];
    let held = |group: &Path, key| numbers(group, "memory.stat").get(key).copied().unwrap_or(0);
    for group in &groups {
        eventually("the pages are there, and on the disk", || {
            held(group, "file") >= 24 << 20
                && held(group, "file_dirty") == 0
                && held(group, "file_writeback") == 0
        });
    }
    assert_eq!(read(&groups[0], "memory.low").trim(), (64 << 20).to_string());
    let parent = groups[0].parent().unwrap();
    assert_eq!(Some(parent), groups[1].parent());
    // It holds more than the two, so that it takes a while, and each time it
    // may end early with what it could not reclaim.
    eventually("pages are taken from the one", || {
        fs::write(parent.join("memory.reclaim"), (8 << 20).to_string()).ok();
        held(&groups[1], "file") < 8 << 20
    });
    let kept_left = held(&groups[0], "file");
    assert!(kept_left >= 23 << 20, "{kept_left}");
    for (bench, child) in [&kept, &taken].into_iter().zip(children) {
        stop(bench, child);
    }
    for name in ["kept", "taken"] {
        fs::remove_file(Path::new(DISK).join(name)).unwrap();
    }
}

#[test]
fn a_fork_bomb_is_stopped() {
    let bench = unit("pids = 24\n", "(while :; do sleep 1000 & done) 2>/dev/null; sleep 1000");
    let child = start(&bench);
    let group = group(&bench);
    eventually("forks are refused", || {
        numbers(&group, "pids.events").get("max").is_some_and(|times| *times > 0)
    });
    let now: u64 = read(&group, "pids.current").trim().parse().unwrap();
    assert!(now <= 24, "{now}");
    stop(&bench, child);
}

#[test]
fn cpu_time_is_the_quota_within_5_percent() {
    // 30 ms in each 100 ms, for two loops.
    let bench = unit("cpu = 0.3\n", "(while :; do :; done) & while :; do :; done");
    let child = start(&bench);
    let group = group(&bench);
    let begin = numbers(&group, "cpu.stat");
    eventually("a hundred periods in which the quota was used up", || {
        let now = numbers(&group, "cpu.stat");
        now["nr_throttled"] - begin["nr_throttled"] >= 60
    });
    let end = numbers(&group, "cpu.stat");
    let grown = |key: &str| end[key] - begin[key];
    let used = grown("usage_usec") as f64;
    let quota = 30_000.0;
    // A period ends throttled when its quota is used up: at least that much
    // was used, and never more than all of the periods give.
    let least = quota * grown("nr_throttled") as f64;
    let most = quota * (grown("nr_periods") + 1) as f64;
    assert!(used >= 0.95 * least, "{used} {least} {end:?}");
    assert!(used <= 1.05 * most, "{used} {most} {end:?}");
    stop(&bench, child);
}

#[test]
fn cpu_weights_share_one_cpu() {
    let light = unit("cpuset = \"0\"\ncpu-weight = 100\n", "while :; do :; done");
    let heavy = unit("cpuset = \"0\"\ncpu-weight = 400\n", "while :; do :; done");
    let children = [start(&light), start(&heavy)];
    let groups = [group(&light), group(&heavy)];
    let usage = || groups.each_ref().map(|group| numbers(group, "cpu.stat")["usage_usec"]);
    // Both are at it before anything is counted.
    eventually("both run", || usage().iter().all(|used| *used > 200_000));
    let begin = usage();
    // Long enough for what the emulation's host does meanwhile to fall on both.
    eventually("ten seconds of CPU time", || {
        usage().iter().zip(begin).map(|(now, then)| now - then).sum::<u64>() > 10_000_000
    });
    let end = usage();
    let ratio = (end[1] - begin[1]) as f64 / (end[0] - begin[0]) as f64;
    assert!((2.5..6.0).contains(&ratio), "{ratio}");
    for (bench, child) in [&light, &heavy].into_iter().zip(children) {
        stop(bench, child);
    }
}

#[test]
fn a_jail_stays_on_its_cpus() {
    let bench = unit("cpuset = \"1\"\n", "grep Cpus_allowed_list: /proc/self/status; nproc");
    let run = bench.up(Caller::Root, &[]);
    assert_eq!(run.stdout, "Cpus_allowed_list:\t1\n1\n", "{run:?}");
}

/// How many bytes in a second reached the disk, by `dd` with the flags given.
fn rate(limits: &str, flags: &str) -> f64 {
    let file = format!("{DISK}/rate");
    let bench =
        unit(limits, &format!("dd if=/dev/zero of={file} bs=256k count=32 {flags} status=none"));
    let begin = Instant::now();
    let run = bench.up(Caller::Root, &[]);
    let took = begin.elapsed();
    assert_eq!(run.status, 0, "{run:?}");
    fs::remove_file(file).unwrap();
    (8 << 20) as f64 / took.as_secs_f64()
}

#[test]
fn writes_to_a_disk_are_held_back_direct_and_buffered() {
    let limits = "memory = \"256M\"\n[limits.blkio]\ndevices = [{ path = \"/mnt/disk\", write-bps = \"2M\" }]\n";
    let bound = 1.15 * (2 << 20) as f64;
    for flags in ["oflag=direct", "conv=fsync"] {
        let held = rate(limits, flags);
        assert!(held <= bound, "{flags}: {held} bytes in a second");
        // The disk itself is not what holds it back.
        let free = rate("", flags);
        assert!(free > bound, "{flags}: {free} bytes in a second without the limit");
    }
}

#[test]
fn operations_on_a_disk_are_held_back() {
    // 64 writes at 20 in a second take three seconds or more.
    let bench = unit(
        "[limits.blkio]\ndevices = [{ path = \"/mnt/disk\", write-iops = 20 }]\n",
        &format!("dd if=/dev/zero of={DISK}/iops bs=4k count=64 oflag=direct status=none"),
    );
    let begin = Instant::now();
    let run = bench.up(Caller::Root, &[]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(begin.elapsed() >= Duration::from_millis(2500), "{:?}", begin.elapsed());
    fs::remove_file(format!("{DISK}/iops")).unwrap();
}

#[test]
fn a_weight_for_io_is_set() {
    let bench = unit("[limits.blkio]\nweight = 250\n", "sleep 1000");
    let child = start(&bench);
    let group = group(&bench);
    let held = ["io.weight", "io.bfq.weight"].map(|file| read(&group, file));
    assert!(held.iter().any(|text| text.contains("250")), "{held:?}");
    stop(&bench, child);
}

#[test]
fn a_cpu_that_is_not_there_is_no_launch() {
    let bench = unit("cpuset = \"7\"\n", "echo not here");
    let run = bench.up(Caller::Root, &[]);
    assert_eq!((run.status, run.stdout.as_str()), (125, ""), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn the_first_process_is_born_in_its_group() {
    let bench = unit("pids = 100\n", "cat /proc/self/cgroup");
    let (run, trace) = traced(&bench, "clone3", &[]);
    assert_eq!(run.stdout, "0::/\n", "{run:?}");
    assert!(trace.contains("CLONE_INTO_CGROUP"), "{trace}");
}

#[test]
fn what_ignores_every_signal_is_killed_as_a_group() {
    // Without a pid namespace there is no process 1 whose end is the end of all.
    let bench = unit(
        "pids = 100\n[namespaces]\npid = \"host\"\n",
        "trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & while :; do sleep 1; done",
    );
    let values = ["--set", "lifecycle.stop-grace=200ms", "--set", "lifecycle.timeout=1s"];
    let (run, trace) = traced(&bench, "openat,open", &values);
    assert_eq!(run.status, 124, "{run:?}");
    assert!(trace.contains("cgroup.kill"), "{trace}");
    bench.assert_nothing_left();
}

#[test]
fn a_killed_supervisor_leaves_nothing_behind_for_long() {
    let bench = unit("memory = \"64M\"\npids = 50\n", "sleep 1000 & sleep 1000");
    let mut child = start(&bench);
    let group = group(&bench);
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("the jail has gone with its supervisor", || {
        !read(&group, "cgroup.events").contains("populated 1")
    });
    let gc = finish(command(Caller::Root, jailrun(), &["gc"]).spawn().unwrap());
    assert_eq!(gc.status, 0, "{gc:?}");
    assert_eq!(leftovers(&bench.name), Vec::<String>::new());
}
