//! The table of system calls: name, number on each architecture, and what the
//! default policy says to it. Everything that names or numbers a call reads
//! it here.
//!
//! Sorted by name. The kernel's numbers never change once given, see
//! `arch/x86/entry/syscalls/syscall_64.tbl` and `scripts/syscall.tbl`; the
//! list ends with Linux 6.18. What the default allows, and with which
//! capability, is what Docker publishes of its profile, with the differences
//! that `jailrun.toml(5)` lists.

use super::Arch;
use crate::names::{self, capability_bit as cap};

/// What the default policy says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Allowed.
    Allow,
    /// Refused.
    Refuse,
    /// Answered as by a kernel that does not have it.
    Missing,
    /// Allowed with one of these capabilities, refused without.
    Needs(u64),
    /// clone(2): without namespaces, unless CAP_SYS_ADMIN is kept.
    Clone,
    /// clone3(2): its flags are behind a pointer, which no filter can follow.
    /// Without CAP_SYS_ADMIN it is missing, and the C library uses clone(2).
    Clone3,
    /// A socket, of few families.
    Family,
    /// personality(2), of few kinds.
    Personality,
    /// ioctl(2), but for typing into a terminal.
    Terminal,
}

/// One system call.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name, as in the manual.
    pub name: &'static str,
    x86_64: u16,
    aarch64: u16,
    /// The default policy.
    pub class: Class,
}

impl Row {
    /// Its number on an architecture that has it.
    pub fn number(&self, arch: Arch) -> Option<u16> {
        let number = match arch {
            Arch::X86_64 => self.x86_64,
            Arch::Aarch64 => self.aarch64,
        };
        (number != NONE).then_some(number)
    }
}

/// One more than the largest number in the table, on any architecture.
pub const LIMIT: usize = 470;

/// The row of a name.
pub fn find(name: &str) -> Option<&'static Row> {
    ROWS.binary_search_by(|row| row.name.cmp(name)).ok().map(|index| &ROWS[index])
}

/// The name of a number.
pub fn name(arch: Arch, number: u32) -> Option<&'static str> {
    let number = u16::try_from(number).ok()?;
    ROWS.iter().find(|row| row.number(arch) == Some(number)).map(|row| row.name)
}

const NONE: u16 = u16::MAX;
const ALLOW: Class = Class::Allow;
const REFUSE: Class = Class::Refuse;
const DAC_READ_SEARCH: u64 = cap(2);
const SYS_MODULE: u64 = cap(16);
const SYS_RAWIO: u64 = cap(17);
const SYS_CHROOT: u64 = names::CAP_SYS_CHROOT;
const SYS_PTRACE: u64 = names::CAP_SYS_PTRACE;
const SYS_PACCT: u64 = cap(20);
const SYS_ADMIN: u64 = names::CAP_SYS_ADMIN;
const SYS_BOOT: u64 = cap(22);
const SYS_NICE: u64 = cap(23);
const SYS_TIME: u64 = cap(25);
const SYS_TTY_CONFIG: u64 = cap(26);
const SYSLOG: u64 = cap(34);
const PERFMON: u64 = cap(38);
const BPF: u64 = cap(39);

/// The capabilities that the default policy looks at.
pub const RELEVANT: u64 = DAC_READ_SEARCH
    | SYS_MODULE
    | SYS_RAWIO
    | SYS_CHROOT
    | SYS_PTRACE
    | SYS_PACCT
    | SYS_ADMIN
    | SYS_BOOT
    | SYS_NICE
    | SYS_TIME
    | SYS_TTY_CONFIG
    | SYSLOG
    | PERFMON
    | BPF;

const fn row(name: &'static str, x86_64: u16, aarch64: u16, class: Class) -> Row {
    Row { name, x86_64, aarch64, class }
}

/// Every call, sorted by name.
#[rustfmt::skip]
pub static ROWS: &[Row] = &[
    row("_sysctl", 156, NONE, REFUSE),
    row("accept", 43, 202, ALLOW),
    row("accept4", 288, 242, ALLOW),
    row("access", 21, NONE, ALLOW),
    row("acct", 163, 89, Class::Needs(SYS_PACCT)),
    row("add_key", 248, 217, REFUSE),
    row("adjtimex", 159, 171, ALLOW),
    row("afs_syscall", 183, NONE, REFUSE),
    row("alarm", 37, NONE, ALLOW),
    row("arch_prctl", 158, NONE, ALLOW),
    row("bind", 49, 200, ALLOW),
    row("bpf", 321, 280, Class::Needs(SYS_ADMIN | BPF)),
    row("brk", 12, 214, ALLOW),
    row("cachestat", 451, 451, ALLOW),
    row("capget", 125, 90, ALLOW),
    row("capset", 126, 91, ALLOW),
    row("chdir", 80, 49, ALLOW),
    row("chmod", 90, NONE, ALLOW),
    row("chown", 92, NONE, ALLOW),
    row("chroot", 161, 51, Class::Needs(SYS_CHROOT)),
    row("clock_adjtime", 305, 266, ALLOW),
    row("clock_getres", 229, 114, ALLOW),
    row("clock_gettime", 228, 113, ALLOW),
    row("clock_nanosleep", 230, 115, ALLOW),
    row("clock_settime", 227, 112, Class::Needs(SYS_TIME)),
    row("clone", 56, 220, Class::Clone),
    row("clone3", 435, 435, Class::Clone3),
    row("close", 3, 57, ALLOW),
    row("close_range", 436, 436, ALLOW),
    row("connect", 42, 203, ALLOW),
    row("copy_file_range", 326, 285, ALLOW),
    row("creat", 85, NONE, ALLOW),
    row("create_module", 174, NONE, REFUSE),
    row("delete_module", 176, 106, Class::Needs(SYS_MODULE)),
    row("dup", 32, 23, ALLOW),
    row("dup2", 33, NONE, ALLOW),
    row("dup3", 292, 24, ALLOW),
    row("epoll_create", 213, NONE, ALLOW),
    row("epoll_create1", 291, 20, ALLOW),
    row("epoll_ctl", 233, 21, ALLOW),
    row("epoll_ctl_old", 214, NONE, ALLOW),
    row("epoll_pwait", 281, 22, ALLOW),
    row("epoll_pwait2", 441, 441, ALLOW),
    row("epoll_wait", 232, NONE, ALLOW),
    row("epoll_wait_old", 215, NONE, ALLOW),
    row("eventfd", 284, NONE, ALLOW),
    row("eventfd2", 290, 19, ALLOW),
    row("execve", 59, 221, ALLOW),
    row("execveat", 322, 281, ALLOW),
    row("exit", 60, 93, ALLOW),
    row("exit_group", 231, 94, ALLOW),
    row("faccessat", 269, 48, ALLOW),
    row("faccessat2", 439, 439, ALLOW),
    row("fadvise64", 221, 223, ALLOW),
    row("fallocate", 285, 47, ALLOW),
    row("fanotify_init", 300, 262, Class::Needs(SYS_ADMIN)),
    row("fanotify_mark", 301, 263, ALLOW),
    row("fchdir", 81, 50, ALLOW),
    row("fchmod", 91, 52, ALLOW),
    row("fchmodat", 268, 53, ALLOW),
    row("fchmodat2", 452, 452, ALLOW),
    row("fchown", 93, 55, ALLOW),
    row("fchownat", 260, 54, ALLOW),
    row("fcntl", 72, 25, ALLOW),
    row("fdatasync", 75, 83, ALLOW),
    row("fgetxattr", 193, 10, ALLOW),
    row("file_getattr", 468, 468, Class::Missing),
    row("file_setattr", 469, 469, Class::Missing),
    row("finit_module", 313, 273, Class::Needs(SYS_MODULE)),
    row("flistxattr", 196, 13, ALLOW),
    row("flock", 73, 32, ALLOW),
    row("fork", 57, NONE, ALLOW),
    row("fremovexattr", 199, 16, ALLOW),
    row("fsconfig", 431, 431, Class::Needs(SYS_ADMIN)),
    row("fsetxattr", 190, 7, ALLOW),
    row("fsmount", 432, 432, Class::Needs(SYS_ADMIN)),
    row("fsopen", 430, 430, Class::Needs(SYS_ADMIN)),
    row("fspick", 433, 433, Class::Needs(SYS_ADMIN)),
    row("fstat", 5, 80, ALLOW),
    row("fstatfs", 138, 44, ALLOW),
    row("fsync", 74, 82, ALLOW),
    row("ftruncate", 77, 46, ALLOW),
    row("futex", 202, 98, ALLOW),
    row("futex_requeue", 456, 456, ALLOW),
    row("futex_wait", 455, 455, ALLOW),
    row("futex_waitv", 449, 449, ALLOW),
    row("futex_wake", 454, 454, ALLOW),
    row("futimesat", 261, NONE, ALLOW),
    row("get_kernel_syms", 177, NONE, REFUSE),
    row("get_mempolicy", 239, 236, Class::Needs(SYS_NICE)),
    row("get_robust_list", 274, 100, ALLOW),
    row("get_thread_area", 211, NONE, ALLOW),
    row("getcpu", 309, 168, ALLOW),
    row("getcwd", 79, 17, ALLOW),
    row("getdents", 78, NONE, ALLOW),
    row("getdents64", 217, 61, ALLOW),
    row("getegid", 108, 177, ALLOW),
    row("geteuid", 107, 175, ALLOW),
    row("getgid", 104, 176, ALLOW),
    row("getgroups", 115, 158, ALLOW),
    row("getitimer", 36, 102, ALLOW),
    row("getpeername", 52, 205, ALLOW),
    row("getpgid", 121, 155, ALLOW),
    row("getpgrp", 111, NONE, ALLOW),
    row("getpid", 39, 172, ALLOW),
    row("getpmsg", 181, NONE, REFUSE),
    row("getppid", 110, 173, ALLOW),
    row("getpriority", 140, 141, ALLOW),
    row("getrandom", 318, 278, ALLOW),
    row("getresgid", 120, 150, ALLOW),
    row("getresuid", 118, 148, ALLOW),
    row("getrlimit", 97, 163, ALLOW),
    row("getrusage", 98, 165, ALLOW),
    row("getsid", 124, 156, ALLOW),
    row("getsockname", 51, 204, ALLOW),
    row("getsockopt", 55, 209, ALLOW),
    row("gettid", 186, 178, ALLOW),
    row("gettimeofday", 96, 169, ALLOW),
    row("getuid", 102, 174, ALLOW),
    row("getxattr", 191, 8, ALLOW),
    row("getxattrat", 464, 464, ALLOW),
    row("init_module", 175, 105, Class::Needs(SYS_MODULE)),
    row("inotify_add_watch", 254, 27, ALLOW),
    row("inotify_init", 253, NONE, ALLOW),
    row("inotify_init1", 294, 26, ALLOW),
    row("inotify_rm_watch", 255, 28, ALLOW),
    row("io_cancel", 210, 3, ALLOW),
    row("io_destroy", 207, 1, ALLOW),
    row("io_getevents", 208, 4, ALLOW),
    row("io_pgetevents", 333, 292, ALLOW),
    row("io_setup", 206, 0, ALLOW),
    row("io_submit", 209, 2, ALLOW),
    row("io_uring_enter", 426, 426, Class::Missing),
    row("io_uring_register", 427, 427, Class::Missing),
    row("io_uring_setup", 425, 425, Class::Missing),
    row("ioctl", 16, 29, Class::Terminal),
    row("ioperm", 173, NONE, Class::Needs(SYS_RAWIO)),
    row("iopl", 172, NONE, Class::Needs(SYS_RAWIO)),
    row("ioprio_get", 252, 31, ALLOW),
    row("ioprio_set", 251, 30, ALLOW),
    row("kcmp", 312, 272, Class::Needs(SYS_PTRACE)),
    row("kexec_file_load", 320, 294, REFUSE),
    row("kexec_load", 246, 104, REFUSE),
    row("keyctl", 250, 219, REFUSE),
    row("kill", 62, 129, ALLOW),
    row("landlock_add_rule", 445, 445, ALLOW),
    row("landlock_create_ruleset", 444, 444, ALLOW),
    row("landlock_restrict_self", 446, 446, ALLOW),
    row("lchown", 94, NONE, ALLOW),
    row("lgetxattr", 192, 9, ALLOW),
    row("link", 86, NONE, ALLOW),
    row("linkat", 265, 37, ALLOW),
    row("listen", 50, 201, ALLOW),
    row("listmount", 458, 458, ALLOW),
    row("listxattr", 194, 11, ALLOW),
    row("listxattrat", 465, 465, ALLOW),
    row("llistxattr", 195, 12, ALLOW),
    row("lookup_dcookie", 212, 18, Class::Needs(SYS_ADMIN)),
    row("lremovexattr", 198, 15, ALLOW),
    row("lseek", 8, 62, ALLOW),
    row("lsetxattr", 189, 6, ALLOW),
    row("lsm_get_self_attr", 459, 459, Class::Needs(SYS_ADMIN)),
    row("lsm_list_modules", 461, 461, Class::Needs(SYS_ADMIN)),
    row("lsm_set_self_attr", 460, 460, Class::Needs(SYS_ADMIN)),
    row("lstat", 6, NONE, ALLOW),
    row("madvise", 28, 233, ALLOW),
    row("map_shadow_stack", 453, 453, ALLOW),
    row("mbind", 237, 235, Class::Needs(SYS_NICE)),
    row("membarrier", 324, 283, ALLOW),
    row("memfd_create", 319, 279, ALLOW),
    row("memfd_secret", 447, 447, ALLOW),
    row("migrate_pages", 256, 238, REFUSE),
    row("mincore", 27, 232, ALLOW),
    row("mkdir", 83, NONE, ALLOW),
    row("mkdirat", 258, 34, ALLOW),
    row("mknod", 133, NONE, ALLOW),
    row("mknodat", 259, 33, ALLOW),
    row("mlock", 149, 228, ALLOW),
    row("mlock2", 325, 284, ALLOW),
    row("mlockall", 151, 230, ALLOW),
    row("mmap", 9, 222, ALLOW),
    row("modify_ldt", 154, NONE, ALLOW),
    row("mount", 165, 40, Class::Needs(SYS_ADMIN)),
    row("mount_setattr", 442, 442, Class::Needs(SYS_ADMIN)),
    row("move_mount", 429, 429, Class::Needs(SYS_ADMIN)),
    row("move_pages", 279, 239, REFUSE),
    row("mprotect", 10, 226, ALLOW),
    row("mq_getsetattr", 245, 185, ALLOW),
    row("mq_notify", 244, 184, ALLOW),
    row("mq_open", 240, 180, ALLOW),
    row("mq_timedreceive", 243, 183, ALLOW),
    row("mq_timedsend", 242, 182, ALLOW),
    row("mq_unlink", 241, 181, ALLOW),
    row("mremap", 25, 216, ALLOW),
    row("mseal", 462, 462, ALLOW),
    row("msgctl", 71, 187, ALLOW),
    row("msgget", 68, 186, ALLOW),
    row("msgrcv", 70, 188, ALLOW),
    row("msgsnd", 69, 189, ALLOW),
    row("msync", 26, 227, ALLOW),
    row("munlock", 150, 229, ALLOW),
    row("munlockall", 152, 231, ALLOW),
    row("munmap", 11, 215, ALLOW),
    row("name_to_handle_at", 303, 264, ALLOW),
    row("nanosleep", 35, 101, ALLOW),
    row("newfstatat", 262, 79, ALLOW),
    row("nfsservctl", 180, 42, REFUSE),
    row("open", 2, NONE, ALLOW),
    row("open_by_handle_at", 304, 265, Class::Needs(DAC_READ_SEARCH)),
    row("open_tree", 428, 428, Class::Needs(SYS_ADMIN)),
    row("open_tree_attr", 467, 467, Class::Needs(SYS_ADMIN)),
    row("openat", 257, 56, ALLOW),
    row("openat2", 437, 437, ALLOW),
    row("pause", 34, NONE, ALLOW),
    row("perf_event_open", 298, 241, Class::Needs(SYS_ADMIN | PERFMON)),
    row("personality", 135, 92, Class::Personality),
    row("pidfd_getfd", 438, 438, Class::Needs(SYS_PTRACE)),
    row("pidfd_open", 434, 434, ALLOW),
    row("pidfd_send_signal", 424, 424, ALLOW),
    row("pipe", 22, NONE, ALLOW),
    row("pipe2", 293, 59, ALLOW),
    row("pivot_root", 155, 41, Class::Needs(SYS_ADMIN)),
    row("pkey_alloc", 330, 289, ALLOW),
    row("pkey_free", 331, 290, ALLOW),
    row("pkey_mprotect", 329, 288, ALLOW),
    row("poll", 7, NONE, ALLOW),
    row("ppoll", 271, 73, ALLOW),
    row("prctl", 157, 167, ALLOW),
    row("pread64", 17, 67, ALLOW),
    row("preadv", 295, 69, ALLOW),
    row("preadv2", 327, 286, ALLOW),
    row("prlimit64", 302, 261, ALLOW),
    row("process_madvise", 440, 440, Class::Needs(SYS_PTRACE)),
    row("process_mrelease", 448, 448, ALLOW),
    row("process_vm_readv", 310, 270, ALLOW),
    row("process_vm_writev", 311, 271, ALLOW),
    row("pselect6", 270, 72, ALLOW),
    row("ptrace", 101, 117, ALLOW),
    row("putpmsg", 182, NONE, REFUSE),
    row("pwrite64", 18, 68, ALLOW),
    row("pwritev", 296, 70, ALLOW),
    row("pwritev2", 328, 287, ALLOW),
    row("query_module", 178, NONE, REFUSE),
    row("quotactl", 179, 60, Class::Needs(SYS_ADMIN)),
    row("quotactl_fd", 443, 443, Class::Needs(SYS_ADMIN)),
    row("read", 0, 63, ALLOW),
    row("readahead", 187, 213, ALLOW),
    row("readlink", 89, NONE, ALLOW),
    row("readlinkat", 267, 78, ALLOW),
    row("readv", 19, 65, ALLOW),
    row("reboot", 169, 142, Class::Needs(SYS_BOOT)),
    row("recvfrom", 45, 207, ALLOW),
    row("recvmmsg", 299, 243, ALLOW),
    row("recvmsg", 47, 212, ALLOW),
    row("remap_file_pages", 216, 234, ALLOW),
    row("removexattr", 197, 14, ALLOW),
    row("removexattrat", 466, 466, ALLOW),
    row("rename", 82, NONE, ALLOW),
    row("renameat", 264, 38, ALLOW),
    row("renameat2", 316, 276, ALLOW),
    row("request_key", 249, 218, REFUSE),
    row("restart_syscall", 219, 128, ALLOW),
    row("rmdir", 84, NONE, ALLOW),
    row("rseq", 334, 293, ALLOW),
    row("rt_sigaction", 13, 134, ALLOW),
    row("rt_sigpending", 127, 136, ALLOW),
    row("rt_sigprocmask", 14, 135, ALLOW),
    row("rt_sigqueueinfo", 129, 138, ALLOW),
    row("rt_sigreturn", 15, 139, ALLOW),
    row("rt_sigsuspend", 130, 133, ALLOW),
    row("rt_sigtimedwait", 128, 137, ALLOW),
    row("rt_tgsigqueueinfo", 297, 240, ALLOW),
    row("sched_get_priority_max", 146, 125, ALLOW),
    row("sched_get_priority_min", 147, 126, ALLOW),
    row("sched_getaffinity", 204, 123, ALLOW),
    row("sched_getattr", 315, 275, ALLOW),
    row("sched_getparam", 143, 121, ALLOW),
    row("sched_getscheduler", 145, 120, ALLOW),
    row("sched_rr_get_interval", 148, 127, ALLOW),
    row("sched_setaffinity", 203, 122, ALLOW),
    row("sched_setattr", 314, 274, ALLOW),
    row("sched_setparam", 142, 118, ALLOW),
    row("sched_setscheduler", 144, 119, ALLOW),
    row("sched_yield", 24, 124, ALLOW),
    row("seccomp", 317, 277, ALLOW),
    row("security", 185, NONE, REFUSE),
    row("select", 23, NONE, ALLOW),
    row("semctl", 66, 191, ALLOW),
    row("semget", 64, 190, ALLOW),
    row("semop", 65, 193, ALLOW),
    row("semtimedop", 220, 192, ALLOW),
    row("sendfile", 40, 71, ALLOW),
    row("sendmmsg", 307, 269, ALLOW),
    row("sendmsg", 46, 211, ALLOW),
    row("sendto", 44, 206, ALLOW),
    row("set_mempolicy", 238, 237, Class::Needs(SYS_NICE)),
    row("set_mempolicy_home_node", 450, 450, Class::Needs(SYS_NICE)),
    row("set_robust_list", 273, 99, ALLOW),
    row("set_thread_area", 205, NONE, ALLOW),
    row("set_tid_address", 218, 96, ALLOW),
    row("setdomainname", 171, 162, Class::Needs(SYS_ADMIN)),
    row("setfsgid", 123, 152, ALLOW),
    row("setfsuid", 122, 151, ALLOW),
    row("setgid", 106, 144, ALLOW),
    row("setgroups", 116, 159, ALLOW),
    row("sethostname", 170, 161, Class::Needs(SYS_ADMIN)),
    row("setitimer", 38, 103, ALLOW),
    row("setns", 308, 268, Class::Needs(SYS_ADMIN)),
    row("setpgid", 109, 154, ALLOW),
    row("setpriority", 141, 140, ALLOW),
    row("setregid", 114, 143, ALLOW),
    row("setresgid", 119, 149, ALLOW),
    row("setresuid", 117, 147, ALLOW),
    row("setreuid", 113, 145, ALLOW),
    row("setrlimit", 160, 164, ALLOW),
    row("setsid", 112, 157, ALLOW),
    row("setsockopt", 54, 208, ALLOW),
    row("settimeofday", 164, 170, Class::Needs(SYS_TIME)),
    row("setuid", 105, 146, ALLOW),
    row("setxattr", 188, 5, ALLOW),
    row("setxattrat", 463, 463, ALLOW),
    row("shmat", 30, 196, ALLOW),
    row("shmctl", 31, 195, ALLOW),
    row("shmdt", 67, 197, ALLOW),
    row("shmget", 29, 194, ALLOW),
    row("shutdown", 48, 210, ALLOW),
    row("sigaltstack", 131, 132, ALLOW),
    row("signalfd", 282, NONE, ALLOW),
    row("signalfd4", 289, 74, ALLOW),
    row("socket", 41, 198, Class::Family),
    row("socketpair", 53, 199, Class::Family),
    row("splice", 275, 76, ALLOW),
    row("stat", 4, NONE, ALLOW),
    row("statfs", 137, 43, ALLOW),
    row("statmount", 457, 457, ALLOW),
    row("statx", 332, 291, ALLOW),
    row("swapoff", 168, 225, REFUSE),
    row("swapon", 167, 224, REFUSE),
    row("symlink", 88, NONE, ALLOW),
    row("symlinkat", 266, 36, ALLOW),
    row("sync", 162, 81, ALLOW),
    row("sync_file_range", 277, 84, ALLOW),
    row("syncfs", 306, 267, ALLOW),
    row("sysfs", 139, NONE, REFUSE),
    row("sysinfo", 99, 179, ALLOW),
    row("syslog", 103, 116, Class::Needs(SYS_ADMIN | SYSLOG)),
    row("tee", 276, 77, ALLOW),
    row("tgkill", 234, 131, ALLOW),
    row("time", 201, NONE, ALLOW),
    row("timer_create", 222, 107, ALLOW),
    row("timer_delete", 226, 111, ALLOW),
    row("timer_getoverrun", 225, 109, ALLOW),
    row("timer_gettime", 224, 108, ALLOW),
    row("timer_settime", 223, 110, ALLOW),
    row("timerfd_create", 283, 85, ALLOW),
    row("timerfd_gettime", 287, 87, ALLOW),
    row("timerfd_settime", 286, 86, ALLOW),
    row("times", 100, 153, ALLOW),
    row("tkill", 200, 130, ALLOW),
    row("truncate", 76, 45, ALLOW),
    row("tuxcall", 184, NONE, REFUSE),
    row("umask", 95, 166, ALLOW),
    row("umount2", 166, 39, Class::Needs(SYS_ADMIN)),
    row("uname", 63, 160, ALLOW),
    row("unlink", 87, NONE, ALLOW),
    row("unlinkat", 263, 35, ALLOW),
    row("unshare", 272, 97, Class::Needs(SYS_ADMIN)),
    row("uprobe", 336, NONE, ALLOW),
    row("uretprobe", 335, NONE, ALLOW),
    row("uselib", 134, NONE, REFUSE),
    row("userfaultfd", 323, 282, REFUSE),
    row("ustat", 136, NONE, REFUSE),
    row("utime", 132, NONE, ALLOW),
    row("utimensat", 280, 88, ALLOW),
    row("utimes", 235, NONE, ALLOW),
    row("vfork", 58, NONE, ALLOW),
    row("vhangup", 153, 58, Class::Needs(SYS_TTY_CONFIG)),
    row("vmsplice", 278, 75, ALLOW),
    row("vserver", 236, NONE, REFUSE),
    row("wait4", 61, 260, ALLOW),
    row("waitid", 247, 95, ALLOW),
    row("write", 1, 64, ALLOW),
    row("writev", 20, 66, ALLOW),
];
