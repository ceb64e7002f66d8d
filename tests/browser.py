"""A headless Chromium driven over a pipe, to test, time and picture the page; nothing but the standard library."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

EXECUTABLE = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE_S = 120
MISSING = "no Chromium on this machine: install chromium (Debian: apt-get install chromium)"
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe")


class Page:
    """One tab. version: of its browser. requests: addresses that it asked for. errors: exceptions, console errors and
    refused contents."""

    def __init__(self, commands: int, answers: int):
        self._commands, self._answers, self._rest, self._number = commands, answers, b"", 0
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.version: str = self._call("Browser.getVersion")["product"].split("/")[1]
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")

    _session: str | None = None

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            if not select.select([self._answers], [], [], PATIENCE_S)[0]:
                raise TimeoutError(f"the browser said nothing for {PATIENCE_S} s")
            part = os.read(self._answers, 2**20)
            if not part:
                raise RuntimeError("the browser ended")
            self._rest += part
        message, self._rest = self._rest.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        if event["method"] == "Network.requestWillBeSent":
            self.requests.append(parameters["request"]["url"])
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(parameters["exceptionDetails"])[:2000])
        if event["method"] == "Log.entryAdded" and parameters["entry"]["level"] == "error":
            self.errors.append(parameters["entry"]["text"])

    def open(self, path: Path, address: str = "") -> float:
        """Load a page that sets `data-ready` on its body; seconds until it did."""
        started = time.monotonic()
        self._call("Page.navigate", url=path.resolve().as_uri() + address)
        self.wait("document.body && document.body.dataset.ready")
        return time.monotonic() - started

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression, awaited."""
        answer = self._call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def wait(self, condition: str, seconds: float = 60) -> None:
        """Until a JavaScript expression holds; TimeoutError after `seconds`."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} did not come true; errors: {self.errors}")
            time.sleep(0.02)

    def size(self, width: int, height: int) -> None:
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def screenshot(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def chromium() -> Iterator[Page]:
    """A page of a fresh browser that ends with the block."""
    assert EXECUTABLE, MISSING
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def connect() -> None:
            """The browser reads its commands from file descriptor 3 and answers on 4, which may be in use here."""
            kept = [fcntl.fcntl(number, fcntl.F_DUPFD, 5) for number in (commands, answers)]
            os.dup2(kept[0], 3)
            os.dup2(kept[1], 4)

        browser = subprocess.Popen(
            [EXECUTABLE, *FLAGS, f"--user-data-dir={profile}"],
            preexec_fn=connect,
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(commands)
        os.close(answers)
        try:
            yield Page(to_browser, from_browser)
        finally:
            browser.kill()
            browser.wait()
            os.close(to_browser)
            os.close(from_browser)
