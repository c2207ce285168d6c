#!/usr/bin/env python3
"""What relaying costs: the same load straight to a node, through HAProxy (tcp), nginx (stream) and Weir, in turn, each relay
alone on one core and the load on another. Prints Markdown: medians of the runs, lowest and highest, and the targets.

    tests/bench/relay.py [--runs 5] [--only ingest,playback,...] [--proxies direct,haproxy,weir,...]
        [--json FILE] [--doc FILE] [--cores 0,1] [--size 1.0] [--seconds 6] [--settle 7] [--build DIR] [--weir NAME=DIR]
        [--set relay.buffer=1MiB] [--let-sleep] [--profile DIR]

Each measurement has a warm-up and a window of its own (WINDOWS); --settle and --seconds set them for all. --weir: another build of Weir, measured beside, to compare two. --set: a key of Weir's configuration, which is the default one
otherwise. --size 0.1: a tenth of the sessions. Ends by itself, and whatever it started ends with it; on Ctrl-C it prints what it
has.
"""

import argparse
import contextlib
import json
import pathlib
import signal
import statistics
import sys
import tempfile
import time

import programs
from programs import ROOT, WRONG, Load, Weir, number, procs

GB = 1e9
# Seconds of warm-up, the same for all relays, and of measuring; at most so many runs of what says little. Through a warm-up
# of publishers what Weir keeps of their streams becomes whole (failover.reach and a group of pictures, and as long again where
# a stream takes longer to fill the blocks it is received into): then it takes no more memory from the system than it gives up.
# 9,000 publishers are measured for router.ping_interval: in seconds of it all that began together have their timers looked at.
WINDOWS = {
    "ingest": (7, 12, None),
    "scale_9000": (28, 30, None),
    "playback": (3, 10, None),
    "crowd": (3, 6, None),
    "flat": (3, 4, None),
    "setup": (1, 4, None),
    "setup_nagle": (1, 4, None),
    "setup_one": (1, 3, 3),
    "memory_2000": (2, 0, 3),
    "memory_9000": (2, 0, 3),
    "scale_10": (7, 5, 3),
    "scale_1000": (8, 5, 3),
    "scale_5000": (16, 5, 3),
}
DIRECT_SETTLE = 2  # nothing is kept there


# measurements: each gives {figure: value}


class Bench:
    def __init__(self, args, directory, problems):
        self.args = args
        self.dir = pathlib.Path(directory)
        self.load = args.load or programs.build_load()
        self.relay_core, self.load_core = args.cores
        self.settings = args.settings
        self.settle = self.seconds = 0  # of the measurement that is running
        self.problems = problems

    def size(self, sessions):
        return max(1, round(sessions * self.args.size))

    def set_window(self, what, relay):
        settle, seconds, _ = WINDOWS[what]
        self.settle = min(settle, DIRECT_SETTLE) if relay == "direct" else settle
        self.seconds = seconds
        if self.args.settle is not None:
            self.settle = self.args.settle
        if self.args.seconds is not None:
            self.seconds = self.args.seconds

    @contextlib.contextmanager
    def session(self, start, node_options, client_options):
        """Node, relay and clients, running; ended at the end."""
        with contextlib.ExitStack() as stack:
            # In memory, where Weir's live store is by default
            self.store = stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-", dir="/dev/shm"))
            node_port = procs.free_port()
            node = Load(self, "node", node_port, **node_options)
            stack.callback(node.stop)
            port, relay = start(self, node_port)
            if relay:
                stack.callback(relay.stop)
                time.sleep(0.3)
            empty = relay.memory_kib() if relay else (0, 0)
            client = Load(self, "client", port, **client_options)
            stack.callback(client.stop)
            if "setups" not in client_options:
                client.wait_ready()
            yield node, relay, client, empty

    def window(self, node, relay, client):
        """What happened between two reports: counters as differences (of what went wrong: since the start), CPU seconds of
        the relay."""
        time.sleep(self.settle)
        before, cpu = (node.report(), client.report()), relay.cpu_seconds() if relay else 0
        time.sleep(self.seconds)
        after, cpu_after = (node.report(), client.report()), relay.cpu_seconds() if relay else 0
        took = (after[0]["ns"] - before[0]["ns"]) / 1e9
        sides = []
        for a, b in zip(after, before):
            sides.append({k: v - b[k] if isinstance(v, int) and k not in WRONG else v for k, v in a.items()})
        return took, cpu_after - cpu, *sides

    def profile(self, what, name, relay, receiver):
        """Where the relay's time goes and its system calls per message, by perf, into a file. Needs root."""
        pids = ",".join(str(p) for p in relay.pids())
        data = str(self.dir / "perf.data")
        perf, duration = ["taskset", "-c", str(self.load_core), "perf"], ["-p", pids, "sleep", str(self.seconds)]
        procs.run([*perf, "record", "-q", "-F", "997", "-e", "cpu-clock", "-o", data, *duration])
        report = procs.run(["perf", "report", "--stdio", "--no-children", "-s", "sym,dso", "-i", data])
        lines = [line for line in report.stdout.splitlines() if line.strip() and not line.startswith("#")][:40]
        before = receiver.report()
        counted = procs.run([*perf, "stat", "-x,", "-e", "syscalls:sys_enter_*", *duration])
        after = receiver.report()  # perf takes its time to begin
        messages = (after["received"] - before["received"]) * self.seconds * 1e9 / (after["ns"] - before["ns"])
        calls = [line.split(",") for line in counted.stderr.splitlines() if line.count(",") > 3]
        calls = sorted(((int(c[0]), c[2].split("sys_enter_")[1]) for c in calls if c[0].isdigit() and c[0] != "0"), reverse=True)
        lines += ["", f"system calls per message ({messages:.0f} messages):"]
        lines += [f"{count / max(1, messages):8.4f}  {call}" for count, call in calls]
        directory = pathlib.Path(self.args.profile)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{what}-{name}.txt").write_text("\n".join([*lines, report.stderr, ""]))

    def check(self, what, name, *sides):
        for side in sides:
            bad = {k: side[k] for k in WRONG if side[k]}
            if bad:
                self.problems.append(f"{what}, {name}: {bad}")

    def media(self, what, name, start, node_options, client_options):
        players = "players" in client_options
        with self.session(start, node_options, client_options) as (node, relay, client, _):
            took, cpu, at_node, at_client = self.window(node, relay, client)
            long_turns = relay.long_turns_percent() if isinstance(relay, Weir) else None
            if self.args.profile and relay:
                self.profile(what, name, relay, client if players else node)
        sender, receiver = (at_node, at_client) if players else (at_client, at_node)
        self.check(what, name, at_node, at_client)
        gigabytes = receiver["received_bytes"] / GB
        figures = {"gbit_s": gigabytes * 8 / took, "late_percent": 100 * sender["late"] / max(1, sender["sent"])}
        if relay:
            figures["cpu_s_per_gb"] = cpu / gigabytes
            figures["core_percent"] = 100 * cpu / took
        for p in ("p50", "p99", "p999"):
            figures[f"latency_{p}_ms"] = receiver["latency_us"][p] / 1000
        figures["long_turns_percent"] = long_turns
        return figures

    def ingest(self, name, start):
        return self.media("ingest", name, start, {}, {"publishers": self.size(100)})

    def playback(self, name, start):
        return self.media("playback", name, start, {}, {"players": self.size(200), "streams": self.size(10)})

    def crowd(self, name, start):
        """As many messages a second as playback has, all of one stream."""
        slow = {"slow": max(1, round(self.size(1000) / 200))}
        return self.media("crowd", name, start, slow, {"players": self.size(1000), "streams": 1, **slow})

    def flat(self, name, start):
        figures = self.media("flat", name, start, {}, {"publishers": self.size(10), "flat": 1})
        figures["gbit_s_per_core"] = 8 / figures["cpu_s_per_gb"] if "cpu_s_per_gb" in figures else None
        return {k: v for k, v in figures.items() if not k.startswith("latency") and k != "late_percent"}

    def scale(self, sessions, name, start):
        """The same messages and as many of them a second, spread over more sessions."""
        sessions = self.size(sessions)
        slow = {"slow": max(1, round(sessions / 100))}
        figures = self.media(f"scale_{sessions}", name, start, slow, {"publishers": sessions, **slow})
        return {k: figures.get(k) for k in ("cpu_s_per_gb", "gbit_s", "latency_p99_ms", "late_percent", "long_turns_percent")}

    def setup(self, name, start, at_once=16, **options):
        with self.session(start, options, {"setups": at_once, **options}) as (node, relay, client, _):
            took, cpu, _, at_client = self.window(node, relay, client)
        self.check("setup", name, at_client)
        done = at_client["setups"]
        figures = {"per_s": done / took}
        if relay:
            figures["cpu_us"] = cpu / max(1, done) * 1e6
        figures["p50_ms"] = at_client["setup_us"]["p50"] / 1000
        figures["p99_ms"] = at_client["setup_us"]["p99"] / 1000
        return figures

    def setup_one(self, name, start):
        return self.setup(name, start, at_once=1)

    def setup_nagle(self, name, start):
        return self.setup(name, start, nagle=1)

    def memory(self, sessions, name, start):
        sessions = self.size(sessions)
        players = sessions // 2
        options = {"publishers": sessions - players, "players": players, "streams": players, "quiet": 1}
        with self.session(start, {"quiet": 1}, options) as (_, relay, client, empty):
            time.sleep(self.settle)
            full = relay.memory_kib()
            now = client.report()
        self.check(f"memory {sessions}", name, now)
        return {"pss_kib": (full[0] - empty[0]) / now["live"], "uss_kib": (full[1] - empty[1]) / now["live"]}


def measurements(bench):
    """In this order. What is compared with one another is measured one after the other: see measure()."""

    def scale(n):
        return lambda name, start: bench.scale(n, name, start)

    found = {
        "ingest": bench.ingest,
        "scale_9000": scale(9000),
        "playback": bench.playback,
        "crowd": bench.crowd,
        "flat": bench.flat,
        "setup": bench.setup,
        "setup_one": bench.setup_one,
        "setup_nagle": bench.setup_nagle,
    }
    for n in (2000, 9000):
        found[f"memory_{n}"] = lambda name, start, n=n: bench.memory(n, name, start)
    for n in (10, 1000, 5000):
        found[f"scale_{n}"] = scale(n)
    return found


TITLES = {
    "ingest": "Ingest: 100 publishers, 6 Mbit/s each",
    "playback": "Playback: 10 streams of 6 Mbit/s, 20 players each",
    "crowd": "Playback: 1,000 players of one stream of 1.2 Mbit/s",
    "flat": "Flat out: 10 publishers as fast as it goes",
    "setup": "Session set-ups, 16 at a time, TCP_NODELAY at both ends",
    "setup_one": "Session set-ups, one at a time, TCP_NODELAY at both ends",
    "setup_nagle": "Session set-ups, 16 at a time, without TCP_NODELAY (as ffmpeg and nginx-rtmp)",
    "memory_2000": "Memory of 2,000 idle sessions, each",
    "memory_9000": "Memory of 9,000 idle sessions, each",
}
LABELS = {
    "cpu_s_per_gb": "CPU seconds per GB",
    "core_percent": "of one core, %",
    "gbit_s": "relayed, Gbit/s",
    "gbit_s_per_core": "a full core carries, Gbit/s",
    "late_percent": "messages sent over 10 ms late, %",
    "latency_p50_ms": "latency p50, ms",
    "latency_p99_ms": "latency p99, ms",
    "latency_p999_ms": "latency p99.9, ms",
    "long_turns_percent": "turns of the event loop over 5 ms, %",
    "per_s": "per second",
    "cpu_us": "CPU per set-up, us",
    "p50_ms": "p50, ms",
    "p99_ms": "p99, ms",
    "pss_kib": "PSS, KiB",
    "uss_kib": "USS, KiB",
}


def title(what):
    if what == "scale_10":
        return "Ingest: 10 publishers, 6 Mbit/s each"
    if what.startswith("scale_"):
        return f"Ingest: 0.6 Gbit/s over {int(what[6:]):,} publishers"
    return TITLES[what]


# targets: text, what is measured, what it is compared with (or None), the most it may be; each (measurement, relay, figure)

WEIR, SHARED = "weir", "weir-shared"
TARGETS = [
    (
        "ingest, CPU per GB <= HAProxy's",
        ("ingest", WEIR, "cpu_s_per_gb"),
        ("ingest", "haproxy", "cpu_s_per_gb"),
        lambda x: x,
    ),
    (
        "playback, CPU per GB <= HAProxy's",
        ("playback", WEIR, "cpu_s_per_gb"),
        ("playback", "haproxy", "cpu_s_per_gb"),
        lambda x: x,
    ),
    (
        "shared playback, CPU per GB <= 0.6 x HAProxy's",
        ("playback", SHARED, "cpu_s_per_gb"),
        ("playback", "haproxy", "cpu_s_per_gb"),
        lambda x: 0.6 * x,
    ),
    (
        "CPU us per set-up <= 2 x HAProxy's",
        ("setup", WEIR, "cpu_us"),
        ("setup", "haproxy", "cpu_us"),
        lambda x: 2 * x,
    ),
    (
        "ingest, p99 latency ms <= direct + 1 ms",
        ("ingest", WEIR, "latency_p99_ms"),
        ("ingest", "direct", "latency_p99_ms"),
        lambda x: x + 1,
    ),
    (
        "playback, p99 latency ms <= direct + 1 ms",
        ("playback", WEIR, "latency_p99_ms"),
        ("playback", "direct", "latency_p99_ms"),
        lambda x: x + 1,
    ),
    (
        "shared playback, p99 latency ms <= direct + 1 ms",
        ("playback", SHARED, "latency_p99_ms"),
        ("playback", "direct", "latency_p99_ms"),
        lambda x: x + 1,
    ),
    (
        "set-up p50 ms without TCP_NODELAY < direct's",
        ("setup_nagle", WEIR, "p50_ms"),
        ("setup_nagle", "direct", "p50_ms"),
        lambda x: x,
    ),
    ("PSS KiB per idle session at 2,000 <= 12", ("memory_2000", WEIR, "pss_kib"), None, lambda _: 12),
    ("PSS KiB per idle session at 9,000 <= 12", ("memory_9000", WEIR, "pss_kib"), None, lambda _: 12),
    (
        "CPU per GB of 9,000 sessions <= 1.1 x that of 100",
        ("scale_9000", WEIR, "cpu_s_per_gb"),
        ("ingest", WEIR, "cpu_s_per_gb"),
        lambda x: 1.1 * x,
    ),
] + [
    (f"{text}, % of loop turns over 5 ms of CPU time <= 0.1", (what, relay, "long_turns_percent"), None, lambda _: 0.1)
    for text, what, relay in (
        ("ingest", "ingest", WEIR),
        ("playback", "playback", WEIR),
        ("shared playback", "playback", SHARED),
        ("1,000 players, shared", "crowd", SHARED),
        ("flat out", "flat", WEIR),
        ("10 publishers", "scale_10", WEIR),
        ("1,000 publishers", "scale_1000", WEIR),
        ("5,000 publishers", "scale_5000", WEIR),
        ("9,000 publishers", "scale_9000", WEIR),
    )
]


class Results:
    def __init__(self):
        self.runs = []
        self.machine = f"{programs.machine()}; {versions()}"

    def names(self):
        return list(dict.fromkeys(r["what"] for r in self.runs))

    def add(self, run, what, relay, figures):
        figures = {k: v for k, v in figures.items() if v is not None}
        self.runs.append({"run": run, "what": what, "relay": relay, "figures": figures})

    def by_run(self, what, relay, figure):
        """{run: value}"""
        found = {r["run"]: r["figures"].get(figure) for r in self.runs if r["what"] == what and r["relay"] == relay}
        return {run: v for run, v in found.items() if v is not None}

    def cell(self, what, relay, figure):
        values = self.by_run(what, relay, figure).values()
        if not values:
            return "-"
        spread = f" ({number(min(values))} to {number(max(values))})" if len(values) > 1 else ""
        return number(statistics.median(values)) + spread

    def table(self, what, relays):
        figures = []
        for r in self.runs:
            if r["what"] == what:
                figures += [f for f in r["figures"] if f not in figures]
        measured = {r["relay"] for r in self.runs if r["what"] == what}
        relays = [r for r in relays if r in measured]
        runs = max(sum(r["what"] == what and r["relay"] == relay for r in self.runs) for relay in relays)
        lines = [f"| {title(what)} ({runs} run{'s' if runs > 1 else ''}) | " + " | ".join(relays) + " |", "| --- " * (len(relays) + 1) + "|"]
        for f in figures:
            lines.append(f"| {LABELS[f]} | " + " | ".join(self.cell(what, r, f) for r in relays) + " |")
        return "\n".join(lines)

    def targets(self, ours):
        """Compared run by run, since the machine's speed changes from one run to the next."""
        head = f"| target ({ours}) | measured | may be | of what it may be, run by run | median | met |"
        lines = [head, "| --- " * 6 + "|"]
        for text, measured, other, bound in TARGETS:
            now = self.by_run(measured[0], ours if measured[1] == WEIR else measured[1], measured[2])
            theirs = self.by_run(other[0], ours if other[1] == WEIR else other[1], other[2]) if other else dict.fromkeys(now, 0)
            runs = sorted(now.keys() & theirs.keys())
            if not runs:
                continue
            limits = [bound(theirs[run]) for run in runs]
            parts = [now[run] / limit for run, limit in zip(runs, limits)]
            part = statistics.median(parts)
            cells = [
                text,
                number(statistics.median(now[run] for run in runs)),
                number(statistics.median(limits)),
                ", ".join(number(x) for x in parts),
                number(part),
                "yes" if part <= 1 else "no",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        return "\n".join(lines) if len(lines) > 2 else ""


def versions():
    found = []
    for argv in (["haproxy", "-v"], ["nginx", "-v"]):
        done = procs.run(argv)
        found.append((done.stdout + done.stderr).splitlines()[0].split(" - ")[0])
    return ", ".join(found)


def prepare(args):
    """Packages and descriptors."""
    packages = []
    if "haproxy" in args.proxies:
        packages.append("haproxy")
    if "nginx" in args.proxies:
        packages += ["nginx-light", "libnginx-mod-stream"]
    programs.need_packages(*packages)
    programs.raise_descriptors()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, help="of each measurement, instead of its own")
    parser.add_argument("--settle", type=float, help="seconds before, likewise")
    parser.add_argument("--only", default="", help="measurements, by name or the beginning of several names")
    parser.add_argument("--proxies", default="direct,haproxy,nginx,weir,weir-shared")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--doc", metavar="FILE", help="put the tables into docs/performance.md")
    parser.add_argument("--cores", default="0,1", help="of the relay, of the load")
    parser.add_argument("--size", type=float, default=1.0)
    parser.add_argument("--let-sleep", action="store_true", help="the load's core, too, when it is idle")
    parser.add_argument("--build", default=str(ROOT / "build" / "release"))
    parser.add_argument("--profile", metavar="DIR", help="also what perf says of the relays, a file for each")
    parser.add_argument("--load", help="the load generator; built when not given")
    parser.add_argument("--weir", action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", dest="sets")
    args = parser.parse_args()
    args.proxies = args.proxies.split(",")
    args.cores = [int(c) for c in args.cores.split(",")]
    args.settings = programs.settings(args.sets)
    return args


def is_measured(what, relay):
    """Not what would say nothing new, or nothing."""
    if relay == SHARED:
        return what in ("playback", "crowd")
    if relay == "nginx":
        return not what.startswith("scale_")
    return relay != "direct" or not what.startswith("memory_")


def measure(args, bench, relays, results):
    found = measurements(bench)
    asked = args.only.split(",")
    names = [n for n in found if n in asked or any(n.startswith(o) for o in asked if o not in found)]
    began = time.monotonic()
    for run in range(args.runs):
        order = list(relays.items())
        for what in names:
            if run >= (WINDOWS[what][2] or args.runs):
                continue
            for relay, start in order:
                if not is_measured(what, relay):
                    continue
                bench.set_window(what, relay)
                figures = found[what](relay, start)
                results.add(run, what, relay, figures)
                first = ", ".join(f"{LABELS[k]} {number(v)}" for k, v in list(figures.items())[:3] if v is not None)
                print(f"{time.monotonic() - began:6.0f} s  run {run + 1}  {what}  {relay}: {first}", file=sys.stderr)
            order.reverse()  # the next begins with the relay that this one has ended with


def main():
    args = arguments()
    starters = {
        "direct": programs.start_direct,
        "haproxy": programs.start_haproxy,
        "nginx": programs.start_nginx,
        WEIR: programs.weir_starter(args.build),
        SHARED: programs.weir_starter(args.build, relay={"share_playback": "on"}),
    }
    relays = {name: starters[name] for name in args.proxies}
    ours = [WEIR] if WEIR in relays else []
    for entry in args.weir:
        name, build = entry.split("=", 1)
        relays[name] = programs.weir_starter(build)
        if SHARED in relays:
            relays[name + SHARED[len(WEIR) :]] = programs.weir_starter(build, relay={"share_playback": "on"})
        ours.append(name)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    prepare(args)
    results, problems, interrupted = Results(), [], False
    try:
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="weir-bench-"))
            awake = not args.let_sleep and stack.enter_context(programs.awake(args.cores[1]))
            results.machine += "; the load's core is kept awake" if awake else "; cores that are idle sleep"
            measure(args, Bench(args, directory, problems), relays, results)
    except KeyboardInterrupt:
        interrupted = True
    text = f"{results.machine}. Medians (lowest to highest).\n\n"
    if args.size != 1:
        text += f"Sessions are {args.size:g} times what the titles say.\n\n"
    text += "".join(results.table(what, list(relays)) + "\n\n" for what in results.names())
    text += "".join(results.targets(name) + "\n\n" for name in ours)
    print(text)
    for problem in problems:
        print(f"NOT CLEAN: {problem}", file=sys.stderr)
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps({"machine": results.machine, "runs": results.runs}, indent=1))
    if args.doc and not interrupted:
        programs.update_doc(pathlib.Path(args.doc), text, "relay.py")
    return 130 if interrupted else 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
