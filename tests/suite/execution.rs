//! What a running jail is: what it sees, what it may do, how it ends, and what
//! is left of it. Through the binary, on the real kernel.

use std::fs;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{
    self, Bench, CALLERS, Caller, Run, answer, command, descendants, eventually, fed, finish,
    jailrun, run, signal, write_script,
};

/// Starts a probe in the jail and leaves it running.
fn start(bench: &Bench, caller: Caller, words: &[&str]) -> Child {
    let mut arguments = vec!["up", "--quiet", bench.unit.to_str().unwrap(), "--", "/probe"];
    arguments.extend(words);
    command(caller, jailrun(), &arguments).spawn().unwrap()
}

/// Waits until a started probe has printed a line, and returns it.
fn first_line(child: &mut Child) -> String {
    use std::io::Read as _;
    let mut line = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0_u8];
    while !line.ends_with('\n') && stdout.read(&mut byte).unwrap() == 1 {
        line.push(char::from(byte[0]));
    }
    line
}

#[test]
fn the_inside_has_nothing_of_the_caller() {
    let bench = Bench::new("");
    for caller in CALLERS {
        let mut words = command(
            caller,
            jailrun(),
            &["up", "--quiet", bench.unit.to_str().unwrap(), "--", "/probe", "report"],
        );
        words.env("SECRET", "1").env("NOTIFY_SOCKET", "/x").env("LISTEN_FDS", "3");
        let report = finish(words.spawn().unwrap()).json();
        assert_eq!(report["hostname"], Value::from(bench.name.as_str()));
        assert_eq!(report["uids"], serde_json::json!([0, 0, 0, 0]));
        for set in ["inheritable", "permitted", "effective", "bounding", "ambient"] {
            assert_eq!(report["capabilities"][set], "0000000000000000", "{caller:?} {set}");
        }
        assert_eq!(report["no_new_privs"], true);
        assert_eq!(report["rlimits"]["core"], serde_json::json!([0, 0]));
        assert_eq!(report["interfaces"], serde_json::json!({ "lo": "up" }));
        assert_eq!(report["cwd"], "/");
        assert_eq!(report["umask"], "0022");
        assert_eq!(report["pid"], 2);
        assert_eq!(report["controlling_terminal"], false);
        let names: Vec<_> = report["environment"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["HOME", "PATH", "TERM", "USER", "container"]);
        let fds: Vec<_> = report["fds"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(fds, ["0", "1", "2"]);
        let devices: Vec<_> = report["dev"]
            .as_array()
            .unwrap()
            .iter()
            .map(|node| node["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            devices,
            [
                "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
                "stdout", "tty", "urandom", "zero"
            ]
        );
        for line in report["cgroup"].as_array().unwrap() {
            assert!(line.as_str().unwrap().ends_with(":/"), "{line}");
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn every_mount_refuses_devices_and_set_user_id() {
    let bench = Bench::new("");
    for caller in CALLERS {
        for mount in bench.report(caller)["mounts"].as_array().unwrap() {
            let options: Vec<_> =
                mount["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
            let target = mount["target"].as_str().unwrap();
            assert!(options.contains(&"nosuid"), "{target} {options:?}");
            // Device nodes themselves, terminals, and /dev/null as a mask.
            let holds_devices = target.starts_with("/dev/") || target.starts_with("/proc/");
            assert!(options.contains(&"nodev") || holds_devices, "{target} {options:?}");
            assert_eq!(mount["propagation"], "private", "{target}");
        }
    }
}

#[test]
fn what_a_jail_tries_is_refused() {
    let bench = Bench::new("");
    for caller in CALLERS {
        for (words, errno) in [
            (&["sysctl-write"][..], "EROFS"),
            (&["mount-tmpfs", "/tmp"], "EPERM"),
            (&["umount", "/proc/keys"], "EPERM"),
            (&["remount-rw", "/proc/sys"], "EPERM"),
            (&["mknod", "/tmp/null"], "EPERM"),
        ] {
            let attempt = bench.probe(caller, words).json();
            assert_eq!(attempt["ok"], false, "{caller:?} {words:?}");
            // The host's root alone gets as far as the read-only mount.
            let errno =
                if words == ["sysctl-write"] && caller == Caller::User { "EACCES" } else { errno };
            assert_eq!(attempt["errno"], errno, "{caller:?} {words:?} {attempt}");
        }
        let masked = bench.probe(caller, &["read", "/proc/keys"]);
        assert_eq!((masked.status, masked.stdout.as_str()), (0, ""), "{masked:?}");
    }
}

#[test]
fn an_open_directory_of_the_caller_does_not_come_in() {
    let bench = Bench::new("");
    let directory = fs::File::open("/").unwrap();
    jailrun::sys::keep_on_exec(directory.as_raw_fd()).unwrap();
    let unit = bench.unit.to_str().unwrap();
    // Through a shell, which gives it a number that the runner has not.
    let script = format!(
        "exec 7</ 8<>/dev/null; exec \"$0\" up --quiet {unit} --set process.pass-fds=[8] -- /probe open-fds"
    );
    let child =
        command(Caller::Root, Path::new("sh"), &["-c", &script, jailrun().to_str().unwrap()])
            .spawn()
            .unwrap();
    let fds: Vec<_> = finish(child).json().as_object().unwrap().keys().cloned().collect();
    assert_eq!(fds, ["0", "1", "2", "8"]);
}

#[test]
fn exit_statuses_are_the_commands_own() {
    let bench = Bench::new("");
    for caller in CALLERS {
        assert_eq!(bench.probe(caller, &["exit", "0"]).status, 0);
        assert_eq!(bench.probe(caller, &["exit", "42"]).status, 42);
        assert_eq!(bench.probe(caller, &["signal", "15"]).status, 143);
        assert_eq!(bench.up(caller, &["--", "/absent"]).status, 127);
        assert_eq!(bench.up(caller, &["--", "absent"]).status, 127);
        assert_eq!(bench.up(caller, &["--", "/etc/passwd"]).status, 126);
        assert_eq!(bench.up(caller, &["--", "/etc"]).status, 126);
        let without_init = ["--set", "process.init=false", "--", "/probe", "exit", "7"];
        assert_eq!(bench.up(caller, &without_init).status, 7);
        let in_host_pids = ["--set", "namespaces.pid=host", "--", "/probe", "exit", "9"];
        assert_eq!(bench.up(caller, &in_host_pids).status, 9);
    }
    assert_eq!(run(Caller::Root, &["up"]).status, 125);
    assert_eq!(run(Caller::Root, &["check"]).status, 2);
    bench.assert_nothing_left();
}

#[test]
fn a_command_that_ends_at_once_ends_the_jail() {
    // Its end came before the init was listening, and the jail never ended.
    let bench = Bench::with_root("api-filesystems = []", "");
    for _ in 0..100 {
        assert_eq!(bench.probe(Caller::Root, &["true"]).status, 0);
    }
}

#[test]
fn a_missing_interpreter_is_named() {
    let bench = Bench::new("");
    let script = bench.root.join("script");
    write_script(&script, "#!/usr/bin/absent\n");
    let run = bench.up(Caller::Root, &["--", "/script"]);
    assert_eq!(run.status, 126);
    assert!(run.stderr.contains("`/usr/bin/absent`"), "{}", run.stderr);
    assert!(run.stderr.contains("E0306"), "{}", run.stderr);
}

#[test]
fn a_missing_directory_to_start_in_is_told_by_every_verb() {
    for caller in CALLERS {
        let bench = Bench::new("[process]\ncommand = [\"/probe\", \"true\"]\ncwd = \"/absent\"");
        let unit = bench.unit.to_str().unwrap();
        for (words, status) in
            [(&["up", unit][..], 125), (&["up", unit, "--dry-run"], 1), (&["check", unit], 1)]
        {
            let run = run(caller, words);
            assert_eq!(run.status, status, "{words:?} {run:?}");
            let found = "error[E0321]: `/absent` does not exist in the jail";
            assert!(run.stderr.contains(found), "{words:?} {run:?}");
        }
        bench.assert_nothing_left();
    }
}

/// What planning cannot look into may hold the directory.
#[test]
fn a_directory_to_start_in_that_cannot_be_seen_beforehand_is_not_missed() {
    let image = "[[mounts]]\ntarget = \"/data\"\nimage = \"{dir}/image\"\n";
    let queue = "[[mounts]]\ntarget = \"/queue\"\nmqueue = true\n";
    for (mount, cwd) in [(image, "/data/sub"), (queue, "/queue")] {
        let bench = Bench::new(&format!(
            "{mount}[process]\ncommand = [\"/probe\", \"true\"]\ncwd = \"{cwd}\""
        ));
        let tree = bench.directory.path().join("tree/sub");
        fs::create_dir_all(&tree).unwrap();
        let made = Command::new("mksquashfs")
            .arg(tree.parent().unwrap())
            .arg(bench.directory.path().join("image"))
            .args(["-quiet", "-no-progress"])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        let unit = bench.unit.to_str().unwrap();
        for words in [&["check", unit][..], &["up", unit, "--dry-run"], &["up", unit]] {
            let run = run(Caller::Root, words);
            assert_eq!(run.status, 0, "{words:?} {run:?}");
        }
    }
}

/// A layer that the caller may not look into may hold it, too.
#[test]
fn a_directory_to_start_in_that_the_caller_may_not_look_for_is_not_missed() {
    let bench = Bench::with_root(
        "ephemeral = true",
        "[process]\ncommand = [\"/probe\", \"true\"]\ncwd = \"/closed/sub\"",
    );
    let closed = bench.root.join("closed");
    fs::create_dir_all(closed.join("sub")).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let run = run(Caller::User, &["check", bench.unit.to_str().unwrap()]);
    assert!(!run.stderr.contains("E0321"), "{run:?}");
    let run = bench.up(Caller::User, &[]);
    assert!(run.stderr.contains("the command's user may not enter it"), "{run:?}");
    assert!(!run.stderr.contains("E0321"), "{run:?}");
}

/// The kernel calls it an invalid argument.
#[test]
fn a_link_where_a_file_system_goes_is_told_as_one() {
    let bench = Bench::with_root("", "");
    fs::remove_dir(bench.root.join("run")).unwrap();
    std::os::unix::fs::symlink("tmp", bench.root.join("run")).unwrap();
    let tar = bench.directory.path().join("root.tar");
    let packed =
        Command::new("tar").arg("-C").arg(&bench.root).arg("-cf").arg(&tar).arg(".").status();
    assert!(packed.unwrap().success());
    let text = format!("[root]\ntmpfs = \"64M\"\npopulate = [\"{}\"]\n", tar.display());
    fs::write(&bench.unit, format!("name = \"{}\"\n{text}", bench.name)).unwrap();
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("mount a new tmpfs on /run"), "{run:?}");
    assert!(run.stderr.contains("ELOOP"), "{run:?}");
}

#[test]
fn streams_are_only_the_commands() {
    let bench = Bench::new("");
    for caller in CALLERS {
        let unit = bench.unit.to_str().unwrap();
        let words = ["up", unit, "--", "/probe", "exit", "3"];
        let run = finish(fed(command(caller, jailrun(), &words), "x"));
        assert_eq!((run.status, run.stdout.as_str()), (3, ""));
        assert!(run.stderr.starts_with("jailrun: "), "{run:?}");
        assert_eq!(bench.probe(caller, &["exit", "3"]).stderr, "");
    }
}

#[test]
fn signals_reach_the_command() {
    use nix::sys::signal::Signal;
    let bench = Bench::new("");
    for caller in CALLERS {
        let mut child = start(&bench, caller, &["trap"]);
        assert_eq!(first_line(&mut child), "ready\n");
        for each in [
            Signal::SIGHUP,
            Signal::SIGQUIT,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGCONT,
            Signal::SIGINT,
        ] {
            signal(&child, each);
            assert_eq!(format!("SIG{}", first_line(&mut child).trim()), each.as_str());
        }
        signal(&child, Signal::SIGUSR1);
        assert_eq!(first_line(&mut child), "USR1\n");
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("the journal of a killed supervisor is reclaimed by the next launch", || {
            bench.probe(caller, &["true"]).status == 0
        });
    }
    bench.assert_nothing_left();
}

#[test]
fn a_timeout_ends_a_command_that_ignores_its_signal() {
    let bench = Bench::new("[lifecycle]\ntimeout = \"300ms\"\nstop-grace = \"300ms\"\n");
    for caller in CALLERS {
        for init in ["process.init=true", "process.init=false"] {
            let began = Instant::now();
            let run = bench.up(caller, &["--set", init, "--", "/probe", "ignore-term", "30"]);
            assert_eq!(run.status, 124, "{run:?}");
            assert!(run.stderr.contains("ended after its timeout of 300ms"), "{run:?}");
            assert!(began.elapsed() < Duration::from_secs(20));
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn a_second_interrupt_kills() {
    use nix::sys::signal::Signal;
    let bench = Bench::new("");
    let mut child = start(&bench, Caller::Root, &["ignore-term", "60"]);
    first_line(&mut child);
    signal(&child, Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    assert!(child.try_wait().unwrap().is_none(), "one interrupt is the command's to take");
    // Both are one to a supervisor that was busy meanwhile.
    eventually("another one kills", || {
        signal(&child, Signal::SIGINT);
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(finish(child).status, 137);
    bench.assert_nothing_left();
}

#[test]
fn a_killed_supervisor_takes_the_jail_along() {
    let bench = Bench::new("[limits]\nmemory = \"64M\"\n[process]\ncommand = []\n");
    let text = fs::read_to_string(&bench.unit).unwrap().replace("[process]\ncommand = []\n", "");
    fs::write(&bench.unit, text).unwrap();
    let mut child = start(&bench, Caller::Root, &["ignore-term", "60"]);
    first_line(&mut child);
    let inside = descendants(child.id());
    assert_eq!(inside.len(), 2, "init and command");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("its processes end", || {
        inside.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    });
    assert!(!crate::support::leftovers(&bench.name).is_empty(), "the control must leave something");
    let collected = run(Caller::Root, &["gc"]);
    assert_eq!(collected.status, 0, "{collected:?}");
    assert!(collected.stderr.contains(&bench.name), "{collected:?}");
    bench.assert_nothing_left();
}

#[test]
fn the_next_launch_reclaims_what_a_killed_one_left() {
    let bench = Bench::new("[limits]\nmemory = \"64M\"\n");
    let mut child = start(&bench, Caller::Root, &["ignore-term", "60"]);
    first_line(&mut child);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(bench.probe(Caller::Root, &["true"]).status, 0);
    bench.assert_nothing_left();
}

#[test]
fn one_name_runs_once() {
    let bench = Bench::new("");
    for caller in CALLERS {
        let mut first = start(&bench, caller, &["trap"]);
        first_line(&mut first);
        let second = bench.probe(caller, &["true"]);
        assert_eq!(second.status, 125);
        assert!(
            second.stderr.contains(&format!("a jail named `{}` is running", bench.name)),
            "{second:?}"
        );
        signal(&first, nix::sys::signal::Signal::SIGTERM);
        assert_eq!(finish(first).status, 0);
        assert_eq!(bench.probe(caller, &["true"]).status, 0);
    }
    bench.assert_nothing_left();
}

#[test]
fn many_jails_at_once_come_and_go() {
    let benches: Vec<_> = (0..24).map(|_| Bench::new("[limits]\nmemory = \"32M\"\n")).collect();
    let children: Vec<_> =
        benches.iter().map(|bench| start(bench, Caller::Root, &["sleep", "0.2"])).collect();
    for child in children {
        let run = finish(child);
        assert_eq!(run.status, 0, "{run:?}");
    }
    for bench in &benches {
        bench.assert_nothing_left();
    }
}

/// A jail with the host's pid namespace, and the host's shell.
fn among_the_hosts_processes() -> Bench {
    let binds = ["/bin", "/usr", "/lib", "/lib64"]
        .map(|path| format!("[[mounts]]\ntarget = \"{path}\"\nbind = \"{path}\"\n"));
    Bench::new(&format!("[namespaces]\npid = \"host\"\n{}", binds.concat()))
}

/// What a shell is given that leaves two processes, and for how long they would
/// sleep, which tells them from all others.
fn leaving_two(first: u8) -> (String, String) {
    let marker = format!("{first}{}", std::process::id());
    // Kept open, the standard streams would keep the test waiting.
    let sleep = format!("/probe sleep {marker} >/dev/null 2>&1 &");
    (format!("{sleep} {sleep} exit 5"), marker)
}

fn assert_nobody_sleeps(marker: &str) {
    let wanted = format!("probe sleep {marker}");
    let processes = Command::new("pgrep").args(["-f", &wanted]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&processes.stdout), "");
}

#[test]
fn without_a_pid_namespace_nothing_stays_running() {
    for caller in CALLERS {
        let bench = among_the_hosts_processes();
        let (script, marker) = leaving_two(31);
        let run = bench.up(caller, &["--", "/bin/sh", "-c", &script]);
        assert_eq!(run.status, 5, "{caller:?}: {run:?}");
        assert_nobody_sleeps(&marker);
        bench.assert_nothing_left();
    }
}

#[test]
fn what_a_command_leaves_before_the_supervisor_has_looked_is_ended() {
    // The supervisor comes to itself only when the command has long ended.
    a_supervisor_that_is_late("clone3:delay_exit");
}

#[test]
fn a_supervisor_that_is_late_changes_nothing() {
    // Before it waits, and when it has been woken.
    a_supervisor_that_is_late("signalfd4:delay_enter");
    a_supervisor_that_is_late("poll:delay_exit");
}

#[test]
fn a_supervisor_that_cannot_watch_ends_what_the_command_has_started() {
    // An ordinary user has no group by which all of it is found.
    let bench = among_the_hosts_processes();
    let (script, marker) = leaving_two(30);
    let script = script.replace("exit 5", "exec /probe sleep 60");
    let up = [jailrun().to_str().unwrap(), "up", "--quiet", bench.unit.to_str().unwrap()];
    // The first poll is the start of the program, the second the first of the
    // supervisor, which ends after 20 ms.
    let fault = "inject=poll:error=ENOMEM:delay_enter=300000:when=3";
    let strace = ["-qq", "-o", "/dev/null", "-e", fault];
    let words = [&strace[..], &up, &["--", "/bin/sh", "-c", &script]].concat();
    let run = finish(command(Caller::User, Path::new("strace"), &words).spawn().unwrap());
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("ENOMEM"), "{run:?}");
    assert_nobody_sleeps(&marker);
    bench.assert_nothing_left();
}

/// Launches a jail that leaves two processes, with a pid namespace and without,
/// by a supervisor that strace(1) holds back at a call.
fn a_supervisor_that_is_late(call: &str) {
    static MARKERS: AtomicU8 = AtomicU8::new(32);
    for caller in CALLERS {
        for pid in ["private", "host"] {
            let bench = among_the_hosts_processes();
            let (script, marker) = leaving_two(MARKERS.fetch_add(1, Ordering::Relaxed));
            let pid = format!("namespaces.pid={pid}");
            let up = [jailrun().to_str().unwrap(), "up", "--quiet", bench.unit.to_str().unwrap()];
            let command_line = ["--set", &pid, "--", "/bin/sh", "-c", &script];
            let slow = format!("inject={call}=300000");
            let strace = ["-qq", "-o", "/dev/null", "-e", &slow];
            let words = [&strace[..], &up, &command_line].concat();
            let run = finish(command(caller, Path::new("strace"), &words).spawn().unwrap());
            assert_eq!((run.status, &*run.stderr), (5, ""), "{caller:?} {pid} {call}: {run:?}");
            assert_nobody_sleeps(&marker);
            bench.assert_nothing_left();
        }
    }
}

#[test]
fn limits_are_seen_in_the_groups_and_hold() {
    let bench = Bench::new("[limits]\nmemory = \"32M\"\nswap = \"0\"\npids = 20\ncpu = 0.5\n");
    let hog = bench.probe(Caller::Root, &["hog", "200000000"]);
    assert_eq!(hog.status, 137, "{hog:?}");
    let last = hog.stderr.lines().last().unwrap();
    assert!(last.contains("killed by the kernel for memory: peak 32M, limit 32M"), "{hog:?}");
    let forks = bench.probe(Caller::Root, &["forks", "100"]).json();
    assert_eq!(forks["errno"], "EAGAIN", "{forks}");
    assert!(forks["started"].as_u64().unwrap() < 20, "{forks}");
    let spin = bench.probe(Caller::Root, &["spin", "1"]).json();
    let share = spin["cpu_seconds"].as_f64().unwrap() / spin["wall_seconds"].as_f64().unwrap();
    // How much less depends on what else the machine does.
    assert!(share < 0.65, "{spin}");
    bench.assert_nothing_left();
}

#[test]
fn a_limit_that_cannot_be_set_is_no_launch() {
    let bench = Bench::new("[limits]\nmemory = \"64M\"\n");
    let run = bench.probe(Caller::User, &["true"]);
    assert_eq!(run.status, 125);
    assert!(run.stderr.contains("E0308") && run.stderr.contains("systemd-run --user"), "{run:?}");
    let skip = bench.up(Caller::User, &["--set", "limits.on-missing=skip", "--", "/probe", "true"]);
    assert_eq!((skip.status, skip.stderr.as_str()), (0, ""), "{skip:?}");
    // Control groups of version 1 have nothing like it.
    let high = bench.up(Caller::Root, &["--set", "limits.memory-high=32M", "--", "/probe", "true"]);
    if Path::new("/sys/fs/cgroup/memory").is_dir() {
        assert_eq!(high.status, 125);
        assert!(high.stderr.contains("memory-high"), "{high:?}");
    } else {
        assert_eq!(high.status, 0, "{high:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_failed_step_is_named_and_everything_taken_back() {
    // A value the kernel refuses and planning lets pass: a device without a queue limit.
    let bench = Bench::new(
        "[limits]\nmemory = \"64M\"\n[[mounts]]\ntarget = \"/new/place\"\ntmpfs = \"1M\"\n[process]\nuser = 0\n",
    );
    let run = bench.up(Caller::Root, &["--set", "process.pass-fds=[99]", "--", "/probe", "true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(
        run.stderr.contains("step ") && run.stderr.contains(" of ") && run.stderr.contains("EBADF"),
        "{run:?}"
    );
    assert!(run.stderr.contains("asked for by --set process.pass-fds=[99]"), "{run:?}");
    assert!(run.stderr.contains("`pass-fds` is not open"), "{run:?}");
    assert!(!bench.root.join("new/place").exists(), "the mount point of a failed launch");
    bench.assert_nothing_left();
}

#[test]
fn mount_points_are_created_and_said() {
    let bench = Bench::new("[[mounts]]\ntarget = \"/made/file\"\nbind = \"/etc/hostname\"\n");
    let unit = bench.unit.to_str().unwrap();
    let run = run(Caller::Root, &["up", unit, "--", "/probe", "read", "/made/file"]);
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(run.stdout, fs::read_to_string("/etc/hostname").unwrap());
    assert!(run.stderr.contains("W0001") && run.stderr.contains("made/file"), "{run:?}");
}

#[test]
fn users_and_groups_are_the_jails() {
    let bench = Bench::new("[process]\nuser = \"alice\"\nsupplementary-groups = [\"staff\"]\n");
    let report = bench.report(Caller::Root);
    assert_eq!(report["uids"], serde_json::json!([1000, 1000, 1000, 1000]));
    assert_eq!(report["gids"][0], 1001);
    assert_eq!(report["groups"], serde_json::json!([50]));
    assert_eq!(report["environment"]["HOME"], "/home/alice");
    assert_eq!(report["environment"]["USER"], "alice");
    let refused = bench.probe(Caller::User, &["true"]);
    assert_eq!(refused.status, 125);
    assert!(refused.stderr.contains("E0309"), "{refused:?}");
}

#[test]
fn odd_surroundings_work_or_say_why() {
    let bench = Bench::new("");
    let unit = bench.unit.to_str().unwrap();
    let jailrun = jailrun().to_str().unwrap();
    let run_in = |script: &str| -> Run {
        let script = format!("{script} \"$0\" up --quiet {unit} -- /probe exit 6");
        finish(command(Caller::Root, Path::new("bash"), &["-c", &script, jailrun]).spawn().unwrap())
    };
    assert_eq!(run_in("trap '' CHLD INT TERM;").status, 6);
    assert_eq!(run_in("exec 0<&- 1>&- 2>&-;").status, 6);
    assert_eq!(run_in("ulimit -n 32;").status, 6);
    assert_eq!(run_in("taskset -c 0").status, 6);
    let nested = "[root]\nhost = true\nread-only = false\n[security]\ncapabilities = \"all\"\n[network]\nmode = \"host\"\n[namespaces]\ncgroup = \"host\"\n";
    let outer = bench.directory.path().join("outer.toml");
    fs::write(&outer, format!("name = \"{}-outer\"\n{nested}", bench.name)).unwrap();
    let run = run(
        Caller::Root,
        &[
            "up",
            "--quiet",
            outer.to_str().unwrap(),
            "--set",
            "root.api-filesystems=[\"/run\"]",
            "--",
            jailrun,
            "up",
            "--quiet",
            unit,
            "--",
            "/probe",
            "exit",
            "8",
        ],
    );
    assert_eq!(run.status, 8, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_descriptor_the_caller_has_not_opened_is_never_one_of_ours() {
    let bench = Bench::new("");
    for fd in 3..12 {
        let keep = format!("process.pass-fds=[{fd}]");
        let run = bench.up(Caller::Root, &["--set", &keep, "--", "/probe", "open-fds"]);
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("EBADF"), "{run:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_directory_as_a_stream_is_refused() {
    let bench = Bench::new("[process]\nstdin = \"file:/etc\"\n");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("a way out"), "{run:?}");
}

#[test]
fn a_real_time_signal_ends_the_jail_too() {
    for keys in ["init = true", "init = false"] {
        let bench = Bench::new(&format!("[process]\n{keys}\n"));
        for caller in CALLERS {
            // Process 1 of a pid namespace takes no signal that it does not handle.
            let expected = if keys == "init = true" { 128 + 34 } else { 1 };
            assert_eq!(bench.probe(caller, &["signal", "34"]).status, expected);
        }
    }
    let bench = Bench::new("[namespaces]\npid = \"host\"\n");
    assert_eq!(bench.probe(Caller::Root, &["signal", "34"]).status, 128 + 34);
}

#[test]
fn a_command_that_may_trace_finds_an_init_without_privileges() {
    let bench = Bench::new("[security]\ncapabilities = [\"CAP_SYS_PTRACE\"]\n");
    for _ in 0..20 {
        let run = bench.probe(Caller::Root, &["read", "/proc/1/status"]);
        assert!(run.stdout.contains("CapPrm:\t0000000000000020\n"), "{run:?}");
        let fds = bench.probe(Caller::Root, &["read", "/proc/1/fd/4/cmdline"]);
        assert_ne!(fds.status, 0, "{fds:?}");
    }
}

#[test]
fn ignored_signals_of_the_caller_are_not_inherited() {
    let bench = Bench::new("");
    let unit = bench.unit.to_str().unwrap();
    let script = format!("trap '' INT TERM HUP; exec \"$0\" up --quiet {unit} -- /probe report");
    let child =
        command(Caller::Root, Path::new("sh"), &["-c", &script, jailrun().to_str().unwrap()])
            .spawn()
            .unwrap();
    assert_eq!(finish(child).json()["signals"]["ignored"], "0000000000000000");
}

#[test]
fn a_group_of_somebody_else_is_left_alone() {
    let bench = Bench::new("");
    let top = Path::new("/sys/fs/cgroup");
    let top = if top.join("pids").is_dir() { top.join("pids") } else { top.to_owned() };
    let group = format!("{}/jailrun-{}", top.display(), bench.name);
    fs::create_dir(&group).unwrap();
    let mut sleeper = Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(format!("{group}/cgroup.procs"), sleeper.id().to_string()).unwrap();
    let run = bench.probe(Caller::Root, &["true"]);
    assert!(sleeper.try_wait().unwrap().is_none(), "it was killed");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    fs::remove_dir(&group).unwrap();
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("is running for another user"), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn every_mount_of_proc_is_masked_and_protected() {
    let bench = Bench::new("[[mounts]]\ntarget = \"/data\"\nproc = true\n");
    let masked = bench.probe(Caller::Root, &["read", "/data/keys"]);
    assert_eq!((masked.status, masked.stdout.as_str()), (0, ""), "{masked:?}");
    let write = bench.probe(Caller::Root, &["write", "/data/sys/kernel/core_pattern", "x"]);
    assert_eq!(write.json()["errno"], "EROFS", "{write:?}");
}

#[test]
fn a_misspelt_path_to_hide_is_an_error() {
    let bench = Bench::new("[security]\nmasked-paths = [\"@default\", \"/etc/shadwo\"]\n");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125);
    assert!(run.stderr.contains("E0204"), "{run:?}");
}

#[test]
fn dots_do_not_hide_a_dangerous_bind() {
    let bench = Bench::new("[[mounts]]\ntarget = \"/data\"\nbind = \"/etc/../proc/sys\"\n");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125);
    assert!(run.stderr.contains("E0202"), "{run:?}");
}

#[test]
fn a_time_too_far_away_is_never() {
    let bench = Bench::new(
        "[lifecycle]\ntimeout = \"500000000000years\"\nstop-grace = \"500000000000years\"\n",
    );
    assert_eq!(bench.probe(Caller::Root, &["exit", "4"]).status, 4);
}

/// A terminal around jailrun, made by script(1).
fn in_terminal(bench: &Bench, input: &str, words: &str) -> Run {
    let unit = bench.unit.to_str().unwrap();
    let line = format!("{} up --quiet {unit} -- {words}", jailrun().display());
    support::in_terminal(Caller::Root, &line, input)
}

#[test]
fn an_interactive_jail_has_a_terminal_of_its_own() {
    let bench = Bench::new("");
    let run = in_terminal(&bench, "", "/probe tty");
    // Before it or behind it, the outer terminal echoes what script(1) feeds it
    // at the end of input.
    let tty = answer(&run).json();
    assert_eq!(tty["isatty"], serde_json::json!([true, true, true]));
    assert_eq!(tty["ttyname"], "/dev/pts/0");
    assert_eq!(tty["controlling_terminal"], true);
    assert_eq!(tty["foreground"], true);
    bench.assert_nothing_left();
}

#[test]
fn a_reader_that_stops_reading_does_not_stop_the_timeout() {
    let bench = Bench::new(
        "[lifecycle]\ntimeout = \"500ms\"\nstop-grace = \"200ms\"\n[process]\ntty = true\n[[mounts]]\ntarget = \"/usr\"\nbind = \"/usr\"\n[[mounts]]\ntarget = \"/lib\"\nbind = \"/lib\"\n[[mounts]]\ntarget = \"/lib64\"\nbind = \"/lib64\"\n",
    );
    let unit = bench.unit.to_str().unwrap();
    let child = command(Caller::Root, jailrun(), &["up", "--quiet", unit, "--", "/usr/bin/yes"])
        .spawn()
        .unwrap();
    // Nobody reads its output until the jail should long be over.
    let inside = || descendants(child.id()).len();
    eventually("the jail starts", || inside() > 0);
    eventually("the jail ends", || inside() == 0);
    assert_eq!(finish(child).status, 124);
    bench.assert_nothing_left();
}

#[test]
fn root_of_a_user_namespace_with_a_single_id_launches() {
    // The group `tty`, whose the terminals are elsewhere, is not there.
    let bench = Bench::new("");
    let unit = bench.unit.to_str().unwrap();
    let words = ["--user", "--map-root-user", jailrun().to_str().unwrap(), "up", unit, "--quiet"];
    let words = [&words[..], &["--", "/probe", "report"]].concat();
    let run = finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap());
    assert_eq!(run.status, 0, "{run:?}");
    let report = run.json();
    let mounts = report["mounts"].as_array().unwrap();
    assert!(mounts.iter().any(|mount| mount["target"] == "/dev/pts"), "{report}");
    bench.assert_nothing_left();
}

#[test]
fn a_single_process_is_no_room_for_a_command_beside_the_init() {
    let bench = Bench::new("[limits]\npids = 1\n");
    let command = ["--", "/probe", "true"];
    let run = bench.up(Caller::Root, &command);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("error[E0203]: `pids = 1` leaves no room"), "{run:?}");
    for more in ["limits.pids=2", "process.init=false", "namespaces.pid=\"host\""] {
        let run = bench.up(Caller::Root, &[&["--set", more], &command[..]].concat());
        assert_eq!(run.status, 0, "{more}: {run:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_real_time_caller_is_told_why_it_cannot_have_a_limit_of_cpu_time() {
    let bench = Bench::new("[limits]\ncpu = 1\n");
    let jailrun = jailrun().to_str().unwrap();
    let unit = bench.unit.to_str().unwrap();
    let words = ["-f", "1", jailrun, "up", unit, "--", "/probe", "true"];
    let run = finish(command(Caller::Root, Path::new("chrt"), &words).spawn().unwrap());
    let is_told = run.stderr.contains("real-time policy") && run.stderr.contains("chrt(1)");
    // A kernel without real-time shares of groups lets it join.
    assert!(run.status == 0 || run.status == 125 && is_told, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_storm_of_forks_without_a_pid_namespace_is_ended_whole() {
    // Each process leaves one of its kind and ends: what is killed by its
    // number may have gone by then, unless nothing can fork any more.
    let bench = Bench::new(
        "[limits]\npids = 200\n[namespaces]\npid = \"host\"\n\
         [lifecycle]\ntimeout = \"300ms\"\nstop-grace = \"100ms\"\n\
         [[mounts]]\ntarget = \"/bin\"\nbind = \"/bin\"\n\
         [[mounts]]\ntarget = \"/lib\"\nbind = \"/lib\"\n\
         [[mounts]]\ntarget = \"/lib64\"\nbind = \"/lib64\"\n",
    );
    let storm =
        "trap '' TERM; hop() { hop & exit; }; for i in 1 2 3 4 5 6 7 8 9; do hop & done; sleep 100";
    let trace = bench.directory.path().join("trace");
    let jailrun = jailrun().to_str().unwrap();
    let arguments = ["-y", "-e", "trace=write,kill", "-o", trace.to_str().unwrap(), jailrun, "up"];
    let more = [bench.unit.to_str().unwrap(), "--quiet", "--", "/bin/sh", "-c", storm];
    let words = [&arguments[..], &more[..]].concat();
    let run = finish(command(Caller::Root, Path::new("strace"), &words).spawn().unwrap());
    assert_eq!(run.status, 124, "{run:?}");
    bench.assert_nothing_left();
    let trace = fs::read_to_string(trace).unwrap();
    let closed = trace.find("pids.max>, \"0\"").or(trace.find("cgroup.kill>, \"1\""));
    let killed = trace.find("kill(").unwrap_or(usize::MAX);
    assert!(closed.is_some_and(|closed| closed < killed), "{trace}");
}

/// Masks are copies of the first one.
#[test]
fn masks_do_not_share_what_the_first_lies_in() {
    let bench = Bench::new(
        "[[mounts]]\ntarget = \"/data\"\nbind = \"{dir}/shared\"\npropagation = \"shared\"\n\
         [security]\nmasked-paths = [\"/data/one\", \"/etc/passwd\"]\n",
    );
    fs::create_dir(bench.directory.path().join("shared")).unwrap();
    fs::write(bench.directory.path().join("shared/one"), "").unwrap();
    let report = bench.report(Caller::Root);
    let propagation = |target: &str| {
        let mounts = report["mounts"].as_array().unwrap();
        let mount = mounts.iter().rfind(|mount| mount["target"] == target).unwrap();
        mount["propagation"].as_str().unwrap()
    };
    assert_eq!(propagation("/data"), "shared");
    assert_eq!(propagation("/etc/passwd"), "private");
}

#[test]
fn a_read_only_path_may_hold_masks_and_mounts() {
    for (keys, root) in [("", false), ("propagation = \"shared\"\n", false), ("", true)] {
        let security = "[security]\nmasked-paths = [\"@default\", \"/etc/passwd\"]\n\
                        read-only-paths = [\"@default\", \"/etc\"]\n";
        let mounts = "[[mounts]]\ntarget = \"/etc/new\"\ntmpfs = \"1M\"\n";
        let bench = match root {
            true => Bench::with_root("read-only = true", security),
            false => Bench::with_root(keys, &format!("{security}{mounts}")),
        };
        let masked = bench.probe(Caller::Root, &["read", "/etc/passwd"]);
        assert_eq!((masked.status, masked.stdout.as_str()), (0, ""), "{masked:?}");
        let places = if root { &["/etc/x"][..] } else { &["/etc/x", "/etc/new/x"][..] };
        for place in places {
            let write = bench.probe(Caller::Root, &["write", place, "x"]);
            assert_eq!(write.json()["errno"], "EROFS", "{write:?}");
        }
    }
}

#[test]
fn a_stream_does_not_follow_a_link_that_a_jail_could_have_put_there() {
    // The jail may write to `shared`: the link and the directory are its doing.
    let bench = Bench::new(
        "[[mounts]]\ntarget = \"/data\"\nbind = \"{dir}/shared\"\n[process]\nstdout = \"file:shared/log\"\n",
    );
    let at = |name: &str| bench.directory.path().join(name);
    fs::create_dir_all(at("shared/logs")).unwrap();
    fs::create_dir(at("private")).unwrap();
    for name in ["victim", "private/log"] {
        fs::write(at(name), "keep").unwrap();
    }
    let kept = || {
        let read = |name| fs::read_to_string(at(name)).unwrap();
        assert_eq!((read("victim"), read("private/log")), ("keep".to_owned(), "keep".to_owned()));
    };
    std::os::unix::fs::symlink(at("victim"), at("shared/log")).unwrap();
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.starts_with("error[E0322]: "), "{run:?}");
    assert!(run.stderr.contains(&format!("`{}`", at("victim").display())), "{run:?}");
    kept();

    fs::remove_dir(at("shared/logs")).unwrap();
    std::os::unix::fs::symlink(at("private"), at("shared/logs")).unwrap();
    for stream in ["stdout=file:shared/logs/log", "stderr=append:shared/logs/log"] {
        let set = format!("process.{stream}");
        let run = bench
            .up(Caller::Root, &["--set", "process.stdout=", "--set", &set, "--", "/probe", "true"]);
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("ELOOP"), "{run:?}");
        kept();
    }
    // A link of the user's own, outside of what the jail writes to, is one.
    std::os::unix::fs::symlink(at("private"), at("link")).unwrap();
    let set = ["--set", "process.stdout=file:link/log", "--", "/probe", "exit", "3"];
    assert_eq!(bench.up(Caller::Root, &set).status, 3);
    assert_eq!(fs::read_to_string(at("private/log")).unwrap(), "");
    bench.assert_nothing_left();
}

#[test]
fn a_fifo_for_a_stream_does_not_hold_the_launch_up() {
    let bench = Bench::new("[process]\nstdout = \"file:{dir}/fifo\"\n");
    let fifo = bench.directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o666)).unwrap();
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("a FIFO that nobody reads"), "{run:?}");
    // With a reader it is a file like any other.
    let path = fifo.to_str().unwrap();
    let reader = command(Caller::Root, Path::new("cat"), &[path]).spawn().unwrap();
    eventually("the reader has opened the FIFO", || {
        bench.probe(Caller::Root, &["exit", "4"]).status == 4
    });
    assert_eq!(finish(reader).status, 0);
    bench.assert_nothing_left();
}

#[test]
fn a_user_is_who_the_command_sees_by_that_name() {
    let mounts =
        "[[mounts]]\ntarget = \"/etc/passwd\"\ncontent = \"alice:x:77:78::/:/bin/sh\\n\"\n";
    let bench = Bench::new(&format!("{mounts}[process]\nuser = \"alice\"\n"));
    assert_eq!(bench.report(Caller::Root)["uids"], serde_json::json!([77, 77, 77, 77]));
    fs::create_dir(bench.directory.path().join("etc")).unwrap();
    let other = bench.directory.path().join("etc/passwd");
    fs::write(&other, "alice:x:88:89::/:/bin/sh\n").unwrap();
    fs::create_dir(bench.directory.path().join("linked")).unwrap();
    std::os::unix::fs::symlink(&other, bench.directory.path().join("linked/passwd")).unwrap();
    for (mounts, uid) in [
        ("[{target=\"/etc/passwd\", bind=\"etc/passwd\"}]", Some(88)),
        ("[{target=\"/etc\", bind=\"etc\"}]", Some(88)),
        ("[{target=\"/etc\", bind=\"absent\", optional=true}]", Some(1000)),
        (
            "[{target=\"/etc/passwd\", content=\"alice:x:6:6::/:\\n\"}, {target=\"/etc\", bind=\"absent\", optional=true}]",
            Some(6),
        ),
        // The jail does not see what the link leads to on the host.
        ("[{target=\"/etc\", bind=\"linked\"}]", None),
        // The last one is what the command sees.
        (
            "[{target=\"/etc\", bind=\"etc\"}, {target=\"/etc/passwd\", content=\"alice:x:5:5::/:\\n\"}]",
            Some(5),
        ),
        ("[{target=\"/etc\", tmpfs=\"1M\"}]", None),
        ("[{target=\"/etc\", bind=\"etc\"}, {target=\"/etc\", tmpfs=\"1M\"}]", None),
    ] {
        let set = format!("mounts={mounts}");
        let run = bench.up(Caller::Root, &["--set", &set, "--", "/probe", "report"]);
        match uid {
            Some(uid) => assert_eq!(run.json()["uids"][0], uid, "{mounts}"),
            None => assert!(run.stderr.starts_with("error[E0303]"), "{mounts}: {run:?}"),
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn a_mask_behind_a_link_hides_after_another_entry_has_made_something_there() {
    let bench = Bench::new(
        "[[mounts]]\ntarget = \"/link/made\"\nsymlink = \"/nowhere\"\n[[mounts]]\ntarget = \"/link/secret\"\nmask = true\noptional = true\n",
    );
    fs::write(bench.root.join("data/secret"), "secret").unwrap();
    for to in ["/data", "data"] {
        std::os::unix::fs::symlink(to, bench.root.join("link")).unwrap();
        let run = bench.probe(Caller::Root, &["read", "/data/secret"]);
        assert!(run.status == 0 && !run.stdout.contains("secret"), "{to}: {run:?}");
        fs::remove_file(bench.root.join("link")).unwrap();
        fs::remove_file(bench.root.join("data/made")).unwrap();
    }
    bench.assert_nothing_left();
}

#[test]
fn gc_leaves_a_jail_alone_that_has_taken_the_name_while_it_waited() {
    let bench = Bench::new("");
    // A state directory with nobody else's journals.
    let at = bench.directory.path().join("state");
    fs::create_dir(&at).unwrap();
    std::os::unix::fs::chown(&at, Some(65534), Some(65534)).unwrap();
    let spawn = |program: &Path, words: &[&str]| {
        let mut command = command(Caller::User, program, words);
        command.env("XDG_RUNTIME_DIR", &at).spawn().unwrap()
    };
    let unit = bench.unit.to_str().unwrap();
    let up = |seconds| {
        let child = spawn(jailrun(), &["up", "-v", unit, "--", "/probe", "sleep", seconds]);
        let journal = at.join("jailrun").join(format!("{}.json", bench.name));
        eventually("the jail is up", || {
            descendants(child.id()).len() == 2 && fs::metadata(&journal).is_ok()
        });
        (child, journal)
    };
    let (mut first, journal) = up("60");
    // gc has opened the journal of the first jail, and waits before it locks it.
    let slow = "inject=flock:delay_enter=3000000:when=1";
    let words = ["-qq", "-o", "/dev/null", "-e", slow, jailrun().to_str().unwrap(), "gc"];
    let gc = spawn(Path::new("strace"), &words);
    let has_opened = |pid: u32| {
        let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file == journal)
    };
    eventually("gc has opened the journal", || descendants(gc.id()).into_iter().any(has_opened));
    // The jail ends and takes its journal with it; another is started.
    signal(&first, nix::sys::signal::SIGTERM);
    first.wait().unwrap();
    let (second, journal) = up("5");
    let gc = finish(gc);
    assert_eq!(gc.status, 0, "{gc:?}");
    assert!(journal.exists(), "gc has taken the second jail's journal");
    let run = finish(second);
    assert_eq!(run.status, 0, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_reader_that_has_stopped_reading_does_not_hold_the_jail_up() {
    let bench = Bench::with_root(
        "",
        "[process]\ntty = true\n[[mounts]]\ntarget = \"/bin\"\nbind = \"/bin\"\n[[mounts]]\ntarget = \"/lib\"\nbind = \"/lib\"\n[[mounts]]\ntarget = \"/lib64\"\nbind = \"/lib64\"\noptional = true\n",
    );
    let up = |set: &str, script: &str| {
        let unit = bench.unit.to_str().unwrap();
        let words = ["up", "--quiet", unit, "--set", set, "--", "/bin/sh", "-c", script];
        // Its output is a pipe that nobody reads while it runs.
        command(Caller::Root, jailrun(), &words).spawn().unwrap()
    };
    let much = "while :; do echo 0123456789012345678901234567890123456789; done";
    let mut child = up("lifecycle.timeout=1s", much);
    eventually("the time limit ends it", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(124));

    // Ended, and with more printed than the pipe holds: it waits for the reader.
    let mut child = up("lifecycle.timeout=10m", "head -c 68000 /dev/zero | tr '\\0' x; exit 7");
    let written = || {
        let counts = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
        let count = counts.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
        count.unwrap_or(0_usize)
    };
    // A pipe is full when each of its pages has something in it. That no process
    // is left means that the jail has ended only where something is written.
    let mut counts = Vec::new();
    eventually("it waits for its reader", || {
        counts.push(written());
        let last = &counts[counts.len().saturating_sub(20)..];
        let stands = last.len() == 20 && last.iter().all(|count| *count == last[0]);
        stands && last[0] > 16_384 && descendants(child.id()).is_empty()
    });
    assert!(child.try_wait().unwrap().is_none());
    signal(&child, nix::sys::signal::SIGTERM);
    eventually("the signal ends it", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(7));
    bench.assert_nothing_left();
}

/// Runs jailrun in a mount namespace in which `mounts` has been run.
fn up_after(bench: &Bench, mounts: &str, arguments: &[&str]) -> crate::support::Run {
    let script = format!("{mounts}\nexec \"$@\"");
    let up = [jailrun().to_str().unwrap(), "up", bench.unit.to_str().unwrap(), "--quiet"];
    crate::support::shell_with_own_mounts(&script, &[&up[..], arguments].concat())
}

#[test]
fn a_proc_below_a_bind_is_not_handed_to_the_jail_without_a_word() {
    let bench = Bench::new("[[mounts]]\ntarget = \"/data\"\nbind = \"{dir}/tree\"\n");
    let tree = bench.directory.path().join("tree");
    fs::create_dir_all(tree.join("proc")).unwrap();
    let mount = format!("mount -t proc proc {}/proc", tree.display());
    let read = ["--", "/probe", "read", "/data/proc/sys/kernel/osrelease"];
    let run = up_after(&bench, &mount, &read);
    assert_eq!((run.status, run.stdout.as_str()), (125, ""), "{run:?}");
    assert!(run.stderr.contains("E0202") && run.stderr.contains("recursive = false"), "{run:?}");
    let allow = ["--set", "security.allow-dangerous-binds=true"];
    let run = up_after(&bench, &mount, &[&allow[..], &read].concat());
    assert_eq!(run.status, 0, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_proc_below_the_root_is_not_handed_to_the_jail_without_a_word() {
    let bench = Bench::new("");
    fs::create_dir_all(bench.root.join("inner/proc")).unwrap();
    let mount = |at: &str| format!("mount -t proc proc {}/{at}", bench.root.display());
    let read = ["--", "/probe", "read", "/inner/proc/sys/kernel/osrelease"];
    let run = up_after(&bench, &mount("inner/proc"), &read);
    assert_eq!((run.status, run.stdout.as_str()), (125, ""), "{run:?}");
    assert!(run.stderr.contains("`/inner/proc` is a file system of the type proc"), "{run:?}");
    // Laid over itself it would still be there.
    let protect = ["--set", "security.read-only-paths=[\"@default\", \"/inner\"]"];
    let run = up_after(&bench, &mount("inner/proc"), &[&protect[..], &read].concat());
    assert_eq!(run.status, 125, "{run:?}");
    let mask = ["--set", "security.masked-paths=[\"@default\", \"/inner/proc\"]"];
    let run =
        up_after(&bench, &mount("inner/proc"), &[&mask[..], &["--", "/probe", "true"]].concat());
    assert_eq!(run.status, 0, "{run:?}");
    let allow = ["--set", "security.allow-dangerous-binds=true"];
    let run = up_after(&bench, &mount("inner/proc"), &[&allow[..], &read].concat());
    assert_eq!(run.status, 0, "{run:?}");
    // The jail's own is mounted over it.
    let run = up_after(&bench, &mount("proc"), &["--", "/probe", "true"]);
    assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{run:?}");
    bench.assert_nothing_left();
}
