"""The health daemon under test: runs on a router's configuration file, which has the cluster's store in it."""

import http.server
import os
import signal
import threading

import procs
import weir

# Short times, so that tests are.
FAST = {"interval": "200ms", "fast_interval": "60ms", "timeout": "1s", "flap_max": 0}


def binary():
    return os.path.join(os.path.dirname(weir.binary()), "weir-healthd")


def stat_node(node, **more):
    """The node's entry with its statistics page."""
    return weir.node_entry(node, stat=node.stat_url, **more)


class Healthd:
    """Beside a weir.Router: same file, same store."""

    def __init__(self, router, env=None):
        self.router = router
        self.env = env or {}
        self.proc = None

    def start(self):
        self.proc = procs.Proc(
            [binary(), "-c", str(self.router.file)], name="weir-healthd", env=self.env, parse=weir.parse_logfmt
        )
        self.wait_log("healthd_started")
        return self

    def stop(self, timeout=procs.DEADLINE):
        return self.proc.stop(timeout) if self.proc else None

    def kill(self):
        self.proc.kill()

    def reload(self, expect="config_reloaded", **config):
        """Changes the file and reloads this daemon only."""
        self.router.config = weir.merge(self.router.config, config)
        self.router.write()
        mark = self.mark()
        self.proc.signal(signal.SIGHUP)
        return self.wait_log(expect, since=mark)

    def mark(self):
        return len(self.proc.err)

    def wait_log(self, event, timeout=procs.DEADLINE, since=0, **fields):
        what = f"log line event={event} {fields}"
        return self.proc.err.wait(lambda line: weir.Router._matches(line, event, fields), timeout, since, what)

    def logs(self, event, since=0, **fields):
        return [line for line in self.proc.err.items[since:] if weir.Router._matches(line, event, fields)]

    def wait_verdict(self, node, state, timeout=procs.DEADLINE, since=0):
        return self.wait_log("node_verdict", timeout, since, node=node.id, state=state)

    def wait_up(self, *nodes, since=0):
        for node in nodes:
            self.wait_verdict(node, "up", since=since)
        return self

    def raw(self):
        return [line["raw"] for line in self.proc.err.items if line.get("raw")]


class FakeStat:
    """An HTTP server whose pages are what the test says: pages["/stat"] = (status, text)."""

    def __init__(self):
        self.pages = {}
        self.asked = []
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                fake.asked.append(self.path)
                status, text = fake.pages.get(self.path.split("?")[0], (404, "nothing here"))
                body = text.encode()
                self.send_response(status)
                if fake.chunked:
                    self.send_header("Transfer-Encoding", "chunked")
                    body = b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
                    body += b"0\r\n\r\n"
                else:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.chunked = False
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", procs.free_port()), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def url(self, path):
        return f"http://127.0.0.1:{self.server.server_port}{path}"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def nginx_page(app="live", streams=(), version="1.22.1", pid=100, uptime=1000):
    """As nginx-rtmp writes it. streams: (name, bytes_in) of live ones."""
    inside = "".join(
        f"<stream><name>{name}</name><bytes_in>{n}</bytes_in><nclients>1</nclients><publishing/></stream>" for name, n in streams
    )
    return (
        f"<?xml version='1.0'?><rtmp><nginx_version>{version}</nginx_version><nginx_rtmp_version>1.1.4</nginx_rtmp_version>"
        f"<pid>{pid}</pid><uptime>{uptime}</uptime><server><application><name>{app}</name><live>{inside}</live></application>"
        "</server></rtmp>"
    )
