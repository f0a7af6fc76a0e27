//! `jailrun image`.

use clap::{Args, Subcommand};

use super::{complain, print};
use crate::image::digest::Digest;
use crate::image::layer::Limit;
use crate::image::progress::Progress;
use crate::image::store::{Store, StoreError, Unwanted};
use crate::image::verbs::{self, Wanted};

#[derive(Debug, Subcommand)]
pub(super) enum ImageVerb {
    /// Store an image or an archive, so that launches find it unpacked
    Import(ImageImport),
    /// List the stored images
    Ls(ImageLs),
    /// Remove images, unless a jail runs from them
    Rm(ImageRm),
    /// Remove what no image needs, and what killed imports have left
    Gc(ImageGc),
}

#[derive(Debug, Args)]
pub(super) struct ImageImport {
    /// An OCI layout, an OCI archive, a docker-archive, or a tar archive
    #[arg(value_name = "SOURCE[:REF]")]
    source: String,

    /// Take the source for a plain archive, whatever it looks like
    #[arg(long)]
    tar: bool,

    /// Of a plain archive: the SHA-256 digest that its file must have
    #[arg(long, value_name = "HEX", value_parser = parse_sha256)]
    sha256: Option<Digest>,

    /// Of a plain archive: take so many leading components off every name
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    strip_components: u32,

    /// Change a limit: bytes, ratio, entries, path, depth or memory
    #[arg(long, value_name = "NAME=NUMBER", value_parser = verbs::limit)]
    limit: Vec<(Limit, u64)>,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct ImageLs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct ImageRm {
    /// Names as listed, references, digests, or beginnings of digests
    #[arg(required = true, value_name = "NAME|DIGEST")]
    images: Vec<String>,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Args)]
pub(super) struct ImageGc {
    /// Also remove images whose source is gone or has changed
    #[arg(long)]
    all: bool,

    /// Say nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

fn parse_sha256(text: &str) -> Result<Digest, String> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    format!("sha256:{}", digits.to_ascii_lowercase())
        .parse()
        .map_err(|_| "expected 64 hexadecimal digits".to_owned())
}

impl ImageVerb {
    pub(super) fn run(self) -> i32 {
        let quiet = match &self {
            Self::Import(ImageImport { quiet, .. })
            | Self::Rm(ImageRm { quiet, .. })
            | Self::Gc(ImageGc { quiet, .. }) => *quiet,
            Self::Ls(_) => false,
        };
        let progress = if quiet { Progress::silent() } else { Progress::on_terminal() };
        let done = Store::of_caller().and_then(|store| self.act(&store, &progress));
        drop(progress);
        match done {
            Ok(Said::Report(text)) => i32::from(print(&text) != 0),
            Ok(Said::Lines(lines)) => {
                lines.iter().filter(|_| !quiet).for_each(|line| complain(line));
                0
            }
            Err(error) => {
                complain(&error.to_string());
                1
            }
        }
    }

    fn act(self, store: &Store, progress: &Progress) -> Result<Said, StoreError> {
        Ok(match self {
            Self::Import(import) => {
                let wanted = Wanted {
                    source: import.source,
                    tar: import.tar,
                    sha256: import.sha256,
                    strip_components: import.strip_components,
                    limits: import.limit,
                };
                Said::Lines(verbs::import(store, &wanted, progress)?)
            }
            Self::Ls(ImageLs { json: true }) => Said::Report(verbs::list_json(&store.list()?)),
            Self::Ls(ImageLs { json: false }) => Said::Report(verbs::list(&store.list()?)),
            Self::Rm(rm) => Said::Lines(verbs::remove(store, &rm.images, progress)?),
            Self::Gc(gc) => {
                let unwanted = if gc.all { Unwanted::WithoutSource } else { Unwanted::Leftovers };
                Said::Lines(verbs::collect(store, unwanted, progress)?)
            }
        })
    }
}

/// What a verb has to say.
enum Said {
    /// On standard output.
    Report(String),
    /// About what was done, on standard error.
    Lines(Vec<String>),
}
