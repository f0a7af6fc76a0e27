//! The attacks a jail must stop, each by three rules: without the protection
//! it succeeds (or the row says VACUOUS, and why); the jail stops it with the
//! errno or observation that is named; the host is as it was.
//!
//! Every row is run, and what failed is told at the end. The results are one
//! table, in `man/jailrun-security.7`; `UPDATE=1` writes it.

mod exhaustion;
mod kernel;
mod leaving;
mod page;
mod peers;
mod processes;
mod setup;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{Bench, CALLERS, Caller, Run, command, finish, jailrun, leftovers, without};

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// As in the list of attacks; several rows may have one.
    pub id: &'static str,
    /// What is tried, and where several layers overlap, which one is left.
    pub attack: &'static str,
    /// How it goes without the protection.
    pub control: String,
    /// How it goes in a jail.
    pub jailrun: String,
}

/// The results.
#[derive(Default)]
pub struct Sheet {
    rows: Vec<Row>,
}

impl Sheet {
    /// Writes down a row that went as it must.
    pub fn row(
        &mut self,
        id: &'static str,
        attack: &'static str,
        control: impl Into<String>,
        jailrun: impl Into<String>,
    ) {
        self.rows.push(Row { id, attack, control: control.into(), jailrun: jailrun.into() });
    }
}

/// An attack's name and what tries it.
pub type Test = (&'static str, fn(&mut Sheet));

/// A root with a jail's unit, and what of the host must stay.
pub struct Ground {
    pub bench: Bench,
    canaries: Canaries,
}

impl Ground {
    /// A unit with that text after `[root]`.
    pub fn new(text: &str) -> Self {
        Self::with_root("", text)
    }

    pub fn with_root(root: &str, text: &str) -> Self {
        let bench = Bench::with_root(root, text);
        fs::write(bench.directory.path().join("marker"), "untouched").unwrap();
        fs::create_dir(bench.directory.path().join("source")).unwrap();
        fs::write(bench.directory.path().join("source/marker"), "untouched").unwrap();
        let canaries = Canaries::of(&bench);
        Self { bench, canaries }
    }

    /// The directory that holds the root.
    pub fn path(&self) -> &Path {
        self.bench.directory.path()
    }

    /// The probe in the jail.
    pub fn jail(&self, caller: Caller, words: &[&str]) -> Run {
        self.bench.probe(caller, words)
    }

    /// The probe in the jail, with keys set.
    pub fn with(&self, caller: Caller, set: &[&str], words: &[&str]) -> Run {
        let mut all: Vec<&str> = set.iter().flat_map(|set| ["--set", *set]).collect();
        all.extend(["--", "/probe"]);
        all.extend(words);
        self.bench.up(caller, &all)
    }

    /// The probe in the jail without parts of the plan.
    pub fn without(&self, caller: Caller, parts: &str, set: &[&str], words: &[&str]) -> Run {
        let mut all = vec![parts, self.bench.unit.to_str().unwrap()];
        all.extend(set);
        all.extend(["--", "/probe"]);
        all.extend(words);
        finish(command(caller, without(), &all).spawn().unwrap())
    }

    /// The probe in the root, entered with chroot(8), with directories of the
    /// host bound to the same place.
    pub fn chroot(&self, caller: Caller, binds: &[&str], words: &[&str]) -> Run {
        let root = self.bench.root.display();
        let mut script = String::new();
        for bind in binds {
            script += &format!("mount --rbind {bind} {root}{bind} && ");
        }
        script += &format!("exec chroot {root} /probe \"$@\"");
        let unshare = if caller == Caller::Root { "-m" } else { "-Urm" };
        let mut all = vec![unshare, "sh", "-c", &script, "sh"];
        all.extend(words);
        finish(command(caller, Path::new("unshare"), &all).spawn().unwrap())
    }

    /// How the attack goes for root and for an ordinary user.
    pub fn both(&self, words: &[&str]) -> String {
        let [root, user] = CALLERS.map(|caller| said(&self.jail(caller, words)));
        both(&root, &user)
    }

    /// Fails when the host has changed.
    pub fn assert_host_unchanged(&self) {
        self.bench.assert_nothing_left();
        let (now, before) = (Canaries::of(&self.bench), &self.canaries);
        assert_eq!(now.mounts, before.mounts, "the host's mounts");
        assert_eq!(now.groups, before.groups, "the host's control groups");
        assert_eq!(now.devices, before.devices, "the host's /dev");
        assert_eq!(now.links, before.links, "the host's links");
        assert_eq!(&now, before, "the host has changed");
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_host_unchanged();
        }
    }
}

/// `root X, user Y`, or what is the same for both.
pub fn both(root: &str, user: &str) -> String {
    if root == user { root.to_owned() } else { format!("root {root}, user {user}") }
}

/// What an attempt came to: `succeeds`, an errno, or how the launch was refused.
pub fn said(run: &Run) -> String {
    if let Ok(answer) = serde_json::from_str::<Value>(&run.stdout) {
        return match (&answer["ok"], answer["errno"].as_str()) {
            (Value::Bool(true), _) => "succeeds".to_owned(),
            (_, Some(errno)) => errno.to_owned(),
            _ => format!("unclear: {answer}"),
        };
    }
    let code = run.stderr.split("error[").nth(1).and_then(|rest| rest.split(']').next());
    match (run.status, code) {
        (125, Some(code)) => format!("refused, {code}"),
        (125, None) => "refused".to_owned(),
        _ => format!("unclear: {run:?}"),
    }
}

/// A control must succeed; returns how it is told.
pub fn succeeds(how: &str, run: &Run) -> String {
    assert_eq!(said(run), "succeeds", "the control ({how}): {run:?}");
    format!("succeeds {how}")
}

/// A control of both callers. Where an ordinary user is refused even without
/// the protection, the row says so, and that it proves nothing for them.
pub fn controls(how: &str, attempt: impl Fn(Caller) -> Run) -> String {
    let root = succeeds(how, &attempt(Caller::Root));
    match &*said(&attempt(Caller::User)) {
        "succeeds" => root,
        unclear if !unclear.starts_with('E') => panic!("the user's control ({how}): {unclear}"),
        errno => format!("{root}; VACUOUS for a user: {errno} anyway"),
    }
}

/// A script in a mount namespace of its own, as root; for an ordinary user, in
/// a user namespace too.
pub fn shell(caller: Caller, script: &str) -> Run {
    let unshare = if caller == Caller::Root { "-m" } else { "-Urm" };
    let words = [unshare, "sh", "-c", script];
    finish(command(caller, Path::new("unshare"), &words).spawn().unwrap())
}

/// What of the host no attack may change.
#[derive(Debug, PartialEq, Eq)]
struct Canaries {
    mounts: Vec<String>,
    groups: BTreeSet<PathBuf>,
    markers: Vec<(PathBuf, String)>,
    devices: Vec<String>,
    settings: Vec<(&'static str, String)>,
    links: Vec<String>,
    state: Vec<String>,
    /// Device, inode, size, and times of change.
    binary: (u64, u64, u64, i64, i64),
    /// In other mount namespaces, with the root in sight.
    processes: usize,
}

impl Canaries {
    fn of(bench: &Bench) -> Self {
        let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
        let list = |path: &str| {
            let mut names: Vec<String> = fs::read_dir(path)
                .map(|entries| entries.map(|e| e.unwrap().file_name().into_string().unwrap()))
                .map(Iterator::collect)
                .unwrap_or_default();
            names.sort();
            names
        };
        let mut mounts: Vec<String> =
            read(Path::new("/proc/thread-self/mountinfo")).lines().map(str::to_owned).collect();
        mounts.sort();
        // Jails of other tests come and go.
        let foreign = |name: &str| name.starts_with("jail") && !name.contains(&bench.name);
        let groups = list("/sys/fs/cgroup")
            .iter()
            .flat_map(|hierarchy| {
                let hierarchy = Path::new("/sys/fs/cgroup").join(hierarchy);
                list(hierarchy.to_str().unwrap())
                    .into_iter()
                    .filter(|name| !foreign(name))
                    .map(move |name| hierarchy.join(name))
            })
            .filter(|path| path.is_dir())
            .collect();
        let directory = bench.directory.path();
        let markers = ["marker", "source/marker"]
            .map(|name| directory.join(name))
            .map(|path| (path.clone(), read(&path)))
            .into();
        // Loop devices and terminals of other tests come and go.
        let devices = list("/dev").into_iter().filter(|name| !name.starts_with("loop")).collect();
        let settings = ["kernel/core_pattern", "kernel/modprobe", "kernel/hostname"]
            .map(|name| (name, read(&Path::new("/proc/sys").join(name))))
            .into();
        let binary = fs::metadata(jailrun()).unwrap();
        let own = fs::read_link("/proc/thread-self/ns/mnt").unwrap();
        let processes = list("/proc")
            .iter()
            .filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit()))
            .map(|pid| Path::new("/proc").join(pid))
            .filter(|process| fs::read_link(process.join("ns/mnt")).is_ok_and(|ns| ns != own))
            .filter(|process| {
                read(&process.join("mountinfo")).contains(directory.to_str().unwrap())
            })
            .count();
        Self {
            mounts,
            groups,
            markers,
            devices,
            settings,
            links: list("/sys/class/net"),
            state: leftovers(&bench.name),
            binary: (binary.dev(), binary.ino(), binary.size(), binary.mtime(), binary.ctime()),
            processes,
        }
    }
}

/// Takes this thread, and what it starts, into a mount namespace of its own:
/// what other tests mount is no business of the canaries.
fn own_mounts() {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
}

/// Gives the ordinary user a range of ids, in this thread's mount namespace:
/// with it a jail of theirs can have a second user.
fn own_ranges() -> tempfile::NamedTempFile {
    use nix::mount::{MsFlags, mount};
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "nobody:100000:65536\n").unwrap();
    fs::set_permissions(file.path(), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let none: Option<&str> = None;
    for target in ["/etc/subuid", "/etc/subgid"] {
        mount(Some(file.path()), target, none, MsFlags::MS_BIND, none)
            .unwrap_or_else(|errno| panic!("{target}: {errno}; Debian has it in passwd"));
    }
    file
}

/// An ordinary user's command that a set-user-id program may give privileges,
/// as newuidmap does; for root, any command.
pub fn privileged(caller: Caller, program: &Path, words: &[&str]) -> Run {
    let mut all = match caller {
        Caller::Root => vec!["--clear-groups"],
        Caller::User => vec!["--reuid=65534", "--regid=65534", "--clear-groups"],
    };
    all.push(program.to_str().unwrap());
    all.extend(words);
    let mut command = command(Caller::Root, Path::new("setpriv"), &all);
    finish(command.env_remove("XDG_RUNTIME_DIR").spawn().unwrap())
}

/// The keys with which a caller's jail runs as uid 1000.
pub fn as_second_user(caller: Caller) -> &'static [&'static str] {
    match caller {
        Caller::Root => &["process.user=1000"],
        Caller::User => &["process.user=1000", "idmap.mode=auto"],
    }
}

#[test]
fn every_attack_is_stopped() {
    let tests: Vec<Test> =
        [leaving::TESTS, setup::TESTS, processes::TESTS, kernel::TESTS, exhaustion::TESTS].concat();
    own_mounts();
    let _ranges = own_ranges();
    let only = std::env::var("BATTERY").ok();
    let marker = tempfile::Builder::new().prefix("jailrun-test-").tempfile_in("/").unwrap();
    fs::write(marker.path(), "untouched").unwrap();
    let mut sheet = Sheet::default();
    let mut failed = Vec::new();
    for (name, test) in &tests {
        if only.as_ref().is_some_and(|only| !only.split(',').any(|id| id == *name)) {
            continue;
        }
        let began = std::time::Instant::now();
        if catch_unwind(AssertUnwindSafe(|| test(&mut sheet))).is_err() {
            failed.push(*name);
        }
        // Shown when something fails.
        eprintln!("{name} took {:?}: {:?}", began.elapsed(), sheet.rows.last());
    }
    assert_eq!(fs::read_to_string(marker.path()).unwrap(), "untouched");
    assert!(failed.is_empty(), "not stopped, or without a control: {failed:?}");
    if only.is_none() {
        page::compare("attacks", &sheet.rows.iter().map(page::of_row).collect::<Vec<_>>());
    }
}
