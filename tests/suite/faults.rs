//! Nothing is ever left: calls that fail, launches that are killed, crowds and
//! hostile surroundings. What is tried is in tests/fault; each try is in a
//! small world of its own, whose whole ledger is compared.

mod calls;
mod crowds;
mod kills;
mod surroundings;
mod units;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::support::{jailrun, require_root};

/// The driver.
fn jailfault() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "jailfault"])
            .current_dir(root)
            .status()
            .unwrap();
        assert!(status.success(), "the driver does not build");
        let directory =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        directory.join("debug/jailfault")
    })
}

/// Runs the driver; what it prints. What it finds is a failure.
fn drive(words: &[&str]) -> String {
    /// One at a time: they take the whole machine.
    static ALONE: Mutex<()> = Mutex::new(());
    require_root();
    let driver = jailfault();
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let output = Command::new(driver).arg(jailrun()).args(words).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "jailfault {words:?}: {}\n{stdout}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}
