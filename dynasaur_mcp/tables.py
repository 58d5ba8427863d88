"""What commands print: a table on a terminal, in a pipe lines of tab-separated values, JSON where it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

FOLDED_COLUMNS = 20
"""What a path or the like needs at least, to be broken into lines that can still be read."""


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
    filled = [number for number in range(len(columns)) if any(row[number] for row in found)]
    heads = [columns[number] for number in filled]
    cells = [[row[number] for number in filled] for row in found]
    needs = [max(_need(line[number], whole=not number) for line in [heads, *cells]) for number in range(len(heads))]
    # Where there is little room nothing is cut off, and no word broken but in the column with the longest: a path, say.
    # What stands first, mostly a name to copy, is never broken.
    folded = max(range(1, len(needs)), key=needs.__getitem__, default=0)
    others = [need for number, need in enumerate(needs) if number != folded]
    room = console.width - sum(others) - 2 * len(needs)
    if not found:
        return
    if folded and room >= min(needs[folded], max(FOLDED_COLUMNS, *others[1:], 0)):
        needs[folded] = 0
        _show_columns(heads, cells, needs, console)
    else:
        _show_blocks(heads, cells, console)


def _need(cell: str, *, whole: bool) -> int:
    """Columns of a terminal for it, or for its longest word."""
    return max(map(cell_len, [cell] if whole else cell.split()), default=0)


def _show_columns(heads: Sequence[str], rows: Sequence[Sequence[str]], needs: Sequence[int], console: Console) -> None:
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for number, (head, need) in enumerate(zip(heads, needs, strict=True)):
        table.add_column(head, overflow="fold", no_wrap=not number, min_width=need)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)


def _show_blocks(heads: Sequence[str], rows: Sequence[Sequence[str]], console: Console) -> None:
    """What stands first, and under it the rest: for narrow terminals, and many columns."""
    for first, *rest in rows:
        console.print(Text(first, style="bold"), soft_wrap=True)
        said = [f"{head}: {cell}" if head else cell for head, cell in zip(heads[1:], rest, strict=True) if cell]
        console.print(Padding(Text(", ".join(said), overflow="fold"), (0, 0, 0, 2)))


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
