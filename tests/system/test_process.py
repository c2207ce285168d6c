"""The program: options, exit codes, signals, workers that die."""

import contextlib
import datetime
import fcntl
import os
import re
import signal
import socket
import subprocess
import time

import admin
import procs
import pytest
import rtmp
import weir


def serves(r):
    """A connection is taken, and closed for what it sends: a line in the log each."""
    try:
        with socket.create_connection((r.host, r.port), procs.DEADLINE) as c:
            return c.send(b"GET / HTTP/1.0\r\n\r\n") and c.recv(1) == b""
    except ConnectionRefusedError:
        return False
    except ConnectionResetError:
        return True


def test_options():
    version = procs.run([weir.binary(), "-V"])
    assert version.returncode == 0 and "0." in version.stdout
    usage = procs.run([weir.binary(), "-h"])
    assert usage.returncode == 0 and "-c" in usage.stdout
    for argv in (["--nonsense"], [], ["-c"]):
        assert procs.run([weir.binary(), *argv]).returncode == 2, argv


def test_check(fakes, router, tmp_path):
    r = router(fakes(2), start=False)
    assert r.command("-t").returncode == 0
    for text, where in [
        ("cluster:\n  nmae: x\n", ":2:3: "),
        ("router:\n  retries: lots\n", ":2:12: "),
        ("nodes: [\n", ":"),
        ("router:\n  listen:\n    - { address: 1.2.3.4:99999 }\n", ":3:"),
    ]:
        result = weir.check_file(text, tmp_path)
        assert result.returncode == 2, text
        assert f"{tmp_path}/weir.yaml{where}" in result.stderr + result.stdout, text
    missing = procs.run([weir.binary(), "-c", str(tmp_path / "none.yaml")])
    assert missing.returncode == 2


def test_printed_configuration_is_a_configuration(fakes, router, tmp_path):
    r = router(fakes(2), start=False)
    printed = r.command("--print-config")
    assert printed.returncode == 0
    again = weir.check_file(printed.stdout, tmp_path, "--print-config")
    assert again.returncode == 0 and again.stdout == printed.stdout


def test_sample_configuration_is_accepted():
    sample = os.path.join(weir.real_nodes.ROOT, "conf", "weir.yaml")
    assert procs.run([weir.binary(), "-c", sample, "-t"]).returncode == 0


def test_address_in_use(fakes, router):
    r = router(fakes(1), start=False)
    with socket.create_server(("127.0.0.1", r.port), reuse_port=True):
        result = procs.run([weir.binary(), "-c", str(r.file)], timeout=procs.DEADLINE)
    assert result.returncode == 1
    (end,) = [weir.parse_logfmt(line) for line in result.stderr.splitlines()]
    assert end["event"] == "router_stopped" and end["level"] == "error" and str(r.port) in end["error"]


def test_two_routers_do_not_share_an_id(fakes, router, client):
    nodes = fakes(1)
    r = router(nodes, router={"shutdown_grace": "20s"})
    c = client(r)
    assert c.publish("x")[1] == "status"
    twin = router(nodes, start=False, cluster=r.config["cluster"])
    result = twin.command()
    assert result.returncode == 1
    assert f"router.id router1 is in use by process {r.proc.pid}" in result.stderr
    player = client(r)
    player.play("x")  # the publisher's claim is still there
    assert r.wait_log("stream_placed", kind="play")["reason"] == "claim"
    r.terminate()
    r.wait_log("router_stopping")
    twin.start()  # a successor does not wait for the last sessions, nor do they lose their records
    late = client(twin)
    assert late.publish("y")[1] == "status"
    player_there = client(twin)
    player_there.play("x")
    assert twin.wait_log("stream_placed", kind="play")["reason"] == "claim"
    c.close()
    player.close()
    assert r.proc.wait() == 0  # nor does it take away those of its successor
    mark = twin.mark()
    client(twin).play("y")
    assert twin.wait_log("stream_placed", kind="play", since=mark)["reason"] == "claim"


def test_router_that_starts_beside_too_many_workers(fakes, router, client):
    """Those of its predecessor, whose sessions have not ended, are in slots of their own: there are 64."""
    nodes = fakes(1)
    r = router(nodes, workers=33, router={"shutdown_grace": "20s"})
    c = client(r)
    assert c.publish("x")[1] == "status"
    r.terminate()
    r.wait_log("router_stopping")
    twin = router(nodes, start=False, workers=32, cluster=r.config["cluster"])
    assert "router.id router1: the one before still has sessions" in twin.command().stderr
    c.close()
    assert r.proc.wait() == 0
    twin.start()


def test_what_a_killed_router_leaves_in_slots_of_its_own(fakes, router, client, stack, tmp_path):
    """It began as its predecessor's sessions ended. Who comes next has other slots, and clears those."""
    nodes = fakes(1)
    first = router(nodes, router={"shutdown_grace": "60s"})
    c = client(first)
    assert c.publish("x")[1] == "status"
    first.terminate()
    first.wait_log("router_stopping")
    second = router(nodes, cluster=first.config["cluster"])
    for i in range(350):
        assert client(second).publish(f"s{i}")[1] == "status"
    c.close()
    assert first.proc.wait() == 0
    second.kill()
    third = router(nodes, cluster=first.config["cluster"])
    assert not set(second.workers()) & set(third.workers())
    a = admin.Admin(tmp_path / "admin", third)
    stack.append(a)

    def left():
        return next(n for n in a.items("/api/v1/nodes"))["streams"]

    assert left() == 350
    procs.eventually(lambda: left() < 350, what="it is known to be dead")
    procs.eventually(lambda: left() == 0, timeout=5, what="all of it is gone")


def test_hung_workers_are_killed_one_after_the_other(fakes, router):
    """All but one may only wait for what that one has locked."""
    r = router(fakes(1), workers=3)
    for pid in r.workers().values():
        os.kill(pid, signal.SIGSTOP)
    mark = r.mark()
    procs.eventually(lambda: len(r.logs("worker_hung", since=mark)) == 3, what="all have hung")
    hung = r.logs("worker_hung", since=mark)
    at = [datetime.datetime.fromisoformat(line["ts"].replace("Z", "+00:00")) for line in hung]
    assert all((b - a).total_seconds() > 0.9 for a, b in zip(at, at[1:]))
    procs.eventually(lambda: len(r.logs("worker_started", since=mark)) == 3, what="others serve")


def test_log_that_nobody_reads(fakes, router, stack, tmp_path):
    """Lines that find no room are lost and counted, those of the parent too; nobody waits for them."""
    r = router(fakes(1), start=False, log={"unrouted": 100000})
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    proc = subprocess.Popen([weir.binary(), "-c", str(r.file)], stderr=writer)
    try:
        procs.eventually(lambda: serves(r), what="it serves")
        for _ in range(100):
            assert serves(r)
        a = admin.Admin(tmp_path / "admin", r)
        stack.append(a)

        def lost():
            found = re.search(r'^weir_log_lines_lost_total{kind="router",worker="router1/0"} (\d+)$', a.ask("GET", "/metrics").body.decode(), re.M)
            return int(found[1])

        procs.eventually(lost, what="lost lines are counted")
        for _ in range(3):  # the worker says nothing of a reload
            before = lost()
            proc.send_signal(signal.SIGHUP)
            procs.eventually(lambda: lost() > before, what="the parent's line is counted")
        proc.terminate()
        assert proc.wait(procs.DEADLINE) == 0
    finally:
        os.close(reader)
        os.close(writer)
        proc.kill()
        proc.wait()


def test_both_every_addresses_and_localhost(fakes, router):
    """As files of nginx have it: 0.0.0.0 and [::] side by side. And who names localhost is found at 127.0.0.1."""
    everywhere, named = procs.free_port(), procs.free_port()
    listens = [{"address": f"{host}:{everywhere}"} for host in ("0.0.0.0", "[::]")] + [{"address": f"localhost:{named}"}]
    r = router(fakes(1), workers=2, start=False)
    r.config["router"]["listen"] = listens
    r.write()
    r.proc = procs.Proc([weir.binary(), "-c", str(r.file)], name="weir-router", parse=weir.parse_logfmt)
    r.wait_log("router_started")
    for host, port in (("127.0.0.1", everywhere), ("::1", everywhere), ("127.0.0.1", named)):
        c = rtmp.Client(host, port)
        c.handshake()
        c.close()
    r.terminate()
    assert r.proc.wait() == 0


def test_sigterm_without_sessions(fakes, router):
    r = router(fakes(1), workers=2, router={"shutdown_grace": "30s"})
    began = time.monotonic()
    r.terminate()
    assert r.proc.wait() == 0
    assert time.monotonic() - began < 15
    assert r.logs("router_stopping") and r.logs("router_stopped")


def test_sigterm_while_it_starts(fakes, router):
    """Its worker serves already, which the parent looks for a few times a second."""
    r = router(fakes(1), start=False)
    for _ in range(20):
        r.proc = procs.Proc([weir.binary(), "-c", str(r.file)], name="weir-router", parse=weir.parse_logfmt)
        procs.eventually(lambda: serves(r), every=0.002, what="it serves")
        r.terminate()
        assert r.proc.wait() == 0, r.proc.err.tail()


def not_reset(r):
    """A connection that comes just when the listener closes is reset by the kernel."""
    with contextlib.suppress(ConnectionResetError):
        rtmp.Client(r.host, r.port).close()


def test_sigterm_lets_sessions_end(fakes, router, client, clip):
    (node,) = fakes(1)
    r = router([node], workers=2, router={"shutdown_grace": "20s"})
    c = client(r)
    assert c.publish("x")[1] == "status"
    r.terminate()
    r.wait_log("router_stopping")
    with pytest.raises(ConnectionRefusedError):
        procs.eventually(lambda: not_reset(r))
    c.send_media(clip.messages()[:20])
    node.wait(lambda n: sum(m.type == rtmp.VIDEO for m in n.sessions[0].messages) >= 5)
    c.close()
    assert r.proc.wait() == 0
    assert r.logs("session_closed", why="client_closed")


def test_sigterm_to_all_of_them_is_one(fakes, router, client, clip):
    """killall, or a unit without KillMode=mixed: each worker gets it itself, and from its parent once more."""
    (node,) = fakes(1)
    r = router([node], workers=2, router={"shutdown_grace": "20s"})
    c = client(r)
    assert c.publish("x")[1] == "status"
    for pid in r.workers().values():
        os.kill(pid, signal.SIGTERM)
    time.sleep(0.2)  # signals that meet are one
    r.terminate()
    r.wait_log("router_stopping")
    c.send_media(clip.messages()[:20])
    node.wait(lambda n: sum(m.type == rtmp.VIDEO for m in n.sessions[0].messages) >= 5)
    time.sleep(0.5)
    assert not r.logs("session_closed")
    r.terminate()  # the second time
    c.expect_closed()
    assert r.proc.wait() == 0
    assert r.logs("session_closed", why="shutdown")


def test_sigterm_closes_after_the_grace(fakes, router, client):
    r = router(fakes(1), router={"shutdown_grace": "500ms"})
    c = client(r)
    assert c.publish("x")[1] == "status"
    r.terminate()
    c.expect_closed()
    assert r.proc.wait() == 0
    assert r.logs("session_closed", why="shutdown")


@pytest.mark.parametrize("sig", [signal.SIGKILL, signal.SIGSTOP])
def test_worker_that_dies_or_hangs(sig, cluster, router, client, clip):
    three = cluster(3)
    r = router(three, workers=4)
    publishers = {}
    for i in range(24):
        c = client(r)
        assert c.publish(f"s{i}")[1] == "status"
        publishers[f"live/s{i}"] = c
    for key in publishers:
        r.wait_log("stream_placed", stream=key)
    where = {line["stream"]: (int(line["worker"]), line["node"]) for line in r.logs("stream_placed")}
    assert len({w for w, _ in where.values()}) > 1
    victim = where["live/s0"][0]
    mark = r.mark()
    os.kill(r.workers()[victim], sig)
    r.wait_log("worker_started", since=mark, worker=victim)
    assert r.logs("worker_exited", mark)
    assert bool(r.logs("worker_hung", mark)) == (sig == signal.SIGSTOP)  # which is found after 5 s

    lost = [key for key in publishers if where[key][0] == victim]
    kept = [key for key in publishers if where[key][0] != victim]
    for key in lost:
        publishers[key].expect_closed()
    player = client(r)
    player.play(kept[0].split("/")[1])
    publishers[kept[0]].send_media(clip.messages()[:60])
    player.recv_media(10, types=(rtmp.VIDEO,))
    assert r.wait_log("stream_placed", since=mark, kind="play")["reason"] == "claim"
    for key in lost:  # the encoder reconnects and finds its node
        again = client(r)
        assert again.publish(key.split("/")[1])[1] == "status"
        assert r.explain(key) == where[key][1]
    for key in kept:
        assert key in three[int(where[key][1][1:]) - 1].live()


def test_router_killed_and_started_again(cluster, router, client):
    """Its slots are cleaned: no claim of the dead process stands in the way."""
    r = router(cluster(3), workers=2)
    c = client(r)
    assert c.publish("x")[1] == "status"
    home = r.explain("live/x")
    r.kill()
    r.start()
    again = client(r)
    assert again.publish("x")[1] == "status"
    assert r.explain("live/x") == home


def test_store_directory_that_cannot_be_made(fakes, router, tmp_path):
    r = router(fakes(1), start=False)
    for live, why in (("/proc/nowhere/live", "/proc/nowhere"), (tmp_path / "live", "worker did not start")):
        r.config["cluster"] = {"name": "test", "store": "lmdb:/proc/nowhere", "live": str(live)}
        r.write()
        result = r.command(timeout=procs.DEADLINE)
        assert result.returncode == 1
        assert "/proc/nowhere" in result.stderr
        (end,) = [x for x in map(weir.parse_logfmt, result.stderr.splitlines()) if x["event"] == "router_stopped"]
        assert end["level"] == "error" and end["state"] == "failed" and why in end["error"]


def test_json_log(fakes, router, client):
    import json

    r = router(fakes(1), log={"format": "json"}, start=False)
    proc = procs.Proc([weir.binary(), "-c", str(r.file)], parse=json.loads)
    try:
        proc.err.wait(lambda line: line["event"] == "router_started")
        client(r).publish("x")
        line = proc.err.wait(lambda line: line["event"] == "stream_placed")
        assert line["stream"] == "live/x"
    finally:
        proc.stop()


def test_stream_names_are_hashed_in_the_log(fakes, router, client):
    r = router(fakes(1), log={"stream_names": False})
    client(r).publish("secret-name")
    line = r.wait_log("stream_placed")
    assert line["stream"].startswith("#") and len(line["stream"]) == 9
    assert "secret-name" not in r.proc.err.tail(count=1000)


def test_systemd_is_told(fakes, router, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(procs.DEADLINE)
        r = router(fakes(1), env={"NOTIFY_SOCKET": path})
        assert b"READY=1" in s.recv(4096)
        r.terminate()
        while b"STOPPING=1" not in s.recv(4096):
            pass
        assert r.proc.wait() == 0
