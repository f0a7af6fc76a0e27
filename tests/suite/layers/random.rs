//! Damaged and twisted archives: whatever they hold, unpacking ends with a
//! result and touches nothing outside.

use jailrun::image::layer::{Limits, Options};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::support::{CALLERS, Caller};
use super::writer::{Header, Tar, gzip, zstd};
use super::{Target, options, unpack};

/// Names that meet each other, and that lead out.
const NAMES: &[&str] = &[
    ".",
    "./",
    "/",
    "a",
    "a/",
    "a/b",
    "a/b/c",
    "a/../b",
    "../outside/secret",
    "l",
    "l/secret",
    "l/l/x",
    "b",
    "b/a",
    "/b",
    ".wh.a",
    ".wh.l",
    "a/.wh.b",
    ".wh..wh..opq",
    "a/.wh..wh..opq",
    ".wh.",
    "a//b",
    "a/.",
];

fn entry() -> impl Strategy<Value = Header> {
    let name = proptest::sample::select(NAMES);
    let target = proptest::sample::select(NAMES);
    let typeflag = proptest::sample::select(&b"000112223456SLKxg7\0Z"[..]);
    let mode = 0..0o10000_u64;
    let data = proptest::collection::vec(any::<u8>(), 0..700);
    (name, target, typeflag, mode, data, any::<bool>()).prop_map(
        |(name, target, typeflag, mode, data, is_absolute)| {
            let target = if is_absolute && typeflag == b'2' { "/proc/self/cwd" } else { target };
            let header = Header::new(typeflag, name).mode(mode).link(target).device(1, 3);
            match typeflag {
                b'L' | b'K' => header.gnu().data(format!("{target}\0")),
                b'x' => header.data(super::writer::record(b"path", target.as_bytes())),
                b'0' | b'7' | b'S' => header.data(data),
                _ => header,
            }
        },
    )
}

/// What is done to an archive: bytes changed, with the checksums put right or
/// not, and the end cut off.
fn archive() -> impl Strategy<Value = Vec<u8>> {
    let entries = proptest::collection::vec(entry(), 1..20);
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let cut = proptest::option::weighted(0.2, any::<prop::sample::Index>());
    (entries, changes, any::<bool>(), cut).prop_map(|(entries, changes, mends, cut)| {
        let mut layer = entries.into_iter().fold(Tar::new(), Tar::add).end();
        for (index, byte) in changes {
            let index = index.index(layer.len());
            layer[index] = byte;
            if mends {
                mend(&mut layer[index / 512 * 512..][..512]);
            }
        }
        if let Some(cut) = cut {
            layer.truncate(cut.index(layer.len()));
        }
        layer
    })
}

/// Gives a block the checksum that it must have as a header.
fn mend(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

fn cases() -> u32 {
    std::env::var("JAILRUN_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200)
}

/// Cases from a fixed seed; `JAILRUN_CASES` sets how many.
fn check<S: Strategy>(cases: u32, strategy: S, holds: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    TestRunner::new_with_rng(config, rng)
        .run(&strategy, |value| {
            holds(value);
            Ok(())
        })
        .unwrap();
}

#[test]
fn random_archives_touch_nothing_outside() {
    let limits = Limits { bytes: 1 << 20, entries: 1000, ..Limits::default() };
    check(cases(), archive(), |layer| {
        for caller in CALLERS {
            let target = Target::new(caller);
            let options = Options { limits, ..options(caller) };
            // Either result will do.
            drop(unpack(caller, &layer, &options, &target.into));
            target.assert_nothing_touched();
        }
    });
}

#[test]
fn random_compressed_data_are_errors_or_the_same() {
    let layer = Tar::new().dir("d").file("d/f", vec![b'x'; 100_000]).symlink("l", "d").end();
    let blobs = [gzip(&layer), zstd(&layer)];
    let change = (0..2_usize, any::<prop::sample::Index>(), any::<u8>());
    let options = Options::default();
    check(cases(), change, |(which, index, byte)| {
        let mut blob = blobs[which].clone();
        let index = index.index(blob.len());
        blob[index] = byte;
        let target = Target::new(Caller::Root);
        if let Ok(unpacked) = unpack(Caller::Root, &blob, &options, &target.into) {
            assert_eq!(unpacked.diff_id, jailrun::image::digest::Digest::of(&layer));
        }
        target.assert_nothing_touched();
    });
}
