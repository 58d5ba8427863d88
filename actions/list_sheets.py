# /// script
# requires-python = ">=3.11"
# dependencies = ["openpyxl>=3.1"]
# [tool.dynasaur]
# tags = ["spreadsheet", "excel"]
# ///
from dataclasses import dataclass
from pathlib import Path

from actions import read_cells

_Cell = str | int | float | bool | None


@dataclass(frozen=True)
class _Sheet:
    name: str
    rows: int
    columns: int
    first_row: list[_Cell]


def list_sheets(path: Path) -> list[_Sheet]:
    """List the sheets of an Excel workbook (.xlsx, .xlsm): name, size and first row of each.

    Args:
        path: The workbook.

    Returns:
        The sheets in their order; rows and columns reach to the last cell in use.

    Raises:
        FileNotFoundError: No such file; names the nearest ones.
        ValueError: Not a workbook.

    Examples:
        >>> import openpyxl
        >>> book = openpyxl.Workbook()
        >>> for row in [["fruit", "price"], ["pear", 3], ["fig", 5]]:
        ...     book.active.append(row)
        >>> _ = book.create_sheet("Notes")
        >>> book.save("fruit.xlsx")
        >>> list_sheets("fruit.xlsx")[0]
        _Sheet(name='Sheet', rows=3, columns=2, first_row=['fruit', 'price'])
        >>> [sheet.name for sheet in list_sheets("fruit.xlsx")]
        ['Sheet', 'Notes']
    """
    import openpyxl

    path = Path(path)
    read_cells(path, "A1")  # raises for what is missing or no workbook
    with path.open("rb") as file:
        book = openpyxl.load_workbook(file, read_only=True)
        names = [sheet.title for sheet in book.worksheets]
        book.close()
    sheets = []
    for name in names:
        grid = read_cells(path, sheet=name)
        sheets.append(_Sheet(name, len(grid), len(grid[0]) if grid else 0, grid[0] if grid else []))
    return sheets
