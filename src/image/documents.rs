//! The JSON documents of images, as image-spec 1.1 and docker write them: only
//! what is needed of them, and what makes one of them sound.
//!
//! `null` stands for an empty list, as the tools that are written in Go have it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::compress::Compression;
use super::digest::Digest;
use super::error::ImageError;
use super::files::printable;
use super::source::platform_text;

type Result<T> = std::result::Result<T, ImageError>;

/// Largest document that is read into memory, in bytes; what registries allow.
pub(super) const DOCUMENT: u64 = 4 << 20;

/// Most layers of an image; overlayfs stacks no more (`OVL_MAX_STACK`).
pub(super) const LAYERS: usize = 500;

/// `index.json`, or an index below it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub(super) schema_version: u32,
    pub(super) media_type: Option<String>,
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) config: Option<IgnoredAny>,
    pub(super) layers: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: Option<String>,
    pub(super) config: Descriptor,
    pub(super) layers: Option<Vec<Descriptor>>,
    pub(super) manifests: Option<IgnoredAny>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    pub(super) urls: Option<Vec<String>>,
    pub(super) annotations: Option<BTreeMap<String, String>>,
    pub(super) platform: Option<PlatformDocument>,
}

#[derive(Clone, Deserialize)]
pub(super) struct PlatformDocument {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct LayoutDocument {
    #[serde(rename = "imageLayoutVersion")]
    pub(super) version: String,
}

#[derive(Deserialize)]
pub(super) struct ConfigDocument {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    pub(super) variant: Option<String>,
    pub(super) rootfs: Rootfs,
    pub(super) config: Option<ConfigSection>,
}

#[derive(Deserialize)]
pub(super) struct Rootfs {
    pub(super) r#type: String,
    pub(super) diff_ids: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConfigSection {
    pub(super) env: Option<Vec<String>>,
    pub(super) entrypoint: Option<Vec<String>>,
    pub(super) cmd: Option<Vec<String>>,
    pub(super) working_dir: Option<String>,
    pub(super) user: Option<String>,
    pub(super) stop_signal: Option<String>,
}

/// An entry of a docker-archive's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Saved {
    pub(super) config: String,
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Option<Vec<String>>,
}

/// What a descriptor can point to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Document {
    Index,
    Manifest,
    Config,
}

const MEDIA_TYPES: [(&str, Document); 6] = [
    ("application/vnd.oci.image.index.v1+json", Document::Index),
    ("application/vnd.docker.distribution.manifest.list.v2+json", Document::Index),
    ("application/vnd.oci.image.manifest.v1+json", Document::Manifest),
    ("application/vnd.docker.distribution.manifest.v2+json", Document::Manifest),
    ("application/vnd.oci.image.config.v1+json", Document::Config),
    ("application/vnd.docker.container.image.v1+json", Document::Config),
];

const LAYER_TYPES: [(&str, Compression); 9] = [
    ("application/vnd.oci.image.layer.v1.tar", Compression::None),
    ("application/vnd.oci.image.layer.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar", Compression::None),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Compression::Gzip),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", Compression::Zstd),
    ("application/vnd.docker.image.rootfs.diff.tar", Compression::None),
    ("application/vnd.docker.image.rootfs.diff.tar.gzip", Compression::Gzip),
    ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", Compression::Gzip),
];

pub(super) fn document(media_type: &str) -> Option<Document> {
    MEDIA_TYPES.iter().find(|(name, _)| *name == media_type).map(|(_, document)| *document)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8], place: &str) -> Result<T> {
    // The error quotes what it found, and that may be anything.
    serde_json::from_slice(bytes)
        .map_err(|error| ImageError::invalid(place, printable(&error.to_string())))
}

/// Refuses a document of another schema, or that says it is something else
/// than what led to it.
fn check_type(
    place: &str,
    schema_version: u32,
    media_type: Option<&str>,
    expected: Option<&str>,
    kind: Document,
) -> Result<()> {
    if schema_version != 2 {
        return Err(ImageError::unsupported(
            place,
            format!("schema version {schema_version}, expected 2"),
        ));
    }
    let problem = match (media_type, expected) {
        (Some(found), Some(expected)) if found != expected => {
            format!("says it is `{}`, expected `{expected}`", found.escape_debug())
        }
        (Some(found), None) if document(found) != Some(kind) => {
            format!("says it is `{}`, expected an index", found.escape_debug())
        }
        _ => return Ok(()),
    };
    Err(ImageError::invalid(place, problem))
}

impl Index {
    pub(super) fn entries(self, place: &str, expected: Option<&str>) -> Result<Vec<Descriptor>> {
        let media_type = self.media_type.as_deref();
        check_type(place, self.schema_version, media_type, expected, Document::Index)?;
        if self.config.is_some() || self.layers.is_some() {
            return Err(ImageError::invalid(place, "an index that is a manifest too"));
        }
        Ok(self.manifests.unwrap_or_default())
    }
}

impl Manifest {
    /// Its layers.
    pub(super) fn check(&self, place: &str, expected: &str) -> Result<&[Descriptor]> {
        let media_type = self.media_type.as_deref();
        check_type(place, self.schema_version, media_type, Some(expected), Document::Manifest)?;
        if self.manifests.is_some() {
            return Err(ImageError::invalid(place, "a manifest that is an index too"));
        }
        if document(&self.config.media_type) != Some(Document::Config) {
            return Err(ImageError::unsupported(
                place,
                format!("an artifact, no image: `{}`", self.config.media_type.escape_debug()),
            ));
        }
        Ok(self.layers.as_deref().unwrap_or_default())
    }
}

impl Descriptor {
    pub(super) fn annotation(&self, name: &str) -> Option<&str> {
        let value = self.annotations.as_ref()?.get(name)?;
        (!value.is_empty()).then_some(value)
    }

    /// The name that containerd and docker give; the OCI one is only the tag then.
    pub(super) fn full_name(&self) -> Option<&str> {
        self.annotation("io.containerd.image.name")
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.full_name().or_else(|| self.annotation("org.opencontainers.image.ref.name"))
    }

    /// What to ask for it by.
    pub(super) fn handle(&self) -> &str {
        self.name().unwrap_or(&self.digest)
    }

    pub(super) fn is_called(&self, wanted: &str) -> bool {
        self.annotation("org.opencontainers.image.ref.name") == Some(wanted)
            || self.full_name().is_some_and(|name| familiar(name) == familiar(wanted))
            || self.digest == wanted
    }

    pub(super) fn platform_text(&self) -> Option<String> {
        let found = self.platform.as_ref()?;
        // What build tools attach to images has no platform, and says so.
        (found.os != "unknown")
            .then(|| platform_text(&found.os, &found.architecture, found.variant.as_deref()))
    }

    pub(super) fn digest(&self, place: &str) -> Result<Digest> {
        self.digest.parse().map_err(|error| ImageError::invalid(place, format!("{error}")))
    }

    /// How a layer is compressed.
    pub(super) fn compression(&self, place: &str) -> Result<Compression> {
        let name = self.media_type.as_str();
        if let Some((_, compression)) = LAYER_TYPES.iter().find(|(known, _)| *known == name) {
            return Ok(*compression);
        }
        let what = if name.ends_with("+encrypted") { "encrypted" } else { "unknown" };
        Err(ImageError::unsupported(
            place,
            format!("a layer of an {what} type: `{}`", name.escape_debug()),
        ))
    }
}

impl Saved {
    pub(super) fn tags(&self) -> &[String] {
        self.repo_tags.as_deref().unwrap_or_default()
    }
}

impl ConfigDocument {
    /// The digests of as many uncompressed layers.
    pub(super) fn diff_ids(&self, layers: usize, place: &str) -> Result<Vec<Digest>> {
        if self.rootfs.r#type != "layers" {
            let found = self.rootfs.r#type.escape_debug();
            return Err(ImageError::unsupported(
                place,
                format!("a root of type `{found}`, expected `layers`"),
            ));
        }
        let diff_ids = self.rootfs.diff_ids.as_deref().unwrap_or_default();
        if diff_ids.len() != layers {
            return Err(ImageError::invalid(
                place,
                format!("{} diff ids, expected one for each of {layers} layers", diff_ids.len()),
            ));
        }
        if layers > LAYERS {
            return Err(ImageError::unsupported(
                place,
                format!("{layers} layers, expected at most {LAYERS}"),
            ));
        }
        diff_ids
            .iter()
            .map(|text| {
                text.parse().map_err(|error| ImageError::invalid(place, format!("{error}")))
            })
            .collect()
    }
}

/// A name without what docker leaves out, and with the tag it adds.
pub(super) fn familiar(name: &str) -> String {
    let short = name.strip_prefix("docker.io/").unwrap_or(name);
    let short = short.strip_prefix("library/").unwrap_or(short);
    let last = short.rsplit('/').next().unwrap_or(short);
    if last.contains([':', '@']) { short.to_owned() } else { format!("{short}:latest") }
}

/// The digest that the name of a file in a docker-archive says: `<hex>.json`,
/// or `blobs/sha256/<hex>`.
pub(super) fn named_digest(name: &str) -> Option<Digest> {
    let last = name.rsplit('/').next()?;
    let hex = last.strip_suffix(".json").unwrap_or(last);
    Digest::from_hex(hex)
}
