//! What the jail's processes may do: capabilities, secure bits, the keyring,
//! and what the jail's process 1 shows and holds.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Bench, CALLERS, Caller, Run, command, finish, jailrun, probe};

/// A line of `/proc/PID/status` as the probe prints the file.
fn status(run: &Run, name: &str) -> String {
    let line = run.stdout.lines().find_map(|line| line.strip_prefix(&format!("{name}:")));
    line.unwrap_or_else(|| panic!("no {name}: {run:?}")).trim().to_owned()
}

fn of_init(bench: &Bench, caller: Caller, file: &str) -> Run {
    let run = bench.probe(caller, &["read", &format!("/proc/1/{file}")]);
    assert!(run.stderr.is_empty(), "{run:?}");
    run
}

/// jailrun under another program, such as setpriv(1).
fn up_under(words: &[&str], bench: &Bench, command_line: &[&str]) -> Run {
    let mut arguments: Vec<&str> = words[1..].to_vec();
    arguments.extend([jailrun().to_str().unwrap(), "up", bench.unit.to_str().unwrap(), "--quiet"]);
    arguments.push("--");
    arguments.extend(command_line);
    finish(command(Caller::Root, Path::new(words[0]), &arguments).spawn().unwrap())
}

fn capabilities(report: &Value, set: &str) -> Value {
    report["capabilities"][set].clone()
}

#[test]
fn the_init_shows_neither_arguments_nor_environment_of_the_caller() {
    for caller in CALLERS {
        let bench = Bench::new("");
        let mut up = command(
            caller,
            jailrun(),
            &[
                "up",
                bench.unit.to_str().unwrap(),
                "--quiet",
                "--",
                "/probe",
                "read",
                "/proc/1/cmdline",
            ],
        );
        up.env("SECRET", "of-the-caller");
        let run = finish(up.spawn().unwrap());
        assert_eq!(run.status, 0, "{run:?}");
        assert!(!run.stdout.is_empty(), "a process without arguments has an empty file: {run:?}");
        assert_eq!(run.stdout.trim_matches('\0'), "", "{run:?}");
        // The control: the same process before it is the init shows them.
        let shown = fs::read("/proc/self/cmdline").unwrap();
        assert!(shown.iter().any(|byte| *byte != 0));
    }
}

#[test]
fn the_environment_of_the_init_is_gone_even_for_one_who_may_trace_it() {
    let bench = Bench::new("[security]\ncapabilities = [\"CAP_SYS_PTRACE\"]");
    let environ = |words: &[&str]| {
        let mut up = command(
            Caller::Root,
            jailrun(),
            &[&["up", bench.unit.to_str().unwrap(), "--quiet", "--", "/probe", "read"], words]
                .concat(),
        );
        up.env("SECRET", "of-the-caller");
        finish(up.spawn().unwrap())
    };
    let own = environ(&["/proc/self/environ"]);
    assert!(own.stdout.contains("container=jailrun"), "the control: {own:?}");
    let init = environ(&["/proc/1/environ"]);
    assert_eq!(init.status, 0, "{init:?}");
    assert_eq!(init.stdout.trim_matches('\0'), "", "{init:?}");
}

#[test]
fn the_init_cannot_be_looked_into() {
    for caller in CALLERS {
        let bench = Bench::new("");
        for file in ["environ", "auxv", "maps", "mem"] {
            let run = of_init(&bench, caller, file);
            assert_eq!((run.status, &run.json()["errno"]), (1, &"EACCES".into()), "{file} {run:?}");
        }
        // The control: one's own can be.
        let run = bench.probe(caller, &["read", "/proc/self/auxv"]);
        assert_eq!(run.status, 0, "{run:?}");
    }
}

#[test]
fn the_init_keeps_neither_groups_nor_a_wider_bounding_set() {
    let bench = Bench::new("[security]\ncapabilities = [\"CAP_CHOWN\"]");
    let groups = ["setpriv", "--groups=7,8,9"];
    // The control: the caller has them.
    let control = finish(
        command(
            Caller::Root,
            Path::new("setpriv"),
            &["--groups=7,8,9", probe().to_str().unwrap(), "read", "/proc/self/status"],
        )
        .spawn()
        .unwrap(),
    );
    assert_eq!(status(&control, "Groups"), "7 8 9");
    let run = up_under(&groups, &bench, &["/probe", "read", "/proc/1/status"]);
    assert_eq!(status(&run, "Groups"), "");
    assert_eq!(status(&run, "CapBnd"), "0000000000000001");
    assert_eq!(status(&run, "CapInh"), "0000000000000000");
    // The command may have started before the init has got that far; nobody
    // can use what it still holds.
    crate::support::eventually("the init keeps CAP_KILL alone, to pass signals on", || {
        let run = bench.probe(Caller::Root, &["read", "/proc/1/status"]);
        status(&run, "CapPrm") == "0000000000000020" && status(&run, "NoNewPrivs") == "1"
    });
    for caller in CALLERS {
        let run = of_init(&Bench::new(""), caller, "status");
        assert_eq!(status(&run, "CapBnd"), "0000000000000000");
        assert_eq!(status(&run, "CapAmb"), "0000000000000000");
    }
}

#[test]
fn the_command_has_what_the_unit_says_and_nothing_of_the_callers() {
    let inherited =
        ["setpriv", "--inh-caps=+chown,+net_raw", "--ambient-caps=+chown,+net_raw", "--groups=7,8"];
    // The control: a program started that way has them.
    let control = finish(
        command(
            Caller::Root,
            Path::new("setpriv"),
            &[&inherited[1..], &[probe().to_str().unwrap(), "report"]].concat(),
        )
        .spawn()
        .unwrap(),
    );
    assert_eq!(status_words(&capabilities(&control.json(), "ambient")), ["CHOWN", "NET_RAW"]);
    for (keys, bounding, ambient) in [
        ("", vec![], vec![]),
        ("capabilities = [\"CAP_KILL\"]", vec!["KILL"], vec![]),
        (
            "capabilities = [\"CAP_KILL\", \"CAP_CHOWN\"]\nambient-capabilities = [\"CAP_CHOWN\"]",
            vec!["CHOWN", "KILL"],
            vec!["CHOWN"],
        ),
    ] {
        let bench = Bench::new(&format!("[security]\n{keys}"));
        let run = up_under(&inherited, &bench, &["/probe", "report"]);
        assert_eq!(run.status, 0, "{run:?}");
        let report = run.json();
        for (set, expected) in [
            ("bounding", &bounding),
            ("permitted", &bounding),
            ("effective", &bounding),
            ("inheritable", &ambient),
            ("ambient", &ambient),
        ] {
            assert_eq!(status_words(&capabilities(&report, set)), *expected, "{set} with {keys}");
        }
        assert_eq!(report["groups"], Value::Array(Vec::new()), "{report}");
    }
}

/// Names of a set, without their prefix, in the kernel's order.
fn status_words(set: &Value) -> Vec<String> {
    let bits = u64::from_str_radix(set.as_str().unwrap_or_else(|| panic!("{set}")), 16).unwrap();
    jailrun::names::capability_words(bits).map(|word| word.to_uppercase()).collect()
}

/// With `noroot` root has what is ambient alone, which is to be enough for a
/// launch. Not every root has all of them.
const INHERITED: &str = "--inh-caps=+chown,+dac_override,+fowner,+kill,+mknod,+net_admin,+setgid,+setpcap,+setuid,+sys_admin,+sys_chroot,+sys_ptrace";
const AMBIENT: &str = "--ambient-caps=+chown,+dac_override,+fowner,+kill,+mknod,+net_admin,+setgid,+setpcap,+setuid,+sys_admin,+sys_chroot,+sys_ptrace";

#[test]
fn secure_bits_of_the_caller_are_reset() {
    let bits = "--securebits=+noroot,+no_setuid_fixup";
    let raw = ["setpriv", INHERITED, AMBIENT, bits];
    let control = finish(
        command(
            Caller::Root,
            Path::new("setpriv"),
            &[&raw[1..], &[probe().to_str().unwrap(), "report"]].concat(),
        )
        .spawn()
        .unwrap(),
    );
    assert_eq!(control.json()["securebits"], 5, "{control:?}");
    let bench = Bench::new("[security]\ncapabilities = [\"CAP_CHOWN\"]");
    let run = up_under(&raw, &bench, &["/probe", "report"]);
    assert_eq!(run.status, 0, "{run:?}");
    let report = run.json();
    assert_eq!(report["securebits"], 0);
    assert_eq!(status_words(&capabilities(&report, "effective")), ["CHOWN"]);
}

#[test]
fn locked_secure_bits_are_said_before_the_launch() {
    let raw = ["setpriv", INHERITED, AMBIENT, "--securebits=+noroot,+noroot_locked"];
    let run = up_under(&raw, &Bench::new(""), &["/probe", "report"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0309") && run.stderr.contains("are locked"), "{run:?}");
}

#[test]
fn the_session_keyring_is_an_empty_one_unless_the_unit_shares_it() {
    // The default filter has no keyctl(2) at all.
    // The keyring is this thread's, which what it starts inherits.
    jailrun::sys::new_session_keyring().unwrap();
    for caller in CALLERS {
        let own = Bench::new("[security]\nseccomp = \"off\"").probe(caller, &["session-keyring"]);
        let shared = Bench::new("[security]\nkeyring = \"host\"\nseccomp = \"off\"")
            .probe(caller, &["session-keyring"]);
        let outside = finish(command(caller, probe_copy(), &["session-keyring"]).spawn().unwrap());
        for run in [&own, &shared, &outside] {
            assert_eq!(run.status, 0, "{run:?}");
        }
        assert_eq!(shared.stdout, outside.stdout, "the control");
        assert_ne!(own.stdout, outside.stdout);
    }
}

/// The probe where an ordinary user can execute it.
fn probe_copy() -> &'static Path {
    static COPY: std::sync::OnceLock<std::path::PathBuf> = std::sync::OnceLock::new();
    COPY.get_or_init(|| {
        let path = jailrun().with_file_name("jailprobe");
        let copied = Command::new("cp").arg(probe()).arg(&path).status().unwrap();
        assert!(copied.success());
        path
    })
}

/// For the kernel it means to leave what is: root's, here.
#[test]
fn the_last_number_of_all_is_no_user_or_group_of_a_root() {
    let bench = Bench::new("");
    let passwd = |line: &str| {
        fs::write(bench.root.join("etc/passwd"), format!("root:x:0:0::/:/bin/sh\n{line}\n"))
            .unwrap();
    };
    let up = |user: &str| {
        let user = format!("process.user={user}");
        bench.up(Caller::Root, &["--set", &user, "--", "/probe", "report"])
    };
    passwd("web:x:33:4294967295::/:/bin/sh");
    let report = up("33").json();
    assert_eq!(report["gids"][0], 33, "{report}");
    for line in ["web:x:33:4294967295::/:/bin/sh", "web:x:4294967295:33::/:/bin/sh"] {
        passwd(line);
        let run = up("web");
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("the jail has no user `web`"), "{run:?}");
    }
    let known = "web:x:33:44::/:/bin/sh\n";
    fs::write(bench.root.join("etc/passwd"), format!("{}{known}", "# \n".repeat(600_000))).unwrap();
    let report = up("33").json();
    assert_eq!(report["gids"][0], 44, "{report}");
    fs::write(bench.root.join("etc/passwd"), format!("{}{known}", "# \n".repeat(6_000_000)))
        .unwrap();
    let run = up("33");
    assert!(run.stderr.contains("more than 16777216 bytes"), "{run:?}");
    bench.assert_nothing_left();
}
