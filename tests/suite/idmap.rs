//! Users and groups of jails: the maps, whose the files are inside and on the
//! host, and helpers that are not what they seem.
//!
//! Files of the host that say whose which ids are, and the helpers, are covered
//! in a mount namespace of the test's own.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::agreement::{assert_agreement, bench};
use crate::support::{
    Bench, CALLERS, Caller, Run, command, copy_program, eventually, finish, jailrun, write_script,
};

/// First id of the ranges that root's jails have.
const GRID: u64 = 0x7000_0000;

/// A command as a caller, who may execute helpers that are set-user-id.
fn whole(caller: Caller, program: &Path, arguments: &[&str]) -> Command {
    let mut limited = command(caller, program, arguments);
    if caller == Caller::User {
        let kept: Vec<_> = limited
            .get_args()
            .filter(|word| *word != "--bounding-set=-all")
            .map(Into::into)
            .collect();
        let kept: Vec<std::ffi::OsString> = kept;
        limited = Command::new("setpriv");
        limited.args(kept);
    }
    limited
}

/// Runs a command where files of the host are others.
fn where_covered(covers: &[(&Path, &str)], inner: Command) -> Run {
    finish(covered(covers, inner).spawn().unwrap())
}

/// Such a command; it becomes the one given, by the same process id.
fn covered(covers: &[(&Path, &str)], inner: Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "sh", "-ec"]);
    unshare.arg(
        "while [ \"$1\" != -- ]; do mount --bind \"$1\" \"$2\"; shift 2; done; shift; exec \"$@\"",
    );
    unshare.arg("sh");
    for (file, target) in covers {
        unshare.arg(file).arg(target);
    }
    unshare.arg("--").arg(inner.get_program()).args(inner.get_args());
    unshare.env_remove("XDG_RUNTIME_DIR").env("NO_COLOR", "1").env("TERM", "dumb");
    unshare.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    unshare
}

/// A state directory of the test's own: which range a jail of root gets depends
/// on all that run at the time.
struct Apart(tempfile::TempDir);

impl Apart {
    fn new() -> Self {
        Self(crate::support::scratch())
    }

    fn command(&self, words: &[&str]) -> Command {
        covered(&[(self.0.path(), "/run")], command(Caller::Root, jailrun(), words))
    }

    fn run(&self, words: &[&str]) -> Run {
        finish(self.command(words).spawn().unwrap())
    }

    fn up(&self, bench: &Bench, words: &[&str]) -> Run {
        self.run(&[&["up", bench.unit.to_str().unwrap(), "--quiet"], words].concat())
    }

    /// A jail that runs until it is killed.
    fn keep_running(&self, bench: &Bench) -> std::process::Child {
        let words = ["up", bench.unit.to_str().unwrap(), "--quiet", "--", "/bin/sleep", "60"];
        self.command(&words).spawn().unwrap()
    }

    fn claim(&self, name: &str) -> PathBuf {
        self.0.path().join("jailrun").join(name)
    }

    fn gc(&self) {
        let gc = self.run(&["gc"]);
        assert_eq!(gc.status, 0, "{gc:?}");
    }
}

/// Runs jailrun where files of the host are others.
fn up_where(covers: &[(&Path, &str)], bench: &Bench, caller: Caller, words: &[&str]) -> Run {
    let mut all = vec!["up", bench.unit.to_str().unwrap(), "--quiet"];
    all.extend(words);
    where_covered(covers, whole(caller, jailrun(), &all))
}

/// The same with these ranges of the ordinary user.
fn up_with_ranges(ranges: &str, bench: &Bench, words: &[&str]) -> Run {
    let file = bench.directory.path().join("ranges");
    fs::write(&file, ranges).unwrap();
    up_where(&[(&file, "/etc/subuid"), (&file, "/etc/subgid")], bench, Caller::User, words)
}

const RANGES: &str = "nobody:100000:65536\n";

/// Lines of a map, as the kernel shows them, without the blanks.
fn map(run: &Run) -> Vec<String> {
    assert_eq!(run.status, 0, "{run:?}");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    run.stdout.lines().map(words).collect()
}

const SHOW_MAPS: &[&str] = &["--", "/bin/cat", "/proc/self/uid_map", "/proc/self/gid_map"];

/// Root's files in the root, and one of alice's.
fn owned_by_root(bench: &Bench) {
    let status = Command::new("chown").args(["-hR", "0:0"]).arg(&bench.root).status().unwrap();
    assert!(status.success());
    fs::write(bench.root.join("data/alices"), "text").unwrap();
    chown(bench.root.join("data/alices"), Some(1000), Some(1001)).unwrap();
    fs::write(bench.root.join("data/secret"), "text").unwrap();
    fs::set_permissions(bench.root.join("data/secret"), fs::Permissions::from_mode(0o600)).unwrap();
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

#[test]
fn without_the_table_nothing_changes() {
    let bench = bench("", "");
    assert_eq!(map(&bench.up(Caller::Root, SHOW_MAPS)), ["0 0 4294967295"; 2]);
    assert_eq!(map(&bench.up(Caller::User, SHOW_MAPS)), ["0 65534 1"; 2]);
}

#[test]
fn root_alone_is_the_caller() {
    let bench = bench("", "[idmap]\nmode = \"root\"\n");
    assert_eq!(map(&bench.up(Caller::Root, SHOW_MAPS)), ["0 0 1"; 2]);
    assert_eq!(map(&bench.up(Caller::User, SHOW_MAPS)), ["0 65534 1"; 2]);
    bench.assert_nothing_left();
}

#[test]
fn the_same_numbers_without_the_hosts_privileges() {
    let bench = bench(
        "",
        "[idmap]\nmode = \"identity\"\ncount = 2000\n[security]\ncapabilities = \"all\"\n",
    );
    assert_eq!(map(&bench.up(Caller::Root, SHOW_MAPS)), ["0 0 2000"; 2]);
    // The host's own names are not the jail's to change, nor is its clock.
    let run = bench.up(Caller::Root, &["--", "/bin/date", "-s", "@0"]);
    assert_ne!(run.status, 0, "{run:?}");
    let refused = bench.up(Caller::User, SHOW_MAPS);
    assert_eq!(refused.status, 125);
    assert!(refused.stderr.contains("error[E0309]"), "{refused:?}");
}

#[test]
fn a_manual_map_has_its_ranges() {
    let ranges = "[{ inside = 0, outside = 5000, count = 10 }, { inside = 1000, outside = 9000, count = 5 }]";
    let text = format!(
        "[idmap]\nmode = \"manual\"\nuid = {ranges}\ngid = {}\n[process]\nuser = \"alice\"\nsupplementary-groups = [3]\n",
        ranges.replace("9000", "9100")
    );
    let bench = bench("", &text);
    owned_by_root(&bench);
    let maps = map(&bench.up(Caller::Root, SHOW_MAPS));
    assert_eq!(maps, ["0 5000 10", "1000 9000 5", "0 5000 10", "1000 9100 5"]);
    let report = bench.report(Caller::Root);
    assert_eq!(report["uids"][0], 1000, "{report}");
    assert_eq!(report["groups"], json!([3]), "{report}");
    bench.assert_nothing_left();
}

#[test]
fn an_ordinary_user_has_the_ranges_of_the_files() {
    let bench =
        bench("", "[idmap]\n[process]\nuser = \"alice\"\nsupplementary-groups = [\"staff\"]\n");
    let run = up_with_ranges(RANGES, &bench, SHOW_MAPS);
    assert_eq!(map(&run), ["0 65534 1", "1 100000 65535", "0 65534 1", "1 100000 65535"]);
    // By number too, and in several ranges.
    let run = up_with_ranges("65534:300000:10\nother:1:9\nnobody:200000:5000\n", &bench, SHOW_MAPS);
    let one = ["0 65534 1", "1 300000 10", "11 200000 5000"];
    assert_eq!(map(&run), [one, one].concat());
    let run = up_with_ranges(RANGES, &bench, &["--", "/probe", "report"]);
    assert_eq!(run.status, 0, "{run:?}");
    let report = run.json();
    assert_eq!(report["uids"][0], 1000, "{report}");
    assert_eq!(report["gids"][0], 1001, "{report}");
    assert_eq!(report["groups"], json!([50]), "{report}");
    bench.assert_nothing_left();
}

#[test]
fn missing_ranges_are_told_with_the_command_that_adds_them() {
    let unit = bench("", "[idmap]\n");
    let run = up_with_ranges("other:100000:65536\n", &unit, SHOW_MAPS);
    assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
    assert!(run.stderr.contains("error[E0314]: `nobody` has no user ids"), "{run:?}");
    // Not those that somebody else has.
    let help = "usermod --add-subuids 165536-231071 --add-subgids 165536-231071 nobody";
    assert!(run.stderr.contains(help), "{run:?}");
    let few = bench("", "[idmap]\ncount = 1000\n");
    let run = up_with_ranges("nobody:100000:998\n", &few, SHOW_MAPS);
    assert!(run.stderr.contains("`nobody` has only 998 user ids"), "{run:?}");
    let range = "[{ inside = 0, outside = 99999, count = 2 }]";
    let text = format!("[idmap]\nmode = \"manual\"\nuid = {range}\ngid = {range}\n");
    let foreign = bench("", &text);
    let run = up_with_ranges(RANGES, &foreign, SHOW_MAPS);
    assert!(run.stderr.contains("error[E0314]: these user ids are not `nobody`'s"), "{run:?}");
}

#[test]
fn nobody_is_told_to_give_the_ids_of_the_hosts_users_away() {
    let range = "[{ inside = 0, outside = 0, count = 1 }]";
    let unit = bench("", &format!("[idmap]\nmode = \"manual\"\nuid = {range}\ngid = {range}\n"));
    let run = up_with_ranges("other:100000:65536\n", &unit, SHOW_MAPS);
    assert!(run.stderr.contains("error[E0314]: these user ids are not `nobody`'s"), "{run:?}");
    assert!(run.stderr.contains("usermod --add-subuids 165536-231071 nobody"), "{run:?}");
    assert!(run.stderr.contains("`outside = 65534` is the caller alone"), "{run:?}");
    assert!(!run.stderr.contains("0-0"), "{run:?}");
}

/// A program in the place of a helper, with the helper itself beside it.
fn forged(bench: &Bench, text: &str) -> PathBuf {
    let real = bench.directory.path().join("real");
    copy_program(Path::new("/usr/bin/newuidmap"), &real);
    let forged = bench.directory.path().join("forged");
    let text = format!("#!/bin/sh\n{text}\n").replace("REAL", real.to_str().unwrap());
    write_script(&forged, &text);
    for path in [&real, &forged] {
        chown(path, Some(0), Some(0)).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o4755)).unwrap();
    }
    forged
}

#[test]
fn a_helper_that_maps_less_or_other_fails_the_launch() {
    let bench = bench("", "[idmap]\n");
    let ranges = bench.directory.path().join("ranges");
    fs::write(&ranges, RANGES).unwrap();
    for (text, said) in [
        ("exit 0", "the uid_map is not the one that was asked for"),
        ("echo 0 65534 1 >/proc/$1/uid_map", "the uid_map is not the one that was asked for"),
        ("exec REAL $1 0 65534 1 1 100001 65534", "the uid_map is not the one that was asked for"),
        ("exec REAL $1 0 100000 1 1 100001 65534", "the uid_map is not the one that was asked for"),
        ("echo no thanks >&2; exit 1", "`/usr/bin/newuidmap` says: no thanks"),
    ] {
        let forged = forged(&bench, text);
        let covers = [
            (&*ranges, "/etc/subuid"),
            (&*ranges, "/etc/subgid"),
            (&*forged, "/usr/bin/newuidmap"),
        ];
        let run = up_where(&covers, &bench, Caller::User, SHOW_MAPS);
        assert_eq!((run.status, &*run.stdout), (125, ""), "{text}: {run:?}");
        assert!(run.stderr.contains(said), "{text}: {run:?}");
        bench.assert_nothing_left();
    }
    // Ranges in each other's place.
    let two = "nobody:100000:100\nnobody:200000:100\n";
    fs::write(&ranges, two).unwrap();
    let swapped = forged(&bench, "exec REAL $1 0 65534 1 1 200000 100 101 100000 100");
    let covers =
        [(&*ranges, "/etc/subuid"), (&*ranges, "/etc/subgid"), (&*swapped, "/usr/bin/newuidmap")];
    let run = up_where(&covers, &bench, Caller::User, SHOW_MAPS);
    assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
    assert!(run.stderr.contains("the uid_map is not the one that was asked for"), "{run:?}");
    bench.assert_nothing_left();
    // The control: the helper itself, in the same place.
    let forged = forged(&bench, "exec REAL \"$@\"");
    let covers =
        [(&*ranges, "/etc/subuid"), (&*ranges, "/etc/subgid"), (&*forged, "/usr/bin/newuidmap")];
    assert_eq!(map(&up_where(&covers, &bench, Caller::User, SHOW_MAPS)).len(), 6);
}

#[test]
fn a_helper_without_privileges_is_told() {
    let bench = bench("", "[idmap]\n");
    let ranges = bench.directory.path().join("ranges");
    fs::write(&ranges, RANGES).unwrap();
    let plain = bench.directory.path().join("plain");
    copy_program(Path::new("/usr/bin/newuidmap"), &plain);
    fs::set_permissions(&plain, fs::Permissions::from_mode(0o755)).unwrap();
    let covers =
        [(&*ranges, "/etc/subuid"), (&*ranges, "/etc/subgid"), (&*plain, "/usr/bin/newgidmap")];
    let run = up_where(&covers, &bench, Caller::User, SHOW_MAPS);
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("error[E0315]: `/usr/bin/newgidmap` cannot map ids"), "{run:?}");
    assert!(run.stderr.contains("apt-get install uidmap"), "{run:?}");
}

/// The first id outside of a running or finished jail.
fn base(lines: &[String]) -> u64 {
    lines[0].split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_jail_of_root_has_a_range_of_its_own_that_stays() {
    let bench = bench("", "[idmap]\n");
    owned_by_root(&bench);
    let apart = Apart::new();
    let first = map(&apart.up(&bench, SHOW_MAPS));
    let outside = base(&first);
    assert_eq!(first, [format!("0 {outside} 65536"), format!("0 {outside} 65536")]);
    assert!((GRID..1 << 31).contains(&outside), "{outside}");
    assert!((outside - GRID).is_multiple_of(65_536), "{outside}");
    assert_eq!(map(&apart.up(&bench, SHOW_MAPS)), first);
    // One that is somebody's is not taken.
    let ranges = bench.directory.path().join("ranges");
    fs::write(&ranges, format!("somebody:{}:1\n", outside + 65_535)).unwrap();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let covers = [(&*ranges, file), (apart.0.path(), "/run")];
        let moved = map(&up_where(&covers, &bench, Caller::Root, SHOW_MAPS));
        assert_ne!(base(&moved), outside);
    }
    bench.assert_nothing_left();
    let claim = apart.claim(&format!("ids-{}", (outside - GRID) / 65_536));
    assert!(!claim.exists(), "{} is left", claim.display());
}

#[test]
fn jails_that_run_together_share_no_range() {
    let one = bench("", "[idmap]\n");
    owned_by_root(&one);
    let apart = Apart::new();
    let outside = base(&map(&apart.up(&one, SHOW_MAPS)));
    let claim = apart.claim(&format!("ids-{}", (outside - GRID) / 65_536));
    let mut running = apart.keep_running(&one);
    eventually("the claim", || fs::read_to_string(&claim).is_ok_and(|name| name == one.name));
    // The same unit under a name whose range would be the same one.
    let number = |name: &str| {
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        hash % 0x1000
    };
    let rival = (0..)
        .map(|n| format!("{}-{n}", one.name))
        .find(|name| number(name) == number(&one.name))
        .unwrap();
    let mut words = vec!["--set".to_owned(), format!("name={rival}")];
    words.extend(SHOW_MAPS.iter().map(|word| (*word).to_owned()));
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let second = base(&map(&apart.up(&one, &words)));
    let ranges: BTreeSet<_> = [outside, second].into();
    assert_eq!(ranges.len(), 2, "both have {outside}");
    // A killed launch leaves its claim, which gc takes back.
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(claim.exists());
    apart.gc();
    assert!(!claim.exists());
    one.assert_nothing_left();
}

fn is_locked(path: &Path) -> bool {
    fs::File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
}

#[test]
fn jails_whose_units_name_the_same_ids_are_told_of_each_other() {
    let one = bench("", "[idmap]\nbase = 300000\n");
    owned_by_root(&one);
    let apart = Apart::new();
    let claim = apart.claim(&format!("ids-300000-65536-{}", one.name));
    let mut running = apart.keep_running(&one);
    eventually("the claim", || is_locked(&claim));
    let range = |outside: u32| format!("[{{ inside = 0, outside = {outside}, count = 10 }}]");
    let manual = |uid: u32, gid: u32| {
        let (uid, gid) = (range(uid), range(gid));
        format!("[idmap]\nmode = \"manual\"\nuid = {uid}\ngid = {gid}\n")
    };
    for (text, meets) in [
        ("[idmap]\nbase = 300000\n".to_owned(), true),
        ("[idmap]\nbase = 365535\ncount = 5\n".to_owned(), true),
        ("[idmap]\nbase = 365536\ncount = 5\n".to_owned(), false),
        ("[idmap]\nbase = 299995\ncount = 5\n".to_owned(), false),
        (manual(250_000, 300_100), true),
        (manual(300_100, 250_000), true),
        (manual(250_000, 260_000), false),
    ] {
        let other = bench("", &text);
        owned_by_root(&other);
        let words = ["up", other.unit.to_str().unwrap(), "--", "/bin/true"];
        let run = apart.run(&words);
        assert_eq!(run.status, 0, "{text}: {run:?}");
        let said = format!("warning[W0015]: the running jail `{}` has some", one.name);
        assert_eq!(run.stderr.contains(&said), meets, "{text}: {run:?}");
        assert_eq!(run.stderr.contains("[W0015]"), meets, "{text}: {run:?}");
        other.assert_nothing_left();
    }
    running.kill().unwrap();
    running.wait().unwrap();
    // What a killed launch has left is nobody's.
    assert!(claim.exists());
    let other = bench("", "[idmap]\nbase = 300000\n");
    owned_by_root(&other);
    let words = ["up", other.unit.to_str().unwrap(), "--", "/bin/true"];
    let run = apart.run(&words);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(!run.stderr.contains("[W0015]"), "{run:?}");
    apart.gc();
    assert!(!claim.exists());
    one.assert_nothing_left();
}

#[test]
fn a_range_of_the_grid_that_a_unit_names_is_not_given_to_another() {
    let one = bench("", "[idmap]\n");
    owned_by_root(&one);
    let apart = Apart::new();
    let own = base(&map(&apart.up(&one, SHOW_MAPS)));
    // One id in the middle of it is enough.
    let rival = bench("", &format!("[idmap]\nbase = {}\ncount = 1\n", own + 7));
    owned_by_root(&rival);
    let mut running = apart.keep_running(&rival);
    let claim = apart.claim(&format!("ids-{}-1-{}", own + 7, rival.name));
    eventually("the claim", || is_locked(&claim));
    assert_ne!(base(&map(&apart.up(&one, SHOW_MAPS))), own);
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(base(&map(&apart.up(&one, SHOW_MAPS))), own);
    apart.gc();
    assert!(!claim.exists());
}

#[test]
fn the_report_says_whose_ranges_they_are() {
    let unit = bench("", "[idmap]\n");
    owned_by_root(&unit);
    let apart = Apart::new();
    let outside = base(&map(&apart.up(&unit, SHOW_MAPS)));
    let report = ["--dry-run", "--", "/bin/true"];
    let lines = |run: &Run, key: &str| -> Vec<String> {
        assert_eq!(run.status, 0, "{run:?}");
        let lines = run.stdout.lines().filter(|line| line.trim_start().starts_with(key));
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let run = apart.up(&unit, &report);
    for key in ["idmap.uid", "idmap.gid"] {
        let said = format!(
            "{key} {{ inside = 0, outside = {outside}, count = 65536 }} the place of the jail's name among the ranges of root's jails"
        );
        assert_eq!(lines(&run, key), [said]);
    }
    let run = up_with_ranges("other:1:2\nnobody:100000:65536\n", &unit, &report);
    for (key, file) in [("idmap.uid", "/etc/subuid"), ("idmap.gid", "/etc/subgid")] {
        assert_eq!(
            lines(&run, key),
            [
                format!("{key} {{ inside = 0, outside = 65534, count = 1 }} the caller"),
                format!("{key} {{ inside = 1, outside = 100000, count = 65535 }} {file}:2"),
            ]
        );
    }
    let named = bench("", "[idmap]\nbase = 300000\n");
    let run = named.up(Caller::Root, &report);
    let place = format!("{}:", named.unit.display());
    let [base] = &lines(&run, "idmap.base")[..] else { panic!("{run:?}") };
    assert!(base.starts_with(&format!("idmap.base 300000 {place}")), "{base}");
    assert_eq!(lines(&run, "idmap.uid"), Vec::<String>::new());
}

/// What the report says is what happens.
#[test]
fn a_root_that_cannot_be_mapped_is_told_before_it_is_tried() {
    let bench = bench("", "[idmap]\n");
    owned_by_root(&bench);
    let script = format!(
        "cd {dir}; mkdir upper work; mount -t overlay it -o lowerdir={root},upperdir=upper,workdir=work {root}
         set +e; {jailrun} check {unit}; echo $? >&2; {jailrun} up {unit} --dry-run -- /bin/true; echo $? >&2
         exec {jailrun} up {unit} --quiet -- /bin/true",
        dir = bench.directory.path().display(),
        root = bench.root.display(),
        jailrun = jailrun().display(),
        unit = bench.unit.display(),
    );
    let run = where_covered(&[], command(Caller::Root, Path::new("sh"), &["-ec", &script]));
    let said = format!("`{}` is on overlay, which has no mapped mounts", bench.root.display());
    assert!(run.stderr.contains(&format!("warning[W0016]: {said}")), "{run:?}");
    assert!(run.stderr.contains("ownership = \"chown\""), "{run:?}");
    assert!(run.stdout.contains("FAIL  ") && run.stdout.contains(&said), "{run:?}");
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("or one below it, has no mapped mounts"), "{run:?}");
    // The control: the directory itself.
    let run = bench.up(Caller::Root, &["--dry-run", "--", "/bin/true"]);
    assert_eq!(run.status, 0, "{run:?}");
    assert!(!run.stderr.contains("W0016"), "{run:?}");
}

/// What else takes privileges of the host: device nodes, loop devices, the
/// host's own tree; with Landlock on top of it.
#[test]
fn devices_landlock_and_every_root_go_together_with_mapped_ids() {
    let text = "[idmap]\n[[devices]]\npath = \"/dev/other-zero\"\nhost-path = \"/dev/zero\"\n[[mounts]]\ntarget = \"/mnt\"\nbind = \"{dir}/shared\"\nidmap = true\n";
    let bench = bench("", text);
    owned_by_root(&bench);
    let dir = bench.directory.path();
    fs::create_dir(dir.join("shared")).unwrap();
    fs::create_dir(bench.root.join("mnt")).unwrap();
    let script = "truncate -s 16M root.ext4; mkfs.ext4 -q -d root root.ext4";
    let mut pack = Command::new("sh");
    pack.args(["-ec", script]).current_dir(dir);
    assert!(pack.status().unwrap().success());
    let text = fs::read_to_string(&bench.unit).unwrap();
    let path = format!("path = \"{}\"", bench.root.display());
    // A closure and the host's tree have what is bound into the other roots.
    let (head, tail) = text.split_once("[[mounts]]").unwrap();
    let own = format!("{head}{}", &tail[tail.find("[idmap]").unwrap()..]);
    let landlock = format!(
        "[security.landlock]\n{}write = [\"/tmp\", \"/dev\"]\n",
        crate::landlock::best_effort()
    );
    let attempt = "stat -c %u:%g /; echo x >/dev/other-zero && echo device; echo x >/tmp/file && echo tmp; \
                   if (echo x >/mnt/file) 2>/dev/null; then echo written; else echo refused; fi";
    for (unit, root, owner_of_root) in [
        (&text, path.clone(), "0:0"),
        (&text, "image = \"root.ext4\"".to_owned(), "0:0"),
        (&text, "image = \"root.ext4\"\nephemeral = true".to_owned(), "0:0"),
        (&own, "binaries = [\"sh\", \"stat\"]".to_owned(), "0:0"),
        (&own, "host = true".to_owned(), "65534:65534"),
    ] {
        for (keys, end) in [(&*landlock, "refused"), ("", "written")] {
            fs::write(&bench.unit, unit.replace(&path, &root) + keys).unwrap();
            let run = bench.up(Caller::Root, &["--", "/bin/sh", "-c", attempt]);
            let wanted = format!("{owner_of_root}\ndevice\ntmp\n{end}\n");
            assert_eq!(run.stdout, wanted, "{root}: {run:?}");
            bench.assert_nothing_left();
            let file = dir.join("shared/file");
            assert_eq!(file.exists(), end == "written", "{root}");
            if file.exists() {
                assert_eq!(owner(&file), (0, 0));
                fs::remove_file(&file).unwrap();
            }
        }
    }
}

/// Shows whose files are inside, and makes one.
const OWNERS: &[&str] = &[
    "--",
    "/bin/sh",
    "-c",
    "stat -c %u:%g / /data/alices /data/secret && cat /data/secret && (: >/data/new && chown 7:8 /data/new && stat -c %u:%g /data/new) 2>/dev/null",
];

#[test]
fn the_jails_users_own_what_those_of_their_numbers_own_in_every_root() {
    let bench =
        bench("", "[idmap]\n[security]\ncapabilities = [\"CAP_CHOWN\", \"CAP_DAC_OVERRIDE\"]\n");
    owned_by_root(&bench);
    let script = r#"set -e
        tar -C root -czf root.tar.gz .
        mksquashfs root root.squashfs -quiet -noappend >/dev/null
        mkfs.erofs root.erofs root >/dev/null 2>&1
        mkdir upper empty
        umoci init --layout layout; umoci new --image layout:tag
        umoci insert --image layout:tag root / >/dev/null"#;
    let mut pack = Command::new("sh");
    pack.args(["-c", script]).current_dir(bench.directory.path());
    assert!(pack.status().unwrap().success());
    let dir = bench.directory.path().display();
    let path = format!("path = \"{}\"", bench.root.display());
    let text = fs::read_to_string(&bench.unit).unwrap();
    let roots = [
        (path.clone(), true),
        (format!("{path}\nephemeral = true"), true),
        (format!("lower = [\"{dir}/empty\", \"{}\"]", bench.root.display()), false),
        (format!("lower = [\"{}\"]\nupper = \"tmpfs\"", bench.root.display()), true),
        (format!("lower = [\"{}\"]\nupper = \"{dir}/upper\"", bench.root.display()), true),
        (format!("tmpfs = \"64M\"\npopulate = [\"{}\"]", bench.root.display()), true),
        (format!("tmpfs = \"64M\"\npopulate = [\"{dir}/root.tar.gz\"]"), true),
        ("tar = \"root.tar.gz\"\nephemeral = true".to_owned(), true),
        ("oci = \"layout:tag\"\nephemeral = true".to_owned(), true),
        ("oci = \"layout:tag\"".to_owned(), false),
        ("image = \"root.squashfs\"".to_owned(), false),
        ("image = \"root.erofs\"\nephemeral = true".to_owned(), true),
    ];
    // The store is the test's own.
    let data = bench.directory.path().join("lib");
    fs::create_dir(&data).unwrap();
    for (root, writable) in roots {
        fs::write(&bench.unit, text.replace(&path, &root)).unwrap();
        let run = up_where(&[(&data, "/var/lib")], &bench, Caller::Root, OWNERS);
        let lines: Vec<_> = run.stdout.lines().collect();
        assert_eq!(lines.first(), Some(&"0:0"), "{root}: {run:?}");
        assert_eq!(lines[1..3], ["1000:1001", "0:0"], "{root}: {run:?}");
        assert!(lines[3].starts_with("text"), "{root}: {run:?}");
        assert_eq!(run.stdout.ends_with("7:8\n"), writable, "{root}: {run:?}");
        bench.assert_nothing_left();
    }
    // On the host the numbers are those inside; nothing else has changed.
    assert_eq!(owner(&bench.root.join("data/new")), (7, 8));
    assert_eq!(owner(&bench.directory.path().join("upper/data/new")), (7, 8));
    assert_eq!(owner(&bench.root.join("data/alices")), (1000, 1001));
}

/// An overlay of a user namespace heeds other marks than root's own.
#[test]
fn what_an_image_hides_is_hidden_in_a_user_namespace_too() {
    let script = r#"set -e
        mkdir only; : >only/new
        umoci init --layout layout; umoci new --image layout:tag
        umoci insert --image layout:tag root / >/dev/null
        umoci insert --image layout:tag --opaque only /data >/dev/null
        umoci insert --image layout:tag --whiteout /lower/gone >/dev/null"#;
    for table in ["", "[idmap]\n"] {
        let bench = bench("", table);
        owned_by_root(&bench);
        fs::create_dir(bench.root.join("lower")).unwrap();
        for name in ["gone", "kept"] {
            fs::write(bench.root.join("lower").join(name), "").unwrap();
        }
        let mut pack = Command::new("sh");
        pack.args(["-c", script]).current_dir(bench.directory.path());
        assert!(pack.status().unwrap().success());
        let path = format!("path = \"{}\"", bench.root.display());
        let text = fs::read_to_string(&bench.unit).unwrap();
        // The store is the test's own.
        let data = bench.directory.path().join("lib");
        fs::create_dir(&data).unwrap();
        for changes in ["", "\nephemeral = true"] {
            let root = format!("oci = \"layout:tag\"{changes}");
            fs::write(&bench.unit, text.replace(&path, &root)).unwrap();
            let words = ["--", "/bin/ls", "/data", "/lower"];
            let run = up_where(&[(&data, "/var/lib")], &bench, Caller::Root, &words);
            assert_eq!(run.stdout, "/data:\nnew\n\n/lower:\nkept\n", "{table}: {run:?}");
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn a_file_of_ranges_that_cannot_be_read_is_not_an_empty_one() {
    let bench = bench("", "[idmap]\n");
    owned_by_root(&bench);
    let long = bench.directory.path().join("long");
    fs::write(&long, "#\n".repeat(1 << 19)).unwrap();
    for (name, cover) in [("subuid", "user"), ("subgid", "group")] {
        let file = format!("/etc/{name}");
        let run = up_where(&[(&long, &file)], &bench, Caller::Root, SHOW_MAPS);
        assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
        let said = format!("error[E0318]: the host does not say which {cover} ids");
        assert!(run.stderr.contains(&said), "{run:?}");
        assert!(run.stderr.contains(&format!("`{file}` cannot be read")), "{run:?}");
        let null = Path::new("/dev/null");
        let run = up_where(&[(null, &file)], &bench, Caller::Root, SHOW_MAPS);
        assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
        assert!(run.stderr.contains("not a regular file"), "{run:?}");
        let run = up_where(&[(null, &file)], &bench, Caller::User, SHOW_MAPS);
        assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
        assert!(run.stderr.contains(&said), "{run:?}");
    }
    bench.assert_nothing_left();
}

/// Runs jailrun as root under limits of open files.
fn up_with_files(limits: &str, bench: &Bench, words: &[&str]) -> Run {
    let nofile = format!("--nofile={limits}");
    let mut all = vec![&*nofile, jailrun().to_str().unwrap(), "up", bench.unit.to_str().unwrap()];
    all.push("--quiet");
    all.extend(words);
    finish(command(Caller::Root, Path::new("prlimit"), &all).spawn().unwrap())
}

/// One message holds 253 descriptors, and a process has fewer than a unit may
/// have trees.
#[test]
fn hundreds_of_trees_reach_the_jail() {
    const COUNT: usize = 600;
    let mounts: Vec<_> = (0..COUNT)
        .map(|number| {
            format!(
                "[[mounts]]\ntarget = \"/tmp/{number}\"\nbind = \"{{dir}}/shared\"\nidmap = true\n"
            )
        })
        .collect();
    let binds = bench("", &format!("[idmap]\n{}", mounts.concat()));
    owned_by_root(&binds);
    let shared = binds.directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "").unwrap();
    chown(shared.join("file"), Some(7), Some(8)).unwrap();

    let closure = Bench::new("");
    let many = closure.directory.path().join("many");
    fs::create_dir(&many).unwrap();
    let files: Vec<_> = (0..COUNT).map(|number| many.join(number.to_string())).collect();
    for file in &files {
        fs::write(file, "").unwrap();
        chown(file, Some(7), Some(8)).unwrap();
    }
    let text = format!(
        "name = \"{}\"\n[root]\nbinaries = [\"sh\", \"stat\", \"sort\", \"uniq\"]\nfiles = {files:?}\n[idmap]\n",
        closure.name
    );
    fs::write(&closure.unit, text).unwrap();

    for (bench, names) in
        [(&binds, "/tmp/*/file".to_owned()), (&closure, format!("{}/*", many.display()))]
    {
        let script = format!("stat -c %u:%g {names} | sort | uniq -c; ulimit -Sn; ulimit -Hn");
        let words = ["--", "/bin/sh", "-c", &script];
        for (limits, shown) in [("256:2000", "256\n2000\n"), ("1500:1500", "1500\n1500\n")] {
            let run = up_with_files(limits, bench, &words);
            let wanted = format!("{COUNT} 7:8\n{shown}");
            assert_eq!(run.stdout.trim_start(), wanted, "{run:?}");
        }
        // Where there is no room, that is told, and asked for before.
        let run = up_with_files("256:512", bench, &words);
        assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
        assert!(run.stderr.contains("open files, the limit is 512"), "{run:?}");
        let run = up_with_files("256:512", bench, &["--dry-run", "--", "/bin/sh"]);
        assert_eq!(run.status, 1, "{}", run.stderr);
        assert!(run.stdout.contains("open files, the hard limit is 512"), "{run:?}");
        bench.assert_nothing_left();
    }
}

#[test]
fn binds_show_their_owners_or_the_jails_as_the_unit_says() {
    let text = "[idmap]\n[[mounts]]\ntarget = \"/tmp/plain\"\nbind = \"{dir}/shared\"\n[[mounts]]\ntarget = \"/tmp/mapped\"\nbind = \"{dir}/shared\"\nidmap = true\n";
    let bench = bench("", text);
    owned_by_root(&bench);
    let shared = bench.directory.path().join("shared");
    fs::create_dir(&shared).unwrap();
    fs::write(shared.join("file"), "").unwrap();
    chown(shared.join("file"), Some(1000), Some(1001)).unwrap();
    let words = [
        "--",
        "/bin/sh",
        "-c",
        "stat -c %u:%g /tmp/plain/file /tmp/mapped/file; : >/tmp/mapped/new; if : >/tmp/plain/new; then echo written; fi",
    ];
    let run = bench.up(Caller::Root, &words);
    assert_eq!(run.stdout, "65534:65534\n1000:1001\n", "{run:?}");
    assert_eq!(owner(&shared.join("new")), (0, 0));
    let refused = bench.up(Caller::User, &words);
    assert_eq!(refused.status, 125);
    assert!(refused.stderr.contains("a mount with mapped ids needs root"), "{refused:?}");
}

#[test]
fn ownership_off_shows_files_as_nobodys() {
    let bench = bench("", "[idmap]\nownership = \"off\"\n");
    owned_by_root(&bench);
    for path in ["proc", "sys", "dev", "tmp", "run"] {
        assert!(bench.root.join(path).is_dir());
    }
    let run = bench.up(Caller::Root, &["--", "/bin/stat", "-c", "%u:%g", "/data/alices", "/data"]);
    assert_eq!(run.stdout, "65534:65534\n65534:65534\n", "{run:?}");
}

#[test]
fn owners_are_changed_on_disk_once_and_taken_up_where_that_was_cut_short() {
    let bench = bench(
        "",
        "[idmap]\nbase = 300000\nownership = \"chown\"\n[security]\ncapabilities = [\"CAP_CHOWN\"]\n",
    );
    owned_by_root(&bench);
    let outside = bench.directory.path().join("outside");
    fs::write(&outside, "").unwrap();
    symlink(&outside, bench.root.join("data/link")).unwrap();
    let set = bench.root.join("data/set");
    fs::write(&set, "").unwrap();
    fs::set_permissions(&set, fs::Permissions::from_mode(0o4755)).unwrap();
    // What a run that was killed has done already.
    chown(bench.root.join("data/secret"), Some(300_000), Some(300_000)).unwrap();
    let run = bench.up(Caller::Root, OWNERS);
    assert_eq!(run.stdout, "0:0\n1000:1001\n0:0\ntext7:8\n", "{run:?}");
    assert_eq!(owner(&bench.root.join("data/alices")), (301_000, 301_001));
    assert_eq!(owner(&bench.root.join("data/secret")), (300_000, 300_000));
    assert_eq!(owner(&bench.root.join("data/new")), (300_007, 300_008));
    assert_eq!(owner(&bench.root.join("data/link")), (300_000, 300_000));
    assert_eq!(fs::metadata(&set).unwrap().mode() & 0o7777, 0o4755);
    // Nothing that a link leads to.
    assert_ne!(owner(&outside).0, 300_000);
    // Once: what root of the host puts there later stays root's.
    fs::write(bench.root.join("data/later"), "").unwrap();
    assert_eq!(bench.up(Caller::Root, &["--", "/bin/true"]).status, 0);
    assert_eq!(owner(&bench.root.join("data/later")), (0, 0));
    // And to one range.
    let other = bench.up(Caller::Root, &["--set", "idmap.base=400000", "--", "/bin/true"]);
    assert_eq!(other.status, 125, "{other:?}");
    assert!(other.stderr.contains("it has been given to other users: 0:300000:65536"), "{other:?}");
    bench.assert_nothing_left();
}

#[test]
fn a_file_system_without_mapped_mounts_is_told_what_else_there_is() {
    let bench = bench(
        "",
        "[idmap]\n[[mounts]]\ntarget = \"/tmp/it\"\nbind = \"/proc/sys\"\nidmap = true\n[security]\nallow-dangerous-binds = true\n",
    );
    owned_by_root(&bench);
    let run = bench.up(Caller::Root, &["--", "/bin/true"]);
    assert_eq!((run.status, &*run.stdout), (125, ""), "{run:?}");
    assert!(run.stderr.contains("has no mapped mounts"), "{run:?}");
    assert!(run.stderr.contains("ownership = \"chown\""), "{run:?}");
    bench.assert_nothing_left();
}

#[test]
fn the_script_maps_the_same_ids() {
    let off = "ownership = \"off\"\n";
    let report = ["--", "/probe", "report"];
    for mode in [
        "mode = \"identity\"\ncount = 3000",
        "base = 300000",
        "mode = \"manual\"\nuid = [{ inside = 0, outside = 5000, count = 10 }, { inside = 1000, outside = 9000, count = 5 }]\ngid = [{ inside = 0, outside = 70000, count = 2000 }]",
    ] {
        let bench = bench("", &format!("[idmap]\n{off}{mode}\n[process]\nuser = \"alice\"\n"));
        assert_agreement(&bench, Caller::Root, &report);
    }
    for caller in CALLERS {
        assert_agreement(&bench("", "[idmap]\nmode = \"root\"\n"), caller, &report);
    }
    let bench = bench("", "[idmap]\nbase = 300000\nownership = \"chown\"\n");
    assert_agreement(&bench, Caller::Root, &report);
}

#[test]
fn the_script_of_an_ordinary_user_calls_the_helpers() {
    let bench = bench("", "[idmap]\n[process]\nuser = \"alice\"\n");
    let mut words = vec!["--explain"];
    words.extend(SHOW_MAPS);
    let explained = up_with_ranges(RANGES, &bench, &words);
    assert_eq!(explained.status, 0, "{explained:?}");
    assert!(explained.stdout.contains("/usr/bin/newuidmap $$ "), "{}", explained.stdout);
    let script = bench.directory.path().join("explained.sh");
    fs::write(&script, &explained.stdout).unwrap();
    let ranges = bench.directory.path().join("ranges");
    let covers = [(&*ranges, "/etc/subuid"), (&*ranges, "/etc/subgid")];
    let scripted =
        where_covered(&covers, whole(Caller::User, Path::new("sh"), &[script.to_str().unwrap()]));
    assert_eq!(map(&scripted), map(&up_with_ranges(RANGES, &bench, SHOW_MAPS)));
    bench.assert_nothing_left();
}

/// It was taken for the mount that it lies over: opened before, it is older.
#[test]
fn what_is_bound_over_another_mount_starts() {
    let at = ["/tmp", "/run", "/dev/null"].map(|target| {
        let source = if target == "/dev/null" { "{root}/etc/passwd" } else { "{root}/etc" };
        format!("[[mounts]]\nbind = \"{source}\"\ntarget = \"{target}\"\n")
    });
    let bench = Bench::new(&format!("[idmap]\nmode = \"auto\"\n{}", at.concat()));
    let run = bench.probe(Caller::Root, &["find", "tmp/passwd", "run/passwd"]);
    assert_eq!(run.json()["seen"], json!(["tmp/passwd", "run/passwd"]), "{run:?}");
    bench.assert_nothing_left();
}
