# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "statistics", "aggregate"]
# ///
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from actions import pick_columns

_Cell = str | int | float | bool | None

_MEASURES: dict[str, Callable[[list[Any]], _Cell]] = {
    "count": len,
    "distinct": lambda cells: len(set(cells)),
    "sum": sum,
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
    "max": max,
    "first": lambda cells: cells[0],
    "last": lambda cells: cells[-1],
}


def group_rows(
    table: Path | list[dict[str, _Cell]],
    by: str | list[str],
    measure: Literal["count", "distinct", "sum", "mean", "median", "min", "max", "first", "last"] = "count",
    column: str | None = None,
) -> list[dict[str, _Cell]]:
    r"""Group a table by one or several columns and measure each group.

    Blank cells of the measured column are left out; a group with nothing else has null (0 for count, distinct, sum).

    Args:
        table: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        by: The column or columns whose equal values make a group.
        measure: What to work out for each group.
        column: The column to measure; "count" alone goes without, and counts rows then.

    Returns:
        One row per group, in order of first appearance: the `by` columns, then "count" or "<measure>_<column>".

    Raises:
        ValueError: No such column (names those there are), or no column to measure.
        TypeError: The measure wants numbers and a cell is none.

    Examples:
        >>> _ = Path("sales.csv").write_text("shop,fruit,sold\nA,fig,2\nB,fig,4\nA,pear,3\nB,pear,\n")
        >>> group_rows("sales.csv", by="shop", measure="sum", column="sold")
        [{'shop': 'A', 'sum_sold': 5}, {'shop': 'B', 'sum_sold': 4}]
        >>> group_rows("sales.csv", "fruit")
        [{'fruit': 'fig', 'count': 2}, {'fruit': 'pear', 'count': 2}]
    """
    rows = pick_columns(table)
    keys = [by] if isinstance(by, str) else by
    if column is None and measure != "count":
        raise ValueError(
            f"{measure!r} wants a column to measure. Columns: {', '.join(map(repr, rows[0] if rows else []))}."
        )
    pick_columns(rows, keys if column is None else [*keys, column])
    groups: dict[tuple[_Cell, ...], list[_Cell]] = {}
    for row in rows:
        cells = groups.setdefault(tuple(row[key] for key in keys), [])
        if column is None or row[column] not in (None, ""):
            cells.append(True if column is None else row[column])

    def work_out(cells: list[_Cell]) -> _Cell:
        if not cells and measure not in ("count", "distinct", "sum"):
            return None
        try:
            return _MEASURES[measure](cells)
        except TypeError:
            odd = next((cell for cell in cells if isinstance(cell, str)), None)
            raise TypeError(f"{measure!r} wants numbers, but column {column!r} holds {odd!r}.") from None

    name = "count" if column is None else f"{measure}_{column}"
    return [dict(zip(keys, key, strict=True)) | {name: work_out(cells)} for key, cells in groups.items()]


def test_text_cannot_be_summed() -> None:
    try:
        group_rows([{"a": 1, "b": "x"}], "a", "mean", "b")
    except TypeError as error:
        message = str(error)
    else:
        message = ""
    assert message == "'mean' wants numbers, but column 'b' holds 'x'."


def test_several_keys_and_empty_groups() -> None:
    rows = [{"a": 1, "b": "x", "c": None}, {"a": 1, "b": "y", "c": 2}]
    assert group_rows(rows, ["a", "b"], "mean", "c") == [
        {"a": 1, "b": "x", "mean_c": None},
        {"a": 1, "b": "y", "mean_c": 2.0},
    ]
