//! New owners for a tree on disk: the users of a jail's id map instead of
//! those of the same numbers.
//!
//! What has been done is seen by the numbers themselves, so that a run that was
//! cut short is taken up by the next; a mark on the root tells that all is done.

use std::fs::File;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, fstat};
use nix::unistd::{Gid, Uid, fchownat};

use crate::plan::step::IdRange;
use crate::sys;
use crate::tree::TreeError;

/// The mark: of root alone, and no jail sees it.
const MARK: &std::ffi::CStr = c"trusted.jailrun.owners";

/// Gives everything below a directory, and itself, to the users of the map.
/// Other file systems below it are left alone.
pub fn shift(root: &Path, uid: &[IdRange], gid: &[IdRange]) -> Result<(), TreeError> {
    let failed = |call| move |errno| TreeError { path: root.into(), call, errno, detail: None };
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let directory =
        File::from(sys::open2(root, flags, libc::RESOLVE_NO_SYMLINKS).map_err(failed("openat2"))?);
    // Two launches must not do it at once with two maps.
    directory.lock().map_err(|error| {
        failed("flock")(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
    })?;
    let mark = format!("{} {}", text(uid), text(gid));
    let link = link_of(directory.as_fd());
    match sys::xattr::value(&link, MARK).map_err(failed("getxattr"))? {
        Some(found) if found == mark.as_bytes() => return Ok(()),
        Some(found) => {
            let found = String::from_utf8_lossy(&found).into_owned();
            return Err(TreeError {
                detail: Some(format!("it has been given to other users: {found}")),
                ..failed("chown")(Errno::EEXIST)
            });
        }
        None => {}
    }
    let walk = Walk { uid, gid };
    walk.give(directory.as_fd(), root)?;
    walk.below(directory.as_fd(), root)?;
    match sys::xattr::set(&link, MARK, mark.as_bytes()) {
        // Without marks the tree is looked through each time.
        Ok(()) | Err(Errno::EOPNOTSUPP) => Ok(()),
        Err(errno) => Err(failed("setxattr")(errno)),
    }
}

fn text(ranges: &[IdRange]) -> String {
    let words: Vec<_> = ranges
        .iter()
        .map(|range| format!("{}:{}:{}", range.inside, range.outside, range.count))
        .collect();
    words.join(",")
}

/// A path to what a descriptor refers to, for calls that take paths only.
fn link_of(fd: BorrowedFd<'_>) -> PathBuf {
    Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string())
}

struct Walk<'a> {
    uid: &'a [IdRange],
    gid: &'a [IdRange],
}

/// The new number: what is one of the host's ids already stays.
fn translate(ranges: &[IdRange], id: u32) -> u32 {
    ranges.iter().find_map(|range| range.outside_of(id)).unwrap_or(id)
}

impl Walk<'_> {
    fn below(&self, directory: BorrowedFd<'_>, path: &Path) -> Result<(), TreeError> {
        let unreadable = |error: std::io::Error| TreeError {
            path: path.into(),
            call: "getdents64",
            errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
            detail: None,
        };
        for name in std::fs::read_dir(link_of(directory)).map_err(unreadable)? {
            let name = name.map_err(unreadable)?;
            let path = path.join(name.file_name());
            let failed = |call, errno| TreeError { path: path.clone(), call, errno, detail: None };
            let flags = libc::O_PATH | libc::O_NOFOLLOW;
            let resolve = libc::RESOLVE_NO_XDEV | libc::RESOLVE_BENEATH;
            let entry = match sys::openat2(directory, Path::new(&name.file_name()), flags, resolve)
            {
                Ok(entry) => entry,
                // Another file system, or gone in the meantime.
                Err(Errno::EXDEV | Errno::ENOENT) => continue,
                Err(errno) => return Err(failed("openat2", errno)),
            };
            if self.give(entry.as_fd(), &path)?.st_mode & libc::S_IFMT == libc::S_IFDIR {
                let flags = libc::O_RDONLY | libc::O_DIRECTORY;
                let inner: OwnedFd = sys::openat2(entry.as_fd(), Path::new("."), flags, 0)
                    .map_err(|errno| failed("openat2", errno))?;
                drop(entry);
                self.below(inner.as_fd(), &path)?;
            }
        }
        Ok(())
    }

    fn give(&self, entry: BorrowedFd<'_>, path: &Path) -> Result<FileStat, TreeError> {
        let failed = |call| move |errno| TreeError { path: path.into(), call, errno, detail: None };
        let found = fstat(entry).map_err(failed("fstat"))?;
        let (uid, gid) = (translate(self.uid, found.st_uid), translate(self.gid, found.st_gid));
        if (uid, gid) == (found.st_uid, found.st_gid) {
            return Ok(found);
        }
        let kind = found.st_mode & libc::S_IFMT;
        let link = link_of(entry);
        // A new owner takes both back.
        let capabilities = match kind {
            libc::S_IFREG => sys::xattr::value(&link, c"security.capability")
                .map_err(failed("getxattr"))?
                .and_then(|value| of_namespace(&value, translate(self.uid, 0))),
            _ => None,
        };
        fchownat(
            entry,
            "",
            Some(Uid::from_raw(uid)),
            Some(Gid::from_raw(gid)),
            AtFlags::AT_EMPTY_PATH,
        )
        .map_err(failed("fchownat"))?;
        if kind == libc::S_IFREG && found.st_mode & 0o6000 != 0 {
            let mode = std::fs::Permissions::from_mode(found.st_mode & 0o7777);
            std::fs::set_permissions(&link, mode).map_err(|error| {
                failed("chmod")(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            })?;
        }
        if let Some(value) = capabilities {
            sys::xattr::set(&link, c"security.capability", &value).map_err(failed("setxattr"))?;
        }
        Ok(found)
    }
}

/// Capabilities of a file that count in the jail alone: `vfs_ns_cap_data` of
/// `linux/capability.h`, with the jail's root. Those of another namespace are
/// somebody else's.
fn of_namespace(value: &[u8], root: u32) -> Option<Vec<u8>> {
    const REVISION: u32 = 0xff00_0000;
    let (head, sets) = value.split_first_chunk::<4>()?;
    let magic = u32::from_le_bytes(*head);
    if magic & REVISION != 0x0200_0000 || sets.len() != 16 {
        return None;
    }
    let mut new = (magic & !REVISION | 0x0300_0000).to_le_bytes().to_vec();
    new.extend(sets);
    new.extend(root.to_le_bytes());
    Some(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_was_translated_stays() {
        let ranges = [IdRange { inside: 0, outside: 100_000, count: 1000 }];
        assert_eq!(translate(&ranges, 33), 100_033);
        assert_eq!(translate(&ranges, 100_033), 100_033);
        assert_eq!(translate(&ranges, 2000), 2000);
    }

    #[test]
    fn capabilities_of_a_file_come_to_count_in_the_jail_alone() {
        let old: Vec<u8> = [&0x0200_0001_u32.to_le_bytes()[..], &[7; 16]].concat();
        let new = of_namespace(&old, 100_000).unwrap();
        assert_eq!(new.len(), 24);
        assert_eq!(new[..4], 0x0300_0001_u32.to_le_bytes());
        assert_eq!(new[4..20], [7; 16]);
        assert_eq!(new[20..], 100_000_u32.to_le_bytes());
        assert_eq!(of_namespace(&new, 1), None);
    }
}
