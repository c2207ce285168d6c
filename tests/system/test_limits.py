"""Limits and back-pressure."""

import contextlib
import re
import time

import admin as api
import procs
import pytest
import rtmp
import weir


def refused(c):
    """The new connection is closed before it is served."""
    try:
        c.handshake()
    except (rtmp.Closed, OSError):
        return True
    return False


@pytest.mark.parametrize(
    "limit, why", [("connections", "limit_connections"), ("connections_per_address", "limit_address")]
)
def test_connection_limits(limit, why, fakes, router, client, stack, tmp_path):
    r = router(fakes(1), limits={limit: 3, "unrouted_share": "100%"})
    open_ones = [client(r) for _ in range(3)]
    for i, c in enumerate(open_ones):
        assert c.publish(f"s{i}")[1] == "status"
    assert refused(client(r))
    r.wait_why(why)
    a = api.Admin(tmp_path / "admin", r)
    stack.append(a)
    counted = re.compile(rf'weir_router_sessions_closed_total{{worker="[^"]+",reason="{why}"}} [1-9]')
    procs.eventually(lambda: counted.search(a.ask("GET", "/metrics").body.decode()), what="an alert can see it")
    open_ones[0].close()
    r.wait_log("session_closed", why="client_closed")
    assert not refused(client(r))


def test_connection_rate(fakes, router, client):
    r = router(fakes(1), limits={"connection_rate_per_address": 1})
    at_once = [client(r) for _ in range(20)]
    assert sum(refused(c) for c in at_once) >= 10
    r.wait_why("limit_rate")


def fast_publisher(c, seconds, size=50000, ended=lambda: False):
    """Sends as fast as it is taken; returns the bytes that went out."""
    until = time.monotonic() + seconds
    c.send_chunk_size(65536)
    c.sock.settimeout(0.2)
    sent, i = 0, 0
    while time.monotonic() < until and not ended():
        data = c.writer.write(rtmp.Message(rtmp.VIDEO, b"\x17\x01\0\0\0" + bytes(size), 1, i * 40, 6))
        while data:
            try:
                n = c.sock.send(data)
            except (TimeoutError, BlockingIOError):
                if time.monotonic() > until or ended():
                    return sent
                continue
            data = data[n:]
            sent += n
        i += 1
    return sent


def test_player_that_does_not_read_is_closed_and_harms_nobody(cluster, router, client, publish, play, clips):
    big = clips(seconds=4, size="640x360", bitrate="20000k", noise=True)
    r = router(cluster(1), relay={"buffer": "256KiB", "stall_timeout": "1s"})
    stalled = client(r, small=True)
    publish(r.url("live/x"), source=big)
    stalled.play("x")
    good = play(r.url("live/x"))
    line = r.wait_log("session_closed", why="stalled")
    assert line["kind"] == "play"
    good.wait_packets(good.count() + 60)
    assert len(r.logs("session_closed")) == 1


def test_publisher_is_held_back_by_its_node(fake, router, client):
    """A node that stops reading: the router stops reading too, and its memory stays bounded."""
    node = fake("f1")
    r = router([node], relay={"buffer": "1MiB", "stall_timeout": "60s"})
    c = client(r)
    assert c.publish("x")[1] == "status"
    node.sessions[0].reading.clear()
    before = max(r.resident_kib().values())
    fast_publisher(c, 3)
    assert max(r.resident_kib().values()) - before < 64 * 1024


def test_node_that_takes_nothing_ends_the_publisher(fake, router, client):
    node = fake("f1")
    r = router([node], relay={"buffer": "256KiB", "stall_timeout": "1s"}, failover={"max_moves": 0})
    c = client(r)
    assert c.publish("x")[1] == "status"
    node.sessions[0].reading.clear()
    with contextlib.suppress(OSError):
        fast_publisher(c, rtmp.DEADLINE, ended=lambda: r.logs("session_closed"))
    r.wait_log("session_closed", why="node_stalled")


def test_silent_client_is_pinged_and_closed(fakes, router, client):
    r = router(fakes(1), router={"ping_interval": "1s", "ping_timeout": "2s"})
    c = client(r)
    c.answer_pings = False
    assert c.publish("x")[1] == "status"
    c.expect_closed()
    assert any(m.type == rtmp.USER and m.payload[:2] == b"\0\6" for m in c.seen)
    r.wait_log("session_closed", why="client_silent")


def test_player_that_says_nothing_but_takes_its_stream_stays(fake, router, client):
    """go2rtc, and others: no answers to pings, no acknowledgements. Its system acknowledges what it reads."""
    node = fake("f1")
    r = router([node], router={"ping_interval": "1s", "ping_timeout": "2s"})
    c = client(r)
    c.answer_pings = False
    assert c.play("x")[1] == "status"
    session = node.wait(lambda n: next((s for s in n.sessions if s.kind == "play"), None))
    until = time.monotonic() + 6
    i = 0
    while time.monotonic() < until:
        session.conn.send_media([rtmp.Message(rtmp.AUDIO, b"\xaf\x01" + bytes(200), 1, 40 * i, 4)])
        c.recv_until(lambda m: m.type == rtmp.AUDIO)
        i += 1
        time.sleep(0.04)
    assert sum(m.type == rtmp.USER and m.payload[:2] == b"\0\6" for m in c.seen) > 1
    assert not r.logs("session_closed")
    c.expect_closed()  # when it is sent nothing any more
    r.wait_log("session_closed", why="client_silent")


def test_waiting_player_that_answers_pings_stays(fakes, router, client):
    r = router(fakes(1), router={"ping_interval": "1s", "ping_timeout": "5s"})
    c = client(r)
    c.play("x")
    with pytest.raises(TimeoutError):
        c.recv_until(lambda m: False, timeout=6)
    assert not r.logs("session_closed")


def test_max_streams_of_a_node(fakes, router, client):
    nodes = fakes(2)
    r = router([weir.node_entry(n, max_streams=3) for n in nodes])
    publishers = [client(r) for _ in range(6)]
    for i, c in enumerate(publishers):
        assert c.publish(f"s{i}")[1] == "status"
    assert [len(n.publishers) for n in nodes] == [3, 3]
    assert client(r).publish("one-too-many")[1] == "error"
    r.wait_log("session_closed", why="no_node")


def test_bounded_load(fakes, router, client):
    nodes = fakes(3)
    r = router(nodes, workers=2)
    for i in range(60):
        assert client(r).publish(f"s{i}")[1] == "status"
    counts = [len(n.publishers) for n in nodes]
    assert sum(counts) == 60 and max(counts) <= 26, counts  # ceil(1.25 * 60 / 3), and one in flight


def test_descriptors_return(fakes, router, client):
    r = router(fakes(2))
    client(r).publish("warm")
    before = r.descriptors()
    some = []
    for i in range(50):
        some.append(client(r))
        some[-1].publish(f"s{i}")
    for c in some:
        c.close()
    procs.eventually(lambda: r.descriptors() == before, what="as many descriptors as before")
