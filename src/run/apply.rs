//! Applying a step: one `match` with one arm per kind, on both sides of the
//! clone. Whatever fails stops the launch; nothing is retried in another way.

use std::ffi::{CString, OsStr};
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::signal::SigSet;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd;

use super::error::Failed;
use super::{devices, ids, images, init, landlock, state, verify};
use crate::block_image::{self, LoopDevice};
use crate::image::progress::Progress;
use crate::image::store::Held;
use crate::names;
use crate::plan::step::{
    DeviceNumber, Filesystem, FsOption, HostTree, IdMaps, MapWriter, MountFlags, Namespace,
    NodeKind, OWN_FILES, OpenMode, Overlay, Propagation, Spot, Step, TimeOffsets,
};
use crate::sys::{self, Cloned, MountAttr};
use crate::tree;

/// Result of applying a step.
pub(super) type Applied<T = ()> = Result<T, Failed>;

/// What steps leave for later ones.
#[derive(Debug)]
pub(super) struct Context {
    /// The host's `/proc`: a path below the jail's own is never trusted.
    proc: Option<OwnedFd>,
    /// The attached root.
    root: Option<OwnedFd>,
    /// The instance of devpts at `/dev/pts`.
    devpts: Option<OwnedFd>,
    /// The directory of the jail that was worked in last, and those above it:
    /// most of what is made has its parent in common with what was made before.
    directories: Vec<(PathBuf, OwnedFd)>,
    /// The step that has made a node where there was none.
    fresh: Option<usize>,
    /// What hides a file, mounted over the one that was hidden first.
    cover: Option<OwnedFd>,
    streams: [Option<OwnedFd>; 3],
    /// Where the jail's side reports a failure.
    pub(super) status: Option<OwnedFd>,
    /// Where the jail's side sends its terminal.
    pub(super) terminal: Option<OwnedFd>,
    /// The signal mask that the caller had.
    pub(super) mask: SigSet,
    /// The CPUs that the caller had.
    pub(super) cpus: nix::sched::CpuSet,
    /// The mask of permission bits that the caller had.
    pub(super) umask: Mode,
    /// The soft and hard limit of open files that the caller had, while this
    /// process has another.
    files: Option<(u64, u64)>,
    /// The lock on the jail's name.
    pub(super) lock: Option<std::fs::File>,
    /// Directories that are kept for this jail.
    pub(super) locks: Vec<OwnedFd>,
    /// The image that the root is made of.
    pub(super) held: Option<Held>,
    /// First processes of other jails.
    jails: Vec<(u32, OwnedFd)>,
    /// Devices that files are mounted from.
    pub(super) loops: Vec<LoopDevice>,
    /// The locks on the jail's ranges of ids.
    claims: Vec<std::fs::File>,
    /// What has been opened for the jail from outside.
    trees: Vec<Option<OwnedFd>>,
    /// Becomes readable when the v1 memory group runs out.
    pub(super) oom: Option<OwnedFd>,
    /// How the jail is ended.
    pub(super) supervise: super::Supervision,
    /// What the last step needs, where it was prepared before it.
    start: Option<Start>,
    /// Mount points that this launch has made on the host.
    pub(super) made: Vec<usize>,
}

impl Context {
    pub(super) fn new(mask: SigSet, cpus: nix::sched::CpuSet, umask: Mode) -> Self {
        Self {
            proc: None,
            root: None,
            devpts: None,
            directories: Vec::new(),
            fresh: None,
            cover: None,
            streams: [None, None, None],
            status: None,
            terminal: None,
            mask,
            cpus,
            umask,
            files: None,
            lock: None,
            locks: Vec::new(),
            held: None,
            jails: Vec::new(),
            loops: Vec::new(),
            claims: Vec::new(),
            trees: Vec::new(),
            oom: None,
            supervise: super::Supervision::default(),
            start: None,
            made: Vec::new(),
        }
    }

    fn root(&self) -> Applied<BorrowedFd<'_>> {
        self.root.as_ref().map(|fd| fd.as_fd()).ok_or_else(|| Errno::EBADF.into())
    }

    /// A tree that has been opened for the jail, for the step that uses it.
    fn take_tree(&mut self, number: usize) -> Applied<OwnedFd> {
        self.trees.get_mut(number).and_then(Option::take).ok_or_else(|| Errno::EBADF.into())
    }

    /// A detached copy of a tree of the host: the one that has been opened
    /// from outside, or what this process gets to.
    fn host_tree(
        &mut self,
        source: &Path,
        tree: Option<usize>,
        recursive: bool,
    ) -> Applied<OwnedFd> {
        match tree {
            Some(number) => self.take_tree(number),
            None => Ok(sys::open_tree_clone(open_host(source)?.as_fd(), recursive)?),
        }
    }

    pub(super) fn proc(&self) -> Applied<BorrowedFd<'_>> {
        self.proc.as_ref().map(|fd| fd.as_fd()).ok_or_else(|| Errno::EBADF.into())
    }

    fn write_proc(&self, path: &str, text: &str) -> Applied {
        let fd = sys::openat2(self.proc()?, Path::new(path), libc::O_WRONLY, 0)?;
        unistd::write(&fd, text.as_bytes())?;
        Ok(())
    }

    /// Gives this process the CPUs back that the caller had.
    pub(super) fn leave_this_cpu(&self) -> Applied {
        Ok(nix::sched::sched_setaffinity(unistd::Pid::from_raw(0), &self.cpus)?)
    }

    /// Makes room for so many trees, each of which is an open file until it is
    /// mounted: the usual limit, 1024, is there for select(2), which is not
    /// called here.
    fn make_room(&mut self, trees: usize) -> Applied {
        let needed = trees as u64 + OWN_FILES;
        let (soft, hard) = sys::getrlimit(names::NOFILE)?;
        if soft >= needed {
            return Ok(());
        }
        if hard < needed {
            let detail = format!("{trees} trees take {needed} open files, the limit is {hard}");
            return Err(Failed::because(Errno::EMFILE, detail));
        }
        sys::setrlimit(names::NOFILE, hard, hard)?;
        self.files = Some((soft, hard));
        Ok(())
    }

    /// Gives this process the limit of open files back that the caller had.
    pub(super) fn leave_room(&mut self) -> Applied {
        match self.files.take() {
            Some((soft, hard)) => Ok(sys::setrlimit(names::NOFILE, soft, hard)?),
            None => Ok(()),
        }
    }

    /// A path of the jail, opened once, without following any link: planning
    /// has followed them, and what has become one since is an attack.
    fn open(&self, path: &Path) -> Applied<OwnedFd> {
        open_below(self.root()?, path, libc::O_PATH)
    }

    /// Opens a directory of the jail, from the nearest one above it that is open.
    fn reach(&mut self, path: &Path) -> Applied {
        while self.directories.last().is_some_and(|(known, _)| !path.starts_with(known)) {
            self.directories.pop();
        }
        let below = path.strip_prefix(self.reached()).map_err(|_| Errno::EINVAL)?;
        if !below.as_os_str().is_empty() {
            let flags = libc::O_PATH | libc::O_DIRECTORY;
            let opened = open_below(self.directory()?, below, flags)?;
            self.directories.push((path.to_owned(), opened));
        }
        Ok(())
    }

    /// The path that was reached last.
    fn reached(&self) -> &Path {
        self.directories.last().map_or(Path::new("/"), |(path, _)| path)
    }

    /// The directory that was reached last.
    fn directory(&self) -> Applied<BorrowedFd<'_>> {
        match self.directories.last() {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => self.root(),
        }
    }

    /// The same, made where it is missing.
    fn reach_or_make(&mut self, path: &Path) -> Applied {
        match self.reach(path) {
            Err(Failed { errno: Errno::ENOENT, .. }) => {}
            reached => return reached,
        }
        let below = path.strip_prefix(self.reached()).map_err(|_| Errno::EINVAL)?;
        for name in below {
            make_node(self.directory()?, name, NodeKind::Directory)?;
            let next = self.reached().join(name);
            self.reach(&next)?;
        }
        Ok(())
    }

    /// The directory that a new node of the jail goes into, and its name there.
    fn place<'p>(&mut self, path: &'p Path) -> Applied<(BorrowedFd<'_>, &'p OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL.into());
        };
        self.reach_or_make(parent)?;
        Ok((self.directory()?, name))
    }

    /// Mounts a detached tree on what has that path in the jail. The way to it
    /// leads over no link, and a link at its end is not followed.
    fn mount_at(&mut self, tree: BorrowedFd<'_>, kind: NodeKind, target: &Path) -> Applied {
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else {
            return Err(Errno::EINVAL.into());
        };
        self.reach(parent)?;
        let directory = self.directory()?;
        sys::move_mount_at(tree, directory, name).or_else(|errno| {
            if errno == Errno::EINVAL && kind == NodeKind::Directory {
                // The kernel's word for all but a directory: what it is instead
                // is told by who opens it.
                open_below(directory, Path::new(name), libc::O_PATH | libc::O_DIRECTORY)?;
            }
            Err(Failed::from(errno))
        })?;
        self.forget_below(target);
        Ok(())
    }

    /// Mounts a detached tree on an opened path of the jail.
    fn mount(&mut self, tree: BorrowedFd<'_>, on: BorrowedFd<'_>, target: &Path) -> Applied {
        self.forget_below(target);
        Ok(sys::move_mount(tree, on)?)
    }

    /// What has been opened below a path is not what is there once something
    /// is mounted on it.
    fn forget_below(&mut self, target: &Path) {
        while self.directories.last().is_some_and(|(known, _)| known.starts_with(target)) {
            self.directories.pop();
        }
    }
}

/// Which side of the clone goes on.
pub(super) enum Flow {
    /// The same process, with the next step.
    Next,
    /// The supervisor: the jail's first process takes the rest.
    Supervise(unistd::Pid, OwnedFd),
}

fn open_below(root: BorrowedFd<'_>, path: &Path, flags: i32) -> Applied<OwnedFd> {
    const RESOLVE: u64 =
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    Ok(sys::openat2(root, below, flags, RESOLVE)?)
}

/// Applies a step. `plan` and `index` are for the journal, which names the
/// steps to take back.
pub(super) fn apply(plan: &crate::plan::Plan, index: usize, cx: &mut Context) -> Applied<Flow> {
    let step = &plan.steps[index].step;
    match step {
        Step::MakeStateDirectory { path } => state::make_directory(path)?,
        Step::Journal { path } => cx.lock = Some(state::take_name(path, plan)?),
        Step::ClaimIds { path, name } => cx.claims.push(state::claim(path, name)?),
        Step::ShiftOwners { root, uid, gid } => crate::owners::shift(root, uid, gid)?,
        Step::MakeHostNode { root, path, kind } => {
            let root =
                sys::open2(root, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::EINVAL.into());
            };
            if make_node(make_directory(root.as_fd(), parent)?.as_fd(), name, *kind)? {
                cx.made.push(index);
            }
        }
        Step::MakeHostLink { root, path, to } => {
            let root =
                sys::open2(root, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::EINVAL.into());
            };
            unistd::symlinkat(&**to, make_directory(root.as_fd(), parent)?.as_fd(), name)?;
            cx.made.push(index);
        }
        Step::CreateCgroup { directory } => state::create_cgroup(directory)?,
        Step::EnableControllers { directory, controllers } => {
            let words: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
            write_file(&directory.join("cgroup.subtree_control"), &words.join(" "))?;
        }
        Step::MoveSupervisor { directory } => {
            match unistd::mkdir(directory, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            write_file(&directory.join("cgroup.procs"), "0")?;
        }
        Step::SetLimit { file, value, expect } => set_limit(file, value, expect)?,
        Step::LimitDevices { directory, is_v2, rules } => {
            devices::limit(directory, *is_v2, rules)?;
        }
        Step::KillOnOom { directory } => cx.oom = Some(watch_oom(directory)?),
        Step::OpenStream { fd, path, mode } => {
            let slot = usize::try_from(*fd).map_err(|_| Errno::EBADF)?;
            cx.streams[slot] = Some(open_stream(path, *mode, cx.umask)?);
        }
        Step::Supervise { timeout, stop_signal, stop_grace } => {
            cx.supervise = super::Supervision {
                timeout: *timeout,
                stop_signal: *stop_signal,
                stop_grace: *stop_grace,
            };
        }
        Step::JoinPidNamespace { path } => join(path, Namespace::Pid)?,
        Step::ClearGroups => sys::set_groups(&[])?,
        Step::Enter { namespaces, map, trees, cgroup, time } => {
            return enter(cx, namespaces, map.as_ref(), trees, cgroup.as_deref(), *time);
        }
        Step::BecomeRoot => {
            sys::set_ids(0, 0, Some(&[]))?;
            // The kernel may take both back when credentials change.
            sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
            die_with_parent(cx)?;
        }
        Step::AttachTree { tree, on, flags } => {
            let tree = cx.take_tree(*tree)?;
            attach_tree(cx, tree, on, *flags)?;
        }
        // `tasks` and not `cgroup.procs`: to move one thread, itself, the kernel
        // does not have to wait until no process on the system forks or exits.
        Step::JoinCgroup { directory } => write_file(&directory.join("tasks"), "0")?,
        Step::NewSession => drop(unistd::setsid()?),
        Step::NewKeyring => match sys::new_session_keyring() {
            // A kernel without keyrings has none to share.
            Ok(()) | Err(Errno::ENOSYS) => {}
            // A filter around jailrun itself, as in a container or another
            // jail, keeps the command from every keyring as well.
            Err(Errno::EPERM) if sys::session_keyring() == Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        },
        Step::ForbidTracing => drop(sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?),
        Step::JoinNamespace { namespace, path } => join(path, *namespace)?,
        Step::FindJail { journal, name, pid } => {
            // Held before it is looked for: then it is this process that was
            // found, and no later one of its number.
            let held = sys::pidfd_open(*pid)?;
            if state::first_process(journal)? != Some(*pid) {
                let detail = format!("the jail `{name}` has ended");
                return Err(Failed::because(Errno::ESRCH, detail));
            }
            cx.jails.push((*pid, held));
        }
        Step::JoinJail { namespace, pid, .. } => {
            let held = cx.jails.iter().find(|(known, _)| known == pid).ok_or(Errno::EBADF)?;
            let flag = nix::sched::CloneFlags::from_bits_retain(namespace.flag());
            nix::sched::setns(held.1.as_fd(), flag)?;
        }
        Step::NewCgroupNamespace => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?,
        Step::PrivateMounts { propagation } => {
            let root = sys::open2(Path::new("/"), libc::O_PATH, 0)?;
            let attr =
                MountAttr { propagation: propagation_flag(*propagation), ..MountAttr::default() };
            sys::mount_setattr(root.as_fd(), true, &attr)?;
        }
        Step::SetHostname { name } => unistd::sethostname(name)?,
        Step::SetDomainname { name } => sys::set_domain_name(name)?,
        Step::LoopbackUp => sys::loopback_up()?,
        Step::SetSysctl { path, value } => set_sysctl(cx, path, value)?,
        Step::MountStage { at, options } => {
            let stage = new_filesystem(c"tmpfs", "jailrun", options, MountFlags::NONE)?;
            attach(&stage, at)?;
            nix::sys::stat::mkdirat(stage.as_fd(), "root", Mode::from_bits_truncate(0o755))?;
        }
        Step::ImportImage { source } => images::import(source, &Progress::silent()).map(drop)?,
        Step::HoldImage { store, key } => cx.held = Some(images::hold(store, key)?),
        Step::AttachLoop { file, offset, size } => {
            cx.loops.push(attach_loop(file, *offset, *size)?);
        }
        Step::MountLoop { number, filesystem, on, flags } => {
            mount_loop(cx, *number, *filesystem, on, *flags)?;
        }
        Step::LockDirectory { path } => cx.locks.push(lock_directory(path)?),
        Step::MountMemory { at, options } => {
            unistd::mkdir(at, Mode::from_bits_truncate(0o700))?;
            let memory = new_filesystem(c"tmpfs", "jailrun", options, MountFlags::NONE)?;
            attach(&memory, at)?;
        }
        Step::MakeStageNode { path, kind, mode, owner } => {
            make_stage_node(path, *kind, *mode, *owner)?;
        }
        Step::CopyTree { source, tree, owners } => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            let from = match tree {
                Some(number) => {
                    let tree = cx.take_tree(*number)?;
                    sys::openat2(tree.as_fd(), Path::new("."), flags, 0)?
                }
                None => sys::open2(source, flags, libc::RESOLVE_NO_SYMLINKS)?,
            };
            let options = tree::Options { owners: *owners, mounts: tree::Mounts::Cross };
            tree::copy(from.as_fd(), cx.root()?, &options)?;
        }
        Step::UnpackTree { source, tree, owners } => {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
            let archive = match tree {
                Some(number) => {
                    let tree = cx.take_tree(*number)?;
                    let path = format!("self/fd/{}", tree.as_raw_fd());
                    sys::openat2(cx.proc()?, Path::new(&path), flags, 0)?
                }
                None => sys::open2(source, flags, libc::RESOLVE_NO_SYMLINKS)?,
            };
            images::unpack(archive, *owners, cx.root()?)?;
        }
        Step::LinkLayer { path, to } => unistd::symlinkat(to, AT_FDCWD, path)?,
        Step::MountOverlay { on, overlay, flags } => mount_overlay(cx, on, overlay, *flags)?,
        Step::WriteContent { path, text } => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let fd = nix::fcntl::open(path, flags, Mode::from_bits_truncate(0o444))?;
            std::fs::File::from(fd).write_all(text.as_bytes())?;
        }
        Step::AttachRoot { source, tree, at, flags } => {
            let tree = cx.host_tree(source, *tree, true)?;
            sys::mount_setattr(tree.as_fd(), true, &attributes(*flags, Propagation::Private))?;
            attach(&tree, at)?;
            cx.root = Some(tree);
        }
        Step::MountRoot { at, options, flags } => {
            let tree = new_filesystem(c"tmpfs", "tmpfs", options, *flags)?;
            attach(&tree, at)?;
            cx.root = Some(tree);
        }
        Step::MakeNode { path, kind } => {
            let (directory, name) = cx.place(path)?;
            if make_node(directory, name, *kind)? {
                cx.fresh = Some(index);
            }
        }
        Step::MakeLink { path, to } => {
            let (directory, name) = cx.place(path)?;
            unistd::symlinkat(&**to, directory, name)?;
        }
        Step::Mount { fstype, source, target, options, flags, propagation } => {
            let name = CString::new(*fstype).map_err(|_| Errno::EINVAL)?;
            let filesystem = new_filesystem(&name, source, options, *flags)?;
            if *propagation != Propagation::Private {
                sys::mount_setattr(filesystem.as_fd(), false, &propagation_only(*propagation))?;
            }
            cx.mount_at(filesystem.as_fd(), NodeKind::Directory, target)?;
            if target == Path::new("/dev/pts") && *fstype == "devpts" {
                cx.devpts = Some(filesystem);
            }
        }
        Step::Bind { source, tree, target, recursive, flags, propagation } => {
            let tree = cx.host_tree(source, *tree, *recursive)?;
            sys::mount_setattr(tree.as_fd(), *recursive, &attributes(*flags, *propagation))?;
            let before = index.checked_sub(1).filter(|before| cx.fresh == Some(*before));
            match before.map(|before| &plan.steps[before].step) {
                // On what has been made a moment ago, in the directory that is open still.
                Some(Step::MakeNode { path, kind }) if path == target => {
                    cx.mount_at(tree.as_fd(), *kind, target)?;
                }
                _ => {
                    let on = cx.open(target)?;
                    cx.mount(tree.as_fd(), on.as_fd(), target)?;
                }
            }
        }
        Step::BindDevices { names } => bind_devices(cx, names)?,
        Step::BindDevice { source, target, number } => bind_device(cx, source, target, *number)?,
        Step::Mask { target, kind } => mask(cx, target, *kind)?,
        Step::ProtectPath { target } => {
            let on = cx.open(target)?;
            let tree = sys::open_tree_clone(on.as_fd(), true)?;
            let attr = MountAttr { set: sys::mount::ATTR_RDONLY, ..MountAttr::default() };
            sys::mount_setattr(tree.as_fd(), true, &attr)?;
            cx.mount(tree.as_fd(), on.as_fd(), target)?;
        }
        Step::SetPropagation { propagation } => {
            sys::mount_setattr(cx.root()?, true, &propagation_only(*propagation))?;
        }
        Step::ProtectRoot => {
            let attr = MountAttr { set: sys::mount::ATTR_RDONLY, ..MountAttr::default() };
            sys::mount_setattr(cx.root()?, false, &attr)?;
        }
        Step::Pivot { .. } => {
            unistd::fchdir(cx.root()?)?;
            unistd::pivot_root(".", ".")?;
            // The old root now lies over the new one, at the same place.
            nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
            unistd::chdir("/")?;
        }
        Step::Chroot { .. } => {
            unistd::fchdir(cx.root()?)?;
            unistd::chroot(".")?;
            unistd::chdir("/")?;
        }
        Step::VerifyMounts { expected } => {
            cx.leave_room()?;
            let fd = sys::openat2(cx.proc()?, Path::new("self/mountinfo"), libc::O_RDONLY, 0)?;
            verify::verify(expected, std::fs::File::from(fd))?;
        }
        Step::ResetSecurebits => drop(sys::prctl(libc::PR_SET_SECUREBITS, 0, 0)?),
        Step::HideArguments => sys::hide_arguments()?,
        Step::Init { keep, clear_groups, filtered } => {
            let may_trace = plan.steps.iter().any(|planned| match &planned.step {
                Step::SetCapabilities { permitted, ambient } => {
                    (permitted | ambient) & names::CAP_SYS_PTRACE != 0
                }
                _ => false,
            });
            if *clear_groups {
                sys::set_groups(&[])?;
            }
            init::split(
                cx,
                init::Charge { index, keep: *keep, filtered: *filtered },
                may_trace,
                &mut |cx| super::rest(plan, index + 1, cx),
            )?;
        }
        Step::Terminal => terminal(cx)?,
        Step::UseStream { fd } => {
            let slot = usize::try_from(*fd).map_err(|_| Errno::EBADF)?;
            let stream = cx.streams[slot].take().ok_or(Errno::EBADF)?;
            sys::dup2(stream.as_fd(), *fd)?;
        }
        Step::SetUmask { mask } => {
            nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
        }
        Step::SetNice { nice } => sys::set_nice(*nice)?,
        Step::SetOomScoreAdjust { score } => {
            // The file of a process that cannot be dumped is the host root's.
            sys::prctl(libc::PR_SET_DUMPABLE, 1, 0)?;
            let written = cx.write_proc("self/oom_score_adj", &score.to_string());
            sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
            written?;
        }
        Step::SetAffinity { cpus } => cx.cpus = cpu_set(cpus)?,
        Step::SetRlimit { index, soft, hard } => {
            sys::setrlimit(names::RLIMITS[*index].number, *soft, *hard)?;
        }
        Step::LimitCapabilities { keep } => limit_capabilities(*keep)?,
        Step::SetIds { uid, gid, groups } => {
            if *uid != 0 {
                // What is kept is set by the step that follows.
                sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
            }
            sys::set_ids(*uid, *gid, groups.as_deref())?;
        }
        Step::SetCapabilities { permitted, ambient } => set_capabilities(*permitted, *ambient)?,
        Step::ChangeDirectory { path } => {
            unistd::chdir(path)?;
            if !sys::getcwd_is_reachable()? {
                return Err(Failed::because(
                    Errno::EXDEV,
                    "the directory lies outside the jail's root",
                ));
            }
        }
        Step::NoNewPrivileges => drop(sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?),
        Step::Landlock(step) => landlock::restrict(step)?,
        Step::CloseFds { keep } => close_fds(cx, keep)?,
        Step::LoadSeccomp { filter, hold } => {
            if let Some(Step::Exec { command, environment }) =
                plan.steps.get(index + 1).map(|planned| &planned.step)
            {
                cx.start = Some(prepare_exec(cx, command, environment)?);
            }
            if let Some(hold) = hold {
                sys::capset(*hold, *hold, 0)?;
            }
            sys::load_filter(&filter.program())?;
        }
        Step::Exec { command, environment } => {
            let start = match cx.start.take() {
                Some(start) => start,
                None => prepare_exec(cx, command, environment)?,
            };
            return Err(exec(start));
        }
    }
    Ok(Flow::Next)
}

/// The text to write to the file of a cgroup, or to a file of the kernel: one
/// write, or it is taken for several.
pub(super) fn write_file(path: &Path, text: &str) -> Applied {
    let fd = nix::fcntl::open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    unistd::write(&fd, text.as_bytes())?;
    Ok(())
}

fn set_limit(file: &Path, value: &str, expect: &str) -> Applied {
    let fd = nix::fcntl::open(file, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    write_kept(&fd, value, |text| {
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            expect.split_whitespace().all(|word| words.contains(&word))
        })
    })
}

/// Writes to a file of the kernel, and fails unless it reads as it should
/// afterwards.
fn write_kept(fd: &OwnedFd, value: &str, is_kept: impl Fn(&str) -> bool) -> Applied {
    unistd::write(fd, value.as_bytes())?;
    let mut buffer = [0_u8; 4096];
    let length = nix::sys::uio::pread(fd, &mut buffer, 0)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    if is_kept(&text) {
        return Ok(());
    }
    let found = text.lines().next().unwrap_or("nothing").trim();
    Err(Failed::because(Errno::EIO, format!("wrote `{value}`, the kernel holds `{found}`")))
}

/// Through the host's `/proc`, which a root cannot have put anything into: the
/// kernel shows there what belongs to the namespaces of the process that looks.
fn set_sysctl(cx: &Context, path: &str, value: &str) -> Applied {
    let at = Path::new("sys").join(path);
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let fd = sys::openat2(cx.proc()?, &at, libc::O_RDWR, resolve)?;
    if nix::sys::statfs::fstatfs(&fd)?.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC {
        return Err(Failed::because(Errno::ENODEV, "the host's `/proc` is not the kernel's"));
    }
    write_kept(&fd, value, |text| text.split_whitespace().eq(value.split_whitespace()))
}

/// Asks for an event when the v1 group runs out of memory;
/// `cgroup-v1/memory.rst`, section 10.
fn watch_oom(directory: &Path) -> Applied<OwnedFd> {
    use nix::sys::eventfd::{EfdFlags, EventFd};
    let event: OwnedFd =
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into();
    let control = nix::fcntl::open(
        &directory.join("memory.oom_control"),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    write_file(&directory.join("cgroup.event_control"), &line)?;
    Ok(event)
}

fn open_stream(path: &Path, mode: OpenMode, umask: Mode) -> Applied<OwnedFd> {
    let how = match mode {
        OpenMode::Read => OFlag::O_RDONLY,
        OpenMode::Truncate => OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC,
        OpenMode::Append => OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_APPEND,
    };
    let how = how | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    // The file is made as the caller makes files.
    let ours = nix::sys::stat::umask(umask);
    let opened = nix::fcntl::open(path, how, Mode::from_bits_truncate(0o644));
    nix::sys::stat::umask(ours);
    Ok(opened?)
}

fn join(path: &Path, namespace: Namespace) -> Applied {
    let fd = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let flag = nix::sched::CloneFlags::from_bits_retain(namespace.flag());
    nix::sched::setns(fd, flag).map_err(|errno| match errno {
        // The kernel's word for any file that is no such namespace.
        Errno::EINVAL => {
            Failed::because(errno, format!("the file is not a {} namespace", namespace.file()))
        }
        errno => errno.into(),
    })
}

fn enter(
    cx: &mut Context,
    namespaces: &[Namespace],
    map: Option<&IdMaps>,
    trees: &[HostTree],
    cgroup: Option<&Path>,
    time: Option<TimeOffsets>,
) -> Applied<Flow> {
    cx.proc = Some(sys::open2(Path::new("/proc"), libc::O_PATH | libc::O_DIRECTORY, 0)?);
    let cgroup =
        cgroup.map(|path| sys::open2(path, libc::O_PATH | libc::O_DIRECTORY, 0)).transpose()?;
    let (alive, status) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    // What takes privileges outside is done while the new process waits.
    let waits = !trees.is_empty() || map.is_some_and(|map| map.writer != MapWriter::Jail);
    let go = match waits {
        true => {
            Some(socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?)
        }
        false => None,
    };
    if !trees.is_empty() {
        cx.make_room(trees.len())?;
    }
    if !namespaces.contains(&Namespace::Pid) {
        // What the command leaves behind becomes this process's to end. From
        // before there is a command: one may leave something at once.
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
    }
    // Clocks are set between their namespace and its first process, so that
    // one is entered by hand.
    let flags = namespaces
        .iter()
        .filter(|namespace| **namespace != Namespace::Time)
        .fold(0_u64, |flags, namespace| flags | u64::from(namespace.flag().cast_unsigned()));
    match sys::clone3(flags, cgroup.as_ref().map(|fd| fd.as_fd()))? {
        Cloned::Parent(pid, pidfd) => {
            if let Some((ours, theirs)) = go {
                drop(theirs);
                let prepared = ids::prepare(cx, pid, map, trees, ours.as_fd());
                if let Err(failed) = prepared.and_then(|()| cx.leave_room()) {
                    drop(ours);
                    give_up(pidfd.as_fd());
                    return Err(failed);
                }
            }
            cx.status = Some(alive);
            Ok(Flow::Supervise(unistd::Pid::from_raw(pid), pidfd))
        }
        Cloned::Child => {
            drop(alive);
            cx.lock = None;
            cx.locks.clear();
            cx.held = None;
            cx.oom = None;
            cx.claims.clear();
            cx.status = Some(status);
            nix::sys::stat::umask(Mode::empty());
            if let Some((ours, theirs)) = go {
                drop(ours);
                match sys::receive_fds(theirs.as_fd(), trees.len())? {
                    Some(received) => cx.trees = received.into_iter().map(Some).collect(),
                    // The supervisor is gone, or has something to tell itself.
                    None => sys::exit_now(super::FAILURE),
                }
            }
            if let Some(map) = map.filter(|map| map.writer == MapWriter::Jail) {
                cx.write_proc("self/setgroups", "deny")?;
                cx.write_proc("self/uid_map", &ids::map_text(&map.uid))?;
                cx.write_proc("self/gid_map", &ids::map_text(&map.gid))?;
            }
            if let Some(offsets) = time {
                enter_time(cx, offsets)?;
            }
            die_with_parent(cx)?;
            Ok(Flow::Next)
        }
    }
}

/// Ends a process that waits for the word to go on.
fn give_up(pidfd: BorrowedFd<'_>) {
    // It ends by itself, too: the other end of its socket is closed.
    match sys::pidfd_send_signal(pidfd, libc::SIGKILL) {
        Ok(()) | Err(_) => {}
    }
    if let Ok(id) = u32::try_from(pidfd.as_raw_fd()) {
        while sys::wait(libc::P_PIDFD, id, false) == Err(Errno::EINTR) {}
    }
}

fn attach_tree(cx: &mut Context, tree: OwnedFd, on: &Spot, flags: MountFlags) -> Applied {
    if flags != MountFlags::NONE {
        sys::mount_setattr(tree.as_fd(), true, &attributes(flags, Propagation::Private))?;
    }
    match on {
        Spot::Stage(path) => attach(&tree, path)?,
        Spot::Root(path) => {
            attach(&tree, path)?;
            cx.root = Some(tree);
        }
        Spot::Inside(target) => {
            let point = cx.open(target)?;
            cx.mount(tree.as_fd(), point.as_fd(), target)?;
        }
    }
    Ok(())
}

fn enter_time(cx: &Context, offsets: TimeOffsets) -> Applied {
    nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(Namespace::Time.flag()))?;
    let line = |clock: &str, nanoseconds: i128| {
        let second = 1_000_000_000;
        format!("{clock} {} {}\n", nanoseconds.div_euclid(second), nanoseconds.rem_euclid(second))
    };
    let text = line("monotonic", offsets.monotonic) + &line("boottime", offsets.boottime);
    cx.write_proc("self/timens_offsets", &text)?;
    let path = Path::new("self/ns/time_for_children");
    let fd = sys::openat2(cx.proc()?, path, libc::O_RDONLY, 0)?;
    nix::sched::setns(fd, nix::sched::CloneFlags::from_bits_retain(Namespace::Time.flag()))?;
    Ok(())
}

/// Ends this process with its parent. The parent may be gone already: then
/// nobody reads the status pipe any more.
pub(super) fn die_with_parent(cx: &Context) -> Applied {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    if let Some(status) = &cx.status {
        let mut fds = [PollFd::new(status.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO)?;
        if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
            return Err(Failed::because(Errno::ESRCH, "the supervisor is gone"));
        }
    }
    Ok(())
}

pub(super) fn attribute_bits(flags: MountFlags) -> u64 {
    use sys::mount::{ATTR_NOATIME, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY};
    [
        (flags.read_only, ATTR_RDONLY),
        (flags.nosuid, ATTR_NOSUID),
        (flags.nodev, ATTR_NODEV),
        (flags.noexec, ATTR_NOEXEC),
        (flags.noatime, ATTR_NOATIME),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |bits, (_, bit)| bits | bit)
}

/// Flags are added to what the source has, never taken away.
fn attributes(flags: MountFlags, propagation: Propagation) -> MountAttr {
    MountAttr {
        set: attribute_bits(flags),
        clear: if flags.noatime { sys::mount::ATTR_ATIME } else { 0 },
        propagation: if propagation == Propagation::Private {
            0
        } else {
            propagation_flag(propagation)
        },
        userns_fd: 0,
    }
}

fn propagation_only(propagation: Propagation) -> MountAttr {
    MountAttr { propagation: propagation_flag(propagation), ..MountAttr::default() }
}

pub(super) fn propagation_flag(propagation: Propagation) -> u64 {
    match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    }
}

/// A path of the host that planning has found to be without links.
pub(super) fn open_host(path: &Path) -> Applied<OwnedFd> {
    Ok(sys::open2(path, libc::O_PATH, libc::RESOLVE_NO_SYMLINKS)?)
}

fn attach(tree: &OwnedFd, at: &Path) -> Applied {
    sys::move_mount(tree.as_fd(), open_host(at)?.as_fd())?;
    Ok(())
}

pub(super) fn new_filesystem(
    fstype: &std::ffi::CStr,
    source: &str,
    options: &[FsOption],
    flags: MountFlags,
) -> Applied<OwnedFd> {
    let text = |text: &str| CString::new(text).map_err(|_| Failed::from(Errno::EINVAL));
    let filesystem = sys::fsopen(fstype)?;
    let fs = filesystem.as_fd();
    let configure = || -> Applied<()> {
        sys::fsconfig_set(fs, c"source", Some(&text(source)?))?;
        for option in options {
            let value = option.value.as_deref().map(text).transpose()?;
            sys::fsconfig_set(fs, &text(option.key)?, value.as_deref())?;
        }
        Ok(sys::fsconfig_create(fs)?)
    };
    if let Err(failed) = configure() {
        return Err(Failed { detail: kernel_log(fs), ..failed });
    }
    Ok(sys::fsmount(fs, attribute_bits(flags))?)
}

fn lock_directory(path: &Path) -> Applied<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let directory = std::fs::File::from(sys::open2(path, flags, libc::RESOLVE_NO_SYMLINKS)?);
    match directory.try_lock() {
        Ok(()) => Ok(directory.into()),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failed::because(
            Errno::EWOULDBLOCK,
            format!("another jail has its changes in `{}`", path.display()),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

/// The stage is in this mount namespace alone: no path to it can be swapped.
fn make_stage_node(path: &Path, kind: NodeKind, mode: u32, owner: Option<(u32, u32)>) -> Applied {
    let directory = open_host(path.parent().ok_or(Errno::EINVAL)?)?;
    let name = path.file_name().ok_or(Errno::EINVAL)?;
    // The umask is 0 here; set-id bits are not for mkdir(2), and go with a chown.
    let bits = Mode::from_bits_truncate(mode);
    match kind {
        NodeKind::Directory => nix::sys::stat::mkdirat(&directory, name, bits)?,
        NodeKind::File => {
            nix::sys::stat::mknodat(&directory, name, nix::sys::stat::SFlag::S_IFREG, bits, 0)?;
        }
    }
    if let Some((uid, gid)) = owner {
        let (uid, gid) = (unistd::Uid::from_raw(uid), unistd::Gid::from_raw(gid));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        unistd::fchownat(&directory, name, Some(uid), Some(gid), flags)?;
    }
    if mode & 0o6000 != 0 {
        let how = nix::sys::stat::FchmodatFlags::FollowSymlink;
        nix::sys::stat::fchmodat(&directory, name, bits, how)?;
    }
    Ok(())
}

/// The descriptor keeps the device until it is mounted, and the mount after.
fn attach_loop(file: &Path, offset: u64, size: u64) -> Applied<LoopDevice> {
    let image = sys::open2(file, libc::O_RDONLY | libc::O_NONBLOCK, libc::RESOLVE_NO_SYMLINKS)?;
    block_image::attach(image.as_fd(), offset, Some(size))
        .map_err(|error| Failed::because(Errno::EIO, error.to_string()))
}

fn mount_loop(
    cx: &mut Context,
    number: usize,
    filesystem: Filesystem,
    on: &Spot,
    flags: MountFlags,
) -> Applied {
    let tree = loop_filesystem(cx, number, filesystem, flags)?;
    attach_tree(cx, tree, on, MountFlags::NONE)
}

/// The file system of a loop device, read-only and detached.
pub(super) fn loop_filesystem(
    cx: &Context,
    number: usize,
    filesystem: Filesystem,
    flags: MountFlags,
) -> Applied<OwnedFd> {
    let device = cx.loops.get(number).ok_or(Errno::ENODEV)?;
    let name = CString::new(filesystem.name()).map_err(|_| Errno::EINVAL)?;
    // Of the file system itself: a journal would be replayed otherwise.
    let options = [FsOption { key: "ro", value: None }];
    let source = device.path.to_string_lossy().into_owned();
    new_filesystem(&name, &source, &options, flags)
}

fn mount_overlay(cx: &mut Context, on: &Spot, overlay: &Overlay, flags: MountFlags) -> Applied {
    use nix::mount::MsFlags;
    let bits = [
        (flags.nosuid, MsFlags::MS_NOSUID),
        (flags.nodev, MsFlags::MS_NODEV),
        (flags.noexec, MsFlags::MS_NOEXEC),
        (flags.noatime, MsFlags::MS_NOATIME),
    ];
    let bits = bits.into_iter().filter(|(wanted, _)| *wanted).map(|(_, bit)| bit);
    let mount = |at: &Path| {
        let options = overlay.options();
        let (kind, bits) = (Some("overlay"), bits.collect::<MsFlags>());
        nix::mount::mount(kind, at, kind, bits, Some(options.as_str()))
    };
    let tree = match on {
        Spot::Root(at) | Spot::Stage(at) => {
            mount(at)?;
            open_host(at)?
        }
        Spot::Inside(target) => {
            let point = open_below(cx.root()?, target, libc::O_PATH | libc::O_DIRECTORY)?;
            // mount(2) takes a path: this one leads to what has been opened.
            mount(&Path::new("/proc/self/fd").join(point.as_raw_fd().to_string()))?;
            cx.forget_below(target);
            cx.open(target)?
        }
    };
    if flags.read_only {
        // Given to mount(2) it would be the file system's, not this mount's.
        let attr = MountAttr { set: sys::mount::ATTR_RDONLY, ..MountAttr::default() };
        sys::mount_setattr(tree.as_fd(), false, &attr)?;
    }
    if let Spot::Root(_) = on {
        cx.root = Some(tree);
    }
    Ok(())
}

/// What the kernel has to say about a refused file system, fsopen(2).
fn kernel_log(fs: BorrowedFd<'_>) -> Option<String> {
    let mut buffer = [0_u8; 256];
    let length = unistd::read(fs, &mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Some(text.trim().trim_start_matches("e ").to_owned()).filter(|text| !text.is_empty())
}

/// Opens a directory, and makes it with its missing parents, step by step on
/// descriptors.
pub(super) fn make_directory(root: BorrowedFd<'_>, path: &Path) -> Applied<OwnedFd> {
    let open = || open_below(root, path, libc::O_PATH | libc::O_DIRECTORY);
    match (open(), path.parent(), path.file_name()) {
        (Err(Failed { errno: Errno::ENOENT, .. }), Some(parent), Some(name)) => {
            let parent = make_directory(root, parent)?;
            make_node(parent.as_fd(), name, NodeKind::Directory)?;
            open()
        }
        (opened, ..) => opened,
    }
}

/// Makes a file or directory; false when it exists.
pub(super) fn make_node(directory: BorrowedFd<'_>, name: &OsStr, kind: NodeKind) -> Applied<bool> {
    let made = match kind {
        NodeKind::Directory => {
            nix::sys::stat::mkdirat(directory, name, Mode::from_bits_truncate(0o755))
        }
        NodeKind::File => nix::sys::stat::mknodat(
            directory,
            name,
            nix::sys::stat::SFlag::S_IFREG,
            Mode::from_bits_truncate(0o444),
            0,
        ),
    };
    match made {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// Binds a device node of the host.
fn bind_device(cx: &mut Context, source: &Path, target: &Path, number: DeviceNumber) -> Applied {
    let flags = crate::plan::devices::NODE_FLAGS;
    let tree = device_tree(source, number, flags)?;
    let on = cx.open(target)?;
    cx.mount(tree.as_fd(), on.as_fd(), target)
}

/// A device node of the host, seen to be that device, to be mounted.
fn device_tree(path: &Path, number: DeviceNumber, flags: MountFlags) -> Applied<OwnedFd> {
    let tree = std::fs::File::from(sys::open_tree_clone_at(path)?);
    let metadata = tree.metadata()?;
    let kind = metadata.file_type();
    let is_kind = if number.block { kind.is_block_device() } else { kind.is_char_device() };
    let is_it = is_kind && metadata.rdev() == libc::makedev(number.major, number.minor);
    if !is_it {
        return Err(Failed::because(
            Errno::ENODEV,
            format!("the host's `{}` is not that device", path.display()),
        ));
    }
    sys::mount_setattr(tree.as_fd(), false, &attributes(flags, Propagation::Private))?;
    Ok(tree.into())
}

/// One of the devices that every jail has.
fn common_device(name: &str, flags: MountFlags) -> Applied<OwnedFd> {
    let known = crate::plan::root::DEVICES.iter().find(|(known, ..)| *known == name);
    let &(_, major, minor) = known.ok_or(Errno::ENODEV)?;
    let number = DeviceNumber { block: false, major, minor };
    device_tree(&Path::new("/dev").join(name), number, flags)
}

fn bind_devices(cx: &mut Context, names: &[&str]) -> Applied {
    cx.reach_or_make(Path::new("/dev"))?;
    let dev = cx.directory()?;
    let flags = MountFlags { nosuid: true, noexec: true, ..MountFlags::NONE };
    for name in names {
        let tree = common_device(name, flags)?;
        // What is mounted on is the file that this call has made, in a file
        // system that nobody else has seen yet.
        let mode = Mode::from_bits_truncate(0o444);
        nix::sys::stat::mknodat(dev, *name, nix::sys::stat::SFlag::S_IFREG, mode, 0)?;
        sys::move_mount_at(tree.as_fd(), dev, OsStr::new(name))?;
    }
    Ok(())
}

fn mask(cx: &mut Context, target: &Path, kind: NodeKind) -> Applied {
    let flags = crate::plan::mounts::mask_flags(kind);
    let over = match kind {
        NodeKind::Directory => {
            let options = [("mode", "555"), ("size", "4k"), ("nr_inodes", "1")]
                .map(|(key, value)| FsOption { key, value: Some(value.to_owned()) });
            new_filesystem(c"tmpfs", "tmpfs", &options, flags)?
        }
        NodeKind::File => match &cx.cover {
            // A copy has the flags of what it is one of.
            Some(cover) => sys::open_tree_clone(cover.as_fd(), false)?,
            None => common_device("null", flags)?,
        },
    };
    cx.mount_at(over.as_fd(), kind, target)?;
    if kind == NodeKind::File && cx.cover.is_none() {
        // On a shared mount it has become shared itself, and so would be its copies.
        sys::mount_setattr(over.as_fd(), false, &propagation_only(Propagation::Private))?;
        cx.cover = Some(over);
    }
    Ok(())
}

/// A terminal of the jail's own devpts becomes the command's streams and its
/// controlling terminal; the supervisor gets the other end.
fn terminal(cx: &mut Context) -> Applied {
    let devpts = cx.devpts.as_ref().ok_or(Errno::ENODEV)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = open_below(devpts.as_fd(), Path::new("ptmx"), flags)?;
    let peer = sys::open_terminal_peer(master.as_fd())?;
    let socket = cx.terminal.take().ok_or(Errno::EBADF)?;
    sys::send_fd(socket.as_fd(), master.as_fd())?;
    // As a session leader of its own the command gets job control. Without an
    // init it is the leader of one already.
    match unistd::setsid() {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    sys::take_terminal(peer.as_fd())?;
    for fd in 0..3 {
        sys::dup2(peer.as_fd(), fd)?;
    }
    Ok(())
}

fn cpu_set(cpus: &str) -> Applied<nix::sched::CpuSet> {
    let ids = crate::unit::value::parse_id_set(cpus).map_err(|_| Errno::EINVAL)?;
    let mut set = nix::sched::CpuSet::new();
    for id in ids.0 {
        set.set(id as usize)?;
    }
    Ok(set)
}

fn limit_capabilities(keep: u64) -> Applied {
    for number in 0..64 {
        if keep & (1 << number) == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, number, 0) {
                Ok(_) => {}
                // Past the last one that this kernel knows.
                Err(Errno::EINVAL) if number > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

fn set_capabilities(permitted: u64, ambient: u64) -> Applied {
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    sys::capset(permitted, permitted, ambient)?;
    for number in (0..64).filter(|number| ambient & (1 << number) != 0) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)?;
    }
    // The kernel clears it when credentials change.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    Ok(())
}

/// Closes, and not only marks, what is left open: between here and execve a
/// path like `/proc/self/fd/7/..` would lead out of the jail.
fn close_fds(cx: &mut Context, keep: &[i32]) -> Applied {
    for fd in (0..3).chain(keep.iter().copied()) {
        // A stream that is closed leads nowhere.
        let Ok(open) = sys::borrow(fd) else { continue };
        if nix::sys::stat::fstat(open)?.st_mode & libc::S_IFMT == libc::S_IFDIR {
            let detail = format!("descriptor {fd} is a directory, which would be a way out");
            return Err(Failed::because(Errno::EISDIR, detail));
        }
    }
    for fd in keep {
        sys::keep_on_exec(*fd)?;
    }
    let status = cx.status.as_ref().map(|fd| fd.as_raw_fd());
    let mut open: Vec<u32> =
        keep.iter().copied().chain(status).filter_map(|fd| u32::try_from(fd).ok()).collect();
    open.sort_unstable();
    let mut first = 3;
    for fd in open {
        if fd > first {
            sys::close_range(first, fd - 1, false)?;
        }
        first = fd + 1;
    }
    sys::close_range(first, u32::MAX, false)?;
    Ok(())
}

/// What execve needs.
#[derive(Debug)]
struct Start {
    /// The files to try; each with whether it is there.
    candidates: Vec<(CString, bool)>,
    /// Why the file after those is not tried.
    stop: Option<Failed>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Where it was searched for.
    path: Option<String>,
}

/// Everything that comes before execve: under the filter there is nothing left
/// to do but that, and to report that it has failed.
fn prepare_exec(
    cx: &Context,
    command: &[String],
    environment: &[(String, String)],
) -> Applied<Start> {
    let list = |words: &mut dyn Iterator<Item = String>| -> Applied<Vec<CString>> {
        words.map(|word| CString::new(word).map_err(|_| Errno::EINVAL.into())).collect()
    };
    let program = &command[0];
    let path = environment.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let files: Vec<PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        path.split(':').map(|directory| Path::new(directory).join(program)).collect()
    };
    let mut candidates = Vec::with_capacity(files.len());
    let mut stop = None;
    let is_search = !program.contains('/');
    for file in files {
        let Ok(text) = CString::new(file.as_os_str().as_bytes()) else { continue };
        match refuse_magic(&file, 0) {
            Ok(exists) => candidates.push((text, exists)),
            Err(failed) => {
                stop = Some(failed);
                break;
            }
        }
        // Those behind it in PATH are not looked at.
        if is_search && file.is_file() && unistd::access(&file, unistd::AccessFlags::X_OK).is_ok() {
            break;
        }
    }
    let start = Start {
        candidates,
        stop,
        arguments: list(&mut command.iter().cloned())?,
        environment: list(&mut environment.iter().map(|(name, value)| format!("{name}={value}")))?,
        path: is_search.then(|| path.to_owned()),
    };
    cx.leave_this_cpu()?;
    restore_signals(cx)?;
    // The kernel moves a process at its execve to another CPU when this one
    // has more to run, and to wake one is dear. The two that wait for this
    // process count as running until the scheduler next looks at them.
    std::thread::yield_now();
    Ok(start)
}

fn exec(start: Start) -> Failed {
    let mut refused = None;
    for (candidate, exists) in &start.candidates {
        match sys::execve(candidate, &start.arguments, &start.environment) {
            Errno::ENOENT if *exists => {
                return Failed::because(
                    Errno::ELIBACC,
                    format!(
                        "`{}` exists; the interpreter or loader it names does not",
                        candidate.to_string_lossy()
                    ),
                );
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            errno => refused = Some((errno, candidate)),
        }
    }
    if let Some(failed) = start.stop {
        return failed;
    }
    match (refused, start.path) {
        (Some((errno, candidate)), _) => {
            Failed::because(errno, format!("`{}`", candidate.to_string_lossy()))
        }
        (None, None) => Errno::ENOENT.into(),
        (None, Some(path)) => Failed::because(Errno::ENOENT, format!("not found in {path}")),
    }
}

/// Refuses a program, or an interpreter that it names, behind a magic link: a
/// root may hold one to `/proc/self/exe`, which is jailrun itself. Otherwise
/// whether the file is there.
fn refuse_magic(path: &Path, depth: u32) -> Applied<bool> {
    let unread = |errno| Failed::because(errno, format!("looking into `{}`", path.display()));
    match sys::open2(path, libc::O_PATH, libc::RESOLVE_NO_MAGICLINKS) {
        Err(Errno::ELOOP) => {
            let detail = format!("`{}` leads through a magic link of /proc", path.display());
            return Err(Failed::because(Errno::ELOOP, detail));
        }
        // What does not exist or cannot be reached cannot be executed either.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ENAMETOOLONG) => {
            return Ok(false);
        }
        Err(errno) => return Err(unread(errno)),
        Ok(_) => {}
    }
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = match sys::open2(path, flags, libc::RESOLVE_NO_MAGICLINKS) {
        Ok(fd) => fd,
        // A file that its user may execute and not read is no script: its
        // interpreter could not read it. The rest are no regular files.
        Err(Errno::EACCES | Errno::ENXIO | Errno::ENODEV) => return Ok(true),
        Err(errno) => return Err(unread(errno)),
    };
    let mut head = [0_u8; 256];
    let length = match unistd::read(&fd, &mut head) {
        Ok(length) => length,
        Err(Errno::EISDIR) => return Ok(true),
        Err(errno) => return Err(unread(errno)),
    };
    drop(fd);
    if let Some(line) = head[..length].strip_prefix(b"#!")
        && depth < 4
    {
        let line =
            String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or(line))
                .into_owned();
        if let Some(interpreter) = line.split_whitespace().next() {
            refuse_magic(Path::new(interpreter), depth + 1)?;
        }
    }
    Ok(true)
}

/// The mask the caller had, and default dispositions: a command must not
/// ignore what its caller happens to ignore, as under nohup(1).
fn restore_signals(cx: &Context) -> Applied {
    sys::default_signals();
    Ok(cx.mask.thread_set_mask()?)
}
