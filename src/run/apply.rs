//! Applying a step: one `match` with one arm per kind, on both sides of the
//! clone. Whatever fails stops the launch; nothing is retried in another way.

use std::ffi::CString;
use std::io::Write as _;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sys::stat::Mode;
use nix::unistd;

use super::context::{Context, Flow};
use super::error::{Applied, Failed};
use super::{
    devices, enter, images, init, kernel_files, landlock, mounts, paths, start, state, verify,
};
use crate::image::progress::Progress;
use crate::names;
use crate::plan::step::{MountFlags, Namespace, NodeKind, Propagation, Step};
use crate::sys::{self, MountAttr};
use crate::tree;

/// Applies the step at `index`. A few of them look at their neighbours, or at the
/// whole plan.
pub(super) fn apply(plan: &crate::plan::Plan, index: usize, cx: &mut Context) -> Applied<Flow> {
    let step = &plan.steps[index].step;
    match step {
        Step::MakeStateDirectory { path } => state::make_directory(path)?,
        Step::Journal { path } => cx.lock = Some(state::take_name(path, plan)?),
        Step::ClaimIds { path, name } => cx.claims.push(state::claim(path, name)?),
        Step::ShiftOwners { root, uid, gid } => crate::owners::shift(root, uid, gid)?,
        Step::MakeHostNode { root, path, kind } => {
            let root =
                sys::open2(root, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::EINVAL.into());
            };
            if paths::make_node(paths::make_directory(root.as_fd(), parent)?.as_fd(), name, *kind)?
            {
                cx.made.push(index);
            }
        }
        Step::MakeHostLink { root, path, to } => {
            let root =
                sys::open2(root, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(Errno::EINVAL.into());
            };
            unistd::symlinkat(&**to, paths::make_directory(root.as_fd(), parent)?.as_fd(), name)?;
            cx.made.push(index);
        }
        Step::CreateCgroup { directory } => state::create_cgroup(directory)?,
        Step::EnableControllers { directory, controllers } => {
            let words: Vec<String> = controllers.iter().map(|name| format!("+{name}")).collect();
            kernel_files::write_file(&directory.join("cgroup.subtree_control"), &words.join(" "))?;
        }
        Step::MoveSupervisor { directory } => {
            match unistd::mkdir(directory, Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
            kernel_files::write_file(&directory.join("cgroup.procs"), "0")?;
        }
        Step::SetLimit { file, value, expect } => kernel_files::set_limit(file, value, expect)?,
        Step::LimitDevices { directory, is_v2, rules } => {
            devices::limit(directory, *is_v2, rules)?;
        }
        Step::KillOnOom { directory } => cx.oom = Some(kernel_files::watch_oom(directory)?),
        Step::OpenStream { fd, path, mode } => {
            let slot = usize::try_from(*fd).map_err(|_| Errno::EBADF)?;
            cx.streams[slot] = Some(start::open_stream(path, *mode, cx.umask)?);
        }
        Step::Supervise { timeout, stop_signal, stop_grace } => {
            cx.supervise = super::Supervision {
                timeout: *timeout,
                stop_signal: *stop_signal,
                stop_grace: *stop_grace,
            };
        }
        Step::JoinPidNamespace { path } => enter::join(path, Namespace::Pid)?,
        Step::ClearGroups => sys::set_groups(&[])?,
        Step::Enter { namespaces, map, trees, cgroup, time } => {
            return enter::enter(cx, namespaces, map.as_ref(), trees, cgroup.as_deref(), *time);
        }
        Step::BecomeRoot => {
            sys::set_ids(0, 0, Some(&[]))?;
            // The kernel may take both back when credentials change.
            sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
            enter::die_with_parent(cx)?;
        }
        Step::AttachTree { tree, on, flags } => {
            let tree = cx.take_tree(*tree)?;
            mounts::attach_tree(cx, tree, on, *flags)?;
        }
        // `tasks` and not `cgroup.procs`: to move one thread, itself, the kernel
        // does not have to wait until no process on the system forks or exits.
        Step::JoinCgroup { directory } => kernel_files::write_file(&directory.join("tasks"), "0")?,
        Step::NewSession => drop(unistd::setsid()?),
        Step::NewKeyring => match sys::new_session_keyring() {
            // A kernel without keyrings has none to share.
            Ok(()) | Err(Errno::ENOSYS) => {}
            // A filter around jailrun itself, as in a container or another
            // jail, keeps the command from every keyring as well.
            Err(Errno::EPERM) if sys::session_keyring() == Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        },
        Step::ForbidTracing => drop(sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?),
        Step::JoinNamespace { namespace, path } => enter::join(path, *namespace)?,
        Step::FindJail { journal, name, pid } => {
            // Held before it is looked for: then it is this process that was
            // found, and no later one of its number.
            let held = sys::pidfd_open(*pid)?;
            if state::first_process(journal)? != Some(*pid) {
                let detail = format!("the jail `{name}` has ended");
                return Err(Failed::found(detail));
            }
            cx.jails.push((*pid, held));
        }
        Step::JoinJail { namespace, pid, .. } => {
            let held = cx.jails.iter().find(|(known, _)| known == pid).ok_or(Errno::EBADF)?;
            let flag = nix::sched::CloneFlags::from_bits_retain(namespace.flag());
            nix::sched::setns(held.1.as_fd(), flag)?;
        }
        Step::NewCgroupNamespace => nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP)?,
        Step::PrivateMounts { propagation } => {
            let root = sys::open2(Path::new("/"), libc::O_PATH, 0)?;
            let attr = MountAttr {
                propagation: mounts::propagation_flag(*propagation),
                ..MountAttr::default()
            };
            sys::mount_setattr(root.as_fd(), true, &attr)?;
        }
        Step::SetHostname { name } => unistd::sethostname(name)?,
        Step::SetDomainname { name } => sys::set_domain_name(name)?,
        Step::LoopbackUp => sys::loopback_up()?,
        Step::SetSysctl { path, value } => kernel_files::set_sysctl(cx, path, value)?,
        Step::MountStage { at, options } => {
            let stage = mounts::new_filesystem(c"tmpfs", "jailrun", options, MountFlags::NONE)?;
            mounts::attach(&stage, at)?;
            nix::sys::stat::mkdirat(stage.as_fd(), "root", Mode::from_bits_truncate(0o755))?;
        }
        Step::ImportImage { source } => images::import(source, &Progress::silent()).map(drop)?,
        Step::HoldImage { store, key } => cx.held = Some(images::hold(store, key)?),
        Step::AttachLoop { file, offset, size } => {
            cx.loops.push(mounts::attach_loop(file, *offset, *size)?);
        }
        Step::MountLoop { number, filesystem, on, flags } => {
            mounts::mount_loop(cx, *number, *filesystem, on, *flags)?;
        }
        Step::LockDirectory { path } => cx.locks.push(state::lock_directory(path)?),
        Step::MountMemory { at, options } => {
            unistd::mkdir(at, Mode::from_bits_truncate(0o700))?;
            let memory = mounts::new_filesystem(c"tmpfs", "jailrun", options, MountFlags::NONE)?;
            mounts::attach(&memory, at)?;
        }
        Step::MakeStageNode { path, kind, mode, owner } => {
            paths::make_stage_node(path, *kind, *mode, *owner)?;
        }
        Step::CopyTree { source, tree, owners } => {
            let flags = libc::O_RDONLY | libc::O_DIRECTORY;
            let from = match tree {
                Some(number) => {
                    let tree = cx.take_tree(*number)?;
                    sys::openat2(tree.as_fd(), Path::new("."), flags, 0)?
                }
                None => sys::open2(source, flags, libc::RESOLVE_NO_SYMLINKS)?,
            };
            let options = tree::Options { owners: *owners, mounts: tree::Mounts::Cross };
            tree::copy(from.as_fd(), cx.root()?, &options)?;
        }
        Step::UnpackTree { source, tree, owners } => {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY;
            let archive = match tree {
                Some(number) => {
                    let tree = cx.take_tree(*number)?;
                    let path = format!("self/fd/{}", tree.as_raw_fd());
                    sys::openat2(cx.proc()?, Path::new(&path), flags, 0)?
                }
                None => sys::open2(source, flags, libc::RESOLVE_NO_SYMLINKS)?,
            };
            images::unpack(archive, *owners, cx.root()?)?;
        }
        Step::LinkLayer { path, to } => {
            cx.layers.push((path.clone(), to.clone()));
            unistd::symlinkat(to, AT_FDCWD, path)?;
        }
        Step::MountOverlay { on, overlay, flags } => {
            mounts::mount_overlay(cx, on, overlay, *flags)?
        }
        Step::WriteContent { path, text } => {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let fd = nix::fcntl::open(path, flags, Mode::from_bits_truncate(0o444))?;
            std::fs::File::from(fd).write_all(text.as_bytes())?;
        }
        Step::AttachRoot { source, tree, at, flags } => {
            let tree = cx.host_tree(source, *tree, true)?;
            sys::mount_setattr(tree.as_fd(), true, &mounts::attributes(*flags, None))?;
            mounts::attach(&tree, at)?;
            cx.root = Some(tree);
        }
        Step::MountRoot { at, options, flags } => {
            let tree = mounts::new_filesystem(c"tmpfs", "tmpfs", options, *flags)?;
            mounts::attach(&tree, at)?;
            cx.root = Some(tree);
        }
        Step::MakeNode { path, kind } => {
            let (directory, name) = cx.place(path)?;
            if paths::make_node(directory, name, *kind)? {
                cx.fresh = Some(index);
            }
        }
        Step::MakeLink { path, to } => {
            let (directory, name) = cx.place(path)?;
            unistd::symlinkat(&**to, directory, name)?;
        }
        Step::Mount { fstype, source, target, options, flags, propagation } => {
            let name = CString::new(*fstype).map_err(|_| Errno::EINVAL)?;
            let filesystem = mounts::new_filesystem(&name, source, options, *flags)?;
            if *propagation != Propagation::Private {
                sys::mount_setattr(
                    filesystem.as_fd(),
                    false,
                    &mounts::propagation_only(*propagation),
                )?;
            }
            cx.mount_at(filesystem.as_fd(), NodeKind::Directory, target)?;
            if target == Path::new("/dev/pts") && *fstype == "devpts" {
                cx.devpts = Some(filesystem);
            }
        }
        Step::Bind { source, tree, target, recursive, flags, propagation } => {
            let tree = cx.host_tree(source, *tree, *recursive)?;
            sys::mount_setattr(
                tree.as_fd(),
                *recursive,
                &mounts::attributes(*flags, *propagation),
            )?;
            let before = index.checked_sub(1).filter(|before| cx.fresh == Some(*before));
            match before.map(|before| &plan.steps[before].step) {
                // On what has been made a moment ago, in the directory that is open still.
                Some(Step::MakeNode { path, kind }) if path == target => {
                    cx.mount_at(tree.as_fd(), *kind, target)?;
                }
                _ => {
                    let on = cx.open(target)?;
                    cx.mount(tree.as_fd(), on.as_fd(), target)?;
                }
            }
        }
        Step::BindDevices { names } => mounts::bind_devices(cx, names)?,
        Step::BindDevice { source, target, number } => {
            mounts::bind_device(cx, source, target, *number)?
        }
        Step::Mask { target, kind } => mounts::mask(cx, target, *kind)?,
        Step::ProtectPath { target } => {
            let on = cx.open(target)?;
            let tree = sys::open_tree_clone(on.as_fd(), true)?;
            let attr = MountAttr { set: sys::mount::ATTR_RDONLY, ..MountAttr::default() };
            sys::mount_setattr(tree.as_fd(), true, &attr)?;
            cx.mount(tree.as_fd(), on.as_fd(), target)?;
        }
        Step::SetPropagation { propagation } => {
            sys::mount_setattr(cx.root()?, true, &mounts::propagation_only(*propagation))?;
        }
        Step::ProtectRoot => {
            let attr = MountAttr { set: sys::mount::ATTR_RDONLY, ..MountAttr::default() };
            sys::mount_setattr(cx.root()?, false, &attr)?;
        }
        Step::Pivot { .. } => {
            unistd::fchdir(cx.root()?)?;
            unistd::pivot_root(".", ".")?;
            // The old root now lies over the new one, at the same place.
            nix::mount::umount2(".", nix::mount::MntFlags::MNT_DETACH)?;
            unistd::chdir("/")?;
        }
        Step::Chroot { .. } => {
            unistd::fchdir(cx.root()?)?;
            unistd::chroot(".")?;
            unistd::chdir("/")?;
        }
        Step::VerifyMounts { expected } => {
            cx.leave_room()?;
            let fd = sys::openat2(cx.proc()?, Path::new("self/mountinfo"), libc::O_RDONLY, 0)?;
            verify::verify(expected, std::fs::File::from(fd))?;
        }
        Step::ResetSecurebits => drop(sys::prctl(libc::PR_SET_SECUREBITS, 0, 0)?),
        Step::HideArguments => sys::hide_arguments()?,
        Step::Init { keep, clear_groups, filtered } => {
            let may_trace = plan.steps.iter().any(|planned| match &planned.step {
                Step::SetCapabilities { permitted, ambient } => {
                    (permitted | ambient) & names::CAP_SYS_PTRACE != 0
                }
                _ => false,
            });
            if *clear_groups {
                sys::set_groups(&[])?;
            }
            init::split(
                cx,
                init::Charge { index, keep: *keep, filtered: *filtered },
                may_trace,
                &mut |cx| super::rest(plan, index + 1, cx),
            )?;
        }
        Step::Terminal => start::terminal(cx)?,
        Step::UseStream { fd } => {
            let slot = usize::try_from(*fd).map_err(|_| Errno::EBADF)?;
            let stream = cx.streams[slot].take().ok_or(Errno::EBADF)?;
            sys::dup2(stream.as_fd(), *fd)?;
        }
        Step::SetUmask { mask } => {
            nix::sys::stat::umask(Mode::from_bits_truncate(*mask));
        }
        Step::SetNice { nice } => sys::set_nice(*nice)?,
        Step::SetOomScoreAdjust { score } => {
            // The file of a process that cannot be dumped is the host root's.
            sys::prctl(libc::PR_SET_DUMPABLE, 1, 0)?;
            let written = cx.write_proc("self/oom_score_adj", &score.to_string());
            sys::prctl(libc::PR_SET_DUMPABLE, 0, 0)?;
            written?;
        }
        Step::SetAffinity { cpus } => cx.cpus = start::cpu_set(cpus)?,
        Step::SetRlimit { index, soft, hard } => {
            sys::setrlimit(names::RLIMITS[*index].number, *soft, *hard)?;
        }
        Step::LimitCapabilities { keep } => start::limit_capabilities(*keep)?,
        Step::SetIds { uid, gid, groups } => {
            if *uid != 0 {
                // What is kept is set by the step that follows.
                sys::prctl(libc::PR_SET_KEEPCAPS, 1, 0)?;
            }
            // For the kernel it means to leave what is.
            if [uid, gid].contains(&&u32::MAX) {
                return Err(Failed::found(format!("{} is no user or group", u32::MAX)));
            }
            sys::set_ids(*uid, *gid, groups.as_deref())?;
        }
        Step::SetCapabilities { permitted, ambient } => {
            start::set_capabilities(*permitted, *ambient)?
        }
        Step::ChangeDirectory { path } => {
            unistd::chdir(path)?;
            if !sys::getcwd_is_reachable()? {
                return Err(Failed::because(
                    Errno::EXDEV,
                    "the directory lies outside the jail's root",
                ));
            }
        }
        Step::NoNewPrivileges => drop(sys::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)?),
        Step::Landlock(step) => landlock::restrict(step)?,
        Step::CloseFds { keep } => start::close_fds(cx, keep)?,
        Step::LoadSeccomp { filter, hold } => {
            if let Some(Step::Exec { command, environment }) =
                plan.steps.get(index + 1).map(|planned| &planned.step)
            {
                cx.start = Some(start::prepare_exec(cx, command, environment)?);
            }
            if let Some(hold) = hold {
                sys::capset(*hold, *hold, 0)?;
            }
            sys::load_filter(&filter.program())?;
        }
        Step::Exec { command, environment } => {
            let start = match cx.start.take() {
                Some(start) => start,
                None => start::prepare_exec(cx, command, environment)?,
            };
            return Err(start::exec(start));
        }
    }
    Ok(Flow::Next)
}
