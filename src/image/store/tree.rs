//! Removing what hostile archives have made: any mode, any depth.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::error::errno;

/// Removes a file or a tree from a directory that is the caller's alone.
/// Directories inside are moved up before they are emptied, so that no depth
/// is too deep.
pub(super) fn remove(parent: &OwnedFd, name: &str) -> nix::Result<()> {
    let mut left = vec![name.to_owned()];
    let mut number = 0_u64;
    while let Some(path) = left.pop() {
        match unlinkat(parent, path.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
        let directory = open_own(parent.as_fd(), Path::new(&path))?;
        loop {
            let below = empty(&directory)?;
            for inner in &below {
                // To move a directory is to write its `..`.
                drop(open_own(directory.as_fd(), inner)?);
                left.push(move_up(&directory, inner, parent, name, &mut number)?);
            }
            match unlinkat(parent, path.as_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) => break,
                // A directory that is read while it changes may hide entries.
                Err(Errno::ENOTEMPTY) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Opens a directory for reading, giving its owner the right to it first.
fn open_own(parent: BorrowedFd<'_>, name: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = nix::fcntl::openat(parent, name, flags, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&link, mode).map_err(|error| errno(&error))?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(&found, ".", flags, Mode::empty())
}

/// Removes everything from a directory but directories; returns those.
fn empty(directory: &OwnedFd) -> nix::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut directories = Vec::new();
    let mut entries = nix::dir::Dir::from_fd(directory.try_clone().map_err(|e| errno(&e))?)?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            Some(kind) => kind == nix::dir::Type::Directory,
            None => {
                let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
            }
        };
        if is_directory {
            directories.push(std::ffi::OsStr::from_bytes(name.to_bytes()).into());
        } else {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(directories)
}

/// Moves a directory to where the removal began, under a name of its own.
fn move_up(
    from: &OwnedFd,
    inner: &Path,
    to: &OwnedFd,
    name: &str,
    number: &mut u64,
) -> nix::Result<String> {
    loop {
        let moved = format!("{name}.{number}");
        *number += 1;
        match renameat(from, inner, to, moved.as_str()) {
            Ok(()) => return Ok(moved),
            // Left by a removal that was killed.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
