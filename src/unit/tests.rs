//! Decoding and merging, seen through whole units: what a value comes to, what
//! lies over what, and what is said about values that are none.

use std::time::Duration;

use super::keys;
use super::mounts::{Create, MountKind};
use super::namespaces::Mode as NamespaceMode;
use super::root::{ApiFilesystem, RootKind};
use super::value::{Limit, Memory, MilliCpus, Stream, Tty, Who};
use super::{Loaded, Unit, effective, from_text};
use crate::names;

const BASE: &str = "root.path = \"/srv\"\nprocess.command = [\"/x\"]\n";

fn load(text: &str, sets: &[&str]) -> Loaded {
    let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
    from_text("web.toml", text, "/units".into(), "web", &sets, &[])
}

/// A sound unit: the base and a line or more.
fn unit(lines: &str) -> Unit {
    let loaded = load(&format!("{BASE}{lines}\n"), &[]);
    assert_eq!(loaded.diagnostics, [], "{lines}");
    loaded.unit.unwrap()
}

/// Codes and messages about the base with lines.
fn said(lines: &str) -> Vec<String> {
    let loaded = load(&format!("{BASE}{lines}\n"), &[]);
    loaded.diagnostics.iter().map(|found| format!("{} {}", found.code, found.message)).collect()
}

/// What the patch of the one finding would write.
fn patch(lines: &str) -> Option<String> {
    let loaded = load(&format!("{BASE}{lines}\n"), &[]);
    assert_eq!(loaded.diagnostics.len(), 1, "{lines}: {:#?}", loaded.diagnostics);
    loaded.diagnostics[0].patch.as_ref().map(|patch| patch.replacement.clone())
}

#[test]
fn sizes_percents_and_infinity_are_limits() {
    let memory =
        |value: &str| unit(&format!("limits.memory = {value}")).limits.memory.unwrap().value;
    assert_eq!(memory("1048576"), Limit::At(Memory::Bytes(1 << 20)));
    assert_eq!(memory("\"1M\""), Limit::At(Memory::Bytes(1 << 20)));
    assert_eq!(memory("\"1MiB\""), Limit::At(Memory::Bytes(1 << 20)));
    assert_eq!(memory("\"50%\""), Limit::At(Memory::Percent(50)));
    assert_eq!(memory("\"infinity\""), Limit::Infinity);
    for wrong in ["\"0%\"", "\"101%\"", "\"-1M\"", "-1", "1.5", "\"1M2\"", "\"M\"", "\"\""] {
        assert_eq!(said(&format!("limits.memory = {wrong}")).len(), 1, "{wrong}");
    }
}

#[test]
fn cpus_are_numbers_or_percents() {
    let cpu = |value: &str| unit(&format!("limits.cpu = {value}")).limits.cpu.unwrap().value;
    assert_eq!(cpu("2"), Limit::At(MilliCpus(2000)));
    assert_eq!(cpu("1.5"), Limit::At(MilliCpus(1500)));
    assert_eq!(cpu("\"150%\""), Limit::At(MilliCpus(1500)));
    assert_eq!(cpu("\"12.5%\""), Limit::At(MilliCpus(125)));
    assert_eq!(cpu("\"infinity\""), Limit::Infinity);
    for wrong in ["0", "-1", "nan", "inf", "\"0%\"", "\"-5%\"", "0.0001", "1000001"] {
        assert_eq!(said(&format!("limits.cpu = {wrong}")).len(), 1, "{wrong}");
    }
    assert_eq!(patch("limits.cpu = \"1.5\""), Some("1.5".to_owned()));
}

#[test]
fn a_quota_below_the_kernels_smallest_is_refused() {
    assert_eq!(said("limits.cpu = 0.01\nlimits.cpu-period = \"100ms\""), Vec::<String>::new());
    assert_eq!(said("limits.cpu = 0.009\nlimits.cpu-period = \"100ms\"").len(), 1);
    assert_eq!(said("limits.cpu = 0.009\nlimits.cpu-period = \"1s\""), Vec::<String>::new());
    for period in ["999us", "1001ms"] {
        assert_eq!(said(&format!("limits.cpu-period = \"{period}\"")).len(), 1, "{period}");
    }
}

#[test]
fn durations_have_units() {
    let timeout =
        |value: &str| unit(&format!("lifecycle.timeout = {value}")).lifecycle.timeout.value;
    assert_eq!(timeout("\"1m 30s\""), Limit::At(Duration::from_secs(90)));
    assert_eq!(timeout("\"250ms\""), Limit::At(Duration::from_millis(250)));
    assert_eq!(timeout("\"infinity\""), Limit::Infinity);
    assert_eq!(patch("lifecycle.timeout = 90"), Some("\"90s\"".to_owned()));
    assert_eq!(patch("lifecycle.timeout = \"90\""), Some("\"90s\"".to_owned()));
    assert_eq!(patch("lifecycle.timeout = \"max\""), Some("\"infinity\"".to_owned()));
    for wrong in ["-5", "\"-5s\"", "\"5 parsecs\"", "1.5", "true", "[]"] {
        assert_eq!(said(&format!("lifecycle.timeout = {wrong}")).len(), 1, "{wrong}");
    }
    // There is no such thing as minus five seconds to wait: no such patch.
    assert_eq!(patch("lifecycle.timeout = -5"), None);
}

#[test]
fn permission_bits_keep_the_digits_that_were_written() {
    assert_eq!(unit("process.umask = \"027\"").process.umask.value.0, 0o027);
    assert_eq!(patch("process.umask = 22"), Some("\"22\"".to_owned()));
    assert_eq!(patch("process.umask = 0o022"), Some("\"022\"".to_owned()));
    for wrong in ["\"8\"", "\"77777\"", "\"\"", "\"-1\"", "\"+22\"", "\"rwx\"", "true"] {
        assert_eq!(said(&format!("process.umask = {wrong}")).len(), 1, "{wrong}");
    }
}

#[test]
fn users_are_names_or_numbers() {
    let user = |value: &str| unit(&format!("process.user = {value}")).process.user.value;
    assert_eq!(user("1000"), Who::Id(1000));
    assert_eq!(user("\"1000\""), Who::Id(1000));
    assert_eq!(user("\"www-data\""), Who::Name("www-data".to_owned()));
    for wrong in
        ["-1", "4294967295", "\"4294967295\"", "\"\"", "\"-x\"", "\"a:b\"", "\"a\\nb\"", "1.0"]
    {
        assert_eq!(said(&format!("process.user = {wrong}")).len(), 1, "{wrong}");
    }
}

#[test]
fn capabilities_are_presets_names_and_removals() {
    let set = |value: &str| {
        unit(&format!("security.capabilities = {value}")).security.capabilities.value.0
    };
    assert_eq!(set("\"none\""), 0);
    assert_eq!(set("\"default\""), names::DEFAULT_CAPABILITIES);
    assert_eq!(set("\"all\""), names::ALL_CAPABILITIES);
    assert_eq!(set("[]"), 0);
    assert_eq!(set("[\"CAP_KILL\"]"), names::CAP_KILL);
    assert_eq!(set("[\"kill\", \"cap_kill\"]"), names::CAP_KILL);
    assert_eq!(
        set("[\"@default\", \"-CAP_KILL\"]"),
        names::DEFAULT_CAPABILITIES & !names::CAP_KILL
    );
    // In the order written: what comes later wins.
    assert_eq!(set("[\"-CAP_KILL\", \"@default\"]"), names::DEFAULT_CAPABILITIES);
    assert_eq!(
        set("[\"@all\", \"-@default\"]"),
        names::ALL_CAPABILITIES & !names::DEFAULT_CAPABILITIES
    );
    assert_eq!(patch("security.capabilities = \"CAP_KILL\""), Some("[\"CAP_KILL\"]".to_owned()));
    assert_eq!(patch("security.capabilities = [\"CAP_KIL\"]"), Some("\"CAP_KILL\"".to_owned()));
    // A patch keeps the sign of a removal.
    assert_eq!(
        patch("security.capabilities = [\"@default\", \"-CAP_KIL\"]"),
        Some("\"-CAP_KILL\"".to_owned())
    );
}

#[test]
fn signals_are_named_with_or_without_their_prefix() {
    let signal = |value: &str| {
        unit(&format!("lifecycle.stop-signal = {value}")).lifecycle.stop_signal.value.0
    };
    assert_eq!([signal("\"SIGINT\""), signal("\"int\""), signal("2"), signal("64")], [2, 2, 2, 64]);
    for wrong in ["0", "65", "\"SIGX\"", "\"\"", "true"] {
        assert_eq!(said(&format!("lifecycle.stop-signal = {wrong}")).len(), 1, "{wrong}");
    }
}

#[test]
fn streams_and_terminals_are_words_or_files() {
    let process = unit("process.stdin = \"null\"\nprocess.stdout = \"file:out\"\nprocess.stderr = \"append:/log:1\"\nprocess.tty = false").process;
    let [stdin, stdout, stderr] = process.streams;
    assert_eq!(stdin.value, Stream::Null);
    assert!(
        matches!(stdout.value, Stream::File(path) if path.resolve("/units".as_ref()).to_str() == Some("/units/out"))
    );
    assert!(matches!(stderr.value, Stream::Append(path) if path.0.to_str() == Some("/log:1")));
    assert_eq!(process.tty.value, Tty::Never);
    for wrong in
        ["stdin = \"append:x\"", "stdout = \"file:\"", "stdout = \"x\"", "stdout = \"file:a\\nb\""]
    {
        assert_eq!(said(&format!("process.{wrong}")).len(), 1, "{wrong}");
    }
}

#[test]
fn namespaces_are_words_or_files() {
    let pid = |value: &str| unit(&format!("namespaces.pid = \"{value}\"")).namespaces.pid.value;
    assert_eq!(pid("private"), NamespaceMode::Private);
    assert_eq!(pid("host"), NamespaceMode::Host);
    assert_eq!(pid("/proc/7/ns/pid"), NamespaceMode::Join("/proc/7/ns/pid".into()));
    assert_eq!(patch("namespaces.pid = \"privat\""), Some("\"private\"".to_owned()));
    let offsets = unit(
        "namespaces.time = \"private\"\nnamespaces.time-offsets = { monotonic = \"-30s\", boottime = \"1h\" }",
    );
    let offsets = offsets.namespaces.time_offsets.unwrap().value;
    assert_eq!((offsets.monotonic, offsets.boottime), (-30_000_000_000, 3_600_000_000_000));
}

#[test]
fn the_kernels_file_systems_are_in_the_order_they_are_mounted() {
    let api =
        |value: &str| unit(&format!("root.api-filesystems = {value}")).root.api_filesystems.value;
    assert_eq!(api("true"), ApiFilesystem::ALL);
    assert_eq!(api("false"), []);
    assert_eq!(api("[\"/run\", \"/proc/\", \"/run\"]"), [ApiFilesystem::Proc, ApiFilesystem::Run]);
    assert_eq!(said("root.api-filesystems = [\"/home\"]").len(), 1);
}

#[test]
fn paths_of_the_jail_are_normal() {
    let cwd = |value: &str| unit(&format!("process.cwd = \"{value}\"")).process.cwd.value.0;
    assert_eq!(cwd("/a//b/./c/").to_str(), Some("/a/b/c"));
    for wrong in ["", "a", "../a", "/a/..", "/a/../b", "/a\\nb", "/a\\u0000"] {
        assert_eq!(said(&format!("process.cwd = \"{wrong}\"")).len(), 1, "{wrong}");
    }
}

#[test]
fn path_sets_start_from_the_default_only_where_it_is_named() {
    let set =
        |value: &str| unit(&format!("security.masked-paths = {value}")).security.masked_paths.value;
    assert!(unit("").security.masked_paths.value.with_default);
    let added = set("[\"@default\", \"/data\", \"-/proc/keys\"]");
    assert!(added.with_default);
    assert_eq!(added.add, [std::path::PathBuf::from("/data")]);
    assert_eq!(added.remove, [std::path::PathBuf::from("/proc/keys")]);
    assert!(!set("[]").with_default);
    for wrong in ["\"/\"", "\"data\"", "\"-data\"", "\"@all\"", "\"/a/..\""] {
        assert_eq!(said(&format!("security.masked-paths = [{wrong}]")).len(), 1, "{wrong}");
    }
}

#[test]
fn rlimits_are_one_number_or_two() {
    let nofile = |value: &str| {
        let rlimits = unit(&format!("limits.rlimits.nofile = {value}")).limits.rlimits;
        let found =
            rlimits.iter().find(|limit| names::RLIMITS[limit.value.index].key == "nofile").unwrap();
        (found.value.soft, found.value.hard)
    };
    assert_eq!(nofile("64"), (Limit::At(64), Limit::At(64)));
    assert_eq!(nofile("\"infinity\""), (Limit::Infinity, Limit::Infinity));
    assert_eq!(nofile("{ soft = 1, hard = \"infinity\" }"), (Limit::At(1), Limit::Infinity));
    for wrong in [
        "{ soft = 1 }",
        "{ soft = 2, hard = 1 }",
        "{ soft = \"infinity\", hard = 1 }",
        "{ soft = 1, hard = 2, x = 3 }",
        "-1",
        "true",
        "{}",
    ] {
        assert_eq!(said(&format!("limits.rlimits.nofile = {wrong}")).len(), 1, "{wrong}");
    }
    // Without a word about it, no core files.
    let core = unit("").limits.rlimits;
    assert_eq!(
        (core[0].value.soft, core[0].value.hard, core[0].span),
        (Limit::At(0), Limit::At(0), None)
    );
}

#[test]
fn the_root_is_read_only_by_its_kind_unless_said_otherwise() {
    let read_only = |text: &str| {
        let loaded = load(&format!("process.command = [\"/x\"]\n[root]\n{text}\n"), &[]);
        assert_eq!(loaded.diagnostics, []);
        loaded.unit.unwrap().root.read_only.value
    };
    assert!(!read_only("path = \"/srv\""));
    assert!(!read_only("tmpfs = \"1M\""));
    assert!(read_only("host = true"));
    assert!(!read_only("host = true\nread-only = false"));
    assert!(read_only("path = \"/srv\"\nread-only = true"));
}

#[test]
fn relative_host_paths_start_at_the_units_directory() {
    let loaded = load("root.path = \"./srv/./web\"\nprocess.command = [\"/x\"]\n", &[]);
    let unit = loaded.unit.unwrap();
    let Some(RootKind::Directory(path)) = unit.root.kind.map(|kind| kind.value) else { panic!() };
    assert_eq!(path.resolve(&unit.base).to_str(), Some("/units/srv/web"));
}

#[test]
fn mounts_are_read_in_order_with_careful_defaults() {
    let mounts = unit("[[mounts]]\ntarget = \"/b\"\nbind = \"/x\"\n[[mounts]]\ntarget = \"/a\"\ntmpfs = \"1M\"\ncreate = false").mounts;
    assert_eq!(mounts[0].target.value.0.to_str(), Some("/b"));
    assert!(mounts[0].flags.nosuid && mounts[0].flags.nodev && mounts[0].recursive);
    assert!(!mounts[0].flags.read_only && !mounts[0].flags.noexec && !mounts[0].optional.value);
    assert_eq!((mounts[0].create.value, mounts[1].create.value), (Create::Auto, Create::Never));
    let MountKind::Tmpfs(tmpfs) = &mounts[1].kind.value else { panic!() };
    assert_eq!((tmpfs.size.0, tmpfs.inodes, tmpfs.mode.0), (1 << 20, None, 0o755));
    assert_eq!(
        said("[mounts]\ntarget = \"/a\"\ntmpfs = \"1M\""),
        ["E0102 `mounts` is a list of tables"]
    );
    assert_eq!(said("mounts = 3").len(), 1);
    assert_eq!(said("mounts = [3]").len(), 1);
    assert_eq!(said("[[mounts]]\ntarget = \"/a\"\nproc = false").len(), 1);
}

#[test]
fn one_misspelt_key_is_one_finding() {
    // What the key would have said is not missing besides.
    assert_eq!(said("[[mounts]]\ntarget = \"/a\"\ntmpsf = \"1M\"").len(), 1);
    assert_eq!(said("[[mounts]]\ntagret = \"/a\"\ntmpfs = \"1M\"").len(), 1);
    let about = |text: &str| load(text, &[]).diagnostics.len();
    assert_eq!(about("[root]\npaht = \"/srv\"\n[process]\ncommand = [\"/x\"]\n"), 1);
    assert_eq!(about("[root]\npath = \"/srv\"\n[process]\ncomand = [\"/x\"]\n"), 1);
    assert_eq!(about("[rot]\npath = \"/srv\"\n[process]\ncommand = [\"/x\"]\n"), 1);
}

#[test]
fn a_word_of_another_tool_is_taken_for_the_key_that_takes_the_same_values() {
    for (table, word, key) in [
        ("root", "rootfs", "path"),
        ("process", "cmd", "command"),
        ("process", "working_dir", "cwd"),
        ("process", "uid", "user"),
        ("limits", "cpus", "cpu"),
        ("limits", "cpuset_cpus", "cpuset"),
        ("limits", "mem_limit", "memory"),
        ("limits", "pids-limit", "pids"),
        ("mounts", "source", "bind"),
        ("mounts", "destination", "target"),
        ("security", "caps", "capabilities"),
    ] {
        assert_eq!(keys::meant(table, word), Some(keys::Meant::Key(key)));
        assert!(keys::find(table, key).is_some(), "{table}.{key}");
    }
    assert_eq!(patch("[limits]\ncpus = 1.5").as_deref(), Some("cpu"));
    // Written otherwise: a patch would not do.
    assert_eq!(patch("[security]\ncap_add = [\"NET_RAW\"]"), None);
    assert_eq!(patch("[process.environment]\nA = \"b\""), None);
}

#[test]
fn what_is_no_signal_is_not_taken_for_a_short_one() {
    for text in ["", "0", "99", "X", "FOO", "NOPE", "RTMIN+31"] {
        assert_eq!(patch(&format!("[lifecycle]\nstop-signal = \"{text}\"")), None, "{text}");
    }
    let near = patch("[lifecycle]\nstop-signal = \"TREM\"");
    assert_eq!(near.as_deref(), Some("\"SIGTERM\""));
}

#[test]
fn one_value_of_the_wrong_type_is_one_finding() {
    let about = |text: &str| load(text, &[]).diagnostics.len();
    assert_eq!(about("root.path = \"/srv\"\nprocess.command = \"/x\"\n"), 1);
    assert_eq!(about("root.path = \"/srv\"\nprocess = 1\n"), 1);
    assert_eq!(about("root = 1\nprocess.command = [\"/x\"]\n"), 1);
    assert_eq!(about("root.path = 1\nprocess.command = [\"/x\"]\n"), 1);
    assert_eq!(about("name = 1\nroot.path = \"/srv\"\nprocess.command = [\"/x\"]\n"), 1);
}

#[test]
fn names_and_values_of_variables_are_what_execve_can_pass() {
    for wrong in
        ["\"\" = \"x\"", "\"A=B\" = \"x\"", "\"A\\u0000\" = \"x\"", "A = 1", "A = \"x\\u0000\""]
    {
        assert_eq!(said(&format!("process.env = {{ {wrong} }}")).len(), 1, "{wrong}");
    }
    let env = unit("process.env = { B = \"1\", A = \"2\", \"with.dot\" = \"\" }").process.env;
    let names: Vec<&str> = env.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["B", "A", "with.dot"], "in the order written");
}

#[test]
fn the_jails_name_is_the_files_stem_unless_written() {
    let name = |stem: &str, text: &str| {
        let loaded = from_text("x", text, "/".into(), stem, &[], &[]);
        (loaded.unit.unwrap().name.value, loaded.diagnostics.len())
    };
    assert_eq!(name("web", BASE), ("web".to_owned(), 0));
    assert_eq!(name("web", &format!("name = \"other\"\n{BASE}")), ("other".to_owned(), 0));
    assert_eq!(name("My Unit", &format!("name = \"other\"\n{BASE}")), ("other".to_owned(), 0));
    for stem in ["", "My", "-a", ".a", "a/b", "a b", &"a".repeat(64)] {
        assert_eq!(name(stem, BASE).1, 1, "{stem}");
    }
    for good in ["a", "0", "a.b-c", &"a".repeat(63)] {
        assert_eq!(name(good, BASE).1, 0, "{good}");
    }
    assert_eq!(patch("name = \"My_Unit\""), Some("\"my-unit\"".to_owned()));
}

#[test]
fn arguments_follow_the_command_or_are_it() {
    let command = |text: &str, arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let loaded = from_text("x", text, "/".into(), "web", &[], &arguments);
        (
            loaded.unit.unwrap().process.command.map(|command| command.value),
            loaded.diagnostics.len(),
        )
    };
    let words = |list: &[&str]| Some(list.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
    assert_eq!(command(BASE, &["-v", ""]), (words(&["/x", "-v", ""]), 0));
    assert_eq!(command("root.path = \"/srv\"\n", &["/y"]), (words(&["/y"]), 0));
    assert_eq!(command("root.path = \"/srv\"\n", &[]), (None, 1));
    assert_eq!(command("root.path = \"/srv\"\n", &[""]).1, 1);
    assert_eq!(command("root.path = \"/srv\"\nprocess.command = [\"\"]\n", &[]).1, 1);
}

#[test]
fn a_later_assignment_lies_over_an_earlier_one_and_over_the_file() {
    let loaded = load(
        &format!("{BASE}limits.pids = 1\n"),
        &[
            "limits.pids=2",
            "limits.pids=3",
            "limits.rlimits.nofile={ soft = 1, hard = 2 }",
            "limits.rlimits.nofile.soft=2",
        ],
    );
    assert_eq!(loaded.diagnostics, []);
    let limits = loaded.unit.unwrap().limits;
    assert_eq!(limits.pids.value, Limit::At(3));
    assert_eq!(loaded.sources.place(limits.pids.span.unwrap()), "--set limits.pids=3");
    assert_eq!(limits.rlimits.iter().filter(|limit| limit.value.soft == Limit::At(2)).count(), 1);
}

#[test]
fn an_assignment_replaces_a_list_and_merges_a_table() {
    let text = format!(
        "{BASE}process.env = {{ A = \"1\", B = \"2\" }}\nprocess.env-pass = [\"X\", \"Y\"]\n"
    );
    let loaded =
        load(&text, &["process.env.B=\"3\"", "process.env.C=four", "process.env-pass=[\"Z\"]"]);
    assert_eq!(loaded.diagnostics, []);
    let process = loaded.unit.unwrap().process;
    let env: Vec<_> = process.env.iter().map(|(name, value)| (&**name, &*value.value)).collect();
    assert_eq!(env, [("A", "1"), ("B", "3"), ("C", "four")]);
    assert_eq!(process.env_pass.iter().map(|name| &*name.value).collect::<Vec<_>>(), ["Z"]);
}

#[test]
fn an_empty_assignment_takes_a_key_or_a_table_away() {
    let text = format!(
        "{BASE}[limits]\npids = 5\nmemory = \"1G\"\n[[mounts]]\ntarget = \"/a\"\ntmpfs = \"1M\"\n"
    );
    let after = |set: &str| {
        let loaded = load(&text, &[set]);
        assert_eq!(loaded.diagnostics, [], "{set}");
        let unit = loaded.unit.unwrap();
        (unit.limits.pids.value, unit.limits.memory.is_some(), unit.mounts.len())
    };
    assert_eq!(after("limits.pids="), (Limit::At(4096), true, 1));
    assert_eq!(after("limits="), (Limit::At(4096), false, 1));
    assert_eq!(after("mounts="), (Limit::At(5), true, 0));
    // What is not there cannot be missed.
    assert_eq!(after("lifecycle.timeout="), (Limit::At(5), true, 1));
    assert_eq!(load(&text, &["root.path="]).diagnostics.len(), 1, "the root is missing then");
}

#[test]
fn an_assignment_is_toml_or_else_a_string() {
    let name = |value: &str| {
        let loaded = load(BASE, &[&format!("process.env.A={value}")]);
        assert_eq!(loaded.diagnostics, [], "{value}");
        loaded.unit.unwrap().process.env[0].1.value.clone()
    };
    assert_eq!(name("plain"), "plain");
    assert_eq!(name("\"quoted\""), "quoted");
    assert_eq!(name("a=b"), "a=b");
    assert_eq!(name("two words"), "two words");
    assert_eq!(name("\"half"), "\"half");
    assert_eq!(name("ümläut"), "ümläut");
}

#[test]
fn quoted_keys_are_keys() {
    let loaded = load(BASE, &["process.env.\"a.b\"=x"]);
    assert_eq!(loaded.unit.unwrap().process.env[0].0, "a.b");
}

#[test]
fn spans_of_an_assignment_point_into_its_text() {
    let loaded = load(BASE, &["limits.rlimits={ nofile = 7, nofiles = 8 }", "process.nice=99"]);
    let texts: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|found| loaded.sources.text(found.at.as_ref().unwrap().0))
        .collect();
    assert_eq!(texts, ["nofiles", "99"]);
    let rlimits = loaded.unit.unwrap().limits.rlimits;
    let span = rlimits.iter().find_map(|limit| limit.span).unwrap();
    assert_eq!(loaded.sources.text(span), "7");
}

#[test]
fn effective_settings_are_what_is_written_and_every_default_that_holds() {
    let loaded = load(&format!("{BASE}limits.pids = 7\n"), &["process.umask=077"]);
    let settings = effective(&loaded);
    let of = |key: &str| {
        let found = settings.iter().find(|setting| setting.key == key)?;
        Some((&*found.value, found.span.map(|span| loaded.sources.place(span))))
    };
    assert_eq!(of("limits.pids"), Some(("7", Some("web.toml:3".to_owned()))));
    assert_eq!(of("process.umask"), Some(("077", Some("--set process.umask=077".to_owned()))));
    assert_eq!(of("root.read-only"), Some(("false", None)));
    assert_eq!(of("limits.memory"), Some(("\"infinity\"", None)));
    assert_eq!(of("root.host"), None, "no default, not written");
    // Permission bits of a file system that there is not.
    assert_eq!(of("root.mode"), None);
    let host = load("root.host = true\nprocess.command = [\"/x\"]\n", &[]);
    let settings = effective(&host);
    assert!(
        settings.iter().any(|setting| setting.key == "root.read-only" && setting.value == "true")
    );
}

#[test]
fn findings_go_from_the_top_of_the_file_to_its_end() {
    let loaded = load(
        "[process]\nnice = 99\ncommand = [\"/x\"]\n[limits]\npids = -1\n[root]\npath = 1\n[lifecycle]\ntimeout = 5\n",
        &[],
    );
    let lines: Vec<_> = loaded
        .diagnostics
        .iter()
        .map(|found| loaded.sources.position(found.at.as_ref().unwrap().0).line)
        .collect();
    assert_eq!(lines, [2, 5, 7, 9]);
}

#[test]
fn broken_syntax_does_not_hide_other_findings_nor_invent_missing_keys() {
    let loaded = load("[root\npath = \"/srv\"\n[process]\nnice = 99\n", &[]);
    let codes: Vec<_> = loaded.diagnostics.iter().map(|found| found.code).collect();
    assert!(codes.contains(&"E0003") && codes.contains(&"E0103"), "{codes:?}");
    assert!(!codes.contains(&"E0104"), "{codes:?}");
}

#[test]
fn a_value_that_is_not_there_is_a_syntax_error_and_nothing_else() {
    for key in [
        "process.umask",
        "process.user",
        "limits.memory",
        "process.cwd",
        "lifecycle.timeout",
        "network.mode",
    ] {
        assert_eq!(said(&format!("{key} =")).len(), 1, "{key}: {:?}", said(&format!("{key} =")));
    }
}
