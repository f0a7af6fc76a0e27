//! What layers are compressed with. Found out from the data itself: media
//! types are claims, and archives beside a unit have none.

use std::fmt;
use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// A compression that layers may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// gzip, RFC 1952; any number of members.
    Gzip,
    /// Zstandard, RFC 8878; any number of frames, some to be skipped.
    Zstd,
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

impl Compression {
    /// What data that begin so are compressed with: four bytes tell.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }
}

/// Decompresses all of a stream; what does not belong to it is an error.
#[derive(Debug)]
pub struct Decoder<R>(Format<R>);

#[derive(Debug)]
enum Format<R> {
    None(R),
    Gzip(Box<MultiGzDecoder<R>>),
    Zstd(Box<Frames<R>>),
}

impl<R: BufRead> Decoder<R> {
    /// Begins at the start of a stream.
    pub fn new(input: R, compression: Compression) -> Self {
        Self(match compression {
            Compression::None => Format::None(input),
            Compression::Gzip => Format::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => Format::Zstd(Box::new(Frames::new(input))),
        })
    }

    /// The compressed stream.
    pub fn get_ref(&self) -> &R {
        match &self.0 {
            Format::None(input) => input,
            Format::Gzip(decoder) => decoder.get_ref(),
            Format::Zstd(frames) => &frames.input,
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Format::None(input) => input.read(buffer),
            Format::Gzip(decoder) => decoder.read(buffer),
            Format::Zstd(frames) => frames.read(buffer),
        }
    }
}

/// The frames of a Zstandard stream, one after the other.
struct Frames<R> {
    input: R,
    decoder: FrameDecoder,
    state: State,
    /// Bytes that have come out of the frame.
    produced: u64,
}

/// Where in the stream of frames the decoder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before a frame, or at the end.
    Between,
    /// In a frame.
    Within,
}

impl<R> fmt::Debug for Frames<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("state", &self.state).finish_non_exhaustive()
    }
}

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

impl<R: BufRead> Frames<R> {
    /// The decoder refuses windows above 128 MiB, the most that zstd(1) makes
    /// without `--long`.
    fn new(input: R) -> Self {
        Self { input, decoder: FrameDecoder::new(), state: State::Between, produced: 0 }
    }

    /// Enters the next frame that holds data; false at the end of the stream.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.input.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.reset(&mut self.input) {
                Ok(()) => {
                    (self.state, self.produced) = (State::Within, 0);
                    return Ok(true);
                }
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => self.skip(length.into())?,
                Err(error) => return Err(invalid(error)),
            }
        }
    }

    fn skip(&mut self, length: u64) -> io::Result<()> {
        let skipped = io::copy(&mut (&mut self.input).take(length), &mut io::sink())?;
        if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// The decoder itself compares neither.
    fn check(&self) -> io::Result<()> {
        let stored = self.decoder.get_checksum_from_data();
        if stored.is_some() && stored != self.decoder.get_calculated_checksum() {
            return Err(invalid("a frame does not have its checksum"));
        }
        match self.decoder.content_size() {
            // None is written.
            0 => Ok(()),
            size if size == self.produced => Ok(()),
            size => Err(invalid(format!("a frame of {size} bytes has {}", self.produced))),
        }
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.state == State::Between && !self.next_frame()? {
                return Ok(0);
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                self.decoder
                    .decode_blocks(&mut self.input, BlockDecodingStrategy::UptoBlocks(1))
                    .map_err(invalid)?;
            }
            let length = self.decoder.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                self.produced += length as u64;
                return Ok(length);
            }
            self.check()?;
            self.state = State::Between;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(Compression::detect(&[0x1f, 0x8b, 8, 0]), Compression::Gzip);
        assert_eq!(Compression::detect(&[0x28, 0xb5, 0x2f, 0xfd]), Compression::Zstd);
        assert_eq!(Compression::detect(&[0x5a, 0x2a, 0x4d, 0x18]), Compression::Zstd);
        assert_eq!(Compression::detect(b"./\0\0"), Compression::None);
        assert_eq!(Compression::detect(b""), Compression::None);
    }
}
