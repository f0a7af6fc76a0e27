//! `/etc/passwd` and `/etc/group` of the jail: names to numbers.
//!
//! The files belong to the jail and are not trusted: they are found without
//! leaving it, must be regular files, and are read up to a bound.

use std::path::Path;

use super::Planner;
use super::view::Walk;
use crate::host::{Host, Kind};

/// Largest part of a file that is looked at, in bytes.
const BOUND: usize = 1 << 20;

/// A line of `/etc/passwd`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PasswdLine {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

impl<H: Host> Planner<'_, H> {
    /// Lines of a file of the jail, split at colons; a reason where there are
    /// none to be had.
    fn table(&self, path: &str) -> Result<Vec<Vec<String>>, String> {
        let reason = |error: std::io::Error| {
            format!("`{path}` of the jail: {}", crate::unit::io_reason(&error))
        };
        let found = match self.view.walk(self.host, Path::new(path)).map_err(reason)? {
            Walk::Found(found, Kind::File { .. }) => found,
            Walk::Found(..) => return Err(format!("`{path}` of the jail is not a regular file")),
            Walk::Missing(_) => return Err(format!("the jail has no `{path}`")),
        };
        let Some(behind) = self.view.behind(self.host, &found) else {
            return Err(format!("the jail has no `{path}`"));
        };
        let content = self.host.read(&behind, BOUND).map_err(reason)?;
        let text = String::from_utf8_lossy(&content);
        Ok(text.lines().map(|line| line.split(':').map(str::to_owned).collect()).collect())
    }

    /// The first user that a test accepts.
    pub(super) fn passwd(
        &self,
        accept: impl Fn(&PasswdLine) -> bool,
    ) -> Result<Option<PasswdLine>, String> {
        let lines = self.table("/etc/passwd")?;
        Ok(lines.iter().find_map(|fields| {
            let [name, _, uid, gid, _, home, ..] = &fields[..] else { return None };
            let line = PasswdLine {
                name: name.clone(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
                home: home.clone(),
            };
            accept(&line).then_some(line)
        }))
    }

    /// The gid of a group's name.
    pub(super) fn group(&self, wanted: &str) -> Result<Option<u32>, String> {
        let lines = self.table("/etc/group")?;
        Ok(lines.iter().find_map(|fields| match &fields[..] {
            [name, _, gid, ..] if name == wanted => gid.parse().ok(),
            _ => None,
        }))
    }
}
