"""The router under test: its configuration, its process, its log."""

import json
import os
import pathlib
import re
import signal
import subprocess

import nodes as real_nodes
import procs
import rtmp

_PAIR = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def binary():
    build = os.environ.get("WEIR_BUILD", str(real_nodes.ROOT / "build" / "dev"))
    return os.path.join(build, "bin", "weir-router")


def parse_logfmt(line):
    """The line as a dict; what is not logfmt (a sanitizer's report) as {"raw": line}."""
    if not line.startswith("ts="):
        return {"raw": line}
    fields = {}
    for key, value in _PAIR.findall(line):
        if value.startswith('"'):
            try:
                value = json.loads(value)
            except ValueError:
                value = value[1:-1]
        fields[key] = value
    return fields


def _scalar(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not re.fullmatch(r"[\w./%-]+(:[\w./-]+)*", value):
        return json.dumps(value)
    return str(value)


def to_yaml(value, indent=0):
    pad = "  " * indent
    out = ""
    for key, v in value.items():
        if isinstance(v, dict) and v:
            out += f"{pad}{key}:\n{to_yaml(v, indent + 1)}"
        elif isinstance(v, list):
            out += f"{pad}{key}:" + (" []\n" if not v else "\n")
            for item in v:
                if isinstance(item, dict):
                    out += f"{pad}  - {{ " + ", ".join(f"{k}: {_flow(x)}" for k, x in item.items()) + " }\n"
                else:
                    out += f"{pad}  - {_scalar(item)}\n"
        else:
            out += f"{pad}{key}: {_scalar(v)}\n"
    return out


def _flow(v):
    return "[" + ", ".join(_flow(x) for x in v) + "]" if isinstance(v, list) else _scalar(v)


def merge(base, over):
    """over's leaves win; None deletes."""
    out = dict(base)
    for key, value in over.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict) and isinstance(out.get(key), dict):
            out[key] = merge(out[key], value)
        else:
            out[key] = value
    return out


def node_entry(node, **more):
    return {"id": node.id, "rtmp": node.rtmp, **more}


class Router:
    """config: sections merged over the defaults below. start() runs it."""

    def __init__(self, directory, nodes, workers=1, env=None, **config):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = procs.free_port()
        self.host = "127.0.0.1"
        self.nodes = list(nodes)
        base = {
            "cluster": {"name": "test", "store": f"lmdb:{self.dir}/store", "live": f"{self.dir}/live"},
            "nodes": [n if isinstance(n, dict) else node_entry(n) for n in nodes],
            "router": {
                "workers": workers,
                "listen": [{"address": f"127.0.0.1:{self.port}"}],
                "shutdown_grace": "200ms",
            },
            "log": {"level": "info", "stream_names": True},
        }
        if any(isinstance(n, rtmp.FakeNode) for n in nodes):  # in Python, on a busy machine, they are slow to answer
            base["failover"] = {"stall": "10s"}
            base["router"]["dial_timeout"] = "10s"
        self.config = merge(base, config)
        self.file = self.dir / "weir.yaml"
        self.env = env or {}
        self.proc = None
        self.write()

    # process

    def write(self):
        self.file.write_text(to_yaml(self.config))

    def start(self):
        self.proc = procs.Proc([binary(), "-c", str(self.file)], name="weir-router", env=self.env, parse=parse_logfmt)
        self.wait_log("router_started")
        return self

    def stop(self, timeout=40):
        """The exit code."""
        return self.proc.stop(timeout) if self.proc else None

    def kill(self):
        if self.proc:
            self.proc.kill()

    def terminate(self):
        self.proc.signal(signal.SIGTERM)

    def reload(self, nodes=None, expect="config_reloaded", **config):
        """Writes the changed file, SIGHUP, waits for the answer in the log, and for the node list to be in force."""
        if nodes is not None:
            self.config["nodes"] = [n if isinstance(n, dict) else node_entry(n) for n in nodes]
        self.config = merge(self.config, config)
        self.write()
        mark = self.mark()
        self.proc.signal(signal.SIGHUP)
        if expect == "config_reloaded":
            self._wait_in_force(mark)
        return self.wait_log(expect, since=mark)

    def _wait_in_force(self, mark):
        """Each worker takes the file; the first one writes its nodes, which the others read."""
        for worker in self.workers():
            self.wait_log("config_reloaded", since=mark, worker=worker)
        written = self.logs("nodes_changed", mark, worker=0)
        for worker in self.workers() if written else ():
            self.proc.err.wait(
                lambda line, w=str(worker): line.get("worker") == w
                and line.get("event") == "nodes_changed"
                and int(line["version"]) >= int(written[-1]["version"]),  # before the mark if it is of another change
                what=f"the node list of worker {worker}",
            )

    def workers(self):
        """Pids, by slot."""
        found = {}
        for line in self.logs("worker_started"):
            found[int(line["worker"])] = int(line["pid"])
        return found

    # addresses

    def url(self, path):
        return f"rtmp://127.0.0.1:{self.port}/{path}"

    # log

    def mark(self):
        return len(self.proc.err)

    @staticmethod
    def _matches(line, event, fields):
        return line.get("event") == event and all(line.get(k) == str(v) for k, v in fields.items())

    def wait_log(self, event, timeout=procs.DEADLINE, since=0, **fields):
        """The first line from `since` on with that event and those fields."""
        what = f"log line event={event} " + " ".join(f"{k}={v}" for k, v in fields.items())
        return self.proc.err.wait(lambda line: self._matches(line, event, fields), timeout, since, what)

    def logs(self, event, since=0, **fields):
        return [line for line in self.proc.err.items[since:] if self._matches(line, event, fields)]

    def wait_why(self, why, timeout=procs.DEADLINE, since=0):
        """The line that says why a connection or session ended."""

        def match(line):
            return line.get("why") == why and line.get("event") in ("session_closed", "connection_refused")

        return self.proc.err.wait(match, timeout, since, f"log line with why={why}")

    def wait_closed(self, count, since=0, timeout=procs.DEADLINE, **fields):
        """At least count sessions closed."""
        procs.eventually(
            lambda: len(self.logs("session_closed", since, **fields)) >= count, timeout, f"{count} sessions closed {fields}"
        )
        return self.logs("session_closed", since, **fields)

    def raw(self):
        """Lines that are not log lines: sanitizer reports, assertion failures."""
        return [line["raw"] for line in self.proc.err.items if line.get("raw")]

    # questions

    def command(self, *args, timeout=30):
        return procs.run([binary(), "-c", str(self.file), *args], timeout=timeout, env=self.env)

    def explain(self, key):
        """The id of the node that --explain names."""
        result = self.command("--explain", key)
        assert result.returncode == 0, result.stderr
        return re.search(r"^node +(\S+)$", result.stdout, re.M).group(1)

    def key_on(self, node_id, app="live", taken=()):
        """A stream key whose home is that node."""
        for i in range(400):
            key = f"{app}/s{i}"
            if key not in taken and self.explain(key) == node_id:
                return key
        raise AssertionError(f"no stream is placed on {node_id}")

    def sanitized(self):
        """Its memory says little then: AddressSanitizer keeps what is freed. Leaks are reported at the end."""
        with open(f"/proc/{self.proc.pid}/maps") as f:
            return "asan" in f.read()

    def descriptors(self):
        """Open descriptors of each worker."""
        return {slot: len(os.listdir(f"/proc/{pid}/fd")) for slot, pid in self.workers().items()}

    def resident_kib(self, field="VmRSS"):
        found = {}
        for slot, pid in self.workers().items():
            with open(f"/proc/{pid}/status") as f:
                found[slot] = int(re.search(rf"{field}:\s+(\d+)", f.read()).group(1))
        return found

    def watch_peak(self):
        """From now on peak_kib() is the most each worker has had resident since."""
        for pid in self.workers().values():
            with open(f"/proc/{pid}/clear_refs", "w") as f:
                f.write("5")

    def peak_kib(self):
        return self.resident_kib("VmHWM")


def check_file(text, directory, *args):
    """weir-router -t on a text."""
    path = pathlib.Path(directory) / "weir.yaml"
    path.write_text(text)
    return subprocess.run([binary(), "-c", str(path), *(args or ("-t",))], capture_output=True, text=True, timeout=30)
