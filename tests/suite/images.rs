//! `jailrun image` from outside: images that real tools have made, images that
//! lie, and stores that are used by several at once, killed or full.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use jailrun::image::digest::Digest;
use jailrun::image::layer::Owners;
use jailrun::image::oci::{self, Key};
use jailrun::image::source::{Platform, Source};
use jailrun::image::store::{Store, StoreError};
use serde_json::{Value, json};

use crate::support::{self, CALLERS, Caller, Run, USER, require_root};

const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";

/// A directory for images, and in it one where the caller's store is.
struct Bench {
    caller: Caller,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new(caller: Caller) -> Self {
        require_root();
        let directory = support::scratch();
        let data = directory.path().join("data");
        fs::create_dir(&data).unwrap();
        fs::set_permissions(&data, fs::Permissions::from_mode(0o755)).unwrap();
        if caller == Caller::User {
            std::os::unix::fs::chown(&data, Some(USER), Some(USER)).unwrap();
        }
        Self { caller, directory }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The store, seen from here.
    fn store(&self) -> PathBuf {
        self.join("data/jailrun")
    }

    /// `jailrun image …`. Root's store is where it always is, in a mount
    /// namespace in which the test's directory is there.
    fn command(&self, words: &[&str]) -> Command {
        let words: Vec<&str> = [&["image"], words].concat();
        let mut command = match self.caller {
            Caller::Root => {
                let script = "mount --bind \"$0\" /var/lib && exec \"$@\"";
                let data = self.join("data");
                let jailrun = support::jailrun();
                let before = ["--mount", "sh", "-c", script];
                let mut all: Vec<&str> = before.to_vec();
                all.extend([data.to_str().unwrap(), jailrun.to_str().unwrap()]);
                all.extend(words);
                support::command(Caller::Root, Path::new("unshare"), &all)
            }
            Caller::User => {
                let mut command = support::command(Caller::User, support::jailrun(), &words);
                command.env("XDG_DATA_HOME", self.join("data"));
                command
            }
        };
        command.current_dir(self.path());
        command
    }

    fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).spawn().unwrap()
    }

    fn image(&self, words: &[&str]) -> Run {
        support::finish(self.spawn(words))
    }

    /// The same where it must work.
    fn done(&self, words: &[&str]) -> Run {
        let run = self.image(words);
        assert_eq!(run.status, 0, "{words:?}: {run:?}");
        run
    }

    fn list(&self) -> Vec<Value> {
        self.done(&["ls", "--json"]).json().as_array().unwrap().clone()
    }

    /// Names in a part of the store.
    fn names(&self, part: &str) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.store().join(part)) else { return BTreeSet::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Fails unless the store holds nothing, whole or half.
    fn assert_empty(&self) {
        for part in ["layers", "images", "sources", "tmp"] {
            assert_eq!(self.names(part), BTreeSet::new(), "{part}");
        }
    }

    /// What is mounted of the store's only image, the top-most first.
    fn stack(&self) -> Vec<PathBuf> {
        let images = self.names("images");
        let [image] = &images.iter().collect::<Vec<_>>()[..] else { panic!("{images:?}") };
        let text = fs::read(self.store().join("images").join(image)).unwrap();
        let record: Value = serde_json::from_slice(&text).unwrap();
        let keys = record["stack"].as_array().unwrap();
        keys.iter()
            .map(|key| self.store().join("layers").join(key.as_str().unwrap()).join("tree"))
            .collect()
    }

    /// The tree of the only image, mounted as a launch does.
    fn merged(&self) -> Vec<String> {
        // The kernel takes no stack of one.
        fs::create_dir_all(self.join("bottom")).unwrap();
        let stack: Vec<String> = self
            .stack()
            .into_iter()
            .chain([self.join("bottom")])
            .map(|path| path.display().to_string())
            .collect();
        let (unshare, option) = match self.caller {
            Caller::Root => (&["--mount"][..], ""),
            Caller::User => (&["--user", "--map-root-user", "--mount"][..], ",userxattr"),
        };
        let script = format!(
            "mount -t tmpfs tmpfs /mnt && mkdir /mnt/m && \
             mount -t overlay overlay -o lowerdir={}{option} /mnt/m && cd /mnt/m && {LISTING}",
            stack.join(":")
        );
        let words = [unshare, &["sh", "-c", &script]].concat();
        let command = support::command(self.caller, Path::new("unshare"), &words);
        listing(command)
    }
}

/// Prints what a tree is. The size of a directory, and how many names it has,
/// are the file system's affair; overlayfs counts an origin of its own.
const LISTING: &str = r"{ find . -mindepth 1 -type d -printf 'd %m %U %G %T@ %P\n'
find . -mindepth 1 -not -type d -printf '%y %m %U %G %T@ %s %n %P -> %l\n'
find . -type f -exec sha256sum {} +
find . \( -type b -o -type c \) -exec stat -c '%n %t:%T' {} +
getfattr -R -h -d -m '^(user\.[^o]|security\.capability)' . 2>/dev/null; } | sort";

fn listing(mut command: Command) -> Vec<String> {
    let output = command.env("LC_ALL", "C").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.is_empty(), "{output:?}");
    text.lines().map(str::to_owned).collect()
}

fn tree(path: &Path) -> Vec<String> {
    let mut command = support::command(Caller::Root, Path::new("sh"), &["-c", LISTING]);
    command.current_dir(path);
    listing(command)
}

/// Runs a shell script that must work, in a directory.
fn shell(directory: &Path, script: &str) {
    let mut command = support::command(Caller::Root, Path::new("sh"), &["-euc", script]);
    let run = support::finish(command.current_dir(directory).spawn().unwrap());
    assert_eq!(run.status, 0, "{script}: {run:?}");
}

/// An image of four layers that umoci makes, with all kinds of files, deleted
/// ones, replaced ones and an opaque directory; unpacked by umoci too.
const UMOCI: &str = r#"
umoci init --layout layout
umoci new --image layout:v1
umoci unpack --image layout:v1 bundle
cd bundle/rootfs
mkdir -p usr/bin etc/deep/er var/gone var/opaque run/user tmp 'with space'
printf '#!/bin/sh\n' >usr/bin/tool; chmod 4755 usr/bin/tool
printf one >etc/one; printf two >etc/two; printf three >etc/deep/er/three
ln etc/one etc/link; ln etc/one usr/bin/link
ln -s /etc/one usr/bin/absolute; ln -s ../../etc/nowhere usr/bin/dangling
printf gone >var/gone/file; printf below >var/opaque/below
printf x >'with space/é'; mkfifo run/fifo; mknod run/null c 1 3; mknod run/disk b 8 1
chmod 1777 tmp; chmod 2750 run/user; chown 1000:50 run/user etc/two
chmod 0 etc/deep/er/three; chmod 0555 etc/deep
setfattr -n user.colour -v green etc/one
head -c 300000 /dev/urandom >usr/data
touch -h -d '2001-02-03 04:05:06.789' etc/one usr/bin/absolute etc/deep run/fifo
cd ../..
umoci repack --refresh-bundle --image layout:v1 bundle
cd bundle/rootfs
rm -r var/gone etc/link; rm etc/two; mkdir etc/two; printf inner >etc/two/inner
rm -r 'with space'; printf now >'with space'; rm usr/bin/dangling
printf changed >etc/one; chmod 700 etc/deep; printf four >etc/deep/four
cd ../..
umoci repack --refresh-bundle --image layout:v1 bundle
mkdir -p new; printf above >new/above
umoci insert --opaque --image layout:v1 new /var/opaque
umoci insert --image layout:v1 new /added
umoci config --image layout:v1 --config.cmd /usr/bin/tool --config.env A=1 \
  --config.user 1000:50 --config.workingdir /etc --config.stopsignal SIGQUIT
rm -rf bundle
umoci unpack --image layout:v1 bundle
skopeo copy --quiet --insecure-policy oci:layout:v1 oci-archive:archive.tar:v1
skopeo copy --quiet --insecure-policy oci:layout:v1 docker-archive:docker.tar:v1:latest
chmod -R a+rX layout archive.tar docker.tar
"#;

#[test]
fn images_of_real_tools_are_what_umoci_unpacks() {
    let made = support::scratch();
    shell(made.path(), UMOCI);
    let expected = tree(&made.path().join("bundle/rootfs"));
    assert!(expected.len() > 30, "{expected:?}");
    for caller in CALLERS {
        for source in ["layout:v1", "layout", "archive.tar", "archive.tar:v1", "docker.tar:v1"] {
            let bench = Bench::new(caller);
            let source = made.path().join(source).display().to_string();
            let run = bench.done(&["import", &source]);
            assert!(run.stderr.contains("4 layers, 4 new"), "{run:?}");
            let merged = bench.merged();
            match caller {
                Caller::Root => {
                    assert_eq!(merged, expected, "{source}");
                    assert!(!run.stderr.contains("could not be kept"), "{run:?}");
                }
                Caller::User => {
                    assert_eq!(of_user(&merged), of_user(&expected), "{source}");
                    let lost = "2 device nodes and the owners of ";
                    assert_eq!(run.stderr.matches(lost).count(), 1, "{run:?}");
                    assert!(run.stderr.contains("belong to you in this store"), "{run:?}");
                }
            }
        }
    }
}

/// A listing without what an ordinary user cannot have: devices, and owners.
fn of_user(listing: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = listing
        .iter()
        .filter(|line| {
            !["c ", "b ", "./run/null", "./run/disk"].iter().any(|p| line.starts_with(p))
        })
        .map(|line| {
            let mut words: Vec<&str> = line.split(' ').collect();
            if let ["d" | "f" | "l" | "p", ..] = words[..] {
                words[2..4].fill("-");
            }
            words.join(" ")
        })
        .collect();
    lines.sort();
    lines
}

#[test]
fn a_second_import_finds_what_is_there() {
    let bench = Bench::new(Caller::User);
    let layout = Layout::simple(&bench.join("layout"));
    shell(bench.path(), "skopeo copy --quiet --insecure-policy oci:layout:v1 oci-archive:a.tar:v1");
    bench.done(&["import", "layout:v1"]);
    let again = bench.done(&["import", "layout:v1"]);
    assert!(again.stderr.contains("already stored as sha256:"), "{again:?}");
    let archive = bench.done(&["import", "a.tar"]);
    assert!(archive.stderr.contains("1 layer, 0 new"), "{archive:?}");
    assert_eq!(bench.names("layers").len(), 1);
    // An index that has changed is read again.
    layout.write_index(&[layout.manifest(json!({}))]);
    let changed = bench.done(&["import", "layout"]);
    assert!(changed.stderr.contains("0 new"), "{changed:?}");
    // And nothing was written to what is no terminal.
    for run in [again, archive, changed] {
        assert!(!run.stderr.contains('\r'), "{run:?}");
    }
    let quiet = bench.done(&["import", "--quiet", "a.tar:v1"]);
    assert_eq!(quiet.stderr, "");
}

// Layouts by hand.

/// A member of a tar archive: ustar, with a name of up to 100 bytes.
fn member(name: &str, kind: u8, link: &str, data: &[u8]) -> Vec<u8> {
    let mut header = vec![0_u8; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{:011o}\0", data.len()));
    put(136, "00000000000\0");
    put(148, "        ");
    put(157, link);
    put(257, "ustar\x0000");
    header[156] = kind;
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header.extend(data);
    header.resize(header.len().next_multiple_of(512), 0);
    header
}

fn archive(members: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = members.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// An OCI layout of one image with one layer, to be spoilt.
struct Layout {
    path: PathBuf,
    config: Value,
    layer: Value,
}

impl Layout {
    fn empty(path: &Path) -> Self {
        fs::create_dir_all(path.join("blobs/sha256")).unwrap();
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let mut layout = Self { path: path.to_owned(), config: Value::Null, layer: Value::Null };
        let tar = archive(&[member("file", b'0', "", b"content")]);
        layout.layer = layout.blob(TAR, &tar);
        layout.config = layout.blob(CONFIG, &config(&[Digest::of(&tar).to_string()], json!({})));
        layout
    }

    /// Of one image, `v1`.
    fn simple(path: &Path) -> Self {
        let layout = Self::empty(path);
        layout.write_index(&[named(layout.manifest(json!({})), "v1")]);
        layout
    }

    /// Writes a blob; returns its descriptor.
    fn blob(&self, media_type: &str, content: &[u8]) -> Value {
        let digest = Digest::of(content);
        fs::write(self.path.join("blobs/sha256").join(digest.hex()), content).unwrap();
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": content.len() })
    }

    fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    /// Writes the manifest with some of its fields replaced; returns its descriptor.
    fn manifest(&self, changes: Value) -> Value {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.config, "layers": [self.layer],
        });
        self.document(MANIFEST, &with(manifest, changes))
    }

    fn write_index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        fs::write(self.path.join("index.json"), index.to_string()).unwrap();
    }

    fn path_of(&self, descriptor: &Value) -> PathBuf {
        let hex = &descriptor["digest"].as_str().unwrap()["sha256:".len()..];
        self.path.join("blobs/sha256").join(hex)
    }
}

/// An object with some of its fields replaced, or removed by `null`.
fn with(mut object: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(object.as_object_mut().unwrap().remove(key)),
            value => object[key] = value.clone(),
        }
    }
    object
}

fn named(descriptor: Value, name: &str) -> Value {
    with(descriptor, json!({ "annotations": { "org.opencontainers.image.ref.name": name } }))
}

fn config(diff_ids: &[String], changes: Value) -> Vec<u8> {
    let document = json!({
        "os": "linux", "architecture": Platform::host().architecture,
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
    });
    with(document, changes).to_string().into_bytes()
}

/// Spoils a layout, and says what must be said about it.
type Hostile = (&'static str, fn(&Layout), &'static str);

const HOSTILE: &[Hostile] = &[
    ("no oci-layout", |l| fs::remove_file(l.path.join("oci-layout")).unwrap(), "no `oci-layout`"),
    ("no index", |l| fs::remove_file(l.path.join("index.json")).unwrap(), "no `index.json`"),
    (
        "another version",
        |l| fs::write(l.path.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap(),
        "layout version `2.0.0`, expected `1.0.0`",
    ),
    ("not JSON", |l| fs::write(l.path.join("index.json"), "\x1b[2J").unwrap(), "`index.json` of "),
    (
        "index is a FIFO",
        |l| {
            let index = l.path.join("index.json");
            fs::remove_file(&index).unwrap();
            nix::unistd::mkfifo(&index, nix::sys::stat::Mode::S_IRWXU).unwrap();
        },
        "not a regular file",
    ),
    (
        "blob is a link out",
        |l| {
            let path = l.path_of(&l.layer);
            fs::remove_file(&path).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        },
        "leads out of the layout",
    ),
    (
        "manifest: wrong content of the same size",
        |l| {
            let manifest = l.manifest(json!({}));
            let path = l.path_of(&manifest);
            let text = fs::read_to_string(&path).unwrap().replace("2", "3");
            fs::write(path, text).unwrap();
        },
        "its digest is sha256:",
    ),
    (
        "manifest: wrong size",
        |l| l.write_index(&[with(l.manifest(json!({})), json!({ "size": 7 }))]),
        " bytes, expected 7",
    ),
    (
        "manifest: giant",
        |l| l.write_index(&[with(l.manifest(json!({})), json!({ "size": 1_u64 << 40 }))]),
        "of 1099511627776 bytes, expected at most 4194304",
    ),
    (
        "index: giant",
        |l| {
            let index = fs::File::create(l.path.join("index.json")).unwrap();
            index.set_len(1 << 30).unwrap();
        },
        "1073741824 bytes, expected at most 4194304",
    ),
    (
        "manifest: missing",
        |l| fs::remove_file(l.path_of(&l.manifest(json!({})))).unwrap(),
        "is missing",
    ),
    (
        "no layers",
        |l| {
            let config = l.blob(CONFIG, &config(&[], json!({})));
            l.write_index(&[l.manifest(json!({ "config": config, "layers": [] }))]);
        },
        "an image without layers",
    ),
    (
        "a user that means no change to the kernel",
        |l| {
            let id = Digest::of(&fs::read(l.path_of(&l.layer)).unwrap()).to_string();
            let changes = json!({ "config": { "User": "0:4294967295" } });
            let config = l.blob(CONFIG, &config(&[id], changes));
            l.write_index(&[l.manifest(json!({ "config": config }))]);
        },
        "`User` is `0:4294967295`, which is no user",
    ),
    (
        "digest that leads out",
        |l| {
            let digest = format!("sha256:../../../../{}", "a".repeat(52));
            l.write_index(&[with(l.manifest(json!({})), json!({ "digest": digest }))]);
        },
        "is not a digest",
    ),
    (
        "digest in upper case",
        |l| {
            let manifest = l.manifest(json!({}));
            let digest = manifest["digest"].as_str().unwrap()["sha256:".len()..].to_uppercase();
            l.write_index(&[with(manifest, json!({ "digest": format!("sha256:{digest}") }))]);
        },
        "is not a digest",
    ),
    (
        "digest of another algorithm",
        |l| {
            let digest = format!("sha512:{}", "a".repeat(128));
            l.write_index(&[with(l.manifest(json!({})), json!({ "digest": digest }))]);
        },
        "is not a digest",
    ),
    (
        "an index that is said to be a manifest",
        |l| {
            let inner = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": [] });
            l.write_index(&[l.document(MANIFEST, &inner)]);
        },
        "missing field `config`",
    ),
    (
        "a manifest that says it is an index",
        |l| l.write_index(&[l.manifest(json!({ "mediaType": INDEX }))]),
        "expected `application/vnd.oci.image.manifest.v1+json`",
    ),
    (
        "a manifest that is an index too",
        |l| l.write_index(&[l.manifest(json!({ "manifests": [] }))]),
        "a manifest that is an index too",
    ),
    (
        "an index that is a manifest too",
        |l| {
            let inner = json!({
                "schemaVersion": 2, "manifests": [l.manifest(json!({}))],
                "config": l.config, "layers": [],
            });
            l.write_index(&[l.document(INDEX, &inner)]);
        },
        "an index that is a manifest too",
    ),
    (
        "index.json says it is a manifest",
        |l| {
            let index = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "manifests": [] });
            fs::write(l.path.join("index.json"), index.to_string()).unwrap();
        },
        "expected an index",
    ),
    (
        "docker's first schema",
        |l| l.write_index(&[l.manifest(json!({ "schemaVersion": 1 }))]),
        "schema version 1, expected 2",
    ),
    (
        "indexes without end",
        |l| {
            let mut descriptor = l.manifest(json!({}));
            for _ in 0..20 {
                let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
                descriptor = l.document(INDEX, &index);
            }
            l.write_index(&[descriptor]);
        },
        "indexes in indexes, expected at most 8",
    ),
    (
        "indexes without end",
        |l| {
            let descriptor = l.manifest(json!({}));
            let index = |n: usize| {
                let index = json!({
                    "schemaVersion": 2, "manifests": [descriptor],
                    "annotations": { "n": n.to_string() },
                });
                l.document(INDEX, &index)
            };
            l.write_index(&(0..1001).map(index).collect::<Vec<_>>());
        },
        "more than 1000 indexes",
    ),
    ("config: missing", |l| fs::remove_file(l.path_of(&l.config)).unwrap(), "is missing"),
    (
        "config: an artifact's",
        |l| {
            let empty = l.blob("application/vnd.oci.empty.v1+json", b"{}");
            l.write_index(&[l.manifest(json!({ "config": empty }))]);
        },
        "an artifact, no image",
    ),
    (
        "too few diff ids",
        |l| {
            let empty = l.blob(CONFIG, &config(&[], json!({})));
            l.write_index(&[l.manifest(json!({ "config": empty }))]);
        },
        "0 diff ids, expected one for each of 1 layers",
    ),
    (
        "diff id that is none",
        |l| {
            let config = l.blob(CONFIG, &config(&["sha256:/".to_owned()], json!({})));
            l.write_index(&[l.manifest(json!({ "config": config }))]);
        },
        "`sha256:/` is not a digest",
    ),
    (
        "for another platform",
        |l| {
            let other = json!({ "architecture": "pdp11" });
            let config = l.blob(CONFIG, &config(&[Digest::of(b"").to_string()], other));
            l.write_index(&[l.manifest(json!({ "config": config }))]);
        },
        "but for linux/pdp11",
    ),
    (
        "environment without values",
        |l| {
            let id = Digest::of(&fs::read(l.path_of(&l.layer)).unwrap()).to_string();
            let config = config(&[id], json!({ "config": { "Env": ["LD_PRELOAD"] } }));
            let config = l.blob(CONFIG, &config);
            l.write_index(&[l.manifest(json!({ "config": config }))]);
        },
        "`Env` has `LD_PRELOAD`, expected `NAME=value`",
    ),
    (
        "layer: wrong size",
        |l| {
            let layer = with(l.layer.clone(), json!({ "size": 1 }));
            l.write_index(&[l.manifest(json!({ "layers": [layer] }))]);
        },
        "bytes, expected 1",
    ),
    (
        "layer: wrong digest",
        |l| {
            let mut bytes = fs::read(l.path_of(&l.layer)).unwrap();
            bytes[512] ^= 1;
            fs::write(l.path_of(&l.layer), bytes).unwrap();
        },
        "the digest is `sha256:",
    ),
    (
        "layer: wrong diff id",
        |l| {
            let config = l.blob(CONFIG, &config(&[Digest::of(b"").to_string()], json!({})));
            l.write_index(&[l.manifest(json!({ "config": config }))]);
        },
        "the digest of the uncompressed archive is `sha256:",
    ),
    (
        "layer: not compressed as it says",
        |l| {
            let layer = with(l.layer.clone(), json!({ "mediaType": GZIP }));
            l.write_index(&[l.manifest(json!({ "layers": [layer] }))]);
        },
        "gzip",
    ),
    (
        "layer: unknown type",
        |l| {
            let layer = with(l.layer.clone(), json!({ "mediaType": "application/x-cpio" }));
            l.write_index(&[l.manifest(json!({ "layers": [layer] }))]);
        },
        "a layer of an unknown type: `application/x-cpio`",
    ),
    (
        "layer: encrypted",
        |l| {
            let layer = with(l.layer.clone(), json!({ "mediaType": format!("{GZIP}+encrypted") }));
            l.write_index(&[l.manifest(json!({ "layers": [layer] }))]);
        },
        "a layer of an encrypted type",
    ),
    (
        "layer: only elsewhere",
        |l| {
            fs::remove_file(l.path_of(&l.layer)).unwrap();
            let urls = json!({ "urls": ["https://example.org/layer"] });
            let layer = with(l.layer.clone(), urls);
            l.write_index(&[l.manifest(json!({ "layers": [layer] }))]);
        },
        "is only at its `urls`",
    ),
    (
        "layer that leads out",
        |l| {
            let tar = archive(&[member("../out", b'0', "", b"x")]);
            let layer = l.blob(TAR, &tar);
            let config = l.blob(CONFIG, &config(&[Digest::of(&tar).to_string()], json!({})));
            l.write_index(&[l.manifest(json!({ "layers": [layer], "config": config }))]);
        },
        "../out",
    ),
];

#[test]
fn layouts_that_lie_are_refused_and_leave_nothing() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        for (name, spoil, expected) in HOSTILE {
            let layout = Layout::empty(&bench.join("layout"));
            layout.write_index(&[layout.manifest(json!({}))]);
            spoil(&layout);
            let run = bench.image(&["import", "layout"]);
            assert_eq!(run.status, 1, "{name}: {run:?}");
            assert!(run.stderr.contains(expected), "{name}: {run:?}");
            assert!(run.stderr.starts_with("jailrun: ") && run.stderr.lines().count() == 1);
            assert!(!run.stderr.contains('\x1b'), "{name}: {run:?}");
            fs::remove_dir_all(bench.join("layout")).unwrap();
        }
        bench.assert_empty();
        // Nothing about the way they are made is wrong.
        Layout::simple(&bench.join("layout"));
        bench.done(&["import", "layout:v1"]);
    }
}

/// The members of an OCI archive of a simple image.
fn packed(layout: &Layout) -> Vec<Vec<u8>> {
    let mut members = vec![
        member("blobs/", b'5', "", b""),
        member("oci-layout", b'0', "", &fs::read(layout.path.join("oci-layout")).unwrap()),
        member("./index.json", b'0', "", &fs::read(layout.path.join("index.json")).unwrap()),
    ];
    for entry in fs::read_dir(layout.path.join("blobs/sha256")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(&layout.path).unwrap().to_str().unwrap().to_owned();
        members.push(member(&name, b'0', "", &fs::read(&path).unwrap()));
    }
    members
}

#[test]
fn archives_that_lie_are_refused() {
    let bench = Bench::new(Caller::User);
    let layout = Layout::simple(&bench.join("layout"));
    let good = packed(&layout);
    let path = bench.join("a.tar");
    let import = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        bench.image(&["import", "a.tar"])
    };
    let plus = |extra: Vec<u8>| archive(&[&good[..], &[extra]].concat());
    let whole = archive(&good);
    let mut broken = whole.clone();
    broken[512 + 100] ^= 1;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (plus(member("../x", b'0', "", b"x")), "`../x` with a name that leads outside"),
        (plus(member("a/../../x", b'0', "", b"x")), "with a name that leads outside"),
        (plus(member("/etc/x", b'0', "", b"x")), "with a name that leads outside"),
        (plus(member("x", b'2', "../../etc/passwd", b"")), "which is outside"),
        (plus(member("x", b'1', "/etc/passwd", b"")), "which is outside"),
        (plus(member("x", b'3', "", b"")), "is a device"),
        (plus(member("index.json", b'0', "", b"{}")), "member `index.json` twice"),
        (archive(&[member("x", b'0', "", &[7; 2000])])[..1500].to_vec(), "the archive ends"),
        (plus(member("x", b'0', "", &[7; 2000]))[..whole.len() - 100].to_vec(), "cut short"),
        (whole[..1536 + 100].to_vec(), "the archive ends"),
        (broken, "checksum"),
        (b"\x1f\x8b\x08\0".to_vec(), "the gzip data are damaged"),
    ];
    for (bytes, expected) in cases {
        let run = import(&bytes);
        assert_eq!(run.status, 1, "{expected}: {run:?}");
        assert!(run.stderr.contains(expected), "{expected}: {run:?}");
    }
    // What a plain `tar` of a layout may hold besides: links, for example.
    let links = [
        member("a/one", b'2', "../b/two", b""),
        member("b/two", b'2', "./two", b""),
        member("hard", b'1', "index.json", b""),
    ];
    let run = import(&archive(&[&good[..], &links].concat()));
    assert_eq!(run.status, 0, "{run:?}");
    let unsafe_loop = vec![
        member("oci-layout", b'2', "x", b""),
        member("x", b'2', "oci-layout", b""),
        member("index.json", b'0', "", b"{}"),
    ];
    let run = import(&archive(&unsafe_loop));
    assert!(run.stderr.contains("more than 8 links behind `oci-layout`"), "{run:?}");
    // Compressed as a whole it has no place where a layer could be read.
    shell(bench.path(), "gzip -k a.tar; umoci --version >/dev/null");
    let source =
        Source::Image { path: bench.join("a.tar.gz"), reference: None, platform: Platform::host() };
    let error = oci::read(&source).unwrap_err().to_string();
    assert!(error.ends_with("uncompress it with `gunzip` first"), "{error}");
    // As a plain archive it could be imported, if it were not for the tag.
    let run = bench.image(&["import", "a.tar.gz:tag"]);
    assert_eq!(run.status, 1, "{run:?}");
    assert!(run.stderr.contains("a plain archive of files has no `:tag`"), "{run:?}");
}

#[test]
fn docker_archives_are_read_by_tag() {
    let bench = Bench::new(Caller::User);
    let layer = archive(&[member("file", b'0', "", b"content")]);
    let config = |cmd: &str| {
        let section = json!({ "Cmd": [cmd], "Entrypoint": null, "Env": null });
        config(&[Digest::of(&layer).to_string()], json!({ "config": section }))
    };
    let name = |config: &[u8]| format!("{}.json", Digest::of(config).hex());
    let (one, two) = (config("one"), config("two"));
    let legacy = format!("{}/layer.tar", "a".repeat(64));
    let entry = |config: &[u8], tags: Value| json!({ "Config": name(config), "RepoTags": tags, "Layers": [legacy] });
    let members = |manifest: Value| {
        archive(&[
            member(&name(&one), b'0', "", &one),
            member(&name(&two), b'0', "", &two),
            member("real.tar", b'0', "", &layer),
            member(&legacy, b'2', "../real.tar", b""),
            member("manifest.json", b'0', "", manifest.to_string().as_bytes()),
        ])
    };
    let path = bench.join("d.tar");
    let both = json!([
        entry(&one, json!(["nginx:latest", "docker.io/library/other:1"])),
        entry(&two, json!(["registry.example.org:5000/two"])),
    ]);
    fs::write(&path, members(both)).unwrap();
    let read = |reference: Option<&str>| oci::read_image(&path, reference, &Platform::host());
    let command = |reference| read(Some(reference)).unwrap().config.cmd;
    assert_eq!(command("nginx"), ["one"]);
    assert_eq!(command("docker.io/library/nginx:latest"), ["one"]);
    assert_eq!(command("other:1"), ["one"]);
    assert_eq!(command("registry.example.org:5000/two:latest"), ["two"]);
    let error = read(None).unwrap_err().to_string();
    assert!(error.contains("name one of them: `nginx:latest`, `docker.io"), "{error}");
    let error = read(Some("other")).unwrap_err().to_string();
    assert!(error.contains("has no `other`, but `nginx:latest`"), "{error}");
    let run = bench.done(&["import", "d.tar:nginx:latest"]);
    assert!(run.stderr.contains("d.tar:nginx:latest: stored as"), "{run:?}");

    fs::write(&path, members(json!([entry(&one, Value::Null)]))).unwrap();
    assert_eq!(read(None).unwrap().config.cmd, ["one"]);
    let lying = json!([{ "Config": name(&one), "Layers": [] }]);
    fs::write(&path, members(lying)).unwrap();
    assert!(read(None).unwrap_err().to_string().contains("1 diff ids, expected"));
    let lost = json!([{ "Config": name(&one), "Layers": ["nowhere"] }]);
    fs::write(&path, members(lost)).unwrap();
    assert!(read(None).unwrap_err().to_string().contains("`nowhere` is missing"));
    // A configuration that is not what it is called.
    let mut renamed = members(json!([entry(&one, Value::Null)]));
    let at = renamed.windows(5).position(|w| w == b"\"one\"").unwrap();
    renamed[at + 1..at + 4].copy_from_slice(b"two");
    fs::write(&path, renamed).unwrap();
    assert!(read(None).unwrap_err().to_string().contains("its digest is sha256:"));
}

/// One took the other's place in the store.
#[test]
fn a_manifest_that_is_a_configuration_too_names_two_images() {
    let directory = support::scratch();
    let layout = Layout::empty(&directory.path().join("layout"));
    let evil = archive(&[member("file", b'0', "", b"evil")]);
    let both = with(layout.config.clone(), json!({ "Cmd": ["evil"] }));
    let changes = json!({
        "config": both, "os": "linux", "architecture": Platform::host().architecture,
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&evil).to_string()] },
    });
    let manifest = layout.manifest(changes);
    layout.write_index(std::slice::from_ref(&manifest));
    let document = fs::read(layout.path_of(&manifest)).unwrap();
    let name = format!("{}.json", Digest::of(&document).hex());
    let saved = json!([{ "Config": name, "Layers": ["evil.tar"] }]);
    let archive = archive(&[
        member(&name, b'0', "", &document),
        member("evil.tar", b'0', "", &evil),
        member("manifest.json", b'0', "", saved.to_string().as_bytes()),
    ]);
    let path = directory.path().join("archive.tar");
    fs::write(&path, archive).unwrap();
    let read = |path: &Path| oci::read_image(path, None, &Platform::host()).unwrap();
    let (good, evil) = (read(&layout.path), read(&path));
    assert_eq!(evil.config.cmd, ["evil"]);
    assert_eq!(good.key.digest(), evil.key.digest());
    assert_ne!(good.key, evil.key);
    for key in [good.key, evil.key] {
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let two = |image: &oci::Image, above: &str| {
        let mut image = image.clone();
        image.layers.extend(read(&layout.path).layers);
        image.layers[0].key = above.repeat(64).parse().unwrap();
        image.stack()
    };
    assert_ne!(two(&good, "a")[0], two(&evil, "a")[0], "the directories above");
}

/// It was read to its end by whoever planned.
#[test]
fn an_archive_without_end_is_looked_into_at_its_beginning() {
    let bench = Bench::new(Caller::User);
    let volumes = member("a name", b'V', "", b"").repeat(1 << 14);
    fs::write(bench.join("a.tar"), volumes).unwrap();
    let begun = jailrun::image::blob::begin(fs::File::open(bench.join("a.tar")).unwrap());
    assert!(begun.is_ok(), "{begun:?}");
    let squeezed = b"BZh91AY&SY and more of it than a header has in it at the very least";
    let error = jailrun::image::blob::begin(&squeezed[..]).unwrap_err().to_string();
    assert!(error.contains("expected gzip, zstd or nothing"), "{error}");
}

/// As `tar --label` writes it.
#[test]
fn the_name_of_a_volume_is_no_entry() {
    let bench = Bench::new(Caller::User);
    let members = [member("a name", b'V', "", b""), member("file", b'0', "", b"content")];
    fs::write(bench.join("a.tar"), archive(&members)).unwrap();
    assert!(bench.done(&["import", "a.tar"]).stderr.contains("1 layer, 1 new"));
}

#[test]
fn references_and_platforms_choose_the_image() {
    let directory = support::scratch();
    let layout = Layout::empty(directory.path());
    let host = Platform::host();
    let id = Digest::of(&fs::read(layout.path_of(&layout.layer)).unwrap()).to_string();
    let image = |cmd: &str, architecture: &str| {
        let changes = json!({ "architecture": architecture, "config": { "Cmd": [cmd] } });
        let config = layout.blob(CONFIG, &config(std::slice::from_ref(&id), changes));
        layout.manifest(json!({ "config": config }))
    };
    let platform = |descriptor: Value, os: &str, architecture: &str| {
        let platform = json!({ "os": os, "architecture": architecture });
        with(descriptor, json!({ "platform": platform }))
    };
    let read = |reference: Option<&str>| oci::read_image(directory.path(), reference, &host);
    let command = |reference| read(reference).unwrap().config.cmd.concat();

    layout.write_index(&[
        named(image("one", &host.architecture), "one"),
        named(image("two", &host.architecture), "two"),
    ]);
    assert_eq!(command(Some("two")), "two");
    assert_eq!(read(Some("two")).unwrap().reference.as_deref(), Some("two"));
    let error = read(None).unwrap_err().to_string();
    assert!(error.ends_with("holds several images, name one of them: `one`, `two`"), "{error}");
    let error = read(Some("three")).unwrap_err().to_string();
    assert!(error.ends_with("has no `three`, but `one`, `two`"), "{error}");

    // An image for several machines, with what build tools attach to it.
    let many = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [
            platform(image("s", "s390x"), "linux", "s390x"),
            platform(image("w", &host.architecture), "windows", &host.architecture),
            platform(image("here", &host.architecture), "linux", &host.architecture),
            platform(image("attested", "unknown"), "unknown", "unknown"),
            with(image("signature", "x"), json!({ "mediaType": "application/x-signature" })),
        ],
    });
    let index = layout.document(INDEX, &many);
    layout.write_index(&[named(
        layout.document(
            INDEX,
            &json!({
                "schemaVersion": 2, "manifests": [index.clone()],
            }),
        ),
        "many",
    )]);
    assert_eq!(command(Some("many")), "here");
    assert_eq!(command(None), "here");
    let elsewhere = json!({ "schemaVersion": 2, "manifests": [
        platform(image("s", "s390x"), "linux", "s390x"),
        with(image("a", "arm"), json!({ "platform": {
            "os": "linux", "architecture": "arm", "variant": "v6" } })),
        platform(image("attested", "unknown"), "unknown", "unknown"),
    ]});
    layout.write_index(&[layout.document(INDEX, &elsewhere)]);
    let error = read(None).unwrap_err().to_string();
    let expected = format!("holds no image for {host}, but for linux/s390x, linux/arm/v6");
    assert!(error.ends_with(&expected), "{error}");

    // Two without a name are told apart by digest.
    let two = [image("one", &host.architecture), image("two", &host.architecture)];
    layout.write_index(&two);
    let digest = two[1]["digest"].as_str().unwrap();
    assert!(read(None).unwrap_err().to_string().contains(digest));
    assert_eq!(command(Some(digest)), "two");
    // So they are in an index, however often it is listed.
    let index = json!({ "schemaVersion": 2, "manifests": two.clone() });
    let index = layout.document(INDEX, &index);
    layout.write_index(&vec![index; 2000]);
    assert!(read(None).unwrap_err().to_string().contains(digest));
    assert_eq!(command(Some(digest)), "two");
    // As docker 25 writes it.
    let annotations = json!({ "annotations": {
        "io.containerd.image.name": "docker.io/library/nginx:1.27",
        "org.opencontainers.image.ref.name": "1.27",
    }});
    layout.write_index(&[with(image("nginx", &host.architecture), annotations)]);
    assert_eq!(command(Some("nginx:1.27")), "nginx");
    assert_eq!(command(Some("1.27")), "nginx");
    layout.write_index(&[]);
    let error = read(None).unwrap_err().to_string();
    assert!(error.contains("holds no image for"), "{error}");
}

#[test]
fn the_configuration_is_what_the_image_says() {
    let directory = support::scratch();
    shell(directory.path(), UMOCI);
    for source in ["layout", "archive.tar", "docker.tar"] {
        let path = directory.path().join(source);
        let image = oci::read_image(&path, None, &Platform::host()).unwrap();
        assert_eq!(image.layers.len(), 4);
        assert_eq!(image.config.cmd, ["/usr/bin/tool"]);
        assert_eq!(image.config.entrypoint, Vec::<String>::new());
        assert!(image.config.env.contains(&"A=1".to_owned()));
        assert_eq!(image.config.user.as_deref(), Some("1000:50"));
        assert_eq!(image.config.working_dir.as_deref(), Some("/etc"));
        assert_eq!(image.config.stop_signal.as_deref(), Some("SIGQUIT"));
    }
}

#[test]
fn directories_that_a_layer_implies_are_those_below() {
    let directory = |name: &str, mode: &str| {
        let mut bytes = member(name, b'5', "", b"");
        bytes[100..107].copy_from_slice(mode.as_bytes());
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    };
    for caller in CALLERS {
        let bench = Bench::new(caller);
        let layout = Layout::empty(&bench.join("layout"));
        let layers = [
            archive(&[
                directory("./", "0000751"),
                directory("tmp/", "0001777"),
                directory("a/", "0000711"),
                directory("a/b/", "0000770"),
                directory("hidden/", "0000700"),
                directory("covered/", "0000700"),
                directory("covered/in/", "0000700"),
            ]),
            archive(&[
                member("tmp/file", b'0', "", b"x"),
                member("a/b/c/file", b'0', "", b"x"),
                member("hidden/file", b'0', "", b"x"),
                member("covered/.wh..wh..opq", b'0', "", b""),
                member("covered/in/file", b'0', "", b"x"),
            ]),
            archive(&[
                directory("a/b/", "0000707"),
                member("a/b/other", b'0', "", b"x"),
                member(".wh.hidden", b'0', "", b""),
                member("tmp/other", b'0', "", b"x"),
            ]),
        ];
        let ids: Vec<String> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let blobs: Vec<Value> = layers.iter().map(|tar| layout.blob(TAR, tar)).collect();
        let config = layout.blob(CONFIG, &config(&ids, json!({})));
        layout.write_index(&[layout.manifest(json!({ "config": config, "layers": blobs }))]);
        bench.done(&["import", "layout"]);
        let merged = bench.merged();
        let modes: Vec<String> = merged
            .iter()
            .filter(|line| line.starts_with("d "))
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                format!("{} {}", words[1], words[5])
            })
            .collect();
        // The opaque directory itself stays; what it hides says nothing.
        let expected =
            ["1777 tmp", "700 covered", "707 a/b", "711 a", "755 a/b/c", "755 covered/in"];
        assert_eq!(modes, expected, "{merged:?}");
        let top = fs::metadata(&bench.stack()[0]).unwrap();
        assert_eq!(top.permissions().mode() & 0o7777, 0o751);
        bench.done(&["rm", "layout"]);
        bench.assert_empty();
    }
}

#[test]
fn a_layer_that_comes_twice_is_stacked_once() {
    let bench = Bench::new(Caller::Root);
    let layout = Layout::empty(&bench.join("layout"));
    let other = archive(&[member("file", b'0', "", b"other")]);
    let first = Digest::of(&fs::read(layout.path_of(&layout.layer)).unwrap()).to_string();
    let second = Digest::of(&other).to_string();
    let ids = [first.clone(), second, first];
    let config = layout.blob(CONFIG, &config(&ids, json!({})));
    let layers = json!([layout.layer, layout.blob(TAR, &other), layout.layer]);
    layout.write_index(&[layout.manifest(json!({ "config": config, "layers": layers }))]);
    let run = bench.done(&["import", "layout"]);
    assert!(run.stderr.contains("3 layers, 2 new"), "{run:?}");
    // Two, and the directories above them.
    assert_eq!(bench.stack().len(), 3);
    let listing = bench.merged();
    let content = format!("{}  ./file", Digest::of(b"content").hex());
    assert!(listing.contains(&content), "{listing:?}");
}

// Plain archives.

#[test]
fn plain_archives_are_stored_by_their_digest() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        shell(
            bench.path(),
            "mkdir -p top/etc; printf x >top/etc/.wh.x; tar cf root.tar top; \
             gzip -k root.tar; zstd -q root.tar",
        );
        let digest = Digest::of(&fs::read(bench.join("root.tar")).unwrap());
        for name in ["root.tar", "root.tar.gz", "root.tar.zst"] {
            let run = bench.done(&["import", name]);
            assert!(run.stderr.contains("1 layer, 1 new"), "{run:?}");
        }
        let stripped = ["import", "root.tar", "--strip-components", "1"];
        assert!(bench.done(&stripped).stderr.contains("1 new"));
        let layer = |strip| format!("layers/{}-tar{strip}/tree", digest.hex());
        assert!(bench.store().join(layer(0)).join("top/etc/.wh.x").exists());
        assert!(bench.store().join(layer(1)).join("etc/.wh.x").exists());

        // A digest that is given is what counts, not the file.
        let hex = digest.hex();
        fs::write(bench.join("root.tar"), "something else").unwrap();
        let run = bench.done(&["import", "root.tar.gz", "--sha256", &hex.to_uppercase()]);
        assert!(!run.stderr.contains("already"), "{run:?}");
        fs::remove_file(bench.join("root.tar")).unwrap();
        let run = bench.done(&["import", "root.tar", "--sha256", &hex]);
        assert!(run.stderr.contains("already stored"), "{run:?}");
        let other = "0".repeat(64);
        let run = bench.image(&["import", "root.tar.gz", "--sha256", &other]);
        assert_eq!(run.status, 1);
        assert!(run.stderr.contains(&format!("where `sha256:{other}` is expected")), "{run:?}");
        assert_eq!(bench.names("tmp"), BTreeSet::new());
    }
}

#[test]
fn limits_are_stated_and_can_be_raised() {
    let bench = Bench::new(Caller::User);
    shell(bench.path(), "mkdir -p a/b/c/d; tar cf deep.tar a");
    let run = bench.image(&["import", "deep.tar", "--limit", "depth=2"]);
    assert_eq!(run.status, 1);
    assert!(run.stderr.contains("more than 2 components (limit `depth`)"), "{run:?}");
    bench.assert_empty();
    bench.done(&["import", "deep.tar", "--limit", "depth=4"]);
}

// The store.

#[test]
fn a_store_is_the_callers_alone() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        Layout::simple(&bench.join("layout"));
        bench.done(&["import", "layout"]);
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&bench.store()), 0o700);
        fs::set_permissions(bench.store(), fs::Permissions::from_mode(0o755)).unwrap();
        let run = bench.image(&["ls"]);
        assert_eq!(run.status, 1);
        let help = "open to others, expected mode 0700: `chmod 700 /";
        assert!(run.stderr.contains(help), "{run:?}");
        fs::set_permissions(bench.store(), fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = if caller == Caller::Root { USER } else { 0 };
        std::os::unix::fs::chown(bench.store(), Some(stranger), None).unwrap();
        let run = bench.image(&["import", "layout"]);
        assert_eq!(run.status, 1, "{run:?}");
        let refused = ["belongs to somebody else", "permission denied"];
        assert!(refused.iter().any(|text| run.stderr.contains(text)), "{run:?}");
    }
}

#[test]
fn two_imports_at_once_make_one_layer() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        shell(
            bench.path(),
            "umoci init --layout layout; umoci new --image layout:v1; mkdir many; \
             for i in $(seq 3000); do echo $i >many/$i; done; \
             umoci insert --image layout:v1 many /many; chmod -R a+rX layout",
        );
        let imports: Vec<Child> = (0..4).map(|_| bench.spawn(&["import", "layout"])).collect();
        let runs: Vec<Run> = imports.into_iter().map(support::finish).collect();
        for run in &runs {
            assert_eq!(run.status, 0, "{runs:?}");
        }
        let new = |run: &&Run| run.stderr.contains("1 new");
        assert_eq!(runs.iter().filter(new).count(), 1, "{runs:?}");
        assert_eq!(bench.names("layers").len(), 1);
        assert_eq!(bench.names("tmp"), BTreeSet::new());
        assert_eq!(fs::read_dir(bench.stack()[0].join("many")).unwrap().count(), 3000);
    }
}

#[test]
fn a_killed_import_leaves_nothing_that_counts() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        shell(
            bench.path(),
            "umoci init --layout layout; umoci new --image layout:v1; \
             for n in 1 2 3; do mkdir $n; for i in $(seq 700); do echo $i >$n/$i; done; \
             umoci insert --image layout:v1 $n /$n; done; chmod -R a+rX layout",
        );
        let whole = |key: &String| {
            let layer = bench.store().join("layers").join(key);
            // What goes above the layers, with nothing in it here.
            if key.ends_with("-directories") {
                return assert_eq!(fs::read_dir(layer.join("tree")).unwrap().count(), 0);
            }
            assert!(layer.join("info.json").exists(), "{key}");
            let inner = fs::read_dir(layer.join("tree")).unwrap().next().unwrap().unwrap();
            assert_eq!(fs::read_dir(inner.path()).unwrap().count(), 700, "{key}");
        };
        let mut left = 0;
        for round in 0_u32..20 {
            let mut import = bench.spawn(&["import", "layout"]);
            std::thread::sleep(Duration::from_micros(1500 + 4300 * u64::from(round)));
            import.kill().unwrap();
            import.wait().unwrap();
            bench.names("layers").iter().for_each(whole);
            left += bench.names("tmp").len();
            if round % 5 == 4 {
                bench.done(&["gc"]);
                assert_eq!(bench.names("tmp"), BTreeSet::new());
            }
        }
        // Some of them were in the middle of it.
        assert!(left > 0);
        bench.done(&["import", "layout"]);
        assert_eq!(bench.names("tmp"), BTreeSet::new());
        assert_eq!(bench.names("layers").len(), 4);
        bench.names("layers").iter().for_each(whole);
        bench.done(&["rm", "v1"]);
        bench.assert_empty();
    }
}

#[test]
fn a_full_disk_is_an_error_and_nothing_more() {
    let bench = Bench::new(Caller::Root);
    shell(
        bench.path(),
        "umoci init --layout layout; umoci new --image layout:v1; mkdir big; \
         head -c 3000000 /dev/urandom >big/file; umoci insert --image layout:v1 big /big",
    );
    let script = "mount -t tmpfs -o size=1M tmpfs /var/lib; \"$1\" image import \"$2\" || echo $?; \
                  find /var/lib/jailrun -type f; mount -o remount,size=10M /var/lib; \
                  \"$1\" image import \"$2\"; echo $?";
    let jailrun = support::jailrun().to_str().unwrap();
    let layout = bench.join("layout").display().to_string();
    let run = support::shell_with_own_mounts(script, &[jailrun, &layout]);
    assert_eq!(run.stdout, "1\n/var/lib/jailrun/lock\n0\n", "{run:?}");
    let first = run.stderr.lines().next().unwrap().to_lowercase();
    assert!(first.contains("big/file") && first.contains("no space left on device"), "{run:?}");
}

#[test]
fn what_a_jail_holds_is_not_removed() {
    let bench = Bench::new(Caller::Root);
    let layout = Layout::simple(&bench.join("layout"));
    bench.done(&["import", "layout:v1"]);
    let store = Store::at(bench.store(), Owners::Keep);
    let source = Source::Image {
        path: bench.join("layout"),
        reference: Some("v1".to_owned()),
        platform: Platform::host(),
    };
    let stored = store.resolve(&source).unwrap().unwrap();
    let held = store.hold(&stored.key).unwrap();
    let again = store.hold(&stored.key).unwrap();

    assert_eq!(bench.list()[0]["in_use"], true);
    let run = bench.image(&["rm", "v1"]);
    assert_eq!(run.status, 1);
    assert_eq!(run.stderr, "jailrun: a jail is running from `v1`\n");
    // Neither when no source leads to it any more.
    layout.write_index(&[named(layout.manifest(json!({ "annotations": {} })), "v1")]);
    bench.done(&["import", "layout:v1"]);
    let run = bench.done(&["gc"]);
    assert!(run.stderr.contains("kept, a jail runs from it"), "{run:?}");
    assert!(stored.stack.iter().all(|key| store.has(key)));
    assert_eq!(bench.names("images").len(), 2);

    drop(held);
    assert_eq!(bench.names("images").len(), 2);
    bench.done(&["gc"]);
    assert_eq!(bench.names("images").len(), 2);
    drop(again);
    bench.done(&["gc"]);
    assert_eq!(bench.names("images").len(), 1);
    assert!(matches!(store.hold(&stored.key), Err(StoreError::Gone(_))));
    bench.done(&["rm", "layout:v1"]);
    bench.assert_empty();
}

#[test]
fn images_are_removed_by_any_of_their_names() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        Layout::simple(&bench.join("layout"));
        let layout = bench.join("layout:v1").display().to_string();
        bench.done(&["import", "layout:v1"]);
        let listed = bench.list();
        let [image] = &listed[..] else { panic!("{listed:?}") };
        assert_eq!(image["source"], *layout);
        assert_eq!(image["reference"], "v1");
        assert_eq!(image["layers"], 1);
        assert_eq!(image["size"], 2048);
        assert_eq!(image["in_use"], false);
        assert!(image["imported"].as_str().unwrap().ends_with('Z'));
        let digest = image["digest"].as_str().unwrap().to_owned();
        let text = bench.done(&["ls"]).stdout;
        let mut lines = text.lines();
        let head: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["NAME", "DIGEST", "LAYERS", "SIZE", "IMPORTED", "IN", "USE"]);
        let line = lines.next().unwrap();
        assert!(line.starts_with(&layout) && line.contains("2.0 KiB"), "{line}");
        assert!(line.contains(&digest["sha256:".len()..][..12]), "{line}");

        for name in ["layout:v1", &layout, "v1", &digest, &digest["sha256:".len()..][..8]] {
            bench.done(&["import", "layout:v1"]);
            let run = bench.done(&["rm", name]);
            assert!(run.stderr.contains("1 layer removed, 2.0 KiB"), "{name}: {run:?}");
            bench.assert_empty();
        }
        for name in ["v1", "layout", "sha2", ""] {
            let run = bench.image(&["rm", name]);
            assert_eq!(run.status, 1);
            assert_eq!(run.stderr, format!("jailrun: the store has no image `{name}`\n"));
        }
        // Of several names, the image goes with the last; none goes when one
        // of them is unknown.
        bench.done(&["import", "layout:v1"]);
        bench.done(&["import", "layout"]);
        assert_eq!(bench.image(&["rm", "layout", "unknown"]).status, 1);
        assert_eq!(bench.names("sources").len(), 2);
        bench.done(&["rm", "layout"]);
        assert_eq!(bench.names("layers").len(), 1);
        bench.done(&["rm", "layout:v1"]);
        bench.assert_empty();
        // Wrong arguments have a status of their own.
        for words in [&["rm"][..], &["import"], &["unknown"], &["import", "x", "--sha256", "1"]] {
            assert_eq!(bench.image(words).status, 2, "{words:?}");
        }
    }
}

#[test]
fn gc_keeps_images_without_a_source_unless_told() {
    let bench = Bench::new(Caller::User);
    Layout::simple(&bench.join("layout"));
    bench.done(&["import", "layout"]);
    fs::remove_dir_all(bench.join("layout")).unwrap();
    let run = bench.done(&["gc"]);
    assert_eq!(run.stderr, "jailrun: nothing to remove\n");
    assert_eq!(bench.list().len(), 1);
    let run = bench.done(&["gc", "--all"]);
    assert!(run.stderr.contains("layout: removed") && run.stderr.contains("1 layer removed"));
    bench.assert_empty();
    assert_eq!(bench.done(&["gc", "--quiet"]).stderr, "");
}

/// What it unpacked may lack marks that mounts heed.
#[test]
fn a_store_of_another_version_is_refused_until_gc_has_emptied_it() {
    for caller in CALLERS {
        let bench = Bench::new(caller);
        Layout::simple(&bench.join("layout"));
        bench.done(&["import", "layout"]);
        let stack = bench.stack();
        for part in ["sources", "images", "layers"] {
            for name in bench.names(part) {
                let mut record = bench.store().join(part).join(name);
                if part == "layers" {
                    record.push("info.json");
                }
                let text = fs::read_to_string(&record).unwrap();
                let old = text.replace("\"version\":2", "\"version\":1");
                assert_ne!(old, text);
                fs::write(&record, old).unwrap();
            }
        }
        assert_eq!(bench.list().len(), 0);
        let run = bench.image(&["import", "layout"]);
        assert_ne!(run.status, 0, "{run:?}");
        assert!(run.stderr.contains("no record of this version; `gc` removes it"), "{run:?}");
        bench.done(&["gc"]);
        bench.assert_empty();
        bench.done(&["import", "layout"]);
        assert_eq!(bench.stack(), stack);
    }
}

#[test]
fn what_hostile_layers_leave_can_be_removed_by_their_owner() {
    let bench = Bench::new(Caller::User);
    shell(
        bench.path(),
        "mkdir -p top/locked/in; printf x >top/locked/in/file; \
         d=top; for i in $(seq 200); do d=$d/d; done; mkdir -p $d; chmod 0 $d; \
         chmod 0 top/locked/in top/locked; tar cf root.tar top",
    );
    bench.done(&["import", "root.tar"]);
    bench.done(&["rm", "root.tar"]);
    bench.assert_empty();
}

#[test]
fn a_stored_image_is_found_without_its_blobs() {
    let bench = Bench::new(Caller::Root);
    let layout = Layout::simple(&bench.join("layout"));
    let store = Store::at(bench.store(), Owners::Keep);
    let source =
        Source::Image { path: bench.join("layout"), reference: None, platform: Platform::host() };
    assert_eq!(store.resolve(&source).unwrap(), None);
    bench.done(&["import", "layout"]);
    fs::remove_dir_all(layout.path.join("blobs")).unwrap();
    let stored = store.resolve(&source).unwrap().unwrap();
    let id = stored.stack.iter().map(|key| store.layer(key)).collect::<Vec<_>>();
    assert_eq!(id, bench.stack());
    assert_eq!(stored.reference.as_deref(), Some("v1"));

    // Another machine, another reference, another index: another question.
    let mut other = source.clone();
    if let Source::Image { reference, .. } = &mut other {
        *reference = Some("v1".to_owned());
    }
    assert_eq!(store.resolve(&other).unwrap(), None);
    let index = layout.path.join("index.json");
    let text = fs::read(&index).unwrap();
    fs::write(&index, &text).unwrap();
    assert_eq!(store.resolve(&source).unwrap(), None);
}

#[test]
fn records_that_cannot_be_believed_are_not() {
    let bench = Bench::new(Caller::Root);
    Layout::simple(&bench.join("layout"));
    bench.done(&["import", "layout"]);
    let store = Store::at(bench.store(), Owners::Keep);
    let source =
        Source::Image { path: bench.join("layout"), reference: None, platform: Platform::host() };
    let only = |part: &str| {
        let name = bench.names(part).into_iter().next().unwrap();
        bench.store().join(part).join(name)
    };
    let (record, image) = (only("sources"), only("images"));
    let good = fs::read_to_string(&image).unwrap();
    for bad in [
        String::new(),
        good.replace("\"version\":2", "\"version\":1"),
        good.replace("\"config\":{", "\"config\":{\"extra\":1,"),
        good.replace("\"layers\":[\"", "\"layers\":[\"../../"),
        good.replace("\"stack\":[\"", &format!("\"stack\":[\"{}\",\"", "0".repeat(64))),
        good.replace("\"env\":[]", "\"env\":[\"NAME\"]"),
    ] {
        assert_ne!(bad, good);
        fs::write(&image, &bad).unwrap();
        assert_eq!(store.resolve(&source).unwrap(), None, "{bad}");
    }
    fs::write(&image, &good).unwrap();
    assert!(store.resolve(&source).unwrap().is_some());
    // A layer that is gone is not there.
    let layer = only("layers");
    fs::rename(&layer, bench.join("away")).unwrap();
    assert_eq!(store.resolve(&source).unwrap(), None);
    fs::rename(bench.join("away"), &layer).unwrap();
    // A record that somebody else has written is an error.
    std::os::unix::fs::chown(&record, Some(USER), None).unwrap();
    assert!(matches!(store.resolve(&source), Err(StoreError::Untrusted { .. })));
    fs::remove_file(&record).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &record).unwrap();
    assert!(store.resolve(&source).is_err());
    fs::remove_file(&record).unwrap();
    // And all of that is mended by importing again.
    fs::write(&image, "").unwrap();
    bench.done(&["import", "layout"]);
    assert!(store.resolve(&source).unwrap().is_some());
    let key: Key = image.file_stem().unwrap().to_str().unwrap().parse().unwrap();
    assert!(store.hold(&key).is_ok());
}
