//! Running a plan: applying its steps in order, watching the jail, and taking
//! everything back.
//!
//! Nothing is decided here: what happens is in the plan. `apply` has one arm for
//! each kind of step, and `context` is what one step leaves for a later one:
//!
//! - `enter` is the clone, and `ids` what the new process waits for;
//! - `paths`, `mounts` and `images` put up the jail's tree, and `verify`
//!   compares it with the plan;
//! - `init` is the jail's first process, `start` the one that becomes the
//!   command, with `landlock` and the `terminal`, whose `output` may find no
//!   reader;
//! - `kernel_files` and `devices` are what is written for limits;
//! - `supervise` watches, by what `processes` tells, and `state` is the journal
//!   and the taking back.

mod apply;
mod context;
pub mod devices;
mod enter;
pub mod error;
mod ids;
mod images;
mod init;
mod kernel_files;
mod landlock;
mod mounts;
pub mod output;
mod paths;
mod processes;
mod start;
pub mod state;
mod supervise;
mod terminal;
mod verify;

use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use self::context::{Context, Flow};
use self::error::{Failed, StepFailed};
use crate::image::progress::Progress;
use crate::image::store;
use crate::plan::Plan;
use crate::plan::step::{Step, Undo};
use crate::sys;

/// Exit status of jailrun's own failures.
pub const FAILURE: i32 = 125;

/// How the jail is ended.
#[derive(Clone, Copy, Debug, Default)]
struct Supervision {
    timeout: Option<Duration>,
    stop_signal: i32,
    stop_grace: Duration,
}

/// How a jail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Exit status to hand on: the command's, or 128 and the signal.
    pub status: i32,
    /// What else there is to say.
    pub cause: Cause,
    /// What could not be taken back.
    pub left: Vec<StepFailed>,
}

/// Why a jail ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The command ended.
    Command,
    /// Its time was up.
    Timeout(Duration),
    /// The kernel killed for memory; bytes.
    OutOfMemory {
        /// Whether that ended the jail, and not only a process of it.
        whole: bool,
        /// Most memory it had in use.
        peak: Option<u64>,
        /// Its limit.
        limit: Option<u64>,
    },
    /// Told twice to stop, or once by SIGTERM without an end within the grace.
    Stopped,
}

/// Signals that are passed on to the command.
const FORWARDED: [Signal; 8] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
    Signal::SIGWINCH,
];

/// Signals that the supervisor takes: those, and what stops it, which is to stop
/// the jail, too.
fn watched() -> SigSet {
    FORWARDED.into_iter().chain([Signal::SIGTSTP]).collect()
}

/// Applies what the rest of a plan depends on: the plan has to be made again
/// after it. Returns what to say, a line each.
pub fn prepare(plan: &Plan, progress: &Progress) -> Result<Vec<String>, StepFailed> {
    let mut lines = Vec::new();
    for (step, planned) in plan.steps.iter().enumerate() {
        if let Step::ImportImage { source } = &planned.step {
            let imported =
                images::import(source, progress).map_err(|failed| StepFailed { step, failed })?;
            lines.extend(store::losses(&imported.layers));
        }
    }
    Ok(lines)
}

/// Launches a plan and waits for its end. A failure has been taken back when
/// it is returned.
pub fn launch(plan: &Plan) -> Result<Ended, StepFailed> {
    let own = |step, failed| StepFailed { step, failed };
    // Asked before this process opens anything: later a number that the caller
    // has not opened could be one of jailrun's own.
    for (step, planned) in plan.steps.iter().enumerate() {
        if let Step::CloseFds { keep } = &planned.step {
            for fd in keep {
                sys::borrow(*fd).map_err(|errno| own(step, errno.into()))?;
            }
        }
    }
    // A caller that ignores SIGCHLD would make the jail's end unreadable.
    sys::default_signal(libc::SIGCHLD).map_err(|errno| own(0, errno.into()))?;
    let mask = watched()
        .thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK)
        .map_err(|errno| own(0, errno.into()))?;
    // A limit on the size of files ends a write, and not this process.
    sys::ignore_signal(libc::SIGXFSZ).map_err(|errno| own(0, errno.into()))?;
    // What is made for the jail has the mode that is written here, whatever the
    // caller's own files are to have.
    let umask = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let cpus = stay_on_this_cpu().map_err(|errno| own(0, errno.into()))?;
    let mut cx = Context::new(mask, cpus, umask);
    let mut terminal = None;
    if plan.steps.iter().any(|planned| planned.step == Step::Terminal) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|errno| own(0, errno.into()))?;
        terminal = Some(ours);
        cx.terminal = Some(theirs);
    }
    for index in 0..plan.steps.len() {
        log::debug!("step {} of {}: {:?}", index + 1, plan.steps.len(), plan.steps[index].step);
        match apply::apply(plan, index, &mut cx) {
            Ok(Flow::Next) => {}
            Ok(Flow::Supervise(pid, pidfd)) => {
                cx.terminal = None;
                let outcome = supervise::watch(plan, &mut cx, pid, pidfd, terminal);
                return finish(plan, &cx, outcome);
            }
            Err(failed) if cx.status.is_some() => report(&cx, own(index, failed)),
            Err(failed) => {
                let failure = own(index, failed);
                return finish(plan, &cx, Err(failure));
            }
        }
    }
    // The last step is the exec, which does not come back with success.
    Err(own(plan.steps.len(), Failed::from(nix::errno::Errno::ENOSYS)))
}

/// A jail that has not ended after this time is no short one, for which the
/// way of the waiting processes from CPU to CPU counts.
const SHORT_MS: u8 = 20;

/// Keeps the processes of the launch on the CPU it has started on, and returns
/// the set they had. Each waits while the next one works: to wake another CPU
/// for it, above all in a virtual machine, takes longer than many a step. The
/// command gets the old set back before its execve, the two that wait for its
/// end get it back when the jail is no short one.
fn stay_on_this_cpu() -> sys::Result<nix::sched::CpuSet> {
    let this = nix::unistd::Pid::from_raw(0);
    let before = nix::sched::sched_getaffinity(this)?;
    let mut one = nix::sched::CpuSet::new();
    one.set(nix::sched::sched_getcpu()?)?;
    nix::sched::sched_setaffinity(this, &one)?;
    Ok(before)
}

/// Applies the steps from `index` on, in the process that is to become the
/// command; returns its exit status when it does not.
fn rest(plan: &Plan, index: usize, cx: &mut Context) -> i32 {
    for step in index..plan.steps.len() {
        if let Err(failed) = apply::apply(plan, step, cx) {
            report(cx, StepFailed { step, failed });
        }
    }
    FAILURE
}

/// Tells the supervisor what failed in the jail, and ends this process.
fn report(cx: &Context, failure: StepFailed) -> ! {
    if let Some(status) = &cx.status {
        // Without a reader there is nobody left to tell.
        match nix::unistd::write(status.as_fd(), &failure.encode()) {
            Ok(_) | Err(_) => {}
        }
    }
    sys::exit_now(FAILURE)
}

/// Takes back what outlives the jail: everything after a failure, and after
/// an end of the command all but the mount points in the root.
fn finish(
    plan: &Plan,
    cx: &Context,
    outcome: Result<Ended, StepFailed>,
) -> Result<Ended, StepFailed> {
    let failed_at = match &outcome {
        // Steps behind the clone leave nothing: theirs is gone with the jail.
        Err(failure) => failure.step.min(plan.enter()),
        Ok(_) => plan.steps.len(),
    };
    let mut left = Vec::new();
    for (index, planned) in plan.steps[..failed_at].iter().enumerate().rev() {
        let Some(undo) = planned.step.undo() else { continue };
        let is_ours = match &undo {
            Undo::RemoveNode { .. } => outcome.is_err() && cx.made.contains(&index),
            // It is what a group that is left is reclaimed by.
            Undo::RemoveJournal(_) => !left.iter().any(|left: &StepFailed| {
                matches!(plan.steps[left.step].step, Step::CreateCgroup { .. })
            }),
            _ => true,
        };
        if is_ours && let Err(failed) = state::undo(&undo) {
            left.push(StepFailed { step: index, failed });
        }
    }
    outcome.map(|mut ended| {
        ended.left.append(&mut left);
        ended
    })
}
