"""The dashboard in a real Chromium, and the weir-admin that serves it."""

import contextlib
import http.server
import os
import pathlib
import shutil
import signal
import tempfile
import threading
import time
import urllib.error
import urllib.request

import nodes
import procs
import weir
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

SHOTS = nodes.ROOT / "build" / "test-logs" / "dashboard"
CHROMIUM, CHROMEDRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
OPTIONS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --hide-scrollbars"
)
DESKTOP, TABLET, PHONE = (1440, 900), (820, 1100), (360, 780)


def binary(name):
    return str(pathlib.Path(weir.binary()).with_name(name))


class Admin:
    """weir-admin on the files of a router. scopes: a token is made for each; .tokens has them by scope."""

    def __init__(self, router, scopes=("read", "write")):
        self.port = procs.free_port()
        self.router, self.tokens, self.proc = router, {}, None
        self.token_file = router.dir / "tokens"
        lines = [self._make_token(scope) for scope in scopes]
        self.token_file.write_text("".join(line + "\n" for line in lines))
        section = {"listen": f"127.0.0.1:{self.port}"}
        if scopes:
            section["tokens"] = str(self.token_file)
        router.config = weir.merge(router.config, {"admin": section})
        router.write()
        self.start()

    def _make_token(self, scope):
        out = procs.run([binary("weir-admin"), "--new-token", scope + "er", scope])
        assert out.returncode == 0, out.stderr
        _, token, line = out.stdout.splitlines()
        self.tokens[scope] = token.removeprefix("# ")
        return line

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def start(self):
        self.proc = procs.Proc([binary("weir-admin"), "-c", str(self.router.file)], parse=weir.parse_logfmt)
        procs.eventually(self._answers, what="weir-admin answers")

    def _answers(self):
        assert self.proc.running, self.proc.err.tail()
        with contextlib.suppress(OSError):
            return procs.socket.create_connection(("127.0.0.1", self.port), 1).close() is None

    def stop(self):
        self.proc.stop()


class CuttingProxy:
    """Between a browser and weir-admin: of the first answers to paths that begin so, half of the body comes."""

    def __init__(self, admin, path, times):
        self.tokens, self.path, self.times, self.cut = admin.tokens, path, times, 0
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                request = urllib.request.Request(admin.url + self.path[1:], headers=dict(self.headers))
                try:
                    answer = urllib.request.urlopen(request, timeout=procs.DEADLINE)
                except urllib.error.HTTPError as refused:
                    answer = refused
                with answer:
                    body = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    if name.lower() not in ("connection", "keep-alive"):
                        self.send_header(name, value)
                self.end_headers()
                if self.path.startswith(proxy.path) and proxy.cut < proxy.times and answer.status == 200:
                    proxy.cut += 1
                    body = body[: len(body) // 2]
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/"

    def stop(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(procs.DEADLINE)


class Browser:
    """One tab. Waiting is by condition: see()."""

    def __init__(self, url, size=DESKTOP, dark=False, reduced_motion=False):
        self.url, self.size = url, size
        self.profile = tempfile.mkdtemp(prefix="weir-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in [*OPTIONS.split(), f"--user-data-dir={self.profile}"]:
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = None
        try:
            self.driver = webdriver.Chrome(options=options, service=Service(CHROMEDRIVER, port=procs.free_port()))
            self.emulate(size, dark, reduced_motion)
            self.driver.get(url)
        except BaseException:
            self.stop()
            raise

    def emulate(self, size=None, dark=False, reduced_motion=False):
        width, height = self.size = size or self.size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced_motion else "no-preference"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def stop(self):
        if self.driver:
            self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    # looking

    def all(self, css):
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def one(self, css, timeout=procs.DEADLINE):
        """The first visible one; waits for it."""

        def visible():
            with contextlib.suppress(StaleElementReferenceException):
                return next((e for e in self.all(css) if e.is_displayed()), None)

        return procs.eventually(visible, timeout, f"{css} is shown", every=0.1)

    def text(self, css):
        """Visible text of the first match, "" if there is none."""
        with contextlib.suppress(StaleElementReferenceException):
            found = self.all(css)
            return found[0].text if found else ""
        return ""

    def see(self, css, text, timeout=procs.DEADLINE):
        """Waits until the element shows the text."""
        return procs.eventually(lambda: text in self.text(css), timeout, f"{text!r} in {css}", every=0.1)

    def row(self, view, name, timeout=procs.DEADLINE):
        """The table row whose head is that name."""

        def find():
            with contextlib.suppress(StaleElementReferenceException):
                for row in self.all(f"#view-{view} tbody tr"):
                    if row.find_element(By.CSS_SELECTOR, "th").text.split("\n")[0] == name:
                        return row

        return procs.eventually(find, timeout, f"{name!r} in {view}", every=0.1)

    def cell(self, view, name, label):
        return self.row(view, name).find_element(By.CSS_SELECTOR, f'[data-label="{label}"]').text

    def run(self, script, *args):
        return self.driver.execute_script(script, *args)

    def complaints(self):
        """What the console says of errors and refused content since the last time."""
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]

    def shoot(self, name):
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.driver.save_screenshot(str(SHOTS / f"{name}.png"))

    # doing

    def open(self, view):
        self.run("location.hash = arguments[0]", view)
        return self.one(f"#view-{view}")

    def give_token(self, token):
        self.open("token")
        self.one("#token-form input").send_keys(token)
        self.one("#token-form .primary").click()

    def press(self, *keys):
        """As a person at the keyboard: goes to whatever has the focus."""
        actions = webdriver.ActionChains(self.driver)
        for key in keys:
            actions.send_keys(getattr(Keys, key, key))
        actions.perform()

    def focused(self):
        """Accessible name of what has the focus, more or less."""
        return self.run(
            "const e = document.activeElement;"
            "return e.getAttribute('aria-label') || e.labels?.[0]?.innerText || e.innerText || e.id"
        )

    def tab_to(self, name, most=200):
        """Tab until the focus is there."""
        for _ in range(most):
            self.press("TAB")
            if self.focused() == name:
                return
        raise AssertionError(f"Tab never came to {name!r}; last: {self.focused()!r}")

    def act(self, view, name, label):
        """The button of that row, once it is there."""

        def find():
            with contextlib.suppress(StaleElementReferenceException):
                buttons = self.row(view, name).find_elements(By.TAG_NAME, "button")
                return next((b for b in buttons if b.get_attribute("aria-label") == f"{label} {name}"), None)

        procs.eventually(find, what=f"{label} {name}").click()

    def confirm(self, verb):
        """The open dialog's text; then its button is pressed."""
        dialog = self.one("dialog[open]")
        text = dialog.text
        next(b for b in dialog.find_elements(By.TAG_NAME, "button") if b.text == verb).click()
        return text


def start_healthd(router):
    """A running weir-healthd; it shares the router's file."""
    return procs.Proc([binary("weir-healthd"), "-c", str(router.file)], parse=weir.parse_logfmt)


@contextlib.contextmanager
def paused(proc):
    """The process exists but answers nothing."""
    os.kill(proc.pid, signal.SIGSTOP)
    try:
        yield time.monotonic()
    finally:
        os.kill(proc.pid, signal.SIGCONT)
