//! Questions that a unit is written from: what files in a directory would
//! need, what a program calls. A closure itself is not made of the answers.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::elf::{self, Image};
use super::tree::{Kind, Tree};

/// Files below one directory that are looked at.
const FILES: usize = 100_000;

/// Where a path leads in a tree, and whether to a directory; `None` where it
/// leads nowhere.
pub(crate) fn real_path(root: &Path, path: &Path) -> Option<(PathBuf, bool)> {
    let found = Tree::new(root).ok()?.walk(path).ok()?;
    Some((found.real, found.kind == Kind::Directory))
}

/// The path by which a program is found.
pub(crate) fn program_path(root: &Path, name: &str, directories: &str) -> Option<PathBuf> {
    let mut tree = Tree::new(root).ok()?;
    directories.split(':').map(|directory| Path::new(directory).join(name)).find(|path| {
        matches!(tree.walk(path), Ok(found) if found.kind == (Kind::File { executable: true }))
    })
}

/// Names of libraries that ELF files below a directory need, and that are not
/// below it themselves.
pub(crate) fn libraries_needed_below(root: &Path, directory: &Path) -> BTreeSet<String> {
    let mut needed = BTreeSet::new();
    let mut own = BTreeSet::new();
    let Ok(mut tree) = Tree::new(root) else { return needed };
    let Ok(found) = tree.walk(directory) else { return needed };
    let mut directories = vec![found.real];
    let mut left = FILES;
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(tree.on_host(&directory)) else { continue };
        for entry in entries.flatten() {
            if left == 0 {
                return needed;
            }
            left -= 1;
            let path = directory.join(entry.file_name());
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(data) = entry.metadata() else { continue };
            if data.is_dir() {
                directories.push(path);
            } else if data.is_file()
                && (name.contains(".so") || data.permissions().mode() & 0o111 != 0)
            {
                let image = tree.open(&path).ok().and_then(|file| elf::read(&file).ok());
                if let Some(Image::Elf(object)) = image {
                    let names = object.needed.iter().flat_map(|need| need.names.iter().cloned());
                    needed.extend(names.filter(|name| !name.contains('/')));
                    own.insert(name);
                }
            } else {
                own.insert(name);
            }
        }
    }
    needed.difference(&own).cloned().collect()
}

/// Whether a program refers to one of some names, as it must to call them.
pub(crate) fn mentions(root: &Path, program: &Path, names: &[&str]) -> bool {
    let strings = || {
        let mut tree = Tree::new(root).ok()?;
        let found = tree.walk(program).ok()?;
        elf::string_table(&tree.open(&found.real).ok()?)
    };
    strings().is_some_and(|table| {
        table
            .split(|byte| *byte == 0)
            .any(|known| names.iter().any(|name| name.as_bytes() == known))
    })
}
