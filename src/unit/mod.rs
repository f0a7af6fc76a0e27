//! The unit: what the user wrote, checked.
//!
//! Reading finds every problem of the text itself, and the rules between its
//! keys that need no look at the host. What depends on the host is found while
//! planning. Nothing here knows a system call.

pub mod decode;
pub mod devices;
pub mod idmap;
pub mod keys;
pub mod landlock;
pub mod limits;
pub mod mounts;
pub mod namespaces;
pub mod process;
pub mod root;
pub mod seccomp;
pub mod sysctl;
pub mod tree;
pub mod value;

use std::collections::HashSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use self::decode::{Findings, Reader, Setting};
use self::devices::Device;
use self::idmap::IdMap;
use self::limits::Limits;
use self::mounts::Mount;
use self::namespaces::{Mode, Namespaces, UserMode};
use self::process::{Lifecycle, Network, Process, Security};
use self::root::{Root, RootKind};
use self::tree::{Table, Value};
use crate::diagnostic::{self, Diagnostic};
use crate::source::{Sources, Span};

/// Largest unit that is read, in bytes.
pub const MAX_SIZE: u64 = 1 << 20;

/// Everything a unit says, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Where relative host paths start: the directory of the file.
    pub base: PathBuf,
    /// `name`.
    pub name: Setting<String>,
    /// `hostname`.
    pub hostname: Option<Setting<String>>,
    /// `domainname`.
    pub domainname: Option<Setting<String>>,
    /// `[root]`.
    pub root: Root,
    /// `[namespaces]`.
    pub namespaces: Namespaces,
    /// `[idmap]`.
    pub idmap: Option<IdMap>,
    /// `[[mounts]]`.
    pub mounts: Vec<Mount>,
    /// `[limits]`.
    pub limits: Limits,
    /// `[[devices]]`.
    pub devices: Vec<Device>,
    /// `[network]`.
    pub network: Setting<Network>,
    /// `[security]`.
    pub security: Security,
    /// `[process]`.
    pub process: Process,
    /// `[lifecycle]`.
    pub lifecycle: Lifecycle,
}

/// A unit as read, with all that was found about it.
#[derive(Debug)]
pub struct Loaded {
    /// The unit; keys that could not be read are as if absent. `None` when
    /// there was no text to read.
    pub unit: Option<Unit>,
    /// The tree, for listing the settings with their places.
    pub tree: Table,
    /// The texts.
    pub sources: Sources,
    /// Problems so far.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// A value as written, a list on one line and without its comments.
    fn written(&self, node: &tree::Node) -> String {
        match &node.value {
            Value::Array(items) => {
                let items: Vec<_> = items.iter().map(|item| self.written(item)).collect();
                format!("[{}]", items.join(", "))
            }
            _ => self.sources.text(node.span).to_owned(),
        }
    }
}

/// Reads the unit at a path, or standard input for `-`, and lays the
/// assignments of `--set` over it.
pub fn load(path: &Path, assignments: &[String], arguments: &[String]) -> Loaded {
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => {
            let base = match path.parent() {
                Some(parent) if path != Path::new("-") => parent.to_owned(),
                _ => PathBuf::new(),
            };
            let base = std::path::absolute(&base)
                .or_else(|_| std::env::current_dir())
                .unwrap_or_else(|_| "/".into());
            let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
            from_text(&name, &text, base, &stem.unwrap_or_default(), assignments, arguments)
        }
        Err(unread) => {
            let (diagnostic, sources) = *unread;
            Loaded { unit: None, tree: Table::default(), sources, diagnostics: vec![diagnostic] }
        }
    }
}

/// The text at a path; else the finding, and what there is to quote.
fn read_text(path: &Path) -> Result<String, Box<(Diagnostic, Sources)>> {
    let name = path.display();
    let unreadable = |reason: String| {
        let message = format!("cannot read the unit `{name}`: {reason}");
        Box::new((Diagnostic::error("E0001", message), Sources::default()))
    };
    let mut bytes = Vec::with_capacity(4096);
    let reader: Box<dyn std::io::Read> = if path == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        // Looked at before it is opened: opening a FIFO would wait for a writer.
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(io_reason(&error)))?;
        if metadata.is_dir() {
            return Err(unreadable("it is a directory".to_owned()));
        }
        if !metadata.is_file() {
            return Err(unreadable("it is not a regular file".to_owned()));
        }
        Box::new(std::fs::File::open(path).map_err(|error| unreadable(io_reason(&error)))?)
    };
    reader
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(io_reason(&error)))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(unreadable("it is larger than 1 MiB".to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| {
        let start = error.utf8_error().valid_up_to();
        let byte = error.as_bytes()[start];
        let mut sources = Sources::default();
        // What cannot be read is quoted as U+FFFD, each its own three bytes.
        let source = sources.add(name.to_string(), String::from_utf8_lossy(error.as_bytes()));
        let narrow = |offset| u32::try_from(offset).unwrap_or(u32::MAX);
        let at = Span { source, start: narrow(start), end: narrow(start + 3) };
        let diagnostic = Diagnostic::error("E0002", "the unit is not UTF-8")
            .at(at, format!("the byte 0x{byte:02x} is part of no character"));
        Box::new((diagnostic, sources))
    })
}

/// An I/O error in the words of this project: no "(os error 2)".
pub fn io_reason(error: &std::io::Error) -> String {
    // ELOOP, which has no kind of its own, and a text that differs by C library.
    if error.raw_os_error() == Some(40) {
        return "too many levels of symbolic links".to_owned();
    }
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => {
            let text = error.to_string();
            text.split(" (os error").next().unwrap_or(&text).to_lowercase()
        }
    }
}

/// Reads a unit from its text. `stem` is the name of a unit that has none.
pub fn from_text(
    name: &str,
    text: &str,
    base: PathBuf,
    stem: &str,
    assignments: &[String],
    arguments: &[String],
) -> Loaded {
    let mut sources = Sources::default();
    let source = sources.add(name, text);
    let mut diagnostics = Vec::new();
    let mut tree = tree::parse(&sources, source, &mut diagnostics);
    let syntax_is_sound = diagnostics.is_empty();
    for assignment in assignments {
        tree::set(&mut tree, &mut sources, assignment, &mut diagnostics);
    }
    let findings = Findings::default();
    let mut unit = read(&tree, base, stem, Span { source, start: 0, end: 0 }, &findings);
    append_arguments(&mut unit, arguments, &findings, Span { source, start: 0, end: 0 });
    let broken = broken_lines(&diagnostics, &sources);
    diagnostics.extend(findings.into_vec().into_iter().filter(|diagnostic| {
        if syntax_is_sound {
            return true;
        }
        // With broken syntax a key that seems missing may only be unreadable,
        // and what stands on a broken line is not what was meant.
        let line = |span: &Span| (span.source, sources.position(*span).line);
        diagnostic.code != "E0104"
            && !diagnostic.at.as_ref().is_some_and(|(span, _)| broken.contains(&line(span)))
    }));
    diagnostic::sort(&mut diagnostics);
    Loaded { unit: Some(unit), tree, sources, diagnostics }
}

/// Lines that cannot be read, and those of a table whose header cannot.
fn broken_lines(diagnostics: &[Diagnostic], sources: &Sources) -> HashSet<(u16, usize)> {
    let mut broken = HashSet::new();
    for diagnostic in diagnostics.iter().filter(|diagnostic| diagnostic.code == "E0003") {
        let Some((span, _)) = &diagnostic.at else { continue };
        let source = sources.get(span.source);
        let (number, start) = source.line(span.start as usize);
        let is_header = |line: &str| line.trim_start().starts_with('[');
        let mut lines = source.text[start..].lines();
        let below = match lines.next().is_some_and(is_header) {
            true => lines.take_while(|line| !is_header(line)).count(),
            false => 0,
        };
        broken.extend((number..=number + below).map(|line| (span.source, line)));
    }
    broken
}

fn append_arguments(unit: &mut Unit, arguments: &[String], findings: &Findings, whole: Span) {
    if matches!(unit.root.kind.as_ref().map(|kind| &kind.value), Some(RootKind::Oci(_)))
        && unit.process.command.is_none()
        && !unit.process.has_command
    {
        // The image's own command is known when it is read.
        unit.process.arguments = arguments.to_vec();
        return;
    }
    match &mut unit.process.command {
        Some(command) => command.value.extend_from_slice(arguments),
        None if !arguments.is_empty() => {
            unit.process.command = Some(Setting::default(arguments.to_vec()));
        }
        None if unit.process.has_command => {}
        None => findings.push(
            Diagnostic::error("E0104", "the unit does not say what to run")
                .at(whole, "")
                .note("`command = [\"/bin/sh\"]` in `[process]`, or the command after `--`"),
        ),
    }
    if let Some(Setting { value, span }) = &unit.process.command
        && value.first().is_none_or(String::is_empty)
    {
        findings
            .push(Diagnostic::error("E0103", "`command` is empty").at_maybe(*span, "no program"));
    }
}

fn read(tree: &Table, base: PathBuf, stem: &str, whole: Span, findings: &Findings) -> Unit {
    let top = Reader::new(Some(tree), "", findings);
    let table = |name: &'static str| Reader::new(top.subtable(name), name, findings);
    let limits = table("limits");
    // Written in a way that cannot be read, which has been reported.
    let was_meant = |name: &str| {
        let is_table =
            matches!(tree.get(name).map(|entry| &entry.node.value), Some(Value::Table(_)));
        top.has(name) && !is_table
    };
    let unit = Unit {
        base,
        name: read_name(&top, stem, whole),
        hostname: read_host_name(&top, "hostname"),
        domainname: read_host_name(&top, "domainname"),
        root: Root::read(&table("root"), (!was_meant("root")).then_some(whole)),
        namespaces: Namespaces::read(&table("namespaces")),
        idmap: tree.get("idmap").map(|entry| IdMap::read(&table("idmap"), Some(entry.key_span))),
        mounts: mounts::read(tree.get("mounts").map(|entry| &entry.node), findings),
        limits: Limits::read(&limits, findings),
        devices: devices::read(tree.get("devices").map(|entry| &entry.node), findings),
        network: table("network").get_or("mode", Network::None),
        security: Security::read(&table("security"), findings),
        process: Process::read(&table("process"), was_meant("process")),
        lifecycle: Lifecycle::read(&table("lifecycle")),
    };
    if let (Some(map), UserMode::Host) = (&unit.idmap, unit.namespaces.user.value) {
        findings.push(
            Diagnostic::error("E0105", "`[idmap]` needs a user namespace")
                .at_maybe(map.at, "maps ids")
                .context(unit.namespaces.user.span, "shares the host's"),
        );
    }
    let _description: Option<Setting<String>> = top.get("description");
    for (key, setting) in [("hostname", &unit.hostname), ("domainname", &unit.domainname)] {
        if let (Some(setting), Mode::Host) = (setting, &unit.namespaces.uts.value) {
            findings.push(
                Diagnostic::error("E0205", format!("`{key}` would rename the host"))
                    .at_maybe(setting.span, "needs a private uts namespace")
                    .context(unit.namespaces.uts.span, "shared here"),
            );
        }
    }
    unit
}

/// Whether a text can be a jail's name.
pub fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.len() <= 63
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-')
}

const NAME_RULE: &str = "names are lower-case letters, digits, `.` and `-`, start with a letter or digit, and have at most 63 characters";

fn read_name(top: &Reader<'_>, stem: &str, whole: Span) -> Setting<String> {
    if let Some(entry) = top.entry("name") {
        return match top.get::<String>("name") {
            Some(name) if is_name(&name.value) => name,
            Some(name) => {
                let suggestion = name_from(&name.value);
                let diagnostic = Diagnostic::error(
                    "E0103",
                    format!("`{}` is not a name", name.value.escape_debug()),
                )
                .at(entry.node.span, "not a name")
                .note(NAME_RULE);
                top.findings().push(if is_name(&suggestion) {
                    diagnostic.patch(entry.node.span, format!("\"{suggestion}\""))
                } else {
                    diagnostic
                });
                Setting::default("unit".to_owned())
            }
            None => Setting::default("unit".to_owned()),
        };
    }
    if !is_name(stem) {
        top.findings().push(
            Diagnostic::error(
                "E0104",
                match stem {
                    "-" => "a unit from standard input needs a name".to_owned(),
                    stem => format!("the file's name `{stem}` is no name for a jail"),
                },
            )
            .at(whole, "")
            .note(NAME_RULE)
            .help(name_help(stem)),
        );
        return Setting::default("unit".to_owned());
    }
    Setting::default(stem.to_owned())
}

/// A name that is near a text, if the text is near one.
fn name_from(text: &str) -> String {
    text.to_lowercase().replace(['_', ' '], "-")
}

fn name_help(stem: &str) -> String {
    let name = Some(name_from(stem)).filter(|name| is_name(name)).unwrap_or("…".to_owned());
    format!("add `name = \"{name}\"` at the top, or `--set name={name}`")
}

fn read_host_name(top: &Reader<'_>, key: &str) -> Option<Setting<String>> {
    let setting = top.get::<String>(key)?;
    let fits = !setting.value.is_empty()
        && setting.value.len() <= 64
        && setting.value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !fits {
        top.findings().push(
            Diagnostic::error(
                "E0103",
                format!("`{}` is not a host name", setting.value.escape_debug()),
            )
            .at_maybe(setting.span, "letters, digits, `-` and `.`, at most 64"),
        );
        return None;
    }
    Some(setting)
}

/// One key with its effective value and where that comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// Dotted key, such as `limits.memory`.
    pub key: String,
    /// As written, or the default as one would write it.
    pub value: String,
    /// Where it was written; `None` for a default.
    pub span: Option<Span>,
}

/// Every setting in force: what is written, in the order of the manual, and
/// every default that stands for something.
pub fn effective(loaded: &Loaded) -> Vec<Effective> {
    let mut list = Vec::new();
    for table in keys::TABLES {
        if table.repeated {
            let entries = match loaded.tree.get(table.name).map(|entry| &entry.node.value) {
                Some(Value::Array(items)) => &items[..],
                _ => &[],
            };
            for (index, item) in entries.iter().enumerate() {
                let Value::Table(item) = &item.value else { continue };
                let prefix = format!("{}[{index}].", table.name);
                list_keys(&prefix, table.name, Some(item), loaded, &mut list);
            }
            continue;
        }
        let found = table.name.split('.').filter(|part| !part.is_empty()).try_fold(
            &loaded.tree,
            |parent, part| match &parent.get(part)?.node.value {
                Value::Table(inner) => Some(inner),
                _ => None,
            },
        );
        // Its being there is a setting of its own: nothing holds without it.
        if table.name == "idmap" && found.is_none() {
            continue;
        }
        let prefix = if table.name.is_empty() { String::new() } else { format!("{}.", table.name) };
        list_keys(&prefix, table.name, found, loaded, &mut list);
    }
    list
}

fn list_keys(
    prefix: &str,
    table: &str,
    found: Option<&Table>,
    loaded: &Loaded,
    list: &mut Vec<Effective>,
) {
    for key in keys::of(table) {
        let entry = found.and_then(|found| found.get(key.name));
        let (value, span) = match entry {
            // A table in place of a word has keys of its own.
            Some(entry) if matches!(entry.node.value, Value::Table(_)) && has_table(table, key) => {
                continue;
            }
            Some(entry) => (loaded.written(&entry.node), Some(entry.node.span)),
            // Defaults of an entry's keys say nothing about the jail as a whole.
            None if key.default.is_empty() || keys::is_repeated(table) => continue,
            // Belongs to one kind of root.
            None if table == "root" && !belongs(key.name, found) => continue,
            None => (default_in_force(table, key, found).to_owned(), None),
        };
        list.push(Effective { key: format!("{prefix}{}", key.name), value, span });
    }
}

/// Whether a key may also be written as a table of the manual.
fn has_table(table: &str, key: &keys::Key) -> bool {
    keys::TABLES.iter().any(|known| {
        known.name.strip_prefix(table).and_then(|rest| rest.strip_prefix('.')) == Some(key.name)
    })
}

/// Whether a default of `[root]` stands for something in a root of this kind.
fn belongs(key: &str, root: Option<&Table>) -> bool {
    let value = |name| Some(&root?.get(name)?.node.value);
    match key {
        "mode" => value("tmpfs").is_some(),
        "upper-size" => matches!(value("upper"), Some(Value::String(upper)) if upper == "tmpfs"),
        "ephemeral-size" => matches!(value("ephemeral"), Some(Value::Boolean(true))),
        "strip-components" => value("tar").is_some(),
        "offset" => value("image").is_some(),
        _ => true,
    }
}

fn default_in_force<'a>(table: &str, key: &'a keys::Key, found: Option<&Table>) -> &'a str {
    let value = |name| Some(&found.filter(|_| table == "root")?.get(name)?.node.value);
    let has = |name| value(name).is_some();
    let is_kept = ["host", "binaries", "tar", "oci", "image"].into_iter().any(has)
        || (has("lower") && !has("upper"));
    let is_ephemeral = matches!(value("ephemeral"), Some(Value::Boolean(true)));
    if key.name == "read-only" && is_kept && !is_ephemeral { "true" } else { key.default }
}

#[cfg(test)]
mod tests;
