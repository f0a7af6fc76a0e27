//! A policy: an action for every system call of one architecture.

use super::table::{self, Class, ROWS};
use super::{Action, Arch, ENOSYS, EPERM, Preset};
use crate::names;

/// An action for every system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The architecture whose numbers it holds. A call by another convention,
    /// such as `int 0x80`, ends the process.
    pub arch: Arch,
    /// By number.
    verdicts: Vec<Verdict>,
    /// Clauses that verdicts refer to, each with what holds when none does.
    checks: Vec<(Vec<Clause>, Action)>,
    /// Calls of the table that nothing else is said about.
    pub default: Action,
    /// Numbers that are not in the table.
    pub unknown: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Not in the table.
    Unknown,
    /// In the table.
    Act(Action),
    /// By the arguments: an index into `checks`.
    Check(u16),
}

/// An action for some arguments: all conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// The conditions.
    pub conditions: Vec<Condition>,
    /// The action.
    pub action: Action,
}

/// A comparison of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub argument: u8,
    /// Whether all 64 bits are compared, or only those 32 that the kernel
    /// looks at: the rest may hold anything.
    pub wide: bool,
    /// How.
    pub operator: Operator,
    /// With what.
    pub value: u64,
}

/// How an argument is compared; unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Le,
    /// Greater.
    Gt,
    /// Greater or equal.
    Ge,
    /// Equal in the bits of this mask.
    MaskedEq(u64),
}

impl Condition {
    /// A comparison of the low 32 bits.
    pub fn low(argument: u8, operator: Operator, value: u32) -> Self {
        Self { argument, wide: false, operator, value: u64::from(value) }
    }

    /// Whether it holds.
    pub fn holds(&self, arguments: &[u64; 6]) -> bool {
        let keep = if self.wide { u64::MAX } else { u64::from(u32::MAX) };
        let found = arguments[usize::from(self.argument)] & keep;
        let value = self.value & keep;
        match self.operator {
            Operator::Eq => found == value,
            Operator::Ne => found != value,
            Operator::Lt => found < value,
            Operator::Le => found <= value,
            Operator::Gt => found > value,
            Operator::Ge => found >= value,
            Operator::MaskedEq(mask) => found & mask == value,
        }
    }
}

/// What a policy says to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The same whatever its arguments are.
    Always(Action),
    /// The first clause that holds, or else the action.
    Depends(Vec<Clause>, Action),
}

impl Decision {
    /// The mildest action that some arguments meet with.
    pub fn mildest(&self) -> Action {
        match self {
            Self::Always(action) => *action,
            Self::Depends(clauses, otherwise) => {
                clauses.iter().map(|clause| clause.action).fold(*otherwise, Action::min)
            }
        }
    }

    /// The strictest action that some arguments meet with.
    pub fn strictest(&self) -> Action {
        match self {
            Self::Always(action) => *action,
            Self::Depends(clauses, otherwise) => {
                clauses.iter().map(|clause| clause.action).fold(*otherwise, Action::max)
            }
        }
    }

    /// The action for these arguments.
    pub fn action(&self, arguments: &[u64; 6]) -> Action {
        match self {
            Self::Always(action) => *action,
            Self::Depends(clauses, otherwise) => clauses
                .iter()
                .find(|clause| clause.conditions.iter().all(|held| held.holds(arguments)))
                .map_or(*otherwise, |clause| clause.action),
        }
    }
}

/// The first number of the x32 convention, which shares x86_64's name.
pub(super) const X32: u32 = 0x4000_0000;

/// `CLONE_NEW*` in the flags of clone(2); CLONE_NEWTIME is not among them,
/// its bit is part of the signal there.
const NAMESPACES: u32 = 0x7e02_0000;
/// AF_UNIX, AF_INET, AF_INET6, AF_NETLINK.
const FAMILIES: [u32; 4] = [1, 2, 10, 16];
/// PER_LINUX, PER_LINUX32, both with UNAME26, and the question which one it is.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// TIOCSTI and TIOCLINUX type into the terminal.
const TYPING: [u32; 2] = [0x5412, 0x541c];

impl Policy {
    /// One that says the same to every call of the table.
    pub fn new(arch: Arch, default: Action) -> Self {
        let mut verdicts = vec![Verdict::Unknown; table::LIMIT];
        for row in ROWS {
            if let Some(number) = row.number(arch) {
                verdicts[usize::from(number)] = Verdict::Act(default);
            }
        }
        let unknown = match default {
            // A program takes it for an older kernel and does without.
            Action::Errno(_) => Action::Errno(ENOSYS),
            other => other,
        };
        Self { arch, verdicts, checks: Vec::new(), default, unknown }
    }

    /// One of jailrun's own, for the capabilities that a jail keeps.
    pub fn preset(arch: Arch, preset: Preset, capabilities: u64) -> Self {
        let mut policy = Self::new(arch, Action::Errno(EPERM));
        policy.allow_default(capabilities);
        if preset == Preset::Strict {
            for name in super::sets::STRICT_REFUSES.iter().flat_map(|set| super::sets::members(set))
            {
                policy.set(name, Action::Errno(EPERM));
            }
            policy.check("personality", one_of(0, &[0, 0xffff_ffff]), Action::Errno(EPERM));
        }
        policy
    }

    /// The calls that jailrun's own init makes when the jail runs, and no other.
    pub fn init() -> Self {
        const CALLS: [&str; 16] = [
            "brk",
            "close",
            "close_range",
            "exit",
            "exit_group",
            "kill",
            "mmap",
            "munmap",
            "poll",
            "ppoll",
            "read",
            "restart_syscall",
            "rt_sigreturn",
            "sched_setaffinity",
            "waitid",
            "write",
        ];
        let mut policy = Self::new(Arch::NATIVE, Action::Errno(EPERM));
        for name in CALLS {
            policy.set(name, Action::Allow);
        }
        policy
    }

    /// Allows what the default preset allows.
    pub fn allow_default(&mut self, capabilities: u64) {
        let is_admin = capabilities & names::CAP_SYS_ADMIN != 0;
        let missing = Action::Errno(ENOSYS);
        let refused = Action::Errno(EPERM);
        for row in ROWS {
            let Some(number) = row.number(self.arch) else { continue };
            let number = usize::from(number);
            match row.class {
                Class::Refuse => {}
                Class::Needs(needed) if needed & capabilities == 0 => {}
                Class::Missing => self.verdicts[number] = Verdict::Act(missing),
                Class::Clone3 if !is_admin => self.verdicts[number] = Verdict::Act(missing),
                Class::Clone if !is_admin => {
                    let plain = Condition::low(0, Operator::MaskedEq(NAMESPACES.into()), 0);
                    self.check_number(number, vec![allow(plain)], refused);
                }
                Class::Family => self.check_number(number, one_of(0, &FAMILIES), refused),
                Class::Personality => {
                    self.check_number(number, one_of(0, &PERSONALITIES), refused);
                }
                Class::Terminal => {
                    let typing = TYPING.map(|request| Clause {
                        conditions: vec![Condition::low(1, Operator::Eq, request)],
                        action: refused,
                    });
                    self.check_number(number, typing.into(), Action::Allow);
                }
                Class::Allow | Class::Needs(_) | Class::Clone | Class::Clone3 => {
                    self.verdicts[number] = Verdict::Act(Action::Allow);
                }
            }
        }
    }

    /// Says the same to a call, whatever its arguments are. Nothing where this
    /// architecture does not have it.
    pub fn set(&mut self, name: &str, action: Action) {
        if let Some(number) = table::find(name).and_then(|row| row.number(self.arch)) {
            self.verdicts[usize::from(number)] = Verdict::Act(action);
        }
    }

    /// Says to a call what the first clause that holds says.
    pub fn check(&mut self, name: &str, clauses: Vec<Clause>, otherwise: Action) {
        if let Some(number) = table::find(name).and_then(|row| row.number(self.arch)) {
            self.check_number(usize::from(number), clauses, otherwise);
        }
    }

    fn check_number(&mut self, number: usize, clauses: Vec<Clause>, otherwise: Action) {
        let check = (clauses, otherwise);
        let index = self.checks.iter().position(|known| *known == check).unwrap_or_else(|| {
            self.checks.push(check);
            self.checks.len() - 1
        });
        // No more checks than numbers, and those fit.
        self.verdicts[number] =
            u16::try_from(index).map_or(Verdict::Act(otherwise), Verdict::Check);
    }

    /// What it says to a number of its architecture.
    pub fn decision(&self, number: u32) -> Decision {
        if self.is_x32(number) {
            return Decision::Always(Action::Errno(ENOSYS));
        }
        match self.verdict(number) {
            Verdict::Unknown => Decision::Always(self.unknown),
            Verdict::Act(action) => Decision::Always(action),
            Verdict::Check(index) => {
                let (clauses, otherwise) = &self.checks[usize::from(index)];
                Decision::Depends(clauses.clone(), *otherwise)
            }
        }
    }

    fn verdict(&self, number: u32) -> Verdict {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        self.verdicts.get(number).copied().unwrap_or(Verdict::Unknown)
    }

    fn is_x32(&self, number: u32) -> bool {
        self.arch == Arch::X86_64 && number >= X32
    }

    /// Runs of numbers with the same answer, each by its first number; the
    /// last has no end.
    pub(super) fn runs(&self) -> Vec<(u32, Leaf)> {
        let mut runs: Vec<(u32, Leaf)> = Vec::with_capacity(96);
        let mut number = 0_u32;
        let mut add = |number: u32, leaf: Leaf| match runs.last() {
            Some((_, last)) if *last == leaf => {}
            _ => runs.push((number, leaf)),
        };
        for verdict in &self.verdicts {
            add(
                number,
                match verdict {
                    Verdict::Unknown => Leaf::Act(self.unknown),
                    Verdict::Act(action) => Leaf::Act(*action),
                    Verdict::Check(index) => Leaf::Check(*index),
                },
            );
            number += 1;
        }
        add(number, Leaf::Act(self.unknown));
        if self.arch == Arch::X86_64 {
            add(X32, Leaf::Act(Action::Errno(ENOSYS)));
        }
        runs
    }

    pub(super) fn checks(&self) -> &[(Vec<Clause>, Action)] {
        &self.checks
    }

    /// How many calls of the table pass, always or sometimes.
    pub fn passing(&self) -> usize {
        self.named().filter(|(_, decision)| decision.mildest().passes()).count()
    }

    /// How many calls of the table get another answer than the default one.
    pub fn rules(&self) -> usize {
        let default = Decision::Always(self.default);
        self.named().filter(|(_, decision)| *decision != default).count()
    }

    /// Every call of this architecture with what is said to it, by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, Decision)> {
        ROWS.iter()
            .filter_map(|row| Some((row.name, self.decision(u32::from(row.number(self.arch)?)))))
    }
}

/// What a run of numbers leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Act(Action),
    Check(u16),
}

fn allow(condition: Condition) -> Clause {
    Clause { conditions: vec![condition], action: Action::Allow }
}

fn one_of(argument: u8, values: &[u32]) -> Vec<Clause> {
    values.iter().map(|value| allow(Condition::low(argument, Operator::Eq, *value))).collect()
}
