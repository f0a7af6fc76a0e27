//! Launches a unit with a part of its plan left out: the control of a
//! protection's test, in which the attack has to succeed.
//!
//! `jailwithout PART,… UNIT [KEY=VALUE]… -- COMMAND…`. A part is the name of a
//! kind of step, all of which are left out, or one of these:
//!
//! - `nosuid`, `nodev`, `read-only`: a flag that no mount gets;
//! - `LinkLayer`: the layers of overlays go by their own names;
//! - `escaping`: a colon in such a name is what it is for the kernel, the end
//!   of a layer;
//! - `unplanned`: the comparison with mountinfo expects a mount less;
//! - `compared`: that comparison is done, which is otherwise left out too.

use std::path::{Path, PathBuf};
use std::process::exit;

use jailrun::host::Machine;
use jailrun::plan::step::{MountFlags, Step};
use jailrun::plan::{Care, Plan, plan};
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
    let mut changed = false;
    if parts.contains(&"LinkLayer") {
        name_layers(&mut plan);
    }
    if parts.contains(&"unplanned") {
        for planned in &mut plan.steps {
            if let Step::VerifyMounts { expected } = &mut planned.step {
                changed |= expected.pop().is_some();
            }
        }
    }
    let compared = parts.contains(&"compared");
    plan.steps.retain(|planned| {
        let kind = kind(&planned.step);
        let left_out = parts.contains(&kind.as_str());
        changed |= left_out;
        !left_out && (compared || kind != "VerifyMounts")
    });
    for planned in &mut plan.steps {
        if let Step::MountOverlay { overlay, .. } = &mut planned.step
            && parts.contains(&"escaping")
        {
            overlay.lower = split_layers(&overlay.lower);
            changed = true;
        }
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

/// Gives the layers of overlays back the names that links stand for.
fn name_layers(plan: &mut Plan) {
    let links: Vec<(PathBuf, PathBuf)> = plan
        .steps
        .iter()
        .filter_map(|planned| match &planned.step {
            Step::LinkLayer { path, to } => Some((path.clone(), to.clone())),
            _ => None,
        })
        .collect();
    for planned in &mut plan.steps {
        if let Step::MountOverlay { overlay, .. } = &mut planned.step {
            for layer in &mut overlay.lower {
                if let Some((_, to)) = links.iter().find(|(path, _)| path == layer) {
                    layer.clone_from(to);
                }
            }
        }
    }
}

/// What the kernel reads when colons are not escaped.
fn split_layers(lower: &[PathBuf]) -> Vec<PathBuf> {
    let names = lower.iter().flat_map(|path| path.to_str().unwrap_or_default().split(':'));
    names.map(PathBuf::from).collect()
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
