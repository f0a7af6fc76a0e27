//! The system calls the standard library lacks, made safe to call. The
//! process has one thread, which the reasons below rely on.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, OsString};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::ptr;
use std::time::Duration;

use libc::{c_char, c_int, c_long, c_ulong, c_void, gid_t, pid_t, uid_t};

/// The type the C library gives to `RLIMIT_…`.
#[cfg(target_env = "gnu")]
pub type Resource = libc::__rlimit_resource_t;
#[cfg(not(target_env = "gnu"))]
pub type Resource = c_int;

/// The C convention: a negative result means `errno` says why.
fn check<T: Copy + Default + PartialOrd>(result: T) -> io::Result<T> {
    if result < T::default() { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn from_c_chars(chars: &[c_char]) -> String {
    let bytes: Vec<u8> = chars.iter().map(|it| *it as u8).take_while(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

// Identity

pub struct HostNames {
    pub host: String,
    pub domain: String,
}

pub fn host_names() -> io::Result<HostNames> {
    let mut names = MaybeUninit::<libc::utsname>::uninit();
    // SAFETY: uname fills the structure it is given.
    check(unsafe { libc::uname(names.as_mut_ptr()) })?;
    // SAFETY: uname succeeded, so the structure is filled.
    let names = unsafe { names.assume_init() };
    Ok(HostNames { host: from_c_chars(&names.nodename), domain: from_c_chars(&names.domainname) })
}

/// Real, effective, saved, filesystem.
pub fn user_ids() -> io::Result<[uid_t; 4]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: the three pointers are to live integers.
    check(unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) })?;
    // SAFETY: no memory is involved; an impossible id changes nothing and the
    // call returns the present one, whose sign bit is part of the number.
    let filesystem = unsafe { libc::setfsuid(uid_t::MAX) }.cast_unsigned();
    Ok([real, effective, saved, filesystem])
}

/// Real, effective, saved, filesystem.
pub fn group_ids() -> io::Result<[gid_t; 4]> {
    let [mut real, mut effective, mut saved] = [0; 3];
    // SAFETY: the three pointers are to live integers.
    check(unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) })?;
    // SAFETY: as in `user_ids`.
    let filesystem = unsafe { libc::setfsgid(gid_t::MAX) }.cast_unsigned();
    Ok([real, effective, saved, filesystem])
}

pub fn supplementary_groups() -> io::Result<Vec<gid_t>> {
    // SAFETY: with a size of zero the call only counts.
    let count = check(unsafe { libc::getgroups(0, ptr::null_mut()) })?;
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    // SAFETY: the vector holds `count` elements.
    check(unsafe { libc::getgroups(count, groups.as_mut_ptr()) })?;
    Ok(groups)
}

pub fn is_session_leader() -> io::Result<bool> {
    // SAFETY: no memory is involved.
    let (session, process) = unsafe { (libc::getsid(0), libc::getpid()) };
    Ok(check(session)? == process)
}

// Attributes

/// A `PR_GET_…` request whose answer is the result of the call.
pub fn prctl_get(request: c_int) -> io::Result<c_int> {
    // SAFETY: requests of this kind take no pointer, and unused arguments must
    // be zero.
    check(unsafe { libc::prctl(request, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong, 0 as c_ulong) })
}

pub fn parent_death_signal() -> io::Result<c_int> {
    let mut signal: c_int = 0;
    // SAFETY: this request stores one integer where its argument points.
    check(unsafe { libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut signal) })?;
    Ok(signal)
}

/// Soft and hard.
pub fn resource_limit(resource: Resource) -> io::Result<[libc::rlim_t; 2]> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live structure.
    check(unsafe { libc::getrlimit(resource, &raw mut limit) })?;
    Ok([limit.rlim_cur, limit.rlim_max])
}

/// Reading it means setting it; it is put back at once.
pub fn umask() -> libc::mode_t {
    // SAFETY: no memory is involved, and no other thread creates files between.
    unsafe {
        let mask = libc::umask(0);
        libc::umask(mask);
        mask
    }
}

/// The system call rather than getpriority(3): it answers `20 - nice`, which
/// leaves negative numbers to errors.
pub fn nice() -> io::Result<c_long> {
    // SAFETY: no memory is involved.
    let answer = check(unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) })?;
    Ok(20 - answer)
}

pub fn affinity() -> io::Result<Vec<usize>> {
    // SAFETY: all zeroes is the empty set.
    let mut cpus: libc::cpu_set_t = unsafe { mem::zeroed() };
    let size = mem::size_of_val(&cpus);
    // SAFETY: the set is live and `size` bytes long.
    check(unsafe { libc::sched_getaffinity(0, size, &raw mut cpus) })?;
    // SAFETY: every index is below the number of bits of the set.
    Ok((0..size * 8).filter(|cpu| unsafe { libc::CPU_ISSET(*cpu, &cpus) }).collect())
}

/// The system call rather than getcwd(3), which turns a directory outside the
/// root, `(unreachable)/…`, into an error.
pub fn working_directory() -> io::Result<OsString> {
    let mut path = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the buffer is live and of the given length.
    let length = check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) })?;
    path.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok(OsString::from_vec(path))
}

pub fn is_open(descriptor: c_int) -> bool {
    // SAFETY: no memory is involved, and a number that is not open is refused.
    unsafe { libc::fcntl(descriptor, libc::F_GETFD) >= 0 }
}

/// Each address of each interface: its name, and whether it is up. The C
/// library also lists the interfaces without an address, and needs no `/proc`.
pub fn interfaces() -> io::Result<Vec<(String, bool)>> {
    let mut first = ptr::null_mut();
    // SAFETY: the pointer is to a live pointer, which receives a list.
    check(unsafe { libc::getifaddrs(&raw mut first) })?;
    let mut found = Vec::new();
    let mut next: *const libc::ifaddrs = first;
    // SAFETY: the entries and the names in them are valid until the list is
    // freed, and the last entry's link is null.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: as above; a name is always there and terminated.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) };
        let up = entry.ifa_flags & libc::IFF_UP.cast_unsigned() != 0;
        found.push((name.to_string_lossy().into_owned(), up));
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs and nothing points into it now.
    unsafe { libc::freeifaddrs(first) };
    Ok(found)
}

pub fn cpu_time() -> io::Result<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live structure.
    check(unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) })?;
    Ok(Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

// Terminals

pub fn terminal_name(descriptor: c_int) -> io::Result<String> {
    let mut name = [0; libc::PATH_MAX as usize];
    // SAFETY: the buffer is live and of the given length.
    match unsafe { libc::ttyname_r(descriptor, name.as_mut_ptr(), name.len()) } {
        0 => Ok(from_c_chars(&name)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

pub fn window_size(descriptor: c_int) -> io::Result<libc::winsize> {
    // SAFETY: the structure is made of integers, for which zero is valid.
    let mut size: libc::winsize = unsafe { mem::zeroed() };
    // SAFETY: this request fills the structure its argument points to.
    check(unsafe { libc::ioctl(descriptor, libc::TIOCGWINSZ, &raw mut size) })?;
    Ok(size)
}

/// Fails unless the descriptor is the controlling terminal.
pub fn terminal_session(descriptor: c_int) -> io::Result<pid_t> {
    // SAFETY: no memory of ours is involved.
    check(unsafe { libc::tcgetsid(descriptor) })
}

pub fn is_foreground(descriptor: c_int) -> io::Result<bool> {
    // SAFETY: no memory of ours is involved.
    let (foreground, own) = unsafe { (libc::tcgetpgrp(descriptor), libc::getpgrp()) };
    Ok(check(foreground)? == own)
}

/// Types into the terminal on standard input. The system call rather than
/// ioctl(3), which may cut the request to 32 bits.
pub fn type_into_terminal(byte: u8, junk: c_ulong) -> io::Result<()> {
    let request = libc::TIOCSTI as c_ulong | junk;
    // SAFETY: TIOCSTI reads one byte where its argument points; the kernel
    // ignores the upper half of the request.
    check(unsafe { libc::syscall(libc::SYS_ioctl, libc::STDIN_FILENO, request, &raw const byte) })?;
    Ok(())
}

/// Any system call. What it does to this process is the caller's affair: the
/// attempts that tests make are of calls that fail, or return a descriptor.
pub fn call(number: c_long, it: [u64; 6]) -> io::Result<()> {
    // SAFETY: the arguments are the test's; none that it passes is an address.
    check(unsafe { libc::syscall(number, it[0], it[1], it[2], it[3], it[4], it[5]) })?;
    Ok(())
}

/// A system call by `int 0x80`, whose numbers are those of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub fn call32(number: u32) -> io::Result<()> {
    let result: i32;
    // SAFETY: the entry changes rax alone, and r8 to r11 on old kernels; the
    // calls that tests make have no arguments.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") number => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    match result {
        ..0 => Err(io::Error::from_raw_os_error(-result)),
        _ => Ok(()),
    }
}

/// There is no such entry.
#[cfg(not(target_arch = "x86_64"))]
pub fn call32(_: u32) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

/// Closes the standard streams.
pub fn close_streams() -> io::Result<()> {
    for descriptor in 0..3 {
        // SAFETY: nothing else in this program owns them, and what is opened
        // later may have their numbers.
        check(unsafe { libc::close(descriptor) })?;
    }
    Ok(())
}

// Processes and signals

/// The child's number in the parent, nothing in the child.
pub fn fork() -> io::Result<Option<pid_t>> {
    // SAFETY: with one thread, no lock can be held by a thread the child lacks.
    let child = check(unsafe { libc::fork() })?;
    Ok((child != 0).then_some(child))
}

pub fn wait(child: pid_t) -> io::Result<ExitStatus> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    check(unsafe { libc::waitpid(child, &raw mut status, 0) })?;
    Ok(ExitStatus::from_raw(status))
}

pub fn raise(signal: c_int) -> io::Result<()> {
    // SAFETY: the process has no handlers, so none can run.
    check(unsafe { libc::kill(libc::getpid(), signal) })?;
    Ok(())
}

/// Lets every process trace this one where a kernel asks for that.
pub fn let_trace() {
    // SAFETY: the request takes integers; a kernel without it refuses it.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::MAX, 0, 0, 0) };
}

/// Traces a process without stopping it.
pub fn trace(pid: pid_t) -> io::Result<()> {
    let nothing = ptr::null_mut::<c_void>();
    // SAFETY: the request reads and writes no memory.
    let result = unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

pub fn ignore_signal(signal: c_int) -> io::Result<()> {
    // SAFETY: ignoring a signal installs no handler.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    pub fn new(signals: &[c_int]) -> io::Result<Self> {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigemptyset fills the set it is given.
        check(unsafe { libc::sigemptyset(set.as_mut_ptr()) })?;
        // SAFETY: sigemptyset succeeded, so the set is filled.
        let mut set = unsafe { set.assume_init() };
        for signal in signals {
            // SAFETY: the set is live and filled.
            check(unsafe { libc::sigaddset(&raw mut set, *signal) })?;
        }
        Ok(Self(set))
    }

    pub fn block(&self) -> io::Result<()> {
        // SAFETY: the set is live, and the former mask is not asked for.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const self.0, ptr::null_mut()) })?;
        Ok(())
    }

    /// Takes the next pending signal of the set, which must be blocked.
    pub fn wait(&self) -> io::Result<c_int> {
        let mut signal = 0;
        // SAFETY: both pointers are to live values.
        match unsafe { libc::sigwait(&raw const self.0, &raw mut signal) } {
            0 => Ok(signal),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }
}

// Mounts, namespaces, nodes

/// mount(2) with the filesystem type as its source, and without data.
fn mount(fstype: Option<&CStr>, target: &Path, flags: c_ulong) -> io::Result<()> {
    let target = c_path(target)?;
    let fstype = fstype.map_or(ptr::null(), CStr::as_ptr);
    let no_data: *const c_void = ptr::null();
    // SAFETY: each pointer is null, which mount allows, or to a string that
    // lives until the call returns.
    check(unsafe { libc::mount(fstype, target.as_ptr(), fstype, flags, no_data) })?;
    Ok(())
}

pub fn mount_tmpfs(target: &Path) -> io::Result<()> {
    mount(Some(c"tmpfs"), target, 0)
}

/// Clears the read-only flag of one mount and keeps those that may be locked:
/// dropping one of them would be refused for a reason of its own.
pub fn remount_writable(target: &Path) -> io::Result<()> {
    const KEPT: c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let flags = mount_flags(target)? & KEPT;
    mount(None, target, libc::MS_REMOUNT | libc::MS_BIND | flags)
}

/// The flags of statvfs, which for those of `KEPT` are the flags of mount(2).
fn mount_flags(path: &Path) -> io::Result<c_ulong> {
    let path = c_path(path)?;
    let mut filesystem = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is terminated, and statvfs fills the structure.
    check(unsafe { libc::statvfs(path.as_ptr(), filesystem.as_mut_ptr()) })?;
    // SAFETY: statvfs succeeded, so the structure is filled.
    Ok(unsafe { filesystem.assume_init() }.f_flag)
}

/// Lazily, so that a mount in use is no reason to refuse.
pub fn detach_mount(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: the path is terminated.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) })?;
    Ok(())
}

pub fn truncate(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is terminated.
    check(unsafe { libc::truncate(path.as_ptr(), 0) })?;
    Ok(())
}

/// kill(2) with signal 0.
pub fn probe_process(pid: libc::pid_t) -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::kill(pid, 0) })?;
    Ok(())
}

/// keyctl(2) `KEYCTL_GET_KEYRING_ID` of the session keyring.
pub fn session_keyring() -> io::Result<i64> {
    const KEYCTL_GET_KEYRING_ID: libc::c_long = 0;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    // SAFETY: no memory is involved.
    let id = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0_i64)
    };
    if id < 0 { Err(io::Error::last_os_error()) } else { Ok(id) }
}

pub fn unshare_user() -> io::Result<()> {
    // SAFETY: no memory is involved.
    check(unsafe { libc::unshare(libc::CLONE_NEWUSER) })?;
    Ok(())
}

pub fn mknod(path: &Path, kind: libc::mode_t, device: libc::dev_t) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the path is terminated.
    check(unsafe { libc::mknod(path.as_ptr(), kind | 0o600, device) })?;
    Ok(())
}

// The attempts of the battery

/// A system call by its number, with numbers as arguments.
pub fn raw(number: c_long, arguments: [c_long; 6]) -> io::Result<c_long> {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the callers pass zeroes, flags and other small numbers, and the
    // kernel refuses such addresses instead of writing there.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

/// getpid(2) through the entry of 32-bit programs.
#[cfg(target_arch = "x86_64")]
pub fn compat_getpid() -> io::Result<c_long> {
    let answer: i32;
    // SAFETY: number 20 of that table is getpid, which touches no memory; the
    // kernel changes r8 to r11 and keeps the rest.
    unsafe {
        std::arch::asm!(
            "int 0x80",
            inlateout("eax") 20_i32 => answer,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if answer < 0 { Err(io::Error::from_raw_os_error(-answer)) } else { Ok(answer.into()) }
}

/// Elsewhere there is no such entry.
#[cfg(not(target_arch = "x86_64"))]
pub fn compat_getpid() -> io::Result<c_long> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

pub fn open_at(directory: c_int, path: &Path) -> io::Result<OwnedFd> {
    let path = c_path(path)?;
    // SAFETY: the path is terminated; a number that is not open is refused.
    let fd = check(unsafe { libc::openat(directory, path.as_ptr(), libc::O_RDONLY) })?;
    // SAFETY: the call has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens the file of a path by its number in the file system, past every
/// mount point and root: name_to_handle_at(2) and open_by_handle_at(2).
pub fn open_by_handle(path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Handle {
        size: u32,
        kind: c_int,
        bytes: [u8; 128],
    }
    let mut handle = Handle { size: 128, kind: 0, bytes: [0; 128] };
    let mut mount: c_int = 0;
    let name = c_path(path)?;
    // SAFETY: the structure says how long it is, and both pointers are live.
    check(unsafe {
        libc::syscall(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            name.as_ptr(),
            &raw mut handle,
            &raw mut mount,
            0,
        )
    })?;
    let root = std::fs::File::open("/")?;
    // SAFETY: the kernel has filled the structure, and reads it.
    let fd = check(unsafe {
        libc::syscall(
            libc::SYS_open_by_handle_at,
            root.as_raw_fd(),
            &raw mut handle,
            libc::O_RDONLY,
        )
    })?;
    // SAFETY: the call has just made it, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(c_int::try_from(fd).unwrap_or(-1)) });
    Ok(())
}

/// mount(2) of a new file system of that type.
pub fn mount_new(fstype: &str, target: &Path, options: &str) -> io::Result<()> {
    let (fstype, options) = (CString::new(fstype)?, CString::new(options)?);
    let target = c_path(target)?;
    let data: *const c_void = options.as_ptr().cast();
    // SAFETY: each pointer is to a string that lives until the call returns.
    check(unsafe { libc::mount(fstype.as_ptr(), target.as_ptr(), fstype.as_ptr(), 0, data) })?;
    Ok(())
}

/// Starts a session keyring and puts a key of that name into it.
pub fn add_key(name: &str) -> io::Result<()> {
    const JOIN_SESSION_KEYRING: c_long = 1;
    const SESSION_KEYRING: c_long = -3;
    let name = CString::new(name)?;
    let no_name: *const c_char = ptr::null();
    // SAFETY: the request takes one string, which may be null.
    check(unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, no_name) })?;
    // SAFETY: the strings are terminated, and the payload is one byte long.
    check(unsafe {
        libc::syscall(
            libc::SYS_add_key,
            c"user".as_ptr(),
            name.as_ptr(),
            c"x".as_ptr(),
            1_usize,
            SESSION_KEYRING,
        )
    })?;
    Ok(())
}

/// Looks for a key in the session keyring.
pub fn find_key(name: &str) -> io::Result<()> {
    const SEARCH: c_long = 10;
    const SESSION_KEYRING: c_long = -3;
    let name = CString::new(name)?;
    // SAFETY: the strings are terminated.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            SEARCH,
            SESSION_KEYRING,
            c"user".as_ptr(),
            name.as_ptr(),
            0_usize,
        )
    })?;
    Ok(())
}

/// Opens a POSIX message queue that exists; `name` without its slash.
pub fn open_queue(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is terminated; without O_CREAT there is no more to it.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_mq_open, name.as_ptr(), libc::O_RDONLY, 0, 0) })?;
    // SAFETY: the call has just made it, and nobody else has it.
    drop(unsafe { OwnedFd::from_raw_fd(c_int::try_from(fd).unwrap_or(-1)) });
    Ok(())
}

pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of one string.
    check(unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// Copies what is selected in the console of standard input; TIOCLINUX.
pub fn console_selection(junk: c_ulong) -> io::Result<()> {
    let request = libc::TIOCLINUX as c_ulong | junk;
    // The subcode that asks for the shift state: it changes nothing.
    let subcode: u8 = 6;
    // SAFETY: the kernel reads and writes one byte where the argument points.
    check(unsafe {
        libc::syscall(libc::SYS_ioctl, libc::STDIN_FILENO, request, &raw const subcode)
    })?;
    Ok(())
}

/// Another pair of pseudo-terminals.
pub fn open_terminal() -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved.
    let fd = check(unsafe { libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY) })?;
    // SAFETY: the call has just made it, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
