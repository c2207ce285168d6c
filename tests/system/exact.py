"""build/<preset>/bin/exact: publishers of numbered, checksummed messages, and players that look at each one."""

import json
import pathlib
import signal

import nodes
import procs
import weir

ZEROS = ("lost", "repeated", "corrupt", "back", "shifted", "disconnects", "refused", "ends", "silent")


def binary():
    beside = pathlib.Path(weir.binary()).with_name("exact")  # the release preset builds no tests
    return str(beside if beside.exists() else nodes.ROOT / "build" / "dev" / "bin" / "exact")


class Exact:
    """streams publishers with players each; report() ends it and gives what it found."""

    def __init__(self, router, streams, players, seconds=3600, **options):
        argv = [binary(), str(router.port), str(streams), str(players), str(seconds)]
        self.proc = procs.Proc(argv + [f"{k}={v}" for k, v in options.items()], name="exact")

    def wait_ready(self):
        self.proc.out.wait(lambda line: line == "ready", what="all players have media")
        return self

    def stop(self):
        self.proc.kill()

    def end(self):
        """What it found, good or bad."""
        if self.proc.running:
            self.proc.signal(signal.SIGTERM)
        self.proc.wait()
        return json.loads(self.proc.out.items[-1])

    def ended(self):
        """[(stream, "publisher" or "player")] of the connections that have ended so far."""
        lines = [line.split() for line in self.proc.err.items if line.endswith(" disconnected")]
        return [(words[1], words[2]) for words in lines]

    def peers(self):
        """With peers=1, and after the end: what each connection saw."""
        return json.loads(self.proc.out.items[-2])

    def report(self):
        """What it found; nothing may be wrong."""
        result = self.end()
        print(result)
        assert result["received"] > 0
        assert {k: result[k] for k in ZEROS} == dict.fromkeys(ZEROS, 0), self.proc.err.tail()
        return result


def assert_gaps(r, result, usual_ms):
    """At the players. One may take longer: the machine has other things to do too."""
    gaps = sorted(int(line["ms"]) for line in r.logs("player_rehomed"))
    median = gaps[len(gaps) // 2]
    print(f"{len(gaps)} moves of players: median {median} ms, worst {gaps[-1]} ms without media")
    assert median < usual_ms and result["gap_worst"] < usual_ms + 8000
