//! Under systemd: a service with `Delegate=yes`, and a user's own scope.
//!
//! These run in the second machine, whose process 1 is systemd, as a service
//! of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::{Bench, Run, eventually, jailrun};

/// `systemd-run --wait --pipe` as a service with a delegated group; the line
/// has to `exec`, for a shell beside the jail would be in the way.
fn service(line: &str) -> Output {
    Command::new("systemd-run")
        .args(["--wait", "--pipe", "--quiet", "--collect", "-p", "Delegate=yes", "sh", "-c", line])
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

/// A jail that says when it is up and waits for `go`, with limits.
fn waiting() -> (Bench, PathBuf) {
    let bench = Bench::new(
        "[[mounts]]\ntarget = \"/data\"\nbind = \"{dir}/data\"\n\
         [limits]\nmemory = \"64M\"\npids = 40\n",
    );
    let data = bench.directory.path().join("data");
    fs::create_dir(&data).unwrap();
    Command::new("chmod").arg("777").arg(&data).status().unwrap();
    (bench, data)
}

/// The control group that a process is in, by its path below the mount.
fn group_of(pid: &str) -> String {
    let text = fs::read_to_string(Path::new("/proc").join(pid).join("cgroup")).unwrap();
    text.trim().trim_start_matches("0::").to_owned()
}

/// Supervisor and payload of a running jail, by their groups.
fn groups(name: &str) -> Option<(String, String)> {
    let output = Command::new("pgrep").args(["-f", &format!("up .*{name}")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let supervisor = text.lines().map(group_of).find(|group| group.ends_with("/_jailrun"))?;
    let output = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("jailrun-{name}")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let jail = text.trim().trim_start_matches("/sys/fs/cgroup").to_owned();
    (!jail.is_empty()).then_some((supervisor, jail))
}

#[test]
fn process_1_is_systemd() {
    assert_eq!(fs::read_to_string("/proc/1/comm").unwrap(), "systemd\n");
}

#[test]
fn in_a_delegated_service_supervisor_and_payload_have_leaves_of_their_own() {
    let (bench, _) = waiting();
    // The name is in the arguments, where it is looked for.
    let line = format!(
        "exec {} up {} --quiet --set name={} -- /probe sleep 8",
        jailrun().display(),
        bench.unit.display(),
        bench.name
    );
    let name = bench.name.clone();
    let watcher = std::thread::spawn(move || {
        let mut found = None;
        eventually("the jail is up", || {
            found = groups(&name);
            found.is_some()
        });
        found.unwrap()
    });
    let run = service(&line);
    assert!(run.status.success(), "{run:?}");
    let (supervisor, jail) = watcher.join().unwrap();
    let parent = Path::new(&jail).parent().unwrap();
    assert_eq!(Path::new(&supervisor).parent(), Some(parent), "{supervisor} {jail}");
    assert!(parent.to_string_lossy().ends_with(".service"), "{jail}");
    bench.assert_nothing_left();
}

#[test]
fn without_delegation_a_service_is_told_what_to_do() {
    let (bench, _) = waiting();
    let line =
        format!("exec {} up {} --quiet -- /probe true", jailrun().display(), bench.unit.display());
    let run = Command::new("systemd-run")
        .args(["--wait", "--pipe", "--quiet", "--collect", "sh", "-c", &line])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    // Root can make groups anywhere; what must not happen is a launch without
    // the limits that the unit asks for.
    let text = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success() || text.contains("Delegate=yes"), "{run:?}");
    bench.assert_nothing_left();
}

/// systemd keeps a service's devices by a program of its own, on the group above.
#[test]
fn the_devices_of_a_service_stay_closed_whatever_the_jail_lists() {
    let bench = Bench::new("[[devices]]\npath = \"/dev/fuse\"\n");
    for (policy, ok) in [("auto", true), ("closed", false)] {
        let policy = format!("DevicePolicy={policy}");
        let output = Command::new("systemd-run")
            .args(["--wait", "--pipe", "--quiet", "--collect", "-p", "Delegate=yes", "-p", &policy])
            .arg(jailrun())
            .args(["up", bench.unit.to_str().unwrap(), "--quiet"])
            .args(["--", "/probe", "open", "/dev/fuse"])
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        let json = Run::from_output(output).json();
        assert_eq!(json["ok"], ok, "{policy}: {json}");
        assert_eq!(json["errno"] == "EPERM", !ok, "{policy}: {json}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_user_has_limits_in_a_scope_of_their_manager() {
    let (bench, _) = waiting();
    let line = format!(
        "export XDG_RUNTIME_DIR=/run/user/$(id -u); exec systemd-run --user --scope --quiet \
         -p Delegate=yes {} up {} --quiet -- /probe report",
        jailrun().display(),
        bench.unit.display()
    );
    let run = Command::new("runuser")
        .args(["-u", "tester", "--", "sh", "-c", &line])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    // The same without the scope is an error with that very command.
    let line =
        format!("{} up {} --quiet -- /probe report", jailrun().display(), bench.unit.display());
    let run = Command::new("runuser")
        .args(["-u", "tester", "--", "sh", "-c", &line])
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(125), "{run:?}");
    assert!(String::from_utf8_lossy(&run.stderr).contains("systemd-run --user --scope"), "{run:?}");
    bench.assert_nothing_left();
}
