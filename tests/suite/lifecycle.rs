//! How a jail ends: by itself, when it is told to, when its time is over, and
//! whatever else goes on around it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::signal::Signal;

use crate::support::{
    Bench, CALLERS, Caller, Run, command, descendants, eventually, finish, jailrun, patience,
    signal,
};

/// A jail among the host's processes.
const HOST_PIDS: &str = "[namespaces]\npid = \"host\"\n";

/// The host's shell in the jail.
fn with_shell() -> String {
    let bind =
        |path| format!("[[mounts]]\ntarget = \"{path}\"\nbind = \"{path}\"\noptional = true\n");
    ["/bin", "/usr", "/lib", "/lib64"].map(bind).concat()
}

/// A shell that runs a script with jailrun as `$0`.
fn in_shell(caller: Caller, script: &str) -> Run {
    let words = ["-c", script, jailrun().to_str().unwrap()];
    finish(command(caller, Path::new("sh"), &words).spawn().unwrap())
}

#[test]
fn a_command_that_is_traced_ends_the_jail_with_its_own_status() {
    // Its tracer was waited for, which nobody had ended.
    let bench = Bench::new(HOST_PIDS);
    for caller in CALLERS {
        let run = bench.probe(caller, &["traced", "4"]);
        assert_eq!((run.status, &*run.stderr), (4, ""), "{caller:?}: {run:?}");
    }
    let running = Command::new("pgrep").args(["-f", "/probe traced"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&running.stdout), "");
    bench.assert_nothing_left();
}

#[test]
fn what_the_caller_has_started_is_not_ended_with_the_jail() {
    let bench = Bench::new(&format!("{HOST_PIDS}{}", with_shell()));
    let (unit, probe) = (bench.unit.display(), bench.root.join("probe"));
    let probe = probe.display();
    for caller in CALLERS {
        // A child of the process that becomes jailrun, and one that it gets
        // later. The jail leaves processes, too, which are ended.
        let script = format!(
            "{probe} sleep 60 >/dev/null 2>&1 & echo $!
             sh -c '{probe} sleep 0.2; {probe} sleep 60 >/dev/null 2>&1 & echo $!' &
             exec \"$0\" up --quiet {unit} -- /bin/sh -c '/probe sleep 0.6; exec /probe traced 5'"
        );
        let run = in_shell(caller, &script);
        assert_eq!(run.status, 5, "{caller:?}: {run:?}");
        let pids: Vec<i32> = run.stdout.lines().filter_map(|line| line.parse().ok()).collect();
        assert_eq!(pids.len(), 2, "{caller:?}: {run:?}");
        for pid in pids {
            let pid = nix::unistd::Pid::from_raw(pid);
            let ended = nix::sys::signal::kill(pid, nix::sys::signal::SIGKILL);
            assert_eq!(ended, Ok(()), "{caller:?}: it has been ended with the jail");
        }
    }
    bench.assert_nothing_left();
}

/// Starts a probe in the jail, and waits for the line that it begins with.
fn start(bench: &Bench, caller: Caller, arguments: &[&str]) -> Child {
    let words = [&["up", "--quiet", bench.unit.to_str().unwrap()], arguments].concat();
    let mut child = command(caller, jailrun(), &words).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// The grace is longer than a test may take.
const LONG_GRACE: &str = "[lifecycle]\ntimeout = \"300ms\"\nstop-grace = \"10m\"\n";

#[test]
fn real_time_stop_signals_reach_the_command() {
    let bench = Bench::new(LONG_GRACE);
    for caller in CALLERS {
        for signal in ["SIGRTMIN+3", "rtmax-1", "32", "33", "34", "64", "SIGUSR1"] {
            let set = format!("lifecycle.stop-signal={signal}");
            let run = bench.up(caller, &["--set", &set, "--", "/probe", "sleep", "60"]);
            assert_eq!(run.status, 124, "{caller:?} {signal}: {run:?}");
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn a_stop_signal_that_ends_nothing_is_refused() {
    let bench = Bench::new("");
    for signal in ["CHLD", "17", "RTMIN+31", "RTMIN-1", "RTMAX+1", "RTMIN++1", "65"] {
        let set = format!("lifecycle.stop-signal={signal}");
        let run = bench.up(Caller::Root, &["--set", &set, "--", "/probe", "true"]);
        assert_eq!(run.status, 125, "{signal}: {run:?}");
        assert!(run.stderr.contains("error[E0103]"), "{signal}: {run:?}");
    }
}

#[test]
fn a_stopped_command_ends_when_it_is_told_to() {
    let bench = Bench::new(LONG_GRACE);
    for caller in CALLERS {
        let stop = libc::SIGSTOP.to_string();
        let run = bench.probe(caller, &["signal", &stop]);
        assert_eq!(run.status, 124, "{caller:?}: {run:?}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_timeout_gives_no_more_time_to_what_has_been_told_to_stop() {
    let bench = Bench::new("[lifecycle]\ntimeout = \"2s\"\nstop-grace = \"3s\"\n");
    let child = start(&bench, Caller::Root, &["--", "/probe", "ignore-term", "60"]);
    let began = Instant::now();
    signal(&child, Signal::SIGTERM);
    let run = finish(child);
    // Otherwise it would take five.
    assert!(began.elapsed() < Duration::from_millis(4500) * patience(), "{:?}", began.elapsed());
    assert_eq!(run.status, 124, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_process_that_is_killed_for_memory_is_not_the_jail() {
    let limits = "[limits]\nmemory = \"32M\"\nswap = \"0\"\n";
    let bench = Bench::new(&format!("{limits}oom-group = false\n{}", with_shell()));
    for status in [0, 3] {
        let script = format!("/probe hog 200000000; exit {status}");
        let run = bench.up(Caller::Root, &["--", "/bin/sh", "-c", &script]);
        assert_eq!(run.status, status, "{run:?}");
        let last = run.stderr.lines().last().unwrap_or_default();
        let said = "a process of it was killed by the kernel for memory: peak 32M, limit 32M";
        assert!(last.contains(said), "{run:?}");
    }
    let run = bench.probe(Caller::Root, &["hog", "200000000"]);
    assert_eq!(run.status, 137, "{run:?}");
    assert!(run.stderr.contains(": killed by the kernel for memory"), "{run:?}");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!((run.status, &*run.stderr), (0, ""), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn what_is_no_journal_does_not_stop_the_collection_of_others() {
    let bench = Bench::new("");
    // A state directory with nobody else's journals.
    let at = bench.directory.path().join("runtime");
    let state = at.join("jailrun");
    fs::create_dir_all(state.join("directory.json")).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(state.join("bytes.json"), [0xff, 0xfe]).unwrap();
    fs::write(state.join(format!("{}.json", bench.name)), [0xff, 0xfe]).unwrap();
    nix::unistd::mkfifo(&state.join("fifo.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    fs::write(state.join("words.json"), "{}").unwrap();
    let owned = Command::new("chown").args(["-R", "65534:65534"]).arg(&at).status().unwrap();
    assert!(owned.success());
    let jailrun = |words: &[&str]| {
        let mut command = command(Caller::User, jailrun(), words);
        finish(command.env("XDG_RUNTIME_DIR", &at).spawn().unwrap())
    };
    let unit = bench.unit.to_str().unwrap();
    let run = jailrun(&["up", "-q", unit, "--", "/probe", "exit", "6"]);
    assert_eq!((run.status, &*run.stderr), (6, ""), "{run:?}");
    let named = ["up", "-q", unit, "--set", "name=directory", "--", "/probe", "true"];
    let run = jailrun(&named);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("directory.json"), "{run:?}");
    let run = jailrun(&["gc"]);
    assert_eq!(run.status, 1, "{run:?}");
    for path in ["directory.json: ", "fifo.json: "] {
        let is_named = |line: &str| line.contains(path) && line.contains("something else");
        assert!(run.stderr.lines().any(is_named), "{path} {run:?}");
    }
    for path in ["bytes.json", "words.json"] {
        assert!(!state.join(path).exists(), "{path} {run:?}");
    }
    fs::remove_dir(state.join("directory.json")).unwrap();
    fs::remove_file(state.join("fifo.json")).unwrap();
    assert_eq!(jailrun(&["gc"]).status, 0);
    assert!(!state.exists());
    bench.assert_nothing_left();
}

/// A terminal, and a command that has its other end as standard streams.
fn on_terminal(mut command: Command) -> (Child, fs::File) {
    let pair = nix::pty::openpty(None, None).unwrap();
    let end = || Stdio::from(pair.slave.try_clone().unwrap());
    for fd in [&pair.master, &pair.slave] {
        // It is no business of what other tests start.
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    }
    let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
    fcntl(&pair.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    (child, fs::File::from(pair.master))
}

/// What has been written to a terminal and not been read.
fn shown(mut terminal: &fs::File) -> String {
    let mut all = Vec::new();
    // Ends with an error: there is no more, or nobody has the other end.
    terminal.read_to_end(&mut all).ok();
    String::from_utf8_lossy(&all).into_owned()
}

#[test]
fn a_command_that_closes_its_terminal_is_not_hung_up() {
    let bench = Bench::new("");
    let unit = bench.unit.to_str().unwrap();
    for caller in CALLERS {
        for init in ["process.init=true", "process.init=false"] {
            let words = ["up", "-q", unit, "--set", init, "--", "/probe", "leave-terminal", "4"];
            let (child, terminal) = on_terminal(command(caller, jailrun(), &words));
            let run = finish(child);
            assert_eq!(run.status, 4, "{caller:?} {init}: {}", shown(&terminal));
            assert_eq!(shown(&terminal), "back\r\n", "{caller:?} {init}");
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn a_terminal_that_nobody_reads_does_not_hold_the_jail_up() {
    // It takes something, and not as much as a write has.
    let bench = Bench::new("[lifecycle]\ntimeout = \"500ms\"\nstop-grace = \"100ms\"\n");
    let unit = bench.unit.to_str().unwrap();
    for caller in CALLERS {
        // Not quiet: the last word of jailrun itself is not read either. The
        // user may not open the terminal, which is root's.
        let words = ["up", unit, "--", "/probe", "flood", "10000000"];
        let (mut child, terminal) = on_terminal(command(caller, jailrun(), &words));
        eventually("it ends", || child.try_wait().unwrap().is_some());
        assert_eq!(child.wait().unwrap().code(), Some(124), "{caller:?}");
        assert!(shown(&terminal).len() > 1000, "{caller:?}: the control");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_jail_in_the_background_of_a_shell_is_watched() {
    let bench = Bench::new(LONG_GRACE);
    let (unit, jailrun) = (bench.unit.display(), jailrun().display());
    // Each job has a process group of its own, of which one has the terminal.
    let script = format!(
        "set -m; {jailrun} up -q {unit} -- /probe sleep 60 & wait $!; echo status $?; stty -a"
    );
    let words = ["-c", "sh", "-c", &script];
    let (mut child, terminal) = on_terminal(command(Caller::Root, Path::new("setsid"), &words));
    let mut text = String::new();
    eventually("it ends", || {
        text += &shown(&terminal);
        child.try_wait().unwrap().is_some()
    });
    text += &shown(&terminal);
    assert!(text.contains("status 124"), "{text}");
    // The terminal was the shell's to set up.
    assert!(text.contains(" icanon"), "{text}");
    bench.assert_nothing_left();
}

#[test]
fn a_jail_stops_and_goes_on_with_its_supervisor() {
    // As Ctrl-Z does it where the command has no terminal of its own.
    use std::os::unix::process::CommandExt as _;
    for pid in ["private", "host"] {
        let bench = Bench::new(&format!("[namespaces]\npid = \"{pid}\"\n{}", with_shell()));
        let unit = bench.unit.to_str().unwrap();
        let script = "(/probe sleep 60; exit 8) & /probe sleep 60; exit 7";
        let words = ["up", "-q", unit, "--", "/bin/sh", "-c", script];
        for caller in CALLERS {
            // A process group with a parent outside: another is never stopped.
            let mut command = command(caller, jailrun(), &words);
            let child = command.process_group(0).spawn().unwrap();
            let state = |pid: u32| {
                let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                stat.rsplit(") ").next().and_then(|rest| rest.chars().next())
            };
            let all = || {
                let inside = descendants(child.id());
                inside.into_iter().chain([child.id()]).map(state).collect::<Vec<_>>()
            };
            // The supervisor, the init, and four of the command's.
            let count = if pid == "private" { 6 } else { 5 };
            let all_are = |wanted| all().iter().all(|state| *state == Some(wanted));
            // Until a new process executes its program, its parent cannot stop.
            eventually("the jail is up", || all().len() == count && all_are('S'));
            signal(&child, Signal::SIGTSTP);
            eventually("it stops", || all_are('T'));
            signal(&child, Signal::SIGCONT);
            eventually("it goes on", || all_are('S'));
            signal(&child, Signal::SIGTERM);
            assert_eq!(finish(child).status, 143, "{caller:?} {pid}");
            bench.assert_nothing_left();
        }
    }
}
