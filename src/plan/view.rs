//! The jail's tree as it will be: the root and the mounts planned so far, so
//! that a path inside can be followed before anything is mounted.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use super::step::NodeKind;
use crate::changes::Marks;
use crate::host::{Host, Kind};

/// Where a part of the jail's tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A path of the host, without links.
    Host(PathBuf),
    /// Directories of the host laid over each other, top-most first.
    Layers(Vec<PathBuf>),
    /// Memory: empty but for what the plan makes in it.
    Memory,
    /// A file that the plan writes, which nobody may execute.
    Written,
    /// The kernel: looks like the host's path, and nothing can be made in it.
    Kernel(PathBuf),
    /// The kernel: a directory of these devices, and nothing can be made in it.
    Bare(&'static [(&'static str, u32, u32)]),
}

/// Why a path is not followed: what it leads to in procfs is of a process, and
/// the planner's own, or the host's of that number, is not the jail's.
#[derive(Debug)]
struct OfProcess;

impl std::fmt::Display for OfProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("leads to what one process has in `/proc`")
    }
}

impl std::error::Error for OfProcess {}

/// Whether a walk has ended at what procfs shows of one process.
pub(super) fn is_of_process(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<OfProcess>())
}

/// Whether procfs has a process by that name: a number, or whoever asks.
fn is_process(name: &[u8]) -> bool {
    matches!(name, b"self" | b"thread-self")
        || !name.is_empty() && name.iter().all(u8::is_ascii_digit)
}

/// The first part of a relative path.
fn first(path: &[u8]) -> &[u8] {
    path.split(|byte| *byte == b'/').next().unwrap_or_default()
}

#[derive(Clone, Debug)]
struct Layer {
    order: usize,
    place: Place,
    read_only: bool,
    is_root: bool,
}

/// The tree so far.
#[derive(Clone, Debug)]
pub struct View {
    /// Which marks an overlay of the jail heeds.
    marks: Marks,
    order: usize,
    // Keyed by the bytes of paths that are all normal: to compare or hash a
    // `Path` means to take it apart each time.
    layers: BTreeMap<OsString, Layer>,
    made: BTreeMap<OsString, Made>,
}

#[derive(Clone, Debug)]
enum Made {
    Node(NodeKind),
    Link(String),
}

/// Where a path of the jail leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To something; the path is without links.
    Found(PathBuf, Kind),
    /// To nothing; the path is without links as far as it exists.
    Missing(PathBuf),
}

/// What holds a path that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where it comes from.
    pub place: Place,
    /// Whether it was mounted read-only.
    pub read_only: bool,
    /// Whether it is the root itself, not a mount in it.
    pub is_root: bool,
}

impl View {
    /// An empty one.
    pub fn new(marks: Marks) -> Self {
        Self { marks, order: 0, layers: BTreeMap::new(), made: BTreeMap::new() }
    }

    /// Makes it empty again.
    pub fn clear(&mut self) {
        *self = Self::new(self.marks);
    }

    /// Adds a mount over a path without links.
    pub fn mount(&mut self, target: &Path, place: Place, read_only: bool) {
        let order = self.order;
        self.order += 1;
        self.made.remove(target.as_os_str());
        hide_below(&mut self.made, target);
        hide_below(&mut self.layers, target);
        let is_root = order == 0;
        let target = target.as_os_str().to_owned();
        self.layers.insert(target, Layer { order, place, read_only, is_root });
    }

    /// Adds a file or directory that the plan makes, with its parents.
    pub fn make(&mut self, path: &Path, kind: NodeKind) {
        self.made.insert(path.as_os_str().to_owned(), Made::Node(kind));
        self.make_parents(path);
    }

    fn make_parents(&mut self, path: &Path) {
        for parent in parents(path).skip(1) {
            // Its own parents have been, with it.
            if self.made.contains_key(parent) {
                break;
            }
            self.made.insert(parent.to_owned(), Made::Node(NodeKind::Directory));
        }
    }

    /// Whether the plan makes it.
    pub fn is_made(&self, path: &Path) -> bool {
        self.made.contains_key(path.as_os_str())
    }

    /// Whether the plan makes it, or mounts something there.
    pub(super) fn is_planned(&self, path: &Path) -> bool {
        self.is_made(path) || self.layers.contains_key(path.as_os_str())
    }

    /// Adds a symbolic link that the plan makes.
    pub fn link(&mut self, path: &Path, to: &str) {
        self.make_parents(path);
        self.made.insert(path.as_os_str().to_owned(), Made::Link(to.to_owned()));
    }

    /// The mount that holds a path: the latest over it or one of its parents.
    pub fn holder(&self, path: &Path) -> Option<Holder> {
        let (_, layer) = self.layer(path)?;
        Some(Holder {
            place: layer.place.clone(),
            read_only: layer.read_only,
            is_root: layer.is_root,
        })
    }

    fn layer<'a>(&'a self, path: &'a Path) -> Option<(&'a Path, &'a Layer)> {
        parents(path)
            .filter_map(|parent| Some((Path::new(parent), self.layers.get(parent)?)))
            .max_by_key(|(_, layer)| layer.order)
    }

    /// The host's path behind a path of the jail without links; `None` where
    /// there is only memory, or no layer holds it.
    pub fn behind(&self, host: &impl Host, path: &Path) -> Option<PathBuf> {
        self.find(host, path).map(|(behind, _)| behind)
    }

    /// The same, and what is there where that had to be asked.
    fn find(&self, host: &impl Host, path: &Path) -> Option<(PathBuf, Option<Kind>)> {
        let (target, layer) = self.layer(path)?;
        let below = path.strip_prefix(target).ok()?;
        match &layer.place {
            Place::Host(base) | Place::Kernel(base) if below.as_os_str().is_empty() => {
                Some((base.clone(), None))
            }
            Place::Host(base) | Place::Kernel(base) => Some((base.join(below), None)),
            Place::Layers(layers) => in_layers(host, layers, below, self.marks),
            Place::Memory | Place::Written | Place::Bare(_) => None,
        }
    }

    /// Whether a path that is without links so far is what procfs has of one
    /// process.
    pub(super) fn is_of_process(&self, path: &Path) -> bool {
        use std::os::unix::ffi::OsStrExt as _;
        // Few paths have such a name in them at all.
        if !path.as_os_str().as_bytes().split(|byte| *byte == b'/').any(is_process) {
            return false;
        }
        let Some((target, Layer { place: Place::Host(base) | Place::Kernel(base), .. })) =
            self.layer(path)
        else {
            return false;
        };
        let Some(below) = rest_below(path, target) else { return false };
        let below = below.as_bytes();
        match base.as_os_str().as_bytes() {
            b"/" => below.strip_prefix(b"proc/").is_some_and(|below| is_process(first(below))),
            b"/proc" => is_process(first(below)),
            _ => false,
        }
    }

    /// What the host has behind a path of the jail without links; `None` as
    /// for [`View::behind`].
    pub fn look_behind(&self, host: &impl Host, path: &Path) -> Option<io::Result<Kind>> {
        self.find(host, path).map(|(behind, kind)| kind.map_or_else(|| host.look(&behind), Ok))
    }

    /// What is at a path of the jail without links.
    pub(super) fn look(&self, host: &impl Host, path: &Path) -> io::Result<Kind> {
        match self.made.get(path.as_os_str()) {
            Some(Made::Node(NodeKind::Directory)) => return Ok(Kind::Directory),
            Some(Made::Node(NodeKind::File)) => return Ok(Kind::File { executable: false }),
            Some(Made::Link(_)) => return Ok(Kind::Link),
            None => {}
        }
        if let Some(found) = self.look_behind(host, path) {
            return found;
        }
        if let Some((target, Layer { place: Place::Bare(devices), .. })) = self.layer(path)
            && let Some(name) = rest_below(path, target)
        {
            let device = devices.iter().find(|(known, ..)| name == *known);
            let (_, major, minor) = device.ok_or(io::ErrorKind::NotFound)?;
            return Ok(Kind::Character(*major, *minor));
        }
        match self.layers.get(path.as_os_str()).map(|layer| &layer.place) {
            Some(Place::Written) => Ok(Kind::File { executable: false }),
            Some(_) => Ok(Kind::Directory),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Target of a link at a path of the jail.
    pub(super) fn read_link(&self, host: &impl Host, path: &Path) -> io::Result<PathBuf> {
        if let Some(Made::Link(to)) = self.made.get(path.as_os_str()) {
            return Ok(to.into());
        }
        match self.behind(host, path) {
            Some(behind) => host.read_link(&behind),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Where a path leads that the plan does not make, when that can be told at
    /// once.
    fn walk_plain(&self, host: &impl Host, path: &Path) -> Option<Walk> {
        if self.is_of_process(path) {
            return None;
        }
        if let Some(behind) = self.right_in_mount(path) {
            return match host.look(&behind) {
                Ok(Kind::Link) => None,
                Ok(kind) => Some(Walk::Found(path.to_owned(), kind)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Some(Walk::Missing(path.to_owned()))
                }
                Err(_) => None,
            };
        }
        let behind = self.behind(host, path)?;
        let (same, kind) = host.canonical(&behind).ok()?;
        (same.as_os_str() == behind.as_os_str()).then(|| Walk::Found(path.to_owned(), kind))
    }

    /// The host's path behind a path whose parent is itself a mount of a part of
    /// the host's tree: there is nothing on the way that could be a link.
    fn right_in_mount(&self, path: &Path) -> Option<PathBuf> {
        let (target, layer) = self.layer(path)?;
        let (Place::Host(base) | Place::Kernel(base)) = &layer.place else { return None };
        let name = rest_below(path, target)?;
        let is_one = !name.as_encoded_bytes().contains(&b'/') && name != "." && name != "..";
        is_one.then(|| base.join(name))
    }

    /// Follows a path as a process of the jail would, though to nothing that one
    /// process has in procfs, see [`is_of_process`].
    pub fn walk(&self, host: &impl Host, path: &Path) -> io::Result<Walk> {
        // Most paths have no link on the way, which one call tells.
        if !self.made.contains_key(path.as_os_str())
            && let Some(walk) = self.walk_plain(host, path)
        {
            return Ok(walk);
        }
        self.walk_slowly(host, path)
    }

    /// The same, part by part.
    pub(super) fn walk_slowly(&self, host: &impl Host, path: &Path) -> io::Result<Walk> {
        let mut current = PathBuf::from("/");
        let mut kind = Kind::Directory;
        let mut rest: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                current.pop();
                continue;
            }
            if kind != Kind::Directory {
                return Err(io::Error::from(io::ErrorKind::NotADirectory));
            }
            let next = current.join(&name);
            if !self.is_made(&next) && self.is_of_process(&next) {
                return Err(io::Error::other(OfProcess));
            }
            match self.look(host, &next) {
                Ok(Kind::Link) => {
                    links += 1;
                    if links > 40 {
                        return Err(io::Error::other("too many levels of links"));
                    }
                    let to = self.read_link(host, &next)?;
                    if to.is_absolute() {
                        current = "/".into();
                    }
                    for name in names(&to).into_iter().rev() {
                        rest.push_front(name);
                    }
                    kind = Kind::Directory;
                }
                Ok(found) => {
                    kind = found;
                    current = next;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    if rest.iter().any(|name| name == "..") {
                        return Err(error);
                    }
                    let missing = rest.iter().fold(next, |path, name| path.join(name));
                    return Ok(Walk::Missing(missing));
                }
                Err(error) => return Err(error),
            }
        }
        let kind =
            if current.parent().is_none() { Kind::Directory } else { self.look(host, &current)? };
        Ok(Walk::Found(current, kind))
    }
}

/// Removes what lies below a path.
fn hide_below<T>(map: &mut BTreeMap<OsString, T>, path: &Path) {
    if map.is_empty() {
        return;
    }
    let below = |end: &str| {
        let mut bound = path.as_os_str().to_owned();
        bound.push(end);
        bound
    };
    // Everything that starts with the path and a slash: `0` follows it.
    let hidden: Vec<_> = map.range(below("/")..below("0")).map(|(path, _)| path.clone()).collect();
    for path in hidden {
        map.remove(&path);
    }
}

/// Where an overlay of these directories finds a path, and what: the first that
/// holds it, unless one above hides it by a whiteout or an opaque directory.
fn in_layers(
    host: &impl Host,
    layers: &[PathBuf],
    below: &Path,
    marks: Marks,
) -> Option<(PathBuf, Option<Kind>)> {
    for layer in layers {
        let mut here = layer.clone();
        let mut kind = None;
        let mut is_last = false;
        let mut names = below.components().peekable();
        let found = loop {
            let Some(name) = names.next() else { break true };
            here.push(name);
            let there = match host.look(&here) {
                Ok(there) => there,
                Err(error) if is_missing(&error) => break false,
                // Who asks for what is there is told why there is no answer.
                Err(_) => return Some((layer.join(below), None)),
            };
            match there {
                Kind::Character(0, 0) => return None,
                Kind::Directory => {
                    is_last |= names.peek().is_some() && host.is_opaque(&here, marks);
                }
                _ if names.peek().is_some() => return None,
                _ => {}
            }
            kind = Some(there);
        };
        if found {
            return Some((here, kind));
        }
        if is_last {
            return None;
        }
    }
    None
}

/// Whether an error says that there is nothing.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// What of a normal absolute path comes after that of a directory above it. By
/// bytes: to compare a `Path` means to take it apart each time.
pub(super) fn rest_below<'p>(path: &'p Path, directory: &Path) -> Option<&'p OsStr> {
    use std::os::unix::ffi::OsStrExt as _;
    let directory = directory.as_os_str().as_bytes();
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let rest = path.as_os_str().as_bytes().strip_prefix(directory)?.strip_prefix(b"/")?;
    (!rest.is_empty()).then(|| OsStr::from_bytes(rest))
}

/// A normal absolute path and all above it, longest first.
fn parents(path: &Path) -> impl Iterator<Item = &OsStr> {
    use std::os::unix::ffi::OsStrExt as _;
    std::iter::successors(Some(path.as_os_str().as_bytes()), |path| match *path {
        [] | b"/" => None,
        path => match path.iter().rposition(|byte| *byte == b'/')? {
            0 => Some(&path[..1]),
            slash => Some(&path[..slash]),
        },
    })
    .map(OsStr::from_bytes)
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_go_up_to_the_root() {
        let list = |path: &str| -> Vec<String> {
            parents(Path::new(path)).map(|path| path.to_string_lossy().into_owned()).collect()
        };
        assert_eq!(list("/a/bc/d"), ["/a/bc/d", "/a/bc", "/a", "/"]);
        assert_eq!(list("/"), ["/"]);
    }

    #[test]
    fn what_is_below_a_directory_is_what_its_path_goes_on_with() {
        let below = |path: &'static str, directory: &str| {
            rest_below(Path::new(path), Path::new(directory)).and_then(OsStr::to_str)
        };
        assert_eq!(below("/a/b/c", "/a"), Some("b/c"));
        assert_eq!(below("/a", "/"), Some("a"));
        for (path, directory) in [("/a", "/a"), ("/ab", "/a"), ("/", "/"), ("/b", "/a")] {
            assert_eq!(below(path, directory), None, "{path} {directory}");
        }
    }

    #[test]
    fn a_mount_hides_what_was_made_below_it_and_nothing_else() {
        let mut view = View::new(Marks::Trusted);
        view.mount(Path::new("/"), Place::Memory, false);
        for path in ["/a/b", "/a-b", "/ab"] {
            view.make(Path::new(path), NodeKind::File);
        }
        view.mount(Path::new("/a"), Place::Memory, false);
        assert!(!view.is_made(Path::new("/a/b")) && !view.is_made(Path::new("/a")));
        assert!(view.is_made(Path::new("/a-b")) && view.is_made(Path::new("/ab")));
    }
}
