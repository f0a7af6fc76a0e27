//! Failures of a launch, and what experience says about them.
//!
//! A failure is a step and an errno: the step holds the arguments, so the two
//! together name the call. The words are put together where they are printed.

use nix::errno::Errno;

use crate::plan::step::{MapWriter, Step};
use crate::tree::TreeError;

/// Stands for no answer of the kernel: jailrun itself has found what is wrong,
/// and the detail says all of it.
pub const FOUND: Errno = Errno::UnknownErrno;

/// Result of applying a step.
pub(super) type Applied<T = ()> = Result<T, Failed>;

/// What went wrong in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The kernel's answer; [`FOUND`] where it gave none.
    pub errno: Errno,
    /// What the errno alone does not tell.
    pub detail: Option<String>,
}

impl From<Errno> for Failed {
    fn from(errno: Errno) -> Self {
        Self { errno, detail: None }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Errno::from_raw(errno).into(),
            None => Self::found(error.to_string()),
        }
    }
}

impl From<TreeError> for Failed {
    fn from(error: TreeError) -> Self {
        let detail = error.detail.map_or(String::new(), |detail| format!(", {detail}"));
        let path = error.path.display();
        Self { errno: error.errno, detail: Some(format!("`{path}` ({}){detail}", error.call)) }
    }
}

impl Failed {
    /// What jailrun itself has found to be wrong.
    #[cold]
    pub fn found(detail: impl Into<String>) -> Self {
        Self::because(FOUND, detail)
    }

    /// The kernel's answer, or the errno that stands for one, and what it is
    /// about.
    #[cold]
    #[inline(never)]
    pub fn because(errno: Errno, detail: impl Into<String>) -> Self {
        Self { errno, detail: Some(detail.into()) }
    }

    /// In words.
    pub fn reason(&self) -> String {
        let Self { errno, detail } = self;
        let answer = format!("{errno:?}: {}", errno.desc().to_lowercase());
        match detail {
            // What holds the lock says it all.
            Some(detail) if matches!(*errno, FOUND | Errno::EWOULDBLOCK) => detail.clone(),
            Some(detail) => format!("{answer}; {detail}"),
            None => answer,
        }
    }
}

/// The failure of a launch: a step of the plan and what went wrong in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepFailed {
    /// Index of the step.
    pub step: usize,
    /// What went wrong.
    pub failed: Failed,
}

impl StepFailed {
    /// Encodes it for the pipe between the jail and the supervisor: one write,
    /// small enough to be atomic.
    pub fn encode(&self) -> Vec<u8> {
        let mut record = Vec::with_capacity(64);
        record.extend(u32::try_from(self.step).unwrap_or(u32::MAX).to_ne_bytes());
        record.extend((self.failed.errno as i32).to_ne_bytes());
        if let Some(detail) = &self.failed.detail {
            record.extend(detail.bytes().take(MAX_RECORD - 8));
        }
        record
    }

    /// Decodes what was read from the pipe; `None` for nothing.
    pub fn decode(record: &[u8]) -> Option<Self> {
        let (step, rest) = record.split_first_chunk::<4>()?;
        let (errno, detail) = rest.split_first_chunk::<4>()?;
        let detail = String::from_utf8_lossy(detail).into_owned();
        Some(Self {
            step: u32::from_ne_bytes(*step) as usize,
            failed: Failed {
                errno: Errno::from_raw(i32::from_ne_bytes(*errno)),
                detail: (!detail.is_empty()).then_some(detail),
            },
        })
    }
}

/// Largest record on the pipe, in bytes.
pub const MAX_RECORD: usize = 512;

/// What the errno means for that step. Each line stands for an incident.
pub fn hint(step: &Step, errno: Errno) -> Option<&'static str> {
    Some(match (step, errno) {
        (Step::ShiftOwners { .. }, Errno::EEXIST) => {
            "a tree is given away once: `base` names the range it has, or a copy of it is this jail's"
        }
        (Step::ClaimIds { .. }, Errno::EWOULDBLOCK) => {
            "another launch was faster; started again, this one takes the next range"
        }
        (Step::MakeStateDirectory { .. }, Errno::EROFS | Errno::EACCES) => {
            "the directory for jailrun's state cannot be written; XDG_RUNTIME_DIR names another for an ordinary user"
        }
        (Step::MakeStateDirectory { .. } | Step::Journal { .. }, Errno::ENOSPC) => {
            "the file system that holds jailrun's state is full"
        }
        (Step::Journal { .. }, Errno::EWOULDBLOCK) => {
            "names are unique while a jail runs: `--set name=…` gives this one another"
        }
        // The kernel has no other word for a limit on namespaces.
        (Step::Enter { .. }, Errno::ENOSPC | Errno::EUSERS) => {
            "too many namespaces: see /proc/sys/user/max_*_namespaces, or the nesting is too deep"
        }
        (Step::Enter { map: Some(map), .. }, Errno::EPERM | Errno::EACCES)
            if map.writer == MapWriter::Jail =>
        {
            "user namespaces are closed to ordinary users here: see kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, or the sandbox jailrun itself runs in"
        }
        (Step::Enter { map: Some(_), .. }, Errno::EOPNOTSUPP) => {
            "the file system cannot show files with other owners: `ownership = \"chown\"` changes them on disk, `\"off\"` shows them as they are"
        }
        (Step::Enter { .. }, Errno::EPERM) => "namespaces need root, or a user namespace",
        (Step::Enter { .. }, Errno::EINVAL) => "this kernel lacks one of the namespaces",
        (Step::Enter { .. }, Errno::EAGAIN) => "the caller's own limit on processes is reached",
        // The kernel shows a fresh proc or sysfs only to a user namespace
        // whose surroundings show all of theirs ("mount too revealing").
        (Step::Mount { fstype: "proc" | "sysfs", .. }, Errno::EPERM) => {
            "a part of the host's own /proc or /sys is covered, as inside another container: the kernel then refuses a fresh one; leave it out of `api-filesystems`"
        }
        (Step::Mount { .. } | Step::Bind { .. } | Step::AttachRoot { .. }, Errno::ENOSPC) => {
            "too many mounts: see /proc/sys/fs/mount-max"
        }
        (Step::Mount { fstype, .. }, Errno::ENODEV) if *fstype != "tmpfs" => {
            "this kernel lacks the file system"
        }
        (Step::MountOverlay { overlay, .. }, Errno::EINVAL) if overlay.user_xattrs => {
            "in a user namespace no layer may have a mount of the host below it, nor lie on a file system without `user.` attributes; dmesg(1) says more"
        }
        (Step::MountOverlay { .. }, Errno::EINVAL) => {
            "a layer is on a file system that cannot be one: the kernel's own, a third overlay over two, or for changes an overlay or a network; dmesg(1) names it"
        }
        (Step::MountOverlay { .. }, Errno::EBUSY) => "a directory is in use by another overlay",
        (Step::MountOverlay { .. }, Errno::ESTALE) => {
            "the upper directory holds changes of other lower directories"
        }
        (Step::MountOverlay { .. }, Errno::EPERM) => "overlays in a user namespace need Linux 5.11",
        (Step::CopyTree { .. }, Errno::ENOSPC) => {
            "the root's memory is full: `tmpfs` is its size, `inodes` how many files it holds"
        }
        (
            Step::Mount { .. }
            | Step::Bind { .. }
            | Step::MakeNode { .. }
            | Step::Mask { .. }
            | Step::ProtectPath { .. },
            Errno::ELOOP,
        ) => "a part of the path has become a symbolic link since it was checked",
        (Step::Bind { recursive: false, .. }, Errno::EINVAL) => {
            "in a user namespace mounts below the source cannot be left out: `recursive = true`"
        }
        (Step::AttachRoot { .. } | Step::Bind { .. }, Errno::EINVAL | Errno::ENOSYS) => {
            "recursive mount attributes need Linux 5.12"
        }
        (Step::Pivot { .. }, Errno::EINVAL) => {
            "the host's root is an initramfs, which cannot be left by pivot_root(2)"
        }
        (
            Step::CreateCgroup { .. } | Step::SetLimit { .. } | Step::JoinCgroup { .. },
            Errno::EACCES | Errno::EPERM,
        ) => "the control group belongs to somebody else",
        (Step::LimitDevices { .. }, Errno::EPERM) => {
            "only root of the host sets which devices open, not root of a user namespace"
        }
        (Step::CreateCgroup { .. }, Errno::EROFS) => "control groups are mounted read-only here",
        (Step::SetLimit { .. }, Errno::EINVAL | Errno::ERANGE) => {
            "the controller does not take this value"
        }
        (Step::SetLimit { .. }, Errno::EBUSY) => {
            "another setting of the group stands against this value"
        }
        (Step::SetLimit { .. }, Errno::ENODEV) => "the controller limits whole disks only",
        (Step::SetLimit { .. }, Errno::ENOENT) => "this kernel's controller lacks the file",
        (Step::JoinCgroup { .. }, Errno::EINVAL) => {
            "a process with a real-time policy cannot join a group without a share for such: see chrt(1)"
        }
        (Step::JoinCgroup { .. }, Errno::ENOSPC) => "the cpuset has no CPU or no memory node",
        (Step::EnableControllers { .. } | Step::MoveSupervisor { .. }, Errno::EBUSY) => {
            "a v2 group that holds processes cannot hand out controllers"
        }
        (Step::SetRlimit { .. }, Errno::EPERM) => "raising a hard limit needs CAP_SYS_RESOURCE",
        (Step::SetNice { .. }, Errno::EACCES | Errno::EPERM) => {
            "a lower nice value needs CAP_SYS_NICE"
        }
        (Step::SetOomScoreAdjust { .. }, Errno::EACCES) => "a lower score needs CAP_SYS_RESOURCE",
        (Step::SetIds { .. }, Errno::EINVAL) => "the user namespace does not map this id",
        (Step::SetIds { .. } | Step::LimitCapabilities { .. }, Errno::EPERM) => {
            "the caller lacks the capability for this itself"
        }
        (Step::NewKeyring, Errno::EDQUOT) => {
            "the caller's quota of kernel keys is used up: see /proc/sys/kernel/keys/maxkeys"
        }
        (Step::ChangeDirectory { .. }, Errno::EACCES) => "the command's user may not enter it",
        (Step::OpenStream { .. }, Errno::ELOOP) => {
            "a part of the path is a symbolic link that a jail could have put there; none is followed"
        }
        (Step::OpenStream { .. }, Errno::ENXIO) => "a FIFO that nobody reads",
        (Step::CloseFds { .. }, Errno::EBADF) => {
            "a descriptor of `pass-fds` is not open in the caller"
        }
        (Step::LoadSeccomp { .. }, Errno::EINVAL | Errno::ENOSYS) => {
            "this kernel has no filters for system calls (CONFIG_SECCOMP_FILTER); `seccomp = \"off\"` in `[security]` does without"
        }
        (Step::LoadSeccomp { .. }, Errno::EACCES | Errno::EPERM) => {
            "without `no-new-privileges` a filter needs CAP_SYS_ADMIN"
        }
        (Step::LoadSeccomp { .. }, Errno::ENOMEM) => {
            "the filters that the caller itself runs under leave no room for another one"
        }
        (Step::Exec { .. }, Errno::ENOEXEC) => "the file is no program, and has no `#!` line",
        (Step::Exec { .. }, Errno::EACCES) => {
            "it is not executable for the command's user, or lies on a mount with `noexec`"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_pipe() {
        let failure = StepFailed { step: 7, failed: Failed::because(Errno::EPERM, "why") };
        assert_eq!(StepFailed::decode(&failure.encode()), Some(failure));
        assert_eq!(StepFailed::decode(&[]), None);
        assert_eq!(StepFailed::decode(&[1, 2, 3]), None);
    }

    #[test]
    fn a_long_detail_stays_within_an_atomic_write() {
        let failure = StepFailed { step: 0, failed: Failed::found("x".repeat(9000)) };
        assert_eq!(failure.encode().len(), MAX_RECORD);
    }
}
