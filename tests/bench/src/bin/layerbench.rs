//! The unpacking benchmark of jailrun: layers unpacked by this project's library, by tar(1) and by
//! umoci(1), in turns.
//!
//! `layerbench --tree DIRECTORY --scratch DIRECTORY [--runs N]` makes a gzip layer of the whole tree
//! and an OCI image with one layer for each of its top directories, unpacks both over and over below
//! the scratch directory, whose file system it so measures, and prints the medians with the ratios
//! jailrun has to reach. The figures of one run compare with each other only.
//!
//! It runs as root, in a release build. A tree is to be had from debootstrap:
//!
//! ```text
//! debootstrap --variant=minbase bookworm /var/tmp/minbase
//! cargo run --release --package jailbench --bin layerbench -- \
//!     --tree /var/tmp/minbase --scratch /var/tmp
//! ```

use std::error::Error;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use jailrun::image::blob::unpack_blob;
use jailrun::image::layer::{Expected, Options};
use serde_json::Value;

// What is measured is what jailrun does, with its memory.
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: jailrun::sys::Heap = jailrun::sys::Heap::new();

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: layerbench --tree DIRECTORY --scratch DIRECTORY [--runs N]";

fn main() -> ExitCode {
    match arguments().and_then(|(tree, scratch, runs)| measure(&tree, &scratch, runs)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("layerbench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn arguments() -> Result<(PathBuf, PathBuf, usize)> {
    let (mut tree, mut scratch, mut runs) = (None, None, 7);
    let mut words = std::env::args_os().skip(1);
    while let (Some(option), value) = (words.next(), words.next()) {
        let value = value.ok_or(USAGE)?;
        match option.to_str() {
            Some("--tree") => tree = Some(PathBuf::from(value)),
            Some("--scratch") => scratch = Some(PathBuf::from(value)),
            Some("--runs") => runs = value.to_str().ok_or(USAGE)?.parse()?,
            _ => return Err(USAGE.into()),
        }
    }
    if runs == 0 {
        return Err("there must be a run".into());
    }
    Ok((tree.ok_or(USAGE)?, scratch.ok_or(USAGE)?, runs))
}

/// A directory that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(below: &Path) -> Result<Self> {
        let path = below.join(format!("layerbench-{}", std::process::id()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("layerbench: {} is left behind: {error}", self.0.display());
        }
    }
}

fn run(program: &str, words: &[&OsStr]) -> Result<()> {
    let output = Command::new(program).args(words).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

fn measure(tree: &Path, scratch: &Path, runs: usize) -> Result<()> {
    let scratch = Scratch::new(scratch)?;
    let scratch = scratch.0.as_path();

    let layer = Layer::make(tree, scratch)?;
    println!("one layer: {} bytes of gzip", fs::metadata(&layer.path)?.len());
    let times = in_turns(
        runs,
        scratch,
        &[
            ("jailrun", &|into| layer.unpack(into)),
            ("tar -xzf", &|into| {
                run(
                    "tar",
                    &[
                        "--numeric-owner".as_ref(),
                        "-xzf".as_ref(),
                        layer.path.as_ref(),
                        "-C".as_ref(),
                        into.as_ref(),
                    ],
                )
            }),
        ],
    )?;
    report(&times, 1.5);

    let layers = image(tree, scratch)?;
    println!("an image of {} layers", layers.len());
    let layout = scratch.join("layout:latest");
    let umoci = |words: &[&str], into: &Path| {
        let bundle = into.join("bundle");
        let words = words.iter().map(OsStr::new);
        let words: Vec<_> = words.chain([layout.as_os_str(), bundle.as_os_str()]).collect();
        run("umoci", &words)
    };
    let times = in_turns(
        runs,
        scratch,
        &[
            ("jailrun", &|into| {
                layers.iter().enumerate().try_for_each(|(number, layer)| {
                    let into = into.join(number.to_string());
                    fs::create_dir(&into)?;
                    layer.unpack(&into)
                })
            }),
            ("umoci unpack", &|into| umoci(&["unpack", "--image"], into)),
            ("umoci raw unpack", &|into| umoci(&["raw", "unpack", "--image"], into)),
        ],
    )?;
    report(&times, 3.0);
    Ok(())
}

/// A compressed layer with its digests.
struct Layer {
    path: PathBuf,
    expected: Expected,
}

impl Layer {
    /// The tree as one archive, compressed as tar(1) does.
    fn make(tree: &Path, scratch: &Path) -> Result<Self> {
        let path = scratch.join("layer.tar.gz");
        run(
            "tar",
            &[
                "--numeric-owner".as_ref(),
                "-czf".as_ref(),
                path.as_ref(),
                "-C".as_ref(),
                tree.as_ref(),
                ".".as_ref(),
            ],
        )?;
        let into = scratch.join("first");
        fs::create_dir(&into)?;
        let unpacked = unpack(&path, &Expected::default(), &into)?;
        fs::remove_dir_all(&into)?;
        let expected = Expected {
            size: Some(unpacked.size),
            digest: Some(unpacked.digest),
            diff_id: Some(unpacked.diff_id),
            compression: None,
        };
        Ok(Self { path, expected })
    }

    fn unpack(&self, into: &Path) -> Result<()> {
        unpack(&self.path, &self.expected, into).map(drop)
    }
}

fn unpack(
    path: &Path,
    expected: &Expected,
    into: &Path,
) -> Result<jailrun::image::layer::Unpacked> {
    let (blob, into) = (File::open(path)?, File::open(into)?);
    Ok(unpack_blob(blob, expected, into.as_fd(), &Options::default(), &|_| {})?)
}

/// An OCI layout with one layer for each directory, made by umoci(1).
fn image(tree: &Path, scratch: &Path) -> Result<Vec<Layer>> {
    let layout = scratch.join("layout");
    let image = scratch.join("layout:latest");
    run("umoci", &["init".as_ref(), "--layout".as_ref(), layout.as_ref()])?;
    run("umoci", &["new".as_ref(), "--image".as_ref(), image.as_ref()])?;
    for name in ["usr", "var", "etc"] {
        let target = Path::new("/").join(name);
        run(
            "umoci",
            &[
                "insert".as_ref(),
                "--image".as_ref(),
                image.as_ref(),
                tree.join(name).as_ref(),
                target.as_ref(),
            ],
        )?;
    }
    let blob = |descriptor: &Value| -> Result<PathBuf> {
        let digest = descriptor["digest"].as_str().ok_or("a descriptor without digest")?;
        Ok(layout.join("blobs").join(digest.replace(':', "/")))
    };
    let read = |path: PathBuf| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(path)?)?) };
    let index = read(layout.join("index.json"))?;
    let manifest = read(blob(&index["manifests"][0])?)?;
    let config = read(blob(&manifest["config"])?)?;
    let layers = manifest["layers"].as_array().ok_or("a manifest without layers")?;
    let layer = |(number, layer): (usize, &Value)| {
        let digest =
            |value: &Value| -> Result<_> { Ok(value.as_str().ok_or("no digest")?.parse()?) };
        let expected = Expected {
            size: layer["size"].as_u64(),
            digest: Some(digest(&layer["digest"])?),
            diff_id: Some(digest(&config["rootfs"]["diff_ids"][number])?),
            compression: None,
        };
        Ok(Layer { path: blob(layer)?, expected })
    };
    layers.iter().enumerate().map(layer).collect()
}

type Contender<'a> = (&'static str, &'a dyn Fn(&Path) -> Result<()>);

/// Lets each contender unpack into a fresh directory, once more than counts.
fn in_turns(
    runs: usize,
    scratch: &Path,
    contenders: &[Contender<'_>],
) -> Result<Vec<(&'static str, Duration)>> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..=runs {
        for ((_, unpack), times) in contenders.iter().zip(&mut times) {
            let into = scratch.join("into");
            fs::create_dir(&into)?;
            let start = Instant::now();
            unpack(&into)?;
            let time = start.elapsed();
            fs::remove_dir_all(&into)?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    Ok(contenders.iter().map(|(name, _)| *name).zip(times.into_iter().map(median)).collect())
}

/// Prints the medians, and whether the first contender is as much faster than the second as it
/// should be.
fn report(times: &[(&'static str, Duration)], target: f64) {
    let first = times[0].1;
    for (name, time) in times {
        let ratio = time.div_duration_f64(first);
        println!("  {name:<18}{:>9.1} ms {ratio:>8.2} times jailrun's", time.as_secs_f64() * 1e3);
    }
    let ratio = times[1].1.div_duration_f64(first);
    let verdict = if ratio >= target { "reached" } else { "missed" };
    println!("  {verdict}: {ratio:.2} times as fast as {}, at least {target}", times[1].0);
}
