//! The files that tell glibc's loader where libraries are: `/etc/ld.so.cache`
//! and `/etc/ld.so.conf`, ld.so(8) and ldconfig(8).
//!
//! They are read here, and believed nowhere: what they name is looked at as
//! any other candidate.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};

use elf::abi;

use super::elf::Format;
use super::tree::{Kind, Tree};

/// Where ldconfig(8) writes.
pub(super) const CACHE: &str = "/etc/ld.so.cache";
/// Where it reads.
pub(super) const CONF: &str = "/etc/ld.so.conf";

/// Largest cache that is read: two hundred times the usual.
const CACHE_SIZE: u64 = 8 << 20;
/// Largest configuration file that is read.
const CONF_SIZE: u64 = 1 << 20;
/// Configuration files, each time they are included.
const FILES: usize = 256;
/// Directories in all configuration files.
const DIRECTORIES: usize = 1024;

/// Entries of one name: of several processors and formats.
const VARIANTS: usize = 64;

const OLD_MAGIC: &[u8] = b"ld.so-1.7.0\0";
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER: usize = 48;
const ENTRY: usize = 24;
const EXTENSION_MAGIC: u32 = 0xeaa4_2174;
const HWCAPS_TAG: u32 = 1;
/// In the upper half of `hwcap`: the lower half counts the names of
/// `glibc-hwcaps` directories.
const HWCAPS_NAMED: u64 = 1 << 30;

/// The cache, version 1.1, which every glibc since 2.2 reads.
#[derive(Debug)]
pub(super) struct Cache {
    /// From the header of the version on; offsets count from there.
    bytes: Vec<u8>,
    count: usize,
    /// Names of `glibc-hwcaps` directories, by number.
    hwcaps: Vec<String>,
}

impl Cache {
    /// Takes a cache apart; `None` when it is not one.
    pub(super) fn parse(mut bytes: Vec<u8>) -> Option<Self> {
        if bytes.starts_with(OLD_MAGIC) {
            // The version before, of which glibc can write both: 16 bytes of
            // header and 12 for each library.
            let count = usize::try_from(word(&bytes, 12)?).ok()?;
            let end = count.checked_mul(12)?.checked_add(16)?.checked_next_multiple_of(8)?;
            bytes.drain(..end.min(bytes.len()));
        }
        if !bytes.starts_with(MAGIC) {
            return None;
        }
        let count = usize::try_from(word(&bytes, 20)?).ok()?;
        if count.checked_mul(ENTRY)?.checked_add(HEADER)? > bytes.len() {
            return None;
        }
        let hwcaps = hwcaps(&bytes).unwrap_or_default();
        Some(Self { bytes, count, hwcaps })
    }

    /// Whether a look-up may depend on the processor.
    pub(super) fn has_hwcaps(&self) -> bool {
        !self.hwcaps.is_empty()
    }

    /// Path of a library: the one for the best of the processor's levels, else
    /// the one for every processor.
    pub(super) fn find(&self, name: &str, format: Format, levels: &[&str]) -> Option<&str> {
        let start = partition(self.count, |index| {
            // Sorted from last to first.
            self.name(index)
                .is_some_and(|known| natural(known, name.as_bytes()) == Ordering::Greater)
        });
        let mut best: Option<(usize, &str)> = None;
        for index in (start..self.count).take(VARIANTS) {
            if self.name(index) != Some(name.as_bytes()) {
                break;
            }
            let Some(rank) = self.rank(index, format, levels) else { continue };
            if best.is_none_or(|(known, _)| rank < known)
                && let Some(path) = self.text(index, 8).and_then(|path| str::from_utf8(path).ok())
            {
                best = Some((rank, path));
            }
        }
        best.map(|(_, path)| path)
    }

    fn entry(&self, index: usize) -> &[u8] {
        &self.bytes[HEADER + index * ENTRY..][..ENTRY]
    }

    fn text(&self, index: usize, field: usize) -> Option<&[u8]> {
        text(&self.bytes, word(self.entry(index), field)?)
    }

    fn name(&self, index: usize) -> Option<&[u8]> {
        self.text(index, 4)
    }

    /// Place of an entry among those of its name, smallest first; `None` when
    /// the loader would pass it over.
    fn rank(&self, index: usize, format: Format, levels: &[&str]) -> Option<usize> {
        let entry = self.entry(index);
        if flags(format).is_some_and(|wanted| word(entry, 0) != Some(wanted)) {
            return None;
        }
        let hwcap = u64::from_ne_bytes(entry[16..24].try_into().ok()?);
        if hwcap == 0 {
            return Some(levels.len());
        }
        // Bits of a processor, without a name: of glibc before 2.33.
        if hwcap >> 32 != HWCAPS_NAMED {
            return None;
        }
        let name = self.hwcaps.get(usize::try_from(hwcap & 0xffff_ffff).ok()?)?;
        levels.iter().position(|level| level == name)
    }
}

/// First index for which the test fails, when it holds for a beginning.
fn partition(count: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_ne_bytes)
}

fn text(bytes: &[u8], at: u32) -> Option<&[u8]> {
    let rest = bytes.get(usize::try_from(at).ok()?..)?;
    let end = rest.iter().take(4096).position(|byte| *byte == 0)?;
    Some(&rest[..end])
}

/// The names of `glibc-hwcaps` directories, from the extension behind the
/// entries.
fn hwcaps(bytes: &[u8]) -> Option<Vec<String>> {
    let start = usize::try_from(word(bytes, 32)?).ok().filter(|start| *start != 0)?;
    let extension = bytes.get(start..)?;
    if word(extension, 0)? != EXTENSION_MAGIC {
        return None;
    }
    let sections = usize::try_from(word(extension, 4)?).ok()?.min(extension.len() / 16);
    let section = (0..sections)
        .map(|index| 8 + index * 16)
        .find(|at| word(extension, *at) == Some(HWCAPS_TAG))?;
    let offset = usize::try_from(word(extension, section + 8)?).ok()?;
    let size = usize::try_from(word(extension, section + 12)?).ok()?;
    let list = bytes.get(offset..offset.checked_add(size)?)?;
    (0..list.len() / 4)
        .map(|index| String::from_utf8(text(bytes, word(list, index * 4)?)?.to_vec()).ok())
        .collect()
}

/// What glibc writes for libraries of that format; `None` where every entry is
/// looked at.
fn flags(format: Format) -> Option<u32> {
    const ELF_LIBC6: u32 = 3;
    match (format.machine, format.bits) {
        (abi::EM_386, 32) => Some(ELF_LIBC6),
        (abi::EM_X86_64, 64) => Some(ELF_LIBC6 | 0x300),
        (abi::EM_X86_64, 32) => Some(ELF_LIBC6 | 0x800),
        (abi::EM_AARCH64, 64) => Some(ELF_LIBC6 | 0xa00),
        _ => None,
    }
}

/// The order of the cache: bytes, but runs of digits by their value.
fn natural(mut one: &[u8], mut other: &[u8]) -> Ordering {
    loop {
        match (one.first(), other.first()) {
            (Some(a), Some(b)) if a.is_ascii_digit() && b.is_ascii_digit() => {
                let (value, rest) = number(one);
                let (other_value, other_rest) = number(other);
                match value.cmp(&other_value) {
                    Ordering::Equal => (one, other) = (rest, other_rest),
                    decided => return decided,
                }
            }
            // A digit comes after whatever is none.
            (Some(a), _) if a.is_ascii_digit() => return Ordering::Greater,
            (_, Some(b)) if b.is_ascii_digit() => return Ordering::Less,
            (Some(a), Some(b)) if a == b => (one, other) = (&one[1..], &other[1..]),
            (a, b) => return a.map(|a| *a as i8).cmp(&b.map(|b| *b as i8)),
        }
    }
}

fn number(text: &[u8]) -> (u64, &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let value = text[..end].iter().fold(0_u64, |value, digit| {
        value.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    });
    (value, &text[end..])
}

/// Reads the cache of a tree, if it has one that the loader would use.
pub(super) fn read(tree: &mut Tree) -> Option<Cache> {
    let found = tree.walk(Path::new(CACHE)).ok()?;
    Cache::parse(tree.read(&found.real, CACHE_SIZE).ok()?)
}

/// The directories that ldconfig(8) would search, in order.
pub(super) fn configured(tree: &mut Tree) -> Vec<PathBuf> {
    let mut reading = Reading { tree, files: FILES, directories: Vec::new() };
    reading.include(Path::new(CONF));
    reading.directories
}

/// Configuration files being read.
struct Reading<'a> {
    tree: &'a mut Tree,
    /// How many more may be read.
    files: usize,
    directories: Vec<PathBuf>,
}

impl Reading<'_> {
    fn include(&mut self, file: &Path) {
        let Some(left) = self.files.checked_sub(1) else { return };
        self.files = left;
        let Ok(found) = self.tree.walk(file) else { return };
        let Ok(content) = self.tree.read(&found.real, CONF_SIZE) else { return };
        for line in String::from_utf8_lossy(&content).lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            match line.split_once(char::is_whitespace) {
                Some(("hwcap", _)) => {}
                Some(("include", patterns)) => {
                    let base = file.parent().unwrap_or(Path::new("/"));
                    for pattern in patterns.split_whitespace() {
                        for file in matches(self.tree, &base.join(pattern)) {
                            self.include(&file);
                        }
                    }
                }
                _ => self.add(line),
            }
        }
    }

    fn add(&mut self, line: &str) {
        let words = line.split(|letter: char| letter.is_whitespace() || ":,".contains(letter));
        // A type of library may follow: `/lib=libc6`.
        let words = words.map(|word| word.split('=').next().unwrap_or_default());
        let left = DIRECTORIES.saturating_sub(self.directories.len());
        self.directories
            .extend(words.filter(|word| word.starts_with('/')).take(left).map(PathBuf::from));
    }
}

/// Files whose last part matches; ldconfig(8) has no patterns elsewhere in
/// any distribution.
fn matches(tree: &mut Tree, pattern: &Path) -> Vec<PathBuf> {
    let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let Ok(found) = tree.directory(directory) else { return Vec::new() };
    let names = tree.list(&found.real).unwrap_or_default();
    let name = name.as_encoded_bytes();
    names
        .into_iter()
        .filter(|known| {
            let known = known.as_os_str().as_encoded_bytes();
            known.starts_with(b".") == name.starts_with(b".") && glob(name, known)
        })
        .map(|name| found.real.join(name))
        .filter(
            |path| matches!(tree.walk(path), Ok(found) if matches!(found.kind, Kind::File { .. })),
        )
        .collect()
}

/// glob(7) with `*` and `?`.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, from));
                at += 1;
            }
            Some(letter) if *letter == b'?' || *letter == name[from] => {
                (at, from) = (at + 1, from + 1)
            }
            _ => match star {
                Some((position, taken)) => {
                    star = Some((position, taken + 1));
                    (at, from) = (position + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    const X86_64: Format = Format { bits: 64, little_endian: true, machine: abi::EM_X86_64 };

    /// A cache as ldconfig(8) writes it: name, path, and a `glibc-hwcaps` name.
    pub(in super::super) fn build(libraries: &[(&str, &str, Option<&str>)]) -> Vec<u8> {
        let mut libraries = libraries.to_vec();
        libraries.sort_by(|one, other| natural(other.0.as_bytes(), one.0.as_bytes()));
        let mut levels: Vec<&str> = libraries.iter().filter_map(|library| library.2).collect();
        levels.sort_unstable();
        levels.dedup();
        let strings_at = HEADER + libraries.len() * ENTRY;
        let mut strings = Vec::new();
        let mut keep = |text: &str| {
            let at = strings_at + strings.len();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            u32::try_from(at).unwrap()
        };
        let mut entries = Vec::new();
        for (name, path, level) in &libraries {
            let hwcap = level.map_or(0, |level| {
                HWCAPS_NAMED << 32 | levels.iter().position(|known| *known == level).unwrap() as u64
            });
            for field in [flags(X86_64).unwrap(), keep(name), keep(path), 0] {
                entries.extend(field.to_ne_bytes());
            }
            entries.extend(hwcap.to_ne_bytes());
        }
        let names: Vec<u8> = levels.iter().flat_map(|level| keep(level).to_ne_bytes()).collect();
        while !(strings_at + strings.len()).is_multiple_of(4) {
            strings.push(0);
        }
        let names_at = strings_at + strings.len();
        let mut bytes = MAGIC.to_vec();
        let extension = names_at + names.len();
        for field in [libraries.len(), strings.len(), 2, extension, 0, 0, 0] {
            bytes.extend(u32::try_from(field).unwrap().to_ne_bytes());
        }
        bytes.extend(entries);
        bytes.extend(strings);
        bytes.extend(&names);
        let section =
            [HWCAPS_TAG, 0, u32::try_from(names_at).unwrap(), u32::try_from(names.len()).unwrap()];
        for field in [EXTENSION_MAGIC, 1].into_iter().chain(section) {
            bytes.extend(field.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn libraries_are_found_among_similar_names() {
        let names =
            ["libc.so.6", "libc.so.10", "libcrypt.so.1", "liba.so", "libz.so.1", "libc++.so.1"];
        let paths: Vec<_> = names.iter().map(|name| format!("/lib/{name}")).collect();
        let list: Vec<_> =
            names.iter().zip(&paths).map(|(name, path)| (*name, &path[..], None)).collect();
        let cache = Cache::parse(build(&list)).unwrap();
        for (name, path) in names.iter().zip(&paths) {
            assert_eq!(cache.find(name, X86_64, &[]), Some(&path[..]));
        }
        assert_eq!(cache.find("libc.so.7", X86_64, &[]), None);
        let other = Format { bits: 32, machine: abi::EM_386, ..X86_64 };
        assert_eq!(cache.find("libc.so.6", other, &[]), None);
    }

    #[test]
    fn the_best_level_of_the_processor_wins() {
        let list = [
            ("liba.so", "/lib/liba.so", None),
            ("liba.so", "/lib/glibc-hwcaps/x86-64-v2/liba.so", Some("x86-64-v2")),
            ("liba.so", "/lib/glibc-hwcaps/x86-64-v3/liba.so", Some("x86-64-v3")),
        ];
        let cache = Cache::parse(build(&list)).unwrap();
        assert_eq!(cache.find("liba.so", X86_64, &[]), Some("/lib/liba.so"));
        let v2 = Some("/lib/glibc-hwcaps/x86-64-v2/liba.so");
        assert_eq!(cache.find("liba.so", X86_64, &["x86-64-v2"]), v2);
        let v3 = Some("/lib/glibc-hwcaps/x86-64-v3/liba.so");
        assert_eq!(cache.find("liba.so", X86_64, &["x86-64-v3", "x86-64-v2"]), v3);
    }

    #[test]
    fn a_cache_with_the_version_before_in_front_is_read() {
        let mut bytes = OLD_MAGIC.to_vec();
        bytes.extend(1_u32.to_ne_bytes());
        bytes.extend([0; 12]);
        bytes.extend([0; 4]);
        bytes.extend(build(&[("liba.so", "/lib/liba.so", None)]));
        assert_eq!(Cache::parse(bytes).unwrap().find("liba.so", X86_64, &[]), Some("/lib/liba.so"));
    }

    #[test]
    fn a_damaged_cache_is_none_or_finds_nothing() {
        let bytes =
            build(&[("liba.so", "/lib/liba.so", Some("x86-64-v2")), ("libb.so", "/b", None)]);
        for length in 0..bytes.len() {
            if let Some(cache) = Cache::parse(bytes[..length].to_vec()) {
                cache.find("liba.so", X86_64, &["x86-64-v2"]);
            }
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0xff;
            if let Some(cache) = Cache::parse(bytes) {
                cache.find("liba.so", X86_64, &["x86-64-v2"]);
            }
        }
    }

    #[test]
    fn patterns_match_as_a_shell_has_it() {
        for (pattern, name) in
            [("*.conf", "a.conf"), ("a*b?c", "axxbyc"), ("*", ""), ("a.conf", "a.conf")]
        {
            assert!(glob(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*.conf", "a.conf~"), ("?", ""), ("a*b", "ac")] {
            assert!(!glob(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }
}
