"""Garbage in: every malformed opening ends in bounded time, with its own reason in the log."""

import contextlib
import socket
import struct
import time

import procs
import pytest
import rtmp

TIMES = {"handshake_timeout": "1s", "idle_timeout": "2s"}
WITHIN = 8  # seconds: less than the default times
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(189)
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12)


@pytest.fixture
def hostile(fake, router):
    """make() -> a router with short times, and one fake node that must never hear of this."""
    node = fake("f1")
    r = router([node], router=TIMES, limits={"unrouted": "64KiB"})
    yield r
    assert not node.sessions
    healthy = rtmp.Client(r.host, r.port)
    with healthy:
        assert healthy.publish("still-alive")[1] == "status"


def closes(sock):
    """The peer closes or resets in time."""
    sock.settimeout(WITHIN)
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while sock.recv(65536):
            pass
    assert time.monotonic() - began < WITHIN


@pytest.mark.parametrize(
    "opening, why",
    [
        (b"\x05" + bytes(1536), "version_bad"),
        (b"\x00" + bytes(1536), "version_bad"),
        (b"\xf3\x00\x04\x7f\x00\x00\x01", "version_bad"),
        (b"\x06" + bytes(1536), "rtmpe"),
        (TLS_HELLO, "tls"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        (b"POST /open/1 HTTP/1.1\r\n\r\n", "http"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "ssh"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n", "proxy_unexpected"),
        (PROXY_V2, "proxy_unexpected"),
        (b"", "handshake_timeout"),
        (b"\x03", "handshake_timeout"),
        (b"\x03" + bytes(1000), "handshake_timeout"),
        (b"\x03" + bytes(1536) + bytes(700), "handshake_timeout"),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{v[:8]!r}+{len(v)}",
)
def test_openings(opening, why, hostile):
    with socket.create_connection((hostile.host, hostile.port)) as s:
        s.sendall(opening)
        closes(s)
    hostile.wait_why(why)


def test_slow_handshake_has_one_deadline(hostile):
    """A byte now and then does not prolong it."""
    began = time.monotonic()
    with socket.create_connection((hostile.host, hostile.port)) as s:
        s.settimeout(0.1)
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - began < WITHIN:
                s.sendall(b"\x03")
                with contextlib.suppress(TimeoutError):
                    if not s.recv(1):
                        break
    assert time.monotonic() - began < WITHIN
    hostile.wait_why("handshake_timeout")


def chunk(csid, type, body, length=None):
    """As chunks of 128 bytes; or a first chunk that announces another length."""
    if length is None:
        return rtmp.ChunkWriter().write(rtmp.Message(type, body, csid=csid))
    return bytes([csid]) + bytes(3) + length.to_bytes(3, "big") + bytes([type]) + bytes(4) + body


def connect_with(value):
    return rtmp.amf_encode("connect", 1.0) + value


def deep(levels):
    return b"\x03\x00\x01a" * levels + b"\x05" + b"\0\0\x09" * levels


@pytest.mark.parametrize(
    "bytes_after_handshake, why",
    [
        (b"\xc3" + bytes(200), "chunk_bad"),  # fmt 3 on a chunk stream that has no header yet
        (chunk(3, 20, bytes(128), length=0xFFFFFF), "message_long"),
        (chunk(2, rtmp.SET_CHUNK_SIZE, struct.pack(">I", 0)), "chunk_bad"),
        (chunk(2, rtmp.SET_CHUNK_SIZE, b"\x01"), "chunk_bad"),
        (chunk(3, 20, connect_with(deep(30))), "command_bad"),
        (chunk(3, 20, connect_with(b"\x0c\xff\xff\xff\xff")), "command_bad"),
        (chunk(3, 20, connect_with(b"\x0a\xff\xff\xff\xff")), "command_bad"),
        (chunk(3, 20, b"\x00"), "command_bad"),
        (b"", "idle_timeout"),
    ],
    ids=lambda v: v if isinstance(v, str) else f"{len(v)}",
)
def test_after_the_handshake(bytes_after_handshake, why, hostile, client):
    c = client(hostile)
    c.handshake()
    c.send_bytes(bytes_after_handshake)
    closes(c.sock)
    hostile.wait_why(why)


def test_flood_before_publish(hostile, client):
    c = client(hostile)
    c.open()
    with contextlib.suppress(OSError):
        for i in range(200):
            c.send(rtmp.AUDIO, bytes(4000), 1, i, 4)
    closes(c.sock)
    hostile.wait_why("unrouted_bytes")


def test_many_chunk_streams_left_open(hostile, client):
    """A first chunk of a long message on every chunk stream there is."""
    c = client(hostile)
    c.handshake()
    with contextlib.suppress(OSError):
        for csid in range(3, 2000):
            c.send_bytes(rtmp.basic_header(0, csid) + bytes(3) + (100000).to_bytes(3, "big") + b"\x09" + bytes(4) + bytes(128))
    closes(c.sock)
    procs.eventually(lambda: hostile.logs("session_closed"))


def test_idle_after_connect(hostile, client):
    c = client(hostile)
    c.open()
    closes(c.sock)
    hostile.wait_why("idle_timeout")


def test_hostile_connections_leave_nothing(hostile, client):
    mark = hostile.mark()
    openings = [b"\x05", TLS_HELLO, b"GET / HTTP/1.1\r\n\r\n", b"\x03" + bytes(1536 + 1536) + b"\xc3" * 100, b"\x06"]
    before = hostile.descriptors()
    for i in range(500):
        with socket.create_connection((hostile.host, hostile.port)) as s:
            with contextlib.suppress(ConnectionError):
                s.sendall(openings[i % len(openings)])
                closes(s)
    procs.eventually(lambda: hostile.descriptors() == before, what=f"as many descriptors as before: {before}")
    assert hostile.logs("session_closed", mark) or hostile.logs("connection_refused", mark)


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
    r = router([fake("f1")])
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
