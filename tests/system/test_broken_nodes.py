"""Nodes that do what no node should: the session lives on at another node or ends with a reason, and neither the router nor the stream
beside it is harmed. Each case has a router, a broken node where its stream is at home, and a good one; several cases run at a time."""

import concurrent.futures
import contextlib
import dataclasses
import socket
import struct
import time

import beside
import procs
import pytest
import rtmp
import weir

TIMES = {"dial_timeout": "4s", "answer_timeout": "4s", "setup_timeout": "30s"}
BUSY = {"stall": "10s"}  # nodes in Python on a busy machine are slow to answer pings
WITHIN = 60  # seconds for a client's answer, and for its stream to go on
GROWTH_KIB = 24 * 1024  # of the router: the buffers of one session and what a worker keeps
REFUSED_WITHIN = 1.2  # a node that closes within a second of its Start has refused; test_failures.py has that
AT_ONCE = 6
GARBAGE = b"\xff" * 4096
LONG_HEADER = rtmp.basic_header(0, 6) + bytes(3) + b"\xff\xff\xff" + b"\x09" + bytes(4)  # a message of 16 MiB


class BrokenNode(rtmp.FakeNode):
    """Until the fault is over (it returns true) a session is the fault's: fault(node, session)."""

    def __init__(self, fault=None):
        self.fault = fault
        super().__init__(procs.free_port(), keeps=False)
        self.id = "broken"

    def _serve(self, s):
        with contextlib.suppress(rtmp.Closed, OSError, ValueError, AssertionError):
            if not self.fault or self.fault(self, s):
                super()._serve(s)
                return
        s.conn.close()

    def shake(self, s):
        self._handshake(s)


def until_closed(s):
    while True:
        s.conn.read_exactly(1, timeout=60)


def without_end(s, data, seconds=30):
    """Says the same again and again, and listens to nothing."""
    s.conn.sock.settimeout(seconds)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        s.conn.sock.sendall(data)


def trickle(s, data, every=0.05):
    for byte in data:
        s.conn.send_bytes(bytes([byte]))
        time.sleep(every)


# --- faults while the stream is set up ---


def sends(data):
    """That instead of S0, then nothing."""

    def fault(node, s):
        s.conn.send_bytes(data)
        until_closed(s)

    return fault


def s1_slow(node, s):
    trickle(s, b"\x03" + bytes(3072))


def shaken_then(act):
    def fault(node, s):
        node.shake(s)
        act(s)
        until_closed(s)

    return fault


def command(*values):
    payload = rtmp.amf_encode(*values)
    return rtmp.ChunkWriter().write(rtmp.Message(rtmp.COMMAND, payload))


def answers(connect=None, create=None, before_start=None, start=True):
    """Answers commands in its own way: functions of (session, transaction id)."""

    def fault(node, s):
        node.shake(s)
        while True:
            m = s.conn.recv(timeout=60)
            if not m.is_command:
                continue
            name, transaction = m.values[:2]
            if name == "connect":
                s.connect = m.values[2]
                info = {"level": "status", "code": "NetConnection.Connect.Success"}
                connect(s, transaction) if connect else s.conn.send_command("_result", transaction, {}, info)
            elif name == "createStream":
                create(s, transaction) if create else s.conn.send_command("_result", transaction, None, 1)
            elif name in ("publish", "play"):
                if before_start:
                    before_start(s, transaction)
                if start:
                    s.conn.send_status(f"NetStream.{name.capitalize()}.Start")

    return fault


def wrong_id(s, transaction):
    s.conn.send_command("_result", transaction + 76, None, 1)


def flood_of_results(s, transaction):
    """Every one with another stream id: publish must not be sent again for each."""
    without_end(s, b"".join(command("_result", 2, None, i % 7 + 2) for i in range(100)))


def chunk_sizes(s, transaction):
    for size in (1, 65536, 2, 0xFFFFFF, 128):
        s.conn.send_chunk_size(size)
        s.conn.send_command("onBWDone", 0, None)


def chunk_size_zero(s, transaction):
    s.conn.send(rtmp.SET_CHUNK_SIZE, bytes(4), csid=2)


def redirect(s, transaction):
    ex = {"code": 302, "redirect": "rtmp://203.0.113.1/live"}
    info = {"level": "error", "code": "NetConnection.Connect.Rejected", "description": "go elsewhere", "ex": ex}
    s.conn.send_command("_error", transaction, None, info)


def reconnect(s, transaction):
    s.conn.send_status("NetConnection.Connect.ReconnectRequest", msid=0, tcUrl="rtmp://203.0.113.1/live")


def controls(s, transaction):
    """Window 0, limits, acknowledgements of what was never sent, pings, unknown events and types."""
    s.conn.send(rtmp.WINDOW, bytes(4), csid=2)
    s.conn.send(rtmp.PEER_BANDWIDTH, b"\0\0\0\0\2", csid=2)
    s.conn.send(rtmp.ACK, b"\xff" * 4, csid=2)
    s.conn.send(rtmp.ABORT, b"\0\0\0\3", csid=2)
    for event in (6, 7, 31, 32, 99):
        s.conn.send_user(event, 5)
    for kind in (0, 7, 16, 19, 99):
        s.conn.send(kind, b"odd", csid=3)


@dataclasses.dataclass
class Setup:
    """then: where the stream is placed, or the reason it ended with; retried: why the broken node was left."""

    fault: object
    then: str
    retried: str = None
    kinds: tuple = ("publish", "play")


SETUP = {
    "s1-never": Setup(sends(b""), "beside", "dial_timeout"),
    "s1-slow": Setup(s1_slow, "beside", "dial_timeout"),
    "s0-wrong": Setup(sends(b"\x09" + bytes(3072)), "beside", "bad_bytes"),
    "http": Setup(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "beside", "bad_bytes"),
    "garbage-first": Setup(shaken_then(lambda s: s.conn.send_bytes(GARBAGE)), "beside", "bad_bytes"),
    "endless-message": Setup(shaken_then(lambda s: without_end(s, LONG_HEADER + bytes(60000))), "beside", "bad_bytes"),
    "message-by-bytes": Setup(shaken_then(lambda s: trickle(s, b"\x06" + bytes(4) + b"\x10\0\x09" + bytes(1000))), "beside", "answer_timeout"),
    "pings-endless": Setup(
        shaken_then(lambda s: without_end(s, rtmp.ChunkWriter().write(rtmp.Message(rtmp.USER, b"\0\6" + bytes(4), csid=2)) * 1000)),
        "beside",
        "answer_timeout",
    ),
    # a player would be left to wait there, as with play_restart
    "results-endless": Setup(answers(create=flood_of_results), "beside", "answer_timeout", ("publish",)),
    "chunk-size-zero": Setup(answers(create=chunk_size_zero), "beside", "bad_bytes"),
    "wrong-ids": Setup(answers(connect=wrong_id, create=wrong_id), "broken"),
    "chunk-sizes": Setup(answers(before_start=chunk_sizes), "broken"),
    "controls": Setup(answers(before_start=controls), "broken"),
    "reconnect": Setup(answers(before_start=reconnect), "broken"),
    "redirect": Setup(answers(connect=redirect), "node_refused"),
}


# --- faults of a live stream: fault(session of the broken node) ---


def garbage(s):
    s.conn.send_bytes(GARBAGE)


def endless_message(s):
    s.conn.send_bytes(LONG_HEADER + bytes(5 << 20))


def repeats(*values, count=2000):
    return lambda s: s.conn.send_bytes(command(*values) * count)


def pings(s):
    s.conn.send_bytes(rtmp.ChunkWriter().write(rtmp.Message(rtmp.USER, b"\0\6" + bytes(4), csid=2)) * 5000)


def as_a_client(s):
    """It speaks as if we were the node."""
    for values in (("connect", 1, {"app": "live"}), ("createStream", 2, None), ("publish", 3, None, "x", "live"), ("deleteStream", 4, None, 1)):
        s.conn.send_command(*values)


def ends(s):
    info = {"level": "status", "code": "NetStream.Play.UnpublishNotify", "description": "ended"}
    s.conn.send_bytes(command("onStatus", 0, None, info) * 2000)


def hang_up(s):
    s.conn.sock.shutdown(socket.SHUT_RDWR)


@dataclasses.dataclass
class Live:
    """at: whose link it is; to: the node where the session goes on, if it has to move."""

    at: str
    fault: object
    to: str = None


LIVE = {
    "garbage-to-publisher": Live("publish", garbage, "beside"),
    "garbage-to-player": Live("play", garbage, "broken"),
    "endless-message-to-publisher": Live("publish", endless_message, "beside"),
    "endless-message-to-player": Live("play", endless_message, "broken"),
    "aggregate-to-player": Live("play", lambda s: s.conn.send(rtmp.AGGREGATE, b"\x09\0\xff\xff" + bytes(20), 1), "broken"),
    "closed-to-publisher": Live("publish", hang_up, "broken"),
    "closed-to-player": Live("play", hang_up, "broken"),
    "results-to-publisher": Live("publish", repeats("_result", 2, None, 9)),
    "results-to-player": Live("play", repeats("_result", 2, None, 9)),
    "pings-to-publisher": Live("publish", pings),
    "pings-to-player": Live("play", pings),
    "commands-to-publisher": Live("publish", as_a_client),
    "commands-to-player": Live("play", as_a_client),
    "ends-to-player": Live("play", ends),
    "controls-to-player": Live("play", lambda s: controls(s, 0)),
}


# --- all of them ---


@contextlib.contextmanager
def scene(directory, fault=None):
    """A router with the broken node, the good one and its stream, and a stream name at home on the broken one."""
    with contextlib.ExitStack() as stack:
        stream, broken = beside.Beside(), BrokenNode(fault)
        stack.callback(stream.stop)
        stack.callback(broken.stop)
        r = weir.Router(directory, [stream, broken], router=TIMES, failover=BUSY)
        stack.callback(r.kill)
        r.start()
        stream.start(r)
        before = max(r.resident_kib().values())
        r.watch_peak()
        yield r, broken, r.key_on("broken").split("/")[1]
        growth = max(r.peak_kib().values()) - before
        during = stream.report()
        assert r.sanitized() or growth < GROWTH_KIB, growth
        assert during["count"] > 0 and during["worst_ms"] < 6000, during
        assert r.stop() == 0
        assert not r.raw()


def frame(i):
    return rtmp.Message(rtmp.VIDEO, b"\x17\x01\0\0\0" + struct.pack(">I", i), 1, i * 10, 6)


def still_open(c):
    with pytest.raises(TimeoutError):
        c.recv_until(lambda m: False, timeout=0.3)


def run_setup(case, kind, directory):
    with scene(directory, case.fault) as (r, broken, name), rtmp.Client(r.host, r.port) as c:
        began = time.monotonic()
        code, level = getattr(c, kind)(name, timeout=WITHIN)
        assert time.monotonic() - began < WITHIN
        assert not any(m.status[0] == "NetConnection.Connect.ReconnectRequest" for m in c.seen)
        if case.then not in ("beside", "broken"):
            assert level == "error", code
            c.expect_closed()
            r.wait_log("session_closed", kind=kind, why=case.then)
            assert not r.logs("stream_retried")
            return
        assert level == "status", code
        assert r.wait_log("stream_placed", kind=kind, app="live")["node"] == case.then
        assert [x["reason"] for x in r.logs("stream_retried")] == ([case.retried] if case.retried else [])
        if kind == "publish":
            c.send_media(frame(i) for i in range(50))
        still_open(c)


def run_live(case, directory):
    with scene(directory) as (r, broken, name), rtmp.Client(r.host, r.port) as publisher, rtmp.Client(r.host, r.port) as player:
        assert publisher.publish(name)[1] == "status"
        assert player.play(name)[1] == "status"
        began = time.monotonic()
        broken.wait(lambda n: n.players.get(name) and n.publishers.get(name))
        sent = 0

        def until_played(number):
            nonlocal sent
            until = time.monotonic() + WITHIN
            while True:
                publisher.send_media([frame(sent)])
                sent += 1
                with contextlib.suppress(TimeoutError):
                    m = player.recv_until(lambda m: m.type == rtmp.VIDEO, timeout=0.02)
                    if struct.unpack(">I", m.payload[5:9])[0] >= number:
                        return
                assert time.monotonic() < until, f"the player has nothing from frame {number} on"

        while time.monotonic() - began < REFUSED_WITHIN:
            until_played(sent)
        session = broken.publishers[name] if case.at == "publish" else broken.players[name][0]
        with contextlib.suppress(OSError):  # the router may hang up before it has heard all
            case.fault(session)
        event = "stream_moved" if case.at == "publish" else "player_rehomed"
        while case.to and not r.logs(event):
            until_played(sent)
        until_played(sent + 100)
        assert [x["node"] for x in r.logs(event)] == ([case.to] if case.to else [])
        still_open(publisher)


CASES = {f"{name}-{kind}": (run_setup, case, kind) for name, case in SETUP.items() for kind in case.kinds}
CASES |= {name: (run_live, case) for name, case in LIVE.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        yield {name: pool.submit(run, *args, tmp_path_factory.mktemp("broken")) for name, (run, *args) in CASES.items()}


@pytest.mark.parametrize("name", list(CASES))
def test_broken_node(name, results):
    results[name].result()
