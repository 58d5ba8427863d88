# /// script
# requires-python = ">=3.11"
# dependencies = ["openpyxl>=3.1"]
# [tool.dynasaur]
# tags = ["spreadsheet", "excel", "file"]
# ///
import datetime
import re
from pathlib import Path

from actions import read_cells

_Cell = str | int | float | bool | None

_REFERENCE = re.compile(r"[A-Za-z]{1,3}[1-9][0-9]{0,6}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d)?)?", re.ASCII)


def _make_value(cell: _Cell) -> object:
    if isinstance(cell, str) and _DATE.fullmatch(cell):
        try:
            return datetime.datetime.fromisoformat(cell) if "T" in cell else datetime.date.fromisoformat(cell)
        except ValueError:
            return cell
    return cell


def set_cells(path: Path, cells: dict[str, _Cell], sheet: str | int | None = None) -> Path:
    """Set single cells of an Excel workbook (.xlsx, .xlsm), keeping everything else; a missing workbook is made.

    Text that begins with "=" is a formula (its result appears once a spreadsheet program opens the file); ISO dates
    become real dates; null empties a cell. Pictures and charts already in the workbook are not kept.

    Args:
        path: The workbook.
        cells: Reference to value, such as {"B2": 3.5, "B3": "=B2*2"}.
        sheet: Name of the sheet, or its number from 1; without it, the first. In a new workbook, its name.

    Returns:
        The path written.

    Raises:
        ValueError: A reference is none, or no such sheet (names those there are); nothing is written then.

    Examples:
        >>> _ = set_cells("budget.xlsx", {"A1": "rent", "B1": 900, "A2": "total", "B2": "=SUM(B1:B1)"}, sheet="May")
        >>> _ = set_cells("budget.xlsx", {"B1": 950})
        >>> from actions import read_cells
        >>> read_cells("budget.xlsx", "A1:B2", sheet="May", formulas=True)
        [['rent', 950], ['total', '=SUM(B1:B1)']]
        >>> set_cells("budget.xlsx", {"B1": 1}, sheet="June")
        Traceback (most recent call last):
        ValueError: No sheet 'June' in 'budget.xlsx'. Sheets: 'May'.
    """
    import openpyxl

    path = Path(path)
    if path.suffix.lower() not in (".xlsx", ".xlsm"):
        raise ValueError(f"Cannot write a workbook to {str(path)!r}: it must end in .xlsx or .xlsm.")
    wrong = [reference for reference in cells if not _REFERENCE.fullmatch(reference)]
    if wrong:
        raise ValueError(f"{', '.join(map(repr, wrong))}: not references of single cells. Write them like 'B2'.")
    if path.exists():
        read_cells(path, "A1", sheet)  # raises for what is no workbook, or no sheet of it
        book = openpyxl.load_workbook(path, keep_vba=path.suffix.lower() == ".xlsm")
        page = book[sheet] if isinstance(sheet, str) else book.worksheets[(sheet or 1) - 1]
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        book = openpyxl.Workbook()
        page = book.worksheets[0]
        page.title = sheet if isinstance(sheet, str) else "Sheet1"
    for reference, value in cells.items():
        page[reference.upper()] = _make_value(value)
    book.save(path)
    return path


def test_dates_and_blanks() -> None:
    set_cells(Path("diary.xlsx"), {"a1": "2024-05-01", "B1": "x", "C1": "2024-13-45"})
    set_cells(Path("diary.xlsx"), {"B1": None})
    assert read_cells(Path("diary.xlsx")) == [["2024-05-01", None, "2024-13-45"]]


def test_wrong_references_write_nothing() -> None:
    try:
        set_cells(Path("none.xlsx"), {"A1": 1, "first": 2, "A0": 3})
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message == "'first', 'A0': not references of single cells. Write them like 'B2'."
    assert not Path("none.xlsx").exists()
