"""What /metrics says, whether Prometheus agrees, and the rules and the dashboard that are made of it."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import admin as api
import nodes
import procs
import pytest
import rtmp

PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
RULES = nodes.ROOT / "conf" / "prometheus"
DASHBOARD = nodes.ROOT / "conf" / "grafana" / "dashboard.json"
needs_prometheus = pytest.mark.skipif(not PROMTOOL, reason="the Debian package prometheus is not installed")


@pytest.fixture
def admin(stack, tmp_path):
    def make(router=None, **how):
        a = api.Admin(tmp_path / "admin", router, **how)
        stack.append(a)
        return a

    return make


def scrape(a, token=None):
    answer = a.ask("GET", "/metrics", token=token)
    assert answer.status == 200, answer
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return answer.body.decode()


def samples(text):
    """{'name{labels}': value}"""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            assert series not in found, f"twice: {series}"
            found[series] = float(value)
    return found


def value(a, series):
    return samples(scrape(a)).get(series)


@needs_prometheus
def test_promtool_is_content(admin, router, fakes, client):
    r = router(fakes(2), workers=2)
    a = admin(r)
    assert client(r).publish("cam1")[0] == "NetStream.Publish.Start"
    procs.eventually(lambda: value(a, "weir_publishers") == 1, what="the publisher is counted")
    text = scrape(a)
    out = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60)
    assert out.returncode == 0 and out.stdout == "" and out.stderr == "", out.stdout + out.stderr


def test_what_happens_is_counted(admin, router, fakes, client):
    first, second = fakes(2)
    r = router([first, second])
    a = admin(r)
    key = r.key_on(first.id).removeprefix("live/")
    publisher = client(r)
    assert publisher.publish(key)[0] == "NetStream.Publish.Start"
    assert client(r).play(key)[0] in ("NetStream.Play.Start", "NetStream.Play.Reset")
    procs.eventually(lambda: value(a, "weir_players") == 1, what="the player is counted")
    found = samples(scrape(a))
    worker = 'worker="router1/0"'
    assert found[f'weir_node_streams{{node="{first.id}"}}'] == 1
    assert found[f'weir_node_sessions{{node="{first.id}"}}'] == 2
    assert found["weir_streams"] == 1
    assert found[f"weir_router_connections_total{{{worker}}}"] == 2
    assert found[f"weir_router_placements_total{{{worker}}}"] == 2
    assert found[f'weir_router_setup_duration_seconds_count{{{worker},phase="total"}}'] == 2
    publisher.close()
    closed = f'weir_router_sessions_closed_total{{{worker},reason="client_closed"}}'
    procs.eventually(lambda: value(a, closed) == 1, what="the end is counted")
    procs.eventually(lambda: value(a, f'weir_node_streams{{node="{first.id}"}}') == 0, what="the stream has left the node")
    # no names, no addresses, no sessions; and never a node with a worker
    text = scrape(a)
    assert key not in text and "127.0.0.1" not in text
    assert not [line for line in text.splitlines() if 'node="' in line and 'worker="' in line]


def test_bytes_are_counted_as_they_come(admin, router, fakes, client):
    """Not when a session of many hours ends; nor are they lost with the worker."""
    r = router(fakes(1))
    a = admin(r)

    def counted(name):
        return value(a, f'weir_router_{name}_bytes_total{{worker="router1/0"}}')

    publisher, player = client(r), client(r)
    assert publisher.publish("cam1")[0] == "NetStream.Publish.Start"
    assert player.play("cam1")[1] == "status"
    payload = b"\x17\x01" + bytes(60000)
    publisher.send(rtmp.VIDEO, payload, msid=1, ts=40)
    player.recv_until(lambda m: m.type == rtmp.VIDEO)
    for name in ("receive", "transmit"):
        procs.eventually(lambda: counted(name) > 50000, what=f"{name} grows")
    os.kill(r.workers()[0], signal.SIGKILL)
    r.wait_log("worker_cleaned")
    for name in ("receive", "transmit"):
        assert counted(name) > 50000


def test_setting_up_is_measured_anew(admin, router, fakes, client):
    """A second publication on a connection whose first one was moved, or never answered, took no longer than the client waited."""
    first, second = fakes(2)
    r = router([first, second], router={"answer_timeout": "5m", "setup_timeout": "5m"})
    a = admin(r)
    sums = [f'weir_router_setup_duration_seconds_sum{{worker="router1/0",phase="{phase}"}}' for phase in ("lookup", "total")]
    count = sums[1].replace("_sum", "_count")
    moved, silent = client(r), client(r)
    assert moved.publish(r.key_on(first.id).removeprefix("live/"))[0] == "NetStream.Publish.Start"
    first.refuse()
    first.sessions[0].conn.close()
    r.wait_log("stream_moved")
    second.does.publish = "silent"
    silent.send_publish("silent", silent.open())
    second.wait(lambda n: any(s.name == "silent" for s in n.sessions))
    second.does.publish = "start"
    time.sleep(2)
    procs.eventually(lambda: value(a, count) == 1, what="the first one is counted")
    before = [value(a, s) for s in sums]
    began = time.monotonic()
    for c in (moved, silent):
        c.send_publish(f"again-{id(c)}")
        c.recv_until(lambda m: m.status[0] == "NetStream.Publish.Start")
    waited = time.monotonic() - began
    procs.eventually(lambda: value(a, count) == 3, what="the others are counted")
    assert all(value(a, s) - b <= waited for s, b in zip(sums, before))


def counters(text):
    kinds = dict(re.findall(r"# TYPE (\S+) (\S+)", text))
    found = {}
    for series, v in samples(text).items():
        name = series.split("{")[0]
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        if kinds.get(name) == "counter" or kinds.get(base) == "histogram":
            found[series] = v
    return found


def test_counters_never_fall(admin, router, fakes):
    """Whoever is killed."""
    node = fakes(1)[0]
    r = router([node], workers=2)
    a = admin(r)
    last = {}

    def nothing_fell():
        nonlocal last
        now = counters(scrape(a))
        for series, v in last.items():
            assert now.get(series, -1) >= v, f"{series}: {v} -> {now.get(series)}"
        last = now

    def use(names):
        for name in names:
            c = rtmp.Client("127.0.0.1", r.port)
            assert c.publish(name)[0] == "NetStream.Publish.Start"
            c.close()

    def accepted():
        return sum(v for s, v in counters(scrape(a)).items() if s.startswith("weir_router_connections_total"))

    use(f"a{i}" for i in range(5))
    procs.eventually(lambda: accepted() == 5, what="five connections")
    nothing_fell()
    mark = r.mark()
    os.kill(r.workers()[0], signal.SIGKILL)
    r.wait_log("worker_started", since=mark)
    nothing_fell()
    use(f"b{i}" for i in range(5))
    procs.eventually(lambda: accepted() >= 9, what="the counters went on")
    nothing_fell()
    a.kill()
    a.start()
    nothing_fell()
    r.kill()
    nothing_fell()
    r.start()
    use(["c"])
    time.sleep(1.2)
    nothing_fell()


def test_five_hundred_nodes(admin):
    """Under 20,000 series, and quickly written."""
    a = admin()
    c = a.connect()
    for i in range(500):
        more = {"max_streams": 5, "max_sessions": 9, "max_bandwidth_bps": 1000000}
        assert a.ask("PUT", f"/api/v1/nodes/n{i}", {"rtmp": "127.0.0.1", **more}, connection=c).status == 201
    c.close()
    took = []
    for _ in range(5):
        started = time.monotonic()
        text = scrape(a)
        took.append(time.monotonic() - started)
    assert min(took) < 1, took  # the others had to wait for a processor
    found = samples(text)
    assert found["weir_nodes"] == 500
    assert 5000 < len(found) < 18000  # the rest is for some workers


class Server:
    """A real Prometheus that scrapes it every second, with the shipped rules."""

    def __init__(self, directory, a, token):
        directory.mkdir()
        (directory / "token").write_text(token)
        self.port = procs.free_port()
        text = (RULES / "prometheus.yml").read_text()
        for old, new in (
            ("scrape_interval: 5s", "scrape_interval: 500ms"),
            ("evaluation_interval: 5s", "evaluation_interval: 500ms"),
            ("weir-alerts.yml", str(RULES / "weir-alerts.yml")),
            ("127.0.0.1:8090", f"127.0.0.1:{a.port}"),
            ("# authorization:", "authorization:"),
            ("#   credentials_file: /etc/prometheus/weir-token", f"  credentials_file: {directory / 'token'}"),
        ):
            assert old in text, old
            text = text.replace(old, new)
        (directory / "prometheus.yml").write_text(text)
        argv = [PROMETHEUS, f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}"]
        argv += [f"--web.listen-address=127.0.0.1:{self.port}", "--storage.tsdb.retention.size=64MB", "--log.level=warn"]
        self.proc = procs.Proc(argv, name="prometheus")

    def ask(self, path, **query):
        url = f"http://127.0.0.1:{self.port}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=procs.DEADLINE) as answer:
            return json.load(answer)["data"]

    def up(self):
        try:
            targets = self.ask("/api/v1/targets")["activeTargets"]
        except OSError:
            return None
        return [t for t in targets if t["health"] == "up"]

    def query(self, expr):
        return self.ask("/api/v1/query", query=expr)["result"]

    def stop(self):
        self.proc.stop()


@needs_prometheus
def test_prometheus(admin, router, fakes, client, stack, tmp_path):
    """It scrapes, every rule is evaluated, and every query of the dashboard can be asked."""
    r = router(fakes(2))
    a = admin(r, tokens={"ops": "write", "prom": "read"})
    assert client(r).publish("cam1")[0] == "NetStream.Publish.Start"
    server = Server(tmp_path / "prometheus", a, a.tokens["prom"])
    stack.append(server)
    procs.eventually(server.up, every=0.3, what="Prometheus scrapes weir-admin")
    procs.eventually(lambda: server.query("weir_streams == 1"), every=0.3, what="the stream is known")

    def evaluated():
        rules = [rule for group in server.ask("/api/v1/rules")["groups"] for rule in group["rules"]]
        return rules if rules and all(rule["health"] == "ok" for rule in rules) else None

    rules = procs.eventually(evaluated, every=0.3, what="all rules are evaluated")
    assert len(rules) == (RULES / "weir-alerts.yml").read_text().count("- alert:")
    names = set(server.ask("/api/v1/label/__name__/values"))
    text = (RULES / "weir-alerts.yml").read_text() + DASHBOARD.read_text()
    used = {m for m in re.findall(r"\bweir_[a-z_]+\b", text)}
    # what has no sample until a healthd runs or a limit is set
    rare = {"weir_node_stuck", "weir_node_skewed", "weir_node_flapping", "weir_node_up", "weir_node_latency_seconds", "weir_node_checked_timestamp_seconds"}
    rare |= {name for name in used if "limit" in name or name.startswith(("weir_node_transmit", "weir_node_receive"))}
    assert used - rare <= names, used - rare - names
    documented = (nodes.ROOT / "docs" / "metrics.md").read_text()
    assert all(f"`{name}`" in documented or f"`{name.removesuffix('_bucket')}`" in documented for name in used)
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel["targets"]:
            expr = target["expr"].replace("$__rate_interval", "10s").replace("$node", ".*")
            result = server.query(expr)
            plain = re.fullmatch(r"weir_\w+", expr)
            assert result or not plain or expr in rare, (panel["title"], expr)


@needs_prometheus
def test_rules():
    for argv in (["check", "config", "prometheus.yml"], ["test", "rules", "weir-alerts.test.yml"]):
        out = procs.run([PROMTOOL, *argv[:-1], str(RULES / argv[-1])])
        assert out.returncode == 0, out.stdout + out.stderr


def test_dashboard_is_importable():
    doc = json.loads(DASHBOARD.read_text())
    ids = [p["id"] for p in doc["panels"]]
    assert len(ids) == len(set(ids)) and doc["title"] and doc["schemaVersion"] >= 36
    taken = set()
    for p in doc["panels"]:
        at = p["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, p["title"]
        taken |= cells
        assert p["targets"] and all(t["expr"] for t in p["targets"])
