//! `[namespaces]`: what the jail has for itself.

use std::path::PathBuf;

use super::decode::{Context, FromNode, Reader, Setting, one_of, one_of_or};
use super::tree::{Node, Value};
use super::value::ClockOffset;
use crate::diagnostic::Diagnostic;

/// The table.
#[derive(Clone, Debug)]
pub struct Namespaces {
    /// Process ids.
    pub pid: Setting<Mode>,
    /// System V IPC, POSIX message queues.
    pub ipc: Setting<Mode>,
    /// Host and domain name.
    pub uts: Setting<Mode>,
    /// View of the control groups.
    pub cgroup: Setting<Mode>,
    /// User and group ids.
    pub user: Setting<UserMode>,
    /// Whether the clocks are the jail's own.
    pub time: Setting<TimeMode>,
    /// What is added to them, in nanoseconds.
    pub time_offsets: Option<Setting<TimeOffsets>>,
}

/// How the jail gets a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Its own.
    Private,
    /// The caller's.
    Host,
    /// The one of that file, such as `/proc/42/ns/uts`.
    Join(PathBuf),
    /// That of the running jail of that name.
    Jail(String),
}

/// How the jail gets a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserMode {
    /// Its own, unless the caller is root.
    Auto,
    /// Its own.
    Private,
    /// The caller's.
    Host,
}

/// How the jail gets a time namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeMode {
    /// Its own.
    Private,
    /// The caller's.
    Host,
}

/// Nanoseconds added to the clocks of a private time namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimeOffsets {
    /// CLOCK_MONOTONIC.
    pub monotonic: i128,
    /// CLOCK_BOOTTIME.
    pub boottime: i128,
}

/// The name behind `jail:`; nothing for another value.
pub(super) fn jail_name(node: &Node, cx: Context<'_>) -> Option<Option<String>> {
    let Value::String(text) = &node.value else { return None };
    let name = text.strip_prefix("jail:")?;
    if !super::is_name(name) {
        let message = format!("`{}` is not the name of a jail", name.escape_debug());
        cx.findings.push(cx.invalid(node, message, "expected jail:NAME"));
        return Some(None);
    }
    Some(Some(name.to_owned()))
}

impl FromNode for Mode {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        if let Value::String(text) = &node.value
            && text.starts_with('/')
        {
            return super::value::JailPath::from_node(node, cx).map(|path| Self::Join(path.0));
        }
        if let Some(name) = jail_name(node, cx) {
            return name.map(Self::Jail);
        }
        let private =
            one_of_or(node, cx, &[("private", true), ("host", false)], &["jail:NAME", "/PATH"])?;
        Some(if private { Self::Private } else { Self::Host })
    }
}

impl FromNode for UserMode {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(node, cx, &[("auto", Self::Auto), ("private", Self::Private), ("host", Self::Host)])
    }
}

impl FromNode for TimeMode {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(node, cx, &[("private", Self::Private), ("host", Self::Host)])
    }
}

impl FromNode for TimeOffsets {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            cx.wrong_type(node, "a table such as { monotonic = \"1h\" }");
            return None;
        };
        let mut offsets = Self::default();
        for entry in &table.entries {
            let clock = match &*entry.key {
                "monotonic" => &mut offsets.monotonic,
                "boottime" => &mut offsets.boottime,
                other => {
                    cx.findings.push(
                        Diagnostic::error("E0101", format!("unknown clock `{other}`"))
                            .at(entry.key_span, "expected `monotonic` or `boottime`"),
                    );
                    continue;
                }
            };
            *clock = ClockOffset::from_node(&entry.node, Context { key: &entry.key, ..cx })?.0;
        }
        Some(offsets)
    }
}

impl Namespaces {
    /// Reads the table.
    pub fn read(reader: &Reader<'_>) -> Self {
        let time = reader.get_or("time", TimeMode::Host);
        let time_offsets = reader.get("time-offsets");
        if let (TimeMode::Host, Some(entry)) = (time.value, reader.entry("time-offsets"))
            && (time.span.is_some() || !reader.has("time"))
        {
            reader.findings().push(
                Diagnostic::error("E0106", "`time-offsets` needs a private time namespace")
                    .at(entry.key_span, "without effect")
                    .help("add `time = \"private\"`"),
            );
        }
        Self {
            pid: reader.get_or("pid", Mode::Private),
            ipc: reader.get_or("ipc", Mode::Private),
            uts: reader.get_or("uts", Mode::Private),
            cgroup: reader.get_or("cgroup", Mode::Private),
            user: reader.get_or("user", UserMode::Auto),
            time,
            time_offsets,
        }
    }
}
