"""What commands print: a table on a terminal, in a pipe lines of tab-separated values, JSON where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text


def show_json(found: Any) -> None:
    """Paths, times and the like as text."""
    typer.echo(json.dumps(found, indent=2, ensure_ascii=False, default=str))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    console = Console()
    if not console.is_terminal:
        for row in rows:
            typer.echo("\t".join(" ".join(cell.split()) for cell in row))
        return
    found = list(rows)
    # Where there is little room nothing is cut off, and what stands first, mostly a name to copy, is not broken either.
    is_short = max((len(row[0]) for row in found), default=0) <= console.width // 2
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=not number and is_short)
    for row in found:
        table.add_row(*map(Text, row))
    console.print(table)


def show_row(file: str, how: str, note: str, *, failed: bool, room: int = 0) -> None:
    """One row at once, not a table at the end: of what takes a while.

    Args:
        room: For `file`, in columns.
    """
    console = Console()
    if not console.is_terminal:
        typer.echo("\t".join((file, how, " ".join(note.split()))))
        return
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_column(width=max(room, len(file)))
    row.add_column(width=len("there already"))
    row.add_row(file, Text(how, style="red" if failed else "green"), Text(note))
    console.print(row)
