"""A fork without Python's own hooks, which cost more than the rest of it: half of a call's page faults were theirs.

`os.fork` has `random`, `threading` and `logging` renew their locks and numbers. Where there is one thread, as there is
where these processes fork, no lock is held by another and there is nothing to renew but `random`, which is the job's.
A library of the user's that asks to be told of forks is told: then `os.fork` it is.
"""

from __future__ import annotations

import ctypes
import os
import posix
from collections.abc import Callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NEED_NOTHING = {"random", "threading", "logging", "concurrent.futures.thread", "asyncio.events"}
"""Modules of Python whose hooks renew locks, or what `random` has."""

_plain_fork = ctypes.PyDLL(None).fork  # PyDLL: the lock of the interpreter stays held, in both processes
_fork_with_hooks = os.fork
_register = os.register_at_fork
_someone_wants_to_know = False


def watch_hooks() -> None:
    """Notice from now on who asks to be told of forks."""
    for module in (os, posix):
        setattr(module, "register_at_fork", _register_at_fork)  # noqa: B010


def fork() -> int:
    """As `os.fork`, for a process of one thread.

    Raises:
        OSError
    """
    if _someone_wants_to_know:
        return _fork_with_hooks()
    pid: int = _plain_fork()
    return pid if pid >= 0 else _fork_with_hooks()  # which says why it cannot


def _register_at_fork(**hooks: Callable[[], Any]) -> None:
    global _someone_wants_to_know
    _register(**hooks)
    if any(getattr(hook, "__module__", "") not in _NEED_NOTHING for hook in hooks.values()):
        _someone_wants_to_know = True
