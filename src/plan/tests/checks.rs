//! What is found before a launch.

use std::path::Path;

use snapbox::{assert_data_eq, str};

use super::host::{Node, Table};
use super::{WEB, findings, planning, steps};
use crate::names;
use crate::plan::step::Step;

#[test]
fn what_the_host_does_not_have_is_found_before_the_launch() {
    let host = Table::version1();
    let unit = format!(
        r#"{WEB}cpu-affinity = "2-9"
user = "nobody-here"
group = "nogroup"
supplementary-groups = ["staff", "ghosts"]
stdin = "file:/no/where"
stdout = "file:/no/where"
[limits]
cpuset = "0-7"
cpuset-mems = "1"
[limits.blkio]
devices = [
  {{ path = "/dev/null", read-bps = 1 }},
  {{ path = "/nowhere", read-bps = 1 }},
  {{ path = "/run", read-bps = 1 }},
  {{ path = "9:9", read-bps = 1 }},
]
[[mounts]]
bind = "/nowhere"
target = "/data"
[namespaces]
ipc = "/proc/77/ns/ipc"
"#
    );
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0307 web.toml:5 this host has no CPU 4 (it has 0-3)
E0303 web.toml:6 the jail has no user `nobody-here` (not in the jail's `/etc/passwd`)
E0303 web.toml:7 the jail has no group `nogroup` (not in the jail's `/etc/group`)
E0303 web.toml:8 the jail has no group `ghosts` (not in the jail's `/etc/group`)
E0301 web.toml:9 `/no/where` cannot be read (no such file)
E0301 web.toml:10 `/no/where` cannot be written (its directory: no such file)
E0307 web.toml:12 this host has no CPU 4 (it has 0-3)
E0307 web.toml:13 this host has no memory node 1 (it has 0)
E0302 web.toml:16 `/dev/null` does not lead to a block device (it is a character device)
E0302 web.toml:17 `/nowhere` does not lead to a block device (no such file)
E0302 web.toml:18 `/run` does not lead to a block device (its file system has no disk behind it (device 0:25))
E0302 web.toml:19 `9:9` does not lead to a block device (its file system has no disk behind it (device 9:9))
E0301 web.toml:22 `/nowhere` cannot be bound (no such file)
E0301 web.toml:25 the namespace `/proc/77/ns/ipc` cannot be joined (no such file)

"#]]
    );
}

#[test]
fn users_are_those_of_the_jail_and_its_files_are_not_trusted() {
    let by_name = format!("{WEB}user = \"www\"\n");
    let steps_of = |host: &Table| steps(host, &by_name);
    assert!(
        steps_of(&Table::bare()).contains("become uid 33, gid 34, no further groups"),
        "{}",
        steps_of(&Table::bare())
    );
    for (node, label) in [
        (Node::Fifo, "`/etc/passwd` of the jail is not a regular file"),
        (Node::Directory, "`/etc/passwd` of the jail is not a regular file"),
        // Followed in the root, where there is no such file.
        (Node::Link("/units/passwd".into()), "the jail has no `/etc/passwd`"),
    ] {
        let mut host = Table::bare();
        host.file("/units/passwd", "www:x:0:0::/:/bin/sh\n");
        host.put("/srv/web/etc/passwd", node);
        assert_eq!(
            findings(&host, &by_name),
            format!("E0303 web.toml:5 the jail has no user `www` ({label})\n")
        );
    }
}

#[test]
fn an_ordinary_user_is_told_what_needs_root() {
    let mut host = Table::bare().for_user();
    host.hard_limit = 1000;
    let unit = format!(
        "{WEB}user = 33\nnice = -5\noom-score-adjust = -10\n[namespaces]\nuser = \"host\"\n[limits.rlimits]\nnofile = 4096\n"
    );
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0309 web.toml:6 a negative `nice` needs CAP_SYS_NICE (the caller does not have it)
E0309 web.toml:7 a negative `oom-score-adjust` needs CAP_SYS_RESOURCE (the caller does not have it)
E0309 web.toml:9 an ordinary user needs a user namespace (set to the host's)
E0308 web.toml:11 `nofile` is above the caller's own hard limit (at most 1000)

"#]]
    );
    let unit = format!("{WEB}user = 33\ngroup = 0\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0309 web.toml:5 the user 33 does not exist in the jail (in a user namespace without further ids there is only root)

"#]]
    );
    let unit = format!("{WEB}group = \"staff\"\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0309 web.toml:5 the group 50 does not exist in the jail (in a user namespace without further ids there is only root)

"#]]
    );
    let unit = format!("{WEB}supplementary-groups = [50]\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0309 web.toml:5 an ordinary user cannot set groups (in a user namespace without further ids there is only root)

"#]]
    );
}

#[test]
fn a_command_that_cannot_run_is_told_apart() {
    let mut host = Table::bare();
    host.file("/srv/web/usr/bin/data", "");
    host.program("/srv/web/usr/bin/script", "#!/usr/bin/python3 -u\n");
    host.program("/srv/web/usr/bin/nested", "#!/usr/bin/script\n");
    host.put("/srv/web/usr/bin/pipe", Node::Fifo);
    host.put("/srv/web/usr/bin/out", Node::Link("/etc/passwd-of-the-host".into()));
    host.program("/etc/passwd-of-the-host", "");
    let of = |command: &str| {
        findings(
            &host,
            &format!("[root]\npath = \"/srv/web\"\n[process]\ncommand = [\"{command}\"]\n"),
        )
    };
    assert_eq!(of("/bin/true"), "");
    assert_eq!(of("bin/true"), "");
    let all: String = [
        "missing",
        "/bin/missing",
        "/bin/treu",
        "/bin/data",
        "data",
        "/usr/bin",
        "/bin/pipe",
        "/bin/out",
        "script",
        "nested",
        "/proc/self/exe",
    ]
    .iter()
    .map(|command| of(command))
    .collect();
    assert_data_eq!(
        all,
        str![[r#"
E0304 web.toml:4 `missing` does not exist in the jail (not found in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
E0304 web.toml:4 `/bin/missing` does not exist in the jail (no such file)
E0304 web.toml:4 `/bin/treu` does not exist in the jail (no such file)
E0305 web.toml:4 `/bin/data` cannot be run (it is not executable)
E0305 web.toml:4 `/bin/data` cannot be run (it is not executable)
E0305 web.toml:4 `/usr/bin` cannot be run (it is a directory)
E0305 web.toml:4 `/bin/pipe` cannot be run (it is not a regular file)
E0304 web.toml:4 `/bin/out` does not exist in the jail (no such file)
E0306 web.toml:4 `/usr/bin/script` needs `/usr/bin/python3`, which the jail does not have (its interpreter is missing)
E0306 web.toml:4 `/usr/bin/script` needs `/usr/bin/python3`, which the jail does not have (its interpreter is missing)
E0305 web.toml:4 `/proc/self/exe` is not a program of the root (commands are not taken from /proc)

"#]]
    );
}

#[test]
fn what_an_older_landlock_lacks_is_an_error_or_left_out() {
    let unit = |more: &str| {
        format!(
            "{WEB}[security.landlock]\nwrite = [\"/tmp\"]\nread = [\"/\"]\nbind-tcp = [80]\nscope = [\"signal\"]\n{more}"
        )
    };
    let landlock = |abi: u32, text: &str| {
        let host = Table { landlock: abi, ..Table::version1() };
        let (_, planning) = planning(&host, text);
        let step = planning.plan.map(|plan| {
            let step = plan.steps.into_iter().find_map(|planned| match planned.step {
                Step::Landlock(step) => Some(step),
                _ => None,
            });
            step.map(|step| (step.paths, step.ports, step.scope))
        });
        (findings(&host, text).lines().count(), step)
    };
    assert_eq!(landlock(7, &unit("")), (0, Some(Some((0xfffe, 1, 2)))));
    for (abi, findings) in [(0, 1), (1, 5), (2, 4), (3, 3), (4, 2), (5, 1)] {
        assert_eq!(landlock(abi, &unit("")), (findings, None), "{abi}");
    }
    let best = unit("best-effort = true\n");
    assert_eq!(landlock(6, &best), (0, Some(Some((0xfffe, 1, 2)))));
    assert_eq!(landlock(4, &best), (2, Some(Some((0x7ffe, 1, 0)))));
    assert_eq!(landlock(1, &best), (5, Some(Some((0x1ffe, 0, 0)))));
    assert_eq!(landlock(0, &best), (1, Some(None)));
    let host = Table { landlock: 5, ..Table::version1() };
    assert_data_eq!(
        findings(&host, &unit("")),
        str![[r#"
E0310 web.toml:9 this kernel's Landlock lacks scopes (Linux 6.12 has it)

"#]]
    );
    assert_data_eq!(
        findings(&host, &best),
        str![[r#"
W0011 web.toml:9 Landlock leaves out scopes (Linux 6.12 has it)

"#]]
    );
}

#[test]
fn dangerous_capabilities_are_warned_of_once_each() {
    let of = |list: &str| {
        findings(&Table::version1(), &format!("{WEB}[security]\ncapabilities = {list}\n"))
    };
    assert_eq!(of("\"default\""), "");
    assert_eq!(of("[\"CAP_CHOWN\"]"), "");
    assert_data_eq!(
        of("[\"CAP_SYS_ADMIN\", \"@default\"]"),
        str![[r#"
W0003 web.toml:6 CAP_SYS_ADMIN mounts, unmounts and configures the kernel: the masks and read-only mounts can be undone (granted here)

"#]]
    );
    assert_data_eq!(
        of("\"all\""),
        str![[r#"
W0003 web.toml:6 with every capability the jail is no boundary (root inside is root outside)

"#]]
    );
    let mut host = Table::version1();
    host.capabilities = names::DEFAULT_CAPABILITIES;
    let unit = format!("{WEB}[security]\ncapabilities = [\"CAP_SYS_ADMIN\"]\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0309 web.toml:6 a capability that the caller does not have (CAP_SYS_ADMIN)
W0003 web.toml:6 CAP_SYS_ADMIN mounts, unmounts and configures the kernel: the masks and read-only mounts can be undone (granted here)

"#]]
    );
}

#[test]
fn a_kernel_without_a_namespace_is_found_before_the_launch() {
    let mut host = Table::bare();
    host.nodes.remove(Path::new("/proc/self/ns/ipc"));
    let found = findings(&host, WEB);
    assert!(found.starts_with("E0310 ") && found.contains("ipc"), "{found}");
}

#[test]
fn sysctls_that_a_user_namespace_is_not_shown_are_found_before_the_launch() {
    let names = ["net.core.somaxconn", "net.core.xfrm_acq_expires", "net.ipv6.route.gc_timeout"];
    let keys = names.map(|name| format!("{name} = 8\n")).concat();
    let of = |version: &str, user: &str| {
        let mut host = Table::version1();
        host.file("/proc/sys/kernel/osrelease", version);
        for name in names {
            host.file(&format!("/proc/sys/{}", name.replace('.', "/")), "");
        }
        findings(&host, &format!("{WEB}[namespaces]\nuser = \"{user}\"\n[security.sysctl]\n{keys}"))
    };
    assert_data_eq!(of("6.1.0-9-amd64\n", "auto"), str![""]);
    let always = str![[r#"
E0310 web.toml:9 a user namespace has no `net.core.xfrm_acq_expires` (shown to networks of the host's root alone)
E0310 web.toml:10 a user namespace has no `net.ipv6.route.gc_timeout` (shown to networks of the host's root alone)

"#]];
    assert_data_eq!(of("6.3.1\n", "private"), always);
    assert_data_eq!(
        of("6.2.16\n", "private"),
        str![[r#"
E0310 web.toml:8 a user namespace has no `net.core.somaxconn` (Linux 6.3 shows it there)
E0310 web.toml:9 a user namespace has no `net.core.xfrm_acq_expires` (shown to networks of the host's root alone)
E0310 web.toml:10 a user namespace has no `net.ipv6.route.gc_timeout` (shown to networks of the host's root alone)

"#]]
    );
}

#[test]
fn shared_namespaces_cannot_be_renamed() {
    let mut host = Table::bare();
    host.file("/proc/9/ns/uts", "");
    let unit = format!("hostname = \"a\"\n{WEB}[namespaces]\nuts = \"/proc/9/ns/uts\"\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0205 web.toml:1 `hostname` would rename another jail (needs a private uts namespace)

"#]]
    );
}
