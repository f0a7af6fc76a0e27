//! What is wrong with a unit: code, message, place, help and patch as separate
//! fields, and the two renderings of them (rustc's style, JSON).
//!
//! Everything that can be said about a unit before anything is changed is a
//! [`Diagnostic`]. Failures of a running launch are not; see `run::error`.

use std::fmt::Write as _;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use serde_json::json;

use crate::explain::quote;
use crate::source::{ARGUMENT, Sources, Span, on_one_line, printable};

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The unit cannot be launched.
    Error,
    /// The unit can be launched; the finding deserves a look.
    Warning,
}

/// Replacement of the text below a span that would settle a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// What to replace.
    pub span: Span,
    /// The new text; empty to delete.
    pub replacement: String,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Stable code: see `jailrun.toml(5)`.
    pub code: &'static str,
    /// Lower case, no final stop, names in backticks.
    pub message: String,
    /// Where, with what was found or expected there.
    pub at: Option<(Span, String)>,
    /// Other places that take part.
    pub context: Vec<(Span, String)>,
    /// Rules and reasons.
    pub notes: Vec<String>,
    /// What to do.
    pub help: Option<String>,
    /// The edit that does it.
    pub patch: Option<Patch>,
}

/// A unit without findings is the rule: what puts one together is kept out of
/// the way of what reads and plans.
impl Diagnostic {
    /// An error at a place.
    #[cold]
    #[inline(never)]
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, message.into())
    }

    /// A warning at a place.
    #[cold]
    #[inline(never)]
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, message.into())
    }

    fn new(severity: Severity, code: &'static str, message: String) -> Self {
        debug_assert!(
            crate::codes::CODES.iter().any(|(known, _)| *known == code),
            "{code} is not in the table of codes"
        );
        Self {
            severity,
            code,
            message,
            at: None,
            context: Vec::new(),
            notes: Vec::new(),
            help: None,
            patch: None,
        }
    }

    /// Sets the place, with a label for it.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.at = Some((span, label.into()));
        self
    }

    /// Sets the place where there is one: defaults have none.
    #[must_use]
    pub fn at_maybe(self, span: Option<Span>, label: impl Into<String>) -> Self {
        match span {
            Some(span) => self.at(span, label),
            None => self,
        }
    }

    /// Adds another place that takes part.
    #[must_use]
    pub fn context(mut self, span: Option<Span>, label: impl Into<String>) -> Self {
        self.context.extend(span.map(|span| (span, label.into())));
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Sets the help line.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Sets the help line where there is one.
    #[must_use]
    pub fn help_maybe(self, help: Option<String>) -> Self {
        match help {
            Some(help) => self.help(help),
            None => self,
        }
    }

    /// Sets the edit that settles it.
    #[must_use]
    pub fn patch(mut self, span: Span, replacement: impl Into<String>) -> Self {
        self.patch = Some(Patch { span, replacement: replacement.into() });
        self
    }
}

/// Sorts findings by place: a table is read in the order of its keys, a user
/// reads from the top of the file.
pub fn sort(diagnostics: &mut [Diagnostic]) {
    diagnostics.sort_by_key(|diagnostic| {
        (diagnostic.at.as_ref().map(|(span, _)| *span), diagnostic.severity == Severity::Warning)
    });
}

/// Counts of errors and warnings.
pub fn count(diagnostics: &[Diagnostic]) -> (usize, usize) {
    let errors = diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
    (errors, diagnostics.len() - errors)
}

/// Renders findings in rustc's style, with escape sequences; `anstream`
/// takes them away where the terminal or `NO_COLOR` says so.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let renderer = Renderer::styled();
    let mut out = String::new();
    for diagnostic in diagnostics {
        out.push_str(&renderer.render(&groups(diagnostic, sources)));
        out.push_str("\n\n");
    }
    out
}

fn groups<'a>(diagnostic: &'a Diagnostic, sources: &'a Sources) -> Vec<Group<'a>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(
        level.primary_title(on_one_line(&diagnostic.message)).id(diagnostic.code),
    );
    let mut shown: Vec<u16> = Vec::new();
    for (span, _) in diagnostic.at.iter().chain(&diagnostic.context) {
        if shown.contains(&span.source) {
            continue;
        }
        shown.push(span.source);
        let labelled = |list: &'a [(Span, String)]| {
            list.iter().filter(|(at, _)| at.source == span.source).collect::<Vec<_>>()
        };
        let primary: Vec<_> =
            diagnostic.at.iter().filter(|(at, _)| at.source == span.source).collect();
        let context = labelled(&diagnostic.context);
        let window = Window::around(sources, primary.iter().chain(&context).map(|(at, _)| *at));
        let mut snippet = window.snippet();
        for (span, label) in primary {
            let primary = AnnotationKind::Primary.span(window.range(*span));
            snippet = snippet.annotation(primary.label(on_one_line(label)));
        }
        for (span, label) in context {
            let context = AnnotationKind::Context.span(window.range(*span));
            snippet = snippet.annotation(context.label(on_one_line(label)));
        }
        group = group.element(snippet);
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    let help = diagnostic.help.as_deref().map(printable);
    let mut groups = Vec::new();
    match &diagnostic.patch {
        Some(patch) if sources.get(patch.span.source).name == ARGUMENT => {
            let mut text = sources.get(patch.span.source).text.clone();
            text.replace_range(patch.span.range(), &patch.replacement);
            let text = quote(&on_one_line(&text));
            let help = help.unwrap_or("write this instead".into());
            group = group.element(Level::HELP.message(format!("{help}: `{ARGUMENT} {text}`")));
            groups.push(group);
        }
        Some(patch) => {
            groups.push(group);
            let window = Window::around(sources, std::iter::once(patch.span));
            let title = Level::HELP.secondary_title(help.unwrap_or("write this instead".into()));
            let range = window.range(patch.span);
            groups.push(title.element(
                window.snippet().patch(annotate_snippets::Patch::new(range, &*patch.replacement)),
            ));
        }
        None => {
            if let Some(help) = help {
                group = group.element(Level::HELP.message(help));
            }
            groups.push(group);
        }
    }
    groups
}

/// The lines of a source that some spans touch: the renderer goes through all
/// of the text it is given, for each finding anew.
struct Window<'a> {
    name: &'a str,
    text: &'a str,
    start: usize,
    line: usize,
}

impl<'a> Window<'a> {
    /// `spans` are of one source, and at least one.
    fn around(sources: &'a Sources, spans: impl Iterator<Item = Span> + Clone) -> Self {
        let source = sources.get(spans.clone().next().map_or(0, |span| span.source));
        let text = &*source.text;
        let low = spans.clone().map(|span| span.range().start).min().unwrap_or(0).min(text.len());
        let high = spans.map(|span| span.range().end).max().unwrap_or(0).clamp(low, text.len());
        let (line, start) = source.line(low);
        let end = source.line_end(high);
        Self { name: &source.name, text: text.get(start..end).unwrap_or(text), start, line }
    }

    fn snippet<T: Clone>(&self) -> Snippet<'a, T> {
        Snippet::source(self.text).line_start(self.line).path(on_one_line(self.name))
    }

    fn range(&self, span: Span) -> std::ops::Range<usize> {
        let shift = |offset: usize| offset.saturating_sub(self.start).min(self.text.len());
        shift(span.range().start)..shift(span.range().end)
    }
}

/// The closing line: `error: 2 errors and 1 warning in web.toml`.
pub fn summary(diagnostics: &[Diagnostic], name: &str) -> String {
    let (errors, warnings) = count(diagnostics);
    let mut line = String::new();
    let plural =
        |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
    match (errors, warnings) {
        (0, _) => write!(line, "warning: {}", plural(warnings, "warning")),
        (_, 0) => write!(line, "error: {}", plural(errors, "error")),
        _ => write!(line, "error: {} and {}", plural(errors, "error"), plural(warnings, "warning")),
    }
    .expect("writing to a String cannot fail");
    line.push_str(" in ");
    line.push_str(&on_one_line(name));
    line
}

/// Findings as JSON values with file, line and column.
pub fn to_json(diagnostics: &[Diagnostic], sources: &Sources) -> serde_json::Value {
    let place = |span: Span| {
        let position = sources.position(span);
        json!({
            "file": sources.get(span.source).name,
            "line": position.line,
            "column": position.column,
            "start": span.start,
            "end": span.end,
            "text": sources.text(span),
        })
    };
    diagnostics
        .iter()
        .map(|diagnostic| {
            json!({
                "severity": match diagnostic.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "code": diagnostic.code,
                "message": diagnostic.message,
                "at": diagnostic.at.as_ref().map(|(span, _)| place(*span)),
                "label": diagnostic.at.as_ref().map(|(_, label)| label),
                "context": diagnostic.context.iter().map(|(span, label)| {
                    json!({ "at": place(*span), "label": label })
                }).collect::<Vec<_>>(),
                "notes": diagnostic.notes,
                "help": diagnostic.help,
                "patch": diagnostic.patch.as_ref().map(|patch| json!({
                    "at": place(patch.span),
                    "replacement": patch.replacement,
                })),
            })
        })
        .collect()
}
