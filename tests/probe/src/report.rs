//! What a process sees of its jail.
//!
//! The report is an object with one part per question. A part that cannot be
//! read is `{"error": "ENOENT"}`, with the name of the error in its place.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::fs::{self, Metadata, OpenOptions};
use std::io::{self, IsTerminal};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::os::unix::process::parent_id;
use std::path::Path;
use std::process;

use libc::c_int;
use serde_json::{Map, Value, json};

use crate::command::{Arguments, Failure, Outcome, found};
use crate::{errno, mountinfo, sys};

type Part = fn() -> io::Result<Value>;

const PARTS: &[(&str, Part)] = &[
    ("affinity", || Ok(json!(sys::affinity()?))),
    ("capabilities", capabilities),
    ("cgroup", cgroup),
    ("controlling_terminal", || Ok(controlling_terminal().into())),
    ("cwd", || Ok(lossy(sys::working_directory()?))),
    ("dev", || list_devices().map(Value::Array)),
    ("domainname", || Ok(sys::host_names()?.domain.into())),
    ("dumpable", || prctl_number(libc::PR_GET_DUMPABLE)),
    ("environment", || Ok(environment())),
    ("fds", || Ok(descriptors())),
    ("gid_map", || normalised("/proc/self/gid_map")),
    ("gids", || Ok(json!(sys::group_ids()?))),
    ("groups", groups),
    ("hostname", || Ok(sys::host_names()?.host.into())),
    ("interfaces", interfaces),
    ("mounts", mounts),
    ("namespaces", namespaces),
    ("nice", || Ok(sys::nice()?.into())),
    ("no_new_privs", no_new_privs),
    ("oom_score_adj", oom_score_adj),
    ("pdeathsig", || Ok(sys::parent_death_signal()?.into())),
    ("pid", || Ok(process::id().into())),
    ("ppid", || Ok(parent_id().into())),
    ("rlimits", || Ok(resource_limits())),
    ("root", root),
    ("seccomp", || prctl_number(libc::PR_GET_SECCOMP)),
    ("securebits", || prctl_number(libc::PR_GET_SECUREBITS)),
    ("session_leader", || Ok(sys::is_session_leader()?.into())),
    ("setgroups", || normalised("/proc/self/setgroups")),
    ("signals", signals),
    ("time_offsets", || normalised("/proc/self/timens_offsets")),
    ("uid_map", || normalised("/proc/self/uid_map")),
    ("uids", || Ok(json!(sys::user_ids()?))),
    ("umask", || Ok(format!("{:04o}", sys::umask()).into())),
];

const NAMESPACES: [&str; 10] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];

const RESOURCES: [(&str, sys::Resource); 16] = [
    ("as", libc::RLIMIT_AS),
    ("core", libc::RLIMIT_CORE),
    ("cpu", libc::RLIMIT_CPU),
    ("data", libc::RLIMIT_DATA),
    ("fsize", libc::RLIMIT_FSIZE),
    ("locks", libc::RLIMIT_LOCKS),
    ("memlock", libc::RLIMIT_MEMLOCK),
    ("msgqueue", libc::RLIMIT_MSGQUEUE),
    ("nice", libc::RLIMIT_NICE),
    ("nofile", libc::RLIMIT_NOFILE),
    ("nproc", libc::RLIMIT_NPROC),
    ("rss", libc::RLIMIT_RSS),
    ("rtprio", libc::RLIMIT_RTPRIO),
    ("rttime", libc::RLIMIT_RTTIME),
    ("sigpending", libc::RLIMIT_SIGPENDING),
    ("stack", libc::RLIMIT_STACK),
];

/// Without `/proc`, descriptors are looked for below this number.
const DESCRIPTORS_TRIED: c_int = 1 << 16;

pub fn report(mut arguments: Arguments) -> Outcome {
    let program = arguments.program();
    let options = Options::parse(&mut arguments)?;
    let mut report: Map<String, Value> =
        PARTS.iter().map(|(name, read)| ((*name).to_owned(), part(read()))).collect();
    report.insert("program".to_owned(), program.into());
    report.insert("arguments".to_owned(), options.arguments.into());
    found(&report.into())?;
    Ok(options.status)
}

pub fn open_fds(arguments: Arguments) -> Outcome {
    arguments.end()?;
    found(&descriptors())
}

pub fn tty(arguments: Arguments) -> Outcome {
    const STDIN: c_int = libc::STDIN_FILENO;
    arguments.end()?;
    let terminals =
        [io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal()];
    found(&json!({
        "isatty": terminals,
        "ttyname": part(sys::terminal_name(STDIN).map(Value::from)),
        "window": part(sys::window_size(STDIN).map(|size| json!({
            "rows": size.ws_row,
            "columns": size.ws_col,
        }))),
        "controlling_terminal": controlling_terminal(),
        "foreground": part(sys::is_foreground(STDIN).map(Value::from)),
    }))
}

/// What `report` was told: how to end, and words to record.
struct Options {
    status: u8,
    arguments: Vec<Value>,
}

impl Options {
    /// Options end at `--` or at the first word that is none.
    fn parse(words: &mut Arguments) -> Result<Self, Failure> {
        let mut status = 0;
        let mut arguments = Vec::new();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--exit") => status = words.parsed("N")?,
                Some("--") => break,
                _ => {
                    arguments.push(lossy(word));
                    break;
                }
            }
        }
        while let Some(word) = words.next() {
            arguments.push(lossy(word));
        }
        Ok(Self { status, arguments })
    }
}

/// The value, or the name of the error in its place.
pub fn part(result: io::Result<Value>) -> Value {
    result.unwrap_or_else(|error| json!({ "error": errno::describe(&error) }))
}

fn lossy(text: OsString) -> Value {
    text.to_string_lossy().into()
}

/// A file of the kernel, whose bytes may be those of any path.
fn read_text(path: &str) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

/// The lines of a file, with single spaces between the words of each.
fn normalised(path: &str) -> io::Result<Value> {
    let lines: Vec<String> = read_text(path)?
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    Ok(lines.join("\n").into())
}

// Filesystems

fn mounts() -> io::Result<Value> {
    Ok(mountinfo::parse(&read_text("/proc/self/mountinfo")?).into())
}

/// The identity of `/`.
pub fn root() -> io::Result<Value> {
    let metadata = fs::metadata("/")?;
    Ok(json!({ "dev": device(metadata.dev()), "ino": metadata.ino() }))
}

fn list_devices() -> io::Result<Vec<Value>> {
    let mut entries = fs::read_dir("/dev")?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    entries
        .iter()
        .map(|entry| {
            let mut node = describe_node(&entry.path(), &entry.metadata()?)?;
            node["name"] = lossy(entry.file_name());
            Ok(node)
        })
        .collect()
}

/// `type`, with `device` for a device node and `target` for a symlink.
pub fn describe_node(path: &Path, metadata: &Metadata) -> io::Result<Value> {
    let kind = metadata.file_type();
    if kind.is_char_device() || kind.is_block_device() {
        let name = if kind.is_char_device() { "char" } else { "block" };
        return Ok(json!({ "type": name, "device": device(metadata.rdev()) }));
    }
    if kind.is_symlink() {
        let target = lossy(fs::read_link(path)?.into());
        return Ok(json!({ "type": "symlink", "target": target }));
    }
    let name = if kind.is_dir() {
        "directory"
    } else if kind.is_fifo() {
        "fifo"
    } else if kind.is_socket() {
        "socket"
    } else {
        "file"
    };
    Ok(json!({ "type": name }))
}

pub fn device(number: u64) -> String {
    format!("{}:{}", libc::major(number), libc::minor(number))
}

// Identity and isolation

/// A link can be missing on its own: `pid_for_children` is, until the first
/// child of a new PID namespace exists.
fn namespaces() -> io::Result<Value> {
    fs::metadata("/proc/self/ns")?;
    Ok(NAMESPACES
        .iter()
        .map(|name| (*name, part(read_link(&format!("/proc/self/ns/{name}")))))
        .collect())
}

fn read_link(path: &str) -> io::Result<Value> {
    Ok(lossy(fs::read_link(path)?.into()))
}

fn groups() -> io::Result<Value> {
    let mut groups = sys::supplementary_groups()?;
    groups.sort_unstable();
    Ok(json!(groups))
}

fn capabilities() -> io::Result<Value> {
    status_fields(&[
        ("inheritable", "CapInh"),
        ("permitted", "CapPrm"),
        ("effective", "CapEff"),
        ("bounding", "CapBnd"),
        ("ambient", "CapAmb"),
    ])
}

fn signals() -> io::Result<Value> {
    status_fields(&[("blocked", "SigBlk"), ("ignored", "SigIgn"), ("caught", "SigCgt")])
}

/// Fields of `/proc/self/status`, under names of our own.
fn status_fields(names: &[(&str, &str)]) -> io::Result<Value> {
    let status = read_text("/proc/self/status")?;
    let fields: BTreeMap<&str, &str> =
        status.lines().filter_map(|line| line.split_once(":\t")).collect();
    Ok(names.iter().map(|(name, field)| (*name, fields.get(field).copied())).collect())
}

fn prctl_number(request: c_int) -> io::Result<Value> {
    Ok(sys::prctl_get(request)?.into())
}

fn no_new_privs() -> io::Result<Value> {
    Ok((sys::prctl_get(libc::PR_GET_NO_NEW_PRIVS)? == 1).into())
}

fn cgroup() -> io::Result<Value> {
    Ok(read_text("/proc/self/cgroup")?.lines().collect())
}

/// Up or down, by name.
fn interfaces() -> io::Result<Value> {
    let interfaces: BTreeMap<String, bool> = sys::interfaces()?.into_iter().collect();
    Ok(interfaces.into_iter().map(|(name, up)| (name, if up { "up" } else { "down" })).collect())
}

// Process

fn environment() -> Value {
    env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), lossy(value)))
        .collect()
}

fn oom_score_adj() -> io::Result<Value> {
    let text = read_text("/proc/self/oom_score_adj")?;
    let score: i64 = text.trim().parse().map_err(io::Error::other)?;
    Ok(score.into())
}

fn resource_limits() -> Value {
    RESOURCES.iter().map(|(name, resource)| (*name, part(resource_limit(*resource)))).collect()
}

fn resource_limit(resource: sys::Resource) -> io::Result<Value> {
    let limits = sys::resource_limit(resource)?.map(|limit| match limit {
        libc::RLIM_INFINITY => "infinity".into(),
        number => Value::from(number),
    });
    Ok(json!(limits))
}

/// What each open descriptor leads to, by number.
fn descriptors() -> Value {
    let numbers = listed_descriptors().unwrap_or_else(|_| tried_descriptors());
    numbers
        .into_iter()
        .map(|number| {
            let link = format!("/proc/self/fd/{number}");
            (number.to_string(), part(read_link(&link)))
        })
        .collect()
}

/// The listing includes the descriptor it is read through; that one is closed
/// once all names are taken, and then fails the test for being open.
fn listed_descriptors() -> io::Result<BTreeSet<c_int>> {
    let names = fs::read_dir("/proc/self/fd")?
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    Ok(names
        .iter()
        .filter_map(|name| name.to_str()?.parse().ok())
        .filter(|number| sys::is_open(*number))
        .collect())
}

fn tried_descriptors() -> BTreeSet<c_int> {
    (0..DESCRIPTORS_TRIED).filter(|number| sys::is_open(*number)).collect()
}

/// Whether `/dev/tty` can be opened and is the terminal of the session: some
/// other file may have that name.
fn controlling_terminal() -> bool {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open("/dev/tty")
        .is_ok_and(|terminal| sys::terminal_session(terminal.as_raw_fd()).is_ok())
}

/// The processes `/proc` shows in state Z.
pub fn count_zombies() -> io::Result<Value> {
    let mut count = 0;
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path().join("stat");
        if fs::read(path).is_ok_and(|stat| is_zombie(&stat)) {
            count += 1;
        }
    }
    Ok(count.into())
}

/// The state follows the name, which is in parentheses and may hold some.
fn is_zombie(stat: &[u8]) -> bool {
    let end_of_name = stat.iter().rposition(|byte| *byte == b')');
    end_of_name.is_some_and(|index| stat[index..].starts_with(b") Z"))
}
