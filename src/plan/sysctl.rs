//! The session keyring, and parameters of the kernel that belong to a
//! namespace of the jail.

use std::io::ErrorKind;
use std::path::Path;

use super::step::Step;
use super::{Origin, Planner, unspan};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, kernel_version};
use crate::unit::decode::nearest;
use crate::unit::namespaces::Mode;
use crate::unit::process::{Keyring, Network};
use crate::unit::sysctl::{Owner, Sysctl};

impl<H: Host> Planner<'_, H> {
    pub(super) fn keyring(&mut self) {
        let keyring = &self.unit.security.keyring;
        match keyring.value {
            Keyring::Private => {
                self.setting(Step::NewKeyring, &unspan(keyring), "security.keyring");
            }
            Keyring::Host => self.find(
                Diagnostic::warning("W0003", "the jail can use every key of the caller's session")
                    .at_maybe(keyring.span, "shared here"),
            ),
        }
    }

    pub(super) fn sysctls(&mut self) {
        let unit = self.unit;
        for sysctl in &unit.security.sysctl {
            let name = sysctl.name();
            let (is_private, shared, needs) = match sysctl.owner() {
                None => {
                    self.find(
                        Diagnostic::error("E0319", format!("`{name}` belongs to no namespace"))
                            .at(sysctl.span, "set for the whole host")
                            .help("set it on the host, where it is meant"),
                    );
                    continue;
                }
                Some(Owner::Net) => (
                    unit.network.value == Network::None,
                    unit.network.span,
                    "`mode = \"none\"` in `[network]`",
                ),
                Some(Owner::Ipc) => (
                    unit.namespaces.ipc.value == Mode::Private,
                    unit.namespaces.ipc.span,
                    "`ipc = \"private\"` in `[namespaces]`",
                ),
                Some(Owner::Uts) => (
                    unit.namespaces.uts.value == Mode::Private,
                    unit.namespaces.uts.span,
                    "`uts = \"private\"` in `[namespaces]`",
                ),
                Some(Owner::User) => (
                    self.private_user,
                    unit.namespaces.user.span,
                    "`user = \"private\"` in `[namespaces]`",
                ),
            };
            if !is_private {
                self.find(
                    Diagnostic::error(
                        "E0319",
                        format!("`{name}` belongs to a namespace that is not the jail's own"),
                    )
                    .at(sysctl.span, "would be set for others too")
                    .context(shared, "shared here")
                    .help(format!("it needs {needs}")),
                );
                continue;
            }
            if sysctl.owner() == Some(Owner::Uts) && self.private_user {
                let key = sysctl.path.trim_start_matches("kernel/");
                self.find(
                    Diagnostic::error("E0309", format!("`{name}` is the host root's to write"))
                        .at(sysctl.span, "not in a user namespace")
                        .help(format!("the key `{key}` at the top of the unit sets it")),
                );
                continue;
            }
            let step = Step::SetSysctl { path: sysctl.path.clone(), value: sysctl.value.clone() };
            self.push(step, Origin::Key(sysctl.span));
        }
    }

    /// Parameters that this kernel does not have, or does not show to the jail: a
    /// namespace of the jail's own shows none that the host does not show.
    pub(super) fn check_sysctls(&mut self) {
        let unit = self.unit;
        let all = Path::new("/proc/sys");
        if unit.security.sysctl.is_empty() || self.host.look(all).is_err() {
            return;
        }
        for sysctl in unit.security.sysctl.iter().filter(|sysctl| sysctl.owner().is_some()) {
            let path = all.join(&sysctl.path);
            if !matches!(self.host.look(&path), Err(error) if error.kind() == ErrorKind::NotFound) {
                self.check_hidden_sysctl(sysctl);
                continue;
            }
            let name = sysctl.name();
            let found = Diagnostic::error("E0310", format!("this kernel has no `{name}`"))
                .at(sysctl.span, format!("`{}` does not exist", path.display()));
            let (directory, own) = sysctl.path.rsplit_once('/').unwrap_or(("", &sysctl.path));
            let known = self.host.list(&all.join(directory)).unwrap_or_default();
            let near = nearest(own, known.iter().map(String::as_str))
                .and_then(|near| Some(format!("{}{near}", name.strip_suffix(own)?)));
            self.find(match near {
                Some(near) => found.help(format!("it has `{near}`")),
                None => found,
            });
        }
    }

    fn check_hidden_sysctl(&mut self, sysctl: &Sysctl) {
        if !self.private_user {
            return;
        }
        let label = match sysctl.hidden_from_user_namespaces() {
            Some(None) => "shown to networks of the host's root alone".to_owned(),
            Some(Some(since)) if kernel_version(self.host).is_some_and(|it| it < since) => {
                format!("Linux {}.{} shows it there", since.0, since.1)
            }
            _ => return,
        };
        let found = format!("a user namespace has no `{}`", sysctl.name());
        self.find(Diagnostic::error("E0310", found).at(sysctl.span, label));
    }
}
