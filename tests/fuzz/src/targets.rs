//! The readers.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use jailrun::closure::{self, Request};
use jailrun::image::layer::Limits;
use jailrun::image::oci;
use jailrun::image::source::Platform;
use jailrun::image::tar::{EndMarker, Reader};
use jailrun::seccomp::{Arch, profile};
use jailrun::{block_image, mountinfo, unit};

/// Reads one input; it may refuse it.
type Read = Box<dyn FnMut(&[u8])>;

/// One reader.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    /// How many inputs the tests try.
    pub(crate) count: u32,
    pub(crate) prepare: fn() -> Read,
}

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "unit", count: 3000, prepare: || Box::new(read_unit) },
    Target { name: "set", count: 4000, prepare: || Box::new(set) },
    Target { name: "mountinfo", count: 20_000, prepare: || Box::new(read_mountinfo) },
    Target { name: "seccomp", count: 3000, prepare: || Box::new(read_profile) },
    Target { name: "tar", count: 4000, prepare: || Box::new(read_tar) },
    Target { name: "state", count: 2000, prepare: state },
    Target { name: "oci", count: 1000, prepare: layout },
    Target { name: "elf", count: 500, prepare: elf },
    Target { name: "cache", count: 500, prepare: cache },
    Target { name: "block", count: 2000, prepare: block },
];

fn lossy(input: &[u8]) -> String {
    String::from_utf8_lossy(input).into_owned()
}

fn load(text: &str, assignments: &[String]) -> unit::Loaded {
    unit::from_text("unit.toml", text, PathBuf::from("/"), "unit", assignments, &[])
}

fn read_unit(input: &[u8]) {
    let loaded = load(&lossy(input), &[]);
    let again = load(&lossy(input), &[]);
    assert_eq!(loaded.diagnostics, again.diagnostics);
    jailrun::diagnostic::render(&loaded.diagnostics, &loaded.sources);
    if loaded.unit.is_some() {
        unit::effective(&loaded);
    }
}

/// Each line is an assignment, and its value is given to each parser of values.
fn set(input: &[u8]) {
    let text = lossy(input);
    let assignments: Vec<String> = text.lines().map(str::to_owned).collect();
    let loaded = load("root.host = true", &assignments);
    jailrun::diagnostic::render(&loaded.diagnostics, &loaded.sources);
    for value in text.lines().filter_map(|line| line.split_once('=')).map(|(_, value)| value) {
        unit::value::parse_bytes(value).ok();
        unit::value::parse_id_set(value).ok();
        unit::value::normal_path(value);
    }
}

fn read_mountinfo(input: &[u8]) {
    let mut lines = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        mountinfo::may_lie_below(line, Path::new("/proc"));
        lines.extend(mountinfo::parse_line(line));
    }
    for path in ["/", "/proc/sys", "/run/jailrun"] {
        mountinfo::holder(&lines, Path::new(path));
    }
}

fn read_profile(input: &[u8]) {
    let to = profile::For { arch: Arch::X86_64, capabilities: 0, kernel: (6, 1) };
    if let Ok(policy) = profile::read(input, &to) {
        jailrun::seccomp::compile(&policy);
    }
}

fn read_tar(input: &[u8]) {
    let limits = Limits { bytes: 1 << 20, ..Limits::default() };
    let mut reader = Reader::new(input, limits, EndMarker::Optional);
    while let Ok(Some(_)) = reader.next_entry() {}
}

/// A file that is written anew for each input.
fn rewrite(file: &mut File, input: &[u8]) {
    file.set_len(0).expect("the file can be emptied");
    file.rewind().expect("the file can be written");
    file.write_all(input).expect("the file can be written");
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("jailrun-test-fuzz-").tempdir().expect("a directory")
}

/// The journal of a jail that runs: its lock is held.
fn state() -> Read {
    let directory = scratch();
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(directory.path(), mode).expect("the mode can be set");
    let path = directory.path().join("a.json");
    let mut file = File::create(path).expect("a journal");
    file.lock().expect("a lock");
    Box::new(move |input| {
        rewrite(&mut file, input);
        jailrun::run::state::stack_of(directory.path(), "a").ok();
    })
}

/// The index of a layout.
fn layout() -> Read {
    let directory = scratch();
    let version = "{\"imageLayoutVersion\": \"1.0.0\"}";
    std::fs::write(directory.path().join("oci-layout"), version).expect("a layout");
    let mut file = File::create(directory.path().join("index.json")).expect("an index");
    Box::new(move |input| {
        rewrite(&mut file, input);
        oci::read_image(directory.path(), None, &Platform::host()).ok();
        oci::read_image(directory.path(), Some("latest"), &Platform::host()).ok();
    })
}

fn closure_of(root: &Path) {
    let request = Request {
        root,
        binaries: &["/bin/program".to_owned()],
        libraries: &["libc.so.6".to_owned()],
        files: &[],
        with: &[],
    };
    closure::resolve(&request).ok();
}

fn tree() -> tempfile::TempDir {
    let directory = scratch();
    for name in ["bin", "etc", "lib", "lib64"] {
        std::fs::create_dir(directory.path().join(name)).expect("a directory");
    }
    std::fs::copy("/bin/true", directory.path().join("bin/program")).expect("a program");
    directory
}

/// A program.
fn elf() -> Read {
    let directory = tree();
    let path = directory.path().join("bin/program");
    let mut file = File::options().write(true).open(path).expect("the program");
    Box::new(move |input| {
        rewrite(&mut file, input);
        closure_of(directory.path());
    })
}

/// ld.so.cache.
fn cache() -> Read {
    let directory = tree();
    let mut file = File::create(directory.path().join("etc/ld.so.cache")).expect("a cache");
    Box::new(move |input| {
        rewrite(&mut file, input);
        closure_of(directory.path());
    })
}

/// The beginning of a file system, where its superblock is.
fn block() -> Read {
    let mut file = tempfile::tempfile().expect("a file");
    Box::new(move |input| {
        rewrite(&mut file, input);
        for offset in [0, 512, u64::MAX] {
            block_image::detect(&file, offset).ok();
        }
    })
}
