"""Workers ready to use, and sessions by (principal, name): who holds what, how many, for how long."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import anyio
from anyio.abc import TaskGroup

from dynasaur_mcp.errors import SandboxError, SandboxUnavailable, SessionNotFound, SessionsFull, WorkerLost
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.types import Check, Limits

logger = logging.getLogger(__name__)

DEFAULT_SESSION = "default"
_LOOK_SECONDS = 30.0
"""Between two looks for idle sessions."""

ChooseSandbox = Callable[[], Awaitable[Sandbox]]


class _Place:
    """A session's name, its lock, and the session once there is one."""

    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.session: Session | None = None


class Pool:
    """Use `open_pool`."""

    def __init__(
        self,
        choose_sandbox: ChooseSandbox,
        limits: Limits,
        *,
        sessions: int,
        session_idle_seconds: float,
        warm_workers: int,
        tasks: TaskGroup,
    ) -> None:
        self.limits = limits
        self._choose_sandbox = choose_sandbox
        self._most_sessions = sessions
        self._idle_seconds = session_idle_seconds
        self._most_warm = warm_workers
        self._tasks = tasks
        self._sandbox: Sandbox | None = None
        self._choosing = anyio.Lock()
        self._places: dict[tuple[str, str], _Place] = {}
        self._warm: list[Session] = []
        self._starting = 0

    @contextlib.asynccontextmanager
    async def session(
        self, principal: str, name: str = DEFAULT_SESSION, *, create: bool = True
    ) -> AsyncIterator[Session]:
        """The principal's session of that name, for one caller at a time; others wait.

        Raises:
            SessionNotFound: there is none and `create` is false.
            SessionsFull: there is none and no more may be opened.
            SandboxUnavailable
        """
        key = (principal, name)
        if key not in self._places:
            if not create:
                raise SessionNotFound(self._explain_unknown(principal, name))
            if len(self._places) >= self._most_sessions:
                raise SessionsFull(
                    f"All {self._most_sessions} sessions are in use: {', '.join(self.session_names(principal))}. "
                    "Use one of them; idle ones are closed after a while."
                )
        place = self._places.setdefault(key, _Place())
        try:
            async with place.lock:
                if place.session is None or place.session.is_lost:
                    place.session = None
                    place.session = await self._take()
                    place.session.principal, place.session.name = principal, name
                yield place.session
        finally:
            # The next call under this name starts anew. Those who wait for the lock hold this very place: the last
            # of them gives it up, also one cancelled before its turn.
            unused = place.session is None or place.session.is_lost
            if unused and not place.lock.locked() and self._places.get(key) is place:
                del self._places[key]

    def session_names(self, principal: str) -> list[str]:
        return sorted(name for owner, name in self._places if owner == principal)

    async def check(self, name: str, sources: Mapping[str, str], requirements: tuple[str, ...]) -> Check:
        """Import and test an action in a worker that has run nothing and is ended after."""
        session = await self._take()
        try:
            return await session.check(name, sources, requirements)
        finally:
            await session.kill()

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

    async def _take(self) -> Session:
        while self._warm:
            session = self._warm.pop()
            self.warm_up()
            usable = False
            try:
                usable = await session.answers()
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
        session = Session(await sandbox.start(), self.limits, sandbox.packages)
        try:
            await session.wait_ready()
        except WorkerLost as error:
            await session.kill()
            raise SandboxUnavailable(f"A {sandbox.name} worker did not start: {error}") from error
        except BaseException:
            await session.kill()
            raise
        return session

    async def _sandbox_chosen(self) -> Sandbox:
        async with self._choosing:
            if self._sandbox is None:
                self._sandbox = await self._choose_sandbox()
                await self._sandbox.reap()
            return self._sandbox

    async def _close_idle(self) -> None:
        while True:
            await anyio.sleep(min(_LOOK_SECONDS, self._idle_seconds))
            for key, place in list(self._places.items()):
                session = place.session
                if session and not place.lock.locked() and time.monotonic() - session.used_at > self._idle_seconds:
                    del self._places[key]
                    await session.kill()

    async def _close(self) -> None:
        everyone = [*self._warm, *(place.session for place in self._places.values() if place.session)]
        async with anyio.create_task_group() as tasks:
            for session in everyone:
                tasks.start_soon(session.kill)
        if self._sandbox:
            await self._sandbox.aclose()

    def _explain_unknown(self, principal: str, name: str) -> str:
        names = ", ".join(map(repr, self.session_names(principal))) or "none yet"
        return f"No session named {name!r}. Open sessions: {names}. run_python(session={name!r}) opens it."


@contextlib.asynccontextmanager
async def open_pool(
    choose_sandbox: ChooseSandbox,
    limits: Limits,
    *,
    sessions: int = 16,
    session_idle_seconds: float = 1800.0,
    warm_workers: int = 1,
) -> AsyncIterator[Pool]:
    """A pool whose sandbox is chosen on first use, and whose workers all end with it."""
    async with anyio.create_task_group() as tasks:
        pool = Pool(
            choose_sandbox,
            limits,
            sessions=sessions,
            session_idle_seconds=session_idle_seconds,
            warm_workers=warm_workers,
            tasks=tasks,
        )
        tasks.start_soon(pool._close_idle)
        try:
            yield pool
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await pool._close()
