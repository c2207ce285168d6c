"""SIGHUP under load: the node list changes, nobody notices."""

import procs
import pytest
import weir


def owners(nodes):
    return {key: n.id for n in nodes for key in n.live()}


def test_nodes_come_and_go_under_thirty_live_streams(cluster, router, publish, play):
    four = cluster(4)
    r = router(four[:3], workers=2)
    keys = [f"live/cam{i}" for i in range(30)]
    publishers = [publish(r.url(key), wait=False) for key in keys]
    for p in publishers:
        p.wait_sending()
    players = [play(r.url(key)) for key in keys[:6]]
    for p in players:
        p.wait_packets(20)
    before = owners(four)
    assert set(before) == set(keys)

    r.reload(nodes=four)  # n4 is new
    assert owners(four) == before
    names = [f"live/new{i}" for i in range(60)]
    assert "n4" in {r.explain(name) for name in names}

    on_n2 = {key for key in keys if before[key] == "n2"}
    assert on_n2
    r.reload(nodes=[four[0], four[2], four[3]])  # n2 goes
    late = play(r.url(min(on_n2)))
    assert "n2" not in {r.explain(name) for name in names}
    procs.eventually(lambda: not four[1].live(), what="the streams have left n2")
    after = procs.eventually(lambda: len(found := owners(four)) == len(keys) and found, what="all are somewhere")
    assert {key for key in keys if after[key] != before[key]} == on_n2
    late.wait_packets(30)  # wherever the stream was when it came
    for p in players:
        p.wait_packets(p.count() + 30)
    for p in publishers:
        p.wait_sending()
    assert not r.logs("session_closed")


def test_long_file_is_not_cut_short(fakes, router):
    """What is left of it after a MiB would be a configuration as well, with fewer nodes."""
    r = router(fakes(2))
    mark = r.mark()
    text = weir.to_yaml({**r.config, "nodes": []})
    r.file.write_text(text + "#" * (1024 * 1024 - len(text) - 1) + "\n" + weir.to_yaml({"nodes": r.config["nodes"]}))
    assert r.command("-t").returncode == 2
    r.proc.signal(1)
    procs.eventually(lambda: r.logs("config_refused", mark) or r.logs("config_reloaded", mark), what="an answer")
    assert not r.logs("config_reloaded", mark)


@pytest.mark.parametrize(
    "text", ["nodes: [", "cluster: { nmae: x }\n", "router: { retries: many }\n", "nodes:\n  - { id: n1 }\n"]
)
def test_bad_file_is_refused_whole(text, cluster, router, client):
    r = router(cluster(2))
    publisher = client(r)
    assert publisher.publish("x")[1] == "status"
    r.file.write_text(text)
    r.proc.signal(1)
    line = r.wait_log("config_refused")
    assert str(r.file) in line["error"] or str(r.file) in line.get("file", "")
    r.write()
    assert client(r).publish("y")[1] == "status"
    assert not r.logs("session_closed")


def test_values_change_on_reload(fakes, router, client):
    nodes = fakes(2)
    r = router(nodes, placement={"duplicate_publish": "reject"})
    assert client(r).publish("x")[1] == "status"
    assert client(r).publish("x")[1] == "error"
    r.reload(placement={"duplicate_publish": "takeover"})
    assert client(r).publish("x")[1] == "status"


def test_weight_zero_takes_nothing_new(fakes, router, client):
    nodes = fakes(3)
    r = router(nodes)
    r.reload(nodes=[weir.node_entry(nodes[0], weight=0), *nodes[1:]])
    for i in range(20):
        client(r).publish(f"s{i}")
    assert not nodes[0].sessions
