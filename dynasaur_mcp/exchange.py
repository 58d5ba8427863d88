"""Commands that bring functions into the library from elsewhere, and actions out of it: `actions import`, `export`."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dynasaur_mcp.add import Added, describe
from dynasaur_mcp.app import open_app, open_store
from dynasaur_mcp.export import export_actions
from dynasaur_mcp.library.origin import find_origin
from dynasaur_mcp.options import Library, Sandbox
from dynasaur_mcp.publish import import_functions
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.tables import show_table
from dynasaur_mcp.types import LOCAL

STYLES = {"kept": "green", "there already": "green", "skipped": "yellow", "not kept": "red"}


def import_(
    what: Annotated[str, typer.Argument(metavar="PATH|MODULE", help="A file, folder, zip, or installed module.")],
    library: Library = None,
    sandbox: Sandbox = None,
    only: Annotated[list[str] | None, typer.Option("--only", metavar="NAME", help="This function; repeatable.")] = None,
    package: Annotated[
        bool, typer.Option("--package", help="Require the installed package and call it, instead of copying from it.")
    ] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Make new versions of actions that exist.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object for each function, one a line.")] = False,
) -> int:
    """Publish the public, typed functions of Python code as actions, each with all it uses and tested in a sandbox."""
    started = time.monotonic()
    console = Console()
    done: list[Added] = []

    def report(one: Added) -> None:
        done.append(one)
        if as_json:
            typer.echo(json.dumps(asdict(one), ensure_ascii=False))
        elif console.is_terminal:
            console.print(make_row(one, f"{len(done)}/{total}", total))
        else:
            typer.echo("\t".join((one.file, one.how, " ".join(one.note.split()))))

    origin = find_origin(what)
    total = len(only or [*origin.functions, *origin.actions, *origin.unread])

    async def work() -> None:
        async with open_app(read_settings(library=library, sandbox=sandbox)) as app:
            app.store.refresh()
            how = partial(import_functions, names=only or (), borrow=package, replaces=replace)
            await how(origin, app, author=LOCAL, report=report)

    anyio.run(work)
    counts = Counter[str](one.how for one in done)
    told = ", ".join(f"{counts[how]} {how}" for how in STYLES if counts[how]) or "no public functions"
    typer.echo(f"{told}, in {time.monotonic() - started:.1f} s", err=True)
    return 0 if counts["kept"] or counts["there already"] else 1


def make_row(one: Added, place: str, total: int) -> Table:
    """At once, not a table at the end: a thousand functions take minutes."""
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=2 * len(str(total)) + 1, justify="right")
    row.add_column(width=36)
    row.add_column(width=len("there already"))
    row.add_row(Text(place, style="dim"), Text(one.file), Text(one.how, style=STYLES[one.how]), Text(one.note))
    return row


def export(
    target: Annotated[Path, typer.Argument(metavar="FOLDER|FILE.zip", help="What to make.")],
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="All, when none is given.")] = None,
    library: Library = None,
    skill: Annotated[bool, typer.Option("--skill", help="As an Agent Skill: SKILL.md and scripts.")] = False,
) -> None:
    """Write actions, with those they use, as plain files; `actions import` takes them in again as they were."""
    with open_store(read_settings(library=library)) as store:
        entries = export_actions(store, target, names or [], skill=skill)
    show_table(["name", "", "what it does"], [(one.name, describe(one), one.action.summary) for one in entries])
