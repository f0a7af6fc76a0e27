//! What programs need to run: their loaders, libraries and interpreters, found
//! by reading the files and running none of them.
//!
//! A **request** names programs, libraries, files and extras; the **closure**
//! is every file that has to be in a root for them, each at the path where the
//! loader will look for it. A **loader** is the program that the kernel starts
//! in place of one that is dynamically linked (`PT_INTERP`), a **namespace**
//! the objects that one loader has in one program's memory.
//!
//! Only reading is done here, inside the tree that the request names, and with
//! bounds: no file is trusted to be what its name says. What becomes of a
//! closure, as mounts and links, is not decided here.

mod cache;
mod elf;
mod extras;
pub(crate) mod inspect;
mod script;
mod search;
#[cfg(test)]
mod tests;
mod tree;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use crate::host::Questions;

pub use self::elf::Format;
pub use extras::Extra;
pub use tree::Lost;

use self::elf::{Image, Importance, Need, Object};
use search::{Flavour, Hit, Loader, Namespace, Search, Stop, Through};
use tree::{Found, Kind, Tree};

/// Where a program without `/` in its name is looked for.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Scripts in a row, each the interpreter of the one before; the kernel's own
/// bound.
const SCRIPTS: usize = 5;

/// More of them tell nobody more.
const PROBLEMS: usize = 256;

/// Largest `nsswitch.conf` that is read.
const NSSWITCH_SIZE: u64 = 64 * 1024;

/// Directories of the top level that are links to `/usr` where it is merged.
const MERGED: [&str; 6] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What every jail has file systems of its own on: what lies there on the host
/// cannot be seen inside by the same path.
pub(crate) const OWN_IN_JAIL: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// Loaders of programs for this machine, for a request without any program.
const NATIVE_LOADERS: &[&str] = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => &["/lib64/ld-linux-x86-64.so.2", "/lib/ld-musl-x86_64.so.1"],
    b"aarch64" => &["/lib/ld-linux-aarch64.so.1", "/lib/ld-musl-aarch64.so.1"],
    b"riscv64" => &["/lib/ld-linux-riscv64-lp64d.so.1", "/lib/ld-musl-riscv64.so.1"],
    _ => &[],
};

/// What a closure is asked for. Paths are absolute, and inside `root`.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The tree to take from: `/`, or any directory that holds one.
    pub root: &'a Path,
    /// Programs: a path, or a name that is looked for in [`PATH`].
    pub binaries: &'a [String],
    /// Libraries: a path, or the name by which programs ask for it.
    pub libraries: &'a [String],
    /// Files and directories, as they are.
    pub files: &'a [PathBuf],
    /// Groups of files.
    pub with: &'a [Extra],
}

/// What has to be in a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    /// Sorted by path, so that parents come before children. Directories that
    /// only lead to an entry are not listed.
    pub entries: Vec<Entry>,
    /// What programs can do without, and would rather not.
    pub warnings: Vec<Warning>,
}

/// One path of the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Where it goes: absolute, with no link on the way.
    pub path: PathBuf,
    /// What goes there.
    pub what: What,
    /// Who wanted it first.
    pub wanted_by: Wanted,
}

/// What is at a path of the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A regular file.
    File {
        /// Its path on the host, without links.
        source: PathBuf,
    },
    /// A directory with all that is in it.
    Directory {
        /// Its path on the host, without links.
        source: PathBuf,
    },
    /// A directory with nothing in it, which a path leads into and out of
    /// again by `..`.
    EmptyDirectory,
    /// A symbolic link.
    Link {
        /// What is written in it.
        to: PathBuf,
    },
}

/// Who wants a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The request itself.
    Request,
    /// An extra of the request.
    Extra(Extra),
    /// A program, library or script, by its path without links.
    File(PathBuf),
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Request => f.write_str("the unit"),
            Self::Extra(extra) => write!(f, "`with = [\"{extra}\"]`"),
            Self::File(path) => write!(f, "`{}`", path.display()),
        }
    }
}

/// Something left out that an object recommends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The names it goes by.
    pub names: Vec<String>,
    /// Who recommends it.
    pub wanted_by: PathBuf,
    /// Why it is not there.
    pub reason: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, by) = (either(&self.names), self.wanted_by.display());
        write!(f, "`{by}` recommends {names}, which {}", self.reason)
    }
}

/// Why there is no closure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Problem {
    /// The tree itself cannot be read.
    Root {
        /// The directory on the host.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// A directory cannot be listed.
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// A path leads nowhere.
    NoSuchFile {
        /// The path.
        path: PathBuf,
        /// Where it went wrong.
        lost: Lost,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// A program is in none of the directories.
    NotInPath {
        /// Its name.
        name: String,
        /// The directories, separated by colons.
        path: String,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// A path starts at a working directory that is not known.
    RelativePath {
        /// The path.
        path: PathBuf,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// A device, socket or FIFO, or a directory where a file is needed.
    NotAFile {
        /// The path.
        path: PathBuf,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// Nobody may execute it.
    NotExecutable {
        /// The path.
        path: PathBuf,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// The kernel would refuse to execute it.
    NotAProgram {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// A file that a loader would take for a library, and fail.
    NotALibrary {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// A file is for another processor than the one that wants it.
    WrongFormat {
        /// The path.
        path: PathBuf,
        /// What it is for.
        found: Format,
        /// What it would have to be for.
        expected: Format,
        /// Who wants it.
        wanted_by: Wanted,
    },
    /// No directory has the library.
    MissingLibrary {
        /// The names it goes by, of which one would do.
        names: Vec<String>,
        /// Who wants it.
        wanted_by: Wanted,
        /// Where it was looked for, in order.
        searched: Vec<PathBuf>,
    },
    /// Scripts that are interpreted by scripts, without an end.
    TooManyScripts {
        /// The last one.
        path: PathBuf,
    },
    /// The host has nothing of an extra.
    NothingOf {
        /// The extra.
        extra: Extra,
        /// What it would be made of.
        looked_for: Vec<&'static str>,
    },
    /// `/` is asked for as a file.
    WholeTree,
    /// The files lead from one to the next without an end.
    TooMuch,
}

fn either(names: &[String]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    names.join(" or ")
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wanted = |f: &mut fmt::Formatter<'_>, by: &Wanted| match by {
            Wanted::Request => Ok(()),
            by => write!(f, ", and is wanted by {by}"),
        };
        match self {
            Self::Root { path, reason } => {
                write!(f, "the tree `{}` cannot be read: {reason}", path.display())
            }
            Self::Unreadable { path, reason } => {
                write!(f, "`{}` cannot be read: {reason}", path.display())
            }
            Self::NoSuchFile { path, lost, wanted_by } => {
                write!(f, "`{}` {lost}", path.display())?;
                wanted(f, wanted_by)
            }
            Self::NotInPath { name, path, wanted_by } => {
                write!(f, "`{name}` is not in {path}")?;
                wanted(f, wanted_by)
            }
            Self::RelativePath { path, wanted_by } => {
                write!(f, "`{}` is a relative path", path.display())?;
                wanted(f, wanted_by)
            }
            Self::NotAFile { path, wanted_by } => {
                write!(f, "`{}` is not a regular file", path.display())?;
                wanted(f, wanted_by)
            }
            Self::NotExecutable { path, wanted_by } => {
                write!(f, "`{}` is not executable", path.display())?;
                wanted(f, wanted_by)
            }
            Self::NotAProgram { path, reason, wanted_by }
            | Self::NotALibrary { path, reason, wanted_by } => {
                write!(f, "`{}` {reason}", path.display())?;
                wanted(f, wanted_by)
            }
            Self::WrongFormat { path, found, expected, wanted_by } => {
                let path = path.display();
                write!(f, "`{path}` is for {found}, where {wanted_by} needs {expected}")
            }
            Self::MissingLibrary { names, wanted_by, searched } => {
                write!(f, "{wanted_by} needs {}, which ", either(names))?;
                if searched.is_empty() {
                    return f.write_str("does not exist");
                }
                let searched: Vec<_> =
                    searched.iter().map(|path| path.display().to_string()).collect();
                write!(f, "is not in {}", searched.join(":"))
            }
            Self::TooManyScripts { path } => write!(
                f,
                "`{}` is interpreted by more than {SCRIPTS} scripts in a row",
                path.display()
            ),
            Self::NothingOf { extra, looked_for } => {
                write!(f, "the host has nothing of `{extra}`: none of {}", looked_for.join(", "))
            }
            Self::WholeTree => f.write_str("`/` is the whole tree, of which a closure is a part"),
            Self::TooMuch => f.write_str("the files lead to more files than any program has"),
        }
    }
}

/// Finds all that a request needs; every problem at once.
pub fn resolve(request: &Request<'_>) -> Result<Closure, Vec<Problem>> {
    resolve_asking(request, &Rc::default())
}

/// The same; what the kernel does not answer is kept in `questions`.
pub fn resolve_asking(
    request: &Request<'_>,
    questions: &Rc<Questions>,
) -> Result<Closure, Vec<Problem>> {
    let mut resolver = Resolver::new(request.root)?;
    resolver.search.tree.questions = questions.clone();
    resolver.resolve(request)
}

/// A closure in the making.
struct Resolver {
    search: Search,
    entries: Vec<Entry>,
    /// Places of the entries by path.
    places: HashMap<OsString, usize>,
    /// Directories that have to exist for a `..` to lead out of them.
    left: Vec<(PathBuf, Wanted)>,
    namespaces: Vec<Namespace>,
    /// Programs and scripts that were followed, by their paths without links.
    followed: HashSet<PathBuf>,
    problems: Vec<Problem>,
    warnings: Vec<Warning>,
}

impl Resolver {
    fn new(root: &Path) -> Result<Self, Vec<Problem>> {
        let tree = Tree::new(root).map_err(|error| {
            let reason = crate::unit::io_reason(&error);
            vec![Problem::Root { path: root.to_owned(), reason }]
        })?;
        Ok(Self {
            search: Search::new(tree),
            entries: Vec::new(),
            places: HashMap::new(),
            left: Vec::new(),
            namespaces: Vec::new(),
            followed: HashSet::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        })
    }

    fn resolve(mut self, request: &Request<'_>) -> Result<Closure, Vec<Problem>> {
        for binary in request.binaries {
            self.program(binary, PATH, Wanted::Request, 0);
        }
        for library in request.libraries {
            self.library(library);
        }
        for file in request.files {
            if let Err(problem) = self.path(file, &Wanted::Request) {
                self.problem(problem);
            }
        }
        for extra in request.with {
            self.extra(*extra);
        }
        self.merged_directories();
        self.finish()
    }

    fn problem(&mut self, problem: Problem) {
        let problem = match problem {
            Problem::NoSuchFile { lost: Lost::TooMuch, .. } => Problem::TooMuch,
            problem if self.problems.len() < PROBLEMS => problem,
            _ => Problem::TooMuch,
        };
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn walk(&mut self, path: &Path, wanted_by: &Wanted) -> Result<Found, Problem> {
        let wanted_by = wanted_by.clone();
        if !path.is_absolute() {
            return Err(Problem::RelativePath { path: path.to_owned(), wanted_by });
        }
        self.search.tree.walk(path).map_err(|lost| Problem::NoSuchFile {
            path: path.to_owned(),
            lost,
            wanted_by,
        })
    }

    /// Adds the links on the way to a file, and the file.
    fn take(&mut self, found: &Found, wanted_by: &Wanted) {
        self.take_links(found, found.links.len(), wanted_by);
        if !self.has(&found.real) {
            self.add(&found.real, self.what(found), wanted_by);
        }
    }

    fn what(&self, found: &Found) -> What {
        let source = self.search.tree.on_host(&found.real);
        match found.kind {
            Kind::Directory => What::Directory { source },
            Kind::File { .. } | Kind::Other => What::File { source },
        }
    }

    fn take_links(&mut self, found: &Found, count: usize, wanted_by: &Wanted) {
        for link in &found.links[..count] {
            if !self.has(&link.at) {
                self.add(&link.at, What::Link { to: link.to.to_path_buf() }, wanted_by);
            }
        }
        self.left.extend(found.left.iter().map(|path| (path.clone(), wanted_by.clone())));
    }

    fn add(&mut self, path: &Path, what: What, wanted_by: &Wanted) {
        if !self.has(path) {
            self.places.insert(path.into(), self.entries.len());
            let (path, wanted_by) = (path.to_owned(), wanted_by.clone());
            self.entries.push(Entry { path, what, wanted_by });
        }
    }

    fn has(&self, path: &Path) -> bool {
        self.places.contains_key(path.as_os_str())
    }

    /// Takes a file or directory as it is.
    fn path(&mut self, path: &Path, wanted_by: &Wanted) -> Result<(), Problem> {
        let found = self.walk(path, wanted_by)?;
        if found.real.parent().is_none() {
            return Err(Problem::WholeTree);
        }
        if found.kind == Kind::Other {
            let wanted_by = wanted_by.clone();
            return Err(Problem::NotAFile { path: path.to_owned(), wanted_by });
        }
        // `/etc/resolv.conf` is often a link into `/run`, which is the jail's
        // own: the file then takes the link's place.
        let is_own = |path: &Path| OWN_IN_JAIL.iter().any(|own| path.starts_with(own));
        let stand_in = found
            .links
            .iter()
            .rposition(|link| link.is_last && !is_own(&link.at))
            .filter(|_| is_own(&found.real));
        match stand_in {
            Some(index) => {
                self.take_links(&found, index, wanted_by);
                self.add(&found.links[index].at, self.what(&found), wanted_by);
            }
            None => self.take(&found, wanted_by),
        }
        Ok(())
    }

    /// Takes a program with all it needs.
    fn program(&mut self, name: &str, path: &str, wanted_by: Wanted, scripts: usize) {
        let found = match self.find_program(name, path, &wanted_by) {
            Ok(found) => found,
            Err(problem) => return self.problem(problem),
        };
        self.take(&found, &wanted_by);
        if !self.followed.insert(found.real.clone()) && scripts == 0 {
            return;
        }
        let refuse = |reason: String| Problem::NotAProgram {
            path: found.real.clone(),
            reason,
            wanted_by: wanted_by.clone(),
        };
        match self.search.image(&found.real) {
            Ok(Image::Elf(object)) => self.elf_program(&found.real, object, wanted_by),
            Ok(Image::Script(head)) if scripts < SCRIPTS => {
                if let Err(reason) = self.script(&found.real, &head, scripts) {
                    self.problem(refuse(reason.to_owned()));
                }
            }
            Ok(Image::Script(_)) => self.problem(Problem::TooManyScripts { path: found.real }),
            Ok(Image::Unknown) => {
                self.problem(refuse("is neither an ELF file nor a script with `#!`".to_owned()));
            }
            Err(fault) => self.problem(refuse(fault.to_string())),
        }
    }

    fn find_program(&mut self, name: &str, path: &str, by: &Wanted) -> Result<Found, Problem> {
        if name.contains('/') {
            let found = self.walk(Path::new(name), by)?;
            let (path, wanted_by) = (PathBuf::from(name), by.clone());
            return match found.kind {
                Kind::File { executable: true } => Ok(found),
                Kind::File { executable: false } => Err(Problem::NotExecutable { path, wanted_by }),
                Kind::Directory | Kind::Other => Err(Problem::NotAFile { path, wanted_by }),
            };
        }
        for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
            match self.search.tree.walk_in(Path::new(directory), name) {
                Ok(found) if found.kind == (Kind::File { executable: true }) => return Ok(found),
                Err(Lost::TooMuch) => return Err(Problem::TooMuch),
                _ => {}
            }
        }
        let (name, path) = (name.to_owned(), path.to_owned());
        Err(Problem::NotInPath { name, path, wanted_by: by.clone() })
    }

    fn script(&mut self, real: &Path, head: &[u8], scripts: usize) -> Result<(), &'static str> {
        let line = script::parse(head)?;
        let by = Wanted::File(real.to_owned());
        // What the kernel opens is a path, even one without `/`.
        if !line.interpreter.starts_with('/') {
            self.problem(Problem::RelativePath { path: line.interpreter.into(), wanted_by: by });
            return Ok(());
        }
        self.program(&line.interpreter, PATH, by.clone(), scripts + 1);
        if Path::new(&line.interpreter).file_name().is_some_and(|name| name == "env")
            && let Some(argument) = &line.argument
            && let Some(command) = script::env_command(argument)?
        {
            let path = command.path.as_deref().unwrap_or(PATH);
            self.program(&command.program, path, by, scripts + 1);
        }
        Ok(())
    }

    fn elf_program(&mut self, real: &Path, object: Rc<Object>, wanted_by: Wanted) {
        let by = Wanted::File(real.to_owned());
        let Some(named) = object.loader.clone() else {
            if !object.needed.is_empty() {
                self.problem(Problem::NotAProgram {
                    path: real.to_owned(),
                    reason: "is a shared library: it names no loader".to_owned(),
                    wanted_by,
                });
            }
            return;
        };
        let loader = match self.loader(&named, Some(object.format), &by) {
            Ok(loader) => loader,
            Err(problem) => return self.problem(problem),
        };
        let mut space = Namespace::new(loader.clone());
        space.add("", real.to_owned(), real.to_owned(), object, None);
        space.add(
            &named,
            named.clone().into(),
            loader.real.clone(),
            loader.object.clone(),
            Some(0),
        );
        self.follow(&mut space);
        self.namespaces.push(space);
    }

    /// Takes a loader.
    fn loader(
        &mut self,
        named: &str,
        expected: Option<Format>,
        by: &Wanted,
    ) -> Result<Rc<Loader>, Problem> {
        if !named.starts_with('/') {
            return Err(Problem::RelativePath { path: named.into(), wanted_by: by.clone() });
        }
        let found = self.find_program(named, "", by)?;
        let not_a_loader = |reason| Problem::NotAProgram {
            path: found.real.clone(),
            reason,
            wanted_by: by.clone(),
        };
        let object = match self.search.image(&found.real) {
            Ok(Image::Elf(object)) => object,
            Ok(Image::Script(_) | Image::Unknown) => {
                return Err(not_a_loader("is not an ELF file".to_owned()));
            }
            Err(fault) => return Err(not_a_loader(fault.to_string())),
        };
        if let Some(expected) = expected.filter(|expected| *expected != object.format) {
            let (path, found, wanted_by) = (found.real, object.format, by.clone());
            return Err(Problem::WrongFormat { path, found, expected, wanted_by });
        }
        self.take(&found, by);
        let mut spaces = self.namespaces.iter();
        let loader = match spaces.find(|space| space.loader.real == found.real) {
            Some(space) => space.loader.clone(),
            None => Rc::new(Loader::new(&mut self.search.tree, named, found.real, object)),
        };
        if let Some(path_file) = &loader.path_file {
            self.take(path_file, by);
        }
        Ok(loader)
    }

    /// Follows what the objects of a namespace need, breadth first as the
    /// loaders do, until nothing is new. What notes tell comes when all that
    /// is needed at the start is there.
    fn follow(&mut self, space: &mut Namespace) {
        while !self.problems.contains(&Problem::TooMuch) {
            let notes = space.needs_followed == space.objects.len();
            let next = if notes { &mut space.notes_followed } else { &mut space.needs_followed };
            let by = *next;
            let Some(loaded) = space.objects.get(by) else { return };
            *next += 1;
            let object = loaded.object.clone();
            let wanted_by = Wanted::File(loaded.real.clone());
            for need in if notes { &object.dlopen } else { &object.needed } {
                if let Err(absence) = self.load(space, by, &need.names, &wanted_by) {
                    self.report(need, &wanted_by, absence);
                }
            }
        }
    }

    /// Loads the first of the names that is found, for `objects[by]`.
    fn load(
        &mut self,
        space: &mut Namespace,
        by: usize,
        names: &[String],
        wanted_by: &Wanted,
    ) -> Result<(), Absence> {
        let mut searched = Vec::new();
        for name in names {
            if space.has(name) {
                return Ok(());
            }
            match self.search.find(space, by, name, &mut searched) {
                Ok(Some(hit)) => {
                    self.library_found(space, by, name, hit, wanted_by);
                    return Ok(());
                }
                Ok(None) => {}
                Err(stop) => return Err(Absence::Stopped(stop)),
            }
        }
        Err(Absence::Missing(searched))
    }

    fn library_found(
        &mut self,
        space: &mut Namespace,
        by: usize,
        name: &str,
        hit: Hit,
        wanted_by: &Wanted,
    ) {
        self.take(&hit.found, wanted_by);
        let opened_as = match hit.through {
            Through::Directory => hit.opened_as,
            Through::Cache => {
                // Else the loader would not find in the jail what it finds here.
                if let Ok(cache) = self.search.tree.walk(Path::new(cache::CACHE)) {
                    self.take(&cache, wanted_by);
                }
                hit.opened_as
            }
            Through::Configuration => {
                // The loader does not read the configuration: a link where it
                // looks takes its place.
                let directories = &space.loader.directories;
                let tree = &mut self.search.tree;
                let there = directories.iter().find_map(|path| tree.directory(path).ok());
                let at = there.as_ref().map_or(&*directories[0], |found| &*found.real).join(name);
                if let Some(found) = &there {
                    self.take_links(found, found.links.len(), wanted_by);
                }
                self.add(&at, What::Link { to: hit.opened_as }, wanted_by);
                at
            }
        };
        space.add(name, opened_as, hit.found.real, hit.object, Some(by));
    }

    fn report(&mut self, need: &Need, wanted_by: &Wanted, absence: Absence) {
        let names = need.names.clone();
        match (need.importance, absence, wanted_by) {
            (_, Absence::Stopped(Stop::TooMuch), _) => self.problem(Problem::TooMuch),
            (Importance::Required, absence, by) => self.absent(names, by, absence),
            (Importance::Recommended, absence, Wanted::File(by)) => {
                let reason = match absence {
                    Absence::Missing(_) => "does not exist".to_owned(),
                    Absence::Stopped(Stop::NotALibrary { reason, .. }) => reason,
                    Absence::Stopped(Stop::TooMuch) => return,
                };
                let warning = Warning { names, wanted_by: by.clone(), reason };
                if !self.warnings.contains(&warning) {
                    self.warnings.push(warning);
                }
            }
            (Importance::Recommended | Importance::Optional, ..) => {}
        }
    }

    fn absent(&mut self, names: Vec<String>, by: &Wanted, absence: Absence) {
        let wanted_by = by.clone();
        self.problem(match absence {
            Absence::Missing(searched) => {
                let mut list: Vec<PathBuf> = Vec::new();
                for path in &searched {
                    if !list.iter().any(|known| **known == **path) {
                        list.push(path.to_path_buf());
                    }
                }
                Problem::MissingLibrary { names, wanted_by, searched: list }
            }
            Absence::Stopped(Stop::NotALibrary { path, reason }) => {
                Problem::NotALibrary { path, reason, wanted_by }
            }
            Absence::Stopped(Stop::TooMuch) => Problem::TooMuch,
        });
    }

    /// Takes a library as though each of the programs opened it by dlopen(3).
    fn library(&mut self, name: &str) {
        let format = match self.library_format(name) {
            Ok(format) => format,
            Err(problem) => return self.problem(problem),
        };
        let fits = |space: &Namespace| format.is_none_or(|format| space.loader.format == format);
        if !self.namespaces.iter().any(fits)
            && let Some(space) = self.native_namespace(format)
        {
            self.namespaces.push(space);
        }
        let names = [name.to_owned()];
        if let Err(absence) = self.open(&names, &Wanted::Request, fits) {
            self.absent(names.into(), &Wanted::Request, absence);
        }
    }

    /// What a library is for, where it is given by its path.
    fn library_format(&mut self, name: &str) -> Result<Option<Format>, Problem> {
        if !name.contains('/') {
            return Ok(None);
        }
        let wanted_by = Wanted::Request;
        let found = self.walk(Path::new(name), &wanted_by)?;
        let path = PathBuf::from(name);
        if !matches!(found.kind, Kind::File { .. }) {
            return Err(Problem::NotAFile { path, wanted_by });
        }
        let reason = match self.search.image(&found.real) {
            Ok(Image::Elf(object)) => return Ok(Some(object.format)),
            Ok(Image::Script(_) | Image::Unknown) => "is not a shared library".to_owned(),
            Err(fault) => fault.to_string(),
        };
        Err(Problem::NotALibrary { path, reason, wanted_by })
    }

    /// The namespace of no program but the loader itself.
    fn native_namespace(&mut self, format: Option<Format>) -> Option<Namespace> {
        NATIVE_LOADERS.iter().find_map(|named| {
            let loader = self.loader(named, format, &Wanted::Request).ok()?;
            let mut space = Namespace::new(loader.clone());
            space.add(named, (*named).into(), loader.real.clone(), loader.object.clone(), None);
            Some(space)
        })
    }

    /// Opens a library in every namespace that fits; at least one must have it.
    fn open(
        &mut self,
        names: &[String],
        wanted_by: &Wanted,
        fits: impl Fn(&Namespace) -> bool,
    ) -> Result<(), Absence> {
        let mut outcome = Err(Absence::Missing(Vec::new()));
        let mut spaces = std::mem::take(&mut self.namespaces);
        for space in spaces.iter_mut().filter(|space| fits(space)) {
            match self.load(space, 0, names, wanted_by) {
                Ok(()) => outcome = Ok(()),
                Err(absence) if outcome.is_err() => outcome = Err(absence),
                Err(_) => {}
            }
            self.follow(space);
        }
        self.namespaces = spaces;
        outcome
    }

    fn extra(&mut self, extra: Extra) {
        let by = Wanted::Extra(extra);
        let parts = extra.parts();
        let mut is_there = false;
        for path in parts.paths.iter().chain(parts.link_directories) {
            is_there |= self.optional_path(Path::new(path), &by);
        }
        for directory in parts.link_directories {
            self.link_targets(Path::new(directory), &by);
        }
        if !parts.in_library_directories.is_empty() {
            let glibc =
                self.namespaces.iter().filter(|space| space.loader.flavour == Flavour::Glibc);
            let directories: HashSet<Rc<Path>> =
                glibc.flat_map(|space| space.loader.directories.iter().cloned()).collect();
            for directory in directories {
                for part in parts.in_library_directories {
                    self.optional_path(&directory.join(part), &by);
                }
            }
        }
        if extra == Extra::Nss {
            self.name_services(&by);
        }
        if !is_there {
            let looked_for = parts.paths.iter().chain(parts.link_directories).copied().collect();
            self.problem(Problem::NothingOf { extra, looked_for });
        }
    }

    /// Takes a path if it exists; whether it does.
    fn optional_path(&mut self, path: &Path, by: &Wanted) -> bool {
        match self.path(path, by) {
            Ok(()) => true,
            Err(Problem::NoSuchFile { lost: Lost::Missing | Lost::NotADirectory, .. }) => false,
            Err(problem) => {
                self.problem(problem);
                true
            }
        }
    }

    /// Takes what the links in a directory lead to. There are hundreds in one
    /// of certificates: those whose text tells that they lead to what is there
    /// anyway are not followed.
    fn link_targets(&mut self, directory: &Path, by: &Wanted) {
        let Ok(found) = self.search.tree.directory(directory) else { return };
        let leads_away = |to: &Path| {
            let mut parts = to.components();
            if let (Some(Component::Normal(_)), None) = (parts.next(), parts.next()) {
                return false;
            }
            to.components().any(|part| part == Component::ParentDir)
                || !found.real.join(to).ancestors().any(|path| self.is_whole(path))
        };
        match self.search.tree.links_in(&found.real, leads_away) {
            Ok(links) => links.iter().for_each(|link| {
                self.optional_path(link, by);
            }),
            Err(errno) => {
                let reason = crate::unit::io_reason(&errno.into());
                self.problem(Problem::Unreadable { path: found.real.clone(), reason });
            }
        }
    }

    /// Whether all below a path is taken.
    fn is_whole(&self, path: &Path) -> bool {
        let place = self.places.get(path.as_os_str());
        place.is_some_and(|place| matches!(self.entries[*place].what, What::Directory { .. }))
    }

    /// Takes the libraries of the services that names are looked up with.
    /// glibc goes on to the next service where one is missing.
    fn name_services(&mut self, by: &Wanted) {
        let tree = &mut self.search.tree;
        let content = tree
            .walk(Path::new(extras::NSSWITCH))
            .ok()
            .and_then(|found| tree.read(&found.real, NSSWITCH_SIZE).ok())
            .unwrap_or_default();
        for name in extras::nss_libraries(&String::from_utf8_lossy(&content)) {
            let is_glibc = |space: &Namespace| space.loader.flavour == Flavour::Glibc;
            if let Err(Absence::Stopped(stop)) = self.open(&[name], by, is_glibc) {
                self.absent(Vec::new(), by, Absence::Stopped(stop));
            }
        }
    }

    /// Where `/usr` is merged, `/bin/sh` and `/usr/bin/sh` are the same, and
    /// programs know it by either.
    fn merged_directories(&mut self) {
        for top in MERGED {
            let Ok(found) = self.search.tree.directory(Path::new(top)) else { continue };
            if !found.links.is_empty()
                && let Some(entry) = self.below(&found.real)
            {
                let wanted_by = entry.wanted_by.clone();
                self.take_links(&found, found.links.len(), &wanted_by);
            }
        }
    }

    /// An entry at a path or below it.
    fn below(&self, path: &Path) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path.starts_with(path))
    }

    fn finish(mut self) -> Result<Closure, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        for (path, wanted_by) in std::mem::take(&mut self.left) {
            if path.parent().is_some() && self.below(&path).is_none() {
                self.add(&path, What::EmptyDirectory, &wanted_by);
            }
        }
        let mut entries: Vec<Entry> = Vec::with_capacity(self.entries.len());
        let mut whole: Option<PathBuf> = None;
        self.entries.sort_unstable_by(|one, other| one.path.cmp(&other.path));
        for entry in self.entries {
            // A directory that is bound has these already.
            if whole.as_ref().is_some_and(|whole| entry.path.starts_with(whole)) {
                continue;
            }
            if matches!(entry.what, What::Directory { .. }) {
                whole = Some(entry.path.clone());
            }
            entries.push(entry);
        }
        Ok(Closure { entries, warnings: self.warnings })
    }
}

/// Why a library is not there.
#[derive(Debug)]
enum Absence {
    /// Nowhere: with the places searched.
    Missing(Vec<Rc<Path>>),
    /// The search came to an end before.
    Stopped(Stop),
}
