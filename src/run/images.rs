//! The store as the steps use it.

use std::path::Path;

use nix::errno::Errno;

use super::apply::Applied;
use super::error::Failed;
use crate::image::layer::Owners;
use crate::image::oci;
use crate::image::progress::Progress;
use crate::image::store::{self, Held, Imported, Store, StoreError};
use crate::plan::step::{Key, Source};

/// Verifies and unpacks what of an image is not in the store.
pub(super) fn import(source: &Source, progress: &Progress) -> Applied<Imported> {
    let store = Store::of_caller()?;
    let image = oci::read(source).map_err(StoreError::Image)?;
    Ok(store::import(&store, source, &image, &store.options(source), progress)?)
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
            _ => Errno::EBADMSG,
        };
        Self::because(errno, error.to_string())
    }
}
