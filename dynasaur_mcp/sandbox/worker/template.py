"""The template: a fork of the supervisor with all imported that jobs need, and which has run nothing."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import socket
import sys
import traceback
import typing
from collections.abc import Iterator
from typing import Any, cast

from dynasaur_mcp.sandbox.worker.fork import watch_hooks
from dynasaur_mcp.sandbox.worker.forker import Channel, Job
from dynasaur_mcp.sandbox.worker.harden import give_up_own_uid, limit_memory
from dynasaur_mcp.sandbox.worker.usage import ON_GVISOR


def become_template(control: socket.socket, memory_bytes: int) -> None:
    """Import what jobs need, then fork on request; never returns."""
    with _dying_alone():
        # A scheduling group of its own (sched_autogroup): user code may make its own yield, never the supervisor's.
        if not ON_GVISOR:  # it ends the stopped processes of such a group whenever another ends
            os.setsid()
        give_up_own_uid()
        import gc

        import typing_extensions

        from dynasaur_mcp.sandbox.worker.calls import call_action, load_action
        from dynasaur_mcp.sandbox.worker.forker import fork_on_request
        from dynasaur_mcp.sandbox.worker.rehearsal import rehearse_call, rehearse_step, wear_in
        from dynasaur_mcp.sandbox.worker.steps import run_step
        from dynasaur_mcp.sandbox.worker.workspaces import move_in

        if sys.version_info < (3, 12):
            # pydantic refuses typing's own before Python 3.12; this one is made to take its place.
            typing.TypedDict = typing_extensions.TypedDict
        watch_hooks()
        for stream in (sys.stdout, sys.stderr):
            # By line, so that what an overrunning job printed is there; and no character is an error.
            cast(io.TextIOWrapper, stream).reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        limit_memory(memory_bytes)
        wear_in()
        gc.freeze()
        jobs: dict[str, Job] = {
            "step": run_step,
            "load": load_action,
            "call": call_action,
            "check": _on_use("checks", "check_action"),
            "copy": _on_use("workspaces", "copy_workspace"),
            "remove": _on_use("workspaces", "remove_workspace"),
            "move": move_in,
            "files": _on_use("files", "work_on_files"),
        }
        fork_on_request(control, jobs, {"load": rehearse_call, "step": rehearse_step, "move": rehearse_step})


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
        traceback.print_exc()
    finally:
        os._exit(1)
