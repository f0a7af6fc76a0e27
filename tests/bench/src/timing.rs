//! The timing: contenders in turns, and the figures that sum their times up.

use std::time::{Duration, Instant};

use crate::contender::{Contender, Launcher};
use crate::error::Error;
use crate::interrupt;

/// How often everything is launched.
#[derive(Clone, Copy)]
pub(crate) struct Rounds {
    /// The rounds before the clock counts, in which caches fill.
    pub(crate) warm_up: usize,
    pub(crate) timed: usize,
}

/// What the launches of one contender took, from spawn to wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) launcher: Launcher,
    pub(crate) median: Duration,
    pub(crate) p99: Duration,
}

/// Launches each contender once per round and gives the figures of each, in the order of the
/// contenders.
///
/// What the machine does besides, and what a launch leaves to the kernel to clear away, so falls on
/// all alike.
pub(crate) fn in_turns(
    mut contenders: Vec<Contender>,
    rounds: Rounds,
) -> Result<Vec<Figures>, Error> {
    let mut times = vec![Vec::with_capacity(rounds.timed); contenders.len()];
    for round in 0..rounds.warm_up + rounds.timed {
        for index in order(contenders.len(), round) {
            let start = Instant::now();
            let status = contenders[index].launch()?;
            let time = start.elapsed();
            interrupt::check()?;
            if !status.success() {
                return Err(contenders.swap_remove(index).failure(status));
            }
            if round >= rounds.warm_up {
                times[index].push(time);
            }
        }
    }
    let figures = contenders.iter().zip(&mut times).map(|(contender, times)| {
        times.sort_unstable();
        Figures { launcher: contender.launcher, median: median(times), p99: p99(times) }
    });
    Ok(figures.collect())
}

/// The order of a round: it starts with another contender each time, and runs backwards after every
/// full turn, so that nobody has the same predecessor always.
fn order(contenders: usize, round: usize) -> impl Iterator<Item = usize> {
    let backwards = (round / contenders) % 2 == 1;
    (0..contenders).map(move |place| {
        let place = if backwards { contenders - 1 - place } else { place };
        (place + round) % contenders
    })
}

/// The middle of sorted times, or the mean of the two in the middle.
fn median(sorted: &[Duration]) -> Duration {
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    (sorted[low] + sorted[high]) / 2
}

/// The time that 99 of 100 of the sorted times do not exceed: the one of the nearest rank.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(times: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        times.into_iter().map(Duration::from_micros).collect()
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(&micros([7])), Duration::from_micros(7));
        assert_eq!(median(&micros([1, 2, 9])), Duration::from_micros(2));
        assert_eq!(median(&micros([1, 2, 4, 9])), Duration::from_micros(3));
    }

    #[test]
    fn p99_is_a_time_that_was_measured() {
        assert_eq!(p99(&micros([7])), Duration::from_micros(7));
        assert_eq!(p99(&micros(1..=10)), Duration::from_micros(10));
        assert_eq!(p99(&micros(1..=300)), Duration::from_micros(297));
    }

    #[test]
    fn every_round_launches_every_contender() {
        for contenders in 1..5 {
            for round in 0..20 {
                let mut indices: Vec<_> = order(contenders, round).collect();
                indices.sort_unstable();
                assert_eq!(indices, Vec::from_iter(0..contenders));
            }
        }
    }

    #[test]
    fn predecessors_change() {
        let rounds: Vec<Vec<_>> = (0..6).map(|round| order(3, round).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0], [0, 2, 1], [1, 0, 2]]);
    }
}
