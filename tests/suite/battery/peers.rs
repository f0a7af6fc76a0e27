//! Other launchers, against the attacks whose outcome does not depend on
//! timing: the same root, and as close to their defaults as they let one be.
//! One that is not there, does not run on the machine, or has another version
//! is taken from README.md as it stands.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{own_mounts, page, said};
use crate::support::{
    Caller, Run, command, copy_program, finish, jailrun, root_with_probe, scratch, unique,
};

const PEERS: [&str; 5] = ["bubblewrap", "crun", "runc", "systemd-nspawn", "jailrun"];

/// What is run, and how it differs from the launcher's defaults.
#[derive(Default)]
struct Wanted {
    user: bool,
    /// Source, target, and whether it is read-only.
    bind: Option<(PathBuf, &'static str, bool)>,
}

/// A root, and the command lines that run the probe in it.
struct Place {
    directory: tempfile::TempDir,
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let directory = scratch();
        let root = root_with_probe(directory.path());
        let chown = ["-R", "0:0", directory.path().to_str().unwrap()];
        assert!(command(Caller::Root, Path::new("chown"), &chown).status().unwrap().success());
        fs::create_dir(root.join("usr")).unwrap();
        fs::create_dir(directory.path().join("victim")).unwrap();
        Self { directory, root }
    }

    fn victim(&self) -> PathBuf {
        self.directory.path().join("victim")
    }

    /// What is in the victim's directory.
    fn touched(&self) -> bool {
        fs::read_dir(self.victim()).unwrap().count() > 0
    }

    fn line(&self, peer: &str, wanted: &Wanted, command: &[&str]) -> String {
        let root = self.root.display();
        let words = command.join(" ");
        match peer {
            "bubblewrap" => {
                let bind = wanted.bind.as_ref().map_or(String::new(), |(from, to, read_only)| {
                    let option = if *read_only { "--ro-bind" } else { "--bind" };
                    format!("{option} {} {to}", from.display())
                });
                let user = if wanted.user {
                    "setpriv --reuid=1000 --regid=1000 --clear-groups "
                } else {
                    ""
                };
                format!(
                    "{user}bwrap --unshare-all --bind {root} / --proc /proc --dev /dev {bind} -- {words}"
                )
            }
            "systemd-nspawn" => {
                let bind = wanted.bind.as_ref().map_or(String::new(), |(from, to, read_only)| {
                    let option = if *read_only { "--bind-ro" } else { "--bind" };
                    format!("{option}={}:{to}", from.display())
                });
                let user = if wanted.user { "--user=alice" } else { "" };
                format!(
                    "systemd-nspawn --register=no --keep-unit --settings=no -q --pipe {user} {bind} -D {root} {words}"
                )
            }
            "jailrun" => {
                let user = if wanted.user { "user = 1000\n" } else { "" };
                let bind = wanted.bind.as_ref().map_or(String::new(), |(from, to, read_only)| {
                    format!(
                        "[[mounts]]\nbind = \"{}\"\ntarget = \"{to}\"\nread-only = {read_only}\n",
                        from.display()
                    )
                });
                let unit = self.directory.path().join("unit.toml");
                let name = unique("peer");
                fs::write(
                    &unit,
                    format!(
                        "name = \"{name}\"\n[root]\npath = \"{root}\"\n{bind}[process]\n{user}"
                    ),
                )
                .unwrap();
                format!("{} up --quiet {} -- {words}", jailrun().display(), unit.display())
            }
            oci => self.bundle(oci, wanted, command),
        }
    }

    fn bundle(&self, program: &str, wanted: &Wanted, words: &[&str]) -> String {
        let bundle = self.directory.path();
        let config = bundle.join("config.json");
        if config.exists() {
            fs::remove_file(&config).unwrap();
        }
        let spec =
            command(Caller::Root, Path::new(program), &["spec"]).current_dir(bundle).status();
        if !spec.is_ok_and(|status| status.success()) {
            // It does not run here: nothing is started, and it is not compared.
            return "false".to_owned();
        }
        let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
        spec["root"] = json!({ "path": self.root, "readonly": false });
        spec["process"]["args"] = json!(words);
        spec["process"]["terminal"] = json!(false);
        if wanted.user {
            spec["process"]["user"] = json!({ "uid": 1000, "gid": 1000 });
        }
        // A control group is no part of these attacks.
        let mounts = spec["mounts"].as_array_mut().unwrap();
        mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
        if let Some((from, to, read_only)) = &wanted.bind {
            let access = if *read_only { "ro" } else { "rw" };
            mounts.push(json!({
                "destination": to, "type": "bind", "source": from, "options": ["rbind", access],
            }));
        }
        let name = unique("peer");
        spec["linux"]["cgroupsPath"] = json!(format!("/jailrun-{name}"));
        spec["linux"]["resources"] = json!({});
        if program == "crun"
            && let Some(namespaces) = spec["linux"]["namespaces"].as_array_mut()
        {
            namespaces.retain(|namespace| namespace["type"] != "cgroup");
        }
        fs::write(&config, spec.to_string()).unwrap();
        let manager = if program == "crun" { "--cgroup-manager=disabled" } else { "" };
        let state = bundle.join("state");
        format!(
            "{program} {manager} --root {} run --bundle {} {name}",
            state.display(),
            bundle.display()
        )
    }

    fn run(&self, peer: &str, wanted: &Wanted, words: &[&str]) -> Run {
        self.shell(&self.line(peer, wanted, words))
    }

    /// In a mount namespace of its own: what is left there is gone with it.
    fn shell(&self, line: &str) -> Run {
        // It refuses hosts with both versions of control groups, and is shown
        // one with version 2 alone.
        let prepare = "umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup;";
        let line = match line.contains("crun ") {
            true => format!("{prepare} {line}"),
            false => line.to_owned(),
        };
        let words = ["-m", "sh", "-c", &line];
        finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap())
    }
}

/// What an attempt came to, or that nothing was started.
fn outcome(run: &Run) -> String {
    match run.stdout.find('{') {
        Some(at) => {
            let text = run.stdout[at..].lines().next().unwrap_or_default();
            let answer = Run { status: run.status, stdout: text.to_owned(), stderr: String::new() };
            said(&answer)
        }
        None if run.status == 159 => "killed".to_owned(),
        None => "refused".to_owned(),
    }
}

fn double_chroot(place: &Place, peer: &str) -> String {
    let run = place.run(peer, &Wanted::default(), &["/probe", "escape"]);
    match run
        .stdout
        .find('{')
        .and_then(|at| serde_json::from_str::<Value>(run.stdout[at..].trim()).ok())
    {
        Some(answer) if answer["escaped"] == true => "ESCAPED".to_owned(),
        Some(answer) => answer["errno"].as_str().unwrap_or("contained").to_owned(),
        None => "refused".to_owned(),
    }
}

fn descriptor(place: &Place, peer: &str) -> String {
    let line = place.line(peer, &Wanted::default(), &["/probe", "open-at", "7", "proc/version"]);
    match &*outcome(&place.shell(&format!("exec 7</; exec {line}"))) {
        "succeeds" => "ESCAPED".to_owned(),
        other => other.to_owned(),
    }
}

fn set_user_id(place: &Place, peer: &str) -> String {
    let file = place.root.join("setuid");
    copy_program(&place.root.join("probe"), &file);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755)).unwrap();
    let run = place.run(peer, &Wanted { user: true, ..Wanted::default() }, &["/setuid", "ids"]);
    match run.stdout.contains("\"euid\":0") {
        true => "euid 0".to_owned(),
        false if run.stdout.contains("euid") => "euid 1000".to_owned(),
        // It runs getent(1) of the root, which has none.
        false if peer == "systemd-nspawn" => "not tried".to_owned(),
        false => "refused".to_owned(),
    }
}

/// A link in the root to a directory of the host; whether that is changed.
fn linked(place: &Place, peer: &str, name: &str, bind: bool) -> String {
    let at = place.root.join(name);
    if at.is_dir() {
        fs::remove_dir(&at).unwrap();
    }
    symlink(place.victim(), &at).unwrap();
    let source = place.directory.path().join("source");
    fs::create_dir(&source).unwrap();
    let wanted = match bind {
        true => Wanted { bind: Some((source, "/link/point", false)), ..Wanted::default() },
        false => Wanted::default(),
    };
    let run = place.run(peer, &wanted, &["/probe", "find", "probe"]);
    match (place.touched(), &*outcome(&run)) {
        (true, _) => "CHANGED".to_owned(),
        (false, "refused") => "refused".to_owned(),
        (false, _) => "unchanged".to_owned(),
    }
}

fn linked_null(place: &Place, peer: &str) -> String {
    let file = place.directory.path().join("file");
    fs::write(&file, "untouched").unwrap();
    symlink(&file, place.root.join("dev/null")).unwrap();
    let run = place.run(peer, &Wanted::default(), &["/probe", "write", "/dev/null", "gone"]);
    match (fs::read_to_string(&file).unwrap() == "untouched", &*outcome(&run)) {
        (false, _) => "CHANGED".to_owned(),
        (true, "refused") => "refused".to_owned(),
        (true, _) => "unchanged".to_owned(),
    }
}

fn linked_mask(place: &Place, peer: &str) -> String {
    symlink("/proc/sys/kernel/core_pattern", place.root.join("dev/null")).unwrap();
    let run = place.run(peer, &Wanted::default(), &["/probe", "read", "/proc/keys"]);
    match (run.status, run.stdout.is_empty()) {
        (0, true) => "masked".to_owned(),
        (0, false)
            if run.stdout == fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap() =>
        {
            "ESCAPED".to_owned()
        }
        (0, false) => "SHOWN".to_owned(),
        _ => "refused".to_owned(),
    }
}

fn read_only(place: &Place, peer: &str) -> String {
    let tree = place.directory.path().join("tree");
    fs::create_dir_all(tree.join("inner")).unwrap();
    let wanted = Wanted { bind: Some((tree.clone(), "/data", true)), ..Wanted::default() };
    let line = place.line(peer, &wanted, &["/probe", "write", "/data/inner/file", "x"]);
    let tree = tree.display();
    match &*outcome(
        &place.shell(&format!("mount -t tmpfs -o mode=1777 t {tree}/inner && exec {line}")),
    ) {
        "succeeds" => "WRITTEN".to_owned(),
        other => other.to_owned(),
    }
}

fn terminal(place: &Place, peer: &str) -> String {
    let line = place.line(peer, &Wanted::default(), &["/probe", "tiocsti"]);
    let run = place.shell(&format!("exec script -qec '{line}' /dev/null </dev/null"));
    match &*outcome(&run) {
        "succeeds" => "TYPED".to_owned(),
        other => other.to_owned(),
    }
}

fn compat(place: &Place, peer: &str) -> String {
    match &*outcome(&place.run(peer, &Wanted::default(), &["/probe", "compat"])) {
        "succeeds" => "done".to_owned(),
        other => other.to_owned(),
    }
}

fn ring(place: &Place, peer: &str) -> String {
    let number = libc::SYS_io_uring_setup.to_string();
    match &*outcome(&place.run(peer, &Wanted::default(), &["/probe", "call", &number])) {
        "EINVAL" | "EFAULT" => "reached".to_owned(),
        other => other.to_owned(),
    }
}

type Attack = fn(&Place, &str) -> String;

/// What went wrong, as the manual page and as the README has it.
const WRONG: [(&str, &str); 5] = [
    ("ESCAPED", "**escaped**"),
    ("CHANGED", "**host changed**"),
    ("SHOWN", "**not masked**"),
    ("WRITTEN", "**written**"),
    ("TYPED", "**typed**"),
];

/// The attacks with their names in the manual page and in the README.
const ATTACKS: [(&str, &str, &str, Attack); 12] = [
    ("A1", "double chroot", "double chroot, with what its defaults allow", double_chroot),
    (
        "A2",
        "an inherited descriptor",
        "a descriptor of the caller's on the host's root",
        descriptor,
    ),
    (
        "A11",
        "a set-user-id program",
        "a set-user-id program of root's, run as uid 1000",
        set_user_id,
    ),
    ("B2", "/proc is a link", "`/proc` of the root is a link to the host", |place, peer| {
        linked(place, peer, "proc", false)
    }),
    (
        "B3",
        "/dev/null is a link: masks",
        "`/dev/null` of the root is a link, and a mask",
        linked_mask,
    ),
    ("B7", "/dev is a link", "`/dev` of the root is a link to the host", |place, peer| {
        linked(place, peer, "dev", false)
    }),
    (
        "B8",
        "/dev/null is a link: output",
        "`/dev/null` of the root is a link, for output",
        linked_null,
    ),
    ("B9", "a mount through a link", "a mount point behind a link to the host", |place, peer| {
        linked(place, peer, "link", true)
    }),
    ("B10", "below a read-only bind", "a write below a read-only bind", read_only),
    ("C6", "TIOCSTI", "TIOCSTI into the caller's terminal", terminal),
    ("D11", "int 0x80", "a system call by `int 0x80`", compat),
    ("D12", "io_uring", "io_uring", ring),
];

/// The name and version of a launcher, as the tables' texts give it; `None`
/// when it is not there.
fn version(peer: &str) -> Option<String> {
    let program = if peer == "bubblewrap" { "bwrap" } else { peer };
    let output = std::process::Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let word =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let number = word.split(|c| !is_number(c)).next()?;
    Some(format!("{peer} {number}"))
}

/// Whether a launcher is compared: it starts something here, and is the
/// version of which README.md and the page speak.
fn is_compared(peer: &str) -> bool {
    if peer == "jailrun" {
        return true;
    }
    let Some(version) = version(peer) else {
        eprintln!("{peer} is not there");
        return false;
    };
    let benign = Place::new().run(peer, &Wanted::default(), &["/probe", "find", "probe"]);
    if outcome(&benign) != "succeeds" {
        eprintln!("{version} does not run on this machine: {benign:?}");
        return false;
    }
    let named = page::both_name(&version, &PEERS);
    if !named {
        let update = std::env::var_os("UPDATE").is_some();
        assert!(!update, "README.md and the page have to speak of {version} first");
        eprintln!("{version} is another version than the one that was compared");
    }
    named
}

#[test]
fn other_launchers_are_compared() {
    own_mounts();
    let compared = PEERS.map(is_compared);
    let known = page::readme_rows(&PEERS);
    let (mut table, mut readme) = (Vec::new(), Vec::new());
    for (id, attack, long, run) in ATTACKS {
        let cells: Vec<String> = PEERS
            .iter()
            .enumerate()
            .map(|(at, peer)| {
                if compared[at] {
                    return run(&Place::new(), peer);
                }
                // What was seen where it ran.
                let row = known.iter().find(|row| row[0] == id && row[1] == long);
                let cell = row.map_or("not tried", |row| &*row[at + 2]);
                let wrong = WRONG.iter().find(|(_, readme)| *readme == cell);
                wrong.map_or(cell, |(page, _)| page).to_owned()
            })
            .collect();
        let own = cells.last().unwrap();
        assert!(!own.contains(|c: char| c.is_uppercase()) || own.starts_with('E'), "{cells:?}");
        assert!(own != "ESCAPED", "{cells:?}");
        eprintln!("{id} {cells:?}");
        let marked = cells.iter().map(|cell| {
            let wrong = WRONG.iter().find(|(page, _)| page == cell);
            wrong.map_or(&**cell, |(_, readme)| readme).to_owned()
        });
        readme.push([id.to_owned(), long.to_owned()].into_iter().chain(marked).collect());
        table.push([id.to_owned(), attack.to_owned()].into_iter().chain(cells).collect());
    }
    page::compare("peers", &table);
    page::compare_readme(&PEERS, &readme);
}
