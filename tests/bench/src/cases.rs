//! What is compared, and what jailrun has to reach.

use crate::contender::{Launcher, Programs};
use crate::crowds;
use crate::error::Error;
use crate::jail::{Confinement, Jail, Limits, Network, Root};
use crate::report::{self, Beyond, PerBind, PerBindTable, Row, Table, Target, micros, ratio};
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

/// What the floor takes on the reference machine, in microseconds: where a target is a time, it is
/// measured by the floor of the same run, for every machine has its own speed.
const REFERENCE_FLOOR: f64 = 578.0;

/// Launches with so many binds show whether the time grows with their number alone.
const LADDER: [usize; 3] = [250, 500, MOST_BINDS];

/// The most that a bind may cost on the ladder's last step, by what it costs on the first.
const LINEAR: f64 = 1.5;

const BARE: Jail = Jail {
    name: "bare",
    network: Network::Host,
    limits: Limits::None,
    confinement: Confinement::None,
    binds: 0,
    root: Root::Directory,
    number: 0,
};

const NETWORK: Jail = Jail { name: "network", network: Network::Own, ..BARE };

/// Measures the other programs of this kind, and nothing else.
pub(crate) fn measure_peers(programs: &Programs, stage: &Stage, runs: usize) -> Result<(), Error> {
    peers(programs, stage, NETWORK, runs)
}

/// Measures every case, printing each as it is done; gives the targets, none of them without a
/// jailrun.
pub(crate) fn measure_all(
    programs: &Programs,
    stage: &Stage,
    runs: usize,
) -> Result<Vec<Target>, Error> {
    let rounds = Rounds { warm_up: 5, timed: runs };
    let (bare, network) = (BARE, NETWORK);
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
            title: "defaults: network, and for jailrun all of its defaults, with the filter",
            jail: Jail {
                name: "defaults",
                limits: Limits::Default,
                confinement: Confinement::Default,
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
    let roots = Root::ALL.map(|root| Variant {
        jail: Jail { name: root.name(), root, ..bare },
        at_most: root.at_most(),
    });
    targets.extend(beyond(programs, stage, "by the root", &roots, rounds)?);
    programs.forget(&stage.archive())?;
    let confined = Confinement::ALL.map(|confinement| Variant {
        jail: Jail { name: confinement.name(), confinement, ..bare },
        at_most: confinement.at_most(),
    });
    targets.extend(beyond(programs, stage, "by what confines it", &confined, rounds)?);
    peers(programs, stage, network, runs.min(20))?;
    crowds::measure(programs, stage, bare)?;
    targets.extend(crowds::memory(programs, stage, bare)?);
    readings(programs, stage, bare, rounds)?;
    Ok(targets)
}

/// A jail that differs from the first of its table in one thing.
struct Variant {
    jail: Jail,
    /// The most it may take beyond the first one, in microseconds of the reference machine.
    at_most: Option<f64>,
}

/// Measures what jailrun takes beyond the first of several jails, and prints it.
fn beyond(
    programs: &Programs,
    stage: &Stage,
    title: &str,
    variants: &[Variant],
    rounds: Rounds,
) -> Result<Vec<Target>, Error> {
    // For each of them jailrun, and before it the floor, where that makes its calls.
    let mut contenders = Vec::new();
    for variant in variants {
        let all = programs.contenders(&variant.jail, stage)?;
        contenders.extend(all.into_iter().filter(|one| match one.launcher {
            Launcher::Floor => variant.jail.has_floor(),
            launcher => launcher == Launcher::Jailrun,
        }));
    }
    if contenders.iter().all(|one| one.launcher == Launcher::Floor) {
        return Ok(Vec::new());
    }
    let figures = timing::in_turns(contenders, rounds)?;
    let mut medians = figures.iter().map(|row| micros(row.median));
    let measured: Vec<_> = variants
        .iter()
        .filter_map(|variant| {
            let floor = if variant.jail.has_floor() { Some(medians.next()?) } else { None };
            Some((variant, floor, medians.next()?))
        })
        .collect();
    let [(_, Some(floor), first), ..] = measured[..] else { return Ok(Vec::new()) };
    let rows: Vec<_> = measured
        .iter()
        .map(|(variant, own, median)| Row {
            name: variant.jail.name,
            more: median - first,
            kernel: own.map(|own| own - floor),
            at_most: variant.at_most.map(|most| most / REFERENCE_FLOOR),
        })
        .collect();
    report::print(Beyond { title, runs: rounds.timed, floor, first, rows: &rows })?;
    Ok(rows
        .iter()
        .filter_map(|row| {
            Some(Target {
                name: format!("{}, time more / floor", row.name),
                measured: row.more / floor,
                at_most: row.at_most?,
            })
        })
        .collect())
}

/// Measures the other programs of this kind that are there, with what each puts up by itself.
fn peers(programs: &Programs, stage: &Stage, jail: Jail, runs: usize) -> Result<(), Error> {
    let mut contenders = programs.contenders(&jail, stage)?;
    contenders.extend(programs.peers(&Jail { name: "peers", ..jail }, stage)?);
    let rounds = Rounds { warm_up: 1, timed: runs };
    let figures = timing::in_turns(contenders, rounds)?;
    let title = "peers: network, by everything that is installed";
    report::print(Table { title, runs, figures: &figures })
}

/// Measures what jailrun takes to read a unit and say what it means.
fn readings(programs: &Programs, stage: &Stage, jail: Jail, rounds: Rounds) -> Result<(), Error> {
    let (names, contenders): (Vec<_>, Vec<_>) =
        programs.readings(&jail, stage)?.into_iter().unzip();
    if contenders.is_empty() {
        return Ok(());
    }
    let figures = timing::in_turns(contenders, rounds)?;
    let rows: Vec<_> =
        names.into_iter().zip(&figures).map(|(name, row)| (name, micros(row.median))).collect();
    report::print(report::Readings { runs: rounds.timed, rows: &rows })
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
