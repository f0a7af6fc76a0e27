//! Hostile surroundings: it works or says what is in the way, and leaves
//! nothing.

use super::drive;

#[test]
fn hostile_surroundings_are_borne_or_named() {
    drive(&["surroundings"]);
}
