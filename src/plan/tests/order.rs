//! The order of a launch, for any unit and host.

use proptest::prelude::*;

use super::generated::{any_host, any_unit};
use super::host::Table;
use super::planning;
use crate::diagnostic::Severity;
use crate::names;
use crate::plan::step::{Origin, Step};
use crate::plan::{Care, plan};

/// Indices of the steps that a test accepts.
fn all(steps: &[Step], accept: impl Fn(&Step) -> bool) -> Vec<usize> {
    (0..steps.len()).filter(|index| accept(&steps[*index])).collect()
}

/// The index of the one step that a test accepts.
fn the(steps: &[Step], name: &str, accept: impl Fn(&Step) -> bool) -> usize {
    match all(steps, accept)[..] {
        [index] => index,
        ref several => panic!("{name}: {} of them in {steps:#?}", several.len()),
    }
}

fn is_mount(step: &Step) -> bool {
    matches!(
        step,
        Step::Mount { .. }
            | Step::Bind { .. }
            | Step::BindDevices { .. }
            | Step::Mask { .. }
            | Step::ProtectPath { .. }
            | Step::MakeNode { .. }
            | Step::MakeLink { .. }
            | Step::ProtectRoot
    )
}

/// What has to come before what in a launch.
fn assert_order(planned: &[crate::plan::Planned], capabilities: bool) {
    let steps: Vec<Step> = planned.iter().map(|planned| planned.step.clone()).collect();
    let before = |name: &str, earlier: usize, later: usize| {
        assert!(earlier < later, "{name}: {earlier} is not before {later} in {steps:#?}");
    };
    let enter = the(&steps, "enter", |step| matches!(step, Step::Enter { .. }));
    let exec = the(&steps, "exec", |step| matches!(step, Step::Exec { .. }));
    assert_eq!(exec, steps.len() - 1, "{steps:#?}");

    // On the host, before the clone.
    let journal = the(&steps, "journal", |step| matches!(step, Step::Journal { .. }));
    for index in all(&steps, |step| {
        matches!(
            step,
            Step::MakeHostNode { .. }
                | Step::MakeHostLink { .. }
                | Step::CreateCgroup { .. }
                | Step::SetLimit { .. }
                | Step::EnableControllers { .. }
                | Step::MoveSupervisor { .. }
                | Step::KillOnOom { .. }
                | Step::OpenStream { .. }
        )
    }) {
        before("nothing is made before the journal could take it back", journal, index);
        before("what is the host's is done on the host", index, enter);
    }
    for index in all(&steps, |step| matches!(step, Step::JoinPidNamespace { .. })) {
        assert_eq!(index + 1, enter, "{steps:#?}");
    }

    // What the host would keep can be taken back; what is the jail's goes with it.
    for (index, step) in steps.iter().enumerate() {
        let is_kept = matches!(
            step,
            Step::MakeStateDirectory { .. }
                | Step::Journal { .. }
                | Step::MakeHostNode { .. }
                | Step::MakeHostLink { .. }
                | Step::CreateCgroup { .. }
                | Step::ClaimIds { .. }
        );
        assert_eq!(step.undo().is_some(), is_kept, "{step:?}");
        assert!(!is_kept || index < enter, "{step:?}");
    }

    // Groups before the namespace that shows them, both before the mounts.
    let private = the(&steps, "private mounts", |step| matches!(step, Step::PrivateMounts { .. }));
    before("private mounts in the jail", enter, private);
    for index in all(&steps, |step| matches!(step, Step::JoinCgroup { .. })) {
        before("groups are joined inside", enter, index);
        for namespace in all(&steps, |step| *step == Step::NewCgroupNamespace) {
            before("in its group before that is its root", index, namespace);
        }
    }
    for index in all(&steps, |step| {
        matches!(
            step,
            Step::NewSession
                | Step::NewKeyring
                | Step::NewCgroupNamespace
                | Step::SetSysctl { .. }
                | Step::JoinNamespace { .. }
        )
    }) {
        before("after the clone", enter, index);
        before("before the mounts", index, private);
    }

    // Mounts.
    let root = the(&steps, "root", |step| {
        matches!(step, Step::AttachRoot { .. } | Step::MountRoot { .. })
    });
    before("nothing is mounted before mounts are private", private, root);
    for index in all(&steps, |step| matches!(step, Step::MountStage { .. })) {
        before("mounts are private first", private, index);
        before("the root is attached in the stage", index, root);
    }
    let pivot =
        the(&steps, "pivot", |step| matches!(step, Step::Pivot { .. } | Step::Chroot { .. }));
    for index in all(&steps, is_mount) {
        before("the root is attached before what is in it", root, index);
        before("the root is entered when it is complete", index, pivot);
    }
    let security = |origin: &Origin| {
        matches!(origin, Origin::Default("security.masked-paths" | "security.read-only-paths"))
    };
    let guards: Vec<usize> =
        (0..steps.len()).filter(|index| security(&planned[*index].origin)).collect();
    for index in (0..steps.len()).filter(|index| {
        is_mount(&steps[*index])
            && !security(&planned[*index].origin)
            && steps[*index] != Step::ProtectRoot
    }) {
        for guard in &guards {
            before("no mount of the unit brings back what is hidden", index, *guard);
        }
    }
    for index in all(&steps, |step| *step == Step::ProtectRoot) {
        for inside in all(&steps, |step| is_mount(step) && *step != Step::ProtectRoot) {
            before("a fresh root is filled before it is read-only", inside, index);
        }
    }
    let verify = the(&steps, "verify", |step| matches!(step, Step::VerifyMounts { .. }));
    before("the mounts are compared when they are final", pivot, verify);
    for index in all(&steps, |step| matches!(step, Step::SetPropagation { .. })) {
        before("pivot_root refuses a shared root", pivot, index);
        before("final before it is compared", index, verify);
    }
    let Step::VerifyMounts { expected } = &steps[verify] else { unreachable!() };
    for step in &steps {
        let (Step::Mount { target, .. }
        | Step::Bind { target, .. }
        | Step::Mask { target, .. }
        | Step::ProtectPath { target }) = step
        else {
            continue;
        };
        assert!(expected.iter().any(|mount| mount.target == *target), "{target:?} is not verified");
        assert!(target.is_absolute() && target.parent().is_some(), "{target:?}");
    }

    // Privileges, last.
    let limit = the(&steps, "bounding set", |step| matches!(step, Step::LimitCapabilities { .. }));
    let ids = the(&steps, "ids", |step| matches!(step, Step::SetIds { .. }));
    let caps = the(&steps, "capabilities", |step| matches!(step, Step::SetCapabilities { .. }));
    let close = the(&steps, "fds", |step| matches!(step, Step::CloseFds { .. }));
    let cwd = the(&steps, "cwd", |step| matches!(step, Step::ChangeDirectory { .. }));
    before("the bounding set needs CAP_SETPCAP", limit, ids);
    before("setuid changes the capability sets", ids, caps);
    before("no descriptor leads the working directory astray", caps, close);
    before("no descriptor leads the working directory astray", close, cwd);
    for index in all(&steps, |step| matches!(step, Step::LoadSeccomp { .. })) {
        match steps.contains(&Step::NoNewPrivileges) {
            true => assert_eq!(index, exec - 1, "nothing but the command is filtered"),
            false => before("a filter needs no_new_privs or CAP_SYS_ADMIN", ids, index),
        }
    }
    for index in all(&steps, |step| *step == Step::NoNewPrivileges) {
        before("no_new_privs last", cwd, index);
        before("no_new_privs last", index, exec);
    }
    for index in all(&steps, |step| {
        matches!(
            step,
            Step::SetRlimit { .. }
                | Step::SetNice { .. }
                | Step::SetOomScoreAdjust { .. }
                | Step::SetAffinity { .. }
                | Step::Terminal
                | Step::UseStream { .. }
        )
    }) {
        before("the process is the command's", verify, index);
        before("what needs privileges comes before they go", index, ids);
    }
    for index in all(&steps, |step| matches!(step, Step::Init { .. })) {
        let hide = the(&steps, "hide arguments", |step| *step == Step::HideArguments);
        before("the init has no more to show than a command", hide, index);
        before("the init is bounded as the command is", limit, index);
        before("the process is the command's", verify, index);
        before("what needs privileges comes before they go", index, ids);
    }
    let forbid = the(&steps, "forbid tracing", |step| *step == Step::ForbidTracing);
    before("nobody looks into the set-up", forbid, private);
    let core = all(
        &steps,
        |step| matches!(step, Step::SetRlimit { index, .. } if names::RLIMITS[*index].key == "core"),
    );
    assert_eq!(core.len(), 1, "core files are limited by default");
    if !capabilities {
        assert_eq!(steps[limit], Step::LimitCapabilities { keep: 0 });
        assert_eq!(steps[caps], Step::SetCapabilities { permitted: 0, ambient: 0 });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn the_order_of_a_launch_holds_for_any_unit_and_host(unit in any_unit(), host in any_host()) {
        let (loaded, planning) = planning(&host, &unit);
        let again = plan(loaded.unit.as_ref().unwrap(), &host, Care::Everything);
        prop_assert_eq!(&planning.plan, &again.plan, "planning is deterministic");
        prop_assert_eq!(&planning.diagnostics, &again.diagnostics);
        let errors = planning.diagnostics.iter().any(|found| found.severity == Severity::Error);
        prop_assert_eq!(planning.plan.is_none(), errors, "a plan, or the reason why not");
        if let Some(plan) = planning.plan {
            assert_order(&plan.steps, unit.contains("capabilities ="));
            let quick = crate::plan::plan(loaded.unit.as_ref().unwrap(), &host, Care::Launch);
            prop_assert_eq!(Some(plan), quick.plan, "care changes what is looked at, not what is done");
        }
    }

    #[test]
    fn most_generated_units_are_sound(units in prop::collection::vec(any_unit(), 64)) {
        // Else the property above would hold for want of plans.
        let host = Table::version1();
        let sound = units.iter().filter(|unit| planning(&host, unit).1.plan.is_some()).count();
        prop_assert!(sound >= 8, "{} of 64", sound);
    }
}
