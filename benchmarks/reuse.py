"""Recorded cases of tool use, replayed: is what was defined once found again, and does it still answer right?

    python benchmarks/reuse.py [--data FILE] [--sandbox docker|jail|auto] [--limit N]

FILE has JSON lines, one tool each, with the scenarios in which it was of use:

    {"source": "def add(a: int, b: int) -> int: …", "name": "add",
     "scenarios": [{"question": "What do 2 and 3 make?", "call": {"a": 2, "b": 3}, "answer": 5}, …]}

- `source` (or `code`, `tool`, `tool_source`): a whole file, also in a Markdown block, with a public function: of
  several, that of the `name`, or that the first call names. `name` may be missing. `tool` may be an object that has
  both. A class alone gets a function besides, for the method that is called of it.
- `scenarios` (or `cases`): each a question (`question`, `query`, `task`), the recorded call (`call`, `arguments`,
  `recorded_call`) and the known answer (`answer`, `expected`, `result`, `known_answer`).
- A call is an object of arguments by name; or `{"name": …, "arguments": {…} or […]}`, `args` and `kwargs` for short; or
  Python as text, `add(2, b=3)`. Arguments by place get the names that the source's function gives them. Text that is
  more than one call with plain values is run as it is, with the action under the tool's name, what else its source
  defines and what it imports: its answer is its last value, or what it prints. So is a call whose value JSON cannot
  hold. Arguments that are texts of JSON or Python are given as they are, and if that is no good, as what they say.

All tools are defined through MCP, each in its first scenario, as an agent would: its question is searched for, the tool
defined, its call made. Then come the second scenarios of all tools, then the third ones: each searches with its
question, makes its recorded call of the action found first, and compares the answer. So every search is in the whole
library.

A source that is refused is made fit where a model would have no doubt how: missing types are those of the first call's
values, a missing docstring is the first question, a name that does not fit is the one that is proposed, or cut, or made
longer by the docstring, packages are declared as the refusal names them, `*values` is made a list and `**options` a
dict, and what is done outside of any function is left out. Nothing of later scenarios is used. Such are counted as
completed. One that is refused all the same is named with the reason; its later scenarios count as not found. One that
likely does what another does is kept all the same, and counted.

An answer is right if it is equal as JSON: numbers to six digits, or as many decimals as were recorded; a set, or a list
made of one, in any order; a text that is JSON or Python's way to show a value, also such as `np.float64(2.5)`,
`array([1, 2])`, `Decimal('2.5')` and `datetime.date(2024, 3, 11)`, as what it says. A known answer that is a text may
be written as people do: `1,234`, `$12.50`, `50%` (50 or 0.5), `17 units`, `3/4`, TeX, yes and no, `x = 2 or x = 3`. Of
an answer that is a sentence, its only number counts, or the one behind its last `=`, `:` or `is`; not with another
unit.

Not rewritten is the source of a tool that was found first and answered right, for each time, at four characters a
token.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from answers import is_right, is_same_set
from fitting import complete
from mcp import Client, StdioServerParameters
from recorded import Case, Scenario, read_cases, read_literals, write_code

OWN = Path(__file__).with_name("reuse.jsonl")
MODEL_SECONDS = 120.0


@dataclass
class Tally:
    """Of scenarios after the first."""

    scenarios: int = 0
    at_1: int = 0
    at_5: int = 0
    nothing: int = 0
    nearest: int = 0
    ran: int = 0
    right: int = 0
    tokens: int = 0


def read_text(result: Any) -> str:
    return "\n".join(block.text for block in result.content if block.type == "text")


async def define(client: Client, case: Case) -> None:
    """In its first scenario, as an agent does: search, define what is not there, call it."""
    if case.scenarios:
        await search(client, case.scenarios[0].question)
    given: dict[str, Any] = {"source": case.source}
    if case.recorded_name:
        given["name"] = case.recorded_name
    refusals = ""
    while (answer := await client.call_tool("define_action", given)).is_error:
        text = read_text(answer)
        refusals += text
        before = dict(given)
        if "anyway=true" in text:
            case.is_like_another = given["anyway"] = True
        else:
            given["source"], given["name"] = complete(case, refusals)
            case.is_completed = True
        if given == before:
            case.refusal = " ".join(text.split())
            return
    case.name = read_text(answer).split("'")[1]
    first = case.scenarios[0] if case.scenarios else None
    if first is not None:
        wrong = await call(client, case, case.name, first)
        case.first_right = not wrong
        case.failures += [f"{first.question[:80]!r}, at first: {wrong}"] if wrong else []


async def call(client: Client, case: Case, name: str, scenario: Scenario) -> str:
    """What is wrong with the answer of that action, if anything; what did not run begins with "failed"."""
    wrong = await call_with(client, case, name, scenario, scenario.arguments)
    said = read_literals(scenario.arguments)
    if wrong and said != scenario.arguments:
        wrong = await call_with(client, case, name, scenario, said)
    return wrong


async def call_with(client: Client, case: Case, name: str, scenario: Scenario, given: Mapping[str, Any]) -> str:
    arguments = dict(given)
    if not scenario.code:
        result = await client.call_tool("execute_action", {"name": name, "arguments": arguments})
    if scenario.code or (result.is_error and "JSON cannot hold" in read_text(result)):
        code = write_code(case, name, scenario.code or f"{case.recorded_name}(**{arguments!r})")
        result = await client.call_tool("run_python", {"code": code})
    text = read_text(result)
    if result.is_error:
        return f"failed: {' '.join(text.split())[-200:]}"
    answers = read_answers(result)
    if any(is_right(answer, scenario.answer) for answer in answers):
        return ""
    if case.gives_set and any(is_same_set(answer, scenario.answer) for answer in answers):
        return ""
    return f"answered {text[:100]!r}, not {scenario.answer!r}"


def read_answers(result: Any) -> list[Any]:
    """What may be meant as the answer, of a call of an action or of code that went well."""
    structured, text = result.structured_content, read_text(result)
    value, _, printed = text.partition("\n\n(session")[0].partition("Printed:\n")
    answers: list[Any] = [value.removeprefix("Value:\n")]
    if printed.strip():
        answers += [printed, printed.strip().splitlines()[-1]]
    if structured is not None:
        answers += [structured, *([structured["result"]] if "result" in structured else [])]
    elif "its last line has no value" in value:
        answers.append(None)
    return answers


async def search(client: Client, question: str) -> tuple[list[str], str]:
    """Names, best first, none where it says that nothing fits; and the answer's text."""
    text = read_text(await client.call_tool("search_actions", {"query": question[:2000]}))
    found = [] if text.startswith("Nothing") else re.findall(r"^([a-z][a-z0-9_]*)\(", text, re.MULTILINE)
    return found, text


async def reuse(client: Client, case: Case, scenario: Scenario, tally: Tally) -> None:
    names, text = await search(client, scenario.question)
    tally.scenarios += 1
    tally.nothing += not names
    tally.nearest += not names and re.findall(r"^- (\w+)\(", text, re.MULTILINE)[:1] == [case.name]
    tally.at_1 += names[:1] == [case.name]
    tally.at_5 += case.name in names
    if names[:1] != [case.name]:
        case.failures.append(f"{scenario.question[:80]!r}: found {', '.join(names) or text.splitlines()[0]}")
    if not names:
        return
    wrong = await call(client, case, names[0], scenario)
    tally.ran += not wrong.startswith("failed")
    if not wrong:
        tally.right += 1
        tally.tokens += len(case.source) // 4 if names[0] == case.name else 0
    elif names[0] == case.name:
        case.failures.append(f"{scenario.question[:80]!r}: {wrong}")


async def await_model(client: Client) -> str:
    """What search goes by, after a while for the model to load, where there can be one."""
    used = ""
    if importlib.util.find_spec("sentence_transformers") is None:
        return "words"
    with anyio.move_on_after(MODEL_SECONDS):
        while "by words and meaning" not in used:
            used = (await search(client, "anything at all"))[1]
            await anyio.sleep(0.5)
    return "words and meaning" if "by words and meaning" in used else "words"


async def replay(cases: Sequence[Case], sandbox: str) -> tuple[Tally, str]:
    tally = Tally()
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "DYNASAUR_LIBRARY": str(Path(folder, "library")), "DYNASAUR_SANDBOX": sandbox}
        command = StdioServerParameters(command=sys.executable, args=["-m", "dynasaur_mcp", "serve"], env=environment)
        async with Client(command) as client:
            await client.list_tools()
            for case in cases:
                await define(client, case)
            used = await await_model(client)
            for turn in range(1, max((len(case.scenarios) for case in cases), default=0)):
                for case in cases:
                    if turn < len(case.scenarios):
                        await reuse(client, case, case.scenarios[turn], tally)
    return tally, used


def print_table(cases: Sequence[Case], tally: Tally, used: str, seconds: float) -> None:
    defined = [case for case in cases if not case.refusal]
    rows = [
        ("tools", f"{len(cases):,}"),
        ("defined", f"{len(defined):,}"),
        ("completed after a refusal", f"{sum(case.is_completed for case in defined):,}"),
        ("  by anyway=true, being like another", f"{sum(case.is_like_another for case in defined):,}"),
        ("refused", f"{len(cases) - len(defined):,}"),
        ("right in the first scenario", f"{sum(case.first_right for case in defined):,}"),
        ("later scenarios", f"{tally.scenarios:,}"),
        ("found at 1", share(tally.at_1, tally.scenarios)),
        ("found at 5", share(tally.at_5, tally.scenarios)),
        ("said that nothing fits", share(tally.nothing, tally.scenarios)),
        ("  and named the right one as the nearest", share(tally.nearest, tally.scenarios)),
        ("ran", share(tally.ran, tally.scenarios)),
        ("right", share(tally.right, tally.scenarios)),
        ("tokens not rewritten", f"{tally.tokens:,}"),
        ("all", f"{seconds:.1f} s"),
    ]
    print(f"| reuse, searched by {used} | |\n|---|---:|")
    for label, value in rows:
        print(f"| {label} | {value} |")
    for case in cases:
        if case.refusal:
            print(f"\n{case.recorded_name or '?'} was refused: {case.refusal[:400]}")
        for failure in case.failures:
            print(f"\n{case.name or case.recorded_name}: {failure}")


def share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.0%})" if whole else "0"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=OWN, metavar="FILE", help="a small set of our own by default")
    parser.add_argument("--sandbox", choices=["auto", "docker", "jail"], default="auto")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N tools")
    given = parser.parse_args()
    cases = read_cases(given.data, given.limit)
    began = time.perf_counter()
    tally, used = anyio.run(replay, cases, given.sandbox)
    print_table(cases, tally, used, time.perf_counter() - began)
    return 0


if __name__ == "__main__":
    sys.exit(main())
