//! What the upper directory of an overlay changes; "Overlay Filesystem" of the
//! kernel's documentation.
//!
//! Read from the directories themselves, while the overlay is not mounted or
//! nobody changes it. What is asked is what somebody sees who looks through the
//! mount: an entry copied up unchanged is no change. Nothing is written here.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsString};
use std::io::{self, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use serde::Serialize;

use crate::sys;
use crate::tree::{
    Descent, During as _, Refusable, Refused, TreeError, XATTR_MAX, as_path, for_each_xattr,
    format, magic, names, printable,
};

/// What lies below the upper directory.
#[derive(Clone, Copy, Debug)]
pub enum Lowers<'a> {
    /// These directories, top-most first.
    Known(&'a [BorrowedFd<'a>]),
    /// Only what the upper directory itself tells is listed: see
    /// [`Kind::Written`].
    Unknown,
}

/// Which extended attributes are the overlay's. Those of the other kind are
/// ordinary data, which whoever writes to the mount may forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// `trusted.overlay.*`, of a mount made by root. Nobody else can read them.
    Trusted,
    /// `user.overlay.*`, of a mount with `userxattr`.
    User,
    /// Both, for a directory of unknown origin.
    Either,
}

impl Marks {
    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Trusted => &["trusted.overlay."],
            Self::User => &["user.overlay."],
            Self::Either => &["trusted.overlay.", "user.overlay."],
        }
    }
}

/// What has become of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// It was not there.
    Added,
    /// Its content or attributes are others. For directories times do not
    /// count: they change with what is in them.
    Changed,
    /// It is not there any more, nor is anything below it.
    Deleted,
    /// It is added or changed: which of the two only the lower directories
    /// could tell.
    Written,
}

impl Kind {
    /// The letter of `docker diff`, and `+` for what that cannot tell.
    pub fn letter(self) -> char {
        match self {
            Self::Added => 'A',
            Self::Changed => 'C',
            Self::Deleted => 'D',
            Self::Written => '+',
        }
    }
}

/// Type of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A FIFO.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
}

impl What {
    fn of(stat: &FileStat) -> Refusable<Self> {
        Ok(match format(stat) {
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFLNK => Self::Symlink,
            SFlag::S_IFIFO => Self::Fifo,
            SFlag::S_IFSOCK => Self::Socket,
            SFlag::S_IFCHR => Self::CharacterDevice,
            SFlag::S_IFBLK => Self::BlockDevice,
            _ => return Err(Errno::EINVAL).during("fstat"),
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File => "file",
            Self::Symlink => "symlink",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
            Self::CharacterDevice => "character device",
            Self::BlockDevice => "block device",
        }
    }
}

/// What the overlay has noted about an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// A directory that hides what lies below it.
    Opaque,
    /// It was renamed, and what it holds is still below at that place; changes
    /// in it are told against that.
    Redirect(#[serde(serialize_with = "as_text")] PathBuf),
    /// A file whose attributes alone were copied up.
    Metacopy,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where it is seen in the jail.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// What has become of it.
    pub kind: Kind,
    /// What it is; of something deleted, what it was, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub what: Option<What>,
    /// What it was, when that is not what it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<What>,
    /// Size in bytes of a regular file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// What the overlay has noted about it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
}

/// JSON is text, and a path is not: what is not printable is escaped, with `\`.
fn as_text<S: serde::Serializer>(path: &Path, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&printable(path))
}

/// Writes one line per change: its letter and path, and in parentheses what
/// these do not tell.
pub fn print(changes: &[Change], out: &mut impl Write) -> io::Result<()> {
    for change in changes {
        write!(out, "{} {}", change.kind.letter(), printable(&change.path))?;
        if let (Some(what), Some(was)) = (change.what, change.was) {
            write!(out, " ({}, was {})", what.name(), was.name())?;
        }
        for mark in &change.marks {
            match mark {
                // Directories made anew may be opaque without hiding anything.
                Mark::Opaque if change.kind == Kind::Written => {}
                Mark::Opaque => write!(out, " (replaced)")?,
                Mark::Redirect(from) => write!(out, " (renamed from {})", printable(from))?,
                Mark::Metacopy => write!(out, " (attributes only)")?,
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Writes the changes as a JSON array.
pub fn print_json(changes: &[Change], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, changes)?;
    writeln!(out)
}

/// Lists what an upper directory changes, sorted by path. Its own attributes,
/// which are those of `/`, are not compared.
pub fn read(
    upper: BorrowedFd<'_>,
    lowers: Lowers<'_>,
    marks: Marks,
) -> Result<Vec<Change>, TreeError> {
    let mut reading = Reading::new(upper, lowers, marks).map_err(|refused| refused.at("/"))?;
    match reading.run() {
        Ok(()) => Ok(reading.changes),
        Err(refused) => Err(refused.at(reading.path)),
    }
}

/// A directory of one of the lowers.
#[derive(Debug)]
struct Layer {
    /// Which of them.
    index: usize,
    directory: OwnedFd,
}

/// What the lowers show at a place.
#[derive(Debug)]
enum Below {
    Nothing,
    /// Directories that are merged, top-most first; never none.
    Directory(Vec<Layer>),
    Other(OwnedFd),
}

/// Whether the entries below a directory of the upper are seen through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum View {
    Merged,
    Hidden,
}

/// A directory of the upper that is being read.
#[derive(Debug)]
struct Level {
    /// Names still to be looked at, the first in order last.
    names: Vec<CString>,
    below: Vec<Layer>,
    view: View,
}

/// An entry of the upper.
#[derive(Debug)]
struct Entry {
    node: OwnedFd,
    what: What,
    size: Option<u64>,
    is_opaque: bool,
    redirect: Option<PathBuf>,
    is_metacopy: bool,
}

/// What a name in the upper stands for.
#[derive(Debug)]
enum Found {
    Nothing,
    Whiteout,
    Entry(Entry),
}

struct Reading<'a> {
    lowers: Lowers<'a>,
    marks: Marks,
    upper: Descent,
    levels: Vec<Level>,
    path: PathBuf,
    changes: Vec<Change>,
}

impl<'a> Reading<'a> {
    fn new(upper: BorrowedFd<'_>, lowers: Lowers<'a>, marks: Marks) -> Refusable<Self> {
        const CAP_SYS_ADMIN: u64 = 1 << 21;
        let capabilities = sys::effective_capabilities().during("capget")?;
        if marks == Marks::Trusted && capabilities & CAP_SYS_ADMIN == 0 {
            let detail = "attributes of `trusted` are hidden from ordinary users";
            return Err(Refused::because("getxattr", Errno::EPERM, detail));
        }
        let upper = Descent::new(upper).during("openat")?;
        let path = PathBuf::from("/");
        Ok(Self { lowers, marks, upper, levels: Vec::new(), path, changes: Vec::new() })
    }

    fn run(&mut self) -> Refusable {
        let top = Level::new(self.upper.current(), self.roots(0)?, View::Merged)?;
        self.levels.push(top);
        while let Some(level) = self.levels.last_mut() {
            if let Some(name) = level.names.pop() {
                self.path.push(as_path(&name));
                self.entry(&name)?;
            } else {
                self.levels.pop();
                if !self.levels.is_empty() {
                    self.upper.leave().during("openat")?;
                    self.path.pop();
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, name: &CStr) -> Refusable {
        let Some(level) = self.levels.last() else { return Ok(()) };
        let below = self.look_below(&level.below, name)?;
        let found = self.look(name)?;
        let inside = match (found, level.view) {
            // Only what is hidden is looked for without having been listed.
            (Found::Nothing, View::Merged) => return Err(Errno::ENOENT).during("openat"),
            (Found::Nothing | Found::Whiteout, _) => {
                self.deleted(&below)?;
                None
            }
            (Found::Entry(entry), view) => {
                let inside = self.inside(&entry, &level.below, &below, view)?;
                match self.lowers {
                    Lowers::Known(_) => self.compare(&entry, below, view)?,
                    Lowers::Unknown => self.guess(&entry)?,
                }
                inside.map(|(below, view)| (entry.node, below, view))
            }
        };
        match inside {
            Some((node, below, view)) => {
                self.levels.push(Level::new(node.as_fd(), below, view)?);
                self.upper.enter(node).during("fstat")
            }
            None => {
                self.path.pop();
                Ok(())
            }
        }
    }

    /// What an entry of the upper's current directory stands for.
    fn look(&self, name: &CStr) -> Refusable<Found> {
        let Some(node) = open(self.upper.current(), name)? else { return Ok(Found::Nothing) };
        let stat = fstat(&node).during("fstat")?;
        if self.is_whiteout(&node, &stat)? {
            return Ok(Found::Whiteout);
        }
        let what = What::of(&stat)?;
        let (mut is_opaque, mut redirect, mut is_metacopy) = (false, None, false);
        if what == What::Directory {
            is_opaque = self.is_opaque(&node)?;
            redirect = self.redirect(&node)?;
        } else if what == What::File && self.attribute(&node, "metacopy")?.is_some() {
            is_metacopy = true;
            redirect = self.redirect(&node)?;
        }
        let size = (what == What::File).then_some(stat.st_size.cast_unsigned());
        Ok(Found::Entry(Entry { node, what, size, is_opaque, redirect, is_metacopy }))
    }

    /// What is below the entries of a directory of the upper.
    fn inside(
        &self,
        entry: &Entry,
        around: &[Layer],
        below: &Below,
        view: View,
    ) -> Refusable<Option<(Vec<Layer>, View)>> {
        if entry.what != What::Directory {
            return Ok(None);
        }
        if let Some(redirect) = &entry.redirect {
            return Ok(Some((self.redirected(redirect, around, 0)?, View::Merged)));
        }
        Ok(Some(match below {
            Below::Directory(layers) => {
                let layers = layers.iter().map(Layer::again).collect::<Refusable<_>>()?;
                (layers, if entry.is_opaque { View::Hidden } else { view })
            }
            Below::Nothing | Below::Other(_) => (Vec::new(), View::Merged),
        }))
    }

    fn deleted(&mut self, below: &Below) -> Refusable {
        let what = match (below, self.lowers) {
            (Below::Nothing, Lowers::Known(_)) => return Ok(()),
            (Below::Nothing, Lowers::Unknown) => None,
            (Below::Directory(_), _) => Some(What::Directory),
            (Below::Other(node), _) => Some(What::of(&fstat(node).during("fstat")?)?),
        };
        let (path, marks) = (self.path.clone(), Vec::new());
        let kind = Kind::Deleted;
        self.changes.push(Change { path, kind, what, was: None, size: None, marks });
        Ok(())
    }

    /// Tells what an entry changes about what is below it.
    fn compare(&mut self, entry: &Entry, below: Below, view: View) -> Refusable {
        let (kind, was) = match below {
            Below::Nothing => (Kind::Added, None),
            Below::Directory(layers) => {
                let is_replaced = entry.redirect.is_some()
                    || (entry.is_opaque && view == View::Merged)
                    || entry.what != What::Directory;
                let Some(first) = layers.first() else { return Ok(()) };
                if !is_replaced && is_same(&entry.node, &first.directory)? {
                    return Ok(());
                }
                (Kind::Changed, Some(What::Directory))
            }
            Below::Other(node) => {
                if is_same(&entry.node, &node)? {
                    return Ok(());
                }
                (Kind::Changed, Some(What::of(&fstat(&node).during("fstat")?)?))
            }
        };
        // What is opaque over nothing hides nothing.
        let is_opaque = was == Some(What::Directory) && view == View::Merged;
        self.push(entry, kind, was, is_opaque);
        Ok(())
    }

    /// Tells what an entry is when nothing is known of what is below it. Files
    /// that were copied up have a note of that, which they keep when they are
    /// renamed: it does not tell whether there was one of this name.
    fn guess(&mut self, entry: &Entry) -> Refusable {
        let is_own = entry.is_opaque
            || entry.redirect.is_some()
            || entry.what != What::Directory
            || self.attribute(&entry.node, "origin")?.is_none();
        // The others were copied up for what is in them, or for an attribute.
        if is_own {
            self.push(entry, Kind::Written, None, true);
        }
        Ok(())
    }

    fn push(&mut self, entry: &Entry, kind: Kind, was: Option<What>, is_hiding: bool) {
        let mut marks = Vec::new();
        if entry.is_opaque && is_hiding {
            marks.push(Mark::Opaque);
        }
        if let Some(redirect) = &entry.redirect {
            let parent = self.path.parent().unwrap_or(Path::new("/"));
            marks.push(Mark::Redirect(parent.join(redirect)));
        }
        if entry.is_metacopy {
            marks.push(Mark::Metacopy);
        }
        self.changes.push(Change {
            path: self.path.clone(),
            kind,
            what: Some(entry.what),
            was: was.filter(|was| *was != entry.what),
            size: entry.size,
            marks,
        });
    }

    /// The lowers from one of them downwards.
    fn roots(&self, first: usize) -> Refusable<Vec<Layer>> {
        let Lowers::Known(lowers) = self.lowers else { return Ok(Vec::new()) };
        let lowers = lowers.iter().enumerate().skip(first);
        lowers.map(|(index, root)| Layer::open(index, *root)).collect()
    }

    /// What directories of the lowers, merged, show under a name.
    fn look_below(&self, layers: &[Layer], name: &CStr) -> Refusable<Below> {
        let mut found = Vec::new();
        let mut name = name.to_owned();
        for layer in layers {
            let Some(node) = open(layer.directory.as_fd(), &name)? else { continue };
            let stat = fstat(&node).during("fstat")?;
            if self.is_whiteout(&node, &stat)? {
                break;
            }
            if format(&stat) != SFlag::S_IFDIR {
                if found.is_empty() {
                    return Ok(Below::Other(node));
                }
                break;
            }
            let is_opaque = self.is_opaque(&node)?;
            let redirect = self.redirect(&node)?;
            found.push(Layer { index: layer.index, directory: node });
            match redirect {
                _ if is_opaque => break,
                None => {}
                // In the layers below it has another name.
                Some(redirect) if redirect.is_relative() => {
                    name = CString::new(redirect.as_os_str().as_bytes())
                        .map_err(|_| Errno::EINVAL)
                        .during("getxattr")?;
                }
                Some(redirect) => {
                    found.extend(self.redirected(&redirect, &[], layer.index + 1)?);
                    break;
                }
            }
        }
        Ok(if found.is_empty() { Below::Nothing } else { Below::Directory(found) })
    }

    /// The directories of the lowers that a redirect leads to: from their roots
    /// downwards, or from those around the entry.
    fn redirected(&self, redirect: &Path, around: &[Layer], first: usize) -> Refusable<Vec<Layer>> {
        let mut layers = if redirect.is_absolute() {
            self.roots(first)?
        } else {
            around.iter().map(Layer::again).collect::<Refusable<_>>()?
        };
        for part in redirect.iter().skip(usize::from(redirect.is_absolute())) {
            let name = CString::new(part.as_bytes()).map_err(|_| Errno::EINVAL);
            layers = match self.look_below(&layers, &name.during("getxattr")?)? {
                Below::Directory(layers) => layers,
                Below::Nothing | Below::Other(_) => return Ok(Vec::new()),
            };
        }
        Ok(layers)
    }

    /// Value of an attribute of the overlay.
    fn attribute(&self, node: &OwnedFd, name: &str) -> Refusable<Option<Vec<u8>>> {
        let mut value = [0; libc::PATH_MAX as usize];
        let path = magic(node);
        for prefix in self.marks.prefixes() {
            let name = CString::new(format!("{prefix}{name}")).map_err(|_| Errno::EINVAL);
            match sys::xattr::get(&path, &name.during("getxattr")?, &mut value) {
                Err(Errno::ENODATA | Errno::EOPNOTSUPP) => {}
                length => return Ok(Some(value[..length.during("getxattr")?].to_vec())),
            }
        }
        Ok(None)
    }

    /// A whiteout is a device that cannot exist or, where a user may make no
    /// devices, an empty file with an attribute.
    fn is_whiteout(&self, node: &OwnedFd, stat: &FileStat) -> Refusable<bool> {
        Ok(match format(stat) {
            SFlag::S_IFCHR => stat.st_rdev == 0,
            SFlag::S_IFREG if stat.st_size == 0 => self.attribute(node, "whiteout")?.is_some(),
            _ => false,
        })
    }

    fn is_opaque(&self, directory: &OwnedFd) -> Refusable<bool> {
        // Another value, `x`, announces whiteouts that are files.
        Ok(self.attribute(directory, "opaque")?.is_some_and(|value| value == b"y"))
    }

    /// Where an entry was renamed from: a path from the root of the overlay, or
    /// a name in the same directory.
    fn redirect(&self, node: &OwnedFd) -> Refusable<Option<PathBuf>> {
        let Some(value) = self.attribute(node, "redirect")? else { return Ok(None) };
        let path = PathBuf::from(OsString::from_vec(value));
        let parts = path.components().skip(usize::from(path.is_absolute()));
        let count = parts.clone().count();
        let is_plain = parts.clone().all(|part| matches!(part, Component::Normal(_)));
        if !is_plain || count == 0 || (path.is_relative() && count > 1) {
            let detail = format!("the redirect to `{}` is none", printable(&path));
            return Err(Refused::because("getxattr", Errno::EINVAL, detail));
        }
        Ok(Some(path))
    }
}

impl Layer {
    fn open(index: usize, directory: BorrowedFd<'_>) -> Refusable<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = openat(directory, c".", flags, Mode::empty()).during("openat")?;
        Ok(Self { index, directory })
    }

    fn again(&self) -> Refusable<Self> {
        Self::open(self.index, self.directory.as_fd())
    }
}

impl Level {
    fn new(directory: BorrowedFd<'_>, below: Vec<Layer>, view: View) -> Refusable<Self> {
        let mut all: BTreeSet<CString> = names(directory).during("getdents")?.into_iter().collect();
        if view == View::Hidden {
            for layer in &below {
                all.extend(names(layer.directory.as_fd()).during("getdents")?);
            }
        }
        Ok(Self { names: all.into_iter().rev().collect(), below, view })
    }
}

fn open(directory: BorrowedFd<'_>, name: &CStr) -> Refusable<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(directory, name, flags, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(None),
        node => node.during("openat").map(Some),
    }
}

/// Whether an entry was copied up without any change. The content of files is
/// compared by size and time of modification.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> Refusable<bool> {
    let (a, b) = (fstat(one).during("fstat")?, fstat(other).during("fstat")?);
    if (a.st_mode, a.st_uid, a.st_gid) != (b.st_mode, b.st_uid, b.st_gid) {
        return Ok(false);
    }
    let content = |stat: &FileStat| (stat.st_size, stat.st_mtime, stat.st_mtime_nsec, stat.st_rdev);
    match format(&a) {
        SFlag::S_IFDIR => {}
        _ if content(&a) != content(&b) => return Ok(false),
        SFlag::S_IFLNK => {
            let target = |node| readlinkat(node, c"").during("readlinkat");
            if target(one)? != target(other)? {
                return Ok(false);
            }
        }
        _ => {}
    }
    Ok(xattrs(one)? == xattrs(other)?)
}

/// Extended attributes but the overlay's own.
fn xattrs(node: &OwnedFd) -> Refusable<BTreeMap<CString, Vec<u8>>> {
    let path = magic(node);
    let (mut list, mut value) = (vec![0; XATTR_MAX], vec![0; XATTR_MAX]);
    let mut found = BTreeMap::new();
    for_each_xattr(&path, &mut list, |name| {
        let bytes = name.to_bytes();
        if !Marks::Either.prefixes().iter().any(|prefix| bytes.starts_with(prefix.as_bytes())) {
            let length = sys::xattr::get(&path, name, &mut value).during("getxattr")?;
            found.insert(name.to_owned(), value[..length].to_vec());
        }
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};

    fn listed(upper: &Path, lowers: Lowers<'_>) -> String {
        let changes = read(File::open(upper).unwrap().as_fd(), lowers, Marks::User).unwrap();
        let mut out = Vec::new();
        print(&changes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_order_is_that_of_paths() {
        let upper = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(upper.path().join(name)).unwrap();
        }
        for name in ["a/z", "a.txt", "b/a", "A", "a-b"] {
            fs::write(upper.path().join(name), "").unwrap();
        }
        let changes =
            read(File::open(upper.path()).unwrap().as_fd(), Lowers::Unknown, Marks::User).unwrap();
        let paths: Vec<_> = changes.iter().map(|change| change.path.clone()).collect();
        let mut sorted = paths.clone();
        sorted.sort();
        assert_eq!(paths, sorted);
        assert_eq!(paths.len(), 7);
    }

    #[test]
    fn an_entry_below_of_another_type_is_named() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::write(upper.path().join("x"), "").unwrap();
        std::os::unix::fs::symlink("to", lower.path().join("x")).unwrap();
        let lower = File::open(lower.path()).unwrap();
        let known = [lower.as_fd()];
        assert_eq!(listed(upper.path(), Lowers::Known(&known)), "C /x (file, was symlink)\n");
        assert_eq!(listed(upper.path(), Lowers::Unknown), "+ /x\n");
    }

    #[test]
    fn an_upper_deeper_than_descriptors_reach_is_read() {
        let upper = tempfile::tempdir().unwrap();
        let deep: PathBuf = std::iter::repeat_n("d", 1_500).collect();
        fs::create_dir_all(upper.path().join(&deep)).unwrap();
        assert_eq!(listed(upper.path(), Lowers::Known(&[])).lines().count(), 1_500);
    }

    #[test]
    fn a_lower_that_ends_on_the_way_hides_nothing_further() {
        let (upper, lower) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(upper.path().join("a/b")).unwrap();
        fs::write(lower.path().join("a"), "").unwrap();
        let lower = File::open(lower.path()).unwrap();
        let known = [lower.as_fd()];
        let expected = "C /a (directory, was file)\nA /a/b\n";
        assert_eq!(listed(upper.path(), Lowers::Known(&known)), expected);
    }
}
