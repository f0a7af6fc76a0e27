//! Users and groups: the id map, and how the host's trees come to belong to
//! the jail's users.

use std::path::{Path, PathBuf};

use super::root::Tree;
use super::step::{HostTree, IdMaps, MapWriter, Planned, Step, TreeSource};
use super::{FoundIds, Planner, origin};
use crate::diagnostic::Diagnostic;
use crate::host::{Host, kernel_version};
use crate::source::Span;
use crate::unit::decode::Setting;
use crate::unit::idmap::{COUNT, IdMap, IdMode, IdRange, Ownership};
use crate::unit::root::{Propagation, RootKind};

/// Ranges of jails that root starts begin here: neither systemd nor any other
/// known giver of ids uses what is from here on up to 2³¹.
const GRID: u32 = 0x7000_0000;
/// How many ranges there are.
const SLOTS: u32 = 0x1000;

/// The first id that login.defs(5) gives to ranges, not to users.
const ABOVE_USERS: u32 = 100_000;

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
        // The grid's range has been claimed already, and the host's own numbers
        // are nobody's to claim.
        let chosen = map.mode.value == IdMode::Manual || map.base.is_some();
        if let Some(maps) = maps.as_ref().filter(|_| is_root && chosen) {
            self.claim_chosen(map, maps);
        }
        self.maps = maps;
    }

    /// Claims the ranges that the unit names, and tells of another running
    /// jail that has some of them: two may be meant to own the same files.
    fn claim_chosen(&mut self, map: &IdMap, maps: &IdMaps) {
        let mut ranges: Vec<_> =
            maps.uid.iter().chain(&maps.gid).map(|range| (range.outside, range.count)).collect();
        ranges.sort_unstable();
        ranges.dedup();
        let claimed = self.claimed();
        for range in ranges {
            if let Some(owner) = self.holder(&claimed, range) {
                let (first, last) = (range.0, range.0 + (range.1 - 1));
                let of = |list: &[Setting<IdRange>]| {
                    list.iter().find(|it| it.value.outside == first).and_then(|it| it.span)
                };
                let base = map.base.as_ref().and_then(|base| base.span);
                let span = base.or_else(|| of(&map.uid)).or_else(|| of(&map.gid));
                let message = format!("the running jail `{owner}` has some of these ids as well");
                self.find(
                    Diagnostic::warning("W0015", message)
                        .at_maybe(span, format!("{first} to {last} of the host"))
                        .help("each can reach the other's files: give one another range, unless that is meant"),
                );
            }
            self.claims.push(Claim::Chosen(range.0, range.1));
        }
    }

    /// Takes the jail's ranges, where it has some of its own.
    pub(super) fn claim_ids(&mut self, state: &Path) {
        let Some(map) = &self.unit.idmap else { return };
        let name = &self.unit.name.value;
        for claim in std::mem::take(&mut self.claims) {
            let step = Step::ClaimIds { path: claim.path(state, name), name: name.clone() };
            self.push(step, origin(map.mode.span.or(map.at), "idmap.mode"));
        }
    }

    /// Ranges that jails of root have claimed, each with the file's name.
    fn claimed(&self) -> Vec<(Claim, String)> {
        let names = self.host.list(&self.host.state_directory()).unwrap_or_default();
        names.into_iter().filter_map(|name| Some((Claim::parse(&name)?.0, name))).collect()
    }

    /// The other running jail that has a range which shares an id with one. Of
    /// many jails only those are looked at whose ranges do.
    fn holder(&self, claimed: &[(Claim, String)], range: (u32, u32)) -> Option<String> {
        let state = self.host.state_directory();
        claimed.iter().filter(|(claim, _)| meet(claim.range(), range)).find_map(|(_, file)| {
            let path = state.join(file);
            let owner = match Claim::parse(file) {
                Some((_, Some(owner))) => owner.to_owned(),
                // Empty for the moment between the lock and the name.
                _ => {
                    let text = self.host.read(&path, 64).unwrap_or_default();
                    String::from_utf8_lossy(&text).into_owned()
                }
            };
            (owner != self.unit.name.value && self.host.is_locked(&path)).then_some(owner)
        })
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
        let users = self.subordinate(&USERS, None);
        let groups = self.subordinate(&GROUPS, None);
        let given = [users?, groups?].concat();
        let name = self.unit.name.value.as_bytes();
        // FNV-1a.
        let hash = name.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let claimed = self.claimed();
        let free = (0..SLOTS).map(|next| (hash.wrapping_add(next)) % SLOTS).find(|slot| {
            let range = Claim::Slot(*slot).range();
            let is_given = given.iter().any(|given| meet((given.first, given.count), range));
            !is_given && self.holder(&claimed, range).is_none()
        });
        let Some(slot) = free else {
            self.find(
                Diagnostic::error("E0314", "there is no free range of ids left")
                    .at_maybe(map.mode.span.or(map.at), "asked for here"),
            );
            return None;
        };
        self.claims.push(Claim::Slot(slot));
        let place = match slot == hash % SLOTS {
            true => "the place of the jail's name among the ranges of root's jails",
            false => "the first free range after the place of the jail's name",
        };
        let outside = Claim::Slot(slot).range().0;
        self.found_ids("idmap.uid", IdRange { inside: 0, outside, count }, place);
        self.found_ids("idmap.gid", IdRange { inside: 0, outside, count }, place);
        Some(outside)
    }

    /// Notes where ids come from that the unit does not name.
    fn found_ids(&mut self, key: &'static str, range: IdRange, place: &str) {
        self.ids.push(FoundIds { key, range, place: place.to_owned() });
    }

    /// Root inside is the caller, and what follows are the caller's ranges.
    fn ranges_of_caller(&mut self, map: &IdMap, kind: &Kind, own: u32) -> Option<Vec<IdRange>> {
        let names = self.names_of_caller();
        let mut given = self.subordinate(kind, Some(&names))?;
        let name = names.last().cloned().unwrap_or_default();
        let at = map.mode.span.or(map.at);
        if given.is_empty() {
            let (first, last) = self.nobodys()?;
            self.find(
                Diagnostic::error(
                    "E0314",
                    format!("`{name}` has no {} ids to give to a jail", kind.what),
                )
                .at_maybe(at, format!("no range of `{name}` in {}", kind.file))
                .help(format!(
                    "`usermod --add-subuids {first}-{last} --add-subgids {first}-{last} {name}` as root, or mode \"root\""
                )),
            );
            return None;
        }
        if let Some(base) = &map.base {
            let Some(range) = given.iter().find(|range| {
                base.value.checked_sub(range.first).is_some_and(|distance| distance < range.count)
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
            let count = range.first + range.count - base.value;
            given = vec![Given { first: base.value, count, ..range.clone() }];
        }
        let wanted = map.count.as_ref().map_or(COUNT, |count| count.value);
        let key = if kind.what == USERS.what { "idmap.uid" } else { "idmap.gid" };
        let root = IdRange { inside: 0, outside: own, count: 1 };
        self.found_ids(key, root, "the caller");
        let mut ranges = vec![root];
        let mut inside = 1;
        for range in given {
            let count = range.count.min(wanted.saturating_sub(inside));
            if count > 0 {
                let found = IdRange { inside, outside: range.first, count };
                ranges.push(found);
                self.found_ids(key, found, &range.place);
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

    /// Ranges of one user, or all of them. Nobody has any where there is no
    /// such file; one that cannot be read may give all of them to somebody.
    fn subordinate(&mut self, kind: &Kind, names: Option<&[String]>) -> Option<Vec<Given>> {
        const LIMIT: usize = 1 << 20;
        let reason = match self.host.read_following(Path::new(kind.file), LIMIT) {
            Ok(text) if text.len() < LIMIT => {
                return Some(given(&String::from_utf8_lossy(&text), kind.file, names));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(Vec::new()),
            Ok(_) => "the file is longer than 1 MiB".to_owned(),
            Err(error) => crate::unit::io_reason(&error),
        };
        let map = self.unit.idmap.as_ref();
        let at = map.and_then(|map| map.mode.span.or(map.at));
        let message =
            format!("the host does not say which {} ids are somebody's already", kind.what);
        self.find(
            Diagnostic::error("E0318", message)
                .at_maybe(at, format!("`{}` cannot be read", kind.file))
                .note(reason)
                .help("without it a jail could get ids that are another user's"),
        );
        None
    }

    /// The first and the last id of a range that could be given to somebody:
    /// above those of the host's own users, and in nobody's range. To have any
    /// other in a file of ranges would be to be that user.
    fn nobodys(&mut self) -> Option<(u32, u32)> {
        let mut given = self.subordinate(&USERS, None)?;
        given.extend(self.subordinate(&GROUPS, None)?);
        given.sort_unstable_by_key(|given| given.first);
        let mut first = ABOVE_USERS;
        for given in given {
            if meet((first, COUNT), (given.first, given.count)) {
                first = given.first.saturating_add(given.count);
            }
        }
        Some((first, first.saturating_add(COUNT - 1)))
    }

    /// What newuidmap(1) would refuse.
    fn check_manual(&mut self, map: &IdMap, uid: u32, gid: u32) {
        let names = self.names_of_caller();
        for (kind, ranges, own) in [(USERS, &map.uid, uid), (GROUPS, &map.gid, gid)] {
            let Some(given) = self.subordinate(&kind, Some(&names)) else { continue };
            for Setting { value: range, span } in ranges {
                let is_own = (range.outside, range.count) == (own, 1);
                let is_given = given.iter().any(|given| {
                    range.outside >= given.first
                        && u64::from(range.outside) + u64::from(range.count)
                            <= u64::from(given.first) + u64::from(given.count)
                });
                if !is_own && !is_given {
                    let Some((first, last)) = self.nobodys() else { return };
                    let name = names.last().cloned().unwrap_or_default();
                    let key = kind.key;
                    self.find(
                        Diagnostic::error(
                            "E0314",
                            format!("these {} ids are not `{name}`'s to give", kind.what),
                        )
                        .at_maybe(*span, format!("in no range of `{name}` in {}", kind.file))
                        .help(format!(
                            "`outside = {own}` is the caller alone; `usermod --add-sub{key}s {first}-{last} {name}` as root gives ids that nobody else has"
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

    /// Tells of trees whose file system cannot show other owners.
    pub(super) fn check_mapped(&mut self, steps: &[Planned]) {
        let Some(map) = &self.unit.idmap else { return };
        let trees = steps.iter().find_map(|planned| match &planned.step {
            Step::Enter { trees, .. } => Some(trees),
            _ => None,
        });
        for tree in trees.into_iter().flatten() {
            if let Some(reason) = unmappable(tree, self.host) {
                self.find(
                    Diagnostic::warning("W0016", reason)
                        .at_maybe(map.ownership.span.or(map.at), "its files are to be the jail's")
                        .help("`ownership = \"chown\"` changes the owners in a root directory instead"),
                );
            }
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

    /// Whether the jail has a group of that number, or shares the caller's.
    pub(super) fn has_gid(&self, gid: u32) -> bool {
        match &self.maps {
            Some(maps) => maps.gid_outside(gid).is_some(),
            None => !self.host.in_user_namespace() || self.caller_has_gid(gid),
        }
    }

    /// Whether the launch may set and clear groups: not in a user namespace
    /// whose maker had no right to.
    pub(super) fn may_set_groups(&self) -> bool {
        if let Some(maps) = &self.maps {
            return maps.may_set_groups();
        }
        if !self.host.in_user_namespace() {
            return true;
        }
        let file = Path::new("/proc/self/setgroups");
        let answer = self.host.read_following(file, 16).unwrap_or_default();
        !answer.starts_with(b"deny")
    }

    /// Whether a group exists in the user namespace of the caller.
    fn caller_has_gid(&self, gid: u32) -> bool {
        let file = Path::new("/proc/self/gid_map");
        // Where it is hidden, the kernel will say it.
        let Ok(map) = self.host.read_following(file, 1 << 16) else { return true };
        String::from_utf8_lossy(&map).lines().any(|line| {
            let mut words = line.split_whitespace().map(str::parse::<u32>);
            let (Some(Ok(first)), Some(Ok(_)), Some(Ok(count))) =
                (words.next(), words.next(), words.next())
            else {
                return false;
            };
            gid.checked_sub(first).is_some_and(|distance| distance < count)
        })
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
                let help = match span {
                    Some(_) => {
                        "run as root, or leave `user` out: root inside is the caller outside; `[idmap]` gives the jail more users"
                    }
                    None => {
                        "the image asks for it: `user = 0` in `[process]` makes it root inside, the caller outside; `[idmap]` gives the jail more users"
                    }
                };
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

/// Major and minor version of a kernel.
type Version = (u32, u32);

/// File systems without mapped mounts, and since when they have some: magic
/// number of statfs(2), name, version of the kernel.
const UNMAPPABLE: &[(i64, &str, Option<Version>)] = &[
    (0x0000_6969, "nfs", None),
    (0xff53_4d42, "cifs", None),
    (0xfe53_4d42, "smb2", None),
    (0x794c_7630, "overlay", None),
    (0x0000_9fa0, "proc", None),
    (0x6265_6572, "sysfs", None),
    (0x0027_e0eb, "cgroup", None),
    (0x6367_7270, "cgroup2", None),
    (0x0000_1cd1, "devpts", None),
    // From then on its server is asked.
    (0x6573_5546, "fuse", Some((6, 12))),
    (0x0102_1994, "tmpfs", Some((6, 3))),
    (0x7371_7368, "squashfs", Some((6, 2))),
    (0xe0f5_e1e2, "erofs", Some((5, 19))),
    (0xf2f5_2010, "f2fs", Some((5, 18))),
    (0x9123_683e, "btrfs", Some((5, 15))),
];

/// Why a tree cannot be mapped, if that is so.
pub(crate) fn unmappable(tree: &HostTree, host: &impl Host) -> Option<String> {
    let TreeSource::Path(path) = &tree.source else { return None };
    if !tree.mapped {
        return None;
    }
    let magic = host.filesystem(path).ok()?;
    let (_, name, since) = UNMAPPABLE.iter().find(|(known, ..)| *known == magic)?;
    let path = path.display();
    let Some((major, minor)) = since else {
        return Some(format!("`{path}` is on {name}, which has no mapped mounts"));
    };
    (kernel_version(host)? < (*major, *minor)).then(|| {
        format!("`{path}` is on {name}, which has mapped mounts since Linux {major}.{minor}")
    })
}

/// A range of ids that is a user's to give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    first: u32,
    count: u32,
    /// The file's name and number of the line.
    place: String,
}

/// Reads subuid(5), and what is like it. A range that goes on beyond the last
/// id ends there.
fn given(text: &str, file: &str, names: Option<&[String]>) -> Vec<Given> {
    let ranges = text.lines().zip(1..).filter_map(|(line, number)| {
        let (name, range) = line.trim().split_once(':')?;
        let (first, count) = range.split_once(':')?;
        let (first, count): (u32, u64) = (first.parse().ok()?, count.parse().ok()?);
        let is_theirs = names.is_none_or(|names| names.iter().any(|known| known == name));
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(u32::MAX - first);
        let place = || format!("{file}:{number}");
        (is_theirs && count > 0).then(|| Given { first, count, place: place() })
    });
    ranges.collect()
}

fn written(map: &IdMap, writer: MapWriter) -> IdMaps {
    let ranges = |list: &[Setting<IdRange>]| list.iter().map(|range| range.value).collect();
    IdMaps { uid: ranges(&map.uid), gid: ranges(&map.gid), writer }
}

/// Whether two ranges, first id and how many, share one.
fn meet(one: (u32, u32), other: (u32, u32)) -> bool {
    let begins_before_end = |one: (u32, u32), other: (u32, u32)| {
        u64::from(one.0) < u64::from(other.0) + u64::from(other.1)
    };
    begins_before_end(one, other) && begins_before_end(other, one)
}

/// Ranges of ids that a running jail of root has for itself: a file in the
/// state directory, locked as long as it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// One of the grid, which no two jails may have.
    Slot(u32),
    /// One that a unit names: first id and how many.
    Chosen(u32, u32),
}

impl Claim {
    /// First id and how many.
    fn range(self) -> (u32, u32) {
        match self {
            Self::Slot(slot) => (GRID + slot * COUNT, COUNT),
            Self::Chosen(first, count) => (first, count),
        }
    }

    /// The file that whoever has it holds the lock on.
    fn path(self, state: &Path, name: &str) -> PathBuf {
        match self {
            Self::Slot(slot) => state.join(format!("ids-{slot}")),
            Self::Chosen(first, count) => state.join(format!("ids-{first}-{count}-{name}")),
        }
    }

    /// Reads the name of such a file; with the jail's where it is part of it.
    fn parse(name: &str) -> Option<(Self, Option<&str>)> {
        let rest = name.strip_prefix("ids-")?;
        let Some((first, rest)) = rest.split_once('-') else {
            let slot = rest.parse().ok().filter(|slot| *slot < SLOTS)?;
            return Some((Self::Slot(slot), None));
        };
        let (count, name) = rest.split_once('-')?;
        Some((Self::Chosen(first.parse().ok()?, count.parse().ok()?), Some(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_read_as_they_are_named() {
        let state = Path::new("/run");
        for claim in [Claim::Slot(0), Claim::Slot(4095), Claim::Chosen(300_000, 65_536)] {
            let path = claim.path(state, "a-jail-1");
            let (read, name) = Claim::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
            assert_eq!(read, claim);
            assert!(name.is_none_or(|name| name == "a-jail-1"));
        }
        for name in ["ids-", "ids-4096", "ids-x", "ids-1-2", "ids--1-x", "ids.json", "web.json"] {
            assert_eq!(Claim::parse(name), None, "{name}");
        }
    }

    #[test]
    fn ranges_meet_where_they_share_an_id() {
        assert!(meet((0, 10), (9, 1)) && meet((9, 1), (0, 10)) && meet((3, 2), (0, 10)));
        assert!(!meet((0, 10), (10, 1)) && !meet((10, 1), (0, 10)));
        assert!(meet((u32::MAX - 5, 5), (u32::MAX - 1, 1)));
    }

    #[test]
    fn a_range_beyond_the_last_id_ends_there() {
        let names = ["1000".to_owned(), "me".to_owned()];
        let text =
            "# none\nme:100000:65536\nother:1:2\n1000:4294967290:4294967296\nme:x:1\nme:5:0\n";
        let found = given(text, "/etc/subuid", Some(&names));
        let range =
            |first, count, line| Given { first, count, place: format!("/etc/subuid:{line}") };
        assert_eq!(found, [range(100_000, 65_536, 2), range(4_294_967_290, 5, 4)]);
        assert_eq!(given(text, "/etc/subuid", None).len(), 3);
    }
}
