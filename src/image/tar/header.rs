//! The block of 512 bytes before each entry.

use std::ops::Range;

use super::Time;
use super::sparse::MAX_NUMBERS;
use crate::image::layer::{LayerError, Reason, escape};

/// Size of a block; everything in an archive is padded to it.
pub(super) const BLOCK: usize = 512;

pub(super) type Block = [u8; BLOCK];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = 100..108;
const UID: Range<usize> = 108..116;
const GID: Range<usize> = 116..124;
const SIZE: Range<usize> = 124..136;
const MTIME: Range<usize> = 136..148;
const CHECKSUM: Range<usize> = 148..156;
const TYPEFLAG: usize = 156;
const LINK_NAME: Range<usize> = 157..257;
const MAGIC: Range<usize> = 257..263;
const MAJOR: Range<usize> = 329..337;
const MINOR: Range<usize> = 337..345;
const PREFIX: Range<usize> = 345..500;

// star keeps times where ustar has the end of the prefix.
const STAR_PREFIX: Range<usize> = 345..476;
const STAR_MAGIC: Range<usize> = 508..512;

// GNU has these where ustar has the prefix.
const SPARSE: Range<usize> = 386..482;
const IS_EXTENDED: usize = 482;
const REAL_SIZE: Range<usize> = 483..495;

// The blocks that continue a GNU sparse map.
const MORE_SPARSE: Range<usize> = 0..504;
const MORE_IS_EXTENDED: usize = 504;

/// Bytes of one number of a sparse map.
const NUMBER: usize = 12;

/// A header with a valid checksum.
pub(super) struct Header<'a>(&'a Block);

impl<'a> Header<'a> {
    pub(super) fn new(block: &'a Block) -> Result<Self, String> {
        let stored = number(&block[CHECKSUM]).ok_or("no checksum: this is not a tar archive")?;
        let sum = |value: fn(u8) -> i64| -> i64 {
            let blank = CHECKSUM.len() as i64 * i64::from(b' ');
            let rest = block[..CHECKSUM.start].iter().chain(&block[CHECKSUM.end..]);
            rest.map(|byte| value(*byte)).sum::<i64>() + blank
        };
        // Old writers summed signed characters.
        if stored != sum(i64::from) && stored != sum(|byte| i64::from(byte as i8)) {
            return Err(format!("the checksum is {} where {stored} is written", sum(i64::from)));
        }
        Ok(Self(block))
    }

    pub(super) fn error(&self, reason: Reason) -> LayerError {
        LayerError { entry: Some(escape(&self.name())), reason }
    }

    pub(super) fn typeflag(&self) -> u8 {
        self.0[TYPEFLAG]
    }

    pub(super) fn name(&self) -> Vec<u8> {
        let name = text(&self.0[NAME]);
        let prefix = match &self.0[MAGIC] {
            b"ustar\0" if &self.0[STAR_MAGIC] == b"tar\0" => text(&self.0[STAR_PREFIX]),
            b"ustar\0" => text(&self.0[PREFIX]),
            _ => b"",
        };
        match prefix {
            b"" => name.to_vec(),
            prefix => [prefix, b"/", name].concat(),
        }
    }

    pub(super) fn link_name(&self) -> &[u8] {
        text(&self.0[LINK_NAME])
    }

    pub(super) fn mode(&self) -> Result<u32, String> {
        // Some writers leave the bits of the type in.
        Ok((self.unsigned("mode", MODE)? & 0o7777) as u32)
    }

    pub(super) fn uid(&self) -> Result<u64, String> {
        self.unsigned("owner", UID)
    }

    pub(super) fn gid(&self) -> Result<u64, String> {
        self.unsigned("group", GID)
    }

    pub(super) fn size(&self) -> Result<u64, String> {
        self.unsigned("size", SIZE)
    }

    pub(super) fn mtime(&self) -> Result<Time, String> {
        let seconds = number(&self.0[MTIME]).ok_or_else(|| self.invalid("time", MTIME))?;
        Ok(Time { seconds, nanoseconds: 0 })
    }

    /// Major and minor number, each within what the kernel can hold.
    pub(super) fn device(&self) -> Result<(u32, u32), String> {
        let bounded = |what, range, bits: u32| {
            let value = self.unsigned(what, range)?;
            match value >> bits {
                0 => Ok(value as u32),
                _ => Err(format!("{what} {value}, which no device has")),
            }
        };
        Ok((bounded("major number", MAJOR, 12)?, bounded("minor number", MINOR, 20)?))
    }

    /// Size of the file that a GNU sparse entry is, and whether its map goes
    /// on in the next block.
    pub(super) fn sparse(&self, numbers: &mut Vec<u64>) -> Result<(u64, bool), String> {
        if &self.0[MAGIC] != b"ustar " {
            return Err("a sparse file whose header is not of GNU's format".to_owned());
        }
        sparse_numbers(&self.0[SPARSE], numbers)?;
        Ok((self.unsigned("size", REAL_SIZE)?, self.0[IS_EXTENDED] != 0))
    }

    fn unsigned(&self, what: &str, range: Range<usize>) -> Result<u64, String> {
        number(&self.0[range.clone()])
            .and_then(|value| u64::try_from(value).ok())
            .ok_or_else(|| self.invalid(what, range))
    }

    fn invalid(&self, what: &str, range: Range<usize>) -> String {
        format!("the {what} `{}` is no number", self.0[range].escape_ascii())
    }
}

/// Reads a block that continues a GNU sparse map; tells whether one more does.
pub(super) fn sparse_extension(block: &Block, numbers: &mut Vec<u64>) -> Result<bool, String> {
    sparse_numbers(&block[MORE_SPARSE], numbers)?;
    Ok(block[MORE_IS_EXTENDED] != 0)
}

fn sparse_numbers(field: &[u8], numbers: &mut Vec<u64>) -> Result<(), String> {
    // A pair that begins with a zero byte is unused, and ends the map.
    for pair in field.chunks_exact(2 * NUMBER).take_while(|pair| pair[0] != 0) {
        for field in pair.chunks_exact(NUMBER) {
            let value = number(field).and_then(|value| u64::try_from(value).ok());
            let value =
                value.ok_or_else(|| format!("`{}` in a sparse map", field.escape_ascii()))?;
            numbers.push(value);
        }
    }
    if numbers.len() > MAX_NUMBERS {
        return Err(format!("a sparse map of more than {} ranges", MAX_NUMBERS / 2));
    }
    Ok(())
}

/// A field's text: up to its first zero byte, if it has one.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// A field's number: octal digits, padded with blanks or zero bytes; or, with
/// the highest bit set, GNU's big-endian two's complement.
fn number(field: &[u8]) -> Option<i64> {
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // The bit below the mark is the sign.
        let high = i128::from(((first << 1) as i8) >> 1);
        let value = rest.iter().fold(high, |value, byte| value << 8 | i128::from(*byte));
        return i64::try_from(value).ok();
    }
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte)).unwrap_or(field.len());
    let digits = field[start..].split(is_padding).next().unwrap_or_default();
    if !field[start + digits.len()..].iter().all(is_padding) {
        return None;
    }
    digits.iter().try_fold(0, |value: i64, digit| match digit {
        b'0'..=b'7' => Some(value << 3 | i64::from(digit - b'0')),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(number(b"777777777777"), Some(0o777_777_777_777));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(number(&[0xff; 12]), Some(-1));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
    }

    #[test]
    fn anything_else_is_no_number() {
        for field in [&b"00648\0\0\0"[..], b"12 34\0\0\0", b"-1\0\0\0\0\0\0", b"0x1f\0\0\0\0"] {
            assert_eq!(number(field), None, "{}", field.escape_ascii());
        }
        assert_eq!(number(b"\x80\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff"), None);
    }
}
