//! `jailrun seccomp`.

use std::path::PathBuf;

use clap::Args;

use super::{complain, has_error, print, report};
use crate::diagnostic;
use crate::host::Machine;
use crate::plan::step::Step;
use crate::plan::{self, Care};
use crate::seccomp;
use crate::unit;

#[derive(Debug, Args)]
pub(super) struct SeccompVerb {
    /// The unit, a TOML file
    unit: PathBuf,

    /// Print which calls meet with what, instead of the instructions
    #[arg(long, conflicts_with = "json")]
    pseudo: bool,

    /// Print a profile for OCI runtimes
    #[arg(long)]
    json: bool,

    /// Set a key over the unit
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl SeccompVerb {
    pub(super) fn run(&self) -> i32 {
        let name = self.unit.display().to_string();
        let mut loaded = unit::load(&self.unit, &self.set, &[]);
        if loaded.unit.as_ref().is_some_and(|unit| unit.process.command.is_none()) {
            // What it runs may come with the launch, and does not matter here.
            loaded = unit::load(&self.unit, &self.set, &["COMMAND".to_owned()]);
        }
        let plan_on =
            |machine| loaded.unit.as_ref().map(|unit| plan::plan(unit, &machine, Care::Launch));
        // The filter is the same for all callers, whatever else they may not do.
        let planning = match plan_on(Machine::default()) {
            Some(planning) if has_error(&planning.diagnostics) => plan_on(Machine::as_root()),
            planning => planning,
        };
        let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
        let plan = planning.and_then(|planning| {
            diagnostics.extend(planning.diagnostics);
            planning.plan
        });
        diagnostic::sort(&mut diagnostics);
        diagnostics.dedup();
        let Some(plan) = plan.filter(|_| !has_error(&diagnostics)) else {
            report(&diagnostics, &loaded.sources, &name);
            return 1;
        };
        let filter = plan.steps.iter().find_map(|planned| match &planned.step {
            Step::LoadSeccomp { filter, .. } => Some(filter),
            _ => None,
        });
        let Some(filter) = filter else {
            complain(&format!("{name}: no filter: every system call reaches the kernel"));
            return 1;
        };
        let policy = filter.policy();
        let text = match (self.pseudo, self.json) {
            (true, _) => seccomp::print::pseudo(&policy),
            (_, true) => format!("{:#}\n", seccomp::print::profile(&policy)),
            _ => seccomp::print::disassembly(&policy, &filter.program()),
        };
        match print(&text) {
            0 => 0,
            _ => 2,
        }
    }
}
