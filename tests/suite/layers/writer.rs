//! A tar writer that writes what it is told, whether it makes sense or not.

use std::io::Write as _;

/// An archive being written.
#[derive(Clone, Default)]
pub struct Tar {
    bytes: Vec<u8>,
}

/// A header, of PAX's format unless told otherwise, with a valid checksum
/// unless told otherwise.
#[derive(Clone, Debug)]
pub struct Header {
    block: [u8; 512],
    data: Vec<u8>,
    keeps_checksum: bool,
}

impl Header {
    pub fn new(typeflag: u8, name: impl AsRef<[u8]>) -> Self {
        let mut header = Self { block: [0; 512], data: Vec::new(), keeps_checksum: false };
        let name = name.as_ref();
        assert!(name.len() <= 100, "too long for a header");
        header = header.field(0, name);
        header = header.field(100, b"0000644\0").field(108, b"0000000\0").field(116, b"0000000\0");
        header = header.field(124, b"00000000000\0").field(136, b"07640000000\0");
        header.field(156, &[typeflag]).field(257, b"ustar\x0000")
    }

    /// Overwrites bytes of the header.
    pub fn field(mut self, offset: usize, value: &[u8]) -> Self {
        self.block[offset..offset + value.len()].copy_from_slice(value);
        self
    }

    pub fn octal(self, offset: usize, width: usize, value: u64) -> Self {
        let text = format!("{value:0digits$o}\0", digits = width - 1);
        assert_eq!(text.len(), width, "too large for octal digits");
        self.field(offset, text.as_bytes())
    }

    pub fn mode(self, mode: u64) -> Self {
        self.octal(100, 8, mode)
    }

    pub fn owner(self, uid: u64, gid: u64) -> Self {
        self.octal(108, 8, uid).octal(116, 8, gid)
    }

    pub fn size(self, size: u64) -> Self {
        self.octal(124, 12, size)
    }

    pub fn mtime(self, seconds: u64) -> Self {
        self.octal(136, 12, seconds)
    }

    pub fn link(self, target: impl AsRef<[u8]>) -> Self {
        self.field(157, target.as_ref())
    }

    pub fn device(self, major: u64, minor: u64) -> Self {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    /// Data, and the size that goes with them.
    pub fn data(mut self, data: impl AsRef<[u8]>) -> Self {
        self.data = data.as_ref().to_vec();
        let size = self.data.len() as u64;
        self.size(size)
    }

    /// The magic number of GNU's format.
    pub fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }

    /// No magic number at all.
    pub fn v7(self) -> Self {
        self.field(257, &[0; 8])
    }

    /// The name in the header.
    pub fn name(&self) -> String {
        let name = self.block[..100].split(|byte| *byte == 0).next().unwrap();
        String::from_utf8(name.to_vec()).unwrap()
    }

    pub fn wrong_checksum(mut self) -> Self {
        self.keeps_checksum = true;
        self.field(148, b"0000001\0")
    }
}

/// A PAX record.
pub fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} ").into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

impl Tar {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    pub fn add(mut self, header: Header) -> Self {
        self.push(header);
        self
    }

    pub fn push(&mut self, mut header: Header) {
        if !header.keeps_checksum {
            header = header.field(148, b"        ");
            let sum: u32 = header.block.iter().map(|byte| u32::from(*byte)).sum();
            header = header.field(148, format!("{sum:06o}\0 ").as_bytes());
        }
        self.bytes.extend_from_slice(&header.block);
        self.bytes.extend_from_slice(&header.data);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    pub fn file(self, name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'0', name).data(data))
    }

    pub fn dir(self, name: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'5', name).mode(0o755))
    }

    pub fn symlink(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'2', name).mode(0o777).link(target))
    }

    pub fn hard_link(self, name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Self {
        self.add(Header::new(b'1', name).link(target))
    }

    /// An extended header for the next entry.
    pub fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        let records: Vec<Vec<u8>> = records.iter().map(|(key, value)| record(key, value)).collect();
        self.add(Header::new(b'x', "PaxHeaders/x").data(records.concat()))
    }

    /// A GNU header with the name (`L`) or target (`K`) of the next entry.
    pub fn gnu_long(self, typeflag: u8, text: impl AsRef<[u8]>) -> Self {
        let text = [text.as_ref(), b"\0"].concat();
        self.add(Header::new(typeflag, "././@LongLink").gnu().data(text))
    }

    /// Without the end marker.
    pub fn unfinished(self) -> Vec<u8> {
        self.bytes
    }

    pub fn end(self) -> Vec<u8> {
        self.raw(&[0; 1024]).bytes
    }
}

pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Compressed by the reference implementation, with a checksum.
pub fn zstd(data: &[u8]) -> Vec<u8> {
    let directory = super::super::support::scratch();
    let path = directory.path().join("data");
    std::fs::write(&path, data).unwrap();
    let output =
        std::process::Command::new("zstd").args(["--check", "-qc"]).arg(&path).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}
