//! What a packed image says about itself: OCI layouts and archives (image-spec
//! 1.1), docker-archives (what `docker save` writes), and plain tars. Reads and
//! verifies; unpacks nothing and changes nothing.
//!
//! Everything below the index is named by digest, and is compared with it
//! before it is looked at. A document is taken for what its descriptor says it
//! is, and must agree, so that no two readers see two images in one file
//! (CVE-2021-41190).

use std::collections::BTreeSet;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::archive::Archive;
use super::compress::Compression;
use super::digest::Digest;
use super::documents::{
    ConfigDocument, DOCUMENT, Descriptor, Document, Index, LayoutDocument, Manifest, Saved, decode,
    document, familiar, named_digest,
};
use super::error::ImageError;
use super::files::{self, Blob, Identity, Opened, shown};
use super::source::{Platform, Source, platform_text};

type Result<T> = std::result::Result<T, ImageError>;

/// Most indexes between `index.json` and a manifest.
pub const DEPTH: usize = 8;

/// Most documents read while one image is looked for.
const DOCUMENTS: usize = 1000;

/// An image that has been read; its layers have only been seen to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What names it: the digest of its manifest; in a docker-archive, which
    /// has none, of its configuration; of a plain archive, the file's.
    pub key: Key,
    /// What the source calls it.
    pub reference: Option<String>,
    /// The lowest first.
    pub layers: Vec<Layer>,
    /// How it wants to be run.
    pub config: Config,
    /// Of the file that was read to find it.
    pub identity: Identity,
}

/// One of the archives an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer {
    /// What the unpacked layer is named by.
    pub key: Key,
    /// Digest of the uncompressed archive, where it is known.
    pub diff_id: Option<Digest>,
    /// Digest of the blob, where it is known.
    pub digest: Option<Digest>,
    /// How it is compressed.
    pub compression: Compression,
    /// Where its bytes are.
    pub blob: Blob,
}

/// The name of an image or an unpacked layer in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Key {
    /// An image by the digest of its manifest; a layer of an image by its diff
    /// id.
    Digest(Digest),
    /// An image of a docker-archive by the digest of its configuration. A file
    /// may be one image's manifest and another's configuration.
    Saved(Digest),
    /// A plain archive.
    Tar {
        /// Digest of the file.
        file: Digest,
        /// Components taken off.
        strip_components: u32,
    },
    /// The directories of an image, above all of its layers: they have the
    /// attributes that layers imply.
    Directories(Digest),
}

impl Key {
    /// Digest it is made of.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Digest(digest)
            | Self::Saved(digest)
            | Self::Tar { file: digest, .. }
            | Self::Directories(digest) => *digest,
        }
    }
}

/// A file name.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Digest(digest) => f.write_str(&digest.hex()),
            Self::Saved(digest) => write!(f, "{}-saved", digest.hex()),
            Self::Tar { file, strip_components } => {
                write!(f, "{}-tar{strip_components}", file.hex())
            }
            Self::Directories(digest) => write!(f, "{}-directories", digest.hex()),
        }
    }
}

impl From<Key> for String {
    fn from(key: Key) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for Key {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl std::str::FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let parse = || {
            let (hex, rest) = text.split_at_checked(64)?;
            let digest = Digest::from_hex(hex)?;
            match rest {
                "" => Some(Self::Digest(digest)),
                "-saved" => Some(Self::Saved(digest)),
                "-directories" => Some(Self::Directories(digest)),
                rest => {
                    let number = rest.strip_prefix("-tar")?;
                    let strip_components: u32 = number.parse().ok()?;
                    // Only what is written is read: a name stands for one file.
                    (strip_components.to_string() == number)
                        .then_some(Self::Tar { file: digest, strip_components })
                }
            }
        };
        parse().ok_or_else(|| format!("`{}` names nothing in the store", text.escape_debug()))
    }
}

/// What of the image's configuration concerns a jail.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// First part of the command.
    pub entrypoint: Vec<String>,
    /// The rest of the command, which arguments replace.
    pub cmd: Vec<String>,
    /// An absolute path.
    pub working_dir: Option<String>,
    /// `user`, `uid`, `user:group`, `uid:gid` and mixed.
    pub user: Option<String>,
    /// A signal's name or number.
    pub stop_signal: Option<String>,
}

/// Reads what a source is.
pub fn read(source: &Source) -> Result<Image> {
    read_telling(source, &|_| {})
}

/// The same. Of a large file that must be read through, `progress` is told the
/// bytes that have been.
pub fn read_telling(source: &Source, progress: &dyn Fn(u64)) -> Result<Image> {
    match source {
        Source::Image { path, reference, platform } => {
            read_image(path, reference.as_deref(), platform)
        }
        Source::Tar { path, sha256, strip_components } => {
            read_tar(path, *sha256, *strip_components, progress)
        }
    }
}

/// Reads an image: its index, the manifest that is chosen, its configuration.
pub fn read_image(path: &Path, reference: Option<&str>, platform: &Platform) -> Result<Image> {
    let (files, metadata) = match files::open(path)? {
        Opened::Directory(fd, real) => (Files::Directory(fd, real), None),
        Opened::File(file, blob) => {
            refuse_compressed(&file, path, reference)?;
            let metadata = file.metadata().map_err(|error| ImageError::read(path, error))?;
            (Files::Archive(Archive::scan(&file, blob)?), Some(metadata))
        }
    };
    let image = Reader { files, path, reference, platform };
    let identity = match &metadata {
        Some(metadata) => Identity::of(metadata),
        None => image.index_identity()?,
    };
    if image.files.find("oci-layout")?.is_some() {
        return image.layout(identity);
    }
    if matches!(image.files, Files::Archive(_)) && image.files.find("manifest.json")?.is_some() {
        return image.docker_archive(identity);
    }
    Err(ImageError::unsupported(
        shown(path),
        match &image.files {
            Files::Directory(..) => "no OCI layout: it has no `oci-layout`",
            Files::Archive(_) => {
                "no image: it has neither the `oci-layout` of an OCI archive nor the \
                 `manifest.json` of a docker-archive"
            }
        },
    ))
}

/// A compressed archive has no place where a layer could be read.
fn refuse_compressed(file: &std::fs::File, path: &Path, reference: Option<&str>) -> Result<()> {
    let head = files::head(file, 6).map_err(|error| ImageError::read(path, error))?;
    let tool = match Compression::detect(&head) {
        Compression::Gzip => "gunzip",
        Compression::Zstd => "unzstd",
        Compression::None if head == *b"\xfd7zXZ\0" => "unxz",
        Compression::None => return Ok(()),
    };
    let problem = match reference {
        // Without a reference it would be taken for a plain archive, which may
        // be compressed.
        Some(reference) => format!(
            "an archive that is compressed as a whole; a plain archive of files has no `:{}`, leave that off; uncompress an image with `{tool}` first",
            reference.escape_debug()
        ),
        None => {
            format!("an archive that is compressed as a whole; uncompress it with `{tool}` first")
        }
    };
    Err(ImageError::unsupported(shown(path), problem))
}

/// Reads what a plain archive is. One whose digest is not given is read
/// through, so that its tree has a name before it is unpacked.
fn read_tar(
    path: &Path,
    sha256: Option<Digest>,
    strip_components: u32,
    progress: &dyn Fn(u64),
) -> Result<Image> {
    let Opened::File(file, blob) = files::open(path)? else {
        return Err(ImageError::invalid(shown(path), "a directory, expected a tar archive"));
    };
    let fail = |error| ImageError::read(path, error);
    let identity = Identity::of(&file.metadata().map_err(fail)?);
    let head = files::head(&file, 6).map_err(fail)?;
    if head == *b"\xfd7zXZ\0" || head.starts_with(b"BZh") {
        return Err(ImageError::unsupported(
            shown(path),
            "compressed in a way that is not read, expected gzip, zstd or nothing",
        ));
    }
    let compression = Compression::detect(&head);
    let digest = match sha256 {
        Some(digest) => digest,
        None => files::digest(&file, progress).map_err(fail)?,
    };
    let key = Key::Tar { file: digest, strip_components };
    let layer = Layer { key, diff_id: None, digest: Some(digest), compression, blob };
    Ok(Image { key, reference: None, layers: vec![layer], config: Config::default(), identity })
}

/// Where the documents of an image are.
enum Files {
    Directory(OwnedFd, PathBuf),
    Archive(Archive),
}

impl Files {
    fn path(&self) -> &Path {
        match self {
            Self::Directory(_, path) => path,
            Self::Archive(archive) => archive.path(),
        }
    }

    fn find(&self, name: &str) -> Result<Option<Blob>> {
        match self {
            Self::Directory(fd, path) => Ok(files::find(fd, path, name)?.map(|(blob, _)| blob)),
            Self::Archive(archive) => archive.find(name),
        }
    }

    /// The words for a file in it.
    fn place(&self, name: &str) -> String {
        format!("`{name}` of {}", shown(self.path()))
    }

    /// A small file, as a whole.
    fn content(&self, name: &str) -> Result<Vec<u8>> {
        let Some(blob) = self.find(name)? else {
            return Err(ImageError::invalid(shown(self.path()), format!("it has no `{name}`")));
        };
        if blob.size > DOCUMENT {
            return Err(ImageError::invalid(
                self.place(name),
                format!("{} bytes, expected at most {DOCUMENT}", blob.size),
            ));
        }
        blob.head(blob.size)
    }
}

/// A source with what is asked of it.
struct Reader<'a> {
    files: Files,
    path: &'a Path,
    reference: Option<&'a str>,
    platform: &'a Platform,
}

impl Reader<'_> {
    fn index_identity(&self) -> Result<Identity> {
        let Files::Directory(fd, path) = &self.files else {
            return Err(ImageError::invalid(shown(self.path), "not a directory"));
        };
        match files::find(fd, path, "index.json")? {
            Some((_, identity)) => Ok(identity),
            None => Err(ImageError::unsupported(
                shown(self.path),
                "no OCI layout: it has no `index.json`",
            )),
        }
    }

    fn layout(&self, identity: Identity) -> Result<Image> {
        let place = self.files.place("oci-layout");
        let layout: LayoutDocument = decode(&self.files.content("oci-layout")?, &place)?;
        if layout.version != "1.0.0" {
            let version = layout.version.escape_debug();
            return Err(ImageError::unsupported(
                place,
                format!("layout version `{version}`, expected `1.0.0`"),
            ));
        }
        let place = self.files.place("index.json");
        let index: Index = decode(&self.files.content("index.json")?, &place)?;
        let top = index.entries(&place, None)?;
        // An image of an index has no other name than its digest.
        if let Some(wanted) = self.reference.filter(|wanted| wanted.starts_with("sha256:"))
            && !top.iter().any(|entry| entry.is_called(wanted))
        {
            let all = self.leaves(top.clone(), &place)?.manifests;
            if let Some(found) = all.into_iter().find(|entry| entry.digest == wanted) {
                return self.manifest(&found, None, identity);
            }
        }
        let named = self.named(top)?;
        let reference = match &named[..] {
            [first, ..] => first.name().map(str::to_owned),
            [] => None,
        };
        let manifest = self.pick(self.leaves(named, &place)?)?;
        self.manifest(&manifest, reference, identity)
    }

    /// What is behind entries of `index.json`.
    fn leaves(&self, entries: Vec<Descriptor>, place: &str) -> Result<Leaves> {
        let mut leaves = Leaves { documents: DOCUMENTS, ..Leaves::default() };
        for descriptor in entries {
            self.expand(descriptor, place, DEPTH, &mut leaves)?;
        }
        Ok(leaves)
    }

    /// The entries of `index.json` that the reference means.
    fn named(&self, top: Vec<Descriptor>) -> Result<Vec<Descriptor>> {
        let unclear = |top: &[Descriptor]| ImageError::Reference {
            path: self.path.to_owned(),
            wanted: self.reference.map(str::to_owned),
            found: top.iter().map(Descriptor::handle).map(str::to_owned).collect(),
        };
        let Some(wanted) = self.reference else {
            let names: BTreeSet<_> = top.iter().map(Descriptor::name).collect();
            return if names.len() > 1 { Err(unclear(&top)) } else { Ok(top) };
        };
        let named: Vec<_> = top.iter().filter(|entry| entry.is_called(wanted)).cloned().collect();
        if named.is_empty() { Err(unclear(&top)) } else { Ok(named) }
    }

    /// Goes down to the manifests.
    fn expand(
        &self,
        descriptor: Descriptor,
        place: &str,
        depth: usize,
        leaves: &mut Leaves,
    ) -> Result<()> {
        match document(&descriptor.media_type) {
            Some(Document::Manifest) => {
                if leaves.seen.insert(descriptor.digest.clone()) {
                    leaves.manifests.push(descriptor);
                }
                Ok(())
            }
            Some(Document::Index) if depth == 0 => Err(ImageError::invalid(
                place,
                format!("indexes in indexes, expected at most {DEPTH} below each other"),
            )),
            // What it holds has been seen.
            Some(Document::Index) if !leaves.seen.insert(descriptor.digest.clone()) => Ok(()),
            Some(Document::Index) => {
                let Some(left) = leaves.documents.checked_sub(1) else {
                    return Err(ImageError::invalid(
                        place,
                        format!("more than {DOCUMENTS} indexes behind one name"),
                    ));
                };
                leaves.documents = left;
                let (bytes, digest) = self.verified(&descriptor, place)?;
                let place = self.files.place(&digest.to_string());
                let index: Index = decode(&bytes, &place)?;
                for entry in index.entries(&place, Some(&descriptor.media_type))? {
                    self.expand(entry, &place, depth - 1, leaves)?;
                }
                Ok(())
            }
            // An index may list what is no image, such as a signature.
            Some(Document::Config) | None => {
                leaves.others.push(descriptor.media_type);
                Ok(())
            }
        }
    }

    /// The manifest for the platform.
    fn pick(&self, leaves: Leaves) -> Result<Descriptor> {
        let Leaves { manifests, others, .. } = leaves;
        if let (true, Some(other)) = (manifests.is_empty(), others.first()) {
            return Err(ImageError::unsupported(
                self.files.place("index.json"),
                format!("no image, but `{}`", other.escape_debug()),
            ));
        }
        let rank = |descriptor: &Descriptor| {
            let found = descriptor.platform.as_ref()?;
            self.platform.rank(&found.os, &found.architecture, found.variant.as_deref())
        };
        let best = manifests.iter().filter_map(rank).min();
        let fitting: Vec<&Descriptor> = match best {
            Some(best) => manifests.iter().filter(|entry| rank(entry) == Some(best)).collect(),
            // Those that do not say: their configuration does.
            None => manifests.iter().filter(|entry| entry.platform.is_none()).collect(),
        };
        match fitting[..] {
            [only] => Ok(only.clone()),
            [] => Err(ImageError::Platform {
                path: self.path.to_owned(),
                wanted: self.platform.clone(),
                found: manifests.iter().filter_map(Descriptor::platform_text).collect(),
            }),
            _ => Err(ImageError::Reference {
                path: self.path.to_owned(),
                wanted: None,
                found: fitting.into_iter().map(|entry| entry.digest.clone()).collect(),
            }),
        }
    }

    /// The document behind a descriptor.
    fn verified(&self, descriptor: &Descriptor, place: &str) -> Result<(Vec<u8>, Digest)> {
        let digest = descriptor.digest(place)?;
        if descriptor.size > DOCUMENT {
            return Err(ImageError::invalid(
                place,
                format!("{digest} of {} bytes, expected at most {DOCUMENT}", descriptor.size),
            ));
        }
        let blob = self.blob(descriptor, digest, place)?;
        let bytes = blob.head(blob.size)?;
        let found = Digest::of(&bytes);
        if found != digest {
            return Err(ImageError::invalid(
                self.files.place(&digest.to_string()),
                format!("its digest is {found}"),
            ));
        }
        Ok((bytes, digest))
    }

    /// The file behind a descriptor, of the size it says.
    fn blob(&self, descriptor: &Descriptor, digest: Digest, place: &str) -> Result<Blob> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let Some(blob) = self.files.find(&name)? else {
            let elsewhere = descriptor.urls.as_ref().is_some_and(|urls| !urls.is_empty());
            let problem = if elsewhere {
                format!("{digest} is only at its `urls`, from where nothing is fetched")
            } else {
                format!("{digest} is missing")
            };
            return Err(ImageError::invalid(place, problem));
        };
        if blob.size != descriptor.size {
            return Err(ImageError::invalid(
                self.files.place(&digest.to_string()),
                format!("{} bytes, expected {}", blob.size, descriptor.size),
            ));
        }
        Ok(blob)
    }

    fn manifest(
        &self,
        descriptor: &Descriptor,
        reference: Option<String>,
        identity: Identity,
    ) -> Result<Image> {
        let (bytes, digest) = self.verified(descriptor, &self.files.place("index.json"))?;
        let place = self.files.place(&digest.to_string());
        let manifest: Manifest = decode(&bytes, &place)?;
        let blobs = manifest.check(&place, &descriptor.media_type)?;
        let (config, _) = self.verified(&manifest.config, &place)?;
        let config_place = self.files.place(&manifest.config.digest);
        let config: ConfigDocument = decode(&config, &config_place)?;
        let diff_ids = config.diff_ids(blobs.len(), &config_place)?;
        let layers = blobs
            .iter()
            .zip(diff_ids)
            .map(|(descriptor, diff_id)| {
                let compression = descriptor.compression(&place)?;
                let digest = descriptor.digest(&place)?;
                Ok(Layer {
                    key: Key::Digest(diff_id),
                    diff_id: Some(diff_id),
                    digest: Some(digest),
                    compression,
                    blob: self.blob(descriptor, digest, &place)?,
                })
            })
            .collect::<Result<_>>()?;
        if blobs.is_empty() {
            return Err(without_layers(place));
        }
        let config = self.config(config, &config_place)?;
        Ok(Image { key: Key::Digest(digest), reference, layers, config, identity })
    }

    fn docker_archive(&self, identity: Identity) -> Result<Image> {
        let place = self.files.place("manifest.json");
        let all: Vec<Saved> = decode(&self.files.content("manifest.json")?, &place)?;
        let is_meant = |saved: &&Saved| match self.reference {
            None => true,
            Some(wanted) => saved.tags().iter().any(|tag| familiar(tag) == familiar(wanted)),
        };
        let meant: Vec<&Saved> = all.iter().filter(is_meant).collect();
        let [saved] = meant[..] else {
            return Err(ImageError::Reference {
                path: self.path.to_owned(),
                wanted: self.reference.filter(|_| meant.is_empty()).map(str::to_owned),
                found: all.iter().flat_map(Saved::tags).cloned().collect(),
            });
        };
        let bytes = self.files.content(&saved.config)?;
        let digest = Digest::of(&bytes);
        let config_place = self.files.place(&saved.config);
        if named_digest(&saved.config).is_some_and(|named| named != digest) {
            return Err(ImageError::invalid(config_place, format!("its digest is {digest}")));
        }
        let config: ConfigDocument = decode(&bytes, &config_place)?;
        let names = saved.layers.as_deref().unwrap_or_default();
        let diff_ids = config.diff_ids(names.len(), &config_place)?;
        let layers = names
            .iter()
            .zip(diff_ids)
            .map(|(name, diff_id)| {
                let Some(blob) = self.files.find(name)? else {
                    return Err(ImageError::invalid(
                        &place,
                        format!("`{}` is missing", name.escape_debug()),
                    ));
                };
                Ok(Layer {
                    key: Key::Digest(diff_id),
                    diff_id: Some(diff_id),
                    // Elsewhere the names are those of legacy images.
                    digest: named_digest(name).filter(|_| name.starts_with("blobs/")),
                    compression: Compression::detect(&blob.head(6)?),
                    blob,
                })
            })
            .collect::<Result<_>>()?;
        let config = self.config(config, &config_place)?;
        if names.is_empty() {
            return Err(without_layers(config_place));
        }
        let reference = saved.tags().first().cloned();
        Ok(Image { key: Key::Saved(digest), reference, layers, config, identity })
    }

    /// What concerns a jail; for this platform.
    fn config(&self, document: ConfigDocument, place: &str) -> Result<Config> {
        let ConfigDocument { os, architecture, variant, config, .. } = document;
        let is_silent = os.is_empty() && architecture.is_empty();
        if !is_silent && self.platform.rank(&os, &architecture, variant.as_deref()).is_none() {
            return Err(ImageError::Platform {
                path: self.path.to_owned(),
                wanted: self.platform.clone(),
                found: vec![platform_text(&os, &architecture, variant.as_deref())],
            });
        }
        let section = config.unwrap_or_default();
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let config = Config {
            env: section.env.unwrap_or_default(),
            entrypoint: section.entrypoint.unwrap_or_default(),
            cmd: section.cmd.unwrap_or_default(),
            working_dir: text(section.working_dir),
            user: text(section.user),
            stop_signal: text(section.stop_signal),
        };
        config.check().map_err(|problem| ImageError::invalid(place, problem))?;
        Ok(config)
    }
}

/// What is found behind a name.
#[derive(Default)]
struct Leaves {
    /// How many indexes may still be read.
    documents: usize,
    /// Digests of what has been looked at.
    seen: BTreeSet<String>,
    manifests: Vec<Descriptor>,
    /// Media types of what is no image.
    others: Vec<String>,
}

impl Config {
    /// What is wrong with a value that would be passed to the kernel.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let texts = [&self.working_dir, &self.user, &self.stop_signal];
        let words = [&self.env, &self.entrypoint, &self.cmd];
        let mut all = texts.into_iter().flatten().chain(words.into_iter().flatten());
        if let Some(text) = all.find(|text| text.contains('\0')) {
            return Err(format!("a NUL in `{}`", text.escape_debug()));
        }
        let is_assignment = |text: &String| text.find('=').is_some_and(|at| at > 0);
        if let Some(text) = self.env.iter().find(|text| !is_assignment(text)) {
            return Err(format!("`Env` has `{}`, expected `NAME=value`", text.escape_debug()));
        }
        // For the kernel the last number means to leave what is.
        let is_nobody = |part: &str| part.parse() == Ok(u32::MAX);
        if let Some(user) = self.user.iter().find(|user| user.split(':').any(is_nobody)) {
            return Err(format!("`User` is `{}`, which is no user", user.escape_debug()));
        }
        if let Some(path) = self.working_dir.iter().find(|path| !path.starts_with('/')) {
            return Err(format!(
                "`WorkingDir` is `{}`, expected an absolute path",
                path.escape_debug()
            ));
        }
        Ok(())
    }
}

impl Image {
    /// What is to be mounted of the store, the top-most first. An image of
    /// which a layer hides even the root of those below has fewer, which is
    /// found out when it is unpacked.
    pub fn stack(&self) -> Vec<Key> {
        stack(&self.key, self.layers.iter().map(|layer| layer.key))
    }
}

/// There is nothing to run in it, and nothing to mount.
fn without_layers(place: String) -> ImageError {
    ImageError::invalid(place, "an image without layers")
}

/// See [`Image::stack`]; from the lowest first.
///
/// Each layer comes once: the kernel refuses a directory that is stacked twice,
/// and the upper one has hidden all that the lower one could show.
pub(super) fn stack(image: &Key, layers: impl DoubleEndedIterator<Item = Key>) -> Vec<Key> {
    let mut seen = BTreeSet::new();
    let mut stack: Vec<Key> = layers.rev().filter(|key| seen.insert(*key)).collect();
    if stack.len() > 1 {
        stack.insert(0, Key::Directories(Digest::of(image.to_string().as_bytes())));
    }
    stack
}
