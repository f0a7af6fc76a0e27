//! The small files of the store: what they say, what they are called, and when
//! they are believed.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;
use crate::image::documents::DOCUMENT;
use crate::image::files::Identity;
use crate::image::layer::{Lost, Summary};
use crate::image::oci::{Config, Key};
use crate::image::source::Source;

/// Version of the records; those of another are as good as none.
pub(super) const VERSION: u32 = 2;

/// Largest record, in bytes: a configuration, and the keys of its layers.
pub(super) const RECORD: u64 = DOCUMENT + (1 << 20);

/// `sources/HASH.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SourceRecord {
    pub(super) version: u32,
    pub(super) source: Source,
    /// What the source calls the image.
    pub(super) reference: Option<String>,
    pub(super) identity: Identity,
    pub(super) image: Key,
}

/// `images/KEY.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ImageRecord {
    pub(super) version: u32,
    /// Seconds since 1970.
    pub(super) imported: u64,
    /// The lowest first.
    pub(super) layers: Vec<Key>,
    /// What is mounted of them, the top-most first.
    pub(super) stack: Vec<Key>,
    pub(super) config: Config,
}

/// `layers/KEY/info.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerInfo {
    pub(super) version: u32,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// Whether nothing below it may be mounted.
    pub hides_lower_layers: bool,
    /// Directories without attributes of their own.
    #[serde(with = "paths")]
    pub implied_directories: Vec<Vec<u8>>,
    /// Device nodes that could not be made.
    pub devices: u64,
    /// Entries that belong to somebody else in the archive.
    pub owners: u64,
    /// Extended attributes that could not be kept.
    pub xattrs: u64,
}

impl LayerInfo {
    pub(super) fn new(diff_id: Digest, summary: &Summary) -> Self {
        let count = |lost: &Lost| lost.count;
        Self {
            version: VERSION,
            diff_id,
            bytes: summary.bytes,
            entries: summary.entries,
            hides_lower_layers: summary.hides_lower_layers,
            implied_directories: summary.implied_directories.clone(),
            devices: count(&summary.devices),
            owners: count(&summary.owners),
            xattrs: count(&summary.xattrs),
        }
    }
}

/// A record that says its version.
pub(super) trait Versioned {
    fn is_current(&self) -> bool;
}

impl Versioned for SourceRecord {
    fn is_current(&self) -> bool {
        self.version == VERSION
    }
}

impl Versioned for ImageRecord {
    fn is_current(&self) -> bool {
        self.version == VERSION
            && self.config.check().is_ok()
            && self
                .stack
                .iter()
                .all(|key| matches!(key, Key::Directories(_)) || self.layers.contains(key))
    }
}

impl Versioned for LayerInfo {
    fn is_current(&self) -> bool {
        self.version == VERSION
    }
}

impl SourceRecord {
    /// Whether the source is what it was when it was read.
    pub(super) fn is_unchanged(&self) -> bool {
        let path = self.source.path();
        let found = match &self.source {
            // A layout is its index; what has no such thing inside is a file.
            Source::Image { .. } => match std::fs::metadata(path.join("index.json")) {
                Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
                    std::fs::metadata(path)
                }
                found => found,
            },
            Source::Tar { .. } => std::fs::metadata(path),
        };
        found.is_ok_and(|found| Identity::of(&found) == self.identity)
    }
}

/// Whether two sources ask for the same thing. With a digest, the path is only
/// where the file was found.
pub(super) fn same(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (
            Source::Tar { sha256: Some(one), strip_components: ones, .. },
            Source::Tar { sha256: Some(other), strip_components: others, .. },
        ) => one == other && ones == others,
        _ => one == other,
    }
}

/// The record of a source. Its name only has to be the same each time: the
/// record says what it is about.
pub(super) fn source_name(source: &Source) -> String {
    let key = match source {
        Source::Tar { sha256: Some(file), strip_components, .. } => {
            let key = Key::Tar { file: *file, strip_components: *strip_components };
            return format!("sources/{key}.json");
        }
        Source::Tar { path, strip_components, .. } => {
            format!("tar\0{}\0{strip_components}", path.display())
        }
        Source::Image { path, reference, platform } => {
            format!("image\0{}\0{}\0{platform}", path.display(), reference.as_deref().unwrap_or(""))
        }
    };
    // FNV-1a. A digest would ask the processor what it can do, which takes
    // longer than all the rest of resolving.
    let hash = key.bytes().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128, |hash, byte| {
        (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    });
    format!("sources/{hash:032x}.json")
}

pub(super) fn image_name(key: &Key) -> String {
    format!("images/{key}.json")
}

pub(super) fn layer_name(key: &Key) -> String {
    format!("layers/{key}/tree")
}

pub(super) fn info_name(key: &Key) -> String {
    format!("layers/{key}/info.json")
}

pub(super) fn lock_name(key: &str) -> String {
    format!("tmp/{key}.lock")
}

/// The moment of a record.
pub(in crate::image) fn time(seconds: u64) -> SystemTime {
    // A record may say anything; what the calendar cannot hold is its end.
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}

/// Paths as strings whose characters are their bytes.
mod paths {
    use serde::de::{Deserialize as _, Error as _};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        paths: &[Vec<u8>],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let text = |path: &Vec<u8>| path.iter().map(|byte| char::from(*byte)).collect::<String>();
        serializer.collect_seq(paths.iter().map(text))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Vec<u8>>, D::Error> {
        let path = |text: String| text.chars().map(u8::try_from).collect::<Result<_, _>>();
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.into_iter().map(path).collect::<Result<_, _>>().map_err(D::Error::custom)
    }
}
