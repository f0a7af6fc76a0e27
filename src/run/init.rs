//! The init of a jail: process 1, parent of the command. It reaps what the
//! command leaves behind and passes signals on, and it holds nothing that the
//! command could want: no descriptor, no capability but to send signals.

use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::apply::{Applied, Context};
use crate::names;
use crate::sys;

/// Splits: `command` goes on in a new process, where it becomes the command or
/// reports why not; this process stays as the init and never returns.
pub(super) fn split(cx: &mut Context, command: &mut dyn FnMut(&mut Context) -> i32) -> Applied {
    // Before the split: a command that ends at once must not end unnoticed. It
    // gets the caller's mask back just before its execve.
    SigSet::all().thread_set_mask()?;
    let child = sys::vfork(&mut || match super::apply::die_with_parent(cx) {
        Ok(()) => command(cx),
        Err(_) => super::FAILURE,
    })?;
    let signals = become_init(cx).unwrap_or_else(|_| {
        // Without them the jail could not be ended in order: end it now. The
        // pipe is closed by then, and the supervisor sees the status.
        sys::exit_now(super::FAILURE)
    });
    sys::exit_now(watch(child, &signals))
}

fn become_init(cx: &Context) -> Applied<SignalFd> {
    cx.leave_this_cpu()?;
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
    let fd = u32::try_from(signals.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    if fd > 0 {
        sys::close_range(0, fd - 1, false)?;
    }
    sys::close_range(fd + 1, u32::MAX, false)?;
    sys::capset(names::CAP_KILL, names::CAP_KILL, 0)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    Ok(signals)
}

/// Reaps and forwards until the command ends; returns its exit status.
fn watch(command: Pid, signals: &SignalFd) -> i32 {
    loop {
        let Ok(Some(info)) = signals.read_signal() else { return super::FAILURE };
        if info.ssi_signo == Signal::SIGCHLD as u32 {
            if let Some(status) = reap(command) {
                return status;
            }
        } else if info.ssi_pid == 0
            && let Some(signal) =
                i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok())
        {
            // Sent from outside the pid namespace: meant for the command. It
            // may have just ended, which the next SIGCHLD tells.
            match nix::sys::signal::kill(command, signal) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

fn reap(command: Pid) -> Option<i32> {
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(pid, status)) if pid == command => return Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == command => {
                return Some(128 + signal as i32);
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
