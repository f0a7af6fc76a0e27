//! Units which together have every kind of step in their plans, as far as this
//! kind of machine can do them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::world::World;

/// One unit.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    /// Started by an ordinary user.
    pub(crate) user: bool,
    /// Started on a terminal.
    pub(crate) terminal: bool,
    /// Started with a secure bit set, which an execve does not clear.
    pub(crate) secure_bits: bool,
    /// What a launch makes below the root, and a failed one takes back.
    pub(crate) makes: &'static [&'static str],
}

const fn plain(name: &'static str, text: &'static str) -> Unit {
    Unit { name, text, user: false, terminal: false, secure_bits: false, makes: &[] }
}

/// All of them. `{root}` is a directory with busybox in it, `{dir}` that with
/// everything else.
pub(crate) const UNITS: &[Unit] = &[
    plain("plain", "root.path = \"{root}\""),
    Unit { user: true, ..plain("user", "root.path = \"{root}\"") },
    Unit {
        makes: &["new", "link"],
        ..plain(
            "full",
            r#"
hostname = "host-a"
domainname = "domain-a"
root.path = "{root}"
root.propagation = "shared"
namespaces.time = "private"
namespaces.time-offsets = { boottime = "1h" }
limits.memory = "64M"
limits.cpu = 1
devices = [{ path = "/dev/fuse" }]
security.landlock = { read = ["/"], execute = ["/"] }
limits.pids = 100
limits.cpuset = "0"
limits.rlimits = { nofile = 512 }
security.sysctl = { "net.ipv4.ip_unprivileged_port_start" = "0" }
security.capabilities = ["CAP_KILL"]
security.ambient-capabilities = ["CAP_KILL"]
security.masked-paths = ["@default", "/etc/shadow", "/data"]
security.read-only-paths = ["@default", "/bin"]
mounts = [
  { target = "/new/dir", bind = "{dir}/data", read-only = true },
  { target = "/data", tmpfs = "1M" },
  { target = "/tmp/text", content = "text" },
  { target = "/link", symlink = "/data" },
  { target = "/run/link", symlink = "/data" },
  { target = "/run/overlay", overlay = { lower = ["{dir}/lower"], upper = "{dir}/up2", work = "{dir}/work2" } },
]
process = { user = "alice", nice = 1, oom-score-adjust = 10, cpu-affinity = "0", umask = "027", stdout = "file:{dir}/out", stderr = "append:{dir}/err", stdin = "null" }
lifecycle.timeout = "10m"
"#,
        )
    },
    plain(
        "memory",
        "root.tmpfs = \"8M\"\nroot.populate = [\"{dir}/lower\", \"{dir}/root.tar\"]\nroot.read-only = true",
    ),
    plain(
        "overlay",
        "root.lower = [\"{dir}/lower\", \"{root}\"]\nroot.upper = \"{dir}/up\"\nroot.work = \"{dir}/work\"",
    ),
    plain(
        "ephemeral",
        "root.path = \"{root}\"\nroot.ephemeral = true\nmounts = [{ target = \"/data\", overlay = { lower = [\"{dir}/a:b\"], upper = \"tmpfs\" } }]",
    ),
    plain(
        "mapped",
        "root.path = \"{root}\"\nroot.ephemeral = true\nidmap.mode = \"auto\"\nmounts = [{ target = \"/data\", bind = \"{dir}/data\", idmap = true }]",
    ),
    plain(
        "owned",
        "root.path = \"{dir}/owned\"\nidmap.mode = \"auto\"\nidmap.ownership = \"chown\"",
    ),
    plain("closure", "root.binaries = [\"/bin/true\"]\nprocess.command = [\"/bin/true\"]"),
    plain("archive", "root.tar = \"{dir}/root.tar\""),
    plain("block", "root.image = \"{dir}/root.squashfs\""),
    plain(
        "joining",
        "root.path = \"{root}\"\nnamespaces.ipc = \"/proc/1/ns/ipc\"\nnamespaces.pid = \"/proc/1/ns/pid\"\nprocess.init = false",
    ),
    Unit {
        secure_bits: true,
        ..plain(
            "sharing",
            r#"
root.path = "{root}"
root.switch = "chroot"
namespaces.pid = "host"
network.mode = "host"
limits.memory = "64M"
process.command = ["/bin/busybox", "sh", "-c", "/bin/busybox sleep 100 & :"]
"#,
        )
    },
    Unit { terminal: true, ..plain("terminal", "root.path = \"{root}\"") },
];

impl Unit {
    /// Where it is written to.
    pub(crate) fn path(&self, world: &World) -> PathBuf {
        world.scratch.join(format!("{}.toml", self.name))
    }

    /// The root directory of all.
    pub(crate) fn root(world: &World) -> PathBuf {
        world.scratch.join("root")
    }

    /// Removes what an earlier launch has made, and what it has stored.
    pub(crate) fn reset(&self, world: &World) {
        for made in self.makes {
            let path = Self::root(world).join(made);
            if fs::remove_dir_all(&path).is_err() {
                fs::remove_file(&path).ok();
            }
        }
        fs::remove_dir_all("/var/lib/jailrun").ok();
    }

    /// What an import that has failed has left half done, and `image gc` does
    /// not take back.
    pub(crate) fn half_stored(&self, world: &World) -> Vec<String> {
        let temporary = || fs::read_dir("/var/lib/jailrun/tmp").into_iter().flatten().flatten();
        if temporary().next().is_some() {
            let collected = Command::new(&world.jailrun).args(["image", "gc", "--quiet"]).status();
            if !collected.is_ok_and(|status| status.success()) {
                return vec!["`jailrun image gc` fails".to_owned()];
            }
        }
        temporary().map(|entry| format!("left: {}", entry.path().display())).collect()
    }

    /// What it has made and not taken back.
    pub(crate) fn made(&self, world: &World) -> Vec<String> {
        let there = |made: &&&str| Self::root(world).join(made).symlink_metadata().is_ok();
        self.makes.iter().filter(there).map(|made| format!("left: /{made} in the root")).collect()
    }
}

/// Writes the units and everything that they name.
pub(crate) fn write(world: &World) -> io::Result<()> {
    let scratch = &world.scratch;
    let root = Unit::root(world);
    for name in ["proc", "sys", "dev", "tmp", "run", "etc", "bin", "data"] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/:/bin/sh\n",
    )?;
    fs::write(root.join("etc/shadow"), "")?;
    for name in ["proc", "sys", "dev", "tmp", "run", "bin"] {
        fs::create_dir_all(scratch.join("owned").join(name))?;
    }
    fs::copy("/bin/busybox", scratch.join("owned/bin/busybox"))?;
    fs::write(root.join("etc/group"), "root:x:0:\nstaff:x:50:alice\n")?;
    let lower = scratch.join("lower");
    for name in ["lower", "a:b", "data", "up", "work", "up2", "work2"] {
        fs::create_dir_all(scratch.join(name))?;
    }
    fs::write(lower.join("below"), "text")?;
    let run = |words: &[&str]| {
        let output = Command::new(words[0]).args(&words[1..]).current_dir(scratch).output()?;
        match output.status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("{words:?}: {output:?}"))),
        }
    };
    run(&["tar", "-C", "root", "-cf", "root.tar", "."])?;
    run(&["mksquashfs", "root", "root.squashfs", "-quiet", "-noappend", "-no-progress"])?;
    for unit in UNITS {
        let command = match unit.text.contains("command") {
            true => "",
            false => "process.command = [\"/bin/busybox\", \"true\"]",
        };
        // Tables in one line may not be opened a second time.
        let text = match unit.text.contains("process = {") {
            true => unit
                .text
                .replace("process = {", "process = { command = [\"/bin/busybox\", \"true\"],"),
            false => format!("{}\n{command}\n", unit.text),
        };
        let text = format!("name = \"fault-{}\"\n{text}", unit.name)
            .replace("{root}", &root.to_string_lossy())
            .replace("{dir}", &scratch.to_string_lossy());
        fs::write(unit.path(world), text)?;
    }
    Ok(())
}

/// Names of the kinds of step in each unit's plan, in this world.
pub(crate) fn kinds(world: &World) -> Result<Vec<(&'static str, Vec<String>)>, String> {
    let mut all = Vec::new();
    for unit in UNITS {
        crate::sys::secure_bits(unit.secure_bits).map_err(|error| error.to_string())?;
        let mut names = plan(&unit.path(world))?;
        crate::sys::secure_bits(false).map_err(|error| error.to_string())?;
        if unit.name == "archive" {
            // The rest is planned when the archive has been unpacked.
            let again = Path::new(&world.jailrun);
            let words = ["image", "import", "--quiet", "--tar"];
            let source = world.scratch.join("root.tar");
            let done = Command::new(again).args(words).arg(source).status();
            if !done.is_ok_and(|status| status.success()) {
                return Err("the archive is not imported".to_owned());
            }
            names.extend(plan(&unit.path(world))?);
        }
        if unit.terminal {
            names.push("Terminal".to_owned());
        }
        all.push((unit.name, names));
        unit.reset(world);
    }
    Ok(all)
}

fn plan(path: &Path) -> Result<Vec<String>, String> {
    use jailrun::plan::{Care, plan};
    let loaded = jailrun::unit::load(path, &[], &[]);
    let unit = loaded.unit.ok_or_else(|| format!("{:?}", loaded.diagnostics))?;
    let planning = plan(&unit, &jailrun::host::Machine::default(), Care::Launch);
    let plan =
        planning.plan.ok_or_else(|| format!("{}: {:?}", path.display(), planning.diagnostics))?;
    let name = |planned: &jailrun::plan::step::Planned| {
        let text = format!("{:?}", planned.step);
        text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default().to_owned()
    };
    Ok(plan.steps.iter().map(name).collect())
}
