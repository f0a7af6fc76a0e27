//! System call filters: what a policy is, how it becomes a program of the
//! kernel's classic BPF, and how it is read back. Pure values; the call that
//! loads a program is in `sys`.
//!
//! - A **policy** gives each system call an **action**, by its number, and
//!   where it has **clauses** also by its arguments.
//! - A **program** is the policy as the kernel takes it, seccomp(2).
//! - A **set** is a named list of calls, such as `@mount`.
//! - A **profile** is a policy in the JSON of OCI runtimes.
//! - A **preset** is a policy of jailrun's own: `default` or `strict`.

mod compile;
#[cfg(test)]
mod interpret;
mod policy;
pub mod print;
pub mod profile;
mod programs;
pub mod sets;
pub mod table;

use std::borrow::Cow;

pub use compile::{Instruction, MAX_INSTRUCTIONS, compile};
pub use policy::{Clause, Condition, Decision, Operator, Policy};

/// An architecture that jailrun runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit ARM.
    Aarch64,
}

impl Arch {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::X86_64, Self::Aarch64];

    /// The one this program was built for.
    pub const NATIVE: Self = match cfg!(target_arch = "aarch64") {
        true => Self::Aarch64,
        false => Self::X86_64,
    };

    /// `AUDIT_ARCH_*`, `linux/audit.h`: how the kernel names the convention
    /// that a system call was made by.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xC000_003E,
            Self::Aarch64 => 0xC000_00B7,
        }
    }

    /// Its name, as uname(1) prints it.
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// What the kernel does with a system call, mildest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Does it.
    Allow,
    /// Does it and writes a line to the audit log.
    Log,
    /// Does not, and returns this errno.
    Errno(u16),
    /// Does not, and sends SIGSYS, which can be caught.
    Trap,
    /// Ends the thread.
    KillThread,
    /// Ends the process.
    KillProcess,
}

/// `EPERM`.
pub const EPERM: u16 = 1;
/// `ENOSYS`.
pub const ENOSYS: u16 = 38;

/// Errnos that policies use, by name; others are numbers.
pub const ERRNOS: &[(&str, u16)] = &[
    ("EPERM", EPERM),
    ("ENOENT", 2),
    ("EIO", 5),
    ("EAGAIN", 11),
    ("ENOMEM", 12),
    ("EACCES", 13),
    ("EINVAL", 22),
    ("ENOSYS", ENOSYS),
    ("EOPNOTSUPP", 95),
    ("EAFNOSUPPORT", 97),
];

impl Action {
    /// The value that a program returns for it, `linux/seccomp.h`.
    pub fn value(self) -> u32 {
        match self {
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::Log => 0x7ffc_0000,
            Self::Allow => 0x7fff_0000,
        }
    }

    /// The action of a returned value.
    pub fn of(value: u32) -> Self {
        match value & 0xffff_0000 {
            0x8000_0000 => Self::KillProcess,
            0x0003_0000 => Self::Trap,
            0x0005_0000 => Self::Errno((value & 0xffff) as u16),
            0x7ffc_0000 => Self::Log,
            0x7fff_0000 => Self::Allow,
            _ => Self::KillThread,
        }
    }

    /// Whether the call is done.
    pub fn passes(self) -> bool {
        matches!(self, Self::Allow | Self::Log)
    }

    /// As a unit writes it.
    pub fn word(self) -> String {
        match self {
            Self::Allow => "allow".to_owned(),
            Self::Log => "log".to_owned(),
            Self::Errno(errno) => format!("errno:{}", errno_word(errno)),
            Self::Trap => "trap".to_owned(),
            Self::KillThread => "kill-thread".to_owned(),
            Self::KillProcess => "kill-process".to_owned(),
        }
    }
}

/// `EPERM` for 1; the number where the table has no name.
pub fn errno_word(errno: u16) -> String {
    match ERRNOS.iter().find(|(_, number)| *number == errno) {
        Some((name, _)) => (*name).to_owned(),
        None => errno.to_string(),
    }
}

/// A policy of jailrun's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    /// What Docker allows, and a little less.
    Default,
    /// Without what few programs need.
    Strict,
}

impl Preset {
    /// As a unit writes it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Strict => "strict",
        }
    }
}

/// The filter of a jail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A preset, for the capabilities that the jail keeps.
    Preset {
        /// Which.
        preset: Preset,
        /// The capabilities; those that make no difference are left out.
        capabilities: u64,
    },
    /// What the unit puts together.
    Own(Box<Own>),
}

/// A policy that is no preset, with its program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    policy: Policy,
    program: Vec<Instruction>,
}

impl Filter {
    /// The filter of a preset.
    pub fn preset(preset: Preset, capabilities: u64) -> Self {
        Self::Preset { preset, capabilities: capabilities & table::RELEVANT }
    }

    /// The filter of a policy; the number of instructions where the kernel
    /// takes no program of that length.
    pub fn new(policy: Policy) -> Result<Self, usize> {
        let program = compile(&policy);
        match program.len() {
            0..=MAX_INSTRUCTIONS => Ok(Self::Own(Box::new(Own { policy, program }))),
            length => Err(length),
        }
    }

    /// What it says to each call.
    pub fn policy(&self) -> Cow<'_, Policy> {
        match self {
            Self::Preset { preset, capabilities } => {
                Cow::Owned(Policy::preset(Arch::NATIVE, *preset, *capabilities))
            }
            Self::Own(own) => Cow::Borrowed(&own.policy),
        }
    }

    /// What the kernel loads. The commonest is there already compiled.
    pub fn program(&self) -> Cow<'_, [Instruction]> {
        match self {
            Self::Preset { preset: Preset::Default, capabilities: 0 } => {
                Cow::Borrowed(programs::of(Arch::NATIVE))
            }
            Self::Preset { .. } => Cow::Owned(compile(&self.policy())),
            Self::Own(own) => Cow::Borrowed(&own.program),
        }
    }
}

/// What a filter says to a call of this architecture; `None` for a name that
/// the architecture does not have.
pub fn decision(filter: &Filter, name: &str) -> Option<Decision> {
    let policy = filter.policy();
    Some(policy.decision(u32::from(table::find(name)?.number(policy.arch)?)))
}

#[cfg(test)]
mod tests;
