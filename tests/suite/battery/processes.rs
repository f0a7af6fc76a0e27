//! C: processes, and what they inherit.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::leaving::Outside;
use super::{Ground, Sheet, Test, both, said, succeeds};
use crate::support::{CALLERS, Caller, Run, command, eventually, finish, jailrun, run, scratch};

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

fn own_binary(sheet: &mut Sheet) {
    let ground = Ground::new("");
    symlink("/proc/self/exe", ground.bench.root.join("self")).unwrap();
    let script = ground.bench.root.join("script");
    fs::write(&script, "#!/self\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mut found = Vec::new();
    for caller in CALLERS {
        // Root in a chroot opens the program of a process by its link.
        let outside = Outside::sleep(caller);
        let exe = format!("/proc/{}/exe", outside.pid());
        succeeds("", &ground.chroot(Caller::Root, &["/proc"], &["open-file", &exe, "r"]));
        found.push(said(&ground.jail(caller, &["open-file", "/proc/1/exe", "r"])));
        assert_eq!(
            said(&ground.jail(caller, &["open-file", "/proc/1/exe", "w"])),
            found[found.len() - 1]
        );
        for command in ["/self", "/script"] {
            let run = ground.bench.up(caller, &["--", command]);
            assert_eq!(run.status, 126, "{run:?}");
            assert!(run.stderr.contains("magic link"), "{run:?}");
        }
    }
    let stopped = both(&found[0], &found[1]);
    assert_eq!(stopped, "EACCES");
    let attack =
        "jailrun's own program through /proc/1/exe or a link to /proc/self/exe (CVE-2019-5736)";
    let control = "the program of a process outside is opened in a chroot with /proc";
    sheet.row("C1", attack, control, format!("{stopped}; not executed"));
}

const SEIZE: &str = "16902"; // 0x4206, PTRACE_SEIZE

fn init_of_the_jail(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let ptrace = libc::SYS_ptrace.to_string();
    let outside = Outside::sleep(Caller::Root);
    let pid = outside.pid().to_string();
    let traced = ground.chroot(Caller::Root, &[], &["call", &ptrace, SEIZE, &pid]);
    let control = succeeds("on a process outside, from a chroot", &traced);
    let mut found = Vec::new();
    for caller in CALLERS {
        found.push(said(&ground.jail(caller, &["call", &ptrace, SEIZE, "1"])));
        for file in ["mem", "environ", "cwd", "root", "maps"] {
            let path = format!("/proc/1/{file}");
            let read = said(&ground.jail(caller, &["open-file", &path, "r"]));
            assert!(["EACCES", "EPERM"].contains(&&*read), "{caller:?} {path}: {read}");
        }
        for fd in 0..8 {
            let opened =
                said(&ground.jail(caller, &["open-file", &format!("/proc/1/fd/{fd}"), "r"]));
            assert!(["EACCES", "EPERM", "ENOENT"].contains(&&*opened), "{caller:?} {fd}: {opened}");
        }
        let line = ground.jail(caller, &["read", "/proc/1/cmdline"]);
        assert!(!line.stdout.contains("unit.toml"), "{line:?}");
    }
    let stopped = both(&found[0], &found[1]);
    assert_eq!(stopped, "EPERM");
    sheet.row("C2", "ptrace and /proc of the jail's init", control, stopped);
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

fn signal(child: &Child, signal: Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// Process ids of the descendants of a process.
pub fn descendants(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let mut all: Vec<u32> =
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    for child in all.clone() {
        all.extend(descendants(child));
    }
    all
}

fn are_gone(pids: &[u32]) -> bool {
    pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
}

fn endings(sheet: &mut Sheet) {
    // TERM is ignored: the control is a process that it does not end.
    let mut ignoring = Command::new(crate::support::probe())
        .args(["ignore-term", "60"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    wait_for_line(&mut ignoring);
    signal(&ignoring, Signal::SIGTERM);
    assert!(ignoring.try_wait().unwrap().is_none(), "the control must stay");
    ignoring.kill().unwrap();
    ignoring.wait().unwrap();
    let ground = Ground::new("[lifecycle]\nstop-grace = \"100ms\"\n");
    for caller in CALLERS {
        let mut child = start(&ground, caller, &[], &["ignore-term", "60"]);
        wait_for_line(&mut child);
        let inside = descendants(child.id());
        assert_eq!(inside.len(), 2, "init and command");
        signal(&child, Signal::SIGTERM);
        assert_eq!(finish(child).status, 137, "{caller:?}");
        assert!(are_gone(&inside));
        ground.assert_host_unchanged();
    }
    let control = "a process that ignores TERM stays";
    sheet.row("C5", "TERM is ignored", control, "killed after the grace");
    let zombies = Ground::new("[limits]\npids = 64\n[process]\ninit = false\n");
    let without = zombies.jail(Caller::Root, &["zombies", "50"]).json();
    assert!(without["zombies"].as_u64() >= Some(40), "the control: {without}");
    for caller in CALLERS {
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

/// script(1) around a command: its standard streams are a terminal.
fn in_terminal(line: &str) -> Run {
    let words = ["-qec", line, "/dev/null"];
    let mut child =
        command(Caller::Root, Path::new("script"), &words).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().flush().unwrap();
    finish(child)
}

/// The line of JSON in what a terminal shows.
fn answer(run: &Run) -> Run {
    let text = run.stdout.find('{').map_or("", |at| run.stdout[at..].lines().next().unwrap());
    let text = text.find('}').map_or("", |end| &text[..=end]);
    Run { status: run.status, stdout: text.to_owned(), stderr: run.stderr.clone() }
}

fn terminal_input(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let root = ground.bench.root.display();
    let unit = ground.bench.unit.display();
    let legacy = fs::read_to_string("/proc/sys/dev/tty/legacy_tiocsti").unwrap_or("1".to_owned());
    for (attempt, attack) in [
        ("tiocsti", "TIOCSTI into the caller's terminal: the session alone"),
        ("tiocsti-high", "TIOCSTI with junk in the upper half: the session alone"),
    ] {
        let plain = answer(&in_terminal(&format!(
            "setpriv --bounding-set=-all --inh-caps=-all chroot {root} /probe {attempt}"
        )));
        let plain = if said(&plain) == "succeeds" {
            plain
        } else {
            answer(&in_terminal(&format!("chroot {root} /probe {attempt}")))
        };
        let control = match legacy.trim() {
            "1" => succeeds("in a plain chroot", &plain),
            _ => "VACUOUS: dev.tty.legacy_tiocsti is 0".to_owned(),
        };
        // The caller's terminal is passed on, and is nobody's any more.
        let jail = answer(&in_terminal(&format!(
            "{} up --quiet {unit} --set process.tty=false -- /probe {attempt}",
            jailrun().display()
        )));
        assert_eq!(said(&jail), "EPERM", "{jail:?}");
        sheet.row("C6", attack, &*control, "EPERM");
        let filter = answer(&in_terminal(&format!(
            "{} NewSession {unit} process.tty=false -- /probe {attempt}",
            crate::support::without().display()
        )));
        assert_eq!(said(&filter), "EPERM", "{filter:?}");
        let open = answer(&in_terminal(&format!(
            "{} NewSession,LoadSeccomp {unit} process.tty=false -- /probe {attempt}",
            crate::support::without().display()
        )));
        if legacy.trim() == "1" {
            succeeds("with neither", &open);
        }
        let attack = match attempt {
            "tiocsti" => "TIOCSTI into the caller's terminal: seccomp alone",
            _ => "TIOCSTI with junk in the upper half: seccomp alone",
        };
        sheet.row("C6", attack, control, "EPERM");
    }
    // Only a virtual console knows the request: elsewhere the answer says
    // whether the filter or the terminal gave it.
    let line = |program: String| answer(&in_terminal(&format!("{program} -- /probe tioclinux")));
    let without = crate::support::without().display();
    let open = line(format!("{without} LoadSeccomp {unit} process.tty=false"));
    assert_eq!(said(&open), "ENOTTY", "{open:?}");
    let filter = line(format!("{} up --quiet {unit} --set process.tty=false", jailrun().display()));
    assert_eq!(said(&filter), "EPERM", "{filter:?}");
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
    let control = "all five sets are filled in a plain chroot";
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
    let attack = "the caller's further groups (root)";
    sheet.row("C9", attack, "there in a plain chroot", "none");
}

fn set_user_id_root(sheet: &mut Sheet) {
    let ground =
        Ground::new("[security]\ncapabilities = [\"CAP_SETUID\"]\n[process]\nuser = 1000\n");
    let setuid = libc::SYS_setuid.to_string();
    let words = ["call", &setuid, "0"];
    let root = ground.bench.root.display().to_string();
    let plain = [&[&*root, "/probe"][..], &words].concat();
    let control = finish(command(Caller::Root, Path::new("chroot"), &plain).spawn().unwrap());
    let control = succeeds("for uid 0 in a chroot", &control);
    // A user other than root keeps no capability unless it is ambient.
    let stopped = said(&ground.jail(Caller::Root, &words));
    assert_eq!(stopped, "EPERM");
    sheet.row("C10", "setuid(0) by uid 1000, CAP_SETUID in the bounding set", control, stopped);
}

fn environment(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let root = ground.bench.root.display().to_string();
    let set = |command: &mut Command| {
        command.env("SECRET", "1").env("NOTIFY_SOCKET", "/x").env("LISTEN_FDS", "3");
    };
    let mut plain = command(Caller::Root, Path::new("chroot"), &[&root, "/probe", "report"]);
    set(&mut plain);
    let plain = finish(plain.spawn().unwrap()).json();
    assert_eq!(plain["environment"]["SECRET"], "1");
    for caller in CALLERS {
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
    let directory = scratch();
    let copy = directory.path().join("jailrun");
    fs::copy(jailrun(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let plain = finish(command(Caller::User, &copy, &["gc"]).spawn().unwrap());
    assert_eq!(plain.status, 0, "the control: {plain:?}");
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o4755)).unwrap();
    let refused = finish(command(Caller::User, &copy, &["gc"]).spawn().unwrap());
    assert_eq!(refused.status, 125);
    assert!(refused.stderr.contains("refuses"), "{refused:?}");
    sheet.row("C13", "jailrun installed set-user-id", "runs without the bit", "refuses to run");
}

fn forged_state(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let runtime = scratch();
    let state = runtime.path().join("jailrun");
    fs::create_dir(&state).unwrap();
    let up = || {
        let words = ["up", "--quiet", ground.bench.unit.to_str().unwrap(), "--", "/probe", "true"];
        let mut child = command(Caller::User, jailrun(), &words);
        finish(child.env("XDG_RUNTIME_DIR", runtime.path()).spawn().unwrap())
    };
    let victim = Outside::sleep(Caller::User);
    let forged = format!(
        "{{\"name\":\"{0}\",\"pid\":{1},\"init\":{1},\"undo\":[{{\"remove-node\":{{\"root\":\"{2}\",\"path\":\"marker\"}}}}]}}",
        ground.bench.name,
        victim.pid(),
        ground.path().join("source").display()
    );
    fs::write(state.join(format!("{}.json", ground.bench.name)), forged).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = up();
    assert_eq!(refused.status, 125, "{refused:?}");
    assert!(refused.stderr.contains("belongs to somebody else"), "{refused:?}");
    assert!(Path::new(&format!("/proc/{}", victim.pid())).exists());
    // The control: the same directory, owned and closed as it must be.
    fs::remove_dir_all(&state).unwrap();
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(runtime.path(), Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(&state, Some(65534), Some(65534)).unwrap();
    let accepted = up();
    assert_eq!(accepted.status, 0, "the control: {accepted:?}");
    let attack = "a state directory that others may write to, with a forged journal";
    sheet.row("C14", attack, "a directory of the caller's own is used", "refused");
}

fn core_files(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let limit = |run: &Run| run.json()["rlimits"]["core"].clone();
    let root = ground.bench.root.display().to_string();
    let raised = ["--core=4096:4096", "chroot", &root, "/probe", "report"];
    let plain = finish(command(Caller::Root, Path::new("prlimit"), &raised).spawn().unwrap());
    assert_eq!(limit(&plain), serde_json::json!([4096, 4096]), "{plain:?}");
    for caller in CALLERS {
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
    let plain = finish(
        command(Caller::Root, Path::new("sh"), &["-c", "printf '%s' \"$1\"", "sh", evil])
            .spawn()
            .unwrap(),
    );
    assert!(plain.stdout.contains('\u{1b}'), "the control");
    fs::write(ground.bench.root.join("evil"), "#!/\u{1b}[2J\n").unwrap();
    fs::set_permissions(ground.bench.root.join("evil"), fs::Permissions::from_mode(0o755)).unwrap();
    for caller in CALLERS {
        for command in [evil, "/evil"] {
            let run = ground.bench.up(caller, &["--", command]);
            assert!((125..=127).contains(&run.status), "{run:?}");
            assert!(!run.stderr.contains(['\u{1b}', '\u{7}']), "{run:?}");
        }
    }
    let attack = "control bytes of the jail in jailrun's own messages";
    sheet.row("C17", attack, "printf(1) hands them to the terminal", "escaped");
}
