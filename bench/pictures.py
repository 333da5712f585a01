"""Make the pictures of docs/: ``PYTHONPATH=tests python -m bench.pictures CHECKPOINT TEXT``.

They are of real runs: CHECKPOINT is the run of ``charlstm train input.txt`` on Tiny Shakespeare,
and TEXT that text. Needs Chromium.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from browser import Browser, browser
from matplotlib.figure import Figure

import charlstm
from charlstm.text.opening import demo_text

DOCS = Path(__file__).parents[1] / "docs"
LARGEST = 200_000  # bytes of a picture
LAST = 200_000  # characters of the text in which units are looked for
HELD_OUT = 71_540  # characters at its end, on which no option of --adapt was chosen
OTHER = 100_000  # characters of Python's help
MEAN = 2_000  # characters of the moving mean of a curve


def main() -> None:
    """Write the pictures."""
    checkpoint, text = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder, browser(Path(folder) / "profile") as page:
        writer(page, checkpoint, Path(folder))
        neurons(page, checkpoint, text, Path(folder))
        surprisal(page, checkpoint, Path(folder))
    adaptation(checkpoint, text)
    shutil.copy(Path(checkpoint) / "loss.png", DOCS)
    for path in DOCS.glob("*.png"):
        if path.stat().st_size > LARGEST:
            sys.exit(f"{path}: larger than {LARGEST:,} bytes")


def writer(page: Browser, checkpoint: str, folder: Path) -> None:
    """Draw the page that writes, with what else could stand at a place."""
    made = folder / "page.html"
    options = ["--format", "html", "--precision", "float32"]
    run("export", checkpoint, *options, "-o", made)
    page.open(made)
    wait(page, "document.body.dataset.state === 'ready'")
    page.value("$('prime').value = 'JULIET:'; $('temperature').value = '0.6'")
    page.value("$('seed').value = '9'; $('length').value = '420'; $('write').click()")
    wait(page, "written.length > 400 && !busy")
    page.value("text.childNodes[written.findIndex((c, i) => i > 80 && c.bits > 1.5)].click()")
    page.picture(DOCS / "writer.png")


def neurons(page: Browser, checkpoint: str, text: str, folder: Path) -> None:
    """Draw the unit that tracks the position in the line best."""
    (folder / "last.txt").write_text(Path(text).read_text("utf-8")[-LAST:], "utf-8")
    run("neurons", checkpoint, folder / "last.txt", "--html", folder / "neurons.html")
    page.open(folder / "neurons.html")
    page.value("document.querySelector('h1').textContent = 'What the units track'")
    page.picture(DOCS / "neurons.png")


def surprisal(page: Browser, checkpoint: str, folder: Path) -> None:
    """Draw the scene of the tutorial, shaded by surprisal."""
    scene = re.search(r"cat > scene.txt << 'END'\n(.*?)END\n", tutorial(), re.DOTALL)
    assert scene
    (folder / "scene.txt").write_text(scene[1])
    run("score", checkpoint, folder / "scene.txt", "--html", folder / "scene.html")
    size = {"width": 620, "height": 460, "deviceScaleFactor": 2, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    page.open(folder / "scene.html")
    page.value("document.querySelector('h1').textContent = 'scene.txt'")
    place = scene[1].index("noon") + 2  # the model expected "no" to end there
    page.point_at(f"document.getElementById('text').children[{place}]")
    page.picture(DOCS / "surprisal.png")


def adaptation(checkpoint: str, text: str) -> None:
    """Plot bits per character along two texts, static and with --adapt."""
    model = charlstm.load(checkpoint)
    help_text = demo_text().stream.read().decode()
    texts = {
        "the end of Tiny Shakespeare, held out": Path(text).read_text("utf-8")[-HELD_OUT:],
        "Python's help": help_text[:OTHER],
    }
    figure = Figure((10, 3.6), dpi=80, layout="constrained")
    for axes, (name, read) in zip(figure.subplots(1, len(texts)), texts.items(), strict=True):
        for adapt, label in ((False, "static"), (True, "--adapt")):
            score = model.score(read, guesses=1, adapt=adapt, unknown="skip")
            assert score.details
            bits = score.details.nats[1:] / np.log(2)
            curve = np.convolve(bits, np.full(MEAN, 1 / MEAN), "valid")
            axes.plot(MEAN + np.arange(len(curve)), curve, label=label, linewidth=1.2)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel("characters read")
        axes.set_ylim(bottom=0)
        axes.grid(color="#e4e4e4")
    figure.axes[0].set_ylabel(f"bits per character, mean of {MEAN:,}")
    figure.axes[1].legend(fontsize=9)
    figure.savefig(DOCS / "adaptation.png")


def tutorial() -> str:
    """Return the text of the tutorial."""
    return (DOCS / "tutorial.md").read_text("utf-8")


def run(*arguments: str | Path) -> None:
    """Run the program."""
    subprocess.run([sys.executable, "-m", "charlstm", *map(str, arguments)], check=True)


def wait(page: Browser, condition: str) -> None:
    """Wait until a JavaScript expression is true."""
    while not page.value(condition):
        time.sleep(0.1)


if __name__ == "__main__":
    main()
