//! `[[devices]]`, and the controller that refuses every other device.
//!
//! Without capabilities, and with `nodev` on every mount, a jail cannot make or
//! open a device node beyond those it is given: the controller would have
//! nothing to refuse, and is not put up. It is where one of these layers is
//! given up.

use std::path::PathBuf;

use super::cgroup::{Groups, Layout, LeftOut, Reason};
use super::root::DEVICES;
use super::step::{DeviceNumber, DeviceRule, MountFlags, NodeKind, Origin, Planned, Step};
use super::view::{Place, Walk};
use super::{Planner, origin};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::names;
use crate::source::Span;
use crate::unit::devices::Access;
use crate::unit::mounts::MountKind;
use crate::unit::namespaces::Mode;
use crate::unit::root::Switch;

/// A device of the unit that the host has.
#[derive(Clone, Debug)]
pub(super) struct Found {
    source: PathBuf,
    target: PathBuf,
    number: DeviceNumber,
    access: Access,
    span: Option<Span>,
}

/// Flags of a bound node: its mode and owner are the host's, and stay.
pub(crate) const NODE_FLAGS: MountFlags =
    MountFlags { read_only: true, nosuid: true, nodev: false, noexec: true, noatime: false };

const BOTH: Access = Access { read: true, write: true };

fn number(kind: Kind) -> Option<DeviceNumber> {
    match kind {
        Kind::Character(major, minor) => Some(DeviceNumber { block: false, major, minor }),
        Kind::Block(major, minor) => Some(DeviceNumber { block: true, major, minor }),
        _ => None,
    }
}

impl<H: Host> Planner<'_, H> {
    /// Looks for the devices on the host.
    pub(super) fn find_devices(&mut self) {
        let unit = self.unit;
        for device in &unit.devices {
            let target = device.path.value.0.clone();
            let (path, span) = match &device.host_path {
                Some(path) => (self.resolve(&path.value), path.span),
                None => (target.clone(), device.path.span),
            };
            let name = path.display();
            match self.host.canonical(&path) {
                Ok((source, kind)) => match number(kind) {
                    Some(number) => {
                        let access = device.access.value;
                        self.devices.push(Found { source, target, number, access, span });
                    }
                    None => self.find(
                        Diagnostic::error("E0301", format!("`{name}` is not a device node"))
                            .at_maybe(span, "of the host"),
                    ),
                },
                Err(error) => {
                    let reason = crate::unit::io_reason(&error);
                    if device.optional.value && error.kind() == std::io::ErrorKind::NotFound {
                        let reason = format!("`{name}`: {reason}");
                        self.left_out.push(LeftOut { key: "devices", reason });
                        continue;
                    }
                    self.find(
                        Diagnostic::error("E0301", format!("the host has no device `{name}`"))
                            .at_maybe(span, reason)
                            .help("`optional = true` leaves it out where it does not exist"),
                    );
                }
            }
        }
    }

    /// Binds them.
    pub(super) fn device_nodes(&mut self) {
        for Found { source, target, number, span, .. } in self.devices.clone() {
            let by = origin(span, "devices");
            let target = match self.follow(&target, span) {
                Some(Walk::Found(path, Kind::Directory)) => {
                    self.find(
                        Diagnostic::error("E0204", format!("`{}` is a directory", path.display()))
                            .at_maybe(span, "a device node is mounted on a file"),
                    );
                    continue;
                }
                Some(Walk::Found(path, _)) => path,
                Some(Walk::Missing(path)) => {
                    if !self.make(&path, NodeKind::File, span, by) {
                        continue;
                    }
                    path
                }
                None => continue,
            };
            self.view.mount(&target, Place::Host(source.clone()), true);
            self.expect(target.clone(), None, NODE_FLAGS, false);
            self.push(Step::BindDevice { source, target, number }, by);
        }
    }

    /// Why the controller has something to refuse, if it has.
    pub(super) fn device_layers(&self) -> Option<Origin> {
        let unit = self.unit;
        if let Some(device) = self.devices.first() {
            return Some(origin(device.span, "devices"));
        }
        if let Some(mount) = unit.mounts.iter().find(|mount| !mount.flags.nodev) {
            return Some(origin(mount.kind.span, "mounts"));
        }
        // In a user namespace no node can be made, nor opened on a new mount.
        if self.private_user {
            return None;
        }
        let capabilities = &unit.security.capabilities;
        let asked = capabilities.value.0 & (names::CAP_MKNOD | names::CAP_SYS_ADMIN);
        if asked != 0 && asked & self.host.capabilities() != 0 {
            return Some(origin(capabilities.span, "security.capabilities"));
        }
        if unit.root.switch.value == Switch::Chroot {
            return Some(origin(unit.root.switch.span, "root.switch"));
        }
        let pid = &unit.namespaces.pid;
        (pid.value != Mode::Private).then(|| origin(pid.span, "namespaces.pid"))
    }

    /// What the jail may do with which devices.
    fn device_rules(&mut self) -> Vec<DeviceRule> {
        let rule = |block, major, minor| DeviceRule {
            block,
            major,
            minor,
            read: true,
            write: true,
            mknod: true,
        };
        let mut rules: Vec<_> =
            DEVICES.iter().map(|(_, major, minor)| rule(false, *major, Some(*minor))).collect();
        // Terminals of the jail's own: ptmx and the other ends.
        rules.push(rule(false, 5, Some(2)));
        rules.push(rule(false, 136, None));
        let mut add = |number: DeviceNumber, access: Access| {
            let DeviceNumber { block, major, minor } = number;
            let known = rules
                .iter_mut()
                .find(|rule| (rule.block, rule.major, rule.minor) == (block, major, Some(minor)));
            let Access { read, write } = access;
            let new = DeviceRule { block, major, minor: Some(minor), read, write, mknod: false };
            match known {
                Some(known) => *known = new,
                None => rules.push(new),
            }
        };
        for device in &self.devices {
            add(device.number, device.access);
        }
        let unit = self.unit;
        for mount in unit.mounts.iter().filter(|mount| !mount.flags.nodev) {
            let MountKind::Bind(path) = &mount.kind.value else { continue };
            // A missing one is told where it is bound.
            let Ok((_, kind)) = self.host.canonical(&self.resolve(path)) else { continue };
            match number(kind) {
                Some(number) => add(number, BOTH),
                None if kind == Kind::Directory => self.findings.push(
                    Diagnostic::warning(
                        "W0010",
                        format!("devices below `{}` stay closed", mount.target.value.0.display()),
                    )
                    .at_maybe(mount.kind.span, "its nodes can be opened where they are listed")
                    .help("list those that are meant in `[[devices]]`"),
                ),
                None => {}
            }
        }
        rules
    }

    /// Puts the controller up where it has something to refuse.
    pub(super) fn device_group(&mut self, layout: &Layout, name: &str, groups: &mut Groups) {
        let Some(by) = self.device_layers() else {
            self.left_out.push(LeftOut {
                key: "devices",
                reason: "the controller, which has nothing to refuse: no node can be made, and none opened but those of /dev".to_owned(),
            });
            return;
        };
        let is_v1 = |hierarchy: &&super::cgroup::Hierarchy| {
            hierarchy.controllers.iter().any(|name| name == "devices")
        };
        let v1 = layout.v1.iter().find(is_v1);
        let (uid, _) = self.host.ids();
        // Root of a container may have groups to write in, and still not this.
        let can = uid == 0
            && self.host.capabilities() & names::CAP_SYS_ADMIN != 0
            && !self.host.in_user_namespace();
        let (directory, is_v2) = match (v1, &layout.v2, &groups.v2) {
            _ if !can => return self.no_device_group(by, Reason::NotRoot),
            (Some(hierarchy), ..) if self.host.may_write(&hierarchy.own) => {
                (hierarchy.own.join(name), false)
            }
            (None, Some(_), Some(group)) => (group.clone(), true),
            (None, Some(v2), None) if self.host.may_write(&v2.own) => (v2.own.join(name), true),
            (Some(_), ..) | (None, Some(_), None) => {
                return self.no_device_group(by, Reason::NotDelegated);
            }
            (None, None, _) => {
                return self.no_device_group(by, Reason::NoController("devices"));
            }
        };
        let rules = self.device_rules();
        if !is_v2 || groups.v2.is_none() {
            let step = Step::CreateCgroup { directory: directory.clone() };
            groups.create.push(Planned { step, origin: by });
        }
        let limit = Planned {
            step: Step::LimitDevices { directory: directory.clone(), is_v2, rules },
            origin: by,
        };
        // The kernel asks the controller when it mounts a block device too.
        let mounts_devices = matches!(
            self.unit.root.kind.as_ref().map(|kind| &kind.value),
            Some(crate::unit::root::RootKind::Image(_))
        ) || self
            .unit
            .mounts
            .iter()
            .any(|mount| matches!(mount.kind.value, MountKind::Image(_)));
        // From outside it is not asked, and inside a user namespace nobody may
        // give rules.
        if mounts_devices && !self.opens_trees {
            self.limit_devices_late = Some(limit);
        } else {
            groups.create.push(limit);
        }
        if is_v2 {
            groups.v2 = Some(directory);
        } else {
            groups.join.push(Planned { step: Step::JoinCgroup { directory }, origin: by });
        }
    }

    fn no_device_group(&mut self, by: Origin, reason: Reason) {
        let restricted = self.unit.devices.iter().find(|device| device.access.value != BOTH);
        if let Some(device) = restricted {
            self.find(
                Diagnostic::error(
                    "E0309",
                    "`access` needs the devices controller, which only root of the host can set",
                )
                .at_maybe(device.access.span, "nothing else tells reading from writing")
                .help("leave `access` out: the node's own mode holds for the caller"),
            );
        } else if self.private_user {
            self.left_out.push(LeftOut {
                key: "devices",
                reason: "the controller, which an ordinary user cannot set: of the nodes bound here the jail opens what the caller may".to_owned(),
            });
        } else {
            // What shares its processes or could walk out of its root has
            // these layers still; who gives up one of them asks for another.
            let switch = self.unit.root.switch.span;
            let pid = self.unit.namespaces.pid.span;
            let span = match by {
                Origin::Key(span) if Some(span) != switch && Some(span) != pid => Some(span),
                _ => None,
            };
            self.missing("devices", span, reason);
        }
    }
}
