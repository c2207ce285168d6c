"""Live streams move off nodes that die, hang or are drained, and nobody notices: every message is numbered and checked
by build/<preset>/bin/exact. WEIR_LONG=1 for the full length."""

import json
import os
import pathlib
import random
import signal
import time

import procs
import pytest
import weir

LONG = bool(os.environ.get("WEIR_LONG"))
EASY = {"max_load_factor": 0}
OFTEN = {"max_moves": 1000}


def exact_binary():
    return str(pathlib.Path(weir.binary()).with_name("exact"))


class Exact:
    """streams publishers with players each; report() ends it and gives what it found."""

    def __init__(self, router, streams, players, seconds=3600, **options):
        argv = [exact_binary(), str(router.port), str(streams), str(players), str(seconds)]
        self.proc = procs.Proc(argv + [f"{k}={v}" for k, v in options.items()], name="exact")

    def wait_ready(self):
        self.proc.out.wait(lambda line: line == "ready", timeout=30, what="all players have media")
        return self

    def stop(self):
        self.proc.kill()

    def report(self):
        if self.proc.running:
            self.proc.signal(signal.SIGTERM)
        self.proc.wait(30)
        result = json.loads(self.proc.out.items[-1])
        print(result)
        wrong = ("lost", "repeated", "corrupt", "back", "shifted", "disconnects", "refused", "ends", "silent")
        assert result["received"] > 0
        assert {k: result[k] for k in wrong} == dict.fromkeys(wrong, 0), self.proc.err.tail()
        return result


@pytest.fixture
def exact(stack):
    def make(router, streams, players, **options):
        e = Exact(router, streams, players, **options)
        stack.append(e)
        return e.wait_ready()

    return make


def sleep_random(low, high):
    time.sleep(random.uniform(low, high))


def drill(nodes, rounds, hurt, heal, pause=(1.0, 2.0)):
    """One node after another, at random moments; healed before the next."""
    for i in range(rounds):
        node = nodes[i % len(nodes)]
        sleep_random(*pause)
        hurt(node)
        sleep_random(0.5, 1.0)
        heal(node)


@pytest.mark.parametrize("workers", [1, 4])
def test_kill(workers, cluster, router, exact):
    three = cluster(3)
    r = router(three, workers=workers, placement=EASY, failover=OFTEN)
    e = exact(r, 20 if LONG else 6, 3)
    drill(three, 50 if LONG else 6, lambda n: n.kill(), lambda n: n.start())
    result = e.report()
    assert len(r.logs("stream_moved")) > 0
    assert result["gap_worst"] < 2000


def test_kill_two_at_once(cluster, router, exact):
    four = cluster(4)
    r = router(four, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 8, 2)
    for i in range(10 if LONG else 3):
        pair = random.sample(four, 2)
        sleep_random(1.0, 2.0)
        for n in pair:
            n.kill()
        sleep_random(0.3, 1.0)
        for n in pair:
            n.start()
    e.report()


@pytest.mark.parametrize("what", [{"kind": "a"}, {"kind": "v"}, {"gop": 10000}, {"time": 2**32 - 6000}, {"twice": 1}, {"bytes": 20000}])
def test_kinds_of_streams(what, cluster, router, exact):
    """Audio alone, video alone, long groups, times that wrap, two messages at each time, 4 Mbit/s."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 3, 2, **what)
    drill(three, 4, lambda n: n.kill(), lambda n: n.start(), pause=(1.5, 2.5))
    e.report()


@pytest.mark.parametrize("workers", [1, 4])
def test_hang(workers, cluster, router, exact):
    """SIGSTOP: the gap is the stall time and a little."""
    three = cluster(3)
    r = router(three, workers=workers, placement=EASY, failover={**OFTEN, "stall": "1s"})
    e = exact(r, 12 if LONG else 4, 3)

    def heal(node):
        time.sleep(3)
        node.resume()

    drill(three, 12 if LONG else 3, lambda n: n.pause(), heal)
    result = e.report()
    assert r.logs("stream_moved", reason="silent")
    assert result["gap_worst"] < 2500


def test_leave(cluster, router, exact):
    """A node that is dropped from the file is left by its streams, one node after the other."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 20 if LONG else 6, 3)
    for i in range(30 if LONG else 3):
        gone = three[i % 3]
        sleep_random(1.0, 2.0)
        r.reload(nodes=[n for n in three if n is not gone])
        procs.eventually(lambda: not gone.live(), what=f"{gone.id} is empty")
        sleep_random(0.2, 0.5)
        assert not gone.streams()
        r.reload(nodes=three)
    result = e.report()
    assert not r.logs("stream_moved", reason="ended")
    assert result["gap_worst"] < 1000


def test_worker_killed(cluster, router, exact):
    """Its own clients go, those of the others stay; no stream is on two nodes afterwards."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover=OFTEN)
    e = Exact(r, 6, 3).wait_ready()
    try:
        three[0].kill()
        os.kill(r.workers()[1], signal.SIGKILL)
        time.sleep(1)
        three[0].start()
        time.sleep(1)
        e.proc.signal(signal.SIGTERM)
        e.proc.wait(30)
        result = json.loads(e.proc.out.items[-1])
        assert result["repeated"] == result["corrupt"] == result["back"] == 0
        time.sleep(1)
        assert [n.live() for n in three] == [set(), set(), set()]
    finally:
        e.stop()
