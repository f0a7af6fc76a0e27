//! C: processes, and what they inherit.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{
    Ground, Sheet, Test, as_second_user, both, controls, privileged, said, shell, succeeds,
};
use crate::support::{
    CALLERS, Caller, Run, answer, command, copy_program, descendants, eventually, finish,
    in_terminal, jailrun, run, scratch, signal, write_script,
};

pub const TESTS: &[Test] = &[
    ("C1", own_binary),
    ("C2", init_of_the_jail),
    ("C5", endings),
    ("C6", terminal_input),
    ("C8", inherited_capabilities),
    ("C9", groups),
    ("C10", set_user_id_root),
    ("C11", environment),
    ("C12", keyrings),
    ("C13", set_user_id_jailrun),
    ("C14", forged_state),
    ("C15", core_files),
    ("C17", control_bytes),
];

/// A command with all that the init keeps: what is left is that the init
/// cannot be traced.
const KILL: &str = "security.capabilities=[\"CAP_KILL\"]";

/// An attempt on process 1 once that is the init: in the jail that is given
/// up to it, behind each of the two layers alone, and in the jail as it is.
fn on_init(ground: &Ground, caller: Caller, words: &[&str]) -> [Run; 4] {
    let words = [&["settled", "/probe"], words].concat();
    [
        ground.without(caller, "ForbidTracing", &[KILL], &words),
        ground.with(caller, &[KILL], &words),
        ground.without(caller, "ForbidTracing", &[], &words),
        ground.jail(caller, &words),
    ]
}

fn own_binary(sheet: &mut Sheet) {
    let ground = Ground::new("");
    for caller in CALLERS {
        let words = ["open-file", "/proc/1/exe", "r"];
        let [open, rest @ ..] = on_init(&ground, caller, &words);
        succeeds("", &open);
        assert_eq!(rest.map(|run| said(&run)), ["EACCES"; 3], "{caller:?}");
        // It runs, and so nobody may write to it, even without both.
        let words = ["open-file", "/proc/1/exe", "w"];
        let [open, rest @ ..] = on_init(&ground, caller, &words);
        let busy = if caller == Caller::Root { "ETXTBSY" } else { "EACCES" };
        assert_eq!(said(&open), busy, "the control");
        assert_eq!(rest.map(|run| said(&run)), ["EACCES"; 3], "{caller:?}");
    }
    let attack = "jailrun's own program through /proc/1/exe (CVE-2019-5736): not dumpable alone";
    let control = "opened without both; for writing ETXTBSY, user EACCES: it runs";
    sheet.row("C1", attack, control, "EACCES");
    let attack = "jailrun's own program through /proc/1/exe: the init's capability alone";
    sheet.row("C1", attack, control, "EACCES");

    symlink("/proc/self/exe", ground.bench.root.join("self")).unwrap();
    let script = ground.bench.root.join("script");
    write_script(&script, "#!/self\n");
    // The libraries are the attacker's, who runs the launcher's program with them.
    let libraries = ["lib", "lib64", "usr"];
    for name in libraries {
        fs::create_dir(ground.bench.root.join(name)).unwrap();
    }
    let root = ground.bench.root.display();
    for caller in CALLERS {
        for command in ["/self", "/script"] {
            let mut bind = format!("mount --rbind /proc {root}/proc");
            for name in libraries.iter().filter(|name| Path::new("/").join(name).exists()) {
                bind += &format!(" && mount --rbind /{name} {root}/{name}");
            }
            let plain =
                shell(caller, &format!("{bind} && LC_ALL=C exec chroot {root} {command} --help"));
            // It is chroot(8) itself, and takes the script for the new root.
            let said = format!("{}{}", plain.stdout, plain.stderr);
            let is_chroot = said.contains("NEWROOT") || said.contains("/self: cannot change root");
            assert!(is_chroot, "the control: {plain:?}");
            let run = ground.bench.up(caller, &["--", command]);
            assert_eq!(run.status, 126, "{run:?}");
            assert!(run.stderr.contains("magic link"), "{run:?}");
        }
    }
    let attack = "a command, or a script's interpreter, that is a link to /proc/self/exe";
    let control = "the launcher's program runs inside in a plain chroot";
    sheet.row("C1", attack, control, "not executed");
}

const SEIZE: &str = "16902"; // 0x4206, PTRACE_SEIZE

fn init_of_the_jail(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let ptrace = libc::SYS_ptrace.to_string();
    for caller in CALLERS {
        let [open, rest @ ..] = on_init(&ground, caller, &["call", &ptrace, SEIZE, "1"]);
        succeeds("", &open);
        assert_eq!(rest.map(|run| said(&run)), ["EPERM"; 3], "{caller:?}");
        for file in ["mem", "environ", "cwd", "root", "maps"] {
            let path = format!("/proc/1/{file}");
            let [open, rest @ ..] = on_init(&ground, caller, &["open-file", &path, "r"]);
            succeeds(&path, &open);
            assert_eq!(rest.map(|run| said(&run)), ["EACCES"; 3], "{caller:?} {path}");
        }
        // Also at the first moment, when the init is not yet all it will be.
        assert_eq!(said(&ground.jail(caller, &["call", &ptrace, SEIZE, "1"])), "EPERM");
        for fd in 0..8 {
            let opened =
                said(&ground.jail(caller, &["open-file", &format!("/proc/1/fd/{fd}"), "r"]));
            assert!(["EACCES", "EPERM", "ENOENT"].contains(&&*opened), "{caller:?} {fd}: {opened}");
        }
        let read = ["read", "/proc/1/cmdline"];
        let open = ground.without(caller, "HideArguments", &[], &read);
        assert!(open.stdout.contains("unit.toml"), "the control: {open:?}");
        let line = ground.jail(caller, &read);
        assert_eq!((line.status, line.stdout.contains("unit.toml")), (0, false), "{line:?}");
    }
    let control = "succeeds without both";
    let stopped = "EPERM; the files EACCES";
    let attack = "ptrace, and mem environ cwd root maps, of the jail's init: not dumpable alone";
    sheet.row("C2", attack, control, stopped);
    let attack = "ptrace, and the same files: the init's capability alone";
    sheet.row("C2", attack, control, stopped);
    let attack = "the caller's arguments in /proc/1/cmdline";
    sheet.row("C2", attack, "there without the step that overwrites them", "not there");
}

fn start(ground: &Ground, caller: Caller, set: &[&str], words: &[&str]) -> Child {
    let mut all = vec!["up", "--quiet", ground.bench.unit.to_str().unwrap()];
    all.extend(set.iter().flat_map(|set| ["--set", *set]));
    all.extend(["--", "/probe"]);
    all.extend(words);
    command(caller, jailrun(), &all).spawn().unwrap()
}

fn wait_for_line(child: &mut Child) {
    let mut byte = [0_u8];
    let stdout = child.stdout.as_mut().unwrap();
    while stdout.read(&mut byte).unwrap() == 1 && byte[0] != b'\n' {}
}

fn are_gone(pids: &[u32]) -> bool {
    pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn endings(sheet: &mut Sheet) {
    let ground = Ground::new("[lifecycle]\nstop-grace = \"100ms\"\n");
    for caller in CALLERS {
        // The control: without the grace's end it stays, though it was told.
        let grace = ["lifecycle.stop-grace=\"1h\""];
        let mut child = start(&ground, caller, &grace, &["ignore-term", "60"]);
        wait_for_line(&mut child);
        let inside = descendants(child.id());
        signal(&child, Signal::SIGTERM);
        super::exhaustion::wait_until_taken(child.id(), Signal::SIGTERM);
        assert!(child.try_wait().unwrap().is_none() && !are_gone(&inside), "the control");
        // A second one does not wait for it.
        signal(&child, Signal::SIGTERM);
        assert_eq!(finish(child).status, 137, "{caller:?}");
        let mut child = start(&ground, caller, &[], &["ignore-term", "60"]);
        wait_for_line(&mut child);
        let inside = descendants(child.id());
        assert_eq!(inside.len(), 2, "init and command");
        signal(&child, Signal::SIGTERM);
        assert_eq!(finish(child).status, 137, "{caller:?}");
        assert!(are_gone(&inside));
        ground.assert_host_unchanged();
    }
    let control = "it stays with a long `stop-grace`";
    sheet.row("C5", "TERM is ignored", control, "killed after the grace");
    let zombies = Ground::new("[limits]\npids = 64\n[process]\ninit = false\n");
    for caller in CALLERS {
        let open = zombies.with(caller, &["limits.on-missing=skip"], &["zombies", "50"]).json();
        assert!(open["zombies"].as_u64() >= Some(40), "the control: {open}");
        let set: &[&str] = match caller {
            Caller::Root => &["process.init=true", "limits.pids=infinity"],
            Caller::User => &["process.init=true", "limits.on-missing=skip"],
        };
        // Forking so many takes the ordinary user as long again.
        let count = if caller == Caller::Root { 10_000 } else { 500 };
        let answer = zombies.with(caller, set, &["zombies", &count.to_string()]).json();
        assert_eq!(answer["started"], count, "{answer}");
        assert_eq!(answer["zombies"], 0, "{answer}");
    }
    let control = "they stay where the command is process 1";
    sheet.row("C5", "10,000 zombies", control, "reaped");
    for caller in CALLERS {
        let mut child = start(&ground, caller, &[], &["ignore-term", "60"]);
        wait_for_line(&mut child);
        let inside = descendants(child.id());
        child.kill().unwrap();
        child.wait().unwrap();
        eventually("its processes end", || are_gone(&inside));
        assert!(!crate::support::leftovers(&ground.bench.name).is_empty(), "the control");
        let collected = run(caller, &["gc"]);
        assert_eq!(collected.status, 0, "{collected:?}");
        ground.assert_host_unchanged();
    }
    let control = "journal and groups stay until then";
    sheet.row("C5", "the supervisor is killed", control, "the jail ends; gc takes all back");
}

fn terminal_input(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let root = ground.bench.root.display();
    let unit = ground.bench.unit.display();
    let legacy = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or("1".to_owned());
    // The caller's terminal is passed on: nobody's any more in a jail.
    let up = format!("{} up --quiet {unit} --set process.tty=false", jailrun().display());
    let without = |parts: &str| {
        let program = crate::support::without().display();
        format!("{program} {parts} {unit} process.tty=false")
    };
    for (attempt, session, seccomp) in [
        (
            "tiocsti",
            "TIOCSTI into the caller's terminal: the session alone",
            "TIOCSTI into the caller's terminal: seccomp alone",
        ),
        (
            "tiocsti-high",
            "TIOCSTI with junk in the upper half: the session alone",
            "TIOCSTI with junk in the upper half: seccomp alone",
        ),
    ] {
        let typed = |caller, line: &str| {
            answer(&in_terminal(caller, &format!("{line} -- /probe {attempt}"), ""))
        };
        let both_said = |line: &str| {
            let [root, user] = CALLERS.map(|caller| said(&typed(caller, line)));
            both(&root, &user)
        };
        let control = match legacy.trim() {
            "1" => {
                let plain = |caller| {
                    let enter =
                        if caller == Caller::Root { "chroot" } else { "unshare -Ur chroot" };
                    answer(&in_terminal(caller, &format!("{enter} {root} /probe {attempt}"), ""))
                };
                let how = "in a plain chroot, and without both";
                let open = without("NewSession,LoadSeccomp");
                assert_eq!(both_said(&open), "succeeds", "the control");
                controls(how, plain)
            }
            _ => "VACUOUS: dev.tty.legacy_tiocsti is 0".to_owned(),
        };
        assert_eq!(both_said(&without("LoadSeccomp")), "EPERM", "{attempt}");
        sheet.row("C6", session, &*control, "EPERM");
        assert_eq!(both_said(&without("NewSession")), "EPERM", "{attempt}");
        sheet.row("C6", seccomp, control, "EPERM");
        assert_eq!(both_said(&up), "EPERM", "{attempt}");
    }
    // Only a virtual console knows the request: elsewhere the answer says
    // whether the filter or the terminal gave it.
    for caller in CALLERS {
        let asked = |line: &str| {
            said(&answer(&in_terminal(caller, &format!("{line} -- /probe tioclinux"), "")))
        };
        assert_eq!(asked(&without("LoadSeccomp")), "ENOTTY", "{caller:?}");
        assert_eq!(asked(&up), "EPERM", "{caller:?}");
    }
    let control = "VACUOUS: no virtual console here; ENOTTY from the terminal";
    sheet.row("C6", "TIOCLINUX: seccomp alone", control, "EPERM");
}

fn inherited_capabilities(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let caps = |report: &Value| {
        ["inheritable", "permitted", "effective", "bounding", "ambient"]
            .map(|set| report["capabilities"][set].as_str().unwrap().to_owned())
    };
    let root = ground.bench.root.display().to_string();
    let with_ambient = |words: &[&str]| {
        let mut all = vec!["--inh-caps=+chown", "--ambient-caps=+chown"];
        all.extend(words);
        finish(command(Caller::Root, Path::new("setpriv"), &all).spawn().unwrap())
    };
    let script = format!("mount --rbind /proc {root}/proc && exec chroot {root} /probe report");
    let plain = caps(&with_ambient(&["unshare", "-m", "sh", "-c", &script]).json());
    assert!(plain.iter().all(|set| !set.trim_start_matches('0').is_empty()), "{plain:?}");
    let unit = ground.bench.unit.to_str().unwrap();
    let words = [jailrun().to_str().unwrap(), "up", "--quiet", unit, "--", "/probe", "report"];
    let inside = caps(&with_ambient(&words).json());
    assert!(inside.iter().all(|set| set == "0000000000000000"), "{inside:?}");
    let some = ["security.capabilities=[\"CAP_CHOWN\"]"];
    for caller in CALLERS {
        let inside = caps(&ground.with(caller, &some, &["report"]).json());
        let chown = "0000000000000001";
        assert_eq!(inside, ["0000000000000000", chown, chown, chown, "0000000000000000"]);
        let none = caps(&ground.jail(caller, &["report"]).json());
        assert!(none.iter().all(|set| set == "0000000000000000"), "{none:?}");
    }
    let attack = "inheritable and ambient capabilities of the caller";
    let control = "all five sets are filled in a plain chroot \
                   (root only: an ordinary user has none to hand on)";
    sheet.row("C8", attack, control, "empty; bounding = permitted = the unit");
}

fn groups(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let root = ground.bench.root.display().to_string();
    let unit = ground.bench.unit.to_str().unwrap();
    let with_groups = |words: &[&str]| {
        let mut all = vec!["--groups=4,6"];
        all.extend(words);
        finish(command(Caller::Root, Path::new("setpriv"), &all).spawn().unwrap())
    };
    let plain = with_groups(&["chroot", &root, "/probe", "report"]).json();
    assert_eq!(plain["groups"], serde_json::json!([4, 6]));
    let words = [jailrun().to_str().unwrap(), "up", "--quiet", unit, "--", "/probe", "report"];
    let inside = with_groups(&words).json();
    assert_eq!(inside["groups"], serde_json::json!([]), "{inside}");
    let private =
        with_groups(&[&words[..4], &["--set", "namespaces.user=private"], &words[4..]].concat());
    assert_eq!(private.json()["groups"], serde_json::json!([]), "{private:?}");
    let control = "there in a plain chroot \
                   (root only: in a user namespace the kernel keeps a user's groups)";
    sheet.row("C9", "the caller's further groups", control, "none");
}

fn set_user_id_root(sheet: &mut Sheet) {
    let ground = Ground::new("[security]\ncapabilities = [\"CAP_SETUID\"]\n");
    let setuid = libc::SYS_setuid.to_string();
    let jail = |caller, set: &[&str]| {
        let set = [as_second_user(caller), set].concat();
        let set: Vec<&str> = set.into_iter().flat_map(|set| ["--set", set]).collect();
        let unit = ground.bench.unit.to_str().unwrap();
        let words = ["--", "/probe", "call", &setuid, "0"];
        privileged(caller, jailrun(), &[&["up", "--quiet", unit], &*set, &words].concat())
    };
    let ambient = ["security.ambient-capabilities=[\"CAP_SETUID\"]"];
    let mut control = String::new();
    for caller in CALLERS {
        control = succeeds("with CAP_SETUID in `ambient-capabilities`", &jail(caller, &ambient));
    }
    // A user other than root keeps no capability unless it is ambient.
    let [root, user] = CALLERS.map(|caller| said(&jail(caller, &[])));
    let stopped = both(&root, &user);
    assert_eq!(stopped, "EPERM");
    sheet.row("C10", "setuid(0) by uid 1000, CAP_SETUID in the bounding set", control, stopped);
}

fn environment(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let root = ground.bench.root.display().to_string();
    let set = |command: &mut Command| {
        command.env("SECRET", "1").env("NOTIFY_SOCKET", "/x").env("LISTEN_FDS", "3");
    };
    for caller in CALLERS {
        let unshare = if caller == Caller::Root { "-m" } else { "-Urm" };
        let words = [unshare, "chroot", &root, "/probe", "report"];
        let mut plain = command(caller, Path::new("unshare"), &words);
        set(&mut plain);
        let plain = finish(plain.spawn().unwrap()).json();
        assert_eq!(plain["environment"]["SECRET"], "1", "the control");
        let words =
            ["up", "--quiet", ground.bench.unit.to_str().unwrap(), "--", "/probe", "report"];
        let mut inside = command(caller, jailrun(), &words);
        set(&mut inside);
        let report = finish(inside.spawn().unwrap()).json();
        let names: Vec<_> = report["environment"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(names, ["HOME", "PATH", "TERM", "USER", "container"]);
    }
    let attack = "the caller's environment, NOTIFY_SOCKET and LISTEN_FDS";
    sheet.row("C11", attack, "there in a plain chroot", "HOME PATH TERM USER container alone");
}

fn keyrings(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let name = "jailrun-test-canary";
    let unit = ground.bench.unit.to_str().unwrap().to_owned();
    let mut found = Vec::new();
    let mut alone = [Vec::new(), Vec::new()];
    for caller in CALLERS {
        let with_key = |words: &[&str]| {
            let all = [&["with-key", name], words].concat();
            let probe = ground.bench.root.join("probe");
            finish(command(caller, &probe, &all).spawn().unwrap())
        };
        let without = crate::support::without().to_str().unwrap();
        let find = ["--", "/probe", "find-key", name];
        let left_out = |parts: &str| with_key(&[&[without, parts, &*unit][..], &find].concat());
        succeeds("", &left_out("NewKeyring,LoadSeccomp"));
        alone[0].push(said(&left_out("LoadSeccomp")));
        alone[1].push(said(&left_out("NewKeyring")));
        let jail = [&[jailrun().to_str().unwrap(), "up", "--quiet", &*unit][..], &find].concat();
        found.push(said(&with_key(&jail)));
    }
    let control = "found without the keyring of its own and without the filter";
    let [keyring, filter] = alone.map(|alone| both(&alone[0], &alone[1]));
    assert_eq!((&*keyring, &*filter), ("ENOKEY", "EPERM"));
    assert!(found.iter().all(|found| found == "EPERM"), "{found:?}");
    sheet.row(
        "C12",
        "a key in the caller's session keyring: its own keyring alone",
        control,
        keyring,
    );
    sheet.row("C12", "a key in the caller's session keyring: seccomp alone", control, filter);
}

fn set_user_id_jailrun(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let set_user_id = |program: &Path| {
        let copy = ground.path().join(program.file_name().unwrap());
        copy_program(program, &copy);
        fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
        copy
    };
    // What is refused: a launcher that is root, and plans for root.
    let file = ground.path().join("source/shadow");
    fs::write(&file, "root's").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let unit = ground.path().join("bind.toml");
    let text = fs::read_to_string(&ground.bench.unit).unwrap();
    let mount = format!(
        "[[mounts]]\ntarget = \"/data\"\nbind = \"{}\"\n",
        file.parent().unwrap().display()
    );
    fs::write(&unit, text + &mount).unwrap();
    let unit = unit.to_str().unwrap();
    let words = ["--", "/probe", "open-file", "/data/shadow", "r"];
    let launcher = set_user_id(crate::support::without());
    let without = [&["CloseFds", unit][..], &words].concat();
    let control = succeeds(
        "with a launcher that does not look: it reads files of root",
        &privileged(Caller::User, &launcher, &without),
    );
    let own = crate::support::without();
    assert_eq!(said(&privileged(Caller::User, own, &without)), "EACCES", "without the bit");
    let copy = set_user_id(jailrun());
    let up = [&["up", "--quiet", unit][..], &words].concat();
    for words in [&up[..], &["gc"], &["check", unit]] {
        let refused = privileged(Caller::User, &copy, words);
        assert_eq!(refused.status, 125, "{refused:?}");
        assert!(refused.stderr.contains("refuses"), "{refused:?}");
    }
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(said(&privileged(Caller::User, &copy, &up)), "EACCES", "without the bit");
    fs::remove_file(&file).unwrap();
    let control = format!("{control} (a user only: root has nothing to gain)");
    sheet.row("C13", "jailrun installed set-user-id", control, "refuses to run");
}

/// A control group of the caller's own with a process in it that a forged
/// journal names; taken back when it goes out of scope.
struct Victim {
    parent: PathBuf,
    group: PathBuf,
    process: Child,
}

impl Victim {
    fn new(caller: Caller, name: &str) -> Self {
        let hierarchy = Path::new("/sys/fs/cgroup/pids");
        let hierarchy = if hierarchy.exists() { hierarchy } else { Path::new("/sys/fs/cgroup") };
        let parent = hierarchy.join(format!("jailtest-{name}"));
        let group = parent.join("jailrun-other");
        let process = command(caller, Path::new("sleep"), &["60"]).spawn().unwrap();
        fs::create_dir(&parent).unwrap();
        fs::create_dir(&group).unwrap();
        fs::write(group.join("cgroup.procs"), process.id().to_string()).unwrap();
        let owner = if caller == Caller::Root { 0 } else { crate::support::USER };
        for path in [&parent, &group, &group.join("cgroup.procs"), &group.join("cgroup.kill")] {
            if path.exists() {
                std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
            }
        }
        Self { parent, group, process }
    }

    fn is_alive(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none() && self.group.exists()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        if self.process.try_wait().unwrap().is_none() {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
        for path in [&self.group, &self.parent] {
            eventually("the group is removed", || !path.exists() || fs::remove_dir(path).is_ok());
        }
    }
}

fn forged_state(sheet: &mut Sheet) {
    let ground = Ground::new("");
    for caller in CALLERS {
        let (own, other) = match caller {
            Caller::Root => (0, crate::support::USER),
            Caller::User => (crate::support::USER, 0),
        };
        // Where the caller's state is: below /run, or what the variable names.
        let runtime = scratch();
        let state = runtime.path().join("jailrun");
        std::os::unix::fs::chown(runtime.path(), Some(own), Some(own)).unwrap();
        let up = |owner: u32, mode: u32, victim: &Victim| {
            let journal = state.join(format!("{}.json", ground.bench.name));
            let undo = serde_json::json!({
                "version": 1, "name": ground.bench.name, "undo": [{ "remove-cgroup": victim.group }],
            });
            fs::create_dir(&state).unwrap();
            fs::write(&journal, undo.to_string()).unwrap();
            fs::set_permissions(&journal, fs::Permissions::from_mode(0o666)).unwrap();
            for path in [&state, &journal] {
                std::os::unix::fs::chown(path, Some(owner), Some(owner)).unwrap();
            }
            fs::set_permissions(&state, fs::Permissions::from_mode(mode)).unwrap();
            let unit = ground.bench.unit.to_str().unwrap();
            let words = ["up", "--quiet", unit, "--", "/probe", "true"];
            let run = match caller {
                Caller::Root => {
                    let script = "mount --bind \"$1\" /run && shift && exec \"$@\"";
                    let begin = ["-m", "sh", "-c", script, "sh", runtime.path().to_str().unwrap()];
                    let all = [&begin[..], &[jailrun().to_str().unwrap()], &words].concat();
                    finish(command(caller, Path::new("unshare"), &all).spawn().unwrap())
                }
                Caller::User => {
                    let mut child = command(caller, jailrun(), &words);
                    finish(child.env("XDG_RUNTIME_DIR", runtime.path()).spawn().unwrap())
                }
            };
            if state.exists() {
                fs::remove_dir_all(&state).unwrap();
            }
            run
        };
        let name = &ground.bench.name;
        // The control: in a directory of the caller's own the journal is believed.
        let mut victim = Victim::new(caller, name);
        let believed = up(own, 0o700, &victim);
        assert_eq!(believed.status, 0, "the control: {believed:?}");
        assert!(!victim.is_alive(), "the control: {caller:?}");
        drop(victim);
        let mut victim = Victim::new(caller, name);
        for (owner, mode) in [(own, 0o777), (own, 0o770), (other, 0o777)] {
            let refused = up(owner, mode, &victim);
            assert_eq!(refused.status, 125, "{owner} {mode:o} {refused:?}");
            assert!(refused.stderr.contains("belongs to somebody else"), "{refused:?}");
            assert!(victim.is_alive(), "{caller:?} {owner} {mode:o}");
        }
    }
    let attack =
        "a forged journal that names another group, in a state directory others may write to";
    let control = "its processes are killed where the directory is the caller's own";
    sheet.row("C14", attack, control, "refused");
}

fn core_files(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let limit = |run: &Run| run.json()["rlimits"]["core"].clone();
    let root = ground.bench.root.display().to_string();
    for caller in CALLERS {
        let plain =
            shell(caller, &format!("exec prlimit --core=4096:4096 chroot {root} /probe report"));
        assert_eq!(limit(&plain), serde_json::json!([4096, 4096]), "{plain:?}");
        let unit = ground.bench.unit.to_str().unwrap();
        let words = [
            "--core=4096:4096",
            jailrun().to_str().unwrap(),
            "up",
            "--quiet",
            unit,
            "--",
            "/probe",
            "report",
        ];
        let inside = finish(command(caller, Path::new("prlimit"), &words).spawn().unwrap());
        assert_eq!(limit(&inside), serde_json::json!([0, 0]), "{caller:?}");
    }
    sheet.row("C15", "core files", "the caller's limit holds in a chroot", "RLIMIT_CORE 0");
}

fn control_bytes(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let evil = "/\u{1b}]0;owned\u{7}";
    let words = ["-c", "\"$1\"", "sh", evil];
    let plain = finish(command(Caller::Root, Path::new("sh"), &words).spawn().unwrap());
    assert!(plain.stderr.contains(['\u{1b}', '\u{7}']), "the control: {plain:?}");
    write_script(&ground.bench.root.join("evil"), "#!/\u{1b}[2J\n");
    for caller in CALLERS {
        for command in [evil, "/evil"] {
            let run = ground.bench.up(caller, &["--", command]);
            assert!((125..=127).contains(&run.status), "{run:?}");
            assert!(!run.stderr.contains(['\u{1b}', '\u{7}']), "{run:?}");
        }
    }
    let attack = "control bytes of the jail in jailrun's own messages";
    sheet.row("C17", attack, "a shell says them as they are", "escaped");
}
