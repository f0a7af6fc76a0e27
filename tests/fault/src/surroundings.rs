//! Hostile surroundings: a launch works in them or ends with one clear error,
//! and leaves nothing.

use std::fs;
use std::io;
use std::path::Path;

use crate::sys;
use crate::trace::{Deed, Outcome, Start, launch};
use crate::units::UNITS;
use crate::world::World;

/// What is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It works.
    Works,
    /// It fails, and says a word of these.
    Fails(&'static str),
    /// One or the other.
    Either(&'static str),
}

/// One kind of surroundings: what is done just before the execve of jailrun.
struct Surroundings {
    name: &'static str,
    prepare: fn() -> io::Result<()>,
    end: End,
}

const ALL: &[Surroundings] = &[
    Surroundings {
        name: "no standard streams",
        prepare: || (0..3).try_for_each(|fd| sys::place(None, fd)),
        end: End::Works,
    },
    Surroundings {
        name: "SIGCHLD ignored",
        prepare: || {
            sys::ignore(libc::SIGCHLD);
            Ok(())
        },
        end: End::Works,
    },
    Surroundings {
        name: "every signal blocked",
        prepare: || {
            sys::block_all();
            Ok(())
        },
        end: End::Works,
    },
    Surroundings {
        name: "every signal ignored",
        prepare: || {
            (1..=64).for_each(sys::ignore);
            Ok(())
        },
        end: End::Works,
    },
    Surroundings {
        name: "no /proc",
        prepare: || {
            sys::unshare(libc::CLONE_NEWNS)?;
            sys::mount(Path::new("none"), Path::new("/proc"), "tmpfs", 0, "")
        },
        end: End::Fails("/proc"),
    },
    Surroundings {
        name: "read-only /run",
        prepare: || {
            sys::unshare(libc::CLONE_NEWNS)?;
            let flags = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
            sys::mount(Path::new("none"), Path::new("/run"), "", flags, "")
        },
        end: End::Fails("read-only"),
    },
    Surroundings {
        name: "a full disk for the state",
        prepare: || {
            sys::unshare(libc::CLONE_NEWNS)?;
            let run = Path::new("/run");
            sys::mount(Path::new("none"), run, "tmpfs", 0, "size=4k,nr_inodes=10")?;
            fs::create_dir("/run/jailrun")?;
            fs::write("/run/full", [0_u8; 4096])?;
            #[allow(clippy::permissions_set_readonly_false)]
            fs::set_permissions("/run/jailrun", std::os::unix::fs::PermissionsExt::from_mode(0o700))
        },
        end: End::Fails("is full"),
    },
    Surroundings {
        name: "no inode for the state",
        prepare: || {
            sys::unshare(libc::CLONE_NEWNS)?;
            sys::mount(Path::new("none"), Path::new("/run"), "tmpfs", 0, "nr_inodes=1")
        },
        end: End::Fails("is full"),
    },
    Surroundings {
        name: "few descriptors",
        prepare: || sys::limit(libc::RLIMIT_NOFILE, 6),
        end: End::Either("too many open files"),
    },
    Surroundings {
        name: "next to no descriptors",
        prepare: || sys::limit(libc::RLIMIT_NOFILE, 4),
        end: End::Fails("too many open files"),
    },
    Surroundings {
        name: "no file may have content",
        prepare: || sys::limit(libc::RLIMIT_FSIZE, 0),
        // Nor may what it says.
        end: End::Fails(""),
    },
    Surroundings {
        name: "little memory",
        prepare: || sys::limit(libc::RLIMIT_AS, 24 << 20),
        end: End::Either("memory"),
    },
    Surroundings { name: "one CPU", prepare: || sys::one_cpu(0), end: End::Works },
    Surroundings {
        name: "umask 777",
        prepare: || {
            sys::umask(0o777);
            Ok(())
        },
        end: End::Works,
    },
];

/// Tries all of them, as root and as an ordinary user; returns what was found.
pub(crate) fn all(world: &World) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for unit in UNITS.iter().filter(|unit| ["plain", "user"].contains(&unit.name)) {
        let start = crate::sweep::start(world, unit);
        launch(&start, Deed::None)?;
        let before = world.ledger();
        for around in ALL {
            // Its own way to be an ordinary user needs no mount.
            if unit.user && around.name.contains("state") {
                continue;
            }
            let start = Start { prepare: Some(around.prepare), ..start.clone() };
            let outcome = launch(&start, Deed::None)?;
            let mut end = around.end;
            // Its state is elsewhere.
            if unit.user && around.name == "read-only /run" {
                end = End::Works;
            }
            let mut lines = judge(end, &outcome);
            lines.extend(world.differences(&before));
            let next = launch(&crate::sweep::start(world, unit), Deed::None)?;
            if next.status != 0 {
                lines.push(format!("the next launch ends with {}: {}", next.status, next.stderr));
            }
            if !lines.is_empty() {
                let (unit, around) = (unit.name, around.name);
                found.push(format!("{unit}, {around}:\n    {}", lines.join("\n    ")));
            }
        }
    }
    // What a user has everywhere counts: this one has nothing else. Root's do not.
    let only_one = || sys::limit(libc::RLIMIT_NPROC, 1);
    let start = crate::sweep::start(world, &UNITS[0]);
    let start = Start { prepare: Some(only_one), user: Some(54_321), ..start };
    let before = world.ledger();
    let outcome = launch(&start, Deed::None)?;
    let mut lines = judge(End::Fails("limit on processes"), &outcome);
    lines.extend(world.differences(&before));
    found.extend(lines.into_iter().map(|line| format!("no processes: {line}")));
    found.extend(inside_another(world)?);
    Ok(found)
}

fn judge(end: End, outcome: &Outcome) -> Vec<String> {
    let Outcome { status, stderr, .. } = outcome;
    let clear = |word: &str| {
        let is_told = stderr.to_lowercase().contains(word);
        *status == 125 && is_told && !stderr.contains("panicked")
    };
    let is_right = match end {
        End::Works => *status == 0,
        End::Fails(word) => clear(word),
        End::Either(word) => *status == 0 || clear(word),
    };
    match is_right && !outcome.hung {
        true => Vec::new(),
        false => vec![format!("expected {end:?}, ended with {status}: {stderr}")],
    }
}

/// Inside another jail, and inside a sandbox of bubblewrap: with what those
/// allow it works, otherwise the error says what is in the way.
fn inside_another(world: &World) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let outer = world.scratch.join("outer.toml");
    let text = r#"
name = "outer"
root.host = true
network.mode = "host"
security.capabilities = "all"
security.seccomp = "off"
mounts = [{ target = "/mnt", bind = "/mnt" }]
process.command = ["/mnt/jailrun", "up", "--quiet", "/mnt/plain.toml", "--set", "limits.on-missing=skip"]
"#;
    fs::write(&outer, text)?;
    let plain = Start { from: String::new(), ..crate::sweep::start(world, &UNITS[0]) };
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let program = world.jailrun.to_string_lossy().into_owned();
    let before = world.ledger();
    let cases: &[(&str, Vec<String>, End)] = &[
        (
            "inside a jail with every capability",
            words(&[&program, "up", "--quiet", "/mnt/outer.toml"]),
            End::Works,
        ),
        (
            "inside a jail without capabilities",
            words(&[
                &program,
                "up",
                "--quiet",
                "/mnt/outer.toml",
                "--set",
                "security.capabilities=none",
                "--set",
                "security.seccomp=default",
            ]),
            End::Fails("step"),
        ),
        (
            "inside bubblewrap",
            words(&[
                "/usr/bin/bwrap",
                "--bind",
                "/",
                "/",
                "--dev",
                "/dev",
                "--proc",
                "/proc",
                "--tmpfs",
                "/run",
                &program,
                "up",
                "--quiet",
                "/mnt/plain.toml",
                "--set",
                "limits.on-missing=skip",
            ]),
            End::Either("step"),
        ),
    ];
    for (name, words, end) in cases {
        let outcome = launch(&Start { words: words.clone(), ..plain.clone() }, Deed::None)?;
        let mut lines = judge(*end, &outcome);
        lines.extend(world.differences(&before));
        found.extend(lines.into_iter().map(|line| format!("{name}: {line}")));
    }
    Ok(found)
}
