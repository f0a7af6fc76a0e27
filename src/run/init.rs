//! The init of a jail: process 1, parent of the command. It reaps what the
//! command leaves behind and passes signals on, and it holds nothing that the
//! command could want: no descriptor but the pipe on which it tells the
//! supervisor of a failure, no capability but to send signals.

use std::mem::offset_of;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use super::context::Context;
use super::error::{Applied, Failed, StepFailed};
use crate::seccomp::{Policy, compile};
use crate::sys;

/// What the init is told.
#[derive(Clone, Copy)]
pub(super) struct Charge {
    /// The step whose failure it is when something fails here.
    pub(super) index: usize,
    /// The capabilities it keeps.
    pub(super) keep: u64,
    /// Whether it gets a filter.
    pub(super) filtered: bool,
}

/// Splits: `command` goes on in a new process, where it becomes the command or
/// reports why not; this process stays as the init and never returns.
///
/// `may_trace` tells that the command could trace a process with privileges:
/// then it starts only when this one has none left.
pub(super) fn split(
    cx: &mut Context,
    charge: Charge,
    may_trace: bool,
    command: &mut dyn FnMut(&mut Context) -> i32,
) -> Applied {
    // Before the split: a command that ends at once must not end unnoticed. It
    // gets the caller's mask back just before its execve.
    sys::block_signals()?;
    if may_trace {
        return split_in_order(cx, charge, command);
    }
    let child = sys::vfork(&mut || match super::enter::die_with_parent(cx) {
        Ok(()) => command(cx),
        Err(failed) => super::report(cx, StepFailed { step: charge.index, failed }),
    })?;
    stay(cx, charge, child)
}

/// Stays as the init. What fails ends the jail, which could not be ended in
/// order any more.
fn stay(cx: &Context, charge: Charge, command: Pid) -> ! {
    match become_init(cx, charge).and_then(|signals| watch(cx, command, &signals)) {
        Ok(status) => sys::exit_now(status),
        Err(failed) => super::report(cx, StepFailed { step: charge.index, failed }),
    }
}

/// Splits with a copy of the memory, so that this process can become the init
/// while the command's waits for it.
fn split_in_order(
    cx: &mut Context,
    charge: Charge,
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
            sys::exit_now(match super::enter::die_with_parent(cx) {
                Ok(()) => command(cx),
                Err(failed) => super::report(cx, StepFailed { step: charge.index, failed }),
            })
        }
        sys::Cloned::Parent(pid, pidfd) => {
            // They are closed by number: their destructors must not run.
            std::mem::forget((ready, hold, pidfd));
            stay(cx, charge, Pid::from_raw(pid))
        }
    }
}

fn become_init(cx: &Context, charge: Charge) -> Applied<OwnedFd> {
    let signals = sys::every_signal()?;
    // Before anything is closed: a command that waits is told by the closing.
    sys::capset(charge.keep, charge.keep, 0)?;
    sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    if charge.filtered {
        sys::load_filter(&compile(&Policy::init()))?;
    }
    let number = |fd: i32| u32::try_from(fd).map_err(|_| Errno::EBADF);
    let mut kept = [number(signals.as_raw_fd())?; 2];
    if let Some(status) = &cx.status {
        kept[1] = number(status.as_raw_fd())?;
    }
    kept.sort_unstable();
    let mut first = 0;
    for fd in kept {
        if fd > first {
            sys::close_range(first, fd - 1, false)?;
        }
        first = fd + 1;
    }
    sys::close_range(first, u32::MAX, false)?;
    Ok(signals)
}

/// Reaps and forwards until the command ends; returns its exit status.
fn watch(cx: &Context, command: Pid, signals: &OwnedFd) -> Applied<i32> {
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(super::SHORT_MS)) {
        // A process that only waits does so on any CPU.
        Ok(0) => match cx.leave_this_cpu() {
            Ok(()) | Err(_) => {}
        },
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(Failed::because(errno, "waiting for the jail's signals")),
    }
    loop {
        let mut record = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match nix::unistd::read(signals, &mut record) {
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(Failed::because(errno, "reading the jail's signals")),
        }
        let field = |offset: usize| {
            let bytes = record[offset..].first_chunk().copied().unwrap_or_default();
            i32::from_ne_bytes(bytes)
        };
        let signal = field(offset_of!(libc::signalfd_siginfo, ssi_signo));
        let sender = field(offset_of!(libc::signalfd_siginfo, ssi_pid));
        if signal == libc::SIGCHLD
            && let Some(status) = reap(command)?
        {
            return Ok(status);
        }
        if sender == 0 {
            // Sent from outside the pid namespace: meant for the command. It
            // may have just ended, which the next SIGCHLD tells.
            match sys::kill(command, signal) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}

fn reap(command: Pid) -> Applied<Option<i32>> {
    loop {
        match sys::wait(libc::P_ALL, 0, true) {
            Ok(Some(exit)) if exit.pid == command.as_raw() => return Ok(Some(exit.status)),
            Ok(Some(_)) | Err(Errno::EINTR) => {}
            Ok(None) => return Ok(None),
            Err(errno) => return Err(Failed::because(errno, "waiting for the jail's processes")),
        }
    }
}
