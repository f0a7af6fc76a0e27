//! The process that becomes the command: its streams, its privileges, and its
//! program.

use std::ffi::CString;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd;

use super::context::Context;
use super::error::{Applied, Failed};
use super::paths::open_below;
use crate::plan::step::OpenMode;
use crate::sys;

/// Opens the host's file of a stream. No link is followed: planning has, and
/// what leads elsewhere since then may be a jail's doing, as may be a FIFO, for
/// whose other end this does not wait.
pub(super) fn open_stream(path: &Path, mode: OpenMode, umask: Mode) -> Applied<OwnedFd> {
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    let write = |how| {
        // The file is made as the caller makes files.
        let ours = nix::sys::stat::umask(umask);
        let flags = flags | libc::O_WRONLY | how;
        let opened = sys::create2(path, flags, 0o644, libc::RESOLVE_NO_SYMLINKS);
        nix::sys::stat::umask(ours);
        opened
    };
    let file = match mode {
        OpenMode::Read => sys::open2(path, flags | libc::O_RDONLY, libc::RESOLVE_NO_SYMLINKS),
        OpenMode::Truncate => write(libc::O_TRUNC),
        OpenMode::Append => write(libc::O_APPEND),
    }?;
    let status = OFlag::from_bits_retain(fcntl(&file, FcntlArg::F_GETFL)?);
    fcntl(&file, FcntlArg::F_SETFL(status - OFlag::O_NONBLOCK))?;
    Ok(file)
}

/// A terminal of the jail's own devpts becomes the command's streams and its
/// controlling terminal; the supervisor gets the other end.
pub(super) fn terminal(cx: &mut Context) -> Applied {
    let devpts = cx.devpts.as_ref().ok_or(Errno::ENODEV)?;
    let flags = libc::O_RDWR | libc::O_NOCTTY;
    let master = open_below(devpts.as_fd(), Path::new("ptmx"), flags)?;
    let peer = sys::open_terminal_peer(master.as_fd())?;
    let socket = cx.terminal.take().ok_or(Errno::EBADF)?;
    sys::send_fd(socket.as_fd(), master.as_fd())?;
    // As a session leader of its own the command gets job control. Without an
    // init it is the leader of one already.
    match unistd::setsid() {
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno.into()),
    }
    sys::take_terminal(peer.as_fd())?;
    for fd in 0..3 {
        sys::dup2(peer.as_fd(), fd)?;
    }
    Ok(())
}

pub(super) fn cpu_set(cpus: &str) -> Applied<nix::sched::CpuSet> {
    let ids = crate::unit::value::parse_id_set(cpus).map_err(|_| Errno::EINVAL)?;
    let mut set = nix::sched::CpuSet::new();
    for id in ids.0 {
        set.set(id as usize)?;
    }
    Ok(set)
}

pub(super) fn limit_capabilities(keep: u64) -> Applied {
    for number in 0..64 {
        if keep & (1 << number) == 0 {
            match sys::prctl(libc::PR_CAPBSET_DROP, number, 0) {
                Ok(_) => {}
                // Past the last one that this kernel knows.
                Err(Errno::EINVAL) if number > 0 => break,
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(())
}

pub(super) fn set_capabilities(permitted: u64, ambient: u64) -> Applied {
    sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)?;
    sys::capset(permitted, permitted, ambient)?;
    for number in (0..64).filter(|number| ambient & (1 << number) != 0) {
        sys::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)?;
    }
    // The kernel clears it when credentials change.
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    Ok(())
}

/// Closes, and not only marks, what is left open: between here and execve a
/// path like `/proc/self/fd/7/..` would lead out of the jail.
pub(super) fn close_fds(cx: &mut Context, keep: &[i32]) -> Applied {
    for fd in (0..3).chain(keep.iter().copied()) {
        // A stream that is closed leads nowhere.
        let Ok(open) = sys::borrow(fd) else { continue };
        if nix::sys::stat::fstat(open)?.st_mode & libc::S_IFMT == libc::S_IFDIR {
            let detail = format!("descriptor {fd} is a directory, which would be a way out");
            return Err(Failed::found(detail));
        }
    }
    for fd in keep {
        sys::keep_on_exec(*fd)?;
    }
    let status = cx.status.as_ref().map(|fd| fd.as_raw_fd());
    let mut open: Vec<u32> =
        keep.iter().copied().chain(status).filter_map(|fd| u32::try_from(fd).ok()).collect();
    open.sort_unstable();
    let mut first = 3;
    for fd in open {
        if fd > first {
            sys::close_range(first, fd - 1, false)?;
        }
        first = fd + 1;
    }
    sys::close_range(first, u32::MAX, false)?;
    Ok(())
}

/// What execve needs.
#[derive(Debug)]
pub(super) struct Start {
    /// The files to try; each with whether it is there.
    candidates: Vec<(CString, bool)>,
    /// Why the file after those is not tried.
    stop: Option<Failed>,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    /// Where it was searched for.
    path: Option<String>,
}

/// Everything that comes before execve: under the filter there is nothing left
/// to do but that, and to report that it has failed.
pub(super) fn prepare_exec(
    cx: &Context,
    command: &[String],
    environment: &[(String, String)],
) -> Applied<Start> {
    let list = |words: &mut dyn Iterator<Item = String>| -> Applied<Vec<CString>> {
        words.map(|word| CString::new(word).map_err(|_| Errno::EINVAL.into())).collect()
    };
    let program = &command[0];
    let path = environment.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let files: Vec<PathBuf> = if program.contains('/') {
        vec![program.into()]
    } else {
        path.split(':').map(|directory| Path::new(directory).join(program)).collect()
    };
    let mut candidates = Vec::with_capacity(files.len());
    let mut stop = None;
    let is_search = !program.contains('/');
    for file in files {
        let Ok(text) = CString::new(file.as_os_str().as_bytes()) else { continue };
        match refuse_magic(&file, 0) {
            Ok(exists) => candidates.push((text, exists)),
            Err(failed) => {
                stop = Some(failed);
                break;
            }
        }
        // Those behind it in PATH are not looked at.
        if is_search && file.is_file() && unistd::access(&file, unistd::AccessFlags::X_OK).is_ok() {
            break;
        }
    }
    let start = Start {
        candidates,
        stop,
        arguments: list(&mut command.iter().cloned())?,
        environment: list(&mut environment.iter().map(|(name, value)| format!("{name}={value}")))?,
        path: is_search.then(|| path.to_owned()),
    };
    cx.leave_this_cpu()?;
    restore_signals(cx)?;
    // The kernel moves a process at its execve to another CPU when this one
    // has more to run, and to wake one is dear. The two that wait for this
    // process count as running until the scheduler next looks at them.
    std::thread::yield_now();
    Ok(start)
}

pub(super) fn exec(start: Start) -> Failed {
    let mut refused = None;
    for (candidate, exists) in &start.candidates {
        match sys::execve(candidate, &start.arguments, &start.environment) {
            Errno::ENOENT if *exists => {
                return Failed::because(
                    Errno::ELIBACC,
                    format!(
                        "`{}` exists; the interpreter or loader it names does not",
                        candidate.to_string_lossy()
                    ),
                );
            }
            Errno::ENOENT | Errno::ENOTDIR => {}
            errno => refused = Some((errno, candidate)),
        }
    }
    if let Some(failed) = start.stop {
        return failed;
    }
    match (refused, start.path) {
        (Some((errno, candidate)), _) => {
            Failed::because(errno, format!("`{}`", candidate.to_string_lossy()))
        }
        (None, None) => Errno::ENOENT.into(),
        (None, Some(path)) => Failed::because(Errno::ENOENT, format!("not found in {path}")),
    }
}

/// Refuses a program, or an interpreter that it names, behind a magic link: a
/// root may hold one to `/proc/self/exe`, which is jailrun itself. Otherwise
/// whether the file is there.
fn refuse_magic(path: &Path, depth: u32) -> Applied<bool> {
    let unread = |errno| Failed::because(errno, format!("looking into `{}`", path.display()));
    match sys::open2(path, libc::O_PATH, libc::RESOLVE_NO_MAGICLINKS) {
        Err(Errno::ELOOP) => {
            let detail = format!("`{}` leads through a magic link of /proc", path.display());
            return Err(Failed::because(Errno::ELOOP, detail));
        }
        // What does not exist or cannot be reached cannot be executed either.
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES | Errno::ENAMETOOLONG) => {
            return Ok(false);
        }
        Err(errno) => return Err(unread(errno)),
        Ok(_) => {}
    }
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
    let fd = match sys::open2(path, flags, libc::RESOLVE_NO_MAGICLINKS) {
        Ok(fd) => fd,
        // A file that its user may execute and not read is no script: its
        // interpreter could not read it. The rest are no regular files.
        Err(Errno::EACCES | Errno::ENXIO | Errno::ENODEV) => return Ok(true),
        Err(errno) => return Err(unread(errno)),
    };
    let mut head = [0_u8; 256];
    let length = match unistd::read(&fd, &mut head) {
        Ok(length) => length,
        Err(Errno::EISDIR) => return Ok(true),
        Err(errno) => return Err(unread(errno)),
    };
    drop(fd);
    if let Some(line) = head[..length].strip_prefix(b"#!")
        && depth < 4
    {
        let line =
            String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or(line))
                .into_owned();
        if let Some(interpreter) = line.split_whitespace().next() {
            refuse_magic(Path::new(interpreter), depth + 1)?;
        }
    }
    Ok(true)
}

/// The mask the caller had, and default dispositions: a command must not
/// ignore what its caller happens to ignore, as under nohup(1).
fn restore_signals(cx: &Context) -> Applied {
    sys::default_signals();
    Ok(cx.mask.thread_set_mask()?)
}
