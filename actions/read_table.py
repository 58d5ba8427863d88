# /// script
# requires-python = ">=3.11"
# dependencies = []
# [tool.dynasaur]
# tags = ["table", "csv", "excel", "json", "file"]
# ///
"""Tables from files. Every table action takes either such a file's path or the rows this one gives."""

import csv
import io
import json
from pathlib import Path
from typing import Literal

from actions import guess_types, read_cells, read_text

_Cell = str | int | float | bool | None

_MARKS = ",;\t|"


def _name_columns(header: list[_Cell], width: int) -> list[str]:
    names: list[str] = []
    for number in range(width):
        cell = header[number] if number < len(header) else None
        name = base = "" if cell is None else str(cell).strip()
        name = base = base or f"column_{number + 1}"
        copy = 2
        while name in names:
            name, copy = f"{base}_{copy}", copy + 1
        names.append(name)
    return names


def _build_rows(grid: list[list[_Cell]]) -> list[dict[str, _Cell]]:
    filled = [row for row in grid if any(cell not in (None, "") for cell in row)]
    if not filled:
        return []
    names = _name_columns(filled[0], max(map(len, filled)))
    return [{name: row[n] if n < len(row) else None for n, name in enumerate(names)} for row in filled[1:]]


def _flatten(value: object) -> _Cell:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return json.dumps(value, ensure_ascii=False)


def _read_json(text: str, path: Path) -> list[dict[str, _Cell]]:
    try:
        if path.suffix.lower() == ".json":
            data = json.loads(text)
        else:
            data = [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not valid JSON: {error}") from None
    if isinstance(data, dict):
        lists = [value for value in data.values() if isinstance(value, list)]
        if len(lists) == len(data) and len({len(column) for column in lists}) == 1 and len(data) > 1:
            data = [dict(zip(data, cells, strict=True)) for cells in zip(*lists, strict=True)]
        elif len(lists) == 1:
            data = lists[0]
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise ValueError(f"{str(path)!r} holds no table: a list of objects is one.")
    return [{name: _flatten(value) for name, value in row.items()} for row in data]


def read_table(
    path: Path, sheet: str | int | None = None, delimiter: str | None = None, decimal: Literal[".", ","] = "."
) -> list[dict[str, _Cell]]:
    r"""Read a table from a CSV, TSV, Excel (.xlsx), JSON or JSON Lines file.

    The first row that is not empty names the columns. Numbers and true/false are recognised a column at a time;
    dates stay text. Encoding and delimiter are found out.

    Args:
        path: The file; its ending says what it is.
        sheet: For a workbook: name of the sheet, or its number from 1; without it, the first.
        delimiter: For CSV: what separates cells; without it, found out.
        decimal: For CSV: the decimal mark of its numbers; with ",", a "." separates thousands.

    Returns:
        One object per row: column name to text, number, truth value, or null for a blank cell.

    Raises:
        FileNotFoundError: No such file; names the nearest ones.
        ValueError: Not a kind of file that can be read, broken, or no such sheet (names those there are).

    Examples:
        >>> _ = Path("fruit.csv").write_text("fruit;price;ripe\npear;3,5;true\nfig;0,25;\n")
        >>> read_table("fruit.csv", decimal=",")
        [{'fruit': 'pear', 'price': 3.5, 'ripe': True}, {'fruit': 'fig', 'price': 0.25, 'ripe': None}]
        >>> read_table("fruits.csv")
        Traceback (most recent call last):
        FileNotFoundError: No file 'fruits.csv'. Did you mean 'fruit.csv'?
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind in (".xlsx", ".xlsm"):
        return _build_rows(read_cells(path, sheet=sheet))
    if kind in (".json", ".jsonl", ".ndjson"):
        return _read_json(read_text(path), path)
    if kind not in (".csv", ".tsv", ".tab", ".txt"):
        raise ValueError(
            f"Cannot read a table from {str(path)!r}: it must end in .csv, .tsv, .txt, .xlsx, .json or .jsonl."
        )
    text = read_text(path).strip("\n")
    first_line = text.split("\n", 1)[0]
    mark = delimiter or ("\t" if kind in (".tsv", ".tab") else max(_MARKS, key=first_line.count))
    csv.field_size_limit(1 << 30)
    rows: list[list[_Cell]] = [list(row) for row in csv.reader(io.StringIO(text, newline=""), delimiter=mark)]
    return guess_types(_build_rows(rows), decimal)


def test_quotes_newlines_and_ragged_rows() -> None:
    Path("odd.csv").write_text('a,b,b,\n"x, y","two\nlines"\n\n1,2,3,4,5\n')
    assert read_table(Path("odd.csv")) == [
        {"a": "x, y", "b": "two\nlines", "b_2": None, "column_4": None, "column_5": None},
        {"a": "1", "b": "2", "b_2": 3, "column_4": 4, "column_5": 5},
    ]


def test_sheet_of_a_workbook() -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.create_sheet("Prices").append([None])
    for row in [["fruit", "price"], ["pear", 3]]:
        book["Prices"].append(row)
    book.save("two.xlsx")
    assert read_table(Path("two.xlsx"), sheet="Prices") == [{"fruit": "pear", "price": 3}]
    assert read_table(Path("two.xlsx")) == []


def test_json_in_its_usual_shapes() -> None:
    expected = [{"a": 1, "b": "[2]"}]
    shapes = {"a.json": '[{"a": 1, "b": [2]}]', "b.json": '{"n": 1, "rows": [{"a": 1, "b": [2]}]}'}
    shapes |= {"c.json": '{"a": [1], "b": [[2]]}', "d.jsonl": '{"a": 1, "b": [2]}\n\n'}
    for name, text in shapes.items():
        Path(name).write_text(text)
        assert read_table(Path(name)) == expected, name


def test_other_files_are_refused_with_what_can_be_read() -> None:
    try:
        read_table(Path("old.xls"))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message.endswith("it must end in .csv, .tsv, .txt, .xlsx, .json or .jsonl.")


def test_empty_file_is_an_empty_table() -> None:
    Path("empty.csv").write_text("")
    assert read_table(Path("empty.csv")) == []
