"""Every stream on one node, and what a player receives is what it would receive from that node."""

import media
import no_ipv6
import procs
import pytest
import rtmp
import weir


def carriers(nodes, key):
    """Ids of the nodes that say they have a publisher of the stream."""
    return [n.id for n in nodes if key in n.live()]


@pytest.mark.parametrize("workers", [1, 4])
def test_thirty_streams_with_two_players_each(workers, cluster, router, publish, play, clip):
    three = cluster(3)
    by_id = {n.id: n for n in three}
    r = router(three, workers=workers)
    keys = [f"live/cam{i}" for i in range(30)]
    before = {key: r.explain(key) for key in keys}
    publishers = [publish(r.url(key), wait=False) for key in keys]
    for p in publishers:
        p.wait_sending()
    owner = {}
    for key in keys:
        line = r.wait_log("stream_placed", stream=key, kind="publish")
        owner[key] = line["node"]
        assert carriers(three, key) == [line["node"]], key
        assert r.explain(key) == line["node"]
        if line["reason"] == "hash":  # else the bounded load moved it on
            assert before[key] == line["node"]
    assert set(owner.values()) == set(by_id)

    players = {key: [play(r.url(key)) for _ in range(2)] for key in keys}
    direct = {key: play(by_id[owner[key]].url(key)) for key in keys}
    keyframes = media.clip_packets(clip)
    for key in keys:
        for p in (*players[key], direct[key]):
            p.wait_packets(150)
        for p in players[key]:
            media.assert_same_stream(p, direct[key])
            media.assert_starts_at_keyframe(p.packets.items, keyframes)
    assert not r.logs("session_closed")


def test_play_before_publish(cluster, router, publish, play, dump, clip):
    r = router(cluster(3), workers=2)
    player, dumper = play(r.url("live/late")), dump(r.url("live/late"))
    procs.eventually(lambda: len(r.logs("stream_placed", kind="play", stream="live/late")) == 2)
    publish(r.url("live/late"))
    packets = player.wait_packets(100)
    media.assert_starts_at_keyframe(packets, media.clip_packets(clip))
    tags = [t for t in dumper.wait_tags(60) if t.type == rtmp.VIDEO]
    assert media.is_sequence_header(tags[0]) and media.is_keyframe(tags[1])
    placed = {line["node"] for line in r.logs("stream_placed", stream="live/late")}
    assert len(placed) == 1


def test_publisher_returns_under_waiting_players(cluster, router, publish, play, dump):
    three = cluster(3)
    r = router(three)
    first = publish(r.url("live/back"))
    player, dumper = play(r.url("live/back")), dump(r.url("live/back"))
    player.wait_packets(60)
    dumper.wait_tags(30)
    home = carriers(three, "live/back")
    assert first.finish() in (0, 255)
    r.wait_log("session_closed", stream="live/back", kind="publish")
    had, had_tags = player.count(), len(dumper.tags)
    publish(r.url("live/back"))
    player.wait_packets(had + 60)
    dumper.wait_tags(had_tags + 30)
    assert carriers(three, "live/back") == home
    assert not r.logs("session_closed", kind="play")


def test_player_follows_the_stream_to_another_node(fakes, router, client, clip):
    nodes = fakes(2)
    r = router(nodes)
    home, other = nodes
    key = r.key_on(home.id)
    name = key.split("/")[1]
    player = client(r)
    player.play(name)
    home.wait(lambda n: n.players.get(name))
    home.does.publish = "badname"  # a ghost that stays: the publisher has to go elsewhere
    publisher = client(r)
    assert publisher.publish(name) == ("NetStream.Publish.Start", "status")
    other.wait(lambda n: n.players.get(name))
    assert r.wait_log("player_moved")["node"] == other.id
    publisher.send_media(clip.messages()[:40])
    assert player.recv_media(20)[0].payload == clip.media[0].payload


@pytest.mark.parametrize(
    "publish_app, publish_name, play_app, play_name",
    [
        ("live/a", "b/c", "live/a/b", "c"),
        ("live", "x?token=abc&x=1", "live", "x?other=2"),
        ("live/", "slash", "live", "slash"),
        ("live/_definst_", "inst", "live", "inst"),
        ("live?vhost=example.org", "q", "live", "q"),
    ],
)
def test_one_stream_however_its_url_is_split(publish_app, publish_name, play_app, play_name, nms, router, client):
    nodes = [nms(f"m{i}") for i in range(3)]
    r = router(nodes)
    assert client(r).publish(publish_name, app=publish_app)[0] == "NetStream.Publish.Start"
    client(r).play(play_name, app=play_app)
    published = r.wait_log("stream_placed", kind="publish")
    played = r.wait_log("stream_placed", kind="play")
    assert (published["stream"], published["node"]) == (played["stream"], played["node"])
    assert played["reason"] == "claim"


@pytest.mark.parametrize(
    "name", ["with space", "na%20me", "ümläut-名前", "mp4:x.mp4", "a" * 200, "quote\"and'back\\slash", "a=b c=d", "-x", "..."]
)
def test_odd_names(name, fakes, router, client, clip):
    nodes = fakes(3)
    r = router(nodes)
    player, publisher = client(r), client(r)
    assert publisher.publish(name)[0] == "NetStream.Publish.Start"
    assert player.play(name)[0].startswith("NetStream.Play.")
    publisher.send_media(clip.messages()[:20])
    assert player.recv_media(10)[0].payload == clip.media[0].payload
    (node,) = [n for n in nodes if n.publishers]
    assert list(node.publishers) == [name]


def test_token_reaches_the_node_and_not_the_log(fakes, router, client):
    nodes = fakes(3)
    r = router(nodes, log={"level": "debug"})
    client(r).publish("x?token=s3cr3t&b=1", app="live?sig=s3cr3t")
    (session,) = [s for n in nodes for s in n.sessions]
    assert session.name == "x?token=s3cr3t&b=1"
    assert session.connect["app"] == "live?sig=s3cr3t"
    r.terminate()
    r.proc.wait()
    assert "s3cr3t" not in r.proc.err.tail(count=10000)


def test_nginx_relays_are_clients(cluster, router, publish, play, clip):
    """push: an nginx that forwards what is published to it. pull: one that fetches what is played from it."""
    three = cluster(3)
    r = router(three)
    (push,) = cluster(1, edits=[("live on;", f"live on; push {r.url('live')};")])
    (pull,) = cluster(1, edits=[("live on;", f"live on; pull {r.url('live')};")])
    publish(push.url("live/relayed"))
    r.wait_log("stream_placed", kind="publish", stream="live/relayed")
    far = play(pull.url("live/relayed"))
    near = play(push.url("live/relayed"))
    far.wait_packets(150)
    near.wait_packets(150)
    media.assert_same_stream(far, near)
    assert len(carriers(three, "live/relayed")) == 1


def test_mixed_kinds_of_nodes(cluster, nms, router, publish, play, clip):
    nodes = [*cluster(2), nms("m1")]
    r = router(nodes)
    for node in nodes:
        key = r.key_on(node.id)
        publish(r.url(key))
        through, direct = play(r.url(key)), play(node.url(key))
        through.wait_packets(100)
        direct.wait_packets(100)
        media.assert_same_stream(through, direct)
        media.assert_starts_at_keyframe(through.packets.items, media.clip_packets(clip))


def test_every_address(fakes, router):
    port = procs.free_port("::1")
    r = router(fakes(1), router={"listen": [{"address": f"*:{port}"}]})
    for host in ("127.0.0.1", "::1"):
        with rtmp.Client(host, port) as c:
            assert c.publish(f"on{host[-1]}")[1] == "status"
    for client in ("127.0.0.1", "[::1]"):
        procs.eventually(lambda client=client: any(line["client"].startswith(client) for line in r.logs("stream_placed")), what=client)


def test_every_address_without_ipv6(fakes, router):
    r = router(fakes(1), start=False)
    r.config["router"]["listen"] = [{"address": f"*:{r.port}"}]
    r.write()
    r.proc = procs.Proc([*no_ipv6.RUN, weir.binary(), "-c", str(r.file)], parse=weir.parse_logfmt)
    r.wait_log("router_started")
    with rtmp.Client("127.0.0.1", r.port) as c:
        assert c.publish("on4")[1] == "status"


def test_ipv6(fake, router):
    node = fake("six", host="::1")
    port = procs.free_port("::1")
    r = router([node], router={"listen": [{"address": f"[::1]:{port}"}]})
    publisher = rtmp.Client("::1", port)
    with publisher:
        assert publisher.publish("x")[0] == "NetStream.Publish.Start"
        assert r.wait_log("stream_placed", kind="publish")["node"] == "six"


def test_explain_names_every_node(fakes, router):
    nodes = fakes(3)
    r = router(nodes)
    answer = r.command("--explain", "live/x").stdout
    for n in nodes:
        assert n.id in answer
