"""What becomes of real functions that are imported as actions, and how long it takes.

For each module: how many public functions it has, how many have doctests, and how many of these pass where they are
(`at home`). Of those: how many pass in a file of their own with all that they use (`alone`; this is the closure by
itself, also of functions that no client could call); how many were `skipped` with a reason, as they can be no action;
and of the others, how many pass `as actions`. Then the time of `actions import`, by function that was tried, and where
it went. Each module is imported into a library of its own.

    python benchmarks/importing.py                       the default modules, as far as they are installed
    python benchmarks/importing.py boltons networkx      others
"""

from __future__ import annotations

import argparse
import ast
import importlib
import importlib.util
import inspect
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
from doctests import run_doctests
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from dynasaur_mcp import publish
from dynasaur_mcp.add import Added
from dynasaur_mcp.app import open_app
from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.closure import extract_from
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.modules import Reference
from dynasaur_mcp.library.origin import Origin, find_origin, find_statements
from dynasaur_mcp.library.rules import Function
from dynasaur_mcp.sandbox.workers import Workers
from dynasaur_mcp.settings import Settings

MODULES = ["statistics", "heapq", "difflib", "more_itertools", "boltons", "toolz", "humanize", "validators", "pydash"]


@dataclass
class Result:
    module: str
    functions: int = 0
    doctested: int = 0
    at_home: set[str] = field(default_factory=set)
    """Of those with doctests, as `module.name`."""
    alone: int = 0
    why_not_alone: dict[str, str] = field(default_factory=dict)
    added: dict[str, Added] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def tried(self) -> list[Added]:
        return [one for one in self.added.values() if one.how in ("kept", "not kept")]

    @property
    def as_actions(self) -> Counter[str]:
        """What became of those that pass at home, by `Added.how`."""
        return Counter(one.how for one in self.added.values() if one.file in self.at_home and not is_namesake(one))


class Clock:
    """Time spent in parts of an import; parts run at once, so that they add up to more than it took."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def wrap(self, owner: Any, name: str, part: str) -> None:
        inner: Callable[..., Any] = getattr(owner, name)

        async def wait(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return await inner(*given, **named)
            finally:
                self.seconds[part] += time.perf_counter() - start

        def call(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            try:
                return inner(*given, **named)
            finally:
                self.seconds[part] += time.perf_counter() - start

        setattr(owner, name, wait if inspect.iscoroutinefunction(inner) else call)


def is_namesake(one: Added) -> bool:
    """Whether another function of its name was kept, so that it was not even tried."""
    return "is another one" in one.note


def find_doctested(origin: Origin) -> list[Reference]:
    wanted = set(origin.functions)
    found = []
    for module in dict.fromkeys(each.module for each in origin.functions):
        docs = {
            node.name: ast.get_docstring(node) or ""
            for node in find_statements(ast.parse(origin.modules.text(module)).body)
            if isinstance(node, Function)
        }
        found += [Reference(module, name) for name, doc in docs.items() if ">>>" in doc]
    return [each for each in found if each in wanted]


def write_alone(origin: Origin, functions: list[Reference]) -> Iterator[tuple[Reference, str, str]]:
    """Each with its file, or why it has none."""
    for function in functions:
        try:
            yield function, extract_from(origin.modules, function), ""
        except ActionInvalid as error:
            yield function, "", str(error.problems[0])


async def import_module(origin: Origin, result: Result, settings: Settings) -> None:
    def report(one: Added) -> None:
        result.added[one.file] = one

    start = time.perf_counter()
    async with open_app(settings) as app:
        await publish.import_functions(origin, app, author="benchmark", report=report)
    result.seconds = time.perf_counter() - start


def measure(module: str, settings: Settings) -> Result:
    origin = find_origin(module)
    doctested = find_doctested(origin)
    result = Result(module, len(origin.functions), len(doctested))
    at_home = run_doctests([(each.module, each.name, "") for each in doctested])
    result.at_home = {key for key, failure in at_home.items() if not failure}
    passing = [each for each in doctested if f"{each.module}.{each.name}" in result.at_home]
    files = list(write_alone(origin, passing))
    alone = run_doctests([(each.module, each.name, source) for each, source, _ in files if source])
    result.alone = sum(not failure for failure in alone.values())
    result.why_not_alone = {key: failure for key, failure in alone.items() if failure}
    result.why_not_alone |= {f"{each.module}.{each.name}": why for each, _, why in files if why}
    anyio.run(import_module, find_origin(module), result, settings)
    return result


def shorten(reason: str) -> str:
    """A reason without what differs from function to function."""
    first = reason.strip().splitlines()[0].removeprefix("- ")
    first = re.sub(r"^line \d+: |actions/\w+\.py", "", first)
    if "a test failed" in first:
        return "a test failed"
    return re.sub(r"'[^']*'|`[^`]*`|\*+\w+|\d+", "…", first)[:90]


def share(part: int, whole: int) -> str:
    return f"{part} ({part / whole:.1%})" if whole else "-"


def show(results: list[Result], clock: Clock) -> None:
    console = Console(width=140)
    columns = ["module", "functions", "doctested", "at home", "alone", "skipped", "as actions", "all kept", "seconds"]
    table = Table(*columns, "ms each", box=SIMPLE_HEAD, pad_edge=False)
    total = Result("all")
    for result in results:
        table.add_row(*row_of(result))
        total.functions += result.functions
        total.doctested += result.doctested
        total.at_home |= result.at_home
        total.alone += result.alone
        total.added |= result.added
        total.seconds += result.seconds
    table.add_section()
    table.add_row(*row_of(total))
    console.print(table)
    parts = ", ".join(
        f"{part} {seconds:.1f} s" for part, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])
    )
    tried = len(total.tried)
    console.print(
        f"1,000 functions take {1000 * total.seconds / max(tried, 1):.0f} s at this rate. Spent in: {parts}.\n"
    )
    why = Counter(shorten(one.note) for one in total.added.values() if one.how in ("skipped", "not kept"))
    console.print("\nWhy the rest is not kept:")
    for reason, count in why.most_common(20):
        console.print(f"{count:6}  {reason}", highlight=False)
    lost = [f"{one.file}: {' '.join(one.note.split())[:200]}" for one in total.added.values() if is_lost(one, total)]
    console.print(
        "\nPass at home, and not as actions:" if lost else "\nAll that were tried and pass at home do as actions."
    )
    for line in lost:
        console.print(f"  {line}", highlight=False)
    console.print("\nPass at home, and not alone:")
    for result in results:
        for key, reason in list(result.why_not_alone.items())[:20]:
            console.print(f"  {key}: {' '.join(reason.split())[-160:]}", highlight=False)


def is_lost(one: Added, total: Result) -> bool:
    return one.how == "not kept" and one.file in total.at_home and not is_namesake(one)


def row_of(result: Result) -> list[str]:
    kept = sum(one.how == "kept" for one in result.added.values())
    tried = len(result.tried)
    how = result.as_actions
    return [
        result.module,
        str(result.functions),
        str(result.doctested),
        str(len(result.at_home)),
        share(result.alone, len(result.at_home)),
        str(how["skipped"]),
        share(how["kept"], how["kept"] + how["not kept"]),
        str(kept),
        f"{result.seconds:.1f}",
        f"{1000 * result.seconds / tried:.0f}" if tried else "-",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {', '.join(MODULES)}")
    parser.add_argument("--sandbox", choices=["auto", "docker", "jail"], default="auto")
    given = parser.parse_args()
    modules = given.modules or [name for name in MODULES if importlib.util.find_spec(name)]
    clock = Clock()
    clock.wrap(publish, "_copy", "closure")
    clock.wrap(publish, "_complete", "types and rules")
    clock.wrap(Workers, "check", "check in a worker")
    clock.wrap(FileStore, "put", "ledger and file")
    with tempfile.TemporaryDirectory() as folder:
        libraries = {module: Settings(library=Path(folder, module), sandbox=given.sandbox) for module in modules}
        show([measure(module, settings) for module, settings in libraries.items()], clock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
