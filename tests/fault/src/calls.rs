//! The system calls of a launch: names, and those errors of their manual pages
//! that can occur to anybody at any time. A call that is not here is a finding:
//! the table is kept complete.

use libc::{EINTR, EIO, EMFILE, ENOMEM, ENOSPC, EPERM};

/// Number, name, which argument is a path, and what the call may return.
type Known = (i64, &'static str, Option<usize>, &'static [i32]);

const CALLS: &[Known] = &[
    (libc::SYS_open, "open", Some(0), &[ENOMEM, EMFILE, EINTR]),
    (libc::SYS_openat, "openat", Some(1), &[ENOMEM, EMFILE, EINTR]),
    (libc::SYS_openat2, "openat2", Some(1), &[ENOMEM, EMFILE, EINTR]),
    (libc::SYS_creat, "creat", Some(0), &[ENOMEM, EMFILE, ENOSPC]),
    (libc::SYS_read, "read", None, &[EINTR, EIO]),
    (libc::SYS_pread64, "pread64", None, &[EINTR, EIO]),
    (libc::SYS_readv, "readv", None, &[EINTR, EIO]),
    (libc::SYS_write, "write", None, &[ENOSPC, EINTR, EPERM]),
    (libc::SYS_pwrite64, "pwrite64", None, &[ENOSPC, EINTR]),
    (libc::SYS_writev, "writev", None, &[ENOSPC, EINTR]),
    (libc::SYS_close, "close", None, &[EINTR]),
    (libc::SYS_stat, "stat", Some(0), &[ENOMEM]),
    (libc::SYS_lstat, "lstat", Some(0), &[ENOMEM]),
    (libc::SYS_fstat, "fstat", None, &[ENOMEM]),
    (libc::SYS_newfstatat, "newfstatat", Some(1), &[ENOMEM]),
    (libc::SYS_statx, "statx", Some(1), &[ENOMEM]),
    (libc::SYS_statfs, "statfs", Some(0), &[ENOMEM]),
    (libc::SYS_fstatfs, "fstatfs", None, &[ENOMEM]),
    (libc::SYS_access, "access", Some(0), &[ENOMEM]),
    (libc::SYS_faccessat, "faccessat", Some(1), &[ENOMEM]),
    (libc::SYS_faccessat2, "faccessat2", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_readlink, "readlink", Some(0), &[ENOMEM]),
    (libc::SYS_readlinkat, "readlinkat", Some(1), &[ENOMEM]),
    (libc::SYS_getdents64, "getdents64", None, &[ENOMEM]),
    (libc::SYS_getcwd, "getcwd", None, &[ENOMEM]),
    (libc::SYS_chdir, "chdir", Some(0), &[ENOMEM]),
    (libc::SYS_fchdir, "fchdir", None, &[ENOMEM]),
    (libc::SYS_mkdir, "mkdir", Some(0), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_mkdirat, "mkdirat", Some(1), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_mknodat, "mknodat", Some(1), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_symlinkat, "symlinkat", Some(2), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_linkat, "linkat", Some(3), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_rename, "rename", Some(1), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_renameat, "renameat", Some(3), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_renameat2, "renameat2", Some(3), &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_unlink, "unlink", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_rmdir, "rmdir", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_unlinkat, "unlinkat", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_chmod, "chmod", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_fchmod, "fchmod", None, &[EPERM]),
    (libc::SYS_fchmodat, "fchmodat", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_fchmodat2, "fchmodat2", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_chown, "chown", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_fchown, "fchown", None, &[EPERM]),
    (libc::SYS_fchownat, "fchownat", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_utimensat, "utimensat", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_truncate, "truncate", Some(0), &[EINTR, EPERM]),
    (libc::SYS_ftruncate, "ftruncate", None, &[EINTR, EPERM]),
    (libc::SYS_fallocate, "fallocate", None, &[EINTR, ENOSPC, EPERM]),
    (libc::SYS_fsync, "fsync", None, &[EINTR, ENOSPC]),
    (libc::SYS_fdatasync, "fdatasync", None, &[EINTR, ENOSPC]),
    (libc::SYS_syncfs, "syncfs", None, &[ENOSPC]),
    (libc::SYS_lseek, "lseek", None, &[]),
    (libc::SYS_fadvise64, "fadvise64", None, &[]),
    (libc::SYS_copy_file_range, "copy_file_range", None, &[ENOMEM, ENOSPC]),
    (libc::SYS_sendfile, "sendfile", None, &[ENOMEM, EINTR]),
    (libc::SYS_splice, "splice", None, &[ENOMEM]),
    (libc::SYS_getxattr, "getxattr", Some(0), &[ENOMEM]),
    (libc::SYS_lgetxattr, "lgetxattr", Some(0), &[ENOMEM]),
    (libc::SYS_fgetxattr, "fgetxattr", None, &[ENOMEM]),
    (libc::SYS_listxattr, "listxattr", Some(0), &[ENOMEM]),
    (libc::SYS_llistxattr, "llistxattr", Some(0), &[ENOMEM]),
    (libc::SYS_flistxattr, "flistxattr", None, &[ENOMEM]),
    (libc::SYS_setxattr, "setxattr", Some(0), &[ENOSPC, EPERM]),
    (libc::SYS_lsetxattr, "lsetxattr", Some(0), &[ENOSPC, EPERM]),
    (libc::SYS_fsetxattr, "fsetxattr", None, &[ENOSPC, EPERM]),
    (libc::SYS_removexattr, "removexattr", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_flock, "flock", None, &[EINTR]),
    (libc::SYS_fcntl, "fcntl", None, &[]),
    (libc::SYS_ioctl, "ioctl", None, &[EPERM, ENOMEM]),
    (libc::SYS_dup, "dup", None, &[EMFILE]),
    (libc::SYS_dup2, "dup2", None, &[EINTR]),
    (libc::SYS_dup3, "dup3", None, &[EINTR]),
    (libc::SYS_pipe2, "pipe2", None, &[EMFILE]),
    (libc::SYS_close_range, "close_range", None, &[EMFILE, ENOMEM]),
    (libc::SYS_poll, "poll", None, &[EINTR, ENOMEM]),
    (libc::SYS_ppoll, "ppoll", None, &[EINTR, ENOMEM]),
    (libc::SYS_socket, "socket", None, &[EMFILE, ENOMEM]),
    (libc::SYS_socketpair, "socketpair", None, &[EMFILE, ENOMEM]),
    (libc::SYS_sendmsg, "sendmsg", None, &[ENOMEM, EINTR]),
    (libc::SYS_sendto, "sendto", None, &[ENOMEM, EINTR]),
    (libc::SYS_recvmsg, "recvmsg", None, &[ENOMEM, EINTR]),
    (libc::SYS_recvfrom, "recvfrom", None, &[ENOMEM, EINTR]),
    (libc::SYS_connect, "connect", None, &[EPERM, EINTR]),
    (libc::SYS_bind, "bind", None, &[ENOMEM]),
    (libc::SYS_setsockopt, "setsockopt", None, &[ENOMEM]),
    (libc::SYS_getsockopt, "getsockopt", None, &[ENOMEM]),
    (libc::SYS_getsockname, "getsockname", None, &[ENOMEM]),
    (libc::SYS_signalfd4, "signalfd4", None, &[EMFILE, ENOMEM]),
    (libc::SYS_eventfd2, "eventfd2", None, &[EMFILE, ENOMEM]),
    (libc::SYS_epoll_create1, "epoll_create1", None, &[EMFILE, ENOMEM]),
    (libc::SYS_epoll_ctl, "epoll_ctl", None, &[ENOMEM, ENOSPC]),
    (libc::SYS_epoll_wait, "epoll_wait", None, &[EINTR]),
    (libc::SYS_epoll_pwait, "epoll_pwait", None, &[EINTR]),
    (libc::SYS_inotify_init1, "inotify_init1", None, &[EMFILE, ENOMEM]),
    (libc::SYS_inotify_add_watch, "inotify_add_watch", Some(1), &[ENOMEM, ENOSPC]),
    (libc::SYS_timerfd_create, "timerfd_create", None, &[EMFILE, ENOMEM]),
    (libc::SYS_timerfd_settime, "timerfd_settime", None, &[]),
    (libc::SYS_memfd_create, "memfd_create", None, &[EMFILE, ENOMEM]),
    (libc::SYS_clone, "clone", None, &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_clone3, "clone3", None, &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_fork, "fork", None, &[ENOMEM]),
    (libc::SYS_vfork, "vfork", None, &[ENOMEM]),
    (libc::SYS_execve, "execve", Some(0), &[ENOMEM, EPERM, EMFILE]),
    (libc::SYS_execveat, "execveat", Some(1), &[ENOMEM, EPERM, EMFILE]),
    (libc::SYS_wait4, "wait4", None, &[EINTR]),
    (libc::SYS_waitid, "waitid", None, &[EINTR]),
    (libc::SYS_kill, "kill", None, &[EPERM]),
    (libc::SYS_tgkill, "tgkill", None, &[EPERM]),
    (libc::SYS_pidfd_open, "pidfd_open", None, &[EMFILE, ENOMEM]),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", None, &[EPERM]),
    (libc::SYS_pidfd_getfd, "pidfd_getfd", None, &[EMFILE, EPERM]),
    (libc::SYS_unshare, "unshare", None, &[ENOMEM, ENOSPC, EPERM]),
    (libc::SYS_setns, "setns", None, &[ENOMEM, EPERM]),
    (libc::SYS_mount, "mount", Some(1), &[ENOMEM, EPERM]),
    (libc::SYS_umount2, "umount2", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_pivot_root, "pivot_root", Some(0), &[EPERM]),
    (libc::SYS_chroot, "chroot", Some(0), &[ENOMEM, EPERM]),
    (libc::SYS_open_tree, "open_tree", Some(1), &[ENOMEM, EMFILE, EPERM]),
    (467, "open_tree_attr", Some(1), &[ENOMEM, EMFILE, EPERM]),
    (libc::SYS_move_mount, "move_mount", None, &[ENOMEM, EPERM]),
    (libc::SYS_fsopen, "fsopen", None, &[ENOMEM, EMFILE, EPERM]),
    (libc::SYS_fspick, "fspick", None, &[ENOMEM, EMFILE, EPERM]),
    (libc::SYS_fsconfig, "fsconfig", None, &[ENOMEM, EPERM]),
    (libc::SYS_fsmount, "fsmount", None, &[ENOMEM, EMFILE, EPERM]),
    (libc::SYS_mount_setattr, "mount_setattr", None, &[ENOMEM, EPERM]),
    (libc::SYS_sethostname, "sethostname", None, &[EPERM]),
    (libc::SYS_setdomainname, "setdomainname", None, &[EPERM]),
    (libc::SYS_setsid, "setsid", None, &[EPERM]),
    (libc::SYS_setpgid, "setpgid", None, &[EPERM]),
    (libc::SYS_setgroups, "setgroups", None, &[ENOMEM, EPERM]),
    (libc::SYS_getgroups, "getgroups", None, &[]),
    (libc::SYS_setuid, "setuid", None, &[EPERM]),
    (libc::SYS_setgid, "setgid", None, &[EPERM]),
    (libc::SYS_setresuid, "setresuid", None, &[EPERM]),
    (libc::SYS_setresgid, "setresgid", None, &[EPERM]),
    (libc::SYS_setfsuid, "setfsuid", None, &[]),
    (libc::SYS_setfsgid, "setfsgid", None, &[]),
    (libc::SYS_capset, "capset", None, &[EPERM]),
    (libc::SYS_capget, "capget", None, &[EPERM]),
    (libc::SYS_prctl, "prctl", None, &[EPERM]),
    (libc::SYS_keyctl, "keyctl", None, &[ENOMEM, EPERM]),
    (libc::SYS_seccomp, "seccomp", None, &[ENOMEM]),
    (libc::SYS_landlock_create_ruleset, "landlock_create_ruleset", None, &[ENOMEM, EMFILE]),
    (libc::SYS_landlock_add_rule, "landlock_add_rule", None, &[ENOMEM]),
    (libc::SYS_landlock_restrict_self, "landlock_restrict_self", None, &[EPERM]),
    (libc::SYS_bpf, "bpf", None, &[ENOMEM, EMFILE, EPERM]),
    (libc::SYS_setrlimit, "setrlimit", None, &[EPERM]),
    (libc::SYS_prlimit64, "prlimit64", None, &[EPERM]),
    (libc::SYS_getpriority, "getpriority", None, &[EPERM]),
    (libc::SYS_setpriority, "setpriority", None, &[EPERM]),
    (libc::SYS_sched_setaffinity, "sched_setaffinity", None, &[EPERM]),
    (libc::SYS_mmap, "mmap", None, &[ENOMEM]),
    (libc::SYS_mremap, "mremap", None, &[ENOMEM]),
    (libc::SYS_munmap, "munmap", None, &[ENOMEM]),
    (libc::SYS_mprotect, "mprotect", None, &[ENOMEM]),
    (libc::SYS_madvise, "madvise", None, &[]),
    // It returns the end that there was, and never an error.
    (libc::SYS_brk, "brk", None, &[]),
    (libc::SYS_getrandom, "getrandom", None, &[EINTR]),
    (libc::SYS_sched_getaffinity, "sched_getaffinity", None, &[]),
    (libc::SYS_getcpu, "getcpu", None, &[]),
    (libc::SYS_umask, "umask", None, &[]),
    (libc::SYS_getuid, "getuid", None, &[]),
    (libc::SYS_getgid, "getgid", None, &[]),
    (libc::SYS_geteuid, "geteuid", None, &[]),
    (libc::SYS_getegid, "getegid", None, &[]),
    (libc::SYS_getpid, "getpid", None, &[]),
    (libc::SYS_gettid, "gettid", None, &[]),
    (libc::SYS_getppid, "getppid", None, &[]),
    (libc::SYS_getpgrp, "getpgrp", None, &[]),
    (libc::SYS_getpgid, "getpgid", None, &[]),
    (libc::SYS_getsid, "getsid", None, &[]),
    (libc::SYS_uname, "uname", None, &[]),
    (libc::SYS_sysinfo, "sysinfo", None, &[]),
    (libc::SYS_rt_sigaction, "rt_sigaction", None, &[]),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask", None, &[]),
    (libc::SYS_rt_sigreturn, "rt_sigreturn", None, &[]),
    (libc::SYS_sigaltstack, "sigaltstack", None, &[]),
    (libc::SYS_futex, "futex", None, &[]),
    (libc::SYS_exit, "exit", None, &[]),
    (libc::SYS_exit_group, "exit_group", None, &[]),
    (libc::SYS_clock_gettime, "clock_gettime", None, &[]),
    (libc::SYS_clock_nanosleep, "clock_nanosleep", None, &[EINTR]),
    (libc::SYS_nanosleep, "nanosleep", None, &[EINTR]),
    (libc::SYS_gettimeofday, "gettimeofday", None, &[]),
    (libc::SYS_sched_yield, "sched_yield", None, &[]),
    (libc::SYS_restart_syscall, "restart_syscall", None, &[]),
    (libc::SYS_set_robust_list, "set_robust_list", None, &[]),
    (libc::SYS_set_tid_address, "set_tid_address", None, &[]),
    (libc::SYS_arch_prctl, "arch_prctl", None, &[]),
    (libc::SYS_rseq, "rseq", None, &[]),
];

/// One call as it was seen.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Which process: 0 is jailrun, then in the order of their making.
    pub(crate) process: usize,
    /// Which of its calls, from 0.
    pub(crate) index: usize,
    /// Which of its calls of that number, from 0.
    pub(crate) turn: usize,
    pub(crate) number: i64,
    pub(crate) arguments: [u64; 6],
    /// The path it is given.
    pub(crate) path: String,
    /// What it has returned.
    pub(crate) result: Option<i64>,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { process, index, .. } = self;
        write!(f, "call {index} of process {process}: {}({:?}", self.name(), self.path)?;
        write!(f, ", {:#x}, {:#x})", self.arguments[0], self.arguments[1])
    }
}

fn known(number: i64) -> Option<&'static Known> {
    CALLS.iter().find(|(known, ..)| *known == number)
}

/// Which argument of a call is a path.
pub(crate) fn path_argument(number: i64) -> Option<usize> {
    known(number).and_then(|known| known.2)
}

impl Call {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        known(self.number).map_or("unknown", |known| known.1)
    }

    /// What it could have returned instead.
    pub(crate) fn errors(&self) -> Vec<i32> {
        let mut errors = known(self.number).map_or(Vec::new(), |known| known.3.to_vec());
        let flags = match self.number {
            libc::SYS_openat => self.arguments[2],
            _ => 0,
        };
        if flags & libc::O_CREAT as u64 != 0 {
            errors.push(ENOSPC);
        }
        match self.number {
            // Reading a limit, or what a terminal is, cannot be refused.
            libc::SYS_prlimit64 if self.arguments[2] == 0 => errors.clear(),
            // Those that read or set a terminal's mode or size fail for what is
            // no terminal alone.
            libc::SYS_ioctl if (0x5401..=0x5414).contains(&self.arguments[1]) => errors.clear(),
            // Those that read.
            libc::SYS_prctl
                if matches!(
                    self.arguments[0] as i32,
                    libc::PR_GET_SECUREBITS | libc::PR_CAPBSET_READ | libc::PR_GET_DUMPABLE
                ) =>
            {
                errors.clear();
            }
            _ => {}
        }
        errors
    }
}

/// Name of an error.
pub(crate) fn error_name(errno: i32) -> &'static str {
    match errno {
        EINTR => "EINTR",
        EIO => "EIO",
        EMFILE => "EMFILE",
        ENOMEM => "ENOMEM",
        ENOSPC => "ENOSPC",
        EPERM => "EPERM",
        _ => "another error",
    }
}
