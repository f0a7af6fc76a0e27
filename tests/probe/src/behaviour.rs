//! Ways of running and ending that a launcher must cope with.

use std::fs::OpenOptions;
use std::hint;
use std::io::{self, Read, Write};
use std::process;
use std::thread;
use std::time::{Duration, Instant};

use libc::c_int;
use serde_json::{Value, json};

use crate::command::{Arguments, Outcome, found, say};
use crate::{attempts, errno, report, sys};

/// The signals a launcher forwards, by the names `trap` prints.
const FORWARDED: [(c_int, &str); 8] = [
    (libc::SIGHUP, "HUP"),
    (libc::SIGINT, "INT"),
    (libc::SIGQUIT, "QUIT"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGUSR1, "USR1"),
    (libc::SIGUSR2, "USR2"),
    (libc::SIGCONT, "CONT"),
    (libc::SIGWINCH, "WINCH"),
];

/// How long nobody has the terminal open.
const LEFT_TIME: Duration = Duration::from_millis(300);

/// How long init is given to reap.
const REAPING_TIME: Duration = Duration::from_millis(200);

pub fn succeed(arguments: Arguments) -> Outcome {
    arguments.end()?;
    Ok(0)
}

pub fn exit(arguments: Arguments) -> Outcome {
    arguments.only("N")
}

/// Fails if the signal does not end the process: because it is ignored, or
/// because the process is the init of a PID namespace.
pub fn signal(arguments: Arguments) -> Outcome {
    let number = arguments.only("N")?;
    sys::raise(number)?;
    Err(io::Error::other(format!("signal {number} did not end the process")).into())
}

pub fn sleep(arguments: Arguments) -> Outcome {
    thread::sleep(arguments.only_seconds()?);
    Ok(0)
}

pub fn spin(arguments: Arguments) -> Outcome {
    let duration = arguments.only_seconds()?;
    let start = Instant::now();
    while start.elapsed() < duration {
        hint::spin_loop();
    }
    found(&json!({
        "wall_seconds": start.elapsed().as_secs_f64(),
        "cpu_seconds": sys::cpu_time()?.as_secs_f64(),
    }))
}

/// Filling the vector writes to every page of it in turn.
pub fn hog(arguments: Arguments) -> Outcome {
    let bytes = arguments.only("BYTES")?;
    let mut memory = Vec::new();
    if memory.try_reserve_exact(bytes).is_err() {
        attempts::print("hog", Err(io::Error::from_raw_os_error(libc::ENOMEM)))?;
        return Ok(1);
    }
    memory.resize(bytes, 1_u8);
    hint::black_box(&memory);
    say("touched")?;
    Ok(0)
}

/// The children wait for the end of a pipe that only the parent holds open, so
/// they go when it does, whatever ends it.
pub fn forks(arguments: Arguments) -> Outcome {
    let wanted = arguments.only("N")?;
    let (mut reader, writer) = io::pipe()?;
    let mut children = Vec::new();
    let mut refusal = None;
    while children.len() < wanted {
        match sys::fork() {
            Ok(Some(child)) => children.push(child),
            Ok(None) => {
                drop(writer);
                let ended = reader.read(&mut [0]);
                process::exit(ended.is_err().into());
            }
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    drop(writer);
    for child in &children {
        sys::wait(*child)?;
    }
    found(&started(children.len(), refusal.as_ref()))
}

pub fn zombies(arguments: Arguments) -> Outcome {
    let wanted: usize = arguments.only("N")?;
    let mut orphans = 0;
    let mut refusal = None;
    while orphans < wanted && refusal.is_none() {
        match leave_orphan() {
            Ok(()) => orphans += 1,
            Err(error) => refusal = Some(error),
        }
    }
    thread::sleep(REAPING_TIME);
    let mut finding = started(orphans, refusal.as_ref());
    finding["zombies"] = report::part(report::count_zombies());
    found(&finding)
}

/// A child forks a grandchild and dies; the grandchild dies as well. The
/// child's exit status is the errno of its fork.
fn leave_orphan() -> io::Result<()> {
    let Some(child) = sys::fork()? else {
        let refusal = sys::fork().err().and_then(|error| error.raw_os_error());
        process::exit(refusal.unwrap_or(0));
    };
    match sys::wait(child)?.code() {
        Some(0) => Ok(()),
        Some(refusal) => Err(io::Error::from_raw_os_error(refusal)),
        None => Err(io::Error::other("killed by a signal")),
    }
}

fn started(count: usize, refusal: Option<&io::Error>) -> Value {
    json!({ "started": count, "errno": refusal.map(errno::describe) })
}

pub fn ignore_term(arguments: Arguments) -> Outcome {
    let duration = arguments.only_seconds()?;
    sys::ignore_signal(libc::SIGTERM)?;
    sys::ignore_signal(libc::SIGINT)?;
    say("ready")?;
    thread::sleep(duration);
    Ok(0)
}

/// To a parent, a process that is traced ends when its tracer has looked at it,
/// which this one's does not.
pub fn traced(arguments: Arguments) -> Outcome {
    let status = arguments.only("N")?;
    let this = i32::try_from(process::id()).map_err(io::Error::other)?;
    let (mut reader, mut writer) = io::pipe()?;
    sys::let_trace();
    if sys::fork()?.is_none() {
        let is_tracing = (|| {
            let Some(child) = sys::fork()? else {
                thread::sleep(Duration::MAX);
                process::exit(0)
            };
            sys::trace(child)?;
            sys::trace(this)
        })();
        writer.write_all(&[is_tracing.is_ok().into()])?;
        thread::sleep(Duration::MAX);
    }
    drop(writer);
    let mut is_traced = [0];
    reader.read_exact(&mut is_traced)?;
    match is_traced {
        [0] => Err(io::Error::other("nobody may trace it").into()),
        _ => Ok(status),
    }
}

pub fn leave_terminal(arguments: Arguments) -> Outcome {
    let status = arguments.only("N")?;
    sys::close_streams()?;
    thread::sleep(LEFT_TIME);
    let mut terminal = OpenOptions::new().write(true).open("/dev/tty")?;
    terminal.write_all(b"back\n")?;
    drop(terminal);
    thread::sleep(LEFT_TIME);
    Ok(status)
}

/// The signals are blocked and waited for: no handler is needed, none is lost,
/// and the kernel queues them for the init of a PID namespace too.
pub fn trap(arguments: Arguments) -> Outcome {
    arguments.end()?;
    let signals = sys::SignalSet::new(&FORWARDED.map(|(number, _)| number))?;
    signals.block()?;
    say("ready")?;
    loop {
        let received = signals.wait()?;
        if let Some((_, name)) = FORWARDED.iter().find(|(number, _)| *number == received) {
            say(name)?;
        }
        if received == libc::SIGTERM {
            return Ok(0);
        }
    }
}
