"""One worker's frames: a request at a time, what it prints as it comes, its end. All sessions of a worker share one."""

from __future__ import annotations

import contextlib
import itertools
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
from opentelemetry.trace import get_tracer
from pydantic import ValidationError

from dynasaur_mcp.errors import WorkerLost
from dynasaur_mcp.sandbox.answer import Answer, Done
from dynasaur_mcp.sandbox.base import Worker
from dynasaur_mcp.sandbox.outlet import Outlet
from dynasaur_mcp.sandbox.tunnels import Tunnels, open_tunnels
from dynasaur_mcp.sandbox.wire import MAX_FRAME_BYTES, FrameError, FrameReader, encode_frame
from dynasaur_mcp.types import Limits

_tracer = get_tracer("dynasaur-mcp")

READY_SECONDS = 30.0
MAX_REQUEST_BYTES = MAX_FRAME_BYTES - 4096
"""The worker passes a request on with a word or two of its own."""
_PING_SECONDS = 2.0
_OVERHEAD_SECONDS = 40.0
"""Beyond a request's own deadline: the worker's own patience with a fork that does not answer, twice."""

OnOutput = Callable[[str, str], None]
"""Given `stdout` or `stderr`, and the text just printed."""


class Link:
    """The line to one worker. Callers hold `lock` for as long as a request takes."""

    def __init__(self, worker: Worker, limits: Limits, outlet: Outlet | None) -> None:
        """
        Args:
            outlet: The way to the hosts of `limits.network`; None where there are none.
        """
        self.limits = limits
        self.lock = anyio.Lock(fast_acquire=True)
        self.known: set[str] = set()
        """Actions, as `Session.call` keys them, that the worker has been sent."""
        self.branches: set[int] = set()
        """Of the sessions that live in the worker."""
        self.numbers = itertools.count(1)
        """For branches to come."""
        self._worker = worker
        self._outlet = outlet
        self._sending = anyio.Lock(fast_acquire=True)
        self._reader = FrameReader()
        self._tunnels: Tunnels | None = None
        """Of the request under way."""
        self._request_id = 0
        self._killed = False

    @property
    def worker_id(self) -> str:
        return self._worker.id

    @property
    def is_lost(self) -> bool:
        """Whether the worker is gone, as far as can be seen without asking it."""
        return self._killed or self._worker.has_ended()

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

    async def request(
        self,
        request: dict[str, Any],
        timeout_seconds: float | None = None,
        on_output: OnOutput | None = None,
        *,
        who: str = "",
    ) -> Answer:
        """Send a request and read until it is done. A worker that is gone, silent or talks nonsense is killed.

        Args:
            who: Whom connections of its code are made for, for the log; it may make none when this is empty.
        """
        seconds = timeout_seconds or self.limits.wall_seconds
        self._request_id = secrets.randbits(48)
        answer = Answer()
        try:
            data = encode_frame({**request, "id": self._request_id, "seconds": seconds})
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
        attributes = {"dynasaur.op": request["op"], "dynasaur.worker": self.worker_id}
        with _tracer.start_as_current_span("sandbox", attributes=attributes) as span:
            try:
                with anyio.fail_after(2 * (seconds + self.limits.grace_seconds) + _OVERHEAD_SECONDS):
                    async with self._carrying(who):
                        await self._send(data)
                        await self._read_answer(answer, on_output)
            except anyio.get_cancelled_exc_class():
                await self._cancel(answer)
                raise
            except (WorkerLost, FrameError, ValidationError, TimeoutError):
                await self.kill()
                answer.done = Done(ending="lost", session_lost=True)
            span.set_attribute("dynasaur.outcome", answer.done.ending)
        return answer

    async def answers(self) -> bool:
        """Whether the worker is still there."""
        with anyio.move_on_after(_PING_SECONDS):
            await self.request({"op": "ping"})
            return not self.is_lost
        return False

    async def kill(self) -> None:
        """End the worker and all in it. Never waits long, also when cancelled."""
        self._killed = True
        with anyio.CancelScope(shield=True):
            await self._worker.kill()

    async def _read_answer(self, answer: Answer, on_output: OnOutput | None) -> None:
        while True:
            for message in self._reader.feed(await self._worker.receive()):
                if "net" in message:
                    if self._tunnels:
                        self._tunnels.take(message)
                    continue
                if message.get("id") != self._request_id:
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

    @contextlib.asynccontextmanager
    async def _carrying(self, who: str) -> AsyncIterator[None]:
        """Carry the connections of a request's code while it lasts."""
        if self._outlet is None or not who:
            yield
            return
        async with open_tunnels(self._outlet, who, self._send) as self._tunnels:
            try:
                yield
            finally:
                self._tunnels = None

    async def _send(self, data: bytes) -> None:
        async with self._sending:
            await self._worker.send(data)

    async def _cancel(self, answer: Answer) -> None:
        """Stop the request under way; if that does not work in time, the worker."""
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(2 * self.limits.grace_seconds + 2):
                    # At once: a worker that waits for its own frames to be read reads none.
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._send, encode_frame({"op": "cancel", "id": self._request_id}))
                        await self._read_answer(answer, None)
            except* (WorkerLost, FrameError, ValidationError, TimeoutError):
                await self.kill()
