//! The output: tables for people.

use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use crate::contender::Launcher;
use crate::error::Error;
use crate::timing::Figures;

/// Writes to standard output.
pub(crate) fn print(text: impl fmt::Display) -> Result<(), Error> {
    write!(io::stdout(), "{text}").map_err(Error::Output)
}

/// The figures of one case.
pub(crate) struct Table<'a> {
    pub(crate) title: &'a str,
    pub(crate) runs: usize,
    pub(crate) figures: &'a [Figures],
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, runs, figures } = self;
        writeln!(f, "\n{title} ({runs} runs)")?;
        writeln!(
            f,
            "  {:<10}{:>12}{:>12}{:>10}{:>10}",
            "contender", "median µs", "p99 µs", "/ floor", "/ bwrap"
        )?;
        for row in *figures {
            write!(
                f,
                "  {:<10}{:>12.0}{:>12.0}",
                row.launcher.name(),
                micros(row.median),
                micros(row.p99)
            )?;
            for base in [Launcher::Floor, Launcher::Bwrap] {
                match ratio(figures, row.launcher, base) {
                    Some(ratio) => write!(f, "{ratio:>10.2}")?,
                    None => write!(f, "{:>10}", "-")?,
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The median of one launcher by that of another, where both were measured.
pub(crate) fn ratio(figures: &[Figures], of: Launcher, to: Launcher) -> Option<f64> {
    let median =
        |launcher| figures.iter().find(|row| row.launcher == launcher).map(|row| row.median);
    Some(median(of)?.div_duration_f64(median(to)?))
}

/// What jails cost beyond the first of them.
pub(crate) struct Beyond<'a> {
    pub(crate) title: &'a str,
    pub(crate) runs: usize,
    /// A launch by the floor program, in microseconds.
    pub(crate) floor: f64,
    /// A launch of the first jail, in microseconds.
    pub(crate) first: f64,
    pub(crate) rows: &'a [Row],
}

/// One of them.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// Microseconds beyond the first.
    pub(crate) more: f64,
    /// The same for the floor, where it makes these calls.
    pub(crate) kernel: Option<f64>,
    /// The most it may be, by the floor.
    pub(crate) at_most: Option<f64>,
}

impl fmt::Display for Beyond<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { title, runs, floor, first, rows } = self;
        writeln!(f, "\nµs of a launch beyond the first, {title} ({runs} runs, floor {floor:.0})")?;
        writeln!(
            f,
            "  {:<12}{:>10}{:>12}{:>10}{:>12}{:>10}",
            "jail", "µs more", "/ the first", "/ floor", "the kernel", "at most"
        )?;
        for Row { name, more, kernel, at_most } in *rows {
            write!(
                f,
                "  {name:<12}{more:>10.0}{:>12.2}{:>10.2}",
                1.0 + more / first,
                more / floor
            )?;
            match kernel {
                Some(kernel) => write!(f, "{:>12.2}", kernel / floor)?,
                None => write!(f, "{:>12}", "-")?,
            }
            match at_most {
                Some(at_most) => writeln!(f, "{at_most:>10.2}")?,
                None => writeln!(f, "{:>10}", "-")?,
            }
        }
        Ok(())
    }
}

/// What it takes to read a unit.
pub(crate) struct Readings<'a> {
    pub(crate) runs: usize,
    pub(crate) rows: &'a [(&'static str, f64)],
}

impl fmt::Display for Readings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, rows } = self;
        writeln!(f, "\nreadings: what jailrun takes to say what a unit means ({runs} runs)")?;
        for (name, time) in *rows {
            writeln!(f, "  {name:<16}{time:>8.0} µs")?;
        }
        Ok(())
    }
}

/// What many jails at once take, and what one of them holds.
pub(crate) struct Crowd<'a> {
    pub(crate) jails: usize,
    /// Who, the first launch, the last tenth of them and all, in microseconds.
    pub(crate) rows: &'a [(Launcher, f64, f64, f64)],
}

impl fmt::Display for Crowd<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { jails, rows } = self;
        writeln!(f, "\ncrowd: {jails} jails at once, started one after another")?;
        writeln!(
            f,
            "  {:<10}{:>16}{:>16}{:>16}",
            "contender", "first µs each", "last µs each", "all ms"
        )?;
        for (launcher, first, last, all) in *rows {
            writeln!(f, "  {:<10}{first:>16.0}{last:>16.0}{:>16.1}", launcher.name(), all / 1e3)?;
        }
        Ok(())
    }
}

/// The memory of an idle jail.
pub(crate) struct Memory<'a> {
    /// Who, how many processes besides the command, their private dirty memory and their share
    /// of what is shared (Pss), in KiB.
    pub(crate) rows: &'a [(Launcher, usize, u64, u64)],
}

impl fmt::Display for Memory<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nmemory of an idle jail, without its command")?;
        writeln!(
            f,
            "  {:<10}{:>12}{:>20}{:>12}",
            "contender", "processes", "private dirty KiB", "Pss KiB"
        )?;
        for (launcher, processes, dirty, pss) in self.rows {
            writeln!(f, "  {:<10}{processes:>12}{dirty:>20}{pss:>12}", launcher.name())?;
        }
        Ok(())
    }
}

/// What one bind costs a launcher.
pub(crate) struct PerBind {
    pub(crate) launcher: Launcher,
    /// For each step, in microseconds: what a launch takes longer than one without binds, by the
    /// number of binds.
    pub(crate) costs: Vec<f64>,
}

/// What one bind costs where there are more and more of them.
pub(crate) struct PerBindTable<'a> {
    pub(crate) runs: usize,
    /// The numbers of binds.
    pub(crate) steps: &'a [usize],
    pub(crate) rows: &'a [PerBind],
}

impl fmt::Display for PerBindTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, steps, rows } = self;
        writeln!(
            f,
            "\nµs per bind, beyond a launch without any, by the number of binds ({runs} runs)"
        )?;
        write!(f, "  {:<10}", "contender")?;
        for step in *steps {
            write!(f, "{step:>12}")?;
        }
        writeln!(f)?;
        for row in *rows {
            write!(f, "  {:<10}", row.launcher.name())?;
            for cost in &row.costs {
                write!(f, "{cost:>12.2}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// A ratio jailrun has to reach.
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) measured: f64,
    pub(crate) at_most: f64,
}

/// The targets, a line for each.
pub(crate) struct Targets<'a>(pub(crate) &'a [Target]);

impl fmt::Display for Targets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() {
            writeln!(f, "\ntargets")?;
        }
        for Target { name, measured, at_most } in self.0 {
            let verdict = if measured <= at_most { "reached" } else { "missed" };
            writeln!(f, "  {verdict:<9}{name}: {measured:.3}, at most {at_most}")?;
        }
        Ok(())
    }
}

/// A time in microseconds.
pub(crate) fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
