//! The jails that are launched: described once, and told to each launcher in its own language.

use std::ffi::OsString;
use std::path::Path;

use crate::error::Error;
use crate::stage::{PAYLOAD, Stage};

/// The network the jail sees.
#[derive(Clone, Copy)]
pub(crate) enum Network {
    Host,
    /// A namespace of its own, with nothing but a loopback interface that is up.
    Own,
}

/// The limits a jail is put under, by jailrun alone: the others have none.
#[derive(Clone, Copy)]
pub(crate) enum Limits {
    None,
    /// Those jailrun sets when the unit says nothing.
    Default,
    /// Memory, CPU time and the number of processes.
    Three,
}

/// What holds the command back besides namespaces and the lack of capabilities, by jailrun alone:
/// the others are measured without any of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confinement {
    None,
    /// The system call filter.
    Filter,
    /// All that jailrun puts up when the unit says nothing: masked and read-only paths, the filter,
    /// no new privileges, no core files.
    Default,
    /// A user namespace with a range of ids of the jail's own.
    IdMap,
}

impl Confinement {
    pub(crate) const ALL: [Self; 4] = [Self::None, Self::Filter, Self::Default, Self::IdMap];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Filter => "filter",
            Self::Default => "defaults",
            Self::IdMap => "id map",
        }
    }

    /// The most it may take beyond a launch without, in microseconds of the reference machine.
    pub(crate) fn at_most(self) -> Option<f64> {
        match self {
            Self::None => None,
            Self::Filter => Some(60.0),
            Self::Default => Some(250.0),
            Self::IdMap => Some(150.0),
        }
    }

    /// The tables of the unit that ask for it.
    fn tables(self) -> String {
        const NONE: &str = "[security]\nmasked-paths = []\nread-only-paths = []\n";
        const NO_FILTER: &str = "no-new-privileges = false\nseccomp = \"off\"\n\n";
        const NO_CORE: &str = "[limits.rlimits]\ncore = \"infinity\"\n\n";
        match self {
            Self::None => format!("{NONE}{NO_FILTER}{NO_CORE}"),
            Self::Filter => format!("{NONE}\n{NO_CORE}"),
            Self::Default => String::new(),
            Self::IdMap => format!("[idmap]\nmode = \"auto\"\n\n{NONE}{NO_FILTER}{NO_CORE}"),
        }
    }
}

/// Where the jail's root comes from, for jailrun alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Root {
    /// A directory.
    Directory,
    /// A directory with memory laid over it.
    Ephemeral,
    /// A shell of the host with what it needs, and the payload.
    Closure,
    /// An archive, which is in the store after the first launch.
    Archive,
}

impl Root {
    pub(crate) const ALL: [Self; 4] =
        [Self::Directory, Self::Ephemeral, Self::Closure, Self::Archive];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::Ephemeral => "ephemeral",
            Self::Closure => "closure",
            Self::Archive => "archive",
        }
    }

    /// The most it may take beyond a launch from a directory, in microseconds of the reference
    /// machine.
    pub(crate) fn at_most(self) -> Option<f64> {
        match self {
            Self::Directory => None,
            Self::Ephemeral => Some(100.0),
            Self::Closure | Self::Archive => Some(150.0),
        }
    }
}

/// A jail with mount, pid, uts, ipc and cgroup namespaces, /proc, /dev and /tmp, and what is said
/// here.
#[derive(Clone, Copy)]
pub(crate) struct Jail {
    /// Names the unit file, together with the number of binds.
    pub(crate) name: &'static str,
    pub(crate) network: Network,
    pub(crate) limits: Limits,
    pub(crate) confinement: Confinement,
    /// How many files are bound, read-only, one by one.
    pub(crate) binds: usize,
    pub(crate) root: Root,
    /// Which of many jails alike it is.
    pub(crate) number: usize,
}

impl Jail {
    /// Whether `floor` makes the calls of this jail, too: it finds no libraries, and has no filter.
    pub(crate) fn has_floor(&self) -> bool {
        !matches!(self.root, Root::Closure) && !matches!(self.confinement, Confinement::Filter)
    }

    /// The arguments `floor` takes.
    pub(crate) fn for_floor(&self, stage: &Stage) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = match self.root {
            Root::Directory | Root::Closure => Vec::new(),
            Root::Ephemeral => vec!["--memory".into(), stage.mount_point().into()],
            Root::Archive => vec!["--layers".into(), stage.mount_point().into()],
        };
        match self.confinement {
            Confinement::None | Confinement::Filter => {}
            Confinement::Default => arguments.push("--masks".into()),
            Confinement::IdMap => arguments.push("--map".into()),
        }
        if let Network::Own = self.network {
            arguments.push("--net".into());
        }
        if self.binds > 0 {
            arguments.extend([
                "--binds".into(),
                self.binds.to_string().into(),
                stage.sources().into(),
            ]);
        }
        arguments.extend([stage.root().into(), PAYLOAD.into()]);
        arguments
    }

    /// The arguments bubblewrap takes.
    ///
    /// Its /dev comes with two mounts fewer than the others' (mqueue, and a file system of its own
    /// for shm); it is measured with the options its users give.
    pub(crate) fn for_bwrap(&self, stage: &Stage) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["--unshare-pid", "--unshare-uts", "--unshare-ipc", "--unshare-cgroup"]
                .map(OsString::from)
                .into();
        if let Network::Own = self.network {
            arguments.push("--unshare-net".into());
        }
        arguments.extend(["--bind".into(), stage.root().into(), "/".into()]);
        arguments
            .extend(["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"].map(OsString::from));
        for number in 0..self.binds {
            arguments.extend([
                "--ro-bind".into(),
                stage.source(number).into(),
                target(number).into(),
            ]);
        }
        arguments.extend(
            ["--die-with-parent", "--new-session", "--cap-drop", "ALL", PAYLOAD]
                .map(OsString::from),
        );
        arguments
    }

    /// The arguments of `unshare`, which mounts nothing but /proc.
    pub(crate) fn for_unshare(&self, stage: &Stage) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["--mount", "--uts", "--ipc", "--pid", "--cgroup", "--fork", "--kill-child"]
                .map(OsString::from)
                .into();
        if let Network::Own = self.network {
            arguments.push("--net".into());
        }
        arguments.extend(["--root".into(), stage.root().into(), "--mount-proc".into()]);
        arguments.push(PAYLOAD.into());
        arguments
    }

    /// The arguments of runc and crun; writes the bundle they name.
    pub(crate) fn for_oci(&self, stage: &Stage, name: &str) -> Result<Vec<OsString>, Error> {
        let bundle = stage.write_bundle(name, &self.bundle(stage, name))?;
        Ok(vec!["run".into(), "--bundle".into(), bundle.into(), format!("jailbench-{name}").into()])
    }

    /// An OCI configuration.
    fn bundle(&self, stage: &Stage, name: &str) -> String {
        let mut namespaces = vec!["pid", "ipc", "uts", "mount", "cgroup"];
        if let Network::Own = self.network {
            namespaces.push("network");
        }
        let namespaces: Vec<_> =
            namespaces.into_iter().map(|name| serde_json::json!({ "type": name })).collect();
        let none: [&str; 0] = [];
        serde_json::json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 0, "gid": 0 },
                "args": [PAYLOAD],
                "env": ["PATH=/"],
                "cwd": "/",
                "capabilities": {
                    "bounding": none, "effective": none, "permitted": none, "inheritable": none,
                },
                "noNewPrivileges": true,
            },
            "root": { "path": stage.root() },
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc" },
                {
                    "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "mode=755"],
                },
                { "destination": "/tmp", "type": "tmpfs", "source": "tmpfs" },
            ],
            "linux": { "namespaces": namespaces, "cgroupsPath": format!("/jailbench-{name}") },
        })
        .to_string()
    }

    /// The arguments of systemd-nspawn, for a host without systemd too.
    pub(crate) fn for_nspawn(&self, stage: &Stage) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["--register=no", "--keep-unit", "--settings=no", "--quiet", "--pipe"]
                .map(OsString::from)
                .into();
        if let Network::Own = self.network {
            arguments.push("--private-network".into());
        }
        arguments.extend(["--directory".into(), stage.root().into(), PAYLOAD.into()]);
        arguments
    }

    /// The arguments of firejail, which takes the host's tree for its root.
    pub(crate) fn for_firejail(&self, stage: &Stage) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["--quiet", "--noprofile", "--caps.drop=all"].map(OsString::from).into();
        if let Network::Own = self.network {
            arguments.push("--net=none".into());
        }
        arguments.push(stage.root().join(PAYLOAD.trim_start_matches('/')).into());
        arguments
    }

    /// The arguments jailrun takes; writes the unit they name.
    pub(crate) fn for_jailrun(&self, stage: &Stage) -> Result<Vec<OsString>, Error> {
        let unit = stage.write_unit(
            &format!("{}-{}-{}", self.name.replace(' ', "-"), self.binds, self.number),
            &self.unit(stage),
        )?;
        Ok(vec!["up".into(), "--quiet".into(), unit.into()])
    }

    /// The unit's text.
    fn unit(&self, stage: &Stage) -> String {
        let path = quoted(&stage.root());
        let payload = quoted(&stage.payload());
        let archive = quoted(&stage.archive());
        let (root, command) = match self.root {
            Root::Directory => (format!("path = {path}"), format!("{PAYLOAD:?}")),
            Root::Ephemeral => (format!("path = {path}\nephemeral = true"), format!("{PAYLOAD:?}")),
            Root::Closure => (format!("binaries = [\"sh\", {payload}]"), payload),
            Root::Archive => (format!("tar = {archive}"), format!("{PAYLOAD:?}")),
        };
        let network = match self.network {
            Network::Host => "host",
            Network::Own => "none",
        };
        let limits = match self.limits {
            Limits::None => "[limits]\npids = \"infinity\"\n\n",
            Limits::Default => "",
            Limits::Three => "[limits]\nmemory = \"256M\"\ncpu = 1.0\npids = 64\n\n",
        };
        let security = self.confinement.tables();
        let mut unit = format!(
            "[root]\n{root}\napi-filesystems = [\"/proc\", \"/dev\", \"/tmp\"]\n\n\
             [network]\nmode = \"{network}\"\n\n\
             {limits}{security}\
             [process]\ncommand = [{command}]\n"
        );
        for number in 0..self.binds {
            let source = quoted(&stage.source(number));
            let target = target(number);
            unit += &format!(
                "\n[[mounts]]\ntarget = \"{target}\"\nbind = {source}\nread-only = true\n"
            );
        }
        unit
    }
}

/// Where a source is bound inside the jail.
fn target(number: usize) -> String {
    format!("/binds/{number}")
}

/// A path as a TOML string; `Debug` escapes the quote and the backslash as TOML does.
fn quoted(path: &Path) -> String {
    format!("{:?}", path.to_string_lossy())
}
