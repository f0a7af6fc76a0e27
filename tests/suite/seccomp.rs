//! Filters for system calls in real jails: each attack succeeds, or fails for
//! another reason, without the filter, and fails as documented with it.

use std::fs;

use jailrun::seccomp::table;
use jailrun::seccomp::{Arch, Filter, Preset, print, profile};
use serde_json::Value;

use crate::support::{Bench, CALLERS, Caller, run};

const OFF: &str = "[security]\nseccomp = \"off\"\n";

/// The errno of an attempt, or `ok`.
fn answer(bench: &Bench, caller: Caller, words: &[&str]) -> String {
    let run = bench.probe(caller, words);
    assert_eq!(run.status, 0, "{words:?}: {run:?}");
    match &run.json()["errno"] {
        Value::Null => "ok".to_owned(),
        errno => errno.as_str().unwrap().to_owned(),
    }
}

/// The words that make the probe call it.
fn call(name: &str, arguments: &[&str]) -> Vec<String> {
    let number = table::find(name).unwrap().number(Arch::NATIVE).unwrap();
    let mut words = vec!["syscall".to_owned(), number.to_string()];
    words.extend(arguments.iter().map(|word| (*word).to_owned()));
    words
}

fn calls(bench: &Bench, caller: Caller, name: &str, arguments: &[&str]) -> String {
    let words = call(name, arguments);
    answer(bench, caller, &words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_call_that_the_default_refuses_works_or_fails_otherwise_without_it() {
    let without = Bench::new(OFF);
    let with = Bench::new("");
    for caller in CALLERS {
        for (name, arguments, control, filtered) in [
            ("keyctl", &["0", "0xfffffffffffffffd"][..], "ok", "EPERM"),
            ("userfaultfd", &["1"], "ok", "EPERM"),
            ("unshare", &["0x10000000"], "ok", "EPERM"),
            ("setns", &["99", "0"], "EBADF", "EPERM"),
            ("clone3", &["0", "0"], "EINVAL", "ENOSYS"),
            // A user namespace together with shared signal handlers is nonsense.
            ("clone", &["0x10000811"], "EINVAL", "EPERM"),
            ("io_uring_setup", &["0", "0"], "EFAULT", "ENOSYS"),
            ("socket", &["38", "5", "0"], "EAFNOSUPPORT", "EPERM"),
            ("socket", &["0xdead00000026", "5", "0"], "EAFNOSUPPORT", "EPERM"),
            ("socketpair", &["38", "5", "0", "0"], "EFAULT", "EPERM"),
            ("socket", &["1", "1", "0"], "ok", "ok"),
            ("socket", &["2", "1", "0"], "ok", "ok"),
            ("socket", &["10", "1", "0"], "ok", "ok"),
            ("socket", &["16", "3", "0"], "ok", "ok"),
            ("personality", &["0x0040000"], "ok", "EPERM"),
            ("personality", &["0xffffffff"], "ok", "ok"),
            // Standard input is no terminal.
            ("ioctl", &["0", "0x5412", "0"], "ENOTTY", "EPERM"),
            ("ioctl", &["0", "0x555500005412", "0"], "ENOTTY", "EPERM"),
            ("ioctl", &["0", "0x541c", "0"], "ENOTTY", "EPERM"),
            ("ioctl", &["0", "0x5413", "0"], "ENOTTY", "ENOTTY"),
        ] {
            let seen = calls(&without, caller, name, arguments);
            assert_eq!(seen, control, "{caller:?}: {name} {arguments:?} without a filter");
            let seen = calls(&with, caller, name, arguments);
            assert_eq!(seen, filtered, "{caller:?}: {name} {arguments:?} with the default");
        }
        for probe in ["tiocsti", "tiocsti-high"] {
            assert_eq!(answer(&without, caller, &[probe]), "ENOTTY");
            assert_eq!(answer(&with, caller, &[probe]), "EPERM");
        }
        // A number that no kernel has yet.
        assert_eq!(answer(&with, caller, &["syscall", "900"]), "ENOSYS");
    }
    with.assert_nothing_left();
    without.assert_nothing_left();
}

#[test]
fn every_call_of_the_mount_api_is_refused_with_every_capability() {
    let all = "[security]\ncapabilities = \"all\"\n";
    let without = Bench::new(&format!("{all}seccomp = \"off\"\n"));
    let with = Bench::new(&format!("{all}[security.seccomp]\ndeny = [\"@mount\"]\n"));
    for caller in CALLERS {
        for (name, arguments, control) in [
            ("mount", &["0", "0", "0", "0", "0"][..], "EFAULT"),
            ("umount2", &["0", "0"], "EFAULT"),
            ("pivot_root", &["0", "0"], "EFAULT"),
            ("fsopen", &["0", "0"], "EFAULT"),
            ("fsconfig", &["99", "6", "0", "0", "0"], "EBADF"),
            ("fsmount", &["99", "0", "0"], "EBADF"),
            ("fspick", &["99", "0", "0"], "EFAULT"),
            ("open_tree", &["99", "0", "0"], "EFAULT"),
            ("move_mount", &["99", "0", "99", "0", "0"], "EFAULT"),
            ("mount_setattr", &["99", "0", "0", "0", "0"], "EINVAL"),
            ("chroot", &["0"], "EFAULT"),
        ] {
            assert_eq!(calls(&without, caller, name, arguments), control, "{caller:?}: {name}");
            assert_eq!(calls(&with, caller, name, arguments), "EPERM", "{caller:?}: {name}");
        }
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_32_bit_entry_ends_the_process() {
    // 20 is getpid(2) there, and writev(2) here: a filter of one is none of the other.
    let without = Bench::new(OFF);
    for caller in CALLERS {
        assert_eq!(answer(&without, caller, &["int80", "20"]), "ok");
        for filter in [
            "",
            "[security]\nseccomp = \"strict\"\n",
            "[security.seccomp]\ndefault-action = \"allow\"\n",
        ] {
            let bench = Bench::new(filter);
            let run = bench.probe(caller, &["int80", "20"]);
            assert_eq!((run.status, &*run.stdout), (128 + 31, ""), "{filter}: {run:?}");
            // x32, where the kernel has it, shares the architecture's name.
            let x32 = (0x4000_0000_u64 + 39).to_string();
            assert_eq!(answer(&bench, caller, &["syscall", &x32]), "ENOSYS", "{filter}");
        }
    }
}

#[test]
fn every_action_does_what_it_says() {
    let bench = Bench::new(
        "[security.seccomp]\ndefault-action = \"allow\"\ndeny = [\"sysinfo\"]\nkill = [\"times\"]\nlog = [\"getpgid\"]\n",
    );
    for caller in CALLERS {
        assert_eq!(calls(&bench, caller, "sysinfo", &["0"]), "EPERM");
        assert_eq!(calls(&bench, caller, "getpgid", &["0"]), "ok");
        let words = call("times", &["0"]);
        let run = bench.probe(caller, &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(run.status, 128 + 31, "{run:?}");
    }
    let bench =
        Bench::new("[security.seccomp]\ndeny = [\"@mknod\"]\nallow = [\"mknod\", \"@io-uring\"]\n");
    assert_eq!(calls(&bench, Caller::Root, "mknodat", &["0", "0", "0", "0"]), "EPERM");
    // A name outweighs the set.
    assert_eq!(calls(&bench, Caller::Root, "mknod", &["0", "0", "0"]), "EFAULT");
    assert_eq!(calls(&bench, Caller::Root, "io_uring_setup", &["0", "0"]), "EFAULT");
    // What no list names is as in the default.
    assert_eq!(calls(&bench, Caller::Root, "clone3", &["0", "0"]), "ENOSYS");
}

#[test]
fn a_profile_is_taken_from_the_units_directory() {
    let bench = Bench::new("[security.seccomp]\nprofile = \"profile.json\"\ndeny = [\"times\"]\n");
    fs::write(
        bench.directory.path().join("profile.json"),
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["sysinfo"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
             "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_GE"}]}]}"#,
    )
    .unwrap();
    for caller in CALLERS {
        assert_eq!(calls(&bench, caller, "sysinfo", &["0"]), "ENOSYS");
        assert_eq!(calls(&bench, caller, "getpgid", &["0"]), "ok");
        assert_eq!(calls(&bench, caller, "getpgid", &["0x100000000"]), "EIO");
        assert_eq!(calls(&bench, caller, "times", &["0"]), "EPERM");
    }
}

#[test]
fn a_failed_execve_is_reported_under_the_filter() {
    for filter in ["", "seccomp = \"strict\"\n", "no-new-privileges = false\n"] {
        let bench = Bench::new(&format!("[security]\n{filter}"));
        fs::write(bench.root.join("plain"), "text").unwrap();
        for caller in CALLERS {
            let missing = bench.up(caller, &["--", "/missing"]);
            assert_eq!(missing.status, 127, "{filter}: {missing:?}");
            assert!(missing.stderr.contains("execute /missing"), "{missing:?}");
            let searched = bench.up(caller, &["--", "missing"]);
            assert_eq!(searched.status, 127, "{filter}: {searched:?}");
            assert!(searched.stderr.contains("not found in /usr"), "{searched:?}");
            let plain = bench.up(caller, &["--", "/plain"]);
            assert_eq!(plain.status, 126, "{filter}: {plain:?}");
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_filter_needs_no_capability_and_no_new_privileges_not_either() {
    let yes = |text: &str, caller: Caller, nnp: bool| {
        let bench = Bench::new(text);
        let report = bench.report(caller);
        assert_eq!(report["seccomp"], 2, "{caller:?}: {text}");
        assert_eq!(report["no_new_privs"], nnp, "{caller:?}: {text}");
        assert_eq!(calls(&bench, caller, "keyctl", &["0", "0xfffffffffffffffd"]), "EPERM");
        report
    };
    for caller in CALLERS {
        yes("", caller, true);
        let report = yes("[security]\nno-new-privileges = false\n", caller, false);
        assert_eq!(report["capabilities"]["permitted"], "0000000000000000");
        yes(
            "[security]\nno-new-privileges = false\ncapabilities = [\"CAP_SYS_ADMIN\"]\n",
            caller,
            false,
        );
    }
    let report = yes(
        "[security]\nno-new-privileges = false\ncapabilities = [\"CAP_KILL\"]\nambient-capabilities = [\"CAP_KILL\"]\n[process]\nuser = \"alice\"\n",
        Caller::Root,
        false,
    );
    for set in ["permitted", "ambient", "effective", "inheritable", "bounding"] {
        assert_eq!(report["capabilities"][set], "0000000000000020", "{set}");
    }
    let bench = Bench::new(OFF);
    assert_eq!(bench.report(Caller::Root)["seccomp"], 0);
}

#[test]
fn an_init_that_the_command_may_trace_is_filtered_too() {
    let seen = |text: &str| {
        let bench = Bench::new(text);
        let run = bench.probe(Caller::Root, &["read", "/proc/1/status"]);
        assert_eq!(run.status, 0, "{run:?}");
        run.stdout.lines().find(|line| line.starts_with("Seccomp:")).unwrap().to_owned()
    };
    assert_eq!(seen("[security]\ncapabilities = [\"CAP_SYS_PTRACE\"]\n"), "Seccomp:\t2");
    assert_eq!(
        seen("[security]\ncapabilities = [\"CAP_SYS_PTRACE\"]\nseccomp = \"off\"\n"),
        "Seccomp:\t0"
    );
    // The init's work goes on under it: reaping, and handing on the status.
    let bench = Bench::new("[security]\ncapabilities = [\"CAP_SYS_PTRACE\"]\n");
    let run = bench.probe(Caller::Root, &["zombies", "5"]);
    assert_eq!(run.status, 0, "{run:?}");
    assert_eq!(run.json()["zombies"], 0, "{run:?}");
    assert_eq!(bench.probe(Caller::Root, &["signal", "9"]).status, 137);
}

#[test]
fn the_printed_filter_is_the_one_that_is_loaded() {
    let bench = Bench::new("");
    let unit = bench.unit.to_str().unwrap();
    let filter = Filter::preset(Preset::Default, 0);
    let plain = run(Caller::User, &["seccomp", unit]);
    assert_eq!(plain.status, 0, "{plain:?}");
    assert_eq!(plain.stdout, print::disassembly(&filter.policy(), &filter.program()));
    assert_eq!(plain.stdout.lines().count(), filter.program().len());
    assert!(plain.stdout.contains("return kill-process"), "{}", plain.stdout);
    let pseudo = run(Caller::User, &["seccomp", unit, "--pseudo"]);
    assert!(pseudo.stdout.contains("\nclone:\n  allow if argument 0 (32 bits) & 0x7e020000 == 0x0\n  errno:EPERM otherwise\n"), "{}", pseudo.stdout);
    let json = run(Caller::User, &["seccomp", unit, "--json"]);
    let to = profile::For { arch: Arch::NATIVE, capabilities: 0, kernel: (6, 1) };
    profile::read(json.stdout.as_bytes(), &to).unwrap();
    // What an ordinary user may not have does not stand in its way.
    let limited = run(Caller::User, &["seccomp", unit, "--set", "limits.memory=64M"]);
    assert_eq!((limited.status, limited.stdout), (0, plain.stdout), "{}", limited.stderr);
    let off = run(Caller::User, &["seccomp", unit, "--set", "security.seccomp=off"]);
    assert_eq!((off.status, &*off.stdout), (1, ""), "{off:?}");
    let kept =
        run(Caller::User, &["seccomp", unit, "--pseudo", "--set", "security.capabilities=all"]);
    assert!(!kept.stdout.contains("\nclone:\n"), "{}", kept.stdout);
}

#[test]
fn the_profile_that_is_printed_can_be_used() {
    let bench = Bench::new("[security.seccomp]\nprofile = \"own.json\"\n");
    let unit = bench.unit.to_str().unwrap();
    let json = run(Caller::Root, &["seccomp", unit, "--json", "--set", "security.seccomp=default"]);
    fs::write(bench.directory.path().join("own.json"), &json.stdout).unwrap();
    for caller in CALLERS {
        assert_eq!(bench.report(caller)["seccomp"], 2);
        assert_eq!(calls(&bench, caller, "ioctl", &["0", "0x555500005412", "0"]), "EPERM");
        assert_eq!(calls(&bench, caller, "ioctl", &["0", "0x5413", "0"]), "ENOTTY");
        assert_eq!(calls(&bench, caller, "clone3", &["0", "0"]), "ENOSYS");
    }
}

#[test]
fn what_a_filter_does_is_said_before_it_is_loaded() {
    let bench = Bench::new("[security.seccomp]\ndefault-action = \"log\"\nkill = [\"ptrace\"]\n");
    let unit = bench.unit.to_str().unwrap();
    let dry = run(Caller::Root, &["up", "--dry-run", unit, "--", "/probe", "true"]);
    assert!(dry.stdout.contains("the unit's own filter for system calls"), "{dry:?}");
    assert!(dry.stdout.contains("the others get log"), "{dry:?}");
    let explained = run(Caller::Root, &["up", "--explain", unit, "--", "/probe", "true"]);
    assert_eq!(explained.status, 0, "{explained:?}");
    assert!(
        explained
            .stdout
            .contains("with 1 rules and the default action log; `jailrun seccomp UNIT` prints it"),
        "{}",
        explained.stdout
    );
}
