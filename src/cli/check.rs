//! `jailrun check`.

use std::path::PathBuf;

use clap::Args;

use super::{complain, has_error, print_json, report};
use crate::diagnostic;
use crate::host::Machine;
use crate::plan::{self, Care};
use crate::unit;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The units, TOML files
    #[arg(required = true, value_name = "UNIT")]
    units: Vec<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Set a key over the units
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Say nothing about units without a finding
    #[arg(long, short)]
    quiet: bool,
}

impl Check {
    pub(super) fn run(&self) -> i32 {
        let mut status = 0;
        let mut all = Vec::new();
        for path in &self.units {
            let name = path.display().to_string();
            let loaded = unit::load(path, &self.set, &[]);
            let mut diagnostics = loaded.diagnostics.clone();
            if let Some(unit) = &loaded.unit {
                diagnostics
                    .extend(plan::plan(unit, &Machine::default(), Care::Everything).diagnostics);
            }
            diagnostic::sort(&mut diagnostics);
            diagnostics.dedup();
            if has_error(&diagnostics) {
                status = 1;
            }
            if self.json {
                all.push(serde_json::json!({
                    "unit": name,
                    "works": !has_error(&diagnostics),
                    "diagnostics": diagnostic::to_json(&diagnostics, &loaded.sources),
                }));
            } else if !diagnostics.is_empty() {
                report(&diagnostics, &loaded.sources, &name);
            } else if !self.quiet {
                complain(&format!("{name}: no findings"));
            }
        }
        if self.json && print_json(&format!("{:#}\n", serde_json::Value::Array(all))) != 0 {
            return 2;
        }
        status
    }
}
