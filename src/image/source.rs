//! What the user asks for: a file or directory, which image of it, and for what
//! machine.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// What the user asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum Source {
    /// An image.
    Image {
        /// A layout's directory, or an archive; absolute.
        path: PathBuf,
        /// Which of its images.
        reference: Option<String>,
        /// For what machine.
        platform: Platform,
    },
    /// A plain archive of a root.
    Tar {
        /// The archive; absolute.
        path: PathBuf,
        /// What it must be.
        sha256: Option<Digest>,
        /// Leading components taken off every name.
        strip_components: u32,
    },
}

impl Source {
    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Image { path, .. } | Self::Tar { path, .. } => path,
        }
    }
}

/// As `image ls` calls it; an image as a unit does.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path().to_string_lossy())?;
        match self {
            Self::Image { reference: Some(reference), .. } => write!(f, ":{reference}"),
            Self::Tar { strip_components: stripped @ 1.., .. } => {
                write!(f, " strip-components={stripped}")
            }
            Self::Image { .. } | Self::Tar { .. } => Ok(()),
        }
    }
}

/// Operating system and processor of an image; the system is always Linux.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// `GOARCH`, such as `amd64`.
    pub architecture: String,
    /// Such as `v8`.
    pub variant: Option<String>,
}

impl Platform {
    /// Of this machine.
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "x86" => ("386", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            // riscv64 and s390x have one name everywhere.
            same => (same, None),
        };
        Self { architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
    }

    /// How well an image for another platform serves this one, the smaller the
    /// better; `None` when not at all.
    pub(super) fn rank(&self, os: &str, architecture: &str, variant: Option<&str>) -> Option<u32> {
        if os != "linux" || architecture != self.architecture {
            return None;
        }
        let number = |variant: &str| variant.strip_prefix('v')?.parse::<u32>().ok();
        match (self.variant.as_deref(), variant.filter(|variant| !variant.is_empty())) {
            (wanted, found) if wanted == found => Some(0),
            (_, None) => Some(1),
            // arm runs what was built for its ancestors.
            (Some(wanted), Some(found)) => {
                let (wanted, found) = (number(wanted)?, number(found)?);
                (found < wanted).then_some(1 + wanted - found)
            }
            // amd64 levels: the first is what every machine has.
            (None, Some(found)) => (number(found)? == 1).then_some(2),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&platform_text("linux", &self.architecture, self.variant.as_deref()))
    }
}

pub(super) fn platform_text(os: &str, architecture: &str, variant: Option<&str>) -> String {
    let variant = variant.filter(|variant| !variant.is_empty());
    [Some(os), Some(architecture), variant].into_iter().flatten().collect::<Vec<_>>().join("/")
}

/// Splits `PATH[:REFERENCE]`. Both parts may hold colons: a path that exists
/// as a whole has no reference, and otherwise the longest path that exists
/// wins.
pub fn split_reference(text: &str, exists: impl Fn(&Path) -> bool) -> (PathBuf, Option<String>) {
    if exists(Path::new(text)) {
        return (text.into(), None);
    }
    let splits = text.rmatch_indices(':').map(|(at, _)| (&text[..at], &text[at + 1..]));
    for (path, reference) in splits {
        if !reference.is_empty() && exists(Path::new(path)) {
            return (path.into(), Some(reference.to_owned()));
        }
    }
    (text.into(), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_path_that_exists_is_the_source() {
        let split = |text: &str, there: &[&str]| {
            let there: Vec<&Path> = there.iter().map(Path::new).collect();
            let (path, reference) = split_reference(text, |path| there.contains(&path));
            (path.display().to_string(), reference)
        };
        let with = |path: &str, reference: &str| (path.to_owned(), Some(reference.to_owned()));
        let without = |path: &str| (path.to_owned(), None);
        assert_eq!(split("a:b", &["a:b", "a"]), without("a:b"));
        assert_eq!(split("a:b", &["a"]), with("a", "b"));
        assert_eq!(split("a:nginx:1", &["a"]), with("a", "nginx:1"));
        assert_eq!(split("a:nginx:1", &["a", "a:nginx"]), with("a:nginx", "1"));
        assert_eq!(split("a:sha256:0", &["a"]), with("a", "sha256:0"));
        assert_eq!(split("a:", &["a"]), without("a:"));
        assert_eq!(split("a:b", &[]), without("a:b"));
    }

    #[test]
    fn the_nearest_platform_is_the_best() {
        let platform = |architecture: &str, variant: Option<&str>| Platform {
            architecture: architecture.to_owned(),
            variant: variant.map(str::to_owned),
        };
        let amd64 = platform("amd64", None);
        assert_eq!(amd64.rank("linux", "amd64", None), Some(0));
        assert_eq!(amd64.rank("linux", "amd64", Some("")), Some(0));
        assert!(amd64.rank("linux", "amd64", Some("v1")).is_some());
        for (os, architecture, variant) in [
            ("windows", "amd64", None),
            ("linux", "arm64", None),
            ("linux", "amd64", Some("v3")),
            ("unknown", "unknown", None),
        ] {
            assert_eq!(amd64.rank(os, architecture, variant), None);
        }
        let arm = platform("arm", Some("v7"));
        let rank = |variant| arm.rank("linux", "arm", variant);
        assert!(rank(Some("v7")) < rank(None) && rank(None) < rank(Some("v6")));
        assert!(rank(Some("v6")) < rank(Some("v5")));
        assert_eq!(rank(Some("v8")), None);
        let arm64 = platform("arm64", Some("v8"));
        assert_eq!(arm64.rank("linux", "arm64", None), Some(1));
    }
}
