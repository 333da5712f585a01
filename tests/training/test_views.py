"""The picture of the losses, where epochs are shorter than it takes to draw it."""

from pathlib import Path

import pytest

from charlstm.run.folder import HISTORY, RunFolder
from charlstm.run.history import Epoch
from charlstm.training import views


def epoch_line(epoch: int) -> dict[str, object]:
    return {"kind": "epoch", "epoch": epoch, "train_loss": 1.0, "valid_loss": 1.0}


def test_drawing_takes_a_twentieth_of_the_time_and_shows_the_end(
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
    assert drawn[0] == 1  # at once, so that there is one
    assert 8 < len(drawn) <= 1 + 0.05 * (now - 100)
    assert not list(both.at_end())
    assert drawn[-1] == 2000


def test_of_a_history_only_what_is_new_is_read(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for epoch in range(1, 4):
        run.append_history(epoch_line(epoch))
    assert [epoch.epoch for epoch in run.finished_epochs()] == [1, 2, 3]
    history = tmp_path / HISTORY
    history.write_bytes(b"." * history.stat().st_size)  # which would not be an epoch any more
    run.append_history(epoch_line(4))
    assert [epoch.epoch for epoch in run.finished_epochs()] == [1, 2, 3, 4]
