"""Follow the library's folder: take in what was changed by hand or by another server, check it, tell clients."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from typing import NoReturn

import anyio
import anyio.to_thread

from dynasaur_mcp.check import check_kept
from dynasaur_mcp.errors import ActionNotFound, DynasaurError
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.tell import Changed, tell_change
from dynasaur_mcp.types import Broken, Entry, LibraryChanged, Status

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""Between two looks at the folder."""
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
    _broken: list[Broken] = field(default_factory=list)
    _said: set[str] = field(default_factory=set)

    async def follow(self) -> NoReturn:
        while True:
            await self.look()
            await anyio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """One look. What goes wrong is logged once, however often it does."""
        try:
            if change := await anyio.to_thread.run_sync(self.store.refresh):
                await tell_change(change, self.index, self.changed)
            await anyio.to_thread.run_sync(self._name_broken)
            for entry in await anyio.to_thread.run_sync(self.store.unchecked):
                await self._check(entry)
        except DynasaurError as error:
            if str(error) not in self._said:
                logger.warning("%s", error)
            self._said.add(str(error))

    def _name_broken(self) -> None:
        broken = self.store.broken()
        for each in broken:
            if each not in self._broken:
                problems = "; ".join(map(str, each.problems))
                logger.warning("%s in the library is left alone, it is no action: %s", each.file, problems)
        self._broken = broken

    async def _check(self, entry: Entry) -> None:
        used = follow_uses(self.store.get, entry.action.uses).entries
        # Once, and again when what it uses has changed: it may have come after it.
        attempt = (entry.name, entry.version, frozenset((other.name, other.version) for other in used))
        if anyio.current_time() < self._again_at.get(attempt, 0.0):
            return
        # Before the check, which may fail: the next look is for the others.
        self._again_at[attempt] = anyio.current_time() + AGAIN_SECONDS
        try:
            checked = await check_kept(entry, store=self.store, pool=self.pool, require_approval=self.require_approval)
        except ActionNotFound:
            return
        self._again_at[attempt] = math.inf
        if checked.status is Status.DRAFT:
            for failure in checked.tests.failures:
                logger.warning("%s.py in the library: %s", entry.name, failure.strip().splitlines()[0])
        await tell_change(LibraryChanged(self.store.revision, (entry.name,)), self.index, self.changed)
