"""HAProxy in front, with the file that operators copy: TLS, addresses, limits, and a router restarted behind it."""

import contextlib
import http.client
import http.server
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time

import haproxy
import media
import procs
import pytest
import rtmp


@pytest.fixture(scope="session")
def built():
    """The binary that build.sh makes; the second time in no time."""
    result = haproxy.build()
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.fixture(params=["built", "distribution"])
def binary(request):
    if request.param == "built":
        return request.getfixturevalue("built")
    if not os.path.exists(haproxy.DISTRIBUTION):
        pytest.skip("the distribution's HAProxy is not installed")
    return haproxy.DISTRIBUTION


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return haproxy.make_certificates(tmp_path_factory.mktemp("tls") / "certs")


@pytest.fixture
def proxy(stack, tmp_path, certificates, built):
    """proxy(routers) -> HAProxy in front of them, which have been found up. binary: the built one by default."""

    def make(routers=(), binary=None, **how):
        h = haproxy.HAProxy(binary or built, tmp_path / "haproxy", certificates, [r.port for r in routers], **how)
        stack.append(h)
        for i in range(len(routers)):
            h.wait_status(f"r{i + 1}", "UP")
        return h

    return make


@pytest.fixture
def behind(router, tmp_path):
    """behind(nodes, id="a") -> a router that has a PROXY listener only. All of them share one store."""

    def make(nodes, id="a", trust=("127.0.0.1/32",), **config):
        port = procs.free_port()
        listen = [{"address": f"127.0.0.1:{port}", "proxy_protocol": "required", "trust": list(trust)}]
        r = router(
            nodes,
            start=False,
            cluster={"store": f"lmdb:{tmp_path}/store", "live": f"{tmp_path}/live"},
            router={"id": id, "listen": listen, **config.pop("router", {})},
            **config,
        )
        r.port = port
        return r.start()

    return make


@pytest.fixture
def relay(stack):
    """relay(port, "127.0.0.9") -> a relay to that port whose connections come from that address."""

    def make(port, source):
        r = haproxy.Relay(port, source)
        stack.append(r)
        return r

    return make


def assert_refused(connect):
    """connect() -> a client that HAProxy has closed before the handshake."""
    with pytest.raises((rtmp.Closed, OSError)), contextlib.closing(connect()) as c:
        c.handshake()


# --- the build ----------------------------------------------------------------------------------------------------


def test_build_has_no_lua(built):
    listed = procs.run([built, "-vv"]).stdout
    features = next(line for line in listed.splitlines() if line.startswith("Feature list")).split()
    assert "-LUA" in features and "+LUA" not in features
    assert "+OPENSSL" in features and "+PROMEX" in features
    assert "liblua" not in procs.run(["ldd", built]).stdout


def test_build_runs_under_debians_unit(built):
    """Which starts it with -Ws."""
    listed = procs.run([built, "-vv"]).stdout
    features = next(line for line in listed.splitlines() if line.startswith("Feature list")).split()
    assert "+SYSTEMD" in features
    assert "not compiled" not in procs.run([built, "-Ws", "-c", "-f", "/dev/null"]).stderr


def test_build_is_quick_the_second_time(built):
    before = os.stat(built)
    began = time.monotonic()
    assert haproxy.build().stdout.splitlines()[-1] == built
    assert time.monotonic() - began < 20
    assert os.stat(built).st_mtime == before.st_mtime


def test_build_leaves_the_machine_as_it_was(tmp_path, built):
    """Asks the package sources for the newest version that has sources, finds that one built, and has changed nothing else."""
    version = os.path.basename(os.path.dirname(built))
    (tmp_path / version).mkdir()
    shutil.copy(built, tmp_path / version)
    before = [files(d) for d in ("/etc/apt", "/var/lib/apt/lists")]
    result = haproxy.build(str(tmp_path))
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(tmp_path / version / "haproxy")
    assert [files(d) for d in ("/etc/apt", "/var/lib/apt/lists")] == before
    assert {p.name for p in tmp_path.iterdir()} == {version, "built-for", "build.log", "lock"}


def files(directory):
    """Path, size and time of change of everything in it."""
    found = [os.path.join(d, name) for d, _, names in os.walk(directory) for name in names]
    return sorted((path, os.stat(path).st_size, os.stat(path).st_mtime) for path in found)


def test_file_has_no_lua_and_no_warnings(binary, proxy):
    result = proxy(binary=binary).check()
    assert result.returncode == 0
    said = result.stdout + result.stderr
    assert "[WARNING]" not in said and "[ALERT]" not in said, said
    settings = [line.split("#")[0] for line in (haproxy.FOLDER / "haproxy.cfg").read_text().splitlines()]
    assert not [line for line in settings if "lua" in line.lower()]


# --- streams ------------------------------------------------------------------------------------------------------


def test_ffmpeg_in_plain_and_over_tls(binary, cluster, behind, proxy, publish, play):
    """Every way in meets the same stream, bit for bit."""
    three = cluster(3)
    routers = [behind(three, "a"), behind(three, "b")]
    h = proxy(routers, binary)
    publish(h.tls_url("live/secret"))
    publish(h.url("live/plain"))
    for name in ("secret", "plain"):
        players = [play(h.tls_url(f"live/{name}")), play(h.url(f"live/{name}"))]
        for p in players:
            p.wait_packets(100)
        media.assert_same_stream(*players)
    assert sum("live/secret" in n.live() for n in three) == 1
    for row in ("r1", "r2"):  # leastconn: six connections on two routers
        assert int(h.stats("weir_routers", row)["scur"]) >= 2


def test_node_sees_the_clients_address(binary, cluster, behind, proxy, relay, publish, client, tmp_path):
    log = tmp_path / "access.log"
    edits = [
        ("so_keepalive=10s:5s:3", "proxy_protocol"),  # nginx-rtmp takes one of them only
        ("access_log off; # the router", f"access_log {log}; # the router"),
    ]
    (node,) = cluster(1, edits=edits)
    r = behind([{"id": "n1", "rtmp": node.rtmp, "send_proxy": "v1"}])
    h = proxy([r], binary)
    encoder = publish(f"rtmps://localhost:{relay(h.tls_port, '127.0.0.9').port}/live/tls")
    plain = client(h, source="127.0.0.10")
    assert plain.publish("plain")[1] == "status"
    streams = node.streams()
    assert streams["live/tls"]["addresses"] == ["127.0.0.9"]
    assert streams["live/plain"]["addresses"] == ["127.0.0.10"]
    encoder.finish()
    plain.close()
    lines = procs.eventually(lambda: log.exists() and len(t := log.read_text().splitlines()) >= 2 and t, what="node's log")
    assert {line.split()[0] for line in lines} == {"127.0.0.9", "127.0.0.10"}
    for address in ("127.0.0.9", "127.0.0.10"):
        procs.eventually(lambda: any(address in x["client"] for x in r.logs("session_closed")), what=f"{address} in the log")


def test_router_takes_nobody_else(fake, behind, proxy, client):
    r = behind([fake("f1")])
    h = proxy([r])
    mark = r.mark()
    stranger = client(r, source="127.0.0.9", before=b"PROXY TCP4 192.0.2.7 198.51.100.1 5555 1935\r\n")
    stranger.expect_closed()
    r.wait_why("proxy_untrusted", since=mark)
    without = client(r)
    without.send_bytes(b"\x03" + bytes(1536))
    without.expect_closed()
    r.wait_why("proxy_bad", since=mark)
    assert client(h).publish("x")[1] == "status"


def test_health_checks_are_quiet(binary, fake, behind, proxy):
    r = behind([fake("f1")])
    mark = r.mark()
    h = proxy([r], binary, edits=[("check inter 1s fastinter", "check inter 20ms fastinter")])
    time.sleep(1)
    assert r.proc.err.items[mark:] == []


def test_reload_keeps_streams(binary, fake, behind, proxy, client, clip):
    h = proxy([behind([fake("f1")])], binary)
    publisher, player = client(h), client(h)
    assert publisher.publish("x")[1] == "status"
    assert player.play("x")[1] == "status"
    h.reload()
    publisher.send_media(clip.messages()[:40])
    player.recv_media(20)
    assert client(h).play("x")[1] == "status"


def test_idle_time_counts_only_when_nothing_moves(fake, behind, proxy, client, clip):
    h = proxy([behind([fake("f1")])], edits=[("timeout tunnel 3m", "timeout tunnel 2s")])
    publisher, player, silent = client(h), client(h), client(h)
    assert publisher.publish("x")[1] == "status"
    assert player.play("x")[1] == "status"
    silent.open()
    began = time.monotonic()
    for m in clip.messages()[:40]:  # for 5 s; the player says nothing
        publisher.send_media([m])
        time.sleep(0.125)
    player.recv_media(30)
    silent.expect_closed()
    assert time.monotonic() - began > 4.9


# --- TLS ----------------------------------------------------------------------------------------------------------


def s_client(h, *options, name="localhost"):
    target = ["-connect", f"127.0.0.1:{h.tls_port}", *(["-servername", name] if name else ["-noservername"])]
    return procs.run(["openssl", "s_client", *target, *options], timeout=60).stdout


@pytest.mark.parametrize("options", [(), ("-tls1_2",)], ids=["any-version", "tls1.2"])
@pytest.mark.parametrize("name", ["localhost", "other.example", None], ids=["name", "other-name", "no-name"])
def test_ecdsa_comes_first(binary, proxy, options, name):
    said = s_client(proxy(binary=binary), *options, name=name)
    assert "Peer signature type: ECDSA" in said, said


@pytest.mark.parametrize("options", [(), ("-tls1_2",), ("-tls1_3",)], ids=["any-version", "tls1.2", "tls1.3"])
def test_rsa_for_who_cannot_use_ecdsa(binary, proxy, options):
    said = s_client(proxy(binary=binary), *options, "-sigalgs", "RSA+SHA256:rsa_pss_rsae_sha256")
    assert "Peer signature type: RSA" in said, said


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused(binary, proxy):
    h = proxy(binary=binary)
    for port in (h.tls_port, h.https_port):
        with pytest.raises(ssl.SSLError) as e:
            handshake(port, ssl.TLSVersion.TLSv1_1)
        assert "PROTOCOL_VERSION" in e.value.reason
        assert handshake(port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
        assert handshake(port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"


def handshake(port, version, alpn=None):
    """The version agreed on, or with `alpn` the protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # else our own library would refuse 1.1
    context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(alpn)
    with socket.create_connection(("127.0.0.1", port), timeout=procs.DEADLINE) as s:
        with context.wrap_socket(s, server_hostname="localhost") as t:
            return t.selected_alpn_protocol() if alpn else t.version()


def test_client_that_never_finishes_tls(proxy):
    h = proxy(edits=[("    timeout client 20s\n", "    timeout client 1s\n")])
    with socket.create_connection((h.host, h.tls_port), timeout=procs.DEADLINE) as s:
        s.sendall(b"\x16\x03\x01")
        assert s.recv(1) == b""


# --- limits -------------------------------------------------------------------------------------------------------


def test_connections_per_address(binary, fake, behind, proxy, client):
    h = proxy([behind([fake("f1")])], binary, edits=[("{ sc0_conn_cur gt 200 }", "{ sc0_conn_cur gt 3 }")])
    three = [client(h, source="127.0.0.9") for _ in range(3)]
    for c in three:
        c.open()
    assert_refused(lambda: rtmp.Client(h.host, h.port, source="127.0.0.9"))
    client(h, source="127.0.0.10").open()
    for _ in range(6):  # this machine itself has no limit
        client(h).open()
    assert int(h.stats("rtmp", "FRONTEND")["dcon"]) == 1
    three[0].close()

    def again():
        with contextlib.suppress(rtmp.Closed, OSError):
            return client(h, source="127.0.0.9").open()

    procs.eventually(again, what="a connection from 127.0.0.9", every=0.2)


def test_connection_rate_per_address(binary, fake, behind, proxy, client):
    h = proxy([behind([fake("f1")])], binary, edits=[("{ sc0_conn_rate gt 100 }", "{ sc0_conn_rate gt 5 }")])
    for _ in range(5):
        with rtmp.Client(h.host, h.port, source="127.0.0.9") as c:
            c.handshake()
    for port in (h.port, h.tls_port):  # both ways in count together
        assert_refused(lambda p=port: rtmp.Client(h.host, p, source="127.0.0.9"))
    client(h, source="127.0.0.10").open()


# --- HTTP ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def admin(stack):
    """A tiny server where weir-admin stands: what counts here is how HAProxy passes requests on. It answers with what it got."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self):
            with contextlib.suppress(ConnectionResetError):  # HAProxy ends its checks so
                super().handle()

        def do_GET(self):
            status = 401 if self.path == "/api/v1/nodes" and "Authorization" not in self.headers else 200
            body = json.dumps({"path": self.path, **{k.lower(): v for k, v in self.headers.items()}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.stop = lambda: (server.shutdown(), server.server_close())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    stack.append(server)
    return server


def get(h, path, certificates, source="127.0.0.1", **headers):
    """(status, content type, body as JSON) over HTTPS, the certificate verified."""
    context = ssl.create_default_context(cafile=certificates / "ecdsa.crt")
    c = http.client.HTTPSConnection("localhost", h.https_port, timeout=procs.DEADLINE, context=context, source_address=(source, 0))
    try:
        c.request("GET", path, headers=headers)
        answer = c.getresponse()
        return answer.status, answer.headers["Content-Type"], json.loads(answer.read())
    finally:
        c.close()


def test_admin_over_https(binary, admin, proxy, certificates):
    h = proxy(binary=binary, admin_port=admin.server_port)
    h.wait_status("admin", "UP", proxy="weir_admin")
    forged = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http"}
    status, _, seen = get(h, "/api/v1/streams/live%2Fcam1", certificates, source="127.0.0.9", Authorization="Bearer t", **forged)
    assert status == 200
    assert seen["path"] == "/api/v1/streams/live%2Fcam1" and seen["authorization"] == "Bearer t"
    assert seen["x-forwarded-for"] == "127.0.0.9" and seen["x-forwarded-proto"] == "https"
    assert get(h, "/api/v1/nodes", certificates)[0] == 401
    assert handshake(h.https_port, ssl.TLSVersion.TLSv1_3, ["h2", "http/1.1"]) == "h2"


def test_admin_that_is_not_there(proxy, certificates):
    h = proxy()
    h.wait_status("admin", "DOWN", proxy="weir_admin")
    status, kind, body = get(h, "/", certificates)
    assert (status, kind, body["status"]) == (503, "application/problem+json", 503)


def test_admin_is_for_operators(admin, proxy, certificates):
    h = proxy(admin_port=admin.server_port, edits=[("acl operators src 127.0.0.0/8 ", "acl operators src 127.0.0.1 ")])
    h.wait_status("admin", "UP", proxy="weir_admin")
    assert get(h, "/", certificates)[0] == 200
    status, kind, body = get(h, "/", certificates, source="127.0.0.9")
    assert (status, kind, body["status"]) == (403, "application/problem+json", 403)


def test_guessing_tokens(admin, proxy, certificates):
    h = proxy(admin_port=admin.server_port, edits=[("{ sc0_http_err_rate gt 120 }", "{ sc0_http_err_rate gt 5 }")])
    h.wait_status("admin", "UP", proxy="weir_admin")
    statuses = [get(h, "/api/v1/nodes", certificates, source="127.0.0.9")[0] for _ in range(8)]
    assert statuses[:6] == [401] * 6 and statuses[6:] == [429] * 2
    assert get(h, "/", certificates)[0] == 200


def test_statistics_and_metrics(binary, fake, behind, proxy, client):
    h = proxy([behind([fake("f1")])], binary)
    c = client(h)
    c.open()
    assert "weir_routers" in h.page("/")
    metrics = h.page("/metrics")
    assert 'haproxy_server_status{proxy="weir_routers",server="r1",state="UP"} 1' in metrics
    assert 'haproxy_frontend_current_sessions{proxy="rtmp"} 1' in metrics
    with contextlib.suppress(FileNotFoundError):
        checked = subprocess.run(["promtool", "check", "metrics"], input=metrics, capture_output=True, text=True)
        assert "error" not in checked.stderr.lower(), checked.stderr


# --- the upgrade --------------------------------------------------------------------------------------------------


class Load:
    """Clients that keep connecting, publish, send a little and leave. Each failure is kept."""

    def __init__(self, h, threads=4):
        self.h = h
        self.done, self.failures = 0, []
        self.stopping = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]
        for t in self.threads:
            t.start()

    def _run(self, which):
        count = 0
        while not self.stopping.is_set():
            count += 1
            began = time.monotonic()
            try:
                with rtmp.Client(self.h.host, self.h.port) as c:
                    answer = c.publish(f"load{which}-{count}")
                    assert answer == ("NetStream.Publish.Start", "status"), answer
                self.done += 1
            except Exception as e:  # whatever it is, a client was let down
                self.failures.append(f"{type(e).__name__}: {e}, after {time.monotonic() - began:.3f} s")

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(procs.DEADLINE)


def test_router_restarted_under_load(binary, fake, behind, proxy, client, stack, clip):
    """One of two router instances after the other is stopped and started again: nobody is refused, and who was on it stays."""
    node = fake("f1")
    routers = [behind([node], id, workers=2, router={"shutdown_grace": "20s"}) for id in ("a", "b")]
    h = proxy(routers, binary)
    load = Load(h)
    stack.append(load)
    for i in range(6):
        r, name = routers[i % 2], f"r{i % 2 + 1}"
        held = on_router(r, lambda: client(h), f"held{i}")
        before = load.done
        r.terminate()
        r.wait_log("router_stopping")
        h.wait_status(name, "DOWN")
        procs.eventually(lambda: load.done > before + 20, what="clients on the other router")
        held.send_media(clip.messages()[:30])  # its stream goes on meanwhile
        session = next(s for s in node.sessions if s.name == f"held{i}" and not s.closed)
        node.wait(lambda _, s=session: sum(m.type == rtmp.VIDEO for m in s.messages) >= 10)
        held.close()
        assert r.proc.wait() == 0, r.proc.err.tail()
        r.start()
        h.wait_status(name, "UP")
    load.stop()
    assert load.failures == [], load.failures


def on_router(r, connect, name):
    """A publisher of that stream whose session is on that router: others are closed."""
    for _ in range(50):
        mark = r.mark()
        c = connect()
        assert c.publish(name)[1] == "status"
        if r.logs("stream_placed", mark, stream=f"live/{name}"):
            return c
        c.close()
    raise AssertionError(f"no connection came to {r.config['router']['id']}")
