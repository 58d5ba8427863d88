# /// script
# requires-python = ">=3.11"
# dependencies = ["openpyxl>=3.1"]
# [tool.dynasaur]
# tags = ["spreadsheet", "excel", "file"]
# ///
"""Cells of a workbook as plain values."""

import datetime
from pathlib import Path

from actions import read_text

_Cell = str | int | float | bool | None


def _simplify(value: object) -> _Cell:
    if isinstance(value, datetime.datetime):
        # A spreadsheet has no dates without a time: midnight is how one is kept.
        return (value.date() if value.time() == datetime.time() else value).isoformat()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(getattr(value, "text", value))


def read_cells(
    path: Path, cells: str | None = None, sheet: str | int | None = None, formulas: bool = False
) -> list[list[_Cell]]:
    """Read a range of cells of an Excel workbook (.xlsx, .xlsm) as a grid of values.

    Dates and times come as ISO text: "2024-05-01", "2024-05-01T09:30:00", "09:30:00".

    Args:
        path: The workbook.
        cells: A range such as "B2", "A1:C10" or "A:C"; without it, the whole sheet.
        sheet: Name of the sheet, or its number from 1; without it, the first.
        formulas: Give formulas ("=A1*2") rather than the results last computed by the spreadsheet program.

    Returns:
        One list per row, all of one length; null for an empty cell.

    Raises:
        FileNotFoundError: No such file; names the nearest ones.
        ValueError: Not a workbook, no such sheet (names those there are), or not a range.

    Examples:
        >>> import openpyxl
        >>> book = openpyxl.Workbook()
        >>> for row in [["fruit", "price"], ["pear", 3], ["fig", 0.5]]:
        ...     book.active.append(row)
        >>> book.save("fruit.xlsx")
        >>> read_cells("fruit.xlsx", "A2:B3")
        [['pear', 3], ['fig', 0.5]]
        >>> read_cells("fruit.xlsx", "B2", sheet="Prices")
        Traceback (most recent call last):
        ValueError: No sheet 'Prices' in 'fruit.xlsx'. Sheets: 'Sheet'.
    """
    import openpyxl
    from openpyxl.utils.cell import range_boundaries

    path = Path(path)
    if not path.is_file():
        read_text(path)  # raises, naming the nearest files
    try:
        left, top, right, bottom = range_boundaries(cells) if cells else (None, None, None, None)
    except (ValueError, TypeError):
        raise ValueError(f"{cells!r} is not a range of cells. Write it like 'B2', 'A1:C10' or 'A:C'.") from None
    try:
        with path.open("rb") as file:
            book = openpyxl.load_workbook(file, read_only=True, data_only=not formulas)
            if isinstance(sheet, int):
                found = book.worksheets[sheet - 1] if 1 <= sheet <= len(book.worksheets) else None
            else:
                found = next((each for each in book.worksheets if sheet in (None, each.title)), None)
            if found is None:
                names = ", ".join(repr(each.title) for each in book.worksheets)
                raise LookupError(f"No sheet {sheet!r} in {str(path)!r}. Sheets: {names}.")
            ranged = found.iter_rows(min_row=top, max_row=bottom, min_col=left, max_col=right, values_only=True)
            grid = [[_simplify(value) for value in row] for row in ranged]
            book.close()
    except LookupError as error:
        raise ValueError(error.args[0]) from None
    except Exception as error:
        raise ValueError(f"{str(path)!r} cannot be read as an .xlsx workbook: {error}") from None
    width = max(map(len, grid), default=0)
    return [row + [None] * (width - len(row)) for row in grid]


def test_dates_are_iso_text_and_formulas_are_kept_apart() -> None:
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append([datetime.date(2024, 5, 1), datetime.datetime(2024, 5, 1, 9, 30), "=1+1", True])
    book.create_sheet("Two").append(["second"])
    book.save("mixed.xlsx")
    assert read_cells(Path("mixed.xlsx")) == [["2024-05-01", "2024-05-01T09:30:00", None, True]]
    assert read_cells(Path("mixed.xlsx"), "C1", formulas=True) == [["=1+1"]]
    assert read_cells(Path("mixed.xlsx"), sheet=2) == [["second"]]


def test_a_file_that_is_no_workbook_is_named() -> None:
    Path("letter.xlsx").write_text("Dear all")
    try:
        read_cells(Path("letter.xlsx"))
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message.startswith("'letter.xlsx' cannot be read as an .xlsx workbook")


def test_range_that_is_none_is_refused() -> None:
    Path("any.xlsx").write_text("")
    try:
        read_cells(Path("any.xlsx"), "first row")
    except ValueError as error:
        message = str(error)
    else:
        message = ""
    assert message.startswith("'first row' is not a range of cells")
