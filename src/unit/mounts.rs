//! `[[mounts]]`: what is put into the root, in order.

use super::decode::{Context, Findings, FromNode, Reader, Setting, one_of, tables};
use super::root::{DiskImage, Overlay, Propagation};
use super::tree::{Node, Table, Value};
use super::value::{Bytes, HostPath, JailPath, Mode, True, Who};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// One entry.
#[derive(Clone, Debug)]
pub struct Mount {
    /// Where, inside the jail.
    pub target: Setting<JailPath>,
    /// What.
    pub kind: Setting<MountKind>,
    /// The flags every kind takes.
    pub flags: MountFlags,
    /// `recursive`.
    pub recursive: bool,
    /// `optional`.
    pub optional: Setting<bool>,
    /// `create`.
    pub create: Setting<Create>,
    /// `propagation`.
    pub propagation: Setting<Propagation>,
    /// `idmap`.
    pub idmap: Setting<bool>,
}

/// The flags of a mount, as the unit names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountFlags {
    /// No writes.
    pub read_only: bool,
    /// Set-user-id bits have no effect.
    pub nosuid: bool,
    /// Device nodes cannot be opened.
    pub nodev: bool,
    /// Files cannot be executed.
    pub noexec: bool,
    /// Access times are not updated.
    pub noatime: bool,
}

impl MountFlags {
    /// None of them.
    pub const NONE: Self =
        Self { read_only: false, nosuid: false, nodev: false, noexec: false, noatime: false };
}

/// What an entry puts at its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountKind {
    /// A part of the host.
    Bind(HostPath),
    /// Memory.
    Tmpfs(Tmpfs),
    /// Directories laid over each other.
    Overlay(Overlay),
    /// A file with a file system in it.
    Image(DiskImage),
    /// procfs.
    Proc,
    /// sysfs.
    Sysfs,
    /// devpts.
    Devpts,
    /// POSIX message queues.
    Mqueue,
    /// The control groups.
    Cgroup,
    /// A file with that text.
    Content(String),
    /// A symbolic link.
    Symlink(String),
    /// Nothing to see.
    Mask,
}

impl MountKind {
    /// Keys that cannot be chosen for it: flags that it has or lacks in any case,
    /// and what does not apply to it at all.
    fn fixed(&self) -> &'static [(&'static str, Option<bool>)] {
        match self {
            Self::Bind(_) | Self::Tmpfs(_) | Self::Proc | Self::Mqueue => &[],
            Self::Sysfs | Self::Content(_) => &[("read-only", Some(true))],
            Self::Cgroup => &[("read-only", Some(true)), ("noexec", Some(true))],
            Self::Image(_) => &[("read-only", Some(true)), ("propagation", None)],
            Self::Overlay(_) => &[("propagation", None)],
            // The terminals are devices.
            Self::Devpts => {
                &[("nosuid", Some(true)), ("nodev", Some(false)), ("noexec", Some(true))]
            }
            Self::Mask => &[
                ("read-only", Some(true)),
                ("nosuid", Some(true)),
                ("noexec", Some(true)),
                ("nodev", None),
                ("noatime", None),
                ("propagation", None),
                ("create", None),
            ],
            Self::Symlink(_) => &[
                ("read-only", None),
                ("nosuid", None),
                ("noexec", None),
                ("nodev", None),
                ("noatime", None),
                ("propagation", None),
                ("create", None),
            ],
        }
    }

    /// Whether something for it is prepared outside the root.
    pub fn needs_stage(&self) -> bool {
        match self {
            Self::Content(_) | Self::Overlay(_) => true,
            Self::Bind(_)
            | Self::Tmpfs(_)
            | Self::Proc
            | Self::Sysfs
            | Self::Devpts
            | Self::Mqueue
            | Self::Cgroup
            | Self::Symlink(_)
            | Self::Image(_)
            | Self::Mask => false,
        }
    }
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its size.
    pub size: Bytes,
    /// At most that many files.
    pub inodes: Option<u64>,
    /// Permission bits.
    pub mode: Mode,
    /// Owner.
    pub user: Setting<Who>,
    /// Group.
    pub group: Setting<Who>,
}

/// What to do about a missing mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Create {
    /// Create what the source is.
    Auto,
    /// Create a directory.
    Dir,
    /// Create an empty file.
    File,
    /// Refuse.
    Never,
}

impl FromNode for Create {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        if let Value::Boolean(false) = node.value {
            return Some(Self::Never);
        }
        one_of(node, cx, &[("auto", Self::Auto), ("dir", Self::Dir), ("file", Self::File)])
    }
}

const KINDS: [&str; 12] = [
    "bind", "tmpfs", "overlay", "image", "proc", "sysfs", "devpts", "mqueue", "cgroup", "content",
    "symlink", "mask",
];

/// Reads every entry.
pub fn read(node: Option<&Node>, findings: &Findings) -> Vec<Mount> {
    tables(node, "mounts", findings, read_one)
}

fn read_one(table: &Table, whole: Span, findings: &Findings) -> Option<Mount> {
    let reader = Reader::new(Some(table), "mounts", findings);
    let target = reader.get::<JailPath>("target");
    if !reader.has("target") {
        findings.push(
            Diagnostic::error("E0104", "a mount without `target`").at(whole, "in this entry"),
        );
    }
    if let Some(Setting { value, span }) = &target
        && value.0.parent().is_none()
    {
        findings.push(
            Diagnostic::error("E0201", "a mount over `/`")
                .at_maybe(*span, "the root itself")
                .help("`[root]` says what `/` is"),
        );
    }
    let written: Vec<_> = KINDS.iter().filter_map(|key| reader.entry(key)).collect();
    match &written[..] {
        [] if KINDS.iter().any(|key| reader.has(key)) => {}
        [] => findings.push(
            Diagnostic::error("E0104", "a mount that does not say what to mount")
                .at(whole, "in this entry")
                .note(format!("one of `{}`", KINDS.join("`, `"))),
        ),
        [_] => {}
        [first, second, ..] => findings.push(
            Diagnostic::error("E0105", "a mount is of one kind")
                .at(second.key_span, "second kind")
                .context(Some(first.key_span), "first kind"),
        ),
    }
    let mode = reader.get::<Mode>("mode");
    let inodes = reader.get::<u64>("inodes");
    let user = reader.get_or("user", Who::Id(0));
    let group = reader.get_or("group", Who::Id(0));
    belongs_to(&reader, &["inodes", "mode", "user", "group"], &["tmpfs"]);
    belongs_to(&reader, &["recursive", "idmap"], &["bind"]);
    belongs_to(&reader, &["optional"], &["bind", "mask"]);
    let truth =
        |key: &str, kind: MountKind| reader.get::<True>(key).map(|found| found.map(|_| kind));
    let kind = reader
        .get::<HostPath>("bind")
        .map(|path| path.map(MountKind::Bind))
        .or_else(|| {
            reader.get::<Bytes>("tmpfs").map(|size| {
                size.map(|size| {
                    MountKind::Tmpfs(Tmpfs {
                        size,
                        inodes: inodes.map(|inodes| inodes.value),
                        mode: mode.map_or(Mode(0o755), |mode| mode.value),
                        user,
                        group,
                    })
                })
            })
        })
        .or_else(|| reader.get::<Overlay>("overlay").map(|it| it.map(MountKind::Overlay)))
        .or_else(|| {
            let path = reader.get::<HostPath>("image")?;
            let whole = |path| MountKind::Image(DiskImage { path, filesystem: None, offset: 0 });
            Some(path.map(whole))
        })
        .or_else(|| truth("proc", MountKind::Proc))
        .or_else(|| truth("sysfs", MountKind::Sysfs))
        .or_else(|| truth("devpts", MountKind::Devpts))
        .or_else(|| truth("mqueue", MountKind::Mqueue))
        .or_else(|| truth("cgroup", MountKind::Cgroup))
        .or_else(|| reader.get::<String>("content").map(|text| text.map(MountKind::Content)))
        .or_else(|| reader.get::<String>("symlink").map(|to| to.map(MountKind::Symlink)))
        .or_else(|| truth("mask", MountKind::Mask));
    let flags = MountFlags {
        read_only: reader.get_or("read-only", false).value,
        nosuid: reader.get_or("nosuid", true).value,
        nodev: reader.get_or("nodev", true).value,
        noexec: reader.get_or("noexec", false).value,
        noatime: reader.get_or("noatime", false).value,
    };
    let recursive = reader.get_or("recursive", true).value;
    let optional = reader.get_or("optional", false);
    let create = reader.get_or("create", Create::Auto);
    let propagation = reader.get_or("propagation", Propagation::Private);
    let idmap = reader.get_or("idmap", false);
    if let Some(kind) = &kind {
        let values = [
            ("read-only", flags.read_only),
            ("nosuid", flags.nosuid),
            ("nodev", flags.nodev),
            ("noexec", flags.noexec),
            ("noatime", flags.noatime),
        ];
        check_effect(&reader, kind.value.fixed(), &values);
    }
    let (target, kind) = (target?, kind?);
    Some(Mount { target, kind, flags, recursive, optional, create, propagation, idmap })
}

/// Refuses keys that could not change anything about a mount of that kind.
fn check_effect(reader: &Reader<'_>, fixed: &[(&str, Option<bool>)], values: &[(&str, bool)]) {
    let kind = KINDS.iter().find(|kind| reader.has(kind)).copied().unwrap_or_default();
    for (key, always) in fixed {
        let Some(entry) = reader.entry(key) else { continue };
        let written = values.iter().find(|(name, _)| name == key).map(|(_, value)| *value);
        if always.is_some() && *always == written {
            continue;
        }
        let help = always.map(|always| format!("`{kind}` is `{key} = {always}` in any case"));
        reader.findings().push(
            Diagnostic::error("E0106", format!("`{key}` is not for `{kind}`"))
                .at(entry.key_span, "without effect here")
                .help_maybe(help),
        );
    }
}

fn belongs_to(reader: &Reader<'_>, keys: &[&str], kinds: &[&str]) {
    if kinds.iter().any(|kind| reader.has(kind)) {
        return;
    }
    for key in keys {
        if let Some(entry) = reader.entry(key) {
            let kinds = kinds.join("` or `");
            reader.findings().push(
                Diagnostic::error("E0106", format!("`{key}` belongs to `{kinds}`"))
                    .at(entry.key_span, "without effect here"),
            );
        }
    }
}
