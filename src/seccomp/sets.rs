//! Sets: named lists of calls, which a unit takes as `@mount`.

use super::table::{Class, ROWS};

/// A named list of calls.
#[derive(Debug)]
pub struct Set {
    /// Its name, with the `@`.
    pub name: &'static str,
    /// What they are for.
    pub doc: &'static str,
    /// The calls, sorted; empty for those that the table's classes tell.
    names: &'static [&'static str],
}

/// Sets that the `strict` preset refuses.
pub const STRICT_REFUSES: [&str; 5] = ["@aio", "@clock", "@debug", "@mknod", "@obsolete"];

/// Every set but `@default`, sorted by name.
#[rustfmt::skip]
pub const SETS: &[Set] = &[
    set("@aio", "Asynchronous I/O of the kernel's old kind.", &[
        "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit",
    ]),
    set("@bpf", "Programs in the kernel, and its counters.", &["bpf", "perf_event_open"]),
    set("@clock", "Setting and adjusting clocks.", &[
        "adjtimex", "clock_adjtime", "clock_settime", "settimeofday",
    ]),
    set("@debug", "Looking into and changing other processes.", &[
        "kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace",
    ]),
    set("@exec", "Executing programs.", &["execve", "execveat"]),
    set("@handle", "Opening files by handle, past every directory.", &[
        "name_to_handle_at", "open_by_handle_at",
    ]),
    set("@io-uring", "Asynchronous I/O by shared rings, which filters do not see.", &[
        "io_uring_enter", "io_uring_register", "io_uring_setup",
    ]),
    set("@keyring", "Keys, which no namespace separates.", &["add_key", "keyctl", "request_key"]),
    set("@memory-policy", "Placing memory on nodes.", &[
        "get_mempolicy", "mbind", "migrate_pages", "move_pages", "set_mempolicy",
        "set_mempolicy_home_node",
    ]),
    set("@mknod", "Making device nodes and other special files.", &["mknod", "mknodat"]),
    set("@module", "Kernel modules.", &[
        "create_module", "delete_module", "finit_module", "init_module", "query_module",
    ]),
    set("@mount", "Changing what is mounted, and where the root is.", &[
        "chroot", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr",
        "move_mount", "open_tree", "open_tree_attr", "pivot_root", "umount2",
    ]),
    set("@namespaces", "Making and entering namespaces; every clone is part of it, that of processes too.", &[
        "clone", "clone3", "setns", "unshare",
    ]),
    set("@network", "Sockets.", &[
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt",
        "listen", "recvfrom", "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto",
        "setsockopt", "shutdown", "socket", "socketpair",
    ]),
    set("@obsolete", "What no program of this century calls.", &[
        "_sysctl", "afs_syscall", "create_module", "epoll_ctl_old", "epoll_wait_old",
        "get_kernel_syms", "get_thread_area", "getpmsg", "lookup_dcookie", "modify_ldt",
        "nfsservctl", "putpmsg", "query_module", "remap_file_pages", "security",
        "set_thread_area", "sysfs", "tuxcall", "uselib", "ustat", "vserver",
    ]),
    set("@process", "Making and ending processes.", &[
        "clone", "clone3", "exit", "exit_group", "fork", "kill", "pidfd_open",
        "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "tgkill", "tkill", "vfork",
        "wait4", "waitid",
    ]),
    set("@ptrace", "Tracing.", &["ptrace"]),
    set("@raw-io", "Ports of devices.", &["ioperm", "iopl"]),
    set("@reboot", "Restarting the machine, or another kernel.", &[
        "kexec_file_load", "kexec_load", "reboot",
    ]),
    set("@swap", "Swap space.", &["swapoff", "swapon"]),
    set("@userfault", "Handling page faults in the process.", &["userfaultfd"]),
];

/// What `@default` is for.
pub const DEFAULT_DOC: &str = "What the default policy allows, with its conditions; what a kept capability needs is part of it.";

const fn set(name: &'static str, doc: &'static str, names: &'static [&'static str]) -> Set {
    Set { name, doc, names }
}

/// Names of all sets.
pub fn names() -> impl Iterator<Item = &'static str> {
    std::iter::once("@default").chain(SETS.iter().map(|set| set.name))
}

/// Calls of a set; nothing for a name that is none. Those of `@default` are
/// all that it allows with any capability.
pub fn members(name: &str) -> Vec<&'static str> {
    if name == "@default" {
        return ROWS
            .iter()
            .filter(|row| !matches!(row.class, Class::Refuse | Class::Missing))
            .map(|row| row.name)
            .collect();
    }
    SETS.iter().find(|set| set.name == name).map_or_else(Vec::new, |set| set.names.to_vec())
}
