//! An ordinary user with a control group of their own, and without one.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Bench, Caller, USER, command, jailrun};

/// A group that a user may do with what they like, removed at the end.
pub struct Delegated {
    group: PathBuf,
}

impl Delegated {
    pub fn new(name: &str) -> Self {
        let top = Path::new("/sys/fs/cgroup");
        fs::write(top.join("cgroup.subtree_control"), "+cpu +memory +pids +io +cpuset").unwrap();
        let group = top.join(name);
        fs::create_dir(&group).unwrap();
        for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(group.join(file), Some(USER), Some(USER)).unwrap();
        }
        Self { group }
    }

    /// A shell command line in the group, as the user.
    pub fn run(&self, line: &str) -> std::process::Output {
        let script = format!(
            "echo $$ >{}/cgroup.procs && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
             --inh-caps=-all --bounding-set=-all sh -c 'exec {line}'",
            self.group.display()
        );
        Command::new("sh").args(["-c", &script]).env("NO_COLOR", "1").output().unwrap()
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        Command::new("find")
            .arg(&self.group)
            .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
            .status()
            .unwrap();
    }
}

#[test]
fn a_user_with_a_delegated_group_has_limits() {
    let delegated = Delegated::new("test-delegated");
    let bench = Bench::new("[limits]\nmemory = \"48M\"\nswap = \"0\"\npids = 30\ncpu = 0.5\n");
    let unit = bench.unit.display();
    let jailrun = jailrun().display();
    let seen = delegated.run(&format!("{jailrun} up {unit} --quiet -- /probe report"));
    assert!(seen.status.success(), "{seen:?}");
    let hog = Bench::new("[process]\ncommand = [\"/bin/true\"]\n");
    let text = format!(
        "name = \"{}\"\n[root]\nhost = true\n[limits]\nmemory = \"48M\"\nswap = \"0\"\n\
         [process]\ncommand = [\"/usr/bin/tail\", \"/dev/zero\"]\n",
        hog.name
    );
    fs::write(&hog.unit, text).unwrap();
    // What has been divided among jails takes no process of its own any more.
    let delegated = Delegated::new("test-delegated-too");
    let killed = delegated.run(&format!("{jailrun} up {} --quiet", hog.unit.display()));
    let text = String::from_utf8_lossy(&killed.stderr);
    assert_eq!(killed.status.code(), Some(137), "{killed:?}");
    assert!(text.contains("killed by the kernel for memory"), "{text}");
    bench.assert_nothing_left();
    hog.assert_nothing_left();
}

#[test]
fn a_user_without_one_is_told_how_to_get_it() {
    let bench = Bench::new("[limits]\nmemory = \"48M\"\n");
    let arguments = ["up", bench.unit.to_str().unwrap(), "--", "/probe", "report"];
    let run = crate::support::finish(command(Caller::User, jailrun(), &arguments).spawn().unwrap());
    assert_eq!(run.status, 125, "{run:?}");
    assert!(run.stderr.contains("E0308"), "{run:?}");
    assert!(run.stderr.contains("systemd-run --user --scope -p Delegate=yes"), "{run:?}");
    let skipped =
        bench.up(Caller::User, &["--set", "limits.on-missing=skip", "--", "/probe", "true"]);
    assert_eq!(skipped.status, 0, "{skipped:?}");
}
