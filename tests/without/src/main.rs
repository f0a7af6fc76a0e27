//! Launches a unit with a part of its plan left out: the control of a
//! protection's test, in which the attack has to succeed.
//!
//! `jailwithout PART,… UNIT [KEY=VALUE]… -- COMMAND…`. A part is the name of a
//! kind of step, all of which are left out, or `nosuid`, `nodev`, `read-only`,
//! a flag that no mount gets. The comparison with mountinfo is left out too.

use std::path::Path;
use std::process::exit;

use jailrun::host::Machine;
use jailrun::plan::step::{MountFlags, Step};
use jailrun::plan::{Care, plan};
use jailrun::{run, unit};

fn main() {
    let mut words = std::env::args().skip(1);
    let (Some(parts), Some(path)) = (words.next(), words.next()) else {
        eprintln!("usage: jailwithout PART,… UNIT [KEY=VALUE]… -- COMMAND…");
        exit(2);
    };
    let words: Vec<String> = words.collect();
    let split = words.iter().position(|word| word == "--").unwrap_or(words.len());
    let (set, command) = words.split_at(split);
    let loaded = unit::load(Path::new(&path), set, command.get(1..).unwrap_or(&[]));
    let planning = loaded.unit.as_ref().map(|unit| plan(unit, &Machine::default(), Care::Launch));
    let Some(mut plan) = planning.and_then(|planning| planning.plan) else {
        eprintln!("jailwithout: no plan: {:?}", loaded.diagnostics);
        exit(125);
    };
    let parts: Vec<&str> = parts.split(',').filter(|part| !part.is_empty()).collect();
    let before = plan.steps.len();
    plan.steps.retain(|planned| {
        let kind = kind(&planned.step);
        kind != "VerifyMounts" && !parts.contains(&kind.as_str())
    });
    let mut changed = before - plan.steps.len() > 1;
    for planned in &mut plan.steps {
        if let Some(flags) = flags(&mut planned.step) {
            for part in &parts {
                changed |= clear(flags, part);
            }
        }
    }
    if !changed && !parts.is_empty() {
        eprintln!("jailwithout: the plan has none of {parts:?}");
        exit(125);
    }
    match run::launch(&plan) {
        Ok(ended) => exit(ended.status),
        Err(failure) => {
            let step = plan.steps.get(failure.step).map(|planned| kind(&planned.step));
            eprintln!("jailwithout: {}: {:?}", step.unwrap_or_default(), failure.failed);
            exit(125);
        }
    }
}

/// The name of the variant.
fn kind(step: &Step) -> String {
    let text = format!("{step:?}");
    text.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}

fn flags(step: &mut Step) -> Option<&mut MountFlags> {
    match step {
        Step::AttachRoot { flags, .. }
        | Step::MountRoot { flags, .. }
        | Step::MountOverlay { flags, .. }
        | Step::Mount { flags, .. }
        | Step::Bind { flags, .. } => Some(flags),
        _ => None,
    }
}

/// Clears a flag; whether it was set.
fn clear(flags: &mut MountFlags, part: &str) -> bool {
    let flag = match part {
        "nosuid" => &mut flags.nosuid,
        "nodev" => &mut flags.nodev,
        "read-only" => &mut flags.read_only,
        _ => return false,
    };
    std::mem::replace(flag, false)
}
