"""Processes whose output is an event source: a thread collects the lines, tests wait for one."""

import contextlib
import functools
import os
import re
import select
import signal
import socket
import subprocess
import threading
import time
from typing import NamedTuple

DEADLINE = 90.0  # for what comes at once on a quiet machine
ENVIRONMENT = dict(os.environ)  # as it was: pytest changes it while other threads start processes


class Lines:
    """Lines as they come. A position in it (len) marks "from now on". fetch() brings what has been written and not been read."""

    def __init__(self, fetch=lambda: None):
        self.come = []
        self.fetch = fetch
        self.changed = threading.Condition()
        self.ended = False

    @property
    def items(self):
        """All that has been written so far, also when the thread that collects it has not had a processor since."""
        self.fetch()
        return self.come

    def __len__(self):
        return len(self.items)

    def add(self, item):
        with self.changed:
            self.come.append(item)
            self.changed.notify_all()

    def end(self):
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait(self, match, timeout=DEADLINE, since=0, what="a line"):
        """The first item from `since` on for which match(item) holds."""
        until = time.monotonic() + timeout
        at = since
        with self.changed:
            while True:
                while at < len(self.come):
                    if match(self.come[at]):
                        return self.come[at]
                    at += 1
                left = until - time.monotonic()
                if self.ended or left <= 0:
                    why = "output ended" if self.ended else f"not within {timeout} s"
                    raise AssertionError(f"{what}: {why}; last lines:\n" + self.tail(since))
                self.changed.wait(left)

    def wait_count(self, count, timeout=DEADLINE, what="items"):
        until = time.monotonic() + timeout
        with self.changed:
            while len(self.come) < count:
                left = until - time.monotonic()
                if self.ended or left <= 0:
                    raise AssertionError(f"{len(self.come)} of {count} {what} in {timeout} s, ended: {self.ended}")
                self.changed.wait(left)
            return self.come[:count]

    def tail(self, since=0, count=30):
        return "\n".join(str(x) for x in self.come[since:][-count:])


class Pipe:
    """Makes lines of what a process writes, for whichever thread asks first."""

    def __init__(self, file, parse):
        self.file, self.parse = file, parse
        self.lines = Lines(self.fetch)
        self.lock = threading.Lock()
        self.rest = b""
        os.set_blocking(file.fileno(), False)

    def fetch(self):
        """All that is there now."""
        with self.lock:
            while not self.lines.ended:
                try:
                    data = os.read(self.file.fileno(), 65536)
                except BlockingIOError:
                    return
                *whole, self.rest = (self.rest + data).split(b"\n")
                if not data and self.rest:
                    whole.append(self.rest)
                for raw in whole:
                    self.lines.add(self.parse(raw.decode("utf-8", "replace")))
                if not data:
                    self.lines.end()

    def collect(self):
        readable = select.poll()
        readable.register(self.file, select.POLLIN)
        while not self.lines.ended:
            readable.poll()
            self.fetch()


class Proc:
    """A program in a process group of its own. stderr is collected as lines; stdout too (text), or through `reader(file)`."""

    def __init__(self, argv, name=None, cwd=None, env=None, reader=None, parse=None):
        self.name = name or os.path.basename(argv[0])
        self.popen = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**ENVIRONMENT, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        err = Pipe(self.popen.stderr, parse or str)
        self.err, collectors = err.lines, [err.collect]
        if reader:
            collectors.append(lambda: reader(self.popen.stdout))
        else:
            out = Pipe(self.popen.stdout, str)
            self.out = out.lines
            collectors.append(out.collect)
        self.threads = [threading.Thread(target=collect, daemon=True) for collect in collectors]
        for t in self.threads:
            t.start()

    @property
    def pid(self):
        return self.popen.pid

    @property
    def running(self):
        return self.popen.poll() is None

    def signal(self, sig):
        self.popen.send_signal(sig)

    def wait(self, timeout=DEADLINE):
        """The exit code; the output is complete then."""
        code = self.popen.wait(timeout)
        for t in self.threads:
            t.join(DEADLINE)
        return code

    def kill(self):
        """The whole group, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def stop(self, timeout=DEADLINE):
        """SIGTERM, and the group's rest with SIGKILL. Returns the exit code."""
        if self.running:
            self.signal(signal.SIGTERM)
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            pass
        return self.kill()


def run(argv, timeout=60, env=None):
    """subprocess.CompletedProcess with text output."""
    env = {**ENVIRONMENT, **(env or {})}
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=timeout, env=env
    )


class Ports:
    """Below the range that outgoing connections use, so that none of them can take one meanwhile; and a part of it for
    each process that runs tests: who holds the first port of a part has the others."""

    FIRST, END, PART = 12000, 32000, 2000

    def __init__(self):
        self.part = next(p for p in range((self.END - self.FIRST) // self.PART) if self._hold(self._first(p)))
        self.next = 0
        self.lock = threading.Lock()

    def _first(self, part):
        return self.FIRST + part * self.PART

    def _hold(self, port):
        self.held = socket.socket()
        try:
            self.held.bind(("127.0.0.1", port))
        except OSError:
            self.held.close()
            return False
        return True

    def free(self, host):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        while True:
            with self.lock:
                self.next = self.next % (self.PART - 1) + 1
                port = self._first(self.part) + self.next
            with socket.socket(family, socket.SOCK_STREAM) as s, contextlib.suppress(OSError):
                s.bind((host, port))
                return s.getsockname()[1]


@functools.cache
def ports():
    return Ports()


def free_port(host="127.0.0.1"):
    """Nobody else is given it for long, so that what listens there may be stopped and started again."""
    return ports().free(host)


def eventually(check, timeout=DEADLINE, what="condition", every=0.02):
    """For what gives no event (a statistics page): asks until check() returns something true, and returns it."""
    until = time.monotonic() + timeout
    while True:
        result = check()
        if result:
            return result
        assert time.monotonic() < until, f"{what}: not within {timeout} s; last: {result!r}"
        time.sleep(every)


# --- processes that stand still ---


def _stands_still(pid):
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rpartition(")")[2].split()[0] == "T"


def _naps(pid):
    """How often it has gone to sleep by itself: a loop does so once a turn."""
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", f.read(), re.M).group(1))


def _go_on(pid):
    """Returns when it has turned a few times."""
    before = _naps(pid)
    os.kill(pid, signal.SIGCONT)
    eventually(lambda: _naps(pid) >= before + 3, what=f"process {pid} turns")


@contextlib.contextmanager
def stood_still(pids, seconds):
    """None of them runs for so long; then they go on, each when the one before it has turned."""
    stopped = []
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            stopped.append(pid)
        eventually(lambda: all(map(_stands_still, pids)), what="they stand still")
        until = time.monotonic() + seconds
        yield
        time.sleep(max(0, until - time.monotonic()))
        while stopped:
            _go_on(stopped.pop(0))
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Connection(NamedTuple):
    local: int  # ports
    remote: int
    waiting: int  # bytes that have come and were not read
    accepted: bool


def connections():
    """One end each of those there are, by IPv4."""
    found = []
    with open("/proc/net/tcp") as f:
        for line in list(f)[1:]:
            _, local, remote, state, queues, _, _, _, _, inode, *_ = line.split()
            if state == "01":
                ports = (int(end.split(":")[1], 16) for end in (local, remote))
                found.append(Connection(*ports, int(queues.split(":")[1], 16), inode != "0"))
    return found
