//! Layers that must be unpacked, compared with what tar(1) makes of them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use jailrun::image::layer::{Lost, Options, Unpacked, Whiteouts};

use super::super::support::{CALLERS, Caller, command, scratch};
use super::snapshot::{self, Tree, What};
use super::writer::{Header, Tar};
use super::{Target, options, unpack};

/// Unpacks as tar(1) does for that caller, below `directory`.
fn tar(caller: Caller, layer: &[u8], directory: &Path, more: &[&str]) -> Tree {
    let into = directory.join("tar");
    fs::create_dir(&into).unwrap();
    fs::set_permissions(&into, fs::Permissions::from_mode(0o700)).unwrap();
    let archive = directory.join("layer.tar");
    fs::write(&archive, layer).unwrap();
    if caller == Caller::User {
        std::os::unix::fs::chown(&into, Some(65534), Some(65534)).unwrap();
    }
    let mut words = vec!["--numeric-owner", "-p", "--xattrs", "--xattrs-include=user.*"];
    words.extend(["--xattrs-include=security.capability", "-x", "-f"]);
    words.extend([archive.to_str().unwrap(), "-C", into.to_str().unwrap()]);
    words.extend(more);
    let output = command(caller, Path::new("/usr/bin/tar"), &words).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    snapshot::read(&into)
}

#[track_caller]
fn ours(caller: Caller, layer: &[u8], options: &Options) -> (Tree, Unpacked) {
    let target = Target::new(caller);
    let unpacked = unpack(caller, layer, options, &target.into)
        .unwrap_or_else(|error| panic!("{caller:?}: {error}"));
    target.assert_nothing_touched();
    (target.tree(), unpacked)
}

/// Unpacks a layer as both callers, and finds what tar(1) finds; every
/// directory must have an entry.
#[track_caller]
fn same_as_tar(layer: &[u8]) {
    same_as_tar_but(layer, |_| ());
}

#[track_caller]
fn same_as_tar_but(layer: &[u8], adjust: impl Fn(&mut Tree)) {
    for caller in CALLERS {
        let (mut found, _) = ours(caller, layer, &options(caller));
        let directory = scratch();
        let mut expected = tar(caller, layer, directory.path(), &[]);
        for tree in [&mut found, &mut expected] {
            // Not every layer has an entry for its root.
            tree.remove(Path::new(""));
            adjust(tree);
        }
        snapshot::assert_same(&found, &expected);
    }
}

/// A tree with a bit of everything, and its archive in that format.
fn archive(make: impl Fn(&Path), words: &[&str]) -> Vec<u8> {
    let directory = scratch();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    make(&tree);
    let output = Command::new("tar")
        .args(["--numeric-owner", "-c", "-C"])
        .arg(&tree)
        .args(words)
        .arg(".")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn plain_tree(root: &Path) {
    fs::create_dir_all(root.join("usr/bin")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    fs::create_dir(root.join("read-only")).unwrap();
    fs::write(root.join("usr/bin/tool"), vec![7; 300_000]).unwrap();
    fs::write(root.join("usr/bin/none"), "").unwrap();
    fs::write(root.join("read-only/file"), "x").unwrap();
    std::os::unix::fs::symlink("/usr/bin", root.join("bin")).unwrap();
    std::os::unix::fs::symlink("../../../..", root.join("usr/up")).unwrap();
    for name in ["hard", "usr/hard", "empty/hard"] {
        fs::hard_link(root.join("usr/bin/tool"), root.join(name)).unwrap();
    }
    fs::hard_link(root.join("bin"), root.join("also-bin")).unwrap();
    let modes = [("usr/bin/tool", 0o4755), ("usr/bin/none", 0), ("read-only/file", 0o2640)];
    for (path, mode) in modes.into_iter().chain([("read-only", 0o555), ("empty", 0o1777)]) {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
}

fn full_tree(root: &Path) {
    plain_tree(root);
    nix::unistd::mkfifo(&root.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
    let long = "l".repeat(90);
    let deep = root.join(&long).join(&long).join(&long);
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join(&long), "deep").unwrap();
    std::os::unix::fs::symlink(format!("/{long}/{long}/{long}"), deep.join("link")).unwrap();
    fs::hard_link(deep.join(&long), deep.join("hard")).unwrap();
    fs::write(root.join("odd \n\\ name \u{7f}é"), "odd").unwrap();
    std::os::unix::fs::chown(root.join("empty"), Some(12), Some(34)).unwrap();
    std::os::unix::fs::lchown(root.join("bin"), Some(1), Some(2)).unwrap();
}

fn extended_tree(root: &Path) {
    full_tree(root);
    std::os::unix::fs::chown(root.join("usr"), Some(3_000_000), Some(4_000_000_000)).unwrap();
    xattr::set(root.join("read-only/file"), "user.a", b"x\ny=\0z\n").unwrap();
    xattr::set(root.join("empty"), "user.on-a-directory", b"").unwrap();
}

#[test]
fn trees_in_every_format() {
    same_as_tar(&archive(plain_tree, &["--format=v7"]));
    same_as_tar(&archive(plain_tree, &["--format=ustar"]));
    same_as_tar(&archive(full_tree, &["--format=oldgnu"]));
    same_as_tar(&archive(extended_tree, &["--format=gnu"]));
    same_as_tar(&archive(extended_tree, &["--format=pax", "--xattrs"]));
}

fn sparse_tree(root: &Path) {
    use std::os::unix::fs::FileExt as _;
    let make = |name: &str, parts: &[u64], size: u64| {
        let file = fs::File::create(root.join(name)).unwrap();
        for (number, offset) in parts.iter().enumerate() {
            file.write_all_at(&[1 + number as u8; 4096], *offset).unwrap();
        }
        file.set_len(size).unwrap();
    };
    make("start", &[0], 1 << 20);
    make("end", &[(1 << 20) - 4096], 1 << 20);
    make("nothing", &[], 1 << 20);
    make("odd-size", &[8192], (1 << 20) + 17);
    make("beyond-octal-digits", &[9 << 30], (9 << 30) + 5000);
    // More ranges than a header holds, and than a block that continues it.
    let many: Vec<u64> = (0..60).map(|n| n * 16_384).collect();
    make("many", &many, 60 * 16_384);
}

#[test]
fn sparse_files_in_every_format() {
    let small = |root: &Path| {
        sparse_tree(root);
        // Too large to be compared by content.
        fs::remove_file(root.join("beyond-octal-digits")).unwrap();
    };
    for words in [
        &["--sparse", "--format=gnu"][..],
        &["--sparse", "--format=oldgnu"],
        &["--sparse", "--format=pax", "--sparse-version=0.0"],
        &["--sparse", "--format=pax", "--sparse-version=0.1"],
        &["--sparse", "--format=pax", "--sparse-version=1.0"],
    ] {
        let layer = archive(small, words);
        same_as_tar(&layer);
        let (tree, _) = ours(Caller::Root, &layer, &Options::default());
        for name in ["start", "end", "nothing", "odd-size", "many"] {
            let What::File(_, has_holes) = tree[Path::new(name)].what else { panic!("{name}") };
            assert!(has_holes, "{words:?}: {name} is written out");
        }
    }
}

#[test]
fn sparse_files_beyond_octal_digits() {
    for words in [&["--sparse", "--format=gnu"][..], &["--sparse", "--format=pax"]] {
        let layer = archive(sparse_tree, words);
        let target = Target::new(Caller::Root);
        unpack(Caller::Root, &layer, &Options::default(), &target.into).unwrap();
        let metadata = fs::metadata(target.into.join("beyond-octal-digits")).unwrap();
        assert_eq!(metadata.len(), (9 << 30) + 5000);
        assert!(metadata.blocks() * 512 < 1 << 20);
    }
}

#[test]
fn devices_and_capabilities_are_kept_for_root() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = Tar::new()
        .add(Header::new(b'3', "null").device(1, 3).mode(0o666).owner(0, 6))
        .add(Header::new(b'4', "disk").device(259, 1_048_575).mode(0o660))
        .pax(&[(b"SCHILY.xattr.security.capability", capability)])
        .add(Header::new(b'0', "ping").owner(1, 2).mode(0o755).data("ping"))
        .end();
    let (found, unpacked) = ours(Caller::Root, &layer, &Options::default());
    let directory = scratch();
    let mut expected = tar(Caller::Root, &layer, directory.path(), &[]);
    expected.insert(PathBuf::new(), found[Path::new("")].clone());
    snapshot::assert_same(&found, &expected);
    assert_eq!(found[Path::new("null")].what, What::Character(nix::sys::stat::makedev(1, 3)));
    assert_eq!(
        found[Path::new("ping")].xattrs,
        BTreeMap::from([("security.capability".into(), capability.to_vec())])
    );
    assert_eq!(unpacked.summary.devices, Lost::default());
}

#[test]
fn what_an_ordinary_user_cannot_have_is_counted() {
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let layer = Tar::new()
        .add(Header::new(b'3', "null").device(1, 3))
        .add(Header::new(b'4', "disk").device(8, 0))
        .add(Header::new(b'5', "home/").owner(1000, 1000).mode(0o2755))
        .add(Header::new(b'2', "link").link("x").owner(7, 0))
        .pax(&[(b"SCHILY.xattr.security.capability", capability)])
        .add(Header::new(b'0', "ping").owner(0, 8).mode(0o4755).data("x"))
        .file("mine", "x")
        .end();
    let (tree, unpacked) = ours(Caller::User, &layer, &options(Caller::User));
    assert_eq!(snapshot::names(&tree), ["home", "link", "mine", "ping"]);
    assert!(tree.values().all(|node| node.owner == (65534, 65534)));
    assert_eq!(tree[Path::new("ping")].mode, 0o4755);
    assert_eq!(tree[Path::new("home")].mode, 0o2755);
    let summary = unpacked.summary;
    assert_eq!(summary.devices, Lost { count: 2, first: Some("null".to_owned()) });
    assert_eq!(summary.owners, Lost { count: 3, first: Some("home/".to_owned()) });
    let first = Some("security.capability of ping".to_owned());
    assert_eq!(summary.xattrs, Lost { count: 1, first });
}

#[test]
fn extended_attributes_that_steer_are_left_out() {
    let dropped: [&[u8]; 9] = [
        b"SCHILY.xattr.trusted.overlay.opaque",
        b"SCHILY.xattr.trusted.overlay.redirect",
        b"SCHILY.xattr.trusted.anything",
        b"SCHILY.xattr.user.overlay.opaque",
        b"SCHILY.xattr.user.overlay.whiteout",
        b"SCHILY.xattr.security.selinux",
        b"SCHILY.xattr.security.ima",
        b"SCHILY.xattr.com.apple.provenance",
        b"SCHILY.acl.access",
    ];
    let mut records: Vec<(&[u8], &[u8])> = dropped.iter().map(|key| (*key, &b"y"[..])).collect();
    records.push((b"SCHILY.xattr.user.kept", b"z"));
    let layer = Tar::new()
        .pax(&records)
        .dir("d")
        .pax(&records)
        .file("d/f", "x")
        .pax(&records)
        .symlink("d/l", "x")
        .end();
    for caller in CALLERS {
        let (tree, unpacked) = ours(caller, &layer, &options(caller));
        let kept = BTreeMap::from([("user.kept".into(), b"z".to_vec())]);
        assert_eq!(tree[Path::new("d")].xattrs, kept);
        assert_eq!(tree[Path::new("d/f")].xattrs, kept);
        assert_eq!(tree[Path::new("d/l")].xattrs, BTreeMap::new());
        assert_eq!(unpacked.summary.xattrs.count, 28);
        let first = unpacked.summary.xattrs.first.unwrap();
        assert_eq!(first, "trusted.overlay.opaque of d/f");
    }
}

#[test]
fn access_lists_are_kept_for_root() {
    // Version 2; owner rwx, uid 5 rw, group r, mask rw, others none.
    let entry = |tag: u16, bits: u16, id: u32| {
        [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let list = [
        2_u32.to_le_bytes().to_vec(),
        entry(1, 7, u32::MAX),
        entry(2, 6, 5),
        entry(4, 4, u32::MAX),
        entry(16, 6, u32::MAX),
        entry(32, 0, u32::MAX),
    ]
    .concat();
    let layer = Tar::new()
        .pax(&[(b"SCHILY.xattr.system.posix_acl_default", &list)])
        .add(Header::new(b'5', "d/").mode(0o750))
        .pax(&[(b"SCHILY.xattr.system.posix_acl_access", &list)])
        .add(Header::new(b'0', "d/listed").mode(0o760))
        .file("d/plain", "")
        .end();
    let (tree, _) = ours(Caller::Root, &layer, &Options::default());
    let name = "system.posix_acl_access";
    assert_eq!(tree[Path::new("d/listed")].xattrs, BTreeMap::from([(name.into(), list.clone())]));
    assert_eq!(tree[Path::new("d/listed")].mode, 0o760);
    // The default of its directory was not in force when it was made.
    assert_eq!(tree[Path::new("d/plain")].xattrs, BTreeMap::new());
    let name = "system.posix_acl_default";
    assert_eq!(tree[Path::new("d")].xattrs, BTreeMap::from([(name.into(), list)]));
    let (tree, unpacked) = ours(Caller::User, &layer, &options(Caller::User));
    assert!(tree.values().all(|node| node.xattrs.is_empty()));
    assert_eq!(unpacked.summary.xattrs.count, 2);
}

#[test]
fn names_in_every_spelling() {
    // tar(1) forgets the time of a directory that is spelled differently.
    let directories_have_no_time = |tree: &mut Tree| {
        for node in tree.values_mut().filter(|node| node.what == What::Directory) {
            node.mtime = (0, 0);
        }
    };
    same_as_tar_but(
        &Tar::new()
            .dir("./")
            .dir("/abs/")
            .file("/abs/f", "1")
            .dir("./a")
            .file("./a//b", "2")
            .file("a/./c", "3")
            .symlink("a/s", "/abs/./f")
            .hard_link("/a/h", "./a/b")
            .hard_link("a/i", "/abs//f")
            .file("a/.hidden", "4")
            .file("a/..data", "5")
            .file("a/x..", "6")
            .end(),
        directories_have_no_time,
    );
}

#[test]
fn headers_of_every_age() {
    let layer = Tar::new()
        // A directory by its slash, and a type of zero.
        .add(Header::new(0, "v7/").v7().mode(0o750))
        .add(Header::new(0, "v7/f").v7().data("old").mtime(1))
        .add(Header::new(b'1', "v7/h").v7().link("v7/f"))
        // Permissions with the bits of the type.
        .add(Header::new(b'0', "typed").octal(100, 8, 0o100_640).data("x"))
        // Numbers with blanks, and without an end.
        .add(Header::new(b'0', "blank").field(100, b"   644 \0").field(136, b"123456712345"))
        // A contiguous file.
        .add(Header::new(b'7', "contiguous").data("x"))
        // A size where there are no data.
        .add(Header::new(b'1', "sized").link("typed").size(5))
        .dir("p")
        .dir("p/q")
        .add(Header::new(b'0', "f").field(345, b"p/q").data("x"))
        // The prefix is something else in GNU's format.
        .add(Header::new(b'0', "gnu").gnu().field(345, b"00000000000\0").data("x"))
        .add(Header::new(b'0', "binary").gnu().field(108, b"\x80\0\0\0\0\x2d\xc6\xc0"))
        .add(Header::new(b'0', "past").gnu().field(136, &[0xff; 12]))
        .end();
    same_as_tar(&layer);
}

#[test]
fn star_keeps_times_in_the_prefix() {
    let header = Header::new(b'0', "f")
        .field(345, b"p")
        .field(476, b"00000000001\x0000000000001\0")
        .field(508, b"tar\0");
    let (tree, _) = ours(Caller::Root, &Tar::new().add(header).end(), &Options::default());
    assert_eq!(snapshot::names(&tree), ["p", "p/f"]);
}

#[test]
fn checksums_of_signed_characters() {
    let layer = Tar::new().file([&b"caf"[..], b"\xe9"].concat(), "").end();
    let sum: i32 = layer[..512]
        .iter()
        .enumerate()
        .map(|(n, byte)| if (148..156).contains(&n) { 32 } else { i32::from(*byte as i8) })
        .sum();
    let mut layer = layer;
    layer[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    same_as_tar(&layer);
}

#[test]
fn records_of_extended_headers() {
    let name = format!("long/{}/\n{}", "n".repeat(200), "m".repeat(200));
    let global =
        [super::writer::record(b"mtime", b"1234567890.5"), super::writer::record(b"comment", b"x")];
    let layer = Tar::new()
        .dir("long")
        .pax(&[(b"path", format!("long/{}", "n".repeat(200)).as_bytes())])
        .dir("x")
        .pax(&[(b"path", name.as_bytes()), (b"mtime", b"1700000000.123456789"), (b"size", b"4")])
        .add(Header::new(b'0', "x").data("data").size(0))
        .pax(&[(b"linkpath", name.as_bytes())])
        .hard_link("hard", "x")
        .pax(&[(b"linkpath", name.as_bytes()), (b"mtime", b"-1.25"), (b"LIBARCHIVE.x", b"?")])
        .symlink("soft", "x")
        .pax(&[(b"uid", b"70000"), (b"gid", b"4294967294"), (b"uname", b"nobody")])
        .file("owned", "x")
        .add(Header::new(b'g', "global").data(global.concat()))
        .file("later", "x")
        .pax(&[(b"mtime", b"5")])
        .file("its-own", "x")
        .end();
    same_as_tar(&layer);
}

#[test]
fn gnu_headers_with_long_names() {
    let name = "n".repeat(250);
    let layer = Tar::new()
        .gnu_long(b'L', &name)
        .add(Header::new(b'0', &name[..100]).gnu().data("x"))
        .gnu_long(b'K', &name)
        .gnu_long(b'L', "l".repeat(150))
        .add(Header::new(b'2', "l").gnu().link("x"))
        .gnu_long(b'K', &name)
        .add(Header::new(b'1', "h").gnu().link("x"))
        .end();
    same_as_tar(&layer);
}

#[test]
fn hard_links_to_symbolic_links() {
    let layer = Tar::new().file("f", "x").symlink("s", "f").hard_link("h", "s").end();
    same_as_tar(&layer);
    let (tree, _) = ours(Caller::Root, &layer, &Options::default());
    assert_eq!(tree[Path::new("h")].what, What::Link("f".into()));
}

#[test]
fn links_out_are_kept_as_they_are() {
    let layer = Tar::new()
        .symlink("a", "/etc/shadow")
        .symlink("b", "../../../../etc")
        .symlink("c", "c")
        .symlink("d", "x".repeat(99))
        .end();
    same_as_tar(&layer);
}

#[test]
fn later_entries_take_the_place() {
    same_as_tar(
        &Tar::new()
            .file("f", "first")
            .hard_link("keeps-first", "f")
            .add(Header::new(b'0', "f").mode(0o600).data("second"))
            .symlink("s", "p")
            .file("s", "a file instead")
            .symlink("t", "f")
            .symlink("t", "s")
            .dir("d")
            .file("d/x", "x")
            .add(Header::new(b'5', "d/").mode(0o700).mtime(5))
            .add(Header::new(b'6', "p"))
            .file("p", "x")
            .file("q", "x")
            .hard_link("q", "f")
            .end(),
    );
}

#[test]
fn directories_and_files_take_each_others_place() {
    let layer = Tar::new()
        .symlink("l", "/etc")
        .dir("l")
        .file("l/x", "in the layer")
        .file("d/a/b/c", "x")
        .symlink("d/a/s", "/etc")
        .file("d-a", "beside")
        .file("d.a", "beside")
        .file("d", "a file instead")
        .file("e", "x")
        .file("e/../../x", "")
        .end();
    for caller in CALLERS {
        let target = Target::new(caller);
        unpack(caller, &layer, &options(caller), &target.into).unwrap_err();
        target.assert_nothing_touched();
        let tree = target.tree();
        assert_eq!(snapshot::names(&tree), ["d", "d-a", "d.a", "e", "l", "l/x"]);
        assert!(matches!(tree[Path::new("d")].what, What::File(..)));
    }
}

#[test]
fn a_directory_that_was_replaced_is_new() {
    let layer = Tar::new()
        .add(Header::new(b'5', "d/").mode(0o700).mtime(5))
        .dir("d/old")
        .file("d/old/x", "")
        .file("d", "")
        .file("d/new/x", "")
        .end();
    // A file of the layer is in the way.
    let target = Target::new(Caller::Root);
    let error = unpack(Caller::Root, &layer, &Options::default(), &target.into).unwrap_err();
    assert_eq!(error.entry.as_deref(), Some("d/new/x"));

    let layer = Tar::new()
        .add(Header::new(b'5', "d/").mode(0o700).mtime(5))
        .dir("d/old")
        .file("d/old/x", "")
        .file("d", "")
        .dir("d")
        .file("d/x", "")
        .end();
    let (tree, _) = ours(Caller::Root, &layer, &Options::default());
    assert_eq!(snapshot::names(&tree), ["d", "d/x"]);
    assert_eq!(tree[Path::new("d")].mode, 0o755);
}

#[test]
fn implied_directories_are_roots() {
    let layer = Tar::new().file("a/b/c", "x").add(Header::new(b'5', "a/").mode(0o711)).end();
    let (tree, unpacked) = ours(Caller::Root, &layer, &Options::default());
    let implied = &tree[Path::new("a/b")];
    assert_eq!((implied.mode, implied.owner, implied.mtime), (0o755, (0, 0), (0, 0)));
    assert_eq!(tree[Path::new("a")].mode, 0o711);
    assert_eq!(tree[Path::new("")].mode, 0o755);
    assert_eq!(unpacked.summary.entries, 4);
}

#[test]
fn the_root_has_an_entry() {
    let layer = Tar::new()
        .add(Header::new(b'5', "./").mode(0o1711).owner(5, 6).mtime(99))
        .file("f", "")
        .end();
    let (tree, _) = ours(Caller::Root, &layer, &Options::default());
    let root = &tree[Path::new("")];
    assert_eq!((root.mode, root.owner, root.mtime), (0o1711, (5, 6), (99, 0)));
}

#[test]
fn set_group_id_of_the_target_is_not_inherited() {
    let target = Target::new(Caller::Root);
    std::os::unix::fs::chown(&target.into, None, Some(77)).unwrap();
    fs::set_permissions(&target.into, fs::Permissions::from_mode(0o2755)).unwrap();
    let layer = Tar::new().dir("d").file("d/f", "").end();
    unpack(Caller::Root, &layer, &Options::default(), &target.into).unwrap();
    let tree = target.tree();
    assert_eq!(tree[Path::new("d")].mode, 0o755);
    assert!(tree.values().all(|node| node.owner == (0, 0)));
}

#[test]
fn leading_components_are_stripped_as_tar_does() {
    let layer = Tar::new()
        .dir("top/")
        .dir("top/d")
        .file("top/d/f", "x")
        .hard_link("top/h", "top/d/f")
        .symlink("top/s", "top/d/f")
        .file("README", "left out")
        // The dot counts.
        .dir("./top")
        .dir("./top/e")
        .end();
    for caller in CALLERS {
        for count in [1, 2] {
            let layer = if count == 2 {
                Tar::new().dir("top").dir("top/d").file("top/d/f", "x").end()
            } else {
                layer.clone()
            };
            let options = Options { strip_components: count, ..options(caller) };
            let (mut found, _) = ours(caller, &layer, &options);
            let directory = scratch();
            let strip = format!("--strip-components={count}");
            let mut expected = tar(caller, &layer, directory.path(), &[&strip]);
            found.remove(Path::new(""));
            expected.remove(Path::new(""));
            snapshot::assert_same(&found, &expected);
        }
    }
}

#[test]
fn whiteouts_are_plain_names_in_plain_archives() {
    let layer = Tar::new()
        .file(".wh.x", "a")
        .file(".wh.", "b")
        .dir(".wh.d")
        .file(".wh.d/.wh..wh..opq", "c")
        .end();
    for caller in CALLERS {
        let options = Options { whiteouts: Whiteouts::Plain, ..options(caller) };
        let (mut found, _) = ours(caller, &layer, &options);
        let directory = scratch();
        let mut expected = tar(caller, &layer, directory.path(), &[]);
        found.remove(Path::new(""));
        expected.remove(Path::new(""));
        snapshot::assert_same(&found, &expected);
    }
}

#[test]
fn what_follows_the_end_is_padding() {
    let layer = Tar::new().file("f", "x").end();
    let longer = [layer.clone(), vec![0; 9 * 1024], b"garbage".to_vec()].concat();
    let (tree, unpacked) = ours(Caller::Root, &longer, &Options::default());
    assert_eq!(snapshot::names(&tree), ["f"]);
    assert_eq!(unpacked.summary.bytes, longer.len() as u64);
    assert_eq!(unpacked.diff_id, jailrun::image::digest::Digest::of(&longer));
    // Of old some writers wrote one block of zeroes.
    let shorter = &layer[..layer.len() - 512];
    ours(Caller::Root, shorter, &Options::default());
}

#[test]
fn a_million_entries() {
    use nix::mount::{MsFlags, mount};
    let mut tar = Tar::new().file("f", "").dir("links").dir("files").dir("hidden");
    for number in 0..400_000 {
        tar.push(Header::new(b'1', format!("links/{number}")).link("f"));
    }
    for number in 0..200_000 {
        tar.push(Header::new(b'0', format!("files/{}/{number}", number % 100)));
        tar.push(Header::new(b'0', format!("hidden/.wh.{number}")));
        // Work for each of these would be quadratic.
        tar.push(Header::new(b'0', "hidden/.wh..wh..opq"));
    }
    let layer = tar.end();
    // In memory, in a mount namespace that ends with the thread.
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
            let directory = scratch();
            mount(none, directory.path(), Some("tmpfs"), MsFlags::empty(), none).unwrap();
            let into = fs::File::open(directory.path()).unwrap();
            let options = Options::default();
            let summary = jailrun::image::tree::unpack(
                layer.as_slice(),
                std::os::fd::AsFd::as_fd(&into),
                &options,
            )
            .unwrap();
            assert_eq!(summary.entries, 1_000_104);
            let count = |name: &str| fs::read_dir(directory.path().join(name)).unwrap().count();
            assert_eq!(count("links"), 400_000);
            assert_eq!(count("files"), 100);
            // An opaque directory holds no whiteouts.
            assert_eq!(count("hidden"), 0);
            drop(into);
            // Detached: children that other threads are starting have what was open
            // here open until they execute.
            nix::mount::umount2(directory.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
