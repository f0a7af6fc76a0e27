//! The command: its step, and whether it would run, and where.

use std::io;
use std::path::{Path, PathBuf};

use super::format::{self, Format, SCRIPTS};
use super::permission::Rules;
use super::step::{IdMaps, Origin, Step};
use super::user::User;
use super::view::{self, Walk};
use super::{Planner, unspan};
use crate::closure::PATH;
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::source::Span;
use crate::unit::decode::{Setting, nearest};

impl<H: Host> Planner<'_, H> {
    pub(super) fn command(&mut self, user: &User) {
        let process = &self.unit.process;
        let Some(command) = &process.command else { return };
        let Some(program) = command.value.first() else { return };
        // The magic links of /proc lead out of the jail.
        if program.starts_with("/proc/") {
            self.find(
                Diagnostic::error("E0305", format!("`{program}` is not a program of the root"))
                    .at_maybe(command.span, "commands are not taken from /proc"),
            );
        }
        let environment = self.environment(user);
        let step = Step::Exec { command: command.value.clone(), environment };
        match command.span {
            None if !process.from_image.contains(&"process.command") => {
                self.push(step, Origin::Arguments);
            }
            _ => self.setting(step, &unspan(command), "process.command"),
        }
    }

    fn environment(&self, user: &User) -> Vec<(String, String)> {
        let process = &self.unit.process;
        let term = self
            .host
            .variable("TERM")
            .filter(|term| {
                !term.is_empty()
                    && term.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._+".contains(&b))
            })
            .unwrap_or_else(|| "dumb".to_owned());
        let mut environment: Vec<(String, String)> = [
            ("PATH", PATH),
            ("HOME", &user.home),
            ("USER", &user.name),
            ("TERM", &term),
            ("container", "jailrun"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        let mut set = |name: &str, value: String| match environment
            .iter_mut()
            .find(|(known, _)| known == name)
        {
            Some((_, old)) => *old = value,
            None => environment.push((name.to_owned(), value)),
        };
        for name in &process.env_pass {
            if let Some(value) = self.host.variable(&name.value) {
                set(&name.value, value);
            }
        }
        for (name, value) in &process.env {
            set(name, value.value.clone());
        }
        environment
    }

    /// Looks for the directory that the command starts in.
    pub(super) fn check_cwd(&mut self, rules: &Rules<'_>) {
        let cwd = &self.unit.process.cwd;
        let path = &cwd.value.0;
        let shown = path.display();
        let (message, label, near) = match self.view.walk(self.host, path) {
            Ok(Walk::Found(found, Kind::Directory)) => {
                let closed =
                    self.closed_to(rules, &found).or_else(|| self.not_entered(rules, &found));
                if let Some(reason) = closed {
                    self.find(
                        Diagnostic::error("E0321", format!("`{shown}` cannot be entered"))
                            .at_maybe(cwd.span, "permission denied")
                            .note(reason),
                    );
                }
                return;
            }
            _ if self.is_hidden(path) => return self.leave_unknown("process.cwd", path),
            Ok(Walk::Found(..)) => (format!("`{shown}` is not a directory"), "a file", None),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                (format!("`{shown}` leads through a file"), "no such directory", None)
            }
            // Of a link to what a process has, only the launch can tell.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return,
            Ok(Walk::Missing(_)) | Err(_) => (
                format!("`{shown}` does not exist in the jail"),
                "no such directory",
                self.similar(path),
            ),
        };
        let (at, label) = match cwd.span {
            Some(_) => (cwd.span, label),
            None => (self.unit.root.kind.as_ref().and_then(|kind| kind.span), "its `WorkingDir`"),
        };
        let found = Diagnostic::error("E0321", message).at_maybe(at, label);
        self.find(match near {
            Some(near) => found.help(format!("the jail has `{near}`")),
            None => found,
        });
    }

    /// Looks for the command in the jail's tree, without running anything, where
    /// execve will.
    pub(super) fn check_command(&mut self, rules: &Rules<'_>) {
        let Some(command) = self.unit.process.command.clone() else { return };
        let Some(program) = command.value.first().cloned() else { return };
        // That it is empty has been said.
        if self.unit.root.kind.is_none() || program.is_empty() || program.starts_with("/proc/") {
            return;
        }
        let environment = rules.steps.iter().find_map(|planned| match &planned.step {
            Step::Exec { environment, .. } => Some(environment),
            _ => None,
        });
        let path = environment.into_iter().flatten().find(|(name, _)| name == "PATH");
        let path = path.map_or("", |(_, value)| value);
        let cwd = &self.unit.process.cwd.value.0;
        let is_search = !program.contains('/');
        let candidates: Vec<PathBuf> = if is_search {
            // An empty part of it is the directory that the command starts in.
            path.split(':').map(|directory| cwd.join(directory).join(&program)).collect()
        } else {
            vec![cwd.join(&program)]
        };
        let mut refused = None;
        let mut closed = None;
        for candidate in &candidates {
            match self.view.walk(self.host, candidate) {
                Ok(Walk::Found(found, Kind::File { executable: true })) => {
                    let what = (command.span, "the program");
                    match self.not_to_be_run(rules, &found, what) {
                        // The next in PATH may be another.
                        Some(diagnostic) if is_search => {
                            refused = Some(diagnostic);
                            continue;
                        }
                        Some(diagnostic) => self.find(diagnostic),
                        None if self.out_of_reach(&found, "the program", command.span) => {}
                        None => self.check_program(rules, &command, &found, 0),
                    }
                    return;
                }
                _ if self.is_hidden(candidate) => {
                    return self.leave_unknown("process.command", candidate);
                }
                Ok(Walk::Found(_, kind)) => {
                    let message = format!("`{}` cannot be run", candidate.display());
                    let label = format!("it is {}", not_a_program(kind));
                    refused =
                        Some(Diagnostic::error("E0305", message).at_maybe(command.span, label));
                }
                Err(error) if view::is_of_process(&error) => {
                    let message = format!("`{}` cannot be run", candidate.display());
                    self.find(
                        Diagnostic::error("E0305", message)
                            .at_maybe(command.span, "leads to `/proc`")
                            .note("what a process has there leads out of the jail"),
                    );
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    closed = Some(candidate);
                }
                _ => {}
            }
        }
        let diagnostic = match (refused, closed) {
            (Some(diagnostic), _) => diagnostic,
            (None, Some(closed)) => return self.not_to_be_seen(closed, command.span),
            (None, None) => {
                let message = format!("`{program}` does not exist in the jail");
                let diagnostic = Diagnostic::error("E0304", message);
                match (is_search, self.similar(&candidates[0])) {
                    (true, _) if path.is_empty() => diagnostic
                        .at_maybe(command.span, format!("not found in `{}`", cwd.display()))
                        .note("`PATH` is empty"),
                    (true, _) => diagnostic.at_maybe(command.span, format!("not found in {path}")),
                    (false, near) => diagnostic
                        .at_maybe(command.span, "no such file")
                        .help_maybe(near.map(|near| format!("the jail has `{near}`"))),
                }
            }
        };
        self.find(diagnostic);
    }

    /// What the caller may not look for, the command may not run, unless it has
    /// ids that the caller has not.
    fn not_to_be_seen(&mut self, path: &Path, span: Option<Span>) {
        if self.maps.as_ref().is_some_and(IdMaps::is_single) {
            self.find(
                Diagnostic::error("E0305", format!("`{}` cannot be run", path.display()))
                    .at_maybe(span, "permission denied")
                    .note("a directory on the way is closed to you, and so to the jail"),
            );
        }
    }

    fn similar(&self, path: &Path) -> Option<String> {
        let parent = path.parent()?;
        let name = path.file_name()?.to_str()?;
        let behind = match self.view.walk(self.host, parent).ok()? {
            Walk::Found(found, Kind::Directory) => self.view.behind(self.host, &found)?,
            _ => return None,
        };
        let names = self.host.list(&behind).ok()?;
        let near = nearest(name, names.iter().map(String::as_str))?;
        Some(parent.join(near).display().to_string())
    }

    /// A script or program is as good as the interpreter or loader it names, and
    /// no better than its format.
    fn check_program(
        &mut self,
        rules: &Rules<'_>,
        command: &Setting<Vec<String>>,
        found: &Path,
        depth: u32,
    ) {
        let Some(behind) = self.view.behind(self.host, found) else { return };
        // Who may run a file need not be able to read it.
        let Ok(head) = self.host.read(&behind, 4096) else { return };
        let interpreter = match format::of(&head) {
            Format::Script(_) if depth == SCRIPTS => {
                return self.no_program(command, found, "too many interpreters in a row");
            }
            Format::Script(name) | Format::Elf(Some(name)) => name,
            Format::Elf(None) => return,
            Format::Foreign if self.other_formats() != Some(false) => return,
            Format::Foreign => {
                return self.no_program(command, found, "of another architecture, or damaged");
            }
            Format::Nothing(_) if self.other_formats() == Some(true) => return,
            Format::Nothing(reason) => return self.no_program(command, found, reason),
        };
        let path = self.unit.process.cwd.value.0.join(&interpreter);
        let kind = match self.view.walk(self.host, &path) {
            Ok(Walk::Found(next, Kind::File { executable: true })) => {
                self.check_interpreter(rules, command, &next, (&head, &path, depth));
                return;
            }
            _ if self.is_hidden(&path) => return self.leave_unknown("process.command", &path),
            Ok(Walk::Found(_, kind)) => Some(not_a_program(kind)),
            Err(error) if view::is_of_process(&error) => Some("in `/proc`"),
            _ => None,
        };
        let found = found.display();
        let diagnostic = match kind {
            Some(what) => {
                let message = format!("`{found}` needs `{interpreter}`, which is {what}");
                Diagnostic::error("E0305", message)
                    .at_maybe(command.span, "its interpreter cannot be run")
            }
            None => {
                let message =
                    format!("`{found}` needs `{interpreter}`, which the jail does not have");
                Diagnostic::error("E0306", message)
                    .at_maybe(command.span, "its interpreter is missing")
                    .note("the kernel reports this as \"no such file\", naming the program")
            }
        };
        self.find(diagnostic);
    }

    fn check_interpreter(
        &mut self,
        rules: &Rules<'_>,
        command: &Setting<Vec<String>>,
        found: &Path,
        (by, path, depth): (&[u8], &Path, u32),
    ) {
        if self.out_of_reach(found, "its interpreter", command.span) {
            return;
        }
        let is_loader = by.starts_with(format::ELF);
        if is_loader {
            self.libraries_out_of_reach(path, command.span);
        }
        if let Some(diagnostic) =
            self.not_to_be_run(rules, found, (command.span, "its interpreter"))
        {
            self.find(diagnostic);
        } else if !is_loader {
            self.check_program(rules, command, found, depth + 1);
        }
    }

    fn no_program(&mut self, command: &Setting<Vec<String>>, found: &Path, reason: &str) {
        let message = format!("`{}` cannot be run", found.display());
        self.find(
            Diagnostic::error("E0305", message).at_maybe(command.span, format!("it is {reason}")),
        );
    }

    /// Whether this kernel has been told of further formats of programs, which
    /// cannot be known where their file system is not mounted.
    fn other_formats(&self) -> Option<bool> {
        match self.host.list(Path::new("/proc/sys/fs/binfmt_misc")) {
            Ok(names) if names.is_empty() => None,
            Ok(names) => Some(names.iter().any(|name| name != "register" && name != "status")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
            Err(_) => Some(true),
        }
    }
}

/// What a file is that cannot be executed.
fn not_a_program(kind: Kind) -> &'static str {
    match kind {
        Kind::Directory => "a directory",
        Kind::File { .. } => "not executable",
        _ => "not a regular file",
    }
}
