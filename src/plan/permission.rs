//! Whether the command's user gets to a file of the jail, and may run it.
//!
//! As the kernel decides it, path_resolution(7): bits and owner of the file and
//! of each directory above it, capabilities(7), the id map, and `noexec`. Where
//! more than that decides, nothing is said: a wrong no would be worse.

use std::path::Path;

use super::Planner;
use super::step::{IdRange, Planned, Step};
use super::view::{self, Place};
use crate::diagnostic::Diagnostic;
use crate::host::{Attributes, Host};
use crate::names;
use crate::source::Span;

/// The bit that says who may run a file, or go through a directory.
const EXECUTE: u32 = 1;

/// What is done with a file.
const RUN: &str = "run";
/// And with a directory.
const ENTER: &str = "enter";

/// Who runs the command, in the host's numbers.
struct Process {
    shown: String,
    uid: Option<u32>,
    gids: Vec<Option<u32>>,
    /// Whether it has groups that are not known here.
    has_others: bool,
    overrides: bool,
    searches: bool,
}

/// What a plan says about who runs the command, and where.
pub(super) struct Rules<'s> {
    process: Option<Process>,
    pub(super) steps: &'s [Planned],
}

impl<H: Host> Planner<'_, H> {
    /// Reads them off a plan. Nobody in particular where files are shown as
    /// somebody else's than they are.
    pub(super) fn rules<'s>(&self, steps: &'s [Planned]) -> Rules<'s> {
        let mut is_shown_otherwise = false;
        let mut ids = None;
        let mut capabilities = 0;
        for planned in steps {
            match &planned.step {
                Step::Enter { trees, .. } => is_shown_otherwise |= trees.iter().any(|t| t.mapped),
                Step::ShiftOwners { .. } => is_shown_otherwise = true,
                Step::SetIds { uid, gid, groups } => ids = Some((*uid, *gid, groups)),
                Step::SetCapabilities { permitted, .. } => capabilities = *permitted,
                _ => {}
            }
        }
        let maps = self.maps.as_ref();
        let process = ids.filter(|_| !is_shown_otherwise).map(|(uid, gid, groups)| {
            let group = |gid: u32| maps.map_or(Some(gid), |maps| maps.gid_outside(gid));
            let further = groups.iter().flatten();
            Process {
                shown: if uid == 0 { "root".to_owned() } else { format!("user {uid}") },
                uid: maps.map_or(Some(uid), |maps| maps.uid_outside(uid)),
                gids: further.chain([&gid]).map(|gid| group(*gid)).collect(),
                has_others: groups.is_none(),
                overrides: capabilities & names::CAP_DAC_OVERRIDE != 0,
                searches: capabilities & names::CAP_DAC_READ_SEARCH != 0,
            }
        });
        Rules { process, steps }
    }

    /// Why the command's user cannot run a program where it is.
    pub(super) fn not_to_be_run(
        &self,
        rules: &Rules<'_>,
        found: &Path,
        (span, what): (Option<Span>, &str),
    ) -> Option<Diagnostic> {
        let refused = Diagnostic::error("E0305", format!("`{}` cannot be run", found.display()));
        if self.is_noexec(rules, found) {
            return Some(
                refused
                    .at_maybe(span, format!("{what} lies on a mount with `noexec`"))
                    .note("the kernel reports this as \"permission denied\""),
            );
        }
        let closed = self.closed_to(rules, found).or_else(|| self.denied(rules, found, RUN));
        Some(refused.at_maybe(span, format!("{what}: permission denied")).note(closed?))
    }

    /// Why the command's user cannot get as far as a path of the jail.
    pub(super) fn closed_to(&self, rules: &Rules<'_>, path: &Path) -> Option<String> {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        above.into_iter().rev().find_map(|directory| self.not_entered(rules, directory))
    }

    /// Why the command's user cannot enter a directory of the jail.
    pub(super) fn not_entered(&self, rules: &Rules<'_>, directory: &Path) -> Option<String> {
        self.denied(rules, directory, ENTER)
    }

    /// Who may not do that, and why; nothing where that is not certain.
    fn denied(&self, rules: &Rules<'_>, path: &Path, verb: &str) -> Option<String> {
        let process = rules.process.as_ref()?;
        let behind = self.view.behind(self.host, path)?;
        let attributes = self.host.attributes(&behind).ok()?;
        let Attributes { mode, uid, gid } = attributes;
        let class = if process.uid == Some(uid) {
            mode >> 6
        } else if process.gids.contains(&Some(gid)) {
            mode >> 3
        } else if process.has_others {
            mode >> 3 | mode
        } else {
            mode
        };
        if class & EXECUTE != 0 {
            return None;
        }
        // Capabilities hold for files whose owner and group are mapped.
        let is_mapped =
            self.maps.as_ref().is_none_or(|maps| holds(&maps.uid, uid) && holds(&maps.gid, gid));
        let privileged = if verb == ENTER {
            process.overrides || process.searches
        } else {
            process.overrides && mode & 0o111 != 0
        };
        if is_mapped && privileged || self.host.has_own_rules(&behind) {
            return None;
        }
        let (who, path) = (&process.shown, path.display());
        let whose = if self.maps.is_some() { " of the host" } else { "" };
        Some(format!(
            "{who} may not {verb} `{path}`: its mode is {mode:04o}, its owner {uid}:{gid}{whose}"
        ))
    }

    /// Whether the mount that holds a file of the jail keeps it from being run.
    fn is_noexec(&self, rules: &Rules<'_>, found: &Path) -> bool {
        let expected = rules.steps.iter().find_map(|planned| match &planned.step {
            Step::VerifyMounts { expected } => Some(expected),
            _ => None,
        });
        let holder = expected.into_iter().flatten().rfind(|mount| {
            mount.target == found || view::rest_below(found, &mount.target).is_some()
        });
        if holder.is_some_and(|mount| mount.flags.noexec) {
            return true;
        }
        // An overlay, or a copy, has none of the flags of what it is made of.
        let is_made = |holder: view::Holder| matches!(holder.place, Place::Layers(_));
        !self.view.holder(found).is_some_and(is_made)
            && self.view.behind(self.host, found).is_some_and(|path| self.host.is_noexec(&path))
    }
}

/// Whether an id of the host is somebody's in the jail.
fn holds(ranges: &[IdRange], outside: u32) -> bool {
    ranges.iter().any(|range| outside.checked_sub(range.outside).is_some_and(|n| n < range.count))
}
