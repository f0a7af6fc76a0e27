//! The launch-speed benchmark of jailrun.
//!
//! `jailbench --jailrun PATH` launches a program that does nothing, with jailrun, with bubblewrap,
//! and with `floor` (the same system calls made directly: the kernel's own price), in turns, and
//! prints what each launch took from spawn to wait, with the targets jailrun has to reach. The
//! figures of one run compare with each other only. A run takes about half a minute.
//!
//! It runs as root, on a static build, which the programs put into the jail need:
//!
//! ```text
//! cargo build --release --package jailrun --package jailbench --target x86_64-unknown-linux-musl
//! cd target/x86_64-unknown-linux-musl/release && ./jailbench --jailrun ./jailrun
//! ```
//!
//! The exit status is 0 when everything could be measured, whether the targets are reached or not;
//! 1 when something could not be launched; 2 for wrong arguments.
//!
//! This file holds the order of a run. What is compared is in `cases`; the jails are described in
//! `jail`, the programs that launch them in `contender`, the files they take in `stage`; the timing
//! is in `timing`, the output in `report`.

mod cases;
mod contender;
mod crowds;
mod error;
mod interrupt;
mod jail;
mod machine;
mod options;
mod report;
mod stage;
mod timing;

use std::process::ExitCode;

use contender::Programs;
use error::Error;
use machine::Machine;
use options::{Invocation, Options};
use stage::Stage;

fn main() -> ExitCode {
    match options::parse(std::env::args_os().skip(1)) {
        Ok(Invocation::Help) => {
            print!("{}", options::HELP);
            ExitCode::SUCCESS
        }
        Ok(Invocation::Measure(options)) => match measure(&options) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("jailbench: {error}");
                ExitCode::from(1)
            }
        },
        Err(error) => {
            eprintln!("jailbench: {error}\n\n{}", options::HELP);
            ExitCode::from(2)
        }
    }
}

/// Measures every case, printing each as it is done, and then the targets.
fn measure(options: &Options) -> Result<(), Error> {
    machine::require_root()?;
    let mut programs = Programs::find(options)?;
    interrupt::watch()?;
    report::print(Machine::read()?)?;
    report::print(programs.versions()?)?;

    let stage = Stage::build(programs.payload())?;
    programs.install(&stage)?;
    if options.peers {
        return cases::measure_peers(&programs, &stage, options.runs);
    }
    let targets = cases::measure_all(&programs, &stage, options.runs)?;
    report::print(report::Targets(&targets))
}
