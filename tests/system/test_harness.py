"""The tools of the other tests, tried on nodes directly: what fails here is not the router's fault."""

import re
import resource

import media
import procs
import pytest
import rtmp


def test_players_of_one_stream_receive_the_same(cluster, publish, play, dump, clip):
    (node,) = cluster(1)
    publish(node.url("live/a"))
    players = [play(node.url("live/a")) for _ in range(2)]
    for p in players:
        p.wait_packets(150)
    media.assert_same_stream(players[0], players[1])
    media.assert_starts_at_keyframe(players[0].packets.items, media.clip_packets(clip))
    tags = dump(node.url("live/a")).wait_tags(40)
    assert {t.payload for t in tags if t.type == rtmp.VIDEO} <= {t.payload for t in clip.media}
    assert node.streams()["live/a"]["clients"] == 4


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 16384, reason="so many are not allowed here")
def test_the_shipped_file_has_room_for_its_connections(cluster):
    """Under systemd a service begins with 1,024 descriptors."""
    (node,) = cluster(1, prefix=["prlimit", "--nofile=1024:"])
    workers = [int(line.split()[-1]) for line in node.proc.err.items if "start worker process " in line]
    wanted = int(re.search(r"worker_connections (\d+);", node.conf.read_text()).group(1))

    def taken():
        with open(f"/proc/{workers[0]}/limits") as f:
            return next(int(line.split()[3]) for line in f if line.startswith("Max open files"))

    procs.eventually(lambda: taken() > wanted, what="it has taken them")


@pytest.mark.parametrize("how", [{}, {"chunk_size": 1000}, {"chunk_size": 65536}, {"piece": 700}, {"compress": True}])
def test_client_publishes_to_nginx(cluster, client, clip, how):
    (node,) = cluster(1)
    player = client(node)
    player.play("x")
    publisher = client(node, **how)
    assert publisher.publish("x") == ("NetStream.Publish.Start", "status")
    messages = clip.messages()[:60]
    publisher.send_media(messages)
    sent = [m.payload for m in messages if m.type == rtmp.VIDEO]
    got = player.recv_media(len(sent), types=(rtmp.VIDEO,))
    assert [m.payload for m in got] == sent


@pytest.mark.parametrize("kind", ["fake", "nms"])
def test_other_nodes(kind, fake, nms, client, clip):
    node = fake("f1") if kind == "fake" else nms("m1")
    publisher = client(node)
    assert publisher.publish("x")[0] == "NetStream.Publish.Start"
    player = client(node)
    player.play("x")
    publisher.send_media(clip.messages()[:41])  # node-media-server writes by tens of media messages
    assert player.recv_media(20)[0].payload == clip.media[0].payload


def test_everything_in_one_packet(cluster, client):
    (node,) = cluster(1)
    c = client(node)
    with c.one_packet():
        c.handshake(wait=False)
        c.send_connect()
        c.send_command("createStream", 2, None)
        c.send_publish("y")
    c.read_handshake()
    assert c.expect_status()[0] == "NetStream.Publish.Start"
