//! The system calls that nix lacks, and the heap. The only module with `unsafe`.
//!
//! Each function is one call, takes and returns values, and decides nothing, but
//! for the [heap](Heap) and a few in [`xattr`] that build on the others.
#![allow(unsafe_code)]

mod heap;
pub mod xattr;

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::path::Path;

use nix::NixPath as _;
use nix::errno::Errno;

pub use self::heap::{Heap, Threads};
use crate::seccomp::Instruction;

/// Result of a system call.
pub type Result<T> = std::result::Result<T, Errno>;

/// `mount_attr` of mount_setattr(2), which libc lacks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// `MS_PRIVATE` and its siblings, or 0.
    pub propagation: u64,
    /// User namespace of an idmapped mount.
    pub userns_fd: u64,
}

/// Constants of the mount API that libc lacks; `linux/mount.h`.
#[allow(missing_docs)]
pub mod mount {
    pub const OPEN_TREE_CLONE: u32 = 1;
    pub const AT_RECURSIVE: u32 = 0x8000;
    pub const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x4;
    pub const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    pub const FSCONFIG_SET_FLAG: u32 = 0;
    pub const FSCONFIG_SET_STRING: u32 = 1;
    pub const FSCONFIG_CMD_CREATE: u32 = 6;
    pub const ATTR_RDONLY: u64 = 0x1;
    pub const ATTR_NOSUID: u64 = 0x2;
    pub const ATTR_NODEV: u64 = 0x4;
    pub const ATTR_NOEXEC: u64 = 0x8;
    pub const ATTR_ATIME: u64 = 0x70;
    pub const ATTR_NOATIME: u64 = 0x10;
    pub const ATTR_IDMAP: u64 = 0x10_0000;
}

fn c_path(path: &Path) -> Result<CString> {
    use std::os::unix::ffi::OsStrExt as _;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)
}

fn owned(raw: libc::c_long) -> Result<OwnedFd> {
    let raw = Errno::result(raw)?;
    let raw = RawFd::try_from(raw).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Which side of a clone the caller is on.
#[derive(Debug)]
pub enum Cloned {
    /// In the new process.
    Child,
    /// In the old one, with the child's pid and pidfd.
    Parent(libc::pid_t, OwnedFd),
}

/// clone3(2) without shared memory: a fork into new namespaces, with a pidfd.
/// The caller must be single-threaded.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    let mut pidfd: RawFd = -1;
    // libc has it as an int, which it does not fit.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let into_cgroup = if cgroup.is_some() { CLONE_INTO_CGROUP } else { 0 };
    let arguments = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64 | into_cgroup,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        exit_signal: libc::SIGCHLD as u64,
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: cgroup.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    // SAFETY: without CLONE_VM the child gets a copy of this single-threaded
    // process, as after fork(2); the arguments outlive the call.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    match Errno::result(pid)? {
        0 => Ok(Cloned::Child),
        pid => {
            let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ERANGE)?;
            // SAFETY: CLONE_PIDFD has stored a new descriptor there.
            Ok(Cloned::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
    }
}

/// pidfd_send_signal(2).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    // SAFETY: no pointer but a null one, which the call allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// pidfd_open(2).
pub fn pidfd_open(pid: u32) -> Result<OwnedFd> {
    // SAFETY: no pointer is passed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// open_tree(2) of a descriptor: a detached copy of the mount below it.
pub fn open_tree_clone(at: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd> {
    let flags = mount::OPEN_TREE_CLONE
        | libc::O_CLOEXEC as u32
        | libc::AT_EMPTY_PATH as u32
        | if recursive { mount::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a literal that outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), c"".as_ptr(), flags) })
}

/// A detached copy of the mount of one file; a link at the end of the path is
/// not followed.
pub fn open_tree_clone_at(path: &Path) -> Result<OwnedFd> {
    let flags = mount::OPEN_TREE_CLONE | (libc::O_CLOEXEC | libc::AT_SYMLINK_NOFOLLOW) as u32;
    // SAFETY: the path outlives the call.
    let result = path.with_nix_path(|path| unsafe {
        libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags)
    })?;
    owned(result)
}

/// move_mount(2) from a descriptor onto what has that name in a directory; a
/// link of that name is not followed.
pub fn move_mount_at(from: BorrowedFd<'_>, directory: BorrowedFd<'_>, name: &OsStr) -> Result<()> {
    // SAFETY: both paths outlive the call.
    let result = name.with_nix_path(|name| unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            directory.as_raw_fd(),
            name.as_ptr(),
            mount::MOVE_MOUNT_F_EMPTY_PATH,
        )
    })?;
    Errno::result(result).map(drop)
}

/// move_mount(2) from a descriptor onto a descriptor.
pub fn move_mount(from: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let flags = mount::MOVE_MOUNT_F_EMPTY_PATH | mount::MOVE_MOUNT_T_EMPTY_PATH;
    // SAFETY: both paths are literals that outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            from.as_raw_fd(),
            c"".as_ptr(),
            onto.as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    Errno::result(result).map(drop)
}

/// mount_setattr(2) of a descriptor.
pub fn mount_setattr(at: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as u32 | if recursive { mount::AT_RECURSIVE } else { 0 };
    // SAFETY: the structure has the size that is passed, and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            at.as_raw_fd(),
            c"".as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    Errno::result(result).map(drop)
}

/// fsopen(2).
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: the name outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
}

/// fsconfig(2) with a key and a string, or a flag without one.
pub fn fsconfig_set(fs: BorrowedFd<'_>, key: &CStr, value: Option<&CStr>) -> Result<()> {
    let command =
        if value.is_some() { mount::FSCONFIG_SET_STRING } else { mount::FSCONFIG_SET_FLAG };
    let value = value.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: key and value are NUL-terminated or null and outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key.as_ptr(), value, 0)
    };
    Errno::result(result).map(drop)
}

/// fsconfig(2) `FSCONFIG_CMD_CREATE`.
pub fn fsconfig_create(fs: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the command takes no key and no value.
    let result = unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            fs.as_raw_fd(),
            mount::FSCONFIG_CMD_CREATE,
            std::ptr::null::<libc::c_char>(),
            std::ptr::null::<libc::c_char>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// fsmount(2): a detached mount with `MOUNT_ATTR_*`.
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: u32 = 1;
    // SAFETY: no pointer is passed.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

/// openat2(2) with `RESOLVE_*`, always close-on-exec.
pub fn openat2(at: BorrowedFd<'_>, path: &Path, flags: i32, resolve: u64) -> Result<OwnedFd> {
    openat2_raw(at.as_raw_fd(), path, flags, 0, resolve)
}

/// openat2(2) of an absolute path.
pub fn open2(path: &Path, flags: i32, resolve: u64) -> Result<OwnedFd> {
    openat2_raw(libc::AT_FDCWD, path, flags, 0, resolve)
}

/// openat2(2) of an absolute path, with `O_CREAT` and the permission bits of a
/// new file.
pub fn create2(path: &Path, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    openat2_raw(libc::AT_FDCWD, path, flags | libc::O_CREAT, mode, resolve)
}

fn openat2_raw(at: RawFd, path: &Path, flags: i32, mode: u32, resolve: u64) -> Result<OwnedFd> {
    // SAFETY: open_how is plain data for which all zeroes is a valid value.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.mode = u64::from(mode);
    how.resolve = resolve;
    // SAFETY: path and structure outlive the call; the size is the structure's.
    let result = path.with_nix_path(|path| unsafe {
        libc::syscall(
            libc::SYS_openat2,
            at,
            path.as_ptr(),
            &raw const how,
            size_of::<libc::open_how>(),
        )
    })?;
    owned(result)
}

/// prctl(2) with up to two arguments.
pub fn prctl(option: i32, argument: u64, second: u64) -> Result<i32> {
    // SAFETY: the options used take integers, no pointers.
    Errno::result(unsafe { libc::prctl(option, argument, second, 0_u64, 0_u64) })
}

/// Loads a filter for system calls, seccomp(2).
pub fn load_filter(program: &[Instruction]) -> Result<()> {
    const { assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>()) };
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| Errno::EINVAL)?,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: an instruction is laid out as `struct sock_filter`; the kernel
    // reads the program, and copies it before it returns.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u64, &raw const program)
    };
    Errno::result(result).map(drop)
}

/// Sets effective, permitted and inheritable capabilities, capset(2).
pub fn capset(effective: u64, permitted: u64, inheritable: u64) -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let half = |set: u64, high: bool| (if high { set >> 32 } else { set & 0xffff_ffff }) as u32;
    let header: [u32; 2] = [VERSION_3, 0];
    let data: [[u32; 3]; 2] = [false, true]
        .map(|high| [half(effective, high), half(permitted, high), half(inheritable, high)]);
    // SAFETY: header and data have the layout of version 3 and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Effective capabilities of this process, capget(2).
pub fn effective_capabilities() -> Result<u64> {
    const VERSION_3: u32 = 0x2008_0522;
    let header: [u32; 2] = [VERSION_3, 0];
    let mut data = [[0_u32; 3]; 2];
    // SAFETY: header and data have the layout of version 3 and outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    Errno::result(result)?;
    Ok(u64::from(data[0][0]) | u64::from(data[1][0]) << 32)
}

/// The type of a file system, as `linux/magic.h` has it; the number's type is
/// another in each C library.
#[allow(clippy::unnecessary_cast, reason = "not with every C library")]
pub fn filesystem_magic(found: &nix::sys::statfs::Statfs) -> i64 {
    (found.filesystem_type().0 as i64) & 0xffff_ffff
}

/// Sets a resource limit of this process, prlimit(2); `u64::MAX` is none.
pub fn setrlimit(resource: u32, soft: u64, hard: u64) -> Result<()> {
    let limit: [u64; 2] = [soft, hard];
    // SAFETY: the limit has the layout of rlimit64 and outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, limit.as_ptr(), std::ptr::null::<u64>())
    };
    Errno::result(result).map(drop)
}

/// Soft and hard resource limit of this process, prlimit(2).
pub fn getrlimit(resource: u32) -> Result<(u64, u64)> {
    let mut limit = [0_u64; 2];
    // SAFETY: the limit has the layout of rlimit64 and outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, std::ptr::null::<u64>(), limit.as_mut_ptr())
    };
    Errno::result(result).map(|_| (limit[0], limit[1]))
}

/// close_range(2): closes, or only marks close-on-exec.
pub fn close_range(first: u32, last: u32, mark_only: bool) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    let flags = if mark_only { CLOSE_RANGE_CLOEXEC } else { 0 };
    // SAFETY: no pointer is passed; callers are about to exec or own no fd above.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) }).map(drop)
}

/// Overwrites the arguments and the environment that this program was started
/// with: what the kernel shows of it in `/proc/PID/cmdline` and `environ`.
/// Nothing may be looked up in the environment afterwards.
pub fn hide_arguments() -> Result<()> {
    unsafe extern "C" {
        /// The first argument, in place; both C libraries have it.
        static program_invocation_name: *mut u8;
    }
    // More than the kernel lets a program be started with: 3/4 of 8 MiB.
    const LIMIT: usize = 6 << 20;
    // SAFETY: the C library has set it before main, and nobody changes it.
    let start = unsafe { program_invocation_name };
    // SAFETY: getauxval takes an integer.
    let end = unsafe { libc::getauxval(libc::AT_EXECFN) } as usize;
    // The kernel puts the arguments, the environment and the program's path
    // next to each other on the stack, in this order.
    let length = end.checked_sub(start as usize).filter(|length| *length <= LIMIT);
    let length = length.ok_or(Errno::EFAULT)?;
    // SAFETY: these are the strings, which are writable and outlive main; they
    // are read by nobody any more.
    unsafe { start.write_bytes(0, length) };
    Ok(())
}

/// The secure bits of this process, capabilities(7).
pub fn securebits() -> Result<u32> {
    prctl(libc::PR_GET_SECUREBITS, 0, 0).map(i32::cast_unsigned)
}

/// Raw setgroups(2).
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: pointer and length describe the slice.
    let result = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    Errno::result(result).map(drop)
}

/// Raw setresuid, setresgid and setgroups: the C library's would also tell
/// other threads, of which there are none.
pub fn set_ids(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    if let Some(groups) = groups {
        set_groups(groups)?;
    }
    // SAFETY: no pointer is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointer is passed.
    Errno::result(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// A zeroed `bpf_attr`, longer than any kernel's: where the tail is zero, its
/// length does not matter.
type BpfAttr = [u64; 32];

fn bpf(command: libc::c_long, attr: &BpfAttr) -> Result<libc::c_long> {
    // SAFETY: the attribute outlives the call, and so do, by the two callers,
    // the buffers that it points to.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of::<BpfAttr>()) };
    Errno::result(result)
}

/// bpf(2) `BPF_PROG_LOAD` of a program that decides on devices.
pub fn load_device_program(program: &[u64]) -> Result<OwnedFd> {
    const BPF_PROG_LOAD: libc::c_long = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u64 = 15;
    let mut attr: BpfAttr = [0; 32];
    attr[0] = BPF_PROG_TYPE_CGROUP_DEVICE | (program.len() as u64) << 32;
    attr[1] = program.as_ptr() as u64;
    attr[2] = c"MIT".as_ptr() as u64;
    owned(bpf(BPF_PROG_LOAD, &attr)?)
}

/// bpf(2) `BPF_PROG_ATTACH` to a v2 group, beside the programs of others.
pub fn attach_device_program(program: BorrowedFd<'_>, group: BorrowedFd<'_>) -> Result<()> {
    const BPF_PROG_ATTACH: libc::c_long = 8;
    const BPF_CGROUP_DEVICE: u64 = 6;
    const BPF_F_ALLOW_MULTI: u64 = 2;
    let number = |fd: BorrowedFd<'_>| u64::from(fd.as_raw_fd().cast_unsigned());
    let mut attr: BpfAttr = [0; 32];
    attr[0] = number(group) | number(program) << 32;
    attr[1] = BPF_CGROUP_DEVICE | BPF_F_ALLOW_MULTI << 32;
    bpf(BPF_PROG_ATTACH, &attr).map(drop)
}

/// Version of Landlock's interface, landlock_create_ruleset(2).
pub fn landlock_abi() -> Result<u32> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    // SAFETY: with this flag there is neither a structure nor a length.
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<u64>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(Errno::result(version)?).map_err(|_| Errno::ERANGE)
}

/// setdomainname(2).
pub fn set_domain_name(name: &str) -> Result<()> {
    // SAFETY: pointer and length describe the string.
    let result = unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.len()) };
    Errno::result(result).map(drop)
}

/// keyctl(2) `KEYCTL_GET_KEYRING_ID`: the session keyring's number.
pub fn session_keyring() -> Result<i64> {
    const KEYCTL_GET_KEYRING_ID: libc::c_long = 0;
    const KEY_SPEC_SESSION_KEYRING: libc::c_long = -3;
    // SAFETY: no pointer is passed.
    let result = unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0_u64)
    };
    Errno::result(result)
}

/// keyctl(2) `KEYCTL_JOIN_SESSION_KEYRING` with no name: a new session keyring.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    let result = unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<libc::c_char>(),
        )
    };
    Errno::result(result).map(drop)
}

/// The raw getcwd(2): a directory outside the root is `(unreachable)…`, where
/// the C library would answer ENOENT.
pub fn getcwd_is_reachable() -> Result<bool> {
    let mut buffer = [0_u8; 4096];
    // SAFETY: pointer and length describe the buffer.
    let result = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(result).map(|_| buffer[0] == b'/')
}

/// Brings the loopback interface of this network namespace up; the kernel
/// gives it 127.0.0.1 and ::1 by itself.
pub fn loopback_up() -> Result<()> {
    // SAFETY: no pointer is passed.
    let socket = owned(i64::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }) as libc::c_long)?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call and names an interface.
    let result =
        unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) };
    Errno::result(result).map(drop)
}

/// Opens the other end of a pseudo-terminal by descriptor, without a path
/// (`TIOCGPTPEER`), after unlocking it.
pub fn open_terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the argument points to an int that outlives the call.
    let result =
        unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlocked) };
    Errno::result(result)?;
    // SAFETY: the argument is a set of open flags, not a pointer.
    let peer = unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER as _,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        )
    };
    owned(libc::c_long::from(peer))
}

/// Makes a terminal the controlling one of this session (`TIOCSCTTY`).
pub fn take_terminal(terminal: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the argument is an integer.
    Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as _, 0) }).map(drop)
}

/// Copies the window size from one terminal to another.
pub fn copy_window_size(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size) })?;
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ as _, &raw const size) })
        .map(drop)
}

/// Columns of a terminal.
pub fn columns(terminal: BorrowedFd<'_>) -> Result<u16> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ as _, &raw mut size)
    })?;
    Ok(size.ws_col)
}

/// Borrows a descriptor by number: one of the standard three, or one that the
/// caller of the program passed.
pub fn borrow(fd: RawFd) -> Result<BorrowedFd<'static>> {
    // SAFETY: F_GETFD takes no argument and tells whether the number is open.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    // SAFETY: just seen to be open; the numbers in question are never closed
    // before execve.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// dup2(2) without close-on-exec.
pub fn dup2(from: BorrowedFd<'_>, to: RawFd) -> Result<()> {
    // SAFETY: replacing a standard stream by number is the purpose.
    Errno::result(unsafe { libc::dup2(from.as_raw_fd(), to) }).map(drop)
}

/// Clears close-on-exec.
pub fn keep_on_exec(fd: RawFd) -> Result<()> {
    // SAFETY: F_SETFD takes an integer.
    Errno::result(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }).map(drop)
}

/// execve(2). Returns only on failure.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both lists are null-terminated arrays of NUL-terminated strings.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}

/// Ends this process at once, without running destructors.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Whether the kernel started this program with more privileges than its
/// caller has (`AT_SECURE`): set-user-id, set-group-id or file capabilities.
pub fn started_with_privileges() -> bool {
    // SAFETY: getauxval takes an integer.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Sends bytes with one descriptor over a unix socket.
pub fn send_fd(socket: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let fds = [fd.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &[std::io::IoSlice::new(b"t")],
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::MSG_NOSIGNAL,
        None,
    )
    .map(drop)
}

/// How many descriptors go into one message, `SCM_MAX_FD` of the kernel.
const MOST_FDS: usize = 253;

/// Sends descriptors over a unix socket, in as many messages as they take; one
/// at least, so that the receiver is told in any case.
pub fn send_fds(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    let mut rest = fds;
    loop {
        let (now, later) = rest.split_at(rest.len().min(MOST_FDS));
        let raw: Vec<RawFd> = now.iter().map(|fd| fd.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &[][..] } else { &rights[..] };
        let byte = [std::io::IoSlice::new(b"g")];
        sendmsg::<()>(socket.as_raw_fd(), &byte, control, MsgFlags::MSG_NOSIGNAL, None)?;
        rest = later;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// Receives as many descriptors as [`send_fds`] was given; `None` when the
/// other side is gone.
pub fn receive_fds(socket: BorrowedFd<'_>, count: usize) -> Result<Option<Vec<OwnedFd>>> {
    use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
    let mut fds = Vec::with_capacity(count);
    loop {
        let mut byte = [0_u8; 1];
        let mut buffer = [std::io::IoSliceMut::new(&mut byte)];
        let mut space = if count == 0 { Vec::new() } else { nix::cmsg_space!([RawFd; MOST_FDS]) };
        let space = (count > 0).then_some(&mut space[..]);
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message = match recvmsg::<()>(socket.as_raw_fd(), &mut buffer, space, flags) {
            Err(Errno::EINTR) => continue,
            message => message?,
        };
        if message.bytes == 0 {
            return Ok(None);
        }
        // A descriptor that does not fit into the table is lost without a word.
        if message.flags.contains(MsgFlags::MSG_CTRUNC) {
            return Err(Errno::EMFILE);
        }
        if count > 0 {
            for message in message.cmsgs()? {
                if let ControlMessageOwned::ScmRights(received) = message {
                    fds.extend(received.into_iter().map(own));
                }
            }
        }
        if fds.len() >= count {
            return Ok(Some(fds));
        }
    }
}

/// Takes ownership of a descriptor that was received over a socket.
pub fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has installed it for this process alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Gives every signal its default disposition, those too that the C library
/// keeps to itself. The two that cannot change stay as they are.
pub fn default_signals() {
    // The kernel's sigaction: handler, flags, restorer, mask. Zero is SIG_DFL.
    let action = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: the structure has the kernel's layout and outlives the call.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

/// Every signal: the C library keeps some of its own out of the sets it makes.
static EVERY_SIGNAL: u64 = !0;

/// Blocks every signal, rt_sigprocmask(2).
pub fn block_signals() -> Result<()> {
    // SAFETY: the set has the kernel's layout and outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const EVERY_SIGNAL,
            std::ptr::null::<u64>(),
            size_of::<u64>(),
        )
    };
    Errno::result(result).map(drop)
}

/// signalfd(2) of every signal.
pub fn every_signal() -> Result<OwnedFd> {
    // SAFETY: the set has the kernel's layout and outlives the call.
    owned(unsafe {
        libc::syscall(
            libc::SYS_signalfd4,
            -1,
            &raw const EVERY_SIGNAL,
            size_of::<u64>(),
            libc::SFD_CLOEXEC,
        )
    })
}

/// kill(2) with any signal: real-time signals too.
pub fn kill(pid: nix::unistd::Pid, signal: i32) -> Result<()> {
    // SAFETY: no pointer is passed.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its pid.
    pub pid: libc::pid_t,
    /// Its exit status, or 128 and the signal that ended it.
    pub status: i32,
}

/// waitid(2) for a child that has ended, of any signal: real-time signals too.
/// `None` with `WNOHANG` when there is none yet.
pub fn wait(kind: libc::idtype_t, id: u32, no_hang: bool) -> Result<Option<Exit>> {
    let flags = libc::WEXITED | if no_hang { libc::WNOHANG } else { 0 };
    // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the structure outlives the call.
    Errno::result(unsafe { libc::waitid(kind, id, &raw mut info, flags) })?;
    // SAFETY: waitid fills these fields, or leaves them zero with WNOHANG.
    let (pid, code) = unsafe { (info.si_pid(), info.si_status()) };
    if pid == 0 {
        return Ok(None);
    }
    let status = if info.si_code == libc::CLD_EXITED { code } else { 128 + code };
    Ok(Some(Exit { pid, status }))
}

/// setpriority(2) of this process.
pub fn set_nice(nice: i32) -> Result<()> {
    // SAFETY: no pointer is passed.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// getpriority(2) of this process.
pub fn nice() -> Result<i32> {
    // SAFETY: no pointer is passed.
    let result = unsafe { libc::syscall(libc::SYS_getpriority, libc::PRIO_PROCESS, 0) };
    // The system call itself counts from the other end, so that no value is negative.
    Errno::result(result).map(|above| 20 - above as i32)
}

/// Ignores a signal.
pub fn ignore_signal(signal: i32) -> Result<()> {
    // SAFETY: no handler is installed.
    if unsafe { libc::signal(signal, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(Errno::last());
    }
    Ok(())
}

/// Whether this process ignores a signal.
pub fn ignores_signal(signal: i32) -> Result<bool> {
    // SAFETY: sigaction is plain data for which all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: nothing is installed; the structure outlives the call.
    Errno::result(unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) })?;
    Ok(action.sa_sigaction == libc::SIG_IGN)
}

/// Gives a signal its default disposition.
pub fn default_signal(signal: i32) -> Result<()> {
    // SAFETY: no handler is installed.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(Errno::last());
    }
    Ok(())
}

/// A process that shares this one's memory until it executes a program or
/// ends; this one waits until then. clone(2) with `CLONE_VM | CLONE_VFORK`.
///
/// Copying the page tables of a process only to throw them away at its execve
/// is a large part of the price of a launch.
pub fn vfork(child: &mut dyn FnMut() -> i32) -> Result<nix::unistd::Pid> {
    extern "C" fn enter(argument: *mut libc::c_void) -> libc::c_int {
        let child = argument.cast::<&mut dyn FnMut() -> i32>();
        // SAFETY: the argument is the pointer given to clone below, to a value
        // of the parent, which is suspended while this runs.
        unsafe { (*child)() }
    }
    const SIZE: usize = 256 * 1024;
    // SAFETY: a fresh private mapping; the child's stack of its own, since it
    // would destroy the frames that the parent returns to.
    let stack = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK,
            -1,
            0,
        )
    };
    if stack == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let mut child: &mut dyn FnMut() -> i32 = child;
    // SAFETY: the stack grows down from its end, and lives until the parent
    // goes on, when the child has left this memory for good. There is no other
    // thread, so nothing else touches what the two share meanwhile.
    let pid = unsafe {
        libc::clone(
            enter,
            stack.cast::<u8>().add(SIZE).cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            (&raw mut child).cast(),
        )
    };
    // The stack stays mapped until this process ends, which gives it back for
    // less than a call.
    Errno::result(pid).map(nix::unistd::Pid::from_raw)
}

/// Sets the times of last access and modification of what a descriptor refers
/// to, an `O_PATH` one too; utimensat(2).
pub fn set_times(file: BorrowedFd<'_>, times: [libc::timespec; 2]) -> Result<()> {
    // SAFETY: the path is a literal; the times outlive the call.
    let result = unsafe {
        libc::utimensat(file.as_raw_fd(), c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH)
    };
    Errno::result(result).map(drop)
}

/// What a clock shows; clock_gettime(2).
pub fn clock(clock: libc::clockid_t) -> Result<std::time::Duration> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the structure.
    Errno::result(unsafe { libc::clock_gettime(clock, &raw mut now) })?;
    let (seconds, nanoseconds) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
    let negative = |_| Errno::ERANGE;
    Ok(std::time::Duration::new(seconds.map_err(negative)?, nanoseconds.map_err(negative)?))
}

/// Which namespace an open file of nsfs stands for, by its flag of clone(2);
/// `NS_GET_NSTYPE` of ioctl_ns(2).
pub fn namespace_type(file: BorrowedFd<'_>) -> Result<i32> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// Number of a loop device that nobody uses at this moment, made when there is
/// none; `LOOP_CTL_GET_FREE` of loop(4).
pub fn loop_get_free(control: BorrowedFd<'_>) -> Result<u32> {
    const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4c82;
    // SAFETY: the request takes no argument.
    let number =
        Errno::result(unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) })?;
    u32::try_from(number).map_err(|_| Errno::ERANGE)
}

/// Puts a part of a file behind a loop device, read-only, until its last user
/// has closed it; `LOOP_CONFIGURE` of loop(4). No `size` means up to its end.
pub fn loop_configure(
    device: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    block_size: u32,
    offset: u64,
    size: Option<u64>,
) -> Result<()> {
    const LOOP_CONFIGURE: libc::c_ulong = 0x4c0a;
    const LO_FLAGS_READ_ONLY: u32 = 1;
    const LO_FLAGS_AUTOCLEAR: u32 = 4;
    /// `loop_config` of `linux/loop.h` with its `loop_info64`.
    #[repr(C)]
    struct Configuration {
        fd: u32,
        block_size: u32,
        device: [u64; 3],
        offset: u64,
        size: u64,
        number: [u32; 3],
        flags: u32,
        names: [u8; 160],
        init: [u64; 2],
        reserved: [u64; 8],
    }
    let configuration = Configuration {
        fd: file.as_raw_fd() as u32,
        block_size,
        device: [0; 3],
        offset,
        size: size.unwrap_or(0),
        number: [0; 3],
        flags: LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR,
        names: [0; 160],
        init: [0; 2],
        reserved: [0; 8],
    };
    // SAFETY: the structure has the layout the request takes, and outlives it.
    let result =
        unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const configuration) };
    Errno::result(result).map(drop)
}
