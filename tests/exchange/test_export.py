"""`actions export`, as a user types it, and the way back."""

from __future__ import annotations

import re
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.types import Action, Status, Tests
from tests.conftest import ADD, TWICE, Run, assert_one_line, write

from .conftest import rows


def read_kept(folder: Path) -> dict[str, tuple[Action, Status, Tests]]:
    """But for the advice, which files written by hand never had."""
    with closing(FileStore(folder)) as store:
        return {e.name: (replace(e.action, advice=()), e.status, e.tests) for e in store.entries()}


EXPORTS = ["plain", "plain.zip", "my-tools", "my-tools.zip"]


@pytest.mark.parametrize("target", EXPORTS)
def test_import_of_an_export_is_lossless(jailed: Run, tmp_path: Path, target: str) -> None:
    tagged = f"# /// script\n# dependencies = []\n# [tool.dynasaur]\n# tags = ['sums']\n# ///\n{ADD}"
    by = "def by(a: float) -> float:\n    return a / 2\n"
    draft = f'def half(a: float) -> float:\n    """Halve it."""\n    return by(a)\n\n\n{by}'
    assert jailed("actions", "add", *write(tmp_path, add=tagged, twice=TWICE, half=draft)).returncode == 0
    skill = ["--skill"] if target.startswith("my-tools") else []
    exported = jailed("actions", "export", str(tmp_path / target), *skill)
    assert exported.returncode == 0, exported.stderr
    told = jailed("actions", "import", str(tmp_path / target), "--library", str(tmp_path / "second"))
    assert {how for how, _ in rows(told).values()} == {"kept"}
    first, second = (read_kept(tmp_path / name) for name in ("library", "second"))
    assert first == second
    assert len(first) == 3


ODD = {
    "a": "def a(x: int) -> int:\n    'A.'\n    return x\n",
    "again": "def again(x: int) -> int:\n    'The same as another.'\n    return x\n",
    "func1": "def func1() -> int:\n    'Not worth defining.'\n    return 86400 * 7\n",
    "x" * 40: f"async def {'x' * 40}(x: int) -> int:\n    '''Wait.'''\n    return x\n",
    "actions": "from actions import a\n\n\ndef actions(x: int) -> int:\n    '''Folder.'''\n    return a(x) + 1\n",
    "string": "import string as _s\n\n\ndef string(x: str) -> str:\n    '''Module.'''\n    return _s.capwords(x)\n",
    "test": "def test(x: int) -> int:\n    '''Like a test.'''\n    return x * 2\n",
    "skill": """def skill(x: str = '\\f') -> str:
    '''Grüße, 你好, 🦖.

    >>> skill('ß')
    'ß'
    '''
    return x ;
""".replace(";", " "),
    "lines": """# As on Windows
def lines(x: int) -> int:
    '''Less.

    >>> lines(1)
    0
    '''
    return x - 1
""".replace("\n", "\r\n"),
    "needs": """# /// script
# requires-python = '>=3.11'
# dependencies = ['six>=1.16', "colorama; sys_platform == 'win32'"]
# [tool.dynasaur]
# tags = ['ünï', 'two words']
# network = ['example.org:8443']
# [tool.other]
# x = 1
# ///
import six

def needs(x: int) -> bool:
    '''Need much.

    >>> needs(1)
    True
    '''
    return isinstance(x, six.integer_types)

def test_needs() -> None:
    assert needs(2)""",
    "no_end": "def no_end(x: int) -> int: 'None.'; return -x",
}


@pytest.mark.parametrize("target", ["plain.zip", "my-tools"])
def test_oddest_actions_come_back_as_they_were(jailed: Run, tmp_path: Path, target: str) -> None:
    (tmp_path / "library").mkdir()
    for name, source in ODD.items():
        (tmp_path / "library" / f"{name}.py").write_bytes(source.encode())
    assert jailed("actions", "test").returncode == 0
    skill = ["--skill"] if target.startswith("my-tools") else []
    assert jailed("actions", "export", str(tmp_path / target), *skill).returncode == 0
    told = jailed("actions", "import", str(tmp_path / target), "--library", str(tmp_path / "second"))
    assert {how for how, _ in rows(told).values()} == {"kept"}, told.stdout
    first, second = (read_kept(tmp_path / name) for name in ("library", "second"))
    assert first == second
    assert sorted(first) == sorted(ODD)
    for name, source in ODD.items():
        assert (tmp_path / "second" / f"{name}.py").read_bytes() == source.encode()


def test_exported_actions_run_with_plain_python_and_bring_those_they_use(jailed: Run, tmp_path: Path) -> None:
    jailed("actions", "add", *write(tmp_path, add=ADD, twice=TWICE))
    assert jailed("actions", "export", str(tmp_path / "sums"), "twice", "--skill").returncode == 0
    code = "from actions import twice; print(twice(4))"
    where = tmp_path / "sums" / "scripts"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=where, text=True) == "8\n"
    text = (tmp_path / "sums" / "SKILL.md").read_text()
    assert re.match(r'---\nname: sums\ndescription: "Tested Python functions\. add: Add two numbers\. ', text)
    assert "## `twice(a: int) -> int`" in text
    assert ">>> twice(4)" in text


def test_export_overwrites_nothing_and_leaves_nothing_half_made(jailed: Run, tmp_path: Path) -> None:
    assert_one_line(jailed("actions", "export", str(tmp_path / "none")), 1, "no actions")
    jailed("actions", "add", *write(tmp_path, add=ADD))
    there = tmp_path / "there"
    there.mkdir()
    assert_one_line(jailed("actions", "export", str(there)), 1, "exists")
    assert_one_line(jailed("actions", "export", str(tmp_path / "Bad_Name"), "--skill"), 1, "'Bad_Name'")
    assert_one_line(jailed("actions", "export", str(tmp_path / "new"), "nothing"), 1, "No action named 'nothing'")
    assert_one_line(jailed("actions", "export", "/proc/none/new"), 1, "cannot be written")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
