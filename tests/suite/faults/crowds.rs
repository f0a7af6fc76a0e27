//! Many launches leave no more than one does: nothing.

use super::drive;

/// `JAILRUN_LAUNCHES` is how many; 100,000 is the long run.
#[test]
fn a_thousand_launches_in_a_row_leave_nothing() {
    let count = std::env::var("JAILRUN_LAUNCHES").unwrap_or("1000".to_owned());
    let width = if count == "1000" { "2" } else { "8" };
    println!("{}", drive(&["row", &count, width]));
}

#[test]
fn a_thousand_jails_at_once_run_and_leave_nothing() {
    println!("{}", drive(&["crowd", "1000", "32"]));
}
