//! `[security.landlock]` on the real kernel: each right with the same attempt
//! where it is granted and where nothing is restricted.

use std::fs;

use crate::support::{Bench, CALLERS, Caller, Run};

/// The probe can be executed and read everywhere it has to be.
const EXECUTE: &str = "execute = [\"/probe\"]\n";

/// Versions of the kernel's Landlock: those that have some right, and the newest
/// that jailrun knows.
const TRUNCATE: u32 = 3;
const PORTS: u32 = 4;
const DEVICES: u32 = 5;
const SCOPE: u32 = 6;

/// Lets an older kernel leave out what it lacks, and only such a one.
pub fn best_effort() -> &'static str {
    let abi = jailrun::sys::landlock_abi().unwrap();
    if abi < SCOPE { "best-effort = true\n" } else { "" }
}

/// What comes of an attempt that is refused by a right of this version.
fn refused(abi: u32, errno: &str, otherwise: &str) -> (String, String) {
    let is_there = jailrun::sys::landlock_abi().unwrap() >= abi;
    let restricted = if is_there { errno } else { otherwise };
    (restricted.to_owned(), otherwise.to_owned())
}

/// A unit with these keys, where nothing may be left out.
fn strict(keys: &str) -> Bench {
    let text = format!(
        "[[mounts]]\ntarget = \"/data\"\nbind = \"{{dir}}/data\"\n[security.landlock]\n{keys}"
    );
    let bench = Bench::new(&text);
    fs::create_dir_all(bench.directory.path().join("data/sub")).unwrap();
    fs::write(bench.directory.path().join("data/file"), "content").unwrap();
    // Neither caller has capabilities inside.
    let open = std::process::Command::new("chmod")
        .args(["-R", "a+rwX"])
        .arg(bench.directory.path().join("data"))
        .status()
        .unwrap();
    assert!(open.success());
    bench
}

fn bench(keys: &str) -> Bench {
    strict(&format!("{}{keys}", best_effort()))
}

fn errno(run: &Run) -> String {
    let json = run.json();
    match json["ok"].as_bool() {
        Some(true) => "ok".to_owned(),
        _ => json["errno"].as_str().unwrap_or_else(|| panic!("{run:?}")).to_owned(),
    }
}

/// Tries in a jail with these keys, and in one that restricts nothing.
fn both(caller: Caller, keys: &str, attempt: &[&str]) -> (String, String) {
    let restricted = bench(keys).probe(caller, attempt);
    let control = strict("best-effort = false").probe(caller, attempt);
    (errno(&restricted), errno(&control))
}

#[test]
fn writing_is_refused_outside_of_what_is_listed() {
    for caller in CALLERS {
        let write = ["write", "/data/file", "new"];
        assert_eq!(both(caller, "write = []", &write), ("EACCES".into(), "ok".into()));
        assert_eq!(both(caller, "write = [\"/tmp\"]", &write), ("EACCES".into(), "ok".into()));
        assert_eq!(both(caller, "write = [\"/data\"]", &write), ("ok".into(), "ok".into()));
        assert_eq!(both(caller, "write = [\"/data/file\"]", &write), ("ok".into(), "ok".into()));
        let make = ["write", "/data/other", "new"];
        assert_eq!(both(caller, "write = [\"/data/file\"]", &make), ("EACCES".into(), "ok".into()));
    }
}

#[test]
fn truncating_alone_is_writing() {
    for caller in CALLERS {
        let truncate = ["truncate", "/data/file"];
        let answer = refused(TRUNCATE, "EACCES", "ok");
        assert_eq!(both(caller, "write = [\"/tmp\"]", &truncate), answer);
        assert_eq!(both(caller, "write = [\"/data\"]", &truncate), ("ok".into(), "ok".into()));
    }
}

#[test]
fn reading_is_refused_outside_of_what_is_listed() {
    for caller in CALLERS {
        for (keys, status) in [
            ("read = [\"/probe\"]", 1),
            ("read = [\"/probe\", \"/data\"]", 0),
            ("write = [\"/data\"]", 0),
        ] {
            let run = bench(keys).probe(caller, &["read", "/data/file"]);
            assert_eq!(run.status, status, "{keys} {run:?}");
            if status == 1 {
                assert_eq!(errno(&run), "EACCES");
            }
        }
    }
}

#[test]
fn executing_is_refused_outside_of_what_is_listed() {
    for caller in CALLERS {
        let keys = "execute = [\"/probe\"]";
        let run = bench(keys).probe(caller, &["exec", "/proc/self/exe", "true"]);
        assert_eq!(run.status, 0, "the same file, by another path: {run:?}");
        let copy = |bench: &Bench| {
            let to = bench.directory.path().join("data/copy");
            crate::support::copy_program(crate::support::probe(), &to);
        };
        let restricted = bench(keys);
        copy(&restricted);
        let run = restricted.probe(caller, &["exec", "/data/copy", "true"]);
        assert_eq!(errno(&run), "EACCES");
        let control = bench("execute = [\"/probe\", \"/data\"]");
        copy(&control);
        let run = control.probe(caller, &["exec", "/data/copy", "true"]);
        assert_eq!((run.status, &*run.stdout), (0, ""), "{run:?}");
    }
}

/// The kernel refuses it as soon as any right on files is handled, unless it is
/// handled and granted as well.
#[test]
fn files_move_between_directories_where_writing_is_not_restricted() {
    for caller in CALLERS {
        let rename = ["rename", "/data/file", "/data/sub/file"];
        for keys in [EXECUTE, "read = [\"/\"]\n", "write = [\"/data\"]\n"] {
            assert_eq!(both(caller, keys, &rename), ("ok".into(), "ok".into()), "{keys}");
        }
        let out = both(caller, "write = [\"/data/sub\"]", &rename);
        assert_eq!(out, ("EACCES".into(), "ok".into()));
    }
}

#[test]
fn ports_are_refused_but_those_listed() {
    for caller in CALLERS {
        let bind = |port| ["bind-tcp", port];
        let answer = refused(PORTS, "EACCES", "ok");
        assert_eq!(both(caller, "bind-tcp = []", &bind("4242")), answer);
        assert_eq!(both(caller, "bind-tcp = [4242]", &bind("4242")), ("ok".into(), "ok".into()));
        assert_eq!(both(caller, "bind-tcp = [4242]", &bind("4243")), answer);
        // Nobody listens there: what counts is who refuses.
        let connect = |port| ["connect-tcp", port];
        let nobody = "ECONNREFUSED".to_owned();
        assert_eq!(
            both(caller, "connect-tcp = [80]", &connect("4242")),
            refused(PORTS, "EACCES", &nobody)
        );
        assert_eq!(
            both(caller, "connect-tcp = [4242]", &connect("4242")),
            (nobody.clone(), nobody.clone())
        );
        assert_eq!(
            both(caller, "bind-tcp = []", &connect("4242")),
            (nobody.clone(), nobody.clone())
        );
    }
}

#[test]
fn signals_and_abstract_sockets_stay_within_their_scope() {
    for caller in CALLERS {
        // The init is outside of the domain, and takes signals.
        let signal = ["signal-other", "1"];
        let (restricted, control) = both(caller, "scope = [\"signal\"]", &signal);
        assert_eq!(restricted, refused(SCOPE, "EPERM", &control).0);
        let other = "scope = [\"abstract-unix-socket\"]";
        if caller == Caller::User {
            assert_eq!(both(caller, other, &signal), ("ok".into(), "ok".into()));
        }
        let name = crate::support::unique("socket");
        let listener = listen_abstract(&name);
        let restricted = shared_network("scope = [\"abstract-unix-socket\"]");
        let control = shared_network("scope = [\"signal\"]");
        let attempt = ["connect-abstract", name.as_str()];
        let seen = [&restricted, &control].map(|bench| errno(&bench.probe(caller, &attempt)));
        assert_eq!(<(_, _)>::from(seen), refused(SCOPE, "EPERM", "ok"));
        drop(listener);
    }
}

#[test]
fn what_the_kernel_lacks_fails_the_launch_or_is_left_out() {
    let abi = jailrun::sys::landlock_abi().unwrap();
    for (keys, since) in [
        ("execute = [\"/probe\"]\n", 2),
        ("read = [\"/probe\"]\n", 2),
        ("write = []\n", DEVICES),
        ("bind-tcp = []\n", PORTS),
        ("connect-tcp = [80]\n", PORTS),
        ("scope = [\"signal\"]\n", SCOPE),
    ] {
        for caller in CALLERS {
            let status = if abi < since { 125 } else { 0 };
            let bench = strict(keys);
            let run = bench.probe(caller, &["true"]);
            assert_eq!(run.status, status, "{keys}: {run:?}");
            assert_eq!(run.stderr.contains("error[E0310]"), abi < since, "{keys}: {run:?}");
            bench.assert_nothing_left();
            let bench = strict(&format!("best-effort = true\n{keys}"));
            let words = ["up", bench.unit.to_str().unwrap(), "--", "/probe", "true"];
            let run = crate::support::run(caller, &words);
            assert_eq!(run.status, 0, "{keys}: {run:?}");
            assert_eq!(run.stderr.contains("warning[W0011]"), abi < since, "{keys}: {run:?}");
        }
    }
}

fn listen_abstract(name: &str) -> std::os::unix::net::UnixListener {
    use std::os::linux::net::SocketAddrExt as _;
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name).unwrap();
    std::os::unix::net::UnixListener::bind_addr(&address).unwrap()
}

fn shared_network(keys: &str) -> Bench {
    let bench = bench(keys);
    let text = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, format!("network = {{ mode = \"host\" }}\n{text}")).unwrap();
    bench
}

#[test]
fn it_holds_for_what_the_command_starts_and_for_another_user() {
    let bench = bench(&format!("{EXECUTE}write = [\"/tmp\"]\n[process]\nuser = 65534"));
    let run = bench.probe(Caller::Root, &["exec", "/probe", "write", "/data/file", "new"]);
    assert_eq!(errno(&run), "EACCES");
    let run = bench.probe(Caller::Root, &["exec", "/probe", "write", "/tmp/file", "new"]);
    assert_eq!(errno(&run), "ok");
}

#[test]
fn a_path_that_is_not_there_is_told_by_check_and_fails_the_launch() {
    for caller in CALLERS {
        let bench = bench("read = [\"/probe\", \"/nowhere\"]");
        let run = bench.probe(caller, &["true"]);
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("`/nowhere`"), "{run:?}");
        bench.assert_nothing_left();
        let check = crate::support::run(
            caller,
            &["check", bench.unit.to_str().unwrap(), "--set", "process.command=[\"/probe\"]"],
        );
        assert_eq!(check.status, 1, "{check:?}");
        assert!(check.stderr.contains("`/nowhere` is not there to allow"), "{check:?}");
    }
}

#[test]
fn without_no_new_privileges_it_is_refused() {
    let bench = bench("write = []");
    let text = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, text + "\n[security]\nno-new-privileges = false\n").unwrap();
    for caller in CALLERS {
        let run = bench.probe(caller, &["true"]);
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("E0106"), "{run:?}");
    }
}

#[test]
fn a_command_out_of_its_own_reach_is_explained_when_it_does_not_start() {
    let bench = Bench::new(
        "[security.landlock]\nexecute = [\"/data\"]\n[process]\ncommand = [\"/probe\", \"true\"]\n",
    );
    let run = bench.up(Caller::Root, &[]);
    assert_eq!(run.status, 126, "{run:?}");
    assert!(run.stderr.contains("error[E0317]: the command is out of its own reach"), "{run:?}");
    // Planning knows why: nothing is guessed.
    assert!(!run.stderr.contains("noexec"), "{run:?}");
    bench.assert_nothing_left();
}
