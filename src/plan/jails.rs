//! Namespaces of other jails: `jail:NAME`.

use std::path::Path;

use super::Planner;
use super::step::{Namespace, Origin, Step};
use crate::diagnostic::Diagnostic;
use crate::host::Host;
use crate::source::Span;
use crate::unit::namespaces::Mode;
use crate::unit::process::Network;

/// The jail that a namespace is joined of.
pub(super) fn jail_of(mode: &Mode) -> Option<&str> {
    match mode {
        Mode::Jail(name) => Some(name),
        Mode::Private | Mode::Host | Mode::Join(_) => None,
    }
}

impl<H: Host> Planner<'_, H> {
    /// Looks for the jails that are joined.
    pub(super) fn find_jails(&mut self, state: &Path) {
        let unit = self.unit;
        let namespaces = &unit.namespaces;
        let network = match &unit.network.value {
            Network::Jail(name) => Some(&**name),
            Network::None | Network::Host => None,
        };
        let joins = [
            (Namespace::Pid, jail_of(&namespaces.pid.value), namespaces.pid.span),
            (Namespace::Ipc, jail_of(&namespaces.ipc.value), namespaces.ipc.span),
            (Namespace::Uts, jail_of(&namespaces.uts.value), namespaces.uts.span),
            (Namespace::Cgroup, jail_of(&namespaces.cgroup.value), namespaces.cgroup.span),
            (Namespace::Net, network, unit.network.span),
        ];
        for (namespace, name, span) in joins {
            let Some(name) = name else { continue };
            if self.private_user {
                self.find(
                    Diagnostic::error("E0309", "namespaces of another jail need real root")
                        .at_maybe(span, "they belong to another user namespace"),
                );
                continue;
            }
            if let Some(pid) = self.find_jail(state, name, span) {
                self.check_own(namespace, name, pid, span);
            }
        }
    }

    fn find_jail(&mut self, state: &Path, name: &str, span: Option<Span>) -> Option<u32> {
        if let Some((_, pid)) = self.jails.iter().find(|(known, _)| known == name) {
            return Some(*pid);
        }
        let label = match self.host.jail(name) {
            Ok(Some(pid)) => {
                self.jails.push((name.to_owned(), pid));
                let journal = state.join(format!("{name}.json"));
                let step = Step::FindJail { journal, name: name.to_owned(), pid };
                self.push(step, span.map_or(Origin::Default("namespaces"), Origin::Key));
                return Some(pid);
            }
            Ok(None) => "not running".to_owned(),
            Err(reason) => reason,
        };
        self.find(
            Diagnostic::error("E0320", format!("the jail `{name}` cannot be joined"))
                .at_maybe(span, label),
        );
        None
    }

    /// What that jail shares with the host is not its to give.
    fn check_own(&mut self, namespace: Namespace, name: &str, pid: u32, span: Option<Span>) {
        let of = |process: &str| {
            let path = Path::new("/proc").join(process).join("ns").join(namespace.file());
            self.host.read_link(&path).ok()
        };
        if of("self").is_some_and(|ours| Some(ours) == of(&pid.to_string())) {
            let what = namespace.file();
            self.find(
                Diagnostic::error(
                    "E0320",
                    format!("the jail `{name}` has no {what} namespace of its own"),
                )
                .at_maybe(span, "it shares the host's")
                .help("\"host\" says so"),
            );
        }
    }

    /// The step that joins a namespace of a jail that was found.
    pub(super) fn join_jail(&self, namespace: Namespace, name: Option<&str>) -> Option<Step> {
        let (name, pid) = self.jails.iter().find(|(known, _)| Some(&**known) == name)?;
        Some(Step::JoinJail { namespace, name: name.clone(), pid: *pid })
    }
}
