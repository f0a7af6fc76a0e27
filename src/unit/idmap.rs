//! `[idmap]`: which users and groups of the host those of the jail are.

use super::decode::{Context, FromNode, Reader, Setting, one_of};
use super::tree::{Node, Value};
use crate::diagnostic::Diagnostic;
use crate::source::Span;

/// How many ids a map has unless the unit says otherwise.
pub const COUNT: u32 = 65_536;

/// The table.
#[derive(Clone, Debug)]
pub struct IdMap {
    /// How the map is made.
    pub mode: Setting<IdMode>,
    /// First id of the host.
    pub base: Option<Setting<u32>>,
    /// How many ids.
    pub count: Option<Setting<u32>>,
    /// User ids of a manual map.
    pub uid: Vec<Setting<IdRange>>,
    /// Group ids of a manual map.
    pub gid: Vec<Setting<IdRange>>,
    /// Who owns what the jail sees of the host.
    pub ownership: Setting<Ownership>,
    /// The table itself.
    pub at: Option<Span>,
}

/// How an id map is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMode {
    /// A range of the jail's or the caller's own.
    Auto,
    /// The same numbers.
    Identity,
    /// Root alone, who is the caller.
    Root,
    /// As written.
    Manual,
}

/// Whether the host's files belong to the jail's users of the same numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// By a mapped mount where ids differ and the caller may make one.
    Auto,
    /// By a mapped mount.
    Map,
    /// By changing owners on disk.
    Chown,
    /// No.
    Off,
}

/// Ids that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first inside.
    pub inside: u32,
    /// The first of the host.
    pub outside: u32,
    /// How many.
    pub count: u32,
}

impl IdRange {
    /// The id of the host behind one of the jail.
    pub fn outside_of(self, id: u32) -> Option<u32> {
        let distance = id.checked_sub(self.inside)?;
        (distance < self.count).then(|| self.outside + distance)
    }
}

impl FromNode for IdMode {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let words = [
            ("auto", Self::Auto),
            ("identity", Self::Identity),
            ("root", Self::Root),
            ("manual", Self::Manual),
        ];
        one_of(node, cx, &words)
    }
}

impl FromNode for Ownership {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        let words =
            [("auto", Self::Auto), ("map", Self::Map), ("chown", Self::Chown), ("off", Self::Off)];
        one_of(node, cx, &words)
    }
}

/// The last number is the kernel's word for no id.
const LAST: i64 = u32::MAX as i64 - 1;

fn id(node: &Node, cx: Context<'_>, low: i64) -> Option<u32> {
    super::value::bounded(node, cx, low, LAST).and_then(|number| u32::try_from(number).ok())
}

impl FromNode for IdRange {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        const SHAPE: &str = "tables such as { inside = 0, outside = 100000, count = 65536 }";
        let Value::Table(table) = &node.value else {
            cx.wrong_type(node, SHAPE);
            return None;
        };
        let mut range = Self { inside: 0, outside: 0, count: 0 };
        let mut is_sound = true;
        for entry in &table.entries {
            let (field, low) = match &*entry.key {
                "inside" => (&mut range.inside, 0),
                "outside" => (&mut range.outside, 0),
                "count" => (&mut range.count, 1),
                other => {
                    cx.findings.push(
                        Diagnostic::error("E0101", format!("unknown key `{other}` of a range"))
                            .at(entry.key_span, "expected `inside`, `outside` or `count`"),
                    );
                    is_sound = false;
                    continue;
                }
            };
            match id(&entry.node, Context { key: &entry.key, ..cx }, low) {
                Some(number) => *field = number,
                None => is_sound = false,
            }
        }
        for key in ["inside", "outside", "count"] {
            if is_sound && table.get(key).is_none() {
                cx.findings.push(
                    Diagnostic::error("E0104", format!("a range without `{key}`"))
                        .at(node.span, "in this entry"),
                );
                is_sound = false;
            }
        }
        is_sound.then_some(range)
    }
}

/// An id, or how many of them.
struct Number<const LOW: i64>(u32);

impl<const LOW: i64> FromNode for Number<LOW> {
    fn from_node(node: &Node, cx: Context<'_>) -> Option<Self> {
        id(node, cx, LOW).map(Self)
    }
}

impl IdMap {
    /// Reads the table, which is there; `at` is where.
    pub fn read(reader: &Reader<'_>, at: Option<Span>) -> Self {
        let map = Self {
            mode: reader.get_or("mode", IdMode::Auto),
            base: reader.get::<Number<1>>("base").map(|it| it.map(|number| number.0)),
            count: reader.get::<Number<1>>("count").map(|it| it.map(|number| number.0)),
            uid: reader.get("uid").map_or(Vec::new(), |it| it.value),
            gid: reader.get("gid").map_or(Vec::new(), |it| it.value),
            ownership: reader.get_or("ownership", Ownership::Auto),
            at,
        };
        map.check_keys(reader);
        for (key, ranges) in [("uid", &map.uid), ("gid", &map.gid)] {
            check_ranges(reader, key, ranges);
        }
        if let (Some(base), count) = (&map.base, map.count.as_ref().map_or(COUNT, |it| it.value))
            && base.value.checked_add(count).is_none()
        {
            let message = format!("{count} ids from {} on do not exist", base.value);
            reader.findings().push(
                Diagnostic::error("E0206", message)
                    .at_maybe(base.span, format!("the last id is {LAST}"))
                    .context(map.count.as_ref().and_then(|it| it.span), "that many"),
            );
        }
        map
    }

    /// Keys that the mode has no use for, and those that it needs.
    fn check_keys(&self, reader: &Reader<'_>) {
        let allowed: &[&str] = match self.mode.value {
            IdMode::Auto => &["base", "count"],
            IdMode::Identity => &["count"],
            IdMode::Root => &[],
            IdMode::Manual => &["uid", "gid"],
        };
        let word = match self.mode.value {
            IdMode::Auto => "auto",
            IdMode::Identity => "identity",
            IdMode::Root => "root",
            IdMode::Manual => "manual",
        };
        // A mode that cannot be read has been reported.
        if reader.has("mode") && self.mode.span.is_none() {
            return;
        }
        for key in ["base", "count", "uid", "gid"] {
            if let Some(entry) = reader.entry(key).filter(|_| !allowed.contains(&key)) {
                let of = if matches!(key, "uid" | "gid") { "manual" } else { "auto" };
                reader.findings().push(
                    Diagnostic::error(
                        "E0206",
                        format!("`{key}` has no meaning with mode \"{word}\""),
                    )
                    .at(entry.key_span, format!("belongs to mode \"{of}\""))
                    .context(self.mode.span, "set here"),
                );
            }
        }
        if self.mode.value == IdMode::Manual {
            for key in ["uid", "gid"].into_iter().filter(|key| !reader.has(key)) {
                reader.findings().push(
                    Diagnostic::error("E0206", format!("mode \"manual\" needs `{key}`"))
                        .at_maybe(self.mode.span, "asked for here")
                        .help(format!(
                            "`{key} = [{{ inside = 0, outside = 100000, count = 65536 }}]`"
                        )),
                );
            }
        }
    }
}

/// Refuses ranges that end beyond the last id or that share one, and a map
/// without root, who sets the jail up.
fn check_ranges(reader: &Reader<'_>, key: &str, ranges: &[Setting<IdRange>]) {
    for (index, Setting { value: range, span }) in ranges.iter().enumerate() {
        for (side, first) in [("inside", range.inside), ("outside", range.outside)] {
            if first.checked_add(range.count).is_none() {
                let message = format!("{} ids from {first} on do not exist {side}", range.count);
                reader.findings().push(
                    Diagnostic::error("E0206", message)
                        .at_maybe(*span, format!("the last id is {LAST}")),
                );
            }
        }
        let meet = |one: u32, count: u32, other: u32, others: u32| {
            u64::from(one) < u64::from(other) + u64::from(others)
                && u64::from(other) < u64::from(one) + u64::from(count)
        };
        for other in &ranges[..index] {
            let before = other.value;
            for (side, one, two) in [
                ("inside", range.inside, before.inside),
                ("outside", range.outside, before.outside),
            ] {
                if meet(one, range.count, two, before.count) {
                    reader.findings().push(
                        Diagnostic::error("E0206", format!("ranges of `{key}` overlap {side}"))
                            .at_maybe(*span, format!("{side} from {one} on"))
                            .context(other.span, format!("{side} from {two} on")),
                    );
                }
            }
        }
    }
    if let Some(first) = ranges.first()
        && !ranges.iter().any(|range| range.value.inside == 0)
    {
        reader.findings().push(
            Diagnostic::error("E0206", format!("`{key}` has no id 0 inside"))
                .at_maybe(first.span, "root sets the jail up, so it must exist"),
        );
    }
}
