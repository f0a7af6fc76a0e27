//! `jailfuzz [TARGET [COUNT [SEED]]]`: feeds jailrun's readers inputs that are
//! changed from those in `corpus/`. Which inputs these are follows from the
//! count and the seed alone, so that what is found once is found again; nothing
//! is bounded by time. A reader may refuse an input, but not panic.
//!
//! `cargo test` tries as many of each as [`TARGETS`] says.

mod mutate;
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use self::mutate::Random;
use self::targets::{TARGETS, Target};

/// Tries so many inputs; the first that makes the reader panic.
fn run(target: &Target, count: u32, seed: u64) -> Result<(), String> {
    let corpus = corpus(target.name);
    assert!(!corpus.is_empty(), "no corpus for {}", target.name);
    let mut read = (target.prepare)();
    let mut random = Random::new(seed);
    for number in 0..count {
        let mut input = corpus[random.below(corpus.len())].clone();
        // The inputs of the corpus themselves come first.
        match corpus.get(number as usize) {
            Some(whole) => input.clone_from(whole),
            None => mutate::change(&mut input, &corpus, &mut random),
        }
        if catch_unwind(AssertUnwindSafe(|| read(&input))).is_err() {
            let text = String::from_utf8_lossy(&input).into_owned();
            return Err(format!(
                "{}: input {number} of seed {seed}, {} bytes: {text:?}",
                target.name,
                input.len()
            ));
        }
    }
    Ok(())
}

/// What is kept for a target, sorted by name, and what the project has anyway.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = Vec::new();
    let mut add = |directory: &Path, end: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths.iter().filter(|path| path.to_string_lossy().ends_with(end)) {
            inputs.extend(std::fs::read(path));
        }
    };
    add(&here.join("corpus").join(name), "");
    if name == "unit" {
        add(&here.join("../suite/golden"), ".toml");
    }
    inputs
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
    let mut failed = false;
    for target in TARGETS {
        if words.first().is_some_and(|name| name != target.name) {
            continue;
        }
        let count = number(1).and_then(|count| u32::try_from(count).ok()).unwrap_or(target.count);
        match run(target, count, number(2).unwrap_or(1)) {
            Ok(()) => println!("{}: {count} inputs", target.name),
            Err(found) => {
                println!("{found}");
                failed = true;
            }
        }
    }
    std::process::exit(i32::from(failed));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_changed_input_makes_a_reader_panic() {
        for target in TARGETS {
            assert_eq!(run(target, target.count, 1), Ok(()));
        }
    }

    #[test]
    fn the_inputs_are_the_same_each_time() {
        let inputs = || {
            let corpus = corpus("unit");
            let mut random = Random::new(7);
            let change = |_| {
                let mut input = corpus[random.below(corpus.len())].clone();
                mutate::change(&mut input, &corpus, &mut random);
                input
            };
            (0..50).map(change).collect::<Vec<_>>()
        };
        assert_eq!(inputs(), inputs());
    }
}
