"""A real browser without a window: headless Chromium, controlled through a pipe."""

import base64
import itertools
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Browser:
    """One tab, controlled by the Chrome DevTools Protocol: JSON messages, each ended by NUL."""

    def __init__(self, reading: int, writing: int) -> None:
        self._reading, self._writing = os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._left = b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method and wait for its result; keep the events received meanwhile."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        self._writing.write(json.dumps(message).encode() + b"\0")
        self._writing.flush()
        while (answer := self._message()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._message())

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def point_at(self, element: str) -> None:
        """Move the mouse to the middle of the element given by a JavaScript expression."""
        box = self.value(f"""(() => {{ const element = {element};
            element.scrollIntoView({{block: "center"}});
            const box = [...element.getClientRects()].at(-1);
            return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def dark(self, *, dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _message(self) -> Any:
        while b"\0" not in self._left:
            piece = os.read(self._reading.fileno(), 1 << 20)
            assert piece, "the browser has gone"
            self._left += piece
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)


def complaints(chromium: Browser) -> list[str]:
    """Return the errors that the browser reports, and the URLs it fetched besides the page."""
    wrong = [e["method"] for e in chromium.events if e["method"].endswith(("entryAdded", "Thrown"))]
    fetched = [e for e in chromium.events if e["method"] == "Network.requestWillBeSent"]
    return wrong + [event["params"]["request"]["url"] for event in fetched[1:]]


def browser_path() -> str:
    """Return the path of a browser, empty if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), "")


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with its profile in this folder; skip the test if there is no browser."""
    path = browser_path()
    if not path:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH")
    to_browser, from_browser = os.pipe(), os.pipe()
    command = [
        *(path, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--remote-debugging-pipe", f"--user-data-dir={profile}", "--no-first-run"),
        *("--disable-background-networking", "--window-size=900,700"),
    ]
    inner = (to_browser[0], from_browser[1])
    process = subprocess.Popen(
        # Chromium reads from descriptor 3 and writes to 4.
        ["bash", "-c", f'exec "$@" 3<&{inner[0]} 4>&{inner[1]}', "-", *command],
        pass_fds=inner,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for descriptor in inner:
        os.close(descriptor)
    try:
        yield Browser(from_browser[0], to_browser[1])
    finally:
        process.terminate()
        process.wait(30)
