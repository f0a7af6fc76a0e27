//! The ledger: everything that a launch could leave on the host. Two of them
//! are compared; the second is taken again for a while, since the kernel gives
//! some things back a moment after the last process is gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Groups whose children count, one in each hierarchy.
    pub cgroups: Vec<PathBuf>,
    /// Directories whose whole content counts: state, store, temporary files.
    pub trees: Vec<PathBuf>,
    /// Loop devices count whose file lies below.
    pub files: PathBuf,
}

/// How long the kernel may take, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is there, a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger(BTreeSet<String>);

impl Ledger {
    /// Takes stock. Processes and namespaces are those that `/proc` shows.
    pub fn take(places: &Places) -> Self {
        let mut lines = BTreeSet::new();
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        for (count, line) in text("/proc/self/mountinfo").lines().enumerate() {
            // The ids of a mount and its parent are nobody's business.
            let line = line.splitn(3, ' ').nth(2).unwrap_or_default();
            lines.insert(format!("mount {count}: {line}"));
        }
        for group in &places.cgroups {
            walk(group, &mut |path, is_directory| {
                if is_directory {
                    lines.insert(format!("cgroup {}", path.display()));
                }
            });
        }
        for tree in &places.trees {
            walk(tree, &mut |path, _| {
                lines.insert(format!("file {}", path.display()));
            });
        }
        for line in text("/proc/self/net/dev").lines().skip(2) {
            lines.insert(format!("link {}", line.split(':').next().unwrap_or_default().trim()));
        }
        for device in names(Path::new("/sys/block")) {
            let file = text(&format!("/sys/block/{device}/loop/backing_file"));
            if !file.is_empty() && file.contains(&*places.files.to_string_lossy()) {
                lines.insert(format!("loop device {device} of {}", file.trim()));
            }
        }
        let own = std::process::id().to_string();
        for pid in names(Path::new("/proc")).iter().filter(|name| name.parse::<u32>().is_ok()) {
            let namespaces = PathBuf::from(format!("/proc/{pid}/ns"));
            for name in names(&namespaces) {
                if let Ok(id) = fs::read_link(namespaces.join(name)) {
                    lines.insert(format!("namespace {}", id.display()));
                }
            }
            let status = text(&format!("/proc/{pid}/stat"));
            if *pid != own
                && let Some((head, tail)) = status.rsplit_once(')')
            {
                let name = head.split('(').nth(1).unwrap_or_default();
                let is_zombie = tail.trim_start().starts_with('Z');
                let kind = if is_zombie { "zombie" } else { "process" };
                lines.insert(format!("{kind} {pid} {name}"));
            }
        }
        // One of them is the directory that is being read.
        lines.insert(format!("{} descriptors", names(Path::new("/proc/self/fd")).len()));
        Self(lines)
    }

    /// How what is there differs from this, within some seconds; nothing when
    /// it does not. `reap` is called before each look.
    pub fn differences(&self, places: &Places, mut reap: impl FnMut()) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(500);
        loop {
            reap();
            let there = Self::take(places);
            if there == *self {
                return Vec::new();
            }
            if Instant::now() > deadline {
                let left = there.0.difference(&self.0).map(|line| format!("left: {line}"));
                let gone = self.0.difference(&there.0).map(|line| format!("gone: {line}"));
                return left.chain(gone).collect();
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

fn walk(directory: &Path, visit: &mut dyn FnMut(&Path, bool)) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
        visit(&entry.path(), is_directory);
        if is_directory {
            walk(&entry.path(), visit);
        }
    }
}
