//! The command line.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

/// What `--help` prints.
///
/// `--without-jailrun` is left out: it measures floor and bubblewrap alone, for work on the
/// benchmark itself.
pub(crate) const HELP: &str = "\
usage: jailbench --jailrun PATH [--runs N] [--bwrap PATH] [--peers]

Times launches by jailrun, by bubblewrap and by the system calls alone, in turns.

  --jailrun PATH  the jailrun to measure
  --runs N        launches of each contender per case (default 300; fewer where 1,000 binds are made)
  --bwrap PATH    the bubblewrap to compare with (default: the one in PATH)
  --peers         measure nothing but the other programs of this kind that are there
  --help          print this text
";

/// What to measure.
pub(crate) struct Options {
    /// The jailrun to measure; without one, only floor and bubblewrap are.
    pub(crate) jailrun: Option<PathBuf>,
    pub(crate) bwrap: Option<PathBuf>,
    pub(crate) runs: usize,
    /// Whether the table of peers is the only one.
    pub(crate) peers: bool,
}

/// What the arguments ask for.
pub(crate) enum Invocation {
    Help,
    Measure(Options),
}

/// What is wrong with the arguments.
#[derive(Debug)]
pub(crate) enum UsageError {
    Unknown(OsString),
    NoValue(&'static str),
    NotARunCount(OsString),
    NoJailrun,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(argument) => write!(f, "unknown argument `{}`", argument.display()),
            Self::NoValue(option) => write!(f, "`{option}` needs a value"),
            Self::NotARunCount(value) => {
                write!(
                    f,
                    "`{}` is no number of runs: expected a whole number from 1",
                    value.display()
                )
            }
            Self::NoJailrun => write!(f, "`--jailrun PATH` is missing"),
        }
    }
}

/// Reads the arguments, without the program's name.
pub(crate) fn parse(
    mut arguments: impl Iterator<Item = OsString>,
) -> Result<Invocation, UsageError> {
    let mut options = Options { jailrun: None, bwrap: None, runs: 300, peers: false };
    let mut without_jailrun = false;
    while let Some(argument) = arguments.next() {
        let mut value = |option| arguments.next().ok_or(UsageError::NoValue(option));
        match argument.to_str() {
            Some("--help" | "-h") => return Ok(Invocation::Help),
            Some("--jailrun") => options.jailrun = Some(value("--jailrun")?.into()),
            Some("--bwrap") => options.bwrap = Some(value("--bwrap")?.into()),
            Some("--peers") => options.peers = true,
            Some("--without-jailrun") => without_jailrun = true,
            Some("--runs") => {
                let value = value("--runs")?;
                let runs =
                    value.to_str().and_then(|text| text.parse().ok()).filter(|&runs| runs > 0);
                options.runs = runs.ok_or(UsageError::NotARunCount(value))?;
            }
            _ => return Err(UsageError::Unknown(argument)),
        }
    }
    if options.jailrun.is_none() && !without_jailrun {
        return Err(UsageError::NoJailrun);
    }
    Ok(Invocation::Measure(options))
}
