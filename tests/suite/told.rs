//! What would fail is told before: `--dry-run` against `up`, unit by unit.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use crate::support::{
    Bench, CALLERS, Caller, command, copy_program, finish, jailrun, probe, write_script,
};

/// Runs a unit dry and in earnest: both have to say so, or neither.
fn assert_told(caller: Caller, root_keys: &str, text: &str, prepare: impl Fn(&Bench), told: &str) {
    let bench = Bench::with_root(root_keys, text);
    prepare(&bench);
    let dry = bench.dry_run(caller, &[]);
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
fn what_nobody_can_look_into_yet_is_not_called_fine() {
    let bench = Bench::new("[process]\ncommand = [\"/probe\", \"true\"]\n");
    let tar = bench.directory.path().join("root.tar");
    let pack = ["-C", bench.root.to_str().unwrap(), "-cf", tar.to_str().unwrap(), "."];
    let run = finish(command(Caller::Root, Path::new("tar"), &pack).spawn().unwrap());
    assert_eq!(run.status, 0, "{run:?}");
    let kind = format!("root={{ tmpfs = \"16M\", populate = [{tar:?}] }}");
    let as_root = ["--set", "root=", "--set", &kind];
    let bound = format!("mounts=[{{ bind = {:?}, target = \"/opt\" }}]", bench.root);
    let unknown = "  known when the root is unpacked  ";
    for (further, marked, status) in [
        (&[][..], &["execute /probe true"][..], 0),
        (&["--set", "process.command=[\"/nowhere\"]"], &["execute /nowhere"], 127),
        (&["--set", "process.cwd=/nowhere"], &["go to /nowhere", "execute /probe true"], 125),
        // What is bound over it is seen.
        (&["--set", &bound, "--set", "process.command=[\"/opt/probe\", \"true\"]"], &[], 0),
    ] {
        for caller in CALLERS {
            let arguments = [&as_root, further].concat();
            let dry = bench.dry_run(caller, &arguments);
            let end = match marked {
                [] => "would start\n",
                _ => "would start, if what is marked ? works\n",
            };
            assert_eq!(dry.status, 0, "{dry:?}");
            assert!(dry.stdout.ends_with(end), "{further:?} {dry:?}");
            let lines: Vec<_> = dry.stdout.lines().filter(|line| line.contains("  ?   ")).collect();
            assert_eq!(lines.len(), marked.len(), "{further:?} {dry:?}");
            for (line, step) in lines.iter().zip(marked) {
                assert!(line.contains(&format!("{step}{unknown}")), "{line}");
            }
            let report = bench.dry_run(caller, &[&arguments[..], &["--json"]].concat()).json();
            let steps = report["steps"].as_array().unwrap();
            let nulls = steps.iter().filter(|step| step["works"].is_null()).count();
            assert_eq!((nulls, &report["works"]), (marked.len(), &true.into()), "{report}");
            let up = bench.up(caller, &arguments);
            assert_eq!(up.status, status, "{further:?} {up:?}");
        }
    }
    bench.assert_nothing_left();
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
    let (dry, up) = (bench.dry_run(Caller::Root, &[]), bench.up(Caller::Root, &[]));
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
