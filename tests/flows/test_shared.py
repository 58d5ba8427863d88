"""One library folder, several at work on it: servers at once, a person with an editor, git."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pytest
from mcp_types import ToolListChangedNotification

from dynasaur_mcp.library.filestore import FileStore

from .conftest import Model, OpenClient, text_of

pytestmark = pytest.mark.anyio

SOURCE = '''
def {name}(x: int) -> int:
    """{text}

    >>> {name}(1)
    {result}
    """
    return x + {added}
'''


def write(name: str, added: int = 1, text: str = "Add something.") -> str:
    return SOURCE.format(name=name, text=text, added=added, result=1 + added)


async def see(model: Model, name: str, there: bool = True) -> None:
    with anyio.fail_after(30):
        while (name in await model.tools()) != there:
            await anyio.sleep(0.02)


async def see_result(model: Model, result: int) -> None:
    with anyio.fail_after(30):
        while (await model.call("execute_action", name="changes", arguments={"x": 1})).structured_content != {
            "result": result
        }:
            await anyio.sleep(0.02)


@pytest.fixture(autouse=True)
def _jail(require: Callable[[str], None]) -> None:
    require("jail")


@pytest.fixture
async def three(open_client: OpenClient, library: Path) -> AsyncIterator[list[Model]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(open_client(warm_workers=1, expose="all")) for _ in range(3)]


async def test_what_servers_define_at_once_is_there_once_in_each(three: list[Model], library: Path) -> None:
    answers: dict[str, list[bool]] = {}

    async def define(model: Model, name: str, added: int) -> None:
        result = await model.call("define_action", source=write(name, added))
        answers.setdefault(name, []).append(not result.is_error)
        if result.is_error:
            assert f"An action named {name!r} exists" in text_of(result)

    async with anyio.create_task_group() as tasks:
        for number, model in enumerate(three):
            for each in range(3):
                tasks.start_soon(define, model, f"own_{number}_{each}", 10 * number + each)
                tasks.start_soon(define, model, f"common_{each}", 100 * (each + 1) + number)
    assert all(answers[f"own_{number}_{each}"] == [True] for number in range(3) for each in range(3))
    assert [sum(answers[f"common_{each}"]) for each in range(3)] == [1, 1, 1]
    for model in three:
        for name in answers:
            await see(model, name)
            assert "v1" in (await model.text("manage_action", name=name, op="history"))
    store = FileStore(library)
    assert sorted(entry.name for entry in store.entries()) == sorted(answers)
    assert all(len(store.history(name)) == 1 for name in answers)
    store.close()


async def test_versions_and_counts_of_several_servers_add_up(three: list[Model], library: Path) -> None:
    await three[0].text("define_action", source=write("shared"))

    async def work(model: Model) -> None:
        kept = 0
        while kept < 2:
            result = await model.call(
                "define_action", source=write("shared", text=f"{id(model)} {kept}"), replaces="shared"
            )
            kept += not result.is_error
            if result.is_error:
                assert "has changed meanwhile" in text_of(result)
        for _ in range(10):
            await model.text("execute_action", name="shared", arguments={"x": 1})

    async with anyio.create_task_group() as tasks:
        for model in three:
            tasks.start_soon(work, model)
    store = FileStore(library)
    versions = store.history("shared")
    assert [entry.version for entry in versions] == [7, 6, 5, 4, 3, 2, 1]
    assert len({entry.action.sha256 for entry in versions}) == 7
    assert (store.get("shared").calls, store.get("shared").successes) == (30, 30)
    assert (library / "shared.py").read_text() == versions[0].action.source
    store.close()


async def test_change_by_one_server_is_announced_by_the_other(open_client: OpenClient, library: Path) -> None:
    told = anyio.Event()

    async def hear(message: object) -> None:
        if isinstance(message, ToolListChangedNotification):
            told.set()

    async with (
        open_client(expose="all") as one,
        open_client(expose="all", hear=hear) as other,
    ):
        await one.tools()
        await other.tools()
        await one.text("define_action", source=write("fresh"))
        with anyio.fail_after(30):
            await told.wait()
        assert "fresh" in await other.tools()
        assert "2" in await other.text("execute_action", name="fresh", arguments={"x": 1})


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "core.hooksPath=/dev/null", *words]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout


async def test_branch_checked_out_while_serving_is_served(open_client: OpenClient, library: Path) -> None:
    async with open_client(expose="all") as model:
        for name, added in (("stays", 2), ("changes", 1), ("goes", 3)):
            await model.text("define_action", source=write(name, added))
        git(library, "init", "-q", "-b", "main")
        git(library, "add", ".")
        git(library, "commit", "-qm", "one")
        assert git(library, "ls-files").split() == [".gitignore", "__init__.py", "changes.py", "goes.py", "stays.py"]
        git(library, "checkout", "-q", "-b", "other")
        (library / "changes.py").write_text(write("changes", added=10))
        (library / "goes.py").unlink()
        (library / "comes.py").write_text(write("comes", added=5))
        (library / "broken.py").write_text("def broken(:\n")
        git(library, "add", "-A")
        git(library, "commit", "-qm", "two")
        await see(model, "comes")
        await see(model, "goes", there=False)
        await see_result(model, 11)
        for branch, added, there, gone in (("main", 1, "goes", "comes"), ("other", 10, "comes", "goes")) * 2:
            git(library, "checkout", "-q", branch)
            await see(model, there)
            await see(model, gone, there=False)
            await see_result(model, 1 + added)
        assert git(library, "status", "--porcelain") == ""
        assert "is no action" in await model.error("execute_action", name="broken", arguments={})
        history = await model.text("manage_action", name="changes", op="history")
        assert "changes v6 · active" in history
        assert "1/1 tests" in history.splitlines()[0]
    assert (library / "broken.py").read_text() == "def broken(:\n"
