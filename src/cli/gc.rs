//! `jailrun gc`.

use clap::Args;

use super::complain;
use crate::host::{Host as _, Machine};
use crate::run;

#[derive(Debug, Args)]
pub(super) struct Gc {
    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

impl Gc {
    pub(super) fn run(&self) -> i32 {
        match run::state::collect(&Machine::default().state_directory()) {
            Ok(collected) => {
                if !self.quiet {
                    for name in &collected.reclaimed {
                        complain(&format!("{name}: taken back"));
                    }
                    if collected.reclaimed.is_empty() {
                        complain(&format!(
                            "nothing to take back, {} running",
                            collected.running.len()
                        ));
                    }
                }
                0
            }
            Err(failed) => {
                complain(&format!("gc: {}", failed.reason()));
                1
            }
        }
    }
}
