//! Closures of this machine's programs: the loader's own word for which
//! libraries they are, and a root of nothing else for whether they are enough.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use jailrun::closure::{self, Closure, Extra, Problem, Request, What};
use jailrun::init_unit::{self, Asked};

use crate::support::{copy_program, require_root, scratch};

fn request(binaries: &[String]) -> Request<'_> {
    Request { root: Path::new("/"), binaries, libraries: &[], files: &[], with: &[] }
}

/// The loader that a 64-bit little-endian program names, read without the code
/// under test.
fn loader_of(path: &Path) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let number = |at: usize, size: usize| {
        bytes
            .get(at..at + size)
            .map(|bytes| bytes.iter().rev().fold(0, |n, byte| n << 8 | usize::from(*byte)))
    };
    let (table, count) = (number(32, 8)?, number(56, 2)?);
    let segment =
        (0..count).map(|index| table + index * 56).find(|at| number(*at, 4) == Some(3))?;
    let (offset, size) = (number(segment + 8, 8)?, number(segment + 32, 8)?);
    Some(String::from_utf8_lossy(&bytes[offset..offset + size - 1]).into_owned())
}

/// The first programs of `/usr/bin` in the order of their names.
fn programs(count: usize) -> Vec<(PathBuf, String)> {
    let mut names: Vec<_> =
        fs::read_dir("/usr/bin").unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    let paths = names.into_iter().map(|name| Path::new("/usr/bin").join(name));
    let programs = paths.filter(|path| {
        fs::metadata(path)
            .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    });
    programs.filter_map(|path| loader_of(&path).map(|loader| (path, loader))).take(count).collect()
}

/// What the loader says it would load, without links; `None` where it says
/// that something is missing. The program is given by its path without links:
/// `$ORIGIN` is where it really is when it runs, and what is given here.
fn libraries_by_the_loader(loader: &str, program: &Path) -> Option<BTreeSet<PathBuf>> {
    let program = fs::canonicalize(program).unwrap();
    let output = Command::new(loader).arg("--list").arg(program).env_clear().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if !output.status.success() || text.contains("not found") {
        return None;
    }
    let mut libraries = BTreeSet::new();
    for line in
        text.lines().filter(|line| !line.contains("linux-vdso") && !line.contains("linux-gate"))
    {
        let path = line.split("=>").last().unwrap().split_whitespace().next().unwrap();
        if path != "statically" {
            libraries.insert(fs::canonicalize(path).unwrap());
        }
    }
    Some(libraries)
}

fn files(closure: &Closure) -> BTreeSet<PathBuf> {
    let source = |what: &What| match what {
        What::File { source } => Some(source.clone()),
        What::Directory { .. } | What::EmptyDirectory | What::Link { .. } => None,
    };
    closure.entries.iter().filter_map(|entry| source(&entry.what)).collect()
}

#[test]
fn libraries_are_those_the_loader_reports() {
    let programs = programs(200);
    assert_eq!(programs.len(), 200, "too few programs in /usr/bin");
    let mut with_libraries = 0;
    for (program, loader) in programs {
        let binaries = [program.display().to_string()];
        let resolved = closure::resolve(&request(&binaries));
        match libraries_by_the_loader(&loader, &program) {
            Some(mut expected) => {
                with_libraries += usize::from(expected.len() > 1);
                expected.insert(fs::canonicalize(&program).unwrap());
                let mut found = files(&resolved.unwrap());
                // How the loader finds them, not what it loads.
                found.remove(Path::new("/etc/ld.so.cache"));
                assert_eq!(found, expected, "{}", program.display());
            }
            None => {
                let problems = resolved.expect_err("the loader misses a library");
                assert!(
                    problems
                        .iter()
                        .any(|problem| matches!(problem, Problem::MissingLibrary { .. }))
                );
            }
        }
    }
    assert!(with_libraries > 100, "only {with_libraries} programs have libraries");
}

/// Copies a closure below a directory.
fn materialise(closure: &Closure, root: &Path) {
    for entry in &closure.entries {
        let path = root.join(entry.path.strip_prefix("/").unwrap());
        let parent = path.parent().unwrap();
        fs::create_dir_all(parent).unwrap();
        // No entry lies behind a link: it would be copied to another place.
        assert_eq!(fs::canonicalize(parent).unwrap(), parent, "{entry:?}");
        match &entry.what {
            What::File { source } => {
                copy_program(source, &path);
            }
            What::Directory { source } => {
                let status = Command::new("cp").arg("-a").arg(source).arg(&path).status().unwrap();
                assert!(status.success(), "{entry:?}");
            }
            What::EmptyDirectory => fs::create_dir(&path).unwrap(),
            What::Link { to } => symlink(to, &path).unwrap(),
        }
    }
}

/// Runs a command in a root made of a closure, two devices and `/tmp`.
fn run(closure: &Closure, command: &[&str]) -> (i32, String) {
    run_with(closure, &[], command)
}

fn run_with(closure: &Closure, directories: &[&str], command: &[&str]) -> (i32, String) {
    require_root();
    let directory = scratch();
    let root = directory.path().canonicalize().unwrap();
    materialise(closure, &root);
    fs::create_dir_all(root.join("dev")).unwrap();
    for (name, minor) in [("null", 3), ("urandom", 9)] {
        use nix::sys::stat::{Mode, SFlag, makedev, mknod};
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&root.join("dev").join(name), SFlag::S_IFCHR, mode, makedev(1, minor)).unwrap();
    }
    for name in directories.iter().chain(&["tmp"]) {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    let output = Command::new("chroot")
        .arg(&root)
        .args(command)
        .env_clear()
        .env("PATH", closure::PATH)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap_or(-1), text.into_owned())
}

/// The unit that is written for a command, and its closure.
fn unit(command: &[&str]) -> (String, Closure) {
    let command: Vec<String> = command.iter().map(ToString::to_string).collect();
    let asked = Asked { root: Path::new("/"), command: &command, directory: Path::new("/") };
    let text = init_unit::unit_for(&asked).unwrap();
    let strings = |key: &str| -> Vec<String> {
        let table =
            toml::de::DeTable::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let root = table.get_ref()["root"].get_ref().as_table().unwrap();
        let Some(list) = root.get(key) else { return Vec::new() };
        let list = list.get_ref().as_array().unwrap().iter();
        list.map(|item| item.get_ref().as_str().unwrap().to_owned()).collect()
    };
    let (binaries, libraries) = (strings("binaries"), strings("libraries"));
    let files: Vec<PathBuf> = strings("files").into_iter().map(PathBuf::from).collect();
    let with: Vec<Extra> =
        strings("with").iter().map(|name| Extra::from_name(name).unwrap()).collect();
    let request = Request {
        root: Path::new("/"),
        binaries: &binaries,
        libraries: &libraries,
        files: &files,
        with: &with,
    };
    let closure = closure::resolve(&request).unwrap();
    (text, closure)
}

/// The output of a command in the root that a unit for it has.
fn output(command: &[&str]) -> String {
    let (text, closure) = unit(command);
    let (status, output) = run(&closure, command);
    assert_eq!(status, 0, "{command:?}: {output}\n{text}");
    output
}

#[test]
fn bash_runs_from_its_closure() {
    assert_eq!(output(&["bash", "-c", "echo $((6 * 7)); echo ~root"]), "42\n/root\n");
}

#[test]
fn python_runs_from_its_closure() {
    let program = "import ssl, sqlite3, ctypes, json, pwd, hashlib; \
                   print(json.dumps(pwd.getpwuid(0).pw_name), ssl.OPENSSL_VERSION_INFO[0] >= 1)";
    assert_eq!(output(&["/usr/bin/python3", "-c", program]), "\"root\" True\n");
}

#[test]
fn perl_runs_from_its_closure() {
    let program = "use POSIX; use Socket; use Data::Dumper; use File::Spec; print POSIX::floor(7.5), scalar(getpwuid(0)), qq(\\n)";
    assert_eq!(output(&["perl", "-e", program]), "7root\n");
}

#[test]
fn git_runs_from_its_closure() {
    let (text, closure) = unit(&["/usr/bin/git", "init", "/tmp/repository"]);
    let shell = "cd /tmp && git init -q r && cd r && git config user.email a@b && git config user.name c && \
                 echo x >f && git add f && git commit -qm message && git log --format=%s && \
                 git ls-remote https://127.0.0.1:1/ || echo $?";
    let (status, output) = run(&closure, &["/bin/sh", "-c", shell]);
    assert_eq!(status, 0, "{output}\n{text}");
    assert!(output.starts_with("message\n"), "{output}");
    // The subcommand for https has started, and its libraries were there.
    assert!(output.contains("unable to access 'https://127.0.0.1:1/'"), "{output}");
}

#[test]
fn curl_runs_from_its_closure() {
    let (_, closure) = unit(&["/usr/bin/curl", "http://localhost:1/"]);
    let (status, output) = run(&closure, &["curl", "-sS", "http://localhost:1/"]);
    // The name was found in /etc/hosts, and nobody listens.
    assert_eq!(status, 7, "{output}");
    let (status, output) = run(&closure, &["curl", "-sS", "--version"]);
    assert_eq!(status, 0, "{output}");
}

#[test]
fn nginx_runs_from_its_closure() {
    let command = ["nginx", "-t", "-q"];
    let (text, closure) = unit(&command);
    require_root();
    for directory in ["/var/log/nginx", "/var/lib/nginx"] {
        assert!(text.contains(&format!("target = \"{directory}\"\ntmpfs = ")), "{text}");
    }
    let (status, output) = run_with(&closure, &["var/log/nginx", "var/lib/nginx", "run"], &command);
    assert_eq!(status, 0, "{output}\n{text}");
}

/// Runs a command in a root of some programs and extras.
fn with_extras(with: &[Extra], binaries: &[&str], command: &[&str]) -> String {
    let binaries: Vec<String> = binaries.iter().map(ToString::to_string).collect();
    let closure = closure::resolve(&Request { with, ..request(&binaries) }).unwrap();
    let (status, output) = run(&closure, command);
    assert_eq!(status, 0, "{command:?}: {output}");
    output
}

#[test]
fn extras_are_enough_for_their_purpose() {
    let env = |with: Extra, words: &[&str]| {
        let program = words.iter().find(|word| !word.contains('=')).unwrap();
        let command: Vec<&str> = ["env"].iter().chain(words).copied().collect();
        with_extras(&[with], &["env", program], &command)
    };
    assert_eq!(env(Extra::Nss, &["getent", "passwd", "0"]).split(':').next(), Some("root"));
    assert_eq!(env(Extra::Tzdata, &["TZ=Asia/Tokyo", "date", "+%Z"]), "JST\n");
    assert_eq!(env(Extra::Locale, &["LC_ALL=C.UTF-8", "locale", "charmap"]), "UTF-8\n");
    assert_eq!(env(Extra::Terminfo, &["TERM=xterm", "tput", "colors"]), "8\n");
    // A certificate that is its own issuer is found by the link with its hash.
    let links = fs::read_dir("/etc/ssl/certs").unwrap().map(|entry| entry.unwrap().path());
    let link = links.filter(|path| path.extension().is_some_and(|end| end == "pem")).min().unwrap();
    let link = link.to_str().unwrap();
    let words = ["openssl", "verify", "-CApath", "/etc/ssl/certs", "-no-CAfile", link];
    assert_eq!(env(Extra::CaCertificates, &words), format!("{link}: OK\n"));
}

#[test]
fn nothing_but_the_closure_is_in_it() {
    let binaries = ["/usr/bin/bash".to_owned()];
    let closure = closure::resolve(&request(&binaries)).unwrap();
    let libraries = libraries_by_the_loader(
        &loader_of(Path::new("/usr/bin/bash")).unwrap(),
        Path::new("/usr/bin/bash"),
    );
    let mut expected = libraries.unwrap();
    expected.insert("/usr/bin/bash".into());
    assert_eq!(files(&closure), expected);
    let (status, output) =
        run(&closure, &["/bin/bash", "-c", "for f in /* /*/* /etc/*; do echo $f; done"]);
    assert_eq!(status, 0, "{output}");
    assert!(output.contains("/etc/*\n"), "there is something in /etc: {output}");
}

/// Compiles a library and a program that needs it, and runs the program.
#[test]
fn a_program_of_musl_runs_from_its_closure() {
    let directory = scratch();
    let directory = directory.path();
    let compile = |text: &str, output: &str, arguments: &[&str]| {
        let source = directory.join(format!("{output}.c"));
        fs::write(&source, text).unwrap();
        let status = Command::new("musl-gcc")
            .current_dir(directory)
            .args(["-o", output])
            .arg(&source)
            .args(arguments)
            .status()
            .unwrap_or_else(|error| panic!("apt package musl-tools: {error}"));
        assert!(status.success());
    };
    fs::create_dir(directory.join("lib")).unwrap();
    compile("int answer(void) { return 42; }", "lib/libanswer.so", &["-shared", "-fPIC"]);
    let program =
        "#include <stdio.h>\nint answer(void);\nint main(void) { printf(\"%d\\n\", answer()); }";
    // musl takes `$ORIGIN` from /proc, which is not in the root here.
    let rpath = format!("-Wl,-rpath,{}/lib", directory.display());
    compile(program, "program", &["-Llib", "-lanswer", &rpath]);
    let binaries = [directory.join("program").display().to_string()];
    let closure = closure::resolve(&request(&binaries)).unwrap();
    let names: Vec<_> =
        closure.entries.iter().map(|entry| entry.path.display().to_string()).collect();
    assert!(!names.iter().any(|name| name.contains("linux-gnu")), "glibc is there: {names:?}");
    assert_eq!(run(&closure, &[&*binaries[0]]), (0, "42\n".to_owned()));
}
