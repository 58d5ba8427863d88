"""`actions` as a user types it: add, list, show, test, approve, remove."""

import re
from pathlib import Path

import pytest

from .conftest import ADD, TWICE, Run, assert_one_line, run_on_a_terminal, write


def test_unknown_action_is_one_line_and_exit_1(dynasaur: Run) -> None:
    assert_one_line(dynasaur("actions", "show", "ad"), 1, "No action named 'ad'")
    assert_one_line(dynasaur("actions", "remove", "ad"), 1, "No action named 'ad'")


def test_actions_are_added_listed_shown_tested_and_removed(jailed: Run, tmp_path: Path) -> None:
    files = write(tmp_path, twice=TWICE, add=ADD)
    added = jailed("actions", "add", *files)
    assert added.returncode == 0, added.stdout + added.stderr
    assert re.search(r"add\.py\tkept\tv1, 1/1 tests, active\n", added.stdout)
    assert re.search(r"twice\.py\tkept\tv1, 1/1 tests, active\n", added.stdout)

    again = jailed("actions", "add", *files)
    assert (again.returncode, again.stdout.count("\tthere already\tv1, 1/1 tests, active\n")) == (0, 2)

    listed = jailed("actions", "list")
    assert "add\tv1\tactive\t1/1 tests\t0\tAdd two numbers.\n" in listed.stdout
    assert jailed("actions", "show", "add").stdout == ADD

    tested = jailed("actions", "test")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "twice\t1/1 tests\t\n" in tested.stdout

    removed = jailed("actions", "remove", "add", "twice")
    assert removed.stdout.splitlines() == [
        "'add' is deleted; `dynasaur-mcp actions restore add` brings it back. These use it and will fail now: twice.",
        "'twice' is deleted; `dynasaur-mcp actions restore twice` brings it back.",
    ]
    assert "twice" not in jailed("actions", "list").stdout


def test_draft_that_waits_for_approval_becomes_active_by_approve(jailed: Run, tmp_path: Path) -> None:
    careful = {"DYNASAUR_REQUIRE_APPROVAL": "1"}
    jailed("actions", "add", *write(tmp_path, add=ADD), **careful)
    assert "add\tv1\tdraft\t" in jailed("actions", "list").stdout
    assert jailed("actions", "approve", "add@1", **careful).returncode == 0
    assert "add\tv1\tactive\t" in jailed("actions", "list").stdout


def test_only_the_version_that_was_read_is_approved(jailed: Run, tmp_path: Path) -> None:
    careful = {"DYNASAUR_REQUIRE_APPROVAL": "1"}
    jailed("actions", "add", *write(tmp_path, add=ADD, twice=TWICE), **careful)
    assert jailed("actions", "show", "add").stderr.startswith("add v1, 1/1 tests, draft, by local, ")
    jailed("actions", "add", "--replace", *write(tmp_path, add=ADD.replace("a + b", "b + a")), **careful)
    for name, words in {
        "add@1": ("'add' is at version 2 now, not 1.", "actions show add"),
        "add@3": ("'add' is at version 2 now, not 3.",),
        "add": ("Say which version of 'add' you read: add@2 is what it is now",),
        "add@latest": ("Say which version",),
        "ad@1": ("No action named 'ad'",),
    }.items():
        assert_one_line(jailed("actions", "approve", "twice@1", name), 1, *words)
    assert "active" not in jailed("actions", "list").stdout
    # Changed by hand, it is another version too.
    (tmp_path / "library" / "add.py").write_text(ADD.replace("Add two", "Sum two"))
    assert_one_line(jailed("actions", "approve", "add@2"), 1, "'add' is at version 3 now")
    assert_one_line(jailed("actions", "approve", "add@3"), 1, "'add' cannot be approved: no tests")
    assert jailed("actions", "test", "add", **careful).returncode == 0
    approved = jailed("actions", "approve", "twice@1", "add@3")
    assert approved.stdout.splitlines() == ["twice v1 is active.", "add v3 is active."]


def test_failing_test_of_a_file_changed_by_hand_is_shown(jailed: Run, tmp_path: Path) -> None:
    assert jailed("actions", "add", *write(tmp_path, add=ADD)).returncode == 0
    write(tmp_path / "library", add=ADD.replace("a + b", "a - b"))
    tested = jailed("actions", "test", "add")
    assert tested.returncode == 1
    assert "add\t0/1 tests\t" in tested.stdout
    assert "-1" in tested.stdout


def test_broken_file_in_the_library_is_named(dynasaur: Run, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", broken="def broken(:\n", add=ADD)
    listed = dynasaur("actions", "list")
    assert listed.returncode == 0
    assert "add\tv1\tdraft\t" in listed.stdout
    assert "broken.py is no action: line 1" in listed.stderr


def test_what_cannot_be_added_or_exported_is_told_to_a_person(dynasaur: Run, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for given, told in (
        ("folder", "`dynasaur-mcp actions import"),
        ("stater", "No such file or directory: give starter"),
    ):
        ran = dynasaur("actions", "add", str(tmp_path / given))
        assert (ran.returncode, ran.stderr) == (1, "")
        assert told in ran.stdout
    assert_one_line(dynasaur("actions", "export", str(tmp_path / "new"), "ad"), 1, "`dynasaur-mcp actions list` shows")
    assert_one_line(dynasaur("actions", "restore", "--version", "1"), 2, "give its name")
    assert_one_line(dynasaur("actions", "test", "nosuch.py", DYNASAUR_LIBRARY=__file__), 1, "it is a file")


def test_narrow_terminal_cuts_no_name_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = ["summarise_column_of_table", "summarise_column_of_tables"]
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", **{name: ADD.replace("add", name) for name in names})
    for command in (["actions", "list"], ["stats"], ["actions", "stale", "--days", "0"]):
        status, said = run_on_a_terminal(*command, "--library", str(tmp_path / "library"))
        assert status == 0
        assert [name for name in names if f"{name} " not in said] == []
        assert "…" not in said


@pytest.mark.parametrize("columns", [60, 80])
def test_narrow_terminal_breaks_no_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", add=ADD.replace("Add two numbers.", "Internationalise two numbers."))
    words = {"list": "Internationalise", "stats": "version", "audit": "command"}
    for name, command in (("list", ["actions", "list"]), ("stats", ["stats"]), ("audit", ["audit"])):
        status, said = run_on_a_terminal(*command, "--library", str(tmp_path / "library"))
        assert status == 0
        assert words[name] in said


def test_list_is_a_table_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", add=ADD)
    status, said = run_on_a_terminal("actions", "list", "--library", str(tmp_path / "library"))
    assert status == 0
    assert "Add two numbers." in said
    assert "\t" not in said
