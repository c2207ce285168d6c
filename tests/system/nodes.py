"""Real nodes: nginx-rtmp from conf/nginx, and node-media-server as a second kind."""

import fcntl
import os
import pathlib
import signal
import subprocess
import urllib.request
import xml.etree.ElementTree as ElementTree

import procs

ROOT = pathlib.Path(__file__).resolve().parents[2]
NGINX = "/usr/sbin/nginx"
NMS_VERSION = "2.7.4"
NMS_DIR = ROOT / "build" / "npm"


class NginxNode:
    """edits: (old, new) pairs applied to the configuration. apps: application blocks added besides `live`.
    host: its address. prefix: a command that runs it there."""

    kind = "nginx"

    def __init__(self, id, directory, edits=(), apps=(), host="127.0.0.1", prefix=()):
        self.id, self.host, self.prefix = id, host, prefix
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port, self.http_port = procs.free_port(), procs.free_port()
        conf = ROOT / "conf" / "nginx" / "nginx-rtmp.conf"
        script = '. "$0"; nginx_instance "$@"'
        argv = ["sh", "-c", script, conf.parent / "instance.sh", conf, self.dir, str(self.port), str(self.http_port)]
        text = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        changes = [(f"error_log {self.dir}/error.log", "error_log stderr"), ("listen 127.0.0.1:", f"listen {host}:"), *edits]
        if apps:
            changes.append(("application live {", "\n".join(apps) + "\napplication live {"))
        for old, new in changes:
            assert old in text, f"not in the node configuration: {old}"
            text = text.replace(old, new)
        self.conf = self.dir / "nginx.conf"
        self.conf.write_text(text)
        self.proc = None

    @property
    def rtmp(self):
        return f"{self.host}:{self.port}"

    @property
    def stat_url(self):
        return f"http://{self.host}:{self.http_port}/stat"

    def url(self, path):
        return f"rtmp://{self.rtmp}/{path}"

    def start(self):
        argv = [*self.prefix, NGINX, "-c", str(self.conf), "-e", "stderr", "-g", "daemon off; master_process on;"]
        self.proc = procs.Proc(argv, name=self.id)
        self.proc.err.wait(lambda line: "start worker process " in line, what=f"{self.id} starts")

    def stop(self):
        if self.proc:
            self.proc.stop()

    def kill(self):
        """Master and worker at once, as when the machine dies; the kernel still closes the sockets."""
        self.proc.kill()

    def pause(self):
        """Accepts connections (the kernel does) and answers nothing."""
        os.killpg(self.proc.pid, signal.SIGSTOP)

    def resume(self):
        os.killpg(self.proc.pid, signal.SIGCONT)

    def stat(self):
        with urllib.request.urlopen(self.stat_url, timeout=procs.DEADLINE) as answer:
            return ElementTree.fromstring(answer.read())

    def streams(self):
        """{"app/name": {"publishing": bool, "active": bool, "clients": n, "bytes_in": n, "addresses": [...]}}"""
        found = {}
        for app in self.stat().iter("application"):
            for s in app.iter("stream"):
                found[f"{app.findtext('name')}/{s.findtext('name')}"] = {
                    "publishing": s.find("publishing") is not None,
                    "active": s.find("active") is not None,
                    "clients": int(s.findtext("nclients", "0")),
                    "bytes_in": int(s.findtext("bytes_in", "0")),
                    "addresses": [c.findtext("address") for c in s.iter("client")],
                }
        return found

    def live(self):
        """Names with a publisher."""
        return {key for key, s in self.streams().items() if s["publishing"]}

    def accepted(self):
        return int(self.stat().findtext("naccepted", "0"))

    def control(self, path):
        with urllib.request.urlopen(f"http://{self.host}:{self.http_port}/control/{path}", timeout=procs.DEADLINE) as answer:
            return answer.read().decode()


def nms_module():
    """The folder of node-media-server; installed from the npm registry if it is not there. None: cannot be had."""
    module = NMS_DIR / "node_modules" / "node-media-server"
    NMS_DIR.mkdir(parents=True, exist_ok=True)
    with open(NMS_DIR / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests may run side by side
        if not (module / "package.json").exists():
            package = f"node-media-server@{NMS_VERSION}"
            argv = ["npm", "install", "--prefix", str(NMS_DIR), "--no-audit", "--no-fund", "--ignore-scripts", "--silent", package]
            try:
                procs.run(argv, timeout=180)
            except (OSError, subprocess.TimeoutExpired):
                return None
    return module if (module / "package.json").exists() else None


class NmsNode:
    kind = "nms"

    def __init__(self, id, directory):
        self.id = id
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = procs.free_port()
        self.script = self.dir / "node.js"
        self.script.write_text(
            f"const NodeMediaServer = require({str(nms_module())!r});\n"
            f"new NodeMediaServer({{ logType: 3, rtmp: {{ port: {self.port}, chunk_size: 60000, gop_cache: true,"
            " ping: 30, ping_timeout: 60 } }).run();\n"
        )
        self.proc = None

    @property
    def rtmp(self):
        return f"127.0.0.1:{self.port}"

    def url(self, path):
        return f"rtmp://{self.rtmp}/{path}"

    def start(self):
        self.proc = procs.Proc(["node", str(self.script)], name=self.id)
        self.proc.out.wait(lambda line: "Rtmp Server started" in line, what=f"{self.id} starts")

    def stop(self):
        if self.proc:
            self.proc.stop()

    kill = stop
