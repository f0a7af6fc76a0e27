//! What the script has to know of the plan as a whole.

use std::path::Path;
use std::time::Duration;

use crate::plan::Plan;
use crate::plan::step::{HostTree, IdMaps, Namespace, Spot, Step};

/// What of the host is opened for the jail.
pub(super) fn trees(plan: &Plan) -> &[HostTree] {
    match plan.steps.get(plan.enter()).map(|planned| &planned.step) {
        Some(Step::Enter { trees, .. }) => trees,
        _ => &[],
    }
}

/// The jail's namespaces, and its id map.
fn namespaces(plan: &Plan) -> (&[Namespace], Option<&IdMaps>) {
    match plan.steps.get(plan.enter()).map(|planned| &planned.step) {
        Some(Step::Enter { namespaces, map, .. }) => (namespaces, map.as_ref()),
        _ => (&[], None),
    }
}

/// Whether unshare(1) stays, as the parent of the jail's first process.
pub(super) fn forks(plan: &Plan) -> bool {
    let (namespaces, _) = namespaces(plan);
    namespaces.contains(&Namespace::Pid) || namespaces.contains(&Namespace::Time)
}

/// What unshare(1) has set with `--kill-child`, which the kernel takes back from
/// a process that becomes another user.
pub(super) fn dies_with_unshare(plan: &Plan) -> Option<&'static str> {
    forks(plan).then_some("--pdeathsig=KILL")
}

pub(super) fn has_user_namespace(plan: &Plan) -> bool {
    namespaces(plan).1.is_some()
}

/// Whether what the jail has on /proc is one.
pub(super) fn has_proc(plan: &Plan) -> bool {
    let proc = Path::new("/proc");
    let last = plan.steps.iter().rev().find(|planned| match &planned.step {
        Step::Mount { target, .. }
        | Step::Bind { target, .. }
        | Step::Mask { target, .. }
        | Step::AttachTree { on: Spot::Inside(target), .. }
        | Step::MountLoop { on: Spot::Inside(target), .. }
        | Step::MountOverlay { on: Spot::Inside(target), .. } => target == proc,
        _ => false,
    });
    last.is_some_and(|planned| match &planned.step {
        Step::Mount { fstype, .. } => *fstype == "proc",
        Step::Bind { source, .. } => source == proc,
        _ => false,
    })
}

/// How long the jail may run.
pub(super) fn timeout(plan: &Plan) -> Option<Duration> {
    plan.steps.iter().find_map(|planned| match &planned.step {
        Step::Supervise { timeout, .. } => *timeout,
        _ => None,
    })
}
