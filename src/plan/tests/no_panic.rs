//! No text makes reading or planning panic, or take long.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use proptest::prelude::*;

use super::generated::{any_edit, any_host, any_unit, edit};
use super::host::Table;
use super::{WEB, essence, findings, planning};

/// CPU time that reading, planning and rendering one unit must not take: a thousand
/// times what they do.
const LONG: Duration = Duration::from_secs(5);

/// CPU time of this thread: what else the machine does is not in it.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let microseconds = [usage.user_time(), usage.system_time()]
        .map(|time| time.tv_sec() * 1_000_000 + time.tv_usec());
    Duration::from_micros(microseconds.iter().sum::<i64>().cast_unsigned())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn no_change_to_a_unit_makes_reading_or_planning_panic(
        unit in any_unit(),
        edits in prop::collection::vec(any_edit(), 1..6),
        host in any_host(),
    ) {
        let text = edit(&unit, &edits);
        let before = cpu_time();
        let (loaded, planning) = planning(&host, &text);
        let mut all = loaded.diagnostics.clone();
        all.extend(planning.diagnostics);
        let rendered = crate::diagnostic::render(&all, &loaded.sources);
        prop_assert_eq!(rendered.is_empty(), all.is_empty());
        let _json = crate::diagnostic::to_json(&all, &loaded.sources);
        let took = cpu_time() - before;
        prop_assert!(took < LONG, "{took:?}");
    }

    #[test]
    fn no_text_makes_reading_or_planning_panic(text in "([\\PC\n]{0,80}|[a-z\\[\\]{}.=\"',# \n0-9]{0,200})") {
        let (loaded, planning) = planning(&Table::bare(), &text);
        let mut all = loaded.diagnostics.clone();
        all.extend(planning.diagnostics);
        // No text this short is a unit: it would have to name a root.
        prop_assert!(!all.is_empty());
        let _rendered = crate::diagnostic::render(&all, &loaded.sources);
    }

    #[test]
    fn no_assignment_makes_reading_or_planning_panic(assignment in "([a-z.]{0,20}=)?[\\PC]{0,40}") {
        let (steps, said) = essence(&Table::bare(), WEB, &[assignment]);
        prop_assert!(steps.is_some() || !said.is_empty());
    }
}

#[test]
fn numbers_at_the_edge_are_findings_not_panics() {
    let host = Table::version1();
    let mut panicked = Vec::new();
    for (key, value) in [
        ("process.cpu-affinity", "\"4294967295\""),
        ("process.cpu-affinity", "\"65535\""),
        ("limits.cpuset", "\"4294967295\""),
        ("limits.cpuset-mems", "4294967295"),
        ("limits.pids", "9223372036854775807"),
        ("limits.memory", "9223372036854775807"),
        ("limits.memory", "\"16777215T\""),
        ("limits.swap", "\"16777215T\""),
        ("limits.cpu", "1000000"),
        ("limits.cpu", "inf"),
        ("limits.cpu", "nan"),
        ("limits.cpu-period", "\"500000years\""),
        ("limits.cpu-burst", "\"500000years\""),
        ("lifecycle.timeout", "\"584000000000years\""),
        ("lifecycle.stop-grace", "\"500000years\""),
        ("namespaces.time-offsets", "{ boottime = \"-500000years\" }"),
        ("process.nice", "-9223372036854775808"),
        ("process.user", "4294967295"),
        ("process.umask", "\"7777\""),
        ("root.tmpfs", "9223372036854775807"),
        ("limits.rlimits.nofile", "{ soft = 9223372036854775807, hard = \"infinity\" }"),
        ("limits.blkio.weight", "9223372036854775807"),
    ] {
        let base = "limits.cpu = 2\nlimits.memory = \"1G\"\nnamespaces.time = \"private\"\nroot.path = \"/srv/web\"\nprocess.command = [\"true\"]\n";
        let sets = [format!("{key}={value}")];
        let result = std::panic::catch_unwind(|| essence(&host, base, &sets));
        if result.is_err() {
            panicked.push(sets);
        }
    }
    assert_eq!(panicked, Vec::<[String; 1]>::new());
}

#[test]
fn a_list_of_ranges_is_decided_quickly_whatever_its_length() {
    // Well below the 1 MiB that a unit may have.
    let list = vec!["0-65535"; 100].join(",");
    let unit = format!("{WEB}[limits]\ncpuset = \"{list}\"\n");
    let before = cpu_time();
    findings(&Table::version1(), &unit);
    let took = cpu_time() - before;
    assert!(took < LONG, "{took:?}");
}
