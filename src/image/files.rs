//! Finding and opening files that may be hostile: only regular files are ever
//! opened for reading, for to open a device or a FIFO can act or block.

use std::borrow::Borrow;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::{Digest, Hasher};
use super::error::ImageError;
use crate::sys;

/// Where bytes are: a file, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// The file, without links in its path.
    pub path: PathBuf,
    /// Where the bytes begin.
    pub offset: u64,
    /// How many there are.
    pub size: u64,
}

/// What tells a file from one that has taken its place, and from itself after
/// a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// A copy may carry the time of its original; nobody can set this one.
    changed: (i64, i64),
}

impl Identity {
    /// Of a file that is looked at.
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A name that somebody else chose, so that it cannot act on a terminal.
pub(super) fn printable(name: &str) -> String {
    crate::source::on_one_line(name).into_owned()
}

/// The path in backticks.
pub(super) fn shown(path: &Path) -> String {
    format!("`{}`", printable(&path.to_string_lossy()))
}

/// What an `O_PATH` descriptor is seen to be.
fn look(at: Option<BorrowedFd<'_>>, path: &Path, resolve: u64) -> io::Result<(OwnedFd, PathBuf)> {
    let found = match at {
        Some(at) => sys::openat2(at, path, libc::O_PATH, resolve)?,
        None => sys::open2(path, libc::O_PATH, resolve)?,
    };
    let real = std::fs::read_link(link_to(&found))?;
    Ok((found, real))
}

fn link_to(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

/// Opens a file that has been seen to be regular.
fn open_seen(found: &OwnedFd) -> io::Result<File> {
    let metadata = std::fs::metadata(link_to(found))?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    File::open(link_to(found))
}

/// A source, as the user names it.
#[derive(Debug)]
pub(super) enum Opened {
    /// A directory and its real path.
    Directory(OwnedFd, PathBuf),
    /// A regular file and where it really is.
    File(File, Blob),
}

/// Opens a source: a directory, or a regular file.
pub(super) fn open(path: &Path) -> Result<Opened, ImageError> {
    let inner = || -> io::Result<_> {
        let (found, real) = look(None, path, 0)?;
        if std::fs::metadata(link_to(&found))?.is_dir() {
            return Ok(Opened::Directory(found, real));
        }
        let file = open_seen(&found)?;
        let size = file.metadata()?.size();
        Ok(Opened::File(file, Blob { path: real, offset: 0, size }))
    };
    inner().map_err(|error| ImageError::read(path, error))
}

/// The first bytes of a file, at most as many as asked for.
pub(super) fn head(file: &File, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    Section::new(file, 0, length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The digest of a file.
pub(super) fn digest(file: &File, progress: &dyn Fn(u64)) -> io::Result<Digest> {
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read_at(&mut buffer, hasher.bytes())? {
            0 => return Ok(hasher.finish()),
            read => hasher.update(&buffer[..read]),
        }
        progress(hasher.bytes());
    }
}

/// Finds a file in a directory that it must not lead out of.
pub(super) fn find(
    directory: &OwnedFd,
    at: &Path,
    name: &str,
) -> Result<Option<(Blob, Identity)>, ImageError> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    let inner = || -> io::Result<_> {
        let (found, path) = look(Some(directory.as_fd()), Path::new(name), resolve)?;
        let metadata = std::fs::metadata(link_to(&found))?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let blob = Blob { path, offset: 0, size: metadata.size() };
        Ok((blob, Identity::of(&metadata)))
    };
    match inner() {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
            Err(ImageError::invalid(shown(&at.join(name)), "a link that leads out of the layout"))
        }
        Err(error) => Err(ImageError::read(&at.join(name), error)),
    }
}

impl Blob {
    /// A part of it.
    pub(super) fn part(&self, offset: u64, size: u64) -> Self {
        Self { path: self.path.clone(), offset: self.offset + offset, size }
    }

    /// Opens it for reading.
    pub fn open(&self) -> Result<Section, ImageError> {
        // The path was free of links when it was found; it still has to be.
        let inner = || open_seen(&look(None, &self.path, libc::RESOLVE_NO_SYMLINKS)?.0);
        let file = inner().map_err(|error| ImageError::read(&self.path, error))?;
        Ok(Section::new(file, self.offset, self.offset + self.size))
    }

    /// Its first bytes, at most as many as asked for.
    pub(super) fn head(&self, length: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        self.open()?
            .take(length)
            .read_to_end(&mut bytes)
            .map_err(|error| ImageError::read(&self.path, error))?;
        Ok(bytes)
    }
}

/// The bytes of a part of a file, one after the other.
#[derive(Debug)]
pub struct Section<F = File> {
    file: F,
    at: u64,
    end: u64,
}

impl<F: Borrow<File>> Section<F> {
    /// From one position up to another.
    pub(super) fn new(file: F, at: u64, end: u64) -> Self {
        Self { file, at, end }
    }
}

impl<F: Borrow<File>> Read for Section<F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = self.file.borrow().read_at(&mut buffer[..wanted], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_are_opened() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        for path in [&fifo, Path::new("/dev/null")] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.ends_with("not a regular file"), "{error}");
        }
    }

    #[test]
    fn a_section_ends_where_its_part_does() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("file");
        std::fs::write(&path, "0123456789").unwrap();
        let blob = Blob { path, offset: 0, size: 10 }.part(2, 5).part(1, 3);
        let mut text = String::new();
        blob.open().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "345");
    }

    #[test]
    fn a_link_out_of_the_directory_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        std::os::unix::fs::symlink("/etc/passwd", path.join("out")).unwrap();
        std::os::unix::fs::symlink("inside", path.join("in")).unwrap();
        std::fs::write(path.join("inside"), "x").unwrap();
        let fd = sys::open2(path, libc::O_PATH, 0).unwrap();
        assert!(find(&fd, path, "out").unwrap_err().to_string().contains("leads out"));
        assert_eq!(find(&fd, path, "in").unwrap().unwrap().0.size, 1);
        assert!(find(&fd, path, "missing").unwrap().is_none());
    }
}
