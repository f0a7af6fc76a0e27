//! From a policy to a program of classic BPF, `Documentation/networking/filter.rst`.
//!
//! The kernel runs a new program for every number to learn which calls it
//! always allows, so that a program's length is the price of loading it. A
//! binary search over runs of numbers with the same answer is short, and no
//! number goes through more than a few of its instructions.

use super::Action;
use super::policy::{Clause, Condition, Leaf, Operator, Policy};

/// One instruction, laid out as `struct sock_filter`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// How many instructions to skip when a comparison holds.
    pub yes: u8,
    /// How many when it does not.
    pub no: u8,
    /// The constant.
    pub k: u32,
}

/// The longest program that the kernel takes, `BPF_MAXINSNS`.
pub const MAX_INSTRUCTIONS: usize = 4096;

/// `BPF_LD | BPF_W | BPF_ABS`.
pub(super) const LOAD: u16 = 0x20;
/// `BPF_ALU | BPF_AND | BPF_K`.
pub(super) const AND: u16 = 0x54;
/// `BPF_JMP | BPF_JA`.
pub(super) const JUMP: u16 = 0x05;
/// `BPF_JMP | BPF_JEQ | BPF_K`.
pub(super) const IF_EQ: u16 = 0x15;
/// `BPF_JMP | BPF_JGT | BPF_K`.
pub(super) const IF_GT: u16 = 0x25;
/// `BPF_JMP | BPF_JGE | BPF_K`.
pub(super) const IF_GE: u16 = 0x35;
/// `BPF_RET | BPF_K`.
pub(super) const RETURN: u16 = 0x06;

/// Offset of the number in `struct seccomp_data`.
pub(super) const NUMBER: u32 = 0;
/// Offset of the architecture.
pub(super) const ARCH: u32 = 4;
/// Offset of the low half of the first argument, in little-endian order.
pub(super) const ARGUMENTS: u32 = 16;

/// What answers a call by another convention than the architecture's own:
/// `int 0x80` on x86_64, a 32-bit program. Its numbers mean other calls, so
/// that nothing here would fit them.
pub(super) const FOREIGN: Action = Action::KillProcess;

/// The program of a policy.
pub fn compile(policy: &Policy) -> Vec<Instruction> {
    let mut writer = Writer { reversed: Vec::with_capacity(256), returns: Vec::new() };
    let checks: Vec<Target> = policy
        .checks()
        .iter()
        .map(|(clauses, otherwise)| writer.check(clauses, *otherwise))
        .collect();
    let search = writer.search(&policy.runs(), &checks);
    writer.fall_into(search);
    let number = writer.push(LOAD, NUMBER);
    writer.branch(IF_EQ, policy.arch.audit(), number, Target::Return(FOREIGN));
    writer.push(LOAD, ARCH);
    writer.reversed.reverse();
    writer.reversed
}

/// Where a jump goes.
#[derive(Clone, Copy, Debug)]
enum Target {
    /// To an instruction, by its index from the end.
    At(usize),
    /// To any instruction that returns this.
    Return(Action),
}

/// Writes from the end: jumps go forward only, so that all targets are known.
struct Writer {
    reversed: Vec<Instruction>,
    /// The nearest instruction that returns each action.
    returns: Vec<(Action, usize)>,
}

impl Writer {
    /// Writes an instruction that falls into the one written last.
    fn push(&mut self, code: u16, k: u32) -> Target {
        self.reversed.push(Instruction { code, yes: 0, no: 0, k });
        Target::At(self.reversed.len() - 1)
    }

    /// How many instructions lie between one that will be written next and an
    /// earlier one.
    fn distance(&self, index: usize) -> usize {
        self.reversed.len() - 1 - index
    }

    /// The index of a target in reach of a comparison, which skips 255
    /// instructions at most; one less, because the comparison's other target
    /// may come between.
    fn near(&mut self, target: Target) -> usize {
        const REACH: usize = 254;
        match target {
            Target::Return(action) => {
                let known = self.returns.iter().position(|(known, _)| *known == action);
                if let Some((_, index)) = known.map(|known| self.returns[known])
                    && self.distance(index) <= REACH
                {
                    return index;
                }
                self.push(RETURN, action.value());
                let index = self.reversed.len() - 1;
                match known {
                    Some(known) => self.returns[known].1 = index,
                    None => self.returns.push((action, index)),
                }
                index
            }
            Target::At(index) if self.distance(index) <= REACH => index,
            Target::At(index) => {
                let distance = u32::try_from(self.distance(index)).unwrap_or(u32::MAX);
                self.push(JUMP, distance);
                self.reversed.len() - 1
            }
        }
    }

    fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        let (yes, no) = (self.near(yes), self.near(no));
        let skip = |index| u8::try_from(self.distance(index)).unwrap_or(u8::MAX);
        let instruction = Instruction { code, yes: skip(yes), no: skip(no), k };
        self.reversed.push(instruction);
        Target::At(self.reversed.len() - 1)
    }

    /// Makes a target the next instruction.
    fn fall_into(&mut self, target: Target) {
        match target {
            Target::Return(action) => {
                self.push(RETURN, action.value());
            }
            Target::At(index) => match u32::try_from(self.distance(index)) {
                Ok(0) => {}
                distance => {
                    self.push(JUMP, distance.unwrap_or(u32::MAX));
                }
            },
        }
    }

    /// A search for the number in the accumulator.
    fn search(&mut self, runs: &[(u32, Leaf)], checks: &[Target]) -> Target {
        let target = |leaf: Leaf| match leaf {
            Leaf::Act(action) => Target::Return(action),
            Leaf::Check(index) => checks[usize::from(index)],
        };
        match runs {
            [] => Target::Return(FOREIGN),
            [(_, leaf)] => target(*leaf),
            // One number that differs from both its neighbours.
            [(_, around), (number, leaf), (next, after)]
                if around == after && *next == number + 1 =>
            {
                self.branch(IF_EQ, *number, target(*leaf), target(*around))
            }
            runs => {
                let (lower, upper) = runs.split_at(runs.len() / 2);
                let above = self.search(upper, checks);
                let below = self.search(lower, checks);
                self.branch(IF_GE, upper[0].0, above, below)
            }
        }
    }

    /// The clauses of a call in turn.
    fn check(&mut self, clauses: &[Clause], otherwise: Action) -> Target {
        let mut next = Target::Return(otherwise);
        // The accumulator still holds the argument when the next clause is
        // about the same one.
        let shared = match clauses {
            [first, ..] => alone(first).filter(|first| {
                clauses
                    .iter()
                    .all(|clause| alone(clause).is_some_and(|it| it.argument == first.argument))
            }),
            [] => None,
        };
        for clause in clauses.iter().rev() {
            let yes = Target::Return(clause.action);
            next = match (shared, alone(clause)) {
                (Some(_), Some(condition)) => {
                    self.compare(condition.operator, low_half(condition.value), yes, next)
                }
                _ => clause
                    .conditions
                    .iter()
                    .rev()
                    .fold(yes, |yes, condition| self.condition(condition, yes, next)),
            };
        }
        match shared {
            Some(condition) => self.push(LOAD, offset(condition, false)),
            None => next,
        }
    }

    fn condition(&mut self, condition: &Condition, yes: Target, no: Target) -> Target {
        let (low, high) = (low_half(condition.value), high_half(condition.value));
        let low_at = offset(condition, false);
        let Operator::MaskedEq(mask) = condition.operator else {
            let lower = self.compare(condition.operator, low, yes, no);
            let lower = self.load(lower, low_at);
            if !condition.wide {
                return lower;
            }
            let upper = match condition.operator {
                Operator::Eq | Operator::MaskedEq(_) => self.branch(IF_EQ, high, lower, no),
                Operator::Ne => self.branch(IF_EQ, high, lower, yes),
                Operator::Gt | Operator::Ge => {
                    let equal = self.branch(IF_EQ, high, lower, no);
                    self.branch(IF_GT, high, yes, equal)
                }
                Operator::Lt | Operator::Le => {
                    let equal = self.branch(IF_EQ, high, lower, yes);
                    self.branch(IF_GT, high, no, equal)
                }
            };
            return self.load(upper, offset(condition, true));
        };
        if condition.wide && high_half(mask) == 0 && high != 0 {
            return no;
        }
        self.branch(IF_EQ, low, yes, no);
        self.push(AND, low_half(mask));
        let lower = self.push(LOAD, low_at);
        if !condition.wide || high_half(mask) == 0 {
            return lower;
        }
        self.branch(IF_EQ, high, lower, no);
        self.push(AND, high_half(mask));
        self.push(LOAD, offset(condition, true))
    }

    /// Loads a word for the comparison written last.
    fn load(&mut self, comparison: Target, offset: u32) -> Target {
        self.fall_into(comparison);
        self.push(LOAD, offset)
    }

    /// A comparison of the accumulator.
    fn compare(&mut self, operator: Operator, value: u32, yes: Target, no: Target) -> Target {
        match operator {
            Operator::Eq | Operator::MaskedEq(_) => self.branch(IF_EQ, value, yes, no),
            Operator::Ne => self.branch(IF_EQ, value, no, yes),
            Operator::Gt => self.branch(IF_GT, value, yes, no),
            Operator::Ge => self.branch(IF_GE, value, yes, no),
            Operator::Lt => self.branch(IF_GE, value, no, yes),
            Operator::Le => self.branch(IF_GT, value, no, yes),
        }
    }
}

/// The condition of a clause that has one only, of an argument's low half,
/// and leaves the accumulator as it is.
fn alone(clause: &Clause) -> Option<&Condition> {
    match &clause.conditions[..] {
        [condition] if !condition.wide => match condition.operator {
            Operator::MaskedEq(_) => None,
            Operator::Eq
            | Operator::Ne
            | Operator::Lt
            | Operator::Le
            | Operator::Gt
            | Operator::Ge => Some(condition),
        },
        _ => None,
    }
}

fn offset(condition: &Condition, high: bool) -> u32 {
    ARGUMENTS + 8 * u32::from(condition.argument) + if high { 4 } else { 0 }
}

fn low_half(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

fn high_half(value: u64) -> u32 {
    (value >> 32) as u32
}
