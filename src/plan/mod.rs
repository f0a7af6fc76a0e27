//! The plan: what will happen, in order, from the first change on the host to
//! the final execve.
//!
//! Everything is decided here, by looking at the unit and asking the host.
//! Nothing is changed here. `Planner::steps` is the page that holds the
//! order of a launch.

pub mod cgroup;
mod closure;
mod command;
pub(crate) mod danger;
pub mod describe;
pub(crate) mod devices;
mod files;
mod format;
pub(crate) mod ids;
mod image;
mod jails;
mod landlock;
pub(crate) mod mounts;
mod permission;
mod process;
pub(crate) mod root;
mod seccomp;
mod stack;
pub mod step;
mod sysctl;
mod user;
pub mod view;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use self::cgroup::LeftOut;
use self::step::{ExpectedMount, HostTree, IdMaps, IdRange, MapWriter, Origin, Planned, Step};
use self::view::View;
use crate::changes::Marks;
use crate::diagnostic::{self, Diagnostic, Severity};
use crate::host::{Host, Unanswered};
use crate::source::Span;
use crate::unit::Unit;
use crate::unit::decode::Setting;
use crate::unit::namespaces::{Mode, UserMode};
use crate::unit::process::Network;
use crate::unit::root::{Propagation, Switch};

/// Everything that a launch will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Name of the jail.
    pub name: String,
    /// The steps. Exactly one is `Enter`; the last is the only `Exec`.
    pub steps: Vec<Planned>,
}

impl Plan {
    /// Whether some steps have to be done before the rest can be planned.
    pub fn needs_preparation(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::ImportImage { .. }))
    }

    /// Index of the step that splits the host's side from the jail's.
    pub fn enter(&self) -> usize {
        self.steps
            .iter()
            .position(|planned| matches!(planned.step, Step::Enter { .. }))
            .unwrap_or(self.steps.len())
    }
}

/// Ids of a map, and who gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundIds {
    /// The key that would name them.
    pub key: &'static str,
    /// Which.
    pub range: IdRange,
    /// Where they were found.
    pub place: String,
}

/// What planning gives.
#[derive(Debug, Default)]
pub struct Planning {
    /// The plan, unless an error forbids it.
    pub plan: Option<Plan>,
    /// What was found, sorted by place.
    pub diagnostics: Vec<Diagnostic>,
    /// Limits that are left out.
    pub left_out: Vec<LeftOut>,
    /// What an image's configuration says, by key; for reports alone.
    pub from_image: Vec<(&'static str, String)>,
    /// Ids that the unit does not name; for reports alone.
    pub ids: Vec<FoundIds>,
    /// Keys whose files cannot be looked for yet, and what has to be done first;
    /// for reports alone.
    pub unknown: Vec<(&'static str, String)>,
}

/// How much planning looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Care {
    /// What the launch itself needs to know: a missing command is seen when
    /// execve says so.
    Launch,
    /// Everything that can be known beforehand.
    Everything,
}

/// Plans a unit for a host.
pub fn plan<H: Host>(unit: &Unit, host: &H, care: Care) -> Planning {
    let packed = image::find(unit, host);
    let with_defaults;
    let mut unit = unit;
    // An archive of a root has no configuration.
    let is_image = matches!(&packed, Some(Ok(packed)) if packed.is_image());
    if let Some(Ok(packed)) = packed.as_ref().filter(|_| is_image) {
        with_defaults = image::with_defaults(unit, &packed.config);
        unit = &with_defaults;
    }
    let mut planner = Planner::new(unit, host);
    if is_image && unit.process.command.is_none() && !unit.process.has_command {
        let at = unit.root.kind.as_ref().and_then(|kind| kind.span);
        planner.find(
            Diagnostic::error("E0104", "neither the unit nor its image says what to run")
                .at_maybe(at, "has no `Entrypoint` and no `Cmd`")
                .help("`command = [\"/bin/sh\"]` in `[process]`, or the command after `--`"),
        );
    }
    match packed {
        Some(Ok(packed)) => planner.packed = Some(packed),
        Some(Err(diagnostic)) => planner.find(*diagnostic),
        None => {}
    }
    let steps = planner.steps();
    planner.say_missing();
    if care == Care::Everything {
        planner.check_kernel();
        planner.check_clocks();
        planner.check_sysctls();
        planner.check_mapped(&steps);
        planner.check_layers(&steps);
        planner.look_below_root();
        planner.check_host_nodes(&steps);
        planner.check_streams(&steps);
        planner.check_namespaces(&steps);
        let is_unseen = planner.is_unseen();
        if is_unseen {
            planner.unseen.push("/".into());
        }
        if is_unseen || planner.view.holder(std::path::Path::new("/")).is_some() {
            let rules = planner.rules(&steps);
            if !is_unseen {
                planner.check_landlock();
            }
            planner.check_cwd(&rules);
            planner.check_command(&rules);
        }
    }
    planner.say_taken();
    for Unanswered { question, reason } in host.unanswered() {
        planner.find(
            Diagnostic::error("E0318", format!("the host does not say {question}"))
                .note(reason)
                .help("a launch without the answer could leave something out: try again"),
        );
    }
    let mut diagnostics = planner.findings;
    diagnostic::sort(&mut diagnostics);
    let sound = diagnostics.iter().all(|finding| finding.severity == Severity::Warning);
    let plan = (sound && unit.root.kind.is_some() && unit.process.command.is_some())
        .then(|| Plan { name: unit.name.value.clone(), steps });
    let from_image = match care {
        Care::Launch => Vec::new(),
        Care::Everything => image::settings(unit),
    };
    Planning {
        plan,
        diagnostics,
        left_out: planner.left_out,
        from_image,
        ids: planner.ids,
        unknown: planner.unknown,
    }
}

struct Planner<'a, H> {
    unit: &'a Unit,
    host: &'a H,
    /// Whether the jail has a user namespace of its own.
    private_user: bool,
    /// Its id map.
    maps: Option<IdMaps>,
    /// Which ranges of ids the jail has for itself.
    claims: Vec<ids::Claim>,
    /// Where the ids of its map come from.
    ids: Vec<FoundIds>,
    /// Where the unit's entries are mounted, and where each is written.
    targets: BTreeMap<OsString, Option<Span>>,
    /// How the files of the root come to belong to the jail's users.
    shift: ids::Shift,
    /// Whether the host's trees are opened from outside of the jail.
    opens_trees: bool,
    /// Those trees.
    trees: Vec<HostTree>,
    /// The image or archive that is the root.
    packed: Option<image::Packed>,
    findings: Vec<Diagnostic>,
    left_out: Vec<LeftOut>,
    /// Limits that cannot be set, by the reason, with the values that ask for them.
    missing_limits: Vec<(cgroup::Reason, Vec<(&'static str, Span)>)>,
    steps: Vec<Planned>,
    /// Steps on the host that make mount points in the root directory.
    host_nodes: Vec<Planned>,
    /// Where the layer with mount points is laid, for a root that cannot be
    /// written to; and what goes into that layer.
    points_at: Option<usize>,
    points: Vec<Planned>,
    /// Names given on the stage.
    staged: usize,
    /// Paths of the host that the launch makes, with the keys that need them.
    created: Vec<(Option<Span>, PathBuf)>,
    /// Mounts of procfs and sysfs in other places than `/proc` and `/sys`.
    kernel_mounts: Vec<(&'static str, PathBuf)>,
    /// Mounts that cannot be looked into before they are there.
    unseen: Vec<PathBuf>,
    /// Keys whose files lie there, and what has to be done first.
    unknown: Vec<(&'static str, String)>,
    view: View,
    expected: Vec<ExpectedMount>,
    /// Those of them that cannot be bound again, by index, with the keys that
    /// say so.
    unbindable: BTreeMap<usize, Option<Span>>,
    /// Parts of the host in the jail that take along what is not handed out
    /// without a word.
    taken: Vec<danger::Taken>,
    /// Directories of the root that are bound with what is mounted below them,
    /// and where.
    below_root: Vec<(PathBuf, PathBuf)>,
    /// Other jails that are joined, with their first processes.
    jails: Vec<(String, u32)>,
    /// Devices of the unit.
    devices: Vec<devices::Found>,
    /// The step that closes all others, where they are needed to mount.
    limit_devices_late: Option<Planned>,
}

impl<'a, H: Host> Planner<'a, H> {
    fn new(unit: &'a Unit, host: &'a H) -> Self {
        let (uid, _) = host.ids();
        let private_user = match unit.namespaces.user.value {
            UserMode::Auto => uid != 0 || unit.idmap.is_some(),
            UserMode::Private => true,
            UserMode::Host => false,
        };
        Self {
            unit,
            host,
            private_user,
            maps: None,
            claims: Vec::new(),
            ids: Vec::new(),
            targets: BTreeMap::new(),
            shift: ids::Shift::default(),
            opens_trees: false,
            trees: Vec::new(),
            packed: None,
            findings: Vec::new(),
            left_out: Vec::new(),
            missing_limits: Vec::new(),
            steps: Vec::with_capacity(64),
            host_nodes: Vec::new(),
            points_at: None,
            points: Vec::new(),
            staged: 0,
            created: Vec::new(),
            kernel_mounts: Vec::new(),
            unseen: Vec::new(),
            unknown: Vec::new(),
            view: View::new(match private_user {
                true => Marks::User,
                false => Marks::Trusted,
            }),
            expected: Vec::new(),
            unbindable: BTreeMap::new(),
            taken: Vec::new(),
            below_root: Vec::new(),
            jails: Vec::new(),
            devices: Vec::new(),
            limit_devices_late: None,
        }
    }

    /// The order of a launch. It is learnt from the record of container
    /// runtimes: what is read from the host comes before anything of the jail
    /// is touched, mounts are private before the first of them is made, and
    /// privileges go last, each after the last step that needs it.
    fn steps(&mut self) -> Vec<Planned> {
        self.check_privilege();
        self.id_maps();
        self.find_devices();
        let groups = self.groups();
        let tree = self.tree();
        let user = self.user(tree.as_ref());

        // On the host. The mount points that the root lacks are known only
        // when the jail's tree has been planned: they are put in below.
        let state = self.host.state_directory();
        self.always(
            Step::MakeStateDirectory { path: state.clone() },
            "journals are kept there, and the root is attached there",
        );
        let journal = state.join(format!("{}.json", self.unit.name.value));
        self.setting(Step::Journal { path: journal }, &self.unit.name.clone().map(drop), "name");
        self.claim_ids(&state);
        self.find_jails(&state);
        if let Some(tree) = &tree {
            self.prepare_tree(tree);
        }
        let nodes_at = self.steps.len();
        self.steps.extend(groups.create);
        self.open_streams();
        self.supervise();
        let join_at = self.steps.len();

        // In the jail's first process.
        self.steps.extend(groups.join);
        if self.maps.as_ref().is_some_and(|maps| maps.writer != MapWriter::Jail) {
            self.always(Step::BecomeRoot, "the caller is another user in the jail, or none");
        }
        self.always(Step::NewSession, "no way back to the caller's terminal");
        self.keyring();
        self.join_namespaces();
        if self.is_private(&self.unit.namespaces.cgroup) {
            self.setting(
                Step::NewCgroupNamespace,
                &unspan(&self.unit.namespaces.cgroup),
                "namespaces.cgroup",
            );
        }
        let propagation = match self.unit.root.propagation.value {
            Propagation::Slave => Propagation::Slave,
            _ => Propagation::Private,
        };
        self.always(
            Step::PrivateMounts { propagation },
            "before any mount: nothing may spread to the host",
        );
        self.names();
        if self.unit.network.value == Network::None {
            self.setting(Step::LoopbackUp, &unspan(&self.unit.network), "network.mode");
        }
        self.sysctls();
        let at = self.root(tree.as_ref(), &state);
        self.api_filesystems();
        self.fill_api_filesystems(tree.as_ref());
        self.device_nodes();
        self.mounts(&state);
        self.security_paths();
        self.say_created();
        self.finish_root(tree.as_ref());
        self.steps.extend(self.limit_devices_late.take());
        let switch = &self.unit.root.switch;
        let step = match switch.value {
            Switch::Pivot => Step::Pivot { at },
            Switch::Chroot => Step::Chroot { at },
        };
        self.setting(step, &unspan(switch), "root.switch");
        self.final_propagation();
        let expected = std::mem::take(&mut self.expected);
        self.always(
            Step::VerifyMounts { expected },
            "what is mounted is what was planned, or nothing runs",
        );

        // In the command's own process.
        let granted = self.bounding();
        self.init_and_terminal();
        self.use_streams();
        self.process_attributes();
        self.rlimits();
        self.privileges(&user, granted);
        self.landlock();
        self.command(&user);

        if let Some(at) = self.points_at {
            let points = std::mem::take(&mut self.points);
            self.steps.splice(at..at, points);
        }
        self.shift_owners(tree.as_ref());
        let enter = self.enter(groups.v2);
        self.steps.splice(join_at..join_at, enter);
        let nodes = std::mem::take(&mut self.host_nodes);
        self.steps.splice(nodes_at..nodes_at, nodes);
        std::mem::take(&mut self.steps)
    }

    fn push(&mut self, step: Step, origin: Origin) {
        self.steps.push(Planned { step, origin });
    }

    fn always(&mut self, step: Step, reason: &'static str) {
        self.push(step, Origin::Always(reason));
    }

    /// Adds a step that a key asked for, or that key's default.
    fn setting(&mut self, step: Step, setting: &Setting<()>, key: &'static str) {
        let of_image = image::image_origin(self.unit, key).filter(|_| setting.span.is_none());
        self.push(step, of_image.unwrap_or(origin(setting.span, key)));
    }

    fn find(&mut self, diagnostic: Diagnostic) {
        self.findings.push(diagnostic);
    }

    fn is_private(&self, mode: &Setting<Mode>) -> bool {
        mode.value == Mode::Private
    }

    /// Where the host path of the unit leads, from the unit's directory.
    fn resolve(&self, path: &crate::unit::value::HostPath) -> PathBuf {
        path.resolve(&self.unit.base)
    }
}

fn origin(span: Option<Span>, key: &'static str) -> Origin {
    match span {
        Some(span) => Origin::Key(span),
        None => Origin::Default(key),
    }
}

fn unspan<T>(setting: &Setting<T>) -> Setting<()> {
    Setting { value: (), span: setting.span }
}

#[cfg(test)]
mod tests;
