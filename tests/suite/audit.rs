//! `jailrun audit`: what it says of every example, and that each key which
//! opens something is found out.

use std::fs;
use std::path::Path;

use jailrun::audit::weights;
use jailrun::unit::keys;
use serde_json::Value;

use crate::examples::Examples;
use crate::support::{
    Bench, Caller, Run, command, finish, jailrun, scratch, shell_with_own_mounts,
};

/// `jailrun audit ARGUMENTS` by a caller whose home is `home`.
fn audit(caller: Caller, home: &str, arguments: &[&str]) -> Run {
    let words: Vec<&str> = ["audit"].iter().chain(arguments).copied().collect();
    finish(command(caller, jailrun(), &words).env("HOME", home).spawn().unwrap())
}

/// The report about one unit.
fn report(caller: Caller, home: &str, unit: &Path, set: &[&str]) -> Value {
    let mut words = vec!["--json", unit.to_str().unwrap()];
    words.extend(set.iter().flat_map(|set| ["--set", set]));
    let run = audit(caller, home, &words);
    assert_eq!(run.status, 0, "{set:?} {run:?}");
    run.json()[0].clone()
}

fn exposure(report: &Value) -> f64 {
    report["exposure"].as_f64().unwrap()
}

fn keys_of(report: &Value) -> Vec<&str> {
    report["findings"].as_array().unwrap().iter().map(|f| f["key"].as_str().unwrap()).collect()
}

fn answer<'a>(report: &'a Value, question: &str) -> &'a str {
    let answers = report["answers"].as_array().unwrap();
    let found = answers.iter().find(|answer| answer["question"] == question);
    found.unwrap_or_else(|| panic!("{question} {report}"))["answer"].as_str().unwrap()
}

#[test]
fn every_example_is_judged_as_its_golden_file_says() {
    let examples = Examples::prepared(Caller::Root);
    examples.image();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/golden");
    for unit in examples.units() {
        let path = examples.path(&unit).display().to_string();
        let run = audit(Caller::Root, "/root", &[&path]);
        assert_eq!((run.status, run.stderr.as_str()), (0, ""), "{unit}: {run:?}");
        let said = run.stdout.replace(&examples.path("").display().to_string(), "examples/");
        let said = said.replace("examples//", "examples/");
        let file = golden.join(unit.replace('/', "-").replace(".toml", ".audit"));
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, &said).unwrap();
        }
        let expected = fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(said, expected, "{}: UPDATE=1 writes it", file.display());
    }
}

/// What the mutations begin from: nothing that a key could close, but for who
/// it is outside.
const CLOSED: &str = "read-only = true
[limits]
memory = \"64M\"
swap = 0
cpu = 1
blkio.devices = [{ path = \"/\", read-bps = \"50M\" }]
[process]
user = 1000
";

#[test]
fn every_key_that_opens_something_is_found_out() {
    let bench = Bench::with_root(CLOSED, "");
    let home = scratch();
    let home_path = home.path().to_str().unwrap();
    fs::create_dir(bench.root.join("tmp/x")).unwrap();
    let closed = report(Caller::Root, home_path, &bench.unit, &[]);
    let host = "mounts=[{ target = \"/data\", bind = \"/srv\", ";
    let with = |rest: &str| format!("{host}{rest} }}]");
    let bind = |path: &str| {
        format!("mounts=[{{ target = \"/data\", bind = \"{path}\", read-only = true }}]")
    };
    let dangerous = "security.allow-dangerous-binds=true";
    let read_only = "read-only = true";
    let engine = home.path().join("docker.sock");
    fs::create_dir(&engine).unwrap();
    let plain = with(read_only);
    let rows: &[(&[&str], &[&str], &str)] = &[
        // What is set, over what, and the key that the finding names.
        (&["network.mode=host"], &[], "network.mode"),
        (&["namespaces.pid=host"], &[], "namespaces.pid"),
        (&["namespaces.ipc=host"], &[], "namespaces.ipc"),
        (&["namespaces.uts=host"], &[], "namespaces.uts"),
        (&["namespaces.cgroup=host"], &[], "namespaces.cgroup"),
        (&["namespaces.ipc=/proc/1/ns/ipc"], &[], "namespaces.ipc"),
        (&["security.capabilities=all"], &[], "security.capabilities"),
        (&["security.capabilities=default"], &[], "security.capabilities"),
        (&["security.capabilities=[\"CAP_SYS_ADMIN\"]"], &[], "security.capabilities"),
        (&["security.capabilities=[\"CAP_SYSLOG\"]"], &[], "security.capabilities"),
        (&["security.no-new-privileges=false"], &[], "security.no-new-privileges"),
        (&["security.masked-paths=[]"], &[], "security.masked-paths"),
        (&["security.masked-paths=[\"@default\", \"-/proc/keys\"]"], &[], "security.masked-paths"),
        (&["security.read-only-paths=[]"], &[], "security.read-only-paths"),
        (&["devices=[{ path = \"/dev/fuse\" }]"], &[], "devices.path"),
        (&["security.seccomp=off"], &[], "security.seccomp"),
        (&["security.seccomp.allow=[\"@default\", \"io_uring_setup\"]"], &[], "security.seccomp"),
        (&["security.seccomp.allow=[\"@default\", \"clone\"]"], &[], "security.seccomp"),
        (&["security.seccomp.default-action=allow"], &[], "security.seccomp"),
        (&["security.seccomp=strict"], &[], ""),
        (&["security.keyring=host"], &[], "security.keyring"),
        (&["process.user=0"], &[], "idmap.mode"),
        (&["process.user=0", "idmap.mode=identity"], &[], "idmap.mode"),
        (&["process.supplementary-groups=[6]"], &[], "process.supplementary-groups"),
        (&["process.pass-fds=[3]"], &[], "process.pass-fds"),
        (&["process.stdout=file:/tmp/x"], &[], "process.stdout"),
        (&["process.oom-score-adjust=1000"], &[], ""),
        (&["root.read-only=false"], &[], "root.ephemeral"),
        (&["root.switch=chroot"], &[], "root.switch"),
        (&["root.propagation=shared"], &[], "root.propagation"),
        (&["limits.memory=infinity", "limits.swap=infinity"], &[], "limits.memory"),
        (&["limits.swap=infinity"], &[], "limits.swap"),
        (&["limits.pids=infinity"], &[], "limits.pids"),
        (&["limits.cpu=infinity"], &[], "limits.cpu"),
        (&["limits.blkio.devices=[]"], &[], "limits.blkio.devices"),
        (&["limits.rlimits.core=4096"], &[], "limits.rlimits.core"),
        (&[&plain], &[], "mounts.bind"),
        (&[&with("read-only = false")], &[&plain], "mounts.read-only"),
        (&[&with("read-only = true, nodev = false")], &[&plain], "mounts.nodev"),
        (&[&with("read-only = true, nosuid = false")], &[&plain], "mounts.nosuid"),
        (&[&with("read-only = true, propagation = \"shared\"")], &[&plain], "mounts.propagation"),
        (&[&bind(engine.to_str().unwrap()), dangerous], &[], "mounts.bind"),
        (&[&bind("/proc"), dangerous], &[], "security.allow-dangerous-binds"),
        (&[&bind("/dev"), dangerous], &[], "security.allow-dangerous-binds"),
        (&[&bind("/run"), dangerous], &[], "security.allow-dangerous-binds"),
        (&[&bind("/"), dangerous], &[], "mounts.bind"),
    ];
    for (set, over, key) in rows {
        let before = match over {
            [] => closed.clone(),
            over => report(Caller::Root, home_path, &bench.unit, over),
        };
        let after = report(Caller::Root, home_path, &bench.unit, set);
        if key.is_empty() {
            assert_eq!(exposure(&after), exposure(&before), "{set:?} {after}");
            continue;
        }
        let count = |report: &Value| keys_of(report).iter().filter(|name| *name == key).count();
        assert!(count(&after) > count(&before), "{set:?} {after}");
        assert!(exposure(&after) > exposure(&before), "{set:?} {before} {after}");
    }
    assert_eq!(keys_of(&closed), [""; 0], "{closed}");
    let mapped =
        report(Caller::Root, home_path, &bench.unit, &["process.user=0", "idmap.mode=auto"]);
    assert_eq!(keys_of(&mapped), [""; 0], "{mapped}");
}

#[test]
fn every_finding_names_a_key_that_exists() {
    let bench = Bench::new("");
    let open = [
        "network.mode=host",
        "namespaces.pid=host",
        "security.capabilities=all",
        "security.no-new-privileges=false",
        "process.pass-fds=[3]",
        "root.switch=chroot",
    ];
    let found = report(Caller::Root, "/root", &bench.unit, &open);
    let names = keys_of(&found);
    assert!(names.len() > 8, "{found}");
    for key in names {
        let (table, name) = key.rsplit_once('.').unwrap();
        assert!(keys::find(table, name).is_some(), "{key}");
    }
    for finding in found["findings"].as_array().unwrap() {
        let weight = weights::ALL.iter().find(|weight| finding["name"] == weight.name).unwrap();
        assert_eq!(finding["chance"].as_f64(), Some(weight.chance));
    }
}

#[test]
fn the_figure_is_the_chance_that_one_opening_is_enough() {
    let bench = Bench::new("");
    for set in [&[][..], &["network.mode=host"], &["security.capabilities=all"]] {
        let found = report(Caller::Root, "/root", &bench.unit, set);
        let holds: f64 = found["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| 1.0 - finding["chance"].as_f64().unwrap())
            .product();
        assert!((exposure(&found) - 10.0 * (1.0 - holds)).abs() <= 0.05, "{found}");
    }
}

#[test]
fn a_home_is_read_where_it_is_seen_and_its_permissions_allow() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = scratch();
    let path = home.path().to_str().unwrap().to_owned();
    let bench = Bench::new("");
    let question = "can it read your home?";
    let of = |set: &[&str]| {
        let found = report(Caller::Root, &path, &bench.unit, set);
        (answer(&found, question).to_owned(), found)
    };
    assert_eq!(of(&[]).0, "no");
    let bind = format!("mounts=[{{ target = \"/data\", bind = \"{path}\", read-only = true }}]");
    let (said, found) = of(&[&bind]);
    assert_eq!(said, "yes", "{found}");
    assert!(keys_of(&found).contains(&"mounts.mask"), "{found}");
    // Covered by a later mount.
    let covered = format!(
        "mounts=[{{ target = \"/data\", bind = \"{path}\" }}, {{ target = \"/data\", tmpfs = \"1M\" }}]"
    );
    assert_eq!(of(&[&covered]).0, "no");
    fs::create_dir(home.path().join("part")).unwrap();
    let part = format!("mounts=[{{ target = \"/data\", bind = \"{path}/part\" }}]");
    assert_eq!(of(&[&part]).0, "in part");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(of(&[&bind]).0, "yes", "its owner reads it");
    assert_eq!(of(&[&bind, "process.user=1000"]).0, "no");
    let elsewhere = "security.landlock.read=[\"/etc\", \"/probe\"]";
    assert_eq!(of(&[&bind, elsewhere]).0, "no");
    let there = "security.landlock.read=[\"/data\"]";
    assert_eq!(of(&[&bind, there]).0, "yes");
    let reads = "security.capabilities=[\"CAP_DAC_READ_SEARCH\"]";
    assert_eq!(of(&[&bind, "process.user=1000", reads]).0, "yes");
}

#[test]
fn answers_change_with_the_keys_they_are_about() {
    let bench = Bench::with_root(CLOSED, "");
    let rows = [
        ("can it reach the network?", "network.mode=host", "yes"),
        ("can it become root on the host?", "security.capabilities=all", "yes"),
        ("can it become root on the host?", "process.user=0", "in part"),
        ("can it become root on the host?", "security.no-new-privileges=false", "in part"),
        ("can it become root inside?", "process.user=0", "yes"),
        ("can it become root inside?", "security.no-new-privileges=false", "in part"),
        ("can it use up the memory?", "limits.memory=infinity", "yes"),
        ("can it use up the processes?", "limits.pids=infinity", "yes"),
        ("can it use up the disk?", "root.read-only=false", "yes"),
        ("can it see other processes?", "namespaces.pid=host", "yes"),
        ("can it write to the host?", "root.read-only=false", "in part"),
        (
            "can it change devices or kernel settings?",
            "security.capabilities=[\"CAP_SYS_ADMIN\"]",
            "yes",
        ),
        ("can it keep running after you leave?", "namespaces.pid=host", "in part"),
    ];
    let closed = report(Caller::Root, "/root", &bench.unit, &[]);
    for (question, set, expected) in rows {
        assert_eq!(answer(&closed, question), "no", "{question}");
        // cgroup v1 limits swap together with memory.
        let open = report(Caller::Root, "/root", &bench.unit, &["limits.swap=infinity", set]);
        assert_eq!(answer(&open, question), expected, "{question} {set}");
    }
}

#[test]
fn the_hosts_proc_that_comes_along_with_a_bind_is_seen() {
    let bench = Bench::new(
        "[[mounts]]\ntarget = \"/data\"\nbind = \"{dir}/tree\"\n[security]\nallow-dangerous-binds = true\n",
    );
    let tree = bench.directory.path().join("tree");
    fs::create_dir_all(tree.join("proc")).unwrap();
    fs::create_dir_all(bench.root.join("inner/proc")).unwrap();
    let of = |at: &Path, set: &[&str]| {
        let script = format!("mount -t proc proc {}\nexec \"$@\"", at.display());
        let unit = bench.unit.to_str().unwrap();
        let mut words = vec![jailrun().to_str().unwrap(), "audit", "--json", unit];
        words.extend(set.iter().flat_map(|set| ["--set", set]));
        let run = shell_with_own_mounts(&script, &words);
        assert_eq!(run.status, 0, "{run:?}");
        run.json()[0].clone()
    };
    let questions = ["can it see other processes?", "can it change devices or kernel settings?"];
    for at in [tree.join("proc"), bench.root.join("inner/proc")] {
        let found = of(&at, &[]);
        for question in questions {
            assert_eq!(answer(&found, question), "yes", "{found}");
        }
        assert!(keys_of(&found).contains(&"security.allow-dangerous-binds"), "{found}");
    }
    // The root's own /proc is covered, and a mask covers any other.
    let masked = "security.masked-paths=[\"@default\", \"/inner/proc\"]";
    for at in ["proc", "inner/proc"] {
        let found = of(&bench.root.join(at), &[masked]);
        for question in questions {
            assert_eq!(answer(&found, question), "no", "{found}");
        }
    }
    let bound = ["mounts=[{ target = \"/data\", bind = \"/proc\" }]"];
    let found = report(Caller::Root, "/root", &bench.unit, &bound);
    assert_eq!(answer(&found, questions[0]), "yes", "{found}");
}

#[test]
fn a_read_only_bind_that_follows_the_host_is_written_to_through_later_mounts() {
    let bench = Bench::with_root(CLOSED, "");
    let question = "can it write to the host?";
    let of = |key: &str| {
        let bind =
            format!("mounts=[{{ target = \"/data\", bind = \"/srv\", read-only = true{key} }}]");
        let set = ["root.propagation=slave", &bind];
        let found = report(Caller::Root, "/root", &bench.unit, &set);
        let mut answers = found["answers"].as_array().unwrap().iter();
        let because = answers.find(|answer| answer["question"] == question).unwrap();
        (answer(&found, question).to_owned(), because["because"].as_str().unwrap().to_owned())
    };
    let follows = "to what the host mounts below /, /data while it runs";
    assert_eq!(of(", propagation = \"slave\""), ("in part".to_owned(), follows.to_owned()));
    assert_eq!(of(""), ("in part".to_owned(), follows.to_owned()));
    let root = "to what the host mounts below / while it runs";
    assert_eq!(of(", propagation = \"private\""), ("in part".to_owned(), root.to_owned()));
}

#[test]
fn a_threshold_fails_what_is_above_it() {
    let bench = Bench::new("");
    let unit = bench.unit.to_str().unwrap();
    let figure = exposure(&report(Caller::Root, "/root", &bench.unit, &[]));
    let above = audit(Caller::Root, "/root", &[unit, "--threshold", &format!("{figure:.1}")]);
    assert_eq!(above.status, 0, "{above:?}");
    let below =
        audit(Caller::Root, "/root", &[unit, "--threshold", &format!("{:.1}", figure - 0.1)]);
    assert_eq!(below.status, 1, "{below:?}");
    assert_eq!(below.stdout, above.stdout);
    for wrong in ["11", "-1", "x", "nan"] {
        let run = audit(Caller::Root, "/root", &[unit, &format!("--threshold={wrong}")]);
        assert_eq!(run.status, 2, "{run:?}");
    }
    assert_eq!(audit(Caller::Root, "/root", &[]).status, 2);
    let missing = audit(Caller::Root, "/root", &["/absent.toml"]);
    assert_eq!(missing.status, 1, "{missing:?}");
    bench.assert_nothing_left();
}

#[test]
fn an_ordinary_user_sees_what_root_would_launch() {
    let bench = Bench::with_root("", "[limits]\nmemory = \"64M\"\n");
    let unit = bench.unit.to_str().unwrap();
    let own = audit(Caller::User, "/home/nobody", &[unit]);
    assert_eq!(own.status, 1, "an ordinary user sets no limit: {own:?}");
    assert!(own.stderr.contains("`--as-root` audits the jail that root would start"), "{own:?}");
    let as_root = audit(Caller::User, "/home/nobody", &["--as-root", unit]);
    assert_eq!(as_root.status, 0, "{as_root:?}");
    let by_root = audit(Caller::Root, "/home/nobody", &[unit]);
    assert_eq!(as_root.stdout, by_root.stdout);
}

#[test]
fn every_weight_is_printed_with_its_reason() {
    let run = audit(Caller::User, "/", &["--weights"]);
    assert_eq!(run.status, 0, "{run:?}");
    for weight in weights::ALL {
        let shown = run.stdout.lines().any(|line| {
            line.contains(&format!(" {} ", weight.name)) && line.ends_with(weight.reason)
        });
        assert!(shown, "{weight:?}");
    }
    let json = audit(Caller::User, "/", &["--weights", "--json"]).json();
    assert_eq!(json.as_array().unwrap().len(), weights::ALL.len());
}

#[test]
fn whoever_can_become_root_of_the_host_is_judged_as_root() {
    let bench = Bench::with_root(CLOSED, "");
    let question = "can it become root on the host?";
    let uid = "process.user=1000";
    let set = "security.capabilities=[\"CAP_SETUID\"]";
    let kept = "security.ambient-capabilities=[\"CAP_SETUID\"]";
    let of = |set: &[&str]| report(Caller::Root, "/root", &bench.unit, set);
    let without = of(&[uid]);
    assert_eq!(answer(&without, question), "no", "{without}");
    // It is gone at execve.
    assert_eq!(answer(&of(&[uid, set]), question), "no");
    assert_eq!(answer(&of(&[uid, set, kept]), question), "in part");
    // In a user namespace root is another, unless the map says otherwise.
    assert_eq!(answer(&of(&[uid, set, kept, "idmap.mode=auto"]), question), "no");
    assert_eq!(answer(&of(&[uid, set, kept, "idmap.mode=identity"]), question), "in part");
    // The files of /proc/sys ask who it is, not what it may.
    let open = ["process.user=0", "security.read-only-paths=[]"];
    let settings = "can it change devices or kernel settings?";
    for (map, expected) in [("idmap.mode=identity", "yes"), ("idmap.mode=auto", "no")] {
        let found = of(&[&open[..], &[map]].concat());
        assert_eq!(answer(&found, settings), expected, "{found}");
    }
}
