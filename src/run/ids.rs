//! Id maps, and trees of the host with the ids of the jail: what takes the
//! privileges of the supervisor while the jail's first process waits.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::errno::Errno;

use super::context::Context;
use super::error::{Applied, Failed};
use super::mounts::{loop_filesystem, new_filesystem, propagation_flag};
use super::paths::open_host;
use crate::plan::describe::tree_text;
use crate::plan::step::{
    FsOption, HostTree, IdMaps, IdRange, MapWriter, MountFlags, Propagation, TreeSource,
};
use crate::sys::{self, MountAttr};

/// Writes the maps of a process, opens its trees, and lets it go on.
pub(super) fn let_go(
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
    let mut probed = None;
    if !trees.is_empty() {
        let path = PathBuf::from(format!("{pid}/ns/user"));
        let namespace = sys::openat2(cx.proc()?, &path, libc::O_RDONLY, 0)?;
        let mapped = map.filter(|_| trees.iter().any(|tree| tree.mapped));
        let nobody = match mapped {
            Some(map) => {
                let nobody = nobody(cx)?;
                probed = Some(probe(map, nobody, namespace.as_fd())?);
                nobody
            }
            None => (0, 0),
        };
        for tree in trees {
            let found = open(cx, tree, map, nobody, namespace.as_fd()).map_err(|failed| {
                let detail = failed.detail.map_or(String::new(), |detail| format!(", {detail}"));
                Failed { detail: Some(format!("`{}`{detail}", tree_text(tree))), ..failed }
            })?;
            opened.push(found);
        }
    }
    let borrowed: Vec<_> = opened.iter().map(|fd| fd.as_fd()).collect();
    sys::send_fds(socket, &borrowed)?;
    // To take a file system apart waits for every CPU; the jail need not.
    drop(probed);
    Ok(())
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
            return Err(Failed::found(detail));
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
    Err(Failed::found(format!("`{helper}` says: {said}")))
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
    nobody: Owners,
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
    attr.userns_fd = u64::try_from(namespace.as_raw_fd()).map_err(|_| Errno::EBADF)?;
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
    compare(map, nobody, owners(&before), owners(&after))?;
    Ok(fd)
}

/// User and group of a file.
type Owners = (u32, u32);

fn owners(file: &nix::sys::stat::FileStat) -> Owners {
    (file.st_uid, file.st_gid)
}

/// What shows for an owner that has no place in a map: user and group.
fn nobody(cx: &Context) -> Applied<Owners> {
    let read = |name: &str| -> Applied<u32> {
        let path = PathBuf::from(format!("sys/kernel/{name}"));
        let file = sys::openat2(cx.proc()?, &path, libc::O_RDONLY, 0)?;
        let mut text = [0_u8; 16];
        let length = nix::unistd::read(&file, &mut text)?;
        let text = String::from_utf8_lossy(&text[..length]);
        text.trim().parse().map_err(|_| Errno::EINVAL.into())
    };
    Ok((read("overflowuid")?, read("overflowgid")?))
}

/// Refuses owners that do not show as the map says.
fn compare(map: &IdMaps, nobody: Owners, before: Owners, after: Owners) -> Applied {
    for (what, before, after, wanted) in [
        ("user", before.0, after.0, map.uid_outside(before.0).unwrap_or(nobody.0)),
        ("group", before.1, after.1, map.gid_outside(before.1).unwrap_or(nobody.1)),
    ] {
        if wanted != after {
            let detail = format!("its {what} {before} shows as {after}, expected {wanted}");
            return Err(Failed::found(detail));
        }
    }
    Ok(())
}

/// Owners that tell a map from every other one with as many ranges: both ends
/// of each range, and what follows them.
fn samples(map: &IdMaps) -> Vec<Owners> {
    let ends = |ranges: &[IdRange]| -> Vec<u32> {
        let ends = ranges.iter().flat_map(|range| {
            let last = range.inside + (range.count - 1);
            // The number after the last is the kernel's word for none.
            [Some(range.inside), Some(last), last.checked_add(1).filter(|id| *id != u32::MAX)]
        });
        ends.flatten().collect()
    };
    let (uid, gid) = (ends(&map.uid), ends(&map.gid));
    let at = |list: &[u32], index: usize| list.get(index).or(list.first()).copied().unwrap_or(0);
    (0..uid.len().max(gid.len())).map(|index| (at(&uid, index), at(&gid, index))).collect()
}

/// Looks at a file system of files whose owners are known whether a user
/// namespace maps what was planned: the root of a tree, mostly root's, does not
/// tell. Returns the file system, to be dropped when nobody waits for it.
fn probe(map: &IdMaps, nobody: Owners, namespace: BorrowedFd<'_>) -> Applied<OwnedFd> {
    use nix::fcntl::AtFlags;
    use nix::sys::stat::{Mode, SFlag, fstatat, mknodat};
    use nix::unistd::{Gid, Uid, fchownat};
    let options = [FsOption { key: "size", value: Some("4k".to_owned()) }];
    let files = new_filesystem(c"tmpfs", "jailrun", &options, MountFlags::NONE)?;
    let samples: Vec<_> =
        samples(map).into_iter().zip(0..).map(|(it, n): (_, u32)| (it, n.to_string())).collect();
    for (owners, name) in &samples {
        mknodat(&files, name.as_str(), SFlag::S_IFREG, Mode::empty(), 0)?;
        let (uid, gid) = (Uid::from_raw(owners.0), Gid::from_raw(owners.1));
        fchownat(&files, name.as_str(), Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    }
    let attr = MountAttr {
        set: sys::mount::ATTR_IDMAP,
        userns_fd: u64::try_from(namespace.as_raw_fd()).map_err(|_| Errno::EBADF)?,
        ..MountAttr::default()
    };
    match sys::mount_setattr(files.as_fd(), false, &attr) {
        // A kernel before 6.3 maps no tmpfs: there is what it says of the maps
        // in /proc, and the root of each tree.
        Err(Errno::EINVAL) => return Ok(files),
        mapped => mapped?,
    }
    for (before, name) in &samples {
        let after = fstatat(&files, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
        compare(map, nobody, *before, owners(&after)).map_err(|failed| Failed {
            detail: failed.detail.map(|detail| format!("the user namespace is another: {detail}")),
            ..failed
        })?;
    }
    Ok(files)
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

    fn maps(uid: &[[u32; 3]], gid: &[[u32; 3]]) -> IdMaps {
        let ranges = |list: &[[u32; 3]]| {
            let range = |[inside, outside, count]: &[u32; 3]| IdRange {
                inside: *inside,
                outside: *outside,
                count: *count,
            };
            list.iter().map(range).collect()
        };
        IdMaps { uid: ranges(uid), gid: ranges(gid), writer: MapWriter::Supervisor }
    }

    /// Whether files under one map look as another one says.
    fn looks_like(planned: &IdMaps, real: &IdMaps) -> bool {
        let nobody = (65_534, 65_533);
        samples(planned).into_iter().all(|before| {
            let uid = real.uid_outside(before.0).unwrap_or(nobody.0);
            let gid = real.gid_outside(before.1).unwrap_or(nobody.1);
            compare(planned, nobody, before, (uid, gid)).is_ok()
        })
    }

    #[test]
    fn a_map_that_is_swapped_partial_or_too_large_shows() {
        let two = [[0, 1000, 10], [10, 5000, 20]];
        let one = [[0, 7000, 65_536]];
        let planned = maps(&two, &one);
        assert!(looks_like(&planned, &planned));
        for wrong in [
            [[0, 5000, 10], [10, 1000, 20]],
            [[0, 1000, 10], [10, 5001, 20]],
            [[0, 1000, 10], [10, 5000, 19]],
            [[0, 1000, 9], [10, 5000, 20]],
            [[0, 1000, 10], [11, 5000, 19]],
            [[0, 1000, 10], [10, 5000, 21]],
        ] {
            assert!(!looks_like(&planned, &maps(&wrong, &one)), "{wrong:?} as users");
            let planned = maps(&one, &two);
            assert!(!looks_like(&planned, &maps(&one, &wrong)), "{wrong:?} as groups");
        }
        // Users for groups.
        assert!(!looks_like(&planned, &maps(&one, &two)));
        // A map of nothing.
        assert!(!looks_like(&planned, &maps(&[], &[])));
    }

    #[test]
    fn an_owner_outside_of_the_map_is_to_show_as_nobody() {
        let map = maps(&[[0, 1000, 10]], &[[0, 1000, 10]]);
        let nobody = (65_534, 65_533);
        assert!(compare(&map, nobody, (3, 4), (1003, 1004)).is_ok());
        assert!(compare(&map, nobody, (10, 99), nobody).is_ok());
        assert!(compare(&map, nobody, (10, 4), (10, 1004)).is_err());
        assert!(compare(&map, nobody, (3, 10), (1003, 10)).is_err());
        assert!(compare(&map, nobody, (3, 4), (1003, 65_533)).is_err());
    }

    #[test]
    fn the_last_id_has_none_after_it() {
        let whole = maps(&[[0, 0, u32::MAX]], &[[0, 0, 1]]);
        assert_eq!(samples(&whole), [(0, 0), (u32::MAX - 1, 0), (0, 1)]);
    }
}
