"""One job seen from the supervisor: a fork, its output, its deadline, and how it ended."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from _socket import MSG_WAITALL, SCM_RIGHTS, SOL_SOCKET, socket, socketpair

from dynasaur_mcp.sandbox.wire import MAX_DONE_BYTES, MAX_VALUE_BYTES, FrameError, FrameReader, encode_frame, measure
from dynasaur_mcp.sandbox.worker.orders import DESCRIPTORS, FORK, HIDE, MAKE_READY, NO_ROOM, PROOF, SHOW
from dynasaur_mcp.sandbox.worker.printed import Printed
from dynasaur_mcp.sandbox.worker.process import Process
from dynasaur_mcp.sandbox.worker.stop import Stop
from dynasaur_mcp.sandbox.worker.usage import count_oom_kills, memory_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dynasaur_mcp.sandbox.worker.relay import Relay

FORK_SECONDS = 15.0
"""A process that does not fork within this (its imports included) is given up."""
_END_SECONDS = 1.0
_MEMORY_SECONDS = 0.05
"""Between two looks at memory."""
_JOBS_ENDINGS = frozenset({"returned", "raised", "memory", "output", "misfit", "ruined"})
_SUPERVISORS_WORDS = frozenset({"overran", "killed", "session_lost", "taken_back"})
"""On what becomes of a session: the server acts on them."""
_PART_BYTES = 1 << 16
"""Of what a job says or prints, read at once."""
_PROOF_BYTES = len(encode_frame(PROOF))
_STREAMS = ("stdout", "stderr")


class LostError(Exception):
    """The process that should have forked is gone or does not answer."""


class HungError(LostError):
    """The process that should have forked does not answer, as with a hook on forks that waits for ever."""


class FullError(Exception):
    """There are as many processes as there may be: no fork was made."""


class Forker:
    """A process that forks on request: the control socket to it, and the process itself."""

    def __init__(self, pid: int, control: socket) -> None:
        self.pid = pid
        self.control = control
        self.process = Process(pid)
        self._bytes_at_rest = 0

    def is_alive(self) -> bool:
        """Whether it still holds its end; it may be deaf all the same."""
        if self.control.fileno() < 0:
            return False
        poll = select.poll()
        poll.register(self.control, select.POLLHUP | select.POLLERR)
        return not poll.poll(0) and not self.process.has_ended()

    def rest(self) -> None:
        """Its job has ended: from now on it does nothing, unless it has threads."""
        self._bytes_at_rest = memory_of(self.pid)

    def has_grown(self, by_bytes: int) -> bool:
        """Since it came to rest."""
        return memory_of(self.pid) > self._bytes_at_rest + by_bytes

    def show(self) -> bool:
        """Let the supervisor read its memory while its step runs; whether it still listens."""
        return self._tell(SHOW)

    def hide(self) -> bool:
        """Make it unreadable again, after a step that was rolled back; whether it still lives.

        It answers, as a process looks alive for a while after the step has killed it.
        """
        self.process.signal(signal.SIGCONT)  # the step may have stopped it
        try:
            self.control.settimeout(FORK_SECONDS)
            return self._tell(HIDE) and self.control.recv(1) == HIDE
        except OSError:
            return False

    def _tell(self, order: bytes) -> bool:
        try:
            return self.is_alive() and self.control.send(order) == len(order)
        except OSError:
            return False

    def kill(self) -> None:
        """Begin its end; closing the process sees to the rest."""
        self.control.close()
        self.process.signal(signal.SIGKILL)

    def fork(self, reserved: set[int], order: bytes = FORK) -> Job | None:
        """Make a fork that waits for its payload; None where it cannot be made ahead, as other orders than FORK ask.

        Raises:
            LostError: HungError among them.
            FullError
        """
        ours, theirs = socketpair()
        pipes = [os.pipe() for _ in _STREAMS]
        job = None
        try:
            along = DESCRIPTORS.pack(theirs.fileno(), *(write for _, write in pipes))
            self.control.sendmsg([order], [(SOL_SOCKET, SCM_RIGHTS, along)])
            if not self.process.answers(self.control, FORK_SECONDS):
                raise HungError
            self.control.settimeout(FORK_SECONDS)
            pid = int.from_bytes(self._receive_pid(), "big")
            if pid == NO_ROOM:
                raise FullError
            if pid or order == FORK:
                # The answer comes from a process that may have run user code: it must not make us kill another.
                if pid <= 1 or (pid in reserved and pid != self.pid):
                    raise LostError("its interpreter gave a false answer")
                job = Job(Forker(pid, ours), [read for read, _ in pipes], in_place=pid == self.pid)
        except (OSError, OverflowError):
            raise LostError("its interpreter did not answer") from None
        finally:
            theirs.close()
            for _, write in pipes:
                os.close(write)
            if job is None:
                ours.close()
                for read, _ in pipes:
                    os.close(read)
        return job

    def _receive_pid(self) -> bytes:
        answer = b""
        while len(answer) < 4:
            part = self.control.recv(4 - len(answer))
            if not part:
                raise ConnectionResetError
            answer += part
        return answer


class Job:
    """A fork. It waits for `start`; `done` says how it ended once `watch` has returned."""

    def __init__(self, forker: Forker, output: list[int], *, in_place: bool) -> None:
        self.in_place = in_place
        self.forker = forker
        self.done: dict[str, Any] = {}
        self._stream = forker.control
        self._output = dict(zip(_STREAMS, output, strict=True))
        self._to_send = memoryview(b"")
        self._reader = FrameReader()
        self._phase = ""
        self._is_ready = False
        for descriptor in output:
            os.set_blocking(descriptor, False)

    def start(self, payload: dict[str, Any]) -> None:
        self._stream.setblocking(False)
        self._to_send = memoryview(encode_frame(payload))

    def proves(self) -> bool:
        """Whether it shows within FORK_SECONDS that it can run a step; of a fork made to PROVE it."""
        if not self.forker.process.answers(self._stream, FORK_SECONDS):
            return False
        self._stream.settimeout(FORK_SECONDS)
        try:
            return self._reader.feed(self._stream.recv(_PROOF_BYTES, MSG_WAITALL)) == [PROOF]
        except (OSError, FrameError):
            return False

    def make_ready(self) -> bool:
        """Have it do what can be done before it is started; False if it was told before."""
        if self._is_ready:
            return False
        self._is_ready = True
        # Small enough for the socket of one that does not read.
        with contextlib.suppress(OSError):
            self._stream.send(encode_frame(MAKE_READY))
        return True

    def close_output(self) -> None:
        """Of a job that is over, or never began."""
        for descriptor in self._output.values():
            os.close(descriptor)
        self._output.clear()

    def watch(
        self,
        *,
        seconds: float,
        grace_seconds: float,
        output_bytes: int,
        on_output: Callable[[str, str], None],
        requests: int,
        is_cancelled: Callable[[], bool],
        uses_too_much: Callable[[], bool],
        relay: Relay | None,
    ) -> None:
        """Carry output and wait for the end: its own, or at the limits' hands."""
        oom_kills = count_oom_kills()
        stop = Stop(self.forker.process, time.monotonic() + seconds, grace_seconds)
        printed = {stream: Printed(output_bytes) for stream in _STREAMS}
        poll = select.poll()
        names = {descriptor: stream for stream, descriptor in self._output.items()}
        outside = relay.fileno() if relay else -1
        for descriptor in (*names, requests, *([outside] if relay else [])):
            poll.register(descriptor, select.POLLIN)
        poll.register(self._stream, select.POLLIN | (select.POLLOUT if self._to_send else 0))
        # The end of the process itself: its socket may be held open by what it started.
        ended = self.forker.process.descriptor
        if ended >= 0:
            poll.register(ended, select.POLLIN)
        if is_cancelled():
            stop.begin("cancelled")
        next_look = time.monotonic() + _MEMORY_SECONDS
        while not self.done:
            wait = max(0.0, min(stop.next_at, next_look) - time.monotonic())
            for descriptor, _ in poll.poll(wait * 1000 + 1):
                if descriptor in names:
                    self._carry(names[descriptor], printed, on_output, poll)
                elif descriptor == self._stream.fileno():
                    self._talk(poll)
                elif descriptor == requests:
                    if is_cancelled():
                        stop.begin("cancelled")
                elif relay and descriptor == outside:
                    relay.turn()
                elif descriptor == ended and not self.done:
                    self._end(poll)
            stop.proceed()
            if time.monotonic() >= next_look:
                if ended < 0 and not self.done and self.forker.process.has_ended():
                    self._end(poll)
                if uses_too_much() or count_oom_kills() > oom_kills:
                    stop.kill("memory")
                next_look = time.monotonic() + _MEMORY_SECONDS
        for stream in self._output:
            while self._carry(stream, printed, on_output, poll):
                pass
        self.close_output()
        self._stream.setblocking(True)
        if self.done["ending"] == "lost" and not stop.reason and count_oom_kills() > oom_kills:
            self.done["ending"] = "memory"
        self._conclude(stop, sum(p.dropped for p in printed.values()))

    def _conclude(self, stop: Stop, dropped_bytes: int) -> None:
        if self.done["ending"] == "lost" and self._phase:
            self.done["phase"] = self._phase
        if stop.reason and not (self.done["ending"] == "returned" and not stop.killed):
            self.done["ending"] = stop.reason
            self.done["overran"] = True
            self.done["killed"] = stop.killed
            self.done.setdefault("phase", self._phase)
        self.done["dropped_bytes"] = dropped_bytes

    def _carry(
        self, stream: str, printed: dict[str, Printed], on_output: Callable[[str, str], None], poll: select.poll
    ) -> bool:
        """Pass on what was printed; whether there may be more."""
        descriptor = self._output[stream]
        try:
            data = os.read(descriptor, _PART_BYTES)
        except BlockingIOError:
            return False
        if not data:
            with contextlib.suppress(KeyError):
                poll.unregister(descriptor)
            text = printed[stream].finish()
        else:
            text = printed[stream].take(data)
        if text:
            on_output(stream, text)
        return bool(data)

    def _end(self, poll: select.poll) -> None:
        """Of a process that is over: what it said last counts, but not what others go on saying in its place."""
        for _ in range(MAX_DONE_BYTES // _PART_BYTES + 1):
            if not self._talk(poll):
                break
        self.done = self.done or {"ending": "lost"}

    def _talk(self, poll: select.poll) -> bool:
        """Send it a part, and hear one; whether there may be more. It may never stop talking: no loop here."""
        if self.done:
            return False
        try:
            if self._to_send:
                self._to_send = self._to_send[self._stream.send(self._to_send) :]
                if not self._to_send:
                    poll.modify(self._stream, select.POLLIN)
            data = self._stream.recv(_PART_BYTES)
            if not data:
                # A process that ends closes what it has open before it is over.
                is_over = self.forker.process.has_ended(_END_SECONDS)
                self.done = {"ending": "lost" if is_over else "ruined"}
            for message in self._reader.feed(data):
                if isinstance(message.get("done"), dict) and isinstance(message["done"].get("ending"), str):
                    self.done = _read_done(message["done"])
                    break
                self._phase = str(message.get("phase", ""))[:100]
            return bool(data)
        except BlockingIOError:
            return False
        except (OSError, FrameError):
            self.done = self.done or {"ending": "lost"}
            return False


def _read_done(done: dict[str, Any]) -> dict[str, Any]:
    """What a job says of its end, as far as that is its to say: user code may have made the frame itself."""
    if done["ending"] not in _JOBS_ENDINGS or not _can_be_sent(done):
        return {"ending": "lost"}
    return {name: said for name, said in done.items() if name not in _SUPERVISORS_WORDS}


def _can_be_sent(done: dict[str, Any]) -> bool:
    """Whether the server can be told. User code may have made this frame itself, with NaN, or with five million lists:
    these kept the server from all others for half a minute."""
    try:
        size = len(encode_frame(done))
        return size <= MAX_VALUE_BYTES or (size <= MAX_DONE_BYTES and measure(done.get("value")) <= MAX_VALUE_BYTES)
    except (FrameError, ValueError, RecursionError):
        return False
