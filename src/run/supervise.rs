//! Watching the jail from outside: its end, the caller's signals, its time,
//! its memory and its terminal, all in one poll.

use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::context::Context;
use super::error::{Applied, Failed, MAX_RECORD, StepFailed};
use super::processes::{children, children_of, has_ended, look_at};
use super::terminal::{Relay, Side};
use super::{Cause, Ended, Supervision, state};
use crate::plan::Plan;
use crate::plan::step::{Namespace, Step};
use crate::sys;

struct Watch<'a> {
    plan: &'a Plan,
    supervision: Supervision,
    /// The jail's first process.
    first: Pid,
    pidfd: OwnedFd,
    /// Its exit status, once it has been reaped.
    ended: Option<i32>,
    has_pid_namespace: bool,
    /// Children that this process had before the jail's first, and has still.
    inherited: Vec<i32>,
    /// Whether there were any.
    has_inherited: bool,
    /// What has not ended with the jail.
    left: Option<Failed>,
    /// What failed in the jail is written here.
    status: Option<OwnedFd>,
    failure: Option<StepFailed>,
    oom: Option<OwnedFd>,
    socket: Option<OwnedFd>,
    relay: Option<Relay>,
    cause: Cause,
    /// The CPUs that the caller had.
    cpus: CpuSet,
    timeout_at: Option<Instant>,
    kill_at: Option<Instant>,
    /// When this process gets the caller's CPUs back.
    leave_at: Option<Instant>,
    told_to_stop: Option<Instant>,
}

/// Waits for the jail's end, which it brings about when told so.
pub(super) fn watch(
    plan: &Plan,
    cx: &mut Context,
    pid: Pid,
    pidfd: OwnedFd,
    socket: Option<OwnedFd>,
) -> Result<Ended, StepFailed> {
    let supervision = cx.supervise;
    let mut watch = Watch {
        plan,
        supervision,
        first: pid,
        pidfd,
        ended: None,
        has_inherited: !cx.inherited.is_empty(),
        inherited: std::mem::take(&mut cx.inherited),
        left: None,
        has_pid_namespace: plan.steps.iter().any(|planned| {
            matches!(&planned.step, Step::Enter { namespaces, .. } if namespaces.contains(&Namespace::Pid))
        }),
        status: cx.status.take(),
        failure: None,
        oom: cx.oom.take(),
        socket,
        relay: None,
        cause: Cause::Command,
        // A time too far away to be told is never.
        cpus: cx.cpus,
        timeout_at: supervision.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
        kill_at: None,
        leave_at: Instant::now().checked_add(Duration::from_millis(super::SHORT_MS.into())),
        told_to_stop: None,
    };
    let status = watch.run().map_err(|failed| {
        // The jail must not outlive a supervisor that cannot watch it.
        for ended in [watch.kill(), watch.end_left()] {
            match ended {
                Ok(()) | Err(_) => {}
            }
        }
        StepFailed { step: plan.enter(), failed }
    })?;
    if let Some(failure) = watch.failure.take() {
        return Err(failure);
    }
    watch.cause_of(status);
    let status = match watch.cause {
        Cause::Timeout(_) => 124,
        _ => status,
    };
    let left = watch.left.map(|failed| StepFailed { step: plan.enter(), failed });
    Ok(Ended { status, cause: watch.cause, left: left.into_iter().collect() })
}

impl Watch<'_> {
    fn run(&mut self) -> Applied<i32> {
        let signals = SignalFd::with_flags(
            &super::watched(),
            SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
        )?;
        loop {
            let ready = self.wait(&signals)?;
            if ready.signal {
                self.take_signals(&signals)?;
            }
            if ready.socket {
                self.take_terminal()?;
            }
            if let Some(relay) = &mut self.relay {
                relay.pump(ready.input, ready.output);
                if relay.is_closed() {
                    // Dropping the other end hangs the jail's terminal up.
                    self.relay = None;
                }
            }
            if ready.oom {
                self.out_of_memory()?;
            }
            if ready.ended {
                break;
            }
            self.check_time()?;
        }
        self.reap()?;
        // A failure of a step ends the jail: it is read when that has happened,
        // so that a launch that works wakes this process only once.
        while self.status.is_some() {
            self.read_status()?;
        }
        // Its time is over, or somebody wants it ended: no reader is waited for.
        let is_over = self.cause != Cause::Command || self.told_to_stop.is_some();
        let until = if is_over { Some(Instant::now()) } else { self.timeout_at };
        if let Some(relay) = &mut self.relay {
            relay.drain(&signals, until);
        }
        self.relay = None;
        self.end_left()?;
        self.ended.ok_or_else(|| {
            Failed::found(format!(
                "process {} has ended, and another one that traces it keeps its exit status",
                self.first
            ))
        })
    }

    fn wait(&self, signals: &SignalFd) -> Applied<Ready> {
        let mut fds = vec![
            PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN),
            PollFd::new(signals.as_fd(), PollFlags::POLLIN),
        ];
        let oom = add(&mut fds, self.oom.as_ref());
        let socket = add(&mut fds, self.socket.as_ref());
        let (mut input, mut output) = (None, None);
        for (side, fd, flags) in self.relay.iter().flat_map(Relay::interests) {
            match side {
                Side::Jail => {}
                Side::Input => input = Some(fds.len()),
                Side::Output => output = Some(fds.len()),
            }
            fds.push(PollFd::new(fd, flags));
        }
        let looks_at = self.relay.as_ref().and_then(Relay::wakes_at);
        let deadline = [self.timeout_at, self.kill_at, self.leave_at, looks_at];
        let deadline = deadline.into_iter().flatten().min();
        let timeout = match deadline {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                // Rounded up: waking a moment early would spin.
                let millis = left.as_millis().saturating_add(1).min(1_000_000_000);
                PollTimeout::try_from(i32::try_from(millis).unwrap_or(i32::MAX))
                    .unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(Errno::EINTR) => return Ok(Ready::default()),
            Err(errno) => return Err(errno.into()),
        }
        let ready = |index: Option<usize>| {
            index.is_some_and(|index| fds[index].revents().is_some_and(|events| !events.is_empty()))
        };
        Ok(Ready {
            ended: ready(Some(0)),
            signal: ready(Some(1)),
            oom: ready(oom),
            socket: ready(socket),
            input: ready(input),
            output: ready(output),
        })
    }

    fn take_signals(&mut self, signals: &SignalFd) -> Applied {
        while let Some(info) = signals.read_signal()? {
            let number = i32::try_from(info.ssi_signo).map_err(|_| Errno::EINVAL)?;
            let signal = Signal::try_from(number)?;
            if signal == Signal::SIGWINCH
                && let Some(relay) = &self.relay
            {
                relay.resize();
                continue;
            }
            if signal == Signal::SIGTSTP {
                self.pause();
                continue;
            }
            if signal == Signal::SIGCONT
                && let Some(relay) = &mut self.relay
            {
                // It may be gone, which is no reason to end the jail.
                match relay.take_input() {
                    Ok(()) | Err(_) => {}
                }
            }
            if matches!(signal, Signal::SIGINT | Signal::SIGTERM) {
                let now = Instant::now();
                let again = self
                    .told_to_stop
                    .is_some_and(|first| now.duration_since(first) <= self.supervision.stop_grace);
                if again {
                    self.cause = Cause::Stopped;
                    self.kill()?;
                    continue;
                }
                self.told_to_stop = Some(now);
                if signal == Signal::SIGTERM {
                    self.kill_at = self.kill_at.or(now.checked_add(self.supervision.stop_grace));
                    self.stop(number)?;
                    continue;
                }
            }
            self.send(number)?;
        }
        Ok(())
    }

    /// Stops with the jail, as a job of a shell does, and goes on with it: what
    /// is not stopped would run with nobody to watch it, so that a jail that will
    /// not stop is watched further. Time goes on meanwhile.
    fn pause(&mut self) {
        let stop = Signal::SIGTSTP;
        if sys::ignores_signal(stop as i32).unwrap_or(true) {
            return;
        }
        if let Some(relay) = &self.relay {
            relay.put_back();
        }
        let mut stopped = Vec::new();
        if self.stop_all(&mut stopped).is_ok() {
            // It happens where the signal is let through, unless nobody could
            // continue this process: then the kernel takes no notice of it.
            let set = SigSet::from_iter([stop]);
            for done in [nix::sys::signal::raise(stop), set.thread_unblock(), set.thread_block()] {
                match done {
                    Ok(()) | Err(_) => {}
                }
            }
        }
        // Children first: one that sees its child stopped may stop itself.
        for (_, process) in stopped.into_iter().rev() {
            match sys::pidfd_send_signal(process.as_fd(), libc::SIGCONT) {
                Ok(()) | Err(_) => {}
            }
        }
        if let Some(relay) = &mut self.relay {
            match relay.take_input() {
                Ok(()) | Err(_) => {}
            }
        }
    }

    /// Stops the processes of the jail that run, parents first; those are in the
    /// list whether it succeeds or not.
    fn stop_all(&self, stopped: &mut Vec<(i32, OwnedFd)>) -> Applied {
        // One process may continue another as fast as that is stopped.
        let deadline = Instant::now() + STOP_WITHIN;
        loop {
            let mut runs = false;
            let mut seen = Vec::new();
            let mut next = match self.has_pid_namespace {
                true => vec![self.first.as_raw()],
                false => self.jails_children()?,
            };
            while let Some(pid) = next.pop() {
                if Instant::now() >= deadline {
                    return Err(Failed::found("the jail does not stop"));
                }
                if seen.contains(&pid) {
                    continue;
                }
                let Some((process, state)) = look_at(pid, &seen)? else { continue };
                seen.push(pid);
                if !matches!(state, b'T' | b't' | b'X') && !has_ended(pid)? {
                    runs = true;
                    sys::pidfd_send_signal(process.as_fd(), libc::SIGSTOP)?;
                    if !stopped.iter().any(|(known, _)| *known == pid) {
                        stopped.push((pid, process));
                    }
                }
                next.extend(children_of(pid)?);
            }
            // What runs until it is stopped may start others.
            if !runs {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Tells the command to end, which it has to run for: it may be stopped.
    fn stop(&self, signal: i32) -> Applied {
        self.send(signal)?;
        match signal {
            libc::SIGKILL | libc::SIGCONT => Ok(()),
            _ => self.send(libc::SIGCONT),
        }
    }

    fn send(&self, signal: i32) -> Applied {
        match sys::pidfd_send_signal(self.pidfd.as_fd(), signal) {
            // It has ended in the meantime, as poll will tell.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Ends every process of the jail at once.
    fn kill(&self) -> Applied {
        self.send(libc::SIGKILL)?;
        if !self.has_pid_namespace {
            for directory in self.groups() {
                state::kill_cgroup(directory)?;
            }
        }
        Ok(())
    }

    fn groups(&self) -> impl Iterator<Item = &Path> {
        self.plan.steps.iter().filter_map(|planned| match &planned.step {
            Step::CreateCgroup { directory } => Some(directory.as_path()),
            _ => None,
        })
    }

    fn check_time(&mut self) -> Applied {
        let now = Instant::now();
        if self.leave_at.is_some_and(|at| at <= now) {
            self.leave_at = None;
            // A process that only waits does so on any CPU.
            match sched_setaffinity(Pid::from_raw(0), &self.cpus) {
                Ok(()) | Err(_) => {}
            }
        }
        if self.kill_at.is_some_and(|at| at <= now) {
            self.kill_at = None;
            if self.cause == Cause::Command {
                self.cause = Cause::Stopped;
            }
            return self.kill();
        }
        if self.timeout_at.is_some_and(|at| at <= now) {
            self.timeout_at = None;
            self.cause = Cause::Timeout(self.supervision.timeout.unwrap_or_default());
            // It may have been told to stop before, and has no more time for that.
            let kill_at = now.checked_add(self.supervision.stop_grace);
            self.kill_at = self.kill_at.into_iter().chain(kill_at).min();
            return self.stop(self.supervision.stop_signal);
        }
        Ok(())
    }

    fn take_terminal(&mut self) -> Applied {
        if let Some(socket) = self.socket.take() {
            self.relay = Relay::receive(&socket)?;
        }
        Ok(())
    }

    fn out_of_memory(&mut self) -> Applied {
        if let Some(oom) = self.oom.take() {
            let mut counter = [0_u8; 8];
            nix::unistd::read(&oom, &mut counter)?;
            self.cause = Cause::OutOfMemory { whole: true, peak: None, limit: None };
            self.kill()?;
        }
        Ok(())
    }

    fn read_status(&mut self) -> Applied {
        let Some(status) = &self.status else { return Ok(()) };
        let mut record = [0_u8; MAX_RECORD];
        match nix::unistd::read(status, &mut record) {
            Ok(0) => self.status = None,
            Ok(length) => self.failure = StepFailed::decode(&record[..length]),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }

    /// Takes the exit status of the jail's first process, unless another process
    /// traces it, whose turn is first.
    fn reap(&mut self) -> Applied {
        let id = u32::try_from(self.pidfd.as_raw_fd()).map_err(|_| Errno::EBADF)?;
        while self.ended.is_none() {
            match sys::wait(libc::P_PIDFD, id, true) {
                Ok(Some(exit)) => self.ended = Some(exit.status),
                Ok(None) => break,
                Err(Errno::EINTR) => {}
                Err(errno) => {
                    let detail = format!("waiting for process {}", self.first);
                    return Err(Failed::because(errno, detail));
                }
            }
        }
        Ok(())
    }

    /// Ends what the command has left running: without a pid namespace, that
    /// comes to this process when its parent ends. What has ended may be traced
    /// by what has not: nobody is waited for before all are killed, nor for ever.
    fn end_left(&mut self) -> Applied {
        let deadline = Instant::now() + END_WITHIN;
        let mut pause = Duration::from_micros(50);
        let mut before = Vec::new();
        loop {
            let left = match self.has_pid_namespace {
                true => Vec::new(),
                false => self.reap_left().and_then(|is_left| match is_left {
                    true => self.kill_left(),
                    false => Ok(Vec::new()),
                })?,
            };
            if self.ended.is_none() {
                self.reap()?;
            }
            if left.is_empty() && self.ended.is_some() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                if !left.is_empty() {
                    let detail = format!("{} of its processes do not end", left.len());
                    self.left = Some(Failed::found(detail));
                }
                return Ok(());
            }
            // What forks as fast as it is killed gets no pause.
            if left == before {
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            before = left;
        }
    }

    /// Reaps what has ended; whether there is any other child.
    fn reap_left(&mut self) -> Applied<bool> {
        loop {
            match sys::wait(libc::P_ALL, 0, true) {
                Err(Errno::ECHILD) => return Ok(false),
                Ok(None) => return Ok(true),
                Err(Errno::EINTR) => {}
                Ok(Some(exit)) => {
                    if exit.pid == self.first.as_raw() && self.ended.is_none() {
                        self.ended = Some(exit.status);
                    }
                    // Its number is free for a process of the jail.
                    self.inherited.retain(|pid| *pid != exit.pid);
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Kills what is left of the jail; returns what has not ended by then.
    fn kill_left(&mut self) -> Applied<Vec<i32>> {
        let ours = self.jails_children()?;
        if ours.is_empty() {
            return Ok(ours);
        }
        // One that cannot be killed keeps no other alive.
        let mut killed = Ok(());
        for directory in self.groups() {
            killed = killed.and(state::kill_cgroup(directory));
        }
        for pid in ours {
            // The number is this process's child's until it is reaped.
            match nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => killed = killed.and(Err(errno.into())),
            }
        }
        killed?;
        self.reap_left()?;
        let listed = self.jails_children()?;
        let mut left = Vec::new();
        for pid in &listed {
            if !has_ended(*pid)? {
                left.push(*pid);
            }
        }
        if left.is_empty() {
            // What has ended since it was listed has left its own children.
            left = self.jails_children()?;
            left.retain(|pid| !listed.contains(pid));
        }
        Ok(left)
    }

    fn jails_children(&self) -> Applied<Vec<i32>> {
        let mut children = children()?;
        children.retain(|pid| self.is_ours(*pid));
        Ok(children)
    }

    /// Whether a child of this process belongs to the jail, and not to what the
    /// caller had started before it became this program, or to what that has left.
    fn is_ours(&self, pid: i32) -> bool {
        if !self.has_inherited {
            return true;
        }
        let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt"));
        // What cannot be looked into has ended, or has more privileges than a jail.
        !self.inherited.contains(&pid)
            && match (namespace("self"), namespace(&pid.to_string())) {
                (Ok(ours), Ok(its)) => ours != its,
                _ => false,
            }
    }

    /// Looks whether the kernel has killed for memory.
    fn cause_of(&mut self, status: i32) {
        let was_event = matches!(self.cause, Cause::OutOfMemory { .. });
        if !was_event && self.cause != Cause::Command {
            return;
        }
        let groups: Vec<PathBuf> = self
            .groups()
            // A command that has done its work is asked after only where a
            // limit may have cost it a process.
            .filter(|group| was_event || status != 0 || self.may_lose_a_process(group))
            .map(Path::to_owned)
            .collect();
        for group in groups {
            let number = |file: &str| {
                std::fs::read_to_string(group.join(file))
                    .ok()
                    .and_then(|text| text.trim().parse().ok())
            };
            let kills = |file: &str| {
                std::fs::read_to_string(group.join(file)).ok().and_then(|text| {
                    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
                    line.trim().parse::<u64>().ok()
                })
            };
            let killed = kills("memory.events").or_else(|| kills("memory.oom_control"));
            let Some(killed) = killed else { continue };
            if killed > 0 || was_event {
                self.cause = Cause::OutOfMemory {
                    whole: status == 128 + libc::SIGKILL,
                    peak: number("memory.peak").or_else(|| number("memory.max_usage_in_bytes")),
                    limit: number("memory.max").or_else(|| number("memory.limit_in_bytes")),
                };
            }
        }
    }

    /// Whether the kernel may kill for memory in a group without ending the jail.
    fn may_lose_a_process(&self, group: &Path) -> bool {
        let mut is_limited = false;
        for planned in &self.plan.steps {
            match &planned.step {
                Step::KillOnOom { directory } if directory == group => return false,
                Step::SetLimit { file, .. } if file.parent() == Some(group) => {
                    match file.file_name().and_then(|name| name.to_str()) {
                        Some("memory.oom.group") => return false,
                        Some(name) => is_limited |= name.starts_with("memory."),
                        None => {}
                    }
                }
                _ => {}
            }
        }
        is_limited
    }
}

/// How long a jail may take to stop.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// How long what has been killed may take to end.
const END_WITHIN: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, Default)]
struct Ready {
    ended: bool,
    signal: bool,
    oom: bool,
    socket: bool,
    input: bool,
    output: bool,
}

/// Adds a descriptor to wait for; returns where it is.
fn add<'a>(fds: &mut Vec<PollFd<'a>>, fd: Option<&'a OwnedFd>) -> Option<usize> {
    fds.push(PollFd::new(fd?.as_fd(), PollFlags::POLLIN));
    Some(fds.len() - 1)
}
