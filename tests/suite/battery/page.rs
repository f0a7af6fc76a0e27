//! `man/jailrun-security.7`: the threat model, and the tables that the battery
//! writes into it; and the table of other launchers in `README.md`.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::Row;

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("man/jailrun-security.7")
}

/// Two tests write to one page.
static PAGE: Mutex<()> = Mutex::new(());

/// The cells of a row of the first table.
pub fn of_row(row: &Row) -> Vec<String> {
    vec![row.id.to_owned(), row.attack.to_owned(), row.control.clone(), row.jailrun.clone()]
}

/// Text as a cell of tbl(1), which fills it.
fn cell(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-").replace('`', "");
    // Long paths may be broken.
    let text = text.replace('/', "/\\:").replace('_', "_\\:");
    let guard = if text.starts_with(['.', '\'']) { "\\&" } else { "" };
    format!("T{{\n{guard}{text}\nT}}")
}

fn table(rows: &[Vec<String>]) -> String {
    rows.iter()
        .map(|row| row.iter().map(|text| cell(text)).collect::<Vec<_>>().join("\t") + "\n")
        .collect()
}

/// The part of the page between the marks of a name.
fn parts<'a>(page: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let begin = format!(".\\\" begin {name}\n");
    let end = format!(".\\\" end {name}\n");
    let from = page.find(&begin).expect("the page has its marks") + begin.len();
    let to = from + page[from..].find(&end).expect("the page has its marks");
    (&page[..from], &page[from..to], &page[to..])
}

/// The rows as plain text, for the end of tests/run.
fn plain(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(|c| c.chars().count()).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut out = String::new();
    for row in rows {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(text, width)| format!("{text:<width$}")).collect();
        writeln!(out, "{}", line.join("  ").trim_end()).unwrap();
    }
    out
}

/// Compares a table with the page's, or writes it there; and leaves it as text
/// where tests/run finds it. A control may be impossible on this host and
/// possible on another, or the other way round.
pub fn compare(name: &str, rows: &[Vec<String>]) {
    let _guard = PAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let text = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("security-{name}.txt"));
    fs::write(text, plain(rows)).unwrap();
    let page_text = fs::read_to_string(page()).unwrap();
    let (before, there, after) = parts(&page_text, name);
    let here = table(rows);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(page(), format!("{before}{here}{after}")).unwrap();
        return;
    }
    if there == here {
        return;
    }
    let known: Vec<&str> = there.split("T}\n").collect();
    let seen: Vec<&str> = here.split("T}\n").collect();
    for (known, seen) in known.iter().zip(&seen) {
        let vacuous = known.contains("VACUOUS:") || seen.contains("VACUOUS:");
        assert!(known == seen || vacuous, "the page has\n{known}\nand seen was\n{seen}\nUPDATE=1");
    }
    assert_eq!(known.len(), seen.len(), "the page has other rows: UPDATE=1 writes it");
}

fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// Where the rows of the README's table of other launchers begin and end.
fn readme_table(text: &str, names: &[&str]) -> (usize, usize) {
    let head = format!("| | | {} |\n|{}\n", names.join(" | "), "---|".repeat(names.len() + 2));
    let from = text.find(&head).expect("README.md has the table of other launchers") + head.len();
    let length = text[from..].find("\n\n").expect("something follows it") + 1;
    (from, from + length)
}

/// What README.md says of other launchers, cell by cell.
pub fn readme_rows(names: &[&str]) -> Vec<Vec<String>> {
    let text = fs::read_to_string(readme()).unwrap();
    let (from, to) = readme_table(&text, names);
    let cells = |line: &str| {
        let line = line.strip_prefix("| ")?.strip_suffix(" |")?;
        Some(line.split(" | ").map(str::to_owned).collect())
    };
    text[from..to].lines().map(|line| cells(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Whether README.md, above its table, and the page both speak of that version
/// of a program.
pub fn both_name(version: &str, names: &[&str]) -> bool {
    let readme = fs::read_to_string(readme()).unwrap();
    let (from, _) = readme_table(&readme, names);
    let above = readme[..from].rsplit("\n\n").nth(1).unwrap_or_default();
    let page = fs::read_to_string(page()).unwrap().replace("\\-", "-");
    [above, &*page].iter().all(|text| {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").contains(version)
    })
}

/// Compares the README's table with what was seen, or writes it there.
pub fn compare_readme(names: &[&str], rows: &[Vec<String>]) {
    let _guard = PAGE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if std::env::var_os("UPDATE").is_some() {
        let mut text = fs::read_to_string(readme()).unwrap();
        let (from, to) = readme_table(&text, names);
        let lines: String = rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect();
        text.replace_range(from..to, &lines);
        fs::write(readme(), text).unwrap();
        return;
    }
    let known = readme_rows(names);
    for (known, seen) in known.iter().zip(rows) {
        assert_eq!(known, seen, "README.md has the first, and seen was the second: UPDATE=1");
    }
    assert_eq!(known.len(), rows.len(), "README.md has other rows: UPDATE=1 writes it");
}
