"""The protocol's corners, end to end: what a client sends, however it is cut, is what the node and the player get."""

import os
import struct
import threading

import pytest
import rtmp


def media_of(session):
    return [(m.type, m.payload, m.ts) for m in session.messages if m.type in (rtmp.AUDIO, rtmp.VIDEO)]


def expected(messages):
    return [(m.type, m.payload, m.ts % 2**32) for m in messages if m.type in (rtmp.AUDIO, rtmp.VIDEO)]


def arrives(node, messages, session=0):
    want = expected(messages)
    node.wait(lambda n: len(n.sessions) > session and len(media_of(n.sessions[session])) >= len(want))
    assert media_of(node.sessions[session]) == want


def open_publisher(client, r, name="x", **how):
    c = client(r, **how)
    assert c.publish(name) == ("NetStream.Publish.Start", "status")
    return c


def video(size, csid=6, ts=0, key=True):
    return rtmp.Message(rtmp.VIDEO, bytes([0x17 if key else 0x27, 1, 0, 0, 0]) + os.urandom(size - 5), 1, ts, csid)


def test_everything_in_one_packet(fake, router, client, clip):
    node = fake("f1")
    r = router([node])
    messages = clip.messages()[:30]
    c = client(r)
    with c.one_packet():
        c.handshake(wait=False)
        c.send_connect()
        c.send_command("releaseStream", 2, None, "x")
        c.send_command("createStream", 3, None)
        c.send_publish("x")
        c.send_media(messages)
    arrives(node, messages)
    c.read_handshake()
    assert c.expect_status()[0] == "NetStream.Publish.Start"


def test_single_bytes(fake, router, client, clip):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r, piece=1)
    messages = clip.messages()[:20]
    c.send_media(messages)
    arrives(node, messages)


@pytest.mark.parametrize("size", [1, 2, 127, 128, 129, 4096, 60000, 65535, 65536])
def test_client_chunk_sizes(size, fake, router, client, clip):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r, chunk_size=size)
    messages = [*clip.messages()[:30], video(150000 if size > 2 else 3000, ts=2000)]
    c.send_media(messages)
    arrives(node, messages)


@pytest.mark.parametrize("size", [128, 4096, 60000, 65536])
def test_node_chunk_sizes(size, fake, router, client, clip):
    node = fake("f1", chunk_size=size)
    r = router([node])
    player = client(r)
    player.play("x")
    node.wait(lambda n: n.players.get("x"))
    c = open_publisher(client, r)
    messages = [*clip.messages()[:30], video(150000, ts=2000)]
    c.send_media(messages)
    got = player.recv_media(len(expected(messages)))
    assert expected(got) == expected(messages)


def test_chunk_size_changes_at_any_moment(fake, router, client, clip):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    messages = clip.messages()[:40]
    for i, m in enumerate(messages):
        c.send_chunk_size((128, 1, 70000, 333)[i % 4])
        c.send_media([m])
    arrives(node, messages)


@pytest.mark.parametrize("csid, form", [(3, 1), (40, 1), (63, 1), (64, 2), (64, 3), (100, 3), (319, 2), (320, 3), (400, 3), (65599, 3)])
def test_chunk_stream_ids(csid, form, cluster, router, client, clip):
    """nginx-rtmp itself closes connections that use csid 32 or more."""
    (node,) = cluster(1)
    r = router([node])
    player = client(r)
    player.play("x")
    c = open_publisher(client, r)
    messages = [rtmp.Message(m.type, m.payload, 1, m.ts, csid) for m in clip.messages()[:40]]
    for m in messages:
        c.send(m.type, m.payload, 1, m.ts, csid, form=form)
    want = [m.payload for m in messages if m.type == rtmp.VIDEO]
    assert [m.payload for m in player.recv_media(len(want), types=(rtmp.VIDEO,))] == want


@pytest.mark.parametrize("offset", [0xFFFFFF - 200, 0x1000000, 20000000, 2**31 - 200, 2**32 - 300])
@pytest.mark.parametrize("how", [{}, {"compress": True}, {"repeat_extended": False}])
def test_timestamps(offset, how, fake, router, client, clip):
    node = fake("f1")
    r = router([node])
    player = client(r)
    player.play("x")
    node.wait(lambda n: n.players.get("x"))
    c = open_publisher(client, r, **how)
    messages = clip.messages(offset=offset)[:60]
    c.send_media(messages)
    want = expected(messages)
    assert expected(player.recv_media(len(want))) == want
    arrives(node, messages, session=1)


def test_time_that_goes_backwards(fake, router, client, clip):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    messages = clip.messages(offset=5000)[:20] + clip.messages()[:20]
    c.send_media(messages)
    arrives(node, messages)


def test_interleaved_messages(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    big = video(5000, ts=40)
    audio = [rtmp.Message(rtmp.AUDIO, b"\xaf\x01" + os.urandom(50), 1, 40 + i, 4) for i in range(20)]
    chunks = c.writer.chunks(big)
    for i, chunk in enumerate(chunks):
        c.send_bytes(chunk)
        if i < len(audio):
            c.send_bytes(c.writer.write(audio[i]))
    node.wait(lambda n: len(media_of(n.sessions[0])) == 21)
    got = media_of(node.sessions[0])
    assert sorted(got) == sorted(expected([big, *audio]))


def test_aborted_message(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    whole = video(1000, ts=80)
    c.send_bytes(b"".join(c.writer.chunks(video(5000, ts=40))[:3]))
    c.send(rtmp.ABORT, struct.pack(">I", 6), csid=2)
    c.send(whole.type, whole.payload, 1, whole.ts, 6, fmt=0)
    arrives(node, [whole])


def test_aggregate_is_split(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    inner = [video(300, ts=1000), rtmp.Message(rtmp.AUDIO, b"\xaf\x01" + bytes(80), 1, 1023, 4), video(200, ts=1040, key=False)]
    body = b""
    for m in inner:
        head = bytes([m.type]) + len(m.payload).to_bytes(3, "big") + (m.ts & 0xFFFFFF).to_bytes(3, "big") + bytes([m.ts >> 24]) + bytes(3)
        body += head + m.payload + struct.pack(">I", 11 + len(m.payload))
    c.send(rtmp.AGGREGATE, body, 1, 5000, 6)  # the message's own time counts, and the distances inside
    arrives(node, [rtmp.Message(m.type, m.payload, 1, 5000 + m.ts - 1000, m.csid) for m in inner])


def test_connect_object_reaches_the_node(fake, router, client):
    node = fake("f1")
    r = router([node])
    more = {
        "fourCcList": ["av01", "hvc1", "*"],
        "capsEx": 3,
        "videoFourCcInfoMap": {"*": 4, "hvc1": 7},
        "pageUrl": None,
        "somethingNew": rtmp.EcmaArray({"deep": {"er": [1.0, True, "x"]}}),
        "fpad": False,
    }
    c = client(r)
    c.publish("x", tc_url="rtmp://example.org:1935/live?a=b", **more)
    seen = node.sessions[0].connect
    assert seen["tcUrl"] == "rtmp://example.org:1935/live?a=b"
    assert seen["app"] == "live"
    assert {k: seen[k] for k in more} == more
    assert list(seen)[:3] == ["app", "type", "flashVer"], "in the client's order"


def test_missing_tc_url_is_made_up(fake, router, client):
    node = fake("f1")
    r = router([node])
    client(r).publish("x", tc_url="")
    assert node.sessions[0].connect["tcUrl"].endswith("/live")


def test_amf3_wrapped_commands(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = client(r)
    c.handshake()
    c.send_connect(amf3=True, objectEncoding=3)
    result = c.expect_command("_result")
    assert result[3]["objectEncoding"] == 0
    c.send_command("createStream", 2, None, amf3=True)
    c.expect_command("_result")
    c.send_command("publish", 3, None, "x", "live", msid=1, amf3=True)
    assert c.expect_status()[0] == "NetStream.Publish.Start"
    assert node.sessions[0].connect["objectEncoding"] == 0
    assert all(m.type != rtmp.COMMAND_AMF3 for m in node.sessions[0].messages)


def enhanced(fourcc, packet_type, body, key=True):
    return bytes([0x80 | (1 if key else 2) << 4 | packet_type]) + fourcc + body


@pytest.mark.parametrize("fourcc", [b"hvc1", b"av01", b"vp09"])
def test_enhanced_rtmp_passes_untouched(fourcc, fake, router, client):
    node = fake("f1")
    r = router([node])
    player = client(r)
    player.play("x")
    node.wait(lambda n: n.players.get("x"))
    c = open_publisher(client, r)
    payloads = [enhanced(fourcc, 0, os.urandom(120)), enhanced(fourcc, 4, os.urandom(40))]
    payloads += [enhanced(fourcc, 3 if i % 2 else 1, os.urandom(3000), key=i == 0) for i in range(10)]
    messages = [rtmp.Message(rtmp.VIDEO, p, 1, 40 * i, 6) for i, p in enumerate(payloads)]
    messages.append(rtmp.Message(rtmp.AUDIO, b"\x90Opus" + os.urandom(30), 1, 400, 4))
    c.send_media(messages)
    assert expected(player.recv_media(len(messages))) == expected(messages)


def test_metadata_and_other_data_reach_the_node_as_sent(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    sent = [
        rtmp.amf_encode("@setDataFrame", "onMetaData", rtmp.EcmaArray({"width": 320, "custom": "ü"})),
        rtmp.amf_encode("onTextData", {"text": "hello"}),
        rtmp.amf_encode("onCuePoint", {"name": "x", "time": 1.5}),
    ]
    for payload in sent:
        c.send(rtmp.DATA, payload, 1, 0, 4)
    node.wait(lambda n: sum(m.type == rtmp.DATA for m in n.sessions[0].messages) == 3)
    assert [m.payload for m in node.sessions[0].messages if m.type == rtmp.DATA] == sent


def test_messages_beyond_the_nodes_limit(cluster, router, client):
    """nginx-rtmp closes on a message over its max_message. That is no reason to try node after node."""
    three = cluster(3, edits=[("max_message 4M;", "max_message 1M;")])
    r = router(three)
    c = open_publisher(client, r)
    c.send_chunk_size(65536)
    try:
        c.send_media([video(1500000)])
        c.expect_closed()
    except OSError:
        pass
    r.wait_log("session_closed", kind="publish")
    assert sum(n.accepted() for n in three) <= 2 + 3, "one node asked, besides the questions for its statistics"


def test_message_beyond_our_limit(fake, router, client):
    node = fake("f1")
    r = router([node], limits={"message": "1MiB"})
    c = open_publisher(client, r)
    c.send_chunk_size(65536)
    try:
        c.send_media([video(1100000)])
        c.expect_closed()
    except OSError:
        pass
    r.wait_log("session_closed", why="message_long")


def test_large_message_passes(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = open_publisher(client, r)
    c.send_chunk_size(4000)
    message = video(3500000)
    c.send_media([message])
    arrives(node, [message])


def test_publisher_that_does_not_wait_loses_nothing(fake, router, client, clip):
    gate = threading.Event()
    node = fake("f1", gate=gate)
    r = router([node])
    c = client(r)
    c.open()
    c.send_publish("x")
    messages = clip.messages()[:100]
    c.send_media(messages)
    node.wait(lambda n: n.sessions and n.sessions[0].kind == "publish")
    gate.set()
    arrives(node, messages)


def test_nginx_push_relay_against_a_node_that_answers_late(fake, cluster, router, client, clip):
    gate = threading.Event()
    node = fake("f1", gate=gate)
    r = router([node])
    (edge,) = cluster(1, edits=[("live on;", f"live on; push {r.url('live')};")])
    c = open_publisher(client, edge)
    node.wait(lambda n: n.sessions and n.sessions[0].kind == "publish")
    messages = clip.messages()[:100]
    c.send_media(messages)
    # the edge forwards in order: once the router has read this much, all of it waits for the node
    gate.set()
    want = [m.payload for m in messages if m.type == rtmp.VIDEO]
    node.wait(lambda n: [m.payload for m in n.sessions[0].messages if m.type == rtmp.VIDEO] == want)


def test_player_commands_reach_the_node(fake, router, client):
    node = fake("f1")
    r = router([node])
    c = client(r)
    c.play("x")
    c.send_user(rtmp.SET_BUFFER_LENGTH, 1, 3000)
    c.send_command("pause", 0, None, True, 0, msid=1)
    c.send_command("receiveAudio", 0, None, False, msid=1)
    node.wait(lambda n: any(m.is_command and m.values[0] == "receiveAudio" for m in n.sessions[0].messages))
    commands = [m.values[0] for m in node.sessions[0].messages if m.is_command]
    assert commands[-2:] == ["pause", "receiveAudio"]


def test_client_without_acks_and_pings_is_served(fake, router, client, clip):
    """Ping requests of the node are answered by the router, not passed on."""
    node = fake("f1")
    r = router([node])
    player = client(r)
    player.answer_pings = False
    player.play("x")
    session = node.wait(lambda n: n.players.get("x"))[0]
    session.conn.send_user(rtmp.PING_REQUEST, 1234)
    node.wait(lambda n: any(m.type == rtmp.USER and m.payload == struct.pack(">HI", rtmp.PING_RESPONSE, 1234) for m in session.messages))
    assert not [m for m in player.seen if m.type == rtmp.USER and m.payload[:2] == struct.pack(">H", rtmp.PING_REQUEST)]


@pytest.mark.parametrize("mangle", ["echo", "changed", "random"])
def test_any_c2_is_taken(mangle, fake, router, client):
    r = router([fake("f1")])
    c = client(r)
    c1 = c.handshake(wait=False, c2={"echo": None, "changed": b"\1" * 1536, "random": os.urandom(1536)}[mangle])
    answer = c.read_handshake()
    assert answer[0] == 3 and answer[1537:] == c1
    c.connect()
