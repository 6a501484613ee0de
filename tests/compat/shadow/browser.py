"""A headless Chromium, driven through chromedriver's WebDriver over plain HTTP."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
CHROMEDRIVER = shutil.which("chromedriver")

_START_S, _ANSWER_S = 30.0, 60.0
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
# The server is on this machine: no proxy of the environment stands between.
_OPENER = build_opener(ProxyHandler({}))


class Browser:
    """One page at a time."""

    def __init__(self, url: str) -> None:
        self._url = url

    def open(self, page: Path | str, width: int = 1280, is_dark: bool = False) -> None:
        """Loads a file or a URL at a width in CSS pixels, after what was logged before is forgotten."""
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=800,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        scheme = "dark" if is_dark else "light"
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.log("browser")
        self.log("performance")
        self.ask("url", {"url": page if isinstance(page, str) else page.as_uri()})

    def run(self, script: str) -> Any:
        """What a script returns."""
        return self.ask("execute/sync", {"script": script, "args": []})

    def click(self, selector: str) -> None:
        """As a person does: in the middle of the element, which must be visible there."""
        (element,) = self.ask("element", {"using": "css selector", "value": selector}).values()
        self.ask(f"element/{element}/click", {})

    def press(self, selector: str, key: str) -> None:
        (element,) = self.ask("element", {"using": "css selector", "value": selector}).values()
        self.ask(f"element/{element}/value", {"text": key})

    def log(self, kind: str) -> list[str]:
        """What is new in a log: "browser" for the console, "performance" for events of the network."""
        return [entry["message"] for entry in self.ask("se/log", {"type": kind})]

    def requests(self) -> list[str]:
        """URLs that were asked for since the page was opened."""
        events = [json.loads(message)["message"] for message in self.log("performance")]
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]

    def cdp(self, command: str, **parameters: object) -> Any:
        return self.ask("goog/cdp/execute", {"cmd": command, "params": parameters})

    def ask(self, path: str, body: object) -> Any:
        return _ask("POST", f"{self._url}/{path}", body)


@contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """A running browser; its own files are in the folder."""
    assert CHROMIUM is not None
    assert CHROMEDRIVER is not None
    log = folder / "chromedriver.log"
    with (
        log.open("wb") as written,
        subprocess.Popen([CHROMEDRIVER, "--port=0"], stdout=written, stderr=subprocess.STDOUT) as driver,
    ):
        try:
            server = f"http://127.0.0.1:{_port(driver, log)}"
            options = {
                "binary": CHROMIUM,
                "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"],
            }
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": options,
                "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
            }
            session = _ask("POST", f"{server}/session", {"capabilities": {"alwaysMatch": wanted}})
            url = f"{server}/session/{session['sessionId']}"
            try:
                yield Browser(url)
            finally:
                _ask("DELETE", url, None)
        finally:
            driver.terminate()


def _port(driver: subprocess.Popen[bytes], log: Path) -> int:
    """That the driver says it listens on."""
    end_s = time.monotonic() + _START_S
    while time.monotonic() < end_s and driver.poll() is None:
        _, found, behind = log.read_text(errors="replace").partition("started successfully on port ")
        if found and "\n" in behind:
            return int(behind.partition("\n")[0].strip().rstrip("."))
        time.sleep(0.02)
    raise AssertionError(f"chromedriver did not start: {log.read_text(errors='replace')}")


def _ask(method: str, url: str, body: object) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(url, data, {"Content-Type": "application/json"}, method=method)
    try:
        with _OPENER.open(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)["value"]
    except HTTPError as error:
        with error:
            raise AssertionError(f"{method} {url}: {error.read().decode(errors='replace')[:2000]}") from None
    except URLError as error:
        raise AssertionError(f"{method} {url}: {error.reason}") from None
