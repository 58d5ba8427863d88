# /// script
# requires-python = ">=3.11"
# dependencies = ["matplotlib>=3.9"]
# [tool.dynasaur]
# tags = ["chart", "plot", "table", "picture"]
# ///
import datetime
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from actions import pick_columns

# Before matplotlib is imported: where the home folder cannot be written it would warn and build its font list anew
# each time. Imported here, not in the function, so that a process kept ready has it done.
os.environ.setdefault("MPLCONFIGDIR", str(Path(tempfile.gettempdir(), "matplotlib")))
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_Cell = str | int | float | bool | None


def _read_dates(cells: list[Any]) -> list[Any]:
    """ISO dates as dates, so that the axis is one of time; anything else as it is."""
    try:
        return [datetime.datetime.fromisoformat(cell) for cell in cells]
    except (TypeError, ValueError):
        return cells


def _require_numbers(rows: list[dict[str, _Cell]], column: str) -> None:
    odd = next((row[column] for row in rows if isinstance(row[column], str)), None)
    if odd is not None:
        raise ValueError(f"Column {column!r} holds text ({odd!r}): only numbers can be drawn.")


def _draw(axes: Any, kind: str, rows: list[dict[str, _Cell]], x: str, columns: list[str]) -> None:
    for number, column in enumerate(columns):
        points = [(row[x], row[column]) for row in rows if row[x] is not None and row[column] is not None]
        across, up = _read_dates([point[0] for point in points]), [point[1] for point in points]
        if kind == "bar":
            # Bars stand side by side at whole numbers, named by the text of x.
            places = {row[x]: place for place, row in enumerate(r for r in rows if r[x] is not None)}
            width = 0.8 / len(columns)
            shift = (number - (len(columns) - 1) / 2) * width
            axes.bar([places[point[0]] + shift for point in points], up, width, label=column)
            axes.set_xticks(range(len(places)), [str(name) for name in places], rotation=45 if len(places) > 8 else 0)
        elif kind == "scatter":
            axes.scatter(across, up, s=12, label=column)
        else:
            axes.plot(across, up, label=column)


def draw_chart(
    table: Path | list[dict[str, _Cell]],
    x: str,
    y: str | list[str] | None = None,
    kind: Literal["line", "bar", "scatter", "histogram"] = "line",
    path: Path = Path("chart.png"),
    title: str = "",
) -> Path:
    r"""Draw columns of a table as a line, bar or scatter chart or a histogram, and save it as PNG.

    ISO dates on the x axis are drawn as time. Rows with a blank are left out.

    Args:
        table: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        x: The column along the x axis; of a histogram, the column to count.
        y: The column or columns of numbers to draw; a histogram has none.
        kind: The kind of chart.
        path: The .png file to write.
        title: A title above the chart.

    Returns:
        The path written.

    Raises:
        ValueError: No such column (names those there are), nothing to draw, or text where numbers are wanted.

    Examples:
        >>> rows = [{"day": "2024-05-01", "sold": 3}, {"day": "2024-05-02", "sold": 5}]
        >>> Path(draw_chart(rows, x="day", y="sold", title="Sales")).read_bytes()[:4]
        b'\x89PNG'
        >>> draw_chart(rows, x="day", y="day", kind="bar")
        Traceback (most recent call last):
        ValueError: Column 'day' holds text ('2024-05-01'): only numbers can be drawn.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise ValueError(f"Cannot draw to {str(path)!r}: it must end in .png.")
    columns = [] if y is None else [y] if isinstance(y, str) else y
    if (kind == "histogram") != (not columns):
        raise ValueError("A histogram takes x alone." if columns else f"A {kind} chart needs y, the column to draw.")
    rows = pick_columns(table, list(dict.fromkeys([x, *columns])))
    if not rows:
        raise ValueError("The table has no rows: there is nothing to draw.")
    for column in columns or [x]:
        _require_numbers(rows, column)

    figure = Figure(figsize=(8, 4.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if kind == "histogram":
        axes.hist([row[x] for row in rows if row[x] is not None], bins="auto")
    else:
        _draw(axes, kind, rows, x, columns)
    axes.set_xlabel(x)
    axes.set_ylabel("count" if kind == "histogram" else columns[0] if len(columns) == 1 else "")
    axes.set_title(title)
    if len(columns) > 1:
        axes.legend()
    if kind == "line" and isinstance(rows[0][x], str):
        axes.tick_params(axis="x", rotation=30)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def test_every_kind_is_drawn() -> None:
    rows = [{"name": "a", "n": 1, "m": 2.5}, {"name": "b", "n": None, "m": 4}]
    for kind in ("line", "bar", "scatter"):
        assert draw_chart(rows, "name", ["n", "m"], kind, Path(f"charts/{kind}.png")).stat().st_size > 1000
    assert draw_chart(rows, "m", kind="histogram").stat().st_size > 1000


def test_histogram_with_y_is_refused() -> None:
    try:
        draw_chart([{"a": 1}], "a", "a", "histogram")
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message == "A histogram takes x alone."
