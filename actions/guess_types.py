# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "clean"]
# ///
"""Text cells to values, a column at a time: one odd cell keeps its whole column text, so no column is of two minds."""

import math
import re
from collections.abc import Callable, Iterable
from typing import Literal

_Cell = str | int | float | bool | None

_INTEGER = re.compile(r"[+-]?(0|[1-9][0-9]{0,17})", re.ASCII)
_NUMBER = re.compile(r"[+-]?(0|[1-9][0-9]*)?(\.[0-9]*)?([eE][+-]?[0-9]+)?", re.ASCII)
_NOT_A_VALUE = frozenset({"na", "n/a", "nan", "null", "none", "-"})
_TRUTHS = {"true": True, "false": False}


def _read_integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _read_number(text: str) -> float:
    if not _NUMBER.fullmatch(text) or not math.isfinite(number := float(text)):
        raise ValueError(text)
    return number


def _read_truth(text: str) -> bool:
    try:
        return _TRUTHS[text.lower()]
    except KeyError:
        raise ValueError(text) from None


def _find_reader(texts: Iterable[str]) -> Callable[[str], _Cell] | None:
    texts = list(texts)
    for reader in (_read_integer, _read_number, _read_truth):
        try:
            for text in texts:
                reader(text)
        except ValueError:
            continue
        return reader if texts else None
    return None


def guess_types(rows: list[dict[str, _Cell]], decimal: Literal[".", ","] = ".") -> list[dict[str, _Cell]]:
    """Turn the text cells of a table into numbers and truth values where the whole column agrees.

    Blank cells become null. Text with leading zeros ("007") stays text, and so do dates. In a column that is
    numbers otherwise, "NA", "n/a", "NaN", "null", "none" and "-" count as blank.

    Args:
        rows: The table, one object per row.
        decimal: The decimal mark of its numbers; with ",", a "." separates thousands.

    Returns:
        New rows; cells that were no text are as they were.

    Examples:
        >>> guess_types([{"code": "007", "price": "3", "sold": "true"}, {"code": "8", "price": "2.5", "sold": ""}])
        [{'code': '007', 'price': 3.0, 'sold': True}, {'code': '8', 'price': 2.5, 'sold': None}]
        >>> guess_types([{"price": "1.200,50"}, {"price": "n/a"}], decimal=",")
        [{'price': 1200.5}, {'price': None}]
    """

    def unify(text: str) -> str:
        return text.replace(".", "").replace(",", ".") if decimal == "," else text

    readers = {}
    for column in dict.fromkeys(column for row in rows for column in row):
        texts = (cell.strip() for row in rows if isinstance(cell := row.get(column), str))
        readers[column] = _find_reader(unify(text) for text in texts if text and text.lower() not in _NOT_A_VALUE)

    def read(column: str, cell: _Cell) -> _Cell:
        if not isinstance(cell, str):
            return cell
        text, reader = cell.strip(), readers[column]
        if not text or (reader is not None and text.lower() in _NOT_A_VALUE):
            return None
        return reader(unify(text)) if reader is not None else cell

    return [{column: read(column, cell) for column, cell in row.items()} for row in rows]


def test_infinity_and_huge_numbers_stay_text() -> None:
    assert guess_types([{"a": "1e999", "b": "inf", "c": "."}]) == [{"a": "1e999", "b": "inf", "c": "."}]


def test_one_odd_cell_keeps_its_column_text() -> None:
    assert guess_types([{"a": "1"}, {"a": "one"}]) == [{"a": "1"}, {"a": "one"}]


def test_not_a_value_words_stay_in_a_text_column() -> None:
    assert guess_types([{"a": "none"}, {"a": "some"}]) == [{"a": "none"}, {"a": "some"}]


def test_no_rows_give_no_rows() -> None:
    assert guess_types([]) == []
