//! Trees: copies compared with those of `cp -a`, hostile sources, removal.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use jailrun::sys;
use jailrun::tree::{self, Mounts, Options, Owners, Summary, TreeError};
use nix::errno::Errno;
use nix::fcntl::{OFlag, RenameFlags, openat, renameat2};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknod};
use nix::unistd::Whence;

use crate::support::{USER, require_root, scratch};

/// A tmpfs that is mounted nowhere and gone with its descriptor.
fn tmpfs(options: &[(&std::ffi::CStr, &std::ffi::CStr)]) -> OwnedFd {
    let fs = sys::fsopen(c"tmpfs").unwrap();
    for (key, value) in options {
        sys::fsconfig_set(fs.as_fd(), key, Some(value)).unwrap();
    }
    sys::fsconfig_create(fs.as_fd()).unwrap();
    sys::fsmount(fs.as_fd(), 0).unwrap()
}

/// A path to a descriptor's directory that other processes can use as well.
fn path_of(fd: impl AsFd) -> PathBuf {
    format!("/proc/{}/fd/{}/", std::process::id(), fd.as_fd().as_raw_fd()).into()
}

fn run(program: &str, arguments: &[&dyn AsRef<OsStr>]) {
    let mut command = Command::new(program);
    command.args(arguments.iter().map(|argument| argument.as_ref()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

fn copy(from: impl AsRef<Path>, to: impl AsFd) -> Result<Summary, TreeError> {
    copy_with(from, to, Options::default())
}

fn copy_with(
    from: impl AsRef<Path>,
    to: impl AsFd,
    options: Options,
) -> Result<Summary, TreeError> {
    tree::copy(File::open(from).unwrap().as_fd(), to.as_fd(), &options)
}

/// Where a file's data lies.
fn extents(file: &File) -> Vec<(i64, i64)> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Ok(start) = nix::unistd::lseek(file, at, Whence::SeekData) {
        at = nix::unistd::lseek(file, start, Whence::SeekHole).unwrap();
        found.push((start, at));
    }
    found
}

/// Everything that can be asked of a tree but its top, as sorted lines.
fn listing(top: &Path) -> Vec<String> {
    fn walk(top: &Path, below: &Path, found: &mut Vec<(PathBuf, fs::Metadata)>) {
        for entry in fs::read_dir(top.join(below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            let metadata = fs::symlink_metadata(top.join(&path)).unwrap();
            let is_directory = metadata.is_dir();
            found.push((path.clone(), metadata));
            if is_directory {
                walk(top, &path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(top, Path::new(""), &mut found);
    found.sort_by(|one, other| one.0.cmp(&other.0));
    let mut first = BTreeMap::new();
    let mut lines = Vec::new();
    for (path, metadata) in &found {
        let name = first.entry(metadata.ino()).or_insert(path);
        let content = if metadata.is_file() {
            let file = File::open(top.join(path)).unwrap();
            let content = fs::read(top.join(path)).unwrap();
            let sum = content
                .iter()
                .fold(0_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            format!("{} {sum:x} {:?}", metadata.len(), extents(&file))
        } else if metadata.is_symlink() {
            format!("{:?}", fs::read_link(top.join(path)).unwrap())
        } else {
            String::new()
        };
        lines.push(format!(
            "{path:?} is {name:?} mode {:o} owner {}:{} links {} device {:x} \
             accessed {}.{} modified {}.{}: {content}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            if metadata.is_dir() { 0 } else { metadata.nlink() },
            metadata.rdev(),
            metadata.atime(),
            metadata.atime_nsec(),
            metadata.mtime(),
            metadata.mtime_nsec(),
        ));
    }
    lines.extend(attributes(top));
    lines
}

/// Extended attributes of all but the top, as getfattr(1) tells them.
fn attributes(top: &Path) -> Vec<String> {
    let output = Command::new("getfattr")
        .args([
            "--recursive",
            "--physical",
            "--no-dereference",
            "--dump",
            "--match=-",
            "--encoding=hex",
            ".",
        ])
        .current_dir(top)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let mut blocks: Vec<String> = text
        .split("\n\n")
        .filter(|block| !block.starts_with("# file: .\n") && !block.is_empty())
        .map(str::to_owned)
        .collect();
    blocks.sort_unstable();
    blocks
}

/// A tree with one of everything.
fn make_everything(top: &Path) {
    let write = |name: &str, content: &[u8]| fs::write(top.join(name), content).unwrap();
    for name in ["plain", "plain/sub", "sticky", "closed", "acl", "acl/sub", "links"] {
        fs::create_dir(top.join(name)).unwrap();
    }
    write("empty", b"");
    write("one", b"1");
    write("plain/page", &[7; 4096]);
    let long: Vec<u8> = (0..1_000_003_u32).map(|number| (number % 251) as u8).collect();
    write("plain/sub/long", &long);
    for (name, data, size) in [
        ("sparse-middle", &[5 << 20][..], 10 << 20),
        ("sparse-both", &[0, 3 << 20, (8 << 20) - 4][..], 8 << 20),
        ("sparse-all", &[][..], 3 << 20),
    ] {
        let file = File::create(top.join(name)).unwrap();
        file.set_len(size).unwrap();
        for at in data {
            file.write_all_at(b"data", *at).unwrap();
        }
    }
    // Groups of hard links: of a file, of a symbolic link, of a FIFO.
    write("links/a", b"linked");
    symlink("nowhere", top.join("links/symlink")).unwrap();
    nix::unistd::mkfifo(&top.join("links/fifo"), Mode::S_IRWXU).unwrap();
    for (one, other) in [
        ("links/a", "links/b"),
        ("links/a", "plain/sub/c"),
        ("links/symlink", "plain/symlink"),
        ("links/fifo", "fifo"),
    ] {
        fs::hard_link(top.join(one), top.join(other)).unwrap();
    }
    symlink("/etc/passwd", top.join("absolute")).unwrap();
    symlink("x".repeat(4000), top.join("long-link")).unwrap();
    symlink("plain", top.join("to-directory")).unwrap();
    for (name, kind, major, minor) in [
        ("null", SFlag::S_IFCHR, 1, 3),
        ("loop", SFlag::S_IFBLK, 7, 200),
        ("whiteout", SFlag::S_IFCHR, 0, 0),
    ] {
        mknod(&top.join(name), kind, Mode::S_IRWXU, libc::makedev(major, minor)).unwrap();
    }
    for name in
        [&b"new\nline"[..], b"\xff\xfe not text", b" space ", b"back\\slash", b"-rf", &[b'n'; 255]]
    {
        fs::write(top.join(OsStr::from_bytes(name)), name).unwrap();
    }
    let mut deep = top.join("deep");
    fs::create_dir(&deep).unwrap();
    for _ in 0..1000 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    fs::write(deep.join("bottom"), "bottom").unwrap();

    for (name, uid, gid) in
        [("one", 1000, 1001), ("plain", 12, 0), ("absolute", 5, 6), ("fifo", 7, 8), ("null", 9, 10)]
    {
        lchown(top.join(name), Some(uid), Some(gid)).unwrap();
    }
    for (name, mode) in [
        ("one", 0o4755),
        ("empty", 0o000),
        ("plain", 0o2775),
        ("plain/page", 0o2711),
        ("sticky", 0o1777),
        ("closed", 0o500),
        ("null", 0o666),
        ("fifo", 0o604),
    ] {
        fs::set_permissions(top.join(name), Permissions::from_mode(mode)).unwrap();
    }
    let path = |name: &str| top.join(name);
    run("setfattr", &[&"-n", &"user.colour", &"-v", &"red", &path("one")]);
    run("setfattr", &[&"-n", &"user.colour", &"-v", &"blue", &path("plain")]);
    run("setfattr", &[&"-n", &"user.none", &path("closed")]);
    run("setfattr", &[&"-n", &"trusted.mark", &"-v", &"1", &path("plain/sub/long")]);
    run("setfattr", &[&"-h", &"-n", &"trusted.mark", &"-v", &"2", &path("absolute")]);
    run("setfattr", &[&"-h", &"-n", &"trusted.mark", &"-v", &"3", &path("null")]);
    run("setfacl", &[&"-m", &"u:33:rw,g:44:r", &path("plain/page")]);
    run("setfacl", &[&"-d", &"-m", &"u:33:rwx", &path("acl")]);
    // What is made below has an ACL by inheritance; its sibling made above not.
    write("acl/inherited", b"");
    run("setcap", &[&"cap_net_raw,cap_chown+ep", &path("plain/sub/long")]);
    run("setcap", &[&"cap_net_raw+ep", &path("plain/page")]);
    set_times(top);
}

/// Gives everything below times of its own, the innermost first. It was
/// accessed after this change, or reading would set another time of access.
fn set_times(top: &Path) {
    let mut paths = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
            paths.push(entry.path());
        }
    }
    let accessed = SystemTime::now() + Duration::from_secs(3600);
    for (number, path) in paths.iter().rev().enumerate() {
        let number = number as u32;
        let file = openat(
            nix::fcntl::AT_FDCWD,
            path,
            OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        let accessed = accessed.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let time = |seconds, nanoseconds| libc::timespec { tv_sec: seconds, tv_nsec: nanoseconds };
        // Some lie before 1970.
        let modified = time(i64::from(number) * 1_000_000 - 5_000_000, 123_456_789);
        let accessed = time(accessed.as_secs() as i64, i64::from(number));
        sys::set_times(file.as_fd(), [accessed, modified]).unwrap();
    }
}

/// What differs, so that a failure can be read.
fn assert_equal(found: &[String], expected: &[String]) {
    let short = |line: &String| line.chars().take(300).collect::<String>();
    let without = |one: &[String], other: &[String]| -> Vec<String> {
        one.iter().filter(|line| !other.contains(line)).map(short).take(20).collect()
    };
    let (lacking, excess) = (without(expected, found), without(found, expected));
    assert!(lacking.is_empty() && excess.is_empty(), "lacking {lacking:#?}\nexcess {excess:#?}");
}

#[test]
fn a_copy_equals_that_of_cp() {
    require_root();
    let source = scratch();
    make_everything(source.path());
    let with_cp = tmpfs(&[]);
    run("cp", &[&"-a", &source.path().join("."), &path_of(&with_cp)]);
    let with_copy = tmpfs(&[]);
    let summary = copy(source.path(), &with_copy).unwrap();

    let expected = listing(source.path());
    // The maker has not forgotten anything.
    for wanted in ["security.capability", "system.posix_acl_default", "trusted.mark", "user.none"] {
        assert!(expected.iter().any(|line| line.contains(wanted)), "{wanted}");
    }
    assert_equal(&listing(&path_of(&with_cp)), &expected);
    assert_equal(&listing(&path_of(&with_copy)), &expected);
    assert_eq!(summary.hard_links, 4);
    assert_eq!(summary.directories, 7 + 1001);
    assert_eq!(summary.nodes, 4);
    assert_eq!((summary.sockets, summary.foreign_owners, summary.privileges_dropped), (0, 0, 0));
    let sparse: u64 = 10 << 20;
    assert!(summary.bytes > 1_000_003 && summary.bytes < sparse / 2, "{summary:?}");
}

#[test]
fn a_copy_on_the_same_file_system_equals_its_source() {
    require_root();
    let (source, target) = (scratch(), scratch());
    make_everything(source.path());
    copy(source.path(), File::open(target.path()).unwrap()).unwrap();
    assert_equal(&listing(target.path()), &listing(source.path()));
}

#[test]
fn files_whose_size_is_not_known_are_copied() {
    let target = tmpfs(&[]);
    copy("/proc/sys/kernel/random", &target).unwrap();
    let path = path_of(&target);
    let boot_id = fs::read("/proc/sys/kernel/random/boot_id").unwrap();
    assert_eq!(fs::read(path.join("boot_id")).unwrap(), boot_id);
    // A page long, says sysfs.
    let target = tmpfs(&[]);
    copy("/sys/kernel/mm/transparent_hugepage", &target).unwrap();
    let enabled = fs::read("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
    assert_eq!(fs::read(path_of(&target).join("enabled")).unwrap(), enabled);
}

#[test]
fn sockets_are_left_out_and_counted() {
    let source = scratch();
    let _socket = std::os::unix::net::UnixListener::bind(source.path().join("socket")).unwrap();
    fs::write(source.path().join("file"), "x").unwrap();
    let target = tmpfs(&[]);
    let summary = copy(source.path(), &target).unwrap();
    let expected = Summary { files: 1, sockets: 1, bytes: 1, ..Summary::default() };
    assert_eq!(summary, expected);
    assert!(!path_of(&target).join("socket").exists());
}

#[test]
fn directories_are_merged_and_anything_else_is_in_the_way() {
    require_root();
    let (one, two) = (scratch(), scratch());
    fs::create_dir_all(one.path().join("etc/both")).unwrap();
    fs::write(one.path().join("etc/one"), "1").unwrap();
    fs::create_dir_all(two.path().join("etc/both")).unwrap();
    fs::write(two.path().join("etc/two"), "2").unwrap();
    fs::write(two.path().join("etc/both/two"), "2").unwrap();
    fs::set_permissions(two.path().join("etc"), Permissions::from_mode(0o710)).unwrap();
    // Nothing of the first copy's ACL reaches what the second puts there.
    run("setfacl", &[&"-d", &"-m", &"u:33:rwx", &one.path().join("etc")]);
    let target = tmpfs(&[]);
    copy(one.path(), &target).unwrap();
    copy(two.path(), &target).unwrap();
    let path = path_of(&target);
    assert_eq!(fs::read_to_string(path.join("etc/one")).unwrap(), "1");
    assert_eq!(fs::read_to_string(path.join("etc/both/two")).unwrap(), "2");
    assert_eq!(fs::metadata(path.join("etc")).unwrap().mode() & 0o7777, 0o710);
    assert_eq!(attributes(&path), Vec::<String>::new());

    let again = copy(two.path(), &target).unwrap_err();
    assert_eq!(again.errno, Errno::EEXIST);
    assert!(again.to_string().contains("only a directory is merged"), "{again}");
    // Each kind of entry in the way of each, a link to a directory included.
    type Make = fn(&Path);
    let kinds: [Make; 4] = [
        |path| fs::write(path, "").unwrap(),
        |path| symlink("/tmp", path).unwrap(),
        |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap(),
        |path| fs::create_dir(path).unwrap(),
    ];
    for (number, make) in kinds.iter().enumerate() {
        for (other_number, make_other) in kinds.iter().enumerate() {
            let (from, to) = (scratch(), scratch());
            make(&from.path().join("x"));
            make_other(&to.path().join("x"));
            let before = fs::symlink_metadata(to.path().join("x")).unwrap().ino();
            let copied = copy(from.path(), File::open(to.path()).unwrap());
            if number == 3 && other_number == 3 {
                copied.unwrap();
            } else {
                let error = copied.unwrap_err();
                assert_eq!((error.errno, error.path), (Errno::EEXIST, "x".into()));
            }
            assert_eq!(fs::symlink_metadata(to.path().join("x")).unwrap().ino(), before);
        }
    }
}

#[test]
fn a_top_with_an_acl_gives_it_to_nothing() {
    let (source, target) = (scratch(), scratch());
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/f"), "").unwrap();
    fs::write(source.path().join("f"), "").unwrap();
    run("setfacl", &[&"-d", &"-m", &"u:33:rwx", &target.path()]);
    copy(source.path(), File::open(target.path()).unwrap()).unwrap();
    assert_eq!(attributes(target.path()), Vec::<String>::new());
}

#[test]
fn a_full_target_is_an_error_that_says_so() {
    let source = scratch();
    fs::create_dir(source.path().join("d")).unwrap();
    fs::write(source.path().join("d/big"), vec![1; 1 << 20]).unwrap();
    for option in [(c"size", c"64k"), (c"nr_inodes", c"2")] {
        let error = copy(source.path(), tmpfs(&[option])).unwrap_err();
        assert_eq!((error.errno, &*error.path), (Errno::ENOSPC, Path::new("d/big")));
        assert!(error.to_string().contains("a tmpfs its size or inodes are too few"), "{error}");
    }
}

/// Runs something in a thread that has become an ordinary user's.
fn as_user<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        // These calls change the calling thread alone.
        sys::set_ids(USER, USER, Some(&[])).unwrap();
        run()
    });
    thread.join().unwrap()
}

#[test]
fn an_ordinary_user_owns_the_copy_without_foreign_privileges() {
    require_root();
    let source = scratch();
    let path = source.path().to_owned();
    for (name, uid, mode) in [
        ("foreign", 0, 0o4755),
        ("group", 0, 0o2755),
        ("own", USER, 0o6755),
        ("capable", 0, 0o755),
        ("plain", USER, 0o644),
    ] {
        let file = path.join(name);
        fs::write(&file, name).unwrap();
        lchown(&file, Some(uid), Some(if uid == 0 { 12 } else { USER })).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
    }
    run("setcap", &[&"cap_net_raw+ep", &path.join("capable")]);
    let target = scratch();
    lchown(target.path(), Some(USER), Some(USER)).unwrap();
    let to = File::open(target.path()).unwrap();
    let (from, keep) = (path.clone(), to.try_clone().unwrap());
    let refused = as_user(move || copy(from, keep)).unwrap_err();
    assert_eq!((refused.call, refused.errno), ("fchownat", Errno::EPERM));
    for entry in fs::read_dir(target.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }

    let options = Options { owners: Owners::Caller, ..Options::default() };
    let summary = as_user(move || copy_with(path, to, options)).unwrap();
    assert_eq!((summary.foreign_owners, summary.privileges_dropped), (3, 3));
    let look = |name: &str| fs::metadata(target.path().join(name)).unwrap();
    for (name, mode) in [
        ("foreign", 0o755),
        ("group", 0o755),
        ("own", 0o6755),
        ("capable", 0o755),
        ("plain", 0o644),
    ] {
        assert_eq!((look(name).uid(), look(name).gid()), (USER, USER), "{name}");
        assert_eq!(look(name).mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(attributes(target.path()), Vec::<String>::new());
}

#[test]
fn an_ordinary_user_is_told_what_cannot_be_kept() {
    require_root();
    let source = scratch();
    mknod(&source.path().join("null"), SFlag::S_IFCHR, Mode::S_IRWXU, libc::makedev(1, 3)).unwrap();
    let target = scratch();
    lchown(target.path(), Some(USER), Some(USER)).unwrap();
    let (path, to) = (source.path().to_owned(), File::open(target.path()).unwrap());
    let options = Options { owners: Owners::Caller, ..Options::default() };
    let error = as_user(move || copy_with(path, to, options)).unwrap_err();
    assert_eq!((error.call, error.errno), ("mknodat", Errno::EPERM));
    assert_eq!(error.path, Path::new("null"));

    fs::remove_file(source.path().join("null")).unwrap();
    fs::write(source.path().join("closed"), "").unwrap();
    fs::set_permissions(source.path().join("closed"), Permissions::from_mode(0o600)).unwrap();
    let (path, to) = (source.path().to_owned(), File::open(target.path()).unwrap());
    let error = as_user(move || copy_with(path, to, options)).unwrap_err();
    assert_eq!((error.errno, &*error.path), (Errno::EACCES, Path::new("closed")));
}

/// Runs something in a thread with mounts of its own.
fn with_own_mounts<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&Path>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        run()
    });
    thread.join().unwrap()
}

/// A source with a tmpfs, a bind of its own file system and a bound file.
fn mount_in(source: &Path) {
    let none = None::<&Path>;
    for name in ["tmpfs", "bind", "elsewhere"] {
        fs::create_dir(source.join(name)).unwrap();
    }
    fs::write(source.join("elsewhere/file"), "elsewhere").unwrap();
    fs::write(source.join("file"), "").unwrap();
    mount(Some("none"), &source.join("tmpfs"), Some("tmpfs"), MsFlags::empty(), Some("mode=1750"))
        .unwrap();
    fs::write(source.join("tmpfs/inside"), "mounted").unwrap();
    let bind = MsFlags::MS_BIND;
    mount(Some(&source.join("elsewhere")), &source.join("bind"), none, bind, none).unwrap();
    mount(Some(&source.join("elsewhere/file")), &source.join("file"), none, bind, none).unwrap();
}

#[test]
fn mounts_are_crossed_or_left_empty() {
    require_root();
    let source = scratch();
    let path = source.path().to_owned();
    with_own_mounts(move || {
        mount_in(&path);
        let target = tmpfs(&[]);
        copy(&path, &target).unwrap();
        let to = path_of(&target);
        for (name, content) in
            [("tmpfs/inside", "mounted"), ("bind/file", "elsewhere"), ("file", "elsewhere")]
        {
            assert_eq!(fs::read_to_string(to.join(name)).unwrap(), content);
        }

        let target = tmpfs(&[]);
        let options = Options { mounts: Mounts::Stay, ..Options::default() };
        assert_eq!(copy_with(&path, &target, options).unwrap().mount_points, 3);
        let to = path_of(&target);
        assert_eq!(fs::metadata(to.join("tmpfs")).unwrap().mode() & 0o7777, 0o1750);
        assert_eq!(fs::read_dir(to.join("tmpfs")).unwrap().count(), 0);
        assert_eq!(fs::read_dir(to.join("bind")).unwrap().count(), 0);
        assert_eq!(fs::metadata(to.join("file")).unwrap().len(), 0);
        assert_eq!(fs::read_to_string(to.join("elsewhere/file")).unwrap(), "elsewhere");
    });
}

#[test]
fn nothing_below_a_mount_point_is_removed() {
    require_root();
    let source = scratch();
    let path = source.path().to_owned();
    with_own_mounts(move || {
        mount_in(&path);
        fs::remove_dir_all(path.join("nothing")).unwrap_err();
        let (name, parent) = (path.file_name().unwrap(), path.parent().unwrap());
        let error = tree::remove(File::open(parent).unwrap().as_fd(), name).unwrap_err();
        // Which of the three is met first depends on the order of names.
        assert!(matches!(error.errno, Errno::EXDEV | Errno::EBUSY), "{error}");
        assert!(path.join("tmpfs/inside").exists());
        let error = tree::remove(File::open(&path).unwrap().as_fd(), OsStr::new("bind"));
        assert_eq!(error.unwrap_err().errno, Errno::EXDEV);
        let error = tree::remove(File::open(&path).unwrap().as_fd(), OsStr::new("tmpfs"));
        assert_eq!(error.unwrap_err().errno, Errno::EXDEV);
        assert!(path.join("tmpfs/inside").exists());
    });
}

#[test]
fn a_source_that_holds_its_target_is_refused() {
    let source = scratch();
    fs::create_dir_all(source.path().join("a/target")).unwrap();
    for target in ["", "a", "a/target"] {
        let error = copy(source.path(), File::open(source.path().join(target)).unwrap());
        let error = error.unwrap_err();
        assert_eq!((error.errno, &*error.path), (Errno::ELOOP, Path::new(target)));
    }
}

#[test]
fn ten_thousand_directories_deep() {
    const DEPTH: usize = 10_000;
    let (top, to) = (tmpfs(&[]), tmpfs(&[]));
    let open = |at: &OwnedFd, name: &str| {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        openat(at, name, flags, Mode::empty())
    };
    let mut at = open(&top, ".").unwrap();
    for _ in 0..DEPTH {
        mkdirat(&at, "d", Mode::S_IRWXU).unwrap();
        at = open(&at, "d").unwrap();
    }
    // Two names of one file, at both ends: no path reaches the lower one.
    fs::write(path_of(&top).join("top"), "deep").unwrap();
    let follow = nix::fcntl::AtFlags::empty();
    nix::unistd::linkat(&top, "top", &at, "bottom", follow).unwrap();

    let summary = tree::copy(top.as_fd(), to.as_fd(), &Options::default());
    let mut found = 0;
    let mut at = open(&to, ".").unwrap();
    while let Ok(next) = open(&at, "d") {
        at = next;
        found += 1;
    }
    let links = nix::sys::stat::fstatat(&at, "bottom", nix::fcntl::AtFlags::empty());
    tree::remove(to.as_fd(), OsStr::new("d")).unwrap();
    let summary = summary.unwrap();
    assert_eq!((summary.directories, summary.files, summary.hard_links), (DEPTH as u64, 1, 1));
    assert_eq!(found, DEPTH);
    assert_eq!(links.unwrap().st_nlink, 2);
    assert_eq!(fs::read_to_string(path_of(&to).join("top")).unwrap(), "deep");
    assert!(!path_of(&to).join("d").exists());
}

/// Exchanges two entries without end while something else is done.
fn while_exchanged(one: &Path, other: &Path, run: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let at = nix::fcntl::AT_FDCWD;
                renameat2(at, one, at, other, RenameFlags::RENAME_EXCHANGE).unwrap();
            }
        });
        // A panic must stop the other thread too, or the scope never ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        stop.store(true, Ordering::Relaxed);
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn a_directory_exchanged_with_a_link_leads_nowhere() {
    const SECRET: &str = "never to be copied";
    let (source, outside) = (scratch(), scratch());
    fs::create_dir(outside.path().join("sub")).unwrap();
    fs::write(outside.path().join("sub/file"), SECRET).unwrap();
    fs::write(outside.path().join("file"), SECRET).unwrap();
    let path = source.path();
    fs::create_dir_all(path.join("directory/sub")).unwrap();
    fs::write(path.join("directory/file"), "own").unwrap();
    fs::write(path.join("directory/sub/file"), "own").unwrap();
    symlink(outside.path(), path.join("link")).unwrap();
    fs::write(path.join("file"), "own").unwrap();
    symlink(outside.path().join("file"), path.join("file-link")).unwrap();
    let (mut as_link, mut as_directory) = (0, 0);
    let one_copy = || {
        let target = tmpfs(&[]);
        match copy(path, &target) {
            Ok(_) => {}
            // It was another entry a moment ago.
            Err(error) => assert!(
                matches!(error.errno, Errno::ENOENT | Errno::ESTALE | Errno::ENOTDIR),
                "{error}"
            ),
        }
        let to = path_of(&target);
        let lines = listing(&to);
        assert!(lines.len() <= 12, "{lines:?}");
        for name in ["directory", "link"] {
            match fs::symlink_metadata(to.join(name)) {
                Ok(found) if found.is_symlink() => as_link += 1,
                Ok(_) => {
                    as_directory += 1;
                    for file in ["file", "sub/file"] {
                        let content = fs::read_to_string(to.join(name).join(file));
                        assert!(content.is_ok_and(|text| text == "own"), "{lines:?}");
                    }
                }
                Err(_) => {}
            }
        }
        for name in ["file", "file-link"] {
            if fs::symlink_metadata(to.join(name)).is_ok_and(|found| found.is_file()) {
                assert_eq!(fs::read_to_string(to.join(name)).unwrap(), "own");
            }
        }
    };
    let exchange = (path.join("directory"), path.join("link"));
    let mut one_copy = one_copy;
    while_exchanged(&exchange.0, &exchange.1, || (0..200).for_each(|_| one_copy()));
    let exchange = (path.join("file"), path.join("file-link"));
    while_exchanged(&exchange.0, &exchange.1, || (0..200).for_each(|_| one_copy()));
    assert!(as_link > 0 && as_directory > 0, "{as_link} links, {as_directory} directories");
}

#[test]
fn a_file_exchanged_with_a_fifo_or_device_is_not_opened() {
    require_root();
    let source = scratch();
    let path = source.path();
    fs::write(path.join("a"), "file").unwrap();
    nix::unistd::mkfifo(&path.join("b"), Mode::S_IRWXU).unwrap();
    // Opening it would answer ENXIO: there is no such driver.
    mknod(&path.join("c"), SFlag::S_IFCHR, Mode::S_IRWXU, libc::makedev(511, 7)).unwrap();
    fs::write(path.join("d"), "file").unwrap();
    while_exchanged(&path.join("a"), &path.join("b"), || {
        while_exchanged(&path.join("c"), &path.join("d"), || {
            for _ in 0..500 {
                let target = tmpfs(&[]);
                // A FIFO without a writer would be waited for.
                copy(path, &target).unwrap();
                for name in ["a", "b", "c", "d"] {
                    let at = path_of(&target).join(name);
                    let kind = fs::symlink_metadata(&at).unwrap().file_type();
                    if kind.is_file() {
                        assert_eq!(fs::read_to_string(&at).unwrap(), "file");
                    } else {
                        assert!(kind.is_fifo() || kind.is_char_device());
                    }
                }
            }
        });
    });
}

#[test]
fn removal_follows_no_link_and_needs_no_permission_but_ownership() {
    require_root();
    let (outside, top) = (scratch(), scratch());
    fs::write(outside.path().join("kept"), "").unwrap();
    let tree_path = top.path().join("tree");
    fs::create_dir_all(tree_path.join("closed/sub")).unwrap();
    fs::write(tree_path.join("closed/sub/file"), "").unwrap();
    symlink(outside.path(), tree_path.join("link")).unwrap();
    symlink(outside.path(), tree_path.join("closed/link")).unwrap();
    run("chown", &[&"-Rh", &"65534:65534", &top.path()]);
    for name in ["closed/sub", "closed"] {
        fs::set_permissions(tree_path.join(name), Permissions::from_mode(0o000)).unwrap();
    }
    let path = top.path().to_owned();
    as_user(move || tree::remove(File::open(path).unwrap().as_fd(), OsStr::new("tree"))).unwrap();
    assert!(!tree_path.exists());
    assert!(outside.path().join("kept").exists());

    let at = File::open(top.path()).unwrap();
    let missing = tree::remove(at.as_fd(), OsStr::new("tree")).unwrap_err();
    assert_eq!(missing.errno, Errno::ENOENT);
    symlink(outside.path(), top.path().join("link")).unwrap();
    tree::remove(at.as_fd(), OsStr::new("link")).unwrap();
    assert!(outside.path().join("kept").exists());
}

#[test]
fn removal_while_a_directory_is_exchanged_with_a_link_stays_inside() {
    let outside = scratch();
    for number in 0..50 {
        fs::create_dir_all(outside.path().join("sub")).unwrap();
        fs::write(outside.path().join("sub/kept"), "").unwrap();
        let top = scratch();
        let path = top.path().join("tree");
        fs::create_dir_all(path.join("directory/sub")).unwrap();
        fs::write(path.join("directory/sub/file"), "").unwrap();
        symlink(outside.path(), path.join("link")).unwrap();
        let (started, stop) = (AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = nix::fcntl::AT_FDCWD;
                    // Both are about to go.
                    let exchange = RenameFlags::RENAME_EXCHANGE;
                    renameat2(at, &path.join("directory"), at, &path.join("link"), exchange).ok();
                    started.store(true, Ordering::Relaxed);
                }
            });
            while !started.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
            tree::remove(File::open(top.path()).unwrap().as_fd(), OsStr::new("tree")).ok();
            stop.store(true, Ordering::Relaxed);
        });
        assert!(outside.path().join("sub/kept").exists(), "round {number}");
    }
}
