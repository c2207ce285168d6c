"""Live streams move off nodes that die, hang or are drained, and nobody notices: every message is numbered and checked
by build/<preset>/bin/exact. WEIR_TEST_LONG=1 for the full length."""

import hashlib
import os
import random
import shutil
import signal
import time

import healthd
import media
import procs
import pytest
import rtmp
import weir
from exact import Exact, assert_gaps

LONG = bool(os.environ.get("WEIR_TEST_LONG"))
only_long = pytest.mark.skipif(not LONG, reason="long")
EASY = {"max_load_factor": 0}
OFTEN = {"max_moves": 1000, "grace": "3s"}  # on a busy machine players come late


class FarHost:
    """A network namespace that this machine reaches by one cable. cut(): what goes through it is dropped, both ways, with
    no word to anybody: it goes to hardware addresses that nobody has."""

    NOBODY = "02:00:00:00:00:01"

    def __init__(self):
        self.name = f"weir{os.getpid()}"
        self.address, self.ours = (f"{net}.{procs.ports().part}" for net in ("10.213.213", "10.213.214"))
        self.prefix = ["ip", "netns", "exec", self.name]

    def start(self):
        """False: this is not allowed here."""
        here, there = f"{self.name}h", f"{self.name}n"
        made = self.ip("netns add", self.name) and self.ip(f"link add {here} type veth peer name {there} netns", self.name)
        self.ends = ((), here, self.ours, self.address), (("-n", self.name), there, self.address, self.ours)
        return made and all(
            self.ip(*where, f"address add {own} peer {other} dev", device) and self.ip(*where, "link set up dev", device)
            for where, device, own, other in self.ends
        )

    def stop(self):
        self.ip("link delete", f"{self.name}h")
        self.ip("netns delete", self.name)

    def cut(self):
        for where, device, _, other in self.ends:
            assert self.ip(*where, f"neighbour replace {other} lladdr {self.NOBODY} nud permanent dev", device)

    def mend(self):
        for where, device, _, other in self.ends:
            assert self.ip(*where, f"neighbour delete {other} dev", device)

    @staticmethod
    def ip(*words):
        result = procs.run(["ip", *" ".join(words).split()])
        print(result.stderr, end="")
        return result.returncode == 0


@pytest.fixture
def far_host(stack):
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("a network namespace needs root, and ip (Debian: iproute2)")
    host = FarHost()
    stack.append(host)
    if not host.start():
        pytest.skip("no network namespace can be made here")
    return host


def sleep_random(low, high):
    time.sleep(random.uniform(low, high))


def hurt_and_wait(r, hurt, *nodes):
    """Until what was on them is elsewhere: a node that is back before that would be attached to again."""
    count, mark = sum(len(n.live()) for n in nodes), r.mark()
    for n in nodes:
        hurt(n)
    procs.eventually(lambda: len(r.logs("stream_moved", mark)) >= count, what=f"{count} streams have moved")


def drill(r, nodes, rounds, hurt, heal, pause=(1.0, 2.0)):
    """One node after another, at random moments; healed before the next."""
    for i in range(rounds):
        node = nodes[i % len(nodes)]
        sleep_random(*pause)
        hurt_and_wait(r, hurt, node)
        sleep_random(0.5, 1.0)
        heal(node)


@pytest.mark.parametrize("workers", [1, 4])
def test_kill(workers, cluster, router, exact):
    three = cluster(3)
    r = router(three, workers=workers, placement=EASY, failover=OFTEN)
    e = exact(r, 20 if LONG else 6, 3)
    drill(r, three, 50 if LONG else 3, lambda n: n.kill(), lambda n: n.start())
    assert_gaps(r, e.report(), 2000)


def test_kill_two_at_once(cluster, router, exact):
    four = cluster(4)
    r = router(four, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 8, 2)
    for i in range(10 if LONG else 2):
        pair = random.sample(four, 2)
        sleep_random(1.0, 2.0)
        hurt_and_wait(r, lambda n: n.kill(), *pair)
        sleep_random(0.3, 1.0)
        for n in pair:
            n.start()
    e.report()


@pytest.mark.parametrize(
    "what",
    [
        {"kind": "a"},
        {"gop": 10000, "time": 2**32 - 6000, "twice": 1},
        pytest.param({"kind": "v"}, marks=only_long),
        pytest.param({"gop": 10000}, marks=only_long),
        pytest.param({"time": 2**32 - 6000}, marks=only_long),
        pytest.param({"twice": 1}, marks=only_long),
        pytest.param({"bytes": 20000}, marks=only_long),
    ],
)
def test_kinds_of_streams(what, cluster, router, exact):
    """Audio alone, video alone, long groups, times that wrap, two messages at each time, 4 Mbit/s."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 3, 2, **what)
    drill(r, three, 4 if LONG else 2, lambda n: n.kill(), lambda n: n.start(), pause=(1.5, 2.5))
    e.report()


@only_long
def test_slow_players(cluster, router, exact):
    """A player that is seconds behind loses nothing either: what it has not read waits in the router."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 2, 2, bytes=20000, slow=400000, drain=8000)
    drill(r, three, 4, lambda n: n.kill(), lambda n: n.start(), pause=(2.0, 3.0))
    e.report()


@pytest.mark.parametrize("workers", [pytest.param(1, marks=only_long), 4])
def test_hang(workers, cluster, router, exact):
    """SIGSTOP: the gap is the stall time and a little."""
    three = cluster(3)
    r = router(three, workers=workers, placement=EASY, failover={**OFTEN, "stall": "1s"})
    e = exact(r, 12 if LONG else 4, 3)

    def heal(node):
        time.sleep(3)
        node.resume()

    drill(r, three, 12 if LONG else 2, lambda n: n.pause(), heal)
    result = e.report()
    assert r.logs("stream_moved", reason="silent")
    assert_gaps(r, result, 2500)


def test_unreachable(cluster, router, exact, far_host):
    """The network drops all packets of a node, of some streams and then of all of them. As when it hangs; but nothing on
    either side is closed, and no dial is answered or refused."""
    far = cluster(1, host=far_host.address, prefix=far_host.prefix)[0]
    three = [far, *cluster(2)]
    r = router(three, workers=2, placement=EASY, failover={**OFTEN, "stall": "1s"})
    e = exact(r, 6, 3)
    for i in range(2):
        count, mark = len(far.live()), r.mark()
        assert count == 6 if i else 0 < count < 6
        far_host.cut()
        procs.eventually(lambda: len(r.logs("stream_moved", since=mark, reason="silent")) >= count, what="all moved")
        procs.eventually(lambda: sum(len(n.live()) for n in three[1:]) == 6, what="all streams on the others")
        far_host.mend()
        if i == 0:
            procs.eventually(lambda: not far.live(), what="the node knows that it has lost its streams")
            r.reload(nodes=[far])
            procs.eventually(lambda: len(r.logs("stream_moved", since=mark, reason="drain")) == 6, what="all on that node")
            r.reload(nodes=three)
    assert_gaps(r, e.report(), 2500)


def test_leave(cluster, router, exact):
    """A node that is dropped from the file is left by its streams, one node after the other."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 20 if LONG else 6, 3)
    for i in range(30 if LONG else 2):
        gone = three[i % 3]
        sleep_random(1.0, 2.0)
        r.reload(nodes=[n for n in three if n is not gone])
        procs.eventually(lambda: not gone.live(), what=f"{gone.id} is empty")
        procs.eventually(lambda: not gone.streams(), what=f"{gone.id} has no players")
        r.reload(nodes=three)
    result = e.report()
    assert not r.logs("stream_moved", reason="ended")
    assert_gaps(r, result, 1000)


def test_no_node_left(cluster, router, exact):
    """Clients are held, the publisher is read on, and all of it arrives when a node comes back."""
    two = cluster(2)
    r = router(two, workers=2, placement=EASY, failover=OFTEN)
    e = exact(r, 3, 2)
    for n in two:
        n.kill()
    time.sleep(4)
    two[1].start()
    r.wait_log("stream_moved")
    time.sleep(2)
    assert e.report()["gap_worst"] > 3500


def test_no_node_left_for_long(cluster, router):
    """Beyond failover.gop_bytes whole groups are dropped; what is not goes on in order."""
    two = cluster(2)
    r = router(two, placement=EASY, failover={**OFTEN, "gop_bytes": "2MiB"})
    e = Exact(r, 1, 2, bytes=40000, gop=1000).wait_ready()
    try:
        for n in two:
            n.kill()
        time.sleep(6)
        two[0].start()
        r.wait_log("stream_moved")
        time.sleep(2)
        result = e.end()
        assert result["lost"] > 0
        assert result["repeated"] == result["corrupt"] == result["back"] == result["shifted"] == result["disconnects"] == 0
        assert not r.logs("session_closed", why="no_node")
    finally:
        e.stop()


def test_given_up(cluster, router, publish, play):
    two = cluster(2)
    r = router(two, failover={"give_up": "1s"})
    p, q = publish(r.url("live/x")), play(r.url("live/x"))
    q.wait_packets(5)
    for n in two:
        n.kill()
    p.wait()
    q.wait()
    assert {line["why"] for line in r.wait_closed(2)} == {"no_node"}


def test_poison(cluster, router, publish):
    """A stream that loses node after node is stopped."""
    three = cluster(3)
    r = router(three, placement=EASY, failover={"max_moves": 2})
    p = publish(r.url("live/x")).wait_sending(frames=40)
    for i in range(3):
        node = (r.logs("stream_moved") or r.logs("stream_placed"))[-1]["node"]
        mark = r.mark()
        broken = next(n for n in three if n.id == node)
        broken.kill()
        if i < 2:
            r.wait_log("stream_moved", since=mark)
            broken.start()
    p.wait()
    assert r.wait_closed(1)[0]["why"] == "max_moves"


def test_publisher_dropped_by_its_node(cluster, router, exact, publish):
    """Once it may be an accident; again within 10 s it is the node's word, and the client hears it."""
    three = cluster(3)
    r = router(three, placement=EASY)
    e = exact(r, 2, 2)
    time.sleep(2)
    for n in three:
        for key in n.live():
            n.control(f"drop/publisher?app=live&name={key.split('/')[1]}")
    procs.eventually(lambda: len(r.logs("stream_moved", reason="ended")) == 2, what="both streams are back")
    time.sleep(1)
    e.report()
    p = publish(r.url("live/y")).wait_sending(frames=40)
    for i in range(2):
        mark = r.mark()
        home = procs.eventually(lambda: next((n for n in three if "live/y" in n.live()), None))
        home.control("drop/publisher?app=live&name=y")
        if i == 0:
            r.wait_log("stream_moved", since=mark, reason="ended")
    p.wait()
    assert r.wait_log("session_closed", since=mark, kind="publish")["why"] == "node_refused"


def test_ffmpeg(clips, cluster, router, publish, play, stack, tmp_path):
    """What ffmpeg plays through two kills is what ffmpeg sent, packet by packet, and decodes without a word."""
    three = cluster(3)
    r = router(three, workers=2, placement=EASY)
    clip = clips(seconds=14, bframes=2, gop=50)
    p = publish(r.url("live/film"), source=clip, loop=False)
    q = play(r.url("live/film"))
    copy = tmp_path / "copy.flv"
    recorder = procs.Proc(
        [media.FFMPEG, "-nostdin", "-loglevel", "error", "-i", r.url("live/film")]
        + ["-t", "8", "-c", "copy", str(copy)]
    )
    stack.append(recorder)
    q.wait_packets(100)
    for _ in range(2):
        node = (r.logs("stream_moved") or r.logs("stream_placed", kind="publish"))[-1]["node"]
        mark = r.mark()
        next(n for n in three if n.id == node).kill()
        r.wait_log("stream_moved", since=mark)
        time.sleep(3)
    p.wait()
    sent = {
        stream: [hashlib.md5(t.payload[skip:]).hexdigest() for t in clip.frames if t.type == kind and len(t.payload) > skip]
        for stream, kind, skip in ((0, rtmp.VIDEO, 5), (1, rtmp.AUDIO, 2))
    }

    def got(stream):
        return [x.hash for x in q.packets.items if x.stream == stream]

    def missing(stream):
        return len(sent[stream]) - sent[stream].index(got(stream)[0]) - len(got(stream))

    procs.eventually(lambda: all(missing(stream) <= 30 for stream in sent), what="all but what ffmpeg does not write yet")
    recorder.wait()
    q.kill()
    for stream in sent:
        first = sent[stream].index(got(stream)[0])
        assert len(got(stream)) > len(sent[stream]) / 2
        assert got(stream) == sent[stream][first : first + len(got(stream))]
    decoded = procs.run([media.FFMPEG, "-v", "error", "-i", str(copy), "-f", "null", "-"])
    assert decoded.returncode == 0 and decoded.stderr == "", decoded.stderr


def test_reload_of_a_node(cluster, router, exact, stack):
    """nginx -s reload: its old process keeps its streams, where new players do not find them; so they move."""
    three = cluster(3)
    r = router([healthd.stat_node(n) for n in three], workers=2, placement=EASY, failover=OFTEN, healthd=healthd.FAST)
    h = healthd.Healthd(r).start()
    stack.append(h)
    h.wait_up(*three)
    e = exact(r, 6, 3)
    time.sleep(2)  # routers read which process a node is once a second
    for i in range(6 if LONG else 2):
        node = next(n for n in three[i % 3 :] + three if n.live())
        count, mark = len(node.live()), r.mark()
        node.proc.signal(signal.SIGHUP)
        procs.eventually(lambda: len(r.logs("stream_moved", since=mark, reason="reload")) >= count, what="all moved")
        procs.eventually(lambda: len(node.live()) == count, what="all are on the new process")
    e.report()
    assert {line["reason"] for line in r.logs("stream_moved")} == {"reload"}


def test_reload_at_the_move(fakes, router, exact, stack):
    """A stream moves to a node that is being reloaded: its publisher has the new process, one of its players the old one, which
    gets nothing. When the reload is known, the stream is published there anew, and that player has all it missed."""
    two = fakes(2, keeps=False, publish="once")
    page = healthd.FakeStat()
    stack.append(page)
    for n in two:
        page.pages[f"/{n.id}"] = (200, healthd.nginx_page())
    nodes = [weir.node_entry(n, stat=page.url(f"/{n.id}")) for n in two]
    r = router(nodes, failover={**OFTEN, "reach": "30s"}, healthd={**healthd.FAST, "checks": ["stat"]})
    h = healthd.Healthd(r).start()
    stack.append(h)
    h.wait_up(*two)
    e = exact(r, 1, 2)
    time.sleep(2)  # routers read which process a node is once a second
    old = next(n for n in two if n.publishers)
    new = next(n for n in two if n is not old)
    new.does.deaf = 1
    mark = r.mark()
    old.stop()
    r.wait_log("stream_moved", since=mark)
    page.pages[f"/{new.id}"] = (200, healthd.nginx_page(pid=101, uptime=0))
    r.wait_log("stream_moved", since=mark, reason="reload")
    new.wait(lambda f: sum(s.relayed > 50 for s in f.players["exact0"]) == 2)
    e.report()


def test_reload_under_a_waiting_player(cluster, router, client, publish, stack):
    """A player waits at a node for a stream that nobody publishes; the node is reloaded, and the publisher finds its new process:
    the player is there, too."""
    node = cluster(1)[0]
    r = router([healthd.stat_node(node)], healthd=healthd.FAST)
    h = healthd.Healthd(r).start()
    stack.append(h)
    h.wait_up(node)
    c = client(r)
    c.play("x")
    time.sleep(2)  # as above
    mark = r.mark()
    node.proc.signal(signal.SIGHUP)
    r.wait_log("stream_placed", since=mark, kind="play")
    publish(r.url("live/x"))
    c.recv_media(20)


@pytest.fixture
def with_stat_page(fakes, router, stack):
    """A fake node, the statistics page by which its reloads are known, and a router."""
    (node,) = fakes(1)
    page = healthd.FakeStat()
    stack.append(page)
    page.pages["/stat"] = (200, healthd.nginx_page())
    r = router([weir.node_entry(node, stat=page.url("/stat"))], healthd={**healthd.FAST, "checks": ["stat"]})
    h = healthd.Healthd(r).start()
    stack.append(h)
    h.wait_up(node)
    return node, page, r


@pytest.mark.parametrize("retries", [0, 2])
def test_reload_of_a_node_that_takes_nobody(retries, with_stat_page, client, publish):
    """A player waits at a node that is reloaded, and for a while takes no connection: the player is held until it does."""
    node, page, r = with_stat_page
    r.reload(router={"retries": retries})
    node.does.deaf = 1
    viewer = client(r)
    viewer.play("x")
    time.sleep(2)  # as above
    node.does.accept = "close"
    mark, accepted = r.mark(), node.accepted
    page.pages["/stat"] = (200, healthd.nginx_page(pid=101, uptime=0))
    node.wait(lambda n: n.accepted > accepted + 3)
    node.does.accept = "serve"
    node.wait(lambda n: any(not s.deaf for s in n.players["x"]))
    publish(r.url("live/x"))
    viewer.recv_media(20)
    assert not r.logs("session_closed", since=mark)
    assert [x["tries"] for x in r.logs("stream_retried", since=mark)] == ["1"]
    assert "more tries failed" in r.logs("stream_placed", since=mark, kind="play")[0]["detail"]


def test_streams_that_come_at_the_reload(with_stat_page, client):
    """Players wait at a node for streams, and that is reloaded: whenever their publishers come, the players are on the process that has
    the streams."""
    node, page, r = with_stat_page
    names = [f"s{i}" for i in range(40)]
    node.does.deaf = len(names)
    for name in names:
        client(r).play(name)
    time.sleep(2)  # as above
    page.pages["/stat"] = (200, healthd.nginx_page(pid=101, uptime=0))
    for name in names:
        c = client(r)
        c.publish(name)
        c.send(rtmp.VIDEO, b"\x17\x01\0\0\0" + bytes(20), 1, 0, 6)
        time.sleep(0.1)
    node.wait(lambda f: all(any(not s.deaf for s in f.players[name]) for name in names))
