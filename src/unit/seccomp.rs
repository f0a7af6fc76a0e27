//! `security.seccomp`: a preset's name, or a table that puts a filter together.

use super::decode::{Context, FromNode, Reader, Setting, nearest, one_of};
use super::tree::{Node, Value};
use super::value::HostPath;
use crate::diagnostic::Diagnostic;
use crate::seccomp::{Action, ERRNOS, Preset, sets, table};
use crate::source::Span;

/// `security.seccomp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seccomp {
    /// The kind of filter.
    pub kind: Kind,
    /// Where it was written.
    pub span: Option<Span>,
}

/// The kind of filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of jailrun's own.
    Preset(Preset),
    /// None.
    Off,
    /// `[security.seccomp]`.
    Own(Box<Rules>),
}

/// `[security.seccomp]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `default-action`.
    pub default_action: Option<Setting<Action>>,
    /// `profile`.
    pub profile: Option<Setting<HostPath>>,
    /// `allow`.
    pub allow: Vec<Setting<Called>>,
    /// `log`.
    pub log: Vec<Setting<Called>>,
    /// `deny`.
    pub deny: Vec<Setting<Called>>,
    /// `kill`.
    pub kill: Vec<Setting<Called>>,
}

/// One system call, or a set of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// A set, with its `@`.
    Set(&'static str),
    /// A call.
    Name(&'static str),
}

impl FromNode for Called {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let known = match text.starts_with('@') {
            true => sets::names().find(|name| *name == text).map(Self::Set),
            false => table::find(&text).map(|row| Self::Name(row.name)),
        };
        if known.is_some() {
            return known;
        }
        let (what, near) = match text.starts_with('@') {
            true => ("set of system calls", nearest(&text, sets::names())),
            false => ("system call", nearest(&text, table::ROWS.iter().map(|row| row.name))),
        };
        let message = format!("`{}` is no {what} that jailrun knows", text.escape_debug());
        cx.findings.push(match near {
            Some(near) => cx
                .invalid(node, message, &format!("did you mean \"{near}\"?"))
                .help("one with a similar name exists")
                .patch(node.span, format!("\"{near}\"")),
            None => cx.invalid(node, message, "expected a name as in syscalls(2), or \"@set\""),
        });
        None
    }
}

impl FromNode for Action {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        if let Value::String(text) = &node.value
            && let Some(errno) = text.strip_prefix("errno:")
        {
            let named = ERRNOS.iter().find(|(name, _)| *name == errno).map(|(_, number)| *number);
            let numbered = || errno.parse().ok().filter(|number| (1..=4095).contains(number));
            let known = named.or_else(numbered).map(Self::Errno);
            if known.is_none() {
                let message = format!("`{}` is not an errno", errno.escape_debug());
                cx.findings.push(cx.invalid(
                    node,
                    message,
                    "expected a name such as EPERM, or a number from 1 to 4095",
                ));
            }
            return known;
        }
        one_of(
            node,
            cx,
            &[
                ("errno:EPERM", Self::Errno(crate::seccomp::EPERM)),
                ("kill-process", Self::KillProcess),
                ("log", Self::Log),
                ("allow", Self::Allow),
            ],
        )
    }
}

/// The words that `security.seccomp` takes.
#[derive(Clone, Copy)]
enum Word {
    Preset(Preset),
    Off,
}

impl FromNode for Word {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(
            node,
            cx,
            &[
                ("default", Self::Preset(Preset::Default)),
                ("strict", Self::Preset(Preset::Strict)),
                ("off", Self::Off),
            ],
        )
    }
}

impl Seccomp {
    /// Reads the key from the reader of `[security]`.
    pub fn read(security: &Reader<'_>) -> Self {
        let preset = Kind::Preset(Preset::Default);
        let Some(entry) = security.entry("seccomp") else {
            return Self { kind: preset, span: None };
        };
        let span = Some(entry.node.span);
        let Value::Table(table) = &entry.node.value else {
            let kind = match security.get::<Word>("seccomp").map(|word| word.value) {
                Some(Word::Preset(preset)) => Kind::Preset(preset),
                Some(Word::Off) => Kind::Off,
                None => preset,
            };
            return Self { kind, span };
        };
        let reader = Reader::new(Some(table), "security.seccomp", security.findings());
        let list = |key: &str| {
            reader.get::<Vec<Setting<Called>>>(key).map_or_else(Vec::new, |list| list.value)
        };
        let rules = Rules {
            default_action: reader.get("default-action"),
            profile: reader.get("profile"),
            allow: list("allow"),
            log: list("log"),
            deny: list("deny"),
            kill: list("kill"),
        };
        if let (Some(action), Some(profile)) = (&rules.default_action, &rules.profile) {
            security.findings().push(
                Diagnostic::error("E0105", "`default-action` beside a profile, which has its own")
                    .at_maybe(action.span, "leave it out")
                    .context(profile.span, "the profile"),
            );
        }
        if table.entries.is_empty() {
            return Self { kind: preset, span };
        }
        Self { kind: Kind::Own(Box::new(rules)), span }
    }
}
