//! `[root]`: what the jail sees as `/`.

use super::decode::{Context, FromNode, Reader, Setting, one_of};
use super::tree::{Node, Value};
use super::value::{Bounded, Bytes, HostPath, JailPath, Memory, Mode, True};
use crate::block_image::{FILESYSTEMS, Filesystem};
use crate::closure::Extra;
use crate::diagnostic::Diagnostic;
use crate::image::digest::Digest;
use crate::source::Span;

/// The table.
#[derive(Clone, Debug)]
pub struct Root {
    /// Where the tree comes from; absent when that could not be read.
    pub kind: Option<Setting<RootKind>>,
    /// `read-only`, with the kind's own default.
    pub read_only: Setting<bool>,
    /// `ephemeral`.
    pub ephemeral: Setting<bool>,
    /// `ephemeral-size`.
    pub ephemeral_size: Setting<Memory>,
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
    /// A file system in memory.
    Tmpfs {
        /// Its size.
        size: Bytes,
        /// At most that many files.
        inodes: Option<u64>,
        /// Permission bits of `/`.
        mode: Mode,
        /// What is copied into it, in order.
        populate: Vec<Setting<HostPath>>,
    },
    /// Directories laid over each other.
    Overlay(Overlay),
    /// Programs of the host with all they need, and nothing else.
    Closure(Closure),
    /// An archive, unpacked once into the store.
    Tar(Tar),
    /// An image with its layers, unpacked once into the store: the path of a
    /// layout or archive, and `:` with a reference where it holds several.
    Oci(String),
    /// A file with a file system in it.
    Image(DiskImage),
}

/// An archive of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tar {
    /// The file.
    pub path: HostPath,
    /// What it must be.
    pub sha256: Option<Digest>,
    /// Leading components taken off every name.
    pub strip_components: u32,
}

/// A file with a file system in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskImage {
    /// The file.
    pub path: HostPath,
    /// Which file system; found out where it is not said.
    pub filesystem: Option<Filesystem>,
    /// Where it starts, in bytes.
    pub offset: u64,
}

impl FromNode for Digest {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let found = format!("sha256:{}", text.strip_prefix("sha256:").unwrap_or(&text)).parse();
        if found.is_err() {
            let message = format!("`{}` is not a SHA-256 digest", text.escape_debug());
            cx.findings.push(cx.invalid(node, message, "64 digits, 0-9 and a-f"));
        }
        found.ok()
    }
}

impl FromNode for Filesystem {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let names = FILESYSTEMS.map(|filesystem| (filesystem.name(), filesystem));
        one_of(node, cx, &names)
    }
}

/// Programs of the host with all they need. Paths are the same on the host and
/// in the jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closure {
    /// Programs: paths, or names that are looked for in `PATH`.
    pub binaries: Vec<Setting<String>>,
    /// Libraries: paths, or the names that programs ask for them by.
    pub libraries: Vec<Setting<String>>,
    /// Files and directories, as they are.
    pub files: Vec<Setting<JailPath>>,
    /// Groups of files.
    pub with: Vec<Setting<Extra>>,
}

impl FromNode for Extra {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(node, cx, &Self::TABLE)
    }
}

impl RootKind {
    /// Whether it stays as it is unless the unit says otherwise.
    pub fn is_kept(&self) -> bool {
        match self {
            Self::Directory(_) | Self::Tmpfs { .. } => false,
            Self::Host | Self::Closure(_) | Self::Tar(_) | Self::Oci(_) | Self::Image(_) => true,
            Self::Overlay(overlay) => overlay.upper.is_none(),
        }
    }
}

/// Directories laid over each other, top-most first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// Those that stay as they are.
    pub lower: Vec<Setting<HostPath>>,
    /// What takes the changes; without it there can be none.
    pub upper: Option<Setting<Upper>>,
    /// The kernel's scratch directory; by default beside the upper one.
    pub work: Option<Setting<HostPath>>,
}

/// What takes the changes of an overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upper {
    /// A directory of the host.
    Directory(HostPath),
    /// Memory, gone with the jail.
    Memory(Memory),
}

impl FromNode for Overlay {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            cx.wrong_type(node, "a table such as { lower = [\"/directory\"], upper = \"tmpfs\" }");
            return None;
        };
        let mut overlay = Self { lower: Vec::new(), upper: None, work: None };
        let mut complete = true;
        for entry in &table.entries {
            let cx = Context { key: &entry.key, ..cx };
            let path = || {
                let value = HostPath::from_node(&entry.node, cx)?;
                Some(Setting { value, span: Some(entry.node.span) })
            };
            let read = match &*entry.key {
                "lower" => Vec::from_node(&entry.node, cx).map(|lower| overlay.lower = lower),
                "upper" => path().map(|path| {
                    overlay.upper = Some(path.map(|path| match path.0.as_os_str() == "tmpfs" {
                        true => Upper::Memory(Memory::Percent(50)),
                        false => Upper::Directory(path),
                    }));
                }),
                "work" => path().map(|path| overlay.work = Some(path)),
                other => {
                    cx.findings.push(
                        Diagnostic::error("E0101", format!("unknown key `{other}` in `overlay`"))
                            .at(entry.key_span, "expected `lower`, `upper` or `work`"),
                    );
                    Some(())
                }
            };
            complete &= read.is_some();
        }
        let on_disk = matches!(&overlay.upper, Some(Setting { value: Upper::Directory(_), .. }));
        if let Some(work) = overlay.work.as_ref().filter(|_| complete && !on_disk) {
            cx.findings
                .push(Diagnostic::error("E0106", NEEDS_DISK).at_maybe(work.span, "without effect"));
            return None;
        }
        if complete && overlay.lower.is_empty() {
            cx.findings.push(
                Diagnostic::error("E0104", "an overlay without `lower`")
                    .at(node.span, "no directory to lay anything over"),
            );
            return None;
        }
        complete.then_some(overlay)
    }
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
        let lower = reader.get::<Vec<Setting<HostPath>>>("lower");
        let inodes = reader.get::<u64>("inodes");
        let mode = reader.get_or("mode", Mode(0o755));
        let populate = reader.get::<Vec<Setting<HostPath>>>("populate");
        let upper_size = reader.get_or("upper-size", Memory::Percent(50));
        let upper = read_upper(reader, &upper_size);
        let work = reader.get::<HostPath>("work");
        let written: Vec<_> = KINDS.into_iter().filter_map(|key| reader.entry(key)).collect();
        match &written[..] {
            [] if KINDS.into_iter().any(|key| reader.has(key)) => {}
            [] if whole.is_none() => {}
            [] => reader.findings().push(
                Diagnostic::error("E0104", "the unit does not say what its root is")
                    .at_maybe(whole, "")
                    .note("one of `path = \"/directory\"`, `host = true`, `tmpfs = \"64M\"`, `lower = [\"/directory\"]`, `binaries = [\"program\"]`, `tar = \"root.tar\"`, `oci = \"layout:tag\"` and `image = \"root.squashfs\"` in `[root]`"),
            ),
            [_] => {}
            [first, second, ..] => reader.findings().push(
                Diagnostic::error("E0105", "a root is of one kind")
                    .at(second.key_span, "second kind")
                    .context(Some(first.key_span), "first kind"),
            ),
        }
        belongs_to(reader, &["inodes", "mode", "populate"], "tmpfs");
        belongs_to(reader, &["upper", "work", "upper-size"], "lower");
        belongs_to(reader, &["libraries", "files", "with"], "binaries");
        belongs_to(reader, &["sha256", "strip-components"], "tar");
        belongs_to(reader, &["fstype", "offset"], "image");
        let tar = reader.get::<HostPath>("tar");
        let sha256 = reader.get::<Digest>("sha256");
        let strip_components = reader.get::<Bounded<0, 1000>>("strip-components");
        let oci = reader.get::<HostPath>("oci");
        let image = reader.get::<HostPath>("image");
        let filesystem = reader.get::<Filesystem>("fstype");
        let offset = reader.get::<Bytes>("offset");
        let binaries = reader.get::<Vec<Setting<String>>>("binaries");
        let libraries = reader.get::<Vec<Setting<String>>>("libraries");
        let files = reader.get::<Vec<Setting<JailPath>>>("files");
        let with = reader.get::<Vec<Setting<Extra>>>("with");
        let kind = path
            .map(|path| path.map(RootKind::Directory))
            .or_else(|| host.map(|host| host.map(|_| RootKind::Host)))
            .or_else(|| {
                tmpfs.map(|size| {
                    size.map(|size| RootKind::Tmpfs {
                        size,
                        inodes: inodes.map(|inodes| inodes.value),
                        mode: mode.value,
                        populate: populate.map(|list| list.value).unwrap_or_default(),
                    })
                })
            })
            .or_else(|| {
                let lower = lower?;
                if lower.value.is_empty() {
                    reader.findings().push(
                        Diagnostic::error("E0103", "`lower` is empty")
                            .at_maybe(lower.span, "no directory"),
                    );
                    return None;
                }
                Some(lower.map(|lower| RootKind::Overlay(Overlay { lower, upper, work })))
            })
            .or_else(|| {
                Some(binaries?.map(|binaries| {
                    RootKind::Closure(Closure {
                        binaries,
                        libraries: libraries.map(|list| list.value).unwrap_or_default(),
                        files: files.map(|list| list.value).unwrap_or_default(),
                        with: with.map(|list| list.value).unwrap_or_default(),
                    })
                }))
            })
            .or_else(|| {
                let strip = strip_components.map_or(0, |strip| strip.value.0);
                Some(tar?.map(|path| {
                    RootKind::Tar(Tar {
                        path,
                        sha256: sha256.map(|digest| digest.value),
                        strip_components: u32::try_from(strip).unwrap_or(0),
                    })
                }))
            })
            .or_else(|| Some(oci?.map(|path| RootKind::Oci(path.0.to_string_lossy().into_owned()))))
            .or_else(|| {
                Some(image?.map(|path| {
                    RootKind::Image(DiskImage {
                        path,
                        filesystem: filesystem.map(|filesystem| filesystem.value),
                        offset: offset.map_or(0, |offset| offset.value.0),
                    })
                }))
            });
        let ephemeral = reader.get_or("ephemeral", false);
        if let (false, Some(entry)) = (ephemeral.value, reader.entry("ephemeral-size"))
            && !reader.has("ephemeral")
        {
            reader.findings().push(
                Diagnostic::error("E0106", "`ephemeral-size` needs `ephemeral`")
                    .at(entry.key_span, "without effect")
                    .help("add `ephemeral = true`"),
            );
        }
        let is_kept = kind.as_ref().is_some_and(|kind| kind.value.is_kept()) && !ephemeral.value;
        let read_only = reader.get_or("read-only", is_kept);
        if let (true, Setting { value: false, span: at @ Some(_) }) = (is_kept, &read_only)
            && kind.as_ref().is_some_and(|kind| kind.value != RootKind::Host)
        {
            reader.findings().push(
                Diagnostic::error("E0106", "there is nothing that could take changes of this root")
                    .at_maybe(*at, "cannot be written to")
                    .help("`ephemeral = true` takes them and throws them away"),
            );
        }
        Self {
            kind,
            read_only,
            ephemeral,
            ephemeral_size: reader.get_or("ephemeral-size", Memory::Percent(50)),
            switch: reader.get_or("switch", Switch::Pivot),
            api_filesystems: reader.get_or("api-filesystems", ApiFilesystem::ALL.to_vec()),
            propagation: reader.get_or("propagation", Propagation::Private),
        }
    }
}

/// The keys that say of which kind a root is.
const KINDS: [&str; 8] = ["path", "host", "tmpfs", "lower", "binaries", "tar", "oci", "image"];

const NEEDS_DISK: &str = "`work` is for an `upper` on disk";

fn read_upper(reader: &Reader<'_>, size: &Setting<Memory>) -> Option<Setting<Upper>> {
    let upper = reader.get::<HostPath>("upper");
    let in_memory = upper.as_ref().is_some_and(|upper| upper.value.0.as_os_str() == "tmpfs");
    let on_disk = upper.is_some() && !in_memory;
    // An `upper` that cannot be read has been reported.
    let known = upper.is_some() || !reader.has("upper");
    for (key, applies, needs) in [
        ("upper-size", in_memory, "`upper-size` is for `upper = \"tmpfs\"`"),
        ("work", on_disk, NEEDS_DISK),
    ] {
        if let Some(entry) = reader.entry(key).filter(|_| known && reader.has("lower") && !applies)
        {
            reader
                .findings()
                .push(Diagnostic::error("E0106", needs).at(entry.key_span, "without effect"));
        }
    }
    upper.map(|upper| {
        upper.map(|path| match in_memory {
            true => Upper::Memory(size.value),
            false => Upper::Directory(path),
        })
    })
}

fn belongs_to(reader: &Reader<'_>, keys: &[&str], kind: &str) {
    if reader.has(kind) {
        return;
    }
    for key in keys {
        if let Some(entry) = reader.entry(key) {
            reader.findings().push(
                Diagnostic::error("E0106", format!("`{key}` belongs to a `{kind}` root"))
                    .at(entry.key_span, "without effect"),
            );
        }
    }
}
