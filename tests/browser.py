"""A real browser without a window: headless Chromium."""

import base64
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from charlstm.export.chromium import NAMES, Tab, chromium_path


class Browser(Tab):
    """One tab, with what a user does in it."""

    def __init__(self, path: str, profile: Path) -> None:
        super().__init__(path, profile)
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, path: Path) -> None:
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self.message())

    def point_at(self, element: str) -> None:
        """Move the mouse to the middle of the element given by a JavaScript expression."""
        box = self.value(f"""(() => {{ const element = {element};
            element.scrollIntoView({{block: "center"}});
            const box = [...element.getClientRects()].at(-1);
            return [box.x + box.width / 2, box.y + box.height / 2]; }})()""")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def columns(self, elements: str) -> list[float]:
        """Return the left edge of each element of an array in JavaScript."""
        edges = f"Array.from({elements}, (element) => element.getBoundingClientRect().x)"
        return list(self.value(edges))

    def dark(self, *, dark: bool) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


def complaints(chromium: Browser) -> list[str]:
    """Return the errors that the browser reports, and the URLs it fetched besides the page."""
    wrong = [e["method"] for e in chromium.events if e["method"].endswith(("entryAdded", "Thrown"))]
    fetched = [e for e in chromium.events if e["method"] == "Network.requestWillBeSent"]
    return wrong + [event["params"]["request"]["url"] for event in fetched[1:]]


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Start a browser with its profile in this folder; skip the test if there is no browser."""
    path = chromium_path()
    if not path:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on PATH")
    with closing(Browser(path, profile)) as found:
        yield found
