//! From a blob to a directory: decompressed, hashed and unpacked at once.

use std::io::Read;
use std::os::fd::BorrowedFd;

use super::layer::{Expected, LayerError, Options, Reason, Unpacked};

/// Unpacks a layer below an empty directory and verifies it meanwhile.
///
/// `progress` is told the compressed bytes read so far, from another thread.
/// After an error the directory holds a part of the layer, to be thrown away.
pub fn unpack_blob(
    blob: impl Read + Send,
    expected: &Expected,
    into: BorrowedFd<'_>,
    options: &Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Unpacked, LayerError> {
    drop((blob, expected, into, options, progress));
    Err(LayerError::blob(Reason::Malformed("not unpacked yet".to_owned())))
}
