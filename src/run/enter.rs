//! Into the jail's namespaces: the clone, and what comes before and after it.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd;

use super::context::{Context, Flow};
use super::error::{Applied, Failed};
use super::{ids, processes};
use crate::plan::step::{HostTree, IdMaps, MapWriter, Namespace, TimeOffsets};
use crate::sys::{self, Cloned};

/// The clone, and what is done around it. The supervisor keeps one end of a pipe,
/// which tells it of a failure in the jail, and goes on to its watch. The new process
/// goes on with the next step; where something is done for it from outside, it waits
/// for the word, which comes with what was opened for it.
pub(super) fn enter(
    cx: &mut Context,
    namespaces: &[Namespace],
    map: Option<&IdMaps>,
    trees: &[HostTree],
    cgroup: Option<&Path>,
    time: Option<TimeOffsets>,
) -> Applied<Flow> {
    cx.proc = Some(sys::open2(Path::new("/proc"), libc::O_PATH | libc::O_DIRECTORY, 0)?);
    let cgroup =
        cgroup.map(|path| sys::open2(path, libc::O_PATH | libc::O_DIRECTORY, 0)).transpose()?;
    let (alive, status) = unistd::pipe2(OFlag::O_CLOEXEC)?;
    // What takes privileges outside is done while the new process waits.
    let waits = !trees.is_empty() || map.is_some_and(|map| map.writer != MapWriter::Jail);
    let go = match waits {
        true => {
            Some(socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?)
        }
        false => None,
    };
    if !trees.is_empty() {
        cx.make_room(trees.len())?;
    }
    if !namespaces.contains(&Namespace::Pid) {
        // What the command leaves behind becomes this process's to end. From
        // before there is a command: one may leave something at once.
        sys::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0)?;
        // What the caller has started before it became this program is not.
        cx.inherited = match processes::children() {
            // A kernel that does not list them does not at the end either,
            // which fails then if there are any.
            Err(Failed { errno: Errno::ENOENT, .. }) => Vec::new(),
            listed => listed?,
        };
    }
    // Clocks are set between their namespace and its first process, so that
    // one is entered by hand.
    let flags = namespaces
        .iter()
        .filter(|namespace| **namespace != Namespace::Time)
        .fold(0_u64, |flags, namespace| flags | u64::from(namespace.flag().cast_unsigned()));
    match sys::clone3(flags, cgroup.as_ref().map(|fd| fd.as_fd()))? {
        Cloned::Parent(pid, pidfd) => {
            if let Some((ours, theirs)) = go {
                drop(theirs);
                let prepared = ids::let_go(cx, pid, map, trees, ours.as_fd());
                if let Err(failed) = prepared.and_then(|()| cx.leave_room()) {
                    drop(ours);
                    give_up(pidfd.as_fd());
                    return Err(failed);
                }
            }
            cx.status = Some(alive);
            Ok(Flow::Supervise(unistd::Pid::from_raw(pid), pidfd))
        }
        Cloned::Child => {
            drop(alive);
            cx.lock = None;
            cx.locks.clear();
            cx.held = None;
            cx.oom = None;
            cx.claims.clear();
            cx.status = Some(status);
            nix::sys::stat::umask(Mode::empty());
            if let Some((ours, theirs)) = go {
                drop(ours);
                match sys::receive_fds(theirs.as_fd(), trees.len())? {
                    Some(received) => cx.trees = received.into_iter().map(Some).collect(),
                    // The supervisor is gone, or has something to tell itself.
                    None => sys::exit_now(super::FAILURE),
                }
            }
            if let Some(map) = map.filter(|map| map.writer == MapWriter::Jail) {
                cx.write_proc("self/setgroups", "deny")?;
                cx.write_proc("self/uid_map", &ids::map_text(&map.uid))?;
                cx.write_proc("self/gid_map", &ids::map_text(&map.gid))?;
            }
            if let Some(offsets) = time {
                enter_time(cx, offsets)?;
            }
            die_with_parent(cx)?;
            Ok(Flow::Next)
        }
    }
}

/// Ends a process that waits for the word to go on.
fn give_up(pidfd: BorrowedFd<'_>) {
    // It ends by itself, too: the other end of its socket is closed.
    match sys::pidfd_send_signal(pidfd, libc::SIGKILL) {
        Ok(()) | Err(_) => {}
    }
    if let Ok(id) = u32::try_from(pidfd.as_raw_fd()) {
        while sys::wait(libc::P_PIDFD, id, false) == Err(Errno::EINTR) {}
    }
}

fn enter_time(cx: &Context, offsets: TimeOffsets) -> Applied {
    nix::sched::unshare(nix::sched::CloneFlags::from_bits_retain(Namespace::Time.flag()))?;
    let line = |clock: &str, nanoseconds: i128| {
        let second = 1_000_000_000;
        format!("{clock} {} {}\n", nanoseconds.div_euclid(second), nanoseconds.rem_euclid(second))
    };
    let text = line("monotonic", offsets.monotonic) + &line("boottime", offsets.boottime);
    cx.write_proc("self/timens_offsets", &text)?;
    let path = Path::new("self/ns/time_for_children");
    let fd = sys::openat2(cx.proc()?, path, libc::O_RDONLY, 0)?;
    nix::sched::setns(fd, nix::sched::CloneFlags::from_bits_retain(Namespace::Time.flag()))?;
    Ok(())
}

/// Ends this process with its parent. The parent may be gone already: then
/// nobody reads the status pipe any more.
pub(super) fn die_with_parent(cx: &Context) -> Applied {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    sys::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0)?;
    if let Some(status) = &cx.status {
        let mut fds = [PollFd::new(status.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO)?;
        if fds[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR)) {
            return Err(Failed::found("the supervisor is gone"));
        }
    }
    Ok(())
}

/// Enters a namespace that a path names, setns(2).
pub(super) fn join(path: &Path, namespace: Namespace) -> Applied {
    let fd = nix::fcntl::open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let flag = nix::sched::CloneFlags::from_bits_retain(namespace.flag());
    nix::sched::setns(fd, flag).map_err(|errno| match errno {
        // The kernel's word for any file that is no such namespace.
        Errno::EINVAL => {
            Failed::because(errno, format!("the file is not a {} namespace", namespace.file()))
        }
        errno => errno.into(),
    })
}
