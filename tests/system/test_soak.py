"""A busy place for a while: clients of every kind come and go (guests.py) while nodes are killed and reloaded, the operator
drains, weighs, moves and kicks, the clock is set, the disk is full, descriptors run out. Some streams stay all the time, and
nothing of them may be missed (tests/exact); each stream is on one node, which is the one the API names; nothing grows. A bit
more than a minute, with sanitizers less; WEIR_TEST_LONG=1 for half an hour, WEIR_SOAK_SECONDS for any time."""

import os
import random
import re
import resource
import shutil
import signal
import socket
import statistics
import struct
import time

import admin as api
import guests as visitors
import healthd
import nodes as real_nodes
import procs
import pytest
import weir
from disk import Disk
from exact import Exact

LONG = bool(os.environ.get("WEIR_TEST_LONG"))
CLOCK = real_nodes.ROOT / "tests" / "clock" / "preload.c"
SHARED_APP = "application shared { live on; wait_key on; }"
GROWTH_KIB = 12 * 1024  # of a worker's own memory, between two moments without guests
REPORTS = ("Sanitizer", "runtime error", "Assertion")


class Clock:
    """What tests/clock/preload.c tells the daemons of the time of day."""

    def __init__(self, directory):
        self.file = directory / "clock-shift"
        self.set(0)
        library = directory / "clock.so"
        made = procs.run(["cc", "-std=c17", "-shared", "-fPIC", "-O1", str(CLOCK), "-o", str(library)])
        assert made.returncode == 0, made.stderr
        options = os.environ.get("ASAN_OPTIONS", "") + ":verify_asan_link_order=0"
        self.env = {"LD_PRELOAD": str(library), "CLOCK_SHIFT": str(self.file), "ASAN_OPTIONS": options}

    def set(self, seconds):
        with open(self.file, "r+b" if self.file.exists() else "wb") as f:
            f.write(struct.pack("q", seconds))


class Place:
    """Three nodes, the three daemons, what stays and who comes."""

    def __init__(self, cluster, router, stack, tmp_path):
        self.tmp_path = tmp_path
        self.clock = Clock(tmp_path)
        self.disk = Disk(tmp_path / "disk")
        stack.append(self.disk)
        self.nodes = cluster(3, apps=[SHARED_APP])
        self.router = r = router(
            [],
            workers=2,
            env=self.clock.env,
            cluster={"store": f"lmdb:{self.disk.path}/store", "live": f"{self.disk.path}/live"},
            placement={"max_load_factor": 0, "hold": "2s"},
            failover={"max_moves": 1000, "grace": "3s"},
            relay={"share_playback": "on", "share_apps": ["shared"]},
            healthd=healthd.FAST,
        )
        self.admin = api.Admin(tmp_path / "admin", r, env=self.clock.env)
        self.health = healthd.Healthd(r, env=self.clock.env).start()
        stack += [self.admin, self.health]
        for n in self.nodes:
            self.admin.put_node(n, stat=n.stat_url)
        self.health.wait_up(*self.nodes)
        self.sanitized = r.sanitized()
        self.refused = 0  # changes, because the disk was full
        streams = 2 if self.sanitized else 4
        self.exact = [Exact(r, streams, 2), Exact(r, 2, 3, app="shared", name="many")]
        stack += self.exact
        for e in self.exact:
            e.wait_ready()
        self.keys = [f"live/exact{i}" for i in range(streams)] + ["shared/many0", "shared/many1"]
        self.guests = visitors.Guests(r, [f"exact{i}" for i in range(streams)], ["many0", "many1"])
        stack.append(self.guests)

    # what must hold

    def carriers(self):
        """{stream: ids of the nodes that have its publisher}"""
        live = {n.id: n.live() for n in self.nodes if n.proc.running}
        return {key: [id for id, keys in live.items() if key in keys] for key in self.keys}

    def owner(self, key):
        s = self.admin.get(self.admin.stream(key))
        assert s["state"] in ("live", "moving"), s
        return s["moving_to"] or s["node"]

    def looked_up(self, key):
        app, name = key.split("/")
        return self.admin.get(f"/api/v1/lookup?app={app}&name={name}&kind=play")["node"]

    def well_routed(self):
        """Each stream that stays is on one node, and that is the owner."""
        owners = {key: [self.owner(key)] for key in self.keys}
        return self.carriers() == owners and owners == {key: [self.looked_up(key)] for key in self.keys}

    def check_routes(self, what):
        procs.eventually(self.well_routed, what=f"after {what}: one node for each stream, and it is the owner", every=0.1)
        assert not self.guests.errors, (what, self.guests.errors)

    def daemons(self):
        found = {f"router {slot}": pid for slot, pid in self.router.workers().items()}
        return {**found, "admin": self.admin.proc.pid, "healthd": self.health.proc.pid}

    def footprint(self):
        """Descriptors and memory of their own (KiB), when the guests have gone; the memory is the median of some moments."""
        self.guests.leave()
        stay = sum(1 + (3 if key.startswith("shared") else 2) for key in self.keys)
        procs.eventually(lambda: len(self.admin.items("/api/v1/sessions")) == stay, what=f"{stay} sessions are left")
        links = procs.eventually(self.settled_descriptors, what="descriptors settle")
        memory = {name: [] for name in self.daemons()}
        for _ in range(10):
            for name, pid in self.daemons().items():
                with open(f"/proc/{pid}/status") as f:
                    memory[name].append(int(re.search(r"RssAnon:\s+(\d+)", f.read()).group(1)))
            time.sleep(0.1)
        self.guests.come()
        return links, {name: statistics.median(all) for name, all in memory.items()}

    def settled_descriptors(self):
        """None while they change: a probe, an old link that is being closed."""
        seen = [self.descriptors() for _ in range(5) if not time.sleep(0.1)]
        return seen[0] if all(s == seen[0] for s in seen) else None

    def descriptors(self):
        return {name: len(os.listdir(f"/proc/{pid}/fd")) for name, pid in self.daemons().items() if "router" in name}

    # what happens to it

    def some_node(self):
        """One with streams. A reloaded one shows none until they have moved."""
        found = lambda: [n for n in random.sample(self.nodes, 3) if n.live() & set(self.keys)]  # noqa: E731
        return procs.eventually(found, what="a node with streams")[0]

    def wait_up(self):
        procs.eventually(lambda: all(n["health"] == "up" for n in self.admin.items("/api/v1/nodes")), what="all nodes are up")

    def set_state(self, node, state):
        assert self.admin.ask("PUT", f"/api/v1/nodes/{node.id}/state", {"state": state}).status == 200

    def kill_node(self):
        node = self.some_node()
        node.kill()
        self.check_routes("a node was killed")
        node.start()
        self.wait_up()

    def reload_node(self):
        node = self.some_node()
        procs.eventually(lambda: int(node.stat().findtext("uptime")) > 3, what="a process that is not just starting")
        mark = self.health.mark()
        node.proc.signal(signal.SIGHUP)
        self.health.wait_log("node_reloaded", since=mark, node=node.id)
        # what begins there just then may have its publisher on the one process and players on the other (docs/rehoming.md)
        procs.eventually(lambda: int(node.stat().findtext("uptime")) > 1, what="all new connections are the new process's")

    def drain(self):
        node = self.some_node()
        self.set_state(node, "drain")

        def is_empty():
            n = self.admin.get(f"/api/v1/nodes/{node.id}")
            return n["streams"] == n["sessions"] == 0

        procs.eventually(is_empty, what=f"{node.id} is empty", every=0.1)
        self.check_routes("a drain")
        self.set_state(node, "enabled")

    def weigh(self):
        node = random.choice(self.nodes)
        for weight in (0, 1000, 100):
            a = self.admin.ask(
                "PATCH", f"/api/v1/nodes/{node.id}", {"weight": weight}, {"Content-Type": "application/merge-patch+json"}
            )
            assert a.status == 200, a
            self.admin.wait_in_force()

    def move(self):
        for key in random.sample(self.keys, 2):
            to = random.choice([n.id for n in self.nodes if n.id != self.owner(key)])
            path = self.admin.stream(key) + "/move"
            procs.eventually(lambda: self.admin.ask("POST", path, {"to": to}).status == 204, what="a move")
            procs.eventually(lambda: self.owner(key) == to, what=f"{key} is on {to}")

    def kick(self):
        with visitors.rtmp.Client(self.router.host, self.router.port) as publisher:
            assert publisher.publish("kicked")[0] == "NetStream.Publish.Start"
            session = procs.eventually(lambda: self.admin.items("/api/v1/sessions?stream=live%2Fkicked"), what="its record")[0]
            assert self.admin.ask("DELETE", f"/api/v1/sessions/{session['id']}").status == 204
            publisher.expect_closed()

    def set_clock(self):
        for hours in (1, -1, 0):
            self.clock.set(3600 * hours)
            self.admin.wait_beats(2)
            alive = self.admin.get("/api/v1/cluster")["processes"]
            assert alive["workers"] == 2, alive
            self.check_routes(f"the clock was set to {hours} h from the time it is")

    def run_out_of_descriptors(self):
        """Whoever comes then waits until there is room."""
        self.guests.leave()
        procs.eventually(self.settled_descriptors, what="descriptors settle")  # those of guests are closed one by one
        limits = {}
        for pid in self.router.workers().values():
            limits[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
            free = [fd for fd in range(len(used) + 3) if fd not in used]
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[2], limits[pid][1]))  # is of numbers: there may be gaps
        mark = self.router.mark()
        waiting = [socket.create_connection((self.router.host, self.router.port)) for _ in range(16)]
        self.router.wait_log("connection_refused", since=mark, why="limit_connections")
        time.sleep(0.5)
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
        for sock in waiting:
            with visitors.rtmp.Conn(sock) as c:
                c.send_bytes(b"\x03" + bytes(1536))
                assert c.read_exactly(1) == b"\x03"
        self.guests.come()

    def fill_disk(self):
        if not self.disk.small:
            return
        self.guests.excuse()
        self.disk.fill()
        answers = [self.admin.ask("PUT", f"/api/v1/nodes/spare{i}", {"rtmp": "127.0.0.1:9", "weight": 0}) for i in range(50)]
        assert {a.status for a in answers} <= {201, 503, 507}, answers
        time.sleep(2)
        self.disk.empty()

        def gone(i):
            return self.admin.ask("DELETE", f"/api/v1/nodes/spare{i}").status in (204, 404)

        procs.eventually(lambda: all(gone(i) for i in range(50)), what="the store takes changes again")
        self.admin.wait_beats(1)
        self.guests.excuse()
        self.refused += sum(a.status != 201 for a in answers)

    def copy_store(self):
        """As docs/operations.md says. What the copy has, restore() must find."""
        self.copy = self.tmp_path / "copy"
        shutil.rmtree(self.copy, ignore_errors=True)
        self.copy.mkdir()
        copied = procs.run(["mdb_copy", str(self.disk.path / "store"), str(self.copy)])
        assert copied.returncode == 0, copied.stderr
        self.copied = self.durable()

    def durable(self):
        return {n["id"]: (n["rtmp"], n["stat"], n["weight"], n["state"]) for n in self.admin.items("/api/v1/nodes")}

    def restore(self):
        """Another store's place is taken by the copy, with the daemons stopped."""
        self.admin.put_node({"id": "later", "rtmp": "127.0.0.1:9"})
        daemons = [self.router, self.admin, self.health]
        for d in daemons:
            assert d.stop() == 0, d.proc.err.tail()
            assert not [line for line in d.raw() if any(r in line for r in REPORTS)], "\n".join(d.raw())
        store = self.disk.path / "store"
        for file in store.iterdir():
            file.unlink()
        shutil.copy(self.copy / "data.mdb", store)
        for d in daemons:
            d.start()
        assert self.durable() == self.copied
        with visitors.rtmp.Client(self.router.host, self.router.port) as publisher:
            assert publisher.publish("restored")[0] == "NetStream.Publish.Start"


def seconds(place):
    given = os.environ.get("WEIR_SOAK_SECONDS")
    return int(given) if given else 1800 if LONG else 20 if place.sanitized else 75


def test_soak(cluster, router, stack, tmp_path):
    if not shutil.which("mdb_copy"):
        pytest.skip("mdb_copy is not there (Debian: lmdb-utils)")
    p = Place(cluster, router, stack, tmp_path)
    try:
        soak(p)
    finally:
        for name, d in {"router": p.router, "healthd": p.health, "admin": p.admin}.items():
            (tmp_path / f"{name}.log").write_text("\n".join(map(str, d.proc.err.items)))
    p.restore()


def soak(p):
    until = time.monotonic() + seconds(p)
    events = [p.copy_store, p.kill_node, p.reload_node, p.drain, p.weigh, p.move, p.kick, p.set_clock, p.fill_disk]
    events.append(p.run_out_of_descriptors)
    p.copy_store()
    for warm_up in (p.kill_node, p.move):
        warm_up()
    first_fds, first = p.footprint()
    rounds = 0
    while rounds == 0 or time.monotonic() < until:
        for event in random.sample(events, len(events)):
            began = time.monotonic()
            event()
            p.check_routes(event.__name__)
            print(f"{time.strftime('%X', time.gmtime())} {event.__name__}: {time.monotonic() - began:.1f} s", flush=True)
        rounds += 1
        fds, memory = p.footprint()
        print(f"round {rounds}: {p.guests.total()} guests, descriptors {fds}, memory {memory}", flush=True)
        assert sum(fds.values()) <= sum(first_fds.values()), (first_fds, fds)
        grown = {name: memory[name] - first[name] for name in first}
        assert p.sanitized or max(grown.values()) < GROWTH_KIB, grown
    p.guests.leave()
    moved = len(p.router.logs("stream_moved"))
    reports = [e.report() for e in p.exact]
    print(f"{rounds} rounds, {moved} moves, guests {p.guests.count}, excused {p.guests.forgiven}")
    print(f"{sum(r['received'] for r in reports)} messages; grown (KiB): {grown}; changes refused with the disk full: {p.refused}")
    assert not p.guests.errors, p.guests.errors
    assert not [line for d in (p.router, p.admin, p.health) for line in d.raw() if any(r in line for r in REPORTS)]
