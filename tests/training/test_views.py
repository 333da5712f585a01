"""The plot of the losses when epochs are shorter than drawing it takes."""

from pathlib import Path

import pytest

from charlstm.run.folder import HISTORY, RunFolder
from charlstm.run.history import Epoch
from charlstm.training import views


def epoch_line(epoch: int) -> dict[str, object]:
    return {"kind": "epoch", "epoch": epoch, "train_loss": 1.0, "valid_loss": 1.0}


def test_drawing_takes_at_most_5_percent_of_the_time_and_shows_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    now = 100.0
    drawn: list[int] = []

    def draw(epochs: list[Epoch]) -> bytes:
        nonlocal now
        now += 1
        drawn.append(len(epochs))
        return b"png"

    monkeypatch.setattr(views, "monotonic", lambda: now)
    monkeypatch.setattr(views, "loss_png", draw)
    both = views.Views(run, None)
    for epoch in range(1, 2001):
        now += 0.1
        run.append_history(epoch_line(epoch))
        assert not list(both.after_epoch())
    assert drawn[0] == 1  # the first plot is drawn at once
    assert 8 < len(drawn) <= 1 + 0.05 * (now - 100)
    assert not list(both.at_end())
    assert drawn[-1] == 2000


def test_only_new_lines_of_a_history_are_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in range(1, 4):
        run.append_history(epoch_line(epoch))
    assert [epoch.epoch for epoch in run.finished_epochs()] == [1, 2, 3]
    history = tmp_path / HISTORY
    history.write_bytes(b"." * history.stat().st_size)  # reading it again would find no epochs
    run.append_history(epoch_line(4))
    assert [epoch.epoch for epoch in run.finished_epochs()] == [1, 2, 3, 4]
