//! The units of the driver cover every kind of step.

use std::collections::BTreeSet;

use super::drive;

/// Kinds that this kind of machine cannot have in a plan.
const ELSEWHERE: &[(&str, &str)] = &[
    ("EnableControllers", "needs a v2 hierarchy with controllers of limits"),
    ("MoveSupervisor", "needs a v2 hierarchy with controllers of limits"),
    ("FindJail", "needs another jail that runs"),
    ("JoinJail", "needs another jail that runs"),
    ("ClearGroups", "needs a caller with groups and a user namespace"),
];

/// Names of the variants of `Step`, from its source: the compiler has no list.
fn variants() -> BTreeSet<String> {
    let source = include_str!("../../../src/plan/step.rs");
    let body = source.split_once("pub enum Step {").unwrap().1.split_once("\n}\n").unwrap().0;
    body.lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap().to_owned())
        .collect()
}

#[test]
fn every_kind_of_step_is_in_some_unit() {
    let printed = drive(&["kinds"]);
    let covered: BTreeSet<&str> = printed
        .lines()
        .filter_map(|line| line.split_once(": "))
        .flat_map(|(_, kinds)| kinds.split(' '))
        .collect();
    let variants = variants();
    assert!(variants.contains("Enter") && variants.contains("Exec"), "{variants:?}");
    let elsewhere = |kind: &str| ELSEWHERE.iter().any(|(known, _)| *known == kind);
    let missing: Vec<_> = variants
        .iter()
        .filter(|kind| !covered.contains(kind.as_str()) && !elsewhere(kind))
        .collect();
    assert!(missing.is_empty(), "in no unit of tests/fault/src/units.rs: {missing:?}");
    for (kind, reason) in ELSEWHERE {
        assert!(variants.contains(*kind), "{kind} is no step any more");
        assert!(!covered.contains(kind), "{kind} is covered, though it {reason}");
    }
}
