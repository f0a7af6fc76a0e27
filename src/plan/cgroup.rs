//! Limits: which control groups to make, which files to write, in the words of
//! the hierarchy that has the controller.
//!
//! The unit speaks cgroup v2. Where a controller is mounted as v1, the same
//! limit is translated to v1's files, and what v1 cannot do is said.
//! See cgroups(7) and the kernel's `cgroup-v2.rst` and `cgroup-v1/`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Planner;
use super::step::{Origin, Planned, Step};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, Kind, Questions};
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::limits::{BlkioDevice, CpuWeight, Limits, OnMissing};
use crate::unit::value::{IdSet, Limit, Memory, parse_id_set};

/// One mounted hierarchy, and the caller's group in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Directory of the caller's own group.
    pub own: PathBuf,
    /// v1: its controllers. v2 says them in `cgroup.controllers`.
    pub controllers: Vec<String>,
}

/// The control groups of a host, from `/proc/self/cgroup`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// Hierarchies of version 1.
    pub v1: Vec<Hierarchy>,
    /// The hierarchy of version 2.
    pub v2: Option<Hierarchy>,
}

impl Layout {
    /// Asks this machine.
    pub fn read(questions: &Questions) -> Self {
        let text = |path: &str| {
            let text = std::fs::read_to_string(path);
            questions.ask(|| format!("what this file holds: `{path}`"), text).unwrap_or_default()
        };
        let exists = |path: &Path| {
            let answer = path.try_exists();
            questions
                .ask(|| format!("whether there is `{}`", path.display()), answer)
                .unwrap_or(false)
        };
        let own = text("/proc/self/cgroup");
        // Nothing can be known of a host without its /proc, not even what it
        // lacks.
        if own.is_empty() && !exists(Path::new("/proc/self/mountinfo")) {
            questions.refuse("anything: its /proc is not mounted", "no such file");
        }
        // The usual mount points are tried before mountinfo is read: it has a
        // line for every mount of the host.
        let usual = Self::parse(&own, |controllers| {
            let root = Path::new("/sys/fs/cgroup");
            match controllers {
                [] if exists(&root.join("cgroup.controllers")) => Some((root.into(), "/".into())),
                [] => Some((root.join("unified"), "/".into())),
                _ => Some((root.join(controllers.join(",")), "/".into())),
            }
        });
        let mut all = usual.v1.iter().chain(&usual.v2);
        if all.all(|hierarchy| exists(&hierarchy.own.join("cgroup.procs"))) {
            return usual;
        }
        let mounts = text("/proc/self/mountinfo");
        let mut layout = Self::parse(&own, |controllers| find_mount(&mounts, controllers));
        layout.v1.retain(|hierarchy| exists(&hierarchy.own.join("cgroup.procs")));
        layout.v2 = layout.v2.filter(|hierarchy| exists(&hierarchy.own.join("cgroup.procs")));
        layout
    }

    /// Reads `/proc/self/cgroup`; `mount` finds the mount point of a set of
    /// controllers and the group that is mounted there.
    fn parse(own: &str, mount: impl Fn(&[&str]) -> Option<(PathBuf, PathBuf)>) -> Self {
        let mut layout = Self::default();
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            if controllers.starts_with("name=") {
                continue;
            }
            let controllers: Vec<&str> = controllers.split(',').filter(|c| !c.is_empty()).collect();
            let Some((mount, root)) = mount(&controllers) else { continue };
            // A container sees its own group mounted: the path starts there.
            let Ok(below) = Path::new(path).strip_prefix(&root) else { continue };
            let own = if below.as_os_str().is_empty() { mount.clone() } else { mount.join(below) };
            let controllers: Vec<String> = controllers.into_iter().map(str::to_owned).collect();
            let is_v2 = controllers.is_empty();
            let hierarchy = Hierarchy { mount, own, controllers };
            if is_v2 {
                layout.v2 = Some(hierarchy);
            } else {
                layout.v1.push(hierarchy);
            }
        }
        layout
    }
}

fn find_mount(mountinfo: &str, controllers: &[&str]) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (head, tail) = line.split_once(" - ")?;
        let mut head = head.split(' ').skip(3);
        let (root, target) = (head.next()?, head.next()?);
        let mut tail = tail.split(' ');
        let (fstype, options) = (tail.next()?, tail.nth(1)?);
        let matches = match controllers {
            [] => fstype == "cgroup2",
            _ => {
                fstype == "cgroup"
                    && controllers.iter().all(|c| options.split(',').any(|o| o == *c))
            }
        };
        matches.then(|| (target.into(), root.into()))
    })
}

/// A file to write.
#[derive(Clone, Debug)]
struct Write {
    file: String,
    value: String,
    /// Words that a line of the file must hold afterwards.
    expect: String,
}

impl Write {
    fn new(file: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        Self { file: file.to_owned(), expect: value.clone(), value }
    }
}

/// One limit in both versions' words.
#[derive(Debug)]
struct Want {
    key: &'static str,
    span: Option<Span>,
    controller: &'static str,
    v1: Result<Vec<Write>, &'static str>,
    v2: Vec<Write>,
}

/// What planning the limits gives.
#[derive(Debug, Default)]
pub struct Groups {
    /// Steps before the clone.
    pub create: Vec<Planned>,
    /// v2 group that the jail is born in.
    pub v2: Option<PathBuf>,
    /// v1 groups that the jail joins.
    pub join: Vec<Planned>,
}

/// A limit that is left out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The key.
    pub key: &'static str,
    /// The reason.
    pub reason: String,
}

impl<H: Host> Planner<'_, H> {
    /// Plans `[limits]` but for the rlimits.
    pub(super) fn groups(&mut self) -> Groups {
        let limits = &self.unit.limits;
        let wants = self.wants(limits);
        let has_pid_namespace =
            self.unit.namespaces.pid.value == crate::unit::namespaces::Mode::Private;
        let mut v1: Vec<(usize, Vec<(Write, Origin)>)> = Vec::new();
        let mut v2: Vec<V2Want> = Vec::new();
        let needs_groups = !wants.is_empty() || !has_pid_namespace;
        let layout = match needs_groups || self.device_layers().is_some() {
            true => self.host.cgroups().clone(),
            false => Layout::default(),
        };
        let v2_controllers =
            layout.v2.as_ref().map(|v2| self.words(&v2.own.join("cgroup.controllers")));
        for want in wants {
            let origin = match want.span {
                Some(span) => Origin::Key(span),
                None => Origin::Default(want.key),
            };
            let hierarchy = layout
                .v1
                .iter()
                .position(|hierarchy| hierarchy.controllers.iter().any(|c| c == want.controller));
            let in_v2 = v2_controllers.as_ref().is_some_and(|controllers| {
                controllers.iter().any(|c| c == v2_name(want.controller))
            });
            if let Some(index) = hierarchy {
                if !self.host.may_write(&layout.v1[index].own) {
                    self.missing(want.key, want.span, Reason::NotDelegated);
                    continue;
                }
                match want.v1 {
                    Ok(writes) => {
                        let writes = writes.into_iter().map(|write| (write, origin));
                        match v1.iter_mut().find(|(known, _)| *known == index) {
                            Some((_, list)) => list.extend(writes),
                            None => v1.push((index, writes.collect())),
                        }
                    }
                    Err(reason) => self.missing(want.key, want.span, Reason::Version1(reason)),
                }
            } else if in_v2 {
                let (key, controller) = (want.key, v2_name(want.controller));
                v2.push(V2Want { key, controller, writes: want.v2, origin });
            } else if layout.v1.is_empty() && layout.v2.is_none() {
                self.missing(want.key, want.span, Reason::NoGroups);
            } else {
                self.missing(want.key, want.span, Reason::NoController(want.controller));
            }
        }
        self.weights_exist(&layout, &mut v1);
        let mut groups = Groups::default();
        let name = format!("jailrun-{}", self.unit.name.value);
        for (index, writes) in v1 {
            let directory = layout.v1[index].own.join(&name);
            self.v1_group(directory, &layout.v1[index].own, writes, &mut groups);
        }
        if !v2.is_empty()
            && let Some(hierarchy) = &layout.v2
        {
            self.v2_group(hierarchy, &name, v2, &mut groups);
        }
        self.device_group(&layout, &name, &mut groups);
        if !has_pid_namespace && groups.create.is_empty() {
            self.kill_group(&layout, &name, &mut groups);
        }
        groups
    }

    /// Without a pid namespace of its own and without limits, a group is what
    /// holds the jail's processes together, so that all of them can be ended.
    fn kill_group(&self, layout: &Layout, name: &str, groups: &mut Groups) {
        const REASON: &str =
            "without a pid namespace, the group is how every process of the jail is ended";
        let origin = Origin::Always(REASON);
        if let Some(v2) = layout.v2.as_ref().filter(|v2| self.host.may_write(&v2.own)) {
            let directory = v2.own.join(name);
            groups.create.push(Planned {
                step: Step::CreateCgroup { directory: directory.clone() },
                origin,
            });
            groups.v2 = Some(directory);
            return;
        }
        let freezer = layout.v1.iter().find(|hierarchy| {
            hierarchy.controllers.iter().any(|c| c == "freezer")
                && self.host.may_write(&hierarchy.own)
        });
        if let Some(freezer) = freezer {
            let directory = freezer.own.join(name);
            groups.create.push(Planned {
                step: Step::CreateCgroup { directory: directory.clone() },
                origin,
            });
            groups.join.push(Planned { step: Step::JoinCgroup { directory }, origin });
        }
    }

    fn v1_group(
        &self,
        directory: PathBuf,
        parent: &Path,
        mut writes: Vec<(Write, Origin)>,
        groups: &mut Groups,
    ) {
        let first = writes
            .first()
            .map_or(Origin::Always("the group that holds the limits"), |(_, origin)| *origin);
        groups.create.push(Planned {
            step: Step::CreateCgroup { directory: directory.clone() },
            origin: first,
        });
        // A v1 cpuset starts empty, and takes no process before both lists are set.
        if writes.iter().any(|(write, _)| write.file.starts_with("cpuset.")) {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if writes.iter().all(|(write, _)| write.file != file) {
                    let inherited = self.first_line(&parent.join(file));
                    writes.push((
                        Write::new(file, inherited),
                        Origin::Always(
                            "a v1 cpuset starts empty: what the unit leaves open is the caller's",
                        ),
                    ));
                }
            }
        }
        let watches_oom = self.unit.limits.oom_group.value
            && writes.iter().any(|(write, _)| write.file == "memory.limit_in_bytes");
        for (write, origin) in writes {
            groups.create.push(Planned {
                step: Step::SetLimit {
                    file: directory.join(&write.file),
                    value: write.value,
                    expect: write.expect,
                },
                origin,
            });
        }
        if watches_oom {
            let origin = match self.unit.limits.oom_group.span {
                Some(span) => Origin::Key(span),
                None => Origin::Default("limits.oom-group"),
            };
            groups
                .create
                .push(Planned { step: Step::KillOnOom { directory: directory.clone() }, origin });
        }
        groups.join.push(Planned { step: Step::JoinCgroup { directory }, origin: first });
    }

    fn v2_group(
        &mut self,
        hierarchy: &Hierarchy,
        name: &str,
        wants: Vec<V2Want>,
        groups: &mut Groups,
    ) {
        let mut needed: Vec<&'static str> = wants.iter().map(|want| want.controller).collect();
        needed.sort_unstable();
        needed.dedup();
        let parent = match self.v2_parent(hierarchy, &needed) {
            Ok(parent) => parent,
            Err(reason) => {
                for want in wants {
                    let span = match want.origin {
                        Origin::Key(span) => Some(span),
                        _ => None,
                    };
                    self.missing(want.key, span, reason);
                }
                return;
            }
        };
        let always = |step, reason| Planned { step, origin: Origin::Always(reason) };
        if let Some(leaf) = parent.leaf {
            groups.create.push(always(
                Step::MoveSupervisor { directory: leaf },
                "a v2 group holds processes or hands out controllers, never both",
            ));
        }
        if !parent.enable.is_empty() {
            groups.create.push(always(
                Step::EnableControllers {
                    directory: parent.directory.clone(),
                    controllers: parent.enable,
                },
                "a v2 group has the controllers that its parent hands out",
            ));
        }
        let directory = parent.directory.join(name);
        let first = wants
            .first()
            .map_or(Origin::Always("the group that holds the limits"), |want| want.origin);
        groups.create.push(Planned {
            step: Step::CreateCgroup { directory: directory.clone() },
            origin: first,
        });
        for V2Want { writes, origin, .. } in wants {
            for write in writes {
                groups.create.push(Planned {
                    step: Step::SetLimit {
                        file: directory.join(&write.file),
                        value: write.value,
                        expect: write.expect,
                    },
                    origin,
                });
            }
        }
        groups.v2 = Some(directory);
    }

    /// Which v2 group to make the jail's group in: the caller's own where it
    /// is delegated, else the nearest above that hands out the controllers, so
    /// that the limits the caller is under hold for the jail.
    fn v2_parent(
        &self,
        hierarchy: &Hierarchy,
        needed: &[&'static str],
    ) -> Result<V2Parent, Reason> {
        let has = |directory: &Path| {
            let handed_out = self.words(&directory.join("cgroup.subtree_control"));
            needed
                .iter()
                .copied()
                .filter(|need| !handed_out.iter().any(|c| c == need))
                .collect::<Vec<_>>()
        };
        let own = &hierarchy.own;
        let (uid, _) = self.host.ids();
        let at_top = *own == hierarchy.mount;
        let missing = has(own);
        if missing.is_empty() && self.host.may_write(own) {
            return Ok(V2Parent { directory: own.clone(), enable: Vec::new(), leaf: None });
        }
        if at_top {
            // The topmost group may hold processes and hand out controllers.
            return if self.host.may_write(own) {
                Ok(V2Parent { directory: own.clone(), enable: missing, leaf: None })
            } else {
                Err(Reason::NotDelegated)
            };
        }
        if self.host.is_delegated(own) {
            let processes = self.words(&own.join("cgroup.procs"));
            if processes.len() > 1 {
                return Err(Reason::SharedGroup);
            }
            return Ok(V2Parent {
                directory: own.clone(),
                enable: missing,
                leaf: Some(own.join(SUPERVISOR)),
            });
        }
        if uid != 0 {
            return Err(Reason::NotDelegated);
        }
        for ancestor in own.ancestors().skip(1) {
            if !ancestor.starts_with(&hierarchy.mount) {
                break;
            }
            let missing = has(ancestor);
            if missing.is_empty() || ancestor == hierarchy.mount {
                return Ok(V2Parent {
                    directory: ancestor.to_owned(),
                    enable: missing,
                    leaf: None,
                });
            }
        }
        Err(Reason::NotDelegated)
    }

    fn words(&self, file: &Path) -> Vec<String> {
        let content = self.host.read(file, 65_536).unwrap_or_default();
        String::from_utf8_lossy(&content).split_whitespace().map(str::to_owned).collect()
    }

    fn first_line(&self, file: &Path) -> String {
        let content = self.host.read(file, 65_536).unwrap_or_default();
        String::from_utf8_lossy(&content).lines().next().unwrap_or("").trim().to_owned()
    }

    /// Deals with a limit that cannot be set, as `on-missing` says.
    pub(super) fn missing(&mut self, key: &'static str, span: Option<Span>, reason: Reason) {
        let text = reason.text();
        let short = key.strip_prefix("limits.").unwrap_or(key);
        // A default that was never asked for gives way; the reports say so.
        let Some(span) = span else {
            self.left_out.push(LeftOut { key, reason: text });
            return;
        };
        if self.unit.limits.on_missing.value == OnMissing::Skip {
            self.left_out.push(LeftOut { key, reason: text });
            return;
        }
        match self.missing_limits.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, keys)) => keys.push((short, span)),
            None => self.missing_limits.push((reason, vec![(short, span)])),
        }
    }

    /// Tells which limits cannot be set, those with one reason together.
    pub(super) fn say_missing(&mut self) {
        for (reason, mut keys) in std::mem::take(&mut self.missing_limits) {
            keys.sort_by_key(|(_, span)| *span);
            let names: Vec<_> = keys.iter().map(|(key, _)| format!("`{key}`")).collect();
            let names = names.join(", ");
            let asks_to_warn = self.unit.limits.on_missing.value == OnMissing::Error;
            let diagnostic = match (asks_to_warn, &keys[..]) {
                (true, _) => {
                    Diagnostic::error("E0308", format!("{names} cannot be set on this host"))
                }
                (false, [_]) => Diagnostic::warning("W0004", format!("{names} is left out")),
                (false, _) => Diagnostic::warning("W0004", format!("{names} are left out")),
            };
            let diagnostic = keys[1..]
                .iter()
                .fold(diagnostic.at(keys[0].1, reason.text()), |diagnostic, (_, span)| {
                    diagnostic.context(Some(*span), "neither this")
                });
            self.findings.push(match reason.help(asks_to_warn, keys.len()) {
                Some(help) => diagnostic.help(help),
                None => diagnostic,
            });
        }
    }

    fn wants(&mut self, limits: &Limits) -> Vec<Want> {
        let mut wants = Vec::new();
        let memory_of = |memory: Memory, page: u64, total: u64| {
            let bytes = match memory {
                Memory::Bytes(bytes) => bytes,
                Memory::Percent(percent) => {
                    let share = u128::from(total) * u128::from(percent) / 100;
                    u64::try_from(share).unwrap_or(u64::MAX)
                }
            };
            // The kernel counts pages and rounds down.
            bytes & !(page - 1)
        };
        let page = self.host.page_size();
        let total = match [&limits.memory, &limits.memory_high, &limits.memory_low, &limits.swap]
            .into_iter()
            .flatten()
            .any(|setting| matches!(setting.value, Limit::At(Memory::Percent(_))))
        {
            true => self.host.memory(),
            false => 0,
        };
        let at = |setting: &Option<Setting<Limit<Memory>>>| {
            setting.as_ref().and_then(|setting| {
                Some((memory_of(setting.value.at()?, page, total), setting.span))
            })
        };
        let memory = at(&limits.memory);
        if let Some((bytes, span)) = memory {
            let mut v2 = vec![Write::new("memory.max", bytes)];
            if limits.oom_group.value {
                v2.push(Write::new("memory.oom.group", 1));
            }
            wants.push(Want {
                key: "limits.memory",
                span,
                controller: "memory",
                v1: Ok(vec![Write::new("memory.limit_in_bytes", bytes)]),
                v2,
            });
        }
        // Sizes have been compared while reading; shares become sizes here.
        for (name, lower) in
            [("memory-high", at(&limits.memory_high)), ("memory-low", at(&limits.memory_low))]
        {
            if let (Some((memory, memory_at)), Some((lower, lower_at))) = (memory, lower)
                && lower > memory
                && total > 0
            {
                self.findings.push(
                    Diagnostic::error("E0203", format!("`{name}` is above `memory`"))
                        .at_maybe(lower_at, "never reached")
                        .context(memory_at, "the limit"),
                );
            }
        }
        if let Some((bytes, span)) = at(&limits.memory_high) {
            wants.push(Want {
                key: "limits.memory-high",
                span,
                controller: "memory",
                v1: Err("cgroup v1 cannot throttle above an amount of memory"),
                v2: vec![Write::new("memory.high", bytes)],
            });
        }
        if let Some((bytes, span)) = at(&limits.memory_low).filter(|(bytes, _)| *bytes > 0) {
            wants.push(Want {
                key: "limits.memory-low",
                span,
                controller: "memory",
                v1: Err("cgroup v1 cannot spare memory from reclaim"),
                v2: vec![Write::new("memory.low", bytes)],
            });
        }
        if let Some((bytes, span)) = at(&limits.swap) {
            wants.push(Want {
                key: "limits.swap",
                span,
                controller: "memory",
                v1: match memory {
                    Some((memory, _)) => Ok(vec![Write::new(
                        "memory.memsw.limit_in_bytes",
                        memory.saturating_add(bytes),
                    )]),
                    None => Err(SWAP_ALONE),
                },
                v2: vec![Write::new("memory.swap.max", bytes)],
            });
        }
        self.cpu_wants(limits, &mut wants);
        if let Limit::At(pids) = limits.pids.value {
            let has_init =
                self.unit.process.init.value && self.is_private(&self.unit.namespaces.pid);
            if pids == 1 && has_init {
                self.find(
                    Diagnostic::error("E0203", "`pids = 1` leaves no room for the command")
                        .at_maybe(limits.pids.span, "jailrun's init is the one")
                        .help("`pids = 2`, or `init = false` in `[process]`"),
                );
            }
            let write = vec![Write::new("pids.max", pids)];
            wants.push(Want {
                key: "limits.pids",
                span: limits.pids.span,
                controller: "pids",
                v1: Ok(write.clone()),
                v2: write,
            });
        }
        self.blkio_wants(limits, &mut wants);
        wants
    }

    fn cpu_wants(&mut self, limits: &Limits, wants: &mut Vec<Want>) {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        if let Some(Setting { value: Limit::At(cpu), span }) = &limits.cpu {
            let period = micros(limits.cpu_period.value);
            let quota = cpu.0.saturating_mul(period) / 1000;
            // The period first: the kernel checks the quota against it.
            let mut v1 = vec![
                Write::new("cpu.cfs_period_us", period),
                Write::new("cpu.cfs_quota_us", quota),
            ];
            let mut v2 = vec![Write::new("cpu.max", format!("{quota} {period}"))];
            if let Some(burst) = limits.cpu_burst.as_ref().filter(|burst| !burst.value.is_zero()) {
                v1.push(Write::new("cpu.cfs_burst_us", micros(burst.value)));
                v2.push(Write::new("cpu.max.burst", micros(burst.value)));
            }
            wants.push(Want { key: "limits.cpu", span: *span, controller: "cpu", v1: Ok(v1), v2 });
        }
        if let Some(Setting { value, span }) = limits.cpu_weight {
            let (shares, weight) = match value {
                // 100 in v2 is 1024 in v1.
                CpuWeight::Weight(weight) => ((weight * 1024 / 100).clamp(2, 262_144), weight),
                // The conversion that the OCI runtimes share.
                CpuWeight::Shares(shares) => (shares, 1 + (shares - 2) * 9999 / 262_142),
            };
            wants.push(Want {
                key: "limits.cpu-weight",
                span,
                controller: "cpu",
                v1: Ok(vec![Write::new("cpu.shares", shares)]),
                v2: vec![Write::new("cpu.weight", weight)],
            });
        }
        let sets = [
            (
                "limits.cpuset",
                &limits.cpuset,
                "cpuset.cpus",
                "/sys/devices/system/cpu/online",
                "CPU",
            ),
            (
                "limits.cpuset-mems",
                &limits.cpuset_mems,
                "cpuset.mems",
                "/sys/devices/system/node/online",
                "memory node",
            ),
        ];
        for (key, setting, file, online, what) in sets {
            let Some(Setting { value, span }) = setting else { continue };
            let there = parse_id_set(&self.first_line(Path::new(online))).unwrap_or(IdSet(vec![0]));
            if let Some(absent) = value.0.iter().find(|id| !there.0.contains(id)) {
                self.findings.push(
                    Diagnostic::error("E0307", format!("this host has no {what} {absent}"))
                        .at_maybe(*span, format!("it has {there}")),
                );
                continue;
            }
            let writes = vec![Write::new(file, value)];
            wants.push(Want {
                key,
                span: *span,
                controller: "cpuset",
                v1: Ok(writes.clone()),
                v2: writes,
            });
        }
    }

    fn blkio_wants(&mut self, limits: &Limits, wants: &mut Vec<Want>) {
        if let Some(weight) = &limits.blkio.weight {
            wants.push(Want {
                key: "limits.blkio.weight",
                span: weight.span,
                controller: "blkio",
                v1: Ok(vec![Write::new("blkio.bfq.weight", bfq_weight(weight.value))]),
                v2: vec![Write {
                    expect: weight.value.to_string(),
                    ..Write::new("io.weight", format!("default {}", weight.value))
                }],
            });
        }
        for device in &limits.blkio.devices {
            let Some((major, minor)) = self.block_device(device) else { continue };
            let number = format!("{major}:{minor}");
            let rates = [
                ("rbps", "blkio.throttle.read_bps_device", device.read_bps),
                ("wbps", "blkio.throttle.write_bps_device", device.write_bps),
                ("riops", "blkio.throttle.read_iops_device", device.read_iops),
                ("wiops", "blkio.throttle.write_iops_device", device.write_iops),
            ];
            let mut v1 = Vec::new();
            let mut words = String::new();
            for (word, file, limit) in rates {
                if let Some(Limit::At(limit)) = limit {
                    v1.push(Write::new(file, format!("{number} {limit}")));
                    words.push_str(&format!(" {word}={limit}"));
                }
            }
            let mut v2 = Vec::new();
            if !words.is_empty() {
                v2.push(Write::new("io.max", format!("{number}{words}")));
                if self.host.cgroups().v1.iter().any(|h| h.controllers.iter().any(|c| c == "blkio"))
                    && (matches!(device.write_bps, Some(Limit::At(_)))
                        || matches!(device.write_iops, Some(Limit::At(_))))
                {
                    self.findings.push(
                        Diagnostic::warning(
                            "W0006",
                            "cgroup v1 slows down direct and synchronous writes only",
                        )
                        .at_maybe(
                            device.path.span,
                            "buffered writes to this device are not limited",
                        ),
                    );
                }
            }
            let key = "limits.blkio.devices";
            let (span, controller) = (device.path.span, "blkio");
            if !v2.is_empty() {
                wants.push(Want { key, span, controller, v1: Ok(v1), v2 });
            }
            if let Some(weight) = device.weight {
                let v1 = match self.has_bfq(&number) {
                    true => Ok(vec![Write::new(
                        "blkio.bfq.weight_device",
                        format!("{number} {}", bfq_weight(weight)),
                    )]),
                    false => Err("the disk has another scheduler than BFQ, which keeps weights"),
                };
                let v2 = vec![Write::new("io.weight", format!("{number} {weight}"))];
                wants.push(Want { key, span, controller, v1, v2 });
            }
        }
    }

    /// Whether a disk's scheduler keeps weights, as far as the host says.
    fn has_bfq(&self, number: &str) -> bool {
        let file = format!("/sys/dev/block/{number}/queue/scheduler");
        let found = self.host.read_following(Path::new(&file), 4096).unwrap_or_default();
        found.is_empty() || String::from_utf8_lossy(&found).contains("[bfq]")
    }

    /// v1 has files for weights only while the BFQ scheduler is there.
    fn weights_exist(&mut self, layout: &Layout, v1: &mut [(usize, Vec<(Write, Origin)>)]) {
        for (index, writes) in v1 {
            let own = &layout.v1[*index].own;
            // The topmost group has no weight: its children may.
            if *own == layout.v1[*index].mount {
                continue;
            }
            let absent = |write: &Write| {
                write.file.starts_with("blkio.bfq.weight")
                    && self.host.look(&own.join(&write.file)).is_err()
            };
            let spans: Vec<_> = writes
                .iter()
                .filter(|(write, _)| absent(write))
                .map(|(_, origin)| match origin {
                    Origin::Key(span) => Some(*span),
                    _ => None,
                })
                .collect();
            writes.retain(|(write, _)| !absent(write));
            for span in spans {
                self.missing("limits.blkio.weight", span, Reason::NoScheduler);
            }
        }
    }

    /// The whole disk behind a device, a number or any path.
    fn block_device(&mut self, device: &BlkioDevice) -> Option<(u32, u32)> {
        let Setting { value: text, span } = &device.path;
        let refuse = |label: String| {
            Diagnostic::error("E0302", format!("`{text}` does not lead to a block device"))
                .at_maybe(*span, label)
        };
        let number = match parse_device_number(text) {
            Some(number) => number,
            None => {
                let path = crate::unit::value::HostPath(text.into()).resolve(&self.unit.base);
                let found = self.host.canonical(&path);
                match found {
                    Ok((_, Kind::Block(major, minor))) => (major, minor),
                    Ok((_, Kind::Character(..))) => {
                        self.findings.push(refuse("it is a character device".to_owned()));
                        return None;
                    }
                    Ok((path, _)) => match self.host.device_of(&path) {
                        Ok(number) => number,
                        Err(error) => {
                            self.findings.push(refuse(crate::unit::io_reason(&error)));
                            return None;
                        }
                    },
                    Err(error) => {
                        self.findings.push(refuse(crate::unit::io_reason(&error)));
                        return None;
                    }
                }
            }
        };
        let (major, minor) = number;
        let Ok((sysfs, _)) =
            self.host.canonical(Path::new(&format!("/sys/dev/block/{major}:{minor}")))
        else {
            let label = format!("its file system has no disk behind it (device {major}:{minor})");
            self.findings.push(refuse(label));
            return None;
        };
        // The controllers know whole disks only.
        if self.host.look(&sysfs.join("partition")).is_ok()
            && let Some(disk) = sysfs.parent()
        {
            return parse_device_number(&self.first_line(&disk.join("dev")));
        }
        Some(number)
    }
}

fn parse_device_number(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v2's 1 to 10000 in BFQ's 1 to 1000, with 100 in the middle of both.
fn bfq_weight(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 900 / 9900 }
}

fn v2_name(controller: &'static str) -> &'static str {
    if controller == "blkio" { "io" } else { controller }
}

/// Group of jailrun itself in a delegated one; no jail can have this name.
const SUPERVISOR: &str = "_jailrun";

/// A limit that a v2 group is to keep.
#[derive(Debug)]
struct V2Want {
    key: &'static str,
    controller: &'static str,
    writes: Vec<Write>,
    origin: Origin,
}

struct V2Parent {
    directory: PathBuf,
    enable: Vec<&'static str>,
    leaf: Option<PathBuf>,
}

/// The one reason of cgroup v1 that the unit itself can settle.
const SWAP_ALONE: &str = "cgroup v1 limits the sum of memory and swap: it needs `memory` too";

/// Why a limit cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    NoGroups,
    NoController(&'static str),
    NotDelegated,
    NotRoot,
    SharedGroup,
    Version1(&'static str),
    NoScheduler,
}

impl Reason {
    fn text(self) -> String {
        match self {
            Self::NoGroups => "this host has no control groups".to_owned(),
            Self::NoController(controller) => format!("this host has no `{controller}` controller"),
            Self::NotDelegated => "the caller may not make control groups here".to_owned(),
            Self::NotRoot => "only root of the host sets which devices open".to_owned(),
            Self::SharedGroup => "the caller's control group holds other processes too".to_owned(),
            Self::Version1(reason) => reason.to_owned(),
            Self::NoScheduler => "the BFQ scheduler, which keeps weights, is not there".to_owned(),
        }
    }

    fn help(self, asks_to_warn: bool, keys: usize) -> Option<String> {
        let delegated = "run it in a delegated group, `systemd-run --user --scope -p Delegate=yes jailrun up …`";
        match self {
            Self::NotDelegated | Self::SharedGroup if asks_to_warn => {
                Some(format!("{delegated}, or set `on-missing = \"warn\"`"))
            }
            Self::NotDelegated | Self::SharedGroup => Some(delegated.to_owned()),
            Self::Version1(SWAP_ALONE) => Some("set `memory` as well".to_owned()),
            _ => asks_to_warn.then(|| {
                let what = if keys == 1 { "it" } else { "them" };
                format!("`on-missing = \"warn\"` launches without {what}")
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_of_hybrid_and_unified_hosts() {
        let hybrid = "8:pids:/\n4:cpu,cpuacct:/user/a\n9:name=systemd:/\n0::/x\n";
        let layout = Layout::parse(hybrid, |controllers| {
            Some((Path::new("/cg").join(controllers.join(",")), "/".into()))
        });
        assert_eq!(layout.v1.len(), 2);
        assert_eq!(layout.v1[0].own, Path::new("/cg/pids"));
        assert_eq!(layout.v1[1].own, Path::new("/cg/cpu,cpuacct/user/a"));
        assert_eq!(layout.v2.unwrap().own, Path::new("/cg/x"));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_mounts_root() {
        let info = "30 24 0:26 /docker/abc /sys/fs/cgroup/pids ro - cgroup cgroup rw,pids\n";
        let layout = Layout::parse("3:pids:/docker/abc/inner\n", |controllers| {
            find_mount(info, controllers)
        });
        assert_eq!(layout.v1[0].own, Path::new("/sys/fs/cgroup/pids/inner"));
    }

    #[test]
    fn weights_meet_in_the_middle() {
        assert_eq!(bfq_weight(1), 1);
        assert_eq!(bfq_weight(100), 100);
        assert_eq!(bfq_weight(10_000), 1000);
    }
}
