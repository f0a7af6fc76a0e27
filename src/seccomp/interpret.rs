//! An interpreter of the part of classic BPF that programs use; for tests.

use super::compile::{AND, ARCH, ARGUMENTS, IF_EQ, IF_GE, IF_GT, JUMP, LOAD, NUMBER, RETURN};
use super::{Action, Instruction};

/// What the kernel hands to a program, `struct seccomp_data`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) arch: u32,
    pub(super) arguments: [u64; 6],
}

/// Runs a program; the number of instructions it took is beside its answer.
/// `None` where the kernel would have refused to load it.
pub(super) fn run(program: &[Instruction], call: Call) -> Option<(Action, usize)> {
    let (mut accumulator, mut at, mut steps) = (0_u32, 0_usize, 0);
    loop {
        let instruction = program.get(at)?;
        steps += 1;
        at += 1;
        let mut jump = |holds: bool| {
            at += usize::from(if holds { instruction.yes } else { instruction.no });
        };
        match instruction.code {
            LOAD => accumulator = load(instruction.k, call)?,
            AND => accumulator &= instruction.k,
            JUMP => at = at.checked_add(usize::try_from(instruction.k).ok()?)?,
            IF_EQ => jump(accumulator == instruction.k),
            IF_GT => jump(accumulator > instruction.k),
            IF_GE => jump(accumulator >= instruction.k),
            RETURN => return Some((Action::of(instruction.k), steps)),
            _ => return None,
        }
    }
}

fn load(offset: u32, call: Call) -> Option<u32> {
    match offset {
        NUMBER => Some(call.number),
        ARCH => Some(call.arch),
        ARGUMENTS..64 if offset.is_multiple_of(4) => {
            let at = usize::try_from(offset - ARGUMENTS).ok()?;
            let argument = call.arguments[at / 8];
            Some(if at % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 })
        }
        _ => None,
    }
}
