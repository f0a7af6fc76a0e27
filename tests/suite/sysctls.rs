//! `security.sysctl`: parameters of the jail's own namespaces, on the real
//! kernel.

use std::fs;
use std::path::Path;

use crate::support::{Bench, CALLERS, Caller, command, finish};

const SYSCTLS: &[(&str, &str)] = &[
    ("net.ipv4.ip_unprivileged_port_start", "0"),
    ("net.ipv4.ip_local_port_range", "40000 40100"),
    ("net/ipv4/conf/lo/forwarding", "1"),
    ("kernel.shmmni", "77"),
    ("kernel.sem", "100 200 30 40"),
    ("fs.mqueue.msg_max", "5"),
];

fn file(name: &str) -> String {
    let name = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    format!("/proc/sys/{name}")
}

fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

#[test]
fn they_are_set_inside_and_only_there() {
    for caller in CALLERS {
        let keys: String = SYSCTLS
            .iter()
            .map(|(name, value)| match name.contains('/') {
                true => format!("\"{name}\" = \"{value}\"\n"),
                false => format!("{name} = \"{value}\"\n"),
            })
            .collect();
        let set = Bench::new(&format!("[security.sysctl]\n{keys}"));
        let unset = Bench::new("");
        for (name, value) in SYSCTLS {
            let outside = fs::read_to_string(file(name)).unwrap();
            let control = unset.probe(caller, &["read", &file(name)]);
            assert_eq!(control.status, 0, "{control:?}");
            assert_ne!(words(&control.stdout), words(value), "{name} has that value anyway");
            let run = set.probe(caller, &["read", &file(name)]);
            assert_eq!(words(&run.stdout), words(value), "{name} {run:?}");
            assert_eq!(fs::read_to_string(file(name)).unwrap(), outside, "{name} of the host");
        }
        set.assert_nothing_left();
    }
}

#[test]
fn what_is_the_whole_hosts_below_net_is_refused() {
    for caller in CALLERS {
        for name in ["net.core.rmem_max", "net.core.default_qdisc", "net.ipv4.tcp_mem"] {
            let bench = Bench::new(&format!("[security]\nsysctl = {{ \"{name}\" = \"1\" }}"));
            let run = bench.probe(caller, &["true"]);
            assert_eq!(run.status, 125, "{run:?}");
            let told = format!("error[E0319]: `{name}` belongs to no namespace");
            assert!(run.stderr.contains(&told), "{run:?}");
            bench.assert_nothing_left();
        }
    }
    // The kernel's own answer, where nothing of the jail's is in the way.
    let open = Bench::new("[security]\nread-only-paths = []");
    let write = |name: &str| open.probe(Caller::Root, &["open-file", &file(name), "w"]);
    assert_eq!(write("net.core.somaxconn").json()["ok"], true);
    for name in ["net.core.rmem_max", "net.core.default_qdisc", "net.ipv4.tcp_mem"] {
        let run = write(name);
        assert_eq!(run.json()["ok"], false, "{name}: {run:?}");
    }
}

#[test]
fn a_value_that_the_kernel_does_not_keep_fails_the_launch() {
    for caller in CALLERS {
        // A number with a zero in front is octal to the kernel.
        let sysctl = "sysctl = { net.ipv4.tcp_max_syn_backlog = \"010\" }";
        let bench = Bench::new(&format!("[security]\n{sysctl}"));
        let run = bench.probe(caller, &["true"]);
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("the kernel holds `8`"), "{run:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn a_value_or_name_that_the_kernel_refuses_fails_the_launch() {
    for caller in CALLERS {
        // What fails is the first, and nothing is said of the second.
        for (sysctl, found) in [
            ("net.ipv4.ip_forward = \"no\"\nnet.ipv4.no_such_thing = 1", 0),
            ("net.ipv4.no_such_thing = 1\nnet.ipv4.nor_such_a_thing = 1", 1),
        ] {
            let bench = Bench::new(&format!("[security.sysctl]\n{sysctl}"));
            let run = bench.probe(caller, &["true"]);
            assert_eq!(run.status, 125, "{run:?}");
            assert!(run.stderr.contains("set the sysctl net/ipv4/"), "{run:?}");
            // What `check` says of it.
            assert_eq!(run.stderr.matches("error[E0310]").count(), found, "{run:?}");
            bench.assert_nothing_left();
        }
    }
}

#[test]
fn what_a_user_namespace_is_not_shown_is_told_before() {
    for (name, value) in [
        // Linux 6.3 shows it, and an older kernel does not.
        ("net.core.somaxconn", "99"),
        ("net.core.xfrm_larval_drop", "0"),
        ("net.ipv6.route.max_size", "999"),
        ("net.ipv6.route.gc_timeout", "99"),
        ("net.ipv4.tcp_max_syn_backlog", "99"),
    ] {
        let text = "[process]\ncommand = [\"/probe\", \"true\"]\n[security.sysctl]\n";
        let bench = Bench::new(&format!("{text}{name} = {value}\n"));
        let words = ["-Urn", "test", "-e", &file(name)];
        let shown = finish(command(Caller::User, Path::new("unshare"), &words).spawn().unwrap());
        let is_there = Path::new(&file(name)).exists();
        for (caller, shown) in [(Caller::Root, is_there), (Caller::User, shown.status == 0)] {
            let (dry, up) = (bench.dry_run(caller, &[]), bench.up(caller, &[]));
            let wanted = if shown { (0, 0) } else { (1, 125) };
            assert_eq!((dry.status, up.status), wanted, "{name}: {dry:?} {up:?}");
            let whose = if is_there { "a user namespace" } else { "this kernel" };
            let told = format!("error[E0310]: {whose} has no `{name}`");
            for run in [dry, up] {
                assert_eq!(run.stderr.contains(&told), !shown, "{name}: {run:?}");
            }
            bench.assert_nothing_left();
        }
    }
}

/// What is below the root's `/proc` when the sysctl is set must not matter.
#[test]
fn a_root_with_a_proc_of_its_own_does_not_catch_the_write() {
    for caller in CALLERS {
        let bench = Bench::with_root(
            "api-filesystems = [\"/dev\"]",
            "[security.sysctl]\nnet.ipv4.ip_forward = 1\n",
        );
        let caught = bench.root.join("proc/sys/net/ipv4");
        fs::create_dir_all(&caught).unwrap();
        fs::write(caught.join("ip_forward"), "trap").unwrap();
        let run = bench.probe(caller, &["true"]);
        assert_eq!(run.status, 0, "{run:?}");
        assert_eq!(fs::read_to_string(caught.join("ip_forward")).unwrap(), "trap");
    }
}

#[test]
fn the_hosts_own_are_out_of_reach() {
    let cases = [
        ("", "kernel.core_pattern = \"x\""),
        ("", "vm.swappiness = 1"),
        ("network = { mode = \"host\" }\n", "net.ipv4.ip_forward = 1"),
        ("namespaces = { ipc = \"host\" }\n", "kernel.shmmni = 1"),
        ("namespaces = { uts = \"host\" }\n", "kernel.domainname = \"x\""),
    ];
    for (top, sysctl) in cases {
        let bench = Bench::new(&format!("[security.sysctl]\n{sysctl}"));
        let text = fs::read_to_string(&bench.unit).unwrap();
        fs::write(&bench.unit, format!("{top}{text}")).unwrap();
        let run = bench.probe(Caller::Root, &["true"]);
        assert_eq!(run.status, 125, "{run:?}");
        assert!(run.stderr.contains("E0319"), "{run:?}");
    }
}
