"""Options and arguments that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dynasaur_mcp.app import open_store
from dynasaur_mcp.settings import read_settings


def complete_actions(incomplete: str) -> list[str]:
    """For a shell: the names that begin so."""
    with open_store(read_settings()) as store:
        return [entry.name for entry in store.entries() if entry.name.startswith(incomplete)]


Library = Annotated[Path | None, typer.Option("--library", metavar="PATH", help="Folder of the action library.")]
Sandbox = Annotated[Literal["auto", "docker", "jail"] | None, typer.Option("--sandbox", help="Where code runs.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
Name = Annotated[str, typer.Argument(metavar="NAME", autocompletion=complete_actions)]
Names = Annotated[list[str], typer.Argument(metavar="NAME…", autocompletion=complete_actions)]
