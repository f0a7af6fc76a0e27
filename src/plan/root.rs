//! The root file system and the kernel's file systems in it.

use std::path::{Path, PathBuf};

use super::closure::Filling;
use super::stack::{Stack, Upper, size_option};
use super::step::{ExpectedMount, FsOption, MountFlags, NodeKind, Origin, Planned, Step};
use super::view::{Place, Walk};
use super::{Planner, origin, unspan, view};
use crate::closure::Entry;
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::names;
use crate::source::Span;
use crate::tree::Owners;
use crate::unit::decode::Setting;
use crate::unit::namespaces::Mode;
use crate::unit::process::Network;
use crate::unit::root::{ApiFilesystem, Propagation, RootKind, Switch};
use crate::unit::value::{HostPath, Memory};

/// Device nodes of the host that every `/dev` has, with their numbers.
pub(crate) const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(super) const NO_SUID_DEV: MountFlags =
    MountFlags { read_only: false, nosuid: true, nodev: true, noexec: false, noatime: false };
const NO_SUID_DEV_EXEC: MountFlags = MountFlags { noexec: true, ..NO_SUID_DEV };

/// One option with a value.
pub(super) fn option(key: &'static str, value: impl Into<String>) -> FsOption {
    FsOption { key, value: Some(value.into()) }
}

/// Files that fit a size when each takes one block of 16 KiB.
pub(super) fn inodes_of(bytes: u64) -> u64 {
    (bytes / 16_384).max(1024)
}

/// What the root is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tree {
    /// A directory of the host, bound.
    Bound(PathBuf),
    /// Memory that the plan fills.
    Memory {
        /// Options of tmpfs.
        options: Vec<FsOption>,
        /// What is copied into it, in order.
        populate: Vec<Filling>,
    },
    /// Memory that files of the host are bound into.
    Closure {
        /// Options of tmpfs.
        options: Vec<FsOption>,
        /// The files.
        entries: Vec<Entry>,
    },
    /// Directories laid over each other.
    Stack(Stack),
    /// An image that has to be unpacked before anybody can tell.
    Unseen,
}

impl Tree {
    /// What the jail's tree shows before anything is mounted in it.
    pub(super) fn place(&self) -> Place {
        match self {
            Self::Bound(path) => Place::Host(path.clone()),
            Self::Memory { populate, .. } if populate.is_empty() => Place::Memory,
            // Directories are merged, and are as the last one is.
            Self::Memory { populate, .. } => {
                let directories = populate.iter().rev().filter_map(|filling| match filling {
                    Filling::Copy(path) => Some(path.clone()),
                    // Seen when it is unpacked.
                    Filling::Unpack(_) => None,
                });
                Place::Layers(directories.collect())
            }
            Self::Closure { .. } | Self::Unseen => Place::Memory,
            Self::Stack(stack) => stack.place(),
        }
    }

    /// Whether it is filled, or may get mount points, before it is read-only.
    fn is_filled_first(&self) -> bool {
        match self {
            Self::Bound(_) | Self::Unseen => false,
            Self::Memory { .. } | Self::Closure { .. } => true,
            Self::Stack(stack) => stack.upper != Upper::Nothing,
        }
    }

    /// How much memory the changes of the root may take.
    fn changes(&self) -> Option<Memory> {
        match self {
            Self::Stack(Stack { upper: Upper::Memory(size), .. }) => Some(*size),
            _ => None,
        }
    }

    /// Whether steps prepare something for it on the stage.
    fn needs_stage(&self) -> bool {
        matches!(self, Self::Stack(_))
    }
}

impl<H: Host> Planner<'_, H> {
    /// What the root is made of; `None` where that cannot be used, which has
    /// been reported.
    pub(super) fn tree(&mut self) -> Option<Tree> {
        let root = &self.unit.root;
        let kind = root.kind.as_ref()?;
        let tree = match &kind.value {
            RootKind::Host => Tree::Bound("/".into()),
            RootKind::Directory(path) => Tree::Bound(self.root_directory(path, kind.span)?),
            RootKind::Tmpfs { size, inodes, mode, populate } => Tree::Memory {
                populate: self.populate(populate)?,
                options: vec![
                    option("mode", format!("{:o}", mode.0)),
                    option("size", size.0.to_string()),
                    option("nr_inodes", inodes.unwrap_or_else(|| inodes_of(size.0)).to_string()),
                ],
            },
            RootKind::Overlay(overlay) => Tree::Stack(self.stack(overlay)?),
            RootKind::Closure(closure) => self.closure(closure, kind.span)?,
            RootKind::Tar(_) | RootKind::Oci(_) => self.packed(kind.span)?,
            RootKind::Image(image) => self.disk_image(image, kind.span)?,
        };
        if !root.ephemeral.value {
            return Some(tree);
        }
        let size = root.ephemeral_size.value;
        Some(match tree {
            Tree::Bound(path) => Tree::Stack(self.ephemeral(path, size)?),
            // Gone with the jail as it is.
            Tree::Memory { .. } | Tree::Unseen => tree,
            Tree::Closure { entries, .. } => {
                Tree::Closure { options: vec![option("mode", "755"), size_option(size)], entries }
            }
            Tree::Stack(stack) => Tree::Stack(stack.covered_by(size)),
        })
    }

    fn root_directory(&mut self, written: &HostPath, span: Option<Span>) -> Option<PathBuf> {
        let path = self.resolve(written);
        match self.host.canonical(&path) {
            Ok((source, Kind::Directory)) if source.parent().is_none() => self.find(
                Diagnostic::error("E0202", "the root is the host's own tree")
                    .at_maybe(span, "is `/`")
                    .help("`host = true` says so, and makes it read-only"),
            ),
            Ok((source, Kind::Directory)) => return Some(source),
            Ok(_) => self.find(
                Diagnostic::error(
                    "E0301",
                    format!("the root `{}` is not a directory", path.display()),
                )
                .at_maybe(span, "not a directory"),
            ),
            Err(error) => {
                let message = format!("the root `{}` cannot be used", path.display());
                let diagnostic = Diagnostic::error("E0301", message)
                    .at_maybe(span, crate::unit::io_reason(&error));
                self.find(diagnostic.help_maybe(self.meant_on_host(written, &error)));
            }
        }
        None
    }

    pub(super) fn root_origin(&self) -> Origin {
        origin(self.unit.root.kind.as_ref().and_then(|kind| kind.span), "root")
    }

    /// Host-side steps of the root.
    pub(super) fn prepare_tree(&mut self, tree: &Tree) {
        let by = self.root_origin();
        match tree {
            Tree::Bound(_) | Tree::Memory { .. } | Tree::Closure { .. } | Tree::Unseen => {}
            Tree::Stack(stack) => self.prepare_stack(stack, by),
        }
    }

    /// Attaches the root; returns where.
    pub(super) fn root(&mut self, tree: Option<&Tree>, state: &Path) -> PathBuf {
        let mounts = &self.unit.mounts;
        let with_stage = mounts.iter().any(|m| m.kind.value.needs_stage())
            || tree.is_some_and(Tree::needs_stage);
        let at = if with_stage {
            let mut options = vec![option("mode", "700")];
            // What the jail changes of its root goes there, too.
            options.extend(tree.and_then(Tree::changes).map(size_option));
            self.always(
                Step::MountStage { at: state.to_owned(), options },
                "what is prepared for the jail lies there; the command never sees it",
            );
            state.join("root")
        } else {
            state.to_owned()
        };
        let Some(tree) = tree else { return at };
        let read_only = self.unit.root.read_only.value;
        let flags = MountFlags { read_only, ..NO_SUID_DEV };
        let by = self.root_origin();
        match tree {
            Tree::Bound(path) => self.attach_root(path.clone(), &at, flags, by),
            Tree::Memory { options, populate } => {
                self.memory_root(tree, &at, options, by);
                for filling in populate {
                    let keeps = self.keeps_owners(filling);
                    let owners = if keeps { Owners::Keep } else { Owners::Caller };
                    let mapped = self.is_mapped();
                    let step = match filling.clone() {
                        Filling::Copy(source) => {
                            let tree = self.host_tree(&source, true, mapped);
                            Step::CopyTree { source, tree, owners }
                        }
                        Filling::Unpack(source) => {
                            let tree = self.host_tree(&source, false, mapped);
                            Step::UnpackTree { source, tree, owners }
                        }
                    };
                    self.push(step, by);
                }
            }
            Tree::Closure { options, entries } => {
                self.memory_root(tree, &at, options, by);
                let own: Vec<_> =
                    entries.iter().filter(|entry| !self.is_in_api(&entry.path)).collect();
                self.fill(&own, by);
            }
            Tree::Stack(stack) => self.stack_root(stack, state, &at, flags, by),
            Tree::Unseen => self.view.mount(Path::new("/"), Place::Memory, false),
        }
        at
    }

    fn memory_root(&mut self, tree: &Tree, at: &Path, options: &[FsOption], by: Origin) {
        let step = Step::MountRoot {
            at: at.to_owned(),
            options: options.to_vec(),
            flags: MountFlags { read_only: false, ..NO_SUID_DEV },
        };
        self.push(step, by);
        self.view.mount(Path::new("/"), tree.place(), false);
        let read_only = self.unit.root.read_only.value;
        self.expect("/", Some("tmpfs"), MountFlags { read_only, ..NO_SUID_DEV }, false);
    }

    fn attach_root(&mut self, source: PathBuf, at: &Path, flags: MountFlags, origin: Origin) {
        self.view.mount(Path::new("/"), Place::Host(source.clone()), flags.read_only);
        self.expect("/", None, flags, true);
        if source.parent().is_none() {
            self.expect_kernel();
        }
        self.below_root.push((source.clone(), "/".into()));
        let tree = self.host_tree(&source, true, self.is_mapped());
        self.push(Step::AttachRoot { source, tree, at: at.to_owned(), flags }, origin);
    }

    /// Whether what is put into memory belongs there to the users of the same
    /// numbers: those must exist, and the numbers must be seen.
    fn keeps_owners(&self, filling: &Filling) -> bool {
        match (&self.maps, filling) {
            (None, _) => true,
            (Some(maps), _) if maps.is_single() => false,
            (Some(_), Filling::Unpack(_)) => true,
            // Another user's files show as nobody's, unless root maps them.
            (Some(maps), Filling::Copy(_)) => {
                self.is_mapped() || maps.uid.iter().all(|range| range.inside == range.outside)
            }
        }
    }

    /// What holds for the root once everything is in it.
    pub(super) fn finish_root(&mut self, tree: Option<&Tree>) {
        let root = &self.unit.root;
        if tree.is_some_and(Tree::is_filled_first) && root.read_only.value {
            self.setting(Step::ProtectRoot, &unspan(&root.read_only), "root.read-only");
        }
        if root.switch.value == Switch::Chroot {
            let caps = &self.unit.security.capabilities;
            let diagnostic = Diagnostic::warning(
                "W0002",
                "`switch = \"chroot\"` leaves the host's tree within reach",
            )
            .at_maybe(root.switch.span, "a process with CAP_SYS_CHROOT walks out of it");
            let granted = caps.value.0 & names::CAP_SYS_CHROOT != 0;
            self.find(if granted {
                diagnostic.context(caps.span, "granted here")
            } else {
                diagnostic
            });
        }
    }

    /// pivot_root(2) refuses a shared root: what it is to be comes after.
    pub(super) fn final_propagation(&mut self) {
        let propagation = &self.unit.root.propagation;
        if matches!(propagation.value, Propagation::Shared | Propagation::Unbindable) {
            let step = Step::SetPropagation { propagation: propagation.value };
            self.setting(step, &unspan(propagation), "root.propagation");
        }
    }

    pub(super) fn expect(
        &mut self,
        target: impl Into<PathBuf>,
        fstype: Option<&'static str>,
        flags: MountFlags,
        recursive: bool,
    ) {
        let with_kernel = self.unit.security.allow_dangerous_binds.value;
        let target = target.into();
        self.expected.push(ExpectedMount { target, fstype, flags, recursive, with_kernel });
    }

    /// File systems of the kernel may lie below the mount expected last.
    fn expect_kernel(&mut self) {
        if let Some(mount) = self.expected.last_mut() {
            mount.with_kernel = true;
        }
    }

    /// Mounts the kernel's file systems.
    pub(super) fn api_filesystems(&mut self) {
        let wanted = self.unit.root.api_filesystems.clone();
        let by = origin(wanted.span, "root.api-filesystems");
        for api in &wanted.value {
            let target = Path::new(api.path());
            if !self.api_mount_point(target, by) {
                continue;
            }
            match api {
                ApiFilesystem::Proc => self.proc(target, NO_SUID_DEV_EXEC, by),
                ApiFilesystem::Sys => {
                    let flags = MountFlags { read_only: true, ..NO_SUID_DEV_EXEC };
                    self.sysfs(target, flags, by);
                }
                ApiFilesystem::Dev => self.dev(by),
                ApiFilesystem::Tmp => {
                    let options = [("mode", "1777"), ("size", "10%"), ("nr_inodes", "400k")];
                    self.memory(target, &options, NO_SUID_DEV, by);
                }
                ApiFilesystem::Run => {
                    let options = [("mode", "755"), ("size", "20%"), ("nr_inodes", "800k")];
                    self.memory(target, &options, NO_SUID_DEV, by);
                }
            }
        }
    }

    /// A kernel's file system goes onto a directory of the root itself: a
    /// link there would lead the mount, and what is written below it, astray.
    fn api_mount_point(&mut self, target: &Path, by: Origin) -> bool {
        let at = match by {
            Origin::Key(span) => Some(span),
            _ => self.unit.root.kind.as_ref().and_then(|kind| kind.span),
        };
        let Some(found) = self.view.look_behind(self.host, target) else {
            return self.make(target, NodeKind::Directory, at, by);
        };
        let name = target.display();
        let refuse = |found: &str| {
            Diagnostic::error("E0311", format!("`{name}` of the root is {found}"))
                .at_maybe(at, "must be a directory to mount on")
                .help(format!(
                    "replace it by a directory, or leave `{name}` out of `api-filesystems`"
                ))
        };
        match found {
            Ok(Kind::Directory) => true,
            Ok(Kind::Link) => {
                self.find(refuse("a symbolic link"));
                false
            }
            Ok(_) => {
                self.find(refuse("not a directory"));
                false
            }
            Err(_) => self.make_on_host(target, NodeKind::Directory, at, by),
        }
    }

    /// Plans a mount point in the root directory itself, on the host.
    pub(super) fn make_on_host(
        &mut self,
        target: &Path,
        kind: NodeKind,
        at: Option<crate::source::Span>,
        by: Origin,
    ) -> bool {
        let Some(super::view::Holder { place: Place::Host(root), .. }) =
            self.view.holder(Path::new("/"))
        else {
            return false;
        };
        let name = target.display();
        let is_host = root.parent().is_none();
        if is_host {
            self.find(
                Diagnostic::error(
                    "E0204",
                    format!("`{name}` does not exist, and the host's tree is not changed for it"),
                )
                .at_maybe(at, "no such mount point")
                .help("mount it below `/tmp` or `/run`, or on a directory that exists"),
            );
            return false;
        }
        let path = target.strip_prefix("/").unwrap_or(target).to_owned();
        self.created.push((at, root.join(&path)));
        // Each missing parent is a step of its own, so that each can be undone.
        for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            let is_new = !parent.as_os_str().is_empty()
                && self.host.look(&root.join(parent)).is_err()
                && !self.view.is_made(&Path::new("/").join(parent));
            if is_new {
                self.view.make(&Path::new("/").join(parent), NodeKind::Directory);
                let (root, path) = (root.clone(), parent.to_owned());
                let step = Step::MakeHostNode { root, path, kind: NodeKind::Directory };
                self.host_nodes.push(Planned { step, origin: by });
            }
        }
        self.host_nodes.push(Planned { step: Step::MakeHostNode { root, path, kind }, origin: by });
        self.view.make(target, kind);
        true
    }

    /// What is to be made on the host where the caller may not write.
    pub(super) fn check_host_nodes(&mut self, steps: &[Planned]) {
        for planned in steps {
            let (Step::MakeHostNode { root, path, .. } | Step::MakeHostLink { root, path, .. }) =
                &planned.step
            else {
                continue;
            };
            let path = root.join(path);
            // What is made in what is made has been told of with that.
            let Some(parent) = path.parent().filter(|parent| self.host.look(parent).is_ok()) else {
                continue;
            };
            if !self.host.may_write(parent) {
                let message = format!("`{}` cannot be created", path.display());
                self.find(
                    Diagnostic::error("E0301", message)
                        .at_maybe(planned.origin.span(), "does not exist, and has to")
                        .note(format!("`{}` cannot be written", parent.display())),
                );
            }
        }
    }

    /// Says what will be created in the root directory, once per key.
    pub(super) fn say_created(&mut self) {
        let mut created = std::mem::take(&mut self.created);
        while let Some((at, _)) = created.first().cloned() {
            let (together, rest): (Vec<_>, Vec<_>) =
                created.into_iter().partition(|(span, _)| *span == at);
            created = rest;
            let list: Vec<_> =
                together.iter().map(|(_, path)| format!("`{}`", path.display())).collect();
            let label = match list.len() {
                1 => "it does not exist in the root",
                _ => "they do not exist in the root",
            };
            self.find(
                Diagnostic::warning("W0001", format!("{} will be created", list.join(", ")))
                    .at_maybe(at, label),
            );
        }
    }

    fn memory(
        &mut self,
        target: &Path,
        options: &[(&'static str, &'static str)],
        flags: MountFlags,
        by: Origin,
    ) {
        let options = options.iter().map(|(key, value)| option(key, *value)).collect();
        self.new_mount("tmpfs", target, options, flags, by);
    }

    /// Plans a new file system with private propagation.
    pub(super) fn new_mount(
        &mut self,
        fstype: &'static str,
        target: &Path,
        options: Vec<FsOption>,
        flags: MountFlags,
        by: Origin,
    ) {
        let place = match fstype {
            "proc" => Place::Kernel("/proc".into()),
            "sysfs" => Place::Kernel("/sys".into()),
            "devpts" => Place::Bare(&[("ptmx", 5, 2)]),
            "mqueue" if self.unit.namespaces.ipc.value == Mode::Host => {
                Place::Kernel("/dev/mqueue".into())
            }
            "mqueue" => Place::Bare(&[]),
            "cgroup" | "cgroup2" => {
                // The host has it at the usual place.
                if !target.starts_with("/sys") {
                    self.unseen.push(target.to_owned());
                }
                let v2 = self.host.cgroups().v2.as_ref().filter(|_| fstype == "cgroup2");
                Place::Kernel(v2.map_or(target, |v2| &v2.mount).to_owned())
            }
            _ => Place::Memory,
        };
        self.view.mount(target, place, flags.read_only);
        self.expect(target, Some(fstype), flags, false);
        let step = Step::Mount {
            fstype,
            source: fstype,
            target: target.to_owned(),
            options,
            flags,
            propagation: Propagation::Private,
        };
        self.push(step, by);
    }

    /// The process file system of the jail's pid namespace. There is one for
    /// each namespace: a shared one is the host's.
    pub(super) fn proc(&mut self, target: &Path, flags: MountFlags, by: Origin) {
        if target != Path::new("/proc") {
            self.kernel_mounts.push(("/proc", target.to_owned()));
        }
        match self.unit.namespaces.pid.value {
            Mode::Host => self.bind_kernel("/proc", target, flags, by),
            Mode::Private | Mode::Join(_) | Mode::Jail(_) => {
                self.check_shared("proc", &self.unit.namespaces.pid, by);
                self.new_mount("proc", target, Vec::new(), flags, by)
            }
        }
    }

    /// The kernel's objects, of which there is one view for each network.
    pub(super) fn sysfs(&mut self, target: &Path, flags: MountFlags, by: Origin) {
        if target != Path::new("/sys") {
            self.kernel_mounts.push(("/sys", target.to_owned()));
        }
        match self.unit.network.value {
            Network::Host => self.bind_kernel("/sys", target, flags, by),
            Network::None | Network::Jail(_) => {
                self.new_mount("sysfs", target, Vec::new(), flags, by)
            }
        }
    }

    /// Refuses a file system that shows a namespace which is not the jail's own:
    /// in a user namespace the kernel does not mount it. What may not be joined
    /// at all has been told of.
    pub(super) fn check_shared(&mut self, fstype: &str, mode: &Setting<Mode>, by: Origin) {
        let is_told = match mode.value {
            Mode::Private | Mode::Jail(_) => true,
            Mode::Host => false,
            Mode::Join(_) => fstype != "proc" || !self.may_join_processes(),
        };
        if self.private_user && !is_told {
            let message = format!("a new {fstype} of a shared namespace needs real root");
            self.find(
                Diagnostic::error("E0309", message)
                    .at_maybe(by.span().or(mode.span), "mounted here")
                    .context(mode.span, "shared here"),
            );
        }
    }

    /// Refuses a mount whose `noatime` the kernel does not let a user namespace
    /// set: it keeps that of what is taken over from the host, and of procfs and
    /// sysfs, mount_namespaces(7).
    pub(super) fn check_atime(
        &mut self,
        flags: MountFlags,
        source: &Path,
        recursive: bool,
        span: Option<Span>,
    ) {
        if !flags.noatime || !self.private_user {
            return;
        }
        let below = match recursive {
            true => self.host.mounts_below(source).unwrap_or_default(),
            false => Vec::new(),
        };
        let mut all = std::iter::once(source).chain(below.iter().map(|mount| &*mount.target));
        let Some(other) = all.find(|mount| !self.host.is_noatime(mount)).map(Path::to_owned) else {
            return;
        };
        let message = format!("`noatime` of `{}` needs real root", other.display());
        self.find(
            Diagnostic::error("E0309", message)
                .at_maybe(span, "the host's mount is without it")
                .help("leave `noatime` out: a user namespace cannot change it"),
        );
    }

    fn bind_kernel(&mut self, source: &str, target: &Path, flags: MountFlags, by: Origin) {
        // In a user namespace mounts below cannot be left out.
        let recursive = self.private_user;
        self.view.mount(target, Place::Kernel(source.into()), flags.read_only);
        self.expect(target, None, flags, recursive);
        self.expect_kernel();
        let step = Step::Bind {
            source: source.into(),
            tree: None,
            target: target.to_owned(),
            recursive,
            flags,
            propagation: None,
        };
        self.push(step, by);
    }

    pub(super) fn devpts(&mut self, target: &Path, flags: MountFlags, by: Origin) {
        let mut options = vec![
            FsOption { key: "newinstance", value: None },
            option("ptmxmode", "0666"),
            option("mode", "0620"),
        ];
        // The group `tty`; an ordinary user has no such group to give.
        if self.has_gid(5) {
            options.push(option("gid", "5"));
        }
        let MountFlags { read_only, noatime, .. } = flags;
        let flags = MountFlags { read_only, nodev: false, noatime, ..NO_SUID_DEV_EXEC };
        self.new_mount("devpts", target, options, flags, by);
    }

    fn dev(&mut self, by: Origin) {
        let dev = Path::new("/dev");
        // Nothing is ever created as a device: the nodes are the host's, bound
        // one by one, so that this mount can refuse devices like every other.
        self.memory(
            dev,
            &[("mode", "755"), ("size", "4M"), ("nr_inodes", "64k")],
            NO_SUID_DEV_EXEC,
            by,
        );
        self.push(
            Step::BindDevices { names: DEVICES.iter().map(|(name, ..)| *name).collect() },
            by,
        );
        for (name, ..) in DEVICES {
            let flags = MountFlags { nodev: false, ..NO_SUID_DEV_EXEC };
            self.expect(dev.join(name), None, flags, false);
            self.view.mount(&dev.join(name), Place::Host(Path::new("/dev").join(name)), false);
        }
        let links = [
            ("fd", "/proc/self/fd"),
            ("stdin", "/proc/self/fd/0"),
            ("stdout", "/proc/self/fd/1"),
            ("stderr", "/proc/self/fd/2"),
            ("ptmx", "pts/ptmx"),
        ];
        for (name, to) in links {
            let path = dev.join(name);
            self.view.link(&path, to);
            self.push(Step::MakeLink { path, to: to.to_owned() }, by);
        }
        let directory = |planner: &mut Self, name: &str| {
            let path = dev.join(name);
            planner.view.make(&path, NodeKind::Directory);
            planner.push(Step::MakeNode { path: path.clone(), kind: NodeKind::Directory }, by);
            path
        };
        let pts = directory(self, "pts");
        self.devpts(&pts, MountFlags::NONE, by);
        let shm = directory(self, "shm");
        self.memory(
            &shm,
            &[("mode", "1777"), ("size", "64M"), ("nr_inodes", "64k")],
            NO_SUID_DEV,
            by,
        );
        // The queues belong to an ipc namespace: a shared one would hand out
        // the host's.
        if self.is_private(&self.unit.namespaces.ipc) {
            let mqueue = directory(self, "mqueue");
            self.new_mount("mqueue", &mqueue, Vec::new(), NO_SUID_DEV_EXEC, by);
        }
    }

    /// What a path of the jail leads to, as an error of the unit where it
    /// leads nowhere sensible.
    pub(super) fn follow(&mut self, path: &Path, at: Option<crate::source::Span>) -> Option<Walk> {
        match self.view.walk(self.host, path) {
            Ok(walk) => Some(walk),
            Err(error) => {
                self.not_followed(path, &error, at);
                None
            }
        }
    }

    /// Tells why a path of the jail is not followed.
    pub(super) fn not_followed(&mut self, path: &Path, error: &std::io::Error, at: Option<Span>) {
        let name = path.display();
        let reason = crate::unit::io_reason(error);
        let diagnostic = match view::is_of_process(error) {
            true => Diagnostic::error("E0204", format!("`{name}` is of one process"))
                .note("what is mounted on the one of a process is not on that of the command"),
            false => Diagnostic::error("E0204", format!("`{name}` cannot be reached in the root")),
        };
        self.find(diagnostic.at_maybe(at, reason));
    }
}
