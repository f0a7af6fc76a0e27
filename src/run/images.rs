//! The store as the steps use it.

use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;

use super::error::{Applied, FOUND, Failed};
use crate::image::blob;
use crate::image::layer::{Expected, LayerError, Options, Owners, Reason, Whiteouts};
use crate::image::oci;
use crate::image::progress::Progress;
use crate::image::store::{self, Held, Imported, Store, StoreError};
use crate::plan::step::{Key, Owners as CopyOwners, Source};

/// Verifies and unpacks what of an image is not in the store.
pub(super) fn import(source: &Source, progress: &Progress) -> Applied<Imported> {
    let store = Store::of_caller()?;
    let image = oci::read(source).map_err(StoreError::Image)?;
    Ok(store::import(&store, source, &image, &store.options(source), progress)?)
}

/// Unpacks an archive below a directory.
pub(super) fn unpack(archive: OwnedFd, owners: CopyOwners, into: BorrowedFd<'_>) -> Applied {
    let archive = File::from(archive);
    if !archive.metadata()?.is_file() {
        return Err(Failed::found("not a regular file"));
    }
    let options = Options {
        owners: match owners {
            CopyOwners::Keep => Owners::Keep,
            CopyOwners::Caller => Owners::Caller,
        },
        whiteouts: Whiteouts::Plain,
        ..Options::default()
    };
    match blob::unpack_blob(archive, &Expected::default(), into, &options, &|_| {}) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failed::because(errno_of(&error), error.to_string())),
    }
}

fn errno_of(error: &LayerError) -> Errno {
    match error.reason {
        Reason::System(_, errno) => errno,
        _ => FOUND,
    }
}

/// Keeps an image that was there while planning.
pub(super) fn hold(store: &Path, key: &Key) -> Applied<Held> {
    // Whose files it holds does not matter to a lock.
    Ok(Store::at(store, Owners::Keep).hold(key)?)
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        let errno = match &error {
            StoreError::System { errno, .. } => *errno,
            _ => FOUND,
        };
        Self::because(errno, error.to_string())
    }
}
