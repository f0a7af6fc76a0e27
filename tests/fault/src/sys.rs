//! The system calls of the driver. The only module with `unsafe`.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::path::Path;

/// A system call at its beginning or end, as ptrace(2) tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    Entry { number: i64, arguments: [u64; 6] },
    Exit { result: i64 },
    Other,
}

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// What the C libraries disagree on: the type of a request and of a resource.
#[cfg(target_env = "musl")]
type Number = libc::c_int;
#[cfg(not(target_env = "musl"))]
type Number = libc::c_uint;

fn ptrace(request: Number, pid: i32, address: usize, data: usize) -> io::Result<libc::c_long> {
    // SAFETY: the callers give what the request takes.
    check(unsafe { libc::ptrace(request as _, pid, address, data) })
}

/// Makes this process one that its parent traces, and waits for it.
pub(crate) fn be_traced() -> io::Result<()> {
    ptrace(libc::PTRACE_TRACEME, 0, 0, 0)?;
    // SAFETY: sends a signal to this process.
    check(unsafe { libc::kill(libc::getpid(), libc::SIGSTOP) }.into()).map(drop)
}

/// Follows children, tells system calls from signals, and ends them with the
/// tracer.
pub(crate) fn follow_all(pid: i32) -> io::Result<()> {
    let options = libc::PTRACE_O_TRACESYSGOOD
        | libc::PTRACE_O_TRACECLONE
        | libc::PTRACE_O_TRACEFORK
        | libc::PTRACE_O_TRACEVFORK
        | libc::PTRACE_O_TRACEEXEC
        | libc::PTRACE_O_EXITKILL;
    ptrace(libc::PTRACE_SETOPTIONS, pid, 0, options as usize).map(drop)
}

/// Goes on to the next system call.
pub(crate) fn go_on(pid: i32, signal: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_SYSCALL, pid, 0, signal as usize).map(drop)
}

/// Goes on to the next event or signal.
pub(crate) fn run(pid: i32, signal: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_CONT, pid, 0, signal as usize).map(drop)
}

/// Lets a process go.
pub(crate) fn detach(pid: i32, signal: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_DETACH, pid, 0, signal as usize).map(drop)
}

/// Where a process has stopped.
pub(crate) fn stop(pid: i32) -> io::Result<Stop> {
    /// `ptrace_syscall_info` of `linux/ptrace.h`.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        op: u8,
        pad: [u8; 3],
        arch: u32,
        instruction: u64,
        stack: u64,
        data: [u64; 8],
    }
    const PTRACE_GET_SYSCALL_INFO: Number = 0x420e;
    let mut info = Info::default();
    ptrace(PTRACE_GET_SYSCALL_INFO, pid, size_of::<Info>(), (&raw mut info) as usize)?;
    Ok(match info.op {
        1 => {
            let mut arguments = [0; 6];
            arguments.copy_from_slice(&info.data[1..7]);
            Stop::Entry { number: info.data[0].cast_signed(), arguments }
        }
        2 => Stop::Exit { result: info.data[0].cast_signed() },
        _ => Stop::Other,
    })
}

#[cfg(not(target_arch = "x86_64"))]
compile_error!("the driver knows how to make a system call fail on x86_64 alone");

/// Offsets in `user_regs_struct`.
const RAX: usize = 10 * 8;
const ORIG_RAX: usize = 15 * 8;

/// At a call's entry: none is made.
pub(crate) fn make_none(pid: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_POKEUSER, pid, ORIG_RAX, usize::MAX).map(drop)
}

/// At a call's exit: what it returns.
pub(crate) fn set_result(pid: i32, errno: i32) -> io::Result<()> {
    ptrace(libc::PTRACE_POKEUSER, pid, RAX, (-(errno as isize)).cast_unsigned()).map(drop)
}

/// Number of the new process, at the event of its making.
pub(crate) fn event_message(pid: i32) -> io::Result<i32> {
    let mut message: libc::c_ulong = 0;
    ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, (&raw mut message) as usize)?;
    Ok(message as i32)
}

/// Text in the memory of another process.
pub(crate) fn text_at(pid: i32, address: u64) -> String {
    let mut buffer = [0_u8; 256];
    // A page that is not there ends what is read.
    let to_page_end = 4096 - (address as usize & 4095);
    for length in [buffer.len(), to_page_end.min(buffer.len())] {
        let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: length };
        let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: length };
        // SAFETY: both describe one range; the local one is the buffer.
        let read =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        if let Ok(read) = usize::try_from(read) {
            let text = buffer[..read].split(|byte| *byte == 0).next().unwrap_or_default();
            return String::from_utf8_lossy(text).into_owned();
        }
    }
    String::new()
}

/// What waitpid(2) has to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    /// Exit status, or 128 and the signal.
    Ended(i32),
    /// Signal that stopped it, and the event of ptrace(2).
    Stopped { signal: i32, event: i32 },
}

/// Waits for any child or traced process. `None`: there is none, or with
/// `no_hang` none that has anything to tell; `Interrupted` when a signal came.
pub(crate) fn wait_any(no_hang: bool) -> io::Result<Option<(i32, Waited)>> {
    let mut status = 0;
    let flags = libc::__WALL | if no_hang { libc::WNOHANG } else { 0 };
    // SAFETY: the status outlives the call.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
    match check(pid.into()) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some((pid, waited(status)))),
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(error) => Err(error),
    }
}

fn waited(status: i32) -> Waited {
    if libc::WIFSTOPPED(status) {
        Waited::Stopped { signal: libc::WSTOPSIG(status), event: status >> 16 }
    } else if libc::WIFSIGNALED(status) {
        Waited::Ended(128 + libc::WTERMSIG(status))
    } else {
        Waited::Ended(libc::WEXITSTATUS(status))
    }
}

/// Waits for one child's end.
pub(crate) fn wait_for(pid: i32) -> io::Result<i32> {
    loop {
        let mut status = 0;
        // SAFETY: the status outlives the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) }.into()) {
            Ok(_) => match waited(status) {
                Waited::Ended(status) => return Ok(status),
                Waited::Stopped { .. } => {}
            },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Forks; 0 in the child. The driver has one thread.
pub(crate) fn fork() -> io::Result<i32> {
    // SAFETY: this process has one thread.
    check(unsafe { libc::fork() }.into()).map(|pid| pid as i32)
}

/// Ends this process at once.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// kill(2).
pub(crate) fn kill(pid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// unshare(2).
pub(crate) fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// umount2(2) with `MNT_DETACH`.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    let target = CString::new(target.to_string_lossy().as_bytes()).map_err(io::Error::other)?;
    // SAFETY: the path is NUL-terminated and outlives the call.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// mount(2) of a new file system, or with `MS_BIND` of a path.
pub(crate) fn mount(
    source: &Path,
    target: &Path,
    fstype: &str,
    flags: libc::c_ulong,
    options: &str,
) -> io::Result<()> {
    let text = |text: &str| CString::new(text).map_err(io::Error::other);
    let source = text(&source.to_string_lossy())?;
    let target = text(&target.to_string_lossy())?;
    let (fstype, options) = (text(fstype)?, text(options)?);
    // SAFETY: all are NUL-terminated and outlive the call.
    let result = unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            fstype.as_ptr(),
            flags,
            options.as_ptr().cast(),
        )
    };
    check(result.into()).map(drop)
}

/// Asks for SIGALRM after so many milliseconds and then every second, which
/// interrupts what waits; 0 stops it.
pub(crate) fn alarm(milliseconds: u64) -> io::Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: sigaction is plain data for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    // SAFETY: the handler does nothing; without SA_RESTART calls are interrupted.
    let result = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    check(result.into())?;
    let value = |milliseconds: u64| libc::timeval {
        tv_sec: (milliseconds / 1000) as _,
        tv_usec: (milliseconds % 1000 * 1000) as _,
    };
    let again = if milliseconds == 0 { 0 } else { 1000 };
    let timer = libc::itimerval { it_interval: value(again), it_value: value(milliseconds) };
    // SAFETY: the timer outlives the call.
    let result =
        unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    check(result.into()).map(drop)
}

/// Becomes an ordinary user for good.
pub(crate) fn become_user(id: u32) -> io::Result<()> {
    // SAFETY: no list of groups is passed.
    check(unsafe { libc::setgroups(0, std::ptr::null()) }.into())?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::setresgid(id, id, id) }.into())?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::setresuid(id, id, id) }.into()).map(drop)
}

/// Puts a descriptor in a place, or closes the place.
pub(crate) fn place(fd: Option<i32>, at: i32) -> io::Result<()> {
    match fd {
        // SAFETY: the caller owns the place.
        Some(fd) => check(unsafe { libc::dup2(fd, at) }.into()).map(drop),
        // SAFETY: the caller owns the place.
        None => check(unsafe { libc::close(at) }.into()).map(drop),
    }
}

/// Closes every descriptor from this one on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the callers hold none above.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// execve(2) with this process's environment; returns on failure alone.
pub(crate) fn exec(words: &[String]) -> io::Error {
    let words: Vec<CString> =
        words.iter().filter_map(|word| CString::new(word.as_str()).ok()).collect();
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: the list is null-terminated, its strings NUL-terminated.
    unsafe { libc::execv(pointers[0], pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Ignores a signal, or blocks all of them.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: no handler is installed.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Blocks every signal.
pub(crate) fn block_all() {
    // SAFETY: the set is filled before it is used.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Sets both resource limits.
pub(crate) fn limit(resource: Number, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the limit outlives the call.
    check(unsafe { libc::setrlimit(resource as _, &raw const limit) }.into()).map(drop)
}

/// Sets the mask of permission bits.
pub(crate) fn umask(mask: u32) {
    // SAFETY: cannot fail.
    unsafe { libc::umask(mask) };
}

/// Stays on one CPU.
pub(crate) fn one_cpu(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is plain data, set before it is used.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    check(result.into()).map(drop)
}

/// A pair of ends of a new terminal: descriptors of the master and the peer.
pub(crate) fn terminal() -> io::Result<(i32, i32)> {
    let (mut master, mut peer) = (-1, -1);
    // SAFETY: both outlive the call; nothing else is asked for.
    let result = unsafe {
        libc::openpty(
            &raw mut master,
            &raw mut peer,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
    check(result.into()).map(|_| (master, peer))
}

/// Sets `SECBIT_NO_SETUID_FIXUP`, or no secure bit.
pub(crate) fn secure_bits(set: bool) -> io::Result<()> {
    const NO_SETUID_FIXUP: libc::c_ulong = 1 << 2;
    let bits = if set { NO_SETUID_FIXUP } else { 0 };
    // SAFETY: no pointer is passed.
    check(unsafe { libc::prctl(libc::PR_SET_SECUREBITS, bits, 0, 0, 0) }.into()).map(drop)
}
