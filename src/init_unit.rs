//! The text of a unit for a command: a root of what the command needs of this
//! host and nothing else, with a comment for whatever is in it.
//!
//! A [closure] finds what files say they need. What programs open by name,
//! they do not say: that is in one table here, for programs that everybody
//! has. Nothing is run, and nothing is written.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};

use crate::closure::{self, Closure, Extra, Problem, Request, Wanted, What, inspect};

/// What a unit is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The tree that the unit is for, `/` for this host.
    pub root: &'a Path,
    /// The program and its arguments.
    pub command: &'a [String],
    /// The caller's working directory, where relative paths start.
    pub directory: &'a Path,
}

/// A program that opens files by names of its own.
struct Known {
    /// Beginning of its file name; digits, dots and dashes may follow.
    name: &'static str,
    /// Files and directories, with why. `{prefix}` is what holds the program's
    /// `bin`, `{name}` its file name without links, `{arch}` the processor.
    files: &'static [(&'static str, &'static str)],
    /// Programs that it starts by path.
    binaries: &'static [(&'static str, &'static str)],
    /// Directories that it writes to, with their sizes.
    writes: &'static [(&'static str, &'static str, &'static str)],
    with: &'static [Extra],
    capabilities: &'static [(&'static str, &'static str)],
}

const NOTHING: Known =
    Known { name: "", files: &[], binaries: &[], writes: &[], with: &[], capabilities: &[] };

const KNOWN: &[Known] = &[
    Known {
        name: "python",
        files: &[
            ("{prefix}/lib/{name}", "the standard library of Python"),
            ("{prefix}/lib64/{name}", "the standard library of Python"),
            ("{prefix}/lib/python3/dist-packages", "packages of the distribution"),
            ("/usr/local/lib/{name}", "packages installed by hand"),
            ("/etc/{name}", "read when Python starts"),
        ],
        ..NOTHING
    },
    Known {
        name: "perl",
        files: &[
            ("{prefix}/lib/{arch}-linux-gnu/perl-base", "modules that Perl starts with"),
            ("{prefix}/lib/{arch}-linux-gnu/perl", "the modules of Perl"),
            ("{prefix}/share/perl", "the modules of Perl"),
            ("{prefix}/lib/perl5", "the modules of Perl"),
            ("{prefix}/lib64/perl5", "the modules of Perl"),
            ("{prefix}/lib/{arch}-linux-gnu/perl5", "packages of the distribution"),
            ("{prefix}/share/perl5", "packages of the distribution"),
            ("/usr/local/lib/{arch}-linux-gnu/perl", "packages installed by hand"),
            ("/usr/local/share/perl", "packages installed by hand"),
            ("/etc/perl", "read when Perl starts"),
        ],
        with: &[Extra::Nss],
        ..NOTHING
    },
    Known {
        name: "ruby",
        files: &[
            ("{prefix}/lib/ruby", "the standard library of Ruby"),
            ("{prefix}/lib/{arch}-linux-gnu/ruby", "the standard library of Ruby"),
            ("{prefix}/share/rubygems-integration", "gems of the distribution"),
            ("/var/lib/gems", "gems installed by hand"),
        ],
        ..NOTHING
    },
    Known {
        name: "node",
        files: &[
            (
                "{prefix}/share/nodejs",
                "modules of the distribution, some of which Node starts with",
            ),
            ("{prefix}/share/node_modules", "modules of the distribution"),
            ("{prefix}/lib/node_modules", "modules installed by hand"),
        ],
        ..NOTHING
    },
    Known {
        name: "php",
        files: &[
            ("/etc/php", "the configuration of PHP"),
            ("{prefix}/lib/php", "the extensions of PHP"),
            ("{prefix}/share/php", "packages of the distribution"),
        ],
        ..NOTHING
    },
    Known {
        name: "git",
        files: &[
            ("{prefix}/lib/git-core", "git's subcommands"),
            ("{prefix}/libexec/git-core", "git's subcommands"),
            ("{prefix}/share/git-core", "templates of new repositories"),
            ("/etc/gitconfig", "the configuration of git"),
        ],
        binaries: &[("/bin/sh", "hooks, and some of git's subcommands, are shell scripts")],
        with: &[Extra::Nss, Extra::CaCertificates],
        ..NOTHING
    },
    Known {
        name: "nginx",
        files: &[
            ("/etc/nginx", "the configuration of nginx"),
            ("{prefix}/lib/nginx/modules", "modules that the configuration loads"),
            ("{prefix}/share/nginx", "modules and pages that the configuration names"),
            ("/var/www", "what it serves"),
        ],
        writes: &[
            ("/var/log/nginx", "16M", "logs, gone with the jail"),
            ("/var/lib/nginx", "64M", "bodies of requests and answers while they are on their way"),
        ],
        with: &[Extra::Nss],
        capabilities: &[
            ("CAP_NET_BIND_SERVICE", "ports below 1024"),
            ("CAP_SETUID", "its workers are another user's"),
            ("CAP_SETGID", "and of another group"),
            ("CAP_CHOWN", "and so are the directories they write to"),
        ],
        ..NOTHING
    },
];

/// Programs whose work is to start others, which no file names.
const SHELLS: &[&str] = &["ash", "bash", "busybox", "dash", "fish", "ksh", "mksh", "sh", "zsh"];

/// Functions that look names up; getaddrinfo(3), getpwnam(3).
const NAME_FUNCTIONS: &[&str] = &[
    "getaddrinfo",
    "gethostbyname",
    "gethostbyname_r",
    "getnameinfo",
    "getpwnam",
    "getpwnam_r",
    "getpwuid",
    "getpwuid_r",
    "getgrnam",
    "getgrgid",
    "getgrgid_r",
    "initgroups",
];

/// Libraries, by the beginnings of their names, with what they read.
const LIBRARY_EXTRAS: &[(&str, &[Extra])] = &[
    ("libssl.so", &[Extra::CaCertificates, Extra::Nss]),
    ("libgnutls.so", &[Extra::CaCertificates, Extra::Nss]),
    ("libnss3.so", &[Extra::CaCertificates, Extra::Nss]),
    ("libcurl", &[Extra::CaCertificates, Extra::Nss]),
    ("libtinfo", &[Extra::Terminfo]),
    ("libncurses", &[Extra::Terminfo]),
];

/// Something with the reason for it.
type Because<T> = (T, String);

/// A unit in the making.
#[derive(Debug, Default)]
struct Draft {
    binaries: Vec<Because<String>>,
    files: Vec<Because<String>>,
    libraries: BTreeSet<String>,
    /// Libraries that this host does not have.
    missing: BTreeSet<String>,
    with: BTreeSet<Extra>,
    writes: Vec<(&'static str, &'static str, &'static str)>,
    capabilities: Vec<(&'static str, &'static str)>,
    binds: Vec<Because<String>>,
    needs_directory: bool,
    /// A shell or a script is in it, which starts programs by name.
    starts_programs: bool,
}

impl Draft {
    fn resolve(&self, root: &Path) -> Result<Closure, Vec<Problem>> {
        let binaries: Vec<String> = self.binaries.iter().map(|(path, _)| path.clone()).collect();
        let libraries: Vec<String> = self.libraries.iter().cloned().collect();
        let files: Vec<PathBuf> = self.files.iter().map(|(path, _)| path.into()).collect();
        let with: Vec<Extra> = self.with.iter().copied().collect();
        let request = Request {
            root,
            binaries: &binaries,
            libraries: &libraries,
            files: &files,
            with: &with,
        };
        closure::resolve(&request)
    }

    fn add_file(&mut self, path: &str, why: &str) {
        if !self.files.iter().any(|(known, _)| known == path) {
            self.files.push((path.to_owned(), why.to_owned()));
        }
    }
}

/// The text of a unit that runs a command in a closure of this host; what is
/// in the way of one otherwise.
pub fn unit_for(asked: &Asked<'_>) -> Result<String, Vec<Problem>> {
    let mut draft = Draft::default();
    let mut command = asked.command.to_vec();
    let Some(program) = command.first_mut() else { return Ok(render(&draft, asked, &[])) };
    if program.contains('/') {
        *program = from(asked.directory, program).display().to_string();
    } else if let Some(path) = inspect::program_path(asked.root, program, closure::PATH) {
        *program = path.display().to_string();
    }
    draft.binaries.push((program.clone(), String::new()));
    arguments(&mut draft, asked);
    // What a program starts may be known too.
    let mut seen = 0;
    loop {
        let closure = draft.resolve(asked.root)?;
        if seen == draft.binaries.len() {
            break;
        }
        seen = draft.binaries.len();
        known_programs(&mut draft, asked.root, &closure);
    }
    libraries_of_directories(&mut draft, asked.root)?;
    extras(&mut draft, asked.root)?;
    draft.resolve(asked.root)?;
    Ok(render(&draft, asked, &command))
}

/// Where a path leads from a directory without links. What follows a name stays
/// as it is: `..` after a link is not where it seems to be.
fn from(directory: &Path, path: &str) -> PathBuf {
    let mut full = directory.to_owned();
    let mut at_start = true;
    for part in Path::new(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if at_start => {
                full.pop();
            }
            part => {
                at_start = false;
                full.push(part);
            }
        }
    }
    full
}

/// Takes the files that the command names.
fn arguments(draft: &mut Draft, asked: &Asked<'_>) {
    for argument in asked.command.iter().skip(1) {
        // `--config=FILE` names a file too.
        let value = match argument.strip_prefix('-') {
            Some(_) => argument.split_once('=').map_or("", |(_, value)| value),
            None => argument,
        };
        let path = from(asked.directory, value);
        if value.is_empty() || path.parent().is_none() {
            continue;
        }
        let Some((real, _)) = inspect::real_path(asked.root, &path) else { continue };
        let name = path.display().to_string();
        let is_below = |top: &str| real.starts_with(top);
        let why = "named by the command".to_owned();
        if real.parent().is_none() || ["/dev", "/proc", "/sys"].into_iter().any(is_below) {
            continue;
        }
        draft.needs_directory |= !Path::new(value).is_absolute();
        if closure::OWN_IN_JAIL.into_iter().any(is_below) {
            draft.binds.push((name, why));
        } else {
            draft.add_file(&name, &why);
        }
    }
}

/// Applies the table to the programs of a closure.
fn known_programs(draft: &mut Draft, root: &Path, closure: &Closure) {
    for entry in &closure.entries {
        let What::File { .. } = entry.what else { continue };
        let (Some(name), Some(directory)) =
            (entry.path.file_name().and_then(|name| name.to_str()), entry.path.parent())
        else {
            continue;
        };
        if !directory.ends_with("bin") && !directory.ends_with("sbin") {
            continue;
        }
        // What a file wants of these directories is the interpreter of a script.
        draft.starts_programs |=
            SHELLS.contains(&name) || matches!(entry.wanted_by, Wanted::File(_));
        let is_version =
            |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let known =
            KNOWN.iter().find(|known| name.strip_prefix(known.name).is_some_and(is_version));
        let Some(known) = known else { continue };
        let prefix = directory.parent().unwrap_or(Path::new("/")).display().to_string();
        for (template, why) in known.files {
            let path = template
                .replace("{prefix}", prefix.trim_end_matches('/'))
                .replace("{name}", name)
                .replace("{arch}", std::env::consts::ARCH);
            if inspect::real_path(root, Path::new(&path)).is_some() {
                draft.add_file(&path, why);
            }
        }
        for (path, why) in known.binaries {
            if !draft.binaries.iter().any(|(known, _)| known == path) {
                draft.binaries.push(((*path).to_owned(), (*why).to_owned()));
            }
        }
        for write in known.writes {
            if !draft.writes.contains(write) {
                draft.writes.push(*write);
            }
        }
        for capability in known.capabilities {
            if !draft.capabilities.contains(capability) {
                draft.capabilities.push(*capability);
            }
        }
        draft.with.extend(known.with);
    }
}

/// Takes the libraries that modules in the directories need.
fn libraries_of_directories(draft: &mut Draft, root: &Path) -> Result<(), Vec<Problem>> {
    let there = file_names(&draft.resolve(root)?);
    for (path, _) in &draft.files {
        let needed = inspect::libraries_needed_below(root, Path::new(path));
        draft.libraries.extend(needed.into_iter().filter(|name| !there.contains(name)));
    }
    // A module whose library is not installed does not work on the host either.
    while let Err(problems) = draft.resolve(root) {
        let mut progress = false;
        for problem in &problems {
            if let Problem::MissingLibrary { names, .. } = problem {
                for name in names {
                    progress |= draft.libraries.remove(name);
                    draft.missing.insert(name.clone());
                }
            }
        }
        if !progress {
            return Err(problems);
        }
    }
    Ok(())
}

fn file_names(closure: &Closure) -> BTreeSet<String> {
    let names = closure.entries.iter().filter_map(|entry| entry.path.file_name());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Takes the extras that programs and libraries read, where the host has them.
fn extras(draft: &mut Draft, root: &Path) -> Result<(), Vec<Problem>> {
    let binaries = draft.binaries.iter().map(|(path, _)| Path::new(path));
    if binaries.into_iter().any(|path| inspect::mentions(root, path, NAME_FUNCTIONS)) {
        draft.with.insert(Extra::Nss);
    }
    let names = file_names(&draft.resolve(root)?);
    for (library, extras) in LIBRARY_EXTRAS {
        if names.iter().any(|name| name.starts_with(library)) {
            draft.with.extend(*extras);
        }
    }
    if let Err(problems) = draft.resolve(root) {
        for problem in &problems {
            let Problem::NothingOf { extra, .. } = problem else { return Err(problems) };
            draft.with.remove(extra);
        }
    }
    Ok(())
}

fn purpose(extra: Extra) -> &'static str {
    match extra {
        Extra::Nss => "names of users, groups and hosts",
        Extra::CaCertificates => "certificates that TLS goes by",
        Extra::Tzdata => "local time in other zones than UTC",
        Extra::Locale => "languages besides C, and character sets",
        Extra::Terminfo => "capabilities of terminals",
    }
}

/// A TOML string; <https://toml.io/en/v1.0.0#string>.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            control if control.is_control() => {
                out.push_str(&format!("\\u{:04X}", u32::from(control)));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// One item for each line, each with its reason.
fn list<'a>(out: &mut String, key: &str, items: impl IntoIterator<Item = (&'a str, &'a str)>) {
    let items: Vec<_> = items.into_iter().map(|(item, why)| (quoted(item) + ",", why)).collect();
    if let [(item, "")] = &items[..] {
        let item = item.trim_end_matches(',');
        writeln!(out, "{key} = [{item}]").ok();
        return;
    }
    let width = items.iter().map(|(item, _)| item.chars().count()).max().unwrap_or(0);
    let mut text = format!("{key} = [\n");
    for (item, why) in items {
        let line = match why {
            "" => format!("  {item}"),
            why => format!("  {item:width$}  # {why}"),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str("]\n");
    out.push_str(&text);
}

fn words(items: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let items: Vec<_> = items.into_iter().map(|item| quoted(item.as_ref())).collect();
    format!("[{}]", items.join(", "))
}

fn render(draft: &Draft, asked: &Asked<'_>, command: &[String]) -> String {
    let mut out = String::new();
    let shown = asked.command.iter().map(|word| {
        let is_plain = !word.is_empty()
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_./=:,+@%".contains(&byte));
        if is_plain { word.clone() } else { quoted(word) }
    });
    let shown = shown.collect::<Vec<_>>().join(" ");
    out.push_str("# A jail for: ");
    out.push_str(&shown);
    out.push_str(
        "\n#\n# Its root holds what the command needs of this host, read-only, and nothing else.\n# `jailrun init` has found that by reading files: what the program opens by name\n# may be missing, and what it never opens may be taken out.\n\n[root]\n",
    );
    root_table(&mut out, draft);
    for (target, size, why) in &draft.writes {
        let target = quoted(target);
        writeln!(
            out,
            "\n[[mounts]]                 # {why}\ntarget = {target}\ntmpfs = \"{size}\""
        )
        .ok();
    }
    for (path, why) in &draft.binds {
        let path = quoted(path);
        writeln!(
            out,
            "\n[[mounts]]                 # {why}\ntarget = {path}\nbind = {path}\nread-only = true"
        )
        .ok();
    }
    out.push_str(
        "\n[limits]\nmemory = \"1G\"\ncpu = 1                    # one processor\npids = 256\non-missing = \"warn\"        # an ordinary user may set limits only in a delegated control group\n\n# Without this the jail has no network but a loopback interface of its own.\n# [network]\n# mode = \"host\"\n",
    );
    if !draft.capabilities.is_empty() {
        out.push_str("\n[security]\n");
        list(&mut out, "capabilities", draft.capabilities.iter().copied());
    }
    out.push_str("\n[process]\n");
    if draft.needs_directory {
        let directory = quoted(&asked.directory.display().to_string());
        writeln!(out, "cwd = {directory}   # the command names files by relative paths").ok();
    }
    writeln!(out, "command = {}", words(command)).ok();
    out
}

fn root_table(out: &mut String, draft: &Draft) {
    out.push_str("# With their loaders, libraries and interpreters.\n");
    if draft.starts_programs {
        out.push_str(
            "# What a shell or script starts is not found: add those programs, by name or path.\n",
        );
    }
    list(out, "binaries", draft.binaries.iter().map(|(path, why)| (&**path, &**why)));
    if !draft.files.is_empty() {
        out.push_str("\n# Opened by name while it runs.\n");
        list(out, "files", draft.files.iter().map(|(path, why)| (&**path, &**why)));
    }
    if !draft.libraries.is_empty() {
        out.push_str("\n# Needed by modules in the directories above.\n");
        list(out, "libraries", draft.libraries.iter().map(|name| (&**name, "")));
    }
    if !draft.missing.is_empty() {
        let names: Vec<_> = draft.missing.iter().map(|name| quoted(name)).collect();
        writeln!(out, "# Needed too, but not installed: {}", names.join(", ")).ok();
    }
    out.push_str("\nwith = [\n");
    for (name, extra) in Extra::TABLE {
        let mark = if draft.with.contains(&extra) { "" } else { "# " };
        let item = format!("{mark}{},", quoted(name));
        writeln!(out, "  {item:20}  # {}", purpose(extra)).ok();
    }
    out.push_str("]\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit::keys;

    fn unit(command: &[&str], directory: &Path) -> String {
        let command: Vec<String> = command.iter().map(ToString::to_string).collect();
        unit_for(&Asked { root: Path::new("/"), command: &command, directory }).unwrap()
    }

    fn strings(text: &str, table: &str, key: &str) -> Vec<String> {
        let parsed =
            toml::de::DeTable::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let table = parsed.get_ref()[table].get_ref().as_table().unwrap();
        let list = table.get(key).unwrap().get_ref().as_array().unwrap();
        list.iter().map(|item| item.get_ref().as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn words_of_the_command_come_through_as_they_are() {
        let words = ["sh", "-c", "a\n[x]\t\"\\\u{7f}\u{1b}", "# ü", ""];
        let text = unit(&words, Path::new("/"));
        let command = strings(&text, "process", "command");
        assert!(command[0].ends_with("/sh"), "{command:?}");
        assert_eq!(command[1..], words[1..]);
        assert_eq!(strings(&text, "root", "binaries"), [command[0].clone()]);
    }

    #[test]
    fn paths_from_a_directory_are_told_without_detours() {
        for (path, full) in [
            ("./x", "/a/b/x"),
            ("../x", "/a/x"),
            ("./../../../x/./y", "/x/y"),
            ("x/../y", "/a/b/x/../y"),
            ("/c/../x", "/c/../x"),
        ] {
            assert_eq!(from(Path::new("/a/b"), path), Path::new(full), "{path}");
        }
    }

    #[test]
    fn every_key_is_one_of_a_unit() {
        let text = unit(&["sh"], Path::new("/"));
        let parsed = toml::de::DeTable::parse(&text).unwrap();
        for (table, value) in parsed.get_ref() {
            let table = table.get_ref();
            let Some(entries) = value.get_ref().as_table() else { continue };
            for key in entries.keys() {
                let key = key.get_ref();
                let is_of_closures = ["binaries", "files", "libraries", "with"].contains(&&**key);
                assert!(
                    keys::find(table, key).is_some() || is_of_closures && table == "root",
                    "{table}.{key}"
                );
            }
        }
    }

    #[test]
    fn files_that_the_command_names_are_there() {
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        std::fs::write(directory.path().join("own.txt"), "").unwrap();
        let own = directory.path().join("own.txt").display().to_string();
        let words = ["cat", "own.txt", "/etc/passwd", "--x=/etc/group", "/", "/dev/null", "/none"];
        let text = unit(&words, directory.path());
        assert_eq!(strings(&text, "root", "files"), [&*own, "/etc/passwd", "/etc/group"]);
        assert!(
            text.contains(&format!("cwd = {}", quoted(&directory.path().display().to_string())))
        );
        // The jail has a /tmp of its own: only a mount can be seen there.
        let file = tempfile::NamedTempFile::new_in("/tmp").unwrap();
        let path = file.path().display().to_string();
        let text = unit(&["cat", &path], Path::new("/"));
        assert!(text.contains(&format!("target = \"{path}\"\nbind = \"{path}\"\n")), "{text}");
        assert!(!text.contains("files = "), "{text}");
    }

    #[test]
    fn shells_and_scripts_say_that_their_programs_are_to_be_added() {
        let said = "# What a shell or script starts is not found: add those programs";
        let directory = tempfile::tempdir_in("/var/tmp").unwrap();
        for (name, first_line) in [("shell", "#!/bin/sh"), ("other", "#! /usr/bin/env -S cat")] {
            let script = directory.path().join(name);
            std::fs::write(&script, format!("{first_line}\nls\n")).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&script, mode).unwrap();
            let text = unit(&[script.to_str().unwrap()], Path::new("/"));
            assert!(text.contains(said), "{text}");
        }
        let text = unit(&["/bin/sh", "-c", "ls"], Path::new("/"));
        assert!(text.contains(said), "{text}");
        let text = unit(&["cat", "/etc/passwd"], Path::new("/"));
        assert!(!text.contains(said), "{text}");
    }

    #[test]
    fn a_command_that_is_not_there_is_a_problem() {
        let command = ["no-such-program".to_owned()];
        let asked = Asked { root: Path::new("/"), command: &command, directory: Path::new("/") };
        assert!(matches!(unit_for(&asked).unwrap_err()[..], [Problem::NotInPath { .. }]));
    }
}
