"""A session: what a principal calls by name. Its interpreter and its workspace are a worker's, or a branch's of one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

from dynasaur_mcp.errors import ArgumentsInvalid, SandboxUnavailable, SessionNotCopied, WorkerLost
from dynasaur_mcp.sandbox.answer import Answer
from dynasaur_mcp.sandbox.base import Sandbox
from dynasaur_mcp.sandbox.files import Files
from dynasaur_mcp.sandbox.link import Link, OnOutput
from dynasaur_mcp.sandbox.outlet import Outlet
from dynasaur_mcp.stages import tell_stage
from dynasaur_mcp.types import Check, Ending, Image, Limits, Outcome, Problem, Schemas, Tests, WorkspaceFile

MAX_STEPS_CHARACTERS = 1 << 20
"""A session's code is kept, and read as a whole to find a function in it: its memory is the server's."""
_ENDINGS = frozenset(Ending)
_MAIN_BRANCH = 0
_HOW_TO_KEEP = "A step that catches KeyboardInterrupt and ends within {:g} s of its time being up is kept."
VARIABLES_LOST = "The session's variables are lost; its files are still there."
TAKEN_BACK = (
    "The step before this one was taken back: in what it had left of its process (by a hook on forks, a limit, what "
    "it replaced or left open) no other step could be run. This one found the variables as they were before it."
)
_RUINED = (
    "left its own process unable to go on, by what it replaced, closed, left open or limited there, and was taken back"
)
_LOST_WITH_WORKER = "was lost with its worker (which was removed, restarted, or ended for want of memory)"

InstallPackages = Callable[[tuple[str, ...], bool], Awaitable[str]]
"""As `Sandbox.packages`."""


async def open_session(sandbox: Sandbox, limits: Limits, outlet: Outlet | None = None) -> Session:
    """A session in a worker of its own, ready for its first request.

    Raises:
        SandboxUnavailable
    """
    session = Session(Link(await sandbox.start(), limits, outlet), sandbox.packages)
    try:
        await session.link.wait_ready()
    except WorkerLost as error:
        await session.kill()
        raise SandboxUnavailable(f"A {sandbox.name} worker did not start: {error}") from error
    except BaseException:
        await session.kill()
        raise
    return session


class Session:
    """One interpreter and one workspace. Not for two callers at once: the pool sees to that."""

    def __init__(self, link: Link, install: InstallPackages, branch: int = _MAIN_BRANCH) -> None:
        self.link = link
        self.principal = ""
        self.name = ""
        self.steps: tuple[str, ...] = ()
        """Code of the steps that count, in order; of one that raised, what had run; the newest of it, up to
        MAX_STEPS_CHARACTERS."""
        self.news: tuple[str, ...] = ()
        """Sentences for the notes of the next outcome: what became of the session that had this name before."""
        self.used_at = time.monotonic()
        self.is_as_new = False
        """It has run checks only, and nothing is left of them."""
        self.files = Files(self._request)
        self._limits = link.limits
        self._install = install
        self._branch = branch
        link.branches.add(branch)

    @property
    def worker_id(self) -> str:
        return self.link.worker_id

    @property
    def is_lost(self) -> bool:
        return self.link.is_lost

    async def run(
        self,
        code: str,
        sources: Mapping[str, str],
        requirements: tuple[str, ...],
        *,
        timeout_seconds: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Outcome:
        """One step in the session's interpreter, for which the actions in `sources` can be imported."""
        request = {"op": "step", "code": code, "sources": dict(sources), "folders": await self._folders(requirements)}
        answer = await self._request_with(requirements, request, timeout_seconds, on_output)
        outcome = self._outcome(answer, timeout_seconds, "step")
        if answer.done.taken_back:
            self.steps = self.steps[:-1]
        if outcome.ending in (Ending.RETURNED, Ending.RAISED) and not self.is_lost:
            self.steps = _newest((*self.steps, code if answer.done.ran is None else answer.done.ran))
        elif answer.done.session_lost or self.is_lost:
            self.steps = ()
        return outcome

    async def call(
        self,
        name: str,
        sources: Mapping[str, str],
        requirements: tuple[str, ...],
        arguments: Mapping[str, Any],
        *,
        timeout_seconds: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Outcome:
        """One call of an action, in a fork of its zygote.

        Raises:
            ArgumentsInvalid: they do not fit its parameters; every misfit is named.
        """
        folders = await self._folders(requirements)
        key = _key_of(name, sources, folders)
        request: dict[str, Any] = {"op": "call", "key": key, "action": name, "arguments": dict(arguments)}
        loading = {"sources": dict(sources), "folders": folders}
        if key not in self.link.known:
            tell_stage(f"Importing {name!r}")
        answer = await self._request_with(
            requirements, request if key in self.link.known else request | loading, timeout_seconds, on_output
        )
        if answer.done.ending == "unknown":
            answer = await self._request_with(requirements, request | loading, timeout_seconds, on_output)
        if answer.done.ending == "misfit":
            raise ArgumentsInvalid(f"{name} was not called:", [Problem(misfit) for misfit in answer.done.misfits])
        self.link.known.add(key)
        return self._outcome(answer, timeout_seconds, "call")

    async def check(self, name: str, sources: Mapping[str, str], requirements: tuple[str, ...]) -> Check:
        """Import an action, make its schemas, run its tests. Only for a worker that has run nothing but checks."""
        folders = await self._folders(requirements)
        request = {"op": "check", "action": name, "sources": dict(sources), "folders": folders}
        answer = await self._request_with(requirements, request)
        done = answer.done
        self.is_as_new = done.as_new
        output = answer.text("stdout") + answer.text("stderr")
        if done.ending != "returned":
            what = self._ended_how(done.ending)
            if done.phase in ("", "import"):
                told = f"Importing it {what}. Keep what runs at module level short, and free of exits."
                return Check(problems=(Problem(told),), output=output)
            return Check(
                problems=(Problem(f"Testing it {what}, in the {done.phase}."),),
                output=output,
            )
        schemas = Schemas(**done.schemas.model_dump()) if done.schemas else None
        return Check(
            problems=tuple(map(Problem, done.problems)),
            is_unfit=done.is_unfit,
            schemas=schemas,
            tests=Tests(passed=done.passed, failures=tuple(done.failures)),
            output=output,
        )

    async def fork(self) -> Session:
        """An independent copy of interpreter and workspace, in the same worker: the two share its limits.

        Raises:
            SessionNotCopied: it runs threads, or there is no room for a second workspace, or for its variables twice.
            WorkerLost
        """
        copy = next(self.link.numbers)
        done = (await self._request({"op": "fork", "as": copy})).done
        if self.is_lost:
            raise WorkerLost(f"The worker of session {self.name!r} is gone.")
        if done.ending != "returned":
            raise SessionNotCopied(
                f"Session {self.name!r} cannot be copied: {done.error or self._ended_how(done.ending)}."
            )
        forked = Session(self.link, self._install, copy)
        forked.steps = self.steps
        return forked

    async def measure(self) -> int:
        """Memory of its interpreter, in bytes, the pages it shares with others included; 0 before its first step."""
        return (await self.link.request({"op": "measure", "branch": self._branch})).done.bytes

    async def close(self) -> None:
        """End it; the worker too, unless another session lives there."""
        self.link.branches.discard(self._branch)
        if self.link.branches and not self.is_lost:
            await self._request({"op": "drop", "other": min(self.link.branches)})
        else:
            await self.kill()

    async def kill(self) -> None:
        """End the worker and all in it. Never waits long, also when cancelled."""
        await self.link.kill()

    async def _folders(self, requirements: tuple[str, ...]) -> list[str]:
        folder = await self._install(requirements, False) if requirements else ""
        return [folder] if folder else []

    async def _request_with(
        self,
        requirements: tuple[str, ...],
        request: dict[str, Any],
        timeout_seconds: float | None = None,
        on_output: OnOutput | None = None,
    ) -> Answer:
        """A request that needs packages. Where the worker finds them gone since they were installed: once more.

        Raises:
            SandboxUnavailable: they are out of its reach all the same; it is ended.
        """
        answer = await self._request(request, timeout_seconds, on_output)
        if answer.done.ending == "gone":
            await self._install(requirements, True)
            answer = await self._request(request, timeout_seconds, on_output)
        if answer.done.ending == "gone":
            await self.kill()
            raise SandboxUnavailable(
                "The folder of packages was replaced under this session, whose worker was ended: call again."
            )
        return answer

    async def _request(
        self, request: dict[str, Any], timeout_seconds: float | None = None, on_output: OnOutput | None = None
    ) -> Answer:
        try:
            who = f"{self.principal!r} in session {self.name!r}" if self.name else ""
            return await self.link.request({**request, "branch": self._branch}, timeout_seconds, on_output, who=who)
        finally:
            self.used_at = time.monotonic()

    def _outcome(self, answer: Answer, timeout_seconds: float | None, what: Literal["step", "call"]) -> Outcome:
        done = answer.done
        # A misfit, or what it does not know, is told of calls only, and once: else user code made the frame.
        ending = Ending(done.ending) if done.ending in _ENDINGS else Ending.LOST
        error, notes = done.error, list(self.news)
        self.news = ()
        if done.taken_back:
            notes.append(TAKEN_BACK)
        if ending not in (Ending.RETURNED, Ending.RAISED, Ending.OUTPUT):
            how = _LOST_WITH_WORKER if self.is_lost else self._ended_how(done.ending, timeout_seconds)
            error = f"The {what} {how}.\n{error}".rstrip()
            if self.is_lost:
                notes.append("The session's worker is gone, with its variables and files. The next call starts anew.")
            elif done.session_lost:
                notes.append(VARIABLES_LOST)
            elif what == "step":
                notes.append("The session's variables are as they were before this step.")
                if ending is Ending.TIMEOUT:
                    notes.append(_HOW_TO_KEEP.format(self._limits.grace_seconds))
        if done.other_versions:
            notes.append(f"Imported already in another version, which stays: {', '.join(done.other_versions)}.")
        notes += done.remarks
        if done.in_place and not done.session_lost and what == "step":
            notes.append(
                "Rollback is off in this session: something it imported keeps threads running, so steps run in place."
            )
        return Outcome(
            ending=ending,
            value=done.value,
            shown=done.shown,
            stdout=answer.text("stdout"),
            stderr=answer.text("stderr"),
            dropped_bytes=done.dropped_bytes,
            error=error,
            notes=tuple(notes),
            files=tuple(WorkspaceFile(file.path, file.size_bytes) for file in done.files),
            links=tuple(done.links),
            images=tuple(Image(picture.mime_type, picture.base64) for picture in done.images),
            defined=tuple(done.defined),
            seconds=time.monotonic() - answer.started,
        )

    def _ended_how(self, ending: str, timeout_seconds: float | None = None) -> str:
        seconds = timeout_seconds or self._limits.wall_seconds
        with_others = ", with what the sessions hold that were forked from one another," * (len(self.link.branches) > 1)
        return {
            "timeout": f"did not end within {seconds:g} s and was stopped",
            "memory": f"needed more than {self._limits.memory_bytes >> 20} MiB of memory{with_others} and was stopped",
            "cancelled": "was cancelled",
            "ruined": _RUINED,
            "full": "was not begun: its worker has all the processes and threads that it may have",
            "hung": "was not begun: a hook of it on forks (os.register_at_fork) or a thread lets nothing else run",
            "lost": "ended its own process (os._exit, a crash or a kill)",
        }.get(ending, f"failed ({ending})")


def _newest(steps: tuple[str, ...]) -> tuple[str, ...]:
    while sum(map(len, steps)) > MAX_STEPS_CHARACTERS:
        steps = steps[1:]
    return steps


def _key_of(name: str, sources: Mapping[str, str], folders: Sequence[str]) -> str:
    """What a zygote is kept under: everything that decides what it holds."""
    digest = hashlib.sha256(repr((name, sorted(sources.items()), folders)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
