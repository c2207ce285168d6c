"""What the benchmarks run: the load generator, the relays it is measured through, and Weir; each on a core of its own."""

import contextlib
import datetime
import json
import os
import pathlib
import platform
import resource
import signal
import socket
import subprocess
import sys
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
import procs  # noqa: E402
import weir  # noqa: E402

DESCRIPTORS = 65536
WRONG = ("lost", "repeated", "corrupt", "disconnects", "failed", "skipped")  # of the load generator's counters


def build_load():
    """The load generator, optimised whatever the tests are built with."""
    where = ROOT / "build" / "bench"
    flags = ["-DCMAKE_BUILD_TYPE=RelWithDebInfo", "-DCMAKE_C_FLAGS_RELWITHDEBINFO=-O2 -g"]
    for argv in (["cmake", "-S", ROOT, "-B", where, "-G", "Ninja", *flags], ["cmake", "--build", where, "--target", "load"]):
        done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
    return str(where / "bin" / "load")


class Program:
    """Pinned to a core, in a session of its own; ends when this process does, however that happens. Output goes to a file."""

    def __init__(self, argv, core, directory, name, pipes=False):
        self.log = pathlib.Path(directory) / f"{name}.log"
        pipe = subprocess.PIPE if pipes else None
        with open(self.log, "w") as log:
            self.popen = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *(str(a) for a in argv)],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                start_new_session=True,
            )

    def pids(self):
        """Of all processes of the session."""
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError, ValueError):
                pid = int(entry)
                with open(f"/proc/{pid}/stat") as f:
                    if int(f.read().rsplit(")", 1)[1].split()[3]) == self.popen.pid:
                        found.append(pid)
        return found

    def cpu_seconds(self):
        """User and system time of all threads; what the kernel does for a packet sent on loopback (softirq) is in it."""
        total = 0
        for pid in self.pids():
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                    total += int(f.read().split()[0])
        return total / 1e9

    def memory_kib(self):
        """(PSS, USS)"""
        pss = uss = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/smaps_rollup") as f:
                sizes = {line.split(":")[0]: int(line.split()[1]) for line in f.readlines()[1:]}
            pss += sizes["Pss"]
            uss += sizes["Private_Clean"] + sizes["Private_Dirty"]
        return pss, uss

    def stop(self):
        self.popen.terminate()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            pass
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()


class Load(Program):
    def __init__(self, bench, role, port, **options):
        argv = [bench.load, role, port, *(f"{k}={v}" for k, v in options.items())]
        super().__init__(argv, bench.load_core, bench.dir, role, pipes=True)
        self._expect("started")

    def _line(self):
        line = self.popen.stdout.readline().decode()
        if not line:
            raise RuntimeError(f"load ended: {self.log.read_text()}")
        return line.strip()

    def _expect(self, word):
        line = self._line()
        assert line == word, line

    def wait_ready(self):
        self._expect("ready")

    def report(self):
        self.popen.stdin.write(b"\n")
        self.popen.stdin.flush()
        return json.loads(self._line())


# relays: (bench, node_port) -> (port, Program or None); of the bench: dir, store, load, settings, relay_core, load_core


def wait_listening(port, program):
    def listening():
        assert program.popen.poll() is None, program.log.read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0

    procs.eventually(listening, what=f"{program.log.stem} listens")
    return port, program


def start_direct(bench, node_port):
    return node_port, None


def start_haproxy(bench, node_port):
    port = procs.free_port()
    connections = min(20000, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500) // 2)
    config = bench.dir / "haproxy.cfg"
    config.write_text(
        f"""global
    nbthread 1
    maxconn {connections}
defaults
    mode tcp
    timeout connect 5s
    timeout client 5m
    timeout server 5m
frontend rtmp
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    server n1 127.0.0.1:{node_port}
"""
    )
    return wait_listening(port, Program(["haproxy", "-db", "-f", config], bench.relay_core, bench.dir, "haproxy"))


def start_nginx(bench, node_port):
    port = procs.free_port()
    config = bench.dir / "nginx.conf"
    config.write_text(
        f"""load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1;
worker_rlimit_nofile {DESCRIPTORS};
daemon off;
pid {bench.dir}/nginx.pid;
error_log {bench.dir}/nginx-error.log warn;
events {{ worker_connections 20000; }}
stream {{
    server {{ listen 127.0.0.1:{port}; proxy_pass 127.0.0.1:{node_port}; }}
}}
"""
    )
    argv = ["nginx", "-c", config, "-e", bench.dir / "nginx-error.log"]
    return wait_listening(port, Program(argv, bench.relay_core, bench.dir, "nginx"))


class Weir(Program):
    """With what weir-admin says of its event loop."""

    def __init__(self, bench, build, config, admin_port):
        self.bench, self.bin, self.config, self.admin_port = bench, pathlib.Path(build) / "bin", config, admin_port
        super().__init__([self.bin / "weir-router", "-c", config], bench.relay_core, bench.dir, "weir")

    def long_turns_percent(self):
        """Of all turns since the start, how many took over 5 ms of CPU time."""
        admin = Program([self.bin / "weir-admin", "-c", self.config], self.bench.load_core, self.bench.dir, "weir-admin")
        try:
            wait_listening(self.admin_port, admin)
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=10) as answer:
                lines = [line.split() for line in answer.read().decode().splitlines() if "weir_router_loop_turn_seconds" in line]
        finally:
            admin.stop()
        turns = sum(float(value) for name, value in (x for x in lines if len(x) == 2) if "seconds_count" in name)
        short = sum(float(value) for name, value in (x for x in lines if len(x) == 2) if 'le="0.005"' in name)
        return 100 * (turns - short) / max(1, turns)


def weir_starter(build, **settings):
    def start(bench, node_port):
        port, admin_port = procs.free_port(), procs.free_port()
        config = {
            "cluster": {"name": "bench", "store": f"lmdb:{bench.store}/store", "live": f"{bench.store}/live"},
            "nodes": [{"id": "n1", "rtmp": f"127.0.0.1:{node_port}"}],
            "router": {"workers": 1, "listen": [{"address": f"127.0.0.1:{port}"}], "shutdown_grace": "100ms"},
            "admin": {"listen": f"127.0.0.1:{admin_port}"},
        }
        file = bench.dir / "weir.yaml"
        file.write_text(weir.to_yaml(weir.merge(weir.merge(config, settings), bench.settings)))
        return wait_listening(port, Weir(bench, build, file, admin_port))

    return start


# the machine


def need_packages(*packages):
    subprocess.run(["bash", "-c", '. "$0" && need_packages "$@"', ROOT / "conf" / "packages.sh", *packages], check=True)


def raise_descriptors():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, DESCRIPTORS), max(hard, DESCRIPTORS)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def awake(core):
    """The core polls while it is idle. True: it does; False: the system does not let us say so."""
    file = pathlib.Path(f"/sys/devices/system/cpu/cpu{core}/power/pm_qos_resume_latency_us")
    try:
        before = file.read_text()
        file.write_text("n/a")  # no latency is accepted
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        file.write_text(before)


def machine():
    """When and where."""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), platform.machine())
    return f"{datetime.date.today().isoformat()}, {model}, {os.cpu_count()} cores, Linux {platform.release()}"


# what is asked for, what comes out


def settings(entries):
    """["relay.buffer=1MiB"] -> {"relay": {"buffer": "1MiB"}}"""
    found = {}
    for entry in entries:
        path, value = entry.split("=", 1)
        section, key = path.split(".", 1)
        found.setdefault(section, {})[key] = value
    return found


def number(v):
    return f"{v:.0f}" if abs(v) >= 100 else f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"


def update_doc(file, text, script):
    """Puts the script's tables where the file has its last ones."""
    begin, end = f"<!-- tables of {script} -->", "<!-- end of them -->"
    head, rest = file.read_text().split(begin, 1)
    file.write_text(f"{head}{begin}\n{text}{end}{rest.split(end, 1)[1]}")
