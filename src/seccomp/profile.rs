//! Profiles: policies in the JSON that OCI runtimes and Docker take,
//! runtime-spec `config-linux.md`, "Seccomp", and Docker's `archMap`,
//! `includes` and `excludes` beside it.
//!
//! Two entries about one call mean what they mean to libseccomp, which those
//! runtimes use: an entry without `args` outweighs all that have some, and an
//! entry that says what holds anyway says nothing.

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::policy::{Clause, Condition, Operator, Policy};
use super::table::{self, LIMIT};
use super::{Action, Arch, EPERM};
use crate::names;

/// What a profile is read for.
#[derive(Clone, Copy, Debug)]
pub struct For {
    /// The architecture.
    pub arch: Arch,
    /// Capabilities that the jail keeps.
    pub capabilities: u64,
    /// Version of the kernel.
    pub kernel: (u32, u32),
}

/// Why a profile cannot be used, and where in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, from 1; 0 where it is about the whole.
    pub line: usize,
    /// Column, from 1.
    pub column: usize,
    /// What was found and what was expected.
    pub reason: String,
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Self {
        let text = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let reason = text.strip_suffix(&place).unwrap_or(&text).to_owned();
        Self { line: error.line(), column: error.column(), reason }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: Verb,
    #[serde(default)]
    default_errno_ret: Option<Errno>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    #[allow(dead_code)] // Read to be refused.
    listener_path: Option<Listener>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: Verb,
    #[serde(default)]
    errno_ret: Option<Errno>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Selector>,
    #[serde(default)]
    excludes: Option<Selector>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: Index,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Comparison,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Selector {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<Version>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Comparison {
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

#[derive(Clone, Copy, Debug)]
struct Errno(u16);

#[derive(Clone, Copy, Debug)]
struct Index(u8);

#[derive(Clone, Copy, Debug)]
struct Listener;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

/// An action whose errno stands beside it.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Errno,
    Other(Action),
}

impl Verb {
    fn with(self, errno: Option<Errno>) -> Action {
        match self {
            Self::Errno => Action::Errno(errno.map_or(EPERM, |errno| errno.0)),
            Self::Other(action) => action,
        }
    }
}

/// Reads a word in the visitor's own call: what is wrong with it is
/// then told with its place, not with that of the table around it.
struct Word<O>(&'static str, fn(&str) -> Result<O, String>);

/// The same for a number.
struct Number<O>(&'static str, fn(u64) -> Result<O, String>);

impl<O> Visitor<'_> for Word<O> {
    type Value = O;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<O, E> {
        (self.1)(text).map_err(E::custom)
    }
}

impl<O> Visitor<'_> for Number<O> {
    type Value = O;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<O, E> {
        (self.1)(number).map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Verb {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Word("an action", action))
    }
}

impl<'de> Deserialize<'de> for Errno {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_u64(Number("an errno", |number: u64| match u16::try_from(number) {
            Ok(number @ ..=4095) => Ok(Self(number)),
            _ => Err(format!("{number} is not an errno, expected 0 to 4095")),
        }))
    }
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_u64(Number("an argument's number", |number: u64| {
            match u8::try_from(number) {
                Ok(number @ ..=5) => Ok(Self(number)),
                _ => Err(format!("no call has an argument {number}, expected 0 to 5")),
            }
        }))
    }
}

impl<'de> Deserialize<'de> for Listener {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Word("a path", |path: &str| match path {
            "" => Ok(Self),
            _ => Err("another process is to decide, which jailrun has none of".to_owned()),
        }))
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Word("a kernel's version", |text: &str| {
            let numbers = text
                .split_once('.')
                .and_then(|(major, minor)| Some(Self(major.parse().ok()?, minor.parse().ok()?)));
            match (text, numbers) {
                ("", _) => Ok(Self(0, 0)),
                (_, Some(version)) => Ok(version),
                (text, None) => Err(format!(
                    "`{}` is not a kernel's version, expected such as \"4.8\"",
                    text.escape_debug()
                )),
            }
        }))
    }
}

fn action(word: &str) -> Result<Verb, String> {
    Ok(match word {
        "SCMP_ACT_ALLOW" => Verb::Other(Action::Allow),
        "SCMP_ACT_LOG" => Verb::Other(Action::Log),
        "SCMP_ACT_ERRNO" => Verb::Errno,
        "SCMP_ACT_TRAP" => Verb::Other(Action::Trap),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Verb::Other(Action::KillThread),
        "SCMP_ACT_KILL_PROCESS" => Verb::Other(Action::KillProcess),
        "SCMP_ACT_TRACE" | "SCMP_ACT_NOTIFY" => {
            return Err(format!(
                "`{word}` leaves the decision to another process, which jailrun has none of"
            ));
        }
        _ => {
            return Err(format!(
                "unknown action `{}`, expected SCMP_ACT_ and ALLOW, LOG, ERRNO, TRAP, KILL, KILL_THREAD or KILL_PROCESS",
                word.escape_debug()
            ));
        }
    })
}

impl Selector {
    fn has_caps(&self, kept: u64, every: bool) -> bool {
        let mut bits = self.caps.iter().flatten().map(|name| {
            let number = names::CAPABILITIES.iter().position(|known| known == name);
            number.is_some_and(|number| kept & 1 << number != 0)
        });
        if every { bits.all(|held| held) } else { bits.any(|held| held) }
    }

    fn has_arch(&self, arch: Arch) -> bool {
        let known = match arch {
            Arch::X86_64 => ["amd64", "SCMP_ARCH_X86_64"],
            Arch::Aarch64 => ["arm64", "SCMP_ARCH_AARCH64"],
        };
        self.arches.iter().flatten().any(|name| known.contains(&&**name))
    }
}

impl Entry {
    fn applies(&self, to: &For) -> bool {
        let included = self.includes.as_ref().is_none_or(|it| {
            it.has_caps(to.capabilities, true)
                && (it.arches.as_ref().is_none_or(Vec::is_empty) || it.has_arch(to.arch))
                && it.min_kernel.is_none_or(|it| to.kernel >= (it.0, it.1))
        });
        let excluded = self.excludes.as_ref().is_some_and(|it| {
            it.has_caps(to.capabilities, false)
                || it.has_arch(to.arch)
                || it.min_kernel.is_some_and(|it| it.0 > 0 && to.kernel >= (it.0, it.1))
        });
        included && !excluded
    }

    fn clauses(&self, action: Action) -> Vec<Clause> {
        let conditions: Vec<Condition> =
            self.args.iter().flatten().map(Argument::condition).collect();
        let mut seen = [false; 6];
        let repeats = conditions
            .iter()
            .any(|condition| std::mem::replace(&mut seen[usize::from(condition.argument)], true));
        if repeats {
            // The runtimes make rules of their own of them.
            return conditions
                .into_iter()
                .map(|condition| Clause { conditions: vec![condition], action })
                .collect();
        }
        vec![Clause { conditions, action }]
    }
}

impl Argument {
    fn condition(&self) -> Condition {
        let (operator, value) = match self.op {
            Comparison::Eq => (Operator::Eq, self.value),
            Comparison::Ne => (Operator::Ne, self.value),
            Comparison::Lt => (Operator::Lt, self.value),
            Comparison::Le => (Operator::Le, self.value),
            Comparison::Gt => (Operator::Gt, self.value),
            Comparison::Ge => (Operator::Ge, self.value),
            Comparison::MaskedEq => (Operator::MaskedEq(self.value), self.value_two & self.value),
        };
        Condition { argument: self.index.0, wide: true, operator, value }
    }
}

/// What entries have said about a call so far.
#[derive(Clone)]
enum Said {
    Nothing,
    Sometimes(Vec<Clause>),
    Always(Action),
}

/// Reads a profile.
pub fn read(text: &[u8], to: &For) -> Result<Policy, Problem> {
    let profile: Profile = serde_json::from_slice(text)?;
    let listed: Vec<&str> = match (&profile.architectures, &profile.arch_map) {
        (Some(list), _) if !list.is_empty() => list.iter().map(String::as_str).collect(),
        (_, Some(list)) => list.iter().map(|map| map.architecture.as_str()).collect(),
        _ => Vec::new(),
    };
    let own = match to.arch {
        Arch::X86_64 => "SCMP_ARCH_X86_64",
        Arch::Aarch64 => "SCMP_ARCH_AARCH64",
    };
    if !listed.is_empty() && !listed.contains(&own) && !listed.contains(&"SCMP_ARCH_NATIVE") {
        return Err(Problem {
            line: 0,
            column: 0,
            reason: format!("it is for other architectures than {own}"),
        });
    }
    let default = profile.default_action.with(profile.default_errno_ret);
    let mut said = vec![Said::Nothing; LIMIT];
    for entry in profile.syscalls.iter().flatten().filter(|entry| entry.applies(to)) {
        let action = entry.action.with(entry.errno_ret);
        if action == default {
            continue;
        }
        let clauses = entry.clauses(action);
        let is_plain = entry.args.as_ref().is_none_or(Vec::is_empty);
        // A name of another architecture, or of a newer kernel, is nothing here.
        let numbers = entry
            .names
            .iter()
            .flatten()
            .chain(&entry.name)
            .filter_map(|name| table::find(name)?.number(to.arch));
        for number in numbers {
            match &mut said[usize::from(number)] {
                Said::Always(_) => {}
                slot if is_plain => *slot = Said::Always(action),
                Said::Sometimes(known) => known.extend(clauses.iter().cloned()),
                slot @ Said::Nothing => *slot = Said::Sometimes(clauses.clone()),
            }
        }
    }
    let mut policy = Policy::new(to.arch, default);
    for row in table::ROWS {
        let Some(number) = row.number(to.arch) else { continue };
        match std::mem::replace(&mut said[usize::from(number)], Said::Nothing) {
            Said::Nothing => {}
            Said::Always(action) => policy.set(row.name, action),
            Said::Sometimes(clauses) => policy.check(row.name, clauses, default),
        }
    }
    // The profile's word, not ours: older profiles count on it.
    policy.unknown = default;
    Ok(policy)
}
