"""Follow the library's folder: take in what was changed by hand or by another server, check it, tell clients."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import NoReturn

import anyio
import anyio.to_thread

from dynasaur_mcp.check import check_kept
from dynasaur_mcp.errors import ActionNotFound, DynasaurError, SandboxUnavailable
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.tell import Changed, tell_change
from dynasaur_mcp.types import Broken, Entry, LibraryChanged, Status

logger = logging.getLogger(__name__)

NEWS_SECONDS = 0.4
"""Between two looks at what other servers did: their clients hear of it within a second."""
LOOK_SECONDS = 1.0
"""Between two looks at the folder."""
LOOK_SHARE = 0.05
"""Of the time goes into looking at most: a folder of a hundred thousand files takes half a second. One whose looks are
few, not for a busy processor but for its size, is watched too."""
AGAIN_SECONDS = 30.0
"""Between two tries to check one version where no sandbox can be started."""


@dataclass(slots=True, kw_only=True)
class Follower:
    """What is followed, and what was said and tried before: nothing is logged or checked every second."""

    store: Store
    index: Index
    pool: Pool
    require_approval: bool
    changed: Changed
    _again_at: dict[object, float] = field(default_factory=dict)
    """Of each version tried: when to try it again."""
    _checked_revision: int = -1
    _no_sandbox_until: float = 0.0
    _broken: list[Broken] = field(default_factory=list)
    _said: set[str] = field(default_factory=set)
    _look_cpu_seconds: float = 0.0
    """What the last look took of the processor."""
    _is_watching: bool = False

    async def follow(self) -> NoReturn:
        async with anyio.create_task_group() as tasks:
            # Side by side: neither many new files nor many checks hold up the news of other servers.
            tasks.start_soon(self._keep_looking)
            for do in (self._tell, self._check_all):
                tasks.start_soon(self._repeat, do)
        raise AssertionError("follows until it is cancelled")

    async def look(self) -> None:
        """Everything once."""
        for do in (self._look, self._tell, self._check_all):
            await self._try(do)

    async def _repeat(self, do: Callable[[], Awaitable[None]]) -> NoReturn:
        while True:
            await self._try(do)
            await anyio.sleep(NEWS_SECONDS)

    async def _keep_looking(self) -> NoReturn:
        async with anyio.create_task_group() as tasks:
            while True:
                began = anyio.current_time()
                await self._try(self._look)
                rest = (anyio.current_time() - began) / LOOK_SHARE
                if self._look_cpu_seconds / LOOK_SHARE > LOOK_SECONDS and not self._is_watching:
                    self._is_watching = True
                    tasks.start_soon(self._try, self._watch)
                await anyio.sleep(max(LOOK_SECONDS, rest))
        raise AssertionError("looks until it is cancelled")

    async def _try(self, do: Callable[[], Awaitable[None]]) -> None:
        """What goes wrong is logged once, however often it does."""
        try:
            await do()
        except DynasaurError as error:
            if str(error) not in self._said:
                logger.warning("%s", error)
            self._said.add(str(error))

    async def _look(self) -> None:
        self._look_cpu_seconds = await anyio.to_thread.run_sync(_time_cpu, self.store.look)
        await anyio.to_thread.run_sync(self._name_broken)

    async def _watch(self) -> None:
        stop = threading.Event()
        changes = self.store.watch(stop)
        thread = anyio.CapacityLimiter(1)
        try:
            # Left to itself when this is cancelled: it looks at `stop` several times a second.
            while await anyio.to_thread.run_sync(_go_on, changes, abandon_on_cancel=True, limiter=thread):
                await anyio.to_thread.run_sync(self._name_broken)
        finally:
            stop.set()
            self._is_watching = False

    async def _tell(self) -> None:
        if change := await anyio.to_thread.run_sync(self.store.news):
            await tell_change(change, self.index, self.changed)

    async def _check_all(self) -> None:
        """Those without schemas, again only when something has changed. Clients are told every so often."""
        revision = self.store.revision
        if revision == self._checked_revision or anyio.current_time() < self._no_sandbox_until:
            return
        checked: list[str] = []
        tell_at = anyio.current_time() + LOOK_SECONDS
        try:
            for name in await anyio.to_thread.run_sync(self.store.unchecked):
                with contextlib.suppress(ActionNotFound):  # it is gone meanwhile
                    if await self._check(self.store.get(name)):
                        checked.append(name)
                if checked and anyio.current_time() >= tell_at:
                    await self._tell_checked(checked)
                    tell_at = anyio.current_time() + LOOK_SECONDS
            self._checked_revision = revision
        except SandboxUnavailable:
            self._no_sandbox_until = anyio.current_time() + AGAIN_SECONDS
            raise
        finally:
            if checked:
                await self._tell_checked(checked)

    async def _tell_checked(self, names: list[str]) -> None:
        await tell_change(LibraryChanged(self.store.revision, tuple(names)), self.index, self.changed)
        names.clear()

    def _name_broken(self) -> None:
        broken = self.store.broken()
        for each in broken:
            if each not in self._broken:
                problems = "; ".join(map(str, each.problems))
                logger.warning("%s in the library is left alone, it is no action: %s", each.file, problems)
        self._broken = broken

    async def _check(self, entry: Entry) -> bool:
        """Whether anything came of it. Once, and again when what it uses has changed: it may have come after it."""
        used = follow_uses(self.store.get, entry.action.uses).entries
        attempt = (entry.name, entry.version, frozenset((other.name, other.version) for other in used))
        if entry.schemas or anyio.current_time() < self._again_at.get(attempt, 0.0):
            return False
        # Before the check, which may fail: the next look is for the others.
        self._again_at[attempt] = anyio.current_time() + AGAIN_SECONDS
        checked = await check_kept(entry, store=self.store, pool=self.pool, require_approval=self.require_approval)
        self._again_at[attempt] = math.inf
        if checked.status is Status.DRAFT:
            for failure in checked.tests.failures:
                logger.warning("%s.py in the library: %s", entry.name, failure.strip().splitlines()[0])
        return True


def _time_cpu(do: Callable[[], object]) -> float:
    """Seconds of the processor that it takes, in this thread."""
    began = time.thread_time()
    do()
    return time.thread_time() - began


def _go_on(steps: Iterator[None]) -> bool:
    """Whether there was another."""
    return next(steps, "end") is None
