"""`actions import`, as a user types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dynasaur_mcp.library.reading import read_action
from tests.test_cli import ADD, PROGRAM, Run, assert_one_line, dynasaur, jailed, write

__all__ = ["dynasaur", "jailed"]

MEAN = '''"""Numbers."""
from .base import check as _check

SCALE = 2


def mean(values: list[float]) -> float:
    """The mean of some numbers.

    >>> mean([1, 2])
    3.0
    """
    return SCALE * sum(_check(values)) / len(values)


def scaled(value, by=3):
    """A number, larger.

    >>> scaled(2)
    6
    """
    return value * by


def untyped(value):
    """Nothing shows what this takes."""
    return value


def wrong(value: int) -> int:
    """Not what its example says.

    >>> wrong(1)
    2
    """
    return value


def total(*values: int) -> int:
    """The sum of all.

    >>> total(1, 2)
    3
    """
    return sum(values)


def _private(value: int) -> int:
    """Nobody's business."""
    return value
'''
BASE = '''def check(values: list[float]) -> list[float]:
    """The numbers, if there are any."""
    if not values:
        raise ValueError("no numbers")
    return values
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package `numbers_` of two modules."""
    folder = tmp_path / "code" / "numbers_"
    folder.mkdir(parents=True)
    write(folder, __init__="", mean=MEAN, base=BASE)
    return folder


def rows(ran: subprocess.CompletedProcess[str]) -> dict[str, tuple[str, str]]:
    """Name -> what became of it, and the note."""
    lines = [line.split("\t") for line in ran.stdout.splitlines()]
    return {name.rpartition(".")[2]: (how, note) for name, how, note in lines}


def library(tmp_path: Path) -> dict[str, str]:
    """Every file of an action, by name."""
    folder = tmp_path / "library"
    return {path.stem: path.read_text() for path in sorted(folder.glob("[a-z]*.py"))}


def test_functions_of_a_package_are_kept_with_all_they_use_and_each_other_is_explained(
    jailed: Run, package: Path, tmp_path: Path
) -> None:
    ran = jailed("actions", "import", str(package))
    assert ran.returncode == 0, ran.stderr
    told = rows(ran)
    assert {name: how for name, (how, _) in told.items()} == {
        "check": "kept",
        "mean": "kept",
        "scaled": "kept",
        "untyped": "skipped",
        "wrong": "not kept",
        "total": "skipped",
    }
    assert "v1, 1/1 tests, active" in told["mean"][1]
    assert "draft" in told["check"][1]
    assert "parameter 'value' has no type" in told["untyped"][1]
    assert "a test failed" in told["wrong"][1]
    assert "*values" in told["total"][1]
    assert "3 kept, 2 skipped, 1 not kept" in ran.stderr
    kept = library(tmp_path)
    assert sorted(kept) == ["check", "mean", "scaled"]
    assert "def check(" in kept["mean"]
    assert "_check = check" in kept["mean"]
    assert "def scaled(value: int, by: int=3) -> int:" in kept["scaled"]
    assert "SCALE" not in kept["scaled"]


def test_a_second_import_skips_what_is_there(jailed: Run, package: Path) -> None:
    jailed("actions", "import", str(package), "--only", "mean")
    again = rows(jailed("actions", "import", str(package)))
    assert again["mean"][0] == "there already"
    assert again["check"][0] == "kept"
    assert {how for how, _ in rows(jailed("actions", "import", str(package))).values()} == {
        "there already",
        "skipped",
        "not kept",
    }


def test_only_what_is_named_is_imported(jailed: Run, package: Path) -> None:
    assert list(rows(jailed("actions", "import", str(package / "mean.py"), "--only", "scaled"))) == ["scaled"]
    assert_one_line(jailed("actions", "import", str(package), "--only", "nothing"), 1, "'nothing'")


def test_one_file_of_a_package_brings_what_it_uses_beside_it(jailed: Run, package: Path, tmp_path: Path) -> None:
    told = rows(jailed("actions", "import", str(package / "mean.py"), "--only", "mean"))
    assert told["mean"][0] == "kept"
    assert "def check(" in library(tmp_path)["mean"]


def test_json_says_the_same_one_object_a_line(jailed: Run, package: Path) -> None:
    ran = jailed("actions", "import", str(package), "--only", "mean", "--json")
    (told,) = map(json.loads, ran.stdout.splitlines())
    assert told == {"file": "numbers_.mean.mean", "how": "kept", "note": "v1, 1/1 tests, active"}


def test_another_function_of_the_same_name_is_left_alone_unless_it_is_to_be_replaced(
    jailed: Run, package: Path, tmp_path: Path
) -> None:
    jailed("actions", "import", str(package), "--only", "scaled")
    (package / "mean.py").write_text(MEAN.replace("value * by", "value * by * 1"))
    assert rows(jailed("actions", "import", str(package), "--only", "scaled"))["scaled"][0] == "not kept"
    assert "* 1" not in library(tmp_path)["scaled"]
    ran = jailed("actions", "import", str(package), "--only", "scaled", "--replace")
    assert rows(ran)["scaled"][1].startswith("v2")


def test_what_is_there_under_another_name_is_not_kept_again_and_what_is_likely_so_is_named(
    jailed: Run, tmp_path: Path
) -> None:
    comma = 'def split_at_comma(text: str) -> list[str]:\n    """Split it."""\n    return text.split(",")\n'
    colon = comma.replace("comma", "colon").replace('","', '":"')
    again = comma.replace("split_at_comma", "cut_up").replace("text", "line")
    (file,) = write(tmp_path, cuts="\n\n".join((comma, colon, again)))
    # One by one: of two that are on their way at once, either may be first.
    told = [rows(jailed("actions", "import", file, "--only", name)) for name in ("split_at_comma", "split_at_colon")]
    assert told[0]["split_at_comma"] == ("kept", "v1, no tests, draft")
    assert told[1]["split_at_colon"][1] == (
        "v1, no tests, draft; like 'split_at_comma', the same code but for texts and types"
    )
    how, note = rows(jailed("actions", "import", file, "--only", "cut_up"))["cut_up"]
    assert (how, "'split_at_comma' is the same code, names and comments aside. Use that" in note) == ("not kept", True)


def test_what_is_no_python_is_skipped_and_says_why(jailed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "binary.py").write_bytes(bytes(range(256)))
    (folder / "empty.py").write_text("")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "large.py").write_text("#" * 2_000_000)
    (folder / "loop.py").symlink_to(folder / "loop.py")
    write(folder, add=ADD)
    ran = jailed("actions", "import", str(folder))
    told = dict(line.split("\t", 1) for line in ran.stdout.splitlines())
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert told == {
        "binary.py": "skipped\tit is not UTF-8.",
        "broken.py": f"skipped\tline 1: does not parse with {python}: invalid syntax in `def f(:`. Correct the syntax.",
        "large.py": "skipped\tit has more than 1 MB.",
        "add": "kept\tv1, 1/1 tests, active",
    }
    (file,) = write(tmp_path, broken="def f(:\n")
    ran = jailed("actions", "import", file)
    assert (ran.returncode, ran.stderr.split(",")[0]) == (1, "1 skipped")
    assert list(rows(jailed("actions", "import", str(folder), "--only", "add"))) == ["add"]


def test_what_is_not_there_is_said(dynasaur: Run, tmp_path: Path) -> None:
    assert_one_line(dynasaur("actions", "import", "no/such/folder"), 1, "no file or folder 'no/such/folder'")
    assert_one_line(dynasaur("actions", "import", "no_such_module"), 1, "'no_such_module'")
    assert_one_line(dynasaur("actions", "import", "statistics.nothing"), 1, "'statistics.nothing'")
    (tmp_path / "text.txt").write_text("text")
    assert_one_line(dynasaur("actions", "import", str(tmp_path / "text.txt")), 1, "neither Python nor a zip")


def test_a_module_of_python_is_imported_by_name(jailed: Run, tmp_path: Path) -> None:
    told = rows(jailed("actions", "import", "statistics", "--only", "median_low", "--only", "quantiles"))
    assert told["median_low"] == ("kept", "v1, 1/1 tests, active")
    assert told["quantiles"][0] == "skipped"


def test_package_is_required_instead_of_copied(jailed: Run, tmp_path: Path) -> None:
    told = rows(jailed("actions", "import", "statistics", "--only", "median_low", "--package"))
    assert told["median_low"][0] == "kept"
    source = library(tmp_path)["median_low"]
    assert "from statistics import median_low as _median_low\n" in source
    assert "return _median_low(data)" in source
    assert "StatisticsError" not in source
    assert_one_line(jailed("actions", "import", str(tmp_path / "library"), "--package"), 1, "leave out --package")


def test_what_cannot_be_copied_is_borrowed_from_its_package(jailed: Run, tmp_path: Path) -> None:
    text = 'from .base import g\n\nN = 1\n\n\ndef f(a: int) -> int:\n    """F.\n\n    >>> f(1)\n    4\n    """\n'
    files = {
        "tangled/__init__.py": "",
        "tangled/base.py": "N = 2\n\n\ndef g(a):\n    return a + N\n",
        "tangled/top.py": f"{text}    return g(a) + N\n",
        "tangled-1.5.dist-info/METADATA": "Metadata-Version: 2.1\nName: tangled\nVersion: 1.5\n",
        "tangled-1.5.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: us\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tangled-1.5.dist-info/top_level.txt": "tangled\n",
        "tangled-1.5.dist-info/RECORD": "",
    }
    wheel, site = tmp_path / "tangled-1.5-py3-none-any.whl", tmp_path / "site"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        archive.extractall(site)
    (tmp_path / "uv.toml").write_text(f'no-index = true\nfind-links = ["{tmp_path}"]\n')
    here = {"PYTHONPATH": str(site), "UV_CONFIG_FILE": str(tmp_path / "uv.toml"), "DYNASAUR_CACHE": str(tmp_path / "c")}
    how, note = rows(jailed("actions", "import", "tangled", "--only", "f", **here))["f"]
    assert how == "kept", note
    assert "borrowed, as 'N' is one thing in 'tangled.top', another in 'tangled.base'" in note
    source = library(tmp_path)["f"]
    assert '# dependencies = ["tangled>=1.5"]' in source
    assert "from tangled.top import f as _f\n" in source


def test_imports_at_once_leave_every_file_whole(jailed: Run, package: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: rows(jailed("actions", "import", str(package))), range(2)))
    assert all(each["mean"][0] in ("kept", "there already") for each in both)
    for name, source in library(tmp_path).items():
        assert read_action(source, name).name == name


def test_an_import_that_was_killed_goes_on_where_it_was(jailed: Run, package: Path, tmp_path: Path) -> None:
    where = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library"), "DYNASAUR_SANDBOX": "jail"}
    command = [*PROGRAM, "actions", "import", str(package)]
    with subprocess.Popen(command, env=where, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stdout
        first = process.stdout.readline().split("\t")
        process.kill()
    assert first[1] == "kept"
    told = rows(jailed("actions", "import", str(package)))
    assert told[first[0].rpartition(".")[2]][0] == "there already"
    assert told["mean"][0] in ("kept", "there already")
    assert all(read_action(source, name) for name, source in library(tmp_path).items())


def test_third_party_imports_become_requirements(jailed: Run, tmp_path: Path) -> None:
    needs = ADD.replace("def add", "import packaging\nimport nothing_known\n\n\ndef add")
    (file,) = write(tmp_path, sums=needs)
    told = rows(jailed("actions", "import", file))
    assert told["add"][0] == "kept"  # nothing uses it
    used = needs.replace("return a + b", "return a + b + nothing_known.x")
    (file,) = write(tmp_path, sums=used)
    assert "'nothing_known', which is not installed here" in rows(jailed("actions", "import", file))["add"][1]


def test_agent_skill_of_others_is_imported(jailed: Run, tmp_path: Path) -> None:
    scripts = tmp_path / "their-skill" / "scripts"
    scripts.mkdir(parents=True)
    (scripts.parent / "SKILL.md").write_text("---\nname: their-skill\ndescription: Sums.\n---\nRun scripts/sums.py.\n")
    main = "if __name__ == '__main__':\n    print(add(1, 2))\n"
    write(scripts, sums=f"import shared\n\n\n{ADD.replace('a + b', 'shared.plus(a, b)')}\n\n{main}")
    write(scripts, shared="def plus(a: int, b: int) -> int:\n    return a + b\n")
    told = rows(jailed("actions", "import", str(scripts.parent)))
    assert told["add"] == ("kept", "v1, 1/1 tests, active")


def test_import_on_a_terminal_counts(tmp_path: Path, require: Callable[[str], None]) -> None:
    require("jail")
    from tests.test_cli import run_on_a_terminal

    files = write(tmp_path, add=ADD)
    status, said = run_on_a_terminal(
        "actions", "import", files[0], "--library", str(tmp_path / "library"), "--sandbox", "jail"
    )
    assert status == 0
    assert "1/1" in said
    assert "add" in said
