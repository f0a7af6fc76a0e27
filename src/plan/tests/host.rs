//! A host that is a table, so that v1, hybrid and v2 hosts, root and ordinary
//! users are all at hand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::block_image::{Filesystem, Image};
use crate::closure::{Closure, Entry, Problem, Request, Wanted, What};
use crate::host::{Attributes, Host, Kind, Mounted, StoredImage};
use crate::image::oci::Config;
use crate::image::source::Source;
use crate::names;
use crate::plan::cgroup::{Hierarchy, Layout};
use crate::plan::step::Namespace;

/// What is at a path of the table.
#[derive(Clone, Debug)]
pub(super) enum Node {
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
pub(super) struct Table {
    pub(super) nodes: BTreeMap<PathBuf, Node>,
    pub(super) ids: (u32, u32),
    pub(super) capabilities: u64,
    pub(super) in_user_namespace: bool,
    pub(super) securebits: u32,
    pub(super) landlock: u32,
    pub(super) hard_limit: u64,
    pub(super) layout: Layout,
    pub(super) read_only: Vec<PathBuf>,
    pub(super) delegated: Vec<PathBuf>,
    pub(super) opaque: Vec<PathBuf>,
    pub(super) mounts: Vec<Mounted>,
    pub(super) filesystems: Vec<(&'static str, i64)>,
    pub(super) config: Config,
    pub(super) terminal: bool,
    pub(super) variables: Vec<(&'static str, &'static str)>,
}

impl Table {
    /// A host without control groups, with a root at `/srv/web`; root asks.
    pub(super) fn bare() -> Self {
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
            filesystems: Vec::new(),
            config: Config::default(),
            terminal: false,
            variables: vec![("TERM", "xterm"), ("LANG", "C.UTF-8")],
        };
        for (name, major, minor) in crate::plan::root::DEVICES {
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
    pub(super) fn version1() -> Self {
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
    pub(super) fn version2(own: &str, handed_out: &str) -> Self {
        let mut host = Self::bare();
        host.version2_at("/sys/fs/cgroup", own, handed_out);
        host
    }

    pub(super) fn version2_at(&mut self, mount: &str, own: &str, handed_out: &str) {
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
    pub(super) fn for_user(mut self) -> Self {
        self.ids = (1000, 1000);
        self.capabilities = 0;
        self.read_only = vec!["/sys".into(), "/srv".into(), "/run".into()];
        self
    }

    pub(super) fn put(&mut self, path: &str, node: Node) {
        for parent in Path::new(path).ancestors().skip(1) {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Directory);
        }
        self.nodes.insert(path.into(), node);
    }

    pub(super) fn file(&mut self, path: &str, content: &str) {
        self.put(path, Node::File { executable: false, content: content.into() });
    }

    /// Mounts a file system that is seen nowhere else.
    pub(super) fn mount(&mut self, fstype: &str, target: &str) {
        self.put(target, Node::Directory);
        self.mounts.push(Mounted {
            target: target.into(),
            fstype: fstype.to_owned(),
            noexec: false,
            elsewhere: Vec::new(),
        });
    }

    /// A program with that content; without, one for this machine.
    pub(super) fn program(&mut self, path: &str, content: &str) {
        let content = match content {
            "" => {
                let machine: u8 = match std::env::consts::ARCH {
                    "aarch64" => 183,
                    "riscv64" => 243,
                    _ => 62,
                };
                let mut head = b"\x7fELF\x02\x01\x01".to_vec();
                head.resize(16, 0);
                head.extend([2, 0, machine, 0]);
                head
            }
            content => content.into(),
        };
        self.put(path, Node::File { executable: true, content });
    }

    /// Follows every link but, where asked, the last.
    pub(super) fn find(&self, path: &Path, follow_last: bool) -> io::Result<(PathBuf, &Node)> {
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

    fn may_read(&self, _: &Path) -> bool {
        true
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

    fn has_own_rules(&self, _: &Path) -> bool {
        false
    }

    fn is_noexec(&self, path: &Path) -> bool {
        self.mounts.iter().any(|mount| mount.noexec && path.starts_with(&mount.target))
    }

    fn is_noatime(&self, _: &Path) -> bool {
        false
    }

    fn lowest_nice(&self) -> i32 {
        0
    }

    fn namespace(&self, path: &Path) -> io::Result<Option<i32>> {
        self.find(path, true)?;
        let known =
            [Namespace::Pid, Namespace::Ipc, Namespace::Uts, Namespace::Cgroup, Namespace::Net];
        Ok(known.into_iter().find(|known| path.ends_with(known.file())).map(Namespace::flag))
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

    fn clocks(&self) -> [std::time::Duration; 2] {
        [1, 2].map(|days| std::time::Duration::from_secs(days * 86_400))
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

    fn filesystem(&self, path: &Path) -> io::Result<i64> {
        let found = self.filesystems.iter().find(|(at, _)| path.starts_with(at));
        // ext4.
        Ok(found.map_or(0xef53, |(_, magic)| *magic))
    }

    fn is_locked(&self, _: &Path) -> bool {
        false
    }

    fn page_size(&self) -> u64 {
        4096
    }
}
