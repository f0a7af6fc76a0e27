//! Reading mountinfo, proc_pid_mountinfo(5).

use std::borrow::Cow;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::unit::mounts::MountFlags;

/// File systems without files of their own: what they show is the kernel's.
const OF_THE_KERNEL: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// Whether a file system of that type has no files of its own: nothing can be
/// laid over it.
pub fn is_of_the_kernel(fstype: &str) -> bool {
    OF_THE_KERNEL.contains(&fstype)
}

/// Whether a file system of that type hands out something of the host, not files
/// like any other.
pub fn is_handed_out(fstype: &str) -> bool {
    // Huge pages are files of those who made them; autofs is a place for mounts.
    is_of_the_kernel(fstype) && !matches!(fstype, "hugetlbfs" | "autofs")
}

/// One line of mountinfo, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'t> {
    /// Number of the mount.
    pub id: u32,
    /// Number of the mount it lies on.
    pub parent: u32,
    /// Number of the device, as text.
    pub device: &'t [u8],
    /// What of the file system is mounted.
    pub root: Cow<'t, Path>,
    /// Mount point.
    pub target: Cow<'t, Path>,
    /// File system type.
    pub fstype: Cow<'t, str>,
    /// Flags of the mount.
    pub flags: MountFlags,
}

/// Reads all of a mountinfo, which does not say how long it is, in parts as long
/// as the kernel gives them.
pub fn read(mut file: impl Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::with_capacity(8 << 10);
    // Of the trait's own: of a file the standard library asks its length first.
    Read::by_ref(&mut file).take(u64::MAX).read_to_end(&mut text)?;
    Ok(text)
}

/// Reads a line; `None` when it is malformed.
pub fn parse_line(line: &[u8]) -> Option<Line<'_>> {
    let mut fields = line.split(|byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse::<u32>().ok();
    let (id, parent) = (number()?, number()?);
    let (device, root, target) = (fields.next()?, fields.next()?, fields.next()?);
    let options = fields.next()?;
    let fstype = fields.skip_while(|field| *field != b"-").nth(1)?;
    let mut flags = MountFlags::NONE;
    for option in options.split(|byte| *byte == b',') {
        match option {
            b"ro" => flags.read_only = true,
            b"nosuid" => flags.nosuid = true,
            b"nodev" => flags.nodev = true,
            b"noexec" => flags.noexec = true,
            b"noatime" => flags.noatime = true,
            _ => {}
        }
    }
    Some(Line {
        id,
        parent,
        device,
        root: path(root),
        target: path(target),
        fstype: String::from_utf8_lossy(fstype),
        flags,
    })
}

fn path(field: &[u8]) -> Cow<'_, Path> {
    match field.contains(&b'\\') {
        true => Cow::Owned(PathBuf::from(std::ffi::OsString::from_vec(unescape(field)))),
        false => Cow::Borrowed(Path::new(OsStr::from_bytes(field))),
    }
}

/// Where else the files of a mount are seen: elsewhere than at its mount point
/// or below a directory.
pub fn elsewhere(lines: &[Line<'_>], mount: &Line<'_>, directory: &Path) -> Vec<PathBuf> {
    lines
        .iter()
        .filter(|line| line.device == mount.device && line.id != mount.id)
        .filter(|line| !line.target.starts_with(directory))
        .filter_map(|line| {
            let rest = mount.root.strip_prefix(&line.root).ok()?;
            // Joining nothing would add a slash.
            Some(match rest.as_os_str().is_empty() {
                true => line.target.to_path_buf(),
                false => line.target.join(rest),
            })
        })
        .filter(|path| !path.starts_with(directory))
        .collect()
}

/// The mount that a path without links leads to. Others on the way to it may
/// be hidden: below a later mount, or below the same place.
pub fn holder<'l, 't>(lines: &'l [Line<'t>], path: &Path) -> Option<&'l Line<'t>> {
    let is_top = |line: &Line<'_>| {
        line.parent == line.id || !lines.iter().any(|other| other.id == line.parent)
    };
    let next = |from: Option<&Line<'_>>| {
        lines
            .iter()
            .filter(|line| path.starts_with(&line.target))
            .filter(|line| match from {
                Some(from) => line.parent == from.id && line.id != from.id,
                None => is_top(line),
            })
            .min_by_key(|line| line.target.as_os_str().len())
    };
    std::iter::successors(next(None), |line| next(Some(line))).last()
}

/// Whether a line can be of a mount below a directory; false for most, which
/// then need not be parsed.
pub fn may_lie_below(line: &[u8], directory: &Path) -> bool {
    let target = line.split(|byte| *byte == b' ').nth(4).unwrap_or_default();
    let bytes = directory.as_os_str().as_bytes();
    // An escape in either makes them hard to compare.
    target.contains(&b'\\')
        || bytes.iter().any(|byte| b" \t\n\\".contains(byte))
        || target.starts_with(bytes)
}

/// Undoes the kernel's octal escapes for space, tab, newline and backslash.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        if byte == b'\\'
            && let Some(digits) = tail.get(..3)
            && digits.iter().all(|digit| (b'0'..=b'7').contains(digit))
        {
            let value =
                digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            out.push(value as u8);
            rest = &tail[3..];
        } else {
            out.push(byte);
            rest = tail;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_below_a_later_one_is_not_where_a_path_leads() {
        let lines: Vec<_> = [
            "1 1 0:1 / / rw - rootfs rootfs rw",
            "2 1 8:1 / / rw - ext4 /dev/sda rw",
            "3 2 0:3 / /a/b rw - tmpfs hidden rw",
            "4 2 0:4 / /a rw - tmpfs over rw",
            "5 4 0:5 / /a/b rw - tmpfs below rw",
            "6 5 0:6 / /a/b rw - tmpfs twice rw",
            "7 4 0:7 / /a/bc rw - tmpfs beside rw",
        ]
        .iter()
        .map(|line| parse_line(line.as_bytes()).unwrap())
        .collect();
        let holder = |path: &str| holder(&lines, Path::new(path)).unwrap().id;
        assert_eq!([holder("/"), holder("/a"), holder("/a/b"), holder("/a/bc/d")], [2, 4, 6, 7]);
    }

    #[test]
    fn a_directory_that_is_bound_is_known_by_its_other_path() {
        let lines: Vec<_> = [
            "1 1 8:1 / / rw - ext4 /dev/sda rw",
            "2 1 0:2 / /run rw - tmpfs run rw",
            "3 1 0:2 / /srv/run rw - tmpfs run rw",
            "4 1 8:1 /home/me /srv/me rw - ext4 /dev/sda rw",
            "5 1 0:5 / /srv/own rw - tmpfs own rw",
        ]
        .iter()
        .map(|line| parse_line(line.as_bytes()).unwrap())
        .collect();
        let other = |index: usize| elsewhere(&lines, &lines[index], Path::new("/srv"));
        assert_eq!(other(2), [Path::new("/run")]);
        assert_eq!(other(3), [Path::new("/home/me")]);
        assert!(other(4).is_empty());
    }

    #[test]
    fn names_with_spaces_and_backslashes_are_read() {
        let line = parse_line(br"1 0 8:1 / /a\040b\134c rw shared:1 - tmpfs t rw").unwrap();
        assert_eq!(line.target, Path::new(r"/a b\c"));
        assert_eq!(line.fstype, "tmpfs");
    }
}
