//! Layers that must be refused: with the entry named, and nothing touched.

use jailrun::image::layer::{Limits, Options};

use super::super::support::{CALLERS, Caller};
use super::writer::{Header, Tar, record};
use super::{Target, options, unpack};

/// A layer, the entry that is at fault, and a part of what is said.
struct Bad {
    layer: Vec<u8>,
    entry: Option<String>,
    says: &'static str,
}

/// Refuses the layer for both callers. `make` is told the absolute path of the
/// directory beside.
#[track_caller]
fn refused_with(
    limits: Limits,
    make: impl Fn(&str) -> Vec<u8>,
    entry: Option<&str>,
    says: &'static str,
) {
    for caller in CALLERS {
        let target = Target::new(caller);
        let bad = Bad {
            layer: make(target.outside().to_str().unwrap()),
            entry: entry.map(str::to_owned),
            says,
        };
        refuse(caller, &target, &bad, &Options { limits, ..options(caller) });
    }
}

#[track_caller]
fn refuse(caller: Caller, target: &Target, bad: &Bad, options: &Options) {
    let error = match unpack(caller, &bad.layer, options, &target.into) {
        Ok(unpacked) => panic!("{caller:?}: unpacked: {unpacked:?}"),
        Err(error) => error,
    };
    let text = error.to_string();
    assert_eq!(error.entry, bad.entry, "{caller:?}: {text}");
    assert!(error.reason.to_string().contains(bad.says), "{caller:?}: {text}");
    target.assert_nothing_touched();
}

#[track_caller]
fn refused(layer: Vec<u8>, entry: &str, says: &'static str) {
    refused_with(Limits::default(), |_| layer.clone(), Some(entry), says);
}

/// The blob is no archive: there is no entry to name.
#[track_caller]
fn malformed(layer: Vec<u8>, says: &'static str) {
    refused_with(Limits::default(), |_| layer.clone(), None, says);
}

// Names.

#[test]
fn names_that_lead_out() {
    for name in ["../x", "a/../../x", "a/..", "..", "/../x", "./../x", "a//../b"] {
        refused(Tar::new().file(name, "x").end(), name, "leads out by `..`");
        refused(Tar::new().dir(name).end(), name, "leads out by `..`");
        let long = Tar::new().gnu_long(b'L', name).file("x", "x").end();
        refused(long, name, "leads out by `..`");
        let pax = Tar::new().pax(&[(b"path", name.as_bytes())]).file("x", "x").end();
        refused(pax, name, "leads out by `..`");
    }
}

#[test]
fn names_that_lead_out_by_the_prefix() {
    let header = Header::new(b'0', "x").field(345, b"a/../..");
    refused(Tar::new().add(header).end(), "a/../../x", "leads out by `..`");
}

#[test]
fn no_name_at_all() {
    refused(Tar::new().file("", "x").end(), "", "an empty name");
}

#[test]
fn names_with_zero_bytes() {
    let layer = Tar::new().pax(&[(b"path", b"a\0b")]).file("x", "x").end();
    refused(layer, "a\\x00b", "zero byte");
    let layer = Tar::new().pax(&[(b"linkpath", b"a\0b")]).symlink("x", "y").end();
    refused(layer, "x", "zero byte");
    let layer = Tar::new().gnu_long(b'L', "a\0/../b").file("x", "x").end();
    refused(layer, "a\\x00/../b", "zero byte");
}

#[test]
fn names_cannot_act_on_a_terminal() {
    refused(Tar::new().file("\x1b[2J/../x", "").end(), "\\x1b[2J/../x", "leads out");
}

#[test]
fn a_component_longer_than_the_kernel_allows() {
    let name = "n".repeat(256);
    let layer = Tar::new().gnu_long(b'L', &name).file("x", "x").end();
    let shown = format!("{}… (256 bytes)", "n".repeat(200));
    refused(layer, &shown, "File name too long");
}

#[test]
fn a_name_of_a_megabyte() {
    let name = "n/".repeat(1 << 19);
    let shown = format!("{}… (512 bytes)", "n/".repeat(100));
    refused(Tar::new().gnu_long(b'L', &name).file("x", "x").end(), &shown, "limit `path`");
    let layer = Tar::new().pax(&[(b"path", name.as_bytes())]).file("x", "x").end();
    refused(layer, "PaxHeaders/x", "an extended header of 1048");
}

#[test]
fn a_path_over_the_limit() {
    let name = "n/".repeat(2048);
    let shown = format!("{}… (4096 bytes)", "n/".repeat(100));
    let pax = Tar::new().pax(&[(b"path", name.as_bytes())]).file("x", "x").end();
    refused(pax, &shown, "longer than 4095 bytes (limit `path`)");
    let pax = Tar::new().pax(&[(b"linkpath", name.as_bytes())]).symlink("x", "x").end();
    refused(pax, "x", "longer than 4095 bytes (limit `path`)");
}

#[test]
fn a_path_deeper_than_the_limit() {
    let name = format!("{}x", "d/".repeat(256));
    let shown = format!("{}… (513 bytes)", "d/".repeat(100));
    let layer = Tar::new().gnu_long(b'L', &name).file("x", "x").end();
    refused(layer, &shown, "more than 256 components (limit `depth`)");
}

// Links as parents.

#[test]
fn a_file_through_a_link_of_the_layer() {
    for target in ["outside", "/", ".", "../outside", "missing", "/missing"] {
        let layer = Tar::new().symlink("link", target).file("link/x", "x").end();
        refused(layer, "link/x", "`link` above it is a symbolic link of this layer");
    }
    let layer = |outside: &str| Tar::new().symlink("l", outside).file("l/secret", "x").end();
    let says = "`l` above it is a symbolic link of this layer";
    refused_with(Limits::default(), layer, Some("l/secret"), says);
}

#[test]
fn a_directory_through_a_link_of_the_layer() {
    let layer = |outside: &str| {
        Tar::new().symlink("l", outside).add(Header::new(b'5', "l/d/").mode(0o777)).end()
    };
    let says = "`l` above it is a symbolic link of this layer";
    refused_with(Limits::default(), layer, Some("l/d/"), says);
}

#[test]
fn a_link_in_the_middle_of_a_path() {
    let layer = |outside: &str| {
        Tar::new().dir("a").symlink("a/l", outside).dir("b").file("a/l/b/secret", "x").end()
    };
    let says = "`a/l` above it is a symbolic link of this layer";
    refused_with(Limits::default(), layer, Some("a/l/b/secret"), says);
}

#[test]
fn links_and_nodes_through_a_link_of_the_layer() {
    let says = "`l` above it is a symbolic link of this layer";
    let through = |header: Header| {
        move |outside: &str| Tar::new().symlink("l", outside).add(header.clone()).end()
    };
    for header in [
        Header::new(b'2', "l/x").link("y"),
        Header::new(b'6', "l/x"),
        Header::new(b'3', "l/x").device(1, 3),
    ] {
        let entry = header.name();
        refused_with(Limits::default(), through(header), Some(&entry), says);
    }
    let layer =
        |outside: &str| Tar::new().symlink("l", outside).file("f", "").hard_link("l/x", "f").end();
    refused_with(Limits::default(), layer, Some("l/x"), says);
}

#[test]
fn a_file_below_a_file() {
    let layer = Tar::new().file("f", "x").file("f/x", "x").end();
    refused(layer, "f/x", "`f` above it is a file of this layer");
    let layer = Tar::new().add(Header::new(b'6', "p")).dir("p/x/").end();
    refused(layer, "p/x/", "`p` above it is a FIFO of this layer");
}

// Hard links.

#[test]
fn hard_links_that_lead_out() {
    let absent = "which is not in this layer before it";
    for target in ["../outside/secret", "a/../../outside/secret", "/../outside/secret"] {
        refused(Tar::new().hard_link("h", target).end(), "h", "leads out by `..`");
    }
    let layer = |outside: &str| Tar::new().hard_link("h", format!("{outside}/secret")).end();
    refused_with(Limits::default(), layer, Some("h"), absent);
    let layer = |outside: &str| Tar::new().symlink("l", outside).hard_link("h", "l/secret").end();
    refused_with(Limits::default(), layer, Some("h"), absent);
    let pax = Tar::new().pax(&[(b"linkpath", b"../outside/secret")]).hard_link("h", "x").end();
    refused(pax, "h", "leads out by `..`");
}

#[test]
fn hard_links_to_what_is_not_there() {
    let absent = "a hard link to `x`, which is not in this layer before it";
    refused(Tar::new().hard_link("h", "x").end(), "h", absent);
    refused(Tar::new().hard_link("h", "x").file("x", "").end(), "h", absent);
    refused(Tar::new().hard_link("h", "d/x").end(), "h", "which is not in this layer");
    let hidden = Tar::new().file(".wh.x", "").hard_link("h", "x").end();
    refused(hidden, "h", absent);
    let whiteout = Tar::new().file(".wh.x", "").hard_link("h", ".wh.x").end();
    refused(whiteout, "h", "which is not in this layer");
}

#[test]
fn hard_links_to_directories() {
    for target in ["d", "d/", "./d", ".", "/", "./"] {
        let layer = Tar::new().dir("d").hard_link("h", target).end();
        refused(layer, "h", "which is a directory");
    }
}

#[test]
fn hard_links_to_themselves() {
    let layer = Tar::new().file("h", "x").hard_link("h", "./h").end();
    refused(layer, "h", "which is the link itself");
    let layer = Tar::new().dir("d").file("d/x", "").hard_link("d", "d/x").end();
    refused(layer, "d", "which is not in this layer");
}

#[test]
fn links_to_nothing() {
    refused(Tar::new().hard_link("h", "").end(), "h", "a hard link to nothing");
    refused(Tar::new().symlink("s", "").end(), "s", "a symbolic link to nothing");
}

// The root.

#[test]
fn the_root_is_a_directory() {
    for name in ["./", ".", "/.", "/", "././/"] {
        let header = Header::new(b'2', name).link("/etc");
        refused(Tar::new().add(header).end(), name, "the root must be a directory");
    }
    refused(Tar::new().file(".", "x").end(), ".", "the root must be a directory");
    let layer = Tar::new().file("f", "").hard_link("./", "f").end();
    refused(layer, "./", "the root must be a directory");
}

// Whiteouts.

#[test]
fn whiteouts_of_nothing() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..."] {
        refused(Tar::new().file(name, "").end(), name, "a whiteout of no name that could be");
    }
}

#[test]
fn whiteouts_of_unknown_kinds() {
    for name in [".wh..wh.x", ".wh..wh.plnk", ".wh..wh.aufs", "d/.wh..wh.orph", ".wh..wh."] {
        refused(Tar::new().file(name, "").end(), name, "a whiteout of an unknown kind");
    }
}

#[test]
fn whiteouts_that_are_not_files() {
    refused(Tar::new().dir(".wh.d").end(), ".wh.d", "a whiteout that is not a file");
    refused(Tar::new().symlink(".wh.l", "x").end(), ".wh.l", "a whiteout that is not a file");
    let layer = Tar::new().dir("d/.wh..wh..opq").end();
    refused(layer, "d/.wh..wh..opq", "a whiteout that is not a file");
}

#[test]
fn files_below_whiteouts() {
    refused(Tar::new().file(".wh.d/x", "").end(), ".wh.d/x", "below `.wh.d`, a whiteout");
    let layer = Tar::new().file("a/.wh..wh..opq/b/x", "").end();
    refused(layer, "a/.wh..wh..opq/b/x", "below `.wh..wh..opq`, a whiteout");
}

#[test]
fn devices_that_overlayfs_takes_for_whiteouts() {
    let layer = Tar::new().add(Header::new(b'3', "null").device(0, 0)).end();
    refused(layer, "null", "takes for a whiteout");
}

// Headers.

#[test]
fn device_numbers_that_do_not_exist() {
    let layer = Tar::new().add(Header::new(b'3', "c").device(4096, 0)).end();
    refused(layer, "c", "major number 4096, which no device has");
    let layer = Tar::new().add(Header::new(b'4', "b").device(0, 1 << 20)).end();
    refused(layer, "b", "minor number 1048576, which no device has");
}

#[test]
fn owners_that_do_not_exist() {
    // The kernel takes the first for "leave it as it is".
    for uid in [&b"4294967295"[..], b"4294967296", b"18446744073709551615"] {
        let layer = Tar::new().pax(&[(b"uid", uid)]).file("f", "").end();
        refused(layer, "f", "which no file can have");
    }
    let negative = Header::new(b'0', "f").field(116, &[0xff; 8]);
    refused(Tar::new().add(negative).end(), "f", "is no number");
}

#[test]
fn numbers_that_are_none() {
    for (offset, value) in
        [(100, &b"rw-r--r-"[..]), (108, b"00009\0\0\0"), (124, b"0x10"), (136, b"today")]
    {
        let layer = Tar::new().add(Header::new(b'0', "f").field(offset, value)).end();
        refused(layer, "f", "is no number");
    }
}

#[test]
fn sizes_beyond_everything() {
    let huge = Header::new(b'0', "f").field(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff");
    refused(Tar::new().add(huge).end(), "f", "limit `bytes`");
    let layer = Tar::new().pax(&[(b"size", b"9223372036854775807")]).file("f", "x").end();
    refused(layer, "f", "limit `bytes`");
    let layer = Tar::new().pax(&[(b"size", b"18446744073709551615")]).file("f", "x").end();
    refused(layer, "f", "limit `bytes`");
    let negative = Header::new(b'0', "f").field(124, &[0xff; 12]);
    refused(Tar::new().add(negative).end(), "f", "is no number");
}

#[test]
fn sizes_by_which_readers_would_part() {
    // The header's size would show another entry in the data.
    let inner = Tar::new().file("../evil", "x").unfinished();
    let layer = Tar::new().pax(&[(b"size", b"4096")]).file("f", &inner).end();
    refused(layer, "f", "the archive ends");
    for typeflag in [b'2', b'3', b'4', b'5', b'6'] {
        let header = Header::new(typeflag, "e").link("x").device(1, 3).data(&inner);
        refused(Tar::new().add(header).end(), "e", "where there cannot be any");
    }
}

#[test]
fn entries_of_unknown_types() {
    for typeflag in [b'Z', b'M', b'D', b'8', 0xff] {
        let layer = Tar::new().add(Header::new(typeflag, "e")).end();
        refused(layer, "e", "of the unknown type");
    }
}

#[test]
fn extended_headers_that_contradict() {
    let pax: &[(&[u8], &[u8])] = &[(b"path", b"a")];
    malformed(Tar::new().pax(pax).pax(pax).file("f", "").end(), "a second extended header");
    let twice = Tar::new().gnu_long(b'L', "a").gnu_long(b'L', "b").file("f", "").end();
    malformed(twice, "a second extended header");
    let both = Tar::new().gnu_long(b'L', "b").pax(pax).file("f", "").end();
    refused(both, "a", "both a GNU header and a PAX record");
    malformed(Tar::new().pax(pax).end(), "an entry that does not follow");
    malformed(Tar::new().gnu_long(b'K', "x").end(), "an entry that does not follow");
}

#[test]
fn extended_headers_with_malformed_records() {
    for records in [&b"12 path=ab\n"[..], b"11 path=ab", b"path=ab\n", b"-9 path=a\n", b"9 a\n"] {
        let header = Header::new(b'x', "PaxHeaders/f").data(records);
        let layer = Tar::new().add(header).file("f", "").end();
        refused(layer, "PaxHeaders/f", "a malformed record");
    }
    for (key, value) in [(b"size", &b"-1"[..]), (b"size", b"1e3"), (b"size", b" 1")] {
        let layer = Tar::new().pax(&[(key, value)]).file("f", "").end();
        refused(layer, "PaxHeaders/x", "the record `size` has the value");
    }
    let layer = Tar::new().pax(&[(b"mtime", b"1.2.3")]).file("f", "").end();
    refused(layer, "PaxHeaders/x", "the record `mtime` has the value `1.2.3`");
}

#[test]
fn extended_headers_of_absurd_size() {
    let data = record(b"comment", &vec![b'x'; 2 << 20]);
    let header = Header::new(b'x', "PaxHeaders/f").data(data);
    let layer = Tar::new().add(header).file("f", "").end();
    refused(layer, "PaxHeaders/f", "of at most 1048576");
}

#[test]
fn global_headers_with_names() {
    for (key, value) in [
        (&b"path"[..], &b"../x"[..]),
        (b"linkpath", b"x"),
        (b"size", b"1"),
        (b"SCHILY.xattr.user.a", b"x"),
        (b"GNU.sparse.name", b"x"),
    ] {
        let header = Header::new(b'g', "global").data(record(key, value));
        let layer = Tar::new().add(header).file("f", "").end();
        malformed(layer, "a global header with what belongs to a single entry");
    }
}

// Extended attributes.

#[test]
fn extended_attributes_without_sensible_names() {
    let layer = |name: &[u8], value: &[u8]| {
        let key = [b"SCHILY.xattr.", name].concat();
        Tar::new().pax(&[(&key, value)]).file("f", "").end()
    };
    refused(layer(b"", b"x"), "f", "an extended attribute with the name ``");
    let long = [b"user.".as_slice(), &[b'n'; 251]].concat();
    refused(layer(&long, b"x"), "f", "an extended attribute with the name `user.nnn");
    refused(layer(b"user.a\0b", b"x"), "f", "an extended attribute with the name `user.a\\x00b`");
    refused(layer(b"user.a", &[b'x'; 65537]), "f", "`user.a` of 65537 bytes");
    let header = Header::new(b'5', "d/");
    let layer = Tar::new().pax(&[(b"SCHILY.xattr.", b"x")]).add(header).end();
    refused(layer, "d", "an extended attribute with the name ``");
}

// Sparse files.

#[test]
fn sparse_maps_that_do_not_fit() {
    let sparse = |map: &[u8], size: &[u8], data: usize| {
        Tar::new()
            .pax(&[(b"GNU.sparse.map", map), (b"GNU.sparse.size", size)])
            .file("f", vec![b'x'; data])
            .end()
    };
    refused(sparse(b"0,512,256,512", b"4096", 1024), "f", "overlapping or outside");
    refused(sparse(b"4096,512", b"4096", 512), "f", "overlapping or outside");
    refused(sparse(b"18446744073709551615,2", b"4096", 2), "f", "overlapping or outside");
    refused(sparse(b"0,1024", b"4096", 512), "f", "a sparse map of 1024 bytes, where 512");
    refused(sparse(b"0", b"4096", 512), "f", "an offset that has no length");
    refused(sparse(b"0,100,512,100", b"4096", 200), "f", "do not fill their blocks");
    refused(sparse(b"0,x", b"4096", 0), "PaxHeaders/x", "`GNU.sparse.map` has the value `0,x`");
    let layer = Tar::new().pax(&[(b"GNU.sparse.map", b"0,1")]).file("f", "x").end();
    refused(layer, "f", "a sparse file without size or map");
}

#[test]
fn sparse_maps_in_the_data_that_do_not_end() {
    let sparse = |data: &[u8]| {
        let records: [(&[u8], &[u8]); 4] = [
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.name", b"f"),
            (b"GNU.sparse.realsize", b"4096"),
        ];
        Tar::new().pax(&records).file("GNUSparseFile.0/f", data).end()
    };
    refused(sparse(&[b'1'; 2048]), "f", "a malformed number");
    refused(sparse(b"99999999999\n"), "f", "longer than the data");
    let mut block = b"99999999999\n".to_vec();
    block.resize(512, 0);
    refused(sparse(&block), "f", "more than 1048576 ranges");
    block = b"2\n0\n1\n".to_vec();
    block.resize(512, 0);
    refused(sparse(&block), "f", "a malformed number");
    let records: [(&[u8], &[u8]); 2] =
        [(b"GNU.sparse.major", b"2"), (b"GNU.sparse.realsize", b"1")];
    let layer = Tar::new().pax(&records).file("f", "x").end();
    refused(layer, "f", "the unknown format 2.0");
}

#[test]
fn gnu_sparse_maps_that_do_not_fit() {
    let header = |size: &[u8], pairs: &[(&[u8], &[u8])]| {
        let mut header = Header::new(b'S', "f").gnu().data([b'x'; 512]).field(483, size);
        for (index, (offset, length)) in pairs.iter().enumerate() {
            header = header.field(386 + 24 * index, offset).field(398 + 24 * index, length);
        }
        header
    };
    let zero = &b"00000000000\0"[..];
    let block = &b"00000001000\0"[..];
    let layer = |header: Header| Tar::new().add(header).end();
    refused(layer(header(zero, &[(zero, block)])), "f", "overlapping or outside");
    refused(layer(header(block, &[])), "f", "a sparse map of 0 bytes, where 512");
    refused(layer(header(block, &[(zero, b"zzzzzzzzzzzz")])), "f", "in a sparse map");
    let ustar = header(block, &[(zero, block)]).field(257, b"ustar\x0000");
    refused(layer(ustar), "f", "not of GNU's format");
    let endless = header(block, &[(zero, block)]).field(482, &[1]);
    let extension = [&[0; 504][..], &[1; 8]].concat();
    let layer = Tar::new().add(endless).unfinished();
    refused([&layer[..512], &extension.repeat(10)].concat(), "f", "the archive ends");
}

// Ends.

#[test]
fn what_is_no_archive() {
    malformed(b"#!/bin/sh\necho this is no archive\n".to_vec(), "header at byte 0");
    malformed(vec![b'x'; 4096], "this is not a tar archive");
    malformed(Vec::new(), "without an end marker");
    let layer = Tar::new().add(Header::new(b'0', "f").wrong_checksum()).end();
    malformed(layer, "where 1 is written");
}

#[test]
fn archives_that_are_cut_off() {
    let whole = Tar::new().file("f", vec![b'x'; 10_000]).file("g", "y").unfinished();
    malformed(whole.clone(), "without an end marker");
    malformed(whole[..100].to_vec(), "the archive ends 412 bytes too early");
    malformed(whole[..512 + 10_240].to_vec(), "without an end marker");
    malformed(whole[..512 + 10_240 + 7].to_vec(), "the archive ends 505 bytes too early");
    malformed(whole[..512 + 10_100].to_vec(), "the archive ends 140 bytes too early");
    refused(whole[..512 + 10].to_vec(), "f", "the archive ends 9990 bytes too early");
    refused(whole[..512].to_vec(), "f", "the archive ends 10000 bytes too early");
}

#[test]
fn entries_after_a_single_block_of_zeroes() {
    let layer = Tar::new().file("f", "").raw(&[0; 512]).file("g", "").end();
    malformed(layer, "a single block of zeroes, and entries after it");
}

// Limits.

#[test]
fn more_than_the_limits_allow() {
    let limits = Limits { bytes: 4096, ..Limits::default() };
    let layer = Tar::new().file("a", [b'x'; 1000]).file("b", [b'x'; 3000]).end();
    refused_with(limits, |_| layer.clone(), Some("b"), "more than 4096 bytes uncompressed");

    let limits = Limits { entries: 3, ..Limits::default() };
    let layer = Tar::new().file("a", "").file("b", "").file("c", "").file("d", "").end();
    refused_with(limits, |_| layer.clone(), Some("d"), "more than 3 entries (limit `entries`)");
    // Directories that are only implied are on the disk too.
    let layer = Tar::new().file("a/b/c/d", "").end();
    refused_with(limits, |_| layer.clone(), Some("a/b/c/d"), "more than 3 entries");

    let limits = Limits { memory: 2000, ..Limits::default() };
    let layer = Tar::new()
        .pax(&[(b"SCHILY.xattr.user.a", &[b'x'; 2000])])
        .add(Header::new(b'5', "d/"))
        .end();
    refused_with(limits, |_| layer.clone(), Some("d/"), "(limit `memory`)");
    let whiteouts = (0..10).fold(Tar::new(), |tar, n| tar.file(format!(".wh.{n}"), "")).end();
    refused_with(limits, |_| whiteouts.clone(), Some(".wh.7"), "(limit `memory`)");

    let limits = Limits { path: 10, depth: 2, ..Limits::default() };
    let layer = Tar::new().file("01234567890", "").end();
    refused_with(limits, |_| layer.clone(), Some("01234567890"), "longer than 10 bytes");
    let layer = Tar::new().file("a/b/c", "").end();
    refused_with(limits, |_| layer.clone(), Some("a/b/c"), "more than 2 components");
}

#[test]
fn data_after_the_end_count() {
    let limits = Limits { bytes: 8192, ..Limits::default() };
    let layer = Tar::new().file("a", "").end();
    let layer = [layer, vec![0; 10_000]].concat();
    refused_with(limits, |_| layer.clone(), None, "more than 8192 bytes uncompressed");
}
