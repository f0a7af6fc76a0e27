//! Reading a tree of files: walking paths link by link, and opening what they
//! lead to.
//!
//! Paths here are paths *inside* the tree, with its top as `/`: a link never
//! leads out of it. Nothing here knows what the files mean.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sys;

/// Links on one path after which the kernel gives up; path_resolution(7).
const LINKS: usize = 40;

/// Look-ups and reads after which a tree is taken for a trap. A program with
/// five hundred libraries takes some thousands.
const WORK: usize = 1 << 18;

/// What a path is, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File { executable: bool },
    Other,
}

#[derive(Clone, Debug)]
enum Node {
    Is(Kind),
    Link(Rc<Path>),
    Absent(Lost),
}

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// A part of it does not exist.
    Missing,
    /// A file stands where a directory is needed.
    NotADirectory,
    /// More links in a row than the kernel follows.
    Loop,
    /// The kernel refused to tell.
    Refused(nix::errno::Errno),
    /// The bound on look-ups is reached.
    TooMuch,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("does not exist"),
            Self::NotADirectory => f.write_str("leads through a file that is no directory"),
            Self::Loop => f.write_str("leads through too many links"),
            Self::Refused(errno) => write!(f, "cannot be looked at: {}", errno.desc()),
            Self::TooMuch => write!(f, "was not reached within {WORK} look-ups"),
        }
    }
}

/// A link that was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Where it lies; no link on the way.
    pub(super) at: PathBuf,
    /// What is written in it.
    pub(super) to: Rc<Path>,
    /// Whether it stood for the path's end, not for a directory on the way.
    pub(super) is_last: bool,
}

/// Where a path led.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// The path without links.
    pub(super) real: PathBuf,
    pub(super) kind: Kind,
    /// The links that were followed, in order.
    pub(super) links: Vec<Link>,
    /// Directories that `..` led out of: they have to exist for that.
    pub(super) left: Vec<PathBuf>,
}

/// A tree that is read, each part of it once.
#[derive(Debug)]
pub(super) struct Tree {
    /// Put before paths; empty for the host's own `/`.
    top: PathBuf,
    nodes: HashMap<PathBuf, Node>,
    directories: HashMap<PathBuf, Result<Rc<Found>, Lost>>,
    work: usize,
}

impl Tree {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        let top = match root.parent() {
            None => PathBuf::new(),
            // Files are opened without following links.
            Some(_) => std::fs::canonicalize(root)?,
        };
        Ok(Self { top, nodes: HashMap::new(), directories: HashMap::new(), work: WORK })
    }

    /// The host's path of a path in the tree.
    pub(super) fn on_host(&self, path: &Path) -> PathBuf {
        if self.top.as_os_str().is_empty() {
            return path.to_owned();
        }
        self.top.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Takes from the bound on work.
    pub(super) fn charge(&mut self, work: usize) -> Result<(), Lost> {
        self.work = self.work.saturating_sub(work);
        if self.work == 0 { Err(Lost::TooMuch) } else { Ok(()) }
    }

    fn node(&mut self, path: &Path) -> Result<Node, Lost> {
        self.charge(1)?;
        if let Some(node) = self.nodes.get(path) {
            return Ok(node.clone());
        }
        let node = look(&self.on_host(path));
        self.nodes.insert(path.to_owned(), node.clone());
        Ok(node)
    }

    /// Follows an absolute path to its end.
    pub(super) fn walk(&mut self, path: &Path) -> Result<Found, Lost> {
        let top = Found {
            real: PathBuf::from("/"),
            kind: Kind::Directory,
            links: Vec::new(),
            left: Vec::new(),
        };
        self.walk_on(top, path)
    }

    /// Follows a path below a directory, which is walked only once.
    pub(super) fn walk_in(&mut self, directory: &Path, name: &str) -> Result<Found, Lost> {
        let found = self.directory(directory)?;
        self.walk_on(Found::clone(&found), Path::new(name))
    }

    /// Follows an absolute path to a directory.
    pub(super) fn directory(&mut self, path: &Path) -> Result<Rc<Found>, Lost> {
        self.charge(1)?;
        if let Some(known) = self.directories.get(path) {
            return known.clone();
        }
        let found = match self.walk(path) {
            Ok(found) if found.kind == Kind::Directory => Ok(Rc::new(found)),
            Ok(_) => Err(Lost::NotADirectory),
            Err(lost) => Err(lost),
        };
        self.directories.insert(path.to_owned(), found.clone());
        found
    }

    fn walk_on(&mut self, start: Found, path: &Path) -> Result<Found, Lost> {
        let Found { mut real, mut kind, mut links, mut left } = start;
        let mut pending = Vec::new();
        push(&mut pending, path);
        while let Some(part) = pending.pop() {
            if kind != Kind::Directory {
                return Err(Lost::NotADirectory);
            }
            match part.as_bytes() {
                b"/" => real = PathBuf::from("/"),
                b"." => {}
                b".." => {
                    left.push(real.clone());
                    real.pop();
                }
                _ => real.push(part),
            }
            match self.node(&real)? {
                Node::Is(is) => kind = is,
                Node::Absent(lost) => return Err(lost),
                Node::Link(_) if links.len() == LINKS => return Err(Lost::Loop),
                Node::Link(to) => {
                    let is_last = pending.is_empty();
                    links.push(Link { at: real.clone(), to: to.clone(), is_last });
                    real.pop();
                    push(&mut pending, &to);
                }
            }
        }
        Ok(Found { real, kind, links, left })
    }

    /// Opens a regular file by its path without links. Whatever else is there
    /// in the meantime is not read: a FIFO would block, a device never end.
    pub(super) fn open(&self, real: &Path) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = File::from(sys::open2(&self.on_host(real), flags, libc::RESOLVE_NO_SYMLINKS)?);
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        Ok(file)
    }

    /// Content of a regular file, which is refused when it is larger than
    /// `limit`.
    pub(super) fn read(&self, real: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let mut file = self.open(real)?.take(limit + 1);
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        if content.len() as u64 > limit {
            return Err(io::Error::other(format!("larger than {limit} bytes")));
        }
        Ok(content)
    }

    /// Paths of the links in a directory, sorted.
    pub(super) fn links_in(&self, real: &Path) -> io::Result<Vec<PathBuf>> {
        let mut links = Vec::new();
        for entry in std::fs::read_dir(self.on_host(real))?.take(WORK) {
            let entry = entry?;
            if entry.file_type()?.is_symlink() {
                links.push(real.join(entry.file_name()));
            }
        }
        links.sort_unstable();
        Ok(links)
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, real: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(self.on_host(real))?.take(WORK) {
            names.push(PathBuf::from(entry?.file_name()));
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Puts the parts of a path before those that are pending.
fn push(pending: &mut Vec<OsString>, path: &Path) {
    pending.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
}

fn look(path: &Path) -> Node {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) => return Node::Absent(lost(&error)),
    };
    let kind = metadata.file_type();
    if kind.is_dir() {
        Node::Is(Kind::Directory)
    } else if kind.is_file() {
        let executable = metadata.permissions().mode() & 0o111 != 0;
        Node::Is(Kind::File { executable })
    } else if kind.is_symlink() {
        match std::fs::read_link(path) {
            Ok(to) => Node::Link(to.into()),
            Err(error) => Node::Absent(lost(&error)),
        }
    } else {
        Node::Is(Kind::Other)
    }
}

fn lost(error: &io::Error) -> Lost {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => Lost::Missing,
        Some(Errno::ENOTDIR) => Lost::NotADirectory,
        Some(Errno::ELOOP) => Lost::Loop,
        Some(errno) => Lost::Refused(errno),
        // A NUL in the path: no file has such a name.
        None => Lost::Missing,
    }
}
