"""Calls that run code: started, waited for while they tell of their progress, handed over, shown."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import anyio
import anyio.to_thread
from mcp_types import CallToolResult

from dynasaur_mcp.execute import execute_action
from dynasaur_mcp.library.asked import Asked
from dynasaur_mcp.library.reading import find_used_actions
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.runs import Run, Runs, Work
from dynasaur_mcp.sandbox.pool import DEFAULT_SESSION, Pool
from dynasaur_mcp.server import content
from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.arguments import CheckRun, RunPython
from dynasaur_mcp.server.caller import Callers
from dynasaur_mcp.server.progress import report_run
from dynasaur_mcp.step import run_step
from dynasaur_mcp.types import JSON, Ending, Entry, Outcome

FIRST_WITH_LINKS = "2025-06-18"
"""Version of the protocol; versions are dates, and compare as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is done on each of these calls. Holds its collaborators, no state."""

    callers: Callers
    store: Store
    asked: Asked
    pool: Pool
    runs: Runs
    output_characters: int

    async def run_python(self, ctx: Context, given: RunPython) -> CallToolResult:
        principal = self.callers.principal_of(ctx)
        session = given.session
        if given.fork_as is not None:
            await self.pool.fork(principal, session or DEFAULT_SESSION, given.fork_as)
            session = given.fork_as
            if not given.code.strip():
                return content.result_of_text(
                    f"Session {session!r} is open, a copy of {given.session or DEFAULT_SESSION!r}."
                )
        work = partial(
            run_step,
            given.code,
            given.requirements,
            principal=principal,
            session=session or DEFAULT_SESSION,
            timeout_seconds=given.timeout_seconds,
            store=self.store,
            pool=self.pool,
        )
        learning = self._learning(principal, lambda: find_used_actions(given.code), lambda hear: work(on_output=hear))
        run = self._start(ctx, learning, session or DEFAULT_SESSION, code=given.code)
        if given.background:
            self.runs.hand_over(run)
        else:
            await self._wait(ctx, run)
        return self._present(ctx, run)

    async def check_run(self, ctx: Context, given: CheckRun) -> CallToolResult:
        run = self.runs.find(given.run, self.callers.principal_of(ctx))
        if given.cancel:
            run.cancel()
        seconds = self.pool.workers.limits.grace_seconds * 2 + 3 if given.cancel else given.wait_seconds
        await report_run(ctx, run, seconds)
        return self._present(ctx, run)

    async def execute(
        self, ctx: Context, name: str, arguments: dict[str, JSON], session: str | None, *, promised: bool
    ) -> CallToolResult:
        """Call an action; `promised` is a result as its tool in the list says."""
        principal = self.callers.principal_of(ctx)
        entry = self.store.get(name)
        work = partial(
            execute_action,
            entry,
            arguments,
            principal=principal,
            session=session,
            store=self.store,
            pool=self.pool,
        )
        learning = self._learning(principal, lambda: [name], lambda hear: work(on_output=hear))
        run = self._start(ctx, learning, session or DEFAULT_SESSION, entry)
        await self._wait(ctx, run)
        return self._present(ctx, run, promised=promised)

    def _learning(self, principal: str, names: Callable[[], Collection[str]], work: Work) -> Work:
        """The same work; what was searched for before is kept of the actions that it used with success."""

        async def work_and_learn(hear: Callable[[str, str], None]) -> Outcome:
            outcome = await work(hear)
            if outcome.succeeded and self.asked.has_searched(principal):
                await anyio.to_thread.run_sync(lambda: self.asked.used(principal, names()))
            return outcome

        return work_and_learn

    def _start(self, ctx: Context, work: Work, session: str, entry: Entry | None = None, code: str = "") -> Run:
        who = self.callers.principal_of(ctx)
        self.pool.quotas.admit_run(who)
        return self.runs.start(
            work,
            principal=who,
            session=session,
            request=str(ctx.request_id),
            entry=entry,
            record=partial(self._record, code),
        )

    async def _record(self, code: str, run: Run) -> None:
        """In the audit log, unless the call of an action is there as it was counted."""
        entry = run.entry
        if entry and run.outcome and run.outcome.ending is not Ending.CANCELLED:
            return
        record = partial(
            self.store.record_run,
            entry.name if entry else "",
            entry.version if entry else 0,
            principal=run.principal,
            session=run.session,
            request=run.request,
            ending=run.ending,
            ended_at=datetime.now(UTC),  # before anything that its answer leads to
            seconds=run.seconds,
            code=code,
        )
        await anyio.to_thread.run_sync(record)

    async def _wait(self, ctx: Context, run: Run) -> None:
        """For the end of a run, or for the moment to hand it over. A caller who goes away ends it."""
        try:
            await report_run(ctx, run, self.runs.wait_seconds)
        except anyio.get_cancelled_exc_class():
            await run.end()
            raise
        if run.outcome is None:
            self.runs.hand_over(run)

    def _present(self, ctx: Context, run: Run, *, promised: bool = False) -> CallToolResult:
        return content.present_run(
            run,
            None if run.is_over else self.runs.find_ahead(run),
            promised=promised,
            limit=self.output_characters,
            knows_links=ctx.protocol_version >= FIRST_WITH_LINKS,
        )
