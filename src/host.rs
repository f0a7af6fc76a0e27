//! What planning may ask the machine. Questions only: nothing here changes
//! anything. Tests answer them from a table.

use std::cell::{OnceCell, RefCell};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::block_image::{self, Filesystem, Image as BlockImage};
use crate::changes::Marks;
use crate::closure::{self, Closure, Problem, Request};
use crate::image::oci::{self, Config, Key};
use crate::image::source::Source;
use crate::image::store::Store;
use crate::mountinfo;
use crate::plan::cgroup::Layout;
use crate::sys;

/// What a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file; the bit tells whether anybody may execute it.
    File {
        /// Whether an execute bit is set.
        executable: bool,
    },
    /// A symbolic link.
    Link,
    /// A block device with its number.
    Block(u32, u32),
    /// A character device with its number.
    Character(u32, u32),
    /// A socket or FIFO.
    Other,
}

/// Permission bits and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// The twelve bits.
    pub mode: u32,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// An image in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredImage {
    /// The store.
    pub store: PathBuf,
    /// Its name there.
    pub key: Key,
    /// Directories of its layers, the top-most first.
    pub layers: Vec<PathBuf>,
    /// How it wants to be run.
    pub config: Config,
}

/// Something mounted on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Mount point.
    pub target: PathBuf,
    /// File system type.
    pub fstype: String,
    /// Whether nothing on it can be executed.
    pub noexec: bool,
    /// Where else the same files are seen.
    pub elsewhere: Vec<PathBuf>,
}

/// A question that the machine has not answered. That something is not there, or
/// is closed to the caller, is an answer; that there is no memory to look is none,
/// and must not be taken for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// What was asked, as the end of a sentence.
    pub question: String,
    /// What came instead of an answer.
    pub reason: String,
}

/// Keeps what was not answered.
#[derive(Debug, Default)]
pub struct Questions(RefCell<Vec<Unanswered>>);

impl Questions {
    /// Hands the answer on; keeps the question when it is none.
    pub fn ask<T>(
        &self,
        question: impl FnOnce() -> String,
        answer: io::Result<T>,
    ) -> io::Result<T> {
        if let Err(error) = &answer
            && !is_answer(error)
        {
            let unanswered =
                Unanswered { question: question(), reason: crate::unit::io_reason(error) };
            let mut list = self.0.borrow_mut();
            if !list.contains(&unanswered) {
                list.push(unanswered);
            }
        }
        answer
    }

    /// Keeps a question that no single call has failed to answer.
    pub fn refuse(&self, question: &str, reason: &str) {
        let (question, reason) = (question.to_owned(), reason.to_owned());
        self.0.borrow_mut().push(Unanswered { question, reason });
    }

    /// What has not been answered since it was last asked.
    pub fn take(&self) -> Vec<Unanswered> {
        self.0.take()
    }
}

/// Whether an error tells something about the thing that was asked for.
fn is_answer(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // Found by jailrun itself, in an answer.
        None => true,
        Some(errno) => matches!(
            errno,
            libc::ENOENT
                | libc::ENOTDIR
                | libc::EISDIR
                | libc::ELOOP
                | libc::ENAMETOOLONG
                | libc::EACCES
                | libc::EROFS
                | libc::ETXTBSY
                | libc::EBADF
                | libc::ENOTTY
                | libc::EINVAL
                | libc::ENXIO
                | libc::ENODEV
                | libc::ENODATA
                | libc::EOPNOTSUPP
        ),
    }
}

/// Major and minor version of the host's kernel; `None` where it is hidden.
pub(crate) fn kernel_version(host: &impl Host) -> Option<(u32, u32)> {
    let text = host.read(Path::new("/proc/sys/kernel/osrelease"), 256).ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

/// Asks again when a signal came in between.
fn retry<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            answer => return answer,
        }
    }
}

/// Reading questions.
pub trait Host {
    /// What the path is, without following a final link; lstat(2).
    fn look(&self, path: &Path) -> io::Result<Kind>;
    /// The path without links, and what it is; realpath(3).
    fn canonical(&self, path: &Path) -> io::Result<(PathBuf, Kind)>;
    /// Target of a symbolic link.
    fn read_link(&self, path: &Path) -> io::Result<PathBuf>;
    /// Content of a regular file, at most `limit` bytes of it.
    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>>;
    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether the caller may write there; access(2).
    fn may_write(&self, path: &Path) -> bool;
    /// Whether the caller may read it; access(2).
    fn may_read(&self, path: &Path) -> bool;
    /// Whether systemd has delegated that v2 group to its processes.
    fn is_delegated(&self, group: &Path) -> bool;
    /// Device number of the file system that holds the path.
    fn device_of(&self, path: &Path) -> io::Result<(u32, u32)>;
    /// Type of the file system that holds the path, statfs(2) `f_type`.
    fn filesystem(&self, path: &Path) -> io::Result<i64>;
    /// Permission bits and owner of a directory.
    fn attributes(&self, path: &Path) -> io::Result<Attributes>;
    /// Whether more than bits and owner decide who may use a file: an access
    /// control list, or a file system with rules of its own.
    fn has_own_rules(&self, path: &Path) -> bool;
    /// Whether nothing can be executed where the path is.
    fn is_noexec(&self, path: &Path) -> bool;
    /// Whether nothing notes there when a file was read.
    fn is_noatime(&self, path: &Path) -> bool;
    /// Which namespace a file stands for, by its flag of clone(2); nothing where
    /// it is no namespace.
    fn namespace(&self, path: &Path) -> io::Result<Option<i32>>;
    /// Whether an overlay that heeds these marks sees nothing below that
    /// directory of a layer, `Documentation/filesystems/overlayfs.rst`.
    fn is_opaque(&self, path: &Path, marks: Marks) -> bool;
    /// What is mounted below a directory without links, parents first.
    fn mounts_below(&self, path: &Path) -> io::Result<Vec<Mounted>>;
    /// What has to be in a root for these programs to run.
    fn closure(&self, request: &Request<'_>) -> Result<Closure, Vec<Problem>>;
    /// The image that a source was found to be, when it is in the store.
    fn stored(&self, source: &Source) -> Result<Option<StoredImage>, String>;
    /// The configuration of an image that is not in the store; nothing for an
    /// archive that is none.
    fn packed(&self, source: &Source) -> Result<Config, String>;
    /// Which file system begins at an offset of an image, and how long it is.
    fn block_image(
        &self,
        path: &Path,
        offset: u64,
        expected: Option<Filesystem>,
    ) -> Result<BlockImage, String>;
    /// Effective uid and gid.
    fn ids(&self) -> (u32, u32);
    /// Effective capabilities.
    fn capabilities(&self) -> u64;
    /// Whether the caller's ids are those of a user namespace: root there is
    /// not the host's.
    fn in_user_namespace(&self) -> bool;
    /// Secure bits, capabilities(7).
    fn securebits(&self) -> u32;
    /// First process of the running jail of that name.
    fn jail(&self, name: &str) -> Result<Option<u32>, String>;
    /// Version of Landlock's interface; 0 where there is none.
    fn landlock(&self) -> u32;
    /// Hard resource limit by number.
    fn hard_limit(&self, resource: u32) -> u64;
    /// The lowest nice value that the caller may have without a privilege.
    fn lowest_nice(&self) -> i32;
    /// What the monotonic and the boot-time clock show.
    fn clocks(&self) -> [Duration; 2];
    /// Bytes of memory.
    fn memory(&self) -> u64;
    /// Where the control groups are, and the caller in them.
    fn cgroups(&self) -> &Layout;
    /// The directory for jailrun's journals.
    fn state_directory(&self) -> PathBuf;
    /// A variable of the caller's environment.
    fn variable(&self, name: &str) -> Option<String>;
    /// Whether that standard stream is a terminal.
    fn is_terminal(&self, fd: i32) -> bool;
    /// Whether a descriptor is open.
    fn is_open(&self, fd: i32) -> bool;
    /// Whether executing that file gives the privileges of root: set-user-id
    /// root, or capabilities of its own.
    fn gives_privileges(&self, path: &Path) -> io::Result<bool>;
    /// Whether somebody holds the lock on a file; flock(2).
    fn is_locked(&self, path: &Path) -> bool;
    /// Page size in bytes.
    fn page_size(&self) -> u64;
    /// What a file holds that a path leads to, over links too.
    fn read_following(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        match self.read(path, limit) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.canonical(path).and_then(|(path, _)| self.read(&path, limit))
            }
            read => read,
        }
    }
    /// What has not been answered since this was last asked.
    fn unanswered(&self) -> Vec<Unanswered> {
        Vec::new()
    }
}

/// File systems whose server may allow or refuse what the bits do not, by the
/// magic numbers of statfs(2): FUSE, NFS, 9p, CIFS, SMB, AFS.
const OWN_RULES: [i64; 6] =
    [0x6573_5546, 0x6969, 0x0102_1997, 0xff53_4d42, 0xfe53_4d42, 0x6b41_4653];

/// This machine.
#[derive(Debug, Default)]
pub struct Machine {
    cgroups: OnceCell<Layout>,
    user_namespace: OnceCell<bool>,
    mountinfo: OnceCell<Vec<u8>>,
    as_root: bool,
    questions: Rc<Questions>,
}

impl Machine {
    fn ask<T>(&self, what: &str, path: &Path, answer: io::Result<T>) -> io::Result<T> {
        self.questions.ask(|| format!("{what} `{}`", path.display()), answer)
    }

    fn is_mounted_with(&self, flag: FsFlags, path: &Path) -> bool {
        let found = statvfs(path).map_err(io::Error::from);
        let found = self.ask("how this is mounted:", path, found);
        found.is_ok_and(|found| found.flags().contains(flag))
    }

    fn find_canonical(path: &Path) -> io::Result<(PathBuf, Kind)> {
        // One call tells whether there is a link on the way at all; `..` makes
        // another path of it all the same.
        let is_plain = !path.components().any(|part| part == std::path::Component::ParentDir);
        match sys::open2(path, libc::O_PATH, libc::RESOLVE_NO_SYMLINKS) {
            Ok(fd) if is_plain => {
                let metadata = std::fs::File::from(fd).metadata()?;
                Ok((path.to_owned(), kind(&metadata)))
            }
            Ok(_) | Err(nix::errno::Errno::ELOOP) => {
                let path = std::fs::canonicalize(path)?;
                let kind = std::fs::symlink_metadata(&path).map(|metadata| kind(&metadata))?;
                Ok((path, kind))
            }
            Err(errno) => Err(errno.into()),
        }
    }
}

fn kind(metadata: &std::fs::Metadata) -> Kind {
    let file_type = metadata.file_type();
    let device = || {
        let number = metadata.rdev();
        (libc::major(number), libc::minor(number))
    };
    if file_type.is_dir() {
        Kind::Directory
    } else if file_type.is_file() {
        Kind::File { executable: metadata.permissions().mode() & 0o111 != 0 }
    } else if file_type.is_symlink() {
        Kind::Link
    } else if file_type.is_block_device() {
        let (major, minor) = device();
        Kind::Block(major, minor)
    } else if file_type.is_char_device() {
        let (major, minor) = device();
        Kind::Character(major, minor)
    } else {
        Kind::Other
    }
}

impl Machine {
    /// This machine as it would answer root: who asks is uid 0 with every
    /// capability. For reports alone.
    pub fn as_root() -> Self {
        Self { as_root: true, ..Self::default() }
    }
}

impl Host for Machine {
    fn look(&self, path: &Path) -> io::Result<Kind> {
        let found = std::fs::symlink_metadata(path).map(|metadata| kind(&metadata));
        self.ask("what there is at", path, found)
    }

    fn canonical(&self, path: &Path) -> io::Result<(PathBuf, Kind)> {
        self.ask("where this leads:", path, retry(|| Self::find_canonical(path)))
    }

    fn read_link(&self, path: &Path) -> io::Result<PathBuf> {
        self.ask("what this links to:", path, std::fs::read_link(path))
    }

    fn read(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        use std::io::Read as _;
        let read = || {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
            let file = std::fs::File::from(sys::open2(path, flags, libc::RESOLVE_NO_SYMLINKS)?);
            // A FIFO would block, a device would never end.
            if !file.metadata()?.is_file() {
                return Err(io::Error::other("not a regular file"));
            }
            let mut content = Vec::new();
            file.take(limit as u64).read_to_end(&mut content)?;
            Ok(content)
        };
        self.ask("what this file holds:", path, retry(read))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let list = || {
            let mut names = Vec::new();
            for entry in std::fs::read_dir(path)? {
                // No unit can name what is not UTF-8.
                names.extend(entry?.file_name().into_string().ok());
            }
            names.sort_unstable();
            Ok(names)
        };
        self.ask("what is in", path, retry(list))
    }

    fn may_write(&self, path: &Path) -> bool {
        if self.as_root {
            return true;
        }
        let answer = nix::unistd::access(path, nix::unistd::AccessFlags::W_OK);
        self.ask("whether the caller may write to", path, answer.map_err(io::Error::from)).is_ok()
    }

    fn may_read(&self, path: &Path) -> bool {
        if self.as_root {
            return true;
        }
        let answer = nix::unistd::access(path, nix::unistd::AccessFlags::R_OK);
        self.ask("whether the caller may read", path, answer.map_err(io::Error::from)).is_ok()
    }

    fn is_delegated(&self, group: &Path) -> bool {
        let (uid, _) = self.ids();
        if uid != 0 {
            // An ordinary user can write there only when it was handed over.
            return self.may_write(&group.join("cgroup.procs")) && self.may_write(group);
        }
        [c"trusted.delegate", c"user.delegate"].into_iter().any(|name| {
            let holds = sys::xattr::is(group, name, b'1').map_err(io::Error::from);
            self.ask("whether this is delegated:", group, holds).unwrap_or(false)
        })
    }

    fn device_of(&self, path: &Path) -> io::Result<(u32, u32)> {
        let found = std::fs::metadata(path).map(|found| found.dev());
        let number = self.ask("on which device this is:", path, found)?;
        Ok((libc::major(number), libc::minor(number)))
    }

    fn filesystem(&self, path: &Path) -> io::Result<i64> {
        let found = nix::sys::statfs::statfs(path).map_err(io::Error::from);
        let found = self.ask("on which file system this is:", path, found)?;
        Ok(sys::filesystem_magic(&found))
    }

    fn attributes(&self, path: &Path) -> io::Result<Attributes> {
        let found = std::fs::symlink_metadata(path);
        let found = self.ask("whose this is:", path, found)?;
        Ok(Attributes { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() })
    }

    fn has_own_rules(&self, path: &Path) -> bool {
        const LIST: &std::ffi::CStr = c"system.posix_acl_access";
        self.filesystem(path).is_ok_and(|magic| OWN_RULES.contains(&magic))
            || sys::xattr::value(path, LIST).is_ok_and(|list| list.is_some())
    }

    fn is_noexec(&self, path: &Path) -> bool {
        self.is_mounted_with(FsFlags::ST_NOEXEC, path)
    }

    fn is_noatime(&self, path: &Path) -> bool {
        self.is_mounted_with(FsFlags::ST_NOATIME, path)
    }

    fn namespace(&self, path: &Path) -> io::Result<Option<i32>> {
        const NSFS: i64 = 0x6e73_6673;
        if self.filesystem(path)? != NSFS {
            return Ok(None);
        }
        let file = self.ask("which namespace this is:", path, std::fs::File::open(path))?;
        Ok(sys::namespace_type(file.as_fd()).ok())
    }

    fn is_opaque(&self, path: &Path, marks: Marks) -> bool {
        let names: &[_] = match marks {
            Marks::Trusted => &[c"trusted.overlay.opaque"],
            Marks::User => &[c"user.overlay.opaque"],
            Marks::Either => &[c"trusted.overlay.opaque", c"user.overlay.opaque"],
        };
        names.iter().any(|name| {
            let holds = sys::xattr::is(path, name, b'y').map_err(io::Error::from);
            self.ask("whether this is opaque:", path, holds).unwrap_or(false)
        })
    }

    fn mounts_below(&self, path: &Path) -> io::Result<Vec<Mounted>> {
        let malformed = || io::Error::other("a line of mountinfo is malformed");
        let text = match self.mountinfo.get() {
            Some(text) => text,
            None => {
                let text = std::fs::File::open("/proc/self/mountinfo").and_then(mountinfo::read);
                let text = self.ask("what is mounted below", path, text)?;
                self.mountinfo.get_or_init(|| text)
            }
        };
        let lines = || text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        if !lines().any(|line| mountinfo::may_lie_below(line, path)) {
            return Ok(Vec::new());
        }
        let lines: Option<Vec<_>> = lines().map(mountinfo::parse_line).collect();
        let lines = lines.ok_or_else(malformed)?;
        let mut found: Vec<_> = lines
            .iter()
            .filter(|line| line.target.starts_with(path) && line.target != path)
            .filter(|line| mountinfo::holder(&lines, &line.target) == Some(line))
            .map(|line| Mounted {
                target: line.target.clone().into_owned(),
                fstype: line.fstype.clone().into_owned(),
                noexec: line.flags.noexec,
                elsewhere: mountinfo::elsewhere(&lines, line, path),
            })
            .collect();
        found.sort_by(|one, other| one.target.cmp(&other.target));
        Ok(found)
    }

    fn closure(&self, request: &Request<'_>) -> Result<Closure, Vec<Problem>> {
        closure::resolve_asking(request, &self.questions)
    }

    fn stored(&self, source: &Source) -> Result<Option<StoredImage>, String> {
        let store = Store::of_caller().map_err(|error| error.to_string())?;
        let found = store.resolve(source).map_err(|error| error.to_string())?;
        Ok(found.map(|found| StoredImage {
            store: store.path().to_owned(),
            key: found.key,
            layers: found.stack.iter().map(|key| store.layer(key)).collect(),
            config: found.config,
        }))
    }

    fn packed(&self, source: &Source) -> Result<Config, String> {
        match source {
            Source::Tar { path, .. } => match self.canonical(path) {
                Ok((path, Kind::File { .. })) => {
                    let refused =
                        |why: &dyn std::fmt::Display| format!("`{}`: {why}", path.display());
                    let file = std::fs::File::open(&path)
                        .map_err(|error| refused(&crate::unit::io_reason(&error)))?;
                    let begun = crate::image::blob::begin(file);
                    begun.map(|()| Config::default()).map_err(|error| refused(&error))
                }
                Ok(_) => Err(format!("`{}` is not a regular file", path.display())),
                Err(error) => {
                    Err(format!("`{}`: {}", path.display(), crate::unit::io_reason(&error)))
                }
            },
            Source::Image { .. } => match oci::read(source) {
                Ok(image) => Ok(image.config),
                Err(error) => Err(error.to_string()),
            },
        }
    }

    fn block_image(
        &self,
        path: &Path,
        offset: u64,
        expected: Option<Filesystem>,
    ) -> Result<BlockImage, String> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = std::fs::File::from(
            sys::open2(path, flags, 0).map_err(|errno| errno.desc().to_lowercase())?,
        );
        let found = match expected {
            Some(filesystem) => block_image::expect(&file, offset, filesystem),
            None => block_image::detect(&file, offset),
        };
        found.map_err(|error| error.to_string())
    }

    fn ids(&self) -> (u32, u32) {
        if self.as_root {
            return (0, 0);
        }
        (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
    }

    fn capabilities(&self) -> u64 {
        if self.as_root {
            return crate::names::ALL_CAPABILITIES;
        }
        let asked = sys::effective_capabilities().map_err(io::Error::from);
        self.questions.ask(|| "which capabilities the caller has".to_owned(), asked).unwrap_or(0)
    }

    fn in_user_namespace(&self) -> bool {
        if self.as_root {
            return false;
        }
        // `USER_NS_INIT_INO` of linux/nsfs.h.
        const HOSTS: u64 = 0xEFFF_FFFD;
        // A launch asks this of each of the ids that it gives.
        *self.user_namespace.get_or_init(|| {
            let answer = std::fs::metadata("/proc/self/ns/user");
            let answer =
                self.questions.ask(|| "which user namespace the caller is in".to_owned(), answer);
            // A kernel without user namespaces has no such file.
            answer.is_ok_and(|namespace| namespace.ino() != HOSTS)
        })
    }

    fn securebits(&self) -> u32 {
        if self.as_root {
            return 0;
        }
        // The call cannot fail.
        sys::securebits().unwrap_or(0)
    }

    fn jail(&self, name: &str) -> Result<Option<u32>, String> {
        let journal = self.state_directory().join(format!("{name}.json"));
        crate::run::state::first_process(&journal).map_err(|failed| failed.reason())
    }

    fn landlock(&self) -> u32 {
        // Missing or switched off is the same to a unit.
        sys::landlock_abi().unwrap_or(0)
    }

    fn hard_limit(&self, resource: u32) -> u64 {
        if self.as_root {
            return u64::MAX;
        }
        let asked = sys::getrlimit(resource).map_err(io::Error::from);
        let asked = self.questions.ask(|| "what the caller's own hard limit is".to_owned(), asked);
        asked.map_or(u64::MAX, |(_, hard)| hard)
    }

    fn lowest_nice(&self) -> i32 {
        const RLIMIT_NICE: u32 = 13;
        let own = sys::nice().map_err(io::Error::from);
        let own = self.questions.ask(|| "what the caller's own nice value is".to_owned(), own);
        // The limit is 20 minus the value.
        let limit = sys::getrlimit(RLIMIT_NICE).map_or(0, |(soft, _)| soft.min(40) as i32);
        own.unwrap_or(0).min(20 - limit)
    }

    fn clocks(&self) -> [Duration; 2] {
        // The calls cannot fail for clocks that every kernel has.
        [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME]
            .map(|clock| sys::clock(clock).unwrap_or_default())
    }

    fn memory(&self) -> u64 {
        let path = Path::new("/proc/meminfo");
        let text = std::fs::read_to_string(path);
        let text = self.ask("how much memory there is:", path, text).unwrap_or_default();
        let kib = text
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:"))
            .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    fn cgroups(&self) -> &Layout {
        self.cgroups.get_or_init(|| Layout::read(&self.questions))
    }

    fn state_directory(&self) -> PathBuf {
        let (uid, _) = self.ids();
        if uid == 0 {
            return "/run/jailrun".into();
        }
        match self.variable("XDG_RUNTIME_DIR") {
            Some(directory) if directory.starts_with('/') => Path::new(&directory).join("jailrun"),
            _ => format!("/tmp/jailrun-{uid}").into(),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn is_terminal(&self, fd: i32) -> bool {
        sys::borrow(fd).is_ok_and(|fd| nix::unistd::isatty(fd).unwrap_or(false))
    }

    fn is_open(&self, fd: i32) -> bool {
        sys::borrow(fd).is_ok()
    }

    fn gives_privileges(&self, path: &Path) -> io::Result<bool> {
        let found = std::fs::symlink_metadata(path)?;
        let is_set_uid = found.is_file() && found.uid() == 0 && found.mode() & 0o4000 != 0;
        let mut value = [0_u8; 64];
        let mut has_capabilities = || {
            sys::xattr::get(path, c"security.capability", &mut value).is_ok_and(|length| length > 0)
        };
        Ok(is_set_uid || has_capabilities())
    }

    fn is_locked(&self, path: &Path) -> bool {
        // Closing the file gives the lock back at once.
        let file = self.ask("whether this is locked:", path, std::fs::File::open(path));
        file.is_ok_and(|file| {
            matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
        })
    }

    fn unanswered(&self) -> Vec<Unanswered> {
        self.questions.take()
    }

    fn page_size(&self) -> u64 {
        nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)
            .ok()
            .flatten()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(4096)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(errno: i32) -> Vec<Unanswered> {
        let questions = Questions::default();
        let answer = io::Result::<()>::Err(io::Error::from_raw_os_error(errno));
        assert!(questions.ask(|| "what there is".to_owned(), answer).is_err());
        questions.take()
    }

    #[test]
    fn no_memory_to_look_is_not_taken_for_nothing_there() {
        for errno in [libc::ENOMEM, libc::EMFILE, libc::EIO, libc::EPERM, libc::EINTR] {
            let unanswered = asked(errno);
            assert_eq!(unanswered.len(), 1, "{errno}");
            assert_eq!(unanswered[0].question, "what there is");
        }
        for errno in [libc::ENOENT, libc::ENOTDIR, libc::EACCES, libc::ELOOP] {
            assert_eq!(asked(errno), [], "{errno}");
        }
    }

    /// Its descriptors are used up: nothing can be opened.
    #[test]
    fn a_machine_that_does_not_answer_makes_no_plan() {
        let questions = Machine::default();
        let loaded = crate::unit::from_text(
            "a.toml",
            "name = \"a\"\nroot.path = \"/etc\"\nprocess.command = [\"/a\"]",
            "/".into(),
            "a",
            &[],
            &[],
        );
        let unit = loaded.unit.expect("the unit is sound");
        let failed = io::Error::from_raw_os_error(libc::EMFILE);
        questions.ask("what there is at", Path::new("/a"), io::Result::<()>::Err(failed)).ok();
        let planning = crate::plan::plan(&unit, &questions, crate::plan::Care::Launch);
        assert!(planning.plan.is_none());
        let found = planning.diagnostics.iter().find(|found| found.code == "E0318");
        assert_eq!(
            found.map(|found| &*found.message),
            Some("the host does not say what there is at `/a`")
        );
    }
}
