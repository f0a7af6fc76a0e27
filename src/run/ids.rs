//! Id maps, and trees of the host with the ids of the jail: what takes the
//! privileges of the supervisor while the jail's first process waits.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::apply::{Applied, Context, loop_filesystem, open_host, propagation_flag};
use super::error::Failed;
use crate::plan::describe::tree_text;
use crate::plan::step::{
    HostTree, IdMaps, IdRange, MapWriter, MountFlags, Propagation, TreeSource,
};
use crate::sys::{self, MountAttr};

/// Writes the maps of a process, opens its trees, and lets it go on.
pub(super) fn prepare(
    cx: &Context,
    pid: libc::pid_t,
    map: Option<&IdMaps>,
    trees: &[HostTree],
    socket: BorrowedFd<'_>,
) -> Applied {
    if let Some(map) = map {
        write(cx, pid, map)?;
    }
    let mut opened = Vec::with_capacity(trees.len());
    if !trees.is_empty() {
        let path = PathBuf::from(format!("{pid}/ns/user"));
        let namespace = sys::openat2(cx.proc()?, &path, libc::O_RDONLY, 0)?;
        for tree in trees {
            let found = open(cx, tree, map, namespace.as_fd()).map_err(|failed| {
                let detail = failed.detail.map_or(String::new(), |detail| format!(", {detail}"));
                Failed { detail: Some(format!("`{}`{detail}", tree_text(tree))), ..failed }
            })?;
            opened.push(found);
        }
    }
    let borrowed: Vec<_> = opened.iter().map(|fd| fd.as_fd()).collect();
    Ok(sys::send_fds(socket, &borrowed)?)
}

fn write(cx: &Context, pid: libc::pid_t, map: &IdMaps) -> Applied {
    for (file, helper, ranges) in
        [("uid_map", "/usr/bin/newuidmap", &map.uid), ("gid_map", "/usr/bin/newgidmap", &map.gid)]
    {
        let path = PathBuf::from(format!("{pid}/{file}"));
        let mode = match map.writer {
            MapWriter::Jail => continue,
            MapWriter::Supervisor => libc::O_RDWR,
            MapWriter::Helpers => {
                run_helper(helper, pid, ranges)?;
                libc::O_RDONLY
            }
        };
        let fd = sys::openat2(cx.proc()?, &path, mode, 0)?;
        if map.writer == MapWriter::Supervisor {
            nix::unistd::write(&fd, map_text(ranges).as_bytes()).map_err(|errno| {
                Failed::because(errno, format!("the kernel does not take this {file}"))
            })?;
        }
        // A helper may be another program than it seems, or map less.
        if read(&fd)? != sorted(ranges) {
            let detail = format!("the {file} is not the one that was asked for");
            return Err(Failed::because(Errno::EIO, detail));
        }
    }
    Ok(())
}

/// Runs newuidmap(1) or newgidmap(1): by a path that no variable changes.
fn run_helper(helper: &str, pid: libc::pid_t, ranges: &[IdRange]) -> Applied {
    let mut command = Command::new(helper);
    command.arg(pid.to_string()).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    for range in ranges {
        command.args([range.inside, range.outside, range.count].map(|number| number.to_string()));
    }
    let output = command.stderr(Stdio::piped()).output().map_err(|error| Failed {
        detail: Some(format!("running `{helper}`")),
        ..Failed::from(error)
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
    Err(Failed::because(Errno::EPERM, format!("`{helper}` says: {said}")))
}

/// The ranges as the kernel takes them, user_namespaces(7).
pub(super) fn map_text(ranges: &[IdRange]) -> String {
    let lines: Vec<_> = ranges
        .iter()
        .map(|range| format!("{} {} {}\n", range.inside, range.outside, range.count))
        .collect();
    lines.concat()
}

/// The kernel sorts a map of many ranges.
fn sorted(ranges: &[IdRange]) -> Vec<[u32; 3]> {
    let mut list: Vec<_> =
        ranges.iter().map(|range| [range.inside, range.outside, range.count]).collect();
    list.sort_unstable();
    list
}

fn read(map: &OwnedFd) -> Applied<Vec<[u32; 3]>> {
    // 340 lines of three padded numbers are the most that the kernel holds.
    let mut text = [0_u8; 340 * 34];
    let mut length = 0;
    loop {
        let offset = i64::try_from(length).map_err(|_| Errno::EOVERFLOW)?;
        match nix::sys::uio::pread(map, &mut text[length..], offset)? {
            0 => break,
            more => length += more,
        }
    }
    let text = String::from_utf8_lossy(&text[..length]);
    let mut list: Vec<[u32; 3]> = text
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            let mut next = || numbers.next()?.ok();
            Some([next()?, next()?, next()?])
        })
        .collect();
    list.sort_unstable();
    Ok(list)
}

/// Opens a tree, gives it the ids of the map where it is to have them, and
/// looks whether it has.
fn open(
    cx: &Context,
    tree: &HostTree,
    map: Option<&IdMaps>,
    namespace: BorrowedFd<'_>,
) -> Applied<OwnedFd> {
    let fd = match &tree.source {
        TreeSource::Path(path) => sys::open_tree_clone(open_host(path)?.as_fd(), tree.recursive)?,
        TreeSource::Loop { number, filesystem } => {
            loop_filesystem(cx, *number, *filesystem, MountFlags::NONE)?
        }
    };
    let propagation = if tree.slave { Propagation::Slave } else { Propagation::Private };
    let mut attr = MountAttr { propagation: propagation_flag(propagation), ..MountAttr::default() };
    let Some(map) = map.filter(|_| tree.mapped) else {
        sys::mount_setattr(fd.as_fd(), tree.recursive, &attr)?;
        return Ok(fd);
    };
    let before = nix::sys::stat::fstat(&fd)?;
    attr.set = sys::mount::ATTR_IDMAP;
    attr.userns_fd =
        u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&namespace)).map_err(|_| Errno::EBADF)?;
    sys::mount_setattr(fd.as_fd(), tree.recursive, &attr).map_err(|errno| match errno {
        // The kernel's word for a file system that does not know of it; an
        // invalid argument otherwise would be jailrun's mistake.
        Errno::EINVAL => Failed::because(
            Errno::EOPNOTSUPP,
            "the file system, or one below it, has no mapped mounts",
        ),
        errno => errno.into(),
    })?;
    let after = nix::sys::stat::fstat(&fd)?;
    for (what, before, after, wanted) in [
        ("user", before.st_uid, after.st_uid, map.uid_outside(before.st_uid)),
        ("group", before.st_gid, after.st_gid, map.gid_outside(before.st_gid)),
    ] {
        // What has no place in the map shows as the kernel's nobody.
        if wanted.is_some_and(|wanted| wanted != after) {
            let detail = format!("its {what} {before} shows as {after}");
            return Err(Failed::because(Errno::EIO, detail));
        }
    }
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_written_a_range_to_a_line() {
        let ranges = [
            IdRange { inside: 0, outside: 1000, count: 1 },
            IdRange { inside: 1, outside: 100_000, count: 65_535 },
        ];
        assert_eq!(map_text(&ranges), "0 1000 1\n1 100000 65535\n");
        assert_eq!(sorted(&ranges), [[0, 1000, 1], [1, 100_000, 65_535]]);
    }
}
