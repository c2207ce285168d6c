"""What the internet sends: each input ends in bounded time and memory with its own reason in the log, no node hears of it, and a live
stream beside it does not notice. The cases run side by side over one router."""

import concurrent.futures
import contextlib
import dataclasses
import os
import resource
import socket
import struct
import time

import beside
import procs
import pytest
import rtmp
import weir

TIMES = {"handshake_timeout": "3s", "idle_timeout": "4s"}
WITHIN_MS = 9000  # in which every session is over: less than the default times
GROWTH_KIB = 24 * 1024  # of the router while all cases run: 64 KiB for each, and the free blocks and messages that a worker keeps
BUSY = {"stall": "10s"}  # nodes in Python on a busy machine are slow to answer pings
STALL_MS = 6000  # longer than anything but a stream that stands still
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(189)
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n"
CASES = {}


@dataclasses.dataclass
class Case:
    """act(c) is given a connected client. Then the router closes with that reason; or, why None, the client publishes."""

    name: str
    act: object
    why: str
    listener: str = "plain"


def case(name, why, act, listener="plain"):
    assert name not in CASES
    CASES[name] = Case(name, act, why, listener)


def raw(*parts):
    return lambda c: c.send_bytes(b"".join(parts))


# --- openings ---

for name, opening, why in (
    ("version-5", b"\x05" + bytes(1536), "version_bad"),
    ("version-0", b"\x00" + bytes(1536), "version_bad"),
    ("random", b"\xf3\x00\x04\x7f\x00\x00\x01", "version_bad"),
    ("rtmpe", b"\x06" + bytes(1536), "rtmpe"),
    ("tls", TLS_HELLO, "tls"),
    ("http-get", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
    ("rtmpt", b"POST /open/1 HTTP/1.1\r\n\r\n", "http"),
    ("ssh", b"SSH-2.0-OpenSSH_9.2\r\n", "ssh"),
    ("proxy-v1-unexpected", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy_unexpected"),
    ("proxy-v2-unexpected", PROXY_V2 + b"\x21\x11\0\x0c" + bytes(12), "proxy_unexpected"),
    ("silence", b"", "handshake_timeout"),
    ("c0-only", b"\x03", "handshake_timeout"),
    ("c1-short", b"\x03" + bytes(1000), "handshake_timeout"),
    ("c2-absent", b"\x03" + bytes(1536), "handshake_timeout"),
    ("c2-short", b"\x03" + bytes(1536) + bytes(700), "handshake_timeout"),
):
    case(name, why, raw(opening))


def drip(c):
    """A byte now and then does not prolong the deadline."""
    for _ in range(100):
        c.send_bytes(b"\x03")
        with contextlib.suppress(TimeoutError):
            c.read_exactly(1, timeout=0.2)


case("byte-by-byte", "handshake_timeout", drip)
case("c2-wrong", None, lambda c: c.handshake(c2=os.urandom(1536)))


def glued(c):
    """Everything from C2 to createStream in one packet; the publish comes later."""
    c.send_bytes(b"\x03" + bytes(1536))
    with c.one_packet():
        c.send_bytes(bytes(1536))
        c.send_connect(c.app)
        c.send_command("createStream", 2, None)
    c.read_handshake()
    c.opened = True


case("c2-glued", None, glued)
case("c2-glued-with-64k", "unrouted_bytes", lambda c: c.send_bytes(b"\x03" + bytes(3072) + chunk(4, 8, bytes(9000)) * 9))


# --- PROXY headers ---

for name, header, why in (
    ("proxy-none", b"\x03" + bytes(1536), "proxy_bad"),
    ("proxy-tls", TLS_HELLO, "proxy_bad"),
    ("proxy-v1-address", b"PROXY TCP4 300.0.0.1 1.2.3.4 1 2\r\n", "proxy_bad"),
    ("proxy-v1-port", b"PROXY TCP4 1.2.3.4 1.2.3.4 70000 2\r\n", "proxy_bad"),
    ("proxy-v1-endless", b"PROXY TCP4 " + b"1" * 200, "proxy_bad"),
    ("proxy-v1-cut", b"PROXY TCP4 1.2.3.4", "handshake_timeout"),
    ("proxy-v2-long", PROXY_V2 + b"\x21\x11\xff\xff" + bytes(60000), "proxy_bad"),
    ("proxy-v2-version", PROXY_V2 + b"\x31\x11\0\x0c" + bytes(12), "proxy_bad"),
    ("proxy-v2-command", PROXY_V2 + b"\x2f\x11\0\x0c" + bytes(12), "proxy_bad"),
    ("proxy-v2-short-address", PROXY_V2 + b"\x21\x11\0\x04" + bytes(4), "proxy_bad"),
    ("proxy-v2-cut", PROXY_V2 + b"\x21\x11\x03\xe8" + bytes(500), "handshake_timeout"),
):
    case(name, why, raw(header), "proxied")
case("proxy-stranger", "proxy_untrusted", raw(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n"), "strangers")


# --- chunks ---


def chunk(csid, type, body, length=None, fmt=0):
    """As chunks of 128 bytes; or a first chunk that announces another length."""
    if length is None:
        return rtmp.ChunkWriter().write(rtmp.Message(type, body, csid=csid))
    return rtmp.basic_header(fmt, csid) + bytes(3) + length.to_bytes(3, "big") + bytes([type]) + bytes(4) + body


def after_handshake(*parts):
    def act(c):
        c.handshake()
        c.send_bytes(b"".join(parts))

    return act


def chunk_size(*body):
    return after_handshake(chunk(2, rtmp.SET_CHUNK_SIZE, bytes(body)))


def on_streams(count, length, sent):
    """Messages of that length on so many chunk streams, and a chunk of so many bytes of each."""
    size = chunk(2, rtmp.SET_CHUNK_SIZE, struct.pack(">I", sent))
    return after_handshake(size, *(chunk(csid, 9, b"\x17" + bytes(sent - 1), length) for csid in range(3, 3 + count)))


def abort(*body):
    return chunk(2, rtmp.ABORT, bytes(body))


for name, why, act in (
    ("chunk-size-0", "chunk_bad", chunk_size(0, 0, 0, 0)),
    ("chunk-size-high-bit", "chunk_bad", chunk_size(0x80, 0, 0, 1)),
    ("chunk-size-short", "chunk_bad", chunk_size(1)),
    ("chunk-size-empty", "chunk_bad", chunk_size()),
    ("fmt-3-first", "chunk_bad", after_handshake(b"\xc3" + bytes(200))),
    ("fmt-2-first", "chunk_bad", after_handshake(b"\x83" + bytes(200))),
    ("16m-on-64-streams", "message_long", on_streams(64, 0xFFFFFF, 1)),
    ("9k-on-64-streams", "chunk_bad", on_streams(64, 9000, 1)),
    ("9k-on-4-streams", "message_long", on_streams(4, 9000, 4096)),
    ("60000-streams", "chunk_bad", after_handshake(*(chunk(csid, 8, b"x") for csid in range(3, 60003)))),
    ("length-changed", "chunk_bad", after_handshake(chunk(3, 20, bytes(128), 500), chunk(3, 20, bytes(128), 400))),
    ("type-changed", "chunk_bad", after_handshake(chunk(3, 20, bytes(128), 500), chunk(3, 18, bytes(128), 500))),
    ("message-20k", "message_long", after_handshake(chunk(3, 20, bytes(128), 20000))),
    ("abort-unknown", None, after_handshake(abort(0, 0, 0, 77), abort(0xFF, 0xFF, 0xFF, 0xFF))),
    ("abort-short", None, after_handshake(abort(0, 3))),
    ("abort-begun", None, after_handshake(chunk(4, 8, bytes(128), 500), abort(0, 0, 0, 4))),
    ("window-0", None, after_handshake(chunk(2, rtmp.WINDOW, bytes(4)))),
    ("window-max", None, after_handshake(chunk(2, rtmp.WINDOW, b"\xff" * 4))),
    ("window-short", None, after_handshake(chunk(2, rtmp.WINDOW, b"\xff"))),
    ("bandwidth-odd", None, after_handshake(chunk(2, rtmp.PEER_BANDWIDTH, b"\0\0\0\0\x77"))),
    ("acks", None, after_handshake(chunk(2, rtmp.ACK, b"\xff" * 4) * 1000)),
    ("pings", None, after_handshake(chunk(2, rtmp.USER, b"\0\6" + bytes(4)) * 1000)),
    ("pings-endless", "unrouted_bytes", after_handshake(chunk(2, rtmp.USER, b"\0\6" + bytes(4)) * 10000)),
    ("user-control-odd", None, after_handshake(*(chunk(2, rtmp.USER, struct.pack(">H", e)) for e in range(64)))),
    ("odd-types", None, after_handshake(*(chunk(3, t, b"\0odd") for t in (0, 7, 10, 11, 14, 16, 19, 21, 23, 99, 255)))),
    ("aggregate-bad", "chunk_bad", after_handshake(chunk(3, rtmp.AGGREGATE, b"\x09\0\xff\xff" + bytes(20)))),
    ("media-first", "unrouted_bytes", after_handshake(chunk(4, 8, bytes(4000)) * 20)),
):
    case(name, why, act)


def chunk_size_of(size):
    def act(c):
        c.handshake()
        c.announce = size

    return act


def interleaved(c):
    """connect in pieces, with whole messages between them."""
    c.handshake()
    connect = rtmp.amf_encode("connect", 1, {"app": c.app, "tcUrl": f"rtmp://x/{c.app}", "pad": "p" * 2000})
    for piece in c.writer.chunks(rtmp.Message(rtmp.COMMAND, connect)):
        c.send_bytes(piece + c.writer.write(rtmp.Message(rtmp.AUDIO, b"\xaf\0", csid=4)))
    c.expect_command("_result")
    c.connected = True


def at_time(ts):
    def act(c):
        c.handshake()
        c.send_command("connect", 1, {"app": c.app, "tcUrl": f"rtmp://x/{c.app}", "pad": "p" * 300}, ts=ts)
        c.expect_command("_result")
        c.connected = True

    return act


case("chunk-size-1", None, chunk_size_of(1))
case("chunk-size-max", None, chunk_size_of(2**31 - 1))
case("interleaved", None, interleaved)
for ts in (0xFFFFFE, 0xFFFFFF, 0x1000000, 2**31, 2**32 - 1):
    case(f"time-{ts:x}", None, at_time(ts))


# --- commands ---


def connect_with(value, transaction=None):
    number = rtmp.amf_encode(1.0) if transaction is None else transaction
    return after_handshake(chunk(3, 20, rtmp.amf_encode("connect") + number + value))


def nested(levels):
    return b"\x03\x00\x01a" * levels + b"\x05" + b"\0\0\x09" * levels


def properties(count):
    return rtmp.amf_encode({"app": "x", **{f"p{i}": i for i in range(count)}})


for name, value in (
    ("amf-nesting", nested(30)),
    ("amf-string-count", b"\x0c\xff\xff\xff\xff"),
    ("amf-array-count", b"\x0a\xff\xff\xff\xff"),
    ("amf-reference", b"\x07\0\0"),
    ("amf-object-end", b"\x09"),
    ("amf-marker", b"\x66"),
    ("amf-string-cut", b"\x02\x00\x20short"),
    ("amf-object-cut", b"\x03\x00\x03app\x02\x00\x04live"),
    ("amf-string-5000", rtmp.amf_encode({"app": "x" * 5000})),
    ("amf-300-properties", properties(300)),
    ("amf-300-values", rtmp.amf_encode(*range(300))),
):
    case(name, "command_bad", connect_with(value))
for name, payload in (("empty", b""), ("number", b"\0" * 9), ("cut", b"\x02\x00\x07conn"), ("marker", b"\x00")):
    case(f"command-{name}", "command_bad", after_handshake(chunk(3, 20, payload)))
case("command-amf3", "command_bad", after_handshake(chunk(3, 17, b"\x11\x0a\x0b\x01")))
case("command-amf3-empty", None, after_handshake(chunk(3, 17, b"")))


def connects(make, transaction=1):
    """make(app) -> the connect object, encoded."""

    def act(c):
        number = transaction if isinstance(transaction, bytes) else rtmp.amf_encode(transaction)
        c.handshake()
        c.send(rtmp.COMMAND, rtmp.amf_encode("connect") + number + make(c.app))
        c.expect_command("_result")
        c.connected = True

    return act


def ecma(app):
    return b"\x08\xff\xff\xff\xff" + rtmp.amf_encode({"app": app})[1:]


def twice(app):
    """Of two properties of one name the last one counts."""
    return b"\x03" + b"".join(b"\0\3app" + rtmp.amf_encode(v) for v in ("nobody", app)) + b"\0\0\x09"


def without_app(arguments):
    """It may connect, but what it publishes has no application."""

    def act(c):
        c.handshake()
        c.send(rtmp.COMMAND, rtmp.amf_encode("connect") + arguments)
        c.expect_command("_result")
        c.create_stream()
        c.send_publish("x")

    return act


case("amf-ecma-count", None, connects(ecma))
case("amf-duplicate-key", None, connects(twice))
case("amf-nan-id", None, connects(lambda app: rtmp.amf_encode({"app": app}), b"\0\x7f\xf8" + bytes(6)))
case("amf-string-for-id", "name_bad", without_app(rtmp.amf_encode("x", {"app": "live"})))
case("amf-number-for-app", "name_bad", without_app(rtmp.amf_encode(1, {"app": 5})))
case("amf-array-for-object", "name_bad", without_app(rtmp.amf_encode(1, ["app", "live"])))
case("amf-numbers-for-strings", None, connects(lambda app: rtmp.amf_encode({"app": app, "tcUrl": 5, "flashVer": 6, "objectEncoding": "x"})))
case("amf-200-properties", None, connects(lambda app: rtmp.amf_encode({"app": app, **{f"p{i}": i for i in range(200)}})))


def then(*commands):
    """After connect and createStream."""

    def act(c):
        c.open(c.app)
        c.opened = True
        with c.one_packet():
            for values in commands:
                c.send_command(*values, msid=1)

    return act


def before_connect(*values):
    def act(c):
        c.handshake()
        c.send_command(*values)

    return act


def publish_without_stream(c):
    c.handshake()
    c.connect(c.app)
    c.send_publish("x")


def idle_after_connect(c):
    c.open(c.app)


def never_reads(c):
    """What a client without a stream is answered is a few kilobytes, whether it reads them or not."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    c.send_bytes(b"\x03" + bytes(3072))
    c.send_connect(c.app)
    for i in range(8):
        c.send_command("createStream", i, None)
    c.send_bytes(chunk(2, rtmp.USER, b"\0\6" + bytes(4)) * 1000)
    time.sleep(1)  # the case is about a client that does nothing


for name, why, act in (
    ("connect-twice", "command_bad", then(("connect", 9, {"app": "x"}))),
    ("publish-before-connect", "command_bad", before_connect("publish", 1, None, "x", "live")),
    ("play-before-connect", "command_bad", before_connect("play", 1, None, "x")),
    ("stream-before-connect", "command_bad", before_connect("createStream", 1, None)),
    ("publish-before-stream", "command_bad", publish_without_stream),
    ("1000-streams", "command_bad", then(*[("createStream", i, None) for i in range(1000)])),
    ("1000-releases", None, then(*[("releaseStream", i, None, "x") for i in range(1000)])),
    ("unknown-commands", None, then(*[(f"unknown{i}", i, None, i) for i in range(500)])),
    ("answers-unasked", None, then(*[("_result", i, None, 1) for i in range(500)], ("_error", 1, None), ("onStatus", 0, None, {}))),
    ("idle-after-connect", "idle_timeout", idle_after_connect),
    ("never-reads", "idle_timeout", never_reads),
    ("delete-first", None, then(("deleteStream", 5, None, 1), ("closeStream", 0, None), ("FCUnpublish", 6, None, "x"))),
    ("pause-first", None, then(("pause", 5, None, True, 0), ("seek", 6, None, -1), ("receiveAudio", 0, None, "x"))),
):
    case(name, why, act)


# --- names ---


def publishing(*values):
    def act(c):
        c.open(c.app)
        c.send_command("publish", 5, None, *values, msid=1, csid=8)

    return act


def playing(name):
    def act(c):
        c.open(c.app)
        c.send_play(name)

    return act


for name, value in (
    ("empty", ""),
    ("query-only", "?token=1"),
    ("slashes", "///"),
    ("dot", "."),
    ("dots", ".."),
    ("dots-first", "../../etc/passwd"),
    ("dots-inside", "a/../b"),
    ("nul", "a\0b"),
    ("line", "a\r\nb"),
    ("delete", "a\x7fb"),
    ("500", "x" * 500),
    ("3000", "x" * 3000),
):
    case(f"name-{name}", "name_bad", publishing(value, "live"))
    case(f"play-{name}", "name_bad", playing(value))
for name, values in (("number", (5,)), ("null", (None,)), ("object", ({},)), ("missing", ())):
    case(f"name-{name}", "name_bad", publishing(*values))
case("name-64k", "message_long", publishing("x" * 65000))
case("app-300", "name_bad", lambda c: c.open("x" * 300))
NAMES = {"name-percent": "a%2fb%2e%2e", "name-not-utf8": "caf\udce9\udcff", "name-blank": "a b", "name-long": "x" * 300}
for name in NAMES:
    case(name, None, lambda c: c.handshake())


# --- with a stream ---


def enhanced(c):
    """Enhanced RTMP of the future: unknown packet types, codecs, extensions without end, many tracks, cut anywhere."""
    publish(c)
    head = [bytes([0x80 | frame << 4 | packet]) for frame in (0, 1, 2, 5, 7) for packet in range(16)]
    bodies = [b"", b"\0", b"hvc1", b"????" + bytes(30), b"\xff" * 200, b"\x97\0" * 300, b"\x01\x97\0\0\0" * 500]
    for i, (h, body) in enumerate((h, body) for h in head for body in bodies):
        c.send(rtmp.VIDEO, h + body, 1, i, 6)
        c.send(rtmp.AUDIO, bytes([0x90 | h[0] & 0xF]) + body, 1, i, 4)
    c.send(rtmp.DATA, rtmp.amf_encode("@setDataFrame", "onMetaData") + nested(100), 1, 0, 5)
    c.send(rtmp.DATA, b"\x0c\xff\xff\xff\xff", 1, 0, 5)


case("enhanced", None, enhanced)


# --- all of them ---


def publish(c):
    if not c.opened:
        if not c.connected:
            if not c.shaken:
                c.handshake()
            c.connect(c.app)
        c.create_stream()
    c.send_publish(NAMES.get(c.app, "x"))
    assert c.expect_status() == ("NetStream.Publish.Start", "status")
    c.published = True


class HostileClient(rtmp.Client):
    """Knows how far it has come."""

    opened = connected = shaken = published = False

    def handshake(self, **how):
        self.shaken = True
        return super().handshake(**how)


@dataclasses.dataclass
class Outcome:
    address: str = ""
    error: str = ""
    line: dict = None


def read_to_end(c):
    until = time.monotonic() + rtmp.DEADLINE
    with contextlib.suppress(rtmp.Closed):
        while True:
            c._read(65536, until)


def run_case(case, r):
    """From an address of its own: two cases on two listeners could have the same port at the same time."""
    out, mark = Outcome(), r.mark()
    try:
        with HostileClient(r.host, r.ports[case.listener], source=f"127.0.1.{1 + list(CASES).index(case.name)}") as c:
            c.app = case.name
            host, port = c.sock.getsockname()
            out.address = f"{host}:{port}"
            if case.why:
                with contextlib.suppress(OSError, rtmp.Closed):
                    case.act(c)
                read_to_end(c)
            else:
                case.act(c)
                if not c.published:
                    publish(c)
        ends = ("session_closed", "connection_refused")
        out.line = r.proc.err.wait(lambda x: x.get("client") == out.address and x.get("event") in ends, since=mark, what=case.name)
    except Exception as e:
        out.error = f"{type(e).__name__}: {e}"
    return out


@dataclasses.dataclass
class Results:
    outcomes: dict
    quiet: dict
    during: dict
    apps: list
    growth_kib: int
    sanitized: bool
    bad: list


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """All cases have run, beside a live stream."""
    with contextlib.ExitStack() as stack:
        stream = beside.Beside()
        stack.callback(stream.stop)
        ports = {name: procs.free_port() for name in ("plain", "proxied", "strangers")}
        required = {"proxy_protocol": "required"}
        listen = [
            {"address": f"127.0.0.1:{ports['plain']}"},
            {"address": f"127.0.0.1:{ports['proxied']}", **required, "trust": ["127.0.0.0/8"]},
            {"address": f"127.0.0.1:{ports['strangers']}", **required, "trust": ["192.0.2.0/24"]},
        ]
        config = {"router": {**TIMES, "listen": listen}, "log": {"unrouted": 100000}, "failover": BUSY}
        r = weir.Router(tmp_path_factory.mktemp("hostile"), [stream], **config)
        r.port, r.ports = ports["plain"], ports
        stack.callback(r.kill)
        r.start()
        stream.start(r)
        for _ in range(3):  # what a worker keeps for good is there afterwards
            assert not run_case(CASES["c2-glued"], r).error
        time.sleep(1)  # the times of a quiet second
        quiet = stream.report()
        before = max(r.resident_kib().values())
        r.watch_peak()
        with concurrent.futures.ThreadPoolExecutor(len(CASES)) as pool:
            running = {name: pool.submit(run_case, case, r) for name, case in CASES.items()}
            outcomes = {name: future.result() for name, future in running.items()}
        growth = max(r.peak_kib().values()) - before
        during = stream.report()
        sanitized = r.sanitized()
        assert r.stop() == 0
        yield Results(outcomes, quiet, during, during["apps"][len(quiet["apps"]) :], growth, sanitized, r.raw())


@pytest.mark.parametrize("name", list(CASES))
def test_input(name, results):
    case, out = CASES[name], results.outcomes[name]
    assert not out.error
    assert int(out.line.get("duration_ms", 0)) < WITHIN_MS, out.line
    assert out.line["why"] == (case.why or "client_closed"), out.line
    assert results.apps.count(name) == (0 if case.why else 1), "connections to the node"


def test_others_did_not_notice(results):
    served = sum(1 for case in CASES.values() if not case.why)
    assert results.during["accepted"] - results.quiet["accepted"] == served, "connections to the node"
    assert not results.bad
    assert results.during["count"] > 0, results.during
    assert results.during["worst_ms"] < STALL_MS and results.during["median_ms"] < results.quiet["median_ms"] + 300, (
        results.quiet,
        results.during,
    )


def test_memory_of_all(results):
    assert results.sanitized or results.growth_kib < GROWTH_KIB, results.growth_kib


# --- many at once ---


@pytest.fixture
def descriptors():
    """Room for twelve thousand connections here and in the router."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 12000:
        pytest.skip("RLIMIT_NOFILE is under 12000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


HALF_OPEN = (b"", b"\x03" + bytes(1000), b"\x03" + bytes(1536), b"\x03" + bytes(1536 + 1535))


class Crowd:
    """Connections that each send one of the openings and read nothing. They end with RST, which leaves no port behind."""

    def __init__(self, r, openings=HALF_OPEN):
        self.r = r
        self.openings = openings
        self.sockets = []

    def add(self, count):
        for i in range(count):
            s = socket.create_connection((self.r.host, self.r.port))
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.sockets.append(s)
            s.sendall(self.openings[i % len(self.openings)])

    def stop(self):
        for s in self.sockets:
            s.close()


def connections(r):
    """Sockets of the only worker, as many as have been accepted."""
    (pid,) = r.workers().values()
    return sum(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{pid}/fd"))


def test_ten_thousand_half_open_handshakes(router, stack, descriptors):
    """They weigh at most 64 MiB together; the next ones push out the oldest, who has a stream is served, and the log stays short."""
    stream, most, more = beside.Beside(), 10000, 500
    stack.append(stream)
    limits, log = {"connections": 2 * most}, {"unrouted": 10}
    r = router([stream], router={"handshake_timeout": "5m"}, limits=limits, log=log, failover=BUSY)
    stream.start(r)
    before, sockets = max(r.resident_kib().values()), connections(r)
    crowd = Crowd(r)
    stack.append(crowd)
    stream.report()
    crowd.add(most)
    procs.eventually(lambda: connections(r) == sockets + most, what="all accepted")
    assert r.sanitized() or max(r.resident_kib().values()) - before <= 64 * 1024
    assert not r.logs("session_closed")
    mark = r.mark()
    crowd.add(more)
    for s in crowd.sockets[:more]:
        s.settimeout(30)
        with contextlib.suppress(ConnectionError):
            while s.recv(65536):
                pass
    with rtmp.Client(r.host, r.port) as c:
        assert c.publish("still-served")[1] == "status"
    lines = lambda: r.logs("session_closed", mark, why="limit_unrouted")  # noqa: E731
    unsaid = lambda: sum(int(x["count"]) for x in r.logs("lines_suppressed", mark, why="limit_unrouted"))  # noqa: E731
    procs.eventually(lambda: len(lines()) + unsaid() >= more, what="every closing counted")
    assert len(lines()) <= 10 * (1 + len(r.logs("lines_suppressed", mark)) + 5)
    during = stream.report()
    assert during["worst_ms"] < STALL_MS, during


def test_a_thousand_strangers_at_their_worst(router, fake, stack, descriptors):
    """All that one may hold before it publishes or plays: 64 KiB of memory each (docs/security.md)."""
    count, node = 1000, fake("f1")
    r = router([node], router={"idle_timeout": "5m"}, limits={"connections": 2 * count})
    connect = rtmp.amf_encode("connect", 1, {"app": "x", "a": "x" * 4000, "b": "x" * 4000, "c": "x" * 2000})
    worst = (
        b"\x03"
        + bytes(3072)
        + chunk(2, rtmp.USER, b"\0\6" + bytes(4)) * 100
        + chunk(3, 20, connect)
        + chunk(3, 20, rtmp.amf_encode("createStream", 1)) * 8
        + chunk(2, rtmp.SET_CHUNK_SIZE, struct.pack(">I", 680))
        + b"".join(chunk(csid, 9, bytes(680), 2000) for csid in range(4, 18))
    )
    before, sockets = max(r.resident_kib().values()), connections(r)
    crowd = Crowd(r, (worst,))
    stack.append(crowd)
    crowd.add(count)
    answered = b"NetConnection.Connect.Success"
    for s in crowd.sockets:
        s.settimeout(30)
        got = b""
        while answered not in got:
            got += s.recv(65536)
    assert connections(r) == sockets + count and not r.logs("session_closed") and not node.accepted
    assert r.sanitized() or max(r.resident_kib().values()) - before <= count * 64


def test_a_flood_of_garbage_leaves_nothing(fake, router, client):
    node = fake("f1")
    r = router([node], router=TIMES)
    openings = [b"\x05", TLS_HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\x03" + bytes(1536 + 1536) + b"\xc3" * 100, b"\x06"]
    before = r.descriptors()
    for i in range(1000):
        with socket.create_connection((r.host, r.port)) as s, contextlib.suppress(ConnectionError):
            s.settimeout(rtmp.DEADLINE)
            s.sendall(openings[i % len(openings)])
            while s.recv(65536):
                pass
    procs.eventually(lambda: r.descriptors() == before, what=f"as many descriptors as before: {before}")
    assert not node.accepted
    said = lambda: len(r.logs("session_closed")) + sum(int(x["count"]) for x in r.logs("lines_suppressed"))  # noqa: E731
    procs.eventually(lambda: said() == 1000, what="every connection counted in the log")
    assert client(r).publish("fine")[1] == "status"


def test_a_hundred_thousand_names_played(fake, router, client):
    """Played names are stored nowhere: neither memory nor the store grows with them, nor does the number of connections to nodes."""
    node = fake("f1", keeps=False)
    r = router([node], limits={"connections_per_address": 10})
    c = client(r)
    c.play("warm")
    live = r.dir / "live"
    size = lambda: sum(f.stat().st_blocks for f in live.rglob("*")) // 2  # noqa: E731
    before, stored = max(r.resident_kib().values()), size()
    for first in range(0, 100000, 1000):
        with c.one_packet():
            for i in range(first, first + 1000):
                c.send_play(f"name-{i}")
    c.send_play("last")
    node.wait(lambda n: n.players.get("last"))
    node.wait(lambda n: sum(not s.closed for s in list(n.sessions)) <= 2)
    assert size() - stored <= 1024
    assert r.sanitized() or max(r.resident_kib().values()) - before <= 16 * 1024
    for _ in range(9):
        client(r)
    with pytest.raises((rtmp.Closed, OSError)):
        client(r).handshake()
    r.wait_why("limit_address")


def test_stream_after_stream_is_not_connection_after_connection(fake, router, client):
    """Of each that the router closes a port towards the node stays in use for a minute."""
    node = fake("f1", keeps=False)
    r = router([node])
    c = client(r)
    c.play("first")
    for i in range(300):
        c.send_play(f"name-{i}")
        procs.eventually(lambda: len(node.sessions) > min(i, 48), what="the node has it")
    node.wait(lambda n: n.players.get("name-299"))
    assert len(node.sessions) <= 55
    other = client(r)
    assert other.play("x")[1] == "status"


def test_a_live_name_is_not_to_be_had(fake, router, client):
    """Whoever has another address, or other arguments, is told so; the publisher does not notice."""
    node = fake("f1")
    r = router([node], placement={"duplicate_publish": "takeover_same_client"}, log={"unrouted": 100})
    owner = client(r, source="127.0.0.1")
    assert owner.publish("x?key=1")[1] == "status"
    for i in range(20):
        thief = client(r, source="127.0.0.2")
        assert thief.publish(f"x?key={i % 2 + 2}") == ("NetStream.Publish.BadName", "error")
        thief.close()
    r.wait_closed(20, why="duplicate")
    owner.send(rtmp.VIDEO, b"\x17\x01\0\0\0mine", 1, 40, 6)
    node.wait(lambda n: any(m.payload.endswith(b"mine") for m in n.sessions[0].messages))
    assert len(node.sessions) == 1


def flood(c, stop):
    """A publisher that sends whatever is taken."""
    c.send_chunk_size(65536)
    data = c.writer.write(rtmp.Message(rtmp.VIDEO, b"\x17\x01\0\0\0" + bytes(50000), 1, 0, 6))
    with contextlib.suppress(OSError, rtmp.Closed):
        while not stop():
            c.send_bytes(data)


def test_floods_and_those_who_do_not_read(fake, router, client, stack):
    """Publishers far over any rate, players that read nothing or a byte now and then: bounded, and the stream beside them goes on."""
    stream, own = beside.Beside(), fake("own", keeps=False)
    stack.append(stream)
    r = router([stream, own], relay={"buffer": "1MiB", "stall_timeout": "1s"}, failover={**BUSY, "gop_bytes": "1MiB"})
    stream.start(r)
    names = [r.key_on("own").split("/")[1]]
    names.append(r.key_on("own", taken=[f"live/{names[0]}"]).split("/")[1])
    publishers = [client(r) for _ in names]
    for c, name in zip(publishers, names):
        assert c.publish(name)[1] == "status"
    players = [client(r, small=True) for _ in range(8)]
    for i, c in enumerate(players):
        assert c.play(names[i % 2])[1] == "status"
    before = max(r.resident_kib().values())
    r.watch_peak()
    stream.report()
    closed = lambda: len(r.logs("session_closed", why="stalled"))  # noqa: E731
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        until = time.monotonic() + rtmp.DEADLINE
        running = [pool.submit(flood, c, lambda: closed() >= 7 or time.monotonic() > until) for c in publishers]
        drops = 0
        while not all(f.done() for f in running):
            with contextlib.suppress(TimeoutError, rtmp.Closed):
                players[0].read_exactly(1, timeout=0.5)
                drops += 1
            time.sleep(0.1)
    assert closed() >= 7
    during = stream.report()
    assert during["worst_ms"] < STALL_MS, during
    # What each may hold, in MiB (players: twice relay.buffer and a message; publishers: that buffer, what is kept, and a message),
    # and the free blocks that the worker keeps
    assert r.sanitized() or max(r.peak_kib().values()) - before <= (8 * (2 + 4) + 2 * (1 + 1 + 4) + 16) * 1024
    assert not r.logs("session_closed", kind="publish")


# --- the log ---


def test_names_cannot_forge_log_lines(fake, router, client):
    r = router([fake("f1")])
    c = client(r)
    c.open()
    c.send_publish('x\nts=2026-01-01T00:00:00.000Z level=error event=store_failed error="forged"')
    c.expect_closed()
    r.wait_log("session_closed", why="name_bad")
    with rtmp.Client(r.host, r.port) as other:
        other.open(app='a" event=store_failed x="', flashVer='v" event=store_failed error="\n\x1b[31m')
    r.wait_log("session_closed", why="client_closed")
    assert not r.logs("store_failed")
    assert not r.raw()


def test_flood_of_player_commands(fake, router, client):
    """A player that sends without end and never reads is bounded, and harms nobody."""
    r = router([fake("f1", keeps=False)])
    c = client(r)
    c.play("x")
    before = max(r.resident_kib().values())
    c.sock.settimeout(1)
    with contextlib.suppress(OSError):
        for _ in range(3000):
            c.sock.sendall(c.writer.write(rtmp.Message(rtmp.COMMAND, rtmp.amf_encode("junk", 0, None, "y" * 3000), 1, 0, 8)))
    assert r.sanitized() or max(r.resident_kib().values()) - before < 64 * 1024
    with rtmp.Client(r.host, r.port) as other:
        assert other.publish("fine")[1] == "status"
