//! The table of keys: the one place that says which keys exist, what they
//! take, what holds when they are absent, and what they mean.
//!
//! Decoding refuses what is not here, suggestions search here, `--dry-run`
//! lists defaults from here, and `jailrun.toml(5)` is generated from here.

/// One key of the unit file.
#[derive(Debug)]
pub struct Key {
    /// The table that holds it, `""` for the top level.
    pub table: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it takes, in words.
    pub takes: &'static str,
    /// What holds when it is absent, as one would write it; `""` for nothing.
    pub default: &'static str,
    /// What it means.
    pub doc: &'static str,
}

/// One table of the unit file.
#[derive(Debug)]
pub struct TableKey {
    /// Dotted name, `""` for the top level.
    pub name: &'static str,
    /// Whether it is written `[[name]]`, once per entry.
    pub repeated: bool,
    /// What it holds.
    pub doc: &'static str,
}

/// Keys of one table.
pub fn of(table: &str) -> &'static [Key] {
    let place = TABLES.iter().position(|known| known.name == table).map(|index| PLACES[index]);
    place.map_or(&[], |(first, end)| &KEYS[first..end])
}

/// Where the keys of each table begin and end in [`KEYS`]: a unit's tables are
/// looked up on every launch.
const PLACES: [(usize, usize); TABLES.len()] = places();

const fn places() -> [(usize, usize); TABLES.len()] {
    let mut places = [(0, 0); TABLES.len()];
    let (mut table, mut key) = (0, 0);
    while table < TABLES.len() {
        let first = key;
        while key < KEYS.len() && is_same(KEYS[key].table, TABLES[table].name) {
            key += 1;
        }
        places[table] = (first, key);
        table += 1;
    }
    assert!(key == KEYS.len(), "the keys are in the order of the tables");
    places
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// What a word means that other tools have for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meant {
    /// A key of the same table that takes the same values.
    Key(&'static str),
    /// What is written otherwise here, and how.
    Words(&'static str),
}

/// What a word in a table means that is no key here, where others know it:
/// Docker and Compose, OCI, systemd, bubblewrap, firejail, nsjail.
pub fn meant(table: &str, word: &str) -> Option<Meant> {
    use Meant::{Key, Words};
    const ENV: &str = "variables are a table: `env = { NAME = \"value\" }` in `[process]`";
    const MOUNTS: &str = "each is an entry of its own: `[[mounts]]` with `target` and `bind`";
    const CAPABILITIES: &str = "`capabilities` in `[security]` lists what is kept: `[\"CAP_KILL\"]`, and `\"none\"`, which is the default";
    const PORTS: &str = "`mode = \"host\"` in `[network]` shares the host's ports";
    Some(match (table, &*super::decode::fold(word)) {
        ("", "volumes" | "binds" | "mount" | "volume") => Words(MOUNTS),
        ("", "env" | "environment") => Words(ENV),
        ("", "ports" | "publish") | ("network", "ports" | "publish") => Words(PORTS),
        ("", "cmd" | "entrypoint" | "exec" | "args" | "argv") => {
            Words("`command = [\"program\", \"argument\"]` in `[process]`")
        }
        ("", "rlimits" | "ulimits") => Words("they are a table in another: `[limits.rlimits]`"),
        ("", "blkio") => Words("it is a table in another: `[limits.blkio]`"),
        ("", "landlock") => Words("it is a table in another: `[security.landlock]`"),
        ("root", "dir" | "directory" | "rootfs") => Key("path"),
        ("process", "cmd" | "entrypoint" | "exec" | "argv") => Key("command"),
        ("process", "args") => Words("arguments follow the program in `command`"),
        ("process", "environment" | "environ" | "enviroment") => Words(ENV),
        ("process", "workdir" | "working-dir" | "working-directory" | "chdir") => Key("cwd"),
        ("process", "uid") => Key("user"),
        ("process", "gid") => Key("group"),
        ("process", "groups" | "additional-gids") => Key("supplementary-groups"),
        ("limits", "cpus") => Key("cpu"),
        ("limits", "cpuset-cpus" | "allowed-cpus") => Key("cpuset"),
        ("limits", "mem-limit" | "memory-limit" | "memory-max") => Key("memory"),
        ("limits", "memory-swap-max") => Key("swap"),
        ("limits", "pids-limit" | "pids-max" | "tasks-max") => Key("pids"),
        ("mounts", "source" | "src") => Key("bind"),
        ("mounts", "dst" | "dest" | "destination") => Key("target"),
        ("mounts", "ro") => Key("read-only"),
        ("mounts", "ro-bind" | "bind-ro") => {
            Words("`bind` with `read-only = true` in the same entry")
        }
        ("mounts", "type" | "fstype") => Words(
            "the kind is the key: `bind = \"/directory\"`, `tmpfs = \"64M\"`, `proc = true` and others",
        ),
        ("mounts", "options") => Words("options are keys: `read-only`, `noexec`, `nosuid`, …"),
        ("security", "caps") => Key("capabilities"),
        ("security", "cap-add" | "cap-drop" | "cap-keep") => Words(CAPABILITIES),
        ("", "cap-add" | "cap-drop" | "privileged") => Words(CAPABILITIES),
        _ => return None,
    })
}

/// Whether a table is written `[[name]]`.
pub fn is_repeated(table: &str) -> bool {
    TABLES.iter().any(|known| known.name == table && known.repeated)
}

/// The key of that table and name.
pub fn find(table: &str, name: &str) -> Option<&'static Key> {
    of(table).iter().find(|key| key.name == name)
}

const fn key(
    table: &'static str,
    name: &'static str,
    takes: &'static str,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key { table, name, takes, default, doc }
}

const fn table(name: &'static str, doc: &'static str) -> TableKey {
    TableKey { name, repeated: false, doc }
}

/// Every table, in the order of the manual page.
pub const TABLES: &[TableKey] = &[
    table("", "Keys at the top of the file, before any table."),
    table(
        "root",
        "The file system the jail sees as `/`. Exactly one of `path`, `host`, `tmpfs`, `lower`, `binaries`, `tar`, `oci` and `image`.",
    ),
    table(
        "namespaces",
        "What the jail has for itself. The mount namespace is always private; the network namespace belongs to `[network]`.",
    ),
    table(
        "idmap",
        "Which users and groups of the host those of the jail are, in a user namespace of its own, which the jail gets when this table is there. Without it, root inside is the only user of an ordinary user's jail, and is the caller outside; root's jails share the host's users.",
    ),
    TableKey {
        name: "mounts",
        repeated: true,
        doc: "What is put into the root, applied in the order written. Exactly one of `bind`, `tmpfs`, `overlay`, `image`, `proc`, `sysfs`, `devpts`, `mqueue`, `cgroup`, `content`, `symlink` and `mask` says what.",
    },
    table(
        "limits",
        "What the jail may use, kept by the kernel's control groups. Sizes are bytes or \"512M\" (K M G T, powers of 1024). Amounts and rates take \"infinity\", which is no limit; weights and sets of CPUs are left out instead.",
    ),
    table("limits.blkio", "How much of block devices the jail may use."),
    table("limits.rlimits", "Limits of each process, see getrlimit(2)."),
    TableKey {
        name: "devices",
        repeated: true,
        doc: "Device nodes of the host that the jail has besides null zero full random urandom tty. They are bound read-only: nobody inside changes their mode. All others are refused by the devices controller where the jail could otherwise make or open one: with CAP_MKNOD or CAP_SYS_ADMIN, a mount with `nodev = false`, devices listed here, `switch = \"chroot\"` or a shared pid namespace. `--dry-run` says whether it is put up. An ordinary user cannot set it: their jail opens of the nodes what the caller may.",
    },
    table("network", "What the jail can reach."),
    table("security", "What the processes of the jail may do."),
    table(
        "security.seccomp",
        "A filter for system calls, put together. Without `default-action` and `profile` the lists change the default filter. A name outweighs a set; in doubt what is stricter holds: `kill`, `deny`, `log`, `allow`.",
    ),
    table(
        "security.landlock",
        "What the command and all it starts can reach of what they see; landlock(7). A key that is absent restricts nothing, one that is an empty list allows nothing. Paths are those of the jail, and what lies below them; the command's own files must be among them, with its interpreter and libraries. Files can be moved between directories that are writable, and to no place where more may be done with them.",
    ),
    table("process", "The command and its surroundings."),
    table("lifecycle", "When and how the jail ends."),
];

/// What every rlimit takes.
const RLIMIT: &str = "number, size, \"infinity\" or { soft, hard }";

/// Every key, in the order of the manual page.
pub const KEYS: &[Key] = &[
    key(
        "",
        "name",
        "string",
        "",
        "Name of the jail: lower-case letters, digits, `.` and `-`, at most 63. Only one jail of a name runs at a time. Without it, the file's stem.",
    ),
    key("", "description", "string", "", "A sentence for people."),
    key(
        "",
        "hostname",
        "string",
        "",
        "Host name inside, which needs a private uts namespace. Without it, the name.",
    ),
    key(
        "",
        "domainname",
        "string",
        "",
        "NIS domain name inside, which needs a private uts namespace.",
    ),
    key(
        "root",
        "path",
        "path",
        "",
        "A directory that holds a root file system. A relative path starts at the unit's directory.",
    ),
    key(
        "root",
        "host",
        "true",
        "",
        "The host's own tree, with everything mounted in it; read-only unless `read-only = false`.",
    ),
    key("root", "tmpfs", "size", "", "An empty file system in memory, of that size."),
    key(
        "root",
        "inodes",
        "number",
        "",
        "With `tmpfs`: at most that many files. Without it, one per 16 KiB of the size.",
    ),
    key("root", "mode", "octal string", "\"755\"", "With `tmpfs`: permission bits of `/`."),
    key(
        "root",
        "populate",
        "paths",
        "",
        "With `tmpfs`: directories whose content is copied into it, and tar archives that are unpacked into it, in that order.",
    ),
    key(
        "root",
        "lower",
        "paths",
        "",
        "Directories laid over each other by overlayfs, top-most first. They are never written to.",
    ),
    key(
        "root",
        "upper",
        "path or \"tmpfs\"",
        "",
        "With `lower`: the directory that takes the changes, which must exist, or memory that is gone with the jail. Without it the root is read-only.",
    ),
    key(
        "root",
        "work",
        "path",
        "",
        "With `upper`: the kernel's scratch directory, on the same file system. Without it, a directory beside `upper`, made where it is missing: `.changes.work` for `upper = \"changes\"`. The kernel empties it: a symbolic link in its place is refused.",
    ),
    key(
        "root",
        "upper-size",
        "size or percentage",
        "\"50%\"",
        "With `upper = \"tmpfs\"`: how much memory the changes may take, a percentage being one of the host's memory.",
    ),
    key(
        "root",
        "binaries",
        "strings",
        "",
        "Programs of the host, by path or by name, with the loader, libraries and script interpreters that their files name, each bound in read-only. Nothing else of the host is in the root, and nothing is run to find out.",
    ),
    key(
        "root",
        "libraries",
        "strings",
        "",
        "With `binaries`: libraries besides, by path or by the name that programs ask for, with what they need.",
    ),
    key(
        "root",
        "files",
        "paths",
        "",
        "With `binaries`: files and directories of the host besides, at the same place.",
    ),
    key(
        "root",
        "with",
        "list of \"nss\", \"ca-certificates\", \"tzdata\", \"locale\", \"terminfo\"",
        "",
        "With `binaries`: files that many programs open by name, for looking up names, for TLS, time zones, languages and terminals.",
    ),
    key(
        "root",
        "tar",
        "path",
        "",
        "An archive of a root: plain, gzip or zstd. It is unpacked once, into the store, and never written to.",
    ),
    key("root", "sha256", "string", "", "With `tar`: the SHA-256 digest that the file must have."),
    key(
        "root",
        "strip-components",
        "0 to 1000",
        "0",
        "With `tar`: so many leading components are taken off every name.",
    ),
    key(
        "root",
        "oci",
        "path, or path:reference",
        "",
        "An image: an OCI layout, an OCI archive, or an archive of `docker save`. Its layers are verified and unpacked once, into the store, and never written to. `command`, `env`, `cwd`, `user`, `group` and `stop-signal` are those of its configuration where the unit does not set them; arguments behind `--` replace its `Cmd`.",
    ),
    key(
        "root",
        "image",
        "path",
        "",
        "A file with a squashfs, erofs or ext4 file system, mounted through a loop device, and never written to. Needs root.",
    ),
    key(
        "root",
        "fstype",
        "\"squashfs\", \"erofs\" or \"ext4\"",
        "",
        "With `image`: which of them it is. Without it, that is found out.",
    ),
    key("root", "offset", "size", "0", "With `image`: where the file system begins."),
    key(
        "root",
        "read-only",
        "boolean",
        "false",
        "Makes the root, and every mount below it, read-only. True for every kind but `path`, `tmpfs` and `lower` with `upper`; with `ephemeral` false again.",
    ),
    key(
        "root",
        "ephemeral",
        "boolean",
        "false",
        "Lets the jail write to its root, whatever the kind, and throws the changes away at its end: they go to memory laid over it. Without capabilities, root inside changes only what belongs to root and lets its owner write: `security.capabilities = \"default\"` gives those of Docker. Over a tree with other mounts in it, such as the host's, this needs root.",
    ),
    key(
        "root",
        "ephemeral-size",
        "size or percentage",
        "\"50%\"",
        "With `ephemeral`: how much memory the changes may take.",
    ),
    key(
        "root",
        "switch",
        "\"pivot\" or \"chroot\"",
        "\"pivot\"",
        "How the root is entered. `chroot` exists for comparison: a process with CAP_SYS_CHROOT walks out of it.",
    ),
    key(
        "root",
        "api-filesystems",
        "boolean or paths",
        "true",
        "The kernel's file systems: `/proc`, `/sys` (read-only), `/dev` (null zero full random urandom tty pts ptmx shm mqueue fd stdin stdout stderr), `/tmp` and `/run`. All, none, or a list of those wanted.",
    ),
    key(
        "root",
        "propagation",
        "\"private\", \"slave\", \"shared\" or \"unbindable\"",
        "\"private\"",
        "Propagation type of the root's mounts, see mount_namespaces(7).",
    ),
    key(
        "namespaces",
        "pid",
        "\"private\", \"host\", path or \"jail:NAME\"",
        "\"private\"",
        "Process ids. A path joins the namespace of that file, `jail:NAME` that of the running jail of that name, for which root is needed. Without one of its own, what the command leaves running is killed when it ends, unless jailrun was killed before.",
    ),
    key(
        "namespaces",
        "ipc",
        "\"private\", \"host\", path or \"jail:NAME\"",
        "\"private\"",
        "System V IPC and POSIX message queues.",
    ),
    key(
        "namespaces",
        "uts",
        "\"private\", \"host\", path or \"jail:NAME\"",
        "\"private\"",
        "Host and domain name.",
    ),
    key(
        "namespaces",
        "cgroup",
        "\"private\", \"host\", path or \"jail:NAME\"",
        "\"private\"",
        "View of the control groups.",
    ),
    key(
        "namespaces",
        "user",
        "\"auto\", \"private\" or \"host\"",
        "\"auto\"",
        "User and group ids. `auto` is `private` when the caller is not root and `host` when it is. In a private one the caller is root inside, and nobody else exists.",
    ),
    key(
        "namespaces",
        "time",
        "\"private\" or \"host\"",
        "\"host\"",
        "Monotonic and boot-time clocks.",
    ),
    key(
        "namespaces",
        "time-offsets",
        "{ monotonic, boottime }",
        "",
        "With `time = \"private\"`: durations added to the clocks inside, such as \"1h\" or \"-30s\".",
    ),
    key(
        "idmap",
        "mode",
        "\"auto\", \"identity\", \"root\" or \"manual\"",
        "\"auto\"",
        "\"auto\": ids that nobody else has. For root, a range for each name of a jail, from 1879048192 on and outside of those in /etc/subuid and /etc/subgid; for an ordinary user, root inside is the caller, and what follows are the caller's ranges in these files, by newuidmap(1). \"identity\": the same numbers, for root. \"root\": root alone, who is the caller. \"manual\": as `uid` and `gid` say.",
    ),
    key(
        "idmap",
        "base",
        "number",
        "",
        "With \"auto\": the first id of the host. For an ordinary user, of the ids behind root's.",
    ),
    key(
        "idmap",
        "count",
        "number",
        "65536",
        "With \"auto\" and \"identity\": how many ids there are inside, from 0 on. An ordinary user who does not say it gets as many as the ranges hold.",
    ),
    key(
        "idmap",
        "uid",
        "list of { inside, outside, count }",
        "",
        "With \"manual\": user ids, range by range: the first inside, the first of the host, how many. One of them has 0 inside.",
    ),
    key(
        "idmap",
        "gid",
        "list of { inside, outside, count }",
        "",
        "With \"manual\": group ids, in the same way.",
    ),
    key(
        "idmap",
        "ownership",
        "\"auto\", \"map\", \"chown\" or \"off\"",
        "\"auto\"",
        "How the files of the root come to belong to the jail's users of the same numbers. \"map\": by mounts with mapped ids, which change nothing on disk and need root and a file system that can do it. \"chown\": by new owners on disk, once, for a directory as the root. \"off\": not at all; ids without a place in the map show as 65534. \"auto\" is \"map\" for root where the numbers differ, and otherwise \"off\"; the host's own tree is left as it is.",
    ),
    key("mounts", "target", "path", "", "Where, inside the jail: absolute, without `..`."),
    key(
        "mounts",
        "bind",
        "path",
        "",
        "A file or directory of the host. A relative path starts at the unit's directory.",
    ),
    key("mounts", "tmpfs", "size", "", "An empty file system in memory, of that size."),
    key(
        "mounts",
        "overlay",
        "{ lower, upper, work }",
        "",
        "Directories laid over each other: `lower` is a list, top-most first; `upper`, a directory or \"tmpfs\", takes the changes.",
    ),
    key(
        "mounts",
        "image",
        "path",
        "",
        "A file with a squashfs, erofs or ext4 file system, mounted read-only through a loop device. Needs root.",
    ),
    key("mounts", "proc", "true", "", "The process file system of the jail's pid namespace."),
    key("mounts", "sysfs", "true", "", "The kernel's objects, read-only."),
    key("mounts", "devpts", "true", "", "Pseudo-terminals of the jail's own."),
    key("mounts", "mqueue", "true", "", "POSIX message queues of the jail's ipc namespace."),
    key("mounts", "cgroup", "true", "", "The jail's control groups, read-only."),
    key("mounts", "content", "string", "", "A read-only file with that text."),
    key("mounts", "symlink", "string", "", "A symbolic link to that path."),
    key(
        "mounts",
        "mask",
        "true",
        "",
        "Hides what is there: an empty read-only directory over a directory, `/dev/null` over a file.",
    ),
    key("mounts", "read-only", "boolean", "false", "No writes, also in the mounts below."),
    key("mounts", "recursive", "boolean", "true", "With `bind`: with the mounts below the source."),
    key(
        "mounts",
        "optional",
        "boolean",
        "false",
        "With `bind` and `mask`: left out when the host, or the root, does not have the path.",
    ),
    key(
        "mounts",
        "create",
        "\"auto\", \"dir\", \"file\" or false",
        "\"auto\"",
        "What to create as the mount point when it is missing. `auto` takes after the source.",
    ),
    key(
        "mounts",
        "nosuid",
        "boolean",
        "true",
        "Set-user-id bits and file capabilities have no effect.",
    ),
    key("mounts", "nodev", "boolean", "true", "Device nodes cannot be opened."),
    key("mounts", "noexec", "boolean", "false", "Files cannot be executed."),
    key("mounts", "noatime", "boolean", "false", "Access times are not updated."),
    key(
        "mounts",
        "propagation",
        "\"private\", \"slave\", \"shared\" or \"unbindable\"",
        "\"private\"",
        "Propagation type of the mount. \"slave\" is for `bind`, and needs it in `[root]` too: what the host mounts below the source comes in, whatever the flags of the mount.",
    ),
    key(
        "mounts",
        "idmap",
        "boolean",
        "false",
        "With `bind`: what belongs to an id of the host belongs to the same number inside, in both directions. Needs root, and `[idmap]`.",
    ),
    key(
        "mounts",
        "inodes",
        "number",
        "",
        "With `tmpfs`: at most that many files. Without it, one per 16 KiB of the size.",
    ),
    key(
        "mounts",
        "mode",
        "octal string",
        "\"755\"",
        "With `tmpfs`: permission bits. \"1777\" for `/tmp`.",
    ),
    key("mounts", "user", "name or uid", "0", "With `tmpfs`: owner."),
    key("mounts", "group", "name or gid", "0", "With `tmpfs`: group."),
    key(
        "limits",
        "memory",
        "size or \"50%\"",
        "\"infinity\"",
        "Memory in use, page cache included. Beyond it the kernel reclaims, then kills.",
    ),
    key(
        "limits",
        "memory-high",
        "size or \"50%\"",
        "\"infinity\"",
        "Memory above which the jail is throttled (cgroup v2 only).",
    ),
    key(
        "limits",
        "memory-low",
        "size or \"50%\"",
        "0",
        "Memory that is spared from reclaim (cgroup v2 only).",
    ),
    key("limits", "swap", "size or \"50%\"", "\"infinity\"", "Swap alone, in addition to memory."),
    key(
        "limits",
        "oom-group",
        "boolean",
        "true",
        "Running out of memory ends the whole jail, not one process of it.",
    ),
    key(
        "limits",
        "cpu",
        "number or \"150%\"",
        "\"infinity\"",
        "CPUs' worth of time per period: 1.5 is one and a half.",
    ),
    key("limits", "cpu-period", "duration", "\"100ms\"", "Period of `cpu`, from 1ms to 1s."),
    key(
        "limits",
        "cpu-burst",
        "duration",
        "\"0s\"",
        "Unused CPU time that may be saved up for a burst, at most the quota.",
    ),
    key("limits", "cpu-weight", "1 to 10000", "100", "Share of the CPUs when they are contended."),
    key(
        "limits",
        "cpu-shares",
        "2 to 262144",
        "",
        "The same in cgroup v1's measure, 1024 being the norm.",
    ),
    key("limits", "cpuset", "list such as \"0-3,6\"", "", "CPUs the jail may run on."),
    key("limits", "cpuset-mems", "list such as \"0\"", "", "Memory nodes the jail may use."),
    key(
        "limits",
        "pids",
        "number",
        "4096",
        "Processes and threads at one time, the jail's init among them. The default is left out where an ordinary user has no control group to set it in.",
    ),
    key(
        "limits",
        "on-missing",
        "\"error\", \"warn\" or \"skip\"",
        "\"error\"",
        "What to do about a limit that cannot be set on this host.",
    ),
    key("limits.blkio", "weight", "1 to 10000", "100", "Share of a contended device."),
    key(
        "limits.blkio",
        "devices",
        "[{ path, … }]",
        "[]",
        "Limits by device. `path` is a device (\"/dev/sda\", \"8:0\") or any path, which means the device its file system is on; with `read-bps`, `write-bps` (bytes per second), `read-iops`, `write-iops` and `weight`.",
    ),
    key("limits.rlimits", "as", RLIMIT, "", "Address space, bytes."),
    key("limits.rlimits", "core", RLIMIT, "0", "Core file, bytes."),
    key("limits.rlimits", "cpu", RLIMIT, "", "CPU time, seconds."),
    key("limits.rlimits", "data", RLIMIT, "", "Data segment, bytes."),
    key("limits.rlimits", "fsize", RLIMIT, "", "Size of a file written, bytes."),
    key("limits.rlimits", "locks", RLIMIT, "", "File locks."),
    key("limits.rlimits", "memlock", RLIMIT, "", "Locked memory, bytes."),
    key("limits.rlimits", "msgqueue", RLIMIT, "", "POSIX message queues, bytes."),
    key("limits.rlimits", "nice", RLIMIT, "", "Ceiling of the nice value, as 20 minus it."),
    key("limits.rlimits", "nofile", RLIMIT, "", "Open files."),
    key(
        "limits.rlimits",
        "nproc",
        RLIMIT,
        "",
        "Processes of the user, counted over the whole host: use `pids` to limit a jail.",
    ),
    key("limits.rlimits", "rss", RLIMIT, "", "Resident set, bytes (without effect in Linux)."),
    key("limits.rlimits", "rtprio", RLIMIT, "", "Ceiling of the real-time priority."),
    key(
        "limits.rlimits",
        "rttime",
        RLIMIT,
        "",
        "Real-time CPU time without a blocking call, microseconds.",
    ),
    key("limits.rlimits", "sigpending", RLIMIT, "", "Queued signals."),
    key("limits.rlimits", "stack", RLIMIT, "", "Stack, bytes."),
    key("devices", "path", "path", "", "Where, inside the jail."),
    key(
        "devices",
        "access",
        "\"r\", \"w\" or \"rw\"",
        "\"rw\"",
        "What may be done with it, besides what its mode allows. Less than \"rw\" needs the controller.",
    ),
    key("devices", "host-path", "path", "", "The host's node. Without it, the same path."),
    key("devices", "optional", "boolean", "false", "Left out where the host does not have it."),
    key(
        "network",
        "mode",
        "\"none\", \"host\" or \"jail:NAME\"",
        "\"none\"",
        "`none`: a network of its own with nothing but loopback. `host`: the host's, with every service and abstract socket in it. `jail:NAME`: that of a running jail.",
    ),
    key(
        "security",
        "no-new-privileges",
        "boolean",
        "true",
        "No execve gains privileges: set-user-id programs run as their caller.",
    ),
    key(
        "security",
        "capabilities",
        "\"none\", \"default\", \"all\" or names",
        "\"none\"",
        "What root inside may do. A list takes names (`CAP_NET_BIND_SERVICE`), presets (`@default`, Docker's 14) and removals (`-CAP_MKNOD`).",
    ),
    key(
        "security",
        "ambient-capabilities",
        "names",
        "[]",
        "Capabilities that a user other than root keeps; they must be among `capabilities`.",
    ),
    key(
        "security",
        "seccomp",
        "\"default\", \"strict\", \"off\" or a table",
        "\"default\"",
        "Which system calls the jail may make. `default`: what Docker allows, and a little less. `strict`: also without what few programs need. The table is `[security.seccomp]`. `jailrun seccomp UNIT` prints the filter.",
    ),
    key(
        "security",
        "masked-paths",
        "paths",
        "[\"@default\"]",
        "Hidden: directories are empty, files are `/dev/null`. `@default` is the list below; `-PATH` takes one away. What `/proc` shows of one process, as below `/proc/self` or `/proc/1`, can be neither hidden, protected nor mounted on.",
    ),
    key(
        "security",
        "read-only-paths",
        "paths",
        "[\"@default\"]",
        "Made read-only, with everything below. `@default` is the list below; `-PATH` takes one away.",
    ),
    key(
        "security",
        "sysctl",
        "{ NAME = value }",
        "{}",
        "Parameters of the kernel, sysctl(8), that belong to a namespace of the jail's own: `net.*` with a network namespace, but for what is the whole host's, such as `net.core.rmem_max`; `kernel.shm*`, `kernel.msg*`, `kernel.sem` and `fs.mqueue.*` with an ipc namespace; `kernel.hostname` and `kernel.domainname` with a uts namespace; `user.*` with a user namespace. A network that belongs to a user namespace lacks `net.core.xfrm_*` and most of `net.ipv6.route.*`, and before Linux 6.3 all of `net.core.*`. Each is read back: a value that the kernel does not keep fails the launch. Names are written with dots or, where a part holds one, with slashes.",
    ),
    key(
        "security",
        "keyring",
        "\"private\" or \"host\"",
        "\"private\"",
        "The session keyring, which is part of no namespace: an empty one of its own, or the caller's with every key in it.",
    ),
    key(
        "security",
        "allow-dangerous-binds",
        "boolean",
        "false",
        "Accepts binds that hand out the host: `/`, `/proc`, `/sys`, `/dev`, `/run`, a container engine's socket, jailrun's own state; and what of these comes along with a bind or a root directory, since it is mounted below it and nothing covers it.",
    ),
    key(
        "security.seccomp",
        "default-action",
        "\"errno:NAME\", \"kill-process\", \"log\" or \"allow\"",
        "",
        "What holds for calls that no list names; then the filter starts from nothing. `errno:EPERM` and `errno:13` refuse, `log` does the call and notes it in the kernel's log.",
    ),
    key(
        "security.seccomp",
        "profile",
        "path",
        "",
        "A profile in the JSON of OCI runtimes and Docker, from which the filter starts. A relative path starts at the unit's directory.",
    ),
    key(
        "security.seccomp",
        "allow",
        "names or sets",
        "",
        "Calls that are done, whatever their arguments. `@default` is the default filter, with its conditions.",
    ),
    key("security.seccomp", "log", "names or sets", "", "Calls that are done and noted."),
    key("security.seccomp", "deny", "names or sets", "", "Calls that fail with EPERM."),
    key("security.seccomp", "kill", "names or sets", "", "Calls that end the process by SIGSYS."),
    key(
        "security.landlock",
        "read",
        "paths",
        "",
        "Where files can be read and directories listed.",
    ),
    key(
        "security.landlock",
        "write",
        "paths",
        "",
        "Where files can be written, truncated, made, removed and moved, and devices be given commands. `/dev` is usually among them.",
    ),
    key(
        "security.landlock",
        "execute",
        "paths",
        "",
        "Where programs can be executed, and read for it. A loader that is given a program as its argument only reads it.",
    ),
    key("security.landlock", "bind-tcp", "ports", "", "TCP ports that can be listened on."),
    key("security.landlock", "connect-tcp", "ports", "", "TCP ports that can be connected to."),
    key(
        "security.landlock",
        "scope",
        "[\"abstract-unix-socket\", \"signal\"]",
        "",
        "What reaches only what is restricted too: connections to abstract unix sockets, signals.",
    ),
    key(
        "security.landlock",
        "best-effort",
        "boolean",
        "false",
        "Leaves out, with a warning, what this kernel's Landlock lacks. Otherwise that is an error.",
    ),
    key(
        "process",
        "command",
        "[program, argument, …]",
        "",
        "What runs, without a shell. A name without `/` is searched in the jail's PATH. Arguments after `--` on the command line are appended; without this key they are the command.",
    ),
    key(
        "process",
        "env",
        "{ NAME = \"value\" }",
        "{}",
        "Environment. The caller's is not passed on; PATH, HOME, USER, TERM and container=jailrun are set unless given here.",
    ),
    key(
        "process",
        "env-pass",
        "names",
        "[]",
        "Variables taken from the caller, where it has them.",
    ),
    key("process", "cwd", "path", "\"/\"", "Working directory, inside."),
    key(
        "process",
        "user",
        "name or uid",
        "0",
        "User. Names are looked up in the jail's `/etc/passwd`.",
    ),
    key(
        "process",
        "group",
        "name or gid",
        "",
        "Group. Without it, the user's own from the jail's `/etc/passwd`, or the gid that equals the uid.",
    ),
    key("process", "supplementary-groups", "names or gids", "[]", "Further groups."),
    key(
        "process",
        "umask",
        "octal string",
        "\"022\"",
        "Permission bits that new files do not get.",
    ),
    key(
        "process",
        "init",
        "boolean",
        "true",
        "A small init of jailrun's own as process 1: reaps orphans, forwards signals. False makes the command process 1, which may then outlive a jailrun that is killed: only a process of jailrun's own is sure to end with it. Without a private pid namespace there is none.",
    ),
    key(
        "process",
        "tty",
        "\"auto\", true or false",
        "\"auto\"",
        "A terminal of its own. `auto`: when standard input and output are terminals.",
    ),
    key(
        "process",
        "stdin",
        "\"inherit\", \"null\" or \"file:PATH\"",
        "\"inherit\"",
        "Standard input. For the streams, no symbolic link is followed where the file is: a jail that may write there could have made it.",
    ),
    key(
        "process",
        "stdout",
        "\"inherit\", \"null\", \"file:PATH\" or \"append:PATH\"",
        "\"inherit\"",
        "Standard output. `file:` empties the file, which is one of the host's.",
    ),
    key(
        "process",
        "stderr",
        "\"inherit\", \"null\", \"file:PATH\" or \"append:PATH\"",
        "\"inherit\"",
        "Standard error.",
    ),
    key(
        "process",
        "pass-fds",
        "numbers",
        "[]",
        "Open file descriptors above 2 that the command keeps. All others are closed.",
    ),
    key("process", "nice", "-20 to 19", "", "Nice value."),
    key(
        "process",
        "oom-score-adjust",
        "-1000 to 1000",
        "",
        "How likely the kernel is to choose it when the host runs out of memory.",
    ),
    key(
        "process",
        "cpu-affinity",
        "list such as \"0-3,6\"",
        "",
        "CPUs the command starts on; unlike `cpuset` it can undo that itself.",
    ),
    key(
        "lifecycle",
        "timeout",
        "duration",
        "\"infinity\"",
        "Ends the jail after that time, with exit status 124.",
    ),
    key(
        "lifecycle",
        "stop-signal",
        "signal name",
        "\"SIGTERM\"",
        "What the command is sent when its time is up, and SIGCONT behind it: one that is stopped could not end. Any but SIGCHLD, which tells of the end of a child.",
    ),
    key(
        "lifecycle",
        "stop-grace",
        "duration",
        "\"10s\"",
        "How long it may take to end before it is killed.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_a_table_and_once() {
        for (index, key) in KEYS.iter().enumerate() {
            assert!(TABLES.iter().any(|table| table.name == key.table), "{key:?}");
            assert!(
                KEYS[index + 1..]
                    .iter()
                    .all(|other| (other.table, other.name) != (key.table, key.name)),
                "{key:?} twice"
            );
        }
    }
}
