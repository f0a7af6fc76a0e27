//! The explained script and the executor, with the same probe as the command,
//! must put up equal jails.
//!
//! What may differ, and why:
//!
//! | field | why |
//! |---|---|
//! | `pid`, `ppid`, `session_leader` | the script has no init: the command is process 1 |
//! | `pdeathsig` | no command sets it where no namespace makes unshare(1) fork |
//! | `seccomp` | no command of util-linux loads a filter |
//! | `dumpable` | reset by execve; says nothing about the set-up |
//! | `signals` | the script's shell leaves what its caller ignores ignored |
//! | device numbers, inode of `/` | each mount of memory is a new one |
//! | mounts hidden under another on the same path | mount(8) reaches the topmost only |
//! | names of an overlay's directories | jailrun has opened them, and gives numbers |
//! | numbers of pipes in `fds` | each run has its own |
//! | the namespaces' numbers | compared as "the host's" or "not the host's" |

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value};

use crate::support::{
    Bench, Caller, Run, command, descendants, eventually, fed, finish, jailrun, leftovers, run,
    signal, unique,
};

/// What is compared of a report: everything but the table above.
fn comparable(report: &Value, host: &Value) -> Map<String, Value> {
    let mut fields = report.as_object().unwrap().clone();
    for field in
        ["pid", "ppid", "session_leader", "pdeathsig", "dumpable", "seccomp", "signals", "root"]
    {
        fields.remove(field);
    }
    let host_namespaces = host["namespaces"].as_object().unwrap();
    let namespaces = fields["namespaces"].as_object_mut().unwrap();
    for (name, value) in namespaces.iter_mut() {
        *value = Value::Bool(host_namespaces.get(name) == Some(value));
    }
    for target in fields["fds"].as_object_mut().unwrap().values_mut() {
        let text = target.as_str().unwrap().split(":[").next().unwrap().to_owned();
        *target = Value::String(text);
    }
    let mounts = fields["mounts"].as_array().unwrap().clone();
    let mut visible: BTreeMap<String, Value> = BTreeMap::new();
    for mut mount in mounts {
        mount.as_object_mut().unwrap().remove("device");
        for option in mount["super_options"].as_array_mut().unwrap() {
            *option = Value::String(nameless(option.as_str().unwrap()));
        }
        // The latest on a path is the one that is seen.
        visible.insert(mount["target"].as_str().unwrap().to_owned(), mount);
    }
    fields.insert("mounts".to_owned(), visible.into_values().collect());
    fields
}

/// An option of a file system without the names of directories; how many they
/// are stays.
fn nameless(option: &str) -> String {
    match option.split_once('=') {
        Some((key @ "lowerdir", names)) => {
            format!("{key}={}", names.replace("\\:", "").split(':').count())
        }
        Some((key @ ("upperdir" | "workdir"), _)) => key.to_owned(),
        _ => option.to_owned(),
    }
}

fn host_report() -> Value {
    let output = Command::new(crate::support::probe()).arg("report").output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn explain(caller: Caller, arguments: &[&str]) -> String {
    let mut words = vec!["up"];
    let (before, after): (Vec<&str>, Vec<&str>) =
        match arguments.iter().position(|word| *word == "--") {
            Some(at) => (arguments[..at].to_vec(), arguments[at..].to_vec()),
            None => (arguments.to_vec(), Vec::new()),
        };
    words.extend(before);
    words.extend(["--explain", "--quiet"]);
    words.extend(after);
    let explained = run(caller, &words);
    assert_eq!(explained.status, 0, "{}", explained.stderr);
    explained.stdout
}

/// Runs a script from a file, as a caller.
fn run_script(caller: Caller, script: &str, directory: &Path) -> Run {
    let file = directory.join("explained.sh");
    fs::write(&file, script).unwrap();
    finish(command(caller, Path::new("sh"), &[file]).spawn().unwrap())
}

/// Runs both and returns the first difference, if there is one.
fn difference(bench: &Bench, caller: Caller, arguments: &[&str], host: &Value) -> Option<String> {
    let unit = bench.unit.to_str().unwrap();
    let executed = bench.up(caller, arguments);
    let mut explained = vec![unit];
    explained.extend(arguments);
    let script = explain(caller, &explained);
    let scripted = run_script(caller, &script, bench.directory.path());
    if executed.status != scripted.status {
        return Some(format!("exit status: {executed:?}\n{scripted:?}\n{script}"));
    }
    if executed.stderr != scripted.stderr {
        return Some(format!(
            "standard error:\n{}\n{}\n{script}",
            executed.stderr, scripted.stderr
        ));
    }
    if executed.stdout.is_empty() || scripted.stdout.is_empty() {
        return Some(format!("no report: {executed:?}\n{scripted:?}"));
    }
    let executed = comparable(&executed.json(), host);
    let scripted = comparable(&scripted.json(), host);
    let mut text = String::new();
    for (field, value) in &executed {
        let other = scripted.get(field).cloned().unwrap_or_default();
        if *value != other {
            let (ours, theirs) = narrow(value, &other);
            writeln!(text, "{field}:\n  executed {ours}\n  explained {theirs}").unwrap();
        }
    }
    (!text.is_empty())
        .then(|| format!("{text}\n{}\n{script}", fs::read_to_string(&bench.unit).unwrap()))
}

/// Of two lists, the entries that differ.
fn narrow(left: &Value, right: &Value) -> (String, String) {
    let (Value::Array(ours), Value::Array(theirs)) = (left, right) else {
        return (left.to_string(), right.to_string());
    };
    let only = |list: &[Value], other: &[Value]| {
        let odd: Vec<_> = list.iter().filter(|entry| !other.contains(entry)).collect();
        serde_json::to_string(&odd).unwrap()
    };
    (only(ours, theirs), only(theirs, ours))
}

/// A root that holds the host's programs, so that the script's part behind the
/// pivot finds its tools.
pub fn bench(root_keys: &str, text: &str) -> Bench {
    let usr = "[[mounts]]\ntarget = \"/usr\"\nbind = \"/usr\"\nread-only = true\n";
    let bench = Bench::with_root(root_keys, &format!("{usr}{text}"));
    for name in ["bin", "sbin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), bench.root.join(name)).unwrap();
    }
    fs::create_dir(bench.root.join("usr")).unwrap();
    bench
}

/// Prints the limits from inside, then becomes the probe.
pub const COMMAND: &[&str] = &[
    "--",
    "/bin/sh",
    "-c",
    r#"for file in /cg/*/memory.limit_in_bytes /cg/*/memory.memsw.limit_in_bytes /cg/*/pids.max \
       /cg/*/cpu.cfs_quota_us /cg/*/cpu.cfs_period_us /cg/*/cpu.shares /cg/*/cpuset.cpus /cg/*/cpuset.mems \
       /cg/*/blkio.throttle.read_bps_device \
       /cg/memory.max /cg/memory.swap.max /cg/pids.max /cg/cpu.max /cg/cpu.weight /cg/cpuset.cpus /cg/io.max /proc/sys/kernel/shmmni \
       /proc/sys/net/ipv4/ip_local_port_range; do
       if test -r "$file"; then echo "$file $(cat "$file")" >&2; fi; done
       exec /probe report --exit 7"#,
];

pub fn assert_agreement(bench: &Bench, caller: Caller, arguments: &[&str]) {
    if let Some(difference) = difference(bench, caller, arguments, &host_report()) {
        panic!("{difference}");
    }
    bench.assert_nothing_left();
}

#[test]
fn a_plain_unit_for_root_and_for_an_ordinary_user() {
    for caller in crate::support::CALLERS {
        assert_agreement(&bench("", ""), caller, COMMAND);
    }
}

#[test]
fn every_kind_of_step() {
    let text = r#"
[[mounts]]
target = "/data"
bind = "{dir}/root/etc"
read-only = true
noexec = true
noatime = true
[[mounts]]
target = "/made/deep"
tmpfs = "1M"
mode = "1777"
user = "alice"
group = "staff"
[[mounts]]
target = "/made/deep/file"
content = "it's a \"text\"\nof two lines\n"
[[mounts]]
target = "/tmp/link"
symlink = "/etc/passwd"
[[mounts]]
target = "/etc/group"
mask = true
[[mounts]]
target = "/tmp/proc"
proc = true
[[mounts]]
target = "/tmp/shared"
bind = "{dir}/root/etc"
recursive = false
propagation = "shared"
[[mounts]]
target = "/cg"
cgroup = true
[[mounts]]
target = "/groups"
cgroup = true
read-only = true
[[mounts]]
target = "/pts"
devpts = true
read-only = true
noatime = true
propagation = "shared"
[[mounts]]
target = "/tmp/own"
bind = "{dir}/root/etc"
propagation = "private"
[namespaces]
time = "private"
time-offsets = { monotonic = "1h", boottime = "-20s" }
[limits]
memory = "64M"
swap = "0"
cpu = 0.5
cpu-period = "50ms"
cpu-shares = 512
cpuset = "0"
pids = 50
[limits.blkio]
devices = [{ path = "{dir}", read-bps = "10M" }]
[limits.rlimits]
nofile = { soft = 100, hard = 200 }
stack = "8M"
[security]
capabilities = ["@default", "-CAP_MKNOD", "CAP_SYS_NICE"]
ambient-capabilities = ["CAP_NET_BIND_SERVICE"]
masked-paths = ["@default", "-/proc/keys", "/etc/passwd"]
read-only-paths = ["@default", "/tmp/shared"]
sysctl = { net.ipv4.ip_local_port_range = "40000 40100", kernel.shmmni = 77 }
[process]
user = "alice"
supplementary-groups = ["staff", 7]
umask = "077"
cwd = "/data"
nice = 5
oom-score-adjust = 300
cpu-affinity = "0"
env = { QUOTED = "it's $HOME", PATH = "/usr/bin:/bin" }
stderr = "append:{dir}/errors"
[lifecycle]
timeout = "{patience}s"
"#;
    let timeout = (30 * crate::support::patience()).to_string();
    let bench = bench("domain = 1", &text.replace("{patience}", &timeout));
    let unit = fs::read_to_string(&bench.unit).unwrap();
    let unit = unit.replace("domain = 1", "").replacen(
        "[root]",
        "hostname = \"odd-name\"\ndomainname = \"example.org\"\n[root]",
        1,
    );
    fs::write(&bench.unit, unit).unwrap();
    assert_agreement(&bench, Caller::Root, COMMAND);
    let errors = fs::read_to_string(bench.directory.path().join("errors")).unwrap();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len() % 2, 0, "{errors}");
    let (first, second) = lines.split_at(lines.len() / 2);
    assert_eq!(first, second, "the limits differ");
    // Where there is nothing but version 2, the jail's own group is the root.
    let limit = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => "/cg/memory.max 67108864",
        false => "memory.limit_in_bytes 67108864",
    };
    assert!(errors.contains(limit), "{errors}");
    assert!(errors.contains("shmmni 77"), "{errors}");
}

#[test]
fn joined_namespaces() {
    let mut sleeper =
        Command::new("unshare").args(["--uts", "--ipc", "sleep", "1000"]).spawn().unwrap();
    let id = sleeper.id();
    eventually("unshare", || {
        let link = |path: String| fs::read_link(path).ok();
        link(format!("/proc/{id}/ns/uts")) != link("/proc/self/ns/uts".to_owned())
            && fs::read_to_string(format!("/proc/{id}/comm"))
                .is_ok_and(|comm| comm.trim() == "sleep")
    });
    let text = format!(
        "[namespaces]\nuts = \"/proc/{id}/ns/uts\"\nipc = \"/proc/{id}/ns/ipc\"\npid = \"host\"\ncgroup = \"host\"\n"
    );
    let bench = bench("", &text);
    let outcome = difference(&bench, Caller::Root, COMMAND, &host_report());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    assert_eq!(outcome, None);
    bench.assert_nothing_left();
}

#[test]
fn roots_in_memory_and_of_the_host() {
    let memory = bench("", "");
    let text = fs::read_to_string(&memory.unit).unwrap();
    let path = format!("path = \"{}\"", memory.root.display());
    let links: String = ["bin", "sbin", "lib", "lib64"]
        .map(|name| format!("[[mounts]]\ntarget = \"/{name}\"\nsymlink = \"usr/{name}\"\n"))
        .concat();
    let probe = format!(
        "[[mounts]]\ntarget = \"/probe\"\nbind = \"{}\"\n",
        memory.root.join("probe").display()
    );
    let in_memory = text.replace(&path, "tmpfs = \"4M\"\nread-only = true") + &links + &probe;
    fs::write(&memory.unit, in_memory).unwrap();
    for caller in crate::support::CALLERS {
        assert_agreement(&memory, caller, COMMAND);
    }
    let host = bench("", "");
    let text = format!(
        "name = \"{}\"\n[root]\nhost = true\n[[mounts]]\ntarget = \"/tmp/probe\"\nbind = \"{}\"\n",
        host.name,
        host.root.join("probe").display()
    );
    fs::write(&host.unit, text).unwrap();
    for caller in crate::support::CALLERS {
        assert_agreement(&host, caller, &["--", "/tmp/probe", "report"]);
    }
}

/// The same root as an archive, an image and in three file systems.
#[test]
fn packed_roots() {
    let bench = bench("", "");
    let text = fs::read_to_string(&bench.unit).unwrap();
    let path = format!("path = \"{}\"", bench.root.display());
    let script = r#"set -e
        tar -C root -czf root.tar.gz .
        mksquashfs root root.squashfs -quiet -noappend >/dev/null
        mkfs.erofs root.erofs root >/dev/null 2>&1
        truncate -s 16M root.ext4; mkfs.ext4 -q -d root root.ext4
        umoci init --layout layout; umoci new --image layout:tag
        umoci insert --image layout:tag root / >/dev/null
        umoci config --image layout:tag --config.workingdir /tmp --config.env FROM=image"#;
    let packed = Command::new("sh")
        .args(["-c", script])
        .current_dir(bench.directory.path())
        .status()
        .unwrap();
    assert!(packed.success());
    let roots = [
        "tar = \"root.tar.gz\"",
        "tar = \"root.tar.gz\"\nephemeral = true",
        "oci = \"layout:tag\"",
        "oci = \"layout:tag\"\nephemeral = true",
        "image = \"root.squashfs\"",
        "image = \"root.erofs\"\nephemeral = true",
        "image = \"root.ext4\"",
        "tmpfs = \"64M\"\npopulate = [\"root.tar.gz\"]",
    ];
    for root in roots {
        fs::write(&bench.unit, text.replace(&path, root)).unwrap();
        // The first of a kind is unpacked by the launch itself.
        let run = bench.up(Caller::Root, &["--", "/probe", "true"]);
        assert_eq!(run.status, 0, "{root}: {run:?}");
        assert_agreement(&bench, Caller::Root, COMMAND);
    }
    for source in ["root.tar.gz", "layout:tag"] {
        let source = bench.directory.path().join(source);
        let run = run(Caller::Root, &["image", "rm", source.to_str().unwrap()]);
        assert_eq!(run.status, 0, "{run:?}");
    }
    assert_eq!(run(Caller::Root, &["image", "gc"]).status, 0);
}

/// What is not in the store yet: the script unpacks it, and has the rest
/// explained.
#[test]
fn an_image_that_is_not_unpacked_yet() {
    let bench = bench("", "");
    let text = fs::read_to_string(&bench.unit).unwrap();
    let path = format!("path = \"{}\"", bench.root.display());
    let archive = bench.directory.path().join("other.tar");
    let mut tar = Command::new("tar");
    let made = tar.arg("-C").arg(&bench.root).arg("-cf").arg(&archive).arg(".").status().unwrap();
    assert!(made.success());
    fs::write(&bench.unit, text.replace(&path, "tar = \"other.tar\"")).unwrap();
    let unit = bench.unit.to_str().unwrap();
    let script = explain(Caller::Root, &[unit, "--", "/probe", "report"]);
    assert!(script.contains("jailrun image import --tar"), "{script}");
    let programs = jailrun().parent().unwrap().display().to_string();
    let script = format!("PATH={programs}:$PATH\n{script}");
    let scripted = run_script(Caller::Root, &script, bench.directory.path());
    assert_eq!(scripted.status, 0, "{scripted:?}");
    assert_eq!(scripted.json()["hostname"], bench.name.as_str(), "{scripted:?}");
    let archive = archive.to_str().unwrap();
    assert_eq!(run(Caller::Root, &["image", "rm", archive]).status, 0);
    assert_eq!(run(Caller::Root, &["image", "gc"]).status, 0);
    bench.assert_nothing_left();
}

/// Lists the tree and tries to write to it, then becomes the probe.
const TREE: &[&str] = &[
    "--set",
    "security.capabilities=all",
    "--",
    "/bin/sh",
    "-c",
    r#"find / -xdev -path /usr -prune -o -printf '%p %y %m %U:%G %l\n' | sort >&2
       for at in / /etc /data /var /stack /deep; do
       if test -d $at; then (echo x >$at/new) 2>/dev/null && rm $at/new && echo "$at can be written to" >&2; fi; done
       exec /probe report"#,
];

/// Keys of `[root]`, and what else the unit holds.
const ROOTS: &[(&str, &str)] = &[
    ("lower = [\"{dir}/top\", \"{base}\"]\nupper = \"tmpfs\"\nupper-size = \"5M\"", ""),
    (
        "lower = [\"{dir}/top\", \"{base}\"]",
        "[[mounts]]\ntarget = \"/var/deep/new\"\ntmpfs = \"1M\"\n\
         [[mounts]]\ntarget = \"/var/deep/file\"\ncontent = \"text\"\n",
    ),
    ("lower = [\"{base}\"]\nread-only = true\nupper = \"tmpfs\"", ""),
    ("lower = [\"{dir}/a:b,c \\\"d' e\", \"{base}\"]\nswitch = \"chroot\"", ""),
    ("path = \"{base}\"\nephemeral = true\nephemeral-size = \"3M\"", ""),
    ("path = \"{base}\"\nephemeral = true\nread-only = true", ""),
    ("tmpfs = \"20M\"\nmode = \"711\"\npopulate = [\"{base}\", \"{dir}/more\"]", ""),
    (
        "path = \"{base}\"",
        "[[mounts]]\ntarget = \"/data\"\noverlay = { lower = [\"{base}/etc\"], upper = \"tmpfs\" }\n\
         [[mounts]]\ntarget = \"/stack\"\noverlay = { lower = [\"{base}/etc\"] }\n\
         [[mounts]]\ntarget = \"/deep/er\"\nread-only = true\n\
         overlay = { lower = [\"{dir}/top\", \"{base}/etc\"], upper = \"tmpfs\" }\n\
         [[mounts]]\ntarget = \"/run/not/there/link\"\nsymlink = \"/etc\"\n",
    ),
];

#[test]
fn roots_of_layers_and_copies() {
    let host = host_report();
    for (root, rest) in ROOTS {
        for caller in crate::support::CALLERS {
            let bench = crate::roots::bench(root, rest);
            let script = "mkdir -p top/etc top/var/deep more/etc more/var \"a:b,c \\\"d' e/in\"; echo x >top/etc/more; chmod 700 more/etc more; echo y >more/etc/file; ln more/etc/file more/hard; \
                           \
                          mknod top/data c 0 0; chmod 750 top/var; chown -Rh 65534:65534 .; chmod 700 top";
            let made = Command::new("sh")
                .args(["-euc", script])
                .current_dir(bench.directory.path())
                .status()
                .unwrap();
            assert!(made.success());
            assert_eq!(difference(&bench, caller, TREE, &host), None, "{caller:?} {root}");
            bench.assert_nothing_left();
        }
    }
}

#[test]
fn changes_of_the_script_go_to_the_same_upper_directories() {
    for caller in crate::support::CALLERS {
        let mounts: String = (0..4)
            .map(|number| format!("[[mounts]]\ntarget = \"/m{number}\"\noverlay = {{ lower = [\"{{base}}/etc\"], upper = \"{{dir}}/{number}\" }}\n"))
            .collect();
        let bench = crate::roots::bench("lower = [\"{base}\"]\nupper = \"{dir}/upper\"", &mounts);
        for name in ["upper", "0", "1", "2", "3"] {
            let upper = bench.directory.path().join(name);
            fs::create_dir(&upper).unwrap();
            std::os::unix::fs::chown(&upper, Some(65534), Some(65534)).unwrap();
        }
        let words = [
            "--set",
            "security.capabilities=all",
            "--",
            "/bin/sh",
            "-c",
            "for at in / /m0 /m1 /m2 /m3; do echo x >>$at/new; done",
        ];
        assert_eq!(bench.up(caller, &words).status, 0);
        let script = explain(caller, &[&[bench.unit.to_str().unwrap()], &words[..]].concat());
        let scripted = run_script(caller, &script, bench.directory.path());
        assert_eq!((scripted.status, &*scripted.stderr), (0, ""), "{script}");
        for name in ["upper", "0", "1", "2", "3"] {
            let new = bench.directory.path().join(name).join("new");
            assert_eq!(fs::read_to_string(new).unwrap(), "x\nx\n", "{caller:?} {name}");
        }
        bench.assert_nothing_left();
    }
}

#[test]
fn roots_of_closures() {
    let probe = crate::support::probe().to_str().unwrap();
    let script = format!(
        "find / -xdev -path /usr -prune -o -printf '%p %y %m %U:%G %l\\n' | sort >&2; exec {probe} report"
    );
    let command = format!("process.command=[\"/bin/sh\", \"-c\", {}]", Value::from(script));
    // What follows the pivot needs its tools in the root.
    let tools = "\"sh\", \"find\", \"sort\", \"umount\", \"cat\", \"env\", \"setpriv\", \"prlimit\", \"renice\"";
    let files = "files = [\"/usr/share/doc/tar\", \"/etc/hostname\"]\nwith = [\"nss\"]";
    let bench = Bench::new("");
    for keys in ["", "ephemeral = true"] {
        let text = format!(
            "name = \"{}\"\n[root]\nbinaries = [\"{probe}\", {tools}]\n{files}\n{keys}\n",
            bench.name
        );
        fs::write(&bench.unit, text).unwrap();
        for caller in crate::support::CALLERS {
            assert_agreement(&bench, caller, &["--set", &command]);
        }
    }
}

/// Mounts below the directory of an ephemeral root, in a namespace of the
/// test's own.
#[test]
fn an_ephemeral_root_with_mounts_below_it() {
    let bench = crate::roots::bench("path = \"{base}\"\nephemeral = true", "");
    let script = format!(
        "set -e; cd {base}; mkdir one two 'a b'; mount -t tmpfs a one; echo a >one/text; mkdir one/in; mount -t tmpfs b one/in
         mount --bind etc two; mount -o remount,bind,ro two; mount -t tmpfs c 'a b'
         {jailrun} up --explain --quiet {unit} -- /bin/sh -c \"$0\" >../explained.sh
         {jailrun} up --quiet {unit} -- /bin/sh -c \"$0\"; echo ---; sh ../explained.sh",
        base = bench.root.display(),
        jailrun = jailrun().display(),
        unit = bench.unit.display(),
    );
    let look = "find / -xdev -path /usr -prune -o -printf '%p %y %m %U:%G %l\n' | sort; for at in / /one /one/in /two '/a b'; do \
                (echo x >\"$at/new\") 2>/dev/null && echo \"$at\"; done; cut -d' ' -f5,6 /proc/self/mountinfo";
    let child = command(Caller::Root, Path::new("unshare"), &["-m", "sh", "-c", &script, look]);
    let mut child = child;
    let run = finish(child.spawn().unwrap());
    assert_eq!((run.status, &*run.stderr), (0, ""), "{}", run.stdout);
    let (executed, explained) = run.stdout.split_once("---\n").unwrap();
    assert!(executed.contains("\n/a b\n") && executed.contains("\n/one/in\n/a b\n"), "{executed}");
    assert_eq!(executed, explained);
}

#[test]
fn a_chroot_is_explained_as_one() {
    assert_agreement(&bench("switch = \"chroot\"", ""), Caller::Root, COMMAND);
}

#[test]
fn streams_and_an_initless_jail() {
    let text =
        "[process]\ninit = false\nstdin = \"file:{dir}/input\"\nstdout = \"append:{dir}/output\"\n";
    let bench = bench("", text);
    fs::write(bench.directory.path().join("input"), "typed").unwrap();
    let words = ["--", "/bin/sh", "-c", "cat; exit 3"];
    let unit = bench.unit.to_str().unwrap();
    assert_eq!(bench.up(Caller::Root, &words).status, 3);
    let mut explained = vec![unit];
    explained.extend(words);
    let scripted =
        run_script(Caller::Root, &explain(Caller::Root, &explained), bench.directory.path());
    assert_eq!(scripted.status, 3, "{scripted:?}");
    assert_eq!(fs::read_to_string(bench.directory.path().join("output")).unwrap(), "typedtyped");
}

/// `jailrun up UNIT --explain | sh` for every example whose needs are there.
#[test]
fn every_example_explained_into_a_shell() {
    crate::support::require_root();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let directory = crate::support::scratch();
    let copy = Command::new("cp").arg("-r").arg(&examples).arg(directory.path()).status().unwrap();
    assert!(copy.success());
    let escape = directory.path().join("examples/escape/root");
    for name in ["proc", "sys", "dev", "tmp", "run", "usr"] {
        fs::create_dir_all(escape.join(name)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        let link = escape.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), link).unwrap();
        }
    }
    let entry = |target: &str, source: &str| {
        format!("\n[[mounts]]\ntarget = \"{target}\"\nbind = \"{source}\"\nread-only = true\n")
    };
    let probe = entry("/run/probe", crate::support::probe().to_str().unwrap());
    let usr = entry("/usr", "/usr");
    let host = host_report();
    let mut seen = 0;
    for example in [
        "hello.toml",
        "web.toml",
        "build.toml",
        "limits.toml",
        "escape/chroot.toml",
        "escape/pivot.toml",
    ] {
        let unit = directory.path().join("examples").join(example);
        let mut text = fs::read_to_string(&unit).unwrap() + &probe;
        // What the script needs in the root, which a closure has only when asked.
        let tools =
            "[\"nginx\", \"umount\", \"setsid\", \"setpriv\", \"prlimit\", \"env\", \"timeout\", ";
        text = text.replace("binaries = [\"nginx\", ", &format!("binaries = {tools}"));
        if example.starts_with("escape") {
            text += &usr;
            // What the probe reads; these roots have none of the kernel's files.
            text += "\n[[mounts]]\ntarget = \"/proc\"\nproc = true\n";
        }
        fs::write(&unit, text).unwrap();
        let unit = unit.to_str().unwrap();
        let name = unique("example");
        let name_set = format!("name={name}");
        let command_set = "process.command=[\"/run/probe\",\"report\"]";
        let keys = ["--set", &name_set, "--set", command_set];
        let mut words = vec!["up", unit, "--quiet"];
        words.extend(keys);
        let executed = run(Caller::Root, &words);
        assert_eq!(executed.status, 0, "{example}: {}", executed.stderr);
        let mut explained = vec![unit];
        explained.extend(keys);
        let script = explain(Caller::Root, &explained);
        // Through a pipe, as the manual says.
        let shell = command(Caller::Root, Path::new("sh"), &[] as &[&str]);
        let scripted = finish(fed(shell, &script));
        assert_eq!(scripted.status, 0, "{example}: {scripted:?}\n{script}");
        let mut ours = comparable(&executed.json(), &host);
        let mut theirs = comparable(&scripted.json(), &host);
        // Piped in, the script is standard input.
        for fields in [&mut ours, &mut theirs] {
            fields["fds"].as_object_mut().unwrap().remove("0");
        }
        for (field, value) in &ours {
            let (ours, theirs) = narrow(value, &theirs[field]);
            assert_eq!(ours, theirs, "{example}: {field}");
        }
        assert_eq!(leftovers(&name), Vec::<String>::new());
        seen += 1;
    }
    assert_eq!(seen, 6);
}

/// Whether a jail can be explained without the caller's own binary.
#[test]
fn explaining_changes_nothing() {
    let bench = bench("", "[limits]\nmemory = \"64M\"\n");
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let script = explain(Caller::Root, &[bench.unit.to_str().unwrap(), "--", "/probe"]);
    assert!(script.starts_with("#!/bin/sh\n"));
    assert!(!script.contains(jailrun().to_str().unwrap()));
    bench.assert_nothing_left();
    assert_eq!(fs::read_to_string("/proc/self/mountinfo").unwrap(), before);
}

/// Text of the tables behind `[root]`, and keys of `[root]`.
fn generated() -> impl Strategy<Value = (String, String)> {
    let root = (any::<[bool; 2]>(), 0..4_u8).prop_map(|([read_only, ephemeral], propagation)| {
        let kinds = ["private", "slave", "shared", "private"];
        format!(
            "read-only = {read_only}\nephemeral = {ephemeral}\npropagation = \"{}\"",
            kinds[usize::from(propagation)]
        )
    });
    let namespaces = (any::<[bool; 4]>(), 0..3600_u32).prop_map(|(flags, offset)| {
        let word = |private: bool| if private { "private" } else { "host" };
        let time = if flags[3] {
            format!("time = \"private\"\ntime-offsets = {{ monotonic = \"{offset}s\" }}\n")
        } else {
            String::new()
        };
        format!(
            "[namespaces]\nipc = \"{}\"\nuts = \"{}\"\ncgroup = \"{}\"\n{time}",
            word(flags[0]),
            word(flags[1]),
            word(flags[2])
        )
    });
    let mount = (0..9_u8, 0..6_u8, any::<[bool; 6]>()).prop_map(|(kind, place, flags)| {
        let target = ["/data", "/tmp/a", "/new/place", "/tmp/a/b", "/run/x y", "/new"][usize::from(place)];
        let what = match kind {
            0 => "tmpfs = \"2M\"".to_owned(),
            1 => "tmpfs = \"1M\"\nmode = \"700\"\ninodes = 100\nuser = 12\ngroup = 13".to_owned(),
            2 => "bind = \"{dir}/root/etc\"".to_owned(),
            3 => format!("bind = \"/usr/share\"\nrecursive = {}", flags[5]),
            4 => "proc = true".to_owned(),
            5 => "mqueue = true".to_owned(),
            6 => "overlay = { lower = [\"{dir}/root/etc\", \"/usr/share\"], upper = \"tmpfs\" }".to_owned(),
            7 => "overlay = { lower = [\"{dir}/root/etc\"] }".to_owned(),
            _ => "bind = \"/dev/shm\"".to_owned(),
        };
        format!(
            "[[mounts]]\ntarget = \"{target}\"\n{what}\nread-only = {}\nnosuid = {}\nnodev = {}\nnoexec = {}\nnoatime = {}\n",
            flags[0], flags[1], flags[2], flags[3], flags[4]
        )
    });
    let mounts = proptest::collection::vec(mount, 0..4).prop_map(|list| list.concat());
    let limits = (0..4_u8, 32..128_u32, 1..40_u32).prop_map(|(which, megabytes, pids)| {
        let mut text = format!("[limits]\npids = {pids}0\n");
        if which & 1 != 0 {
            writeln!(text, "memory = \"{megabytes}M\"").unwrap();
        }
        if which & 2 != 0 {
            writeln!(text, "cpu = 0.{megabytes}\ncpu-weight = {megabytes}").unwrap();
        }
        text + &format!("[limits.rlimits]\nnofile = {}\ncore = \"infinity\"\n", 64 + pids)
    });
    let security = (any::<[bool; 3]>(), proptest::sample::subsequence(
        vec!["CAP_CHOWN", "CAP_NET_RAW", "CAP_SYS_CHROOT", "CAP_KILL", "CAP_SETUID"], 0..5,
    ))
        .prop_map(|(flags, capabilities)| {
            let list: Vec<_> = capabilities.iter().map(|name| format!("\"{name}\"")).collect();
            let ambient = if flags[2] { list.join(", ") } else { String::new() };
            format!(
                "[security]\ncapabilities = [{}]\nambient-capabilities = [{ambient}]\nno-new-privileges = {}\nmasked-paths = {}\n",
                list.join(", "),
                flags[0],
                if flags[1] { "[\"@default\"]" } else { "[]" }
            )
        });
    let process = (0..3_u8, 0..0o1000_u32, any::<[bool; 2]>(), "[ -~]{0,12}").prop_map(
        |(user, umask, flags, value)| {
            let user = ["0", "\"alice\"", "4242"][usize::from(user)];
            let value = value.replace(['\\', '"'], "'");
            format!(
                "[process]\nuser = {user}\numask = \"{umask:03o}\"\ninit = {}\ncwd = \"{}\"\nenv = {{ VALUE = \"{value}\" }}\n",
                flags[0],
                if flags[1] { "/" } else { "/etc" }
            )
        },
    );
    let network = any::<bool>()
        .prop_map(|host| format!("[network]\nmode = \"{}\"\n", if host { "host" } else { "none" }));
    (root, namespaces, mounts, limits, security, process, network).prop_map(
        |(root, namespaces, mounts, limits, security, process, network)| {
            (root, [mounts, namespaces, limits, security, process, network].concat())
        },
    )
}

/// Units generated from a fixed seed; `JAILRUN_CASES` sets how many.
#[test]
fn generated_units() {
    let cases = std::env::var("JAILRUN_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    let host = host_report();
    let config =
        Config { cases, max_shrink_iters: 40, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let launched = std::cell::Cell::new(0);
    runner
        .run(&generated(), |(root, text)| {
            let bench = bench(&root, &text);
            let unit = bench.unit.to_str().unwrap();
            let checked = run(Caller::Root, &["check", "--json", unit]);
            // Mounts that exclude each other are refused: both sides agree on that.
            let command_only_missing = checked.json()[0]["diagnostics"]
                .as_array()
                .unwrap()
                .iter()
                .all(|finding| finding["severity"] == "warning" || finding["code"] == "E0104");
            if !command_only_missing {
                return Ok(());
            }
            launched.set(launched.get() + 1);
            match difference(&bench, Caller::Root, &["--", "/probe", "report"], &host) {
                None => {
                    prop_assert_eq!(leftovers(&bench.name), Vec::<String>::new());
                    Ok(())
                }
                Some(difference) => Err(TestCaseError::fail(difference)),
            }
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let launched = launched.get();
    assert!(launched * 2 > cases, "only {launched} of {cases} generated units could be launched");
}

/// Runs both, which must say the same and leave nothing; returns the status and
/// the script.
fn assert_same_words(bench: &Bench, caller: Caller, words: &[&str]) -> (i32, String) {
    let executed = bench.up(caller, words);
    let script = explain(caller, &[&[bench.unit.to_str().unwrap()], words].concat());
    let scripted = run_script(caller, &script, bench.directory.path());
    let said = |run: &Run| (run.status, run.stdout.clone());
    let unit = fs::read_to_string(&bench.unit).unwrap();
    assert_eq!(said(&executed), said(&scripted), "{unit}\n{executed:?}\n{scripted:?}\n{script}");
    bench.assert_nothing_left();
    (executed.status, script)
}

/// A bench whose unit has further keys at its top.
fn bench_with_top(top: &str, text: &str) -> Bench {
    let bench = bench("", text);
    let unit = fs::read_to_string(&bench.unit).unwrap();
    fs::write(&bench.unit, format!("{top}\n{unit}")).unwrap();
    bench
}

#[test]
fn control_characters_come_through_the_script_and_reach_no_terminal() {
    // A TOML string of control characters and what printf(1) takes for its own.
    let odd = r#"-n\u001b[31mred\u001b[0m\\n%s'it\u0001\u007f\u0085 \"ü\t\n$HOME\r\n\n"#;
    let text = format!(
        "[process]\nenv = {{ A = \"{odd}\" }}\n\
         command = [\"/bin/sh\", \"-c\", 'printf \"%s|\" \"$@\" \"$A\"; cat /tmp/file', \"sh\", \"{odd}\", \"\\u0002\\n\"]\n\
         [[mounts]]\ntarget = \"/tmp/file\"\ncontent = \"{odd}\"\n"
    );
    for caller in crate::support::CALLERS {
        let bench = bench("", &text);
        let (_, script) = assert_same_words(&bench, caller, &[]);
        let is_obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!script.contains(is_obeyed), "{script:?}");
        let run = bench.up(caller, &[]);
        assert!(run.stdout.starts_with("-n\u{1b}[31mred\u{1b}[0m\\n%s'it\u{1}\u{7f}"), "{run:?}");
        let run = bench.up(caller, &["--dry-run", "--json"]);
        assert!(!run.stdout.contains(is_obeyed), "{run:?}");
        let steps = run.json()["steps"].to_string();
        assert!(steps.contains(r"\u{1b}"), "{steps}");
    }
}

#[test]
fn a_root_without_a_proc_is_entered_and_has_its_old_root_taken_off() {
    let proc = "[[mounts]]\ntarget = \"/data\"\nproc = true\n";
    let look = "cut -d' ' -f5,6 /data/self/mountinfo; cat /data/self/oom_score_adj; nice";
    let process = "[process]\nnice = 5\noom-score-adjust = 300\n";
    let cases = [
        ("api-filesystems = false", ""),
        ("api-filesystems = [\"/proc\"]\nread-only = true", ""),
        ("api-filesystems = [\"/dev\", \"/tmp\"]\nread-only = true", ""),
        ("api-filesystems = false\nswitch = \"chroot\"", ""),
        ("", "[[mounts]]\ntarget = \"/proc\"\ntmpfs = \"1M\"\n"),
        ("", "[[mounts]]\ntarget = \"/proc\"\nbind = \"{dir}/root/etc\"\n"),
        ("", "[[mounts]]\ntarget = \"/proc\"\noverlay = { lower = [\"{dir}/root/etc\"] }\n"),
        ("", "[security]\nmasked-paths = [\"/proc\"]\nread-only-paths = []\n"),
    ];
    for (root, mounts) in cases {
        for caller in crate::support::CALLERS {
            if caller == Caller::User && root.contains("chroot") {
                continue;
            }
            let bench = bench(root, &format!("{mounts}{proc}{process}"));
            assert_same_words(&bench, caller, &["--", "/bin/sh", "-c", look]);
            assert!(!bench.root.join("dev/null").exists(), "{root}");
        }
    }
}

#[test]
fn a_timeout_ends_the_jail_of_the_script_and_is_its_status() {
    let times = [
        "timeout = \"0s\"",
        "timeout = \"500ms\"",
        "timeout = \"500ms\"\nstop-grace = \"0s\"",
        "timeout = \"500ms\"\nstop-grace = \"200ms\"",
    ];
    for time in times {
        for (keys, caller) in [
            ("", Caller::User),
            ("", Caller::Root),
            // Without a control group that would show what is left.
            ("[limits]\npids = \"infinity\"\n[process]\nuser = \"alice\"\n", Caller::Root),
            ("[limits]\npids = \"infinity\"\n[idmap]\nownership = \"off\"\n", Caller::Root),
            ("[namespaces]\npid = \"host\"\n", Caller::Root),
        ] {
            let bench = bench("", &format!("{keys}[lifecycle]\n{time}\n"));
            // Which waits for SIGKILL where that is not 10 seconds away.
            let deaf = if time.contains("stop-grace") { "trap '' TERM; " } else { "" };
            let line = format!("{deaf}while :; do sleep 0.1; done; : {}", bench.name);
            let (status, _) = assert_same_words(&bench, caller, &["--", "/bin/sh", "-c", &line]);
            assert_eq!(status, 124, "{keys}{time}");
            let is_running = || {
                let processes = fs::read_dir("/proc").unwrap().flatten();
                let mut lines = processes.map(|process| fs::read(process.path().join("cmdline")));
                lines.any(|text| {
                    text.is_ok_and(|text| String::from_utf8_lossy(&text).contains(&*line))
                })
            };
            eventually("the command has ended", || !is_running());
        }
    }
    let bench = bench("", "[lifecycle]\ntimeout = \"1h\"\n");
    assert_same_words(&bench, Caller::Root, &["--", "/bin/sh", "-c", "exit 3"]);
}

#[test]
fn names_that_look_like_options_are_names() {
    let look = "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname; readlink /tmp/link";
    let words = ["--", "/bin/sh", "-c", look];
    let link = "[[mounts]]\ntarget = \"/tmp/link\"\nsymlink = \"-n\"\n";
    for name in ["-n", "-", ".a.", "a..b", "a.b"] {
        let top = format!("hostname = \"{name}\"\ndomainname = \"{name}\"");
        assert_same_words(&bench_with_top(&top, link), Caller::Root, &words);
    }
    let sysctl = "[security]\nsysctl = { kernel.domainname = \"-n\" }\n";
    assert_same_words(&bench("", sysctl), Caller::Root, &words[..3]);
    // In a user namespace nothing but the call sets them.
    for name in ["-n", "example.org"] {
        let top = format!("domainname = \"{name}\"");
        assert_same_words(&bench_with_top(&top, ""), Caller::User, &words);
    }
    let bench = bench_with_top("hostname = \"-n\"", "");
    let script = explain(Caller::User, &[bench.unit.to_str().unwrap(), "--", "/bin/true"]);
    let scripted = run_script(Caller::User, &script, bench.directory.path());
    assert_eq!(scripted.status, 125, "{scripted:?}");
    assert!(scripted.stderr.contains("sethostname(-n)"), "{scripted:?}");
    assert!(script.contains("the script ends with 125"), "{script}");
    bench.assert_nothing_left();
}

#[test]
fn clocks_that_unshare_rounds_are_said_to_be() {
    for (offsets, rounded) in [
        ("monotonic = \"500ms\", boottime = \"-1500ms\"", true),
        ("monotonic = \"5s\", boottime = \"-2s\"", false),
    ] {
        let text = format!("[namespaces]\ntime = \"private\"\ntime-offsets = {{ {offsets} }}\n");
        let bench = bench("", &text);
        let script = explain(Caller::Root, &[bench.unit.to_str().unwrap(), "--", "/bin/true"]);
        assert_eq!(script.contains("whole seconds only"), rounded, "{script}");
    }
}

/// The loop devices of an image, if there are any left.
fn loop_devices(image: &Path) -> String {
    let output = Command::new("losetup").arg("-j").arg(image).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn packed_roots_whose_ids_a_script_can_not_map_stop_it_and_leave_no_device() {
    let bench = bench("", "");
    let directory = bench.directory.path();
    let pack = "tar -C root -cf root.tar .; mksquashfs root root.squashfs -quiet -noappend >/dev/null; chown -R 0:0 .";
    let packed = Command::new("sh").args(["-ec", pack]).current_dir(directory).status().unwrap();
    assert!(packed.success());
    let text = fs::read_to_string(&bench.unit).unwrap();
    let path = format!("path = \"{}\"", bench.root.display());
    let idmap = |ownership: &str| format!("[idmap]\nownership = \"{ownership}\"\n");
    for (root, idmap, stops) in [
        (&*path, idmap("map"), true),
        ("tar = \"root.tar\"", idmap("map"), true),
        ("image = \"root.squashfs\"", idmap("map"), true),
        ("image = \"root.squashfs\"", idmap("off"), true),
        ("image = \"root.squashfs\"", String::new(), false),
    ] {
        fs::write(&bench.unit, text.replace(&path, root) + &idmap).unwrap();
        let words = ["--", "/bin/sh", "-c", "exit 3"];
        assert_eq!(bench.up(Caller::Root, &words).status, 3, "{root} {idmap}");
        let script = explain(Caller::Root, &[&[bench.unit.to_str().unwrap()], &words[..]].concat());
        let scripted = run_script(Caller::Root, &script, directory);
        assert_eq!(scripted.status, if stops { 125 } else { 3 }, "{root} {idmap}: {scripted:?}");
        assert_eq!(scripted.stderr.contains("no command of util-linux"), stops, "{scripted:?}");
        assert_eq!(script.contains("the script ends with 125"), stops, "{script}");
        let image = directory.join("root.squashfs");
        eventually("the loop device is gone", || loop_devices(&image).is_empty());
        bench.assert_nothing_left();
    }
    // More of them than a shell has descriptors.
    let many: String = (0..8)
        .map(|n| format!("[[mounts]]\ntarget = \"/tmp/{n}\"\nimage = \"root.squashfs\"\n"))
        .collect();
    fs::write(&bench.unit, text.replace(&path, "image = \"root.squashfs\"") + &many).unwrap();
    assert_same_words(&bench, Caller::Root, &["--", "/bin/sh", "-c", "cat /tmp/7/etc/group"]);
    eventually("the loop devices are gone", || {
        loop_devices(&directory.join("root.squashfs")).is_empty()
    });
    let archive = directory.join("root.tar");
    assert_eq!(run(Caller::Root, &["image", "rm", archive.to_str().unwrap()]).status, 0);
    assert_eq!(run(Caller::Root, &["image", "gc"]).status, 0);
}

/// As mount(8) gets to the topmost only, the script says so.
#[test]
fn flags_of_a_tree_are_said_to_miss_what_is_covered() {
    let bench = bench("", "");
    let script = explain(Caller::Root, &[bench.unit.to_str().unwrap(), "--", "/bin/true"]);
    let (before, _) = script.split_once("\neach_mount() {").unwrap();
    assert!(before.ends_with("lie under another on the same path"), "{script}");
}

#[test]
fn a_script_leaves_the_journal_of_a_running_jail_and_gc_takes_back_its_own() {
    let bench = bench("", "[limits]\npids = 50\n");
    let unit = bench.unit.to_str().unwrap();
    let script = explain(Caller::Root, &[unit, "--", "/bin/sleep", "1000"]);
    let file = bench.directory.path().join("script.sh");
    fs::write(&file, &script).unwrap();
    let journal = Path::new("/run/jailrun").join(format!("{}.json", bench.name));
    let start = |program: &Path, words: &[&str]| {
        let child = command(Caller::Root, program, words).spawn().unwrap();
        let pid = child.id();
        let is_up = || {
            let name = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm"));
            let is_sleep = |pid: &u32| name(pid).is_ok_and(|name| name == "sleep\n");
            descendants(pid).iter().any(is_sleep)
        };
        eventually("the jail is up", is_up);
        child
    };
    let as_script = start(Path::new("sh"), &[file.to_str().unwrap()]);
    let by_jailrun = |script: std::process::Child| {
        // All of it at once, as a machine that has no memory left does.
        let all = [descendants(script.id()), vec![script.id()]].concat();
        for pid in all {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            // Process 1 of the jail takes the others along.
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).ok();
        }
        assert_eq!(finish(script).status, 137);
        eventually("gc has taken it back", || {
            run(Caller::Root, &["gc"]);
            leftovers(&bench.name).is_empty()
        });
        start(jailrun(), &["up", "--quiet", unit, "--", "/bin/sleep", "1000"])
    };
    let in_the_way = |jail: &std::process::Child| {
        let before = fs::read_to_string(&journal).unwrap();
        let second = run_script(Caller::Root, &script, bench.directory.path());
        assert_eq!(second.status, 125, "{second:?}");
        assert_eq!(second.stderr, format!("a jail named `{}` is running\n", bench.name));
        assert_eq!(fs::read_to_string(&journal).unwrap(), before, "of {}", jail.id());
        assert!(before.contains("RemoveCgroup") || before.contains("cgroup"), "{before}");
    };
    in_the_way(&as_script);
    let launched = by_jailrun(as_script);
    in_the_way(&launched);
    signal(&launched, nix::sys::signal::Signal::SIGTERM);
    finish(launched);
    bench.assert_nothing_left();
}
