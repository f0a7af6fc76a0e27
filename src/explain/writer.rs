//! The stages of a script, and what each step adds to them.

use std::fmt::Write as _;

use super::fragment::Fragment::{
    Call, Later, Lock, LockDirectory, Loop, Prefix, Run, Setpriv, Stop,
};
use super::fragment::{EACH_MOUNT, PIVOT, REMOVE_GROUP, WAIT_FOR_MAPS, fail, fragment, undo};
use super::questions::{forks, has_proc, timeout};
use super::shell::{quote, quote_path};
use crate::plan::Plan;
use crate::plan::describe::tree_text;
use crate::plan::step::{HostTree, MapWriter, Planned, Spot, Step, TreeSource};

struct Stage {
    /// Descriptor that holds it; the first is the script itself.
    fd: Option<i32>,
    lines: String,
}

pub(super) struct Writer<'a> {
    plan: &'a Plan,
    stages: Vec<Stage>,
    free_fds: Vec<i32>,
    /// Descriptors that hold locks, devices and files.
    locks: Vec<i32>,
    /// Files that are locked, with their descriptors.
    lock_of: Vec<(String, i32)>,
    in_subshell: bool,
    /// Descriptor of /proc/self/oom_score_adj, where it is opened beforehand.
    oom_score_adj: Option<i32>,
    /// How many loop devices there are so far.
    loops: usize,
    /// Those that a descriptor keeps.
    held: Vec<usize>,
    /// Whether words have been collected in `$@` of this stage.
    has_prefix: bool,
    after_setpriv: bool,
    /// Options for the next setpriv(1).
    later: Vec<String>,
    pivoted: bool,
    /// Whether the stage's shell is another user than the one that has opened
    /// the script.
    is_other_user: bool,
    tools_in_root: Vec<String>,
    /// Whether it ends before the jail is up.
    stops: bool,
}

/// For the header.
const STOPS: &str = "# No command does all of what this jail needs: the script ends with 125 where it\n# says so, and puts up nothing.\n";

/// Commands that every shell has built in.
const BUILTIN: [&str; 7] = ["cd", "umask", "echo", "printf", ":", "set", "exec"];

impl<'a> Writer<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let keep = plan.steps.iter().find_map(|planned| match &planned.step {
            Step::CloseFds { keep } => Some(keep.clone()),
            _ => None,
        });
        let keep = keep.unwrap_or_default();
        // The plainest of shells know descriptors of one digit only.
        let free_fds = (3..10).filter(|fd| !keep.contains(fd)).collect();
        Self {
            plan,
            stages: vec![Stage { fd: None, lines: String::new() }],
            free_fds,
            locks: Vec::new(),
            lock_of: Vec::new(),
            in_subshell: false,
            oom_score_adj: None,
            loops: 0,
            held: Vec::new(),
            has_prefix: false,
            after_setpriv: false,
            later: Vec::new(),
            pivoted: false,
            is_other_user: false,
            tools_in_root: Vec::new(),
            stops: false,
        }
    }

    fn line(&mut self, text: &str) {
        if let Some(stage) = self.stages.last_mut() {
            stage.lines.push_str(text);
            stage.lines.push('\n');
        }
    }

    fn comment(&mut self, text: &str) {
        // A name may hold a line break, which would end the comment.
        let text = text.replace(|c: char| c.is_control(), " ");
        let indented = format!("# {text}");
        self.line(&indented);
    }

    pub(super) fn step(&mut self, step: &Step, comment: &str) {
        let opens = matches!(step, Step::OpenStream { .. } | Step::Supervise { .. });
        if opens && !self.in_subshell {
            self.in_subshell = true;
            if let Some(timeout) = timeout(self.plan) {
                let nanoseconds = timeout.as_nanos().min(u128::from(u64::MAX / 4));
                self.line(&format!("deadline=$(($(date +%s%N) + {nanoseconds}))"));
            }
            self.line("(");
            self.line("set --");
        }
        let last = matches!(step, Step::Exec { .. });
        let fragment = match (step, self.oom_score_adj) {
            (Step::SetOomScoreAdjust { score }, Some(fd)) => {
                Run(vec![format!("echo {score} >&{fd}")])
            }
            _ => fragment(step, self.plan),
        };
        // Words that were collected take effect before the lines that follow.
        if matches!(fragment, Run(_)) && self.has_prefix && !opens {
            self.next_stage();
        }
        self.comment(comment);
        self.remarks(step);
        if matches!(step, Step::Pivot { .. } | Step::Chroot { .. }) {
            self.keep_oom_score_adj();
        }
        let is_setpriv = matches!(fragment, Setpriv(_));
        match fragment {
            Call(call) => self.comment(&format!("   no command does this: {call}")),
            Stop(call) => self.stop(&call),
            Lock(path, text, busy) => {
                let fd = self.free_fds.pop().unwrap_or(3);
                self.locks.push(fd);
                // The last jail to end removes an empty directory; a file in it stops that.
                self.line(&format!(
                    "until true >>{path}; do mkdir -p -m 700 \"$(dirname {path})\"; done 2>/dev/null"
                ));
                self.line(&format!("exec {fd}>>{path}"));
                self.line(&format!("flock -n {fd} || {}", fail(&busy)));
                self.line(&format!("printf %s {} >{path}", quote(&text)));
                self.lock_of.push((path, fd));
                if let Step::Journal { .. } = step {
                    // Not before: the name could be another jail's.
                    self.line("trap take_back EXIT");
                }
            }
            LockDirectory(path, how, busy) => {
                let fd = self.free_fds.pop().unwrap_or(3);
                self.locks.push(fd);
                self.line(&format!("exec {fd}<{path}"));
                self.line(&format!("flock -n {how} {fd} || {}", fail(&busy)));
            }
            Loop(command) => {
                let number = self.loops;
                self.loops += 1;
                self.line(&format!("loop{number}=$({command})"));
                self.line(&format!("export loop{number}"));
                // The stages need the last descriptors.
                if self.free_fds.len() > 3
                    && let Some(fd) = self.free_fds.pop()
                {
                    // Then the device is gone with the last who has it open: the
                    // script's shells, and later the mount.
                    self.locks.push(fd);
                    self.line(&format!("exec {fd}<\"$loop{number}\""));
                    self.line(&format!("losetup --detach \"$loop{number}\""));
                    self.held.push(number);
                }
            }
            Run(lines) => {
                for line in &lines {
                    self.tool(line);
                    self.line(line);
                    // What follows runs in the new root.
                    self.pivoted |= line == PIVOT;
                }
                if let Step::MountLoop { number, .. } = step
                    && !self.held.contains(number)
                {
                    self.line(&format!("losetup --detach \"$loop{number}\""));
                }
            }
            Prefix(words) if last => {
                self.tool(&words[0]);
                let close = self.close_fds();
                self.line(&format!("exec \"$@\" {}{close}", words.join(" ")));
            }
            Prefix(words) => self.prefix(&words),
            Later(words) => {
                self.comment("   by the setpriv below");
                self.later.extend(words);
            }
            Setpriv(words) if self.after_setpriv => self.prefix(&words),
            Setpriv(words) => {
                let mut all = vec!["setpriv".to_owned()];
                all.append(&mut self.later);
                all.extend(words);
                let words = all;
                self.prefix(&words);
            }
        }
        if !matches!(step, Step::CloseFds { .. } | Step::LoadSeccomp { .. }) {
            self.after_setpriv = is_setpriv;
        }
        if let Step::Enter { map, .. } = step {
            self.next_stage();
            if map.as_ref().is_some_and(|map| map.writer != MapWriter::Jail) {
                self.line(WAIT_FOR_MAPS);
            }
        }
        if matches!(step, Step::BecomeRoot) {
            self.is_other_user = true;
        }
        if matches!(step, Step::Chroot { .. }) {
            self.pivoted = true;
        }
    }

    /// Opens a file of /proc that is written later, where the root has none.
    fn keep_oom_score_adj(&mut self) {
        let is_set = |planned: &Planned| matches!(planned.step, Step::SetOomScoreAdjust { .. });
        if !has_proc(self.plan) && self.plan.steps.iter().any(is_set) {
            let Some(fd) = self.free_fds.pop() else {
                self.stop("a write to /proc/self/oom_score_adj, for which no descriptor is left");
                return;
            };
            self.locks.push(fd);
            self.line(&format!("exec {fd}>/proc/self/oom_score_adj"));
            self.oom_score_adj = Some(fd);
        }
    }

    /// What is to be said about a step before its lines.
    fn remarks(&mut self, step: &Step) {
        match step {
            // util-linux 2.38: a parent that waits for its child ignores the others.
            Step::Supervise { timeout: Some(_), .. } if forks(self.plan) => {
                self.comment("   unshare gets the signal, and takes none but SIGKILL: the command has no warning");
            }
            Step::Pivot { .. } if !has_proc(self.plan) => {
                self.comment("   the old root lies over the new one then: `/..` leads to it");
            }
            Step::Enter { trees, time, .. } => {
                if time.is_some_and(|time| {
                    [time.monotonic, time.boottime].iter().any(|offset| offset % 1_000_000_000 != 0)
                }) {
                    self.comment(
                        "   unshare takes whole seconds only: the clocks are up to one behind",
                    );
                }
                self.trees(trees);
            }
            _ => {}
        }
    }

    /// What is opened for the jail from outside, which the script does later
    /// and inside, as far as it can.
    fn trees(&mut self, trees: &[HostTree]) {
        let mut reason = None;
        for tree in trees {
            let text = tree_text(&HostTree { mapped: false, ..tree.clone() });
            let call = match &tree.source {
                _ if tree.mapped => "mount_setattr(MOUNT_ATTR_IDMAP)",
                TreeSource::Loop { .. } => "fsmount(2) for another user namespace",
                TreeSource::Path(_) => continue,
            };
            self.comment(&format!("   no command of util-linux 2.38 does this: {call} of {text}"));
            reason = reason.or(Some(call));
        }
        match reason {
            Some(call) => {
                self.stops = true;
                self.line(&fail(&format!("no command of util-linux 2.38 does this: {call}")));
            }
            None if !trees.is_empty() => {
                self.comment("   jailrun opens them here; the script does it below, as the jail's root, which may get to less");
            }
            None => {}
        }
    }

    /// A call that no command makes, and without which nothing may run.
    fn stop(&mut self, call: &str) {
        self.stops = true;
        self.comment(&format!("   no command does this: {call}"));
        self.line(&fail(&format!("no command does this: {call}")));
    }

    fn prefix(&mut self, words: &[String]) {
        if !words[0].starts_with('-') {
            self.tool(&words[0]);
        }
        self.has_prefix = true;
        self.line(&format!("set -- \"$@\" {}", words.join(" ")));
    }

    fn tool(&mut self, line: &str) {
        let command = line.split_once("=$(").map_or(line, |(_, command)| command);
        let word = command.split_whitespace().next().unwrap_or("");
        let is_command = word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if self.pivoted
            && is_command
            && !BUILTIN.contains(&word)
            && !self.tools_in_root.iter().any(|tool| tool == word)
        {
            self.tools_in_root.push(word.to_owned());
        }
    }

    /// Descriptors that the script has opened, closed.
    fn close_fds(&self) -> String {
        let opened =
            self.stages.iter().filter_map(|stage| stage.fd).chain(self.locks.iter().copied());
        opened.map(|fd| format!(" {fd}<&-")).collect()
    }

    fn next_stage(&mut self) {
        let fd = self.free_fds.pop();
        let number = fd.map_or("3".to_owned(), |fd| fd.to_string());
        if self.pivoted || self.is_other_user {
            // A root entered by chroot need not have a /dev/fd, and what lies
            // there is the user's who has opened it.
            if self.pivoted {
                self.tools_in_root.push("sh".to_owned());
            }
            self.line(&format!("exec \"$@\" sh -euc \"$(cat <&{number})\""));
        } else {
            self.line(&format!("exec \"$@\" sh -eu /dev/fd/{number}"));
        }
        self.stages.push(Stage { fd, lines: String::from("set --\n") });
        self.has_prefix = false;
        self.after_setpriv = false;
    }

    pub(super) fn finish(self) -> String {
        let mut out = self.header();
        let mut stages = self.stages.into_iter();
        let host = stages.next().map(|stage| stage.lines).unwrap_or_default();
        out.push_str(&host);
        let rest: Vec<Stage> = stages.collect();
        out.push(')');
        for (index, stage) in rest.iter().enumerate() {
            let fd = stage.fd.unwrap_or(3);
            write!(out, " {fd}<<'{}'", stage_name(index, &stage.lines))
                .expect("writing to a String cannot fail");
        }
        out.push('\n');
        for (index, stage) in rest.iter().enumerate() {
            if stage.lines.contains("each_mount ") {
                out.push_str(EACH_MOUNT);
            }
            out.push_str(&stage.lines);
            out.push_str(&stage_name(index, &stage.lines));
            out.push('\n');
        }
        out
    }

    fn header(&self) -> String {
        let caller = self.plan.steps.iter().find_map(|planned| match &planned.step {
            Step::Enter { map, .. } => map.as_ref(),
            _ => None,
        });
        let caller = match caller.map(|map| (map.writer, map.uid_outside(0))) {
            Some((MapWriter::Jail, Some(uid))) if uid != 0 => format!("the user with uid {uid}"),
            Some((MapWriter::Helpers, _)) => "the user whose ids these are, uidmap".to_owned(),
            _ => "root".to_owned(),
        };
        let at = self.plan.steps.iter().find_map(|planned| match &planned.step {
            Step::AttachRoot { at, .. }
            | Step::MountRoot { at, .. }
            | Step::MountLoop { on: Spot::Root(at), .. }
            | Step::MountOverlay { on: Spot::Root(at), .. } => Some(at.clone()),
            _ => None,
        });
        let tools = match &self.tools_in_root[..] {
            [] => "nothing".to_owned(),
            tools => tools.join(" "),
        };
        let mut out = format!(
            "#!/bin/sh\n\
             # What `jailrun up` does for the jail {name}, as a script.\n\
             # Needs: {caller}, util-linux 2.38 or later, iproute2, hostname and coreutils;\n\
             # in the jail's root, for what follows the pivot: {tools}.\n\
             # Unlike jailrun it follows links that a hostile root may hold, passes no signal\n\
             # on, and does not end the jail when it is ended itself: killing its unshare\n\
             # does, and `jailrun gc` takes back what is left. Piped into sh, standard input\n\
             # is the script: save it to a file where the command reads.\n\
             {stops}set -eu\n\
             umask 022\n",
            stops = if self.stops { STOPS } else { "" },
            name = self.plan.name,
        );
        if let Some(at) = at {
            writeln!(out, "export root={}", quote_path(&at))
                .expect("writing to a String cannot fail");
        }
        let undos: Vec<String> = self
            .plan
            .steps
            .iter()
            .rev()
            .filter_map(|planned| undo(&planned.step.undo()?, &self.lock_of))
            .collect();
        let groups = undos.iter().any(|command| command.starts_with("remove_group"));
        if groups {
            out.push_str(REMOVE_GROUP);
        }
        let timeout = timeout(self.plan).is_some();
        if !undos.is_empty() || timeout {
            let mut body = String::new();
            if timeout {
                body.push_str("  status=$?\n");
            }
            for command in &undos {
                writeln!(body, "  {command} 2>/dev/null || :")
                    .expect("writing to a String cannot fail");
            }
            if timeout {
                // timeout(1) says 124 only for what it has not had to kill.
                body.push_str("  if [ $status = 137 ] && [ \"$(date +%s%N)\" -ge $deadline ]; then exit 124; fi\n");
            }
            write!(out, "take_back() {{\n{body}}}\n").expect("writing to a String cannot fail");
        }
        out.push('\n');
        out
    }
}

/// The word that ends a stage; none of its lines may be that word.
fn stage_name(index: usize, lines: &str) -> String {
    let mut name = match index {
        0 => "IN_NAMESPACES".to_owned(),
        1 => "IN_JAIL".to_owned(),
        index => format!("STAGE_{}", index + 1),
    };
    while lines.lines().any(|line| line == name) {
        name.push('_');
    }
    name
}
