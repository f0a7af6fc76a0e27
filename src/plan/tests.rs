//! Plans for hosts that no test machine is: the host is a table, so that v1,
//! hybrid and v2 hosts, root and ordinary users are all at hand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use snapbox::{assert_data_eq, str};

use super::cgroup::{Hierarchy, Layout};
use super::describe::describe;
use super::step::{NodeKind, Origin, Step};
use super::{Care, Planning, plan};
use crate::block_image::{Filesystem, Image};
use crate::closure::{Closure, Entry, Problem, Request, Wanted, What};
use crate::diagnostic::Severity;
use crate::host::{Attributes, Host, Kind, Mounted, StoredImage};
use crate::image::oci::Config;
use crate::image::source::Source;
use crate::names;
use crate::unit::{Loaded, from_text, keys};

/// What is at a path of the table.
#[derive(Clone, Debug)]
enum Node {
    Directory,
    File { executable: bool, content: Vec<u8> },
    Link(PathBuf),
    Block(u32, u32),
    Character(u32, u32),
    Fifo,
}

/// A host in a table. Nothing in it can be changed by planning: every question
/// takes `&self`.
#[derive(Clone, Debug)]
struct Table {
    nodes: BTreeMap<PathBuf, Node>,
    ids: (u32, u32),
    capabilities: u64,
    in_user_namespace: bool,
    securebits: u32,
    landlock: u32,
    hard_limit: u64,
    layout: Layout,
    read_only: Vec<PathBuf>,
    delegated: Vec<PathBuf>,
    opaque: Vec<PathBuf>,
    mounts: Vec<Mounted>,
    config: Config,
    terminal: bool,
    variables: Vec<(&'static str, &'static str)>,
}

impl Table {
    /// A host without control groups, with a root at `/srv/web`; root asks.
    fn bare() -> Self {
        let mut host = Self {
            nodes: BTreeMap::new(),
            ids: (0, 0),
            capabilities: names::ALL_CAPABILITIES,
            in_user_namespace: false,
            securebits: 0,
            landlock: 7,
            hard_limit: u64::MAX,
            layout: Layout::default(),
            read_only: Vec::new(),
            delegated: Vec::new(),
            opaque: Vec::new(),
            mounts: Vec::new(),
            config: Config::default(),
            terminal: false,
            variables: vec![("TERM", "xterm"), ("LANG", "C.UTF-8")],
        };
        for (name, major, minor) in super::root::DEVICES {
            host.put(&format!("/dev/{name}"), Node::Character(major, minor));
        }
        for directory in ["/proc/sys", "/proc/bus", "/proc/acpi", "/proc/self/ns", "/sys/firmware"]
        {
            host.put(directory, Node::Directory);
        }
        for namespace in ["mnt", "uts", "ipc", "pid", "net", "user", "cgroup", "time"] {
            host.file(&format!("/proc/self/ns/{namespace}"), "");
        }
        host.file("/proc/keys", "");
        host.file("/proc/kcore", "");
        host.file("/proc/sys/kernel/osrelease", "6.18.0-test\n");
        host.file("/proc/sys/kernel/seccomp/actions_avail", "kill_process allow\n");
        host.file("/etc/profile.json", "{\"defaultAction\": \"SCMP_ACT_LOG\"}");
        host.file("/sys/devices/system/cpu/online", "0-3\n");
        host.file("/sys/devices/system/node/online", "0\n");
        host.put("/dev/vda", Node::Block(254, 0));
        host.put("/dev/vda1", Node::Block(254, 1));
        host.put("/sys/dev/block/254:0", Node::Link("/sys/devices/vda".into()));
        host.put("/sys/dev/block/254:1", Node::Link("/sys/devices/vda/vda1".into()));
        host.file("/sys/devices/vda/dev", "254:0\n");
        host.file("/sys/devices/vda/vda1/partition", "1\n");
        for name in ["proc", "sys", "dev", "tmp", "run", "data", "usr/bin", "var"] {
            host.put(&format!("/srv/web/{name}"), Node::Directory);
        }
        host.put("/srv/web/bin", Node::Link("usr/bin".into()));
        host.put("/srv/web/var/run", Node::Link("/run".into()));
        host.file(
            "/srv/web/etc/passwd",
            "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/var/www:/bin/sh\n",
        );
        host.file("/srv/web/etc/group", "root:x:0:\nstaff:x:50:\n");
        host.program("/srv/web/usr/bin/true", "");
        host.program("/usr/bin/true", "");
        host.file("/units/root.img", "");
        for directory in ["/run", "/tmp", "/units", "/home/me", "/etc"] {
            host.put(directory, Node::Directory);
        }
        host
    }

    /// Everything on v1, and a v2 tree without controllers beside it.
    fn version1() -> Self {
        let mut host = Self::bare();
        for controllers in
            ["memory", "cpu,cpuacct", "cpuset", "pids", "blkio", "freezer", "devices"]
        {
            let mount = PathBuf::from(format!("/sys/fs/cgroup/{controllers}"));
            host.put(mount.join("me").to_str().unwrap(), Node::Directory);
            host.layout.v1.push(Hierarchy {
                own: mount.join("me"),
                mount,
                controllers: controllers.split(',').map(str::to_owned).collect(),
            });
        }
        host.file("/sys/fs/cgroup/cpuset/me/cpuset.cpus", "0-2\n");
        host.file("/sys/fs/cgroup/cpuset/me/cpuset.mems", "0\n");
        host.file("/sys/fs/cgroup/blkio/me/blkio.bfq.weight", "100\n");
        host.file("/sys/fs/cgroup/blkio/me/blkio.bfq.weight_device", "");
        host.version2_at("/sys/fs/cgroup/unified", "", "");
        host
    }

    /// One hierarchy with every controller; the caller is in `own`.
    fn version2(own: &str, handed_out: &str) -> Self {
        let mut host = Self::bare();
        host.version2_at("/sys/fs/cgroup", own, handed_out);
        host
    }

    fn version2_at(&mut self, mount: &str, own: &str, handed_out: &str) {
        let all = if mount.ends_with("unified") { "" } else { "cpuset cpu io memory pids\n" };
        let own = Path::new(mount).join(own);
        for group in own.ancestors().take_while(|group| group.starts_with(mount)) {
            let group = group.to_str().unwrap();
            self.file(&format!("{group}/cgroup.controllers"), all);
            self.file(&format!("{group}/cgroup.subtree_control"), "");
            self.file(&format!("{group}/cgroup.procs"), "42\n");
        }
        self.file(&format!("{}/cgroup.subtree_control", own.display()), handed_out);
        // Joining an empty path leaves a slash at the end.
        let own = own.components().collect();
        self.layout.v2 = Some(Hierarchy { mount: mount.into(), own, controllers: Vec::new() });
    }

    /// uid 1000, without capabilities; may write at home and in `/tmp` only.
    fn for_user(mut self) -> Self {
        self.ids = (1000, 1000);
        self.capabilities = 0;
        self.read_only = vec!["/sys".into(), "/srv".into(), "/run".into()];
        self
    }

    fn put(&mut self, path: &str, node: Node) {
        for parent in Path::new(path).ancestors().skip(1) {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Directory);
        }
        self.nodes.insert(path.into(), node);
    }

    fn file(&mut self, path: &str, content: &str) {
        self.put(path, Node::File { executable: false, content: content.into() });
    }

    fn program(&mut self, path: &str, content: &str) {
        self.put(path, Node::File { executable: true, content: content.into() });
    }

    /// Follows every link but, where asked, the last.
    fn find(&self, path: &Path, follow_last: bool) -> io::Result<(PathBuf, &Node)> {
        let not_found = || io::Error::from(io::ErrorKind::NotFound);
        let mut rest: Vec<PathBuf> =
            path.components().rev().map(|part| part.as_os_str().into()).collect();
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop() {
            match part.components().next() {
                Some(Component::RootDir) => at = "/".into(),
                Some(Component::ParentDir) => {
                    at.pop();
                }
                _ => {
                    let next = at.join(&part);
                    match self.nodes.get(&next).ok_or_else(not_found)? {
                        Node::Link(to) if follow_last || !rest.is_empty() => {
                            links += 1;
                            if links > 40 {
                                return Err(io::Error::other("too many levels of symbolic links"));
                            }
                            rest.extend(to.components().rev().map(|part| part.as_os_str().into()));
                        }
                        Node::Directory => at = next,
                        _ if !rest.is_empty() => {
                            return Err(io::ErrorKind::NotADirectory.into());
                        }
                        _ => at = next,
                    }
                }
            }
        }
        let node = self.nodes.get(&at).ok_or_else(not_found)?;
        Ok((at, node))
    }
}

fn kind(node: &Node) -> Kind {
    match node {
        Node::Directory => Kind::Directory,
        Node::File { executable, .. } => Kind::File { executable: *executable },
        Node::Link(_) => Kind::Link,
        Node::Block(major, minor) => Kind::Block(*major, *minor),
        Node::Character(major, minor) => Kind::Character(*major, *minor),
        Node::Fifo => Kind::Other,
    }
}

impl Host for Table {
    fn look(&self, path: &Path) -> io::Result<Kind> {
        self.find(path, false).map(|(_, node)| kind(node))
    }

    fn canonical(&self, path: &Path) -> io::Result<(PathBuf, Kind)> {
        self.find(path, true).map(|(path, node)| (path, kind(node)))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        match self.find(path, false)? {
            (_, Node::Link(to)) => Ok(to.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        match self.find(path, false)? {
            (_, Node::File { content, .. }) => Ok(content[..content.len().min(limit)].to_vec()),
            _ => Err(io::Error::other("not a regular file")),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let (path, _) = self.find(path, true)?;
        let below = self.nodes.keys().filter(|child| child.parent() == Some(&path));
        Ok(below.map(|child| child.file_name().unwrap().to_str().unwrap().to_owned()).collect())
    }

    fn may_write(&self, path: &Path) -> bool {
        self.look(path).is_ok() && !self.read_only.iter().any(|closed| path.starts_with(closed))
            || self.delegated.iter().any(|open| path.starts_with(open))
    }

    fn is_delegated(&self, group: &Path) -> bool {
        self.delegated.iter().any(|open| open == group)
    }

    fn device_of(&self, path: &Path) -> io::Result<(u32, u32)> {
        self.find(path, true)?;
        // `/` is on the partition, `/run` in memory.
        Ok(if path.starts_with("/run") { (0, 25) } else { (254, 1) })
    }

    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        self.find(path, false)?;
        Ok(Attributes { mode: 0o755, uid: 0, gid: 0 })
    }

    fn is_opaque(&self, path: &Path, _: crate::changes::Marks) -> bool {
        self.opaque.iter().any(|opaque| opaque == path)
    }

    fn mounts_below(&self, path: &Path) -> io::Result<Vec<Mounted>> {
        let below = |mount: &&Mounted| mount.target.starts_with(path) && mount.target != path;
        Ok(self.mounts.iter().filter(below).cloned().collect())
    }

    /// Everything asked for, as a file of its own.
    fn closure(&self, request: &Request<'_>) -> Result<Closure, Vec<Problem>> {
        let names = request.binaries.iter().chain(request.libraries).map(String::as_str);
        let extras = request.with.iter().map(|extra| extra.name());
        let mut entries: Vec<_> = names
            .chain(extras)
            .map(|name| Path::new("/usr/bin").join(name))
            .chain(request.files.iter().cloned())
            .map(|path| Entry {
                what: What::File { source: path.clone() },
                path,
                wanted_by: Wanted::Request,
            })
            .collect();
        entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(Closure { entries, warnings: Vec::new() })
    }

    fn stored(&self, _: &Source) -> Result<Option<StoredImage>, String> {
        Ok(None)
    }

    fn packed(&self, _: &Source) -> Result<Config, String> {
        Ok(self.config.clone())
    }

    fn block_image(&self, _: &Path, _: u64, expected: Option<Filesystem>) -> Result<Image, String> {
        Ok(Image { filesystem: expected.unwrap_or(Filesystem::Squashfs), size: 4096 })
    }

    fn ids(&self) -> (u32, u32) {
        self.ids
    }

    fn capabilities(&self) -> u64 {
        self.capabilities
    }

    fn gives_privileges(&self, path: &Path) -> io::Result<bool> {
        Ok(matches!(self.find(path, false)?, (_, Node::File { executable: true, .. })))
    }

    fn in_user_namespace(&self) -> bool {
        self.in_user_namespace
    }

    fn securebits(&self) -> u32 {
        self.securebits
    }

    fn jail(&self, name: &str) -> Result<Option<u32>, String> {
        Ok((name == "other").then_some(4242))
    }

    fn landlock(&self) -> u32 {
        self.landlock
    }

    fn hard_limit(&self, _: u32) -> u64 {
        self.hard_limit
    }

    fn memory(&self) -> u64 {
        8 << 30
    }

    fn cgroups(&self) -> &Layout {
        &self.layout
    }

    fn state_directory(&self) -> PathBuf {
        if self.ids.0 == 0 { "/run/jailrun".into() } else { "/tmp/jailrun-1000".into() }
    }

    fn variable(&self, name: &str) -> Option<String> {
        let found = self.variables.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    }

    fn is_terminal(&self, _: i32) -> bool {
        self.terminal
    }

    fn is_open(&self, fd: i32) -> bool {
        fd < 3
    }

    fn filesystem(&self, _: &Path) -> io::Result<i64> {
        // ext4.
        Ok(0xef53)
    }

    fn is_locked(&self, _: &Path) -> bool {
        false
    }

    fn page_size(&self) -> u64 {
        4096
    }
}

/// The smallest unit, before any other table.
const WEB: &str = "[root]\npath = \"/srv/web\"\n[process]\ncommand = [\"true\"]\n";

fn read(text: &str) -> Loaded {
    from_text("web.toml", text, "/units".into(), "web", &[], &[])
}

fn planning(host: &Table, text: &str) -> (Loaded, Planning) {
    let loaded = read(text);
    let planning = plan(loaded.unit.as_ref().unwrap(), host, Care::Everything);
    (loaded, planning)
}

/// The steps of a sound unit, one in a line, each with its origin.
fn steps(host: &Table, text: &str) -> String {
    let (loaded, planning) = planning(host, text);
    assert_eq!(loaded.diagnostics, []);
    let plan = planning.plan.unwrap_or_else(|| panic!("{:#?}", planning.diagnostics));
    let lines = plan.steps.iter().map(|planned| {
        let origin = match planned.origin {
            Origin::Key(span) => loaded.sources.place(span),
            Origin::Image(key) => format!("{key} of the image"),
            Origin::Default(key) => format!("default of {key}"),
            Origin::Arguments => "arguments".to_owned(),
            Origin::Always(_) => "always".to_owned(),
        };
        format!("{} <- {origin}\n", describe(&planned.step))
    });
    lines.collect()
}

/// Only what concerns control groups.
fn group_steps(host: &Table, text: &str) -> String {
    let (loaded, planning) = planning(host, text);
    assert_eq!(loaded.diagnostics, []);
    let plan = planning.plan.unwrap_or_else(|| panic!("{:#?}", planning.diagnostics));
    let mut lines = String::new();
    for planned in &plan.steps {
        match &planned.step {
            Step::CreateCgroup { .. }
            | Step::EnableControllers { .. }
            | Step::MoveSupervisor { .. }
            | Step::SetLimit { .. }
            | Step::KillOnOom { .. }
            | Step::LimitDevices { .. }
            | Step::JoinCgroup { .. } => lines.push_str(&(describe(&planned.step) + "\n")),
            Step::Enter { cgroup: Some(cgroup), .. } => {
                lines.push_str(&format!("born in {}\n", cgroup.display()));
            }
            _ => {}
        }
    }
    // What is not put up makes no group.
    for left in planning.left_out.iter().filter(|left| left.key != "devices") {
        lines.push_str(&format!("left out: {}: {}\n", left.key, left.reason));
    }
    lines
}

/// Findings of reading and planning: code, line, message, label.
fn findings(host: &Table, text: &str) -> String {
    let (loaded, planning) = planning(host, text);
    let all = loaded.diagnostics.iter().chain(&planning.diagnostics);
    let lines = all.map(|finding| {
        let (place, label) = match &finding.at {
            Some((span, label)) => (loaded.sources.place(*span), &**label),
            None => ("nowhere".to_owned(), ""),
        };
        format!("{} {place} {} ({label})\n", finding.code, finding.message)
    });
    lines.collect()
}

#[test]
fn the_smallest_unit_as_root_on_a_v1_host() {
    assert_data_eq!(
        steps(&Table::version1(), WEB),
        str![[r#"
make the state directory /run/jailrun <- always
take the name and write the journal /run/jailrun/web.json <- default of name
make the control group /sys/fs/cgroup/pids/me/jailrun-web <- default of limits.pids
write 4096 to /sys/fs/cgroup/pids/me/jailrun-web/pids.max <- default of limits.pids
let it run; what is told to stop gets SIGTERM and, 10s later, SIGKILL <- default of lifecycle
clone its first process into new namespaces: mount pid ipc uts net <- always
let nobody trace it or read its memory <- always
join the control group /sys/fs/cgroup/pids/me/jailrun-web <- default of limits.pids
start a session without a terminal <- always
start an empty session keyring <- default of security.keyring
make its control groups the root of what it sees of them <- default of namespaces.cgroup
make every mount private <- always
set the host name to web <- default of hostname
bring the loopback interface up <- default of network.mode
bind /srv/web to /run/jailrun as the root (nosuid,nodev) <- web.toml:2
mount a new proc on /proc (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new sysfs on /sys (ro,nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /dev (nosuid,nodev,noexec) <- default of root.api-filesystems
bind the host's devices null zero full random urandom tty into /dev <- default of root.api-filesystems
make the link /dev/fd to /proc/self/fd <- default of root.api-filesystems
make the link /dev/stdin to /proc/self/fd/0 <- default of root.api-filesystems
make the link /dev/stdout to /proc/self/fd/1 <- default of root.api-filesystems
make the link /dev/stderr to /proc/self/fd/2 <- default of root.api-filesystems
make the link /dev/ptmx to pts/ptmx <- default of root.api-filesystems
make the directory /dev/pts <- default of root.api-filesystems
mount a new devpts on /dev/pts (nosuid,noexec) <- default of root.api-filesystems
make the directory /dev/shm <- default of root.api-filesystems
mount a new tmpfs on /dev/shm (nosuid,nodev) <- default of root.api-filesystems
make the directory /dev/mqueue <- default of root.api-filesystems
mount a new mqueue on /dev/mqueue (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /tmp (nosuid,nodev) <- default of root.api-filesystems
mount a new tmpfs on /run (nosuid,nodev) <- default of root.api-filesystems
hide /proc/acpi under an empty directory <- default of security.masked-paths
hide /proc/kcore under /dev/null <- default of security.masked-paths
hide /proc/keys under /dev/null <- default of security.masked-paths
hide /sys/firmware under an empty directory <- default of security.masked-paths
make /proc/bus read-only <- default of security.read-only-paths
make /proc/sys read-only <- default of security.read-only-paths
make /run/jailrun the root and detach the old one <- default of root.switch
compare mountinfo with the 21 planned mounts <- always
give up every capability for good <- default of security.capabilities
overwrite the arguments and the environment jailrun was started with <- always
stay as process 1, with CAP_KILL alone and no further groups, to reap and pass signals on; the command is its child <- default of process.init
set the umask to 022 <- default of process.umask
limit core to 0 (hard 0) <- default of limits.rlimits.core
become uid 0, gid 0, no further groups <- default of process.user
start with no capability <- default of security.capabilities
close every descriptor above 2 <- default of process.pass-fds
go to / <- default of process.cwd
rule out gaining privileges by execve <- default of security.no-new-privileges
load the default filter for system calls: 309 of 383 pass, the others get errno:EPERM, in 92 instructions <- default of security.seccomp
execute true <- web.toml:4

"#]]
    );
}

#[test]
fn the_smallest_unit_as_root_on_a_v2_host() {
    let host = Table::version2("", "");
    assert_data_eq!(
        group_steps(&host, WEB),
        str![[r#"
hand the controllers pids out below /sys/fs/cgroup
make the control group /sys/fs/cgroup/jailrun-web
write 4096 to /sys/fs/cgroup/jailrun-web/pids.max
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
}

#[test]
fn the_smallest_unit_as_an_ordinary_user() {
    let mut host = Table::version1().for_user();
    host.read_only.retain(|path| path != Path::new("/srv"));
    assert_data_eq!(
        steps(&host, WEB),
        str![[r#"
make the state directory /tmp/jailrun-1000 <- always
take the name and write the journal /tmp/jailrun-1000/web.json <- default of name
let it run; what is told to stop gets SIGTERM and, 10s later, SIGKILL <- default of lifecycle
clone its first process into new namespaces: mount user pid ipc uts net; uid 1000 and gid 1000 are root inside <- always
let nobody trace it or read its memory <- always
start a session without a terminal <- always
start an empty session keyring <- default of security.keyring
make its control groups the root of what it sees of them <- default of namespaces.cgroup
make every mount private <- always
set the host name to web <- default of hostname
bring the loopback interface up <- default of network.mode
bind /srv/web to /tmp/jailrun-1000 as the root (nosuid,nodev) <- web.toml:2
mount a new proc on /proc (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new sysfs on /sys (ro,nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /dev (nosuid,nodev,noexec) <- default of root.api-filesystems
bind the host's devices null zero full random urandom tty into /dev <- default of root.api-filesystems
make the link /dev/fd to /proc/self/fd <- default of root.api-filesystems
make the link /dev/stdin to /proc/self/fd/0 <- default of root.api-filesystems
make the link /dev/stdout to /proc/self/fd/1 <- default of root.api-filesystems
make the link /dev/stderr to /proc/self/fd/2 <- default of root.api-filesystems
make the link /dev/ptmx to pts/ptmx <- default of root.api-filesystems
make the directory /dev/pts <- default of root.api-filesystems
mount a new devpts on /dev/pts (nosuid,noexec) <- default of root.api-filesystems
make the directory /dev/shm <- default of root.api-filesystems
mount a new tmpfs on /dev/shm (nosuid,nodev) <- default of root.api-filesystems
make the directory /dev/mqueue <- default of root.api-filesystems
mount a new mqueue on /dev/mqueue (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /tmp (nosuid,nodev) <- default of root.api-filesystems
mount a new tmpfs on /run (nosuid,nodev) <- default of root.api-filesystems
hide /proc/acpi under an empty directory <- default of security.masked-paths
hide /proc/kcore under /dev/null <- default of security.masked-paths
hide /proc/keys under /dev/null <- default of security.masked-paths
hide /sys/firmware under an empty directory <- default of security.masked-paths
make /proc/bus read-only <- default of security.read-only-paths
make /proc/sys read-only <- default of security.read-only-paths
make /tmp/jailrun-1000 the root and detach the old one <- default of root.switch
compare mountinfo with the 21 planned mounts <- always
give up every capability for good <- default of security.capabilities
overwrite the arguments and the environment jailrun was started with <- always
stay as process 1, with CAP_KILL alone, to reap and pass signals on; the command is its child <- default of process.init
set the umask to 022 <- default of process.umask
limit core to 0 (hard 0) <- default of limits.rlimits.core
become uid 0, gid 0 <- default of process.user
start with no capability <- default of security.capabilities
close every descriptor above 2 <- default of process.pass-fds
go to / <- default of process.cwd
rule out gaining privileges by execve <- default of security.no-new-privileges
load the default filter for system calls: 309 of 383 pass, the others get errno:EPERM, in 92 instructions <- default of security.seccomp
execute true <- web.toml:4

"#]]
    );
}

#[test]
fn a_default_limit_gives_way_and_says_so_where_a_user_has_no_group() {
    for host in [Table::version1().for_user(), Table::version2("user/me", "").for_user()] {
        let groups = group_steps(&host, WEB);
        assert_eq!(groups, "left out: limits.pids: the caller may not make control groups here\n");
    }
    // A kernel without control groups at all.
    assert_eq!(
        group_steps(&Table::bare(), WEB),
        "left out: limits.pids: this host has no control groups\n"
    );
}

const EVERY_LIMIT: &str = r#"
[limits]
memory = "64M"
swap = "16M"
cpu = 1.5
cpu-period = "50ms"
cpu-burst = "10ms"
cpu-weight = 200
cpuset = "0-1,3"
cpuset-mems = "0"
pids = 20
[limits.blkio]
weight = 300
devices = [
  { path = "/dev/vda1", read-bps = "1M", write-bps = "2M", read-iops = 10, write-iops = 20, weight = 50 },
]
"#;

#[test]
fn every_limit_in_the_files_of_v1() {
    assert_data_eq!(
        group_steps(&Table::version1(), &format!("{WEB}{EVERY_LIMIT}")),
        str![[r#"
make the control group /sys/fs/cgroup/memory/me/jailrun-web
write 67108864 to /sys/fs/cgroup/memory/me/jailrun-web/memory.limit_in_bytes
write 83886080 to /sys/fs/cgroup/memory/me/jailrun-web/memory.memsw.limit_in_bytes
end the whole jail when /sys/fs/cgroup/memory/me/jailrun-web runs out of memory
make the control group /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web
write 50000 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.cfs_period_us
write 75000 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.cfs_quota_us
write 10000 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.cfs_burst_us
write 2048 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.shares
make the control group /sys/fs/cgroup/cpuset/me/jailrun-web
write 0-1,3 to /sys/fs/cgroup/cpuset/me/jailrun-web/cpuset.cpus
write 0 to /sys/fs/cgroup/cpuset/me/jailrun-web/cpuset.mems
make the control group /sys/fs/cgroup/pids/me/jailrun-web
write 20 to /sys/fs/cgroup/pids/me/jailrun-web/pids.max
make the control group /sys/fs/cgroup/blkio/me/jailrun-web
write 118 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.bfq.weight
write 254:0 1048576 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.read_bps_device
write 254:0 2097152 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.write_bps_device
write 254:0 10 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.read_iops_device
write 254:0 20 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.write_iops_device
write 254:0 50 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.bfq.weight_device
join the control group /sys/fs/cgroup/memory/me/jailrun-web
join the control group /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web
join the control group /sys/fs/cgroup/cpuset/me/jailrun-web
join the control group /sys/fs/cgroup/pids/me/jailrun-web
join the control group /sys/fs/cgroup/blkio/me/jailrun-web

"#]]
    );
}

#[test]
fn every_limit_in_the_files_of_v2() {
    let unit = format!("{WEB}{EVERY_LIMIT}")
        .replace("swap =", "memory-high = \"32M\"\nmemory-low = \"10M\"\nswap =");
    assert_data_eq!(
        group_steps(&Table::version2("", ""), &unit),
        str![[r#"
hand the controllers cpu cpuset io memory pids out below /sys/fs/cgroup
make the control group /sys/fs/cgroup/jailrun-web
write 67108864 to /sys/fs/cgroup/jailrun-web/memory.max
write 1 to /sys/fs/cgroup/jailrun-web/memory.oom.group
write 33554432 to /sys/fs/cgroup/jailrun-web/memory.high
write 10485760 to /sys/fs/cgroup/jailrun-web/memory.low
write 16777216 to /sys/fs/cgroup/jailrun-web/memory.swap.max
write 75000 50000 to /sys/fs/cgroup/jailrun-web/cpu.max
write 10000 to /sys/fs/cgroup/jailrun-web/cpu.max.burst
write 200 to /sys/fs/cgroup/jailrun-web/cpu.weight
write 0-1,3 to /sys/fs/cgroup/jailrun-web/cpuset.cpus
write 0 to /sys/fs/cgroup/jailrun-web/cpuset.mems
write 20 to /sys/fs/cgroup/jailrun-web/pids.max
write default 300 to /sys/fs/cgroup/jailrun-web/io.weight
write 254:0 rbps=1048576 wbps=2097152 riops=10 wiops=20 to /sys/fs/cgroup/jailrun-web/io.max
write 254:0 50 to /sys/fs/cgroup/jailrun-web/io.weight
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
}

#[test]
fn a_limit_is_rounded_down_to_what_the_kernel_counts_in() {
    let unit = format!("{WEB}[limits]\nmemory = 1000001\n");
    let groups = group_steps(&Table::version1(), &unit);
    assert!(
        groups.contains(
            "write 999424 to /sys/fs/cgroup/memory/me/jailrun-web/memory.limit_in_bytes\n"
        ),
        "{groups}"
    );
}

#[test]
fn a_share_of_the_hosts_memory_is_exact() {
    // Of 8 GiB.
    for (share, bytes) in [("100%", 8_u64 << 30), ("50%", 4 << 30), ("25%", 2 << 30)] {
        let unit = format!("{WEB}[limits]\nmemory = \"{share}\"\n");
        let groups = group_steps(&Table::version2("", ""), &unit);
        assert!(groups.contains(&format!("write {bytes} to ")), "{share}: {groups}");
    }
}

#[test]
fn shares_of_memory_contradict_each_other_like_sizes_do() {
    for (memory, high) in [("25%", "50%"), ("1G", "50%"), ("10%", "4G")] {
        let unit = format!("{WEB}[limits]\nmemory = \"{memory}\"\nmemory-high = \"{high}\"\n");
        let found = findings(&Table::version2("", ""), &unit);
        assert!(
            found.starts_with("E0203 web.toml:7 `memory-high` is above `memory`"),
            "{memory} {high}: {found}"
        );
    }
}

#[test]
fn the_measures_of_v1_and_v2_meet() {
    for (key, v1, v2) in [
        ("cpu-weight = 1", "10", "1"),
        ("cpu-weight = 100", "1024", "100"),
        ("cpu-weight = 10000", "102400", "10000"),
        ("cpu-shares = 2", "2", "1"),
        ("cpu-shares = 1024", "1024", "39"),
        ("cpu-shares = 262144", "262144", "10000"),
    ] {
        let unit = format!("{WEB}[limits]\n{key}\n");
        let one = group_steps(&Table::version1(), &unit);
        assert!(
            one.contains(&format!(
                "write {v1} to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.shares\n"
            )),
            "{key}: {one}"
        );
        let two = group_steps(&Table::version2("", ""), &unit);
        assert!(
            two.contains(&format!("write {v2} to /sys/fs/cgroup/jailrun-web/cpu.weight\n")),
            "{key}: {two}"
        );
    }
}

#[test]
fn what_v1_cannot_keep_is_an_error_a_warning_or_left_out() {
    let unit = |policy: &str| {
        format!("{WEB}[limits]\nmemory-high = \"1G\"\nmemory-low = \"1M\"\nswap = \"1M\"\n{policy}")
    };
    let host = Table::version1();
    assert_data_eq!(
        findings(&host, &unit("")),
        str![[r#"
E0308 web.toml:6 `memory-high` cannot be set on this host (cgroup v1 cannot throttle above an amount of memory)
E0308 web.toml:7 `memory-low` cannot be set on this host (cgroup v1 cannot spare memory from reclaim)
E0308 web.toml:8 `swap` cannot be set on this host (cgroup v1 limits the sum of memory and swap: it needs `memory` too)

"#]]
    );
    assert_data_eq!(
        findings(&host, &unit("on-missing = \"warn\"\n")),
        str![[r#"
W0004 web.toml:6 `memory-high` is left out (cgroup v1 cannot throttle above an amount of memory)
W0004 web.toml:7 `memory-low` is left out (cgroup v1 cannot spare memory from reclaim)
W0004 web.toml:8 `swap` is left out (cgroup v1 limits the sum of memory and swap: it needs `memory` too)

"#]]
    );
    // What the unit itself can settle is not to be waved through.
    let helps = |policy: &str| {
        let (_, planning) = planning(&host, &unit(policy));
        let helps = planning.diagnostics.into_iter().map(|finding| finding.help);
        helps.map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let warn = "`on-missing = \"warn\"` launches without it";
    assert_eq!(helps(""), [warn, warn, "set `memory` as well"]);
    assert_eq!(helps("on-missing = \"warn\"\n"), ["", "", "set `memory` as well"]);
    assert_eq!(findings(&host, &unit("on-missing = \"skip\"\n")), "");
    assert_data_eq!(
        group_steps(&host, &unit("on-missing = \"skip\"\n")),
        str![[r#"
make the control group /sys/fs/cgroup/pids/me/jailrun-web
write 4096 to /sys/fs/cgroup/pids/me/jailrun-web/pids.max
join the control group /sys/fs/cgroup/pids/me/jailrun-web
left out: limits.memory-high: cgroup v1 cannot throttle above an amount of memory
left out: limits.memory-low: cgroup v1 cannot spare memory from reclaim
left out: limits.swap: cgroup v1 limits the sum of memory and swap: it needs `memory` too

"#]]
    );
}

#[test]
fn a_hybrid_host_takes_each_limit_from_where_its_controller_is() {
    let mut host = Table::version1();
    // systemd's hybrid with one controller handed to v2.
    host.layout.v1.retain(|hierarchy| hierarchy.controllers != ["pids"]);
    host.version2_at("/sys/fs/cgroup/unified", "", "");
    host.file("/sys/fs/cgroup/unified/cgroup.controllers", "pids\n");
    let unit = format!("{WEB}[limits]\nmemory = \"64M\"\npids = 7\n");
    assert_data_eq!(
        group_steps(&host, &unit),
        str![[r#"
make the control group /sys/fs/cgroup/memory/me/jailrun-web
write 67108864 to /sys/fs/cgroup/memory/me/jailrun-web/memory.limit_in_bytes
end the whole jail when /sys/fs/cgroup/memory/me/jailrun-web runs out of memory
hand the controllers pids out below /sys/fs/cgroup/unified
make the control group /sys/fs/cgroup/unified/jailrun-web
write 7 to /sys/fs/cgroup/unified/jailrun-web/pids.max
born in /sys/fs/cgroup/unified/jailrun-web
join the control group /sys/fs/cgroup/memory/me/jailrun-web

"#]]
    );
}

#[test]
fn a_delegated_group_of_ones_own_gets_a_leaf_for_the_supervisor() {
    let mut host = Table::version2("user.slice/scope", "");
    host.delegated = vec!["/sys/fs/cgroup/user.slice/scope".into()];
    let by_root = group_steps(&host, WEB);
    assert_data_eq!(
        by_root.clone(),
        str![[r#"
move jailrun itself into a group of its own, /sys/fs/cgroup/user.slice/scope/_jailrun
hand the controllers pids out below /sys/fs/cgroup/user.slice/scope
make the control group /sys/fs/cgroup/user.slice/scope/jailrun-web
write 4096 to /sys/fs/cgroup/user.slice/scope/jailrun-web/pids.max
born in /sys/fs/cgroup/user.slice/scope/jailrun-web

"#]]
    );
    let host = host.for_user();
    assert_eq!(group_steps(&host, WEB), by_root);
}

#[test]
fn a_delegated_group_that_hands_out_already_is_used_as_it_is() {
    let mut host = Table::version2("scope", "pids memory");
    host.delegated = vec!["/sys/fs/cgroup/scope".into()];
    assert_data_eq!(
        group_steps(&host.for_user(), WEB),
        str![[r#"
make the control group /sys/fs/cgroup/scope/jailrun-web
write 4096 to /sys/fs/cgroup/scope/jailrun-web/pids.max
born in /sys/fs/cgroup/scope/jailrun-web

"#]]
    );
}

#[test]
fn a_delegated_group_with_other_processes_is_not_rearranged() {
    let mut host = Table::version2("scope", "");
    host.delegated = vec!["/sys/fs/cgroup/scope".into()];
    host.file("/sys/fs/cgroup/scope/cgroup.procs", "41\n42\n");
    let host = host.for_user();
    let unit = format!("{WEB}[limits]\npids = 7\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0308 web.toml:6 `pids` cannot be set on this host (the caller's control group holds other processes too)

"#]]
    );
    assert_eq!(
        group_steps(&host, WEB),
        "left out: limits.pids: the caller's control group holds other processes too\n"
    );
}

#[test]
fn root_in_a_group_that_is_not_delegated_climbs_to_the_nearest_that_hands_out() {
    let mut host = Table::version2("system.slice/sshd.service", "");
    host.file("/sys/fs/cgroup/system.slice/cgroup.subtree_control", "memory pids\n");
    assert_data_eq!(
        group_steps(&host, WEB),
        str![[r#"
make the control group /sys/fs/cgroup/system.slice/jailrun-web
write 4096 to /sys/fs/cgroup/system.slice/jailrun-web/pids.max
born in /sys/fs/cgroup/system.slice/jailrun-web

"#]]
    );
    // A controller that only the topmost group has.
    let unit = format!("{WEB}[limits]\ncpu = 1\n");
    assert_data_eq!(
        group_steps(&host, &unit),
        str![[r#"
hand the controllers cpu pids out below /sys/fs/cgroup
make the control group /sys/fs/cgroup/jailrun-web
write 100000 100000 to /sys/fs/cgroup/jailrun-web/cpu.max
write 4096 to /sys/fs/cgroup/jailrun-web/pids.max
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
}

#[test]
fn asked_for_limits_without_delegation_are_one_error_that_names_their_keys() {
    let host = Table::version2("user/me", "").for_user();
    let unit = format!("{WEB}[limits]\nmemory = \"64M\"\npids = 7\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0308 web.toml:6 `memory`, `pids` cannot be set on this host (the caller may not make control groups here)

"#]]
    );
    let warned = format!("{unit}on-missing = \"warn\"\n");
    assert_data_eq!(
        findings(&host, &warned),
        str![[r#"
W0004 web.toml:6 `memory`, `pids` are left out (the caller may not make control groups here)

"#]]
    );
    let host = Table::version1().for_user();
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0308 web.toml:6 `memory`, `pids` cannot be set on this host (the caller may not make control groups here)

"#]]
    );
}

#[test]
fn without_a_pid_namespace_a_group_holds_the_jail_together() {
    let unit = format!("{WEB}[limits]\npids = \"infinity\"\n[namespaces]\npid = \"host\"\n");
    assert_data_eq!(
        group_steps(&Table::version2("", ""), &unit),
        str![[r#"
make the control group /sys/fs/cgroup/jailrun-web
refuse the processes of /sys/fs/cgroup/jailrun-web, by a program, every device but c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
    let mut host = Table::version1();
    host.layout.v2 = None;
    assert_data_eq!(
        group_steps(&host, &unit),
        str![[r#"
make the control group /sys/fs/cgroup/devices/me/jailrun-web
refuse the processes of /sys/fs/cgroup/devices/me/jailrun-web every device but c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm
join the control group /sys/fs/cgroup/devices/me/jailrun-web

"#]]
    );
}

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
fn every_bind_that_hands_out_the_host_is_refused_and_can_be_allowed() {
    let mut host = Table::bare();
    for path in [
        "/run/jailrun/web.json",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/run/user/1000/podman/podman.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
    ] {
        host.put(path, Node::Fifo);
    }
    host.put("/var/run", Node::Link("/run".into()));
    for source in [
        "/",
        "/proc",
        "/proc/sys",
        "/sys",
        "/sys/firmware",
        "/dev",
        "/run",
        "/run/jailrun",
        "/run/jailrun/web.json",
        "/run/systemd",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/run/user/1000/podman/podman.sock",
        // By another name.
        "/var/run/docker.sock",
        "/etc/..",
        "/var/run",
    ] {
        let unit = format!(
            "{WEB}[[mounts]]\nbind = \"{source}\"\ntarget = \"/run/it\"\n[security]\nallow-dangerous-binds = false\n"
        );
        let refused = findings(&host, &unit);
        assert!(refused.starts_with("E0202 web.toml:6 binding `"), "{source}: {refused}");
        let allowed = findings(&host, &unit.replace("binds = false", "binds = true"));
        assert!(allowed.starts_with("W0005 web.toml:6 binding `"), "{source}: {allowed}");
        assert_eq!(allowed.lines().count(), 1, "{source}: {allowed}");
    }
    for harmless in ["/home/me", "/dev/null", "/srv/web/data"] {
        let unit = format!("{WEB}[[mounts]]\nbind = \"{harmless}\"\ntarget = \"/run/it\"\n");
        assert_eq!(findings(&host, &unit), "", "{harmless}");
    }
}

#[test]
fn a_missing_mount_point_of_the_root_is_made_on_the_host_and_announced() {
    let host = Table::bare();
    let unit = format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/new/place\"\n");
    assert_eq!(
        findings(&host, &unit),
        "W0001 web.toml:7 `/srv/web/new/place` will be created (it does not exist in the root)\n"
    );
    let steps = steps(&host, &unit);
    let made = steps.find("make the directory /srv/web/new/place <- web.toml:6\n").expect(&steps);
    assert!(made < steps.find("clone its first process").unwrap(), "{steps}");
}

#[test]
fn a_missing_mount_point_in_a_mount_is_made_in_the_jail() {
    let host = Table::bare();
    let unit = format!(
        "{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/tmp/new/place\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/tmp/new/place/etc\"\n"
    );
    assert_eq!(findings(&host, &unit), "");
    let steps = steps(&host, &unit);
    let enter = steps.find("clone its first process").unwrap();
    for line in ["make the directory /tmp/new/place <-", "make the directory /tmp/new/place/etc <-"]
    {
        assert!(steps.find(line).expect(&steps) > enter, "{steps}");
    }
    assert!(!steps.contains("/srv/web/tmp"), "{steps}");
}

#[test]
fn mount_points_that_cannot_be_made_are_errors() {
    let host = Table::bare();
    let unit = format!(
        r#"{WEB}
[[mounts]]
bind = "/etc"
target = "/data"
read-only = true
[[mounts]]
tmpfs = "1M"
target = "/data/below"
[[mounts]]
tmpfs = "1M"
target = "/proc/below"
[[mounts]]
tmpfs = "1M"
target = "/absent"
create = false
[[mounts]]
tmpfs = "1M"
target = "/etc/passwd"
[[mounts]]
content = "text"
target = "/var"
[[mounts]]
content = "text"
target = "/var/dir"
create = "dir"
[[mounts]]
tmpfs = "1M"
target = "/etc/passwd/below"
[[mounts]]
mask = true
target = "/absent"
[[mounts]]
symlink = "elsewhere"
target = "/var/run"
"#
    );
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0204 web.toml:12 `/data/below` cannot be created (an earlier mount makes the place read-only)
E0204 web.toml:15 `/proc/below` cannot be created (it lies in a file system of the kernel)
E0204 web.toml:18 `/absent` does not exist in the root (no such mount point)
E0204 web.toml:22 `/etc/passwd` of the root is not a directory (what is mounted there is a directory)
E0204 web.toml:25 `/var` of the root is a directory (what is mounted there is a file)
E0105 web.toml:29 the mount point would not fit what is mounted (what is mounted there is a file)
E0204 web.toml:32 `/etc/passwd/below` cannot be reached in the root (not a directory)
E0204 web.toml:35 `/absent` is not there to hide (does not exist in the root)
E0204 web.toml:38 `/var/run` exists in the root (a link would have to replace it)

"#]]
    );
}

#[test]
fn the_hosts_tree_is_never_changed_for_a_mount_point() {
    let unit = "[root]\nhost = true\n[process]\ncommand = [\"true\"]\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/new\"\n[[mounts]]\nsymlink = \"a\"\ntarget = \"/link\"\n";
    assert_data_eq!(
        findings(&Table::bare(), unit),
        str![[r#"
E0204 web.toml:7 `/new` does not exist, and the host's tree is not changed for it (no such mount point)
E0204 web.toml:10 `/link` cannot be created (the place is read-only)

"#]]
    );
}

#[test]
fn links_of_the_root_are_followed_inside_the_root() {
    let mut host = Table::bare();
    // The host's own /escape must not be what is reached.
    host.put("/srv/web/out", Node::Link("/escape".into()));
    host.put("/srv/web/up", Node::Link("../../../../data".into()));
    host.put("/escape", Node::Directory);
    let unit = format!(
        "{WEB}[[mounts]]\nbind = \"/etc\"\ntarget = \"/out\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/up\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/var/run/etc\"\n"
    );
    let steps = steps(&host, &unit);
    for line in [
        "make the directory /srv/web/escape <- web.toml:6\n",
        "bind /etc to /escape (nosuid,nodev) <- web.toml:6\n",
        "bind /etc to /data (nosuid,nodev) <- web.toml:9\n",
        "make the directory /run/etc <- web.toml:12\n",
        "bind /etc to /run/etc (nosuid,nodev) <- web.toml:12\n",
    ] {
        assert!(steps.contains(line), "{line}{steps}");
    }
}

#[test]
fn a_loop_of_links_is_an_error_at_its_target() {
    let mut host = Table::bare();
    host.put("/srv/web/loop", Node::Link("loop".into()));
    let unit = format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/loop\"\n");
    assert_eq!(
        findings(&host, &unit),
        "E0204 web.toml:7 `/loop` cannot be reached in the root (too many levels of links)\n"
    );
}

#[test]
fn a_link_that_leads_to_the_root_is_a_mount_over_it() {
    let mut host = Table::bare();
    host.put("/srv/web/self", Node::Link("/".into()));
    let unit = format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/self\"\n");
    assert_eq!(
        findings(&host, &unit),
        "E0201 web.toml:7 `/self` leads to `/` in this root (a mount over `/`)\n"
    );
}

#[test]
fn a_hostile_root_is_refused() {
    let mut host = Table::bare();
    host.put("/srv/web/proc", Node::Link("/data".into()));
    host.put("/srv/web/dev", Node::Link("/etc".into()));
    host.file("/srv/web/sys", "");
    assert_data_eq!(
        findings(&host, WEB),
        str![[r#"
E0311 web.toml:2 `/proc` of the root is a symbolic link (must be a directory to mount on)
E0311 web.toml:2 `/sys` of the root is not a directory (must be a directory to mount on)
E0311 web.toml:2 `/dev` of the root is a symbolic link (must be a directory to mount on)

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
fn the_devices_controller_is_put_up_where_another_layer_is_given_up() {
    let limits = |host: &Table, keys: &str| {
        group_steps(host, &format!("{WEB}{keys}")).contains("every device but c 1:3 rwm")
    };
    for host in [Table::version1(), Table::version2("", "")] {
        assert!(!limits(&host, ""));
        assert!(!limits(&host, "[security]\ncapabilities = [\"CAP_CHOWN\"]\n"));
        for keys in [
            "[security]\ncapabilities = [\"CAP_MKNOD\"]\n",
            "[security]\ncapabilities = \"all\"\n",
            "[[mounts]]\ntarget = \"/data\"\ntmpfs = \"1M\"\nnodev = false\n",
            "[[devices]]\npath = \"/dev/vda\"\n",
            "[namespaces]\npid = \"host\"\n",
        ] {
            assert!(limits(&host, keys), "{keys}");
            // Nodes of a user namespace's own mounts are never devices.
            let own = format!("{keys}[namespaces]\nuser = \"private\"\n");
            if !keys.contains("namespaces") {
                let needed = keys.contains("nodev") || keys.contains("[[devices]]");
                assert_eq!(limits(&host, &own), needed, "{own}");
            }
        }
        let steps =
            group_steps(&host, &format!("{WEB}[[devices]]\npath = \"/dev/vda\"\naccess = \"r\"\n"));
        assert!(steps.contains("c 136:* rwm, b 254:0 r\n"), "{steps}");
    }
    assert_eq!(
        findings(&Table::bare(), &format!("{WEB}[security]\ncapabilities = [\"CAP_MKNOD\"]\n")),
        "E0308 web.toml:6 `devices` cannot be set on this host (this host has no `devices` controller)\n"
    );
}

/// Root of a container of an ordinary user may make groups, and no more.
#[test]
fn root_of_a_user_namespace_sets_no_devices() {
    let unit = format!("{WEB}[[devices]]\npath = \"/dev/vda\"\n");
    assert_eq!(findings(&Table::version2("", ""), &unit), "");
    let host = Table { in_user_namespace: true, ..Table::version2("", "") };
    assert_eq!(
        findings(&host, &unit),
        "E0308 web.toml:6 `devices` cannot be set on this host (only root of the host sets which devices open)\n"
    );
    assert_eq!(
        findings(&host, &format!("{unit}access = \"r\"\n")),
        "E0309 web.toml:7 `access` needs the devices controller, which only root of the host can set (nothing else tells reading from writing)\n"
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

#[test]
fn no_step_names_a_path_of_the_jail_by_a_link() {
    // /bin is a link to usr/bin in this root.
    let unit = format!("{WEB}[[mounts]]\nbind = \"/etc\"\ntarget = \"/bin/etc\"\n");
    let steps = steps(&Table::bare(), &unit);
    assert!(steps.contains("bind /etc to /usr/bin/etc"), "{steps}");
    assert!(!steps.contains(" /bin/etc"), "{steps}");
}

// Order and defaults, over generated units.

/// A mount entry that could be in a unit.
fn any_mount() -> impl Strategy<Value = String> {
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
fn any_unit() -> impl Strategy<Value = String> {
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

fn any_host() -> impl Strategy<Value = Table> {
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

/// Indices of the steps that a test accepts.
fn all(steps: &[Step], accept: impl Fn(&Step) -> bool) -> Vec<usize> {
    (0..steps.len()).filter(|index| accept(&steps[*index])).collect()
}

/// The index of the one step that a test accepts.
fn the(steps: &[Step], name: &str, accept: impl Fn(&Step) -> bool) -> usize {
    match all(steps, accept)[..] {
        [index] => index,
        ref several => panic!("{name}: {} of them in {steps:#?}", several.len()),
    }
}

fn is_mount(step: &Step) -> bool {
    matches!(
        step,
        Step::Mount { .. }
            | Step::Bind { .. }
            | Step::BindDevices { .. }
            | Step::Mask { .. }
            | Step::ProtectPath { .. }
            | Step::MakeNode { .. }
            | Step::MakeLink { .. }
            | Step::ProtectRoot
    )
}

/// The order that DESIGN section 5 learnt from the record of runtimes.
fn assert_order(planned: &[super::Planned], capabilities: bool) {
    let steps: Vec<Step> = planned.iter().map(|planned| planned.step.clone()).collect();
    let before = |name: &str, earlier: usize, later: usize| {
        assert!(earlier < later, "{name}: {earlier} is not before {later} in {steps:#?}");
    };
    let enter = the(&steps, "enter", |step| matches!(step, Step::Enter { .. }));
    let exec = the(&steps, "exec", |step| matches!(step, Step::Exec { .. }));
    assert_eq!(exec, steps.len() - 1, "{steps:#?}");

    // On the host, before the clone.
    let journal = the(&steps, "journal", |step| matches!(step, Step::Journal { .. }));
    for index in all(&steps, |step| {
        matches!(
            step,
            Step::MakeHostNode { .. }
                | Step::MakeHostLink { .. }
                | Step::CreateCgroup { .. }
                | Step::SetLimit { .. }
                | Step::EnableControllers { .. }
                | Step::MoveSupervisor { .. }
                | Step::KillOnOom { .. }
                | Step::OpenStream { .. }
        )
    }) {
        before("nothing is made before the journal could take it back", journal, index);
        before("what is the host's is done on the host", index, enter);
    }
    for index in all(&steps, |step| matches!(step, Step::JoinPidNamespace { .. })) {
        assert_eq!(index + 1, enter, "{steps:#?}");
    }

    // What the host would keep can be taken back; what is the jail's goes with it.
    for (index, step) in steps.iter().enumerate() {
        let is_kept = matches!(
            step,
            Step::MakeStateDirectory { .. }
                | Step::Journal { .. }
                | Step::MakeHostNode { .. }
                | Step::MakeHostLink { .. }
                | Step::CreateCgroup { .. }
                | Step::ClaimIds { .. }
        );
        assert_eq!(step.undo().is_some(), is_kept, "{step:?}");
        assert!(!is_kept || index < enter, "{step:?}");
    }

    // Groups before the namespace that shows them, both before the mounts.
    let private = the(&steps, "private mounts", |step| matches!(step, Step::PrivateMounts { .. }));
    before("private mounts in the jail", enter, private);
    for index in all(&steps, |step| matches!(step, Step::JoinCgroup { .. })) {
        before("groups are joined inside", enter, index);
        for namespace in all(&steps, |step| *step == Step::NewCgroupNamespace) {
            before("in its group before that is its root", index, namespace);
        }
    }
    for index in all(&steps, |step| {
        matches!(
            step,
            Step::NewSession
                | Step::NewKeyring
                | Step::NewCgroupNamespace
                | Step::SetSysctl { .. }
                | Step::JoinNamespace { .. }
        )
    }) {
        before("after the clone", enter, index);
        before("before the mounts", index, private);
    }

    // Mounts.
    let root = the(&steps, "root", |step| {
        matches!(step, Step::AttachRoot { .. } | Step::MountRoot { .. })
    });
    before("nothing is mounted before mounts are private", private, root);
    for index in all(&steps, |step| matches!(step, Step::MountStage { .. })) {
        before("mounts are private first", private, index);
        before("the root is attached in the stage", index, root);
    }
    let pivot =
        the(&steps, "pivot", |step| matches!(step, Step::Pivot { .. } | Step::Chroot { .. }));
    for index in all(&steps, is_mount) {
        before("the root is attached before what is in it", root, index);
        before("the root is entered when it is complete", index, pivot);
    }
    let security = |origin: &Origin| {
        matches!(origin, Origin::Default("security.masked-paths" | "security.read-only-paths"))
    };
    let guards: Vec<usize> =
        (0..steps.len()).filter(|index| security(&planned[*index].origin)).collect();
    for index in (0..steps.len()).filter(|index| {
        is_mount(&steps[*index])
            && !security(&planned[*index].origin)
            && steps[*index] != Step::ProtectRoot
    }) {
        for guard in &guards {
            before("no mount of the unit brings back what is hidden", index, *guard);
        }
    }
    for index in all(&steps, |step| *step == Step::ProtectRoot) {
        for inside in all(&steps, |step| is_mount(step) && *step != Step::ProtectRoot) {
            before("a fresh root is filled before it is read-only", inside, index);
        }
    }
    let verify = the(&steps, "verify", |step| matches!(step, Step::VerifyMounts { .. }));
    before("the mounts are compared when they are final", pivot, verify);
    for index in all(&steps, |step| matches!(step, Step::SetPropagation { .. })) {
        before("pivot_root refuses a shared root", pivot, index);
        before("final before it is compared", index, verify);
    }
    let Step::VerifyMounts { expected } = &steps[verify] else { unreachable!() };
    for step in &steps {
        let (Step::Mount { target, .. }
        | Step::Bind { target, .. }
        | Step::Mask { target, .. }
        | Step::ProtectPath { target }) = step
        else {
            continue;
        };
        assert!(expected.iter().any(|mount| mount.target == *target), "{target:?} is not verified");
        assert!(target.is_absolute() && target.parent().is_some(), "{target:?}");
    }

    // Privileges, last.
    let limit = the(&steps, "bounding set", |step| matches!(step, Step::LimitCapabilities { .. }));
    let ids = the(&steps, "ids", |step| matches!(step, Step::SetIds { .. }));
    let caps = the(&steps, "capabilities", |step| matches!(step, Step::SetCapabilities { .. }));
    let close = the(&steps, "fds", |step| matches!(step, Step::CloseFds { .. }));
    let cwd = the(&steps, "cwd", |step| matches!(step, Step::ChangeDirectory { .. }));
    before("the bounding set needs CAP_SETPCAP", limit, ids);
    before("setuid changes the capability sets", ids, caps);
    before("no descriptor leads the working directory astray", caps, close);
    before("no descriptor leads the working directory astray", close, cwd);
    for index in all(&steps, |step| matches!(step, Step::LoadSeccomp { .. })) {
        match steps.contains(&Step::NoNewPrivileges) {
            true => assert_eq!(index, exec - 1, "nothing but the command is filtered"),
            false => before("a filter needs no_new_privs or CAP_SYS_ADMIN", ids, index),
        }
    }
    for index in all(&steps, |step| *step == Step::NoNewPrivileges) {
        before("no_new_privs last", cwd, index);
        before("no_new_privs last", index, exec);
    }
    for index in all(&steps, |step| {
        matches!(
            step,
            Step::SetRlimit { .. }
                | Step::SetNice { .. }
                | Step::SetOomScoreAdjust { .. }
                | Step::SetAffinity { .. }
                | Step::Terminal
                | Step::UseStream { .. }
        )
    }) {
        before("the process is the command's", verify, index);
        before("what needs privileges comes before they go", index, ids);
    }
    for index in all(&steps, |step| matches!(step, Step::Init { .. })) {
        let hide = the(&steps, "hide arguments", |step| *step == Step::HideArguments);
        before("the init has no more to show than a command", hide, index);
        before("the init is bounded as the command is", limit, index);
        before("the process is the command's", verify, index);
        before("what needs privileges comes before they go", index, ids);
    }
    let forbid = the(&steps, "forbid tracing", |step| *step == Step::ForbidTracing);
    before("nobody looks into the set-up", forbid, private);
    let core = all(
        &steps,
        |step| matches!(step, Step::SetRlimit { index, .. } if names::RLIMITS[*index].key == "core"),
    );
    assert_eq!(core.len(), 1, "core files are limited by default");
    if !capabilities {
        assert_eq!(steps[limit], Step::LimitCapabilities { keep: 0 });
        assert_eq!(steps[caps], Step::SetCapabilities { permitted: 0, ambient: 0 });
    }
}

#[test]
fn mount_points_are_made_of_the_kind_that_fits() {
    let unit = format!(
        "{WEB}[[mounts]]\nbind = \"/dev/null\"\ntarget = \"/tmp/file\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/tmp/dir\"\n"
    );
    let (_, planning) = planning(&Table::bare(), &unit);
    let made = |path: &str| {
        let steps = &planning.plan.as_ref().unwrap().steps;
        steps.iter().find_map(|planned| match &planned.step {
            Step::MakeNode { path: made, kind } if made == Path::new(path) => Some(*kind),
            _ => None,
        })
    };
    assert_eq!(made("/tmp/file"), Some(NodeKind::File));
    assert_eq!(made("/tmp/dir"), Some(NodeKind::Directory));
}

/// Steps without their origins, and what was said.
fn essence(host: &Table, text: &str, sets: &[String]) -> Essence {
    let loaded = from_text("web.toml", text, "/units".into(), "web", sets, &[]);
    let planning = plan(loaded.unit.as_ref().unwrap(), host, Care::Launch);
    let mut said: Vec<_> = loaded
        .diagnostics
        .iter()
        .chain(&planning.diagnostics)
        .map(|found| (found.code, found.message.clone()))
        .collect();
    said.sort();
    let steps =
        planning.plan.map(|plan| plan.steps.into_iter().map(|planned| planned.step).collect());
    (steps, said)
}

type Essence = (Option<Vec<Step>>, Vec<(&'static str, String)>);

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

/// Where to cut a text and what to put there.
fn any_edit() -> impl Strategy<Value = (prop::sample::Index, usize, String)> {
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

fn edit(text: &str, edits: &[(prop::sample::Index, usize, String)]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for (at, length, junk) in edits {
        let at = at.index(chars.len() + 1);
        let end = (at + length).min(chars.len());
        chars.splice(at..end, junk.chars());
    }
    chars.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_order_of_a_launch_holds_for_any_unit_and_host(unit in any_unit(), host in any_host()) {
        let (loaded, planning) = planning(&host, &unit);
        let again = plan(loaded.unit.as_ref().unwrap(), &host, Care::Everything);
        prop_assert_eq!(&planning.plan, &again.plan, "planning is deterministic");
        prop_assert_eq!(&planning.diagnostics, &again.diagnostics);
        let errors = planning.diagnostics.iter().any(|found| found.severity == Severity::Error);
        prop_assert_eq!(planning.plan.is_none(), errors, "a plan, or the reason why not");
        if let Some(plan) = planning.plan {
            assert_order(&plan.steps, unit.contains("capabilities ="));
            let quick = super::plan(loaded.unit.as_ref().unwrap(), &host, Care::Launch);
            prop_assert_eq!(Some(plan), quick.plan, "care changes what is looked at, not what is done");
        }
    }

    #[test]
    fn most_generated_units_are_sound(units in prop::collection::vec(any_unit(), 64)) {
        // Else the property above would hold for want of plans.
        let host = Table::version1();
        let sound = units.iter().filter(|unit| planning(&host, unit).1.plan.is_some()).count();
        prop_assert!(sound >= 8, "{} of 64", sound);
    }

    #[test]
    fn no_change_to_a_unit_makes_reading_or_planning_panic(
        unit in any_unit(),
        edits in prop::collection::vec(any_edit(), 1..6),
        host in any_host(),
    ) {
        let text = edit(&unit, &edits);
        let started = Instant::now();
        let (loaded, planning) = planning(&host, &text);
        let mut all = loaded.diagnostics.clone();
        all.extend(planning.diagnostics);
        let rendered = crate::diagnostic::render(&all, &loaded.sources);
        prop_assert_eq!(rendered.is_empty(), all.is_empty());
        let _json = crate::diagnostic::to_json(&all, &loaded.sources);
        prop_assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }

    #[test]
    fn no_text_makes_reading_or_planning_panic(text in "([\\PC\n]{0,80}|[a-z\\[\\]{}.=\"',# \n0-9]{0,200})") {
        let (loaded, planning) = planning(&Table::bare(), &text);
        let mut all = loaded.diagnostics.clone();
        all.extend(planning.diagnostics);
        // No text this short is a unit: it would have to name a root.
        prop_assert!(!all.is_empty());
        let _rendered = crate::diagnostic::render(&all, &loaded.sources);
    }

    #[test]
    fn no_assignment_makes_reading_or_planning_panic(assignment in "([a-z.]{0,20}=)?[\\PC]{0,40}") {
        let (steps, said) = essence(&Table::bare(), WEB, &[assignment]);
        prop_assert!(steps.is_some() || !said.is_empty());
    }
}

#[test]
fn numbers_at_the_edge_are_findings_not_panics() {
    let host = Table::version1();
    let mut panicked = Vec::new();
    for (key, value) in [
        ("process.cpu-affinity", "\"4294967295\""),
        ("process.cpu-affinity", "\"65535\""),
        ("limits.cpuset", "\"4294967295\""),
        ("limits.cpuset-mems", "4294967295"),
        ("limits.pids", "9223372036854775807"),
        ("limits.memory", "9223372036854775807"),
        ("limits.memory", "\"16777215T\""),
        ("limits.swap", "\"16777215T\""),
        ("limits.cpu", "1000000"),
        ("limits.cpu", "inf"),
        ("limits.cpu", "nan"),
        ("limits.cpu-period", "\"500000years\""),
        ("limits.cpu-burst", "\"500000years\""),
        ("lifecycle.timeout", "\"584000000000years\""),
        ("lifecycle.stop-grace", "\"500000years\""),
        ("namespaces.time-offsets", "{ boottime = \"-500000years\" }"),
        ("process.nice", "-9223372036854775808"),
        ("process.user", "4294967295"),
        ("process.umask", "\"7777\""),
        ("root.tmpfs", "9223372036854775807"),
        ("limits.rlimits.nofile", "{ soft = 9223372036854775807, hard = \"infinity\" }"),
        ("limits.blkio.weight", "9223372036854775807"),
    ] {
        let base = "limits.cpu = 2\nlimits.memory = \"1G\"\nnamespaces.time = \"private\"\nroot.path = \"/srv/web\"\nprocess.command = [\"true\"]\n";
        let sets = [format!("{key}={value}")];
        let result = std::panic::catch_unwind(|| essence(&host, base, &sets));
        if result.is_err() {
            panicked.push(sets);
        }
    }
    assert_eq!(panicked, Vec::<[String; 1]>::new());
}

#[test]
fn a_list_of_ranges_is_decided_quickly_whatever_its_length() {
    // Well below the 1 MiB that a unit may have.
    let list = vec!["0-65535"; 100].join(",");
    let unit = format!("{WEB}[limits]\ncpuset = \"{list}\"\n");
    let started = Instant::now();
    findings(&Table::version1(), &unit);
    assert!(started.elapsed() < Duration::from_secs(1), "took {:?}", started.elapsed());
}

#[test]
fn what_an_image_says_holds_where_the_unit_does_not() {
    let mut host = Table::bare();
    host.config = Config {
        env: vec!["PATH=/image".to_owned(), "A=image".to_owned()],
        entrypoint: vec!["/start".to_owned()],
        cmd: vec!["now".to_owned()],
        working_dir: Some("/srv".to_owned()),
        user: Some("7:8".to_owned()),
        stop_signal: Some("SIGQUIT".to_owned()),
    };
    let exec = |text: &str, arguments: &[String]| {
        let loaded = from_text("web.toml", text, "/units".into(), "web", &[], arguments);
        let planning = plan(loaded.unit.as_ref().unwrap(), &host, Care::Launch);
        let steps = planning.plan.unwrap_or_else(|| panic!("{:?}", planning.diagnostics)).steps;
        let last = steps.last().unwrap().clone();
        let Step::Exec { command, environment } = last.step else { panic!("{last:?}") };
        let cwd = steps.iter().find_map(|planned| match &planned.step {
            Step::ChangeDirectory { path } => Some(path.display().to_string()),
            _ => None,
        });
        let ids = steps.iter().find_map(|planned| match &planned.step {
            Step::SetIds { uid, gid, .. } => Some((*uid, *gid)),
            _ => None,
        });
        let stop = steps.iter().find_map(|planned| match &planned.step {
            Step::Supervise { stop_signal, .. } => Some(*stop_signal),
            _ => None,
        });
        let value = |name: &str| {
            environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        };
        (command, value("PATH"), value("A"), cwd.unwrap(), ids.unwrap(), stop.unwrap(), last.origin)
    };
    let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let image = "root.oci = \"/etc:tag\"\n";
    let some = |text: &str| Some(text.to_owned());
    let (command, path, a, cwd, ids, stop, by) = exec(image, &[]);
    assert_eq!(command, words(&["/start", "now"]));
    assert_eq!((path, a, &*cwd), (some("/image"), some("image"), "/srv"));
    assert_eq!((ids, stop, by), ((7, 8), 3, Origin::Image("process.command")));
    // Arguments take the place of the image's own.
    assert_eq!(exec(image, &words(&["later"])).0, words(&["/start", "later"]));
    let unit = format!(
        "{image}process = {{ command = [\"/x\"], env = {{ A = \"unit\" }}, cwd = \"/\", user = 0 }}\n"
    );
    let (command, path, a, cwd, ids, ..) = exec(&unit, &[]);
    assert_eq!(command, words(&["/x"]));
    assert_eq!((path, a, &*cwd, ids), (some("/image"), some("unit"), "/", (0, 0)));
}

#[test]
fn an_archive_without_a_command_is_told_once() {
    let text = "root.tar = \"/etc/root.tar\"\n";
    let (_, said) = essence(&Table::bare(), text, &[]);
    let codes: Vec<_> = said.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["E0104"], "{said:?}");
    let (_, said) = essence(&Table::bare(), "root.oci = \"/etc:tag\"\n", &[]);
    let codes: Vec<_> = said.iter().map(|(code, _)| *code).collect();
    assert_eq!(codes, ["E0104"], "{said:?}");
}

#[test]
fn a_name_of_an_image_waits_until_it_is_unpacked() {
    let mut host = Table::bare();
    host.config.user = Some("web".to_owned());
    host.config.cmd = vec!["/start".to_owned()];
    let (_, planning) = planning(&host, "root.oci = \"/etc:tag\"\n");
    let codes: Vec<_> = planning.diagnostics.iter().map(|found| found.code).collect();
    assert_eq!(codes, ["W0008"]);
    assert!(planning.plan.unwrap().needs_preparation());
}
