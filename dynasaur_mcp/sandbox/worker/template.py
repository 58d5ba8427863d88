"""A template: a fork of the supervisor with all imported that its jobs need, and which has run nothing.

The first is forked before the supervisor's own imports, which go on beside it, so this module imports next to nothing.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from _socket import socket, socketpair

from dynasaur_mcp.sandbox.worker.harden import (
    descriptors_end,
    expendable_forks,
    harden_template,
    limit_memory,
    note_limits,
)
from dynasaur_mcp.sandbox.worker.usage import ON_GVISOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from dynasaur_mcp.sandbox.worker.forker import Channel, Job, Rehearsal

REHEARSALS = 9
"""Of what a job does: after eight calls CPython 3.11 specialises a function, and forks need not."""


def start_template(limits: Mapping[str, Any], *, for_calls: bool) -> tuple[int, socket]:
    """Its pid and the control socket to it, which it answers on once it has done its imports.

    Raises:
        OSError: there are as many processes as there may be.
    """
    ours, theirs = socketpair()
    try:
        with expendable_forks():
            pid = os.fork()
    except OSError:
        ours.close()
        theirs.close()
        raise
    if pid == 0:
        _become_template(theirs, limits, for_calls=for_calls)
    theirs.close()
    return pid, ours


def _become_template(control: socket, limits: Mapping[str, Any], *, for_calls: bool) -> None:
    """Import what jobs need, then fork on request; never returns."""
    with _dying_alone():
        gc.disable()
        with contextlib.suppress(OSError):
            os.closerange(3, control.fileno())
            os.closerange(control.fileno() + 1, descriptors_end())
        # A scheduling group of its own (sched_autogroup): user code may make its own yield, never the supervisor's.
        if not ON_GVISOR:  # it ends the stopped processes of such a group whenever another ends
            os.setsid()
        harden_template(limits["open_files"])

        from dynasaur_mcp.sandbox.worker import problems
        from dynasaur_mcp.sandbox.worker.fork import watch_hooks
        from dynasaur_mcp.sandbox.worker.forker import fork_on_request

        problems.hosts = tuple(limits["network"])
        # As of an interactive Python: `argparse` in a step is to find no arguments of the worker's.
        sys.argv[:] = [""]
        watch_hooks()
        for stream in (sys.stdout, sys.stderr):
            # By line, so that what an overrunning job printed is there; and no character is an error.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        jobs, rehearsals = _learn_calls() if for_calls else _learn_steps()
        limit_memory(limits["memory_bytes"])
        note_limits()
        for rehearsal in set(rehearsals.values()):
            for _ in range(REHEARSALS):
                rehearsal()
        gc.freeze()
        gc.enable()
        fork_on_request(control, jobs, rehearsals)


def _learn_steps() -> tuple[dict[str, Job], dict[str, Rehearsal]]:
    from dynasaur_mcp.sandbox.worker.steps import rehearse_step, run_step
    from dynasaur_mcp.sandbox.worker.workspaces import move_in

    jobs: dict[str, Job] = {
        "step": run_step,
        "copy": _on_use("workspaces", "copy_workspace"),
        "remove": _on_use("workspaces", "remove_workspace"),
        "move": move_in,
        "files": _on_use("files", "work_on_files"),
    }
    return jobs, {"step": rehearse_step, "move": rehearse_step}


def _learn_calls() -> tuple[dict[str, Job], dict[str, Rehearsal]]:
    import typing

    import typing_extensions

    if sys.version_info < (3, 12):
        # pydantic refuses typing's own before Python 3.12; this one is made to take its place.
        typing.TypedDict = typing_extensions.TypedDict

    from dynasaur_mcp.sandbox.worker.calls import call_action, load_action, rehearse_call

    # pydantic's own. An action that imports it gets another, and only then do its forks have one to seed.
    if own := sys.modules.pop("random", None):
        unseeded = own.SystemRandom()
        for module in list(sys.modules.values()):
            # Nobody seeds it for these (`email.utils`): in each fork it would give the same numbers.
            if vars(module).get("random") is own:
                setattr(module, "random", unseeded)  # noqa: B010

    jobs: dict[str, Job] = {
        "load": load_action,
        "call": call_action,
        "check": _on_use("checks", "check_action"),
        "learn": _on_use("checks", "learn_checks"),
    }
    return jobs, {"load": rehearse_call}


def _on_use(module: str, function: str) -> Job:
    """A job imported in its own fork: every fork of the template would carry it."""

    def run(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
        job: Job = getattr(importlib.import_module(f"dynasaur_mcp.sandbox.worker.{module}"), function)
        return job(channel, message)

    return run


@contextlib.contextmanager
def _dying_alone() -> Iterator[None]:
    """A child never unwinds into the supervisor's own frames."""
    try:
        yield
    except BaseException:  # boundary: the process ends here
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)
