"""The processes of a worker that live from one request to the next, and the end of all others.

Two templates have run nothing of the user's. Every other process descends from one of them:

    supervisor ─┬─ template ── interpreter of a session ── its next step (which replaces it, or dies)
                └─ template with pydantic ── zygote of an action ── one fork a call

A session does without pydantic, whose import would be half of what a step's fork has to copy, and most of the time
until a new worker has run its first step.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal

from dynasaur_mcp.sandbox.worker.jobs import Forker, FullError, Job, LostError
from dynasaur_mcp.sandbox.worker.orders import FORK, FORK_AHEAD, PROVE
from dynasaur_mcp.sandbox.worker.template import start_template
from dynasaur_mcp.sandbox.worker.usage import (
    INODE_BYTES,
    ON_GVISOR,
    count_files,
    count_memory,
    kill_strays,
    memory_of,
    reap,
    uses_more_than,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MAX_ZYGOTES = 48
MAX_SPARES = 4
"""Forks that wait for their job."""
SPARE_BYTES = 16 << 20
"""What one of them may own beyond what it was forked with, and not be counted; and a session beyond what it had
when its last step ended."""
BURIAL_SECONDS = 1.0
MOST_LOOKS_OVER = 3 if ON_GVISOR else 1
"""In a row, at which memory is over its limit, before all is ended: gVisor gives back late what was ended."""
ZYGOTE_MEMORY_SHARE = 0.25
"""Of the memory limit; past it the least recently used zygote goes."""
NAMES_MEMORY_SHARE = 0.25
"""Of the memory limit, for the files there may be, whatever is in them; there must be some left to remove them."""


class Processes:
    """What a supervisor has started and keeps."""

    def __init__(self, limits: dict[str, Any], template: Forker) -> None:
        self.sessions: dict[int, Forker] = {}
        """Interpreters, by branch."""
        self.zygotes: collections.OrderedDict[str, Forker] = collections.OrderedDict()
        """By the key of their action, the one used last at the end."""
        self._limits = limits
        self._template: Forker | None = template
        self._template_of_calls: Forker | None = None
        self._leaving: list[Forker] = []
        self._replaced: tuple[int, Forker | None] | None = None
        """By the last step: its branch, and the session as it was before."""
        self._spares: collections.OrderedDict[Forker, Job] = collections.OrderedDict()
        self._looks_over = 0
        self._names_before = 0
        """How many files there were when the last job began."""

    def template(self) -> Forker:
        """To fork a session's first step from, or a job on files.

        Raises:
            FullError: there is none, and no room for it.
        """
        if self._template is None or not self._template.is_alive():
            self._template = self._start(self._template, for_calls=False)
        return self._template

    def template_of_calls(self) -> Forker:
        """To fork what loads an action from.

        Raises:
            FullError: as `template`.
        """
        if self._template_of_calls is None or not self._template_of_calls.is_alive():
            self._template_of_calls = self._start(self._template_of_calls, for_calls=True)
        return self._template_of_calls

    def begin_job(self, base: Forker) -> Job:
        """A fork of `base` that waits to be started.

        Raises:
            LostError: `base` is of no use, and dismissed.
            FullError: there is no room for another process.
        """
        try:
            job = self._spares.pop(base, None)
            if job is None or not job.forker.is_alive():
                if job:
                    self._dismiss_spare(job)
                job = self._fork(base, FORK)
        except LostError:
            self.dismiss(base)
            raise
        assert job
        self._names_before = count_files()
        return job

    def fork_ahead(self, base: Forker | None, order: bytes = FORK_AHEAD) -> None:
        """Have a fork of it waiting for the next job, which is then spared the time of a fork."""
        if base is None or base in self._spares or not base.is_alive():
            return
        try:
            job = self._fork(base, order)
        except (LostError, FullError):
            self.dismiss(base)
            return
        if job:
            self._spares[base] = job
        if len(self._spares) > MAX_SPARES:
            self._dismiss_spare(self._spares.popitem(last=False)[1])

    def _fork(self, base: Forker, order: bytes) -> Job | None:
        """Where there is no room for a fork that is needed, what is kept for speed alone goes."""
        try:
            return base.fork(self._spared(), order)
        except FullError:
            if order == FORK_AHEAD:
                return None
        while self._spares:
            self._dismiss_spare(self._spares.popitem()[1])
        for key in [key for key, zygote in self.zygotes.items() if zygote is not base]:
            self.dismiss(self.zygotes.pop(key))
        self._bury()
        return base.fork(self._spared(), order)

    def replace_session(self, branch: int, new: Forker) -> None:
        """Let a step be its session; what was so before lives until `prove`."""
        self._replaced = (branch, self.sessions.get(branch))
        self.sessions[branch] = new

    def prove(self) -> int | None:
        """See whether the session that was replaced last can run another step; if so, end what it has replaced.

        Returns:
            The branch whose session is again what it was before, or gone if it was nothing, as this one cannot.
        """
        if not self._replaced:
            return None
        (branch, before), self._replaced = self._replaced, None
        session = self.sessions[branch]
        self.fork_ahead(session, PROVE)
        spare = self._spares.get(session)
        # One of several threads has none, and has just answered.
        if session.is_alive() and (spare is None or spare.proves()):
            if before:
                self.dismiss(before)
                self._bury()
            return None
        self.dismiss(session)
        del self.sessions[branch]
        if before and before.hide():
            self.sessions[branch] = before
            self.fork_ahead(before)
        elif before:
            self.dismiss(before)
        return branch

    def prepare(self) -> bool:
        """Have one of the forks that wait make itself ready, the latest first; whether there was one to."""
        return any(job.make_ready() for job in reversed(self._spares.values()))

    def dismiss(self, forker: Forker) -> None:
        """Begin its end; `sweep` sees to the rest."""
        forker.kill()
        self._leaving.append(forker)
        if spare := self._spares.pop(forker, None):
            self._dismiss_spare(spare)

    def let_go(self, forker: Forker) -> None:
        """Of a process that goes on, under a socket of its last job."""
        forker.control.close()
        self._leaving.append(forker)

    def sweep(self, asleep: Iterable[Forker]) -> None:
        """End whatever a job has left running.

        Args:
            asleep: Sessions that are to stay stopped.
        """
        self._bury()
        self._end_strays()
        for forker in {*self._kept(), *(job.forker for job in self._spares.values())}.difference(asleep):
            # What was over may have stopped them; a stopped one would cost the next request FORK_SECONDS.
            forker.process.signal(signal.SIGCONT)
        for key in [key for key, zygote in self.zygotes.items() if not zygote.is_alive()]:
            self.dismiss(self.zygotes.pop(key))

    def _bury(self) -> None:
        spared = self._spared()
        for forker in self._leaving:
            forker.process.close(0 if forker.pid in spared else BURIAL_SECONDS)
        self._leaving.clear()
        reap()

    def look(self) -> None:
        """Nothing may be started or outgrow the limit between requests either, as threads can. Calls will need their
        template."""
        with contextlib.suppress(FullError):
            self.template_of_calls()
        if not (self.sessions or self.zygotes):
            return
        self._end_strays()
        are_many = self._have_too_many_files()
        is_over = are_many or count_memory(*self._shared()) > self._limits["memory_bytes"]
        self._looks_over = self._looks_over + 1 if is_over else 0
        if self._looks_over >= MOST_LOOKS_OVER:
            for zygote in self.zygotes.values():
                zygote.kill()
            are_all_over = are_many or self._count_but_zygotes() > self._limits["memory_bytes"]
            for session in self.sessions.values() if are_all_over else ():
                # What copies share counts in each: together they may be over without any that has taken more.
                if are_many or session.has_grown(SPARE_BYTES):
                    session.kill()

    def have_room_for_copy(self, session: Forker) -> bool:
        """Whether memory holds all that the session has a second time: what copies share counts in each."""
        own = memory_of(session.pid) - self._shared()[1]
        return self._count_but_zygotes() + max(0, own) <= int(self._limits["memory_bytes"])

    def have_room_without(self, session: Forker | None) -> bool:
        """Whether memory holds all processes but this one, counted as for `have_room_for_copy`."""
        return self._count_but_zygotes(session) <= int(self._limits["memory_bytes"])

    def _count_but_zygotes(self, without: Forker | None = None) -> int:
        """Zygotes are kept for speed alone: `look` ends them where there is no room."""
        _, shared, uncounted = self._shared()
        left_out = {forker.pid for forker in (*self.zygotes.values(), without) if forker}
        return count_memory({}, shared, uncounted | left_out)

    def use_too_much(self) -> bool:
        """Of memory, or of files."""
        return self._have_too_many_files() or uses_more_than(self._limits["memory_bytes"], *self._shared())

    def _have_too_many_files(self) -> bool:
        # Removing files must be possible also for one who has too many.
        names = count_files()
        return names > self._names_before and names * INODE_BYTES > self._limits["memory_bytes"] * NAMES_MEMORY_SHARE

    def evict_zygotes(self) -> None:
        """Have no more than there is memory for, and processes."""
        cap = self._limits["memory_bytes"] * ZYGOTE_MEMORY_SHARE
        most = min(MAX_ZYGOTES, self._limits["processes"] // 3)
        # About half of what a fork shares it comes to own, as counting references writes to it. Measured: 7.8 of 14 MB.
        shared = memory_of(self.template_of_calls().pid) // 2
        while len(self.zygotes) > 1 and (
            len(self.zygotes) > most or sum(memory_of(z.pid) - shared for z in self.zygotes.values()) > cap
        ):
            self.dismiss(self.zygotes.popitem(last=False)[1])

    def _start(self, before: Forker | None, *, for_calls: bool) -> Forker:
        if before:
            self.dismiss(before)
        try:
            template = start_template(self._limits, for_calls=for_calls)
        except OSError:
            raise FullError from None
        return Forker(*template)

    def _kept(self) -> list[Forker]:
        templates = (self._template, self._template_of_calls)
        before = self._replaced[1] if self._replaced else None
        return [forker for forker in (*templates, before, *self.sessions.values(), *self.zygotes.values()) if forker]

    def _spared(self) -> set[int]:
        return self._idle() | {forker.pid for forker in self._kept()}

    def _idle(self) -> set[int]:
        return {1, os.getpid(), *(job.forker.pid for job in self._spares.values())}

    def _shared(self) -> tuple[dict[int, int], int, set[int]]:
        """As `count_memory` asks."""
        of_zygotes = {}
        if self._template_of_calls:
            # It is itself no zygote: what it has more than the other template is counted, once.
            of_zygotes = dict.fromkeys((z.pid for z in self.zygotes.values()), memory_of(self._template_of_calls.pid))
        return of_zygotes, memory_of(self._template.pid) if self._template else 0, self._uncounted()

    def _uncounted(self) -> set[int]:
        """Forks that wait share what they have with whom they were forked from; user code may change that."""
        grown = {
            job.forker.pid
            for base, job in self._spares.items()
            if memory_of(job.forker.pid) > memory_of(base.pid) + SPARE_BYTES
        }
        return self._idle() - grown

    def _dismiss_spare(self, job: Job) -> None:
        job.close_output()
        self.dismiss(job.forker)

    def _end_strays(self) -> None:
        if not kill_strays(self._spared()):
            # What cannot be ended takes the worker with it: pid 1 going ends every process of the sandbox.
            os._exit(3)
