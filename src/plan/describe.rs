//! What a step does, in a few words, computed from its fields. Used wherever a
//! step is spoken of: `--dry-run`, comments of `--explain`, failures.

use std::borrow::Cow;

use super::step::{
    ExpectedMount, HostTree, IdMaps, IdRange, MapWriter, MountFlags, Namespace, NodeKind, OpenMode,
    Origin, Owners, Propagation, Spot, Step, TreeSource,
};
use crate::names;
use crate::source::{Sources, on_one_line};

/// Who asked for a step, or why it is always there.
pub fn asked_by(origin: Origin, sources: &Sources) -> String {
    match origin {
        Origin::Key(span) => sources.place(span),
        Origin::Default(key) => format!("default of {key}"),
        Origin::Image(key) => format!("{key} of the image"),
        Origin::Arguments => "the arguments behind `--`".to_owned(),
        Origin::Always(reason) => reason.to_owned(),
    }
}

/// A short sentence without a final stop, on one line whatever paths and
/// arguments hold: an image's are its author's.
pub fn describe(step: &Step) -> String {
    let text = sentence(step);
    match on_one_line(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    }
}

fn sentence(step: &Step) -> String {
    match step {
        Step::MakeStateDirectory { path } => format!("make the state directory {}", path.display()),
        Step::Journal { path } => format!("take the name and write the journal {}", path.display()),
        Step::MakeHostNode { root, path, kind } => {
            format!("make the {} {}", kind_word(*kind), root.join(path).display())
        }
        Step::MakeHostLink { root, path, to } => {
            format!("make the link {} to {to}", root.join(path).display())
        }
        Step::CreateCgroup { directory } => {
            format!("make the control group {}", directory.display())
        }
        Step::EnableControllers { directory, controllers } => {
            format!(
                "hand the controllers {} out below {}",
                controllers.join(" "),
                directory.display()
            )
        }
        Step::MoveSupervisor { directory } => {
            format!("move jailrun itself into a group of its own, {}", directory.display())
        }
        Step::SetLimit { file, value, .. } => format!("write {value} to {}", file.display()),
        Step::LimitDevices { directory, is_v2, rules } => {
            let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
            let how = if *is_v2 { ", by a program," } else { "" };
            format!(
                "refuse the processes of {}{how} every device but {}",
                directory.display(),
                rules.join(", ")
            )
        }
        Step::KillOnOom { directory } => {
            format!("end the whole jail when {} runs out of memory", directory.display())
        }
        Step::OpenStream { fd, path, mode } => {
            let verb = match mode {
                OpenMode::Read => "read",
                OpenMode::Truncate => "write",
                OpenMode::Append => "append to",
            };
            format!("{verb} {} as {}", path.display(), stream_word(*fd))
        }
        Step::Supervise { timeout, stop_signal, stop_grace } => {
            let grace = humantime::format_duration(*stop_grace);
            let stop = format!("{} and, {grace} later, SIGKILL", names::signal(*stop_signal));
            match timeout {
                Some(timeout) => {
                    format!("end it after {} with {stop}", humantime::format_duration(*timeout))
                }
                None => format!("let it run; what is told to stop gets {stop}"),
            }
        }
        Step::JoinPidNamespace { path } => {
            format!("put its first process into the pid namespace {}", path.display())
        }
        Step::ClaimIds { path, .. } => {
            format!("take the lock {} on the jail's range of ids", path.display())
        }
        Step::ShiftOwners { root, uid, .. } => {
            let outside = uid.first().map_or(0, |range| range.outside);
            format!(
                "give {} and all in it to the jail's users on disk, root being {outside}; once",
                root.display()
            )
        }
        Step::BecomeRoot => "become the jail's own root, without further groups".to_owned(),
        Step::AttachTree { tree, on, flags } => {
            format!("attach the opened tree {} to {}{}", tree + 1, spot_text(on), flag_text(*flags))
        }
        Step::ClearGroups => "give up the caller's further groups".to_owned(),
        Step::Enter { namespaces, map, trees, cgroup, time } => {
            let words: Vec<_> = namespaces.iter().map(|namespace| namespace.option()).collect();
            let mut text =
                format!("clone its first process into new namespaces: {}", words.join(" "));
            if let Some(map) = map {
                text.push_str(&format!("; {}", map_text(map)));
            }
            for (index, tree) in trees.iter().enumerate() {
                text.push_str(&format!("; tree {}: {}", index + 1, tree_text(tree)));
            }
            if let Some(cgroup) = cgroup {
                text.push_str(&format!("; in the control group {}", cgroup.display()));
            }
            if let Some(time) = time {
                let seconds = |nanoseconds: i128| nanoseconds as f64 / 1e9;
                text.push_str(&format!(
                    "; clocks ahead by {} s (monotonic) and {} s (boot time)",
                    seconds(time.monotonic),
                    seconds(time.boottime)
                ));
            }
            text
        }
        Step::JoinCgroup { directory } => format!("join the control group {}", directory.display()),
        Step::NewSession => "start a session without a terminal".to_owned(),
        Step::NewKeyring => "start an empty session keyring".to_owned(),
        Step::ForbidTracing => "let nobody trace it or read its memory".to_owned(),
        Step::JoinNamespace { namespace, path } => {
            format!("join the {} namespace {}", namespace.file(), path.display())
        }
        Step::FindJail { name, pid, .. } => {
            format!("find the jail {name}, whose first process is {pid}")
        }
        Step::JoinJail { namespace, name, .. } => {
            format!("join the {} namespace of the jail {name}", namespace.file())
        }
        Step::NewCgroupNamespace => {
            "make its control groups the root of what it sees of them".to_owned()
        }
        Step::PrivateMounts { propagation } => {
            format!("make every mount {}", propagation_word(*propagation))
        }
        Step::SetHostname { name } => format!("set the host name to {name}"),
        Step::SetDomainname { name } => format!("set the domain name to {name}"),
        Step::LoopbackUp => "bring the loopback interface up".to_owned(),
        Step::SetSysctl { path, value } => format!("set the sysctl {path} to {value}"),
        Step::MountStage { at, options } => {
            let size = options.iter().find(|option| option.key == "size");
            let size = size.and_then(|option| option.value.as_deref());
            let of = size.map_or(String::new(), |size| format!(" of {size}"));
            let why = if size.is_some() { " and take changes" } else { "" };
            format!("mount memory{of} over {} to prepare files in{why}", at.display())
        }
        Step::ImportImage { source } => {
            format!("verify {source} and unpack it into the store, for this launch and later ones")
        }
        Step::HoldImage { key, store } => {
            format!("keep the image {} in {} while it is used", key.digest(), store.display())
        }
        Step::AttachLoop { file, offset, .. } => {
            let at = if *offset == 0 { String::new() } else { format!(" from byte {offset} on") };
            format!("make a read-only loop device of {}{at}", file.display())
        }
        Step::MountLoop { number, filesystem, on, flags } => format!(
            "mount the {} of loop device {} on {}{}",
            filesystem.name(),
            number + 1,
            spot_text(on),
            flag_text(*flags)
        ),
        Step::LockDirectory { path } => {
            format!("keep {} for this jail alone", path.display())
        }
        Step::MountMemory { at, options } => {
            let size = options.iter().find(|option| option.key == "size");
            let size = size.and_then(|option| option.value.as_deref()).unwrap_or("any size");
            format!("mount memory of {size} on {} to take changes", at.display())
        }
        Step::MakeStageNode { path, kind, mode, .. } => {
            format!("make the {} {}, mode {mode:o}", kind_word(*kind), path.display())
        }
        Step::CopyTree { source, owners, .. } => {
            let owners = match owners {
                Owners::Keep => "",
                Owners::Caller => ", as the caller's own",
            };
            format!("copy the content of {} into the root{owners}", source.display())
        }
        Step::UnpackTree { source, owners, .. } => {
            let owners = match owners {
                Owners::Keep => "",
                Owners::Caller => ", as the caller's own",
            };
            format!("unpack {} into the root{owners}", source.display())
        }
        Step::LinkLayer { path, to } => {
            format!("give {} the short name {}", to.display(), path.display())
        }
        Step::MountOverlay { on, overlay, flags } => {
            let lower: Vec<_> =
                overlay.lower.iter().map(|path| path.display().to_string()).collect();
            let (upper, work) = match &overlay.upper {
                Some((upper, work)) => (
                    format!("{} over ", upper.display()),
                    format!("; the kernel's scratch directory is {}", work.display()),
                ),
                None => (String::new(), String::new()),
            };
            let on = spot_text(on);
            format!("lay {upper}{} on {on}{}{work}", lower.join(" over "), flag_text(*flags))
        }
        Step::WriteContent { path, text } => {
            format!("write {} bytes to {}", text.len(), path.display())
        }
        Step::AttachRoot { source, at, flags, .. } => {
            format!(
                "bind {} to {} as the root{}",
                source.display(),
                at.display(),
                flag_text(*flags)
            )
        }
        Step::MountRoot { at, options, flags } => {
            let size = options
                .iter()
                .find(|option| option.key == "size")
                .and_then(|option| option.value.clone());
            let size = size.map_or(String::new(), |size| format!(" of {size} bytes"));
            format!("mount memory{size} on {} as the root{}", at.display(), flag_text(*flags))
        }
        Step::MakeNode { path, kind } => {
            format!("make the {} {}", kind_word(*kind), path.display())
        }
        Step::MakeLink { path, to } => format!("make the link {} to {to}", path.display()),
        Step::Mount { fstype, target, flags, .. } => {
            format!("mount a new {fstype} on {}{}", target.display(), flag_text(*flags))
        }
        Step::Bind { source, target, recursive, flags, .. } => {
            let all = if *recursive { "" } else { ", without the mounts below it," };
            format!("bind {}{all} to {}{}", source.display(), target.display(), flag_text(*flags))
        }
        Step::BindDevices { names } => {
            format!("bind the host's devices {} into /dev", names.join(" "))
        }
        Step::BindDevice { source, target, number } => format!(
            "bind the device {} ({number}) to {}{}",
            source.display(),
            target.display(),
            flag_text(super::devices::NODE_FLAGS)
        ),
        Step::Mask { target, kind } => {
            let by = match kind {
                NodeKind::Directory => "an empty directory",
                NodeKind::File => "/dev/null",
            };
            format!("hide {} under {by}", target.display())
        }
        Step::ProtectPath { target } => format!("make {} read-only", target.display()),
        Step::SetPropagation { propagation } => {
            format!("make the root's mounts {}", propagation_word(*propagation))
        }
        Step::ProtectRoot => "make the root read-only".to_owned(),
        Step::Pivot { at } => format!("make {} the root and detach the old one", at.display()),
        Step::Chroot { at } => {
            format!("enter {} with chroot, the old root staying where it is", at.display())
        }
        Step::VerifyMounts { expected } => {
            format!("compare mountinfo with the {} planned mounts", expected.len())
        }
        Step::ResetSecurebits => "reset the caller's secure bits".to_owned(),
        Step::HideArguments => {
            "overwrite the arguments and the environment jailrun was started with".to_owned()
        }
        Step::Init { keep, clear_groups, filtered } => {
            let with = match *keep {
                0 => "without a capability".to_owned(),
                keep => format!("with {} alone", capability_text(keep)),
            };
            let groups = if *clear_groups { " and no further groups" } else { "" };
            let calls = if *filtered { " and no system calls but its own" } else { "" };
            format!(
                "stay as process 1, {with}{groups}{calls}, to reap and pass signals on; the command is its child"
            )
        }
        Step::Terminal => {
            "open a terminal of the jail's own as standard input, output and error".to_owned()
        }
        Step::UseStream { fd } => format!("put the opened file in place as {}", stream_word(*fd)),
        Step::SetUmask { mask } => format!("set the umask to {mask:03o}"),
        Step::SetNice { nice } => format!("set the nice value to {nice}"),
        Step::SetOomScoreAdjust { score } => format!("set the out-of-memory score to {score}"),
        Step::SetAffinity { cpus } => format!("start on the CPUs {cpus}"),
        Step::SetRlimit { index, soft, hard } => {
            let name = names::RLIMITS[*index].key;
            format!("limit {name} to {} (hard {})", limit_word(*soft), limit_word(*hard))
        }
        Step::LimitCapabilities { keep } => match *keep {
            0 => "give up every capability for good".to_owned(),
            keep => format!("give up every capability for good but {}", capability_text(keep)),
        },
        Step::SetIds { uid, gid, groups } => {
            let groups = match groups {
                None => String::new(),
                Some(groups) if groups.is_empty() => ", no further groups".to_owned(),
                Some(groups) => {
                    let words: Vec<_> = groups.iter().map(u32::to_string).collect();
                    format!(", further groups {}", words.join(" "))
                }
            };
            format!("become uid {uid}, gid {gid}{groups}")
        }
        Step::SetCapabilities { permitted, ambient } => {
            let mut text = match *permitted {
                0 => "start with no capability".to_owned(),
                permitted => format!("start with {}", capability_text(permitted)),
            };
            if *ambient != 0 {
                text.push_str(&format!(
                    ", and keep {} as another user than root",
                    capability_text(*ambient)
                ));
            }
            text
        }
        Step::ChangeDirectory { path } => format!("go to {}", path.display()),
        Step::NoNewPrivileges => "rule out gaining privileges by execve".to_owned(),
        Step::Landlock(landlock) => super::landlock::describe(landlock),
        Step::CloseFds { keep } if keep.is_empty() => "close every descriptor above 2".to_owned(),
        Step::CloseFds { keep } => {
            let words: Vec<_> = keep.iter().map(i32::to_string).collect();
            format!("close every descriptor above 2 but {}", words.join(" "))
        }
        Step::LoadSeccomp { filter, hold } => {
            let raised = hold.map_or_else(String::new, |hold| {
                format!("with {} for the moment, ", capability_text(hold))
            });
            format!("{raised}load {}", crate::seccomp::print::summary(filter))
        }
        Step::Exec { command, .. } => format!("execute {}", command.join(" ")),
    }
}

/// Ids with their numbers outside, and who writes them.
fn map_text(map: &IdMaps) -> String {
    let ranges = |ranges: &[IdRange]| -> String {
        let words: Vec<_> = ranges
            .iter()
            .map(|range| {
                let last = |first: u32| first + (range.count - 1);
                match range.count {
                    1 => format!("{} is {}", range.inside, range.outside),
                    _ => format!(
                        "{}-{} are {}-{}",
                        range.inside,
                        last(range.inside),
                        range.outside,
                        last(range.outside)
                    ),
                }
            })
            .collect();
        words.join(", ")
    };
    if let (true, [uid], [gid]) = (map.is_single(), &map.uid[..], &map.gid[..])
        && (uid.inside, gid.inside) == (0, 0)
    {
        return format!("uid {} and gid {} are root inside", uid.outside, gid.outside);
    }
    let by = match map.writer {
        MapWriter::Jail | MapWriter::Supervisor => "",
        MapWriter::Helpers => ", by newuidmap and newgidmap",
    };
    match map.uid == map.gid {
        true => format!("ids inside {}{by}", ranges(&map.uid)),
        false => format!("uids inside {}; gids {}{by}", ranges(&map.uid), ranges(&map.gid)),
    }
}

/// A tree that is opened for the jail.
pub(crate) fn tree_text(tree: &HostTree) -> String {
    let source = match &tree.source {
        TreeSource::Path(path) => path.display().to_string(),
        TreeSource::Loop { number, filesystem } => {
            format!("the {} of loop device {}", filesystem.name(), number + 1)
        }
    };
    format!("{source}{}", if tree.mapped { " with ids of the map" } else { "" })
}

fn spot_text(on: &Spot) -> String {
    match on {
        Spot::Root(at) => format!("{} as the root", at.display()),
        Spot::Stage(path) | Spot::Inside(path) => path.display().to_string(),
    }
}

fn kind_word(kind: NodeKind) -> &'static str {
    match kind {
        NodeKind::Directory => "directory",
        NodeKind::File => "file",
    }
}

fn stream_word(fd: i32) -> &'static str {
    match fd {
        0 => "standard input",
        1 => "standard output",
        _ => "standard error",
    }
}

/// The propagation type's word, as mount(8) and the unit write it.
pub fn propagation_word(propagation: Propagation) -> &'static str {
    match propagation {
        Propagation::Private => "private",
        Propagation::Slave => "slave",
        Propagation::Shared => "shared",
        Propagation::Unbindable => "unbindable",
    }
}

/// Names of mount flags as mount(8) writes them.
pub fn flag_words(flags: MountFlags) -> Vec<&'static str> {
    [
        (flags.read_only, "ro"),
        (flags.nosuid, "nosuid"),
        (flags.nodev, "nodev"),
        (flags.noexec, "noexec"),
        (flags.noatime, "noatime"),
    ]
    .into_iter()
    .filter_map(|(set, word)| set.then_some(word))
    .collect()
}

fn flag_text(flags: MountFlags) -> String {
    match flag_words(flags) {
        words if words.is_empty() => String::new(),
        words => format!(" ({})", words.join(",")),
    }
}

fn capability_text(set: u64) -> String {
    if set == names::ALL_CAPABILITIES {
        return "all capabilities".to_owned();
    }
    names::capability_words(set)
        .map(|word| format!("CAP_{}", word.to_uppercase()))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A resource limit as prlimit(1) writes it.
pub fn limit_word(limit: u64) -> String {
    match limit {
        u64::MAX => "unlimited".to_owned(),
        limit => limit.to_string(),
    }
}

/// The image that a root is made of.
fn packed_text(steps: &[super::Planned]) -> Option<String> {
    steps.iter().find_map(|planned| match &planned.step {
        Step::HoldImage { key, .. } => {
            Some(format!("image {}", key.digest().hex().get(..12).unwrap_or_default()))
        }
        Step::AttachLoop { file, .. } => Some(file.display().to_string()),
        _ => None,
    })
}

/// What was put up, in one line: root, namespaces, mounts, limits.
pub fn summary(steps: &[super::Planned]) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut limits = Vec::new();
    let state = steps.iter().find_map(|planned| match &planned.step {
        Step::MakeStateDirectory { path } => Some(path.clone()),
        _ => None,
    });
    let state = state.unwrap_or_default();
    for planned in steps {
        match &planned.step {
            Step::AttachRoot { source, flags, .. } => {
                let how = if flags.read_only { " (read-only)" } else { "" };
                parts.push(format!("root {}{how}", source.display()));
            }
            Step::MountRoot { .. } => parts.push("root in memory".to_owned()),
            Step::MountOverlay { on: Spot::Root(_), overlay, .. } => {
                let of_host: Vec<_> =
                    overlay.lower.iter().filter(|path| !path.starts_with(&state)).collect();
                let (lower, more) = match (packed_text(steps), &of_host[..]) {
                    (Some(packed), _) => (packed, false),
                    (None, [first, rest @ ..]) => (first.display().to_string(), !rest.is_empty()),
                    (None, []) => (String::new(), false),
                };
                parts.push(match &overlay.upper {
                    Some((upper, _)) if upper.starts_with(&state) => {
                        format!(
                            "root {lower}{} (changes are thrown away)",
                            if more { " …" } else { "" }
                        )
                    }
                    Some((upper, _)) => format!("root {} over {lower}", upper.display()),
                    None => format!("root {lower}{} (read-only)", if more { " …" } else { "" }),
                });
            }
            Step::Enter { namespaces, map, .. } => {
                let mut own: Vec<_> =
                    namespaces.iter().map(|namespace| namespace.option()).collect();
                if steps.iter().any(|planned| planned.step == Step::NewCgroupNamespace) {
                    own.push(Namespace::Cgroup.option());
                }
                parts.insert(0, format!("own {}", own.join(" ")));
                match map {
                    None => {}
                    Some(map) if map.is_single() => {
                        parts.push("root inside is you outside".to_owned());
                    }
                    Some(map) => parts.push(map_text(map)),
                }
            }
            Step::VerifyMounts { expected } => {
                parts.push(format!(
                    "{} mounts",
                    expected
                        .iter()
                        .filter(|mount: &&ExpectedMount| mount.target.parent().is_some())
                        .count()
                ));
            }
            Step::SetLimit { file, value, .. } => {
                let name = file
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                limits.push(format!("{name} {value}"));
            }
            _ => {}
        }
    }
    if !limits.is_empty() {
        parts.push(limits.join(", "));
    }
    parts.join("; ")
}
