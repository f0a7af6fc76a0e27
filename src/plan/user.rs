//! Who the command runs as, looked up in the jail's own files.

use std::path::Path;

use super::Planner;
use super::files::{PasswdLine, TOO_LARGE};
use super::image::AFTER_UNPACKING;
use super::root::Tree;
use crate::diagnostic::Diagnostic;
use crate::host::Host;
use crate::source::Span;
use crate::unit::value::Who;

/// Who the command runs as.
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) name: String,
    pub(super) home: String,
}

impl User {
    /// One that no file knows.
    fn numbered(id: u32) -> Self {
        Self { uid: id, gid: id, groups: Vec::new(), name: id.to_string(), home: "/".into() }
    }
}

impl<H: Host> Planner<'_, H> {
    /// A user of the jail by name, or a diagnostic.
    pub(super) fn uid_of(&mut self, name: &str, span: Option<Span>) -> Option<PasswdLine> {
        let error = |label: String| {
            Diagnostic::error("E0303", format!("the jail has no user `{name}`"))
                .at_maybe(span, label)
        };
        match self.passwd(|line| line.name == name) {
            Ok(Some(line)) => Some(line),
            Ok(None) => {
                self.find(error("not in the jail's `/etc/passwd`".to_owned()));
                None
            }
            // A root that is not there has been reported, or will be.
            Err(_) if self.view.holder(Path::new("/")).is_none() => None,
            Err(_) if self.waits_for_image("user", name, span) => None,
            Err(reason) => {
                self.find(error(reason).help("a number needs no file"));
                None
            }
        }
    }

    /// Whether a name can be looked up once the image has been unpacked.
    fn waits_for_image(&mut self, what: &str, name: &str, span: Option<Span>) -> bool {
        let waits = self.packed.as_ref().is_some_and(|packed| packed.stored.is_none());
        if waits {
            self.unknown.push(("process.user", AFTER_UNPACKING.to_owned()));
            let root = self.unit.root.kind.as_ref().and_then(|kind| kind.span);
            let message =
                format!("the {what} `{name}` is looked up when the image has been unpacked");
            self.find(
                Diagnostic::warning("W0008", message)
                    .at_maybe(span.or(root), "shown as root until then")
                    .help("`jailrun image import` unpacks it"),
            );
        }
        waits
    }

    /// A group of the jail by name, or a diagnostic.
    pub(super) fn gid_of(&mut self, name: &str, span: Option<Span>) -> Option<u32> {
        let error = |label: String| {
            Diagnostic::error("E0303", format!("the jail has no group `{name}`"))
                .at_maybe(span, label)
        };
        match self.group(name) {
            Ok(Some(gid)) => Some(gid),
            Ok(None) => {
                self.find(error("not in the jail's `/etc/group`".to_owned()));
                None
            }
            // A root that is not there has been reported, or will be.
            Err(_) if self.view.holder(Path::new("/")).is_none() => None,
            Err(_) if self.waits_for_image("group", name, span) => None,
            Err(reason) => {
                self.find(error(reason).help("a number needs no file"));
                None
            }
        }
    }

    /// Names are those of the jail: this is asked before its mounts are
    /// planned, so the files are the root's.
    pub(super) fn user(&mut self, tree: Option<&Tree>) -> User {
        let unit = self.unit;
        if let Some(tree) = tree {
            // The root as a view of its own, for the look-up alone.
            self.view.mount(Path::new("/"), tree.place(), true);
            self.show_closure(tree);
        }
        let process = &unit.process;
        let mut user = match &process.user.value {
            Who::Id(0) => User {
                uid: 0,
                gid: 0,
                groups: Vec::new(),
                name: "root".into(),
                home: "/root".into(),
            },
            Who::Id(id) => match self.passwd(|line| line.uid == *id) {
                Ok(Some(line)) => from_passwd(line),
                Err(reason) if reason.ends_with(TOO_LARGE) => {
                    let message = format!("the group of the user {id} cannot be told");
                    let found = Diagnostic::error("E0303", message);
                    self.find(found.at_maybe(process.user.span, reason));
                    self.view.clear();
                    return User::numbered(*id);
                }
                _ => User::numbered(*id),
            },
            Who::Name(name) => match self.uid_of(name, process.user.span) {
                Some(line) => from_passwd(line),
                None => User {
                    uid: 0,
                    gid: 0,
                    groups: Vec::new(),
                    name: name.clone(),
                    home: "/".into(),
                },
            },
        };
        if let Some(group) = &process.group {
            user.gid = match &group.value {
                Who::Id(id) => *id,
                Who::Name(name) => self.gid_of(name, group.span).unwrap_or(user.gid),
            };
        }
        for group in &process.supplementary_groups.value {
            let gid = match &group.value {
                Who::Id(id) => Some(*id),
                Who::Name(name) => self.gid_of(name, group.span),
            };
            user.groups.extend(gid);
        }
        user.groups.sort_unstable();
        user.groups.dedup();
        let group = process.group.as_ref().and_then(|group| group.span);
        let mut ids = vec![
            ("user", user.uid, process.user.span),
            ("group", user.gid, group.or(process.user.span)),
        ];
        let further = process.supplementary_groups.span;
        let sets_groups = self.may_set_groups();
        if sets_groups {
            ids.extend(user.groups.iter().map(|gid| ("group", *gid, further)));
        }
        let is_sound = self.refuse_unmapped(&ids);
        if is_sound && !sets_groups && !user.groups.is_empty() {
            let reason = "in a user namespace without further ids there is only root";
            self.find(
                Diagnostic::error("E0309", "an ordinary user cannot set groups")
                    .at_maybe(further, reason),
            );
        }
        self.view.clear();
        user
    }
}

fn from_passwd(line: PasswdLine) -> User {
    User { uid: line.uid, gid: line.gid, groups: Vec::new(), name: line.name, home: line.home }
}
