//! Limits, in the control groups of each kind of host.

use snapbox::{assert_data_eq, str};

use super::host::Table;
use super::{WEB, findings, group_steps, planning};

#[test]
fn a_default_limit_gives_way_and_says_so_where_a_user_has_no_group() {
    for host in [Table::version1().for_user(), Table::version2("user/me", "").for_user()] {
        let groups = group_steps(&host, WEB);
        assert_eq!(groups, "left out: limits.pids: the caller may not make control groups here\n");
    }
    // A kernel without control groups at all.
    assert_eq!(
        group_steps(&Table::bare(), WEB),
        "left out: limits.pids: this host has no control groups\n"
    );
}

const EVERY_LIMIT: &str = r#"
[limits]
memory = "64M"
swap = "16M"
cpu = 1.5
cpu-period = "50ms"
cpu-burst = "10ms"
cpu-weight = 200
cpuset = "0-1,3"
cpuset-mems = "0"
pids = 20
[limits.blkio]
weight = 300
devices = [
  { path = "/dev/vda1", read-bps = "1M", write-bps = "2M", read-iops = 10, write-iops = 20, weight = 50 },
]
"#;

#[test]
fn every_limit_in_the_files_of_v1() {
    assert_data_eq!(
        group_steps(&Table::version1(), &format!("{WEB}{EVERY_LIMIT}")),
        str![[r#"
make the control group /sys/fs/cgroup/memory/me/jailrun-web
write 67108864 to /sys/fs/cgroup/memory/me/jailrun-web/memory.limit_in_bytes
write 83886080 to /sys/fs/cgroup/memory/me/jailrun-web/memory.memsw.limit_in_bytes
end the whole jail when /sys/fs/cgroup/memory/me/jailrun-web runs out of memory
make the control group /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web
write 50000 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.cfs_period_us
write 75000 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.cfs_quota_us
write 10000 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.cfs_burst_us
write 2048 to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.shares
make the control group /sys/fs/cgroup/cpuset/me/jailrun-web
write 0-1,3 to /sys/fs/cgroup/cpuset/me/jailrun-web/cpuset.cpus
write 0 to /sys/fs/cgroup/cpuset/me/jailrun-web/cpuset.mems
make the control group /sys/fs/cgroup/pids/me/jailrun-web
write 20 to /sys/fs/cgroup/pids/me/jailrun-web/pids.max
make the control group /sys/fs/cgroup/blkio/me/jailrun-web
write 118 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.bfq.weight
write 254:0 1048576 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.read_bps_device
write 254:0 2097152 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.write_bps_device
write 254:0 10 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.read_iops_device
write 254:0 20 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.throttle.write_iops_device
write 254:0 50 to /sys/fs/cgroup/blkio/me/jailrun-web/blkio.bfq.weight_device
join the control group /sys/fs/cgroup/memory/me/jailrun-web
join the control group /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web
join the control group /sys/fs/cgroup/cpuset/me/jailrun-web
join the control group /sys/fs/cgroup/pids/me/jailrun-web
join the control group /sys/fs/cgroup/blkio/me/jailrun-web

"#]]
    );
}

#[test]
fn every_limit_in_the_files_of_v2() {
    let unit = format!("{WEB}{EVERY_LIMIT}")
        .replace("swap =", "memory-high = \"32M\"\nmemory-low = \"10M\"\nswap =");
    assert_data_eq!(
        group_steps(&Table::version2("", ""), &unit),
        str![[r#"
hand the controllers cpu cpuset io memory pids out below /sys/fs/cgroup
make the control group /sys/fs/cgroup/jailrun-web
write 67108864 to /sys/fs/cgroup/jailrun-web/memory.max
write 1 to /sys/fs/cgroup/jailrun-web/memory.oom.group
write 33554432 to /sys/fs/cgroup/jailrun-web/memory.high
write 10485760 to /sys/fs/cgroup/jailrun-web/memory.low
write 16777216 to /sys/fs/cgroup/jailrun-web/memory.swap.max
write 75000 50000 to /sys/fs/cgroup/jailrun-web/cpu.max
write 10000 to /sys/fs/cgroup/jailrun-web/cpu.max.burst
write 200 to /sys/fs/cgroup/jailrun-web/cpu.weight
write 0-1,3 to /sys/fs/cgroup/jailrun-web/cpuset.cpus
write 0 to /sys/fs/cgroup/jailrun-web/cpuset.mems
write 20 to /sys/fs/cgroup/jailrun-web/pids.max
write default 300 to /sys/fs/cgroup/jailrun-web/io.weight
write 254:0 rbps=1048576 wbps=2097152 riops=10 wiops=20 to /sys/fs/cgroup/jailrun-web/io.max
write 254:0 50 to /sys/fs/cgroup/jailrun-web/io.weight
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
}

#[test]
fn a_limit_is_rounded_down_to_what_the_kernel_counts_in() {
    let unit = format!("{WEB}[limits]\nmemory = 1000001\n");
    let groups = group_steps(&Table::version1(), &unit);
    assert!(
        groups.contains(
            "write 999424 to /sys/fs/cgroup/memory/me/jailrun-web/memory.limit_in_bytes\n"
        ),
        "{groups}"
    );
}

#[test]
fn a_share_of_the_hosts_memory_is_exact() {
    // Of 8 GiB.
    for (share, bytes) in [("100%", 8_u64 << 30), ("50%", 4 << 30), ("25%", 2 << 30)] {
        let unit = format!("{WEB}[limits]\nmemory = \"{share}\"\n");
        let groups = group_steps(&Table::version2("", ""), &unit);
        assert!(groups.contains(&format!("write {bytes} to ")), "{share}: {groups}");
    }
}

#[test]
fn shares_of_memory_contradict_each_other_like_sizes_do() {
    for (memory, high) in [("25%", "50%"), ("1G", "50%"), ("10%", "4G")] {
        let unit = format!("{WEB}[limits]\nmemory = \"{memory}\"\nmemory-high = \"{high}\"\n");
        let found = findings(&Table::version2("", ""), &unit);
        assert!(
            found.starts_with("E0203 web.toml:7 `memory-high` is above `memory`"),
            "{memory} {high}: {found}"
        );
    }
}

#[test]
fn the_measures_of_v1_and_v2_meet() {
    for (key, v1, v2) in [
        ("cpu-weight = 1", "10", "1"),
        ("cpu-weight = 100", "1024", "100"),
        ("cpu-weight = 10000", "102400", "10000"),
        ("cpu-shares = 2", "2", "1"),
        ("cpu-shares = 1024", "1024", "39"),
        ("cpu-shares = 262144", "262144", "10000"),
    ] {
        let unit = format!("{WEB}[limits]\n{key}\n");
        let one = group_steps(&Table::version1(), &unit);
        assert!(
            one.contains(&format!(
                "write {v1} to /sys/fs/cgroup/cpu,cpuacct/me/jailrun-web/cpu.shares\n"
            )),
            "{key}: {one}"
        );
        let two = group_steps(&Table::version2("", ""), &unit);
        assert!(
            two.contains(&format!("write {v2} to /sys/fs/cgroup/jailrun-web/cpu.weight\n")),
            "{key}: {two}"
        );
    }
}

#[test]
fn what_v1_cannot_keep_is_an_error_a_warning_or_left_out() {
    let unit = |policy: &str| {
        format!("{WEB}[limits]\nmemory-high = \"1G\"\nmemory-low = \"1M\"\nswap = \"1M\"\n{policy}")
    };
    let host = Table::version1();
    assert_data_eq!(
        findings(&host, &unit("")),
        str![[r#"
E0308 web.toml:6 `memory-high` cannot be set on this host (cgroup v1 cannot throttle above an amount of memory)
E0308 web.toml:7 `memory-low` cannot be set on this host (cgroup v1 cannot spare memory from reclaim)
E0308 web.toml:8 `swap` cannot be set on this host (cgroup v1 limits the sum of memory and swap: it needs `memory` too)

"#]]
    );
    assert_data_eq!(
        findings(&host, &unit("on-missing = \"warn\"\n")),
        str![[r#"
W0004 web.toml:6 `memory-high` is left out (cgroup v1 cannot throttle above an amount of memory)
W0004 web.toml:7 `memory-low` is left out (cgroup v1 cannot spare memory from reclaim)
W0004 web.toml:8 `swap` is left out (cgroup v1 limits the sum of memory and swap: it needs `memory` too)

"#]]
    );
    // What the unit itself can settle is not to be waved through.
    let helps = |policy: &str| {
        let (_, planning) = planning(&host, &unit(policy));
        let helps = planning.diagnostics.into_iter().map(|finding| finding.help);
        helps.map(Option::unwrap_or_default).collect::<Vec<_>>()
    };
    let warn = "`on-missing = \"warn\"` launches without it";
    assert_eq!(helps(""), [warn, warn, "set `memory` as well"]);
    assert_eq!(helps("on-missing = \"warn\"\n"), ["", "", "set `memory` as well"]);
    assert_eq!(findings(&host, &unit("on-missing = \"skip\"\n")), "");
    assert_data_eq!(
        group_steps(&host, &unit("on-missing = \"skip\"\n")),
        str![[r#"
make the control group /sys/fs/cgroup/pids/me/jailrun-web
write 4096 to /sys/fs/cgroup/pids/me/jailrun-web/pids.max
join the control group /sys/fs/cgroup/pids/me/jailrun-web
left out: limits.memory-high: cgroup v1 cannot throttle above an amount of memory
left out: limits.memory-low: cgroup v1 cannot spare memory from reclaim
left out: limits.swap: cgroup v1 limits the sum of memory and swap: it needs `memory` too

"#]]
    );
}

#[test]
fn a_hybrid_host_takes_each_limit_from_where_its_controller_is() {
    let mut host = Table::version1();
    // systemd's hybrid with one controller handed to v2.
    host.layout.v1.retain(|hierarchy| hierarchy.controllers != ["pids"]);
    host.version2_at("/sys/fs/cgroup/unified", "", "");
    host.file("/sys/fs/cgroup/unified/cgroup.controllers", "pids\n");
    let unit = format!("{WEB}[limits]\nmemory = \"64M\"\npids = 7\n");
    assert_data_eq!(
        group_steps(&host, &unit),
        str![[r#"
make the control group /sys/fs/cgroup/memory/me/jailrun-web
write 67108864 to /sys/fs/cgroup/memory/me/jailrun-web/memory.limit_in_bytes
end the whole jail when /sys/fs/cgroup/memory/me/jailrun-web runs out of memory
hand the controllers pids out below /sys/fs/cgroup/unified
make the control group /sys/fs/cgroup/unified/jailrun-web
write 7 to /sys/fs/cgroup/unified/jailrun-web/pids.max
born in /sys/fs/cgroup/unified/jailrun-web
join the control group /sys/fs/cgroup/memory/me/jailrun-web

"#]]
    );
}

#[test]
fn a_delegated_group_of_ones_own_gets_a_leaf_for_the_supervisor() {
    let mut host = Table::version2("user.slice/scope", "");
    host.delegated = vec!["/sys/fs/cgroup/user.slice/scope".into()];
    let by_root = group_steps(&host, WEB);
    assert_data_eq!(
        by_root.clone(),
        str![[r#"
move jailrun itself into a group of its own, /sys/fs/cgroup/user.slice/scope/_jailrun
hand the controllers pids out below /sys/fs/cgroup/user.slice/scope
make the control group /sys/fs/cgroup/user.slice/scope/jailrun-web
write 4096 to /sys/fs/cgroup/user.slice/scope/jailrun-web/pids.max
born in /sys/fs/cgroup/user.slice/scope/jailrun-web

"#]]
    );
    let host = host.for_user();
    assert_eq!(group_steps(&host, WEB), by_root);
}

#[test]
fn a_delegated_group_that_hands_out_already_is_used_as_it_is() {
    let mut host = Table::version2("scope", "pids memory");
    host.delegated = vec!["/sys/fs/cgroup/scope".into()];
    assert_data_eq!(
        group_steps(&host.for_user(), WEB),
        str![[r#"
make the control group /sys/fs/cgroup/scope/jailrun-web
write 4096 to /sys/fs/cgroup/scope/jailrun-web/pids.max
born in /sys/fs/cgroup/scope/jailrun-web

"#]]
    );
}

#[test]
fn a_delegated_group_with_other_processes_is_not_rearranged() {
    let mut host = Table::version2("scope", "");
    host.delegated = vec!["/sys/fs/cgroup/scope".into()];
    host.file("/sys/fs/cgroup/scope/cgroup.procs", "41\n42\n");
    let host = host.for_user();
    let unit = format!("{WEB}[limits]\npids = 7\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0308 web.toml:6 `pids` cannot be set on this host (the caller's control group holds other processes too)

"#]]
    );
    assert_eq!(
        group_steps(&host, WEB),
        "left out: limits.pids: the caller's control group holds other processes too\n"
    );
}

#[test]
fn root_in_a_group_that_is_not_delegated_climbs_to_the_nearest_that_hands_out() {
    let mut host = Table::version2("system.slice/sshd.service", "");
    host.file("/sys/fs/cgroup/system.slice/cgroup.subtree_control", "memory pids\n");
    assert_data_eq!(
        group_steps(&host, WEB),
        str![[r#"
make the control group /sys/fs/cgroup/system.slice/jailrun-web
write 4096 to /sys/fs/cgroup/system.slice/jailrun-web/pids.max
born in /sys/fs/cgroup/system.slice/jailrun-web

"#]]
    );
    // A controller that only the topmost group has.
    let unit = format!("{WEB}[limits]\ncpu = 1\n");
    assert_data_eq!(
        group_steps(&host, &unit),
        str![[r#"
hand the controllers cpu pids out below /sys/fs/cgroup
make the control group /sys/fs/cgroup/jailrun-web
write 100000 100000 to /sys/fs/cgroup/jailrun-web/cpu.max
write 4096 to /sys/fs/cgroup/jailrun-web/pids.max
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
}

#[test]
fn asked_for_limits_without_delegation_are_one_error_that_names_their_keys() {
    let host = Table::version2("user/me", "").for_user();
    let unit = format!("{WEB}[limits]\nmemory = \"64M\"\npids = 7\n");
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0308 web.toml:6 `memory`, `pids` cannot be set on this host (the caller may not make control groups here)

"#]]
    );
    let warned = format!("{unit}on-missing = \"warn\"\n");
    assert_data_eq!(
        findings(&host, &warned),
        str![[r#"
W0004 web.toml:6 `memory`, `pids` are left out (the caller may not make control groups here)

"#]]
    );
    let host = Table::version1().for_user();
    assert_data_eq!(
        findings(&host, &unit),
        str![[r#"
E0308 web.toml:6 `memory`, `pids` cannot be set on this host (the caller may not make control groups here)

"#]]
    );
}

#[test]
fn without_a_pid_namespace_a_group_holds_the_jail_together() {
    let unit = format!("{WEB}[limits]\npids = \"infinity\"\n[namespaces]\npid = \"host\"\n");
    assert_data_eq!(
        group_steps(&Table::version2("", ""), &unit),
        str![[r#"
make the control group /sys/fs/cgroup/jailrun-web
refuse the processes of /sys/fs/cgroup/jailrun-web, by a program, every device but c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm
born in /sys/fs/cgroup/jailrun-web

"#]]
    );
    let mut host = Table::version1();
    host.layout.v2 = None;
    assert_data_eq!(
        group_steps(&host, &unit),
        str![[r#"
make the control group /sys/fs/cgroup/devices/me/jailrun-web
refuse the processes of /sys/fs/cgroup/devices/me/jailrun-web every device but c 1:3 rwm, c 1:5 rwm, c 1:7 rwm, c 1:8 rwm, c 1:9 rwm, c 5:0 rwm, c 5:2 rwm, c 136:* rwm
join the control group /sys/fs/cgroup/devices/me/jailrun-web

"#]]
    );
}

#[test]
fn the_devices_controller_is_put_up_where_another_layer_is_given_up() {
    let limits = |host: &Table, keys: &str| {
        group_steps(host, &format!("{WEB}{keys}")).contains("every device but c 1:3 rwm")
    };
    for host in [Table::version1(), Table::version2("", "")] {
        assert!(!limits(&host, ""));
        assert!(!limits(&host, "[security]\ncapabilities = [\"CAP_CHOWN\"]\n"));
        for keys in [
            "[security]\ncapabilities = [\"CAP_MKNOD\"]\n",
            "[security]\ncapabilities = \"all\"\n",
            "[[mounts]]\ntarget = \"/data\"\ntmpfs = \"1M\"\nnodev = false\n",
            "[[devices]]\npath = \"/dev/vda\"\n",
            "[namespaces]\npid = \"host\"\n",
        ] {
            assert!(limits(&host, keys), "{keys}");
            // Nodes of a user namespace's own mounts are never devices.
            let own = format!("{keys}[namespaces]\nuser = \"private\"\n");
            if !keys.contains("namespaces") {
                let needed = keys.contains("nodev") || keys.contains("[[devices]]");
                assert_eq!(limits(&host, &own), needed, "{own}");
            }
        }
        let steps =
            group_steps(&host, &format!("{WEB}[[devices]]\npath = \"/dev/vda\"\naccess = \"r\"\n"));
        assert!(steps.contains("c 136:* rwm, b 254:0 r\n"), "{steps}");
    }
    assert_eq!(
        findings(&Table::bare(), &format!("{WEB}[security]\ncapabilities = [\"CAP_MKNOD\"]\n")),
        "E0308 web.toml:6 `devices` cannot be set on this host (this host has no `devices` controller)\n"
    );
}

/// Root of a container of an ordinary user may make groups, and no more.
#[test]
fn root_of_a_user_namespace_sets_no_devices() {
    let unit = format!("{WEB}[[devices]]\npath = \"/dev/vda\"\n");
    assert_eq!(findings(&Table::version2("", ""), &unit), "");
    let host = Table { in_user_namespace: true, ..Table::version2("", "") };
    assert_eq!(
        findings(&host, &unit),
        "E0308 web.toml:6 `devices` cannot be set on this host (only root of the host sets which devices open)\n"
    );
    assert_eq!(
        findings(&host, &format!("{unit}access = \"r\"\n")),
        "E0309 web.toml:7 `access` needs the devices controller, which only root of the host can set (nothing else tells reading from writing)\n"
    );
}

#[test]
fn a_disks_weight_takes_the_scheduler_that_keeps_it() {
    let unit = format!(
        "{WEB}[limits.blkio]\ndevices = [{{ path = \"/dev/vda\", weight = 50, read-bps = \"1M\" }}]\n"
    );
    let scheduled = |scheduler: &str| {
        let mut host = Table::version1();
        host.file("/sys/devices/vda/queue/scheduler", scheduler);
        host
    };
    assert_eq!(findings(&scheduled("none mq-deadline [bfq]\n"), &unit), "");
    let other = scheduled("none [mq-deadline] bfq\n");
    let said = findings(&other, &unit);
    assert!(
        said.contains("the disk has another scheduler than BFQ, which keeps weights"),
        "{said}"
    );
    // The rate stays.
    let left = unit.replace("[limits.blkio]", "[limits]\non-missing = \"warn\"\n[limits.blkio]");
    let steps = group_steps(&other, &left);
    assert!(steps.contains("read_bps_device") && !steps.contains("weight_device"), "{steps}");
}
