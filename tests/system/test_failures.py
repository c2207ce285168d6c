"""Nodes that fail while a stream is being placed, and nodes that say no."""

import contextlib
import http.server
import os
import resource
import shutil
import threading
import time

import admin as api
import healthd
import procs
import pytest
import rtmp
import weir
from disk import Disk

QUICK = {"dial_timeout": "1s", "answer_timeout": "1500ms", "setup_timeout": "15s"}
SOON = 8  # seconds: less than the default times


@pytest.fixture
def broken_home(cluster, fake, router):
    """make(fault) -> (router, the node at fault, a stream name at home there); two healthy nginx nodes besides."""

    def make(fault, **config):
        node = fake("broken")
        r = router([*cluster(2), node], **{"router": QUICK, **config})
        name = r.key_on("broken").split("/")[1]
        if fault == "down":
            node.stop()
        elif fault == "dies":
            node.does.accept = "die_at_connect"
        elif fault in ("hang", "close", "reset", "close_after_handshake"):
            node.does.accept = fault
        else:
            node.does.publish = node.does.play = fault
        return r, node, name

    return make


def test_a_node_that_is_gone_has_no_share(fakes, router, client):
    """Only failed dials say that it is, healthd says nothing: the other one takes its streams, and new ones, over its own share."""
    stays, goes = fakes(2)
    r = router([stays, goes], placement={"max_load_factor": 1})
    for i in range(8):
        assert client(r).publish(f"s{i}") == ("NetStream.Publish.Start", "status")
    assert len(stays.publishers) == len(goes.publishers) == 4
    r.reload(nodes=[weir.node_entry(stays, weight=1), goes])
    goes.stop()
    stays.wait(lambda n: len(n.publishers) == 8)
    for i in range(4):
        assert client(r).publish(f"t{i}") == ("NetStream.Publish.Start", "status")


def publish_on(r, client, node, count):
    """Streams whose home it is."""
    names = (name for name in (f"s{i}" for i in range(1000)) if r.explain(f"live/{name}") == node.id)
    for _ in range(count):
        assert client(r).publish(next(names)) == ("NetStream.Publish.Start", "status")


def test_full_node_that_returns_has_its_streams_again(fakes, router, client, stack):
    (node,) = fakes(1)
    r = router([weir.node_entry(node, max_streams=20)])
    publish_on(r, client, node, 20)
    node.stop()
    procs.eventually(lambda: len(r.logs("stream_retried")) == 20, what="all have missed it")
    again = rtmp.FakeNode(node.port)
    stack.append(again)
    again.wait(lambda n: len(n.publishers) == 20)


def test_no_node_is_given_more_than_its_limit_as_another_dies(fakes, router, client):
    """Streams that move go as far as there is room for them, the others wait until there is."""
    three = fakes(3)
    r = router([weir.node_entry(n, max_streams=40) for n in three], workers=2)
    publishers = [client(r) for _ in range(90)]
    for i, c in enumerate(publishers):
        assert c.publish(f"s{i}")[0] == "NetStream.Publish.Start"
    goes, *stay = sorted(three, key=lambda n: -len(n.publishers))
    moved = sorted(goes.publishers)
    mark = r.mark()
    goes.stop()
    procs.eventually(lambda: sum(len(n.publishers) for n in stay) == 80, what="they are full")
    procs.eventually(lambda: len(r.logs("stream_moved", since=mark)) == len(moved) - 10, what="all for whom there is room have moved")
    # one that the store refuses is published there for a moment
    procs.eventually(lambda: [len(n.publishers) for n in stay] == [40, 40], what="no more than that")
    there = {name for n in stay for name in n.publishers}
    for i, c in enumerate(publishers):
        if f"s{i}" in there and f"s{i}" not in moved and len(there) > 70:
            c.close()
            there.remove(f"s{i}")
    procs.eventually(lambda: len(r.logs("stream_moved", since=mark)) == len(moved), what="then the others, too")
    procs.eventually(lambda: all(len(n.publishers) <= 40 for n in stay), what="nor later")
    assert not r.logs("session_closed", since=mark, why="no_node")


def test_streams_with_nowhere_to_go_are_let_alone(fakes, router, client):
    """Their node is to be empty, the other one is full."""
    leaves, full = fakes(2)
    r = router([leaves, weir.node_entry(full, max_streams=1)], placement={"max_load_factor": 0})
    publish_on(r, client, full, 1)
    publish_on(r, client, leaves, 3)
    mark = r.mark()
    r.reload(nodes=[weir.node_entry(full, max_streams=1)])
    time.sleep(1.5)  # each is looked at every second
    assert not r.logs("stream_moving", since=mark)
    r.reload(nodes=[weir.node_entry(full, max_streams=4)])
    full.wait(lambda n: len(n.publishers) == 4)


@pytest.mark.parametrize("kind", ["publish", "play"])
@pytest.mark.parametrize("fault", ["down", "hang", "silent", "dies"])
def test_client_lands_on_the_next_node(kind, fault, broken_home, client):
    r, node, name = broken_home(fault)
    began = time.monotonic()
    c = client(r)
    code, level = c.publish(name) if kind == "publish" else c.play(name)
    assert time.monotonic() - began < SOON
    if kind == "play" and fault == "silent":
        return  # a node that is silent about a play is one with play_restart: the player waits there
    assert level == "status", code
    retried = r.wait_log("stream_retried", node="broken")
    assert retried["reason"]
    if fault == "down":
        assert retried["detail"] == "Connection refused"
    assert r.wait_log("stream_placed", kind=kind)["node"] != "broken"


@pytest.mark.parametrize("kind", ["publish", "play"])
@pytest.mark.parametrize("fault", ["refused", "hang"])
def test_no_node_left(kind, fault, fakes, router, client):
    nodes = fakes(3)
    r = router(nodes, router=QUICK)
    for n in nodes:
        if fault == "hang":
            n.does.accept = "hang"
        else:
            n.stop()
    c = client(r)
    began = time.monotonic()
    code, level = c.publish("x") if kind == "publish" else c.play("x")
    assert level == "error" and code.startswith(f"NetStream.{kind.capitalize()}.")
    c.expect_closed()
    assert time.monotonic() - began < SOON
    line = r.wait_log("session_closed", why="no_node")
    assert int(line["tries"]) == 3


def test_what_the_machine_lacks_is_not_the_nodes_fault(fakes, router, client, stack, tmp_path):
    """A worker has no descriptor left for the connection to the node: the log says so, and healthd is not told of the node."""
    (node,) = fakes(1)
    r = router([node])
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    pid = r.workers()[0]
    c = client(r)
    msid = c.open()
    used = {int(fd) for fd in os.listdir(f"/proc/{pid}/fd")}
    first_free = min(set(range(len(used) + 1)) - used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
    c.send_publish("x", msid)
    assert c.expect_status()[1] == "error"
    assert r.wait_log("stream_retried")["detail"] == "Too many open files"
    assert a.get(f"/api/v1/nodes/{node.id}")["dial_failures"] == 0


def test_healthd_hears_of_each_while_many_fail(fakes, router, client, stack, tmp_path):
    """Connections to a node fail more often than healthd is told of one: it is told again and again."""
    (node,) = fakes(1, accept="close")
    r = router([node])
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)

    def failures():
        with contextlib.closing(client(r)) as c:
            assert c.play("x")[1] == "error"
        return a.get(f"/api/v1/nodes/{node.id}")["dial_failures"]

    procs.eventually(lambda: failures() >= 3, what="healthd is told again")


@pytest.mark.parametrize("fault", ["denied", "close", "start_close"])
def test_refusal_of_a_healthy_node_is_passed_on(fault, fakes, router, client):
    nodes = fakes(3)
    r = router(nodes)
    for n in nodes:
        n.does.publish = fault
    c = client(r)
    c.open()
    c.send_publish("x")
    codes = [m.status for m in c.expect_closed() if m.status[0]]
    if fault == "denied":
        assert codes == [("NetStream.Publish.Unauthorized", "error")]
    r.wait_log("session_closed", why="node_refused")
    asked = [n for n in nodes if any(s.kind for s in n.sessions)]
    assert len(asked) == 1, "a refusal is no reason to ask another node"


def test_play_not_found_is_passed_on(fakes, router, client):
    nodes = fakes(3, play="not_found")
    r = router(nodes)
    c = client(r)
    c.open()
    c.send_play("x")
    statuses = [m.status for m in c.expect_closed()]  # Play.Start before it, of the router, if the node takes a second
    assert ("NetStream.Play.StreamNotFound", "error") in statuses
    assert sum(len(n.sessions) > 0 for n in nodes) == 1


class Hook:
    """An HTTP server as nginx-rtmp's on_publish asks it; .asked are the queries."""

    def __init__(self, status):
        hook = self
        self.asked = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                hook.asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", procs.free_port()), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.parametrize("how", ["hook", "deny"])
def test_nginx_says_no(how, cluster, router, client, stack):
    hook = Hook(403)
    stack.append(hook)
    directive = f"on_publish {hook.url};" if how == "hook" else "deny publish all;"
    r = router(cluster(3, edits=[("live on;", f"live on; {directive}")]))
    c = client(r)
    c.open()
    c.send_publish("x?token=abc")
    c.expect_closed()
    r.wait_log("session_closed", why="node_refused")
    assert not r.logs("stream_retried")
    if how == "hook":
        assert len(hook.asked) == 1 and "token=abc" in hook.asked[0]


def test_nginx_says_yes_after_its_hook(cluster, router, client, stack):
    hook = Hook(200)
    stack.append(hook)
    r = router(cluster(3, edits=[("live on;", f"live on; on_publish {hook.url};")]))
    assert client(r).publish("x?token=abc")[0] == "NetStream.Publish.Start"
    assert len(hook.asked) == 1


def test_unknown_app_is_a_refusal(cluster, router, client):
    r = router(cluster(3))
    c = client(r)
    c.open(app="nosuch")
    c.send_publish("x")
    c.expect_closed()
    r.wait_log("session_closed", why="node_refused")


def test_node_lost_while_relaying(cluster, router, client, publish):
    """Where streams are not moved, the publisher reconnects, as encoders do, and finds another node."""
    three = cluster(3)
    r = router(three, failover={"max_moves": 0})
    home = three[0]
    key = r.key_on(home.id)
    publisher = publish(r.url(key))
    publisher.wait_sending(frames=60)  # a close soon after publish would be the node's refusal
    home.kill()
    publisher.wait()
    assert r.wait_log("session_closed", kind="publish")["why"] == "node_lost"
    mark = r.mark()
    assert client(r).publish(key.split("/")[1])[1] == "status"
    assert r.wait_log("stream_placed", since=mark)["node"] != home.id


def test_paused_node_hangs_nobody_else(cluster, router, client):
    three = cluster(3)
    r = router(three, router=QUICK)
    key = r.key_on(three[0].id)
    three[0].pause()
    try:
        c = client(r)
        assert c.publish(key.split("/")[1])[1] == "status"
        assert r.wait_log("stream_placed")["node"] != three[0].id
    finally:
        three[0].resume()


@pytest.fixture
def on_small_disk(router, stack, tmp_path):
    """make(nodes, ...) -> (router, API, the disk that the store is on)."""

    def make(nodes, workers=2, **config):
        disk = Disk(tmp_path / "disk", size="8m")
        stack.append(disk)
        if not disk.small:
            pytest.skip("a small disk needs root")
        r = router(nodes, workers=workers, cluster={"store": f"lmdb:{disk.path}/store", "live": f"{disk.path}/live"}, **config)
        a = api.Admin(tmp_path / "admin", r)
        stack.append(a)
        return r, a, disk

    return make


def publish_without_claim(r, a, client, prefix):
    """Publishers, of which the last one is not in the store: its disk is full, but may have room for some more."""
    publishers = {}
    while True:
        name = f"{prefix}-{len(publishers)}"
        publishers[name] = client(r)
        assert publishers[name].publish(name)[0] == "NetStream.Publish.Start"
        if f"live/{name}" not in {s["key"] for s in a.items("/api/v1/streams")}:
            return publishers
        assert len(publishers) < 500


def test_node_at_another_address_is_followed(fakes, router, client):
    """The same id, another machine: its streams go there, where new players look for them."""
    old, new = fakes(2)
    entry = weir.node_entry(old)
    r = router([entry], workers=2)
    publisher, player = client(r), client(r)
    assert publisher.publish("x")[1] == "status"
    assert player.play("x")[1] == "status"
    r.reload(nodes=[{**entry, "rtmp": weir.node_entry(new)["rtmp"]}])
    new.wait(lambda n: n.publishers.get("x") and n.players.get("x"))
    late = client(r)
    assert late.play("x")[1] == "status"
    payload = b"\x17\x01\0\0\0there"
    publisher.send(rtmp.VIDEO, payload, msid=1, ts=40)
    for c in (player, late):
        c.recv_until(lambda m: m.type == rtmp.VIDEO and m.payload == payload)
    old.wait(lambda n: all(s.closed for s in n.sessions))
    assert r.wait_log("stream_moved")["reason"] == "reload"


def test_node_made_anew_at_another_address_is_followed(fakes, router, client, stack, tmp_path):
    """Deleted, and then there again under its id: what had nowhere to go meanwhile goes to the new one."""
    old, new = fakes(2)
    r = router([], workers=2)
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    assert a.ask("PUT", "/api/v1/nodes/f1", {"rtmp": old.rtmp}).status == 201
    for worker in range(2):
        r.wait_log("nodes_changed", worker=worker, nodes=1)
    publisher, player = client(r), client(r)
    assert publisher.publish("x")[1] == "status"
    assert player.play("x")[1] == "status"
    assert a.ask("DELETE", "/api/v1/nodes/f1?force=true").status == 204
    for worker in range(2):
        r.wait_log("nodes_changed", worker=worker, nodes=0)
    assert a.ask("PUT", "/api/v1/nodes/f1", {"rtmp": new.rtmp}).status == 201
    new.wait(lambda n: n.publishers.get("x") and n.players.get("x"))
    payload = b"\x17\x01\0\0\0there"
    publisher.send(rtmp.VIDEO, payload, msid=1, ts=40)
    player.recv_until(lambda m: m.type == rtmp.VIDEO and m.payload == payload)


def test_drain_without_another_node_leaves_waiting_players_alone(fakes, router, client, stack, tmp_path):
    (node,) = fakes(1)
    r = router([node], failover={"give_up": "1s"})
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    player = client(r)
    assert player.play("x")[1] == "status"
    assert a.ask("PUT", f"/api/v1/nodes/{node.id}/state", {"state": "drain"}).status in (200, 204, 409)
    with pytest.raises(TimeoutError):
        player.recv_until(lambda m: m.status[0] is not None, timeout=3)
    assert not r.logs("session_closed") and len(node.sessions) == 1


def test_what_ends_while_the_disk_is_full(cluster, on_small_disk, client):
    """Nothing of it is left in the store afterwards: no session of the node, no claim to the name."""
    r, a, disk = on_small_disk(cluster(2), placement={"duplicate_publish": "reject", "hold": "1s"})
    for i in range(3):
        names = [f"s{i}-{k}" for k in range(30)]
        publishers = [client(r) for _ in names]
        for c, name in zip(publishers, names):
            assert c.publish(name)[0] == "NetStream.Publish.Start"
        mark = r.mark()
        disk.fill()
        for k, c in enumerate(publishers):
            if k % 3:
                c.close()
            else:
                c.send_command("deleteStream", 9, None, 1)  # and the connection stays
        for c in publish_without_claim(r, a, client, f"more{i}").values():
            c.close()
        r.wait_closed(20 + 1, mark)
        disk.empty()
        procs.eventually(lambda: not a.items("/api/v1/sessions") and not a.items("/api/v1/streams"), what="nothing is left")
        loads = {(n["streams"], n["sessions"]) for n in a.items("/api/v1/nodes")}
        assert loads == {(0, 0)}
        for c in publishers[::3]:
            c.close()
    assert client(r).publish(names[0])[0] == "NetStream.Publish.Start"


def test_node_dies_while_the_disk_is_full(cluster, on_small_disk, client, publish):
    """Its stream goes on elsewhere; once the store can be written that is known, and its players have it again."""
    two = cluster(2)
    r, a, disk = on_small_disk(two)
    publish(r.url("live/kept"))
    viewer = client(r)
    assert viewer.play("kept")[0] == "NetStream.Play.Start"
    viewer.recv_media(1)
    home = next(n for n in two if "live/kept" in n.live())
    mark = r.mark()
    disk.fill()
    publish_without_claim(r, a, client, "more")
    home.kill()
    moved = r.wait_log("stream_moved", since=mark)
    assert moved["node"] != home.id
    disk.empty()
    procs.eventually(lambda: a.get(a.stream("live/kept"))["node"] == moved["node"], what="the claim says where it is")
    late = client(r)
    assert late.play("kept")[0] == "NetStream.Play.Start"
    (first,) = late.recv_media(1, types=(rtmp.VIDEO,))
    viewer.recv_until(lambda m: m.type == rtmp.VIDEO and m.ts > first.ts)


def test_node_with_many_streams_dies_while_the_disk_is_full(fakes, on_small_disk, client):
    """More than are written at once: all of them are where the store says, soon after it can be written."""
    if not shutil.which("mdb_copy"):
        pytest.skip("mdb_copy is not there (Debian: lmdb-utils)")
    two = fakes(2)
    r, a, disk = on_small_disk(two, workers=1)
    publishers = {f"s{i}": client(r) for i in range(300)}
    for name, c in publishers.items():
        assert c.publish(name)[0] == "NetStream.Publish.Start"
    stays, goes = sorted(two, key=lambda n: len(n.publishers))
    there = len(goes.publishers)
    assert there > 110
    mark = r.mark()
    disk.fill_for_good(disk.path / "live")
    r.wait_log("store_failed", since=mark)
    goes.stop()
    procs.eventually(lambda: len(r.logs("stream_moved", since=mark, node=stays.id)) == there, what="all streams have moved")
    disk.empty()
    procs.eventually(lambda: [s["node"] for s in a.items("/api/v1/streams")] == [stays.id] * len(publishers), what="so it is known")


def test_publisher_that_came_while_the_disk_was_full(cluster, on_small_disk, client):
    """Once the store can be written its stream is known."""
    two = cluster(2)
    r, a, disk = on_small_disk(two, placement={"duplicate_publish": "reject"})
    disk.fill()
    publishers = publish_without_claim(r, a, client, "late")
    disk.empty()

    def known():
        return {s["key"]: s["node"] for s in a.items("/api/v1/streams")}

    where = {f"live/{name}" for name in publishers}
    procs.eventually(lambda: where <= set(known()), what="all streams are known")
    *_, name = publishers
    key = f"live/{name}"
    assert client(r).publish(name)[0] == "NetStream.Publish.BadName"
    assert key in next(n for n in two if n.id == known()[key]).live()
    publishers[name].close()
    procs.eventually(lambda: key not in known(), what="it ends with its publisher")


def test_publisher_that_another_claim_fences(fakes, on_small_disk, client):
    """Who comes once the store can be written, before it says that somebody publishes already, is the publisher."""
    r, a, disk = on_small_disk(fakes(2), placement={"duplicate_publish": "reject"})
    for attempt in range(20):
        mark = r.mark()
        disk.fill()
        publishers = publish_without_claim(r, a, client, f"late{attempt}")
        name, early = publishers.popitem()
        late = client(r)
        msid = late.open()
        disk.empty()
        late.send_publish(name, msid)
        if late.expect_status()[0] == "NetStream.Publish.Start":
            break
    assert early.expect_status()[0] == "NetStream.Publish.BadName"
    assert r.wait_log("stream_taken_over", since=mark)["stream"] == f"live/{name}"
    r.wait_why("taken_over", since=mark)
    (record,) = a.items("/api/v1/sessions?stream=" + api.quote(f"live/{name}"))
    assert a.get(a.stream(f"live/{name}"))["publisher"] == record["id"]


def test_disk_that_stays_full_while_a_node_dies(cluster, on_small_disk, client, publish):
    """Longer than failover.give_up, and no claim can be moved: players find their stream where it would go."""
    if not shutil.which("mdb_copy"):
        pytest.skip("mdb_copy is not there (Debian: lmdb-utils)")
    two = cluster(2)
    r, a, disk = on_small_disk(two, failover={"give_up": "2s"})
    publish(r.url("live/kept"))
    viewers = [client(r) for _ in range(6)]  # of both workers
    for viewer in viewers:
        assert viewer.play("kept")[0] == "NetStream.Play.Start"
        viewer.recv_media(1)
    home = next(n for n in two if "live/kept" in n.live())
    mark = r.mark()
    disk.fill_for_good(disk.path / "live")
    for worker in r.workers():
        r.wait_log("store_failed", since=mark, worker=worker)
    home.kill()
    moved = r.wait_log("stream_moved", since=mark)
    (seen,) = viewers[0].recv_media(1, types=(rtmp.VIDEO,))
    for viewer in viewers:
        viewer.recv_until(lambda m: m.type == rtmp.VIDEO and m.ts > seen.ts + 4000)
    assert a.get(a.stream("live/kept"))["node"] == home.id  # nothing could be written
    assert not r.logs("store_recovered", since=mark)  # though it can be read all the time
    disk.empty()
    procs.eventually(lambda: a.get(a.stream("live/kept"))["node"] == moved["node"], what="the claim says where it is")
    late = client(r)
    assert late.play("kept")[0] == "NetStream.Play.Start"
    (first,) = late.recv_media(1, types=(rtmp.VIDEO,))
    for viewer in viewers:
        viewer.recv_until(lambda m: m.type == rtmp.VIDEO and m.ts > first.ts)
    assert not r.logs("session_closed", since=mark, kind="play")
    for worker in r.workers():
        r.wait_log("store_recovered", since=mark, worker=worker)
    assert len(r.logs("store_failed", since=mark)) == 2


def test_reload_of_a_node_as_the_disk_fills(fakes, on_small_disk, exact, stack):
    """The node has the stream in its new process already, where it is published anew. Players do not hear of that before the claim
    can be moved, and have nothing twice."""
    if not shutil.which("mdb_copy"):
        pytest.skip("mdb_copy is not there (Debian: lmdb-utils)")
    node = fakes(1, keeps=False, publish="once")[0]
    page = healthd.FakeStat()
    stack.append(page)
    page.pages["/stat"] = (200, healthd.nginx_page())
    entry = weir.node_entry(node, stat=page.url("/stat"))
    r, _, disk = on_small_disk([entry], failover={"grace": "30s", "give_up": "2m"}, healthd={**healthd.FAST, "checks": ["stat"]})
    h = healthd.Healthd(r).start()
    stack.append(h)
    h.wait_up(node)
    e = exact(r, 1, 4)
    time.sleep(2)  # routers read which process a node is once a second
    mark = r.mark()
    page.pages["/stat"] = (200, healthd.nginx_page(pid=101, uptime=0))
    r.wait_log("stream_moving", since=mark, reason="reload")
    disk.fill_for_good(disk.path / "live")
    publisher = node.publishers["exact0"]
    node.wait(lambda f: publisher.closed and "exact0" in f.publishers)
    time.sleep(0.5)  # the claim is tried
    disk.empty()
    r.wait_log("stream_moved", since=mark, reason="reload")
    e.report()


@pytest.mark.parametrize("sample_access", [False, True])
def test_player_whose_node_does_not_take_it_for_a_moment(fakes, router, client, publish, sample_access):
    """It goes to the next node. Its stream is not there, and does not come, whatever the node says itself: the player goes back."""
    two = fakes(2, keeps=False, sample_access=sample_access)
    r = router(two)
    publish(r.url("live/kept"))
    r.wait_log("stream_placed", kind="publish")
    home = next(n for n in two if n.publishers)
    other = next(n for n in two if n is not home)
    home.does.accept = "close"
    viewer = client(r)
    assert viewer.play("kept")[0] == "NetStream.Play.Start"
    other.wait(lambda n: n.players.get("kept"))
    home.does.accept = "serve"
    home.wait(lambda n: n.players.get("kept"))
    viewer.recv_media(20)
    other.wait(lambda n: not n.players["kept"])


@pytest.fixture
def not_taken(fakes, router, client, publish):
    """make(count, **config) -> (router, home, other, players): of a stream at home, which has taken none of them; all are at the other."""

    def make(count, **config):
        two = fakes(2, keeps=False)
        r = router(two, **config)
        publish(r.url("live/kept"))
        r.wait_log("stream_placed", kind="publish")
        home = next(n for n in two if n.publishers)
        other = next(n for n in two if n is not home)
        home.does.accept = "close"
        viewers = []
        for _ in range(count):  # one after the other: who connects and then says nothing for router.handshake_timeout is closed
            viewers.append(client(r))
            assert viewers[-1].play("kept")[0] == "NetStream.Play.Start"
        return r, home, other, viewers

    return make


def test_players_go_back_some_at_a_time(not_taken):
    """A node that did not take a hundred players of its streams gets no more than 64 of them at a time."""
    r, home, other, viewers = not_taken(100, router={"dial_timeout": "60s"}, failover={"give_up": "60s"})
    home.does.door = threading.Event()
    home.does.accept = "serve"
    other.wait(lambda n: not n.players["kept"])
    home.wait(lambda n: len(n.sessions) >= 65)
    time.sleep(0.2)
    assert len(home.sessions) == 65  # the publisher is one of them
    home.does.door.set()
    home.wait(lambda n: len(n.players.get("kept", [])) == 100)
    for v in viewers:
        v.recv_media(20)
    assert not r.logs("session_closed")


def test_player_that_goes_back_in_vain_is_logged_once(not_taken):
    """The first failure, where it is meanwhile, and when it is back; how many more failures there were stands there."""
    r, home, other, (viewer,) = not_taken(1)
    accepted = home.accepted
    home.wait(lambda n: n.accepted >= accepted + 3)
    home.does.accept = "serve"
    back = r.wait_log("stream_placed", kind="play", node=home.id)
    home.wait(lambda n: n.players.get("kept"))
    lines = [(x["event"], x["node"]) for x in r.proc.err.items if x.get("sid") == back["sid"]]
    assert lines == [("stream_retried", home.id), ("stream_placed", other.id), ("stream_placed", home.id)]
    players = len(home.sessions) - 1
    assert back["detail"] == f"{home.accepted - 1 - players - 1} more tries failed"
    viewer.recv_media(20)


def test_player_that_looks_elsewhere_while_the_disk_is_full(fakes, on_small_disk, client, publish):
    """Its node does not take it for a moment, so the stream may have gone on where it would go. It has not: the player comes back."""
    if not shutil.which("mdb_copy"):
        pytest.skip("mdb_copy is not there (Debian: lmdb-utils)")
    two = fakes(2, keeps=False)
    r, a, disk = on_small_disk(two)
    publish(r.url("live/kept"))
    viewer = client(r)
    assert viewer.play("kept")[0] == "NetStream.Play.Start"
    viewer.recv_media(20)
    home = next(n for n in two if n.publishers)
    other = next(n for n in two if n is not home)
    time.sleep(1)  # a node that closes at once has refused
    mark = r.mark()
    disk.fill_for_good(disk.path / "live")
    r.wait_log("store_failed", since=mark, detail="heartbeat")
    home.does.accept = "close"
    home.players["kept"][0].conn.close()
    other.wait(lambda n: n.players.get("kept"))
    home.does.accept = "serve"
    disk.empty()
    (player,) = home.wait(lambda n: n.players.get("kept"))
    home.wait(lambda n: player.relayed > 20)
    viewer.recv_media(20)
    assert not r.logs("session_closed", since=mark)
