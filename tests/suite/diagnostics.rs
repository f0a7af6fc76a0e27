//! What `jailrun check` says about units that are wrong: every message as a
//! user reads it, in golden files, and inputs that are no units at all.
//!
//! `golden/NAME.toml` is the unit, `golden/NAME.stderr` what is said about it.
//! `UPDATE=1` writes the latter anew: read the difference as a user would.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Caller, Run, command, fed, finish, jailrun, probe, require_root, scratch};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/golden")
}

/// A directory with the roots that the units speak of.
fn fixture() -> tempfile::TempDir {
    require_root();
    let directory = scratch();
    let root = directory.path().join("root");
    for name in ["proc", "sys", "dev", "tmp", "run", "etc", "data", "bin", "usr", "usr/bin"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nalice:x:1000:1000::/:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
    // As much of a program as is looked at.
    let program = fs::read(probe()).unwrap();
    for (name, mode, text) in [
        ("true", 0o755, &program[..64]),
        ("plain", 0o644, b""),
        ("script", 0o755, b"#!/usr/bin/python3\n"),
    ] {
        let path = root.join("bin").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(
        directory.path().join("profile.json"),
        "{\n  \"defaultAction\": \"SCMP_ACT_ERRNO\",\n  \"syscalls\": [{\n    \"names\": [\"read\"],\n    \"action\": \"SCMP_ACT_ALOW\"\n  }]\n}\n",
    )
    .unwrap();
    fs::create_dir(directory.path().join("data")).unwrap();
    fs::write(directory.path().join("docker.sock"), "").unwrap();
    let hostile = directory.path().join("hostile");
    fs::create_dir_all(hostile.join("run")).unwrap();
    fs::create_dir_all(hostile.join("tmp")).unwrap();
    fs::create_dir_all(hostile.join("bin")).unwrap();
    fs::copy(root.join("bin/true"), hostile.join("bin/true")).unwrap();
    symlink("nowhere", directory.path().join("dangling")).unwrap();
    symlink("/etc", hostile.join("proc")).unwrap();
    symlink("run", hostile.join("dev")).unwrap();
    fs::write(hostile.join("sys"), "").unwrap();
    directory
}

fn check_in(directory: &Path, caller: Caller, arguments: &[&str]) -> Run {
    run_in(directory, caller, &[&["check"], arguments].concat())
}

fn run_in(directory: &Path, caller: Caller, words: &[&str]) -> Run {
    finish(command(caller, jailrun(), words).current_dir(directory).spawn().unwrap())
}

/// The report without what differs from machine to machine.
fn portable(text: &str, directory: &Path) -> String {
    let cpus = fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let text = text
        .replace(&format!("it has {}", cpus.trim()), "it has [CPUS]")
        .replace(&directory.display().to_string(), "[DIRECTORY]");
    // The number of the file system that /proc happens to be.
    let mut portable = String::new();
    for line in text.split_inclusive('\n') {
        match line.split_once("(device 0:") {
            Some((head, tail)) => {
                let rest = tail.trim_start_matches(|c: char| c.is_ascii_digit());
                portable.push_str(&format!("{head}(device 0:[NUMBER]{rest}"));
            }
            None => portable.push_str(line),
        }
    }
    portable
}

fn compare(file: &str, seen: &str) {
    let path = golden().join(file);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, seen).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(seen == expected, "{file} differs\n--- expected\n{expected}\n--- seen\n{seen}");
}

fn check(caller: Caller, name: &str, status: i32) {
    let directory = fixture();
    let unit = format!("{name}.toml");
    fs::copy(golden().join(&unit), directory.path().join(&unit)).unwrap();
    let run = check_in(directory.path(), caller, &[&unit]);
    assert_eq!((run.status, &*run.stdout), (status, ""), "{run:?}");
    compare(&format!("{name}.stderr"), &portable(&run.stderr, directory.path()));
    assert_sorted(directory.path(), caller, &unit);
}

/// All problems at once, from the top of the file to its end.
fn assert_sorted(directory: &Path, caller: Caller, unit: &str) {
    let json = check_in(directory, caller, &[unit, "--json"]).json();
    let places: Vec<_> =
        findings(&json).iter().filter_map(|finding| finding["at"]["start"].as_u64()).collect();
    assert!(places.is_sorted(), "{places:?}");
}

fn findings(json: &Value) -> &Vec<Value> {
    json[0]["diagnostics"].as_array().unwrap()
}

/// One test for each golden file, named after what it protects.
macro_rules! golden {
    ($($test:ident: $file:literal, $caller:ident, $status:literal;)*) => {
        $(
            #[test]
            fn $test() {
                check(Caller::$caller, $file, $status);
            }
        )*

        #[test]
        fn every_golden_unit_has_its_test() {
            let tested: BTreeSet<String> = [$($file),*].map(str::to_owned).into();
            let there: BTreeSet<String> = fs::read_dir(golden())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
                .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
                // Read by the tests of --dry-run.
                .filter(|name| !name.starts_with("dry-run"))
                .collect();
            assert_eq!(tested, there);
        }
    };
}

golden! {
    archives_and_disk_images_that_cannot_be_used: "packed", Root, 1;
    sysctls_that_would_be_set_for_others: "sysctls", Root, 1;
    a_sysctl_that_the_kernel_does_not_have_is_told_the_nearest: "sysctls-missing", Root, 1;
    jails_that_cannot_be_joined_are_told: "jails", Root, 1;
    what_the_command_cannot_reach_is_refused: "landlock", Root, 1;
    a_script_whose_interpreter_is_out_of_reach_is_refused: "landlock-libraries", Root, 1;
    devices_that_are_none_or_cannot_be_there_are_refused: "devices", Root, 1;
    every_syntax_error_is_reported_at_once: "syntax", Root, 1;
    unknown_keys_are_named_with_the_nearest_known_one: "unknown-keys", Root, 1;
    wrong_types_and_units_say_what_was_found_and_expected: "types", Root, 1;
    what_a_first_unit_gets_wrong_is_told_with_its_fix: "mistakes", Root, 1;
    a_line_for_a_shell_is_told_how_to_reach_one: "command-line", Root, 1;
    keys_that_exclude_each_other_are_both_shown: "exclusive", Root, 1;
    what_is_missing_is_said: "missing", Root, 1;
    an_empty_unit_is_told_what_it_lacks: "empty", Root, 1;
    impossible_targets_are_refused: "targets", Root, 1;
    what_would_be_created_on_the_host_is_announced: "created", Root, 0;
    what_an_earlier_mount_is_hidden_by_is_told: "hidden", Root, 0;
    keys_of_mounts_without_effect_are_told_apart: "mount-keys", Root, 1;
    what_one_key_would_create_is_announced_together: "created-together", Root, 0;
    binds_that_hand_out_the_host_are_refused: "dangerous", Root, 1;
    binds_that_hand_out_the_host_can_be_allowed: "dangerous-allowed", Root, 0;
    ranges_of_ids_that_overlap_or_do_not_exist_are_refused: "idmap", Root, 1;
    a_user_outside_of_the_map_is_refused: "idmap-mode", Root, 1;
    a_map_without_ranges_or_a_namespace_is_refused: "idmap-missing", Root, 1;
    trees_that_cannot_be_given_to_the_jails_users_are_refused: "idmap-host", Root, 1;
    what_the_jails_users_cannot_open_or_can_undo_is_told: "idmap-closed", Root, 0;
    limits_that_contradict_each_other_or_the_host_are_refused: "limits", Root, 1;
    users_that_the_jail_does_not_have_are_refused: "users", Root, 1;
    a_misspelt_command_is_told_the_nearest: "command-missing", Root, 1;
    a_command_that_is_nowhere_is_told_where_it_was_searched: "command-search", Root, 1;
    a_command_that_is_not_executable_is_told_apart: "command-plain", Root, 1;
    a_command_that_is_a_directory_is_told_apart: "command-directory", Root, 1;
    a_directory_to_start_in_that_is_missing_is_told_the_nearest: "directory-missing", Root, 1;
    a_file_is_no_directory_to_start_in: "directory-file", Root, 1;
    a_script_without_its_interpreter_is_told_apart: "command-interpreter", Root, 1;
    a_command_of_proc_is_refused: "command-proc", Root, 1;
    shared_namespaces_are_not_changed: "shared", Root, 1;
    an_ordinary_user_cannot_become_another: "ordinary-user", User, 1;
    an_ordinary_user_is_told_about_limits_and_groups: "ordinary-user-limit", User, 1;
    what_undoes_the_isolation_is_warned_of: "chroot", Root, 0;
    host_paths_that_are_not_there_are_refused: "paths", Root, 1;
    a_root_with_links_for_directories_is_refused: "hostile", Root, 1;
    control_characters_do_not_reach_the_terminal: "control-characters", Root, 1;
    overlays_of_what_cannot_be_laid_over_each_other_are_refused: "overlays", Root, 1;
    keys_of_another_kind_of_root_are_refused: "overlay-sizes", Root, 1;
    changes_do_not_go_to_the_hosts_own_tree: "overlay-host", Root, 1;
    a_layer_with_links_for_directories_is_refused: "overlay-hostile", Root, 1;
    what_a_closure_lacks_is_told_with_who_wants_it: "closure", Root, 1;
    what_cannot_be_copied_into_memory_is_refused: "populate", Root, 1;
    system_calls_and_actions_that_are_none_are_told: "seccomp", Root, 1;
    a_filter_that_would_stop_the_launch_is_refused: "seccomp-launch", Root, 1;
    a_filter_that_stops_the_loader_is_warned_of: "seccomp-loader", Root, 0;
    a_profile_that_is_none_is_told_where: "seccomp-profile", Root, 1;
}

/// Codes that no golden file shows, and who produces them.
const ELSEWHERE: &[(&str, &str)] = &[
    ("E0001", "unreadable_inputs_are_named_and_refused_quickly"),
    ("E0002", "a_unit_that_is_not_utf8_is_told_the_line"),
    ("E0322", "execution: a link in a directory of the test's own"),
    ("E0308", "plan::tests: limits that the host at hand could keep"),
    ("E0314", "idmap: what /etc/subuid says differs from machine to machine"),
    ("E0315", "idmap: this machine has the helpers"),
    ("W0015", "idmap: another jail has to run"),
    ("W0016", "idmap: it takes a mount of the test's own"),
    ("W0011", "plan::tests: the kernel at hand has every part of Landlock"),
    ("E0318", "host::tests: a machine that answers every question"),
    ("W0008", "plan::tests: an image that is not in the store"),
    ("W0007", "closure::tests: this machine has what its programs would like"),
    ("W0006", "plan::tests: depends on the host's version of control groups"),
];

#[test]
fn every_code_is_produced_by_a_test() {
    let mut golden_text = String::new();
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "stderr") {
            golden_text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
    let shown = |code: &str| golden_text.contains(&format!("[{code}]"));
    let mut missing = Vec::new();
    for (code, meaning) in jailrun::codes::CODES {
        let elsewhere = ELSEWHERE.iter().any(|(known, _)| known == code);
        if !shown(code) && !elsewhere {
            missing.push(format!("{code}: {meaning}"));
        }
    }
    assert_eq!(missing, Vec::<String>::new());
    for (code, _) in ELSEWHERE {
        assert!(!shown(code), "{code} is shown by a golden file");
        assert!(jailrun::codes::CODES.iter().any(|(known, _)| known == code), "{code}");
    }
}

#[test]
fn json_has_stable_fields_and_the_same_findings() {
    let directory = fixture();
    for name in ["types", "exclusive", "created"] {
        let unit = format!("{name}.toml");
        fs::copy(golden().join(&unit), directory.path().join(&unit)).unwrap();
    }
    let run = check_in(
        directory.path(),
        Caller::Root,
        &["--json", "types.toml", "exclusive.toml", "created.toml"],
    );
    assert_eq!((run.status, &*run.stderr), (1, ""), "{run:?}");
    let json = run.json();
    let reports = json.as_array().unwrap();
    assert_eq!(
        reports.iter().map(|report| &report["unit"]).collect::<Vec<_>>(),
        ["types.toml", "exclusive.toml", "created.toml"]
    );
    let fields = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for report in reports {
        assert_eq!(fields(report), ["diagnostics", "unit", "works"]);
        let name = report["unit"].as_str().unwrap();
        let text = fs::read_to_string(directory.path().join(name)).unwrap();
        let stderr = check_in(directory.path(), Caller::Root, &[name]).stderr;
        let list = report["diagnostics"].as_array().unwrap();
        let heads = stderr.lines().filter(|line| line.contains("[E0") || line.contains("[W0"));
        let heads: Vec<&str> = heads.collect();
        assert_eq!(heads.len(), list.len(), "{stderr}");
        let mut errors = 0;
        for (finding, head) in list.iter().zip(heads) {
            assert_eq!(
                fields(finding),
                ["at", "code", "context", "help", "label", "message", "notes", "patch", "severity"]
            );
            let word = |field: &str| finding[field].as_str().unwrap();
            errors += usize::from(word("severity") == "error");
            assert_eq!(
                head,
                format!("{}[{}]: {}", word("severity"), word("code"), word("message"))
            );
            for at in [&finding["at"], &finding["patch"]["at"]] {
                if at.is_null() {
                    continue;
                }
                assert_eq!(fields(at), ["column", "end", "file", "line", "start", "text"]);
                assert_eq!(at["file"], name);
                let number = |field: &str| usize::try_from(at[field].as_u64().unwrap()).unwrap();
                assert_eq!(&text[number("start")..number("end")], at["text"].as_str().unwrap());
                let line = text[..number("start")].matches('\n').count() + 1;
                assert_eq!(number("line"), line);
            }
        }
        assert_eq!(report["works"], errors == 0, "{name}");
    }
}

#[test]
fn a_patch_settles_its_finding() {
    settle("types", 10);
    settle("mistakes", 6);
}

fn settle(name: &str, least: usize) {
    let directory = fixture();
    let file = format!("{name}.toml");
    let unit = directory.path().join(&file);
    fs::copy(golden().join(&file), &unit).unwrap();
    let report = || check_in(directory.path(), Caller::Root, &["--json", &file]).json();
    let before = report();
    let mut text = fs::read_to_string(&unit).unwrap();
    let mut settled = Vec::new();
    for finding in findings(&before).iter().rev() {
        let patch = &finding["patch"];
        if patch.is_null() {
            continue;
        }
        let number = |field: &str| usize::try_from(patch["at"][field].as_u64().unwrap()).unwrap();
        text.replace_range(number("start")..number("end"), patch["replacement"].as_str().unwrap());
        settled.push(finding["message"].as_str().unwrap().to_owned());
    }
    assert!(settled.len() >= least, "{settled:?}");
    fs::write(&unit, text).unwrap();
    let after = report();
    for finding in findings(&after) {
        let message = finding["message"].as_str().unwrap();
        assert!(!settled.iter().any(|old| old == message), "still there: {message}");
    }
    // A patch leads to no new problem.
    let old: Vec<&Value> = findings(&before).iter().map(|finding| &finding["message"]).collect();
    let new: Vec<&Value> = findings(&after).iter().map(|finding| &finding["message"]).collect();
    assert_eq!(new.iter().filter(|message| !old.contains(message)).count(), 0, "{new:#?}");
}

#[test]
fn colours_follow_the_users_wish() {
    let directory = fixture();
    fs::copy(golden().join("exclusive.toml"), directory.path().join("exclusive.toml")).unwrap();
    let stderr = |variables: &[(&str, &str)]| {
        let mut command = command(Caller::Root, jailrun(), &["check", "exclusive.toml"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm").current_dir(directory.path());
        let run = finish(command.envs(variables.iter().copied()).spawn().unwrap());
        assert_eq!(run.status, 1, "{run:?}");
        run.stderr
    };
    let plain = stderr(&[]);
    assert!(!plain.contains('\x1b'), "colours in a pipe");
    let coloured = stderr(&[("CLICOLOR_FORCE", "1")]);
    assert!(coloured.contains("\x1b["), "{coloured}");
    assert_eq!(stderr(&[("NO_COLOR", "1"), ("CLICOLOR_FORCE", "1")]), plain);
    assert_eq!(stderr(&[("NO_COLOR", "1")]), plain);
    // Only the escapes differ.
    let mut stripped = String::new();
    let mut rest = &*coloured;
    while let Some((head, tail)) = rest.split_once("\x1b[") {
        stripped.push_str(head);
        rest = tail.split_once('m').unwrap().1;
    }
    assert_eq!(stripped + rest, plain);
}

#[test]
fn a_problem_of_set_quotes_the_argument() {
    let directory = fixture();
    fs::write(
        directory.path().join("web.toml"),
        "[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/true\"]\n",
    )
    .unwrap();
    let assignments = [
        "limits.memory=512Q",
        "limits.memroy=1G",
        "limits.memory",
        "a b=1",
        "process.command=[1]",
        "=1",
        "root.path=absent",
        "limits=3",
    ];
    let mut all = String::new();
    for assignment in assignments {
        let run = check_in(directory.path(), Caller::Root, &["web.toml", "--set", assignment]);
        assert_eq!(run.status, 1, "{assignment}: {run:?}");
        assert!(run.stderr.contains(assignment), "{assignment}: {}", run.stderr);
        assert!(run.stderr.contains("--> --set"), "{assignment}: {}", run.stderr);
        all.push_str(&portable(&run.stderr, directory.path()));
    }
    compare("set.stderr", &all);
}

fn timed(directory: &Path, arguments: &[&str], seconds: u64) -> Run {
    let started = Instant::now();
    let run = check_in(directory, Caller::Root, arguments);
    let took = started.elapsed();
    assert!(took < Duration::from_secs(seconds), "{arguments:?} took {took:?}");
    run
}

#[test]
fn unreadable_inputs_are_named_and_refused_quickly() {
    let directory = fixture();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir(at("directory.toml")).unwrap();
    nix::unistd::mkfifo(&at("fifo.toml"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    fs::File::create(at("sparse.toml")).unwrap().set_len(1 << 30).unwrap();
    symlink("loop.toml", at("loop.toml")).unwrap();
    for (unit, reason) in [
        ("absent.toml", "no such file"),
        ("directory.toml", "it is a directory"),
        ("fifo.toml", "it is not a regular file"),
        ("sparse.toml", "it is larger than 1 MiB"),
        ("/dev/zero", "it is not a regular file"),
        ("loop.toml", "too many levels of symbolic links"),
        ("web.toml/x", "no such file"),
    ] {
        let run = timed(directory.path(), &[unit], 2);
        assert_eq!(run.status, 1, "{run:?}");
        let expected = format!(
            "error[E0001]: cannot read the unit `{unit}`: {reason}\n\nerror: 1 error in {unit}\n"
        );
        assert_eq!(run.stderr, expected);
    }
    fs::write(at("closed.toml"), "").unwrap();
    fs::set_permissions(at("closed.toml"), fs::Permissions::from_mode(0o600)).unwrap();
    let run = check_in(directory.path(), Caller::User, &["closed.toml"]);
    assert!(
        run.stderr.contains("cannot read the unit `closed.toml`: permission denied"),
        "{run:?}"
    );
}

#[test]
fn a_unit_that_is_not_utf8_is_told_the_line() {
    let directory = fixture();
    fs::write(directory.path().join("latin.toml"), b"name = \"a\"\n# caf\xe9\n").unwrap();
    let run = check_in(directory.path(), Caller::Root, &["latin.toml"]);
    assert_eq!(run.status, 1, "{run:?}");
    let place = "error[E0002]: the unit is not UTF-8\n --> latin.toml:2:6\n";
    assert!(run.stderr.starts_with(place), "{run:?}");
    assert!(run.stderr.contains("the byte 0xe9 is part of no character"), "{run:?}");
}

#[test]
fn texts_meant_to_exhaust_are_decided_quickly() {
    let directory = fixture();
    let base = "[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/true\"]\n";
    let many_keys: String = (0..10_000).map(|number| format!("key-{number} = 1\n")).collect();
    let deep = 100_000;
    let mut wrong = Vec::new();
    for (name, text) in [
        ("arrays.toml", format!("{base}x = {}{}\n", "[".repeat(deep), "]".repeat(deep))),
        ("open.toml", format!("{base}x = {}\n", "[".repeat(deep))),
        ("tables.toml", format!("{base}x = {}1{}\n", "{a=".repeat(deep), "}".repeat(deep))),
        ("dotted.toml", format!("{base}{}x = 1\n", "a.".repeat(deep))),
        ("header.toml", format!("{base}[{}x]\ny = 1\n", "a.".repeat(deep))),
        ("keys.toml", format!("{many_keys}{base}")),
        ("same.toml", format!("{base}{}", "cwd = \"/\"\n".repeat(10_000))),
        (
            "mounts.toml",
            format!("{base}{}", "[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/tmp/a\"\n".repeat(10_000)),
        ),
        ("quotes.toml", format!("{base}{}", "\"".repeat(deep))),
        ("long.toml", format!("{base}cwd = \"{}\"\n", "/a".repeat(400_000))),
    ] {
        fs::write(directory.path().join(name), text).unwrap();
        let started = Instant::now();
        let run = check_in(directory.path(), Caller::Root, &[name]);
        // Anything but a crash: a signal would be 128 and more, a panic 101.
        if run.status != 0 && run.status != 1 {
            wrong.push(format!("{name}: status {}", run.status));
        }
        if started.elapsed() > Duration::from_secs(60) {
            wrong.push(format!("{name}: {:?}", started.elapsed()));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    for key in
        ["a.".repeat(30_000) + "b=1", format!("x={}{}", "[".repeat(30_000), "]".repeat(30_000))]
    {
        let unit = directory.path().join("web.toml");
        fs::write(&unit, base).unwrap();
        let run = timed(directory.path(), &["web.toml", "--set", &key], 5);
        assert_eq!(run.status, 1, "--set {}…: {}", &key[..20], run.status);
    }
}

#[test]
fn odd_values_are_findings() {
    let directory = fixture();
    let base = "[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/true\"]\n";
    let mut wrong = Vec::new();
    for (line, code, label) in [
        ("cwd = \"/a\\u0000b\"", "E0103", "NUL ends a string in the kernel"),
        ("command.x = 1", "E0003", ""),
        ("nice = 99999999999999999999999", "E0103", "out of range"),
        ("nice = 1979-05-27", "E0102", "found a date"),
        ("nice = 0x7fffffffffffffff", "E0103", "out of range"),
        ("cpu-affinity = \"0-99999999\"", "E0103", "too large"),
        ("cpu-affinity = \"3-1\"", "E0103", "runs backwards"),
        ("env = { A = \"x\\u0000y\" }", "E0103", "NUL ends a string in the kernel"),
        ("env = { \"A\\u0000B\" = \"x\" }", "E0103", "no `=`"),
        ("env-pass = [\"A=B\"]", "E0103", "no `=`"),
        ("user = \"\"", "E0103", "expected a name or a number"),
        ("user = 4294967295", "E0103", "out of range"),
    ] {
        fs::write(directory.path().join("web.toml"), format!("{base}{line}\n")).unwrap();
        let run = check_in(directory.path(), Caller::Root, &["web.toml"]);
        if !run.stderr.contains(&format!("error[{code}]")) || !run.stderr.contains(label) {
            wrong.push(format!("{line}: expected {code} with {label}, found {}", run.stderr));
        }
    }
    assert_eq!(wrong.join("\n"), "");
}

#[test]
fn a_key_in_the_wrong_table_is_told_every_table_it_could_be_in() {
    let directory = fixture();
    let base = "[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/true\"]\n";
    for (line, tables) in [
        ("user = \"alice\"", &["`[process]`"][..]),
        ("mode = \"none\"", &["`[network]`"]),
        ("weight = 100", &["`[limits.blkio]`"]),
        ("nofile = 64", &["`[limits.rlimits]`"]),
        ("capabilities = \"none\"", &["`[security]`"]),
    ] {
        fs::write(directory.path().join("web.toml"), format!("{line}\n{base}")).unwrap();
        let run = check_in(directory.path(), Caller::Root, &["web.toml"]);
        for table in tables {
            assert!(run.stderr.contains(table), "{line}: {}", run.stderr);
        }
    }
}

#[test]
fn a_unit_can_come_from_standard_input() {
    let directory = fixture();
    let check = |text: &str| {
        let mut command = command(Caller::Root, jailrun(), &["check", "-"]);
        command.current_dir(directory.path());
        finish(fed(command, text))
    };
    let sound = "name = \"web\"\n[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/true\"]\n";
    let run = check(sound);
    assert_eq!((run.status, &*run.stderr), (0, "jailrun: -: no findings\n"), "{run:?}");
    let run = check(&sound.replace("name = \"web\"\n", ""));
    assert_eq!(run.status, 1, "{run:?}");
    // It has no file whose name could be the jail's.
    assert!(!run.stderr.contains("the file's name"), "{}", run.stderr);
    assert!(
        run.stderr.contains("add `name = \"…\"` at the top, or `--set name=…`"),
        "{}",
        run.stderr
    );
}

#[test]
fn quiet_is_silent_about_sound_units_only() {
    let directory = fixture();
    let sound = "[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/true\"]\n";
    fs::write(directory.path().join("good.toml"), sound).unwrap();
    fs::write(directory.path().join("bad.toml"), "x").unwrap();
    let run = check_in(directory.path(), Caller::Root, &["--quiet", "good.toml"]);
    assert_eq!((run.status, &*run.stderr), (0, ""), "{run:?}");
    let run = check_in(directory.path(), Caller::Root, &["--quiet", "good.toml", "bad.toml"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("in bad.toml") && !run.stderr.contains("good.toml"), "{run:?}");
}

#[test]
fn up_reports_what_check_does_once_there_is_an_error() {
    let directory = fixture();
    let unit = "[root]\npath = \"root\"\n[process]\ncommand = [\"/bin/absent\"]\nuser = \"nobdy\"\ncwd = \"/absent\"\n";
    fs::write(directory.path().join("three.toml"), unit).unwrap();
    let check = check_in(directory.path(), Caller::Root, &["three.toml"]);
    let up = run_in(directory.path(), Caller::Root, &["up", "three.toml"]);
    assert_eq!((check.status, up.status), (1, 125));
    assert_eq!(check.stderr, up.stderr);
    assert!(check.stderr.ends_with("error: 3 errors in three.toml\n"), "{check:?}");
}

#[test]
fn a_list_of_layers_that_is_empty_is_an_error_and_not_a_panic() {
    let directory = fixture();
    let unit = "[root]\nlower = []\n[limits]\npids = 4194305\n[process]\ncommand = [\"\"]\n";
    fs::write(directory.path().join("empty.toml"), unit).unwrap();
    let run = check_in(directory.path(), Caller::Root, &["empty.toml"]);
    assert_eq!(run.status, 1, "{run:?}");
    for found in ["`lower` is empty", "`pids` takes 1 to 4194304", "`command` is empty"] {
        assert_eq!(run.stderr.matches(found).count(), 1, "{run:?}");
    }
    assert!(run.stderr.ends_with("error: 3 errors in empty.toml\n"), "{run:?}");
}

#[test]
fn the_name_of_a_unit_does_not_reach_the_terminal_as_it_is() {
    let directory = fixture();
    let name = "e\u{1b}[31m\u{9b}\n.toml";
    fs::write(directory.path().join(name), "[limits]\nmemory = \"\\u009b1\\n\"\n").unwrap();
    for arguments in [&["check", name][..], &["up", "--dry-run", name], &["audit", name]] {
        let mut words = command(Caller::Root, jailrun(), arguments);
        words.env("NO_COLOR", "1").current_dir(directory.path());
        let run = finish(words.spawn().unwrap());
        let text = run.stdout + &run.stderr;
        let bad = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(bad) && !text.contains("\n.toml"), "{arguments:?}: {text:?}");
    }
}

#[test]
fn a_unit_that_cannot_be_read_is_json_too_where_json_is_asked_for() {
    let directory = fixture();
    fs::write(directory.path().join("latin.toml"), b"a\xff").unwrap();
    let words = ["up", "--dry-run", "--json", "latin.toml"];
    let run = run_in(directory.path(), Caller::Root, &words);
    assert_eq!((run.status, &*run.stderr), (1, ""), "{run:?}");
    assert_eq!(run.json()["works"], false);
    assert_eq!(run.json()["diagnostics"][0]["code"], "E0002");
}
