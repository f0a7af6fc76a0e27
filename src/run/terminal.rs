//! The caller's end of the jail's terminal: raw mode, and bytes both ways.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use nix::sys::termios::{self, SetArg, Termios};
use nix::unistd;

use super::error::Applied;
use super::output::{CHUNK, Output};
use crate::sys;

/// The jail's terminal, connected to the caller's.
#[derive(Debug)]
pub(super) struct Relay {
    master: OwnedFd,
    /// The jail's end, while its command runs: that has it open or not, and may
    /// open it again, but a terminal that nobody has open is hung up.
    held: Option<OwnedFd>,
    /// Standard output.
    output: Output,
    /// When to look again whether the caller's terminal is this process's to
    /// read from: while it is in the background.
    look_at: Option<Instant>,
    /// Settings of the caller's terminal, put back at the end.
    before: Option<Termios>,
    /// Typed, and not yet taken by the jail.
    pending: Vec<u8>,
    /// Printed, and not yet taken by the caller's output.
    printed: Vec<u8>,
    /// Whether the last byte typed was the end of a line.
    at_line_start: bool,
    /// Whether the caller's input is still open.
    input_open: bool,
    /// Whether the jail's side is still open.
    open: bool,
}

fn standard(fd: i32) -> Applied<BorrowedFd<'static>> {
    Ok(sys::borrow(fd)?)
}

impl Relay {
    /// Takes the other end of the jail's terminal from the socket.
    pub(super) fn receive(socket: &OwnedFd) -> Applied<Option<Self>> {
        use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
        use std::os::fd::AsRawFd as _;
        let mut byte = [0_u8; 1];
        let mut buffer = [std::io::IoSliceMut::new(&mut byte)];
        let mut space = nix::cmsg_space!([i32; 1]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = recvmsg::<()>(socket.as_raw_fd(), &mut buffer, Some(&mut space), flags)?;
        let received = message.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let Some(master) = received.map(sys::own) else { return Ok(None) };
        let mut relay = Self {
            held: Some(sys::open_terminal_peer(master.as_fd())?),
            master,
            output: Output::new(1)?,
            look_at: None,
            before: None,
            pending: Vec::new(),
            printed: Vec::new(),
            at_line_start: true,
            input_open: true,
            open: true,
        };
        relay.start()?;
        Ok(Some(relay))
    }

    fn start(&mut self) -> Applied {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&self.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        if standard(0).is_err() {
            self.input_open = false;
            return Ok(());
        }
        // The kernel stops who reads the terminal or sets it up from the
        // background: the jail would run on with nobody to watch it.
        SigSet::from_iter([Signal::SIGTTIN, Signal::SIGTTOU]).thread_block()?;
        self.resize();
        self.take_input()
    }

    /// Sets the caller's terminal up for the jail, unless this process is in the
    /// background: then that is others' until it is looked at again.
    pub(super) fn take_input(&mut self) -> Applied {
        let Ok(input) = standard(0) else { return Ok(()) };
        if !is_foreground(input) {
            self.look_at = Instant::now().checked_add(LOOK_EVERY);
            return Ok(());
        }
        self.look_at = None;
        // Who is in the background is not told of a new size.
        self.resize();
        if self.before.is_none() {
            self.before = termios::tcgetattr(input).ok();
        }
        if let Some(before) = &self.before {
            // Again after a stop, too: the shell has set it as it likes it.
            let mut raw = before.clone();
            termios::cfmakeraw(&mut raw);
            termios::tcsetattr(input, SetArg::TCSANOW, &raw)?;
        }
        Ok(())
    }

    /// Gives the caller's terminal the settings back that it had, if it is this
    /// process's to set up.
    pub(super) fn put_back(&self) {
        if let (Some(before), Ok(input)) = (&self.before, standard(0))
            && is_foreground(input)
        {
            // The terminal may be gone, and with it what would be restored. What
            // has been written to it and is not taken is not waited for.
            match termios::tcsetattr(input, SetArg::TCSANOW, before) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// When to go on without anything to wait for.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Gives the jail's terminal the size of the caller's. One that has none
    /// keeps what it has.
    pub(super) fn resize(&self) {
        if let Ok(input) = standard(0) {
            match sys::copy_window_size(input, self.master.as_fd()) {
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// What to wait for: the jail's side while there is room for what it
    /// prints, the caller's input while there is room for what is typed, and
    /// the caller's output while something is to be written.
    pub(super) fn interests(&self) -> Vec<(Side, BorrowedFd<'_>, nix::poll::PollFlags)> {
        use nix::poll::PollFlags;
        let mut list = Vec::new();
        if self.open {
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::POLLIN, self.printed.is_empty());
            flags.set(PollFlags::POLLOUT, !self.pending.is_empty());
            if !flags.is_empty() {
                list.push((Side::Jail, self.master.as_fd(), flags));
            }
        }
        if self.input_open
            && self.look_at.is_none()
            && self.pending.is_empty()
            && let Ok(input) = standard(0)
        {
            list.push((Side::Input, input, PollFlags::POLLIN));
        }
        if !self.printed.is_empty()
            && let Ok(output) = self.output.file()
        {
            list.push((Side::Output, output, PollFlags::POLLOUT));
        }
        list
    }

    /// Moves what can be moved without waiting for anybody: one read and one
    /// write each way, so that signals and time are looked at in between.
    pub(super) fn pump(&mut self, input_ready: bool, output_ready: bool) {
        let mut buffer = [0_u8; CHUNK];
        if self.look_at.is_some_and(|at| at <= Instant::now()) && self.take_input().is_err() {
            self.input_open = false;
            self.look_at = None;
        }
        if input_ready && self.input_open && self.pending.is_empty() {
            let read = standard(0).map(|input| nix::unistd::read(input, &mut buffer));
            match read {
                // End of input is a control character on a terminal: one to
                // hand over a line that has begun, one that is the end.
                Ok(Ok(0)) => {
                    self.input_open = false;
                    self.pending.extend(if self.at_line_start { &[4][..] } else { &[4, 4] });
                }
                Ok(Ok(length)) => {
                    self.pending.extend_from_slice(&buffer[..length]);
                    self.at_line_start = matches!(buffer[length - 1], b'\n' | b'\r');
                }
                Ok(Err(Errno::EINTR | Errno::EAGAIN)) => {}
                // Put into the background a moment ago.
                Ok(Err(Errno::EIO)) if standard(0).is_ok_and(|input| !is_foreground(input)) => {
                    self.look_at = Instant::now().checked_add(LOOK_EVERY);
                }
                Ok(Err(_)) | Err(_) => self.input_open = false,
            }
        }
        if self.open && !self.pending.is_empty() {
            match nix::unistd::write(&self.master, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.open = false,
            }
        }
        if self.open && self.printed.is_empty() {
            match nix::unistd::read(&self.master, &mut buffer) {
                Ok(0) => self.open = false,
                Ok(length) => self.printed.extend_from_slice(&buffer[..length]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.open = false,
            }
        }
        if !self.printed.is_empty() && (output_ready || self.output.file().is_err()) {
            self.write_printed();
        }
    }

    /// Writes at most what is taken at once by what is writable at all.
    fn write_printed(&mut self) {
        match self.output.write(&self.printed) {
            Ok(length) => drop(self.printed.drain(..length)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // It is closed: what is printed goes nowhere.
            Err(Errno::EBADF) => self.printed.clear(),
            // Nobody reads any more: to the jail its terminal is gone.
            Err(_) => {
                self.printed.clear();
                self.open = false;
            }
        }
    }

    /// Whether the jail's side has been given up: nobody reads what it prints.
    pub(super) fn is_closed(&self) -> bool {
        !self.open && self.printed.is_empty()
    }

    /// Writes what the jail has printed before its end. A reader may take its
    /// time for that, until the jail's own is over or a signal ends it.
    pub(super) fn drain(&mut self, signals: &SignalFd, until: Option<Instant>) {
        // The end of what is printed is where nobody has it open any more.
        self.held = None;
        while !self.is_closed() {
            let has_printed = !self.printed.is_empty();
            if has_printed && !self.is_taken(signals, until) {
                return;
            }
            // What is read now waits for its own turn.
            self.pump(false, has_printed);
            if self.open && self.printed.is_empty() {
                let mut fds =
                    [nix::poll::PollFd::new(self.master.as_fd(), nix::poll::PollFlags::POLLIN)];
                // Every writer is gone: what is left is there at once.
                match nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO) {
                    Ok(ready) if ready > 0 => {}
                    _ => return,
                }
            }
        }
    }

    /// Waits until standard output takes something; false when it will not.
    fn is_taken(&self, signals: &SignalFd, until: Option<Instant>) -> bool {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        let Ok(output) = self.output.file() else { return true };
        loop {
            let left =
                until.map(|until| until.saturating_duration_since(Instant::now()).as_millis());
            let timeout = left.map_or(PollTimeout::NONE, |left| {
                PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
            });
            let mut fds = [
                PollFd::new(output, PollFlags::POLLOUT),
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(0) => return false,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
            if fds[0].revents().is_some_and(|events| !events.is_empty()) {
                return true;
            }
            const ENDING: [Signal; 4] =
                [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM];
            match signals.read_signal() {
                Ok(Some(info)) if ENDING.iter().any(|signal| *signal as u32 == info.ssi_signo) => {
                    return false;
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return false,
            }
        }
    }
}

/// How often a process in the background looks whether it still is: not every
/// shell says so when it takes one to the foreground.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What the relay waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The jail's terminal.
    Jail,
    /// The caller's input.
    Input,
    /// The caller's output.
    Output,
}

/// Whether this process may read from a terminal and set it up. What is no
/// terminal, or not this session's, asks nobody.
fn is_foreground(terminal: BorrowedFd<'_>) -> bool {
    unistd::tcgetpgrp(terminal).map_or(true, |group| group == unistd::getpgrp())
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.put_back();
    }
}
