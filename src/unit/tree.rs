//! The parsed TOML as a tree whose every key and value has a [`Span`].
//!
//! Several texts merge into one tree here (`--set` over the unit), so that
//! everything behind it knows a single model and no second way in.

use toml::de::{DeTable, DeValue};

use crate::diagnostic::Diagnostic;
use crate::source::{Sources, Span};

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

/// Parses a unit's text, collecting every syntax error.
pub fn parse(sources: &Sources, source: u16, diagnostics: &mut Vec<Diagnostic>) -> Table {
    let text = &sources.get(source).text;
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let range = error.span().unwrap_or(0..0);
        let span = span(source, range.start..range.end.min(text.len()));
        let diagnostic = Diagnostic::error("E0003", lower_first(error.message())).at(span, "");
        diagnostics.push(match bare_fraction(text, range.start) {
            Some(point) if error.message().starts_with("invalid mantissa") => diagnostic
                .help("a number begins with a digit")
                .patch(self::span(source, point..point), "0"),
            _ => diagnostic,
        });
    }
    from_table(source, table.get_ref())
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
    let source = sources.add("--set", assignment);
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
    fn every_syntax_error_is_reported() {
        let (table, _, diagnostics) = tree("a = \nb = 1\nc = [1,, 2]\nd = 2\n", &[]);
        assert!(diagnostics.len() >= 2, "{diagnostics:?}");
        assert!(table.get("d").is_some());
    }
}
