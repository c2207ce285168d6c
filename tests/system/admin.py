"""The admin daemon under test: its process, its log, and a small HTTP client that shows everything of an answer."""

import contextlib
import http.client
import json
import os
import pathlib
import signal
import socket
import time
import urllib.parse

import nodes as real_nodes
import procs
import weir

OPENAPI = real_nodes.ROOT / "admin" / "openapi.json"


def binary():
    return os.path.join(os.path.dirname(weir.binary()), "weir-admin")


class Answer:
    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def problem(self):
        """The problem document that every error is."""
        assert self.status >= 400, (self.status, self.body)
        assert self.headers["Content-Type"] == "application/problem+json", (self.status, dict(self.headers))
        problem = self.json
        assert problem["status"] == self.status and problem["type"] and problem["title"] and problem["detail"], problem
        return problem

    def __repr__(self):
        return f"<{self.status} {self.body[:400]!r}>"


def quote(text):
    return urllib.parse.quote(text, safe="")


class Admin:
    """router: shares its configuration (file) if given; config: sections merged over it."""

    def __init__(self, directory, router=None, tokens=None, start=True, env=None, **config):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = procs.free_port()
        self.env = env or {}
        self.token = None
        base = {
            "cluster": {"name": "test", "store": f"lmdb:{self.dir}/store", "live": f"{self.dir}/live"},
            "log": {"level": "info", "stream_names": True},
        }
        base = weir.merge(router.config if router else base, {"admin": {"listen": f"127.0.0.1:{self.port}"}})
        self.config = weir.merge(base, config)
        self.file = self.dir / "weir-admin.yaml"
        self.token_file = self.dir / "tokens"
        if tokens:
            self.config = weir.merge(self.config, {"admin": {"tokens": str(self.token_file)}})
            self.tokens = {name: self.new_token(name, scope) for name, scope in tokens.items()}
        self.write()
        self.proc = None
        if start:
            self.start()

    def new_token(self, name, scope):
        """Made as an operator makes one; its line goes to the file."""
        out = procs.run([binary(), "--new-token", name, scope])
        assert out.returncode == 0, out.stderr
        lines = out.stdout.splitlines()
        with open(self.token_file, "a") as f:
            f.write(out.stdout)
        return lines[1].removeprefix("# ")

    # process

    def write(self):
        self.file.write_text(weir.to_yaml(self.config))

    def start(self):
        self.proc = procs.Proc([binary(), "-c", str(self.file)], name="weir-admin", env=self.env, parse=weir.parse_logfmt)
        self.wait_log("admin_started")
        return self

    def stop(self, timeout=20):
        return self.proc.stop(timeout) if self.proc else None

    def kill(self):
        self.proc.kill()

    def reload(self, expect="config_reloaded"):
        mark = len(self.proc.err)
        self.proc.signal(signal.SIGHUP)
        return self.wait_log(expect, since=mark)

    def wait_log(self, event, timeout=procs.DEADLINE, since=0, **fields):
        def match(line):
            return line.get("event") == event and all(line.get(k) == str(v) for k, v in fields.items())

        return self.proc.err.wait(match, timeout, since, f"weir-admin: event={event} {fields}")

    def logs(self, event):
        return [line for line in self.proc.err.items if line.get("event") == event]

    def raw(self):
        return [line["raw"] for line in self.proc.err.items if line.get("raw")]

    # requests

    def url(self, path):
        return f"http://127.0.0.1:{self.port}{path}"

    def connect(self, timeout=procs.DEADLINE):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, token=None, connection=None):
        """body: anything JSON, or bytes as they are."""
        sent = dict(headers or {})
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        if token or self.token:
            sent["Authorization"] = f"Bearer {token or self.token}"
        c = connection or self.connect()
        try:
            c.request(method, path, body, sent)
            r = c.getresponse()
            return Answer(r.status, r.headers, r.read())
        finally:
            if connection is None:
                c.close()

    def get(self, path, **how):
        """The JSON of a 200."""
        a = self.ask("GET", path, **how)
        assert a.status == 200, a
        return a.json

    def items(self, path, **how):
        """Of all pages."""
        found, cursor = [], None
        while True:
            more = f"{'&' if '?' in path else '?'}cursor={quote(cursor)}" if cursor else ""
            page = self.get(path + more, **how)
            found += page["items"]
            cursor = page["next"]
            if cursor is None:
                return found

    def put_node(self, node, **more):
        rtmp = node.rtmp if hasattr(node, "rtmp") else node["rtmp"]
        id = node.id if hasattr(node, "id") else node["id"]
        a = self.ask("PUT", f"/api/v1/nodes/{id}", {"rtmp": rtmp, **more})
        assert a.status in (200, 201), a
        return a.json

    def wait_in_force(self):
        """Until all routers act on the changes made so far; returns how long that took, in seconds."""
        began = time.monotonic()
        procs.eventually(
            lambda: self.get("/api/v1/cluster")["processes"]["workers_behind"] == 0,
            what="routers act on the node list",
            every=0.005,
        )
        return time.monotonic() - began

    def wait_beats(self, count=2):
        """That many heartbeats of each router: a worker reads the loads after each."""

        def beats():
            return {p["worker"]: p["beat_at"] for p in self.get("/api/v1/workers")["items"] if p["kind"] == "router"}

        for _ in range(count):
            before = beats()
            procs.eventually(lambda: all(beats()[w] != at for w, at in before.items()), what="a heartbeat of each router")

    def stream(self, key):
        return f"/api/v1/streams/{quote(key)}"

    def raw_exchange(self, data, timeout=procs.DEADLINE):
        """Bytes as they are; what comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout) as s:
            s.sendall(data)
            got = b""
            with contextlib.suppress(ConnectionResetError):
                while chunk := s.recv(65536):
                    got += chunk
            return got


class Events:
    """A client of /api/v1/events. Items: {"id", "event", "data"}."""

    def __init__(self, admin, query="", headers=None, token=None):
        self.connection = admin.connect()
        sent = dict(headers or {})
        if token or admin.token:
            sent["Authorization"] = f"Bearer {token or admin.token}"
        self.connection.request("GET", "/api/v1/events" + query, headers=sent)
        self.answer = self.connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        assert self.answer.headers["Content-Type"] == "text/event-stream"

    def next(self, timeout=procs.DEADLINE):
        """None: the stream has ended."""
        fields = {}
        self.connection.sock.settimeout(timeout)
        while True:
            line = self.answer.readline().decode()
            if not line:
                return None
            line = line.rstrip("\n")
            if not line:
                if "data" in fields:
                    fields["data"] = json.loads(fields["data"])
                    return fields
                fields = {}
                continue
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")

    def wait(self, kind, subject=None, timeout=procs.DEADLINE):
        until = time.monotonic() + timeout
        while time.monotonic() < until:
            e = self.next(timeout)
            assert e is not None, "the event stream ended"
            if e["event"] == kind and (subject is None or e["data"]["subject"] == subject):
                return e
        raise AssertionError(f"no event {kind} {subject}")

    def stop(self):
        self.connection.close()


class Schema:
    """Just enough of JSON Schema to hold answers against admin/openapi.json; extra and missing members are errors."""

    def __init__(self):
        self.doc = json.loads(OPENAPI.read_text())

    def resolve(self, schema):
        while "$ref" in schema:
            at = self.doc
            for part in schema["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            schema = at
        return schema

    def response(self, method, pattern, status, content_type="application/json"):
        answer = self.doc["paths"][pattern][method.lower()]["responses"][str(status)]
        return self.resolve(answer)["content"][content_type]["schema"]

    TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}

    def _is(self, value, kind):
        if kind == "integer":
            return isinstance(value, int) and not isinstance(value, bool)
        if kind == "number":
            return isinstance(value, (int, float)) and not isinstance(value, bool)
        return isinstance(value, self.TYPES[kind])

    def check(self, value, schema, where="answer"):
        schema = self.resolve(schema)
        kinds = schema.get("type", [])
        kinds = [kinds] if isinstance(kinds, str) else kinds
        assert not kinds or any(self._is(value, k) for k in kinds), f"{where}: {value!r} is no {kinds}"
        assert "enum" not in schema or value in schema["enum"], f"{where}: {value!r} is none of {schema['enum']}"
        assert "minimum" not in schema or value is None or value >= schema["minimum"], f"{where}: {value!r}"
        if isinstance(value, dict) and "properties" in schema:
            known = schema["properties"]
            missing = set(schema.get("required", [])) - set(value)
            assert not missing, f"{where}: without {missing}"
            extra = set(value) - set(known)
            assert not extra, f"{where}: not described: {extra}"
            for name, v in value.items():
                self.check(v, known[name], f"{where}.{name}")
        elif isinstance(value, dict) and isinstance(schema.get("additionalProperties"), dict):
            for name, v in value.items():
                self.check(v, schema["additionalProperties"], f"{where}.{name}")
        if isinstance(value, list) and "items" in schema:
            for i, v in enumerate(value):
                self.check(v, schema["items"], f"{where}[{i}]")
