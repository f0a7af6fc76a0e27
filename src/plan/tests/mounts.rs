//! Where mounts go, and those that are refused.

use std::path::Path;

use snapbox::{assert_data_eq, str};

use super::host::{Node, Table};
use super::{WEB, findings, planning, steps};
use crate::plan::step::{NodeKind, Propagation, Step};

#[test]
fn every_bind_that_hands_out_the_host_is_refused_and_can_be_allowed() {
    let mut host = Table::bare();
    for path in [
        "/run/jailrun/web.json",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/run/user/1000/podman/podman.sock",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
    ] {
        host.put(path, Node::Fifo);
    }
    host.put("/var/run", Node::Link("/run".into()));
    for source in [
        "/",
        "/proc",
        "/proc/sys",
        "/sys",
        "/sys/firmware",
        "/dev",
        "/run",
        "/run/jailrun",
        "/run/jailrun/web.json",
        "/run/systemd",
        "/run/systemd/private",
        "/run/dbus/system_bus_socket",
        "/run/docker.sock",
        "/run/containerd/containerd.sock",
        "/run/crio/crio.sock",
        "/run/user/1000/podman/podman.sock",
        // By another name.
        "/var/run/docker.sock",
        "/etc/..",
        "/var/run",
    ] {
        let unit = format!(
            "{WEB}[[mounts]]\nbind = \"{source}\"\ntarget = \"/run/it\"\n[security]\nallow-dangerous-binds = false\n"
        );
        let refused = findings(&host, &unit);
        assert!(refused.starts_with("E0202 web.toml:6 binding `"), "{source}: {refused}");
        let allowed = findings(&host, &unit.replace("binds = false", "binds = true"));
        assert!(allowed.starts_with("W0005 web.toml:6 binding `"), "{source}: {allowed}");
        assert_eq!(allowed.lines().count(), 1, "{source}: {allowed}");
    }
    for harmless in ["/home/me", "/dev/null", "/srv/web/data"] {
        let unit = format!("{WEB}[[mounts]]\nbind = \"{harmless}\"\ntarget = \"/run/it\"\n");
        assert_eq!(findings(&host, &unit), "", "{harmless}");
    }
}

#[test]
fn a_missing_mount_point_of_the_root_is_made_on_the_host_and_announced() {
    let host = Table::bare();
    let unit = format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/new/place\"\n");
    assert_eq!(
        findings(&host, &unit),
        "W0001 web.toml:7 `/srv/web/new/place` will be created (it does not exist in the root)\n"
    );
    let steps = steps(&host, &unit);
    let made = steps.find("make the directory /srv/web/new/place <- web.toml:6\n").expect(&steps);
    assert!(made < steps.find("clone its first process").unwrap(), "{steps}");
}

#[test]
fn a_missing_mount_point_in_a_mount_is_made_in_the_jail() {
    let host = Table::bare();
    let unit = format!(
        "{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/tmp/new/place\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/tmp/new/place/etc\"\n"
    );
    assert_eq!(findings(&host, &unit), "");
    let steps = steps(&host, &unit);
    let enter = steps.find("clone its first process").unwrap();
    for line in ["make the directory /tmp/new/place <-", "make the directory /tmp/new/place/etc <-"]
    {
        assert!(steps.find(line).expect(&steps) > enter, "{steps}");
    }
    assert!(!steps.contains("/srv/web/tmp"), "{steps}");
}

#[test]
fn mount_points_that_cannot_be_made_are_errors() {
    let host = Table::bare();
    let unit = format!(
        r#"{WEB}
[[mounts]]
bind = "/etc"
target = "/data"
read-only = true
[[mounts]]
tmpfs = "1M"
target = "/data/below"
[[mounts]]
tmpfs = "1M"
target = "/proc/below"
[[mounts]]
tmpfs = "1M"
target = "/absent"
create = false
[[mounts]]
tmpfs = "1M"
target = "/etc/passwd"
[[mounts]]
content = "text"
target = "/var"
[[mounts]]
content = "text"
target = "/var/dir"
create = "dir"
[[mounts]]
tmpfs = "1M"
target = "/etc/passwd/below"
[[mounts]]
mask = true
target = "/absent"
[[mounts]]
symlink = "elsewhere"
target = "/var/run"
"#
    );
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0204 web.toml:12 `/data/below` cannot be created (an earlier mount makes the place read-only)
E0204 web.toml:15 `/proc/below` cannot be created (it lies in a file system of the kernel)
E0204 web.toml:18 `/absent` does not exist in the root (no such mount point)
E0204 web.toml:22 `/etc/passwd` of the root is not a directory (what is mounted there is a directory)
E0204 web.toml:25 `/var` of the root is a directory (what is mounted there is a file)
E0105 web.toml:29 the mount point would not fit what is mounted (what is mounted there is a file)
E0204 web.toml:32 `/etc/passwd/below` cannot be reached in the root (not a directory)
E0204 web.toml:35 `/absent` is not there to hide (does not exist in the root)
E0204 web.toml:38 `/var/run` exists in the root (a link would have to replace it)

"#]]
    );
}

#[test]
fn the_hosts_tree_is_never_changed_for_a_mount_point() {
    let unit = "[root]\nhost = true\n[process]\ncommand = [\"true\"]\n[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/new\"\n[[mounts]]\nsymlink = \"a\"\ntarget = \"/link\"\n";
    assert_data_eq!(
        findings(&Table::bare(), unit),
        str![[r#"
E0204 web.toml:7 `/new` does not exist, and the host's tree is not changed for it (no such mount point)
E0204 web.toml:10 `/link` cannot be created (the place is read-only)

"#]]
    );
}

#[test]
fn links_of_the_root_are_followed_inside_the_root() {
    let mut host = Table::bare();
    // The host's own /escape must not be what is reached.
    host.put("/srv/web/out", Node::Link("/escape".into()));
    host.put("/srv/web/up", Node::Link("../../../../data".into()));
    host.put("/escape", Node::Directory);
    let unit = format!(
        "{WEB}[[mounts]]\nbind = \"/etc\"\ntarget = \"/out\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/up\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/var/run/etc\"\n"
    );
    let steps = steps(&host, &unit);
    for line in [
        "make the directory /srv/web/escape <- web.toml:6\n",
        "bind /etc to /escape (nosuid,nodev) <- web.toml:6\n",
        "bind /etc to /data (nosuid,nodev) <- web.toml:9\n",
        "make the directory /run/etc <- web.toml:12\n",
        "bind /etc to /run/etc (nosuid,nodev) <- web.toml:12\n",
    ] {
        assert!(steps.contains(line), "{line}{steps}");
    }
}

#[test]
fn a_loop_of_links_is_an_error_at_its_target() {
    let mut host = Table::bare();
    host.put("/srv/web/loop", Node::Link("loop".into()));
    let unit = format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/loop\"\n");
    assert_eq!(
        findings(&host, &unit),
        "E0204 web.toml:7 `/loop` cannot be reached in the root (too many levels of links)\n"
    );
}

#[test]
fn a_link_that_leads_to_the_root_is_a_mount_over_it() {
    let mut host = Table::bare();
    host.put("/srv/web/self", Node::Link("/".into()));
    let unit = format!("{WEB}[[mounts]]\ntmpfs = \"1M\"\ntarget = \"/self\"\n");
    assert_eq!(
        findings(&host, &unit),
        "E0201 web.toml:7 `/self` leads to `/` in this root (a mount over `/`)\n"
    );
}

#[test]
fn a_hostile_root_is_refused() {
    let mut host = Table::bare();
    host.put("/srv/web/proc", Node::Link("/data".into()));
    host.put("/srv/web/dev", Node::Link("/etc".into()));
    host.file("/srv/web/sys", "");
    assert_data_eq!(
        findings(&host, WEB),
        str![[r#"
E0311 web.toml:2 `/proc` of the root is a symbolic link (must be a directory to mount on)
E0311 web.toml:2 `/sys` of the root is not a directory (must be a directory to mount on)
E0311 web.toml:2 `/dev` of the root is a symbolic link (must be a directory to mount on)

"#]]
    );
}

#[test]
fn no_step_names_a_path_of_the_jail_by_a_link() {
    // /bin is a link to usr/bin in this root.
    let unit = format!("{WEB}[[mounts]]\nbind = \"/etc\"\ntarget = \"/bin/etc\"\n");
    let steps = steps(&Table::bare(), &unit);
    assert!(steps.contains("bind /etc to /usr/bin/etc"), "{steps}");
    assert!(!steps.contains(" /bin/etc"), "{steps}");
}

#[test]
fn mount_points_are_made_of_the_kind_that_fits() {
    let unit = format!(
        "{WEB}[[mounts]]\nbind = \"/dev/null\"\ntarget = \"/tmp/file\"\n[[mounts]]\nbind = \"/etc\"\ntarget = \"/tmp/dir\"\n"
    );
    let (_, planning) = planning(&Table::bare(), &unit);
    let made = |path: &str| {
        let steps = &planning.plan.as_ref().unwrap().steps;
        steps.iter().find_map(|planned| match &planned.step {
            Step::MakeNode { path: made, kind } if made == Path::new(path) => Some(*kind),
            _ => None,
        })
    };
    assert_eq!(made("/tmp/file"), Some(NodeKind::File));
    assert_eq!(made("/tmp/dir"), Some(NodeKind::Directory));
}

#[test]
fn a_mask_that_a_later_mount_takes_away_is_found() {
    let mut host = Table::bare();
    host.put("/srv/web/home/secret", Node::Directory);
    let unit = format!(
        "{WEB}[[mounts]]\nmask = true\ntarget = \"/home/secret\"\n[[mounts]]\nbind = \"/home\"\ntarget = \"/home\"\n"
    );
    assert_eq!(
        findings(&host, &unit),
        "W0017 web.toml:10 the mount on `/home` hides that on `/home/secret` (mounted later, in the order written)\n"
    );
}

/// Every key that could be written with a kind, and what comes of it.
#[test]
fn no_key_of_a_mount_is_without_effect_and_without_a_word() {
    const TRUE_OR_FALSE: [&str; 2] = ["true", "false"];
    let keys: &[(&str, &[&str])] = &[
        ("read-only", &TRUE_OR_FALSE),
        ("nosuid", &TRUE_OR_FALSE),
        ("nodev", &TRUE_OR_FALSE),
        ("noexec", &TRUE_OR_FALSE),
        ("noatime", &TRUE_OR_FALSE),
        ("propagation", &["\"shared\"", "\"slave\"", "\"unbindable\""]),
    ];
    let kinds = [
        "bind = \"/etc\"",
        "tmpfs = \"1M\"",
        "overlay = { lower = [\"/etc\"], upper = \"tmpfs\" }",
        "image = \"/units/root.img\"",
        "proc = true",
        "sysfs = true",
        "devpts = true",
        "mqueue = true",
        "cgroup = true",
        "content = \"text\"",
        "symlink = \"/etc\"",
        "mask = true",
    ];
    let hosts = [Table::version1(), Table::version2("", "")];
    for host in &hosts {
        for kind in kinds {
            let target = match kind {
                "content = \"text\"" => "/tmp/text",
                "symlink = \"/etc\"" => "/tmp/link",
                _ => "/data",
            };
            let plain = format!("{WEB}[[mounts]]\n{kind}\ntarget = \"{target}\"\n");
            let planned = |unit: &str| {
                let plan = planning(host, unit).1.plan;
                plan.map(|plan| plan.steps.into_iter().map(|it| it.step).collect::<Vec<_>>())
            };
            let before = planned(&plain).expect(kind);
            for (key, values) in keys {
                let mut changes = 0;
                for value in *values {
                    let unit = format!("{plain}{key} = {value}\n");
                    let is_told = findings(host, &unit).contains("E0106 web.toml:8 ");
                    changes += usize::from(is_told || planned(&unit).as_ref() != Some(&before));
                }
                // One of two values is the default, or what it is in any case.
                let least = if values.len() == 2 { 1 } else { values.len() };
                assert!(changes >= least, "{kind}: {key}");
            }
            let create = findings(host, &format!("{plain}create = false\n"));
            let has_point = !matches!(kind, "mask = true" | "symlink = \"/etc\"");
            assert_eq!(create.contains("E0106"), !has_point, "{kind}: {create}");
        }
    }
}

#[test]
fn a_mount_that_is_private_in_a_root_that_follows_the_host_is_made_so() {
    let unit = |key: &str| {
        let root = WEB.replace("[process]", "propagation = \"slave\"\n[process]");
        format!("{root}[[mounts]]\nbind = \"/etc\"\ntarget = \"/data\"\n{key}\n")
    };
    let propagation = |unit: &str| {
        let plan = planning(&Table::bare(), unit).1.plan.unwrap();
        plan.steps.into_iter().find_map(|planned| match planned.step {
            Step::Bind { target, propagation, .. } if target == Path::new("/data") => {
                Some(propagation)
            }
            _ => None,
        })
    };
    assert_eq!(propagation(&unit("")), Some(None));
    let private = "propagation = \"private\"";
    assert_eq!(propagation(&unit(private)), Some(Some(Propagation::Private)));
}

#[test]
fn a_read_only_bind_into_which_the_host_mounts_later_is_told() {
    let unit = |key: &str| {
        let root = WEB.replace("[process]", "propagation = \"slave\"\n[process]");
        format!("{root}[[mounts]]\nbind = \"/etc\"\ntarget = \"/data\"\n{key}\n")
    };
    let said =
        "what the host mounts below `/etc` while the jail runs is not read-only (follows the host)";
    for (key, line) in [
        ("read-only = true", "W0018 web.toml:7"),
        ("read-only = true\npropagation = \"slave\"", "W0018 web.toml:10"),
        ("read-only = true\npropagation = \"shared\"", "W0018 web.toml:10"),
    ] {
        assert_eq!(findings(&Table::bare(), &unit(key)), format!("{line} {said}\n"), "{key}");
    }
    for key in ["", "read-only = true\npropagation = \"private\"", "propagation = \"slave\""] {
        assert_eq!(findings(&Table::bare(), &unit(key)), "", "{key}");
    }
}
