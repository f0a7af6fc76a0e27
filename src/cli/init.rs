//! `jailrun init`.

use std::path::Path;

use clap::Args;

use super::{complain, print_exactly};
use crate::init_unit::{self, Asked};
use crate::unit;

#[derive(Debug, Args)]
pub(super) struct Init {
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

impl Init {
    pub(super) fn run(&self) -> i32 {
        let directory = match std::env::current_dir() {
            Ok(directory) => directory,
            Err(error) => {
                complain(&format!("the working directory: {}", unit::io_reason(&error)));
                return 1;
            }
        };
        let asked = Asked { root: Path::new("/"), command: &self.command, directory: &directory };
        match init_unit::unit_for(&asked) {
            Ok(text) => print_exactly(&text),
            Err(problems) => {
                for problem in problems {
                    complain(&problem.to_string());
                }
                1
            }
        }
    }
}
