//! Words and lines of a shell, quoted so that they say what they should.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Prints a line: echo(1) has options, and its own idea of a backslash.
pub(super) fn say(text: &str) -> String {
    match text.starts_with('-') || text.contains('\\') || !is_printable(text) {
        true => format!("printf '%s\\n' {}", quote(text)),
        false => format!("echo {}", quote(text)),
    }
}

pub(super) fn echo(text: &str, file: &Path) -> String {
    format!("{} >{}", say(text), quote_path(file))
}

/// A word that is no option.
pub(super) fn operand(text: &str) -> String {
    let end = if text.starts_with('-') { "-- " } else { "" };
    format!("{end}{}", quote(text))
}

/// A path of the jail while it is being built.
pub(super) fn inside(path: &Path) -> String {
    match path.to_str().filter(|text| is_plain(text.as_bytes())) {
        Some(text) => format!("\"$root{text}\""),
        None => format!("\"$root\"{}", quote_path(path)),
    }
}

pub(super) fn quote_path(path: &Path) -> String {
    quote_bytes(path.as_os_str().as_bytes())
}

fn is_plain(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-+:,=@%".contains(b))
}

/// Whether a terminal shows it and does nothing else.
fn is_printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t')
}

/// Quotes a word for the shell.
pub fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

fn quote_bytes(bytes: &[u8]) -> String {
    if is_plain(bytes) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if is_printable(text) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => quote_by_number(bytes),
    }
}

/// What a terminal would obey, or what is no text: by printf(1).
fn quote_by_number(bytes: &[u8]) -> String {
    // The shell takes line breaks from the end of what a command prints.
    let end = bytes.iter().rposition(|b| *b != b'\n').map_or(0, |last| last + 1);
    let (bytes, breaks) = bytes.split_at(end);
    let mut format = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' => format.push_str(r"'\''"),
                '\\' => format.push_str(r"\\"),
                '%' => format.push_str("%%"),
                // It has options, too.
                '-' if format.is_empty() => format.push_str(r"\055"),
                '\n' => format.push_str(r"\n"),
                c if c.is_control() => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| format += &octal(b));
                }
                c => format.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| format += &octal(*b));
    }
    let breaks = match breaks.len() {
        0 => String::new(),
        count => format!("'{}'", "\n".repeat(count)),
    };
    format!("\"$(printf '{format}')\"{breaks}")
}

fn octal(byte: u8) -> String {
    format!("\\{byte:03o}")
}
