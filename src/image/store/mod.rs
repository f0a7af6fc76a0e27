//! The content-addressed store: every layer unpacked once, and what is needed
//! to launch an image without reading it again.
//!
//! ```text
//! /var/lib/jailrun            of root; of others $XDG_DATA_HOME/jailrun or
//! │                           ~/.local/share/jailrun. Mode 0700: set-user-id
//! │                           files of an image are out of everybody's reach.
//! ├── lock                    held shared by imports, exclusively by rm and gc
//! ├── layers/KEY/tree         an unpacked layer: a directory for overlayfs
//! ├── layers/KEY/info.json    what it held, and what of that could not be kept
//! ├── images/KEY.json         an image: its layers and its configuration. Never
//! │                           changed; a running jail holds it locked, shared
//! ├── sources/HASH.json       a file or layout, what it was when it was read,
//! │                           and the image that it was found to be
//! └── tmp/                    what is being made or removed, and KEY.lock for
//!                             whoever makes that layer
//! ```
//!
//! A KEY is a digest: of an image's manifest, of an uncompressed layer, or of
//! a plain archive with the number of components taken off its names. Above the
//! layers of an image goes another, with nothing but directories in it; see
//! `directories`.
//!
//! What has its name under `layers`, `images` or `sources` is complete: it is
//! made under `tmp`, written out to the disk, and renamed. Whoever is killed
//! leaves things under `tmp` only, which the next import or `gc` removes. An
//! image's record is written after its layers and removed before them, so that
//! a record that is held keeps its layers.

mod directories;
mod error;
mod import;
mod record;
mod removal;
mod tree;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::error::StoreError;
pub use self::import::{Added, Import, Imported, import, losses, unpack_layer};
pub use self::record::LayerInfo;
pub(super) use self::record::time;
pub use self::removal::{Removed, Unwanted};

use self::error::{Result, at, errno};
use self::record::{
    ImageRecord, RECORD, SourceRecord, Versioned, image_name, info_name, layer_name, same,
    source_name,
};
use super::digest::Digest;
use super::layer::{Limits, Options, Owners, Whiteouts};
use super::oci::{Config, Key};
use super::source::Source;

/// The directories of a store.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Layers,
    Images,
    Sources,
    Temporary,
}

const PARTS: [Part; 4] = [Part::Layers, Part::Images, Part::Sources, Part::Temporary];

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Layers => "layers",
            Self::Images => "images",
            Self::Sources => "sources",
            Self::Temporary => "tmp",
        }
    }
}

/// A store, which need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Store {
    path: PathBuf,
    owners: Owners,
}

/// An image in the store, ready to be mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub key: Key,
    /// What the source calls it.
    pub reference: Option<String>,
    /// The layers to mount, the top-most first.
    pub stack: Vec<Key>,
    /// How it wants to be run.
    pub config: Config,
}

/// An image that is in use: as long as this exists, in any process, nobody
/// removes it or a layer of it.
#[derive(Debug)]
pub struct Held {
    /// The lock is the open file's: forked processes share it.
    _record: File,
}

/// A line of `image ls`.
#[derive(Debug, Serialize)]
pub struct Listed {
    /// What it was imported from, as a unit writes it.
    pub source: Option<String>,
    /// What the source calls it.
    pub reference: Option<String>,
    /// Digest of its manifest, configuration or file.
    pub digest: Digest,
    /// How many layers it has.
    pub layers: usize,
    /// Bytes of its layers, uncompressed.
    pub size: u64,
    /// Seconds since 1970.
    #[serde(serialize_with = "timestamp")]
    pub imported: u64,
    /// Whether a jail runs from it.
    pub in_use: bool,
}

fn timestamp<S: serde::Serializer>(
    seconds: &u64,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_rfc3339_seconds(time(*seconds)))
}

impl Store {
    /// The store of a user, by the variables of their environment.
    pub fn location(uid: u32, variable: impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
        if uid == 0 {
            return Ok("/var/lib/jailrun".into());
        }
        let directory = |name, below: &str| {
            let path = PathBuf::from(variable(name)?);
            path.is_absolute().then(|| path.join(below))
        };
        directory("XDG_DATA_HOME", "jailrun")
            .or_else(|| directory("HOME", ".local/share/jailrun"))
            .ok_or(StoreError::Nowhere)
    }

    /// The store of the caller.
    pub fn of_caller() -> Result<Self> {
        let uid = nix::unistd::geteuid();
        let owners = if uid.is_root() { Owners::Keep } else { Owners::Caller };
        let path = Self::location(uid.as_raw(), |name| std::env::var(name).ok())?;
        Ok(Self::at(path, owners))
    }

    /// A store at a path. `owners` tells who uses it: root, who can keep the
    /// owners of files, or somebody else.
    pub fn at(path: impl Into<PathBuf>, owners: Owners) -> Self {
        Self { path: path.into(), owners }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How its layers are unpacked.
    pub fn options(&self, source: &Source) -> Options {
        let (whiteouts, strip_components) = match (source, self.owners) {
            (Source::Tar { strip_components, .. }, _) => (Whiteouts::Plain, *strip_components),
            (Source::Image { .. }, Owners::Keep) => (Whiteouts::Both, 0),
            (Source::Image { .. }, Owners::Caller) => (Whiteouts::User, 0),
        };
        Options {
            limits: Limits::default(),
            owners: self.owners,
            whiteouts,
            strip_components: strip_components as usize,
        }
    }

    /// The directory of an unpacked layer.
    pub fn layer(&self, key: &Key) -> PathBuf {
        self.path.join(layer_name(key))
    }

    /// Whether a layer is there; if so, it is complete.
    pub fn has(&self, key: &Key) -> bool {
        nix::unistd::access(&self.layer(key), AccessFlags::F_OK).is_ok()
    }

    /// What a layer held.
    pub fn info(&self, key: &Key) -> Result<Option<LayerInfo>> {
        let Some(directory) = self.open()? else { return Ok(None) };
        self.read_record(&directory, &info_name(key))
    }

    /// Opens the store's directory, seen to be the caller's alone; `None` when
    /// there is none.
    fn open(&self) -> Result<Option<OwnedFd>> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let directory = match nix::fcntl::open(&self.path, flags, Mode::empty()) {
            Ok(directory) => directory,
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(at("open", self.path.clone())(errno)),
        };
        let stat = nix::sys::stat::fstat(&directory).map_err(at("look at", self.path.clone()))?;
        if stat.st_uid != nix::unistd::geteuid().as_raw() {
            return Err(self.untrusted("", "belongs to somebody else"));
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(StoreError::Open(self.path.clone()));
        }
        Ok(Some(directory))
    }

    fn untrusted(&self, name: &str, problem: &'static str) -> StoreError {
        StoreError::Untrusted { path: self.path.join(name), problem }
    }

    fn system(&self, what: &'static str, name: &str) -> impl FnOnce(Errno) -> StoreError + use<> {
        at(what, self.path.join(name))
    }

    /// Opens a record; `None` when there is none.
    fn open_record(&self, directory: &OwnedFd, name: &str) -> Result<Option<File>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        match nix::fcntl::openat(directory, name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(self.system("open", name)(errno)),
        }
    }

    /// Reads a record. One that is no record of this version is none: whatever
    /// it said is found out again.
    fn read_record<T: DeserializeOwned + Versioned>(
        &self,
        directory: &OwnedFd,
        name: &str,
    ) -> Result<Option<T>> {
        let Some(file) = self.open_record(directory, name)? else { return Ok(None) };
        self.content(&file, name)
    }

    fn content<T: DeserializeOwned + Versioned>(
        &self,
        file: &File,
        name: &str,
    ) -> Result<Option<T>> {
        let fail = |error: io::Error| self.system("read", name)(errno(&error));
        let metadata = file.metadata().map_err(fail)?;
        if !metadata.is_file() || metadata.uid() != nix::unistd::geteuid().as_raw() {
            return Err(self.untrusted(name, "not a regular file of the caller's"));
        }
        if metadata.size() > RECORD {
            return Ok(None);
        }
        let mut text = vec![0; usize::try_from(metadata.size()).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut text, 0).map_err(fail)?;
        Ok(serde_json::from_slice(&text).ok().filter(T::is_current))
    }

    /// The image that a source was found to be, when that still holds and all
    /// of it is there. Reads two small files; nothing is hashed.
    pub fn resolve(&self, source: &Source) -> Result<Option<Stored>> {
        let Some(directory) = self.open()? else { return Ok(None) };
        let Some(record) = self.read_record::<SourceRecord>(&directory, &source_name(source))?
        else {
            return Ok(None);
        };
        // Where its digest is given, the file itself does not matter.
        let is_pinned = matches!(source, Source::Tar { sha256: Some(_), .. });
        if !same(&record.source, source) || !(is_pinned || record.is_unchanged()) {
            return Ok(None);
        }
        let name = image_name(&record.image);
        let Some(image) = self.read_record::<ImageRecord>(&directory, &name)? else {
            return Ok(None);
        };
        let is_there = |key| {
            let name = layer_name(key);
            faccessat(&directory, name.as_str(), AccessFlags::F_OK, AtFlags::empty()).is_ok()
        };
        Ok(image.stack.iter().all(is_there).then_some(Stored {
            key: record.image,
            reference: record.reference,
            stack: image.stack,
            config: image.config,
        }))
    }

    /// Keeps an image from being removed.
    pub fn hold(&self, key: &Key) -> Result<Held> {
        let Some(directory) = self.open()? else { return Err(StoreError::Gone(*key)) };
        self.hold_in(&directory, key)
    }

    fn hold_in(&self, directory: &OwnedFd, key: &Key) -> Result<Held> {
        let name = image_name(key);
        let Some(record) = self.open_record(directory, &name)? else {
            return Err(StoreError::Gone(*key));
        };
        let fail = |error: io::Error| self.system("lock", &name)(errno(&error));
        record.lock_shared().map_err(fail)?;
        // Whoever removes it holds it exclusively, and unlinks it then.
        match record.metadata() {
            Ok(metadata) if metadata.nlink() > 0 => Ok(Held { _record: record }),
            Ok(_) => Err(StoreError::Gone(*key)),
            Err(error) => Err(self.system("look at", &name)(errno(&error))),
        }
    }

    /// Makes what is missing of the store.
    fn make(&self) -> Result<OwnedFd> {
        if let Some(parent) = self.path.parent() {
            // As the XDG base directory specification wants them.
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)
                .map_err(|error| at("create", parent.to_owned())(errno(&error)))?;
        }
        let mode = Mode::from_bits_truncate(0o700);
        let made = |made: nix::Result<()>| match made {
            Err(Errno::EEXIST) => Ok(()),
            made => made,
        };
        made(nix::unistd::mkdir(&self.path, mode)).map_err(at("create", self.path.clone()))?;
        let Some(directory) = self.open()? else {
            return Err(at("open", self.path.clone())(Errno::ENOENT));
        };
        for part in PARTS {
            made(mkdirat(&directory, part.name(), mode))
                .map_err(self.system("create", part.name()))?;
        }
        Ok(directory)
    }

    /// Opens the file that is locked by whoever adds or removes.
    fn lock_file(&self, directory: &OwnedFd, name: &str) -> Result<File> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o600);
        nix::fcntl::openat(directory, name, flags, mode)
            .map(File::from)
            .map_err(self.system("create", name))
    }

    fn open_part(&self, directory: &OwnedFd, part: Part) -> Result<OwnedFd> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        nix::fcntl::openat(directory, part.name(), flags, Mode::empty())
            .map_err(self.system("open", part.name()))
    }

    /// Names in a part of the store, sorted.
    fn names(&self, directory: &OwnedFd, part: Part) -> Result<Vec<String>> {
        let fail = || self.system("read", part.name());
        let mut names = Vec::new();
        let opened = match self.open_part(directory, part) {
            // A store whose making was interrupted.
            Err(StoreError::System { errno: Errno::ENOENT, .. }) => return Ok(names),
            opened => opened?,
        };
        for entry in nix::dir::Dir::from_fd(opened).map_err(fail())?.iter() {
            let entry = entry.map_err(fail())?;
            // jailrun gives no other names.
            if let Ok(name) = entry.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Empties tmp; returns how many things were in it. Nobody else may be
    /// using the store.
    fn wipe(&self, directory: &OwnedFd) -> Result<usize> {
        let temporary = self.open_part(directory, Part::Temporary)?;
        let mut leftovers = 0;
        for name in self.names(directory, Part::Temporary)? {
            leftovers += usize::from(!name.ends_with(".lock"));
            tree::remove(&temporary, &name)
                .map_err(self.system("remove", &format!("tmp/{name}")))?;
        }
        Ok(leftovers)
    }

    /// Every record of a part by its name, unreadable ones as `None`.
    fn records<T: DeserializeOwned + Versioned>(
        &self,
        directory: &OwnedFd,
        part: Part,
    ) -> Result<Vec<(String, Option<T>)>> {
        let read = |name: String| {
            let record = self.read_record(directory, &format!("{}/{name}", part.name()))?;
            Ok((name, record))
        };
        self.names(directory, part)?.into_iter().map(read).collect()
    }

    /// The images, with what they were imported from.
    fn images(&self, directory: &OwnedFd) -> Result<Vec<(Key, ImageRecord)>> {
        let records = self.records::<ImageRecord>(directory, Part::Images)?;
        let named = |(name, record): (String, Option<ImageRecord>)| {
            Some((name.strip_suffix(".json")?.parse().ok()?, record?))
        };
        Ok(records.into_iter().filter_map(named).collect())
    }

    /// What `image ls` shows.
    pub fn list(&self) -> Result<Vec<Listed>> {
        let Some(directory) = self.open()? else { return Ok(Vec::new()) };
        let sources = self.records::<SourceRecord>(&directory, Part::Sources)?;
        let mut listed = Vec::new();
        for (key, image) in self.images(&directory)? {
            let mut size = 0;
            for layer in &image.layers {
                let info = self.read_record::<LayerInfo>(&directory, &info_name(layer))?;
                size += info.map_or(0, |info| info.bytes);
            }
            let in_use = self.is_held(&directory, &key)?;
            let line = |source: Option<&SourceRecord>| Listed {
                source: source.map(|record| record.source.to_string()),
                reference: source.and_then(|record| record.reference.clone()),
                digest: key.digest(),
                layers: image.layers.len(),
                size,
                imported: image.imported,
                in_use,
            };
            let leads_here = |(_, record): &(_, Option<SourceRecord>)| {
                let record = record.as_ref()?;
                (record.image == key).then(|| line(Some(record)))
            };
            let before = listed.len();
            listed.extend(sources.iter().filter_map(leads_here));
            if listed.len() == before {
                listed.push(line(None));
            }
        }
        listed.sort_by(|a, b| (&a.source, a.digest).cmp(&(&b.source, b.digest)));
        Ok(listed)
    }

    fn unlink(&self, directory: &OwnedFd, name: &str) -> Result<()> {
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.system("remove", name)(errno)),
        }
    }
}
