"""The event file for TensorBoard, written from the history of a run. Knows no terminal."""

from typing import Any

from charlstm.network.backend import tf
from charlstm.run.folder import RunFolder
from charlstm.run.history import steps_done

LOSSES = ("loss", "smooth_loss", "train_loss", "valid_loss")


class Events:
    """The event file of one training.

    It is written from the whole history and replaces older event files, so that a resumed training
    shows every logged step once, also those logged before the option was used.
    """

    def __init__(self, run: RunFolder, steps: int, max_steps: int | None) -> None:
        self._run = run
        self._steps = steps  # per epoch
        self._max_steps = max_steps
        self._read = 0  # bytes of the history read so far
        self._writer: Any = None

    def follow(self) -> None:
        """Write the lines added to the history since the last call."""
        if self._writer is None:
            self._run.remove_events()
            self._writer = tf.summary.create_file_writer(str(self._run.path))
        lines, self._read = self._run.history(self._read)
        with self._writer.as_default():
            for line in lines:
                for name in LOSSES:
                    if line.get(name) is not None:
                        done = steps_done(line, self._steps)
                        step = min(done, self._max_steps or done)
                        tf.summary.scalar(name, line[name], step=step)
        self._writer.flush()
