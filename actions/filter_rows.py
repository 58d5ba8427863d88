# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "filter"]
# ///
import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from actions import pick_columns

_Cell = str | int | float | bool | None

_COMPARISONS: dict[str, Callable[[object, object], bool]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def _say_kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    return "a number" if isinstance(value, int | float) else "text"


def filter_rows(
    table: Path | list[dict[str, _Cell]],
    column: str,
    test: Literal["==", "!=", "<", "<=", ">", ">=", "contains", "matches", "in", "blank", "not blank"],
    value: _Cell | list[_Cell] = None,
) -> list[dict[str, _Cell]]:
    r"""Keep the rows of a table whose cell in one column passes a test.

    Blank cells pass only "blank", "!=" and an "in" that lists null. ISO dates compare as text in order of time.

    Args:
        table: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        column: The column to look at.
        test: How to compare; "contains" ignores case, "matches" searches a regular expression, "in" wants a list.
        value: What to compare with; not needed for "blank" and "not blank".

    Returns:
        The rows that pass, whole and in order.

    Raises:
        ValueError: No such column (names those there are), or a regular expression that is none.
        TypeError: The column holds another kind of value than the one to compare with.

    Examples:
        >>> _ = Path("fruit.csv").write_text("fruit,price\npear,3\nfig,5\nkiwi,\n")
        >>> filter_rows("fruit.csv", "price", ">", 4)
        [{'fruit': 'fig', 'price': 5}]
        >>> filter_rows("fruit.csv", "fruit", "in", ["kiwi", "pear"])
        [{'fruit': 'pear', 'price': 3}, {'fruit': 'kiwi', 'price': None}]
        >>> filter_rows("fruit.csv", "price", ">", "four")
        Traceback (most recent call last):
        TypeError: Column 'price' holds a number (3): it cannot be compared by '>' with 'four', which is text.
    """
    rows = pick_columns(table)
    pick_columns(rows, column)
    if test == "in" and not isinstance(value, list):
        raise TypeError(f"'in' wants a list of values, not {value!r}.")
    if test in ("contains", "matches") and not isinstance(value, str):
        raise TypeError(f"{test!r} wants text, not {value!r}.")
    try:
        pattern = re.compile(
            value if test == "matches" else re.escape(str(value)), re.NOFLAG if test == "matches" else re.I
        )
    except re.error as error:
        raise ValueError(f"{value!r} is not a regular expression: {error}") from None

    def passes(cell: _Cell) -> bool:
        if test in ("blank", "not blank"):
            return (cell in (None, "")) == (test == "blank")
        if test == "in":
            return cell in value
        if test in ("==", "!="):
            return _COMPARISONS[test](cell, value)
        if cell is None:
            return False
        if test in ("contains", "matches"):
            return bool(pattern.search(str(cell)))
        try:
            return _COMPARISONS[test](cell, value)
        except TypeError:
            raise TypeError(
                f"Column {column!r} holds {_say_kind(cell)} ({cell!r}): it cannot be compared by {test!r} "
                f"with {value!r}, which is {_say_kind(value)}."
            ) from None

    return [row for row in rows if passes(row[column])]


def test_every_test_on_text_and_blanks() -> None:
    rows = [{"a": "Pear"}, {"a": "fig"}, {"a": None}]
    answers = {
        ("contains", "PEA"): ["Pear"],
        ("matches", "^f.g$"): ["fig"],
        ("!=", "fig"): ["Pear", None],
        ("blank", None): [None],
        ("not blank", None): ["Pear", "fig"],
        (">=", "a"): ["fig"],
    }
    for (test, value), expected in answers.items():
        assert [row["a"] for row in filter_rows(rows, "a", test, value)] == expected, test


def test_broken_pattern_is_said() -> None:
    try:
        filter_rows([{"a": "x"}], "a", "matches", "(")
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message.startswith("'(' is not a regular expression")
