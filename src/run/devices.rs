//! The devices controller: v1 by its files, v2 by a program that the kernel
//! runs for every access. See `cgroup-v1/devices.rst` and `cgroup-v2.rst`.

use std::os::fd::AsFd as _;
use std::path::Path;

use super::error::{Applied, Failed};
use super::kernel_files::write_file;
use crate::plan::step::DeviceRule;
use crate::sys;

/// Allows what the rules say, and nothing else, to the processes of a group.
pub(super) fn limit(directory: &Path, is_v2: bool, rules: &[DeviceRule]) -> Applied {
    if is_v2 {
        let group = sys::open2(directory, libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
        let program = sys::load_device_program(&program(rules))?;
        return Ok(sys::attach_device_program(program.as_fd(), group.as_fd())?);
    }
    write_file(&directory.join("devices.deny"), "a")?;
    for rule in rules {
        write_file(&directory.join("devices.allow"), &rule.to_string())?;
    }
    let list = std::fs::read_to_string(directory.join("devices.list"))?;
    let mut held: Vec<&str> = list.lines().collect();
    let wanted: Vec<String> = rules.iter().map(DeviceRule::to_string).collect();
    let mut wanted: Vec<&str> = wanted.iter().map(|rule| &**rule).collect();
    held.sort_unstable();
    wanted.sort_unstable();
    if held == wanted {
        return Ok(());
    }
    let odd = held.iter().find(|rule| !wanted.contains(rule));
    let detail = match odd {
        Some(rule) => format!("the kernel allows `{rule}`, which was not asked for"),
        None => "the kernel does not hold every rule that was written".to_owned(),
    };
    Err(Failed::found(detail))
}

// Instructions, `linux/bpf.h`: class, size or operation, and source.
const LOAD_WORD: u8 = 0x61;
const MOVE_32: u8 = 0xbc;
const AND_32: u8 = 0x54;
const SHIFT_RIGHT_32: u8 = 0x74;
const SET: u8 = 0xb7;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const JUMP_UNLESS_SAME: u8 = 0x5d;
const EXIT: u8 = 0x95;

// `bpf_cgroup_dev_ctx`: type in the low half of the first word, access in the
// high half.
const BLOCK: u32 = 1;
const CHARACTER: u32 = 2;
const MKNOD: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;

fn instruction(code: u8, to: u8, from: u8, jump: usize, value: u32) -> u64 {
    u64::from(code)
        | u64::from(to | from << 4) << 8
        | (jump as u64 & 0xffff) << 16
        | u64::from(value) << 32
}

/// The program: allowed are accesses that one of the rules covers.
pub fn program(rules: &[DeviceRule]) -> Vec<u64> {
    let load = |to, offset| instruction(LOAD_WORD, to, 1, offset, 0);
    let mut code = vec![
        load(2, 0),
        instruction(MOVE_32, 3, 2, 0, 0),
        instruction(AND_32, 3, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT_32, 2, 0, 0, 16),
        load(4, 4),
        load(5, 8),
    ];
    for rule in rules {
        let kind = if rule.block { BLOCK } else { CHARACTER };
        let access = [(rule.mknod, MKNOD), (rule.read, READ), (rule.write, WRITE)]
            .into_iter()
            .filter(|(allowed, _)| *allowed)
            .fold(0, |bits, (_, bit)| bits | bit);
        // Each test jumps to the next rule: behind what is left of this one.
        let mut left = 7 + usize::from(rule.minor.is_some());
        let mut test = |code, to, from, value| {
            left -= 1;
            instruction(code, to, from, left, value)
        };
        code.push(test(JUMP_UNLESS_EQUAL, 3, 0, kind));
        code.push(test(JUMP_UNLESS_EQUAL, 4, 0, rule.major));
        if let Some(minor) = rule.minor {
            code.push(test(JUMP_UNLESS_EQUAL, 5, 0, minor));
        }
        code.push(instruction(MOVE_32, 6, 2, 0, 0));
        code.push(instruction(AND_32, 6, 0, 0, access));
        code.push(instruction(JUMP_UNLESS_SAME, 6, 2, 2, 0));
        code.push(instruction(SET, 0, 0, 0, 1));
        code.push(instruction(EXIT, 0, 0, 0, 0));
    }
    code.push(instruction(SET, 0, 0, 0, 0));
    code.push(instruction(EXIT, 0, 0, 0, 0));
    code
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a program answers, as the kernel would run it.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> u64 {
        let context = [kind | access << 16, major, minor];
        let mut registers = [0_u64; 11];
        let mut at = 0;
        loop {
            let word = program[at];
            let code = word as u8;
            let (to, from) = ((word >> 8 & 15) as usize, (word >> 12 & 15) as usize);
            let jump = (word >> 16 & 0xffff) as usize;
            let value = word >> 32;
            at += 1;
            match code {
                LOAD_WORD => {
                    assert_eq!(from, 1, "the context is all there is to read");
                    registers[to] = u64::from(context[jump / 4]);
                }
                MOVE_32 => registers[to] = registers[from] & 0xffff_ffff,
                AND_32 => registers[to] = registers[to] & value & 0xffff_ffff,
                SHIFT_RIGHT_32 => registers[to] = (registers[to] & 0xffff_ffff) >> value,
                SET => registers[to] = value,
                JUMP_UNLESS_EQUAL if registers[to] != value => at += jump,
                JUMP_UNLESS_SAME if registers[to] != registers[from] => at += jump,
                JUMP_UNLESS_EQUAL | JUMP_UNLESS_SAME => {}
                EXIT => return registers[0],
                other => panic!("{other:#x} is no instruction"),
            }
        }
    }

    fn any_rule() -> impl Strategy<Value = DeviceRule> {
        (any::<[bool; 4]>(), 0..4_u32, prop::option::of(0..4_u32)).prop_map(
            |([block, read, write, mknod], major, minor)| DeviceRule {
                block,
                major,
                minor,
                read,
                write,
                mknod,
            },
        )
    }

    proptest! {
        #[test]
        fn the_program_allows_what_one_rule_covers(
            rules in prop::collection::vec(any_rule(), 0..8),
            block: bool,
            access in 1..8_u32,
            major in 0..5_u32,
            minor in 0..5_u32,
        ) {
            let covers = |rule: &DeviceRule| {
                let allowed = u32::from(rule.mknod) * MKNOD
                    + u32::from(rule.read) * READ
                    + u32::from(rule.write) * WRITE;
                rule.block == block
                    && rule.major == major
                    && rule.minor.is_none_or(|known| known == minor)
                    && access & !allowed == 0
            };
            let kind = if block { BLOCK } else { CHARACTER };
            let answer = run(&program(&rules), kind, access, major, minor);
            prop_assert_eq!(answer, u64::from(rules.iter().any(covers)));
        }
    }
}
