//! How a jail ends: by itself, when it is told to, when its time is over, and
//! whatever else goes on around it.

use std::path::Path;
use std::process::Command;

use crate::support::{Bench, CALLERS, Caller, Run, command, finish, jailrun};

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
