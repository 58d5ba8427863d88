# /// script
# requires-python = ">=3.11"
# dependencies = ["openpyxl>=3.1"]
# [tool.dynasaur]
# tags = ["table", "csv", "excel", "json", "file"]
# ///
import csv
import datetime
import json
from pathlib import Path

from actions import pick_columns

_Cell = str | int | float | bool | None


def _make_value(cell: _Cell) -> object:
    """Dates become dates in a workbook; text that looks like a formula stays text."""
    if isinstance(cell, str) and len(cell) in (10, 16, 19) and cell[4:5] == "-":
        try:
            return datetime.datetime.fromisoformat(cell) if "T" in cell else datetime.date.fromisoformat(cell)
        except ValueError:
            return cell
    return cell


def _write_sheet(path: Path, sheet: str, names: list[str], rows: list[dict[str, _Cell]]) -> None:
    import openpyxl
    from openpyxl.styles import Font

    book = openpyxl.load_workbook(path) if path.exists() else openpyxl.Workbook()
    place = book.sheetnames.index(sheet) if sheet in book.sheetnames else len(book.sheetnames)
    if sheet in book.sheetnames:
        del book[sheet]
    elif not path.exists():
        del book[book.sheetnames[0]]
    page = book.create_sheet(sheet, place)
    for column, name in enumerate(names, 1):
        page.cell(1, column, name).font = Font(bold=True)
    for line, row in enumerate(rows, 2):
        for column, name in enumerate(names, 1):
            cell = page.cell(line, column, _make_value(row[name]))
            if cell.data_type == "f":
                cell.data_type = "s"
    page.freeze_panes = "A2"
    book.save(path)


def write_table(table: Path | list[dict[str, _Cell]], path: Path, sheet: str = "Sheet1") -> Path:
    r"""Write a table to a CSV, TSV, Excel (.xlsx), JSON or JSON Lines file; from a file, this converts it.

    An existing file is replaced; of an existing workbook only the sheet of that name. Folders are made as needed.
    In a workbook, ISO dates become real dates. Pictures and charts of an existing workbook are not kept.

    Args:
        table: Rows, or path of a table file (CSV, TSV, XLSX, JSON).
        path: The file to write; its ending says what it will be.
        sheet: For a workbook: the sheet to write.

    Returns:
        The path written.

    Raises:
        ValueError: Not a kind of file that can be written.

    Examples:
        >>> rows = [{"fruit": "pear", "price": 3}, {"fruit": "fig", "price": None}]
        >>> Path(write_table(rows, "out/fruit.csv")).read_text()
        'fruit,price\npear,3\nfig,\n'
        >>> from actions import read_table
        >>> read_table(write_table("out/fruit.csv", "fruit.xlsx", sheet="Prices"), sheet="Prices") == rows
        True
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in (".csv", ".tsv", ".xlsx", ".json", ".jsonl"):
        raise ValueError(f"Cannot write a table to {str(path)!r}: it must end in .csv, .tsv, .xlsx, .json or .jsonl.")
    rows = pick_columns(table)
    names = list(rows[0]) if rows else []
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == ".xlsx":
        _write_sheet(path, sheet, names, rows)
    elif kind == ".json":
        path.write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, delimiter="\t" if kind == ".tsv" else ",", lineterminator="\n")
            if names:
                writer.writeheader()
            writer.writerows(rows)
    return path


def test_every_kind_is_read_back() -> None:
    from actions import read_table

    rows = [{"day": "2024-05-01", "text": "=1+1, ü\n", "n": 1.5}, {"day": "2024-05-02", "text": "-", "n": None}]
    for name in ("t.csv", "t.tsv", "t.xlsx", "t.json", "t.jsonl"):
        assert read_table(write_table(rows, Path(name))) == rows, name


def test_other_sheets_stay_and_dates_are_dates() -> None:
    import openpyxl

    for sheet, number in (("One", 1), ("Two", 2), ("One", 3)):
        write_table([{"day": "2024-05-01", "n": number}], Path("sheets.xlsx"), sheet)
    book = openpyxl.load_workbook("sheets.xlsx")
    assert book.sheetnames == ["One", "Two"]
    assert (book["One"]["B2"].value, book["Two"]["B2"].value) == (3, 2)
    assert book["One"]["A2"].is_date


def test_other_files_are_refused() -> None:
    try:
        write_table([], Path("a.pdf"))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message == "Cannot write a table to 'a.pdf': it must end in .csv, .tsv, .xlsx, .json or .jsonl."
