# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "statistics"]
# ///
import statistics
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actions import pick_columns

_Cell = str | int | float | bool | None


@dataclass(frozen=True)
class _Common:
    value: str | int | float | bool
    count: int


@dataclass(frozen=True)
class _Summary:
    kind: Literal["number", "text", "true or false", "mixed", "blank"]
    count: int
    blank: int
    distinct: int
    min: str | int | float | None = None
    max: str | int | float | None = None
    sum: float | None = None
    mean: float | None = None
    median: float | None = None
    deviation: float | None = None
    common: list[_Common] | None = None


def _find_kind(cells: list[_Cell]) -> Literal["number", "text", "true or false", "mixed", "blank"]:
    if not cells:
        return "blank"
    if all(isinstance(cell, bool) for cell in cells):
        return "true or false"
    if all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in cells):
        return "number"
    return "text" if all(isinstance(cell, str) for cell in cells) else "mixed"


def summarise_column(table: Path | list[dict[str, _Cell]], column: str, common: int = 5) -> _Summary:
    r"""Summarise one column of a table: how many, blanks, distinct values, range, mean, median, most common.

    Args:
        table: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        column: The column to summarise.
        common: How many of its most common values to name.

    Returns:
        Counts and most common values for any column; min and max for numbers and text; sum, mean, median and standard
        deviation (of a sample) for numbers.

    Raises:
        ValueError: No such column; names the columns there are.

    Examples:
        >>> _ = Path("fruit.csv").write_text("fruit,price\npear,3\nfig,5\nplum,4\nkiwi,\n")
        >>> price = summarise_column("fruit.csv", "price")
        >>> price.kind, price.count, price.blank, price.min, price.max, price.mean
        ('number', 3, 1, 3, 5, 4.0)
        >>> summarise_column([{"colour": "red"}, {"colour": "blue"}, {"colour": "red"}], "colour", common=1).common
        [_Common(value='red', count=2)]
    """
    every = [row[column] for row in pick_columns(table, column)]
    cells = [cell for cell in every if cell not in (None, "")]
    kind = _find_kind(cells)
    # True == 1 == 1.0 in Python, so a column of several kinds is counted by kind and value.
    counts = Counter((isinstance(cell, bool), cell) for cell in cells)
    top = [_Common(cell, count) for (_, cell), count in counts.most_common(max(common, 0)) if cell is not None]
    has_range, is_number = kind in ("number", "text"), kind == "number"
    return _Summary(
        kind=kind,
        count=len(cells),
        blank=len(every) - len(cells),
        distinct=len(counts),
        min=min(cells) if has_range else None,
        max=max(cells) if has_range else None,
        sum=sum(cells) if is_number else None,
        mean=statistics.fmean(cells) if is_number else None,
        median=statistics.median(cells) if is_number else None,
        deviation=statistics.stdev(cells) if is_number and len(cells) > 1 else None,
        common=top,
    )


def test_a_column_of_blanks() -> None:
    summary = summarise_column([{"a": None}, {"a": ""}], "a")
    assert (summary.kind, summary.count, summary.blank, summary.mean) == ("blank", 0, 2, None)


def test_a_mixed_column_has_counts_only() -> None:
    summary = summarise_column([{"a": 1}, {"a": "x"}, {"a": True}], "a")
    assert (summary.kind, summary.distinct, summary.min) == ("mixed", 3, None)


def test_one_number_has_no_deviation() -> None:
    assert summarise_column([{"a": 2.5}], "a").deviation is None
