//! The command line: arguments in, reports and exit statuses out.

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::audit;
use crate::changes::{self, Lowers};
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::dry_run::DryRun;
use crate::explain;
use crate::host::{Host as _, Machine};
use crate::image::digest::Digest;
use crate::image::layer::Limit;
use crate::image::progress::Progress;
use crate::image::store::{Store, StoreError, Unwanted};
use crate::image::verbs::{self, Wanted};
use crate::init_unit::{self, Asked};
use crate::plan::describe::{describe, summary};
use crate::plan::step::{Origin, Step};
use crate::plan::{self, Care, Plan};
use crate::run::error::{StepFailed, hint};
use crate::run::{self, Cause, Ended};
use crate::seccomp::print;
use crate::source::Sources;
use crate::unit::{self, Loaded};

/// Exit status of `up` for jailrun's own failures.
const FAILURE: i32 = run::FAILURE;

/// A declarative Linux sandbox launcher.
#[derive(Debug, Parser)]
#[command(name = "jailrun", version, about, long_about = None, disable_help_subcommand = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Launch a jail and wait for its end
    Up(Up),
    /// Report every problem of units, without launching anything
    Check(Check),
    /// Say what jails could still do, worst first, and which keys would stop them
    Audit(Audit),
    /// Print a unit for a command, with a root of what it needs of this host
    Init(Init),
    /// List what an overlay's upper directory adds, changes and deletes
    Changes(Changes),
    /// Print the filter for system calls that a unit gets
    Seccomp(SeccompVerb),
    /// Take back what killed launches have left
    Gc(Gc),
    /// Store images, list and remove them
    #[command(subcommand, disable_help_subcommand = true)]
    Image(ImageVerb),
}

#[derive(Debug, Subcommand)]
enum ImageVerb {
    /// Store an image or an archive, so that launches find it unpacked
    Import(ImageImport),
    /// List the stored images
    Ls(ImageLs),
    /// Remove images, unless a jail runs from them
    Rm(ImageRm),
    /// Remove what no image needs, and what killed imports have left
    Gc(ImageGc),
}

#[derive(Debug, Args)]
struct ImageImport {
    /// An OCI layout, an OCI archive, a docker-archive, or a tar archive
    #[arg(value_name = "SOURCE[:REF]")]
    source: String,

    /// Take the source for a plain archive, whatever it looks like
    #[arg(long)]
    tar: bool,

    /// Of a plain archive: the SHA-256 digest that its file must have
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    sha256: Option<Digest>,

    /// Of a plain archive: take so many leading components off every name
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    strip_components: u32,

    /// Change a limit: bytes, ratio, entries, path, depth or memory
    #[arg(long, value_name = "NAME=NUMBER", value_parser = verbs::limit)]
    limit: Vec<(Limit, u64)>,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct ImageLs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ImageRm {
    /// Names as listed, references, digests, or beginnings of digests
    #[arg(required = true, value_name = "NAME|DIGEST")]
    images: Vec<String>,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
struct ImageGc {
    /// Also remove images whose source is gone or has changed
    #[arg(long)]
    all: bool,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

fn parse_sha256(text: &str) -> Result<Digest, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    format!("sha256:{}", digits.to_ascii_lowercase())
        .parse()
        .map_err(|_| "expected 64 hexadecimal digits".to_owned())
}

#[derive(Debug, Default, PartialEq, Eq, Args)]
struct Up {
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

#[derive(Debug, Args)]
struct Check {
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

#[derive(Debug, Args)]
struct Audit {
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

fn parse_threshold(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=10.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 10".to_owned())
}

#[derive(Debug, Args)]
struct Init {
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct Changes {
    /// A running jail, a unit whose root has an upper directory, or that directory itself
    #[arg(value_name = "NAME|UNIT|UPPER")]
    of: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Set a key over the unit
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

#[derive(Debug, Args)]
struct SeccompVerb {
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

#[derive(Debug, Args)]
struct Gc {
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

/// Runs the program; returns its exit status.
pub fn main() -> i32 {
    if crate::sys::started_with_privileges() {
        complain(
            "jailrun refuses to run with privileges that its caller does not have (set-user-id or file capabilities)",
        );
        return FAILURE;
    }
    if let Ok(filter) = std::env::var("JAILRUN_LOG") {
        env_logger::Builder::new().parse_filters(&filter).init();
    }
    if let Some(up) = plain_up(std::env::args_os()) {
        return up.run();
    }
    let is_up = std::env::args_os().nth(1).is_some_and(|verb| verb == "up");
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let for_help = !error.use_stderr();
            // Where even the message cannot be written, the status still tells.
            match error.print() {
                Ok(()) | Err(_) => {}
            }
            return match (for_help, is_up) {
                (true, _) => 0,
                (false, true) => FAILURE,
                (false, false) => 2,
            };
        }
    };
    match cli.command {
        Command::Up(up) => up.run(),
        Command::Check(check) => check.run(),
        Command::Audit(audit) => audit.run(),
        Command::Init(init) => init.run(),
        Command::Changes(changes) => changes.run(),
        Command::Seccomp(seccomp) => seccomp.run(),
        Command::Gc(gc) => gc.run(),
        Command::Image(verb) => verb.run(),
    }
}

/// Reads the plainest command lines of `up` without building the whole parser,
/// which takes as long as the clone: `up [-q] [--set KEY=VALUE]… UNIT [-- ARG…]`.
/// Anything else is left to the parser; a test holds the two together.
fn plain_up(arguments: impl Iterator<Item = std::ffi::OsString>) -> Option<Up> {
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

/// Writes a line about this program to standard error.
fn complain(message: &str) {
    // A closed standard error leaves only the exit status to speak.
    match writeln!(anstream::stderr(), "jailrun: {}", printable(message)) {
        Ok(()) | Err(_) => {}
    }
}

fn print(text: &str) -> i32 {
    match anstream::stdout().write_all(text.as_bytes()) {
        Ok(()) => 0,
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            complain(&format!("cannot write the report: {}", unit::io_reason(&error)));
            FAILURE
        }
    }
}

/// Escapes control characters: messages may quote names that a jail chose.
fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let keep = !c.is_control() || c == '\n';
            let escaped: Vec<char> = if keep { vec![c] } else { c.escape_default().collect() };
            escaped
        })
        .collect()
}

fn report(diagnostics: &[Diagnostic], sources: &Sources, name: &str) {
    let text =
        diagnostic::render(diagnostics, sources) + &diagnostic::summary(diagnostics, name) + "\n";
    match anstream::stderr().write_all(text.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

fn has_error(diagnostics: &[Diagnostic]) -> bool {
    diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error)
}

impl Up {
    fn run(&self) -> i32 {
        let name = self.unit.display().to_string();
        let mut loaded = unit::load(&self.unit, &self.set, &self.arguments);
        let machine = Machine::default();
        let care = if self.dry_run || self.explain { Care::Everything } else { Care::Launch };
        let Some(unit) = &loaded.unit else {
            report(&loaded.diagnostics, &loaded.sources, &name);
            return FAILURE;
        };
        let mut planning = plan::plan(unit, &machine, care);
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
            return print(&match plan.needs_preparation() {
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
        let text = if self.json {
            format!("{:#}\n", dry_run.json(machine))
        } else {
            if !planning.diagnostics.is_empty() {
                report(&planning.diagnostics, &loaded.sources, name);
            }
            dry_run.text(machine)
        };
        match print(&text) {
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
                complain(&match found.is_empty() {
                    true => failure_text(plan, &failure, &loaded.sources),
                    false => what_failed(plan, &failure, &loaded.sources),
                });
                if !found.is_empty() {
                    report(&found, &loaded.sources, &self.unit.display().to_string());
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
            complain(&format!(
                "{}: verified: {mounts} of {mounts} mounts, {limits} of {limits} limits",
                plan.name
            ));
        }
        for failure in &ended.left {
            complain(&format!("could not be taken back: {}", failure_text(plan, failure, sources)));
        }
        match &ended.cause {
            Cause::Command => {}
            Cause::Timeout(after) => complain(&format!(
                "{}: ended after its timeout of {}",
                plan.name,
                humantime::format_duration(*after)
            )),
            Cause::Stopped if !self.quiet => {
                complain(&format!("{}: killed after it had been told to stop", plan.name))
            }
            Cause::Stopped => {}
            Cause::OutOfMemory { peak, limit } => {
                let size = |bytes: &Option<u64>| bytes.map_or("unknown".to_owned(), human_size);
                complain(&format!(
                    "{}: killed by the kernel for memory: peak {}, limit {}",
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
        (Step::ChangeDirectory { .. }, Errno::ENOENT | Errno::ENOTDIR) => &["E0321"],
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
    let errno = failure.failed.errno;
    let Some(planned) = plan.steps.get(failure.step) else {
        return format!("{}: {}", plan.name, errno.desc().to_lowercase());
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
    match &failure.failed.detail {
        // What jailrun itself has found says it all.
        Some(detail) if errno == Errno::EWOULDBLOCK => text.push_str(&format!("\n  {detail}")),
        detail => {
            text.push_str(&format!("\n  {}: {}", errno_name(errno), errno.desc().to_lowercase()));
            if let Some(detail) = detail {
                text.push_str(&format!("; {detail}"));
            }
        }
    }
    text
}

fn errno_name(errno: Errno) -> String {
    format!("{errno:?}")
}

impl Check {
    fn run(&self) -> i32 {
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
        if self.json && print(&format!("{:#}\n", serde_json::Value::Array(all))) != 0 {
            return 2;
        }
        status
    }
}

impl Audit {
    fn run(&self) -> i32 {
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
                let text = found.text(&printable(&name), &loaded.sources);
                if print(&(gap.to_owned() + &text)) != 0 {
                    return 2;
                }
            }
        }
        if self.json && print(&format!("{:#}\n", serde_json::Value::Array(all))) != 0 {
            return 2;
        }
        status
    }
}

impl Init {
    fn run(&self) -> i32 {
        let directory = match std::env::current_dir() {
            Ok(directory) => directory,
            Err(error) => {
                complain(&format!("the working directory: {}", unit::io_reason(&error)));
                return 1;
            }
        };
        let asked = Asked {
            root: std::path::Path::new("/"),
            command: &self.command,
            directory: &directory,
        };
        match init_unit::unit_for(&asked) {
            Ok(text) => print(&text),
            Err(problems) => {
                for problem in problems {
                    complain(&problem.to_string());
                }
                1
            }
        }
    }
}

impl SeccompVerb {
    fn run(&self) -> i32 {
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
            (true, _) => print::pseudo(&policy),
            (_, true) => format!("{:#}\n", print::profile(&policy)),
            _ => print::disassembly(&policy, &filter.program()),
        };
        match self::print(&text) {
            0 => 0,
            _ => 2,
        }
    }
}

impl Changes {
    fn run(&self) -> i32 {
        match self.list() {
            Ok(text) => print(&text),
            Err(message) => {
                complain(&message);
                1
            }
        }
    }

    fn list(&self) -> Result<String, String> {
        let running = self.of.to_str().filter(|name| unit::is_name(name) && !self.of.exists());
        let (upper, lower) = if self.of.is_dir() {
            (self.of.clone(), None)
        } else if let Some(name) = running {
            let found = run::state::stack_of(&Machine::default().state_directory(), name);
            let found = found.map_err(|failed| failed.errno.desc().to_lowercase())?;
            let stack = found.ok_or_else(|| {
                format!("no jail `{name}` runs whose root keeps its changes in a directory")
            })?;
            (stack.upper, Some(stack.lower))
        } else {
            let (upper, lower) = self.overlay()?;
            (upper, Some(lower))
        };
        let open = |path: &PathBuf| {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::open(path, flags, Mode::empty())
                .map_err(|errno| format!("`{}`: {}", path.display(), errno.desc().to_lowercase()))
        };
        let upper = open(&upper)?;
        let opened = lower.iter().flatten().map(open).collect::<Result<Vec<_>, _>>()?;
        let opened: Vec<_> = opened.iter().map(|fd| fd.as_fd()).collect();
        let lowers = match lower {
            Some(_) => Lowers::Known(&opened),
            None => Lowers::Unknown,
        };
        // The other kind means nothing to the mount, and a jail could write it.
        let marks = match nix::unistd::geteuid().is_root() {
            true => changes::Marks::Trusted,
            false => changes::Marks::User,
        };
        let found =
            changes::read(upper.as_fd(), lowers, marks).map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        let written = match self.json {
            true => changes::print_json(&found, &mut text),
            false => changes::print(&found, &mut text),
        };
        written.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The directories of a unit's root: the one with the changes, and those
    /// below.
    fn overlay(&self) -> Result<(PathBuf, Vec<PathBuf>), String> {
        let name = self.of.display().to_string();
        // What it runs does not matter here, and may come with the launch.
        let loaded = unit::load(&self.of, &self.set, &["true".to_owned()]);
        if has_error(&loaded.diagnostics) {
            report(&loaded.diagnostics, &loaded.sources, &name);
            return Err(format!("{name} is no unit"));
        }
        let kind = loaded.unit.as_ref().and_then(|unit| unit.root.kind.as_ref());
        let (Some(unit), Some(unit::root::RootKind::Overlay(overlay))) =
            (&loaded.unit, kind.map(|kind| &kind.value))
        else {
            return Err(format!("the root of {name} is no overlay"));
        };
        let Some(unit::root::Upper::Directory(upper)) =
            overlay.upper.as_ref().map(|upper| &upper.value)
        else {
            return Err(format!("the root of {name} has no `upper` directory"));
        };
        let resolve = |path: &unit::value::HostPath| path.resolve(&unit.base);
        Ok((resolve(upper), overlay.lower.iter().map(|path| resolve(&path.value)).collect()))
    }
}

impl Gc {
    fn run(&self) -> i32 {
        match run::state::collect(&Machine::default().state_directory()) {
            Ok(collected) => {
                if !self.quiet {
                    for name in &collected.reclaimed {
                        complain(&format!("{name}: taken back"));
                    }
                    if collected.reclaimed.is_empty() {
                        complain(&format!(
                            "nothing to take back, {} running",
                            collected.running.len()
                        ));
                    }
                }
                0
            }
            Err(failed) => {
                let detail = failed.detail.unwrap_or_default();
                complain(&format!("gc: {}: {detail}", failed.errno.desc().to_lowercase()));
                1
            }
        }
    }
}

impl ImageVerb {
    fn run(self) -> i32 {
        let quiet = match &self {
            Self::Import(ImageImport { quiet, .. })
            | Self::Rm(ImageRm { quiet, .. })
            | Self::Gc(ImageGc { quiet, .. }) => *quiet,
            Self::Ls(_) => false,
        };
        let progress = if quiet { Progress::silent() } else { Progress::on_terminal() };
        let done = Store::of_caller().and_then(|store| self.act(&store, &progress));
        drop(progress);
        match done {
            Ok(Said::Report(text)) => i32::from(print(&text) != 0),
            Ok(Said::Lines(lines)) => {
                lines.iter().filter(|_| !quiet).for_each(|line| complain(line));
                0
            }
            Err(error) => {
                complain(&error.to_string());
                1
            }
        }
    }

    fn act(self, store: &Store, progress: &Progress) -> Result<Said, StoreError> {
        Ok(match self {
            Self::Import(import) => {
                let wanted = Wanted {
                    source: import.source,
                    tar: import.tar,
                    sha256: import.sha256,
                    strip_components: import.strip_components,
                    limits: import.limit,
                };
                Said::Lines(verbs::import(store, &wanted, progress)?)
            }
            Self::Ls(ImageLs { json: true }) => Said::Report(verbs::list_json(&store.list()?)),
            Self::Ls(ImageLs { json: false }) => Said::Report(verbs::list(&store.list()?)),
            Self::Rm(rm) => Said::Lines(verbs::remove(store, &rm.images, progress)?),
            Self::Gc(gc) => {
                let unwanted = if gc.all { Unwanted::WithoutSource } else { Unwanted::Leftovers };
                Said::Lines(verbs::collect(store, unwanted, progress)?)
            }
        })
    }
}

/// What a verb has to say.
enum Said {
    /// On standard output.
    Report(String),
    /// About what was done, on standard error.
    Lines(Vec<String>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(words: &[&str]) -> (Option<Up>, Option<Up>) {
        let line: Vec<std::ffi::OsString> = words.iter().map(Into::into).collect();
        let plain = plain_up(line.clone().into_iter());
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

    #[test]
    fn the_parser_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
