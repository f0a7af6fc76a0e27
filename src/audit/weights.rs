//! How much each opening weighs, and why.
//!
//! A weight is the chance that a hostile program in the jail gets something of
//! the host through that opening alone. They are judgements, made once, here,
//! in the open: what counts is their order.

/// One judgement.
#[derive(Debug, PartialEq)]
pub struct Weight {
    /// Its name, stable, as `--json` gives it.
    pub name: &'static str,
    /// From 0 to 1.
    pub chance: f64,
    /// Why so much.
    pub reason: &'static str,
}

macro_rules! weights {
    ($($constant:ident = $name:literal, $chance:literal, $reason:literal;)*) => {
        $(
            #[doc = $reason]
            pub const $constant: Weight =
                Weight { name: $name, chance: $chance, reason: $reason };
        )*

        /// All of them, heaviest first within a subject.
        pub const ALL: &[&Weight] = &[$(&$constant),*];
    };
}

weights! {
    EVERY_CAPABILITY = "every-capability", 0.97,
        "root with every capability in the host's user namespace configures the kernel: nothing of the jail holds";
    ENGINE_SOCKET = "engine-socket", 0.95,
        "whoever commands a container engine or init starts processes as the host's root";
    HOST_TREE_WRITABLE = "host-tree-writable", 0.95,
        "the host runs programs and reads settings from there, as root, within a day";
    SYSTEM_WRITABLE = "system-writable", 0.85,
        "the host runs programs and reads settings from there, as root";
    KERNEL_CAPABILITY = "kernel-capability", 0.85,
        "the capability alone is enough to run code as the host's root; exploits are published";
    CHROOT_ESCAPE = "chroot-escape", 0.95,
        "the double chroot takes six system calls and never fails";
    KERNEL_TREE = "kernel-tree", 0.6,
        "files of /proc and /sys hand programs to the kernel to run, and describe every process";
    KERNEL_SETTINGS = "kernel-settings", 0.6,
        "root writes a program's name to core_pattern, and the kernel runs it outside every jail";
    DEVICES = "devices", 0.5,
        "a disk's node reads and writes every file on it, whatever its mode";
    RUNTIME_DIRECTORY = "runtime-directory", 0.4,
        "sockets there command services of the host, init among them";
    HOST_PROCESSES_ROOT = "host-processes-root", 0.3,
        "root ends any process of the host and reads what it does";
    HOST_DATA_CAPABILITY = "host-data-capability", 0.3,
        "the capability reaches data or hardware of the host, and takes some work to become more";
    OPEN_DESCRIPTOR = "open-descriptor", 0.25,
        "a descriptor of a directory is a way out of every root; of a file, as much as it was opened for";
    HOME = "home", 0.25,
        "keys, tokens and histories are there to be read; getting them out takes a network or an output";
    HOST_NETWORK = "host-network", 0.2,
        "services on 127.0.0.1 and abstract sockets trust who reaches them, and what is read can be sent away";
    HOST_NETWORK_CONFINED = "host-network-confined", 0.08,
        "UDP and what a listed port leads to remain";
    LISTED_DEVICES = "listed-devices", 0.04,
        "each driver is further code of the kernel, and hardware that is shared";
    NEW_PRIVILEGES = "new-privileges", 0.15,
        "one set-user-id program with a hole is enough, and few roots have none";
    CHROOT = "chroot", 0.15,
        "the host's tree stays mounted, and only the missing capability keeps it out of reach";
    ALL_SYSTEM_CALLS = "all-system-calls", 0.12,
        "about one kernel hole a month is reachable through calls that no service makes";
    HOST_PROCESSES = "host-processes", 0.1,
        "command lines and environments tell secrets, and processes of the same user can be signalled";
    ROOT_OUTSIDE = "root-outside", 0.08,
        "what escapes, by whatever hole, is the host's root at once";
    PROPAGATION = "propagation", 0.08,
        "what is mounted inside appears on the host, over what was there";
    NO_PROCESS_LIMIT = "no-process-limit", 0.08,
        "a fork bomb of one line stops the host; getting something by it takes more";
    KERNEL_RECORDS = "kernel-records", 0.06,
        "addresses, keys and timings that exploits begin with";
    NO_MEMORY_LIMIT = "no-memory-limit", 0.06,
        "the kernel ends processes of the host to make room";
    MORE_SYSTEM_CALLS = "more-system-calls", 0.05,
        "the default leaves out what few programs need and many exploits use";
    KEYRING = "keyring", 0.06,
        "tickets and keys of disks are there for whoever shares the session";
    SOME_CAPABILITY = "some-capability", 0.05,
        "each capability opens code of the kernel that others cannot call";
    WRITABLE_DIRECTORY = "writable-directory", 0.05,
        "what the host later reads or runs from there is the jail's to choose";
    SET_USER_ID = "set-user-id", 0.05,
        "the jail's own root leaves a set-user-id file for somebody on the host to run";
    FOREIGN_GROUP = "foreign-group", 0.05,
        "groups of the host open its files to members: disks, logs, the engine's socket";
    CAPABILITY_INSIDE = "capability-inside", 0.04,
        "in its own user namespace a capability opens code of the kernel, but nothing of the host";
    HOST_IPC = "host-ipc", 0.04,
        "shared memory and queues of databases and desktops";
    WRITABLE_ROOT = "writable-root", 0.03,
        "what it changes of its root stays, for the next launch or whoever looks into it";
    JOINED = "joined", 0.03,
        "what the other members of the namespace do is within reach";
    IMAGE = "image", 0.03,
        "a file system made by somebody else is parsed by the kernel";
    SESSION = "session", 0.03,
        "what it types into the caller's terminal is the caller's next command";
    HOST_TREE_READABLE = "host-tree-readable", 0.03,
        "settings and logs that everybody may read, and the versions of everything installed";
    CORE_FILES = "core-files", 0.02,
        "the host's root handles a file whose content the jail chooses";
    NO_CPU_LIMIT = "no-cpu-limit", 0.02,
        "the host becomes slow, no more";
    OUTPUT_FILE = "output-file", 0.02,
        "it fills the disk, and its text is read by people and programs";
    READABLE_DIRECTORY = "readable-directory", 0.01,
        "it was handed over to be read; it may hold more than was meant";
    NO_SWAP_LIMIT = "no-swap-limit", 0.01,
        "a full swap makes the host slow before its memory is short";
    NO_DISK_LIMIT = "no-disk-limit", 0.01,
        "other users of the disk wait";
    PREFERRED = "preferred", 0.01,
        "it goes before the host's own processes for the CPU, or after them when memory is short";
    HOST_NAMES = "host-names", 0.01,
        "the host's name, or the paths of its control groups, are told";
}

/// Capabilities of the host's user namespace that are more than further code
/// to call: by number, with what they are enough for.
pub fn of_capability(number: usize) -> &'static Weight {
    match number {
        // SYS_MODULE, SYS_RAWIO, SYS_ADMIN, BPF.
        16 | 17 | 21 | 39 => &KERNEL_CAPABILITY,
        // DAC_READ_SEARCH, NET_ADMIN, SYS_PTRACE, MKNOD, SYS_BOOT, SYS_TIME,
        // AUDIT_CONTROL, MAC_OVERRIDE, MAC_ADMIN, SYSLOG, PERFMON,
        // CHECKPOINT_RESTORE.
        2 | 12 | 19 | 22 | 25 | 30 | 32 | 33 | 34 | 38 | 40 => &HOST_DATA_CAPABILITY,
        _ => &SOME_CAPABILITY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_chances_with_names_of_their_own() {
        for (index, weight) in ALL.iter().enumerate() {
            assert!(weight.chance > 0.0 && weight.chance < 1.0, "{weight:?}");
            assert!(ALL[index + 1..].iter().all(|other| other.name != weight.name), "{weight:?}");
        }
    }
}
