//! Root file systems that come packed: reading them, checking them, unpacking
//! them. Nothing here knows units or plans.

pub mod blob;
pub mod compress;
pub mod digest;
pub mod layer;
pub mod tar;
pub mod tree;
pub mod xattr;
