//! Root file systems that come packed: reading them, checking them, unpacking
//! them. Nothing here knows units or plans.

mod archive;
pub mod blob;
pub mod compress;
pub mod digest;
mod documents;
pub mod error;
pub mod files;
pub mod layer;
pub mod oci;
pub mod progress;
pub mod source;
pub mod store;
pub mod tar;
pub mod tree;
pub mod verbs;
pub mod xattr;
