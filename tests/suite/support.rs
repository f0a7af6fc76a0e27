//! What the tests share: callers, roots, units, and what must not be left.

use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Who starts jailrun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caller {
    /// uid 0.
    Root,
    /// uid 65534, without groups, capabilities or delegated control groups.
    User,
}

/// Both of them: most of what a jail is must hold for either.
pub const CALLERS: [Caller; 2] = [Caller::Root, Caller::User];

/// The ordinary user's uid.
pub const USER: u32 = 65_534;

/// Stops the test when a precondition is missing: a skip is a failure.
pub fn require_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests start jails as root and as another user: run them as root"
    );
}

/// A directory that everybody may enter, removed at the end of the test.
pub fn scratch() -> tempfile::TempDir {
    let directory = tempfile::Builder::new().prefix("jailrun-test-").tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Copies a program that is to be executed.
///
/// Another process writes it: what this one has open, its other threads' children
/// have open until they execute, and who executes a file that is open for writing
/// gets `ETXTBSY`.
pub fn copy_program(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("--preserve=mode").args([from, to]).status().unwrap();
    assert!(status.success(), "{} to {}", from.display(), to.display());
}

/// Writes a script that is to be executed, as [`copy_program`] does.
pub fn write_script(path: &Path, text: &str) {
    let mut shell = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success(), "{}", path.display());
}

/// The program under test, where every caller can execute it: this build's, or
/// the one that `JAILRUN_BINARY` names.
pub fn jailrun() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let directory = scratch().keep();
        remove_at_exit(&directory);
        let path = directory.join("jailrun");
        let built = std::env::var_os("JAILRUN_BINARY").map(PathBuf::from);
        let built = built.map(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
        copy_program(&built.unwrap_or(env!("CARGO_BIN_EXE_jailrun").into()), &path);
        path
    })
}

/// Removes a directory when this process has ended, whatever ends it: nothing
/// is dropped that a static holds.
// It ends after this process, which cannot wait for it.
#[allow(clippy::zombie_processes)]
fn remove_at_exit(directory: &Path) {
    let mut watcher = Command::new("sh")
        .args(["-c", "cat; rm -rf \"$1\"", "sh"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // Its end is the end of this process.
    std::mem::forget(watcher.stdin.take());
}

/// The probe: a static program that reports what it sees, see tests/probe.
pub fn probe() -> &'static Path {
    static PROBE: OnceLock<PathBuf> = OnceLock::new();
    PROBE.get_or_init(|| {
        if let Some(built) = std::env::var_os("JAILRUN_PROBE") {
            return built.into();
        }
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let target = format!("{}-unknown-linux-musl", std::env::consts::ARCH);
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "jailprobe", "--target", &target])
            .current_dir(root)
            .status()
            .unwrap();
        assert!(
            status.success(),
            "the probe does not build: is `rustup target add {target}` done?"
        );
        let directory =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        directory.join(target).join("debug/jailprobe")
    })
}

/// The launcher of plans with parts left out, see tests/without, where every
/// caller can execute it.
pub fn without() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let status = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--package", "jailwithout"])
            .current_dir(root)
            .status()
            .unwrap();
        assert!(status.success(), "jailwithout does not build");
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(root.join("target"), PathBuf::from);
        let directory = scratch().keep();
        remove_at_exit(&directory);
        let path = directory.join("jailwithout");
        copy_program(&target.join("debug/jailwithout"), &path);
        path
    })
}

/// A name that no other test uses.
pub fn unique(prefix: &str) -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("test-{prefix}-{}-{number}", std::process::id())
}

/// A root directory with the probe as `/probe` and the usual mount points.
pub fn root_with_probe(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    for name in ["proc", "sys", "dev", "tmp", "run", "etc", "data"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    copy_program(probe(), &root.join("probe"));
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nalice:x:1000:1001::/home/alice:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nstaff:x:50:\n").unwrap();
    // The ordinary user's jails mount in it too.
    let chown = Command::new("chown").args(["-R", "65534:65534"]).arg(directory).status().unwrap();
    assert!(chown.success());
    root
}

/// A unit in a file of its own, in a fresh directory with a root.
pub struct Bench {
    pub directory: tempfile::TempDir,
    pub root: PathBuf,
    pub name: String,
    pub unit: PathBuf,
}

impl Bench {
    /// `text` follows `name`, `[root] path` and comes last, so that it may
    /// open further tables; `{root}` and `{dir}` in it are replaced.
    pub fn new(text: &str) -> Self {
        Self::with_root("", text)
    }

    /// The same with further keys of `[root]`.
    pub fn with_root(root_keys: &str, text: &str) -> Self {
        require_root();
        let directory = scratch();
        let root = root_with_probe(directory.path());
        let name = unique("jail");
        let unit = directory.path().join("unit.toml");
        let text = format!("name = \"{name}\"\n[root]\npath = \"{{root}}\"\n{root_keys}\n{text}\n")
            .replace("{root}", &root.display().to_string())
            .replace("{dir}", &directory.path().display().to_string());
        fs::write(&unit, text).unwrap();
        Self { directory, root, name, unit }
    }

    /// `jailrun up UNIT --quiet ARGUMENTS`.
    pub fn up(&self, caller: Caller, arguments: &[&str]) -> Run {
        let mut words = vec!["up", self.unit.to_str().unwrap(), "--quiet"];
        words.extend(arguments);
        run(caller, &words)
    }

    /// `jailrun up UNIT --dry-run ARGUMENTS`.
    pub fn dry_run(&self, caller: Caller, arguments: &[&str]) -> Run {
        let mut words = vec!["up", self.unit.to_str().unwrap(), "--dry-run"];
        words.extend(arguments);
        run(caller, &words)
    }

    /// Runs the probe with a subcommand in the jail.
    pub fn probe(&self, caller: Caller, words: &[&str]) -> Run {
        let mut arguments = vec!["--", "/probe"];
        arguments.extend(words);
        self.up(caller, &arguments)
    }

    /// The probe's report from inside; the launch must succeed.
    pub fn report(&self, caller: Caller) -> Value {
        let run = self.probe(caller, &["report"]);
        assert_eq!(run.status, 0, "{run:?}");
        run.json()
    }

    /// Fails when the jail has left anything: a journal, a control group, a
    /// mount, or a process.
    pub fn assert_nothing_left(&self) {
        assert_eq!(leftovers(&self.name), Vec::<String>::new());
    }
}

/// What a jail of that name has left.
pub fn leftovers(name: &str) -> Vec<String> {
    let mut left = Vec::new();
    for state in ["/run/jailrun", "/dev/shm/jailrun-0", "/tmp/jailrun-65534"] {
        let journal = Path::new(state).join(format!("{name}.json"));
        if journal.exists() {
            left.push(journal.display().to_string());
        }
    }
    let groups = Command::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("jailrun-{name}")])
        .output()
        .unwrap();
    left.extend(String::from_utf8_lossy(&groups.stdout).lines().map(str::to_owned));
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    left.extend(mounts.lines().filter(|line| line.contains(name)).map(str::to_owned));
    left
}

/// How a run of jailrun ended.
#[derive(Debug)]
pub struct Run {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn from_output(output: Output) -> Self {
        use std::os::unix::process::ExitStatusExt as _;
        let status =
            output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or(0));
        Self {
            status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as one JSON value.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command as a caller, with nothing on standard input.
pub fn command(caller: Caller, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    // What the test runner happens to have open is not part of any test.
    static MARKED: OnceLock<()> = OnceLock::new();
    MARKED.get_or_init(|| jailrun::sys::close_range(3, u32::MAX, true).unwrap());
    let mut command = match caller {
        Caller::Root => Command::new(program),
        Caller::User => {
            let mut command = Command::new("setpriv");
            command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
            ]);
            command.env_remove("XDG_RUNTIME_DIR").arg(program);
            command
        }
    };
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Colours would only be in the way; a test that wants them sets them.
    command.env("NO_COLOR", "1").env("TERM", "dumb");
    command
}

/// How many times as long as usual anything may take: a machine that is emulated
/// says so in `JAILRUN_PATIENCE`.
pub fn patience() -> u32 {
    static PATIENCE: OnceLock<u32> = OnceLock::new();
    *PATIENCE.get_or_init(|| match std::env::var("JAILRUN_PATIENCE") {
        Ok(text) => text.parse().expect("JAILRUN_PATIENCE is a number"),
        Err(_) => 1,
    })
}

/// Runs jailrun to its end, within a minute.
pub fn run(caller: Caller, arguments: &[impl AsRef<OsStr>]) -> Run {
    finish(command(caller, jailrun(), arguments).spawn().unwrap())
}

/// Runs a shell script as root in a mount namespace of its own, with these words
/// as `$1` and so on: no mount of it is left.
pub fn shell_with_own_mounts(script: &str, words: &[&str]) -> Run {
    let words = [&["--mount", "sh", "-euc", script, "sh"], words].concat();
    finish(command(Caller::Root, Path::new("unshare"), &words).spawn().unwrap())
}

/// Starts a command whose standard input is this text. One that ends without
/// having read it all is no failure.
pub fn fed(mut command: Command, input: &str) -> Child {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    match child.stdin.take().unwrap().write_all(input.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => panic!("{error}"),
        _ => child,
    }
}

/// script(1) around a command: its standard streams are a terminal.
pub fn in_terminal(caller: Caller, line: &str, input: &str) -> Run {
    finish(fed(command(caller, Path::new("script"), &["-qec", line, "/dev/null"]), input))
}

/// The JSON in what a terminal shows, which may have been typed into.
pub fn answer(run: &Run) -> Run {
    let text = run.stdout.find('{').map_or("", |at| &run.stdout[at..]);
    let value = serde_json::Deserializer::from_str(text).into_iter::<Value>().next();
    let stdout = value.and_then(Result::ok).map_or(String::new(), |value| value.to_string());
    Run { status: run.status, stdout, stderr: run.stderr.clone() }
}

/// Waits for a child, within a minute that `patience` makes longer, and for all
/// that has its output open.
pub fn finish(child: Child) -> Run {
    let id = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(child.wait_with_output()));
    let minute = patience() * Duration::from_secs(60);
    let output = ended.recv_timeout(minute).or_else(|_| {
        nix::sys::signal::kill(id, nix::sys::signal::SIGKILL).unwrap();
        ended.recv_timeout(minute)
    });
    Run::from_output(output.expect("what was started has left something running").unwrap())
}

/// Waits until something holds, within ten seconds that `patience` makes longer.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + patience() * Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "did not happen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process ids of the descendants of a process.
pub fn descendants(pid: u32) -> Vec<u32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    let mut all: Vec<u32> =
        children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
    for child in all.clone() {
        all.extend(descendants(child));
    }
    all
}

/// Sends a signal to a child.
pub fn signal(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}
