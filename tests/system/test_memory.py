"""Memory that runs out, one allocation at a time, in the running daemons: none of them crashes, whoever is concerned is
told, nobody else notices."""

import contextlib
import mmap
import os
import signal
import struct

import admin as weir_admin
import nodes as real_nodes
import procs
import pytest
import rtmp
import weir
from test_admin import admin  # noqa: F401

ALLOC = real_nodes.ROOT / "tests" / "alloc" / "preload.c"
ENOUGH = 4  # times in a row that nothing was left to fail


class Memory:
    """The page that tests/alloc/preload.c looks at."""

    def __init__(self, directory, library):
        self.file = directory / "alloc-fail"
        self.file.write_bytes(bytes(16))
        with open(self.file, "r+b") as f:
            self.page = mmap.mmap(f.fileno(), 16)
        self.env = {"LD_PRELOAD": str(library), "ALLOC_FAIL": str(self.file)}

    def fail(self, n):
        """The n-th allocation from now on; 0: none."""
        self.page[:] = struct.pack("QQ", n, 0)

    def failed(self):
        return struct.unpack("QQ", self.page)[1] > 0

    def each(self, most=400):
        """n for each n, until nothing fails any more. What polls take meanwhile makes it fuzzy."""
        calm = 0
        for n in range(1, most):
            self.fail(n)
            yield n
            calm = 0 if self.failed() else calm + 1
            self.fail(0)
            if calm == ENOUGH:
                return
        raise AssertionError(f"more than {most} allocations")


@pytest.fixture
def memory(tmp_path):
    if os.path.basename(os.path.dirname(os.path.dirname(weir.binary()))) in ("asan", "fuzz"):
        pytest.skip("malloc is the sanitizer's there")
    library = tmp_path / "alloc_fail.so"
    made = procs.run(["cc", "-std=c17", "-shared", "-fPIC", "-O1", str(ALLOC), "-o", str(library)])
    assert made.returncode == 0, made.stderr
    return Memory(tmp_path, library)


def attempt(r, what):
    """(answered, the client's address, the log from which on): a publisher or player that says what it wants and hears of it, or is closed."""
    mark = r.mark()
    with rtmp.Client(r.host, r.port) as c:
        address = "%s:%d" % c.sock.getsockname()
        try:
            return what(c), address, mark
        except (rtmp.Closed, OSError):
            return None, address, mark


def ended(r, address, mark):
    """Why the router closed it; the client may have come too late to be a session."""
    line = r.proc.err.wait(
        lambda line: line.get("client") == address and line.get("event") == "session_closed"
        or line.get("event") == "connection_refused",
        since=mark,
        what=f"the end of {address}",
    )
    return line["why"]


@pytest.mark.parametrize("kind", ["publish", "play"])
def test_setups(kind, fake, router, client, memory):
    r = router([fake("f1")], env=memory.env, log={"unrouted": 100000})
    alive, viewer = client(r), client(r)
    assert alive.publish("steady")[1] == "status"
    assert viewer.play("steady")[1] == "status"
    workers = r.workers()
    heard = failures = 0
    for n in memory.each():
        answered, address, mark = attempt(r, lambda c: c.publish(f"s{n}") if kind == "publish" else c.play("steady"))
        if not answered:
            failures += 1
            assert ended(r, address, mark) in ("limit_memory", "client_closed"), r.proc.err.tail()
        if not memory.failed():
            memory.fail(0)
        alive.send_media([rtmp.Message(rtmp.AUDIO, b"\xaf\x01" + bytes(20), 1, n * 20, 4)])
        heard += len(viewer.recv_media(1))
    assert failures > 10 and heard > failures
    assert r.workers() == workers and not r.logs("worker_exited"), r.proc.err.tail()
    assert attempt(r, lambda c: c.publish("at-last"))[0][1] == "status"


def test_seats(fake, router, client, memory, admin):  # noqa: F811
    """The ninth player of a shared link needs more room among its seats: without it the player is closed, and leaves no record."""
    r = router([fake("f1")], env=memory.env, log={"unrouted": 100000}, relay={"share_playback": "on"})
    a = admin(r)
    failures = 0
    for n in (n for n in memory.each() for _ in range(3)):  # polls take some, too
        memory.fail(0)
        eight = [client(r) for _ in range(8)]
        for c in eight:
            assert c.play(f"s{n}")[1] == "status"
        memory.fail(n)
        answered, address, mark = attempt(r, lambda c: c.play(f"s{n}"))
        if not answered:
            failures += 1
            assert ended(r, address, mark) in ("limit_memory", "client_closed"), r.proc.err.tail()
            assert address not in [s["client"] for s in a.get("/api/v1/sessions")["items"]]
        for c in eight:
            c.close()
    assert failures > 4
    assert not r.logs("worker_exited"), r.proc.err.tail()


def test_relay(fake, router, client, memory):
    """Of a stream that flows: whoever is hit is closed for it, and the next one is served."""
    r = router([fake("f1")], env=memory.env)
    alive, viewer = client(r), client(r)
    assert alive.publish("steady")[1] == "status"
    assert viewer.play("steady")[1] == "status"
    workers = r.workers()
    for n in range(1, 60):
        with rtmp.Client(r.host, r.port) as p:
            assert p.publish(f"s{n}")[1] == "status"
            memory.fail(n)
            with contextlib.suppress(OSError):
                for i in range(40):
                    p.send_media([rtmp.Message(rtmp.VIDEO, b"\x17\x01" + bytes(4000), 1, i * 40, 6)])
        memory.fail(0)
    alive.send_media([rtmp.Message(rtmp.AUDIO, b"\xaf\x01" + bytes(20), 1, 20, 4)])
    assert viewer.recv_media(1)
    assert {line["why"] for line in r.logs("session_closed")} <= {"client_closed", "client_reset", "limit_memory"}
    assert r.workers() == workers and not r.logs("worker_exited"), r.proc.err.tail()


@pytest.mark.parametrize("daemon", ["weir-router", "weir-healthd", "weir-admin"])
def test_configuration(daemon, fake, router, memory):
    r = router([fake("f1")], start=False)
    binary = os.path.join(os.path.dirname(weir.binary()), daemon)
    refused = 0
    for _ in memory.each(5000):
        out = procs.run([binary, "-t", "-c", str(r.file)], env=memory.env)
        assert out.returncode in (0, 1, 2), (out.returncode, out.stderr)
        assert (out.returncode == 0) == (not memory.failed()), (out.returncode, out.stderr)
        assert out.returncode == 0 or out.stderr.strip()
        refused += out.returncode != 0
    assert refused > 50


def shape(answer):
    """What an answer holds, without the values: nothing may be missing from a 200."""

    def of(value):
        if isinstance(value, dict):
            return {k: of(v) for k, v in value.items()}
        return [of(v) for v in value] if isinstance(value, list) else None

    assert answer.headers["Content-Type"] == "application/json"
    return of(answer.json)


def test_api(fake, router, client, stack, tmp_path, memory):
    r = router([fake("f1")])
    alive = client(r)
    assert alive.publish("steady")[1] == "status"
    a = weir_admin.Admin(tmp_path / "admin", router=r, env=memory.env)
    stack.append(a)
    for path in ("/api/v1/nodes", "/api/v1/streams", "/api/v1/sessions", "/api/v1/lookup?app=live&name=x"):
        failures = 0
        usual = shape(a.ask("GET", path))
        for _ in memory.each(1500):
            try:
                answer = a.ask("GET", path)
                assert answer.status in (200, 500, 503), answer
                failures += answer.status != 200
                assert answer.status != 200 or shape(answer) == usual, answer
            except (OSError, weir_admin.http.client.HTTPException):
                failures += 1  # without memory for the answer there is none
        assert failures > 3, path
        assert a.ask("GET", path).status == 200
    for _ in memory.each(1500):  # as without a store, then, or not at all
        with contextlib.suppress(OSError, weir_admin.http.client.HTTPException):
            answer = a.ask("GET", "/metrics")
            assert answer.status in (500, 503) or b"weir_store_up " in answer.body, answer
    assert a.proc.running


def test_reload(fake, router, memory):
    """All of it or nothing, and the log says which."""
    r = router([fake("f1")], env=memory.env)
    workers = r.workers()
    refused = 0
    for _ in memory.each(3000):
        mark = r.mark()
        r.proc.signal(signal.SIGHUP)
        r.proc.err.wait(
            lambda line: line.get("event") in ("config_reloaded", "config_refused"), since=mark, what="the reload"
        )
        refused += any(line.get("event") == "config_refused" for line in r.proc.err.items[mark:])
    assert refused > 20
    assert r.workers() == workers and not r.logs("worker_exited"), r.proc.err.tail()
