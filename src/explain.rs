//! `--explain`: the plan as a shell script that does the same.
//!
//! The words of each line are computed from the fields that the system call
//! uses. What util-linux 2.38 has no command for is a comment that names the
//! call and its arguments.
//!
//! The script has stages, each a shell of its own: one on the host, one in the
//! new namespaces, and one wherever a command had to replace the shell to take
//! effect. A stage after the first is a here-document on a high descriptor, so
//! that standard input stays the command's. A step that changes the process
//! which becomes the command is a prefix of that command: prefixes are
//! collected in `$@`, in order, and executed at the end of their stage.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::names;
use crate::plan::Plan;
use crate::plan::describe::{
    asked_by, describe, flag_words, limit_word, propagation_word, tree_text,
};
use crate::plan::step::{
    FsOption, HostTree, IdMaps, IdRange, Landlock, MapWriter, MountFlags, Namespace, NodeKind,
    OpenMode, Overlay, Owners, Planned, Propagation, Source, Spot, Step, TimeOffsets, TreeSource,
    Undo,
};
use crate::run::{FAILURE, state};
use crate::source::Sources;

/// What a step is in a script.
enum Fragment {
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

/// The script.
pub fn script(plan: &Plan, sources: &Sources) -> String {
    let mut writer = Writer::new(plan);
    for (index, planned) in plan.steps.iter().enumerate() {
        let why = asked_by(planned.origin, sources);
        let text = describe(&planned.step).replace('\n', " ");
        writer.step(&planned.step, &format!("{}. {text}  [{why}]", index + 1));
    }
    writer.finish()
}

/// The script for a plan that has to be made again when its first steps are
/// done: those, and the command that explains the rest.
pub fn preparation(plan: &Plan, sources: &Sources, again: &[String]) -> String {
    let mut out = String::from("#!/bin/sh\nset -eu\n\n");
    for planned in &plan.steps {
        if let Step::ImportImage { source } = &planned.step {
            let why = asked_by(planned.origin, sources);
            out.push_str(&format!("# {}  [{why}]\n", describe(&planned.step)));
            out.push_str(&format!("{}\n\n", import(source)));
        }
    }
    let words: Vec<_> = again.iter().map(|word| quote(word)).collect();
    out.push_str(
        "# The rest depends on what the image holds, and is explained when it is there.\n",
    );
    out.push_str(&format!("{} | sh\n", words.join(" ")));
    out
}

/// The shell's reading of a step.
fn fragment(step: &Step, plan: &Plan) -> Fragment {
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

fn import(source: &Source) -> String {
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

/// What of the host is opened for the jail.
fn trees(plan: &Plan) -> &[HostTree] {
    match plan.steps.get(plan.enter()).map(|planned| &planned.step) {
        Some(Step::Enter { trees, .. }) => trees,
        _ => &[],
    }
}

/// The jail's namespaces, and its id map.
fn namespaces(plan: &Plan) -> (&[Namespace], Option<&IdMaps>) {
    match plan.steps.get(plan.enter()).map(|planned| &planned.step) {
        Some(Step::Enter { namespaces, map, .. }) => (namespaces, map.as_ref()),
        _ => (&[], None),
    }
}

/// Whether unshare(1) stays, as the parent of the jail's first process.
fn forks(plan: &Plan) -> bool {
    let (namespaces, _) = namespaces(plan);
    namespaces.contains(&Namespace::Pid) || namespaces.contains(&Namespace::Time)
}

/// What unshare(1) has set with `--kill-child`, which the kernel takes back from
/// a process that becomes another user.
fn dies_with_unshare(plan: &Plan) -> Option<&'static str> {
    forks(plan).then_some("--pdeathsig=KILL")
}

fn has_user_namespace(plan: &Plan) -> bool {
    namespaces(plan).1.is_some()
}

/// Whether what the jail has on /proc is one.
fn has_proc(plan: &Plan) -> bool {
    let proc = Path::new("/proc");
    let last = plan.steps.iter().rev().find(|planned| match &planned.step {
        Step::Mount { target, .. }
        | Step::Bind { target, .. }
        | Step::Mask { target, .. }
        | Step::AttachTree { on: Spot::Inside(target), .. }
        | Step::MountLoop { on: Spot::Inside(target), .. }
        | Step::MountOverlay { on: Spot::Inside(target), .. } => target == proc,
        _ => false,
    });
    last.is_some_and(|planned| match &planned.step {
        Step::Mount { fstype, .. } => *fstype == "proc",
        Step::Bind { source, .. } => source == proc,
        _ => false,
    })
}

/// How long the jail may run.
fn timeout(plan: &Plan) -> Option<Duration> {
    plan.steps.iter().find_map(|planned| match &planned.step {
        Step::Supervise { timeout, .. } => *timeout,
        _ => None,
    })
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
fn fail(why: &str) -> String {
    format!("{{ {} >&2; exit {FAILURE}; }}", say(why))
}

fn undo(undo: &Undo, locks: &[(String, i32)]) -> Option<String> {
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
const WAIT_FOR_MAPS: &str = "while ! read -r map </proc/self/gid_map; do sleep 0.01; done";

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
const REMOVE_GROUP: &str = r#"# remove_group DIRECTORY: one made here, and ends what still runs in it
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

const EACH_MOUNT: &str = r#"# each_mount OPTIONS PATH: remounts PATH and every mount below it; jailrun's
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

/// Prints a line: echo(1) has options, and its own idea of a backslash.
fn say(text: &str) -> String {
    match text.starts_with('-') || text.contains('\\') || !is_printable(text) {
        true => format!("printf '%s\\n' {}", quote(text)),
        false => format!("echo {}", quote(text)),
    }
}

fn echo(text: &str, file: &Path) -> String {
    format!("{} >{}", say(text), quote_path(file))
}

/// A word that is no option.
fn operand(text: &str) -> String {
    let end = if text.starts_with('-') { "-- " } else { "" };
    format!("{end}{}", quote(text))
}

/// A path of the jail while it is being built.
fn inside(path: &Path) -> String {
    match path.to_str().filter(|text| is_plain(text.as_bytes())) {
        Some(text) => format!("\"$root{text}\""),
        None => format!("\"$root\"{}", quote_path(path)),
    }
}

fn quote_path(path: &Path) -> String {
    quote_bytes(path.as_os_str().as_bytes())
}

fn is_plain(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|b| b.is_ascii_alphanumeric() || b"/._-+:,=@%".contains(b))
}

/// Whether a terminal shows it and does nothing else.
fn is_printable(text: &str) -> bool {
    text.chars().all(|c| !c.is_control() || c == '\n' || c == '\t')
}

/// Quotes a word for the shell.
pub fn quote(text: &str) -> String {
    quote_bytes(text.as_bytes())
}

fn quote_bytes(bytes: &[u8]) -> String {
    if is_plain(bytes) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    match std::str::from_utf8(bytes) {
        Ok(text) if is_printable(text) => format!("'{}'", text.replace('\'', r"'\''")),
        _ => quote_by_number(bytes),
    }
}

/// What a terminal would obey, or what is no text: by printf(1).
fn quote_by_number(bytes: &[u8]) -> String {
    // The shell takes line breaks from the end of what a command prints.
    let end = bytes.iter().rposition(|b| *b != b'\n').map_or(0, |last| last + 1);
    let (bytes, breaks) = bytes.split_at(end);
    let mut format = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' => format.push_str(r"'\''"),
                '\\' => format.push_str(r"\\"),
                '%' => format.push_str("%%"),
                // It has options, too.
                '-' if format.is_empty() => format.push_str(r"\055"),
                '\n' => format.push_str(r"\n"),
                c if c.is_control() => {
                    c.encode_utf8(&mut [0; 4]).bytes().for_each(|b| format += &octal(b));
                }
                c => format.push(c),
            }
        }
        chunk.invalid().iter().for_each(|b| format += &octal(*b));
    }
    let breaks = match breaks.len() {
        0 => String::new(),
        count => format!("'{}'", "\n".repeat(count)),
    };
    format!("\"$(printf '{format}')\"{breaks}")
}

fn octal(byte: u8) -> String {
    format!("\\{byte:03o}")
}

struct Stage {
    /// Descriptor that holds it; the first is the script itself.
    fd: Option<i32>,
    lines: String,
}

struct Writer<'a> {
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

const PIVOT: &str = "pivot_root . .";

/// For the header.
const STOPS: &str = "# No command does all of what this jail needs: the script ends with 125 where it\n# says so, and puts up nothing.\n";

/// Commands that every shell has built in.
const BUILTIN: [&str; 7] = ["cd", "umask", "echo", "printf", ":", "set", "exec"];

impl<'a> Writer<'a> {
    fn new(plan: &'a Plan) -> Self {
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

    fn step(&mut self, step: &Step, comment: &str) {
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

    fn finish(self) -> String {
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
