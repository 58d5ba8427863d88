"""Commands for people who write actions by hand: `actions new`, `add`, `edit`, `test`, `watch`."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import anyio
import anyio.to_thread
import typer

from dynasaur_mcp.add import Added, add_actions, describe, explain, find_starter, read_text
from dynasaur_mcp.app import App, open_app, open_store
from dynasaur_mcp.check import check_action, check_kept
from dynasaur_mcp.errors import ActionBroken, ActionError, ActionInvalid, LibraryError
from dynasaur_mcp.library.folder import write_file
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.library.rules import check_name
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.options import AsJson, Library, Name, Sandbox, complete_actions
from dynasaur_mcp.settings import Settings, read_settings
from dynasaur_mcp.tables import show_json, show_row, show_table
from dynasaur_mcp.types import LOCAL, Entry, Status

LOOK_SECONDS = 0.3
"""Between two looks at files that are watched."""

TEMPLATE = '''\
def {name}(text: str, most: int = 3) -> list[str]:
    """Find the longest words of a text, the longest first.

    Args:
        text: Any text.
        most: How many words to give back.

    Examples:
        >>> {name}("to be or not to be", most=1)
        ['not']
    """
    return sorted(dict.fromkeys(text.split()), key=len, reverse=True)[:most]


def test_empty_text() -> None:
    assert {name}("") == []
'''


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of the tests of an action, or of a file."""

    name: str
    tests: str
    failures: Sequence[str]
    """What is wrong with it, and what failed."""


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the action, and of its file.")],
    folder: Annotated[Path, typer.Argument(metavar="[FOLDER]", help="Where to write it.")] = Path(),
) -> None:
    """Write a file with an action to start from, which passes its tests as it is."""
    for problem in check_name(name):
        raise ActionError(f"{name!r} cannot be an action's name: {problem}")
    file = folder / f"{name}.py"
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(TEMPLATE.format(name=name))
    except FileExistsError:
        raise ActionError(f"{str(file)!r} is there already.") from None
    except OSError as error:
        raise LibraryError(f"{file} cannot be written: {error.strerror}.") from None
    typer.echo(str(file))
    typer.echo(f"`actions watch {file}` tests it on each save, `actions add {file}` keeps it.", err=True)


def add(
    files: Annotated[list[str], typer.Argument(metavar="starter|FILE…", help="The starter actions, or files.")],
    library: Library = None,
    sandbox: Sandbox = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make new versions of actions that exist.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also of those that do not do what they did.")] = False,
) -> int:
    """Bring actions into the library: each is checked and tested in a sandbox first."""
    paths = [path for file in files for path in (find_starter() if file == "starter" else [Path(file)])]
    author = "starter" if files == ["starter"] else LOCAL

    async def bring() -> list[Added]:
        async with open_app(read_settings(library=library, sandbox=sandbox)) as app:
            added = []
            async for one in add_actions(paths, app, author=author, replace=replace, anyway=anyway):
                show_row(one.file, one.how, one.note, failed=one.failed, room=max(len(path.name) for path in paths))
                added.append(one)
            return added

    added = anyio.run(bring)
    return 1 if any(one.failed for one in added) else 0


def edit(
    name: Name,
    library: Library = None,
    sandbox: Sandbox = None,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also if it does not do what it did.")] = False,
) -> int:
    """Edit an action with $VISUAL or $EDITOR. What is saved is checked and tested, and becomes its next version.

    A file of the library that is no action, as someone left it, is mended so too.
    """
    settings = read_settings(library=library, sandbox=sandbox)
    with open_store(settings) as store:
        version, source = _find_source(name, store, settings.library)
    draft = Path(tempfile.mkdtemp(prefix="dynasaur-edit-"), f"{name}.py")
    draft.write_text(source, encoding="utf-8")

    async def keep() -> Added:
        async with open_app(settings) as app:
            now, _ = _find_source(name, app.store, settings.library)
            if now != version:
                raise ActionError(f"{name!r} became v{now} meanwhile. Your text is in {draft}.")
            if not version:
                return await _mend(draft, settings.library, app)
            (added,) = [one async for one in add_actions([draft], app, author=LOCAL, replace=True, anyway=anyway)]
            return added

    while True:
        _open_editor(draft)
        if draft.read_text(encoding="utf-8", errors="replace") == source:
            typer.echo("Nothing has changed.", err=True)
            break
        added = anyio.run(keep)
        show_row(added.file, added.how, added.note, failed=added.failed)
        if not added.failed:
            break
        if not sys.stdin.isatty() or not typer.confirm("Edit it again?", default=True):
            typer.echo(f"Your text is in {draft}.", err=True)
            return 1
    shutil.rmtree(draft.parent)
    return 0


def _find_source(name: str, store: Store, library: Path) -> tuple[int, str]:
    """The current version and its source; 0 and its text for a file that is no action now."""
    try:
        entry = store.get(name)
    except ActionBroken:
        return 0, (library / f"{name}.py").read_text(encoding="utf-8", errors="replace")
    return entry.version, entry.action.source


async def _mend(draft: Path, library: Path, app: App) -> Added:
    """Put the draft in the place of a file that is no action, once it is one: nothing is defined over such a file."""
    tried = await _try_file(draft, app)
    if tried.failures:
        return Added(draft.name, "not kept", "\n".join(tried.failures))
    await anyio.to_thread.run_sync(lambda: write_file(library / draft.name, draft.read_bytes()))
    app.store.refresh()
    return Added(draft.name, "kept", describe(await _check(app.store.get(draft.stem), app)))


def _open_editor(file: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor and os.name != "nt" and not sys.stdin.isatty():
        shutil.rmtree(file.parent)
        raise LibraryError("There is no terminal to edit in. Set EDITOR to an editor that needs none.")
    editor = editor or ("notepad" if os.name == "nt" else "vi")
    try:
        status = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except (OSError, ValueError) as error:
        shutil.rmtree(file.parent)
        raise LibraryError(
            f"The editor {editor!r} does not start: {getattr(error, 'strerror', error)}. Set EDITOR to one that does."
        ) from None
    if status:
        raise LibraryError(f"The editor {editor!r} ended with status {status}. Your text is in {file}.")


def retest(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME|FILE]…", help="All, when none is given.", autocompletion=complete_actions),
    ] = None,
    library: Library = None,
    sandbox: Sandbox = None,
    as_json: AsJson = False,
) -> int:
    """Run the tests of actions in a fresh worker, and those of files that are not in the library."""

    async def test() -> list[Tried]:
        async with open_app(read_settings(library=library, sandbox=sandbox)) as app:
            app.store.refresh()
            chosen = names or [one.name for one in app.store.entries() if one.status is not Status.DISABLED]
            kept = {name: app.store.get(name) for name in chosen if not name.endswith(".py")}  # each must be there
            return [
                await _retest(kept[name], app) if name in kept else await _try_file(Path(name), app) for name in chosen
            ]

    tried = anyio.run(test)
    if as_json:
        show_json([asdict(one) for one in tried])
    else:
        show_table(["name", "tests", "what failed"], [(one.name, one.tests, "\n".join(one.failures)) for one in tried])
    return 1 if any(one.failures for one in tried) else 0


async def _retest(entry: Entry, app: App) -> Tried:
    tests = (await _check(entry, app)).tests
    return Tried(entry.name, str(tests), tests.failures)


async def _check(entry: Entry, app: App) -> Entry:
    return await check_kept(
        entry, store=app.store, pool=app.pool, require_approval=app.settings.require_approval, author=LOCAL
    )


async def _try_file(path: Path, app: App) -> Tried:
    """As defining it would, but nothing is kept."""
    try:
        source = await anyio.to_thread.run_sync(read_text, path)
        action = await anyio.to_thread.run_sync(partial(read_action, source, path.stem, is_new=True))
        check = await check_action(action, app.store.get, app.pool)
    except (OSError, UnicodeDecodeError) as error:
        return Tried(path.name, "", (f"it cannot be read: {getattr(error, 'strerror', error)}",))
    except ActionInvalid as error:
        return Tried(path.name, "", (explain(error),))
    return Tried(path.name, str(check.tests), (*map(str, check.problems), *check.tests.failures))


def watch(
    paths: Annotated[list[Path], typer.Argument(metavar="FILE|FOLDER…", help="What to look at.")],
    library: Library = None,
    sandbox: Sandbox = None,
) -> None:
    """Check and test files now, and again on each save, until Ctrl-C. What they use is taken from the library."""
    if missing := [path for path in paths if not path.exists()]:
        raise LibraryError(f"There is no {str(missing[0])!r}.")
    anyio.run(_watch, paths, read_settings(library=library, sandbox=sandbox))


async def _watch(paths: Sequence[Path], settings: Settings) -> NoReturn:
    async with open_app(settings) as app:
        seen: dict[Path, tuple[int, int]] = {}
        while True:
            now = await anyio.to_thread.run_sync(dict, _look(paths))
            for path, state in now.items():
                if seen.get(path) != state:
                    tried = await _try_file(path, app)
                    how = "wrong" if tried.failures else "right"
                    show_row(tried.name, how, "\n".join(tried.failures) or tried.tests, failed=bool(tried.failures))
            seen = now
            await anyio.sleep(LOOK_SECONDS)


def _look(paths: Sequence[Path]) -> Iterator[tuple[Path, tuple[int, int]]]:
    """Each file that can be an action, with what tells one save from another."""
    for path in paths:
        for file in sorted(path.glob("[a-z]*.py")) if path.is_dir() else [path]:
            with contextlib.suppress(OSError):  # an editor may be about to put it in the place of the one before
                found = file.stat()
                yield file, (found.st_mtime_ns, found.st_size)
