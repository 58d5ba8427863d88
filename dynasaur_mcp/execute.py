"""Call an action: find it, check its arguments, run it in the caller's session, record how it ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dynasaur_mcp.errors import ActionDisabled, ActionNotFound, LibraryError, NetworkDenied
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements, naming_who_needs
from dynasaur_mcp.sandbox.pool import DEFAULT_SESSION, Pool
from dynasaur_mcp.types import JSON, Entry, Outcome, Status


async def execute_action(
    entry: Entry,
    arguments: Mapping[str, JSON],
    *,
    principal: str,
    session: str | None,
    store: Store,
    pool: Pool,
    on_output: Callable[[str, str], None],
) -> Outcome:
    """Call an action, as the store gave it.

    Args:
        session: One that is open; None for the principal's default session, which is opened if need be.

    Raises:
        ActionDisabled, NetworkDenied, ArgumentsInvalid, RequirementsInvalid, SessionNotFound: nothing was run.
        SandboxError: nothing could be run.
    """
    name = entry.name
    if entry.status is Status.DISABLED:
        raise ActionDisabled(name)
    used = follow_uses(store.get, [name], pool.workers.limits.network)
    if used.denied:
        raise NetworkDenied(name, used.denied)
    async with pool.session(principal, session or DEFAULT_SESSION, create=session is None) as opened:
        session_id = pool.identify(principal, opened.name)
        with naming_who_needs(used.needs, name):
            outcome = await opened.call(
                name, used.sources, join_requirements(used.needs), arguments, on_output=on_output
            )
    if used.missing and not outcome.succeeded:
        outcome = replace(outcome, notes=(*outcome.notes, *used.missing.values()))
    store.record_call(
        name,
        entry.version,
        principal=principal,
        ending=outcome.ending,
        seconds=outcome.seconds,
        session=session_id,
        arguments=arguments,
        uses=[other for other in used.sources if other != name],
    )
    return outcome if outcome.succeeded else _add_warning(outcome, name, store)


def _add_warning(outcome: Outcome, name: str, store: Store) -> Outcome:
    """With what is to be done about the action, if calls of it fail most of the time."""
    try:
        warning = store.get(name).warning
    except (ActionNotFound, LibraryError):
        return outcome
    return replace(outcome, notes=(*outcome.notes, warning)) if warning else outcome
