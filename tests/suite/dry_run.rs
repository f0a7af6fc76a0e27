//! `--dry-run`, `--explain` and `check` change nothing, and what they say is
//! what `up` does.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use crate::support::{
    Bench, CALLERS, Caller, Run, command, copy_program, finish, jailrun, leftovers, probe,
    write_script,
};

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

fn dry_run(bench: &Bench, caller: Caller, arguments: &[&str]) -> Run {
    let mut words = vec!["up", bench.unit.to_str().unwrap(), "--dry-run"];
    words.extend(arguments);
    finish(command(caller, jailrun(), &words).spawn().unwrap())
}

#[test]
fn the_status_tells_whether_the_launch_would_work() {
    let bench = Bench::new("[process]\ncommand = [\"/probe\", \"report\"]\n");
    for caller in CALLERS {
        let run = dry_run(&bench, caller, &[]);
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
            let run = dry_run(&bench, caller, &["--set", assignment]);
            assert_eq!(run.status, 1, "{caller:?} {assignment}: {run:?}");
            assert!(run.stdout.contains("would not start"), "{caller:?} {assignment}: {run:?}");
            let up = bench.up(caller, &["--set", assignment]);
            assert_ne!(up.status, 0, "{caller:?} {assignment}: {up:?}");
        }
    }
    // A controller that the ordinary user does not have.
    let run = dry_run(&bench, Caller::User, &["--set", "limits.memory=64M"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("`memory` cannot be set on this host"), "{run:?}");
    assert_eq!(dry_run(&bench, Caller::Root, &["--set", "limits.memory=64M"]).status, 0);
    bench.assert_nothing_left();
}

/// Runs a unit dry and in earnest: both have to say so, or neither.
fn assert_told(caller: Caller, root_keys: &str, text: &str, prepare: impl Fn(&Bench), told: &str) {
    let bench = Bench::with_root(root_keys, text);
    prepare(&bench);
    let dry = dry_run(&bench, caller, &[]);
    let up = bench.up(caller, &[]);
    if told.is_empty() {
        assert_eq!((dry.status, up.status), (0, 0), "{text}: {dry:?} {up:?}");
    } else {
        assert!(dry.stderr.contains(told), "{caller:?} {text}: {dry:?}");
        assert_eq!(dry.status, 1, "{text}: {dry:?}");
        assert!((125..=127).contains(&up.status), "{text}: {up:?}");
    }
    bench.assert_nothing_left();
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory with the probe, and what its mode is.
fn closed(bench: &Bench, mode: u32) {
    let closed = bench.root.join("closed");
    fs::create_dir(&closed).unwrap();
    copy_program(probe(), &closed.join("probe"));
    set_mode(&closed, mode);
}

#[test]
fn who_may_not_run_the_command_is_told_before() {
    let command = "[process]\ncommand = [\"/closed/probe\", \"true\"]\n";
    let user = format!("{command}user = 1000\n");
    let root = Caller::Root;
    for (text, mode, told) in [
        (command, 0o700, ""),
        (&user, 0o700, "user 1000 may not enter `/closed`: its mode is 0700, its owner 0:0"),
        (&user, 0o750, "user 1000 may not enter `/closed`"),
        (&user, 0o751, ""),
        (&format!("{user}group = 0\n"), 0o750, ""),
        (&format!("{user}supplementary-groups = [0]\n"), 0o750, ""),
        (
            &format!(
                "{user}[security]\nambient-capabilities = [\"CAP_DAC_READ_SEARCH\"]\ncapabilities = [\"CAP_DAC_READ_SEARCH\"]\n"
            ),
            0o700,
            "",
        ),
    ] {
        assert_told(root, "", text, |bench| closed(bench, mode), told);
    }
    let mapped = format!("{command}[namespaces]\nuser = \"private\"\n");
    assert_told(root, "", &mapped, |bench| closed(bench, 0o700), "");
    assert_told(Caller::User, "", command, |bench| closed(bench, 0o711), "");
    let told = "a directory on the way is closed to you, and so to the jail";
    assert_told(Caller::User, "", command, |bench| closed(bench, 0o700), told);
}

#[test]
fn a_program_or_script_that_its_user_may_not_use_is_told_before() {
    let probe_mode = |mode: u32| move |bench: &Bench| set_mode(&bench.root.join("probe"), mode);
    let user = "[process]\ncommand = [\"/probe\", \"true\"]\nuser = 1000\n";
    assert_told(Caller::Root, "", user, probe_mode(0o744), "user 1000 may not run `/probe`");
    assert_told(Caller::Root, "", user, probe_mode(0o711), "");
    let as_root = user.replace("user = 1000", "");
    let told = "root may not run `/probe`: its mode is 0100, its owner 65534:65534";
    assert_told(Caller::Root, "", &as_root, probe_mode(0o100), told);
    let mighty = format!("{as_root}[security]\ncapabilities = [\"CAP_DAC_OVERRIDE\"]\n");
    assert_told(Caller::Root, "", &mighty, probe_mode(0o100), "");
    let told = "root may not run `/probe`: its mode is 0644, its owner 65534:65534";
    assert_told(Caller::Root, "", &mighty, probe_mode(0o644), "it is not executable");
    assert_told(
        Caller::Root,
        "",
        &as_root,
        probe_mode(0o654),
        told.replace("0644", "0654").as_str(),
    );
    // That its interpreter may not read it is between the two.
    let script = |bench: &Bench| {
        write_script(&bench.root.join("script"), "#!/closed/probe read\n");
        set_mode(&bench.root.join("script"), 0o755);
        closed(bench, 0o700);
    };
    let text = user.replace("/probe\", \"true", "/script");
    assert_told(Caller::Root, "", &text, script, "its interpreter: permission denied");
    // An access control list gives more than the mode says.
    let listed = |bench: &Bench| {
        let entry = |tag: u16, bits: u16, id: u32| {
            [&tag.to_le_bytes()[..], &bits.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let nobody = u32::MAX;
        let list = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 7, nobody),
            entry(2, 5, 1000),
            entry(4, 4, nobody),
            entry(16, 5, nobody),
            entry(32, 0, nobody),
        ];
        let probe = bench.root.join("probe");
        xattr::set(probe, "system.posix_acl_access", &list.concat()).unwrap();
    };
    assert_told(Caller::Root, "", user, listed, "");
}

#[test]
fn a_mount_that_nothing_runs_from_is_told_before() {
    let unit = |key: &str| {
        format!(
            "[process]\ncommand = [\"/data/probe\", \"true\"]\n[[mounts]]\nbind = \"{{root}}\"\ntarget = \"/data\"\n{key}\n"
        )
    };
    for caller in CALLERS {
        let told = "the program lies on a mount with `noexec`";
        assert_told(caller, "", &unit("noexec = true"), |_| (), told);
        assert_told(caller, "", &unit(""), |_| (), "");
    }
}

#[test]
fn a_stream_that_cannot_be_opened_is_told_before() {
    let unit = |keys: &str| format!("[process]\ncommand = [\"/probe\", \"true\"]\n{keys}\n");
    let secret = |bench: &Bench| {
        let path = bench.directory.path().join("secret");
        fs::write(&path, "").unwrap();
        set_mode(&path, 0o600);
    };
    for (keys, of_root, of_user) in [
        ("stdin = \"file:{dir}/secret\"", "", "/secret` cannot be read"),
        ("stdout = \"append:{dir}/secret\"", "", "/secret` cannot be written"),
        ("stderr = \"file:/etc/jailrun-test-none\"", "", "its directory: permission denied"),
        ("stdout = \"append:/etc\"", "a directory", "a directory"),
        ("stdin = \"file:/etc\"", "a directory", "a directory"),
    ] {
        assert_told(Caller::User, "", &unit(keys), secret, of_user);
        assert_told(Caller::Root, "", &unit(keys), secret, of_root);
        drop(fs::remove_file("/etc/jailrun-test-none"));
    }
}

#[test]
fn a_file_that_is_another_namespace_or_none_is_told_before() {
    let unit =
        |keys: &str| format!("[process]\ncommand = [\"/probe\", \"true\"]\n[namespaces]\n{keys}\n");
    for (keys, told) in [
        ("uts = \"/proc/self/ns/net\"", "not a uts namespace"),
        ("ipc = \"/etc/passwd\"", "not a namespace"),
        ("pid = \"/proc/self/ns/ipc\"", "not a pid namespace"),
        ("uts = \"/proc/self/ns/uts\"", ""),
        ("time = \"private\"\ntime-offsets = { boottime = \"-1000d\" }", "would show less than 0"),
        ("time = \"private\"\ntime-offsets = { boottime = \"-1s\" }", ""),
    ] {
        assert_told(Caller::Root, "", &unit(keys), |_| (), told);
    }
}

#[test]
fn an_archive_that_is_none_is_told_before() {
    let directory = crate::support::scratch();
    let unit = directory.path().join("unit.toml");
    fs::write(directory.path().join("letter"), "Dear reader, ".repeat(100)).unwrap();
    fs::write(&unit, "[root]\ntar = \"letter\"\n[process]\ncommand = [\"/probe\"]\n").unwrap();
    for option in ["--dry-run", "--quiet"] {
        let run = crate::support::run(Caller::Root, &["up", unit.to_str().unwrap(), option]);
        assert!([1, 125].contains(&run.status), "{run:?}");
        assert!(run.stderr.contains("error[E0313]: the archive cannot be used"), "{run:?}");
        assert!(run.stderr.contains("this is not a tar archive"), "{run:?}");
    }
}

#[test]
fn a_content_file_that_is_hidden_is_hidden_as_a_file() {
    let text = "[process]\ncommand = [\"/probe\", \"true\"]\n[[mounts]]\ncontent = \"a\"\ntarget = \"/tmp/x\"\n[[mounts]]\nmask = true\ntarget = \"/tmp/x\"\n";
    assert_told(Caller::Root, "", text, |_| (), "");
    // It was a directory to what comes after it.
    let twice = text.replace("mask = true", "content = \"b\"");
    assert_told(Caller::Root, "", &twice, |_| (), "");
    let run = "[process]\ncommand = [\"/tmp/x\"]\n[[mounts]]\ncontent = \"#!/probe\"\ntarget = \"/tmp/x\"\n";
    assert_told(Caller::Root, "", run, |_| (), "it is not executable");
}

#[test]
fn a_path_made_read_only_over_a_mount_that_hides_another_starts() {
    let text = "[process]\ncommand = [\"/probe\", \"true\"]\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/data\"\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/data/sub\"\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/data\"\n[security]\nread-only-paths = [\"/data\"]\n";
    assert_told(Caller::Root, "", text, |_| (), "");
}

#[test]
fn an_unbindable_mount_that_is_to_be_read_only_is_told_before() {
    let unit = |target: &str, protected: &str| {
        format!(
            "[process]\ncommand = [\"/probe\", \"true\"]\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/data\"\n[[mounts]]\nbind = \"{{root}}/etc\"\ntarget = \"{target}\"\npropagation = \"unbindable\"\n[security]\nread-only-paths = [\"{protected}\"]\n"
        )
    };
    for (target, protected, told) in [
        ("/data/in", "/data/in", "`/data/in` must not be bound"),
        ("/data/in", "/data", "`/data/in` must not be bound"),
        ("/tmp/in", "/data", ""),
    ] {
        assert_told(Caller::Root, "", &unit(target, protected), |_| (), told);
    }
}

/// A unit that runs the probe, with these further tables.
fn with_tables(tables: &str) -> String {
    format!("[process]\ncommand = [\"/probe\", \"true\"]\n{tables}\n")
}

#[test]
fn what_procfs_has_of_one_process_is_no_target() {
    let told = "is of one process";
    for (tables, told) in [
        ("[security]\nmasked-paths = [\"@default\", \"/proc/net\"]", told),
        ("[security]\nmasked-paths = [\"@default\", \"/proc/self/environ\"]", told),
        // Of a process of the host, which need not be one of the jail.
        ("[security]\nmasked-paths = [\"/proc/2/environ\"]", told),
        ("[security]\nread-only-paths = [\"/proc/self/attr\"]", told),
        ("[[mounts]]\ncontent = \"a\"\ntarget = \"/proc/mounts\"", told),
        ("[[mounts]]\ncontent = \"a\"\ntarget = \"/proc/net/dev\"", told),
        ("[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/proc/thread-self/attr\"", told),
        ("[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/dev/fd\"", told),
        ("[[mounts]]\ncontent = \"a\"\ntarget = \"/dev/stdin\"", told),
        ("[[mounts]]\nmask = true\ntarget = \"/proc/self/maps\"", told),
        ("[[mounts]]\nmask = true\noptional = true\ntarget = \"/proc/1/maps\"", told),
        (
            "[[mounts]]\nproc = true\ntarget = \"/data\"\n[[mounts]]\nmask = true\ntarget = \"/data/1/maps\"",
            told,
        ),
        ("[security]\nmasked-paths = [\"@default\", \"/proc/version\"]", ""),
        ("[security]\nread-only-paths = [\"@default\", \"/proc/tty\"]", ""),
    ] {
        for namespaces in ["", "\n[namespaces]\npid = \"host\""] {
            let text = with_tables(&format!("{tables}{namespaces}"));
            assert_told(Caller::Root, "", &text, |_| (), told);
        }
        assert_told(Caller::User, "", &with_tables(tables), |_| (), told);
    }
    for cwd in ["/proc/self", "/proc/2", "/proc/thread-self/fd"] {
        let text = with_tables(&format!("cwd = \"{cwd}\""));
        assert_told(Caller::Root, "", &text, |_| (), told);
    }
    assert_told(Caller::Root, "", &with_tables("cwd = \"/proc/sys\""), |_| (), "");
    // A directory of the root is called that, too.
    let plain = with_tables(
        "[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/proc/self\"\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/proc/7\"",
    );
    let keys = "api-filesystems = [\"/dev\"]";
    assert_told(Caller::Root, keys, &plain, |_| (), "");
}

#[test]
fn a_link_sees_what_the_plan_has_made() {
    let link =
        |target: &str, to: &str| format!("[[mounts]]\nsymlink = \"{to}\"\ntarget = \"{target}\"\n");
    let below = "[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/tmp/d/e\"\n";
    for (mounts, told) in [
        (link("/tmp/a", "/b") + &link("/tmp/a", "/c"), "`/tmp/a` exists in the jail already"),
        (link("/tmp/a", "/b") + &link("/tmp/a", "/b"), ""),
        (link("/dev/stdin", "/proc/self/fd/3"), "`/dev/stdin` exists in the jail already"),
        (link("/dev/stdin", "/proc/self/fd/0"), ""),
        (link("/dev/null", "zero"), "`/dev/null` exists in the jail already"),
        (link("/dev/pts/ptmx", "/b"), "`/dev/pts/ptmx` exists in the root"),
        (below.to_owned() + &link("/tmp/d", "/b"), "`/tmp/d` exists in the jail already"),
        (below.to_owned() + &link("/tmp/d/f", "/b"), ""),
        (link("/tmp", "/b"), "`/tmp` exists in the jail already"),
        (link("/etc", "/b"), "`/etc` exists in the root"),
    ] {
        for caller in CALLERS {
            assert_told(caller, "", &with_tables(&mounts), |_| (), told);
        }
    }
}

#[test]
fn queues_and_terminals_show_nothing_of_the_host() {
    let kinds = ["mqueue", "devpts"];
    for (kind, caller) in kinds.into_iter().flat_map(|kind| CALLERS.map(|it| (kind, it))) {
        let on = |target: &str| format!("[[mounts]]\n{kind} = true\ntarget = \"{target}\"\n");
        for target in ["/proc", "/sys", "/dev/new"] {
            assert_told(caller, "", &with_tables(&on(target)), |_| (), "");
        }
        // The host has a `/usr/bin`.
        let text = on("/usr") + "[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/usr/bin\"\n";
        let told = "it lies in a file system of the kernel";
        assert_told(caller, "", &with_tables(&text), |_| (), told);
        let text = format!("[process]\ncommand = [\"/usr/bin/env\"]\n{}", on("/usr"));
        let told = "`/usr/bin/env` does not exist in the jail";
        assert_told(caller, "", &text, |_| (), told);
    }
    let ptmx = "[[mounts]]\ndevpts = true\ntarget = \"/data\"\n[[mounts]]\nmask = true\ntarget = \"/data/ptmx\"\n";
    assert_told(Caller::Root, "", &with_tables(ptmx), |_| (), "");
}

/// What gives a jail of root's a user namespace, and that an ordinary user has.
const USER_NAMESPACES: [(Caller, &str); 3] = [
    (Caller::Root, "\n[idmap]\n"),
    (Caller::Root, "\n[namespaces]\nuser = \"private\"\n"),
    (Caller::User, ""),
];

#[test]
fn access_times_that_the_kernel_keeps_are_told_before() {
    let mount = |kind: &str| {
        with_tables(&format!("[[mounts]]\n{kind}\ntarget = \"/data\"\nnoatime = true\n"))
    };
    let content = with_tables("[[mounts]]\ncontent = \"a\"\ntarget = \"/tmp/a\"\nnoatime = true\n");
    let own = "overlay = { lower = [\"{root}/etc\", \"{root}/run\"] }";
    let bind = "bind = \"{root}/etc\"";
    let told = |path: &str| format!("`noatime` of `{path}` needs real root");
    for (caller, tables) in USER_NAMESPACES {
        for kind in ["tmpfs = \"1M\"", "mqueue = true", "devpts = true", own] {
            assert_told(caller, "", &(mount(kind) + tables), |_| (), "");
        }
        assert_told(caller, "", &(content.clone() + tables), |_| (), "");
        assert_told(caller, "", &(mount("proc = true") + tables), |_| (), &told("/proc"));
        assert_told(caller, "", &(mount("sysfs = true") + tables), |_| (), &told("/sys"));
        // With ids of its own, the tree is opened outside.
        let is_opened = tables.contains("idmap");
        let bound = if is_opened { "" } else { "needs real root" };
        assert_told(caller, "", &(mount(bind) + tables), |_| (), bound);
        let network = mount("sysfs = true") + "[network]\nmode = \"host\"" + tables;
        assert_told(caller, "", &network, |_| (), &told("/sys"));
    }
    for kind in ["proc = true", "sysfs = true", bind] {
        assert_told(Caller::Root, "", &mount(kind), |_| (), "");
    }
}

#[test]
fn a_namespace_that_a_user_namespace_has_no_rights_in_is_told_before() {
    for (caller, tables) in USER_NAMESPACES {
        let unit = |keys: &str| {
            // The table is there already in one of them.
            let own = tables.strip_prefix("\n[namespaces]\n");
            let further = own.map_or(tables.to_owned(), |_| String::new());
            let keys = format!("{keys}\n{}", own.unwrap_or(""));
            with_tables(&format!("[namespaces]\n{keys}{further}"))
        };
        for kind in ["ipc", "uts", "cgroup"] {
            let text = unit(&format!("{kind} = \"/proc/self/ns/{kind}\""));
            let told = format!("to join `/proc/self/ns/{kind}` needs real root");
            assert_told(caller, "", &text, |_| (), &told);
        }
        for (kind, mount) in [("ipc", "mqueue"), ("cgroup", "cgroup")] {
            let mounts = format!("[[mounts]]\n{mount} = true\ntarget = \"/data\"\n");
            let text = unit(&format!("{kind} = \"host\"")) + &mounts;
            let told = format!("a new {mount} of a shared namespace needs real root");
            assert_told(caller, "", &text, |_| (), &told);
            assert_told(caller, "", &(unit("") + &mounts), |_| (), "");
        }
        let text = unit("pid = \"/proc/self/ns/pid\"");
        let (told, alone) = match caller {
            Caller::Root => ("a new proc of a shared namespace needs real root", ""),
            Caller::User => {
                let told = "to join `/proc/self/ns/pid` needs real root";
                (told, told)
            }
        };
        assert_told(caller, "", &text, |_| (), told);
        assert_told(caller, "api-filesystems = [\"/dev\"]", &text, |_| (), alone);
    }
}

#[test]
fn a_nice_value_that_the_caller_may_not_have_is_told_before() {
    let bench = Bench::new(&with_tables("nice = 3"));
    let unit = bench.unit.to_str().unwrap();
    for (own, told) in [(0, ""), (3, ""), (7, "the caller's is 7")] {
        let line = format!("nice -n {own} \"$@\"");
        let words = |option| ["-c", &*line, "sh", jailrun().to_str().unwrap(), "up", unit, option];
        let nice = |caller, option: &'static str| {
            finish(command(caller, Path::new("sh"), &words(option)).spawn().unwrap())
        };
        let (dry, up) = (nice(Caller::User, "--dry-run"), nice(Caller::User, "--quiet"));
        let expected = if told.is_empty() { (0, 0) } else { (1, 125) };
        assert_eq!((dry.status, up.status), expected, "{dry:?} {up:?}");
        assert!(dry.stderr.contains(told) && up.stderr.contains(told), "{dry:?} {up:?}");
        assert_eq!(nice(Caller::Root, "--quiet").status, 0);
    }
    bench.assert_nothing_left();
}

#[test]
fn the_command_is_searched_where_execve_will() {
    let unit = |cwd: &str, path: &str| {
        format!(
            "[process]\ncommand = [\"tool\", \"true\"]\nuser = 1000\ncwd = \"{cwd}\"\nenv = {{ PATH = \"{path}\" }}\n"
        )
    };
    let prepare = |bench: &Bench| {
        let mode = |directory: &str, mode: u32| {
            fs::create_dir_all(bench.root.join(directory)).unwrap();
            copy_program(probe(), &bench.root.join(directory).join("tool"));
            set_mode(&bench.root.join(directory).join("tool"), mode);
        };
        mode("opt/bin", 0o755);
        // Another user than 1000 may.
        mode("closed", 0o700);
        fs::create_dir_all(bench.root.join("empty")).unwrap();
    };
    let missing = "`tool` does not exist in the jail";
    for (cwd, path, told) in [
        ("/opt/bin", "", ""),
        ("/opt", "", missing),
        ("/opt", "bin", ""),
        ("/", "bin", missing),
        ("/opt/bin", "/empty:", ""),
        ("/", "/empty:/opt/bin", ""),
        ("/opt", "/empty", missing),
        // What its user may not run is passed over.
        ("/", "/closed:/opt/bin", ""),
        ("/", "/closed", "user 1000 may not run `/closed/tool`"),
        ("/", "/closed:/empty", "user 1000 may not run `/closed/tool`"),
    ] {
        assert_told(Caller::Root, "", &unit(cwd, path), prepare, told);
    }
}

#[test]
fn a_path_that_the_image_and_the_unit_set_is_the_units() {
    let passed = "[process]\ncommand = [\"probe\", \"true\"]\nenv-pass = [\"PATH\"]\n";
    assert_told(Caller::Root, "", passed, |_| (), "`probe` does not exist in the jail");
    let both = format!("{passed}env = {{ PATH = \"/\" }}\n");
    assert_told(Caller::Root, "", &both, |_| (), "");
}

#[test]
fn a_file_that_is_no_program_is_told_before() {
    let text = "[process]\ncommand = [\"/file\"]\n";
    let chain = |scripts: usize| {
        move |bench: &Bench| {
            for number in 1..scripts {
                let path = bench.root.join(format!("script{number}"));
                let next = if number + 1 == scripts {
                    "/probe read".to_owned()
                } else {
                    format!("/script{}", number + 1)
                };
                write_script(&path, &format!("#!{next}\n"));
            }
        }
    };
    for (content, told) in [
        ("", "it is an empty file"),
        ("true\n", "it is a text without `#!`"),
        ("\u{7f}ELF", "it is an ELF file that is no program, or damaged"),
        ("#!\n", "it is a script that names no interpreter"),
        ("#!/etc\n", "`/file` needs `/etc`, which is a directory"),
        ("#!/etc/passwd\n", "`/file` needs `/etc/passwd`, which is not executable"),
        ("#!/dev/null\n", "`/file` needs `/dev/null`, which is not a regular file"),
        ("#!/proc/self/exe\n", "`/file` needs `/proc/self/exe`, which is in `/proc`"),
        ("#!/probe\r\n", "which the jail does not have"),
        ("#!probe read\n", ""),
        ("#! \t/probe read", ""),
    ] {
        for caller in CALLERS {
            let write = |bench: &Bench| write_script(&bench.root.join("file"), content);
            assert_told(caller, "", text, write, told);
        }
    }
    let relative = format!("{text}cwd = \"/etc\"\n");
    let write = |bench: &Bench| write_script(&bench.root.join("file"), "#!probe read\n");
    assert_told(Caller::Root, "", &relative, write, "`/file` needs `probe`");
    // The kernel follows five.
    let text = "[process]\ncommand = [\"/script1\"]\n";
    let bench = Bench::new(text);
    chain(6)(&bench);
    let (dry, up) = (dry_run(&bench, Caller::Root, &[]), bench.up(Caller::Root, &[]));
    // The probe is run, with more arguments than it takes.
    assert_eq!((dry.status, up.status), (0, 2), "{dry:?} {up:?}");
    assert_told(Caller::Root, "", text, chain(7), "it is too many interpreters in a row");
}

#[test]
fn a_command_that_leads_to_proc_is_told_so() {
    let text = "[process]\ncommand = [\"/me\"]\n";
    let link = |bench: &Bench| {
        std::os::unix::fs::symlink("/proc/self/exe", bench.root.join("me")).unwrap();
    };
    for caller in CALLERS {
        assert_told(caller, "", text, link, "leads to `/proc`");
    }
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
fn what_cannot_be_created_on_the_host_is_told_before() {
    let close = |mode: u32| {
        move |bench: &Bench| {
            let upper = bench.root.join("upper");
            fs::create_dir(&upper).unwrap();
            std::os::unix::fs::chown(&upper, Some(65534), Some(65534)).unwrap();
            std::os::unix::fs::chown(&bench.root, Some(0), Some(0)).unwrap();
            set_mode(&bench.root, mode);
        }
    };
    let mount =
        |target: &str| with_tables(&format!("[[mounts]]\ntmpfs = \"1M\"\ntarget = \"{target}\"\n"));
    let told = "root/absent` cannot be created";
    assert_told(Caller::User, "", &mount("/absent"), close(0o755), told);
    assert_told(Caller::User, "", &mount("/absent/below"), close(0o755), told);
    assert_told(Caller::User, "", &mount("/absent"), close(0o777), "");
    // The directory in it is the user's.
    assert_told(Caller::User, "", &mount("/data/absent"), close(0o755), "");
    assert_told(Caller::Root, "", &mount("/absent"), close(0o755), "");
    let link = with_tables("[[mounts]]\nsymlink = \"/a\"\ntarget = \"/absent\"\n");
    assert_told(Caller::User, "", &link, close(0o755), told);
    let overlay = with_tables(
        "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{root}/etc\"], upper = \"{root}/upper\" }\n",
    );
    // Where the kernel works on it.
    assert_told(Caller::User, "", &overlay, close(0o755), "` cannot be created");
    assert_told(Caller::User, "", &overlay, close(0o777), "");
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
            dry_run(&other, caller, &["--set", &name]).status == 1
        });
        let run = dry_run(&other, caller, &["--set", &name]);
        assert!(run.stdout.contains("a jail of this name is running"), "{run:?}");
        assert_eq!(dry_run(&other, caller, &[]).status, 0);
        // Looking must not have disturbed it: the name is still taken.
        let up = other.up(caller, &["--set", &name]);
        assert_eq!(up.status, 125, "{up:?}");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        finish(child);
        bench.assert_nothing_left();
        assert_eq!(dry_run(&other, caller, &["--set", &name]).status, 0);
    }
}

#[test]
fn every_step_has_its_origin_and_json_has_the_same_steps() {
    for caller in CALLERS {
        let bench = everything(caller);
        let text = dry_run(&bench, caller, &[]);
        let json = dry_run(&bench, caller, &["--json"]);
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
    let report = dry_run(&bench, Caller::Root, &["--json", "--set", "process.umask=077"]).json();
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
        let report = dry_run(&bench, Caller::Root, &words).json();
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
        let run = dry_run(&bench, caller, &[]);
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
