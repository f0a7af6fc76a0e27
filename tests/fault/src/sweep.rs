//! Every system call of a launch fails once.

use std::collections::BTreeSet;

use crate::calls::{Call, error_name};
use crate::trace::{Deed, Outcome, Start, launch};
use crate::units::{UNITS, Unit};
use crate::world::World;

/// Which part of all that could be tried is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share {
    /// Every so many.
    pub(crate) stride: usize,
    /// Beginning with this one.
    pub(crate) offset: usize,
}

pub(crate) fn start(world: &World, unit: &Unit) -> Start {
    let path = unit.path(world).to_string_lossy().into_owned();
    let program = world.jailrun.to_string_lossy().into_owned();
    Start {
        words: vec![program, "up".to_owned(), "--quiet".to_owned(), path.clone()],
        user: unit.user.then_some(65_534),
        secure_bits: unit.secure_bits,
        terminal: unit.terminal,
        prepare: None,
        from: path,
    }
}

/// ioctl_tty(2); its type is another in each C library.
const TIOCSWINSZ: u64 = 0x5414;

/// What glibc's heap reads where there are threads.
const HEAP_FILES: [&str; 2] = ["/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu/online"];

/// What the standard library says of a new thread for which there is no memory.
const THREADLESS: [&str; 3] = [
    "failed to allocate an alternative stack: Out of memory",
    "failed to set up alternative stack guard page: Out of memory",
    "memory allocation of 48 bytes failed",
];

/// The error is how the kernel tells of it, and the command gets SIGHUP.
const HANGUP: &str = "the other side of the terminal has hung up";

/// Whether a launch may work although a call of it has failed: by call and
/// reason, so that nothing else passes.
fn is_harmless(calls: &[Call], at: usize, errno: i32) -> Option<&'static str> {
    let call = &calls[at];
    let of_process = |other: &&Call| other.process == call.process;
    // The supervisor once it has pinned itself, and the init.
    let waits = match call.process {
        0 => call.turn > 0,
        1 => calls.iter().any(|call| call.process == 2 && call.name() == "execve"),
        _ => false,
    };
    let is_heap = |name: &str| matches!(name, "mmap" | "munmap" | "mprotect" | "mremap" | "brk");
    let after = calls[at + 1..]
        .iter()
        .filter(of_process)
        .find(|call| !is_heap(call.name()) && call.name() != "lseek");
    let reads_same = after
        .is_some_and(|after| after.name() == "read" && after.arguments[0] == call.arguments[0]);
    let is_terminal = calls.iter().filter(of_process).any(|other| {
        other.arguments[0] == call.arguments[0]
            && other.name() == "ioctl"
            && other.arguments[1] == TIOCSWINSZ
    });
    let opens = |other: &&Call| other.name().starts_with("open");
    let path = match call.name() {
        "read" => calls[..at]
            .iter()
            .rev()
            .filter(of_process)
            .filter(opens)
            .find(|other| other.result == Some(call.arguments[0] as i64))
            .map_or("", |opened| &*opened.path),
        _ => &*call.path,
    };
    Some(match (call.name(), errno) {
        ("open" | "openat" | "read", _) if HEAP_FILES.contains(&path) => {
            "glibc's heap goes by a guess instead"
        }
        ("open" | "openat" | "read", _)
            if path.ends_with("/memory.events") || path.ends_with("/memory.oom_control") =>
        {
            "whether a process was killed for memory is told, and decides nothing"
        }
        (_, libc::EINTR) => "a call that a signal has interrupted is made again",
        ("statx" | "fstat", libc::ENOMEM) if call.path.is_empty() && reads_same => {
            "the size of a file that is read to its end is a hint alone"
        }
        ("read", libc::EIO) if is_terminal => HANGUP,
        (name, libc::ENOMEM) if is_heap(name) => {
            "the C library's heap asks in another way, or keeps what it has"
        }
        ("sched_setaffinity", libc::EPERM) if waits => {
            "a process that only waits may stay on its CPU"
        }
        _ => return None,
    })
}

/// Tries the calls of one unit; returns what was found, a line each, and how
/// many were tried.
pub(crate) fn unit(
    world: &World,
    unit: &Unit,
    share: Share,
) -> std::io::Result<(Vec<String>, usize)> {
    let start = start(world, unit);
    let mut found = Vec::new();
    // What the first launch leaves for the next, like a store, is no loss.
    for _ in 0..2 {
        let first = launch(&start, Deed::Count)?;
        if first.status != 0 {
            let line = format!("{}: does not start: {} {}", unit.name, first.status, first.stderr);
            return Ok((vec![line], 0));
        }
    }
    unit.reset(world);
    let mut before = world.ledger();
    let counted = launch(&start, Deed::Count)?;
    unit.reset(world);
    found.extend(
        world.differences(&before).into_iter().map(|line| format!("{}: {line}", unit.name)),
    );
    let mut tries: Vec<(usize, i32)> = Vec::new();
    for (at, call) in counted.calls.iter().enumerate() {
        if call.name() == "unknown" {
            found.push(format!("{}: the table lacks call {}", unit.name, call.number));
        }
        tries.extend(call.errors().into_iter().map(|errno| (at, errno)));
    }
    let mut count = 0;
    for (at, errno) in tries.into_iter().skip(share.offset % share.stride).step_by(share.stride) {
        unit.reset(world);
        let call = &counted.calls[at];
        let Call { process, number, turn, .. } = *call;
        let deed = Deed::Fail { process, number, turn, errno };
        let outcome = launch(&start, deed)?;
        // What is done once more when the kernel is slow is not done each time.
        if !outcome.done && outcome.status == 0 {
            continue;
        }
        count += 1;
        let mut lines = judge(is_harmless(&counted.calls, at, errno), &outcome);
        // One that is out of memory ends as if it were killed.
        let told = outcome.stderr.contains("could not be taken back")
            || outcome.stderr.contains("out of memory")
            || outcome.stderr.contains("fatal runtime error");
        if outcome.status == 125 && !told {
            // What a launch that has worked has made stays.
            lines.extend(unit.made(world));
        }
        // An image that has been stored stays; what is half stored does not.
        lines.extend(unit.half_stored(world));
        unit.reset(world);
        if !told {
            lines.extend(world.differences(&before));
        }
        unit.reset(world);
        let next = launch(&start, Deed::None)?;
        if next.status != 0 {
            lines.push(format!("the next launch ends with {}: {}", next.status, next.stderr));
        }
        unit.reset(world);
        lines.extend(
            world
                .differences(&before)
                .into_iter()
                .map(|line| format!("{line}, even after the next launch")),
        );
        if !lines.is_empty() {
            // What is left is told once.
            before = world.ledger();
            found.push(format!(
                "{}: {call} = {}\n    {}\n    said: {}",
                unit.name,
                error_name(errno),
                lines.join("\n    "),
                outcome.stderr.trim().replace('\n', "\n          ")
            ));
            eprintln!("{}", found.last().map_or("", |found| found));
        }
    }
    Ok((found, count))
}

fn judge(harmless: Option<&str>, outcome: &Outcome) -> Vec<String> {
    let mut lines = Vec::new();
    if outcome.hung {
        lines.push("does not come to an end".to_owned());
    }
    let names_step = outcome.stderr.lines().any(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        words
            .windows(4)
            .any(|words| words[0] == "step" && words[1].parse::<u32>().is_ok() && words[2] == "of")
    });
    let names_question =
        outcome.stderr.contains("error[E") || outcome.stderr.contains("out of memory");
    match outcome.status {
        0 if harmless.is_some() => {}
        129 if harmless == Some(HANGUP) => {}
        0 => lines.push("the launch works all the same".to_owned()),
        125 if names_step || names_question => {}
        126 if names_step && outcome.stderr.contains("execute") => {}
        125 => lines.push("neither step nor question is named".to_owned()),
        // The standard library ends a process whose new thread has no memory,
        // no stack, or none for its signals.
        _ if harmless.is_some() && outcome.stderr.contains("fatal runtime error") => {}
        _ if THREADLESS.iter().any(|said| outcome.stderr.contains(said)) => {}
        status => lines.push(format!("exit status {status}")),
    }
    lines
}

/// The units that a list of names means: all for none.
pub(crate) fn chosen(names: &[String]) -> Vec<&'static Unit> {
    let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    UNITS.iter().filter(|unit| names.is_empty() || names.contains(unit.name)).collect()
}
