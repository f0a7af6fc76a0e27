//! Every key: in the file, behind `--set`, and with its default written out.

use super::host::Table;
use super::{Essence, WEB, essence};
use crate::unit::keys;

/// Fails with the first difference alone: a whole plan is too long to read.
fn same(what: &str, one: Essence, other: Essence) {
    assert_eq!(one.1, other.1, "{what}: what is said");
    assert_eq!(one.0.is_some(), other.0.is_some(), "{what}: whether there is a plan");
    let (one, other) = (one.0.unwrap_or_default(), other.0.unwrap_or_default());
    for (left, right) in one.iter().zip(&other) {
        assert_eq!(left, right, "{what}");
    }
    assert_eq!(one.len(), other.len(), "{what}: number of steps");
}

/// A value for each key that is not of `[[mounts]]`, and what else it needs.
fn sample(table: &str, name: &str) -> (&'static str, &'static str) {
    let root = "root.path = \"/srv/web\"\n";
    match (table, name) {
        ("", "name") => ("\"other\"", root),
        ("", "description") => ("\"a jail\"", root),
        ("", "hostname" | "domainname") => ("\"host-a\"", root),
        ("root", "path") => ("\"/srv/web\"", ""),
        ("root", "host") => ("true", ""),
        ("root", "tmpfs") => ("\"4M\"", ""),
        ("root", "inodes") => ("99", "root.tmpfs = \"1M\"\n"),
        ("root", "mode") => ("\"700\"", "root.tmpfs = \"1M\"\n"),
        ("root", "populate") => ("[\"/srv/web\"]", "root.tmpfs = \"1M\"\n"),
        ("root", "lower") => ("[\"/srv/web\"]", ""),
        ("root", "upper") => ("\"tmpfs\"", "root.lower = [\"/srv/web\"]\n"),
        ("root", "work") => ("\"/etc\"", "root.upper = \"/units\"\nroot.lower = [\"/srv/web\"]\n"),
        ("root", "upper-size") => {
            ("\"1M\"", "root.upper = \"tmpfs\"\nroot.lower = [\"/srv/web\"]\n")
        }
        ("root", "binaries") => ("[\"true\"]", ""),
        ("root", "libraries") => ("[\"libm.so.6\"]", "root.binaries = [\"true\"]\n"),
        ("root", "files") => ("[\"/etc\"]", "root.binaries = [\"true\"]\n"),
        ("root", "with") => ("[\"nss\"]", "root.binaries = [\"true\"]\n"),
        ("root", "ephemeral") => ("true", root),
        ("root", "ephemeral-size") => {
            ("\"1M\"", "root.ephemeral = true\nroot.path = \"/srv/web\"\n")
        }
        ("root", "tar") => ("\"/etc/root.tar\"", ""),
        ("root", "sha256") => (
            "\"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"",
            "root.tar = \"/etc/root.tar\"\n",
        ),
        ("root", "strip-components") => ("1", "root.tar = \"/etc/root.tar\"\n"),
        ("root", "oci") => ("\"/etc:tag\"", ""),
        ("root", "image") => ("\"/units/root.img\"", ""),
        ("root", "fstype") => ("\"erofs\"", "root.image = \"/units/root.img\"\n"),
        ("root", "offset") => ("\"1M\"", "root.image = \"/units/root.img\"\n"),
        ("root", "read-only") => ("true", root),
        ("root", "switch") => ("\"chroot\"", root),
        ("root", "api-filesystems") => ("[\"/proc\"]", root),
        ("root", "propagation") => ("\"slave\"", root),
        ("namespaces", "user") => ("\"private\"", root),
        ("namespaces", "time") => ("\"private\"", root),
        ("namespaces", "time-offsets") => {
            ("{ boottime = \"1h\" }", "namespaces.time = \"private\"\nroot.path = \"/srv/web\"\n")
        }
        ("namespaces", _) => ("\"host\"", root),
        ("idmap", "mode") => {
            ("\"identity\"", "idmap.ownership = \"off\"\nroot.path = \"/srv/web\"\n")
        }
        ("idmap", "base") => ("70000", "idmap.count = 7\nroot.path = \"/srv/web\"\n"),
        ("idmap", "count" | "ownership") => {
            let value = if name == "count" { "70000" } else { "\"off\"" };
            (value, "idmap.base = 7\nroot.path = \"/srv/web\"\n")
        }
        ("idmap", "uid") => (
            "[{ inside = 0, outside = 7, count = 1 }]",
            "idmap.mode = \"manual\"\nidmap.gid = [{ inside = 0, outside = 7, count = 1 }]\nroot.path = \"/srv/web\"\n",
        ),
        ("idmap", "gid") => (
            "[{ inside = 0, outside = 7, count = 1 }]",
            "idmap.mode = \"manual\"\nidmap.uid = [{ inside = 0, outside = 7, count = 1 }]\nroot.path = \"/srv/web\"\n",
        ),
        ("limits", "memory" | "memory-high" | "memory-low") => ("\"64M\"", root),
        ("limits", "swap") => ("\"1M\"", "limits.memory = \"64M\"\nroot.path = \"/srv/web\"\n"),
        ("limits", "oom-group") => ("false", "limits.memory = \"64M\"\nroot.path = \"/srv/web\"\n"),
        ("limits", "cpu") => ("1.5", root),
        ("limits", "cpu-period" | "cpu-burst") => {
            ("\"20ms\"", "limits.cpu = 1\nroot.path = \"/srv/web\"\n")
        }
        ("limits", "cpu-weight" | "cpu-shares") => ("500", root),
        ("limits", "cpuset") => ("\"0-1\"", root),
        ("limits", "cpuset-mems") => ("\"0\"", root),
        ("limits", "pids") => ("17", root),
        ("limits", "on-missing") => ("\"skip\"", root),
        ("limits.blkio", "weight") => ("500", root),
        ("limits.blkio", "devices") => ("[{ path = \"/dev/vda\", read-bps = \"1M\" }]", root),
        ("limits.rlimits", _) => ("7", root),
        ("network", "mode") => ("\"host\"", root),
        ("security", "no-new-privileges") => ("false", root),
        ("security", "capabilities") => ("[\"CAP_KILL\"]", root),
        ("security", "ambient-capabilities") => {
            ("[\"CAP_KILL\"]", "security.capabilities = [\"CAP_KILL\"]\nroot.path = \"/srv/web\"\n")
        }
        ("security", "seccomp") => ("\"strict\"", root),
        ("security.seccomp", "default-action") => ("\"log\"", root),
        ("security.seccomp", "profile") => ("\"/etc/profile.json\"", root),
        ("security.seccomp", "allow") => ("[\"@mount\", \"ptrace\"]", root),
        ("security.seccomp", _) => ("[\"ptrace\"]", root),
        ("security", "masked-paths" | "read-only-paths") => ("[\"/data\"]", root),
        ("security.landlock", "read" | "write" | "execute") => ("[\"/tmp\"]", root),
        ("security.landlock", "bind-tcp" | "connect-tcp") => ("[80, 443]", root),
        ("security.landlock", "scope") => ("[\"signal\"]", root),
        ("security.landlock", "best-effort") => {
            ("true", "security.landlock.bind-tcp = []\nroot.path = \"/srv/web\"\n")
        }
        ("security", "keyring") => ("\"host\"", root),
        ("security", "sysctl") => ("{ \"kernel.shmmni\" = 99, net.ipv4.ip_forward = \"1\" }", root),
        ("security", "allow-dangerous-binds") => (
            "true",
            "mounts = [{ bind = \"/proc\", target = \"/data\" }]\nroot.path = \"/srv/web\"\n",
        ),
        ("process", "command") => ("[\"/bin/true\", \"x\"]", root),
        ("process", "env") => ("{ A = \"b\", \"C.D\" = \"e\" }", root),
        ("process", "env-pass") => ("[\"LANG\"]", root),
        ("process", "cwd") => ("\"/tmp\"", root),
        ("process", "user") => ("\"www\"", root),
        ("process", "group") => ("\"staff\"", root),
        ("process", "supplementary-groups") => ("[50, \"staff\"]", root),
        ("process", "umask") => ("\"077\"", root),
        ("process", "init") => ("false", root),
        ("process", "tty") => ("true", root),
        ("process", "stdin" | "stdout" | "stderr") => ("\"null\"", root),
        ("process", "pass-fds") => ("[7, 5]", root),
        ("process", "nice" | "oom-score-adjust") => ("5", root),
        ("process", "cpu-affinity") => ("\"0-1\"", root),
        ("lifecycle", "timeout" | "stop-grace") => ("\"1m 30s\"", root),
        ("lifecycle", "stop-signal") => ("\"SIGUSR1\"", root),
        _ => panic!("a key without a sample: {table}.{name}"),
    }
}

#[test]
fn every_key_means_the_same_in_the_file_and_behind_set() {
    let host = Table::version1();
    for key in keys::KEYS.iter().filter(|key| !keys::is_repeated(key.table)) {
        let (value, base) = sample(key.table, key.name);
        let dotted = match key.table {
            "" => key.name.to_owned(),
            table => format!("{table}.{}", key.name),
        };
        let command =
            if dotted == "process.command" { "" } else { "process.command = [\"true\"]\n" };
        let without = format!("{command}{base}");
        let in_file = essence(&host, &format!("{dotted} = {value}\n{without}"), &[]);
        let with_set = essence(&host, &without, &[format!("{dotted}={value}")]);
        same(&dotted, in_file.clone(), with_set);
        // A string needs no quotes behind --set.
        if let Some(bare) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
            && bare.parse::<f64>().is_err()
        {
            same(
                &format!("{dotted}={bare}"),
                in_file.clone(),
                essence(&host, &without, &[format!("{dotted}={bare}")]),
            );
        }
        // The sample must make a difference, or this test shows nothing.
        if !matches!(
            &*dotted,
            "description" | "limits.on-missing" | "security.landlock.best-effort"
        ) {
            assert!(in_file != essence(&host, &without, &[]), "{dotted} = {value} changes nothing");
        }
        // And an empty value takes it away.
        same(
            &format!("{dotted}="),
            essence(&host, &format!("{dotted} = {value}\n{without}"), &[format!("{dotted}=")]),
            essence(&host, &without, &[]),
        );
    }
}

#[test]
fn blanks_around_the_sign_of_an_assignment_mean_nothing() {
    // As TOML writes it, in a shell's quotes.
    let host = Table::version1();
    for assignment in
        ["limits.pids = 7", "limits.memory = 64M", "process.command = [\"true\", \"x\"]"]
    {
        let tight = assignment.replacen(" = ", "=", 1);
        same(
            assignment,
            essence(&host, WEB, &[tight]),
            essence(&host, WEB, &[assignment.to_owned()]),
        );
    }
}

#[test]
fn mounts_mean_the_same_in_the_file_and_behind_set() {
    let host = Table::version1();
    let in_file =
        essence(&host, &format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/data\"\n"), &[]);
    let with_set =
        essence(&host, WEB, &["mounts=[{ tmpfs = \"1M\", target = \"/data\" }]".to_owned()]);
    assert!(in_file.0.is_some());
    same("mounts", in_file, with_set);
}

/// Keys whose default is the kernel's: written out they write what is there
/// already, which is a step more.
const KERNELS_OWN: [&str; 3] = ["limits.cpu-weight", "limits.blkio.weight", "limits.cpu-burst"];

#[test]
fn every_default_that_is_documented_can_be_written_and_changes_nothing() {
    for host in [Table::version1(), Table::version2("", "")] {
        for key in keys::KEYS.iter().filter(|key| !key.default.is_empty()) {
            if key.table == "devices" {
                let base = format!("{WEB}[[devices]]\npath = \"/dev/vda\"\n");
                let written = format!("{base}{} = {}\n", key.name, key.default);
                same(key.name, essence(&host, &written, &[]), essence(&host, &base, &[]));
                continue;
            }
            if key.table == "mounts" {
                let kind = match key.name {
                    "recursive" | "optional" | "idmap" => "bind = \"/etc\"",
                    _ => "tmpfs = \"1M\"",
                };
                let base = format!("{WEB}[[mounts]]\n{kind}\ntarget = \"/data\"\n");
                let written = format!("{base}{} = {}\n", key.name, key.default);
                same(key.name, essence(&host, &written, &[]), essence(&host, &base, &[]));
                continue;
            }
            let dotted = format!("{}.{}", key.table, key.name);
            if KERNELS_OWN.contains(&&*dotted) {
                continue;
            }
            let base = match &*dotted {
                "root.upper-size" => {
                    "root.upper = \"tmpfs\"\nroot.lower = [\"/srv/web\"]\nprocess.command = [\"true\"]\n"
                }
                "root.ephemeral-size" => {
                    "root.ephemeral = true\nroot.path = \"/srv/web\"\nprocess.command = [\"true\"]\n"
                }
                "root.strip-components" => {
                    "root.tar = \"/etc/root.tar\"\nprocess.command = [\"true\"]\n"
                }
                "root.offset" => "root.image = \"/units/root.img\"\nprocess.command = [\"true\"]\n",
                "idmap.mode" | "idmap.count" | "idmap.ownership" => {
                    "idmap.base = 100000\nroot.path = \"/srv/web\"\nprocess.command = [\"true\"]\n"
                }
                "root.mode" => "root.tmpfs = \"1M\"\nprocess.command = [\"/x\"]\n",
                "limits.cpu-burst" => {
                    "limits.cpu = 1\nroot.path = \"/srv/web\"\nprocess.command = [\"true\"]\n"
                }
                _ => "root.path = \"/srv/web\"\nprocess.command = [\"true\"]\n",
            };
            let written = format!("{dotted} = {}\n{base}", key.default);
            same(
                &format!("{dotted} = {}", key.default),
                essence(&host, &written, &[]),
                essence(&host, base, &[]),
            );
        }
    }
}
