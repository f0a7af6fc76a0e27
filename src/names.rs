//! Names of the kernel's numbers: signals, capabilities, resource limits,
//! namespaces and mount attributes. Each table serves every reading.

/// Signal name and number (x86_64 and aarch64 share them).
pub const SIGNALS: &[(&str, i32)] = &[
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGILL", 4),
    ("SIGTRAP", 5),
    ("SIGABRT", 6),
    ("SIGBUS", 7),
    ("SIGFPE", 8),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGSEGV", 11),
    ("SIGUSR2", 12),
    ("SIGPIPE", 13),
    ("SIGALRM", 14),
    ("SIGTERM", 15),
    ("SIGSTKFLT", 16),
    ("SIGCHLD", 17),
    ("SIGCONT", 18),
    ("SIGSTOP", 19),
    ("SIGTSTP", 20),
    ("SIGTTIN", 21),
    ("SIGTTOU", 22),
    ("SIGURG", 23),
    ("SIGXCPU", 24),
    ("SIGXFSZ", 25),
    ("SIGVTALRM", 26),
    ("SIGPROF", 27),
    ("SIGWINCH", 28),
    ("SIGIO", 29),
    ("SIGPWR", 30),
    ("SIGSYS", 31),
];

/// The first and the last real-time signal that programs use. The two before
/// them are the C library's own.
const REAL_TIME: [i32; 2] = [34, 64];

/// `SIGTERM` for 15, `SIGRTMIN+3` for 37, `signal 32` for those without a name.
pub fn signal(number: i32) -> String {
    let [first, last] = REAL_TIME;
    match SIGNALS.iter().find(|(_, known)| *known == number) {
        Some((name, _)) => (*name).to_owned(),
        None if number == first => "SIGRTMIN".to_owned(),
        None if number == last => "SIGRTMAX".to_owned(),
        // The nearer of the two, as kill(1) lists them.
        None if number > first && number < 50 => format!("SIGRTMIN+{}", number - first),
        None if number > first && number < last => format!("SIGRTMAX-{}", last - number),
        None => format!("signal {number}"),
    }
}

/// Number of a signal by its name, with or without `SIG`, in either case.
pub fn signal_named(text: &str) -> Option<i32> {
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let known = SIGNALS.iter().find(|(known, _)| known.strip_prefix("SIG") == Some(name));
    if let Some((_, number)) = known {
        return Some(*number);
    }
    let [first, last] = REAL_TIME;
    let (from, distance) = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(distance), _) => (first, distance),
        (_, Some(distance)) => (last, distance),
        _ => return None,
    };
    if distance.is_empty() {
        return Some(from);
    }
    let (sign, digits) = match distance.split_at_checked(1)? {
        ("+", digits) if from == first => (1, digits),
        ("-", digits) if from == last => (-1, digits),
        _ => return None,
    };
    // The parser itself would take a sign.
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    let number = from + sign * digits.parse::<i32>().ok().filter(|n| is_number && *n < 64)?;
    (first..=last).contains(&number).then_some(number)
}

/// Number of a signal by its name or its number.
pub fn signal_number(text: &str) -> Option<i32> {
    signal_named(text).or_else(|| text.parse().ok().filter(|number| (1..=64).contains(number)))
}

/// Capability names; the index is the number. See capabilities(7).
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Every capability that has a name.
pub const ALL_CAPABILITIES: u64 = (1 << CAPABILITIES.len()) - 1;

/// The 14 that Docker and containerd grant unless told otherwise.
pub const DEFAULT_CAPABILITIES: u64 = bits(&[0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31]);

/// `CAP_DAC_OVERRIDE`.
pub const CAP_DAC_OVERRIDE: u64 = bits(&[1]);
/// `CAP_DAC_READ_SEARCH`.
pub const CAP_DAC_READ_SEARCH: u64 = bits(&[2]);
/// `CAP_KILL`.
pub const CAP_KILL: u64 = bits(&[5]);
/// `CAP_SETUID`.
pub const CAP_SETUID: u64 = bits(&[7]);
/// `CAP_SYS_CHROOT`.
pub const CAP_SYS_CHROOT: u64 = bits(&[18]);
/// `CAP_SYS_PTRACE`.
pub const CAP_SYS_PTRACE: u64 = bits(&[19]);
/// `CAP_MKNOD`.
pub const CAP_MKNOD: u64 = bits(&[27]);
/// `CAP_SYS_RESOURCE`.
pub const CAP_SYS_RESOURCE: u64 = bits(&[24]);
/// `CAP_SYS_ADMIN`.
pub const CAP_SYS_ADMIN: u64 = bits(&[21]);

/// Capabilities that undo part of the isolation, with what they open.
pub const DANGEROUS_CAPABILITIES: &[(usize, &str)] = &[
    (2, "reads any file of a file system that the jail shares with the host"),
    (12, "changes the network of its namespace"),
    (16, "loads kernel modules"),
    (17, "reads and writes I/O ports and memory"),
    (18, "walks out of a chroot"),
    (19, "reads and changes other processes"),
    (
        21,
        "mounts, unmounts and configures the kernel: the masks and read-only mounts can be undone",
    ),
    (22, "reboots"),
    (24, "raises its own limits"),
    (25, "sets the host's clock"),
    (30, "configures the audit system"),
    (33, "changes the host's access policy"),
    (38, "reads the kernel's performance data"),
    (39, "loads BPF programs"),
];

/// The bit of a capability.
pub const fn capability_bit(number: u32) -> u64 {
    1 << number
}

const fn bits(numbers: &[u32]) -> u64 {
    let mut set = 0;
    let mut index = 0;
    while index < numbers.len() {
        set |= 1 << numbers[index];
        index += 1;
    }
    set
}

/// Names of a set of capabilities, lower-case without `cap_`, as setpriv(1)
/// writes them.
pub fn capability_words(set: u64) -> impl Iterator<Item = String> {
    CAPABILITIES
        .iter()
        .enumerate()
        .filter(move |(number, _)| set & (1 << number) != 0)
        .map(|(_, name)| name.trim_start_matches("CAP_").to_lowercase())
}

/// A scope of Landlock: what reaches no further than the restricted processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LandlockScope {
    /// Connecting to abstract unix sockets.
    AbstractUnixSocket,
    /// Sending signals.
    Signal,
}

impl LandlockScope {
    /// Both.
    pub const ALL: [Self; 2] = [Self::AbstractUnixSocket, Self::Signal];

    /// Its bit in `scoped`, `linux/landlock.h`.
    pub fn bit(self) -> u64 {
        match self {
            Self::AbstractUnixSocket => 1,
            Self::Signal => 2,
        }
    }
}

/// Rights of Landlock, `linux/landlock.h`.
pub mod landlock {
    /// One right on files.
    #[derive(Debug)]
    pub struct Right {
        /// Its bit.
        pub bit: u64,
        /// The version of the interface that has it.
        pub abi: u32,
        /// What is left open without it.
        pub meaning: &'static str,
    }

    /// Executing a file.
    pub const EXECUTE: u64 = 1 << 0;
    /// Opening a file for writing.
    pub const WRITE_FILE: u64 = 1 << 1;
    /// Opening a file for reading.
    pub const READ_FILE: u64 = 1 << 2;
    /// Listing a directory.
    pub const READ_DIR: u64 = 1 << 3;
    /// Moving and linking files between directories.
    pub const REFER: u64 = 1 << 13;
    const TRUNCATE: u64 = 1 << 14;
    const IOCTL_DEV: u64 = 1 << 15;
    /// Both kinds of reading.
    pub const READ: u64 = READ_FILE | READ_DIR;
    /// Writing, truncating, making, removing and moving, and commands to
    /// devices.
    pub const WRITE: u64 = WRITE_FILE | 0x1ff0 | REFER | TRUNCATE | IOCTL_DEV;
    /// What can be granted on anything but a directory.
    pub const OF_FILES: u64 = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV;

    /// Rights that the first version lacks.
    pub const PATHS: [Right; 3] = [
        Right { bit: REFER, abi: 2, meaning: "moving files between directories, which it refuses" },
        Right { bit: TRUNCATE, abi: 3, meaning: "truncating files" },
        Right { bit: IOCTL_DEV, abi: 5, meaning: "commands to devices" },
    ];
    /// The version that has TCP ports.
    pub const PORTS_ABI: u32 = 4;
    /// The version that has scopes.
    pub const SCOPE_ABI: u32 = 6;

    /// The kernel that brought a version.
    pub fn version(abi: u32) -> &'static str {
        match abi {
            0 | 1 => "5.13",
            2 => "5.19",
            3 => "6.2",
            4 => "6.7",
            5 => "6.10",
            _ => "6.12",
        }
    }
}

/// Number of the limit of open files.
pub const NOFILE: u32 = 7;

/// A resource limit: the unit's key, prlimit(1)'s option and the number of
/// getrlimit(2) (x86_64 and aarch64 share them).
#[derive(Debug)]
pub struct RlimitName {
    /// Key of `[limits.rlimits]` and option of prlimit(1).
    pub key: &'static str,
    /// Number of the resource.
    pub number: u32,
}

/// Every resource limit.
pub const RLIMITS: &[RlimitName] = &[
    RlimitName { key: "as", number: 9 },
    RlimitName { key: "core", number: 4 },
    RlimitName { key: "cpu", number: 0 },
    RlimitName { key: "data", number: 2 },
    RlimitName { key: "fsize", number: 1 },
    RlimitName { key: "locks", number: 10 },
    RlimitName { key: "memlock", number: 8 },
    RlimitName { key: "msgqueue", number: 12 },
    RlimitName { key: "nice", number: 13 },
    RlimitName { key: "nofile", number: NOFILE },
    RlimitName { key: "nproc", number: 6 },
    RlimitName { key: "rss", number: 5 },
    RlimitName { key: "rtprio", number: 14 },
    RlimitName { key: "rttime", number: 15 },
    RlimitName { key: "sigpending", number: 11 },
    RlimitName { key: "stack", number: 3 },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_preset_has_dockers_fourteen() {
        assert_eq!(DEFAULT_CAPABILITIES.count_ones(), 14);
        let words: Vec<_> = capability_words(DEFAULT_CAPABILITIES).collect();
        assert!(words.contains(&"net_raw".to_owned()) && words.contains(&"setfcap".to_owned()));
    }

    #[test]
    fn every_signal_has_one_name() {
        for number in 1..=64 {
            let name = signal(number);
            let known = (number != 32 && number != 33).then_some(number);
            assert_eq!(signal_named(&name), known, "{name}");
        }
        assert_eq!(signal_number("SIGRTMIN+3"), Some(37));
        assert_eq!(signal_number("rtmax-14"), Some(50));
        assert_eq!(signal_number("37"), Some(37));
        for text in ["RTMIN+31", "RTMAX-31", "RTMIN-1", "RTMIN+", "RTMIN++1", "RTMIN+\u{b2}", "65"]
        {
            assert_eq!(signal_number(text), None, "{text}");
        }
    }

    #[test]
    fn dangerous_capabilities_are_named_by_their_numbers() {
        assert_eq!(CAPABILITIES[21], "CAP_SYS_ADMIN");
        assert_eq!(CAPABILITIES[39], "CAP_BPF");
        assert_eq!(CAPABILITIES[40], "CAP_CHECKPOINT_RESTORE");
        assert_eq!(CAP_SYS_CHROOT, 1 << 18);
    }
}
