"""What a worker's processes give up, and what they may use. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from os import O_WRONLY, close, write
from os import open as open_file
from resource import RLIM_INFINITY, getrlimit, setrlimit
from types import SimpleNamespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SUPERVISORS_FILES = 1 << 15
"""Descriptors that the supervisor may have beyond all others, where it is given as many. It passes some to start a job,
and the kernel refuses that to whoever may have fewer than are under way between all processes of its user."""

_RECOVERED = {
    getattr(resource, name): name
    for name in (f"RLIMIT_{what}" for what in ("AS", "CPU", "DATA", "FSIZE", "NOFILE", "NPROC", "STACK"))
}
_usual_limits: dict[int, int] = {}
"""Soft ones, by kind."""

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
# Own copies of names: user code may replace those of the modules.
_signal = SimpleNamespace(**vars(importlib.import_module("_signal")))
_prctl = ctypes.CDLL(None, use_errno=True).prctl
# Open from the start: this one is closed to a process that cannot be read.
_own_expendability = os.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
_usual_expendability = os.read(_own_expendability, 16).strip()
_forks_expendability = str(max(int(_usual_expendability), 100)).encode()


def harden_supervisor(limits: dict[str, Any]) -> None:
    """Make this process unreadable and unsignalled for what it will start, which inherits the limits set here."""
    if uid := limits.get("uid"):
        own_uid = limits.get("own_uid", uid)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(own_uid, uid, own_uid)
    # After the change of uid, which undoes all three. Forks inherit the last two; what they exec is readable again.
    _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _control(_PR_SET_NO_NEW_PRIVS, 1)
    set_readable(False)
    # pid 1 gets from its own children only signals it has a handler for: Python's SIGINT handler must go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _set(resource.RLIMIT_CORE, 0)
    # /dev/mqueue is there for all to write to; gVisor has none, nor its limit.
    with contextlib.suppress(ValueError):
        _set(resource.RLIMIT_MSGQUEUE, 0)
    _set(resource.RLIMIT_NOFILE, limits["open_files"] + _SUPERVISORS_FILES)
    _set(resource.RLIMIT_FSIZE, limits["file_bytes"])
    if limits.get("limit_processes"):
        _set(resource.RLIMIT_NPROC, limits["processes"])


def harden_template(open_files: int) -> None:
    """Of what the supervisor starts: with the effective uid alone it can neither signal nor read the supervisor."""
    uid = os.geteuid()
    os.setresuid(uid, uid, uid)
    _set(resource.RLIMIT_NOFILE, open_files)


def descriptors_end() -> int:
    """No descriptor of this process has this number or a higher one."""
    return getrlimit(resource.RLIMIT_NOFILE)[0]


def set_readable(readable: bool) -> None:
    """Whether other processes of this uid may read and trace this one (PR_SET_DUMPABLE)."""
    _control(_PR_SET_DUMPABLE, int(readable))


def heed_interrupt(heeds: bool) -> None:
    """Whether SIGINT is a KeyboardInterrupt, or nothing."""
    # Not by `signal.signal`: it looks handlers up among its enums, and a fork comes to own a dozen pages by that.
    _signal.signal(_signal.SIGINT, _signal.default_int_handler if heeds else _signal.SIG_IGN)


def note_limits() -> None:
    """Remember what this process may use, for `recover` in those that descend from it."""
    _usual_limits.update({kind: getrlimit(kind)[0] for kind in _RECOVERED})


def recover() -> list[str]:
    """Undo what a step may have done to its own process that later ones would inherit: to end with what it was forked
    from, to hear no interrupt, to have next to nothing of what it may use.

    Returns:
        The limits that had been lowered, by name.
    """
    _control(_PR_SET_PDEATHSIG, 0)
    _signal.pthread_sigmask(_signal.SIG_UNBLOCK, (_signal.SIGINT,))
    raised = []
    for kind, usual in _usual_limits.items():
        soft, hard = getrlimit(kind)
        wanted = min(usual, hard, key=_as_number)
        if _as_number(soft) < _as_number(wanted):
            setrlimit(kind, (wanted, hard))
            raised.append(_RECOVERED[kind])
    return raised


def _as_number(limit: int) -> float:
    return inf if limit == RLIM_INFINITY else limit


def ignore_children() -> Any:
    """Have the kernel reap at once what this process forks, which may not wake again to do so; what SIGCHLD did before,
    for `heed_children`."""
    return _signal.signal(_signal.SIGCHLD, _signal.SIG_IGN) or _signal.SIG_DFL


def heed_children(how: Any) -> None:
    """Have SIGCHLD do again what it did."""
    _signal.signal(_signal.SIGCHLD, how)


@contextlib.contextmanager
def expendable_forks() -> Iterator[None]:
    """Of what is forked meanwhile the kernel is to end any before this process when memory is out."""
    _set_expendability(_forks_expendability)
    try:
        yield
    finally:
        _set_expendability(_usual_expendability)


def set_expendable(expendable: bool) -> None:
    """Whether this process is what the kernel ends first when memory is out. It must be readable at the time."""
    # gVisor and odd kernels do without.
    with suppress(OSError):
        # By descriptor: a file object would cost each fork its pages.
        descriptor = open_file("/proc/self/oom_score_adj", O_WRONLY)
        try:
            write(descriptor, b"1000" if expendable else _forks_expendability)
        finally:
            close(descriptor)


def _set_expendability(value: bytes) -> None:
    with contextlib.suppress(OSError):
        os.write(_own_expendability, value)


def limit_memory(memory_bytes: int) -> None:
    """Cap this process' private memory, so that most overruns are a MemoryError at the line to blame."""
    _set(resource.RLIMIT_DATA, memory_bytes)


def _control(option: int, value: int) -> None:
    if _prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def _set(kind: int, value: int) -> None:
    _, hard = getrlimit(kind)
    if hard != RLIM_INFINITY:
        value = min(value, hard)
    setrlimit(kind, (value, value))
