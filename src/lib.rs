//! jailrun: a declarative sandbox launcher.
//!
//! A [unit](mod@unit) is what the user wrote, checked. A [plan](mod@plan) is what will
//! happen, in order. [Running](run), [explaining](explain) and
//! [dry-running](dry_run) are three readings of the same plan.
//!
//! ```text
//!  web.toml ──parse──▶ unit ──plan(&host)──▶ Plan ─┬─▶ run       does it
//!              │         │                         ├─▶ explain   prints the shell script that does the same
//!              └─ diagnostics (all of them) ───────┘─▶ dry-run   says what would happen here, and whether it would work
//! ```
//!
//! Imports point one way: `unit ← plan ← {run, explain, dry_run} ← cli`.

pub mod audit;
pub mod block_image;
pub mod changes;
pub mod cli;
pub mod closure;
pub mod codes;
pub mod diagnostic;
pub mod dry_run;
pub mod explain;
pub mod host;
pub mod image;
pub mod init_unit;
pub mod mountinfo;
pub mod names;
pub mod owners;
pub mod plan;
pub mod run;
pub mod seccomp;
pub mod source;
pub mod sys;
pub mod tree;
pub mod unit;
