"""HAProxy with conf/haproxy/haproxy.cfg itself: only its addresses, paths and user are replaced."""

import contextlib
import csv
import grp
import io
import os
import pathlib
import pwd
import resource
import signal
import socket
import subprocess
import threading
import time
import urllib.request

import nodes
import procs

FOLDER = nodes.ROOT / "conf" / "haproxy"
DISTRIBUTION = "/usr/sbin/haproxy"


def build(*args, timeout=900):
    """Runs build.sh."""
    return procs.run([str(FOLDER / "build.sh"), *args], timeout=timeout)


def make_certificates(directory):
    """weir.ecdsa.pem and weir.rsa.pem for localhost, as the file expects them."""
    directory.mkdir()
    keys = {"ecdsa": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"], "rsa": ["-newkey", "rsa:2048"]}
    for kind, how in keys.items():
        key, crt = directory / f"{kind}.key", directory / f"{kind}.crt"
        argv = ["openssl", "req", "-x509", *how, "-nodes", "-days", "2", "-subj", "/CN=localhost"]
        argv += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(crt)]
        subprocess.run(argv, check=True, capture_output=True)
        (directory / f"weir.{kind}.pem").write_text(crt.read_text() + key.read_text())
    return directory


def _user_is_there():
    if os.getuid() != 0 or not os.path.isdir("/var/lib/haproxy"):
        return False
    try:
        return bool(pwd.getpwnam("haproxy") and grp.getgrnam("haproxy"))
    except KeyError:
        return False


class HAProxy:
    """router_ports: of r1 and r2; a missing one is a port on which nobody listens. edits: (old, new) pairs, each of which must apply."""

    host = "127.0.0.1"

    def __init__(self, binary, directory, certificates, router_ports, admin_port=None, edits=()):
        self.binary = binary
        self.dir = pathlib.Path(directory)
        self.dir.mkdir()
        self.port, self.tls_port, self.https_port, self.stats_port = (procs.free_port() for _ in range(4))
        ports = [*router_ports, procs.free_port(), procs.free_port()]
        changes = [
            ("    bind :1935\n", f"    bind 127.0.0.1:{self.port}\n"),
            ("    bind :443 ", f"    bind 127.0.0.1:{self.tls_port} "),
            ("    bind :8443 ", f"    bind 127.0.0.1:{self.https_port} "),
            ("    bind 127.0.0.1:8404\n", f"    bind 127.0.0.1:{self.stats_port}\n"),
            ("    server r1 127.0.0.1:1936\n", f"    server r1 127.0.0.1:{ports[0]}\n"),
            ("    server r2 127.0.0.1:1937\n", f"    server r2 127.0.0.1:{ports[1]}\n"),
            ("    server admin 127.0.0.1:8090 ", f"    server admin 127.0.0.1:{admin_port or procs.free_port()} "),
            ("    stats socket /run/haproxy/admin.sock ", f"    stats socket {self.dir}/admin.sock "),
            ("    crt-base /etc/haproxy/certs\n", f"    crt-base {certificates}\n"),
            *edits,
        ]
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if descriptors < 41000:
            changes.append(("    maxconn 20000\n", f"    maxconn {(descriptors - 1000) // 2}\n"))
        if not _user_is_there():
            changes += [(f"    {line}\n", "") for line in ("user haproxy", "group haproxy", "chroot /var/lib/haproxy")]
        text = (FOLDER / "haproxy.cfg").read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{text.count(old)} times in haproxy.cfg: {old}"
            text = text.replace(old, new)
        self.conf = self.dir / "haproxy.cfg"
        self.conf.write_text(text)
        self.proc = procs.Proc([binary, "-W", "-f", str(self.conf)], name="haproxy")
        self.proc.err.wait(lambda line: "Loading success" in line, what="haproxy starts")

    def check(self):
        """haproxy -c: the result of the run."""
        return procs.run([self.binary, "-c", "-f", str(self.conf)])

    def stop(self):
        self.proc.stop()

    def url(self, path):
        return f"rtmp://127.0.0.1:{self.port}/{path}"

    def tls_url(self, path):
        return f"rtmps://localhost:{self.tls_port}/{path}"

    def page(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.stats_port}{path}", timeout=procs.DEADLINE) as answer:
            return answer.read().decode()

    def stats(self, proxy, name):
        """The row of a frontend, backend or server."""
        rows = csv.DictReader(io.StringIO(self.page("/;csv").removeprefix("# ")))
        return next(r for r in rows if (r["pxname"], r["svname"]) == (proxy, name))

    def wait_status(self, name, status, proxy="weir_routers"):
        """UP or DOWN by a check: before the first one HAProxy takes servers for up."""

        def found():
            row = self.stats(proxy, name)
            return row["status"].startswith(status) and row["check_status"] not in ("", "INI")

        return procs.eventually(found, what=f"{proxy}/{name} is {status}")

    def reload(self):
        """Returns when the new worker has taken over. A master that has just started may sleep through a signal: asked again."""
        mark = len(self.proc.err)
        asked = 0.0

        def done():
            nonlocal asked
            if time.monotonic() > asked + 3:
                asked = time.monotonic()
                self.proc.signal(signal.SIGUSR2)
            return any("Loading success" in line for line in self.proc.err.items[mark:])

        procs.eventually(done, what="haproxy reloads")


class Relay:
    """A plain TCP relay whose outgoing connections have an address of their own, for clients that cannot choose theirs."""

    def __init__(self, port, source):
        self.target, self.source = ("127.0.0.1", port), source
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target, source_address=(self.source, 0))
                self.open += [near, far]
                for a, b in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    @staticmethod
    def _copy(a, b):
        with contextlib.suppress(OSError):
            while data := a.recv(65536):
                b.sendall(data)
        for s in (a, b):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)

    def stop(self):
        for s in (self.listener, *self.open):
            with contextlib.suppress(OSError):
                s.shutdown(socket.SHUT_RDWR)
            s.close()
