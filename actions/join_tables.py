# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "join", "merge"]
# ///
from pathlib import Path
from typing import Literal

from actions import pick_columns

_Cell = str | int | float | bool | None


def join_tables(
    left: Path | list[dict[str, _Cell]],
    right: Path | list[dict[str, _Cell]],
    on: str | list[str],
    right_on: str | list[str] | None = None,
    keep: Literal["matching", "left", "all"] = "matching",
) -> list[dict[str, _Cell]]:
    r"""Join two tables: put rows together whose key columns are equal.

    A row with several matches appears once for each. Blank keys match nothing.

    Args:
        left: Path of a table file (CSV, TSV, XLSX, JSON), or rows.
        right: The other table, likewise.
        on: The key column or columns of the left table.
        right_on: The key columns of the right table, where they are called otherwise.
        keep: Only rows with a match, all rows of the left table, or all rows of both.

    Returns:
        The columns of the left table, then those of the right without its keys; a name both have ends in "_right".

    Raises:
        ValueError: No such column (names those there are), or unequal numbers of key columns.

    Examples:
        >>> _ = Path("prices.csv").write_text("fruit,price\npear,3\nfig,5\n")
        >>> _ = Path("stock.csv").write_text("item,left\nfig,7\nkiwi,1\n")
        >>> join_tables("prices.csv", "stock.csv", on="fruit", right_on="item")
        [{'fruit': 'fig', 'price': 5, 'left': 7}]
        >>> join_tables("prices.csv", "stock.csv", "fruit", "item", keep="left")
        [{'fruit': 'pear', 'price': 3, 'left': None}, {'fruit': 'fig', 'price': 5, 'left': 7}]
    """
    left_rows, right_rows = pick_columns(left), pick_columns(right)
    left_keys = [on] if isinstance(on, str) else on
    right_keys = left_keys if right_on is None else [right_on] if isinstance(right_on, str) else right_on
    if len(left_keys) != len(right_keys):
        raise ValueError(
            f"{len(left_keys)} key columns on the left, {len(right_keys)} on the right: they must pair up."
        )
    pick_columns(left_rows, left_keys)
    pick_columns(right_rows, right_keys)

    left_names = list(left_rows[0]) if left_rows else list(left_keys)
    taken = set(left_names)
    renamed = {}
    for name in right_rows[0] if right_rows else []:
        if name not in right_keys:
            renamed[name] = name
            while renamed[name] in taken:
                renamed[name] += "_right"
            taken.add(renamed[name])

    found: dict[tuple[_Cell, ...], list[int]] = {}
    for number, row in enumerate(right_rows):
        found.setdefault(tuple(row[key] for key in right_keys), []).append(number)
    joined: list[dict[str, _Cell]] = []
    matched: set[int] = set()
    for row in left_rows:
        key = tuple(row[name] for name in left_keys)
        numbers = [] if None in key else found.get(key, [])
        matched.update(numbers)
        joined += [row | {new: right_rows[n][old] for old, new in renamed.items()} for n in numbers]
        if not numbers and keep != "matching":
            joined.append(row | dict.fromkeys(renamed.values()))
    if keep == "all":
        blank: dict[str, _Cell] = dict.fromkeys(left_names)
        for number, row in enumerate(right_rows):
            if number not in matched:
                key_cells = {mine: row[theirs] for mine, theirs in zip(left_keys, right_keys, strict=True)}
                joined.append(blank | key_cells | {new: row[old] for old, new in renamed.items()})
    return joined


def test_all_rows_of_both() -> None:
    rows = join_tables([{"k": 1, "v": "a"}], [{"k": 2, "v": "b"}], "k", keep="all")
    assert rows == [{"k": 1, "v": "a", "v_right": None}, {"k": 2, "v": None, "v_right": "b"}]


def test_several_matches_multiply_and_blanks_do_not_match() -> None:
    left = [{"k": 1}, {"k": None}]
    right = [{"k": 1, "v": "a"}, {"k": 1, "v": "b"}, {"k": None, "v": "c"}]
    assert join_tables(left, right, "k") == [{"k": 1, "v": "a"}, {"k": 1, "v": "b"}]


def test_join_with_an_empty_table() -> None:
    assert join_tables([{"k": 1}], [], "k", keep="left") == [{"k": 1}]
    assert join_tables([], [{"k": 1, "v": 2}], "k", keep="all") == [{"k": 1, "v": 2}]
