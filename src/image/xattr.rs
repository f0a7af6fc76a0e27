//! Which extended attributes of a layer reach the disk; xattr(7).

use std::ffi::CString;

use super::layer::{Owners, Reason, escape};

/// The kernel's `XATTR_NAME_MAX` and `XATTR_SIZE_MAX`.
const NAME_MAX: usize = 255;
const SIZE_MAX: usize = 65536;

/// What becomes of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is set, under this name.
    Keep(CString),
    /// It is left out, and counted.
    Drop,
}

/// Judges an attribute of a layer.
///
/// `trusted.*` and `user.overlay.*` steer overlayfs, which must do what this
/// program says and not what an image says; labels of `security.*` belong to
/// the policy of the host that made the image. Capabilities and access lists
/// hold ids, and are kept where owners are.
pub fn judge(name: &[u8], value: &[u8], owners: Owners) -> Result<Verdict, Reason> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(&0) {
        let what = format!("an extended attribute with the name `{}`", escape(name));
        return Err(Reason::Malformed(what));
    }
    if value.len() > SIZE_MAX {
        let name = escape(name);
        let what = format!("the extended attribute `{name}` of {} bytes", value.len());
        return Err(Reason::Malformed(what));
    }
    let is_kept = match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => {
            owners == Owners::Keep
        }
        _ => name.starts_with(b"user.") && name != b"user." && !name.starts_with(b"user.overlay."),
    };
    if !is_kept {
        return Ok(Verdict::Drop);
    }
    CString::new(name).map(Verdict::Keep).map_err(|_| Reason::Malformed(escape(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_kept(name: &str, owners: Owners) -> bool {
        matches!(judge(name.as_bytes(), b"", owners), Ok(Verdict::Keep(_)))
    }

    #[test]
    fn only_harmless_ones_are_kept() {
        for owners in [Owners::Keep, Owners::Caller] {
            assert!(is_kept("user.mime", owners));
            for name in [
                "user.",
                "user.overlay.opaque",
                "user.overlay.redirect",
                "trusted.overlay.opaque",
                "trusted.x",
                "security.selinux",
                "security.ima",
                "system.other",
                "com.apple.provenance",
                "SCHILY.acl.access",
            ] {
                assert!(!is_kept(name, owners), "{name}");
            }
        }
        for name in ["security.capability", "system.posix_acl_access", "system.posix_acl_default"] {
            assert!(is_kept(name, Owners::Keep) && !is_kept(name, Owners::Caller), "{name}");
        }
    }

    #[test]
    fn absurd_ones_are_errors() {
        let long = format!("user.{}", "x".repeat(251));
        for name in ["", "user.a\0b", &long] {
            assert!(judge(name.as_bytes(), b"", Owners::Keep).is_err());
        }
        assert!(judge(b"user.a", &[0; 65537], Owners::Keep).is_err());
        assert!(judge(b"user.a", &[0; 65536], Owners::Keep).is_ok());
    }
}
