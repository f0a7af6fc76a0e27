//! The program jailrun's tests run inside a jail: it reports what a process
//! sees there, behaves in ways a launcher must cope with, and tries what a
//! jail must refuse.
//!
//! It is one static file, because the root of a jail may hold nothing else.
//! What it finds goes to standard output as one line of JSON.
//!
//! Exit status: 0 when the subcommand did its work, and that includes an
//! attempt that was refused, since the refusal is the finding; 1 when it could
//! not do its work, and when `read` or `hog`, whose success is no JSON, is
//! refused; 2 for a usage error. `exit`, `signal` and `report --exit` end as
//! they were told to.
//!
//! There is no Rust `main`: before calling one, the Rust runtime ignores
//! SIGPIPE, installs handlers for SIGSEGV and SIGBUS, and opens `/dev/null` in
//! place of standard descriptors that are closed. A program whose work is to
//! show how it was started must see these as its launcher left them.

#![cfg_attr(not(test), no_main)]

mod attempts;
mod behaviour;
mod breakout;
mod command;
mod errno;
mod mountinfo;
mod report;
mod sys;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::process;

use command::{Arguments, Failure, Outcome};

/// One subcommand: a row of the usage text and the function behind it.
struct Subcommand {
    name: &'static str,
    operands: &'static str,
    about: &'static str,
    run: fn(Arguments) -> Outcome,
}

impl Subcommand {
    fn synopsis(&self) -> String {
        let line = format!("jailprobe {} {}", self.name, self.operands);
        line.trim_end().to_owned()
    }
}

const fn subcommand(
    name: &'static str,
    operands: &'static str,
    about: &'static str,
    run: fn(Arguments) -> Outcome,
) -> Subcommand {
    Subcommand { name, operands, about, run }
}

#[rustfmt::skip]
const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("report", "[--exit N] [--] [ARGUMENT...]", "everything observable about the process", report::report),
    subcommand("open-fds", "", "the open file descriptors", report::open_fds),
    subcommand("tty", "", "the terminal on standard input, and the controlling one", report::tty),

    subcommand("true", "", "succeed", behaviour::succeed),
    subcommand("exit", "N", "exit with status N", behaviour::exit),
    subcommand("signal", "N", "send signal N to itself", behaviour::signal),
    subcommand("sleep", "SECONDS", "sleep", behaviour::sleep),
    subcommand("spin", "SECONDS", "keep one CPU busy, then say how much of it was given", behaviour::spin),
    subcommand("hog", "BYTES", "write to that much memory, then say so", behaviour::hog),
    subcommand("forks", "N", "try to have N children at once", behaviour::forks),
    subcommand("zombies", "N", "leave N dead orphans to init, count zombies 200 ms later", behaviour::zombies),
    subcommand("ignore-term", "SECONDS", "ignore TERM and INT, say `ready`, sleep", behaviour::ignore_term),
    subcommand("traced", "N", "be traced by a child that stays and traces another, exit with status N", behaviour::traced),
    subcommand("leave-terminal", "N", "close every stream, later say `back` on the terminal, exit with status N", behaviour::leave_terminal),
    subcommand("trap", "", "say `ready`, then the name of every signal, until TERM", behaviour::trap),

    subcommand("write", "PATH TEXT", "write a file", attempts::write),
    subcommand("read", "PATH", "print the first MiB of a file", attempts::read),
    subcommand("stat", "PATH", "describe a file, not following a final symlink", attempts::stat),
    subcommand("escape", "", "leave a chroot through a second one", attempts::escape),
    subcommand("mount-tmpfs", "PATH", "mount a tmpfs", attempts::mount_tmpfs),
    subcommand("umount", "PATH", "detach a mount", attempts::umount),
    subcommand("remount-rw", "PATH", "make a mount writable, keeping its other options", attempts::remount_rw),
    subcommand("unshare-user", "", "enter a new user namespace", attempts::unshare_user),
    subcommand("mknod", "PATH [b|c MAJOR MINOR]", "make a device node, by default that of /dev/null", attempts::mknod),
    subcommand("truncate", "PATH", "cut a file off at its start", attempts::truncate),
    subcommand("open", "PATH", "open for reading, without reading", attempts::open),
    subcommand("chmod", "PATH MODE", "change permission bits, given in octal", attempts::chmod),
    subcommand("rename", "FROM TO", "move a file", attempts::rename),
    subcommand("exec", "PATH [ARGUMENT...]", "become another program", attempts::exec),
    subcommand("bind-tcp", "PORT", "listen on a port of 127.0.0.1", attempts::bind_tcp),
    subcommand("connect-tcp", "PORT", "connect to a port of 127.0.0.1", attempts::connect_tcp),
    subcommand("connect-abstract", "NAME", "connect to an abstract unix socket", attempts::connect_abstract),
    subcommand("signal-other", "PID", "see whether a process can be sent signals", attempts::signal_other),
    subcommand("session-keyring", "", "the number of the session keyring", attempts::session_keyring),
    subcommand("sysctl-write", "", "open kernel.core_pattern for writing, without writing", attempts::sysctl_write),
    subcommand("tiocsti", "", "type one `#` into the terminal on standard input", attempts::tiocsti),
    subcommand("open-file", "PATH r|w", "open a file", breakout::open),
    subcommand("open-at", "FD PATH", "open a file from an inherited directory", breakout::open_at),
    subcommand("handle", "PATH", "open a file by its handle", breakout::handle),
    subcommand("device", "PATH b|c MAJOR MINOR", "make a device node unless it is there, and open it", breakout::device),
    subcommand("ids", "", "the user ids", breakout::ids),
    subcommand("list", "DIRECTORY", "the names in a directory", breakout::list),
    subcommand("settled", "COMMAND [ARGUMENT...]", "wait until process 1 keeps CAP_KILL alone and sleeps, execute", breakout::settled),
    subcommand("with-key", "NAME COMMAND [ARGUMENT...]", "put a key into a new session keyring, execute", breakout::with_key),
    subcommand("find-key", "NAME", "look for that key", breakout::find_key),
    subcommand("mount", "FSTYPE PATH [OPTIONS]", "mount a new file system", breakout::mount),
    subcommand("connect", "ADDRESS:PORT|@NAME", "connect to a TCP port or an abstract socket", breakout::connect),
    subcommand("queue", "NAME", "open a POSIX message queue", breakout::queue),
    subcommand("hostname", "NAME", "set the host name", breakout::hostname),
    subcommand("fill", "PATH BYTES", "write a file that long", breakout::fill),
    subcommand("direct", "PATH BYTES", "write a file that long past the page cache", breakout::direct),
    subcommand("inodes", "DIRECTORY N", "make N files", breakout::inodes),
    subcommand("fds", "N", "open N descriptors", breakout::fds),
    subcommand("ptys", "N", "open N pseudo-terminals", breakout::ptys),
    subcommand("flood", "BYTES", "write that much to standard output", breakout::flood),
    subcommand("call", "NUMBER [ARGUMENT...]", "make a system call with numbers as arguments", breakout::call),
    subcommand("compat", "", "make a system call as a 32-bit program does", breakout::compat),
    subcommand("tioclinux", "", "ask the console on standard input for its shift state", breakout::tioclinux),
    subcommand("find", "NAME...", "which of these names are in /", breakout::find),
    subcommand("syscall", "NUMBER [ARGUMENT...]", "make a system call by its number", attempts::syscall),
    subcommand("int80", "NUMBER", "make a system call without arguments by the 32-bit entry", attempts::int80),
    subcommand("tiocsti-high", "", "the same, with junk in the upper half of the request", attempts::tiocsti_high),
];

/// The entry point the C library calls.
///
/// # Safety
///
/// `argv` must point to `argc` strings that are valid for the whole process,
/// which the C library guarantees.
#[allow(unsafe_code)]
#[cfg_attr(not(test), unsafe(export_name = "main"))]
#[cfg_attr(test, allow(dead_code))]
unsafe extern "C" fn start(argc: c_int, argv: *const *const c_char) -> c_int {
    let words = (0..usize::try_from(argc).unwrap_or(0)).map(|index| {
        // SAFETY: index < argc, so this is one of the strings the C library
        // passes, terminated and never freed.
        let word = unsafe { CStr::from_ptr(*argv.add(index)) };
        OsStr::from_bytes(word.to_bytes()).to_owned()
    });
    // `process::exit` rather than a return, because it flushes standard output.
    process::exit(run(words.collect()).into())
}

fn run(words: Vec<OsString>) -> u8 {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_default();
    let name = words.next().unwrap_or_default();
    let Some(subcommand) = SUBCOMMANDS.iter().find(|it| name == it.name) else {
        eprint!("{}", usage());
        return 2;
    };
    match (subcommand.run)(Arguments::new(program, words)) {
        Ok(status) => status,
        Err(Failure::Usage(message)) => {
            eprintln!("jailprobe {}: {message}", subcommand.name);
            eprintln!("usage: {}", subcommand.synopsis());
            2
        }
        Err(Failure::Io(error)) => {
            eprintln!("jailprobe {}: {error}", subcommand.name);
            1
        }
    }
}

fn usage() -> String {
    SUBCOMMANDS.iter().map(|it| format!("{}\n    {}\n", it.synopsis(), it.about)).collect()
}
