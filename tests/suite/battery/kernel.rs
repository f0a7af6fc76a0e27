//! D: the kernel's interfaces.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use super::{Ground, Sheet, Test, both, said, succeeds};
use crate::support::{CALLERS, Caller, Run, command, finish, jailrun};

pub const TESTS: &[Test] = &[
    ("D1", settings),
    ("D3", records),
    ("D4", sysfs),
    ("D5", release_agent),
    ("D6", control_groups),
    ("D7", paths_of_groups),
    ("D8", nested_namespaces),
    ("D10", new_mount_calls),
    ("D11", compat_entry),
    ("D12", kernel_calls),
    ("D13", socket_families),
    ("D14", abstract_sockets),
    ("D16", propagation),
    ("D17", masks),
    ("D18", id_maps),
    ("D19", devices),
    ("D20", ipc_and_names),
    ("D21", loopback),
];

const ADMIN: &str = "security.capabilities=[\"CAP_SYS_ADMIN\"]";

fn settings(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let core = "/proc/sys/kernel/core_pattern";
    for (path, attack) in [
        (core, "core_pattern opened for writing"),
        ("/proc/sys/kernel/modprobe", "modprobe opened for writing"),
        ("/proc/sysrq-trigger", "sysrq-trigger opened for writing"),
    ] {
        if !Path::new(path).exists() {
            let reason = format!("VACUOUS: this kernel has no {path}");
            sheet.row("D1", attack, reason, ground.both(&["open-file", path, "w"]));
            continue;
        }
        let words = ["open-file", path, "w"];
        succeeds("", &ground.chroot(Caller::Root, &["/proc"], &words));
        let open = ground.with(Caller::Root, &["security.read-only-paths=[]"], &words);
        let control = succeeds("without read-only paths", &open);
        let stopped = ground.both(&words);
        // The file is another user's where root inside is not root outside.
        assert_eq!(stopped, "root EROFS, user EACCES", "{path}");
        sheet.row("D1", attack, control, stopped);
    }
}

/// Files that the lists hide, read to see whether they are empty.
fn records(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let files = [
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/keys",
        "/proc/key-users",
        "/proc/timer_list",
        "/proc/interrupts",
        "/proc/sched_debug",
        "/proc/latency_stats",
    ];
    let directories = [
        "/proc/acpi",
        "/proc/asound",
        "/proc/scsi",
        "/sys/firmware",
        "/sys/devices/virtual/powercap",
    ];
    let mut tried = Vec::new();
    let mut absent = Vec::new();
    for path in files {
        let name = path.rsplit('/').next().unwrap();
        let open = ground.with(Caller::Root, &["security.masked-paths=[]"], &["read", path]);
        if open.status != 0 || open.stdout.is_empty() {
            absent.push(name);
        } else {
            tried.push(name);
        }
        for caller in CALLERS {
            let read = ground.jail(caller, &["read", path]);
            let hidden = (read.status == 0 && read.stdout.is_empty()) || said(&read) == "ENOENT";
            assert!(hidden, "{path} {caller:?} {}", read.status);
        }
    }
    for path in directories {
        if Path::new(path).exists() {
            tried.push(path.rsplit('/').next().unwrap());
            for caller in CALLERS {
                let made = ground.jail(caller, &["stat", path]).json();
                assert_eq!(made["file"]["links"], 2, "not empty: {made}");
                assert_eq!(
                    said(&ground.jail(caller, &["write", &format!("{path}/x"), ""])),
                    "EROFS"
                );
            }
        } else {
            absent.push(path.rsplit('/').next().unwrap());
        }
    }
    assert!(tried.contains(&"keys") && tried.contains(&"interrupts"), "{tried:?}");
    sheet.row(
        "D3",
        "records of the kernel in /proc and /sys",
        "readable without masked paths",
        "empty",
    );
    for name in absent {
        // Only that nothing is there was seen.
        eprintln!("D3: this kernel has no {name}");
    }
}

fn sysfs(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let file = "/sys/kernel/mm/ksm/run";
    let file = if Path::new(file).exists() { file } else { "/sys/kernel/uevent_seqnum" };
    let words = ["open-file", file, "w"];
    let control =
        succeeds("in a chroot with /sys", &ground.chroot(Caller::Root, &["/sys"], &words));
    let stopped = ground.both(&words);
    assert_eq!(stopped, "root EROFS, user EACCES", "{file}");
    sheet.row("D4", "a write to /sys", control, stopped);
    for fstype in ["debugfs", "tracefs", "bpf"] {
        let words = ["mount", fstype, "/tmp"];
        let plain = ground.chroot(Caller::Root, &[], &words);
        let control = match &*said(&plain) {
            "succeeds" => "succeeds in a plain chroot".to_owned(),
            other => format!("VACUOUS: {other} on this kernel"),
        };
        let stopped = ground.both(&words);
        assert_eq!(stopped, "EPERM", "{fstype}");
        let attack = match fstype {
            "debugfs" => "mounting debugfs",
            "tracefs" => "mounting tracefs",
            _ => "mounting bpffs",
        };
        sheet.row("D4", attack, control, stopped);
    }
}

/// Directories of the v1 hierarchies.
fn hierarchies() -> Vec<String> {
    let mut list: Vec<String> = fs::read_dir("/sys/fs/cgroup")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("release_agent").exists())
        .map(|path| path.display().to_string())
        .collect();
    list.sort();
    list
}

fn release_agent(sheet: &mut Sheet) {
    let ground = Ground::new("[[mounts]]\ntarget = \"/data\"\ncgroup = true\n");
    let attack = "release_agent of a cgroup v1 hierarchy (CVE-2022-0492)";
    let mounted = ground.both(&["mount", "cgroup", "/tmp", "none,name=canary"]);
    assert_eq!(mounted, "EPERM");
    let Some(first) = hierarchies().into_iter().find(|path| path.ends_with("/pids")) else {
        sheet.row("D5", attack, "VACUOUS: this host has no v1 hierarchy", mounted);
        return;
    };
    let agent = format!("{first}/release_agent");
    let words = ["open-file", &agent, "w"];
    let control =
        succeeds("in a chroot with /sys", &ground.chroot(Caller::Root, &["/sys"], &words));
    let mut found = Vec::new();
    for caller in CALLERS {
        let mounts = ground.jail(caller, &["report"]).json()["mounts"].clone();
        let pids = mounts
            .as_array()
            .unwrap()
            .iter()
            .map(|mount| mount["target"].as_str().unwrap().to_owned())
            .find(|target| target.starts_with("/data") && target.contains("pids"));
        let Some(pids) = pids else { panic!("{mounts}") };
        found.push(said(
            &ground.jail(caller, &["open-file", &format!("{pids}/release_agent"), "w"]),
        ));
    }
    // The file is at the root of the hierarchy alone, which is not the jail's.
    assert!(
        found.iter().all(|found| ["ENOENT", "EROFS", "EACCES"].contains(&&**found)),
        "{found:?}"
    );
    sheet.row(
        "D5",
        attack,
        control,
        format!("mount {mounted}; the file {}", both(&found[0], &found[1])),
    );
}

fn control_groups(sheet: &mut Sheet) {
    let ground = Ground::new("[[mounts]]\ntarget = \"/data\"\ncgroup = true\n");
    let attack = "its own limit raised, another group joined";
    let plain = ground.chroot(
        Caller::Root,
        &["/sys"],
        &["open-file", "/sys/fs/cgroup/pids/cgroup.procs", "w"],
    );
    let control = match &*said(&plain) {
        "succeeds" => "succeeds in a chroot with /sys".to_owned(),
        other => format!("VACUOUS: {other}, this host has no v1 hierarchy of pids"),
    };
    let mut found = Vec::new();
    for caller in CALLERS {
        let mounts = ground.jail(caller, &["report"]).json()["mounts"].clone();
        let targets: Vec<String> = mounts
            .as_array()
            .unwrap()
            .iter()
            .filter(|mount| mount["fstype"].as_str().is_some_and(|f| f.starts_with("cgroup")))
            .map(|mount| mount["target"].as_str().unwrap().to_owned())
            .collect();
        assert!(!targets.is_empty(), "{mounts}");
        for target in targets {
            for file in ["cgroup.procs", "pids.max", "memory.limit_in_bytes"] {
                let run =
                    said(&ground.jail(caller, &["open-file", &format!("{target}/{file}"), "w"]));
                if run != "ENOENT" {
                    found.push(run);
                }
            }
        }
    }
    found.sort();
    found.dedup();
    assert!(found.iter().all(|found| found == "EROFS" || found == "EACCES"), "{found:?}");
    sheet.row("D6", attack, control, found.join(" or "));
}

fn paths_of_groups(sheet: &mut Sheet) {
    let ground = Ground::new("[limits]\non-missing = \"skip\"\n");
    let paths = |run: &Run| -> Vec<String> {
        let groups = run.json()["cgroup"].clone();
        let groups = groups.as_array().unwrap();
        groups
            .iter()
            .map(|line| line.as_str().unwrap().splitn(3, ':').nth(2).unwrap().to_owned())
            .collect()
    };
    let open = paths(&ground.with(Caller::Root, &["namespaces.cgroup=host"], &["report"]));
    assert!(open.iter().any(|path| path.contains(&ground.bench.name)), "the control: {open:?}");
    for caller in CALLERS {
        let seen = paths(&ground.jail(caller, &["report"]));
        assert!(seen.iter().all(|path| path == "/"), "{seen:?}");
    }
    let control = "told with `namespaces.cgroup = \"host\"`";
    sheet.row("D7", "paths of the host in /proc/self/cgroup", control, "/ alone");
}

fn abstract_sockets(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let name = format!("{}-socket", ground.bench.name);
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let target = format!("@{name}");
    let words = ["connect", &target];
    let mut control = String::new();
    for caller in CALLERS {
        let open = ground.with(caller, &["network.mode=host"], &words);
        control = succeeds("with `network.mode = \"host\"`", &open);
    }
    let stopped = ground.both(&words);
    assert_eq!(stopped, "ECONNREFUSED");
    sheet.row("D14", "an abstract socket of the host: its own network alone", &*control, stopped);
    let scope = ["network.mode=host", "security.landlock.scope=[\"abstract-unix-socket\"]"];
    let landlock = CALLERS.map(|caller| said(&ground.with(caller, &scope, &words)));
    let stopped = both(&landlock[0], &landlock[1]);
    assert_eq!(stopped, "EPERM");
    sheet.row("D14", "an abstract socket of the host: Landlock alone", control, stopped);
}

fn propagation(sheet: &mut Sheet) {
    let ground = Ground::with_root("", "");
    let unit = ground.bench.unit.display();
    let root = ground.bench.root.display();
    let path = ground.path().display();
    // A host whose mounts are shared, as systemd makes them.
    let shared = |script: String| {
        let script =
            format!("mount --make-rshared / && {script}; grep ' {path}' /proc/self/mountinfo");
        let words = ["-m", "sh", "-c", &script];
        finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap())
    };
    let plain = shared(format!(
        "unshare -m --propagation unchanged chroot {root} /probe mount-tmpfs /data"
    ));
    assert!(plain.stdout.contains("/data"), "the control: {plain:?}");
    let all = "security.capabilities=all";
    let jail = shared(format!(
        "{} up --quiet {unit} --set {all} -- /probe mount-tmpfs /data",
        jailrun().display()
    ));
    assert!(jail.stdout.contains("\"ok\":true") && !jail.stdout.contains("/data"), "{jail:?}");
    // And back: what the host mounts while it runs does not appear inside.
    let back = shared(format!(
        "{} up --quiet {unit} -- /probe trap >{path}/out & up=$!; until grep -q ready {path}/out; do sleep 0.02; done; mount -t tmpfs back {root}/data; inside=$(pgrep -P $(pgrep -P $up)); grep -c ' / ' /proc/$inside/mountinfo; grep ' back ' /proc/$inside/mountinfo; umount {root}/data; kill $up; wait $up",
        jailrun().display()
    ));
    assert!(back.stdout.starts_with(|c: char| ('1'..='9').contains(&c)), "{back:?}");
    assert!(!back.stdout.contains(" back "), "{back:?}");
    let attack = "a mount inside appears on a host whose mounts are shared";
    let control = "it does from a namespace that keeps the propagation";
    sheet.row("D16", attack, control, "nothing, either way, even with every capability");
}

fn masks(sheet: &mut Sheet) {
    let ground = Ground::new("");
    for (words, attack) in [
        (&["umount", "/proc/keys"][..], "unmounting a mask"),
        (&["remount-rw", "/proc/sys"], "remounting read-write"),
        (&["mount", "proc", "/tmp"], "mounting a fresh proc"),
        (&["mount-tmpfs", "/tmp"], "mounting anything"),
    ] {
        let open = ground.with(Caller::Root, &[ADMIN], words);
        let control = succeeds("with CAP_SYS_ADMIN", &open);
        let stopped = ground.both(words);
        assert_eq!(stopped, "EPERM", "{words:?}");
        sheet.row("D17", attack, control, stopped);
    }
    // In a user namespace the capability is there to be had, and the mounts
    // were made by the same one: the missing capability is what holds.
}

const NODES: [(&str, &str, &str); 6] = [
    ("kmsg", "1", "11"),
    ("mem", "1", "1"),
    ("kvm", "10", "232"),
    ("fuse", "10", "229"),
    ("net/tun", "10", "200"),
    ("loop-control", "10", "237"),
];

fn devices(sheet: &mut Sheet) {
    use std::os::unix::fs::PermissionsExt as _;
    let ground = Ground::new("");
    fs::set_permissions(&ground.bench.root, fs::Permissions::from_mode(0o777)).unwrap();
    let mut there = Vec::new();
    let mut absent = Vec::new();
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        let words = ["open-file", &*path, "r"];
        match &*said(&ground.chroot(Caller::Root, &["/dev"], &words)) {
            "succeeds" => there.push(name),
            _ => absent.push(name),
        }
        assert_eq!(ground.both(&words), "ENOENT", "{path}");
        let made = ["device", "/node", "c", major, minor];
        let mknod = "security.capabilities=[\"CAP_MKNOD\"]";
        let nodev = ground.without(Caller::Root, "LimitDevices", &[mknod], &made);
        assert_eq!(said(&nodev), "EACCES", "{name} {nodev:?}");
        let controller = ground.without(Caller::Root, "nodev", &[mknod], &made);
        assert_eq!(said(&controller), "EPERM", "{name} {controller:?}");
        fs::remove_file(ground.bench.root.join("node")).unwrap();
    }
    assert!(there.contains(&"kmsg") || there.contains(&"fuse"), "{absent:?}");
    for name in absent {
        eprintln!("D19: this host has no {name}");
    }
    let control = "opened in a chroot with the host's /dev";
    sheet.row("D19", "kmsg mem kvm fuse tun loop-control: not in /dev", control, "ENOENT");
    sheet.row("D19", "the same made with CAP_MKNOD: nodev alone", control, "EACCES");
    let attack = "the same made with CAP_MKNOD: the devices controller alone";
    sheet.row("D19", attack, control, "EPERM");
}

/// Ended when it goes out of scope.
struct Segment(i32);

impl Drop for Segment {
    fn drop(&mut self) {
        let removed =
            command(Caller::Root, Path::new("ipcrm"), &["-m", &self.0.to_string()]).status();
        assert!(removed.unwrap().success());
    }
}

fn ipc_and_names(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let made = finish(
        command(Caller::Root, Path::new("ipcmk"), &["-M", "4096", "-p", "0666"]).spawn().unwrap(),
    );
    let id: i32 = made.stdout.rsplit(' ').next().unwrap().trim().parse().unwrap();
    let segment = Segment(id);
    // IPC_STAT into nowhere is EFAULT where the segment is, EINVAL where not.
    let shmctl = libc::SYS_shmctl.to_string();
    let id = segment.0.to_string();
    let words = ["call", &shmctl, &id, "2", "0"];
    let mut found = Vec::new();
    for caller in CALLERS {
        assert_eq!(said(&ground.with(caller, &["namespaces.ipc=host"], &words)), "EFAULT");
        found.push(said(&ground.jail(caller, &words)));
    }
    let stopped = both(&found[0], &found[1]);
    assert_eq!(stopped, "EINVAL");
    let control = "there with `namespaces.ipc = \"host\"`";
    sheet.row("D20", "System V shared memory of the host", control, stopped);

    let name = format!("{}-queue", ground.bench.name);
    let shm = format!("/dev/shm/{}", ground.bench.name);
    fs::write(&shm, "").unwrap();
    let words = ["open-file", &*shm, "r"];
    let seen = ground.chroot(Caller::Root, &["/dev"], &words);
    let stopped = ground.both(&words);
    fs::remove_file(&shm).unwrap();
    let control = succeeds("in a chroot with /dev", &seen);
    assert_eq!(stopped, "ENOENT");
    sheet.row("D20", "a file of the host's /dev/shm", control, stopped);

    let queue = std::ffi::CString::new(name.clone()).unwrap();
    // The queue has to be made somewhere: mqueue shows it as a file.
    let script = format!(
        "mount -t mqueue mqueue {0}/data && : > {0}/data/{name}; chmod 666 {0}/data/{name}; umount {0}/data; exec \"$@\"",
        ground.bench.root.display()
    );
    let unit = ground.bench.unit.to_str().unwrap();
    let start = |set: &str| {
        let words = [
            "-m",
            "--",
            "sh",
            "-c",
            &script,
            "sh",
            jailrun().to_str().unwrap(),
            "up",
            "--quiet",
            unit,
            "--set",
            set,
            "--",
            "/probe",
            "queue",
            &name,
        ];
        finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap())
    };
    let open = start("namespaces.ipc=host");
    let control = succeeds("with `namespaces.ipc = \"host\"`", &open);
    let stopped = said(&start("namespaces.ipc=private"));
    let script = format!(
        "mount -t mqueue m {0}/data && rm {0}/data/{1}; umount {0}/data",
        ground.bench.root.display(),
        queue.to_str().unwrap()
    );
    let removed =
        command(Caller::Root, Path::new("unshare"), &["-m", "sh", "-c", &script]).status();
    assert!(removed.unwrap().success());
    assert_eq!(stopped, "ENOENT");
    sheet.row("D20", "a POSIX message queue of the host", control, stopped);

    let script = "hostname 2>/dev/null; exec \"$@\"";
    let root = ground.bench.root.display().to_string();
    let words =
        ["--uts", "sh", "-c", script, "sh", "chroot", &root, "/probe", "hostname", "canary"];
    let plain = finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap());
    assert!(plain.stdout.contains("\"ok\":true"), "the control: {plain:?}");
    let stopped = ground.both(&["hostname", "canary"]);
    assert_eq!(stopped, "EPERM");
    let own = ground.with(Caller::Root, &[ADMIN], &["hostname", "canary"]);
    assert!(["succeeds", "EPERM"].contains(&&*said(&own)), "{own:?}");
    sheet.row(
        "D20",
        "the host's name changed",
        "succeeds for root in a chroot",
        format!("{stopped}; with CAP_SYS_ADMIN the jail's own"),
    );
}

fn loopback(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let words = ["connect", &*address];
    let mut control = String::new();
    for caller in CALLERS {
        control = succeeds(
            "with `network.mode = \"host\"`",
            &ground.with(caller, &["network.mode=host"], &words),
        );
    }
    let stopped = ground.both(&words);
    assert_eq!(stopped, "ECONNREFUSED");
    sheet.row("D21", "a service on 127.0.0.1 of the host", control, stopped);
}

/// Without them every capability is there, and the filter speaks alone: it is
/// the one of a jail that keeps none.
const CAPABILITIES: &str = "LimitCapabilities,SetCapabilities";
const NEITHER: &str = "LimitCapabilities,SetCapabilities,LoadSeccomp";

/// A system call with every capability: what it comes to without the filter
/// and with it, for both callers.
fn call(ground: &Ground, number: i64, arguments: &[&str]) -> (String, String) {
    let number = number.to_string();
    let words = [&["call", &*number][..], arguments].concat();
    let with = |parts: &str| {
        let [root, user] = CALLERS.map(|caller| said(&ground.without(caller, parts, &[], &words)));
        both(&root, &user)
    };
    (with(NEITHER), with(CAPABILITIES))
}

fn nested_namespaces(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let user = libc::CLONE_NEWUSER.to_string();
    let clone = (libc::CLONE_NEWUSER | libc::SIGCHLD).to_string();
    // setns(2) of no descriptor is EBADF where it gets that far.
    let rows: [(&str, i64, &[&str], &str, &str); 4] = [
        ("unshare(CLONE_NEWUSER): seccomp alone", libc::SYS_unshare, &[&user], "succeeds", "EPERM"),
        ("clone(CLONE_NEWUSER): seccomp alone", libc::SYS_clone, &[&clone], "succeeds", "EPERM"),
        ("setns: seccomp alone", libc::SYS_setns, &["-1", "0"], "EBADF", "EPERM"),
        ("clone3: seccomp alone (D9)", libc::SYS_clone3, &[], "EINVAL", "ENOSYS"),
    ];
    for (attack, number, arguments, open, stopped) in rows {
        let (control, jail) = match number {
            // Both sides of a clone would print their answer.
            libc::SYS_clone => {
                let number = number.to_string();
                let words = [&["call", &*number][..], arguments].concat();
                let run = ground.without(Caller::Root, NEITHER, &[], &words);
                assert!(run.stdout.contains("\"ok\":true"), "{run:?}");
                (
                    "succeeds".to_owned(),
                    said(&ground.without(Caller::Root, CAPABILITIES, &[], &words)),
                )
            }
            _ => call(&ground, number, arguments),
        };
        assert_eq!((&*control, &*jail), (open, stopped), "{attack}");
        let control = match open {
            "succeeds" => "succeeds without the filter".to_owned(),
            errno => format!("reaches the kernel without the filter ({errno})"),
        };
        sheet.row("D8", attack, control, jail);
    }
    assert_eq!(ground.both(&["unshare-user"]), "EPERM");
}

fn new_mount_calls(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let mut told = Vec::new();
    // Null and no descriptor: refused by the kernel for what they are.
    for (name, number) in [
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("fsopen", libc::SYS_fsopen),
        ("fsconfig", libc::SYS_fsconfig),
        ("fsmount", libc::SYS_fsmount),
        ("fspick", libc::SYS_fspick),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("open_tree_attr", 467),
        ("mount", libc::SYS_mount),
        ("umount2", libc::SYS_umount2),
        ("pivot_root", libc::SYS_pivot_root),
    ] {
        let (control, jail) = call(&ground, number, &["-1", "0", "-1"]);
        assert!(!control.contains("EPERM") && !control.contains("ENOSYS"), "{name}: {control}");
        assert!(
            jail == "EPERM" || (name == "open_tree_attr" && jail == "ENOSYS"),
            "{name}: {jail}"
        );
        told.push(name);
    }
    let attack = "mount, umount2, pivot_root and the eight calls of the new API: seccomp alone";
    let control = "each reaches the kernel without the filter";
    sheet.row("D10", attack, control, "EPERM, or ENOSYS for the newest");
    for number in [500, 547, 600, 4095] {
        assert_eq!(call(&ground, number, &[]).1, "ENOSYS", "{number}");
    }
    let control = "VACUOUS: no kernel has them yet";
    sheet.row("D10", "numbers that no table has", control, "ENOSYS");
}

fn compat_entry(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let open = ground.with(Caller::Root, &["security.seccomp=off"], &["compat"]);
    let control = match &*said(&open) {
        "succeeds" => "succeeds with `seccomp = \"off\"`".to_owned(),
        other => format!("VACUOUS: {other}"),
    };
    let mut found = Vec::new();
    for caller in CALLERS {
        let run = ground.jail(caller, &["compat"]);
        found.push(match run.status {
            159 => "killed by SIGSYS".to_owned(),
            _ => said(&run),
        });
    }
    let stopped = both(&found[0], &found[1]);
    assert!(["killed by SIGSYS", "EPERM"].contains(&&*stopped), "{stopped}");
    sheet.row("D11", "a system call by int 0x80", control, stopped);
}

fn kernel_calls(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let mut refused = Vec::new();
    let mut vacuous = Vec::new();
    // With arguments that do nothing, should a call be let through.
    for (name, number, arguments) in [
        ("io_uring_setup", libc::SYS_io_uring_setup, &["0", "0"][..]),
        ("io_uring_enter", libc::SYS_io_uring_enter, &["-1"]),
        ("io_uring_register", libc::SYS_io_uring_register, &["-1", "99"]),
        ("bpf", libc::SYS_bpf, &["9999"]),
        ("perf_event_open", libc::SYS_perf_event_open, &[]),
        ("userfaultfd", libc::SYS_userfaultfd, &["99"]),
        ("kexec_load", libc::SYS_kexec_load, &["0", "0", "0", "99"]),
        ("init_module", libc::SYS_init_module, &[]),
        ("finit_module", libc::SYS_finit_module, &["-1"]),
        ("delete_module", libc::SYS_delete_module, &[]),
        ("swapon", libc::SYS_swapon, &[]),
        ("swapoff", libc::SYS_swapoff, &[]),
        ("reboot", libc::SYS_reboot, &[]),
        ("settimeofday", libc::SYS_settimeofday, &[]),
        ("quotactl", libc::SYS_quotactl, &["-1"]),
        ("acct", libc::SYS_acct, &["-1"]),
    ] {
        let number = number.to_string();
        let words = [&["call", &*number][..], arguments].concat();
        let open = said(&ground.without(Caller::Root, NEITHER, &[], &words));
        if open == "ENOSYS" || open == "EPERM" {
            vacuous.push(name);
        } else {
            refused.push(name);
        }
        for caller in CALLERS {
            let jail = said(&ground.without(caller, CAPABILITIES, &[], &words));
            let errno = if name.starts_with("io_uring") { "ENOSYS" } else { "EPERM" };
            assert_eq!(jail, errno, "{name} {caller:?}");
        }
    }
    assert!(refused.contains(&"io_uring_setup") && refused.contains(&"bpf"), "{vacuous:?}");
    let attack = "io_uring bpf perf_event_open userfaultfd swapon reboot settimeofday quotactl: seccomp alone";
    sheet.row(
        "D12",
        attack,
        "each reaches the kernel without the filter",
        "EPERM; io_uring ENOSYS",
    );
    let attack = "kexec_load and the calls of modules: seccomp alone";
    let control = match vacuous.contains(&"kexec_load") || vacuous.contains(&"init_module") {
        true => "VACUOUS: this kernel has them not",
        false => "each reaches the kernel without the filter",
    };
    sheet.row("D12", attack, control, "EPERM");
}

fn socket_families(sheet: &mut Sheet) {
    let ground = Ground::new("");
    for (family, attack) in [
        (17, "socket(AF_PACKET): seccomp alone"),
        (38, "socket(AF_ALG): seccomp alone"),
        (40, "socket(AF_VSOCK): seccomp alone"),
    ] {
        // SOCK_RAW for packets, SOCK_SEQPACKET for the other two's sake.
        let kind = if family == 40 {
            "1"
        } else if family == 38 {
            "5"
        } else {
            "3"
        };
        let (control, jail) = call(&ground, libc::SYS_socket, &[&family.to_string(), kind]);
        let control = match &*control {
            "succeeds" => "succeeds without the filter".to_owned(),
            other => format!("VACUOUS: {other} on this kernel"),
        };
        assert!(["EPERM", "EAFNOSUPPORT"].contains(&&*jail), "{family}: {jail}");
        sheet.row("D13", attack, control, jail);
    }
    for family in [1, 2, 10, 16] {
        let kind = if family == 16 { "3" } else { "1" };
        let number = libc::SYS_socket.to_string();
        for caller in CALLERS {
            let run = ground.jail(caller, &["call", &number, &family.to_string(), kind]);
            assert_eq!(said(&run), "succeeds", "{family}");
        }
    }
}

fn id_maps(sheet: &mut Sheet) {
    use std::os::unix::fs::MetadataExt as _;
    let ground = Ground::new("");
    for name in ["tmp", "data"] {
        let path = ground.bench.root.join(name);
        std::os::unix::fs::chown(path, Some(0), Some(0)).unwrap();
    }
    std::os::unix::fs::chown(&ground.bench.root, Some(0), Some(0)).unwrap();
    let file = ground.bench.root.join("data/file");
    let owner = |set: &[&str]| {
        let run = ground.with(Caller::Root, set, &["write", "/data/file", "x"]);
        assert_eq!(said(&run), "succeeds", "{run:?}");
        let inside = ground.with(Caller::Root, set, &["stat", "/data/file"]).json();
        let outside = fs::metadata(&file).unwrap().uid();
        fs::remove_file(&file).unwrap();
        (inside["file"]["uid"].as_u64().unwrap(), outside)
    };
    // The control: without a map it is uid 0 that writes and runs.
    assert_eq!(owner(&[]), (0, 0));
    // Mapped mounts keep the numbers of the disk, and the process is another.
    assert_eq!(owner(&["idmap.mode=auto"]), (0, 0));
    let id = ground.with(Caller::Root, &["idmap.mode=auto"], &["report"]).json();
    let map = id["uid_map"].to_string();
    assert!(!map.contains("0 0 "), "{map}");
    let attack = "root of a mapped jail is somebody on the host";
    sheet.row("D18", attack, "uid 0 without a map", "a uid that nobody has, and its own files");
    for maps in [
        "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }, { inside = 5, outside = 200000, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }",
        "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }, { inside = 10, outside = 100005, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }",
        "idmap={ mode = \"manual\", uid = [{ inside = 1, outside = 100000, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }",
        "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }] }",
    ] {
        let run = ground.with(Caller::Root, &[maps], &["true"]);
        assert!(said(&run).starts_with("refused, E0"), "{maps} {run:?}");
    }
    let control = "a map of distinct ranges is accepted";
    let good = "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }";
    assert_eq!(ground.with(Caller::Root, &[good], &["true"]).status, 0);
    sheet.row("D18", "maps that overlap, or lack root, or one half", control, "refused");
}
