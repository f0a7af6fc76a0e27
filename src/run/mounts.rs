//! Mounts, and the nodes that they go on.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::sys::statvfs::FsFlags;
use nix::unistd;

use super::context::Context;
use super::error::{Applied, Failed};
use super::paths::{open_below, open_host};
use crate::block_image::{self, LoopDevice};
use crate::names;
use crate::plan::step::{
    DeviceNumber, Filesystem, FsOption, MountFlags, NodeKind, OWN_FILES, Overlay, Propagation, Spot,
};
use crate::sys::{self, MountAttr};

fn attribute_bits(flags: MountFlags) -> u64 {
    use sys::mount::{ATTR_NOATIME, ATTR_NODEV, ATTR_NOEXEC, ATTR_NOSUID, ATTR_RDONLY};
    [
        (flags.read_only, ATTR_RDONLY),
        (flags.nosuid, ATTR_NOSUID),
        (flags.nodev, ATTR_NODEV),
        (flags.noexec, ATTR_NOEXEC),
        (flags.noatime, ATTR_NOATIME),
    ]
    .into_iter()
    .filter(|(wanted, _)| *wanted)
    .fold(0, |bits, (_, bit)| bits | bit)
}

/// Flags are added to what the source has, never taken away.
pub(super) fn attributes(flags: MountFlags, propagation: Option<Propagation>) -> MountAttr {
    MountAttr {
        set: attribute_bits(flags),
        clear: if flags.noatime { sys::mount::ATTR_ATIME } else { 0 },
        propagation: propagation.map_or(0, propagation_flag),
        userns_fd: 0,
    }
}

pub(super) fn propagation_only(propagation: Propagation) -> MountAttr {
    MountAttr { propagation: propagation_flag(propagation), ..MountAttr::default() }
}

pub(super) fn propagation_flag(propagation: Propagation) -> u64 {
    match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        Propagation::Shared => libc::MS_SHARED,
        Propagation::Unbindable => libc::MS_UNBINDABLE,
    }
}

pub(super) fn attach(tree: &OwnedFd, at: &Path) -> Applied {
    sys::move_mount(tree.as_fd(), open_host(at)?.as_fd())?;
    Ok(())
}

pub(super) fn attach_tree(
    cx: &mut Context,
    tree: OwnedFd,
    on: &Spot,
    flags: MountFlags,
) -> Applied {
    if flags != MountFlags::NONE {
        sys::mount_setattr(tree.as_fd(), true, &attributes(flags, None))?;
    }
    match on {
        Spot::Stage(path) => attach(&tree, path)?,
        Spot::Root(path) => {
            attach(&tree, path)?;
            cx.root = Some(tree);
        }
        Spot::Inside(target) => {
            let point = cx.open(target)?;
            cx.mount(tree.as_fd(), point.as_fd(), target)?;
        }
    }
    Ok(())
}

pub(super) fn new_filesystem(
    fstype: &std::ffi::CStr,
    source: &str,
    options: &[FsOption],
    flags: MountFlags,
) -> Applied<OwnedFd> {
    let text = |text: &str| CString::new(text).map_err(|_| Failed::from(Errno::EINVAL));
    let filesystem = sys::fsopen(fstype)?;
    let fs = filesystem.as_fd();
    let configure = || -> Applied<()> {
        sys::fsconfig_set(fs, c"source", Some(&text(source)?))?;
        for option in options {
            let value = option.value.as_deref().map(text).transpose()?;
            sys::fsconfig_set(fs, &text(option.key)?, value.as_deref())?;
        }
        Ok(sys::fsconfig_create(fs)?)
    };
    if let Err(failed) = configure() {
        return Err(Failed { detail: kernel_log(fs), ..failed });
    }
    Ok(sys::fsmount(fs, attribute_bits(flags))?)
}

/// What the kernel has to say about a refused file system, fsopen(2).
fn kernel_log(fs: BorrowedFd<'_>) -> Option<String> {
    let mut buffer = [0_u8; 256];
    let length = unistd::read(fs, &mut buffer).ok()?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    Some(text.trim().trim_start_matches("e ").to_owned()).filter(|text| !text.is_empty())
}

/// The descriptor keeps the device until it is mounted, and the mount after.
pub(super) fn attach_loop(file: &Path, offset: u64, size: u64) -> Applied<LoopDevice> {
    let image = sys::open2(file, libc::O_RDONLY | libc::O_NONBLOCK, libc::RESOLVE_NO_SYMLINKS)?;
    block_image::attach(image.as_fd(), offset, Some(size))
        .map_err(|error| Failed::found(error.to_string()))
}

pub(super) fn mount_loop(
    cx: &mut Context,
    number: usize,
    filesystem: Filesystem,
    on: &Spot,
    flags: MountFlags,
) -> Applied {
    let tree = loop_filesystem(cx, number, filesystem, flags)?;
    attach_tree(cx, tree, on, MountFlags::NONE)
}

/// The file system of a loop device, read-only and detached.
pub(super) fn loop_filesystem(
    cx: &Context,
    number: usize,
    filesystem: Filesystem,
    flags: MountFlags,
) -> Applied<OwnedFd> {
    let device = cx.loops.get(number).ok_or(Errno::ENODEV)?;
    let name = CString::new(filesystem.name()).map_err(|_| Errno::EINVAL)?;
    // Of the file system itself: a journal would be replayed otherwise.
    let options = [FsOption { key: "ro", value: None }];
    let source = device.path.to_string_lossy().into_owned();
    new_filesystem(&name, &source, &options, flags)
}

/// Allows so many layers to be open at once; the limits to go back to where
/// those were too narrow.
fn room_for(layers: usize) -> Applied<Option<(u64, u64)>> {
    let needed = layers as u64 + OWN_FILES;
    // What is usual is more than a few layers take.
    if needed < 2 * OWN_FILES {
        return Ok(None);
    }
    let (soft, hard) = sys::getrlimit(names::NOFILE)?;
    if soft >= hard {
        return Ok(None);
    }
    // What else is open is not counted.
    sys::setrlimit(names::NOFILE, hard, hard)?;
    Ok(Some((soft, hard)))
}

/// The directories of an overlay, open, and its options with their numbers for
/// names: what is mounted is what has been opened here without following links,
/// whoever renames it meanwhile, and a number is short and ends no option.
fn opened(cx: &Context, overlay: &Overlay) -> Applied<(Vec<OwnedFd>, String)> {
    let mut layers = Vec::with_capacity(overlay.lower.len() + 2);
    let mut open = |path: &PathBuf| -> Applied<PathBuf> {
        let link = cx.layers.iter().find(|(link, _)| link == path);
        let path = link.map_or(path, |(_, to)| to);
        let layer = open_host(path)
            .map_err(|failed| Failed { detail: Some(format!("`{}`", path.display())), ..failed })?;
        let number = layer.as_raw_fd().to_string();
        layers.push(layer);
        Ok(number.into())
    };
    let lower = overlay.lower.iter().map(&mut open).collect::<Applied<_>>()?;
    let upper = match &overlay.upper {
        Some((upper, work)) => Some((open(upper)?, open(work)?)),
        None => None,
    };
    Ok((layers, Overlay::new(lower, upper, overlay.user_xattrs).options()))
}

pub(super) fn mount_overlay(
    cx: &mut Context,
    on: &Spot,
    overlay: &Overlay,
    flags: MountFlags,
) -> Applied {
    use nix::mount::MsFlags;
    let limit = room_for(overlay.lower.len())?;
    let (layers, options) = opened(cx, overlay)?;
    let numbers = sys::openat2(cx.proc()?, Path::new("self/fd"), libc::O_PATH, 0)?;
    unistd::fchdir(numbers)?;
    let bits = [
        (flags.nosuid, MsFlags::MS_NOSUID),
        (flags.nodev, MsFlags::MS_NODEV),
        (flags.noexec, MsFlags::MS_NOEXEC),
        (flags.noatime, MsFlags::MS_NOATIME),
    ];
    let bits = bits.into_iter().filter(|(wanted, _)| *wanted).map(|(_, bit)| bit);
    let mount = |at: &Path| {
        let (kind, bits) = (Some("overlay"), bits.collect::<MsFlags>());
        nix::mount::mount(kind, at, kind, bits, Some(options.as_str()))
    };
    let tree = match on {
        Spot::Root(at) | Spot::Stage(at) => {
            mount(at)?;
            open_host(at)?
        }
        Spot::Inside(target) => {
            let point = open_below(cx.root()?, target, libc::O_PATH | libc::O_DIRECTORY)?;
            // mount(2) takes a path: this one leads to what has been opened.
            mount(&Path::new("/proc/self/fd").join(point.as_raw_fd().to_string()))?;
            cx.forget_below(target);
            cx.open(target)?
        }
    };
    drop(layers);
    if let Some((soft, hard)) = limit {
        sys::setrlimit(names::NOFILE, soft, hard)?;
    }
    // The kernel does without a scratch directory that it cannot use.
    if let Some((_, work)) = &overlay.upper
        && nix::sys::statvfs::fstatvfs(&tree)?.flags().contains(FsFlags::ST_RDONLY)
    {
        let work = work.display();
        let detail = format!("nothing can be changed: the kernel cannot use `{work}`, and goes on");
        return Err(Failed::found(detail));
    }
    if flags.read_only {
        // Given to mount(2) it would be the file system's, not this mount's.
        let attr = MountAttr { set: sys::mount::ATTR_RDONLY, ..MountAttr::default() };
        sys::mount_setattr(tree.as_fd(), false, &attr)?;
    }
    if let Spot::Root(_) = on {
        cx.root = Some(tree);
    }
    Ok(())
}

/// Binds a device node of the host.
pub(super) fn bind_device(
    cx: &mut Context,
    source: &Path,
    target: &Path,
    number: DeviceNumber,
) -> Applied {
    let flags = crate::plan::devices::NODE_FLAGS;
    let tree = device_tree(source, number, flags)?;
    let on = cx.open(target)?;
    cx.mount(tree.as_fd(), on.as_fd(), target)
}

pub(super) fn bind_devices(cx: &mut Context, names: &[&str]) -> Applied {
    cx.reach_or_make(Path::new("/dev"))?;
    let dev = cx.directory()?;
    let flags = MountFlags { nosuid: true, noexec: true, ..MountFlags::NONE };
    for name in names {
        let tree = common_device(name, flags)?;
        // What is mounted on is the file that this call has made, in a file
        // system that nobody else has seen yet.
        let mode = Mode::from_bits_truncate(0o444);
        nix::sys::stat::mknodat(dev, *name, nix::sys::stat::SFlag::S_IFREG, mode, 0)?;
        sys::move_mount_at(tree.as_fd(), dev, OsStr::new(name))?;
    }
    Ok(())
}

/// A device node of the host, seen to be that device, to be mounted.
fn device_tree(path: &Path, number: DeviceNumber, flags: MountFlags) -> Applied<OwnedFd> {
    let tree = std::fs::File::from(sys::open_tree_clone_at(path)?);
    let metadata = tree.metadata()?;
    let kind = metadata.file_type();
    let is_kind = if number.block { kind.is_block_device() } else { kind.is_char_device() };
    let is_it = is_kind && metadata.rdev() == libc::makedev(number.major, number.minor);
    if !is_it {
        return Err(Failed::because(
            Errno::ENODEV,
            format!("the host's `{}` is not that device", path.display()),
        ));
    }
    sys::mount_setattr(tree.as_fd(), false, &attributes(flags, None))?;
    Ok(tree.into())
}

/// One of the devices that every jail has.
fn common_device(name: &str, flags: MountFlags) -> Applied<OwnedFd> {
    let known = crate::plan::root::DEVICES.iter().find(|(known, ..)| *known == name);
    let &(_, major, minor) = known.ok_or(Errno::ENODEV)?;
    let number = DeviceNumber { block: false, major, minor };
    device_tree(&Path::new("/dev").join(name), number, flags)
}

pub(super) fn mask(cx: &mut Context, target: &Path, kind: NodeKind) -> Applied {
    let flags = crate::plan::mounts::mask_flags(kind);
    let over = match kind {
        NodeKind::Directory => {
            let options = [("mode", "555"), ("size", "4k"), ("nr_inodes", "1")]
                .map(|(key, value)| FsOption { key, value: Some(value.to_owned()) });
            new_filesystem(c"tmpfs", "tmpfs", &options, flags)?
        }
        NodeKind::File => match &cx.cover {
            // A copy has the flags of what it is one of.
            Some(cover) => sys::open_tree_clone(cover.as_fd(), false)?,
            None => common_device("null", flags)?,
        },
    };
    cx.mount_at(over.as_fd(), kind, target)?;
    if kind == NodeKind::File && cx.cover.is_none() {
        // On a shared mount it has become shared itself, and so would be its copies.
        sys::mount_setattr(over.as_fd(), false, &propagation_only(Propagation::Private))?;
        cx.cover = Some(over);
    }
    Ok(())
}
