"""What `actions import` takes functions from, and what it needs beside: files, modules, packages, skills."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

from tests.conftest import ADD, Run, assert_one_line, write

from .conftest import library, rows


def test_one_file_of_a_package_brings_what_it_uses_beside_it(jailed: Run, package: Path, tmp_path: Path) -> None:
    told = rows(jailed("actions", "import", str(package / "mean.py"), "--only", "mean"))
    assert told["mean"][0] == "kept"
    assert "def check(" in library(tmp_path)["mean"]


def test_a_file_is_read_in_the_encoding_that_it_says(jailed: Run, tmp_path: Path) -> None:
    text = ADD.replace('"""', '"""Für alle: ', 1)
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "old.py").write_bytes(f"#!/usr/bin/python\n# -*- coding: latin-1 -*-\n{text}".encode("latin-1"))
    (folder / "nowhere.py").write_bytes(b"# -*- coding: nowhere -*-\n")
    told = rows(jailed("actions", "import", str(folder)))
    assert told["add"] == ("kept", "v1, 1/1 tests, active")
    assert told["py"][0] == "skipped"
    assert "Für alle: " in library(tmp_path)["add"]
    assert "latin" not in library(tmp_path)["add"]


def test_what_is_no_python_is_skipped_and_says_why(jailed: Run, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "binary.py").write_bytes(bytes(range(256)))
    (folder / "rot13.py").write_bytes(b"# coding: rot13\n")
    (folder / "empty.py").write_text("")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "large.py").write_text("#" * 2_000_000)
    (folder / "loop.py").symlink_to(folder / "loop.py")
    write(folder, add=ADD)
    ran = jailed("actions", "import", str(folder))
    told = dict(line.split("\t", 1) for line in ran.stdout.splitlines())
    python = f"Python {sys.version_info.major}.{sys.version_info.minor}"
    assert told == {
        "binary.py": "skipped\tit is not in the encoding that it says, or not UTF-8 where it says none.",
        "rot13.py": "skipped\tit is not in the encoding that it says, or not UTF-8 where it says none.",
        "broken.py": f"skipped\tline 1: does not parse with {python}: invalid syntax in `def f(:`. Correct the syntax.",
        "large.py": "skipped\tit has more than 1 MB.",
        "add": "kept\tv1, 1/1 tests, active",
    }
    (file,) = write(tmp_path, broken="def f(:\n")
    ran = jailed("actions", "import", file)
    assert (ran.returncode, ran.stderr.split(",")[0]) == (1, "1 skipped")
    assert list(rows(jailed("actions", "import", str(folder), "--only", "add"))) == ["add"]


def test_all_that_a_module_offers_is_in_the_table(jailed: Run, tmp_path: Path) -> None:
    text = '''__all__: list[str] = ["add"]
__all__ += ["subtract"]
__all__.extend(("guarded", "fallback"))


def subtract(a: int, b: int) -> int:
    """Take one number from another.

    >>> subtract(3, 1)
    2
    """
    return a - b


def hidden(a: int) -> int:
    """Take one number as it is."""
    return a


if a_flag := True:
    def guarded(a: int) -> int:
        """Take one number as it is."""
        return a


try:
    from nowhere import fallback
except ImportError:
    def fallback(a: int) -> int:
        """Take one number twice."""
        return 2 * a


if __name__ == "__main__":
    def add() -> None: ...
'''
    told = rows(jailed("actions", "import", *write(tmp_path, several=f"{text}\n\n{ADD}")))
    assert {name: how for name, (how, _) in told.items()} == {
        "subtract": "kept",
        "guarded": "kept",
        "fallback": "kept",
        "add": "kept",
    }
    assert "nowhere" not in library(tmp_path)["fallback"]


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
        "tangled/base.py": "N = 2\n\n\ndef g(a):\n    global N\n    return a + N\n",
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
