"""Import: publish functions that exist elsewhere as actions, each with all it uses.

A function is copied with its closure. What cannot be copied is borrowed, if it is from an installed package: an action
of its signature requires the package and calls it. So is what passes its tests at home only. A second import skips what
is there, as the same function always gives the same source.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import anyio
import anyio.to_thread

from dynasaur_mcp.add import Added, add_action, explain, order_by_use
from dynasaur_mcp.app import App
from dynasaur_mcp.errors import ActionError, ActionInvalid
from dynasaur_mcp.library.closure import extract_from
from dynasaur_mcp.library.guess import add_types
from dynasaur_mcp.library.modules import Reference
from dynasaur_mcp.library.needs import borrow_function, declare_needs
from dynasaur_mcp.library.origin import Origin, find_requirement
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Action

AT_ONCE = 2
"""Functions on their way: while one is checked in its worker, another is read, or kept."""


async def import_functions(
    origin: Origin,
    app: App,
    *,
    names: Sequence[str] = (),
    borrow: bool = False,
    replaces: bool = False,
    author: str,
    report: Callable[[Added], None],
) -> None:
    """
    Args:
        names: Of functions, to import only these; empty for all.
        borrow: Copy nothing, require the package.
        replaces: Make new versions of actions that exist.
        report: Told what became of each, as it happens.

    Raises:
        ActionError: no such function; or nothing that can be required.
        LibraryError, SandboxUnavailable: nothing can be kept then, which is nobody's fault.
    """
    if borrow and origin.requirement is None:
        raise ActionError("Only an installed package can be required. Import a copy: leave out --package.")
    functions = [each for each in origin.functions if not names or each.name in names]
    files = {name: text for name, text in origin.actions.items() if not names or name in names}
    there = {*files, *(each.name for each in functions)}
    if unknown := [name for name in names if name not in there]:
        raise ActionError(f"There is no public function {', '.join(map(repr, unknown))} at the top level.")
    for path, why in ({} if names else origin.unread).items():
        report(Added(path, "skipped", why))
    async with app.pool.workers.batch():
        await _add_files(files, app, replaces, author, report)
        by_name: dict[str, list[Reference]] = {}
        for function in functions:
            by_name.setdefault(function.name, []).append(function)
        waiting = iter(by_name.values())

        async def work() -> None:
            for group in waiting:
                for function in group:
                    how = partial(_import_function, borrow=borrow, replaces=replaces, author=author)
                    report(await how(origin, function, app))

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(work)


async def _add_files(
    files: dict[str, str], app: App, replaces: bool, author: str, report: Callable[[Added], None]
) -> None:
    """Files that are actions already, as they are; those that others use first."""
    actions: dict[str, Action] = {}
    for name, text in files.items():
        try:
            actions[name] = await anyio.to_thread.run_sync(read_action, text, name)
        except ActionInvalid as error:
            report(Added(name, "skipped", explain(error)))
    for name in order_by_use(actions):
        how = partial(add_action, author=author, replace=replaces, anyway=not replaces, is_found=True)
        report(replace(await how(actions[name], app), file=name))


async def _import_function(
    origin: Origin, function: Reference, app: App, *, borrow: bool, replaces: bool, author: str
) -> Added:
    label = f"{function.module}.{function.name}"
    ways = [_borrow] if borrow else [_copy] if origin.requirement is None else [_copy, _borrow]
    why: list[str] = []
    how: Literal["skipped", "not kept"] = "skipped"
    for way in ways:
        try:
            source = await anyio.to_thread.run_sync(way, origin, function)
        except ActionInvalid as error:
            why.append(explain(error))
            continue
        try:
            action = await anyio.to_thread.run_sync(_complete, source, function)
        except ActionInvalid as error:
            # What it takes and gives is the same, copied or borrowed.
            return Added(label, how, explain(error))
        added = await add_action(action, app, author=author, replace=replaces, anyway=not replaces, skips_unfit=True)
        if not added.failed:
            is_borrowed = why and added.how != "skipped"
            borrowed = f"; borrowed, as {why[0].removeprefix('- ')}" if is_borrowed else ""
            return replace(added, file=label, note=f"{added.note}{borrowed}")
        how = "not kept"
        why.append(added.note)
    return Added(label, how, "\n".join(dict.fromkeys(why)))


def _copy(origin: Origin, function: Reference) -> str:
    return declare_needs(extract_from(origin.modules, function), find_requirement)


def _borrow(origin: Origin, function: Reference) -> str:
    return borrow_function(origin.modules, function, origin.requirement or "")


def _complete(source: str, function: Reference) -> Action:
    return read_action(add_types(source, function.name), function.name, is_new=True)
