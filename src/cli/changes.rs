//! `jailrun changes`.

use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::Args;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::{complain, has_error, print, print_json, report};
use crate::changes::{self, Lowers};
use crate::host::{Host as _, Machine};
use crate::run;
use crate::unit;

#[derive(Debug, Args)]
pub(super) struct Changes {
    /// A running jail, a unit whose root has an upper directory, or that directory itself
    #[arg(value_name = "NAME|UNIT|UPPER")]
    of: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Set a key over the unit
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Changes {
    pub(super) fn run(&self) -> i32 {
        match self.list() {
            Ok(text) if self.json => print_json(&text),
            Ok(text) => print(&text),
            Err(message) => {
                complain(&message);
                1
            }
        }
    }

    fn list(&self) -> Result<String, String> {
        let running = self.of.to_str().filter(|name| unit::is_name(name) && !self.of.exists());
        let (upper, lower) = if self.of.is_dir() {
            (self.of.clone(), None)
        } else if let Some(name) = running {
            let found = run::state::stack_of(&Machine::default().state_directory(), name);
            let found = found.map_err(|failed| failed.errno.desc().to_lowercase())?;
            let stack = found.ok_or_else(|| {
                format!("no jail `{name}` runs whose root keeps its changes in a directory")
            })?;
            (stack.upper, Some(stack.lower))
        } else {
            let (upper, lower) = self.overlay()?;
            (upper, Some(lower))
        };
        let open = |path: &PathBuf| {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            nix::fcntl::open(path, flags, Mode::empty())
                .map_err(|errno| format!("`{}`: {}", path.display(), errno.desc().to_lowercase()))
        };
        let upper = open(&upper)?;
        let opened = lower.iter().flatten().map(open).collect::<Result<Vec<_>, _>>()?;
        let opened: Vec<_> = opened.iter().map(|fd| fd.as_fd()).collect();
        let lowers = match lower {
            Some(_) => Lowers::Known(&opened),
            None => Lowers::Unknown,
        };
        // The other kind means nothing to the mount, and a jail could write it.
        let marks = match nix::unistd::geteuid().is_root() {
            true => changes::Marks::Trusted,
            false => changes::Marks::User,
        };
        let found =
            changes::read(upper.as_fd(), lowers, marks).map_err(|error| error.to_string())?;
        let mut text = Vec::new();
        let written = match self.json {
            true => changes::print_json(&found, &mut text),
            false => changes::print(&found, &mut text),
        };
        written.map_err(|error| error.to_string())?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The directories of a unit's root: the one with the changes, and those
    /// below.
    fn overlay(&self) -> Result<(PathBuf, Vec<PathBuf>), String> {
        let name = self.of.display().to_string();
        // What it runs does not matter here, and may come with the launch.
        let loaded = unit::load(&self.of, &self.set, &["true".to_owned()]);
        if has_error(&loaded.diagnostics) {
            report(&loaded.diagnostics, &loaded.sources, &name);
            return Err(format!("{name} is no unit"));
        }
        let kind = loaded.unit.as_ref().and_then(|unit| unit.root.kind.as_ref());
        let (Some(unit), Some(unit::root::RootKind::Overlay(overlay))) =
            (&loaded.unit, kind.map(|kind| &kind.value))
        else {
            return Err(format!("the root of {name} is no overlay"));
        };
        let Some(unit::root::Upper::Directory(upper)) =
            overlay.upper.as_ref().map(|upper| &upper.value)
        else {
            return Err(format!("the root of {name} has no `upper` directory"));
        };
        let resolve = |path: &unit::value::HostPath| path.resolve(&unit.base);
        Ok((resolve(upper), overlay.lower.iter().map(|path| resolve(&path.value)).collect()))
    }
}
