//! Roots that come packed: archives, images and disk images.
//!
//! What is in the store can be looked into, and is a stack of its layers. What
//! is not has to be unpacked first; then all is planned again.

use std::path::{Path, PathBuf};

use super::Planner;
use super::root::Tree;
use super::stack::{Stack, Upper};
use super::step::{Filesystem, MountFlags, Origin, Planned, Spot, Step};
use super::view::Place;
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind, StoredImage};
use crate::image::oci::Config;
use crate::image::source::{self, Platform, Source};
use crate::source::Span;
use crate::unit::Unit;
use crate::unit::decode::Setting;
use crate::unit::process::Process;
use crate::unit::root::{DiskImage, RootKind};
use crate::unit::value::{HostPath, JailPath, Signal, Who};

/// What planning has found of a packed root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packed {
    /// Where it comes from.
    pub(super) source: Source,
    /// The image in the store; what is not there is unpacked first.
    pub(super) stored: Option<StoredImage>,
    /// How the image wants to be run.
    pub(super) config: Config,
}

impl Packed {
    /// Whether it says how it wants to be run.
    pub(super) fn is_image(&self) -> bool {
        matches!(self.source, Source::Image { .. })
    }
}

/// Looks for the image or archive that is a unit's root.
pub(super) fn find(unit: &Unit, host: &impl Host) -> Option<Result<Packed, Box<Diagnostic>>> {
    let kind = unit.root.kind.as_ref()?;
    let source = match &kind.value {
        RootKind::Tar(tar) => Source::Tar {
            path: absolute(&tar.path, unit),
            sha256: tar.sha256,
            strip_components: tar.strip_components,
        },
        RootKind::Oci(text) => {
            let exists = |path: &Path| host.look(path).is_ok();
            let text = absolute(&HostPath(text.into()), unit);
            let (path, reference) = source::split_reference(&text.to_string_lossy(), exists);
            Source::Image { path, reference, platform: Platform::host() }
        }
        RootKind::Directory(_)
        | RootKind::Host
        | RootKind::Tmpfs { .. }
        | RootKind::Overlay(_)
        | RootKind::Closure(_)
        | RootKind::Image(_) => return None,
    };
    let found = host.stored(&source).and_then(|stored| {
        let config = match &stored {
            Some(stored) => stored.config.clone(),
            None => host.packed(&source)?,
        };
        Ok(Packed { source: source.clone(), stored, config })
    });
    Some(found.map_err(|reason| {
        let what = match &source {
            Source::Image { .. } => "image",
            Source::Tar { .. } => "archive",
        };
        let diagnostic = Diagnostic::error("E0313", format!("the {what} cannot be used"));
        let diagnostic = diagnostic.at_maybe(kind.span, "asked for here").note(reason);
        Box::new(match &source {
            Source::Image { path, .. } if host.look(path).is_err() => {
                diagnostic.help("`skopeo copy docker://IMAGE oci:DIRECTORY:REFERENCE` writes one")
            }
            Source::Image { .. } | Source::Tar { .. } => diagnostic,
        })
    }))
}

fn absolute(path: &HostPath, unit: &Unit) -> PathBuf {
    path.resolve(&unit.base)
}

/// The unit with what the image's configuration says where the unit does not.
pub(super) fn with_defaults(unit: &Unit, config: &Config) -> Unit {
    let mut unit = unit.clone();
    let process = &mut unit.process;
    let mut from_image = Vec::new();
    if process.command.is_none() && !process.has_command {
        let rest = match &process.arguments[..] {
            [] => &config.cmd,
            arguments => arguments,
        };
        let command: Vec<_> = config.entrypoint.iter().chain(rest).cloned().collect();
        if !command.is_empty() {
            process.command = Some(Setting::default(command));
            from_image.push("process.command");
        }
    }
    if !config.env.is_empty() {
        add_environment(process, &config.env);
        from_image.push("process.env");
    }
    if let (None, Some(path)) = (process.cwd.span, config.working_dir.as_deref().and_then(cleaned))
    {
        process.cwd = Setting::default(JailPath(path));
        from_image.push("process.cwd");
    }
    if let (None, Some(user)) =
        (process.user.span, config.user.as_deref().filter(|user| !user.is_empty()))
    {
        let who = |text: &str| match text.parse() {
            Ok(id) => Who::Id(id),
            Err(_) => Who::Name(text.to_owned()),
        };
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        if !user.is_empty() {
            process.user = Setting::default(who(user));
            from_image.push("process.user");
        }
        if let (None, Some(group)) = (&process.group, Some(group).filter(|name| !name.is_empty())) {
            process.group = Some(Setting::default(who(group)));
            from_image.push("process.group");
        }
    }
    if let (None, Some(signal)) = (unit.lifecycle.stop_signal.span, &config.stop_signal)
        && let Some(number) = crate::names::signal_number(signal)
        && number != libc::SIGCHLD
    {
        unit.lifecycle.stop_signal = Setting::default(Signal(number));
        from_image.push("lifecycle.stop-signal");
    }
    unit.process.from_image = from_image;
    unit
}

/// An absolute path of an image as those who write it mean it: `..` takes off
/// what is before it.
fn cleaned(path: &str) -> Option<PathBuf> {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.strip_prefix('/')?.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    Some(PathBuf::from(format!("/{}", parts.join("/"))))
}

/// The image's variables come first: the unit's win.
fn add_environment(process: &mut Process, env: &[String]) {
    let image = env.iter().filter_map(|text| text.split_once('='));
    let mut all: Vec<_> =
        image.map(|(name, value)| (name.to_owned(), Setting::default(value.to_owned()))).collect();
    all.append(&mut process.env);
    process.env = all;
}

impl<H: Host> Planner<'_, H> {
    /// The layers of an image.
    pub(super) fn packed(&mut self, span: Option<Span>) -> Option<Tree> {
        let packed = self.packed.as_ref()?;
        if let Some(stored) = &packed.stored {
            return Some(Tree::Stack(Stack {
                lower: stored.layers.clone(),
                upper: Upper::Nothing,
                covered: Vec::new(),
                held: Some((stored.store.clone(), stored.key)),
                disk: None,
            }));
        }
        let source = packed.source.clone();
        self.push(Step::ImportImage { source }, super::origin(span, "root"));
        Some(Tree::Unseen)
    }

    /// A file with a file system in it.
    pub(super) fn disk_image(&mut self, image: &DiskImage, span: Option<Span>) -> Option<Tree> {
        let disk = self.disk(image, span)?;
        Some(Tree::Stack(Stack {
            lower: vec![self.host.state_directory().join("image")],
            upper: Upper::Nothing,
            covered: Vec::new(),
            held: None,
            disk: Some(disk),
        }))
    }

    /// The file of a disk image, and what is in it.
    pub(super) fn disk(&mut self, image: &DiskImage, span: Option<Span>) -> Option<Disk> {
        let path = self.resolve(&image.path);
        if self.private_user && !self.opens_trees {
            self.find(
                Diagnostic::error("E0309", "an ordinary user cannot mount a disk image")
                    .at_maybe(span, "needs a loop device")
                    .help("unpack it into a directory, and use that with `path`"),
            );
            return None;
        }
        let found = match self.host.canonical(&path) {
            Ok((file, Kind::File { .. })) => {
                self.host.block_image(&file, image.offset, image.filesystem).map(|found| Disk {
                    file,
                    offset: image.offset,
                    size: found.size,
                    filesystem: found.filesystem,
                })
            }
            Ok(_) => Err("not a regular file".to_owned()),
            Err(error) => Err(crate::unit::io_reason(&error)),
        };
        match found {
            Ok(found) => Some(found),
            Err(reason) => {
                let message = format!("the image `{}` cannot be used", path.display());
                self.find(Diagnostic::error("E0313", message).at_maybe(span, reason));
                None
            }
        }
    }

    /// Plans a disk image as a mount inside; its device is made on the host.
    pub(super) fn disk_mount(
        &mut self,
        disk: Disk,
        target: PathBuf,
        flags: MountFlags,
        by: Origin,
    ) {
        let devices = self.steps.iter().chain(&self.host_nodes);
        let number =
            devices.filter(|planned| matches!(planned.step, Step::AttachLoop { .. })).count();
        let Disk { file, offset, size, filesystem } = disk;
        let step = Step::AttachLoop { file, offset, size };
        self.host_nodes.push(Planned { step, origin: by });
        let flags = MountFlags { read_only: true, ..flags };
        // Nobody can look into it before it is mounted.
        self.view.mount(&target, Place::Memory, true);
        self.unseen.push(target.clone());
        self.expect(target.clone(), Some(filesystem.name()), flags, false);
        let on = Spot::Inside(target);
        self.mount_loop(number, filesystem, on, flags, by);
    }

    /// Whether a path lies in a mount that cannot be looked into while planning.
    pub(super) fn is_hidden(&self, path: &Path) -> bool {
        self.unseen.iter().any(|target| path.starts_with(target))
    }

    /// Notes that a key's file lies in such a mount.
    pub(super) fn leave_unknown(&mut self, key: &'static str, path: &Path) {
        let under = self.unseen.iter().filter(|target| path.starts_with(target));
        let Some(target) = under.max_by_key(|target| target.as_os_str().len()) else { return };
        let when = match &self.unit.root.kind {
            _ if target != Path::new("/") => {
                format!("known when {} is mounted", target.display())
            }
            Some(Setting { value: RootKind::Image(_), .. }) => {
                "known when the image is mounted".to_owned()
            }
            _ => AFTER_UNPACKING.to_owned(),
        };
        self.unknown.push((key, when));
    }

    /// Whether the jail's files cannot be looked into while planning.
    pub(super) fn is_unseen(&self) -> bool {
        match &self.unit.root.kind {
            Some(Setting { value: RootKind::Image(_), .. }) => true,
            Some(Setting { value: RootKind::Tmpfs { populate, .. }, .. }) => {
                populate.iter().any(|source| {
                    let path = self.resolve(&source.value);
                    matches!(self.host.look(&path), Ok(Kind::File { .. }))
                })
            }
            _ => self.packed.as_ref().is_some_and(|packed| packed.stored.is_none()),
        }
    }
}

/// When what an archive or image has is known.
pub(super) const AFTER_UNPACKING: &str = "known when the root is unpacked";

/// A disk image that a stack is laid over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) file: PathBuf,
    pub(super) offset: u64,
    pub(super) size: u64,
    pub(super) filesystem: Filesystem,
}

/// The place of a step that a key of the image asked for.
pub(super) fn image_origin(unit: &Unit, key: &'static str) -> Option<Origin> {
    unit.process.from_image.contains(&key).then_some(Origin::Image(key))
}

/// What is in force because the image says so, as one would write it.
pub(super) fn settings(unit: &Unit) -> Vec<(&'static str, String)> {
    let process = &unit.process;
    let who = |who: &Who| match who {
        Who::Id(id) => id.to_string(),
        Who::Name(name) => format!("{name:?}"),
    };
    let list = |words: &[String]| format!("{words:?}");
    let value = |key| match key {
        "process.command" => list(process.command.as_ref().map_or(&[][..], |it| &it.value)),
        "process.env" => {
            let of_image = process.env.iter().filter(|(_, value)| value.span.is_none());
            let pairs: Vec<_> =
                of_image.map(|(name, value)| format!("{name} = {:?}", value.value)).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
        "process.cwd" => format!("{:?}", process.cwd.value.0),
        "process.user" => who(&process.user.value),
        "process.group" => process.group.as_ref().map_or(String::new(), |it| who(&it.value)),
        _ => format!("{:?}", crate::names::signal(unit.lifecycle.stop_signal.value.0)),
    };
    process.from_image.iter().map(|key| (*key, value(*key))).collect()
}
