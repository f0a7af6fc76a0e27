//! Directories laid over each other: overlay roots, overlay mounts, and the
//! memory that `ephemeral` lays over any root.
//!
//! What only the launch needs (the memory that takes the changes, a layer with
//! the mount points that a read-only stack lacks) is made in the jail's mount
//! namespace, below the stage, and is gone with it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::Planner;
use super::image::Disk;
use super::root::{NO_SUID_DEV, option};
use super::step::{
    Filesystem, FsOption, Key, MountFlags, NodeKind, Origin, Overlay, Planned, Spot, Step,
    TreeSource,
};
use super::view::Place;
use crate::diagnostic::Diagnostic;
use crate::host::{Attributes, Host, Kind, Mounted};
use crate::mountinfo;
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::root as unit;
use crate::unit::value::{HostPath, Memory};

/// Directories laid over each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// Those that stay as they are, top-most first.
    pub(super) lower: Vec<PathBuf>,
    /// What takes the changes.
    pub(super) upper: Upper,
    /// Mounts below the lower directory, which an overlay does not show.
    pub(super) covered: Vec<Mounted>,
    /// The image whose layers these are: its store and its name.
    pub(super) held: Option<(PathBuf, Key)>,
    /// A disk image that is mounted as the only lower directory.
    pub(super) disk: Option<Disk>,
}

/// What a stack becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Root,
    Mount,
}

/// What takes the changes of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upper {
    /// Nothing: it cannot be changed.
    Nothing,
    /// A directory of the host, and the kernel's scratch directory.
    Directory { upper: PathBuf, work: PathBuf },
    /// Memory.
    Memory(Memory),
}

/// Directories below the upper one of an overlay, at most.
const MOST_LAYERS: usize = 500;

/// Options may fill one page, mount(2); short links stand for the directories
/// of a stack with more.
const LONGEST_OPTIONS: usize = 4000;

/// What separates or quotes names in options, for the kernel or for mount(8),
/// and what stands for bytes that are no text.
const SEPARATORS: [char; 5] = [',', ':', '\\', '"', char::REPLACEMENT_CHARACTER];

impl<H: Host> Planner<'_, H> {
    /// The directories of a unit's overlay; `None` where one cannot be used,
    /// which has been reported.
    pub(super) fn stack(&mut self, overlay: &unit::Overlay) -> Option<Stack> {
        let lower: Vec<_> =
            overlay.lower.iter().map(|path| self.layer_directory(path, false)).collect();
        let upper = match &overlay.upper {
            None => Some(Upper::Nothing),
            Some(Setting { value: unit::Upper::Memory(size), .. }) => Some(Upper::Memory(*size)),
            Some(Setting { value: unit::Upper::Directory(path), span }) => {
                let setting = Setting { value: path.clone(), span: *span };
                self.layer_directory(&setting, true)
                    .and_then(|upper| self.upper_directory(upper, *span, overlay.work.as_ref()))
            }
        };
        let lower = lower.into_iter().collect::<Option<Vec<_>>>()?;
        let upper = upper?;
        self.check_nesting(overlay, &lower, &upper).then_some(Stack {
            lower,
            upper,
            covered: Vec::new(),
            held: None,
            disk: None,
        })
    }

    /// One that takes changes may be new, and is then to be made.
    fn layer_directory(
        &mut self,
        path: &Setting<HostPath>,
        takes_changes: bool,
    ) -> Option<PathBuf> {
        let written = self.resolve(&path.value);
        let (label, help) = match self.host.canonical(&written) {
            Ok((found, Kind::Directory)) => return Some(found),
            Ok(_) => ("not a directory".to_owned(), None),
            Err(error) => {
                let make = takes_changes && error.kind() == std::io::ErrorKind::NotFound;
                let help = self
                    .meant_on_host(&path.value, &error)
                    .or_else(|| make.then(|| "make the directory".to_owned()));
                (crate::unit::io_reason(&error), help)
            }
        };
        let message = format!("the layer `{}` cannot be used", written.display());
        let diagnostic = Diagnostic::error("E0301", message).at_maybe(path.span, label);
        self.find(diagnostic.help_maybe(help));
        None
    }

    fn upper_directory(
        &mut self,
        upper: PathBuf,
        span: Option<Span>,
        work: Option<&Setting<HostPath>>,
    ) -> Option<Upper> {
        let (Some(beside), Some(name)) = (upper.parent(), upper.file_name()) else {
            self.find(
                Diagnostic::error("E0202", "the changes would go to the host's own tree")
                    .at_maybe(span, "is `/`"),
            );
            return None;
        };
        let work = match work {
            Some(work) => self.layer_directory(work, true)?,
            None => {
                let mut own = OsString::from(".");
                own.push(name);
                own.push(".work");
                let own = beside.join(own);
                if let Ok(kind) = self.host.look(&own)
                    && kind != Kind::Directory
                {
                    self.not_a_work_directory(&own, kind, span);
                    return None;
                }
                own
            }
        };
        let holder = if self.host.look(&work).is_ok() { &work } else { beside };
        let device = |path: &Path| self.host.device_of(path).ok();
        if device(&upper) != device(holder) {
            self.find(
                Diagnostic::error("E0203", "`upper` and `work` lie on different file systems")
                    .at_maybe(span, format!("`{}`", upper.display()))
                    .help(format!("`{}` must be on the same one", work.display())),
            );
            return None;
        }
        Some(Upper::Directory { upper, work })
    }

    /// The kernel empties the work directory, wherever a link leads.
    fn not_a_work_directory(&mut self, path: &Path, kind: Kind, span: Option<Span>) {
        let message = format!("the work directory `{}` cannot be used", path.display());
        let what = if kind == Kind::Link { "a symbolic link" } else { "not a directory" };
        self.find(
            Diagnostic::error("E0301", message)
                .at_maybe(span, format!("the directory beside it is {what}"))
                .note("the kernel empties it")
                .help("`work` names another directory on the same file system"),
        );
    }

    fn check_nesting(&mut self, overlay: &unit::Overlay, lower: &[PathBuf], upper: &Upper) -> bool {
        let mut named: Vec<(&Path, Option<Span>)> =
            lower.iter().zip(&overlay.lower).map(|(path, at)| (path.as_path(), at.span)).collect();
        if let Upper::Directory { upper, work } = upper {
            let at = overlay.upper.as_ref().and_then(|upper| upper.span);
            named.push((upper, at));
            named.push((work, overlay.work.as_ref().and_then(|work| work.span).or(at)));
        }
        let nested = named.iter().enumerate().find_map(|(index, (path, at))| {
            let (other, first) = named[..index]
                .iter()
                .find(|(other, _)| path.starts_with(other) || other.starts_with(path))?;
            Some((*path, *at, *other, *first))
        });
        let Some((path, at, other, first)) = nested else { return true };
        let message = match path == other {
            true => format!("`{}` is in the overlay twice", path.display()),
            false => {
                format!("`{}` and `{}` lie inside each other", path.display(), other.display())
            }
        };
        self.find(
            Diagnostic::error("E0203", message)
                .at_maybe(at, "changes of one would show in the other")
                .context(first, "the other"),
        );
        false
    }

    /// Finds layers that the kernel will not take in a user namespace.
    pub(super) fn check_layers(&mut self, steps: &[Planned]) {
        if !self.private_user || self.opens_trees {
            return;
        }
        let stage = self.host.state_directory();
        for Planned { step, origin } in steps {
            let directories: Vec<&PathBuf> = match step {
                Step::MountOverlay { overlay, .. } => overlay
                    .lower
                    .iter()
                    .chain(overlay.upper.iter().map(|(upper, _)| upper))
                    .collect(),
                Step::LinkLayer { to, .. } => vec![to],
                _ => continue,
            };
            let at = origin.span();
            for directory in directories.into_iter().filter(|path| !path.starts_with(&stage)) {
                let below = self.host.mounts_below(directory).unwrap_or_default();
                let Some(first) = below.first() else { continue };
                let message = format!("the layer `{}` has other mounts in it", directory.display());
                self.find(
                    Diagnostic::error("E0309", message)
                        .at_maybe(at, "an ordinary user may not look below a mount of the host")
                        .note(format!("the first is `{}`", first.target.display())),
                );
            }
        }
    }

    /// Memory laid over a root: a stack, whatever it was before.
    pub(super) fn ephemeral(&mut self, directory: PathBuf, size: Memory) -> Option<Stack> {
        let covered = match self.host.mounts_below(&directory) {
            Ok(covered) => covered,
            Err(error) => {
                let message = "the mounts below an `ephemeral` root cannot be told";
                self.find(
                    Diagnostic::error("E0301", message)
                        .at_maybe(self.unit.root.ephemeral.span, crate::unit::io_reason(&error)),
                );
                return None;
            }
        };
        if self.private_user && !self.opens_trees && !covered.is_empty() {
            let at = self.unit.root.ephemeral.span;
            self.find(
                Diagnostic::error("E0309", "`ephemeral` over a tree with other mounts in it")
                    .at_maybe(at, "an ordinary user may not look below a mount of the host")
                    .note(format!("the first is `{}`", covered[0].target.display()))
                    .help("a directory without mounts below it works"),
            );
            return None;
        }
        Some(Stack {
            lower: vec![directory],
            upper: Upper::Memory(size),
            covered,
            held: None,
            disk: None,
        })
    }

    /// Host-side steps of a stack: what lies on disk is kept for this jail.
    pub(super) fn prepare_stack(&mut self, stack: &Stack, by: Origin) {
        if let Some((store, key)) = &stack.held {
            self.push(Step::HoldImage { store: store.clone(), key: *key }, by);
        }
        if let Some(Disk { file, offset, size, .. }) = &stack.disk {
            let (file, offset, size) = (file.clone(), *offset, *size);
            self.push(Step::AttachLoop { file, offset, size }, by);
        }
        let Upper::Directory { upper, work } = &stack.upper else { return };
        let step = Step::LockDirectory { path: upper.clone() };
        if self.host_nodes.iter().any(|planned| planned.step == step) {
            let at = by.span();
            let message = format!("`{}` would take the changes of two overlays", upper.display());
            self.find(Diagnostic::error("E0203", message).at_maybe(at, "the second"));
            return;
        }
        self.host_nodes.push(Planned { step, origin: by });
        if let (Err(_), Some(root), Some(name)) =
            (self.host.look(work), work.parent(), work.file_name())
        {
            let (root, path) = (root.to_owned(), PathBuf::from(name));
            let step = Step::MakeHostNode { root, path, kind: NodeKind::Directory };
            self.host_nodes.push(Planned { step, origin: by });
        }
    }

    /// A path on the stage that no other step uses.
    pub(super) fn stage_name(&mut self, state: &Path, prefix: &str) -> PathBuf {
        let path = state.join(format!("{prefix}{}", self.staged));
        self.staged += 1;
        path
    }

    /// Plans the overlay of a stack as the root.
    pub(super) fn stack_root(
        &mut self,
        stack: &Stack,
        state: &Path,
        at: &Path,
        flags: MountFlags,
        by: Origin,
    ) {
        if let Some(disk) = &stack.disk {
            let path = stack.lower[0].clone();
            let kind = NodeKind::Directory;
            let node = Step::MakeStageNode { path: path.clone(), kind, mode: 0o755, owner: None };
            self.push(node, by);
            self.mount_loop(0, disk.filesystem, Spot::Stage(path), NO_SUID_DEV, by);
        }
        let flags = MountFlags { read_only: stack.upper == Upper::Nothing, ..flags };
        let (lower, read_only) = match stack.upper {
            // The layer that mount points are put into; two are the least.
            Upper::Nothing => {
                let points = state.join("points");
                let node = self.stage_node(points.clone(), NodeKind::Directory, &stack.lower[0]);
                self.push(node, Origin::Always("a layer for mount points that the root lacks"));
                ([points].into_iter().chain(stack.lower.iter().cloned()).collect(), true)
            }
            _ => (stack.lower.clone(), false),
        };
        let overlay = self.overlay(stack, Of::Root, lower, state, by);
        self.points_at = (stack.upper == Upper::Nothing).then_some(self.steps.len());
        self.push(Step::MountOverlay { on: Spot::Root(at.to_owned()), overlay, flags }, by);
        self.view.mount(Path::new("/"), stack.place(), read_only);
        let is_read_only = read_only || self.unit.root.read_only.value;
        self.expect("/", Some("overlay"), MountFlags { read_only: is_read_only, ..flags }, false);
        if !stack.covered.is_empty() {
            self.check_covered(&stack.lower[0], &stack.covered);
        }
        for mount in &stack.covered {
            let flags = MountFlags { read_only: is_read_only, ..flags };
            self.cover(mount, &stack.lower[0], state, flags, by);
        }
    }

    /// Shows a mount that lies below the directory of an ephemeral root.
    fn cover(
        &mut self,
        mount: &Mounted,
        below: &Path,
        state: &Path,
        flags: MountFlags,
        by: Origin,
    ) {
        let Ok(inside) = mount.target.strip_prefix(below) else { return };
        let target = Path::new("/").join(inside);
        if self.is_in_api(&target) {
            return;
        }
        let size = self.unit.root.ephemeral_size.value;
        let is_directory = matches!(self.host.look(&mount.target), Ok(Kind::Directory));
        if !is_directory || mountinfo::is_of_the_kernel(&mount.fstype) {
            let flags = MountFlags { read_only: true, ..flags };
            // What is masked and protected in the kernel's is so here, too.
            let place = match mountinfo::is_of_the_kernel(&mount.fstype) {
                true => Place::Kernel(mount.target.clone()),
                false => Place::Host(mount.target.clone()),
            };
            self.view.mount(&target, place, true);
            self.expect(target.clone(), None, flags, false);
            let propagation = None;
            let source = mount.target.clone();
            let tree = self.host_tree(&source, false, false);
            let step = Step::Bind { source, tree, target, recursive: false, flags, propagation };
            self.push(step, by);
            return;
        }
        let stack = Stack {
            lower: vec![mount.target.clone()],
            upper: Upper::Memory(size),
            covered: Vec::new(),
            held: None,
            disk: None,
        };
        // The overlay is a mount of its own, and has none of the other's flags.
        let flags = MountFlags { noexec: flags.noexec || mount.noexec, ..flags };
        self.stack_mount(&stack, state, target, flags, by);
    }

    /// Plans the overlay of a stack as a mount inside.
    pub(super) fn stack_mount(
        &mut self,
        stack: &Stack,
        state: &Path,
        target: PathBuf,
        flags: MountFlags,
        by: Origin,
    ) {
        let mut lower = stack.lower.clone();
        if lower.len() == 1 && stack.upper == Upper::Nothing {
            // The kernel wants two.
            let empty = self.stage_name(state, "empty-");
            let node = self.stage_node(empty.clone(), NodeKind::Directory, &lower[0]);
            self.push(node, by);
            lower.insert(0, empty);
        }
        let overlay = self.overlay(stack, Of::Mount, lower, state, by);
        let read_only = flags.read_only || stack.upper == Upper::Nothing;
        self.view.mount(&target, stack.place(), read_only);
        self.expect(target.clone(), Some("overlay"), flags, false);
        self.push(Step::MountOverlay { on: Spot::Inside(target), overlay, flags }, by);
    }

    /// The overlay of a stack, after the steps that make what it is laid from.
    fn overlay(
        &mut self,
        stack: &Stack,
        of: Of,
        lower: Vec<PathBuf>,
        state: &Path,
        by: Origin,
    ) -> Overlay {
        let upper = match &stack.upper {
            Upper::Nothing => None,
            Upper::Directory { upper, work } => Some((upper.clone(), work.clone())),
            Upper::Memory(size) => {
                let at = match of {
                    // The stage has been given the size.
                    Of::Root => state.to_owned(),
                    Of::Mount => {
                        let at = self.stage_name(state, "changes-");
                        let options = vec![option("mode", "700"), size_option(*size)];
                        self.push(Step::MountMemory { at: at.clone(), options }, by);
                        at
                    }
                };
                let (upper, work) = (at.join("upper"), at.join("work"));
                let node = self.stage_node(upper.clone(), NodeKind::Directory, &stack.lower[0]);
                self.push(node, by);
                let (path, kind) = (work.clone(), NodeKind::Directory);
                self.push(Step::MakeStageNode { path, kind, mode: 0o700, owner: None }, by);
                Some((upper, work))
            }
        };
        if lower.len() > MOST_LAYERS {
            let message = format!("an overlay of {} directories", lower.len());
            self.find(
                Diagnostic::error("E0313", message)
                    .at_maybe(by.span(), format!("the kernel takes {MOST_LAYERS}, of which one is jailrun's where it is read-only")),
            );
        }
        let lower = lower.into_iter().map(|path| self.stage_layer(path, state, by)).collect();
        let upper = upper.map(|(upper, work)| self.stage_upper(upper, work, state, by));
        let user_xattrs = self.private_user;
        let mut overlay = Overlay::new(lower, upper, user_xattrs);
        let all = overlay.options().len() > LONGEST_OPTIONS;
        let upper = overlay.upper.iter_mut().flat_map(|(upper, work)| [upper, work]);
        for directory in overlay.lower.iter_mut().chain(upper) {
            if all || directory.to_string_lossy().contains(SEPARATORS) {
                let link = self.stage_name(state, "l");
                let to = std::mem::replace(directory, link.clone());
                self.push(Step::LinkLayer { path: link, to }, by);
            }
        }
        overlay
    }

    /// A layer as the jail's first process gets to it.
    fn stage_layer(&mut self, path: PathBuf, state: &Path, by: Origin) -> PathBuf {
        if path.starts_with(state) {
            return path;
        }
        match self.host_tree(&path, false, self.is_mapped()) {
            Some(tree) => self.attach_tree(tree, state, by),
            None => path,
        }
    }

    /// The same of the directory that takes the changes and the kernel's
    /// scratch directory, which must be on one mount.
    fn stage_upper(
        &mut self,
        upper: PathBuf,
        work: PathBuf,
        state: &Path,
        by: Origin,
    ) -> (PathBuf, PathBuf) {
        if upper.starts_with(state) {
            return (upper, work);
        }
        let above = upper.ancestors().find(|above| work.starts_with(above));
        let Some(above) = above.map(Path::to_owned) else { return (upper, work) };
        let Some(tree) = self.host_tree(&above, false, self.is_mapped()) else {
            return (upper, work);
        };
        let at = self.attach_tree(tree, state, by);
        let below = |path: &Path| at.join(path.strip_prefix(&above).unwrap_or(path));
        (below(&upper), below(&work))
    }

    fn attach_tree(&mut self, tree: usize, state: &Path, by: Origin) -> PathBuf {
        let path = self.stage_name(state, "tree-");
        let kind = NodeKind::Directory;
        let node = Step::MakeStageNode { path: path.clone(), kind, mode: 0o700, owner: None };
        self.push(node, by);
        let on = Spot::Stage(path.clone());
        self.push(Step::AttachTree { tree, on, flags: MountFlags::NONE }, by);
        path
    }

    /// Plans the mount of a loop device, which takes root of the host.
    pub(super) fn mount_loop(
        &mut self,
        number: usize,
        filesystem: Filesystem,
        on: Spot,
        flags: MountFlags,
        by: Origin,
    ) {
        let source = TreeSource::Loop { number, filesystem };
        let step = match self.open_tree(source, false, self.is_mapped()) {
            Some(tree) => {
                let flags = MountFlags { read_only: true, ..flags };
                Step::AttachTree { tree, on, flags }
            }
            None => Step::MountLoop { number, filesystem, on, flags },
        };
        self.push(step, by);
    }

    /// A node of the stage that looks like a directory of the host.
    fn stage_node(&self, path: PathBuf, kind: NodeKind, like: &Path) -> Step {
        let found = self.host.attributes(like).ok();
        let mode = found.map_or(0o755, |found| found.mode);
        // Where the owner does not exist, root has to do.
        let owner = found
            .filter(|_| !self.private_user || self.is_mapped())
            .and_then(owner_of)
            .filter(|(uid, gid)| self.has_uid(*uid) && self.has_gid(*gid));
        Step::MakeStageNode { path, kind, mode, owner }
    }

    /// Puts a mount point that a read-only stack lacks into the layer for that.
    pub(super) fn make_point(&mut self, state: &Path, path: &Path, kind: NodeKind, by: Origin) {
        let points = state.join("points");
        let below = |path: &Path| points.join(path.strip_prefix("/").unwrap_or(path));
        let parents: Vec<_> = path.ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter(|parent| parent.parent().is_some()) {
            let place = below(parent);
            let is_there = self.points.iter().any(
                |planned| matches!(&planned.step, Step::MakeStageNode { path, .. } if *path == place),
            );
            if is_there {
                continue;
            }
            // A directory of the upper layer is the one whose owner and mode show.
            let step = match self.view.behind(self.host, parent) {
                Some(like) => self.stage_node(place, NodeKind::Directory, &like),
                None => new_node(place, NodeKind::Directory),
            };
            self.points.push(Planned { step, origin: by });
        }
        self.points.push(Planned { step: new_node(below(path), kind), origin: by });
        self.view.make(path, kind);
    }
}

impl Stack {
    /// The same with memory on top, which takes the changes.
    pub(super) fn covered_by(self, size: Memory) -> Self {
        let lower = match &self.upper {
            Upper::Directory { upper, .. } => {
                [upper.clone()].into_iter().chain(self.lower.iter().cloned()).collect()
            }
            Upper::Nothing | Upper::Memory(_) => self.lower.clone(),
        };
        Self { lower, upper: Upper::Memory(size), ..self }
    }

    /// What the jail's tree shows.
    pub(super) fn place(&self) -> Place {
        let upper = match &self.upper {
            Upper::Directory { upper, .. } => Some(upper.clone()),
            Upper::Nothing | Upper::Memory(_) => None,
        };
        if self.disk.is_some() {
            // Nobody can look into it before it is mounted.
            return Place::Memory;
        }
        Place::Layers(upper.into_iter().chain(self.lower.iter().cloned()).collect())
    }
}

fn new_node(path: PathBuf, kind: NodeKind) -> Step {
    let mode = match kind {
        NodeKind::Directory => 0o755,
        NodeKind::File => 0o444,
    };
    Step::MakeStageNode { path, kind, mode, owner: None }
}

fn owner_of(found: Attributes) -> Option<(u32, u32)> {
    ((found.uid, found.gid) != (0, 0)).then_some((found.uid, found.gid))
}

/// As tmpfs takes it, tmpfs(5).
pub(super) fn size_option(size: Memory) -> FsOption {
    match size {
        Memory::Bytes(bytes) => option("size", bytes.to_string()),
        Memory::Percent(percent) => option("size", format!("{percent}%")),
    }
}
