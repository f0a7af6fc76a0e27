//! `[limits]`, `[limits.blkio]` and `[limits.rlimits]`: what the jail may use.

use std::time::Duration;

use super::decode::{Context, Findings, FromNode, Reader, Setting, one_of};
use super::tree::{Node, Table, Value};
use super::value::{Bounded, Bytes, HostPath, IdSet, Limit, Memory, MilliCpus};
use crate::diagnostic::Diagnostic;
use crate::names;

/// The three tables.
#[derive(Clone, Debug)]
pub struct Limits {
    /// `memory`.
    pub memory: Option<Setting<Limit<Memory>>>,
    /// `memory-high`.
    pub memory_high: Option<Setting<Limit<Memory>>>,
    /// `memory-low`.
    pub memory_low: Option<Setting<Limit<Memory>>>,
    /// `swap`.
    pub swap: Option<Setting<Limit<Memory>>>,
    /// `oom-group`.
    pub oom_group: Setting<bool>,
    /// `cpu`.
    pub cpu: Option<Setting<Limit<MilliCpus>>>,
    /// `cpu-period`.
    pub cpu_period: Setting<Duration>,
    /// `cpu-burst`.
    pub cpu_burst: Option<Setting<Duration>>,
    /// `cpu-weight` or `cpu-shares`.
    pub cpu_weight: Option<Setting<CpuWeight>>,
    /// `cpuset`.
    pub cpuset: Option<Setting<IdSet>>,
    /// `cpuset-mems`.
    pub cpuset_mems: Option<Setting<IdSet>>,
    /// `pids`.
    pub pids: Setting<Limit<u64>>,
    /// `on-missing`.
    pub on_missing: Setting<OnMissing>,
    /// `[limits.blkio]`.
    pub blkio: Blkio,
    /// `[limits.rlimits]`, in the order of [`names::RLIMITS`].
    pub rlimits: Vec<Setting<Rlimit>>,
}

/// A share of the CPUs, in one of the two measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuWeight {
    /// cgroup v2: 1 to 10000, 100 being the norm.
    Weight(u64),
    /// cgroup v1: 2 to 262144, 1024 being the norm.
    Shares(u64),
}

/// What to do about a limit that cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnMissing {
    /// Refuse to launch.
    Error,
    /// Say so and go on without it.
    Warn,
    /// Go on without it.
    Skip,
}

/// `[limits.blkio]`.
#[derive(Clone, Debug, Default)]
pub struct Blkio {
    /// `weight`.
    pub weight: Option<Setting<u64>>,
    /// `devices`.
    pub devices: Vec<BlkioDevice>,
}

/// One entry of `devices`.
#[derive(Clone, Debug)]
pub struct BlkioDevice {
    /// A device, `major:minor`, or a path whose file system's device is meant.
    pub path: Setting<String>,
    /// Bytes read per second.
    pub read_bps: Option<Limit<u64>>,
    /// Bytes written per second.
    pub write_bps: Option<Limit<u64>>,
    /// Reads per second.
    pub read_iops: Option<Limit<u64>>,
    /// Writes per second.
    pub write_iops: Option<Limit<u64>>,
    /// Share of the device.
    pub weight: Option<u64>,
}

/// One limit of getrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Index into [`names::RLIMITS`].
    pub index: usize,
    /// What is enforced.
    pub soft: Limit<u64>,
    /// What the process may raise it to.
    pub hard: Limit<u64>,
}

impl FromNode for OnMissing {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        one_of(node, cx, &[("error", Self::Error), ("warn", Self::Warn), ("skip", Self::Skip)])
    }
}

/// A soft and a hard limit.
#[derive(Clone, Copy, Debug)]
struct Pair(Limit<u64>, Limit<u64>);

impl FromNode for Pair {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let amount = |node: &Node, cx: Context<'_>| {
            Some(match Limit::<Bytes>::from_node(node, cx)? {
                Limit::At(Bytes(number)) => Limit::At(number),
                Limit::Infinity => Limit::Infinity,
            })
        };
        let Value::Table(table) = &node.value else {
            return amount(node, cx).map(|limit| Self(limit, limit));
        };
        let mut soft = None;
        let mut hard = None;
        for entry in &table.entries {
            let slot = match &*entry.key {
                "soft" => &mut soft,
                "hard" => &mut hard,
                other => {
                    cx.findings.push(
                        Diagnostic::error("E0101", format!("unknown key `{other}` in a limit"))
                            .at(entry.key_span, "expected `soft` or `hard`"),
                    );
                    return None;
                }
            };
            *slot = Some(amount(&entry.node, Context { key: &entry.key, ..cx })?);
        }
        let (Some(soft), Some(hard)) = (soft, hard) else {
            cx.findings.push(
                Diagnostic::error("E0104", format!("`{}` needs both `soft` and `hard`", cx.key))
                    .at(node.span, "one is missing"),
            );
            return None;
        };
        if exceeds(soft, hard) {
            cx.findings.push(
                Diagnostic::error("E0203", format!("`{}` is softer than it is hard", cx.key))
                    .at(node.span, "the soft limit is above the hard one"),
            );
            return None;
        }
        Some(Self(soft, hard))
    }
}

/// Whether one limit allows more than another.
pub fn exceeds(limit: Limit<u64>, other: Limit<u64>) -> bool {
    match (limit, other) {
        (_, Limit::Infinity) => false,
        (Limit::Infinity, Limit::At(_)) => true,
        (Limit::At(limit), Limit::At(other)) => limit > other,
    }
}

impl FromNode for BlkioDevice {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let Value::Table(table) = &node.value else {
            cx.wrong_type(
                node,
                "a list of tables such as { path = \"/dev/sda\", read-bps = \"10M\" }",
            );
            return None;
        };
        let mut path = None;
        let mut device = Self {
            path: Setting::default(String::new()),
            read_bps: None,
            write_bps: None,
            read_iops: None,
            write_iops: None,
            weight: None,
        };
        let mut complete = true;
        for entry in &table.entries {
            let cx = Context { key: &entry.key, ..cx };
            let node = &entry.node;
            let rate = |limit: Option<Limit<Bytes>>| {
                limit.map(|limit| match limit {
                    Limit::At(Bytes(number)) => Limit::At(number),
                    Limit::Infinity => Limit::Infinity,
                })
            };
            let read = match &*entry.key {
                "path" => {
                    path = HostPath::from_node(node, cx)
                        .map(|path| (path.0.to_string_lossy().into_owned(), node.span));
                    path.is_some()
                }
                "read-bps" => {
                    device.read_bps = rate(FromNode::from_node(node, cx));
                    device.read_bps.is_some()
                }
                "write-bps" => {
                    device.write_bps = rate(FromNode::from_node(node, cx));
                    device.write_bps.is_some()
                }
                "read-iops" => {
                    device.read_iops = FromNode::from_node(node, cx);
                    device.read_iops.is_some()
                }
                "write-iops" => {
                    device.write_iops = FromNode::from_node(node, cx);
                    device.write_iops.is_some()
                }
                "weight" => {
                    device.weight = Bounded::<1, 10_000>::from_node(node, cx)
                        .map(|weight| weight.0.unsigned_abs());
                    device.weight.is_some()
                }
                other => {
                    let known =
                        ["path", "read-bps", "write-bps", "read-iops", "write-iops", "weight"];
                    let diagnostic =
                        Diagnostic::error("E0101", format!("unknown key `{other}` of a device"));
                    cx.findings.push(match super::decode::nearest(other, known.into_iter()) {
                        Some(near) => diagnostic
                            .at(entry.key_span, format!("did you mean `{near}`?"))
                            .patch(entry.key_span, near),
                        None => diagnostic
                            .at(entry.key_span, format!("expected one of {}", known.join(", "))),
                    });
                    false
                }
            };
            complete &= read;
        }
        match path {
            Some((text, span)) => device.path = Setting { value: text, span: Some(span) },
            None => {
                if table.get("path").is_none() {
                    cx.findings.push(
                        Diagnostic::error("E0104", "a device without `path`")
                            .at(node.span, "which one?"),
                    );
                }
                return None;
            }
        }
        complete.then_some(device)
    }
}

impl Limits {
    /// Reads the tables.
    pub fn read(reader: &Reader<'_>, findings: &Findings) -> Self {
        let weight = reader.get::<Bounded<1, 10_000>>("cpu-weight");
        let shares = reader.get::<Bounded<2, 262_144>>("cpu-shares");
        if let (Some(weight), Some(shares)) =
            (reader.entry("cpu-weight"), reader.entry("cpu-shares"))
        {
            findings.push(
                Diagnostic::error(
                    "E0105",
                    "`cpu-weight` and `cpu-shares` say the same thing twice",
                )
                .at(shares.key_span, "in cgroup v1's measure")
                .context(Some(weight.key_span), "in cgroup v2's measure")
                .help("keep one of them"),
            );
        }
        let cpu_weight = weight
            .map(|weight| weight.map(|weight| CpuWeight::Weight(weight.0.unsigned_abs())))
            .or_else(|| {
                shares.map(|shares| shares.map(|shares| CpuWeight::Shares(shares.0.unsigned_abs())))
            });
        let limits = Self {
            memory: reader.get("memory"),
            memory_high: reader.get("memory-high"),
            memory_low: reader.get("memory-low"),
            swap: reader.get("swap"),
            oom_group: reader.get_or("oom-group", true),
            cpu: reader.get("cpu"),
            cpu_period: reader.get_or("cpu-period", Duration::from_millis(100)),
            cpu_burst: reader.get("cpu-burst"),
            cpu_weight,
            cpuset: reader.get("cpuset"),
            cpuset_mems: reader.get("cpuset-mems"),
            pids: reader.get_or("pids", Limit::At(4096)),
            on_missing: reader.get_or("on-missing", OnMissing::Error),
            blkio: Blkio::read(reader.subtable("blkio"), findings),
            rlimits: read_rlimits(reader.subtable("rlimits"), findings),
        };
        limits.check(findings);
        limits
    }

    /// The rules between the keys of this table that need no host.
    fn check(&self, findings: &Findings) {
        let at = |setting: &Option<Setting<Limit<Memory>>>| match setting {
            Some(Setting { value: Limit::At(amount), span }) => Some((*amount, *span)),
            _ => None,
        };
        // A size and a share are compared when the host is known, which
        // refuses what contradicts itself.
        let is_above = |lower: Memory, memory: Memory| match (lower, memory) {
            (Memory::Bytes(lower), Memory::Bytes(memory)) => lower > memory,
            (Memory::Percent(lower), Memory::Percent(memory)) => lower > memory,
            _ => false,
        };
        let lowers = [("memory-high", at(&self.memory_high)), ("memory-low", at(&self.memory_low))];
        for (name, lower) in lowers {
            if let (Some((memory, memory_at)), Some((lower, lower_at))) = (at(&self.memory), lower)
                && is_above(lower, memory)
            {
                findings.push(
                    Diagnostic::error("E0203", format!("`{name}` is above `memory`"))
                        .at_maybe(lower_at, "never reached")
                        .context(memory_at, "the limit"),
                );
            }
        }
        let memory = at(&self.memory).and_then(|(amount, span)| match amount {
            Memory::Bytes(bytes) => Some((bytes, span)),
            Memory::Percent(_) => None,
        });
        if let Some((bytes @ 0..262_144, at)) = memory {
            findings.push(
                Diagnostic::error("E0203", "`memory` is too small to start any program")
                    .at_maybe(at, format!("{bytes} bytes"))
                    .help("a size without a unit is in bytes"),
            );
        }
        // PID_MAX_LIMIT of the kernel: no more can be asked for.
        if let Setting { value: Limit::At(4_194_305..), span } = self.pids {
            findings.push(
                Diagnostic::error("E0103", "`pids` takes 1 to 4194304, or \"infinity\"")
                    .at_maybe(span, "out of range"),
            );
        }
        if let Setting { value: Limit::At(0), span } = self.pids {
            findings.push(
                Diagnostic::error("E0203", "`pids = 0` leaves no room for the command")
                    .at_maybe(span, "at least 1"),
            );
        }
        let period = self.cpu_period.value;
        if !(Duration::from_millis(1)..=Duration::from_secs(1)).contains(&period) {
            findings.push(
                Diagnostic::error("E0103", "`cpu-period` is from 1ms to 1s")
                    .at_maybe(self.cpu_period.span, "out of range"),
            );
        }
        if let Some(Setting { value: Limit::At(cpu), span }) = self.cpu {
            let micros = u64::try_from(period.as_micros()).unwrap_or(u64::MAX);
            let quota = Duration::from_micros(cpu.0.saturating_mul(micros) / 1000);
            if quota < Duration::from_millis(1) {
                findings.push(
                    Diagnostic::error(
                        "E0103",
                        "`cpu` is less than the kernel's smallest quota of 1ms per period",
                    )
                    .at_maybe(span, "too small")
                    .help("a longer `cpu-period` allows a smaller share"),
                );
            }
            if let Some(burst) = &self.cpu_burst
                && burst.value > quota
            {
                findings.push(
                    Diagnostic::error("E0203", "`cpu-burst` is above the quota")
                        .at_maybe(
                            burst.span,
                            format!("at most {}", humantime::format_duration(quota)),
                        )
                        .context(span, "the quota comes from here"),
                );
            }
        } else if let Some(burst) = self.cpu_burst.as_ref().filter(|burst| !burst.value.is_zero()) {
            findings.push(
                Diagnostic::error("E0106", "`cpu-burst` needs `cpu`")
                    .at_maybe(burst.span, "there is no quota to exceed"),
            );
        }
    }
}

impl Blkio {
    fn read(table: Option<&Table>, findings: &Findings) -> Self {
        let reader = Reader::new(table, "limits.blkio", findings);
        Self {
            weight: reader
                .get::<Bounded<1, 10_000>>("weight")
                .map(|weight| weight.map(|weight| weight.0.unsigned_abs())),
            devices: reader
                .get::<Vec<Setting<BlkioDevice>>>("devices")
                .map(|devices| devices.value.into_iter().map(|device| device.value).collect())
                .unwrap_or_default(),
        }
    }
}

fn read_rlimits(table: Option<&Table>, findings: &Findings) -> Vec<Setting<Rlimit>> {
    let reader = Reader::new(table, "limits.rlimits", findings);
    let mut rlimits = Vec::new();
    for (index, name) in names::RLIMITS.iter().enumerate() {
        let pair = match name.key {
            "core" => Some(reader.get_or("core", Pair(Limit::At(0), Limit::At(0)))),
            key => reader.get::<Pair>(key),
        };
        rlimits.extend(pair.map(|pair| pair.map(|Pair(soft, hard)| Rlimit { index, soft, hard })));
    }
    rlimits
}
