//! Launches that are killed: at every call, and at random times. The next
//! launch of the same name, or `jailrun gc`, takes back what they have left.

use std::time::Duration;

use crate::sweep::{Share, start};
use crate::sys;
use crate::trace::{Deed, Start, launch};
use crate::units::{UNITS, Unit};
use crate::world::World;

/// Kills at the calls of one unit; returns what was found, and how many were
/// killed.
pub(crate) fn unit(
    world: &World,
    unit: &Unit,
    share: Share,
) -> std::io::Result<(Vec<String>, usize)> {
    let start = start(world, unit);
    let mut found = Vec::new();
    for _ in 0..2 {
        launch(&start, Deed::None)?;
    }
    unit.reset(world);
    let mut before = world.ledger();
    let counted = launch(&start, Deed::Count)?;
    unit.reset(world);
    let mut count = 0;
    let calls = counted.calls.iter().skip(share.offset % share.stride).step_by(share.stride);
    for (number, call) in calls.enumerate() {
        // The supervisor, what it has cloned, and both, in turns: which of them
        // it is does not depend on the call.
        let whom = [1, 2, 3][number % 3];
        unit.reset(world);
        let deed = Deed::Kill { process: call.process, index: call.index, whom };
        let outcome = launch(&start, deed)?;
        count += 1;
        let mut lines = Vec::new();
        if outcome.hung {
            lines.push("does not come to an end".to_owned());
        }
        lines.extend(reclaim(world, unit, &start, number % 2 == 0)?);
        unit.reset(world);
        lines.extend(world.differences(&before));
        if !lines.is_empty() {
            before = world.ledger();
            let whom = ["nobody", "the supervisor", "the init", "both"][usize::from(whom)];
            found.push(format!(
                "{}: {whom} killed at {call}\n    {}\n    said: {}",
                unit.name,
                lines.join("\n    "),
                outcome.stderr.trim()
            ));
            eprintln!("{}", found.last().map_or("", |found| found));
        }
    }
    Ok((found, count))
}

/// What the next launch, or `jailrun gc`, makes of what is left.
fn reclaim(
    world: &World,
    unit: &Unit,
    start: &Start,
    by_launch: bool,
) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut run = |words: &[&str], terminal| -> std::io::Result<()> {
        let mut all = vec![world.jailrun.to_string_lossy().into_owned()];
        all.extend(words.iter().map(|word| (*word).to_owned()));
        let start = Start { words: all, terminal, ..start.clone() };
        let outcome = launch(&start, Deed::None)?;
        if outcome.status != 0 {
            lines.push(format!("{words:?} ends with {}: {}", outcome.status, outcome.stderr));
        }
        Ok(())
    };
    match by_launch {
        true => run(&["up", "--quiet", &unit.path(world).to_string_lossy()], unit.terminal)?,
        false => run(&["gc", "--quiet"], false)?,
    }
    // What killed imports have left is the store's.
    if unit.name == "archive" {
        run(&["image", "gc", "--quiet"], false)?;
    }
    Ok(lines)
}

/// Kills so many launches at random times, which a fixed seed makes the same
/// each time as far as times can be.
pub(crate) fn random(world: &World, times: usize) -> std::io::Result<(Vec<String>, usize)> {
    let mut found = Vec::new();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let units: Vec<_> = UNITS.iter().filter(|unit| !unit.terminal && !unit.user).collect();
    for unit in &units {
        launch(&start(world, unit), Deed::None)?;
        unit.reset(world);
    }
    let mut before = world.ledger();
    for number in 0..times {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let unit = units[number % units.len()];
        let start = start(world, unit);
        unit.reset(world);
        let pid = sys::fork()?;
        if pid == 0 {
            sys::close_from(3).ok();
            crate::trace::silence(None).ok();
            sys::exec(&start.words);
            sys::exit(99);
        }
        std::thread::sleep(Duration::from_micros(seed % 20_000));
        match seed >> 32 & 1 {
            0 => sys::kill(pid, libc::SIGKILL).ok(),
            _ => children(pid).first().and_then(|child| sys::kill(*child, libc::SIGKILL).ok()),
        };
        sys::wait_for(pid)?;
        let mut lines = reclaim(world, unit, &start, seed >> 33 & 1 == 0)?;
        unit.reset(world);
        lines.extend(world.differences(&before));
        if !lines.is_empty() {
            before = world.ledger();
            found.push(format!(
                "{}: killed, number {number}\n    {}",
                unit.name,
                lines.join("\n    ")
            ));
        }
    }
    Ok((found, times))
}

fn children(pid: i32) -> Vec<i32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    text.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}
