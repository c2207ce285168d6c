"""tests/bench, in small: the load goes through the router whole, and the tables come out."""

import json
import pathlib
import sys

import nodes
import procs
import pytest
import weir

SCRIPTS = nodes.ROOT / "tests" / "bench"


def load_binary():
    beside = pathlib.Path(weir.binary()).with_name("load")  # the release preset builds no tests
    return str(beside if beside.exists() else nodes.ROOT / "build" / "dev" / "bin" / "load")


def bench(tmp_path, only, *more):
    file = tmp_path / "bench.json"
    build = pathlib.Path(weir.binary()).parents[1]
    argv = [sys.executable, str(SCRIPTS / "relay.py"), "--let-sleep", "--runs", "1", "--seconds", "1", "--settle", "0.2"]
    argv += ["--size", "0.05", "--only", only]
    argv += ["--proxies", "direct,weir,weir-shared", "--build", str(build), "--load", load_binary(), "--json", str(file), *more]
    done = procs.run(argv, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = json.loads(file.read_text())["runs"]
    return done.stdout, {(r["what"], r["relay"]): r["figures"] for r in runs}


def test_media(tmp_path):
    text, figures = bench(tmp_path, "ingest,playback,crowd")
    for what, rate, title in (
        ("ingest", 5 * 0.006, "Ingest: 100 publishers"),
        ("playback", 10 * 0.006, "Playback: 10 streams"),
        ("crowd", 50 * 0.006, "Playback: 1,000 players"),
    ):
        assert f"| {title}" in text
        for relay in ("direct", "weir", "weir-shared")[: 2 if what == "ingest" else 3]:
            assert 0.1 * rate < figures[what, relay]["gbit_s"] < 4 * rate  # the machine may be busy
        assert figures[what, "weir"]["cpu_s_per_gb"] > 0
    assert "| ingest, p99 latency ms <= direct + 1 ms |" in text


def test_setups_and_memory(tmp_path):
    text, figures = bench(tmp_path, "setup,memory_2000")
    assert figures["setup", "weir"]["per_s"] > 0 and figures["setup", "weir"]["cpu_us"] > 0
    assert figures["memory_2000", "weir"]["pss_kib"] > 0
    assert "| PSS KiB per idle session at 2,000 <= 12 |" in text


@pytest.mark.parametrize(
    "load, events",
    [
        (["--publishers", "60", "--players", "120", "--kbits", "100"], ["kill", "hang"]),
        (["--publishers", "4", "--players", "1200", "--kbits", "24", "--fps", "2"], ["drain"]),
    ],
    ids=["streams", "audience"],
)
def test_moves(tmp_path, load, events):
    """In the default configuration: 60 links to a node, which take turns at pings; 300 players of a stream, told in more than one turn."""
    file = tmp_path / "bench.json"
    build = pathlib.Path(weir.binary()).parents[1]
    argv = [sys.executable, str(SCRIPTS / "rehome.py"), "--runs", "1", *load, "--events", ",".join(events)]
    done = procs.run([*argv, "--build", str(build), "--load", load_binary(), "--json", str(file)], timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    for event, runs in json.loads(file.read_text()).items():
        (figures,) = runs
        assert figures["sessions"] > 30 and figures["wrong"] == 0, event
        assert 0 < figures["longest_ms"] < 10000, event
    assert "| messages lost, repeated, damaged; clients cut off " + "| 0 " * len(events) + "|" in done.stdout
