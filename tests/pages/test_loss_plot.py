"""The loss plot, tested by its pixels."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL, Run, environment

from charlstm.pages.loss_plot import TRAIN, VALID, loss_png
from charlstm.run.history import Epoch

TWENTY = [Epoch(n, 3 - n / 10, 2.8 - n / 20 + (n / 16) ** 4, 1.0, 1.0) for n in range(1, 21)]


def places(png: bytes, color: str) -> set[tuple[int, int]]:
    """Return the row and column of each pixel with this colour."""
    from matplotlib.image import imread

    pixels = (imread(io.BytesIO(png))[..., :3] * 255).round().astype(int)
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return {(row, column) for row, column in np.argwhere((pixels == wanted).all(axis=-1)).tolist()}


def middle(found: set[tuple[int, int]], left: int, right: int) -> float:
    rows = [row for row, column in found if left <= column < right and row > 50]
    return sum(rows) / len(rows)


def test_the_curves_follow_the_losses() -> None:
    png = loss_png(TWENTY)
    train, valid = places(png, TRAIN), places(png, VALID)
    starts = [middle(found, 80, 120) for found in (train, valid)]
    ends = [middle(found, 820, 860) for found in (train, valid)]
    best = middle(valid, 480, 520)  # rows count from above
    assert starts[0] < starts[1] < best
    assert ends[0] > ends[1]
    assert ends[1] < best


@pytest.mark.parametrize(
    "epochs", [[], TWENTY[:1], TWENTY[:2], TWENTY * 50, [Epoch(1, None, None, None, None)]]
)
def test_any_history_can_be_plotted(epochs: list[Epoch]) -> None:
    assert loss_png(epochs).startswith(b"\x89PNG")


def test_without_validation_there_is_one_curve_and_no_best_epoch() -> None:
    assert not places(loss_png([Epoch(e.epoch, e.train_loss, None, 1, 1) for e in TWENTY]), VALID)


def test_plotting_is_silent_and_ignores_matplotlib_settings(tmp_path: Path) -> None:
    """Neither a read-only home folder nor settings for LaTeX and another backend matter."""
    (tmp_path / "file").touch()
    (tmp_path / "matplotlibrc").write_text("text.usetex: true\nfigure.dpi: 10\nlines.color: red\n")
    script = (
        "import sys; from charlstm.run.history import Epoch;"
        "from charlstm.pages.loss_plot import loss_png;"
        "sys.stdout.buffer.write(loss_png([Epoch(1, 2.0, 2.5, 1.0, 1.0)]));"
        "assert 'matplotlib.pyplot' not in sys.modules and 'tensorflow' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(MPLCONFIGDIR=str(tmp_path / "file"), MPLBACKEND="tkagg"),
        capture_output=True,
        check=True,
    )
    assert done.stderr == b""
    assert done.stdout == loss_png([Epoch(1, 2.0, 2.5, 1.0, 1.0)])


def test_a_failed_plot_is_a_note_and_training_continues(
    charlstm: Run, words: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> bytes:
        raise ImportError("a broken\nlibrary")

    monkeypatch.setattr("charlstm.training.views.loss_png", broken)
    done = charlstm("train", words, *SMALL, *"--max-steps 2".split())
    assert done.returncode == 0, done.stderr.decode()
    assert "\nnote:    cannot draw loss.png: a broken library\n" in done.stderr.decode()
    assert done.stdout == b"checkpoints/words/epoch-001.weights.h5\n"
    assert not (words.parent / "checkpoints/words/loss.png").exists()
