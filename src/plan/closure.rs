//! Roots of memory that the host's files are put into: closures, and copies.

use std::path::{Path, PathBuf};

use super::Planner;
use super::root::{NO_SUID_DEV, Tree, option};
use super::step::{MountFlags, NodeKind, Origin, Step};
use super::view::Place;
use crate::closure::{Entry, Problem, Request, Wanted, What};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::root as unit;
use crate::unit::value::HostPath;

/// Something that is put into a root of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Filling {
    /// The content of a directory.
    Copy(PathBuf),
    /// A tar archive.
    Unpack(PathBuf),
}

impl<H: Host> Planner<'_, H> {
    /// The files of a closure; `None` where one is missing, which has been
    /// reported.
    pub(super) fn closure(&mut self, closure: &unit::Closure, span: Option<Span>) -> Option<Tree> {
        fn values<T: Clone>(list: &[Setting<T>]) -> Vec<T> {
            list.iter().map(|setting| setting.value.clone()).collect()
        }
        for file in &closure.files {
            if let Ok((source, _)) = self.host.canonical(&file.value.0) {
                self.check_danger("binding", &source, file.span);
            }
        }
        let files: Vec<PathBuf> = closure.files.iter().map(|path| path.value.0.clone()).collect();
        let found = self.host.closure(&Request {
            root: Path::new("/"),
            binaries: &values(&closure.binaries),
            libraries: &values(&closure.libraries),
            files: &files,
            with: &values(&closure.with),
        });
        match found {
            Ok(found) => {
                for warning in &found.warnings {
                    self.find(
                        Diagnostic::warning("W0007", warning.to_string())
                            .at_maybe(span, "works without it"),
                    );
                }
                // Nothing is stored but names: of nodes, and of links.
                let options = vec![
                    option("mode", "755"),
                    option("size", "1M"),
                    option("nr_inodes", (found.entries.len() * 8 + 1024).to_string()),
                ];
                Some(Tree::Closure { options, entries: found.entries })
            }
            Err(problems) => {
                for problem in &problems {
                    let at = asked_for(problem, closure).or(span);
                    let label = match problem {
                        Problem::MissingLibrary { .. } => "a library is missing",
                        _ => "asked for here",
                    };
                    self.find(Diagnostic::error("E0312", problem.to_string()).at_maybe(at, label));
                }
                None
            }
        }
    }

    /// What is copied or unpacked into a root; `None` where that cannot be.
    pub(super) fn populate(&mut self, sources: &[Setting<HostPath>]) -> Option<Vec<Filling>> {
        let found: Vec<_> = sources
            .iter()
            .map(|source| {
                let path = self.resolve(&source.value);
                let reason = match self.host.canonical(&path) {
                    Ok((path, Kind::Directory)) => return Some(Filling::Copy(path)),
                    Ok((path, Kind::File { .. })) => return Some(Filling::Unpack(path)),
                    Ok(_) => "neither a directory nor an archive".to_owned(),
                    Err(error) => crate::unit::io_reason(&error),
                };
                let message = format!("`{}` cannot be copied into the root", path.display());
                self.find(Diagnostic::error("E0301", message).at_maybe(source.span, reason));
                None
            })
            .collect();
        found.into_iter().collect()
    }

    /// Whether one of the kernel's file systems is mounted over a path.
    pub(super) fn is_in_api(&self, path: &Path) -> bool {
        let mounted = &self.unit.root.api_filesystems.value;
        mounted.iter().any(|api| path.starts_with(api.path()))
    }

    /// Adds the files of a closure to the view, which has the root alone.
    pub(super) fn show_closure(&mut self, tree: &Tree) {
        let Tree::Closure { entries, .. } = tree else { return };
        for entry in entries {
            match &entry.what {
                What::Link { to } => self.view.link(&entry.path, &to.to_string_lossy()),
                What::EmptyDirectory => self.view.make(&entry.path, NodeKind::Directory),
                What::File { source } | What::Directory { source } => {
                    self.view.make(&entry.path, NodeKind::Directory);
                    self.view.mount(&entry.path, Place::Host(source.clone()), true);
                }
            }
        }
    }

    /// Plans the files of a closure that lie in the kernel's file systems,
    /// which would hide them if they were there before.
    pub(super) fn fill_api_filesystems(&mut self, tree: Option<&Tree>) {
        let Some(Tree::Closure { entries, .. }) = tree else { return };
        let by = self.root_origin();
        for entry in entries {
            if !self.is_in_api(&entry.path) {
                continue;
            }
            let holder = self.view.holder(&entry.path).map(|holder| holder.place);
            if holder != Some(Place::Memory) {
                let at = self.unit.root.kind.as_ref().and_then(|kind| kind.span);
                let message = format!("`{}` cannot be put into the root", entry.path.display());
                self.find(
                    Diagnostic::error("E0204", message)
                        .at_maybe(at, "it lies in a file system of the kernel"),
                );
                continue;
            }
            self.fill(&[entry], by);
        }
    }

    /// Plans files of a closure.
    pub(super) fn fill(&mut self, entries: &[&Entry], by: Origin) {
        let flags = MountFlags { read_only: true, ..NO_SUID_DEV };
        for entry in entries {
            let path = &entry.path;
            let (source, kind) = match &entry.what {
                What::Link { to } => {
                    let to = to.to_string_lossy().into_owned();
                    if let Some(parent) = path
                        .parent()
                        .filter(|parent| parent.parent().is_some() && !self.view.is_made(parent))
                    {
                        let (path, kind) = (parent.to_owned(), NodeKind::Directory);
                        self.push(Step::MakeNode { path, kind }, by);
                    }
                    self.view.link(path, &to);
                    self.push(Step::MakeLink { path: path.clone(), to }, by);
                    continue;
                }
                What::EmptyDirectory => {
                    self.view.make(path, NodeKind::Directory);
                    let kind = NodeKind::Directory;
                    self.push(Step::MakeNode { path: path.clone(), kind }, by);
                    continue;
                }
                What::File { source } => (source, NodeKind::File),
                What::Directory { source } => (source, NodeKind::Directory),
            };
            self.view.make(path, kind);
            self.push(Step::MakeNode { path: path.clone(), kind }, by);
            let recursive = kind == NodeKind::Directory;
            self.view.mount(path, Place::Host(source.clone()), true);
            self.expect(path.clone(), None, flags, recursive);
            if recursive {
                self.below_root.push((source.clone(), path.clone()));
            }
            let tree = self.host_tree(source, recursive, self.is_mapped());
            self.push(
                Step::Bind {
                    source: source.clone(),
                    tree,
                    target: path.clone(),
                    recursive,
                    flags,
                    propagation: None,
                },
                by,
            );
        }
    }
}

/// The value that asked for what is missing.
fn asked_for(problem: &Problem, closure: &unit::Closure) -> Option<Span> {
    let by_text = |text: &str| {
        let lists = closure.binaries.iter().chain(&closure.libraries);
        let files = closure.files.iter().map(|path| (path.value.0.to_string_lossy(), path.span));
        lists
            .map(|setting| (setting.value.as_str().into(), setting.span))
            .chain(files)
            .find(|(value, _)| value == text)
            .and_then(|(_, span)| span)
    };
    let by_wanted = |wanted: &Wanted| match wanted {
        Wanted::Extra(extra) => {
            closure.with.iter().find(|with| with.value == *extra).and_then(|with| with.span)
        }
        Wanted::File(path) => by_text(&path.to_string_lossy()),
        Wanted::Request => None,
    };
    match problem {
        Problem::NotInPath { name, wanted_by, .. } => {
            by_text(name).or_else(|| by_wanted(wanted_by))
        }
        Problem::NoSuchFile { path, wanted_by, .. }
        | Problem::RelativePath { path, wanted_by }
        | Problem::NotAFile { path, wanted_by }
        | Problem::NotExecutable { path, wanted_by }
        | Problem::NotAProgram { path, wanted_by, .. }
        | Problem::NotALibrary { path, wanted_by, .. }
        | Problem::WrongFormat { path, wanted_by, .. } => {
            by_text(&path.to_string_lossy()).or_else(|| by_wanted(wanted_by))
        }
        Problem::MissingLibrary { names, wanted_by, .. } => {
            names.iter().find_map(|name| by_text(name)).or_else(|| by_wanted(wanted_by))
        }
        Problem::NothingOf { extra, .. } => by_wanted(&Wanted::Extra(*extra)),
        Problem::TooManyScripts { path } | Problem::Unreadable { path, .. } => {
            by_text(&path.to_string_lossy())
        }
        Problem::WholeTree => by_text("/"),
        Problem::Root { .. } | Problem::TooMuch => None,
    }
}
