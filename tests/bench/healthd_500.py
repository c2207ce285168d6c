#!/usr/bin/env python3
"""What weir-healthd costs: probes many nodes (rtmp and stat, once a second each) that one process answers for, over real
sockets, each node on a loopback address of its own; prints checks per second and processor time. Ends by itself.

    tests/bench/healthd_500.py [--nodes 500] [--seconds 30] [--streams 20] [--build build/release]
"""

import argparse
import asyncio
import os
import pathlib
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
import healthd  # noqa: E402
import procs  # noqa: E402
import rtmp  # noqa: E402
import weir  # noqa: E402

HELLO = 1 + 2 * 1536  # C0 C1 C2


def rtmp_answer():
    """S0 S1 S2 and _result of connect, as they go on the wire."""
    writer = rtmp.ChunkWriter()
    payload = rtmp.amf_encode("_result", 1.0, {"fmsVer": "x"}, {"level": "status", "code": "NetConnection.Connect.Success"})
    return b"\x03" + bytes(2 * 1536) + writer.write(rtmp.Message(rtmp.COMMAND, payload, csid=3))


class Responder:
    """All nodes: they differ by the address that was connected to."""

    def __init__(self, streams):
        page = healthd.nginx_page(streams=[(f"cam{i}", 1000 + i) for i in range(streams)]).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        self.http = head % len(page) + page
        self.rtmp = rtmp_answer()
        self.rtmp_port, self.http_port = procs.free_port(), procs.free_port()
        self.counts = {"rtmp": 0, "stat": 0}
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    async def _answer_rtmp(self, reader, writer):
        try:
            await reader.readexactly(HELLO + 1)
            writer.write(self.rtmp)
            self.counts["rtmp"] += 1
            while await reader.read(4096):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    async def _answer_http(self, reader, writer):
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(self.http)
            self.counts["stat"] += 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        writer.close()

    def _run(self):
        asyncio.set_event_loop(self.loop)
        for answer, port in ((self._answer_rtmp, self.rtmp_port), (self._answer_http, self.http_port)):
            self.loop.run_until_complete(asyncio.start_server(answer, "0.0.0.0", port, backlog=2048))
        self.loop.run_forever()

    def stop(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    with open(f"/proc/{pid}/statm") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(args, directory, responder):
    entries = []
    for i in range(args.nodes):
        host = f"127.0.{1 + i // 250}.{1 + i % 250}"
        url = f"http://{host}:{responder.http_port}/stat"
        entries.append({"id": f"n{i}", "rtmp": f"{host}:{responder.rtmp_port}", "stat": url})
    router = weir.Router(directory, entries).start()
    health = healthd.Healthd(router)
    try:
        health.start()
        procs.eventually(lambda: len(health.logs("node_verdict", state="up")) == args.nodes, 60, "all nodes are up")
        time.sleep(3)
        before, cpu, began = dict(responder.counts), cpu_seconds(health.proc.pid), time.monotonic()
        time.sleep(args.seconds)
        took = time.monotonic() - began
        cpu = cpu_seconds(health.proc.pid) - cpu
        rates = {kind: (responder.counts[kind] - before[kind]) / took for kind in before}
        down = len(health.logs("node_verdict", state="down"))
        print(
            f"{args.nodes} nodes, {args.streams} streams each, {took:.0f} s: {rates['rtmp']:.0f} rtmp and "
            f"{rates['stat']:.0f} stat checks per second, {100 * cpu / took:.1f} % of one core, "
            f"{resident_mib(health.proc.pid):.1f} MiB, {down} false alarms"
        )
        return 0 if down == 0 and min(rates.values()) > 0.95 * args.nodes else 1
    finally:
        health.stop()
        router.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--build", default=str(ROOT / "build" / "release"))
    args = parser.parse_args()
    os.environ["WEIR_BUILD"] = args.build
    responder = Responder(args.streams)
    try:
        with tempfile.TemporaryDirectory(prefix="weir-bench-") as directory:
            return measure(args, directory, responder)
    finally:
        responder.stop()


if __name__ == "__main__":
    sys.exit(main())
