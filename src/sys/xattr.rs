//! Extended attributes, of what a path leads to over links; xattr(7).

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;

use super::{Result, c_path};

/// Room for the longest value and for all names, `XATTR_SIZE_MAX` and
/// `XATTR_LIST_MAX`.
const MOST: usize = 1 << 16;

/// Names of a file's extended attributes, each ended by NUL; listxattr(2).
/// Returns how much of the buffer they take.
pub fn list(path: &Path, names: &mut [u8]) -> Result<usize> {
    let path = c_path(path)?;
    // SAFETY: the path is NUL-terminated; pointer and length describe the buffer.
    let length = Errno::result(unsafe {
        libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len())
    })?;
    Ok(length.cast_unsigned())
}

/// Names of a file's extended attributes; empty where its file system has none.
pub fn names(path: &Path) -> Result<Vec<CString>> {
    let mut names = vec![0_u8; MOST];
    let length = match list(path, &mut names) {
        Err(Errno::EOPNOTSUPP) => 0,
        length => length?,
    };
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names.map(|name| CString::new(name).map_err(|_| Errno::EINVAL)).collect()
}

/// Value of an extended attribute, getxattr(2). Returns its length.
pub fn get(path: &Path, name: &CStr, value: &mut [u8]) -> Result<usize> {
    let path = c_path(path)?;
    // SAFETY: path and name are NUL-terminated; pointer and length describe the
    // buffer.
    let length = Errno::result(unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    })?;
    Ok(length.cast_unsigned())
}

/// Value of an extended attribute, however long; `None` where there is none.
pub fn value(path: &Path, name: &CStr) -> Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; MOST];
    match get(path, name, &mut value) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Whether an extended attribute holds one byte, and that one.
pub fn is(path: &Path, name: &CStr, wanted: u8) -> Result<bool> {
    let mut value = [0_u8; 2];
    match get(path, name, &mut value) {
        Ok(length) => Ok(value[..length] == [wanted]),
        // None of that name, of that kind, or a longer value.
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ERANGE) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Sets an extended attribute, setxattr(2).
pub fn set(path: &Path, name: &CStr, value: &[u8]) -> Result<()> {
    let path = c_path(path)?;
    // SAFETY: path and name are NUL-terminated; pointer and length describe the
    // value.
    let result = unsafe {
        libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    Errno::result(result).map(drop)
}

/// Sets an extended attribute of what a descriptor refers to, fsetxattr(2).
pub fn set_opened(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<()> {
    // SAFETY: the name is NUL-terminated; pointer and length describe the value.
    let result = unsafe {
        libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    };
    Errno::result(result).map(drop)
}

/// Removes an extended attribute, removexattr(2).
pub fn remove(path: &Path, name: &CStr) -> Result<()> {
    let path = c_path(path)?;
    // SAFETY: path and name are NUL-terminated.
    Errno::result(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}
