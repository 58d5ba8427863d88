"""Every kind of bad input gets its own clear message, and leaves library, session and server as they were."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from .conftest import Model, OpenClient

pytestmark = pytest.mark.anyio

GOOD = '''\
def triple(value: int) -> int:
    """Multiply by three.

    >>> triple(2)
    6
    """
    return 3 * value
'''


@pytest.fixture
async def model(open_client: OpenClient, sandbox: str, library: Path) -> AsyncIterator[Model]:
    """A client with one action and one variable; after the test both are as they were."""
    async with open_client(sandbox, timeout_seconds=2) as model:
        await model.text("define_action", source=GOOD)
        await model.text("run_python", code="kept = 'state'")
        yield model
        assert (await model.call("triple", value=5)).structured_content == {"result": 15}
        assert "'state'" in await model.text("run_python", code="kept")
        assert sorted(path.name for path in library.glob("[a-z]*.py")) == ["triple.py"]


def renamed(name: str) -> str:
    """Other code: the same under another name would be refused for that alone."""
    return GOOD.replace("triple", name).replace("3 * value", "value + 2 * value")


async def test_code_of_over_a_megabyte_is_refused_unread(model: Model) -> None:
    code = f"from actions import triple\nx = [{'[],' * 400_000}]"
    assert "at most 1000000 characters" in await model.error("run_python", code=code)


@pytest.mark.parametrize(
    ("source", "name", "words"),
    [
        ("def f(:\n    pass\n", None, ["line 1"]),
        ("", None, ["function"]),
        (GOOD, "other", ["'other'"]),
        ("def f(a, b: int):\n    '''F.'''\n    return a\n", None, ["'a'", "return", "line 1"]),
        (renamed("run_python"), None, ["'run_python' is a tool of this server"]),
        (renamed("class_"), "class", ["class"]),
        (renamed("a" * 41), None, ["40"]),
        (renamed("größe"), None, ["größe"]),
        (renamed("thrice").replace("    6\n", "    7\n"), None, ["Expected:", "7", "Got:", "6"]),
        ("import polars_of_old\n" + renamed("f"), None, ["polars_of_old", "dependencies"]),
        ("while True: pass\n" + renamed("f"), None, ["Importing it did not end within 2 s"]),
        ("import os\nos._exit(0)\n" + renamed("f"), None, ["Importing it ended its own process"]),
        ("# " + "x" * 5_000_000 + "\n" + renamed("f"), None, ["5.0 MB", "1 MB at most"]),
        ("from actions import not_there\n" + renamed("f"), None, ["'not_there'"]),
        (
            '# /// script\n# dependencies = ["surely-not-a-package-of-anyone-1234"]\n# ///\n' + renamed("f"),
            None,
            ["surely-not"],
        ),
        ("\x00" + renamed("f"), None, ["NUL"]),
    ],
    ids=[
        "does not parse",
        "empty",
        "no function of that name",
        "no types",
        "meta-tool",
        "keyword",
        "too long",
        "not ASCII",
        "failing doctest",
        "missing import",
        "endless import",
        "exit at import",
        "5 MB",
        "missing action",
        "unknown requirement",
        "binary",
    ],
)
async def test_bad_definition_says_what_to_do(model: Model, source: str, name: str | None, words: list[str]) -> None:
    given = {"source": source} | ({"name": name} if name else {})
    message = await model.error("define_action", **given)
    for word in words:
        assert word.lower() in message.lower(), message
    assert "/opt/" not in message
    assert "dynasaur_mcp" not in message


async def test_bad_arguments_are_all_named_at_once(model: Model) -> None:
    message = await model.error("triple", valeu=1, other=2)
    for word in ("'value' is missing", "'valeu' is not a parameter", "'other' is not a parameter"):
        assert word in message
    assert "valid integer" in await model.error("execute_action", name="triple", arguments={"value": "many"})
    message = await model.error("run_python", cod="1", timeout_seconds=-1)
    for word in ("code: missing", "Did you mean 'code'?", "timeout_seconds"):
        assert word in message


async def test_unknown_names_get_the_nearest(model: Model) -> None:
    assert "Did you mean 'triple'?" in await model.error("execute_action", name="tripel", arguments={})
    assert "'triple'" in await model.error("tripple", value=1)
    assert "'run_python' is a tool" in await model.error("execute_action", name="run_python", arguments={"code": "1"})
    assert "Open sessions: 'default'" in await model.error(
        "execute_action", name="triple", arguments={"value": 1}, session="nope"
    )
    assert "No session named 'nope'" in await model.error("define_action", from_session="nope", name="f")


async def test_exception_of_an_example_is_shown_from_the_example_on(model: Model) -> None:
    source = 'def halve(value: int) -> int:\n    """Halve.\n\n    >>> halve(0)\n    0\n    """\n    return 1 // value\n'
    said = await model.error("define_action", source=source)
    assert "Exception raised" in said
    assert 'File "actions/halve.py", line 7, in halve' in said
    assert "ZeroDivisionError" in said
    assert "doctest.py" not in said
    assert "exec(" not in said


async def test_value_that_json_cannot_hold_is_an_error(model: Model, library: Path) -> None:
    source = 'def give() -> object:\n    """Give.\n    """\n    return object()\n'
    await model.text("define_action", source=source)
    assert "JSON cannot hold" in await model.error("execute_action", name="give", arguments={})
    await model.text("manage_action", name="give", op="delete")


async def test_flood_of_output_and_binary_output_are_shown_in_part(model: Model) -> None:
    flood = await model.text("run_python", code="for _ in range(50): print('x' * 1_000_000)")
    assert len(flood) < 10_000
    assert "resource dynasaur://runs/" in flood
    assert "were dropped" in flood
    binary = await model.text("run_python", code="import os; os.write(1, bytes(range(256)) * 4); '\\ud800'")
    assert "�" in binary


async def test_two_definitions_of_one_name_at_once_keep_one(open_client: OpenClient, library: Path) -> None:
    sources = [GOOD.replace("Multiply by three", text) for text in ("First", "Second")]
    async with open_client() as one, open_client() as two:
        results: list[bool] = []

        async def define(model: Model, source: str) -> None:
            results.append(bool((await model.call("define_action", source=source)).is_error))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(define, one, sources[0])
            tasks.start_soon(define, two, sources[1])
        assert sorted(results) == [False, True]
        assert "v1" in await one.text("manage_action", name="triple", op="history")
        assert (library / "triple.py").read_text() in sources
        assert (await two.call("execute_action", name="triple", arguments={"value": 1})).structured_content == {
            "result": 3
        }


async def test_broken_file_is_left_alone_and_the_rest_is_served(open_client: OpenClient, library: Path) -> None:
    library.mkdir()
    (library / "triple.py").write_text(GOOD)
    (library / "broken.py").write_bytes(b"\xff\xfe def")
    async with open_client() as model:
        assert "15" in await model.text("execute_action", name="triple", arguments={"value": 5})
        assert "0xff is not UTF-8" in await model.error("manage_action", name="broken", op="show")
        assert (library / "broken.py").exists()
