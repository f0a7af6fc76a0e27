//! Removing images and layers that nobody uses, and what was left half made.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::fcntl::renameat;

use super::error::{Result, StoreError, errno};
use super::record::{ImageRecord, LayerInfo, SourceRecord, image_name};
use super::{Part, Store, tree};
use crate::image::oci::Key;
use crate::image::progress::Progress;

impl Store {
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

    /// Takes an image's record exclusively; `None` when a jail holds it.
    pub(super) fn seize(&self, directory: &OwnedFd, key: &Key) -> Result<Option<File>> {
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

    pub(super) fn is_held(&self, directory: &OwnedFd, key: &Key) -> Result<bool> {
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
        let mut names = BTreeMap::new();
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
        let needed: BTreeSet<String> = images
            .iter()
            .flat_map(|(_, image)| image.layers.iter().chain(&image.stack))
            .map(Key::to_string)
            .collect();
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
            tree::remove(&temporary, &name).map_err(fail())?;
            removed.layers += usize::from(info.is_some());
            removed.bytes += info.map_or(0, |info| info.bytes);
        }
        Ok(())
    }
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
    // The path may be written from here.
    let whole = std::path::absolute(name).map(|path| path.display().to_string());
    let is_whole = |text: &String| whole.as_ref().is_ok_and(|whole| whole == text);
    let mut meant = by(&|record| is_whole(&record.source.to_string()));
    if meant.is_empty() {
        meant = by(&|record| record.reference.as_deref() == Some(name));
    }
    if let [first, rest @ ..] = &meant[..] {
        if rest.iter().any(|(_, record)| record.image != first.1.image) {
            let found = meant.iter().map(|(_, record)| record.image.to_string()).collect();
            return Err(StoreError::Ambiguous(name.to_owned(), found));
        }
        return Ok((first.1.image, meant.iter().map(|(file, _)| file).collect()));
    }
    let start = name.strip_prefix("sha256:").unwrap_or(name);
    let is_meant = |key: &&Key| start.len() >= 4 && key.to_string().starts_with(start);
    match images.iter().filter(is_meant).collect::<Vec<_>>()[..] {
        [] => Err(StoreError::Unknown(name.to_owned())),
        [key] => {
            let from_it = by(&|record| record.image == *key);
            Ok((*key, from_it.into_iter().map(|(file, _)| file).collect()))
        }
        ref several => {
            let found = several.iter().map(|key| key.to_string()).collect();
            Err(StoreError::Ambiguous(name.to_owned(), found))
        }
    }
}
