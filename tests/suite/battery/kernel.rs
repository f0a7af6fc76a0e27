//! D: the kernel's interfaces.

use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use super::{Ground, Sheet, Test, both, controls, said, shell, succeeds};
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
        let control = controls("without read-only paths", |caller| {
            ground.with(caller, &["security.read-only-paths=[]"], &words)
        });
        let stopped = ground.both(&words);
        // The file is another user's where root inside is not root outside.
        assert_eq!(stopped, "root EROFS, user EACCES", "{path}");
        sheet.row("D1", attack, control, stopped);
    }
}

/// What the lists hide.
const RECORDS: [(&str, &str); 14] = [
    ("reading /proc/kcore", "/proc/kcore"),
    ("reading /proc/kallsyms", "/proc/kallsyms"),
    ("reading /proc/keys", "/proc/keys"),
    ("reading /proc/key-users", "/proc/key-users"),
    ("reading /proc/timer_list", "/proc/timer_list"),
    ("reading /proc/interrupts", "/proc/interrupts"),
    ("reading /proc/sched_debug", "/proc/sched_debug"),
    ("reading /proc/latency_stats", "/proc/latency_stats"),
    ("listing /proc/acpi", "/proc/acpi"),
    ("listing /proc/asound", "/proc/asound"),
    ("listing /proc/scsi", "/proc/scsi"),
    ("listing /sys/firmware", "/sys/firmware"),
    ("listing powercap", "/sys/devices/virtual/powercap"),
    ("listing thermal_throttle", "/sys/devices/system/cpu/cpu0/thermal_throttle"),
];

/// Files are read, to see whether they are empty, and directories listed.
fn records(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let mut tried = Vec::new();
    for (attack, path) in RECORDS {
        if !Path::new(path).exists() {
            let stopped = ground.both(&["stat", path]);
            assert_eq!(stopped, "ENOENT", "{path}");
            sheet.row("D3", attack, format!("VACUOUS: this kernel has no {path}"), stopped);
            continue;
        }
        let is_directory = Path::new(path).is_dir();
        let look = |run: &Run| match (is_directory, run.status) {
            (true, _) => match run.json()["names"].as_array().map(Vec::len) {
                Some(0) => "empty".to_owned(),
                Some(_) => "succeeds".to_owned(),
                None => said(run),
            },
            (false, 0) if run.stdout.is_empty() => "empty".to_owned(),
            (false, 0) => "succeeds".to_owned(),
            (false, _) => said(run),
        };
        let words = [if is_directory { "list" } else { "read" }, path];
        let [root, user] = CALLERS.map(|caller| {
            let open = ["security.masked-paths=[]"];
            look(&ground.with(caller, &open, &words))
        });
        let control = match (&*root, &*user) {
            ("succeeds", "succeeds") => "succeeds without masked paths".to_owned(),
            ("succeeds", errno) => {
                format!("succeeds without masked paths; VACUOUS for a user: {errno} anyway")
            }
            (nothing, _) => format!("VACUOUS: {nothing} on this kernel"),
        };
        if root == "succeeds" {
            tried.push(path);
        }
        let [root, user] = CALLERS.map(|caller| look(&ground.jail(caller, &words)));
        let stopped = both(&root, &user);
        assert_eq!(stopped, "empty", "{path}");
        if is_directory {
            assert_eq!(ground.both(&["write", &format!("{path}/x"), ""]), "EROFS", "{path}");
        }
        sheet.row("D3", attack, control, stopped);
    }
    assert!(tried.contains(&"/proc/keys") && tried.contains(&"/proc/interrupts"), "{tried:?}");
}

fn sysfs(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let file = "/sys/kernel/mm/ksm/run";
    let file = if Path::new(file).exists() { file } else { "/sys/kernel/uevent_seqnum" };
    let words = ["open-file", file, "w"];
    let how = "where the mount is not read-only";
    let control = controls(how, |caller| ground.without(caller, "read-only", &[], &words));
    let stopped = ground.both(&words);
    assert_eq!(stopped, "root EROFS, user EACCES", "{file}");
    sheet.row("D4", "a write to /sys", control, stopped);
    for fstype in ["debugfs", "tracefs", "bpf"] {
        let words = ["mount", fstype, "/tmp"];
        let plain = |caller| ground.chroot(caller, &[], &words);
        let control = match &*said(&plain(Caller::Root)) {
            "succeeds" => controls("in a plain chroot", plain),
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
    let how = "in a chroot with /sys";
    let control = controls(how, |caller| ground.chroot(caller, &["/sys"], &words));
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
        let mut opened = 0;
        for target in targets {
            for file in ["cgroup.procs", "pids.max", "memory.limit_in_bytes"] {
                let path = format!("{target}/{file}");
                let words = ["open-file", &*path, "w"];
                let stopped = said(&ground.jail(caller, &words));
                if stopped == "ENOENT" {
                    continue;
                }
                let open = said(&ground.without(caller, "read-only", &[], &words));
                let wanted = if caller == Caller::Root { "succeeds" } else { "EACCES" };
                assert_eq!(open, wanted, "the control: {path}");
                opened += 1;
                found.push((caller == Caller::Root, stopped));
            }
        }
        assert!(opened > 0, "nothing was tried: {mounts}");
    }
    let wanted = |root: bool| if root { "EROFS" } else { "EACCES" };
    assert!(found.iter().all(|(root, stopped)| stopped == wanted(*root)), "{found:?}");
    let control = "succeeds where the groups are not read-only; VACUOUS for a user: EACCES anyway";
    sheet.row("D6", attack, control, both(wanted(true), wanted(false)));
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
    let open = ["namespaces.cgroup=host"];
    let root = paths(&ground.with(Caller::Root, &open, &["report"]));
    assert!(root.iter().any(|path| path.contains(&ground.bench.name)), "the control: {root:?}");
    // That of the test itself, where it is in one.
    let user = paths(&ground.with(Caller::User, &open, &["report"]));
    let user = match user.iter().any(|path| path != "/") {
        true => "",
        false => "; VACUOUS: a user is in the root of all groups here",
    };
    for caller in CALLERS {
        let seen = paths(&ground.jail(caller, &["report"]));
        assert!(seen.iter().all(|path| path == "/"), "{seen:?}");
    }
    let control = format!("told with `namespaces.cgroup = \"host\"`{user}");
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
    let control = "it does from a namespace that keeps the propagation \
                   (root only: the kernel keeps the mounts of a user namespace from the host)";
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
        let control = controls("with CAP_SYS_ADMIN", |caller| ground.with(caller, &[ADMIN], words));
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
    let node = ground.bench.root.join("node");
    // One of them wants CAP_SYSLOG too.
    let mknod = "security.capabilities=all";
    let (mut there, mut made) = (Vec::new(), Vec::new());
    for (name, major, minor) in NODES {
        let path = format!("/dev/{name}");
        let words = ["open-file", &*path, "r"];
        let [root, user] = CALLERS.map(|caller| said(&ground.chroot(caller, &["/dev"], &words)));
        assert_ne!(user, "succeeds", "a user may open {name}: the row says otherwise");
        there.push((name, root));
        assert_eq!(ground.both(&words), "ENOENT", "{path}");
        let words = ["device", "/node", "c", major, minor];
        made.push((
            name,
            said(&ground.without(Caller::Root, "nodev,LimitDevices", &[mknod], &words)),
        ));
        fs::remove_file(&node).unwrap();
        let nodev = ground.without(Caller::Root, "LimitDevices", &[mknod], &words);
        assert_eq!(said(&nodev), "EACCES", "{name} {nodev:?}");
        let controller = ground.without(Caller::Root, "nodev", &[mknod], &words);
        assert_eq!(said(&controller), "EPERM", "{name} {controller:?}");
        fs::remove_file(&node).unwrap();
        assert_eq!(ground.both(&words), "EPERM", "{name}: no capability");
    }
    // Those that the control opened, and why the others say nothing.
    let told = |how: &str, seen: &[(&str, String)], user: &str| {
        let (open, other): (Vec<_>, Vec<_>) = seen.iter().partition(|(_, came)| came == "succeeds");
        assert!(open.iter().any(|(name, _)| ["kmsg", "fuse"].contains(name)), "{seen:?}");
        let names: Vec<&str> = open.iter().map(|(name, _)| *name).collect();
        let mut text = format!("{how}: {}", names.join(" "));
        for (name, errno) in other {
            text += &format!("; VACUOUS: {name}, {errno} on this host");
        }
        format!("{text} (root only: {user})")
    };
    let control = told("opened in a chroot with the host's /dev", &there, "they are root's files");
    sheet.row("D19", "kmsg mem kvm fuse tun loop-control: not in /dev", control, "ENOENT");
    let control = told("opened without both", &made, "no user may make device nodes");
    sheet.row("D19", "the same made with every capability: nodev alone", &*control, "EACCES");
    let attack = "the same made with every capability: the devices controller alone";
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
    fs::set_permissions(&shm, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let seen = CALLERS.map(|caller| ground.chroot(caller, &["/dev"], &words));
    let stopped = ground.both(&words);
    fs::remove_file(&shm).unwrap();
    let [control, _] = seen.map(|run| succeeds("in a chroot with /dev", &run));
    assert_eq!(stopped, "ENOENT");
    sheet.row("D20", "a file of the host's /dev/shm", control, stopped);

    // The queue has to be made somewhere: mqueue shows it as a file.
    let at = ground.bench.root.join("data").display().to_string();
    let with_queues = |script: &str| {
        let script = format!("mount -t mqueue mqueue {at} && {script}; umount {at}");
        let run = shell(Caller::Root, &script);
        assert_eq!((run.status, &*run.stderr), (0, ""), "{run:?}");
    };
    with_queues(&format!(": > {at}/{name} && chmod 666 {at}/{name}"));
    let words = ["queue", &*name];
    let open = CALLERS.map(|caller| ground.with(caller, &["namespaces.ipc=host"], &words));
    let stopped = ground.both(&words);
    with_queues(&format!("rm {at}/{name}"));
    let [control, _] = open.map(|run| succeeds("with `namespaces.ipc = \"host\"`", &run));
    assert_eq!(stopped, "ENOENT");
    sheet.row("D20", "a POSIX message queue of the host", control, stopped);

    // In a namespace of the test's own, whose name is the host's for the jail.
    let unit = ground.bench.unit.to_str().unwrap();
    let named = |caller, uts: &str| {
        let uts = format!("namespaces.uts={uts}");
        let up = ["up", "--quiet", unit, "--set", &uts, "--set", ADMIN, "--", "/probe"];
        let up = [&up[..], &["hostname", "canary"]].concat();
        let run = command(caller, jailrun(), &up);
        let mut words = vec!["--uts", "sh", "-c", "\"$@\" && hostname", "sh"];
        words.push(run.get_program().to_str().unwrap());
        words.extend(run.get_args().map(|word| word.to_str().unwrap()));
        let run = finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap());
        let (answer, name) = run.stdout.trim().split_once('\n').unwrap_or_default();
        let answer = Run { stdout: answer.to_owned(), ..run };
        (said(&answer), name == "canary")
    };
    assert_eq!(named(Caller::Root, "host"), ("succeeds".to_owned(), true), "the control");
    assert_eq!(named(Caller::User, "host"), ("EPERM".to_owned(), false));
    for caller in CALLERS {
        assert_eq!(named(caller, "private"), ("succeeds".to_owned(), false), "{caller:?}");
    }
    let stopped = ground.both(&["hostname", "canary"]);
    assert_eq!(stopped, "EPERM");
    sheet.row(
        "D20",
        "the host's name changed",
        "succeeds with `namespaces.uts = \"host\"` and CAP_SYS_ADMIN; \
         VACUOUS for a user: EPERM anyway",
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
                let mut stopped = Vec::new();
                for caller in CALLERS {
                    let run = ground.without(caller, NEITHER, &[], &words);
                    assert!(run.stdout.contains("\"ok\":true"), "{run:?}");
                    stopped.push(said(&ground.without(caller, CAPABILITIES, &[], &words)));
                }
                ("succeeds".to_owned(), both(&stopped[0], &stopped[1]))
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
    let open = |caller| ground.with(caller, &["security.seccomp=off"], &["compat"]);
    let control = match &*said(&open(Caller::Root)) {
        "succeeds" => controls("with `seccomp = \"off\"`", open),
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
    let mut root_only = Vec::new();
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
        let [open, user] =
            CALLERS.map(|caller| said(&ground.without(caller, NEITHER, &[], &words)));
        if open == "ENOSYS" || open == "EPERM" {
            vacuous.push(name);
        } else {
            refused.push(name);
            if user == "EPERM" {
                root_only.push(name);
            }
        }
        for caller in CALLERS {
            let jail = said(&ground.without(caller, CAPABILITIES, &[], &words));
            let errno = if name.starts_with("io_uring") { "ENOSYS" } else { "EPERM" };
            assert_eq!(jail, errno, "{name} {caller:?}");
        }
    }
    assert!(refused.contains(&"io_uring_setup") && refused.contains(&"bpf"), "{vacuous:?}");
    let attack = "io_uring bpf perf_event_open userfaultfd swapon reboot settimeofday quotactl: seccomp alone";
    let control = match &*root_only {
        [] => "each reaches the kernel without the filter".to_owned(),
        names => format!(
            "each reaches the kernel without the filter; VACUOUS for a user: EPERM anyway from {}",
            names.join(" ")
        ),
    };
    sheet.row("D12", attack, control, "EPERM; io_uring ENOSYS");
    let attack = "kexec_load and the calls of modules: seccomp alone";
    let control = match &*vacuous {
        [] => "each reaches the kernel without the filter".to_owned(),
        names => format!("VACUOUS: this kernel has no {}", names.join(" ")),
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
    let control = "uid 0 without a map (root only: a user's jail is never root of the host)";
    sheet.row("D18", attack, control, "a uid that nobody has, and its own files");
    for maps in [
        "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }, { inside = 5, outside = 200000, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }",
        "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }, { inside = 10, outside = 100005, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }",
        "idmap={ mode = \"manual\", uid = [{ inside = 1, outside = 100000, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }",
        "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }] }",
    ] {
        let run = ground.with(Caller::Root, &[maps], &["true"]);
        assert!(said(&run).starts_with("refused, E0"), "{maps} {run:?}");
    }
    // Nobody is harmed by the others: the kernel refuses the overlaps too, and
    // what is not mapped has no rights.
    let overlap = "unshare -U sleep 60 & \
                   until [ \"$(readlink /proc/$!/ns/user)\" != \"$(readlink /proc/$$/ns/user)\" ]; \
                   do sleep 0.01; done; \
                   map() { printf \"$1\" >/proc/$!/uid_map; echo $?; }; \
                   map '0 100000 10\\n5 200000 10\\n'; map '0 100000 5\\n5 200000 10\\n'; kill $!";
    let kernel = shell(Caller::Root, overlap);
    assert_eq!(kernel.stdout, "1\n0\n", "{kernel:?}");
    let control = "VACUOUS: the kernel refuses overlaps too; a map of distinct ranges is accepted";
    let good = "idmap={ mode = \"manual\", uid = [{ inside = 0, outside = 100000, count = 10 }], gid = [{ inside = 0, outside = 100000, count = 10 }] }";
    assert_eq!(ground.with(Caller::Root, &[good], &["true"]).status, 0);
    sheet.row(
        "D18",
        "maps that overlap, or lack root, or one half",
        control,
        "refused, before anything is made",
    );
}
