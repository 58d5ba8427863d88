"""Code at work for clients, of a step or of an action: started, followed, looked at later by its id, cancelled."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from dynasaur_mcp.errors import RunNotFound
from dynasaur_mcp.stages import hearing_stages
from dynasaur_mcp.types import Ending, Entry, Outcome

logger = logging.getLogger(__name__)

KEPT_RUNS = 64
"""Ended runs that can still be read; the oldest go first."""
KEPT_CHARACTERS = 32 << 20
"""Of all that these gave, together; the newest one is kept whatever its size."""
NEWS_SECONDS = 0.1
"""At least, between two pieces of news of one run."""
_STAGE = "stage"
"""Told to who follows a run, between what it prints on its streams."""

Work = Callable[[Callable[[str, str], None]], Awaitable[Outcome]]
"""Does what a run is for, given where to tell what is printed: the stream's name and the text."""


class Run:
    """One execution of one piece of code or of one action. `outcome` is None while it goes on."""

    def __init__(
        self, principal: str, session: str, entry: Entry | None, request: str, on_news: Callable[[Run], None]
    ) -> None:
        self.id = secrets.token_hex(4)
        self.request = request
        """Id of the request that began it, on its connection."""
        self.principal = principal
        self.session = session
        self.entry = entry
        """The action it is a call of; None for a piece of code."""
        self.outcome: Outcome | None = None
        self.error: Exception | None = None
        """Why it could not be run at all, if so; then there is no outcome."""
        self.seconds = 0.0
        """How long it took, once it is over."""
        self.characters = 0
        """About what keeping it costs, once it is over."""
        self.started_at = time.monotonic()
        self._on_news = on_news
        self._told: list[tuple[str, str]] = []
        self._ended = anyio.Event()
        self._news = anyio.Event()
        self._scope = anyio.CancelScope()

    @property
    def is_over(self) -> bool:
        return self._ended.is_set()

    @property
    def output(self) -> str:
        """What it has printed so far, on either stream."""
        return "".join(text for stream, text in self._told if stream != _STAGE)

    @property
    def ending(self) -> str:
        """How it ended, once it is over; the name of its error, if nothing could be run."""
        if self.outcome:
            return self.outcome.ending.value
        return type(self.error).__name__ if self.error else Ending.CANCELLED.value

    async def wait(self, seconds: float) -> None:
        """Wait for its end, at most so long.

        Raises:
            Exception: why it could not be run at all.
        """
        with anyio.move_on_after(seconds):
            await self._ended.wait()
        if self.error:
            raise self.error

    async def follow(self, seconds: float) -> AsyncIterator[tuple[int, str]]:
        """As it prints and goes on, until it ends or the time is up: how many characters so far, and the newest."""
        told = 0
        deadline = anyio.current_time() + seconds
        while not self._ended.is_set() and anyio.current_time() < deadline:
            with anyio.move_on_at(deadline):
                await self._news.wait()
            self._news = anyio.Event()
            text = "".join(text for _, text in self._told)
            if len(text) > told:
                yield len(text), text[told:]
                told = len(text)
                with anyio.move_on_after(NEWS_SECONDS):
                    await self._ended.wait()

    def cancel(self) -> None:
        self._scope.cancel()

    async def end(self) -> None:
        """Cancel it and wait until it is over, also when cancelled."""
        self.cancel()
        with anyio.CancelScope(shield=True):
            await self._ended.wait()

    async def see_through(self, work: Work) -> None:
        """Do the work. Raises nothing but the cancellation of who called this."""
        try:
            with self._scope, hearing_stages(lambda text: self._hear(_STAGE, f"{text}\n")):
                self.outcome = await work(self._hear)
            if self._scope.cancelled_caught:
                stdout, stderr = ("".join(t for s, t in self._told if s == name) for name in ("stdout", "stderr"))
                took = time.monotonic() - self.started_at
                told = "The run was cancelled."
                self.outcome = Outcome(Ending.CANCELLED, stdout=stdout, stderr=stderr, error=told, seconds=took)
        except Exception as error:  # boundary: told to whoever waits for it
            self.error = error
        finally:
            self.seconds = time.monotonic() - self.started_at
            # Once: of a large value it can take a tenth of a second, and whenever a run ends all others are asked.
            self.characters = _measure(self.outcome) if self.outcome else 0
            self._told.clear()
            self._ended.set()
            self._news.set()
            self._on_news(self)

    def _hear(self, stream: str, text: str) -> None:
        self._told.append((stream, text))
        self._news.set()
        self._on_news(self)


class Runs:
    """The runs of all principals. Use `open_runs`."""

    def __init__(self, tasks: TaskGroup, wait_seconds: float, kept_from_characters: int) -> None:
        self.wait_seconds = wait_seconds
        """A run still going after this is to be handed over: its client will not wait much longer."""
        self.on_news: Callable[[Run], None] = lambda _: None
        """Called with a run as it prints and as it ends; must return at once."""
        self._tasks = tasks
        self._kept_from_characters = kept_from_characters
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._handed_over: set[str] = set()

    def start(
        self,
        work: Work,
        *,
        principal: str,
        session: str,
        request: str,
        entry: Entry | None = None,
        record: Callable[[Run], Awaitable[None]],
    ) -> Run:
        """Begin a run. Whoever started it waits for it, or hands it over.

        Args:
            record: Called once it is over, which nobody waits for; must not raise.
        """
        run = Run(principal, session, entry, request, self.on_news)
        self._runs[run.id] = run
        self._tasks.start_soon(self._see_through, run, work, record)
        return run

    def hand_over(self, run: Run) -> None:
        """Keep it, however little it gives: its client has been told its id."""
        self._handed_over.add(run.id)

    def find(self, run_id: str, principal: str) -> Run:
        """A run of this principal as it is now.

        Raises:
            RunNotFound
        """
        run = self._runs.get(run_id)
        if run is None or run.principal != principal:
            raise RunNotFound(f"No run {run_id!r}. A run's id is in the result of its call; old runs are forgotten.")
        return run

    def find_ahead(self, run: Run) -> Run | None:
        """The oldest that went on in its session when it began and still does, if any: it waits for that."""
        earlier = itertools.takewhile(lambda other: other is not run, self._runs.values())
        place = (run.principal, run.session)
        return next((each for each in earlier if (each.principal, each.session) == place and not each.is_over), None)

    def ids(self, principal: str) -> list[str]:
        """Of the runs that this principal was told of, newest first: handed over, or kept for their output."""
        return [
            run.id
            for run in reversed(self._runs.values())
            if run.principal == principal and (run.id in self._handed_over or run.outcome)
        ]

    async def _see_through(self, run: Run, work: Work, record: Callable[[Run], Awaitable[None]]) -> None:
        try:
            await run.see_through(work)
        finally:
            _log(run)
            # Of one that is told whole in its result nobody learns the id.
            if run.id not in self._handed_over and run.characters <= self._kept_from_characters:
                del self._runs[run.id]
            self._forget_oldest()
            with anyio.CancelScope(shield=True):
                await record(run)

    def _forget_oldest(self) -> None:
        characters = 0
        ended = [run for run in reversed(self._runs.values()) if run.is_over]
        for number, run in enumerate(ended):
            characters += run.characters
            if number >= KEPT_RUNS or (number and characters > KEPT_CHARACTERS):
                del self._runs[run.id]
                self._handed_over.discard(run.id)


def _measure(outcome: Outcome) -> int:
    texts = (outcome.stdout, outcome.stderr, outcome.shown, outcome.error)
    value = 0 if outcome.value is None else len(json.dumps(outcome.value))
    return sum(map(len, texts)) + value + sum(len(image.base64) for image in outcome.images)


def _log(run: Run) -> None:
    if not logger.isEnabledFor(logging.INFO):
        return
    about = {
        "run": run.id,
        "request": run.request,
        "principal": run.principal,
        "session": run.session,
        "action": run.entry.name if run.entry else None,
        "version": run.entry.version if run.entry else None,
        "outcome": run.ending,
        "seconds": round(run.seconds, 6),
    }
    text = "run %(run)s of %(principal)r, %(what)s: %(outcome)s after %(seconds).3f s"
    logger.info(text, about | {"what": about["action"] or "code"}, extra=about)


@contextlib.asynccontextmanager
async def open_runs(*, wait_seconds: float, kept_from_characters: int) -> AsyncIterator[Runs]:
    """Runs that all end with it.

    Args:
        kept_from_characters: One that gave no more than this is forgotten at its end, unless it was handed over.
    """
    async with anyio.create_task_group() as tasks:
        try:
            yield Runs(tasks, wait_seconds, kept_from_characters)
        finally:
            tasks.cancel_scope.cancel()
