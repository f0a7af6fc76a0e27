//! Notices SIGINT and SIGTERM, so that the files of the benchmark are removed when it is stopped.

use std::ffi::c_int;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: c_int) {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// Installs the handler; the programs that are launched get the default action back, as exec resets
/// handlers.
pub(crate) fn watch() -> Result<(), Error> {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(c_int) = note;
        // SAFETY: the handler only stores to an atomic, which is allowed at any point.
        if unsafe { libc::signal(signal, handler as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(Error::Signals(io::Error::last_os_error()));
        }
    }
    Ok(())
}

/// Fails once a signal has come in.
pub(crate) fn check() -> Result<(), Error> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}
