//! kill −9, of the supervisor, the init, or both.

use super::drive;

#[test]
fn what_a_launch_killed_at_any_call_leaves_is_reclaimed() {
    let stride = match std::env::var("JAILRUN_FAULTS").as_deref() {
        Ok("all") => "1",
        _ => "97",
    };
    drive(&["kills", stride, "0"]);
}

/// `JAILRUN_KILLS` is how many.
#[test]
fn what_a_launch_killed_at_any_time_leaves_is_reclaimed() {
    let times = std::env::var("JAILRUN_KILLS").unwrap_or("40".to_owned());
    drive(&["killed", &times]);
}
