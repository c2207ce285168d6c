"""The PROXY protocol, in from HAProxy and out to nodes."""

import socket
import struct

import procs
import pytest
import rtmp
import weir

V1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 5555 1935\r\n"
V1_SIX = b"PROXY TCP6 2001:db8::7 2001:db8::1 5555 1935\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def v2(source="192.0.2.7", command=1, tlvs=b""):
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    address = socket.inet_pton(family, source)
    block = address + address + struct.pack(">HH", 5555, 1935) + tlvs
    return SIGNATURE + bytes([0x20 | command, 0x21 if family == socket.AF_INET6 else 0x11]) + struct.pack(">H", len(block)) + block


@pytest.fixture
def proxied(router):
    """make(nodes) -> a router whose listener requires the header from 127.0.0.1."""

    def make(nodes, trust=("127.0.0.1/32",), **config):
        port = procs.free_port()
        listen = [{"address": f"127.0.0.1:{port}", "proxy_protocol": "required", "trust": list(trust)}]
        r = router(nodes, **{**config, "router": {"listen": listen, **config.get("router", {})}})
        r.port = port
        return r

    return make


@pytest.mark.parametrize(
    "header, address",
    [
        (V1, "192.0.2.7"),
        (V1_SIX, "2001:db8::7"),
        (v2(), "192.0.2.7"),
        (v2("2001:db8::7"), "2001:db8::7"),
        (v2(tlvs=b"\x02\x00\x05hello"), "192.0.2.7"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (v2(command=0), "127.0.0.1"),
    ],
    ids=["v1", "v1-tcp6", "v2", "v2-tcp6", "v2-tlv", "v1-unknown", "v2-local"],
)
@pytest.mark.parametrize("piece", [None, 1])
def test_header_in(header, address, piece, fake, proxied, client):
    r = proxied([fake("f1")])
    c = client(r, before=header, piece=piece)
    assert c.publish("x")[1] == "status"
    c.close()
    assert address in r.wait_log("session_closed", kind="publish")["client"]


@pytest.mark.parametrize(
    "opening, why",
    [(b"\x03" + bytes(1536), "proxy_bad"), (b"PROXY TCP4 300.0.0.1 1.2.3.4 1 2\r\n", "proxy_bad"), (b"PROX", "handshake_timeout")],
)
def test_bad_header(opening, why, fake, proxied):
    r = proxied([fake("f1")], router={"handshake_timeout": "3s"})
    with socket.create_connection((r.host, r.port)) as s:
        s.sendall(opening)
        s.settimeout(procs.DEADLINE)
        try:
            assert s.recv(100) == b""
        except ConnectionResetError:
            pass
    r.wait_why(why)


def test_untrusted_source(fake, proxied):
    r = proxied([fake("f1")], trust=["10.0.0.0/8"])
    with socket.create_connection((r.host, r.port)) as s:
        s.settimeout(procs.DEADLINE)
        try:
            s.sendall(V1)
            assert s.recv(100) == b""
        except ConnectionError:
            pass
    r.wait_why("proxy_untrusted")


def test_health_checks_of_the_proxy_are_quiet(fake, proxied, client):
    r = proxied([fake("f1")])
    for opening in (b"", v2(command=0), b"PROXY UNKNOWN\r\n"):
        with socket.create_connection((r.host, r.port)) as s:
            s.sendall(opening)
    client(r, before=V1).publish("x")
    r.wait_log("stream_placed")
    assert not r.logs("session_closed") and not r.logs("connection_refused")


def test_nginx_sees_the_clients_address(cluster, router, client):
    (node,) = cluster(1, edits=[("so_keepalive=10s:5s:3", "proxy_protocol")])
    r = router([weir.node_entry(node, send_proxy="v1")])
    assert client(r, source="127.0.0.9").publish("x")[1] == "status"
    assert node.streams()["live/x"]["addresses"] == ["127.0.0.9"]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_header_out_carries_the_address_that_came_in(version, fake, proxied, client):
    node = fake("f1", proxy=True)
    r = proxied([weir.node_entry(node, send_proxy=version)])
    assert client(r, before=V1).publish("x")[1] == "status"
    header = node.sessions[0].proxy
    if version == "v1":
        assert header.startswith(b"PROXY TCP4 192.0.2.7 ")
    else:
        assert header.startswith(SIGNATURE) and header[16:20] == bytes([192, 0, 2, 7])


def test_same_client_rule_uses_the_clients_own_address(fakes, proxied, client):
    r = proxied(fakes(2))
    assert client(r, before=V1).publish("x")[1] == "status"
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    assert client(r, before=other).publish("x") == ("NetStream.Publish.BadName", "error")
    assert client(r, before=V1).publish("x")[1] == "status"


def test_same_client_rule_does_not_trust_the_proxys_address(fakes, proxied, client):
    r = proxied(fakes(2))
    local = b"PROXY UNKNOWN\r\n"
    assert client(r, before=local).publish("x")[1] == "status"
    assert client(r, before=local).publish("x")[1] == "error"


def test_two_listeners(fake, router, client):
    plain, proxy = procs.free_port(), procs.free_port()
    listen = [
        {"address": f"127.0.0.1:{plain}"},
        {"address": f"127.0.0.1:{proxy}", "proxy_protocol": "required", "trust": ["127.0.0.0/8"]},
    ]
    router([fake("f1")], router={"listen": listen})
    with rtmp.Client("127.0.0.1", plain) as a, rtmp.Client("127.0.0.1", proxy, before=V1) as b:
        assert a.publish("a")[1] == "status"
        assert b.publish("b")[1] == "status"
