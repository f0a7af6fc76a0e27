//! `[security.landlock]`: what the command may reach; landlock(7).
//!
//! A key handles its rights everywhere and grants them below its paths. What
//! this kernel cannot handle is an error, or left out where the unit says so.

use std::path::{Path, PathBuf};

use super::step::{Landlock, Step};
use super::view::Walk;
use super::{Planner, origin, view};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::names::{self, landlock};
use crate::source::Span;
use crate::unit::landlock::{PATH_KEYS, PORT_KEYS};

/// Rights of `read`, `write` and `execute`. The kernel opens a program for
/// reading when it executes it.
const HANDLED: [u64; 3] = [landlock::READ, landlock::WRITE, landlock::EXECUTE];
const GRANTED: [u64; 3] =
    [landlock::READ, landlock::WRITE, landlock::EXECUTE | landlock::READ_FILE];

impl<H: Host> Planner<'_, H> {
    pub(super) fn landlock(&mut self) {
        let unit = self.unit;
        let table = &unit.security.landlock;
        if !table.is_used() {
            return;
        }
        let abi = self.host.landlock();
        let mut step = Landlock::default();
        let mut first: Option<Span> = None;
        for (index, paths) in table.paths.iter().enumerate() {
            let Some(paths) = paths else { continue };
            first = first.or(paths.span);
            step.paths |= HANDLED[index];
            for path in &paths.value {
                let path = &path.value.0;
                match step.below.iter_mut().find(|(known, _)| known == path) {
                    Some((_, rights)) => *rights |= GRANTED[index],
                    None => step.below.push((path.clone(), GRANTED[index])),
                }
            }
        }
        // Once any right is handled, the kernel refuses to move files between
        // directories unless that is handled too, and granted.
        if step.paths != 0 && step.paths & landlock::REFER == 0 {
            step.paths |= landlock::REFER;
            match step.below.iter_mut().find(|(path, _)| path.parent().is_none()) {
                Some((_, rights)) => *rights |= landlock::REFER,
                None => step.below.push(("/".into(), landlock::REFER)),
            }
        }
        for (index, ports) in table.ports.iter().enumerate() {
            let Some(ports) = ports else { continue };
            first = first.or(ports.span);
            step.ports |= 1 << index;
            for port in &ports.value {
                match step.open.iter_mut().find(|(known, _)| known == port) {
                    Some((_, rights)) => *rights |= 1 << index,
                    None => step.open.push((*port, 1 << index)),
                }
            }
        }
        if let Some(scope) = &table.scope {
            first = first.or(scope.span);
            step.scope = scope.value.iter().fold(0, |bits, scope| bits | scope.bit());
        }
        self.lacking(abi, &mut step, first);
        if !unit.security.no_new_privileges.value
            && (self.private_user || unit.security.capabilities.value.0 & names::CAP_SYS_ADMIN == 0)
        {
            self.find(
                Diagnostic::error("E0106", "Landlock needs `no-new-privileges`")
                    .at_maybe(unit.security.no_new_privileges.span, "set to false")
                    .context(first, "asked for here"),
            );
        }
        step.below.retain_mut(|(_, rights)| {
            *rights &= step.paths;
            *rights != 0
        });
        step.open.retain_mut(|(_, rights)| {
            *rights &= step.ports;
            *rights != 0
        });
        // Nothing may be left of it where best effort is enough.
        if step.paths | step.ports | step.scope != 0 {
            self.push(Step::Landlock(step), origin(first, "security.landlock"));
        }
    }

    /// Takes out what this kernel cannot handle, and says so.
    fn lacking(&mut self, abi: u32, step: &mut Landlock, at: Option<Span>) {
        let best_effort = &self.unit.security.landlock.best_effort;
        let best = best_effort.as_ref().is_some_and(|setting| setting.value);
        let mut say = |what: &str, version: &str, span: Option<Span>| {
            let diagnostic = match best {
                true => Diagnostic::warning("W0011", format!("Landlock leaves out {what}"))
                    .at_maybe(span, format!("Linux {version} has it"))
                    .context(best_effort.as_ref().and_then(|setting| setting.span), "as said here"),
                false => Diagnostic::error("E0310", format!("this kernel's Landlock lacks {what}"))
                    .at_maybe(span, format!("Linux {version} has it"))
                    .help("`best-effort = true` in `[security.landlock]` launches without it"),
            };
            self.findings.push(diagnostic);
        };
        if abi == 0 {
            say("everything: the kernel has none, or it is not enabled", "5.13", at);
            *step = Landlock::default();
            return;
        }
        let table = &self.unit.security.landlock;
        for right in landlock::PATHS.iter().filter(|right| right.abi > abi) {
            if step.paths & right.bit != 0 {
                let handled = |index: usize| HANDLED[index] & right.bit != 0;
                let key = (0..3).find(|index| handled(*index) && table.paths[*index].is_some());
                let span = key.and_then(|index| table.paths[index].as_ref()?.span).or(at);
                say(right.meaning, landlock::version(right.abi), span);
                step.paths &= !right.bit;
            }
        }
        if abi < landlock::PORTS_ABI && step.ports != 0 {
            let span = table.ports.iter().flatten().find_map(|ports| ports.span);
            say("TCP ports", landlock::version(landlock::PORTS_ABI), span);
            step.ports = 0;
        }
        if abi < landlock::SCOPE_ABI && step.scope != 0 {
            let span = table.scope.as_ref().and_then(|scope| scope.span);
            say("scopes", landlock::version(landlock::SCOPE_ABI), span);
            step.scope = 0;
        }
    }

    /// Looks whether the paths of the table exist in the jail.
    pub(super) fn check_landlock(&mut self) {
        let unit = self.unit;
        for paths in unit.security.landlock.paths.iter().flatten() {
            for path in &paths.value {
                let is_there = match self.view.walk(self.host, &path.value.0) {
                    Ok(walk) => matches!(walk, Walk::Found(..)),
                    // Whoever looks has his own.
                    Err(error) => view::is_of_process(&error),
                };
                if !is_there {
                    let name = path.value.0.display();
                    self.find(
                        Diagnostic::error("E0204", format!("`{name}` is not there to allow"))
                            .at_maybe(path.span, "does not exist in the root"),
                    );
                }
            }
        }
    }

    /// Whether the unit leaves a file, by its path without links, in reach of
    /// a right.
    fn reaches(&self, path: &Path, right: u64) -> bool {
        let table = &self.unit.security.landlock;
        let is_handled =
            (0..3).any(|index| table.paths[index].is_some() && HANDLED[index] & right != 0);
        let grants = |index: usize| {
            GRANTED[index] & right != 0
                && table.paths[index].iter().flat_map(|paths| &paths.value).any(|below| match self
                    .view
                    .walk(self.host, &below.value.0)
                {
                    Ok(Walk::Found(found, _)) => path.starts_with(&found),
                    _ => false,
                })
        };
        !is_handled || (0..3).any(grants)
    }

    /// Refuses a file of the command that Landlock would keep from it; true
    /// when it has.
    pub(super) fn out_of_reach(&mut self, found: &Path, what: &str, span: Option<Span>) -> bool {
        let (right, key) = if !self.reaches(found, landlock::EXECUTE) {
            (landlock::EXECUTE, 2)
        } else if !self.reaches(found, landlock::READ_FILE) {
            (landlock::READ_FILE, 0)
        } else {
            return false;
        };
        self.unreachable(found, what, right, key, span);
        true
    }

    /// The same for the libraries, which lie beside their loader.
    pub(super) fn libraries_out_of_reach(&mut self, loader: &Path, span: Option<Span>) {
        let found: Option<PathBuf> = match self.view.walk(self.host, loader) {
            Ok(Walk::Found(path, Kind::File { .. })) => path.parent().map(Path::to_owned),
            _ => None,
        };
        if let Some(directory) = found
            && !self.reaches(&directory.join("libc.so.6"), landlock::READ_FILE)
        {
            self.unreachable(&directory, "its libraries", landlock::READ_FILE, 0, span);
        }
    }

    fn unreachable(&mut self, path: &Path, what: &str, right: u64, key: usize, at: Option<Span>) {
        let verb = if right == landlock::EXECUTE { "executed" } else { "read" };
        let by = self.unit.security.landlock.paths[key].as_ref().and_then(|paths| paths.span);
        let path = path.display();
        self.find(
            Diagnostic::error(
                "E0317",
                format!("the command is out of its own reach: `{path}` cannot be {verb}"),
            )
            .at_maybe(at, what)
            .context(by, "not among these")
            .help(format!("add `{path}`, or a directory above it, to `{}`", PATH_KEYS[key])),
        );
    }
}

/// The step in words: each key with what it leaves.
pub(super) fn describe(step: &Landlock) -> String {
    let mut parts = Vec::new();
    for (index, key) in PATH_KEYS.iter().enumerate() {
        // The right that tells this key from the others.
        let mark = [landlock::READ_DIR, landlock::WRITE_FILE, landlock::EXECUTE][index];
        if step.paths & mark != 0 {
            let below: Vec<_> = step
                .below
                .iter()
                .filter(|(_, rights)| rights & mark != 0)
                .map(|(path, _)| path.display().to_string())
                .collect();
            parts.push(match &below[..] {
                [] => format!("{key} nothing"),
                below => format!("{key} below {}", below.join(" ")),
            });
        }
    }
    for (index, key) in PORT_KEYS.iter().enumerate() {
        if step.ports & 1 << index != 0 {
            let open: Vec<_> = step
                .open
                .iter()
                .filter(|(_, rights)| rights & 1 << index != 0)
                .map(|(port, _)| port.to_string())
                .collect();
            parts.push(match &open[..] {
                [] => format!("{key} no port"),
                open => format!("{key} {}", open.join(" ")),
            });
        }
    }
    for scope in names::LandlockScope::ALL {
        if step.scope & scope.bit() != 0 {
            parts.push(match scope {
                names::LandlockScope::AbstractUnixSocket => {
                    "connect to its own abstract sockets".to_owned()
                }
                names::LandlockScope::Signal => "signal its own processes".to_owned(),
            });
        }
    }
    format!("let it only {}", parts.join(", "))
}
