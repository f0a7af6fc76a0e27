//! `jailfault`: makes the system calls of launches fail, kills launches, starts
//! them in crowds and in hostile surroundings, each in a small world of its
//! own, and compares what is left. Finds nothing and exits with 0, or prints
//! what it has found and exits with 1.

mod calls;
mod crowds;
mod kills;
// Shared with the suite, which has no crate to be private to.
#[allow(unreachable_pub)]
#[path = "../../suite/support/ledger.rs"]
mod ledger;
mod surroundings;
mod sweep;
mod sys;
mod trace;
mod units;
mod world;

use std::path::Path;

use self::sweep::Share;
use self::world::World;

const USAGE: &str = "usage: jailfault JAILRUN VERB
  kinds                         print the kinds of step of each unit
  calls STRIDE OFFSET [UNIT…]   make calls fail
  kills STRIDE OFFSET [UNIT…]   kill at calls
  killed TIMES                  kill at random times
  row COUNT WIDTH               launch so many, some at a time
  crowd COUNT WIDTH             run so many at once
  surroundings                  launch in hostile surroundings";

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [jailrun, verb, rest @ ..] = &words[..] else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let status = world::enter(Path::new(jailrun), &|world| match inside(world, verb, rest) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("jailfault: {error}");
            99
        }
    });
    match status {
        Ok(status) => std::process::exit(status),
        Err(error) => {
            eprintln!("jailfault: {error}");
            std::process::exit(99);
        }
    }
}

fn inside(world: &World, verb: &str, rest: &[String]) -> std::io::Result<i32> {
    units::write(world)?;
    let number = |at: usize| rest.get(at).and_then(|text| text.parse().ok());
    match (verb, number(0), number(1)) {
        ("kinds", ..) => match units::kinds(world) {
            Ok(all) => {
                for (unit, kinds) in all {
                    println!("{unit}: {}", kinds.join(" "));
                }
                Ok(0)
            }
            Err(error) => {
                println!("{error}");
                Ok(1)
            }
        },
        ("calls", Some(stride), Some(offset)) => {
            let mut found = Vec::new();
            for unit in sweep::chosen(rest.get(2..).unwrap_or_default()) {
                let (lines, count) = sweep::unit(world, unit, Share { stride, offset })?;
                println!("{}: {count} calls failed", unit.name);
                found.extend(lines);
            }
            Ok(tell(&found))
        }
        ("kills", Some(stride), Some(offset)) => {
            let mut found = Vec::new();
            for unit in sweep::chosen(rest.get(2..).unwrap_or_default()) {
                let (lines, count) = kills::unit(world, unit, Share { stride, offset })?;
                println!("{}: {count} launches killed", unit.name);
                found.extend(lines);
            }
            Ok(tell(&found))
        }
        ("killed", Some(times), _) => {
            let (found, count) = kills::random(world, times)?;
            println!("{count} launches killed at random times");
            Ok(tell(&found))
        }
        ("row", Some(count), Some(width)) => Ok(tell(&crowds::in_a_row(world, count, width)?)),
        ("crowd", Some(count), Some(width)) => Ok(tell(&crowds::at_once(world, count, width)?)),
        ("surroundings", ..) => Ok(tell(&surroundings::all(world)?)),
        _ => {
            eprintln!("{USAGE}");
            Ok(2)
        }
    }
}

fn tell(found: &[String]) -> i32 {
    for line in found {
        println!("FOUND {line}");
    }
    i32::from(!found.is_empty())
}
