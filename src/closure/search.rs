//! Where the loaders look for libraries: glibc's as ld.so(8) has it, and
//! musl's. What becomes of a library that is found is not decided here.
//!
//! The jail's environment is not known here, so `LD_LIBRARY_PATH` and
//! `LD_PRELOAD` have no part in it; nor has `/etc/ld.so.preload`, which is not
//! in the jail.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use elf::abi;

use super::cache::{self, Cache};
use super::elf::{self as object, Fault, Format, Image, Object};
use super::tree::{Found, Kind, Lost, Tree};

/// Largest path file of musl that is read.
const PATH_FILE: u64 = 64 * 1024;

/// Whose loader it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    Glibc,
    Musl,
}

/// A dynamic loader.
#[derive(Debug)]
pub(super) struct Loader {
    /// Its path without links.
    pub(super) real: PathBuf,
    pub(super) object: Rc<Object>,
    pub(super) flavour: Flavour,
    pub(super) format: Format,
    /// Where it searches after everything else.
    pub(super) directories: Vec<Rc<Path>>,
    /// The file that says so, for musl's.
    pub(super) path_file: Option<Found>,
    /// `$LIB`.
    lib: String,
}

impl Loader {
    /// What follows from a loader's place. `named` is its path as programs
    /// have it.
    pub(super) fn new(tree: &mut Tree, named: &str, real: PathBuf, object: Rc<Object>) -> Self {
        let name = named.rsplit('/').next().unwrap_or_default();
        match name.strip_prefix("ld-musl-").and_then(|rest| rest.strip_suffix(".so.1")) {
            Some(arch) => Self::musl(tree, named, arch, real, object),
            None => Self::glibc(real, object),
        }
    }

    /// Its directories are compiled into glibc's. They are those it is
    /// installed in: `/lib64` and `/usr/lib64`, or with Debian's layout
    /// `/lib/TRIPLET`, `/usr/lib/TRIPLET`, `/lib` and `/usr/lib`.
    fn glibc(real: PathBuf, object: Rc<Object>) -> Self {
        let home = real.parent().unwrap_or(Path::new("/"));
        let below = home.strip_prefix("/usr").or(home.strip_prefix("/")).unwrap_or(home);
        let is_system =
            ["lib", "lib32", "lib64", "libx32"].iter().any(|lib| below.starts_with(lib));
        let (lib, directories) = if is_system {
            // `lib/TRIPLET` and `lib`, or `lib64`.
            let levels = below.ancestors().filter(|level| !level.as_os_str().is_empty());
            let both = |level: &Path| ["/", "/usr"].map(|top| Rc::from(Path::new(top).join(level)));
            (below.display().to_string(), levels.flat_map(both).collect())
        } else {
            ("lib".to_owned(), vec![home.into()])
        };
        let (flavour, format) = (Flavour::Glibc, object.format);
        Self { real, object, flavour, format, directories, path_file: None, lib }
    }

    fn musl(tree: &mut Tree, named: &str, arch: &str, real: PathBuf, object: Rc<Object>) -> Self {
        // Beside the loader's own directory: `/usr/musl/lib/ld-…` has
        // `/usr/musl/etc/ld-….path`.
        let prefix = Path::new(named).parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let file = tree.walk(&prefix.join(format!("etc/ld-musl-{arch}.path"))).ok();
        let listed = match &file {
            None => "/lib:/usr/local/lib:/usr/lib".to_owned(),
            Some(found) => tree
                .read(&found.real, PATH_FILE)
                .ok()
                .and_then(|content| String::from_utf8(content).ok())
                .unwrap_or_default(),
        };
        let directories = listed
            .split([':', '\n'])
            .filter(|directory| directory.starts_with('/'))
            .map(|directory| Path::new(directory).into())
            .collect();
        let (flavour, format, lib) = (Flavour::Musl, object.format, "lib".to_owned());
        Self { real, object, flavour, format, directories, path_file: file, lib }
    }

    /// Whether a library lies where the loader looks by itself.
    fn searches(&self, path: &Path) -> bool {
        let is_own = |home: &Path| self.directories.iter().any(|directory| **directory == *home);
        let Some(home) = path.parent() else { return false };
        let level = home.parent().filter(|hwcaps| hwcaps.ends_with("glibc-hwcaps"));
        is_own(home) || level.and_then(Path::parent).is_some_and(is_own)
    }

    /// `$PLATFORM`, from the kernel's `AT_PLATFORM`.
    fn platform(&self) -> &'static str {
        match self.format.machine {
            abi::EM_X86_64 => "x86_64",
            abi::EM_386 => "i686",
            abi::EM_AARCH64 => "aarch64",
            _ => "",
        }
    }

    /// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM`, braced or not; `None` where
    /// the loader drops the text.
    fn expand(&self, text: &str, origin: &Path) -> Option<String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            out.push_str(before);
            rest = after;
            let origin = origin.to_str()?;
            let tokens = [("ORIGIN", origin), ("LIB", &*self.lib), ("PLATFORM", self.platform())];
            let known = match self.flavour {
                Flavour::Glibc => &tokens[..],
                Flavour::Musl => &tokens[..1],
            };
            let hit = known.iter().find_map(|(name, value)| {
                let braced = after
                    .strip_prefix('{')
                    .and_then(|after| after.strip_prefix(name)?.strip_prefix('}'));
                Some((braced.or_else(|| after.strip_prefix(name))?, value))
            });
            match (hit, self.flavour) {
                (Some((after, value)), _) => {
                    out.push_str(value);
                    rest = after;
                }
                (None, Flavour::Glibc) => out.push('$'),
                (None, Flavour::Musl) => return None,
            }
        }
        out.push_str(rest);
        Some(out)
    }

    /// Directories of a `DT_RPATH` or `DT_RUNPATH`. Relative ones start at the
    /// working directory of whoever starts the program: nobody's in the jail.
    fn list(&self, text: Option<&str>, origin: &Path) -> Vec<Rc<Path>> {
        let Some(text) = text else { return Vec::new() };
        match self.flavour {
            Flavour::Glibc => text
                .split(':')
                .filter_map(|part| self.expand(part, origin))
                .filter(|part| part.starts_with('/'))
                .map(|part| Path::new(&part).into())
                .collect(),
            Flavour::Musl => self
                .expand(text, origin)
                .iter()
                .flat_map(|text| text.split([':', '\n']))
                .filter(|part| part.starts_with('/'))
                .map(|part| Path::new(part).into())
                .collect(),
        }
    }
}

/// An object in a program's memory.
#[derive(Debug)]
pub(super) struct Loaded {
    /// The path it was opened by.
    opened_as: PathBuf,
    pub(super) real: PathBuf,
    pub(super) object: Rc<Object>,
    /// Who asked for it first.
    by: Option<usize>,
    rpath: Vec<Rc<Path>>,
    runpath: Vec<Rc<Path>>,
}

/// The objects of one program, the program first, which asked for all others.
#[derive(Debug)]
pub(super) struct Namespace {
    pub(super) loader: Rc<Loader>,
    pub(super) objects: Vec<Loaded>,
    names: HashMap<String, usize>,
    files: HashMap<OsString, usize>,
    /// Objects whose `DT_NEEDED` and whose notes have been followed.
    pub(super) needs_followed: usize,
    pub(super) notes_followed: usize,
}

impl Namespace {
    pub(super) fn new(loader: Rc<Loader>) -> Self {
        Self {
            loader,
            objects: Vec::new(),
            names: HashMap::new(),
            files: HashMap::new(),
            needs_followed: 0,
            notes_followed: 0,
        }
    }

    /// Adds an object, which `name` stands for from here on.
    pub(super) fn add(
        &mut self,
        name: &str,
        opened_as: PathBuf,
        real: PathBuf,
        object: Rc<Object>,
        by: Option<usize>,
    ) {
        if let Some(index) = self.files.get(real.as_os_str()) {
            self.names.insert(name.to_owned(), *index);
            return;
        }
        let index = self.objects.len();
        self.names.insert(name.to_owned(), index);
        // Only glibc goes by what a library says its name is.
        if self.loader.flavour == Flavour::Glibc
            && let Some(soname) = &object.soname
        {
            self.names.entry(soname.clone()).or_insert(index);
        }
        self.files.insert(real.clone().into(), index);
        // The kernel tells a program where it is; a library goes by its path.
        let place = if by.is_none() { &real } else { &opened_as };
        let origin = place.parent().unwrap_or(Path::new("/"));
        let rpath = self.loader.list(object.rpath.as_deref(), origin);
        let runpath = self.loader.list(object.runpath.as_deref(), origin);
        self.objects.push(Loaded { opened_as, real, object, by, rpath, runpath });
    }

    /// Whether the name stands for an object that is there.
    pub(super) fn has(&self, name: &str) -> bool {
        /// Parts of musl's one library: the loader itself.
        const MUSL: [&str; 7] = ["c.", "pthread.", "rt.", "m.", "dl.", "util.", "xnet."];
        let is_builtin = |rest: &str| MUSL.iter().any(|part| rest.starts_with(part));
        self.names.contains_key(name)
            || self.loader.flavour == Flavour::Musl
                && name.strip_prefix("lib").is_some_and(is_builtin)
    }

    /// An object and those that asked for it, one after the other.
    fn chain(&self, from: usize) -> impl Iterator<Item = &Loaded> {
        std::iter::successors(Some(&self.objects[from]), |loaded| Some(&self.objects[loaded.by?]))
    }
}

/// How a library was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Through {
    /// In a directory that the loader in the jail searches too.
    Directory,
    /// Named by `/etc/ld.so.cache`.
    Cache,
    /// In a directory of `/etc/ld.so.conf`, which ldconfig(8) has not seen.
    Configuration,
}

/// A library.
#[derive(Debug)]
pub(super) struct Hit {
    pub(super) opened_as: PathBuf,
    pub(super) found: Found,
    pub(super) object: Rc<Object>,
    pub(super) through: Through,
}

/// Why the search ended before its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// The loader would take this file, and fail.
    NotALibrary { path: PathBuf, reason: String },
    /// A bound is reached.
    TooMuch,
}

type Searched = Result<Option<Hit>, Stop>;

/// A tree with what has been read in it.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) tree: Tree,
    images: HashMap<OsString, Result<Image, Fault>>,
    /// Directories that exist, with their `glibc-hwcaps` in front.
    variants: HashMap<OsString, Rc<[Rc<Path>]>>,
    cache: Option<Option<Rc<Cache>>>,
    configured: Option<Rc<[Rc<Path>]>>,
    /// Levels of the processor; see [`levels`].
    pub(super) levels: Option<&'static [&'static str]>,
}

impl Search {
    pub(super) fn new(tree: Tree) -> Self {
        Self {
            tree,
            images: HashMap::new(),
            variants: HashMap::new(),
            cache: None,
            configured: None,
            levels: None,
        }
    }

    /// What a regular file is; its path leads over no links.
    pub(super) fn image(&mut self, real: &Path) -> Result<Image, Fault> {
        if let Some(known) = self.images.get(real.as_os_str()) {
            return known.clone();
        }
        let image = self.tree.open(real).map_err(Fault::from).and_then(|file| object::read(&file));
        self.images.insert(real.into(), image.clone());
        image
    }

    /// Finds a library that `objects[by]` asks for. The places searched are
    /// added to `searched`.
    pub(super) fn find(
        &mut self,
        space: &Namespace,
        by: usize,
        name: &str,
        searched: &mut Vec<Rc<Path>>,
    ) -> Searched {
        if name.contains('/') {
            let origin = space.objects[by].opened_as.parent().unwrap_or(Path::new("/"));
            return match space.loader.expand(name, origin) {
                Some(path) if path.starts_with('/') => {
                    self.candidate(&space.loader, Path::new(&path), Through::Directory)
                }
                _ => Ok(None),
            };
        }
        match space.loader.flavour {
            Flavour::Glibc => self.find_as_glibc(space, by, name, searched),
            Flavour::Musl => self.find_as_musl(space, by, name, searched),
        }
    }

    fn find_as_glibc(
        &mut self,
        space: &Namespace,
        by: usize,
        name: &str,
        searched: &mut Vec<Rc<Path>>,
    ) -> Searched {
        let (loader, asking) = (&*space.loader, &space.objects[by]);
        // A DT_RUNPATH switches off the DT_RPATH of its own object, and of all
        // that asked for that object.
        if asking.object.runpath.is_none() {
            for loaded in space.chain(by) {
                self.tree.charge(1).map_err(|_| Stop::TooMuch)?;
                if loaded.object.runpath.is_none()
                    && let Some(hit) = self.in_directories(loader, &loaded.rpath, name, searched)?
                {
                    return Ok(Some(hit));
                }
            }
        }
        if let Some(hit) = self.in_directories(loader, &asking.runpath, name, searched)? {
            return Ok(Some(hit));
        }
        let no_default = asking.object.no_default_directories;
        let is_below_default =
            |path: &Path| loader.directories.iter().any(|directory| path.starts_with(directory));
        if let Some(cache) = self.cache() {
            searched.push(Path::new(cache::CACHE).into());
            let levels =
                if cache.has_hwcaps() { self.levels(loader.format) } else { Default::default() };
            if let Some(path) = cache.find(name, loader.format, levels).map(Path::new)
                && !(no_default && is_below_default(path))
            {
                let is_searched = loader.searches(path);
                let through = if is_searched { Through::Directory } else { Through::Cache };
                if let Some(hit) = self.candidate(loader, path, through)? {
                    return Ok(Some(hit));
                }
            }
        }
        if !no_default
            && let Some(hit) = self.in_directories(loader, &loader.directories, name, searched)?
        {
            return Ok(Some(hit));
        }
        if self.cache().is_some() {
            return Ok(None);
        }
        let configured = self.configured();
        let hit = self.in_directories(loader, &configured, name, searched)?;
        Ok(hit.map(|hit| Hit { through: Through::Configuration, ..hit }))
    }

    fn find_as_musl(
        &mut self,
        space: &Namespace,
        by: usize,
        name: &str,
        searched: &mut Vec<Rc<Path>>,
    ) -> Searched {
        let loader = &*space.loader;
        for loaded in space.chain(by) {
            self.tree.charge(1).map_err(|_| Stop::TooMuch)?;
            let both = [&loaded.runpath, &loaded.rpath];
            let first = usize::from(loaded.object.runpath.is_none());
            if let Some(hit) = self.in_directories(loader, both[first], name, searched)? {
                return Ok(Some(hit));
            }
        }
        self.in_directories(loader, &loader.directories, name, searched)
    }

    fn in_directories(
        &mut self,
        loader: &Loader,
        directories: &[Rc<Path>],
        name: &str,
        searched: &mut Vec<Rc<Path>>,
    ) -> Searched {
        for directory in directories {
            searched.push(directory.clone());
            for variant in self.variants(loader, directory)?.iter() {
                let hit = match self.tree.walk_in(variant, name) {
                    Ok(found) => self.accept(loader, variant.join(name), found, Through::Directory),
                    Err(lost) => absent(lost),
                };
                if let Some(hit) = hit? {
                    return Ok(Some(hit));
                }
            }
        }
        Ok(None)
    }

    fn candidate(&mut self, loader: &Loader, path: &Path, through: Through) -> Searched {
        match self.tree.walk(path) {
            Ok(found) => self.accept(loader, path.to_owned(), found, through),
            Err(lost) => absent(lost),
        }
    }

    /// Takes a file if it is a library of the right format, as the loader
    /// would.
    fn accept(
        &mut self,
        loader: &Loader,
        opened_as: PathBuf,
        found: Found,
        through: Through,
    ) -> Searched {
        if !matches!(found.kind, Kind::File { .. }) {
            return Ok(None);
        }
        let refuse = |reason| Err(Stop::NotALibrary { path: opened_as.clone(), reason });
        match self.image(&found.real) {
            Ok(Image::Elf(object)) if object.format == loader.format => {
                Ok(Some(Hit { opened_as, found, object, through }))
            }
            Ok(Image::Elf(object)) => match loader.flavour {
                // So that 32-bit and 64-bit libraries may share a list.
                Flavour::Glibc => Ok(None),
                Flavour::Musl => {
                    refuse(format!("is for {} where {} is needed", object.format, loader.format))
                }
            },
            Ok(Image::Script(_) | Image::Unknown) => refuse("is not a shared library".to_owned()),
            // The loader would not be let in either, and goes on.
            Err(Fault::Io(_)) => Ok(None),
            Err(fault @ Fault::Malformed(_)) => refuse(fault.to_string()),
        }
    }

    /// The directory behind those of its `glibc-hwcaps` that the processor is
    /// good for; nothing where it does not exist.
    fn variants(&mut self, loader: &Loader, directory: &Rc<Path>) -> Result<Rc<[Rc<Path>]>, Stop> {
        self.tree.charge(1).map_err(|_| Stop::TooMuch)?;
        if let Some(known) = self.variants.get(directory.as_os_str()) {
            return Ok(known.clone());
        }
        let mut list = Vec::new();
        if self.tree.directory(directory).is_ok() {
            let hwcaps = directory.join("glibc-hwcaps");
            if loader.flavour == Flavour::Glibc && self.tree.directory(&hwcaps).is_ok() {
                let levels = self.levels(loader.format).iter();
                list.extend(levels.map(|level| Rc::from(hwcaps.join(level))));
            }
            list.push(directory.clone());
        }
        let list: Rc<[Rc<Path>]> = list.into();
        self.variants.insert(directory.as_os_str().into(), list.clone());
        Ok(list)
    }

    fn levels(&mut self, format: Format) -> &'static [&'static str] {
        let is_own = (format.machine, format.bits) == (abi::EM_X86_64, 64);
        if is_own { self.levels.get_or_insert_with(levels) } else { &[] }
    }

    fn cache(&mut self) -> Option<Rc<Cache>> {
        if self.cache.is_none() {
            self.cache = Some(cache::read(&mut self.tree).map(Rc::new));
        }
        self.cache.clone().flatten()
    }

    fn configured(&mut self) -> Rc<[Rc<Path>]> {
        if self.configured.is_none() {
            let directories = cache::configured(&mut self.tree);
            self.configured = Some(directories.into_iter().map(Rc::from).collect());
        }
        self.configured.clone().unwrap_or_default()
    }
}

fn absent(lost: Lost) -> Searched {
    match lost {
        Lost::TooMuch => Err(Stop::TooMuch),
        Lost::Missing | Lost::NotADirectory | Lost::Loop | Lost::Refused(_) => Ok(None),
    }
}

/// `glibc-hwcaps` directories for this processor, the best first. Asked only
/// where there are such directories: in a virtual machine each question to the
/// processor is a trap to the host.
#[cfg(target_arch = "x86_64")]
fn levels() -> &'static [&'static str] {
    use std::arch::is_x86_feature_detected as has;
    let v2 = has!("sse3")
        && has!("ssse3")
        && has!("sse4.1")
        && has!("sse4.2")
        && has!("popcnt")
        && has!("cmpxchg16b");
    let v3 = v2
        && has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("f16c")
        && has!("fma")
        && has!("lzcnt")
        && has!("movbe");
    let v4 = v3
        && has!("avx512f")
        && has!("avx512bw")
        && has!("avx512cd")
        && has!("avx512dq")
        && has!("avx512vl");
    const NAMES: &[&str] = &["x86-64-v4", "x86-64-v3", "x86-64-v2"];
    &NAMES[NAMES.len() - [v2, v3, v4].into_iter().filter(|has| *has).count()..]
}

/// Other processors have no such directories in any distribution.
#[cfg(not(target_arch = "x86_64"))]
fn levels() -> &'static [&'static str] {
    &[]
}
