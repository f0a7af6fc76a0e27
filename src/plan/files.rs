//! `/etc/passwd` and `/etc/group` of the jail: names to numbers.
//!
//! The files belong to the jail and are not trusted: they are found without
//! leaving it, must be regular files, and are read up to a bound.

use std::path::Path;

use super::Planner;
use super::view::Walk;
use crate::host::{Host, Kind};
use crate::unit::mounts::{Mount, MountKind};

/// Largest file that is read, in bytes: somebody at its end is not overlooked.
const BOUND: usize = 16 << 20;

/// Said of a larger one.
pub(super) const TOO_LARGE: &str = "more than 16777216 bytes";

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PasswdLine {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

impl<H: Host> Planner<'_, H> {
    /// A file of the jail, however many lines it has; a reason where there is none
    /// to be had.
    fn table(&self, path: &str) -> Result<Vec<u8>, String> {
        let reason = |error: std::io::Error| {
            format!("`{path}` of the jail: {}", crate::unit::io_reason(&error))
        };
        let walk = self.view.walk(self.host, Path::new(path));
        let real = match &walk {
            Ok(Walk::Found(found, _) | Walk::Missing(found)) => found,
            Err(_) => Path::new(path),
        };
        let is_elsewhere = real.as_os_str() != path;
        let elsewhere = || is_elsewhere.then(|| self.mounted(real)).flatten();
        if let Some(content) = self.mounted(Path::new(path)).or_else(elsewhere) {
            return content;
        }
        let found = match walk.map_err(reason)? {
            Walk::Found(found, Kind::File { .. }) => found,
            Walk::Found(..) => return Err(format!("`{path}` of the jail is not a regular file")),
            Walk::Missing(_) => return Err(format!("the jail has no `{path}`")),
        };
        let Some(behind) = self.view.behind(self.host, &found) else {
            return Err(format!("the jail has no `{path}`"));
        };
        self.all_of(&behind).map_err(reason)
    }

    /// A file as a whole.
    fn all_of(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        let content = self.host.read(path, BOUND + 1)?;
        if content.len() > BOUND { Err(std::io::Error::other(TOO_LARGE)) } else { Ok(content) }
    }

    /// What the last of the unit's mounts over a file puts there: users are
    /// looked up before the mounts are planned, and are those that the command
    /// will see.
    fn mounted(&self, path: &Path) -> Option<Result<Vec<u8>, String>> {
        let is_seen = |mount: &Mount| match &mount.kind.value {
            // What is hidden still says who is who.
            MountKind::Mask => false,
            MountKind::Bind(source) if mount.optional.value => {
                self.host.look(&self.resolve(source)).is_ok()
            }
            _ => true,
        };
        let (mount, below) = self
            .unit
            .mounts
            .iter()
            .rev()
            .filter_map(|mount| Some((mount, path.strip_prefix(&mount.target.value.0).ok()?)))
            .find(|(mount, _)| is_seen(mount))?;
        let unreadable = |why: &str| {
            let (path, target) = (path.display(), mount.target.value.0.display());
            format!("`{path}` of the jail comes from the mount on `{target}`: {why}")
        };
        Some(match &mount.kind.value {
            MountKind::Content(text) if below.as_os_str().is_empty() => {
                Ok(text.clone().into_bytes())
            }
            MountKind::Bind(source) => {
                let content = self.host.canonical(&self.resolve(source)).and_then(|(source, _)| {
                    // A link below it leads elsewhere in the jail.
                    let is_itself = below.as_os_str().is_empty();
                    let file = if is_itself { source } else { source.join(below) };
                    match self.host.look(&file)? {
                        Kind::File { .. } => self.all_of(&file),
                        _ => Err(std::io::Error::other("not a regular file")),
                    }
                });
                content.map_err(|error| unreadable(&crate::unit::io_reason(&error)))
            }
            _ => Err(unreadable("what is there is not read beforehand")),
        })
    }

    /// The first user that a test accepts.
    pub(super) fn passwd(
        &self,
        accept: impl Fn(&PasswdLine) -> bool,
    ) -> Result<Option<PasswdLine>, String> {
        let content = self.table("/etc/passwd")?;
        Ok(String::from_utf8_lossy(&content).lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let (uid, gid) = (id(fields.nth(1)?)?, id(fields.next()?)?);
            let home = fields.nth(1)?;
            let line = PasswdLine { name: name.to_owned(), uid, gid, home: home.to_owned() };
            accept(&line).then_some(line)
        }))
    }

    /// The gid of a group's name.
    pub(super) fn group(&self, wanted: &str) -> Result<Option<u32>, String> {
        let content = self.table("/etc/group")?;
        Ok(String::from_utf8_lossy(&content).lines().find_map(|line| {
            let mut fields = line.split(':');
            let is_wanted = fields.next()? == wanted;
            is_wanted.then(|| id(fields.nth(1)?)).flatten()
        }))
    }
}

/// The number of a user or group. The last one is nobody's: for the kernel it
/// means to leave what is.
pub(super) fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}
