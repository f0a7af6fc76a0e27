//! Plans for hosts that no test machine is: each is a table, see `host`. One file
//! per subject, and here what several of them need.

mod checks;
mod danger;
mod generated;
mod host;
mod images;
mod keys;
mod limits;
mod mounts;
mod no_panic;
mod order;
mod walk;
mod whole;

use self::host::Table;
use super::describe::describe;
use super::step::{Origin, Step};
use super::{Care, Planning, plan};
use crate::unit::{Loaded, from_text};

/// The smallest unit, before any other table.
const WEB: &str = "[root]\npath = \"/srv/web\"\n[process]\ncommand = [\"true\"]\n";

fn read(text: &str) -> Loaded {
    from_text("web.toml", text, "/units".into(), "web", &[], &[])
}

fn planning(host: &Table, text: &str) -> (Loaded, Planning) {
    let loaded = read(text);
    let planning = plan(loaded.unit.as_ref().unwrap(), host, Care::Everything);
    (loaded, planning)
}

/// The steps of a sound unit, one in a line, each with its origin.
fn steps(host: &Table, text: &str) -> String {
    let (loaded, planning) = planning(host, text);
    assert_eq!(loaded.diagnostics, []);
    let plan = planning.plan.unwrap_or_else(|| panic!("{:#?}", planning.diagnostics));
    let lines = plan.steps.iter().map(|planned| {
        let origin = match planned.origin {
            Origin::Key(span) => loaded.sources.place(span),
            Origin::Image(key) => format!("{key} of the image"),
            Origin::Default(key) => format!("default of {key}"),
            Origin::Arguments => "arguments".to_owned(),
            Origin::Always(_) => "always".to_owned(),
        };
        format!("{} <- {origin}\n", describe(&planned.step))
    });
    lines.collect()
}

/// Only what concerns control groups.
fn group_steps(host: &Table, text: &str) -> String {
    let (loaded, planning) = planning(host, text);
    assert_eq!(loaded.diagnostics, []);
    let plan = planning.plan.unwrap_or_else(|| panic!("{:#?}", planning.diagnostics));
    let mut lines = String::new();
    for planned in &plan.steps {
        match &planned.step {
            Step::CreateCgroup { .. }
            | Step::EnableControllers { .. }
            | Step::MoveSupervisor { .. }
            | Step::SetLimit { .. }
            | Step::KillOnOom { .. }
            | Step::LimitDevices { .. }
            | Step::JoinCgroup { .. } => lines.push_str(&(describe(&planned.step) + "\n")),
            Step::Enter { cgroup: Some(cgroup), .. } => {
                lines.push_str(&format!("born in {}\n", cgroup.display()));
            }
            _ => {}
        }
    }
    // What is not put up makes no group.
    for left in planning.left_out.iter().filter(|left| left.key != "devices") {
        lines.push_str(&format!("left out: {}: {}\n", left.key, left.reason));
    }
    lines
}

/// Findings of reading and planning: code, line, message, label.
fn findings(host: &Table, text: &str) -> String {
    let (loaded, planning) = planning(host, text);
    let all = loaded.diagnostics.iter().chain(&planning.diagnostics);
    let lines = all.map(|finding| {
        let (place, label) = match &finding.at {
            Some((span, label)) => (loaded.sources.place(*span), &**label),
            None => ("nowhere".to_owned(), ""),
        };
        format!("{} {place} {} ({label})\n", finding.code, finding.message)
    });
    lines.collect()
}

/// Steps without their origins, and what was said.
fn essence(host: &Table, text: &str, sets: &[String]) -> Essence {
    let loaded = from_text("web.toml", text, "/units".into(), "web", sets, &[]);
    let planning = plan(loaded.unit.as_ref().unwrap(), host, Care::Launch);
    let mut said: Vec<_> = loaded
        .diagnostics
        .iter()
        .chain(&planning.diagnostics)
        .map(|found| (found.code, found.message.clone()))
        .collect();
    said.sort();
    let steps =
        planning.plan.map(|plan| plan.steps.into_iter().map(|planned| planned.step).collect());
    (steps, said)
}

type Essence = (Option<Vec<Step>>, Vec<(&'static str, String)>);
