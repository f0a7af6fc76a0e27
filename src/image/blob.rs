//! From a blob to a directory: decompressed, hashed and unpacked at once, by
//! three threads.
//!
//! ```text
//!  blob ─▶ hash, decompress ──┬──▶ unpack      (the caller's thread)
//!                             └──▶ hash again  (unless the blob is not compressed)
//! ```

use std::io::{self, BufRead, Read};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

use nix::errno::Errno;

use super::compress::{Compression, Decoder};
use super::digest::{Digest, Hasher};
use super::layer::{Expected, LayerError, Limit, Limits, Options, RATIO_FLOOR, Reason, Unpacked};
use super::tar::{EndMarker, Reader};
use super::tree;
use crate::sys;

/// Bytes handed from thread to thread at once: few enough for the second level
/// cache of a processor.
const CHUNK: usize = 128 * 1024;

/// Chunks that may wait for a thread.
const WAITING: usize = 16;

/// Unpacks a layer below an empty directory and verifies it meanwhile.
///
/// `progress` is told the compressed bytes read so far, from another thread.
/// No thread is left when this returns. After an error the directory holds a
/// part of the layer, to be thrown away.
pub fn unpack_blob(
    blob: impl Read + Send,
    expected: &Expected,
    into: BorrowedFd<'_>,
    options: &Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Unpacked, LayerError> {
    // A digest tells as well that nothing is missing.
    let is_verified = expected.digest.is_some() || expected.diff_id.is_some();
    let end_marker = if is_verified { EndMarker::Optional } else { EndMarker::Required };

    let _threads = sys::Threads::announce();
    #[allow(clippy::disallowed_methods)]
    thread::scope(|scope| {
        let (to_unpack, unpacked) = sync_channel(WAITING);
        let (to_hash, hashed) = sync_channel(WAITING);
        let (empties, empty) = channel();
        let unpacked = Chunks::new(unpacked, empties.clone());
        let outputs = Outputs { to_unpack, to_hash, empty };
        let failed = |error: io::Error| {
            let errno = error.raw_os_error().map_or(Errno::EAGAIN, Errno::from_raw);
            LayerError::blob(Reason::System("start a thread", errno))
        };

        // Whoever is left alone by another ends by itself: the channels close.
        let hasher = thread::Builder::new()
            .spawn_scoped(scope, move || hash(&hashed, &empties))
            .map_err(failed)?;
        let decoder = thread::Builder::new()
            .spawn_scoped(scope, move || decode(blob, expected, options, progress, &outputs))
            .map_err(failed);
        let result = match &decoder {
            Ok(_) => tree::unpack_stream(unpacked, end_marker, into, options),
            Err(_) => Err(LayerError::blob(Reason::System("start a thread", Errno::EAGAIN))),
        };
        let decoded = decoder.map(thread::ScopedJoinHandle::join);
        let hashed = hasher.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let decoded = decoded?.unwrap_or_else(|panic| std::panic::resume_unwind(panic));

        let (summary, decoded) = match (result, decoded) {
            (Ok(summary), Ok(Some(decoded))) => (summary, decoded),
            (Err(error), Ok(_)) => return Err(error),
            (result, Err(reason)) => return Err(attribute(reason, result.err())),
            (Ok(_), Ok(None)) => return Err(LayerError::blob(Reason::Read(closed()))),
        };
        let diff_id = match decoded.compression {
            Compression::None => decoded.digest,
            Compression::Gzip | Compression::Zstd => hashed,
        };
        match expected.diff_id {
            Some(expected) if expected != diff_id => {
                Err(LayerError::blob(Reason::DiffId(expected, diff_id)))
            }
            _ => Ok(Unpacked { summary, size: decoded.size, digest: decoded.digest, diff_id }),
        }
    })
}

/// Reads as much of a blob as tells whether it begins as a layer does; what is
/// wrong further on is found when it is unpacked.
pub fn begin(blob: impl Read) -> Result<(), LayerError> {
    const BEGINNING: u64 = 4 << 20;
    let mut input = io::BufReader::with_capacity(4096, blob);
    let start = input.fill_buf().map_err(|error| LayerError::blob(Reason::Read(error)))?;
    if start.starts_with(b"\xfd7zXZ\0") || start.starts_with(b"BZh") {
        let what = "compressed in a way that is not read, expected gzip, zstd or nothing";
        return Err(LayerError::blob(Reason::Malformed(what.to_owned())));
    }
    let compression = Compression::detect(start);
    let stream = io::BufReader::new(Decoder::new(input, compression));
    let limits = Limits { bytes: BEGINNING, ..Limits::default() };
    match Reader::new(stream, limits, EndMarker::Optional).next_entry() {
        Err(LayerError { reason: Reason::Limit(Limit::Bytes, _), .. }) => Ok(()),
        begun => begun.map(drop),
    }
}

/// Names the entry at which the data broke off, where that says something.
fn attribute(reason: Reason, unpacking: Option<LayerError>) -> LayerError {
    let entry = match reason {
        Reason::Malformed(_) | Reason::Limit(..) => unpacking.and_then(|error| error.entry),
        _ => None,
    };
    LayerError { entry, reason }
}

fn closed() -> io::Error {
    io::Error::other("the data ended early")
}

/// A piece of the uncompressed archive; an empty one is its end.
type Chunk = Arc<Vec<u8>>;

/// Gives the memory of a chunk back when nobody else has it.
fn recycle(chunk: Chunk, empties: &Sender<Vec<u8>>) {
    if let Some(memory) = Arc::into_inner(chunk) {
        // The decoder may have ended already.
        drop(empties.send(memory));
    }
}

/// The thread that hashes the uncompressed archive.
fn hash(chunks: &Receiver<Chunk>, empties: &Sender<Vec<u8>>) -> Digest {
    let mut hasher = Hasher::default();
    for chunk in chunks {
        hasher.update(&chunk);
        recycle(chunk, empties);
    }
    hasher.finish()
}

/// The archive as the unpacking thread reads it.
struct Chunks {
    chunks: Receiver<Chunk>,
    empties: Sender<Vec<u8>>,
    current: Option<Chunk>,
    position: usize,
}

impl Chunks {
    fn new(chunks: Receiver<Chunk>, empties: Sender<Vec<u8>>) -> Self {
        Self { chunks, empties, current: None, position: 0 }
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        // The empty chunk at the end stays.
        let is_used_up = |chunk: &Chunk, position| !chunk.is_empty() && position == chunk.len();
        if self.current.as_ref().is_none_or(|chunk| is_used_up(chunk, self.position)) {
            if let Some(chunk) = self.current.take() {
                recycle(chunk, &self.empties);
            }
            self.current = Some(self.chunks.recv().map_err(|_| closed())?);
            self.position = 0;
        }
        Ok(self.current.as_ref().map_or(&[], |chunk| &chunk[self.position..]))
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

/// Where the decoder's chunks go, and where it gets memory back.
struct Outputs {
    to_unpack: SyncSender<Chunk>,
    to_hash: SyncSender<Chunk>,
    empty: Receiver<Vec<u8>>,
}

impl Outputs {
    fn memory(&self) -> Vec<u8> {
        self.empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK])
    }
}

/// What the decoder knows at the end.
struct Decoded {
    size: u64,
    digest: Digest,
    compression: Compression,
}

/// The thread that reads, hashes and decompresses the blob. None when the
/// unpacker did not want all of it.
fn decode(
    blob: impl Read,
    expected: &Expected,
    options: &Options,
    progress: &dyn Fn(u64),
    outputs: &Outputs,
) -> Result<Option<Decoded>, Reason> {
    let mut input = Input::new(blob, expected.size, progress);
    let result = detect(&mut input, expected)
        .and_then(|compression| decompress(&mut input, compression, options, outputs));
    let result = match (result, expected.digest) {
        (Ok(End::Unwanted), _) => return Ok(None),
        (Ok(End::Reached(compression)), _) => Ok(compression),
        // Data that are not what they should be need not make sense: then the
        // digest tells more.
        (Err(reason @ Reason::Malformed(_)), Some(_)) => {
            input.drain()?;
            Err(reason)
        }
        (Err(reason), _) => return Err(reason),
    };
    let (size, digest) = (input.hasher.bytes(), input.hasher.finish());
    match (expected.size, expected.digest) {
        (Some(expected), _) if size != expected => Err(Reason::Size(expected, size)),
        (_, Some(expected)) if digest != expected => Err(Reason::Digest(expected, digest)),
        _ => result.map(|compression| Some(Decoded { size, digest, compression })),
    }
}

fn detect(input: &mut Input<'_, impl Read>, expected: &Expected) -> Result<Compression, Reason> {
    let found = match input.fill_buf() {
        Ok(start) => Compression::detect(start),
        Err(error) => return Err(input.failure().unwrap_or(Reason::Read(error))),
    };
    match expected.compression {
        Some(expected) if expected != found => Err(Reason::Malformed(format!(
            "the data are {found}, their media type says {expected}"
        ))),
        _ => Ok(found),
    }
}

/// How decompressing has ended.
enum End {
    /// At the end of the data.
    Reached(Compression),
    /// Early: the unpacker has given up.
    Unwanted,
}

fn decompress<R: Read>(
    input: &mut Input<'_, R>,
    compression: Compression,
    options: &Options,
    outputs: &Outputs,
) -> Result<End, Reason> {
    let mut decoder = Decoder::new(&mut *input, compression);
    let mut total = 0_u64;
    let error = loop {
        let mut memory = outputs.memory();
        memory.resize(CHUNK, 0);
        let length = match fill(&mut decoder, &mut memory) {
            Ok(length) => length,
            Err(error) => break error,
        };
        memory.truncate(length);
        total += length as u64;
        let ratio = options.limits.ratio;
        let compressed = decoder.get_ref().hasher.bytes();
        if total > RATIO_FLOOR && total > compressed.saturating_mul(ratio) {
            return Err(Reason::Limit(Limit::Ratio, ratio));
        }
        let chunk = Arc::new(memory);
        if compression != Compression::None {
            // That thread ends after this one.
            drop(outputs.to_hash.send(Arc::clone(&chunk)));
        }
        if outputs.to_unpack.send(chunk).is_err() {
            return Ok(End::Unwanted);
        }
        if length == 0 {
            return Ok(End::Reached(compression));
        }
    };
    Err(input.failure().unwrap_or_else(|| {
        Reason::Malformed(format!("the {compression} data are damaged: {error}"))
    }))
}

/// Reads until the memory is full or nothing is left.
fn fill(source: &mut impl Read, memory: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < memory.len() {
        match source.read(&mut memory[length..]) {
            Ok(0) => break,
            Ok(size) => length += size,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The blob, hashed as it is read.
struct Input<'a, R> {
    source: R,
    buffer: Vec<u8>,
    position: usize,
    size: Option<u64>,
    hasher: Hasher,
    progress: &'a dyn Fn(u64),
    /// What went wrong here, and not in the data: decoders pass on no reasons.
    failure: Option<Reason>,
}

impl<'a, R: Read> Input<'a, R> {
    fn new(source: R, size: Option<u64>, progress: &'a dyn Fn(u64)) -> Self {
        Self {
            source,
            buffer: Vec::new(),
            position: 0,
            size,
            hasher: Hasher::default(),
            progress,
            failure: None,
        }
    }

    /// Why reading has failed, if it is not the data that are at fault.
    fn failure(&mut self) -> Option<Reason> {
        self.failure.take()
    }

    /// Reads the rest, for its digest.
    fn drain(&mut self) -> Result<(), Reason> {
        loop {
            match self.fill_buf() {
                Ok([]) => return Ok(()),
                Ok(piece) => {
                    let length = piece.len();
                    self.consume(length);
                }
                Err(error) => return Err(self.failure().unwrap_or(Reason::Read(error))),
            }
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut memory = std::mem::take(&mut self.buffer);
        memory.resize(CHUNK, 0);
        // A full buffer each time: the magic number is never cut.
        let length =
            fill(&mut self.source, &mut memory).map_err(|error| self.fail(Reason::Read(error)))?;
        memory.truncate(length);
        self.hasher.update(&memory);
        (self.buffer, self.position) = (memory, 0);
        (self.progress)(self.hasher.bytes());
        match self.size {
            Some(size) if self.hasher.bytes() > size => {
                Err(self.fail(Reason::Size(size, self.hasher.bytes())))
            }
            _ => Ok(()),
        }
    }

    fn fail(&mut self, reason: Reason) -> io::Error {
        self.failure = Some(reason);
        closed()
    }
}

impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

impl<R: Read> BufRead for Input<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.buffer.len() {
            self.refill()?;
        }
        Ok(&self.buffer[self.position..])
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}
