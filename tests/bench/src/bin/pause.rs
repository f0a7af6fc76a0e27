//! A payload of the benchmark that does nothing until it is ended.
//!
//! It defines `main` itself, so that its memory is its own alone.
#![cfg_attr(not(test), no_main)]

use std::ffi::c_int;

/// Called by the C start-up code.
// SAFETY: no other `main` is linked, because of `no_main`, and the C start-up code accepts one
// without arguments.
#[cfg_attr(not(test), unsafe(no_mangle))]
pub extern "C" fn main() -> c_int {
    loop {
        // SAFETY: takes no pointer.
        unsafe { libc::pause() };
    }
}
