//! The init of a jail: process 1, parent of the command. It reaps what the
//! command leaves behind and passes signals on, and it holds nothing that the
//! command could want: no descriptor, no capability but to send signals.

use std::os::fd::{AsFd as _, AsRawFd as _};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::apply::{Applied, Context};
use crate::seccomp::{Policy, compile};
use crate::sys;

/// Splits: `command` goes on in a new process, where it becomes the command or
/// reports why not; this process stays as the init and never returns.
///
/// `keep` are the capabilities of the init, `filtered` tells whether it gets a
/// filter. `may_trace` tells that the command could trace a process with
/// privileges: then it starts only when this one has none left.
pub(super) fn split(
    cx: &mut Context,
    keep: u64,
    filtered: bool,
    may_trace: bool,
    command: &mut dyn FnMut(&mut Context) -> i32,
) -> Applied {
    // Before the split: a command that ends at once must not end unnoticed. It
    // gets the caller's mask back just before its execve.
    SigSet::all().thread_set_mask()?;
    if may_trace {
        return split_in_order(cx, keep, filtered, command);
    }
    let child = sys::vfork(&mut || match super::apply::die_with_parent(cx) {
        Ok(()) => command(cx),
        Err(_) => super::FAILURE,
    })?;
    let signals = become_init(keep, filtered).unwrap_or_else(|_| {
        // Without them the jail could not be ended in order: end it now. The
        // pipe is closed by then, and the supervisor sees the status.
        sys::exit_now(super::FAILURE)
    });
    sys::exit_now(watch(cx, child, &signals))
}

/// Splits with a copy of the memory, so that this process can become the init
/// while the command's waits for it.
fn split_in_order(
    cx: &mut Context,
    keep: u64,
    filtered: bool,
    command: &mut dyn FnMut(&mut Context) -> i32,
) -> Applied {
    let (ready, hold) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    match sys::clone3(0, None)? {
        sys::Cloned::Child => {
            drop(hold);
            // Its end comes when the init has closed everything.
            let mut byte = [0_u8];
            while nix::unistd::read(&ready, &mut byte) == Err(Errno::EINTR) {}
            drop(ready);
            sys::exit_now(match super::apply::die_with_parent(cx) {
                Ok(()) => command(cx),
                Err(_) => super::FAILURE,
            })
        }
        sys::Cloned::Parent(pid, _pidfd) => {
            let init = become_init(keep, filtered);
            // `hold` is closed by number by then; its destructor must not run.
            std::mem::forget((ready, hold, _pidfd));
            match init {
                Ok(signals) => sys::exit_now(watch(cx, Pid::from_raw(pid), &signals)),
                Err(_) => sys::exit_now(super::FAILURE),
            }
        }
    }
}

fn become_init(keep: u64, filtered: bool) -> Applied<SignalFd> {
    let signals = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC)?;
    // Before anything is closed: a command that waits is told by the closing.
    sys::capset(keep, keep, 0)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    if filtered {
        sys::load_filter(&compile(&Policy::init()))?;
    }
    let fd = u32::try_from(signals.as_fd().as_raw_fd()).map_err(|_| Errno::EBADF)?;
    if fd > 0 {
        sys::close_range(0, fd - 1, false)?;
    }
    sys::close_range(fd + 1, u32::MAX, false)?;
    Ok(signals)
}

/// Reaps and forwards until the command ends; returns its exit status.
fn watch(cx: &Context, command: Pid, signals: &SignalFd) -> i32 {
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(super::SHORT_MS)) == Ok(0) {
        // A process that only waits does so on any CPU.
        match cx.leave_this_cpu() {
            Ok(()) | Err(_) => {}
        }
    }
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
        match sys::wait(libc::P_ALL, 0, true) {
            Ok(Some(exit)) if exit.pid == command.as_raw() => return Some(exit.status),
            Ok(Some(_)) | Err(Errno::EINTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}
