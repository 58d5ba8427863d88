"""Keep an action: read its source, check it in a fresh worker, store it, index it, announce it.

`store.put` is the commit point. Before it nothing exists; after it nothing undoes it: an index or a client that cannot
be told is logged, never a failed definition.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial

import anyio.to_thread

from dynasaur_mcp.errors import ActionExists, ActionInvalid, ActionNotFound
from dynasaur_mcp.library.closure import extract_function
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.reading import add_tags, read_action
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.types import Action, Check, Entry, LibraryChanged, Match, Problem, Status

logger = logging.getLogger(__name__)

NEAR_SCORE = 0.75
NEAR_MATCHES = 3

Changed = Callable[[LibraryChanged], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Definition:
    """What was kept, and what the library had already that is like it."""

    entry: Entry
    near: tuple[Match, ...]
    replaced: bool


async def define_action(
    *,
    source: str | None,
    name: str | None,
    from_session: str | None,
    replaces: str | None,
    tags: Sequence[str],
    principal: str,
    store: Store,
    index: Index,
    pool: Pool,
    require_approval: bool,
    changed: Changed,
) -> Definition:
    """Keep `source`, or the function `name` as the steps of a session left it, as an action.

    Raises:
        ActionInvalid: everything that is wrong with it; nothing was kept.
        ActionExists: there is one of that name and `replaces` does not say so.
        SessionNotFound, SandboxError, LibraryError
    """
    if source is None:
        async with pool.session(principal, from_session or "", create=False) as session:
            steps = session.steps
        source = extract_function(steps, name or "")
    action = read_action(add_tags(source, tags) if tags else source, name)
    current = _find_current(store, action, replaces)
    if current and current.action.sha256 == action.sha256 and current.status is not Status.DRAFT:
        return Definition(current, (), replaced=False)
    check = await _check(action, store, pool)
    if problems := _find_failures(check):
        raise ActionInvalid(f"{action.name!r} was not kept:", problems)
    near = await anyio.to_thread.run_sync(_find_near, action, index)
    # A rolled-out definition is not undone by a caller who goes away meanwhile.
    with anyio.CancelScope(shield=True):
        entry = await anyio.to_thread.run_sync(
            partial(
                store.put,
                action,
                author=principal,
                tests=check.tests,
                schemas=check.schemas,
                status=_status_of(check, require_approval),
                expected_version=current.version if current else 0,
            )
        )
        await tell_change(entry.name, store, index, changed)
    return Definition(entry, near, replaced=current is not None)


async def check_found(entry: Entry, *, store: Store, index: Index, pool: Pool, require_approval: bool) -> Entry:
    """Check a version that was found in the library's folder, so that it becomes active if its tests pass.

    Raises:
        ActionNotFound: it is gone or replaced meanwhile.
        SandboxError, LibraryError
    """
    check = await _check(entry.action, store, pool)
    if check.schemas is None:
        for problem in check.problems:
            logger.warning("%s.py in the library: %s", entry.name, problem)
    status = Status.DRAFT if _find_failures(check) else _status_of(check, require_approval)
    if entry.status is Status.DISABLED:
        status = Status.DISABLED
    checked = store.record_check(entry.name, entry.version, tests=check.tests, schemas=check.schemas, status=status)
    await anyio.to_thread.run_sync(index.update, [entry.name])
    return checked


async def tell_change(name: str, store: Store, index: Index, changed: Changed) -> None:
    """Index an action and announce it. Never fails."""
    try:
        await anyio.to_thread.run_sync(index.update, [name])
        await changed(LibraryChanged(store.revision, (name,)))
    except Exception:  # boundary: the change itself is kept
        logger.exception("The change of %r could not be told to all", name)


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


async def _check(action: Action, store: Store, pool: Pool) -> Check:
    used = store.sources(action.uses)
    if missing := [name for name in action.uses if name not in used and name != action.name]:
        problems = [Problem(f"it imports {name!r} from actions, but no such action is callable") for name in missing]
        return Check(problems=tuple(problems))
    requirements = tuple(sorted({*store.requirements(action.uses), *action.requirements}))
    return await pool.check(action.name, {**used, action.name: action.source}, requirements)


def _find_failures(check: Check) -> list[Problem]:
    failures = [Problem(f"a test failed: {failure}") for failure in check.tests.failures]
    return [*check.problems, *failures]


def _status_of(check: Check, require_approval: bool) -> Status:
    return Status.ACTIVE if check.tests.passed and not require_approval else Status.DRAFT


def _find_near(action: Action, index: Index) -> tuple[Match, ...]:
    try:
        matches = index.search(f"{action.name.replace('_', ' ')} {action.summary}", NEAR_MATCHES + 1)
    except Exception:  # boundary: a broken index is no reason to refuse a definition
        logger.exception("Similar actions could not be searched for")
        return ()
    near = [match for match in matches if match.entry.name != action.name and match.score >= NEAR_SCORE]
    return tuple(near[:NEAR_MATCHES])
