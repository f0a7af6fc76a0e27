//! The machine the figures are of.

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::thread;

use crate::contender;
use crate::error::Error;

/// What a reader must know of the machine to judge its figures.
pub(crate) struct Machine {
    kernel: String,
    cpu: String,
    cores: usize,
    date: String,
}

impl Machine {
    pub(crate) fn read() -> Result<Self, Error> {
        let read = |path| fs::read_to_string(path).map_err(Error::file("read", path));
        let cpus = read("/proc/cpuinfo")?;
        let model = cpus
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| key.trim() == "model name");
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            // Not every architecture names the model.
            cpu: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            date: contender::first_line(Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]))?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine  Linux {}, {}, cores: {}", self.kernel, self.cpu, self.cores)?;
        writeln!(f, "date     {}", self.date)
    }
}

/// Fails unless root runs the benchmark: `floor` makes no user namespace.
pub(crate) fn require_root() -> Result<(), Error> {
    let process = "/proc/self";
    let owner = fs::metadata(process).map_err(Error::file("inspect", process))?.uid();
    if owner == 0 { Ok(()) } else { Err(Error::NotRoot) }
}
