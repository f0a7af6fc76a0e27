//! `[root]`: what the jail sees as `/`.

use super::decode::{Context, FromNode, Reader, Setting, one_of};
use super::tree::{Node, Value};
use super::value::{Bytes, HostPath, JailPath, Mode, True};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// The table.
#[derive(Clone, Debug)]
pub struct Root {
    /// Where the tree comes from; absent when that could not be read.
    pub kind: Option<Setting<RootKind>>,
    /// `read-only`, with the kind's own default.
    pub read_only: Setting<bool>,
    /// `switch`.
    pub switch: Setting<Switch>,
    /// `api-filesystems`.
    pub api_filesystems: Setting<Vec<ApiFilesystem>>,
    /// `propagation`.
    pub propagation: Setting<Propagation>,
}

/// Where the root's tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootKind {
    /// A directory of the host.
    Directory(HostPath),
    /// The host's own tree.
    Host,
    /// An empty file system in memory.
    Tmpfs {
        /// Its size.
        size: Bytes,
        /// At most that many files.
        inodes: Option<u64>,
        /// Permission bits of `/`.
        mode: Mode,
    },
}

/// How the root is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// pivot_root(2), and the old root is detached.
    Pivot,
    /// chroot(2) alone.
    Chroot,
}

/// Propagation type of a mount, see mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Propagation {
    /// Nothing in, nothing out.
    Private,
    /// In, not out.
    Slave,
    /// In and out.
    Shared,
    /// Private, and cannot be bound.
    Unbindable,
}

impl FromNode for Propagation {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(
            node,
            cx,
            &[
                ("private", Self::Private),
                ("slave", Self::Slave),
                ("shared", Self::Shared),
                ("unbindable", Self::Unbindable),
            ],
        )
    }
}

impl FromNode for Switch {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(node, cx, &[("pivot", Self::Pivot), ("chroot", Self::Chroot)])
    }
}

/// A file system that comes from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApiFilesystem {
    /// `/proc`
    Proc,
    /// `/sys`
    Sys,
    /// `/dev`
    Dev,
    /// `/tmp`
    Tmp,
    /// `/run`
    Run,
}

impl ApiFilesystem {
    /// All, in the order they are mounted.
    pub const ALL: [Self; 5] = [Self::Proc, Self::Sys, Self::Dev, Self::Tmp, Self::Run];

    /// Where it goes.
    pub fn path(self) -> &'static str {
        match self {
            Self::Proc => "/proc",
            Self::Sys => "/sys",
            Self::Dev => "/dev",
            Self::Tmp => "/tmp",
            Self::Run => "/run",
        }
    }
}

impl FromNode for Vec<ApiFilesystem> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(true) => Some(ApiFilesystem::ALL.to_vec()),
            Value::Boolean(false) => Some(Vec::new()),
            Value::Array(_) => {
                let wanted = Vec::<Setting<JailPath>>::from_node(node, cx)?;
                let mut list = Vec::new();
                for path in &wanted {
                    let known = ApiFilesystem::ALL
                        .iter()
                        .find(|api| path.value.0.as_os_str() == api.path());
                    match known {
                        Some(api) => list.push(*api),
                        None => cx.findings.push(
                            Diagnostic::error(
                                "E0103",
                                format!(
                                    "`{}` is not one of the kernel's file systems",
                                    path.value.0.display()
                                ),
                            )
                            .at_maybe(path.span, "expected /proc, /sys, /dev, /tmp or /run"),
                        ),
                    }
                }
                // The order of the list has no meaning: none lies inside another.
                list.sort_by_key(|api| api.path());
                list.dedup();
                Some(ApiFilesystem::ALL.into_iter().filter(|api| list.contains(api)).collect())
            }
            _ => {
                cx.wrong_type(node, "true, false or a list of paths");
                None
            }
        }
    }
}

impl Root {
    /// Reads the table. `whole` is the place to complain about a missing one;
    /// absent where one was meant and has been reported.
    pub fn read(reader: &Reader<'_>, whole: Option<Span>) -> Self {
        let path = reader.get::<HostPath>("path");
        let host = reader.get::<True>("host");
        let tmpfs = reader.get::<Bytes>("tmpfs");
        let inodes = reader.get::<u64>("inodes");
        let mode = reader.get_or("mode", Mode(0o755));
        let written: Vec<_> =
            ["path", "host", "tmpfs"].into_iter().filter_map(|key| reader.entry(key)).collect();
        match &written[..] {
            [] if ["path", "host", "tmpfs"].into_iter().any(|key| reader.has(key)) => {}
            [] if whole.is_none() => {}
            [] => reader.findings().push(
                Diagnostic::error("E0104", "the unit does not say what its root is")
                    .at_maybe(whole, "")
                    .note("one of `path = \"/directory\"`, `host = true` and `tmpfs = \"64M\"` in `[root]`"),
            ),
            [_] => {}
            [first, second, ..] => reader.findings().push(
                Diagnostic::error("E0105", "a root is of one kind")
                    .at(second.key_span, "second kind")
                    .context(Some(first.key_span), "first kind"),
            ),
        }
        if tmpfs.is_none() && !reader.has("tmpfs") {
            for key in ["inodes", "mode"] {
                if let Some(entry) = reader.entry(key) {
                    reader.findings().push(
                        Diagnostic::error("E0106", format!("`{key}` belongs to a `tmpfs` root"))
                            .at(entry.key_span, "without effect"),
                    );
                }
            }
        }
        let kind = path
            .map(|path| path.map(RootKind::Directory))
            .or_else(|| host.map(|host| host.map(|_| RootKind::Host)))
            .or_else(|| {
                tmpfs.map(|size| {
                    size.map(|size| RootKind::Tmpfs {
                        size,
                        inodes: inodes.map(|inodes| inodes.value),
                        mode: mode.value,
                    })
                })
            });
        let is_host = matches!(kind.as_ref().map(|kind| &kind.value), Some(RootKind::Host));
        Self {
            kind,
            read_only: reader.get_or("read-only", is_host),
            switch: reader.get_or("switch", Switch::Pivot),
            api_filesystems: reader.get_or("api-filesystems", ApiFilesystem::ALL.to_vec()),
            propagation: reader.get_or("propagation", Propagation::Private),
        }
    }
}
