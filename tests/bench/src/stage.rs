//! The files of the benchmark: a temporary directory with the jail's root, the sources of the binds
//! and the units.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, process};

use crate::error::Error;

/// The payload's path inside the jail.
pub(crate) const PAYLOAD: &str = "/nothing";

/// A program inside the jail that waits for its end.
pub(crate) const PAUSE: &str = "/pause";

/// The most binds a case makes, and how many mount points the root has for them.
pub(crate) const MOST_BINDS: usize = 1000;

/// The directories of the jail's root: the mount points of the API file systems, one without which
/// systemd-nspawn takes it for no root, and where the binds go.
const DIRECTORIES: [&str; 7] = ["proc", "sys", "dev", "tmp", "run", "usr", "binds"];

/// The temporary directory, removed with everything in it when dropped.
pub(crate) struct Stage {
    directory: PathBuf,
    payload: PathBuf,
}

impl Stage {
    /// Builds the jail's root, with the payload in it, and the sources of the binds.
    pub(crate) fn build(payload: &Path) -> Result<Self, Error> {
        let directory = env::temp_dir().join(format!("jailbench-{}", process::id()));
        // Fails when the path exists, so nobody else can have prepared it; closed to others,
        // whatever the umask.
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .map_err(Error::file("create", &directory))?;
        // Owns the directory from here on, so that it is removed when the rest fails.
        let stage = Self { directory, payload: payload.to_owned() };

        let root = stage.root();
        let beside = [stage.sources(), stage.mount_point()];
        for path in DIRECTORIES.map(|name| root.join(name)).into_iter().chain(beside) {
            fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        for (program, path) in
            [(payload.to_owned(), PAYLOAD), (payload.with_file_name("pause"), PAUSE)]
        {
            let copy = root.join(path.trim_start_matches('/'));
            fs::copy(program, &copy).map_err(Error::file("create", &copy))?;
        }
        for number in 0..MOST_BINDS {
            for path in [stage.source(number), root.join(format!("binds/{number}"))] {
                fs::write(&path, "").map_err(Error::file("create", &path))?;
            }
        }
        let mut tar = Command::new("tar");
        tar.arg("-C").arg(stage.root()).arg("-cf").arg(stage.archive()).arg(".");
        let status = tar.status().map_err(Error::file("start", "tar"))?;
        if !status.success() {
            let failed = std::io::Error::other(format!("tar ended with {status}"));
            return Err(Error::file("create", &stage.archive())(failed));
        }
        Ok(stage)
    }

    /// Copies a program; returns where to.
    pub(crate) fn install(&self, program: &Path) -> Result<PathBuf, Error> {
        let copy = self.directory.join(program.file_name().unwrap_or_default());
        fs::copy(program, &copy).map_err(Error::file("create", &copy))?;
        Ok(copy)
    }

    /// The jail's root directory.
    pub(crate) fn root(&self) -> PathBuf {
        self.directory.join("root")
    }

    /// The payload on the host, outside what the jail has memory over.
    pub(crate) fn payload(&self) -> PathBuf {
        self.payload.clone()
    }

    /// A directory to mount something on.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.directory.join("stage")
    }

    /// The root as an archive.
    pub(crate) fn archive(&self) -> PathBuf {
        self.directory.join("root.tar")
    }

    /// The directory of the files to bind, which are named by their numbers.
    pub(crate) fn sources(&self) -> PathBuf {
        self.directory.join("sources")
    }

    /// One of the files to bind, by its path on the host.
    pub(crate) fn source(&self, number: usize) -> PathBuf {
        self.sources().join(number.to_string())
    }

    /// Writes an OCI bundle and gives its directory.
    pub(crate) fn write_bundle(&self, name: &str, config: &str) -> Result<PathBuf, Error> {
        let directory = self.directory.join(name);
        fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
        let path = directory.join("config.json");
        fs::write(&path, config).map_err(Error::file("write", &path))?;
        Ok(directory)
    }

    /// Writes a unit file and gives its path.
    pub(crate) fn write_unit(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(format!("{name}.toml"));
        fs::write(&path, text).map_err(Error::file("write", &path))?;
        Ok(path)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            eprintln!("jailbench: cannot remove `{}`: {error}", self.directory.display());
        }
    }
}
