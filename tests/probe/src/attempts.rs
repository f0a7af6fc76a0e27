//! Things a jail must refuse, or allow only where its unit says so.
//!
//! Each is tried once and the answer printed: `attempt` is the subcommand,
//! `ok` whether the kernel allowed it, `errno` the name of its refusal or null.

use std::env;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chroot};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use libc::c_ulong;
use serde_json::{Value, json};

use crate::command::{Arguments, Failure, Outcome, found, say};
use crate::{errno, mountinfo, report, sys};

/// More steps up than any working directory is deep.
const LEVELS: usize = 256;

/// The directory `escape` makes and, if it made it, removes.
const INNER_ROOT: &str = ".out";

/// How much of a file `read` prints: a file it can read may be a whole disk.
const READ_LIMIT: u64 = 1 << 20;

/// Bits of an ioctl request the kernel drops but a careless filter compares.
const HIGH_HALF_JUNK: c_ulong = 0x5555_0000_0000;

pub fn print(attempt: &str, result: io::Result<()>) -> Outcome {
    let refusal = result.err();
    found(&json!({
        "attempt": attempt,
        "ok": refusal.is_none(),
        "errno": refusal.as_ref().map(errno::describe),
    }))
}

pub fn write(mut arguments: Arguments) -> Outcome {
    let path = arguments.required("PATH")?;
    let text = arguments.required("TEXT")?;
    arguments.end()?;
    print("write", fs::write(path, text.as_encoded_bytes()))
}

/// The content is printed as it is; only a refusal is JSON, with exit status 1.
pub fn read(arguments: Arguments) -> Outcome {
    match read_start(&arguments.only_path()?) {
        Ok(content) => {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&content)?;
            stdout.flush()?;
            Ok(0)
        }
        Err(error) => {
            print("read", Err(error))?;
            Ok(1)
        }
    }
}

fn read_start(path: &Path) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(READ_LIMIT).read_to_end(&mut content)?;
    Ok(content)
}

/// What the file is, beside the usual answer of an attempt.
pub fn stat(arguments: Arguments) -> Outcome {
    let path = arguments.only_path()?;
    match describe_file(&path) {
        Ok(file) => found(&json!({ "attempt": "stat", "ok": true, "errno": null, "file": file })),
        Err(error) => print("stat", Err(error)),
    }
}

fn describe_file(path: &Path) -> io::Result<Value> {
    let metadata = path.symlink_metadata()?;
    let mut file = report::describe_node(path, &metadata)?;
    file["mode"] = format!("{:04o}", metadata.mode() & 0o7777).into();
    file["uid"] = metadata.uid().into();
    file["gid"] = metadata.gid().into();
    file["size"] = metadata.size().into();
    file["links"] = metadata.nlink().into();
    file["dev"] = report::device(metadata.dev()).into();
    file["ino"] = metadata.ino().into();
    Ok(file)
}

/// The double chroot: chroot into a subdirectory while staying outside it, walk
/// up past what used to be the root, make that the root.
pub fn escape(arguments: Arguments) -> Outcome {
    arguments.end()?;
    let before = report::root()?;
    let failure = leave_chroot().err();
    let escaped = failure.is_none() && report::root()? != before;
    // Those of the place where it ended up.
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok();
    found(&json!({
        "escaped": escaped,
        "mounts": mounts.map(|text| mountinfo::parse(&text)),
        "step": failure.as_ref().map(|(step, _)| step),
        "errno": failure.as_ref().map(|(_, error)| errno::describe(error)),
    }))
}

fn leave_chroot() -> Result<(), (&'static str, io::Error)> {
    let at = |step| move |error| (step, error);
    let made = make_inner_root().map_err(at("mkdir"))?;
    let entered = chroot(INNER_ROOT);
    if made {
        // Still reachable: the working directory has not changed.
        fs::remove_dir(INNER_ROOT).map_err(at("rmdir"))?;
    }
    entered.map_err(at("chroot-in"))?;
    for _ in 0..LEVELS {
        env::set_current_dir("..").map_err(at("chdir"))?;
    }
    chroot(".").map_err(at("chroot-out"))
}

/// Whether the directory had to be made: a read-only root may bring it along.
fn make_inner_root() -> io::Result<bool> {
    match fs::create_dir(INNER_ROOT) {
        Ok(()) => Ok(true),
        Err(_) if Path::new(INNER_ROOT).is_dir() => Ok(false),
        Err(error) => Err(error),
    }
}

pub fn mount_tmpfs(arguments: Arguments) -> Outcome {
    print("mount-tmpfs", sys::mount_tmpfs(&arguments.only_path()?))
}

pub fn umount(arguments: Arguments) -> Outcome {
    print("umount", sys::detach_mount(&arguments.only_path()?))
}

pub fn remount_rw(arguments: Arguments) -> Outcome {
    print("remount-rw", sys::remount_writable(&arguments.only_path()?))
}

pub fn unshare_user(arguments: Arguments) -> Outcome {
    arguments.end()?;
    print("unshare-user", sys::unshare_user())
}

/// The default is a device every jail has, so that a refusal is about mknod.
pub fn mknod(mut arguments: Arguments) -> Outcome {
    let path = arguments.required("PATH")?;
    let (kind, major, minor) = match arguments.next() {
        None => (libc::S_IFCHR, 1, 3),
        Some(kind) => (device_kind(&kind)?, arguments.parsed("MAJOR")?, arguments.parsed("MINOR")?),
    };
    arguments.end()?;
    let made = sys::mknod(Path::new(&path), kind, libc::makedev(major, minor));
    print("mknod", made)
}

fn device_kind(word: &OsString) -> Result<libc::mode_t, Failure> {
    match word.to_str() {
        Some("b") => Ok(libc::S_IFBLK),
        Some("c") => Ok(libc::S_IFCHR),
        _ => Err(Failure::Usage(format!("{word:?} is neither b nor c"))),
    }
}

pub fn truncate(arguments: Arguments) -> Outcome {
    print("truncate", sys::truncate(&arguments.only_path()?))
}

/// A device may have nothing to read at the time.
pub fn open(arguments: Arguments) -> Outcome {
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NONBLOCK);
    print("open", options.open(arguments.only_path()?).map(drop))
}

pub fn chmod(mut arguments: Arguments) -> Outcome {
    let path = arguments.required("PATH")?;
    let mode = arguments.required("MODE")?;
    arguments.end()?;
    let mode = mode.to_str().and_then(|text| u32::from_str_radix(text, 8).ok());
    let mode = mode.ok_or_else(|| Failure::Usage("MODE is not octal".to_owned()))?;
    print("chmod", fs::set_permissions(path, fs::Permissions::from_mode(mode)))
}

pub fn rename(mut arguments: Arguments) -> Outcome {
    let from = arguments.required("FROM")?;
    let to = arguments.required("TO")?;
    arguments.end()?;
    print("rename", fs::rename(from, to))
}

/// Only a refusal is printed: after success there is another program.
pub fn exec(mut arguments: Arguments) -> Outcome {
    let mut command = Command::new(arguments.required("PATH")?);
    while let Some(word) = arguments.next() {
        command.arg(word);
    }
    print("exec", Err(command.exec()))
}

pub fn bind_tcp(arguments: Arguments) -> Outcome {
    let port: u16 = arguments.only("PORT")?;
    print("bind-tcp", TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(drop))
}

pub fn connect_tcp(arguments: Arguments) -> Outcome {
    let port: u16 = arguments.only("PORT")?;
    print("connect-tcp", TcpStream::connect((Ipv4Addr::LOCALHOST, port)).map(drop))
}

pub fn connect_abstract(mut arguments: Arguments) -> Outcome {
    let name = arguments.required("NAME")?;
    arguments.end()?;
    let address = SocketAddr::from_abstract_name(name.as_encoded_bytes())?;
    print("connect-abstract", UnixStream::connect_addr(&address).map(drop))
}

/// Signal 0 is checked like any other and sent to nobody.
pub fn signal_other(arguments: Arguments) -> Outcome {
    print("signal-other", sys::probe_process(arguments.only("PID")?))
}

/// A number alone; the caller compares it with others.
pub fn session_keyring(arguments: Arguments) -> Outcome {
    arguments.end()?;
    say(&sys::session_keyring()?.to_string())?;
    Ok(0)
}

pub fn sysctl_write(arguments: Arguments) -> Outcome {
    arguments.end()?;
    let opened = OpenOptions::new().write(true).open("/proc/sys/kernel/core_pattern");
    print("sysctl-write", opened.map(drop))
}

pub fn tiocsti(arguments: Arguments) -> Outcome {
    arguments.end()?;
    print("tiocsti", sys::type_into_terminal(b'#', 0))
}

pub fn tiocsti_high(arguments: Arguments) -> Outcome {
    arguments.end()?;
    let typed = sys::type_into_terminal(b'#', HIGH_HALF_JUNK);
    print("tiocsti-high", typed)
}

/// The numbers are those of this architecture; arguments are 64 bits each.
pub fn syscall(mut arguments: Arguments) -> Outcome {
    let number = arguments.parsed("NUMBER")?;
    let mut values = [0_u64; 6];
    for value in &mut values {
        let Some(word) = arguments.next() else { break };
        let text = word.to_string_lossy();
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        };
        *value = parsed.ok_or_else(|| Failure::Usage(format!("{word:?} is not a number")))?;
    }
    arguments.end()?;
    print("syscall", sys::call(number, values))
}

pub fn int80(arguments: Arguments) -> Outcome {
    let number = arguments.only("NUMBER")?;
    print("int80", sys::call32(number))
}
