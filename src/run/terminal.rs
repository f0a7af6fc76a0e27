//! The caller's end of the jail's terminal: raw mode, and bytes both ways.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::termios::{self, SetArg, Termios};

use super::apply::Applied;
use crate::sys;

/// The jail's terminal, connected to the caller's.
#[derive(Debug)]
pub(super) struct Relay {
    master: OwnedFd,
    /// Settings of the caller's terminal, put back at the end.
    before: Option<Termios>,
    /// Typed, and not yet taken by the jail.
    pending: Vec<u8>,
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
        let mut relay =
            Self { master, before: None, pending: Vec::new(), input_open: true, open: true };
        relay.start()?;
        Ok(Some(relay))
    }

    fn start(&mut self) -> Applied {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        fcntl(&self.master, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let Ok(input) = standard(0) else {
            self.input_open = false;
            return Ok(());
        };
        if let Ok(before) = termios::tcgetattr(input) {
            let mut raw = before.clone();
            termios::cfmakeraw(&mut raw);
            termios::tcsetattr(input, SetArg::TCSANOW, &raw)?;
            self.before = Some(before);
        }
        self.resize();
        Ok(())
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

    /// What to wait for: the jail's side, and the caller's while there is room.
    pub(super) fn interests(&self) -> Vec<(BorrowedFd<'_>, nix::poll::PollFlags)> {
        use nix::poll::PollFlags;
        let mut list = Vec::new();
        if self.open {
            let mut flags = PollFlags::POLLIN;
            flags.set(PollFlags::POLLOUT, !self.pending.is_empty());
            list.push((self.master.as_fd(), flags));
        }
        if self.input_open
            && self.pending.is_empty()
            && let Ok(input) = standard(0)
        {
            list.push((input, PollFlags::POLLIN));
        }
        list
    }

    /// Moves what can be moved without waiting for the jail.
    pub(super) fn pump(&mut self, input_ready: bool) -> Applied {
        let mut buffer = [0_u8; 8192];
        if input_ready && self.input_open && self.pending.is_empty() {
            match nix::unistd::read(standard(0)?, &mut buffer) {
                // End of input is a control character on a terminal.
                Ok(0) => {
                    self.input_open = false;
                    self.pending.push(0x04);
                }
                Ok(length) => self.pending.extend_from_slice(&buffer[..length]),
                Err(Errno::EINTR | Errno::EAGAIN) => {}
                Err(_) => self.input_open = false,
            }
        }
        while self.open && !self.pending.is_empty() {
            match nix::unistd::write(&self.master, &self.pending) {
                Ok(length) => drop(self.pending.drain(..length)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => self.open = false,
            }
        }
        while self.open {
            match nix::unistd::read(&self.master, &mut buffer) {
                Ok(0) | Err(Errno::EIO) => self.open = false,
                Ok(length) => write_all(&buffer[..length])?,
                Err(Errno::EINTR) => {}
                Err(_) => break,
            }
        }
        Ok(())
    }
}

fn write_all(mut bytes: &[u8]) -> Applied {
    let output = standard(1)?;
    while !bytes.is_empty() {
        match nix::unistd::write(output, bytes) {
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let (Some(before), Ok(input)) = (&self.before, standard(0)) {
            // The terminal may be gone, and with it what would be restored.
            match termios::tcsetattr(input, SetArg::TCSADRAIN, before) {
                Ok(()) | Err(_) => {}
            }
        }
    }
}
