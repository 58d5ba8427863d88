"""One worker, one call at a time: requests as frames, output as it comes, and an `Outcome` however it ends."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import anyio
import anyio.lowlevel
from pydantic import ValidationError

from dynasaur_mcp.errors import ArgumentsInvalid, WorkerLost
from dynasaur_mcp.sandbox.answer import Answer, Done
from dynasaur_mcp.sandbox.base import Worker
from dynasaur_mcp.sandbox.wire import MAX_FRAME_BYTES, FrameError, FrameReader, encode_frame
from dynasaur_mcp.types import Check, Ending, Image, Limits, Outcome, Problem, Schemas, Tests, WorkspaceFile

READY_SECONDS = 30.0
MAX_REQUEST_BYTES = MAX_FRAME_BYTES - 4096
"""The worker passes a request on with a word or two of its own."""
_PING_SECONDS = 2.0
_OVERHEAD_SECONDS = 40.0
"""Beyond a request's own deadline: the worker's own patience with a fork that does not answer, twice."""

_ENDINGS = frozenset(Ending)

OnOutput = Callable[[str, str], None]
"""Given `stdout` or `stderr`, and the text just printed."""
InstallPackages = Callable[[tuple[str, ...]], Awaitable[str]]


class Session:
    """A worker lent to one principal under a name. Not for two callers at once: the pool sees to that."""

    def __init__(self, worker: Worker, limits: Limits, install: InstallPackages) -> None:
        self.principal = ""
        self.name = ""
        self.steps: tuple[str, ...] = ()
        """Code of the steps that count, in order."""
        self.is_lost = False
        self.used_at = time.monotonic()
        self._worker = worker
        self._limits = limits
        self._install = install
        self._reader = FrameReader()
        self._known: set[str] = set()
        self._requests = 0

    @property
    def worker_id(self) -> str:
        return self._worker.id

    async def wait_ready(self) -> None:
        """Wait for the worker's first frame.

        Raises:
            WorkerLost
        """
        try:
            with anyio.fail_after(READY_SECONDS):
                while not self._reader.feed(await self._worker.receive()):
                    pass
        except TimeoutError:
            raise WorkerLost(f"The worker was not ready within {READY_SECONDS:.0f} s") from None
        except FrameError:
            raise WorkerLost("What it said first was not for the server") from None

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
        answer = await self._request(request, timeout_seconds, on_output)
        outcome = self._outcome(answer, timeout_seconds, "step")
        if outcome.ending in (Ending.RETURNED, Ending.RAISED) and not self.is_lost:
            self.steps += (code,)
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
        answer = await self._request(request if key in self._known else request | loading, timeout_seconds, on_output)
        if answer.done.ending == "unknown":
            answer = await self._request(request | loading, timeout_seconds, on_output)
        if answer.done.ending == "misfit":
            raise ArgumentsInvalid(f"{name} was not called:", [Problem(misfit) for misfit in answer.done.misfits])
        self._known.add(key)
        return self._outcome(answer, timeout_seconds, "call")

    async def check(self, name: str, sources: Mapping[str, str], requirements: tuple[str, ...]) -> Check:
        """Import an action, make its schemas, run its tests. Only for a worker that has run nothing."""
        folders = await self._folders(requirements)
        request = {"op": "check", "action": name, "sources": dict(sources), "folders": folders}
        answer = await self._request(request, None, None)
        done = answer.done
        output = answer.text("stdout") + answer.text("stderr")
        if done.ending != "returned":
            what = self._ended_how(done.ending, self._limits.wall_seconds)
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
            schemas=schemas,
            tests=Tests(passed=done.passed, failures=tuple(done.failures)),
            output=output,
        )

    async def answers(self) -> bool:
        """Whether the worker is still there."""
        with anyio.move_on_after(_PING_SECONDS):
            await self._request({"op": "ping"}, None, None)
            return not self.is_lost
        return False

    async def kill(self) -> None:
        """End the worker and all in it. Never waits long, also when cancelled."""
        self.is_lost = True
        with anyio.CancelScope(shield=True):
            await self._worker.kill()

    async def _folders(self, requirements: tuple[str, ...]) -> list[str]:
        return [await self._install(requirements)] if requirements else []

    async def _request(
        self, request: dict[str, Any], timeout_seconds: float | None, on_output: OnOutput | None
    ) -> Answer:
        """Send a request and read until it is done. A worker that is gone, silent or talks nonsense is killed."""
        seconds = timeout_seconds or self._limits.wall_seconds
        self._requests += 1
        answer = Answer()
        try:
            data = encode_frame({**request, "id": self._requests, "seconds": seconds})
            if len(data) > MAX_REQUEST_BYTES:
                raise FrameError
        except (ValueError, TypeError, RecursionError) as error:
            answer.done = Done(ending="raised", error=f"JSON cannot hold what was to be sent: {error}.")
            return answer
        except FrameError:
            answer.done = Done(ending="output", error="It is too large to be sent to the sandbox; use a file.")
            return answer
        # Here, not in `send`: what was never sent has no answer that `_cancel` could wait for.
        await anyio.lowlevel.checkpoint_if_cancelled()
        try:
            with anyio.fail_after(2 * (seconds + self._limits.grace_seconds) + _OVERHEAD_SECONDS):
                await self._worker.send(data)
                await self._read_answer(answer, on_output)
        except anyio.get_cancelled_exc_class():
            await self._cancel(answer)
            raise
        except (WorkerLost, FrameError, ValidationError, TimeoutError):
            await self.kill()
            answer.done = Done(ending="lost", session_lost=True)
        finally:
            self.used_at = time.monotonic()
        return answer

    async def _read_answer(self, answer: Answer, on_output: OnOutput | None) -> None:
        while True:
            for message in self._reader.feed(await self._worker.receive()):
                if message.get("id") != self._requests:
                    continue
                if "done" in message:
                    answer.done = Done.model_validate(message["done"])
                    return
                stream, text = message.get("stream"), message.get("text")
                if stream not in answer.texts or not isinstance(text, str):
                    raise FrameError("an output frame is malformed")
                answer.texts[stream].append(text)
                if on_output:
                    on_output(stream, text)

    async def _cancel(self, answer: Answer) -> None:
        """Stop the request under way; if that does not work in time, the worker."""
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(2 * self._limits.grace_seconds + 2):
                    await self._worker.send(encode_frame({"op": "cancel", "id": self._requests}))
                    await self._read_answer(answer, None)
            except (WorkerLost, FrameError, ValidationError, TimeoutError):
                await self.kill()

    def _outcome(self, answer: Answer, timeout_seconds: float | None, what: Literal["step", "call"]) -> Outcome:
        done = answer.done
        # A misfit, or what it does not know, is told of calls only, and once: else user code made the frame.
        ending = Ending(done.ending) if done.ending in _ENDINGS else Ending.LOST
        error, notes = done.error, []
        if ending not in (Ending.RETURNED, Ending.RAISED, Ending.OUTPUT):
            how = self._ended_how(ending, timeout_seconds or self._limits.wall_seconds)
            error = f"The {what} {how}.\n{error}".rstrip()
            if self.is_lost:
                notes.append("The session's worker is gone, with its variables and files. The next call starts anew.")
            elif done.session_lost:
                notes.append("The session's variables are lost; its files are still there.")
            elif what == "step":
                notes.append("The session's variables are as they were before this step.")
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
            images=tuple(Image(picture.mime_type, picture.base64) for picture in done.images),
            defined=tuple(done.defined),
            seconds=time.monotonic() - answer.started,
        )

    def _ended_how(self, ending: str, seconds: float) -> str:
        return {
            "timeout": f"did not end within {seconds:g} s and was stopped",
            "memory": f"needed more than {self._limits.memory_bytes >> 20} MiB of memory and was stopped",
            "cancelled": "was cancelled",
            "lost": "ended its own process (os._exit, a crash or a kill)",
        }.get(ending, f"failed ({ending})")


def _key_of(name: str, sources: Mapping[str, str], folders: Sequence[str]) -> str:
    """What a zygote is kept under: everything that decides what it holds."""
    digest = hashlib.sha256(repr((name, sorted(sources.items()), folders)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()
