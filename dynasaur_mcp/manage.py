"""manage_action: look at an action, test it again, and change where it is in its life."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Awaitable, Callable
from functools import partial

import anyio
import anyio.to_thread

from dynasaur_mcp.errors import ActionError, ActionNotFound, ArgumentsInvalid
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.types import Entry, LibraryChanged, Problem, Status, Tests

logger = logging.getLogger(__name__)

Changed = Callable[[LibraryChanged], Awaitable[None]]


async def manage_action(
    name: str,
    op: str,
    *,
    version: int | None,
    principal: str,
    store: Store,
    index: Index,
    pool: Pool,
    changed: Changed,
    require_approval: bool = False,
) -> str:
    """Do one thing to one action and say what it is like now.

    Args:
        op: show, history, diff, test, rollback, pin, unpin, enable, disable or delete.
        version: For show and diff an older one; for rollback the one to go back to.
        require_approval: Nothing becomes active here that was not.

    Raises:
        ActionNotFound, ArgumentsInvalid
        ActionError: it cannot be done to this action.
        SandboxError, LibraryError
    """
    match op:
        case "show":
            return _describe(_find(store, name, version), _find_current(store, name))
        case "history":
            return _list_history(store.history(name), _find_current(store, name))
        case "diff":
            return _compare(name, version, store)
    if version is not None and op != "rollback":
        raise ArgumentsInvalid(
            f"{op} cannot be done:", [Problem(f"{op} works on the current version: leave `version` out")]
        )
    before = store.revision
    # What was changed is announced, also when the caller goes away meanwhile.
    with anyio.CancelScope(shield=op != "test"):
        match op:
            case "test":
                text = await _test(store.get(name), store, pool, require_approval)
            case "rollback":
                text = await _roll_back(name, version, principal, store)
            case "pin" | "unpin":
                text = await _pin(name, op == "pin", store)
            case "enable":
                text = await _enable(store.get(name), store, require_approval)
            case "disable":
                text = await _disable(store.get(name), store)
            case "delete":
                text = await _delete(store.get(name), store)
            case _:
                known = "show, history, diff, test, rollback, pin, unpin, enable, disable, delete"
                raise ArgumentsInvalid("Nothing was done:", [Problem(f"no op {op!r}. There is {known}")])
        if store.revision != before:
            await _tell(name, store, index, changed)
    return text


async def _tell(name: str, store: Store, index: Index, changed: Changed) -> None:
    try:
        await anyio.to_thread.run_sync(index.update, [name])
        await changed(LibraryChanged(store.revision, (name,)))
    except Exception:  # boundary: the change itself is kept
        logger.exception("The change of %r could not be told to all", name)


async def _test(entry: Entry, store: Store, pool: Pool, require_approval: bool) -> str:
    action = entry.action
    sources = {**store.sources(action.uses), action.name: action.source}
    requirements = tuple(sorted({*store.requirements(action.uses), *action.requirements}))
    check = await pool.check(action.name, sources, requirements)
    failures = (*map(str, check.problems), *check.tests.failures)
    status = entry.status
    if status is Status.DRAFT and check.tests.passed and not failures and not require_approval:
        status = Status.ACTIVE
    found = Tests(check.tests.passed, failures)
    schemas = check.schemas or entry.schemas
    record = partial(store.record_check, entry.name, entry.version, tests=found, schemas=schemas, status=status)
    tested = await anyio.to_thread.run_sync(record)
    return "\n".join([_headline(tested, current=tested), *_list_failures(found)])


async def _roll_back(name: str, version: int | None, principal: str, store: Store) -> str:
    if version is None:
        there = ", ".join(str(entry.version) for entry in reversed(store.history(name)))
        raise ArgumentsInvalid("rollback cannot be done:", [Problem(f"give the `version` to go back to: {there}")])
    entry = await anyio.to_thread.run_sync(partial(store.rollback, name, version, author=principal))
    return f"{_headline(entry, current=entry)}\nIts source is that of v{version}."


async def _pin(name: str, pinned: bool, store: Store) -> str:
    entry = await anyio.to_thread.run_sync(store.set_pinned, name, pinned)
    if not pinned:
        return f"{name!r} is no longer pinned."
    hint = "" if entry.status is Status.ACTIVE else f" It is {entry.status}, though: only active actions are tools."
    return f"{name!r} is pinned: always among the tools.{hint}"


async def _enable(entry: Entry, store: Store, require_approval: bool) -> str:
    if entry.status is not Status.DISABLED:
        raise ActionError(f"{entry.name!r} is not disabled: it is {entry.status}.")
    passed = entry.tests.passed > 0 and not entry.tests.failures
    status = Status.ACTIVE if passed and not require_approval else Status.DRAFT
    enabled = await anyio.to_thread.run_sync(store.set_status, entry.name, status)
    return _headline(enabled, current=enabled)


async def _disable(entry: Entry, store: Store) -> str:
    await anyio.to_thread.run_sync(store.set_status, entry.name, Status.DISABLED)
    return (
        f"{entry.name!r} is disabled: kept, but neither found nor callable. op='enable' undoes it.{_warn(entry, store)}"
    )


async def _delete(entry: Entry, store: Store) -> str:
    await anyio.to_thread.run_sync(store.delete, entry.name)
    undo = f"op='rollback' with version={entry.version} brings it back"
    return f"{entry.name!r} is deleted; {undo}.{_warn(entry, store)}"


def _warn(entry: Entry, store: Store) -> str:
    users = [other.name for other in store.entries() if entry.name in other.action.uses]
    return f" These use it and will fail now: {', '.join(users)}." if users else ""


def _compare(name: str, version: int | None, store: Store) -> str:
    versions = store.history(name)
    newest = _find_current(store, name) or versions[0]
    if version is None:
        older = [entry for entry in versions if entry.version < newest.version]
        if not older:
            return f"{name!r} has one version only, v{newest.version}."
        version = older[0].version
    old = _find(store, name, version)
    lines = difflib.unified_diff(
        old.action.source.splitlines(),
        newest.action.source.splitlines(),
        f"{name} v{old.version}",
        f"{name} v{newest.version}",
        lineterm="",
    )
    return "\n".join(lines) or f"v{old.version} and v{newest.version} of {name!r} have the same source."


def _list_history(versions: list[Entry], current: Entry | None) -> str:
    lines = [_headline(entry, current=current) for entry in versions]
    if current is None:
        lines.insert(0, f"{versions[0].name!r} is deleted, or its file is broken; op='rollback' brings a version back.")
    return "\n".join(lines)


def _find(store: Store, name: str, version: int | None) -> Entry:
    if version is None:
        return store.get(name)
    versions = store.history(name)
    for entry in versions:
        if entry.version == version:
            return entry
    there = ", ".join(str(entry.version) for entry in reversed(versions))
    raise ActionError(f"{name!r} has no version {version}. There is {there}.")


def _find_current(store: Store, name: str) -> Entry | None:
    try:
        return store.get(name)
    except ActionNotFound:
        return None


def _headline(entry: Entry, *, current: Entry | None) -> str:
    is_current = current is not None and current.version == entry.version
    marks = [
        f"{entry.name} v{entry.version}",
        str(entry.status) if is_current else "superseded" if current else "not current",
        *(["pinned"] if entry.pinned and is_current else []),
        str(entry.tests) if entry.tests.total else "no tests",
        f"by {entry.author}, {entry.defined_at:%Y-%m-%d %H:%M} UTC",
    ]
    return " · ".join(marks)


def _describe(entry: Entry, current: Entry | None) -> str:
    action = entry.action
    lists = {"tags": action.tags, "needs": action.requirements, "uses": action.uses}
    facts = [f"{label}: {', '.join(values)}" for label, values in lists.items() if values]
    calls = f"{entry.successes} of {entry.calls} calls succeeded" if entry.calls else "never called"
    head = [_headline(entry, current=current), calls, *facts, *_list_failures(entry.tests)]
    return "\n".join([*head, "", f"```python\n{action.source.rstrip()}\n```"])


def _list_failures(tests: Tests) -> list[str]:
    return [f"failed: {failure}" for failure in tests.failures]
