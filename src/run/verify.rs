//! Comparing what is mounted with what was planned.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Read;

use super::error::{Applied, Failed};
use crate::mountinfo::{self, Line, parse_line};
use crate::plan::step::{ExpectedMount, MountFlags};

fn has_all(found: MountFlags, wanted: MountFlags) -> bool {
    let holds = |wanted: bool, found: bool| !wanted || found;
    holds(wanted.read_only, found.read_only)
        && holds(wanted.nosuid, found.nosuid)
        && holds(wanted.nodev, found.nodev)
        && holds(wanted.noexec, found.noexec)
        && holds(wanted.noatime, found.noatime)
}

/// Whether a mount hands out something of the host, and can be seen.
fn is_handed_out(lines: &[Line<'_>], line: &Line<'_>) -> bool {
    mountinfo::is_handed_out(&line.fstype) && mountinfo::holder(lines, &line.target) == Some(line)
}

/// The lines by age, as the kernel gives them, but of those on one place the ones
/// below before the ones over them: a tree that was opened before others were
/// mounted is older than they are.
fn from_below(lines: &[Line<'_>]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    let mut targets: Vec<&OsStr> = lines.iter().map(|line| line.target.as_os_str()).collect();
    targets.sort_unstable();
    if targets.windows(2).all(|two| two[0] != two[1]) {
        return order;
    }
    let by_id: BTreeMap<u32, usize> =
        lines.iter().enumerate().map(|(index, line)| (line.id, index)).collect();
    let parent = |index: &usize| by_id.get(&lines[*index].parent).copied();
    let mut places: BTreeMap<&OsStr, Vec<usize>> = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        places.entry(line.target.as_os_str()).or_default().push(index);
    }
    for stacked in places.values().filter(|place| place.len() > 1) {
        let (mut sorted, mut done) = (Vec::with_capacity(stacked.len()), BTreeSet::new());
        for line in stacked {
            // Down through what it lies on in this place.
            let (mut chain, mut next) = (Vec::new(), Some(*line));
            while let Some(index) = next
                .filter(|index| lines[*index].target == lines[*line].target && done.insert(*index))
            {
                chain.push(index);
                next = parent(&index);
            }
            sorted.extend(chain.into_iter().rev());
        }
        for (place, line) in stacked.iter().zip(sorted) {
            order[*place] = line;
        }
    }
    order
}

/// Fails unless every planned mount is there with its flags, and no other is
/// but those that came with a source.
pub(super) fn verify(expected: &[ExpectedMount], file: impl Read) -> Applied {
    let differs = |what: String| Failed::found(what);
    let text = mountinfo::read(file)?;
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Option<Vec<Line<'_>>> = lines.map(parse_line).collect();
    let lines = lines.ok_or_else(|| differs("a line of mountinfo is malformed".to_owned()))?;
    // By bytes: to compare a `Path` means to take it apart each time.
    let mut missing: BTreeMap<(&OsStr, usize), &ExpectedMount> = expected
        .iter()
        .enumerate()
        .map(|(index, mount)| ((mount.target.as_os_str(), index), mount))
        .collect();
    // Of several mounts on one place the planned ones are the last, since they
    // were made last.
    let mut planned: Vec<Option<&ExpectedMount>> = vec![None; lines.len()];
    for index in from_below(&lines).into_iter().rev() {
        let (line, planned) = (&lines[index], &mut planned[index]);
        let target = line.target.as_os_str();
        let of_target = missing.range((target, 0)..=(target, usize::MAX));
        let last = of_target.map(|(key, _)| *key).next_back();
        *planned = last.and_then(|key| missing.remove(&key));
    }
    if let Some(missing) = missing.values().next() {
        let name = missing.target.display();
        return Err(differs(format!("`{name}` was planned, and is not mounted")));
    }
    let by_id: OnceCell<BTreeMap<u32, usize>> = OnceCell::new();
    for (line, mount) in lines.iter().zip(&planned) {
        let name = line.target.display();
        let wanted = match mount {
            Some(mount) => {
                if let Some(fstype) = mount.fstype
                    && fstype != line.fstype
                {
                    return Err(differs(format!(
                        "`{name}` is {} instead of {fstype}",
                        line.fstype
                    )));
                }
                mount.flags
            }
            None => {
                let by_id = by_id.get_or_init(|| {
                    lines.iter().enumerate().map(|(index, line)| (line.id, index)).collect()
                });
                let parent = |line: &Line<'_>| by_id.get(&line.parent).copied();
                // No more of them than there are lines: a mount may be its own parent.
                let holder = std::iter::successors(parent(line), |above| parent(&lines[*above]))
                    .take(lines.len())
                    .find_map(|above| planned[above]);
                match holder.filter(|mount| mount.recursive) {
                    Some(mount) if !mount.with_kernel && is_handed_out(&lines, line) => {
                        return Err(differs(format!(
                            "`{name}` is a file system of the type {}, which would come along: `recursive = false`, a mask, or `security.allow-dangerous-binds` says what is meant",
                            line.fstype
                        )));
                    }
                    Some(mount) => mount.flags,
                    None => {
                        return Err(differs(format!("`{name}` is mounted, and was not planned")));
                    }
                }
            }
        };
        if !has_all(line.flags, wanted) {
            return Err(differs(format!("`{name}` lacks a flag that was planned")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "1 0 8:1 / / ro,nosuid,nodev - ext4 /dev/sda rw\n";

    fn expected(target: &str, fstype: Option<&'static str>, recursive: bool) -> ExpectedMount {
        let flags = MountFlags { read_only: true, ..MountFlags::NONE };
        ExpectedMount { target: target.into(), fstype, flags, recursive, with_kernel: false }
    }

    fn check(expected: &[ExpectedMount], text: &str) -> Result<(), String> {
        verify(expected, text.as_bytes()).map_err(|failed| failed.detail.unwrap_or_default())
    }

    #[test]
    fn what_was_planned_passes() {
        assert_eq!(check(&[expected("/", Some("ext4"), false)], ROOT), Ok(()));
    }

    #[test]
    fn a_mount_too_many_too_few_or_too_open_does_not() {
        let root = expected("/", None, false);
        let more = format!("{ROOT}2 1 0:1 / /a rw - tmpfs tmpfs rw\n");
        assert_eq!(
            check(std::slice::from_ref(&root), &more),
            Err("`/a` is mounted, and was not planned".to_owned())
        );
        let two = [root.clone(), expected("/a", None, false)];
        assert_eq!(check(&two, ROOT), Err("`/a` was planned, and is not mounted".to_owned()));
        assert_eq!(check(&two, &more), Err("`/a` lacks a flag that was planned".to_owned()));
        let typed = [expected("/", Some("tmpfs"), false)];
        assert_eq!(check(&typed, ROOT), Err("`/` is ext4 instead of tmpfs".to_owned()));
    }

    #[test]
    fn what_came_with_a_source_must_have_its_flags() {
        let root = [expected("/", None, true)];
        let open = format!("{ROOT}2 1 0:1 / /a rw - tmpfs tmpfs rw\n");
        let closed = format!("{ROOT}2 1 0:1 / /a ro - tmpfs tmpfs rw\n");
        assert!(check(&root, &open).is_err());
        assert_eq!(check(&root, &closed), Ok(()));
    }

    #[test]
    fn a_file_system_of_the_kernel_does_not_come_along_unless_it_may_or_is_covered() {
        let root = expected("/", None, true);
        let inner = format!("{ROOT}2 1 0:1 / /a/proc ro - proc proc rw\n");
        let refused = check(std::slice::from_ref(&root), &inner);
        assert!(refused.is_err_and(|said| said.starts_with("`/a/proc` is a file system of")));
        let open = ExpectedMount { with_kernel: true, ..root.clone() };
        assert_eq!(check(&[open], &inner), Ok(()));
        let masked = format!("{inner}3 2 0:2 / /a/proc ro - tmpfs tmpfs rw\n");
        let mask = expected("/a/proc", Some("tmpfs"), false);
        assert_eq!(check(&[root.clone(), mask], &masked), Ok(()));
        let hidden = format!("{inner}3 1 0:2 / /a ro - tmpfs tmpfs rw\n");
        let above = expected("/a", Some("tmpfs"), false);
        assert_eq!(check(&[root, above], &hidden), Ok(()));
    }

    #[test]
    fn a_tree_that_was_opened_first_may_lie_over_what_was_mounted_later() {
        let [root, below, over] = [("/", None), ("/tmp", Some("tmpfs")), ("/tmp", None)]
            .map(|(target, fstype)| expected(target, fstype, false));
        let text = format!(
            "{ROOT}2 3 8:2 / /tmp ro - ext4 /dev/sdb rw\n3 1 0:1 / /tmp ro - tmpfs tmpfs rw\n"
        );
        assert_eq!(check(&[root, below, over], &text), Ok(()));
    }

    #[test]
    fn what_is_hidden_deeper_than_a_planned_mount_is_not_taken_for_it() {
        let open = ExpectedMount { with_kernel: true, ..expected("/", None, true) };
        let dev = expected("/dev", Some("tmpfs"), false);
        let shm = expected("/dev/shm", Some("tmpfs"), false);
        let stack = "2 1 0:1 / /dev ro - devtmpfs d rw\n3 2 0:2 / /dev/shm ro - tmpfs a rw\n\
                     4 3 0:2 / /dev/shm ro - tmpfs a rw\n5 4 0:2 / /dev/shm ro - tmpfs a rw\n\
                     6 2 0:3 / /dev ro - tmpfs b rw\n7 6 0:4 / /dev/shm ro - tmpfs c rw\n";
        assert_eq!(check(&[open, dev, shm], &format!("{ROOT}{stack}")), Ok(()));
    }

    #[test]
    fn what_lies_below_a_planned_mount_is_not_taken_for_it() {
        let root = expected("/", None, true);
        let over = expected("/proc", Some("proc"), false);
        let text =
            format!("{ROOT}2 1 0:1 / /proc ro - autofs a rw\n3 2 0:2 / /proc ro - proc proc rw\n");
        assert_eq!(check(&[root, over], &text), Ok(()));
    }
}
