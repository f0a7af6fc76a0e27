//! Following the processes of one launch with ptrace(2), from the moment the
//! unit is looked at to the execve of the command: counting their system
//! calls, making one fail, or killing at one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::calls::{self, Call};
use crate::sys::{self, Stop, Waited};

/// What is done to the launch.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    /// It is only waited for.
    None,
    /// Its calls are counted.
    Count,
    /// One of them returns an error instead of being made. It is known by which
    /// of the process's calls of that number it is: how many others come
    /// before may differ from launch to launch.
    Fail { process: usize, number: i64, turn: usize, errno: i32 },
    /// At one of them processes are killed: by bits, the supervisor 1, what it
    /// has cloned first 2.
    Kill { process: usize, index: usize, whom: u8 },
}

/// What starts it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Start {
    pub(crate) words: Vec<String>,
    /// An ordinary user instead of root.
    pub(crate) user: Option<u32>,
    /// With a secure bit set.
    pub(crate) secure_bits: bool,
    /// With a terminal as standard input and output.
    pub(crate) terminal: bool,
    /// What is done just before its execve.
    pub(crate) prepare: Option<fn() -> io::Result<()>>,
    /// The path by which the first call that counts is known.
    pub(crate) from: String,
}

/// How it went.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) calls: Vec<Call>,
    /// Exit status of jailrun.
    pub(crate) status: i32,
    pub(crate) stderr: String,
    /// Whether the deed was done.
    pub(crate) done: bool,
    /// Whether it had to be killed.
    pub(crate) hung: bool,
}

struct Process {
    pid: i32,
    /// Its calls count.
    counts: bool,
    count: usize,
    /// How many of each number.
    turns: BTreeMap<i64, usize>,
    /// Where the call in it is among the calls, from its entry to its exit.
    in_call: Option<usize>,
    fails: Option<i32>,
    gone: bool,
    /// It has become another program, and is not traced any more.
    free: bool,
}

/// A launch that makes no progress for so long has hung, even on a machine
/// with much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Starts a program and waits until it and all that it has started is gone.
pub(crate) fn launch(start: &Start, deed: Deed) -> io::Result<Outcome> {
    let mut stderr = memory()?;
    let ends = if start.terminal { Some(sys::terminal()?) } else { None };
    let first = sys::fork()?;
    if first == 0 {
        let error = become_program(start, &stderr, ends);
        eprintln!("jailfault: {}: {error}", start.words.join(" "));
        sys::exit(99);
    }
    let done = matches!(deed, Deed::None);
    let mut trace = Trace { start, deed, processes: Vec::new(), calls: Vec::new(), done };
    trace.processes.push(Process::new(first));
    let (status, hung) = trace.follow(first)?;
    if let Some((master, peer)) = ends {
        sys::place(None, peer)?;
        sys::place(None, master)?;
    }
    let mut text = Vec::new();
    stderr.rewind()?;
    stderr.read_to_end(&mut text)?;
    let stderr = String::from_utf8_lossy(&text).into_owned();
    Ok(Outcome { calls: trace.calls, status, stderr, done: trace.done, hung })
}

fn memory() -> io::Result<File> {
    #[allow(unsafe_code)]
    // SAFETY: the name is a literal.
    let fd = unsafe { libc::memfd_create(c"stderr".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(unsafe_code)]
    // SAFETY: the kernel has just returned it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

fn become_program(start: &Start, stderr: &File, ends: Option<(i32, i32)>) -> io::Error {
    let prepare = || -> io::Result<()> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        let (input, output) = match ends {
            Some((_, peer)) => (peer, peer),
            None => (null.as_raw_fd(), null.as_raw_fd()),
        };
        sys::place(Some(stderr.as_raw_fd()), 2)?;
        sys::place(Some(output), 1)?;
        sys::place(Some(input), 0)?;
        drop(null);
        sys::close_from(3)?;
        sys::secure_bits(start.secure_bits)?;
        start.prepare.map_or(Ok(()), |prepare| prepare())?;
        if let Some(user) = start.user {
            sys::become_user(user)?;
        }
        sys::be_traced()
    };
    match prepare() {
        Ok(()) => sys::exec(&start.words),
        Err(error) => error,
    }
}

/// Gives this process no standard streams but `/dev/null`, and that file.
pub(crate) fn silence(stderr: Option<&Path>) -> io::Result<()> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for fd in 0..3 {
        sys::place(Some(null.as_raw_fd()), fd)?;
    }
    if let Some(path) = stderr {
        let file = File::options().append(true).create(true).open(path)?;
        sys::place(Some(file.as_raw_fd()), 2)?;
    }
    drop(null);
    sys::close_from(3)
}

impl Process {
    fn new(pid: i32) -> Self {
        Self {
            pid,
            counts: false,
            count: 0,
            turns: BTreeMap::new(),
            in_call: None,
            fails: None,
            gone: false,
            free: false,
        }
    }
}

struct Trace<'a> {
    start: &'a Start,
    deed: Deed,
    processes: Vec<Process>,
    calls: Vec<Call>,
    done: bool,
}

impl Trace<'_> {
    /// Until nothing is left; the first process's exit status.
    fn follow(&mut self, first: i32) -> io::Result<(i32, bool)> {
        let mut status = 99;
        let mut hung = false;
        let began = Instant::now();
        sys::alarm(1000)?;
        loop {
            match sys::wait_any(false) {
                Ok(None) => break,
                Ok(Some((pid, Waited::Ended(ended)))) => {
                    if pid == first {
                        status = ended;
                    }
                    if let Some(process) = self.find(pid) {
                        process.gone = true;
                    }
                    if self.is_over() {
                        break;
                    }
                }
                Ok(Some((pid, Waited::Stopped { signal, event }))) => {
                    // One that was killed in the meantime is told of later.
                    match self.stopped(pid, signal, event) {
                        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                        result => result?,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    if began.elapsed() > PATIENCE {
                        hung = true;
                        crate::world::kill_all();
                    }
                }
                Err(error) => return Err(error),
            }
        }
        sys::alarm(0)?;
        Ok((status, hung))
    }

    /// Whether a supervisor that was killed has left nothing but what its
    /// command has started: without a pid namespace, that runs on until the
    /// next launch, or `jailrun gc`.
    fn is_over(&self) -> bool {
        matches!(self.deed, Deed::Kill { whom, .. } if whom & 1 != 0)
            && self.done
            && self.processes.iter().all(|process| process.gone || process.free)
    }

    fn find(&mut self, pid: i32) -> Option<&mut Process> {
        self.processes.iter_mut().rev().find(|process| process.pid == pid)
    }

    fn stopped(&mut self, pid: i32, signal: i32, event: i32) -> io::Result<()> {
        const CALL: i32 = libc::SIGTRAP | 0x80;
        match event {
            libc::PTRACE_EVENT_CLONE | libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK => {
                let child = sys::event_message(pid)?;
                // Its own first stop may come before this one.
                if self.find(child).is_none() {
                    self.processes.push(Process { counts: true, ..Process::new(child) });
                }
                return self.resume(pid, 0);
            }
            libc::PTRACE_EVENT_EXEC => {
                // What another program does is not jailrun's: the command's.
                let is_jailrun = self.processes.first().is_some_and(|first| first.pid == pid);
                if is_jailrun {
                    return self.resume(pid, 0);
                }
                if let Some(process) = self.find(pid) {
                    process.free = true;
                }
                return sys::detach(pid, 0);
            }
            _ => {}
        }
        if signal == CALL {
            return self.call(pid);
        }
        if signal == libc::SIGSTOP {
            if self.find(pid).is_none() {
                self.processes.push(Process { counts: true, ..Process::new(pid) });
            }
            // The first stop of each traced process.
            sys::follow_all(pid)?;
            return self.resume(pid, 0);
        }
        let signal = if event == 0 { signal } else { 0 };
        // A jail's first process dies of its own fault, but not of a signal that
        // a tracer hands on.
        if matches!(signal, libc::SIGSEGV | libc::SIGILL | libc::SIGBUS) {
            return sys::kill(pid, libc::SIGKILL);
        }
        self.resume(pid, signal)
    }

    /// Once the deed is done, the rest need not be seen.
    fn resume(&self, pid: i32, signal: i32) -> io::Result<()> {
        if self.done { sys::run(pid, signal) } else { sys::go_on(pid, signal) }
    }

    fn call(&mut self, pid: i32) -> io::Result<()> {
        let stop = sys::stop(pid)?;
        let Some(process) = self.processes.iter().rposition(|process| process.pid == pid) else {
            return sys::go_on(pid, 0);
        };
        match stop {
            Stop::Entry { number, arguments } => {
                let path = calls::path_argument(number)
                    .map(|argument| sys::text_at(pid, arguments[argument]))
                    .unwrap_or_default();
                let known = &mut self.processes[process];
                if !known.counts && !self.start.from.is_empty() && path == self.start.from {
                    known.counts = true;
                }
                if known.counts {
                    let index = known.count;
                    known.count += 1;
                    let turn = known.turns.entry(number).or_default();
                    *turn += 1;
                    let turn = *turn - 1;
                    known.in_call = Some(self.calls.len());
                    let call = Call { process, index, turn, number, arguments, path, result: None };
                    self.act(&call)?;
                    self.calls.push(call);
                }
            }
            Stop::Exit { result } => {
                let known = &mut self.processes[process];
                if let Some(call) = known.in_call.take() {
                    self.calls[call].result = Some(result);
                }
                if let Some(errno) = known.fails.take() {
                    sys::set_result(pid, errno)?;
                    self.done = true;
                }
            }
            Stop::Other => {}
        }
        self.resume(pid, 0)
    }

    fn act(&mut self, call: &Call) -> io::Result<()> {
        match self.deed {
            Deed::Fail { process, number, turn, errno }
                if (process, number, turn) == (call.process, call.number, call.turn) =>
            {
                self.processes[process].fails = Some(errno);
                // A descriptor is closed whatever close(2) returns.
                match number {
                    libc::SYS_close => Ok(()),
                    _ => sys::make_none(self.processes[process].pid),
                }
            }
            Deed::Kill { process, index, whom }
                if (process, index) == (call.process, call.index) =>
            {
                for (bit, process) in [(1, 0), (2, 1)] {
                    if whom & bit != 0
                        && let Some(process) = self.processes.get(process)
                        && !process.gone
                    {
                        match sys::kill(process.pid, libc::SIGKILL) {
                            // Nobody tells of the end of one that is not traced any more.
                            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                            killed => killed?,
                        }
                    }
                }
                self.done = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
