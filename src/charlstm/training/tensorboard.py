"""The event file that TensorBoard shows: what the history of a run has. Knows no terminal."""

from typing import Any

from charlstm.network.backend import tf
from charlstm.run.folder import RunFolder
from charlstm.run.history import steps_done

LOSSES = ("loss", "smooth_loss", "train_loss", "valid_loss")


class Events:
    """The event file of one training.

    It begins with all that the history has, and older ones go: so that a training that was resumed
    has no step twice, and all that came before, wherever that was written.
    """

    def __init__(self, run: RunFolder, steps: int, max_steps: int | None) -> None:
        self._run = run
        self._steps = steps  # of an epoch
        self._max_steps = max_steps
        self._read = 0  # bytes of the history
        self._writer: Any = None

    def follow(self) -> None:
        """Write what the history has got since it was read last."""
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
