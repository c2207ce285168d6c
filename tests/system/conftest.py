"""Fixtures. Every process and socket that a test makes ends with the test, also when it fails."""

import os
import signal

import exact as exact_client
import media
import nodes
import procs
import pytest
import rtmp
import weir

LONG = bool(os.environ.get("WEIR_TEST_LONG"))


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with WEIR_TEST_LONG=1")
    # Finalizers run on SIGTERM too.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("SIGTERM", 1))


def pytest_collection_modifyitems(items):
    if LONG:
        return
    for item in items:
        if item.get_closest_marker("long"):
            item.add_marker(pytest.mark.skip(reason="long"))


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """clips(**make_clip arguments) -> Clip, made once per session."""
    directory = tmp_path_factory.mktemp("clips")
    made = {}

    def get(**how):
        key = tuple(sorted(how.items()))
        if key not in made:
            made[key] = media.Clip(media.make_clip(directory / f"clip{len(made)}.flv", **how))
        return made[key]

    return get


@pytest.fixture(scope="session")
def clip(clips):
    return clips()


@pytest.fixture
def stack():
    """What is put here is stopped at the end, last first."""
    started = []
    yield started
    errors = []
    for thing in reversed(started):
        try:
            thing.kill() if isinstance(thing, procs.Proc) else thing.stop()
        except Exception as e:  # the others must end too
            errors.append(e)
    assert not errors, errors


@pytest.fixture
def cluster(stack, tmp_path):
    """cluster(3) -> nginx nodes n1, n2, n3. Keyword arguments as NginxNode."""
    made = []

    def make(count=3, **how):
        for _ in range(count):
            id = f"n{len(made) + 1}"
            node = nodes.NginxNode(id, tmp_path / id, **how)
            made.append(node)
            stack.append(node)
            node.start()
        return made[-count:]

    return make


@pytest.fixture
def nms(stack, tmp_path):
    """nms("m1") -> a node-media-server node."""
    if nodes.nms_module() is None:
        pytest.skip("node-media-server is not installed")

    def make(id):
        node = nodes.NmsNode(id, tmp_path / id)
        stack.append(node)
        node.start()
        return node

    return make


@pytest.fixture
def fake(stack):
    """fake("f1", publish="badname") -> FakeNode."""

    def make(id, host="127.0.0.1", **behaviour):
        node = rtmp.FakeNode(procs.free_port(host), host, **behaviour)
        node.id = id
        stack.append(node)
        return node

    return make


@pytest.fixture
def router(stack, tmp_path):
    """router(nodes, workers=1, placement={...}) -> a Router, running unless start=False; it must end clean."""
    made = []

    def make(node_list, start=True, **how):
        r = weir.Router(tmp_path / f"router{len(made)}", node_list, **how)
        made.append(r)
        stack.append(r)
        return r.start() if start else r

    yield make
    bad = ("Sanitizer", "runtime error", "Assertion", "assert")
    for r in made:
        print(f"{r.dir.name}:", r.proc and r.proc.err.tail(count=500), sep="\n")  # shown if the test has failed
        if r.proc and r.proc.running:
            assert r.stop() == 0, r.proc.err.tail()
        assert not (r.proc and [line for line in r.raw() if any(b in line for b in bad)]), "\n".join(r.raw())


@pytest.fixture
def publish(stack, clip):
    """publish(url) -> ffmpeg publisher that has sent its first frames. wait=False: not waited for."""

    def make(url, wait=True, source=None, **how):
        p = media.Publisher(url, source or clip, **how)
        stack.append(p)
        return p.wait_sending() if wait else p

    return make


@pytest.fixture
def play(stack):
    """play(url) -> ffmpeg player."""

    def make(url, **how):
        p = media.Player(url, **how)
        stack.append(p)
        return p

    return make


@pytest.fixture
def dump(stack):
    """dump(url) -> rtmpdump player."""

    def make(url, **how):
        p = media.Rtmpdump(url, **how)
        stack.append(p)
        return p

    return make


@pytest.fixture
def client(stack):
    """client(router) -> rtmp.Client connected to it."""

    class Stop:
        def __init__(self, c):
            self.stop = c.close

    def make(target, **how):
        c = rtmp.Client(getattr(target, "host", "127.0.0.1"), target.port, **how)
        stack.append(Stop(c))
        return c

    return make


@pytest.fixture
def fakes(fake):
    """fakes(3) -> FakeNodes f1, f2, f3."""
    return lambda count=3, **behaviour: [fake(f"f{i + 1}", **behaviour) for i in range(count)]


@pytest.fixture
def exact(stack):
    """exact(router, streams, players) -> Exact, when all its players have media."""

    def make(router, streams, players, **options):
        e = exact_client.Exact(router, streams, players, **options)
        stack.append(e)
        return e.wait_ready()

    return make
