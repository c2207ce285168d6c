"""Very many sessions leave nothing behind, and none takes long to set up."""

import concurrent.futures
import statistics
import time

import procs
import rtmp


def one_session(r, i):
    """Publishers, players and clients that leave early, in turn."""
    with rtmp.Client(r.host, r.port) as c:
        with c.one_packet():
            c.handshake(wait=False)
            c.send_connect()
            c.send_command("createStream", 2, None)
            (c.send_play if i % 3 == 0 else c.send_publish)(f"s{i}")
        if i % 7 == 0:
            return
        c.read_handshake()
        c.expect_status()


def test_ten_thousand_sessions(cluster, router):
    total = 10000
    r = router(cluster(3), workers=2, placement={"hold": "1s"})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: one_session(r, i), range(1000)))
        idle = {slot: n for slot, n in r.descriptors().items()}
        settled = r.resident_kib()
        list(pool.map(lambda i: one_session(r, i), range(1000, total)))
    procs.eventually(lambda: all(n <= idle[slot] for slot, n in r.descriptors().items()), what="no descriptor is left")
    grown = {slot: kib - settled[slot] for slot, kib in r.resident_kib().items()}
    assert r.sanitized() or max(grown.values()) < 24 * 1024, grown  # the maps of the store are touched page by page


def setup_ms(target, name, kind):
    """As an encoder or player does it, step by step; until the first answer to publish or play."""
    began = time.monotonic()
    with rtmp.Client("127.0.0.1", target.port) as c:
        c.publish(name) if kind == "publish" else c.play(name)
        return 1000 * (time.monotonic() - began)


def test_set_up_is_not_slower_than_straight_to_the_node(cluster, router, record_property):
    (node,) = cluster(1)
    r = router([node])
    for kind in ("publish", "play"):
        pairs = [(setup_ms(node, f"d{kind}{i}", kind), setup_ms(r, f"r{kind}{i}", kind)) for i in range(30)]
        direct, through = (statistics.quantiles(times)[0] for times in zip(*pairs))  # of the quicker ones: others have to wait for a processor
        record_property(f"{kind}_direct_ms", round(direct, 2))
        record_property(f"{kind}_through_ms", round(through, 2))
        print(f"{kind}: direct {direct:.1f} ms, through the router {through:.1f} ms")
        assert through <= direct + 5, (kind, direct, through)
