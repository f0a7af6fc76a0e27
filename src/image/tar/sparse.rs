//! Files with holes: which parts of them the archive holds.

use super::header::BLOCK;
use super::pax::decimal;

/// Numbers of a map that are read, two for each range: what is in memory must
/// not be for the archive to choose.
pub(super) const MAX_NUMBERS: usize = 2 << 20;

/// A part of a file that is not a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// Where it begins in the file.
    pub offset: u64,
    /// Its bytes.
    pub length: u64,
}

/// Where the data of an entry belong in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    /// Size of the file.
    pub size: u64,
    /// In ascending order, without overlap, within the size, and together
    /// exactly the data in the archive.
    pub ranges: Vec<Range>,
}

impl Map {
    /// A file without holes.
    pub fn dense(size: u64) -> Self {
        Self { size, ranges: vec![Range { offset: 0, length: size }] }
    }

    /// From offsets and lengths in turn, and the bytes that the archive holds.
    pub(super) fn new(size: u64, numbers: &[u64], stored: u64) -> Result<Self, String> {
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err("a sparse map with an offset that has no length".to_owned());
        }
        let (mut end, mut total) = (0_u64, 0_u64);
        let mut ranges = Vec::new();
        for &[offset, length] in pairs {
            // tar(1) begins each range with a block of its own, Go does not.
            if length != 0 && total % BLOCK as u64 != 0 {
                return Err("a sparse map whose ranges do not fill their blocks".to_owned());
            }
            let next = offset.checked_add(length).filter(|next| *next <= size && offset >= end);
            end = next.ok_or_else(|| {
                format!("a sparse map with {length} bytes at {offset}: overlapping or outside")
            })?;
            total += length;
            if length != 0 {
                ranges.push(Range { offset, length });
            }
        }
        if total != stored {
            return Err(format!("a sparse map of {total} bytes, where {stored} are stored"));
        }
        Ok(Self { size, ranges })
    }
}

/// `GNU.sparse.*` records of an entry.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Records {
    pub(super) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    /// `size` of formats 0.0 and 0.1, `realsize` of 1.0.
    size: Option<u64>,
    map: Option<Vec<u64>>,
}

/// Where the map of a file is.
pub(super) enum Layout<'a> {
    /// The file has no holes.
    Dense,
    /// In the records; with the size of the file.
    InRecords(u64, &'a [u64]),
    /// Before the data; with the size of the file.
    InData(u64),
}

impl Records {
    /// `None` for a value that the keyword cannot have.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        match key {
            b"name" => self.name = Some(value.to_vec()),
            b"major" => self.major = Some(decimal(value)?),
            b"minor" => self.minor = Some(decimal(value)?),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"map" if value.is_empty() => self.map = Some(Vec::new()),
            b"map" => {
                let numbers = value.split(|byte| *byte == b',').map(decimal);
                self.map = Some(numbers.collect::<Option<_>>()?);
            }
            b"offset" | b"numbytes" => {
                let map = self.map.get_or_insert_default();
                if map.len().is_multiple_of(2) != (key == b"offset") {
                    return None;
                }
                map.push(decimal(value)?);
            }
            // The count of what the map lists anyway.
            b"numblocks" => drop(decimal(value)?),
            _ => return None,
        }
        Some(())
    }

    pub(super) fn layout(&self) -> Result<Layout<'_>, String> {
        let version = (self.major.unwrap_or(0), self.minor.unwrap_or(0));
        match (self.size, version, &self.map) {
            (None, _, None) if self.major.is_none() => Ok(Layout::Dense),
            (Some(size), (0, _), Some(map)) => Ok(Layout::InRecords(size, map)),
            (Some(size), (1, 0), None) => Ok(Layout::InData(size)),
            (_, (0, _) | (1, 0), _) => Err("a sparse file without size or map".to_owned()),
            (_, (major, minor), _) => {
                Err(format!("a sparse file of the unknown format {major}.{minor}"))
            }
        }
    }
}

/// Reads the map of format 1.0, block by block.
#[derive(Debug, Default)]
pub(super) struct MapParser {
    digits: Vec<u8>,
    numbers: Vec<u64>,
    expected: Option<usize>,
}

impl MapParser {
    pub(super) fn is_complete(&self) -> bool {
        self.expected == Some(self.numbers.len())
    }

    pub(super) fn into_numbers(self) -> Vec<u64> {
        self.numbers
    }

    pub(super) fn feed(&mut self, block: &[u8]) -> Result<(), String> {
        for &byte in block {
            if self.is_complete() {
                break;
            }
            if byte != b'\n' {
                self.digits.push(byte);
                continue;
            }
            let digits = std::mem::take(&mut self.digits);
            let value = decimal(&digits)
                .ok_or_else(|| format!("`{}` in a sparse map", super::escape(&digits)))?;
            if self.expected.is_some() {
                self.numbers.push(value);
                continue;
            }
            let count = usize::try_from(value).ok().and_then(|count| count.checked_mul(2));
            self.expected = count.filter(|count| *count <= MAX_NUMBERS);
            if self.expected.is_none() {
                return Err(format!("a sparse map of more than {} ranges", MAX_NUMBERS / 2));
            }
        }
        // No number has as many digits as a block.
        if self.digits.len() > 20 {
            return Err("a sparse map with a malformed number".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_must_be_exact() {
        let map = Map::new(5000, &[0, 512, 4096, 904, 5000, 0], 1416).unwrap();
        assert_eq!(map.ranges.len(), 2);
        assert!(Map::new(5000, &[0, 512, 256, 512], 1024).is_err(), "overlap");
        assert!(Map::new(5000, &[4096, 512, 0, 512], 1024).is_err(), "order");
        assert!(Map::new(5000, &[4608, 512], 512).is_err(), "outside");
        assert!(Map::new(u64::MAX, &[u64::MAX, 2], 2).is_err(), "overflow");
        assert!(Map::new(5000, &[0, 512], 1024).is_err(), "stored");
        assert!(Map::new(5000, &[0, 512, 1024], 512).is_err(), "odd");
        assert!(Map::new(5000, &[0, 100, 1024, 100], 200).is_err(), "blocks");
    }

    #[test]
    fn a_map_in_the_data_goes_over_blocks() {
        let mut parser = MapParser::default();
        parser.feed(b"2\n0\n51").unwrap();
        assert!(!parser.is_complete());
        parser.feed(b"2\n4096\n512\n\0\0").unwrap();
        assert!(parser.is_complete());
        assert_eq!(parser.into_numbers(), [0, 512, 4096, 512]);
        assert!(MapParser::default().feed(b"99999999\n").is_err());
        assert!(MapParser::default().feed(b"-1\n").is_err());
        assert!(MapParser::default().feed(&[b'1'; 512]).is_err());
    }

    #[test]
    fn offsets_and_lengths_come_in_turn() {
        let mut records = Records::default();
        assert_eq!(records.take(b"numbytes", b"1"), None);
        let mut records = Records::default();
        records.take(b"offset", b"1").unwrap();
        assert_eq!(records.take(b"offset", b"1"), None);
    }
}
