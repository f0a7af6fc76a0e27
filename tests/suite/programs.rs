//! Real programs under the default filter: what people run must not notice it.

use crate::support::{CALLERS, Caller, Run, require_root, run, scratch, unique};

/// Runs a shell's script in a jail with the host's tree, under a filter.
fn script(caller: Caller, filter: &str, text: &str) -> Run {
    require_root();
    let directory = scratch();
    let unit = directory.path().join("unit.toml");
    std::fs::write(
        &unit,
        format!(
            "name = \"{}\"\n[root]\nhost = true\n[security]\nseccomp = \"{filter}\"\n[process]\nenv = {{ HOME = \"/tmp\", LC_ALL = \"C.UTF-8\" }}\ncwd = \"/tmp\"\n",
            unique("program")
        ),
    )
    .unwrap();
    run(caller, &["up", "--quiet", unit.to_str().unwrap(), "--", "/bin/sh", "-euc", text])
}

/// Both presets, both callers: the script ends with `fine`.
fn works(text: &str) {
    for caller in CALLERS {
        for filter in ["default", "strict"] {
            let run = script(caller, filter, text);
            assert_eq!(run.status, 0, "{caller:?}, {filter}: {run:?}");
            assert_eq!(run.stdout.lines().last(), Some("fine"), "{caller:?}, {filter}: {run:?}");
        }
    }
}

#[test]
fn python_with_threads_children_and_sockets() {
    works(
        r#"
cat >test.py <<'END'
import asyncio, multiprocessing, os, socket, subprocess, tempfile, threading, time
seen = []
threads = [threading.Thread(target=lambda n=n: seen.append(n)) for n in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert sorted(seen) == list(range(8))
assert subprocess.run(["echo", "hi"], capture_output=True).stdout == b"hi\n"
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
client.sendall(b"x")
assert peer.recv(1) == b"x"
assert socket.getaddrinfo("localhost", 80)
left, right = socket.socketpair()
async def task():
    process = await asyncio.create_subprocess_exec("true")
    return await process.wait()
assert asyncio.run(task()) == 0
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(abs, [-1, -2]) == [1, 2]
assert os.uname().sysname == "Linux" and time.time() > 0
print("fine")
END
/usr/bin/python3 test.py"#,
    );
}

#[test]
fn perl_with_children_and_pipes() {
    works(
        r#"perl -MSocket -MIO::Handle -e '
        my $pid = open(my $pipe, "-|") // die; if (!$pid) { print "child\n"; exit }
        die unless <$pipe> eq "child\n"; close $pipe;
        socketpair(my $a, my $b, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "$!";
        alarm 5; select undef, undef, undef, 0.01; print "fine\n"'"#,
    );
}

#[test]
fn git_makes_a_repository_and_commits() {
    works(
        r#"git init -q repo && cd repo && echo text >file && git add file
git -c user.name=n -c user.email=e@example.org commit -qm message
git gc -q && git clone -q . ../copy && test "$(cat ../copy/file)" = text && echo fine"#,
    );
}

#[test]
fn gcc_compiles_what_then_runs() {
    works(
        r#"printf '#include <stdio.h>\n#include <pthread.h>\nstatic void *f(void *p) { return p; }\nint main(void) { pthread_t t; if (pthread_create(&t, 0, f, 0)) return 1; pthread_join(t, 0); puts("fine"); }' >a.c
gcc -O1 -pthread -o a a.c && ./a"#,
    );
}

#[test]
fn node_compiles_just_in_time() {
    works(
        r#"node -e '
const { execFileSync } = require("child_process"), { Worker } = require("worker_threads"), net = require("net");
let sum = 0; for (let i = 0; i < 3e6; i++) sum = (sum + i * 7) | 0;
if (execFileSync("echo", ["hi"]).toString() !== "hi\n") throw 1;
new Worker("require(\"worker_threads\").parentPort.postMessage(1)", { eval: true }).on("message", () => {
  const server = net.createServer(c => c.end("x")).listen(0, "127.0.0.1", () =>
    net.connect(server.address().port, "127.0.0.1").on("data", d => { console.log("fine"); server.close(); }));
});'"#,
    );
}

#[test]
fn redis_starts_answers_saves_and_stops() {
    works(
        r#"redis-server --port 0 --unixsocket /tmp/s --daemonize no --dir /tmp --save '' --logfile /tmp/log &
for _ in $(seq 100); do redis-cli -s /tmp/s ping >/dev/null 2>&1 && break; sleep 0.05; done
test "$(redis-cli -s /tmp/s set key value)" = OK
test "$(redis-cli -s /tmp/s bgsave)" != ""
test "$(redis-cli -s /tmp/s get key)" = value
redis-cli -s /tmp/s shutdown nosave || :
wait && echo fine"#,
    );
}
