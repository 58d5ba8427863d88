"""Try a new version of an action against the one it is to replace: old tests, recorded calls, actions that use it.

The old version, as it is now, is the measure. Each recorded call is made by both in one worker that is ended after, in
a workspace each and without network, so it can change nothing elsewhere. What the old version cannot do there (its
files, hosts or time are missing) or does differently each time says nothing about the new one.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import anyio
import anyio.to_thread

from dynasaur_mcp.check import check_action
from dynasaur_mcp.errors import ActionNotFound, ProblemsError
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import Uses, follow_uses, join_requirements
from dynasaur_mcp.sandbox.pool import Pool
from dynasaur_mcp.sandbox.session import Session
from dynasaur_mcp.stages import tell_stage
from dynasaur_mcp.types import JSON, Action, Check, Ending, Entry, Outcome, Status

CALL_SECONDS = 5.0
"""For one recorded call; one that takes longer is not worth the wait."""
CALLS_SECONDS = 15.0
"""After so long no further one is made."""
MAX_USERS = 10
MOST_USERS = 100
"""That are looked for, to say how many were left out."""
USERS_SECONDS = 20.0
"""For the tests of all actions that use it."""
_SHOWN_CHARACTERS = 120

_FILE = re.compile(r'File "[^"]*", line .*\n')
"""Where a doctest stands: in no file that anyone else sees."""

_STAND_IN = """
__test__ = {{**globals().get("__test__", {{}}), {name!r}: {name}.__doc__ or ""}}
from actions.{name} import {name}
{stand_in} = {name}
"""
"""Put behind the old source: its tests then try the new function."""

Get = Callable[[str], Entry]
"""As `Store.get`."""


@dataclass(frozen=True, slots=True)
class Replay:
    """One sentence each."""

    regressions: tuple[str, ...] = ()
    """What the old version did and the new one does not, or does otherwise."""
    findings: tuple[str, ...] = ()
    """What was tried, and what could not be."""

    def __add__(self, other: Replay) -> Replay:
        return Replay(self.regressions + other.regressions, self.findings + other.findings)


async def replay_uses(action: Action, old: Entry, principal: str, store: Store, pool: Pool) -> Replay:
    """Try `action`, whose own tests pass, in the place of `old`.

    Args:
        principal: Whose calls are made again. Nobody gets to see, or to run code on, what others gave.

    Raises:
        SandboxError, LibraryError
    """
    new = replace(old, action=action, schemas=None, status=Status.DRAFT)

    def get(name: str) -> Entry:
        return new if name == action.name else store.get(name)

    signatures = (old.action.signature, action.signature)
    changed = () if signatures[0] == signatures[1] else (f"The signature was {signatures[0]}",)
    return (
        Replay(findings=changed)
        + await _run_old_tests(old, get, store, pool)
        + await _repeat_calls(old, principal, get, store, pool)
        + await _test_users(old.name, get, store, pool)
    )


async def _run_old_tests(old: Entry, get: Get, store: Store, pool: Pool) -> Replay:
    if not old.tests.total:
        return Replay()
    stand_in = f"{old.name}_of_v{old.version}"
    source = old.action.source + _STAND_IN.format(name=old.name, stand_in=stand_in)
    tell_stage(f"Running the tests of v{old.version}")
    action = replace(old.action, name=stand_in, source=source, uses=(*old.action.uses, old.name))
    check, failures = await _find_new_failures(action, get, store.get, pool)
    passed = f"{check.tests.passed} of {check.tests.total} tests of v{old.version} pass with it."
    told = (f"a test of v{old.version} fails now: {_FILE.sub('', failure, count=1)}" for failure in failures)
    return Replay(tuple(told), (passed,))


async def _find_new_failures(action: Action, get: Get, get_old: Get, pool: Pool) -> tuple[Check, list[str]]:
    """What comes of an action with the new version, and what of that does not come of it with the old one."""
    check = await check_action(action, get, pool)
    failures = _list_failures(check)
    if not failures:
        return check, []
    before = {_label(failure) for failure in _list_failures(await check_action(action, get_old, pool))}
    return check, [failure for failure in failures if _label(failure) not in before]


def _list_failures(check: Check) -> list[str]:
    return [*map(str, check.problems), *check.tests.failures]


def _label(failure: str) -> str:
    """Which test it is."""
    return failure.partition(":")[0]


async def _repeat_calls(old: Entry, principal: str, get: Get, store: Store, pool: Pool) -> Replay:
    recorded = await anyio.to_thread.run_sync(store.recorded_arguments, old.name, principal)
    was, now = (follow_uses(each, [old.name], network=()) for each in (store.get, get))
    if not recorded:
        return Replay()
    if was.missing or now.missing:
        return Replay(findings=(f"Its recorded calls could not be repeated: {next(iter(_why(was, now)))}",))
    regressions: list[str] = []
    alike = unsteady = 0
    deadline = time.monotonic() + CALLS_SECONDS
    tell_stage("Repeating recorded calls")
    async with pool.workers.trial() as before:
        after = await before.fork()
        for arguments in recorded:
            if before.is_lost or time.monotonic() > deadline:
                break
            expected = await try_call(before, old.name, was, arguments)
            if not expected.succeeded:
                continue
            given = await try_call(after, old.name, now, arguments)
            if given.succeeded and is_same(expected.value, given.value):
                alike += 1
            elif given.succeeded and not await _is_steady(before, expected, old.name, was, arguments):
                unsteady += 1
            else:
                regressions.append(f"{show_call(old.name, arguments)} {_compare(expected, given)}")
    return Replay(tuple(regressions), (_count_calls(len(recorded), alike, unsteady, len(regressions)),))


def _why(was: Uses, now: Uses) -> list[str]:
    return [*was.missing.values(), *now.missing.values()]


async def try_call(session: Session, name: str, used: Uses, arguments: Mapping[str, JSON]) -> Outcome:
    seconds = min(CALL_SECONDS, session.link.limits.wall_seconds)
    try:
        return await session.call(name, used.sources, join_requirements(used.needs), arguments, timeout_seconds=seconds)
    except ProblemsError as error:
        return Outcome(Ending.RAISED, error="; ".join(map(str, error.problems)))


async def _is_steady(session: Session, expected: Outcome, name: str, used: Uses, arguments: Mapping[str, JSON]) -> bool:
    """Whether it gives the same once more."""
    again = await try_call(session, name, used, arguments)
    return again.succeeded and is_same(expected.value, again.value)


def _compare(expected: Outcome, given: Outcome) -> str:
    returned = f"returned {show_value(expected.value)}"
    if given.succeeded:
        return f"{returned}, now {show_value(given.value)}"
    lines = given.error.strip().splitlines() or [f"it did not return: {given.ending}"]
    # A traceback says what happened last, a stopped call first.
    return f"{returned}, now fails: {_shorten(lines[-1] if given.ending is Ending.RAISED else lines[0])}"


def _count_calls(recorded: int, alike: int, unsteady: int, different: int) -> str:
    counts = [f"{alike} of {recorded} the same"]
    if unsteady:
        counts.append(f"{unsteady} different each time, before and now")
    if rest := recorded - alike - unsteady - different:
        counts.append(f"{rest} not repeatable in a trial, for want of files, hosts or time")
    return f"Recorded calls: {', '.join(counts)}."


async def _test_users(name: str, get: Get, store: Store, pool: Pool) -> Replay:
    users = await anyio.to_thread.run_sync(_find_users, name, store)
    regressions: list[str] = []
    tested: list[str] = []
    with anyio.move_on_after(USERS_SECONDS):
        for user in users[:MAX_USERS]:
            tell_stage(f"Testing {user.name!r}, which uses it")
            _, failures = await _find_new_failures(user.action, get, store.get, pool)
            regressions += [f"{user.name!r}, which uses it, fails now: {failure}" for failure in failures[:1]]
            tested.append(user.name)
    findings = [f"Tested with it, as they use it: {', '.join(tested)}."] if tested else []
    if left := len(users) - len(tested):
        findings.append(f"{left} more that use it were not tested.")
    return Replay(tuple(regressions), tuple(findings))


def _find_users(name: str, store: Store) -> list[Entry]:
    """All that use it, by way of others too; the nearest first."""
    found: dict[str, Entry] = {}
    waiting = [name]
    while waiting and len(found) < MOST_USERS:
        for user in store.users(waiting.pop(0)):
            if user in found or user == name:
                continue
            try:
                found[user] = store.get(user)
            except ActionNotFound:
                continue
            waiting.append(user)
    return [entry for entry in found.values() if entry.status is not Status.DISABLED]


def is_same(one: JSON, other: JSON) -> bool:
    """Whether two values from a worker mean the same: numbers may differ by how they were rounded."""
    pairs: list[tuple[JSON, JSON]] = [(one, other)]
    while pairs:
        a, b = pairs.pop()
        if isinstance(a, dict) and isinstance(b, dict):
            if a.keys() != b.keys():
                return False
            pairs += [(a[key], b[key]) for key in a]
        elif isinstance(a, list) and isinstance(b, list):
            if len(a) != len(b):
                return False
            pairs += zip(a, b, strict=True)
        elif isinstance(a, float) and isinstance(b, float):
            if not math.isclose(a, b, rel_tol=1e-9):
                return False
        elif type(a) is not type(b) or a != b:
            return False
    return True


def show_call(name: str, arguments: Mapping[str, JSON]) -> str:
    return f"{name}({_shorten(', '.join(f'{key}={show_value(value)}' for key, value in arguments.items()))})"


def show_value(value: JSON) -> str:
    try:
        return _shorten(repr(value))
    except RecursionError:
        return "something nested too deep to show"


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
