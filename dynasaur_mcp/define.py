"""Keep an action: read its source, check it in a fresh worker, store it, index it, announce it.

`store.put` is the commit point. Before it nothing exists; after it nothing undoes it: an index or a client that cannot
be told is logged, never a failed definition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio.to_thread

from dynasaur_mcp.check import check_action
from dynasaur_mcp.errors import ActionExists, ActionInvalid, ActionNotFound, ActionUnfit
from dynasaur_mcp.library.change import decide_status
from dynasaur_mcp.library.closure import extract_function
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.reading import add_tags, read_action
from dynasaur_mcp.library.script import read_script
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements
from dynasaur_mcp.likeness import Alike, compare_alike, find_alike, refuse_likely, refuse_same
from dynasaur_mcp.replay import Replay, replay_uses
from dynasaur_mcp.sandbox.pool import DEFAULT_SESSION, Pool
from dynasaur_mcp.stages import tell_stage
from dynasaur_mcp.tell import Changed, tell_change
from dynasaur_mcp.types import Action, Check, Entry, LibraryChanged, Problem, Status
from dynasaur_mcp.values import Values, compare_values, find_values, tell_values


@dataclass(frozen=True, slots=True)
class Definition:
    """What was kept, and what the library had already that is like it."""

    entry: Entry
    near: Sequence[Alike]
    before: Entry | None
    """What was current; of the same version where it had this very source."""
    denied: Mapping[str, tuple[str, ...]]
    """As `Uses.denied`: whose need of hosts keeps it from being called here."""
    replay: Replay = field(default_factory=Replay)
    """How it compares with the version it replaced."""


async def define_action(
    *,
    source: str | None,
    name: str | None,
    from_session: str | None,
    replaces: str | None,
    anyway: bool,
    tags: Sequence[str] | None,
    principal: str,
    store: Store,
    index: Index,
    pool: Pool,
    require_approval: bool,
    changed: Changed,
    is_found: bool = False,
) -> Definition:
    """Keep `source`, or the function `name` as the steps of a session left it, as an action.

    Args:
        tags: Besides those in the source; where it says nothing of tags, besides those of the version it replaces.
            An empty list: those of that version are not kept.
        anyway: Also if another likely does the same, it does not do all that the version it replaces does, or its
            session has another value than its file.
        is_found: It was an action elsewhere: kept also if nobody should define it anew.

    Raises:
        ActionInvalid: everything that is wrong with it; nothing was kept.
        ActionExists: there is one of that name and `replaces` does not say so.
        ActionAlike: there is one under another name that does the same, or likely does.
        SessionNotFound, SandboxError, LibraryError
    """
    values: Values = {}
    if source is None:
        async with pool.session(principal, from_session or "", create=False) as session:
            source = await anyio.to_thread.run_sync(extract_function, session.steps, name or "")
            values = {} if anyway else await tell_values(session, find_values(source))

    def find_denied(name: str) -> Mapping[str, tuple[str, ...]]:
        return follow_uses(store.get, [name], pool.workers.limits.network).denied

    action = await anyio.to_thread.run_sync(_read, source, name, tags or (), is_found)
    current = _find_current(store, action, replaces)
    if current and (tags or tags is None) and read_script(source).tags is None:
        # Who writes the next version has not seen how the one before was labelled.
        tags = [*current.action.tags, *(tags or ())]
        action = await anyio.to_thread.run_sync(_read, source, name, tags, is_found)
    if current and current.action.sha256 == action.sha256 and current.status is not Status.DRAFT:
        return Definition(current, (), current, find_denied(current.name))
    # A new name is for something new; an action that exists may become what its users need.
    if current is None and not is_found:
        await anyio.to_thread.run_sync(refuse_same, action, store)
    tell_stage(f"Read {action.name!r}; testing it")
    check = await check_action(action, store.get, pool)
    if problems := _find_failures(check):
        raise (ActionUnfit if check.is_unfit else ActionInvalid)(f"{action.name!r} was not kept:", problems)
    if values and (problems := await _find_changed(values, action, store, pool)):
        raise ActionInvalid(f"{action.name!r} was not kept:", problems)
    tell_stage(f"Checked: {check.tests}")
    is_other = current is not None and current.action.sha256 != action.sha256
    replay = await replay_uses(action, current, principal, store, pool) if current and is_other else Replay()
    if replay.regressions and not anyway:
        raise ActionInvalid(_refuse(action.name), [Problem(text) for text in replay.regressions])
    near = await anyio.to_thread.run_sync(find_alike, action, store, index)
    if current is None and not anyway:
        near = await compare_alike(action, near, store, pool)
        refuse_likely(action, near)
    # What is called from this session later on is no reuse: it began before the definition, open or not.
    pool.identify(principal, from_session or DEFAULT_SESSION)
    # A rolled-out definition is not undone by a caller who goes away meanwhile.
    with anyio.CancelScope(shield=True):
        if current and current.action.sha256 == action.sha256:
            keep = partial(store.record_check, action.name, current.version, author=principal)
        else:
            keep = partial(store.put, action, author=principal, expected_version=current.version if current else 0)
        status = decide_status(check.tests, require_approval)
        entry = await anyio.to_thread.run_sync(partial(keep, tests=check.tests, schemas=check.schemas, status=status))
        tell_stage(f"Kept {entry.name!r}: v{entry.version}")
        await tell_change(LibraryChanged(store.revision, (entry.name,)), index, changed)
    return Definition(entry, near, current, find_denied(entry.name), replay)


async def _find_changed(values: Values, action: Action, store: Store, pool: Pool) -> list[Problem]:
    """What the session has as another value than where only the action's file has run."""
    used = follow_uses(store.get, action.uses)
    needs = join_requirements({**used.needs, action.name: action.requirements})
    async with pool.workers.trial() as fresh:
        return compare_values(values, await tell_values(fresh, list(values), action.source, used.sources, needs))


def _read(source: str, name: str | None, tags: Sequence[str], is_found: bool) -> Action:
    source = add_tags(source, tags) if tags else source
    try:
        return read_action(source, name, is_new=True)
    except ActionInvalid:
        if is_found:
            return read_action(source, name)
        raise


def _find_current(store: Store, action: Action, replaces: str | None) -> Entry | None:
    if replaces is not None and replaces != action.name:
        store.get(replaces)
        raise ActionInvalid(
            "Nothing was kept:",
            [Problem(f"replaces={replaces!r}, but the source defines {action.name!r}: give both the same name")],
        )
    try:
        current = store.get(action.name)
    except ActionNotFound:
        if replaces is not None:
            raise
        return None
    if replaces is None and current.action.sha256 != action.sha256:
        raise ActionExists(
            f"An action named {action.name!r} exists (v{current.version}: {current.action.summary}). "
            f"replaces={action.name!r} makes this its next version; or choose another name."
        )
    return current


def _refuse(name: str) -> str:
    return (
        f"{name!r} was not replaced: the new version does not do what the one before does. "
        "Mend it, or give anyway=true if that is meant:"
    )


def _find_failures(check: Check) -> list[Problem]:
    failures = [Problem(f"a test failed: {failure}") for failure in check.tests.failures]
    return [*check.problems, *failures]
