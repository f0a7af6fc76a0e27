//! Copying and removing whole directory trees by descriptors.
//!
//! A tree may belong to somebody who changes it meanwhile, to lead its reader
//! somewhere else. No name is resolved in two steps: an entry is opened once,
//! without following a link, and what it is and holds is then asked of the
//! descriptor. What cannot be kept is an error. Extended attributes and modes
//! of what must not be opened are reached through the host's `/proc/self/fd`.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, copy_file_range, openat, readlinkat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat, fstat, mkdirat, mknodat};
use nix::unistd::{
    Gid, Uid, UnlinkatFlags, Whence, fchownat, getegid, geteuid, linkat, lseek, symlinkat, unlinkat,
};

use crate::sys;

/// What becomes of owners and groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Owners {
    /// They are kept.
    #[default]
    Keep,
    /// Everything belongs to the caller. What gives a program its owner's
    /// privileges (set-user-id, set-group-id, file capabilities) is kept only
    /// where that was the owner before.
    Caller,
}

/// What becomes of that which is mounted in the source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mounts {
    /// It is copied as a part of the tree, as by `cp -a`.
    #[default]
    Cross,
    /// Its mount point is copied empty, as by `cp -ax`.
    Stay,
}

/// How a tree is copied.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Owners and groups.
    pub owners: Owners,
    /// Mounts in the source.
    pub mounts: Mounts,
}

/// What has been copied, and what has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Directories made or merged.
    pub directories: u64,
    /// Regular files, each once.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// FIFOs and devices.
    pub nodes: u64,
    /// Further names of what was copied under another.
    pub hard_links: u64,
    /// Bytes of data, without holes.
    pub bytes: u64,
    /// Sockets, which mean nothing without their process: left out.
    pub sockets: u64,
    /// Mount points copied empty.
    pub mount_points: u64,
    /// Entries that belong to the caller, and did not in the source.
    pub foreign_owners: u64,
    /// Files that have lost set-user-id, set-group-id or capabilities.
    pub privileges_dropped: u64,
}

/// A tree could not be copied, removed or read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeError {
    /// Where, from the top of the tree.
    pub path: PathBuf,
    /// The system call.
    pub call: &'static str,
    /// The kernel's answer.
    pub errno: Errno,
    /// What these do not tell.
    pub detail: Option<String>,
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = if self.path == Path::new("") { Path::new(".") } else { &self.path };
        write!(f, "{} of `{}` failed: {}", self.call, printable(path), self.errno)?;
        if let Some(detail) = &self.detail {
            write!(f, "; {detail}")?;
        }
        match self.errno {
            Errno::ENOSPC => {
                f.write_str("; the target is full: for a tmpfs its size or inodes are too few")
            }
            Errno::EDQUOT => f.write_str("; the quota of the target is used up"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for TreeError {}

/// A path for people: what is not printable text is escaped.
pub(crate) fn printable(path: &Path) -> String {
    let mut out = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '\\' => out.push_str("\\\\"),
                _ if character.is_control() => out.extend(character.escape_default()),
                _ => out.push(character),
            }
        }
        for byte in chunk.invalid() {
            // Writing to a string cannot fail.
            write!(out, "\\x{byte:02x}").ok();
        }
    }
    out
}

/// A failed call, before it is known where in the tree.
#[derive(Debug)]
pub(crate) struct Refused {
    call: &'static str,
    errno: Errno,
    detail: Option<String>,
}

impl Refused {
    pub(crate) fn because(call: &'static str, errno: Errno, detail: impl Into<String>) -> Self {
        Self { call, errno, detail: Some(detail.into()) }
    }

    pub(crate) fn at(self, path: impl Into<PathBuf>) -> TreeError {
        TreeError { path: path.into(), call: self.call, errno: self.errno, detail: self.detail }
    }
}

pub(crate) type Refusable<T = ()> = Result<T, Refused>;

/// Gives a failure the name of its call.
pub(crate) trait During<T> {
    fn during(self, call: &'static str) -> Refusable<T>;
}

impl<T> During<T> for nix::Result<T> {
    fn during(self, call: &'static str) -> Refusable<T> {
        self.map_err(|errno| Refused { call, errno, detail: None })
    }
}

impl<T> During<T> for io::Result<T> {
    fn during(self, call: &'static str) -> Refusable<T> {
        self.map_err(|error| Errno::try_from(error).unwrap_or(Errno::EIO)).during(call)
    }
}

/// What makes two descriptors the same file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Id {
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl Id {
    pub(crate) fn of(stat: &FileStat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// A way down a tree, of any length: of the directories above only the nearest
/// stay open. The others are found again as `..`, and refused when that is
/// another directory than the one that was left.
#[derive(Debug)]
pub(crate) struct Descent {
    current: OwnedFd,
    id: Id,
    above: Vec<(Id, Option<OwnedFd>)>,
}

impl Descent {
    /// How many directories above stay open.
    const OPEN: usize = 32;

    pub(crate) fn new(top: BorrowedFd<'_>) -> nix::Result<Self> {
        let current = openat(top, c".", DIRECTORY, Mode::empty())?;
        Ok(Self { id: Id::of(&fstat(&current)?), current, above: Vec::new() })
    }

    pub(crate) fn current(&self) -> BorrowedFd<'_> {
        self.current.as_fd()
    }

    /// Goes down to a directory that was opened from the current one.
    pub(crate) fn enter(&mut self, directory: OwnedFd) -> nix::Result<()> {
        let id = Id::of(&fstat(&directory)?);
        let parent = std::mem::replace(&mut self.current, directory);
        self.above.push((std::mem::replace(&mut self.id, id), Some(parent)));
        if let Some(far) = self.above.len().checked_sub(Self::OPEN + 1) {
            self.above[far].1 = None;
        }
        Ok(())
    }

    /// Goes up again, and returns the directory that was left.
    pub(crate) fn leave(&mut self) -> nix::Result<OwnedFd> {
        let (id, parent) = self.above.pop().ok_or(Errno::ENOENT)?;
        let parent = match parent {
            Some(parent) => parent,
            None => {
                let parent = openat(&self.current, c"..", DIRECTORY, Mode::empty())?;
                if Id::of(&fstat(&parent)?) != id {
                    return Err(Errno::ESTALE);
                }
                parent
            }
        };
        self.id = id;
        Ok(std::mem::replace(&mut self.current, parent))
    }
}

/// Names in a directory, which may be open with `O_PATH` only.
pub(crate) fn names(directory: BorrowedFd<'_>) -> nix::Result<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::from_fd(openat(directory, c".", flags, Mode::empty())?)?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// A name as a path of one part.
pub(crate) fn as_path(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}

/// The path of what a descriptor refers to, for calls that take no `O_PATH`
/// descriptor. It ends there: a symbolic link is not followed any further.
pub(crate) fn magic(fd: impl AsFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).into()
}

/// The type bits of a mode.
pub(crate) fn format(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits())
}

/// The longest name list and value of extended attributes that Linux allows.
pub(crate) const XATTR_MAX: usize = 65_536;

/// Calls a function for each extended attribute. `names` is room for the list.
pub(crate) fn for_each_xattr(
    path: &Path,
    names: &mut [u8],
    mut each: impl FnMut(&CStr) -> Refusable,
) -> Refusable {
    let length = match sys::xattr::list(path, names) {
        Err(Errno::EOPNOTSUPP) => 0,
        length => length.during("listxattr")?,
    };
    for name in names[..length].split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name)
            .map_err(|_| Refused::because("listxattr", Errno::EIO, "a name without an end"))?;
        each(name)?;
    }
    Ok(())
}

/// Copies what a directory holds into another one, whose own attributes stay
/// as they are. Directories that are there already are merged, and take the
/// attributes of the source's; anything else that is there is an error.
///
/// Kept are owners, modes, times of access and modification, hard links,
/// symbolic links, holes, devices, FIFOs, POSIX ACLs, file capabilities and
/// attributes of `user` and `trusted`. Attributes of `security` besides are
/// labels of the host's policy, and stay behind. The target must be changed by
/// nobody else.
pub fn copy(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    options: &Options,
) -> Result<Summary, TreeError> {
    let mut copying = Copying::new(from, to, *options).map_err(|refused| refused.at(""))?;
    match copying.run() {
        Ok(()) => Ok(copying.summary),
        Err(refused) => Err(refused.at(copying.path)),
    }
}

/// A directory that is being copied.
#[derive(Debug)]
struct Directory {
    /// What of it is still to do.
    names: Vec<CString>,
    /// Its attributes, set when it is complete; none for the top.
    stat: Option<FileStat>,
}

/// Whether something is mounted on an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    MountPoint,
}

/// Who moves the data of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Kernel,
    Buffer,
}

struct Copying<'a> {
    options: Options,
    caller: (Uid, Gid),
    to: BorrowedFd<'a>,
    source: Descent,
    target: Descent,
    open: Vec<Directory>,
    /// Where in the tree the copy is.
    path: PathBuf,
    /// Under which name a file with several names was copied.
    links: HashMap<Id, PathBuf>,
    engine: Engine,
    data: Vec<u8>,
    names: Vec<u8>,
    value: Vec<u8>,
    summary: Summary,
}

impl<'a> Copying<'a> {
    fn new(from: BorrowedFd<'_>, to: BorrowedFd<'a>, options: Options) -> Refusable<Self> {
        Ok(Self {
            options,
            caller: (geteuid(), getegid()),
            to,
            source: Descent::new(from).during("openat")?,
            target: Descent::new(to).during("openat")?,
            open: Vec::new(),
            path: PathBuf::new(),
            links: HashMap::new(),
            engine: Engine::Kernel,
            data: vec![0; 256 * 1024],
            names: vec![0; XATTR_MAX],
            value: vec![0; XATTR_MAX],
            summary: Summary::default(),
        })
    }

    fn run(&mut self) -> Refusable {
        let top = self.target.id;
        self.refuse_target(self.source.id, top)?;
        let names = names(self.source.current()).during("getdents")?;
        self.open.push(Directory { names, stat: None });
        while let Some(directory) = self.open.last_mut() {
            match directory.names.pop() {
                Some(name) => self.entry(&name, top)?,
                None => self.leave()?,
            }
        }
        Ok(())
    }

    /// A source that holds the target would never end.
    fn refuse_target(&self, id: Id, top: Id) -> Refusable {
        if id == top {
            let detail = "the target itself is a part of what is copied";
            return Err(Refused::because("openat", Errno::ELOOP, detail));
        }
        Ok(())
    }

    fn entry(&mut self, name: &CStr, top: Id) -> Refusable {
        self.path.push(as_path(name));
        let (node, place) = self.look(name)?;
        let stat = fstat(&node).during("fstat")?;
        if place == Place::MountPoint {
            self.summary.mount_points += 1;
        }
        if format(&stat) == SFlag::S_IFDIR {
            self.refuse_target(Id::of(&stat), top)?;
            return self.enter(name, node, stat, place);
        }
        self.leaf(name, &node, &stat, place)?;
        self.path.pop();
        Ok(())
    }

    fn look(&self, name: &CStr) -> Refusable<(OwnedFd, Place)> {
        let open = |resolve| {
            let flags = libc::O_PATH | libc::O_NOFOLLOW;
            sys::openat2(self.source.current(), as_path(name), flags, resolve)
        };
        let opened = match self.options.mounts {
            Mounts::Cross => open(0).map(|node| (node, Place::Inside)),
            Mounts::Stay => match open(libc::RESOLVE_NO_XDEV) {
                Err(Errno::EXDEV) => open(0).map(|node| (node, Place::MountPoint)),
                node => node.map(|node| (node, Place::Inside)),
            },
        };
        opened.during("openat2")
    }

    fn enter(&mut self, name: &CStr, node: OwnedFd, stat: FileStat, place: Place) -> Refusable {
        let names = match place {
            Place::Inside => names(node.as_fd()).during("getdents")?,
            Place::MountPoint => Vec::new(),
        };
        let at = self.target.current();
        let is_new = match mkdirat(at, name, Mode::S_IRWXU) {
            Err(Errno::EEXIST) => false,
            made => made.during("mkdirat").map(|()| true)?,
        };
        let directory = match openat(at, name, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty()) {
            Err(Errno::ENOTDIR) => return Err(self.in_the_way("mkdirat")),
            directory => directory.during("openat")?,
        };
        // What is made in it would inherit from it.
        if is_new {
            self.forget_inherited(&directory)?
        } else {
            forget_acls(&directory)?
        }
        self.source.enter(node).during("fstat")?;
        self.target.enter(directory).during("fstat")?;
        self.open.push(Directory { names, stat: Some(stat) });
        self.summary.directories += 1;
        Ok(())
    }

    fn leave(&mut self) -> Refusable {
        let Some(Directory { stat: Some(stat), .. }) = self.open.pop() else { return Ok(()) };
        let source = self.source.leave().map_err(|errno| match errno {
            Errno::ESTALE => {
                Refused::because("openat", errno, "it was moved while it was being copied")
            }
            errno => Refused { call: "openat", errno, detail: None },
        })?;
        let target = self.target.leave().during("openat")?;
        self.finish(&source, &target, &stat)?;
        self.path.pop();
        Ok(())
    }

    fn leaf(&mut self, name: &CStr, node: &OwnedFd, stat: &FileStat, place: Place) -> Refusable {
        let kind = format(stat);
        if kind == SFlag::S_IFSOCK {
            self.summary.sockets += 1;
            return Ok(());
        }
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&Id::of(stat)) {
                self.link(first, name)?;
                self.summary.hard_links += 1;
                return Ok(());
            }
            self.links.insert(Id::of(stat), self.path.clone());
        }
        let made = match kind {
            SFlag::S_IFREG => self.file(name, node, stat, place)?,
            SFlag::S_IFLNK => self.symlink(name, node)?,
            kind => self.node(name, kind, stat.st_rdev)?,
        };
        self.forget_inherited(&made)?;
        self.finish(node, &made, stat)
    }

    /// The error for something that is neither to be replaced nor merged.
    fn in_the_way(&self, call: &'static str) -> Refused {
        Refused::because(
            call,
            Errno::EEXIST,
            "it is in the target already, and only a directory is merged with a directory",
        )
    }

    fn made(&self, call: &'static str, result: nix::Result<()>) -> Refusable {
        match result {
            Err(Errno::EEXIST) => Err(self.in_the_way(call)),
            result => result.during(call),
        }
    }

    /// Opens an entry of the target that has just been made.
    fn open_made(&self, name: &CStr) -> Refusable<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(self.target.current(), name, flags, Mode::empty()).during("openat")
    }

    fn link(&self, first: &Path, name: &CStr) -> Refusable {
        let directory = open_far(self.to, first.parent().unwrap_or(Path::new("")));
        let directory = directory.during("openat2")?;
        let file = first.file_name().unwrap_or_default();
        let linked = linkat(&directory, file, self.target.current(), name, AtFlags::empty());
        self.made("linkat", linked)
    }

    fn symlink(&mut self, name: &CStr, node: &OwnedFd) -> Refusable<OwnedFd> {
        let to = readlinkat(node, c"").during("readlinkat")?;
        self.made("symlinkat", symlinkat(to.as_os_str(), self.target.current(), name))?;
        self.summary.symlinks += 1;
        self.open_made(name)
    }

    fn node(&mut self, name: &CStr, kind: SFlag, number: libc::dev_t) -> Refusable<OwnedFd> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        self.made("mknodat", mknodat(self.target.current(), name, kind, mode, number))?;
        self.summary.nodes += 1;
        self.open_made(name)
    }

    fn file(
        &mut self,
        name: &CStr,
        node: &OwnedFd,
        stat: &FileStat,
        place: Place,
    ) -> Refusable<OwnedFd> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let target = match openat(self.target.current(), name, flags, mode) {
            Err(Errno::EEXIST) => return Err(self.in_the_way("openat")),
            target => File::from(target.during("openat")?),
        };
        if place == Place::Inside {
            let source = File::open(magic(node)).during("open")?;
            // A file whose size the kernel does not know says that it is empty.
            match u64::try_from(stat.st_size).unwrap_or(0) {
                0 => self.buffered(&source, &target, 0..u64::MAX).map(drop)?,
                size => self.extents(&source, &target, size)?,
            }
        }
        self.summary.files += 1;
        Ok(target.into())
    }

    /// Copies the data of a file, and leaves its holes out.
    fn extents(&mut self, from: &File, to: &File, size: u64) -> Refusable {
        let mut done = 0;
        while let Some(extent) = next_extent(from, done..size)? {
            let end = extent.end;
            done = self.range(from, to, extent)?;
            if done < end {
                // It has become shorter, or its size was a guess as in sysfs.
                return to.set_len(done).during("ftruncate");
            }
        }
        if done < size { to.set_len(size).during("ftruncate") } else { Ok(()) }
    }

    /// Copies a range up to its end or that of the file, and returns which.
    fn range(&mut self, from: &File, to: &File, range: Range<u64>) -> Refusable<u64> {
        let mut done = range.start;
        while self.engine == Engine::Kernel && done < range.end {
            let (mut read, mut written) = (done.cast_signed(), done.cast_signed());
            let length = usize::try_from(range.end - done).unwrap_or(usize::MAX).min(1 << 30);
            match copy_file_range(from, Some(&mut read), to, Some(&mut written), length) {
                Ok(0) => return Ok(done),
                Ok(length) => {
                    done += length as u64;
                    self.summary.bytes += length as u64;
                }
                Err(Errno::EINTR) => {}
                // Not between these file systems, or not on this kernel.
                Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                    self.engine = Engine::Buffer;
                }
                Err(errno) => return Err(errno).during("copy_file_range"),
            }
        }
        self.buffered(from, to, done..range.end)
    }

    fn buffered(&mut self, from: &File, to: &File, range: Range<u64>) -> Refusable<u64> {
        let mut done = range.start;
        while done < range.end {
            let room = usize::try_from(range.end - done).unwrap_or(usize::MAX);
            let room = room.min(self.data.len());
            let length = match from.read_at(&mut self.data[..room], done) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                length => length.during("pread")?,
            };
            to.write_all_at(&self.data[..length], done).during("pwrite")?;
            done += length as u64;
            self.summary.bytes += length as u64;
        }
        Ok(done)
    }

    /// An entry of the top inherits the ACL that the target may have.
    fn forget_inherited(&self, made: &OwnedFd) -> Refusable {
        if self.open.len() == 1 { forget_acls(made) } else { Ok(()) }
    }

    /// Gives an entry its attributes. The order is the kernel's: a change of
    /// owner takes set-user-id and capabilities away, a read-only mode would
    /// refuse attributes, and anything would touch the times.
    fn finish(&mut self, source: &OwnedFd, target: &OwnedFd, stat: &FileStat) -> Refusable {
        let (uid, gid) = match self.options.owners {
            Owners::Keep => (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid)),
            Owners::Caller => self.caller,
        };
        fchownat(target, c"", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH).during("fchownat")?;
        let same = (uid.as_raw() == stat.st_uid, gid.as_raw() == stat.st_gid);
        if same != (true, true) {
            self.summary.foreign_owners += 1;
        }

        let mut mode = Mode::from_bits_truncate(stat.st_mode);
        let is_program = format(stat) == SFlag::S_IFREG;
        if is_program && !same.0 {
            mode.remove(Mode::S_ISUID);
        }
        if is_program && !same.1 {
            mode.remove(Mode::S_ISGID);
        }
        let mut dropped = mode != Mode::from_bits_truncate(stat.st_mode);

        let path = magic(target);
        dropped |= self.xattrs(&magic(source), &path, same.0)?;
        self.summary.privileges_dropped += u64::from(dropped);

        if format(stat) != SFlag::S_IFLNK {
            let follow = FchmodatFlags::FollowSymlink;
            fchmodat(nix::fcntl::AT_FDCWD, &path, mode, follow).during("fchmodat")?;
        }
        let time = |tv_sec, tv_nsec| libc::timespec { tv_sec, tv_nsec };
        let times =
            [time(stat.st_atime, stat.st_atime_nsec), time(stat.st_mtime, stat.st_mtime_nsec)];
        sys::set_times(target.as_fd(), times).during("utimensat")
    }

    /// Copies extended attributes; returns whether capabilities were left out.
    fn xattrs(&mut self, source: &Path, target: &Path, same_owner: bool) -> Refusable<bool> {
        let mut dropped = false;
        let (names, value) = (&mut self.names, &mut self.value);
        for_each_xattr(source, names, |name| {
            let bytes = name.to_bytes();
            let is_capability = bytes == b"security.capability";
            if is_capability && !same_owner {
                dropped = true;
                return Ok(());
            }
            if bytes.starts_with(b"security.") && !is_capability {
                return Ok(());
            }
            let told = |call: &'static str| {
                move |errno| {
                    Refused::because(call, errno, format!("`{}`", printable(as_path(name))))
                }
            };
            let length = sys::xattr::get(source, name, value).map_err(told("getxattr"))?;
            sys::xattr::set(target, name, &value[..length]).map_err(told("setxattr"))
        })?;
        Ok(dropped)
    }
}

/// The next data in a range of a file, as far as the file system tells.
fn next_extent(file: &File, range: Range<u64>) -> Refusable<Option<Range<u64>>> {
    if range.is_empty() {
        return Ok(None);
    }
    let start = match lseek(file, range.start.cast_signed(), Whence::SeekData) {
        Ok(start) => start.cast_unsigned(),
        // Only a hole is left.
        Err(Errno::ENXIO) => return Ok(None),
        // A file without positions, as in proc, is all data.
        Err(Errno::EINVAL) => return Ok(Some(range)),
        Err(errno) => return Err(errno).during("lseek"),
    };
    if start >= range.end {
        return Ok(None);
    }
    let end = lseek(file, start.cast_signed(), Whence::SeekHole).during("lseek")?.cast_unsigned();
    Ok(Some(start..end.min(range.end)))
}

/// Removes both POSIX ACLs of a file.
fn forget_acls(file: &OwnedFd) -> Refusable {
    let path = magic(file);
    for name in [c"system.posix_acl_access", c"system.posix_acl_default"] {
        match sys::xattr::remove(&path, name) {
            Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
            removed => removed.during("removexattr")?,
        }
    }
    Ok(())
}

/// Opens a directory below another by a path of any length, through no link.
pub(crate) fn open_far(top: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    // Of the 4096 bytes a path may have, with room for one more name.
    const PART: usize = 2048;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let mut directory = openat(top, c".", DIRECTORY, Mode::empty())?;
    let mut part = PathBuf::new();
    for name in path {
        part.push(name);
        if part.as_os_str().len() > PART {
            directory = sys::openat2(directory.as_fd(), &part, flags, resolve)?;
            part.clear();
        }
    }
    if part.as_os_str().is_empty() {
        return Ok(directory);
    }
    sys::openat2(directory.as_fd(), &part, flags, resolve)
}

/// Removes an entry of a directory, with all that it holds when it is a
/// directory itself. Follows no link, and refuses with `EXDEV` to remove
/// anything below a mount point.
pub fn remove(at: BorrowedFd<'_>, name: &OsStr) -> Result<(), TreeError> {
    let mut path = PathBuf::new();
    remove_below(at, name, &mut path).map_err(|refused| refused.at(path))
}

fn remove_below(at: BorrowedFd<'_>, name: &OsStr, path: &mut PathBuf) -> Refusable {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL).during("unlinkat")?;
    let mut way = Descent::new(at).during("openat")?;
    let mut open: Vec<Vec<CString>> = vec![vec![name]];
    while let Some(names) = open.last_mut() {
        match names.pop() {
            Some(name) => {
                path.push(as_path(&name));
                match unlinkat(way.current(), name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                    Err(Errno::EISDIR) => open.push(descend(&mut way, &name)?),
                    removed => {
                        removed.during("unlinkat")?;
                        path.pop();
                    }
                }
            }
            None => {
                open.pop();
                if !open.is_empty() {
                    way.leave().during("openat")?;
                    let name = path.file_name().unwrap_or_default();
                    unlinkat(way.current(), name, UnlinkatFlags::RemoveDir).during("unlinkat")?;
                    path.pop();
                }
            }
        }
    }
    Ok(())
}

/// Enters a directory that is to be emptied, and returns what it holds.
fn descend(way: &mut Descent, name: &CStr) -> Refusable<Vec<CString>> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
    let directory = sys::openat2(way.current(), as_path(name), flags, libc::RESOLVE_NO_XDEV)
        .during("openat2")?;
    let mode = Mode::from_bits_truncate(fstat(&directory).during("fstat")?.st_mode);
    // Images hold directories that their owner may not write to.
    if !mode.contains(Mode::S_IRWXU) {
        let (path, mode) = (magic(&directory), mode | Mode::S_IRWXU);
        fchmodat(nix::fcntl::AT_FDCWD, &path, mode, FchmodatFlags::FollowSymlink)
            .during("fchmodat")?;
    }
    let names = names(directory.as_fd()).during("getdents")?;
    way.enter(directory).during("fstat")?;
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Directories `d/d/…` below a fresh one.
    fn nested(depth: usize) -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let path: PathBuf = std::iter::repeat_n("d", depth).collect();
        fs::create_dir_all(top.path().join(&path)).unwrap();
        (top, path)
    }

    fn go_down(way: &mut Descent, depth: usize) {
        for _ in 0..depth {
            let next = openat(way.current(), c"d", DIRECTORY, Mode::empty()).unwrap();
            way.enter(next).unwrap();
        }
    }

    #[test]
    fn a_long_way_holds_few_descriptors_and_leads_back() {
        let depth = 3 * Descent::OPEN;
        let (top, _) = nested(depth);
        let mut way = Descent::new(File::open(top.path()).unwrap().as_fd()).unwrap();
        let id = way.id;
        go_down(&mut way, depth);
        let held = way.above.iter().filter(|(_, fd)| fd.is_some()).count();
        assert_eq!(held, Descent::OPEN);
        for _ in 0..depth {
            way.leave().unwrap();
        }
        assert_eq!(way.id, id);
        assert_eq!(Id::of(&fstat(way.current()).unwrap()), id);
        assert_eq!(way.leave().unwrap_err(), Errno::ENOENT);
    }

    #[test]
    fn a_directory_moved_away_leads_nowhere_else() {
        let depth = Descent::OPEN + 1;
        let (top, path) = nested(depth);
        let mut way = Descent::new(File::open(top.path()).unwrap().as_fd()).unwrap();
        go_down(&mut way, depth);
        // The top is closed; `..` of the first `d` is another directory.
        let elsewhere = tempfile::tempdir_in(top.path().parent().unwrap()).unwrap();
        let first = path.components().next().unwrap();
        fs::rename(top.path().join(first), elsewhere.path().join("d")).unwrap();
        for _ in 1..depth {
            way.leave().unwrap();
        }
        assert_eq!(way.leave().unwrap_err(), Errno::ESTALE);
    }

    #[test]
    fn a_path_longer_than_the_kernel_takes_is_opened() {
        let top = tempfile::tempdir().unwrap();
        let name = "n".repeat(200);
        let mut way = Descent::new(File::open(top.path()).unwrap().as_fd()).unwrap();
        let mut path = PathBuf::new();
        for _ in 0..50 {
            mkdirat(way.current(), name.as_str(), Mode::S_IRWXU).unwrap();
            let next = openat(way.current(), name.as_str(), DIRECTORY, Mode::empty()).unwrap();
            way.enter(next).unwrap();
            path.push(&name);
        }
        let found = open_far(File::open(top.path()).unwrap().as_fd(), &path).unwrap();
        assert_eq!(Id::of(&fstat(found).unwrap()), way.id);
        // The standard library's own removal ends at the length of a path.
        remove(File::open(top.path()).unwrap().as_fd(), OsStr::new(&name)).unwrap();
    }

    #[test]
    fn a_link_on_a_far_path_is_refused() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("a")).unwrap();
        std::os::unix::fs::symlink("a", top.path().join("l")).unwrap();
        let at = File::open(top.path()).unwrap();
        assert!(open_far(at.as_fd(), Path::new("a")).is_ok());
        assert_eq!(open_far(at.as_fd(), Path::new("l")).unwrap_err(), Errno::ELOOP);
        assert_eq!(open_far(at.as_fd(), Path::new("..")).unwrap_err(), Errno::EXDEV);
    }

    #[test]
    fn what_was_a_directory_and_is_a_link_is_not_entered() {
        let top = tempfile::tempdir().unwrap();
        fs::create_dir(top.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("directory", top.path().join("link")).unwrap();
        let mut way = Descent::new(File::open(top.path()).unwrap().as_fd()).unwrap();
        let refused = descend(&mut way, c"link").unwrap_err();
        assert_eq!((refused.call, refused.errno), ("openat2", Errno::ENOTDIR));
        assert!(descend(&mut way, c"directory").is_ok());
    }

    #[test]
    fn names_are_printed_on_one_line() {
        let path = Path::new(OsStr::from_bytes(b"a\nb\x1b[31m\\\xffz/\xc3\xa9"));
        assert_eq!(printable(path), r"a\nb\u{1b}[31m\\\xffz/é");
    }

    #[test]
    fn an_error_names_call_path_and_reason() {
        let error = Refused::because("mkdirat", Errno::EEXIST, "why").at("a/b");
        assert_eq!(error.to_string(), "mkdirat of `a/b` failed: EEXIST: File exists; why");
        let full = Err::<(), _>(Errno::ENOSPC).during("pwrite").unwrap_err().at("");
        assert_eq!(
            full.to_string(),
            "pwrite of `.` failed: ENOSPC: No space left on device; \
             the target is full: for a tmpfs its size or inodes are too few"
        );
    }

    #[test]
    fn holes_are_found_between_data() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"x", 1 << 20).unwrap();
        file.set_len(4 << 20).unwrap();
        let extent = next_extent(&file, 0..4 << 20).unwrap().unwrap();
        assert!(extent.start > 0 && extent.contains(&(1 << 20)), "{extent:?}");
        assert_eq!(next_extent(&file, extent.end..4 << 20).unwrap(), None);
        assert_eq!(next_extent(&file, 0..0).unwrap(), None);
    }
}
