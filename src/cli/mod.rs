//! The command line: arguments in, reports and exit statuses out.

mod audit;
mod changes;
mod check;
mod gc;
mod image;
mod init;
mod seccomp;
mod up;

use std::io::Write as _;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};

use self::audit::Audit;
use self::changes::Changes;
use self::check::Check;
use self::gc::Gc;
use self::image::ImageVerb;
use self::init::Init;
use self::seccomp::SeccompVerb;
use self::up::Up;
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::run;
use crate::source::{Sources, printable};
use crate::unit;

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
    if let Some(up) = up::plain(std::env::args_os()) {
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

/// Writes a line about this program to standard error.
fn complain(message: &str) {
    // A closed standard error leaves only the exit status to speak.
    match writeln!(anstream::stderr(), "jailrun: {}", printable(message)) {
        Ok(()) | Err(_) => {}
    }
}

/// The same when a jail has ended: who does not read that must not keep the exit
/// status from who waits for it.
fn complain_at_end(message: &str) {
    write_at_end(&format!("jailrun: {}\n", printable(message)));
}

/// [`report`], when a jail has ended.
fn report_at_end(diagnostics: &[Diagnostic], sources: &Sources, name: &str) {
    let text =
        diagnostic::render(diagnostics, sources) + &diagnostic::summary(diagnostics, name) + "\n";
    match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => {
            write_at_end(&anstream::adapter::strip_str(&text).to_string());
        }
        _ => write_at_end(&text),
    }
}

fn write_at_end(text: &str) {
    // All of them together.
    static DEADLINE: OnceLock<Instant> = OnceLock::new();
    let deadline = *DEADLINE.get_or_init(|| Instant::now() + Duration::from_secs(2));
    let written = match run::output::Output::new(2) {
        Ok(output) => run::output::Until { output, deadline }.write_all(text.as_bytes()),
        Err(_) => std::io::stderr().write_all(text.as_bytes()),
    };
    // As above, the exit status has to speak.
    match written {
        Ok(()) | Err(_) => {}
    }
}

/// Prints a report, with its colours where a terminal shows them.
fn print(text: &str) -> i32 {
    print_to(&mut anstream::stdout(), text)
}

/// Prints what is data, byte for byte: the report's way takes for colours what
/// comes from a unit. It must hold nothing that a terminal obeys.
fn print_exactly(text: &str) -> i32 {
    print_to(&mut std::io::stdout(), text)
}

/// Prints JSON, whose strings may hold some control characters.
fn print_json(text: &str) -> i32 {
    let mut spelt = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() && c != '\n' {
            true => spelt.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => spelt.push(c),
        }
    }
    print_exactly(&spelt)
}

fn print_to(out: &mut impl std::io::Write, text: &str) -> i32 {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => 0,
        // A reader that has seen enough is no failure.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            complain(&format!("cannot write the report: {}", unit::io_reason(&error)));
            FAILURE
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parser_is_sound() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }
}
