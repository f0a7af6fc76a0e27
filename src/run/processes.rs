//! What the host's `/proc` tells of processes of a jail.

use std::os::fd::OwnedFd;

use nix::errno::Errno;

use super::error::{Applied, Failed};
use crate::sys;

/// The children of this process, those that have ended and are not reaped too.
pub(super) fn children() -> Applied<Vec<i32>> {
    let children = std::fs::read_to_string("/proc/thread-self/children").map_err(|error| {
        let detail = "listing the processes that the command has left";
        Failed::because(Failed::from(error).errno, detail)
    })?;
    Ok(children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// The children of a process, of each of its threads.
pub(super) fn children_of(pid: i32) -> Applied<Vec<i32>> {
    let is_gone =
        |error: &std::io::Error| matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH));
    let mut children = Vec::new();
    let threads = match std::fs::read_dir(format!("/proc/{pid}/task")) {
        Err(error) if is_gone(&error) => return Ok(children),
        threads => threads?,
    };
    for thread in threads {
        match thread.and_then(|thread| std::fs::read_to_string(thread.path().join("children"))) {
            Ok(list) => children.extend(list.split_whitespace().flat_map(str::parse::<i32>)),
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(children)
}

/// A process with its state, if its parent is this one or one of those; nothing
/// where it is gone, or its number is another's.
pub(super) fn look_at(pid: i32, parents: &[i32]) -> Applied<Option<(OwnedFd, u8)>> {
    let number = u32::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // Held before it is looked at: its number may be another's by then.
    let process = match sys::pidfd_open(number) {
        Err(Errno::ESRCH) => return Ok(None),
        process => process?,
    };
    let Some((state, parent)) = state_of(pid)? else { return Ok(None) };
    let this = i32::try_from(std::process::id()).ok();
    let is_jails = this == Some(parent) || parents.contains(&parent);
    Ok(is_jails.then_some((process, state)))
}

/// What a process does, as proc(5) has it, and its parent; `None` when it is gone.
fn state_of(pid: i32) -> Applied<Option<(u8, i32)>> {
    let stat = match std::fs::read(format!("/proc/{pid}/stat")).map_err(Failed::from) {
        Err(Failed { errno: Errno::ENOENT | Errno::ESRCH, .. }) => return Ok(None),
        stat => stat?,
    };
    // The name before it may hold anything.
    let behind = stat.rsplit(|byte| *byte == b')').next().unwrap_or_default();
    let text = String::from_utf8_lossy(behind);
    let mut words = text.split_whitespace();
    let state = words.next().and_then(|word| word.bytes().next());
    let parent = words.next().and_then(|word| word.parse().ok());
    Ok(state.zip(parent))
}

/// Whether a process has ended, and waits for who traces it. Its first thread may
/// have ended alone.
pub(super) fn has_ended(pid: i32) -> Applied<bool> {
    Ok(match state_of(pid)? {
        None | Some((b'X', _)) => true,
        Some((b'Z', _)) => {
            let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
            threads.map_or(0, Iterator::count) < 2
        }
        Some(_) => false,
    })
}
