//! A: leaving the root.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::{
    Ground, Sheet, Test, as_second_user, both, controls, privileged, said, shell, succeeds,
};
use crate::support::{CALLERS, Caller, Run, command, copy_program, finish, jailrun};

pub const TESTS: &[Test] = &[
    ("A1", double_chroot),
    ("A2", inherited_directory),
    ("A3", working_directory),
    ("A4", leaky_vessels),
    ("A5", old_root),
    ("A7", handles),
    ("A8", made_devices),
    ("A9", devices_of_the_root),
    ("A10", roots_of_processes),
    ("A11", set_user_id),
    ("A13", names_of_layers),
];

const CHROOT: &str = "security.capabilities=[\"CAP_SYS_CHROOT\"]";

fn double_chroot(sheet: &mut Sheet) {
    let ground = Ground::new("");
    // Root without capabilities cannot make it in a directory of another user.
    fs::create_dir(ground.bench.root.join(".out")).unwrap();
    let escaped = |run: &Run| {
        let answer = run.json();
        match (&answer["escaped"], &answer["errno"]) {
            (serde_json::Value::Bool(true), _) => "succeeds".to_owned(),
            (_, serde_json::Value::String(errno)) => errno.clone(),
            _ => "contained: the same root".to_owned(),
        }
    };
    for caller in CALLERS {
        assert_eq!(escaped(&ground.chroot(caller, &[], &["escape"])), "succeeds");
        let chroot = ["root.switch=chroot", CHROOT];
        assert_eq!(escaped(&ground.with(caller, &chroot, &["escape"])), "succeeds");
    }
    let control = "succeeds in a plain chroot, and with `switch = \"chroot\"`";
    let pivot = CALLERS.map(|caller| escaped(&ground.with(caller, &[CHROOT], &["escape"])));
    assert_eq!(both(&pivot[0], &pivot[1]), "contained: the same root");
    sheet.row("A1", "double chroot, with CAP_SYS_CHROOT: pivot_root alone", control, &*pivot[0]);
    let chroot = ["root.switch=chroot"];
    let bare = CALLERS.map(|caller| escaped(&ground.with(caller, &chroot, &["escape"])));
    let bare = both(&bare[0], &bare[1]);
    assert_eq!(bare, "EPERM");
    sheet.row("A1", "double chroot in a chroot: the missing capability alone", control, bare);
}

/// jailrun, or the launcher without steps, with descriptor 7 open on `/`.
fn with_descriptor(ground: &Ground, caller: Caller, without: bool, words: &str) -> Run {
    let unit = ground.bench.unit.display();
    let program = match without {
        true => format!("{} CloseFds {unit}", crate::support::without().display()),
        false => format!("{} up --quiet {unit}", jailrun().display()),
    };
    let script = format!("exec 7</; exec {program} -- /probe {words}");
    finish(command(caller, Path::new("sh"), &["-c", &script]).spawn().unwrap())
}

fn inherited_directory(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let mut found = Vec::new();
    for caller in CALLERS {
        let words = "open-at 7 proc/version";
        succeeds("", &with_descriptor(&ground, caller, true, words));
        found.push(said(&with_descriptor(&ground, caller, false, words)));
        let fds = with_descriptor(&ground, caller, false, "open-fds").json();
        let fds: Vec<_> = fds.as_object().unwrap().keys().cloned().collect();
        assert_eq!(fds, ["0", "1", "2"], "{caller:?}");
    }
    let stopped = both(&found[0], &found[1]);
    assert_eq!(stopped, "EBADF");
    let control = "succeeds without the step that closes descriptors";
    sheet.row("A2", "an inherited descriptor of the host's root", control, stopped);
}

fn working_directory(sheet: &mut Sheet) {
    let ground = Ground::new("");
    for caller in CALLERS {
        for fd in 3..12 {
            let cwd = format!("process.cwd=/proc/self/fd/{fd}");
            let run = ground.with(caller, &[&cwd], &["report"]);
            assert_eq!(run.status, 125, "{run:?}");
            assert!(run.stderr.contains("E0321"), "{run:?}");
            // Planning does not follow this one on a launch.
            let link = format!("link-{caller:?}-{fd}");
            symlink(format!("/proc/self/fd/{fd}"), ground.bench.root.join(&link)).unwrap();
            let cwd = format!("process.cwd=/{link}");
            let run = ground.with(caller, &[&cwd], &["report"]);
            assert_eq!(run.status, 125, "{run:?}");
            assert!(run.stderr.contains("failed: go to /link-"), "{run:?}");
        }
    }
    // A chroot keeps the directory it is told to keep.
    let script = format!(
        "exec 7</; cd /proc/self/fd/7 && exec chroot --skip-chdir / /proc/self/fd/7{} stat etc",
        ground.bench.root.join("probe").display()
    );
    let how = "for a shell that inherits the descriptor";
    let control = controls(how, |caller| shell(caller, &script));
    let attack = "a working directory behind /proc/self/fd, by path and by link";
    sheet.row("A3", attack, control, "refused: E0321, by link the step that goes there");
}

fn leaky_vessels(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let program = "proc/self/fd/7/proc/self/exe";
    for caller in CALLERS {
        for fd in 3..12 {
            let path = format!("/proc/self/fd/{fd}/../../probe");
            let run = ground.bench.up(caller, &["--", &path, "true"]);
            assert_eq!(run.status, 125, "{run:?}");
            assert!(run.stderr.contains("E0305"), "{run:?}");
        }
        let name = format!("link-{caller:?}");
        symlink(format!("/{program}"), ground.bench.root.join(&name)).unwrap();
        let run = ground.bench.up(caller, &["--", &format!("/{name}"), "true"]);
        assert!((126..=127).contains(&run.status), "{run:?}");
        let report = ground.jail(caller, &["report"]).json();
        assert_eq!(report["cwd"], "/");
    }
    // The same descriptor in a chroot leads to a program of the host.
    let root = ground.bench.root.display();
    let script = format!("exec 7</; exec chroot {root} /probe open-at 7 bin/sh");
    let how = "in a chroot that inherits a descriptor";
    let control = controls(how, |caller| shell(caller, &script));
    let attack = "a command behind /proc/self/fd, by path and by link (CVE-2024-21626)";
    sheet.row("A4", attack, control, "refused, E0305; by link not found or a magic link");
}

/// The targets of mounts that the probe tells.
fn targets(answer: &serde_json::Value) -> Vec<String> {
    let mounts = answer["mounts"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let mut targets: Vec<String> =
        mounts.iter().map(|mount| mount["target"].as_str().unwrap().to_owned()).collect();
    targets.sort();
    targets
}

/// What root's plan says is mounted, by the order of names.
fn planned(ground: &Ground, set: &[String]) -> Vec<String> {
    use jailrun::plan::step::Step;
    let command = ["/probe".to_owned()];
    let unit = jailrun::unit::load(&ground.bench.unit, set, &command).unit.unwrap();
    let machine = jailrun::host::Machine::default();
    let planning = jailrun::plan::plan(&unit, &machine, jailrun::plan::Care::Launch);
    let expected =
        planning.plan.unwrap().steps.into_iter().find_map(|planned| match planned.step {
            Step::VerifyMounts { expected } => Some(expected),
            _ => None,
        });
    let mut targets: Vec<String> =
        expected.unwrap().iter().map(|mount| mount.target.display().to_string()).collect();
    targets.sort();
    targets
}

fn old_root(sheet: &mut Sheet) {
    let ground = Ground::new("");
    fs::create_dir(ground.bench.root.join(".out")).unwrap();
    let planned = planned(&ground, &[CHROOT.to_owned()]);
    let host = || fs::read_to_string("/proc/thread-self/mountinfo").unwrap().lines().count();
    for caller in CALLERS {
        // With the old root still mounted below, its mounts can be seen from there.
        let open = ground.with(caller, &["root.switch=chroot", CHROOT], &["escape"]).json();
        assert_eq!(open["escaped"], true, "the control: {open}");
        let seen = targets(&open).len();
        assert!(seen >= host() + planned.len(), "the control: {seen}");
        let inside = ground.with(caller, &[CHROOT], &["escape"]).json();
        assert_eq!((targets(&inside), &inside["escaped"]), (planned.clone(), &false.into()));
        assert_eq!(targets(&ground.jail(caller, &["report"]).json()), planned, "{caller:?}");
    }
    let attack = "mounts of the old root, seen after a double chroot with CAP_SYS_CHROOT";
    let control = "the host's are there with `switch = \"chroot\"`";
    sheet.row("A5", attack, control, "exactly the planned mounts");
    // A mask that is left out, a mount that was not planned, a missing flag.
    let words = ["true"];
    for parts in ["Mask", "unplanned", "nosuid"] {
        for caller in CALLERS {
            let open = ground.without(caller, parts, &[], &words);
            assert_eq!(open.status, 0, "the control: {parts} {open:?}");
            let refused = ground.without(caller, &format!("{parts},compared"), &[], &words);
            assert_eq!(refused.status, 125, "{parts} {refused:?}");
            assert!(refused.stderr.contains("VerifyMounts: "), "{parts} {refused:?}");
        }
    }
    let attack = "a mount that is missing, not planned, or lacks nosuid: the comparison alone";
    sheet.row("A5", attack, "starts without the comparison", "refused: the step that compares");
}

fn handles(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let words = ["handle", "/probe"];
    let how = "in a plain chroot, and with neither";
    let control = controls(how, |caller| ground.chroot(caller, &[], &words));
    let neither = "LimitCapabilities,SetCapabilities,LoadSeccomp";
    assert_eq!(controls(how, |caller| ground.without(caller, neither, &[], &words)), control);
    let capability =
        CALLERS.map(|caller| said(&ground.with(caller, &["security.seccomp=off"], &words)));
    let stopped = both(&capability[0], &capability[1]);
    assert_eq!(stopped, "EPERM");
    let attack = "open_by_handle_at, past every root: the missing capability alone";
    sheet.row("A7", attack, &*control, stopped);
    let kept = "LimitCapabilities,SetCapabilities";
    let filter = CALLERS.map(|caller| said(&ground.without(caller, kept, &[], &words)));
    let filter = both(&filter[0], &filter[1]);
    assert_eq!(filter, "EPERM");
    sheet.row("A7", "open_by_handle_at, past every root: seccomp alone", control, filter);
    assert_eq!(ground.both(&words), "EPERM");
}

/// A block device of the host that its root can open.
fn disk() -> (u32, u32) {
    let mut found: Vec<_> = fs::read_dir("/sys/block")
        .unwrap()
        .map(|entry| entry.unwrap().path().join("dev"))
        .filter_map(|path| {
            let number = fs::read_to_string(path).ok()?;
            let (major, minor) = number.trim().split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        })
        // Not a loop device, which may be without a file.
        .filter(|(major, _)| *major != 7)
        .collect();
    found.sort_unstable();
    *found.first().expect("the host has a disk")
}

const MKNOD: &str = "security.capabilities=[\"CAP_MKNOD\"]";

fn made_devices(sheet: &mut Sheet) {
    let ground = Ground::new("");
    // Otherwise the directory's permissions speak before the protection.
    fs::set_permissions(&ground.bench.root, fs::Permissions::from_mode(0o777)).unwrap();
    let (major, minor) = disk();
    let (major, minor) = (major.to_string(), minor.to_string());
    let words = |path: &'static str| ["device", path, "b", &major, &minor].map(str::to_owned);
    let in_root = words("/node");
    let in_root: Vec<&str> = in_root.iter().map(String::as_str).collect();
    let remove = || fs::remove_file(ground.bench.root.join("node")).unwrap();
    let control = controls("in a plain chroot", |caller| {
        let run = ground.chroot(caller, &[], &in_root);
        if caller == Caller::Root {
            remove();
        }
        run
    });
    let capability = ground.without(Caller::Root, "nodev", &[], &in_root);
    assert_eq!(said(&capability), "EPERM", "{capability:?}");
    assert_eq!(capability.json()["step"], "mknod");
    sheet.row("A8", "mknod of the host's disk: the missing capability alone", &*control, "EPERM");
    let neither = ground.without(Caller::Root, "nodev,LimitDevices", &[MKNOD], &in_root);
    succeeds("with none of the three", &neither);
    remove();
    let nodev = ground.without(Caller::Root, "LimitDevices", &[MKNOD], &in_root);
    assert_eq!(said(&nodev), "EACCES", "{nodev:?}");
    assert_eq!(nodev.json()["step"], "open");
    remove();
    sheet.row("A8", "mknod of the host's disk: nodev alone", &*control, "EACCES");
    let controller = ground.without(Caller::Root, "nodev", &[MKNOD], &in_root);
    assert_eq!(said(&controller), "EPERM", "{controller:?}");
    sheet.row("A8", "mknod of the host's disk: the devices controller alone", &*control, "EPERM");
    let made = command(
        Caller::Root,
        Path::new("mknod"),
        &[ground.bench.root.join("node").to_str().unwrap(), "b", &major, &minor],
    );
    assert!({ made }.status().unwrap().success());
    let there = ground.without(Caller::Root, "nodev", &[MKNOD], &in_root);
    assert_eq!((said(&there), &there.json()["step"]), ("EPERM".to_owned(), &"open".into()));
    remove();
    assert_eq!(ground.both(&in_root), "EPERM");
}

fn devices_of_the_root(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let (major, minor) = disk();
    let node = ground.bench.root.join("disk");
    let made = Command::new("mknod")
        .arg("-m666")
        .arg(&node)
        .args(["b", &major.to_string(), &minor.to_string()])
        .status();
    assert!(made.unwrap().success());
    let words = ["open-file", "/disk", "r"];
    let control = controls("in a plain chroot", |caller| ground.chroot(caller, &[], &words));
    let stopped = ground.both(&words);
    assert_eq!(stopped, "EACCES");
    sheet.row("A9", "a device node that the root brings along", control, stopped);
}

/// A process of the caller outside, ended when it goes out of scope.
pub struct Outside(std::process::Child);

impl Outside {
    pub fn sleep(caller: Caller) -> Self {
        let mut sleep = command(caller, Path::new("sleep"), &["60"]);
        let child = sleep.env("CANARY", "visible").spawn().unwrap();
        let status = format!("/proc/{}/cmdline", child.id());
        crate::support::eventually("it runs", || {
            fs::read_to_string(&status).is_ok_and(|line| line.starts_with("sleep"))
        });
        Self(child)
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

fn roots_of_processes(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let mut found = Vec::new();
    for caller in CALLERS {
        let outside = Outside::sleep(caller);
        let cmdline = format!("/proc/{}/cmdline", outside.pid());
        let words = ["open-file", &cmdline, "r"];
        succeeds("", &ground.with(caller, &["namespaces.pid=host"], &words));
        found.push(said(&ground.jail(caller, &words)));
        let root = format!("/proc/{}/root/etc", outside.pid());
        found.push(said(&ground.jail(caller, &["stat", &root])));
        if caller == Caller::Root {
            let trace = ["namespaces.pid=host", "security.capabilities=all"];
            succeeds("", &ground.with(caller, &trace, &["stat", &root]));
        }
    }
    assert!(found.iter().all(|found| found == "ENOENT"), "{found:?}");
    let control = "succeeds with `namespaces.pid = \"host\"` (and every capability)";
    sheet.row("A10", "/proc/PID/root of a process of the host", control, "ENOENT");
}

fn set_user_id(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let file = ground.bench.root.join("setuid");
    copy_program(&ground.bench.root.join("probe"), &file);
    let euid = |run: &Run| run.json()["euid"].as_u64().unwrap();
    let unit = ground.bench.unit.to_str().unwrap();
    let words = ["--", "/setuid", "ids"];
    for caller in CALLERS {
        // Who is root inside.
        let owner = if caller == Caller::Root { 0 } else { crate::support::USER };
        std::os::unix::fs::chown(&file, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
        let user = as_second_user(caller);
        let without = |parts: &str| {
            let words = [&[parts, unit], user, &words].concat();
            euid(&privileged(caller, crate::support::without(), &words))
        };
        assert_eq!(without("nosuid,NoNewPrivileges,LoadSeccomp"), 0, "the control: {caller:?}");
        assert_eq!(without("NoNewPrivileges,LoadSeccomp"), 1000, "nosuid: {caller:?}");
        assert_eq!(without("nosuid"), 1000, "no_new_privs: {caller:?}");
        let set: Vec<&str> = user.iter().flat_map(|set| ["--set", *set]).collect();
        let up = [&["up", "--quiet", unit], &*set, &words].concat();
        assert_eq!(euid(&privileged(caller, jailrun(), &up)), 1000, "{caller:?}");
    }
    std::os::unix::fs::chown(&file, Some(0), Some(0)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let root = ground.bench.root.display().to_string();
    let chroot = ["--userspec=1000:1000", &root, "/setuid", "ids"];
    let plain = finish(command(Caller::Root, Path::new("chroot"), &chroot).spawn().unwrap());
    assert_eq!(euid(&plain), 0, "{plain:?}");
    let control = "euid 0 without both, and in root's plain chroot";
    sheet.row("A11", "a set-user-id program: nosuid alone", control, "euid 1000");
    sheet.row("A11", "a set-user-id program: no_new_privs alone", control, "euid 1000");
    // The other way: what the jail leaves is out of reach for users of the host.
    let state = fs::metadata("/run/jailrun").or_else(|_| fs::metadata("/dev/shm/jailrun-0"));
    if let Ok(state) = state {
        assert_eq!((state.mode() & 0o777, state.uid()), (0o700, 0));
    }
}

fn names_of_layers(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let root = ground.bench.root.display();
    let mut units = 0;
    let mut unit = |lower: &Path| {
        units += 1;
        let path = ground.path().join(format!("layers-{units}.toml"));
        let text = format!(
            "name = \"{}\"\n[root]\nlower = ['{}', '{root}']\n",
            ground.bench.name,
            lower.display(),
        );
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    for name in ["a:b", "a,upperdir=.", "a\\b", "a b"] {
        let lower = ground.path().join(name);
        fs::create_dir_all(lower.join("etc")).unwrap();
        fs::write(lower.join("mark"), "").unwrap();
        let unit = unit(&lower);
        for caller in CALLERS {
            let words = ["up", "--quiet", &unit, "--", "/probe", "find", "mark"];
            let seen = crate::support::run(caller, &words);
            assert_eq!(said(&seen), "succeeds", "{name} {seen:?}");
        }
    }
    // Unescaped, this is the name of two directories, and the second is a
    // secret of the host's.
    let secret = ground.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("treasure"), "").unwrap();
    let ours = ground.path().join("ours");
    fs::create_dir(&ours).unwrap();
    let lower = PathBuf::from(format!("{}:{}", ours.display(), secret.display()));
    fs::create_dir_all(&lower).unwrap();
    fs::write(lower.join("mark"), "").unwrap();
    let unit = unit(&lower);
    let words = ["--", "/probe", "find", "treasure", "mark"];
    let seen = |run: &Run| run.json()["seen"].clone();
    let left_out = |caller, parts: &str| {
        let words = [&[parts, &*unit][..], &words].concat();
        seen(&finish(command(caller, crate::support::without(), &words).spawn().unwrap()))
    };
    for caller in CALLERS {
        assert_eq!(left_out(caller, "LinkLayer,escaping"), json!(["treasure"]), "the control");
        // The short name of a link has no colon, nor has the number of a
        // descriptor.
        assert_eq!(left_out(caller, "escaping"), json!(["mark"]), "{caller:?}");
        assert_eq!(left_out(caller, "LinkLayer"), json!(["mark"]), "{caller:?}");
        let words = [&["up", "--quiet", &*unit][..], &words].concat();
        assert_eq!(seen(&crate::support::run(caller, &words)), json!(["mark"]), "{caller:?}");
    }
    // What mount(8) makes of it, in the plainest way.
    let script = format!(
        "mount -t overlay o -o 'lowerdir={}:{root}' {root}/data && ls {root}/data",
        lower.display()
    );
    for caller in CALLERS {
        let plain = shell(caller, &script);
        assert!(plain.stdout.lines().any(|name| name == "treasure"), "the control: {plain:?}");
    }
    let control = "the host's other directory with mount(8), and without both";
    let stopped = "exactly that directory";
    let attack = "a colon in the name of an overlay's layer: short links alone";
    sheet.row("A13", attack, control, stopped);
    let attack = "a colon in the name of an overlay's layer: its descriptor alone";
    sheet.row("A13", attack, control, stopped);
    // A directory of the upper layer says that it was another one below.
    let ground = Ground::new("");
    let root = ground.bench.root.display();
    fs::create_dir(ground.bench.root.join("closed")).unwrap();
    fs::write(ground.bench.root.join("closed/treasure"), "").unwrap();
    let layer = ground.path().join("layer");
    fs::create_dir_all(layer.join("shown")).unwrap();
    let shown = layer.join("shown").display().to_string();
    for space in ["trusted", "user"] {
        let mark = ["-n", &format!("{space}.overlay.redirect"), "-v", "/closed", &shown];
        let set = command(Caller::Root, Path::new("setfattr"), &mark).status();
        assert!(set.unwrap().success());
    }
    let unit = ground.path().join("redirected.toml");
    let text = format!(
        "name = \"{}\"\n[root]\nlower = ['{}', '{root}']\n",
        ground.bench.name,
        layer.display()
    );
    fs::write(&unit, text).unwrap();
    let words = ["up", "--quiet", unit.to_str().unwrap(), "--", "/probe", "find", "shown/treasure"];
    let script = format!(
        "mount -t overlay o -o 'lowerdir={}:{root},redirect_dir=on' {root}/data && \
         exec chroot {root}/data /probe find shown/treasure",
        layer.display()
    );
    let control = succeeds("with mount(8) and `redirect_dir=on`", &shell(Caller::Root, &script));
    let user = shell(Caller::User, &script);
    assert_eq!((user.status, &*user.stdout), (32, ""), "mount(8) says otherwise: {user:?}");
    let control = format!("{control}; VACUOUS for a user: mount(8) is refused anyway");
    for caller in CALLERS {
        assert_eq!(seen(&crate::support::run(caller, &words)), json!([]), "{caller:?}");
    }
    let attack = "a layer that redirects a directory to another one of the layers below";
    sheet.row("A13", attack, control, "not followed");
}
