//! Roots that jailrun puts together: layers, memory over a tree, closures and
//! copies, through the binary on the real kernel.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use serde_json::Value;

use crate::support::{
    Bench, CALLERS, Caller, Run, command, eventually, finish, jailrun, run, scratch,
    shell_with_own_mounts, write_script,
};

/// A tree that a shell can run in: `base`, with the host's programs bound in.
/// `root` are the keys of `[root]`, `rest` what follows; `{dir}` and `{base}`
/// in them are replaced.
pub fn bench(root: &str, rest: &str) -> Bench {
    let usr = "[[mounts]]\ntarget = \"/usr\"\nbind = \"/usr\"\nread-only = true\n";
    let mut bench = Bench::with_root("", &format!("{usr}{rest}"));
    let text = fs::read_to_string(&bench.unit).unwrap();
    let path = format!("path = \"{}\"", bench.root.display());
    let base = bench.directory.path().join("base");
    fs::rename(&bench.root, &base).unwrap();
    bench.root = base;
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), bench.root.join(name)).unwrap();
    }
    fs::create_dir(bench.root.join("usr")).unwrap();
    let text = text
        .replace(&path, root)
        .replace("{base}", bench.root.to_str().unwrap())
        .replace("{dir}", bench.directory.path().to_str().unwrap());
    fs::write(&bench.unit, text).unwrap();
    own(&bench);
    bench
}

/// The ordinary user's jails own the trees too.
fn own(bench: &Bench) {
    host(bench, "chown -Rh 65534:65534 .");
}

/// Runs a script on the host, in the bench's directory.
fn host(bench: &Bench, script: &str) -> String {
    let output = Command::new("sh")
        .args(["-euc", script])
        .current_dir(bench.directory.path())
        .output()
        .unwrap();
    let run = Run::from_output(output);
    assert_eq!(run.status, 0, "{script}: {run:?}");
    run.stdout
}

/// Runs a script in the jail, which has every capability it can have.
fn inside(bench: &Bench, caller: Caller, script: &str) -> Run {
    let arguments = ["--set", "security.capabilities=all", "--", "/bin/sh", "-euc", script];
    bench.up(caller, &arguments)
}

/// The same; it must succeed.
fn output(bench: &Bench, caller: Caller, script: &str) -> String {
    let run = inside(bench, caller, script);
    assert_eq!((run.status, &*run.stderr), (0, ""), "{caller:?} {script}: {run:?}");
    run.stdout
}

/// Everything below a directory of the bench but what each launch writes anew.
fn listing(bench: &Bench, directory: &str) -> String {
    host(
        bench,
        &format!(
            "cd {directory}; find . -printf '%p %y %m %U %G %s %l %n %T@\\n' | sort; \
             find . -type f -exec sha256sum '{{}}' + | sort; getfattr -Rdh -m - . 2>/dev/null"
        ),
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

/// Starts a probe in the jail that runs until it is told to end.
fn start(bench: &Bench, caller: Caller) -> Child {
    use std::io::Read as _;
    let unit = bench.unit.to_str().unwrap();
    let words = ["up", "--quiet", unit, "--", "/probe", "trap"];
    let mut child = command(caller, jailrun(), &words).spawn().unwrap();
    let mut line = [0_u8; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    assert_eq!(&line, b"ready\n");
    child
}

fn stop(mut child: Child) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
    child.wait().unwrap();
}

fn report(bench: &Bench, caller: Caller, arguments: &[&str]) -> Value {
    let mut words = vec!["up", bench.unit.to_str().unwrap(), "--dry-run", "--json"];
    words.extend(arguments);
    let run = run(caller, &words);
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run:?}"))
}

/// The steps that would fail.
fn failing(report: &Value) -> Vec<String> {
    let steps = report["steps"].as_array().unwrap().iter();
    steps.filter(|step| step["works"] == false).map(|step| step["step"].to_string()).collect()
}

/// Names with everything that separates or quotes anywhere on the way to the
/// kernel.
const NAMES: &[&str] = &[
    "a:b", "c,d", "e\\f", "g h", "it's", "a \"q\"", "ünï", "\\", "x,ro", "i=j", "$HOME", "..x", "#",
];

#[test]
fn layers_lie_over_each_other_whatever_their_names() {
    let list: Vec<_> = NAMES.iter().map(|name| quoted(&format!("DIR/{name}"))).collect();
    let bench = bench(
        &format!(
            "lower = [{}, \"{{base}}\"]\nupper = {}",
            list.join(", "),
            quoted("DIR/u:p,\\ \"'")
        ),
        &format!("[[mounts]]\ntarget = \"/data\"\noverlay = {{ lower = [{}] }}\n", list.join(", ")),
    );
    let text = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, text.replace("DIR", bench.directory.path().to_str().unwrap())).unwrap();
    for (number, name) in NAMES.iter().enumerate() {
        let layer = bench.directory.path().join(name);
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("own-{number}")), "").unwrap();
        fs::write(layer.join("same"), format!("{number}\n")).unwrap();
    }
    let upper = bench.directory.path().join("u:p,\\ \"'");
    fs::create_dir(&upper).unwrap();
    own(&bench);
    for caller in CALLERS {
        let found = output(&bench, caller, "cat /same /data/same; ls / /data; echo x >/new");
        assert!(found.starts_with("0\n0\n"), "{found}");
        for number in 0..NAMES.len() {
            assert_eq!(found.matches(&format!("own-{number}\n")).count(), 2, "{number}: {found}");
        }
        assert_eq!(fs::read_to_string(upper.join("new")).unwrap(), "x\n");
        fs::remove_file(upper.join("new")).unwrap();
        own(&bench);
    }
    bench.assert_nothing_left();
}

#[test]
fn more_layers_than_options_have_room_for() {
    // Both lists are too long, and each layer got its short name twice.
    let list: Vec<_> = (0..60)
        .map(|number| {
            quoted(&format!("{{dir}}/a-name-so-long-that-a-page-is-full-of-it-soon-{number}"))
        })
        .collect();
    let list = list.join(", ");
    let bench = bench(
        &format!("lower = [{list}, \"{{base}}\"]\nupper = \"tmpfs\""),
        &format!("[[mounts]]\ntarget = \"/data\"\noverlay = {{ lower = [{list}] }}\n"),
    );
    for number in 0..60 {
        let layer = format!("a-name-so-long-that-a-page-is-full-of-it-soon-{number}");
        let layer = bench.directory.path().join(layer);
        fs::create_dir(&layer).unwrap();
        fs::write(layer.join(format!("own-{number}")), "").unwrap();
        fs::write(layer.join("same"), format!("{number}\n")).unwrap();
    }
    own(&bench);
    for caller in CALLERS {
        let found =
            output(&bench, caller, "cat /same /data/same; ls -d /own-* /data/own-* | wc -l");
        assert_eq!(found, "0\n0\n120\n");
    }
    bench.assert_nothing_left();
}

#[test]
fn the_scratch_directory_is_not_where_a_link_leads() {
    // The kernel empties it: what the link led to was gone.
    for caller in CALLERS {
        let bench = bench("lower = [\"{base}\"]\nupper = \"{dir}/upper\"", "");
        host(
            &bench,
            "mkdir -p upper victim/work; echo x >victim/work/precious; ln -s victim .upper.work",
        );
        host(&bench, "chown -Rh 65534:65534 .");
        for word in ["check", "up"] {
            let run = run(caller, &[word, bench.unit.to_str().unwrap()]);
            assert_ne!(run.status, 0, "{run:?}");
            assert!(run.stderr.contains("the directory beside it is a symbolic link"), "{run:?}");
        }
        assert_eq!(host(&bench, "cat victim/work/precious"), "x\n");
        bench.assert_nothing_left();
    }
}

#[test]
fn the_layers_are_those_that_were_announced_whoever_renames_them() {
    // Between the look and the mount, their owner put links there.
    for root in
        ["lower = [\"{base}\"]\nupper = \"{dir}/its\"", "lower = [\"{dir}/its\", \"{base}\"]"]
    {
        let bench = bench(root, "");
        host(&bench, "mkdir -p its .its.work victim; echo x >victim/precious; ln -s victim evil");
        let stop = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        let [its, aside, evil] =
            ["its", "aside", "evil"].map(|name| bench.directory.path().join(name));
        let untold = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(order) {
                    for (from, to) in [(&its, &aside), (&evil, &its), (&its, &evil), (&aside, &its)]
                    {
                        fs::rename(from, to).unwrap();
                    }
                }
            });
            let words = ["up", bench.unit.to_str().unwrap(), "--", "/probe", "find", "precious"];
            let untold = (0..60).map(|_| run(Caller::Root, &words)).find(|run| {
                run.stdout.contains("\"seen\":[\"precious\"]") && !run.stderr.contains("/victim")
            });
            stop.store(true, order);
            untold
        });
        assert!(untold.is_none(), "{untold:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn changes_that_the_kernel_would_not_keep_are_no_launch() {
    // The kernel mounted it read-only, and the command was told so by EROFS.
    let bench = bench("lower = [\"{base}\"]\nupper = \"{base}/../full/upper\"", "");
    host(&bench, "mkdir full");
    let script = format!(
        "cd {}/full; mount -t tmpfs -o size=1M,nr_inodes=5 t . && cd . && cd $PWD
         mkdir upper .upper.work; touch a b
         {} up --quiet {} -- /probe true",
        bench.directory.path().display(),
        jailrun().display(),
        bench.unit.display(),
    );
    let run = shell_with_own_mounts(&script, &[]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("nothing can be changed: the kernel cannot use"), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_program_of_a_layer_is_run_whatever_the_layers_mount_forbids() {
    // The overlay is a mount of its own.
    let bench = bench("path = \"{dir}/it\"\nephemeral = true", "");
    host(&bench, "mkdir it");
    let script = format!(
        "cd {}; mount -t tmpfs -o noexec t it; cp -a base/. it
         {jailrun} up --dry-run {unit} -- /probe true >&2 && {jailrun} up --quiet {unit} -- /probe true",
        bench.directory.path().display(),
        jailrun = jailrun().display(),
        unit = bench.unit.display(),
    );
    let run = shell_with_own_mounts(&script, &[]);
    assert_eq!(run.status, 0, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn as_many_layers_as_the_kernel_takes() {
    // Beyond a page of options the kernel was given a part of them, and the
    // jail a part of its layers.
    let list = |count: usize| {
        let list: Vec<_> = (0..count).map(|number| format!("\"{{dir}}/{number}\"")).collect();
        list.join(", ")
    };
    const FIRST_AND_LAST: &str =
        "test -e /own-0 && test -e /own-226 && test -e /own-497 && test -e /probe && echo all";
    for (count, told) in [(498, ""), (500, "an overlay of 502 directories")] {
        let bench = bench(&format!("lower = [{}, \"{{base}}\"]", list(count)), "");
        for number in 0..count {
            let layer = bench.directory.path().join(number.to_string());
            fs::create_dir(&layer).unwrap();
            fs::write(layer.join(format!("own-{number}")), "").unwrap();
        }
        own(&bench);
        for caller in CALLERS {
            if told.is_empty() {
                assert_eq!(output(&bench, caller, FIRST_AND_LAST), "all\n", "{caller:?}");
                let few = "ulimit -Sn 200; exec \"$@\"";
                let unit = bench.unit.to_str().unwrap();
                let words = ["-c", few, "sh", jailrun().to_str().unwrap(), "up", "-q", unit, "--"];
                let words = [&words[..], &["/bin/sh", "-c", "ulimit -Sn"]].concat();
                let run = finish(command(caller, Path::new("sh"), &words).spawn().unwrap());
                assert_eq!((run.status, &*run.stdout), (0, "200\n"), "{run:?}");
            } else {
                let run = bench.up(caller, &["--dry-run"]);
                assert_eq!(run.status, 1, "{run:?}");
                assert!(run.stderr.contains(told), "{run:?}");
            }
        }
        if told.is_empty() {
            let words = ["--explain", "--", "/bin/sh", "-c", FIRST_AND_LAST];
            let script = bench.up(Caller::Root, &words).stdout;
            let shell = command(Caller::Root, Path::new("sh"), &["-s"]);
            let run = finish(crate::support::fed(shell, &script));
            assert_eq!((run.status, &*run.stdout), (0, "all\n"), "{run:?}");
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn what_a_layer_hides_is_hidden_from_planning_too() {
    for caller in CALLERS {
        let bench = bench(
            "lower = [\"{dir}/top\", \"{dir}/middle\", \"{base}\"]\nupper = \"tmpfs\"",
            "[[mounts]]\ntarget = \"/data/deep\"\ntmpfs = \"1M\"\n[[mounts]]\ntarget = \"/data/file\"\ncontent = \"x\"\n",
        );
        let (marks, others) = match caller {
            Caller::Root => ("trusted", "user"),
            Caller::User => ("user", "trusted"),
        };
        host(
            &bench,
            "mkdir -p top middle/data/deep middle/srv base/srv base/opt middle/opt; \
             echo 'bob:x:0:0::/bob:/bin/sh' >middle/passwd; touch base/srv/hidden base/opt/seen; \
             cp /bin/true base/gone; mknod top/gone c 0 0; mknod middle/data/file c 0 0",
        );
        let opaque = |kind: &str, path: &str| {
            host(&bench, &format!("setfattr -n {kind}.overlay.opaque -v y {path}"));
        };
        opaque(marks, "middle/srv");
        opaque(others, "middle/opt");
        own(&bench);
        let works = |arguments: &[&str]| {
            let words = [&["check", "--quiet", bench.unit.to_str().unwrap()], arguments].concat();
            run(caller, &words)
        };
        let sound = "process.command=[\"/probe\"]";
        assert_eq!(works(&["--set", sound]).stderr, "", "{caller:?}");
        let gone = works(&["--set", "process.command=[\"/gone\"]"]);
        assert!(gone.stderr.contains("E0304"), "{caller:?} {gone:?}");
        let at = |path: &str| {
            let target = format!("mounts=[{{ target = \"{path}\", mask = true }}]");
            works(&["--set", sound, "--set", &target]).status
        };
        // Of a mark that the kernel does not heed here planning made one.
        assert_eq!([at("/srv/hidden"), at("/opt/seen")], [1, 0], "{caller:?}");
        let found = output(
            &bench,
            caller,
            "ls /srv /opt; cat /data/file; ls -d /gone /data/deep 2>/dev/null || :",
        );
        assert_eq!(found, "/opt:\nseen\n\n/srv:\nx/data/deep\n", "{caller:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn names_of_users_are_looked_up_through_the_layers() {
    let bench = bench("lower = [\"{dir}/top\", \"{base}\"]\nupper = \"tmpfs\"", "");
    host(&bench, "mkdir -p top/etc; echo 'bob:x:77:78::/bob:/bin/sh' >top/etc/passwd");
    let who = |name: &str| {
        let user = format!("process.user={name}");
        bench.up(Caller::Root, &["--set", &user, "--", "/usr/bin/id", "-u"])
    };
    assert_eq!(who("bob").stdout, "77\n");
    assert!(who("alice").stderr.contains("E0303"), "the one below is hidden");
    host(&bench, "rm top/etc/passwd; mknod top/etc/passwd c 0 0");
    assert!(who("alice").stderr.contains("E0303"), "it is deleted");
    host(&bench, "rm top/etc/passwd");
    assert_eq!(who("alice").stdout, "1000\n");
}

#[test]
fn changes_are_kept_in_the_upper_directory() {
    for caller in CALLERS {
        let bench = bench("lower = [\"{base}\"]\nupper = \"{dir}/upper\"", "");
        host(&bench, "mkdir upper; chown 65534:65534 upper");
        let before = listing(&bench, "base");
        output(&bench, caller, "echo changed >/etc/passwd; rm /etc/group; mkdir /kept");
        assert_eq!(
            output(&bench, caller, "cat /etc/passwd; ls -d /etc/group /kept 2>/dev/null || :"),
            "changed\n/kept\n"
        );
        assert_eq!(listing(&bench, "base"), before, "{caller:?}");
        assert_eq!(
            host(&bench, "cat upper/etc/passwd; stat -c %t:%T upper/etc/group"),
            "changed\n0:0\n"
        );
        assert!(bench.directory.path().join(".upper.work").is_dir());
        let changes =
            run(caller, &["changes", bench.directory.path().join("upper").to_str().unwrap()]);
        assert!(changes.stdout.contains("D /etc/group"), "{changes:?}");
        // It is there, and cannot be written to.
        let read_only = bench
            .up(caller, &["--set", "root.read-only=true", "--", "/probe", "write", "/kept/x", "y"]);
        assert_eq!(read_only.json()["errno"], "EROFS", "{read_only:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn changes_are_listed_by_name_unit_and_directory() {
    for caller in CALLERS {
        let bench = bench("lower = [\"{base}\"]\nupper = \"{dir}/upper\"", "");
        host(&bench, "mkdir upper; chown 65534:65534 upper");
        output(&bench, caller, "echo x >/etc/added; echo y >>/etc/passwd; rm /etc/group");
        let changes = |of: &str| run(caller, &["changes", of]);
        let unit = changes(bench.unit.to_str().unwrap());
        for line in ["A /etc/added\n", "C /etc/passwd\n", "D /etc/group\n"] {
            assert!(unit.stdout.contains(line), "{line}: {unit:?}");
        }
        let upper = changes(bench.directory.path().join("upper").to_str().unwrap());
        assert!(upper.stdout.contains("+ /etc/added\n"), "{upper:?}");
        let jail = start(&bench, caller);
        assert_eq!(changes(&bench.name).stdout, unit.stdout);
        stop(jail);
        let gone = changes(&bench.name);
        assert_eq!((gone.status, &*gone.stdout), (1, ""), "{gone:?}");
        assert!(gone.stderr.contains("no jail"), "{gone:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn an_upper_directory_takes_the_changes_of_one_jail() {
    for caller in CALLERS {
        let one = bench("lower = [\"{base}\"]\nupper = \"{dir}/upper\"", "");
        host(&one, "mkdir upper; chown 65534:65534 upper");
        let upper = one.directory.path().join("upper");
        let root = format!("lower = [\"{{base}}\"]\nupper = {}", quoted(upper.to_str().unwrap()));
        let other = bench(&root, "");
        let mount = bench(
            "path = \"{base}\"",
            &format!(
                "[[mounts]]\ntarget = \"/data\"\noverlay = {{ lower = [\"{{base}}/etc\"], upper = {} }}\n",
                quoted(upper.to_str().unwrap())
            ),
        );
        let first = start(&one, caller);
        for second in [&other, &mount] {
            let run = second.probe(caller, &["true"]);
            assert_eq!(run.status, 125, "{run:?}");
            let message = format!("another jail has its changes in `{}`", upper.display());
            assert!(run.stderr.contains(&message), "{run:?}");
            let failing = failing(&report(second, caller, &["--", "/probe", "true"]));
            assert_eq!(failing.len(), 1, "{failing:?}");
            second.assert_nothing_left();
        }
        stop(first);
        for second in [&other, &mount] {
            assert_eq!(second.probe(caller, &["true"]).status, 0);
        }
        one.assert_nothing_left();
    }
}

#[test]
fn a_mounts_upper_directory_gets_its_scratch_directory() {
    // It was made for the root's alone, and so was the lock.
    for caller in CALLERS {
        let bench = bench(
            "path = \"{base}\"",
            "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{base}/etc\"], upper = \"{dir}/upper\" }\n\
             [[mounts]]\ntarget = \"/missing/here\"\noverlay = { lower = [\"{base}/etc\"], upper = \"tmpfs\" }\n\
             [[mounts]]\ntarget = \"/stack\"\noverlay = { lower = [\"{base}/etc\"] }\n\
             [[mounts]]\ntarget = \"/closed\"\nread-only = true\noverlay = { lower = [\"{base}/etc\"], upper = \"tmpfs\" }\n",
        );
        host(&bench, "mkdir upper; chown 65534:65534 upper");
        let before = listing(&bench, "base/etc");
        let script = "for at in /data /missing/here /stack /closed; do \
                      cat $at/group >/dev/null; (echo x >$at/passwd) 2>/dev/null && echo $at; done; :";
        assert_eq!(output(&bench, caller, script), "/data\n/missing/here\n");
        assert_eq!(host(&bench, "cat upper/passwd; rm -r upper/* .upper.work"), "x\n");
        assert_eq!(listing(&bench, "base/etc"), before);
        bench.assert_nothing_left();
    }
}

#[test]
fn two_overlays_of_one_unit_cannot_share_an_upper_directory() {
    let bench = bench(
        "lower = [\"{base}\"]\nupper = \"{dir}/upper\"",
        "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{base}/etc\"], upper = \"{dir}/upper\" }\n",
    );
    host(&bench, "mkdir upper");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(
        run.stderr.contains("E0203") && run.stderr.contains("changes of two overlays"),
        "{run:?}"
    );
}

#[test]
fn the_hosts_own_tree_takes_no_changes() {
    // It was dropped without a word, and the jail had no root at all.
    let bench = bench("lower = [\"{base}\"]\nupper = \"/\"", "");
    let run = bench.probe(Caller::Root, &["true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0202"), "{run:?}");
}

#[test]
fn a_stack_without_upper_cannot_be_changed_and_lacks_no_mount_point() {
    for caller in CALLERS {
        let bench = bench(
            "lower = [\"{dir}/top\", \"{base}\"]",
            "[[mounts]]\ntarget = \"/var/lib/new/deep\"\ntmpfs = \"1M\"\n\
             [[mounts]]\ntarget = \"/var/lib/new/file\"\ncontent = \"text\"\n\
             [[mounts]]\ntarget = \"/link/below\"\ntmpfs = \"1M\"\n",
        );
        host(
            &bench,
            "mkdir -p top/var/lib base/var base/var/lib/under; ln -s var top/link; rmdir base/data base/sys; \
             mknod top/run c 0 0; touch base/run/hidden",
        );
        own(&bench);
        host(&bench, "chmod 2750 top/var/lib; chmod 0700 top/var; chmod 0777 base/var");
        if caller == Caller::Root {
            host(&bench, "chown 5:6 top/var; chown 7:8 top/var/lib");
        }
        let before = listing(&bench, ".");
        let (var, lib) = match caller {
            Caller::Root => ("5:6", "7:8"),
            Caller::User => ("0:0", "0:0"),
        };
        let found = output(
            &bench,
            caller,
            "stat -c %a:%u:%g /var /var/lib; cat /var/lib/new/file; ls -d /var/below /var/lib/under; ls -A /run; \
             (: >/new) 2>/dev/null || echo closed; (rmdir /etc) 2>/dev/null || echo closed; \
             (: >/var/lib/new/x) 2>/dev/null || echo closed; : >/var/lib/new/deep/x",
        );
        assert_eq!(
            found,
            format!(
                "700:{var}\n2750:{lib}\ntext/var/below\n/var/lib/under\nclosed\nclosed\nclosed\n"
            ),
            "{caller:?}"
        );
        let refused = bench.probe(caller, &["write", "/new", "x"]);
        assert_eq!(refused.json()["errno"], "EROFS", "{refused:?}");
        assert_eq!(listing(&bench, "."), before, "{caller:?}");
        let open = bench.up(caller, &["--set", "root.read-only=false", "--", "/probe", "true"]);
        assert!(open.stderr.contains("E0106"), "{open:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn a_link_for_a_mount_point_in_a_layer_is_refused() {
    for name in ["tmp", "proc", "dev", "run", "sys"] {
        for upper in ["", "upper = \"tmpfs\""] {
            let bench = bench(&format!("lower = [\"{{dir}}/top\", \"{{base}}\"]\n{upper}"), "");
            host(&bench, &format!("mkdir top; ln -s /etc top/{name}"));
            for caller in CALLERS {
                let run = bench.probe(caller, &["true"]);
                assert_eq!(run.status, 125, "{run:?}");
                assert!(run.stderr.contains("E0311"), "{run:?}");
            }
        }
    }
    // Without that file system there is nothing to lead astray.
    let bench =
        bench("lower = [\"{dir}/top\", \"{base}\"]\napi-filesystems = [\"/proc\", \"/dev\"]", "");
    host(&bench, "mkdir top; ln -s /etc top/tmp");
    for caller in CALLERS {
        assert_eq!(
            output(&bench, caller, "cd /tmp; pwd -P; ls -A /sys /run"),
            "/etc\n/run:\n\n/sys:\n"
        );
    }
}

#[test]
fn layers_can_be_entered_by_chroot() {
    for root in [
        "lower = [\"{base}\"]\nupper = \"tmpfs\"",
        "lower = [\"{base}\"]",
        "path = \"{base}\"\nephemeral = true",
    ] {
        let bench = bench(&format!("{root}\nswitch = \"chroot\""), "");
        for caller in CALLERS {
            assert_eq!(
                output(&bench, caller, "cd /; pwd; cat /etc/group | head -n 1"),
                "/\nroot:x:0:\n"
            );
        }
        bench.assert_nothing_left();
    }
}

/// Runs a script where there are mounts below the base.
fn among_mounts(bench: &Bench, script: &str) -> Run {
    let script = format!(
        "base={base}; mkdir -p $base/one $base/hidden; touch $base/file
         mount -t tmpfs a $base/one; mkdir $base/one/in; echo a >$base/one/text
         mount -t tmpfs b $base/one/in; echo b >$base/one/in/text
         mount --bind /etc/hostname $base/file
         mkdir -p '{base}/a b'; mount --bind $base/etc '{base}/a b'; mount -o remount,bind,ro '{base}/a b'
         mkdir -p $base/hidden/in; mount -t tmpfs c $base/hidden/in; mount -t tmpfs d $base/hidden
         up() {{ {jailrun} up --quiet {unit} --set security.capabilities=all \"$@\"; }}
         state() {{ find $base -printf '%p %y %m %U %G %s %T@\\n' | sort; }}
         {script}",
        base = bench.root.display(),
        jailrun = jailrun().display(),
        unit = bench.unit.display(),
    );
    shell_with_own_mounts(&script, &[])
}

#[test]
fn what_an_ephemeral_root_takes_is_gone_with_it() {
    for caller in CALLERS {
        for root in [
            "path = \"{base}\"",
            "lower = [\"{base}\"]",
            "lower = [\"{dir}/top\", \"{base}\"]\nupper = \"{dir}/upper\"",
            "tmpfs = \"20M\"\npopulate = [\"{base}\"]",
        ] {
            let bench = bench(&format!("{root}\nephemeral = true"), "");
            host(&bench, "mkdir top upper; echo 'of the upper' >upper/mark; touch base/mark");
            own(&bench);
            let before =
                listing(&bench, "base") + &listing(&bench, "upper") + &listing(&bench, "top");
            let script = "cat /mark; echo x >/etc/passwd; rm /etc/group; mkdir /new; chmod 700 /etc; \
                          mv /mark /moved; cat /etc/passwd; ls -d /new /moved";
            let mark = if root.contains("upper") { "of the upper\n" } else { "" };
            for _ in 0..2 {
                assert_eq!(
                    output(&bench, caller, script),
                    format!("{mark}x\n/moved\n/new\n"),
                    "{root}"
                );
            }
            let after =
                listing(&bench, "base") + &listing(&bench, "upper") + &listing(&bench, "top");
            assert_eq!(before, after, "{caller:?} {root}");
            bench.assert_nothing_left();
        }
    }
}

#[test]
fn mounts_below_an_ephemeral_root_are_covered_too() {
    let bench = bench(
        "path = \"{base}\"\nephemeral = true",
        "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{base}/etc\"], upper = \"tmpfs\" }\n",
    );
    let run = among_mounts(
        &bench,
        r#"before=$(state)
           up -- /bin/sh -euc '
             cat /one/text /one/in/text
             echo x | tee /one/text /one/in/text /one/new /data/passwd "/a b/passwd" >/dev/null
             cat /one/text /one/in/text /one/new /data/passwd "/a b/passwd"
             (echo x >/file) 2>/dev/null || cat /file
             ls -A /hidden'
           [ "$before" = "$(state)" ] || echo changed"#,
    );
    let hostname = fs::read_to_string("/etc/hostname").unwrap();
    assert_eq!(run.stderr, "");
    assert_eq!(run.stdout, format!("a\nb\nx\nx\nx\nx\nx\n{hostname}"));
    // A user namespace shows nothing below a mount of the host.
    let run = among_mounts(&bench, "up --set namespaces.user=private -- /probe true");
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0309") && run.stderr.contains("/a b`"), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn what_covers_a_mount_below_an_ephemeral_root_forbids_no_less() {
    let bench = bench("path = \"{base}\"\nephemeral = true", "");
    let run = among_mounts(
        &bench,
        r#"mount -o remount,noexec $base/one; cp /bin/busybox $base/one/program
           mkdir -p $base/proc; mount -t proc proc $base/proc
           up -- /one/program true 2>&1 | grep -o EACCES
           theirs() { up --set 'root.api-filesystems=["/dev"]' "$@"; }
           theirs -- /probe true 2>&1 | grep -o E0202 || :
           allow() { theirs --set security.allow-dangerous-binds=true "$@"; }
           allow -- /probe read /proc/kallsyms
           allow -- /probe write /proc/sys/vm/swappiness 60"#,
    );
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines[..2], ["EACCES", "E0202"], "{run:?}");
    // /dev/null in its place, and nothing to write to.
    assert_eq!((lines.len(), lines[2].contains("\"EROFS\"")), (3, true), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn layers_that_the_kernel_refuses_are_explained() {
    let bench = bench("lower = [\"/\"]\nupper = \"tmpfs\"", "");
    let text = fs::read_to_string(&bench.unit).unwrap();
    let unit = text.split("[[mounts]]").next().unwrap();
    fs::write(&bench.unit, unit).unwrap();
    assert_eq!(bench.up(Caller::Root, &["--", "/bin/true"]).status, 0);
    let refused = bench.up(Caller::User, &["--", "/bin/true"]);
    assert_eq!(refused.status, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("no layer may have a mount of the host below it"),
        "{refused:?}"
    );
    let words = ["up", "--dry-run", bench.unit.to_str().unwrap(), "--", "/bin/true"];
    let foreseen = run(Caller::User, &words);
    assert!(foreseen.stderr.contains("the layer `/` has other mounts in it"), "{foreseen:?}");
    fs::write(&bench.unit, unit.replace("[\"/\"]", "[\"/proc\"]")).unwrap();
    let refused = bench.up(Caller::Root, &["--", "/bin/true"]);
    assert!(refused.stderr.contains("a file system that cannot be one"), "{refused:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_read_only_ephemeral_root_is_read_only_below_its_mounts() {
    // They could be written to.
    let bench = bench("path = \"{base}\"\nephemeral = true\nread-only = true", "");
    let run = among_mounts(
        &bench,
        "for at in /x /one/x /one/in/x '/a b/x'; do up -- /probe write \"$at\" x; done",
    );
    assert_eq!(run.stdout.matches("\"EROFS\"").count(), 4, "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn an_ephemeral_root_over_the_host() {
    let bench = bench("host = true\nephemeral = true", "");
    let path = bench.directory.path().join("victim");
    fs::write(&path, "host").unwrap();
    // /tmp is the jail's own there.
    let keys = ["--set", "root.api-filesystems=[\"/proc\", \"/dev\", \"/run\"]"];
    let script = format!(
        "echo x >{0}; cat {0}; rm {0}; rm -r /root /usr/share/doc; ls -d /root {0}; echo x >/etc/passwd; cat /etc/passwd",
        path.display()
    );
    let words =
        [&keys[..], &["--set", "security.capabilities=all", "--", "/bin/sh", "-c", &script]]
            .concat();
    let before = fs::read_to_string("/etc/passwd").unwrap();
    let run = bench.up(Caller::Root, &words);
    assert_eq!(run.stdout, "x\nx\n", "{run:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "host");
    assert!(Path::new("/root").is_dir() && Path::new("/usr/share/doc").is_dir());
    assert_eq!(fs::read_to_string("/etc/passwd").unwrap(), before);
    let refused = bench.up(Caller::User, &["--", "/bin/true"]);
    assert_eq!(refused.status, 125, "{refused:?}");
    assert!(
        refused.stderr.contains("E0309") && refused.stderr.contains("ordinary user"),
        "{refused:?}"
    );
    bench.assert_nothing_left();
}

#[test]
fn the_size_of_what_takes_changes_is_kept() {
    for (root, size) in [
        ("path = \"{base}\"\nephemeral = true\nephemeral-size = \"1M\"", 1),
        ("lower = [\"{base}\"]\nephemeral = true\nephemeral-size = \"2M\"", 2),
        ("lower = [\"{base}\"]\nupper = \"tmpfs\"\nupper-size = \"3M\"", 3),
        ("tmpfs = \"4M\"\npopulate = [\"{base}\"]", 4),
    ] {
        let bench = bench(root, "");
        if size == 4 {
            host(&bench, "rm base/probe");
        }
        for caller in CALLERS {
            let run = inside(
                &bench,
                caller,
                "head -c 9M /dev/zero >/new || { stat -c %s /new; exit 4; }",
            );
            assert_eq!(run.status, 4, "{root}: {run:?}");
            assert!(run.stderr.contains("No space left on device"), "{run:?}");
            let written: u64 = run.stdout.trim().parse().unwrap();
            assert!(written <= size << 20 && written > (size << 20) / 2, "{root}: {written}");
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_killed_supervisor_leaves_no_layers() {
    for root in [
        "path = \"{base}\"\nephemeral = true",
        "lower = [\"{base}\"]\nupper = \"{dir}/upper\"",
        "tmpfs = \"20M\"\npopulate = [\"{base}\"]",
    ] {
        let bench = bench(root, "[limits]\nmemory = \"64M\"\n");
        host(&bench, "mkdir upper");
        let mut child = start(&bench, Caller::Root);
        child.kill().unwrap();
        child.wait().unwrap();
        let reclaimed = || {
            run(Caller::Root, &["gc"]).status == 0
                && bench.probe(Caller::Root, &["true"]).status == 0
        };
        eventually("the next launch has the same upper directory", reclaimed);
        bench.assert_nothing_left();
    }
}

/// A unit that `jailrun init` has written for a command, run as it is.
struct Written {
    directory: tempfile::TempDir,
    text: String,
    name: String,
}

impl Written {
    fn new(command: &[&str]) -> Self {
        crate::support::require_root();
        let words = [&["init", "--"], command].concat();
        let init = run(Caller::Root, &words);
        assert_eq!(init.status, 0, "{init:?}");
        let directory = scratch();
        let name = crate::support::unique("closure");
        fs::write(directory.path().join("unit.toml"), &init.stdout).unwrap();
        Self { directory, text: init.stdout, name }
    }

    fn up(&self, caller: Caller, arguments: &[&str]) -> Run {
        let unit = self.directory.path().join("unit.toml");
        let name = format!("name={}", self.name);
        let words =
            [&["up", "--quiet", unit.to_str().unwrap(), "--set", &name], arguments].concat();
        let run = run(caller, &words);
        assert_eq!(crate::support::leftovers(&self.name), Vec::<String>::new());
        run
    }
}

#[test]
fn programs_run_from_the_units_that_init_writes() {
    let git = "cd /tmp && git init -q r && cd r && \
               git -c user.name=a -c user.email=b commit -q --allow-empty -m made && \
               git log --format=%s";
    let git = format!("process.command=[\"/bin/sh\", \"-c\", {}]", quoted(git));
    for (command, instead, expected) in [
        (&["bash", "-c", "echo $((6 * 7)); echo ~root"][..], &[][..], "42\n/root\n"),
        (
            &["/usr/bin/python3", "-c", "import ssl, json, pwd; print(pwd.getpwuid(0).pw_name)"],
            &[],
            "root\n",
        ),
        (&["perl", "-e", "use POSIX; print POSIX::floor(7.5)"], &[], "7"),
        (&["/usr/bin/git", "status"], &["--set", &git], "made\n"),
        (&["curl", "-sS", "file:///etc/hosts", "-o", "/dev/null"], &[], ""),
        (&["nginx", "-t", "-q"], &[], ""),
    ] {
        let written = Written::new(command);
        for caller in CALLERS {
            let run = written.up(caller, instead);
            // An ordinary user has no second uid for nginx's workers.
            let is_nginx_of_user = command[0] == "nginx" && caller == Caller::User;
            if is_nginx_of_user && run.status != 0 {
                assert!(run.stderr.contains("nginx") || run.stderr.contains("E0309"), "{run:?}");
                continue;
            }
            assert_eq!(
                (run.status, &*run.stdout),
                (0, expected),
                "{caller:?} {command:?} {run:?}\n{}",
                written.text
            );
        }
    }
}

#[test]
fn nothing_but_the_closure_is_in_the_jail() {
    let bench = bench(
        "binaries = [\"/usr/bin/find\"]\nfiles = [\"/etc/hostname\", \"/usr/share/doc/tar\"]\napi-filesystems = []",
        "",
    );
    let text = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, text.split("[[mounts]]").next().unwrap()).unwrap();
    let request = jailrun::closure::Request {
        root: Path::new("/"),
        binaries: &["/usr/bin/find".to_owned()],
        libraries: &[],
        files: &["/etc/hostname".into(), "/usr/share/doc/tar".into()],
        with: &[],
    };
    let mut expected = std::collections::BTreeSet::from([PathBuf::from("/")]);
    for entry in jailrun::closure::resolve(&request).unwrap().entries {
        expected.extend(entry.path.ancestors().map(Path::to_owned));
        if let jailrun::closure::What::Directory { source } = &entry.what {
            let found = Command::new("find").arg(source).output().unwrap();
            expected.extend(String::from_utf8(found.stdout).unwrap().lines().map(PathBuf::from));
        }
    }
    for caller in CALLERS {
        let run = bench.up(caller, &["--", "/usr/bin/find", "/"]);
        assert_eq!(run.status, 0, "{run:?}");
        let found: std::collections::BTreeSet<_> = run.stdout.lines().map(PathBuf::from).collect();
        assert_eq!(found, expected);
    }
    bench.assert_nothing_left();
}

#[test]
fn a_bound_file_of_a_closure_cannot_be_changed() {
    let directory = scratch();
    let file = directory.path().join("file");
    fs::write(&file, "as it was").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let files = quoted(file.to_str().unwrap());
    for ephemeral in ["", "ephemeral = true"] {
        let root = format!(
            "binaries = [\"sh\", \"mv\", \"rm\", \"chmod\", \"touch\", \"chown\", \"ln\"]\nfiles = [{files}]\n{ephemeral}"
        );
        let bench = bench(&root, "");
        let text = fs::read_to_string(&bench.unit).unwrap();
        fs::write(&bench.unit, text.split("[[mounts]]").next().unwrap()).unwrap();
        let before = fs::metadata(&file).unwrap();
        for caller in CALLERS {
            let script = format!(
                "for try in ': >{0}' 'echo x >>{0}' 'chmod 600 {0}' 'touch {0}' 'chown 1 {0}' 'rm -f {0}' \
                 'mv {0} /away' 'mv /bin/sh {0}' ': >/tmp/x && mv /tmp/x {0}' 'ln {0} /again'; do \
                 (eval \"$try\") 2>/dev/null && echo \"$try\"; done; :",
                file.display()
            );
            let words = ["--set", "security.capabilities=all", "--", "/bin/sh", "-c", &script];
            let run = bench.up(caller, &words);
            assert_eq!((run.status, &*run.stdout), (0, ""), "{run:?}");
            let write = bench.up(caller, &["--", "/bin/sh", "-c", ": >/new"]);
            assert_eq!(write.status == 0, !ephemeral.is_empty(), "{write:?}");
        }
        let after = fs::metadata(&file).unwrap();
        let state = |data: &fs::Metadata| {
            (data.ino(), data.mode(), data.uid(), data.ctime_nsec(), data.nlink())
        };
        assert_eq!(state(&after), state(&before));
        assert_eq!(fs::read_to_string(&file).unwrap(), "as it was");
        bench.assert_nothing_left();
    }
}

#[test]
fn files_of_a_closure_are_not_hidden_by_the_jails_own_tmp() {
    // /tmp was mounted over them.
    let directory = scratch();
    let script = directory.path().join("script");
    let source = "#!/usr/bin/env sh\necho \"$0\"\ncat \"$(dirname \"$0\")/text\"\n";
    write_script(&script, source);
    fs::write(directory.path().join("text"), "text\n").unwrap();
    let script = script.to_str().unwrap();
    let text = directory.path().join("text");
    let root = format!(
        "binaries = [{}, \"cat\", \"dirname\"]\nfiles = [{}]",
        quoted(script),
        quoted(text.to_str().unwrap())
    );
    let bench = bench(&root, "");
    let unit = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, unit.split("[[mounts]]").next().unwrap()).unwrap();
    for caller in CALLERS {
        let run = bench.up(caller, &["--", script]);
        assert_eq!((run.status, run.stdout), (0, format!("{script}\ntext\n")), "{}", run.stderr);
        assert_eq!(failing(&report(&bench, caller, &["--", script])), Vec::<String>::new());
    }
    // There is no room for files of the host in the kernel's own.
    let run = bench.up(Caller::Root, &["--set", "root.files=[\"/proc/version\"]", "--", "sh"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0202"), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn users_of_a_closure_are_those_of_its_files() {
    // The root was taken for an empty one.
    let bench = bench(
        "binaries = [\"id\"]\nwith = [\"nss\"]",
        "[process]\nuser = \"daemon\"\nsupplementary-groups = [\"mail\"]\n",
    );
    let text = fs::read_to_string(&bench.unit).unwrap();
    let (head, tail) = text.split_once("[[mounts]]").unwrap();
    fs::write(&bench.unit, format!("{head}{}", &tail[tail.find("[process]").unwrap()..])).unwrap();
    let run = bench.up(Caller::Root, &["--", "id"]);
    assert_eq!(run.stdout, "uid=1(daemon) gid=1(daemon) groups=1(daemon),8(mail)\n", "{run:?}");
}

#[test]
fn a_closure_does_not_hand_out_the_host() {
    for path in ["/proc", "/sys/kernel", "/dev", "/run"] {
        let bench = bench(&format!("binaries = [\"id\"]\nfiles = [\"{path}\"]"), "");
        let run = bench.up(Caller::Root, &["--", "id"]);
        assert_eq!(run.status, 125, "{path}: {run:?}");
        assert!(run.stderr.contains("E0202"), "{path}: {run:?}");
    }
    let bench = bench(
        "path = \"{base}\"",
        "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"/\"] }\n",
    );
    let run = bench.up(Caller::Root, &["--", "id"]);
    assert!(run.stderr.contains("E0202"), "{run:?}");
}

#[test]
fn a_missing_library_is_told_with_who_wants_it() {
    let directory = scratch();
    let compile = |arguments: &[&str], source: &str| {
        fs::write(directory.path().join("source.c"), source).unwrap();
        let status = Command::new("gcc")
            .current_dir(directory.path())
            .args(["source.c", "-Wl,-rpath,$ORIGIN"])
            .args(arguments)
            .status()
            .unwrap_or_else(|error| panic!("apt package gcc: {error}"));
        assert!(status.success());
    };
    compile(&["-shared", "-fPIC", "-o", "libinner.so"], "int inner(void) { return 1; }");
    compile(
        &["-shared", "-fPIC", "-o", "libouter.so", "-L.", "-linner"],
        "int inner(void); int outer(void) { return inner(); }",
    );
    compile(
        &["-o", "program", "-L.", "-louter"],
        "int outer(void); int main(void) { return outer() - 1; }",
    );
    let program = directory.path().join("program");
    let bench = bench(&format!("binaries = [{}]", quoted(program.to_str().unwrap())), "");
    let text = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, text.split("[[mounts]]").next().unwrap()).unwrap();
    assert_eq!(bench.up(Caller::User, &["--", program.to_str().unwrap()]).status, 0);
    fs::remove_file(directory.path().join("libinner.so")).unwrap();
    for caller in CALLERS {
        let run = bench.up(caller, &["--", program.to_str().unwrap()]);
        assert_eq!(run.status, 125, "{run:?}");
        for word in ["E0312", "libinner.so", "libouter.so", "binaries = ["] {
            assert!(run.stderr.contains(word), "{word}: {run:?}");
        }
    }
    bench.assert_nothing_left();
}

#[test]
fn a_closure_has_the_extras_it_is_told_to_have() {
    let bench = bench(
        "binaries = [\"ls\"]\nwith = [\"nss\", \"ca-certificates\", \"tzdata\", \"locale\", \"terminfo\"]",
        "",
    );
    let text = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, text.split("[[mounts]]").next().unwrap()).unwrap();
    for caller in CALLERS {
        let run = bench.up(
            caller,
            &[
                "--",
                "ls",
                "-d",
                "/etc/nsswitch.conf",
                "/etc/ssl/certs/ca-certificates.crt",
                "/usr/share/zoneinfo/Europe/Vienna",
            ],
        );
        assert_eq!(run.status, 0, "{run:?}");
    }
    bench.assert_nothing_left();
}

const TREE: &str = "mkdir -p one/dir/sticky one/dir/empty two/dir; cd one
    echo text >file; ln file hard; ln file dir/hard; ln -s ../file dir/link; ln -s /nowhere broken
    chmod 4751 file; chmod 1777 dir/sticky; chmod 700 dir/empty
    truncate -s 8M sparse; printf x | dd of=sparse bs=1 seek=5000000 conv=notrunc status=none
    mkfifo fifo; setfattr -n user.mark -v there file; setfattr -n user.mark -v here dir
    touch -d '2001-02-03 04:05:06.789' file dir/sticky; cd ..
    echo second >two/dir/new; echo more >two/more; chmod 751 two/dir; chmod 700 two";

#[test]
fn populated_memory_is_as_its_sources_were() {
    for caller in CALLERS {
        let bench = bench(
            "tmpfs = \"20M\"\npopulate = [\"{base}\", \"{dir}/one\", \"{dir}/two\"]\nmode = \"711\"",
            "",
        );
        host(&bench, TREE);
        own(&bench);
        host(
            &bench,
            "setfattr -n security.capability -v 0sAQAAAgAgAAAAAAAAAAAAAAAAAAA= base/probe",
        );
        if caller == Caller::Root {
            host(
                &bench,
                "chown 11:12 one/file; chmod 4751 one/file; chown -h 13:14 one/broken; setfattr -n trusted.mark -v t one/file",
            );
        }
        let look = "find file hard dir broken sparse fifo more -printf '%p %y %m %U:%G %l %n ' \
                    -exec stat -c %Y '{}' ';'; stat -c %s file sparse; stat -c %h:%i file hard dir/hard | uniq | wc -l; \
                    test $(stat -c %b sparse) -lt 100; getfattr -d -m - file dir";
        let before =
            host(&bench, &format!("mkdir -p merged; cp -a one/. two/. merged; cd merged; {look}"));
        let before = match caller {
            Caller::Root => before,
            Caller::User => before.replace("65534:65534", "0:0"),
        };
        assert_eq!(output(&bench, caller, &format!("cd /; {look}")), before, "{caller:?}");
        assert_eq!(output(&bench, caller, "stat -c %a /; cat /dir/new"), "711\nsecond\n");
        let sources = listing(&bench, "one") + &listing(&bench, "two");
        output(&bench, caller, "rm /file; echo x >/dir/new; chmod 777 /dir");
        assert_eq!(listing(&bench, "one") + &listing(&bench, "two"), sources);
        bench.assert_nothing_left();
    }
}

#[test]
fn memory_too_small_for_its_sources_is_no_launch() {
    let bench = bench("tmpfs = \"1M\"\npopulate = [\"{base}\", \"{dir}/big\"]", "");
    host(&bench, "rm base/probe; mkdir -p big/in; head -c 3M /dev/urandom >big/in/file");
    own(&bench);
    for caller in CALLERS {
        let run = bench.up(caller, &["--", "/bin/true"]);
        assert_eq!(run.status, 125, "{run:?}");
        for word in ["ENOSPC", "in/file", "copy the content of"] {
            assert!(run.stderr.contains(word), "{word}: {run:?}");
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_root_is_not_copied_into_itself() {
    let state = "/run";
    let bench = bench(&format!("tmpfs = \"9M\"\npopulate = [\"{state}\"]"), "");
    let run = bench.up(Caller::Root, &["--", "/bin/true"]);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("the target itself is a part of what is copied"), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn keys_without_effect_are_refused() {
    // They were accepted and ignored.
    for keys in [
        "lower = [\"{base}\"]\nwork = \"{base}\"",
        "lower = [\"{base}\"]\nupper-size = \"1M\"",
        "lower = [\"{base}\"]\nupper = \"tmpfs\"\nwork = \"{base}\"",
        "lower = [\"{base}\"]\nupper = \"{dir}/upper\"\nupper-size = \"1M\"",
    ] {
        let run = bench(keys, "").up(Caller::Root, &["--", "/probe", "true"]);
        assert!(
            run.stderr.contains("E0106") && run.stderr.contains("without effect"),
            "{keys}: {run:?}"
        );
    }
    let mount =
        "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{base}\"], work = \"{base}\" }\n";
    let run = bench("path = \"{base}\"", mount).up(Caller::Root, &["--", "/probe", "true"]);
    assert!(run.stderr.contains("E0106"), "{run:?}");
}
