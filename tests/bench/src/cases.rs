//! What is compared, and what jailrun has to reach.

use crate::contender::{Launcher, Programs};
use crate::error::Error;
use crate::jail::{Jail, Limits, Network, ProtectedPaths, Root};
use crate::report::{self, PerBind, PerBindTable, RootTable, Table, Target, micros, ratio};
use crate::stage::{MOST_BINDS, Stage};
use crate::timing::{self, Rounds};

/// A jail that every launcher launches.
struct Case {
    title: &'static str,
    jail: Jail,
    rounds: Rounds,
    /// The most jailrun may take, by what bubblewrap takes.
    at_most: Option<f64>,
}

/// Launches with so many binds show whether the time grows with their number alone.
const LADDER: [usize; 3] = [250, 500, MOST_BINDS];

/// The most that a bind may cost on the ladder's last step, by what it costs on the first.
const LINEAR: f64 = 1.5;

/// Measures every case, printing each as it is done; gives the targets, none of them without a
/// jailrun.
pub(crate) fn measure_all(
    programs: &Programs,
    stage: &Stage,
    runs: usize,
) -> Result<Vec<Target>, Error> {
    let rounds = Rounds { warm_up: 5, timed: runs };
    let bare = Jail {
        name: "bare",
        network: Network::Host,
        limits: Limits::None,
        protected_paths: ProtectedPaths::None,
        binds: 0,
        root: Root::Directory,
    };
    let network = Jail { name: "network", network: Network::Own, ..bare };
    let cases = [
        Case {
            title: "bare: mount, pid, uts, ipc and cgroup namespaces, /proc, /dev, /tmp",
            jail: bare,
            rounds,
            at_most: Some(0.4),
        },
        Case {
            title: "network: bare, and a network namespace",
            jail: network,
            rounds,
            at_most: Some(0.4),
        },
        Case {
            title: "limits: network, and for jailrun limits of memory, cpu and pids",
            jail: Jail { name: "limits", limits: Limits::Three, ..network },
            rounds,
            at_most: Some(0.6),
        },
        Case {
            title: "defaults: network, and for jailrun its default limits and protected paths",
            jail: Jail {
                name: "defaults",
                limits: Limits::Default,
                protected_paths: ProtectedPaths::Default,
                ..network
            },
            rounds,
            at_most: None,
        },
        Case {
            title: "binds: bare, and 1,000 read-only binds",
            jail: Jail { name: "binds", binds: MOST_BINDS, ..bare },
            // bubblewrap's time grows with the square of the number of binds: a launch is slow
            // enough to need no long series.
            rounds: Rounds { warm_up: 1, timed: runs.min(10) },
            at_most: Some(0.05),
        },
    ];

    let mut targets = Vec::new();
    for Case { title, jail, rounds, at_most } in cases {
        let figures = timing::in_turns(programs.contenders(&jail, stage)?, rounds)?;
        report::print(Table { title, runs: rounds.timed, figures: &figures })?;
        if let (Some(at_most), Some(measured)) =
            (at_most, ratio(&figures, Launcher::Jailrun, Launcher::Bwrap))
        {
            targets.push(Target {
                name: format!("{}, jailrun / bwrap", jail.name),
                measured,
                at_most,
            });
        }
    }
    targets.extend(climb(programs, stage, bare, runs.min(50))?);
    targets.extend(roots(programs, stage, bare, rounds)?);
    Ok(targets)
}

/// Measures what a root costs jailrun beyond a directory, and prints it. The archive is unpacked
/// by the first launch, and taken out of the store again.
fn roots(
    programs: &Programs,
    stage: &Stage,
    bare: Jail,
    rounds: Rounds,
) -> Result<Vec<Target>, Error> {
    let mut contenders = Vec::new();
    for root in Root::ALL {
        let all = programs.contenders(&Jail { name: root.name(), root, ..bare }, stage)?;
        contenders
            .extend(all.into_iter().filter(|contender| contender.launcher == Launcher::Jailrun));
    }
    if contenders.is_empty() {
        return Ok(Vec::new());
    }
    let figures = timing::in_turns(contenders, rounds)?;
    programs.forget(&stage.archive())?;
    let directory = micros(figures[0].median);
    let rows: Vec<_> = Root::ALL
        .into_iter()
        .zip(&figures)
        .map(|(root, row)| (root.name(), micros(row.median) - directory))
        .collect();
    report::print(RootTable { runs: rounds.timed, directory, rows: &rows })?;
    let targets = Root::ALL.into_iter().zip(&rows).filter_map(|(root, (name, more))| {
        Some(Target {
            name: format!("{name}, µs beyond a directory"),
            measured: *more,
            at_most: root.at_most()?,
        })
    });
    Ok(targets.collect())
}

/// Measures what a bind costs on each step of the ladder, and prints it; bubblewrap is left out.
fn climb(
    programs: &Programs,
    stage: &Stage,
    bare: Jail,
    runs: usize,
) -> Result<Option<Target>, Error> {
    let mut contenders = Vec::new();
    for binds in [0].into_iter().chain(LADDER) {
        let jail = Jail { name: "ladder", binds, ..bare };
        let all = programs.contenders(&jail, stage)?;
        contenders
            .extend(all.into_iter().filter(|contender| contender.launcher != Launcher::Bwrap));
    }
    let figures = timing::in_turns(contenders, Rounds { warm_up: 2, timed: runs })?;

    let cost = |launcher| {
        let mut medians =
            figures.iter().filter(|row| row.launcher == launcher).map(|row| micros(row.median));
        let none = medians.next()?;
        let costs = LADDER.iter().zip(medians).map(|(&binds, some)| (some - none) / binds as f64);
        Some(PerBind { launcher, costs: costs.collect() })
    };
    let rows: Vec<_> = [Launcher::Floor, Launcher::Jailrun].into_iter().filter_map(cost).collect();
    report::print(PerBindTable { runs, steps: &LADDER, rows: &rows })?;

    let jailrun = rows.iter().find(|row| row.launcher == Launcher::Jailrun);
    Ok(jailrun.map(|row| Target {
        name: format!("binds, the cost of one of {} / of one of {}", LADDER[2], LADDER[0]),
        measured: row.costs[2] / row.costs[0],
        at_most: LINEAR,
    }))
}
