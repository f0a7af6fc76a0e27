//! `--dry-run`: what would happen here, and whether it would work. Asks the
//! host, changes nothing.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::host::{Host, Kind};
use crate::names;
use crate::plan::cgroup::LeftOut;
use crate::plan::describe::{asked_by, describe};
use crate::plan::ids::unmappable;
use crate::plan::step::{IdRange, Namespace, NodeKind, OWN_FILES, Step};
use crate::plan::{FoundIds, Plan, Planning};
use crate::source::Sources;
use crate::unit::Effective;

/// Whether a step would work here now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// What it needs is there.
    Works,
    /// Something it needs is not there.
    Fails(String),
    /// What it needs lies where nobody can look yet.
    Unknown(String),
}

use Outlook::{Fails, Unknown, Works};

/// What a step needs, looked up on the host.
pub fn outlook(step: &Step, host: &impl Host) -> Outlook {
    match step {
        Step::MakeStateDirectory { path } => match host.look(path) {
            Ok(Kind::Directory) => {
                needs(host.may_write(path), || format!("{} cannot be written", path.display()))
            }
            Ok(_) => Fails(format!("{} is not a directory", path.display())),
            Err(_) => writable_parent(path, host),
        },
        Step::Journal { path } => {
            needs(!host.is_locked(path), || "a jail of this name is running".to_owned())
        }
        Step::ClaimIds { path, name } => {
            let owner = host.read(path, 64).unwrap_or_default();
            needs(!host.is_locked(path) || owner == name.as_bytes(), || {
                "another jail has this range".to_owned()
            })
        }
        Step::ShiftOwners { root, .. } => {
            needs(host.may_write(root), || format!("{} cannot be written", root.display()))
        }
        Step::BecomeRoot | Step::AttachTree { .. } => Works,
        // Planning has asked whether their directories can be written.
        Step::MakeHostNode { .. } | Step::MakeHostLink { .. } => Works,
        Step::CreateCgroup { directory } => match host.look(directory) {
            // One that a killed launch has left is taken back.
            Ok(_) => Works,
            Err(_) => writable_parent(directory, host),
        },
        Step::EnableControllers { directory, controllers } => {
            let there = host.read(&directory.join("cgroup.controllers"), 4096).unwrap_or_default();
            let there = String::from_utf8_lossy(&there).into_owned();
            let missing = controllers
                .iter()
                .find(|name| !there.split_whitespace().any(|word| word == **name));
            match missing {
                Some(name) => Fails(format!("{} does not have {name}", directory.display())),
                None => Works,
            }
        }
        Step::MoveSupervisor { .. } => Works,
        // The group is not there yet; its parent's siblings tell what it will have.
        Step::SetLimit { file, .. } => limit_file(file, host),
        Step::KillOnOom { .. } => Works,
        Step::LimitDevices { directory, is_v2: false, .. } => {
            limit_file(&directory.join("devices.deny"), host)
        }
        Step::LimitDevices { is_v2: true, .. } => {
            needs(host.capabilities() & names::CAP_SYS_ADMIN != 0, || {
                "the caller lacks CAP_SYS_ADMIN".to_owned()
            })
        }
        Step::OpenStream { path, .. } => match host.look(path) {
            Ok(Kind::Directory) => Fails(format!("{} is a directory", path.display())),
            Ok(Kind::Link) => Fails(format!("{} is a symbolic link", path.display())),
            Ok(_) => Works,
            Err(_) => writable_parent(path, host),
        },
        Step::Supervise { .. } => Works,
        Step::JoinPidNamespace { path } => namespace_file(path, host),
        Step::ClearGroups => Works,
        Step::Enter { namespaces, map, trees, .. } => {
            let files = trees.len() as u64 + OWN_FILES;
            let limit = host.hard_limit(names::NOFILE);
            if !trees.is_empty() && limit < files {
                return Fails(format!("it takes {files} open files, the hard limit is {limit}"));
            }
            if let Some(reason) = trees.iter().find_map(|tree| unmappable(tree, host)) {
                return Fails(reason);
            }
            let missing = namespaces.iter().find(|namespace| {
                host.look(&Path::new("/proc/self/ns").join(namespace.file())).is_err()
            });
            if let Some(namespace) = missing {
                return Fails(format!("this kernel has no {} namespaces", namespace.file()));
            }
            if map.is_some() {
                return user_namespaces(host);
            }
            needs(host.capabilities() & names::CAP_SYS_ADMIN != 0, || {
                "the caller lacks CAP_SYS_ADMIN".to_owned()
            })
        }
        Step::JoinCgroup { .. } | Step::NewSession | Step::NewKeyring => Works,
        Step::ForbidTracing => Works,
        Step::JoinNamespace { path, .. } => namespace_file(path, host),
        // Planning has found it.
        Step::FindJail { .. } | Step::JoinJail { .. } => Works,
        Step::NewCgroupNamespace => needs(
            host.look(Path::new("/proc/self/ns").join(Namespace::Cgroup.file()).as_path()).is_ok(),
            || "this kernel has no cgroup namespaces".to_owned(),
        ),
        Step::PrivateMounts { .. } | Step::SetHostname { .. } | Step::SetDomainname { .. } => Works,
        Step::ImportImage { .. } | Step::HoldImage { .. } => Works,
        Step::AttachLoop { .. } => needs(host.look(Path::new("/dev/loop-control")).is_ok(), || {
            "the host has no /dev/loop-control".to_owned()
        }),
        Step::MountLoop { filesystem, .. } => file_system(filesystem.name(), host),
        Step::LockDirectory { path } => {
            needs(!host.is_locked(path), || "another jail has its changes there".to_owned())
        }
        Step::MountMemory { .. } => file_system("tmpfs", host),
        Step::MountOverlay { overlay, .. } => {
            let at = overlay.upper.iter().map(|(upper, _)| upper).chain(&overlay.lower);
            let state = host.state_directory();
            let missing = at
                .filter(|path| !path.starts_with(&state))
                .find(|path| !matches!(host.look(path), Ok(Kind::Directory)));
            match missing {
                Some(path) => Fails(format!("{} is not a directory", path.display())),
                None => file_system("overlay", host),
            }
        }
        Step::UnpackTree { source, .. } => {
            needs(matches!(host.look(source), Ok(Kind::File { .. })), || {
                format!("{} is not a regular file", source.display())
            })
        }
        Step::CopyTree { source, .. } => {
            needs(matches!(host.look(source), Ok(Kind::Directory)), || {
                format!("{} is not a directory", source.display())
            })
        }
        Step::MakeStageNode { .. } | Step::LinkLayer { .. } => Works,
        Step::LoopbackUp | Step::MountStage { .. } | Step::WriteContent { .. } => Works,
        Step::AttachRoot { source, .. } => match host.look(source) {
            Ok(Kind::Directory) => Works,
            _ => Fails(format!("{} is not a directory", source.display())),
        },
        Step::MountRoot { .. } => file_system("tmpfs", host),
        Step::MakeNode { .. } | Step::MakeLink { .. } => Works,
        Step::Mount { fstype, .. } => file_system(fstype, host),
        Step::Bind { source, .. } => {
            // What `content` writes is not there yet.
            let prepared = source.starts_with(host.state_directory());
            needs(prepared || host.look(source).is_ok(), || {
                format!("{} does not exist", source.display())
            })
        }
        Step::BindDevices { names } => {
            let missing = names.iter().find(|name| {
                !matches!(host.look(&Path::new("/dev").join(name)), Ok(Kind::Character(..)))
            });
            match missing {
                Some(name) => Fails(format!("the host has no device /dev/{name}")),
                None => Works,
            }
        }
        Step::BindDevice { source, .. } => {
            needs(matches!(host.look(source), Ok(Kind::Character(..) | Kind::Block(..))), || {
                format!("{} is not a device", source.display())
            })
        }
        Step::Mask { kind: NodeKind::Directory, .. } => file_system("tmpfs", host),
        Step::Mask { kind: NodeKind::File, .. } => {
            needs(matches!(host.look(Path::new("/dev/null")), Ok(Kind::Character(1, 3))), || {
                "the host's /dev/null is not the device".to_owned()
            })
        }
        Step::ProtectPath { .. } | Step::SetPropagation { .. } | Step::ProtectRoot => Works,
        Step::Pivot { .. } | Step::Chroot { .. } | Step::VerifyMounts { .. } => Works,
        Step::ResetSecurebits | Step::HideArguments | Step::Init { .. } => Works,
        // What a new namespace has is not always what the host's has.
        Step::SetSysctl { .. } => Works,
        Step::Terminal => Works,
        Step::UseStream { .. } | Step::SetUmask { .. } | Step::SetNice { .. } => Works,
        Step::SetOomScoreAdjust { .. } | Step::SetAffinity { .. } => Works,
        Step::SetRlimit { index, hard, .. } => {
            let ceiling = host.hard_limit(names::RLIMITS[*index].number);
            let may_raise = host.capabilities() & names::CAP_SYS_RESOURCE != 0;
            needs(may_raise || *hard <= ceiling, || {
                format!("the caller's own hard limit is {ceiling}")
            })
        }
        Step::LimitCapabilities { .. } | Step::SetIds { .. } | Step::SetCapabilities { .. } => {
            Works
        }
        Step::ChangeDirectory { .. } | Step::NoNewPrivileges => Works,
        // Planning has asked which of it the kernel has.
        Step::Landlock(_) => Works,
        Step::CloseFds { keep } => match keep.iter().find(|fd| !host.is_open(**fd)) {
            Some(fd) => Fails(format!("descriptor {fd} is not open")),
            None => Works,
        },
        Step::LoadSeccomp { .. } => {
            needs(host.look(Path::new("/proc/sys/kernel/seccomp/actions_avail")).is_ok(), || {
                "this kernel has no filters for system calls".to_owned()
            })
        }
        // Planning has looked for the command and its interpreter.
        Step::Exec { .. } => Works,
    }
}

fn needs(holds: bool, reason: impl FnOnce() -> String) -> Outlook {
    if holds { Works } else { Fails(reason()) }
}

fn writable_parent(path: &Path, host: &impl Host) -> Outlook {
    let parent = path.parent().unwrap_or(path);
    needs(host.may_write(parent), || format!("{} cannot be written", parent.display()))
}

fn namespace_file(path: &Path, host: &impl Host) -> Outlook {
    needs(host.look(path).is_ok(), || format!("{} does not exist", path.display()))
}

fn file_system(fstype: &str, host: &impl Host) -> Outlook {
    let list = host.read(Path::new("/proc/filesystems"), 65_536).unwrap_or_default();
    let list = String::from_utf8_lossy(&list).into_owned();
    let has = list.lines().any(|line| line.split_whitespace().last() == Some(fstype));
    needs(has, || format!("this kernel has no {fstype}"))
}

fn limit_file(file: &Path, host: &impl Host) -> Outlook {
    let Some(parent) = file.parent().and_then(Path::parent) else { return Works };
    let Some(name) = file.file_name() else { return Works };
    if host.look(&parent.join(name)).is_ok() {
        return Works;
    }
    // Files that the topmost group alone does not have: any child shows them.
    let children = host.list(parent).unwrap_or_default();
    let children: Vec<_> = children
        .iter()
        .map(|child| parent.join(child))
        .filter(|child| host.look(child).is_ok_and(|kind| kind == Kind::Directory))
        .collect();
    let shown = children.iter().any(|child| host.look(&child.join(name)).is_ok());
    needs(shown || children.is_empty(), || {
        format!("this kernel's controller has no {}", name.to_string_lossy())
    })
}

fn user_namespaces(host: &impl Host) -> Outlook {
    let number = |path: &str| {
        let content = host.read(Path::new(path), 64).ok()?;
        String::from_utf8_lossy(&content).trim().parse::<u64>().ok()
    };
    if number("/proc/sys/user/max_user_namespaces") == Some(0) {
        return Fails("user.max_user_namespaces is 0".to_owned());
    }
    if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
        return Fails("kernel.unprivileged_userns_clone is 0".to_owned());
    }
    if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) {
        return Fails("kernel.apparmor_restrict_unprivileged_userns is 1".to_owned());
    }
    Works
}

/// Everything the report needs.
#[derive(Debug)]
pub struct DryRun<'a> {
    /// The plan, if there is one.
    pub planning: &'a Planning,
    /// The settings in force.
    pub settings: &'a [Effective],
    /// The texts.
    pub sources: &'a Sources,
}

impl DryRun<'_> {
    fn steps(&self, host: &impl Host) -> Vec<(Outlook, String, String)> {
        let plan = self.planning.plan.as_ref();
        plan.map_or(&[][..], |plan| &plan.steps)
            .iter()
            .map(|planned| {
                let outlook = match self.unknown(&planned.step) {
                    Some(reason) => Unknown(reason.to_owned()),
                    None => outlook(&planned.step, host),
                };
                (outlook, describe(&planned.step), asked_by(planned.origin, self.sources))
            })
            .collect()
    }

    /// What has to be done before the file that a step is about can be looked for.
    fn unknown(&self, step: &Step) -> Option<&str> {
        let key = match step {
            Step::Exec { .. } => "process.command",
            Step::ChangeDirectory { .. } => "process.cwd",
            Step::SetIds { .. } => "process.user",
            _ => return None,
        };
        let unknown = self.planning.unknown.iter().find(|(of, _)| *of == key);
        unknown.map(|(_, reason)| &**reason)
    }

    /// Every setting in force with its value and the place that set it.
    fn effective(&self) -> Vec<(&str, Cow<'_, str>, String)> {
        let of_image = &self.planning.from_image;
        let mut list = Vec::new();
        for setting in self.settings {
            let key = setting.key.as_str();
            match (setting.span, of_image.iter().find(|(known, _)| *known == key)) {
                (Some(span), _) => {
                    list.push((key, Cow::from(&*setting.value), self.sources.place(span)));
                }
                // Listed below.
                (None, Some(_)) => {}
                (None, None) => list.push((key, Cow::from(&*setting.value), "default".to_owned())),
            }
        }
        let place = "the image's configuration";
        list.extend(
            of_image.iter().map(|(key, value)| (*key, Cow::from(&**value), place.to_owned())),
        );
        list.extend(self.planning.ids.iter().map(|FoundIds { key, range, place }| {
            let IdRange { inside, outside, count } = range;
            let value = format!("{{ inside = {inside}, outside = {outside}, count = {count} }}");
            (*key, Cow::from(value), place.clone())
        }));
        list
    }

    /// Whether the launch would work.
    pub fn would_work(&self, host: &impl Host) -> bool {
        self.planning.plan.is_some()
            && !self.steps(host).iter().any(|(outlook, ..)| matches!(outlook, Fails(_)))
    }

    /// The report for people, with escape sequences for `anstream`.
    pub fn text(&self, host: &impl Host) -> String {
        let mut out = String::new();
        self.write_text(host, &mut out).expect("writing to a String cannot fail");
        out
    }

    fn write_text(&self, host: &impl Host, out: &mut String) -> std::fmt::Result {
        const DIM: &str = "\x1b[2m";
        const BOLD: &str = "\x1b[1m";
        const RED: &str = "\x1b[1;31m";
        const GREEN: &str = "\x1b[32m";
        const YELLOW: &str = "\x1b[33m";
        const RESET: &str = "\x1b[0m";
        writeln!(out, "{BOLD}settings{RESET}")?;
        let settings = self.effective();
        let width = settings.iter().map(|(key, ..)| key.len()).max().unwrap_or(0);
        for (key, value, place) in &settings {
            writeln!(out, "  {key:width$}  {}  {DIM}{place}{RESET}", one_line(value))?;
        }
        for LeftOut { key, reason } in &self.planning.left_out {
            writeln!(out, "  {key:width$}  left out: {reason}")?;
        }
        let Some(plan) = &self.planning.plan else {
            return writeln!(out, "\nthe jail would not start");
        };
        let steps = self.steps(host);
        let enter = plan.enter();
        let (mut failing, mut is_known) = (0, true);
        for (index, (outlook, text, origin)) in steps.iter().enumerate() {
            if index == 0 {
                writeln!(out, "\n{BOLD}on the host{RESET}")?;
            } else if index == enter + 1 {
                writeln!(out, "\n{BOLD}in the jail{RESET}")?;
            }
            let (mark, colour, reason) = match outlook {
                Works => ("ok  ", GREEN, String::new()),
                Fails(reason) => {
                    failing += 1;
                    ("FAIL", RED, format!("  {RED}{reason}{RESET}"))
                }
                Unknown(reason) => {
                    is_known = false;
                    ("?   ", YELLOW, format!("  {YELLOW}{reason}{RESET}"))
                }
            };
            let text = one_line(text);
            writeln!(
                out,
                "{:4}  {colour}{mark}{RESET}  {text}{reason}  {DIM}{origin}{RESET}",
                index + 1
            )?;
        }
        let (count, name) = (steps.len(), &plan.name);
        match (failing, is_known) {
            (0, true) => writeln!(out, "\n{count} steps; the jail `{name}` would start"),
            (0, false) => writeln!(
                out,
                "\n{count} steps; the jail `{name}` would start, if what is marked ? works"
            ),
            _ => writeln!(
                out,
                "\n{failing} of {count} steps would fail; the jail `{name}` would not start"
            ),
        }
    }

    /// The report for programs.
    pub fn json(&self, host: &impl Host) -> Value {
        let plan: Option<&Plan> = self.planning.plan.as_ref();
        let enter = plan.map_or(0, Plan::enter);
        let steps: Vec<Value> = self
            .steps(host)
            .into_iter()
            .enumerate()
            .map(|(index, (outlook, text, origin))| {
                json!({
                    "number": index + 1,
                    "side": if index <= enter { "host" } else { "jail" },
                    "step": text,
                    "origin": origin,
                    "works": match outlook {
                        Works => Some(true),
                        Fails(_) => Some(false),
                        Unknown(_) => None,
                    },
                    "reason": match outlook {
                        Works => None,
                        Fails(reason) | Unknown(reason) => Some(reason),
                    },
                })
            })
            .collect();
        json!({
            "name": plan.map(|plan| &plan.name),
            "works": self.would_work(host),
            "settings": self.effective().iter().map(|(key, value, place)| json!({
                "key": key, "value": value, "origin": place,
            })).collect::<Vec<_>>(),
            "left-out": self.planning.left_out.iter().map(|left| json!({
                "key": left.key, "reason": left.reason,
            })).collect::<Vec<_>>(),
            "steps": steps,
            "diagnostics": crate::diagnostic::to_json(&self.planning.diagnostics, self.sources),
        })
    }
}

/// A text without line breaks or other control characters, cut where it is
/// longer than a report can bear.
fn one_line(text: &str) -> String {
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(160).collect();
    if text.chars().count() > 160 {
        line.push('…');
    }
    line
}
