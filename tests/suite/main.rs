//! The program tested from outside, on the real kernel, as root and as an
//! ordinary user.

// A test crate has no outside for its modules to be public to.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod agreement;
mod diagnostics;
mod dry_run;
mod examples;
mod execution;
mod images;
mod layers;
mod manual;
mod support;
