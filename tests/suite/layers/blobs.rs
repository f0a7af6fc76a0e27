//! Blobs: compressed in every way, cut off, blown up, and not what they were
//! announced to be.

use std::sync::atomic::{AtomicU64, Ordering};

use jailrun::image::blob::unpack_blob;
use jailrun::image::compress::Compression;
use jailrun::image::digest::Digest;
use jailrun::image::layer::{Expected, LayerError, Limits, Options, Reason};

use super::super::support::{CALLERS, Caller};
use super::snapshot;
use super::writer::{Tar, gzip, zstd};
use super::{Target, options, unpack_expecting};

/// A layer of half a megabyte that does not compress to nothing.
fn layer() -> Vec<u8> {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 28) as u8
    })
    .take(500_000)
    .collect();
    Tar::new().dir("d").file("d/noise", noise).file("last", "x").end()
}

#[track_caller]
fn accepted(blob: &[u8], expected: &Expected) {
    let layer = layer();
    for caller in CALLERS {
        let target = Target::new(caller);
        let unpacked =
            unpack_expecting(caller, blob, expected, &options(caller), &target.into).unwrap();
        assert_eq!(snapshot::names(&target.tree()), ["d", "d/noise", "last"]);
        assert_eq!(unpacked.size, blob.len() as u64);
        assert_eq!(unpacked.digest, Digest::of(blob));
        assert_eq!(unpacked.diff_id, Digest::of(&layer));
        assert_eq!(unpacked.summary.bytes, layer.len() as u64);
        target.assert_nothing_touched();
    }
}

/// What both callers are told.
#[track_caller]
fn refused(blob: &[u8], expected: &Expected, limits: Limits) -> LayerError {
    let mut errors: Vec<_> = CALLERS
        .into_iter()
        .map(|caller| {
            let target = Target::new(caller);
            let options = Options { limits, ..options(caller) };
            let result = unpack_expecting(caller, blob, expected, &options, &target.into);
            target.assert_nothing_touched();
            result.unwrap_err()
        })
        .collect();
    assert_eq!(errors[0].to_string(), errors[1].to_string());
    errors.remove(0)
}

#[track_caller]
fn refused_saying(blob: &[u8], says: &str) {
    let error = refused(blob, &Expected::default(), Limits::default());
    assert!(error.to_string().contains(says), "{error}");
}

/// A frame that decoders skip.
fn skippable(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_le_bytes();
    [&[0x53, 0x2a, 0x4d, 0x18], &length[..], data].concat()
}

#[test]
fn every_compression_is_found_out() {
    let layer = layer();
    let (half, rest) = layer.split_at(layer.len() / 2);
    for (blob, compression) in [
        (layer.clone(), Compression::None),
        (gzip(&layer), Compression::Gzip),
        ([gzip(half), gzip(b""), gzip(rest)].concat(), Compression::Gzip),
        (zstd(&layer), Compression::Zstd),
        ([zstd(half), zstd(b""), zstd(rest)].concat(), Compression::Zstd),
        (
            [skippable(b"x"), zstd(half), skippable(&[0; 300_000]), zstd(rest), skippable(b"")]
                .concat(),
            Compression::Zstd,
        ),
    ] {
        accepted(&blob, &Expected::default());
        let expected = Expected {
            size: Some(blob.len() as u64),
            digest: Some(Digest::of(&blob)),
            diff_id: Some(Digest::of(&layer)),
            compression: Some(compression),
        };
        accepted(&blob, &expected);
    }
}

#[test]
fn the_media_type_must_be_right() {
    let layer = layer();
    for (blob, claimed, says) in [
        (gzip(&layer), Compression::Zstd, "the data are gzip, their media type says zstd"),
        (gzip(&layer), Compression::None, "the data are gzip, their media type says uncompressed"),
        (zstd(&layer), Compression::Gzip, "the data are zstd, their media type says gzip"),
        (layer.clone(), Compression::Gzip, "the data are uncompressed, their media type says gzip"),
        (
            br#"{"schemaVersion":2,"manifests":[]}"#.to_vec(),
            Compression::Gzip,
            "the data are uncompressed, their media type says gzip",
        ),
    ] {
        let expected = Expected { compression: Some(claimed), ..Expected::default() };
        let error = refused(&blob, &expected, Limits::default());
        assert_eq!(error.to_string(), says);
    }
}

#[test]
fn the_size_must_be_right() {
    for blob in [layer(), gzip(&layer()), zstd(&layer())] {
        let size = blob.len() as u64;
        let expecting = |size| Expected { size: Some(size), ..Expected::default() };
        let error = refused(&blob, &expecting(size + 1), Limits::default());
        let says = format!("ends after {size} bytes where {} are expected", size + 1);
        assert_eq!(error.to_string(), says);
        for short in [size - 1, size / 2, 0] {
            let error = refused(&blob, &expecting(short), Limits::default());
            let says = format!("longer than the {short} bytes that are expected");
            assert_eq!(error.to_string(), says);
        }
    }
}

#[test]
fn the_digest_must_be_right() {
    for blob in [layer(), gzip(&layer()), zstd(&layer())] {
        let expected = Expected { digest: Some(Digest::of(b"")), ..Expected::default() };
        let error = refused(&blob, &expected, Limits::default());
        assert!(matches!(error.reason, Reason::Digest(..)), "{error}");
        assert!(error.to_string().contains(&Digest::of(&blob).to_string()), "{error}");
    }
}

#[test]
fn the_diff_id_must_be_right() {
    for blob in [layer(), gzip(&layer()), zstd(&layer())] {
        let expected = Expected { diff_id: Some(Digest::of(&[0])), ..Expected::default() };
        let error = refused(&blob, &expected, Limits::default());
        assert!(matches!(error.reason, Reason::DiffId(..)), "{error}");
        assert!(error.to_string().contains(&Digest::of(&layer()).to_string()), "{error}");
    }
}

#[test]
fn damage_is_told_by_the_digest_where_there_is_one() {
    for whole in [gzip(&layer()), zstd(&layer())] {
        let mut blob = whole.clone();
        let middle = blob.len() / 2;
        blob[middle..middle + 64].fill(0xff);
        let error = refused(&blob, &Expected::default(), Limits::default());
        assert!(error.to_string().contains("data are damaged"), "{error}");
        let expected = Expected { digest: Some(Digest::of(&whole)), ..Expected::default() };
        let error = refused(&blob, &expected, Limits::default());
        assert!(matches!(error.reason, Reason::Digest(..)), "{error}");
    }
}

#[test]
fn compressed_data_that_are_cut_off() {
    for blob in [gzip(&layer()), zstd(&layer())] {
        for length in [3, 17, blob.len() / 2, blob.len() - 1] {
            let error = refused(&blob[..length], &Expected::default(), Limits::default());
            assert!(matches!(error.reason, Reason::Malformed(_)), "{length}: {error}");
        }
        let expected = Expected {
            size: Some(blob.len() as u64),
            digest: Some(Digest::of(&blob)),
            ..Expected::default()
        };
        let error = refused(&blob[..blob.len() / 2], &expected, Limits::default());
        assert!(matches!(error.reason, Reason::Size(..)), "{error}");
    }
    let blob = gzip(&layer());
    refused_saying(&blob[..blob.len() / 2], "entry `d/noise`: the gzip data are damaged");
    refused_saying(&skippable(&[0; 100])[..50], "the zstd data are damaged");
}

#[test]
fn checksums_of_compressed_data() {
    let mut blob = gzip(&layer());
    let at = blob.len() - 6;
    blob[at] ^= 1;
    refused_saying(&blob, "the gzip data are damaged");
    let mut blob = zstd(&layer());
    let at = blob.len() - 1;
    blob[at] ^= 1;
    refused_saying(&blob, "a frame does not have its checksum");
}

#[test]
fn what_follows_compressed_data() {
    for rest in [&b"garbage"[..], &[0; 512], &layer()] {
        refused_saying(&[&gzip(&layer()), rest].concat(), "the gzip data are damaged");
        refused_saying(&[&zstd(&layer()), rest].concat(), "the zstd data are damaged");
    }
    refused_saying(&[gzip(&layer()), zstd(b"")].concat(), "the gzip data are damaged");
}

#[test]
fn bombs_are_stopped_at_the_ratio() {
    let size = 600 << 20;
    let start = Tar::new().add(super::writer::Header::new(b'0', "bomb").size(size)).unfinished();
    let zeroes = vec![0; 60 << 20];
    // Members and frames of zeroes, again and again.
    for (first, again) in [(gzip(&start), gzip(&zeroes)), (zstd(&start), zstd(&zeroes))] {
        let bomb = [first, again.repeat(10)].concat();
        let error = refused(&bomb, &Expected::default(), Limits::default());
        let says = "entry `bomb`: more than 200 times as large uncompressed (limit `ratio`)";
        assert_eq!(error.to_string(), says);
    }
}

#[test]
fn bombs_are_stopped_at_the_size() {
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let size = 100 << 20;
    let layer = Tar::new().file("bomb", vec![0; size]).end();
    let many = (0..1000).fold(Tar::new(), |tar, n| tar.file(format!("{n}"), [0; 4096])).end();
    for (layer, entry) in [(layer, "bomb"), (many, "227")] {
        for blob in [gzip(&layer), zstd(&layer), layer.clone()] {
            let error = refused(&blob, &Expected::default(), limits);
            let says = "more than 1048576 bytes uncompressed (limit `bytes`)";
            assert_eq!(error.to_string(), format!("entry `{entry}`: {says}"));
        }
    }
}

#[test]
fn windows_that_would_take_the_memory() {
    // A frame with a window of 2 GiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    refused_saying(&frame, "the zstd data are damaged");
}

#[test]
fn layers_without_an_end_marker_are_whole_when_the_digest_says_so() {
    let layer = Tar::new().file("f", "x").unfinished();
    // Even the last padding may be missing.
    for layer in [layer.clone(), layer[..513].to_vec()] {
        let error = refused(&layer, &Expected::default(), Limits::default());
        assert!(matches!(error.reason, Reason::Malformed(_)), "{error}");
        for blob in [layer.clone(), gzip(&layer)] {
            let expected = Expected { diff_id: Some(Digest::of(&layer)), ..Expected::default() };
            let target = Target::new(Caller::Root);
            let options = Options::default();
            unpack_expecting(Caller::Root, &blob, &expected, &options, &target.into).unwrap();
            assert_eq!(snapshot::names(&target.tree()), ["f"]);
        }
    }
}

#[test]
fn progress_is_told_to_the_end() {
    let blob = gzip(&layer());
    let target = Target::new(Caller::Root);
    let into = std::fs::File::open(&target.into).unwrap();
    let seen = AtomicU64::new(0);
    let progress = |bytes| {
        let before = seen.swap(bytes, Ordering::Relaxed);
        assert!(before <= bytes);
    };
    let into = std::os::fd::AsFd::as_fd(&into);
    unpack_blob(blob.as_slice(), &Expected::default(), into, &Options::default(), &progress)
        .unwrap();
    assert_eq!(seen.into_inner(), blob.len() as u64);
}

#[test]
fn a_blob_that_cannot_be_read() {
    struct Broken(Vec<u8>);
    impl std::io::Read for Broken {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let length = self.0.as_slice().read(buffer)?;
            self.0.drain(..length);
            if length == 0 { Err(std::io::Error::from_raw_os_error(libc::EIO)) } else { Ok(length) }
        }
    }
    for blob in [layer(), gzip(&layer()), zstd(&layer())] {
        for length in [0, blob.len() / 2, blob.len()] {
            let target = Target::new(Caller::Root);
            let into = std::fs::File::open(&target.into).unwrap();
            let error = unpack_blob(
                Broken(blob[..length].to_vec()),
                &Expected::default(),
                std::os::fd::AsFd::as_fd(&into),
                &Options::default(),
                &|_| {},
            )
            .unwrap_err();
            assert_eq!(error.to_string(), "cannot be read: Input/output error (os error 5)");
        }
    }
}
