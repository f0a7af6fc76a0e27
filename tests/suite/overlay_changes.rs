//! What `changes` says of upper directories that the kernel has written.

use std::fs::{self, File};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::Command;

use jailrun::changes::{self, Lowers, Marks};
use nix::errno::Errno;

use crate::support::{CALLERS, Caller, command, require_root, scratch};

/// Two lower directories, the first above the second, and room for an upper.
struct Overlay {
    directory: tempfile::TempDir,
    caller: Caller,
}

impl Overlay {
    fn new(caller: Caller) -> Self {
        require_root();
        let directory = scratch();
        let script = "
            mkdir one two upper work merged
            cd one
            mkdir -p etc var/dir deep/er dir/sub swap chmod-dir touched renamed same kept
            for name in etc/passwd etc/shadow var/old dir/a dir/b dir/sub/x swap/in \
                file-to-dir chmod-file opened renamed/one renamed/two same/in \
                chmod-dir/in deep/er/file marked kept/in rewritten; do
                echo $name >$name
            done
            ln -s old link
            ln -s old kept-link
            # Nobody sees the second `gone`, what the second `opaque` holds, nor
            # what its `dir` holds under the names of the first.
            mknod gone c 0 0
            mkdir opaque
            setfattr -n trusted.overlay.opaque -v y opaque
            setfattr -n user.overlay.opaque -v y opaque
            cd ../two
            mkdir -p etc dir gone/in opaque
            for name in etc/hosts dir/a dir/c opaque/x; do echo two >$name; done
            cd ..
        ";
        run(Command::new("sh").args(["-ec", script]).current_dir(directory.path()));
        if caller == Caller::User {
            run(Command::new("chown").args(["-Rh", "65534:65534"]).arg(directory.path()));
        }
        Self { directory, caller }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a script in the mounted overlay.
    fn change(&self, options: &str, script: &str) -> &Self {
        let (unshare, own) = match self.caller {
            Caller::Root => ("--mount", ""),
            Caller::User => ("--user --map-root-user --mount", ",userxattr"),
        };
        let script = format!(
            "cd {} && exec unshare {unshare} sh -ec '
                mount -t overlay overlay -o lowerdir=one:two,upperdir=upper,workdir=work{own}{options} merged
                cd merged
                {script}'",
            self.directory.path().display(),
        );
        run(&mut command(self.caller, Path::new("sh"), &["-c", &script]));
        self
    }

    fn read(&self, are_known: bool) -> Vec<changes::Change> {
        let open = |name| File::open(self.path(name)).unwrap();
        let (one, two) = (open("one"), open("two"));
        let lowers: [BorrowedFd<'_>; 2] = [one.as_fd(), two.as_fd()];
        let lowers = if are_known { Lowers::Known(&lowers) } else { Lowers::Unknown };
        let marks = match self.caller {
            Caller::Root => Marks::Trusted,
            Caller::User => Marks::User,
        };
        changes::read(open("upper").as_fd(), lowers, marks).unwrap()
    }

    fn lines(&self, are_known: bool) -> String {
        let mut out = Vec::new();
        changes::print(&self.read(are_known), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
}

const SCRIPT: &str = r#"
    echo new >etc/new
    echo more >>etc/passwd
    rm var/old
    mv etc/hosts etc/hosts.old
    rm -r swap
    echo file >swap
    rm file-to-dir
    mkdir file-to-dir
    echo >file-to-dir/in
    chmod 700 chmod-file chmod-dir
    touch touched
    rm -r dir
    mkdir -p dir/sub
    echo again >dir/a
    echo >opaque/x
    mkdir -p fresh/inner
    echo >fresh/inner/file
    exec 3<>opened
    exec 3>&-
    ln -sfn new link
    echo >>deep/er/file
    setfattr -n user.mark -v 1 marked
    mkfifo fifo
    mkdir gone
    echo >made
    rm made
    echo x >rewritten.tmp
    mv rewritten.tmp rewritten
    ln etc/new hard
"#;

#[test]
fn each_change_has_its_letter() {
    for caller in CALLERS {
        let overlay = Overlay::new(caller);
        overlay.change("", SCRIPT);
        let expected = "\
C /chmod-dir
C /chmod-file
C /deep/er/file
C /dir (replaced)
C /dir/a
D /dir/b
D /dir/c
D /dir/sub/x
D /etc/hosts
A /etc/hosts.old
A /etc/new
C /etc/passwd
A /fifo
C /file-to-dir (directory, was file)
A /file-to-dir/in
A /fresh
A /fresh/inner
A /fresh/inner/file
A /gone
A /hard
C /link
C /marked
A /opaque/x
C /rewritten
C /swap (file, was directory)
D /var/old
";
        assert_eq!(overlay.lines(true), expected, "{caller:?}");
    }
}

#[test]
fn without_the_lowers_only_what_is_certain_is_said() {
    for caller in CALLERS {
        let overlay = Overlay::new(caller);
        overlay.change("", SCRIPT);
        // A file copied up may be one renamed; directories copied up, as
        // `/chmod-dir`, may be so for what is in them.
        let expected = "\
+ /chmod-file
+ /deep/er/file
+ /dir
+ /dir/a
+ /dir/sub
D /etc/hosts
+ /etc/hosts.old
+ /etc/new
+ /etc/passwd
+ /fifo
+ /file-to-dir
+ /file-to-dir/in
+ /fresh
+ /fresh/inner
+ /fresh/inner/file
+ /gone
+ /hard
+ /link
+ /marked
+ /opaque/x
+ /opened
+ /rewritten
+ /swap
D /var/old
";
        assert_eq!(overlay.lines(false), expected, "{caller:?}");
    }
}

#[test]
fn nothing_changed_is_nothing_listed() {
    for caller in CALLERS {
        let overlay = Overlay::new(caller);
        assert_eq!(overlay.lines(true), "");
        overlay.change("", "ls -R >/dev/null; cat etc/passwd >/dev/null");
        assert_eq!(overlay.lines(true), "");
        // Copied up, and not changed.
        overlay.change("", "exec 3<>opened; touch etc/x; rm etc/x; touch touched");
        assert!(overlay.path("upper/opened").exists());
        assert_eq!(overlay.lines(true), "", "{caller:?}");
    }
}

#[test]
fn renamed_directories_are_told_against_where_they_were() {
    let overlay = Overlay::new(Caller::Root);
    // One within its directory, one into another: two forms of the attribute.
    overlay.change(
        ",redirect_dir=on",
        "mv renamed moved; rm moved/one; echo x >>moved/two; echo >moved/three
         mv same var/dir/same; echo >>var/dir/same/in",
    );
    let expected = "\
A /moved (renamed from /renamed)
D /moved/one
A /moved/three
C /moved/two
D /renamed
D /same
A /var/dir/same (renamed from /same)
C /var/dir/same/in
";
    assert_eq!(overlay.lines(true), expected);
    let unknown = overlay.lines(false);
    assert!(unknown.contains("+ /moved (renamed from /renamed)\n"), "{unknown}");
    assert!(unknown.contains("+ /var/dir/same (renamed from /same)\n"), "{unknown}");
}

#[test]
fn a_renamed_directory_of_a_lower_is_followed() {
    let overlay = Overlay::new(Caller::Root);
    overlay.change(",redirect_dir=on", "mv etc conf; mv same var/dir/same");
    // The upper becomes the top-most lower of another overlay.
    for (from, to) in [("upper", "zero"), ("work", "old-work")] {
        fs::rename(overlay.path(from), overlay.path(to)).unwrap();
        fs::create_dir(overlay.path(from)).unwrap();
    }
    overlay.change(
        ",redirect_dir=on,lowerdir=zero:one:two",
        "echo x >>conf/passwd; rm conf/hosts; echo >conf/new; rm var/dir/same/in",
    );
    let open = |name| File::open(overlay.path(name)).unwrap();
    let files = [open("zero"), open("one"), open("two")];
    let lowers = [files[0].as_fd(), files[1].as_fd(), files[2].as_fd()];
    let found =
        changes::read(open("upper").as_fd(), Lowers::Known(&lowers), Marks::Trusted).unwrap();
    let mut out = Vec::new();
    changes::print(&found, &mut out).unwrap();
    let expected = "D /conf/hosts\nA /conf/new\nC /conf/passwd\nD /var/dir/same/in\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn attributes_copied_up_alone_are_marked() {
    let overlay = Overlay::new(Caller::Root);
    overlay.change(",metacopy=on,redirect_dir=on", "chmod 700 chmod-file; mv kept/in in");
    let expected = "\
C /chmod-file (attributes only)
A /in (renamed from /kept/in) (attributes only)
D /kept/in
";
    assert_eq!(overlay.lines(true), expected);
}

#[test]
fn whiteouts_and_opaque_directories_that_are_files_with_attributes() {
    let overlay = Overlay::new(Caller::Root);
    let script = "
        mkdir upper/etc upper/dir upper/kept
        touch upper/etc/passwd upper/kept/in upper/etc/none
        setfattr -n user.overlay.opaque -v x upper/etc
        setfattr -n user.overlay.whiteout upper/etc/passwd
        setfattr -n user.overlay.whiteout upper/etc/none
        setfattr -n user.overlay.opaque -v y upper/dir
        setfattr -n trusted.overlay.whiteout upper/kept/in
        touch -r one/kept upper/kept
    ";
    run(Command::new("sh").args(["-ec", script]).current_dir(overlay.directory.path()));
    let lines = |marks| {
        let open = |name| File::open(overlay.path(name)).unwrap();
        let (one, two) = (open("one"), open("two"));
        let lowers = [one.as_fd(), two.as_fd()];
        let found = changes::read(open("upper").as_fd(), Lowers::Known(&lowers), marks).unwrap();
        let mut out = Vec::new();
        changes::print(&found, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    };
    let opaque = "C /dir (replaced)\nD /dir/a\nD /dir/b\nD /dir/c\nD /dir/sub\n";
    assert_eq!(lines(Marks::User), format!("{opaque}D /etc/passwd\nC /kept/in\n"));
    assert_eq!(lines(Marks::Either), format!("{opaque}D /etc/passwd\nD /kept/in\n"));
    // There these attributes are data of an added and a changed file.
    assert_eq!(lines(Marks::Trusted), "A /etc/none\nC /etc/passwd\nD /kept/in\n");
}

#[test]
fn json_holds_what_the_lines_hold() {
    let overlay = Overlay::new(Caller::Root);
    overlay.change(
        ",redirect_dir=on",
        "printf 12345 >new; rm etc/passwd; rm -r swap; echo >swap; mv renamed moved; touch \"$(printf \"a\\nb\\377\")\"",
    );
    let mut out = Vec::new();
    changes::print_json(&overlay.read(true), &mut out).unwrap();
    let found: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let expected = serde_json::json!([
        { "path": "/a\\nb\\xff", "kind": "added", "what": "file", "size": 0 },
        { "path": "/etc/passwd", "kind": "deleted", "what": "file" },
        { "path": "/moved", "kind": "added", "what": "directory", "marks": [{ "redirect": "/renamed" }] },
        { "path": "/new", "kind": "added", "what": "file", "size": 5 },
        { "path": "/renamed", "kind": "deleted", "what": "directory" },
        { "path": "/swap", "kind": "changed", "what": "file", "was": "directory", "size": 1 },
    ]);
    assert_eq!(found, expected);
    let lines = overlay.lines(true);
    assert!(lines.starts_with("A /a\\nb\\xff\nD /etc/passwd\n"), "{lines}");
}

#[test]
fn a_redirect_that_leads_out_is_an_error() {
    let overlay = Overlay::new(Caller::Root);
    fs::create_dir(overlay.path("upper/x")).unwrap();
    for value in ["..", "/..", "/a/../../b", "a/b", "", "/"] {
        let path = overlay.path("upper/x");
        jailrun::sys::xattr::set(&path, c"trusted.overlay.redirect", value.as_bytes()).unwrap();
        let upper = File::open(overlay.path("upper")).unwrap();
        let error = changes::read(upper.as_fd(), Lowers::Unknown, Marks::Trusted).unwrap_err();
        assert_eq!((error.errno, &*error.path), (Errno::EINVAL, Path::new("/x")), "{value}");
    }
}

#[test]
fn an_ordinary_user_is_refused_what_is_hidden_from_it() {
    require_root();
    let upper = scratch();
    let file = File::open(upper.path()).unwrap();
    let thread = std::thread::spawn(move || {
        jailrun::sys::set_ids(crate::support::USER, crate::support::USER, Some(&[])).unwrap();
        changes::read(file.as_fd(), Lowers::Unknown, Marks::Trusted)
    });
    assert_eq!(thread.join().unwrap().unwrap_err().errno, Errno::EPERM);
}
