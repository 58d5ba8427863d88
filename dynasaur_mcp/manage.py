"""manage_action: look at an action, test it again, and change where it is in its life."""

from __future__ import annotations

import difflib
from functools import partial

import anyio
import anyio.to_thread

from dynasaur_mcp.check import check_kept
from dynasaur_mcp.errors import ActionError, ActionNotFound, ArgumentsInvalid
from dynasaur_mcp.library.change import decide_status
from dynasaur_mcp.library.index import Index
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.tell import Changed, tell_change
from dynasaur_mcp.types import Entry, LibraryChanged, Problem, Status, Tests

MAY_ACTIVATE = ("test", "rollback", "enable")
"""After these, nothing but a person's approval may keep an action from being active. What they say begins with its
headline."""


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
        version: For show and diff an older one; for rollback the one to go back to, if it is not deleted.
        require_approval: Nothing becomes active here that was not.

    Raises:
        ActionNotFound, ArgumentsInvalid
        ActionError: it cannot be done to this action.
        SandboxError, LibraryError
    """
    match op:
        case "show":
            return _describe(find_version(store, name, version), _find_current(store, name))
        case "history":
            return _list_history(name, store)
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
                text = await _test(store.get(name), principal, store, pool, require_approval)
            case "rollback":
                text = await _roll_back(name, version, principal, store, require_approval)
            case "pin" | "unpin":
                text = await _pin(store.get(name).name, op == "pin", principal, store)
            case "enable":
                text = await _enable(store.get(name), principal, store, require_approval)
            case "disable":
                text = await _disable(store.get(name), principal, store)
            case "delete":
                text = await _delete(store.get(name), principal, store)
            case _:
                known = "show, history, diff, test, rollback, pin, unpin, enable, disable, delete"
                raise ArgumentsInvalid("Nothing was done:", [Problem(f"no op {op!r}. There is {known}")])
        if store.revision != before:
            await tell_change(LibraryChanged(store.revision, (name,)), index, changed)
    return text


async def _test(entry: Entry, principal: str, store: Store, pool: Pool, require_approval: bool) -> str:
    tested = await check_kept(entry, store=store, pool=pool, require_approval=require_approval, author=principal)
    return "\n".join([headline(tested, current=tested), *_list_failures(tested.tests)])


async def _roll_back(name: str, version: int | None, principal: str, store: Store, require_approval: bool) -> str:
    versions = store.history(name)
    if version is None and _find_current(store, name) is None:
        version = versions[0].version
    if version is None:
        there = ", ".join(str(entry.version) for entry in reversed(versions))
        raise ArgumentsInvalid("rollback cannot be done:", [Problem(f"give the `version` to go back to: {there}")])
    roll_back = partial(store.rollback, name, version, author=principal, require_approval=require_approval)
    entry = await anyio.to_thread.run_sync(roll_back)
    return f"{headline(entry, current=entry)}\nIts source is that of v{version}."


async def _pin(name: str, pinned: bool, principal: str, store: Store) -> str:
    entry = await anyio.to_thread.run_sync(partial(store.set_pinned, name, pinned, author=principal))
    if not pinned:
        return f"{name!r} is no longer pinned."
    hint = "" if entry.status is Status.ACTIVE else f" It is {entry.status}, though: only active actions are tools."
    return f"{name!r} is pinned: always among the tools.{hint}"


async def _enable(entry: Entry, principal: str, store: Store, require_approval: bool) -> str:
    if entry.status is not Status.DISABLED:
        raise ActionError(f"{entry.name!r} is not disabled: it is {entry.status}.")
    status = decide_status(entry.tests, require_approval)
    enable = partial(store.set_status, entry.name, status, expected_version=entry.version, author=principal)
    enabled = await anyio.to_thread.run_sync(enable)
    return headline(enabled, current=enabled)


async def _disable(entry: Entry, principal: str, store: Store) -> str:
    await anyio.to_thread.run_sync(partial(store.set_status, entry.name, Status.DISABLED, author=principal))
    said = f"{entry.name!r} is disabled: kept, but neither found nor callable. op='enable' undoes it."
    return f"{said}{warn_of_users(entry, store)}"


async def _delete(entry: Entry, principal: str, store: Store) -> str:
    await anyio.to_thread.run_sync(partial(store.delete, entry.name, author=principal))
    undo = f"op='rollback' with version={entry.version} brings it back"
    return f"{entry.name!r} is deleted; {undo}.{warn_of_users(entry, store)}"


def _compare(name: str, version: int | None, store: Store) -> str:
    versions = store.history(name)
    newest = _find_current(store, name) or versions[0]
    if version is None:
        older = [entry for entry in versions if entry.version < newest.version]
        if not older:
            return f"{name!r} has one version only, v{newest.version}."
        version = older[0].version
    old = find_version(store, name, version)
    lines = difflib.unified_diff(
        old.action.source.splitlines(),
        newest.action.source.splitlines(),
        f"{name} v{old.version}",
        f"{name} v{newest.version}",
        lineterm="",
    )
    return "\n".join(lines) or f"v{old.version} and v{newest.version} of {name!r} have the same source."


def _list_history(name: str, store: Store) -> str:
    versions, why_none, current = store.history(name), [], None
    try:
        current = store.get(name)
    except ActionNotFound as error:
        why_none = [str(error)]
    return "\n".join([*why_none, *(headline(entry, current=current) for entry in versions)])


def find_version(store: Store, name: str, version: int | None) -> Entry:
    """The current one, if none is asked for.

    Raises:
        ActionNotFound, ActionError
    """
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


def headline(entry: Entry, *, current: Entry | None) -> str:
    """Of a version: where it is in its life."""
    is_current = current is not None and current.version == entry.version
    marks = [
        f"{entry.name} v{entry.version}",
        str(entry.status) if is_current else "superseded" if current else "not current",
        *(["pinned"] if entry.pinned and is_current else []),
        str(entry.tests),
        f"by {entry.author}, {entry.defined_at:%Y-%m-%d %H:%M} UTC",
    ]
    return " · ".join(marks)


def warn_of_users(entry: Entry, store: Store) -> str:
    """A sentence after another one, if actions use what is gone now."""
    users = store.users(entry.name)
    return f" These use it and will fail now: {', '.join(users)}." if users else ""


def _describe(entry: Entry, current: Entry | None) -> str:
    action = entry.action
    lists = {"tags": action.tags, "needs": action.requirements, "network": action.network, "uses": action.uses}
    facts = [f"{label}: {', '.join(values)}" for label, values in lists.items() if values]
    calls = f"{entry.successes} of {entry.calls} calls succeeded" if entry.calls else "never called"
    used = f", last used {entry.used_at:%Y-%m-%d %H:%M} UTC" if entry.used_at else ""
    warning = [entry.warning] if entry.warning else []
    advice = [f"advice: {advice}" for advice in action.advice]
    head = [
        headline(entry, current=current),
        f"{calls}{used}",
        *warning,
        *facts,
        *_list_failures(entry.tests),
        *advice,
    ]
    return "\n".join([*head, "", f"```python\n{action.source.rstrip()}\n```"])


def _list_failures(tests: Tests) -> list[str]:
    return [f"failed: {failure}" for failure in tests.failures]
