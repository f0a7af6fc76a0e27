//! What of the host comes along with a bind or a root, and is refused.

use std::path::Path;

use super::host::{Node, Table};
use super::{WEB, findings};

const BIND: &str = "[[mounts]]\nbind = \"/home/me\"\ntarget = \"/data\"\n";

#[test]
fn a_bind_does_not_bring_file_systems_of_the_kernel_along() {
    for (fstype, reason) in [
        ("proc", "the host's kernel interfaces"),
        ("sysfs", "the host's kernel interfaces"),
        ("cgroup", "the host's kernel interfaces"),
        ("cgroup2", "the host's kernel interfaces"),
        ("debugfs", "the host's kernel interfaces"),
        ("tracefs", "the host's kernel interfaces"),
        ("securityfs", "the host's kernel interfaces"),
        ("bpf", "the host's kernel interfaces"),
        ("binfmt_misc", "the host's kernel interfaces"),
        ("devtmpfs", "the host's devices"),
        ("devpts", "the host's terminals"),
        ("mqueue", "the host's message queues"),
        ("nsfs", "a namespace of the host"),
    ] {
        let mut host = Table::bare();
        host.mount(fstype, "/home/me/inner/it");
        let unit = format!("{WEB}{BIND}");
        assert_eq!(
            findings(&host, &unit),
            format!(
                "E0202 web.toml:6 binding `/home/me` would hand the jail {reason}, at `/home/me/inner/it` (comes along with it)\n"
            )
        );
        let allowed = format!("{unit}[security]\nallow-dangerous-binds = true\n");
        assert_eq!(
            findings(&host, &allowed),
            format!(
                "W0005 web.toml:6 binding `/home/me` hands the jail {reason}, at `/home/me/inner/it` (comes along with it)\n"
            )
        );
        assert_eq!(findings(&host, &format!("{unit}recursive = false\n")), "");
        for covered in [
            "[[mounts]]\nmask = true\ntarget = \"/data/inner/it\"\n",
            "[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/data/inner\"\n",
            "[security]\nmasked-paths = [\"@default\", \"/data/inner/it\"]\n",
        ] {
            assert_eq!(findings(&host, &format!("{unit}{covered}")), "", "{covered}");
        }
    }
    let mut host = Table::bare();
    for fstype in ["ext4", "tmpfs", "autofs", "hugetlbfs", "fuse.sshfs"] {
        host.mount(fstype, &format!("/home/me/{fstype}"));
    }
    assert_eq!(findings(&host, &format!("{WEB}{BIND}")), "");
}

#[test]
fn a_mount_of_proc_in_another_place_is_the_hosts_proc() {
    let mut host = Table::bare();
    host.put("/home/me/proc/sys", Node::Directory);
    host.filesystems.push(("/home/me/proc", 0x9fa0));
    for source in ["/home/me/proc", "/home/me/proc/sys"] {
        let unit = format!(
            "{WEB}[[mounts]]\nbind = \"{source}\"\ntarget = \"/data\"\nrecursive = false\n"
        );
        assert_eq!(
            findings(&host, &unit),
            format!(
                "E0202 web.toml:6 binding `{source}` would hand the jail the host's kernel interfaces (bound here)\n"
            )
        );
    }
}

#[test]
fn the_hosts_run_comes_along_under_no_other_name() {
    let mut host = Table::bare();
    host.mount("tmpfs", "/home/me/run");
    host.mounts[0].elsewhere.push("/run".into());
    assert_eq!(
        findings(&host, &format!("{WEB}{BIND}")),
        "E0202 web.toml:6 binding `/home/me` would hand the jail jailrun's own state, at `/home/me/run` (comes along with it)\n"
    );
    host.mounts[0].elsewhere = vec!["/run/user/1000".into()];
    assert_eq!(findings(&host, &format!("{WEB}{BIND}")), "");
}

#[test]
fn the_socket_of_an_engine_does_not_come_along_with_its_directory() {
    let mut host = Table::bare();
    host.mount("tmpfs", "/home/me/run");
    host.put("/home/me/run/docker.sock", Node::Fifo);
    host.put("/run/podman/podman.sock", Node::Fifo);
    for (source, socket) in
        [("/home/me", "/home/me/run/docker.sock"), ("/run/podman", "/run/podman/podman.sock")]
    {
        let unit = format!("{WEB}[[mounts]]\nbind = \"{source}\"\ntarget = \"/data\"\n");
        assert_eq!(
            findings(&host, &unit),
            format!(
                "E0202 web.toml:6 binding `{source}` would hand the jail command of the host's services, at `{socket}` (comes along with it)\n"
            )
        );
        let inside = Path::new("/data").join(Path::new(socket).strip_prefix(source).unwrap());
        let mask = format!("[[mounts]]\nmask = true\ntarget = \"{}\"\n", inside.display());
        assert_eq!(findings(&host, &format!("{unit}{mask}")), "");
    }
}

#[test]
fn a_root_does_not_bring_file_systems_of_the_kernel_along_but_where_it_is_covered() {
    // As debootstrap leaves it: the jail's own are mounted over them.
    let mut host = Table::bare();
    for (fstype, target) in [
        ("proc", "/srv/web/proc"),
        ("sysfs", "/srv/web/sys"),
        ("tracefs", "/srv/web/sys/kernel/tracing"),
        ("devtmpfs", "/srv/web/dev"),
        ("devpts", "/srv/web/dev/pts"),
    ] {
        host.mount(fstype, target);
    }
    let ephemeral = WEB.replace("[process]", "ephemeral = true\n[process]");
    assert_eq!(findings(&host, WEB), "");
    assert_eq!(findings(&host, &ephemeral), "");
    let without = WEB.replace("[process]", "api-filesystems = [\"/proc\", \"/dev\"]\n[process]");
    assert!(findings(&host, &without).contains("E0202 web.toml:2 the root `/srv/web` would hand the jail the host's kernel interfaces, at `/srv/web/sys` (comes along with it)\n"));
    host.mount("proc", "/srv/web/inner/proc");
    let refused = "E0202 web.toml:2 the root `/srv/web` would hand the jail the host's kernel interfaces, at `/srv/web/inner/proc` (comes along with it)\n";
    assert_eq!(findings(&host, WEB), refused);
    assert_eq!(findings(&host, &ephemeral), refused);
    let masked = format!("{WEB}[[mounts]]\nmask = true\ntarget = \"/inner/proc\"\n");
    assert_eq!(findings(&host, &masked), "");
    let allowed = format!("{WEB}[security]\nallow-dangerous-binds = true\n");
    assert!(findings(&host, &allowed).starts_with("W0005 web.toml:2 the root `/srv/web` hands"));
    // Of the host's own tree the unit says that it is.
    let own = WEB.replace("path = \"/srv/web\"", "host = true");
    assert_eq!(findings(&host, &own), "");
}
