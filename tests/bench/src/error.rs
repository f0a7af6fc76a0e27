//! What can keep the benchmark from its figures.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// A failure that ends the benchmark.
#[derive(Debug)]
pub(crate) enum Error {
    /// A file or directory could not be used: what was to be done with it, and the path.
    File { action: &'static str, path: PathBuf, error: io::Error },
    /// There is no bubblewrap to compare with.
    NoBubblewrap,
    /// The programs to put into the jail need libraries, which the jail does not have.
    NotStatic,
    /// The benchmark was not started by root.
    NotRoot,
    /// A handler for SIGINT and SIGTERM could not be installed.
    Signals(io::Error),
    /// A program could not be started at all.
    Spawn { command: String, error: io::Error },
    /// A program has ended with something else than success.
    Launch { command: String, status: ExitStatus, stderr: Vec<u8> },
    /// A jail's command did not start to run.
    NotUp(&'static str),
    /// The figures could not be written to standard output.
    Output(io::Error),
    /// SIGINT or SIGTERM came in.
    Interrupted,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { action, path, error } => {
                write!(f, "cannot {action} `{}`: {error}", path.display())
            }
            Self::NoBubblewrap => write!(
                f,
                "bubblewrap is not there to compare with: `apt-get install bubblewrap`, or give its path with `--bwrap`"
            ),
            Self::NotStatic => write!(
                f,
                "the programs put into the jail must be static: build with `--target x86_64-unknown-linux-musl`"
            ),
            Self::NotRoot => write!(f, "only root can make the namespaces that are measured"),
            Self::Signals(error) => write!(f, "cannot handle signals: {error}"),
            Self::Output(error) => write!(f, "cannot print the figures: {error}"),
            Self::Spawn { command, error } => write!(f, "cannot start `{command}`: {error}"),
            Self::Launch { command, status, stderr } => {
                let stderr = String::from_utf8_lossy(stderr);
                write!(f, "`{command}` has failed: {status}; it says:\n{}", stderr.trim_end())
            }
            Self::NotUp(launcher) => write!(f, "a jail of {launcher} does not come up"),
            Self::Interrupted => write!(f, "interrupted"),
        }
    }
}

impl Error {
    /// Names the path an I/O error is about; for `map_err`.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |error| Self::File { action, path, error }
    }
}
