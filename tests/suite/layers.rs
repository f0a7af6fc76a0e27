//! Unpacking layers: good ones compared with tar(1) and umoci(1), bad ones
//! refused by name, with nothing touched outside; as root and as an ordinary
//! user.

mod bad;
mod blobs;
mod good;
mod random;
mod snapshot;
mod whiteouts;
mod writer;

use std::fs;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use jailrun::image::blob::unpack_blob;
use jailrun::image::layer::{Expected, LayerError, Options, Owners, Unpacked, Whiteouts};

use super::support::{Caller, USER, require_root, scratch};
use snapshot::Tree;

/// A directory to unpack into, with things beside it that no layer may touch.
struct Target {
    directory: tempfile::TempDir,
    into: PathBuf,
    before: Tree,
}

impl Target {
    fn new(caller: Caller) -> Self {
        require_root();
        let directory = scratch();
        let beside = directory.path().join("outside");
        fs::create_dir(&beside).unwrap();
        fs::write(beside.join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink("secret", beside.join("link")).unwrap();
        let into = directory.path().join("into");
        fs::create_dir(&into).unwrap();
        if caller == Caller::User {
            // It may write everywhere: only the unpacker keeps it from it.
            for path in [directory.path(), &beside, &beside.join("secret"), &into] {
                std::os::unix::fs::chown(path, Some(USER), Some(USER)).unwrap();
            }
        }
        let before = around(directory.path());
        Self { directory, into, before }
    }

    /// The directory beside, as an absolute path.
    fn outside(&self) -> PathBuf {
        self.directory.path().join("outside")
    }

    fn tree(&self) -> Tree {
        snapshot::read(&self.into)
    }

    #[track_caller]
    fn assert_nothing_touched(&self) {
        snapshot::assert_same(&around(self.directory.path()), &self.before);
    }
}

/// The tree without what is unpacked.
fn around(directory: &Path) -> Tree {
    let mut tree = snapshot::read(directory);
    tree.retain(|path, _| path.starts_with("outside") || path.as_os_str().is_empty());
    tree
}

/// How that caller unpacks layers.
fn options(caller: Caller) -> Options {
    match caller {
        Caller::Root => Options::default(),
        Caller::User => {
            Options { owners: Owners::Caller, whiteouts: Whiteouts::User, ..Options::default() }
        }
    }
}

/// Does something as that caller: the kernel keeps ids by thread.
fn as_caller<T: Send>(caller: Caller, deed: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            if caller == Caller::User {
                jailrun::sys::set_ids(USER, USER, Some(&[])).unwrap();
                assert_eq!(jailrun::sys::effective_capabilities(), Ok(0));
            }
            deed()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn unpack_expecting(
    caller: Caller,
    blob: &[u8],
    expected: &Expected,
    options: &Options,
    into: &Path,
) -> Result<Unpacked, LayerError> {
    as_caller(caller, || {
        let into = fs::File::open(into).unwrap();
        unpack_blob(blob, expected, into.as_fd(), options, &|_| {})
    })
}

fn unpack(
    caller: Caller,
    blob: &[u8],
    options: &Options,
    into: &Path,
) -> Result<Unpacked, LayerError> {
    unpack_expecting(caller, blob, &Expected::default(), options, into)
}
