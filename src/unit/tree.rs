//! The parsed TOML as a tree whose every key and value has a [`Span`].
//!
//! Several texts merge into one tree here (`--set` over the unit), so that
//! everything behind it knows a single model and no second way in.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use toml::de::{DeTable, DeValue, Error as TomlError};

use crate::diagnostic::Diagnostic;
use crate::source::{ARGUMENT, Sources, Span};

/// A value with its place.
#[derive(Clone, Debug)]
pub struct Node {
    /// The value's own text; for a table, its header or braces.
    pub span: Span,
    /// The value.
    pub value: Value,
    /// Whether it is an integer written as `0o…`.
    pub octal: bool,
}

/// A TOML value.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string.
    String(String),
    /// An integer.
    Integer(i64),
    /// An integer beyond 64 bits: no key takes one.
    HugeInteger,
    /// A float.
    Float(f64),
    /// A boolean.
    Boolean(bool),
    /// A date or time: no key takes one.
    Datetime,
    /// An array.
    Array(Vec<Node>),
    /// A table, inline or not.
    Table(Table),
}

impl Value {
    /// The type's name with its article, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "an integer",
            Self::HugeInteger => "an integer beyond 64 bits",
            Self::Float(_) => "a float",
            Self::Boolean(_) => "a boolean",
            Self::Datetime => "a date",
            Self::Array(_) => "an array",
            Self::Table(_) => "a table",
        }
    }
}

/// Keys with values, in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// The entries.
    pub entries: Vec<Entry>,
}

/// One `key = value`.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The key, unquoted.
    pub key: String,
    /// The key's place.
    pub key_span: Span,
    /// The value.
    pub node: Node,
}

impl Table {
    /// The entry of that key.
    pub fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// Where a key was written last before a place, in whichever table: of a
    /// key that is written twice, the first.
    fn last_before(&self, key: &str, at: Span) -> Option<Span> {
        self.entries
            .iter()
            .flat_map(|entry| {
                let inner = match &entry.node.value {
                    Value::Table(table) => table.last_before(key, at),
                    Value::Array(items) => items
                        .iter()
                        .filter_map(|item| match &item.value {
                            Value::Table(table) => table.last_before(key, at),
                            _ => None,
                        })
                        .max(),
                    _ => None,
                };
                let own = (entry.key == key && entry.key_span < at).then_some(entry.key_span);
                own.into_iter().chain(inner)
            })
            .max()
    }

    fn remove(&mut self, key: &str) {
        self.entries.retain(|entry| entry.key != key);
    }

    /// Lays another table over this one: tables merge, anything else replaces.
    fn merge(&mut self, over: Table) {
        for entry in over.entries {
            let position = self.entries.iter().position(|old| old.key == entry.key);
            match position.map(|index| &mut self.entries[index]) {
                Some(Entry { node: Node { value: Value::Table(old), .. }, .. })
                    if matches!(entry.node.value, Value::Table(_)) =>
                {
                    if let Value::Table(new) = entry.node.value {
                        old.merge(new);
                    }
                }
                Some(old) => *old = entry,
                None => self.entries.push(entry),
            }
        }
    }
}

/// Lines without a `=` after which the rest of a unit is still read; fewer of a
/// unit so large that reading it again takes its time.
const LOST_LINES: usize = 32;
const LOST_BYTES: usize = 1 << 20;

/// How the parser begins to say that a key has no `=`.
const NO_VALUE: &str = "key with no value";

/// Parses a unit's text, collecting every syntax error.
pub fn parse(sources: &Sources, source: u16, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let text = &*sources.get(source).text;
    let mut mended = Cow::Borrowed(text);
    let mut errors: Vec<TomlError> = Vec::new();
    let mut left = LOST_LINES.min(LOST_BYTES / text.len().max(1));
    let (table, further) = loop {
        let (table, found) = DeTable::parse_recoverable(&mended);
        // The parser reads nothing behind a key without a value: once more,
        // without the line.
        let at = found
            .iter()
            .find(|error| error.message().starts_with(NO_VALUE))
            .and_then(|error| line_of(text, error.span()?.start));
        let (Some(line), true) = (at, left > 0) else {
            break (from_table(source, table.get_ref()), found);
        };
        let start = |error: &TomlError| error.span().map_or(0, |span| span.start);
        left -= 1;
        // The end of the line, too: nothing may follow the key.
        let there =
            found.into_iter().filter(|error| (line.start..=line.end).contains(&start(error)));
        errors.extend(there.min_by_key(start));
        mended.to_mut().replace_range(line.clone(), &" ".repeat(line.len()));
    };
    errors.extend(further);
    errors.sort_by_key(|error| error.span().map_or(0, |span| span.start));
    // What the parser makes of the rest of a line it cannot read says nothing.
    let mut lines = HashSet::new();
    errors.retain(|error| {
        let start = error.span().and_then(|span| Some(line_of(text, span.start)?.start));
        lines.insert(start)
    });
    diagnostics.extend(errors.iter().map(|error| syntax_error(source, text, &table, error)));
    table
}

/// The line that holds an offset, without its break.
fn line_of(text: &str, offset: usize) -> Option<Range<usize>> {
    let (before, behind) = (text.get(..offset)?, text.get(offset..)?);
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(start..offset + behind.find('\n').unwrap_or(behind.len()))
}

/// A syntax error in the words of this project, where they say more than the
/// parser's.
fn syntax_error(source: u16, text: &str, table: &Table, error: &TomlError) -> Diagnostic {
    let range = error.span().unwrap_or(0..0);
    let range = range.start.min(text.len())..range.end.min(text.len());
    let at = span(source, range.clone());
    let of = |range: Range<usize>| span(source, range);
    let found = text.get(range.clone()).unwrap_or("");
    let rest = text.get(range.start..).unwrap_or("");
    let next = rest.chars().next();
    let say = |message: &str, label: &str| Diagnostic::error("E0003", message).at(at, label);
    let surplus = |end: usize| {
        let at = of(end - 1..end);
        Diagnostic::error("E0003", format!("no line ends with `{}`", &text[end - 1..end]))
            .at(at, "")
            .help("leave it out")
            .patch(at, "")
    };
    let message = error.message();
    if message.starts_with("string values must be quoted") && found.trim().is_empty() {
        return say("a value is missing", "nothing behind the `=`");
    }
    if message.starts_with("string values must be quoted")
        || message.starts_with("invalid boolean")
        || message.starts_with("invalid float")
    {
        let label = "neither a string in quotes, a number, true nor false";
        let no_value = || say(&format!("`{found}` is no value"), label);
        match found {
            _ if found.ends_with([';', ',']) => return surplus(range.end),
            "yes" | "on" | "True" | "TRUE" => return no_value().patch(at, "true"),
            "no" | "off" | "False" | "FALSE" => return no_value().patch(at, "false"),
            "null" | "nil" | "None" => return no_value().help("leave a key without a value out"),
            _ if found.contains(char::is_whitespace) => {
                return no_value().help("write one key on each line");
            }
            _ if found.chars().all(|c| c.is_alphanumeric() || "_./:@%+-".contains(c)) => {
                return no_value()
                    .help("write a string in quotes")
                    .patch(at, format!("\"{found}\""));
            }
            _ => {}
        }
    }
    if message.starts_with("invalid mantissa")
        && let Some(point) = bare_fraction(text, range.start)
    {
        return say(&lower_first(message), "")
            .help("a number begins with a digit")
            .patch(of(point..point), "0");
    }
    if message.starts_with("unexpected leading zero") {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, at) = (&rest[..digits], of(range.start..range.start + digits));
        let key = line_of(text, range.start).and_then(|line| text[line].split('=').next());
        let diagnostic = Diagnostic::error("E0003", "a number has no leading zero").at(at, "");
        return match key.map(str::trim) {
            Some(key) if key.ends_with("mode") || key.ends_with("mask") => diagnostic
                .help("write permission bits in quotes")
                .patch(at, format!("\"{number}\"")),
            _ => {
                let number = number.trim_start_matches('0');
                diagnostic
                    .help("leave it out")
                    .patch(at, if number.is_empty() { "0" } else { number })
            }
        };
    }
    if message.starts_with("extra `=`") {
        return say("one `=` too many", "").help("leave it out").patch(at, "");
    }
    if message.starts_with("unexpected key or value") {
        return match next {
            Some(';' | ',') => surplus(range.start + 1),
            _ => say("something follows where the line could end", "a new key starts a new line"),
        };
    }
    if next == Some(':') && message.starts_with("invalid unquoted key") {
        return say("a value follows a `=`", "found `:`")
            .help("write `=`")
            .patch(of(range.start..range.start + 1), " =");
    }
    if message.starts_with(NO_VALUE) {
        return say("a key without a `=`", "").help("write `key = value`");
    }
    if (rest.starts_with(';') || rest.starts_with("//"))
        && message.starts_with("invalid unquoted key")
    {
        return say("a comment starts with `#`", "");
    }
    if message.starts_with("duplicate key") {
        let message = format!("`{found}` is written twice");
        // All that lies between two places is looked through to show them.
        let first = table.last_before(found, at).filter(|first| at.start - first.start < 4096);
        return Diagnostic::error("E0003", message)
            .at(at, "the second time")
            .context(first, "the first time");
    }
    say(&lower_first(message), "")
}

/// Where the point of a number such as `.5` or `-.5` is.
fn bare_fraction(text: &str, start: usize) -> Option<usize> {
    let number = text.get(start..)?;
    let fraction = number.trim_start_matches(['+', '-']);
    let point = start + number.len() - fraction.len();
    let begins = |c: char| c.is_ascii_digit();
    fraction.strip_prefix('.')?.starts_with(begins).then_some(point)
}

fn lower_first(message: &str) -> String {
    let message = message.lines().next().unwrap_or(message);
    let mut chars = message.chars();
    match chars.next() {
        Some(first) if !message.starts_with("TOML") => first.to_lowercase().chain(chars).collect(),
        _ => message.to_owned(),
    }
}

/// Lays `--set KEY=VALUE` over a tree. VALUE is TOML; what is not TOML is
/// taken as a string; an empty VALUE takes the key away.
pub fn set(
    tree: &mut Table,
    sources: &mut Sources,
    assignment: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let source = sources.add(ARGUMENT, assignment);
    let whole = span(source, 0..assignment.len());
    let malformed = |label: &str| {
        Diagnostic::error("E0107", format!("`--set {assignment}` is not KEY=VALUE"))
            .at(whole, label.to_owned())
            .help("write a dotted key and a value, such as `--set limits.memory=512M`")
    };
    if !assignment.contains('=') {
        diagnostics.push(malformed("no `=`"));
        return;
    }
    // A quoted key may hold a `=` itself: the first that leaves a key counts.
    let split = assignment.match_indices('=').find_map(|(at, _)| {
        let text = format!("{} = 0", &assignment[..at]);
        let keys = DeTable::parse(&text).ok()?;
        Some((at, from_table(source, keys.get_ref())))
    });
    let Some((at, keys)) = split else {
        let key = assignment.split_once('=').map_or("", |(key, _)| key);
        diagnostics.push(match key.split_once('[') {
            Some((list, _)) if key.contains(']') => malformed("names one entry of a list")
                .help(format!("a list is set as a whole: `--set '{list}=[…]'`")),
            _ => malformed("the key is not a dotted TOML key"),
        });
        return;
    };
    let value = assignment[at + 1..].trim();
    if value.is_empty() {
        unset(tree, &keys);
        return;
    }
    let blanks = assignment[at + 1..].len() - assignment[at + 1..].trim_start().len();
    let offset = at + 1 + blanks;
    let node = match DeValue::parse(value) {
        Ok(parsed) => shift(from_value(source, parsed.span(), parsed.get_ref()), offset),
        Err(error) if value.starts_with(['[', '{']) && takes_no_text(&keys) => {
            let at = error.span().unwrap_or(0..value.len());
            let label = match error.message() {
                message if message.starts_with("string values must be quoted") => {
                    "no value: a string is in quotes".to_owned()
                }
                message => lower_first(message),
            };
            diagnostics.push(
                Diagnostic::error("E0107", format!("the value of `--set {assignment}` is not TOML"))
                    .at(span(source, offset + at.start..offset + at.end), label)
                    .help("a string in a list or table is in quotes, which the shell takes away: put the whole into others, such as `--set 'process.command=[\"ls\", \"/\"]'`"),
            );
            return;
        }
        Err(_) => Node {
            span: span(source, offset..offset + value.len()),
            value: Value::String(value.to_owned()),
            octal: false,
        },
    };
    let mut keys = keys;
    replace_leaf(&mut keys, node);
    tree.merge(keys);
}

/// Whether the key that some keys lead to is one for which a text is nothing.
fn takes_no_text(keys: &Table) -> bool {
    let mut path = Vec::new();
    let mut inner = Some(keys);
    while let Some(entry) = inner.and_then(|table| table.entries.first()) {
        path.push(&*entry.key);
        inner = match &entry.node.value {
            Value::Table(table) => Some(table),
            _ => None,
        };
    }
    let Some((name, table)) = path.split_last() else { return false };
    let takes_text =
        |key: &super::keys::Key| key.takes.contains("string") && key.takes != "strings";
    super::keys::is_repeated(name)
        || super::keys::find(&table.join("."), name).is_some_and(|key| !takes_text(key))
}

fn unset(tree: &mut Table, keys: &Table) {
    let Some(entry) = keys.entries.first() else { return };
    match &entry.node.value {
        Value::Table(inner) => {
            let old = tree.entries.iter_mut().find(|old| old.key == entry.key);
            if let Some(Entry { node: Node { value: Value::Table(old), .. }, .. }) = old {
                unset(old, inner);
            }
        }
        _ => tree.remove(&entry.key),
    }
}

fn replace_leaf(keys: &mut Table, node: Node) {
    let Some(entry) = keys.entries.first_mut() else { return };
    match &mut entry.node.value {
        Value::Table(inner) => replace_leaf(inner, node),
        _ => entry.node = node,
    }
}

fn shift(mut node: Node, by: usize) -> Node {
    let by = u32::try_from(by).unwrap_or(u32::MAX);
    let move_span = |span: &mut Span| {
        span.start = span.start.saturating_add(by);
        span.end = span.end.saturating_add(by);
    };
    move_span(&mut node.span);
    node.value = match node.value {
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| shift(item, by as usize)).collect())
        }
        Value::Table(mut table) => {
            table.entries = table
                .entries
                .into_iter()
                .map(|mut entry| {
                    move_span(&mut entry.key_span);
                    entry.node = shift(entry.node, by as usize);
                    entry
                })
                .collect();
            Value::Table(table)
        }
        scalar => scalar,
    };
    node
}

fn span(source: u16, range: std::ops::Range<usize>) -> Span {
    let narrow = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
    Span { source, start: narrow(range.start), end: narrow(range.end.max(range.start)) }
}

fn from_table(source: u16, table: &DeTable<'_>) -> Table {
    let mut entries: Vec<Entry> = table
        .iter()
        // What the parser puts for a value that it could not read.
        .filter(|(_, value)| {
            !value.span().is_empty() || matches!(value.get_ref(), DeValue::Table(_))
        })
        .map(|(key, value)| Entry {
            key: key.get_ref().to_string(),
            key_span: span(source, key.span()),
            node: from_value(source, value.span(), value.get_ref()),
        })
        .collect();
    // The parser hands its tables out alphabetically.
    entries.sort_by_key(|entry| entry.key_span);
    Table { entries }
}

fn from_value(source: u16, range: std::ops::Range<usize>, value: &DeValue<'_>) -> Node {
    let octal = matches!(value, DeValue::Integer(integer) if integer.radix() == 8);
    let value = match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::HugeInteger,
        },
        DeValue::Float(float) => Value::Float(float.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(boolean) => Value::Boolean(*boolean),
        DeValue::Datetime(_) => Value::Datetime,
        DeValue::Array(items) => Value::Array(
            items.iter().map(|item| from_value(source, item.span(), item.get_ref())).collect(),
        ),
        DeValue::Table(table) => Value::Table(from_table(source, table)),
    };
    Node { span: span(source, range), value, octal }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str, sets: &[&str]) -> (Table, Sources, Vec<Diagnostic>) {
        let mut sources = Sources::default();
        let source = sources.add("unit.toml", text);
        let mut diagnostics = Vec::new();
        let mut table = parse(&sources, source, &mut diagnostics);
        for assignment in sets {
            set(&mut table, &mut sources, assignment, &mut diagnostics);
        }
        (table, sources, diagnostics)
    }

    fn text<'a>(table: &Table, sources: &'a Sources, path: &[&str]) -> Option<&'a str> {
        let (last, parents) = path.split_last()?;
        let mut table = table;
        for key in parents {
            match &table.get(key)?.node.value {
                Value::Table(inner) => table = inner,
                _ => return None,
            }
        }
        Some(sources.text(table.get(last)?.node.span))
    }

    #[test]
    fn set_overrides_adds_and_removes() {
        let (table, sources, diagnostics) = tree(
            "name = \"a\"\n[limits]\nmemory = \"1G\"\npids = 3\n",
            &["limits.memory=512M", "root.path=/srv", "limits.pids=", "limits.cpu=1.5"],
        );
        assert!(diagnostics.is_empty());
        assert_eq!(text(&table, &sources, &["limits", "memory"]), Some("512M"));
        assert_eq!(text(&table, &sources, &["root", "path"]), Some("/srv"));
        assert_eq!(text(&table, &sources, &["limits", "pids"]), None);
        assert_eq!(text(&table, &sources, &["limits", "cpu"]), Some("1.5"));
    }

    #[test]
    fn set_without_a_value_is_malformed() {
        let (_, _, diagnostics) = tree("", &["limits.memory", "a b=1"]);
        assert_eq!(diagnostics.len(), 2);
        assert!(diagnostics.iter().all(|diagnostic| diagnostic.code == "E0107"));
    }

    #[test]
    fn a_value_that_begins_as_toml_and_is_none_is_not_taken_as_a_string() {
        for assignment in ["process.command=[ls]", "mounts=[{tmpfs=1M}]", "limits.cpu={1}"] {
            let (table, _, diagnostics) = tree("", &[assignment]);
            assert_eq!(diagnostics.len(), 1, "{assignment}");
            assert_eq!(diagnostics[0].code, "E0107");
            assert!(table.entries.is_empty(), "{assignment}");
        }
        for assignment in ["process.env.A={\"b\": 1}", "process.env.A=[x", "description=[x"] {
            assert!(tree("", &[assignment]).2.is_empty(), "{assignment}");
        }
    }

    #[test]
    fn an_entry_of_a_list_cannot_be_set_and_the_whole_list_is_offered() {
        let (_, _, diagnostics) = tree("", &["mounts[0].read-only=false"]);
        let [finding] = &diagnostics[..] else { panic!("{diagnostics:?}") };
        assert_eq!(finding.code, "E0107");
        assert_eq!(finding.at.as_ref().unwrap().1, "names one entry of a list");
        let help = finding.help.as_deref();
        assert_eq!(help, Some("a list is set as a whole: `--set 'mounts=[…]'`"));
    }

    #[test]
    fn a_fraction_without_its_zero_gets_one() {
        for (text, mended) in [("cpu = .5\n", "cpu = 0.5\n"), ("cpu = -.5\n", "cpu = -0.5\n")] {
            let (_, _, diagnostics) = tree(text, &[]);
            let patch = diagnostics.iter().find_map(|finding| finding.patch.as_ref()).unwrap();
            let mut patched = text.to_owned();
            patched.replace_range(patch.span.range(), &patch.replacement);
            assert_eq!(patched, mended);
        }
    }

    #[test]
    fn a_line_without_an_equals_sign_does_not_hide_what_follows() {
        for line in ["name \"x\"", "a: 1", "; x", "// x", "on missing = 1", "- x", "x"] {
            let (table, _, diagnostics) = tree(&format!("{line}\nb = \nc = 2\n"), &[]);
            assert_eq!(diagnostics.len(), 2, "{line}: {diagnostics:?}");
            assert!(table.get("c").is_some(), "{line}");
        }
    }

    #[test]
    fn nothing_is_read_from_a_value_that_cannot_be() {
        let (table, _, diagnostics) = tree("path == \"/srv\"\n", &[]);
        assert!(table.get("path").is_none());
        let [finding] = &diagnostics[..] else { panic!("{diagnostics:?}") };
        assert_eq!(finding.patch.as_ref().unwrap().replacement, "");
    }

    #[test]
    fn a_syntax_error_that_has_a_cure_says_it() {
        for (text, cured) in [
            ("a = yes\n", "a = true\n"),
            ("a = False\n", "a = false\n"),
            ("a = 1G\n", "a = \"1G\"\n"),
            ("a = 1;\n", "a = 1\n"),
            ("a = true,\n", "a = true\n"),
            ("a: 1\n", "a = 1\n"),
            ("umask = 022\n", "umask = \"022\"\n"),
            ("pids = 022\n", "pids = 22\n"),
            ("pids = 00\n", "pids = 0\n"),
            ("a == 1\n", "a = 1\n"),
        ] {
            let (_, _, diagnostics) = tree(text, &[]);
            let [finding] = &diagnostics[..] else { panic!("{text:?}: {diagnostics:?}") };
            let patch = finding.patch.as_ref().unwrap();
            let mut patched = text.to_owned();
            patched.replace_range(patch.span.range(), &patch.replacement);
            assert_eq!(patched, cured);
        }
    }

    #[test]
    fn a_key_written_twice_is_named_with_its_first_place() {
        let text = "[[a]]\nx = 1\n[[a]]\nx = 2\nx = 3\n";
        let (_, _, diagnostics) = tree(text, &[]);
        let [finding] = &diagnostics[..] else { panic!("{diagnostics:?}") };
        assert_eq!(finding.message, "`x` is written twice");
        assert_eq!(finding.context[0].0.start as usize, text.find("x = 2").unwrap());
    }

    #[test]
    fn every_syntax_error_is_reported() {
        let (table, _, diagnostics) = tree("a = \nb = 1\nc = [1,, 2]\nd = 2\n", &[]);
        assert!(diagnostics.len() >= 2, "{diagnostics:?}");
        assert!(table.get("d").is_some());
    }
}
