//! The state directory: one journal per running jail, which is also the lock
//! on its name, and holds what is to be taken back.
//!
//! A journal whose lock is free belongs to a launch that was killed. The next
//! launch of that name, or `jailrun gc`, takes back what it lists.

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;
use serde::{Deserialize, Serialize};

use super::error::{Applied, Failed};
use super::kernel_files::write_file;
use crate::plan::Plan;
use crate::plan::step::{HostTree, Spot, Step, TreeSource, Undo};
use crate::sys;

const ELSE: &str = "something else is in its place";

/// What a journal holds.
#[derive(Debug, Serialize, Deserialize)]
struct Journal {
    version: u32,
    name: String,
    undo: Vec<Undo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    root: Option<Stack>,
}

/// The directories of an overlay root that keeps its changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// The one that takes the changes.
    pub upper: PathBuf,
    /// Those below, top-most first.
    pub lower: Vec<PathBuf>,
}

/// The overlay that is a plan's root, unless its changes are in memory.
fn stack(plan: &Plan, state: &Path) -> Option<Stack> {
    let steps = || plan.steps.iter().map(|planned| &planned.step);
    let (upper, lower) = steps().find_map(|step| match step {
        Step::MountOverlay { on: Spot::Root(_), overlay, .. } => {
            Some((overlay.upper.as_ref()?.0.clone(), &overlay.lower))
        }
        _ => None,
    })?;
    // A layer may go by a short name.
    let named = |path: &PathBuf| {
        let to = steps().find_map(|step| match step {
            Step::LinkLayer { path: link, to } if link == path => Some(to.clone()),
            _ => None,
        });
        let path = to.unwrap_or_else(|| path.clone());
        // Or has been opened from outside.
        let outside = steps().find_map(|step| match step {
            Step::AttachTree { tree, on: Spot::Stage(at), .. } => {
                let below = path.strip_prefix(at).ok()?;
                match &trees(plan).get(*tree)?.source {
                    TreeSource::Path(source) if below.as_os_str().is_empty() => {
                        Some(source.clone())
                    }
                    TreeSource::Path(source) => Some(source.join(below)),
                    TreeSource::Loop { .. } => None,
                }
            }
            _ => None,
        });
        outside.unwrap_or(path)
    };
    let upper = named(&upper);
    (!upper.starts_with(state)).then(|| Stack { upper, lower: lower.iter().map(named).collect() })
}

fn trees(plan: &Plan) -> &[HostTree] {
    match plan.steps.get(plan.enter()).map(|planned| &planned.step) {
        Some(Step::Enter { trees, .. }) => trees,
        _ => &[],
    }
}

/// The overlay that is the root of a running jail; `None` when no jail of that
/// name runs, or its root is another.
pub fn stack_of(state: &Path, name: &str) -> Result<Option<Stack>, Failed> {
    let mut file = match open_journal(&state.join(format!("{name}.json")), false) {
        Err(Failed { errno: Errno::ENOENT, .. }) => return Ok(None),
        opened => opened?,
    };
    if try_lock(&file)? {
        return Ok(None);
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice::<Journal>(&text).ok().and_then(|journal| journal.root))
}

/// First process of the jail that a journal belongs to; `None` when it does
/// not run.
///
/// A running jail's supervisor holds the lock of its journal, and a pidfd of its
/// child. Nothing that could be forged is read from the journal itself, and the
/// lock is only looked at: whoever takes it, for a moment even, stands in the
/// way of a launch.
pub fn first_process(journal: &Path) -> Result<Option<u32>, Failed> {
    let file = match open_journal(journal, false) {
        Err(Failed { errno: Errno::ENOENT, .. }) => return Ok(None),
        opened => opened?,
    };
    let ours = file.metadata()?;
    if !ours.is_file() || ours.uid() != unistd::geteuid().as_raw() {
        return Err(Failed::found("the journal belongs to somebody else"));
    }
    let locks = std::fs::read_to_string("/proc/locks")?;
    for line in locks.lines() {
        // 1: FLOCK  ADVISORY  WRITE 4242 00:1a:33 0 EOF
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", pid, place, ..] = words[..] else { continue };
        // The device is not always the one that stat(2) tells.
        if place.rsplit(':').next() != Some(&*ours.ino().to_string()) {
            continue;
        }
        let Ok(pid) = pid.parse::<u32>() else { continue };
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let holds = open.flatten().any(|entry| {
            std::fs::metadata(entry.path())
                .is_ok_and(|there| (there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        });
        if holds {
            return watched_child(pid);
        }
    }
    Ok(None)
}

/// The child that a supervisor watches. It may have others, which the caller had
/// started before it became jailrun, or which the jail has left; and it holds the
/// jails whose namespaces its own has joined, which are no children of it.
fn watched_child(supervisor: u32) -> Result<Option<u32>, Failed> {
    let children =
        std::fs::read_to_string(format!("/proc/{supervisor}/task/{supervisor}/children"))?;
    let children: Vec<u32> =
        children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
    let mut watched = std::collections::BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{supervisor}/fdinfo"))? {
        // It may have been closed since.
        let Ok(text) = std::fs::read_to_string(entry?.path()) else { continue };
        let pid = text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
        watched.extend(pid.filter(|pid| children.contains(pid)));
    }
    match watched.len() {
        // Passed on by the caller, as a descriptor of a child of its own.
        2.. => Err(Failed::found("its first process cannot be told from another one")),
        _ => Ok(watched.first().copied()),
    }
}

/// Makes the state directory, or sees that it is the caller's own.
pub(super) fn make_directory(path: &Path) -> Applied {
    loop {
        match unistd::mkdir(path, Mode::from_bits_truncate(0o700)) {
            Ok(()) => return Ok(()),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        match check_directory(path) {
            // The last jail of another name has just removed it.
            Err(Failed { errno: Errno::ENOENT, .. }) => {}
            checked => return checked,
        }
    }
}

fn check_directory(path: &Path) -> Applied {
    open_directory(path).map(drop)
}

/// The state directory, seen to be a directory of the caller's alone. What is
/// in it is opened through this descriptor: the path could lead elsewhere by then.
fn open_directory(path: &Path) -> Applied<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let directory = match nix::fcntl::open(path, flags, Mode::empty()) {
        Err(Errno::ENOTDIR | Errno::ELOOP) => {
            return Err(Failed::because(Errno::ENOTDIR, ELSE));
        }
        opened => opened?,
    };
    let stat = nix::sys::stat::fstat(&directory)?;
    if stat.st_uid != unistd::geteuid().as_raw() || stat.st_mode & 0o077 != 0 {
        return Err(Failed::because(
            Errno::EPERM,
            "it belongs to somebody else, or is open to others",
        ));
    }
    Ok(directory)
}

/// Takes the lock of a name, reclaims what a killed launch of it has left, and
/// writes the plan's undo list.
pub(super) fn take_name(path: &Path, plan: &Plan) -> Applied<File> {
    let (mut file, was_used) = loop {
        let file = match open_journal(path, true) {
            // The last jail of another name has just removed the directory.
            Err(Failed { errno: Errno::ENOENT, .. }) => {
                if let Some(directory) = path.parent() {
                    make_directory(directory)?;
                }
                continue;
            }
            opened => opened?,
        };
        if !try_lock(&file)? {
            let message = format!("a jail named `{}` is running", plan.name);
            return Err(Failed::because(Errno::EWOULDBLOCK, message));
        }
        let still = still(&file, path).or_else(|failed| give_up(&file, path, failed))?;
        if let Some(length) = still {
            break (file, length > 0);
        }
    };
    if was_used {
        let mut left = Vec::new();
        if let Err(error) = file.read_to_end(&mut left) {
            return give_up(&file, path, error.into());
        }
        reclaim(&left)?;
    }
    if let Err(failed) = write_journal(&mut file, was_used, path, plan) {
        // What it listed has been taken back, and nothing has been made yet.
        remove_journal(path)?;
        return Err(failed);
    }
    Ok(file)
}

/// Removes a journal with nothing in it, whose lock is held, before a launch
/// fails.
fn give_up<T>(file: &File, path: &Path, failed: Failed) -> Applied<T> {
    if still(file, path)? == Some(0) {
        remove_journal(path)?;
    }
    Err(failed)
}

/// What the journal of a plan says.
pub fn journal(path: &Path, plan: &Plan) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Journal {
        version: 1,
        name: plan.name.clone(),
        undo: plan
            .steps
            .iter()
            .filter_map(|planned| planned.step.undo())
            .filter(|undo| matches!(undo, Undo::RemoveCgroup(_)))
            .collect(),
        root: path.parent().and_then(|state| stack(plan, state)),
    })
}

fn write_journal(file: &mut File, was_used: bool, path: &Path, plan: &Plan) -> Applied {
    let text = journal(path, plan).map_err(|_| Errno::EINVAL)?;
    if was_used {
        file.set_len(0)?;
        file.rewind()?;
    }
    Ok(file.write_all(text.as_bytes())?)
}

/// Takes the lock of a range of ids. What a killed launch has left is free; who
/// only looks whether somebody has the range holds the lock for a moment.
pub(super) fn claim(path: &Path, name: &str) -> Applied<File> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let mut file = open_journal(path, true)?;
        if !try_lock(&file)? {
            if Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            }
            return Err(Failed::because(
                Errno::EWOULDBLOCK,
                "another jail has taken this range in the meantime",
            ));
        }
        if still(&file, path)?.is_none() {
            continue;
        }
        if let Err(error) = file.set_len(0).and_then(|()| file.write_all(name.as_bytes())) {
            // The lock is held, and nothing has the range yet.
            remove_journal(path)?;
            return Err(error.into());
        }
        return Ok(file);
    }
}

fn open_journal(path: &Path, create: bool) -> Applied<File> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::EINVAL.into());
    };
    let directory = open_directory(directory)?;
    let mut flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    flags.set(OFlag::O_CREAT, create);
    let mode = Mode::from_bits_truncate(0o600);
    match nix::fcntl::openat(&directory, name, flags, mode) {
        // What is no file, a link or a socket of that name.
        Err(errno @ (Errno::EISDIR | Errno::ELOOP | Errno::ENXIO)) => {
            Err(Failed::because(errno, ELSE))
        }
        opened => Ok(File::from(opened?)),
    }
}

/// Locks a directory that is kept for one jail.
pub(super) fn lock_directory(path: &Path) -> Applied<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let directory = std::fs::File::from(sys::open2(path, flags, libc::RESOLVE_NO_SYMLINKS)?);
    match directory.try_lock() {
        Ok(()) => Ok(directory.into()),
        Err(std::fs::TryLockError::WouldBlock) => Err(Failed::because(
            Errno::EWOULDBLOCK,
            format!("another jail has its changes in `{}`", path.display()),
        )),
        Err(std::fs::TryLockError::Error(error)) => Err(error.into()),
    }
}

fn try_lock(file: &File) -> Applied<bool> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => return Ok(false),
            Err(std::fs::TryLockError::Error(error))
                if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(std::fs::TryLockError::Error(error)) => return Err(error.into()),
        }
    }
}

/// Length of the file, if the path still leads to it: its last owner removes it
/// with the lock held.
fn still(file: &File, path: &Path) -> Applied<Option<u64>> {
    let ours = file.metadata()?;
    if !ours.is_file() {
        return Err(Failed::found(ELSE));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if (there.dev(), there.ino()) == (ours.dev(), ours.ino()) => Ok(Some(ours.len())),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes back what a journal lists. One that is cut short was written before
/// anything was made, and anything else was not written by jailrun.
fn reclaim(journal: &[u8]) -> Applied {
    let Ok(journal) = serde_json::from_slice::<Journal>(journal) else { return Ok(()) };
    for undo in journal.undo.iter().rev() {
        if let Undo::RemoveCgroup(directory) = undo {
            let name = directory.file_name().map(|name| name.to_string_lossy().into_owned());
            // A journal is trusted as far as its directory is; this is the rest.
            if name.is_some_and(|name| name.starts_with("jailrun-")) {
                remove_cgroup(directory)?;
            }
        }
    }
    Ok(())
}

/// What `jailrun gc` has done.
#[derive(Debug, Default)]
pub struct Collected {
    /// Names whose remains were taken back.
    pub reclaimed: Vec<String>,
    /// Names that are running.
    pub running: Vec<String>,
    /// Files whose remains could not be taken back, and why.
    pub failed: Vec<(PathBuf, Failed)>,
}

/// Takes back what killed launches have left.
pub fn collect(directory: &Path) -> Result<Collected, Failed> {
    let mut collected = Collected::default();
    match std::fs::symlink_metadata(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(collected),
        _ => check_directory(directory)?,
    }
    let mut journals: Vec<PathBuf> = std::fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .collect();
    journals.sort();
    for path in journals {
        let name =
            path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // One that is in the way is none to the others.
        match collect_journal(&path) {
            Ok(Found::Nothing) => {}
            Ok(Found::Running) => collected.running.push(name),
            Ok(Found::Remains) => collected.reclaimed.push(name),
            Err(failed) => collected.failed.push((path, failed)),
        }
    }
    release_claims(directory, &mut collected)?;
    remove_state_directory(directory)?;
    Ok(collected)
}

/// What was behind a journal.
enum Found {
    Nothing,
    Running,
    Remains,
}

fn collect_journal(path: &Path) -> Applied<Found> {
    let mut file = match open_journal(path, false) {
        Err(Failed { errno: Errno::ENOENT, .. }) => return Ok(Found::Nothing),
        opened => opened?,
    };
    if !try_lock(&file)? {
        return Ok(Found::Running);
    }
    // Its jail may have ended meanwhile, and another have taken the name.
    if still(&file, path)?.is_none() {
        return Ok(Found::Nothing);
    }
    let mut left = Vec::new();
    file.read_to_end(&mut left)?;
    reclaim(&left)?;
    remove_journal(path)?;
    Ok(Found::Remains)
}

/// Removes the claims of ranges that nobody holds.
fn release_claims(directory: &Path, collected: &mut Collected) -> Applied {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.starts_with("ids-") {
            continue;
        }
        if let Err(failed) = release_claim(&path) {
            collected.failed.push((path, failed));
        }
    }
    Ok(())
}

fn release_claim(path: &Path) -> Applied {
    let file = match open_journal(path, false) {
        Err(Failed { errno: Errno::ENOENT, .. }) => return Ok(()),
        opened => opened?,
    };
    if try_lock(&file)? && still(&file, path)?.is_some() {
        remove_journal(path)?;
    }
    Ok(())
}

/// Makes a control group. An empty one of that name is what a killed launch
/// has left; one with processes is somebody's, and is left alone.
pub(super) fn create_cgroup(directory: &Path) -> Applied {
    let make = || unistd::mkdir(directory, Mode::from_bits_truncate(0o755));
    match make() {
        Err(Errno::EEXIST) => {
            let flags = unistd::UnlinkatFlags::RemoveDir;
            match unistd::unlinkat(nix::fcntl::AT_FDCWD, directory, flags) {
                Ok(()) | Err(Errno::ENOENT) => Ok(make()?),
                Err(Errno::EBUSY) => Err(Failed::because(
                    Errno::EBUSY,
                    "a jail of this name is running for another user or state directory",
                )),
                Err(errno) => Err(errno.into()),
            }
        }
        made => Ok(made?),
    }
}

/// Ends every process of a group, without a race against those that fork.
pub(super) fn kill_cgroup(directory: &Path) -> Applied {
    match write_file(&directory.join("cgroup.kill"), "1") {
        Ok(()) => return Ok(()),
        // A v1 group, or one that is gone.
        Err(Failed { errno: Errno::ENOENT, .. }) => {}
        Err(failed) => return Err(failed),
    }
    let write = |file: &str, text: &str| match write_file(&directory.join(file), text) {
        Ok(()) | Err(Failed { errno: Errno::ENOENT | Errno::EACCES, .. }) => Ok(()),
        Err(failed) => Err(failed),
    };
    // Nothing forks while it is killed: where there is a limit on processes it
    // says so, and what is frozen cannot.
    write("pids.max", "0")?;
    write("freezer.state", "FROZEN")?;
    let processes = match std::fs::read_to_string(directory.join("cgroup.procs")) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for pid in processes.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 1)
    {
        match nix::sys::signal::kill(unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    write("freezer.state", "THAWED")
}

/// Removes a group, ending what is in it. A process that has just died is
/// still counted for a moment.
pub(super) fn remove_cgroup(directory: &Path) -> Applied {
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut pause = Duration::from_micros(50);
    loop {
        match nix::unistd::unlinkat(
            nix::fcntl::AT_FDCWD,
            directory,
            unistd::UnlinkatFlags::RemoveDir,
        ) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if Instant::now() < deadline => kill_cgroup(directory)?,
            Err(errno) => return Err(errno.into()),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn remove_journal(path: &Path) -> Applied {
    match unistd::unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Removes the state directory unless another jail is in it.
fn remove_state_directory(path: &Path) -> Applied {
    match nix::unistd::unlinkat(nix::fcntl::AT_FDCWD, path, unistd::UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Takes back one thing.
pub(super) fn undo(undo: &Undo) -> Applied {
    match undo {
        Undo::RemoveCgroup(directory) => remove_cgroup(directory),
        Undo::RemoveJournal(path) | Undo::RemoveClaim(path) => remove_journal(path),
        Undo::RemoveStateDirectory(path) => remove_state_directory(path),
        Undo::RemoveNode { root, path } => remove_node(root, path),
    }
}

/// Removes a mount point: an empty directory, an empty file or a link.
fn remove_node(root: &Path, path: &Path) -> Applied {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
    let root = sys::open2(root, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)?;
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_SYMLINKS;
    let parent = sys::openat2(root.as_fd(), parent, libc::O_PATH | libc::O_DIRECTORY, resolve)?;
    let removed =
        unistd::unlinkat(&parent, name, unistd::UnlinkatFlags::RemoveDir).or_else(|errno| {
            match errno {
                Errno::ENOTDIR => {
                    unistd::unlinkat(&parent, name, unistd::UnlinkatFlags::NoRemoveDir)
                }
                errno => Err(errno),
            }
        });
    match removed {
        Ok(()) | Err(Errno::ENOENT | Errno::ENOTEMPTY | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
