"""Call an action: find it, check its arguments, run it in the caller's session, record how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dynasaur_mcp.errors import ActionDisabled, NetworkDenied
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements, naming_who_needs
from dynasaur_mcp.sandbox.pool import DEFAULT_SESSION, Pool
from dynasaur_mcp.types import JSON, Entry, Outcome, Status


@dataclass(frozen=True, slots=True)
class Execution:
    """A call that came to an end, well or badly."""

    entry: Entry
    outcome: Outcome
    session: str


async def execute_action(
    name: str, arguments: Mapping[str, JSON], *, principal: str, session: str | None, store: Store, pool: Pool
) -> Execution:
    """Call the current version of an action.

    Args:
        session: One that is open; None for the principal's default session, which is opened if need be.

    Raises:
        ActionNotFound, ActionDisabled, NetworkDenied, ArgumentsInvalid, RequirementsInvalid, SessionNotFound: nothing
            was run.
        SandboxError: nothing could be run.
    """
    entry = store.get(name)
    if entry.status is Status.DISABLED:
        raise ActionDisabled(name)
    used = follow_uses(store.get, [name], pool.limits.network)
    if used.denied:
        raise NetworkDenied(name, used.denied)
    async with pool.session(principal, session or DEFAULT_SESSION, create=session is None) as opened:
        with naming_who_needs(used.needs, name):
            outcome = await opened.call(name, used.sources, join_requirements(used.needs), arguments)
    if used.missing and not outcome.succeeded:
        outcome = replace(outcome, notes=(*outcome.notes, *used.missing.values()))
    store.record_call(name, entry.version, principal=principal, ending=outcome.ending, seconds=outcome.seconds)
    return Execution(entry, outcome, opened.name)
