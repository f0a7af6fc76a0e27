//! Reading a tree of files: walking paths link by link, and opening what they
//! lead to.
//!
//! Paths here are paths *inside* the tree, with its top as `/`: a link never
//! leads out of it. Nothing here knows what the files mean.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::host::Questions;
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
    Refused(Errno),
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
    pub(super) at: Rc<Path>,
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

impl Found {
    fn top() -> Self {
        Self { real: "/".into(), kind: Kind::Directory, links: Vec::new(), left: Vec::new() }
    }
}

/// A tree that is read, each part of it once.
#[derive(Debug)]
pub(super) struct Tree {
    /// Put before paths; empty for the host's own `/`.
    top: PathBuf,
    /// By path without links. Not by `Path`, which is slower to compare.
    nodes: HashMap<OsString, Node>,
    directories: HashMap<OsString, Result<Rc<Found>, Lost>>,
    work: usize,
    /// Keeps what the kernel did not answer.
    pub(super) questions: Rc<Questions>,
}

impl Tree {
    pub(super) fn new(root: &Path) -> io::Result<Self> {
        // Files are opened without following links; on the way to the host's
        // own `/` there is none, and the C library would take 25 µs to say so.
        let top =
            if root == Path::new("/") { PathBuf::new() } else { std::fs::canonicalize(root)? };
        let nodes = HashMap::from([("/".into(), Node::Is(Kind::Directory))]);
        Ok(Self { top, nodes, directories: HashMap::new(), work: WORK, questions: Rc::default() })
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
        if let Some(node) = self.nodes.get(path.as_os_str()) {
            return Ok(node.clone());
        }
        let node = look(&self.on_host(path), &self.questions);
        self.nodes.insert(path.into(), node.clone());
        Ok(node)
    }

    /// Follows an absolute path to its end.
    pub(super) fn walk(&mut self, path: &Path) -> Result<Found, Lost> {
        match (path.parent(), path.file_name()) {
            // Of many paths in one directory, it is walked once.
            (Some(directory), Some(name)) => self.walk_in(directory, name),
            _ => self.walk_on(Found::top(), path),
        }
    }

    /// Follows a path below a directory, which is walked only once.
    pub(super) fn walk_in(
        &mut self,
        directory: &Path,
        name: impl AsRef<Path>,
    ) -> Result<Found, Lost> {
        let found = self.directory(directory)?;
        self.walk_on(Found::clone(&found), name.as_ref())
    }

    /// Follows an absolute path to a directory.
    pub(super) fn directory(&mut self, path: &Path) -> Result<Rc<Found>, Lost> {
        self.charge(1)?;
        if let Some(known) = self.directories.get(path.as_os_str()) {
            return known.clone();
        }
        let found = match self.walk_on(Found::top(), path) {
            Ok(mut found) if found.kind == Kind::Directory => {
                found.links.iter_mut().for_each(|link| link.is_last = false);
                Ok(Rc::new(found))
            }
            Ok(_) => Err(Lost::NotADirectory),
            Err(lost) => Err(lost),
        };
        self.directories.insert(path.into(), found.clone());
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
                    links.push(Link { at: real.as_path().into(), to: to.clone(), is_last });
                    real.pop();
                    push(&mut pending, &to);
                }
            }
        }
        Ok(Found { real, kind, links, left })
    }

    /// Opens a file that a walk has led to. Should something else be there by
    /// then, opening it does not block, and reading by position fails or is
    /// bounded.
    pub(super) fn open(&self, real: &Path) -> io::Result<File> {
        let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
        let file = sys::open2(&self.on_host(real), flags, libc::RESOLVE_NO_SYMLINKS);
        Ok(self.ask(real, file.map_err(io::Error::from))?.into())
    }

    fn ask<T>(&self, path: &Path, answer: io::Result<T>) -> io::Result<T> {
        self.questions.ask(|| format!("what `{}` holds", self.on_host(path).display()), answer)
    }

    /// Content of a regular file, which is refused when it is larger than
    /// `limit`.
    pub(super) fn read(&self, real: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let file = self.open(real)?;
        let data = self.ask(real, file.metadata())?;
        if !data.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        if data.len() > limit {
            return Err(io::Error::other(format!("larger than {limit} bytes")));
        }
        // One more byte than there is: the read that finds the end finds all.
        let mut content = Vec::with_capacity(data.len() as usize + 1);
        self.ask(real, file.take(limit).read_to_end(&mut content))?;
        Ok(content)
    }

    /// Paths of the links in a directory whose text passes a test, sorted.
    pub(super) fn links_in(
        &self,
        real: &Path,
        test: impl Fn(&Path) -> bool,
    ) -> nix::Result<Vec<PathBuf>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let directory = Dir::open(&self.on_host(real), flags, Mode::empty())?;
        let fd = directory.as_fd().try_clone_to_owned().map_err(|_| Errno::EMFILE)?;
        let mut links = Vec::new();
        for entry in directory.into_iter().take(WORK) {
            let entry = entry?;
            if !matches!(entry.file_type(), Some(Type::Symlink) | None) {
                continue;
            }
            match nix::fcntl::readlinkat(&fd, entry.file_name()) {
                Ok(to) if test(Path::new(&to)) => {
                    links.push(real.join(OsStr::from_bytes(entry.file_name().to_bytes())));
                }
                // Not every file system tells what is a link.
                Ok(_) | Err(Errno::EINVAL) => {}
                Err(errno) => return Err(errno),
            }
        }
        links.sort_unstable();
        Ok(links)
    }

    /// Names in a directory, sorted.
    pub(super) fn list(&self, real: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        let entries = self.ask(real, std::fs::read_dir(self.on_host(real)))?;
        for entry in entries.take(WORK) {
            names.push(PathBuf::from(self.ask(real, entry)?.file_name()));
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Puts the parts of a path before those that are pending.
fn push(pending: &mut Vec<OsString>, path: &Path) {
    pending.extend(path.components().rev().map(|part| part.as_os_str().to_owned()));
}

fn look(path: &Path, questions: &Questions) -> Node {
    let question = || format!("what there is at `{}`", path.display());
    let metadata = match questions.ask(question, std::fs::symlink_metadata(path)) {
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
        match questions.ask(question, std::fs::read_link(path)) {
            Ok(to) => Node::Link(to.into()),
            Err(error) => Node::Absent(lost(&error)),
        }
    } else {
        Node::Is(Kind::Other)
    }
}

fn lost(error: &io::Error) -> Lost {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => Lost::Missing,
        Some(Errno::ENOTDIR) => Lost::NotADirectory,
        Some(Errno::ELOOP) => Lost::Loop,
        Some(errno) => Lost::Refused(errno),
        // A NUL in the path: no file has such a name.
        None => Lost::Missing,
    }
}
