"""The end of a job at the limits' hands."""

from __future__ import annotations

import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dynasaur_mcp.sandbox.worker.process import Process


class Stop:
    """Ending a job: SIGINT at the deadline or when asked, SIGKILL after the grace."""

    def __init__(self, process: Process, deadline: float, grace_seconds: float) -> None:
        self.reason = ""
        self.killed = False
        self.next_at = deadline
        self._process = process
        self._grace_seconds = grace_seconds

    def begin(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            self._process.signal(signal.SIGINT)
            self.next_at = time.monotonic() + self._grace_seconds

    def kill(self, reason: str) -> None:
        self.reason = self.reason or reason
        self.killed = True
        self._process.signal(signal.SIGKILL)
        self.next_at = time.monotonic() + self._grace_seconds

    def proceed(self) -> None:
        if time.monotonic() < self.next_at:
            return
        if self.reason:
            self.kill(self.reason)
        else:
            self.begin("timeout")
