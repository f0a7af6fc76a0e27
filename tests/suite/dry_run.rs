//! `--dry-run`, `--explain` and `check` change nothing, and what they say is
//! what `up` does.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{Bench, CALLERS, Caller, Run, command, finish, jailrun, leftovers};

/// Calls that change the system whatever their arguments, and why each is here.
const MUTATING: &[(&str, &[&str])] = &[
    (
        "names in file systems",
        &[
            "mkdir",
            "mkdirat",
            "mknod",
            "mknodat",
            "unlink",
            "unlinkat",
            "rename",
            "renameat",
            "renameat2",
            "rmdir",
            "symlink",
            "symlinkat",
            "link",
            "linkat",
            "creat",
        ],
    ),
    (
        "attributes of files",
        &[
            "chmod",
            "fchmod",
            "fchmodat",
            "fchmodat2",
            "chown",
            "fchown",
            "lchown",
            "fchownat",
            "truncate",
            "ftruncate",
            "fallocate",
            "utime",
            "utimes",
            "utimensat",
            "futimesat",
            "setxattr",
            "lsetxattr",
            "fsetxattr",
            "removexattr",
            "lremovexattr",
            "fremovexattr",
        ],
    ),
    (
        "mounts",
        &[
            "mount",
            "umount",
            "umount2",
            "pivot_root",
            "chroot",
            "open_tree",
            "move_mount",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "mount_setattr",
            "swapon",
            "swapoff",
        ],
    ),
    (
        "namespaces and processes",
        &[
            "unshare",
            "setns",
            "clone",
            "clone3",
            "fork",
            "vfork",
            "kill",
            "tkill",
            "tgkill",
            "pidfd_send_signal",
            "rt_sigqueueinfo",
            "ptrace",
            "process_vm_writev",
        ],
    ),
    ("names of the host", &["sethostname", "setdomainname"]),
    (
        "identity and limits of the caller",
        &[
            "setuid",
            "setgid",
            "setreuid",
            "setregid",
            "setresuid",
            "setresgid",
            "setgroups",
            "setfsuid",
            "setfsgid",
            "capset",
            "setrlimit",
            "setsid",
            "setpgid",
            "sched_setaffinity",
            "sched_setscheduler",
            "sched_setattr",
            "setpriority",
            "umask",
            "personality",
            "chdir",
            "fchdir",
        ],
    ),
    (
        "what the kernel keeps",
        &[
            "bpf",
            "keyctl",
            "add_key",
            "request_key",
            "seccomp",
            "io_uring_setup",
            "init_module",
            "finit_module",
            "delete_module",
            "reboot",
            "settimeofday",
            "clock_settime",
            "adjtimex",
            "shmget",
            "semget",
            "msgget",
            "mq_open",
            "memfd_create",
        ],
    ),
    ("talk with others", &["connect", "bind", "listen", "sendto", "sendmsg"]),
];

/// What prctl(2) may be asked: questions, and names of the process's own parts.
const HARMLESS_PRCTL: &[&str] = &["PR_GET_", "PR_CAPBSET_READ", "PR_SET_NAME", "PR_SET_VMA"];

/// What of one line of strace is a change; `None` for a question.
fn change(line: &str) -> Option<String> {
    let line = line.trim_start_matches(|c: char| c.is_ascii_digit()).trim_start();
    let (name, rest) = line.split_once('(')?;
    let arguments = rest.rsplit_once(')').map_or(rest, |(arguments, _)| arguments);
    let report = |why: &str| Some(format!("{why}: {line}"));
    for (why, names) in MUTATING {
        if names.contains(&name) {
            return report(why);
        }
    }
    match name {
        "open" | "openat" | "openat2" => {
            let writes = ["O_CREAT", "O_TRUNC", "O_WRONLY", "O_RDWR", "O_TMPFILE", "O_APPEND"];
            let writes = writes.iter().any(|flag| arguments.contains(flag));
            // The runtime opens it where a standard stream is closed.
            (writes && !arguments.contains("\"/dev/null\""))
                .then(|| format!("open to write: {line}"))
        }
        "prctl" if !HARMLESS_PRCTL.iter().any(|known| arguments.starts_with(known)) => {
            report("changes the process")
        }
        // A limit is read by giving no new one.
        "prlimit64" => {
            let new = arguments.split(", ").nth(2)?;
            // The stack's own size is asked for with NULL.
            if new == "NULL" { None } else { report("sets a limit") }
        }
        "write" | "writev" | "pwrite64" | "sendfile" | "copy_file_range" | "splice" => {
            let to = arguments.split(',').next()?.split('<').next()?;
            if matches!(to, "1" | "2") { None } else { report("writes") }
        }
        // Asking for the terminal's size is no change, setting it is.
        "ioctl" if arguments.contains("TIOCS") || arguments.contains("TCSET") => {
            report("changes the terminal")
        }
        // A lock that is tried for and given back at once, shared.
        "flock" if arguments.contains("LOCK_EX") => report("takes a lock"),
        _ => None,
    }
}

/// Runs jailrun under strace; returns how it ended and every line of the trace
/// after its own execve.
fn traced(caller: Caller, directory: &Path, arguments: &[&str]) -> (Run, Vec<String>) {
    let trace = directory.join("trace");
    let trace_text = trace.to_str().unwrap();
    // setpriv runs inside of strace: only what follows jailrun's execve counts.
    let inner = command(caller, jailrun(), arguments);
    let mut words = vec!["-f", "-qq", "-s", "200", "-o", trace_text, "--"];
    words.push(inner.get_program().to_str().unwrap());
    words.extend(inner.get_args().map(|word| word.to_str().unwrap()));
    let mut strace = command(Caller::Root, Path::new("strace"), &words);
    strace.env_remove("XDG_RUNTIME_DIR").stdin(Stdio::null());
    let run = finish(strace.spawn().unwrap());
    let text = fs::read_to_string(&trace).unwrap();
    let start = format!("execve(\"{}\"", jailrun().display());
    let lines: Vec<String> =
        text.lines().skip_while(|line| !line.contains(&start)).skip(1).map(str::to_owned).collect();
    assert!(lines.len() > 20, "no trace of jailrun: {text}");
    (run, lines)
}

fn changes(lines: &[String]) -> Vec<String> {
    lines.iter().filter_map(|line| change(line)).collect()
}

/// A unit with every kind of mount, missing mount points and limits.
const EVERYTHING: &str = r#"
[process]
command = ["/probe", "report"]
stdout = "file:{dir}/out"
stderr = "append:{dir}/err"
cwd = "/tmp"

[limits.rlimits]
nofile = 64

[[mounts]]
target = "/missing/on/the/host"
bind = "{dir}"
read-only = true

[[mounts]]
target = "/missing-file"
bind = "/dev/null"

[[mounts]]
target = "/data"
tmpfs = "1M"

[[mounts]]
target = "/data/missing/below"
tmpfs = "1M"

[[mounts]]
target = "/data/proc"
proc = true

[[mounts]]
target = "/data/sys"
sysfs = true

[[mounts]]
target = "/data/pts"
devpts = true

[[mounts]]
target = "/data/mqueue"
mqueue = true

[[mounts]]
target = "/data/text"
content = "hello"

[[mounts]]
target = "/etc/link"
symlink = "/data/text"

[[mounts]]
target = "/etc/passwd"
mask = true
"#;

fn everything(caller: Caller) -> Bench {
    match caller {
        Caller::Root => Bench::new(&format!(
            "{EVERYTHING}\n[[mounts]]\ntarget = \"/data/cgroup\"\ncgroup = true\n[limits]\nmemory = \"64M\"\ncpu = 0.5\npids = 50\n"
        )),
        Caller::User => Bench::new(EVERYTHING),
    }
}

/// Every path below a directory with its kind, times and size.
fn listing(directory: &Path) -> BTreeSet<String> {
    let output = std::process::Command::new("find")
        .arg(directory)
        .args(["-name", "trace", "-o", "-printf", "%p %y %m %U %G %s %T@ %C@\n"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_report_changes_nothing() {
    for caller in CALLERS {
        let bench = everything(caller);
        let unit = bench.unit.to_str().unwrap();
        fs::write(bench.directory.path().join("trace"), "").unwrap();
        let before = listing(bench.directory.path());
        for arguments in [
            &["up", unit, "--dry-run"][..],
            &["up", unit, "--dry-run", "--json"],
            &["up", unit, "--dry-run", "--set", "process.tty=true"],
            &["up", unit, "--explain"],
            &["up", unit, "--explain", "--dry-run"],
            &["check", unit],
            &["check", unit, "--json"],
            // The same with errors in it.
            &["up", unit, "--dry-run", "--set", "root.path=/nowhere"],
            &["up", unit, "--explain", "--set", "process.user=ghost"],
            &["check", unit, "--set", "limits.memory=512Q"],
        ] {
            let (run, lines) = traced(caller, bench.directory.path(), arguments);
            assert!(run.status == 0 || run.status == 1, "{arguments:?}: {run:?}");
            assert_eq!(changes(&lines), Vec::<String>::new(), "{caller:?} {arguments:?}");
        }
        assert_eq!(listing(bench.directory.path()), before, "{caller:?}");
        assert_eq!(leftovers(&bench.name), Vec::<String>::new());
    }
}

#[test]
fn a_report_on_layers_and_closures_changes_nothing() {
    let kinds = [
        "lower = [\"{base}\"]\nupper = \"{dir}/upper\"",
        "lower = [\"{base}\"]",
        "path = \"{base}\"\nephemeral = true",
        "tmpfs = \"20M\"\npopulate = [\"{base}\"]",
        "binaries = [\"/usr/bin/env\"]\nwith = [\"nss\"]\n[process]\ncommand = [\"env\"]",
    ];
    for (number, root) in kinds.into_iter().enumerate() {
        let caller = CALLERS[number % 2];
        let mount = "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{base}/etc\"], upper = \"{dir}/other\" }\n";
        let bench = crate::roots::bench(root, mount);
        for name in ["upper", "other"] {
            let path = bench.directory.path().join(name);
            fs::create_dir(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
        }
        let unit = bench.unit.to_str().unwrap();
        fs::write(bench.directory.path().join("trace"), "").unwrap();
        let before = listing(bench.directory.path());
        for arguments in
            [&["up", unit, "--dry-run"][..], &["up", unit, "--explain"], &["check", unit]]
        {
            let arguments = match root.contains("command") || arguments[0] == "check" {
                true => arguments.to_vec(),
                false => [arguments, &["--", "/probe", "true"]].concat(),
            };
            let (run, lines) = traced(caller, bench.directory.path(), &arguments);
            assert!(run.status == 0 || arguments[0] == "check", "{arguments:?}: {run:?}");
            assert_eq!(changes(&lines), Vec::<String>::new(), "{caller:?} {arguments:?}");
        }
        assert_eq!(listing(bench.directory.path()), before, "{caller:?} {root}");
        bench.assert_nothing_left();
    }
}

#[test]
fn the_check_for_changes_finds_those_of_a_launch() {
    // Else the test above would pass whatever a report did.
    for caller in CALLERS {
        let bench = everything(caller);
        let unit = bench.unit.to_str().unwrap();
        let (run, lines) = traced(caller, bench.directory.path(), &["up", unit, "--quiet"]);
        assert_eq!(run.status, 0, "{run:?}");
        let found = changes(&lines).join("\n");
        for expected in
            ["clone", "mkdirat(", "O_CREAT", "setsid(", "prctl(PR_SET_NO_NEW_PRIVS", "pivot_root("]
        {
            assert!(found.contains(expected), "{caller:?}: {expected} is not in\n{found}");
        }
    }
}

#[test]
fn every_kind_of_change_is_recognised() {
    for line in [
        "12 mkdir(\"/x\", 0777) = -1 EEXIST (File exists)",
        "12 openat(AT_FDCWD, \"/x\", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 3",
        "openat2(AT_FDCWD, \"/x\", {flags=O_RDWR, resolve=0}, 24) = 3",
        "write(3, \"1\", 1) = 1",
        "prctl(PR_SET_DUMPABLE, SUID_DUMP_DISABLE) = 0",
        "prlimit64(0, RLIMIT_CORE, {rlim_cur=0, rlim_max=0}, NULL) = 0",
        "clone3({flags=CLONE_NEWNS}, 88) = -1 EPERM (Operation not permitted)",
        "flock(3, LOCK_EX|LOCK_NB) = 0",
    ] {
        assert!(change(line).is_some(), "{line}");
    }
    for line in [
        "12 openat(AT_FDCWD, \"/x\", O_RDONLY|O_CLOEXEC) = 3",
        "openat(AT_FDCWD, \"/dev/null\", O_RDWR) = 0",
        "write(1, \"1\", 1) = 1",
        "prlimit64(0, RLIMIT_CORE, NULL, {rlim_cur=0, rlim_max=0}) = 0",
        "prctl(PR_GET_DUMPABLE) = 1",
        "exit_group(0) = ?",
        "+++ exited with 0 +++",
    ] {
        assert_eq!(change(line), None, "{line}");
    }
}

#[test]
fn the_status_tells_whether_the_launch_would_work() {
    let bench = Bench::new("[process]\ncommand = [\"/probe\", \"report\"]\n");
    for caller in CALLERS {
        let run = bench.dry_run(caller, &[]);
        assert_eq!(run.status, 0, "{run:?}");
        assert!(
            run.stdout.ends_with(&format!("; the jail `{}` would start\n", bench.name)),
            "{run:?}"
        );
        assert_eq!(bench.up(caller, &[]).status, 0);
        for assignment in [
            "root.path=/nowhere",
            "process.command=[\"/nowhere\"]",
            "process.command=[\"/etc/passwd\"]",
            "mounts=[{ bind = \"/nowhere\", target = \"/data\" }]",
            "process.pass-fds=[77]",
            "process.user=ghost",
        ] {
            let run = bench.dry_run(caller, &["--set", assignment]);
            assert_eq!(run.status, 1, "{caller:?} {assignment}: {run:?}");
            assert!(run.stdout.contains("would not start"), "{caller:?} {assignment}: {run:?}");
            let up = bench.up(caller, &["--set", assignment]);
            assert_ne!(up.status, 0, "{caller:?} {assignment}: {up:?}");
        }
    }
    // A controller that the ordinary user does not have.
    let run = bench.dry_run(Caller::User, &["--set", "limits.memory=64M"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("`memory` cannot be set on this host"), "{run:?}");
    assert_eq!(bench.dry_run(Caller::Root, &["--set", "limits.memory=64M"]).status, 0);
    bench.assert_nothing_left();
}

#[test]
fn a_failed_step_is_told_on_lines_of_its_own() {
    let fake = "  jailrun: fine";
    let bench = Bench::new(&format!("[process]\ncommand = [\"/data/a\\n{fake}\"]\n"));
    let directory = bench.root.join(format!("data/b\n{fake}"));
    fs::create_dir(&directory).unwrap();
    let cwd = format!("process.cwd=\"/data/b\\n{fake}/c\"");
    for caller in CALLERS {
        for arguments in [&[][..], &["--set", &cwd]] {
            let run = bench.up(caller, arguments);
            assert!(run.status >= 125, "{run:?}");
            assert!(run.stderr.contains(&format!("\\n{fake}")), "{run:?}");
            assert!(!run.stderr.contains(&format!("\n{fake}")), "{run:?}");
        }
    }
    let argument = format!("process.command=[\"/probe\", \"a\\n{fake}\"]");
    let script = bench.up(Caller::Root, &["--explain", "--set", &argument]).stdout;
    let mut comments = script.lines().filter(|line| line.starts_with('#'));
    assert!(comments.any(|line| line.contains(&format!("a\\n{fake}"))), "{script}");
    bench.assert_nothing_left();
}

#[test]
fn a_name_that_is_taken_is_seen() {
    let bench = Bench::new("[process]\ncommand = [\"/probe\", \"sleep\", \"60\"]\n");
    let other = Bench::new("[process]\ncommand = [\"/probe\", \"report\"]\n");
    for caller in CALLERS {
        let mut words = vec!["up", "--quiet", bench.unit.to_str().unwrap()];
        words.extend(["--set", "process.stdout=null"]);
        let child = command(caller, jailrun(), &words).spawn().unwrap();
        let name = format!("name={}", bench.name);
        crate::support::eventually("the name is seen as taken", || {
            other.dry_run(caller, &["--set", &name]).status == 1
        });
        let run = other.dry_run(caller, &["--set", &name]);
        assert!(run.stdout.contains("a jail of this name is running"), "{run:?}");
        assert_eq!(other.dry_run(caller, &[]).status, 0);
        // Looking must not have disturbed it: the name is still taken.
        let up = other.up(caller, &["--set", &name]);
        assert_eq!(up.status, 125, "{up:?}");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        finish(child);
        bench.assert_nothing_left();
        assert_eq!(other.dry_run(caller, &["--set", &name]).status, 0);
    }
}

#[test]
fn every_step_has_its_origin_and_json_has_the_same_steps() {
    for caller in CALLERS {
        let bench = everything(caller);
        let text = bench.dry_run(caller, &[]);
        let json = bench.dry_run(caller, &["--json"]);
        assert_eq!((text.status, json.status), (0, 0), "{text:?} {json:?}");
        assert_eq!(json.stderr, "", "findings are in the report");
        let report = json.json();
        assert_eq!(report["works"], true);
        assert_eq!(report["name"], bench.name.as_str());
        let steps = report["steps"].as_array().unwrap();
        let listed: Vec<&str> = text
            .stdout
            .lines()
            .filter(|line| line.contains("  ok    ") || line.contains("  FAIL  "))
            .collect();
        assert_eq!(listed.len(), steps.len(), "{}", text.stdout);
        let reasons = text.stdout.lines().last().unwrap();
        assert!(reasons.starts_with(&format!("{} steps; ", steps.len())), "{reasons}");
        let unit = bench.unit.display().to_string();
        let lines = fs::read_to_string(&bench.unit).unwrap().lines().count();
        for (index, (line, step)) in listed.iter().zip(steps).enumerate() {
            let word = |field: &str| step[field].as_str().unwrap();
            assert_eq!(step["number"], index + 1);
            assert_eq!(step["works"], true);
            let short: String = word("step").chars().take(160).collect();
            assert!(line.contains(&short), "{line}: {step}");
            assert!(line.ends_with(word("origin")), "{line}: {step}");
            // A line of the unit, the default of a key, or a reason in words.
            let origin = word("origin");
            if let Some(number) = origin.strip_prefix(&format!("{unit}:")) {
                assert!((1..=lines).contains(&number.parse().unwrap()), "{origin}");
            } else if let Some(key) = origin.strip_prefix("default of ") {
                let known = jailrun::unit::keys::KEYS.iter().any(|known| {
                    key == known.name || key == format!("{}.{}", known.table, known.name)
                });
                let table = jailrun::unit::keys::TABLES.iter().any(|known| key == known.name);
                assert!(known || table, "{origin}");
            } else {
                assert!(origin.contains(' '), "{origin}");
            }
        }
        let side = |name: &str| steps.iter().filter(|step| step["side"] == name).count();
        assert!(side("host") > 3 && side("jail") > 20);
        assert!(steps[side("host") - 1]["step"].as_str().unwrap().starts_with("clone "));
    }
}

#[test]
fn effective_values_name_their_place() {
    let bench = Bench::new(
        "[process]\ncommand = [\"/probe\"]\n[limits]\npids = 9\n[[mounts]]\ntarget = \"/data\"\ntmpfs = \"1M\"\n",
    );
    let report = bench.dry_run(Caller::Root, &["--json", "--set", "process.umask=077"]).json();
    let setting = |key: &str| {
        let settings = report["settings"].as_array().unwrap();
        let found: Vec<_> = settings.iter().filter(|setting| setting["key"] == key).collect();
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        let word = |field: &str| found[0][field].as_str().unwrap().to_owned();
        (word("value"), word("origin"))
    };
    let unit = bench.unit.display().to_string();
    let at = |line: usize| format!("{unit}:{line}");
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(setting("name"), pair(&format!("\"{}\"", bench.name), &at(1)));
    assert_eq!(setting("limits.pids"), pair("9", &at(8)));
    assert_eq!(setting("mounts[0].target"), pair("\"/data\"", &at(10)));
    assert_eq!(setting("process.umask"), pair("077", "--set process.umask=077"));
    assert_eq!(setting("limits.memory"), pair("\"infinity\"", "default"));
    assert_eq!(setting("limits.rlimits.core"), pair("0", "default"));
    // Every default that stands for something is listed.
    for key in jailrun::unit::keys::KEYS {
        // They belong to a root with memory, or to a packed one.
        let of_memory = ["mode", "upper-size", "ephemeral-size", "strip-components", "offset"];
        let of_root = key.table == "root" && of_memory.contains(&key.name);
        // And these to a user namespace with a map.
        let elsewhere = of_root || key.table == "idmap";
        if key.default.is_empty() || jailrun::unit::keys::is_repeated(key.table) || elsewhere {
            continue;
        }
        setting(&format!("{}.{}", key.table, key.name));
    }
}

#[test]
fn a_default_is_the_one_of_the_roots_kind() {
    // `ephemeral = false` was taken for a root that takes changes.
    let bench = Bench::new("");
    let text = fs::read_to_string(&bench.unit).unwrap();
    let path = format!("path = \"{}\"", bench.root.display());
    for (root, read_only, sizes) in [
        ("host = true\nephemeral = false", "true", &[][..]),
        ("host = true\nephemeral = true", "false", &["root.ephemeral-size"]),
        ("lower = [\"/srv\"]\nupper = \"tmpfs\"", "false", &["root.upper-size"]),
        ("lower = [\"/srv\"]\nupper = \"/usr\"", "false", &[]),
        ("lower = [\"/srv\"]", "true", &[]),
    ] {
        fs::write(&bench.unit, text.replace(&path, root)).unwrap();
        let words = ["--json", "--", "/probe"];
        let report = bench.dry_run(Caller::Root, &words).json();
        let settings = report["settings"].as_array().unwrap();
        let value = |key: &str| {
            let found = settings.iter().find(|setting| setting["key"] == key);
            found.map(|setting| setting["value"].as_str().unwrap().to_owned())
        };
        assert_eq!(value("root.read-only").as_deref(), Some(read_only), "{root}");
        for key in ["root.upper-size", "root.ephemeral-size"] {
            assert_eq!(value(key).is_some(), sizes.contains(&key), "{root}: {key}");
        }
    }
}

/// The report without what differs from machine to machine and run to run.
fn portable(text: &str, bench: &Bench, caller: Caller) -> String {
    let state = match caller {
        Caller::User => "/tmp/jailrun-65534",
        Caller::Root if text.contains("/dev/shm/jailrun-0") => "/dev/shm/jailrun-0",
        Caller::Root => "/run/jailrun",
    };
    let mut portable = String::new();
    let mut number = 0;
    let text = text
        .replace(&bench.unit.display().to_string(), "[UNIT]")
        .replace(&bench.directory.path().display().to_string(), "[DIRECTORY]")
        .replace(&bench.name, "[NAME]")
        .replace(state, "[STATE]");
    for line in text.lines() {
        // A process is born in a control group of version 2, with its namespaces.
        let born = line.split_once("; in the control group ");
        let born =
            born.and_then(|(head, tail)| Some(format!("{head}  {}", tail.split_once("  ")?.1)));
        let line = born.as_deref().unwrap_or(line);
        // What is hidden depends on what this kernel has in /proc and /sys;
        // where the default limit goes, on its control groups.
        if [
            "hide /",
            "read-only  default",
            "control group",
            "pids.max",
            "controllers",
            "move jailrun",
            "left out",
        ]
        .iter()
        .any(|word| line.contains(word))
        {
            continue;
        }
        let mut line = line.to_owned();
        if let Some(at) = line.find("  ok    ") {
            number += 1;
            line = format!("{number:4}{}", &line[at..]);
        }
        let line = replace_number(&line, "compare mountinfo with the ", " planned");
        let line = replace_number(&line, "", " steps; the jail");
        // Padding goes with the length of what was replaced.
        portable.push_str(line.trim_end());
        portable.push('\n');
    }
    portable
}

/// Replaces the number between two texts.
fn replace_number(line: &str, before: &str, after: &str) -> String {
    if let Some((head, rest)) = line.split_once(before)
        && let Some((number, tail)) = rest.split_once(after)
        && !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
    {
        return format!("{head}{before}[NUMBER]{after}{tail}");
    }
    line.to_owned()
}

#[test]
fn the_report_reads_as_it_should() {
    for (caller, file) in [(Caller::Root, "dry-run-root.txt"), (Caller::User, "dry-run-user.txt")] {
        let bench = Bench::new(
            "[process]\ncommand = [\"/probe\", \"report\"]\n[[mounts]]\ntarget = \"/data\"\ntmpfs = \"1M\"\n",
        );
        let run = bench.dry_run(caller, &[]);
        assert_eq!((run.status, &*run.stderr), (0, ""), "{run:?}");
        let seen = portable(&run.stdout, &bench, caller);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/golden").join(file);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&path, &seen).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(seen == expected, "{file} differs\n--- expected\n{expected}\n--- seen\n{seen}");
    }
}
