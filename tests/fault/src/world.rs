//! A small world for the launches: namespaces and control groups of its own,
//! so that what is left in it was left by them. Its first process is the
//! driver, which gets every orphan.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::ledger::{Ledger, Places};
use crate::sys;

/// What the world has file systems of its own over.
const COVERED: [&str; 6] = ["/mnt", "/run", "/tmp", "/var/tmp", "/var/lib", "/dev/shm"];

/// Where everything of the world is.
#[derive(Clone, Debug)]
pub(crate) struct World {
    /// A file system in memory for roots, units and the program.
    pub(crate) scratch: PathBuf,
    /// The program under test.
    pub(crate) jailrun: PathBuf,
    pub(crate) places: Places,
}

/// Runs something in a world of its own; returns its exit status.
pub(crate) fn enter(jailrun: &Path, inside: &dyn Fn(&World) -> i32) -> io::Result<i32> {
    let groups = make_groups()?;
    let flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    sys::unshare(flags)?;
    let pid = sys::fork()?;
    if pid == 0 {
        let status = match prepare(jailrun, &groups) {
            Ok(world) => inside(&world),
            Err(error) => {
                eprintln!("jailfault: no world: {error}");
                99
            }
        };
        sys::exit(status);
    }
    let status = sys::wait_for(pid)?;
    for group in &groups {
        remove_group(group)?;
    }
    Ok(status)
}

/// Kills every other process of the world.
pub(crate) fn kill_all() {
    // Nothing to kill is no failure.
    sys::kill(-1, libc::SIGKILL).ok();
}

/// Reaps what has ended.
pub(crate) fn reap() {
    while let Ok(Some(_)) = sys::wait_any(true) {}
}

fn prepare(jailrun: &Path, groups: &[PathBuf]) -> io::Result<World> {
    for group in groups {
        fs::write(group.join("cgroup.procs"), "0")?;
    }
    let private = libc::MS_REC | libc::MS_PRIVATE;
    sys::mount(Path::new("none"), Path::new("/"), "", private, "")?;
    // Mounts that others make there meanwhile go when they remove what is below
    // them, in this world too.
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(4)) {
        if COVERED.iter().any(|path| Path::new(target).starts_with(path) && target != *path) {
            // Gone by now is as good.
            sys::unmount(Path::new(target)).ok();
        }
    }
    let scratch = PathBuf::from("/mnt");
    sys::mount(Path::new("scratch"), &scratch, "tmpfs", 0, "mode=755")?;
    let program = scratch.join("jailrun");
    fs::copy(jailrun, &program)?;
    for (path, mode) in [
        ("/run", "755"),
        ("/tmp", "1777"),
        ("/var/tmp", "1777"),
        ("/var/lib", "755"),
        ("/dev/shm", "1777"),
    ] {
        let options = format!("mode={mode}");
        sys::mount(Path::new("world"), Path::new(path), "tmpfs", 0, &options)?;
    }
    sys::mount(Path::new("proc"), Path::new("/proc"), "proc", 0, "")?;
    let trees = ["/run", "/tmp", "/var/tmp", "/var/lib", "/dev/shm"].map(PathBuf::from).into();
    let places = Places { cgroups: groups.to_vec(), trees, files: scratch.clone() };
    Ok(World { scratch, jailrun: program, places })
}

/// A group below the caller's own in every hierarchy.
fn make_groups() -> io::Result<Vec<PathBuf>> {
    let base = Path::new("/sys/fs/cgroup");
    let name = format!("jailfault-{}", std::process::id());
    let mut groups = Vec::new();
    for line in fs::read_to_string("/proc/self/cgroup")?.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let mount = match controllers {
            "" if base.join("cgroup.controllers").exists() => base.to_owned(),
            "" => base.join("unified"),
            named if named.starts_with("name=") => continue,
            controllers => base.join(controllers),
        };
        let own = mount.join(path.trim_start_matches('/'));
        if !own.join("cgroup.procs").exists() {
            continue;
        }
        let group = own.join(&name);
        fs::create_dir(&group)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if let Ok(value) = fs::read_to_string(own.join(file))
                && controllers.contains("cpuset")
            {
                fs::write(group.join(file), value.trim())?;
            }
        }
        groups.push(group);
    }
    Ok(groups)
}

fn remove_group(group: &Path) -> io::Result<()> {
    for entry in fs::read_dir(group)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    let mut tries = 0;
    loop {
        match fs::remove_dir(group) {
            // A process that has just died is still counted for a moment.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries < 1000 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

impl World {
    /// What there is.
    pub(crate) fn ledger(&self) -> Ledger {
        reap();
        Ledger::take(&self.places)
    }

    /// How it differs from what there was.
    pub(crate) fn differences(&self, before: &Ledger) -> Vec<String> {
        before.differences(&self.places, reap)
    }
}
