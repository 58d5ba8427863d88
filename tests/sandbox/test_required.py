"""Packages in sessions and calls, on every sandbox. Names are new each time, as Docker's volume is shared by all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.session import Session

from .conftest import OpenPool, make_wheel

pytestmark = pytest.mark.anyio

VERSION = "def version() -> str:\n    return {name}.version\n"


@pytest.fixture
def name(wheels: Path) -> str:
    """A package in versions 1.0 and 2.0, and `NAME_more`, which has no more than one of it."""
    name = f"fresh_{os.urandom(4).hex()}"
    for version in ("1.0", "2.0"):
        make_wheel(wheels, name, version)
    make_wheel(wheels, f"{name}_more", "1.0", requires=f"{name}<2")
    return name


async def run(session: Session, code: str, *requirements: str) -> tuple[str, tuple[str, ...]]:
    outcome = await session.run(code, {}, requirements)
    assert outcome.succeeded, outcome
    return outcome.shown, outcome.notes


async def test_packages_come_into_a_running_session_and_its_variables_stay(open_sandbox: OpenPool, name: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        failed = await session.run(f"import {name}", {}, ())
        assert f'run_python(requirements=["{name}"])' in failed.error
        assert await run(session, f"import {name}; kept, {name}.version", name) == ("(1, '2.0')", ())
        assert await run(session, f"kept, {name}.version") == ("(1, '2.0')", ())


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.path.clear()",
        "import sys\nclass Finder:\n    def find_spec(self, *_): return None\n    def invalidate_caches(self): 1 / 0\n"
        "sys.meta_path.append(Finder())",
    ],
)
async def test_packages_come_also_after_a_step_that_changed_how_modules_are_found(
    open_sandbox: OpenPool, name: str, code: str
) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, code)
        assert await run(session, f"import {name}; {name}.version", name) == ("'2.0'", ())


@pytest.mark.parametrize(
    ("code", "hint"),
    [
        ("import cv2", "opencv-python-headless"),
        ("from PIL import Image", "pillow"),
        ("import sklearn.linear_model", "scikit-learn"),
        ("try:\n    import odd\nexcept ImportError as error:\n    raise ImportError('Use pip') from error", "odd"),
        ("import json.nope", ""),
        ("import pydantic.nope", ""),
        ("raise ImportError('no reason')", ""),
    ],
)
async def test_missing_module_is_told_with_the_package_that_has_it(
    open_sandbox: OpenPool, code: str, hint: str
) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        error = (await session.run(code, {}, ())).error
        assert ("Hint: " in error) == bool(hint), error
        assert f'run_python(requirements=["{hint}"])' in error or not hint
        assert f'# dependencies = ["{hint}"]' in error or not hint


async def test_newest_request_wins_for_what_is_not_imported_yet(open_sandbox: OpenPool, name: str) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "1", name)
        await run(session, "1", f"{name}<2")
        assert await run(session, f"import {name}; {name}.version") == ("'1.0'", ())
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "1", name)
        await run(session, "1", f"{name}<2")
        await run(session, "1", name)
        assert await run(session, f"import {name}; {name}.version") == ("'2.0'", ())


async def test_package_imported_in_another_version_stays_and_that_is_said_once(
    open_sandbox: OpenPool, name: str
) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, f"import {name}", name)
        shown, notes = await run(session, f"import {name}_more; {name}.version", f"{name}_more")
        assert shown == "'2.0'"
        assert notes == (
            f"Imported already in another version, which stays: {name} 2.0 (asked for: 1.0; a new session has it).",
        )
        assert await run(session, f"{name}.version", f"{name}_more") == ("'2.0'", ())


async def test_packages_that_the_sandbox_itself_needs_are_said_to_stay(open_sandbox: OpenPool, wheels: Path) -> None:
    make_wheel(wheels, "pydantic", "0.0.1")
    async with open_sandbox() as pool, pool.session("me") as session:
        _, (note,) = await run(session, "import pydantic", "pydantic==0.0.1")
        assert "(asked for: 0.0.1; the sandbox itself needs the other)" in note


async def test_calls_have_their_own_packages_whatever_the_session_has(open_sandbox: OpenPool, name: str) -> None:
    source = f"import {name}\n" + VERSION.format(name=name)
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, f"import {name}", name)
        outcome = await session.call("version", {"version": source}, (f"{name}<2",), {})
        assert outcome.value == "1.0", outcome
        outcome = await session.call("version", {"version": source}, (name,), {})
        assert outcome.value == "2.0", outcome


async def test_modules_named_like_pythons_own_do_not_hide_them(open_sandbox: OpenPool, wheels: Path) -> None:
    make_wheel(wheels, "colorsys", "1.0")
    async with open_sandbox() as pool, pool.session("me") as session:
        assert await run(session, "import colorsys; hasattr(colorsys, 'version')", "colorsys") == ("False", ())


async def test_hostile_modules_do_not_break_a_request_for_packages(open_sandbox: OpenPool, name: str) -> None:
    code = f"import sys\nclass M:\n    def __getattr__(self, name): raise OSError\nsys.modules['{name}'] = M()"
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, f"{code}\nsys.path.clear()")
        assert await run(session, "1", name) == ("1", ())
        await run(session, "import sys; sys.path.clear()")
        assert await run(session, "sys.path[0].startswith('/packages/')", name) == ("True", ())


@pytest.fixture
def _jail(require: Callable[[str], None]) -> None:
    require("jail")


@pytest.mark.parametrize("sandbox_name", ["jail"], indirect=True)
async def test_set_removed_by_hand_is_there_again_for_the_next_request(
    open_sandbox: OpenPool, name: str, tmp_path: Path
) -> None:
    source = "def version() -> str:\n    import {name}\n    return {name}.version\n".replace("{name}", name)
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "kept = 1", name)
        assert (await session.call("version", {"version": source}, (name,), {})).value == "2.0"
        for folder in (tmp_path / "cache" / "packages").glob("*/*/"):
            shutil.rmtree(folder)
        assert (await session.call("version", {"version": source}, (name,), {})).value == "2.0"
        assert await run(session, f"import {name}; kept", name) == ("1", ())


@pytest.mark.parametrize("sandbox_name", ["jail"], indirect=True)
async def test_session_whose_whole_folder_of_packages_was_replaced_is_ended_and_begins_anew(
    open_sandbox: OpenPool, name: str, tmp_path: Path
) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me") as session:
            await run(session, "1", name)
            shutil.rmtree(tmp_path / "cache" / "packages")
            with pytest.raises(SandboxUnavailable, match="was replaced"):
                await session.run("1", {}, (name,))
        async with pool.session("me") as session:
            shown, (note,) = await run(session, f"import {name}; {name}.version", name)
            assert shown == "'2.0'"
            assert "new session" in note
