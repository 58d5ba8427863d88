# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "columns"]
# ///
import difflib
from pathlib import Path

from actions import read_table

_Cell = str | int | float | bool | None


def pick_columns(
    table: Path | list[dict[str, _Cell]], columns: str | list[str] | None = None
) -> list[dict[str, _Cell]]:
    r"""Read a table, or take one, and keep some of its columns in the order asked for.

    Args:
        table: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        columns: Name of the column or columns to keep; without it, all.

    Returns:
        New rows, each with all those columns; null where a row has no such cell.

    Raises:
        ValueError: No such column; names the columns there are.

    Examples:
        >>> _ = Path("fruit.csv").write_text("fruit,price,origin\npear,3,Italy\nfig,5,Turkey\n")
        >>> pick_columns("fruit.csv", ["origin", "fruit"])
        [{'origin': 'Italy', 'fruit': 'pear'}, {'origin': 'Turkey', 'fruit': 'fig'}]
        >>> pick_columns([{"fruit": "pear", "price": 3}], "prize")
        Traceback (most recent call last):
        ValueError: No column 'prize'. Did you mean 'price'? Columns: 'fruit', 'price'.
    """
    rows = table if isinstance(table, list) else read_table(Path(table))
    names = list(dict.fromkeys(name for row in rows for name in row))
    wanted = names if columns is None else [columns] if isinstance(columns, str) else columns
    for name in wanted:
        # A table without rows has forgotten its header: nothing can be said about its columns then.
        if rows and name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"No column {name!r}.{hint} Columns: {', '.join(map(repr, names))}.")
    return [{name: row.get(name) for name in wanted} for row in rows]


def test_rows_are_made_even() -> None:
    assert pick_columns([{"a": 1}, {"b": 2}]) == [{"a": 1, "b": None}, {"a": None, "b": 2}]
