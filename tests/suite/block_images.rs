//! Disk images made by their own tools, on loop devices of the kernel.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jailrun::block_image::{
    FILESYSTEMS, Filesystem, ImageError, LoopDevice, attach, detect, expect,
};
use jailrun::sys;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::support::{USER, eventually, require_root, scratch};

/// An image with `file` and `noise` in it.
fn make(directory: &Path, filesystem: Filesystem) -> PathBuf {
    let tree = directory.join("tree");
    if !tree.exists() {
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("file"), "of the image").unwrap();
        let noise = (0..300_000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8);
        fs::write(tree.join("noise"), noise.collect::<Vec<u8>>()).unwrap();
    }
    let image = directory.join(filesystem.name());
    let mut command = match filesystem {
        Filesystem::Squashfs => {
            let mut command = Command::new("mksquashfs");
            command.arg(&tree).arg(&image).args(["-quiet", "-no-progress"]);
            command
        }
        Filesystem::Erofs => {
            let mut command = Command::new("mkfs.erofs");
            command.arg(&image).arg(&tree);
            command
        }
        Filesystem::Ext4 => ext(&image, &tree, "ext4"),
    };
    run(&mut command);
    image
}

fn ext(image: &Path, tree: &Path, kind: &str) -> Command {
    File::create(image).unwrap().set_len(4 << 20).unwrap();
    let mut command = Command::new(format!("mkfs.{kind}"));
    command.args(["-q", "-d"]).arg(tree).arg(image);
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// Loop devices that a file is behind.
fn devices(image: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for device in fs::read_dir("/sys/block").unwrap() {
        let device = device.unwrap().path();
        // A device that is free, or becomes so meanwhile, has no such file.
        let Ok(name) = fs::read_to_string(device.join("loop/backing_file")) else { continue };
        if Path::new(name.trim_end_matches('\n')) == image {
            found.push(device);
        }
    }
    found
}

fn assert_detached(image: &Path) {
    // The last user's mount is taken apart after its call has returned.
    eventually("the loop device is free again", || devices(image).is_empty());
}

/// A mount that is nowhere, and gone with its descriptor.
fn mounted(device: &LoopDevice, filesystem: Filesystem) -> Result<OwnedFd, Errno> {
    let name = std::ffi::CString::new(filesystem.name()).unwrap();
    let source = std::ffi::CString::new(device.path.to_str().unwrap()).unwrap();
    let fs = sys::fsopen(&name)?;
    sys::fsconfig_set(fs.as_fd(), c"source", Some(&source))?;
    sys::fsconfig_set(fs.as_fd(), c"ro", None)?;
    sys::fsconfig_create(fs.as_fd())?;
    sys::fsmount(fs.as_fd(), sys::mount::ATTR_RDONLY | sys::mount::ATTR_NODEV)
}

fn read(mount: &OwnedFd, name: &str) -> Vec<u8> {
    let file = sys::openat2(mount.as_fd(), Path::new(name), libc::O_RDONLY, 0).unwrap();
    std::io::read_to_string(File::from(file)).map(String::into_bytes).unwrap()
}

#[test]
fn each_file_system_is_found_and_mounted() {
    require_root();
    let directory = scratch();
    for filesystem in FILESYSTEMS {
        let path = make(directory.path(), filesystem);
        let file = File::open(&path).unwrap();
        let image = detect(&file, 0).unwrap();
        assert_eq!(image.filesystem, filesystem);
        assert!(image.size <= fs::metadata(&path).unwrap().len());
        let device = attach(file.as_fd(), 0, Some(image.size)).unwrap();
        assert_eq!(devices(&path), [PathBuf::from(format!("/sys/block/loop{}", device.number))]);
        assert_eq!(device.path, Path::new(&format!("/dev/loop{}", device.number)));
        let attribute = |name: &str| {
            let path = format!("/sys/block/loop{}/{name}", device.number);
            fs::read_to_string(path).unwrap().trim().to_owned()
        };
        assert_eq!(attribute("ro"), "1");
        assert_eq!(attribute("loop/autoclear"), "1");
        assert_eq!(attribute("queue/logical_block_size"), "512");
        assert_eq!(attribute("size"), (image.size / 512).to_string());

        let mount = mounted(&device, filesystem).unwrap();
        // From here on the mount keeps the device.
        drop((device, file));
        assert_eq!(read(&mount, "file"), b"of the image");
        assert_eq!(devices(&path).len(), 1);
        drop(mount);
        assert_detached(&path);
    }
}

#[test]
fn an_image_within_a_file_is_mounted_from_its_offset() {
    require_root();
    let directory = scratch();
    for filesystem in FILESYSTEMS {
        for offset in [512, 1 << 20] {
            let path = directory.path().join("disk");
            let mut disk = vec![0xee; offset];
            let image = fs::read(make(directory.path(), filesystem)).unwrap();
            disk.extend(&image);
            disk.extend([0xee; 5000]);
            fs::write(&path, disk).unwrap();
            let file = File::open(&path).unwrap();
            let offset = offset as u64;
            let image = detect(&file, offset).unwrap();
            assert_eq!(image.filesystem, filesystem);
            assert!(matches!(detect(&file, 0), Err(ImageError::Other(_))));
            let device = attach(file.as_fd(), offset, Some(image.size)).unwrap();
            let mount = mounted(&device, filesystem).unwrap();
            assert_eq!(read(&mount, "file"), b"of the image");
            drop((device, mount));
            assert_detached(&path);
        }
    }
}

#[test]
fn the_older_ext_file_systems_are_mounted_as_ext4() {
    require_root();
    let directory = scratch();
    make(directory.path(), Filesystem::Squashfs);
    for kind in ["ext2", "ext3"] {
        let path = directory.path().join(kind);
        run(&mut ext(&path, &directory.path().join("tree"), kind));
        let file = File::open(&path).unwrap();
        let image = detect(&file, 0).unwrap();
        assert_eq!(image.filesystem, Filesystem::Ext4);
        let device = attach(file.as_fd(), 0, Some(image.size)).unwrap();
        let mount = mounted(&device, image.filesystem).unwrap();
        assert_eq!(read(&mount, "file"), b"of the image");
        drop((device, mount));
        assert_detached(&path);
    }
}

#[test]
fn a_device_cannot_be_written_to() {
    require_root();
    let directory = scratch();
    let path = make(directory.path(), Filesystem::Ext4);
    let before = fs::read(&path).unwrap();
    let file = File::open(&path).unwrap();
    let device = attach(file.as_fd(), 0, None).unwrap();
    let writing = File::options().write(true).open(&device.path);
    let written = writing.and_then(|mut device| device.write_all(&[0; 512]));
    assert!(written.is_err());
    drop(device);
    assert_detached(&path);
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_truncated_image_is_refused_before_the_kernel_sees_it() {
    let directory = scratch();
    for filesystem in FILESYSTEMS {
        let path = make(directory.path(), filesystem);
        let whole = detect(&File::open(&path).unwrap(), 0).unwrap().size;
        // Up to a block of 1024 bytes of a squashfs is padding.
        for length in [whole - 1024, whole / 2, 4096] {
            File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
            let error = detect(&File::open(&path).unwrap(), 0).unwrap_err();
            let ImageError::Truncated { needed, found, .. } = error else {
                panic!("{filesystem:?}: {error:?}")
            };
            assert_eq!((needed.next_multiple_of(1024), found), (whole, length));
            let expected = format!(
                "truncated: its {} takes {needed} bytes, {length} are there",
                filesystem.name()
            );
            assert_eq!(error.to_string(), expected);
        }
        // Not even its superblock is left.
        File::options().write(true).open(&path).unwrap().set_len(20).unwrap();
        let error = detect(&File::open(&path).unwrap(), 0).unwrap_err();
        assert!(matches!(error, ImageError::Other(_)), "{error:?}");
    }
}

#[test]
fn an_image_without_padding_is_refused_until_it_is_padded() {
    require_root();
    let directory = scratch();
    make(directory.path(), Filesystem::Erofs);
    let path = directory.path().join("unpadded");
    let mut command = Command::new("mksquashfs");
    command.arg(directory.path().join("tree")).arg(&path);
    run(command.args(["-quiet", "-no-progress", "-nopad"]));
    let error = detect(&File::open(&path).unwrap(), 0).unwrap_err();
    let ImageError::Unpadded { missing, .. } = error else { panic!("{error:?}") };
    // The kernel agrees that this cannot be mounted.
    let file = File::open(&path).unwrap();
    let device = attach(file.as_fd(), 0, None).unwrap();
    assert!(mounted(&device, Filesystem::Squashfs).is_err());
    drop(device);
    let mut file = File::options().append(true).open(&path).unwrap();
    file.write_all(&vec![0; usize::try_from(missing).unwrap()]).unwrap();
    let file = File::open(&path).unwrap();
    let image = detect(&file, 0).unwrap();
    let device = attach(file.as_fd(), 0, Some(image.size)).unwrap();
    let mount = mounted(&device, image.filesystem).unwrap();
    assert_eq!(read(&mount, "file"), b"of the image");
    drop((device, mount));
    assert_detached(&path);
}

#[test]
fn garbage_and_other_things_are_refused_by_name() {
    require_root();
    let directory = scratch();
    let refused = |file: &File| detect(file, 0).unwrap_err().to_string();
    let path = directory.path().join("x");
    let write = |content: &[u8]| {
        fs::write(&path, content).unwrap();
        File::open(&path).unwrap()
    };
    let expected = "expected squashfs, erofs or ext4";
    assert_eq!(refused(&write(b"")), format!("found nothing at the offset, {expected}"));
    assert_eq!(refused(&write(&[7; 9000])), format!("found no mark of a file system, {expected}"));
    fs::remove_file(&path).unwrap();
    run(Command::new("tar").arg("-cf").arg(&path).args(["-C", "/etc", "passwd"]));
    assert_eq!(refused(&File::open(&path).unwrap()), format!("found a tar archive, {expected}"));

    let not_regular = "an image must be a regular file";
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Opened for both, a FIFO waits for nobody.
    let fifo = File::options().read(true).write(true).open(fifo).unwrap();
    for file in [fifo, File::open(directory.path()).unwrap(), File::open("/dev/null").unwrap()] {
        assert_eq!(refused(&file), not_regular);
        assert_eq!(attach(file.as_fd(), 0, None).unwrap_err().to_string(), not_regular);
    }
    let writable = File::options().read(true).write(true).open(&path).unwrap();
    assert_eq!(attach(writable.as_fd(), 0, None).unwrap_err(), ImageError::NotReadOnly);
    let empty = attach(File::open(&path).unwrap().as_fd(), 0, Some(0)).unwrap_err();
    assert!(matches!(empty, ImageError::Failed { errno: Errno::EINVAL, .. }));
}

#[test]
fn an_image_formatted_twice_is_mounted_as_what_is_named() {
    require_root();
    let directory = scratch();
    let path = make(directory.path(), Filesystem::Ext4);
    // The first kilobyte is the boot loader's, and keeps what was there.
    let squashfs = fs::read(make(directory.path(), Filesystem::Squashfs)).unwrap();
    File::options().write(true).open(&path).unwrap().write_all_at(&squashfs[..96], 0).unwrap();
    let file = File::open(&path).unwrap();
    let error = detect(&file, 0).unwrap_err();
    assert_eq!(error, ImageError::Ambiguous(Filesystem::Squashfs, Filesystem::Ext4));
    let image = expect(&file, 0, Filesystem::Ext4).unwrap();
    let device = attach(file.as_fd(), 0, Some(image.size)).unwrap();
    let mount = mounted(&device, image.filesystem).unwrap();
    assert_eq!(read(&mount, "file"), b"of the image");
    drop((device, mount));
    assert_detached(&path);
}

#[test]
fn an_unclean_journal_is_refused_until_it_is_repaired() {
    require_root();
    let directory = scratch();
    let path = make(directory.path(), Filesystem::Ext4);
    // A copy of the image while it is mounted is one that was never unmounted.
    let copy = directory.path().join("copy");
    let script = format!(
        "mount -o loop {0} {1} && echo >{1}/written && sync && cp {0} {2} && umount {1}",
        path.display(),
        directory.path().join("tree").display(),
        copy.display(),
    );
    run(Command::new("unshare").args(["--mount", "sh", "-ec", &script]));
    assert_eq!(detect(&File::open(&copy).unwrap(), 0).unwrap_err(), ImageError::Unclean);
    run(Command::new("sh").args(["-c", "e2fsck -p \"$0\" || [ $? = 1 ]"]).arg(&copy));
    detect(&File::open(&copy).unwrap(), 0).unwrap();
    assert_detached(&path);
}

#[test]
fn many_at_once_get_a_device_each() {
    require_root();
    let directory = scratch();
    let path = make(directory.path(), Filesystem::Squashfs);
    let file = File::open(&path).unwrap();
    // What each takes the others see as free a moment before, many times over.
    let attach = || attach(file.as_fd(), 0, None).unwrap();
    let attach_often = || {
        (0..20).for_each(|_| drop(attach()));
        attach()
    };
    let attached: Vec<LoopDevice> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(attach_often)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let numbers: BTreeSet<u32> = attached.iter().map(|device| device.number).collect();
    assert_eq!(numbers.len(), 8);
    // One that another has just let go is taken apart after that.
    eventually("there is a device for each, and no more", || devices(&path).len() == 8);
    drop(attached);
    assert_detached(&path);
}

#[test]
fn an_ordinary_user_is_told_that_it_needs_root() {
    require_root();
    let directory = scratch();
    let file = File::open(make(directory.path(), Filesystem::Squashfs)).unwrap();
    let thread = std::thread::spawn(move || {
        sys::set_ids(USER, USER, Some(&[])).unwrap();
        attach(file.as_fd(), 0, None).unwrap_err().to_string()
    });
    assert_eq!(
        thread.join().unwrap(),
        "open of `/dev/loop-control` failed: EACCES: Permission denied; loop devices need root"
    );
}

const HELD: &str = "JAILRUN_TEST_HELD_IMAGE";
const STAGE: &str = "JAILRUN_TEST_HELD_STAGE";

/// Holds a loop device until it is killed.
fn hold(path: PathBuf) {
    let target = path.with_file_name("target");
    let file = File::open(path).unwrap();
    let device = attach(file.as_fd(), 0, None).unwrap();
    let kept = if std::env::var(STAGE).unwrap() == "mounted" {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&Path>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some(&device.path), &target, Some("squashfs"), flags, none).unwrap();
        assert_eq!(fs::read_to_string(target.join("file")).unwrap(), "of the image");
        drop(device);
        None
    } else {
        Some(device)
    };
    println!("held");
    loop {
        std::thread::park();
        assert!(kept.as_ref().is_none_or(|device| device.number < u32::MAX));
    }
}

#[test]
fn a_killed_process_leaves_no_device() {
    require_root();
    // This test is the process that is killed, too.
    if let Some(path) = std::env::var_os(HELD) {
        hold(path.into());
    }
    let directory = scratch();
    let path = make(directory.path(), Filesystem::Squashfs);
    fs::create_dir(directory.path().join("target")).unwrap();
    for stage in ["attached", "mounted"] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "block_images::a_killed_process_leaves_no_device", "--nocapture"])
            .env(HELD, &path)
            .env(STAGE, stage)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let held = output.lines().map_while(Result::ok).any(|line| line.contains("held"));
        let while_held = devices(&path).len();
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert!(held, "{stage}: the other process has failed");
        assert_eq!((status.signal(), while_held), (Some(9), 1), "{stage}");
        assert_detached(&path);
    }
}
