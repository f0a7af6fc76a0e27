//! Writes the entries of a layer below a directory.
//!
//! Every call names one component below a descriptor of its directory, which
//! was opened from the root without following a link (`openat2(2)`,
//! `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`). So no
//! entry can reach what is not below the root, whatever the entries before it
//! have made.
//!
//! The root is empty at first and nobody else writes there: what is on disk is
//! of this layer. That decides the questions of image-spec's layer.md that
//! depend on the order of entries:
//!
//! - Whiteouts are written at the end. One whose name the layer itself holds
//!   hides only what is below: nothing to write, and a directory of that name
//!   becomes opaque. An opaque directory holds no whiteouts: readdir(3) of
//!   overlayfs would show them.
//! - Names that begin with `.wh.` and mean nothing (`.wh.`, `.wh...`, AUFS's
//!   own `.wh..wh.plnk`) are refused: they cannot be files, and nobody knows
//!   what to hide.
//! - Directories that the entries imply are made as root's, 0755, of 1970.
//! - A leading `/` means the root, as for tar(1); `..` is refused. A parent
//!   that is a symbolic link of the same layer is refused as well: no archive
//!   of a tree has one.
//! - A hard link to a symbolic link names the link itself, as tar(1) has it.
//!   Its target must be in this layer: the spec has no links between layers.
//! - An entry with the name of an earlier one takes its place; of two
//!   directories the later attributes count.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::BufRead;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstatat, futimens,
    makedev, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{
    Gid, LinkatFlags, Uid, UnlinkatFlags, fchown, fchownat, linkat, symlinkat, unlinkat,
};

use super::layer::{LayerError, Limit, Options, Owners, Reason, Summary, Whiteouts, escape};
use super::tar::{Attributes, EndMarker, Entry, Kind, Map, Reader, Time};
use super::xattr::{self, Verdict};
use crate::sys;

/// Mode of a directory until the end, when it gets its own: the caller must be
/// able to write there meanwhile.
const OPEN: Mode = Mode::S_IRWXU;

/// What a remembered directory takes beside its name and attributes, about.
const NODE: usize = 256;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

type Outcome<T> = Result<T, Reason>;

/// Unpacks an uncompressed layer below an empty directory that nobody else
/// writes to. After an error a part of it is there, to be thrown away.
pub fn unpack(
    stream: impl BufRead,
    into: BorrowedFd<'_>,
    options: &Options,
) -> Result<Summary, LayerError> {
    unpack_stream(stream, EndMarker::Required, into, options)
}

pub(super) fn unpack_stream(
    stream: impl BufRead,
    end_marker: EndMarker,
    into: BorrowedFd<'_>,
    options: &Options,
) -> Result<Summary, LayerError> {
    let mut reader = Reader::new(stream, options.limits, end_marker);
    let mut tree = Tree::new(into, options)?;
    while let Some(entry) = reader.next_entry()? {
        tree.add(&entry, &mut reader).map_err(|reason| entry.error(reason))?;
    }
    let bytes = reader.finish()?;
    let summary = tree.finish()?;
    Ok(Summary { bytes, ..summary })
}

/// A path below the root: components without `.` and `..`, joined by single
/// slashes; the root is empty.
type Name = Vec<u8>;

/// Parent and last component; none for the root.
fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => Some((&path[..slash], &path[slash + 1..])),
        None => Some((b"", path)),
    }
}

fn join(parent: &[u8], name: &[u8]) -> Name {
    if parent.is_empty() { name.to_vec() } else { [parent, b"/", name].concat() }
}

/// Attributes of a directory that has no entry.
fn implied() -> Attributes {
    Attributes { mode: 0o755, ..Attributes::default() }
}

fn mode(attributes: &Attributes) -> Mode {
    Mode::from_bits_truncate(attributes.mode)
}

fn mtime(attributes: &Attributes) -> TimeSpec {
    let Time { seconds, nanoseconds } = attributes.mtime;
    TimeSpec::new(seconds, i64::from(nanoseconds))
}

/// A directory of the layer.
#[derive(Debug)]
struct Directory {
    attributes: Attributes,
    /// Whether only names below it have told of it.
    is_implied: bool,
    is_opaque: bool,
    /// Names to hide.
    whiteouts: Vec<Vec<u8>>,
}

impl Directory {
    fn implied() -> Self {
        let attributes = implied();
        Self { attributes, is_implied: true, is_opaque: false, whiteouts: Vec::new() }
    }
}

/// What the name of an entry means.
enum Meaning<'a> {
    /// A file of the layer.
    Entry,
    /// That name of the lower layers is hidden.
    Whiteout(&'a [u8]),
    /// All names of the lower layers are hidden.
    Opaque,
}

struct Tree<'a> {
    root: BorrowedFd<'a>,
    options: &'a Options,
    summary: Summary,
    remembered: u64,
    directories: BTreeMap<Name, Directory>,
    /// The directory used last: entries mostly come directory by directory.
    current: Option<(Name, OwnedFd)>,
}

impl<'a> Tree<'a> {
    fn new(root: BorrowedFd<'a>, options: &'a Options) -> Result<Self, LayerError> {
        let directories = BTreeMap::from([(Name::new(), Directory::implied())]);
        let mut tree = Self {
            root,
            options,
            summary: Summary::default(),
            remembered: 0,
            directories,
            current: None,
        };
        let root = tree.open(b"").map_err(LayerError::blob)?;
        let failed = |errno| LayerError::blob(Reason::System("open the directory", errno));
        // With its set-group-id bit all files would get its group.
        fchmod(&root, OPEN).map_err(failed)?;
        tree.current = Some((Name::new(), root));
        Ok(tree)
    }

    fn add<R: BufRead>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Outcome<()> {
        self.count_entry()?;
        let Some(path) = self.locate(&entry.name)? else { return Ok(()) };
        let Some((parent, name)) = split(&path) else { return self.root(entry) };
        match self.meaning(parent, name, &entry.kind)? {
            // For a directory that became a file or a link umoci hides, besides,
            // all that was in it.
            Meaning::Opaque | Meaning::Whiteout(_) if self.is_obstructed(parent)? => {}
            Meaning::Opaque => {
                self.enter(parent)?;
                self.directory(parent).is_opaque = true;
            }
            Meaning::Whiteout(hidden) => {
                self.enter(parent)?;
                self.remember(hidden.len())?;
                self.directory(parent).whiteouts.push(hidden.to_vec());
            }
            Meaning::Entry => {
                self.enter(parent)?;
                self.create(entry, &path, name, reader)?;
            }
        }
        Ok(())
    }

    fn count_entry(&mut self) -> Outcome<()> {
        let limit = self.options.limits.entries;
        if self.summary.entries >= limit {
            return Err(Reason::Limit(Limit::Entries, limit));
        }
        self.summary.entries += 1;
        Ok(())
    }

    fn remember(&mut self, bytes: usize) -> Outcome<()> {
        let limit = self.options.limits.memory;
        self.remembered += (bytes + NODE) as u64;
        if self.remembered > limit {
            return Err(Reason::Limit(Limit::Memory, limit));
        }
        Ok(())
    }

    /// Where a name of the archive is below the root; none when stripping
    /// leaves nothing of it.
    fn locate(&self, name: &[u8]) -> Outcome<Option<Name>> {
        if name.is_empty() {
            return Err(Reason::Malformed("an empty name".to_owned()));
        }
        let limits = &self.options.limits;
        let mut path = Name::with_capacity(name.len());
        let (mut stripped, mut depth) = (0, 0);
        for part in name.split(|byte| *byte == b'/').filter(|part| !part.is_empty()) {
            if part == b".." {
                let what = format!("the name `{}` leads out by `..`", escape(name));
                return Err(Reason::Refused(what));
            }
            // A leading `.` counts for tar(1).
            if stripped < self.options.strip_components {
                stripped += 1;
                continue;
            }
            if part == b"." {
                continue;
            }
            depth += 1;
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(part);
        }
        if depth > limits.depth {
            return Err(Reason::Limit(Limit::Depth, limits.depth as u64));
        }
        let is_left = self.options.strip_components == 0 || !path.is_empty();
        Ok(is_left.then_some(path))
    }

    fn meaning<'n>(&self, parent: &[u8], name: &'n [u8], kind: &Kind) -> Outcome<Meaning<'n>> {
        if self.options.whiteouts == Whiteouts::Plain {
            return Ok(Meaning::Entry);
        }
        if let Some(part) =
            parent.split(|byte| *byte == b'/').find(|part| part.starts_with(WHITEOUT))
        {
            let what = format!("it lies below `{}`, a whiteout", escape(part));
            return Err(Reason::Refused(what));
        }
        let Some(hidden) = name.strip_prefix(WHITEOUT) else { return Ok(Meaning::Entry) };
        // AUFS linked its whiteouts.
        if !matches!(kind, Kind::File(_) | Kind::HardLink(_)) {
            return Err(Reason::Refused("a whiteout that is not a file".to_owned()));
        }
        match hidden {
            _ if name == OPAQUE => Ok(Meaning::Opaque),
            b"" | b"." | b".." => {
                Err(Reason::Refused("a whiteout of no name that could be".to_owned()))
            }
            _ if hidden.starts_with(WHITEOUT) => {
                Err(Reason::Refused("a whiteout of an unknown kind".to_owned()))
            }
            _ => Ok(Meaning::Whiteout(hidden)),
        }
    }

    /// The entry of the root itself.
    fn root(&mut self, entry: &Entry) -> Outcome<()> {
        if entry.kind != Kind::Directory {
            return Err(Reason::Refused("the root must be a directory".to_owned()));
        }
        self.set_directory(b"", entry)
    }

    /// A directory that [`enter`](Self::enter) has made sure of.
    fn directory(&mut self, path: &[u8]) -> &mut Directory {
        self.directories.entry(path.to_vec()).or_insert_with(Directory::implied)
    }

    fn set_directory(&mut self, path: &[u8], entry: &Entry) -> Outcome<()> {
        let xattrs = entry.attributes.xattrs.iter();
        let bytes: usize = xattrs.map(|(name, value)| name.len() + value.len()).sum();
        self.remember(path.len() + bytes)?;
        self.count_owner(entry);
        let directory = self.directory(path);
        directory.attributes = entry.attributes.clone();
        directory.is_implied = false;
        Ok(())
    }

    /// Opens a directory of the layer.
    fn open(&self, path: &[u8]) -> Outcome<OwnedFd> {
        let path = if path.is_empty() { b"." } else { path };
        let flags = libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW;
        let resolve =
            libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
        sys::openat2(self.root, Path::new(OsStr::from_bytes(path)), flags, resolve)
            .map_err(|errno| Reason::System("open its directory", errno))
    }

    /// Makes a directory the current one, and makes it where it is missing.
    fn enter(&mut self, path: &[u8]) -> Outcome<()> {
        if self.current.as_ref().is_some_and(|(current, _)| current == path) {
            return Ok(());
        }
        if !self.directories.contains_key(path)
            && let Some((parent, name)) = split(path)
        {
            self.enter(parent)?;
            self.make_implied(path, name)?;
        }
        let fd = self.open(path)?;
        self.current = Some((path.to_vec(), fd));
        Ok(())
    }

    /// Whether a directory cannot be, because this layer has something else in
    /// the place of it or of one above.
    fn is_obstructed(&mut self, path: &[u8]) -> Outcome<bool> {
        let Some((parent, name)) = split(path) else { return Ok(false) };
        if self.directories.contains_key(path) {
            return Ok(false);
        }
        if self.is_obstructed(parent)? {
            return Ok(true);
        }
        if !self.directories.contains_key(parent) {
            return Ok(false);
        }
        self.enter(parent)?;
        match fstatat(self.at()?, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(Reason::System("look at what is above", errno)),
        }
    }

    fn make_implied(&mut self, path: &[u8], name: &[u8]) -> Outcome<()> {
        self.count_entry()?;
        self.remember(path.len())?;
        match mkdirat(self.at()?, name, OPEN) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                let found = kind_of(&look(self.at()?, name)?);
                let what = format!("`{}` above it is {found} of this layer", escape(path));
                return Err(Reason::Refused(what));
            }
            Err(errno) => return Err(Reason::System("make its directory", errno)),
        }
        self.directories.insert(path.to_vec(), Directory::implied());
        Ok(())
    }

    /// The current directory.
    fn at(&self) -> Outcome<BorrowedFd<'_>> {
        match &self.current {
            Some((_, fd)) => Ok(fd.as_fd()),
            None => Err(Reason::System("open its directory", Errno::EBADF)),
        }
    }

    fn create<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        name: &[u8],
        reader: &mut Reader<R>,
    ) -> Outcome<()> {
        match &entry.kind {
            Kind::Directory => self.make_directory(entry, path, name),
            Kind::File(map) => self.make_file(entry, path, name, map, reader),
            Kind::HardLink(target) => self.make_hard_link(target, path, name),
            Kind::SymbolicLink(target) => {
                if target.is_empty() {
                    return Err(Reason::Malformed("a symbolic link to nothing".to_owned()));
                }
                self.replace(path, |at| symlinkat(target.as_slice(), at, name))?
                    .map_err(|errno| Reason::System("make the symbolic link", errno))?;
                self.describe_link(entry, name)
            }
            Kind::Fifo => self.make_node(entry, path, name, SFlag::S_IFIFO, 0),
            Kind::Character(0, 0) => {
                let what = "a character device 0:0, which overlayfs takes for a whiteout";
                Err(Reason::Refused(what.to_owned()))
            }
            Kind::Character(major, minor) => {
                let device = makedev((*major).into(), (*minor).into());
                self.make_node(entry, path, name, SFlag::S_IFCHR, device)
            }
            Kind::Block(major, minor) => {
                let device = makedev((*major).into(), (*minor).into());
                self.make_node(entry, path, name, SFlag::S_IFBLK, device)
            }
        }
    }

    /// Makes something in the current directory, in the place of what an
    /// earlier entry has put there.
    fn replace<T>(
        &mut self,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> nix::Result<T>,
    ) -> Outcome<nix::Result<T>> {
        match make(self.at()?) {
            Err(Errno::EEXIST) => {
                self.remove(path)?;
                Ok(make(self.at()?))
            }
            result => Ok(result),
        }
    }

    fn make_directory(&mut self, entry: &Entry, path: &[u8], name: &[u8]) -> Outcome<()> {
        if !self.directories.contains_key(path) {
            self.replace(path, |at| mkdirat(at, name, OPEN))?
                .map_err(|errno| Reason::System("make the directory", errno))?;
        }
        self.set_directory(path, entry)
    }

    fn make_file<R: BufRead>(
        &mut self,
        entry: &Entry,
        path: &[u8],
        name: &[u8],
        map: &Map,
        reader: &mut Reader<R>,
    ) -> Outcome<()> {
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = self
            .replace(path, |at| openat(at, name, flags, mode))?
            .map_err(|errno| Reason::System("make the file", errno))?;
        let file = File::from(file);
        write(&file, map, reader)?;
        self.count_owner(entry);
        self.describe(file.as_fd(), &entry.attributes, &entry.name)
    }

    fn make_hard_link(&mut self, target: &[u8], path: &[u8], name: &[u8]) -> Outcome<()> {
        let refused = |why: &str| {
            Reason::Refused(format!("a hard link to `{}`, which {why}", escape(target)))
        };
        if target.is_empty() {
            return Err(Reason::Malformed("a hard link to nothing".to_owned()));
        }
        let absent = "is not in this layer before it";
        let located = self.locate(target)?.ok_or_else(|| refused("is stripped"))?;
        let Some((parent, target_name)) = split(&located) else {
            return Err(refused("is a directory"));
        };
        if located == path {
            return Err(refused("is the link itself"));
        }
        if self.directories.contains_key(&located) {
            return Err(refused("is a directory"));
        }
        if !self.directories.contains_key(parent) {
            return Err(refused(absent));
        }
        let directory = self.open(parent)?;
        let result = self
            .replace(path, |at| linkat(&directory, target_name, at, name, LinkatFlags::empty()))?;
        result.map_err(|errno| match errno {
            Errno::ENOENT => refused(absent),
            errno => Reason::System("make the hard link", errno),
        })
    }

    fn make_node(
        &mut self,
        entry: &Entry,
        path: &[u8],
        name: &[u8],
        kind: SFlag,
        device: libc::dev_t,
    ) -> Outcome<()> {
        let mode = mode(&entry.attributes);
        match self.replace(path, |at| mknodat(at, name, kind, mode, device))? {
            Ok(()) => {}
            Err(Errno::EPERM) if kind != SFlag::S_IFIFO => {
                self.summary.devices.add(|| escape(&entry.name));
                return Ok(());
            }
            Err(errno) => return Err(Reason::System("make the node", errno)),
        }
        self.describe_link(entry, name)?;
        // The node was made just above: it is no link that could be followed.
        // Its mode went through the umask.
        fchmodat(self.at()?, name, mode, FchmodatFlags::FollowSymlink)
            .map_err(|errno| Reason::System("set the mode", errno))
    }

    fn count_owner(&mut self, entry: &Entry) {
        let Attributes { uid, gid, .. } = entry.attributes;
        if self.options.owners == Owners::Caller && (uid, gid) != (0, 0) {
            self.summary.owners.add(|| escape(&entry.name));
        }
    }

    /// Owner and time of what cannot be opened. The kernel allows such files
    /// none of the extended attributes that are kept.
    fn describe_link(&mut self, entry: &Entry, name: &[u8]) -> Outcome<()> {
        self.count_owner(entry);
        let attributes = &entry.attributes;
        for (xattr, value) in &attributes.xattrs {
            xattr::judge(xattr, value, self.options.owners)?;
            self.lose_xattr(xattr, &entry.name);
        }
        if self.options.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            fchownat(self.at()?, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
                .map_err(|errno| Reason::System("set the owner", errno))?;
        }
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(self.at()?, name, &TimeSpec::UTIME_OMIT, &mtime(attributes), flags)
            .map_err(|errno| Reason::System("set the time", errno))
    }

    fn lose_xattr(&mut self, xattr: &[u8], entry: &[u8]) {
        self.summary.xattrs.add(|| format!("{} of {}", escape(xattr), escape(entry)));
    }

    /// Gives an open file or directory its attributes, in the order that the
    /// kernel asks for: chown clears set-id bits and capabilities, and without
    /// privileges only who may write a file may set its user attributes.
    fn describe(
        &mut self,
        fd: BorrowedFd<'_>,
        attributes: &Attributes,
        entry: &[u8],
    ) -> Outcome<()> {
        if self.options.owners == Owners::Keep {
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            fchown(fd, Some(uid), Some(gid))
                .map_err(|errno| Reason::System("set the owner", errno))?;
        }
        for (name, value) in &attributes.xattrs {
            let is_kept = match xattr::judge(name, value, self.options.owners)? {
                Verdict::Drop => false,
                Verdict::Keep(name) => match sys::xattr::set_opened(fd, &name, value) {
                    Ok(()) => true,
                    // The file system has none of the kind.
                    Err(Errno::EOPNOTSUPP) => false,
                    Err(errno) => return Err(Reason::System("set an extended attribute", errno)),
                },
            };
            if !is_kept {
                self.lose_xattr(name, entry);
            }
        }
        fchmod(fd, mode(attributes)).map_err(|errno| Reason::System("set the mode", errno))?;
        futimens(fd, &TimeSpec::UTIME_OMIT, &mtime(attributes))
            .map_err(|errno| Reason::System("set the time", errno))
    }

    /// Removes what an earlier entry has made at a path; the current directory
    /// is its parent.
    fn remove(&mut self, path: &[u8]) -> Outcome<()> {
        let failed = |errno| Reason::System("remove the earlier entry of that name", errno);
        let Some((_, name)) = split(path) else { return Err(failed(Errno::EBUSY)) };
        if !self.directories.contains_key(path) {
            return unlinkat(self.at()?, name, UnlinkatFlags::NoRemoveDir).map_err(failed);
        }
        let below = join(path, b"");
        let inside: Vec<Name> = self
            .directories
            .range(below.clone()..)
            .take_while(|(other, _)| other.starts_with(&below))
            .map(|(other, _)| other.clone())
            .collect();
        // Children come after their parents: last ones first.
        for directory in inside.iter().map(Vec::as_slice).rev().chain([path]) {
            self.empty(directory).map_err(failed)?;
            self.directories.remove(directory);
        }
        unlinkat(self.at()?, name, UnlinkatFlags::RemoveDir).map_err(failed)
    }

    /// Removes everything in a directory; of directories only empty ones are
    /// left.
    fn empty(&self, path: &[u8]) -> nix::Result<()> {
        let fd = self.open(path).map_err(|_| Errno::ENOENT)?;
        let mut directory = nix::dir::Dir::from_fd(fd)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            let name = entry?.file_name().to_owned();
            if !matches!(name.as_bytes(), b"." | b"..") {
                names.push(name);
            }
        }
        for name in names {
            match unlinkat(&directory, name.as_c_str(), UnlinkatFlags::NoRemoveDir) {
                Err(Errno::EISDIR) => {
                    unlinkat(&directory, name.as_c_str(), UnlinkatFlags::RemoveDir)?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    /// Writes whiteouts, and what directories could not get while entries were
    /// written into them.
    fn finish(mut self) -> Result<Summary, LayerError> {
        self.current = None;
        self.write_whiteouts()?;
        let directories = std::mem::take(&mut self.directories);
        self.summary.hides_lower_layers =
            directories.get(&b""[..]).is_some_and(|root| root.is_opaque);
        let is_implied =
            |(path, directory): (&Name, &Directory)| directory.is_implied.then(|| path.clone());
        self.summary.implied_directories = directories.iter().filter_map(is_implied).collect();
        // Children come after their parents: last ones first, for without
        // privileges a parent's mode may shut its children off.
        for (path, directory) in directories.into_iter().rev() {
            self.complete(&path, &directory).map_err(|reason| in_directory(&path, reason))?;
        }
        Ok(self.summary)
    }

    fn complete(&mut self, path: &[u8], directory: &Directory) -> Outcome<()> {
        let fd = self.open(path)?;
        let marks: &[_] = match self.options.whiteouts {
            Whiteouts::Both => &[c"trusted.overlay.opaque", c"user.overlay.opaque"],
            Whiteouts::User => &[c"user.overlay.opaque"],
            Whiteouts::Plain => &[],
        };
        for mark in marks.iter().filter(|_| directory.is_opaque) {
            sys::xattr::set_opened(fd.as_fd(), mark, b"y")
                .map_err(|errno| Reason::System("mark the directory opaque", errno))?;
        }
        self.describe(fd.as_fd(), &directory.attributes, path)
    }

    fn write_whiteouts(&mut self) -> Result<(), LayerError> {
        let mut hidden: Vec<(Name, Vec<Vec<u8>>)> = Vec::new();
        for (path, directory) in &mut self.directories {
            if !directory.whiteouts.is_empty() {
                hidden.push((path.clone(), std::mem::take(&mut directory.whiteouts)));
            }
        }
        // First all of those that make a directory opaque: its own are void.
        for (path, names) in &mut hidden {
            names.retain(|name| match self.directories.get_mut(&join(path, name)) {
                Some(directory) => {
                    directory.is_opaque = true;
                    false
                }
                None => true,
            });
        }
        for (path, names) in hidden {
            if !self.directory(&path).is_opaque {
                self.hide(&path, &names).map_err(|reason| in_directory(&path, reason))?;
            }
        }
        Ok(())
    }

    fn hide(&self, path: &[u8], names: &[Vec<u8>]) -> Outcome<()> {
        let fd = self.open(path)?;
        for name in names {
            // Everybody may make this one device.
            match mknodat(&fd, name.as_slice(), SFlag::S_IFCHR, Mode::empty(), 0) {
                // The layer holds a file of that name, or hides it twice.
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(Reason::System("make a whiteout", errno)),
            }
        }
        Ok(())
    }
}

fn in_directory(path: &[u8], reason: Reason) -> LayerError {
    let shown = if path.is_empty() { "/".to_owned() } else { escape(path) };
    LayerError { entry: Some(shown), reason }
}

fn write<R: BufRead>(file: &File, map: &Map, reader: &mut Reader<R>) -> Outcome<()> {
    let failed = |errno| Reason::System("write the file", errno);
    for range in &map.ranges {
        let mut offset = range.offset;
        reader.read_data(range.length, |piece| {
            let result = file.write_all_at(piece, offset);
            result.map_err(|error| failed(errno_of(&error)))?;
            offset += piece.len() as u64;
            Ok(())
        })?;
    }
    let end = map.ranges.last().map_or(0, |range| range.offset + range.length);
    if end != map.size {
        file.set_len(map.size).map_err(|error| failed(errno_of(&error)))?;
    }
    Ok(())
}

fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn look(at: BorrowedFd<'_>, name: &[u8]) -> Outcome<FileStat> {
    fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(|errno| Reason::System("look at it", errno))
}

fn kind_of(stat: &FileStat) -> &'static str {
    match SFlag::from_bits_truncate(stat.st_mode & libc::S_IFMT) {
        SFlag::S_IFLNK => "a symbolic link",
        SFlag::S_IFREG => "a file",
        SFlag::S_IFIFO => "a FIFO",
        _ => "a device",
    }
}
