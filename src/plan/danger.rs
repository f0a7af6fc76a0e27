//! What of the host is not handed to a jail without a word: binds of it, and
//! what comes along with a bind.

use std::path::{Path, PathBuf};

use super::Planner;
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind, Mounted};
use crate::mountinfo;
use crate::source::Span;
use crate::unit::root::RootKind;

/// Sockets through which the host's container engines and init are commanded.
pub(crate) const ENGINE_SOCKETS: &[&str] =
    &["docker.sock", "containerd.sock", "crio.sock", "podman.sock", "buildkitd.sock"];

/// Where they are below a directory for sockets.
const ENGINE_PLACES: &[&str] = &[
    "docker.sock",
    "containerd.sock",
    "containerd/containerd.sock",
    "crio.sock",
    "crio/crio.sock",
    "podman.sock",
    "podman/podman.sock",
    "buildkitd.sock",
    "buildkit/buildkitd.sock",
];

/// Magic numbers of file systems whose every file is the kernel's, statfs(2):
/// binfmt_misc, bpf, cgroup of both versions, configfs, debugfs, efivarfs, proc,
/// pstore, securityfs, selinuxfs, sysfs and tracefs.
const INTERFACES: &[i64] = &[
    0x4249_4e4d,
    0xcafe_4a11,
    0x0027_e0eb,
    0x6367_7270,
    0x6265_6570,
    0x6462_6720,
    0xde5e_81e4,
    PROC,
    0x6165_676c,
    0x7363_6673,
    0xf97c_ff8c,
    0x6265_6572,
    0x7472_6163,
];

const PROC: i64 = 0x9fa0;

/// What is handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Tree,
    Interfaces,
    Devices,
    Terminals,
    Queues,
    Namespace,
    Services,
    State,
    Sockets,
}

impl Reason {
    fn text(self) -> &'static str {
        match self {
            Self::Tree => "the host's whole tree",
            Self::Interfaces => "the host's kernel interfaces",
            Self::Devices => "the host's devices",
            Self::Terminals => "the host's terminals",
            Self::Queues => "the host's message queues",
            Self::Namespace => "a namespace of the host",
            Self::Services => "command of the host's services",
            Self::State => "jailrun's own state",
            Self::Sockets => "the host's sockets",
        }
    }

    fn of_type(fstype: &str) -> Option<Self> {
        mountinfo::is_handed_out(fstype).then_some(match fstype {
            "devtmpfs" => Self::Devices,
            "devpts" => Self::Terminals,
            "mqueue" => Self::Queues,
            "nsfs" => Self::Namespace,
            _ => Self::Interfaces,
        })
    }
}

/// Something that a bind takes along.
#[derive(Debug)]
pub(crate) struct Inner {
    /// The host's path.
    pub(crate) path: PathBuf,
    /// What it hands out.
    pub(crate) reason: Reason,
    /// What it is, as the rest of a sentence.
    what: String,
    /// Whether a mount below the source holds it.
    is_below: bool,
    /// Whether it is a process file system.
    pub(crate) is_proc: bool,
}

/// What a path of the host hands out by its name; `None` for files like any
/// other.
fn by_name(host: &impl Host, source: &Path) -> Option<Reason> {
    let state = host.state_directory();
    let name = source.file_name().map(|name| name.to_string_lossy());
    if source.parent().is_none() {
        Some(Reason::Tree)
    } else if source.starts_with("/proc") || source.starts_with("/sys") {
        Some(Reason::Interfaces)
    } else if source == Path::new("/dev") {
        Some(Reason::Devices)
    } else if name.is_some_and(|name| ENGINE_SOCKETS.contains(&&*name))
        || source.starts_with("/run/systemd")
        || source.starts_with("/run/dbus")
    {
        Some(Reason::Services)
    } else if source.starts_with(&state) || state.starts_with(source) {
        Some(Reason::State)
    } else if source == Path::new("/run") {
        Some(Reason::Sockets)
    } else {
        None
    }
}

/// Whether the file system that a path is on is the kernel's.
fn is_interface(host: &impl Host, path: &Path) -> bool {
    matches!(host.filesystem(path), Ok(found) if INTERFACES.contains(&found))
}

/// Sockets of container engines in a directory, at their usual places.
fn sockets_in(host: &impl Host, directory: &Path, is_below: bool) -> Vec<Inner> {
    ENGINE_PLACES
        .iter()
        .map(|place| directory.join(place))
        .filter(|path| matches!(host.look(path), Ok(Kind::Other)))
        .map(|path| {
            let (reason, what) = (Reason::Services, "is a socket".to_owned());
            Inner { path, reason, what, is_below, is_proc: false }
        })
        .collect()
}

/// Those mounts whose type alone hands out something of the host.
fn by_type(mounts: &[Mounted]) -> Vec<Inner> {
    mounts.iter().filter_map(of_type).collect()
}

fn of_type(mount: &Mounted) -> Option<Inner> {
    Some(Inner {
        path: mount.target.clone(),
        reason: Reason::of_type(&mount.fstype)?,
        what: format!("is a file system of the type {}", mount.fstype),
        is_below: true,
        is_proc: mount.fstype == "proc",
    })
}

/// Those mounts that hand out something of the host, and the sockets in them.
fn of_mounts(host: &impl Host, mounts: &[Mounted]) -> Vec<Inner> {
    let mut found = Vec::new();
    for mount in mounts {
        let path = &mount.target;
        let here = by_name(host, path).map(|reason| (reason, "is mounted there".to_owned()));
        let other = || {
            mount.elsewhere.iter().find_map(|other| {
                Some((by_name(host, other)?, format!("is `{}`", other.display())))
            })
        };
        let named = || {
            let (reason, what) = here.or_else(other)?;
            Some(Inner { path: path.clone(), reason, what, is_below: true, is_proc: false })
        };
        match of_type(mount).or_else(named) {
            Some(inner) => found.push(inner),
            // Where directories for sockets are.
            None if mount.fstype == "tmpfs" => found.extend(sockets_in(host, path, true)),
            None => {}
        }
    }
    found
}

/// What a bind hands out that its name does not tell.
pub(crate) fn inside(host: &impl Host, source: &Path, recursive: bool) -> Vec<Inner> {
    if is_interface(host, source) {
        let is_proc = matches!(host.filesystem(source), Ok(PROC));
        let (path, reason) = (source.to_owned(), Reason::Interfaces);
        return vec![Inner { path, reason, what: String::new(), is_below: false, is_proc }];
    }
    let mut inner = sockets_in(host, source, false);
    if recursive {
        inner.extend(of_mounts(host, &host.mounts_below(source).unwrap_or_default()));
    }
    inner
}

/// A part of the host in the jail that takes such things along.
#[derive(Debug)]
pub(super) struct Taken {
    /// What is done with it.
    what: &'static str,
    source: PathBuf,
    target: PathBuf,
    span: Option<Span>,
    recursive: bool,
    inner: Vec<Inner>,
}

impl<H: Host> Planner<'_, H> {
    /// Refuses binds, and what amounts to one, that hand out the host; whether
    /// this is one.
    pub(super) fn check_danger(&mut self, what: &str, source: &Path, span: Option<Span>) -> bool {
        let Some(reason) = by_name(self.host, source) else { return false };
        let diagnostic = self.refusal(&format!("{what} `{}`", source.display()), reason, None);
        self.find(diagnostic.at_maybe(span, "bound here"));
        true
    }

    fn refusal(&self, what: &str, reason: Reason, at: Option<&Path>) -> Diagnostic {
        let reason = reason.text();
        let allow = &self.unit.security.allow_dangerous_binds;
        let at = at.map(|at| format!(", at `{}`", at.display())).unwrap_or_default();
        if allow.value {
            Diagnostic::warning("W0005", format!("{what} hands the jail {reason}{at}"))
                .context(allow.span, "allowed here")
        } else {
            Diagnostic::error("E0202", format!("{what} would hand the jail {reason}{at}"))
                .help("`allow-dangerous-binds = true` in `[security]` accepts that")
        }
    }

    /// Looks at what a bind takes along: the file system that its source is on,
    /// sockets in it, and what is mounted below. Told when everything is planned
    /// that could cover it.
    pub(super) fn check_below(
        &mut self,
        source: &Path,
        kind: Kind,
        target: &Path,
        recursive: bool,
        span: Option<Span>,
    ) {
        if is_interface(self.host, source) {
            let what = format!("binding `{}`", source.display());
            let diagnostic = self.refusal(&what, Reason::Interfaces, None);
            self.find(diagnostic.at_maybe(span, "bound here"));
            return;
        }
        if kind != Kind::Directory {
            return;
        }
        let mut inner = sockets_in(self.host, source, false);
        if recursive {
            match self.host.mounts_below(source) {
                Ok(mounts) => inner.extend(of_mounts(self.host, &mounts)),
                Err(error) => {
                    let message =
                        format!("what is mounted below `{}` cannot be told", source.display());
                    self.find(
                        Diagnostic::error("E0301", message)
                            .at_maybe(span, crate::unit::io_reason(&error))
                            .help("`recursive = false` leaves it out"),
                    );
                }
            }
        }
        self.take_along("binding", source, target, recursive, span, inner);
    }

    fn take_along(
        &mut self,
        what: &'static str,
        source: &Path,
        target: &Path,
        recursive: bool,
        span: Option<Span>,
        inner: Vec<Inner>,
    ) {
        if !inner.is_empty() {
            let (source, target) = (source.to_owned(), target.to_owned());
            self.taken.push(Taken { what, source, target, span, recursive, inner });
        }
    }

    /// The same of a root directory with memory over it, whose mounts are planned
    /// one by one.
    pub(super) fn check_covered(&mut self, source: &Path, mounts: &[Mounted]) {
        let kind = self.unit.root.kind.as_ref();
        let Some(kind) = kind.filter(|kind| matches!(kind.value, RootKind::Directory(_))) else {
            return;
        };
        let inner = by_type(mounts);
        self.take_along("the root", source, Path::new("/"), false, kind.span, inner);
    }

    /// Looks at what is mounted below the root directory, and below directories
    /// of a closure. A launch finds it in the jail's own mountinfo instead.
    pub(super) fn look_below_root(&mut self) {
        let Some(kind) = &self.unit.root.kind else { return };
        let what = match &kind.value {
            // Its rules are its own.
            RootKind::Host => return,
            RootKind::Closure(_) => "binding",
            _ => "the root",
        };
        for (source, target) in std::mem::take(&mut self.below_root) {
            let mounts = self.host.mounts_below(&source).unwrap_or_default();
            let inner = by_type(&mounts);
            self.take_along(what, &source, &target, false, kind.span, inner);
        }
    }

    /// Refuses what comes along with a bind and nothing of the plan covers.
    pub(super) fn say_taken(&mut self) {
        for Taken { what, source, target, span, recursive, inner } in
            std::mem::take(&mut self.taken)
        {
            let inside = |path: &Path| Some(target.join(path.strip_prefix(&source).ok()?));
            let seen: Vec<_> = inner
                .into_iter()
                .filter_map(|inner| Some((inside(&inner.path)?, inner)))
                .filter(|(inside, inner)| {
                    self.view.behind(self.host, inside).as_deref() == Some(&*inner.path)
                })
                .collect();
            let Some((inside, first)) = seen.first() else { continue };
            let what = format!("{what} `{}`", source.display());
            let mut diagnostic = self
                .refusal(&what, first.reason, Some(&first.path))
                .at_maybe(span, "comes along with it")
                .note(format!("`{}` {}", first.path.display(), first.what));
            if let [(_, second), more @ ..] = &seen[1..] {
                let second = second.path.display();
                diagnostic = diagnostic.note(match more.len() {
                    0 => format!("`{second}` is another"),
                    more => format!("`{second}` and {more} more are others"),
                });
            }
            if !self.unit.security.allow_dangerous_binds.value {
                // The kernel does not let an ordinary user uncover what lies below.
                let may_leave_out = !self.private_user || self.opens_trees;
                let cure = match recursive && may_leave_out && first.is_below {
                    true => "`recursive = false` leaves out what is mounted below".to_owned(),
                    false => {
                        format!("`{{ target = \"{}\", mask = true }}` hides it", inside.display())
                    }
                };
                diagnostic = diagnostic.help(format!(
                    "{cure}; `allow-dangerous-binds = true` in `[security]` accepts it"
                ));
            }
            self.find(diagnostic);
        }
    }
}
