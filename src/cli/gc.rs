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
                    if collected.reclaimed.is_empty() && collected.failed.is_empty() {
                        complain(&format!(
                            "nothing to take back, {} running",
                            collected.running.len()
                        ));
                    }
                }
                for (path, failed) in &collected.failed {
                    complain(&format!("gc: {}: {}", path.display(), failed.reason()));
                }
                i32::from(!collected.failed.is_empty())
            }
            Err(failed) => {
                complain(&format!("gc: {}", failed.reason()));
                1
            }
        }
    }
}
