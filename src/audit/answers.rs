//! What people ask about a jail, answered in sentences.

use super::facts::{Content, Facts, Place};
use super::findings::{self, Finding};
use crate::host::{Host, Kind};
use crate::names;
use crate::plan::step::Namespace;

/// Yes, no, or something between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can.
    Yes,
    /// It can in part, or with one more step.
    Partly,
    /// It cannot.
    No,
}

impl Verdict {
    /// The word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::Partly => "in part",
            Self::No => "no",
        }
    }
}

/// A question with its answer.
#[derive(Debug)]
pub struct Answer {
    /// The question.
    pub question: &'static str,
    /// The answer in one word.
    pub verdict: Verdict,
    /// And why; continues it.
    pub because: String,
}

use Verdict::{No, Partly, Yes};

/// NET_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_PACCT, SYS_ADMIN, SYS_BOOT, SYS_TIME,
/// SYS_TTY_CONFIG, MKNOD, MAC_ADMIN, SYSLOG, BPF.
const ABOUT_THE_KERNEL: u64 = 1 << 12
    | 1 << 16
    | 1 << 17
    | 1 << 20
    | 1 << 21
    | 1 << 22
    | 1 << 25
    | 1 << 26
    | 1 << 27
    | 1 << 33
    | 1 << 34
    | 1 << 39;

/// From here on, an opening alone is as good as the host's root.
const ENOUGH: f64 = 0.5;

/// Every question, answered.
pub fn answers(facts: &Facts, found: &[Finding], host: &impl Host) -> Vec<Answer> {
    let answer =
        |question, (verdict, because): (Verdict, String)| Answer { question, verdict, because };
    vec![
        answer("read your home", home(facts, host)),
        answer("reach the network", network(facts)),
        answer("become root on the host", root_outside(facts, found)),
        answer("become root inside", root_inside(facts)),
        answer("use up the memory", limit(facts.limits.memory, "memory", "limits.memory")),
        answer("use up the processes", limit(facts.limits.processes, "processes", "limits.pids")),
        answer("use up the disk", disk(facts)),
        answer("see other processes", processes(facts)),
        answer("write to the host", writes(facts, host)),
        answer("change devices or kernel settings", kernel(facts, found)),
        answer("keep running after you leave", stays(facts)),
    ]
}

fn home(facts: &Facts, host: &impl Host) -> (Verdict, String) {
    let Some(home) = findings::home(host) else {
        return (No, "HOME names no directory".to_owned());
    };
    if let Some((at, _)) = findings::reads_home(facts, host) {
        return (Yes, format!("it is at {}", at.display()));
    }
    if let Some((at, _)) = facts.seen(&home) {
        if !facts.leaves(&at, super::facts::READ_FILE) {
            return (No, "Landlock keeps it out".to_owned());
        }
        let uid = facts.outside();
        return (No, format!("its permissions keep uid {uid} out"));
    }
    let part = facts.places.iter().find_map(|place| match &place.content {
        Content::Host { source, .. } if source.starts_with(&home) => {
            facts.seen(source).map(|_| source)
        }
        _ => None,
    });
    match part {
        Some(part) => (Partly, format!("{} is bound", part.display())),
        None => (No, "nothing of it is in the jail's tree".to_owned()),
    }
}

fn network(facts: &Facts) -> (Verdict, String) {
    let joined = facts.joined.iter().any(|(namespace, _)| *namespace == Namespace::Net);
    match facts.has(Namespace::Net) {
        true => (No, "it has a network of its own with nothing but loopback".to_owned()),
        false if joined => (Yes, "it is in the network namespace of others".to_owned()),
        false => (Yes, "it is in the host's network".to_owned()),
    }
}

fn root_outside(facts: &Facts, found: &[Finding]) -> (Verdict, String) {
    let enough = found.iter().find(|finding| finding.weight.chance >= ENOUGH);
    if let Some(finding) = enough {
        return (Yes, format!("it {}", finding.what));
    }
    match facts.outside() {
        0 if facts.ids.0 != 0 => {
            (Partly, "CAP_SETUID makes it uid 0 of the host, kept in by its walls alone".to_owned())
        }
        0 => {
            (Partly, "it already runs as uid 0 of the host, kept in by its walls alone".to_owned())
        }
        uid if !facts.no_new_privileges => {
            (Partly, format!("it runs as uid {uid}, and set-user-id programs count"))
        }
        uid => (No, format!("outside it is uid {uid}, and no execve changes that")),
    }
}

fn root_inside(facts: &Facts) -> (Verdict, String) {
    let (uid, ..) = facts.ids;
    let may_set = facts.has_effective(names::CAP_SETUID);
    match uid {
        0 if facts.bounding == 0 => {
            (Yes, "it is uid 0 from the start, without any capability".to_owned())
        }
        0 => {
            let count = facts.bounding.count_ones();
            let word = if count == 1 { "capability" } else { "capabilities" };
            (Yes, format!("it is uid 0 from the start, with {count} {word}"))
        }
        uid if !facts.no_new_privileges => {
            (Partly, format!("it is uid {uid}, and set-user-id programs count"))
        }
        uid if may_set && facts.permitted & (1 << 7) != 0 => {
            (Yes, format!("it is uid {uid} with CAP_SETUID"))
        }
        uid => (No, format!("it stays uid {uid}")),
    }
}

fn limit(is_limited: bool, what: &str, key: &str) -> (Verdict, String) {
    match is_limited {
        true => (No, format!("{key} bounds it")),
        false => (Yes, format!("nothing bounds its {what}")),
    }
}

fn disk(facts: &Facts) -> (Verdict, String) {
    match &findings::writable(facts)[..] {
        [] if facts.output.is_empty() => {
            (No, "it writes to memory alone, in file systems of fixed sizes".to_owned())
        }
        [] => (Yes, "its output goes to a file of the host".to_owned()),
        [(path, _), ..] => (Yes, format!("it writes to {} without a quota", path.display())),
    }
}

fn processes(facts: &Facts) -> (Verdict, String) {
    let joined = facts.joined.iter().any(|(namespace, _)| *namespace == Namespace::Pid);
    let shown = facts.inner.iter().find(|inner| inner.is_proc);
    match (facts.has(Namespace::Pid), shown) {
        (true, Some(inner)) => (
            Yes,
            format!(
                "it has process ids of its own, but {} tells of the host's",
                inner.at.display()
            ),
        ),
        (true, None) => (No, "it has process ids of its own".to_owned()),
        (false, _) if joined => (Partly, "those of the pid namespace that it joins".to_owned()),
        (false, _) => (Yes, "it has the host's process ids".to_owned()),
    }
}

fn writes(facts: &Facts, host: &impl Host) -> (Verdict, String) {
    let mut paths: Vec<String> = findings::writable(facts)
        .iter()
        .map(|(path, _)| path.display().to_string())
        .chain(facts.output.iter().map(|(path, _)| path.display().to_string()))
        .collect();
    paths.dedup();
    // A flag holds for the mounts that are there.
    let is_directory = |place: &Place| match &place.content {
        Content::Host { source, .. } => matches!(host.look(source), Ok(Kind::Directory)),
        _ => false,
    };
    let later: Vec<_> = facts
        .places
        .iter()
        .filter(|place| place.follows && place.flags.read_only && is_directory(place))
        .filter(|place| facts.holder(&place.target).is_some_and(|top| std::ptr::eq(top, *place)))
        .map(|place| place.target.display().to_string())
        .collect();
    if !later.is_empty() {
        let later = findings::some_of(&later);
        paths.push(format!("what the host mounts below {later} while it runs"));
    }
    match &paths[..] {
        [] => (No, "what it changes is gone with it".to_owned()),
        [path] if path == "/" => (Yes, "everywhere".to_owned()),
        paths => (Partly, format!("to {}", paths.join(", "))),
    }
}

fn kernel(facts: &Facts, found: &[Finding]) -> (Verdict, String) {
    use super::weights::{DEVICES, KERNEL_CAPABILITY, KERNEL_SETTINGS, KERNEL_TREE};
    let by =
        [&super::weights::EVERY_CAPABILITY, &KERNEL_CAPABILITY, &KERNEL_SETTINGS, &KERNEL_TREE];
    let way =
        found.iter().find(|finding| by.contains(&finding.weight) || *finding.weight == DEVICES);
    if let Some(finding) = way {
        return (Yes, format!("it {}", finding.what));
    }
    match facts.host_capabilities() {
        0 => (
            No,
            "it has no capability over the host, and /proc/sys is read-only or absent".to_owned(),
        ),
        set => {
            let about = names::CAPABILITIES
                .iter()
                .enumerate()
                .find(|(number, _)| ABOUT_THE_KERNEL & set & (1 << number) != 0)
                .map(|(_, name)| *name);
            match about {
                Some(name) => (Partly, format!("as far as {name} goes")),
                None => (No, "its capabilities are not about them".to_owned()),
            }
        }
    }
}

fn stays(facts: &Facts) -> (Verdict, String) {
    let limit = match facts.timeout {
        Some(timeout) => {
            format!("after {} it is ended in any case", humantime::format_duration(timeout))
        }
        None => "no time limit ends it before".to_owned(),
    };
    match facts.has(Namespace::Pid) {
        true if facts.init => (No, format!("it ends with jailrun, whatever ends that; {limit}")),
        true => (
            Partly,
            format!(
                "its first process is the command, which can ask not to end with a jailrun that is killed; {limit}"
            ),
        ),
        false => (
            Partly,
            format!(
                "without a pid namespace of its own, what it leaves running when jailrun is killed waits for the next launch or `jailrun gc`; {limit}"
            ),
        ),
    }
}
