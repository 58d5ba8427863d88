"""What a job prints, as text and up to a cap."""

from __future__ import annotations

import codecs


class Printed:
    """One output stream: decoded with replacement, kept up to a cap, the rest counted."""

    def __init__(self, cap_bytes: int) -> None:
        self.dropped = 0
        self._left = cap_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def take(self, data: bytes) -> str:
        kept = data[: self._left]
        self._left -= len(kept)
        self.dropped += len(data) - len(kept)
        return self._decoder.decode(kept)

    def finish(self) -> str:
        return self._decoder.decode(b"", final=True)
