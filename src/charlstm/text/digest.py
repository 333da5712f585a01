"""Digests of bytes that are read in chunks."""

import hashlib
import zlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

PIECE = 2**20  # bytes that are passed on together: to pass on each of many small texts takes longer
AHEAD = 2  # pieces that may wait


class Digest:
    """The SHA-256 of the bytes given to ``update``, computed in a thread of its own."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._thread: ThreadPoolExecutor | None = None
        self._piece: list[bytes] = []
        self._size = 0
        self._pending: deque[Future[None]] = deque()

    def update(self, content: bytes) -> None:
        """Add bytes."""
        self._piece.append(content)
        self._size += len(content)
        if self._size >= PIECE:
            self._thread = self._thread or ThreadPoolExecutor(1)
            self._pending.append(self._thread.submit(self._sha256.update, self._take()))
            self._wait(AHEAD)

    def hexdigest(self) -> str:
        """Return the SHA-256 in hexadecimal."""
        self._wait(0)
        self._sha256.update(self._take())
        return self._sha256.hexdigest()

    def _take(self) -> bytes:
        piece = self._piece[0] if len(self._piece) == 1 else b"".join(self._piece)
        self._piece, self._size = [], 0
        return piece

    def _wait(self, most: int) -> None:
        """Wait until at most so many pieces are pending."""
        while len(self._pending) > most:
            self._pending.popleft().result()


class Checksum:
    """The CRC-32 of the bytes given to ``update``."""

    def __init__(self) -> None:
        self.value = 0

    def update(self, content: bytes) -> None:
        """Add bytes."""
        self.value = zlib.crc32(content, self.value)
