//! Closures of trees made for the purpose, of files made to mislead, and of
//! what this machine has.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use ::elf::abi;
use proptest::prelude::*;

use super::*;

const LD: &str = "/lib64/ld-linux-x86-64.so.2";

/// An ELF file with as much in it as loaders read.
#[derive(Clone, Debug)]
struct Elf<'a> {
    bits: u8,
    big_endian: bool,
    machine: u16,
    loader: Option<&'a str>,
    /// Tags with strings.
    strings: Vec<(i64, &'a str)>,
    flags_1: u64,
    note: Option<&'a str>,
}

impl<'a> Elf<'a> {
    fn library() -> Self {
        Self {
            bits: 64,
            big_endian: false,
            machine: abi::EM_X86_64,
            loader: None,
            strings: Vec::new(),
            flags_1: 0,
            note: None,
        }
    }

    fn program() -> Self {
        Self { loader: Some(LD), ..Self::library() }
    }

    fn needs(mut self, names: &[&'a str]) -> Self {
        self.strings.extend(names.iter().map(|name| (abi::DT_NEEDED, *name)));
        self
    }

    fn with(mut self, tag: i64, text: &'a str) -> Self {
        self.strings.push((tag, text));
        self
    }

    fn build(&self) -> Vec<u8> {
        let wide = self.bits == 64;
        let (header, entry) = if wide { (64, 56) } else { (52, 32) };
        let segments = 2 + usize::from(self.loader.is_some()) + usize::from(self.note.is_some());
        let mut body = Vec::new();
        let start = header + segments * entry;
        let loader = self.loader.map(|path| {
            let at = start + body.len();
            body.extend(path.as_bytes());
            body.push(0);
            (at, path.len() + 1)
        });
        let strings_at = start + body.len();
        body.push(0);
        let mut dynamic: Vec<(i64, u64)> = Vec::new();
        for (tag, text) in &self.strings {
            dynamic.push((*tag, (start + body.len() - strings_at) as u64));
            body.extend(text.as_bytes());
            body.push(0);
        }
        let strings_size = start + body.len() - strings_at;
        dynamic.push((abi::DT_STRTAB, strings_at as u64 + 0x10000));
        dynamic.push((abi::DT_STRSZ, strings_size as u64));
        dynamic.push((abi::DT_FLAGS_1, self.flags_1));
        dynamic.push((abi::DT_NULL, 0));
        let aligned = |body: &mut Vec<u8>| {
            while !(start + body.len()).is_multiple_of(8) {
                body.push(0);
            }
            start + body.len()
        };
        let note = self.note.map(|text| {
            let at = aligned(&mut body);
            for field in [4, u32::try_from(text.len()).unwrap() + 1, 0x407c_0c0a] {
                body.extend(self.number(u64::from(field), 4));
            }
            body.extend(b"FDO\0");
            body.extend(text.as_bytes());
            body.push(0);
            (at, start + body.len() - at)
        });
        let dynamic_at = aligned(&mut body);
        for (tag, value) in &dynamic {
            body.extend(self.word(*tag as u64));
            body.extend(self.word(*value));
        }
        let dynamic_size = start + body.len() - dynamic_at;

        let order = if self.big_endian { 2 } else { 1 };
        let mut out = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, order, 1, 0];
        out.extend([0; 8]);
        out.extend(self.number(u64::from(abi::ET_DYN), 2));
        out.extend(self.number(u64::from(self.machine), 2));
        out.extend(self.number(1, 4));
        for address in [0, header as u64, 0] {
            out.extend(self.word(address));
        }
        out.extend(self.number(0, 4));
        for half in [header, entry, segments, 0, 0, 0] {
            out.extend(self.number(half as u64, 2));
        }
        let total = start + body.len();
        // Addresses are not offsets.
        let mut list = vec![(abi::PT_LOAD, 0, total), (abi::PT_DYNAMIC, dynamic_at, dynamic_size)];
        list.extend(loader.map(|(at, size)| (abi::PT_INTERP, at, size)));
        list.extend(note.map(|(at, size)| (abi::PT_NOTE, at, size)));
        for (kind, at, size) in list {
            out.extend(self.number(u64::from(kind), 4));
            let (at, address, size) = (at as u64, at as u64 + 0x10000, size as u64);
            if wide {
                out.extend(self.number(4, 4));
                for field in [at, address, address, size, size, 4] {
                    out.extend(self.word(field));
                }
            } else {
                for field in [at, address, address, size, size, 4, 4] {
                    out.extend(self.word(field));
                }
            }
        }
        out.extend(body);
        out
    }

    fn word(&self, value: u64) -> Vec<u8> {
        self.number(value, if self.bits == 64 { 8 } else { 4 })
    }

    fn number(&self, value: u64, size: usize) -> Vec<u8> {
        if self.big_endian {
            value.to_be_bytes()[8 - size..].to_vec()
        } else {
            value.to_le_bytes()[..size].to_vec()
        }
    }
}

/// A tree with a loader.
struct Root(tempfile::TempDir);

impl Root {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With glibc's loader and its library, in merged directories.
    fn new() -> Self {
        let root = Self::empty();
        for (link, to) in [("/lib64", "usr/lib64"), ("/lib", "usr/lib"), ("/bin", "usr/bin")] {
            root.link(link, to);
        }
        root.elf(
            "/usr/lib64/ld-linux-x86-64.so.2",
            &Elf::library().with(abi::DT_SONAME, "ld-linux-x86-64.so.2"),
        );
        root.elf(
            "/usr/lib64/libc.so.6",
            &Elf::library().needs(&["ld-linux-x86-64.so.2"]).with(abi::DT_SONAME, "libc.so.6"),
        );
        root
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn elf(&self, path: &str, elf: &Elf<'_>) {
        self.write(path, elf.build());
    }

    fn link(&self, path: &str, to: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(to, path).unwrap();
    }

    fn ask(&self, ask: impl FnOnce(&mut Ask)) -> Result<Closure, Vec<Problem>> {
        let mut request = Ask::default();
        ask(&mut request);
        let mut resolver = Resolver::new(self.0.path())?;
        resolver.search.levels = Some(&["x86-64-v3", "x86-64-v2"]);
        resolver.resolve(&Request {
            root: self.0.path(),
            binaries: &request.binaries,
            libraries: &request.libraries,
            files: &request.files,
            with: &request.with,
        })
    }

    fn binary(&self, name: &str) -> Result<Closure, Vec<Problem>> {
        self.ask(|ask| ask.binaries.push(name.to_owned()))
    }

    /// What a program's closure is, without what every closure has.
    fn closure(&self, name: &str) -> Vec<String> {
        let usual = ["/lib", "/lib64", "/bin", "/usr/lib64/ld-linux-x86-64.so.2"];
        let list = lines(&self.binary(name).unwrap());
        list.into_iter()
            .filter(|line| {
                !usual.contains(&line.split(' ').next().unwrap())
                    && !line.ends_with(&format!("{name} file"))
            })
            .collect()
    }
}

#[derive(Default)]
struct Ask {
    binaries: Vec<String>,
    libraries: Vec<String>,
    files: Vec<PathBuf>,
    with: Vec<Extra>,
}

/// `PATH file`, `PATH directory` or `PATH -> TO`.
fn lines(closure: &Closure) -> Vec<String> {
    let line = |entry: &Entry| {
        let path = entry.path.display();
        match &entry.what {
            What::File { .. } => format!("{path} file"),
            What::Directory { .. } => format!("{path} directory"),
            What::EmptyDirectory => format!("{path} empty"),
            What::Link { to } => format!("{path} -> {}", to.display()),
        }
    };
    closure.entries.iter().map(line).collect()
}

fn messages(result: Result<Closure, Vec<Problem>>) -> Vec<String> {
    result.unwrap_err().iter().map(ToString::to_string).collect()
}

#[test]
fn a_program_brings_its_loader_its_libraries_and_the_links_to_them() {
    let root = Root::new();
    root.elf("/usr/bin/a-1.2", &Elf::program().needs(&["libx.so.1", "libc.so.6"]));
    root.link("/etc/alternatives/a", "/bin/a-1.2");
    root.link("/usr/bin/a", "/etc/alternatives/a");
    root.elf(
        "/usr/lib64/libx.so.1.0",
        &Elf::library().needs(&["libc.so.6"]).with(abi::DT_SONAME, "libx.so.1"),
    );
    root.link("/usr/lib64/libx.so.1", "libx.so.1.0");
    let closure = root.binary("a").unwrap();
    assert_eq!(
        lines(&closure),
        [
            "/bin -> usr/bin",
            "/etc/alternatives/a -> /bin/a-1.2",
            "/lib64 -> usr/lib64",
            "/usr/bin/a -> /etc/alternatives/a",
            "/usr/bin/a-1.2 file",
            "/usr/lib64/ld-linux-x86-64.so.2 file",
            "/usr/lib64/libc.so.6 file",
            "/usr/lib64/libx.so.1 -> libx.so.1.0",
            "/usr/lib64/libx.so.1.0 file",
        ]
    );
    let by = |path: &str| {
        &closure.entries.iter().find(|entry| entry.path == Path::new(path)).unwrap().wanted_by
    };
    assert_eq!(by("/usr/bin/a-1.2"), &Wanted::Request);
    assert_eq!(by("/usr/lib64/libx.so.1.0"), &Wanted::File("/usr/bin/a-1.2".into()));
    let source = root.path("/usr/bin/a-1.2").canonicalize().unwrap();
    assert!(
        closure.entries.iter().any(|entry| entry.what == What::File { source: source.clone() })
    );
}

#[test]
fn a_static_program_is_alone() {
    let root = Root::empty();
    root.elf("/bin/static-pie", &Elf::library());
    assert_eq!(lines(&root.binary("/bin/static-pie").unwrap()), ["/bin/static-pie file"]);
}

#[test]
fn an_rpath_is_inherited_and_a_runpath_is_not() {
    let root = Root::new();
    root.elf("/usr/bin/rpath", &Elf::program().needs(&["liba.so"]).with(abi::DT_RPATH, "/opt/r"));
    root.elf(
        "/usr/bin/runpath",
        &Elf::program().needs(&["liba.so"]).with(abi::DT_RUNPATH, "/opt/r"),
    );
    root.elf("/opt/r/liba.so", &Elf::library().needs(&["libb.so"]));
    root.elf("/opt/r/libb.so", &Elf::library());
    assert_eq!(root.closure("/usr/bin/rpath"), ["/opt/r/liba.so file", "/opt/r/libb.so file"]);
    assert_eq!(
        messages(root.binary("/usr/bin/runpath")),
        ["`/opt/r/liba.so` needs `libb.so`, which is not in /lib64:/usr/lib64"]
    );
    root.elf("/usr/lib64/libb.so", &Elf::library());
    assert_eq!(root.closure("/usr/bin/rpath"), ["/opt/r/liba.so file", "/opt/r/libb.so file"]);
    assert_eq!(
        root.closure("/usr/bin/runpath"),
        ["/opt/r/liba.so file", "/usr/lib64/libb.so file"]
    );
}

#[test]
fn a_runpath_switches_off_every_rpath() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["liba.so"]).with(abi::DT_RPATH, "/opt/r"));
    root.elf(
        "/opt/r/liba.so",
        &Elf::library()
            .needs(&["libb.so"])
            .with(abi::DT_RUNPATH, "/opt/u")
            .with(abi::DT_RPATH, "/opt/own"),
    );
    for path in ["/opt/r/libb.so", "/opt/own/libb.so", "/usr/lib64/libb.so"] {
        root.elf(path, &Elf::library());
    }
    assert_eq!(root.closure("/usr/bin/a"), ["/opt/r/liba.so file", "/usr/lib64/libb.so file"]);
    // That of an object that asked, too, for those it asked for.
    root.elf(
        "/usr/bin/b",
        &Elf::program()
            .needs(&["libc1.so"])
            .with(abi::DT_RPATH, "/opt/r")
            .with(abi::DT_RUNPATH, "/opt/u"),
    );
    root.elf("/opt/u/libc1.so", &Elf::library().needs(&["libb.so"]));
    assert_eq!(root.closure("/usr/bin/b"), ["/opt/u/libc1.so file", "/usr/lib64/libb.so file"]);
}

#[test]
fn tokens_stand_for_places() {
    let root = Root::new();
    let rpath = "relative:$ORIGIN/../a:${ORIGIN}/b:/opt/$LIB:/opt/${PLATFORM}:$OTHER";
    let names = ["liba.so", "libb.so", "libc1.so", "libd.so"];
    root.elf("/srv/app/bin/app", &Elf::program().needs(&names).with(abi::DT_RUNPATH, rpath));
    // A program's origin is where it really is, a library's where it was found.
    root.link("/usr/bin/app", "/srv/app/bin/app");
    root.elf(
        "/srv/store/liba.so",
        &Elf::library().needs(&["libe.so"]).with(abi::DT_RUNPATH, "$ORIGIN"),
    );
    root.link("/srv/app/a/liba.so", "/srv/store/liba.so");
    for path in [
        "/srv/app/bin/b/libb.so",
        "/opt/lib64/libc1.so",
        "/opt/x86_64/libd.so",
        "/srv/app/a/libe.so",
    ] {
        root.elf(path, &Elf::library());
    }
    let closure = lines(&root.binary("app").unwrap());
    for line in [
        "/opt/lib64/libc1.so file",
        "/opt/x86_64/libd.so file",
        "/srv/app/a/liba.so -> /srv/store/liba.so",
        "/srv/app/a/libe.so file",
        "/srv/app/bin/b/libb.so file",
        "/srv/store/liba.so file",
    ] {
        assert!(closure.contains(&line.to_owned()), "{line}: {closure:?}");
    }
}

#[test]
fn a_directory_that_a_path_leads_out_of_is_there() {
    let root = Root::new();
    root.elf(
        "/usr/bin/a",
        &Elf::program().needs(&["liba.so"]).with(abi::DT_RUNPATH, "/opt/bin/../lib"),
    );
    root.elf("/opt/lib/liba.so", &Elf::library());
    root.write("/opt/bin/other", "");
    assert_eq!(root.closure("/usr/bin/a"), ["/opt/bin empty", "/opt/lib/liba.so file"]);
}

#[test]
fn the_first_of_a_name_serves_all_who_ask() {
    let root = Root::new();
    // `liba.so` is asked for by two, and found by the first in its own place;
    // `name.so` is what libb says it is called.
    root.elf("/usr/bin/a", &Elf::program().needs(&["libp.so", "libb.so", "libq.so"]));
    root.elf(
        "/usr/lib64/libp.so",
        &Elf::library().needs(&["liba.so"]).with(abi::DT_RUNPATH, "/opt/p"),
    );
    root.elf("/usr/lib64/libq.so", &Elf::library().needs(&["liba.so", "name.so"]));
    root.elf("/usr/lib64/libb.so", &Elf::library().with(abi::DT_SONAME, "name.so"));
    for path in ["/opt/p/liba.so", "/usr/lib64/liba.so", "/usr/lib64/name.so"] {
        root.elf(path, &Elf::library());
    }
    assert_eq!(
        root.closure("/usr/bin/a"),
        [
            "/opt/p/liba.so file",
            "/usr/lib64/libb.so file",
            "/usr/lib64/libp.so file",
            "/usr/lib64/libq.so file"
        ]
    );
}

#[test]
fn libraries_that_need_each_other_end() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["liba.so"]));
    root.elf("/usr/lib64/liba.so", &Elf::library().needs(&["libb.so"]));
    root.elf("/usr/lib64/libb.so", &Elf::library().needs(&["liba.so", "libb.so"]));
    assert_eq!(root.closure("/usr/bin/a"), ["/usr/lib64/liba.so file", "/usr/lib64/libb.so file"]);
}

#[test]
fn libraries_of_another_format_are_passed_over() {
    let root = Root::new();
    root.elf(
        "/usr/bin/a",
        &Elf::program().needs(&["liba.so"]).with(abi::DT_RUNPATH, "/opt/1:/opt/2:/opt/3:/opt/4"),
    );
    root.elf("/opt/1/liba.so", &Elf { bits: 32, machine: abi::EM_386, ..Elf::library() });
    root.elf("/opt/2/liba.so", &Elf { machine: abi::EM_AARCH64, ..Elf::library() });
    root.elf("/opt/3/liba.so", &Elf { big_endian: true, ..Elf::library() });
    root.elf("/opt/4/liba.so", &Elf::library());
    assert_eq!(root.closure("/usr/bin/a"), ["/opt/4/liba.so file"]);
    // A text stops the loader: this is what linkers have in libc.so.
    root.write("/opt/1/liba.so", "GROUP ( /usr/lib64/liba.so.1 )");
    assert_eq!(
        messages(root.binary("/usr/bin/a")),
        ["`/opt/1/liba.so` is not a shared library, and is wanted by `/usr/bin/a`"]
    );
}

#[test]
fn formats_besides_the_usual_are_read() {
    for (bits, big_endian) in [(64, true), (32, true), (32, false)] {
        let format = Elf { bits, big_endian, machine: 4242, ..Elf::library() };
        let root = Root::empty();
        root.elf(
            "/bin/a",
            &Elf { loader: Some("/lib/ld.so.1"), ..format.clone() }.needs(&["liba.so"]),
        );
        root.elf("/lib/ld.so.1", &format);
        root.elf("/lib/liba.so", &format);
        assert_eq!(
            lines(&root.binary("/bin/a").unwrap()),
            ["/bin/a file", "/lib/ld.so.1 file", "/lib/liba.so file"]
        );
    }
}

#[test]
fn the_best_directory_of_the_processor_comes_first() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["liba.so", "libb.so"]));
    for level in
        ["", "glibc-hwcaps/x86-64-v2/", "glibc-hwcaps/x86-64-v3/", "glibc-hwcaps/x86-64-v4/"]
    {
        root.elf(&format!("/usr/lib64/{level}liba.so"), &Elf::library());
    }
    root.elf("/usr/lib64/libb.so", &Elf::library());
    assert_eq!(
        root.closure("/usr/bin/a"),
        ["/usr/lib64/glibc-hwcaps/x86-64-v3/liba.so file", "/usr/lib64/libb.so file"]
    );
}

#[test]
fn the_cache_is_asked_before_the_default_directories_and_comes_along_if_needed() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["liba.so"]));
    root.elf("/usr/bin/nodeflib", &Elf { flags_1: 0x800, ..Elf::program() }.needs(&["liba.so"]));
    root.elf("/usr/lib64/liba.so", &Elf::library());
    root.elf("/opt/l/liba.so", &Elf::library());
    root.write("/etc/ld.so.cache", cache::tests::build(&[("liba.so", "/opt/l/liba.so", None)]));
    assert_eq!(root.closure("/usr/bin/a"), ["/etc/ld.so.cache file", "/opt/l/liba.so file"]);
    assert_eq!(root.closure("/usr/bin/nodeflib"), ["/etc/ld.so.cache file", "/opt/l/liba.so file"]);
    // Found by the cache, but where the loader looks without one too.
    root.write("/etc/ld.so.cache", cache::tests::build(&[("liba.so", "/lib64/liba.so", None)]));
    assert_eq!(root.closure("/usr/bin/a"), ["/usr/lib64/liba.so file"]);
    assert_eq!(
        messages(root.binary("/usr/bin/nodeflib")),
        ["`/usr/bin/nodeflib` needs `liba.so`, which is not in /etc/ld.so.cache"]
    );
    // Below such a directory, the loader does not look.
    root.elf("/usr/lib64/sub/liba.so", &Elf::library());
    root.write(
        "/etc/ld.so.cache",
        cache::tests::build(&[("liba.so", "/usr/lib64/sub/liba.so", None)]),
    );
    assert_eq!(
        root.closure("/usr/bin/a"),
        ["/etc/ld.so.cache file", "/usr/lib64/sub/liba.so file"]
    );
    // What is not there any more is looked for elsewhere.
    root.write("/etc/ld.so.cache", cache::tests::build(&[("liba.so", "/gone/liba.so", None)]));
    assert_eq!(root.closure("/usr/bin/a"), ["/usr/lib64/liba.so file"]);
}

#[test]
fn without_a_cache_the_configuration_counts_and_a_link_stands_for_it() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["liba.so"]));
    root.elf("/opt/l/liba.so", &Elf::library());
    root.write("/etc/ld.so.conf", "# comment\ninclude ld.so.conf.d/*.conf\nhwcap 0 nosegneg\n");
    root.write(
        "/etc/ld.so.conf.d/a.conf",
        "/opt/nothing /opt/l=libc6 # comment\ninclude /etc/ld.so.conf\n",
    );
    root.write("/etc/ld.so.conf.d/b.conf~", "/opt/never\n");
    assert_eq!(
        root.closure("/usr/bin/a"),
        ["/opt/l/liba.so file", "/usr/lib64/liba.so -> /opt/l/liba.so"]
    );
}

#[test]
fn a_library_by_its_path_is_not_searched() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["/opt/liba.so", "$ORIGIN/libb.so"]));
    root.elf("/opt/liba.so", &Elf::library());
    root.elf("/usr/bin/libb.so", &Elf::library());
    assert_eq!(root.closure("/usr/bin/a"), ["/opt/liba.so file", "/usr/bin/libb.so file"]);
    root.elf("/usr/bin/a", &Elf::program().needs(&["./liba.so"]));
    assert_eq!(
        messages(root.binary("/usr/bin/a")),
        ["`/usr/bin/a` needs `./liba.so`, which does not exist"]
    );
}

#[test]
fn musl_is_its_own_library_and_has_its_own_path_file() {
    let root = Root::empty();
    let program =
        |names| Elf { loader: Some("/lib/ld-musl-x86_64.so.1"), ..Elf::library() }.needs(names);
    root.elf("/bin/a", &program(&["libc.musl-x86_64.so.1", "libpthread.so.0", "liba.so"]));
    root.elf("/lib/x/libc.so", &Elf::library());
    root.link("/lib/ld-musl-x86_64.so.1", "x/libc.so");
    root.elf("/usr/local/lib/liba.so", &Elf::library());
    let usual = ["/bin/a file", "/lib/ld-musl-x86_64.so.1 -> x/libc.so", "/lib/x/libc.so file"];
    let with = |more: &[&str]| {
        let mut list: Vec<_> = usual.iter().chain(more).map(ToString::to_string).collect();
        list.sort();
        list
    };
    let sorted = |name| {
        let mut list = lines(&root.binary(name).unwrap());
        list.sort();
        list
    };
    assert_eq!(sorted("/bin/a"), with(&["/usr/local/lib/liba.so file"]));
    root.elf("/opt/one/liba.so", &Elf::library());
    root.write("/etc/ld-musl-x86_64.path", "/opt/none:/opt/one\n/usr/local/lib\n");
    assert_eq!(sorted("/bin/a"), with(&["/etc/ld-musl-x86_64.path file", "/opt/one/liba.so file"]));
    // It does not go on after a file of the wrong kind.
    root.elf("/opt/one/liba.so", &Elf { machine: abi::EM_AARCH64, ..Elf::library() });
    assert_eq!(
        messages(root.binary("/bin/a")),
        [
            "`/opt/one/liba.so` is for 64-bit aarch64 where 64-bit x86-64 is needed, and is wanted by `/bin/a`"
        ]
    );
}

#[test]
fn musl_inherits_a_runpath() {
    let root = Root::empty();
    root.elf("/lib/ld-musl-x86_64.so.1", &Elf::library());
    let program = Elf { loader: Some("/lib/ld-musl-x86_64.so.1"), ..Elf::library() };
    root.elf("/bin/a", &program.needs(&["liba.so"]).with(abi::DT_RUNPATH, "$ORIGIN/../l"));
    root.elf("/l/liba.so", &Elf::library().needs(&["libb.so"]));
    root.elf("/l/libb.so", &Elf::library());
    assert_eq!(
        lines(&root.binary("/bin/a").unwrap()),
        ["/bin/a file", "/l/liba.so file", "/l/libb.so file", "/lib/ld-musl-x86_64.so.1 file"]
    );
}

#[test]
fn every_missing_library_is_named_at_once_with_who_wants_it() {
    let root = Root::new();
    root.elf(
        "/usr/bin/a",
        &Elf::program().needs(&["liba.so", "libgone.so.1"]).with(abi::DT_RUNPATH, "/opt"),
    );
    root.elf("/opt/liba.so", &Elf::library().needs(&["libfar.so.2"]));
    root.elf("/usr/bin/b", &Elf { loader: Some("/lib/ld-other.so"), ..Elf::library() });
    root.write("/usr/bin/c", "#!/usr/bin/nothing\n");
    let result =
        root.ask(|ask| ask.binaries.extend(["a", "b", "c", "d", "./e"].map(str::to_owned)));
    assert_eq!(
        messages(result),
        [
            "`/usr/bin/a` needs `libgone.so.1`, which is not in /opt:/lib64:/usr/lib64",
            "`/opt/liba.so` needs `libfar.so.2`, which is not in /lib64:/usr/lib64",
            "`/lib/ld-other.so` does not exist, and is wanted by `/usr/bin/b`",
            "`/usr/bin/nothing` does not exist, and is wanted by `/usr/bin/c`",
            "`d` is not in /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "`./e` is a relative path",
        ]
    );
}

#[test]
fn what_is_no_program_is_refused() {
    let root = Root::new();
    root.write("/usr/bin/text", "echo\n");
    root.elf("/usr/bin/library", &Elf::library().needs(&["libc.so.6"]));
    root.elf("/usr/bin/plain", &Elf::program());
    fs::set_permissions(root.path("/usr/bin/plain"), fs::Permissions::from_mode(0o644)).unwrap();
    root.elf("/usr/bin/foreign", &Elf { machine: abi::EM_AARCH64, ..Elf::program() });
    nix::unistd::mkfifo(&root.path("/usr/bin/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    root.link("/usr/bin/loop", "loop");
    let names = ["text", "library", "plain", "foreign", "fifo", "loop"]
        .map(|name| format!("/usr/bin/{name}"));
    assert_eq!(
        messages(root.ask(|ask| ask.binaries.extend(names))),
        [
            "`/usr/bin/text` is neither an ELF file nor a script with `#!`",
            "`/usr/bin/library` is a shared library: it names no loader",
            "`/usr/bin/plain` is not executable",
            "`/usr/lib64/ld-linux-x86-64.so.2` is for 64-bit x86-64, where `/usr/bin/foreign` needs 64-bit aarch64",
            "`/usr/bin/fifo` is not a regular file",
            "`/usr/bin/loop` leads through too many links",
        ]
    );
}

#[test]
fn a_fifo_is_not_taken_for_a_library() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["liba.so"]));
    nix::unistd::mkfifo(&root.path("/usr/lib64/liba.so"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(
        messages(root.binary("a")),
        ["`/usr/bin/a` needs `liba.so`, which is not in /lib64:/usr/lib64"]
    );
}

#[test]
fn notes_bring_what_is_opened_later() {
    let root = Root::new();
    let note = r#"[
        {"soname": ["libnone.so", "liba.so"], "feature": "x", "description": "y", "priority": "required"},
        {"soname": ["libb.so"], "priority": "suggested"},
        {"soname": ["libnever.so"], "priority": "suggested"},
        {"soname": ["libmissed.so"], "feature": "z"}
    ]"#;
    root.elf(
        "/usr/bin/a",
        &Elf { note: Some(note), ..Elf::program() }.with(abi::DT_RUNPATH, "/opt"),
    );
    for path in ["/opt/liba.so", "/usr/lib64/libb.so"] {
        root.elf(path, &Elf::library());
    }
    assert_eq!(root.closure("/usr/bin/a"), ["/opt/liba.so file", "/usr/lib64/libb.so file"]);
    let warnings: Vec<_> =
        root.binary("a").unwrap().warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings, ["`/usr/bin/a` recommends `libmissed.so`, which does not exist"]);
    fs::remove_file(root.path("/opt/liba.so")).unwrap();
    assert_eq!(
        messages(root.binary("a")),
        ["`/usr/bin/a` needs `libnone.so` or `liba.so`, which is not in /opt:/lib64:/usr/lib64"]
    );
    let first_edition = r#"{"soname": "libb.so", "priority": "required"}"#;
    root.elf("/usr/bin/b", &Elf { note: Some(first_edition), ..Elf::program() });
    assert_eq!(root.closure("/usr/bin/b"), ["/usr/lib64/libb.so file"]);
    root.elf("/usr/bin/c", &Elf { note: Some("[{]"), ..Elf::program() });
    assert_eq!(messages(root.binary("c")).len(), 1);
}

#[test]
fn a_script_brings_its_interpreters() {
    let root = Root::new();
    root.elf("/usr/bin/sh", &Elf::program().needs(&["libc.so.6"]));
    root.elf("/usr/bin/env", &Elf::program());
    root.elf("/opt/bin/tool", &Elf::program());
    root.elf("/usr/bin/python3.11", &Elf::program());
    root.link("/usr/bin/python3", "python3.11");
    root.write("/usr/bin/one", "#! /bin/sh -e\n");
    root.write("/usr/bin/two", "#!/usr/bin/env python3\n");
    root.write("/usr/bin/three", "#!/usr/bin/env -S PATH=/opt/bin tool -x\n");
    root.write("/usr/bin/four", "#!/usr/bin/one\n");
    assert_eq!(root.closure("/usr/bin/one"), ["/usr/bin/sh file", "/usr/lib64/libc.so.6 file"]);
    assert_eq!(
        root.closure("/usr/bin/two"),
        ["/usr/bin/env file", "/usr/bin/python3 -> python3.11", "/usr/bin/python3.11 file"]
    );
    assert_eq!(root.closure("/usr/bin/three"), ["/opt/bin/tool file", "/usr/bin/env file"]);
    assert_eq!(
        root.closure("/usr/bin/four"),
        ["/usr/bin/one file", "/usr/bin/sh file", "/usr/lib64/libc.so.6 file"]
    );
    root.write("/usr/bin/bad", "#!/usr/bin/env -S 'x\n");
    assert_eq!(messages(root.binary("bad")), ["`/usr/bin/bad` hands `env` a quote without an end"]);
}

#[test]
fn scripts_in_a_row_are_as_many_as_the_kernel_takes() {
    let root = Root::new();
    root.elf("/usr/bin/s0", &Elf::program());
    for number in 1..=6 {
        root.write(&format!("/usr/bin/s{number}"), format!("#!/usr/bin/s{}\n", number - 1));
    }
    assert!(root.binary("s5").is_ok());
    assert_eq!(
        messages(root.binary("s6")),
        ["`/usr/bin/s1` is interpreted by more than 5 scripts in a row"]
    );
    root.write("/usr/bin/self", "#!/usr/bin/self\n");
    assert_eq!(
        messages(root.binary("self")),
        ["`/usr/bin/self` is interpreted by more than 5 scripts in a row"]
    );
}

#[test]
fn files_are_taken_as_they_are() {
    let root = Root::new();
    root.write("/etc/app/conf", "");
    root.write("/etc/app/sub/more", "");
    root.write("/usr/share/app/data", "");
    root.link("/etc/app.conf", "app/conf");
    root.link("/etc/data", "/usr/share/app");
    let files = |list: &[&str]| root.ask(|ask| ask.files.extend(list.iter().map(PathBuf::from)));
    assert_eq!(
        lines(&files(&["/etc/app.conf", "/etc/data"]).unwrap()),
        [
            "/etc/app/conf file",
            "/etc/app.conf -> app/conf",
            "/etc/data -> /usr/share/app",
            "/usr/share/app directory"
        ]
    );
    // What lies in a directory that is there is there.
    assert_eq!(
        lines(&files(&["/etc/app/sub/more", "/etc/app", "/etc/app/conf"]).unwrap()),
        ["/etc/app directory"]
    );
    nix::unistd::mkfifo(&root.path("/etc/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(
        messages(files(&[
            "/etc/none",
            "etc/app",
            "/etc/app/conf/x",
            "/etc/fifo",
            "/",
            "/etc/../.."
        ])),
        [
            "`/etc/none` does not exist",
            "`etc/app` is a relative path",
            "`/etc/app/conf/x` leads through a file that is no directory",
            "`/etc/fifo` is not a regular file",
            "`/` is the whole tree, of which a closure is a part",
        ]
    );
}

#[test]
fn links_do_not_lead_out_of_the_tree() {
    let root = Root::new();
    root.link("/etc/out", "../../../../../../etc/inside");
    root.link("/etc/absolute", "/etc/inside");
    root.write("/etc/inside", "");
    let closure =
        root.ask(|ask| ask.files.extend(["/etc/out", "/etc/absolute"].map(PathBuf::from)));
    for entry in closure.unwrap().entries {
        if let What::File { source } = entry.what {
            assert_eq!(source, root.path("/etc/inside").canonicalize().unwrap());
        }
    }
}

#[test]
fn a_file_that_lives_in_run_takes_the_place_of_the_link_to_it() {
    let root = Root::new();
    root.write("/run/resolve/stub.conf", "");
    root.link("/etc/resolv.conf", "../run/resolve/stub.conf");
    root.link("/etc/twice", "resolv.conf");
    let closure = root
        .ask(|ask| ask.files.extend(["/etc/resolv.conf", "/etc/twice"].map(PathBuf::from)))
        .unwrap();
    assert_eq!(lines(&closure), ["/etc/resolv.conf file", "/etc/twice -> resolv.conf"]);
    let source = root.path("/run/resolve/stub.conf").canonicalize().unwrap();
    assert_eq!(closure.entries[0].what, What::File { source });
    // A directory that is such a link cannot be stood in for by one of its files.
    root.link("/etc/resolve", "/run/resolve");
    let closure = root.ask(|ask| ask.files.push("/etc/resolve/stub.conf".into())).unwrap();
    assert_eq!(lines(&closure), ["/etc/resolve -> /run/resolve", "/run/resolve/stub.conf file"]);
}

#[test]
fn libraries_are_found_as_a_program_would_open_them() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().with(abi::DT_RUNPATH, "/opt/plugins"));
    root.elf("/opt/plugins/libp.so", &Elf::library().needs(&["libq.so"]));
    root.elf("/usr/lib64/libq.so", &Elf::library());
    root.elf("/srv/libr.so", &Elf::library().needs(&["libq.so"]));
    let ask = |binaries: &[&str], libraries: &[&str]| {
        root.ask(|ask| {
            ask.binaries.extend(binaries.iter().map(ToString::to_string));
            ask.libraries.extend(libraries.iter().map(ToString::to_string));
        })
    };
    let all = lines(&ask(&["a"], &["libp.so", "/srv/libr.so"]).unwrap());
    for line in ["/opt/plugins/libp.so file", "/usr/lib64/libq.so file", "/srv/libr.so file"] {
        assert!(all.contains(&line.to_owned()), "{line}: {all:?}");
    }
    assert_eq!(
        messages(ask(&["a"], &["libz.so", "/srv/none.so", "/srv"])),
        [
            "the unit needs `libz.so`, which is not in /opt/plugins:/lib64:/usr/lib64",
            "`/srv/none.so` does not exist",
            "`/srv` is not a regular file"
        ]
    );
    if cfg!(target_arch = "x86_64") {
        let alone = lines(&ask(&[], &["libq.so"]).unwrap());
        assert!(alone.contains(&"/usr/lib64/libq.so file".to_owned()), "{alone:?}");
    }
}

#[test]
fn names_bring_the_services_that_look_them_up() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program());
    root.write("/etc/nsswitch.conf", "hosts: files [NOTFOUND=return] ldap gone\n");
    root.write("/etc/passwd", "");
    root.elf("/usr/lib64/libnss_ldap.so.2", &Elf::library().needs(&["libldap.so"]));
    root.elf("/usr/lib64/libldap.so", &Elf::library());
    let ask = || {
        root.ask(|ask| {
            ask.binaries.push("a".to_owned());
            ask.with.push(Extra::Nss);
        })
    };
    let closure = lines(&ask().unwrap());
    for line in [
        "/etc/nsswitch.conf file",
        "/etc/passwd file",
        "/usr/lib64/libldap.so file",
        "/usr/lib64/libnss_ldap.so.2 file",
    ] {
        assert!(closure.contains(&line.to_owned()), "{line}: {closure:?}");
    }
    fs::remove_file(root.path("/usr/lib64/libldap.so")).unwrap();
    assert_eq!(
        messages(ask()),
        ["`/usr/lib64/libnss_ldap.so.2` needs `libldap.so`, which is not in /lib64:/usr/lib64"]
    );
}

#[test]
fn certificates_bring_what_their_links_lead_to() {
    let root = Root::new();
    root.write("/etc/ssl/certs/own.pem", "");
    root.write("/etc/ssl/private/key.pem", "");
    root.write("/opt/corporate/ca.crt", "");
    root.link("/etc/ssl/certs/ca.pem", "/opt/corporate/ca.crt");
    root.link("/etc/ssl/certs/0123.0", "ca.pem");
    root.link("/etc/ssl/certs/gone.pem", "/opt/gone");
    root.link("/usr/lib/ssl/certs", "/etc/ssl/certs");
    assert_eq!(
        lines(&root.ask(|ask| ask.with.push(Extra::CaCertificates)).unwrap()),
        [
            "/etc/ssl/certs directory",
            "/lib -> usr/lib",
            "/opt/corporate/ca.crt file",
            "/usr/lib/ssl/certs -> /etc/ssl/certs"
        ]
    );
}

#[test]
fn an_extra_of_which_there_is_nothing_is_a_problem() {
    let root = Root::new();
    let result = root.ask(|ask| ask.with.extend(Extra::TABLE.map(|(_, extra)| extra)));
    let names: Vec<_> =
        messages(result).iter().map(|line| line.split(':').next().unwrap().to_owned()).collect();
    assert_eq!(names, Extra::TABLE.map(|(name, _)| format!("the host has nothing of `{name}`")));
}

#[test]
fn a_tree_that_leads_on_and_on_comes_to_an_end() {
    let root = Root::new();
    let names: Vec<String> = (0..400).map(|number| format!("lib{number}.so")).collect();
    let path: Vec<String> = (0..200).map(|number| format!("/opt/{number}")).collect();
    for directory in &path {
        fs::create_dir_all(root.path(directory)).unwrap();
    }
    let path = path.join(":");
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    root.elf("/usr/bin/a", &Elf::program().needs(&needs).with(abi::DT_RPATH, &path));
    for name in &names {
        let missing: Vec<String> = (0..400).map(|number| format!("{name}-{number}")).collect();
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        root.elf(&format!("/opt/199/{name}"), &Elf::library().needs(&missing));
    }
    let problems = root.binary("a").unwrap_err();
    assert_eq!(problems.last(), Some(&Problem::TooMuch));
}

#[test]
fn more_problems_than_anybody_reads_are_not_gathered() {
    let root = Root::new();
    let names: Vec<String> = (0..2000).map(|number| format!("lib{number}.so")).collect();
    let needs: Vec<&str> = names.iter().map(String::as_str).collect();
    root.elf("/usr/bin/a", &Elf::program().needs(&needs));
    let problems = root.binary("a").unwrap_err();
    assert_eq!((problems.len(), problems.last()), (PROBLEMS + 1, Some(&Problem::TooMuch)));
}

/// Programs whose numbers promise what is not there.
#[test]
fn numbers_that_cannot_be_are_refused() {
    let good = Elf::program().needs(&["libc.so.6"]).build();
    let cases: &[(&str, usize, &[u8])] = &[
        ("program headers far behind the end", 32, &[0xff; 8]),
        ("65535 program headers", 56, &[0xff, 0xff]),
        ("program headers of another size", 54, &[57, 0]),
        ("a dynamic section of 2^64 bytes", 64 + 56 + 32, &[0xff; 8]),
        (
            "a dynamic section behind the end",
            64 + 56 + 8,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        ("a loader's path of 2^32 bytes", 64 + 112 + 32, &[0xff, 0xff, 0xff, 0xff]),
        ("a segment that is nowhere", 64 + 16, &[0xff; 8]),
    ];
    for (what, at, bytes) in cases {
        let root = Root::new();
        let mut file = good.clone();
        file[*at..*at + bytes.len()].copy_from_slice(bytes);
        root.write("/usr/bin/a", file);
        let problems = root.binary("a").unwrap_err();
        assert!(matches!(problems[..], [Problem::NotAProgram { .. }]), "{what}: {problems:?}");
    }
    let root = Root::new();
    for length in 0..good.len() {
        root.write("/usr/bin/a", &good[..length]);
        assert!(root.binary("a").is_err(), "cut off after {length} bytes");
    }
}

/// A file with holes is as large as it says, and takes no space.
#[test]
fn a_large_file_is_not_read_whole() {
    let root = Root::new();
    root.elf("/usr/bin/a", &Elf::program().needs(&["libc.so.6"]));
    let file = fs::File::options().write(true).open(root.path("/usr/bin/a")).unwrap();
    file.set_len(1 << 40).unwrap();
    assert!(root.binary("a").is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is in a file, reading it ends with an answer.
    #[test]
    fn no_bytes_make_it_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..24),
        cut in any::<Option<prop::sample::Index>>(),
        bits in prop::sample::select(vec![32_u8, 64]),
        big_endian in any::<bool>(),
    ) {
        let note = r#"[{"soname": ["liba.so"], "priority": "required"}]"#;
        let elf = Elf { bits, big_endian, note: Some(note), ..Elf::program() }
            .needs(&["libc.so.6"])
            .with(abi::DT_RUNPATH, "$ORIGIN/../lib:${LIB}")
            .with(abi::DT_SONAME, "a");
        let mut bytes = elf.build();
        for (index, value) in changes {
            let length = bytes.len();
            bytes[index.index(length)] = value;
        }
        if let Some(index) = cut {
            bytes.truncate(index.index(bytes.len()));
        }
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let first = self::elf::read(&file);
        prop_assert_eq!(&first, &self::elf::read(&file));
    }

    /// The same for what follows from the file.
    #[test]
    fn no_bytes_make_the_search_panic(
        changes in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let program = Elf::program()
            .needs(&["liba.so", "$ORIGIN/libb.so"])
            .with(abi::DT_RPATH, "$ORIGIN/../lib64/:/opt");
        let library = Elf::library().needs(&["libc.so.6"]).with(abi::DT_RUNPATH, "${ORIGIN}/$LIB");
        let mut files = [program.build(), library.build()];
        for (which, index, value) in changes {
            let file = &mut files[usize::from(which)];
            let length = file.len();
            file[index.index(length)] = value;
        }
        let root = Root::new();
        root.write("/usr/bin/a", &files[0]);
        root.write("/usr/bin/libb.so", &files[1]);
        root.write("/usr/lib64/liba.so", &files[1]);
        let first = root.binary("a");
        prop_assert!(first.is_ok() || !first.as_ref().unwrap_err().is_empty());
        prop_assert_eq!(first, root.binary("a"));
    }

    #[test]
    fn no_line_makes_it_panic(line in "#!.{0,250}", argument in ".{0,80}") {
        script::parse(line.as_bytes()).ok();
        script::env_command(&argument).ok();
        script::env_command(&format!("-S{argument}")).ok();
    }
}
