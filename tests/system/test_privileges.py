"""What the daemons may do once they run."""

import os
import pathlib
import pwd
import shutil
import tempfile

import admin as api
import healthd
import procs
import pytest
import weir

USER = "nobody"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def status(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return dict(line.split(":\t", 1) for line in lines if ":\t" in line)


def assert_is(user, pid):
    entry, now = pwd.getpwnam(user), status(pid)
    assert now["Uid"].split() == [str(entry.pw_uid)] * 4
    assert now["Gid"].split() == [str(entry.pw_gid)] * 4
    assert sorted(map(int, now["Groups"].split())) == sorted(os.getgrouplist(user, entry.pw_gid))
    assert {now[k] for k in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {"0" * 16}
    assert now["NoNewPrivs"] == "1"


@pytest.fixture
def home():
    """A folder of that user's, where nobody else's stand in the way."""
    path = tempfile.mkdtemp(prefix="weir-user-")
    shutil.chown(path, USER)
    yield path
    shutil.rmtree(path)


@needs_root
def test_daemons_of_another_user(home, fake, stack, client):
    node = fake("f1")
    r = weir.Router(home, [node], workers=2, process={"user": USER})
    r.port = 443
    r.config["router"]["listen"] = [{"address": "127.0.0.1:443"}]
    r.write()
    stack.append(r)
    try:
        r.start()
    except AssertionError:
        if any("Address already in use" in str(line) for line in r.proc.err.items):
            pytest.skip("port 443 is taken")
        raise
    assert len(r.workers()) == 2
    for pid in [r.proc.pid, *r.workers().values()]:
        assert_is(USER, pid)
    assert client(r).publish("x") == ("NetStream.Publish.Start", "status")
    stack.append(h := healthd.Healthd(r).start())
    stack.append(a := api.Admin(home, r))
    for pid in (h.proc.pid, a.proc.pid):
        assert_is(USER, pid)
    assert a.items("/api/v1/sessions")
    r.reload(limits={"connections": 7})
    h.reload()
    a.reload()
    assert "process.user" in r.reload(expect="config_refused", process={"user": "root"})["error"]


@needs_root
@pytest.mark.parametrize("daemon", ["weir-router", "weir-healthd", "weir-admin"])
def test_a_user_that_is_not(daemon, tmp_path):
    config = tmp_path / "weir.yaml"
    config.write_text(
        f'cluster: {{ store: "lmdb:{tmp_path}/store", live: "{tmp_path}/live" }}\n'
        f'router: {{ listen: [{{ address: "127.0.0.1:{procs.free_port()}" }}] }}\n'
        f'admin: {{ listen: "127.0.0.1:{procs.free_port()}" }}\n'
        "process: { user: weir-nobody-has-this }\n"
    )
    binary = os.path.join(os.path.dirname(weir.binary()), daemon)
    out = procs.run([binary, "-c", str(config)])
    assert out.returncode == 1 and "there is no user weir-nobody-has-this" in out.stderr
    assert not (tmp_path / "store").exists()


def test_no_new_privileges(router, fakes):
    r = router(fakes(1))
    for pid in [r.proc.pid, *r.workers().values()]:
        assert status(pid)["NoNewPrivs"] == "1"
        assert int(status(pid)["Uid"].split()[0]) == os.geteuid()
