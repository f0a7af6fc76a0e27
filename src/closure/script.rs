//! The first line of a script, as the kernel and env(1) take it apart.
//! Looking for what it names is not done here.

use std::str;

/// Bytes the kernel reads of a file that it is to execute; linux/binfmts.h.
pub(super) const LINE: usize = 256;

/// `#!interpreter argument`; the kernel makes one argument of the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) interpreter: String,
    pub(super) argument: Option<String>,
}

/// Takes the first line apart; a reason where the kernel would refuse it.
pub(super) fn parse(head: &[u8]) -> Result<Line, &'static str> {
    let rest = head.get(2..).unwrap_or_default();
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let end = rest.iter().position(|byte| matches!(byte, b'\n' | 0));
    let line = rest[..end.unwrap_or(rest.len())].trim_ascii();
    let (interpreter, argument) = match line.iter().position(blank) {
        Some(at) => (&line[..at], line[at..].trim_ascii()),
        // Cut off in the middle of the path.
        None if end.is_none() && head.len() >= LINE => {
            return Err("has an interpreter whose path is longer than the kernel reads");
        }
        None => (line, &[][..]),
    };
    let text = |bytes| str::from_utf8(bytes).map_err(|_| "has a first line that is not UTF-8");
    match text(interpreter)? {
        "" => Err("names no interpreter in its first line"),
        path => Ok(Line {
            interpreter: path.to_owned(),
            argument: Some(text(argument)?).filter(|text| !text.is_empty()).map(str::to_owned),
        }),
    }
}

/// What env(1) is going to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EnvCommand {
    pub(super) program: String,
    /// `PATH=…` before the program: env(1) looks for it there.
    pub(super) path: Option<String>,
}

/// Reads the one argument that the kernel passes to env(1); `None` where it
/// names no program.
pub(super) fn env_command(argument: &str) -> Result<Option<EnvCommand>, &'static str> {
    // Without -S the argument is one word, blanks included.
    let mut words = vec![argument.to_owned()];
    let mut path = None;
    let mut options = true;
    while !words.is_empty() {
        let word = words.remove(0);
        let takes_next = match word.strip_prefix("--").filter(|_| options) {
            Some("") => {
                options = false;
                false
            }
            Some("split-string") if !words.is_empty() => {
                let text = words.remove(0);
                words.splice(0..0, split(&text)?);
                false
            }
            Some(long) => match long.strip_prefix("split-string=") {
                Some(text) => {
                    words.splice(0..0, split(text)?);
                    false
                }
                None => matches!(long, "unset" | "chdir" | "argv0"),
            },
            None => match word.strip_prefix('-').filter(|short| options && !short.is_empty()) {
                Some(short) => match short_options(short) {
                    Short::Split(text) => {
                        let text = if text.is_empty() && !words.is_empty() {
                            words.remove(0)
                        } else {
                            text
                        };
                        words.splice(0..0, split(&text)?);
                        false
                    }
                    Short::TakesNext => true,
                    Short::Complete => false,
                },
                None if options && word == "-" => false,
                None => match word.split_once('=') {
                    Some((name, value)) => {
                        options = false;
                        if name == "PATH" {
                            path = Some(value.to_owned());
                        }
                        false
                    }
                    None => return Ok(Some(EnvCommand { program: word, path })),
                },
            },
        };
        if takes_next && !words.is_empty() {
            words.remove(0);
        }
    }
    Ok(None)
}

enum Short {
    /// `-S`, with what follows it in the same word.
    Split(String),
    TakesNext,
    Complete,
}

/// Letters after one `-`.
fn short_options(letters: &str) -> Short {
    for (at, letter) in letters.char_indices() {
        let rest = &letters[at + letter.len_utf8()..];
        match letter {
            'S' => return Short::Split(rest.to_owned()),
            'u' | 'C' | 'a' if rest.is_empty() => return Short::TakesNext,
            'u' | 'C' | 'a' => return Short::Complete,
            _ => {}
        }
    }
    Short::Complete
}

/// Splits as `env -S` does: blanks, both quotes, backslashes, a comment.
fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), close) if open == close => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => break,
            (None, blank) if blank.is_ascii_whitespace() => words.extend(word.take()),
            (Some('\''), '\\') => match letters.next() {
                Some(next @ ('\'' | '\\')) => word.get_or_insert_default().push(next),
                Some(next) => word.get_or_insert_default().extend(['\\', next]),
                None => return Err("hands `env` a backslash with nothing behind it"),
            },
            (_, '\\') => match letters.next() {
                Some('c') if quote.is_none() => break,
                Some('_') if quote.is_none() => words.extend(word.take()),
                Some(next) => word.get_or_insert_default().push(match next {
                    '_' => ' ',
                    'f' => '\x0c',
                    'n' => '\n',
                    'r' => '\r',
                    't' => '\t',
                    'v' => '\x0b',
                    other => other,
                }),
                None => return Err("hands `env` a backslash with nothing behind it"),
            },
            // The caller's environment is not the jail's.
            (None | Some('"'), '$') => return Err("hands `env` a variable of the caller"),
            (_, other) => word.get_or_insert_default().push(other),
        }
    }
    if quote.is_some() {
        return Err("hands `env` a quote without an end");
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Result<(String, Option<String>), &'static str> {
        parse(text.as_bytes()).map(|line| (line.interpreter, line.argument))
    }

    fn env(argument: &str) -> Option<String> {
        env_command(argument).unwrap().map(|command| command.program)
    }

    #[test]
    fn the_rest_of_the_line_is_one_argument() {
        let sh = |argument: Option<&str>| Ok(("/bin/sh".to_owned(), argument.map(str::to_owned)));
        assert_eq!(line("#!/bin/sh\necho"), sh(None));
        assert_eq!(line("#! /bin/sh \t-e  -u \necho"), sh(Some("-e  -u")));
        assert_eq!(line("#!/bin/sh"), sh(None));
        assert!(line("#!\n/bin/sh").is_err());
        assert!(line(&format!("#!/{}", "x".repeat(254))).is_err());
        assert_eq!(line(&format!("#!/bin/sh {}", "x".repeat(246))), sh(Some(&"x".repeat(246))));
    }

    #[test]
    fn env_names_the_program() {
        assert_eq!(env("python3").as_deref(), Some("python3"));
        assert_eq!(env("python3 -u").as_deref(), Some("python3 -u"));
        assert_eq!(env("-S python3 -u").as_deref(), Some("python3"));
        assert_eq!(env("-iS -u HOME A=1 perl -w").as_deref(), Some("perl"));
        assert_eq!(env("--split-string=-i 'my perl' x").as_deref(), Some("my perl"));
        assert_eq!(env(r"-S a\_b c").as_deref(), Some("a"));
        assert_eq!(env(r#"-S "a\_b" c"#).as_deref(), Some("a b"));
        assert_eq!(env("-S -- A=1 node # comment").as_deref(), Some("node"));
        assert_eq!(env("-i"), None);
    }

    #[test]
    fn a_path_before_the_program_is_where_it_is_looked_for() {
        let command = env_command("-S PATH=/opt/bin tool").unwrap().unwrap();
        assert_eq!(command, EnvCommand { program: "tool".into(), path: Some("/opt/bin".into()) });
    }

    #[test]
    fn what_depends_on_the_caller_or_has_no_end_is_refused() {
        assert!(env_command("-S ${HOME}/bin/x").is_err());
        assert!(env_command("-S 'x").is_err());
        assert!(env_command("-S x\\").is_err());
    }
}
