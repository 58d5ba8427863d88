"""What is worth keeping: each rule by its name, with code that breaks it and code that looks like that and does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.reading import read_action
from tests.library.conftest import Define, put, write_source

pytestmark = pytest.mark.anyio


def write(head: str, body: str, top: str = "", text: str = "Work.") -> str:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    return f'{top}\n\ndef {head}:\n    """{text}"""\n{lines}'


async def check_problem(define: Define, store: FileStore, bad: str, said: str, good: str) -> None:
    """`bad` is refused for what is said, and nothing kept; `good` is not refused."""
    with pytest.raises(ActionInvalid, match=said):
        await define(bad)
    assert store.entries() == []
    await define(good)


async def check_advice(define: Define, bad: str, said: str, good: str) -> None:
    """Both are kept, and what is said is said of `bad` only."""
    kept = (await define(bad)).entry
    assert any(said in advice for advice in kept.action.advice), kept.action.advice
    other = (await define(good)).entry
    assert not any(said in advice for advice in other.action.advice), other.action.advice


@pytest.mark.parametrize("name", ["func1", "my_function", "solve_task", "solution", "helper_2", "do_task_a", "foo"])
async def test_name_that_says_nothing_is_refused(define: Define, store: FileStore, name: str) -> None:
    bad, good = (write(f"{each}(x: int) -> int", "return x + 1") for each in (name, "solve_equation"))
    await check_problem(define, store, bad, f"line 3: the name '{name}' says nothing", good)


async def test_undefined_name_is_refused_and_one_that_is_bound_in_time_is_not(define: Define, store: FileStore) -> None:
    bad = write("total(rows: list[int]) -> int", "if len(rows) > 99:\n    return math.fsum(rows)\nreturn sum(rows)")
    good = write(
        "total(rows: list[int]) -> int",
        "for row in rows:\n    if row > 1:\n        before += row\n    before = row\nreturn before",
    )
    await check_problem(define, store, bad, "line 6: 'math' is used but not defined. Define or import it", good)


@pytest.mark.parametrize(
    "effect",
    [
        "print(total([1, 2]))",
        "result = total([1, 2])",
        "import os\nos.makedirs('out', exist_ok=True)",
        "from subprocess import run as start\nstart(['ls'])",
        "for n in range(3):\n    print(n)",
        "def _twice(x: int = open('size.txt').read()) -> None: ...",
    ],
)
async def test_side_effect_at_import_is_refused(define: Define, store: FileStore, effect: str) -> None:
    good_top = "import os\nimport re\nWORD = re.compile('a')\nTABLE = {}\nfor n in range(3):\n    TABLE[n] = n * n\n"
    main = "\nif __name__ == '__main__':\n    print(total([1]))\n"
    head, body = "total(rows: list[int]) -> int", "print(os.getcwd())\nreturn sum(rows)"
    bad = write(head, body, "import os") + f"\n{effect}\n"
    await check_problem(define, store, bad, "runs when the file is imported", write(head, body, good_top) + main)


@pytest.mark.parametrize(
    "body",
    [
        "import csv\nrows = list(csv.reader(open('sales.csv')))\nreturn len(rows)",
        "limit = 100\nreturn sum(range(limit))",
        "numbers = [3, 5, 8]\nreturn sum(numbers)",
        "text = 'to be or not to be'\nreturn len(text.split())",
        "from urllib.request import urlopen\nreturn len(urlopen('https://example.org/data?city=Paris').read())",
        "import datetime\nreturn (datetime.date.today() - datetime.date.fromisoformat('2024-05-17')).days",
    ],
)
async def test_task_built_into_a_function_without_parameters_is_refused(
    define: Define, store: FileStore, body: str
) -> None:
    good = write(
        "count_files() -> int",
        "import os\nurl = 'https://example.org/x'\ncount = 0\nfor _ in os.listdir('.'):\n    count += 1\nreturn count",
    )
    await check_problem(
        define, store, write("count_all() -> int", body), "takes no parameters and has .* built in", good
    )


async def test_undeclared_requirement_is_refused_also_where_no_test_comes_by(define: Define, store: FileStore) -> None:
    bad = write(
        "load(path: str) -> int", "import pandas as pd\nfrom yaml import safe_load\nreturn len(pd.read_csv(path))"
    )
    optional = (
        "try:\n    import pandas\nexcept ImportError:\n    pandas = None\nimport json, pydantic\nreturn len(path)"
    )
    good = write("load(path: str) -> int", optional)
    await check_problem(
        define, store, bad, '(?s)line 5: it imports \'pandas\', which is not there.*"pandas".*"pyyaml"', good
    )


async def test_no_parameters_are_advised_against(define: Define) -> None:
    await check_advice(
        define,
        write("utc_now() -> str", "import datetime\nreturn str(datetime.datetime.now())"),
        "takes no parameters",
        write("show_all(*, limit: int = 3) -> str", "return 'all' * limit"),
    )


@pytest.mark.parametrize("text", ["sales_2024.csv", "/workspace/in put.xlsx", "2024-05-17", "ann@example.org"])
async def test_literal_of_a_task_is_advised_to_be_a_parameter(define: Define, text: str) -> None:
    good = (
        f"if path == {text!r} or path.endswith({text!r}):\n    raise ValueError({text!r})\n"
        f"kinds = {{{text!r}: 1}}\nname = f'{{path}}/{text}'\nreturn open(name + '.csv').read().split('*.csv')[0]"
    )
    await check_advice(
        define,
        write("load(path: str) -> str", f"return open(path + {text!r}).read()"),
        f"line 5: {text!r} could be a parameter",
        write("load_others(path: str) -> str", good),
    )


async def test_missing_example_is_advised(define: Define) -> None:
    await check_advice(
        define,
        write("double(x: int) -> int", "return x * 2", text="Double.\n\n    >>> 1 + 1\n    2\n    "),
        "no >>> example calls it",
        write(
            "triple(x: int) -> int", "return x * 3", text="Triple.\n\n    >>> print(\n    ...   triple(1))\n    3\n    "
        ),
    )


@pytest.mark.parametrize(
    ("top", "call"),
    [
        ("from actions import low", "low(x)"),
        ("from actions import low as other", "other(x=x)"),
        ("import actions", "actions.low(x)"),
        ("from actions.low import low", "low(5)"),
    ],
)
async def test_body_that_is_one_call_of_an_action_is_advised_against(
    define: Define, store: FileStore, top: str, call: str
) -> None:
    put(store, write_source("low"))
    await check_advice(
        define,
        write("lower(x: int) -> int", f"return {call}", top),
        "all it does is to call 'low'",
        write("lowest(x: int) -> int", f"return {call} + 1", top),
    )


async def test_unused_names_are_named_with_their_lines(define: Define) -> None:
    source = write(
        "add(x: int, y: int) -> int", "z = 3\nreturn x", "import os.path\nfrom json import dumps as to_json\n"
    )
    kept = (await define(source)).entry
    assert "never used: 'y' (line 5), 'path' (line 1), 'to_json' (line 2), 'z' (line 7)." in kept.action.advice


async def test_names_that_only_an_example_or_a_condition_uses_are_not_called_unused(define: Define) -> None:
    top = "from fractions import Fraction\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import decimal\n"
    guarded = "try:\n    import readline\nexcept ImportError:\n    pass\n"
    text = "Add.\n\n    >>> add(Fraction(1, 2), 1)\n    Fraction(3, 2)\n    "
    source = write("add(x: object, y: int) -> object", "_ = 1\nreturn x + y", top + guarded, text)
    assert (await define(source)).entry.action.advice == ()


async def test_file_of_the_folder_is_not_held_to_what_a_definition_is(store: FileStore, folder: Path) -> None:
    source = write("foo() -> int", "name = 'sales.csv'\nreturn undefined(name)", "print(1)")
    (folder / "foo.py").write_text(source)
    assert store.get("foo").action.advice == ()
    assert store.broken() == []


async def test_source_too_deep_for_the_rules_is_kept_or_refused_never_a_crash(define: Define, store: FileStore) -> None:
    deep = "x" + " + 1" * 900
    assert read_action(write("add(x: int) -> int", f"return {deep}"), is_new=True).name == "add"
