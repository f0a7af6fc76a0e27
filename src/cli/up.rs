//! `jailrun up`.

use std::path::PathBuf;

use clap::Args;
use nix::errno::Errno;

use super::{
    FAILURE, complain, complain_at_end, has_error, print, print_exactly, print_json, report,
    report_at_end,
};
use crate::diagnostic::{self, Diagnostic};
use crate::dry_run::DryRun;
use crate::explain;
use crate::host::Machine;
use crate::image::progress::Progress;
use crate::plan::describe::{describe, summary};
use crate::plan::step::{Origin, Step};
use crate::plan::{self, Care, Plan, Planning};
use crate::run::error::{StepFailed, hint};
use crate::run::{self, Cause, Ended};
use crate::source::{Sources, on_one_line};
use crate::unit::{self, Loaded};

#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct Up {
    /// The unit, a TOML file, or `-` for standard input
    unit: PathBuf,

    /// Say what would happen and whether it would work; change nothing
    #[arg(long)]
    dry_run: bool,

    /// Print the shell script that does the same; change nothing
    #[arg(long)]
    explain: bool,

    /// With --dry-run: print JSON
    #[arg(long, requires = "dry_run", conflicts_with = "explain")]
    json: bool,

    /// Set a key over the unit, such as limits.memory=512M; an empty value removes it
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,

    /// Say what was verified
    #[arg(long, short, conflicts_with = "quiet")]
    verbose: bool,

    /// Appended to the command; the command itself where the unit has none
    #[arg(last = true, value_name = "ARG")]
    arguments: Vec<String>,
}

/// Reads the plainest command lines of `up` without building the whole parser,
/// which takes as long as the clone: `up [-q] [--set KEY=VALUE]… UNIT [-- ARG…]`.
/// Anything else is left to the parser; a test holds the two together.
pub(super) fn plain(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Up> {
    let mut arguments = arguments.skip(1).map(|argument| argument.into_string().ok());
    if arguments.next()?? != "up" {
        return None;
    }
    let mut up = Up::default();
    let mut unit = None;
    while let Some(argument) = arguments.next() {
        match &*argument? {
            "--quiet" | "-q" => up.quiet = true,
            "--set" => {
                let assignment = arguments.next()??;
                if assignment.starts_with('-') {
                    return None;
                }
                up.set.push(assignment);
            }
            "--" => {
                up.arguments = arguments.by_ref().collect::<Option<_>>()?;
            }
            word if word.starts_with('-') || word.is_empty() || unit.is_some() => return None,
            word => unit = Some(PathBuf::from(word)),
        }
    }
    up.unit = unit?;
    Some(up)
}

impl Up {
    pub(super) fn run(&self) -> i32 {
        let name = self.unit.display().to_string();
        let mut loaded = unit::load(&self.unit, &self.set, &self.arguments);
        let machine = Machine::default();
        let care = if self.dry_run || self.explain { Care::Everything } else { Care::Launch };
        let Some(unit) = &loaded.unit else {
            if self.json {
                let planning = Planning { diagnostics: loaded.diagnostics, ..Planning::default() };
                let dry_run =
                    DryRun { planning: &planning, settings: &[], sources: &loaded.sources };
                print_json(&format!("{:#}\n", dry_run.json(&machine)));
                return 1;
            }
            report(&loaded.diagnostics, &loaded.sources, &name);
            return if self.dry_run || self.explain { 1 } else { FAILURE };
        };
        let mut planning = plan::plan(unit, &machine, care);
        if care == Care::Launch
            && (has_error(&loaded.diagnostics) || has_error(&planning.diagnostics))
        {
            // No launch comes of it: all that is wrong is said at once.
            let all = plan::plan(unit, &Machine::default(), Care::Everything).diagnostics;
            let further = all.into_iter().filter(|found| !planning.diagnostics.contains(found));
            planning.diagnostics.extend(further.collect::<Vec<_>>());
        }
        if care == Care::Launch && !has_error(&loaded.diagnostics) {
            match self.prepare(&planning, &loaded) {
                Ok(false) => {}
                Ok(true) => planning = plan::plan(unit, &machine, care),
                Err(status) => return status,
            }
        }
        let mut diagnostics = std::mem::take(&mut loaded.diagnostics);
        let unsound = has_error(&diagnostics);
        diagnostics.append(&mut planning.diagnostics);
        diagnostic::sort(&mut diagnostics);
        diagnostics.dedup();
        if unsound {
            planning.plan = None;
        }
        planning.diagnostics = diagnostics;
        if self.dry_run && !self.explain {
            return self.dry_run(&loaded, &planning, &machine, &name);
        }
        let speak = has_error(&planning.diagnostics) || !self.quiet;
        if speak && !planning.diagnostics.is_empty() {
            report(&planning.diagnostics, &loaded.sources, &name);
        }
        let Some(plan) = &planning.plan else {
            return if self.explain { 1 } else { FAILURE };
        };
        if self.explain {
            return print_exactly(&match plan.needs_preparation() {
                true => explain::preparation(plan, &loaded.sources, &self.again()),
                false => explain::script(plan, &loaded.sources),
            });
        }
        if !self.quiet {
            complain(&format!("{}: {}", plan.name, summary(&plan.steps)));
        }
        let status = self.launch(plan, &loaded);
        // The process ends here: what it has in memory need not be taken apart.
        std::mem::forget((planning, loaded));
        status
    }

    /// The command that explains this unit.
    fn again(&self) -> Vec<String> {
        let mut words: Vec<String> = ["jailrun", "up", "--explain"].map(str::to_owned).into();
        words.extend(self.set.iter().flat_map(|set| ["--set".to_owned(), set.clone()]));
        words.push(self.unit.display().to_string());
        if !self.arguments.is_empty() {
            words.push("--".to_owned());
            words.extend(self.arguments.iter().cloned());
        }
        words
    }

    /// Unpacks the image that the unit's root is, unless it is in the store;
    /// true when the plan has to be made again.
    fn prepare(&self, planning: &plan::Planning, loaded: &Loaded) -> Result<bool, i32> {
        let Some(plan) = planning.plan.as_ref().filter(|plan| plan.needs_preparation()) else {
            return Ok(false);
        };
        let progress = if self.quiet { Progress::silent() } else { Progress::on_terminal() };
        match run::prepare(plan, &progress) {
            Ok(lines) if !self.quiet => {
                lines.iter().for_each(|line| complain(&format!("{}: {line}", plan.name)));
                Ok(true)
            }
            Ok(_) => Ok(true),
            Err(failure) => {
                complain(&failure_text(plan, &failure, &loaded.sources));
                Err(FAILURE)
            }
        }
    }

    fn dry_run(
        &self,
        loaded: &Loaded,
        planning: &plan::Planning,
        machine: &Machine,
        name: &str,
    ) -> i32 {
        let settings = unit::effective(loaded);
        let dry_run = DryRun { planning, settings: &settings, sources: &loaded.sources };
        let printed = if self.json {
            print_json(&format!("{:#}\n", dry_run.json(machine)))
        } else {
            if !planning.diagnostics.is_empty() {
                report(&planning.diagnostics, &loaded.sources, name);
            }
            print(&dry_run.text(machine))
        };
        match printed {
            0 => i32::from(!dry_run.would_work(machine)),
            status => status,
        }
    }

    fn launch(&self, plan: &Plan, loaded: &Loaded) -> i32 {
        match run::launch(plan) {
            Ok(ended) => self.ended(plan, &ended, &loaded.sources),
            Err(failure) => {
                let is_exec = plan
                    .steps
                    .get(failure.step)
                    .is_some_and(|planned| matches!(planned.step, Step::Exec { .. }));
                // What planning finds is why; what the error number could mean
                // is a guess.
                let found = findings(plan, &failure, loaded);
                complain_at_end(&match found.is_empty() {
                    true => failure_text(plan, &failure, &loaded.sources),
                    false => what_failed(plan, &failure, &loaded.sources),
                });
                if !found.is_empty() {
                    report_at_end(&found, &loaded.sources, &self.unit.display().to_string());
                }
                if is_exec {
                    return if failure.failed.errno == Errno::ENOENT { 127 } else { 126 };
                }
                FAILURE
            }
        }
    }

    fn ended(&self, plan: &Plan, ended: &Ended, sources: &Sources) -> i32 {
        if self.verbose {
            let count = |is: fn(&Step) -> usize| {
                plan.steps.iter().map(|planned| is(&planned.step)).sum::<usize>()
            };
            let mounts = count(|step| match step {
                Step::VerifyMounts { expected } => expected.len(),
                _ => 0,
            });
            let limits = count(|step| usize::from(matches!(step, Step::SetLimit { .. })));
            complain_at_end(&format!(
                "{}: verified: {mounts} of {mounts} mounts, {limits} of {limits} limits",
                plan.name
            ));
        }
        for failure in &ended.left {
            complain_at_end(&format!(
                "could not be taken back: {}",
                failure_text(plan, failure, sources)
            ));
        }
        match &ended.cause {
            Cause::Command => {}
            Cause::Timeout(after) => complain_at_end(&format!(
                "{}: ended after its timeout of {}",
                plan.name,
                humantime::format_duration(*after)
            )),
            Cause::Stopped if !self.quiet => {
                complain_at_end(&format!("{}: killed after it had been told to stop", plan.name))
            }
            Cause::Stopped => {}
            Cause::OutOfMemory { whole, peak, limit } => {
                let size = |bytes: &Option<u64>| bytes.map_or("unknown".to_owned(), human_size);
                let who = if *whole { "" } else { "a process of it was " };
                complain_at_end(&format!(
                    "{}: {who}killed by the kernel for memory: peak {}, limit {}",
                    plan.name,
                    size(peak),
                    size(limit)
                ));
            }
        }
        if ended.left.is_empty() { ended.status } else { FAILURE }
    }
}

/// Bytes as a person writes them.
fn human_size(bytes: u64) -> String {
    let units = [("T", 40), ("G", 30), ("M", 20), ("K", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift) {
        Some((unit, shift)) => {
            let scaled = bytes as f64 / (1_u64 << shift) as f64;
            let digits = usize::from(scaled.fract() != 0.0);
            format!("{scaled:.digits$}{unit}")
        }
        None => format!("{bytes} bytes"),
    }
}

/// After a step has failed: what planning can say about it. Before, a launch
/// does without.
fn findings(plan: &Plan, failure: &StepFailed, loaded: &Loaded) -> Vec<Diagnostic> {
    let (Some(unit), Some(failed)) = (&loaded.unit, plan.steps.get(failure.step)) else {
        return Vec::new();
    };
    let codes: &[&str] = match (&failed.step, failure.failed.errno) {
        (Step::Exec { .. }, _) => &["E0304", "E0305", "E0306", "E0317"],
        (Step::ChangeDirectory { .. }, Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {
            &["E0321"]
        }
        (Step::SetSysctl { .. }, Errno::ENOENT) => &["E0310"],
        _ => return Vec::new(),
    };
    let mut found = plan::plan(unit, &Machine::default(), Care::Everything).diagnostics;
    found.retain(|finding| codes.contains(&finding.code));
    if let (Step::SetSysctl { .. }, Origin::Key(key)) = (&failed.step, failed.origin) {
        // Another parameter has nothing to do with it.
        found.retain(|finding| finding.at.as_ref().is_some_and(|(at, _)| *at == key));
    }
    found
}

/// A failed step, who asked for it, the error, and what that may mean.
fn failure_text(plan: &Plan, failure: &StepFailed, sources: &Sources) -> String {
    let mut text = what_failed(plan, failure, sources);
    let step = plan.steps.get(failure.step).map(|planned| &planned.step);
    if let Some(hint) = step.and_then(|step| hint(step, failure.failed.errno)) {
        text.push_str(&format!("\n  {hint}"));
    }
    text
}

fn what_failed(plan: &Plan, failure: &StepFailed, sources: &Sources) -> String {
    let Some(planned) = plan.steps.get(failure.step) else {
        return format!("{}: {}", plan.name, on_one_line(&failure.failed.reason()));
    };
    let mut text = format!(
        "{}: step {} of {} failed: {}",
        plan.name,
        failure.step + 1,
        plan.steps.len(),
        describe(&planned.step)
    );
    match planned.origin {
        Origin::Key(span) => text.push_str(&format!("\n  asked for by {}", sources.place(span))),
        Origin::Default(key) => text.push_str(&format!("\n  the default of {key}")),
        Origin::Image(key) => text.push_str(&format!("\n  asked for by {key} of the image")),
        Origin::Arguments => text.push_str("\n  asked for by the arguments behind `--`"),
        Origin::Always(reason) => text.push_str(&format!("\n  always done: {reason}")),
    }
    text.push_str(&format!("\n  {}", on_one_line(&failure.failed.reason())));
    text
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::{Cli, Command};
    use super::*;

    fn both(words: &[&str]) -> (Option<Up>, Option<Up>) {
        let line: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
        let plain = plain(line.clone().into_iter());
        let full = match Cli::try_parse_from(line) {
            Ok(Cli { command: Command::Up(up) }) => Some(up),
            _ => None,
        };
        (plain, full)
    }

    #[test]
    fn the_plain_reader_agrees_with_the_parser() {
        for words in [
            &["jailrun", "up", "a.toml"][..],
            &["jailrun", "up", "-q", "a.toml"],
            &["jailrun", "up", "a.toml", "--set", "x=1", "--quiet", "--set", "y="],
            &["jailrun", "up", "a.toml", "--", "-x", "--", "y"],
            &["jailrun", "up", "a.toml", "--"],
        ] {
            let (plain, full) = both(words);
            assert!(plain.is_some(), "{words:?}");
            assert_eq!(plain, full, "{words:?}");
        }
    }

    #[test]
    fn the_plain_reader_leaves_the_rest_to_the_parser() {
        for words in [
            &["jailrun"][..],
            &["jailrun", "up"],
            &["jailrun", "up", "--help"],
            &["jailrun", "up", "a.toml", "b.toml"],
            &["jailrun", "up", "a.toml", "--dry-run"],
            &["jailrun", "up", "a.toml", "--set"],
            &["jailrun", "up", "--set=x=1", "a.toml"],
            &["jailrun", "up", "-"],
            &["jailrun", "check", "a.toml"],
        ] {
            assert_eq!(both(words).0, None, "{words:?}");
        }
    }
}
