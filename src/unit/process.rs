//! `[process]`: the command and its surroundings; `[network]`, `[security]`
//! and `[lifecycle]`, which are small.

use std::path::PathBuf;
use std::time::Duration;

use super::decode::{Context, Findings, FromNode, Reader, Setting, one_of, one_of_or};
use super::landlock::Landlock;
use super::seccomp::Seccomp;
use super::sysctl::{Sysctl, Sysctls};
use super::tree::{Node, Value};
use super::value::{
    Bounded, Capabilities, IdSet, JailPath, Limit, Mode, Signal, Stream, Tty, Who, normal_path,
};
use crate::diagnostic::Diagnostic;
use crate::names;

/// `[process]`.
#[derive(Clone, Debug)]
pub struct Process {
    /// `command`.
    pub command: Option<Setting<Vec<String>>>,
    /// Whether `command` is written, readable or not.
    pub has_command: bool,
    /// Arguments of the caller, for the command of an image.
    pub arguments: Vec<String>,
    /// Keys whose values are those of an image's configuration.
    pub from_image: Vec<&'static str>,
    /// `env`.
    pub env: Vec<(String, Setting<String>)>,
    /// `env-pass`.
    pub env_pass: Vec<Setting<String>>,
    /// `cwd`.
    pub cwd: Setting<JailPath>,
    /// `user`.
    pub user: Setting<Who>,
    /// `group`.
    pub group: Option<Setting<Who>>,
    /// `supplementary-groups`.
    pub supplementary_groups: Setting<Vec<Setting<Who>>>,
    /// `umask`.
    pub umask: Setting<Mode>,
    /// `init`.
    pub init: Setting<bool>,
    /// `tty`.
    pub tty: Setting<Tty>,
    /// `stdin`, `stdout`, `stderr`.
    pub streams: [Setting<Stream>; 3],
    /// `pass-fds`.
    pub pass_fds: Setting<Vec<i32>>,
    /// `nice`.
    pub nice: Option<Setting<i32>>,
    /// `oom-score-adjust`.
    pub oom_score_adjust: Option<Setting<i32>>,
    /// `cpu-affinity`.
    pub cpu_affinity: Option<Setting<IdSet>>,
}

/// What the jail can reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Network {
    /// Loopback of its own.
    None,
    /// The host's network.
    Host,
    /// That of the running jail of that name.
    Jail(String),
}

impl FromNode for Network {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        if let Some(name) = super::namespaces::jail_name(node, cx) {
            return name.map(Self::Jail);
        }
        let host = one_of_or(node, cx, &[("none", false), ("host", true)], &["jail:NAME"])?;
        Some(if host { Self::Host } else { Self::None })
    }
}

/// How the jail gets a session keyring, session-keyring(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keyring {
    /// An empty one of its own.
    Private,
    /// The caller's.
    Host,
}

impl FromNode for Keyring {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(node, cx, &[("private", Self::Private), ("host", Self::Host)])
    }
}

/// `[security]`.
#[derive(Clone, Debug)]
pub struct Security {
    /// `no-new-privileges`.
    pub no_new_privileges: Setting<bool>,
    /// `capabilities`.
    pub capabilities: Setting<Capabilities>,
    /// `ambient-capabilities`.
    pub ambient_capabilities: Setting<Capabilities>,
    /// `seccomp`.
    pub seccomp: Seccomp,
    /// `masked-paths`.
    pub masked_paths: Setting<PathSet>,
    /// `read-only-paths`.
    pub read_only_paths: Setting<PathSet>,
    /// `[security.landlock]`.
    pub landlock: Landlock,
    /// `sysctl`.
    pub sysctl: Vec<Sysctl>,
    /// `keyring`.
    pub keyring: Setting<Keyring>,
    /// `allow-dangerous-binds`.
    pub allow_dangerous_binds: Setting<bool>,
}

/// A list of paths that starts from a default or from nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathSet {
    /// Whether the default list is part of it.
    pub with_default: bool,
    /// Further paths.
    pub add: Vec<PathBuf>,
    /// Paths of the default list that are left out.
    pub remove: Vec<PathBuf>,
}

impl FromNode for PathSet {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let items = Vec::<Setting<String>>::from_node(node, cx)?;
        let mut set = Self::default();
        for item in items {
            let text = &*item.value;
            let (list, path) = match text.strip_prefix('-') {
                Some(path) => (&mut set.remove, path),
                None if text == "@default" => {
                    set.with_default = true;
                    continue;
                }
                None => (&mut set.add, text),
            };
            match normal_path(path).filter(|path| path.parent().is_some()) {
                Some(path) => list.push(path),
                None => cx.findings.push(
                    Diagnostic::error("E0103", format!("`{text}` is not a path below `/`"))
                        .at_maybe(
                            item.span,
                            "expected an absolute path, \"-PATH\" or \"@default\"",
                        ),
                ),
            }
        }
        Some(set)
    }
}

/// `[lifecycle]`.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    /// `timeout`.
    pub timeout: Setting<Limit<Duration>>,
    /// `stop-signal`.
    pub stop_signal: Setting<Signal>,
    /// `stop-grace`.
    pub stop_grace: Setting<Duration>,
}

/// Names and values of variables.
struct Environment(Vec<(String, Setting<String>)>);

impl FromNode for Environment {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            cx.wrong_type(node, "a table such as { LANG = \"C.UTF-8\" }");
            return None;
        };
        let mut list = Vec::new();
        for entry in &table.entries {
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                cx.findings.push(
                    Diagnostic::error(
                        "E0103",
                        format!("`{}` is not a variable's name", entry.key.escape_debug()),
                    )
                    .at(entry.key_span, "names are not empty and hold no `=`"),
                );
                continue;
            }
            let cx = Context { key: &entry.key, ..cx };
            if let Some(value) = String::from_node(&entry.node, cx) {
                list.push((entry.key.clone(), Setting { value, span: Some(entry.node.span) }));
            }
        }
        Some(Self(list))
    }
}

/// A program and its arguments.
struct Command(Vec<String>);

impl FromNode for Command {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::String(line) = &node.value else {
            let words = Vec::<Setting<String>>::from_node(node, cx)?;
            return Some(Self(words.into_iter().map(|word| word.value).collect()));
        };
        let diagnostic = cx.mistyped(node, "an array");
        let words: Vec<_> = line.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
        // A variable before the program is a shell's too.
        let is_plain = words.first().is_some_and(|program| !program.contains('='))
            && !line.chars().any(is_for_a_shell);
        cx.findings.push(if is_plain {
            let quoted: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            diagnostic
                .help("write the program and each argument as a string of its own")
                .patch(node.span, format!("[{}]", quoted.join(", ")))
        } else {
            diagnostic.help(
                "`[\"program\", \"argument\"]` runs a program; for a line that a shell is to read: `[\"/bin/sh\", \"-c\", \"…\"]`",
            )
        });
        None
    }
}

/// Whether a shell would do more with a character than hand it on.
fn is_for_a_shell(character: char) -> bool {
    (character.is_control() && character != '\t') || "\"'\\`$&|;<>()*?[]{}~#!".contains(character)
}

/// A variable's name.
struct VariableName(String);

impl FromNode for VariableName {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let name = String::from_node(node, cx)?;
        if name.is_empty() || name.contains('=') {
            let message = format!("`{}` is not a variable's name", name.escape_debug());
            cx.findings.push(cx.invalid(node, message, "names are not empty and hold no `=`"));
            return None;
        }
        Some(Self(name))
    }
}

impl Process {
    /// Reads the table. `is_unreadable` tells that one was meant and has been
    /// reported.
    pub fn read(reader: &Reader<'_>, is_unreadable: bool) -> Self {
        let stream = |key: &str| reader.get_or(key, Stream::Inherit);
        Self {
            has_command: is_unreadable || reader.has("command"),
            command: reader.get::<Command>("command").map(|command| command.map(|words| words.0)),
            arguments: Vec::new(),
            from_image: Vec::new(),
            env: reader.get::<Environment>("env").map(|env| env.value.0).unwrap_or_default(),
            env_pass: reader
                .get::<Vec<Setting<VariableName>>>("env-pass")
                .map(|names| names.value.into_iter().map(|name| name.map(|name| name.0)).collect())
                .unwrap_or_default(),
            cwd: reader.get_or("cwd", JailPath("/".into())),
            user: reader.get_or("user", Who::Id(0)),
            group: reader.get("group"),
            supplementary_groups: reader.get_or("supplementary-groups", Vec::new()),
            umask: reader.get_or("umask", Mode(0o022)),
            init: reader.get_or("init", true),
            tty: reader.get_or("tty", Tty::Auto),
            streams: [stream("stdin"), stream("stdout"), stream("stderr")],
            pass_fds: reader
                .get::<Vec<Setting<Bounded<3, 65_535>>>>("pass-fds")
                .map(|fds| {
                    fds.map(|fds| {
                        let mut fds: Vec<i32> = fds
                            .into_iter()
                            .filter_map(|fd| i32::try_from(fd.value.0).ok())
                            .collect();
                        fds.sort_unstable();
                        fds.dedup();
                        fds
                    })
                })
                .unwrap_or_else(|| Setting::default(Vec::new())),
            nice: reader.get::<Bounded<-20, 19>>("nice").and_then(|nice| {
                Some(Setting { value: i32::try_from(nice.value.0).ok()?, span: nice.span })
            }),
            oom_score_adjust: reader.get::<Bounded<-1000, 1000>>("oom-score-adjust").and_then(
                |score| {
                    Some(Setting { value: i32::try_from(score.value.0).ok()?, span: score.span })
                },
            ),
            cpu_affinity: reader.get("cpu-affinity"),
        }
    }
}

impl Security {
    /// Reads the table.
    pub fn read(reader: &Reader<'_>, findings: &Findings) -> Self {
        let default_paths = || PathSet { with_default: true, ..PathSet::default() };
        let security = Self {
            no_new_privileges: reader.get_or("no-new-privileges", true),
            capabilities: reader.get_or("capabilities", Capabilities(0)),
            ambient_capabilities: reader.get_or("ambient-capabilities", Capabilities(0)),
            seccomp: Seccomp::read(reader),
            masked_paths: reader.get_or("masked-paths", default_paths()),
            read_only_paths: reader.get_or("read-only-paths", default_paths()),
            landlock: Landlock::read(reader.subtable("landlock"), findings),
            sysctl: reader.get::<Sysctls>("sysctl").map(|list| list.value.0).unwrap_or_default(),
            keyring: reader.get_or("keyring", Keyring::Private),
            allow_dangerous_binds: reader.get_or("allow-dangerous-binds", false),
        };
        let extra = security.ambient_capabilities.value.0 & !security.capabilities.value.0;
        if extra != 0 {
            let words: Vec<_> = names::capability_words(extra)
                .map(|word| format!("CAP_{}", word.to_uppercase()))
                .collect();
            findings.push(
                Diagnostic::error(
                    "E0106",
                    "an ambient capability that `capabilities` does not grant",
                )
                .at_maybe(security.ambient_capabilities.span, words.join(", "))
                .context(security.capabilities.span, "granted here"),
            );
        }
        security
    }
}

impl Lifecycle {
    /// Reads the table.
    pub fn read(reader: &Reader<'_>) -> Self {
        Self {
            timeout: reader.get_or("timeout", Limit::Infinity),
            stop_signal: reader.get_or("stop-signal", Signal(15)),
            stop_grace: reader.get_or("stop-grace", Duration::from_secs(10)),
        }
    }
}
