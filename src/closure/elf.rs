//! What a program or library says about what it needs: the parts of an ELF
//! file that the kernel and the loader go by, elf(5).
//!
//! Only those parts are read, and every size is bounded: the file may have
//! been made to mislead. Nothing here looks for other files.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::rc::Rc;

use elf::abi;
use elf::dynamic::DynamicTable;
use elf::endian::AnyEndian;
use elf::file::{Class, FileHeader};
use elf::note::{Note, NoteIterator};
use elf::segment::{ProgramHeader, SegmentTable};
use serde::Deserialize;

/// Read at once; holds the headers, the loader's name and the notes of nearly
/// every file.
const HEAD: usize = 4096;
/// The kernel takes no more program headers than fit.
const PROGRAM_HEADERS: usize = 64 * 1024;
/// Four thousand entries.
const DYNAMIC: u64 = 64 * 1024;
/// One file's notes.
const NOTES: u64 = 1 << 20;
/// `PATH_MAX`: the longest path, and here the longest list of directories
/// times four.
const STRING: usize = 4 * 4096;
/// All strings of one file.
const STRINGS: usize = 128 * 1024;

const DT_AUXILIARY: i64 = 0x7fff_fffd;
const DT_FILTER: i64 = 0x7fff_ffff;
const DF_1_NODEFLIB: u64 = 0x800;
/// `FDO`, see <https://systemd.io/ELF_DLOPEN_METADATA>.
const NOTE_DLOPEN: u64 = 0x407c_0c0a;

/// What must agree between a program, its loader and its libraries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Format {
    /// 32 or 64.
    pub bits: u8,
    /// Byte order.
    pub little_endian: bool,
    /// `e_machine`, `EM_*`.
    pub machine: u16,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = if self.little_endian { "" } else { ", big-endian" };
        let name = match self.machine {
            abi::EM_386 => "x86",
            abi::EM_X86_64 => "x86-64",
            abi::EM_ARM => "arm",
            abi::EM_AARCH64 => "aarch64",
            abi::EM_RISCV => "riscv",
            abi::EM_PPC64 => "ppc64",
            abi::EM_S390 => "s390",
            other => return write!(f, "{}-bit machine {other}{order}", self.bits),
        };
        write!(f, "{}-bit {name}{order}", self.bits)
    }
}

/// How much an object depends on a library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Importance {
    /// It does not start without.
    Required,
    /// It starts, and its author advises against it.
    Recommended,
    /// It starts, and somebody may miss something.
    Optional,
}

/// A library the object wants: the first of `names` that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) names: Vec<String>,
    pub(super) importance: Importance,
}

/// An ELF file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) format: Format,
    /// `PT_INTERP`, the path of its loader.
    pub(super) loader: Option<String>,
    /// `DT_NEEDED`, `DT_FILTER` and `DT_AUXILIARY`, in order.
    pub(super) needed: Vec<Need>,
    /// What it may open by dlopen(3) later, from its `.note.dlopen`.
    pub(super) dlopen: Vec<Need>,
    pub(super) soname: Option<String>,
    pub(super) rpath: Option<String>,
    pub(super) runpath: Option<String>,
    /// `DF_1_NODEFLIB`: the loader's own directories are not for its needs.
    pub(super) no_default_directories: bool,
    /// Bytes of all its strings.
    pub(super) weight: usize,
}

/// A file that may be executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Image {
    Elf(Rc<Object>),
    /// `#!` and what follows, as much of it as the kernel reads.
    Script(Vec<u8>),
    /// Something else.
    Unknown,
}

/// Why a file could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It cannot be read.
    Io(String),
    /// It contradicts itself, or goes beyond a bound.
    Malformed(&'static str),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(crate::unit::io_reason(&error))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(reason) => write!(f, "cannot be read: {reason}"),
            Self::Malformed(reason) => write!(f, "is malformed: {reason}"),
        }
    }
}

impl From<elf::ParseError> for Fault {
    fn from(_: elf::ParseError) -> Self {
        Self::Malformed("its headers are cut off")
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// Reads what a file needs.
pub(super) fn read(file: &File) -> Result<Image> {
    let source = Source::new(file)?;
    let head = &source.head[..];
    if head.starts_with(b"#!") {
        return Ok(Image::Script(head[..head.len().min(super::script::LINE)].to_vec()));
    }
    if !head.starts_with(&abi::ELFMAGIC) {
        return Ok(Image::Unknown);
    }
    read_object(&source).map(|object| Image::Elf(Rc::new(object)))
}

/// The names in a dynamically linked file, separated by NUL; `None` where it
/// has none.
pub(super) fn string_table(file: &File) -> Option<Vec<u8>> {
    const TABLE: u64 = 16 << 20;
    let source = Source::new(file).ok()?;
    if !source.head.starts_with(&abi::ELFMAGIC) {
        return None;
    }
    let header = header(&source).ok()?;
    let segments = segments(&source, &header).ok()?;
    let segment = segments.iter().find(|segment| segment.p_type == abi::PT_DYNAMIC)?;
    let length = usize::try_from(segment.p_filesz.min(DYNAMIC)).ok()?;
    let bytes = source.exactly(segment.p_offset, length).ok()?;
    let table = DynamicTable::new(header.endianness, header.class, &bytes);
    let value = |tag| table.iter().find(|entry| entry.d_tag == tag).map(|entry| entry.d_val());
    let start = file_offset(&segments, value(abi::DT_STRTAB)?)?;
    let size = usize::try_from(value(abi::DT_STRSZ)?.min(TABLE)).ok()?;
    source.up_to(start, size).ok()
}

/// A file with its beginning at hand.
struct Source<'a> {
    file: &'a File,
    head: Vec<u8>,
}

impl<'a> Source<'a> {
    fn new(file: &'a File) -> io::Result<Self> {
        let mut source = Self { file, head: Vec::new() };
        source.head = source.up_to(0, HEAD)?;
        Ok(source)
    }

    /// That many bytes, or fewer at the end of the file.
    fn up_to(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            let Some(at) = offset.checked_add(filled as u64) else { break };
            match self.file.read_at(&mut bytes[filled..], at) {
                Ok(0) => break,
                Ok(more) => filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // An offset beyond what a file can have.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Exactly that many bytes.
    fn exactly(&self, offset: u64, length: usize) -> Result<std::borrow::Cow<'_, [u8]>> {
        let here = usize::try_from(offset)
            .ok()
            .and_then(|start| self.head.get(start..start.checked_add(length)?));
        if let Some(bytes) = here {
            return Ok(bytes.into());
        }
        let bytes = self.up_to(offset, length)?;
        if bytes.len() < length {
            return Err(Fault::Malformed("it ends before what its headers announce"));
        }
        Ok(bytes.into())
    }
}

fn header(source: &Source<'_>) -> Result<FileHeader<AnyEndian>> {
    let head = &source.head[..];
    // The crate takes this much for granted.
    if head.len() < abi::EI_NIDENT {
        return Err(Fault::Malformed("its headers are cut off"));
    }
    let ident = elf::file::parse_ident::<AnyEndian>(head)?;
    Ok(FileHeader::parse_tail(ident, &head[abi::EI_NIDENT..])?)
}

fn read_object(source: &Source<'_>) -> Result<Object> {
    let header = header(source)?;
    let format = Format {
        bits: if header.class == Class::ELF32 { 32 } else { 64 },
        little_endian: header.endianness == AnyEndian::Little,
        machine: header.e_machine,
    };
    if !matches!(header.e_type, abi::ET_EXEC | abi::ET_DYN) {
        return Err(Fault::Malformed("it is neither a program nor a shared library"));
    }
    let segments = segments(source, &header)?;
    let find = |kind| segments.iter().find(|segment| segment.p_type == kind);
    let mut object = Object {
        format,
        loader: find(abi::PT_INTERP).map(|segment| loader(source, segment)).transpose()?,
        needed: Vec::new(),
        dlopen: Vec::new(),
        soname: None,
        rpath: None,
        runpath: None,
        no_default_directories: false,
        weight: 0,
    };
    if let Some(segment) = find(abi::PT_DYNAMIC) {
        dynamic(source, &header, &segments, segment, &mut object)?;
    }
    for segment in segments.iter().filter(|segment| segment.p_type == abi::PT_NOTE) {
        notes(source, &header, segment, &mut object)?;
    }
    Ok(object)
}

fn segments(source: &Source<'_>, header: &FileHeader<AnyEndian>) -> Result<Vec<ProgramHeader>> {
    let entry = if header.class == Class::ELF32 { 32 } else { 56 };
    let size = usize::from(header.e_phnum) * entry;
    if usize::from(header.e_phentsize) != entry || size > PROGRAM_HEADERS {
        return Err(Fault::Malformed("its program headers have a size the kernel refuses"));
    }
    let bytes = source.exactly(header.e_phoff, size)?;
    Ok(SegmentTable::new(header.endianness, header.class, &bytes).iter().collect())
}

fn loader(source: &Source<'_>, segment: &ProgramHeader) -> Result<String> {
    const WRONG: Fault = Fault::Malformed("the path of its loader is not one");
    // The kernel's own conditions.
    let length =
        usize::try_from(segment.p_filesz).ok().filter(|length| (2..=4096).contains(length));
    let bytes = source.exactly(segment.p_offset, length.ok_or(WRONG)?)?;
    let path = bytes.split(|byte| *byte == 0).next().filter(|path| path.len() < bytes.len());
    let path = path.and_then(|path| std::str::from_utf8(path).ok()).ok_or(WRONG)?;
    if path.is_empty() { Err(WRONG) } else { Ok(path.to_owned()) }
}

/// The string table of the dynamic section.
struct Strings<'a> {
    source: &'a Source<'a>,
    start: u64,
    size: u64,
    /// What was read last, and from where.
    window: (u64, Vec<u8>),
    read: usize,
}

impl Strings<'_> {
    fn get(&mut self, at: u64) -> Result<String> {
        const WRONG: Fault = Fault::Malformed("a name lies outside its string table");
        if at >= self.size {
            return Err(WRONG);
        }
        let offset = self.start.checked_add(at).ok_or(WRONG)?;
        let left = usize::try_from(self.size - at).unwrap_or(usize::MAX);
        let known = self.source.head.len() as u64;
        if offset < known {
            let here = &self.source.head[offset as usize..];
            if let Some(text) = terminated(&here[..here.len().min(left)]) {
                return self.keep(text.to_vec());
            }
        }
        let (start, bytes) = &self.window;
        let here =
            offset.checked_sub(*start).and_then(|skip| bytes.get(usize::try_from(skip).ok()?..));
        if let Some(text) = here.and_then(|here| terminated(&here[..here.len().min(left)])) {
            return self.keep(text.to_vec());
        }
        for length in [1024, STRING] {
            self.window = (offset, self.source.up_to(offset, length.min(left))?);
            if let Some(text) = terminated(&self.window.1) {
                return self.keep(text.to_vec());
            }
        }
        Err(Fault::Malformed("a name in its string table has no end"))
    }

    fn keep(&mut self, text: Vec<u8>) -> Result<String> {
        self.read += text.len();
        if self.read > STRINGS {
            return Err(Fault::Malformed("its names are longer than any program's"));
        }
        String::from_utf8(text).map_err(|_| Fault::Malformed("a name in it is not UTF-8"))
    }
}

fn terminated(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte == 0).map(|end| &bytes[..end])
}

fn dynamic(
    source: &Source<'_>,
    header: &FileHeader<AnyEndian>,
    segments: &[ProgramHeader],
    segment: &ProgramHeader,
    object: &mut Object,
) -> Result<()> {
    if segment.p_filesz > DYNAMIC {
        return Err(Fault::Malformed("its dynamic section is larger than any program's"));
    }
    let bytes = source.exactly(segment.p_offset, segment.p_filesz as usize)?;
    let table = DynamicTable::new(header.endianness, header.class, &bytes);
    let (mut start, mut size, mut flags) = (None, None, 0);
    let (mut soname, mut rpath, mut runpath) = (None, None, None);
    let mut needed = Vec::new();
    for entry in table.iter().take_while(|entry| entry.d_tag != abi::DT_NULL) {
        let value = entry.d_val();
        match entry.d_tag {
            abi::DT_STRTAB => start = Some(value),
            abi::DT_STRSZ => size = Some(value),
            abi::DT_FLAGS_1 => flags = value,
            abi::DT_SONAME => soname = Some(value),
            abi::DT_RPATH => rpath = Some(value),
            abi::DT_RUNPATH => runpath = Some(value),
            abi::DT_NEEDED | DT_FILTER => needed.push((value, Importance::Required)),
            DT_AUXILIARY => needed.push((value, Importance::Optional)),
            _ => {}
        }
    }
    object.no_default_directories = flags & DF_1_NODEFLIB != 0;
    if needed.is_empty() && [soname, rpath, runpath] == [None; 3] {
        return Ok(());
    }
    let start = start.and_then(|address| file_offset(segments, address));
    let (Some(start), Some(size)) = (start, size) else {
        return Err(Fault::Malformed("it has no string table"));
    };
    let mut strings = Strings { source, start, size, window: (0, Vec::new()), read: 0 };
    for (at, importance) in needed {
        object.needed.push(Need { names: vec![strings.get(at)?], importance });
    }
    object.soname = soname.map(|at| strings.get(at)).transpose()?;
    object.rpath = rpath.map(|at| strings.get(at)).transpose()?;
    object.runpath = runpath.map(|at| strings.get(at)).transpose()?;
    object.weight += strings.read;
    Ok(())
}

/// Where the byte at an address is in the file.
fn file_offset(segments: &[ProgramHeader], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type == abi::PT_LOAD).find_map(|segment| {
        let skip = address.checked_sub(segment.p_vaddr)?;
        if skip < segment.p_filesz { segment.p_offset.checked_add(skip) } else { None }
    })
}

fn notes(
    source: &Source<'_>,
    header: &FileHeader<AnyEndian>,
    segment: &ProgramHeader,
    object: &mut Object,
) -> Result<()> {
    if segment.p_filesz > NOTES {
        return Err(Fault::Malformed("its notes are larger than any program's"));
    }
    let bytes = source.exactly(segment.p_offset, segment.p_filesz as usize)?;
    let align = if segment.p_align == 8 { 8 } else { 4 };
    for note in NoteIterator::new(header.endianness, header.class, align, &bytes) {
        let Note::Unknown(note) = note else { continue };
        if note.n_type == NOTE_DLOPEN && note.name == b"FDO\0" {
            object.dlopen.extend(dlopen(note.desc)?);
            object.weight += note.desc.len();
        }
    }
    if object.weight > STRINGS {
        return Err(Fault::Malformed("its names are longer than any program's"));
    }
    Ok(())
}

/// One library of a `.note.dlopen`. The first edition of the specification had
/// one object with one name where there are lists today.
#[derive(Deserialize)]
struct DlopenNote {
    soname: OneOrMany<String>,
    #[serde(default)]
    priority: Priority,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    Many(Vec<T>),
    One(T),
}

impl<T> OneOrMany<T> {
    fn into_list(self) -> Vec<T> {
        match self {
            Self::Many(list) => list,
            Self::One(one) => vec![one],
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Priority {
    Required,
    #[default]
    Recommended,
    Suggested,
}

fn dlopen(text: &[u8]) -> Result<impl Iterator<Item = Need>> {
    let text = terminated(text).unwrap_or(text);
    let notes: OneOrMany<DlopenNote> = serde_json::from_slice(text).map_err(|_| {
        Fault::Malformed("its note about dlopen is not what the specification asks for")
    })?;
    Ok(notes.into_list().into_iter().map(|note| Need {
        names: note.soname.into_list(),
        importance: match note.priority {
            Priority::Required => Importance::Required,
            Priority::Recommended => Importance::Recommended,
            Priority::Suggested => Importance::Optional,
        },
    }))
}
