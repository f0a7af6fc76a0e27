//! `jail:NAME`: namespaces of another running jail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;

use jailrun::host::{Host as _, Machine};
use serde_json::Value;

use crate::support::{Bench, Caller, command, descendants, eventually, finish, jailrun};

/// A jail that runs until it is dropped.
struct Running {
    bench: Bench,
    child: Option<Child>,
    pid: u32,
}

impl Running {
    fn start(text: &str) -> Self {
        let bench = Bench::new(text);
        let words = ["up", bench.unit.to_str().unwrap(), "--quiet", "--", "/probe", "sleep", "50"];
        let child = command(Caller::Root, jailrun(), &words).spawn().unwrap();
        let mut pid = None;
        eventually("the jail runs", || {
            pid = Machine::default().jail(&bench.name).unwrap();
            // Its cgroup namespace is made some steps after it is born.
            pid.is_some_and(|pid| {
                fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))
                    .is_ok_and(|children| !children.is_empty())
            })
        });
        Self { bench, child: Some(child), pid: pid.unwrap() }
    }

    fn namespace(&self, file: &str) -> String {
        let link = fs::read_link(format!("/proc/{}/ns/{file}", self.pid)).unwrap();
        number(link.to_str().unwrap())
    }

    fn journal(&self) -> PathBuf {
        Machine::default().state_directory().join(format!("{}.json", self.bench.name))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        // It may have ended; its end is waited for either way.
        nix::sys::signal::kill(id, nix::sys::signal::SIGTERM).ok();
        finish(child);
        self.bench.assert_nothing_left();
    }
}

/// The number in `uts:[4026531838]`.
fn number(text: &str) -> String {
    text.chars().filter(char::is_ascii_digit).collect()
}

fn joining(of: &Running, keys: &[&str]) -> Bench {
    let name = &of.bench.name;
    let lines: String = keys.iter().map(|key| format!("{key} = \"jail:{name}\"\n")).collect();
    Bench::new(&format!("[namespaces]\n{lines}[network]\nmode = \"jail:{name}\"\n"))
}

#[test]
fn each_namespace_of_a_running_jail_can_be_joined() {
    let other = Running::start("[process]\nenv = {}\n");
    for key in ["pid", "ipc", "uts", "cgroup"] {
        let bench = joining(&other, &[key]);
        let report = bench.report(Caller::Root);
        let shown = |file: &str| match &report["namespaces"][file] {
            Value::String(text) => number(text),
            other => number(&other.to_string()),
        };
        for file in ["pid", "ipc", "uts", "cgroup", "net", "mnt"] {
            let is_joined = file == key || file == "net";
            assert_eq!(shown(file) == other.namespace(file), is_joined, "{file} with {key}");
        }
        bench.assert_nothing_left();
    }
    let bench = joining(&other, &["uts"]);
    assert_eq!(bench.report(Caller::Root)["hostname"], other.bench.name.as_str());
}

#[test]
fn a_jail_that_does_not_run_is_told() {
    let bench = Bench::new("[namespaces]\nuts = \"jail:no-such-jail\"\n");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0320") && run.stderr.contains("not running"), "{run:?}");
}

#[test]
fn what_a_jail_shares_with_the_host_is_not_handed_on() {
    let other = Running::start("[namespaces]\nuts = \"host\"\n");
    let bench = joining(&other, &["uts"]);
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0320") && run.stderr.contains("of its own"), "{run:?}");
    let run = joining(&other, &["ipc"]).probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 0, "the control: {run:?}");
}

#[test]
fn a_journal_of_somebody_else_is_not_believed() {
    let other = Running::start("");
    let bench = joining(&other, &["uts"]);
    assert_eq!(bench.probe(Caller::Root, &["true"]).status, 0, "the control");
    std::os::unix::fs::chown(other.journal(), Some(65_534), None).unwrap();
    let run = bench.probe(Caller::Root, &["true"]);
    std::os::unix::fs::chown(other.journal(), Some(0), None).unwrap();
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("belongs to somebody else"), "{run:?}");
}

/// A journal without a lock belongs to a launch that was killed, whatever else
/// holds the file open or names it.
#[test]
fn a_journal_that_nobody_holds_the_lock_of_is_no_running_jail() {
    let other = Running::start("");
    let forged = other.journal().with_file_name("test-forged.json");
    fs::copy(other.journal(), &forged).unwrap();
    let open = fs::File::open(&forged).unwrap();
    let found = Machine::default().jail("test-forged");
    drop(open);
    fs::remove_file(&forged).unwrap();
    assert_eq!(found, Ok(None));
}

#[test]
fn an_ordinary_user_cannot_join() {
    let other = Running::start("");
    let run = joining(&other, &["uts"]).probe(Caller::User, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0309"), "{run:?}");
}

/// The first child of its supervisor was joined, which the caller had started.
#[test]
fn what_the_caller_has_started_is_not_taken_for_the_jail() {
    let bench = Bench::new("");
    let (unit, probe) = (bench.unit.display(), bench.root.join("probe"));
    let probe = probe.display();
    let script = format!(
        "{probe} sleep 50 >/dev/null 2>&1 & echo $!
         exec \"$0\" up --quiet {unit} -- /probe sleep 50"
    );
    let words = ["-c", &script, jailrun().to_str().unwrap()];
    let child = command(Caller::Root, Path::new("sh"), &words).spawn().unwrap();
    let mut pid = None;
    eventually("the jail runs", || {
        pid = Machine::default().jail(&bench.name).unwrap();
        pid.is_some_and(|pid| !descendants(pid).is_empty())
    });
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/uts")).unwrap();
    let (own, its) = (namespace(std::process::id()), namespace(pid.unwrap()));
    let kill = |pid| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    };
    kill(child.id());
    let run = finish(child);
    kill(run.stdout.trim().parse().unwrap());
    assert_ne!(own, its);
    bench.assert_nothing_left();
}
