"""Publishers that meet each other, come back, or go on on the same connection."""

import socket
import time

import procs
import pytest
import rtmp
import weir

START = ("NetStream.Publish.Start", "status")
BAD_NAME = ("NetStream.Publish.BadName", "error")


@pytest.mark.parametrize(
    "policy, source, names, taken_over",
    [
        ("takeover", "127.0.0.2", ("x", "x"), True),
        ("reject", "127.0.0.1", ("x", "x"), False),
        ("takeover_same_client", "127.0.0.1", ("x", "x"), True),
        ("takeover_same_client", "127.0.0.2", ("x", "x"), False),
        ("takeover_same_client", "127.0.0.2", ("x?key=1", "x?key=1"), True),
        ("takeover_same_client", "127.0.0.2", ("x?key=1", "x?key=2"), False),
    ],
)
@pytest.mark.parametrize("workers", [1, 4])
def test_second_publisher(workers, policy, source, names, taken_over, cluster, router, client, clip):
    three = cluster(3)
    r = router(three, workers=workers, placement={"duplicate_publish": policy})
    first, second, player = client(r), client(r, source=source), client(r)
    assert first.publish(names[0]) == START
    player.play("x")
    began = time.monotonic()
    assert second.publish(names[1]) == (START if taken_over else BAD_NAME)
    assert time.monotonic() - began < 8  # less than the default times
    winner, loser = (second, first) if taken_over else (first, second)
    loser.expect_closed()
    r.wait_log("session_closed", why="taken_over" if taken_over else "duplicate")
    winner.send_media(clip.messages()[:60])
    assert player.recv_media(20, types=(rtmp.VIDEO,))[0].payload == clip.headers[0].payload
    assert [n.id for n in three if "live/x" in n.live()] == [r.explain("live/x")]


def test_rtmpdump_and_ffmpeg_survive_a_takeover(cluster, router, publish, play, dump):
    r = router(cluster(3), workers=2)
    first = publish(r.url("live/x"))
    player, dumper = play(r.url("live/x")), dump(r.url("live/x"))
    player.wait_packets(60)
    dumper.wait_tags(30)
    second = publish(r.url("live/x"))
    first.wait()
    had, had_tags = player.count(), len(dumper.tags)
    player.wait_packets(had + 60)
    dumper.wait_tags(had_tags + 30)
    assert second.running


def test_ghost_that_stays_costs_a_second(cluster, router, client, clip):
    """A publisher that the router knows nothing of holds the name on its home node."""
    three = cluster(3)
    r = router(three)
    home = three[0]
    name = r.key_on(home.id).split("/")[1]
    assert client(home).publish(name) == START
    began = time.monotonic()
    publisher = client(r)
    assert publisher.publish(name) == START
    assert 0.9 < time.monotonic() - began < 8
    line = r.wait_log("stream_placed", kind="publish")
    assert line["node"] != home.id
    assert r.logs("stream_retried", node=home.id)
    player = client(r)
    player.play(name)
    publisher.send_media(clip.messages()[:20])
    assert player.recv_media(10)


def test_ghost_that_goes_away_leaves_the_stream_at_home(fakes, router, client):
    nodes = fakes(3)
    r = router(nodes)
    home = nodes[0]
    home.does.publish = "badname"
    publisher = client(r)
    publisher.open()
    publisher.send_publish(r.key_on(home.id).split("/")[1])
    home.wait(lambda n: any(s.kind == "publish" for s in n.sessions))
    home.does.publish = "start"
    assert publisher.expect_status() == START
    assert r.wait_log("stream_placed", kind="publish")["node"] == home.id


def test_second_publish_on_a_connection(fakes, router, client, clip):
    nodes = fakes(3)
    r = router(nodes)
    publisher, player = client(r), client(r)
    player.play("second")
    assert publisher.publish("first") == START
    publisher.send_media(clip.messages()[:10])
    publisher.send_command("FCUnpublish", publisher.next_transaction(), None, "first")
    publisher.send_command("deleteStream", publisher.next_transaction(), None, 1)
    msid = publisher.create_stream()
    publisher.send_publish("second", msid)
    assert publisher.recv_until(lambda m: m.status == START)
    publisher.send_media(clip.messages(msid)[:20])
    assert player.recv_media(10)[0].payload == clip.media[0].payload
    procs.eventually(lambda: not [n for n in nodes if "first" in n.publishers], what="the first one has ended there")


def test_second_publish_finds_the_room_of_the_first(fakes, router, client):
    """The stream that it replaces counts no more, though both come in one step."""
    (node,) = fakes(1)
    r = router([weir.node_entry(node, max_streams=1)])
    c = client(r)
    msid = c.open()
    for name in ("first", "second", "third"):
        c.send_publish(name, msid)
        code = c.recv_until(lambda m: m.status[0] not in (None, "NetStream.Unpublish.Success")).status[0]
        assert code == "NetStream.Publish.Start", name


def test_a_node_that_is_behind_gets_the_end(fakes, router, client):
    """It reads slowly, and answers the router's pings when it comes to them: nothing behind those is lost."""
    (node,) = fakes(1)
    node.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    r = router([node], failover={"stall": "4s"})
    c = client(r)
    assert c.publish("x") == START
    session = node.sessions[0]
    session.reading.clear()
    for i in range(40):
        c.send(rtmp.VIDEO, b"\x27\x01" + bytes(20000) + bytes([i]), msid=1, ts=40 * i)
    time.sleep(1.5)  # the router asks now and then whether the node is well
    for i in range(40, 80):
        c.send(rtmp.VIDEO, b"\x27\x01" + bytes(20000) + bytes([i]), msid=1, ts=40 * i)
    c.send_command("deleteStream", c.next_transaction(), None, 1)
    c.expect_status()
    c.close()
    r.wait_log("session_closed")
    session.reading.set()
    node.wait(lambda n: session.closed)
    came = [m.payload[-1] for m in session.messages if m.type == rtmp.VIDEO]
    assert came == list(range(80))


def test_publisher_that_returns_finds_its_node(fakes, router, client):
    nodes = fakes(3)
    r = router(nodes, placement={"max_load_factor": 1.25})
    seen = set()
    for _ in range(5):
        publisher = client(r)
        mark = r.mark()
        assert publisher.publish("again") == START
        seen.add(r.wait_log("stream_placed", since=mark)["node"])
        publisher.close()
        r.wait_log("session_closed", since=mark, kind="publish")
    assert len(seen) == 1


def test_play_and_publish_on_different_workers_meet(cluster, router, client, clip):
    """Eight players over four workers, one publisher: all find it."""
    r = router(cluster(3), workers=4)
    publisher = client(r)
    assert publisher.publish("one") == START
    players = [client(r) for _ in range(8)]
    for p in players:
        p.play("one")
    publisher.send_media(clip.messages()[:60])
    for p in players:
        p.recv_media(10, types=(rtmp.VIDEO,))
    assert {line["node"] for line in r.logs("stream_placed")} == {r.explain("live/one")}
