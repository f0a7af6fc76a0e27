//! The texts a unit is read from, and positions in them.
//!
//! A [`Span`] names its source, so that a value may come from a file, from a
//! `--set` on the command line, or from any further file, and still be quoted.

use std::borrow::Cow;
use std::ops::Range;

/// Text for a terminal: control characters, which a name or a value may hold,
/// are spelt out. Line breaks stay.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.is_control() && c != '\n')
}

/// Text for one line of a terminal or of a script.
pub fn on_one_line(text: &str) -> Cow<'_, str> {
    escaped(text, char::is_control)
}

fn escaped(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match is_bad(c) {
            true => out.extend(c.escape_default()),
            false => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Byte range in one of the [`Sources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// Index into [`Sources`].
    pub source: u16,
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// Range usable for slicing the source's text.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Name of the texts that are arguments.
pub const ARGUMENT: &str = "--set";

/// One text with the name under which users know it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path as the user gave it, or `--set`.
    pub name: String,
    /// The whole text.
    pub text: String,
    /// Offsets of its line breaks.
    newlines: Vec<usize>,
}

impl Source {
    /// Number, from 1, and first byte of the line that holds an offset.
    pub fn line(&self, offset: usize) -> (usize, usize) {
        let before = self.newlines.partition_point(|newline| *newline < offset);
        (before + 1, before.checked_sub(1).map_or(0, |last| self.newlines[last] + 1))
    }

    /// One past the line break that ends the line of an offset.
    pub fn line_end(&self, offset: usize) -> usize {
        let before = self.newlines.partition_point(|newline| *newline < offset);
        self.newlines.get(before).map_or(self.text.len(), |newline| newline + 1)
    }
}

/// Every text that took part in one unit.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    list: Vec<Source>,
}

/// Line and column, both counted from 1; the column counts characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line number.
    pub line: usize,
    /// Column in characters.
    pub column: usize,
}

impl Sources {
    /// Adds a text and returns its index.
    pub fn add(&mut self, name: impl Into<String>, text: impl Into<String>) -> u16 {
        let text = text.into();
        let newlines = text.match_indices('\n').map(|(at, _)| at).collect();
        self.list.push(Source { name: name.into(), text, newlines });
        u16::try_from(self.list.len() - 1).unwrap_or(u16::MAX)
    }

    /// Source number `index`.
    pub fn get(&self, index: u16) -> &Source {
        &self.list[usize::from(index)]
    }

    /// Text below a span.
    pub fn text(&self, span: Span) -> &str {
        self.get(span.source).text.get(span.range()).unwrap_or("")
    }

    /// Line and column of a span's first byte.
    pub fn position(&self, span: Span) -> Position {
        let source = self.get(span.source);
        let offset = (span.start as usize).min(source.text.len());
        let (line, start) = source.line(offset);
        let before = source.text.get(start..offset).unwrap_or("");
        Position { line, column: before.chars().count() + 1 }
    }

    /// `web.toml:14`, or for a command-line value the argument itself.
    pub fn place(&self, span: Span) -> String {
        let source = self.get(span.source);
        if source.name == ARGUMENT {
            return format!("{ARGUMENT} {}", on_one_line(&source.text));
        }
        format!("{}:{}", on_one_line(&source.name), self.position(span).line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters() {
        let mut sources = Sources::default();
        let source = sources.add("a.toml", "x = 1\nüü = 2\n");
        let span = Span { source, start: 11, end: 12 };
        assert_eq!(sources.position(span), Position { line: 2, column: 4 });
        assert_eq!(sources.place(span), "a.toml:2");
    }

    #[test]
    fn a_place_stays_on_its_line_whatever_the_file_is_called() {
        let mut sources = Sources::default();
        let source = sources.add("a\n\u{1b}[31m\u{9b}.toml", "x = 1\n");
        let span = Span { source, start: 0, end: 1 };
        assert_eq!(sources.place(span), "a\\n\\u{1b}[31m\\u{9b}.toml:1");
    }
}
