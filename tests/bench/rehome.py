#!/usr/bin/env python3
"""What moving costs its viewers: one of three nodes is killed, hangs, or is drained while publishers and players are on them,
through one worker of Weir with weir-healthd and weir-admin, in the default configuration. Each message has a number and the time
it was sent. Prints Markdown: medians of the runs, lowest and highest.

    tests/bench/rehome.py [--runs 3] [--publishers 300] [--players 600] [--kbits 300] [--fps 10] [--events kill,hang,drain]
        [--json FILE] [--doc FILE] [--cores 0,1] [--build DIR] [--load LOAD] [--set relay.share_playback=on] [--without healthd]

Ends by itself, and whatever it started ends with it. Exit code 1: a message was lost, repeated or damaged, or a client cut off.
"""

import argparse
import contextlib
import json
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time
import urllib.request

import programs
from programs import ROOT, WRONG, Load, Program, procs, weir

NODES = 3
LEFT = 1  # the node that something happens to
KNOWN_S = 3  # healthd knows the nodes
SETTLE_S = 7  # failover.reach and a group of pictures: all is kept that will be
MOVED_WITHIN_S = 30
AFTER_S = 2
EVENTS = {"kill": "killed", "hang": "hangs (`SIGSTOP`)", "drain": "drained"}
LABELS = {
    "sessions": "sessions on that node",
    "moved_s": "all are on others after, s",
    "longest_ms": "longest time a message took to a viewer, ms",
    "before_ms": "the same in the seconds before, ms",
    "wrong": "messages lost, repeated, damaged; clients cut off",
}


class Bench:
    """Nodes, Weir and clients, running; ended at the end."""

    def __init__(self, args, stack):
        self.args = args
        self.load, self.settings = args.load, args.settings
        self.relay_core, self.load_core = args.cores
        self.dir = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-")))
        # In memory, where Weir's live store is by default
        self.store = stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-", dir="/dev/shm"))
        rate = {"kbits": args.kbits, "fps": args.fps, "audio_us": 1000000 // args.fps}
        ports = [procs.free_port() for _ in range(NODES)]
        self.nodes = [self._kept(stack, Load(self, "node", port, **rate)) for port in ports]
        self._start_weir(stack, ports)
        counts = {"publishers": args.publishers, "players": args.players, "streams": args.publishers}
        self.client = self._kept(stack, Load(self, "client", self.port, **counts, **rate))
        self.client.wait_ready()

    @staticmethod
    def _kept(stack, program):
        stack.callback(program.stop)
        return program

    def _start_weir(self, stack, ports):
        self.port, self.admin_port = procs.free_port(), procs.free_port()
        config = {
            "cluster": {"name": "bench", "store": f"lmdb:{self.store}/store", "live": f"{self.store}/live"},
            "nodes": [{"id": f"n{i}", "rtmp": f"127.0.0.1:{port}"} for i, port in enumerate(ports)],
            "healthd": {"checks": ["rtmp"]},
            "router": {"workers": 1, "listen": [{"address": f"127.0.0.1:{self.port}"}], "shutdown_grace": "100ms"},
            "admin": {"listen": f"127.0.0.1:{self.admin_port}"},
        }
        file = self.dir / "weir.yaml"
        file.write_text(weir.to_yaml(weir.merge(config, self.settings)))
        directory = pathlib.Path(self.args.build) / "bin"
        for name, core, port in (
            ("router", self.relay_core, self.port),
            ("admin", self.load_core, self.admin_port),
            ("healthd", self.load_core, None),
        ):
            if name in self.args.without:
                continue
            program = self._kept(stack, Program([directory / f"weir-{name}", "-c", file], core, self.dir, f"weir-{name}"))
            if port:
                programs.wait_listening(port, program)
        time.sleep(KNOWN_S)

    def happen(self, event):
        if event == "drain":
            url = f"http://127.0.0.1:{self.admin_port}/api/v1/nodes/n{LEFT}/state"
            body = json.dumps({"state": "drain"}).encode()
            headers = {"Content-Type": "application/json"}
            urllib.request.urlopen(urllib.request.Request(url, body, headers, method="PUT"), timeout=10).close()
            return
        for pid in self.nodes[LEFT].pids():
            os.kill(pid, signal.SIGKILL if event == "kill" else signal.SIGSTOP)

    def measure(self, event):
        time.sleep(SETTLE_S)
        self.client.report()
        time.sleep(AFTER_S)
        before = self.client.report()
        there = [n.report()["live"] for n in self.nodes]
        began = time.monotonic()
        self.happen(event)
        others = [n for i, n in enumerate(self.nodes) if i != LEFT]
        while sum(n.report()["live"] for n in others) < sum(there):
            assert time.monotonic() - began < MOVED_WITHIN_S, f"{event}: not all have moved within {MOVED_WITHIN_S} s"
            time.sleep(0.02)
        took = time.monotonic() - began
        time.sleep(AFTER_S)
        after = self.client.report()
        return {
            "sessions": there[LEFT],
            "moved_s": took,
            "longest_ms": after["latency_us"]["max"] / 1000,
            "before_ms": before["latency_us"]["max"] / 1000,
            "wrong": sum(after[k] for k in WRONG),
        }


def number(v):
    return str(v) if isinstance(v, int) else programs.number(v)


def cell(values):
    spread = f" ({number(min(values))} to {number(max(values))})" if len(set(values)) > 1 else ""
    return number(statistics.median(values)) + spread


def table(args, results):
    """results: {event: [figures of a run, ...]}"""
    events = [e for e in args.events if results[e]]
    runs = max(len(results[e]) for e in events)
    title = f"{args.publishers:,} publishers, {args.kbits} kbit/s and {2 * args.fps} messages a second each, {args.players:,} players; one of 3 nodes is"
    lines = [
        f"| {title} ({runs} run{'s' if runs > 1 else ''}) | " + " | ".join(EVENTS[e] for e in events) + " |",
        "| --- " * (len(events) + 1) + "|",
    ]
    for figure, label in LABELS.items():
        lines.append(f"| {label} | " + " | ".join(cell([r[figure] for r in results[e]]) for e in events) + " |")
    return "\n".join(lines)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--publishers", type=int, default=300)
    parser.add_argument("--players", type=int, default=600)
    parser.add_argument("--kbits", type=int, default=300, help="of each stream")
    parser.add_argument("--fps", type=int, default=10, help="video messages a second of each stream, and as many of audio")
    parser.add_argument("--events", default=",".join(EVENTS))
    parser.add_argument("--without", action="append", default=[], choices=["healthd"])
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--doc", metavar="FILE", help="put the table into docs/rehoming.md")
    parser.add_argument("--cores", default="0,1", help="of the router, of everything else")
    parser.add_argument("--build", default=str(ROOT / "build" / "release"))
    parser.add_argument("--load", help="the load generator; built when not given")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="sets")
    args = parser.parse_args()
    args.events = args.events.split(",")
    args.cores = [int(c) for c in args.cores.split(",")]
    args.settings = programs.settings(args.sets)
    args.load = args.load or programs.build_load()
    return args


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    programs.raise_descriptors()
    results = {event: [] for event in args.events}
    for run in range(args.runs):
        for event in args.events:
            with contextlib.ExitStack() as stack:
                figures = Bench(args, stack).measure(event)
            results[event].append(figures)
            print(f"run {run + 1}  {event}: " + ", ".join(f"{k} {number(v)}" for k, v in figures.items()), file=sys.stderr)
    text = f"{programs.machine()}. Medians (lowest to highest).\n\n{table(args, results)}\n\n"
    print(text)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(results, indent=1))
    if args.doc:
        programs.update_doc(pathlib.Path(args.doc), text, "rehome.py")
    return 1 if any(r["wrong"] for event in results.values() for r in event) else 0


if __name__ == "__main__":
    sys.exit(main())
