"""Clients of every kind that come and go for as long as a test wants, each in a thread of its own."""

import os
import random
import socket
import threading
import time

import rtmp

KEYFRAME = b"\x17\x01\0\0\0" + bytes(3000)


class Guests:
    """router: where they go. live, shared: stream names of applications of these names, to be played. How many of each kind have
    been there is in .count; what went wrong in .errors, unless it was while the test had said that it may (excused())."""

    def __init__(self, router, live, shared, threads=10):
        self.router, self.live, self.shared = router, live, shared
        self.kinds = [
            self.publisher,
            self.encoder_that_reconnects,
            self.player,
            self.shared_player,
            self.player_of_nothing,
            self.slow_player,
            self.leaves_at_once,
            self.leaves_in_the_middle,
            self.garbage,
            self.half_open,
        ]
        self.count = {kind.__name__: 0 for kind in self.kinds}
        self.errors = []
        self.forgiven = 0
        self.excuses = 0  # grows when an excuse begins or ends; odd: there is one
        self.lock = threading.Lock()
        self.own = threading.local()
        self.open = threading.Event()
        self.ending = False
        self.inside = 0
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(threads)]
        self.open.set()
        for t in self.threads:
            t.start()

    def _run(self, seat):
        chance = random.Random(seat)
        turn = 0
        self.own.address = None
        while self.open.wait() and not self.ending:
            turn += 1
            kind, name = chance.choice(self.kinds), f"guest{seat}-{turn}"
            with self.lock:
                if not self.open.is_set():
                    continue
                self.inside += 1
                excuses = self.excuses
            try:
                kind(name, chance)
            except (AssertionError, OSError, ValueError, rtmp.Closed) as e:
                with self.lock:
                    if excuses % 2 or self.excuses != excuses:
                        self.forgiven += 1
                    else:
                        self.errors.append(f"{kind.__name__} {name} at {self.own.address}: {type(e).__name__} {e}")
            finally:
                with self.lock:
                    self.inside -= 1
                    self.count[kind.__name__] += 1

    def total(self):
        return sum(self.count.values())

    def leave(self):
        """All of them; until there are none."""
        with self.lock:
            self.open.clear()
        until = time.monotonic() + 3 * rtmp.DEADLINE
        while self.inside:
            assert time.monotonic() < until, "guests do not leave"
            time.sleep(0.05)

    def come(self):
        self.open.set()

    def excuse(self):
        """From now on, or no longer, things may go wrong for them."""
        with self.lock:
            self.excuses += 1

    def stop(self):
        self.ending = True
        self.open.set()
        for t in self.threads:
            t.join(2 * rtmp.DEADLINE)

    # what they do

    def _client(self):
        c = rtmp.Client(self.router.host, self.router.port)
        self.own.address = "%s:%d" % c.sock.getsockname()  # by which the router's log knows it
        return c

    def _send(self, c, seconds):
        for i in range(int(seconds / 0.05)):
            c.send(rtmp.VIDEO, KEYFRAME, 1, 50 * i, 6)
            time.sleep(0.05)

    def publisher(self, name, chance):
        with self._client() as c:
            assert c.publish(name)[0] == "NetStream.Publish.Start"
            self._send(c, chance.uniform(0.2, 2))

    def encoder_that_reconnects(self, name, chance):
        """Its network breaks; it is back at once, under the same name."""
        for _ in range(3):
            with self._client() as c:
                status = c.publish(name + "?key=1")
                assert status[0] == "NetStream.Publish.Start", status
                self._send(c, chance.uniform(0.1, 0.5))
                if chance.random() < 0.5:
                    c.reset()

    def player(self, name, chance, app="live"):
        with self._client() as c:
            c.play(chance.choice(self.shared if app == "shared" else self.live), app=app)
            c.recv_media(chance.randint(1, 60))

    def shared_player(self, name, chance):
        self.player(name, chance, "shared")

    def player_of_nothing(self, name, chance):
        with self._client() as c:
            c.play(name)
            time.sleep(chance.uniform(0, 1))

    def slow_player(self, name, chance):
        """Reads nothing for a while, and then goes on."""
        with self._client() as c:
            c.play(chance.choice(self.live))
            time.sleep(chance.uniform(0.5, 2))
            c.recv_media(20)

    def leaves_at_once(self, name, chance):
        with self._client() as c:
            if chance.random() < 0.5:
                c.reset()

    def leaves_in_the_middle(self, name, chance):
        with self._client() as c:
            c.open()
            (c.send_publish if chance.random() < 0.5 else c.send_play)(name)

    def garbage(self, name, chance):
        with self._client() as c:
            if chance.random() < 0.5:
                c.handshake()
            with_reset = (BrokenPipeError, ConnectionResetError)
            try:
                for _ in range(chance.randint(1, 20)):
                    c.send_bytes(os.urandom(chance.randint(1, 2000)))
            except with_reset:
                pass  # as it should be

    def half_open(self, name, chance):
        with socket.create_connection((self.router.host, self.router.port), timeout=rtmp.DEADLINE) as s:
            s.sendall(b"\x03" + bytes(chance.randint(0, 1000)))
            time.sleep(chance.uniform(0.1, 1.5))
