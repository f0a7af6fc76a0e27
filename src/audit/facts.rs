//! What a plan leaves a jail: read off its steps, one by one.
//!
//! Nothing is judged here. The host is asked for one thing alone: what is mounted
//! below the directories that are bound.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::host::Host;
use crate::names;
use crate::plan::Plan;
use crate::plan::danger::{self, Reason};
use crate::plan::step::{DeviceNumber, Landlock};
use crate::plan::step::{
    HostTree, IdMaps, MountFlags, Namespace, NodeKind, OpenMode, Origin, Propagation, Spot, Step,
    TreeSource,
};
use crate::seccomp::Filter;

/// What lies somewhere in the jail's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file or directory of the host.
    Host {
        /// Which.
        source: PathBuf,
        /// With the mounts below it.
        recursive: bool,
    },
    /// Directories of the host laid over each other, which stay as they are.
    Layers(Vec<PathBuf>),
    /// Memory, or a file that the launch writes.
    Own,
    /// The file system of a loop device.
    Image,
    /// A file system of the kernel.
    Kernel(&'static str),
}

/// Something mounted in the jail, in the order of the launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Where.
    pub target: PathBuf,
    /// What.
    pub content: Content,
    /// The directory of the host that takes what is changed, unless the
    /// content itself does.
    pub upper: Option<PathBuf>,
    /// How.
    pub flags: MountFlags,
    /// Its propagation type.
    pub propagation: Propagation,
    /// Whether what the host mounts below it later is seen in it.
    pub follows: bool,
    /// Why.
    pub origin: Origin,
}

/// Something that comes along with a bind of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inner {
    /// Where in the jail.
    pub at: PathBuf,
    /// The host's path.
    pub source: PathBuf,
    /// What it hands out.
    pub(crate) reason: Reason,
    /// Whether it is a process file system.
    pub is_proc: bool,
    /// Whether it is mounted below what is bound.
    pub is_below: bool,
    /// Why.
    pub origin: Origin,
}

/// Amounts that a control group keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory.
    pub memory: bool,
    /// Swap.
    pub swap: bool,
    /// Processes.
    pub processes: bool,
    /// CPU time.
    pub cpu: bool,
    /// Some device's bandwidth.
    pub disk: bool,
}

/// Everything the plan says about what the jail can do.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Namespaces of its own.
    pub own: Vec<Namespace>,
    /// Namespaces of others that it joins.
    pub joined: Vec<(Namespace, Origin)>,
    /// Who its users are outside, in a user namespace of its own.
    pub map: Option<IdMaps>,
    /// What of the host is opened for it.
    trees: Vec<HostTree>,
    /// Where on the stage that is attached.
    staged: Vec<(PathBuf, PathBuf)>,
    /// User and group inside, further groups, and why.
    pub ids: (u32, u32, Vec<u32>),
    /// Why these.
    pub ids_origin: Option<Origin>,
    /// Capabilities that no execve brings back.
    pub bounding: u64,
    /// Capabilities of the command.
    pub permitted: u64,
    /// Those that a command of another user than root keeps.
    pub ambient: u64,
    /// Why these.
    pub capabilities_origin: Option<Origin>,
    /// Whether an execve cannot gain privileges.
    pub no_new_privileges: bool,
    /// Whether the old root is still there.
    pub chroot: Option<Origin>,
    /// The tree.
    pub places: Vec<Place>,
    /// What comes along with binds of the host and hands out more than files.
    pub inner: Vec<Inner>,
    /// Paths that are hidden.
    pub masked: Vec<PathBuf>,
    /// Paths that are made read-only.
    pub protected: Vec<PathBuf>,
    /// What is limited.
    pub limits: Limits,
    /// Open descriptors of the caller that come along.
    pub kept: Vec<i32>,
    /// Why.
    pub kept_origin: Option<Origin>,
    /// Files of the host that take output.
    pub output: Vec<(PathBuf, Origin)>,
    /// Size of core files.
    pub core: Option<(u64, Origin)>,
    /// Badness for the out-of-memory killer.
    pub oom_score: Option<(i32, Origin)>,
    /// Nice value.
    pub nice: Option<(i32, Origin)>,
    /// When it is ended.
    pub timeout: Option<Duration>,
    /// Whether jailrun's own process is the first of the jail.
    pub init: bool,
    /// Files whose file systems the kernel reads.
    pub images: Vec<(PathBuf, Origin)>,
    /// The propagation type of its mounts as a whole.
    pub propagation: Option<(Propagation, Origin)>,
    /// Whether the caller's session and terminal are left behind.
    pub new_session: bool,
    /// Whether the caller's keyring is left behind.
    pub new_keyring: bool,
    /// Device nodes of the host besides the usual ones.
    pub devices: Vec<(PathBuf, DeviceNumber, Origin)>,
    /// Whether every other device is refused.
    pub refuses_devices: bool,
    /// What Landlock leaves.
    pub landlock: Option<Landlock>,
    /// The filter for system calls.
    pub filter: Option<(Filter, Origin)>,
    /// Names in its environment.
    pub environment: Vec<String>,
}

/// The user that stands for those without a number.
const NOBODY: u32 = 65_534;

/// `LANDLOCK_ACCESS_FS_WRITE_FILE`.
pub const WRITE_FILE: u64 = 1 << 1;
/// `LANDLOCK_ACCESS_FS_READ_FILE`.
pub const READ_FILE: u64 = 1 << 2;
/// `LANDLOCK_ACCESS_NET_CONNECT_TCP`.
const CONNECT_TCP: u64 = 1 << 1;
/// `LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET`.
const ABSTRACT_SOCKETS: u64 = 1;

impl Facts {
    /// Whether Landlock keeps it from the host's TCP ports, but for some, and
    /// from its abstract sockets.
    pub fn confines_network(&self) -> bool {
        self.landlock.as_ref().is_some_and(|landlock| {
            landlock.ports & CONNECT_TCP != 0 && landlock.scope & ABSTRACT_SOCKETS != 0
        })
    }

    /// Reads the plan.
    pub fn of(plan: &Plan) -> Self {
        let mut facts = Self {
            own: Vec::new(),
            joined: Vec::new(),
            map: None,
            trees: Vec::new(),
            staged: Vec::new(),
            ids: (0, 0, Vec::new()),
            ids_origin: None,
            bounding: crate::names::ALL_CAPABILITIES,
            permitted: crate::names::ALL_CAPABILITIES,
            ambient: 0,
            capabilities_origin: None,
            no_new_privileges: false,
            chroot: None,
            places: Vec::new(),
            inner: Vec::new(),
            masked: Vec::new(),
            protected: Vec::new(),
            limits: Limits::default(),
            kept: Vec::new(),
            kept_origin: None,
            output: Vec::new(),
            core: None,
            oom_score: None,
            nice: None,
            timeout: None,
            init: false,
            images: Vec::new(),
            propagation: None,
            new_session: false,
            new_keyring: false,
            devices: Vec::new(),
            refuses_devices: false,
            landlock: None,
            filter: None,
            environment: Vec::new(),
        };
        let state = plan.steps.iter().find_map(|planned| match &planned.step {
            Step::MakeStateDirectory { path } => Some(path.as_path()),
            _ => None,
        });
        for planned in &plan.steps {
            facts.take(&planned.step, planned.origin, state.unwrap_or(Path::new("")));
        }
        facts
    }

    /// Looks at what comes along with the binds, as far as nothing covers it.
    pub fn look_inside(&mut self, host: &impl Host) {
        let mut found = Vec::new();
        for place in &self.places {
            let Content::Host { source, recursive } = &place.content else { continue };
            // The host's own tree as the root is told as that.
            let is_host = place.target.parent().is_none() && source.parent().is_none();
            if is_host || self.kernel_file_system(place).is_some() {
                continue;
            }
            for inner in danger::inside(host, source, *recursive) {
                let Ok(rest) = inner.path.strip_prefix(source) else { continue };
                let is_below = !rest.as_os_str().is_empty();
                let at = match is_below {
                    true => place.target.join(rest),
                    false => place.target.clone(),
                };
                if self.holder(&at).is_some_and(|holder| std::ptr::eq(holder, place)) {
                    found.push(Inner {
                        at,
                        source: inner.path,
                        reason: inner.reason,
                        is_proc: inner.is_proc,
                        is_below,
                        origin: place.origin,
                    });
                }
            }
        }
        self.inner = found;
    }

    /// The file system of the kernel that a place is. Where a namespace is the
    /// host's, so is the file system that shows it, bound in place of a new one.
    pub fn kernel_file_system(&self, place: &Place) -> Option<&'static str> {
        match &place.content {
            Content::Kernel(fstype) => Some(fstype),
            Content::Host { source, .. }
                if source == Path::new("/sys") && place.flags.read_only =>
            {
                Some("sysfs")
            }
            Content::Host { source, .. }
                if source == Path::new("/proc") && !self.has(Namespace::Pid) =>
            {
                Some("proc")
            }
            Content::Host { .. } | Content::Layers(_) | Content::Own | Content::Image => None,
        }
    }

    fn take(&mut self, step: &Step, origin: Origin, state: &Path) {
        match step {
            // The host's side, gone or harmless when the command starts.
            Step::MakeStateDirectory { .. }
            | Step::Journal { .. }
            | Step::MakeHostNode { .. }
            | Step::MakeHostLink { .. }
            | Step::ImportImage { .. }
            | Step::HoldImage { .. }
            | Step::LockDirectory { .. }
            | Step::CreateCgroup { .. }
            | Step::EnableControllers { .. }
            | Step::MoveSupervisor { .. }
            | Step::KillOnOom { .. }
            | Step::JoinCgroup { .. }
            | Step::ClearGroups
            | Step::BecomeRoot
            | Step::ShiftOwners { .. }
            | Step::ClaimIds { .. } => {}
            Step::AttachLoop { file, .. } => self.images.push((file.clone(), origin)),
            Step::SetLimit { file, value, .. } => self.limit(file, value),
            Step::OpenStream { fd: _, path, mode } => match mode {
                OpenMode::Read => {}
                OpenMode::Truncate | OpenMode::Append => {
                    if path != Path::new("/dev/null") {
                        self.output.push((path.clone(), origin));
                    }
                }
            },
            Step::Supervise { timeout, .. } => self.timeout = *timeout,
            Step::JoinPidNamespace { .. } => self.joined.push((Namespace::Pid, origin)),
            Step::Enter { namespaces, map, trees, .. } => {
                self.own.extend(namespaces);
                self.map.clone_from(map);
                self.trees.clone_from(trees);
            }
            Step::NewSession => self.new_session = true,
            Step::NewKeyring => self.new_keyring = true,
            Step::FindJail { .. } => {}
            Step::JoinJail { namespace, .. } => self.joined.push((*namespace, origin)),
            Step::JoinNamespace { namespace, .. } => self.joined.push((*namespace, origin)),
            Step::NewCgroupNamespace => self.own.push(Namespace::Cgroup),
            Step::PrivateMounts { propagation } => self.propagation = Some((*propagation, origin)),
            Step::SetPropagation { propagation } => self.propagation = Some((*propagation, origin)),
            // Names and interfaces of its own namespaces.
            Step::SetHostname { .. } | Step::SetDomainname { .. } | Step::LoopbackUp => {}
            Step::SetSysctl { .. } => {}
            // The processes of the launch, not the command.
            Step::ForbidTracing | Step::ResetSecurebits | Step::HideArguments => {}
            // What is prepared where the command does not see it.
            Step::MountMemory { .. }
            | Step::MakeStageNode { .. }
            | Step::LinkLayer { .. }
            | Step::MountStage { .. }
            | Step::WriteContent { .. } => {}
            // Copies are the jail's own.
            Step::CopyTree { .. } | Step::UnpackTree { .. } => {}
            Step::MountLoop { on, flags, .. } => {
                if let Some(target) = inside(on) {
                    self.place(target, Content::Image, *flags, origin);
                }
            }
            Step::AttachTree { tree, on, flags } => {
                let source = self.trees.get(*tree).map(|tree| &tree.source);
                match (on, source) {
                    (Spot::Stage(at), Some(TreeSource::Path(source))) => {
                        self.staged.push((at.clone(), source.clone()));
                    }
                    (Spot::Stage(_), _) => {}
                    (Spot::Root(_) | Spot::Inside(_), _) => {
                        if let Some(target) = inside(on) {
                            self.place(target, Content::Image, *flags, origin);
                        }
                    }
                }
            }
            Step::MountOverlay { on, overlay, flags } => {
                let Some(target) = inside(on) else { return };
                let of_host: Vec<_> = overlay
                    .lower
                    .iter()
                    .map(|path| self.behind(path))
                    .filter(|path| !path.starts_with(state))
                    .collect();
                let upper = overlay.upper.as_ref().map(|(upper, _)| self.behind(upper));
                let read_only = flags.read_only || upper.is_none();
                self.place(
                    target,
                    Content::Layers(of_host),
                    MountFlags { read_only, ..*flags },
                    origin,
                );
                if let Some(place) = self.places.last_mut() {
                    place.upper = upper.filter(|upper| !upper.starts_with(state));
                }
            }
            Step::AttachRoot { source, flags, .. } => {
                let content = Content::Host { source: source.clone(), recursive: true };
                self.place("/".into(), content, *flags, origin);
                self.follow(true);
            }
            Step::MountRoot { flags, .. } => {
                self.place("/".into(), Content::Own, *flags, origin);
            }
            Step::Mount { fstype, target, flags, propagation, .. } => {
                let content = match *fstype {
                    "tmpfs" => Content::Own,
                    kernel => Content::Kernel(kernel),
                };
                self.place(target.clone(), content, *flags, origin);
                self.spread(*propagation);
            }
            Step::Bind { source, tree: _, target, recursive, flags, propagation } => {
                let content = match source.starts_with(state) {
                    true => Content::Own,
                    false => Content::Host { source: source.clone(), recursive: *recursive },
                };
                self.place(target.clone(), content, *flags, origin);
                self.spread(propagation.unwrap_or(Propagation::Private));
                let follows =
                    !matches!(propagation, Some(Propagation::Private | Propagation::Unbindable));
                self.follow(follows);
            }
            Step::BindDevice { source, target, number } => {
                self.devices.push((source.clone(), *number, origin));
                let flags = crate::plan::devices::NODE_FLAGS;
                self.place(target.clone(), Content::Own, flags, origin);
            }
            Step::LimitDevices { .. } => self.refuses_devices = true,
            // null, zero and the like: everybody's.
            Step::BindDevices { .. } => {}
            Step::MakeNode { .. } | Step::MakeLink { .. } => {}
            Step::Mask { target, kind } => {
                self.masked.push(target.clone());
                let flags = crate::plan::mounts::mask_flags(match kind {
                    NodeKind::Directory => NodeKind::Directory,
                    NodeKind::File => NodeKind::File,
                });
                self.place(target.clone(), Content::Own, flags, origin);
            }
            Step::ProtectPath { target } => self.protected.push(target.clone()),
            Step::ProtectRoot => {
                if let Some(root) =
                    self.places.iter_mut().find(|place| place.target.parent().is_none())
                {
                    root.flags.read_only = true;
                }
            }
            Step::Pivot { .. } => {}
            Step::Chroot { .. } => self.chroot = Some(origin),
            Step::Init { .. } => self.init = true,
            Step::VerifyMounts { .. } | Step::Terminal => {}
            Step::UseStream { .. } | Step::SetUmask { .. } | Step::SetAffinity { .. } => {}
            Step::SetNice { nice } => self.nice = Some((*nice, origin)),
            Step::SetOomScoreAdjust { score } => self.oom_score = Some((*score, origin)),
            Step::SetRlimit { index, hard, .. } => {
                if crate::names::RLIMITS.get(*index).is_some_and(|limit| limit.key == "core") {
                    self.core = Some((*hard, origin));
                }
            }
            Step::LimitCapabilities { keep } => {
                self.bounding = *keep;
                self.capabilities_origin = Some(origin);
            }
            Step::SetIds { uid, gid, groups } => {
                self.ids = (*uid, *gid, groups.clone().unwrap_or_default());
                self.ids_origin = Some(origin);
            }
            Step::SetCapabilities { permitted, ambient } => {
                self.permitted = *permitted;
                self.ambient = *ambient;
            }
            Step::ChangeDirectory { .. } => {}
            Step::Landlock(landlock) => self.landlock = Some(landlock.clone()),
            Step::NoNewPrivileges => self.no_new_privileges = true,
            Step::LoadSeccomp { filter, .. } => self.filter = Some((filter.clone(), origin)),
            Step::CloseFds { keep } => {
                self.kept.clone_from(keep);
                self.kept_origin = Some(origin);
            }
            Step::Exec { command: _, environment } => {
                self.environment = environment.iter().map(|(name, _)| name.clone()).collect();
            }
        }
    }

    fn place(&mut self, target: PathBuf, content: Content, flags: MountFlags, origin: Origin) {
        let propagation = Propagation::Private;
        let (upper, follows) = (None, false);
        self.places.push(Place { target, content, upper, flags, propagation, follows, origin });
    }

    fn spread(&mut self, propagation: Propagation) {
        if let Some(place) = self.places.last_mut() {
            place.propagation = propagation;
        }
    }

    /// Whether the place mounted last gets the host's mounts, where the root does.
    fn follow(&mut self, follows: bool) {
        let is_slave = matches!(self.propagation, Some((Propagation::Slave, _)));
        if let Some(place) = self.places.last_mut() {
            place.follows = follows && is_slave;
        }
    }

    fn limit(&mut self, file: &Path, value: &str) {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let is_limited = !matches!(value.split(' ').next(), Some("max" | "-1") | None);
        match &*name {
            "memory.limit_in_bytes" | "memory.max" => self.limits.memory = is_limited,
            "memory.memsw.limit_in_bytes" | "memory.swap.max" => self.limits.swap = is_limited,
            "pids.max" => self.limits.processes = is_limited,
            "cpu.cfs_quota_us" | "cpu.max" => self.limits.cpu = is_limited,
            "io.max" => self.limits.disk = true,
            name if name.starts_with("blkio.throttle.") => self.limits.disk = true,
            // Shares, sets and thresholds bound nothing.
            _ => {}
        }
    }

    /// The host's path behind one of the stage.
    fn behind(&self, path: &Path) -> PathBuf {
        let found = self.staged.iter().find_map(|(at, source)| {
            let below = path.strip_prefix(at).ok()?;
            Some(if below.as_os_str().is_empty() { source.clone() } else { source.join(below) })
        });
        found.unwrap_or_else(|| path.to_owned())
    }

    /// Whether it has that namespace for itself.
    pub fn has(&self, namespace: Namespace) -> bool {
        self.own.contains(&namespace)
    }

    /// The user outside, as whom files are opened and processes signalled: the
    /// mightiest that it can become.
    pub fn outside(&self) -> u32 {
        let outside = |uid| match &self.map {
            Some(map) => map.uid_outside(uid),
            None => Some(uid),
        };
        // Whoever may become another user counts as root where root can be had.
        let may_set = self.has_effective(names::CAP_SETUID);
        match may_set && outside(0) == Some(0) {
            true => 0,
            false => outside(self.ids.0).unwrap_or(NOBODY),
        }
    }

    /// Whether its command can come to use a capability: another user than root
    /// keeps at execve what is ambient, and gets others by files alone.
    pub fn has_effective(&self, capability: u64) -> bool {
        let reachable = match self.ids.0 != 0 && self.no_new_privileges {
            true => self.ambient,
            false => self.bounding,
        };
        reachable & capability != 0
    }

    /// Capabilities that count on the host.
    pub fn host_capabilities(&self) -> u64 {
        match &self.map {
            Some(_) => 0,
            None => self.bounding,
        }
    }

    /// The place that a path of the jail lies on: what is mounted last covers
    /// what was there.
    pub fn holder(&self, path: &Path) -> Option<&Place> {
        self.places.iter().rev().find(|place| path.starts_with(&place.target))
    }

    /// Whether Landlock leaves that right on the path, or on something below it.
    pub fn leaves(&self, path: &Path, right: u64) -> bool {
        let Some(landlock) = &self.landlock else { return true };
        landlock.paths & right == 0
            || landlock.below.iter().any(|(below, rights)| {
                rights & right != 0 && (path.starts_with(below) || below.starts_with(path))
            })
    }

    /// Where in the jail a path of the host is seen.
    pub fn seen(&self, path: &Path) -> Option<(PathBuf, &Place)> {
        self.places.iter().rev().find_map(|place| {
            let sources: &[PathBuf] = match &place.content {
                Content::Host { source, .. } => std::slice::from_ref(source),
                Content::Layers(layers) => layers,
                Content::Own | Content::Image | Content::Kernel(_) => &[],
            };
            let below = sources.iter().find_map(|source| path.strip_prefix(source).ok())?;
            // Joining nothing would add a slash.
            let at = match below.as_os_str().is_empty() {
                true => place.target.clone(),
                false => place.target.join(below),
            };
            let on_top = self.holder(&at).is_some_and(|holder| std::ptr::eq(holder, place));
            on_top.then_some((at, place))
        })
    }
}

/// A mount point as the jail sees it; nothing for one on the stage.
fn inside(on: &Spot) -> Option<PathBuf> {
    match on {
        Spot::Stage(_) => None,
        Spot::Root(_) => Some("/".into()),
        Spot::Inside(path) => Some(path.clone()),
    }
}
