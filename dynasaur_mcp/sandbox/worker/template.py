"""The template: a fork of the supervisor with all imported that jobs need, and which has run nothing."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import sys
import traceback
import typing
from collections.abc import Iterator
from typing import Any, cast

from dynasaur_mcp.sandbox.worker.forker import Channel, fork_on_request
from dynasaur_mcp.sandbox.worker.harden import limit_memory


def become_template(control: socket.socket, memory_bytes: int) -> None:
    """Import what jobs need, then fork on request; never returns."""
    with _dying_alone():
        import gc

        import typing_extensions

        from dynasaur_mcp.sandbox.worker.calls import call_action, load_action
        from dynasaur_mcp.sandbox.worker.steps import run_step
        from dynasaur_mcp.sandbox.worker.workspaces import copy_workspace, move_in, remove_workspace

        if sys.version_info < (3, 12):
            # pydantic refuses typing's own before Python 3.12; this one is made to take its place.
            typing.TypedDict = typing_extensions.TypedDict
        for stream in (sys.stdout, sys.stderr):
            # By line, so that what an overrunning job printed is there; and no character is an error.
            cast(io.TextIOWrapper, stream).reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        limit_memory(memory_bytes)
        gc.freeze()
        jobs = {"step": run_step, "load": load_action, "call": call_action, "check": _check_action}
        jobs |= {"copy": copy_workspace, "remove": remove_workspace, "move": move_in}
        fork_on_request(control, jobs)


def _check_action(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    # Not in the template, whose every fork would carry it.
    from dynasaur_mcp.sandbox.worker.checks import check_action

    return check_action(channel, message)


@contextlib.contextmanager
def _dying_alone() -> Iterator[None]:
    """A child never unwinds into the supervisor's own frames."""
    try:
        yield
    except BaseException:  # boundary: the process ends here
        traceback.print_exc()
    finally:
        os._exit(1)
