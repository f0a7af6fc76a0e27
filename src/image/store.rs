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
//! a plain archive with the number of components taken off its names.
//!
//! What has its name under `layers`, `images` or `sources` is complete: it is
//! made under `tmp`, written out to the disk, and renamed. Whoever is killed
//! leaves things under `tmp` only, which the next import or `gc` removes. An
//! image's record is written after its layers and removed before them, so that
//! a record that is held keeps its layers.

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, RenameFlags, renameat, renameat2};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{AccessFlags, UnlinkatFlags, faccessat, unlinkat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::blob::unpack_blob;
use super::digest::Digest;
use super::error::ImageError;
use super::files::{Identity, shown};
use super::layer::{Expected, LayerError, Limits, Lost, Options, Owners, Summary, Whiteouts};
use super::oci::{self, Config, Image, Key, Layer, Source};
use super::progress::Progress;
use crate::unit::io_reason;

/// Version of the records; those of another are as good as none.
const VERSION: u32 = 1;

/// Largest record, in bytes: a configuration, and the keys of its layers.
const RECORD: u64 = oci::DOCUMENT + (1 << 20);

/// Why the store does not do what it should.
#[derive(Debug)]
pub enum StoreError {
    /// A file or directory of it.
    System {
        /// Such as `create`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's answer.
        errno: Errno,
    },
    /// Something in it cannot be trusted.
    Untrusted {
        /// The file.
        path: PathBuf,
        /// What is found, and what was expected.
        problem: &'static str,
    },
    /// The image itself.
    Image(ImageError),
    /// A layer of it.
    Layer {
        /// Which one.
        layer: Key,
        /// Where it comes from.
        blob: PathBuf,
        /// What is wrong with it.
        error: LayerError,
    },
    /// The image, or a layer of it, was removed meanwhile.
    Gone(Key),
    /// There is no such image.
    Unknown(String),
    /// Several images could be meant.
    Ambiguous(String),
    /// A jail runs from it.
    InUse(String),
    /// Neither of the variables that say where the store is.
    Nowhere,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System { what, path, errno } => {
                write!(f, "cannot {what} {}: {}", shown(path), io_reason(&(*errno).into()))
            }
            Self::Untrusted { path, problem } => write!(f, "{}: {problem}", shown(path)),
            Self::Image(error) => error.fmt(f),
            Self::Layer { layer, blob, error } => {
                write!(f, "layer {} of {}: {error}", layer.digest(), shown(blob))
            }
            Self::Gone(key) => {
                write!(f, "the image {} was removed from the store meanwhile", key.digest())
            }
            Self::Unknown(name) => write!(f, "the store has no image `{}`", name.escape_debug()),
            Self::Ambiguous(name) => {
                write!(f, "`{}` could be several images of the store", name.escape_debug())
            }
            Self::InUse(name) => write!(f, "a jail is running from `{}`", name.escape_debug()),
            Self::Nowhere => f.write_str(
                "no place for the store: neither `XDG_DATA_HOME` nor `HOME` is an absolute path",
            ),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<ImageError> for StoreError {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

type Result<T> = std::result::Result<T, StoreError>;

/// Names the call and the file that an errno belongs to.
fn at(what: &'static str, path: PathBuf) -> impl FnOnce(Errno) -> StoreError {
    move |errno| StoreError::System { what, path, errno }
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

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

/// `sources/HASH.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SourceRecord {
    version: u32,
    source: Source,
    /// What the source calls the image.
    reference: Option<String>,
    identity: Identity,
    image: Key,
}

/// `images/KEY.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageRecord {
    version: u32,
    /// Seconds since 1970.
    imported: u64,
    /// The lowest first.
    layers: Vec<Key>,
    /// What is mounted of them, the top-most first.
    stack: Vec<Key>,
    config: Config,
}

/// `layers/KEY/info.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LayerInfo {
    version: u32,
    /// Digest of the uncompressed archive.
    pub diff_id: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
    /// Whether nothing below it may be mounted.
    pub hides_lower_layers: bool,
    /// Device nodes that could not be made.
    pub devices: u64,
    /// Entries that belong to somebody else in the archive.
    pub owners: u64,
    /// Extended attributes that could not be kept.
    pub xattrs: u64,
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

/// What an import has done.
#[derive(Debug)]
pub struct Imported {
    /// The image's name.
    pub key: Key,
    /// How many layers were unpacked; the rest was there.
    pub unpacked: usize,
    /// Of every layer, the lowest first.
    pub layers: Vec<LayerInfo>,
    /// Keeps it from being removed.
    pub held: Held,
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

/// The moment of a record.
pub(super) fn time(seconds: u64) -> SystemTime {
    // A record may say anything; what the calendar cannot hold is its end.
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds.min(253_402_300_799))
}

/// What `gc` removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwanted {
    /// Remains of imports that were killed, images that no source leads to any
    /// more, layers that no image has.
    Leftovers,
    /// Also images whose source is gone or has changed.
    WithoutSource,
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Images, by the name that was used for them.
    pub images: Vec<String>,
    /// How many layers.
    pub layers: usize,
    /// Bytes of those layers, uncompressed.
    pub bytes: u64,
    /// Remains of imports that were killed.
    pub leftovers: usize,
    /// Images that would have been removed, but a jail runs from them.
    pub in_use: Vec<String>,
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
            (Source::Image { .. }, Owners::Keep) => (Whiteouts::Trusted, 0),
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
            return Err(self.untrusted("", "open to others, expected mode 0700"));
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
        let mut text = Vec::with_capacity(usize::try_from(metadata.size()).unwrap_or(0) + 1);
        file.take(RECORD).read_to_end(&mut text).map_err(fail)?;
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

    /// Begins an import: until it is dropped, nothing is removed.
    pub fn import(&self) -> Result<Import<'_>> {
        let directory = self.make()?;
        let lock = self.lock_file(&directory, "lock")?;
        let fail = |error: io::Error| self.system("lock", "lock")(errno(&error));
        match lock.try_lock() {
            // Nobody else is at it: what is in tmp was left by somebody killed.
            Ok(()) => {
                self.wipe(&directory)?;
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        lock.lock_shared().map_err(fail)?;
        Ok(Import { store: self, directory, _lock: lock })
    }

    /// Begins a removal: until it is dropped, nothing is added.
    fn lock(&self, progress: &Progress) -> Result<Option<(OwnedFd, File)>> {
        if self.open()?.is_none() {
            return Ok(None);
        }
        let directory = self.make()?;
        let lock = self.lock_file(&directory, "lock")?;
        let fail = |error: io::Error| self.system("lock", "lock")(errno(&error));
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.wait("waiting for an import to end");
                lock.lock().map_err(fail)?;
                progress.end();
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        Ok(Some((directory, lock)))
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
            if let Ok(name) = entry.file_name().to_str() {
                if name != "." && name != ".." {
                    names.push(name.to_owned());
                }
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
            remove(&temporary, &name).map_err(self.system("remove", &format!("tmp/{name}")))?;
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

    /// Takes an image's record exclusively; `None` when a jail holds it.
    fn seize(&self, directory: &OwnedFd, key: &Key) -> Result<Option<File>> {
        let name = image_name(key);
        let Some(record) = self.open_record(directory, &name)? else {
            return Err(StoreError::Gone(*key));
        };
        // Another `ls` may be asking the same, for a moment.
        for _ in 0..5 {
            match record.try_lock() {
                Ok(()) => return Ok(Some(record)),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(2)),
                Err(TryLockError::Error(error)) => {
                    return Err(self.system("lock", &name)(errno(&error)));
                }
            }
        }
        Ok(None)
    }

    fn is_held(&self, directory: &OwnedFd, key: &Key) -> Result<bool> {
        match self.seize(directory, key) {
            Ok(seized) => Ok(seized.is_none()),
            Err(StoreError::Gone(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes an image's record, unless a jail holds it.
    fn remove_image(&self, directory: &OwnedFd, key: &Key) -> Result<Removal> {
        let Some(_record) = self.seize(directory, key)? else { return Ok(Removal::InUse) };
        self.unlink(directory, &image_name(key))?;
        Ok(Removal::Done)
    }

    fn unlink(&self, directory: &OwnedFd, name: &str) -> Result<()> {
        match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(self.system("remove", name)(errno)),
        }
    }

    /// Removes images by what `image ls` calls them, a reference, or a digest
    /// or the beginning of one. All are looked for before any is removed. An
    /// image that was imported from several sources goes with the last of them.
    pub fn remove(&self, names: &[String], progress: &Progress) -> Result<Removed> {
        let mut removed = Removed::default();
        let Some((directory, _lock)) = self.lock(progress)? else {
            return match names.first() {
                Some(name) => Err(StoreError::Unknown(name.clone())),
                None => Ok(removed),
            };
        };
        let images: Vec<Key> = self.images(&directory)?.into_iter().map(|(key, _)| key).collect();
        let sources: Vec<_> = self
            .records::<SourceRecord>(&directory, Part::Sources)?
            .into_iter()
            .filter_map(|(name, record)| Some((name, record?)))
            .collect();
        let mut chosen: Vec<(&String, Key, Vec<&String>)> = Vec::new();
        for name in names {
            let (image, files) = choose(name, &images, &sources)?;
            if self.is_held(&directory, &image)? {
                return Err(StoreError::InUse(name.clone()));
            }
            chosen.push((name, image, files));
        }
        for (name, image, files) in chosen {
            for file in files {
                self.unlink(&directory, &format!("sources/{file}"))?;
            }
            let others = self.records::<SourceRecord>(&directory, Part::Sources)?;
            if !others.iter().any(|(_, other)| other.as_ref().is_some_and(|o| o.image == image)) {
                match self.remove_image(&directory, &image) {
                    // Removed by another of the names.
                    Ok(Removal::Done) | Err(StoreError::Gone(_)) => {}
                    // A jail has taken it since.
                    Ok(Removal::InUse) => return Err(StoreError::InUse(name.clone())),
                    Err(error) => return Err(error),
                }
            }
            removed.images.push(name.clone());
        }
        self.remove_layers(&directory, &mut removed)?;
        Ok(removed)
    }

    /// Removes what nobody needs.
    pub fn collect(&self, unwanted: Unwanted, progress: &Progress) -> Result<Removed> {
        let mut removed = Removed::default();
        let Some((directory, _lock)) = self.lock(progress)? else { return Ok(removed) };
        removed.leftovers = self.wipe(&directory)?;
        let mut wanted = Vec::new();
        let mut names = std::collections::BTreeMap::new();
        for (name, record) in self.records::<SourceRecord>(&directory, Part::Sources)? {
            let keep = record
                .as_ref()
                .is_some_and(|record| unwanted == Unwanted::Leftovers || record.is_unchanged());
            if let Some(record) = record {
                names.insert(record.image, record.source.to_string());
                if keep {
                    wanted.push(record.image);
                }
            }
            if !keep {
                self.unlink(&directory, &format!("sources/{name}"))?;
            }
        }
        for name in self.names(&directory, Part::Images)? {
            let Some(key) = name.strip_suffix(".json").and_then(|name| name.parse().ok()) else {
                self.unlink(&directory, &format!("images/{name}"))?;
                continue;
            };
            let is_readable =
                self.read_record::<ImageRecord>(&directory, &image_name(&key))?.is_some();
            if wanted.contains(&key) && is_readable {
                continue;
            }
            let shown = names.remove(&key).unwrap_or_else(|| key.digest().to_string());
            match self.remove_image(&directory, &key)? {
                Removal::Done => removed.images.push(shown),
                Removal::InUse => removed.in_use.push(shown),
            }
        }
        self.remove_layers(&directory, &mut removed)?;
        Ok(removed)
    }

    /// Removes the layers that no image has.
    fn remove_layers(&self, directory: &OwnedFd, removed: &mut Removed) -> Result<()> {
        let images = self.images(directory)?;
        let needed: std::collections::BTreeSet<String> =
            images.iter().flat_map(|(_, image)| &image.layers).map(Key::to_string).collect();
        // A record that cannot be read, but is there, may be a newer version's.
        if images.len() < self.names(directory, Part::Images)?.len() {
            return Err(self.untrusted("images", "holds a record that cannot be read"));
        }
        let layers = self.open_part(directory, Part::Layers)?;
        let temporary = self.open_part(directory, Part::Temporary)?;
        for name in self.names(directory, Part::Layers)? {
            if needed.contains(&name) {
                continue;
            }
            let info = format!("layers/{name}/info.json");
            let info = self.read_record::<LayerInfo>(directory, &info)?;
            let fail = || self.system("remove", &format!("layers/{name}"));
            // From then on it is only a leftover.
            renameat(&layers, name.as_str(), &temporary, name.as_str()).map_err(fail())?;
            remove(&temporary, &name).map_err(fail())?;
            removed.layers += 1;
            removed.bytes += info.map_or(0, |info| info.bytes);
        }
        Ok(())
    }
}

/// What became of an image's record.
enum Removal {
    Done,
    InUse,
}

/// The image that is meant, and the records of the sources to remove with it.
fn choose<'a>(
    name: &str,
    images: &[Key],
    sources: &'a [(String, SourceRecord)],
) -> Result<(Key, Vec<&'a String>)> {
    let by = |is: &dyn Fn(&SourceRecord) -> bool| -> Vec<&'a (String, SourceRecord)> {
        sources.iter().filter(|(_, record)| is(record)).collect()
    };
    let mut meant = by(&|record| record.source.to_string() == name);
    if meant.is_empty() {
        meant = by(&|record| record.reference.as_deref() == Some(name));
    }
    if let [first, rest @ ..] = &meant[..] {
        if rest.iter().any(|(_, record)| record.image != first.1.image) {
            return Err(StoreError::Ambiguous(name.to_owned()));
        }
        return Ok((first.1.image, meant.iter().map(|(file, _)| file).collect()));
    }
    let digits = name.strip_prefix("sha256:").unwrap_or(name);
    let is_meant = |key: &&Key| digits.len() >= 4 && key.digest().hex().starts_with(digits);
    match images.iter().filter(is_meant).collect::<Vec<_>>()[..] {
        [] => Err(StoreError::Unknown(name.to_owned())),
        [key] => {
            let from_it = by(&|record| record.image == *key);
            Ok((*key, from_it.into_iter().map(|(file, _)| file).collect()))
        }
        _ => Err(StoreError::Ambiguous(name.to_owned())),
    }
}

/// A record that says its version.
trait Versioned {
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
            && self.stack.iter().all(|key| self.layers.contains(key))
    }
}

impl Versioned for LayerInfo {
    fn is_current(&self) -> bool {
        self.version == VERSION
    }
}

impl SourceRecord {
    /// Whether the source is what it was when it was read.
    fn is_unchanged(&self) -> bool {
        let path = self.source.path();
        let found = match (&self.source, std::fs::metadata(path)) {
            (Source::Image { .. }, Ok(metadata)) if metadata.is_dir() => {
                std::fs::metadata(path.join("index.json"))
            }
            (_, found) => found,
        };
        found.is_ok_and(|found| Identity::of(&found) == self.identity)
    }
}

/// Whether two sources ask for the same thing. With a digest, the path is only
/// where the file was found.
fn same(one: &Source, other: &Source) -> bool {
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
fn source_name(source: &Source) -> String {
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

fn image_name(key: &Key) -> String {
    format!("images/{key}.json")
}

fn layer_name(key: &Key) -> String {
    format!("layers/{key}/tree")
}

fn info_name(key: &Key) -> String {
    format!("layers/{key}/info.json")
}

/// An import that is going on.
#[derive(Debug)]
pub struct Import<'a> {
    store: &'a Store,
    directory: OwnedFd,
    _lock: File,
}

/// What became of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was there.
    Present(LayerInfo),
    /// It was unpacked.
    Unpacked(LayerInfo),
}

impl Import<'_> {
    /// Unpacks a layer unless it is there. Whoever comes second waits for the
    /// first. `progress` is told the bytes of the blob that have been read,
    /// from any thread.
    pub fn layer(
        &self,
        layer: &Layer,
        options: &Options,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Added> {
        if let Some(info) = self.present(&layer.key)? {
            return Ok(Added::Present(info));
        }
        let name = layer.key.to_string();
        let lock = self.lock_layer(&name)?;
        let added = match self.present(&layer.key)? {
            Some(info) => Ok(Added::Present(info)),
            None => self.make_layer(layer, options, progress),
        };
        let temporary = self.part(Part::Temporary)?;
        if added.is_err() {
            // The failure itself is what the user has to know; what cannot be
            // removed here, gc finds.
            remove(&temporary, &name).ok();
        }
        self.store.unlink(&self.directory, &lock_name(&name))?;
        drop(lock);
        added
    }

    fn present(&self, key: &Key) -> Result<Option<LayerInfo>> {
        self.store.read_record(&self.directory, &info_name(key))
    }

    fn part(&self, part: Part) -> Result<OwnedFd> {
        self.store.open_part(&self.directory, part)
    }

    /// Becomes the one who makes a layer.
    fn lock_layer(&self, key: &str) -> Result<File> {
        let name = lock_name(key);
        loop {
            let file = self.store.lock_file(&self.directory, &name)?;
            let fail = |error: io::Error| self.store.system("lock", &name)(errno(&error));
            file.lock().map_err(fail)?;
            // The one before has removed it, with the lock held.
            if file.metadata().map_err(fail)?.nlink() > 0 {
                return Ok(file);
            }
        }
    }

    fn make_layer(
        &self,
        layer: &Layer,
        options: &Options,
        progress: &(dyn Fn(u64) + Sync),
    ) -> Result<Added> {
        let name = layer.key.to_string();
        let fail = |what| self.store.system(what, &format!("tmp/{name}"));
        let temporary = self.part(Part::Temporary)?;
        remove(&temporary, &name).map_err(fail("remove"))?;
        let private = Mode::from_bits_truncate(0o700);
        mkdirat(&temporary, name.as_str(), private).map_err(fail("create"))?;
        let directory = open_directory(&temporary, &name).map_err(fail("open"))?;
        mkdirat(&directory, "tree", Mode::from_bits_truncate(0o755)).map_err(fail("create"))?;
        let tree = open_directory(&directory, "tree").map_err(fail("open"))?;
        // Whatever the umask: what the archive does not say is readable.
        nix::sys::stat::fchmod(&tree, Mode::from_bits_truncate(0o755)).map_err(fail("change"))?;
        let expected = Expected {
            size: Some(layer.blob.size),
            digest: layer.digest,
            diff_id: layer.diff_id,
            compression: Some(layer.compression),
        };
        let blob = layer.blob.open()?;
        let unpacked =
            unpack_blob(blob, &expected, tree.as_fd(), options, progress).map_err(|error| {
                StoreError::Layer { layer: layer.key, blob: layer.blob.path.clone(), error }
            })?;
        let info = LayerInfo::new(unpacked.diff_id, &unpacked.summary);
        write_new(&directory, "info.json", &info).map_err(fail("write"))?;
        // All of it is on the disk before it has a name that says so.
        nix::unistd::syncfs(&directory).map_err(fail("write"))?;
        let layers = self.part(Part::Layers)?;
        let flags = RenameFlags::RENAME_NOREPLACE;
        match renameat2(&temporary, name.as_str(), &layers, name.as_str(), flags) {
            Ok(()) => Ok(Added::Unpacked(info)),
            // It was not present, so its record cannot be read.
            Err(Errno::EEXIST) => Err(self
                .store
                .untrusted(&info_name(&layer.key), "no record of this version; `gc` removes it")),
            Err(errno) => Err(fail("rename")(errno)),
        }
    }

    /// Records an image, all of whose layers have been added, and what it was
    /// imported from.
    pub fn finish(&self, source: &Source, image: &Image) -> Result<Imported> {
        let mut layers = Vec::new();
        for layer in &image.layers {
            let Some(info) = self.present(&layer.key)? else {
                return Err(StoreError::Gone(layer.key));
            };
            layers.push(info);
        }
        let visible = layers.iter().rposition(|info| info.hides_lower_layers).unwrap_or(0);
        let keys: Vec<Key> = image.layers.iter().map(|layer| layer.key).collect();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = ImageRecord {
            version: VERSION,
            imported: now.as_secs(),
            stack: oci::stack(keys[visible..].iter().copied()),
            layers: keys,
            config: image.config.clone(),
        };
        let name = image_name(&image.key);
        // A record that others may hold is never replaced by its equal.
        if self.store.read_record::<ImageRecord>(&self.directory, &name)?.is_none() {
            self.write(&name, &record)?;
        }
        let held = self.store.hold_in(&self.directory, &image.key)?;
        let from = SourceRecord {
            version: VERSION,
            source: source.clone(),
            reference: image.reference.clone(),
            identity: image.identity,
            image: image.key,
        };
        self.write(&source_name(source), &from)?;
        Ok(Imported { key: image.key, unpacked: 0, layers, held })
    }

    /// Writes a record in one go.
    fn write(&self, name: &str, record: &impl Serialize) -> Result<()> {
        let fail = || self.store.system("write", name);
        let temporary = format!("tmp/{}-{}", name.replace('/', "-"), std::process::id());
        let written = write_new(&self.directory, &temporary, record)
            .and_then(|file| file.sync_all().map_err(|error| errno(&error)))
            .and_then(|()| renameat(&self.directory, temporary.as_str(), &self.directory, name));
        if let Err(errno) = written {
            self.store.unlink(&self.directory, &temporary)?;
            return Err(fail()(errno));
        }
        let part = Path::new(name).parent().unwrap_or(Path::new("."));
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        nix::fcntl::openat(&self.directory, part, flags, Mode::empty())
            .and_then(nix::unistd::fsync)
            .map_err(fail())
    }
}

fn lock_name(key: &str) -> String {
    format!("tmp/{key}.lock")
}

impl LayerInfo {
    fn new(diff_id: Digest, summary: &Summary) -> Self {
        let count = |lost: &Lost| lost.count;
        Self {
            version: VERSION,
            diff_id,
            bytes: summary.bytes,
            entries: summary.entries,
            hides_lower_layers: summary.hides_lower_layers,
            devices: count(&summary.devices),
            owners: count(&summary.owners),
            xattrs: count(&summary.xattrs),
        }
    }
}

/// What could not be kept of an image, in one sentence; `None` when all was.
pub fn losses(layers: &[LayerInfo]) -> Option<String> {
    let sum = |count: fn(&LayerInfo) -> u64| layers.iter().map(count).sum::<u64>();
    let of = |count: u64, one: &str, many: &str| match count {
        0 => None,
        1 => Some(one.to_owned()),
        count => Some(many.replace('#', &count.to_string())),
    };
    let owners = sum(|info| info.owners);
    let lost: Vec<String> = [
        of(sum(|info| info.devices), "a device node", "# device nodes"),
        of(owners, "the owner of a file", "the owners of # files"),
        of(sum(|info| info.xattrs), "an extended attribute", "# extended attributes"),
    ]
    .into_iter()
    .flatten()
    .collect();
    let (last, others) = lost.split_last()?;
    let list = match others {
        [] => last.clone(),
        others => format!("{} and {last}", others.join(", ")),
    };
    let whose = if owners > 0 { ": the files belong to you in this store" } else { "" };
    Some(format!("{list} could not be kept{whose}"))
}

/// Adds an image with all its layers.
pub fn import(
    store: &Store,
    source: &Source,
    image: &Image,
    options: &Options,
    progress: &Progress,
) -> Result<Imported> {
    let import = store.import()?;
    let mut unpacked = 0;
    for (index, layer) in image.layers.iter().enumerate() {
        let label = match image.layers.len() {
            1 => "unpacking".to_owned(),
            count => format!("layer {} of {count}", index + 1),
        };
        progress.begin(&label, layer.blob.size);
        let added = import.layer(layer, options, &|done| progress.at(done));
        progress.end();
        unpacked += usize::from(matches!(added?, Added::Unpacked(_)));
    }
    Ok(Imported { unpacked, ..import.finish(source, image)? })
}

/// Unpacks one layer, on its own. Until its image is recorded, `gc` may remove
/// it again.
pub fn unpack_layer(
    store: &Store,
    layer: &Layer,
    options: &Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Added> {
    store.import()?.layer(layer, options, progress)
}

/// Writes a new file, one that a killed process has left replaced.
fn write_new(directory: &OwnedFd, name: &str, record: &impl Serialize) -> nix::Result<File> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mode = Mode::from_bits_truncate(0o600);
    let mut file = File::from(nix::fcntl::openat(directory, name, flags, mode)?);
    let text = serde_json::to_vec(record).map_err(|_| Errno::EINVAL)?;
    file.write_all(&text).map_err(|error| errno(&error))?;
    Ok(file)
}

fn open_directory(parent: &OwnedFd, name: &str) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    nix::fcntl::openat(parent, name, flags, Mode::empty())
}

/// Removes a file or a tree from a directory that is the caller's alone.
/// Directories inside are moved up before they are emptied, so that no depth
/// is too deep.
fn remove(parent: &OwnedFd, name: &str) -> nix::Result<()> {
    let mut left = vec![name.to_owned()];
    let mut number = 0_u64;
    while let Some(path) = left.pop() {
        match unlinkat(parent, path.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => continue,
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(errno) => return Err(errno),
        }
        let directory = open_own(parent.as_fd(), Path::new(&path))?;
        loop {
            let below = empty(&directory)?;
            for inner in &below {
                // To move a directory is to write its `..`.
                drop(open_own(directory.as_fd(), inner)?);
                left.push(move_up(&directory, inner, parent, name, &mut number)?);
            }
            match unlinkat(parent, path.as_str(), UnlinkatFlags::RemoveDir) {
                Ok(()) => break,
                // A directory that is read while it changes may hide entries.
                Err(Errno::ENOTEMPTY) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    Ok(())
}

/// Opens a directory for reading, giving its owner the right to it first.
fn open_own(parent: BorrowedFd<'_>, name: &Path) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let found = nix::fcntl::openat(parent, name, flags, Mode::empty())?;
    let link = format!("/proc/self/fd/{}", found.as_raw_fd());
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&link, mode).map_err(|error| errno(&error))?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(&found, ".", flags, Mode::empty())
}

/// Removes everything from a directory but directories; returns those.
fn empty(directory: &OwnedFd) -> nix::Result<Vec<PathBuf>> {
    use std::os::unix::ffi::OsStrExt as _;
    let mut directories = Vec::new();
    let mut entries = nix::dir::Dir::from_fd(directory.try_clone().map_err(|e| errno(&e))?)?;
    for entry in entries.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_directory = match entry.file_type() {
            Some(kind) => kind == nix::dir::Type::Directory,
            None => {
                let stat = fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
                SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR
            }
        };
        if is_directory {
            directories.push(std::ffi::OsStr::from_bytes(name.to_bytes()).into());
        } else {
            unlinkat(directory, name, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    Ok(directories)
}

/// Moves a directory to where the removal began, under a name of its own.
fn move_up(
    from: &OwnedFd,
    inner: &Path,
    to: &OwnedFd,
    name: &str,
    number: &mut u64,
) -> nix::Result<String> {
    loop {
        let moved = format!("{name}.{number}");
        *number += 1;
        match renameat(from, inner, to, moved.as_str()) {
            Ok(()) => return Ok(moved),
            // Left by a removal that was killed.
            Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
