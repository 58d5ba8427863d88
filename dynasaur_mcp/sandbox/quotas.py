"""How much of the server each principal may use: sessions, calls a minute, processor time a day.

Processor time is the time for which a principal's code holds a worker, times the CPUs that it may use: measured here,
as what a worker says of itself is user code's to spoil. It is never less than what was really used.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator

from dynasaur_mcp.errors import QuotaExceeded
from dynasaur_mcp.types import Quota

_MINUTE = 60.0
_DAY = 86_400.0


class Quotas:
    """What each has used. A server's own: it begins anew with every start, and a day is one of UTC."""

    def __init__(self, most: Quota, cpus: float, now: Callable[[], float] = time.time) -> None:
        self.most = most
        self._cpus = cpus
        self._now = now
        self._calls: defaultdict[str, deque[float]] = defaultdict(deque)
        self._cpu_seconds: defaultdict[str, float] = defaultdict(float)
        self._day = now() // _DAY

    def admit_call(self, principal: str) -> None:
        """Count a call.

        Raises:
            QuotaExceeded: there were as many within a minute as there may be.
        """
        if not self.most.calls_per_minute:
            return
        now = self._now()
        calls = self._calls[principal]
        while calls and calls[0] <= now - _MINUTE:
            calls.popleft()
        if len(calls) >= self.most.calls_per_minute:
            made = f"You have made {len(calls)} calls within a minute"
            raise QuotaExceeded(made, calls[0] + _MINUTE - now)
        calls.append(now)

    def admit_run(self, principal: str) -> None:
        """Before code runs.

        Raises:
            QuotaExceeded: the day's processor time is used up.
        """
        self._begin_day()
        most = self.most.cpu_seconds_per_day
        if most and self._cpu_seconds[principal] >= most:
            used = f"Your code has used its {most:g} CPU seconds of today"
            raise QuotaExceeded(used, (self._day + 1) * _DAY - self._now())

    @contextlib.contextmanager
    def charge(self, principal: str) -> Iterator[None]:
        """Charge the time that this takes."""
        began = self._now()
        try:
            yield
        finally:
            self._begin_day()
            if self.most.cpu_seconds_per_day:
                self._cpu_seconds[principal] += max(0.0, self._now() - began) * self._cpus

    def _begin_day(self) -> None:
        if (day := math.floor(self._now() / _DAY)) != self._day:
            self._day = day
            self._cpu_seconds.clear()
            self._calls.clear()
