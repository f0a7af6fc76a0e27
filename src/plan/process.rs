//! The jail's processes: their namespaces, streams, attributes and privileges.

use std::path::{Path, PathBuf};

use super::jails::jail_of;
use super::seccomp::Moment;
use super::step::{MapWriter, Namespace, OpenMode, Origin, Planned, Step};
use super::user::User;
use super::{Planner, origin, unspan};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind};
use crate::names;
use crate::source::Span;
use crate::unit::limits::exceeds;
use crate::unit::mounts::MountKind;
use crate::unit::namespaces::{Mode, TimeMode};
use crate::unit::process::Network;
use crate::unit::seccomp::Kind as Filtering;
use crate::unit::value::{HostPath, IdSet, Limit, Stream, Tty, parse_id_set};

impl<H: Host> Planner<'_, H> {
    /// What an ordinary user may not do, whatever the kernel would say later.
    pub(super) fn check_privilege(&mut self) {
        let (uid, _) = self.host.ids();
        let namespaces = &self.unit.namespaces;
        if uid != 0 && !self.private_user {
            self.find(
                Diagnostic::error("E0309", "an ordinary user needs a user namespace")
                    .at_maybe(namespaces.user.span, "set to the host's")
                    .help("leave `user` out, or run as root"),
            );
        }
        self.check_joins();
        if namespaces.uts.value == Mode::Host {
            return;
        }
        if let (Mode::Join(_) | Mode::Jail(_), Some(hostname)) =
            (&namespaces.uts.value, &self.unit.hostname)
        {
            self.find(
                Diagnostic::error("E0205", "`hostname` would rename another jail")
                    .at_maybe(hostname.span, "needs a private uts namespace")
                    .context(namespaces.uts.span, "joined here"),
            );
        }
    }

    /// Refuses to join by their files what a user namespace of the jail's own
    /// has no rights in, setns(2). That of processes is joined before, from
    /// outside.
    fn check_joins(&mut self) {
        if !self.private_user {
            return;
        }
        let namespaces = &self.unit.namespaces;
        for (mode, is_before) in [
            (&namespaces.pid, self.may_join_processes()),
            (&namespaces.ipc, false),
            (&namespaces.uts, false),
            (&namespaces.cgroup, false),
        ] {
            let Mode::Join(path) = &mode.value else { continue };
            if !is_before {
                let message = format!("to join `{}` needs real root", path.display());
                self.find(
                    Diagnostic::error("E0309", message)
                        .at_maybe(mode.span, "it belongs to another user namespace"),
                );
            }
        }
    }

    /// Whether the caller may join a namespace of processes.
    pub(super) fn may_join_processes(&self) -> bool {
        self.host.capabilities() & names::CAP_SYS_ADMIN != 0
    }

    /// The step that enters the namespaces, with a join of a pid namespace
    /// before it: only a child can be in another one.
    pub(super) fn enter(&mut self, cgroup: Option<PathBuf>) -> Vec<Planned> {
        let unit = self.unit;
        let (uid, _) = self.host.ids();
        let mut steps = Vec::new();
        let mut namespaces = vec![Namespace::Mount];
        if self.private_user {
            namespaces.push(Namespace::User);
        }
        let modes = [
            (Namespace::Pid, &unit.namespaces.pid),
            (Namespace::Ipc, &unit.namespaces.ipc),
            (Namespace::Uts, &unit.namespaces.uts),
        ];
        for (namespace, mode) in modes {
            if mode.value == Mode::Private {
                namespaces.push(namespace);
            }
        }
        if unit.network.value == Network::None {
            namespaces.push(Namespace::Net);
        }
        let private_time = unit.namespaces.time.value == TimeMode::Private;
        let time = private_time
            .then(|| unit.namespaces.time_offsets.as_ref().map(|t| t.value).unwrap_or_default());
        if private_time {
            namespaces.push(Namespace::Time);
        }
        let pid = &unit.namespaces.pid;
        if let Some(step) = self.join_jail(Namespace::Pid, jail_of(&pid.value)) {
            steps.push(Planned { step, origin: origin(pid.span, "namespaces.pid") });
        }
        if let Mode::Join(path) = &unit.namespaces.pid.value {
            self.check_namespace(path, unit.namespaces.pid.span);
            steps.push(Planned {
                step: Step::JoinPidNamespace { path: path.clone() },
                origin: origin(unit.namespaces.pid.span, "namespaces.pid"),
            });
        }
        let map = self.maps.clone();
        if uid == 0 && map.as_ref().is_some_and(|map| map.writer == MapWriter::Jail) {
            steps.push(Planned {
                step: Step::ClearGroups,
                origin: Origin::Always("in the user namespace they could not be given up"),
            });
        }
        let trees = std::mem::take(&mut self.trees);
        steps.push(Planned {
            step: Step::Enter { namespaces, map, trees, cgroup, time },
            origin: Origin::Always("the split between the host and the jail"),
        });
        // In a pid namespace of others it must hold from the first moment; but
        // the maps of a user namespace are written by a process that can be
        // looked into.
        let joined = !matches!(unit.namespaces.pid.value, Mode::Private | Mode::Host);
        let at = if joined && !self.private_user { 0 } else { steps.len() };
        let forbid = Planned {
            step: Step::ForbidTracing,
            origin: Origin::Always("nobody looks into the set-up, whatever namespaces it joins"),
        };
        steps.insert(at, forbid);
        steps
    }

    /// Namespaces that this kernel does not have, with the version that has
    /// them; the launch itself is told by clone3(2).
    pub(super) fn check_kernel(&mut self) {
        let namespaces = &self.unit.namespaces;
        let wanted = [
            (Namespace::Pid, "3.8", namespaces.pid.span, self.is_private(&namespaces.pid)),
            (Namespace::Ipc, "3.8", namespaces.ipc.span, self.is_private(&namespaces.ipc)),
            (Namespace::Uts, "3.8", namespaces.uts.span, self.is_private(&namespaces.uts)),
            (Namespace::Cgroup, "4.6", namespaces.cgroup.span, self.is_private(&namespaces.cgroup)),
            (Namespace::User, "3.8", namespaces.user.span, self.private_user),
            (
                Namespace::Time,
                "5.6",
                namespaces.time.span,
                namespaces.time.value == TimeMode::Private,
            ),
        ];
        for (namespace, version, span, is_wanted) in wanted {
            let file = Path::new("/proc/self/ns").join(namespace.file());
            if is_wanted && self.host.look(&file).is_err() {
                self.find(
                    Diagnostic::error(
                        "E0310",
                        format!("this kernel has no {} namespaces", namespace.file()),
                    )
                    .at_maybe(span, format!("Linux {version} has them, where they are configured")),
                );
            }
        }
    }

    /// Clocks that would show a time the kernel does not let them show.
    pub(super) fn check_clocks(&mut self) {
        let namespaces = &self.unit.namespaces;
        let Some(offsets) = namespaces.time_offsets.as_ref() else { return };
        if namespaces.time.value != TimeMode::Private {
            return;
        }
        // Half of what the kernel's own type for times holds.
        let last = i128::from(i64::MAX / 2);
        let [monotonic, boottime] = self.host.clocks();
        let clocks = [
            ("monotonic", monotonic, offsets.value.monotonic),
            ("boottime", boottime, offsets.value.boottime),
        ];
        for (clock, now, offset) in clocks {
            let then = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX).saturating_add(offset);
            if (0..=last).contains(&then) {
                continue;
            }
            let what = if then < 0 { "would show less than 0" } else { "would overflow" };
            let seconds = std::time::Duration::from_secs(now.as_secs());
            let now = humantime::format_duration(seconds);
            self.find(
                Diagnostic::error("E0103", format!("the clock `{clock}` {what}"))
                    .at_maybe(offsets.span, format!("this host's shows {now}")),
            );
        }
    }

    /// Files to be joined that are namespaces of another kind, or none.
    pub(super) fn check_namespaces(&mut self, steps: &[Planned]) {
        for planned in steps {
            let (namespace, path) = match &planned.step {
                Step::JoinNamespace { namespace, path } => (*namespace, path),
                Step::JoinPidNamespace { path } => (Namespace::Pid, path),
                _ => continue,
            };
            let Ok(found) = self.host.namespace(path) else { continue };
            if found == Some(namespace.flag()) {
                continue;
            }
            let word = namespace.file();
            self.find(
                Diagnostic::error(
                    "E0301",
                    format!("the namespace `{}` cannot be joined", path.display()),
                )
                .at_maybe(
                    planned.origin.span(),
                    match found {
                        Some(_) => format!("not a {word} namespace"),
                        None => "not a namespace".to_owned(),
                    },
                )
                .help(format!("that of a process is `/proc/PID/ns/{word}`")),
            );
        }
    }

    fn check_namespace(&mut self, path: &Path, span: Option<Span>) {
        if let Err(error) = self.host.look(path) {
            self.find(
                Diagnostic::error(
                    "E0301",
                    format!("the namespace `{}` cannot be joined", path.display()),
                )
                .at_maybe(span, crate::unit::io_reason(&error)),
            );
        }
    }

    pub(super) fn join_namespaces(&mut self) {
        let namespaces = &self.unit.namespaces;
        let joins = [
            (Namespace::Ipc, &namespaces.ipc, "namespaces.ipc"),
            (Namespace::Uts, &namespaces.uts, "namespaces.uts"),
            (Namespace::Cgroup, &namespaces.cgroup, "namespaces.cgroup"),
        ];
        for (namespace, mode, key) in joins {
            if let Mode::Join(path) = &mode.value {
                self.check_namespace(path, mode.span);
                let step = Step::JoinNamespace { namespace, path: path.clone() };
                self.setting(step, &unspan(mode), key);
            }
            if let Some(step) = self.join_jail(namespace, jail_of(&mode.value)) {
                self.setting(step, &unspan(mode), key);
            }
        }
        let network = &self.unit.network;
        if let Network::Jail(name) = &network.value
            && let Some(step) = self.join_jail(Namespace::Net, Some(name))
        {
            self.setting(step, &unspan(network), "network.mode");
        }
    }

    pub(super) fn names(&mut self) {
        let unit = self.unit;
        if unit.namespaces.uts.value != Mode::Private {
            return;
        }
        let hostname = unit.hostname.clone().unwrap_or_else(|| unit.name.clone());
        let step = Step::SetHostname { name: hostname.value.clone() };
        self.setting(step, &unspan(&hostname), "hostname");
        if let Some(domain) = &unit.domainname {
            let step = Step::SetDomainname { name: domain.value.clone() };
            self.setting(step, &unspan(domain), "domainname");
        }
    }

    pub(super) fn supervise(&mut self) {
        let lifecycle = &self.unit.lifecycle;
        let step = Step::Supervise {
            timeout: lifecycle.timeout.value.at(),
            stop_signal: lifecycle.stop_signal.value.0,
            stop_grace: lifecycle.stop_grace.value,
        };
        let span =
            lifecycle.timeout.span.or(lifecycle.stop_signal.span).or(lifecycle.stop_grace.span);
        self.push(step, origin(span, "lifecycle"));
    }

    /// The file of a stream, in its directory's path without links; as written
    /// where a jail that writes to a bind of this unit could have put the link.
    fn stream_path(&self, path: &HostPath) -> PathBuf {
        let path = self.resolve(path);
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return path };
        let Ok((real, _)) = self.host.canonical(parent) else { return path };
        let is_jails = real != parent
            && self.unit.mounts.iter().any(|mount| {
                let MountKind::Bind(source) = &mount.kind.value else { return false };
                let source = self.resolve(source);
                let Ok(below) = parent.strip_prefix(&source) else { return false };
                let leads = self.host.canonical(&source);
                !mount.flags.read_only && leads.is_ok_and(|(source, _)| source.join(below) != real)
            });
        if is_jails { path } else { real.join(name) }
    }

    pub(super) fn open_streams(&mut self) {
        for (fd, stream) in (0..).zip(&self.unit.process.streams) {
            let (path, mode) = match &stream.value {
                Stream::Inherit => continue,
                Stream::Null if fd == 0 => ("/dev/null".into(), OpenMode::Read),
                Stream::Null => ("/dev/null".into(), OpenMode::Append),
                Stream::File(path) if fd == 0 => (self.stream_path(path), OpenMode::Read),
                Stream::File(path) => (self.stream_path(path), OpenMode::Truncate),
                Stream::Append(path) => (self.stream_path(path), OpenMode::Append),
            };
            if matches!(self.host.look(&path), Ok(Kind::Link)) {
                let to = self.host.canonical(&path).map(|(to, _)| to);
                let help = to.map(|to| format!("name the file it leads to: `{}`", to.display()));
                self.find(
                    Diagnostic::error("E0322", format!("`{}` is a symbolic link", path.display()))
                        .at_maybe(stream.span, "not followed")
                        .note("a jail that may write there could have put it there")
                        .help_maybe(help.ok()),
                );
            } else if fd == 0
                && let Err(error) = self.host.look(&path)
            {
                self.find(
                    Diagnostic::error("E0301", format!("`{}` cannot be read", path.display()))
                        .at_maybe(stream.span, crate::unit::io_reason(&error)),
                );
            } else if fd > 0
                && let Some(parent) = path.parent()
                && let Err(error) = self.host.look(parent)
            {
                self.find(
                    Diagnostic::error("E0301", format!("`{}` cannot be written", path.display()))
                        .at_maybe(
                            stream.span,
                            format!("its directory: {}", crate::unit::io_reason(&error)),
                        ),
                );
            }
            self.setting(Step::OpenStream { fd, path, mode }, &unspan(stream), "process.stdin");
        }
    }

    /// Streams that the caller may not open. Links and what is not there have
    /// been told of.
    pub(super) fn check_streams(&mut self, steps: &[Planned]) {
        for planned in steps {
            let Step::OpenStream { path, mode, .. } = &planned.step else { continue };
            let verb = if *mode == OpenMode::Read { "read" } else { "written" };
            let reason = match (self.host.look(path), mode) {
                (Ok(Kind::Link), _) => continue,
                (Ok(Kind::Directory), _) => "a directory".to_owned(),
                (Ok(_), OpenMode::Read) if self.host.may_read(path) => continue,
                (Ok(_), OpenMode::Truncate | OpenMode::Append) if self.host.may_write(path) => {
                    continue;
                }
                (Ok(_), _) => "permission denied".to_owned(),
                (Err(_), OpenMode::Read) => continue,
                (Err(_), OpenMode::Truncate | OpenMode::Append) => match path.parent() {
                    Some(parent)
                        if self.host.look(parent).is_ok() && !self.host.may_write(parent) =>
                    {
                        "its directory: permission denied".to_owned()
                    }
                    _ => continue,
                },
            };
            self.find(
                Diagnostic::error("E0301", format!("`{}` cannot be {verb}", path.display()))
                    .at_maybe(planned.origin.span(), reason),
            );
        }
    }

    pub(super) fn use_streams(&mut self) {
        for (fd, stream) in (0..).zip(&self.unit.process.streams) {
            if stream.value != Stream::Inherit {
                self.setting(Step::UseStream { fd }, &unspan(stream), "process.stdin");
            }
        }
    }

    fn wants_terminal(&mut self) -> bool {
        let tty = &self.unit.process.tty;
        let has_dev =
            self.unit.root.api_filesystems.value.contains(&crate::unit::root::ApiFilesystem::Dev);
        match tty.value {
            Tty::Never => false,
            Tty::Always if !has_dev => {
                self.find(
                    Diagnostic::error("E0106", "a terminal needs `/dev` among `api-filesystems`")
                        .at_maybe(tty.span, "it is one of `/dev/pts`"),
                );
                false
            }
            Tty::Always => true,
            Tty::Auto => {
                let streams = &self.unit.process.streams;
                has_dev
                    && streams.iter().take(2).all(|stream| stream.value == Stream::Inherit)
                    && self.host.is_terminal(0)
                    && self.host.is_terminal(1)
            }
        }
    }

    pub(super) fn init_and_terminal(&mut self) {
        let process = &self.unit.process;
        if process.init.value && self.unit.namespaces.pid.value == Mode::Private {
            let by = unspan(&process.init);
            self.always(Step::HideArguments, "the jail could read them of its process 1");
            let security = &self.unit.security;
            let step = Step::Init {
                keep: names::CAP_KILL,
                clear_groups: self.may_set_groups(),
                filtered: security.seccomp.kind != Filtering::Off
                    && security.capabilities.value.0 & names::CAP_SYS_PTRACE != 0,
            };
            self.setting(step, &by, "process.init");
        }
        if self.wants_terminal() {
            let tty = unspan(&self.unit.process.tty);
            self.setting(Step::Terminal, &tty, "process.tty");
        }
    }

    pub(super) fn process_attributes(&mut self) {
        let process = &self.unit.process;
        self.setting(
            Step::SetUmask { mask: process.umask.value.0 & 0o777 },
            &unspan(&process.umask),
            "process.umask",
        );
        let privileged = |planner: &Self, capability: usize| {
            !planner.private_user && planner.host.capabilities() & (1 << capability) != 0
        };
        if let Some(nice) = &process.nice {
            let lowest = self.host.lowest_nice();
            if nice.value < lowest && !privileged(self, 23) {
                let (message, label) = match nice.value < 0 {
                    true => ("a negative `nice` needs CAP_SYS_NICE", "the caller does not have it"),
                    false => (
                        "a `nice` below the caller's own needs CAP_SYS_NICE",
                        &*format!("the caller's is {lowest}"),
                    ),
                };
                self.find(Diagnostic::error("E0309", message).at_maybe(nice.span, label));
            }
            self.setting(Step::SetNice { nice: nice.value }, &unspan(nice), "process.nice");
        }
        if let Some(score) = &process.oom_score_adjust {
            if score.value < 0 && !privileged(self, 24) {
                self.find(
                    Diagnostic::error(
                        "E0309",
                        "a negative `oom-score-adjust` needs CAP_SYS_RESOURCE",
                    )
                    .at_maybe(score.span, "the caller does not have it"),
                );
            }
            let step = Step::SetOomScoreAdjust { score: score.value };
            self.setting(step, &unspan(score), "process.oom-score-adjust");
        }
        if let Some(affinity) = &process.cpu_affinity {
            let online = self
                .host
                .read(Path::new("/sys/devices/system/cpu/online"), 4096)
                .unwrap_or_default();
            let online =
                parse_id_set(String::from_utf8_lossy(&online).trim()).unwrap_or(IdSet(vec![0]));
            if let Some(absent) = affinity.value.0.iter().find(|cpu| !online.0.contains(cpu)) {
                self.find(
                    Diagnostic::error("E0307", format!("this host has no CPU {absent}"))
                        .at_maybe(affinity.span, format!("it has {online}")),
                );
            }
            let step = Step::SetAffinity { cpus: affinity.value.to_string() };
            self.setting(step, &unspan(affinity), "process.cpu-affinity");
        }
    }

    pub(super) fn rlimits(&mut self) {
        let may_raise =
            !self.private_user && self.host.capabilities() & names::CAP_SYS_RESOURCE != 0;
        for setting in &self.unit.limits.rlimits {
            let limit = setting.value;
            let name = &names::RLIMITS[limit.index];
            let ceiling = match self.host.hard_limit(name.number) {
                u64::MAX => Limit::Infinity,
                ceiling => Limit::At(ceiling),
            };
            if setting.span.is_some() && !may_raise && exceeds(limit.hard, ceiling) {
                let ceiling = ceiling.at().unwrap_or(u64::MAX);
                self.find(
                    Diagnostic::error(
                        "E0308",
                        format!("`{}` is above the caller's own hard limit", name.key),
                    )
                    .at_maybe(setting.span, format!("at most {ceiling}"))
                    .help("raising it needs CAP_SYS_RESOURCE"),
                );
            }
            let number = |limit: Limit<u64>| limit.at().unwrap_or(u64::MAX);
            let step = Step::SetRlimit {
                index: limit.index,
                soft: number(limit.soft),
                hard: number(limit.hard),
            };
            self.setting(step, &unspan(setting), "limits.rlimits.core");
        }
    }

    /// Bounds what the init and the command can ever have; returns it.
    pub(super) fn bounding(&mut self) -> u64 {
        let security = &self.unit.security;
        let capabilities = self.grantable(security.capabilities.value.0);
        self.warn_about_capabilities(security.capabilities.value.0);
        // A user namespace starts with the usual ones.
        let bits = if self.private_user { 0 } else { self.host.securebits() };
        if bits != 0 {
            // Every second bit locks the one before it.
            if bits & 0xaaaa_aaaa != 0 {
                self.find(
                    Diagnostic::error("E0309", "the caller's secure bits are locked")
                        .at_maybe(security.capabilities.span, format!("they are {bits:#x}"))
                        .help("`user = \"private\"` in `[namespaces]` starts with others"),
                );
            }
            self.always(Step::ResetSecurebits, "the caller's differ from the usual ones");
        }
        let by = origin(security.capabilities.span, "security.capabilities");
        self.push(Step::LimitCapabilities { keep: capabilities }, by);
        capabilities
    }

    pub(super) fn privileges(&mut self, user: &User, capabilities: u64) {
        let security = &self.unit.security;
        let ambient = security.ambient_capabilities.value.0;
        let by = origin(security.capabilities.span, "security.capabilities");
        let sets_groups = self.may_set_groups();
        let groups = sets_groups.then(|| user.groups.clone());
        let process = &self.unit.process;
        let span = process
            .user
            .span
            .or(process.group.as_ref().and_then(|group| group.span))
            .or(process.supplementary_groups.span);
        self.push(
            Step::SetIds { uid: user.uid, gid: user.gid, groups },
            origin(span, "process.user"),
        );
        // Another user than root keeps through execve what is ambient.
        let permitted = if user.uid == 0 { capabilities } else { ambient };
        let moment = self.seccomp_moment(permitted);
        if moment == Moment::Privileged {
            self.seccomp(moment, capabilities, permitted | ambient);
        }
        self.push(Step::SetCapabilities { permitted, ambient }, by);
        // Before the working directory: no descriptor may lead it astray.
        let pass = &self.unit.process.pass_fds;
        self.setting(
            Step::CloseFds { keep: pass.value.clone() },
            &unspan(pass),
            "process.pass-fds",
        );
        let cwd = &self.unit.process.cwd;
        if self.view.is_of_process(&cwd.value.0) {
            let message = format!("`{}` is of one process", cwd.value.0.display());
            self.find(
                Diagnostic::error("E0321", message)
                    .at_maybe(cwd.span, "lies in what one process has in `/proc`"),
            );
        }
        self.setting(
            Step::ChangeDirectory { path: cwd.value.0.clone() },
            &unspan(cwd),
            "process.cwd",
        );
        let no_new = &security.no_new_privileges;
        if no_new.value {
            self.setting(Step::NoNewPrivileges, &unspan(no_new), "security.no-new-privileges");
        }
        if moment == Moment::Last {
            self.seccomp(moment, capabilities, 0);
        }
    }

    /// "all" is all that the caller has; a name that the caller does not have
    /// is an error. In a user namespace of its own the jail starts with all.
    fn grantable(&mut self, wanted: u64) -> u64 {
        let own = if self.private_user { u64::MAX } else { self.host.capabilities() };
        if wanted == names::ALL_CAPABILITIES {
            return wanted & own;
        }
        if wanted & !own != 0 {
            let words: Vec<_> = names::capability_words(wanted & !own)
                .map(|word| format!("CAP_{}", word.to_uppercase()))
                .collect();
            self.find(
                Diagnostic::error("E0309", "a capability that the caller does not have")
                    .at_maybe(self.unit.security.capabilities.span, words.join(", ")),
            );
        }
        wanted
    }

    fn warn_about_capabilities(&mut self, granted: u64) {
        let span = self.unit.security.capabilities.span;
        let is_all = granted == names::ALL_CAPABILITIES;
        if self.opens_trees && granted & names::CAP_SYS_ADMIN != 0 {
            let what = "CAP_SYS_ADMIN makes writable again what was mounted read-only for the jail";
            self.find(
                Diagnostic::warning("W0014", what)
                    .at_maybe(span, "granted here")
                    .help("files that must not change need an owner outside of the map"),
            );
        }
        // In a user namespace of its own, capabilities reach no further.
        if self.private_user {
            return;
        }
        for (number, what) in names::DANGEROUS_CAPABILITIES {
            let in_preset = names::DEFAULT_CAPABILITIES & (1 << number) != 0;
            if granted & (1 << number) != 0 && !is_all && !in_preset {
                self.find(
                    Diagnostic::warning(
                        "W0003",
                        format!("{} {what}", names::CAPABILITIES[*number]),
                    )
                    .at_maybe(span, "granted here"),
                );
            }
        }
        if is_all {
            self.find(
                Diagnostic::warning("W0003", "with every capability the jail is no boundary")
                    .at_maybe(span, "root inside is root outside"),
            );
        }
    }
}
