"""What goes wrong in the middle of a move, and moves without end: the longer drills of live streams (test_rehoming.py has the
others). Whether a node is empty, and where a stream is, its own statistics page says. WEIR_TEST_LONG=1 for the full length."""

import contextlib
import os
import random
import signal
import threading
import time

import admin as api
import procs
import pytest
import rtmp
from exact import Exact, assert_gaps

LONG = bool(os.environ.get("WEIR_TEST_LONG"))
EASY = {"max_load_factor": 0}
OFTEN = {"max_moves": 1000, "grace": "3s"}  # on a busy machine players come late
PATIENT = {"dial_timeout": "20s", "setup_timeout": "1m", "retries": 10}  # and nodes take long to answer who comes meanwhile


@pytest.fixture
def admin(stack, tmp_path):
    def make(router):
        a = api.Admin(tmp_path / "admin", router)
        stack.append(a)
        return a

    return make


def all_live(nodes):
    """Names with a publisher; a name is there twice if two nodes have one."""
    return sorted(key for n in nodes for key in n.live())


def on_the_way(router):
    """Streams whose move has begun and is not over."""
    last = {line["stream"]: line["event"] for line in router.proc.err.items if line.get("event") in ("stream_moving", "stream_moved")}
    return [stream for stream, event in last.items() if event == "stream_moving"]


def none_is_open(router, lost=()):
    """Every session that was placed has ended, or went with its worker."""
    closed = {line["sid"] for line in router.logs("session_closed")}
    return all(line["sid"] in closed for line in router.logs("stream_placed") if line["sid"] not in lost)


class Guests:
    """Publishers with players that come, stay for some seconds and go, again and again under the same names."""

    def __init__(self, router, places, stack):
        self.router, self.stack = router, stack
        self.there = {place: self.new(place) for place in range(places)}
        self.reports = []

    def new(self, place):
        e = Exact(self.router, 2, 2, seconds=random.randint(2, 5), name=f"guest{place}-", gop=500, drain=1000)
        self.stack.append(e)
        return e

    def turn(self):
        """Those who have gone are looked at, and come again."""
        for place, e in list(self.there.items()):
            if not e.proc.running:
                self.look_at(e)
                self.there[place] = self.new(place)

    def look_at(self, e):
        e.proc.wait()
        self.reports.append(e.report())
        self.stack.remove(e)

    def finish(self):
        for e in self.there.values():
            self.look_at(e)


def test_drain_in_turn(cluster, router, admin, exact, stack):
    """Each node in turn, round and round, while publishers come and go: nothing is missed, and a node is empty when its drain
    says so, and stays empty."""
    three = cluster(3)
    r = router(three, workers=4, placement=EASY, failover=OFTEN, router=PATIENT)
    a = admin(r)
    e = exact(r, 20 if LONG else 6, 3)
    guests = Guests(r, 4 if LONG else 2, stack)
    until = time.monotonic() + (600 if LONG else 8)
    drains, closing, took = 0, [], []

    def set_state(node, state):
        assert a.ask("PUT", f"/api/v1/nodes/{node.id}/state", {"state": state}).status == 200

    def says_so(node):
        n = a.get(f"/api/v1/nodes/{node.id}")
        return n["state"] == "drain" and n["streams"] == n["sessions"] == 0

    while time.monotonic() < until or drains < 3:
        node = three[drains % 3]
        guests.turn()
        began = time.monotonic()
        set_state(node, "drain")
        procs.eventually(lambda: says_so(node), what=f"the drain of {node.id} says that it is empty", every=0.005)
        said = time.monotonic()
        took.append(said - began)
        procs.eventually(lambda: not node.streams(), what=f"{node.id} has seen them leave", every=0.005)
        closing.append(time.monotonic() - said)
        for _ in range(4):
            time.sleep(random.uniform(0.02, 0.2))
            guests.turn()
            assert not node.streams() and says_so(node)
        set_state(node, "enabled")
        drains += 1
        time.sleep(random.uniform(0.1, 0.8))
    guests.finish()
    result = e.report()
    messages = result["received"] + sum(g["received"] for g in guests.reports)
    moved = len(r.logs("stream_moved", reason="drain"))
    print(f"{drains} drains in {max(took):.3f} s at most, {moved} moves, {len(guests.reports)} times guests, {messages} messages")
    print(f"the node had seen them leave {max(closing):.3f} s later at most")
    assert {line["reason"] for line in r.logs("stream_moved")} == {"drain"}
    assert_gaps(r, result, 2000)


@pytest.mark.parametrize("how", ["killed", "hanging", "hung before"])
def test_new_node_lost(how, cluster, router, exact):
    """The node that the streams are on their way to dies too, or hangs, at any moment of the move."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover={**OFTEN, "stall": "1s"})
    e = exact(r, 6, 3, bytes=20000)
    names = all_live(three)
    hit = 0
    for i in range(20 if LONG else 3):
        old = procs.eventually(lambda: next((n for n in three[i % 3 :] + three if n.live()), None))
        new, last = random.sample([n for n in three if n is not old], 2)
        mark = r.mark()
        if how == "hung before":
            new.pause()
        old.kill()
        r.wait_log("stream_moving", since=mark)
        if how != "hung before":
            time.sleep(random.uniform(0, 0.12))
            new.kill() if how == "killed" else new.pause()
        procs.eventually(lambda: all_live([last]) == names and not on_the_way(r), what="all are on the third")
        hit += len(r.logs("stream_retried", since=mark, node=new.id)) + len(r.logs("stream_moving", since=mark, node=new.id))
        old.start()
        new.start() if how == "killed" else new.resume()
        procs.eventually(lambda: all_live(three) == names, what="none is on two")
    result = e.report()
    print(f"{hit} times the new node was lost")
    assert hit > 0
    assert_gaps(r, result, 2000 if how == "killed" else 8000)


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_called_back(how, fakes, router, admin, exact):
    """The new node of a drain's move is lost while both carry the stream: one player could have left the old node, another could
    not. There is no other node, so the stream stays, and nobody misses anything."""
    old, new = fakes(2, keeps=False)
    r = router([old], workers=2, failover={**OFTEN, "stall": "4s", "grace": "20s"})
    a = admin(r)
    e = exact(r, 1, 2)
    new.does.deaf = 1
    r.reload(nodes=[old, new])
    assert a.ask("PUT", f"/api/v1/nodes/{old.id}/state", {"state": "drain"}).status == 200
    new.wait(lambda f: any(s.relayed > 30 for s in f.sessions))
    if how == "killed":
        new.stop()
    else:
        new.hang()
    r.wait_log("stream_retried", node=new.id)
    count = sum(s.relayed for s in old.sessions)
    old.wait(lambda f: sum(s.relayed for s in f.sessions) > count + 200)
    result = e.report()
    assert not r.logs("stream_moved") and not r.logs("player_rehomed")
    assert result["gap_worst"] < 12000


@contextlib.contextmanager
def paused(pid):
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_worker_late(cluster, router, exact):
    """A worker that does nothing for longer than failover.grace while a stream moves, as on a machine that is too busy: it is
    waited for, and its players miss nothing."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover={**OFTEN, "grace": "200ms", "stall": "4s"})
    e = exact(r, 6, 3)
    names = all_live(three)
    for i in range(20 if LONG else 3):
        node = procs.eventually(lambda: next((n for n in three[i % 3 :] + three if n.live()), None))
        with paused(r.workers()[i % 2]):
            node.kill()
            time.sleep(random.uniform(0.5, 1.5))
        others = [n for n in three if n is not node]
        procs.eventually(lambda: all_live(others) == names and not on_the_way(r), what="all are on the others")
        node.start()
    assert e.report()["gap_worst"] > 300


def test_claim_lost(cluster, router, publish, play):
    """Somebody else takes the stream over while it has no node: it is on one afterwards, and nobody waits for the other."""
    three = cluster(3)
    r = router(three, workers=4, placement=EASY, failover={**OFTEN, "stall": "1s"})
    for i in range(6 if LONG else 2):
        url = r.url(f"live/x{i}")
        first = publish(url)
        players = [play(url) for _ in range(3)]
        for p in players:
            p.wait_packets(5)
        home = next(n for n in three if n.live())
        others = [n for n in three if n is not home]
        for n in others:
            n.pause()
        mark = r.mark()
        home.kill()
        r.wait_log("stream_moving", since=mark)
        second = publish(url, wait=False)
        assert first.wait() != 0
        r.wait_why("taken_over", since=mark)
        for n in others:
            n.resume()
        home.start()
        second.wait_sending(frames=40)
        for p in players:
            p.wait_packets(p.count() + 40)
        procs.eventually(lambda: all_live(three) == [f"live/x{i}"], what="it is on one node")
        second.finish()
        for p in players:
            p.kill()
        procs.eventually(lambda: none_is_open(r), what="all sessions have ended")
        procs.eventually(lambda: not any(n.streams() for n in three), what="all nodes are empty")


def unharmed(peer):
    return not peer["ended"] and not any(peer[k] for k in ("lost", "repeated", "corrupt", "back", "shifted"))


def test_worker_killed(cluster, router, stack):
    """A worker dies in the middle of a move: its own clients go, those of the others miss nothing."""
    three = cluster(3)
    r = router(three, workers=3, placement=EASY, failover=OFTEN)
    survived, lost = 0, set()
    for i in range(20 if LONG else 2):
        mark = r.mark()
        e = Exact(r, 6, 3, bytes=20000, name=f"s{i}-", peers=1)
        stack.append(e)
        e.wait_ready()
        placed = r.logs("stream_placed", since=mark)
        worker = {int(line["client"].rpartition(":")[2]): int(line["worker"]) for line in placed}
        old = next(n for n in three if n.live())
        slot = random.randrange(3)
        lost |= {line["sid"] for line in placed if line["worker"] == str(slot)}
        pids, mark = r.workers(), r.mark()
        old.kill()
        r.wait_log("stream_moving", since=mark)
        time.sleep(random.uniform(0, 0.12))
        os.kill(pids[slot], signal.SIGKILL)
        old.start()
        r.wait_log("worker_started", since=mark, worker=slot)
        procs.eventually(lambda: len(e.ended()) == sum(w == slot for w in worker.values()), what="its clients have gone")
        gone = {stream for stream, kind in e.ended() if kind == "publisher"}
        left = [f"live/s{i}-{k}" for k in range(6) if f"s{i}-{k}" not in gone]
        procs.eventually(lambda: all_live(three) == left, what="each stream that is left is on one node")
        e.end()
        for p in e.peers():
            if worker[p["port"]] != slot:
                survived += 1
                assert unharmed(p) and (p["stream"] in gone or p["missing"] == 0), (p, e.proc.err.tail())
        stack.remove(e)
        procs.eventually(lambda: none_is_open(r, lost), what="all sessions have ended")
        procs.eventually(lambda: not any(n.streams() for n in three), what="all nodes are empty")
    print(f"{survived} clients of other workers")


def test_setups_at_once(cluster, fake, router, exact):
    """A node that gets all streams of another one gets no more than 64 at a time."""
    one, other = cluster(1)[0], fake("f1", gate=threading.Event())
    r = router([one], failover={"stall": "10s"}, router={"dial_timeout": "10s"})
    e = exact(r, 100, 0, kind="v", bytes=100, drain=500)
    procs.eventually(lambda: len(one.live()) == 100, what="all are there")
    r.reload(nodes=[one, other])
    one.kill()
    other.wait(lambda f: sum(s.name is not None for s in f.sessions) == 64)
    time.sleep(0.2)
    assert other.accepted == 64
    other.does.gate.set()
    other.wait(lambda f: len(f.publishers) == 100)
    assert e.end()["disconnects"] == 0


def workers_of(router, kind):
    return {line["stream"]: {x["worker"] for x in router.logs("stream_placed", kind=kind, stream=line["stream"])}
            for line in router.logs("stream_placed", kind=kind)}


LEGACY = [
    {"kind": "v"},
    {"gop": 10000},
    {"time": 2**32 - 4000},
    {"bytes": 20000, "slow": 450000},  # of 530000 that come: one much slower is stalled before a slow test is over
]
# nginx-rtmp finds no keyframes in these, and one keyframe is none to who comes later
NO_KEYFRAMES_SEEN = [{"codec": "hevc"}, {"codec": "av1", "twice": 1}, {"codec": "av1", "kind": "v", "gop": 10000}, {"gop": 3600000}]


@pytest.mark.parametrize("kinds, wait_key", [(LEGACY, "on"), (NO_KEYFRAMES_SEEN, "off")])
def test_kinds_together(kinds, wait_key, cluster, router, exact, stack):
    """Video alone, long groups, times that wrap, slow players; HEVC, AV1 and Opus, one keyframe for ever; players that join in
    the middle, of a group or of a move; on other workers than their publishers."""
    three = cluster(3, edits=[("wait_key on;", f"wait_key {wait_key};")])
    r = router(three, workers=4, placement=EASY, failover=OFTEN, router=PATIENT)
    there = [exact(r, 1, 2, name=f"kind{i}-", **what) for i, what in enumerate(kinds)]
    joining = Exact(r, 1, 20, stagger=250, gop=1000)
    stack.append(joining)
    for i in range(12 if LONG else 3):
        mark = r.mark()
        node = procs.eventually(lambda: next((n for n in three[i % 3 :] + three if n.live()), None))
        time.sleep(random.uniform(0.7, 1.5))
        node.kill()
        r.wait_log("stream_moved", since=mark)
        time.sleep(random.uniform(0.2, 0.6))
        node.start()
    joining.wait_ready()
    for e in (*there, joining):
        e.proc.signal(signal.SIGTERM)
    for e in (*there, joining):
        e.report()
    publishers, players = workers_of(r, "publish"), workers_of(r, "play")
    assert any(players[stream] - publishers[stream] for stream in publishers)


def content(m):
    return m.type, bytes(m.payload)


def test_clock_of_its_own(fakes, router, publish, client, clips):
    """Nodes that restart the clock for each player, as SRS does: the player goes on at a keyframe, on a clock that never steps
    back nor far ahead, whichever of the nodes it is on."""
    three = fakes(3, own_clock=True)
    r = router(three, placement=EASY, failover={"stall": "7s"})
    clip = clips(seconds=12, noise=True)  # longer than what is shown again, and no frame is there twice
    publish(r.url("live/x"), source=clip).wait_sending(frames=250)  # older than failover.reach and a group of pictures
    c = client(r)
    c.play("x")
    numbers = {content(m): i for i, m in enumerate(m for m in clip.messages() if m.type == rtmp.VIDEO and m.payload[1] == 1)}
    keys = {content(m) for m in clip.messages() if m.type == rtmp.VIDEO and m.payload[0] == 0x17}

    def jumps(got):
        video = [m for m in got if content(m) in numbers]
        return [b for a, b in zip(video, video[1:]) if numbers[content(b)] != (numbers[content(a)] + 1) % len(numbers)]

    got = c.recv_media(60)
    for moves in (1, 2):
        mark, until = r.mark(), time.monotonic() + rtmp.DEADLINE
        home = next(n for n in three if n.publishers)
        home.stop()
        r.wait_log("player_rehomed", since=mark)
        while len(jumps(got)) < moves and time.monotonic() < until:  # what came before is read first
            got += c.recv_media(20)
        got += c.recv_media(80)
    for kind in (rtmp.AUDIO, rtmp.VIDEO):
        times = [m.ts for m in got if m.type == kind and m.payload[1] != 0]
        steps = [b - a for a, b in zip(times, times[1:])]
        assert len(times) > 50 and min(steps) >= 0 and max(steps) < 1000, steps
    assert len(jumps(got)) == moves and all(content(m) in keys for m in jumps(got))
    assert not r.logs("session_closed")


def test_node_media_server(nms, router, exact):
    """It passes the publisher's times on, so nothing is missed; but it is slow to send the last ones."""
    two = [nms("m1"), nms("m2")]
    r = router(two, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 3, 2, peers=1, drain=1000)
    for i in range(6 if LONG else 2):
        mark = r.mark()
        node = two[i % 2]
        time.sleep(random.uniform(1, 2))
        node.kill()
        time.sleep(random.uniform(0.5, 1))
        node.start()
        procs.eventually(lambda: not on_the_way(r), what="all moves have ended")
        assert r.logs("stream_moved", since=mark)
    e.end()
    assert all(unharmed(p) for p in e.peers()), e.proc.err.tail()
