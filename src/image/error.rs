//! What can be wrong with an image, in the words that the user reads.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::files::shown;
use super::source::Platform;
use crate::unit::io_reason;

/// Why an image cannot be read.
#[derive(Debug)]
pub enum ImageError {
    /// The source, or a file of it, cannot be read.
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        error: io::Error,
    },
    /// It breaks a rule of the format.
    Invalid {
        /// The file, document or member that does.
        place: String,
        /// What was found, and what was expected.
        problem: String,
    },
    /// It is sound, and of a kind that jailrun does not read.
    Unsupported {
        /// The file, document or member of that kind.
        place: String,
        /// The kind, and what helps.
        problem: String,
    },
    /// The reference names nothing, or none is given and there are several.
    Reference {
        /// The source.
        path: PathBuf,
        /// The one asked for.
        wanted: Option<String>,
        /// Those there are.
        found: Vec<String>,
    },
    /// There is no image for this machine.
    Platform {
        /// The source.
        path: PathBuf,
        /// The one asked for.
        wanted: Platform,
        /// Those there are.
        found: Vec<String>,
    },
}

impl ImageError {
    pub(super) fn read(path: &Path, error: impl Into<io::Error>) -> Self {
        Self::Read { path: path.to_owned(), error: error.into() }
    }

    pub(super) fn invalid(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), problem: problem.into() }
    }

    pub(super) fn unsupported(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Unsupported { place: place.into(), problem: problem.into() }
    }
}

/// Names in backticks, a few of them: an index may hold thousands.
fn listed(names: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if names.len() > SHOWN {
        text.push(format!("{} more", names.len() - SHOWN));
    }
    text.join(", ")
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read { path, error } => {
                write!(f, "{} cannot be read: {}", shown(path), io_reason(error))
            }
            Self::Invalid { place, problem } | Self::Unsupported { place, problem } => {
                write!(f, "{place}: {problem}")
            }
            Self::Reference { path, wanted: Some(wanted), found } if found.is_empty() => {
                write!(f, "{} has no `{wanted}`: its images have no names", shown(path))
            }
            Self::Reference { path, wanted: Some(wanted), found } => {
                write!(f, "{} has no `{wanted}`, but {}", shown(path), listed(found))
            }
            Self::Reference { path, wanted: None, found } => write!(
                f,
                "{} holds several images, name one of them: {}",
                shown(path),
                listed(found)
            ),
            Self::Platform { path, wanted, found } if found.is_empty() => {
                write!(f, "{} holds no image for {wanted}", shown(path))
            }
            Self::Platform { path, wanted, found } => write!(
                f,
                "{} holds no image for {wanted}, but for {}",
                shown(path),
                found.join(", ")
            ),
        }
    }
}

impl std::error::Error for ImageError {}
