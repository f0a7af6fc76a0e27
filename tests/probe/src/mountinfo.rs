//! `/proc/self/mountinfo`, as described in proc_pid_mountinfo(5).

use serde_json::{Value, json};

/// The mounts in file order. Mount, parent and peer group numbers are left
/// out: they differ from one launch to the next.
pub fn parse(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| parse_line(line).unwrap_or_else(|| json!({ "error": "EINVAL" })))
        .collect()
}

/// `36 35 98:0 /root /target rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &str) -> Option<Value> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(2);
    let (device, root, target, options) =
        (mount.next()?, mount.next()?, mount.next()?, mount.next()?);
    let tags: Vec<&str> = mount.collect();
    let mut filesystem = filesystem.split(' ');
    let (fstype, source, super_options) =
        (filesystem.next()?, filesystem.next()?, filesystem.next()?);
    Some(json!({
        "target": unescape(target),
        "root": unescape(root),
        "fstype": fstype,
        "source": unescape(source),
        "options": sorted_options(options),
        "super_options": sorted_options(super_options),
        "propagation": propagation(&tags),
        "device": device,
    }))
}

/// A comma that is part of a value is escaped in the file.
fn sorted_options(options: &str) -> Vec<String> {
    let mut options: Vec<String> = options.split(',').map(unescape).collect();
    options.sort_unstable();
    options
}

/// A mount that is a peer and a slave at once is `shared,slave`.
fn propagation(tags: &[&str]) -> String {
    let kinds: Vec<&str> = tags
        .iter()
        .filter_map(|tag| match tag.split(':').next() {
            Some("shared") => Some("shared"),
            Some("master") => Some("slave"),
            Some("unbindable") => Some("unbindable"),
            _ => None,
        })
        .collect();
    if kinds.is_empty() { "private".to_owned() } else { kinds.join(",") }
}

/// Undoes the kernel's `\040` for a space and the like.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        match octal(rest) {
            Some(byte) => {
                bytes.push(byte);
                rest = &rest[4..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The byte that a backslash and three octal digits at the start stand for.
fn octal(text: &[u8]) -> Option<u8> {
    let [b'\\', a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] = text else {
        return None;
    };
    Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_every_field() {
        let line = "36 35 98:0 /a\\040b /mnt\\134x rw,noatime shared:2 master:1 - overlay s\\011 rw,lowerdir=/x\\054y";
        assert_eq!(
            parse(line),
            [json!({
                "target": "/mnt\\x",
                "root": "/a b",
                "fstype": "overlay",
                "source": "s\t",
                "options": ["noatime", "rw"],
                "super_options": ["lowerdir=/x,y", "rw"],
                "propagation": "shared,slave",
                "device": "98:0",
            })]
        );
    }

    #[test]
    fn no_tag_means_private() {
        let mounts =
            parse("1 1 0:2 / / rw - rootfs rootfs rw\n2 1 0:3 / /a rw unbindable - tmpfs tmpfs rw");
        assert_eq!(mounts[0]["propagation"], "private");
        assert_eq!(mounts[1]["propagation"], "unbindable");
    }

    #[test]
    fn a_malformed_line_is_an_error_in_its_place() {
        assert_eq!(parse("nonsense"), [json!({ "error": "EINVAL" })]);
    }

    #[test]
    fn a_backslash_without_digits_is_kept() {
        assert_eq!(unescape("a\\04"), "a\\04");
    }
}
