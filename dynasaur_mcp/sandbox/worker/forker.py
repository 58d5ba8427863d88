"""A process that forks on request: what the template, every session interpreter and every action's zygote are.

A job is one byte on the control socket with three descriptors: the job's own socket, its stdout, its stderr. The
process forks at once and answers with the child's pid, or that there is NO_ROOM; the *child* reads the job's frame from
its own socket, so nothing a caller sends is ever seen by a process that lives on. So a fork can also be made ahead of
its job, and wait; when the supervisor has nothing else to do, it tells one after the other to make itself ready.
A job ends with a `done` frame. One that is to be `kept` then becomes such a process itself, with its own socket as the
control socket; the supervisor ends the one it replaces.

Forking is only sound with one OS thread. A process with more runs the job itself and answers with its own pid, or with
0 where it was to fork ahead.

These processes cannot be read by others of their uid, so that no action sees another's memory or a session's. A job can
be, and a session is told to SHOW itself while its step runs, for the supervisor's count of memory; it answers to HIDE.

A step may ruin its own process: replace what this module calls, close what it speaks through, lower its limits. The
names that are imported here are this module's own, which replacing them in `os` does not reach. What is ruined all the
same either shows at the step's own end, which is then `ruined`; or in the first fork of what the step has become, which
the supervisor has PROVE that a step can still be run, before it ends the session as it was.
"""

from __future__ import annotations

import sys
from _socket import CMSG_LEN, socket
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from os import O_RDWR, WNOHANG, _exit, close, devnull, dup2, getpid, listdir, read, waitpid, write
from os import open as open_file
from signal import ITIMER_PROF, ITIMER_REAL, ITIMER_VIRTUAL, pause, setitimer

from dynasaur_mcp.sandbox.wire import decode_json, encode_frame
from dynasaur_mcp.sandbox.worker.fork import fork
from dynasaur_mcp.sandbox.worker.harden import (
    heed_children,
    heed_interrupt,
    ignore_children,
    recover,
    set_expendable,
    set_readable,
)
from dynasaur_mcp.sandbox.worker.orders import DESCRIPTORS, FORK, HIDE, MAKE_READY, NO_ROOM, PROOF, PROVE, SHOW
from dynasaur_mcp.sandbox.worker.pages import pages
from dynasaur_mcp.sandbox.worker.problems import describe_exception

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Job = Callable[["Channel", dict[str, Any]], dict[str, Any]]
    """Runs one job, given its channel and its frame, and returns what the `done` frame says."""

    Rehearsal = Callable[[], None]

_RUINED = encode_frame({"done": {"ending": "ruined"}})
_LIMITS_ARE_BACK = "The limits that it lowered for its own process are as they were before: {}."
_OUT_OF_THE_WAY = 64
"""From here on are the numbers of a job's own sockets, as code closes what it finds at low ones."""


class Channel:
    """A job's own socket, seen from inside the job. By its number: a socket object would cost each fork its pages."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any]
        message, _ = decode_json(self._read(int.from_bytes(self._read(4), "big")).decode())
        return message

    def send(self, message: dict[str, Any]) -> None:
        data = memoryview(encode_frame(message))
        while data:
            data = data[write(self.descriptor, data) :]

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = read(self.descriptor, size - len(data))
            if not part:
                _exit(0)
            data = data + part if data else part
        return data


def fork_on_request(control: socket, jobs: Mapping[str, Job], rehearsals: Mapping[str, Rehearsal]) -> None:
    """Serve jobs until the control socket closes. Never returns: a child whose job is not kept exits.

    Args:
        rehearsals: What forks made ahead do while they wait, by the job that their parent was kept after.
    """
    rehearsal: Rehearsal | None = None
    on_child: Any = None
    while True:
        byte, along, _, _ = control.recvmsg(1, CMSG_LEN(DESCRIPTORS.size))
        if byte in (SHOW, HIDE):
            set_readable(byte == SHOW)
            if byte == HIDE:
                control.sendall(HIDE)
            continue
        if not byte or [len(data) for _, _, data in along] != [DESCRIPTORS.size]:
            _exit(0)
        descriptors = DESCRIPTORS.unpack(along[0][2])
        in_place = len(listdir("/proc/self/task")) > 1
        if on_child is None and not in_place:
            on_child = ignore_children()
        _reap_children()
        pages.learn()
        if in_place:
            runs_job = byte == FORK
            control.sendall((getpid() if runs_job else 0).to_bytes(4, "big"))
        else:
            try:
                child = fork()
            except OSError:
                child = NO_ROOM
            runs_job = child == 0
            if child:
                control.sendall(child.to_bytes(4, "big"))
        if not runs_job:
            for descriptor in descriptors:
                close(descriptor)
            continue
        control.close()
        if on_child is not None:
            heed_children(on_child)
            on_child = None
        own = fcntl(descriptors[0], F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        close(descriptors[0])
        channel = Channel(own)
        _take_output(descriptors[1:])
        if byte == PROVE:
            if rehearsal:
                rehearsal()
            channel.send(PROOF)
        while (message := channel.receive()) == MAKE_READY:
            with suppress(BaseException):  # boundary: user code may have replaced what it uses
                if pages.are_known:
                    pages.own()
                elif rehearsal:
                    rehearsal()
        set_readable(True)
        # Out of memory, the kernel is to end the job, not the session that it is to go back to.
        set_expendable(not in_place)
        _run_job(channel, message, jobs[message["op"]], in_place)
        if not (message.get("keep") or in_place):
            # The supervisor ends it. An end of its own would, on the one processor of a jail, come before the answer.
            read(own, 1)
            _exit(0)
        control = socket(fileno=own)
        rehearsal = rehearsals.get(message["op"])


def _take_output(output: tuple[int, ...]) -> None:
    for number, descriptor in zip((1, 2), output, strict=True):
        dup2(descriptor, number)
        close(descriptor)


def _run_job(channel: Channel, message: dict[str, Any], job: Job, in_place: bool) -> None:
    lives_on = message.get("keep") or in_place
    # A session's next step goes on with the session's own numbers.
    if not message.get("keep"):
        for name in ("random", "numpy.random"):
            with suppress(BaseException):  # boundary: user code may have put anything in its place
                if name in sys.modules:
                    sys.modules[name].seed()
    heed_interrupt(True)
    own = getpid()
    done: dict[str, Any] = {}
    try:
        try:
            done = job(channel, message)
        except BaseException as error:  # boundary: user code that runs where a job does not look for it
            done = {"ending": "raised", "error": describe_exception(error)}
        heed_interrupt(False)
        _flush()
        if getpid() != own:
            # A fork of user code that ran on to the end of the code: the answer is its parent's to give.
            _exit(1)
        if lives_on:
            _settle(done)
        done["in_place"] = in_place
        channel.send({"done": done})
        if lives_on:
            # After the answer: what this keeps out gets no turn before the next request.
            set_expendable(False)
            set_readable(False)
    except BaseException as error:  # boundary: what user code has left of the process
        if getpid() != own:
            _exit(1)
        with suppress(OSError):
            write(channel.descriptor, _describe_ruin(error, done))
        while True:  # the supervisor ends it
            pause()


def _describe_ruin(error: BaseException, done: dict[str, Any]) -> bytes:
    """What is to be sent: with what the job itself says of it, else with what this process cannot do any more."""
    try:
        return encode_frame({"done": {"ending": "ruined", "error": done.get("error") or describe_exception(error)}})
    except BaseException:  # boundary: as there
        return _RUINED


def _settle(done: dict[str, Any]) -> None:
    """Of a process that lives on: no timer is left to end it, no later descriptor gets a standard one's number, and its
    streams are open."""
    for timer in (ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF):
        setitimer(timer, 0)
    if raised := recover():
        done.setdefault("remarks", []).append(_LIMITS_ARE_BACK.format(", ".join(raised)))
    null = open_file(devnull, O_RDWR)
    for number in (0, 1, 2):
        dup2(null, number)
    if null > 2:
        close(null)
    # `exit()` closes stdin, without which there is no `help`; `with open(…) as sys.stdout` leaves a closed file there.
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        with suppress(BaseException):  # boundary: user code may have put anything in its place
            if getattr(sys, name).closed:
                stream = open(number, mode, 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
                setattr(sys, name, stream)


def _flush() -> None:
    for name in ("stdout", "stderr"):
        with suppress(BaseException):  # boundary: user code may have replaced or closed it
            getattr(sys, name).flush()


def _reap_children() -> None:
    with suppress(ChildProcessError):
        while waitpid(-1, WNOHANG)[0]:
            pass
