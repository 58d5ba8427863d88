"""`dynasaur-mcp demo`: the main job as a client lives it, on real data, each step checked against what came back.

The client is the `mcp` package's own, the server a subprocess over stdio, as Claude Desktop or an IDE would start it.
What a model would write stands below as text: half of this file, beside the steps that it belongs to.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
from mcp import Client, StdioServerParameters, stdio_client
from mcp.shared.exceptions import MCPError
from mcp_types import Tool
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from dynasaur_mcp.errors import DynasaurError

DEADLINE_SECONDS = 180
"""For everything, so that nothing can hang; it takes a few seconds."""

WIDTH = 110
PICTURED_STEPS = 3
"""What fits on a screen."""
SHOWN_LINES = 4
"""Of any one answer."""
PYTHON = Syntax("", "python", theme="ansi_dark", background_color="default")

EXPLORE = """
import csv

rows = list(csv.DictReader(open("weather.csv")))
len(rows), rows[0]
"""

WRITE = '''
def total_by_month(path: str, column: str) -> dict[str, float]:
    r"""Total a numeric column of a CSV file for each month of its `date` column.

    Args:
        path: CSV file with a header and dates like 2012-01-31.
        column: Header of the column to total.

    Examples:
        >>> _ = open("t.csv", "w").write("date,rain\\n2024-01-01,1.5\\n2024-01-31,2\\n2024-02-01,4\\n")
        >>> total_by_month("t.csv", "rain")
        {'2024-01': 3.5, '2024-02': 4.0}
    """
    totals: dict[str, float] = {}
    for row in csv.DictReader(open(path)):
        month = row["date"][:7]
        totals[month] = round(totals.get(month, 0) + float(row[column]), 2)
    return totals

{day["date"][:7]: total_by_month("weather.csv", "precipitation")[day["date"][:7]] for day in rows[:60]}
'''

COMPOSE = '''
# /// script
# dependencies = ["openpyxl"]
# ///
from actions import total_by_month
from openpyxl import Workbook, load_workbook


def save_monthly_totals(path: str, column: str, target: str) -> int:
    r"""Save the monthly totals of a CSV column as an Excel sheet and return its number of rows.

    Args:
        path: CSV file with a header and dates like 2012-01-31.
        column: Header of the column to total.
        target: The .xlsx file to write.

    Examples:
        >>> _ = open("t.csv", "w").write("date,rain\\n2024-01-01,1.5\\n2024-02-01,4\\n")
        >>> save_monthly_totals("t.csv", "rain", "t.xlsx")
        3
    """
    book = Workbook()
    book.active.append(["month", column])
    for month, total in total_by_month(path, column).items():
        book.active.append([month, total])
    book.save(target)
    return load_workbook(target).active.max_row
'''

READ_BACK = """
from actions import save_monthly_totals  # brings its package with it
from openpyxl import load_workbook

list(load_workbook("rain.xlsx").active.values)[:3]
"""

NOW_A_TOOL = "v1, 1/1 tests, now a tool"
ORDERS = "date,amount\n2026-01-09,12.5\n2026-01-30,7.5\n2026-02-03,40\n"


class StepError(DynasaurError):
    """A step of the story did not do what it says."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool gave back."""

    text: str
    structured: Any
    is_error: bool


def run_demo(*, sandbox: str | None, keep: bool, picture: Path | None = None) -> None:
    """Tell the story on stdout.

    Args:
        picture: An SVG file to draw the first steps into, as the terminal showed them.

    Raises:
        StepError: at the first step that did not do what it says.
    """
    folder = Path(tempfile.mkdtemp(prefix="dynasaur-demo-"))
    try:
        anyio.run(_tell, folder, sandbox, keep, picture)
    except TimeoutError:
        raise StepError(f"the demo did not end within {DEADLINE_SECONDS} s.") from None
    finally:
        if not keep:
            shutil.rmtree(folder)


async def _tell(folder: Path, sandbox: str | None, keep: bool, picture: Path | None) -> None:
    console = Console(highlight=False, record=picture is not None)
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    story = Story(console, folder, sandbox, picture)
    try:
        with anyio.fail_after(DEADLINE_SECONDS):
            await _tell_story(story)
    except* MCPError as errors:
        raise StepError(f"step {story.steps}: the server gave no answer.\n{story.log()}") from errors
    done = f"{story.steps} steps, {story.calls} calls, {story.elapsed:.1f} s: every step did what it says."
    console.print(f"\n[green]✓[/] [bold]{done}[/]")
    for line in dict.fromkeys(line for line in story.log().splitlines() if line.startswith("dynasaur-mcp: ")):
        console.print(Text(line, style="dim"), soft_wrap=True)
    if keep:
        console.print(f"The library is kept: dynasaur-mcp serve --library {story.library}", soft_wrap=True)


async def _tell_story(story: Story) -> None:
    weather = (files("dynasaur_mcp") / "demo_data" / "seattle_weather.csv").read_text()
    rain = _total_by_month(weather, "precipitation")
    days = weather.count("\n") - 1
    months = list(rain)

    async with story.client("A client starts its server") as client:
        story.step("Is there a tool for this already?")
        found = await story.call(client, "search_actions", query="total a column of a CSV file by month")
        story.expect("total_by_month" not in found.text and not found.is_error, "search finds nothing", found)

        story.step("Explore the file: variables stay from step to step")
        await story.upload(client, "weather.csv", weather)
        seen = await story.run(client, EXPLORE)
        story.expect(str(days) in seen.text, f"the file has {days} days", seen)
        tried = await story.run(client, WRITE)
        story.expect(str(rain[months[1]]) in tried.text, "the second step still has `rows`", tried)

        story.step("Keep the function as a tool")
        kept = await story.call(client, "define_action", from_session="default", name="total_by_month")
        story.expect(NOW_A_TOOL in kept.text, NOW_A_TOOL, kept)
        tool = await story.find_tool(client, "total_by_month")
        totals = await story.call(client, tool.name, path="weather.csv", column="precipitation")
        story.expect(totals.structured == rain, "the tool totals every month right", totals)

        story.step("Compose a second one from the first, with a package from PyPI")
        composed = await story.call(client, "define_action", show=COMPOSE, source=COMPOSE)
        if composed.is_error and "openpyxl" in composed.text:
            raise StepError(f"step {story.steps} needs openpyxl from a package index. {composed.text}")
        story.expect(NOW_A_TOOL in composed.text, NOW_A_TOOL, composed)
        tool = await story.find_tool(client, "save_monthly_totals")
        saved = await story.call(client, tool.name, path="weather.csv", column="precipitation", target="rain.xlsx")
        story.expect(saved.structured == {"result": len(rain) + 1}, f"an .xlsx of {len(rain) + 1} rows", saved)
        sheet = await story.run(client, READ_BACK)
        story.expect(f"('{months[1]}', {rain[months[1]]})" in sheet.text, "the .xlsx holds the totals", sheet)

        story.step("A step that never ends is stopped and costs nothing")
        stopped = await story.run(client, "while True: pass", timeout_seconds=1)
        story.expect("did not end within 1 s" in stopped.text, "the step is stopped", stopped)
        after = await story.run(client, "len(rows)")
        story.expect(str(days) in after.text, "the variables of before are still there", after)

    async with story.client("A new client, on the same library") as client:
        story.step("Another day, another client, other data")
        found = await story.call(client, "search_actions", query="total a column of a CSV file by month")
        story.expect("total_by_month" in found.text, "search finds the action", found)
        await story.upload(client, "orders.csv", ORDERS)
        totals = await story.call(client, "total_by_month", path="orders.csv", column="amount")
        story.expect(totals.structured == _total_by_month(ORDERS, "amount"), "the tool works on other data", totals)


class Story:
    """The transcript: what the client asked, what came back, how long it took."""

    def __init__(self, console: Console, folder: Path, sandbox: str | None, picture: Path | None) -> None:
        self.library = folder / "library"
        self.steps = self.calls = 0
        self._console = console
        self._log = folder / "server.log"
        self._sandbox = sandbox
        self._picture = picture
        self._started = time.perf_counter()

    @property
    def elapsed(self) -> float:
        return time.perf_counter() - self._started

    @asynccontextmanager
    async def client(self, who: str) -> AsyncIterator[Client]:
        """A client with a server process of its own on the one library."""
        options = ["--sandbox", self._sandbox] if self._sandbox else []
        server = StdioServerParameters(
            command=sys.executable,
            args=["-m", "dynasaur_mcp", "serve", "--library", str(self.library), *options],
            env=dict(os.environ),
        )
        self._console.print()
        began = time.perf_counter()
        with self._log.open("a") as log:
            async with Client(stdio_client(server, errlog=log)) as client:
                tools = [tool.name for tool in (await client.list_tools()).tools]
                self._sent(f"{who}: dynasaur-mcp serve --library …/library {' '.join(options)}".rstrip(), began)
                self._came_back(f"{len(tools)} tools: {', '.join(tools)}")
                yield client

    def step(self, title: str) -> None:
        if self._picture and self.steps == PICTURED_STEPS:
            self._draw(self._picture)
        self.steps += 1
        self._console.print(f"\n[bold cyan]{self.steps} · {title}[/]")

    def _draw(self, file: Path) -> None:
        drawn = self._console.export_svg(title="dynasaur-mcp demo", unique_id="demo")
        try:
            # Without the font that it would load from elsewhere: the next one in its list is on every machine.
            file.write_text(re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL), encoding="utf-8")
        except OSError as error:
            raise StepError(f"{file} cannot be written: {error.strerror}.") from None

    async def call(self, client: Client, tool: str, /, *, show: str = "", **arguments: Any) -> Answer:
        """Call a tool and print both sides; `show` is the code printed in place of the arguments."""
        began = time.perf_counter()
        result = await client.call_tool(tool, arguments)
        self.calls += 1
        said = "" if show else ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        self._sent(f"  → {tool}" + (f"({said})" if said else ""), began)
        for line in PYTHON.highlight(show.strip("\n")).split() if show else ():
            if line:
                self._print_line("    ", line)
        text = "\n".join(block.text for block in result.content if block.type == "text")
        answer = Answer(text, result.structured_content, bool(result.is_error))
        self._came_back(text, "yellow" if answer.is_error else "green")
        return answer

    async def run(self, client: Client, code: str, *, show: str = "", **arguments: Any) -> Answer:
        return await self.call(client, "run_python", show=show or code, code=code, **arguments)

    async def upload(self, client: Client, name: str, text: str) -> None:
        """Put a file into the session's workspace, as a client does that has no other way: by code."""
        short = f"open({name!r}, 'w').write({text[:40]!r} …)"
        answer = await self.run(client, f"open({name!r}, 'w').write({text!r})", show=short)
        if answer.is_error:
            raise StepError(answer.text)  # no sandbox works: what it says is all there is to know
        self.expect(f"{len(text)}" in answer.text, f"{name} is in the workspace", answer)

    async def find_tool(self, client: Client, name: str) -> Tool:
        """The tool of that name, as the client's list has it."""
        found = [tool for tool in (await client.list_tools()).tools if tool.name == name]
        if not found:
            raise StepError(f"step {self.steps}: {name!r} is not in the client's tool list.")
        self._console.print(f"  [bold green]✓[/] {name} is in the client's tool list")
        return found[0]

    def expect(self, true: bool, what: str, answer: Answer) -> None:
        """Go on, or end the story with what came back instead."""
        if not true:
            raise StepError(f"step {self.steps}: expected that {what}, but got:\n{answer.text}")
        self._console.print(f"  [bold green]✓[/] {what}")

    def log(self) -> str:
        """What the servers said on stderr."""
        return self._log.read_text() if self._log.exists() else ""

    def _sent(self, text: str, began: float) -> None:
        milliseconds = f"{(time.perf_counter() - began) * 1000:,.0f} ms"
        room = self._console.width - len(milliseconds) - 1
        text = text if len(text) <= room else text[: room - 1] + "…"
        self._console.print(Text(text.ljust(room + 1)), Text(milliseconds, style="dim"), sep="")

    def _came_back(self, text: str, style: str = "green") -> None:
        """What came back, without its blank lines, and no more of it than a reader wants."""
        lines = [line for line in text.splitlines() if line.strip()]
        if len(lines) > SHOWN_LINES + 1:
            lines[SHOWN_LINES:] = [f"… {len(lines) - SHOWN_LINES} more lines"]
        for number, line in enumerate(lines):
            self._print_line("    " if number else "  ← ", Text(line, style=style))

    def _print_line(self, before: str, text: Text) -> None:
        self._console.print(Text(before) + text, no_wrap=True, overflow="ellipsis")


def _total_by_month(table: str, column: str) -> dict[str, float]:
    totals: defaultdict[str, float] = defaultdict(float)
    for row in csv.DictReader(table.splitlines()):
        totals[row["date"][:7]] = round(totals[row["date"][:7]] + float(row[column]), 2)
    return dict(totals)
