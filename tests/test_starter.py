"""The starter actions: each is a valid action, and passes its own doctests and tests, in a folder of its own."""

from __future__ import annotations

import doctest
import functools
import importlib
import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FunctionType, ModuleType

import pytest
from pydantic import TypeAdapter

import dynasaur_mcp.library
from dynasaur_mcp.library.reading import read_action

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "actions"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load_module(name: str) -> ModuleType:
    importlib.import_module(f"actions.{name}")
    return sys.modules[f"actions.{name}"]


def find_tests(module: ModuleType) -> list[Callable[[], None]]:
    return [
        value for name, value in vars(module).items() if name.startswith("test_") and isinstance(value, FunctionType)
    ]


def check_types(function: Callable[..., object]) -> Callable[..., object]:
    """The same function, but what it gives must be what pydantic makes JSON of without a warning."""
    adapter: TypeAdapter[object] = TypeAdapter(inspect.signature(function).return_annotation)

    @functools.wraps(function)
    def checked(*arguments: object, **named: object) -> object:
        value = function(*arguments, **named)
        adapter.dump_json(value, warnings="error")
        return value

    return checked


def test_there_are_at_least_fourteen_with_names_of_their_own() -> None:
    assert len(NAMES) >= 14
    assert len({name.replace("_", "") for name in NAMES}) == len(NAMES)


def test_the_folder_imports_as_a_library_does() -> None:
    text = Path(dynasaur_mcp.library.__file__).with_name("folder_init.py").read_text()
    assert (FOLDER / "__init__.py").read_text() == text


@pytest.mark.parametrize("name", NAMES)
def test_is_a_valid_action(name: str) -> None:
    action = read_action((FOLDER / f"{name}.py").read_text(), name)
    assert action.summary
    assert action.tags
    assert [parameter.name for parameter in action.parameters if not parameter.description] == []
    assert any(name in example for example in action.examples)
    assert set(action.uses) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_has_one_public_name(name: str) -> None:
    assert read_action((FOLDER / f"{name}.py").read_text()).name == name


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("workspace")
def test_passes_its_doctests_and_gives_what_its_types_say(name: str) -> None:
    module = load_module(name)
    checked = {name: check_types(getattr(module, name))}
    said: list[str] = []
    results = [
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(case, out=said.append)
        for case in doctest.DocTestFinder().find(module, name, module, extraglobs=checked)
    ]
    assert sum(result.failed for result in results) == 0, "".join(said)
    assert sum(result.attempted for result in results) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_passes_its_own_tests(name: str, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, test in enumerate(find_tests(load_module(name))):
        folder = workspace / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        test()


@pytest.mark.parametrize("name", NAMES)
def test_imports_without_its_requirements_unless_it_draws(name: str, tmp_path: Path) -> None:
    """Only a chart imports its library at once, so that a process kept ready has it; the rest do on use."""
    code = f"""
import sys
for module in ("openpyxl", "bs4") + (() if {name!r} == "draw_chart" else ("matplotlib",)):
    sys.modules[module] = None
from actions import {name}
from actions.{name} import {name} as same
assert same is {name} and callable(same)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")
