"""Make the pictures of README and docs/: ``PYTHONPATH=tests python -m bench.pictures CHECKPOINT``.

They are of real runs: CHECKPOINT is that of ``charlstm train input.txt`` on Tiny Shakespeare.
Needs Chromium.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from browser import Browser, browser

DOCS = Path(__file__).parents[1] / "docs"
LARGEST = 200_000  # bytes of a picture


def main() -> None:
    """Write the pictures."""
    checkpoint = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        writer(page, checkpoint, Path(folder))
    for path in DOCS.glob("*.png"):
        if path.stat().st_size > LARGEST:
            sys.exit(f"{path}: larger than {LARGEST:,} bytes")


def writer(page: Browser, checkpoint: str, folder: Path) -> None:
    """Write the picture of the page that writes, narrow, dark and wide; the wide one is kept."""
    made = folder / "page.html"
    command = ["export", checkpoint, "--format", "html", "--precision", "float32", "-o", made]
    subprocess.run([sys.executable, "-m", "charlstm", *map(str, command)], check=True)
    page.open(made)
    ready(page)
    page.value("$('prime').value = 'JULIET:'; $('temperature').value = '0.6'")
    page.value("$('seed').value = '9'; $('length').value = '420'; $('write').click()")
    ready(page, "written.length > 400 && !busy")
    page.value("text.childNodes[written.findIndex((c, i) => i > 80 && c.bits > 1.5)].click()")
    page.picture(DOCS / "writer.png")
    page.dark(dark=True)
    page.picture(folder.parent / "charlstm-dark.png")
    page.dark(dark=False)


def ready(page: Browser, condition: str = "document.body.dataset.state === 'ready'") -> None:
    """Wait for the page."""
    while not page.value(condition):
        time.sleep(0.1)


if __name__ == "__main__":
    main()
