//! What `jailrun image` does, and the words in which it reports. Printing them
//! is the command line's part.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::compress::Compression;
use super::digest::Digest;
use super::error::ImageError;
use super::files::{self, Opened};
use super::layer::{Limit, Limits};
use super::oci;
use super::progress::{Progress, size};
use super::source::{Platform, Source, split_reference};
use super::store::{self, Listed, Removed, Store, StoreError, Unwanted};

/// What is to be imported, as it is written on the command line.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// `PATH[:REFERENCE]`.
    pub source: String,
    /// Take the source for a plain archive.
    pub tar: bool,
    /// Digest of a plain archive.
    pub sha256: Option<Digest>,
    /// Components taken off the names of a plain archive.
    pub strip_components: u32,
    /// Limits that are raised, or lowered.
    pub limits: Vec<(Limit, u64)>,
}

impl Wanted {
    /// Finds out what kind of source it is.
    fn source(&self) -> Result<Source, ImageError> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| ImageError::read(&path, error))
        };
        let exists = |path: &Path| path.symlink_metadata().is_ok();
        let (path, reference) = split_reference(&self.source, exists);
        let is_tar = self.tar || self.sha256.is_some() || self.strip_components > 0;
        if reference.is_none() && (is_tar || is_plain(&path)?) {
            let Self { sha256, strip_components, .. } = *self;
            return Ok(Source::Tar { path: absolute(path)?, sha256, strip_components });
        }
        if is_tar {
            return Err(ImageError::invalid(
                files::shown(Path::new(&self.source)),
                "a reference to an image, expected a plain archive",
            ));
        }
        Ok(Source::Image { path: absolute(path)?, reference, platform: Platform::host() })
    }
}

/// Whether a source is an archive of a root, and not of an image.
fn is_plain(path: &Path) -> Result<bool, ImageError> {
    let Opened::File(file, blob) = files::open(path)? else { return Ok(false) };
    let head = files::head(&file, 6).map_err(|error| ImageError::read(path, error))?;
    if Compression::detect(&head) != Compression::None {
        return Ok(true);
    }
    Ok(!Archive::is_image(&file, blob)?)
}

/// Reads a limit: `NAME=NUMBER`, with K, M, G or T for powers of 1024.
pub fn limit(text: &str) -> Result<(Limit, u64), String> {
    let all =
        [Limit::Bytes, Limit::Ratio, Limit::Entries, Limit::Path, Limit::Depth, Limit::Memory];
    let names: Vec<_> = all.iter().map(|limit| limit.name()).collect();
    let parse = || {
        let (name, value) = text.split_once('=')?;
        let limit = all.into_iter().find(|limit| limit.name() == name)?;
        let digits = value.trim_end_matches(['K', 'M', 'G', 'T']);
        let shift = match &value[digits.len()..] {
            "" => 0,
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return None,
        };
        Some((limit, digits.parse::<u64>().ok()?.checked_mul(1 << shift)?))
    };
    parse().ok_or_else(|| format!("expected NAME=NUMBER with a NAME of {}", names.join(", ")))
}

fn limited(limits: &[(Limit, u64)]) -> Limits {
    let count = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    limits.iter().fold(Limits::default(), |mut all, (limit, value)| {
        match limit {
            Limit::Bytes => all.bytes = *value,
            Limit::Ratio => all.ratio = *value,
            Limit::Entries => all.entries = *value,
            Limit::Path => all.path = count(*value),
            Limit::Depth => all.depth = count(*value),
            Limit::Memory => all.memory = *value,
        }
        all
    })
}

/// `image import`; returns what to say, a line each.
pub fn import(
    store: &Store,
    wanted: &Wanted,
    progress: &Progress,
) -> Result<Vec<String>, StoreError> {
    let source = wanted.source()?;
    let name = files::printable(&source.to_string());
    if let Some(stored) = store.resolve(&source)? {
        return Ok(vec![format!("{name}: already stored as {}", stored.key.digest())]);
    }
    progress.begin("reading", source.path().metadata().map_or(0, |metadata| metadata.len()));
    let image = oci::read_telling(&source, &|done| progress.at(done));
    progress.end();
    let image = image?;
    let mut options = store.options(&source);
    options.limits = limited(&wanted.limits);
    let imported = store::import(store, &source, &image, &options, progress)?;
    let bytes: u64 = imported.layers.iter().map(|info| info.bytes).sum();
    let mut lines = vec![format!(
        "{name}: stored as {}: {}, {} new, {}",
        imported.key.digest(),
        counted(imported.layers.len(), "layer"),
        imported.unpacked,
        size(bytes)
    )];
    lines.extend(store::losses(&imported.layers));
    Ok(lines)
}

/// `image ls --json`.
pub fn list_json(listed: &[Listed]) -> String {
    // A list of plain values always has a text.
    let value = serde_json::to_value(listed).unwrap_or_default();
    format!("{value:#}\n")
}

/// `image ls`.
pub fn list(listed: &[Listed]) -> String {
    const SHORT: usize = 12;
    let header = ["NAME", "DIGEST", "LAYERS", "SIZE", "IMPORTED", "IN USE"].map(str::to_owned);
    let row = |image: &Listed| {
        let name = image.source.as_deref().unwrap_or("-");
        let reference = match &image.reference {
            Some(reference) if !name.ends_with(&format!(":{reference}")) => {
                format!(" ({reference})")
            }
            _ => String::new(),
        };
        let mut digest = image.digest.hex();
        digest.truncate(SHORT);
        [
            files::printable(&format!("{name}{reference}")),
            digest,
            image.layers.to_string(),
            size(image.size),
            humantime::format_rfc3339_seconds(store::time(image.imported)).to_string(),
            if image.in_use { "yes" } else { "no" }.to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(header).chain(listed.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            // Writing to a string cannot fail.
            write!(line, "{cell:0$}  ", width(column)).ok();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `image rm`.
pub fn remove(
    store: &Store,
    names: &[String],
    progress: &Progress,
) -> Result<Vec<String>, StoreError> {
    Ok(said(&store.remove(names, progress)?))
}

/// `image gc`.
pub fn collect(
    store: &Store,
    unwanted: Unwanted,
    progress: &Progress,
) -> Result<Vec<String>, StoreError> {
    Ok(said(&store.collect(unwanted, progress)?))
}

fn counted(count: usize, one: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        count => format!("{count} {one}s"),
    }
}

fn said(removed: &Removed) -> Vec<String> {
    let mut lines: Vec<String> =
        removed.images.iter().map(|name| format!("{}: removed", files::printable(name))).collect();
    let kept = |name: &String| format!("{}: kept, a jail runs from it", files::printable(name));
    lines.extend(removed.in_use.iter().map(kept));
    if removed.leftovers > 0 {
        let leftovers = counted(removed.leftovers, "half-made layer");
        lines.push(format!("{leftovers} removed"));
    }
    if removed.layers > 0 {
        let layers = counted(removed.layers, "layer");
        lines.push(format!("{layers} removed, {}", size(removed.bytes)));
    }
    if lines.is_empty() {
        lines.push("nothing to remove".to_owned());
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        assert_eq!(limit("bytes=2G").unwrap(), (Limit::Bytes, 2 << 30));
        assert_eq!(limit("depth=300").unwrap(), (Limit::Depth, 300));
        for bad in ["", "bytes", "bytes=", "bytes=1X", "bytes=1KK", "size=1", "bytes=99999999T"] {
            assert!(limit(bad).unwrap_err().contains("bytes, ratio"), "{bad}");
        }
        assert_eq!(limited(&[(Limit::Path, 9)]), Limits { path: 9, ..Limits::default() });
    }
}
