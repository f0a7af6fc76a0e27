//! A tar archive as a directory of members: its headers are read once, and
//! what it holds is read in place. Nothing is unpacked here, and no name of a
//! member is ever used as a path.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::error::ImageError;
use super::files::{Blob, Section, shown};
use super::layer::Limits;
use super::tar::{EndMarker, Entry, Kind, Map, Reader};

/// Most members of an archive: an image has a few files per layer.
const MEMBERS: usize = 100_000;

/// Most links followed from one name.
const LINKS: usize = 8;

/// A member that can be asked for by name.
#[derive(Debug)]
enum Member {
    /// Where its bytes are.
    File { offset: u64, size: u64 },
    /// The name of another one, from the top of the archive.
    Link(String),
}

/// An archive with the index of its members.
#[derive(Debug)]
pub(super) struct Archive {
    blob: Blob,
    members: HashMap<String, Member>,
}

impl Archive {
    /// Reads every header of an archive that is a file of its own.
    pub(super) fn scan(file: &File, blob: Blob) -> Result<Self, ImageError> {
        let mut archive = Self { blob, members: HashMap::new() };
        let mut position = 0;
        while let Some((entry, data)) = archive.entry(file, position)? {
            let size = match &entry.kind {
                Kind::File(map) => map.size,
                _ => 0,
            };
            let Some(end) = data.checked_add(size).filter(|end| *end <= archive.blob.size) else {
                return Err(archive.invalid(format!(
                    "cut short: {} bytes of `{}` are missing",
                    data.saturating_add(size) - archive.blob.size,
                    lossy(&entry.name)
                )));
            };
            archive.add(entry, data, size)?;
            // The padding of the last member may be missing.
            position = end.next_multiple_of(512);
        }
        Ok(archive)
    }

    /// Whether an archive begins as those of images do. Every tool that writes
    /// one puts in it what is named below and nothing else.
    pub(super) fn is_image(file: &File, blob: Blob) -> Result<bool, ImageError> {
        let archive = Self { blob, members: HashMap::new() };
        let Some((first, _)) = archive.entry(file, 0)? else { return Ok(false) };
        let top = within("", &first.name).unwrap_or_default();
        let top = top.split('/').next().unwrap_or_default();
        let stem = top.split('.').next().unwrap_or_default();
        let is_digest = stem.len() == 64 && stem.bytes().all(|digit| digit.is_ascii_hexdigit());
        let known = ["blobs", "index.json", "manifest.json", "oci-layout", "repositories"];
        Ok(is_digest || known.contains(&top))
    }

    /// The entry at a position, and where its data begin; `None` at the end of
    /// the archive. A reader for each, so that data are skipped unread.
    fn entry(&self, file: &File, position: u64) -> Result<Option<(Entry, u64)>, ImageError> {
        let section = Section::new(file, position, self.blob.size.max(position));
        let stream = BufReader::with_capacity(1024, section);
        let mut reader = Reader::new(stream, Limits::default(), EndMarker::Optional);
        match reader.next_entry() {
            Ok(entry) => Ok(entry.map(|entry| (entry, position + reader.bytes()))),
            Err(error) if position == 0 => Err(self.invalid(format!("no tar archive: {error}"))),
            Err(error) => Err(self.invalid(format!("from byte {position} on: {error}"))),
        }
    }

    fn add(&mut self, entry: Entry, offset: u64, size: u64) -> Result<(), ImageError> {
        let Some(name) = within("", &entry.name) else {
            let name = lossy(&entry.name);
            return Err(self.invalid(format!("member `{name}` with a name that leads outside")));
        };
        let link = |from: &str, target: &[u8]| match within(from, target) {
            Some(target) => Ok(Member::Link(target)),
            None => {
                let target = lossy(target);
                Err(self.invalid(format!("member `{name}` links to `{target}`, which is outside")))
            }
        };
        let directory = || name.rsplit_once('/').map_or("", |(up, _)| up);
        let member = match &entry.kind {
            Kind::Directory => return Ok(()),
            Kind::File(map) if *map == Map::dense(size) => Member::File { offset, size },
            Kind::SymbolicLink(target) => link(directory(), target)?,
            Kind::HardLink(target) => link("", target)?,
            Kind::File(_) | Kind::Character(..) | Kind::Block(..) | Kind::Fifo => {
                return Err(self.invalid(format!(
                    "member `{name}` is a device, a FIFO or a file with holes, expected plain \
                     files, directories and links"
                )));
            }
        };
        if self.members.len() == MEMBERS {
            return Err(self.invalid(format!("more than {MEMBERS} members")));
        }
        match self.members.insert(name.clone(), member) {
            None => Ok(()),
            // Readers disagree on which of the two counts.
            Some(_) => Err(self.invalid(format!("member `{name}` twice"))),
        }
    }

    /// Where the bytes of a member are, links followed inside of the archive.
    pub(super) fn find(&self, name: &str) -> Result<Option<Blob>, ImageError> {
        let Some(mut at) = within("", name.as_bytes()) else {
            return Err(self.invalid(format!("the name `{name}` leads outside")));
        };
        for _ in 0..=LINKS {
            match self.members.get(&at) {
                None => return Ok(None),
                Some(Member::File { offset, size }) => {
                    return Ok(Some(self.blob.part(*offset, *size)));
                }
                Some(Member::Link(target)) => at.clone_from(target),
            }
        }
        Err(self.invalid(format!("more than {LINKS} links behind `{name}`")))
    }

    /// The archive's own file.
    pub(super) fn path(&self) -> &Path {
        &self.blob.path
    }

    fn invalid(&self, problem: String) -> ImageError {
        ImageError::invalid(shown(&self.blob.path), problem)
    }
}

fn lossy(name: &[u8]) -> String {
    String::from_utf8_lossy(name).escape_debug().to_string()
}

/// A name seen from a directory of the archive, without `.` and `..`; `None`
/// when it is absolute, leads out, or is not UTF-8.
fn within(directory: &str, name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    if name.starts_with('/') || name.contains('\0') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(name.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn names_stay_inside() {
        assert_eq!(within("", b"./blobs//sha256/x").as_deref(), Some("blobs/sha256/x"));
        assert_eq!(within("a/b", b"../x.tar").as_deref(), Some("a/x.tar"));
        assert_eq!(within("", b"a/../b").as_deref(), Some("b"));
        for outside in [&b"../x"[..], b"a/../../x", b"/etc/passwd", b"a\0b", b"\xff"] {
            assert_eq!(within("", outside), None, "{outside:?}");
        }
        assert_eq!(within("a", b"../../x"), None);
    }
}
