"""Run a piece of code: find the actions and the packages it needs, run it as a step of the caller's session."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio.to_thread

from dynasaur_mcp.library.reading import find_used_actions
from dynasaur_mcp.library.script import read_step
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements, naming_who_needs
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.types import Outcome


async def run_step(
    code: str,
    requirements: tuple[str, ...],
    *,
    principal: str,
    session: str,
    timeout_seconds: float | None,
    store: Store,
    pool: Pool,
    on_output: Callable[[str, str], None],
) -> Outcome:
    """One step in the principal's session of that name, which is opened if need be.

    Args:
        requirements: Packages it needs, beside those it declares at its top.

    Raises:
        SessionsFull, RequirementsInvalid, ActionInvalid: nothing was run.
        SandboxError: nothing could be run.
    """
    imported = await _find_used(code)
    used = follow_uses(store.get, imported, pool.workers.limits.network)
    needs = {**used.needs, "": (*requirements, *read_step(code))}
    async with pool.session(principal, session) as opened:
        session_id = pool.identify(principal, session)
        with naming_who_needs(needs):
            outcome = await opened.run(
                code,
                used.sources,
                join_requirements(needs),
                timeout_seconds=timeout_seconds,
                on_output=on_output,
            )
    if used.entries and outcome.succeeded:
        versions = {entry.name: entry.version for entry in used.entries if entry.name in imported}
        store.record_imports(versions, session=session_id, uses=used.sources.keys() - versions.keys())
    return replace(outcome, notes=(*outcome.notes, *used.missing.values())) if used.missing else outcome


async def _find_used(code: str) -> frozenset[str]:
    """The actions it imports. Parsing takes a while, and most code imports none."""
    return await anyio.to_thread.run_sync(find_used_actions, code) if "actions" in code else frozenset()
