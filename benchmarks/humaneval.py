"""HumanEval as a library: each problem defined as an action over stdio, listed, and put to its own tests.

    python benchmarks/humaneval.py --data humaneval.jsonl [--sandbox docker|jail|auto] [--limit N] [--own-tests]

Types and docstrings are as given. A missing type is added mechanically: the narrowest that fits all arguments, or
answers, that the problem's tests bring about. What is refused as given is reported with the reason and defined again
with the least change that helps: a name in snake_case, a number to a name that is taken, the docstring put first,
broken examples as plain text (a draft then), anyway=true where it likely does what another one does.

A problem's `check(candidate)` runs here unchanged, loops and random inputs too, with a candidate that calls the
action through MCP; an answer counts as right if every assertion holds. JSON has no tuples: an answer equal to the
reference's as JSON is handed to the assertion in the reference's form. A call whose arguments JSON cannot hold (a
dict with numbers for keys) is not sent, and counted. The data set's code and tests also run in this process: only use
a copy you trust.
"""

from __future__ import annotations

import argparse
import copy
import inspect
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from mcp import Client, StdioServerParameters
from problems import (
    Problem,
    load_reference,
    make_examples_plain,
    number,
    put_docstring_first,
    read_problems,
    rename,
    write_source,
)
from pydantic_core import to_jsonable_python


@dataclass
class Result:
    """What became of one problem."""

    problem: Problem
    refusals: list[str] = field(default_factory=list)
    repairs: tuple[str, ...] = ()
    standing: str = "refused"
    listed: bool = False
    wrong: str = ""
    sent: int = 0
    unsent: int = 0
    define_seconds: float = 0.0
    call_seconds: list[float] = field(default_factory=list)

    @property
    def answer(self) -> str:
        if self.standing == "refused" or not self.sent:
            return "not asked"
        return "wrong" if self.wrong else "right"


class CallFailedError(Exception):
    """The action did not give a value."""


def read_text(result: Any) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


SAYING_NOTHING = ("solve", "solution")


async def define(client: Client, result: Result, own_tests: bool, taken: set[str]) -> None:
    """Define the problem as given, then with one repair after the other until it is kept."""
    start = time.perf_counter()
    repairs: list[tuple[str, Callable[[Problem], Problem]]] = [
        ("as given", lambda problem: problem),
        ("renamed", rename),
        ("numbered", lambda problem: number(problem) if problem.name in {*taken, *SAYING_NOTHING} else problem),
        ("docstring put first", put_docstring_first),
        ("examples as plain text", make_examples_plain),
    ]
    for name, repair in repairs:
        repaired = repair(result.problem)
        if repaired != result.problem:
            result.problem, result.repairs = repaired, (*result.repairs, name)
        elif name != "as given":
            continue
        source = write_source(result.problem, own_tests)
        arguments = {"source": source, "name": result.problem.name}
        answer = await client.call_tool("define_action", arguments)
        if answer.is_error and "anyway=true" in read_text(answer):
            result.refusals.append(read_text(answer))
            result.repairs = (*result.repairs, "kept anyway")
            answer = await client.call_tool("define_action", {**arguments, "anyway": True})
        text = read_text(answer)
        if not answer.is_error:
            result.standing = "draft" if "a draft" in text.split("\n", 1)[0] else "active"
            break
        result.refusals.append(text)
    result.define_seconds = time.perf_counter() - start


async def list_names(client: Client) -> set[str]:
    names: set[str] = set()
    cursor: str | None = None
    while True:
        page = await client.list_tools(cursor=cursor, cache_mode="refresh")
        names |= {tool.name for tool in page.tools}
        cursor = page.next_cursor
        if cursor is None:
            return names


def make_json(arguments: dict[str, Any]) -> dict[str, Any] | None:
    """The arguments as JSON, or None if they do not survive it (tuples as lists do)."""

    def simplify(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [simplify(item) for item in value]
        return {key: simplify(item) for key, item in value.items()} if isinstance(value, dict) else value

    simple = simplify(arguments)
    try:
        text = json.dumps(simple, allow_nan=False)
    except (TypeError, ValueError):
        return None
    loaded: dict[str, Any] = json.loads(text)
    return loaded if loaded == simple else None


async def call(client: Client, result: Result, arguments: dict[str, Any]) -> Any:
    """The value the action gives: by its own tool where it is listed, else by execute_action."""
    start = time.perf_counter()
    name = result.problem.name
    if result.listed:
        answer = await client.call_tool(name, arguments)
    else:
        answer = await client.call_tool("execute_action", {"name": name, "arguments": arguments})
    result.call_seconds.append(time.perf_counter() - start)
    if answer.is_error:
        raise CallFailedError(read_text(answer))
    value = answer.structured_content
    if value is None:
        return json.loads(read_text(answer))
    return value["result"] if list(value) == ["result"] else value


async def ask(client: Client, result: Result) -> None:
    """Run the problem's check with the action as its candidate."""
    solve, check = load_reference(result.problem)

    def candidate(*given: Any) -> Any:
        arguments = make_json(inspect.signature(solve).bind(*given).arguments)
        expected = solve(*copy.deepcopy(given))
        if arguments is None:
            result.unsent += 1
            return expected
        result.sent += 1
        got = anyio.from_thread.run(call, client, result, arguments)
        return expected if got == to_jsonable_python(expected) else got

    try:
        await anyio.to_thread.run_sync(check, candidate)
    except AssertionError as error:
        result.wrong = f"an assertion failed: {error}"
    except (CallFailedError, TypeError) as error:
        result.wrong = str(error)


async def run(data: Path, sandbox: str, limit: int | None, own_tests: bool) -> list[Result]:
    results = [Result(problem) for problem in read_problems(data, limit)]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DYNASAUR_LIBRARY": str(Path(folder, "library")), "DYNASAUR_SANDBOX": sandbox}
        arguments = ["-m", "dynasaur_mcp", "serve", "--expose", "all"]
        server = StdioServerParameters(command=sys.executable, args=arguments, env=environment)
        async with Client(server) as client:
            for place, result in enumerate(results):
                await define(client, result, own_tests, {other.problem.name for other in results[:place]})
            names = await list_names(client)
            for result in results:
                result.listed = result.problem.name in names
                if result.standing != "refused":
                    await ask(client, result)
    return results


def print_table(results: list[Result], sandbox: str, seconds: float) -> None:
    def count(test: Callable[[Result], bool]) -> int:
        return sum(map(test, results))

    calls = [each for result in results for each in result.call_seconds]
    milliseconds = statistics.median(calls) * 1000 if calls else 0.0
    rows = [
        ("problems", len(results)),
        ("defined as given, active", count(lambda r: not r.refusals and r.standing == "active")),
        ("defined as given, draft (no examples)", count(lambda r: not r.refusals and r.standing == "draft")),
        ("refused as given", count(lambda r: bool(r.refusals))),
        ("  then defined, active", count(lambda r: bool(r.refusals) and r.standing == "active")),
        ("  then defined, draft", count(lambda r: bool(r.refusals) and r.standing == "draft")),
        ("  never", count(lambda r: r.standing == "refused")),
        ("listed as tools (active ones are)", count(lambda r: r.listed)),
        ("answered right", count(lambda r: r.answer == "right")),
        ("answered wrong", count(lambda r: r.answer == "wrong")),
        ("not asked", count(lambda r: r.answer == "not asked")),
        ("calls compared", sum(result.sent for result in results)),
        ("calls not sent (no JSON)", sum(result.unsent for result in results)),
        ("median definition", f"{statistics.median(result.define_seconds for result in results) * 1000:.0f} ms"),
        ("median call", f"{milliseconds:.1f} ms"),
        ("all", f"{seconds:.1f} s"),
    ]
    print(f"| HumanEval, sandbox {sandbox} | |\n|---|---:|")
    for label, value in rows:
        print(f"| {label} | {value} |")
    for result in results:
        if result.refusals:
            became = f"{result.standing} when {', '.join(result.repairs)}" if result.repairs else result.standing
            print(f"\n{result.problem.id} {result.problem.name}: refused as given, {became}. Reason:")
            print("    " + "\n    ".join(result.refusals[0].splitlines()[:12]))
    for result in results:
        if result.wrong:
            print(f"\n{result.problem.id} {result.problem.name}: wrong. {result.wrong}")
    repairs = Counter(repair for result in results for repair in result.repairs)
    print("\nRepairs: " + (", ".join(f"{name} {times}" for name, times in repairs.items()) or "none"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="PATH", help="humaneval.jsonl")
    parser.add_argument("--sandbox", choices=["auto", "docker", "jail"], default="auto")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N problems")
    parser.add_argument("--own-tests", action="store_true", help="define each with its problem's check as a test")
    given = parser.parse_args()
    start = time.perf_counter()
    results = anyio.run(run, given.data, given.sandbox, given.limit, given.own_tests)
    print_table(results, given.sandbox, time.perf_counter() - start)
    return 0 if all(result.answer == "right" for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
