//! Reading tables of the tree: typed keys, and every problem reported.
//!
//! A key that cannot be read is reported and then treated as absent, so that
//! one pass finds all problems of a unit.

use std::cell::RefCell;

use super::keys::{self, Meant};
use super::tree::{Entry, Node, Table, Value};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// A value with the place that set it; `None` when a default did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Option<Span>,
}

impl<T> Setting<T> {
    /// A value that no key set.
    pub fn default(value: T) -> Self {
        Self { value, span: None }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Setting<U> {
        Setting { value: f(self.value), span: self.span }
    }
}

/// What reading a unit has found so far.
#[derive(Debug, Default)]
pub struct Findings {
    list: RefCell<Vec<Diagnostic>>,
}

impl Findings {
    /// Adds one.
    pub fn push(&self, diagnostic: Diagnostic) {
        self.list.borrow_mut().push(diagnostic);
    }

    /// All of them.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.list.into_inner()
    }
}

/// A type that a key can hold.
pub trait FromNode: Sized {
    /// Reads it; a problem is pushed and gives `None`.
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self>;
}

/// The key being read, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Where problems go.
    pub findings: &'a Findings,
    /// The key's name.
    pub key: &'a str,
}

impl Context<'_> {
    /// Reports a value of the wrong type.
    pub fn wrong_type(self, node: &Node, expected: &str) {
        self.findings.push(self.mistyped(node, expected));
    }

    /// A diagnostic for a value of the wrong type.
    pub fn mistyped(self, node: &Node, expected: &str) -> Diagnostic {
        Diagnostic::error("E0102", format!("`{}` takes {expected}", self.key))
            .at(node.span, format!("found {}", node.value.type_name()))
    }

    /// A diagnostic for a value that is of the right type and still wrong.
    pub fn invalid(self, node: &Node, message: impl Into<String>, label: &str) -> Diagnostic {
        Diagnostic::error("E0103", message).at(node.span, label)
    }
}

/// One table of the unit while its keys are read.
#[derive(Debug)]
pub struct Reader<'a> {
    table: Option<&'a Table>,
    name: &'static str,
    findings: &'a Findings,
    /// Keys that a misspelt one is taken for: not missing, only misspelt.
    meant: RefCell<Vec<&'static str>>,
}

impl<'a> Reader<'a> {
    /// Starts on a table; an absent one has no keys. Unknown keys are
    /// reported at once, by the table of keys.
    pub fn new(table: Option<&'a Table>, name: &'static str, findings: &'a Findings) -> Self {
        let reader = Self { table, name, findings, meant: RefCell::default() };
        for entry in table.map_or(&[][..], |table| &table.entries) {
            if !reader.knows(&entry.key) {
                reader.unknown(entry);
            }
        }
        reader
    }

    /// Where problems go.
    pub fn findings(&self) -> &'a Findings {
        self.findings
    }

    fn knows(&self, key: &str) -> bool {
        keys::find(self.name, key).is_some() || self.subtables().any(|known| known == key)
    }

    fn subtables(&self) -> impl Iterator<Item = &'static str> {
        let name = self.name;
        keys::TABLES.iter().filter_map(move |table| match name {
            "" => (!table.name.is_empty() && !table.name.contains('.')).then_some(table.name),
            _ => table.name.strip_prefix(name)?.strip_prefix('.'),
        })
    }

    fn unknown(&self, entry: &Entry) {
        let place = match self.name {
            "" => "at the top level".to_owned(),
            name if keys::is_repeated(name) => format!("in `[[{name}]]`"),
            name => format!("in `[{name}]`"),
        };
        let mut diagnostic =
            Diagnostic::error("E0101", format!("unknown key `{}` {place}", entry.key));
        let folded = fold(&entry.key);
        let known = keys::of(self.name).iter().map(|key| key.name).chain(self.subtables());
        let meant = keys::meant(self.name, &entry.key);
        if let Some(Meant::Key(key)) = meant {
            self.meant.borrow_mut().push(key);
            diagnostic = diagnostic
                .at(entry.key_span, format!("called `{key}` here"))
                .help("write this instead")
                .patch(entry.key_span, key);
        } else if let Some(Meant::Words(words)) = meant {
            diagnostic = diagnostic.at(entry.key_span, "no such key").help(words);
        } else if let Some(nearest) = nearest(&entry.key, known) {
            self.meant.borrow_mut().push(nearest);
            diagnostic = diagnostic
                .at(entry.key_span, format!("did you mean `{nearest}`?"))
                .help("a key with a similar name exists")
                .patch(entry.key_span, nearest);
        } else if keys::KEYS.iter().any(|key| key.name == folded) {
            let tables: Vec<_> = keys::KEYS
                .iter()
                .filter(|key| key.name == folded)
                .map(|key| match key.table {
                    "" => "the top level".to_owned(),
                    table if keys::is_repeated(table) => format!("`[[{table}]]`"),
                    table => format!("`[{table}]`"),
                })
                .collect();
            let hint = match tables.len() {
                1 if tables[0] == "the top level" => "this key belongs at the top level".to_owned(),
                _ => format!("this key belongs in {}", tables.join(" or ")),
            };
            diagnostic = diagnostic.at(entry.key_span, hint);
        } else {
            diagnostic = diagnostic.at(entry.key_span, "no such key");
        }
        self.findings.push(diagnostic);
    }

    /// The entry of a key.
    pub fn entry(&self, key: &str) -> Option<&'a Entry> {
        debug_assert!(self.knows(key), "{}.{key} is not in the table of keys", self.name);
        self.table?.get(key)
    }

    /// Whether the key is written at all: readable or not, well spelt or not.
    pub fn has(&self, key: &str) -> bool {
        self.entry(key).is_some() || self.meant.borrow().contains(&key)
    }

    /// The key's value, where it is written and can be read.
    pub fn get<T: FromNode>(&self, key: &str) -> Option<Setting<T>> {
        let entry = self.entry(key)?;
        let cx = Context { findings: self.findings, key: &entry.key };
        let value = T::from_node(&entry.node, cx)?;
        Some(Setting { value, span: Some(entry.node.span) })
    }

    /// The key's value or its default.
    pub fn get_or<T: FromNode>(&self, key: &str, default: T) -> Setting<T> {
        self.get(key).unwrap_or_else(|| Setting::default(default))
    }

    /// A table below this one.
    pub fn subtable(&self, key: &str) -> Option<&'a Table> {
        let entry = self.entry(key)?;
        match &entry.node.value {
            Value::Table(table) => Some(table),
            _ => {
                Context { findings: self.findings, key }.wrong_type(&entry.node, "a table");
                None
            }
        }
    }
}

/// A name as this project writes names.
pub fn fold(text: &str) -> String {
    text.to_lowercase().replace('_', "-")
}

/// The known name that a wrong one begins, or that is nearest to it; none
/// where nothing is near.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let folded = fold(word);
    let known: Vec<(String, &str)> = known.map(|name| (fold(name), name)).collect();
    let limit = (folded.chars().count() / 3).max(1);
    begun(&folded, &known).or_else(|| {
        known
            .iter()
            .map(|(name, candidate)| (strsim::damerau_levenshtein(&folded, name), *candidate))
            .filter(|(distance, _)| *distance <= limit)
            .min()
            .map(|(_, candidate)| candidate)
    })
}

/// The name that a word begins, or whose singular it is. Of several the one
/// that begins all others: `mem` means `memory` before `memory-high`.
fn begun<'a>(word: &str, known: &[(String, &'a str)]) -> Option<&'a str> {
    // Fewer letters begin too much.
    if word.chars().count() < 3 {
        return None;
    }
    let plural = word.strip_suffix('y').map(|stem| format!("{stem}ies"));
    let longer: Vec<_> = known
        .iter()
        .filter(|(name, _)| name.starts_with(word) || plural.as_ref() == Some(name))
        .collect();
    let (first, candidate) = longer.iter().min_by_key(|(name, _)| name.len())?;
    longer.iter().all(|(name, _)| name.starts_with(first)).then_some(*candidate)
}

/// Reads a key that is written as `[[key]]`, entry by entry.
pub fn tables<T>(
    node: Option<&Node>,
    key: &'static str,
    findings: &Findings,
    read_one: impl Fn(&Table, Span, &Findings) -> Option<T>,
) -> Vec<T> {
    let Some(node) = node else { return Vec::new() };
    let cx = Context { findings, key };
    let Value::Array(items) = &node.value else {
        if matches!(node.value, Value::Table(_)) {
            findings.push(
                Diagnostic::error("E0102", format!("`{key}` is a list of tables"))
                    .at(node.span, "found one table")
                    .help(format!("write `[[{key}]]` with two brackets")),
            );
        } else {
            cx.wrong_type(node, "a list of tables");
        }
        return Vec::new();
    };
    items
        .iter()
        .filter_map(|item| match &item.value {
            Value::Table(table) => read_one(table, item.span, findings),
            _ => {
                cx.wrong_type(item, "tables");
                None
            }
        })
        .collect()
}

/// Reads one of several words into a value, with a suggestion for a near miss.
pub fn one_of<T: Copy>(node: &Node, cx: Context<'_>, words: &[(&str, T)]) -> Option<T> {
    one_of_or(node, cx, words, &[])
}

/// The same for a key that also takes what is no fixed word, and is not to be
/// left out of the message; the caller has read that.
pub fn one_of_or<T: Copy>(
    node: &Node,
    cx: Context<'_>,
    words: &[(&str, T)],
    further: &[&str],
) -> Option<T> {
    let expected = || {
        let words = words.iter().map(|(word, _)| *word).chain(further.iter().copied());
        let quoted: Vec<_> = words.map(|word| format!("\"{word}\"")).collect();
        match quoted.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => quoted.concat(),
        }
    };
    let Value::String(text) = &node.value else {
        cx.wrong_type(node, &expected());
        return None;
    };
    if let Some((_, value)) = words.iter().find(|(word, _)| word == text) {
        return Some(*value);
    }
    let message = format!("`{}` takes {}", cx.key, expected());
    let diagnostic = match nearest(text, words.iter().map(|(word, _)| *word)) {
        Some(near) => cx
            .invalid(node, message, &format!("did you mean \"{near}\"?"))
            .help("a value with a similar name exists")
            .patch(node.span, format!("\"{near}\"")),
        None => cx.invalid(node, message, "not one of them"),
    };
    cx.findings.push(diagnostic);
    None
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_beginning_or_a_singular_suggests_the_whole_name() {
        let near = |word: &str, known: &[&'static str]| nearest(word, known.iter().copied());
        assert_eq!(near("binary", &["files", "binaries"]), Some("binaries"));
        assert_eq!(near("NET_BIND", &["NET_RAW", "NET_BIND_SERVICE"]), Some("NET_BIND_SERVICE"));
        assert_eq!(near("mem", &["memory-high", "memory"]), Some("memory"));
        assert_eq!(near("memroy", &["memory-high", "memory"]), Some("memory"));
        // Either could be meant, or anything.
        assert_eq!(near("stop", &["stop-grace", "stop-signal"]), None);
        assert_eq!(near("b", &["bind"]), None);
        assert_eq!(near("", &["bind"]), None);
    }
}
