"""The dashboard, clicked through in Chromium against the real daemons. Screenshots: build/test-logs/dashboard."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request

import procs
import pytest
import weir

dashboard = pytest.importorskip("dashboard", reason="python3-selenium is not installed")
PATIENT = {"ping_timeout": "1h"}  # with clients that do not listen, while a browser on a busy machine is looked at for minutes
VIEWS = ("nodes", "streams", "sessions", "lookup", "events", "workers")
# What people have tried on others: markup, quotes, right-to-left overrides, invisible characters.
HOSTILE = (
    "<script>document.title='owned'</script>",
    "\"><img src=x onerror=document.title='owned'>",
    "'); document.title='owned'; ('",
    "cam\u202e1mac\u202c",
    "zero\u200bwidth",
    "\u05e9\u05dc\u05d5\u05dd",
    "x" * 300,
)


@pytest.fixture
def admin(stack):
    """admin(router) -> a running Admin."""

    def make(router, **how):
        a = dashboard.Admin(router, **how)
        stack.append(a)
        return a

    return make


@pytest.fixture
def browser(stack):
    """browser(admin, "write") -> a Browser that was given that token; None: none."""

    def make(admin, scope=None, **how):
        b = dashboard.Browser(admin.url, **how)
        stack.append(b)
        if scope:
            b.give_token(admin.tokens[scope])
            b.see("#scope", {"read": "Read only", "write": "Write access"}[scope])
            b.complaints()  # of the answers from before the token
        return b

    return make


def ask(admin, path, body=None):
    headers = {"Authorization": f"Bearer {admin.tokens['write']}", "Content-Type": "application/json"}
    request = urllib.request.Request(admin.url + path.lstrip("/"), body and json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=procs.DEADLINE) as answer:
        return json.load(answer)


def node_state(admin, id):
    return ask(admin, f"/api/v1/nodes/{id}")["state"]


def publish_raw(client, router, name):
    code, _ = client(router).publish(name)
    assert code == "NetStream.Publish.Start"


def test_everything_is_shown(cluster, router, publish, play, admin, browser, stack):
    three = cluster(3)
    r = router([weir.node_entry(n, weight=50 * (i + 1), stat=n.stat_url) for i, n in enumerate(three)], workers=2)
    keys = [f"live/cam{i}" for i in range(5)]
    for key in keys:
        publish(r.url(key))
    for p in [play(r.url("live/cam0")) for _ in range(3)]:
        p.wait_packets(20)
    stack.append(dashboard.start_healthd(r))
    a = admin(r)
    b = browser(a, "write")
    placed = {key: r.wait_log("stream_placed", stream=key)["node"] for key in keys}

    b.see("h1", "test")
    for i, n in enumerate(three):
        assert n.rtmp in b.row("nodes", n.id).text
        procs.eventually(lambda n=n: b.cell("nodes", n.id, "Streams") == str(list(placed.values()).count(n.id)))
        assert b.cell("nodes", n.id, "Weight") == str(50 * (i + 1))
    widths = [float(b.run("return getComputedStyle(arguments[0]).width", e)[:-2]) for e in b.all("td[data-label=Weight] .fill")]
    assert widths[0] == pytest.approx(widths[2] / 3, rel=0.05) and widths[1] == pytest.approx(widths[2] * 2 / 3, rel=0.05)
    b.see("#totals", "Streams\n5")
    b.see("#totals", "Players\n3")
    b.see("#totals", "Nodes up\n3 of 3")
    # As the node itself counts it, over ten seconds.
    procs.eventually(lambda: b.cell("nodes", placed["live/cam0"], "Traffic") != "0 bit/s", what="traffic")

    b.open("streams")
    for key in keys:
        procs.eventually(lambda key=key: b.cell("streams", key, "Owner").split("\n")[0] == placed[key])
    procs.eventually(lambda: b.cell("streams", "live/cam0", "Players") == "3")
    procs.eventually(lambda: "bit/s" in b.cell("streams", "live/cam0", "Bit rate"))
    points = "return document.querySelector('#view-streams polyline').getAttribute('points')?.split(' ').length ?? 0"
    procs.eventually(lambda: b.run(points) >= 3, what="the graph grows")

    b.open("sessions")
    procs.eventually(lambda: len(b.all("#view-sessions tbody tr")) == 8)
    b.one("#sessions-filter [name=kind] option[value=publish]").click()
    procs.eventually(lambda: len(b.all("#view-sessions tbody tr")) == 5)
    b.one("#sessions-filter [name=stream]").send_keys("live/cam3")
    b.press("ENTER")
    procs.eventually(lambda: len(b.all("#view-sessions tbody tr")) == 1)

    b.open("workers")
    procs.eventually(lambda: b.text("#view-workers").count("router") >= 2)
    assert not b.complaints()

    looks = {"light": {}, "dark": {"dark": True}, "tablet": {"size": dashboard.TABLET}, "phone": {"size": dashboard.PHONE}}
    for look, how in looks.items():
        b.emulate(**{"size": dashboard.DESKTOP, **how})
        for view in VIEWS:
            b.open(view)
            if view == "lookup":
                b.one("#lookup-form [name=name]").clear()
                b.one("#lookup-form [name=name]").send_keys("cam1")
                b.one("#lookup-form .primary").click()
                b.see("#lookup-answer", placed["live/cam1"])
            b.run("scrollTo(0, 0)")
            b.shoot(f"{look}-{view}")
            assert b.run("return document.documentElement.scrollWidth <= innerWidth"), (look, view)
            assert b.run("return [...document.querySelectorAll('nav a')].every(a => a.getBoundingClientRect().right <= innerWidth)")


def test_health_and_panic(cluster, router, admin, browser, stack):
    three = cluster(3)
    r = router([weir.node_entry(n, stat=n.stat_url) for n in three], healthd={"interval": "200ms", "timeout": "500ms"})
    stack.append(dashboard.start_healthd(r))
    b = browser(admin(r), "read")
    b.see("#verdict", "Healthy")
    assert "Up" in b.cell("nodes", "n1", "State")
    three[0].kill()
    b.see("#verdict", "1 node down")
    state = b.cell("nodes", "n1", "State")
    assert "Down" in state and "refused" in state, state
    b.one("#nodes-filter [name=problems]").click()
    procs.eventually(lambda: [row.text.split("\n")[0] for row in b.all("#view-nodes tbody th")] == ["n1"])
    b.see("#rail-log", "Node down")
    three[1].kill()
    b.see("#panic", "Panic mode")
    b.shoot("panic")
    three[0].start()
    procs.eventually(lambda: not b.text("#panic"), what="panic ends")


def test_events_appear_as_they_happen(cluster, router, publish, admin, browser):
    r = router(cluster(2))
    b = browser(admin(r), "read")
    b.open("events")
    b.see("#events-state", "as they happen")
    publisher = publish(r.url("live/news"))
    b.see("#events-log", "live/news")
    assert "Stream started" in b.text("#events-log li")
    b.one("#events-filter [name=paused]").click()
    publisher.kill()
    r.wait_log("session_closed", stream="live/news")
    b.open("nodes")
    b.see("#rail-log", "Stream ended")
    b.open("events")
    assert "Stream ended" not in b.text("#events-log")
    b.one("#events-filter [name=paused]").click()
    assert "Stream ended" in b.text("#events-log li")
    assert "Session" not in b.text("#events-log")  # only who asks for them sees them
    b.one("#events-filter [name=sessions]").click()
    b.see("#events-log", "Session ended")
    log = b.text("#events-log")
    assert "Session started" in log and log.count("Stream started") == log.count("Stream ended") == 1
    assert "as they happen" in b.text("#events-state")
    b.shoot("events-sessions")
    again = publish(r.url("live/more"))
    b.see("#events-log", "live/more")
    again.kill()
    procs.eventually(lambda: b.text("#events-log").count("Session ended") == 2, what="those that follow")
    b.open("nodes")
    assert "live/more" in b.text("#rail-log") and "Session" not in b.text("#rail-log")
    b.open("events")
    b.one("#events-filter [name=sessions]").click()
    assert "Session" not in b.text("#events-log") and "live/more" in b.text("#events-log")


def test_drain_by_keyboard_alone(cluster, router, publish, admin, browser):
    r = router(cluster(2))
    publish(r.url(r.key_on("n1")))
    a = admin(r)
    b = browser(a, "write")
    b.row("nodes", "n1")
    b.tab_to("Drain n1")
    b.press("ENTER")
    dialog = b.one("dialog[open]").text
    b.shoot("drain-dialog")
    assert "Drain node n1" in dialog and "takes no new streams" in dialog and "1 live stream" in dialog
    assert 'PUT /api/v1/nodes/n1/state {"state":"drain"}' in dialog
    assert b.focused() == "Cancel"
    b.press("ESCAPE")
    procs.eventually(lambda: not b.all("dialog[open]"))
    assert b.focused() == "Drain n1" and node_state(a, "n1") == "enabled"
    b.press("ENTER")
    b.one("dialog[open]")
    b.press("TAB")
    assert b.focused() == "Drain"
    b.press("ENTER")
    b.see("#results", "Node n1: draining.")
    assert node_state(a, "n1") == "drain"
    procs.eventually(lambda: "Draining" in b.row("nodes", "n1").text)
    procs.eventually(lambda: b.focused() == "Enable n1", what="the focus is where it was")
    b.press("ENTER")
    b.one("dialog[open]")
    b.press("TAB", "ENTER")
    procs.eventually(lambda: node_state(a, "n1") == "enabled")


def test_the_last_node_is_not_disabled_unawares(cluster, router, admin, browser):
    r = router(cluster(1))
    a = admin(r)
    b = browser(a, "write")
    b.act("nodes", "n1", "Disable")
    assert "No other node can take streams" in b.confirm("Disable")
    procs.eventually(lambda: node_state(a, "n1") == "disabled")
    procs.eventually(lambda: "Disabled" in b.row("nodes", "n1").text)


def test_look_up_by_keyboard_agrees_with_the_router(cluster, router, admin, browser):
    r = router(cluster(3))
    b = browser(admin(r), "read")
    b.open("lookup")
    for name in ("one", "two", "a/b?c=d&e"):
        b.run("document.querySelector('#lookup-form [name=name]').value = ''; document.activeElement.blur()")
        b.tab_to("Stream name")
        b.press(*name, "ENTER")
        key = "live/" + name.split("?")[0]
        b.see("#lookup-answer", key)
        chosen = b.one("#lookup-answer strong").text
        assert chosen == r.explain(key)
        rows = [row.text for row in b.all("#view-lookup tbody tr")]
        assert len(rows) == 3 and "Chosen" in rows[0] and chosen in rows[0]
    assert not b.complaints()


def test_end_a_stream_and_kick_a_player(cluster, router, publish, play, admin, browser):
    r = router(cluster(2))
    publisher = publish(r.url("live/show"))
    player = play(r.url("live/show"))
    player.wait_packets(10)
    b = browser(admin(r), "write")
    b.open("sessions")
    b.one("#sessions-filter [name=kind] option[value=play]").click()
    kick = "#view-sessions tbody button.small"
    procs.eventually(lambda: len(b.all(kick)) == 1)
    b.one(kick).click()
    text = b.confirm("Kick")
    assert "player of live/show" in text and "DELETE /api/v1/sessions/" in text
    player.wait()
    b.see("#results", "was disconnected")
    assert publisher.running

    b.open("streams")
    b.act("streams", "live/show", "End")
    text = b.confirm("End stream")
    assert "DELETE /api/v1/streams/live%2Fshow" in text
    publisher.wait()
    b.see("#streams-sheet", "Nothing is being published")
    assert "rtmp://127.0.0.1/live/NAME" in b.text("#streams-sheet")


def test_move_a_stream(cluster, router, publish, play, admin, browser):
    r = router(cluster(3), placement={"max_load_factor": 0})
    key = r.key_on("n1")
    publisher = publish(r.url(key))
    player = play(r.url(key))
    player.wait_packets(20)
    a = admin(r)
    b = browser(a, "write")
    path = "/api/v1/streams/" + urllib.parse.quote(key, safe="")
    b.open("streams")
    procs.eventually(lambda: b.cell("streams", key, "Players") == "1")
    b.act("streams", key, "Move")
    options = [o.text for o in b.all("dialog[open] option")]
    assert options == ["Let Weir choose", "n2 (0 streams)", "n3 (0 streams)"]
    assert f'POST {path}/move {{"to":null}}' in b.one("dialog[open]").text and b.focused() == "Cancel"
    b.one("dialog[open] option[value=n2]").click()
    b.shoot("move-dialog")
    text = b.confirm("Move stream")
    assert f"Move stream {key}" in text and "1 player" in text and "No client is disconnected" in text and '{"to":"n2"}' in text
    b.see("#results", f"Stream {key} moves off n1.")
    procs.eventually(lambda: b.cell("streams", key, "Owner") == "n2\nhome n1")
    b.act("streams", key, "Move")
    b.confirm("Move stream")
    procs.eventually(lambda: b.cell("streams", key, "Owner") == "n1", what="Weir chose its home")

    b.open("events")
    for words in (f"Stream moving\n{key} to n2", f"Stream moved\n{key} to n2", f"Stream moved\n{key} to n1"):
        b.see("#events-log", words)
    b.open("sessions")
    nodes = "return [...document.querySelectorAll('#view-sessions td[data-label=Node]')].map(e => e.innerText)"
    procs.eventually(lambda: b.run(nodes) == ["n1\nmoved 2 times"] * 2, what="both sessions were moved twice")
    b.shoot("moved-sessions")
    b.one("#view-sessions tbody button.plain").click()
    assert "times moved\n2" in b.one("dialog[open]").text
    b.press("ESCAPE")
    b.open("nodes")
    b.act("nodes", "n1", "Drain")
    assert "moves to other nodes" in b.confirm("Drain")
    procs.eventually(lambda: "empty" in b.cell("nodes", "n1", "State"), what="all of it has left")
    assert publisher.running and player.running and not b.complaints()


def test_a_move_that_takes_its_time(fakes, router, client, admin, browser):
    r = router(fakes(2), failover={"grace": "1m"})
    key = r.key_on("f1")
    name = key.removeprefix("live/")
    publish_raw(client, r, name)
    client(r).play(name)  # which waits at both nodes for media
    b = browser(admin(r), "write")
    b.open("streams")
    procs.eventually(lambda: b.cell("streams", key, "Players") == "1")
    b.act("streams", key, "Move")
    b.confirm("Move stream")
    procs.eventually(lambda: "moving now" in b.cell("streams", key, "Owner"), what="from here to there")
    assert re.sub(r"\s+", " ", b.cell("streams", key, "Owner")) == "f1 to f2 moving now"
    assert [e.text for e in b.row("streams", key).find_elements("css selector", "button.small")] == ["End"]
    b.shoot("moving")
    b.open("nodes")
    b.act("nodes", "f1", "Drain")
    b.confirm("Drain")
    procs.eventually(lambda: " left" in b.cell("nodes", "f1", "State"), what="what is still there")
    b.shoot("draining")


def test_where_streams_are_not_moved(fakes, router, client, admin, browser):
    r = router(fakes(2), failover={"max_moves": 0}, router=PATIENT)
    key = r.key_on("f1")
    publish_raw(client, r, key.removeprefix("live/"))
    a = admin(r)
    b = browser(a, "write")
    b.act("nodes", "f1", "Drain")
    assert "(1 live stream and 1 session) stays until it ends" in b.confirm("Drain")
    b.see("#view-nodes", "1 stream left")
    b.open("streams")
    assert [e.text for e in b.row("streams", key).find_elements("css selector", "button.small")] == ["End"]
    path = "/api/v1/streams/" + urllib.parse.quote(key, safe="") + "/move"
    with pytest.raises(urllib.error.HTTPError) as refused:
        ask(a, path, {"to": "f2"})
    assert refused.value.code == 409 and "max_moves" in refused.value.read().decode()


def test_what_a_token_may(cluster, router, publish, admin, browser):
    r = router(cluster(2))
    publish(r.url("live/a"))
    a = admin(r)
    b = browser(a)
    b.see("#token-error", "asks for a token")
    b.shoot("token")
    b.give_token("not-a-token")
    b.see("#token-error", "not accepted")
    assert "n1" not in b.text("main")
    b.give_token(a.tokens["read"])
    b.see("#scope", "Read only")
    for view, name in (("nodes", "n1"), ("streams", "live/a")):
        b.open(view)
        b.row(view, name)
        assert not b.all(f"#view-{view} tbody .actions button")
    b.give_token(a.tokens["write"])
    b.see("#scope", "Write access")
    procs.eventually(lambda: len(b.all("#view-nodes tbody .actions button")) == 4)
    assert b.run("return localStorage.length") == 0 and b.run("return document.cookie") == ""
    assert a.tokens["write"] not in b.run("return document.documentElement.outerHTML")
    b.driver.refresh()
    b.see("#scope", "Write access")
    b.open("token")
    b.one("#token-forget").click()
    b.see("#token-error", "asks for a token")
    assert b.run("return sessionStorage.length") == 0


def test_hostile_names_are_text(cluster, router, client, admin, browser):
    r = router(cluster(2), router=PATIENT)
    for name in HOSTILE:
        publish_raw(client, r, name)
    b = browser(admin(r), "write")
    shown = [re.sub("[\u202e\u202c\u200b]", lambda m: f"\\u{{{ord(m[0]):x}}}", "live/" + name) for name in HOSTILE]
    for view in ("streams", "sessions", "events"):
        b.open(view)
        for name in shown:
            b.see(f"#view-{view}", name)
    b.open("streams")
    b.shoot("hostile-light")
    for name in shown:
        row = b.row("streams", name)
        row.find_element("css selector", "button.plain").click()
        assert name in b.one("dialog[open]").text
        b.press("ESCAPE")
        b.act("streams", name, "End")
        path = "/api/v1/streams/" + urllib.parse.quote("live/" + HOSTILE[shown.index(name)], safe="")
        assert path in b.one("dialog[open]").text and f"End stream {name}" in b.one("dialog[open]").text
        b.press("ESCAPE")
    b.open("lookup")
    b.one("#lookup-form [name=name]").send_keys(HOSTILE[0])
    b.one("#lookup-form .primary").click()
    b.see("#lookup-answer", shown[0])
    assert b.run("return document.querySelectorAll('script, img, iframe, object, embed').length") == 1
    assert "owned" not in b.run("return document.title")
    assert not b.complaints()
    b.emulate(size=dashboard.PHONE)
    b.open("streams")
    b.shoot("hostile-phone")
    assert b.run("return document.documentElement.scrollWidth <= innerWidth")


def test_nothing_is_fetched_from_elsewhere(cluster, router, publish, admin, browser):
    r = router(cluster(1))
    publish(r.url("live/a"))
    a = admin(r)
    with urllib.request.urlopen(a.url, timeout=procs.DEADLINE) as answer:
        page, policy = answer.read().decode(), answer.headers["Content-Security-Policy"]
    assert "'unsafe-inline'" not in policy and "default-src 'none'" in policy
    assert len(re.findall("<script", page)) == 1 and len(re.findall("<style", page)) == 1
    assert set(re.findall(r"""https?://[^"'\s`]+""", page)) == {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", page)
    b = browser(a, "write")
    for view in VIEWS:
        b.open(view)
        procs.eventually(lambda view=view: b.one(f"#view-{view}"))
    b.see("#view-workers", "router")
    fetched = b.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert len(fetched) > 5 and all(name.startswith(a.url + "api/v1/") for name in fetched), fetched
    assert not b.complaints()


def test_says_when_its_facts_are_old(cluster, router, admin, browser):
    r = router(cluster(1))
    a = admin(r)
    b = browser(a, "read")
    b.row("nodes", "n1")
    a.stop()
    b.see("#stale", "does not answer")
    assert "Streams go on without it" in b.text("#stale") and "No answer" in b.text("#verdict")
    assert "n1" in b.text("#nodes-sheet")
    b.shoot("stale")
    a.start()
    procs.eventually(lambda: not b.text("#stale"), what="the warning goes")
    with dashboard.paused(a.proc):
        b.see("#stale", "does not answer")
    procs.eventually(lambda: not b.text("#stale"), what="the warning goes")


def test_an_answer_that_is_cut_off_is_asked_for_again(cluster, router, admin, browser, stack):
    """By a proxy, or a line that breaks: the list comes with the next one."""
    r = router(cluster(1))
    a = admin(r)
    proxy = dashboard.CuttingProxy(a, "/api/v1/nodes?", times=1)
    stack.append(proxy)
    b = browser(proxy, "read")
    b.row("nodes", "n1")
    assert proxy.cut == 1


def test_empty_states_say_what_to_do(router, admin, browser):
    r = router([])
    b = browser(admin(r), "read")
    b.see("#nodes-sheet", "No nodes yet")
    assert "weir.yaml" in b.text("#nodes-sheet")
    b.open("streams")
    b.see("#streams-sheet", "Point an encoder at rtmp://")
    b.open("sessions")
    b.see("#sessions-sheet", "No sessions.")
    b.shoot("empty-sessions")


def test_many_nodes_and_pages_of_sessions(fakes, router, client, admin, browser):
    (node,) = fakes(1)
    made_up = [{"id": f"m{i}", "rtmp": f"127.0.0.1:{1024 + i}", "weight": 0} for i in range(499)]
    r = router([weir.node_entry(node), *made_up], router=PATIENT)
    client(r).publish("big")
    for _ in range(119):
        client(r).play("big")
    b = browser(admin(r), "write")
    procs.eventually(lambda: len(b.all("#view-nodes tbody tr")) == 500)
    b.see("#nav-nodes", "500")
    b.one("#nodes-filter [name=text]").send_keys("m49")
    procs.eventually(lambda: len(b.all("#view-nodes tbody tr")) == 10)  # m49, m490 to m498
    b.open("sessions")
    procs.eventually(lambda: len(b.all("#view-sessions tbody tr")) == 100)
    b.see("#sessions-pager", "Sessions 1 to 100")
    b.one("#sessions-pager button:nth-child(2)").click()
    procs.eventually(lambda: len(b.all("#view-sessions tbody tr")) == 20)
    b.see("#sessions-pager", "Sessions 101 to 120")
    assert not b.one("#sessions-pager button:nth-child(2)").is_enabled()
    b.one("#sessions-pager button:nth-child(1)").click()
    procs.eventually(lambda: len(b.all("#view-sessions tbody tr")) == 100)


def test_accessible(cluster, router, publish, admin, browser):
    r = router(cluster(2))
    publish(r.url("live/a"))
    b = browser(admin(r), "write", reduced_motion=True)
    b.row("nodes", "n1")
    assert b.run("return getComputedStyle(document.querySelector('.fill')).transitionDuration") == "0s"
    assert b.run("return document.documentElement.lang") == "en"
    b.driver.refresh()
    b.row("nodes", "n1")
    b.press("TAB")
    assert b.focused() == "Skip to content"
    b.press("ENTER")
    assert b.run("return document.activeElement.id") == "main"
    nameless = """return [...document.querySelectorAll("button, input, select, a")].filter(e =>
        !(e.getAttribute("aria-label") || e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)"""
    headless = """return [...document.querySelectorAll("table")].filter(t => !t.caption?.textContent
        || [...t.querySelectorAll("thead th")].some(h => !h.textContent || h.scope !== "col")
        || [...t.tBodies[0].rows].some(r => !r.querySelector("th[scope=row]"))).length"""
    for view in VIEWS:
        b.open(view)
        assert b.run(nameless) == [] and b.run(headless) == 0
        assert b.all("nav [aria-current=page]")[0].get_attribute("href").endswith("#" + view)
    b.open("nodes")
    b.one("#view-nodes thead button").click()
    assert b.one("#view-nodes th[aria-sort]").get_attribute("aria-sort") == "descending"
    assert [row.text.split("\n")[0] for row in b.all("#view-nodes tbody th")] == ["n2", "n1"]
