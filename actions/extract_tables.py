# /// script
# requires-python = ">=3.11"
# dependencies = ["beautifulsoup4>=4.12"]
# [tool.dynasaur]
# tags = ["html", "web", "table"]
# ///
from pathlib import Path
from typing import Any

from actions import guess_types, read_text

_Cell = str | int | float | bool | None


def _span(cell: Any, name: str) -> int:
    text = str(cell.get(name, "1")).strip()
    return min(max(int(text), 1), 1000) if text.isascii() and text.isdigit() else 1


def _close_open_ends(soup: Any) -> None:
    """HTML lets </td> and </tr> be left out; the parser then puts each cell into the one before."""
    for names in (["tr"], ["td", "th"]):
        for tag in soup.find_all(names):
            holder = tag.find_parent([*names, "table"])
            if holder is not None and holder.name in names:
                holder.insert_after(tag)


def _read_grid(table: Any) -> list[list[str]]:
    """Its cells in rows; one that spans several places fills each of them."""
    grid: list[list[str]] = []
    waiting: dict[int, tuple[int, str]] = {}  # column -> rows still to fill, text
    for line in table.find_all("tr"):
        if line.find_parent("table") is not table:
            continue
        row: list[str] = []

        def fill(row: list[str] = row) -> None:
            while len(row) in waiting:
                left, text = waiting.pop(len(row))
                if left > 1:
                    waiting[len(row)] = (left - 1, text)
                row.append(text)

        for cell in line.find_all(["td", "th"]):
            if cell.find_parent("tr") is not line:
                continue
            text = " ".join(cell.get_text(" ").split())
            for _ in range(_span(cell, "colspan")):
                fill()
                if (down := _span(cell, "rowspan")) > 1:
                    waiting[len(row)] = (down - 1, text)
                row.append(text)
        fill()
        grid.append(row)
    return [row for row in grid if row]


def extract_tables(page: str, minimum_rows: int = 1) -> list[list[dict[str, _Cell]]]:
    """Extract the tables of a web page as rows; numbers are recognised, the first row names the columns.

    Args:
        page: The HTML itself, or the path of an HTML file.
        minimum_rows: Leave out tables with fewer rows than this below their first.

    Returns:
        One list of rows per table, in the page's order; each row maps column name to value.

    Raises:
        FileNotFoundError: It is no HTML and no such file.

    Examples:
        >>> page = "<table><tr><th>fruit</th><th>price</th></tr><tr><td>pear</td><td>3</td></tr></table>"
        >>> extract_tables(page)
        [[{'fruit': 'pear', 'price': 3}]]
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(page if "<" in page else read_text(Path(page)), "html.parser")
    _close_open_ends(soup)
    tables = []
    for table in soup.find_all("table"):
        grid = _read_grid(table)
        if not grid or len(grid) - 1 < minimum_rows:
            continue
        width = max(map(len, grid))
        names: list[str] = []
        for number, name in enumerate(grid[0] + [""] * (width - len(grid[0])), 1):
            name = name or f"column_{number}"
            names.append(name if name not in names else f"{name}_{number}")
        rows: list[dict[str, _Cell]] = [
            {name: row[n] if n < len(row) else None for n, name in enumerate(names)} for row in grid[1:]
        ]
        tables.append(guess_types(rows))
    return tables


def test_spans_fill_their_places() -> None:
    page = """<table><tr><th>a</th><th>b</th><th>c</th></tr>
        <tr><td rowspan="2">x</td><td colspan="2">1</td></tr><tr><td>2</td><td>3</td></tr></table>"""
    assert extract_tables(page) == [[{"a": "x", "b": 1, "c": 1}, {"a": "x", "b": 2, "c": 3}]]


def test_nested_tables_are_tables_of_their_own() -> None:
    page = "<table><tr><td>a</td></tr><tr><td><table><tr><td>b</td></tr><tr><td>1</td></tr></table></td></tr></table>"
    assert extract_tables(page) == [[{"a": "b 1"}], [{"b": 1}]]


def test_cells_and_rows_left_open() -> None:
    page = "<table><tr><th>a<th>b<tr><td>1<td>2<tr><td>3<td>4</table>"
    assert extract_tables(page) == [[{"a": 1, "b": 2}, {"a": 3, "b": 4}]]
