//! What steps leave for later ones, and the way to a path of the jail.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::stat::Mode;
use nix::unistd;

use super::error::{Applied, Failed};
use super::paths::{make_node, open_below, open_host};
use super::start::Start;
use crate::block_image::LoopDevice;
use crate::image::store::Held;
use crate::names;
use crate::plan::step::{NodeKind, OWN_FILES};
use crate::sys;

/// What steps leave for later ones.
#[derive(Debug)]
pub(super) struct Context {
    /// The host's `/proc`: a path below the jail's own is never trusted.
    pub(super) proc: Option<OwnedFd>,
    /// The attached root.
    pub(super) root: Option<OwnedFd>,
    /// The instance of devpts at `/dev/pts`.
    pub(super) devpts: Option<OwnedFd>,
    /// The directory of the jail that was worked in last, and those above it:
    /// most of what is made has its parent in common with what was made before.
    directories: Vec<(PathBuf, OwnedFd)>,
    /// The step that has made a node where there was none.
    pub(super) fresh: Option<usize>,
    /// What hides a file, mounted over the one that was hidden first.
    pub(super) cover: Option<OwnedFd>,
    pub(super) streams: [Option<OwnedFd>; 3],
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
    /// Short names of layers, and what they stand for.
    pub(super) layers: Vec<(PathBuf, PathBuf)>,
    /// The image that the root is made of.
    pub(super) held: Option<Held>,
    /// First processes of other jails.
    pub(super) jails: Vec<(u32, OwnedFd)>,
    /// Devices that files are mounted from.
    pub(super) loops: Vec<LoopDevice>,
    /// The locks on the jail's ranges of ids.
    pub(super) claims: Vec<std::fs::File>,
    /// What has been opened for the jail from outside.
    pub(super) trees: Vec<Option<OwnedFd>>,
    /// Becomes readable when the v1 memory group runs out.
    pub(super) oom: Option<OwnedFd>,
    /// How the jail is ended.
    pub(super) supervise: super::Supervision,
    /// What the last step needs, where it was prepared before it.
    pub(super) start: Option<Start>,
    /// Mount points that this launch has made on the host.
    pub(super) made: Vec<usize>,
    /// Children that this process had before the jail's first, where it gets
    /// those of the jail too.
    pub(super) inherited: Vec<i32>,
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
            layers: Vec::new(),
            held: None,
            jails: Vec::new(),
            loops: Vec::new(),
            claims: Vec::new(),
            trees: Vec::new(),
            oom: None,
            supervise: super::Supervision::default(),
            start: None,
            made: Vec::new(),
            inherited: Vec::new(),
        }
    }

    pub(super) fn root(&self) -> Applied<BorrowedFd<'_>> {
        self.root.as_ref().map(|fd| fd.as_fd()).ok_or_else(|| Errno::EBADF.into())
    }

    /// A tree that has been opened for the jail, for the step that uses it.
    pub(super) fn take_tree(&mut self, number: usize) -> Applied<OwnedFd> {
        self.trees.get_mut(number).and_then(Option::take).ok_or_else(|| Errno::EBADF.into())
    }

    /// A detached copy of a tree of the host: the one that has been opened
    /// from outside, or what this process gets to.
    pub(super) fn host_tree(
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

    pub(super) fn write_proc(&self, path: &str, text: &str) -> Applied {
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
    pub(super) fn make_room(&mut self, trees: usize) -> Applied {
        let needed = trees as u64 + OWN_FILES;
        let (soft, hard) = sys::getrlimit(names::NOFILE)?;
        if soft >= needed {
            return Ok(());
        }
        if hard < needed {
            let detail = format!("{trees} trees take {needed} open files, the limit is {hard}");
            return Err(Failed::found(detail));
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
    pub(super) fn open(&self, path: &Path) -> Applied<OwnedFd> {
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
    pub(super) fn directory(&self) -> Applied<BorrowedFd<'_>> {
        match self.directories.last() {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => self.root(),
        }
    }

    /// The same, made where it is missing.
    pub(super) fn reach_or_make(&mut self, path: &Path) -> Applied {
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
    pub(super) fn place<'p>(&mut self, path: &'p Path) -> Applied<(BorrowedFd<'_>, &'p OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::EINVAL.into());
        };
        self.reach_or_make(parent)?;
        Ok((self.directory()?, name))
    }

    /// Mounts a detached tree on what has that path in the jail. The way to it
    /// leads over no link, and a link at its end is not followed.
    pub(super) fn mount_at(
        &mut self,
        tree: BorrowedFd<'_>,
        kind: NodeKind,
        target: &Path,
    ) -> Applied {
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
    pub(super) fn mount(
        &mut self,
        tree: BorrowedFd<'_>,
        on: BorrowedFd<'_>,
        target: &Path,
    ) -> Applied {
        self.forget_below(target);
        Ok(sys::move_mount(tree, on)?)
    }

    /// What has been opened below a path is not what is there once something
    /// is mounted on it.
    pub(super) fn forget_below(&mut self, target: &Path) {
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
