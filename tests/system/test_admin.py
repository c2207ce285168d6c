"""The API of weir-admin, as HTTP clients see it: with a real store, real routers and real nodes."""

import concurrent.futures
import contextlib
import http.client
import os
import random
import signal
import socket
import statistics
import time

import admin as api
import names
import no_ipv6
import procs
import pytest
import rtmp
import weir

BAD = ("Sanitizer", "runtime error", "Assertion")


@pytest.fixture
def admin(stack, tmp_path):
    """admin(router, tokens={"ops": "write"}) -> a running Admin; it must end clean."""
    made = []

    def make(router=None, **how):
        a = api.Admin(tmp_path / f"admin{len(made)}", router, **how)
        made.append(a)
        stack.append(a)
        return a

    yield make
    for a in made:
        if a.proc and a.proc.running:
            assert a.stop() == 0, a.proc.err.tail()
        assert not (a.proc and [line for line in a.raw() if any(b in line for b in BAD)]), "\n".join(a.raw())


def body_of(n=2, **more):
    return {"rtmp": f"127.0.0.1:{n}", **more}


# nodes


def test_from_an_empty_cluster(admin, router, cluster, publish, play):
    """The whole of it: three nodes by the API, publish, look up, drain, kick, delete."""
    r = router([])
    a = admin(r)
    assert a.get("/api/v1/nodes") == {"items": [], "next": None}
    machines = cluster(3)
    for n in machines:
        a.put_node(n)
    publisher = publish(r.url("live/cam1"))
    s = procs.eventually(lambda: a.items("/api/v1/streams"), what="the stream is listed")[0]
    assert s["key"] == "live/cam1" and s["state"] == "live" and s["client"].startswith("127.0.0.1:")
    owner = s["node"]
    assert "live/cam1" in next(n for n in machines if n.id == owner).live()
    answer = a.get("/api/v1/lookup?app=live&name=cam1")
    assert (answer["node"], answer["reason"]) == (owner, "claim")
    player = play(r.url("live/cam1"))
    player.wait_packets(20)
    procs.eventually(lambda: a.get(a.stream("live/cam1"))["players"] == 1, what="the player is counted")
    assert a.get(f"/api/v1/nodes/{owner}")["streams"] == 1
    assert a.ask("DELETE", f"/api/v1/nodes/{owner}").problem["status"] == 409

    # drained: the next stream goes elsewhere, and this one moves; back on command
    assert a.ask("PUT", f"/api/v1/nodes/{owner}/state", {"state": "drain"}).json["state"] == "drain"
    answer = a.get("/api/v1/lookup?app=live&name=other")
    assert answer["node"] != owner
    assert next(c for c in answer["candidates"] if c["id"] == owner)["why"] == "draining"
    procs.eventually(lambda: a.get(a.stream("live/cam1"))["node"] != owner, what="the stream has left")
    procs.eventually(lambda: a.get(f"/api/v1/nodes/{owner}")["sessions"] == 0, what="the node is empty")
    refusal = a.ask("POST", a.stream("live/cam1") + "/move", {"to": owner}).problem
    assert refusal["status"] == 409 and "drained" in refusal["detail"]
    assert a.ask("PUT", f"/api/v1/nodes/{owner}/state", {"state": "enabled"}).json["state"] == "enabled"
    procs.eventually(lambda: a.ask("POST", a.stream("live/cam1") + "/move", {"to": owner}).status == 204, what="it may move back")
    procs.eventually(lambda: a.get(a.stream("live/cam1"))["node"] == owner, what="the stream is back")
    assert "already" in a.ask("POST", a.stream("live/cam1") + "/move", {"to": owner}).problem["detail"]
    assert [(line["reason"], line["level"]) for line in r.logs("stream_moving")] == [("drain", "info"), ("command", "info")]
    assert publisher.running and player.running

    # kicked: one player, then the publisher
    session = a.items("/api/v1/sessions?kind=play")[0]
    assert a.ask("DELETE", f"/api/v1/sessions/{session['id']}").status == 204
    player.wait()
    assert a.ask("GET", f"/api/v1/sessions/{session['id']}").status == 404
    assert publisher.running
    assert a.ask("DELETE", a.stream("live/cam1")).status == 204
    publisher.wait()
    assert a.items("/api/v1/streams") == []
    assert a.ask("DELETE", f"/api/v1/nodes/{owner}").status == 204
    assert {n["id"] for n in a.items("/api/v1/nodes")} == {n.id for n in machines} - {owner}
    procs.eventually(lambda: len(a.logs("api_change")) == 9, what="each change is in the log")
    changes = [(c["method"], c["status"]) for c in a.logs("api_change")]
    assert changes == [("PUT", "201")] * 3 + [("PUT", "200")] * 2 + [("POST", "204")] + [("DELETE", "204")] * 3


def test_routers_act_at_once(admin, router, fakes, client):
    """A change is in force within 100 ms of its answer (more on a busy machine), and the API says when."""
    r = router([])
    a = admin(r)
    first, second = fakes(2)
    took = []
    for i, (drained, used) in enumerate(((first, second), (second, first)) * 3):
        for node in (drained, used):
            a.put_node(node)
            a.ask("PUT", f"/api/v1/nodes/{node.id}/state", {"state": "drain" if node is drained else "enabled"})
        took.append(a.wait_in_force())
        c = client(r)
        publish_on(c, f"s{i}")
        assert a.get(a.stream(f"live/s{i}"))["node"] == used.id
        c.close()
    assert statistics.median(took) < 0.3, took


def test_changes_are_on_disk(admin):
    a = admin()
    for i in range(5):
        a.put_node({"id": f"n{i}", "rtmp": f"127.0.0.1:{1000 + i}"}, weight=i)
        a.kill()
        a.start()
        assert a.get(f"/api/v1/nodes/n{i}")["weight"] == i
    assert len(a.items("/api/v1/nodes")) == 5


def test_configured_nodes(admin, router):
    r = router([{"id": "c1", "rtmp": "127.0.0.1:9"}])
    a = admin(r)
    assert a.get("/api/v1/nodes/c1")["source"] == "config"
    for method, body in (("PUT", body_of()), ("PATCH", {"weight": 3}), ("DELETE", None)):
        problem = a.ask(method, "/api/v1/nodes/c1", body).problem
        assert problem["status"] == 409 and str(a.file) in problem["detail"]
    assert a.ask("PUT", "/api/v1/nodes/c1/state", {"state": "disabled"}).status == 200
    r.reload(nodes=[{"id": "c1", "rtmp": "127.0.0.1:9", "weight": 7}])
    node = procs.eventually(
        lambda: (n := a.get("/api/v1/nodes/c1"))["weight"] == 7 and n, what="the reload is in the store"
    )
    assert node["state"] == "disabled"


def test_etags(admin):
    a = admin()
    assert a.ask("PUT", "/api/v1/nodes/n1", body_of(), {"If-None-Match": "*"}).status == 201
    assert a.ask("PUT", "/api/v1/nodes/n1", body_of(3), {"If-None-Match": "*"}).problem["status"] == 412
    etag = a.ask("GET", "/api/v1/nodes/n1").headers["ETag"]
    changed = a.ask("PATCH", "/api/v1/nodes/n1", {"weight": 9}, {"If-Match": etag})
    assert changed.status == 200 and changed.headers["ETag"] != etag
    for method, body in (("PUT", body_of()), ("PATCH", {"weight": 1}), ("DELETE", None)):
        assert a.ask(method, "/api/v1/nodes/n1", body, {"If-Match": etag}).problem["status"] == 412
    assert a.ask("PUT", "/api/v1/nodes/n1/state", {"state": "drain"}, {"If-Match": etag}).problem["status"] == 412
    assert a.get("/api/v1/nodes/n1")["weight"] == 9


def test_many_writers(admin):
    """Patches of different fields at the same time: none is lost."""
    a = admin()
    a.put_node({"id": "n1", "rtmp": "127.0.0.1"})
    fields = ["weight", "max_streams", "max_sessions", "max_bandwidth_bps"]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(a.ask, "PATCH", "/api/v1/nodes/n1", {f: 1000}) for f in fields * 8]
        assert {j.result().status for j in jobs} == {200}
    node = a.get("/api/v1/nodes/n1")
    assert [node[f] for f in fields] == [1000] * 4


# refusals


def test_bad_requests_change_nothing(admin):
    a = admin(tokens={"ops": "write", "eye": "read"})
    ops, eye = a.tokens["ops"], a.tokens["eye"]
    a.token = ops
    a.put_node({"id": "n1", "rtmp": "127.0.0.1:1"})
    before = a.ask("GET", "/api/v1/nodes")
    cases = [
        # method, path, body, headers, token, status
        ("PUT", "/api/v1/nodes/n1", body_of(), None, "wrong", 401),
        ("PUT", "/api/v1/nodes/n1", body_of(), None, ops[:-1], 401),
        ("PUT", "/api/v1/nodes/n1", body_of(), None, eye, 403),
        ("DELETE", "/api/v1/nodes/n1", None, None, eye, 403),
        ("PUT", "/api/v1/nodes/n1", b"rtmp=1", {"Content-Type": "application/x-www-form-urlencoded"}, ops, 415),
        ("PUT", "/api/v1/nodes/n1", b"{", None, ops, 400),
        ("PUT", "/api/v1/nodes/n1", b"", None, ops, 400),
        ("PUT", "/api/v1/nodes/n1", [], None, ops, 422),
        ("PUT", "/api/v1/nodes/n1", {}, None, ops, 422),
        ("PUT", "/api/v1/nodes/n1", body_of(colour=1), None, ops, 422),
        ("PUT", "/api/v1/nodes/n1", body_of(weight="much"), None, ops, 422),
        ("PUT", "/api/v1/nodes/n1", body_of(weight=1001), None, ops, 422),
        ("PUT", "/api/v1/nodes/n2", {"rtmp": "no.such.host.invalid"}, None, ops, 422),
        ("PUT", "/api/v1/nodes/..", body_of(), None, ops, 422),
        ("PUT", "/api/v1/nodes/" + "n" * 64, body_of(), None, ops, 422),
        ("PUT", "/api/v1/nodes/n1", body_of(stat="x" * 70000), None, ops, 413),
        ("PUT", "/api/v1/nodes/n1?force=true", body_of(), None, ops, 400),
        ("PUT", "/api/v1/nodes/n1/state", {"state": "gone"}, None, ops, 422),
        ("POST", "/api/v1/nodes/n1", body_of(), None, ops, 405),
        ("BREW", "/api/v1/nodes/n1", None, None, ops, 405),
        ("GET", "/api/v1/nodes/" + "%2e" * 2000, None, None, ops, 414),
        ("GET", "/api/v1/nodes/%00", None, None, ops, 400),
        ("GET", "/api/v1/nodes?limit=many", None, None, ops, 400),
        ("GET", "/api/v1/nothing", None, None, ops, 404),
        ("DELETE", "/api/v1/sessions/123", None, None, ops, 404),
        ("DELETE", "/api/v1/streams/live%2Fnone", None, None, ops, 404),
    ]
    for method, path, body, headers, token, status in cases:
        answer = a.ask(method, path, body, headers, token)
        assert answer.status == status, (method, path[:60], answer)
        problem = answer.problem
        if status == 422:
            assert all(e["pointer"] == "" or e["pointer"][0] == "/" for e in problem["errors"])
        if status == 405:
            assert answer.headers["Allow"] == "GET, HEAD, PUT, PATCH, DELETE"
        if status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert a.ask("GET", "/api/v1/nodes").body == before.body
    assert len(a.logs("api_change")) == 1
    text = "\n".join(str(line) for line in a.proc.err.items)
    assert ops not in text and eye not in text


def test_proxy_without_tokens(admin):
    """HAProxy on this machine comes from loopback: that alone is no reason to trust whom it lets in."""
    a = admin()
    for headers in ({"X-Forwarded-For": "192.0.2.1"}, {"Forwarded": "for=192.0.2.1"}, {"x-forwarded-for": ""}):
        for method, path, body in (("GET", "/", None), ("GET", "/metrics", None), ("PUT", "/api/v1/nodes/n1", body_of())):
            problem = a.ask(method, path, body, headers).problem
            assert problem["status"] == 403 and "admin.tokens" in problem["detail"]
        for path in ("/healthz", "/readyz"):
            assert a.ask("GET", path, headers=headers).status == 200
    assert a.get("/api/v1/nodes")["items"] == [] and a.get("/api/v1/cluster")["scope"] == "write"
    assert a.logs("api_denied")[0]["forwarded"] == "192.0.2.1"
    b = admin(tokens={"ops": "write", "eye": "read"})
    for name, scope in (("ops", "write"), ("eye", "read")):
        answer = b.ask("GET", "/api/v1/cluster", None, {"X-Forwarded-For": "192.0.2.1"}, b.tokens[name])
        assert answer.status == 200 and answer.json["scope"] == scope


def test_names_of_others_without_tokens(admin):
    """DNS rebinding: to a browser such a page and this API have one origin."""
    a = admin()
    port = a.port
    for name in ("evil.example", f"evil.example:{port}", "localhost.evil.example", "127.0.0.1.evil.example", "", "[::1", "127.1"):
        problem = a.ask("PUT", "/api/v1/nodes/n1", body_of(), {"Host": name}).problem
        assert problem["status"] == 403 and "admin.tokens" in problem["detail"], name
        assert a.ask("GET", "/readyz", headers={"Host": name}).status == 200
    for name in ("localhost", f"LOCALHOST:{port}", f"127.0.0.1:{port}", f"[::1]:{port}"):
        assert a.ask("GET", "/api/v1/nodes", headers={"Host": name}).status == 200
    b = admin(tokens={"ops": "write"})
    assert b.ask("GET", "/api/v1/nodes", None, {"Host": "weir.example"}, b.tokens["ops"]).status == 200


def test_chunked_bodies(admin):
    a = admin()

    def put(pieces):
        c = a.connect()
        c.request("PUT", "/api/v1/nodes/n1", iter(pieces), {"Content-Type": "application/json"}, encode_chunked=True)
        r = c.getresponse()
        answer = api.Answer(r.status, r.headers, r.read())
        c.close()
        return answer

    assert put([b'{"rtmp"', b': "127.0.0.1"', b"}"]).status == 201
    assert put([b" " * 30000] * 5).problem["status"] == 413
    with pytest.raises(OSError):  # without end: cut off
        put([b" " * 60000] * 400)
    assert a.get("/healthz")["status"] == "ok"


def test_one_connection_many_requests(admin):
    a = admin()
    c = a.connect()
    for i in range(200):
        assert a.ask("GET", "/api/v1/nodes/none" if i % 2 else "/healthz", connection=c).status == (404 if i % 2 else 200)
    c.close()


def test_head_and_raw(admin):
    a = admin(admin={"request_timeout": "2s"})
    head = a.ask("HEAD", "/openapi.json")
    assert head.status == 200 and head.body == b"" and int(head.headers["Content-Length"]) > 1000
    same = a.ask("GET", "/openapi.json", headers={"If-None-Match": head.headers["ETag"]})
    assert same.status == 304 and same.body == b""
    page = a.ask("GET", "/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    headers = b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20000 + b"\r\n"
    for junk in (b"\x16\x03\x01\x02\x00\x01" * 20, b"GET\r\n\r\n", b"\x03" + bytes(1536), headers):
        a.raw_exchange(junk)
    assert a.get("/healthz")["status"] == "ok"


def test_slow_connections(admin):
    """A thousand that never finish their request: others are served meanwhile, and the slow ones are closed in time."""
    a = admin(admin={"max_connections": 64, "request_timeout": "2s"})
    begun = b"PUT /api/v1/nodes/n1 HTTP/1.1\r\nHost: a\r\nContent-Length: 50\r\nContent-Type: application/json\r\n\r\n{"
    slow = []
    try:
        for i in range(1000):
            s = socket.create_connection(("127.0.0.1", a.port), procs.DEADLINE)
            s.sendall(begun[: 20 + i % 100])
            slow.append(s)
            if i % 50 == 0:
                started = time.monotonic()
                assert a.get("/healthz")["status"] == "ok"
                assert time.monotonic() - started < 10
        assert a.get("/api/v1/nodes") == {"items": [], "next": None}
        with socket.create_connection(("127.0.0.1", a.port), procs.DEADLINE) as drip:  # a byte now and then does not help
            drip.settimeout(0.2)
            started = time.monotonic()
            gone = False
            while not gone and time.monotonic() - started < 15:
                try:
                    drip.sendall(b"G")
                    gone = drip.recv(100) == b""
                except TimeoutError:
                    pass
                except OSError:
                    gone = True
            assert gone and time.monotonic() - started < 15
    finally:
        for s in slow:
            s.close()
    assert a.get("/healthz")["status"] == "ok"


def test_slow_readers(admin):
    """Those that ask and do not take their answers: others are served meanwhile."""
    a = admin(admin={"max_connections": 16, "request_timeout": "60s"}, tokens={"ops": "write"})
    slow = []
    try:
        for i in range(100):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", a.port))
            s.settimeout(procs.DEADLINE)
            with contextlib.suppress(OSError):
                s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 400)
            slow.append(s)
            time.sleep(0.02)  # each is being answered when the next one comes
        time.sleep(1)
        for _ in range(5):
            started = time.monotonic()
            procs.eventually(lambda: served(a), timeout=10, what="it is served")
            assert time.monotonic() - started < 10
    finally:
        for s in slow:
            s.close()


def served(a):
    try:
        return a.ask("GET", "/healthz").status == 200
    except (OSError, http.client.HTTPException):
        return False  # it was the next to make room


def test_a_name_that_cannot_be_looked_up_now(admin, tmp_path):
    """Its weight can be changed all the same, and that waits for no name server."""
    made_up = names.Names(tmp_path, unknown_ms=3000, media="127.0.0.9")
    a = admin(env=made_up.env)
    assert a.ask("PUT", "/api/v1/nodes/n1", {"rtmp": "media:1935"}).json["address"] == "127.0.0.9:1935"
    made_up.set()
    started = time.monotonic()
    answer = a.ask("PATCH", "/api/v1/nodes/n1", {"weight": 0})
    assert time.monotonic() - started < 2
    assert answer.status == 200 and answer.json["weight"] == 0 and answer.json["address"] == "127.0.0.9:1935"
    assert a.ask("PATCH", "/api/v1/nodes/n1", {"rtmp": "media:1936"}).status == 422


def test_tokens_reload(admin):
    a = admin(tokens={"ops": "write"})
    old = a.tokens["ops"]
    assert a.ask("GET", "/api/v1/nodes", token=old).status == 200
    a.token_file.write_text("")
    new = a.new_token("late", "read")
    events = api.Events(a, token=old)
    a.reload()
    assert a.ask("GET", "/api/v1/nodes", token=old).problem["status"] == 401
    assert a.ask("GET", "/api/v1/nodes", token=new).status == 200
    assert events.next() is None  # whoever lost the token loses the stream
    a.token_file.write_text("ops write 12\n")
    line = a.reload("config_refused")
    assert "line 1" in line["error"]
    assert a.ask("GET", "/api/v1/nodes", token=new).status == 200


def test_reload_minds_its_own_keys(admin):
    """A key that only the router cannot change while running does not keep weir-admin from reloading."""
    a = admin()
    a.config = weir.merge(a.config, {"router": {"workers": 3}})
    a.write()
    a.reload()
    a.config = weir.merge(a.config, {"admin": {"max_connections": 17}})
    a.write()
    assert "admin.max_connections" in a.reload("config_refused")["error"]


# lists


def test_pages_of_sessions(admin, router, fakes, client):
    """Every session exactly once, whatever the size of a page."""
    r = router(fakes(1))
    a = admin(r)
    for i in range(7):
        publish_on(client(r), f"s{i}")
    procs.eventually(lambda: len(a.items("/api/v1/sessions")) == 7, what="seven sessions")
    whole = a.items("/api/v1/sessions")
    for limit in (1, 2, 3, 7):
        assert [s["id"] for s in a.items(f"/api/v1/sessions?limit={limit}")] == [s["id"] for s in whole]
        keys = [s["key"] for s in a.items(f"/api/v1/streams?limit={limit}")]
        assert keys == [f"live/s{i}" for i in range(7)]
    one = a.items("/api/v1/sessions?stream=live%2Fs3")
    assert [s["stream"] for s in one] == ["live/s3"]
    assert [s["id"] for s in a.items(f"/api/v1/sessions?stream={api.quote(one[0]['stream_hash'])}")] == [one[0]["id"]]
    assert a.get(f"/api/v1/streams/{api.quote(one[0]['stream_hash'])}")["key"] == "live/s3"
    assert len(a.items(f"/api/v1/sessions?client=127.0.0.1&node={whole[0]['node']}")) == 7


def publish_on(client, name):
    code, _ = client.publish(name)
    assert code == "NetStream.Publish.Start", code


def test_kick_without_worker(admin, router, fakes, client):
    """A worker that does not answer: 503 after 2 s, and the command is withdrawn."""
    r = router(fakes(1))
    a = admin(r)
    c = client(r)
    publish_on(c, "held")
    session = procs.eventually(lambda: a.items("/api/v1/sessions"), what="the session")[0]
    pids = [r.proc.pid, *r.workers().values()]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert a.ask("DELETE", f"/api/v1/sessions/{session['id']}").problem["status"] == 503
        assert 1.5 < time.monotonic() - started < 10
        assert a.get("/healthz")["status"] == "ok"
    finally:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)
    time.sleep(0.3)
    assert a.get(f"/api/v1/sessions/{session['id']}")["id"] == session["id"]
    assert not [x for x in a.logs("api_change") if x["method"] == "DELETE"]


# events


def test_events(admin, router, fakes, client):
    r = router(fakes(1))
    a = admin(r)
    events = api.Events(a)
    a.put_node({"id": "late", "rtmp": "127.0.0.1:9"})
    first = events.wait("node_added", "late")
    a.ask("PUT", "/api/v1/nodes/late/state", {"state": "drain"})
    events.wait("node_changed", "late")
    c = client(r)
    publish_on(c, "cam1")
    assert events.wait("stream_started", "live/cam1")["data"]["node"] == "f1"
    c.close()
    events.wait("stream_ended", "live/cam1")
    procs.eventually(lambda: not a.items("/api/v1/sessions"), what="the session has ended")
    a.ask("DELETE", "/api/v1/nodes/late")
    last = events.wait("node_removed", "late")
    events.stop()
    # as a browser comes back: nothing twice, nothing left out
    kinds = ["node_changed", "stream_started", "stream_ended", "node_removed"]
    for query, headers in (("", {"Last-Event-ID": first["id"]}), (f"?after={first['id']}", None)):
        again = api.Events(a, query, headers)
        got = [again.next() for _ in range(6)]
        again.stop()
        of_session = [e for e in got if e["event"].startswith("session_")]
        assert [e["event"] for e in got if e not in of_session] == kinds
        assert [e["event"] for e in of_session] == ["session_started", "session_ended"]
        assert all(e["data"]["subject"] == "live/cam1" and e["data"]["node"] == "f1" for e in of_session)
        without = api.Events(a, query + ("&" if query else "?") + "sessions=false", headers)
        assert [without.next()["event"] for _ in range(4)] == kinds
        without.stop()
    long_ago = api.Events(a, "?after=5")
    assert long_ago.next()["event"] == "events_lost"
    long_ago.stop()
    api.Schema().check(last["data"], {"$ref": "#/components/schemas/Event"})


def test_last_events(admin):
    """The last so many, though they happened only now; then those that follow."""
    a = admin()
    subjects = [f"n{i}" for i in range(300)]  # more text than fits at once
    for id in subjects:
        a.put_node({"id": id, "rtmp": "127.0.0.1"})
    for count in (1, 3, 300, 10000):
        events = api.Events(a, f"?last={count}")
        new = f"after-{count}"
        a.put_node({"id": new, "rtmp": "127.0.0.1"})
        subjects.append(new)
        for subject in subjects[-count - 1 :]:
            assert events.next()["data"]["subject"] == subject
        events.stop()
    events = api.Events(a)
    a.put_node({"id": "new", "rtmp": "127.0.0.1"})
    assert events.next()["data"]["subject"] == "new"
    events.stop()


def test_event_streams_are_bounded(admin):
    a = admin(admin={"max_connections": 16})
    streams = [api.Events(a) for _ in range(4)]
    refused = a.ask("GET", "/api/v1/events")
    assert refused.problem["status"] == 503 and refused.headers["Retry-After"]
    assert a.get("/healthz")["status"] == "ok"
    streams.pop().stop()
    procs.eventually(lambda: try_events(a), every=0.5, what="room for another one")
    for s in streams:
        s.stop()


def try_events(a):
    try:
        api.Events(a).stop()
        return True
    except AssertionError:
        return False


def test_many_followers(admin):
    """Everybody gets everything, in order."""
    a = admin()
    followers = [api.Events(a) for _ in range(20)]
    for i in range(30):
        a.put_node({"id": f"n{i}", "rtmp": "127.0.0.1"})
    for f in followers:
        assert [f.next()["data"]["subject"] for _ in range(30)] == [f"n{i}" for i in range(30)]
        f.stop()


# the description


def test_description(admin, router, fakes, client):
    """Both ways: what is described is there, and what is answered is described."""
    r = router(fakes(1))
    a = admin(r)
    schema = api.Schema()
    c = client(r)
    publish_on(c, "cam1")
    session = procs.eventually(lambda: a.items("/api/v1/sessions"), what="the session")[0]
    values = {"{id}": "f1", "{key}": "live%2Fcam1"}
    for pattern, operations in schema.doc["paths"].items():
        for method in operations:
            if method == "parameters":
                continue
            path = pattern
            for name, value in values.items():
                path = path.replace(name, session["id"] if name == "{id}" and "sessions" in pattern else value)
            if method == "get" and pattern == "/api/v1/lookup":
                path += "?app=live&name=cam1"
            if pattern == "/api/v1/events":
                api.Events(a).stop()
                continue
            if method == "delete" and pattern != "/api/v1/nodes/{id}":
                path = path.replace(session["id"], "1").replace("cam1", "none")
            answer = a.ask(method.upper(), path, {} if "requestBody" in operations[method] else None)
            assert answer.status != 405, (method, path)
            assert str(answer.status) in operations[method]["responses"], (method, path, answer)
            declared = schema.resolve(operations[method]["responses"][str(answer.status)])["content"]
            kind = answer.headers["Content-Type"].split(";")[0]
            assert kind in declared, (method, path, kind)
            if kind.endswith("json"):
                schema.check(answer.json, declared[kind]["schema"], f"{method} {path}")
    node = a.ask("PUT", "/api/v1/nodes/n9", body_of())
    schema.check(node.json, schema.response("PUT", "/api/v1/nodes/{id}", 201))
    problem = a.ask("PUT", "/api/v1/nodes/n9", {"colour": 1}).problem
    schema.check(problem, {"$ref": "#/components/schemas/Problem"})


# the same answer as a router gives


def test_lookup_agrees_with_routers(admin, router, fakes):
    """1,000 names while nodes change: where the look-up says is where the stream goes. Between the two nothing changes."""
    r = router([], placement={"max_load_factor": 0})  # loads: the test below
    a = admin(r)
    machines = fakes(4)
    for m in machines:
        a.put_node(m)
    rng = random.Random(7)
    kept = a.connect()
    for batch in range(40):
        m = rng.choice(machines)
        change = rng.randrange(4)
        if change == 0:
            a.ask("PUT", f"/api/v1/nodes/{m.id}/state", {"state": rng.choice(["enabled", "enabled", "drain"])})
        elif change == 1:
            a.ask("PATCH", f"/api/v1/nodes/{m.id}", {"weight": rng.choice([1, 50, 100, 300])})
        a.wait_in_force()
        for name in (f"s{batch}-{i}" for i in range(25)):
            answer = a.get(f"/api/v1/lookup?app=live&name={name}", connection=kept)
            assert answer["node"], answer
            c = rtmp.Client("127.0.0.1", r.port)
            publish_on(c, name)
            assert a.get(a.stream(f"live/{name}"), connection=kept)["node"] == answer["node"], answer
            c.close()
    kept.close()


def test_lookup_agrees_about_loads(admin, router, fakes, client):
    """A stream that is turned away by the bound on loads: the same for both, once routers have read the loads."""
    r = router(fakes(3))
    a = admin(r)

    def turned_away(turn):
        """A name whose first node is at its bound, and where it goes instead; None: no node is."""
        for name in (f"s{turn}-{i}" for i in range(100)):
            answer = a.get(f"/api/v1/lookup?app=live&name={name}")
            if answer["candidates"][0]["why"] == "load_bound":
                return name, answer["node"]
        return None

    for turn in range(4):
        for i in range(20):
            publish_on(client(r), f"fill{turn}-{i}")
            if turned_away(turn):
                break
        a.wait_beats()
        name, node = turned_away(turn)
        publish_on(client(r), name)
        assert a.get(a.stream(f"live/{name}"))["node"] == node


# the process


def test_options(admin, tmp_path):
    def run(*args):
        return procs.run([api.binary(), *args])

    assert run("-V").stdout.startswith("weir-admin ")
    assert "usage: weir-admin" in run("-h").stdout
    assert run().returncode == 2
    assert run("-x").returncode == 2
    assert run("-c", "/nonexistent.yaml").returncode == 2
    assert run("--new-token", "a b", "read").returncode == 2
    assert run("--new-token", "ops", "admin").returncode == 2
    assert run("--new-token", "ops").returncode == 2
    assert "weir_nodes_up" in run("--print-metrics").stdout
    a = admin(start=False)
    assert run("-c", str(a.file), "-t").returncode == 0
    a.config = weir.merge(a.config, {"admin": {"listen": f"0.0.0.0:{a.port}"}})
    a.write()
    bad = run("-c", str(a.file), "-t")
    assert bad.returncode == 2 and "admin" in bad.stderr  # without tokens only loopback
    a.config = weir.merge(a.config, {"admin": {"tokens": str(tmp_path / "none")}})
    a.write()
    bad = run("-c", str(a.file), "-t")
    assert bad.returncode == 2 and "No such file" in bad.stderr


def test_port_taken(admin):
    a = admin()
    b = admin(start=False)
    b.config = weir.merge(b.config, {"admin": {"listen": f"127.0.0.1:{a.port}"}})
    b.write()
    out = procs.run([api.binary(), "-c", str(b.file)])
    assert out.returncode == 1 and "cannot listen" in out.stderr


def test_every_address_without_ipv6(admin):
    a = admin(start=False, tokens={"ops": "read"})
    a.config = weir.merge(a.config, {"admin": {"listen": f"*:{a.port}"}})
    a.write()
    a.proc = procs.Proc([*no_ipv6.RUN, api.binary(), "-c", str(a.file)], parse=weir.parse_logfmt)
    a.wait_log("admin_started")
    assert a.ask("GET", "/healthz").status == 200


def test_stop_with_streams(admin):
    a = admin()
    events = [api.Events(a) for _ in range(3)]
    started = time.monotonic()
    assert a.stop() == 0
    assert time.monotonic() - started < 15
    assert all(e.next() is None for e in events)


def test_killed_and_back(admin, router, fakes, client):
    """Routing goes on without it, and nothing is lost."""
    r = router([])
    a = admin(r)
    node = fakes(1)[0]
    a.put_node(node)
    a.wait_in_force()
    a.kill()
    c = client(r)
    publish_on(c, "alone")
    a.start()
    assert a.get(a.stream("live/alone"))["node"] == node.id
