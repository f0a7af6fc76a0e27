//! Why the store does not do what it should.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::image::error::ImageError;
use crate::image::files::shown;
use crate::image::layer::LayerError;
use crate::image::oci::Key;
use crate::unit::io_reason;

/// Why the store does not do what it should.
#[derive(Debug)]
pub enum StoreError {
    /// A file or directory of it.
    System {
        /// Such as `create`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Something in it cannot be trusted.
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is found, and what was expected.
        problem: &'static str,
    },
    /// Others may look into it, or worse.
    Open(PathBuf),
    /// The image itself.
    Image(ImageError),
    /// A layer of it.
    Layer {
        /// Which one.
        layer: Key,
        /// Where it comes from.
        blob: PathBuf,
        /// What is wrong with it.
        error: Box<LayerError>,
    },
    /// The image, or a layer of it, was removed meanwhile.
    Gone(Key),
    /// There is no such image.
    Unknown(String),
    /// Several images could be meant.
    Ambiguous(String, Vec<String>),
    /// A jail runs from it.
    InUse(String),
    /// Neither of the variables that say where the store is.
    Nowhere,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { what, path, errno } => {
                write!(f, "cannot {what} {}: {}", shown(path), io_reason(&(*errno).into()))
            }
            Self::Untrusted { path, problem } => write!(f, "{}: {problem}", shown(path)),
            Self::Open(path) => {
                let quoted = shown(path);
                let path = quoted.trim_matches('`');
                write!(f, "{quoted}: open to others, expected mode 0700: `chmod 700 {path}`")
            }
            Self::Image(error) => error.fmt(f),
            Self::Layer { layer, blob, error } => {
                write!(f, "layer {} of {}: {error}", layer.digest(), shown(blob))
            }
            Self::Gone(key) => {
                write!(f, "the image {} was removed from the store meanwhile", key.digest())
            }
            Self::Unknown(name) => write!(f, "the store has no image `{}`", name.escape_debug()),
            Self::Ambiguous(name, found) => {
                write!(f, "`{}` could be several images: {}", name.escape_debug(), found.join(", "))
            }
            Self::InUse(name) => write!(f, "a jail is running from `{}`", name.escape_debug()),
            Self::Nowhere => f.write_str(
                "no place for the store: neither `XDG_DATA_HOME` nor `HOME` is an absolute path",
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<ImageError> for StoreError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

pub(super) type Result<T> = std::result::Result<T, StoreError>;

/// Names the call and the file that an errno belongs to.
pub(super) fn at(what: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> StoreError {
    move |errno| StoreError::System { what, path, errno }
}

pub(super) fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
