"""Bring action files into a library: the starter library, or files of one's own. One bad file stops no other."""

from __future__ import annotations

import errno
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Literal

from dynasaur_mcp.app import App
from dynasaur_mcp.define import define_action
from dynasaur_mcp.errors import (
    ActionBroken,
    ActionError,
    ActionExists,
    ActionInvalid,
    ActionNotFound,
    ActionUnfit,
    DynasaurError,
    LibraryError,
    WorkerLost,
)
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.types import Action, Entry, Status

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Added:
    """What became of one file."""

    file: str
    how: Literal["kept", "there already", "skipped", "not kept"]
    note: str
    """Version and tests, or why not."""

    @property
    def failed(self) -> bool:
        return self.how == "not kept"


def read_text(path: Path) -> str:
    """What a file says.

    Raises:
        OSError: also for a pipe or a device, which may never end.
        UnicodeDecodeError
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "it is no file")
    return path.read_text(encoding="utf-8")


def find_starter() -> list[Path]:
    """The files of the starter library: in the wheel beside this module, in a checkout at its root."""
    here = Path(__file__).parent
    for folder in (here / "starter", here.parent / "actions"):
        if folder.is_dir():
            return sorted(folder.glob("[a-z]*.py"))
    raise LibraryError("The starter actions are not part of this installation. Install dynasaur-mcp again.")


async def add_actions(
    paths: Sequence[Path], app: App, *, author: str, replace: bool, anyway: bool = False
) -> AsyncIterator[Added]:
    """Define each file's action, those that others use first; says what became of each as it happens.

    Raises:
        LibraryError, SandboxUnavailable: no file can be added then, which is not the file's fault.
    """
    actions: dict[str, Action] = {}
    for path in paths:
        try:
            action = read_action(read_text(path), name=path.stem)
        except IsADirectoryError:
            yield Added(
                str(path), "not kept", f"it is a folder: `dynasaur-mcp actions import {path}` takes its functions"
            )
        except OSError as error:
            is_misspelt = isinstance(error, FileNotFoundError) and path.suffix != ".py"
            hint = ": give starter, or .py files" if is_misspelt else ""
            yield Added(path.name, "not kept", f"{error.strerror or error}{hint}")
        except UnicodeDecodeError as error:
            yield Added(path.name, "not kept", f"byte {error.start} is not UTF-8: save the file as UTF-8")
        except ActionInvalid as error:
            yield Added(path.name, "not kept", explain(error))
        else:
            actions[action.name] = action
    for name in order_by_use(actions):
        yield await add_action(actions[name], app, author=author, replace=replace, anyway=anyway)


async def add_starter(app: App) -> None:
    """Bring in what a library has not of the starter actions; for a server, which has no one to show a table to."""
    async for added in add_actions(find_starter(), app, author="starter", replace=False):
        if added.failed:
            logger.warning("starter action %s was not added: %s", added.file, added.note)


async def add_action(
    action: Action,
    app: App,
    *,
    author: str,
    replace: bool = False,
    anyway: bool = False,
    is_found: bool = False,
    skips_unfit: bool = False,
) -> Added:
    """Define one action, unless it is there.

    Args:
        is_found: As in `define_action`.
        skips_unfit: What no client could call is skipped, as nobody said that it could be.
    """
    file = f"{action.name}.py"
    try:
        there = app.store.get(action.name)
    except ActionBroken as error:
        return Added(file, "not kept", explain(error))
    except ActionNotFound:
        there = None
    if there and there.action.sha256 == action.sha256 and not _may_change(there):
        return Added(file, "there already", describe(there))
    if there and there.action.sha256 != action.sha256 and not replace:
        return Added(file, "not kept", f"v{there.version} is another one; --replace makes this its next version")
    try:
        definition = await define_action(
            source=action.source,
            name=action.name,
            from_session=None,
            replaces=action.name if there else None,
            anyway=anyway,
            tags=None,
            principal=author,
            store=app.store,
            index=app.index,
            pool=app.pool,
            require_approval=app.settings.require_approval,
            changed=app.changed,
            is_found=is_found,
        )
    except ActionExists:
        if there:
            raise
        # Someone else defined it meanwhile: as if it had been there before.
        app.store.refresh()
        return await add_action(
            action, app, author=author, replace=replace, anyway=anyway, is_found=is_found, skips_unfit=skips_unfit
        )
    except (ActionError, WorkerLost) as error:
        is_skipped = skips_unfit and isinstance(error, ActionUnfit)
        return Added(file, "skipped" if is_skipped else "not kept", explain(error))
    likely = "".join(f"; like {each.entry.name!r}, {each.why}" for each in definition.near if each.is_likely)
    return Added(file, "kept", f"{describe(definition.entry)}{likely}")


def _may_change(entry: Entry) -> bool:
    """Whether checking it again could make it active, or is owed."""
    return entry.status is Status.DRAFT and (entry.tests.total > 0 or entry.schemas is None)


def describe(entry: Entry) -> str:
    """`v2, 3/3 tests, active`"""
    return f"v{entry.version}, {entry.tests}, {entry.status}"


def order_by_use(actions: Mapping[str, Action]) -> list[str]:
    uses = {name: [used for used in action.uses if used in actions] for name, action in actions.items()}
    try:
        return list(TopologicalSorter(uses).static_order())
    except CycleError:
        return list(actions)  # the rules name the circle


def explain(error: DynasaurError) -> str:
    """Why not, without the headline: which file it is, and that it was not kept, stands beside."""
    if isinstance(error, ActionInvalid):
        return "\n".join(f"- {problem}" for problem in error.problems)
    return error.told_by_command()
