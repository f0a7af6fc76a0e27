//! The payload of the benchmark: exits with status 0 at once.
//!
//! It defines `main` itself, so that the Rust runtime does not start first: what is timed is the
//! launch.
#![cfg_attr(not(test), no_main)]

use std::ffi::c_int;

/// Called by the C start-up code.
// SAFETY: no other `main` is linked, because of `no_main`, and the C start-up code accepts one
// without arguments.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn main() -> c_int {
    0
}
