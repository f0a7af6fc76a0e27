//! `[[mounts]]`, and the paths that `[security]` hides or protects.

use std::ffi::OsStr;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::root::{inodes_of, option};
use super::step::{ExpectedMount, FsOption, MountFlags, NodeKind, Origin, Planned, Step};
use super::view::{Place, Walk};
use super::{Planner, origin, view};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::plan::cgroup::LeftOut;
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::decode::nearest;
use crate::unit::mounts::{Create, Mount, MountKind, Tmpfs};
use crate::unit::namespaces::Mode;
use crate::unit::process::{Network, PathSet};
use crate::unit::root::Propagation;
use crate::unit::value::{HostPath, Who};

/// Hidden unless the unit says otherwise: what they tell or do is the whole
/// host's, not the jail's. In a procfs of the jail's own nothing is mounted on
/// `/proc/sys/fs/binfmt_misc`, and the directory is read-only with its parent.
pub(crate) const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/key-users",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/vmallocinfo",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

/// Read-only unless the unit says otherwise: root inside is root to them.
pub(crate) const PROTECTED: &[&str] =
    &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl<H: Host> Planner<'_, H> {
    /// Plans the entries in order.
    pub(super) fn mounts(&mut self, state: &Path) {
        let unit = self.unit;
        for mount in &unit.mounts {
            let by = origin(mount.kind.span, "mounts");
            self.check_slave(mount);
            match &mount.kind.value {
                MountKind::Bind(path) => self.bind(mount, path, by),
                MountKind::Tmpfs(tmpfs) => {
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        let options = self.tmpfs_options(tmpfs);
                        self.user_mount("tmpfs", target, options, mount, by);
                    }
                }
                MountKind::Proc => {
                    let is_bound = unit.namespaces.pid.value == Mode::Host;
                    self.check_atime(mount.flags, Path::new("/proc"), is_bound, mount.kind.span);
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        self.proc(&target, flags(mount), by);
                        self.propagate(mount);
                    }
                }
                MountKind::Sysfs => {
                    let is_bound = unit.network.value == Network::Host;
                    self.check_atime(mount.flags, Path::new("/sys"), is_bound, mount.kind.span);
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        let flags = MountFlags { read_only: true, ..flags(mount) };
                        self.sysfs(&target, flags, by);
                        self.propagate(mount);
                    }
                }
                MountKind::Devpts => {
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        self.devpts(&target, flags(mount), by);
                        self.propagate(mount);
                    }
                }
                MountKind::Mqueue => {
                    self.check_shared("mqueue", &unit.namespaces.ipc, by);
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        self.user_mount("mqueue", target, Vec::new(), mount, by);
                    }
                }
                MountKind::Cgroup => self.cgroup_mount(mount, by),
                MountKind::Image(image) => {
                    let Some(disk) = self.disk(image, mount.kind.span) else { continue };
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        self.disk_mount(disk, target, flags(mount), by);
                    }
                }
                MountKind::Overlay(overlay) => {
                    let Some(stack) = self.stack(overlay) else { continue };
                    for layer in &stack.lower {
                        self.check_danger("an overlay of", layer, mount.kind.span);
                    }
                    self.prepare_stack(&stack, by);
                    if let Some(target) = self.mount_point(mount, NodeKind::Directory, by) {
                        self.stack_mount(&stack, state, target, flags(mount), by);
                    }
                }
                MountKind::Content(text) => {
                    let file = self.stage_name(state, "content-");
                    self.push(Step::WriteContent { path: file.clone(), text: text.clone() }, by);
                    if let Some(target) = self.mount_point(mount, NodeKind::File, by) {
                        let flags = MountFlags { read_only: true, ..flags(mount) };
                        self.bind_step(
                            file,
                            None,
                            target,
                            false,
                            flags,
                            written(&mount.propagation),
                            by,
                            Place::Written,
                        );
                        self.note_unbindable(mount);
                    }
                }
                MountKind::Symlink(to) => self.symlink(mount, to, by),
                MountKind::Mask => self.mask_entry(mount, by),
            }
        }
    }

    fn user_mount(
        &mut self,
        fstype: &'static str,
        target: PathBuf,
        options: Vec<FsOption>,
        mount: &Mount,
        by: Origin,
    ) {
        self.new_mount(fstype, &target, options, flags(mount), by);
        self.propagate(mount);
    }

    /// Gives the mount planned last the entry's propagation type.
    fn propagate(&mut self, mount: &Mount) {
        self.note_unbindable(mount);
        match self.steps.last_mut().map(|planned| &mut planned.step) {
            Some(Step::Mount { propagation, .. }) => *propagation = mount.propagation.value,
            Some(Step::Bind { propagation, .. }) => *propagation = written(&mount.propagation),
            _ => {}
        }
    }

    fn note_unbindable(&mut self, mount: &Mount) {
        if mount.propagation.value == Propagation::Unbindable {
            self.unbindable.insert(self.expected.len() - 1, mount.propagation.span);
        }
    }

    /// Refuses to follow the host where nothing of the host can come: its mounts
    /// reach a bind by way of the root's propagation type alone.
    fn check_slave(&mut self, mount: &Mount) {
        if mount.propagation.value != Propagation::Slave {
            return;
        }
        let is_bind = matches!(mount.kind.value, MountKind::Bind(_));
        let diagnostic = match (is_bind, &self.unit.root.propagation) {
            (true, root) if root.value == Propagation::Slave => return,
            (true, root) => Diagnostic::error(
                "E0106",
                "`propagation = \"slave\"` needs the same in `[root]`",
            )
            .context(root.span, "not here")
            .help("with `propagation = \"slave\"` in `[root]` the host's mounts reach the jail"),
            (false, _) => Diagnostic::error("E0106", "`propagation = \"slave\"` belongs to `bind`"),
        };
        self.find(diagnostic.at_maybe(mount.propagation.span, "without effect here"));
    }

    /// Warns of a read-only bind into which the host may mount.
    fn check_later(&mut self, mount: &Mount, source: &Path) {
        let root = &self.unit.root.propagation;
        let is_open = match written(&mount.propagation) {
            Some(Propagation::Private | Propagation::Unbindable) => false,
            None | Some(Propagation::Slave | Propagation::Shared) => {
                root.value == Propagation::Slave
            }
        };
        if is_open && mount.flags.read_only {
            let message = format!(
                "what the host mounts below `{}` while the jail runs is not read-only",
                source.display()
            );
            self.find(
                Diagnostic::warning("W0018", message)
                    .at_maybe(mount.propagation.span.or(mount.kind.span), "follows the host")
                    .context(root.span, "by the root's propagation type")
                    .help("`propagation = \"private\"` here keeps it out"),
            );
        }
    }

    fn tmpfs_options(&mut self, tmpfs: &Tmpfs) -> Vec<FsOption> {
        let mut options = vec![
            option("mode", format!("{:o}", tmpfs.mode.0)),
            option("size", tmpfs.size.0.to_string()),
            option(
                "nr_inodes",
                tmpfs.inodes.unwrap_or_else(|| inodes_of(tmpfs.size.0)).to_string(),
            ),
        ];
        let owner = match &tmpfs.user.value {
            Who::Id(id) => Some(*id),
            Who::Name(name) => self.uid_of(name, tmpfs.user.span).map(|line| line.uid),
        };
        let group = match &tmpfs.group.value {
            Who::Id(id) => Some(*id),
            Who::Name(name) => self.gid_of(name, tmpfs.group.span),
        };
        let ids = [
            ("user", owner.unwrap_or(0), tmpfs.user.span),
            ("group", group.unwrap_or(0), tmpfs.group.span),
        ];
        self.refuse_unmapped(&ids);
        options.extend(owner.filter(|id| *id != 0).map(|id| option("uid", id.to_string())));
        options.extend(group.filter(|id| *id != 0).map(|id| option("gid", id.to_string())));
        options
    }

    /// What a path of the host that is not there may have been meant to be.
    pub(super) fn meant_on_host(
        &self,
        written: &HostPath,
        error: &std::io::Error,
    ) -> Option<String> {
        if error.kind() != std::io::ErrorKind::NotFound {
            return None;
        }
        if written.0.as_os_str().as_encoded_bytes().starts_with(b"~") {
            return Some("`~` is not expanded here: write the whole path".to_owned());
        }
        let path = self.resolve(written);
        let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
        let names = self.host.list(parent).ok()?;
        // A link that leads nowhere: it is spelt well.
        if names.iter().any(|there| there == name) {
            return None;
        }
        let near = nearest(name, names.iter().map(String::as_str))?;
        Some(format!("there is `{}`", parent.join(near).display()))
    }

    fn bind(&mut self, mount: &Mount, mount_source: &HostPath, by: Origin) {
        let span = mount.kind.span;
        let path = self.resolve(mount_source);
        let (source, kind) = match self.host.canonical(&path) {
            Ok(found) => found,
            Err(error) => {
                let reason = crate::unit::io_reason(&error);
                if mount.optional.value && error.kind() == std::io::ErrorKind::NotFound {
                    self.left_out.push(LeftOut {
                        key: "mounts",
                        reason: format!("`{}`: {reason}", path.display()),
                    });
                    return;
                }
                let diagnostic =
                    Diagnostic::error("E0301", format!("`{}` cannot be bound", path.display()))
                        .at_maybe(span, reason);
                let help = self.meant_on_host(mount_source, &error);
                self.find(match help {
                    Some(help) => diagnostic.help(help),
                    None if error.kind() == std::io::ErrorKind::NotFound => {
                        diagnostic.help("`optional = true` leaves it out where it does not exist")
                    }
                    None => diagnostic,
                });
                return;
            }
        };
        let is_told = self.check_danger("binding", &source, span);
        let node = if kind == Kind::Directory { NodeKind::Directory } else { NodeKind::File };
        let Some(target) = self.mount_point(mount, node, by) else { return };
        if mount.idmap.value && !self.opens_trees {
            self.find(
                Diagnostic::error("E0309", "a mount with mapped ids needs root and `[idmap]`")
                    .at_maybe(mount.idmap.span, "asked for here")
                    .help("an ordinary user's own files are root's inside"),
            );
        }
        self.check_closed(&source, mount.idmap.value, span);
        let tree = self.host_tree(&source, mount.recursive, mount.idmap.value);
        if tree.is_none() {
            self.check_atime(mount.flags, &source, mount.recursive, span);
        }
        if kind == Kind::Directory {
            self.check_later(mount, &source);
        }
        if !is_told {
            self.check_below(&source, kind, &target, mount.recursive, span);
        }
        let place = Place::Host(source.clone());
        self.bind_step(
            source,
            tree,
            target,
            mount.recursive,
            flags(mount),
            written(&mount.propagation),
            by,
            place,
        );
        self.note_unbindable(mount);
    }

    #[allow(clippy::too_many_arguments)]
    fn bind_step(
        &mut self,
        source: PathBuf,
        tree: Option<usize>,
        target: PathBuf,
        recursive: bool,
        flags: MountFlags,
        propagation: Option<Propagation>,
        by: Origin,
        place: Place,
    ) {
        self.view.mount(&target, place, flags.read_only);
        self.expect(target.clone(), None, flags, recursive);
        self.push(Step::Bind { source, tree, target, recursive, flags, propagation }, by);
    }

    /// Notes an entry, and tells of an earlier one that would not be seen any
    /// more.
    fn check_hidden(&mut self, path: &Path, span: Option<Span>) {
        let mut below = path.as_os_str().to_owned();
        below.push("/");
        let hidden = self.targets.get_key_value(path.as_os_str()).or_else(|| {
            let from = (Bound::Included(below.as_os_str()), Bound::Unbounded);
            let (target, span) = self.targets.range::<OsStr, _>(from).next()?;
            target.as_bytes().starts_with(below.as_bytes()).then_some((target, span))
        });
        let hidden = hidden.map(|(target, span)| (target.clone(), *span));
        self.targets.insert(path.into(), span);
        let Some((target, earlier)) = hidden else { return };
        let name = path.display();
        let (message, help) = match Path::new(&target) {
            same if same == path => {
                (format!("there are two mounts on `{name}`"), "the last of them is what is there")
            }
            below => (
                format!("the mount on `{name}` hides that on `{}`", below.display()),
                "a directory is mounted before what lies below it",
            ),
        };
        let warning = Diagnostic::warning("W0017", message)
            .at_maybe(span, "mounted later, in the order written")
            .context(earlier, "nothing of this one can be seen")
            .help(help);
        self.find(warning);
    }

    /// The path to mount on, without links, after planning to make it where
    /// it is missing.
    fn mount_point(&mut self, mount: &Mount, like: NodeKind, by: Origin) -> Option<PathBuf> {
        let span = mount.target.span;
        let target = &mount.target.value.0;
        // A target of `/` has been refused while reading.
        target.parent()?;
        let (path, found) = match self.follow(target, span)? {
            Walk::Found(path, kind) => (path, Some(kind)),
            Walk::Missing(path) => (path, None),
        };
        if path.parent().is_none() {
            self.find(
                Diagnostic::error(
                    "E0201",
                    format!("`{}` leads to `/` in this root", target.display()),
                )
                .at_maybe(span, "a mount over `/`"),
            );
            return None;
        }
        self.check_hidden(&path, span);
        let name = path.display().to_string();
        if let Some(kind) = found {
            let is_directory = kind == Kind::Directory;
            if is_directory != (like == NodeKind::Directory) {
                let (have, need) = if is_directory {
                    ("a directory", "a file")
                } else {
                    ("not a directory", "a directory")
                };
                self.find(
                    Diagnostic::error("E0204", format!("`{name}` of the root is {have}"))
                        .at_maybe(span, format!("what is mounted there is {need}")),
                );
                return None;
            }
            return Some(path);
        }
        let kind = match mount.create.value {
            Create::Auto => like,
            Create::Dir => NodeKind::Directory,
            Create::File => NodeKind::File,
            Create::Never => {
                self.find(
                    Diagnostic::error("E0204", format!("`{name}` does not exist in the root"))
                        .at_maybe(span, "no such mount point")
                        .context(mount.create.span, "and must not be created"),
                );
                return None;
            }
        };
        if kind != like {
            let need = if like == NodeKind::Directory { "a directory" } else { "a file" };
            self.find(
                Diagnostic::error("E0105", "the mount point would not fit what is mounted")
                    .at_maybe(mount.create.span, format!("what is mounted there is {need}")),
            );
            return None;
        }
        self.make(&path, kind, span, by).then_some(path)
    }

    /// Plans a missing file or directory of the jail; false where it cannot be.
    pub(super) fn make(
        &mut self,
        path: &Path,
        kind: NodeKind,
        span: Option<Span>,
        by: Origin,
    ) -> bool {
        let Some(holder) = self.view.holder(path) else { return false };
        let name = path.display();
        match holder.place {
            Place::Host(_) if holder.is_root => self.make_on_host(path, kind, span, by),
            Place::Kernel(_) | Place::Bare(_) => {
                self.find(
                    Diagnostic::error("E0204", format!("`{name}` cannot be created"))
                        .at_maybe(span, "it lies in a file system of the kernel"),
                );
                false
            }
            Place::Layers(_) | Place::Memory if holder.is_root && self.points_at.is_some() => {
                let state = self.host.state_directory();
                self.make_point(&state, path, kind, by);
                true
            }
            _ if holder.read_only => {
                self.find(
                    Diagnostic::error("E0204", format!("`{name}` cannot be created"))
                        .at_maybe(span, "an earlier mount makes the place read-only")
                        .help("move this entry before the read-only one, or create the mount point in its source"),
                );
                false
            }
            Place::Host(_) | Place::Layers(_) | Place::Memory | Place::Written => {
                self.view.make(path, kind);
                self.push(Step::MakeNode { path: path.to_owned(), kind }, by);
                true
            }
        }
    }

    fn symlink(&mut self, mount: &Mount, to: &str, by: Origin) {
        let span = mount.target.span;
        let target = &mount.target.value.0;
        let (Some(parent), Some(name)) = (target.parent(), target.file_name()) else { return };
        let parent = match self.follow(parent, span) {
            Some(Walk::Found(path, _)) => path,
            Some(Walk::Missing(path)) => {
                if !self.make(&path, NodeKind::Directory, span, by) {
                    return;
                }
                path
            }
            None => return,
        };
        let path = parent.join(name);
        match self.view.look(self.host, &path) {
            Ok(Kind::Link)
                if self.view.read_link(self.host, &path).is_ok_and(|it| it == Path::new(to)) =>
            {
                return;
            }
            Ok(_) => {
                let is_planned = self.view.is_planned(&path);
                let whose = if is_planned { "jail already" } else { "root" };
                let message = format!("`{}` exists in the {whose}", path.display());
                self.find(
                    Diagnostic::error("E0204", message)
                        .at_maybe(span, "a link would have to replace it"),
                );
                return;
            }
            Err(_) => {}
        }
        let Some(holder) = self.view.holder(&path) else { return };
        let step = match holder.place {
            Place::Host(root) if holder.is_root && root.parent().is_some() => {
                let inside = path.strip_prefix("/").unwrap_or(&path).to_owned();
                let message = format!("`{}` will be created", root.join(&inside).display());
                self.find(
                    Diagnostic::warning("W0001", message)
                        .at_maybe(span, "a link in the root directory"),
                );
                let step = Step::MakeHostLink { root, path: inside, to: to.to_owned() };
                self.host_nodes.push(Planned { step, origin: by });
                self.view.link(&path, to);
                return;
            }
            Place::Kernel(_) | Place::Bare(_) => None,
            _ if holder.read_only => None,
            _ => Some(Step::MakeLink { path: path.clone(), to: to.to_owned() }),
        };
        match step {
            Some(step) => {
                self.view.link(&path, to);
                self.push(step, by);
            }
            None => self.find(
                Diagnostic::error("E0204", format!("`{}` cannot be created", path.display()))
                    .at_maybe(span, "the place is read-only"),
            ),
        }
    }

    fn mask_entry(&mut self, mount: &Mount, by: Origin) {
        let span = mount.target.span;
        match self.follow(&mount.target.value.0, span) {
            Some(Walk::Found(path, kind)) if path.parent().is_some() => {
                self.check_hidden(&path, span);
                self.mask(path, kind, by);
            }
            Some(Walk::Missing(path)) if mount.optional.value => {
                let reason = format!("`{}` is not there to hide", path.display());
                self.left_out.push(LeftOut { key: "mounts", reason });
            }
            Some(_) => self.find(
                Diagnostic::error(
                    "E0204",
                    format!("`{}` is not there to hide", mount.target.value.0.display()),
                )
                .at_maybe(span, "does not exist in the root")
                .help("`optional = true` leaves it out"),
            ),
            None => {}
        }
    }

    fn mask(&mut self, target: PathBuf, kind: Kind, by: Origin) {
        let (kind, fstype, place) = match kind {
            Kind::Directory => (NodeKind::Directory, Some("tmpfs"), Place::Memory),
            _ => (NodeKind::File, None, Place::Host("/dev/null".into())),
        };
        self.view.mount(&target, place, true);
        self.expect(target.clone(), fstype, mask_flags(kind), false);
        self.push(Step::Mask { target, kind }, by);
    }

    /// The control groups, read-only: one hierarchy, or one for each of v1.
    fn cgroup_mount(&mut self, mount: &Mount, by: Origin) {
        self.check_shared("cgroup", &self.unit.namespaces.cgroup, by);
        let Some(target) = self.mount_point(mount, NodeKind::Directory, by) else { return };
        let read_only = MountFlags { read_only: true, noexec: true, ..flags(mount) };
        let layout = self.host.cgroups().clone();
        if layout.v1.is_empty() {
            self.new_mount("cgroup2", &target, Vec::new(), read_only, by);
            self.propagate(mount);
            return;
        }
        let options =
            vec![option("mode", "755"), option("size", "1M"), option("nr_inodes", "1024")];
        let writable = MountFlags { read_only: false, ..read_only };
        self.new_mount("tmpfs", &target, options, writable, by);
        self.propagate(mount);
        for hierarchy in &layout.v1 {
            let directory = target.join(hierarchy.controllers.join(","));
            self.push(Step::MakeNode { path: directory.clone(), kind: NodeKind::Directory }, by);
            self.view.make(&directory, NodeKind::Directory);
            // Controllers are flags of the file system; their names are the kernel's.
            let options = hierarchy
                .controllers
                .iter()
                .filter_map(|name| V1_CONTROLLERS.iter().find(|known| *known == name))
                .map(|key| FsOption { key, value: None })
                .collect();
            self.new_mount("cgroup", &directory, options, read_only, by);
            self.propagate(mount);
        }
        if mount.flags.read_only {
            self.protect(target, by);
        }
    }

    /// Hides and protects what `[security]` says, after the unit's own mounts
    /// so that none of them brings it back.
    pub(super) fn security_paths(&mut self) {
        let security = &self.unit.security;
        let masked = self.path_list(&security.masked_paths.value, MASKED, true);
        let by = origin(security.masked_paths.span, "security.masked-paths");
        let added = security.masked_paths.value.add.clone();
        for path in masked {
            match self.view.walk(self.host, &path) {
                Ok(Walk::Found(found, kind))
                    if found.parent().is_some() && self.is_worth_it(&found) =>
                {
                    self.mask(found, kind, by);
                }
                // A plain directory of the root where the kernel has a file.
                Ok(Walk::Found(found, _)) if found.parent().is_some() => {}
                Err(error) if view::is_of_process(&error) => {
                    self.not_followed(&path, &error, security.masked_paths.span);
                }
                _ if added.contains(&path) => {
                    self.not_there(&path, security.masked_paths.span, "hide")
                }
                _ => {}
            }
        }
        let protected = self.path_list(&security.read_only_paths.value, PROTECTED, false);
        let by = origin(security.read_only_paths.span, "security.read-only-paths");
        let added = security.read_only_paths.value.add.clone();
        for path in protected {
            match self.view.walk(self.host, &path) {
                Ok(Walk::Found(found, _)) if found.parent().is_some() => {
                    if !self.is_worth_it(&found) {
                        continue;
                    }
                    self.protect(found, by);
                }
                Err(error) if view::is_of_process(&error) => {
                    self.not_followed(&path, &error, security.read_only_paths.span);
                }
                _ if added.contains(&path) => {
                    self.not_there(&path, security.read_only_paths.span, "protect");
                }
                _ => {}
            }
        }
    }

    /// Lays a path over itself, read-only with all that is mounted below it.
    fn protect(&mut self, found: PathBuf, by: Origin) {
        let above = self.mount_above(&found);
        let mount = above.map(|index| &self.expected[index]);
        let flags = mount.map_or(MountFlags::NONE, |mount| mount.flags);
        let flags = MountFlags { read_only: true, ..flags };
        let with_kernel = mount.is_some_and(|mount| mount.with_kernel);
        // What was mounted before lies below it, and is not copied with it.
        let later = above.map_or(0, |index| index + 1);
        let below: Vec<usize> = (later..self.expected.len())
            .filter(|index| view::rest_below(&self.expected[*index].target, &found).is_some())
            .collect();
        let copied = above.iter().chain(&below);
        if let Some(index) = copied.copied().find(|index| self.unbindable.contains_key(index)) {
            self.not_to_be_bound(&found, index, by);
        }
        self.expected.push(ExpectedMount {
            target: found.clone(),
            fstype: None,
            flags,
            recursive: true,
            with_kernel,
        });
        for index in below {
            let mut mount = self.expected[index].clone();
            mount.flags.read_only = true;
            self.expected.push(mount);
        }
        self.push(Step::ProtectPath { target: found }, by);
    }

    /// An unbindable mount cannot be laid over itself, nor be copied with what
    /// it lies in.
    fn not_to_be_bound(&mut self, found: &Path, index: usize, by: Origin) {
        let message = format!("`{}` is made read-only by a bind of itself", found.display());
        let unbindable = self.expected[index].target.display().to_string();
        self.find(
            Diagnostic::error("E0106", message)
                .at_maybe(by.span(), "asked for here")
                .context(self.unbindable[&index], format!("`{unbindable}` must not be bound"))
                .help("`propagation = \"private\"` there, or `read-only = true` in its entry"),
        );
    }

    /// A path of the unit's own that does not exist is a misspelt one.
    fn not_there(&mut self, path: &Path, span: Option<Span>, verb: &str) {
        self.find(
            Diagnostic::error("E0204", format!("`{}` is not there to {verb}", path.display()))
                .at_maybe(span, "does not exist in the root"),
        );
    }

    /// Which of the mounts expected a path lies on: the latest over it or one of
    /// its parents.
    fn mount_above(&self, path: &Path) -> Option<usize> {
        self.expected.iter().rposition(|mount| {
            path.as_os_str() == mount.target.as_os_str()
                || view::rest_below(path, &mount.target).is_some()
        })
    }

    /// A path of the default lists is in the kernel's file systems: where the
    /// root has a plain directory instead, there is nothing to hide.
    fn is_worth_it(&self, path: &Path) -> bool {
        let is_default = MASKED.iter().chain(PROTECTED).any(|known| path.as_os_str() == *known);
        !is_default
            || matches!(self.view.holder(path), Some(holder) if matches!(holder.place, Place::Kernel(_)) || holder.is_root)
    }

    fn path_list(&self, set: &PathSet, default: &[&str], with_throttle: bool) -> Vec<PathBuf> {
        let mut list: Vec<PathBuf> = Vec::new();
        if set.with_default {
            list.extend(default.iter().map(PathBuf::from));
            let cpus = Path::new("/sys/devices/system/cpu");
            if with_throttle && self.host.look(&cpus.join("cpu0/thermal_throttle")).is_ok() {
                let names = self.host.list(cpus).unwrap_or_default();
                let is_cpu = |name: &&String| {
                    name.strip_prefix("cpu")
                        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
                };
                list.extend(
                    names
                        .iter()
                        .filter(is_cpu)
                        .map(|name| cpus.join(name).join("thermal_throttle")),
                );
            }
        }
        list.retain(|path| !set.remove.contains(path));
        // What holds for /proc and /sys holds for every other mount of them.
        let elsewhere: Vec<PathBuf> = self
            .kernel_mounts
            .iter()
            .flat_map(|(original, target)| {
                list.iter()
                    .filter_map(move |path| Some(target.join(path.strip_prefix(original).ok()?)))
            })
            .collect();
        list.extend(elsewhere);
        list.extend(set.add.iter().cloned());
        list
    }
}

/// Controllers of cgroup v1, cgroups(7).
const V1_CONTROLLERS: [&str; 14] = [
    "cpu",
    "cpuacct",
    "cpuset",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "blkio",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
    "rdma",
    "misc",
];

/// Flags of a mask: nothing at all can be done with it.
pub(crate) fn mask_flags(kind: NodeKind) -> MountFlags {
    match kind {
        NodeKind::Directory => {
            MountFlags { read_only: true, nosuid: true, nodev: true, noexec: true, noatime: false }
        }
        // /dev/null must stay a device that can be opened.
        NodeKind::File => {
            MountFlags { read_only: true, nosuid: true, nodev: false, noexec: true, noatime: false }
        }
    }
}

/// A value that the unit writes.
fn written<T: Copy>(setting: &Setting<T>) -> Option<T> {
    setting.span.map(|_| setting.value)
}

fn flags(mount: &Mount) -> MountFlags {
    mount.flags
}
