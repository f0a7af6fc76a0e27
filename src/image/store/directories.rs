//! The directories that go above the layers of an image.
//!
//! A layer need not describe the directories above its files: those below it
//! do. Unpacked one over the other it makes no difference. In a stack, though,
//! a directory has the attributes of the top-most layer that has it, and these
//! would be made up: `/tmp` closed to all but root, because a layer puts a file
//! there. So what layers imply is looked up in those below, and put on top.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, geteuid};

use super::error::{Result, at};
use crate::image::layer::Owners;
use crate::image::xattr::{Verdict, judge};
use crate::sys;

/// A layer of the stack.
pub(super) struct Layer {
    tree: OwnedFd,
    implied: BTreeSet<Vec<u8>>,
}

/// What a layer has at a path.
enum Found {
    /// A directory, opened with `O_PATH`.
    Directory(OwnedFd),
    Nothing,
    /// Something that hides what is below.
    Other,
}

/// What is visible of a directory.
struct Visible {
    /// The directory with the attributes that hold.
    source: OwnedFd,
    /// Whether another one is above it.
    is_covered: bool,
}

impl Layer {
    pub(super) fn open(path: &Path, implied: Vec<Vec<u8>>) -> Result<Self> {
        let tree = sys::open2(path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)
            .map_err(at("open", path.to_owned()))?;
        Ok(Self { tree, implied: implied.into_iter().collect() })
    }

    /// What is at a path, and whether a directory above hides what the layers
    /// below have there. That an opaque directory does so to its own content
    /// says nothing of its attributes.
    fn find(&self, path: &[u8]) -> nix::Result<(Found, bool)> {
        let mut directory = self.tree.try_clone().map_err(|_| Errno::EMFILE)?;
        let mut is_opaque = false;
        for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            is_opaque |= self::is_opaque(&directory)?;
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            directory = match openat(&directory, name, flags, Mode::empty()) {
                Ok(found) => found,
                Err(Errno::ENOENT) => return Ok((Found::Nothing, is_opaque)),
                Err(errno) => return Err(errno),
            };
            let kind = SFlag::from_bits_truncate(fstat(&directory)?.st_mode) & SFlag::S_IFMT;
            if kind != SFlag::S_IFDIR {
                return Ok((Found::Other, true));
            }
        }
        Ok((Found::Directory(directory), is_opaque))
    }
}

/// The path of an `O_PATH` descriptor, for calls that take no such one.
fn link_to(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn is_opaque(directory: &OwnedFd) -> nix::Result<bool> {
    let link = link_to(directory);
    for name in [c"trusted.overlay.opaque", c"user.overlay.opaque"] {
        if sys::xattr::value(&link, name)?.as_deref() == Some(b"y") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where the attributes of a directory come from; `None` when nothing of the
/// stack shows one at that path.
fn look(layers: &[Layer], path: &[u8]) -> nix::Result<Option<Visible>> {
    let mut top = None;
    for layer in layers {
        let (found, is_opaque) = layer.find(path)?;
        match found {
            Found::Directory(source) if !layer.implied.contains(path) => {
                return Ok(Some(Visible { source, is_covered: top.is_some() }));
            }
            Found::Directory(source) => {
                top.get_or_insert(Visible { source, is_covered: false });
            }
            Found::Nothing => {}
            Found::Other => break,
        }
        if is_opaque {
            break;
        }
    }
    Ok(top)
}

/// Fills an empty tree with the directories that need other attributes than
/// the top-most layer gives them, and with those above them. The layers are
/// given from the top-most on.
pub(super) fn make(layers: &[Layer], tree: &OwnedFd) -> nix::Result<()> {
    let implied: BTreeSet<&Vec<u8>> = layers.iter().flat_map(|layer| &layer.implied).collect();
    let mut wanted = BTreeSet::from([&b""[..]]);
    for path in implied {
        if look(layers, path)?.is_some_and(|visible| visible.is_covered) {
            let ends = (0..path.len()).filter(|end| path[*end] == b'/');
            wanted.extend(ends.chain([path.len()]).map(|end| &path[..end]));
        }
    }
    for path in wanted.iter().filter(|path| !path.is_empty()) {
        let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let directory = open(tree, &path[..parent])?;
        let name = path[parent..].strip_prefix(b"/").unwrap_or(&path[parent..]);
        mkdirat(&directory, name, Mode::S_IRWXU)?;
    }
    // Children come after their parents: last ones first, for a parent's mode
    // may shut its children off.
    for path in wanted.iter().rev() {
        if let Some(visible) = look(layers, path)? {
            describe(&open(tree, path)?, &visible.source)?;
        }
    }
    Ok(())
}

fn open(tree: &OwnedFd, path: &[u8]) -> nix::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    sys::openat2(tree.as_fd(), Path::new(OsStr::from_bytes(path)), flags, resolve)
}

/// Gives a directory the attributes of another one.
fn describe(directory: &OwnedFd, source: &OwnedFd) -> nix::Result<()> {
    let stat = fstat(source)?;
    if geteuid().is_root() {
        fchown(directory, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    }
    let link = link_to(source);
    for name in sys::xattr::names(&link)? {
        let Some(value) = sys::xattr::value(&link, &name)? else { continue };
        // What steers overlayfs is not an attribute of the image.
        if let Ok(Verdict::Keep(name)) = judge(name.to_bytes(), &value, Owners::Keep) {
            sys::xattr::set_opened(directory.as_fd(), &name, &value)?;
        }
    }
    fchmod(directory, Mode::from_bits_truncate(stat.st_mode & 0o7777))?;
    let (accessed, modified) = times(&stat);
    futimens(directory, &accessed, &modified)
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (
        TimeSpec::new(stat.st_atime, stat.st_atime_nsec),
        TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec),
    )
}
