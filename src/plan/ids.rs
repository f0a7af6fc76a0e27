//! Users and groups: the id map, and how the host's trees come to belong to
//! the jail's users.

use std::path::{Path, PathBuf};

use super::root::Tree;
use super::step::{HostTree, IdMaps, MapWriter, Planned, Step, TreeSource};
use super::{Planner, origin};
use crate::diagnostic::Diagnostic;
use crate::host::Host;
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::idmap::{COUNT, IdMap, IdMode, IdRange, Ownership};
use crate::unit::root::{Propagation, RootKind};

/// Ranges of jails that root starts begin here: neither systemd nor any other
/// known giver of ids uses what is from here on up to 2³¹.
const GRID: u32 = 0x7000_0000;
/// How many ranges there are.
const SLOTS: u32 = 0x1000;

/// How the files of the root come to belong to the jail's users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shift {
    /// They do not.
    #[default]
    Off,
    /// By mounts with mapped ids.
    Map,
    /// By new owners on disk.
    Chown,
}

/// The files that say whose which ids are, the helper that maps them, and the
/// option of usermod(8) that adds some.
const USERS: Kind =
    Kind { what: "user", file: "/etc/subuid", helper: "/usr/bin/newuidmap", key: "uid" };
const GROUPS: Kind =
    Kind { what: "group", file: "/etc/subgid", helper: "/usr/bin/newgidmap", key: "gid" };

struct Kind {
    what: &'static str,
    file: &'static str,
    helper: &'static str,
    key: &'static str,
}

impl<H: Host> Planner<'_, H> {
    /// Decides the id map, and who opens the host's trees.
    pub(super) fn id_maps(&mut self) {
        if !self.private_user {
            return;
        }
        let (uid, gid) = self.host.ids();
        let single = |writer| IdMaps {
            uid: vec![IdRange { inside: 0, outside: uid, count: 1 }],
            gid: vec![IdRange { inside: 0, outside: gid, count: 1 }],
            writer,
        };
        let Some(map) = &self.unit.idmap else {
            self.maps = Some(single(MapWriter::Jail));
            return;
        };
        let is_root = uid == 0;
        self.opens_trees = is_root;
        let both = |ranges: Vec<IdRange>| IdMaps {
            uid: ranges.clone(),
            gid: ranges,
            writer: MapWriter::Supervisor,
        };
        let count = map.count.as_ref().map_or(COUNT, |count| count.value);
        let maps = match map.mode.value {
            IdMode::Root if is_root => Some(single(MapWriter::Supervisor)),
            IdMode::Root => Some(single(MapWriter::Jail)),
            IdMode::Identity if is_root => {
                Some(both(vec![IdRange { inside: 0, outside: 0, count }]))
            }
            IdMode::Identity => {
                self.find(
                    Diagnostic::error("E0309", "an ordinary user cannot keep the host's numbers")
                        .at_maybe(map.mode.span, "needs root")
                        .help("mode \"auto\" maps the caller's ranges"),
                );
                None
            }
            // Reported while reading.
            IdMode::Manual if map.uid.is_empty() || map.gid.is_empty() => None,
            IdMode::Manual if is_root => Some(written(map, MapWriter::Supervisor)),
            IdMode::Manual => {
                let own = single(MapWriter::Jail);
                let maps = written(map, MapWriter::Helpers);
                if (&maps.uid, &maps.gid) == (&own.uid, &own.gid) {
                    Some(own)
                } else {
                    self.check_manual(map, uid, gid);
                    Some(maps)
                }
            }
            IdMode::Auto if is_root => self
                .own_range(map, count)
                .map(|outside| both(vec![IdRange { inside: 0, outside, count }])),
            IdMode::Auto => {
                let uids = self.ranges_of_caller(map, &USERS, uid);
                let gids = self.ranges_of_caller(map, &GROUPS, gid);
                uids.zip(gids).map(|(uid, gid)| IdMaps { uid, gid, writer: MapWriter::Helpers })
            }
        };
        if maps.as_ref().is_some_and(|maps| maps.writer == MapWriter::Helpers) {
            self.check_helpers(map);
        }
        self.shift = self.shift_of(map, maps.as_ref());
        self.maps = maps;
    }

    /// Takes the jail's range, where it has one of its own.
    pub(super) fn claim_ids(&mut self, state: &Path) {
        if let Some(slot) = self.slot
            && let Some(map) = &self.unit.idmap
        {
            let step =
                Step::ClaimIds { path: claim(state, slot), name: self.unit.name.value.clone() };
            self.push(step, origin(map.mode.span.or(map.at), "idmap.mode"));
        }
    }

    /// The first id of root's jail of that name.
    fn own_range(&mut self, map: &IdMap, count: u32) -> Option<u32> {
        if let Some(base) = &map.base {
            return Some(base.value);
        }
        if count > COUNT {
            self.find(
                Diagnostic::error("E0206", "a jail's own range has 65536 ids")
                    .at_maybe(map.count.as_ref().and_then(|count| count.span), "more than that")
                    .help("`base` names the first id of a range that nobody else uses"),
            );
            return None;
        }
        let given: Vec<(u32, u32)> =
            [USERS, GROUPS].iter().flat_map(|kind| self.subordinate(kind, None)).collect();
        let name = self.unit.name.value.as_bytes();
        // FNV-1a.
        let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let state = self.host.state_directory();
        let free = (0..SLOTS).map(|next| (hash.wrapping_add(next)) % SLOTS).find(|slot| {
            let first = GRID + slot * COUNT;
            let is_given = given.iter().any(|(start, length)| {
                u64::from(*start) < u64::from(first) + u64::from(COUNT)
                    && u64::from(first) < u64::from(*start) + u64::from(*length)
            });
            let path = claim(&state, *slot);
            !is_given
                && (!self.host.is_locked(&path)
                    || self.host.read(&path, 64).is_ok_and(|owner| owner == name))
        });
        let Some(slot) = free else {
            self.find(
                Diagnostic::error("E0314", "there is no free range of ids left")
                    .at_maybe(map.mode.span.or(map.at), "asked for here"),
            );
            return None;
        };
        self.slot = Some(slot);
        Some(GRID + slot * COUNT)
    }

    /// Root inside is the caller, and what follows are the caller's ranges.
    fn ranges_of_caller(&mut self, map: &IdMap, kind: &Kind, own: u32) -> Option<Vec<IdRange>> {
        let names = self.names_of_caller();
        let mut given = self.subordinate(kind, Some(&names));
        let name = names.last().cloned().unwrap_or_default();
        let at = map.mode.span.or(map.at);
        if given.is_empty() {
            self.find(
                Diagnostic::error(
                    "E0314",
                    format!("`{name}` has no {} ids to give to a jail", kind.what),
                )
                .at_maybe(at, format!("no range of `{name}` in {}", kind.file))
                .help(format!(
                    "`usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {name}` as root, or mode \"root\""
                )),
            );
            return None;
        }
        if let Some(base) = &map.base {
            let Some((start, length)) = given.iter().find(|(start, length)| {
                base.value.checked_sub(*start).is_some_and(|distance| distance < *length)
            }) else {
                self.find(
                    Diagnostic::error(
                        "E0314",
                        format!("the {} id {} is not `{name}`'s to give", kind.what, base.value),
                    )
                    .at_maybe(base.span, format!("in no range of `{name}` in {}", kind.file)),
                );
                return None;
            };
            given = vec![(base.value, start + length - base.value)];
        }
        let wanted = map.count.as_ref().map_or(COUNT, |count| count.value);
        let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
        let mut inside = 1;
        for (outside, length) in given {
            let count = length.min(wanted.saturating_sub(inside));
            if count > 0 {
                ranges.push(IdRange { inside, outside, count });
                inside += count;
            }
        }
        if let Some(count) = map.count.as_ref().filter(|count| inside < count.value) {
            self.find(
                Diagnostic::error(
                    "E0314",
                    format!("`{name}` has only {} {} ids to give", inside - 1, kind.what),
                )
                .at_maybe(count.span, "root and that many less one are needed")
                .note(format!("ranges of `{name}` in {}", kind.file)),
            );
            return None;
        }
        Some(ranges)
    }

    /// The caller as the files of ranges name them: number, and name.
    fn names_of_caller(&self) -> Vec<String> {
        let (uid, _) = self.host.ids();
        let number = uid.to_string();
        let text = self.host.read(Path::new("/etc/passwd"), 1 << 20).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let name = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then(|| name.to_owned())
        });
        [number].into_iter().chain(name).collect()
    }

    /// Ranges of one user, or all of them: first id and how many.
    fn subordinate(&self, kind: &Kind, names: Option<&[String]>) -> Vec<(u32, u32)> {
        let text = self.host.read(Path::new(kind.file), 1 << 20).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let ranges = text.lines().filter_map(|line| {
            let (name, range) = line.trim().split_once(':')?;
            let (start, count) = range.split_once(':')?;
            let (start, count): (u32, u32) = (start.parse().ok()?, count.parse().ok()?);
            let is_theirs = names.is_none_or(|names| names.iter().any(|known| known == name));
            (is_theirs && count > 0 && start.checked_add(count).is_some()).then_some((start, count))
        });
        ranges.collect()
    }

    /// What newuidmap(1) would refuse.
    fn check_manual(&mut self, map: &IdMap, uid: u32, gid: u32) {
        let names = self.names_of_caller();
        for (kind, ranges, own) in [(USERS, &map.uid, uid), (GROUPS, &map.gid, gid)] {
            // One that cannot be read is the helper's business.
            let given = self.subordinate(&kind, Some(&names));
            for Setting { value: range, span } in ranges {
                let is_own = (range.outside, range.count) == (own, 1);
                let is_given = given.iter().any(|(start, length)| {
                    range.outside >= *start
                        && u64::from(range.outside) + u64::from(range.count)
                            <= u64::from(*start) + u64::from(*length)
                });
                if !is_own && !is_given {
                    let name = names.last().cloned().unwrap_or_default();
                    self.find(
                        Diagnostic::error(
                            "E0314",
                            format!("these {} ids are not `{name}`'s to give", kind.what),
                        )
                        .at_maybe(*span, format!("in no range of `{name}` in {}", kind.file))
                        .help(format!(
                            "`usermod --add-sub{}s {}-{} {name}` as root",
                            kind.key,
                            range.outside,
                            range.outside + (range.count - 1)
                        )),
                    );
                }
            }
        }
    }

    /// The programs that map ids for an ordinary user.
    fn check_helpers(&mut self, map: &IdMap) {
        for kind in [USERS, GROUPS] {
            let label = match self.host.gives_privileges(Path::new(kind.helper)) {
                Ok(true) => continue,
                Ok(false) => "neither set-user-id root nor given capabilities".to_owned(),
                Err(error) => crate::unit::io_reason(&error),
            };
            self.find(
                Diagnostic::error("E0315", format!("`{}` cannot map ids", kind.helper))
                    .at_maybe(map.mode.span.or(map.at), label)
                    .help("`apt-get install uidmap` as root, or mode \"root\""),
            );
        }
    }

    fn shift_of(&mut self, map: &IdMap, maps: Option<&IdMaps>) -> Shift {
        let (uid, _) = self.host.ids();
        let kind = self.unit.root.kind.as_ref().map(|kind| &kind.value);
        let wanted = &map.ownership;
        let differs = maps.is_some_and(|maps| {
            maps.uid.iter().chain(&maps.gid).any(|range| range.inside != range.outside)
        });
        let shift = match wanted.value {
            Ownership::Off => Shift::Off,
            Ownership::Auto if uid == 0 && differs && kind != Some(&RootKind::Host) => Shift::Map,
            Ownership::Auto => Shift::Off,
            Ownership::Map => Shift::Map,
            Ownership::Chown => Shift::Chown,
        };
        if shift != Shift::Off && uid != 0 {
            self.find(
                Diagnostic::error("E0309", "an ordinary user cannot give files to other users")
                    .at_maybe(wanted.span, "needs root")
                    .help("leave `ownership` out: what is the caller's is root's inside"),
            );
        } else if shift == Shift::Map && kind == Some(&RootKind::Host) {
            self.find(
                Diagnostic::error("E0206", "the host's own tree cannot be mapped")
                    .at_maybe(
                        wanted.span,
                        "it holds file systems of the kernel, which have one owner",
                    )
                    .help("`ownership = \"off\"` shows it as it is"),
            );
        } else if shift == Shift::Chown && !matches!(kind, Some(RootKind::Directory(_)) | None) {
            self.find(
                Diagnostic::error("E0206", "`ownership = \"chown\"` needs a directory as the root")
                    .at_maybe(wanted.span, "the root is of another kind")
                    .context(self.unit.root.kind.as_ref().and_then(|kind| kind.span), "this one"),
            );
        }
        shift
    }

    /// Plans new owners for the root directory, after what is made in it.
    pub(super) fn shift_owners(&mut self, tree: Option<&Tree>) {
        let (Shift::Chown, Some(maps), Some(map)) = (self.shift, &self.maps, &self.unit.idmap)
        else {
            return;
        };
        let root = match tree {
            Some(Tree::Bound(root)) => root.clone(),
            Some(Tree::Stack(stack)) => match stack.lower.first() {
                Some(root) => root.clone(),
                None => return,
            },
            _ => return,
        };
        // An id that is both would be translated twice.
        let meets = |ranges: &[IdRange]| {
            ranges.iter().any(|range| {
                let ends = [range.outside, range.outside + (range.count - 1)];
                let is_inside = |id: u32| ranges.iter().any(|other| other.outside_of(id).is_some());
                let is_outside =
                    |other: &IdRange| other.inside >= ends[0] && other.inside <= ends[1];
                ends.into_iter().any(is_inside) || ranges.iter().any(is_outside)
            })
        };
        if meets(&maps.uid) || meets(&maps.gid) {
            self.find(
                Diagnostic::error("E0206", "ids inside and outside must differ to change owners")
                    .at_maybe(
                        map.ownership.span,
                        "a file's owner would not tell whether it was changed",
                    )
                    .context(map.at, "the map"),
            );
            return;
        }
        let step = Step::ShiftOwners { root, uid: maps.uid.clone(), gid: maps.gid.clone() };
        let by = origin(map.ownership.span, "idmap.ownership");
        self.host_nodes.push(Planned { step, origin: by });
    }

    /// Warns of what another user than root of the host will not get to open.
    pub(super) fn check_closed(&mut self, source: &Path, mapped: bool, span: Option<Span>) {
        let Some(maps) = self.maps.as_ref().filter(|_| self.opens_trees && !mapped) else { return };
        let Ok(found) = self.host.attributes(source) else { return };
        let is_ours = |ranges: &[IdRange], id: u32| {
            ranges.iter().any(|range| {
                id.checked_sub(range.outside).is_some_and(|distance| distance < range.count)
            })
        };
        let is_open = found.mode & 0o007 != 0
            || is_ours(&maps.uid, found.uid)
            || (found.mode & 0o070 != 0 && is_ours(&maps.gid, found.gid));
        if !is_open {
            let message = format!("`{}` is closed to every user of the jail", source.display());
            self.find(
                Diagnostic::warning("W0013", message)
                    .at_maybe(
                        span,
                        format!(
                            "mode {:o} of user {} and group {}",
                            found.mode, found.uid, found.gid
                        ),
                    )
                    .help("`idmap = true` makes it the jail's, where its file system can"),
            );
        }
    }

    /// The number of a tree of the host that the supervisor opens for the
    /// jail; `None` where the jail can do that itself.
    pub(super) fn host_tree(
        &mut self,
        source: &Path,
        recursive: bool,
        mapped: bool,
    ) -> Option<usize> {
        self.open_tree(TreeSource::Path(source.to_owned()), recursive, mapped)
    }

    pub(super) fn open_tree(
        &mut self,
        source: TreeSource,
        recursive: bool,
        mapped: bool,
    ) -> Option<usize> {
        let slave = self.unit.root.propagation.value == Propagation::Slave;
        self.opens_trees.then(|| {
            self.trees.push(HostTree { source, recursive, mapped, slave });
            self.trees.len() - 1
        })
    }

    /// Whether the files of the root belong to the jail's users by their mounts.
    pub(super) fn is_mapped(&self) -> bool {
        self.shift == Shift::Map
    }

    /// Whether the jail has a user of that number, or shares the host's.
    pub(super) fn has_uid(&self, uid: u32) -> bool {
        self.maps.as_ref().is_none_or(|maps| maps.uid_outside(uid).is_some())
    }

    /// Whether the jail has a group of that number, or shares the host's.
    pub(super) fn has_gid(&self, gid: u32) -> bool {
        self.maps.as_ref().is_none_or(|maps| maps.gid_outside(gid).is_some())
    }

    /// Refuses the first of some ids that does not exist in the jail; false
    /// then.
    pub(super) fn refuse_unmapped(&mut self, ids: &[(&'static str, u32, Option<Span>)]) -> bool {
        let is_single = self.maps.as_ref().is_some_and(IdMaps::is_single);
        for (what, id, span) in ids {
            let exists = if *what == "user" { self.has_uid(*id) } else { self.has_gid(*id) };
            if exists {
                continue;
            }
            let message = format!("the {what} {id} does not exist in the jail");
            let diagnostic = if is_single {
                let reason = "in a user namespace without further ids there is only root";
                let help = "run as root, or leave `user` out: root inside is the caller outside; `[idmap]` gives the jail more users";
                let found = Diagnostic::error("E0309", message).at_maybe(*span, reason);
                if *what == "user" { found.help(help) } else { found }
            } else {
                let map = self.unit.idmap.as_ref();
                let at = map.and_then(|map| map.count.as_ref().and_then(|it| it.span).or(map.at));
                Diagnostic::error("E0206", message)
                    .at_maybe(*span, "outside of the id map")
                    .context(at, "the map")
            };
            self.find(diagnostic);
            return false;
        }
        true
    }
}

fn written(map: &IdMap, writer: MapWriter) -> IdMaps {
    let ranges = |list: &[Setting<IdRange>]| list.iter().map(|range| range.value).collect();
    IdMaps { uid: ranges(&map.uid), gid: ranges(&map.gid), writer }
}

/// The file that whoever has a range holds the lock on.
fn claim(state: &Path, slot: u32) -> PathBuf {
    state.join(format!("ids-{slot}"))
}
