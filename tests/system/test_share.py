"""relay.share_playback: one node link for all players of a stream on a worker."""

import contextlib
import threading
import time

import media
import procs
import pytest
import rtmp
import weir
from admin import quote
from exact import assert_gaps
from test_admin import admin  # noqa: F401
from test_metrics import value
from test_rehoming import EASY, LONG, OFTEN, drill

SHARED = {"share_playback": "on"}


def players_at(node, key):
    """Besides the publisher."""
    return node.streams().get(key, {"clients": 1})["clients"] - 1


def test_players_share_a_link_and_see_the_same(cluster, router, publish, play, dump):
    node = cluster(1)[0]
    r = router([node], relay=SHARED)
    publish(r.url("live/x"))
    first = play(r.url("live/x"))
    first.wait_packets(30)
    others = [play(r.url("live/x")) for _ in range(3)]
    tags = dump(r.url("live/x"))
    for p in others:
        p.wait_packets(80)
    tags.wait_tags(60)
    assert players_at(node, "live/x") == 1
    assert len(r.logs("stream_placed", kind="play", client="shared")) == 1
    first.wait_packets(first.count() + 40)
    for p in others:
        media.assert_same_stream(first, p)
    for p in [first, tags, *others[:2]]:
        p.stop()
    others[2].wait_packets(others[2].count() + 30)
    assert players_at(node, "live/x") == 1
    others[2].stop()
    procs.eventually(lambda: players_at(node, "live/x") == 0, what="the last one takes the link with it")
    again = play(r.url("live/x"))
    again.wait_packets(30)
    assert players_at(node, "live/x") == 1


def newest_video(c):
    """Of all that has come."""
    with contextlib.suppress(TimeoutError):
        while True:
            c.recv(timeout=0.001)
    return [m for m in c.seen if m.type == rtmp.VIDEO][-1]


def test_a_player_begins_at_once_with_the_last_keyframe(cluster, router, publish, clips, client):
    clip = clips(seconds=12, gop=250)  # 10 s
    r = router(cluster(1), relay=SHARED)
    publish(r.url("live/x"), source=clip)
    first = client(r)
    first.play("x")
    first.recv_until(lambda m: m.type == rtmp.VIDEO and m.payload[0] == 0x17 and m.payload[1] == 1)
    old = []
    for _ in range(3):
        newest = newest_video(first)
        c = client(r)
        assert c.play("x")[1] == "status"
        types = [c.recv_until(lambda m: m.type in (rtmp.AUDIO, rtmp.VIDEO)) for _ in range(12)]
        video = [m for m in types if m.type == rtmp.VIDEO]
        assert media.is_sequence_header(media.Tag(rtmp.VIDEO, 0, video[0].payload))
        assert media.is_keyframe(media.Tag(rtmp.VIDEO, 0, video[1].payload))
        old.append(video[1].ts <= newest.ts)
        time.sleep(0.3)
    assert sum(old) >= 2  # one may have come just then


def test_who_asks_for_more_has_a_link_of_its_own(fakes, router, client):
    node = fakes(1)[0]
    r = router([node], relay=SHARED)
    publisher = client(r)
    publisher.publish("x")

    def plays():
        return [s for s in node.sessions if s.kind == "play" and not s.closed]

    def goes_on(*players):
        payload = b"\x17\x01\0\0\0" + bytes([len(node.sessions)])
        publisher.send(rtmp.VIDEO, payload, msid=1, ts=1000 * len(node.sessions))
        for c in players:
            c.recv_until(lambda m: m.type == rtmp.VIDEO and m.payload == payload)

    one, other, with_arguments = client(r), client(r), client(r)
    one.play("x")
    other.play("x")
    goes_on(one, other)
    assert len(plays()) == 1
    with_arguments.play("x?user=me")
    goes_on(one, other, with_arguments)
    assert [s.name for s in plays()] == ["x", "x?user=me"]
    one.send_command("receiveAudio", 0, None, False, msid=1)
    node.wait(lambda n: any(m.is_command and m.values[0] == "receiveAudio" for m in n.sessions[-1].messages))
    assert len(plays()) == 3 and node.sessions[-1].name == "x"
    goes_on(one, other, with_arguments)
    one.close()
    other.close()
    node.wait(lambda n: len(plays()) == 1)
    goes_on(with_arguments)


@pytest.mark.parametrize("how", ["name", "app", "tcUrl", "duration"])
def test_no_player_decides_what_others_get(how, fakes, router, client):
    """A node may take what one asks for for something else: then it has a link of its own."""
    node = fakes(1)[0]
    r = router([node], relay=SHARED)
    client(r).publish("x")
    odd = client(r)
    msid = odd.open("live/" if how == "app" else "live", tc_url="rtmp://h/other" if how == "tcUrl" else None)
    odd.send_command("play", 5, None, "/x" if how == "name" else "x", -2000, *[5000][how != "duration" :], msid=msid, csid=8)
    assert odd.expect_status()[1] == "status"
    for _ in range(2):
        client(r).play("x")
    assert [s.name for s in node.sessions if s.kind == "play"] == ["/x" if how == "name" else "x", "x"]


def test_full_node_takes_no_more_players_and_keeps_those_it_has(fakes, router, client, stack):
    """max_sessions is of players, not of links; and the link that they share comes back to the node that is full of them."""
    node = fakes(1)[0]
    r = router([weir.node_entry(node, max_sessions=3)], relay=SHARED)
    publisher, one, other = client(r), client(r), client(r)
    publisher.publish("x")
    for c in (one, other):
        assert c.play("x")[1] == "status"

    def is_refused():
        c = client(r)
        level = c.play("x")[1]
        c.close()
        return level == "error"

    procs.eventually(is_refused, what="workers know of the node's load")  # they read it once a second
    assert len([s for s in node.sessions if s.kind == "play"]) == 1
    node.stop()
    r.wait_log("stream_retried", kind="publish")
    again = rtmp.FakeNode(node.port)
    stack.append(again)
    again.wait(lambda n: sorted(s.kind for s in n.sessions if s.kind) == ["play", "publish"], timeout=20)
    payload = b"\x17\x01\0\0\0picture"
    publisher.send(rtmp.VIDEO, payload, msid=1, ts=2000)
    for c in (one, other):
        c.recv_until(lambda m: m.type == rtmp.VIDEO and m.payload == payload)
    assert is_refused()


def test_only_the_apps_named(fakes, router, client):
    node = fakes(1)[0]
    r = router([node], relay={**SHARED, "share_apps": ["events"]})
    for app, links in (("live", 2), ("events", 3)):
        for _ in range(2):
            client(r).play("x", app=app)
        node.wait(lambda n, want=links: len([s for s in n.sessions if s.kind == "play"]) == want)


def test_a_refusal_is_everybodys(fakes, router, client):
    node = fakes(1)[0]
    node.does.play = "not_found"
    r = router([node], relay=SHARED)
    for asked in (1, 2):  # one after the other: each is asked for
        c = client(r)
        c.open()
        c.send_play("x")
        statuses = [m.status for m in c.expect_closed()]  # Play.Start before it, of the router, if the node takes a second
        assert ("NetStream.Play.StreamNotFound", "error") in statuses
        assert len(node.sessions) >= asked


def test_slow_players_miss_groups_and_harm_nobody(cluster, router, client, publish, play, clips):
    big = clips(seconds=4, size="640x360", bitrate="20000k", noise=True)
    r = router(cluster(1), relay={**SHARED, "buffer": "512KiB", "stall_timeout": "4s"})
    publish(r.url("live/x"), source=big)
    good = play(r.url("live/x"))
    good.wait_packets(20)
    stalled, slow = client(r, small=True), client(r)
    stalled.play("x")
    slow.play("x")
    slow_times = []
    closed = r.mark()
    while not r.logs("session_closed", since=closed):  # a third of what comes
        slow_times += [m.ts for m in slow.recv_media(3, types=(rtmp.VIDEO,))]
        good.wait_packets(good.count() + 20)
    assert [line["why"] for line in r.logs("session_closed", since=closed)] == ["stalled"]
    assert slow_times == sorted(slow_times)
    slow_times += [m.ts for m in slow.recv_media(200, types=(rtmp.VIDEO,))]
    steps = [b - a for a, b in zip(slow_times, slow_times[1:])]
    assert min(steps) >= 0 and max(steps) >= 400  # groups are missing, nothing is out of order
    good.wait_packets(good.count() + 40)


@pytest.mark.parametrize("workers", [1, 4])
def test_streams_move_with_all_their_players(workers, cluster, router, exact):
    three = cluster(3)
    r = router(three, workers=workers, placement=EASY, failover=OFTEN, relay=SHARED)
    e = exact(r, 20 if LONG else 6, 3)
    drill(r, three, 20 if LONG else 3, lambda n: n.kill(), lambda n: n.start())
    gone = three[0]
    r.reload(nodes=three[1:])
    procs.eventually(lambda: not gone.live(), what="the node is empty")
    procs.eventually(lambda: not gone.streams(), what="no player is left there")
    assert_gaps(r, e.report(), 2000)


def test_all_end_with_the_router(fakes, router, client):
    """Also those who were there before a shared link that goes with its last player."""
    r = router(fakes(1), relay=SHARED, router={"shutdown_grace": "500ms"})
    client(r).publish("x")
    first = client(r)
    first.play("x")
    client(r).play("x")
    closed = r.mark()
    first.close()
    r.wait_closed(1, since=closed)
    assert r.stop(10) == 0
    r.wait_closed(3, since=closed)


def test_who_is_gone_has_no_record(cluster, router, publish, client, admin):  # noqa: F811
    """Records of many players are written some time after a move, of those who are still there."""
    two = cluster(2)
    r = router(two, relay=SHARED, placement=EASY, failover=OFTEN)
    a = admin(r)
    name = r.key_on("n1").split("/", 1)[1]
    publish(r.url(f"live/{name}"))
    players = []
    for _ in range(60):
        players.append(client(r))
        players[-1].play(name)
    moved = r.mark()
    two[0].kill()
    r.wait_log("player_rehomed", since=moved)
    for c in players:
        c.send_command("deleteStream", 0, None, 1)
    procs.eventually(lambda: a.get("/api/v1/streams/" + quote(f"live/{name}"))["players"] == 0, what="all are gone")
    time.sleep(6)  # all counters are written once
    assert [s for s in a.get("/api/v1/sessions")["items"] if s["kind"] == "play"] == []


def test_what_comes_with_the_play_is_asked_of_the_node(fakes, router, client):
    """In one packet: the player has no seat yet."""
    node = fakes(1)[0]
    r = router([node], relay=SHARED)
    client(r).play("x")
    c = client(r)
    msid = c.open()
    with c.one_packet():
        c.send_play("x", msid)
        c.send_command("receiveVideo", 0, None, False, msid=msid)
    assert c.expect_status()[1] == "status"
    node.wait(lambda n: any(m.is_command and m.values[0] == "receiveVideo" for s in n.sessions for m in s.messages))
    assert len(node.sessions) == 2


def test_a_stalled_player_of_small_messages_is_closed(fakes, router, client):
    """Its queue is full of them while what is in them is far less than relay.buffer; and no ping comes to look at it."""
    node = fakes(1)[0]
    no_pings = {"ping_interval": "10m", "ping_timeout": "20m"}
    r = router([node], relay={**SHARED, "buffer": "64KiB", "stall_timeout": "500ms"}, router=no_pings)
    publisher, stalled = client(r, chunk_size=4096), client(r, small=True)
    publisher.publish("x")
    stalled.play("x")
    link, sent, until = node.sessions[1], 0, time.monotonic() + rtmp.DEADLINE
    while not link.closed:  # the kernel makes room now and then for one who does not read: no fixed load fills it for good
        assert time.monotonic() < until
        with publisher.one_packet():  # a queue takes several of these at once, so that nothing is left out before it is full
            for ts in range(sent, sent + 100):
                publisher.send(rtmp.AUDIO, b"\xaf\x01" + bytes(38), msid=1, ts=ts)
        sent += 100
        node.wait(lambda n: link.closed or link.relayed >= sent)
    stalled.close()  # it had time left to take the rest; the link went with its last player
    assert [line["why"] for line in r.wait_closed(1)] == ["stalled"]


def test_what_is_over_is_shown_to_nobody(fakes, router, client):
    """Where streams are not moved the node's word is final."""
    node = fakes(1)[0]
    r = router([node], relay=SHARED, failover={"max_moves": 0})
    publisher, first = client(r), client(r)
    publisher.publish("x")
    first.play("x")
    publisher.send(rtmp.VIDEO, b"\x17\x01\0\0\0old", msid=1, ts=1000)
    first.recv_media(1)
    node.players["x"][0].conn.send_status("NetStream.Play.UnpublishNotify")
    first.recv_until(lambda m: m.is_command and m.status and m.status[0] == "NetStream.Play.UnpublishNotify")
    late = client(r)
    late.play("x")
    publisher.send(rtmp.VIDEO, b"\x17\x01\0\0\0new", msid=1, ts=2000)
    assert late.recv_media(1)[0].payload.endswith(b"new")


def test_a_shared_link_is_no_session(fakes, router, client, admin):  # noqa: F811
    r = router(fakes(1), relay=SHARED)
    a = admin(r)
    for _ in range(3):
        client(r).play("x")

    def metric(name):
        return value(a, name + '{worker="router1/0"}')

    procs.eventually(lambda: metric("weir_router_shared_links") == 1, what="the link is counted")
    procs.eventually(lambda: metric("weir_router_players") == 3, what="so are the players")
    assert metric("weir_router_sessions") == 3 and metric("weir_router_placements_total") == 3


@pytest.mark.parametrize("answer, level", [("start", "status"), ("not_found", "error")])
def test_many_who_wait_are_told(answer, level, fakes, router, client):
    """Not all in one turn of the loop; some leave meanwhile."""
    node = fakes(1)[0]
    node.does.gate = threading.Event()
    node.does.play = answer
    r = router([node], relay=SHARED)
    players = []
    for _ in range(100):
        players.append(client(r))
        players[-1].open()
    for c in players:
        c.send_play("x")
    node.wait(lambda n: n.sessions and n.sessions[0].name == "x")
    mark = r.mark()
    for c in players[:50:5]:
        c.close()
    r.wait_closed(10, since=mark)
    node.does.gate.set()
    for i, c in enumerate(players):
        if i >= 50 or i % 5:
            told = c.last_status() if level == "error" else c.expect_status()  # after a second it is Play.Start first
            assert told[1] == level
    assert len(node.sessions) == 1 or level == "error"
