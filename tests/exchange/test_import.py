"""`actions import` as a user types it: what is kept, left alone, replaced, told, and carried on."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dynasaur_mcp.library.reading import read_action
from tests.conftest import ADD, PROGRAM, Run, assert_one_line, run_on_a_terminal, write

from .conftest import MEAN, library, rows


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
        "total": "kept",
        "lazily": "skipped",
    }
    assert "v1, 1/1 tests, active" in told["mean"][1]
    assert "draft" in told["check"][1]
    assert "parameter 'value' has no type" in told["untyped"][1]
    assert "a test failed" in told["wrong"][1]
    assert "parameter 'make' has no JSON form" in told["lazily"][1]
    assert "4 kept, 2 skipped, 1 not kept" in ran.stderr
    kept = library(tmp_path)
    assert sorted(kept) == ["check", "mean", "scaled", "total"]
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


def test_import_on_a_terminal_counts(tmp_path: Path, require: Callable[[str], None]) -> None:
    require("jail")
    files = write(tmp_path, add=ADD)
    status, said = run_on_a_terminal(
        "actions", "import", files[0], "--library", str(tmp_path / "library"), "--sandbox", "jail"
    )
    assert status == 0
    assert "1/1" in said
    assert "add" in said
