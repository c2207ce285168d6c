"""A small RTMP endpoint in plain Python, for what real encoders, players and nodes cannot be made to do.

Client is an encoder or player; FakeNode a server that behaves as badly as a test needs. Both speak through Conn. All calls block,
with a deadline. Sources: RTMP 1.0 chunk stream sections 5.2-5.4, commands section 7, AMF0 section 2.
"""

import contextlib
import os
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass, field

HANDSHAKE = 1536
SET_CHUNK_SIZE, ABORT, ACK, USER, WINDOW, PEER_BANDWIDTH = 1, 2, 3, 4, 5, 6
AUDIO, VIDEO = 8, 9
DATA_AMF3, COMMAND_AMF3, DATA, COMMAND, AGGREGATE = 15, 17, 18, 20, 22
STREAM_BEGIN, STREAM_EOF, SET_BUFFER_LENGTH, PING_REQUEST, PING_RESPONSE = 0, 1, 3, 6, 7
EXTENDED = 0xFFFFFF
DEADLINE = 90.0


class Closed(Exception):
    """The peer closed the connection."""


# --- AMF0 ---------------------------------------------------------------------------------------------------------


class Undefined:
    def __repr__(self):
        return "undefined"


UNDEFINED = Undefined()


class EcmaArray(dict):
    pass


def _amf_properties(obj):
    out = b""
    for key, value in obj.items():
        name = key.encode()
        out += struct.pack(">H", len(name)) + name + amf_encode(value)
    return out + b"\0\0\x09"


def amf_encode(*values):
    out = b""
    for v in values:
        if v is None:
            out += b"\x05"
        elif v is UNDEFINED:
            out += b"\x06"
        elif isinstance(v, bool):
            out += b"\x01" + bytes([v])
        elif isinstance(v, (int, float)):
            out += b"\x00" + struct.pack(">d", v)
        elif isinstance(v, str):
            raw = v.encode("utf-8", "surrogateescape")
            long = len(raw) > 0xFFFF
            out += (b"\x0c" + struct.pack(">I", len(raw)) if long else b"\x02" + struct.pack(">H", len(raw))) + raw
        elif isinstance(v, EcmaArray):
            out += b"\x08" + struct.pack(">I", len(v)) + _amf_properties(v)
        elif isinstance(v, dict):
            out += b"\x03" + _amf_properties(v)
        elif isinstance(v, list):
            out += b"\x0a" + struct.pack(">I", len(v)) + b"".join(amf_encode(x) for x in v)
        else:
            raise TypeError(repr(v))
    return out


class _AmfReader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        if self.at + n > len(self.data):
            raise ValueError("AMF0 ends early")
        self.at += n
        return self.data[self.at - n : self.at]

    def number(self, form):
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self, n):
        return self.take(n).decode("utf-8", "surrogateescape")

    def properties(self, into):
        while True:
            name = self.text(self.number(">H"))
            if not name and self.data[self.at : self.at + 1] == b"\x09":
                self.at += 1
                return into
            into[name] = self.value()

    def value(self):
        marker = self.number("B")
        if marker == 0x00:
            return self.number(">d")
        if marker == 0x01:
            return bool(self.number("B"))
        if marker == 0x02:
            return self.text(self.number(">H"))
        if marker == 0x03:
            return self.properties({})
        if marker == 0x05:
            return None
        if marker == 0x06:
            return UNDEFINED
        if marker == 0x08:
            self.number(">I")
            return self.properties(EcmaArray())
        if marker == 0x0A:
            return [self.value() for _ in range(self.number(">I"))]
        if marker == 0x0B:
            value = self.number(">d")
            self.take(2)
            return value
        if marker == 0x0C:
            return self.text(self.number(">I"))
        raise ValueError(f"AMF0 marker {marker:#x}")


def amf_decode(data):
    reader = _AmfReader(bytes(data))
    values = []
    while reader.at < len(reader.data):
        values.append(reader.value())
    return values


# --- chunks -------------------------------------------------------------------------------------------------------


@dataclass
class Message:
    type: int
    payload: bytes
    msid: int = 0
    ts: int = 0
    csid: int = 3

    @property
    def values(self):
        """Of a command or data message."""
        skip = 1 if self.type in (COMMAND_AMF3, DATA_AMF3) and self.payload[:1] == b"\0" else 0
        return amf_decode(self.payload[skip:])

    @property
    def is_command(self):
        return self.type in (COMMAND, COMMAND_AMF3)

    @property
    def status(self):
        """(code, level) of an onStatus, else (None, None)."""
        if self.is_command and self.values[0] == "onStatus":
            info = self.values[3]
            return info.get("code"), info.get("level")
        return None, None

    def __repr__(self):
        what = self.values if self.is_command else f"{len(self.payload)} bytes"
        return f"<type {self.type} msid {self.msid} ts {self.ts} csid {self.csid}: {what}>"


def basic_header(fmt, csid, form=None):
    """form: 1, 2 or 3 bytes; the shortest by default."""
    form = form or (1 if csid < 64 else 2 if csid < 320 else 3)
    if form == 1:
        return bytes([fmt << 6 | csid])
    if form == 2:
        return bytes([fmt << 6, csid - 64])
    return bytes([fmt << 6 | 1]) + struct.pack("<H", csid - 64)


class ChunkWriter:
    """repeat_extended: write the extended timestamp again on fmt 3 (some senders do not).
    compress: use fmt 2 and 3 to start messages where the rules allow it."""

    def __init__(self, chunk_size=128, repeat_extended=True, compress=False):
        self.chunk_size = chunk_size
        self.repeat_extended = repeat_extended
        self.compress = compress
        self.last = {}

    def _fmt(self, last, m):
        if last is None or last["msid"] != m.msid or (m.ts - last["ts"]) % 2**32 >= 2**31:
            return 0
        if self.compress and (last["type"], last["length"]) == (m.type, len(m.payload)):
            return 3 if last["delta"] == (m.ts - last["ts"]) % 2**32 else 2
        return 1

    def chunks(self, m, fmt=None, form=None):
        """The message as a list of chunks, so that a test can put others between them."""
        last = self.last.get(m.csid)
        fmt = self._fmt(last, m) if fmt is None else fmt
        delta = None if fmt == 0 else (m.ts - last["ts"]) % 2**32
        time_field = m.ts % 2**32 if fmt == 0 else delta
        extended = struct.pack(">I", time_field) if time_field >= EXTENDED else b""
        header = basic_header(fmt, m.csid, form)
        if fmt < 3:
            header += min(time_field, EXTENDED).to_bytes(3, "big")
        if fmt < 2:
            header += len(m.payload).to_bytes(3, "big") + bytes([m.type])
        if fmt == 0:
            header += struct.pack("<I", m.msid)
        out = [header + extended + m.payload[: self.chunk_size]]
        again = basic_header(3, m.csid, form) + (extended if self.repeat_extended else b"")
        for at in range(self.chunk_size, len(m.payload), self.chunk_size):
            out.append(again + m.payload[at : at + self.chunk_size])
        self.last[m.csid] = {"ts": m.ts, "type": m.type, "length": len(m.payload), "msid": m.msid, "delta": delta}
        return out

    def write(self, m, fmt=None, form=None):
        return b"".join(self.chunks(m, fmt, form))


class ChunkReader:
    """Expects the extended timestamp on fmt 3, as servers write it. Follows Set Chunk Size by itself."""

    def __init__(self):
        self.chunk_size = 128
        self.buf = bytearray()
        self.streams = {}
        self.received = 0

    def feed(self, data):
        self.buf += data
        self.received += len(data)

    def next(self):
        """The next whole message, or None."""
        while True:
            done, message = self._chunk()
            if not done:
                return None
            if message is not None:
                if message.type == SET_CHUNK_SIZE:
                    self.chunk_size = struct.unpack(">I", message.payload[:4])[0]
                elif message.type == ABORT:
                    self.streams.get(struct.unpack(">I", message.payload[:4])[0], {})["part"] = bytearray()
                return message

    def _chunk(self):
        buf = self.buf
        if not buf:
            return False, None
        at = {0: 2, 1: 3}.get(buf[0] & 0x3F, 1)
        if len(buf) < at:
            return False, None
        csid = {1: buf[0] & 0x3F, 2: 64 + buf[min(1, at - 1)]}.get(at)
        if csid is None:
            csid = 64 + buf[1] + 256 * buf[2]
        fmt = buf[0] >> 6
        size = (11, 7, 3, 0)[fmt]
        if len(buf) < at + size:
            return False, None
        known = self.streams.get(csid)
        if known is None and fmt != 0:
            raise ValueError(f"csid {csid} starts with fmt {fmt}")
        s = dict(known or {"part": bytearray(), "ts": 0, "delta": 0, "extended": False})
        head = bytes(buf[at : at + size])
        at += size
        if fmt < 3:
            s["field"] = int.from_bytes(head[:3], "big")
            s["extended"] = s["field"] == EXTENDED
        if fmt < 2:
            s["length"], s["type"] = int.from_bytes(head[3:6], "big"), head[6]
        if fmt == 0:
            s["msid"] = struct.unpack("<I", head[7:11])[0]
        if s["extended"]:
            if len(buf) < at + 4:
                return False, None
            if fmt < 3:
                s["field"] = struct.unpack(">I", buf[at : at + 4])[0]
            at += 4
        starts = not s["part"]
        n = min(self.chunk_size, s["length"] - len(s["part"]))
        if len(buf) < at + n:
            return False, None
        if starts:
            if fmt == 0:
                s["ts"] = s["field"]
            else:
                s["ts"] = (s["ts"] + s["field"]) % 2**32
        elif fmt != 3:
            raise ValueError(f"csid {csid}: fmt {fmt} inside a message")
        s["part"] += buf[at : at + n]  # in place: only now is the whole chunk there
        del buf[: at + n]
        message = None
        if len(s["part"]) == s["length"]:
            message = Message(s["type"], bytes(s["part"]), s["msid"], s["ts"], csid)
            s["part"] = bytearray()
        self.streams[csid] = s
        return True, message


# --- connections --------------------------------------------------------------------------------------------------


class Conn:
    """What client and server have in common. piece: bytes per send(2); None: all at once."""

    def __init__(self, sock, chunk_size=128, piece=None, **writer):
        self.sock = sock
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = ChunkReader()
        self.writer = ChunkWriter(128, **writer)
        self.announce = chunk_size
        self.piece = piece
        self.held = None
        self.seen = []  # every message received
        self.answer_pings = True
        self.lock = threading.RLock()

    def close(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # sending

    def send_bytes(self, data):
        if self.held is not None:
            self.held += data
            return
        self.sock.settimeout(DEADLINE)
        if not self.piece:
            self.sock.sendall(data)
            return
        for at in range(0, len(data), self.piece):
            self.sock.sendall(data[at : at + self.piece])

    @contextlib.contextmanager
    def one_packet(self):
        """Everything sent inside leaves in one write."""
        self.held = bytearray()
        yield
        data, self.held = bytes(self.held), None
        self.send_bytes(data)

    def send(self, type, payload, msid=0, ts=0, csid=3, fmt=None, form=None):
        with self.lock:
            self.send_bytes(self.writer.write(Message(type, payload, msid, ts, csid), fmt, form))

    def send_command(self, *values, msid=0, csid=3, ts=0, amf3=False):
        payload = amf_encode(*values)
        if amf3:
            self.send(COMMAND_AMF3, b"\0" + payload, msid, ts, csid)
        else:
            self.send(COMMAND, payload, msid, ts, csid)

    def send_user(self, event, *args):
        self.send(USER, struct.pack(f">H{len(args)}I", event, *args), csid=2)

    def send_chunk_size(self, size):
        self.send(SET_CHUNK_SIZE, struct.pack(">I", size), csid=2)
        self.writer.chunk_size = size

    def send_status(self, code, level="status", msid=1, **more):
        self.send_command("onStatus", 0, None, {"level": level, "code": code, "description": code, **more}, msid=msid, csid=5)

    def send_media(self, messages):
        for m in messages:
            self.send(m.type, m.payload, m.msid, m.ts, m.csid)

    # receiving

    def read_exactly(self, n, timeout=DEADLINE):
        until = time.monotonic() + timeout
        data = b""
        while len(data) < n:
            data += self._read(n - len(data), until)
        return data

    def _read(self, n, until):
        left = until - time.monotonic()
        readable = select.poll()  # select() knows only the first 1,024 descriptors
        readable.register(self.sock, select.POLLIN)
        if left <= 0 or not readable.poll(left * 1000):
            raise TimeoutError("nothing came in time")
        try:
            data = self.sock.recv(n)
        except ConnectionResetError as e:
            raise Closed("reset") from e
        if not data:
            raise Closed("end of stream")
        return data

    def recv(self, timeout=DEADLINE):
        """The next message. Closed, TimeoutError."""
        until = time.monotonic() + timeout
        while True:
            m = self.reader.next()
            if m is None:
                self.reader.feed(self._read(65536, until))
                continue
            self.seen.append(m)
            if m.type == USER and self.answer_pings and struct.unpack(">H", m.payload[:2])[0] == PING_REQUEST:
                self.send(USER, struct.pack(">H", PING_RESPONSE) + m.payload[2:6], csid=2)
            return m

    def recv_until(self, match, timeout=DEADLINE):
        """The first message for which match(m) holds; what came before it is in self.seen."""
        until = time.monotonic() + timeout
        while True:
            m = self.recv(max(0.0, until - time.monotonic()))
            if match(m):
                return m

    def expect_command(self, name, timeout=DEADLINE):
        return self.recv_until(lambda m: m.is_command and m.values[0] == name, timeout).values

    def expect_status(self, timeout=DEADLINE):
        """(code, level) of the next onStatus."""
        return self.recv_until(lambda m: m.status[0] is not None, timeout).status

    def last_status(self):
        """(code, level) of the last onStatus before the peer closes."""
        return [m.status for m in self.expect_closed() if m.status[0]][-1]

    def expect_closed(self, timeout=DEADLINE):
        """Reads until the peer closes; returns what came, as messages."""
        first = len(self.seen)
        until = time.monotonic() + timeout
        with contextlib.suppress(Closed):
            while True:
                self.recv(max(0.0, until - time.monotonic()))
        return self.seen[first:]

    def recv_media(self, count, types=(AUDIO, VIDEO), timeout=DEADLINE):
        until = time.monotonic() + timeout
        found = []
        while len(found) < count:
            found.append(self.recv_until(lambda m: m.type in types, max(0.0, until - time.monotonic())))
        return found


class Client(Conn):
    """small: of what it does not read the kernel keeps no more than some 300 KB."""

    def __init__(self, host, port, chunk_size=128, piece=None, before=b"", source=None, small=False, **writer):
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        sock.settimeout(DEADLINE)
        if small:  # on both sides: the peer's buffer grows with the segments
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        if source:
            sock.bind((source, 0))
        sock.connect((host, port))
        super().__init__(sock, chunk_size, piece, **writer)
        self.host, self.port = host, port
        self.transaction = 0
        if before:  # a PROXY header
            self.send_bytes(before)

    def next_transaction(self):
        self.transaction += 1
        return self.transaction

    def handshake(self, wait=True, c2=None):
        """wait=False: sends C0, C1 and some C2 without looking at the answer, which read_handshake() takes later."""
        c1 = struct.pack(">II", 0, 0) + os.urandom(HANDSHAKE - 8)
        self.send_bytes(b"\x03" + c1)
        if not wait:
            self.send_bytes(c2 or os.urandom(HANDSHAKE))
            return c1
        s0s1 = self.read_exactly(1 + HANDSHAKE)
        s2 = self.read_exactly(HANDSHAKE)
        assert s0s1[0] == 3, s0s1[0]
        self.send_bytes(c2 or s0s1[1:])
        return c1, s0s1[1:], s2

    def read_handshake(self):
        return self.read_exactly(1 + 2 * HANDSHAKE)

    def send_connect(self, app="live", tc_url=None, amf3=False, **more):
        obj = {"app": app, "type": "nonprivate", "flashVer": "FMLE/3.0 (test)", **more}
        tc_url = f"rtmp://{self.host}:{self.port}/{app}" if tc_url is None else tc_url
        if tc_url:
            obj["tcUrl"] = tc_url
        if self.announce != self.writer.chunk_size:
            self.send_chunk_size(self.announce)
        self.send_command("connect", self.next_transaction(), obj, amf3=amf3)

    def connect(self, app="live", **more):
        self.send_connect(app, **more)
        return self.expect_command("_result")

    def create_stream(self):
        tr = self.next_transaction()
        self.send_command("createStream", tr, None)
        while True:
            values = self.expect_command("_result")
            if values[1] == tr:
                return int(values[3])

    def send_publish(self, name, msid=1, kind="live"):
        self.send_command("publish", self.next_transaction(), None, name, kind, msid=msid, csid=8)

    def send_play(self, name, msid=1, start=-2000):
        self.send_command("play", self.next_transaction(), None, name, start, msid=msid, csid=8)

    def open(self, app="live", **more):
        """Handshake, connect and createStream; returns the stream id."""
        self.handshake()
        self.connect(app, **more)
        return self.create_stream()

    def publish(self, name, app="live", timeout=DEADLINE, **more):
        """Returns (code, level) of the answer."""
        msid = self.open(app, **more)
        self.send_publish(name, msid)
        return self.expect_status(timeout)

    def play(self, name, app="live", timeout=DEADLINE, **more):
        msid = self.open(app, **more)
        self.send_play(name, msid)
        return self.expect_status(timeout)


# --- a server that can misbehave -----------------------------------------------------------------------------------


@dataclass
class NodeBehaviour:
    """What a FakeNode does with each connection; a test changes it while the node runs."""

    accept: str = "serve"  # or: hang, close, reset, close_after_handshake, die_at_connect
    publish: str = "start"  # or: once (badname while somebody has it), badname, close, start_close, silent, denied
    play: str = "start"  # or: close, silent, not_found
    gate: threading.Event = None  # publish and play are answered once it is set
    door: threading.Event = None  # handshakes, too
    chunk_size: int = 4096
    proxy: bool = False  # a PROXY header stands before C0
    own_clock: bool = False  # each player's times begin at 0
    sample_access: bool = False  # players are told of it behind their Play.Start, as by nginx-rtmp
    deaf: int = 0  # so many of the players to come are sent no media, as if another process had them
    keeps: bool = True  # what it receives stays in session.messages


@dataclass
class NodeSession:
    conn: Conn
    connect: dict = None
    connect_values: list = None
    name: str = None
    kind: str = None
    proxy: bytes = b""
    messages: list = field(default_factory=list)
    reading: threading.Event = field(default_factory=threading.Event)  # cleared: it takes nothing more
    closed: bool = False
    zero: int = None  # time of the first message it was sent, with own_clock
    deaf: bool = False
    relayed: int = 0  # messages it was sent


class FakeNode:
    """Sessions are in .sessions in the order they came; wait() blocks until something is true of the node."""

    def __init__(self, port, host="127.0.0.1", **behaviour):
        self.does = NodeBehaviour(**behaviour)
        self.changed = threading.Condition()
        self.sessions = []
        self.players = {}
        self.publishers = {}
        self.accepted = 0
        self.id = None
        self.host, self.port = host, port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=512)
        self.stopping = False
        self.threads = []
        self.hung = []
        self.acceptor = threading.Thread(target=self._accept, daemon=True)
        self.acceptor.start()

    @property
    def rtmp(self):
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def refuse(self):
        """From now on nothing listens at the port."""
        self.stopping = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.acceptor.join(5)

    def hang(self):
        """From now on it takes nothing, and says nothing."""
        self.does.accept = "hang"
        for s in list(self.sessions):
            s.reading.clear()

    def stop(self):
        self.refuse()
        for s in list(self.sessions):
            s.conn.close()
            s.reading.set()
        for sock in self.hung:
            sock.close()
        for waited_for in (self.does.gate, self.does.door):
            if waited_for:
                waited_for.set()
        for t in self.threads:
            t.join(5)

    def wait(self, condition, timeout=DEADLINE):
        """condition(node) -> something true, which is returned."""
        until = time.monotonic() + timeout
        with self.changed:
            while True:
                result = condition(self)
                if result:
                    return result
                left = until - time.monotonic()
                assert left > 0, f"fake node: not within {timeout} s; sessions: {self.sessions}"
                self.changed.wait(left)

    def _note(self):
        with self.changed:
            self.changed.notify_all()

    def _accept(self):
        while not self.stopping:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._note()
            if self.does.accept == "hang":
                self.hung.append(sock)
                continue
            if self.does.accept == "close":
                sock.close()
                continue
            session = NodeSession(Conn(sock, self.does.chunk_size))
            if self.does.accept == "reset":
                session.conn.reset()
                continue
            self.sessions.append(session)
            thread = threading.Thread(target=self._serve, args=(session,), daemon=True)
            self.threads.append(thread)
            thread.start()

    def _serve(self, s):
        try:
            self._handshake(s)
            if self.does.accept == "close_after_handshake":
                return
            s.reading.set()
            while s.reading.wait():
                m = s.conn.recv(timeout=3600)
                if self.does.keeps:
                    s.messages.append(m)
                else:
                    s.conn.seen.clear()
                if m.is_command and not self._command(s, m):
                    return
                if m.type in (AUDIO, VIDEO, DATA, DATA_AMF3) and s.kind == "publish":
                    self._relay(s, m)
                self._note()
        except (Closed, OSError, ValueError):
            pass
        finally:
            self._leave(s)
            s.conn.close()
            s.closed = True
            self._note()

    def _handshake(self, s):
        if self.does.proxy:
            s.proxy = self._proxy_header(s.conn)
        c0c1 = s.conn.read_exactly(1 + HANDSHAKE)
        assert c0c1[0] == 3
        if self.does.door:
            self.does.door.wait(60)
        s.conn.send_bytes(b"\x03" + bytes(8) + os.urandom(HANDSHAKE - 8) + c0c1[1:])
        s.conn.read_exactly(HANDSHAKE)

    @staticmethod
    def _proxy_header(conn):
        head = conn.read_exactly(1)
        if head == b"P":
            while not head.endswith(b"\r\n"):
                head += conn.read_exactly(1)
            return head
        head += conn.read_exactly(15)
        return head + conn.read_exactly(struct.unpack(">H", head[14:16])[0])

    def _command(self, s, m):
        """False: close."""
        v = m.values
        if v[0] == "connect":
            s.connect, s.connect_values = v[2], v
            if self.does.accept == "die_at_connect":
                self.refuse()
                return False
            s.conn.send(WINDOW, struct.pack(">I", 5000000), csid=2)
            s.conn.send(PEER_BANDWIDTH, struct.pack(">IB", 5000000, 2), csid=2)
            s.conn.send_chunk_size(self.does.chunk_size)
            info = {"level": "status", "code": "NetConnection.Connect.Success", "objectEncoding": 0}
            s.conn.send_command("_result", v[1], {"fmsVer": "FMS/3,0,1,123", "capabilities": 31}, info)
        elif v[0] == "createStream":
            s.conn.send_command("_result", v[1], None, 1)
        elif v[0] in ("publish", "play"):
            s.kind, s.name = v[0], v[3]
            self._note()
            if self.does.gate:
                self.does.gate.wait(60)
            return self._publish(s) if v[0] == "publish" else self._play(s)
        elif v[0] in ("deleteStream", "closeStream"):
            self._leave(s)
        return True

    def _publish(self, s):
        does = self.does.publish
        if does == "once":
            does = "badname" if s.name.split("?")[0] in self.publishers else "start"
        if does == "badname" or does == "denied":
            code = "NetStream.Publish.BadName" if does == "badname" else "NetStream.Publish.Unauthorized"
            s.conn.send_status(code, "error")
            return True
        if does in ("start", "start_close"):
            self.publishers[s.name.split("?")[0]] = s
            s.conn.send_status("NetStream.Publish.Start")
        return does not in ("close", "start_close")

    def _play(self, s):
        does = self.does.play
        if does == "not_found":
            s.conn.send_status("NetStream.Play.StreamNotFound", "error")
        s.deaf = self.does.deaf > 0
        self.does.deaf -= s.deaf
        if does == "start":
            with s.conn.lock:  # who has read Play.Start misses no media after it
                s.conn.send_user(STREAM_BEGIN, 1)
                self.players.setdefault(s.name.split("?")[0], []).append(s)
                s.conn.send_status("NetStream.Play.Start")
                if self.does.sample_access:
                    s.conn.send(DATA, amf_encode("|RtmpSampleAccess", True, True), 1)
        return does not in ("close", "not_found")

    def _relay(self, s, m):
        for player in list(self.players.get(s.name.split("?")[0], [])):  # others leave meanwhile
            if player.deaf:
                continue
            player.relayed += 1
            payload = m.payload
            if m.type == DATA and payload.startswith(amf_encode("@setDataFrame")):
                payload = payload[len(amf_encode("@setDataFrame")) :]
            with contextlib.suppress(OSError):
                csid = {AUDIO: 6, VIDEO: 7}.get(m.type, 5)
                player.conn.send(m.type, payload, 1, self._time(player, m), csid)

    def _time(self, player, m):
        if not self.does.own_clock:
            return m.ts
        if player.zero is None:
            player.zero = m.ts
        return max(0, m.ts - player.zero)

    def _leave(self, s):
        name = (s.name or "").split("?")[0]
        if self.publishers.get(name) is s:
            del self.publishers[name]
        if s in self.players.get(name, []):
            self.players[name].remove(s)
