//! Attempts of the battery: ways out of a jail, into its launcher, or over its
//! limits. Each prints one line, as those of `attempts` do.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::attempts::print;
use crate::command::{Arguments, Failure, Outcome, found};
use crate::{errno, sys};

/// Bytes written at once.
const BLOCK: usize = 1 << 16;

/// How often something is looked at, 10 ms apart.
const PATIENCE: usize = 1000;

pub fn open(mut arguments: Arguments) -> Outcome {
    let path = PathBuf::from(arguments.required("PATH")?);
    let writing = arguments.required("r|w")? == "w";
    arguments.end()?;
    print("open", open_file(&path, writing).map(drop))
}

/// Nothing is waited for, and no terminal taken.
fn open_file(path: &Path, writing: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(!writing)
        .write(writing)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)
}

pub fn list(arguments: Arguments) -> Outcome {
    let read = |path| -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    };
    let names = read(arguments.only_path()?);
    found(&json!({
        "attempt": "list",
        "ok": names.is_ok(),
        "errno": names.as_ref().err().map(errno::describe),
        "names": names.ok(),
    }))
}

pub fn open_at(mut arguments: Arguments) -> Outcome {
    let directory = arguments.parsed("FD")?;
    let path = arguments.only_path()?;
    print("open-at", sys::open_at(directory, &path).map(drop))
}

pub fn handle(arguments: Arguments) -> Outcome {
    print("handle", sys::open_by_handle(&arguments.only_path()?))
}

/// `step` says which of the two was refused.
pub fn device(mut arguments: Arguments) -> Outcome {
    let path = PathBuf::from(arguments.required("PATH")?);
    let kind = match arguments.required("b|c")?.to_str() {
        Some("b") => libc::S_IFBLK,
        Some("c") => libc::S_IFCHR,
        _ => return Err(Failure::Usage("neither b nor c".to_owned())),
    };
    let number = libc::makedev(arguments.parsed("MAJOR")?, arguments.parsed("MINOR")?);
    arguments.end()?;
    let exists = path.symlink_metadata().is_ok();
    let made = if exists { Ok(()) } else { sys::mknod(&path, kind, number) };
    let (step, refusal) = match made {
        Err(error) => ("mknod", Some(error)),
        Ok(()) => ("open", open_file(&path, false).err()),
    };
    found(&json!({
        "attempt": "device",
        "ok": refusal.is_none(),
        "step": step,
        "errno": refusal.as_ref().map(errno::describe),
    }))
}

pub fn ids(arguments: Arguments) -> Outcome {
    arguments.end()?;
    let ids = sys::user_ids()?;
    found(&json!({ "attempt": "ids", "ok": ids[1] == 0, "euid": ids[1], "uids": ids }))
}

pub fn with_key(mut arguments: Arguments) -> Outcome {
    let name = text(&mut arguments, "NAME")?;
    let program = arguments.required("COMMAND")?;
    sys::add_key(&name)?;
    Err(become_program(program, arguments))
}

fn become_program(program: OsString, mut arguments: Arguments) -> Failure {
    let mut command = Command::new(program);
    while let Some(word) = arguments.next() {
        command.arg(word);
    }
    command.exec().into()
}

/// An init of jailrun's own gives up its privileges beside the command: what is
/// tried at once may be refused for those that it still has.
pub fn settled(mut arguments: Arguments) -> Outcome {
    let program = arguments.required("COMMAND")?;
    let is_settled = |status: &str| {
        let has = |line: &str| status.lines().any(|it| it == line);
        has("CapPrm:\t0000000000000020") && has("State:\tS (sleeping)")
    };
    for _ in 0..PATIENCE {
        if is_settled(&fs::read_to_string("/proc/1/status")?) {
            return Err(become_program(program, arguments));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Err(io::Error::from(io::ErrorKind::TimedOut).into())
}

pub fn find_key(arguments: Arguments) -> Outcome {
    print("find-key", sys::find_key(&only_text(arguments, "NAME")?))
}

pub fn mount(mut arguments: Arguments) -> Outcome {
    let fstype = text(&mut arguments, "FSTYPE")?;
    let path = PathBuf::from(arguments.required("PATH")?);
    let options = arguments.next().unwrap_or_default();
    arguments.end()?;
    print("mount", sys::mount_new(&fstype, &path, &options.to_string_lossy()))
}

pub fn connect(arguments: Arguments) -> Outcome {
    let address = only_text(arguments, "ADDRESS")?;
    let connected = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)
            .and_then(|address| UnixStream::connect_addr(&address))
            .map(drop),
        None => TcpStream::connect(&address).map(drop),
    };
    print("connect", connected)
}

pub fn queue(arguments: Arguments) -> Outcome {
    print("queue", sys::open_queue(&only_text(arguments, "NAME")?))
}

pub fn hostname(arguments: Arguments) -> Outcome {
    print("hostname", sys::set_hostname(&only_text(arguments, "NAME")?))
}

pub fn fill(mut arguments: Arguments) -> Outcome {
    let path = PathBuf::from(arguments.required("PATH")?);
    let wanted: usize = arguments.only("BYTES")?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(path)?;
    let block = vec![1_u8; BLOCK];
    repeat("fill", wanted.div_ceil(BLOCK), |_| file.write_all(&block))
}

/// Memory as open(2) `O_DIRECT` wants it.
#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

pub fn direct(mut arguments: Arguments) -> Outcome {
    let path = PathBuf::from(arguments.required("PATH")?);
    let wanted: usize = arguments.only("BYTES")?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
    let mut file = options.open(path)?;
    let block = Box::new(Aligned([1; BLOCK]));
    repeat("direct", wanted.div_ceil(BLOCK), |_| file.write_all(&block.0))
}

pub fn inodes(mut arguments: Arguments) -> Outcome {
    let directory = PathBuf::from(arguments.required("DIRECTORY")?);
    let wanted = arguments.only("N")?;
    repeat("inodes", wanted, |number| File::create(directory.join(number.to_string())).map(drop))
}

pub fn fds(arguments: Arguments) -> Outcome {
    let wanted = arguments.only("N")?;
    let mut held = Vec::new();
    repeat("fds", wanted, |_| {
        held.push(File::open("/")?);
        Ok(())
    })
}

pub fn ptys(arguments: Arguments) -> Outcome {
    let wanted = arguments.only("N")?;
    let mut held = Vec::new();
    repeat("ptys", wanted, |_| {
        held.push(sys::open_terminal()?);
        Ok(())
    })
}

/// Does it so often, or until it is refused.
fn repeat(attempt: &str, wanted: usize, mut once: impl FnMut(usize) -> io::Result<()>) -> Outcome {
    let mut done = 0;
    let mut refusal = None;
    while done < wanted && refusal.is_none() {
        match once(done) {
            Ok(()) => done += 1,
            Err(error) => refusal = Some(error),
        }
    }
    found(&json!({
        "attempt": attempt,
        "ok": refusal.is_none(),
        "errno": refusal.as_ref().map(errno::describe),
        "done": done,
    }))
}

/// Nothing else is printed.
pub fn flood(arguments: Arguments) -> Outcome {
    let wanted: usize = arguments.only("BYTES")?;
    let block = vec![b'y'; BLOCK];
    let mut stdout = io::stdout().lock();
    for _ in 0..wanted.div_ceil(BLOCK) {
        stdout.write_all(&block)?;
    }
    Ok(0)
}

/// `answer` is what the call returned.
pub fn call(mut arguments: Arguments) -> Outcome {
    let number = arguments.parsed("NUMBER")?;
    let mut words = [0; 6];
    for word in &mut words {
        match arguments.next() {
            None => break,
            Some(text) => {
                let text = text.to_string_lossy();
                *word = text
                    .parse()
                    .map_err(|_| Failure::Usage(format!("`{text}` is not a number")))?;
            }
        }
    }
    arguments.end()?;
    let answer = sys::raw(number, words);
    found(&json!({
        "attempt": "call",
        "ok": answer.is_ok(),
        "errno": answer.as_ref().err().map(errno::describe),
        "answer": answer.ok(),
    }))
}

pub fn compat(arguments: Arguments) -> Outcome {
    arguments.end()?;
    print("compat", sys::compat_getpid().map(drop))
}

pub fn tioclinux(arguments: Arguments) -> Outcome {
    arguments.end()?;
    print("tioclinux", sys::console_selection(0))
}

/// The first of the names that is there, for looking for marks of the host.
pub fn find(mut arguments: Arguments) -> Outcome {
    let mut seen = Vec::new();
    while let Some(name) = arguments.next() {
        if fs::symlink_metadata(Path::new("/").join(&name)).is_ok() {
            seen.push(name.to_string_lossy().into_owned());
        }
    }
    found(&json!({ "attempt": "find", "ok": !seen.is_empty(), "seen": seen }))
}

fn text(arguments: &mut Arguments, what: &str) -> Result<String, Failure> {
    let word = arguments.required(what)?;
    word.into_string().map_err(|word| Failure::Usage(format!("{word:?} is not UTF-8")))
}

fn only_text(mut arguments: Arguments, what: &str) -> Result<String, Failure> {
    let word = text(&mut arguments, what)?;
    arguments.end()?;
    Ok(word)
}
