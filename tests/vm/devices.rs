//! The devices controller of version 2: a program that the kernel runs for the
//! processes of a group.
//!
//! Every jail here keeps CAP_MKNOD and has a mount that lets devices through:
//! the program alone is what stops it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use serde_json::Value;

use crate::delegation::Delegated;
use crate::limits::{group, start, stop, traced};
use crate::support::{Bench, Caller, Run, command, eventually, finish, jailrun, leftovers};

/// The disk of the machine's file system for limits: who reads it, reads
/// everybody's files.
const DISK: &str = "/dev/vdb";

/// Another device that no jail is given unasked: opening it needs no capability.
const FUSE: &str = "/dev/fuse";

/// A jail that may make nodes and open them, and nodes that were there before.
fn unit(text: &str) -> Bench {
    let bench = Bench::new(&format!(
        "[[mounts]]\ntarget = \"/nodes\"\nbind = \"{{dir}}/nodes\"\nnodev = false\n\
         [security]\ncapabilities = [\"CAP_MKNOD\"]\n{text}"
    ));
    let nodes = bench.directory.path().join("nodes");
    fs::create_dir(&nodes).unwrap();
    for (name, device) in [("disk", DISK), ("fuse", FUSE), ("null", "/dev/null")] {
        let number = fs::metadata(device).unwrap().rdev();
        let kind = if device == DISK { SFlag::S_IFBLK } else { SFlag::S_IFCHR };
        let node = makedev(major(number), minor(number));
        mknod(&nodes.join(name), kind, Mode::from_bits_truncate(0o666), node).unwrap();
    }
    bench
}

/// The words that make a node of a device.
fn making(name: &str, kind: &str, device: &str) -> Vec<String> {
    let number = fs::metadata(device).unwrap().rdev();
    let (major, minor) = (major(number).to_string(), minor(number).to_string());
    ["mknod", &format!("/nodes/{name}"), kind, &major, &minor].map(str::to_owned).to_vec()
}

fn errno(run: &Run) -> String {
    let json = run.json();
    match json["ok"].as_bool() {
        Some(true) => "ok".to_owned(),
        _ => json["errno"].as_str().unwrap_or_else(|| panic!("{run:?}")).to_owned(),
    }
}

fn tried(bench: &Bench, words: &[impl AsRef<str>]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    errno(&bench.probe(Caller::Root, &words))
}

fn bpftool(words: &[&str]) -> Value {
    let output = Command::new("bpftool").arg("--json").args(words).output().unwrap();
    assert!(output.status.success(), "{words:?} {output:?}");
    // Nothing at all where there are no programs.
    if output.stdout.is_empty() {
        return Value::Array(Vec::new());
    }
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The numbers of all programs that decide on devices.
fn programs() -> BTreeSet<u64> {
    let list = bpftool(&["prog", "list"]);
    let of_devices =
        list.as_array().unwrap().iter().filter(|program| program["type"] == "cgroup_device");
    of_devices.map(|program| program["id"].as_u64().unwrap()).collect()
}

/// The programs of a group, which runs them beside those of the groups above.
fn attached(group: &Path) -> BTreeSet<u64> {
    let list = bpftool(&["cgroup", "list", group.to_str().unwrap()]);
    let list = list.as_array().unwrap().clone();
    for program in &list {
        assert_eq!(program["attach_flags"], "multi", "{list:?}");
    }
    list.iter().map(|program| program["id"].as_u64().unwrap()).collect()
}

#[test]
fn a_node_of_a_listed_device_opens_and_of_another_does_not() {
    let bench = unit("[[devices]]\npath = \"/dev/fuse\"\n");
    // By the jail: the kernel asks before a node is made.
    assert_eq!(tried(&bench, &making("own-null", "c", "/dev/null")), "ok");
    assert_eq!(tried(&bench, &["write", "/nodes/own-null", "x"]), "ok");
    assert_eq!(tried(&bench, &making("own-disk", "b", DISK)), "EPERM");
    // What is listed is bound: to make it again is not among its rights.
    assert_eq!(tried(&bench, &making("own-fuse", "c", FUSE)), "EPERM");
    // By somebody else: and again when it is opened.
    assert_eq!(tried(&bench, &["open", "/dev/fuse"]), "ok");
    assert_eq!(tried(&bench, &["open", "/nodes/fuse"]), "ok");
    assert_eq!(tried(&bench, &["open", "/nodes/null"]), "ok");
    assert_eq!(tried(&bench, &["open", "/nodes/disk"]), "EPERM");
    // The control: the device is listed.
    let listed = unit(&format!("[[devices]]\npath = \"{DISK}\"\n"));
    assert_eq!(tried(&listed, &["open", "/nodes/disk"]), "ok");
    assert_eq!(tried(&listed, &["open", "/nodes/fuse"]), "EPERM");
    bench.assert_nothing_left();
    listed.assert_nothing_left();
}

#[test]
fn reading_and_writing_are_told_apart() {
    for (access, read, write) in [("r", "ok", "EPERM"), ("w", "EPERM", "ok"), ("rw", "ok", "ok")] {
        let bench = unit(&format!("[[devices]]\npath = \"{DISK}\"\naccess = \"{access}\"\n"));
        // Its first kilobyte is nothing to ext4. The node that is bound, and another of the same number.
        for node in [DISK, "/nodes/disk"] {
            assert_eq!(tried(&bench, &["open", node]), read, "{access} {node}");
            assert_eq!(tried(&bench, &["write", node, "x"]), write, "{access} {node}");
        }
    }
}

/// The control of all the others: nothing changes in a running jail but that
/// its program is taken off.
#[test]
fn without_the_program_the_same_jail_makes_and_opens_every_device() {
    let bench = unit("");
    let text = fs::read_to_string(&bench.unit).unwrap();
    let root = format!("path = \"{}\"", bench.root.display());
    let number = fs::metadata(DISK).unwrap().rdev();
    let script = format!(
        "cd /nodes; until mknod made b {} {} 2>mknod; do sleep 0.2; done; \
         until head -c 2048 disk >read 2>open; do sleep 0.2; done; head -c 2048 made | cmp - read && echo opened",
        major(number),
        minor(number)
    );
    let command = format!("[process]\ncommand = [\"/bin/sh\", \"-c\", '''{script}''']\n");
    let made = "target = \"/nodes\"";
    let text = text.replace(&root, "host = true").replace(made, "target = \"/mnt\"");
    fs::write(&bench.unit, text + &command.replace("/nodes", "/mnt")).unwrap();
    let nodes = bench.directory.path().join("nodes");
    let says = |file: &str, words: &str| {
        eventually(words, || {
            fs::read_to_string(nodes.join(file)).is_ok_and(|text| text.contains(words))
        });
    };
    let child = start(&bench);
    let group = group(&bench);
    says("mknod", "Operation not permitted");
    let programs = attached(&group);
    assert_eq!(programs.len(), 1, "{programs:?}");
    for program in programs {
        let program = program.to_string();
        let path = group.to_str().unwrap();
        let flags = ["cgroup", "detach", path, "device", "id", &program, "multi"];
        bpftool(&flags);
    }
    let run = finish(child);
    assert_eq!((run.status, &*run.stdout), (0, "opened\n"), "{run:?}");
    let superblock = fs::read(nodes.join("read")).unwrap();
    assert_eq!(superblock[1024 + 56..1024 + 58], [0x53, 0xef], "it has read the host's disk");
    bench.assert_nothing_left();
}

#[test]
fn the_program_is_gone_with_the_group() {
    let before = programs();
    let bench = unit("[process]\ncommand = [\"/probe\", \"sleep\", \"1000\"]\n");
    let child = start(&bench);
    let own = group(&bench);
    let held = attached(&own);
    assert_eq!(held.len(), 1, "{held:?}");
    let now: BTreeSet<u64> = programs().difference(&before).copied().collect();
    assert_eq!(now, held, "one program, and it is the group's");
    stop(&bench, child);
    // The kernel takes it down some time after the group.
    eventually("the program is gone", || programs().is_disjoint(&held));

    // The same where the supervisor could not see to it.
    let mut child = start(&bench);
    let held = attached(&group(&bench));
    assert_eq!(held.len(), 1, "{held:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    eventually("what it left can be removed", || {
        finish(command(Caller::Root, jailrun(), &["gc"]).spawn().unwrap());
        leftovers(&bench.name).is_empty()
    });
    eventually("the program is gone", || programs().is_disjoint(&held));
    assert_eq!(programs(), before);
}

/// Before the jail's first process, there is no moment without it.
#[test]
fn the_program_is_attached_before_the_jail_is_born() {
    let bench = unit("[process]\ncommand = [\"/probe\", \"true\"]\n");
    let (run, trace) = traced(&bench, "bpf,clone3", &[]);
    assert_eq!(run.status, 0, "{run:?}");
    let at = |what: &str| trace.find(what).unwrap_or_else(|| panic!("{what}: {trace}"));
    assert!(at("BPF_PROG_LOAD") < at("BPF_PROG_ATTACH"), "{trace}");
    assert!(at("BPF_PROG_ATTACH") < at("CLONE_INTO_CGROUP"), "{trace}");
}

/// The kernel lets nobody but root load such a program: a group that is
/// delegated changes nothing about it.
#[test]
fn a_user_with_a_delegated_group_is_told_what_cannot_be_kept() {
    let before = programs();
    let restricted = Bench::new(&format!("[[devices]]\npath = \"{FUSE}\"\naccess = \"r\"\n"));
    let line = |bench: &Bench, more: &str| {
        format!(
            "{} up {} --quiet {more} -- /probe open {FUSE}",
            jailrun().display(),
            bench.unit.display()
        )
    };
    let told = Delegated::new("test-devices-access").run(&line(&restricted, ""));
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert_eq!(told.status.code(), Some(125), "{told:?}");
    assert!(text.contains("E0309") && text.contains("only root of the host can set"), "{text}");
    restricted.assert_nothing_left();

    // Without a restriction nothing is asked for that cannot be had: the
    // node's own mode holds, and the report says that there is no more.
    let bench = Bench::new(&format!("[[devices]]\npath = \"{FUSE}\"\n"));
    let reported = Delegated::new("test-devices-report").run(&line(&bench, "--dry-run"));
    let text = String::from_utf8_lossy(&reported.stdout).into_owned();
    assert!(text.contains("which an ordinary user cannot set"), "{reported:?}");
    let opened = Delegated::new("test-devices-open").run(&line(&bench, ""));
    assert_eq!(errno(&Run::from_output(opened)), "EACCES", "the mode of {FUSE}");
    bench.assert_nothing_left();
    assert_eq!(programs(), before);
}

/// As in a container of an ordinary user: root there, in a group of its own.
#[test]
fn root_of_a_user_namespace_is_told_that_it_is_not_the_hosts() {
    let before = programs();
    let up = |keys: &str, more: &str| {
        let bench = Bench::new(&format!("[[devices]]\npath = \"{FUSE}\"\n{keys}"));
        let line = format!(
            "unshare --user --map-root-user --mount --cgroup sh -c \"mount -t tmpfs tmpfs /run && \
             mount -t cgroup2 cgroup2 /mnt && mount --bind /mnt /sys/fs/cgroup && exec {} up {} {more} -- /probe open {FUSE}\"",
            jailrun().display(),
            bench.unit.display()
        );
        let ended = Delegated::new(&format!("test-devices-{}", bench.name)).run(&line);
        bench.assert_nothing_left();
        Run::from_output(ended)
    };
    let told = up("access = \"r\"\n", "");
    assert_eq!(told.status, 125, "{told:?}");
    assert!(told.stderr.contains("E0309"), "{told:?}");
    assert!(told.stderr.contains("only root of the host can set"), "{told:?}");
    let limits = "[limits]\npids = \"infinity\"\n";
    let told = up(limits, "");
    assert_eq!(told.status, 125, "{told:?}");
    assert!(told.stderr.contains("only root of the host sets which devices open"), "{told:?}");
    assert!(!told.stderr.contains("systemd-run"), "no delegation gives it: {told:?}");
    let warned = up(&format!("{limits}on-missing = \"warn\"\n"), "--dry-run");
    assert!(warned.stderr.contains("W0004"), "{warned:?}");
    assert!(!warned.stdout.contains("every device but"), "{warned:?}");
    assert_eq!(programs(), before);
}
