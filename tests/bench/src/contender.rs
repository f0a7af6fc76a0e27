//! The programs that are compared, and the commands that launch a jail by them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::error::Error;
use crate::jail::Jail;
use crate::options::Options;
use crate::stage::{PAUSE, Stage};

/// Which program launches the jail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Launcher {
    Floor,
    Bwrap,
    Jailrun,
    /// `unshare` of util-linux, which puts up a part of it.
    Unshare,
    Runc,
    Crun,
    Nspawn,
    Firejail,
}

impl Launcher {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Bwrap => "bwrap",
            Self::Jailrun => "jailrun",
            Self::Unshare => "unshare",
            Self::Runc => "runc",
            Self::Crun => "crun",
            Self::Nspawn => "nspawn",
            Self::Firejail => "firejail",
        }
    }

    /// The program's name, of those that are taken where they are there.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Floor | Self::Bwrap | Self::Jailrun => None,
            Self::Unshare => Some("unshare"),
            Self::Runc => Some("runc"),
            Self::Crun => Some("crun"),
            Self::Nspawn => Some("systemd-nspawn"),
            Self::Firejail => Some("firejail"),
        }
    }

    const PEERS: [Self; 5] = [Self::Unshare, Self::Runc, Self::Crun, Self::Nspawn, Self::Firejail];
}

/// A launcher and the command that makes it launch one certain jail.
pub(crate) struct Contender {
    pub(crate) launcher: Launcher,
    command: Command,
}

impl Contender {
    /// Launches the jail and waits for its end, without anything to read from or to write to.
    pub(crate) fn launch(&mut self) -> Result<ExitStatus, Error> {
        self.command.status().map_err(|error| Error::Spawn { command: line(&self.command), error })
    }

    /// Starts the jail, which stays.
    pub(crate) fn start(&mut self) -> Result<Child, Error> {
        self.command.spawn().map_err(|error| Error::Spawn { command: line(&self.command), error })
    }

    /// Turns a failed launch into an error, with what the launcher says when it is started once
    /// more.
    pub(crate) fn failure(mut self, status: ExitStatus) -> Error {
        let command = line(&self.command);
        match self.command.stderr(Stdio::piped()).output() {
            Ok(output) => Error::Launch { command, status, stderr: output.stderr },
            Err(error) => Error::Spawn { command, error },
        }
    }
}

/// Where the programs are; every path is absolute, so that no launch searches PATH.
pub(crate) struct Programs {
    floor: PathBuf,
    payload: PathBuf,
    bwrap: PathBuf,
    jailrun: Option<PathBuf>,
}

impl Programs {
    /// Finds `floor` and the payload beside this program, and the others as the options say.
    pub(crate) fn find(options: &Options) -> Result<Self, Error> {
        if !cfg!(target_feature = "crt-static") {
            return Err(Error::NotStatic);
        }
        let own = env::current_exe().map_err(Error::file("resolve", "/proc/self/exe"))?;
        let bwrap = match &options.bwrap {
            Some(path) => existing(path)?,
            None => in_path("bwrap").ok_or(Error::NoBubblewrap)?,
        };
        Ok(Self {
            floor: existing(&own.with_file_name("floor"))?,
            payload: existing(&own.with_file_name("nothing"))?,
            bwrap,
            jailrun: options.jailrun.as_deref().map(existing).transpose()?,
        })
    }

    /// Copies what a linker has written, as installing it does, and measures the copies: the page
    /// cache holds a file that was written in large pieces in larger pages, which takes a tenth off
    /// the start of a program. bubblewrap has been installed already.
    pub(crate) fn install(&mut self, stage: &Stage) -> Result<(), Error> {
        for program in [Some(&mut self.floor), self.jailrun.as_mut()].into_iter().flatten() {
            *program = stage.install(program)?;
        }
        Ok(())
    }

    /// The program that is run inside the jail.
    pub(crate) fn payload(&self) -> &Path {
        &self.payload
    }

    /// What the launchers say of their versions, a line for each.
    pub(crate) fn versions(&self) -> Result<String, Error> {
        let mut versions = String::new();
        for (launcher, path) in
            [(Launcher::Jailrun, self.jailrun.as_ref()), (Launcher::Bwrap, Some(&self.bwrap))]
        {
            if let Some(path) = path {
                let version = first_line(Command::new(path).arg("--version"))?;
                versions += &format!("{:<8} {version}\n", launcher.name());
            }
        }
        for launcher in Launcher::PEERS {
            if let Some(path) = launcher.program().and_then(in_path) {
                let version = first_line(Command::new(path).arg("--version"))?;
                versions += &format!("{:<8} {version}\n", launcher.name());
            }
        }
        Ok(versions)
    }

    /// Takes an archive out of jailrun's store.
    pub(crate) fn forget(&self, archive: &Path) -> Result<(), Error> {
        let Some(jailrun) = &self.jailrun else { return Ok(()) };
        for arguments in [
            vec!["image".as_ref(), "rm".as_ref(), archive.as_os_str()],
            vec!["image".as_ref(), "gc".as_ref()],
        ] {
            let mut command = Command::new(jailrun);
            command.args(arguments).stdout(Stdio::null());
            let status = command
                .status()
                .map_err(|error| Error::Spawn { command: line(&command), error })?;
            if !status.success() {
                let command = line(&command);
                return Err(Error::Launch { command, status, stderr: Vec::new() });
            }
        }
        Ok(())
    }

    /// The commands that launch a jail by the other programs that are there, and can: each is
    /// tried once.
    pub(crate) fn peers(&self, jail: &Jail, stage: &Stage) -> Result<Vec<Contender>, Error> {
        let mut peers = Vec::new();
        for launcher in Launcher::PEERS {
            let Some(program) = launcher.program().and_then(in_path) else { continue };
            let arguments = match launcher {
                Launcher::Floor | Launcher::Bwrap | Launcher::Jailrun => continue,
                Launcher::Unshare => jail.for_unshare(stage),
                Launcher::Runc | Launcher::Crun => jail.for_oci(stage, launcher.name())?,
                Launcher::Nspawn => jail.for_nspawn(stage),
                Launcher::Firejail => jail.for_firejail(stage),
            };
            let mut peer = contender(launcher, &program, arguments);
            // crun refuses hosts with both versions of control groups.
            if peer.launch()?.success() {
                peers.push(peer);
            } else {
                eprintln!("jailbench: {} does not run here, and is left out", launcher.name());
            }
        }
        Ok(peers)
    }

    /// What starts a jail that stays, for its memory and for many at once.
    pub(crate) fn stays(&self, jail: &Jail, stage: &Stage) -> Result<Vec<Contender>, Error> {
        let mut contenders = self.contenders(jail, stage)?;
        for Contender { launcher, command } in &mut contenders {
            let program = command.get_program().to_owned();
            let mut arguments: Vec<OsString> = command.get_args().map(Into::into).collect();
            match launcher {
                Launcher::Jailrun => {
                    arguments
                        .extend(["--set".into(), format!("process.command=[{PAUSE:?}]").into()]);
                }
                _ => {
                    arguments.pop();
                    arguments.push(PAUSE.into());
                }
            }
            *command = Command::new(program);
            command
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
        }
        Ok(contenders)
    }

    /// What jailrun takes to say what it would do, and the same for a wrong unit.
    pub(crate) fn readings(
        &self,
        jail: &Jail,
        stage: &Stage,
    ) -> Result<Vec<(&'static str, Contender)>, Error> {
        let Some(jailrun) = &self.jailrun else { return Ok(Vec::new()) };
        let mut arguments = jail.for_jailrun(stage)?;
        let unit = arguments.pop().unwrap_or_default();
        let reading = |words: &[&str]| {
            let mut all: Vec<OsString> = words.iter().map(OsString::from).collect();
            all.insert(1, unit.clone());
            contender(Launcher::Jailrun, jailrun, all)
        };
        Ok(vec![
            ("check", reading(&["check"])),
            ("up --explain", reading(&["up", "--explain"])),
            ("up --dry-run", reading(&["up", "--dry-run"])),
        ])
    }

    /// The commands that launch a jail: by every launcher there is.
    pub(crate) fn contenders(&self, jail: &Jail, stage: &Stage) -> Result<Vec<Contender>, Error> {
        let mut contenders = vec![
            contender(Launcher::Floor, &self.floor, jail.for_floor(stage)),
            contender(Launcher::Bwrap, &self.bwrap, jail.for_bwrap(stage)),
        ];
        if let Some(jailrun) = &self.jailrun {
            contenders.push(contender(Launcher::Jailrun, jailrun, jail.for_jailrun(stage)?));
        }
        Ok(contenders)
    }
}

fn contender(launcher: Launcher, program: &Path, arguments: Vec<OsString>) -> Contender {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Contender { launcher, command }
}

/// A path made absolute, if there is a file.
fn existing(path: &Path) -> Result<PathBuf, Error> {
    let path = path::absolute(path).map_err(Error::file("resolve", path))?;
    fs::metadata(&path).map_err(Error::file("find", &path))?;
    Ok(path)
}

/// The first executable file of that name in the directories of PATH.
fn in_path(name: &str) -> Option<PathBuf> {
    let directories = env::var_os("PATH")?;
    env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| {
        fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

/// Runs a command and gives the first line of what it prints.
pub(crate) fn first_line(command: &mut Command) -> Result<String, Error> {
    let output =
        command.output().map_err(|error| Error::Spawn { command: line(command), error })?;
    if !output.status.success() {
        return Err(Error::Launch {
            command: line(command),
            status: output.status,
            stderr: output.stderr,
        });
    }
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

/// A command as a line to read, cut where it gets long: it may have thousands of arguments.
fn line(command: &Command) -> String {
    const LONGEST: usize = 300;
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        if line.len() > LONGEST {
            return line + " …";
        }
        line += " ";
        line += &argument.to_string_lossy();
    }
    line
}
