"""Searching as a client does it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.conftest import OpenClient

pytestmark = pytest.mark.anyio

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

SOURCE = '''
def {name}(number: int) -> int:
    """Double a number. {text}

    Args:
        number: Any.

    Examples:
        >>> {name}(2)
        4
    """
    return number * 2
'''


@pytest.mark.parametrize("way", ["execute_action", "run_python"])
async def test_an_action_is_found_by_what_was_asked_before_it_was_used(
    open_client: OpenClient, require: Callable[[str], None], way: str
) -> None:
    require("jail")
    arguments = {
        "execute_action": {"name": "twice_as_much", "arguments": {"number": 2}},
        "run_python": {"code": "from actions import twice_as_much\ntwice_as_much(2)"},
    }[way]
    async with open_client(model="/nowhere") as model:
        await model.text("define_action", source=SOURCE.format(name="twice_as_much", text=""))
        nothing = await model.text("search_actions", query="gemination")
        assert nothing.startswith("Nothing in the library does this (1 action searched by words). Write it:")
        await model.text("search_actions", query="gemination of a number")
        await model.text(way, **arguments)
    async with open_client(model="/nowhere") as model:
        found = await model.text("search_actions", query="gemination")
        assert found.startswith("1 of 1 that fit")
        assert "twice_as_much(number: int) -> int" in found
        assert "fits: gemination" in found


async def test_an_answer_has_as_many_actions_as_fit_its_size(
    open_client: OpenClient, require: Callable[[str], None], library: Path
) -> None:
    require("jail")
    library.mkdir()
    for number in range(60):
        name = f"double_{number}"
        (library / f"{name}.py").write_text(SOURCE.format(name=name, text="Really. " * 100))
    async with open_client(model="/nowhere", output_characters=3000) as model:
        text = await model.text("search_actions", query="double a number", limit=50, detail="full")
        assert 1000 < len(text) < 3200
        assert text.startswith(("2 of 60 that fit", "3 of 60 that fit"))


async def test_action_defined_for_what_was_not_found_is_found_by_those_words_from_its_first_use_on(
    open_client: OpenClient,
) -> None:
    async with open_client(model="/nowhere") as model:
        asked = "Zweifaches einer Zahl berechnen"
        assert "double" not in await model.text("search_actions", query=asked)
        await model.text("define_action", source=SOURCE.format(name="double", text=""))
        assert "double" not in await model.text("search_actions", query="Zweifaches")
        await model.text("execute_action", name="double", arguments={"number": 2})
        assert "double(" in await model.text("search_actions", query="Zweifaches")


def run_benchmark(name: str, *arguments: str) -> str:
    command = [sys.executable, BENCHMARKS / name, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


async def test_reuse_replays_recorded_cases_and_names_what_is_refused(
    require: Callable[[str], None], tmp_path: Path
) -> None:
    require("jail")
    data = tmp_path / "cases.jsonl"
    own = (BENCHMARKS / "reuse.jsonl").read_text().splitlines()[:2]
    broken = {"code": "def broken(:", "cases": [{"query": "?", "call": "broken(1)", "expected": 1}] * 2}
    by_place = {
        "tool": SOURCE.format(name="double_number", text=""),
        "scenarios": [{"task": "double the number 4", "arguments": {"args": [4]}, "result": "8"}] * 2,
    }
    data.write_text("\n".join([*own, json.dumps(broken), json.dumps(by_place), "no JSON"]))
    table = run_benchmark("reuse.py", "--data", str(data), "--sandbox", "jail")
    assert "| defined | 3 |" in table
    assert "| completed after a refusal | 0 |" in table
    assert "| refused | 1 |" in table
    assert "| later scenarios | 6 |" in table
    assert "? was refused: " in table
    assert "| right | 5 (83%) |" in table


async def test_reuse_completes_what_a_recorded_source_lacks_and_runs_what_is_more_than_a_call(
    require: Callable[[str], None], tmp_path: Path
) -> None:
    require("jail")
    bare = "def solve(values, power=2):\n    return sum(v**power for v in values)\n\nprint(solve([1]))\n"
    long = "def tell_the_number_of_letters_that_a_text_has(text):\n    yield from {len(text)}\n"
    row = {
        "source": bare,
        "scenarios": [
            {
                "question": "What is the sum of the squares of 1, 2 and 3?",
                "call": "print(solve([1, 2, 3]))",
                "answer": 14,
            },
            {"question": "Sum of the cubes of 1.5 and 2", "call": "x = solve([1.5, 2], power=3)", "answer": 11.375},
            {"question": "Sum of squares of 1 to 3, halved", "call": "x = solve(range(4))\ny = x / 2", "answer": 7},
        ],
    }
    of_letters = {"question": "How many letters has 'four'?", "answer": [4]}
    call = "tell_the_number_of_letters_that_a_text_has"
    rows = [row, {"source": long, "scenarios": [{**of_letters, "call": f"list({call}('four'))"}] * 2}]
    data = tmp_path / "cases.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    table = run_benchmark("reuse.py", "--data", str(data), "--sandbox", "jail")
    assert "| completed after a refusal | 2 |" in table
    assert "| right in the first scenario | 2 |" in table
    assert "| right | 3 (100%) |" in table


async def test_reuse_makes_fit_what_no_caller_can_be_told_of_and_reads_answers_as_python_shows_them(
    require: Callable[[str], None], tmp_path: Path
) -> None:
    require("jail")
    mean = (
        "def averageOf(*numbers, **options):\n    return round(sum(numbers) / len(numbers), options.get('digits', 2))\n"
    )
    weekdays = "from datetime import date\ndef go_back(day: date) -> date:\n    return day.replace(day=1)\n"
    shared = "from typing import Set\ndef find_shared(a: list, b: list) -> Set[str]:\n    return set(a) & set(b)\n"
    area = (
        "from typing import Callable\ndef find_area(f: Callable[[float], float], end: float):\n    return f(end) / 2\n"
    )
    rows = [
        {
            "tool": {"name": "averageOf", "source": f"{mean}\nresult = averageOf(1, 2)\nprint(result)\n"},
            "scenarios": [
                {"question": "What is the average of 1 and 2?", "call": "averageOf(1, 2)", "answer": 1.5},
                {"question": "Average of 1, 2 and 2", "call": {"args": [1, 2, 2]}, "answer": "np.float64(1.67)"},
                {"question": "The average of 1, 2 and 2", "call": "averageOf(1, 2, 2, digits=1)", "answer": 1.7},
            ],
        },
        {
            "tool_source": weekdays,
            "scenarios": [
                {
                    "question": "On which day did May 2024 begin, going back from the seventh?",
                    "recorded_call": "from datetime import date\ngo_back(date(2024, 5, 7))",
                    "known_answer": "2024-05-01",
                },
                {
                    "question": "Go back to the day on which June 2024 began",
                    "recorded_call": {"day": "2024-06-02"},
                    "known_answer": "datetime.date(2024, 6, 1)",
                },
            ],
        },
        {
            "source": shared,
            "scenarios": [
                {"question": "Which letters are shared?", "call": [["a", "b"], ["b"]], "answer": ["b"]},
                {
                    "question": "Find letters that are shared",
                    "call": [["x", "y", "z"], ["z", "x"]],
                    "answer": ["z", "x"],
                },
                {"question": "Find what is shared", "call": [["x", "y", "z"], ["z", "x"]], "answer": "{'x', 'z'}"},
            ],
        },
        {
            "source": area,
            "scenarios": [
                {"question": "Find the area below a line", "call": "find_area(lambda x: 2 * x, 3)", "answer": 3},
                {"question": "What area is below a line?", "call": "find_area(lambda x: 0, 3)", "answer": "0.0"},
            ],
        },
    ]
    data = tmp_path / "cases.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    table = run_benchmark("reuse.py", "--data", str(data), "--sandbox", "jail")
    assert "| refused | 0 |" in table
    assert "| right in the first scenario | 4 |" in table
    assert "| right | 6 (100%) |" in table


async def test_retrieval_measures_any_folder_of_its_form(require: Callable[[str], None], tmp_path: Path) -> None:
    require("model")
    tools = [
        {"name": "math.add", "description": "Add two numbers.", "parameters": {"a": "first", "b": "second"}},
        {"name": "天气", "description": "Tell the weather of a town.", "parameters": {}},
        {"name": "zoo", "description": "Zzyzx qwrtp.", "parameters": {}},
        {"name": "rain", "description": "How hot, cold, wet or dry it will be outside.", "parameters": {}},
    ]
    files = {
        "my_tools": tools,
        "my_queries": [
            {"query": "add 2 and 3", "gold": ["math.add"]},
            {"query": "weather in Rome", "gold": ["天气"]},
            {"query": "tell me the weather, zzyzx qwrtp", "gold": ["zoo"]},
            {"query": "temperatures", "gold": ["rain"]},
        ],
        "my_irrelevant": [{"query": "Who wrote Faust?", "offered": ["math.add"]}],
        "other_tools": tools,
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = run_benchmark("retrieval.py", "--data", str(tmp_path))
    # One question has no word of its tool, one no meaning.
    assert [line.split()[:5] for line in table.splitlines() if line.startswith("my ")] == [
        ["my", "4", "4", "words", "0.750"],
        ["my", "4", "4", "meaning", "0.750"],
        ["my", "4", "4", "both", "1.000"],
    ]
    assert "my: 1 questions without an answer, 4 with one" in table
