"""Calls of actions: what they are given, find there, and give back. Each test on each sandbox."""

import pytest

from dynasaur_mcp.errors import ArgumentsInvalid
from dynasaur_mcp.types import Ending

from .conftest import ADD, OpenPool, call, run

pytestmark = pytest.mark.anyio


async def test_what_only_python_gives_by_place_or_by_function_is_called_by_name(open_sandbox: OpenPool) -> None:
    source = """
from collections.abc import Callable, Iterator
from typing import TypeGuard

def pick(a: int, key: Callable[[int], int] | None = None, /, b: int = 2, *rows: str, c: int = 3) -> list[str]:
    return [str(each) for each in (a, key, b, *rows, c)]

def count(most: int) -> Iterator[int]:
    yield from range(most)

def is_text(value: str | int) -> TypeGuard[str]:
    return isinstance(value, str)
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await call(session, "pick", source, a=1, rows=["x", "y"])).value == ["1", "None", "2", "x", "y", "3"]
        assert (await call(session, "pick", source, a="1", b=5, c=6)).value == ["1", "None", "5", "6"]
        assert (await call(session, "count", source, most=3)).value == [0, 1, 2]
        assert (await call(session, "is_text", source, value="a")).value is True
        for wrong in ({"a": 1, "key": 1}, {"a": 1, "rows": "xy"}, {"b": 1}):
            with pytest.raises(ArgumentsInvalid):
                await call(session, "pick", source, **wrong)


async def test_action_is_called_with_converted_arguments(open_sandbox: OpenPool) -> None:
    source = """
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal, TypedDict
from pydantic import Field

class Colour(Enum):
    RED = "red"

@dataclass
class Point:
    x: int
    y: int = 2

class Row(TypedDict):
    name: str

async def many(
    day: date, point: Point, colour: Colour, row: Row, where: Path, kind: Literal["a", "b"],
    size: Annotated[int, Field(ge=1)] = 3, model_name: str | None = None,
) -> dict[str, str]:
    return {"day": day.isoformat(), "x": str(point.x + point.y), "colour": colour.name, "row": row["name"],
            "where": where.name, "kind": kind, "size": str(size), "model": str(model_name)}
"""
    arguments = {
        "day": "2026-11-23",
        "point": {"x": 1},
        "colour": "red",
        "row": {"name": "n"},
        "where": "/a/b",
        "kind": "a",
    }
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "many", source, **arguments)
        assert outcome.value == {
            "day": "2026-11-23",
            "x": "3",
            "colour": "RED",
            "row": "n",
            "where": "b",
            "kind": "a",
            "size": "3",
            "model": "None",
        }
        with pytest.raises(ArgumentsInvalid) as caught:
            await call(session, "many", source, **(arguments | {"kind": "c", "size": 0, "nope": 1, "day": "x"}))
        assert sorted(str(problem).split(":")[0] for problem in caught.value.problems) == [
            "'day'",
            "'kind'",
            "'nope' is not a parameter",
            "'size'",
        ]


async def test_call_shares_the_files_of_its_session_but_not_its_variables(open_sandbox: OpenPool) -> None:
    source = (
        "def read(path: str) -> list[str]:\n"
        "    return [open(path).read(), str('secret' in vars(__import__('__main__')))]\n"
    )
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await run(session, "secret = 1\n_ = open('a.txt', 'w').write('hello')")
        assert [(file.path, file.size_bytes) for file in outcome.files] == [("a.txt", 5)]
        assert (await call(session, "read", source, path="a.txt")).value == ["hello", "False"]


async def test_actions_are_composed_by_import(open_sandbox: OpenPool) -> None:
    double = "from actions import add\ndef double(value: int) -> int:\n    return add(value, value)\n"
    sources = {"add": ADD, "double": double}
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await session.call("double", sources, (), {"value": 4})).value == 8
        outcome = await session.run(
            "from actions.double import double\nimport actions\ndouble(1), actions.add(1)", sources, ()
        )
        assert outcome.shown == "(2, 2)"


async def test_new_version_of_an_action_is_what_the_next_call_runs(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        assert (await call(session, "add", ADD, first=1)).value == 2
        assert (await call(session, "add", ADD.replace("first + second", "first - second"), first=1)).value == 0
        await session.run("from actions import add", {"add": ADD}, ())
        changed = {"add": ADD.replace("first + second", "first * 100")}
        assert (await session.run("from actions import add\nadd(1)", changed, ())).shown == "100"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("-> object:\n    return object()", "JSON cannot hold"),
        ("-> float:\n    return float('nan')", "JSON cannot hold"),
        ("-> list:\n    x: list = []\n    x.append(x)\n    return x", "JSON cannot hold"),
        ("-> bytes:\n    return b'\\xff'", "JSON cannot hold"),
        ("-> int:\n    return 'seven'", "does not fit its type annotation"),
    ],
)
async def test_value_that_is_no_json_is_an_error_that_says_so(open_sandbox: OpenPool, body: str, words: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "give", f"def give() {body}\n")
        assert outcome.ending is Ending.RAISED
        assert words in outcome.error, outcome.error


async def test_requirements_are_installed_once_and_seen_by_a_running_session(open_sandbox: OpenPool) -> None:
    source = "import six\ndef version() -> str:\n    return six.__version__\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "1")
        outcome = await session.call("version", {"version": source}, ("six==1.17.0",), {})
        assert outcome.value == "1.17.0", outcome
        assert (await session.run("import six; six.__version__", {}, ("six==1.17.0",))).shown == "'1.17.0'"


async def test_validator_that_raises_is_an_error_of_the_call(open_sandbox: OpenPool) -> None:
    source = (
        "from typing import Annotated\nfrom pydantic import AfterValidator\n"
        "def half(value: Annotated[int, AfterValidator(lambda value: value / 0)]) -> float:\n    return value\n"
    )
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "half", source, value=1)
        assert outcome.ending is Ending.RAISED
        assert outcome.error.endswith("ZeroDivisionError: division by zero")


async def test_misfits_are_named_up_to_a_number(open_sandbox: OpenPool) -> None:
    source = "def total(values: list[int]) -> int:\n    return sum(values)\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        with pytest.raises(ArgumentsInvalid) as caught:
            await call(session, "total", source, values=["x"] * 1020)
        assert len(caught.value.problems) == 21
        assert str(caught.value.problems[-1]) == "and 1,000 more"


@pytest.mark.parametrize("value", [float("nan"), 10**5000, {1}], ids=["not a number", "too many digits", "a set"])
async def test_argument_that_is_no_json_is_an_error_that_says_so(open_sandbox: OpenPool, value: object) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "add", ADD, first=value)
        assert outcome.ending is Ending.RAISED
        assert "JSON cannot hold" in outcome.error


async def test_number_of_too_many_digits_is_an_error_also_when_the_action_allowed_them(open_sandbox: OpenPool) -> None:
    source = "import sys\ndef big() -> int:\n    sys.set_int_max_str_digits(0)\n    return 10**100_000\n"
    async with open_sandbox() as pool, pool.session("me") as session:
        outcome = await call(session, "big", source)
        assert outcome.ending is Ending.RAISED
        assert "JSON cannot hold" in outcome.error


async def test_more_actions_than_memory_holds_can_be_called_one_after_another(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        for number in range(40):
            source = f"def give_{number}() -> int:\n    return {number}\n"
            assert (await call(session, f"give_{number}", source)).value == number
