//! What unpacking a layer is: its options, its limits, what it reports and how
//! it fails. Doing it is [`tree`](super::tree)'s part.

use std::fmt;
use std::io;

use nix::errno::Errno;

use super::digest::Digest;

/// Bounds that a layer must keep, so that a small hostile file cannot fill the
/// disk, the memory or the process' descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive.
    pub bytes: u64,
    /// Uncompressed bytes for each compressed one; not applied to the first
    /// [`RATIO_FLOOR`] bytes.
    pub ratio: u64,
    /// Entries, and directories that entries imply.
    pub entries: u64,
    /// Bytes of a path, and of a link's target.
    pub path: usize,
    /// Components of a path.
    pub depth: usize,
    /// Bytes of what must be remembered until the end: the names and the
    /// attributes of directories, and whiteouts.
    pub memory: u64,
}

impl Default for Limits {
    /// 64 GiB, 200 to 1, 4 million entries, 4095 bytes, 256 components, 1 GiB.
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            ratio: 200,
            entries: 4_000_000,
            path: 4095,
            depth: 256,
            memory: 1 << 30,
        }
    }
}

/// How much may be uncompressed before the ratio counts: small archives of
/// zeroes are harmless.
pub const RATIO_FLOOR: u64 = 256 << 20;

/// One of the [`Limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// `bytes`
    Bytes,
    /// `ratio`
    Ratio,
    /// `entries`
    Entries,
    /// `path`
    Path,
    /// `depth`
    Depth,
    /// `memory`
    Memory,
}

impl Limit {
    /// The word that names it to the user.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
            Self::Entries => "entries",
            Self::Path => "path",
            Self::Depth => "depth",
            Self::Memory => "memory",
        }
    }
}

/// To whom the files shall belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owners {
    /// To whom the archive says; takes the privilege to chown.
    Keep,
    /// To the caller. Owners, devices and what only the privileged may set are
    /// counted instead.
    Caller,
}

/// How the names that begin with `.wh.` are understood, and written for
/// overlayfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whiteouts {
    /// For root's mounts: `trusted.overlay.opaque`, and for those that root has
    /// made in a user namespace, which do not see it, `user.overlay.opaque`.
    Both,
    /// For mounts with `userxattr`: `user.overlay.opaque`.
    User,
    /// Not at all: a plain archive, in which they are ordinary names.
    Plain,
}

/// How a layer is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bounds.
    pub limits: Limits,
    /// Owners of the files.
    pub owners: Owners,
    /// Meaning of `.wh.`.
    pub whiteouts: Whiteouts,
    /// Leading components taken off every name and every target of a hard
    /// link, as tar(1) does; entries with no more than those are left out.
    pub strip_components: usize,
}

impl Default for Options {
    /// For an image's layer and root's mounts.
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            owners: Owners::Keep,
            whiteouts: Whiteouts::Both,
            strip_components: 0,
        }
    }
}

/// What could not be kept, of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The first of them, escaped.
    pub first: Option<String>,
}

impl Lost {
    pub(super) fn add(&mut self, example: impl FnOnce() -> String) {
        self.count += 1;
        self.first.get_or_insert_with(example);
    }
}

/// What a layer held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Bytes of the uncompressed archive, to its very end.
    pub bytes: u64,
    /// Entries, and directories that entries implied.
    pub entries: u64,
    /// Whether its root is opaque: no layer below may be mounted, because
    /// overlayfs merges the roots of its layers whatever is written on them.
    pub hides_lower_layers: bool,
    /// Directories that have no entry of their own, and thus attributes that
    /// the layer does not say: in an image those of the layers below hold. The
    /// root, whose path is empty, may be one.
    pub implied_directories: Vec<Vec<u8>>,
    /// Device nodes that the caller may not make.
    pub devices: Lost,
    /// Entries that belong to somebody else in the archive.
    pub owners: Lost,
    /// Extended attributes that are never kept, or that could not be.
    pub xattrs: Lost,
}

/// What a blob must be. What is `None` is not known beforehand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected {
    /// Bytes of the blob.
    pub size: Option<u64>,
    /// Digest of the blob.
    pub digest: Option<Digest>,
    /// Digest of the uncompressed archive.
    pub diff_id: Option<Digest>,
    /// What its media type says.
    pub compression: Option<super::compress::Compression>,
}

/// What a blob was.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// What the layer held.
    pub summary: Summary,
    /// Bytes of the blob.
    pub size: u64,
    /// Digest of the blob.
    pub digest: Digest,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
}

/// A layer that is not unpacked. What was written of it must be thrown away.
#[derive(Debug)]
pub struct LayerError {
    /// The entry at fault, escaped; none when it is the blob as a whole.
    pub entry: Option<String>,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong with a layer.
#[derive(Debug)]
pub enum Reason {
    /// The bytes are no archive; or no compressed data.
    Malformed(String),
    /// The archive is well formed, and asks for what no layer may have.
    Refused(String),
    /// One of the limits.
    Limit(Limit, u64),
    /// The blob is not of the size that was announced: expected, and found or
    /// seen so far.
    Size(u64, u64),
    /// The blob has another digest: expected, found.
    Digest(Digest, Digest),
    /// The uncompressed archive has another digest: expected, found.
    DiffId(Digest, Digest),
    /// The blob could not be read.
    Read(io::Error),
    /// What could not be done with the entry, and why.
    System(&'static str, Errno),
}

impl LayerError {
    /// An error of the blob as a whole.
    pub(super) fn blob(reason: Reason) -> Self {
        Self { entry: None, reason }
    }
}

impl fmt::Display for LayerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(entry) = &self.entry {
            write!(f, "entry `{entry}`: ")?;
        }
        self.reason.fmt(f)
    }
}

impl std::error::Error for LayerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            Reason::Read(error) => Some(error),
            Reason::System(_, errno) => Some(errno),
            _ => None,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) | Self::Refused(what) => f.write_str(what),
            Self::Limit(limit, value) => {
                match limit {
                    Limit::Bytes => write!(f, "more than {value} bytes uncompressed"),
                    Limit::Ratio => write!(f, "more than {value} times as large uncompressed"),
                    Limit::Entries => write!(f, "more than {value} entries"),
                    Limit::Path => write!(f, "a path longer than {value} bytes"),
                    Limit::Depth => write!(f, "a path of more than {value} components"),
                    Limit::Memory => write!(f, "more than {value} bytes to remember"),
                }?;
                write!(f, " (limit `{}`)", limit.name())
            }
            Self::Size(expected, found) if found > expected => {
                write!(f, "longer than the {expected} bytes that are expected")
            }
            Self::Size(expected, found) => {
                write!(f, "ends after {found} bytes where {expected} are expected")
            }
            Self::Digest(expected, found) => {
                write!(f, "the digest is `{found}` where `{expected}` is expected")
            }
            Self::DiffId(expected, found) => write!(
                f,
                "the digest of the uncompressed archive is `{found}` where `{expected}` is expected"
            ),
            Self::Read(error) => write!(f, "cannot be read: {error}"),
            Self::System(what, errno) => write!(f, "cannot {what}: {}", errno.desc()),
        }
    }
}

/// Writes a name of the archive so that it cannot act on a terminal, and not
/// at unreadable length.
pub(super) fn escape(name: &[u8]) -> String {
    const SHOWN: usize = 200;
    match name.len() {
        0..=SHOWN => name.escape_ascii().to_string(),
        length => format!("{}… ({length} bytes)", name[..SHOWN].escape_ascii()),
    }
}
