//! A tree as a value: everything that unpacking may get wrong.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// What a file is, with what belongs to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Directory,
    /// Its content, and whether parts of it are holes.
    File(Vec<u8>, bool),
    Link(OsString),
    Character(u64),
    Block(u64),
    Fifo,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub what: What,
    pub mode: u32,
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, i64),
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// The first path of the same file.
    pub same_as: Option<PathBuf>,
}

pub type Tree = BTreeMap<PathBuf, Node>;

/// Reads a whole tree; the root is the empty path.
pub fn read(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut seen = HashMap::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(path) = pending.pop() {
        let on_disk = root.join(&path);
        let metadata = fs::symlink_metadata(&on_disk).unwrap();
        if metadata.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&on_disk).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            // Taken from the end.
            names.sort_by(|a, b| b.cmp(a));
            pending.extend(names.iter().map(|name| path.join(name)));
        }
        let inode = (metadata.dev(), metadata.ino());
        let same_as = seen.get(&inode).cloned();
        seen.entry(inode).or_insert_with(|| path.clone());
        let node = Node {
            what: what(&on_disk, &metadata),
            mode: metadata.mode() & 0o7777,
            owner: (metadata.uid(), metadata.gid()),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            xattrs: xattrs(&on_disk),
            same_as,
        };
        tree.insert(path, node);
    }
    tree
}

fn what(path: &Path, metadata: &fs::Metadata) -> What {
    let kind = metadata.file_type();
    if kind.is_dir() {
        What::Directory
    } else if kind.is_symlink() {
        What::Link(fs::read_link(path).unwrap().into_os_string())
    } else if kind.is_fifo() {
        What::Fifo
    } else if kind.is_char_device() {
        What::Character(metadata.rdev())
    } else if kind.is_block_device() {
        What::Block(metadata.rdev())
    } else {
        let has_holes = metadata.blocks() * 512 < metadata.size();
        What::File(fs::read(path).unwrap(), has_holes)
    }
}

fn xattrs(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let value = |name: &OsString| xattr::get(path, name).unwrap().unwrap_or_default();
    xattr::list(path).unwrap().map(|name| (name.clone(), value(&name))).collect()
}

/// Names of all nodes but the root, in order.
pub fn names(tree: &Tree) -> Vec<String> {
    tree.keys().skip(1).map(|path| path.display().to_string()).collect()
}

/// Fails with the first difference.
#[track_caller]
pub fn assert_same(found: &Tree, expected: &Tree) {
    assert_eq!(names(found), names(expected), "names");
    for (path, node) in expected {
        assert_eq!(&found[path], node, "{}", path.display());
    }
}
