//! `[[devices]]` and the devices controller, of both versions.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use crate::support::{Bench, CALLERS, Caller, Run, jailrun, run, shell_with_own_mounts};

/// A device that every host has and no jail is given.
const FUSE: &str = "/dev/fuse";

fn errno(run: &Run) -> String {
    let json = run.json();
    match json["ok"].as_bool() {
        Some(true) => "ok".to_owned(),
        _ => json["errno"].as_str().unwrap_or_else(|| panic!("{run:?}")).to_owned(),
    }
}

/// Where the v1 controller is; `None` where v2 has it.
fn v1_controller() -> Option<PathBuf> {
    let path = Path::new("/sys/fs/cgroup/devices/devices.list");
    path.exists().then(|| path.parent().unwrap().to_owned())
}

fn dry_run(bench: &Bench, caller: Caller) -> String {
    let run = run(caller, &["up", bench.unit.to_str().unwrap(), "--dry-run", "--", "/probe"]);
    assert_eq!(run.status, 0, "{run:?}");
    run.stdout
}

#[test]
fn a_listed_device_is_there_and_can_be_used() {
    assert!(fs::metadata(FUSE).unwrap().file_type().is_char_device());
    for caller in CALLERS {
        let bench =
            Bench::new("[[devices]]\npath = \"/dev/other-zero\"\nhost-path = \"/dev/zero\"\n");
        let run = bench.probe(caller, &["stat", "/dev/other-zero"]);
        let number = fs::metadata("/dev/zero").unwrap().rdev();
        assert_eq!(errno(&run), "ok");
        assert_eq!(
            run.json()["file"]["device"],
            format!("{}:{}", major(number), minor(number)),
            "{run:?}"
        );
        assert_eq!(errno(&bench.probe(caller, &["write", "/dev/other-zero", "x"])), "ok");
        bench.assert_nothing_left();
    }
}

/// A bound node is the host's own: its mode and owner must be out of reach.
#[test]
fn the_mode_of_a_bound_node_cannot_be_changed_from_inside() {
    let node = "/dev/zero";
    let before = fs::metadata(node).unwrap();
    let bench = Bench::new(
        "[[devices]]\npath = \"/dev/other\"\nhost-path = \"/dev/zero\"\n[security]\ncapabilities = \"default\"\n",
    );
    assert_eq!(errno(&bench.probe(Caller::Root, &["chmod", "/dev/other", "0600"])), "EROFS");
    let after = fs::metadata(node).unwrap();
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
    // The control: a node that is not bound read-only.
    let control = Bench::new("[security]\ncapabilities = \"default\"\n");
    assert_eq!(errno(&control.probe(Caller::Root, &["chmod", "/tmp", "0700"])), "ok");
}

/// With CAP_MKNOD and a mount without `nodev` only the controller is left.
const OPEN: &str = "[[mounts]]\ntarget = \"/data\"\ntmpfs = \"1M\"\nnodev = false\n[security]\ncapabilities = [\"CAP_MKNOD\", \"CAP_SYS_ADMIN\"]\n";

#[test]
fn a_device_that_is_not_listed_can_neither_be_made_nor_opened() {
    let number = fs::metadata(FUSE).unwrap().rdev();
    let (major, minor) = (major(number).to_string(), minor(number).to_string());
    let mknod = ["mknod", "/data/node", "c", &major, &minor];
    let refused = Bench::new(OPEN);
    assert_eq!(errno(&refused.probe(Caller::Root, &mknod)), "EPERM");
    let null = ["mknod", "/data/null", "c", "1", "3"];
    assert_eq!(errno(&refused.probe(Caller::Root, &null)), "ok", "a default node can be made");
    // The control: the same device, listed.
    let listed = Bench::new(&format!("[[devices]]\npath = \"{FUSE}\"\n{OPEN}"));
    assert_eq!(errno(&listed.probe(Caller::Root, &["open", FUSE])), "ok");
    let bound = "[[mounts]]\ntarget = \"/data\"\nbind = \"/dev\"\nnodev = false\nrecursive = false\n[security]\nallow-dangerous-binds = true\n";
    let bound = Bench::new(bound);
    assert_eq!(errno(&bound.probe(Caller::Root, &["open", "/data/fuse"])), "EPERM");
    let text = fs::read_to_string(&bound.unit).unwrap();
    fs::write(&bound.unit, format!("{text}\n[[devices]]\npath = \"{FUSE}\"\n")).unwrap();
    assert_eq!(errno(&bound.probe(Caller::Root, &["open", "/data/fuse"])), "ok", "the control");
    refused.assert_nothing_left();
}

#[test]
fn access_is_what_the_entry_says() {
    for (access, read, write) in [("r", "ok", "EPERM"), ("w", "EPERM", "ok"), ("rw", "ok", "ok")] {
        let bench = Bench::new(&format!(
            "[[devices]]\npath = \"/dev/other\"\nhost-path = \"/dev/zero\"\naccess = \"{access}\"\n"
        ));
        let run = bench.probe(Caller::Root, &["open", "/dev/other"]);
        assert_eq!(errno(&run), read, "{access}");
        let run = bench.probe(Caller::Root, &["write", "/dev/other", "x"]);
        assert_eq!(errno(&run), write, "{access}");
    }
}

#[test]
fn an_ordinary_user_is_told_what_cannot_be_kept() {
    let bench = Bench::new(
        "[[devices]]\npath = \"/dev/zero-2\"\nhost-path = \"/dev/zero\"\naccess = \"r\"\n",
    );
    let run = bench.probe(Caller::User, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0309") && run.stderr.contains("`access`"), "{run:?}");
    let bench = Bench::new("[[devices]]\npath = \"/dev/zero-2\"\nhost-path = \"/dev/zero\"\n");
    let text = dry_run(&bench, Caller::User);
    assert!(text.contains("which an ordinary user cannot set"), "{text}");
}

#[test]
fn the_report_says_whether_the_controller_is_put_up() {
    let without = dry_run(&Bench::new(""), Caller::Root);
    assert!(without.contains("the controller, which has nothing to refuse"), "{without}");
    assert!(!without.contains("every device but"), "{without}");
    for keys in [
        "[security]\ncapabilities = [\"CAP_MKNOD\"]",
        "[security]\ncapabilities = [\"CAP_SYS_ADMIN\"]",
        "[[mounts]]\ntarget = \"/data\"\ntmpfs = \"1M\"\nnodev = false",
        "[[devices]]\npath = \"/dev/fuse\"",
        "[namespaces]\npid = \"host\"",
    ] {
        let text = dry_run(&Bench::new(keys), Caller::Root);
        assert!(text.contains("every device but c 1:3 rwm"), "{keys} {text}");
    }
}

#[test]
fn a_single_node_that_is_bound_is_allowed_and_a_directory_of_them_warned_of() {
    let bench = Bench::new(&format!(
        "[[mounts]]\ntarget = \"/tmp/node\"\nbind = \"{FUSE}\"\nnodev = false\n"
    ));
    assert_eq!(errno(&bench.probe(Caller::Root, &["open", "/tmp/node"])), "ok");
    let check = |bench: &Bench| {
        run(
            Caller::Root,
            &["check", bench.unit.to_str().unwrap(), "--set", "process.command=[\"/probe\"]"],
        )
    };
    assert!(!check(&bench).stderr.contains("W0010"));
    let bench = Bench::new("[[mounts]]\ntarget = \"/data\"\nbind = \"/dev/pts\"\nnodev = false\n");
    assert!(check(&bench).stderr.contains("W0010"), "{:?}", check(&bench));
}

/// Where the kernel's v1 hierarchy is out of sight, the same units are kept by
/// a program on the v2 group.
#[test]
fn a_program_on_a_v2_group_refuses_the_same() {
    let number = fs::metadata(FUSE).unwrap().rdev();
    let (major, minor) = (major(number).to_string(), minor(number).to_string());
    let up = |bench: &Bench, words: &[&str]| {
        let script = match v1_controller() {
            Some(path) => format!("umount {} && exec \"$@\"", path.display()),
            None => "exec \"$@\"".to_owned(),
        };
        let unit = bench.unit.to_str().unwrap();
        let up = [jailrun().to_str().unwrap(), "up", unit, "--quiet", "--", "/probe"];
        shell_with_own_mounts(&script, &[&up[..], words].concat())
    };
    let bench = Bench::new(OPEN);
    assert_eq!(errno(&up(&bench, &["mknod", "/data/node", "c", &major, &minor])), "EPERM");
    assert_eq!(errno(&up(&bench, &["mknod", "/data/node", "c", "1", "3"])), "ok");
    bench.assert_nothing_left();
    for (access, read, write) in [("r", "ok", "EPERM"), ("w", "EPERM", "ok"), ("rw", "ok", "ok")] {
        let bench = Bench::new(&format!(
            "[[devices]]\npath = \"/dev/other\"\nhost-path = \"/dev/zero\"\naccess = \"{access}\"\n"
        ));
        assert_eq!(errno(&up(&bench, &["open", "/dev/other"])), read, "{access}");
        assert_eq!(errno(&up(&bench, &["write", "/dev/other", "x"])), write, "{access}");
    }
    // Terminals of its own are open.
    let run = up(&bench, &["open", "/dev/pts/ptmx"]);
    assert_eq!(errno(&run), "ok", "{run:?}");
}

/// The kernel asks the controller when a loop device is mounted, too.
#[test]
fn an_image_is_mounted_before_its_device_is_closed() {
    let bench = Bench::new(&format!(
        "[[mounts]]\ntarget = \"/tmp/image\"\nimage = \"{{dir}}/image\"\n{OPEN}"
    ));
    let script = "mkdir content && echo text >content/file && mksquashfs content image -quiet -noappend >/dev/null";
    let made = std::process::Command::new("sh")
        .args(["-ec", script])
        .current_dir(bench.directory.path())
        .status()
        .unwrap();
    assert!(made.success());
    let run = bench.probe(Caller::Root, &["read", "/tmp/image/file"]);
    assert_eq!((run.status, &*run.stdout), (0, "text\n"), "{run:?}");
    let run = bench.probe(Caller::Root, &["mknod", "/data/loop", "b", "7", "0"]);
    assert_eq!(errno(&run), "EPERM");
    bench.assert_nothing_left();
}

#[test]
fn what_is_no_device_is_refused_and_what_is_missing_can_be_optional() {
    for (keys, status) in [
        ("path = \"/dev/x\"\nhost-path = \"/etc/passwd\"", 125),
        ("path = \"/dev/no-such-device\"", 125),
        ("path = \"/dev/no-such-device\"\noptional = true", 0),
    ] {
        for caller in CALLERS {
            let bench = Bench::new(&format!("[[devices]]\n{keys}"));
            let run = bench.probe(caller, &["true"]);
            assert_eq!(run.status, status, "{run:?}");
            assert_eq!(run.stderr.contains("E0301"), status == 125, "{run:?}");
        }
    }
}
