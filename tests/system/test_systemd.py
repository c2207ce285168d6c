"""The systemd units of conf/systemd: correct, hardened, and true about what the daemons do."""

import os
import shutil
import signal
import socket
import statistics
import time

import nodes
import procs
import pytest
import weir

UNITS = nodes.ROOT / "conf" / "systemd"
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
