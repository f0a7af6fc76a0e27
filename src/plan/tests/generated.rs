//! Units and hosts as they could be.

use proptest::prelude::*;

use super::host::Table;

/// A mount entry that could be in a unit.
pub(super) fn any_mount() -> impl Strategy<Value = String> {
    let kinds = prop::sample::select(vec![
        "bind = \"/etc\"",
        "bind = \"/home/me\"",
        "bind = \"/dev/null\"",
        "bind = \"/nowhere\"\noptional = true",
        "bind = \"/srv/web/data\"\nrecursive = false",
        "tmpfs = \"1M\"",
        "tmpfs = \"2M\"\nmode = \"1777\"",
        "proc = true",
        "sysfs = true",
        "devpts = true",
        "mqueue = true",
        "cgroup = true",
        "content = \"hello\"",
        "symlink = \"/etc\"",
    ]);
    let targets = prop::sample::select(vec![
        "/data",
        "/data/below",
        "/tmp/a",
        "/tmp/a/b",
        "/run/x",
        "/var/run/y",
        "/bin/tool",
        "/new",
        "/new/deep/er",
        "/etc/passwd",
        "/dev/extra",
        "/proc/sys",
        "/proc/keys",
    ]);
    let flags = prop::sample::select(vec![
        "",
        "read-only = true",
        "noexec = true",
        "create = false",
        "propagation = \"slave\"",
        "propagation = \"shared\"",
    ]);
    (kinds, targets, flags).prop_map(|(kind, target, flag)| {
        format!("[[mounts]]\n{kind}\ntarget = \"{target}\"\n{flag}\n")
    })
}

/// A unit that is mostly sound; parts are chosen independently.
pub(super) fn any_unit() -> impl Strategy<Value = String> {
    let root = prop::sample::select(vec![
        "path = \"/srv/web\"",
        "host = true",
        "tmpfs = \"16M\"",
        "tmpfs = \"16M\"\nread-only = true",
        "path = \"/srv/web\"\nread-only = true",
        "path = \"/srv/web\"\nswitch = \"chroot\"",
        "path = \"/srv/web\"\npropagation = \"shared\"",
        "path = \"/srv/web\"\npropagation = \"slave\"",
        "path = \"/srv/web\"\napi-filesystems = false",
        "path = \"/srv/web\"\napi-filesystems = [\"/proc\", \"/dev\"]",
    ]);
    let namespaces = prop::sample::select(vec![
        "",
        "pid = \"host\"",
        "ipc = \"host\"\nuts = \"host\"",
        "user = \"private\"",
        "cgroup = \"host\"",
        "time = \"private\"\ntime-offsets = { boottime = \"1h\" }",
        "pid = \"/proc/self/ns/pid\"",
        "uts = \"/proc/self/ns/uts\"",
    ]);
    let process = prop::sample::select(vec![
        "",
        "user = 33",
        "user = \"www\"",
        "init = false",
        "tty = true",
        "nice = 5\numask = \"077\"",
        "stdin = \"null\"\nstdout = \"null\"\nstderr = \"append:/tmp/log\"",
        "cpu-affinity = \"0-1\"",
        "env = { A = \"b\" }\nenv-pass = [\"LANG\"]\npass-fds = [5, 3]\ncwd = \"/tmp\"",
        "oom-score-adjust = 100\nsupplementary-groups = [50]",
    ]);
    let limits = prop::sample::select(vec![
        "",
        "memory = \"64M\"\nswap = 0",
        "cpu = 0.5\ncpuset = \"0\"",
        "pids = \"infinity\"",
        "memory-high = \"10M\"\non-missing = \"skip\"",
        "rlimits.nofile = 64",
        "blkio.devices = [{ path = \"/\", read-bps = \"1M\" }]",
    ]);
    let security = prop::sample::select(vec![
        "",
        "capabilities = \"default\"",
        "capabilities = \"all\"\nno-new-privileges = false",
        "capabilities = [\"CAP_KILL\"]\nambient-capabilities = [\"CAP_KILL\"]",
    ]);
    let network = prop::sample::select(vec!["none", "host"]);
    let mounts = prop::collection::vec(any_mount(), 0..5);
    (root, namespaces, process, limits, security, network, mounts).prop_map(
        |(root, namespaces, process, limits, security, network, mounts)| {
            format!(
                "[root]\n{root}\n[namespaces]\n{namespaces}\n[process]\ncommand = [\"/usr/bin/true\"]\n{process}\n[limits]\n{limits}\n[security]\n{security}\n[network]\nmode = \"{network}\"\n{}",
                mounts.concat()
            )
        },
    )
}

pub(super) fn any_host() -> impl Strategy<Value = Table> {
    (0..6_usize, any::<bool>(), any::<bool>()).prop_map(|(groups, user, terminal)| {
        let mut host = match groups {
            0 => Table::bare(),
            1 => Table::version1(),
            2 => Table::version2("", ""),
            3 => Table::version2("a/b", "pids"),
            _ => {
                let mut host = Table::version2("a/b", "");
                host.delegated = vec!["/sys/fs/cgroup/a/b".into()];
                host
            }
        };
        host.terminal = terminal;
        if user { host.for_user() } else { host }
    })
}

/// Where to cut a text and what to put there.
pub(super) fn any_edit() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
    let junk = prop_oneof![
        Just(String::new()),
        "[\\PC\n]{0,12}",
        prop::sample::select(vec![
            "\"",
            "'''",
            "[",
            "[[",
            "{",
            "}",
            "=",
            "\n",
            "\0",
            "-",
            "..",
            "/",
            "0x",
            "9999999999999999999",
            "4294967295",
            "-1",
            "true",
            "1e400",
            "nan",
            "1979-05-27",
            "infinity",
            "\u{202e}",
            "@default",
            "%",
        ])
        .prop_map(str::to_owned),
    ];
    (any::<prop::sample::Index>(), 0..8_usize, junk)
}

pub(super) fn edit(text: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, length, junk) in edits {
        let at = at.index(chars.len() + 1);
        let end = (at + length).min(chars.len());
        chars.splice(at..end, junk.chars());
    }
    chars.into_iter().collect()
}
