//! What a step is in a shell.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::questions::{dies_with_unshare, forks, has_proc, has_user_namespace, trees};
use super::shell::{echo, inside, operand, quote, quote_path, say};
use crate::names;
use crate::plan::Plan;
use crate::plan::describe::{flag_words, limit_word, propagation_word};
use crate::plan::step::{
    FsOption, HostTree, IdMaps, IdRange, Landlock, MapWriter, MountFlags, Namespace, NodeKind,
    OpenMode, Overlay, Owners, Propagation, Source, Spot, Step, TimeOffsets, TreeSource, Undo,
};
use crate::run::{FAILURE, state};

/// What puts up the root.
pub(super) const PIVOT: &str = "pivot_root . .";

/// What a step is in a script.
pub(super) enum Fragment {
    /// Lines that the stage's shell runs.
    Run(Vec<String>),
    /// Words in front of the command, or of the next stage's shell.
    Prefix(Vec<String>),
    /// Options of setpriv(1), joined with those of a setpriv before them.
    Setpriv(Vec<String>),
    /// Options of the setpriv(1) that comes next: what they change counts at
    /// the next execve, which for jailrun is the command's, and the script's
    /// own commands come before it.
    Later(Vec<String>),
    /// A file or directory that is there, and stays locked in the same way,
    /// with an option of flock(1), and what to say when another has the lock.
    LockDirectory(String, &'static str, String),
    /// A command that prints the name of a new loop device.
    Loop(String),
    /// A file that stays locked on a descriptor of its own until the jail's
    /// end, what is written into it, and what to say when another has the lock.
    Lock(String, String, String),
    /// No shell equivalent: the call and its arguments.
    Call(String),
    /// The same, where a jail without it would be another one.
    Stop(String),
}

use Fragment::{Call, Later, Lock, LockDirectory, Loop, Prefix, Run, Setpriv, Stop};

/// The shell's reading of a step.
pub(super) fn fragment(step: &Step, plan: &Plan) -> Fragment {
    match step {
        Step::MakeStateDirectory { path } => Run(vec![format!("mkdir -p -m 700 {}", quote_path(path))]),
        Step::Journal { path } => Lock(
            quote_path(path),
            state::journal(path, plan).unwrap_or_default(),
            format!("a jail named `{}` is running", plan.name),
        ),
        Step::ClaimIds { path, name } => Lock(
            quote_path(path),
            name.clone(),
            "another jail has this range of ids".to_owned(),
        ),
        Step::MakeHostNode { root, path, kind } => Run(make_node(&quote_path(&root.join(path)), *kind)),
        Step::MakeHostLink { root, path, to } => {
            Run(vec![format!("ln -s {} {}", operand(to), quote_path(&root.join(path)))])
        }
        Step::CreateCgroup { directory } => {
            let directory = quote_path(directory);
            // An empty one of that name is what a killed launch has left.
            Run(vec![
                format!("rmdir {directory} 2>/dev/null || :"),
                format!("mkdir {directory}"),
                format!("made=${{made-}}:{directory}:"),
            ])
        }
        Step::EnableControllers { directory, controllers } => {
            let words: Vec<_> = controllers.iter().map(|name| format!("+{name}")).collect();
            Run(vec![echo(&words.join(" "), &directory.join("cgroup.subtree_control"))])
        }
        Step::MoveSupervisor { directory } => Run(vec![
            format!("mkdir -p {}", quote_path(directory)),
            echo("0", &directory.join("cgroup.procs")),
        ]),
        Step::SetLimit { file, value, .. } => Run(vec![echo(value, file)]),
        Step::LimitDevices { directory, is_v2: false, rules } => {
            let mut lines = vec![echo("a", &directory.join("devices.deny"))];
            let allow = directory.join("devices.allow");
            lines.extend(rules.iter().map(|rule| echo(&rule.to_string(), &allow)));
            Run(lines)
        }
        Step::LimitDevices { directory, is_v2: true, rules } => Call(format!(
            "bpf(BPF_PROG_LOAD, BPF_PROG_TYPE_CGROUP_DEVICE: {} rules), bpf(BPF_PROG_ATTACH, {}, BPF_CGROUP_DEVICE)",
            rules.len(),
            directory.display()
        )),
        Step::KillOnOom { directory } => Call(format!(
            "eventfd(2) on {}/memory.oom_control, and kill(init, SIGKILL) when it fires",
            directory.display()
        )),
        Step::OpenStream { fd, path, mode } => {
            let arrow = match mode {
                OpenMode::Read => "<",
                OpenMode::Truncate => ">",
                OpenMode::Append => ">>",
            };
            Run(vec![format!("exec {fd}{arrow}{}", quote_path(path))])
        }
        Step::Supervise { timeout: Some(timeout), stop_signal, stop_grace } => {
            let mut words = vec!["timeout".to_owned()];
            // For timeout(1) a time of 0 is none.
            if forks(plan) || stop_grace.is_zero() {
                words.push("--signal=KILL".to_owned());
            } else {
                words.push(format!("--signal={stop_signal}"));
                words.push(format!("--kill-after={}", stop_grace.as_secs_f64()));
            }
            words.push(timeout.max(&Duration::from_nanos(1)).as_secs_f64().to_string());
            Prefix(words)
        }
        Step::Supervise { timeout: None, .. } => {
            Call("poll(2) on the jail's pidfd and a signalfd; signals are passed on".to_owned())
        }
        Step::JoinPidNamespace { path } => nsenter(Namespace::Pid, path),
        Step::ClearGroups => Prefix(vec!["setpriv".to_owned(), "--clear-groups".to_owned()]),
        Step::Enter { namespaces, map, trees: _, cgroup, time } => {
            enter(namespaces, map.as_ref(), cgroup.as_deref(), *time)
        }
        Step::ShiftOwners { root, uid, gid } => Run(shift_owners(root, uid, gid)),
        Step::BecomeRoot => {
            let mut words = ["setpriv", "--reuid=0", "--regid=0", "--clear-groups"].to_vec();
            words.extend(dies_with_unshare(plan));
            Prefix(words.into_iter().map(str::to_owned).collect())
        }
        Step::AttachTree { tree, on, flags } => attach_tree(trees(plan).get(*tree), on, *flags),
        Step::JoinCgroup { directory } => Run(vec![echo("0", &directory.join("tasks"))]),
        Step::NewSession => Prefix(vec!["setsid".to_owned()]),
        Step::NewKeyring => Call("keyctl(KEYCTL_JOIN_SESSION_KEYRING, NULL)".to_owned()),
        Step::ForbidTracing => Call("prctl(PR_SET_DUMPABLE, 0)".to_owned()),
        Step::JoinNamespace { namespace, path } => nsenter(*namespace, path),
        // Its supervisor holds the lock while it runs.
        Step::FindJail { journal, pid, .. } => Run(vec![
            format!("test -d /proc/{pid}"),
            format!("if flock -n {} true; then exit 1; fi", quote_path(journal)),
        ]),
        Step::JoinJail { namespace, pid, .. } => {
            nsenter(*namespace, &Path::new("/proc").join(pid.to_string()).join("ns").join(namespace.file()))
        }
        Step::NewCgroupNamespace => Prefix(vec!["unshare".to_owned(), "--cgroup".to_owned()]),
        Step::PrivateMounts { propagation } => {
            Run(vec![format!("mount --make-r{} /", propagation_word(*propagation))])
        }
        Step::SetHostname { name } if hostname_takes(name) => {
            Run(vec![format!("hostname {}", quote(name))])
        }
        // The file is the host root's.
        Step::SetHostname { name } if has_user_namespace(plan) => Stop(format!("sethostname({name}), which hostname(1) has not taken for a name")),
        Step::SetHostname { name } => Run(vec![echo(name, Path::new("/proc/sys/kernel/hostname"))]),
        // Not the file below /proc/sys: it is the host root's.
        Step::SetDomainname { name } => Run(vec![format!("domainname {}", operand(name))]),
        Step::LoopbackUp => Run(vec!["ip link set lo up".to_owned()]),
        Step::SetSysctl { path, value } => {
            Run(vec![echo(value, &Path::new("/proc/sys").join(path))])
        }
        Step::MountStage { at, options } => {
            let at = quote_path(at);
            let mut lines = new_mount("tmpfs", "jailrun", &at, options, MountFlags::NONE);
            lines.push(format!("mkdir {at}/root"));
            Run(lines)
        }
        Step::ImportImage { source } => Run(vec![import(source)]),
        Step::HoldImage { store, key } => {
            let path = quote_path(&store.join("images").join(format!("{key}.json")));
            LockDirectory(path, "-s", "the image is being removed".to_owned())
        }
        Step::LockDirectory { path } => LockDirectory(
            quote_path(path),
            "-x",
            format!("another jail has its changes in `{}`", path.display()),
        ),
        Step::AttachLoop { file, offset, size } => Loop(format!(
            "losetup --find --show --read-only --offset {offset} --sizelimit {size} {}",
            quote_path(file)
        )),
        Step::MountLoop { number, filesystem, on, flags } => {
            let (device, at) = (format!("\"$loop{number}\""), spot(on));
            let words = flag_words(MountFlags { read_only: false, ..*flags }).join(",");
            Run(vec![format!("mount -t {} -o ro,{words} {device} {at}", filesystem.name())])
        }
        Step::MountMemory { at, options } => {
            let path = quote_path(at);
            let mut lines = vec![format!("mkdir {path}")];
            lines.extend(new_mount("tmpfs", "jailrun", &path, options, MountFlags::NONE));
            Run(lines)
        }
        Step::MakeStageNode { path, kind, mode, owner } => {
            let path = quote_path(path);
            let mut lines = match kind {
                NodeKind::Directory => vec![format!("mkdir {path}")],
                NodeKind::File => vec![format!(": >{path}")],
            };
            lines.extend(owner.map(|(uid, gid)| format!("chown {uid}:{gid} {path}")));
            lines.push(format!("chmod {mode:o} {path}"));
            Run(lines)
        }
        Step::CopyTree { source, tree: _, owners } => {
            let keep = match owners {
                Owners::Keep => "",
                Owners::Caller => " --no-preserve=ownership",
            };
            // Not `cp -a SOURCE/.`: the root keeps its own attributes.
            let source = quote_path(source);
            Run(vec![format!(
                "find {source} -mindepth 1 -maxdepth 1 -exec cp -a{keep} -t \"$root\" {{}} +"
            )])
        }
        Step::UnpackTree { source, tree: _, owners } => {
            let keep = match owners {
                Owners::Keep => "--same-owner",
                Owners::Caller => "--no-same-owner",
            };
            Run(vec![format!(
                "tar --extract --numeric-owner {keep} --preserve-permissions --xattrs \\\n    --file {} --directory \"$root\"",
                quote_path(source)
            )])
        }
        Step::LinkLayer { path, to } => {
            Run(vec![format!("ln -s {} {}", quote_path(to), quote_path(path))])
        }
        Step::MountOverlay { on, overlay, flags } => {
            let on = spot(on);
            let words = flag_words(MountFlags { read_only: false, ..*flags }).join(",");
            let comma = if words.is_empty() { "" } else { "," };
            let options = |overlay: &Overlay| quote(&format!("{words}{comma}{}", overlay.options()));
            let mount = |overlay| format!("mount -t overlay -o {} overlay {on}", options(overlay));
            let mut lines = match below_one(overlay) {
                // Options end with the page, mount(2): names from here are shorter.
                Some((directory, short)) if options(overlay).len() >= PAGE => {
                    vec![format!("(cd {} && {})", quote_path(&directory), mount(&short))]
                }
                _ => vec![mount(overlay)],
            };
            if flags.read_only {
                lines.push(remount(&["ro"], &on));
            }
            Run(lines)
        }
        Step::WriteContent { path, text } => {
            let path = quote_path(path);
            Run(vec![format!("printf %s {} >{path}", quote(text)), format!("chmod 444 {path}")])
        }
        Step::AttachRoot { source, flags, .. } => Run(vec![
            format!("mount --rbind {} \"$root\"", quote_path(source)),
            each_mount(&flag_words(*flags), "\"$root\""),
        ]),
        Step::MountRoot { options, flags, .. } => {
            Run(new_mount("tmpfs", "tmpfs", "\"$root\"", options, *flags))
        }
        Step::MakeNode { path, kind } => Run(make_node(&inside(path), *kind)),
        Step::MakeLink { path, to } => Run(vec![format!("ln -s {} {}", operand(to), inside(path))]),
        Step::Mount { fstype, source, target, options, flags, propagation } => {
            let target = inside(target);
            let mut lines = new_mount(fstype, source, &target, options, *flags);
            if *propagation != Propagation::Private {
                lines.push(make(*propagation, false, &target));
            }
            Run(lines)
        }
        Step::Bind { source, tree: _, target, recursive, flags, propagation } => {
            let target = inside(target);
            let how = if *recursive { "--rbind" } else { "--bind" };
            let mut lines = vec![format!("mount {how} {} {target}", quote_path(source))];
            match flag_words(*flags) {
                words if words.is_empty() => {}
                words if *recursive => lines.push(each_mount(&words, &target)),
                words => lines.push(remount(&words, &target)),
            }
            lines.extend(propagation.map(|kind| make(kind, *recursive, &target)));
            Run(lines)
        }
        Step::BindDevices { names } => Run(vec![
            format!("for node in {}; do", names.join(" ")),
            "  : >\"$root/dev/$node\"; chmod 444 \"$root/dev/$node\"".to_owned(),
            "  mount --bind \"/dev/$node\" \"$root/dev/$node\"".to_owned(),
            format!("  {}", remount(&["nosuid", "noexec"], "\"$root/dev/$node\"")),
            "done".to_owned(),
        ]),
        Step::BindDevice { source, target, .. } => {
            let target = inside(target);
            Run(vec![
                format!("mount --bind {} {target}", quote_path(source)),
                remount(&flag_words(crate::plan::devices::NODE_FLAGS), &target),
            ])
        }
        Step::Mask { target, kind } => {
            let target = inside(target);
            let flags = crate::plan::mounts::mask_flags(*kind);
            match kind {
                NodeKind::Directory => {
                    let options = [("mode", "555"), ("size", "4k"), ("nr_inodes", "1")]
                        .map(|(key, value)| FsOption { key, value: Some(value.to_owned()) });
                    Run(new_mount("tmpfs", "tmpfs", &target, &options, flags))
                }
                NodeKind::File => Run(vec![
                    format!("mount --bind /dev/null {target}"),
                    remount(&flag_words(flags), &target),
                ]),
            }
        }
        Step::ProtectPath { target } => {
            let target = inside(target);
            Run(vec![format!("mount --rbind {target} {target}"), each_mount(&["ro"], &target)])
        }
        Step::SetPropagation { propagation } => {
            Run(vec![format!("mount --make-r{} /", propagation_word(*propagation))])
        }
        Step::ProtectRoot => Run(vec![remount(&["ro"], "\"$root\"")]),
        Step::Pivot { .. } => Run(vec![
            "cd \"$root\"".to_owned(),
            PIVOT.to_owned(),
            // umount(8) reads /proc: where the root has none, that of the old one.
            if has_proc(plan) { "umount -l ." } else { "chroot /.. umount -l /" }.to_owned(),
            "cd /".to_owned(),
        ]),
        Step::Chroot { .. } => Prefix(vec!["chroot".to_owned(), "\"$root\"".to_owned()]),
        Step::VerifyMounts { .. } => {
            Call("read(/proc/self/mountinfo), and stop unless it holds the planned mounts and no other".to_owned())
        }
        Step::ResetSecurebits => Later(vec!["--securebits=-all".to_owned()]),
        Step::HideArguments => Call(
            "memset(3) from argv[0] to the end of the environment; in this script no such process stays"
                .to_owned(),
        ),
        Step::Init { keep, clear_groups, filtered } => Call(format!(
            "{}fork(2), and in the parent capset({keep:#x}), prctl(PR_SET_NO_NEW_PRIVS, 1), {}close_range(0, ~0); in this script the command itself is process 1",
            if *clear_groups { "setgroups(0), " } else { "" },
            if *filtered { "seccomp(SECCOMP_SET_MODE_FILTER), " } else { "" }
        )),
        Step::Terminal => Call(
            "open(/dev/pts/ptmx), ioctl(TIOCGPTPEER), setsid(2), ioctl(TIOCSCTTY); here the command keeps the caller's streams".to_owned(),
        ),
        Step::UseStream { fd } => Call(format!("dup2(file, {fd}): the redirection above has done it")),
        Step::SetUmask { mask } => Run(vec![format!("umask {mask:03o}")]),
        Step::SetNice { nice } => Run(vec![format!("said=$(renice -n {nice} -p $$)")]),
        Step::SetOomScoreAdjust { score } => {
            Run(vec![echo(&score.to_string(), Path::new("/proc/self/oom_score_adj"))])
        }
        Step::SetAffinity { cpus } => {
            Prefix(vec!["taskset".to_owned(), "--cpu-list".to_owned(), cpus.clone()])
        }
        Step::SetRlimit { index, soft, hard } => Prefix(vec![
            "prlimit".to_owned(),
            format!("--{}={}:{}", names::RLIMITS[*index].key, limit_word(*soft), limit_word(*hard)),
        ]),
        Step::LimitCapabilities { keep } => {
            Later(vec![format!("--bounding-set={}", capability_list(*keep))])
        }
        Step::SetIds { uid, gid, groups } => {
            let groups = match groups {
                None => "--keep-groups".to_owned(),
                Some(groups) if groups.is_empty() => "--clear-groups".to_owned(),
                Some(groups) => {
                    let words: Vec<_> = groups.iter().map(u32::to_string).collect();
                    format!("--groups={}", words.join(","))
                }
            };
            let mut words = vec![format!("--reuid={uid}"), format!("--regid={gid}"), groups];
            if *uid != 0 {
                words.extend(dies_with_unshare(plan).map(str::to_owned));
            }
            Setpriv(words)
        }
        Step::SetCapabilities { ambient, .. } => {
            let list = capability_list(*ambient);
            Setpriv(vec![format!("--inh-caps={list}"), format!("--ambient-caps={list}")])
        }
        Step::ChangeDirectory { path } => {
            Prefix(vec!["env".to_owned(), format!("--chdir={}", quote_path(path))])
        }
        Step::NoNewPrivileges => Setpriv(vec!["--no-new-privs".to_owned()]),
        Step::Landlock(Landlock { paths, below, ports, open, scope }) => Call(format!(
            "landlock_create_ruleset({paths:#x}, {ports:#x}, {scope:#x}), landlock_add_rule({}), landlock_restrict_self(2); setpriv has it from 2.42 on",
            landlock_rules(below, open)
        )),
        Step::CloseFds { keep } => {
            let end = match keep.last() {
                None => "close_range(3, ~0)".to_owned(),
                Some(_) => "close_range(2) around those that stay".to_owned(),
            };
            Call(format!("{end}; here the shell closes those it has opened"))
        }
        Step::LoadSeccomp { filter, hold } => {
            let policy = filter.policy();
            let raise = hold.map_or_else(String::new, |hold| format!("capset({hold:#x}), "));
            Call(format!(
                "{raise}seccomp(SECCOMP_SET_MODE_FILTER) with {} rules and the default action {}; `jailrun seccomp UNIT` prints it",
                policy.rules(),
                policy.default.word()
            ))
        }
        Step::Exec { command, environment } => {
            let mut words = vec!["env".to_owned(), "-i".to_owned()];
            words.extend(environment.iter().map(|(name, value)| quote(&format!("{name}={value}"))));
            // A word with `=` would be taken for one more variable.
            if command.first().is_some_and(|program| program.contains('=')) {
                words.extend(["sh".to_owned(), "-c".to_owned(), "'exec \"$@\"'".to_owned(), "sh".to_owned()]);
            }
            words.extend(command.iter().map(|word| quote(word)));
            Prefix(words)
        }
    }
}

fn landlock_rules(below: &[(PathBuf, u64)], open: &[(u16, u64)]) -> String {
    let paths = below.iter().map(|(path, rights)| format!("{} {rights:#x}", path.display()));
    let ports = open.iter().map(|(port, rights)| format!("port {port} {rights:#x}"));
    paths.chain(ports).collect::<Vec<_>>().join("; ")
}

fn spot(on: &Spot) -> String {
    match on {
        Spot::Root(_) => "\"$root\"".to_owned(),
        Spot::Stage(path) => quote_path(path),
        Spot::Inside(target) => inside(target),
    }
}

pub(super) fn import(source: &Source) -> String {
    match source {
        Source::Image { path, reference, .. } => {
            let reference = reference.as_ref().map_or(String::new(), |name| format!(":{name}"));
            format!("jailrun image import {}", quote(&format!("{}{reference}", path.display())))
        }
        Source::Tar { path, sha256, strip_components } => {
            let digest =
                sha256.map_or(String::new(), |digest| format!(" --sha256 {}", digest.hex()));
            let path = quote_path(path);
            format!(
                "jailrun image import --tar{digest} --strip-components {strip_components} {path}"
            )
        }
    }
}

/// hostname(1) has its own idea of a name; the kernel has none.
fn hostname_takes(name: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_edge(name.chars().next())
        && is_edge(name.chars().last())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        && !["..", ".-", "-."].iter().any(|pair| name.contains(pair))
}

/// Says why, and ends the script as jailrun ends.
pub(super) fn fail(why: &str) -> String {
    format!("{{ {} >&2; exit {FAILURE}; }}", say(why))
}

pub(super) fn undo(undo: &Undo, locks: &[(String, i32)]) -> Option<String> {
    match undo {
        Undo::RemoveCgroup(directory) => Some(format!("remove_group {}", quote_path(directory))),
        Undo::RemoveStateDirectory(path) => {
            Some(format!("rmdir --ignore-fail-on-non-empty {}", quote_path(path)))
        }
        Undo::RemoveJournal(path) => Some(format!("rm -f {}", quote_path(path))),
        // As long as another jail holds the lock, it is that one's.
        Undo::RemoveClaim(path) => {
            let path = quote_path(path);
            let (_, fd) = locks.iter().find(|(locked, _)| *locked == path)?;
            Some(format!("flock -n {fd} && rm -f {path}"))
        }
        // Mount points stay, as they do after a jail.
        Undo::RemoveNode { .. } => None,
    }
}

fn nsenter(namespace: Namespace, path: &Path) -> Fragment {
    let option = namespace.option();
    Prefix(vec!["nsenter".to_owned(), format!("--{option}={}", quote_path(path))])
}

fn enter(
    namespaces: &[Namespace],
    map: Option<&IdMaps>,
    cgroup: Option<&Path>,
    time: Option<TimeOffsets>,
) -> Fragment {
    let mut words = vec!["unshare".to_owned()];
    // Its default would make mounts private, which is a step of its own.
    words.extend(["--propagation".to_owned(), "unchanged".to_owned()]);
    words.extend(namespaces.iter().map(|namespace| format!("--{}", namespace.option())));
    if namespaces.contains(&Namespace::Pid) || namespaces.contains(&Namespace::Time) {
        words.extend(["--fork".to_owned(), "--kill-child".to_owned()]);
    }
    if map.is_some_and(|map| map.writer == MapWriter::Jail) {
        words.push("--map-root-user".to_owned());
    }
    if let Some(time) = time {
        let seconds = |nanoseconds: i128| nanoseconds.div_euclid(1_000_000_000);
        words.push(format!("--monotonic={}", seconds(time.monotonic)));
        words.push(format!("--boottime={}", seconds(time.boottime)));
    }
    if let Some(map) = map.filter(|map| map.writer != MapWriter::Jail) {
        let write = write_maps(map);
        // The caller need not be root inside, and loses them by execve then.
        words.push("--keep-caps".to_owned());
        // Its own process goes on, and another one of the host writes.
        let mut waiting = vec!["sh".to_owned(), "-c".to_owned(), quote(&write), "sh".to_owned()];
        waiting.append(&mut words);
        words = waiting;
    }
    match cgroup {
        None => Prefix(words),
        // Its own process joins, so that the child is born in the group.
        Some(group) => {
            let join = format!(
                "'echo 0 >\"$0\" && exec \"$@\"' {}",
                quote_path(&group.join("cgroup.procs"))
            );
            let mut joined = vec!["sh".to_owned(), "-c".to_owned(), join];
            joined.append(&mut words);
            Prefix(joined)
        }
    }
}

/// New owners for what is still another's, with the permission bits as they were.
fn shift_owners(root: &Path, uid: &[IdRange], gid: &[IdRange]) -> Vec<String> {
    let translate = |name: &str, ranges: &[IdRange]| -> String {
        let tests: Vec<_> = ranges
            .iter()
            .map(|range| {
                format!(
                    "if [ ${name} -ge {} ] && [ ${name} -le {} ]; then {name}=$(({name} - {} + {})); ",
                    range.inside,
                    range.inside + (range.count - 1),
                    range.inside,
                    range.outside
                )
            })
            .collect();
        format!("{}fi", tests.join("el"))
    };
    vec![
        format!("find {} -xdev -exec sh -c 'for file do", quote_path(root)),
        "  uid=$(stat -c %u \"$file\") gid=$(stat -c %g \"$file\") mode=$(stat -c %a \"$file\")"
            .to_owned(),
        format!("  {}", translate("uid", uid)),
        format!("  {}", translate("gid", gid)),
        "  chown -h \"$uid:$gid\" \"$file\"".to_owned(),
        "  [ -h \"$file\" ] || chmod \"$mode\" \"$file\"".to_owned(),
        "done' sh {} +".to_owned(),
    ]
}

/// Maps the ids of the shell's own process when it has a user namespace.
fn write_maps(map: &IdMaps) -> String {
    let write = |file: &str, helper: &str, ranges: &[IdRange]| match map.writer {
        MapWriter::Jail | MapWriter::Supervisor => {
            let lines: String = ranges
                .iter()
                .map(|range| format!("{} {} {}\\n", range.inside, range.outside, range.count))
                .collect();
            format!("printf \"{lines}\" >/proc/$$/{file}")
        }
        MapWriter::Helpers => {
            let words: String = ranges
                .iter()
                .map(|range| format!(" {} {} {}", range.inside, range.outside, range.count))
                .collect();
            format!("/usr/bin/{helper} $$ {words}")
        }
    };
    let uid = write("uid_map", "newuidmap", &map.uid);
    let gid = write("gid_map", "newgidmap", &map.gid);
    format!(
        "(while [ \"$(readlink /proc/$$/ns/user)\" = \"$(readlink /proc/self/ns/user)\" ]; do sleep 0.01; done\n{uid} && {gid} || kill -KILL $$) & exec \"$@\""
    )
}

/// What begins a stage whose ids another process maps.
pub(super) const WAIT_FOR_MAPS: &str =
    "while ! read -r map </proc/self/gid_map; do sleep 0.01; done";

fn attach_tree(tree: Option<&HostTree>, on: &Spot, flags: MountFlags) -> Fragment {
    let at = spot(on);
    match tree.map(|tree| (&tree.source, tree.recursive)) {
        Some((TreeSource::Path(source), recursive)) => {
            let how = if recursive { "--rbind" } else { "--bind" };
            let mut lines = vec![format!("mount {how} {} {at}", quote_path(source))];
            match flag_words(flags) {
                words if words.is_empty() => {}
                words if recursive => lines.push(each_mount(&words, &at)),
                words => lines.push(remount(&words, &at)),
            }
            Run(lines)
        }
        Some((TreeSource::Loop { number, filesystem }, _)) => Call(format!(
            "fsmount({} of $loop{number}) by root of the host, and move_mount to {at} by root of the jail",
            filesystem.name()
        )),
        None => Call(format!("move_mount to {at}")),
    }
}

fn make_node(path: &str, kind: NodeKind) -> Vec<String> {
    match kind {
        NodeKind::Directory => vec![format!("mkdir -p {path}")],
        NodeKind::File => vec![
            format!("mkdir -p \"$(dirname {path})\""),
            format!(": >{path}"),
            format!("chmod 444 {path}"),
        ],
    }
}

/// A new file system. `ro` given to mount(8) would make the file system itself
/// read-only, not this mount of it: that is a second call.
fn new_mount(
    fstype: &str,
    source: &str,
    target: &str,
    options: &[FsOption],
    flags: MountFlags,
) -> Vec<String> {
    let mut words: Vec<String> = flag_words(MountFlags { read_only: false, ..flags })
        .into_iter()
        .map(str::to_owned)
        .collect();
    words.extend(options.iter().map(|option| match &option.value {
        Some(value) => format!("{}={value}", option.key),
        None => option.key.to_owned(),
    }));
    let list =
        if words.is_empty() { String::new() } else { format!(" -o {}", quote(&words.join(","))) };
    let mut lines = vec![format!("mount -t {fstype}{list} {source} {target}")];
    if flags.read_only {
        lines.push(remount(&["ro"], target));
    }
    lines
}

/// What mount(2) reads of options, on every machine.
const PAGE: usize = 4096;

/// The directory that all those of an overlay lie in, and the overlay as it is
/// named from there.
fn below_one(overlay: &Overlay) -> Option<(PathBuf, Overlay)> {
    let directory = overlay.lower.first()?.parent()?;
    let short = |path: &PathBuf| Some(path.strip_prefix(directory).ok()?.to_owned());
    let lower = overlay.lower.iter().map(short).collect::<Option<_>>()?;
    let upper = match &overlay.upper {
        Some((upper, work)) => Some((short(upper)?, short(work)?)),
        None => None,
    };
    Some((directory.to_owned(), Overlay::new(lower, upper, overlay.user_xattrs)))
}

fn remount(words: &[&str], target: &str) -> String {
    format!("mount -o remount,bind,{} {target}", words.join(","))
}

/// Processes that have just been killed are not gone at once, and what is left
/// of a jail in the host's pid namespace ends with it.
pub(super) const REMOVE_GROUP: &str = r#"# remove_group DIRECTORY: one made here, and ends what still runs in it
remove_group() {
  case ${made-} in *":$1:"*) ;; *) return ;; esac
  for try in 1 2 3 4 5 6 7 8 9 10; do
    if [ ! -d "$1" ] || rmdir "$1"; then return; fi
    kill -KILL $(cat "$1/cgroup.procs")
    sleep 0.1
  done
}
"#;

/// mount(8) of util-linux 2.38 has no recursive remount.
fn each_mount(words: &[&str], target: &str) -> String {
    format!("each_mount {} {target}", words.join(","))
}

pub(super) const EACH_MOUNT: &str = r#"# each_mount OPTIONS PATH: remounts PATH and every mount below it; jailrun's
# mount_setattr(2) gets to those, too, that lie under another on the same path
each_mount() {
  findmnt --noheadings --raw --submounts --output TARGET "$2" | sed 's/\\x20/ /g' |
    while IFS= read -r target; do mount -o "remount,bind,$1" "$target"; done
}
"#;

fn make(propagation: Propagation, recursive: bool, target: &str) -> String {
    let r = if recursive { "r" } else { "" };
    format!("mount --make-{r}{} {target}", propagation_word(propagation))
}

fn capability_list(set: u64) -> String {
    let words: String = names::capability_words(set).map(|word| format!(",+{word}")).collect();
    format!("-all{words}")
}
