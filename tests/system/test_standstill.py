"""A router that stood still, as with its machine when that is paused or swapped: nobody is blamed for what waits in his
socket, nor for what he waits for himself."""

import procs
from test_admin import admin  # noqa: F401

LIMIT = 4  # s, of everything that has one
STANDSTILL = 8  # s: longer than that, and longer than a router waits for a worker that hangs
SHORT = {
    "router": dict.fromkeys(("handshake_timeout", "idle_timeout", "ping_timeout", "dial_timeout", "answer_timeout"), f"{LIMIT}s"),
    "relay": {"stall_timeout": f"{LIMIT}s"},
    "failover": {"stall": f"{LIMIT}s"},
}
SHORT["router"]["ping_interval"] = "1s"


def test_a_router_that_stood_still(cluster, router, client, exact, publish, play):
    """All of it, as with its machine: publishers and players have gone on, others have said meanwhile what they had so long
    for. The worker that begins the stores' housekeeping is the last to go on. Nobody is closed, nothing is lost."""
    r = router(cluster(2), workers=2, **SHORT)

    def to_router():
        return [c for c in procs.connections() if c.local == r.port]

    e = exact(r, 4, 2, bytes=500)
    publish(r.url("live/real"))
    player = play(r.url("live/real"))
    player.wait_packets(10)
    late = [client(r) for _ in range(8)]
    for c in late[::2]:
        c.handshake()
    ports = {c.sock.getsockname()[1] for c in late}
    procs.eventually(lambda: ports <= {c.remote for c in to_router() if c.accepted}, what="all are accepted")
    workers, mark = r.workers(), r.mark()
    with procs.stood_still([r.proc.pid, workers[1], workers[0]], STANDSTILL):
        for i, c in enumerate(late):
            if i % 2:
                c.handshake(wait=False)
            c.send_connect()
            c.send_command("createStream", c.next_transaction(), None)
            c.send_publish(f"late{i}")

        def waits():
            waiting = {c.remote for c in to_router() if c.waiting}
            return ports <= waiting and len(waiting - ports) >= 5  # the publishers

        procs.eventually(waits, what="what they say waits")
    for slot in workers:
        r.wait_log("worker_stood_still", since=mark, worker=slot)
    for i, c in enumerate(late):
        if i % 2:
            c.read_handshake()
        assert c.expect_status()[0] == "NetStream.Publish.Start"
        c.close()
    player.wait_packets(player.count() + 50)
    assert r.workers() == workers
    for event in ("connection_refused", "stream_moving", "stream_retried", "worker_exited"):
        assert not r.logs(event), event
    assert {line["why"] for line in r.logs("session_closed")} <= {"client_closed"}
    e.report()


def test_a_router_that_was_taken_for_dead(fakes, router, client, admin, stack):  # noqa: F811
    """Another one has made hints of its claims, and has cleared its records away. All is there again when it goes on; its streams
    can be moved, which they could not be without their claims."""
    two = fakes(2)
    r = router(two, workers=2)
    other = router(two, workers=1, start=False, **{"cluster": r.config["cluster"], "router": {"id": "other"}}).start()
    a = admin(r)
    publishers = [client(r) for _ in range(6)]
    for i, c in enumerate(publishers):
        assert c.publish(f"x{i}")[1] == "status"
    players = [client(r) for _ in range(6)]
    for i, c in enumerate(players):
        assert c.play(f"x{i}")[1] == "status"
    before = a.items("/api/v1/streams")
    assert len(before) == 6 and len(a.items("/api/v1/sessions")) == 12
    with procs.stood_still([r.proc.pid, *r.workers().values()], 5):
        procs.eventually(lambda: not a.items("/api/v1/sessions"), timeout=40, what="the other one has cleared it away")
    procs.eventually(lambda: len(a.items("/api/v1/sessions")) == 12, what="all sessions are there")
    procs.eventually(lambda: len([s for s in a.items("/api/v1/streams") if s["state"] == "live"]) == 6, what="and all streams")
    loads = {n["id"]: (n["streams"], n["sessions"]) for n in a.items("/api/v1/nodes")}
    assert (sum(s for s, _ in loads.values()), sum(s for _, s in loads.values())) == (6, 12)
    assert other.logs("worker_started") and not r.logs("stream_taken_over") and not r.logs("session_closed")
