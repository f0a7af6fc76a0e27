//! The program tested from outside, on the real kernel, as root and as an
//! ordinary user.

// A test crate has no outside for its modules to be public to.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods)]

mod agreement;
mod audit;
mod battery;
mod block_images;
mod closure;
mod devices;
mod diagnostics;
mod dry_run;
mod examples;
mod execution;
mod faults;
mod idmap;
mod images;
mod jails;
mod landlock;
mod layers;
mod lifecycle;
mod manual;
mod overlay_changes;
mod privileges;
mod programs;
mod roots;
mod seccomp;
mod support;
mod sysctls;
mod told;
mod trees;
