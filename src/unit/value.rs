//! Types of the values of a unit: each parsed once, from its text to a type.

use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::decode::{Context, FromNode, Setting, nearest};
use super::tree::{Node, Value};
use crate::names;

/// A limit that may be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit<T> {
    /// At most that.
    At(T),
    /// No limit.
    Infinity,
}

impl<T> Limit<T> {
    /// The limit, if there is one.
    pub fn at(self) -> Option<T> {
        match self {
            Self::At(value) => Some(value),
            Self::Infinity => None,
        }
    }
}

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// An amount of memory: bytes, or a share of the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Bytes.
    Bytes(u64),
    /// Hundredths of the host's memory.
    Percent(u8),
}

/// Thousandths of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MilliCpus(pub u64);

/// Permission bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

/// Set of small numbers, such as CPUs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdSet(pub Vec<u32>);

/// A user or group by name or number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// To be looked up in the jail's own files.
    Name(String),
    /// A number.
    Id(u32),
}

/// A signal by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal(pub i32);

/// Set of capabilities, bit n being capability n.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities(pub u64);

/// Absolute path inside the jail, normal: no `.`, `..`, doubled or final `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JailPath(pub PathBuf);

/// Path on the host as written; see [`HostPath::resolve`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPath(pub PathBuf);

impl HostPath {
    /// The absolute path: a relative one starts at the unit's directory.
    pub fn resolve(&self, base: &Path) -> PathBuf {
        let mut path = if self.0.is_absolute() { PathBuf::new() } else { base.to_owned() };
        for component in self.0.components() {
            if component != Component::CurDir {
                path.push(component);
            }
        }
        path
    }
}

/// A standard stream's other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The caller's.
    Inherit,
    /// `/dev/null` of the host.
    Null,
    /// A file of the host, emptied (output) or from its start (input).
    File(HostPath),
    /// A file of the host, written at its end.
    Append(HostPath),
}

/// When the command gets a terminal of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tty {
    /// When the caller's standard input and output are terminals.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Parses bytes: a number with an optional K, M, G or T, each 1024 times the
/// one before; `KiB`, `KB` and `kb` mean the same as `K`.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err("no number".to_owned());
    }
    let unit = unit.trim();
    let letters = unit.strip_suffix("iB").or_else(|| unit.strip_suffix('B')).unwrap_or(unit);
    let letters =
        if unit.len() > 1 { letters.strip_suffix('b').unwrap_or(letters) } else { letters };
    let power: u32 = match letters {
        "" => 0,
        "K" | "k" => 1,
        "M" | "m" => 2,
        "G" | "g" => 3,
        "T" | "t" => 4,
        _ => return Err(format!("unknown unit `{unit}`")),
    };
    let factor = 1024_u64.pow(power);
    let too_large = || "too large".to_owned();
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor).ok_or_else(too_large);
    }
    match number.parse::<f64>() {
        // A fraction of a unit, exact enough: 1.5G is 1536M.
        Ok(fraction) if number.contains('.') && power > 0 => {
            let bytes = fraction * factor as f64;
            if bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(too_large()) }
        }
        Ok(_) if number.contains('.') => Err("a fraction of a byte".to_owned()),
        Ok(_) => Err(too_large()),
        Err(_) => Err("not a number".to_owned()),
    }
}

const SIZES: &str = "sizes are a number of bytes, or a number with K, M, G or T (powers of 1024)";

fn bytes_from(node: &Node, cx: Context<'_>, text: &str) -> Option<u64> {
    match parse_bytes(text) {
        Ok(bytes) => Some(bytes),
        Err(reason) => {
            cx.findings
                .push(cx.invalid(node, format!("`{text}` is not a size"), &reason).note(SIZES));
            None
        }
    }
}

impl FromNode for Bytes {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Integer(number) => non_negative(node, cx, *number).map(Bytes),
            Value::String(text) => bytes_from(node, cx, text).map(Bytes),
            Value::Float(number) if number.is_finite() && *number > 0.0 => {
                cx.findings.push(
                    cx.mistyped(node, "a size")
                        .note(SIZES)
                        .help(format!("a fraction needs a unit, in quotes: `\"{number}M\"`")),
                );
                None
            }
            _ => {
                cx.wrong_type(node, "a size");
                None
            }
        }
    }
}

impl FromNode for Memory {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        if let Value::String(text) = &node.value
            && let Some(percent) = text.strip_suffix('%')
        {
            return match percent.trim().parse::<u8>() {
                Ok(percent @ 1..=100) => Some(Self::Percent(percent)),
                _ => {
                    let label = "between 1% and 100%";
                    cx.findings.push(cx.invalid(
                        node,
                        format!("`{text}` is not a share of memory"),
                        label,
                    ));
                    None
                }
            };
        }
        Bytes::from_node(node, cx).map(|bytes| Self::Bytes(bytes.0))
    }
}

fn non_negative(node: &Node, cx: Context<'_>, number: i64) -> Option<u64> {
    let result = u64::try_from(number).ok();
    if result.is_none() {
        cx.findings.push(cx.invalid(node, format!("`{}` cannot be negative", cx.key), "below 0"));
    }
    result
}

impl FromNode for u64 {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Integer(number) => non_negative(node, cx, *number),
            _ => {
                not_a_number(node, cx, "a number", 0..=i64::MAX);
                None
            }
        }
    }
}

/// Reports what is no number, with a fix where only the quotes are wrong.
fn not_a_number(node: &Node, cx: Context<'_>, expected: &str, range: RangeInclusive<i64>) {
    let quoted = match &node.value {
        Value::String(text) => text.trim().parse().ok().filter(|number| range.contains(number)),
        _ => None,
    };
    let Some(number) = quoted else {
        cx.wrong_type(node, expected);
        return;
    };
    cx.findings.push(
        cx.mistyped(node, expected)
            .help("write it without quotes")
            .patch(node.span, number.to_string()),
    );
}

/// Reads an integer within bounds.
pub fn bounded(node: &Node, cx: Context<'_>, low: i64, high: i64) -> Option<i64> {
    match &node.value {
        Value::Integer(number) if (low..=high).contains(number) => Some(*number),
        Value::Integer(_) | Value::HugeInteger => {
            cx.findings.push(cx.invalid(
                node,
                format!("`{}` takes {low} to {high}", cx.key),
                "out of range",
            ));
            None
        }
        _ => {
            not_a_number(node, cx, &format!("a number from {low} to {high}"), low..=high);
            None
        }
    }
}

/// An integer within bounds that the type carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded<const LOW: i64, const HIGH: i64>(pub i64);

impl<const LOW: i64, const HIGH: i64> FromNode for Bounded<LOW, HIGH> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        bounded(node, cx, LOW, HIGH).map(Self)
    }
}

impl<T: FromNode> FromNode for Limit<T> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::String(text) if text == "infinity" => Some(Self::Infinity),
            Value::String(text) if matches!(&**text, "max" | "unlimited" | "none" | "infinite") => {
                cx.findings.push(
                    cx.invalid(
                        node,
                        format!("`{text}` is not a limit"),
                        "no limit is \"infinity\"",
                    )
                    .help("write it as")
                    .patch(node.span, "\"infinity\""),
                );
                None
            }
            _ => T::from_node(node, cx).map(Self::At),
        }
    }
}

impl FromNode for bool {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(value) => Some(*value),
            Value::String(text)
                if matches!(&**text, "true" | "yes" | "on" | "false" | "no" | "off") =>
            {
                let meant = matches!(&**text, "true" | "yes" | "on");
                cx.findings.push(
                    crate::diagnostic::Diagnostic::error(
                        "E0102",
                        format!("`{}` takes true or false", cx.key),
                    )
                    .at(node.span, "found a string")
                    .help("write it without quotes")
                    .patch(node.span, meant.to_string()),
                );
                None
            }
            _ => {
                cx.wrong_type(node, "true or false");
                None
            }
        }
    }
}

/// A key that is either absent or `true`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct True;

impl FromNode for True {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let message = || format!("`{}` takes only true", cx.key);
        let diagnostic = match &node.value {
            Value::Boolean(true) => return Some(Self),
            Value::Boolean(false) => cx.invalid(node, message(), "leave the key out instead"),
            Value::String(text) if matches!(&**text, "false" | "no" | "off") => {
                cx.invalid(node, message(), "leave the key out instead")
            }
            Value::String(text) if matches!(&**text, "true" | "yes" | "on") => {
                cx.mistyped(node, "true").help("write it without quotes").patch(node.span, "true")
            }
            _ => cx.mistyped(node, "true"),
        };
        cx.findings.push(diagnostic);
        None
    }
}

impl FromNode for String {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::String(text) = &node.value else {
            let quoted = match &node.value {
                Value::Integer(number) => Some(format!("\"{number}\"")),
                Value::Boolean(flag) => Some(format!("\"{flag}\"")),
                _ => None,
            };
            let diagnostic = cx.mistyped(node, "a string");
            cx.findings.push(match quoted {
                Some(quoted) => diagnostic.help("write it with quotes").patch(node.span, quoted),
                None => diagnostic,
            });
            return None;
        };
        if text.contains('\0') {
            cx.findings.push(cx.invalid(
                node,
                format!("`{}` cannot hold a NUL character", cx.key),
                "NUL ends a string in the kernel",
            ));
            return None;
        }
        Some(text.clone())
    }
}

impl<T: FromNode> FromNode for Vec<Setting<T>> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Array(items) = &node.value else {
            cx.wrong_type(node, "an array");
            return None;
        };
        let read: Self = items
            .iter()
            .filter_map(|item| {
                let value = T::from_node(item, cx)?;
                Some(Setting { value, span: Some(item.span) })
            })
            .collect();
        (read.len() == items.len()).then_some(read)
    }
}

impl FromNode for Duration {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        const DURATIONS: &str =
            "durations are numbers with units, such as \"10s\", \"1m 30s\" or \"250ms\"";
        match &node.value {
            Value::String(text) => match humantime::parse_duration(text) {
                Ok(duration) => Some(duration),
                Err(error) => {
                    let diagnostic = cx
                        .invalid(node, format!("`{text}` is not a duration"), &error.to_string())
                        .note(DURATIONS);
                    cx.findings.push(match text.trim().parse::<f64>() {
                        Ok(number) if number >= 0.0 && number.is_finite() => diagnostic
                            .help("if seconds are meant")
                            .patch(node.span, format!("\"{}s\"", text.trim())),
                        _ => diagnostic,
                    });
                    None
                }
            },
            Value::Integer(number) if *number >= 0 => {
                cx.findings.push(
                    cx.mistyped(node, "a duration")
                        .at(node.span, "a number without a unit")
                        .note(DURATIONS)
                        .help(if cx.key == "cpu-period" {
                            "if milliseconds are meant"
                        } else {
                            "if seconds are meant"
                        })
                        .patch(
                            node.span,
                            // No period is as long as a second.
                            if cx.key == "cpu-period" {
                                format!("\"{number}ms\"")
                            } else {
                                format!("\"{number}s\"")
                            },
                        ),
                );
                None
            }
            _ => {
                cx.wrong_type(node, "a duration");
                None
            }
        }
    }
}

/// Nanoseconds to add to a clock; may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockOffset(pub i128);

impl FromNode for ClockOffset {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        if let Value::String(text) = &node.value
            && let Some(positive) = text.strip_prefix('-')
        {
            let positive =
                Node { span: node.span, value: Value::String(positive.to_owned()), octal: false };
            let duration = Duration::from_node(&positive, cx)?;
            return Some(Self(-i128::try_from(duration.as_nanos()).ok()?));
        }
        let duration = Duration::from_node(node, cx)?;
        Some(Self(i128::try_from(duration.as_nanos()).ok()?))
    }
}

impl FromNode for MilliCpus {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let cpus = match &node.value {
            Value::Integer(number) => *number as f64,
            Value::Float(number) => *number,
            Value::String(text) => {
                let percent =
                    text.strip_suffix('%').and_then(|text| text.trim().parse::<f64>().ok());
                match percent {
                    Some(percent) => percent / 100.0,
                    None => {
                        let message = format!("`{text}` is not an amount of CPU");
                        let diagnostic = cx.invalid(node, message, "expected 1.5 or \"150%\"");
                        cx.findings.push(match text.trim().parse::<f64>() {
                            Ok(_) => diagnostic
                                .help("if CPUs are meant")
                                .patch(node.span, text.trim().to_owned()),
                            Err(_) => diagnostic,
                        });
                        return None;
                    }
                }
            }
            _ => {
                cx.wrong_type(node, "a number of CPUs");
                return None;
            }
        };
        // The kernel's smallest quota is 1 ms of a period that is 1 s at most.
        if (0.001..=1_000_000.0).contains(&cpus) {
            Some(Self((cpus * 1000.0).round() as u64))
        } else {
            let label = "expected 0.001 to 1000000 CPUs";
            cx.findings.push(cx.invalid(node, format!("`{}` is out of range", cx.key), label));
            None
        }
    }
}

/// Parses `0-3,6` into sorted numbers without repeats.
pub fn parse_id_set(text: &str) -> Result<IdSet, String> {
    const HIGHEST: u32 = 65_535;
    let mut ranges = Vec::new();
    for part in text.split(',') {
        let number = |text: &str| match text.trim().parse::<u32>() {
            Ok(number) if number > HIGHEST => Err(format!("`{number}` is too large")),
            Ok(number) => Ok(number),
            Err(_) => Err(format!("`{}` is not a number", text.trim())),
        };
        let (low, high) = match part.split_once('-') {
            Some((low, high)) => (number(low)?, number(high)?),
            None => (number(part)?, number(part)?),
        };
        if low > high {
            return Err(format!("`{}` runs backwards", part.trim()));
        }
        ranges.push((low, high));
    }
    ranges.sort_unstable();
    let mut ids: Vec<u32> = Vec::new();
    for (low, high) in ranges {
        let next = ids.last().map_or(low, |last| low.max(last + 1));
        ids.extend(next..=high);
    }
    Ok(IdSet(ids))
}

impl std::fmt::Display for IdSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = &self.0[..];
        let mut separator = "";
        while let Some(&low) = rest.first() {
            let run = rest.iter().zip(low..).take_while(|(id, expected)| **id == *expected).count();
            let high = rest[run - 1];
            if run == 1 {
                write!(f, "{separator}{low}")?;
            } else {
                write!(f, "{separator}{low}-{high}")?;
            }
            separator = ",";
            rest = &rest[run..];
        }
        Ok(())
    }
}

impl FromNode for IdSet {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = match &node.value {
            Value::String(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            _ => {
                cx.wrong_type(node, "a list such as \"0-3,6\"");
                return None;
            }
        };
        match parse_id_set(&text) {
            Ok(ids) => Some(ids),
            Err(reason) => {
                cx.findings.push(
                    cx.invalid(node, format!("`{text}` is not a list of numbers"), &reason)
                        .note("lists are numbers and ranges, such as \"0-3,6\""),
                );
                None
            }
        }
    }
}

impl FromNode for Mode {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::String(text) => match u32::from_str_radix(text, 8) {
                Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Some(Self(mode)),
                _ => {
                    let label = "expected octal digits, at most \"7777\"";
                    cx.findings.push(cx.invalid(
                        node,
                        format!("`{text}` is not a set of permission bits"),
                        label,
                    ));
                    None
                }
            },
            Value::Integer(number) => {
                cx.findings.push(
                    crate::diagnostic::Diagnostic::error(
                        "E0102",
                        format!("`{}` takes octal digits in a string", cx.key),
                    )
                    .at(node.span, "found an integer")
                    .help("write it as")
                    .patch(
                        node.span,
                        if node.octal {
                            format!("\"0{number:o}\"")
                        } else {
                            format!("\"{number}\"")
                        },
                    ),
                );
                None
            }
            _ => {
                cx.wrong_type(node, "octal digits in a string, such as \"755\"");
                None
            }
        }
    }
}

impl FromNode for Who {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        // The highest id means "no change" to the kernel.
        const HIGHEST: i64 = u32::MAX as i64 - 1;
        match &node.value {
            Value::Integer(_) => {
                let id = bounded(node, cx, 0, HIGHEST)?;
                u32::try_from(id).ok().map(Self::Id)
            }
            Value::String(text) => {
                if let Ok(id) = text.parse::<u32>() {
                    let number = Node {
                        span: node.span,
                        value: Value::Integer(i64::from(id)),
                        octal: false,
                    };
                    return Self::from_node(&number, cx);
                }
                let fits = !text.is_empty()
                    && text.len() <= 256
                    && !text.starts_with('-')
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-$".contains(c));
                if !fits {
                    let message = format!("`{}` is not a user or group name", text.escape_debug());
                    cx.findings.push(cx.invalid(node, message, "expected a name or a number"));
                    return None;
                }
                Some(Self::Name(text.clone()))
            }
            _ => {
                cx.wrong_type(node, "a name or a number");
                None
            }
        }
    }
}

impl FromNode for Signal {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let (text, number) = match &node.value {
            Value::String(text) => (&**text, names::signal_named(text)),
            Value::Integer(_) => ("", Some(i32::try_from(bounded(node, cx, 1, 64)?).ok()?)),
            _ => {
                cx.wrong_type(node, "a signal name");
                return None;
            }
        };
        if number == Some(libc::SIGCHLD) {
            let message = "SIGCHLD tells no command to end";
            cx.findings.push(cx.invalid(node, message, "it tells of the end of a child"));
            return None;
        }
        if let Some(number) = number {
            return Some(Self(number));
        }
        let name = text.to_uppercase();
        let diagnostic = cx.invalid(node, format!("`{text}` is not a signal"), "no such signal");
        // What all of them begin with says nothing of how near they are.
        let known = names::SIGNALS.iter().map(|(name, _)| name.trim_start_matches("SIG"));
        cx.findings.push(match nearest(name.trim_start_matches("SIG"), known) {
            Some(near) => diagnostic
                .help("a signal with a similar name exists")
                .patch(node.span, format!("\"SIG{near}\"")),
            None => diagnostic,
        });
        None
    }
}

fn capability(node: &Node, cx: Context<'_>, name: &str, sign: &str) -> Option<u64> {
    let upper = name.to_uppercase();
    let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
    if let Some(number) = names::CAPABILITIES.iter().position(|known| *known == full) {
        return Some(1 << number);
    }
    // What all of them begin with says nothing of how near they are.
    let known = names::CAPABILITIES.iter().map(|name| name.trim_start_matches("CAP_"));
    let message = format!("`{name}` is not a capability");
    cx.findings.push(match nearest(full.trim_start_matches("CAP_"), known) {
        Some(near) => cx
            .invalid(node, message, &format!("did you mean \"{sign}CAP_{near}\"?"))
            .help("a capability with a similar name exists")
            .patch(node.span, format!("\"{sign}CAP_{near}\"")),
        None => cx.invalid(node, message, "no such capability"),
    });
    None
}

fn preset(name: &str) -> Option<u64> {
    match name {
        "none" => Some(0),
        "default" => Some(names::DEFAULT_CAPABILITIES),
        "all" => Some(names::ALL_CAPABILITIES),
        _ => None,
    }
}

impl FromNode for Capabilities {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::String(word) => match preset(word) {
                Some(set) => Some(Self(set)),
                None => {
                    let message =
                        format!("`{}` takes \"none\", \"default\", \"all\" or a list", cx.key);
                    let diagnostic = cx.invalid(node, message, "not a preset");
                    cx.findings.push(if word.to_uppercase().starts_with("CAP_") {
                        diagnostic.help("write a list").patch(node.span, format!("[\"{word}\"]"))
                    } else {
                        diagnostic
                    });
                    None
                }
            },
            Value::Array(items) => {
                let mut set = 0;
                let mut complete = true;
                for item in items {
                    let Value::String(text) = &item.value else {
                        cx.wrong_type(item, "names of capabilities");
                        complete = false;
                        continue;
                    };
                    let (name, add) = match text.strip_prefix('-') {
                        Some(name) => (name, false),
                        None => (&**text, true),
                    };
                    let bits = match name.strip_prefix('@') {
                        Some(word) => preset(word).or_else(|| {
                            let label = "expected @default, @all or @none";
                            cx.findings.push(cx.invalid(
                                item,
                                format!("`{name}` is not a preset"),
                                label,
                            ));
                            None
                        }),
                        None => capability(item, cx, name, if add { "" } else { "-" }),
                    };
                    match bits {
                        Some(bits) if add => set |= bits,
                        Some(bits) => set &= !bits,
                        None => complete = false,
                    }
                }
                complete.then_some(Self(set))
            }
            _ => {
                cx.wrong_type(node, "\"none\", \"default\", \"all\" or a list of capabilities");
                None
            }
        }
    }
}

/// Normalises an absolute path: drops `.`, doubled and final slashes.
/// `None` when it is relative or has `..`.
pub fn normal_path(text: &str) -> Option<PathBuf> {
    let mut normal = PathBuf::from("/");
    let mut components = Path::new(text).components();
    if components.next() != Some(Component::RootDir) {
        return None;
    }
    for component in components {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}

/// `PATH_MAX` of limits.h, which counts the final NUL.
const PATH_MAX: usize = 4096;

/// Whether a text can be a path. Line breaks and other control characters would
/// end a line of mountinfo, of a script or of a terminal early.
fn can_be_path(node: &Node, cx: Context<'_>, text: &str) -> bool {
    if text.len() >= PATH_MAX {
        let message = format!("`{}` takes a path of at most {} bytes", cx.key, PATH_MAX - 1);
        cx.findings.push(cx.invalid(node, message, &format!("{} bytes", text.len())));
        return false;
    }
    let fits = !text.chars().any(char::is_control);
    if !fits {
        let message = format!("`{}` holds a control character", text.escape_debug());
        cx.findings.push(cx.invalid(node, message, "paths hold printable characters"));
    }
    fits
}

impl FromNode for JailPath {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        if !can_be_path(node, cx, &text) {
            return None;
        }
        match normal_path(&text) {
            Some(path) => Some(Self(path)),
            None => {
                let label = if text.starts_with('/') { "holds `..`" } else { "is not absolute" };
                cx.findings.push(
                    crate::diagnostic::Diagnostic::error(
                        "E0201",
                        format!("`{text}` is not an absolute path inside the jail"),
                    )
                    .at(node.span, label),
                );
                None
            }
        }
    }
}

impl FromNode for HostPath {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        if text.is_empty() {
            cx.findings.push(cx.invalid(node, format!("`{}` is an empty path", cx.key), "empty"));
            return None;
        }
        can_be_path(node, cx, &text).then(|| Self(PathBuf::from(text)))
    }
}

impl FromNode for Stream {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let text = String::from_node(node, cx)?;
        let stream = match text.split_once(':') {
            Some(("file", path)) if !path.is_empty() => Self::File(HostPath(path.into())),
            Some(("append", path)) if !path.is_empty() && cx.key != "stdin" => {
                Self::Append(HostPath(path.into()))
            }
            None if text == "inherit" => Self::Inherit,
            None if text == "null" => Self::Null,
            _ => {
                let label = match cx.key {
                    "stdin" => "expected \"inherit\", \"null\" or \"file:PATH\"",
                    _ => "expected \"inherit\", \"null\", \"file:PATH\" or \"append:PATH\"",
                };
                cx.findings.push(cx.invalid(node, format!("`{text}` is not a stream"), label));
                return None;
            }
        };
        can_be_path(node, cx, &text).then_some(stream)
    }
}

impl FromNode for Tty {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        match &node.value {
            Value::Boolean(true) => Some(Self::Always),
            Value::Boolean(false) => Some(Self::Never),
            Value::String(text) if text == "auto" => Some(Self::Auto),
            _ => {
                cx.wrong_type(node, "\"auto\", true or false");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        assert_eq!(parse_bytes("512M"), Ok(512 << 20));
        assert_eq!(parse_bytes("1KiB"), Ok(1024));
        assert_eq!(parse_bytes("1kb"), Ok(1024));
        assert_eq!(parse_bytes("2 GiB"), Ok(2 << 30));
        assert_eq!(parse_bytes("1.5G"), Ok(1536 << 20));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert_eq!(parse_bytes("7B"), Ok(7));
    }

    #[test]
    fn sizes_that_are_none_say_why() {
        for (text, reason) in [
            ("512Q", "unknown unit `Q`"),
            ("", "no number"),
            ("M", "no number"),
            ("1.5", "a fraction of a byte"),
            ("99999999999999999999", "too large"),
            ("16777216T", "too large"),
            ("1.2.3M", "not a number"),
        ] {
            assert_eq!(parse_bytes(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn id_sets_are_sorted_and_printed_as_ranges() {
        let set = parse_id_set("6, 0-3,2").unwrap();
        assert_eq!(set, IdSet(vec![0, 1, 2, 3, 6]));
        assert_eq!(set.to_string(), "0-3,6");
        assert!(parse_id_set("3-1").is_err());
        assert!(parse_id_set("0-99999999").is_err());
    }

    #[test]
    fn paths_are_normal_or_refused() {
        assert_eq!(normal_path("/a//b/./c/"), Some("/a/b/c".into()));
        assert_eq!(normal_path("/"), Some("/".into()));
        assert_eq!(normal_path("/a/../b"), None);
        assert_eq!(normal_path("a"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _unused = (parse_bytes(&text), parse_id_set(&text), normal_path(&text));
        }

        #[test]
        fn id_sets_survive_printing(mut ids in proptest::collection::vec(0_u32..200, 1..20)) {
            ids.sort_unstable();
            ids.dedup();
            let set = IdSet(ids);
            prop_assert_eq!(parse_id_set(&set.to_string()), Ok(set));
        }
    }
}
