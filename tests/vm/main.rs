//! What only a host of its own can show: control groups of version 2, nothing
//! but them, and systemd as process 1.
//!
//! This program runs inside the virtual machine that `tests/vm/run` boots, as
//! root and as the only user of the machine.

// A test panics where something is not as it should be.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

// The suite's helpers, of which few are needed here.
#[allow(dead_code, unreachable_pub)]
#[path = "../suite/support.rs"]
mod support;

mod delegation;
mod devices;
mod limits;
mod systemd;
