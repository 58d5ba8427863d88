"""Progress of a request to its client, where that asked for it: what its code prints, and what it is at."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import AsyncIterator

import anyio

from dynasaur_mcp.runs import Run
from dynasaur_mcp.server.announce import Context
from dynasaur_mcp.server.text import clean_text
from dynasaur_mcp.stages import hearing_stages

PROGRESS_CHARACTERS = 1000
"""Of one message, the newest."""
AGAIN_SECONDS = 15.0
"""After so long without news the last is told again: clients that give a request up after a minute count from the last
they heard. A run needs none of this: it is handed over before."""
LAST_SECONDS = 1.0
"""A client that has stopped reading delays its own result no longer."""


async def report_run(ctx: Context, run: Run, seconds: float) -> None:
    """Wait for a run, at most so long.

    Raises:
        Exception: why it could not be run at all.
    """
    if _is_asked_for(ctx):
        async for characters, text in run.follow(seconds):
            await _report(ctx, characters, text)
        seconds = 0
    await run.wait(seconds)


@contextlib.asynccontextmanager
async def reporting_stages(ctx: Context) -> AsyncIterator[None]:
    """Meanwhile tell what the request is at."""
    if not _is_asked_for(ctx):
        yield
        return
    failure = None
    to_tell, told = anyio.create_memory_object_stream[str](math.inf)

    async def report() -> None:
        with contextlib.suppress(anyio.EndOfStream):
            text = await told.receive()
            for number in itertools.count(1):
                await _report(ctx, number, text)
                with anyio.move_on_after(AGAIN_SECONDS):
                    text = await told.receive()

    async with told, anyio.create_task_group() as tasks:
        tasks.start_soon(report)
        try:
            with to_tell, hearing_stages(to_tell.send_nowait):
                yield
        except Exception as error:  # boundary: raised again below, as it is; the group would wrap it
            failure = error
        tasks.cancel_scope.deadline = anyio.current_time() + LAST_SECONDS
    if failure is not None:
        raise failure


def _is_asked_for(ctx: Context) -> bool:
    return bool(ctx.meta and "progress_token" in ctx.meta)


async def _report(ctx: Context, progress: float, text: str) -> None:
    await ctx.session.report_progress(progress, None, clean_text(text[-PROGRESS_CHARACTERS:]))
