"""A process of the sandbox, held by a descriptor, so that its number never comes to mean another.

gVisor's kernel may have no such descriptors. There the number is all there is, and the end is looked for.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

from dynasaur_mcp.sandbox.worker.usage import is_asleep, is_zombie

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket

LOOK_SECONDS = 0.005
_SLEEP_SECONDS = 0.05
"""Between two looks at whether it sleeps."""
_MOST_ASLEEP = 40
"""Looks in a row, 2 s."""


class Process:
    """A process that runs now, or is over, and then perhaps reaped."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.descriptor = -1
        """Readable once it has ended; negative where the kernel has no such thing, and after `close`."""
        self._is_open = True
        try:
            self.descriptor = os.pidfd_open(pid)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ESRCH):
                raise
            self._is_open = error.errno == errno.ENOSYS

    def has_ended(self, within_seconds: float = 0) -> bool:
        if self.descriptor >= 0:
            poll = select.poll()
            poll.register(self.descriptor, select.POLLIN)
            return bool(poll.poll(within_seconds * 1000))
        deadline = time.monotonic() + within_seconds
        while self._is_open and not is_zombie(self.pid):
            if time.monotonic() >= deadline:
                return False
            time.sleep(LOOK_SECONDS)
        return True

    def answers(self, stream: socket, within_seconds: float) -> bool:
        """Whether something comes there, which it is to send. Sooner than that time it is given up if it sleeps all the
        while: one that has too little of a processor does not."""
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        deadline = time.monotonic() + within_seconds
        asleep = 0
        while not poll.poll(_SLEEP_SECONDS * 1000):
            asleep = asleep + 1 if is_asleep(self.pid) else 0
            if asleep >= _MOST_ASLEEP or time.monotonic() > deadline:
                return False
        return True

    def signal(self, number: int) -> None:
        """Nothing happens where it is over or was closed."""
        with contextlib.suppress(ProcessLookupError):
            if self.descriptor >= 0:
                signal.pidfd_send_signal(self.descriptor, number)
            elif self._is_open:
                os.kill(self.pid, number)

    def close(self, seconds: float) -> None:
        """Wait for its end, if it takes no longer, and let go of it."""
        self.has_ended(seconds)
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1
        self._is_open = False
