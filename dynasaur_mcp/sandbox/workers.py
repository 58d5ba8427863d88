"""Workers that have run nothing yet: started ahead, for sessions to take, and for what is tried out and thrown away."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
from anyio.abc import TaskGroup
from opentelemetry.trace import get_tracer

from dynasaur_mcp.errors import SandboxError
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.outlet import Outlet
from dynasaur_mcp.sandbox.session import Session, open_session
from dynasaur_mcp.types import Check, Limits

logger = logging.getLogger(__name__)
_tracer = get_tracer("dynasaur-mcp")

STARTS_PER_CPU = 4
"""Workers that start at once; others wait their turn: all together would keep each other waiting for too long."""

ChooseSandbox = Callable[[], Awaitable[Sandbox]]


class Workers:
    """Those of one sandbox, which is chosen when the first is needed."""

    def __init__(self, choose_sandbox: ChooseSandbox, limits: Limits, warm_workers: int, tasks: TaskGroup) -> None:
        """
        Args:
            warm_workers: How many are kept ready.
            tasks: Where they are started ahead.
        """
        self.limits = limits
        self._choose_sandbox = choose_sandbox
        self._most_warm = warm_workers
        self._tasks = tasks
        self._sandbox: Sandbox | None = None
        self._outlet = Outlet(limits.network) if limits.network else None
        self._choosing = anyio.Lock()
        self._warm: list[Session] = []
        self._checkers: list[Session] = []
        self._in_batch = False
        self._starting = 0
        self._starts = anyio.Semaphore(STARTS_PER_CPU * (os.cpu_count() or 1))

    def warm_ids(self) -> list[str]:
        """Of those that wait for a session."""
        return [session.worker_id for session in self._warm]

    @property
    def sandbox_name(self) -> str:
        """`docker` or `jail`; empty before one was needed."""
        return self._sandbox.name if self._sandbox else ""

    async def check(self, name: str, sources: Mapping[str, str], requirements: tuple[str, ...]) -> Check:
        """Import and test an action in a worker that has run nothing and is ended after; but see `batch`."""
        if not self._in_batch:
            async with self.trial() as session:
                return await session.check(name, sources, requirements)
        session = self._checkers.pop() if self._checkers else await self.take()
        try:
            check = await session.check(name, sources, requirements)
        except BaseException:
            await session.kill()
            raise
        if session.is_as_new and not session.is_lost:
            self._checkers.append(session)
        else:
            await session.kill()
        return check

    @contextlib.asynccontextmanager
    async def trial(self) -> AsyncIterator[Session]:
        """A session of nobody, in a worker that has run nothing and is ended after: what it does reaches no host."""
        session = await self.take()
        try:
            yield session
        finally:
            await session.kill()

    @contextlib.asynccontextmanager
    async def batch(self) -> AsyncIterator[None]:
        """Meanwhile checks share workers, as starting one costs more than most checks.

        Each check is a fork of a process that has run nothing. The worker goes on to the next only if no process lives
        and no file is left; nothing else can be: the filter allows no kernel objects that outlast their process.
        """
        self._in_batch = True
        try:
            yield
        finally:
            self._in_batch = False
            with anyio.CancelScope(shield=True):
                while self._checkers:
                    await self._checkers.pop().kill()

    def warm_up(self) -> None:
        """Begin to start the workers to keep ready."""
        while len(self._warm) + self._starting < self._most_warm:
            self._starting += 1
            self._tasks.start_soon(self._add_warm)

    async def _add_warm(self) -> None:
        try:
            self._warm.append(await self._start())
        except SandboxError as error:
            logger.warning("No worker could be started ahead: %s", error)
        finally:
            self._starting -= 1

    async def take(self) -> Session:
        while self._warm:
            session = self._warm.pop()
            self.warm_up()
            usable = False
            try:
                usable = await session.link.answers()
            finally:
                if not usable:
                    await session.kill()
            if usable:
                return session
        session = await self._start()
        self.warm_up()
        return session

    async def _start(self) -> Session:
        sandbox = await self._sandbox_chosen()
        with _tracer.start_as_current_span("start of a worker", attributes={"dynasaur.sandbox": sandbox.name}):
            async with self._starts:
                return await open_session(sandbox, self.limits, self._outlet)

    async def _sandbox_chosen(self) -> Sandbox:
        async with self._choosing:
            if self._sandbox is None:
                self._sandbox = await self._choose_sandbox()
                await self._sandbox.reap()
            return self._sandbox

    async def aclose(self) -> None:
        """End those that wait, and the sandbox with all others."""
        async with anyio.create_task_group() as tasks:
            for session in self._warm:
                tasks.start_soon(session.kill)
        if self._outlet:
            await self._outlet.aclose()
        if self._sandbox:
            await self._sandbox.aclose()
