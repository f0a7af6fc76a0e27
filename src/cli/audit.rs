//! `jailrun audit`.

use std::path::PathBuf;

use clap::Args;

use super::{complain, has_error, print, print_json, report};
use crate::audit;
use crate::diagnostic::{self, Diagnostic};
use crate::host::Machine;
use crate::plan::{self, Care};
use crate::source::on_one_line;
use crate::unit;

#[derive(Debug, Args)]
pub(super) struct Audit {
    /// The units, TOML files
    #[arg(required_unless_present = "weights", value_name = "UNIT")]
    units: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Fail when the exposure of a unit is above that, from 0 to 10
    #[arg(long, value_name = "NUMBER", value_parser = parse_threshold)]
    threshold: Option<f64>,

    /// Judge what root would launch, whoever asks
    #[arg(long)]
    as_root: bool,

    /// Set a key over the units
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Print how much each finding weighs, and why
    #[arg(long, conflicts_with_all = ["units", "threshold", "as_root", "set"])]
    weights: bool,
}

impl Audit {
    pub(super) fn run(&self) -> i32 {
        if self.weights {
            let text = match self.json {
                true => format!("{:#}\n", audit::weights_json()),
                false => audit::weights_text(),
            };
            return if print(&text) == 0 { 0 } else { 2 };
        }
        let machine = if self.as_root { Machine::as_root() } else { Machine::default() };
        let mut status = 0;
        let mut all = Vec::new();
        for (index, path) in self.units.iter().enumerate() {
            let name = path.display().to_string();
            let mut loaded = unit::load(path, &self.set, &[]);
            if loaded.unit.as_ref().is_some_and(|unit| unit.process.command.is_none()) {
                // What it runs may come with the launch, and does not matter here.
                loaded = unit::load(path, &self.set, &["COMMAND".to_owned()]);
            }
            let planning =
                loaded.unit.as_ref().map(|unit| plan::plan(unit, &machine, Care::Launch));
            let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
            let plan = planning.and_then(|planning| {
                diagnostics.extend(planning.diagnostics);
                planning.plan
            });
            let Some(plan) = plan.filter(|_| !has_error(&diagnostics)) else {
                diagnostic::sort(&mut diagnostics);
                diagnostics.dedup();
                report(&diagnostics, &loaded.sources, &name);
                let is_for_root =
                    |diagnostic: &Diagnostic| matches!(diagnostic.code, "E0308" | "E0309");
                if !self.as_root && diagnostics.iter().any(is_for_root) {
                    complain("`--as-root` audits the jail that root would start");
                }
                status = 1;
                continue;
            };
            let found = audit::audit(&plan, &machine);
            if self.threshold.is_some_and(|threshold| found.exposure > threshold) {
                status = 1;
            }
            if self.json {
                all.push(found.json(&name, &loaded.sources));
            } else {
                let gap = if index == 0 { "" } else { "\n" };
                let text = found.text(&on_one_line(&name), &loaded.sources);
                if print(&(gap.to_owned() + &text)) != 0 {
                    return 2;
                }
            }
        }
        if self.json && print_json(&format!("{:#}\n", serde_json::Value::Array(all))) != 0 {
            return 2;
        }
        status
    }
}

fn parse_threshold(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=10.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 10".to_owned())
}
