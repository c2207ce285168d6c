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
