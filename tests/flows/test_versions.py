"""A new version of an action is tried against the one it replaces, as a client sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from .conftest import Model, OpenClient

pytestmark = pytest.mark.anyio

ONE_IS_ENOUGH = pytest.mark.parametrize("sandbox", ["jail"], indirect=True)
"""Of what does not depend on the sandbox."""


def write(body: str, *, name: str = "scale", example: str = "2", above: str = "", takes: str = "x: int = 1") -> str:
    doctest = f"\n\n    >>> {name}(1)\n    {example}" if example else ""
    return f'{above}\ndef {name}({takes}) -> object:\n    """Scale a number.{doctest}\n    """\n    {body}\n'


async def define(model: Model, source: str, *calls: dict[str, Any], name: str = "scale") -> None:
    await model.text("define_action", source=source)
    for arguments in calls:
        await model.text("execute_action", name=name, arguments=arguments)


async def test_a_version_that_does_the_same_is_kept_and_says_what_was_tried(
    open_client: OpenClient, sandbox: str
) -> None:
    async with open_client(sandbox) as model:
        await define(model, write("return x * 2"), {"x": 2}, {"x": 3}, {"x": 3})
        await define(model, write("return scale(x) + 1", name="top", example="3", above="from actions import scale\n"))
        text = await model.text("define_action", source=write("return x + x"), replaces="scale")
        assert "Replaced 'scale': v2, 1/1 tests" in text
        for part in ("1 of 1 tests of v1 pass", "Recorded calls: 2 of 2 the same", "as they use it: top."):
            assert part in text


@ONE_IS_ENOUGH
async def test_a_version_keeps_the_tags_of_the_one_before_unless_it_has_its_own(
    open_client: OpenClient, sandbox: str
) -> None:
    own = '# /// script\n# [tool.dynasaur]\n# tags = ["own"]\n# ///\n'
    async with open_client(sandbox) as model:
        await model.text("define_action", source=write("return x * 2"), tags=["number", "old"])
        for source, given, tags in (
            (write("return x + x"), {}, "tags: number, old"),
            (write("return 2 * x"), {"tags": ["new"]}, "tags: number, old, new"),
            (write("return x + x", above=own), {}, "tags: own"),
        ):
            await model.text("define_action", source=source, replaces="scale", **given)
            assert tags in (await model.text("manage_action", name="scale", op="show")).splitlines()
        again = await model.text("define_action", source=write("return x + x"), replaces="scale")
        assert "Unchanged 'scale': v4" in again


@ONE_IS_ENOUGH
@pytest.mark.parametrize(
    ("above", "given"),
    [("", {"tags": []}), ("# /// script\n# [tool.dynasaur]\n# tags = []\n# ///\n", {})],
    ids=["given", "in the file"],
)
async def test_an_empty_list_of_tags_drops_those_of_the_version_before(
    open_client: OpenClient, sandbox: str, above: str, given: dict[str, Any]
) -> None:
    async with open_client(sandbox) as model:
        await model.text("define_action", source=write("return x * 2"), tags=["number", "old"])
        await model.text("define_action", source=write("return x + x", above=above), replaces="scale", **given)
        assert "tags:" not in await model.text("manage_action", name="scale", op="show")
        # Nor does the version after that bring them back.
        await model.text("define_action", source=write("return 2 * x"), replaces="scale")
        assert "tags:" not in await model.text("manage_action", name="scale", op="show")


async def test_a_recorded_call_that_gives_something_else_refuses_the_version_unless_it_is_meant(
    open_client: OpenClient, sandbox: str
) -> None:
    async with open_client(sandbox) as model:
        await define(model, write("return x * 2"), {"x": 2}, {"x": 30})
        worse = write("return 2 if x == 1 else x")
        text = await model.error("define_action", source=worse, replaces="scale")
        for part in (
            "was not replaced",
            "scale(x=2) returned 4, now 2",
            "scale(x=30) returned 60, now 30",
            "anyway=true",
        ):
            assert part in text
        assert await model.text("execute_action", name="scale", arguments={"x": 30}) == "60"
        kept = await model.text("define_action", source=worse, replaces="scale", anyway=True)
        assert "v2" in kept
        assert "scale(x=30) returned 60, now 30" in kept
        assert await model.text("execute_action", name="scale", arguments={"x": 30}) == "30"


@ONE_IS_ENOUGH
@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("return 1 // (x - 30) and x * 2", "returned 60, now fails: ZeroDivisionError"),
        ("import os\n    return os._exit(3) if x == 30 else x * 2", "returned 60, now fails: The call ended"),
        ("while x == 30: pass\n    return x * 2", "returned 60, now fails: The call did not end"),
        ("return True if x == 30 else x * 2", "returned 60, now True"),
        ("return 'a\\x1b[2J' * 9999 if x == 30 else x * 2", "returned 60, now 'a"),
    ],
)
async def test_however_a_version_fails_it_is_named_and_refused(
    open_client: OpenClient, sandbox: str, body: str, told: str
) -> None:
    async with open_client(sandbox, timeout_seconds=2) as model:
        await define(model, write("return x * 2"), {"x": 30})
        text = await model.error("define_action", source=write(body), replaces="scale")
        assert told in text
        assert len(text) < 1000
        assert "v1" in await model.text("manage_action", name="scale", op="show")


@ONE_IS_ENOUGH
async def test_tests_of_the_old_version_and_of_all_who_use_it_run_with_the_new_one(
    open_client: OpenClient, sandbox: str
) -> None:
    helper = "\ndef _twice(x): return x * 2\n\n\ndef test_zero(): assert scale(0) == _twice(0)\n"
    async with open_client(sandbox) as model:
        await define(model, write("return _twice(x)", above=helper))
        for name, uses in (("mid", "scale"), ("top", "mid")):
            above = f"from actions import {uses}\n"
            source = write(f"return {uses}(x)", name=name, above=above)
            await model.text("define_action", source=source, anyway=True)
        text = await model.error("define_action", source=write("return x + 4", example="5"), replaces="scale")
        for part in (
            "a test of v1 fails now: doctest of scale",
            "a test of v1 fails now: test_zero",
            "'mid', which uses it, fails now: doctest of mid",
            "'top', which uses it, fails now: doctest of top",
        ):
            assert part in text
        # What failed before is not the new version's fault.
        await model.text("define_action", source=write("return x + 4", example="5"), replaces="scale", anyway=True)
        text = await model.text("define_action", source=write("return 4 + x", example="5"), replaces="scale")
        assert "Tested with it, as they use it: mid, top." in text


@ONE_IS_ENOUGH
async def test_parameters_that_are_gone_are_named(open_client: OpenClient, sandbox: str) -> None:
    async with open_client(sandbox) as model:
        await define(model, write("return x * 2", example=""), {"x": 2})
        text = await model.error("define_action", source=write("return y * 2", takes="y: int = 1"), replaces="scale")
        assert "scale(x=2) returned 4, now fails: " in text
        text = await model.text(
            "define_action", source=write("return x * y", example="3", takes="x: int, y: int = 3"), replaces="scale",
            anyway=True,
        )  # fmt: skip
        assert "The signature was scale(x: int=1) -> object" in text


@ONE_IS_ENOUGH
async def test_what_a_trial_cannot_repeat_is_no_regression_and_a_trial_changes_nothing_elsewhere(
    open_client: OpenClient, sandbox: str
) -> None:
    count = "p = open('/workspace/n', 'r+')\n    n = len(p.read()){}\n    p.write('a' * n)\n"
    random = "    import random, time\n    random.seed(time.time_ns())\n    return {}random.random()"
    async with open_client(sandbox) as model:
        await model.text("run_python", code="open('/workspace/n', 'w').write('a')")
        await define(model, write(count.format(" + 1") + "    return n", example=""), {})
        better = write(count.format(" + 2") + "    return n", example="")
        text = await model.text("define_action", source=better, replaces="scale")
        assert "Recorded calls: 0 of 1 the same" in text
        assert "1 not repeatable in a trial" in text
        assert "'aaa'" in await model.text("run_python", code="open('/workspace/n').read()")

        await define(model, write(random.format("").lstrip(), name="dice", example=""), {}, {"x": 7}, name="dice")
        text = await model.text(
            "define_action", source=write(random.format("0 + ").lstrip(), name="dice", example=""), replaces="dice"
        )
        assert "2 different each time" in text


@ONE_IS_ENOUGH
async def test_each_version_has_a_workspace_of_its_own_in_a_trial(open_client: OpenClient, sandbox: str) -> None:
    once = "import pathlib, os\n    os.mkdir(f'/workspace/{x}')\n    return os.listdir('/workspace')"
    async with open_client(sandbox) as model:
        await define(model, write(once, example=""), {"x": 4})
        text = await model.text("define_action", source=write(f"# the same\n    {once}", example=""), replaces="scale")
        assert "Recorded calls: 1 of 1 the same" in text


@ONE_IS_ENOUGH
async def test_actions_that_need_the_network_are_not_called_in_a_trial(open_client: OpenClient, sandbox: str) -> None:
    above = '# /// script\n# [tool.dynasaur]\n# network = ["127.0.0.1:9"]\n# ///\n'
    async with open_client(sandbox, network="allow:127.0.0.1:9") as model:
        await define(model, write("return x * 2", example="", above=above), {"x": 4})
        text = await model.text("define_action", source=write("return 0", example="", above=above), replaces="scale")
        assert "could not be repeated: 'scale' needs 127.0.0.1:9" in text


@ONE_IS_ENOUGH
async def test_where_no_arguments_are_kept_nothing_is_repeated(
    open_client: OpenClient, sandbox: str, library: Path
) -> None:
    async with open_client(sandbox, arguments_bytes=0) as model:
        await define(model, write("return x * 2"), {"x": 12345})
        text = await model.text("define_action", source=write("return 2"), replaces="scale")
        assert "Recorded" not in text
    assert b"12345" not in b"".join(path.read_bytes() for path in library.glob(".ledger*"))


@ONE_IS_ENOUGH
async def test_every_version_can_be_read_compared_and_had_again(
    open_client: OpenClient, sandbox: str, library: Path
) -> None:
    sources = {version: write(f"return x * {version} + {2 - version}") for version in (1, 2, 3)}
    async with open_client(sandbox) as model:

        async def manage(op: str, **more: Any) -> str:
            return await model.text("manage_action", name="scale", op=op, **more)

        await define(model, sources[1])
        for version in (2, 3):
            await model.text("define_action", source=sources[version], replaces="scale", anyway=True)
        for version, source in sources.items():
            assert source.strip() in await manage("show", version=version)
        assert "-    return x * 1 + 1\n+    return x * 3 + -1" in await manage("diff", version=1)
        for kept, version in enumerate((1, 3, 2, 1), start=4):
            assert f"scale v{kept} · active" in await manage("rollback", version=version)
            assert await model.text("scale", x=10) == str(10 * version + 2 - version)
            assert (library / "scale.py").read_text() == sources[version]
        await manage("delete")
        assert not (library / "scale.py").exists()
        assert "There is 1, 2, 3, 4, 5, 6, 7" in await model.error(
            "manage_action", name="scale", op="rollback", version=99
        )
        assert "scale v8 · active" in await manage("rollback", version=5)
        assert await model.text("scale", x=10) == "29"
        assert [line.split(" ·")[0] for line in (await manage("history")).splitlines()] == [
            f"scale v{version}" for version in range(8, 0, -1)
        ]
