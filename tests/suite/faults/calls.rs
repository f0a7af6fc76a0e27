//! Every system call of a launch fails once.

use super::drive;

/// A part of all the calls that is another for each unit, and the same each
/// time; `JAILRUN_FAULTS=all` tries every one.
#[test]
fn a_launch_whose_call_fails_says_which_step_and_leaves_nothing() {
    let stride = match std::env::var("JAILRUN_FAULTS").as_deref() {
        Ok("all") => "1",
        _ => "29",
    };
    drive(&["calls", stride, "0"]);
}
