//! Writing to what nobody may be reading: a terminal or a pipe of the caller's.

use std::io::{Error, ErrorKind, Write};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{fstat, major, minor};
use nix::sys::termios::tcgetsid;
use nix::unistd;

use crate::sys;

/// A standard stream, written to without waiting for who reads it.
#[derive(Debug)]
pub struct Output {
    number: i32,
    /// The same once more, for writes that do not wait.
    again: Option<OwnedFd>,
    /// Bytes that are written at a time.
    piece: usize,
}

/// Bytes moved at a time: a pipe that is writable takes as many at once.
pub(super) const CHUNK: usize = 4096;

/// A terminal that is writable has room for more than that, even where each
/// byte is a tab that it makes eight of. It may not have room for a chunk.
const TERMINAL_TAKES: usize = 32;

impl Output {
    /// The stream of that number.
    pub fn new(number: i32) -> sys::Result<Self> {
        let Ok(file) = sys::borrow(number) else {
            return Ok(Self { number, again: None, piece: CHUNK });
        };
        let is_terminal = unistd::isatty(file).unwrap_or(false);
        let again = open_again(number, file, is_terminal)?;
        let piece = if again.is_none() && is_terminal { TERMINAL_TAKES } else { CHUNK };
        Ok(Self { number, again, piece })
    }

    /// What to wait for until it takes something.
    pub fn file(&self) -> sys::Result<BorrowedFd<'_>> {
        match &self.again {
            Some(file) => Ok(file.as_fd()),
            None => sys::borrow(self.number),
        }
    }

    /// Writes what is taken at once when it takes something at all.
    pub fn write(&self, bytes: &[u8]) -> sys::Result<usize> {
        unistd::write(self.file()?, &bytes[..bytes.len().min(self.piece)])
    }
}

/// Opens a terminal or a pipe once more, for writes that wait for nobody: the
/// flag for that belongs to the open file, which the caller has, too. `None` for
/// other files, and where it cannot be opened.
fn open_again(
    number: i32,
    file: BorrowedFd<'_>,
    is_terminal: bool,
) -> sys::Result<Option<OwnedFd>> {
    let stat = fstat(file)?;
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO => {}
        // To open the other end of a pseudo-terminal is to make a new one.
        libc::S_IFCHR if is_terminal => {
            let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
            if major == 2 || (major, minor) == (5, 2) {
                return Ok(None);
            }
        }
        _ => return Ok(None),
    }
    let flags = libc::O_WRONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let open = |path: &Path| match sys::open2(path, flags, 0) {
        Ok(file) => Ok(Some(file)),
        Err(errno @ (Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)) => Err(errno),
        // It is somebody else's, has been hung up, or nobody reads it.
        Err(_) => Ok(None),
    };
    if let Some(file) = open(Path::new(&format!("/proc/self/fd/{number}")))? {
        return Ok(Some(file));
    }
    // After su(1) it belongs to somebody else, but may be this session's.
    let is_ours = is_terminal && tcgetsid(file).is_ok();
    if is_ours { open(Path::new("/dev/tty")) } else { Ok(None) }
}

/// A stream that is written to until a time.
#[derive(Debug)]
pub struct Until {
    /// The stream.
    pub output: Output,
    /// When to give up.
    pub deadline: Instant,
}

impl Write for Until {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.output.file()?, PollFlags::POLLOUT)];
            match poll(&mut fds, timeout) {
                Ok(0) => return Err(Error::from(ErrorKind::TimedOut)),
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            match self.output.write(bytes) {
                Err(Errno::EAGAIN | Errno::EINTR) if left > 0 => {}
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
