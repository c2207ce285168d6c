"""A live stream beside a test, in a process of its own, so that what the test does in Python does not slow it: a fake node, a
publisher, a player. `beside.py NODE_PORT ROUTER_PORT NAME` prints "live" when it is; on SIGUSR1 a line of JSON with what has happened
since the last one; it ends on SIGTERM."""

import contextlib
import json
import os
import signal
import statistics
import struct
import sys
import threading
import time

import procs
import rtmp

EVERY = 0.01  # seconds between two messages


class Beside:
    """For the test: the process. report() -> {"accepted", "apps", "count", "median_ms", "worst_ms"}; node: for the router's list."""

    def __init__(self):
        self.port = procs.free_port()
        self.id = "beside"
        self.rtmp = f"127.0.0.1:{self.port}"
        self.proc = None
        self.reports = 0

    def start(self, router):
        name = router.key_on(self.id, app="beside").split("/")[1]
        self.proc = procs.Proc([sys.executable, __file__, str(self.port), str(router.port), name], name="beside")
        self.proc.out.wait(lambda line: line == "live", what="the stream beside")
        self.report()
        return self

    def report(self):
        """accepted and apps: of the node since it started; the times: since the last report."""
        self.reports += 1
        self.proc.signal(signal.SIGUSR1)
        n = self.reports
        line = self.proc.out.wait(lambda line: line.startswith("{") and json.loads(line)["report"] == n, what="a report")
        return json.loads(line)

    def stop(self):
        if self.proc:
            self.proc.stop()


def publish(port, name, stopping):
    with rtmp.Client("127.0.0.1", port) as c:
        assert c.publish(name, app="beside")[1] == "status"
        for i in range(1 << 30):
            if stopping.wait(EVERY):
                return
            c.send(rtmp.VIDEO, b"\x17\x01\0\0\0" + struct.pack(">d", time.monotonic()) + bytes(1000), 1, i * 10, 6)


def play(port, name, delays, live, stopping):
    with rtmp.Client("127.0.0.1", port) as c:
        assert c.play(name, app="beside")[1] == "status"
        while not stopping.is_set():
            m = c.recv(timeout=60)
            if m.type == rtmp.VIDEO:
                delays.append(time.monotonic() - struct.unpack(">d", m.payload[5:13])[0])
                live.set()
            c.seen.clear()


def main(node_port, router_port, name):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    node = rtmp.FakeNode(node_port, keeps=False)
    stopping, live, delays = threading.Event(), threading.Event(), []
    for target, more in ((publish, (stopping,)), (play, (delays, live, stopping))):
        threading.Thread(target=end_with, args=(target, router_port, name, *more), daemon=True).start()
    live.wait()
    print("live", flush=True)
    reports = 0
    while signal.sigwait({signal.SIGUSR1, signal.SIGTERM}) == signal.SIGUSR1:
        reports += 1
        recent, delays[:] = delays[:], []
        apps = [s.connect["app"] for s in node.sessions if s.connect]
        times = {"median_ms": round(statistics.median(recent) * 1000, 2), "worst_ms": round(max(recent) * 1000, 1)} if recent else {}
        print(json.dumps({"report": reports, "accepted": node.accepted, "apps": apps, "count": len(recent), **times}), flush=True)
    stopping.set()
    node.stop()


def end_with(target, *args):
    """The stream must not end: if it does, so does the process."""
    try:
        target(*args)
    except BaseException as e:
        print(f"{target.__name__}: {e!r}", file=sys.stderr, flush=True)
        os._exit(1)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
