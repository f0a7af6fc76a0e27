//! What the jail could still do: each opening that the facts show, with its
//! weight and the key that closes it.

use std::path::{Path, PathBuf};

use super::facts::{Content, Facts, Inner, Place, READ_FILE, WRITE_FILE};
use super::weights::{self, Weight};
use crate::host::Host;
use crate::names;
use crate::plan::danger::{ENGINE_SOCKETS, Reason};
use crate::plan::mounts::{MASKED, PROTECTED};
use crate::plan::step::{Namespace, Origin, Propagation};
use crate::seccomp::{Filter, Preset};

/// One opening.
#[derive(Debug)]
pub struct Finding {
    /// How much it weighs.
    pub weight: &'static Weight,
    /// What the jail could do: continues "it".
    pub what: String,
    /// The key that closes it, dotted.
    pub key: &'static str,
    /// What to write there.
    pub close: String,
    /// What opened it, where a step did.
    pub origin: Option<Origin>,
}

/// Directories that the host runs programs or reads settings from.
const SYSTEM: &[&str] = &[
    "/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/opt", "/root", "/sbin", "/usr", "/var",
];

/// `CAP_MKNOD`.
const MKNOD: usize = 27;

/// Directories of programs, which everybody may read and most hosts share.
const PROGRAMS: &[&str] = &["/bin", "/lib", "/lib32", "/lib64", "/libx32", "/sbin", "/usr"];

/// Every opening, heaviest first; equal ones in the order found.
pub fn find(facts: &Facts, host: &impl Host) -> Vec<Finding> {
    let mut findings = Findings { facts, list: Vec::new() };
    findings.namespaces();
    findings.identity();
    findings.calls();
    findings.root();
    for place in facts.places.iter() {
        findings.place(place);
    }
    findings.inner();
    findings.devices();
    findings.home(host);
    findings.kernel(host);
    findings.limits();
    findings.surroundings();
    findings.list.sort_by(|one, other| other.weight.chance.total_cmp(&one.weight.chance));
    findings.list
}

/// The figure from 0 to 10: ten times the chance that one of the openings is
/// enough, rounded as it is printed.
pub fn exposure(findings: &[Finding]) -> f64 {
    let holds: f64 = findings.iter().map(|finding| 1.0 - finding.weight.chance).product();
    ((1.0 - holds) * 100.0).round() / 10.0
}

/// Where the caller's files are.
pub fn home(host: &impl Host) -> Option<PathBuf> {
    host.variable("HOME").filter(|home| home.starts_with('/') && home != "/").map(PathBuf::from)
}

/// Whether the home can be read through what is in the jail.
pub fn reads_home(facts: &Facts, host: &impl Host) -> Option<(PathBuf, Origin)> {
    let home = home(host)?;
    let (at, place) = facts.seen(&home)?;
    let found = host.attributes(&home).ok()?;
    // CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH.
    let overrides = facts.host_capabilities() & 0b110 != 0;
    let readable = overrides
        || found.uid == facts.outside()
        || found.mode & 0o005 == 0o005
        || (found.mode & 0o050 == 0o050 && facts.ids.2.contains(&found.gid));
    (readable && facts.leaves(&at, READ_FILE)).then_some((at, place.origin))
}

/// Directories of the host that the jail can change.
pub fn writable(facts: &Facts) -> Vec<(&Path, &Place)> {
    let mut list = Vec::new();
    for place in &facts.places {
        if place.flags.read_only
            || facts.protected.contains(&place.target)
            || !facts.leaves(&place.target, WRITE_FILE)
        {
            continue;
        }
        let on_top = facts.holder(&place.target).is_some_and(|holder| std::ptr::eq(holder, place));
        match (&place.content, &place.upper) {
            _ if !on_top || facts.kernel_file_system(place).is_some() => {}
            (_, Some(upper)) => list.push((upper.as_path(), place)),
            (Content::Host { source, .. }, None) => list.push((source.as_path(), place)),
            (Content::Layers(_) | Content::Own | Content::Image | Content::Kernel(_), None) => {}
        }
    }
    list
}

struct Findings<'a> {
    facts: &'a Facts,
    list: Vec<Finding>,
}

impl Findings<'_> {
    fn add(
        &mut self,
        weight: &'static Weight,
        what: impl Into<String>,
        key: &'static str,
        value: &str,
        origin: Option<Origin>,
    ) {
        let close = format!("{key} = {value}");
        self.list.push(Finding { weight, what: what.into(), key, close, origin });
    }

    fn namespaces(&mut self) {
        let facts = self.facts;
        let shared = |namespace| {
            !facts.has(namespace) && !facts.joined.iter().any(|(joined, _)| *joined == namespace)
        };
        if shared(Namespace::Net) {
            let (weight, what) = match facts.confines_network() {
                true => (
                    &weights::HOST_NETWORK_CONFINED,
                    "reaches what the host reaches, TCP as far as Landlock lets it",
                ),
                false => (
                    &weights::HOST_NETWORK,
                    "reaches what the host reaches, its services on 127.0.0.1 included",
                ),
            };
            self.add(weight, what, "network.mode", "\"none\"", None);
        }
        if shared(Namespace::Pid) {
            let (weight, what) = match facts.outside() {
                0 => (
                    &weights::HOST_PROCESSES_ROOT,
                    "sees every process of the host and can end them".to_owned(),
                ),
                uid => (
                    &weights::HOST_PROCESSES,
                    format!("sees every process of the host and can end those of uid {uid}"),
                ),
            };
            self.add(weight, what, "namespaces.pid", "\"private\"", None);
        }
        if shared(Namespace::Ipc) {
            self.add(
                &weights::HOST_IPC,
                "reaches the host's shared memory and message queues",
                "namespaces.ipc",
                "\"private\"",
                None,
            );
        }
        for (namespace, what, key) in [
            (Namespace::Uts, "knows the host's name", "namespaces.uts"),
            (Namespace::Cgroup, "sees where its control groups are", "namespaces.cgroup"),
        ] {
            if shared(namespace) {
                self.add(&weights::HOST_NAMES, what, key, "\"private\"", None);
            }
        }
        for (namespace, origin) in &facts.joined {
            let key = match namespace {
                Namespace::Pid => "namespaces.pid",
                Namespace::Ipc => "namespaces.ipc",
                Namespace::Uts => "namespaces.uts",
                Namespace::Cgroup => "namespaces.cgroup",
                Namespace::User => "namespaces.user",
                Namespace::Time => "namespaces.time",
                Namespace::Net => "network.mode",
                // It is never another's.
                Namespace::Mount => continue,
            };
            let value = if *namespace == Namespace::Net { "\"none\"" } else { "\"private\"" };
            let what = format!("shares the {} namespace of others", namespace.file());
            self.add(&weights::JOINED, what, key, value, Some(*origin));
        }
    }

    fn identity(&mut self) {
        let facts = self.facts;
        let caps = facts.bounding;
        let by = facts.capabilities_origin;
        let key = "security.capabilities";
        if facts.map.is_some() {
            if caps != 0 {
                self.add(
                    &weights::CAPABILITY_INSIDE,
                    format!("has {} over its own namespaces", capabilities_text(caps)),
                    key,
                    "\"none\"",
                    by,
                );
            }
        } else if caps == names::ALL_CAPABILITIES {
            let what = "has every capability of the host's root";
            self.add(&weights::EVERY_CAPABILITY, what, key, "\"none\"", by);
        } else {
            let mut rest = 0;
            for (number, name) in names::CAPABILITIES.iter().enumerate() {
                if caps & (1 << number) == 0 {
                    continue;
                }
                let weight = match (number, facts.refuses_devices) {
                    // The nodes can be made and not opened.
                    (MKNOD, true) => &weights::SOME_CAPABILITY,
                    _ => weights::of_capability(number),
                };
                let known =
                    names::DANGEROUS_CAPABILITIES.iter().find(|(known, _)| *known == number);
                match known {
                    _ if *weight == weights::SOME_CAPABILITY => rest |= 1 << number,
                    Some((_, what)) => {
                        self.add(
                            weight,
                            format!("{what} ({name})"),
                            key,
                            &format!("[\"-{name}\"]"),
                            by,
                        );
                    }
                    None => {
                        self.add(
                            weight,
                            format!("uses {name}"),
                            key,
                            &format!("[\"-{name}\"]"),
                            by,
                        );
                    }
                }
            }
            if rest != 0 {
                let what = format!("has {} over the host", capabilities_text(rest));
                self.add(&weights::SOME_CAPABILITY, what, key, "\"none\"", by);
            }
        }
        if facts.outside() == 0 {
            let why = match (facts.ids.0, &facts.map) {
                (0, None) => "it is uid 0 outside",
                (0, Some(_)) => "its root is uid 0 outside",
                _ => "CAP_SETUID makes it uid 0 outside",
            };
            let what = format!("is the host's root should it get out, for {why}");
            self.add(&weights::ROOT_OUTSIDE, what, "idmap.mode", "\"auto\"", facts.ids_origin);
        }
        if !facts.no_new_privileges {
            self.add(
                &weights::NEW_PRIVILEGES,
                "gains rights by set-user-id programs",
                "security.no-new-privileges",
                "true",
                None,
            );
        }
        if facts.map.is_none() && !facts.ids.2.is_empty() {
            let groups: Vec<_> = facts.ids.2.iter().map(u32::to_string).collect();
            let what = format!("opens what the host's groups {} may", groups.join(" "));
            let by = facts.ids_origin;
            self.add(&weights::FOREIGN_GROUP, what, "process.supplementary-groups", "[]", by);
        }
    }

    /// System calls that pass where the default filter, for the capabilities
    /// that are kept, stops them.
    fn calls(&mut self) {
        let facts = self.facts;
        let key = "security.seccomp";
        let Some((filter, origin)) = &facts.filter else {
            let what = "makes every system call that the kernel has";
            self.add(&weights::ALL_SYSTEM_CALLS, what, key, "\"default\"", None);
            return;
        };
        let default = Filter::preset(Preset::Default, facts.bounding);
        if *filter == default {
            return;
        }
        let (policy, default) = (filter.policy(), default.policy());
        let wider: Vec<String> = policy
            .named()
            .zip(default.named())
            .filter(|((_, here), (_, there))| {
                (here.mildest().passes() && !there.mildest().passes())
                    || (here.strictest().passes() && !there.strictest().passes())
            })
            .map(|((name, _), _)| name.to_owned())
            .collect();
        match wider.len() {
            0 => {}
            1..50 => {
                let what = format!("makes the system calls {}", some_of(&wider));
                self.add(&weights::MORE_SYSTEM_CALLS, what, key, "\"default\"", Some(*origin));
            }
            _ => {
                let what = "makes nearly every system call that the kernel has";
                self.add(&weights::ALL_SYSTEM_CALLS, what, key, "\"default\"", Some(*origin));
            }
        }
    }

    fn root(&mut self) {
        let facts = self.facts;
        if let Some(origin) = facts.chroot {
            let (weight, what) = match facts.bounding & names::CAP_SYS_CHROOT {
                0 => (&weights::CHROOT, "finds the host's tree still mounted around its root"),
                _ => (&weights::CHROOT_ESCAPE, "walks out of its root with a second chroot"),
            };
            self.add(weight, what, "root.switch", "\"pivot\"", Some(origin));
        }
        for (file, origin) in &facts.images {
            let key = match facts.places.first().map(|place| &place.origin) {
                Some(root) if root == origin => "root.image",
                _ => "mounts.image",
            };
            let what = format!("is read by the kernel from the file system in {}", file.display());
            let value = "a directory or an archive instead";
            self.list.push(Finding {
                weight: &weights::IMAGE,
                what,
                key,
                close: format!("{key}: {value}"),
                origin: Some(*origin),
            });
        }
        if let Some((propagation @ (Propagation::Shared | Propagation::Slave), origin)) =
            facts.propagation
        {
            let what = match propagation {
                Propagation::Shared => "mounts where whoever joins its namespaces sees it",
                _ => "sees what the host mounts while it runs",
            };
            let weight = match propagation {
                Propagation::Shared => &weights::PROPAGATION,
                _ => &weights::HOST_NAMES,
            };
            self.add(weight, what, "root.propagation", "\"private\"", Some(origin));
        }
    }

    /// What one mount hands over.
    fn place(&mut self, place: &Place) {
        let facts = self.facts;
        let is_root = place.target.parent().is_none();
        let by = Some(place.origin);
        let on_top = facts.holder(&place.target).is_some_and(|holder| std::ptr::eq(holder, place));
        if !on_top && !is_root {
            return;
        }
        if matches!(place.propagation, Propagation::Shared | Propagation::Slave) {
            let what = format!("shares what is mounted below {}", place.target.display());
            self.add(&weights::PROPAGATION, what, "mounts.propagation", "\"private\"", by);
        }
        let is_host = matches!(place.content, Content::Host { .. }) || place.upper.is_some();
        if is_host && !is_root && !place.flags.nodev {
            let what = format!("opens device nodes in {}", place.target.display());
            let (weight, what) = match facts.refuses_devices {
                true => (&weights::LISTED_DEVICES, what + ", as far as the controller lets it"),
                false => (&weights::DEVICES, what),
            };
            self.add(weight, what, "mounts.nodev", "true", by);
        }
        if is_host && !is_root && !place.flags.nosuid {
            let what =
                format!("leaves and runs set-user-id programs in {}", place.target.display());
            self.add(&weights::SET_USER_ID, what, "mounts.nosuid", "true", by);
        }
        if facts.kernel_file_system(place).is_some() {
            return;
        }
        let writable = writable(facts)
            .iter()
            .find(|(_, found)| std::ptr::eq(*found, place))
            .map(|(path, _)| path.to_path_buf());
        if let Some(path) = &writable {
            self.writable(path, place, is_root);
        }
        let Content::Host { source, .. } = &place.content else { return };
        if is_root {
            if source.parent().is_none() && writable.is_none() {
                self.add(
                    &weights::HOST_TREE_READABLE,
                    "reads what everybody may read on the host",
                    "root.binaries",
                    "[\"PROGRAM\"]",
                    by,
                );
            }
            return;
        }
        self.bound(source, place, writable.is_some());
    }

    fn writable(&mut self, path: &Path, place: &Place, is_root: bool) {
        let by = Some(place.origin);
        let shown = path.display();
        let is_system = SYSTEM.iter().any(|system| {
            // Temporary files are nobody's settings.
            path == Path::new(system)
                || (path.starts_with(system) && !path.starts_with("/var/tmp") && !is_root)
        });
        let is_engine = is_engine_socket(path);
        if path.parent().is_none() {
            let what = "changes every file of the host";
            let key = if is_root { "root.read-only" } else { "mounts.read-only" };
            self.add(&weights::HOST_TREE_WRITABLE, what, key, "true", by);
        } else if is_engine || KERNEL_TREES.iter().any(|tree| path.starts_with(tree)) {
            // Told as what it is, below.
        } else if is_root {
            let what = format!("changes {shown}, its own root, for good");
            let (key, value) = ("root.ephemeral", "true");
            self.add(&weights::WRITABLE_ROOT, what, key, value, by);
        } else if is_system && self.facts.outside() == 0 {
            let what = format!("changes {shown}, which the host itself uses");
            self.add(&weights::SYSTEM_WRITABLE, what, "mounts.read-only", "true", by);
        } else {
            let what = format!("changes {shown} of the host");
            self.add(&weights::WRITABLE_DIRECTORY, what, "mounts.read-only", "true", by);
        }
    }

    /// What a bind of that file or directory hands out beside the right to
    /// change it.
    fn bound(&mut self, source: &Path, place: &Place, writable: bool) {
        let by = Some(place.origin);
        let shown = source.display();
        if is_engine_socket(source) {
            let what = format!("commands the container engine behind {shown}");
            self.add(&weights::ENGINE_SOCKET, what, "mounts.bind", "PATH of something else", by);
        } else if source.parent().is_none() {
            self.add(
                &weights::HOST_TREE_READABLE,
                "reads what everybody may read on the host",
                "mounts.bind",
                "PATH of what it needs",
                by,
            );
        } else if let Some(tree) = KERNEL_TREES.iter().find(|tree| source.starts_with(tree)) {
            let (weight, what) = match *tree {
                "/proc" | "/sys" => (&weights::KERNEL_TREE, "uses the kernel's own files in"),
                "/dev" => (&weights::DEVICES, "uses the devices in"),
                _ => (&weights::RUNTIME_DIRECTORY, "uses the sockets in"),
            };
            let what = format!("{what} {shown}");
            self.add(weight, what, "security.allow-dangerous-binds", "false", by);
        } else if !writable && !PROGRAMS.iter().any(|tree| source.starts_with(tree)) {
            // Files of a closure are at their own place and come with its root.
            let with_root =
                self.facts.places.first().is_some_and(|root| {
                    root.origin == place.origin && root.content == Content::Own
                });
            if !with_root {
                let what = format!("reads {shown} of the host");
                self.add(
                    &weights::READABLE_DIRECTORY,
                    what,
                    "mounts.bind",
                    "\"PATH BELOW IT\"",
                    by,
                );
            }
        }
    }

    /// What comes along with binds.
    fn inner(&mut self) {
        let facts = self.facts;
        let weighs = |inner: &Inner| match inner.reason {
            Reason::Tree => (&weights::HOST_TREE_READABLE, "reads the host's tree in"),
            Reason::Interfaces => (&weights::KERNEL_TREE, "uses the kernel's own files in"),
            Reason::Devices | Reason::Terminals => (&weights::DEVICES, "uses the devices in"),
            Reason::Queues => (&weights::HOST_IPC, "reaches the message queues in"),
            Reason::Namespace => (&weights::JOINED, "holds the namespaces at"),
            Reason::Services if is_engine_socket(&inner.source) => {
                (&weights::ENGINE_SOCKET, "commands the container engine behind")
            }
            Reason::Services | Reason::State | Reason::Sockets => {
                (&weights::RUNTIME_DIRECTORY, "uses the sockets in")
            }
        };
        // Told once for each bind.
        let mut told: Vec<(&Weight, Origin)> = Vec::new();
        for inner in &facts.inner {
            let (weight, what) = weighs(inner);
            let is_named =
                !inner.is_below && KERNEL_TREES.iter().any(|tree| inner.source.starts_with(tree));
            if is_named || told.contains(&(weight, inner.origin)) {
                continue;
            }
            told.push((weight, inner.origin));
            let all: Vec<_> = facts
                .inner
                .iter()
                .filter(|other| other.origin == inner.origin && weighs(other).0 == weight)
                .map(|other| other.source.display().to_string())
                .collect();
            let what = format!("{what} {}", some_of(&all));
            let by = Some(inner.origin);
            self.add(weight, what, "security.allow-dangerous-binds", "false", by);
        }
    }

    /// Nodes that the unit lists.
    fn devices(&mut self) {
        let facts = self.facts;
        for (path, number, origin) in &facts.devices {
            // /dev/mem, /dev/kmem and /dev/port are the machine.
            let is_memory = !number.block && number.major == 1 && [1, 2, 4].contains(&number.minor);
            let weight = match number.block || is_memory {
                true => &weights::DEVICES,
                false => &weights::LISTED_DEVICES,
            };
            let what = format!("uses the device {}", path.display());
            self.list.push(Finding {
                weight,
                what,
                key: "devices.path",
                close: format!("no [[devices]] with path = \"{}\"", path.display()),
                origin: Some(*origin),
            });
        }
    }

    fn home(&mut self, host: &impl Host) {
        let Some((at, origin)) = reads_home(self.facts, host) else { return };
        self.list.push(Finding {
            weight: &weights::HOME,
            what: format!("reads your home, at {}", at.display()),
            key: "mounts.mask",
            close: format!("mounts = [{{ target = \"{}\", mask = true }}]", at.display()),
            origin: Some(origin),
        });
    }

    /// The kernel's own file systems, as far as they are not covered.
    fn kernel(&mut self, host: &impl Host) {
        let facts = self.facts;
        let mut records = Vec::new();
        let mut settings = Vec::new();
        for (fstype, original) in [("proc", "/proc"), ("sysfs", "/sys")] {
            for place in &facts.places {
                if facts.kernel_file_system(place) != Some(fstype) {
                    continue;
                }
                let open = |list: &[&str], covered: &[PathBuf]| -> Vec<String> {
                    list.iter()
                        .filter(|path| host.look(Path::new(path)).is_ok())
                        .filter_map(|path| Path::new(path).strip_prefix(original).ok())
                        .map(|rest| place.target.join(rest))
                        .filter(|path| !covered.iter().any(|over| path.starts_with(over)))
                        .map(|path| path.display().to_string())
                        .collect()
                };
                records.extend(open(MASKED, &facts.masked));
                if !place.flags.read_only {
                    let covered: Vec<_> =
                        facts.masked.iter().chain(&facts.protected).cloned().collect();
                    settings.extend(open(PROTECTED, &covered));
                }
            }
        }
        if !records.is_empty() {
            let what = format!("reads the kernel's records: {}", some_of(&records));
            let key = "security.masked-paths";
            self.add(&weights::KERNEL_RECORDS, what, key, "[\"@default\"]", None);
        }
        if !settings.is_empty() {
            let what = format!("finds the kernel's settings writable: {}", some_of(&settings));
            // The files are root's.
            let weight = match facts.outside() {
                0 => &weights::KERNEL_SETTINGS,
                _ => &weights::KERNEL_RECORDS,
            };
            self.add(weight, what, "security.read-only-paths", "[\"@default\"]", None);
        }
    }

    fn limits(&mut self) {
        let limits = self.facts.limits;
        let uses_disk =
            self.facts.places.iter().any(|place| {
                matches!(place.content, Content::Host { .. }) || place.upper.is_some()
            });
        let rows = [
            (
                !limits.memory,
                &weights::NO_MEMORY_LIMIT,
                "uses up the host's memory",
                "limits.memory",
                "\"1G\"",
            ),
            (
                limits.memory && !limits.swap,
                &weights::NO_SWAP_LIMIT,
                "fills the host's swap",
                "limits.swap",
                "0",
            ),
            (
                !limits.processes,
                &weights::NO_PROCESS_LIMIT,
                "starts processes until the host has no more",
                "limits.pids",
                "4096",
            ),
            (
                !limits.cpu,
                &weights::NO_CPU_LIMIT,
                "keeps every CPU of the host busy",
                "limits.cpu",
                "1",
            ),
            (
                uses_disk && !limits.disk,
                &weights::NO_DISK_LIMIT,
                "keeps the host's disk busy",
                "limits.blkio.devices",
                "[{ path = \"/\", read-bps = \"50M\" }]",
            ),
        ];
        for (is_open, weight, what, key, value) in rows {
            if is_open {
                self.add(weight, what, key, value, None);
            }
        }
    }

    fn surroundings(&mut self) {
        let facts = self.facts;
        if !facts.kept.is_empty() {
            let numbers: Vec<_> = facts.kept.iter().map(i32::to_string).collect();
            let what = format!("holds the descriptors {} of its caller", numbers.join(" "));
            let by = facts.kept_origin;
            self.add(&weights::OPEN_DESCRIPTOR, what, "process.pass-fds", "[]", by);
        }
        for (path, origin) in &facts.output {
            let what = format!("writes without end to {}", path.display());
            let key = "process.stdout";
            self.add(&weights::OUTPUT_FILE, what, key, "\"inherit\"", Some(*origin));
        }
        if !facts.new_keyring {
            let what = "searches and changes the caller's session keyring";
            self.add(&weights::KEYRING, what, "security.keyring", "\"private\"", None);
        }
        if let Some((size, origin)) = facts.core
            && size != 0
        {
            let what = "leaves core files to the host's handler";
            self.add(&weights::CORE_FILES, what, "limits.rlimits.core", "0", Some(origin));
        }
        if let Some((score, origin)) = facts.oom_score
            && score < 0
        {
            let what = "outlives the host's processes when memory is short";
            let key = "process.oom-score-adjust";
            self.add(&weights::PREFERRED, what, key, "0", Some(origin));
        }
        if let Some((nice, origin)) = facts.nice
            && nice < 0
        {
            let what = "goes before the host's processes for the CPU";
            self.add(&weights::PREFERRED, what, "process.nice", "0", Some(origin));
        }
    }
}

/// Trees of the host that are more than files.
const KERNEL_TREES: &[&str] = &["/proc", "/sys", "/dev", "/run", "/var/run"];

fn is_engine_socket(path: &Path) -> bool {
    path.file_name().is_some_and(|name| ENGINE_SOCKETS.iter().any(|socket| name == *socket))
}

fn capabilities_text(set: u64) -> String {
    let all: Vec<_> = names::CAPABILITIES
        .iter()
        .enumerate()
        .filter(|(number, _)| set & (1 << number) != 0)
        .map(|(_, name)| (*name).to_owned())
        .collect();
    some_of(&all)
}

/// The first three, and how many more.
pub(super) fn some_of(list: &[String]) -> String {
    match list {
        [one, two, three, rest @ ..] if rest.len() > 1 => {
            format!("{one}, {two}, {three} and {} more", rest.len())
        }
        all => all.join(", "),
    }
}
