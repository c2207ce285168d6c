"""Who may publish and play: rules by address and by signed token. A denied client costs no node anything, and a token is
nowhere but in the URL."""

import hashlib
import hmac
import json
import time

import admin as api
import procs
import pytest
import rtmp
import weir

KEY, NEW_KEY = "0123456789abcdef" * 4, "fedcba9876543210" * 4
START = ("NetStream.Publish.Start", "status")
DENIED = ("NetStream.Publish.Denied", "error")
FAILED = ("NetStream.Play.Failed", "error")
TOKENS = [{"app": "live", "action": "token"}]


def sign(kind, stream, expires=None, key=KEY):
    """As the documentation says; nothing of ours is asked."""
    expires = int(time.time()) + 3600 if expires is None else expires
    return hmac.new(key.encode(), f"{kind} {expires} {stream}".encode(), hashlib.sha256).hexdigest(), expires


def args(kind, stream, **how):
    return "token={}&expires={}".format(*sign(kind, stream, **how))


def write_keys(path, *keys, mode=0o600):
    path.write_text("# of streams\n" + "".join(k + "\n" for k in keys))
    path.chmod(mode)


@pytest.fixture
def guarded(router, tmp_path):
    """guarded(nodes, rules) -> a router with a file of keys (.keys)."""

    def make(nodes, rules, **config):
        keys = tmp_path / "stream-keys"
        write_keys(keys, KEY)
        r = router(nodes, access={"keys": str(keys), "rules": rules}, **config)
        r.keys = keys
        return r

    return make


def said(*things):
    return "\n".join(json.dumps(t) for t in things)


def wrong_tokens(kind, other):
    """(name with arguments, why) of a client that may not."""
    return [
        ("cam1", "token_missing"),
        ("cam1?" + args(kind, "live/cam2"), "token_bad"),
        ("cam1?" + args(other, "live/cam1"), "token_bad"),
        ("cam1?" + args(kind, "live/cam1", key=NEW_KEY), "token_bad"),
        ("cam1?" + args(kind, "live/cam1", expires=int(time.time()) - 1), "token_expired"),
        ("cam1?" + args(kind, "live/cam1").replace("expires=1", "expires=2"), "token_bad"),
    ]


def test_ffmpeg_with_tokens(cluster, guarded, publish, play, stack, tmp_path):
    nodes = cluster(2)
    r = guarded(nodes, TOKENS)
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    events = api.Events(a)
    stack.append(events)
    publish_args, play_args = args("publish", "live/cam1"), args("play", "live/cam1")
    publish(r.url("live/cam1?" + publish_args))
    player = play(r.url("live/cam1?" + play_args))
    in_app = play(r.url(f"live?{play_args}/cam1"))
    player.wait_packets(30)
    in_app.wait_packets(30)
    assert "live/cam1" in set().union(*(n.live() for n in nodes))
    accepted = [n.accepted() for n in nodes]
    assert sum(accepted) == 3

    for name, why in wrong_tokens("publish", "play"):
        mark = r.mark()
        assert publish(r.url("live/" + name), wait=False).wait() != 0
        assert r.wait_log("session_closed", since=mark, why=why)["kind"] == "publish"
    for name, why in wrong_tokens("play", "publish"):
        mark = r.mark()
        assert play(r.url("live/" + name)).wait() != 0
        assert r.wait_log("session_closed", since=mark, why=why)["kind"] == "play"
    assert [n.accepted() for n in nodes] == accepted

    tokens = [x.split("=")[1] for x in (publish_args + "&" + play_args).split("&")]
    heard = []
    while [e["event"] for e in heard].count("session_started") < 3:
        heard.append(events.next())
    shown = said(r.proc.err.items, a.items("/api/v1/streams"), a.items("/api/v1/sessions"), heard)
    shown += a.ask("GET", "/api/v1/config").body.decode()
    shown += said(*(line for n in nodes for line in n.proc.err.items))
    assert "cam1" in shown
    for token in tokens:
        assert token not in shown
    player.wait_packets(player.count() + 30)


@pytest.mark.parametrize("place", ["name", "app", "tcUrl"])
def test_nodes_do_not_see_the_token(place, fake, guarded, client, clip):
    node = fake("f1")
    r = guarded([node], TOKENS)
    token = args("publish", "live/cam1")
    c = client(r)
    app, url, name = "live?a=1", "rtmp://h/live?a=1", "cam1?b=2"
    if place == "name":
        name = f"cam1?{token}&b=2"
    elif place == "app":
        app = url = f"live?{token}&a=1"
        url = "rtmp://h/" + url
    else:
        url = f"rtmp://h/live?a=1&{token}"
    assert c.publish(name, app=app, tc_url=url, pageUrl="http://h/?" + token) == START
    c.send_command("FCUnpublish", 5, None, name)
    c.send_media(clip.messages()[:5])
    session = node.wait(lambda n: next((s for s in n.sessions if any(m.type == rtmp.VIDEO for m in s.messages)), None))
    assert session.connect["app"] == "live?a=1"
    assert session.connect["tcUrl"] == "rtmp://h/live?a=1"
    assert session.connect["pageUrl"] == "http://h/"
    assert session.name == "cam1?b=2"
    assert [m.values[3] for m in session.messages if m.is_command and m.values[0] == "FCUnpublish"] == ["cam1?b=2"]
    assert not any(token.split("&")[0].encode() in m.payload for m in session.messages)


def test_players_with_tokens_share_a_link(fake, guarded, client, clip):
    """Each is asked for its own; what nodes get has none, so that there is nothing to keep the players apart."""
    node = fake("f1")
    r = guarded([node], TOKENS, relay={"share_playback": "on"})
    publisher = client(r)
    assert publisher.publish("x?" + args("publish", "live/x")) == START
    publisher.send_media(clip.messages()[:60])
    token = args("play", "live/x")
    by_name, by_app, extra = client(r), client(r), client(r)
    assert by_app.play("x", app="live?" + token)[1] == "status"
    assert by_name.play("x?" + token)[1] == "status"
    assert extra.play(f"x?{token}&a=1")[1] == "status"
    assert client(r).play("x") == FAILED
    assert client(r).play("x?" + args("publish", "live/x")) == FAILED
    publisher.send_media(clip.messages()[60:120])
    for player in (by_name, by_app, extra):
        player.recv_media(10)
    assert sorted(s.name for s in node.sessions if s.kind == "play") == ["x", "x?a=1"]
    assert {s.connect["app"] for s in node.sessions} == {"live"}
    assert not any(b"token" in m.payload for s in node.sessions for m in s.messages)


def test_a_token_that_no_rule_asks_for_is_the_nodes(fake, guarded, client):
    node = fake("f1")
    r = guarded([node], [{"app": "live", "action": "allow"}])
    assert client(r).publish("cam1?token=mine&expires=1", app="live?token=x") == START
    assert (node.sessions[0].name, node.sessions[0].connect["app"]) == ("cam1?token=mine&expires=1", "live?token=x")


def test_addresses(fake, guarded, client):
    node = fake("f1")
    rules = [
        {"app": "live", "kind": "publish", "from": ["127.0.0.2", "2001:db8::/32"], "action": "allow"},
        {"app": "live", "kind": "publish", "action": "token"},
        {"app": "live", "kind": "play", "from": ["127.0.0.3"], "action": "deny"},
        {"app": "live", "kind": "play", "action": "allow"},
    ]
    r = guarded([node], rules)
    assert client(r, source="127.0.0.2").publish("a") == START
    assert client(r, source="127.0.0.3").play("a") == FAILED
    assert client(r, source="127.0.0.4").publish("b") == DENIED
    assert client(r, source="127.0.0.4").publish("b?" + args("publish", "live/b")) == START
    assert client(r, source="127.0.0.4").publish("b", app="vod") == DENIED
    assert client(r, source="127.0.0.2").publish("b", app="live", tc_url="rtmp://h/vod") == DENIED
    assert node.accepted == 2
    assert client(r, source="127.0.0.4").play("a")[1] == "status"
    why = [line["why"] for line in r.wait_closed(4)]
    assert sorted(why) == ["access_denied", "access_denied", "access_denied", "token_missing"]


@pytest.mark.parametrize(
    "header, status", [(b"TCP4 192.0.2.7 10.0.0.1", START), (b"TCP4 192.0.2.8 10.0.0.1", DENIED), (b"UNKNOWN", DENIED)]
)
def test_addresses_behind_a_proxy(header, status, fakes, guarded, client):
    port = procs.free_port()
    listen = [{"address": f"127.0.0.1:{port}", "proxy_protocol": "required", "trust": ["127.0.0.1"]}]
    rules = [{"app": "*", "from": ["192.0.2.7", "127.0.0.0/8"], "action": "allow"}]
    r = guarded(fakes(1), rules, router={"listen": listen})
    r.port = port
    ports = b" 5555 1935" if header != b"UNKNOWN" else b""
    assert client(r, before=b"PROXY " + header + ports + b"\r\n").publish("x") == status


@pytest.mark.parametrize("how", ["case", "nul", "data", "play2", "second", "position", "published"])
def test_another_stream_on_the_same_connection(how, cluster, guarded, client, clip):
    """What is allowed is one stream; nginx-rtmp would serve all of the application."""
    node = cluster(1)[0]
    r = guarded([node], [{"app": "live/mine", "action": "allow"}, {"app": "live/secret", "action": "token"}])
    owner = client(r)
    assert owner.publish("secret?" + args("publish", "live/secret")) == START
    owner.send_media(clip.messages()[:60])
    c = client(r)
    if how == "data":
        assert c.publish("mine") == START
        for command in (["deleteStream", 9, None, 1], ["publish", 10, None, "other", "live"]):
            c.send(rtmp.DATA, rtmp.amf_encode(*command), 1, 0, 4)
        c.send_media(clip.messages()[:30])
        procs.eventually(lambda: node.streams().get("live/mine", {}).get("bytes_in"), what="the node has what it sent")
        assert node.live() == {"live/mine", "live/secret"}
        return
    if how in ("position", "published"):  # without a transaction id; nginx-rtmp goes by position
        msid = c.open()
        c.send_command(*["publish" if how == "published" else "play", None, "mine", "secret"], msid=msid, csid=8)
        procs.eventually(lambda: node.streams().get("live/mine", {}).get("clients"), what="the node has mine")
        assert node.streams()["live/secret"]["clients"] == 1
        return
    assert c.play("mine")[1] == "status"
    if how == "play2":
        c.send_command("play2", 9, None, {"streamName": "secret", "start": -2000}, msid=1, csid=8)
        c.send_command("deleteStream", 9, None, 1)
        c.send_play("secret")
    else:
        end, play = {"case": ("DeleteStream", "PLAY"), "nul": ("deleteStream\0", "play\0x"), "second": ("closeStream", "play")}[how]
        c.send_command(end, 9, None, 1)
        c.send_command(play, 10, None, "secret", -2000, msid=1, csid=8)
    assert not [m for m in c.expect_closed() if m.type in (rtmp.AUDIO, rtmp.VIDEO)]
    r.wait_log("session_closed", why="token_missing")
    assert node.streams()["live/secret"]["clients"] == 1


def test_keys_are_replaced_while_streams_are_live(cluster, guarded, publish, play, client):
    nodes = cluster(2)
    r = guarded(nodes, TOKENS, workers=2, router={"ping_interval": "1s"})
    publisher = publish(r.url("live/cam1?" + args("publish", "live/cam1")))
    player = play(r.url("live/cam1?" + args("play", "live/cam1")))
    player.wait_packets(30)
    write_keys(r.keys, NEW_KEY, KEY)
    r.reload()
    for key in (KEY, NEW_KEY):
        for _ in range(4):  # on both workers
            procs.eventually(
                lambda: client(r).publish("x?" + args("publish", "live/x", key=key)) == START, what="both keys are good"
            )
    made = r.command("--new-token", "play", "live/cam1", "1h").stdout.strip()
    assert made == "live/cam1?" + args("play", "live/cam1", expires=int(made.split("=")[-1]), key=NEW_KEY)
    write_keys(r.keys, NEW_KEY)
    r.reload()
    procs.eventually(
        lambda: client(r).publish("x?" + args("publish", "live/x")) == DENIED, what="tokens of the old key are not good"
    )
    # What is live goes on, also on another node, and nobody is asked again
    mark = r.mark()
    owner = next(n for n in nodes if "live/cam1" in n.live())
    owner.kill()
    r.wait_log("stream_moved", since=mark)
    player.wait_packets(player.count() + 60)
    assert publisher.running and player.running


def test_new_token(guarded, fakes, client, tmp_path):
    r = guarded(fakes(1), TOKENS)
    now = int(time.time())
    out = r.command("--new-token", "publish", "/live//cam1/?x=1", "90s")
    assert out.returncode == 0, out.stderr
    path, _, query = out.stdout.rstrip("\n").partition("?")
    expires = int(query.partition("&expires=")[2])
    assert path == "live/cam1" and now + 89 <= expires <= now + 100
    assert query == args("publish", "live/cam1", expires=expires)
    assert client(r).publish("cam1?" + query) == START
    assert client(r).play("cam1?" + query) == FAILED
    for wrong in ("record live/x 1h", "play live 1h", "play live/x 1", "play live/x 0s", "play live/x", "play live/x 1h more"):
        out = r.command("--new-token", *wrong.split())
        assert out.returncode == 2 and out.stderr and not out.stdout, wrong
    none = weir.check_file("", tmp_path, "--new-token", "play", "live/x", "1h")
    assert none.returncode == 2 and "access.keys" in none.stderr


@pytest.mark.parametrize(
    "keys, mode, error",
    [
        (None, 0o600, "No such file"),
        (["short"], 0o600, "line 2: a key has 32 to 128 characters"),
        ([], 0o600, "there is no key in it"),
        ([KEY], 0o644, "found mode 0644, allowed: 0600 or 0640"),
        ([KEY], 0o660, "found mode 0660, allowed: 0600 or 0640"),
        ([KEY] * 17, 0o640, "line 18: there are too many keys"),
        ([KEY * 200], 0o640, "File too large"),
    ],
    ids=["absent", "short", "empty", "readable", "writable", "many", "long"],
)
def test_bad_files_of_keys(keys, mode, error, guarded, fakes, client):
    r = guarded(fakes(1), TOKENS)
    if keys is None:
        r.keys.unlink()
    else:
        write_keys(r.keys, *keys, mode=mode)
    out = r.command("-t")
    assert out.returncode == 2 and error in out.stderr and str(r.keys) in out.stderr
    assert KEY not in out.stderr
    assert error in r.reload(expect="config_refused")["error"]
    assert client(r).publish("x?" + args("publish", "live/x")) == START
    fresh = procs.run([weir.binary(), "-c", str(r.file)])
    assert fresh.returncode == 2 and error in fresh.stderr


def test_limits_per_app(fakes, guarded, client):
    r = guarded(fakes(2), [{"app": "*", "action": "allow"}], limits={"sessions_per_app": 2})
    one, two = client(r), client(r)
    assert one.publish("a") == START
    assert two.play("a")[1] == "status"
    assert client(r).publish("b") == ("NetStream.Publish.Failed", "error")
    assert client(r).play("b", app="live/x") == FAILED
    assert len(r.wait_closed(2, why="limit_app")) == 2
    assert client(r).publish("b", app="vod") == START
    one.send_command("deleteStream", 9, None, 1)  # the connection stays, the publication is over
    assert one.expect_status() == ("NetStream.Unpublish.Success", "status")
    assert client(r).publish("c") == START
    two.close()
    r.wait_log("session_closed", kind="play", why="client_closed")
    assert client(r).publish("d") == START


def test_rate_per_app(fakes, guarded, client):
    r = guarded(fakes(1), [{"app": "*", "action": "allow"}], limits={"session_rate_per_app": 1})
    clients = [client(r) for _ in range(20)]
    for c in clients:
        c.open()
    for i, c in enumerate(clients):
        c.send_publish(f"s{i}")
    answers = [c.expect_status()[1] for c in clients]
    assert answers.count("status") >= 1 and answers.count("error") >= 5  # in whichever order they were read
    r.wait_why("limit_app_rate")


def test_openssl_makes_tokens(tmp_path):
    """The line in docs/access.md."""
    keys = tmp_path / "stream-keys"
    keys.write_text(KEY + "\n")
    script = "printf 'publish %s live/cam1' 1790000000 | openssl dgst -sha256 -hmac \"$(head -n 1 \"$0\")\""
    out = procs.run(["sh", "-c", script, str(keys)], )
    assert out.stdout.split()[-1] == sign("publish", "live/cam1", 1790000000)[0]
