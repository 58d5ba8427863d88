# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "sort"]
# ///
from pathlib import Path

from actions import pick_columns

_Cell = str | int | float | bool | None


def _rank(cell: _Cell) -> tuple[int, float, str]:
    if isinstance(cell, int | float):
        return (0, cell, "")
    return (1, 0.0, cell.casefold()) if isinstance(cell, str) else (2, 0.0, "")


def sort_rows(
    table: Path | list[dict[str, _Cell]], by: str | list[str], descending: bool = False, limit: int | None = None
) -> list[dict[str, _Cell]]:
    r"""Sort a table by one or several columns, and keep the first rows if asked.

    Numbers come before text; blank cells come last either way; rows that tie stay in their order.

    Args:
        table: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        by: The column or columns to sort by, the weightiest first.
        descending: Largest first.
        limit: Keep this many rows at most.

    Returns:
        The rows, sorted.

    Raises:
        ValueError: No such column; names the columns there are.

    Examples:
        >>> _ = Path("fruit.csv").write_text("fruit,price\npear,3\nfig,5\nkiwi,\n")
        >>> [row["fruit"] for row in sort_rows("fruit.csv", "price", descending=True)]
        ['fig', 'pear', 'kiwi']
        >>> sort_rows("fruit.csv", by="fruit", limit=1)
        [{'fruit': 'fig', 'price': 5}]
    """
    rows = pick_columns(table)
    columns = [by] if isinstance(by, str) else by
    pick_columns(rows, columns)
    for column in reversed(columns):
        rows.sort(key=lambda row: _rank(row[column]), reverse=descending)
        rows.sort(key=lambda row: row[column] is None)
    return rows if limit is None else rows[: max(limit, 0)]


def test_several_columns_and_mixed_cells() -> None:
    rows = [{"a": "x", "b": 2}, {"a": 1, "b": 1}, {"a": "X", "b": 1}, {"a": None, "b": 0}]
    assert [(row["a"], row["b"]) for row in sort_rows(rows, ["a", "b"])] == [(1, 1), ("X", 1), ("x", 2), (None, 0)]


def test_the_table_given_is_left_alone() -> None:
    rows = [{"a": 2}, {"a": 1}]
    sort_rows(rows, "a")
    assert rows == [{"a": 2}, {"a": 1}]
