//! Whole plans of the smallest unit, on each kind of host.

use std::path::Path;

use snapbox::{assert_data_eq, str};

use super::host::Table;
use super::{WEB, group_steps, steps};

#[test]
fn the_smallest_unit_as_root_on_a_v1_host() {
    assert_data_eq!(
        steps(&Table::version1(), WEB),
        str![[r#"
make the state directory /run/jailrun <- always
take the name and write the journal /run/jailrun/web.json <- default of name
make the control group /sys/fs/cgroup/pids/me/jailrun-web <- default of limits.pids
write 4096 to /sys/fs/cgroup/pids/me/jailrun-web/pids.max <- default of limits.pids
let it run; what is told to stop gets SIGTERM and, 10s later, SIGKILL <- default of lifecycle
clone its first process into new namespaces: mount pid ipc uts net <- always
let nobody trace it or read its memory <- always
join the control group /sys/fs/cgroup/pids/me/jailrun-web <- default of limits.pids
start a session without a terminal <- always
start an empty session keyring <- default of security.keyring
make its control groups the root of what it sees of them <- default of namespaces.cgroup
make every mount private <- always
set the host name to web <- default of hostname
bring the loopback interface up <- default of network.mode
bind /srv/web to /run/jailrun as the root (nosuid,nodev) <- web.toml:2
mount a new proc on /proc (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new sysfs on /sys (ro,nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /dev (nosuid,nodev,noexec) <- default of root.api-filesystems
bind the host's devices null zero full random urandom tty into /dev <- default of root.api-filesystems
make the link /dev/fd to /proc/self/fd <- default of root.api-filesystems
make the link /dev/stdin to /proc/self/fd/0 <- default of root.api-filesystems
make the link /dev/stdout to /proc/self/fd/1 <- default of root.api-filesystems
make the link /dev/stderr to /proc/self/fd/2 <- default of root.api-filesystems
make the link /dev/ptmx to pts/ptmx <- default of root.api-filesystems
make the directory /dev/pts <- default of root.api-filesystems
mount a new devpts on /dev/pts (nosuid,noexec) <- default of root.api-filesystems
make the directory /dev/shm <- default of root.api-filesystems
mount a new tmpfs on /dev/shm (nosuid,nodev) <- default of root.api-filesystems
make the directory /dev/mqueue <- default of root.api-filesystems
mount a new mqueue on /dev/mqueue (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /tmp (nosuid,nodev) <- default of root.api-filesystems
mount a new tmpfs on /run (nosuid,nodev) <- default of root.api-filesystems
hide /proc/acpi under an empty directory <- default of security.masked-paths
hide /proc/kcore under /dev/null <- default of security.masked-paths
hide /proc/keys under /dev/null <- default of security.masked-paths
hide /sys/firmware under an empty directory <- default of security.masked-paths
make /proc/bus read-only <- default of security.read-only-paths
make /proc/sys read-only <- default of security.read-only-paths
make /run/jailrun the root and detach the old one <- default of root.switch
compare mountinfo with the 21 planned mounts <- always
give up every capability for good <- default of security.capabilities
overwrite the arguments and the environment jailrun was started with <- always
stay as process 1, with CAP_KILL alone and no further groups, to reap and pass signals on; the command is its child <- default of process.init
set the umask to 022 <- default of process.umask
limit core to 0 (hard 0) <- default of limits.rlimits.core
become uid 0, gid 0, no further groups <- default of process.user
start with no capability <- default of security.capabilities
close every descriptor above 2 <- default of process.pass-fds
go to / <- default of process.cwd
rule out gaining privileges by execve <- default of security.no-new-privileges
load the default filter for system calls: 309 of 383 pass, the others get errno:EPERM, in 92 instructions <- default of security.seccomp
execute true <- web.toml:4

"#]]
    );
}

#[test]
fn the_smallest_unit_as_root_on_a_v2_host() {
    let host = Table::version2("", "");
    assert_data_eq!(
        group_steps(&host, WEB),
        str![[r#"
hand the controllers pids out below /sys/fs/cgroup
make the control group /sys/fs/cgroup/jailrun-web
write 4096 to /sys/fs/cgroup/jailrun-web/pids.max
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
}

#[test]
fn the_smallest_unit_as_an_ordinary_user() {
    let mut host = Table::version1().for_user();
    host.read_only.retain(|path| path != Path::new("/srv"));
    assert_data_eq!(
        steps(&host, WEB),
        str![[r#"
make the state directory /tmp/jailrun-1000 <- always
take the name and write the journal /tmp/jailrun-1000/web.json <- default of name
let it run; what is told to stop gets SIGTERM and, 10s later, SIGKILL <- default of lifecycle
clone its first process into new namespaces: mount user pid ipc uts net; uid 1000 and gid 1000 are root inside <- always
let nobody trace it or read its memory <- always
start a session without a terminal <- always
start an empty session keyring <- default of security.keyring
make its control groups the root of what it sees of them <- default of namespaces.cgroup
make every mount private <- always
set the host name to web <- default of hostname
bring the loopback interface up <- default of network.mode
bind /srv/web to /tmp/jailrun-1000 as the root (nosuid,nodev) <- web.toml:2
mount a new proc on /proc (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new sysfs on /sys (ro,nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /dev (nosuid,nodev,noexec) <- default of root.api-filesystems
bind the host's devices null zero full random urandom tty into /dev <- default of root.api-filesystems
make the link /dev/fd to /proc/self/fd <- default of root.api-filesystems
make the link /dev/stdin to /proc/self/fd/0 <- default of root.api-filesystems
make the link /dev/stdout to /proc/self/fd/1 <- default of root.api-filesystems
make the link /dev/stderr to /proc/self/fd/2 <- default of root.api-filesystems
make the link /dev/ptmx to pts/ptmx <- default of root.api-filesystems
make the directory /dev/pts <- default of root.api-filesystems
mount a new devpts on /dev/pts (nosuid,noexec) <- default of root.api-filesystems
make the directory /dev/shm <- default of root.api-filesystems
mount a new tmpfs on /dev/shm (nosuid,nodev) <- default of root.api-filesystems
make the directory /dev/mqueue <- default of root.api-filesystems
mount a new mqueue on /dev/mqueue (nosuid,nodev,noexec) <- default of root.api-filesystems
mount a new tmpfs on /tmp (nosuid,nodev) <- default of root.api-filesystems
mount a new tmpfs on /run (nosuid,nodev) <- default of root.api-filesystems
hide /proc/acpi under an empty directory <- default of security.masked-paths
hide /proc/kcore under /dev/null <- default of security.masked-paths
hide /proc/keys under /dev/null <- default of security.masked-paths
hide /sys/firmware under an empty directory <- default of security.masked-paths
make /proc/bus read-only <- default of security.read-only-paths
make /proc/sys read-only <- default of security.read-only-paths
make /tmp/jailrun-1000 the root and detach the old one <- default of root.switch
compare mountinfo with the 21 planned mounts <- always
give up every capability for good <- default of security.capabilities
overwrite the arguments and the environment jailrun was started with <- always
stay as process 1, with CAP_KILL alone, to reap and pass signals on; the command is its child <- default of process.init
set the umask to 022 <- default of process.umask
limit core to 0 (hard 0) <- default of limits.rlimits.core
become uid 0, gid 0 <- default of process.user
start with no capability <- default of security.capabilities
close every descriptor above 2 <- default of process.pass-fds
go to / <- default of process.cwd
rule out gaining privileges by execve <- default of security.no-new-privileges
load the default filter for system calls: 309 of 383 pass, the others get errno:EPERM, in 92 instructions <- default of security.seccomp
execute true <- web.toml:4

"#]]
    );
}
