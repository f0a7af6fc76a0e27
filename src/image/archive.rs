//! A tar archive as a directory of members: its headers are read once, and
//! what it holds is read in place. Nothing is unpacked here, and no name of a
//! member is ever used as a path.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::error::ImageError;
use super::files::{self, Blob};

const BLOCK: u64 = 512;

/// Most members of an archive: an image has a few files per layer.
const MEMBERS: usize = 100_000;

/// Largest extension header, in bytes; it holds a name or two.
const EXTENSION: u64 = 64 << 10;

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

/// A member as it is written.
struct Found {
    kind: tar::EntryType,
    name: Vec<u8>,
    link: Vec<u8>,
    offset: u64,
    size: u64,
}

/// What extension headers say about the member that follows them.
#[derive(Debug, Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Archive {
    /// Reads every header of an archive that is a file of its own.
    pub(super) fn scan(file: &File, blob: Blob) -> Result<Self, ImageError> {
        let mut archive = Self { blob, members: HashMap::new() };
        let mut position = 0;
        while let Some((member, next)) = archive.next(file, position)? {
            archive.add(member)?;
            position = next;
        }
        Ok(archive)
    }

    /// Whether an archive begins as those of images do. Every tool that writes
    /// one puts in it what is named below and nothing else.
    pub(super) fn is_image(file: &File, blob: Blob) -> Result<bool, ImageError> {
        let archive = Self { blob, members: HashMap::new() };
        let Some((first, _)) = archive.next(file, 0)? else { return Ok(false) };
        let top = within("", &first.name).unwrap_or_default();
        let top = top.split('/').next().unwrap_or_default();
        let stem = top.split('.').next().unwrap_or_default();
        let is_digest = stem.len() == 64 && stem.bytes().all(|digit| digit.is_ascii_hexdigit());
        let known = ["blobs", "index.json", "manifest.json", "oci-layout", "repositories"];
        Ok(is_digest || known.contains(&top))
    }

    /// The member at a position, and the position of the one behind it; `None`
    /// at the end of the archive.
    fn next(&self, file: &File, from: u64) -> Result<Option<(Found, u64)>, ImageError> {
        let mut extension = Extension::default();
        let mut position = from;
        while let Some(header) = self.header(file, position)? {
            let offset = position + BLOCK;
            let kind = header.entry_type();
            let is_extension = matches!(
                kind,
                tar::EntryType::GNULongName
                    | tar::EntryType::GNULongLink
                    | tar::EntryType::XHeader
                    | tar::EntryType::XGlobalHeader
            );
            let size = match extension.size.filter(|_| !is_extension) {
                Some(size) => size,
                None => header
                    .entry_size()
                    .map_err(|_| self.invalid(format!("no size in the header at {position}")))?,
            };
            // The padding of the last member may be missing.
            if offset.checked_add(size).is_none_or(|end| end > self.blob.size) {
                return Err(self.cut_short());
            }
            position = offset + size.next_multiple_of(BLOCK);
            match kind {
                tar::EntryType::GNULongName => {
                    extension.name = Some(self.text(file, offset, size)?);
                }
                tar::EntryType::GNULongLink => {
                    extension.link = Some(self.text(file, offset, size)?);
                }
                tar::EntryType::XHeader => self.extend(file, offset, size, &mut extension)?,
                tar::EntryType::XGlobalHeader => {
                    let mut global = Extension::default();
                    self.extend(file, offset, size, &mut global)?;
                    if global.name.is_some() || global.link.is_some() || global.size.is_some() {
                        return Err(
                            self.invalid("a global header that names members or sizes".to_owned())
                        );
                    }
                }
                kind => {
                    let name = extension.name.unwrap_or_else(|| header.path_bytes().into_owned());
                    let link =
                        extension.link.or_else(|| Some(header.link_name_bytes()?.into_owned()));
                    let link = link.unwrap_or_default();
                    return Ok(Some((Found { kind, name, link, offset, size }, position)));
                }
            }
        }
        Ok(None)
    }

    /// The header at a position; `None` at the end of the archive.
    fn header(&self, file: &File, position: u64) -> Result<Option<tar::Header>, ImageError> {
        // Some writers end with the last member, without the two empty blocks.
        if position >= self.blob.size {
            return Ok(None);
        }
        let mut header = tar::Header::new_old();
        let block = header.as_mut_bytes();
        match file.read_exact_at(block, position) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(self.cut_short());
            }
            Err(error) => return Err(ImageError::read(&self.blob.path, error)),
        }
        if block.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let sum: u32 = block
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) })
            .sum();
        if header.cksum().ok() == Some(sum) {
            return Ok(Some(header));
        }
        Err(match position {
            0 => self.invalid("neither a tar archive nor a directory".to_owned()),
            _ => self.invalid(format!("no tar header at byte {position}")),
        })
    }

    fn add(&mut self, found: Found) -> Result<(), ImageError> {
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).escape_debug().to_string();
        let Some(name) = within("", &found.name) else {
            let name = lossy(&found.name);
            return Err(self.invalid(format!("member `{name}` with a name that leads outside")));
        };
        let link = |from: &str| match within(from, &found.link) {
            Some(target) => Ok(Member::Link(target)),
            None => {
                let target = lossy(&found.link);
                Err(self.invalid(format!("member `{name}` links to `{target}`, which is outside")))
            }
        };
        let member = match found.kind {
            tar::EntryType::Directory => return Ok(()),
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                Member::File { offset: found.offset, size: found.size }
            }
            tar::EntryType::Symlink => link(name.rsplit_once('/').map_or("", |(up, _)| up))?,
            tar::EntryType::Link => link("")?,
            kind => {
                let kind = char::from(kind.as_byte()).escape_default();
                return Err(self.invalid(format!(
                    "member `{name}` of type `{kind}`, expected files, directories and links"
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

    /// Reads the records of a PAX header, pax(1).
    fn extend(
        &self,
        file: &File,
        data: u64,
        size: u64,
        extension: &mut Extension,
    ) -> Result<(), ImageError> {
        let text = self.bytes(file, data, size)?;
        for record in tar::PaxExtensions::new(&text) {
            let record =
                record.map_err(|_| self.invalid(format!("malformed PAX header at {data}")))?;
            let value = record.value_bytes();
            match record.key_bytes() {
                b"path" => extension.name = Some(value.to_owned()),
                b"linkpath" => extension.link = Some(value.to_owned()),
                b"size" => {
                    let size = record.value().ok().and_then(|text| text.parse().ok());
                    extension.size =
                        Some(size.ok_or_else(|| {
                            self.invalid(format!("malformed PAX size at {data}"))
                        })?);
                }
                key if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.invalid("a sparse member, expected plain files".to_owned()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// A GNU long name: bytes up to a NUL.
    fn text(&self, file: &File, data: u64, size: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = self.bytes(file, data, size)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        bytes.truncate(end);
        Ok(bytes)
    }

    fn bytes(&self, file: &File, data: u64, size: u64) -> Result<Vec<u8>, ImageError> {
        if size > EXTENSION {
            return Err(self.invalid(format!(
                "an extension header of {size} bytes, expected at most {EXTENSION}"
            )));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, data)
            .map_err(|error| ImageError::read(&self.blob.path, error))?;
        Ok(bytes)
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

    fn cut_short(&self) -> ImageError {
        self.invalid(format!("cut short: a member goes on after the end at {}", self.blob.size))
    }

    fn invalid(&self, problem: String) -> ImageError {
        ImageError::invalid(files::shown(&self.blob.path), problem)
    }
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
