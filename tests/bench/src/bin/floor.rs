//! The floor of the benchmark: the system calls of a launch, and nothing else.
//!
//! `floor [OPTION…] ROOT COMMAND` puts COMMAND into namespaces of its own with ROOT as its root
//! directory, /proc, /dev and /tmp mounted, no capability left to gain, and exits with its status.
//! It reads no file, checks nothing it does not have to, allocates nothing and starts without the
//! Rust runtime: what it takes is the kernel's own price, to which a launcher adds.
//!
//! ROOT must hold the directories `proc`, `dev` and `tmp`. The options add to it:
//!
//! - `--net`: a network namespace, with its loopback interface up.
//! - `--binds N SOURCE`: the files `0` to `N-1` of the directory SOURCE are bound, read-only, over
//!   the files of the same names in `binds` of ROOT.
//! - `--memory STAGE`: memory is laid over ROOT, for what the command writes.
//! - `--layers STAGE`: ROOT is the lower of two layers of a read-only root.
//! - `--masks`: files and directories of /proc are hidden and protected, and there are no core
//!   files.
//! - `--map`: a user namespace with 65,536 ids of its own, to which ROOT belongs.
//!
//! STAGE is a directory to mount something on meanwhile; with it, ROOT has to be an absolute path.
//! It runs as root, on a static build, on Linux 5.12 or newer.
#![cfg_attr(not(test), no_main)]

use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_ulong};
use std::{mem, ptr};

/// The exit status of a failure of this program, as opposed to one of the command.
const FAILED: c_int = 125;

const USAGE: &CStr = c"usage: floor [--net] [--binds N SOURCE] [--memory STAGE | --layers STAGE] [--masks] [--map] ROOT COMMAND\n";

/// The device nodes bound from the host: the path of each there, and below the jail's root.
const NODES: [(&CStr, &CStr); 6] = [
    (c"/dev/null", c"dev/null"),
    (c"/dev/zero", c"dev/zero"),
    (c"/dev/full", c"dev/full"),
    (c"/dev/random", c"dev/random"),
    (c"/dev/urandom", c"dev/urandom"),
    (c"/dev/tty", c"dev/tty"),
];

/// The links of /dev: what each points to, and its path below the jail's root.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"pts/ptmx", c"dev/ptmx"),
    (c"/proc/self/fd", c"dev/fd"),
    (c"/proc/self/fd/0", c"dev/stdin"),
    (c"/proc/self/fd/1", c"dev/stdout"),
    (c"/proc/self/fd/2", c"dev/stderr"),
];

/// The files of /proc that are hidden, and its directories that are protected, of those that a
/// machine has.
const HIDDEN: [&CStr; 9] = [
    c"proc/interrupts",
    c"proc/kallsyms",
    c"proc/key-users",
    c"proc/keys",
    c"proc/kpagecgroup",
    c"proc/kpagecount",
    c"proc/kpageflags",
    c"proc/timer_list",
    c"proc/vmallocinfo",
];
const PROTECTED: [&CStr; 4] = [c"proc/bus", c"proc/fs", c"proc/irq", c"proc/sys"];

/// The ids of `--map`, as the kernel takes them: the first inside, the first outside, how many.
const MAP: &CStr = c"0 2000000000 65536\n";

/// What the arguments ask for.
struct Request<'a> {
    net: bool,
    binds: Option<Binds<'a>>,
    stack: Option<Stack<'a>>,
    masks: bool,
    map: bool,
    root: &'a CStr,
    command: &'a CStr,
}

/// An overlay for a root, and the directory to put it up on.
enum Stack<'a> {
    /// With memory to write to.
    Memory(&'a CStr),
    /// Of two layers, neither of which is written to.
    Layers(&'a CStr),
}

/// The read-only binds: how many, and the directory that holds their sources.
struct Binds<'a> {
    count: c_uint,
    source: &'a CStr,
}

impl<'a> Request<'a> {
    fn parse(mut arguments: impl Iterator<Item = &'a CStr>) -> Option<Self> {
        let (mut net, mut masks, mut map) = (false, false, false);
        let (mut binds, mut stack) = (None, None);
        let root = loop {
            let argument = arguments.next()?;
            match argument.to_bytes() {
                b"--net" => net = true,
                b"--masks" => masks = true,
                b"--map" => map = true,
                b"--memory" => stack = Some(Stack::Memory(arguments.next()?)),
                b"--layers" => stack = Some(Stack::Layers(arguments.next()?)),
                b"--binds" => {
                    let count = arguments.next()?.to_str().ok()?.parse().ok()?;
                    binds = Some(Binds { count, source: arguments.next()? });
                }
                _ => break argument,
            }
        };
        let command = arguments.next()?;
        match arguments.next() {
            None => Some(Self { net, binds, stack, masks, map, root, command }),
            Some(_) => None,
        }
    }
}

/// Called by the C start-up code.
///
/// # Safety
///
/// `argv` holds `argc` C strings, and `argv` and `envp` end with a null pointer.
// SAFETY: no other `main` is linked, because of `no_main`, and this is a signature the C start-up
// code calls.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub unsafe extern "C" fn main(
    argc: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
) -> c_int {
    let arguments = (1..argc as usize).map(|index| {
        // SAFETY: the caller promises `argc` C strings, which live as long as the process.
        unsafe { CStr::from_ptr(*argv.add(index)) }
    });
    let Some(request) = Request::parse(arguments) else {
        // SAFETY: the length is that of the buffer.
        unsafe { libc::write(libc::STDERR_FILENO, USAGE.as_ptr().cast(), USAGE.count_bytes()) };
        return FAILED;
    };
    let channel = if request.map { channel() } else { [-1; 2] };
    match enter(&request) {
        Side::Jail => {
            let tree = if request.map {
                // The other end closes with the process outside, whatever it ends of.
                close(channel[0]);
                let tree = receive(channel[1]);
                become_root();
                tree
            } else {
                -1
            };
            set_up(&request, tree);
            exec(request.command, envp)
        }
        Side::Host { jail, pid } => {
            if request.map {
                send(channel[0], map_root(pid, request.root));
            }
            wait(jail)
        }
    }
}

/// Which of the two processes goes on, after [`enter`].
enum Side {
    Host { jail: c_int, pid: c_int },
    Jail,
}

/// Starts the process in the jail's namespaces; the one outside gets its pidfd.
fn enter(request: &Request) -> Side {
    let mut flags = libc::CLONE_NEWNS
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_PIDFD;
    if request.net {
        flags |= libc::CLONE_NEWNET;
    }
    if request.map {
        flags |= libc::CLONE_NEWUSER;
    }
    let mut jail: c_int = -1;
    // SAFETY: `clone_args` is plain numbers, for which zero means "not used".
    let mut arguments: libc::clone_args = unsafe { mem::zeroed() };
    arguments.flags = flags as _;
    arguments.pidfd = &raw mut jail as _;
    arguments.exit_signal = libc::SIGCHLD as _;
    // SAFETY: without CLONE_VM and with no stack given this is a fork, and the process has one
    // thread; the kernel writes the pidfd into `jail`, which outlives the call.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>())
    };
    match check(c"clone3", pid) {
        0 => Side::Jail,
        pid => Side::Host { jail, pid: pid as c_int },
    }
}

/// Waits for the jail and gives the exit status to pass on.
fn wait(jail: c_int) -> c_int {
    // SAFETY: `siginfo_t` is plain data that the kernel fills.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    // SAFETY: `info` outlives the call.
    let result =
        unsafe { libc::waitid(libc::P_PIDFD, jail as libc::id_t, &mut info, libc::WEXITED) };
    check(c"waitid", result.into());
    // SAFETY: waitid has filled in the fields of a SIGCHLD.
    let status = unsafe { info.si_status() };
    if info.si_code == libc::CLD_EXITED { status } else { 128 + status }
}

/// Makes the calls between the birth of the jail's process and its command. With `--map`, `tree` is
/// the root, which the process outside has opened.
fn set_up(request: &Request, tree: c_int) {
    prctl(c"PR_SET_PDEATHSIG", libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong);
    // SAFETY: takes no pointer.
    check(c"setsid", unsafe { libc::setsid() }.into());
    mount(None, c"/", None, libc::MS_REC | libc::MS_PRIVATE, None);
    if request.net {
        loopback_up();
    }

    match &request.stack {
        Some(stack) => mount_stack(stack, request.root),
        None => {
            // Another user than the host's root may not get to ROOT.
            let (tree, on) = match request.map {
                true => (tree, c"/tmp"),
                false => {
                    let recursive = libc::AT_RECURSIVE as c_uint;
                    (open_tree(libc::AT_FDCWD, request.root, recursive), request.root)
                }
            };
            let set = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
            mount_setattr(tree, libc::AT_RECURSIVE, set);
            move_mount(tree, libc::AT_FDCWD, on);
            // SAFETY: takes no pointer.
            check(c"fchdir", unsafe { libc::fchdir(tree) }.into());
        }
    }

    mount_api_file_systems();
    if request.masks {
        mask();
    }
    if let Some(binds) = &request.binds {
        bind_all(binds);
    }
    pivot();
    drop_privileges();
    // SAFETY: closes only descriptors that are not used any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, c_uint::MAX, 0) };
    check(c"close_range", result);
}

/// Two connected sockets.
fn channel() -> [c_int; 2] {
    let mut ends = [-1; 2];
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC;
    // SAFETY: the kernel writes two descriptors.
    let result = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) };
    check(c"socketpair", result.into());
    ends
}

/// Gives the process of the jail its ids, and opens the root for it as one that belongs to them.
fn map_root(pid: c_int, root: &CStr) -> c_int {
    let file = |name: &CStr, flags: c_int| {
        let mut path = [0u8; 64];
        // SAFETY: snprintf writes no more than the length it is given, with a zero at the end, and
        // the format takes an int and a C string.
        unsafe {
            libc::snprintf(
                path.as_mut_ptr().cast(),
                path.len(),
                c"/proc/%d/%s".as_ptr(),
                pid,
                name.as_ptr(),
            )
        };
        // SAFETY: snprintf has ended the path with a zero.
        let file = unsafe { libc::open(path.as_ptr().cast(), flags | libc::O_CLOEXEC) };
        check(c"open", file.into()) as c_int
    };
    for name in [c"uid_map", c"gid_map"] {
        let file = file(name, libc::O_WRONLY);
        // SAFETY: the length is that of the text.
        let written = unsafe { libc::write(file, MAP.as_ptr().cast(), MAP.count_bytes()) };
        check(c"write", written as c_long);
        close(file);
    }
    let users = file(c"ns/user", libc::O_RDONLY);
    let tree = open_tree(libc::AT_FDCWD, root, libc::AT_RECURSIVE as c_uint);
    set_attributes(
        tree,
        libc::AT_RECURSIVE,
        &libc::mount_attr {
            attr_set: libc::MOUNT_ATTR_IDMAP,
            attr_clr: 0,
            propagation: libc::MS_PRIVATE,
            userns_fd: users as u64,
        },
    );
    tree
}

/// The room for one descriptor in a message of a socket.
#[repr(C, align(8))]
struct Rights([u8; 24]);

/// Calls `transfer` with a message of one byte and one descriptor.
fn message(rights: &mut Rights, transfer: impl FnOnce(*mut libc::msghdr) -> isize) -> c_long {
    let mut byte = [0u8];
    let mut part = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    // SAFETY: `msghdr` is plain data; zeros are no address, no parts and no flags.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut rights.0).cast();
    message.msg_controllen = rights.0.len() as _;
    transfer(&raw mut message) as c_long
}

/// Closes a descriptor.
fn close(descriptor: c_int) {
    // SAFETY: nothing else uses the descriptor.
    check(c"close", unsafe { libc::close(descriptor) }.into());
}

/// Sends a descriptor.
fn send(socket: c_int, descriptor: c_int) {
    let mut rights = Rights([0; 24]);
    // SAFETY: the room holds the header of a part and one descriptor, and is aligned for both.
    unsafe {
        let header = (&raw mut rights.0).cast::<libc::cmsghdr>();
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        libc::CMSG_DATA(header).cast::<c_int>().write_unaligned(descriptor);
    }
    // SAFETY: all that the message points to outlives the call.
    let sent = message(&mut rights, |message| unsafe { libc::sendmsg(socket, message, 0) });
    check(c"sendmsg", sent);
}

/// Receives a descriptor.
fn receive(socket: c_int) -> c_int {
    let mut rights = Rights([0; 24]);
    // SAFETY: all that the message points to outlives the call.
    let received = message(&mut rights, |message| unsafe {
        libc::recvmsg(socket, message, libc::MSG_CMSG_CLOEXEC)
    });
    if check(c"recvmsg", received) == 0 {
        fail(c"recvmsg", c"nothing");
    }
    // SAFETY: the kernel has written the header of a part and one descriptor.
    unsafe { libc::CMSG_DATA((&raw const rights.0).cast()).cast::<c_int>().read_unaligned() }
}

/// Becomes root of the user namespace.
fn become_root() {
    // By their numbers: the C library would look for threads first.
    // SAFETY: none of them takes a pointer that is not null.
    unsafe {
        check(c"setgroups", libc::syscall(libc::SYS_setgroups, 0, ptr::null::<libc::gid_t>()));
        check(c"setresgid", libc::syscall(libc::SYS_setresgid, 0, 0, 0));
        check(c"setresuid", libc::syscall(libc::SYS_setresuid, 0, 0, 0));
    }
}

/// Mounts an overlay over the root, and makes it the current directory.
fn mount_stack(stack: &Stack, root: &CStr) {
    let (stage, directories, format) = match stack {
        Stack::Memory(stage) => {
            (*stage, [c"upper", c"work"], c"lowerdir=%s,upperdir=upper,workdir=work")
        }
        Stack::Layers(stage) => (*stage, [c"points", c"unused"], c"lowerdir=points:%s"),
    };
    mount(Some(c"tmpfs"), stage, Some(c"tmpfs"), 0, Some(c"mode=700"));
    // SAFETY: the path is a C string.
    check(c"chdir", unsafe { libc::chdir(stage.as_ptr()) }.into());
    for directory in directories.into_iter().chain([c"root"]) {
        // SAFETY: the path is a C string.
        check(c"mkdir", unsafe { libc::mkdir(directory.as_ptr(), 0o755) }.into());
    }
    let mut options = [0u8; 4096];
    // SAFETY: snprintf writes no more than the length it is given, with a zero at the end, and the
    // format takes a C string.
    unsafe {
        libc::snprintf(options.as_mut_ptr().cast(), options.len(), format.as_ptr(), root.as_ptr())
    };
    // SAFETY: snprintf has ended the options with a zero.
    let options = unsafe { CStr::from_ptr(options.as_ptr().cast()) };
    let flags = libc::MS_NOSUID | libc::MS_NODEV;
    mount(Some(c"overlay"), c"root", Some(c"overlay"), flags, Some(options));
    // SAFETY: the path is a C string.
    check(c"chdir", unsafe { libc::chdir(c"root".as_ptr()) }.into());
}

/// Hides and protects what `--masks` names, and lowers the limit of core files.
fn mask() {
    use libc::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY};

    let flags = libc::MS_RDONLY | libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    mount(Some(c"tmpfs"), c"proc/acpi", Some(c"tmpfs"), flags, Some(c"mode=555"));
    let cover = |source: &CStr, target: &CStr, set: u64| {
        let tree = open_tree(libc::AT_FDCWD, source, 0);
        mount_setattr(tree, 0, set);
        move_mount(tree, libc::AT_FDCWD, target);
        close(tree);
    };
    for target in HIDDEN {
        cover(c"/dev/null", target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC);
    }
    for target in PROTECTED {
        cover(target, target, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV);
    }
    let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit outlives the call.
    check(c"setrlimit", unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) }.into());
}

/// Mounts /proc, /dev and /tmp below the current directory.
fn mount_api_file_systems() {
    use libc::{MS_NODEV, MS_NOEXEC, MS_NOSUID};

    mount(Some(c"proc"), c"proc", Some(c"proc"), MS_NOSUID | MS_NODEV | MS_NOEXEC, None);

    mount(Some(c"tmpfs"), c"dev", Some(c"tmpfs"), MS_NOSUID | MS_NOEXEC, Some(c"mode=755"));
    for (node, target) in NODES {
        // SAFETY: the path is a C string.
        let result = unsafe { libc::mknod(target.as_ptr(), libc::S_IFREG | 0o644, 0) };
        check(c"mknod", result.into());
        mount(Some(node), target, None, libc::MS_BIND, None);
    }
    for (to, path) in LINKS {
        // SAFETY: both paths are C strings.
        check(c"symlink", unsafe { libc::symlink(to.as_ptr(), path.as_ptr()) }.into());
    }
    for directory in [c"dev/pts", c"dev/shm", c"dev/mqueue"] {
        // SAFETY: the path is a C string.
        check(c"mkdir", unsafe { libc::mkdir(directory.as_ptr(), 0o755) }.into());
    }
    let options = c"newinstance,ptmxmode=0666,mode=620";
    mount(Some(c"devpts"), c"dev/pts", Some(c"devpts"), MS_NOSUID | MS_NOEXEC, Some(options));
    mount(Some(c"tmpfs"), c"dev/shm", Some(c"tmpfs"), MS_NOSUID | MS_NODEV, Some(c"mode=1777"));
    mount(Some(c"mqueue"), c"dev/mqueue", Some(c"mqueue"), MS_NOSUID | MS_NODEV | MS_NOEXEC, None);

    mount(Some(c"tmpfs"), c"tmp", Some(c"tmpfs"), MS_NOSUID | MS_NODEV, Some(c"mode=1777"));
}

/// Binds each source over the file of the same name in `binds` of the current directory.
fn bind_all(binds: &Binds) {
    let sources = open_directory(binds.source);
    let targets = open_directory(c"binds");
    for number in 0..binds.count {
        // The digits of the largest number, and the final zero.
        let mut buffer = [0u8; 11];
        // SAFETY: snprintf writes no more than the length it is given, and the format takes one
        // unsigned int.
        unsafe { libc::snprintf(buffer.as_mut_ptr().cast(), buffer.len(), c"%u".as_ptr(), number) };
        // SAFETY: snprintf has ended the name with a zero.
        let name = unsafe { CStr::from_ptr(buffer.as_ptr().cast()) };

        let tree = open_tree(sources, name, 0);
        mount_setattr(
            tree,
            0,
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        );
        move_mount(tree, targets, name);
        close(tree);
    }
}

/// Makes the current directory the root, and detaches the old one.
fn pivot() {
    let dot = c".".as_ptr();
    // SAFETY: both paths are C strings.
    check(c"pivot_root", unsafe { libc::syscall(libc::SYS_pivot_root, dot, dot) });
    // SAFETY: the path is a C string.
    check(c"umount2", unsafe { libc::umount2(dot, libc::MNT_DETACH) }.into());
    // SAFETY: the path is a C string.
    check(c"chdir", unsafe { libc::chdir(c"/".as_ptr()) }.into());
}

/// Empties the bounding set, so that the command's capabilities are none, and forbids to gain
/// privileges by execve.
fn drop_privileges() {
    // The kernel tells the end of its list of capabilities by an EINVAL; asking for the last one
    // beforehand would take the reading of a file.
    for capability in 0.. {
        // SAFETY: takes no pointer.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability as c_ulong, 0, 0, 0) } == -1 {
            // SAFETY: the location of errno is valid for the life of the thread.
            if capability == 0 || unsafe { *libc::__errno_location() } != libc::EINVAL {
                fail(c"PR_CAPBSET_DROP", c"");
            }
            break;
        }
    }
    prctl(c"PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1);
}

/// Brings the loopback interface up; the kernel then gives it its address.
fn loopback_up() {
    // SAFETY: takes no pointer.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    check(c"socket", socket.into());
    // SAFETY: `ifreq` is plain data; zeros are an empty name and the numbers 0.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = libc::IFF_UP as _;
    // SAFETY: SIOCSIFFLAGS takes a pointer to an `ifreq`, with a name that ends with a zero.
    let result = unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &raw const request) };
    check(c"SIOCSIFFLAGS", result.into());
}

/// Becomes the command.
fn exec(command: &CStr, envp: *const *const c_char) -> c_int {
    let argv = [command.as_ptr(), ptr::null()];
    // SAFETY: the path is a C string, and `argv` and `envp` are lists of C strings that end with a
    // null pointer.
    unsafe { libc::execve(command.as_ptr(), argv.as_ptr(), envp) };
    fail(c"execve", command)
}

/// `mount(2)`; the target is relative to the current directory.
fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: c_ulong,
    options: Option<&CStr>,
) {
    let pointer = |text: Option<&CStr>| text.map_or(ptr::null(), CStr::as_ptr);
    // SAFETY: all pointers are C strings, or null where mount(2) allows it.
    let result = unsafe {
        libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(options).cast())
    };
    if result == -1 {
        fail(c"mount", target);
    }
}

/// `open_tree(2)`: a detached copy of the mount at a path, as a descriptor closed on exec.
fn open_tree(directory: c_int, path: &CStr, flags: c_uint) -> c_int {
    let flags = flags | libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a C string.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) };
    check(c"open_tree", tree) as c_int
}

/// `mount_setattr(2)` on the mount of a descriptor.
fn mount_setattr(tree: c_int, flags: c_int, set: u64) {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: 0, userns_fd: 0 };
    set_attributes(tree, flags, &attributes);
}

/// `mount_setattr(2)` with all that it takes.
fn set_attributes(tree: c_int, flags: c_int, attributes: &libc::mount_attr) {
    // SAFETY: the path is a C string, and the size is that of the attributes.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree,
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    check(c"mount_setattr", result);
}

/// `move_mount(2)`: attaches a detached mount at a path.
fn move_mount(tree: c_int, directory: c_int, path: &CStr) {
    // SAFETY: both paths are C strings.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree,
            c"".as_ptr(),
            directory,
            path.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(c"move_mount", result);
}

/// Opens a directory, only to look up names in it.
fn open_directory(path: &CStr) -> c_int {
    // SAFETY: the path is a C string.
    let directory =
        unsafe { libc::open(path.as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    check(c"open", directory.into());
    directory
}

/// `prctl(2)` with one number as its argument.
fn prctl(call: &CStr, option: c_int, value: c_ulong) {
    // SAFETY: the options used here take a number, not a pointer.
    check(call, unsafe { libc::prctl(option, value, 0, 0, 0) }.into());
}

/// Passes on the result of a call, or ends the process when it failed.
fn check(call: &CStr, result: c_long) -> c_long {
    if result == -1 { fail(call, c"") } else { result }
}

/// Says which call failed, on what and why, and ends the process.
fn fail(call: &CStr, argument: &CStr) -> ! {
    let mut text = [0u8; 256];
    // SAFETY: snprintf writes no more than the length it is given, with a zero at the end, and the
    // format takes two C strings; perror takes what it has written.
    unsafe {
        libc::snprintf(
            text.as_mut_ptr().cast(),
            text.len(),
            c"floor: %s(%s)".as_ptr(),
            call.as_ptr(),
            argument.as_ptr(),
        );
        libc::perror(text.as_ptr().cast());
    }
    // SAFETY: ends the process without the handlers of exit(3), of which there are none.
    unsafe { libc::_exit(FAILED) }
}
