"""Chromium without a window, controlled through a pipe by the Chrome DevTools Protocol.

Messages are JSON, each ended by NUL. Source: https://chromedevtools.github.io/devtools-protocol.
"""

import itertools
import json
import os
import select
import shutil
import subprocess
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    "--headless",
    "--no-sandbox",  # which containers lack; only pages that charlstm wrote are opened
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--remote-debugging-pipe",
    "--window-size=900,700",
)
PIECE = 1 << 20  # bytes read at a time
SECONDS = 60.0  # to wait for a message


def chromium_path() -> str:
    """Return the path of a browser on PATH, empty if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), "") if shutil.which("bash") else ""


class Tab:
    """An empty page in a browser that is started for it, with its profile in this folder.

    Every method raises EOFError if the browser has ended, or says nothing for a minute.
    """

    def __init__(self, path: str, profile: Path) -> None:
        to_browser, from_browser = os.pipe(), os.pipe()
        inner = (to_browser[0], from_browser[1])
        # Chromium reads from descriptor 3 and writes to 4.
        exchange = f'exec "$@" 3<&{inner[0]} 4>&{inner[1]}'
        self._process = subprocess.Popen(  # noqa: S603 - a browser from PATH, with our own options
            ["bash", "-c", exchange, "-", path, *OPTIONS, f"--user-data-dir={profile}"],  # noqa: S607
            pass_fds=inner,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for descriptor in inner:
            os.close(descriptor)
        self._reading, self._writing = from_browser[0], to_browser[1]
        self._numbers = itertools.count(1)
        self._session: dict[str, str] = {}
        self._left = b""
        self.events: list[dict[str, Any]] = []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        except BaseException:
            self.close()
            raise
        self._session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol and return its result; keep the events until then."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters, **self._session}
        content = json.dumps(message).encode() + b"\0"
        try:
            while content:
                content = content[os.write(self._writing, content) :]
        except BrokenPipeError:
            raise EOFError("the browser has ended") from None
        while (answer := self.message()).get("id") != number:
            self.events.append(answer)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']['message']}")
        return answer["result"]

    def value(self, expression: str) -> Any:
        """Return the value of a JavaScript expression; raise RuntimeError with what it throws."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["result"].get("description", "JavaScript failed"))
        return found["result"].get("value")

    def message(self) -> dict[str, Any]:
        """Wait for a message, and return it."""
        pieces = [self._left]
        while b"\0" not in pieces[-1]:
            ready, _, _ = select.select([self._reading], [], [], SECONDS)
            piece = os.read(self._reading, PIECE) if ready else b""
            if not piece:
                raise EOFError("the browser has ended" if ready else "the browser says nothing")
            pieces.append(piece)
        content, _, self._left = b"".join(pieces).partition(b"\0")
        return dict(json.loads(content))

    def close(self) -> None:
        """End the browser."""
        os.close(self._writing)
        os.close(self._reading)
        self._process.kill()
        self._process.wait()
