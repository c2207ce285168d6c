"""weir-healthd with real nodes, and with made ones where a real one cannot be had so easily."""

import contextlib
import datetime
import os
import re
import resource
import signal
import socket
import threading
import time

import admin as api
import healthd
import names
import procs
import pytest
import rtmp
import weir

FAST = healthd.FAST
PROBE_APP = "application weir_probe { live on; }"


@pytest.fixture
def health(stack):
    """health(router) -> a running Healthd beside it; it must end clean."""
    made = []

    def make(router, start=True, **how):
        h = healthd.Healthd(router, **how)
        made.append(h)
        stack.append(h)
        return h.start() if start else h

    yield make
    bad = ("Sanitizer", "runtime error", "Assertion", "assert")
    for h in made:
        if h.proc and h.proc.running:
            assert h.stop() == 0, h.proc.err.tail()
        assert not (h.proc and [line for line in h.raw() if any(b in line for b in bad)]), "\n".join(h.raw())


@pytest.fixture
def stat(stack):
    """stat() -> FakeStat."""

    def make():
        s = healthd.FakeStat()
        stack.append(s)
        return s

    return make


@pytest.fixture
def watched(router, health):
    """watched(entries, checks=[...]) -> (router, healthd) with fast checks."""

    def make(entries, more=None, **policy):
        r = router(entries, healthd={**FAST, **policy}, **(more or {}))
        return r, health(r)

    return make


def health_seen(router, node):
    """What a router says of the node's health."""
    text = router.command("--explain", "live/x").stdout
    return re.search(rf"^(?:=>)? +{node.id} +\S+ +\S+ +(\S+)", text, re.MULTILINE).group(1)


def wait_seen(router, node, what):
    procs.eventually(lambda: health_seen(router, node) == what, what=f"{node.id} is seen as {what}")


def seconds_between(line, later):
    first, last = (datetime.datetime.fromisoformat(x["ts"].replace("Z", "+00:00")) for x in (line, later))
    return (last - first).total_seconds()


def streams_avoid(router, node, count=40):
    return all(router.explain(f"live/x{i}") != node.id for i in range(count))


# The life of a node


def test_killed_and_back(cluster, watched):
    three = cluster(3)
    r, h = watched([healthd.stat_node(n) for n in three])
    h.wait_up(*three)
    for node in three:
        wait_seen(r, node, "up")
    mark = h.mark()
    three[1].kill()
    killed = time.monotonic()
    line = h.wait_verdict(three[1], "down", since=mark)
    assert time.monotonic() - killed < 5
    assert line["reason"] == "tcp: Connection refused" and line["previous"] == "up" and line["level"] == "warn"
    assert "dials 127.0.0.1" in line["detail"] and "Connection refused" in line["detail"]
    wait_seen(r, three[1], "down")
    assert streams_avoid(r, three[1])
    mark = h.mark()
    three[1].start()
    line = h.wait_verdict(three[1], "up", since=mark)
    assert "got _result of connect" in line["detail"]
    wait_seen(r, three[1], "up")
    assert len(h.logs("node_verdict")) == 3 + 2


def test_hung_node_that_accepts_goes_down(cluster, watched):
    hung, other = cluster(2)
    r, h = watched([weir.node_entry(n) for n in (hung, other)])  # without stat
    h.wait_up(hung, other)
    hung.pause()
    try:
        line = h.wait_verdict(hung, "down")
        assert line["reason"] == "rtmp: no handshake within 1000 ms"
        assert "connected" in line["detail"] and "time is up" in line["detail"]
        wait_seen(r, hung, "down")
        assert streams_avoid(r, hung)
    finally:
        hung.resume()
    h.wait_log("node_verdict", node=hung.id, state="up", previous="down")


def test_answers_that_came_while_it_stood_still(cluster, watched):
    """As with its machine, for longer than nodes have for an answer: what they answered meanwhile counts."""
    nodes = cluster(2)
    _, h = watched(nodes, fall=1, checks=["rtmp"], timeout="4s")
    h.wait_up(*nodes)
    for n in nodes:
        n.pause()
        procs.eventually(lambda n=n: any(c.local == n.port and c.waiting for c in procs.connections()), what="it is being asked")
    with procs.stood_still([h.proc.pid], 6):
        for n in nodes:
            n.resume()
            procs.eventually(lambda n=n: any(c.remote == n.port and c.waiting for c in procs.connections()), what="its answer waits")
    for n in nodes:
        n.stop()
        reason = h.wait_verdict(n, "down")["reason"]
        assert "within" not in reason, reason  # it is gone: refused, or reset in the midst of a check


def test_hung_node_is_found_by_stat_alone(cluster, watched):
    (hung,) = cluster(1)
    _, h = watched([healthd.stat_node(hung)], checks=["tcp", "stat"])
    h.wait_up(hung)
    hung.pause()
    try:
        assert h.wait_verdict(hung, "down")["reason"] == "stat: no answer within 1000 ms"
    finally:
        hung.resume()
    h.wait_log("node_verdict", node=hung.id, state="up", previous="down")


def test_unplugged_node(cluster, watched):
    """Its backlog is full, so that the kernel drops what comes: to us the same as a pulled cable."""
    (alive,) = cluster(1)
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = full.getsockname()[1]
    filling = [socket.socket() for _ in range(3)]
    for s in filling:
        s.setblocking(False)
        s.connect_ex(("127.0.0.1", port))
    try:
        _, h = watched([{"id": "dark", "rtmp": f"127.0.0.1:{port}"}, weir.node_entry(alive)])
        line = h.wait_log("node_verdict", node="dark", state="down")
        assert line["reason"] == "tcp: no connection within 1000 ms"
        h.wait_up(alive)
    finally:
        for s in (*filling, full):
            s.close()


def test_node_that_refuses_its_app(cluster, watched):
    (node,) = cluster(1, edits=[("application live {", "application other {")])
    _, h = watched([healthd.stat_node(node)])
    line = h.wait_verdict(node, "down")
    assert line["reason"] == "rtmp: closed by the node before _result of connect"
    assert "got S0 S1 S2" in line["detail"]


@pytest.mark.parametrize(
    "talk, reason",
    [
        (b"SSH-2.0-OpenSSH\r\n", "rtmp: not an RTMP answer, instead of handshake"),
        (b"\x03" + bytes(3072) + b"\xff" * 64, "rtmp: not an RTMP answer, instead of _result of connect"),
        (b"\x03" + bytes(100), "rtmp: no handshake within 1000 ms"),
    ],
)
def test_something_else_at_the_port(talk, reason, watched):
    server = socket.create_server(("127.0.0.1", 0), backlog=64)
    held = []

    def serve():
        while True:
            try:
                s, _ = server.accept()
            except OSError:
                return
            held.append(s)
            s.sendall(talk)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        more = {} if "within" in reason else {"timeout": "10s"}  # what answers here is Python
        _, h = watched([{"id": "odd", "rtmp": f"127.0.0.1:{server.getsockname()[1]}"}], **more)
        assert h.wait_log("node_verdict", node="odd", state="down")["reason"] == reason
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
        for s in held:
            s.close()


def test_flapping_node_is_held_down(fakes, watched):
    (node,) = fakes(1)
    _, h = watched([node], rise=1, fall=1, flap_max=3, flap_window="1m", flap_hold="3s", checks=["tcp"])
    h.wait_up(node)
    for state in ("down", "up", "down"):
        mark = h.mark()
        if state == "down":
            node.refuse()
        else:
            node = rtmp.FakeNode(node.port)
            node.id = "f1"
        down = h.wait_verdict(node, state, since=mark)
    node = rtmp.FakeNode(node.port)
    node.id = "f1"
    try:
        mark = h.mark()
        up = h.wait_verdict(node, "up", since=mark)
        assert seconds_between(down, up) > 2.9
    finally:
        node.stop()


# Statistics


def test_reload_is_a_new_generation(cluster, watched):
    (node,) = cluster(1)
    _, h = watched([healthd.stat_node(node)])
    h.wait_up(node)
    old = node.stat().findtext("pid")
    procs.eventually(lambda: int(node.stat().findtext("uptime")) >= 3, what="the node is some seconds old")
    node.proc.signal(signal.SIGHUP)  # nginx -s reload
    line = h.wait_log("node_reloaded")
    pid = procs.eventually(lambda: (now := node.stat().findtext("pid")) != old and now, what="the old worker is gone")
    assert line["node"] == node.id and line["pid"] == pid and line["count"] == "2"
    assert line["version"].startswith("nginx 1.")
    time.sleep(1)
    assert len(h.logs("node_reloaded")) == 1 and not h.logs("node_verdict", state="down")


def test_statistics_page_that_fails_takes_the_node_down(fakes, stat, watched):
    (node,) = fakes(1)
    page = stat()
    page.pages["/stat"] = (200, healthd.nginx_page())
    _, h = watched([weir.node_entry(node, stat=page.url("/stat"))])
    h.wait_up(node)
    for answer, reason in [
        ((500, "oops"), "stat: HTTP status 500"),
        ((302, ""), "stat: HTTP status 302"),
        ((200, "<html>nginx</html>"), "stat: the page is neither nginx-rtmp's nor SRS's"),
        ((200, healthd.nginx_page()[:-5]), "stat: the page is neither nginx-rtmp's nor SRS's"),
    ]:
        mark = h.mark()
        page.pages["/stat"] = answer
        assert h.wait_verdict(node, "down", since=mark)["reason"] == reason
        page.pages["/stat"] = (200, healthd.nginx_page())
        page.chunked = not page.chunked
        h.wait_verdict(node, "up", since=mark)


def test_srs(fakes, stat, watched):
    (node,) = fakes(1)
    api = stat()
    api.pages["/api/v1/streams/"] = (
        200,
        '{"code":0,"streams":[{"name":"cam","app":"live","clients":2,"publish":{"active":true}}]}',
    )
    api.pages["/api/v1/summaries"] = (200, '{"code":0,"data":{"self":{"version":"5.0.1","pid":7,"srs_uptime":100}}}')
    r, h = watched([weir.node_entry(node, stat=api.url("/api/v1/"))])
    h.wait_up(node)
    assert set(api.asked) == {"/api/v1/streams/?count=16384", "/api/v1/summaries"}
    procs.eventually(lambda: "live on f1 without a claim" in r.command("--explain", "live/cam").stdout, what="live/cam is found")
    api.pages["/api/v1/summaries"] = (200, '{"code":0,"data":{"self":{"version":"5.0.1","pid":9,"srs_uptime":0}}}')
    assert h.wait_log("node_reloaded")["version"] == "SRS 5.0.1"


def test_nodes_that_differ(cluster, watched):
    same = cluster(2)
    other = cluster(1, apps=["application extra { live on; }"])[0]
    _, h = watched([healthd.stat_node(n) for n in (*same, other)])
    line = h.wait_log("node_skew")
    assert line["node"] == other.id and line["reason"] == "applications" and line["level"] == "warn"
    time.sleep(1)
    assert len(h.logs("node_skew")) == 1
    other.conf.write_text(other.conf.read_text().replace("application extra { live on; }", ""))
    other.proc.signal(signal.SIGHUP)
    assert h.wait_log("node_skew", state="same")["node"] == other.id


def test_stuck_node(fakes, stat, watched, client):
    """One takes nothing of what it is sent; the other is sent nothing, and its publisher answers pings."""
    node, quiet = fakes(2)
    page, quiet_page = stat(), stat()
    page.pages["/stat"] = (200, healthd.nginx_page(streams=[("cam", 5000)]))
    quiet_page.pages["/stat"] = (200, healthd.nginx_page(streams=[("silent", 5000)]))
    entries = [weir.node_entry(node, stat=page.url("/stat")), weir.node_entry(quiet, stat=quiet_page.url("/stat"))]
    r, h = watched(entries, {"router": {"ping_interval": "1s"}, "placement": {"slow_start": "0s"}}, stuck_after="2s")
    h.wait_up(node, quiet)
    name_of = {n.id: next(s for s in (f"s{i}" for i in range(100)) if r.explain(f"live/{s}") == n.id) for n in (node, quiet)}
    c, silent = client(r), client(r)
    assert c.publish(name_of[node.id])[1] == "status"
    assert silent.publish(name_of[quiet.id])[1] == "status"
    ending = threading.Event()

    def answer_pings():
        while not ending.is_set():
            with contextlib.suppress(TimeoutError):
                silent.recv(timeout=0.2)

    def send():
        ts = 0
        while not ending.wait(0.05):
            ts += 50
            c.send(rtmp.VIDEO, b"\x17\x01\0\0\0" + bytes(500), msid=1, ts=ts, csid=6)

    threads = [threading.Thread(target=f, daemon=True) for f in (send, answer_pings)]
    for t in threads:
        t.start()
    try:
        line = h.wait_verdict(node, "down")
        assert line["reason"].startswith("stuck: its input has stood still for ")
        page.pages["/stat"] = (200, healthd.nginx_page(streams=[("cam", 5001)]))
        h.wait_log("node_verdict", node=node.id, state="up", previous="down")
        assert not h.logs("node_verdict", node=quiet.id, state="down")
    finally:
        ending.set()
        for t in threads:
            t.join(5)


# The loop check


def test_loop(cluster, watched):
    (good,) = cluster(1, apps=[PROBE_APP])
    (bad,) = cluster(1)
    r, h = watched([healthd.stat_node(n) for n in (good, bad)], checks=["rtmp", "stat", "loop"], loop_interval="1s")
    h.wait_up(good)
    line = h.wait_verdict(bad, "down")
    assert line["reason"] == "loop: closed by the node before _result of connect"
    time.sleep(2.5)
    assert not h.logs("node_verdict", node=good.id, state="down")


def test_loop_finds_a_node_that_delivers_nothing(cluster, watched):
    """Its application takes publishers and refuses players."""
    (node,) = cluster(1, apps=["application weir_probe { live on; deny play all; }"])
    _, h = watched([healthd.stat_node(node)], checks=["rtmp", "stat", "loop"])
    line = h.wait_verdict(node, "down")
    assert re.match(r"loop: closed by the node before (Play.Start|media)", line["reason"]), line
    assert "publisher started" in line["detail"]


# PROXY header


def test_node_with_proxy_header(cluster, watched):
    with_header, without = cluster(2, edits=[("so_keepalive=10s:5s:3", "proxy_protocol")])
    _, h = watched([healthd.stat_node(with_header, send_proxy="v1"), healthd.stat_node(without)])
    assert "sends PROXY header" in h.wait_verdict(with_header, "up")["detail"]
    assert h.wait_verdict(without, "down")["reason"].startswith("rtmp: ")


# Passive checks


def test_dial_that_failed_triggers_a_check(cluster, router, health, client, stack, tmp_path):
    """A round a minute, and nobody waits so long."""
    gone, other = cluster(2)
    slow = {"interval": "1m", "fast_interval": "100ms"}
    r = router([weir.node_entry(n) for n in (gone, other)], healthd=slow, placement={"slow_start": "0s"})
    h = health(r).wait_up(gone, other)
    name = r.key_on(gone.id).split("/")[1]
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    a.wait_in_force()
    gone.kill()
    assert client(r).publish(name)[1] == "status"  # on the other one
    h.wait_verdict(gone, "down")


# Processes


def test_what_it_lacks_itself_takes_no_node_down(cluster, watched):
    """No descriptor is left for checks: nothing is known of the nodes, least of all that they are down."""
    one, two = cluster(2)
    r, h = watched([healthd.stat_node(n) for n in (one, two)])
    h.wait_up(one, two)
    pid = h.proc.pid
    hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
    mark = h.mark()
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    line = h.wait_log("checks_impossible", since=mark)
    assert "Too many open files" in line["error"]
    time.sleep(3)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert not h.logs("node_verdict", mark)
    assert health_seen(r, one) == health_seen(r, two) == "up"
    two.kill()
    h.wait_verdict(two, "down", since=mark)


def test_two_of_them(cluster, watched, health):
    one, two = cluster(2)
    r, first = watched([healthd.stat_node(n) for n in (one, two)])
    first.wait_up(one, two)
    second = health(r)
    second.wait_log("healthd_standby")
    assert not second.logs("healthd_active")
    for node in (one, two):
        wait_seen(r, node, "up")
    first.kill()
    killed = {"ts": datetime.datetime.now(datetime.timezone.utc).isoformat()}
    two.kill()
    assert seconds_between(killed, second.wait_log("healthd_active")) < 5  # when health would be unknown
    second.wait_verdict(two, "down")
    assert health_seen(r, one) == "up"  # never unknown meanwhile
    assert not second.logs("node_verdict", node=one.id)
    first.start()
    first.wait_log("healthd_standby")
    assert second.stop() == 0
    stopped, active = second.logs("healthd_stopped")[0], first.wait_log("healthd_active")
    assert seconds_between(stopped, active) < 2  # the lease was given back


def test_the_one_that_died_is_not_shown_for_ever(cluster, watched, health, stack, tmp_path):
    """A new one stands by while the lease of the dead one lasts; its record of that time is no process of its own."""
    (node,) = cluster(1)
    r, h = watched([healthd.stat_node(node)])
    h.wait_up(node)
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    h.kill()
    h.start()
    h.wait_log("healthd_active")

    def shown():
        return [(p["alive"], p["standby"]) for p in a.get("/api/v1/workers")["items"] if p["kind"] == "healthd"]

    procs.eventually(lambda: shown() == [(True, False)], timeout=15, what="only the one that works is shown")
    second = health(r)
    second.wait_log("healthd_standby")
    procs.eventually(lambda: sorted(shown()) == [(True, False), (True, True)], what="both are told apart")


def test_restart_goes_on_with_what_was_known(cluster, watched):
    (node,) = cluster(1)
    r, h = watched([healthd.stat_node(node)])
    h.wait_up(node)
    up = time.monotonic()
    time.sleep(0.5)
    h.kill()
    h.start()
    h.wait_log("healthd_active")
    time.sleep(1)
    assert not h.logs("node_verdict") and not h.logs("node_reloaded")
    known = time.monotonic() - up
    node.kill()
    assert int(h.wait_verdict(node, "down")["duration_ms"]) >= known * 1000 - 50
    wait_seen(r, node, "down")


def test_without_it_health_is_unknown(cluster, watched):
    (node,) = cluster(1)
    r, h = watched([weir.node_entry(node)])
    h.wait_up(node)
    node.kill()
    h.wait_verdict(node, "down")
    h.kill()
    wait_seen(r, node, "unknown")
    h.start()
    wait_seen(r, node, "down")


def test_reload(cluster, watched):
    one, two = cluster(2)
    r, h = watched([healthd.stat_node(one)])
    h.wait_up(one)
    mark = h.mark()
    h.reload(healthd={"app": "nosuch"})
    h.wait_verdict(one, "down", since=mark)
    mark = h.mark()
    h.reload(healthd={"app": "live", "checks": ["tcp"]})
    h.wait_verdict(one, "up", since=mark)
    mark = h.mark()
    r.reload(nodes=[healthd.stat_node(two)])
    h.wait_verdict(two, "up", since=mark)
    two.kill()
    h.wait_verdict(two, "down", since=mark)


def test_names_are_looked_up_anew(fakes, stat, router, health, tmp_path):
    """The page of a node is at another address: from the next SIGHUP on."""
    (node,) = fakes(1)
    page = stat()
    page.pages["/stat"] = (200, healthd.nginx_page())
    made_up = names.Names(tmp_path, pages="127.0.0.9")
    entry = weir.node_entry(node, stat=page.url("/stat").replace("127.0.0.1", "pages"))
    h = health(router([entry], healthd={**FAST, "checks": ["stat"]}), env=made_up.env)
    h.wait_verdict(node, "down")
    made_up.set(pages="127.0.0.1")
    mark = h.mark()
    h.reload()
    h.wait_verdict(node, "up", since=mark)
    made_up.set()
    mark = h.mark()
    h.reload()
    h.wait_log("node_unresolved", since=mark)
    time.sleep(2)
    assert not h.logs("node_verdict", since=mark)


@pytest.mark.parametrize(
    "change, named", [({"healthd": {"rise": "many"}}, "healthd.rise"), ({"cluster": {"name": "x"}}, "cluster.name")]
)
def test_bad_reload_is_refused_whole(change, named, fakes, watched):
    (node,) = fakes(1)
    _, h = watched([node])
    h.wait_up(node)
    assert named in h.reload(expect="config_refused", **change)["error"]
    mark = h.mark()
    node.refuse()
    h.wait_verdict(node, "down", since=mark)


def test_command_line(tmp_path):
    def run(*args):
        return procs.run([healthd.binary(), *args])

    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text("cluster: { store: 'lmdb:/nonexistent/weir' }\nnodes: []\n")
    bad.write_text("healthd: { interval: never }\n")
    assert run("-h").returncode == 0 and "usage: weir-healthd" in run("-h").stdout
    assert re.match(r"weir-healthd \d+\.\d+", run("-V").stdout)
    assert run("-c", str(good), "-t").returncode == 0
    result = run("-c", str(bad), "-t")
    assert result.returncode == 2 and "bad.yaml:1:" in result.stderr
    for args in ([], ["-x"], ["-c"], ["-c", str(good), "extra"], ["-c", str(tmp_path / "none.yaml")]):
        assert run(*args).returncode == 2, args
    if os.geteuid() != 0:
        assert run("-c", str(good)).returncode == 1


def test_systemd_is_told(fakes, router, health, tmp_path):
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(path)
        s.settimeout(procs.DEADLINE)
        h = health(router(fakes(1)), env={"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "1000000"})
        seen = []

        def wait(what):
            while what not in seen:
                seen.extend(s.recv(4096).decode().split("\n"))

        wait("READY=1")
        wait("WATCHDOG=1")
        h.proc.signal(signal.SIGHUP)
        wait("RELOADING=1")
        h.proc.signal(signal.SIGTERM)
        wait("STOPPING=1")
        assert h.proc.wait() == 0


def test_ten_thousand_checks_leak_nothing(cluster, router, health):
    """Good ones, refused ones, and ones that time out."""
    real = cluster(2)
    real[1].pause()
    entries = [weir.node_entry(real[0], stat=real[0].stat_url) | {"id": f"a{i}"} for i in range(60)]
    entries += [weir.node_entry(real[1], stat=real[1].stat_url) | {"id": f"b{i}"} for i in range(5)]
    entries += [{"id": f"c{i}", "rtmp": f"127.0.0.1:{procs.free_port()}"} for i in range(5)]
    r = router(entries, healthd={"interval": "100ms", "fast_interval": "100ms", "timeout": "90ms", "fall": 2, "flap_max": 0})

    def sizes():
        with open(f"/proc/{h.proc.pid}/status") as f:
            rss = int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))
        return rss, len(os.listdir(f"/proc/{h.proc.pid}/fd"))

    try:
        # Without this a sanitizer keeps all that is freed
        h = health(r, env={"ASAN_OPTIONS": "quarantine_size_mb=1:thread_local_quarantine_size_kb=64"})
        before = real[0].accepted()
        procs.eventually(lambda: real[0].accepted() >= before + 1500, timeout=200, what="warm")
        rss, _ = sizes()
        procs.eventually(lambda: real[0].accepted() >= before + 6500, timeout=200, what="10,000 checks", every=0.2)
        rss_after, fds = sizes()
        assert fds < 3 * len(entries) + 30
        assert rss_after < rss + 3000
    finally:
        real[1].resume()


# Streams that nobody claims


def test_stream_published_past_the_router_is_found(cluster, watched, publish, play):
    four = cluster(4)
    r, h = watched([healthd.stat_node(n) for n in four])
    h.wait_up(*four)
    home = r.explain("live/past")
    elsewhere = next(n for n in four if n.id != home)
    publish(elsewhere.url("live/past"))
    found = f"live on {elsewhere.id} without a claim"
    procs.eventually(lambda: found in r.command("--explain", "live/past").stdout, what="the stream is found")
    player = play(r.url("live/past"))
    player.wait_packets(20)
