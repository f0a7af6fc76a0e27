//! Paths opened and nodes made, step by step on descriptors.

use std::ffi::OsStr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::Mode;
use nix::unistd;

use super::error::{Applied, Failed};
use crate::plan::step::NodeKind;
use crate::sys;

/// A path of the host that planning has found to be without links.
pub(super) fn open_host(path: &Path) -> Applied<OwnedFd> {
    Ok(sys::open2(path, libc::O_PATH, libc::RESOLVE_NO_SYMLINKS)?)
}

/// Opens a path below a directory, without following any link.
pub(super) fn open_below(root: BorrowedFd<'_>, path: &Path, flags: i32) -> Applied<OwnedFd> {
    const RESOLVE: u64 =
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let below = path.strip_prefix("/").unwrap_or(path);
    let below = if below.as_os_str().is_empty() { Path::new(".") } else { below };
    Ok(sys::openat2(root, below, flags, RESOLVE)?)
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

/// The stage is in this mount namespace alone: no path to it can be swapped.
pub(super) fn make_stage_node(
    path: &Path,
    kind: NodeKind,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Applied {
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
