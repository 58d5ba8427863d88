"""Pieces of code run in sessions: started, waited for, looked at later by their id, cancelled."""

from __future__ import annotations

import contextlib
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import replace

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from dynasaur_mcp.errors import RunNotFound
from dynasaur_mcp.library.reading import find_used_actions
from dynasaur_mcp.library.script import read_step
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements, naming_who_needs
from dynasaur_mcp.sandbox.pool import DEFAULT_SESSION, Pool
from dynasaur_mcp.types import Ending, Outcome

KEPT_RUNS = 64
"""Ended runs whose output can still be read; the oldest go first."""
KEPT_CHARACTERS = 32 << 20
"""Of all that these gave, together; the newest one is kept whatever its size."""


class Run:
    """One execution of one piece of code. `outcome` is None while it goes on."""

    def __init__(self, principal: str, session: str) -> None:
        self.id = secrets.token_hex(4)
        self.principal = principal
        self.session = session
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        """Why it could not be run at all, if so; then there is no outcome."""
        self._printed: list[tuple[str, str]] = []
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def output(self) -> str:
        """What it has printed so far, on either stream."""
        return "".join(text for _, text in self._printed)

    @property
    def characters(self) -> int:
        """About what keeping it costs."""
        if self.outcome is None:
            return 0
        texts = (self.outcome.stdout, self.outcome.stderr, self.outcome.shown, self.outcome.error)
        return sum(map(len, texts)) + sum(len(image.base64) for image in self.outcome.images)

    async def wait(self, seconds: float) -> None:
        """Wait for its end, at most so long.

        Raises:
            DynasaurError: it could not be run at all.
        """
        with anyio.move_on_after(seconds):
            await self._ended.wait()
        if self.error:
            raise self.error

    def cancel(self) -> None:
        self._scope.cancel()


class Runs:
    """The runs of all principals. Use `open_runs`."""

    def __init__(self, pool: Pool, store: Store, tasks: TaskGroup, wait_seconds: float) -> None:
        self._pool = pool
        self._store = store
        self._tasks = tasks
        self._wait_seconds = wait_seconds
        self._runs: OrderedDict[str, Run] = OrderedDict()

    async def start(
        self,
        code: str,
        requirements: tuple[str, ...] = (),
        *,
        principal: str,
        session: str | None,
        timeout_seconds: float | None,
        background: bool,
    ) -> Run:
        """Run code in a session, which is opened if need be.

        Args:
            requirements: Packages it needs, beside those it declares at its top.
            background: Come back at once. Otherwise when it has ended, or after `wait_seconds`; a caller who is
                cancelled before that cancels the run.

        Raises:
            DynasaurError: it could not be run at all.
        """
        run = Run(principal, session or DEFAULT_SESSION)
        self._runs[run.id] = run
        self._tasks.start_soon(self._see_through, run, code, requirements, timeout_seconds)
        if not background:
            try:
                await run.wait(self._wait_seconds)
            except anyio.get_cancelled_exc_class():
                run.cancel()
                with anyio.CancelScope(shield=True):
                    await run._ended.wait()
                raise
        return run

    async def check(self, run_id: str, *, principal: str, wait_seconds: float, cancel: bool) -> Run:
        """A run of this principal, after its end or the wait.

        Raises:
            RunNotFound
            DynasaurError: it could not be run at all.
        """
        run = self.find(run_id, principal)
        if cancel:
            run.cancel()
        await run.wait(self._pool.limits.grace_seconds * 2 + 3 if cancel else wait_seconds)
        return run

    def find(self, run_id: str, principal: str) -> Run:
        """A run of this principal as it is now.

        Raises:
            RunNotFound
        """
        run = self._runs.get(run_id)
        if run is None or run.principal != principal:
            raise RunNotFound(f"No run {run_id!r}. A run's id is in run_python's result; old runs are forgotten.")
        return run

    async def _see_through(
        self, run: Run, code: str, requirements: tuple[str, ...], timeout_seconds: float | None
    ) -> None:
        try:
            with run._scope:
                used = follow_uses(self._store.get, await _find_used(code), self._pool.limits.network)
                needs = {**used.needs, "": (*requirements, *read_step(code))}
                async with self._pool.session(run.principal, run.session) as session:
                    with naming_who_needs(needs):
                        outcome = await session.run(
                            code,
                            used.sources,
                            join_requirements(needs),
                            timeout_seconds=timeout_seconds,
                            on_output=lambda stream, text: run._printed.append((stream, text)),
                        )
                    run.outcome = replace(outcome, notes=(*outcome.notes, *used.missing.values()))
            if run._scope.cancelled_caught:
                stdout, stderr = (
                    "".join(text for stream, text in run._printed if stream == name) for name in ("stdout", "stderr")
                )
                run.outcome = Outcome(Ending.CANCELLED, stdout=stdout, stderr=stderr, error="The run was cancelled.")
        except Exception as error:  # boundary: told to whoever waits for it
            run.error = error
        finally:
            run._printed.clear()
            run._ended.set()
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        characters = 0
        newest_first = [run for run in reversed(self._runs.values()) if run._ended.is_set()]
        for number, run in enumerate(newest_first):
            characters += run.characters
            if number >= KEPT_RUNS or (number and characters > KEPT_CHARACTERS):
                del self._runs[run.id]


async def _find_used(code: str) -> frozenset[str]:
    """The actions it imports. Parsing takes a while, and most code imports none."""
    return await anyio.to_thread.run_sync(find_used_actions, code) if "actions" in code else frozenset()


@contextlib.asynccontextmanager
async def open_runs(pool: Pool, store: Store, *, wait_seconds: float) -> AsyncIterator[Runs]:
    """Runs that all end with it."""
    async with anyio.create_task_group() as tasks:
        try:
            yield Runs(pool, store, tasks, wait_seconds)
        finally:
            tasks.cancel_scope.cancel()
