//! B: a hostile root while the launcher is still privileged.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Ground, Sheet, Test, both, said, shell};
use crate::support::{CALLERS, Caller, Run, answer, in_terminal, jailrun};

pub const TESTS: &[Test] = &[
    ("B1", swapped_mount_points),
    ("B2", linked_mount_points),
    ("B3", linked_null_as_mask),
    ("B4", linked_console),
    ("B5", mounts_over_proc),
    ("B6", mount_points_through_links),
    ("B7", linked_dev),
    ("B8", linked_null_as_stream),
    ("B9", links_through_the_old_root),
    ("B10", read_only_below),
    ("B11", passwd_files),
];

/// What a launcher that trusts paths does as root.
fn naive(script: &str) -> Run {
    shell(Caller::Root, script)
}

fn swapped_mount_points(sheet: &mut Sheet) {
    let ground = Ground::new("[[mounts]]\ntarget = \"/data/point\"\ntmpfs = \"1M\"\n");
    let data = ground.bench.root.join("data");
    let victim = ground.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::create_dir(data.join("point")).unwrap();
    symlink(&victim, data.join("link")).unwrap();
    // What goes wrong when a string is used twice: checked, then swapped.
    let point = data.join("point");
    let naive = naive(&format!(
        "test -d {0} && ! test -L {0} && mv -T --exchange {0} {1} 2>/dev/null || {{ mv {0} {2}; mv {1} {0}; }}; mount -t tmpfs -o mode=755 canary {0} && grep -c ' {3} ' /proc/self/mountinfo; mv {0} {1}; mv {2} {0}",
        point.display(),
        data.join("link").display(),
        data.join("aside").display(),
        victim.display(),
    ));
    assert_eq!(naive.stdout.trim(), "1", "the control: {naive:?}");
    let directory = fs::File::open(&data).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (started, refused) = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::sync::atomic::Ordering;
            while !stop.load(Ordering::Relaxed) {
                nix::fcntl::renameat2(
                    &directory,
                    "point",
                    &directory,
                    "link",
                    nix::fcntl::RenameFlags::RENAME_EXCHANGE,
                )
                .unwrap();
            }
        });
        let mut counts = (0, 0);
        for round in 0..60 {
            let caller = CALLERS[round % 2];
            let run = ground.jail(caller, &["write", "/data/point/file", "x"]);
            match run.status {
                0 => counts.0 += 1,
                125 => counts.1 += 1,
                _ => panic!("{run:?}"),
            }
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        counts
    });
    assert_eq!(started + refused, 60);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "something was written to the host");
    let attack = "the mount point is exchanged with a link, all the time (CVE-2021-30465)";
    let control = "mount(8) with a checked path mounts on the host's directory";
    sheet.row("B1", attack, control, "mounted on the directory, or refused");
}

fn linked_mount_points(sheet: &mut Sheet) {
    for name in ["proc", "sys", "dev", "tmp", "run"] {
        let ground = Ground::new("");
        let victim = ground.path().join("victim");
        fs::create_dir(&victim).unwrap();
        let at = ground.bench.root.join(name);
        fs::remove_dir(&at).unwrap();
        symlink(&victim, &at).unwrap();
        let naive = naive(&format!(
            "mount -t tmpfs canary {} && grep -c ' {} ' /proc/self/mountinfo",
            at.display(),
            victim.display()
        ));
        assert_eq!(naive.stdout.trim(), "1", "the control: {naive:?}");
        assert_eq!(ground.both(&["true"]), "refused, E0311", "{name}");
    }
    // devpts lies in a /dev of jailrun's own: the root's is never looked at.
    let ground = Ground::new("");
    symlink("/tmp", ground.bench.root.join("dev/pts")).unwrap();
    for caller in CALLERS {
        let mounts = ground.jail(caller, &["report"]).json()["mounts"].to_string();
        assert!(mounts.contains("\"/dev/pts\""), "{mounts}");
    }
    let attack = "/proc, /sys, /dev, /tmp or /run of the root is a link to the host";
    let control = "mount(8) mounts on the host's directory";
    sheet.row("B2", attack, control, "refused, E0311");
}

fn linked_null_as_mask(sheet: &mut Sheet) {
    let ground = Ground::with_root(
        "api-filesystems = [\"/proc\"]",
        "[security]\nmasked-paths = [\"@default\", \"/etc/hide\"]\n",
    );
    fs::write(ground.bench.root.join("etc/hide"), "secret").unwrap();
    fs::write(ground.bench.root.join("etc/shown"), "of the attacker's choice").unwrap();
    let null = ground.bench.root.join("dev/null");
    symlink("/etc/shown", &null).unwrap();
    let naive = naive(&format!(
        "chroot {0} /probe true && mount --bind {0}/dev/../etc/shown {0}/etc/hide && cat {0}/etc/hide",
        ground.bench.root.display()
    ));
    assert_eq!(naive.stdout, "of the attacker's choice", "the control: {naive:?}");
    for caller in CALLERS {
        let run = ground.jail(caller, &["read", "/etc/hide"]);
        assert_eq!((run.status, &*run.stdout), (0, ""), "{run:?}");
        let node = ground.jail(caller, &["stat", "/etc/hide"]).json();
        assert_eq!(node["file"]["device"], "1:3", "{node}");
    }
    let attack = "/dev/null of the root is a link, used as a mask (CVE-2025-31133)";
    let control = "a bind of the root's own /dev/null shows what it points to";
    sheet.row("B3", attack, control, "masked with the device 1:3");
}

fn linked_console(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let victim = ground.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, ground.bench.root.join("dev/console")).unwrap();
    fs::create_dir(ground.bench.root.join("dev/pts")).unwrap();
    symlink(&victim, ground.bench.root.join("dev/pts/0")).unwrap();
    fs::write(ground.bench.root.join("dev/ptmx"), "").unwrap();
    let naive = naive(&format!(
        "touch {0}/dev/console && mount --bind /dev/null {0}/dev/console && stat -c %t:%T {1}",
        ground.bench.root.display(),
        victim.display()
    ));
    assert_eq!(naive.stdout.trim(), "1:3", "the control: {naive:?}");
    let unit = ground.bench.unit.display();
    let line =
        format!("{} up --quiet {unit} --set process.tty=true -- /probe tty", jailrun().display());
    for caller in CALLERS {
        let tty = answer(&in_terminal(caller, &line, "")).json();
        assert_eq!(tty["ttyname"], "/dev/pts/0", "{caller:?} {tty}");
        assert_eq!(tty["isatty"], serde_json::json!([true, true, true]));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    let attack = "/dev/console and /dev/pts/0 of the root are links (CVE-2025-52565)";
    let control = "mount(8) binds over the host's file";
    sheet.row("B4", attack, control, "a terminal of the jail's own devpts");
}

fn mounts_over_proc(sheet: &mut Sheet) {
    // Files that a launcher writes are exactly where the jail's own mounts
    // could redirect them.
    let ground = Ground::new("");
    let bait = ground.path().join("source");
    let text = fs::read_to_string(&ground.bench.unit).unwrap();
    let mounts = format!(
        "[[mounts]]\ntarget = \"/proc/sys/net\"\nbind = \"{0}\"\n[[mounts]]\ntarget = \"/proc/self\"\nbind = \"{0}\"\noptional = true\n[process]\noom-score-adjust = 500\n",
        bait.display()
    );
    fs::write(&ground.bench.unit, text + &mounts).unwrap();
    let bare = ground.path().join("source/oom_score_adj");
    fs::write(&bare, "bait").unwrap();
    for caller in CALLERS {
        let run = ground.jail(caller, &["report"]);
        if run.status == 0 {
            let report = run.json();
            assert_ne!(report["oom_score_adj"], 0, "{report}");
        } else {
            assert_eq!(run.status, 125, "{run:?}");
        }
    }
    assert_eq!(fs::read_to_string(&bare).unwrap(), "bait", "the write was redirected");
    let naive = naive(&format!(
        "mount -t proc proc {0}/proc && mount --bind {1} {0}/proc/$$ && echo 500 > {0}/proc/$$/oom_score_adj; cat {1}/oom_score_adj; echo bait | tr -d '\\n' > {1}/oom_score_adj",
        ground.bench.root.display(),
        bait.display()
    ));
    assert!(naive.stdout.contains("500"), "the control: {naive:?}");
    let attack = "mounts over files of /proc that the launcher writes (CVE-2025-52881)";
    let control = "a write by path lands in the attacker's file";
    sheet.row("B5", attack, control, "refused, or written to the process itself");
}

fn mount_points_through_links(sheet: &mut Sheet) {
    let ground = Ground::new("[[mounts]]\ntarget = \"/link/new/point\"\ntmpfs = \"1M\"\n");
    let victim = ground.path().join("victim");
    fs::create_dir(&victim).unwrap();
    symlink(&victim, ground.bench.root.join("link")).unwrap();
    let naive = naive(&format!(
        "mkdir -p {}/link/naive && ls {}",
        ground.bench.root.display(),
        victim.display()
    ));
    assert_eq!(naive.stdout.trim(), "naive", "the control: {naive:?}");
    fs::remove_dir(victim.join("naive")).unwrap();
    for caller in CALLERS {
        let run = ground.jail(caller, &["true"]);
        assert!([0, 125].contains(&run.status), "{run:?}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 0, "{caller:?}: made on the host");
    }
    let attack = "a mount point is made through a link to the host (CVE-2024-45310)";
    let control = "mkdir -p makes it on the host";
    sheet.row("B6", attack, control, "made in the root, or refused");
}

fn linked_dev(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let victim = ground.path().join("victim");
    fs::create_dir(&victim).unwrap();
    fs::remove_dir(ground.bench.root.join("dev")).unwrap();
    symlink(&victim, ground.bench.root.join("dev")).unwrap();
    let naive = naive(&format!(
        "ln -s /proc/self/fd {}/dev/fd && ls {}",
        ground.bench.root.display(),
        victim.display()
    ));
    assert_eq!(naive.stdout.trim(), "fd", "the control: {naive:?}");
    fs::remove_file(victim.join("fd")).unwrap();
    assert_eq!(ground.both(&["true"]), "refused, E0311");
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
    let attack = "/dev of the root is a link to the host (CVE-2026-47766, CVE-2026-41579)";
    sheet.row("B7", attack, "ln -s makes the nodes on the host", "refused, E0311");
}

fn linked_null_as_stream(sheet: &mut Sheet) {
    let ground = Ground::with_root(
        "api-filesystems = [\"/proc\"]",
        "[process]\nstdin = \"null\"\nstdout = \"null\"\nstderr = \"null\"\n",
    );
    let victim = ground.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    symlink(&victim, ground.bench.root.join("dev/null")).unwrap();
    for caller in CALLERS {
        let run = ground.jail(caller, &["report"]);
        assert_eq!((run.status, &*run.stdout), (0, ""), "{run:?}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    }
    let naive = naive(&format!(
        "echo gone > {}/dev/null; cat {}",
        ground.bench.root.display(),
        victim.display()
    ));
    assert_eq!(naive.stdout.trim(), "gone", "the control: {naive:?}");
    let attack = "/dev/null of the root is a link to a file, used for output (CVE-2026-88265)";
    sheet.row(
        "B8",
        attack,
        "a shell overwrites the host's file",
        "the host's own /dev/null is used",
    );
}

fn links_through_the_old_root(sheet: &mut Sheet) {
    let ground = Ground::new("");
    let victim = ground.path().join("source");
    // While a launcher sets up, the old root is around: links could use it.
    let up = "../".repeat(12);
    for (name, to) in [
        ("absolute", victim.display().to_string()),
        ("relative", format!("{up}{}", victim.display())),
        ("magic", format!("/proc/self/root{}", victim.display())),
        ("self", format!("/proc/self/cwd{}", victim.display())),
    ] {
        symlink(&to, ground.bench.root.join(name)).unwrap();
        let target = format!("/{name}/point");
        let mounts = format!("mounts=[{{ target = \"{target}\", tmpfs = \"1M\" }}]");
        for caller in CALLERS {
            let run = ground.with(caller, &[&mounts], &["true"]);
            assert!([0, 125].contains(&run.status), "{name} {run:?}");
            let left: Vec<_> =
                fs::read_dir(&victim).unwrap().map(|e| e.unwrap().file_name()).collect();
            assert_eq!(left, ["marker"], "{name} {caller:?}");
        }
    }
    let naive = naive(&format!(
        "mkdir {0}/relative/naive && ls {1}; rmdir {1}/naive",
        ground.bench.root.display(),
        victim.display()
    ));
    assert!(naive.stdout.contains("naive"), "the control: {naive:?}");
    let attack = "links through the old root during set-up (CVE-2026-87766)";
    sheet.row(
        "B9",
        attack,
        "mkdir by path follows them to the host",
        "followed inside the root, or refused",
    );
}

fn read_only_below(sheet: &mut Sheet) {
    let ground =
        Ground::new("[[mounts]]\ntarget = \"/data\"\nbind = \"{dir}/tree\"\nread-only = true\n");
    let tree = ground.path().join("tree");
    fs::create_dir_all(tree.join("inner")).unwrap();
    let unit = ground.bench.unit.display().to_string();
    let root = ground.bench.root.display().to_string();
    let tree = tree.display().to_string();
    let prepare =
        format!("mount -t tmpfs -o nosuid,nodev t {tree}/inner && chmod 1777 {tree}/inner");
    let plain = naive(&format!(
        "{prepare} && mount --rbind {tree} {root}/data && mount -o remount,bind,ro {root}/data && exec chroot {root} /probe write /data/inner/file x"
    ));
    assert_eq!(said(&plain), "succeeds", "the control: {plain:?}");
    let mut found = Vec::new();
    for caller in CALLERS {
        let start = match caller {
            Caller::Root => format!("exec {} up --quiet {unit}", jailrun().display()),
            Caller::User => format!(
                "exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all {} up --quiet {unit}",
                jailrun().display()
            ),
        };
        let run = naive(&format!("{prepare} && {start} -- /probe write /data/inner/file x"));
        found.push(said(&run));
        let flags = naive(&format!("{prepare} && {start} -- /probe report"));
        let mounts = flags.json()["mounts"].clone();
        let inner = mounts
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["target"] == "/data/inner")
            .unwrap()
            .clone();
        for flag in ["ro", "nosuid", "nodev"] {
            assert!(inner["options"].to_string().contains(&format!("\"{flag}\"")), "{inner}");
        }
    }
    let stopped = both(&found[0], &found[1]);
    assert_eq!(stopped, "EROFS");
    let attack = "a write to a mount below a read-only bind, which is nodev and nosuid";
    sheet.row("B10", attack, "succeeds below `mount -o remount,bind,ro`", stopped);
}

fn passwd_files(sheet: &mut Sheet) {
    for replace in ["fifo", "link", "large", "directory"] {
        let ground = Ground::new("[process]\nuser = \"canary\"\n");
        let passwd = ground.bench.root.join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        match replace {
            "fifo" => nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).unwrap(),
            "link" => {
                let host = ground.path().join("passwd");
                fs::write(&host, "canary:x:0:0::/:/bin/sh\n").unwrap();
                symlink(format!("{}{}", "../".repeat(12), host.display()), &passwd).unwrap();
                let seen = naive(&format!("grep -c canary {}", passwd.display()));
                assert_eq!(seen.stdout.trim(), "1", "the control: {seen:?}");
            }
            "directory" => fs::create_dir(&passwd).unwrap(),
            _ => fs::File::create(&passwd).unwrap().set_len(1 << 30).unwrap(),
        }
        assert_eq!(ground.both(&["true"]), "refused, E0303", "{replace}");
    }
    let attack = "/etc/passwd of the root is a FIFO, a link to the host's, 1 GiB";
    sheet.row("B11", attack, "grep follows the link and finds the name", "refused, E0303");
}
