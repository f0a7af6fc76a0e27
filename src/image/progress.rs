//! Telling how far long work has come: one line on a terminal, rewritten in
//! place, and nothing where there is none.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Work shorter than this is not spoken of.
const PATIENCE: Duration = Duration::from_millis(500);

/// The line is not rewritten more often.
const PACE: Duration = Duration::from_millis(100);

/// Columns of the bar itself.
const BAR: usize = 24;

/// A line about work that goes on. May be told of it from any thread.
#[derive(Debug)]
pub struct Progress(Option<Mutex<Line>>);

#[derive(Debug)]
struct Line {
    label: String,
    total: u64,
    begun: Instant,
    written: Option<Instant>,
    columns: usize,
}

impl Progress {
    /// Says nothing.
    pub fn silent() -> Self {
        Self(None)
    }

    /// Speaks on standard error when that is a terminal that can rewrite a line.
    pub fn on_terminal() -> Self {
        let is_plain = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let columns = crate::sys::borrow(2).and_then(crate::sys::columns).unwrap_or(0);
        if is_plain || columns == 0 {
            return Self::silent();
        }
        let begun = Instant::now();
        let columns = usize::from(columns);
        Self(Some(Mutex::new(Line {
            label: String::new(),
            total: 0,
            begun,
            written: None,
            columns,
        })))
    }

    /// Another piece of work begins: so many bytes. What went before counts
    /// for the user's patience.
    pub fn begin(&self, label: &str, total: u64) {
        self.with(|line| {
            line.label = label.to_owned();
            line.total = total;
        });
    }

    /// Work that says nothing of itself while it goes on.
    pub fn wait(&self, what: &str) {
        self.with(|line| {
            line.written = Some(Instant::now());
            let mut text = what.to_owned();
            text.truncate(line.columns.saturating_sub(1));
            write(&format!("\r{text}\x1b[K"));
        });
    }

    /// So many of them are done.
    pub fn at(&self, done: u64) {
        self.with(|line| {
            let now = Instant::now();
            let is_due = match line.written {
                None => now.duration_since(line.begun) >= PATIENCE,
                Some(written) => now.duration_since(written) >= PACE,
            };
            if is_due {
                line.written = Some(now);
                write(&format!("\r{}\x1b[K", line.text(done)));
            }
        });
    }

    /// The work has ended: the line is taken away.
    pub fn end(&self) {
        self.with(|line| {
            if line.written.is_some() {
                write("\r\x1b[K");
            }
        });
    }

    fn with(&self, act: impl FnOnce(&mut Line)) {
        if let Some(line) = &self.0 {
            // A thread that has panicked leaves a line, not a lie.
            act(&mut line.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.end();
    }
}

impl Line {
    fn text(&self, done: u64) -> String {
        let done = done.min(self.total);
        let share = |whole: u64| match self.total {
            0 => whole,
            total => (u128::from(whole) * u128::from(done) / u128::from(total)) as u64,
        };
        let filled = share(BAR as u64) as usize;
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR - filled));
        let sizes = format!("{} of {}", size(done), size(self.total));
        let mut text = format!("{} [{bar}] {:3}% {sizes}", self.label, share(100));
        // A line that wraps cannot be rewritten.
        text.truncate(self.columns.saturating_sub(1));
        text
    }
}

fn write(text: &str) {
    // A terminal that has gone away must not end the work.
    match std::io::stderr().write_all(text.as_bytes()) {
        Ok(()) | Err(_) => {}
    }
}

/// Bytes as a person reads them.
pub fn size(bytes: u64) -> String {
    let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
    match units.iter().find(|(_, shift)| bytes >= 1 << shift) {
        Some((unit, shift)) => format!("{:.1} {unit}", bytes as f64 / (1_u64 << shift) as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_readable() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (3 << 30, "3.0 GiB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn the_line_fits_the_terminal() {
        let mut line = Line {
            label: "layer 1 of 2".to_owned(),
            total: 2 << 20,
            begun: Instant::now(),
            written: None,
            columns: 80,
        };
        assert_eq!(
            line.text(1 << 20),
            "layer 1 of 2 [############------------]  50% 1.0 MiB of 2.0 MiB"
        );
        assert!(line.text(u64::MAX).contains("100%"));
        line.columns = 20;
        assert_eq!(line.text(0), "layer 1 of 2 [-----");
        line.total = 0;
        assert!(!line.text(0).is_empty());
    }
}
