//! Files of the kernel: control groups and sysctls.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd;

use super::context::Context;
use super::error::{Applied, Failed};
use crate::sys;

/// The text to write to the file of a cgroup, or to a file of the kernel: one
/// write, or it is taken for several.
pub(super) fn write_file(path: &Path, text: &str) -> Applied {
    let fd = nix::fcntl::open(path, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    unistd::write(&fd, text.as_bytes())?;
    Ok(())
}

/// Writes to a file of a control group, and fails unless a line of it holds what is
/// expected then.
pub(super) fn set_limit(file: &Path, value: &str, expect: &str) -> Applied {
    let fd = nix::fcntl::open(file, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?;
    write_kept(&fd, value, |text| {
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            expect.split_whitespace().all(|word| words.contains(&word))
        })
    })
}

/// Writes to a file of the kernel, and fails unless it reads as it should
/// afterwards.
fn write_kept(fd: &OwnedFd, value: &str, is_kept: impl Fn(&str) -> bool) -> Applied {
    unistd::write(fd, value.as_bytes())?;
    let mut buffer = [0_u8; 4096];
    let length = nix::sys::uio::pread(fd, &mut buffer, 0)?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    if is_kept(&text) {
        return Ok(());
    }
    let found = text.lines().next().unwrap_or("nothing").trim();
    Err(Failed::found(format!("wrote `{value}`, the kernel holds `{found}`")))
}

/// Through the host's `/proc`, which a root cannot have put anything into: the
/// kernel shows there what belongs to the namespaces of the process that looks.
pub(super) fn set_sysctl(cx: &Context, path: &str, value: &str) -> Applied {
    let at = Path::new("sys").join(path);
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS;
    let fd = sys::openat2(cx.proc()?, &at, libc::O_RDWR, resolve)?;
    if nix::sys::statfs::fstatfs(&fd)?.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC {
        return Err(Failed::found("the host's `/proc` is not the kernel's"));
    }
    write_kept(&fd, value, |text| text.split_whitespace().eq(value.split_whitespace()))
}

/// Asks for an event when the v1 group runs out of memory;
/// `cgroup-v1/memory.rst`, section 10.
pub(super) fn watch_oom(directory: &Path) -> Applied<OwnedFd> {
    use nix::sys::eventfd::{EfdFlags, EventFd};
    let event: OwnedFd =
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into();
    let control = nix::fcntl::open(
        &directory.join("memory.oom_control"),
        OFlag::O_RDONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let line = format!("{} {}", event.as_raw_fd(), control.as_raw_fd());
    write_file(&directory.join("cgroup.event_control"), &line)?;
    Ok(event)
}
