//! The filter of a jail: from what the unit says to the program that is
//! loaded, and whether the launch and the command could go on under it.

use super::step::Step;
use super::{Planner, origin};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, kernel_version};
use crate::names;
use crate::seccomp::profile::{self, For};
use crate::seccomp::{Action, Arch, EPERM, Filter, MAX_INSTRUCTIONS, Policy, sets};
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::seccomp::{Called, Kind, Rules};

/// Largest profile, in bytes.
const MAX_PROFILE: usize = 1 << 20;

/// What the launch itself still calls when the filter is loaded last: the
/// command's start, and the report of its failure.
const AT_THE_END: [&str; 3] = ["execve", "exit_group", "write"];

/// The same for a filter that is loaded before capabilities are given up.
const BEFORE_CAPABILITIES: &[&str] = &[
    "brk",
    "capset",
    "chdir",
    "close",
    "close_range",
    "execve",
    "exit_group",
    "fcntl",
    "fstat",
    "getcwd",
    "mmap",
    "munmap",
    "newfstatat",
    "openat2",
    "prctl",
    "read",
    "rt_sigaction",
    "rt_sigprocmask",
    "sched_setaffinity",
    "write",
];

/// What nearly every program calls before its `main`: the loader and the C
/// library.
const BEFORE_MAIN: [&str; 10] = [
    "arch_prctl",
    "brk",
    "close",
    "fstat",
    "mmap",
    "mprotect",
    "munmap",
    "openat",
    "read",
    "set_tid_address",
];

/// When a filter is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Just before the command.
    Last,
    /// While CAP_SYS_ADMIN is there, which it needs without no_new_privs.
    Privileged,
}

impl<H: Host> Planner<'_, H> {
    /// When the filter is loaded, for the capabilities that the command has.
    pub(super) fn seccomp_moment(&self, permitted: u64) -> Moment {
        let security = &self.unit.security;
        match security.no_new_privileges.value || permitted & names::CAP_SYS_ADMIN != 0 {
            true => Moment::Last,
            false => Moment::Privileged,
        }
    }

    /// Adds the step that loads the filter. `kept` are the capabilities that a
    /// process of the jail can come to have; `hold` those that must not be
    /// lost when CAP_SYS_ADMIN is raised for it.
    pub(super) fn seccomp(&mut self, moment: Moment, kept: u64, hold: u64) {
        let unit = self.unit;
        let seccomp = &unit.security.seccomp;
        let filter = match &seccomp.kind {
            Kind::Off => return,
            Kind::Preset(preset) => Filter::preset(*preset, kept),
            Kind::Own(rules) => match self.own_filter(rules, seccomp.span, kept) {
                Some(filter) => filter,
                None => return,
            },
        };
        if let Filter::Own(_) = filter {
            self.check_filter(&filter.policy(), moment, seccomp.span);
        }
        let hold = (moment == Moment::Privileged).then_some(hold | names::CAP_SYS_ADMIN);
        self.push(Step::LoadSeccomp { filter, hold }, origin(seccomp.span, "security.seccomp"));
    }

    fn own_filter(&mut self, rules: &Rules, span: Option<Span>, kept: u64) -> Option<Filter> {
        let mut policy = match (&rules.profile, &rules.default_action) {
            (Some(path), _) => self.profile(path, kept)?,
            (None, Some(action)) => Policy::new(Arch::NATIVE, action.value),
            (None, None) => {
                let mut policy = Policy::new(Arch::NATIVE, Action::Errno(EPERM));
                policy.allow_default(kept);
                policy
            }
        };
        let lists = [
            (&rules.allow, Action::Allow),
            (&rules.log, Action::Log),
            (&rules.deny, Action::Errno(EPERM)),
            (&rules.kill, Action::KillProcess),
        ];
        // A name outweighs a set, and what is stricter outweighs the rest.
        for (list, action) in lists {
            for called in list {
                match called.value {
                    Called::Set("@default") if action == Action::Allow => {
                        policy.allow_default(kept);
                    }
                    Called::Set(set) => {
                        sets::members(set).iter().for_each(|name| policy.set(name, action));
                    }
                    Called::Name(_) => {}
                }
            }
        }
        for (list, action) in lists {
            for called in list {
                if let Called::Name(name) = called.value {
                    policy.set(name, action);
                }
            }
        }
        match Filter::new(policy) {
            Ok(filter) => Some(filter),
            Err(length) => {
                self.find(
                    Diagnostic::error(
                        "E0103",
                        format!("the filter has {length} instructions; the kernel takes {MAX_INSTRUCTIONS}"),
                    )
                    .at_maybe(rules.profile.as_ref().map_or(span, |path| path.span), "too many rules"),
                );
                None
            }
        }
    }

    fn profile(
        &mut self,
        path: &Setting<crate::unit::value::HostPath>,
        capabilities: u64,
    ) -> Option<Policy> {
        let file = self.resolve(&path.value);
        let text = match self.host.read(&file, MAX_PROFILE + 1) {
            Ok(text) if text.len() > MAX_PROFILE => {
                self.find(
                    Diagnostic::error(
                        "E0301",
                        format!("`{}` is too large for a profile", file.display()),
                    )
                    .at_maybe(path.span, format!("more than {MAX_PROFILE} bytes")),
                );
                return None;
            }
            Ok(text) => text,
            Err(error) => {
                self.find(
                    Diagnostic::error("E0301", format!("`{}` cannot be read", file.display()))
                        .at_maybe(path.span, crate::unit::io_reason(&error)),
                );
                return None;
            }
        };
        // Where it is hidden, the oldest that jailrun runs on.
        let kernel = kernel_version(self.host).unwrap_or((5, 12));
        let to = For { arch: Arch::NATIVE, capabilities, kernel };
        match profile::read(&text, &to) {
            Ok(policy) => Some(policy),
            Err(problem) => {
                let place = match problem.line {
                    0 => file.display().to_string(),
                    line => format!("{}:{line}:{}", file.display(), problem.column),
                };
                self.find(
                    Diagnostic::error(
                        "E0103",
                        format!("`{place}` is no profile: {}", problem.reason),
                    )
                    .at_maybe(path.span, "named here"),
                );
                None
            }
        }
    }

    /// Whether the launch gets to the command, and the command to its `main`.
    fn check_filter(&mut self, policy: &Policy, moment: Moment, span: Option<Span>) {
        let refused = |names: &[&'static str]| -> Vec<String> {
            names
                .iter()
                .filter(|name| {
                    let number =
                        crate::seccomp::table::find(name).and_then(|row| row.number(policy.arch));
                    number
                        .is_some_and(|number| !policy.decision(number.into()).strictest().passes())
                })
                .map(|name| format!("`{name}`"))
                .collect()
        };
        let needed: &[&str] = match moment {
            Moment::Last => &AT_THE_END,
            Moment::Privileged => BEFORE_CAPABILITIES,
        };
        let stopped = refused(needed);
        if !stopped.is_empty() {
            let diagnostic = Diagnostic::error("E0316", "the filter would stop the launch itself")
                .at_maybe(span, format!("refuses {}", stopped.join(", ")));
            self.find(match moment {
                Moment::Last => diagnostic
                    .note("the command is started, and a failure reported, under the filter")
                    .help("take them out of `deny` and `kill`; what the default refuses, `allow` takes"),
                Moment::Privileged => diagnostic.help(
                    "take them out of `deny` and `kill`; what the default refuses, `allow` takes; or leave out `no-new-privileges = false`: without it the filter is loaded before the last steps",
                ),
            });
            return;
        }
        let stopped = refused(&BEFORE_MAIN);
        if !stopped.is_empty() {
            self.find(
                Diagnostic::warning(
                    "W0009",
                    "few programs get as far as their `main` under the filter",
                )
                .at_maybe(span, format!("refuses {}", stopped.join(", "))),
            );
        }
    }
}
