//! Restricting the process with Landlock, through the crate of that name. What
//! the kernel has was asked while planning: here everything is required.

use std::error::Error;
use std::io;
use std::os::fd::AsFd as _;

use landlock::{
    AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, NetPort, PathBeneath, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetError, RulesetStatus, Scope,
};
use nix::errno::Errno;

use super::error::{Applied, Failed};
use crate::names;
use crate::plan::step::Landlock;
use crate::sys;

fn failed(error: RulesetError) -> Failed {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    let mut errno = Errno::EINVAL;
    while let Some(error) = cause {
        if let Some(code) = error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) {
            errno = Errno::from_raw(code);
        }
        cause = error.source();
    }
    Failed::because(errno, error.to_string())
}

/// Opens the paths as the command would, and restricts this process.
pub(super) fn restrict(step: &Landlock) -> Applied {
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if step.paths != 0 {
        let rights = BitFlags::<AccessFs>::from_bits(step.paths).map_err(|_| Errno::EINVAL)?;
        ruleset = ruleset.handle_access(rights).map_err(failed)?;
    }
    if step.ports != 0 {
        let rights = BitFlags::<AccessNet>::from_bits(step.ports).map_err(|_| Errno::EINVAL)?;
        ruleset = ruleset.handle_access(rights).map_err(failed)?;
    }
    if step.scope != 0 {
        let scope = BitFlags::<Scope>::from_bits(step.scope).map_err(|_| Errno::EINVAL)?;
        ruleset = ruleset.scope(scope).map_err(failed)?;
    }
    // That is a step of its own.
    let mut ruleset = ruleset.create().map_err(failed)?.no_new_privs(false);
    for (path, rights) in &step.below {
        let fd = sys::open2(path, libc::O_PATH, libc::RESOLVE_NO_MAGICLINKS)
            .map_err(|errno| Failed::because(errno, format!("`{}`", path.display())))?;
        let mode = nix::sys::stat::fstat(&fd)?.st_mode;
        let is_directory = mode & libc::S_IFMT == libc::S_IFDIR;
        let rights = if is_directory { *rights } else { rights & names::landlock::OF_FILES };
        if rights == 0 {
            continue;
        }
        let rights = BitFlags::<AccessFs>::from_bits(rights).map_err(|_| Errno::EINVAL)?;
        ruleset = ruleset.add_rule(PathBeneath::new(fd.as_fd(), rights)).map_err(failed)?;
    }
    for (port, rights) in &step.open {
        let rights = BitFlags::<AccessNet>::from_bits(*rights).map_err(|_| Errno::EINVAL)?;
        ruleset = ruleset.add_rule(NetPort::new(*port, rights)).map_err(failed)?;
    }
    let status = ruleset.restrict_self().map_err(failed)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced => {
            Err(Failed::found("the kernel does not enforce all of it"))
        }
    }
}
