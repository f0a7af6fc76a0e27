//! What every subcommand shares: its arguments, its outcome, its output.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use std::vec;

use serde_json::Value;

/// The exit status, or why there is none.
pub type Outcome = Result<u8, Failure>;

pub enum Failure {
    /// The arguments make no sense.
    Usage(String),
    /// The probe could not do its own work; a refusal it was sent to look for
    /// is a finding, and printed.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// The words after the subcommand, taken from left to right.
pub struct Arguments {
    program: OsString,
    words: vec::IntoIter<OsString>,
}

impl Arguments {
    pub fn new(program: OsString, words: vec::IntoIter<OsString>) -> Self {
        Self { program, words }
    }

    /// The first word of the command line, before the subcommand.
    pub fn program(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    pub fn next(&mut self) -> Option<OsString> {
        self.words.next()
    }

    pub fn required(&mut self, what: &str) -> Result<OsString, Failure> {
        self.next().ok_or_else(|| Failure::Usage(format!("{what} is missing")))
    }

    pub fn parsed<T: FromStr>(&mut self, what: &str) -> Result<T, Failure> {
        let word = self.required(what)?;
        word.to_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Failure::Usage(format!("{word:?} is not a valid {what}")))
    }

    /// No word may be left.
    pub fn end(mut self) -> Result<(), Failure> {
        match self.next() {
            None => Ok(()),
            Some(word) => Err(Failure::Usage(format!("unexpected argument {word:?}"))),
        }
    }

    pub fn only_path(mut self) -> Result<PathBuf, Failure> {
        let path = self.required("PATH")?.into();
        self.end()?;
        Ok(path)
    }

    pub fn only<T: FromStr>(mut self, what: &str) -> Result<T, Failure> {
        let value = self.parsed(what)?;
        self.end()?;
        Ok(value)
    }

    pub fn only_seconds(self) -> Result<Duration, Failure> {
        let seconds = self.only("SECONDS")?;
        Duration::try_from_secs_f64(seconds).map_err(|error| Failure::Usage(error.to_string()))
    }
}

/// Prints one line of JSON; the subcommand has done its work.
pub fn found(value: &Value) -> Outcome {
    say(&value.to_string())?;
    Ok(0)
}

/// Prints one line and flushes it, so that a reader waiting for it gets it now.
pub fn say(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
