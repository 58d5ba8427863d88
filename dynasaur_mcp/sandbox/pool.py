"""Sessions by (principal, name): who holds what, how many, for how long."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime

import anyio
from opentelemetry.trace import get_tracer

from dynasaur_mcp.errors import CLOSE_SESSION, QuotaExceeded, SessionExists, SessionNotFound, SessionsFull
from dynasaur_mcp.sandbox.quotas import Quotas
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.sandbox.workers import ChooseSandbox, Workers
from dynasaur_mcp.types import Limits, Quota

_tracer = get_tracer("dynasaur-mcp")

DEFAULT_SESSION = "default"
_LOOK_SECONDS = 30.0
"""Between two looks for idle sessions."""
_REMEMBERED_ENDS = 256
_LOST = "lost its worker"
_NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True)
class Held:
    """A session, for those who ask what is open."""

    principal: str
    name: str
    worker: str
    """Its id in the sandbox; several sessions may have the same, when one was forked from the other."""
    is_busy: bool
    idle_seconds: float
    memory_bytes: int | None
    """Of its interpreter; None while it is busy."""


class _Place:
    """A session's name, its lock, and the session once there is one."""

    def __init__(self) -> None:
        self.lock = anyio.Lock(fast_acquire=True)
        self.session: Session | None = None


class Pool:
    """Use `open_pool`."""

    def __init__(self, workers: Workers, quotas: Quotas, *, sessions: int, session_idle_seconds: float) -> None:
        self.workers = workers
        self.quotas = quotas
        self.on_files: Callable[[str, str, Collection[str]], None] = lambda *_: None
        """Called with principal and session, as paths in it are written from outside, or all is gone with it; must
        return at once."""
        self._most_sessions = sessions
        self._idle_seconds = session_idle_seconds
        self._places: dict[tuple[str, str], _Place] = {}
        self._ends: dict[tuple[str, str], str] = {}
        self._ids: dict[tuple[str, str], str] = {}

    @contextlib.asynccontextmanager
    async def session(
        self, principal: str, name: str = DEFAULT_SESSION, *, create: bool = True
    ) -> AsyncIterator[Session]:
        """The principal's session of that name, for one caller at a time; others wait.

        Raises:
            SessionNotFound: there is none and `create` is false.
            SessionsFull: there is none and no more may be opened.
            QuotaExceeded: there is none and the principal holds as many as it may.
            SandboxUnavailable
        """
        key = (principal, name)
        if key not in self._places:
            if not create:
                raise SessionNotFound(name, self.session_names(principal))
            self._check_room(principal)
        place = self._places.setdefault(key, _Place())
        try:
            with _tracer.start_as_current_span("session", attributes={"dynasaur.session": name}):
                async with place.lock:
                    if place.session and place.session.is_lost:
                        await self._give_up(key, place, _LOST)
                    if place.session is None:
                        self._lend(await self.workers.take(), key, place)
                    assert place.session
                    async with place.session.link.lock:
                        with self.quotas.charge(principal):
                            yield place.session
        finally:
            # The next call under this name starts anew. Those who wait for the lock hold this very place: the last
            # of them gives it up, also one cancelled before its turn.
            unused = place.session is None or place.session.is_lost
            if unused and not place.lock.locked() and self._places.get(key) is place:
                del self._places[key]
                if place.session:
                    self._note_end(key, _LOST)

    async def fork(self, principal: str, name: str, copy: str) -> None:
        """Open session `copy` with the state and the files that `name` has now. From then on they are apart.

        Raises:
            SessionNotFound, SessionsFull, SessionNotCopied, QuotaExceeded
            SessionExists: there is a `copy` already.
            SandboxError
        """
        async with self.session(principal, name, create=False) as session:
            if (principal, copy) in self._places:
                hint = f"Choose another name, or close it: manage_action(op='close_session', name={copy!r})"
                raise SessionExists(f"A session named {copy!r} is open. {hint}.")
            self._check_room(principal)
            place = self._places[principal, copy] = _Place()
            try:
                async with place.lock:
                    self._lend(await session.fork(), (principal, copy), place)
            finally:
                if place.session is None:
                    del self._places[principal, copy]

    async def close_session(self, principal: str, name: str) -> None:
        """End a session, with its variables and files, when what it is at has ended.

        Raises:
            SessionNotFound
        """
        async with self.session(principal, name, create=False) as session:
            # Whoever waits for it opens a new one.
            self._places[principal, name].session = None
            self._note_end((principal, name), "was closed")
            await session.close()

    def identify(self, principal: str, name: str) -> str:
        """Which session of that name it is, open or about to be: an id that begins with the time when it began.

        No other session of any server has it. One that had to begin anew for want of its worker keeps it: to whoever
        works there it is the same one.
        """
        key = (principal, name)
        if key not in self._ids:
            self._ids[key] = f"{datetime.now(UTC).isoformat()}/{secrets.token_hex(4)}"
        return self._ids[key]

    async def held(self) -> list[Held]:
        """All open sessions, of all principals."""
        found = []
        for (principal, name), place in list(self._places.items()):
            session = place.session
            if session is None or session.is_lost:
                continue
            memory = None
            if not (is_busy := place.lock.locked() or session.link.lock.locked()):
                async with session.link.lock:
                    memory = await session.measure()
            idle = 0.0 if is_busy else time.monotonic() - session.used_at
            found.append(Held(principal, name, session.worker_id, is_busy, idle, memory))
        return found

    def _lend(self, session: Session, key: tuple[str, str], place: _Place) -> None:
        session.principal, session.name = key
        self.identify(*key)
        session.news = (self._ends.pop(key),) if key in self._ends else ()
        place.session = session

    async def _give_up(self, key: tuple[str, str], place: _Place, why: str) -> None:
        assert place.session
        self._note_end(key, why)
        session, place.session = place.session, None
        await session.close()

    def _note_end(self, key: tuple[str, str], why: str) -> None:
        """For whoever opens a session of that name next, and may think it is the old one."""
        if why is not _LOST:
            self._ids.pop(key, None)
        self.on_files(*key, ())
        self._ends[key] = f"This is a new session {key[1]!r}: the one before {why}, its variables and files are gone."
        if len(self._ends) > _REMEMBERED_ENDS:
            self._ends.pop(next(iter(self._ends)))

    def _check_room(self, principal: str) -> None:
        own = self.session_names(principal)
        if 0 < self.quotas.most.sessions <= len(own):
            raise QuotaExceeded(
                f"You hold the sessions {', '.join(map(repr, own))}",
                f"Use one of them, or close one: {CLOSE_SESSION[0]}",
            )
        if len(self._places) < self._most_sessions:
            return
        others = len(self._places) - len(own)
        holders = [f"you hold {', '.join(map(repr, own))}"] if own else []
        holders += [f"others hold {others}"] if others else []
        raise SessionsFull(
            f"All {self._most_sessions} sessions are in use: {'; '.join(holders)}. Use one of yours, or close one: "
            f"{CLOSE_SESSION[0]}. Idle ones are closed after a while."
        )

    @property
    def open_sessions(self) -> int:
        return len(self._places)

    def session_names(self, principal: str) -> list[str]:
        return sorted(name for owner, name in self._places if owner == principal)

    async def _close_idle(self) -> None:
        while True:
            await anyio.sleep(min(_LOOK_SECONDS, self._idle_seconds))
            for key, place in list(self._places.items()):
                session = place.session
                if session and not place.lock.locked() and time.monotonic() - session.used_at > self._idle_seconds:
                    del self._places[key]
                    self._note_end(key, f"had been idle for over {self._idle_seconds / 60:.0f} minutes")
                    async with session.link.lock:
                        await session.close()

    async def _close(self) -> None:
        async with anyio.create_task_group() as tasks:
            for place in self._places.values():
                if place.session:
                    tasks.start_soon(place.session.kill)


@contextlib.asynccontextmanager
async def open_pool(
    choose_sandbox: ChooseSandbox,
    limits: Limits,
    *,
    sessions: int = 16,
    session_idle_seconds: float = 1800.0,
    warm_workers: int = 1,
    quota: Quota = _NO_QUOTA,
) -> AsyncIterator[Pool]:
    """A pool whose sandbox is chosen on first use, and whose workers all end with it."""
    async with anyio.create_task_group() as tasks:
        workers = Workers(choose_sandbox, limits, warm_workers, tasks)
        quotas = Quotas(quota, limits.cpus)
        pool = Pool(workers, quotas, sessions=sessions, session_idle_seconds=session_idle_seconds)
        tasks.start_soon(pool._close_idle)
        try:
            yield pool
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await pool._close()
                await workers.aclose()
