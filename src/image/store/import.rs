//! Adding layers and images. What is added is complete before it has a name.

use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};
use serde::Serialize;

use super::error::{Result, StoreError, errno};
use super::record::{
    ImageRecord, LayerInfo, SourceRecord, VERSION, image_name, info_name, lock_name, source_name,
};
use super::{Held, Part, Store, directories, tree};
use crate::image::blob::unpack_blob;
use crate::image::layer::{Expected, Options};
use crate::image::oci::{self, Image, Key, Layer};
use crate::image::progress::Progress;
use crate::image::source::Source;

impl Store {
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
}

/// What an import has done.
#[derive(Debug)]
pub struct Imported {
    /// The image's name.
    pub key: Key,
    /// What is mounted of it, the top-most first.
    pub stack: Vec<Key>,
    /// How many layers were unpacked; the rest was there.
    pub unpacked: usize,
    /// Of every layer, the lowest first.
    pub layers: Vec<LayerInfo>,
    /// Keeps it from being removed.
    pub held: Held,
}

/// An import that is going on.
#[derive(Debug)]
pub struct Import<'a> {
    store: &'a Store,
    directory: OwnedFd,
    _lock: File,
}

/// What becomes of a record that is there already.
#[derive(Clone, Copy)]
enum Existing {
    /// It stays when it can be read: it is an equal one.
    KeepReadable,
    /// The new one takes its place.
    Replace,
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
            tree::remove(&temporary, &name).ok();
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
        let (directory, tree) = self.start_tree(&name)?;
        let expected = Expected {
            size: Some(layer.blob.size),
            digest: layer.digest,
            diff_id: layer.diff_id,
            compression: Some(layer.compression),
        };
        let blob = layer.blob.open()?;
        let unpacked =
            unpack_blob(blob, &expected, tree.as_fd(), options, progress).map_err(|error| {
                StoreError::Layer {
                    layer: layer.key,
                    blob: layer.blob.path.clone(),
                    error: Box::new(error),
                }
            })?;
        let info = LayerInfo::new(unpacked.diff_id, &unpacked.summary);
        write_new(&directory, "info.json", &info).map_err(fail("write"))?;
        // All of it is on the disk before it has a name that says so.
        nix::unistd::syncfs(&directory).map_err(fail("write"))?;
        let layers = self.part(Part::Layers)?;
        match renameat(&temporary, name.as_str(), &layers, name.as_str()) {
            Ok(()) => Ok(Added::Unpacked(info)),
            // It was not present, so its record cannot be read.
            Err(Errno::EEXIST | Errno::ENOTEMPTY) => Err(self
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
        let stack = oci::stack(&image.key, keys[visible..].iter().copied());
        if let [directories @ Key::Directories(_), below @ ..] = &stack[..] {
            self.add_directories(directories, below)?;
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let record = ImageRecord {
            version: VERSION,
            imported: now.as_secs(),
            stack: stack.clone(),
            layers: keys,
            config: image.config.clone(),
        };
        let name = image_name(&image.key);
        if self.store.read_record::<ImageRecord>(&self.directory, &name)?.is_none() {
            self.write(&name, &record, Existing::KeepReadable)?;
        }
        let held = self.store.hold_in(&self.directory, &image.key)?;
        let from = SourceRecord {
            version: VERSION,
            source: source.clone(),
            reference: image.reference.clone(),
            identity: image.identity,
            image: image.key,
        };
        self.write(&source_name(source), &from, Existing::Replace)?;
        Ok(Imported { key: image.key, stack, unpacked: 0, layers, held })
    }

    fn give_name(&self, temporary: &str, name: &str, existing: Existing) -> nix::Result<()> {
        let directory = &self.directory;
        if let Existing::KeepReadable = existing {
            match linkat(directory, temporary, directory, name, AtFlags::empty()) {
                // Another import was faster. Its record may be locked already.
                Err(Errno::EEXIST)
                    if !matches!(
                        self.store.read_record::<ImageRecord>(directory, name),
                        Ok(Some(_))
                    ) => {}
                Ok(()) | Err(Errno::EEXIST) => {
                    return unlinkat(directory, temporary, UnlinkatFlags::NoRemoveDir);
                }
                Err(errno) => return Err(errno),
            }
        }
        renameat(directory, temporary, directory, name)
    }

    /// Makes the directories that go above the layers of an image.
    fn add_directories(&self, key: &Key, below: &[Key]) -> Result<()> {
        if self.store.has(key) {
            return Ok(());
        }
        let name = key.to_string();
        let _lock = self.lock_layer(&name)?;
        let made = match self.store.has(key) {
            true => Ok(()),
            false => self.make_directories(&name, below),
        };
        if made.is_err() {
            // As for a layer.
            tree::remove(&self.part(Part::Temporary)?, &name).ok();
        }
        self.store.unlink(&self.directory, &lock_name(&name))?;
        made
    }

    fn make_directories(&self, name: &str, below: &[Key]) -> Result<()> {
        let fail = |what| self.store.system(what, &format!("tmp/{name}"));
        let mut layers = Vec::new();
        for key in below {
            let path = self.store.layer(key);
            let Some(info) = self.present(key)? else { return Err(StoreError::Gone(*key)) };
            layers.push(directories::Layer::open(&path, info.implied_directories)?);
        }
        let (directory, tree) = self.start_tree(name)?;
        directories::make(&layers, &tree).map_err(fail("make directories in"))?;
        nix::unistd::syncfs(&directory).map_err(fail("write"))?;
        let (temporary, layers) = (self.part(Part::Temporary)?, self.part(Part::Layers)?);
        renameat(&temporary, name, &layers, name).map_err(fail("rename"))
    }

    /// An empty tree that is to become a layer, and the directory that it is in.
    fn start_tree(&self, name: &str) -> Result<(OwnedFd, OwnedFd)> {
        let fail = |what| self.store.system(what, &format!("tmp/{name}"));
        let temporary = self.part(Part::Temporary)?;
        tree::remove(&temporary, name).map_err(fail("remove"))?;
        let mode = Mode::from_bits_truncate(0o700);
        mkdirat(&temporary, name, mode).map_err(fail("create"))?;
        let directory = open_directory(&temporary, name).map_err(fail("open"))?;
        mkdirat(&directory, "tree", mode).map_err(fail("create"))?;
        let tree = open_directory(&directory, "tree").map_err(fail("open"))?;
        Ok((directory, tree))
    }

    /// Writes a record in one go.
    fn write(&self, name: &str, record: &impl Serialize, existing: Existing) -> Result<()> {
        let fail = || self.store.system("write", name);
        let temporary = format!("tmp/{}-{}", name.replace('/', "-"), std::process::id());
        let written = write_new(&self.directory, &temporary, record)
            .and_then(|file| file.sync_all().map_err(|error| errno(&error)))
            .and_then(|()| self.give_name(&temporary, name, existing));
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
