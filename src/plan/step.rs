//! The steps: plain data, one variant per kind of change to the system.
//!
//! A variant holds the arguments of its change and nothing that is still to be
//! decided. What a step does, prints, needs and undoes are readings of these
//! fields, each one exhaustive `match` elsewhere (`run::apply`, `explain`,
//! `dry_run`).

use std::path::PathBuf;
use std::time::Duration;

pub use crate::block_image::Filesystem;
pub use crate::image::oci::Key;
pub use crate::image::source::Source;
pub use crate::seccomp::Filter;
pub use crate::tree::Owners;
pub use crate::unit::idmap::IdRange;
pub use crate::unit::mounts::MountFlags;
pub use crate::unit::namespaces::TimeOffsets;
pub use crate::unit::root::Propagation;

use crate::source::Span;

/// Why a step is in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A key of the unit asked for it.
    Key(Span),
    /// The default of that key, given with the value that applies.
    Default(&'static str),
    /// The configuration of the image that is the root says so, of that key.
    Image(&'static str),
    /// The arguments behind `--` asked for it.
    Arguments,
    /// jailrun always does it, for that reason.
    Always(&'static str),
}

impl Origin {
    /// Where the unit asks for it, if it does.
    pub fn span(self) -> Option<Span> {
        match self {
            Self::Key(span) => Some(span),
            Self::Default(_) | Self::Image(_) | Self::Arguments | Self::Always(_) => None,
        }
    }
}

/// A step with its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// What is done.
    pub step: Step,
    /// Why.
    pub origin: Origin,
}

/// A namespace that can be joined by path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Process ids.
    Pid,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host and domain name.
    Uts,
    /// View of the control groups.
    Cgroup,
    /// Network.
    Net,
    /// Mounts.
    Mount,
    /// User and group ids.
    User,
    /// Clocks.
    Time,
}

impl Namespace {
    /// Its name in `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Cgroup => "cgroup",
            Self::Net => "net",
            Self::Mount => "mnt",
            Self::User => "user",
            Self::Time => "time",
        }
    }

    /// The long option of unshare(1) and nsenter(1).
    pub fn option(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            other => other.file(),
        }
    }

    /// The flag of clone(2).
    pub fn flag(self) -> i32 {
        match self {
            Self::Pid => libc::CLONE_NEWPID,
            Self::Ipc => libc::CLONE_NEWIPC,
            Self::Uts => libc::CLONE_NEWUTS,
            Self::Cgroup => libc::CLONE_NEWCGROUP,
            Self::Net => libc::CLONE_NEWNET,
            Self::Mount => libc::CLONE_NEWNS,
            Self::User => libc::CLONE_NEWUSER,
            // libc has it for the C libraries that declare it only.
            Self::Time => 0x80,
        }
    }
}

/// What a mount point is made as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// A directory, mode 0755.
    Directory,
    /// An empty file, mode 0444.
    File,
}

/// What is mounted somewhere, as far as the plan can say: compared with
/// mountinfo after the pivot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedMount {
    /// Mount point inside the jail.
    pub target: PathBuf,
    /// File system type, where the step chooses it.
    pub fstype: Option<&'static str>,
    /// Flags it must have.
    pub flags: MountFlags,
    /// Whether mounts of the source may lie below it.
    pub recursive: bool,
    /// Whether file systems of the kernel may be among those.
    pub with_kernel: bool,
}

/// Users and groups of a user namespace, user_namespaces(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdMaps {
    /// User ids, range by range.
    pub uid: Vec<IdRange>,
    /// Group ids, range by range.
    pub gid: Vec<IdRange>,
    /// Who tells the kernel.
    pub writer: MapWriter,
}

/// Who writes an id map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapWriter {
    /// The jail's first process, which may map its own ids and no other, and
    /// has to give up setgroups(2) for it.
    Jail,
    /// jailrun outside, with the privileges of root.
    Supervisor,
    /// newuidmap(1) and newgidmap(1), for an ordinary user.
    Helpers,
}

impl IdMaps {
    /// The host's user behind one of the jail.
    pub fn uid_outside(&self, uid: u32) -> Option<u32> {
        self.uid.iter().find_map(|range| range.outside_of(uid))
    }

    /// The host's group behind one of the jail.
    pub fn gid_outside(&self, gid: u32) -> Option<u32> {
        self.gid.iter().find_map(|range| range.outside_of(gid))
    }

    /// Whether root is all there is.
    pub fn is_single(&self) -> bool {
        let is_single = |ranges: &[IdRange]| matches!(ranges, [range] if range.count == 1);
        is_single(&self.uid) && is_single(&self.gid)
    }

    /// Whether the jail's processes may choose their further groups.
    pub fn may_set_groups(&self) -> bool {
        self.writer != MapWriter::Jail
    }
}

/// Files that the processes of a launch have open beside the trees of the host.
pub const OWN_FILES: u64 = 64;

/// A part of the host's tree that is opened from outside of the jail, whose
/// first process is another user and may not get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostTree {
    /// What.
    pub source: TreeSource,
    /// With the mounts below it.
    pub recursive: bool,
    /// Whether its ids are the jail's own ones, mount_setattr(2)
    /// `MOUNT_ATTR_IDMAP`.
    pub mapped: bool,
    /// Whether mounts that the host makes there later arrive in the jail.
    pub slave: bool,
}

/// What a tree of the host is opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeSource {
    /// A file or directory, without links.
    Path(PathBuf),
    /// The file system of a loop device.
    Loop {
        /// Which of the devices, from 0.
        number: usize,
        /// Its type.
        filesystem: Filesystem,
    },
}

/// One option of a file system, as fsconfig(2) takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsOption {
    /// Name.
    pub key: &'static str,
    /// Value; absent for a flag.
    pub value: Option<String>,
}

/// Where something is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A path on the stage.
    Stage(PathBuf),
    /// Where the root is attached; it becomes the root.
    Root(PathBuf),
    /// A path inside the jail.
    Inside(PathBuf),
}

/// Directories laid over each other,
/// `Documentation/filesystems/overlayfs.rst`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Those that stay as they are, top-most first.
    pub lower: Vec<PathBuf>,
    /// The one that takes the changes, and the kernel's scratch directory.
    pub upper: Option<(PathBuf, PathBuf)>,
    /// Whether marks are kept in `user.` attributes: those that count in a
    /// user namespace.
    pub user_xattrs: bool,
}

impl Overlay {
    /// An overlay of these directories.
    pub fn new(lower: Vec<PathBuf>, upper: Option<(PathBuf, PathBuf)>, user_xattrs: bool) -> Self {
        Self { lower, upper, user_xattrs }
    }

    /// The options as mount(2) takes them. Names are escaped: in a list a
    /// colon would end one, and everywhere a comma. Redirections and metadata
    /// copies that a layer may hold are not followed.
    pub fn options(&self) -> String {
        let escape = |path: &PathBuf, list: bool| {
            let mut text = String::new();
            for c in path.to_string_lossy().chars() {
                if c == '\\' || c == ',' || (list && c == ':') {
                    text.push('\\');
                }
                text.push(c);
            }
            text
        };
        let lower: Vec<_> = self.lower.iter().map(|path| escape(path, true)).collect();
        let mut text = format!("lowerdir={}", lower.join(":"));
        if let Some((upper, work)) = &self.upper {
            text += &format!(",upperdir={},workdir={}", escape(upper, false), escape(work, false));
        }
        text += ",redirect_dir=nofollow,metacopy=off";
        if self.user_xattrs {
            text += ",userxattr";
        }
        text
    }
}

/// What Landlock handles everywhere, and grants in places; landlock(7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Landlock {
    /// Rights on files that are handled, `LANDLOCK_ACCESS_FS_*`.
    pub paths: u64,
    /// Paths inside the jail with the rights granted below them.
    pub below: Vec<(PathBuf, u64)>,
    /// Rights on ports that are handled, `LANDLOCK_ACCESS_NET_*`.
    pub ports: u64,
    /// Ports with the rights granted.
    pub open: Vec<(u16, u64)>,
    /// What reaches no further than the restricted processes,
    /// `LANDLOCK_SCOPE_*`.
    pub scope: u64,
}

/// A device node's kind and number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceNumber {
    /// A block device, not a character device.
    pub block: bool,
    /// Its driver.
    pub major: u32,
    /// Which of the driver's.
    pub minor: u32,
}

impl std::fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.block { 'b' } else { 'c' };
        write!(f, "{kind} {}:{}", self.major, self.minor)
    }
}

/// What the processes of a group may do with a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    /// A block device, not a character device.
    pub block: bool,
    /// Its driver.
    pub major: u32,
    /// Which of the driver's; `None` for all.
    pub minor: Option<u32>,
    /// Opening it for reading.
    pub read: bool,
    /// Opening it for writing.
    pub write: bool,
    /// Making its node.
    pub mknod: bool,
}

/// As `devices.allow` takes it.
impl std::fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if self.block { 'b' } else { 'c' };
        write!(f, "{kind} {}:", self.major)?;
        match self.minor {
            Some(minor) => write!(f, "{minor} ")?,
            None => write!(f, "* ")?,
        }
        let letters = [(self.read, "r"), (self.write, "w"), (self.mknod, "m")];
        letters.into_iter().filter(|(set, _)| *set).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

/// Other end of a standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// From its start.
    Read,
    /// Created if missing, emptied.
    Truncate,
    /// Created if missing, written at its end.
    Append,
}

/// One change to the system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    // On the host, before the clone.
    /// Makes the directory for journals, which is also where the root is
    /// attached in the jail's mount namespace.
    MakeStateDirectory {
        /// The directory, mode 0700.
        path: PathBuf,
    },
    /// Takes the lock of the jail's name and writes the journal from which a
    /// killed launch is reclaimed.
    Journal {
        /// The file.
        path: PathBuf,
    },
    /// Takes the lock of a range of ids, which no other jail of root uses then.
    ClaimIds {
        /// The file.
        path: PathBuf,
        /// The jail's name, which is written into it.
        name: String,
    },
    /// Gives a tree on disk to the users of the id map, once.
    ShiftOwners {
        /// The tree.
        root: PathBuf,
        /// User ids.
        uid: Vec<IdRange>,
        /// Group ids.
        gid: Vec<IdRange>,
    },
    /// Finds the first process of another running jail, and keeps hold of it.
    FindJail {
        /// That jail's journal, whose lock is held while it runs.
        journal: PathBuf,
        /// Its name.
        name: String,
        /// The process.
        pid: u32,
    },
    /// Makes a mount point that the root directory lacks, on the host.
    MakeHostNode {
        /// The root directory.
        root: PathBuf,
        /// Path below it, without links.
        path: PathBuf,
        /// File or directory; missing parents are directories.
        kind: NodeKind,
    },
    /// Makes a symbolic link in the root directory, on the host.
    MakeHostLink {
        /// The root directory.
        root: PathBuf,
        /// Path below it, without links.
        path: PathBuf,
        /// What it points to.
        to: String,
    },
    /// Unpacks an image into the store. What follows depends on it, so it is
    /// done first, and the rest is planned again.
    ImportImage {
        /// Where it comes from.
        source: Source,
    },
    /// Keeps an image from being removed.
    HoldImage {
        /// The store.
        store: PathBuf,
        /// The image's name there.
        key: Key,
    },
    /// Makes a block device of a file; loop(4). It is gone with its last user.
    AttachLoop {
        /// The file.
        file: PathBuf,
        /// Where the file system begins.
        offset: u64,
        /// Its length.
        size: u64,
    },
    /// Keeps a directory for this jail alone, as far as jails go; flock(2).
    LockDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// Makes a control group.
    CreateCgroup {
        /// Its directory.
        directory: PathBuf,
    },
    /// Hands controllers of a v2 group to its children.
    EnableControllers {
        /// The group's directory.
        directory: PathBuf,
        /// Their names.
        controllers: Vec<&'static str>,
    },
    /// Writes a file of a control group and reads it back.
    SetLimit {
        /// The file.
        file: PathBuf,
        /// The text written.
        value: String,
        /// Words that one line of the file must hold afterwards.
        expect: String,
    },
    /// Refuses every device to the processes of a group.
    LimitDevices {
        /// The group's directory.
        directory: PathBuf,
        /// Whether the group is one of v2: there a program decides.
        is_v2: bool,
        /// What is allowed all the same.
        rules: Vec<DeviceRule>,
    },
    /// Moves jailrun itself into a v2 group.
    MoveSupervisor {
        /// The group's directory.
        directory: PathBuf,
    },
    /// Ends the whole jail when its v1 memory group runs out.
    KillOnOom {
        /// The group's directory.
        directory: PathBuf,
    },
    /// Opens the other end of a standard stream.
    OpenStream {
        /// 0, 1 or 2.
        fd: i32,
        /// The host's file.
        path: PathBuf,
        /// How.
        mode: OpenMode,
    },
    /// Says how the jail is ended.
    Supervise {
        /// After that time.
        timeout: Option<Duration>,
        /// With that signal.
        stop_signal: i32,
        /// And SIGKILL that much later.
        stop_grace: Duration,
    },
    /// Makes the jail's first process one of another pid namespace.
    JoinPidNamespace {
        /// The namespace's file.
        path: PathBuf,
    },
    /// Gives up the caller's further groups, which cannot be given up in a user
    /// namespace that maps none.
    ClearGroups,
    /// Clones the jail's first process into its namespaces.
    Enter {
        /// The new ones; always with the mount namespace.
        namespaces: Vec<Namespace>,
        /// Id map of a private user namespace.
        map: Option<IdMaps>,
        /// What of the host is opened for the jail.
        trees: Vec<HostTree>,
        /// The v2 group it is born in.
        cgroup: Option<PathBuf>,
        /// Clocks of a private time namespace.
        time: Option<TimeOffsets>,
    },

    // In the jail's first process.
    /// Becomes root of the jail's user namespace, without further groups.
    BecomeRoot,
    /// Attaches a tree that was opened from outside.
    AttachTree {
        /// Which of `Enter`'s, from 0.
        tree: usize,
        /// Where.
        on: Spot,
        /// Its flags, with all mounts below.
        flags: MountFlags,
    },
    /// Joins a v1 control group.
    JoinCgroup {
        /// Its directory.
        directory: PathBuf,
    },
    /// Leaves the caller's session and its terminal.
    NewSession,
    /// Leaves the caller's session keyring.
    NewKeyring,
    /// Keeps every process from tracing this one or reading its memory, its
    /// environment and its descriptors, until it executes a program.
    ForbidTracing,
    /// Joins a namespace by its file.
    JoinNamespace {
        /// Which.
        namespace: Namespace,
        /// The namespace's file.
        path: PathBuf,
    },
    /// Joins a namespace of another jail; for the pid namespace, on the host.
    JoinJail {
        /// Which.
        namespace: Namespace,
        /// The jail's name.
        name: String,
        /// Its first process.
        pid: u32,
    },
    /// Makes the group the process is in the root of what it sees.
    NewCgroupNamespace,
    /// Stops mounts from spreading to the host.
    PrivateMounts {
        /// `Private`, or `Slave` where the host's mounts are to arrive.
        propagation: Propagation,
    },
    /// Sets the host name.
    SetHostname {
        /// The name.
        name: String,
    },
    /// Sets the NIS domain name.
    SetDomainname {
        /// The name.
        name: String,
    },
    /// Brings loopback up.
    LoopbackUp,
    /// Sets a parameter of the kernel that belongs to a namespace of the jail,
    /// and reads it back.
    SetSysctl {
        /// Path below `/proc/sys`.
        path: String,
        /// The text written.
        value: String,
    },
    /// Mounts memory on a new directory of the stage.
    MountMemory {
        /// The directory.
        at: PathBuf,
        /// Options of tmpfs.
        options: Vec<FsOption>,
    },
    /// Copies the content of a directory into the root.
    CopyTree {
        /// The directory.
        source: PathBuf,
        /// Which of `Enter`'s trees it is, where it is one.
        tree: Option<usize>,
        /// Whether owners are kept.
        owners: Owners,
    },
    /// Unpacks a tar archive into the root.
    UnpackTree {
        /// The archive: plain, gzip or zstd.
        source: PathBuf,
        /// Which of `Enter`'s trees it is, where it is one.
        tree: Option<usize>,
        /// Whether owners are kept.
        owners: Owners,
    },
    /// Makes a file or directory below the stage.
    MakeStageNode {
        /// Path on the stage.
        path: PathBuf,
        /// What it is.
        kind: NodeKind,
        /// Permission bits.
        mode: u32,
        /// User and group, where it is not root's.
        owner: Option<(u32, u32)>,
    },
    /// Gives a layer a short name on the stage.
    LinkLayer {
        /// The name.
        path: PathBuf,
        /// The layer.
        to: PathBuf,
    },
    /// Mounts the file system of a loop device, read-only.
    MountLoop {
        /// Which of the devices, from 0.
        number: usize,
        /// Its type.
        filesystem: Filesystem,
        /// Where.
        on: Spot,
        /// Flags of the mount.
        flags: MountFlags,
    },
    /// Lays directories over each other.
    MountOverlay {
        /// Where.
        on: Spot,
        /// The directories.
        overlay: Overlay,
        /// Flags of the mount.
        flags: MountFlags,
    },
    /// Mounts a file system in memory over the state directory, to hold the
    /// texts of `content` mounts and the directory `root`.
    MountStage {
        /// The state directory.
        at: PathBuf,
        /// Options of tmpfs.
        options: Vec<FsOption>,
    },
    /// Writes a text into the stage.
    WriteContent {
        /// The file.
        path: PathBuf,
        /// The text.
        text: String,
    },
    /// Attaches a tree of the host as the root.
    AttachRoot {
        /// The tree.
        source: PathBuf,
        /// Which of `Enter`'s trees it is, where it is one.
        tree: Option<usize>,
        /// Where.
        at: PathBuf,
        /// Its flags, with all mounts below.
        flags: MountFlags,
    },
    /// Mounts a file system in memory as the root.
    MountRoot {
        /// Where.
        at: PathBuf,
        /// Its options.
        options: Vec<FsOption>,
        /// Its flags.
        flags: MountFlags,
    },
    /// Makes a mount point in what has been mounted so far.
    MakeNode {
        /// Path inside the jail, without links.
        path: PathBuf,
        /// File or directory; missing parents are directories.
        kind: NodeKind,
    },
    /// Makes a symbolic link in what has been mounted so far.
    MakeLink {
        /// Path inside the jail, without links.
        path: PathBuf,
        /// What it points to.
        to: String,
    },
    /// Mounts a new file system.
    Mount {
        /// Its type.
        fstype: &'static str,
        /// Its name in mountinfo.
        source: &'static str,
        /// Mount point inside the jail, without links.
        target: PathBuf,
        /// Its options.
        options: Vec<FsOption>,
        /// Its flags.
        flags: MountFlags,
        /// Its propagation type.
        propagation: Propagation,
    },
    /// Binds a file or directory of the host.
    Bind {
        /// The host's path, without links.
        source: PathBuf,
        /// Which of `Enter`'s trees it is, where it is one.
        tree: Option<usize>,
        /// Mount point inside the jail, without links.
        target: PathBuf,
        /// With the mounts below the source.
        recursive: bool,
        /// Its flags, with all mounts below.
        flags: MountFlags,
        /// Its propagation type; what it gets from the root's without one.
        propagation: Option<Propagation>,
    },
    /// Binds device nodes of the host into `/dev`.
    BindDevices {
        /// Their names.
        names: Vec<&'static str>,
    },
    /// Binds a device node of the host, read-only so that nobody changes its
    /// mode; writes to the device are not writes to its node.
    BindDevice {
        /// The host's node, without links.
        source: PathBuf,
        /// Mount point inside the jail, without links.
        target: PathBuf,
        /// The device that the node must be.
        number: DeviceNumber,
    },
    /// Hides a path.
    Mask {
        /// Path inside the jail.
        target: PathBuf,
        /// A directory is hidden by an empty one, a file by `/dev/null`.
        kind: NodeKind,
    },
    /// Makes a part of the jail read-only.
    ProtectPath {
        /// Path inside the jail.
        target: PathBuf,
    },
    /// Sets the propagation type of the root's mounts for good.
    SetPropagation {
        /// The type.
        propagation: Propagation,
    },
    /// Makes a fresh root file system read-only after it has been filled.
    ProtectRoot,
    /// Makes the attached tree the root and detaches the old one.
    Pivot {
        /// Where it is attached.
        at: PathBuf,
    },
    /// Enters the attached tree with chroot(2) alone.
    Chroot {
        /// Where it is attached.
        at: PathBuf,
    },
    /// Compares the jail's mountinfo with the plan.
    VerifyMounts {
        /// What must be there, and nothing else.
        expected: Vec<ExpectedMount>,
    },
    /// Gives the process the usual secure bits back: without them root gets
    /// capabilities from execve, and gives them up with its user.
    ResetSecurebits,
    /// Overwrites the arguments and the environment that jailrun was started
    /// with, which an init would show in its `/proc/1`.
    HideArguments,
    /// Splits off the command from an init of jailrun's own, which closes every
    /// descriptor and can gain no privileges.
    Init {
        /// Capabilities that the init keeps.
        keep: u64,
        /// Whether it gives up the caller's further groups; not where the user
        /// namespace denies the call.
        clear_groups: bool,
        /// Whether it is left with no system calls but its own: a command
        /// that may trace it could make it do what its own filter refuses.
        filtered: bool,
    },
    /// Gives the command a terminal of its own.
    Terminal,
    /// Puts an opened stream in its place.
    UseStream {
        /// 0, 1 or 2.
        fd: i32,
    },
    /// Sets the mask of permission bits.
    SetUmask {
        /// The mask.
        mask: u32,
    },
    /// Sets the nice value.
    SetNice {
        /// The value.
        nice: i32,
    },
    /// Sets the badness added for the out-of-memory killer.
    SetOomScoreAdjust {
        /// The amount.
        score: i32,
    },
    /// Sets the CPUs it starts on.
    SetAffinity {
        /// The CPUs, as `0-3,6`.
        cpus: String,
    },
    /// Sets a resource limit.
    SetRlimit {
        /// Index into `names::RLIMITS`.
        index: usize,
        /// Soft limit; `u64::MAX` is none.
        soft: u64,
        /// Hard limit; `u64::MAX` is none.
        hard: u64,
    },
    /// Gives up capabilities for good, also for programs executed later.
    LimitCapabilities {
        /// The set that is kept.
        keep: u64,
    },
    /// Becomes a user.
    SetIds {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Further groups; `None` where the user namespace denies the call.
        groups: Option<Vec<u32>>,
    },
    /// Sets the capabilities the command starts with.
    SetCapabilities {
        /// Permitted and effective.
        permitted: u64,
        /// Kept by a user other than root.
        ambient: u64,
    },
    /// Goes to the working directory.
    ChangeDirectory {
        /// Path inside the jail.
        path: PathBuf,
    },
    /// Rules out gaining privileges.
    NoNewPrivileges,
    /// Restricts what the process, and all it starts, can reach.
    Landlock(Landlock),
    /// Closes every descriptor above 2.
    CloseFds {
        /// Except these.
        keep: Vec<i32>,
    },
    /// Loads the filter for system calls.
    LoadSeccomp {
        /// The filter.
        filter: Filter,
        /// Without no_new_privs CAP_SYS_ADMIN is raised for it: the
        /// capabilities that are permitted meanwhile.
        hold: Option<u64>,
    },
    /// Becomes the command.
    Exec {
        /// The command and its arguments.
        command: Vec<String>,
        /// Its whole environment.
        environment: Vec<(String, String)>,
    },
}

impl Step {
    /// The step that takes this one back, for those that outlive the jail.
    pub fn undo(&self) -> Option<Undo> {
        match self {
            Self::CreateCgroup { directory } => Some(Undo::RemoveCgroup(directory.clone())),
            Self::Journal { path } => Some(Undo::RemoveJournal(path.clone())),
            Self::ClaimIds { path, .. } => Some(Undo::RemoveClaim(path.clone())),
            Self::MakeStateDirectory { path } => Some(Undo::RemoveStateDirectory(path.clone())),
            // Only after a failed launch: once a jail has run, another one may
            // have mounted on the same path, which removing it would unmount.
            Self::MakeHostNode { root, path, .. } | Self::MakeHostLink { root, path, .. } => {
                Some(Undo::RemoveNode { root: root.clone(), path: path.clone() })
            }
            // The controllers stay handed out: other groups may use them.
            Self::EnableControllers { .. } => None,
            // Kept for the next launch.
            Self::ShiftOwners { .. } => None,
            // Undone by writing the group's own end.
            Self::SetLimit { .. } | Self::LimitDevices { .. } | Self::KillOnOom { .. } => None,
            // The group it came from may hand out controllers by then.
            Self::MoveSupervisor { .. } => None,
            // The supervisor's own, gone with its process.
            Self::OpenStream { .. }
            | Self::LockDirectory { .. }
            | Self::HoldImage { .. }
            | Self::AttachLoop { .. }
            // Kept for the next launch.
            | Self::ImportImage { .. }
            | Self::Supervise { .. }
            | Self::JoinPidNamespace { .. } => None,
            // The kernel takes back everything that lives in a namespace or a
            // process when the last process is gone.
            Self::Enter { .. }
            | Self::ClearGroups
            | Self::BecomeRoot
            | Self::AttachTree { .. }
            | Self::JoinCgroup { .. }
            | Self::NewSession
            | Self::NewKeyring
            | Self::ForbidTracing
            | Self::JoinNamespace { .. }
            | Self::FindJail { .. }
            | Self::JoinJail { .. }
            | Self::NewCgroupNamespace
            | Self::PrivateMounts { .. }
            | Self::SetHostname { .. }
            | Self::SetDomainname { .. }
            | Self::LoopbackUp
            | Self::SetSysctl { .. }
            | Self::MountStage { .. }
            | Self::MountMemory { .. }
            | Self::MakeStageNode { .. }
            | Self::CopyTree { .. }
            | Self::UnpackTree { .. }
            | Self::LinkLayer { .. }
            | Self::MountLoop { .. }
            | Self::MountOverlay { .. }
            | Self::WriteContent { .. }
            | Self::AttachRoot { .. }
            | Self::MountRoot { .. }
            | Self::MakeNode { .. }
            | Self::MakeLink { .. }
            | Self::Mount { .. }
            | Self::Bind { .. }
            | Self::BindDevices { .. }
            | Self::BindDevice { .. }
            | Self::Mask { .. }
            | Self::ProtectPath { .. }
            | Self::SetPropagation { .. }
            | Self::ProtectRoot
            | Self::Pivot { .. }
            | Self::Chroot { .. }
            | Self::VerifyMounts { .. }
            | Self::ResetSecurebits
            | Self::HideArguments
            | Self::Init { .. }
            | Self::Terminal
            | Self::UseStream { .. }
            | Self::SetUmask { .. }
            | Self::SetNice { .. }
            | Self::SetOomScoreAdjust { .. }
            | Self::SetAffinity { .. }
            | Self::SetRlimit { .. }
            | Self::LimitCapabilities { .. }
            | Self::SetIds { .. }
            | Self::SetCapabilities { .. }
            | Self::ChangeDirectory { .. }
            | Self::NoNewPrivileges
            | Self::Landlock(_)
            | Self::CloseFds { .. }
            | Self::LoadSeccomp { .. }
            | Self::Exec { .. } => None,
        }
    }
}

/// Taking back what outlives the jail. The journal holds these, so that the
/// next launch or `jailrun gc` does what a killed supervisor could not.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Undo {
    /// Kills what is in the group and removes it.
    RemoveCgroup(PathBuf),
    /// Removes the journal, which also gives up the name.
    RemoveJournal(PathBuf),
    /// Removes the file that claims a range of ids.
    RemoveClaim(PathBuf),
    /// Removes the state directory when no other jail is in it.
    RemoveStateDirectory(PathBuf),
    /// Removes a mount point that a failed launch has made.
    RemoveNode {
        /// The root directory.
        root: PathBuf,
        /// Path below it.
        path: PathBuf,
    },
}
