"""The systemd units of conf/systemd: correct, hardened, and true about what the daemons do."""

import os
import pathlib
import shutil
import signal
import socket
import statistics
import time

import admin as api
import healthd
import nodes
import procs
import pytest
import rtmp
import weir

UNITS = nodes.ROOT / "conf" / "systemd"
SECCOMP = nodes.ROOT / "tests" / "seccomp" / "preload.c"
NAMES = ["weir-router.service", "weir-router@a.service", "weir-healthd.service", "weir-admin.service"]
EXPOSURE = 20  # in tenths, of 100: a service without hardening has 96


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A root folder with our units, the system's own, and programs under the names that ours start."""
    root = tmp_path_factory.mktemp("root")
    shutil.copytree(UNITS, root / "etc" / "systemd" / "system")
    shutil.copytree("/usr/lib/systemd/system", root / "usr" / "lib" / "systemd" / "system", symlinks=True)
    for program in ("/usr/local/sbin/weir-router", "/usr/local/sbin/weir-healthd", "/usr/local/sbin/weir-admin", "/bin/kill"):
        path = root / program.removeprefix("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o755)
    return root


def analyze(root, *args):
    return procs.run(["systemd-analyze", f"--root={root}", *args])


@pytest.mark.parametrize("name", NAMES)
def test_verify(installed, name):
    result = analyze(installed, "verify", name)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_verify_finds_mistakes(installed, tmp_path):
    shutil.copytree(installed, tmp_path / "root", symlinks=True)
    unit = tmp_path / "root" / "etc" / "systemd" / "system" / "weir-admin.service"
    unit.write_text(unit.read_text().replace("ExecStart=", "ExcStart="))
    result = analyze(tmp_path / "root", "verify", unit.name)
    assert result.returncode != 0 and "ExcStart" in result.stderr


@pytest.mark.parametrize("name", NAMES)
def test_hardened(installed, name):
    result = analyze(installed, "security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", name)
    assert result.returncode == 0, result.stdout


def system_calls(names):
    """Those of a SystemCallFilter; '@...' is a set, which may have sets."""
    found = set()
    for name in names:
        if not name.startswith("@"):
            found.add(name)
            continue
        listed = procs.run(["systemd-analyze", "--no-pager", "syscall-filter", name])
        assert listed.returncode == 0, listed.stderr
        lines = [line.strip() for line in listed.stdout.splitlines()[1:]]
        found |= system_calls([line for line in lines if line and not line.startswith("#")])
    return found


@pytest.fixture
def confined(tmp_path):
    """The environment of a daemon that dies at a system call that its unit does not allow."""
    lines = [line for file in sorted((UNITS / "weir-.service.d").iterdir()) for line in file.read_text().splitlines()]
    filters = [line.split("=", 1)[1].split() for line in lines if line.startswith("SystemCallFilter=")]
    assert filters, "there is a filter"
    allowed = system_calls(["@default"])
    for first, *others in filters:
        if first.startswith("~"):
            allowed -= system_calls([first[1:], *others])
        else:
            allowed |= system_calls([first, *others])
    numbers = "".join(f"#ifdef __NR_{name}\n__NR_{name},\n#endif\n" for name in sorted(allowed))
    (tmp_path / "allowed.h").write_text(numbers)
    library = tmp_path / "seccomp.so"
    made = procs.run(["cc", "-std=c17", "-shared", "-fPIC", "-O1", f"-I{tmp_path}", str(SECCOMP), "-o", str(library)])
    assert made.returncode == 0, made.stderr
    return {"LD_PRELOAD": str(library)}


def test_the_filter_allows_what_the_daemons_do(confined, cluster, router, client, stack, tmp_path):
    r = router(cluster(2), env=confined, workers=2, healthd=healthd.FAST, failover={"max_moves": 5})
    if r.sanitized():
        pytest.skip("a sanitizer makes calls of its own")
    assert all("Seccomp:\t2" in pathlib.Path(f"/proc/{pid}/status").read_text() for pid in r.workers().values())
    health = healthd.Healthd(r, env=confined).start()
    stack.append(health)
    admin = api.Admin(tmp_path / "admin", r, env=confined)
    stack.append(admin)
    health.wait_up(*r.nodes)
    publisher, player = client(r), client(r)
    assert publisher.publish("x")[0] == "NetStream.Publish.Start"
    assert player.play("x")[1] == "status"
    publisher.send_media([rtmp.Message(rtmp.VIDEO, b"\x17\x01" + bytes(100), 1, 40, 6)])
    player.recv_media(1)
    node = admin.get(admin.stream("live/x"))["node"]
    assert admin.ask("PUT", f"/api/v1/nodes/{node}/state", {"state": "drain"}).status == 200
    r.wait_log("stream_moved", reason="drain")
    for daemon in (r, health, admin):
        daemon.reload()
    assert client(r).publish("y")[0] == "NetStream.Publish.Start"
    for daemon in (admin, health, r):
        assert daemon.stop() == 0


def notify_socket(path):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    s.bind(str(path))
    s.settimeout(procs.DEADLINE)
    return s


@pytest.mark.parametrize("daemon", ["weir-router", "weir-healthd", "weir-admin"])
def test_notify_and_watchdog(daemon, tmp_path, stack):
    """READY=1 when it serves, WATCHDOG=1 at least twice per WatchdogSec from the main process, STOPPING=1 at the end."""
    config = tmp_path / "weir.yaml"
    config.write_text(
        f'cluster: {{ store: "lmdb:{tmp_path}/store", live: "{tmp_path}/live" }}\n'
        f'router: {{ workers: 1, listen: [{{ address: "127.0.0.1:{procs.free_port()}" }}] }}\n'
        f'admin: {{ listen: "127.0.0.1:{procs.free_port()}" }}\n'
    )
    watchdog_s = 2
    with notify_socket(tmp_path / "notify") as heard:
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(watchdog_s * 1000000)}
        binary = os.path.join(os.path.dirname(weir.binary()), daemon)
        proc = procs.Proc([binary, "-c", str(config)], env=env)
        stack.append(proc)
        assert heard.recv(256) == b"READY=1"
        at = []
        for _ in range(4):
            assert heard.recv(256) == b"WATCHDOG=1"
            at.append(time.monotonic())
        assert statistics.median(b - a for a, b in zip(at, at[1:])) < 0.75 * watchdog_s
        proc.signal(signal.SIGTERM)
        said = heard.recv(256)
        while said == b"WATCHDOG=1":
            said = heard.recv(256)
        assert said == b"STOPPING=1"
        assert proc.wait() == 0
