"""Commands with which a person reviews the library: `actions list`, `show`, `approve`, `remove`."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from dynasaur_mcp.add import describe
from dynasaur_mcp.app import open_app, open_store
from dynasaur_mcp.errors import ActionError
from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.change import decide_status
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.manage import manage_action, warn_of_users
from dynasaur_mcp.options import AsJson, Library, Name, Names
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.tables import show_json, show_table
from dynasaur_mcp.types import LOCAL, Entry, Status

_HIDING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Orders to a terminal, and to who lays out text from right to left: with them a source shows other than it is."""


def list_actions(library: Library = None, as_json: AsJson = False) -> None:
    """List all actions, and the files that are none."""
    settings = read_settings(library=library)
    with open_store(settings) as store:
        entries = store.entries()
        rows = [
            (one.name, f"v{one.version}", _describe_status(one), str(one.tests), str(one.calls), one.action.summary)
            for one in entries
        ]
        if as_json:
            show_json([_to_json(one) for one in entries])
        elif rows:
            show_table(["name", "version", "status", "tests", "calls", "what it does"], rows)
        else:
            add = "`dynasaur-mcp actions add starter` brings some in"
            typer.echo(f"The library in {settings.library} has no actions yet: {add}.", err=True)
        for broken in store.broken():
            typer.echo(f"{broken.file} is no action: {'; '.join(map(str, broken.problems))}", err=True)


def show_action(name: Name, library: Library = None) -> None:
    """Print an action's source."""
    with open_store(read_settings(library=library)) as store:
        entry = store.get(name)
    Console(stderr=True, soft_wrap=True).print(
        Text(f"{entry.name} {describe(entry)}, by {entry.author}, {entry.defined_at:%Y-%m-%d %H:%M} UTC", style="dim")
    )
    console = Console()
    if console.is_terminal:
        source = _HIDING.sub(lambda found: ascii(found[0])[1:-1], entry.action.source.replace("\r\n", "\n"))
        console.print(Syntax(source, "python", theme="ansi_dark", background_color="default"))
    else:
        typer.echo(entry.action.source, nl=not entry.action.source.endswith("\n"))


def approve(
    versions: Annotated[list[str], typer.Argument(metavar="NAME@VERSION…", help="As `actions show` gave it.")],
    library: Library = None,
) -> None:
    """Make drafts active whose tests passed: what --require-approval leaves to a person, who read that very version."""
    with open_store(read_settings(library=library)) as store:
        for one in [_read_version(text, store) for text in versions]:
            if one.status is Status.ACTIVE:
                typer.echo(f"{one.name} v{one.version} is active already.")
                continue
            store.set_status(one.name, Status.ACTIVE, expected_version=one.version, deed=Deed.APPROVE)
            typer.echo(f"{one.name} v{one.version} is active.")


def _read_version(text: str, store: FileStore) -> Entry:
    """
    Raises:
        ActionError: that version of it cannot be approved.
    """
    name, _, number = text.partition("@")
    entry = store.get(name)
    shown = f"`dynasaur-mcp actions show {name}` shows it"
    if not number.isdecimal():
        raise ActionError(f"Say which version of {name!r} you read: {name}@{entry.version} is what it is now; {shown}.")
    if number != str(entry.version):
        raise ActionError(f"{name!r} is at version {entry.version} now, not {number[:9]}. Read that first: {shown}.")
    if decide_status(entry.tests) is not Status.ACTIVE:
        raise ActionError(f"{name!r} cannot be approved: {entry.tests}. It needs some, all passed.")
    return entry


def remove(names: Names, library: Library = None) -> None:
    """Delete actions. Their history stays, so that `actions restore` can bring them back."""

    async def delete() -> None:
        async with open_app(read_settings(library=library)) as app:
            for entry in [app.store.get(name) for name in names]:
                await manage_action(
                    entry.name,
                    "delete",
                    version=None,
                    principal=LOCAL,
                    store=app.store,
                    index=app.index,
                    pool=app.pool,
                    changed=app.changed,
                    require_approval=app.settings.require_approval,
                )
                undo = f"`dynasaur-mcp actions restore {entry.name}` brings it back"
                typer.echo(f"{entry.name!r} is deleted; {undo}.{warn_of_users(entry, app.store)}")

    anyio.run(delete)


def _to_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "status": entry.status,
        "pinned": entry.pinned,
        "tests": asdict(entry.tests),
        "calls": entry.calls,
        "author": entry.author,
        "defined_at": entry.defined_at.isoformat(),
        "summary": entry.action.summary,
    }


def _describe_status(entry: Entry) -> str:
    return f"{entry.status}, pinned" if entry.pinned else str(entry.status)
