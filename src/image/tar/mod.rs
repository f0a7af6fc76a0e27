//! Reads tar archives: v7, ustar, star's prefix, GNU and PAX, as tar(5) of
//! libarchive describes them. Touches no file system and judges no name.
//!
//! A reader of our own because the input is hostile: lengths are bounded before
//! memory is taken, where known readers understand a header differently it is
//! refused, and values of PAX records may hold newlines and all kinds of sparse
//! files are read, which the `tar` crate does not do.

mod header;
mod pax;
mod sparse;

use std::io::{self, BufRead};

use self::header::{BLOCK, Block, Header};
use self::pax::Records;
pub use self::sparse::{Map, Range};
use super::layer::{LayerError, Limit, Limits, Reason, escape};

/// Largest extended header that is read: names and attributes of one entry.
const EXTENDED_HEADER: u64 = 1 << 20;

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Time {
    /// Seconds, rounded down.
    pub seconds: i64,
    /// Nanoseconds to add.
    pub nanoseconds: u32,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file; its data follow.
    File(Map),
    /// Another name for a file that has gone before.
    HardLink(Vec<u8>),
    /// A symbolic link with its target.
    SymbolicLink(Vec<u8>),
    /// A character device: major and minor number.
    Character(u32, u32),
    /// A block device: major and minor number.
    Block(u32, u32),
    /// A directory.
    Directory,
    /// A FIFO.
    Fifo,
}

/// One entry of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, as it is written there.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// The rest.
    pub attributes: Attributes,
}

/// What an entry of any kind has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of modification.
    pub mtime: Time,
    /// Extended attributes, in their order; also those of other vendors, whose
    /// names are no names of Linux.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// An error that names this entry.
    pub fn error(&self, reason: Reason) -> LayerError {
        LayerError { entry: Some(escape(&self.name)), reason }
    }
}

/// Whether an archive must say that it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndMarker {
    /// By a block of zeroes: nothing else tells that an archive was cut off
    /// between two entries.
    Required,
    /// Some writers leave it out; a digest tells then.
    Optional,
}

/// Reads the entries of an archive one after the other.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    limits: Limits,
    end_marker: EndMarker,
    /// Bytes taken from the stream.
    bytes: u64,
    /// Bytes of the entry's data that are still in the stream, and of the
    /// padding after them.
    data: u64,
    padding: u64,
    global: Records,
}

/// What comes before an entry and belongs to it.
#[derive(Default)]
struct Extension {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

fn malformed(what: impl Into<String>) -> Reason {
    Reason::Malformed(what.into())
}

impl<R: BufRead> Reader<R> {
    /// Starts at the beginning of an archive.
    pub fn new(stream: R, limits: Limits, end_marker: EndMarker) -> Self {
        Self {
            stream,
            limits,
            end_marker,
            bytes: 0,
            data: 0,
            padding: 0,
            global: Records::default(),
        }
    }

    /// Bytes read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next entry, or none at the end. What was not read of the entry
    /// before is skipped.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, LayerError> {
        self.skip_data().map_err(LayerError::blob)?;
        let mut extension = Extension::default();
        loop {
            let start = self.bytes;
            let located = |reason| match reason {
                Reason::Malformed(what) => {
                    LayerError::blob(malformed(format!("header at byte {start}: {what}")))
                }
                other => LayerError::blob(other),
            };
            let Some(block) = self.header().map_err(located)? else {
                if !extension.is_empty() {
                    return Err(located(malformed("describes an entry that does not follow")));
                }
                return Ok(None);
            };
            let header = Header::new(&block).map_err(|what| located(malformed(what)))?;
            match header.typeflag() {
                b'L' => {
                    let name = self.long_text(&header)?;
                    set_once(&mut extension.name, name).map_err(located)?;
                }
                b'K' => {
                    let link = self.long_text(&header)?;
                    set_once(&mut extension.link, link).map_err(located)?;
                }
                b'x' => {
                    let records = self.records(&header)?;
                    set_once(&mut extension.records, records).map_err(located)?;
                }
                // The name of the volume, as `tar --label` writes it.
                b'V' if header.size() == Ok(0) => {}
                b'g' => self.global = self.records(&header)?.into_global().map_err(located)?,
                _ => return self.entry(&header, extension).map(Some),
            }
        }
    }

    /// Hands the next `length` bytes of the entry's data over, in pieces.
    pub fn read_data(
        &mut self,
        length: u64,
        sink: impl FnMut(&[u8]) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        debug_assert!(length <= self.data, "more than the entry has");
        self.pull(length, sink)?;
        self.data -= length;
        Ok(())
    }

    /// Reads on to the end of the stream: what follows the end of the archive
    /// is padding, and counts for the digest.
    pub fn finish(mut self) -> Result<u64, LayerError> {
        loop {
            match self.peek().map_err(LayerError::blob)? {
                0 => return Ok(self.bytes),
                length => self.pull(length as u64, |_| Ok(())).map_err(LayerError::blob)?,
            }
        }
    }

    /// Bytes that can be had at once; 0 at the end of the stream.
    fn peek(&mut self) -> Result<usize, Reason> {
        loop {
            match self.stream.fill_buf() {
                Ok(piece) => return Ok(piece.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Reason::Read(error)),
            }
        }
    }

    fn pull(
        &mut self,
        length: u64,
        mut sink: impl FnMut(&[u8]) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        if self.bytes.saturating_add(length) > self.limits.bytes {
            return Err(Reason::Limit(Limit::Bytes, self.limits.bytes));
        }
        let mut left = length;
        while left > 0 {
            if self.peek()? == 0 {
                return Err(malformed(format!("the archive ends {left} bytes too early")));
            }
            let piece = self.stream.fill_buf().map_err(Reason::Read)?;
            let size = piece.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            sink(&piece[..size])?;
            self.stream.consume(size);
            self.bytes += size as u64;
            left -= size as u64;
        }
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), Reason> {
        let (data, padding) = (self.data, self.padding);
        (self.data, self.padding) = (0, 0);
        self.pull(data, |_| Ok(()))?;
        // Who leaves the end marker out may leave out the last padding too, as
        // `umoci insert` does.
        if padding > 0 && self.peek()? == 0 && self.end_marker == EndMarker::Optional {
            return Ok(());
        }
        self.pull(padding, |_| Ok(()))
    }

    fn block(&mut self) -> Result<Block, Reason> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        self.pull(BLOCK as u64, |piece| {
            block[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
            Ok(())
        })?;
        Ok(block)
    }

    /// The next header that is not part of the end.
    fn header(&mut self) -> Result<Option<Block>, Reason> {
        if self.peek()? == 0 {
            return match self.end_marker {
                EndMarker::Optional => Ok(None),
                EndMarker::Required => Err(malformed("the archive ends without an end marker")),
            };
        }
        let block = self.block()?;
        if block != [0; BLOCK] {
            return Ok(Some(block));
        }
        // Two of them are due; of old some writers wrote one.
        if self.peek()? != 0 && self.block()? != [0; BLOCK] {
            return Err(malformed("a single block of zeroes, and entries after it"));
        }
        Ok(None)
    }

    /// Data of an extended header, with nothing of it left in the stream.
    fn extended(&mut self, size: u64) -> Result<Vec<u8>, Reason> {
        let mut data = Vec::new();
        self.pull(size, |piece| {
            data.extend_from_slice(piece);
            Ok(())
        })?;
        self.pull(padding(size), |_| Ok(()))?;
        Ok(data)
    }

    /// The name or target that a GNU `L` or `K` header brings.
    fn long_text(&mut self, header: &Header<'_>) -> Result<Vec<u8>, LayerError> {
        let error = |reason| header.error(reason);
        let size = header.size().map_err(|what| error(malformed(what)))?;
        if size > self.limits.path as u64 + 1 {
            let shown = self.extended(size.min(BLOCK as u64)).map_err(error)?;
            return Err(LayerError {
                entry: Some(escape(&shown)),
                reason: Reason::Limit(Limit::Path, self.limits.path as u64),
            });
        }
        let mut text = self.extended(size).map_err(error)?;
        if text.last() == Some(&0) {
            text.pop();
        }
        Ok(text)
    }

    fn records(&mut self, header: &Header<'_>) -> Result<Records, LayerError> {
        let error = |reason| header.error(reason);
        let size = header.size().map_err(|what| error(malformed(what)))?;
        if size > EXTENDED_HEADER {
            let what = format!("an extended header of {size} bytes, of at most {EXTENDED_HEADER}");
            return Err(error(Reason::Refused(what)));
        }
        let data = self.extended(size).map_err(error)?;
        Records::parse(&data).map_err(|what| error(malformed(what)))
    }

    fn entry(&mut self, header: &Header<'_>, extension: Extension) -> Result<Entry, LayerError> {
        let mut records = extension.records.unwrap_or_default();
        records.default_to(&self.global);
        let path = records.sparse.name.take().or(records.path.take());
        let both = (extension.name.is_some() && path.is_some())
            || (extension.link.is_some() && records.link_path.is_some());
        let name = path.or(extension.name).unwrap_or_else(|| header.name());
        let link = records.link_path.take().or(extension.link);
        let link = link.unwrap_or_else(|| header.link_name().to_vec());
        let entry = Some(escape(&name));
        self.describe(header, name, link, records, both)
            .map_err(|reason| LayerError { entry, reason })
    }

    fn describe(
        &mut self,
        header: &Header<'_>,
        name: Vec<u8>,
        link: Vec<u8>,
        records: Records,
        both: bool,
    ) -> Result<Entry, Reason> {
        if both {
            return Err(malformed("a name by both a GNU header and a PAX record"));
        }
        if name.contains(&0) || link.contains(&0) {
            return Err(malformed("a name with a zero byte in it"));
        }
        for text in [&name, &link] {
            if text.len() > self.limits.path {
                return Err(Reason::Limit(Limit::Path, self.limits.path as u64));
            }
        }
        let size = records.size.map_or_else(|| header.size(), Ok).map_err(malformed)?;
        let kind = self.kind(header, &name, link, size, &records)?;
        let attributes = Attributes {
            mode: header.mode().map_err(malformed)?,
            uid: id("owner", records.uid.map_or_else(|| header.uid(), Ok))?,
            gid: id("group", records.gid.map_or_else(|| header.gid(), Ok))?,
            mtime: records.mtime.map_or_else(|| header.mtime(), Ok).map_err(malformed)?,
            xattrs: records.xattrs,
        };
        Ok(Entry { name, kind, attributes })
    }

    fn kind(
        &mut self,
        header: &Header<'_>,
        name: &[u8],
        link: Vec<u8>,
        size: u64,
        records: &Records,
    ) -> Result<Kind, Reason> {
        let device = || header.device().map_err(malformed);
        let kind = match header.typeflag() {
            // How v7, which has no directories, writes one.
            0 | b'0' if name.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' => return self.file(size, records),
            b'S' => return self.gnu_sparse(header, size),
            // All readers agree that none follow, whatever the size.
            b'1' => return Ok(Kind::HardLink(link)),
            b'2' => Kind::SymbolicLink(link),
            b'3' => device().map(|(major, minor)| Kind::Character(major, minor))?,
            b'4' => device().map(|(major, minor)| Kind::Block(major, minor))?,
            b'5' => Kind::Directory,
            b'6' => Kind::Fifo,
            other => {
                let what = format!("an entry of the unknown type `{}`", other.escape_ascii());
                return Err(Reason::Refused(what));
            }
        };
        // Some readers skip them, others take them for headers.
        if size != 0 {
            return Err(malformed(format!("{size} bytes of data, where there cannot be any")));
        }
        Ok(kind)
    }

    fn start_data(&mut self, size: u64) {
        (self.data, self.padding) = (size, padding(size));
    }

    fn file(&mut self, size: u64, records: &Records) -> Result<Kind, Reason> {
        self.start_data(size);
        let map = match records.sparse.layout().map_err(malformed)? {
            sparse::Layout::Dense => Map::dense(size),
            sparse::Layout::InRecords(real_size, numbers) => {
                Map::new(real_size, numbers, self.data).map_err(malformed)?
            }
            sparse::Layout::InData(real_size) => {
                let numbers = self.map_in_data()?;
                Map::new(real_size, &numbers, self.data).map_err(malformed)?
            }
        };
        Ok(Kind::File(map))
    }

    /// The map before the data of PAX format 1.0: decimal numbers, each with a
    /// newline, the first their count in pairs, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<u64>, Reason> {
        let mut parser = sparse::MapParser::default();
        while !parser.is_complete() {
            if self.data < BLOCK as u64 {
                return Err(malformed("a sparse map longer than the data"));
            }
            let block = self.block()?;
            self.data -= BLOCK as u64;
            parser.feed(&block).map_err(malformed)?;
        }
        Ok(parser.into_numbers())
    }

    fn gnu_sparse(&mut self, header: &Header<'_>, size: u64) -> Result<Kind, Reason> {
        let mut numbers = Vec::new();
        let (real_size, mut more) = header.sparse(&mut numbers).map_err(malformed)?;
        while more {
            let block = self.block()?;
            more = header::sparse_extension(&block, &mut numbers).map_err(malformed)?;
        }
        self.start_data(size);
        Map::new(real_size, &numbers, size).map(Kind::File).map_err(malformed)
    }
}

impl Extension {
    fn is_empty(&self) -> bool {
        self.name.is_none() && self.link.is_none() && self.records.is_none()
    }
}

/// Readers differ in which of two they believe.
fn set_once<T>(slot: &mut Option<T>, value: T) -> Result<(), Reason> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(malformed("a second extended header of one kind for an entry")),
    }
}

/// The largest number is the kernel's "leave as it is".
fn id(what: &str, number: Result<u64, String>) -> Result<u32, Reason> {
    let number = number.map_err(malformed)?;
    match u32::try_from(number) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(malformed(format!("{what} {number}, which no file can have"))),
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}
