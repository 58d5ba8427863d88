"""What a value is shown as: text, pictures, a table's beginning; and what is too large for that, as a file.

Libraries are only looked at where user code has imported them, those of the standard library too: every worker that
starts waits for what is imported here.
"""

from __future__ import annotations

import binascii
import contextlib
import io
import os
import sys

from dynasaur_mcp.sandbox.worker.workspaces import WORKSPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_SHOWN_CHARACTERS = 256 << 10
MAX_IMAGES = 4
MAX_IMAGE_BYTES = 736 << 10
MAX_NOTES = 10
MAX_TABLE_ROWS = 10
MAX_TABLE_COLUMNS = 12
MAX_CELL_CHARACTERS = 60
MAX_SAVED_CELLS = 200_000
"""Of a table that is saved by itself: more would take seconds each time that it is looked at."""
MAX_BYTES_SHOWN = 200

_TABLES = ("pandas", "polars")
_PNG = b"\x89PNG\r\n\x1a\n"


class Display:
    """How a value is told of."""

    __slots__ = ("images", "left_out", "links", "notes", "text")

    def __init__(self) -> None:
        self.text = ""
        self.images: list[dict[str, str]] = []
        self.links: list[str] = []
        """Files of the workspace that hold the value, relative to it."""
        self.notes: list[str] = []
        """What is not shown as it is, one sentence each."""
        self.left_out = 0
        """Pictures beyond MAX_IMAGES."""

    @property
    def fields(self) -> dict[str, Any]:
        """For a `done` frame, but the text."""
        notes = list(dict.fromkeys(self.notes))[:MAX_NOTES]
        if self.left_out:
            notes.append(f"Pictures left out: {self.left_out}. {MAX_IMAGES} are shown at most: save others by savefig.")
        return {"images": self.images, "links": self.links, "remarks": notes}


def display(value: Any) -> Display:
    """A step's value, without the figures that are open."""
    shown = Display()
    if is_table(type(value)):
        _show_table(value, shown)
    elif is_picture(type(value)) and _add_picture(value, shown):
        shown.text = f"{type(value).__name__}{_size_of(value)}"
    elif isinstance(value, bytes | bytearray) and len(value) > MAX_BYTES_SHOWN:
        _show_bytes(bytes(value), shown)
    else:
        text = "" if value is None else repr(value)
        shown.text = text if len(text) <= MAX_SHOWN_CHARACTERS else text[:MAX_SHOWN_CHARACTERS] + "…"
        if (pathlib := sys.modules.get("pathlib")) and isinstance(value, pathlib.PurePath):
            _link(str(value), shown)
    return shown


def is_picture(kind: type) -> bool:
    """Whether values of a type are shown as pictures: those of PIL, figures of matplotlib, and their like."""
    figure = sys.modules.get("matplotlib.figure")
    return hasattr(kind, "_repr_png_") or (figure is not None and issubclass(kind, figure.Figure))


def is_table(kind: type) -> bool:
    return kind.__module__.partition(".")[0] in _TABLES and kind.__name__ in ("DataFrame", "Series")


def add_figures(shown: Display, value: Any = None) -> None:
    """Every figure that pyplot has open, which is closed; `value` is shown already."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or not hasattr(pyplot, "get_fignums"):  # user code may still be importing it
        return
    try:
        for number in pyplot.get_fignums():
            figure = pyplot.figure(number)
            if figure is not value:
                _add_picture(figure, shown)
    finally:
        # One that cannot be drawn, or not in time, is not met again at the end of each later step.
        pyplot.close("all")


def _size_of(picture: Any) -> str:
    size = getattr(picture, "size", None)
    return f" of {size[0]}x{size[1]} pixels" if isinstance(size, tuple) and len(size) == 2 else ""


def _add_picture(picture: Any, shown: Display) -> bool:
    """Whether it is one: `_repr_png_` may give None."""
    if len(shown.images) == MAX_IMAGES:
        shown.left_out += 1
        return True
    import warnings

    try:
        with warnings.catch_warnings(record=True) as warned:
            data, smaller = _render(picture)
    except MemoryError:
        raise
    except Exception as error:  # boundary: libraries and user code
        shown.notes.append(
            f"A picture could not be drawn: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        )
        return False
    shown.notes += [f"While a picture was drawn: {str(warning.message)[:300]}" for warning in warned]
    if len(data) > MAX_IMAGE_BYTES:
        hint = "Save it to a file"
        shown.notes.append(f"A picture of {len(data):,} bytes is left out: {MAX_IMAGE_BYTES:,} at most. {hint}.")
        return True
    if smaller:
        shown.notes.append(
            f"A picture is shown at 1/{smaller} of its size, to have no more than {MAX_IMAGE_BYTES:,} bytes."
        )
    if data:
        _add_png(data, shown)
    return bool(data)


def _add_png(data: bytes, shown: Display) -> None:
    text = binascii.b2a_base64(data, newline=False).decode()
    shown.images.append({"mime_type": "image/png", "base64": text})


def _render(picture: Any) -> tuple[bytes, int]:
    """As PNG; and by what it was divided to be small enough, 0 where it was not."""
    if hasattr(picture, "savefig"):
        dpi = picture.get_dpi()
        for divisor in (0, 2, 4, 8):
            buffer = io.BytesIO()
            picture.savefig(buffer, format="png", dpi=dpi / (divisor or 1))
            if buffer.tell() <= MAX_IMAGE_BYTES:
                break
        return buffer.getvalue(), divisor
    data = picture._repr_png_() or b""
    if not data and hasattr(picture, "convert"):
        # PNG has no CMYK and the like.
        picture = picture.convert("RGB")
        data = picture._repr_png_() or b""
    divisor = 1
    while len(data) > MAX_IMAGE_BYTES and divisor < 64 and hasattr(picture, "reduce"):
        divisor *= 2
        data = picture.reduce(divisor)._repr_png_() or b""
    return data, divisor if divisor > 1 else 0


def _show_table(table: Any, shown: Display) -> None:
    """As Markdown: its first rows and columns. The whole goes into a file, unless all of it is seen."""
    is_pandas = type(table).__module__.partition(".")[0] == "pandas"
    rows, columns = (*table.shape, 1)[:2]
    kind = f"{type(table).__name__} of {rows:,} rows x {columns:,} columns"
    frame = table if len(table.shape) == 2 else table.to_frame()
    has_index = is_pandas and not _is_trivial(frame.index)
    if is_pandas:
        names, cells = _pandas_cells(frame.iloc[:MAX_TABLE_ROWS, :MAX_TABLE_COLUMNS], has_index)
    else:
        part = frame[:MAX_TABLE_ROWS, :MAX_TABLE_COLUMNS]
        names, cells = list(part.columns), part.rows()
    if not names:
        shown.text = kind
        return
    texts = [[_cell(value) for value in row] for row in cells]
    lines = [_row(list(map(_cell, names))), _row(["---"] * len(names)), *map(_row, texts)]
    is_whole = rows <= MAX_TABLE_ROWS and columns <= MAX_TABLE_COLUMNS
    if is_whole and not any(text.endswith("…") for row in texts for text in row):
        shown.text = "\n".join([kind, "", *lines])
        return
    shown.text = "\n".join([f"{kind}, its beginning:", "", *lines])
    if rows * columns > MAX_SAVED_CELLS:
        how = "to_csv or to_parquet" if is_pandas else "write_csv or write_parquet"
        shown.notes.append(f"The table, of {rows * columns:,} cells, is too large to be saved by itself: use {how}.")
        return
    path = _new_path("table", ".csv")
    try:
        if is_pandas:
            frame.to_csv(path, index=has_index)
        else:
            frame.write_csv(path)
    except Exception as error:  # boundary: no room, or cells that no CSV holds
        _remove(path)
        shown.notes.append(f"The table could not be saved as CSV: {str(error)[:200]}.")
        return
    _link(path, shown)


def _pandas_cells(part: Any, has_index: bool) -> tuple[list[Any], list[list[Any]]]:
    """Not by `reset_index`: an index may have the name of a column."""
    rows = [list(row) for row in part.itertuples(name=None)]
    if not has_index:
        return list(part.columns), [row[1:] for row in rows]
    levels = list(part.index.names)
    if len(levels) == 1:
        return ["index" if levels[0] is None else levels[0], *part.columns], rows
    names = [f"level_{number}" if name is None else name for number, name in enumerate(levels)]
    return [*names, *part.columns], [[*row[0], *row[1:]] for row in rows]


def _is_trivial(index: Any) -> bool:
    return type(index).__name__ == "RangeIndex" and index.start == 0 and index.step == 1


def _cell(value: Any) -> str:
    text = str(value).replace("\\", "\\\\").replace("|", "\\|")
    text = " ".join(text.split())
    return text if len(text) <= MAX_CELL_CHARACTERS else text[: MAX_CELL_CHARACTERS - 1] + "…"


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _show_bytes(value: bytes, shown: Display) -> None:
    shown.text = f"{len(value):,} bytes: {value[:20]!r}…"
    path = _new_path("bytes", ".png" if value.startswith(_PNG) else ".bin")
    try:
        with open(path, "wb") as file:
            file.write(value)
    except OSError as error:
        _remove(path)
        shown.notes.append(f"The bytes could not be saved: {error.strerror}.")
        return
    _link(path, shown)
    if value.startswith(_PNG) and len(value) <= MAX_IMAGE_BYTES:
        _add_png(value, shown)


def _new_path(stem: str, suffix: str) -> str:
    number = 1
    while os.path.lexists(path := f"{WORKSPACE}/{stem}_{number}{suffix}"):
        number += 1
    return path


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _link(path: str, shown: Display) -> None:
    """Of a file of the workspace; any other path is but text."""
    whole = os.path.realpath(path)
    if whole.startswith(f"{WORKSPACE}/") and os.path.isfile(whole):
        shown.links.append(os.path.relpath(whole, WORKSPACE).encode("utf-8", "replace").decode())
