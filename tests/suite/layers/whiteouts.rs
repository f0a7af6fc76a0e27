//! Whiteouts, seen through the mounted stack of layers, and compared with what
//! umoci(1) makes of the same image.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use jailrun::image::digest::Digest;
use jailrun::image::layer::{Options, Owners, Whiteouts};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;

use super::super::support::{Caller, scratch};
use super::snapshot::{self, Tree, What};
use super::writer::Tar;
use super::{Target, as_caller, options, unpack};

const USER_MARK: &str = "user.overlay.opaque";

/// The stack of layers as a jail sees it, bottom layer first in the list.
fn merged(caller: Caller, layers: &[Vec<u8>]) -> Tree {
    let directory = scratch();
    let options = match caller {
        Caller::Root => Options::default(),
        Caller::User => {
            Options { owners: Owners::Caller, whiteouts: Whiteouts::User, ..Options::default() }
        }
    };
    let mut stack: Vec<PathBuf> = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let into = directory.path().join(number.to_string());
        fs::create_dir(&into).unwrap();
        if caller == Caller::User {
            std::os::unix::fs::chown(&into, Some(65534), Some(65534)).unwrap();
        }
        let unpacked = unpack(caller, layer, &options, &into).unwrap();
        if unpacked.summary.hides_lower_layers {
            stack.clear();
        }
        stack.push(into);
    }
    assert_no_ghosts(&stack);
    // A stack of one layer is no overlay.
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    stack.insert(0, empty);
    let target = directory.path().join("merged");
    fs::create_dir(&target).unwrap();
    let lower: Vec<_> = stack.iter().rev().map(|path| path.display().to_string()).collect();
    let userxattr = if caller == Caller::User { ",userxattr" } else { "" };
    let data = format!("lowerdir={}{userxattr}", lower.join(":"));
    as_caller(Caller::Root, || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).unwrap();
        mount(Some("overlay"), &target, Some("overlay"), MsFlags::empty(), Some(data.as_str()))
            .unwrap();
        let tree = snapshot::read(&target);
        // Detached: children that other threads are starting have what was open here
        // open until they execute.
        umount2(&target, MntFlags::MNT_DETACH).unwrap();
        tree
    })
}

/// Whiteouts in an opaque directory would be seen by readdir(3).
#[track_caller]
fn assert_no_ghosts(layers: &[PathBuf]) {
    for layer in layers {
        let tree = snapshot::read(layer);
        for (path, node) in &tree {
            let parent = path.parent().and_then(|parent| tree.get(parent));
            let is_opaque = parent.is_some_and(|parent| {
                parent.xattrs.keys().any(|name| name.to_string_lossy().ends_with(".overlay.opaque"))
            });
            assert!(!(is_opaque && node.what == What::Character(0)), "{}", path.display());
        }
    }
}

/// What umoci(1) makes of an image of these layers.
fn umoci(layers: &[Vec<u8>]) -> Tree {
    let directory = scratch();
    let layout = directory.path().join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, data: &[u8]| {
        let digest = Digest::of(data);
        fs::write(blobs.join(digest.hex()), data).unwrap();
        let kind = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": kind, "digest": digest.to_string(), "size": data.len() })
    };
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer).to_string()).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {},
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob("config.v1+json", config.to_string().as_bytes()),
        "layers": layers.iter().map(|layer| blob("layer.v1.tar", layer)).collect::<Vec<_>>(),
    });
    let mut descriptor = blob("manifest.v1+json", manifest.to_string().as_bytes());
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "it" });
    let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    let into = directory.path().join("into");
    let image = format!("{}:it", layout.display());
    let output = Command::new("umoci")
        .args(["raw", "unpack", "--image", &image])
        .arg(&into)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    snapshot::read(&into)
}

/// What is left of a stack: as expected, for either way to write whiteouts,
/// and as umoci(1) has it.
#[track_caller]
fn leaves(layers: &[Vec<u8>], expected: &[&str]) {
    leaves_unlike_umoci(layers, expected);
    let names_only = |tree: &Tree| -> Vec<_> {
        tree.iter().map(|(path, node)| (path.clone(), node.what.clone(), node.mode)).collect()
    };
    let (ours, theirs) = (merged(Caller::Root, layers), umoci(layers));
    assert_eq!(names_only(&ours), names_only(&theirs), "umoci");
}

#[track_caller]
fn leaves_unlike_umoci(layers: &[Vec<u8>], expected: &[&str]) {
    for caller in [Caller::Root, Caller::User] {
        let tree = merged(caller, layers);
        assert_eq!(snapshot::names(&tree), expected, "{caller:?}");
        for (path, node) in &tree {
            assert_ne!(node.what, What::Character(0), "{caller:?}: {}", path.display());
        }
    }
}

/// A layer with a few directories and files.
fn base() -> Vec<u8> {
    Tar::new()
        .dir("./")
        .dir("d")
        .file("d/a", "base")
        .file("d/b", "base")
        .dir("d/sub")
        .file("d/sub/x", "base")
        .dir("e")
        .file("e/a", "base")
        .file("f", "base")
        .symlink("l", "d")
        .end()
}

#[test]
fn a_whiteout_hides_what_is_below() {
    let upper = Tar::new().dir("d").file("d/.wh.a", "").file(".wh.f", "").file(".wh.l", "").end();
    leaves(&[base(), upper], &["d", "d/b", "d/sub", "d/sub/x", "e", "e/a"]);
}

#[test]
fn a_whiteout_of_a_directory_hides_all_of_it() {
    let upper = Tar::new().file(".wh.d", "").file(".wh.e", "").end();
    leaves(&[base(), upper], &["f", "l"]);
}

#[test]
fn a_whiteout_of_nothing_does_nothing() {
    let upper = Tar::new().dir("d").file("d/.wh.nothing", "").file(".wh.nothing", "").end();
    let all = ["d", "d/a", "d/b", "d/sub", "d/sub/x", "e", "e/a", "f", "l"];
    leaves(&[base(), upper], &all);
}

#[test]
fn a_whiteout_in_directories_that_have_no_entry() {
    let upper = Tar::new().file("d/sub/.wh.x", "").end();
    leaves(&[base(), upper], &["d", "d/a", "d/b", "d/sub", "e", "e/a", "f", "l"]);
}

#[test]
fn a_whiteout_does_not_hide_its_own_layer() {
    let after = Tar::new().file(".wh.f", "").file("f", "upper").end();
    let before = Tar::new().file("f", "upper").file(".wh.f", "").end();
    let all = ["d", "d/a", "d/b", "d/sub", "d/sub/x", "e", "e/a", "f", "l"];
    for upper in [after, before] {
        leaves(&[base(), upper.clone()], &all);
        let tree = merged(Caller::Root, &[base(), upper]);
        assert_eq!(tree[Path::new("f")].what, What::File(b"upper".to_vec(), false));
    }
}

#[test]
fn a_whiteout_beside_a_directory_of_its_layer_makes_that_opaque() {
    let left = ["d", "d/c", "e", "e/a", "f", "l"];
    let whiteout_first = Tar::new().file(".wh.d", "").dir("d").file("d/c", "").end();
    leaves(&[base(), whiteout_first], &left);
    let implied = Tar::new().file(".wh.d", "").file("d/c", "").end();
    leaves(&[base(), implied], &left);
    // umoci 0.4 takes the later whiteout for the lower children only of
    // directories it has not written to.
    let whiteout_last = Tar::new().dir("d").file("d/c", "").file(".wh.d", "").end();
    leaves_unlike_umoci(&[base(), whiteout_last], &left);
}

#[test]
fn an_opaque_directory_hides_its_children_in_any_order() {
    let left = ["d", "d/c", "d/new", "d/new/y", "e", "e/a", "f", "l"];
    let first = Tar::new().dir("d").file("d/.wh..wh..opq", "").file("d/c", "").file("d/new/y", "");
    let last = Tar::new().dir("d").file("d/c", "").file("d/new/y", "").file("d/.wh..wh..opq", "");
    let middle = Tar::new().file("d/c", "").file("d/.wh..wh..opq", "").file("d/new/y", "").dir("d");
    for upper in [first, last, middle] {
        leaves(&[base(), upper.end()], &left);
    }
}

#[test]
fn an_opaque_directory_holds_no_whiteouts() {
    let left = ["d", "d/c", "e", "e/a", "f", "l"];
    let after = Tar::new().file("d/.wh..wh..opq", "").file("d/.wh.a", "").file("d/c", "");
    let before = Tar::new().file("d/.wh.a", "").file("d/.wh.b", "").file("d/.wh..wh..opq", "");
    let twice = Tar::new().file("d/.wh..wh..opq", "").file("d/.wh..wh..opq", "").file("d/c", "");
    let by_whiteout = Tar::new().file("d/.wh.a", "").file("d/c", "").file(".wh.d", "");
    leaves(&[base(), after.end()], &left);
    leaves(&[base(), before.file("d/c", "").end()], &left);
    leaves(&[base(), twice.end()], &left);
    leaves_unlike_umoci(&[base(), by_whiteout.end()], &left);
}

#[test]
fn an_opaque_root_hides_all_layers_below() {
    let upper = Tar::new().file("only", "").file(".wh..wh..opq", "").end();
    leaves(&[base(), upper.clone()], &["only"]);
    let top = Tar::new().file("top", "").end();
    leaves(&[base(), upper, top], &["only", "top"]);
}

#[test]
fn what_is_hidden_can_come_back() {
    let hides = Tar::new().file(".wh.d", "").file(".wh.f", "").end();
    let again = Tar::new().dir("d").file("d/new", "").file("f", "again").end();
    leaves(&[base(), hides, again], &["d", "d/new", "e", "e/a", "f", "l"]);
}

#[test]
fn a_file_in_the_place_of_a_directory() {
    let file = Tar::new().file("d", "a file").end();
    leaves(&[base(), file.clone()], &["d", "e", "e/a", "f", "l"]);
    let directory = Tar::new().dir("f").file("f/x", "").end();
    let left = ["d", "d/a", "d/b", "d/sub", "d/sub/x", "e", "e/a", "f", "f/x", "l"];
    leaves(&[base(), directory], &left);
}

/// umoci(1) writes them for a directory that a file or a link has replaced.
#[test]
fn whiteouts_below_what_is_no_directory_are_void() {
    for caller in [Caller::Root, Caller::User] {
        let target = Target::new(caller);
        let layer = Tar::new()
            .symlink("l", target.outside().to_str().unwrap())
            .file("f", "x")
            .file("l/.wh.secret", "")
            .file("l/.wh..wh..opq", "")
            .file("l/deep/er/.wh.secret", "")
            .file("f/.wh.x", "")
            .end();
        unpack(caller, &layer, &options(caller), &target.into).unwrap();
        assert_eq!(snapshot::names(&target.tree()), ["f", "l"]);
        target.assert_nothing_touched();
    }
}

#[test]
fn whiteouts_of_all_kinds_of_files() {
    // AUFS linked its whiteouts.
    let upper = Tar::new().file(".wh.f", "not empty").hard_link(".wh.l", ".wh.f").end();
    let left = ["d", "d/a", "d/b", "d/sub", "d/sub/x", "e", "e/a"];
    leaves(&[base(), upper], &left);
    let twice = Tar::new().file(".wh.f", "").file(".wh.f", "").file(".wh.l", "").end();
    leaves(&[base(), twice], &left);
}

#[test]
fn whiteouts_leave_nothing_of_themselves() {
    let upper =
        Tar::new().dir("d").file("d/.wh..wh..opq", "").file("d/c", "").file("e/.wh.a", "").end();
    for caller in [Caller::Root, Caller::User] {
        let mut tree = merged(caller, &[base(), upper.clone()]);
        assert!(snapshot::names(&tree).iter().all(|name| !name.contains(".wh.")));
        // The mark for the other kind of mounts is an attribute like any other.
        let other = tree.get_mut(Path::new("d")).unwrap().xattrs.remove(OsStr::new(USER_MARK));
        assert_eq!(other.is_some(), caller == Caller::Root);
        assert!(tree.values().all(|node| node.xattrs.is_empty()));
    }
}
