"""`actions new`, `edit`, `test` and `watch`, as a person at a terminal uses them, in a real sandbox."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dynasaur_mcp.cli import main

from .conftest import ADD, PROGRAM, TWICE

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tmp_path / "library"


@pytest.fixture
def dynasaur(
    library: Path,
    require: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Runs `actions …` in an empty folder; gives status, output and errors."""
    require("jail")
    (library.parent / "here").mkdir()
    monkeypatch.chdir(library.parent / "here")
    monkeypatch.setenv("DYNASAUR_LIBRARY", str(library))
    monkeypatch.setenv("DYNASAUR_CACHE", str(library.parent / "cache"))
    monkeypatch.setenv("DYNASAUR_SANDBOX", "jail")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("VISUAL", raising=False)
    (library.parent / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(library.parent / "tmp"))

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(["actions", *arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def edits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """The editor from now on replaces one text by another."""

    def edits(old: str, new: str) -> None:
        editor = tmp_path / "editor.py"
        change = f".write_text(path.read_text().replace({old!r}, {new!r}))"
        editor.write_text(f"import pathlib, sys\npath = pathlib.Path(sys.argv[1])\npath{change}\n")
        monkeypatch.setenv("EDITOR", f"{sys.executable} '{editor}'")

    return edits


def drafts(library: Path) -> list[Path]:
    return list((library.parent / "tmp").glob("dynasaur-edit-*"))


def test_new_file_passes_as_it_is_and_can_be_added(dynasaur: Run) -> None:
    status, said, hint = dynasaur("new", "longest_words")
    assert (status, said) == (0, "longest_words.py\n")
    assert "`actions watch longest_words.py`" in hint
    assert dynasaur("test", "longest_words.py")[:2] == (0, "longest_words.py\t2/2 tests\t\n")
    assert dynasaur("add", "longest_words.py")[1] == "longest_words.py\tkept\tv1, 2/2 tests, active\n"


def test_new_file_replaces_none(dynasaur: Run) -> None:
    Path("mine.py").write_text("kept")
    status, _, said = dynasaur("new", "mine")
    assert status == 1
    assert said == "dynasaur-mcp: 'mine.py' is there already.\n"
    assert Path("mine.py").read_text() == "kept"


@pytest.mark.parametrize("name", ["Mine", "../mine", "1st", "a" * 41, "", "class", "print", "run_python"])
def test_name_that_no_action_can_have_is_refused(dynasaur: Run, name: str) -> None:
    status, _, said = dynasaur("new", name)
    assert status == 1
    assert said.startswith(f"dynasaur-mcp: {name!r} cannot be an action's name")
    assert list(Path().iterdir()) == []


def test_edited_action_becomes_its_next_version(dynasaur: Run, edits: Callable[..., None], library: Path) -> None:
    Path("add.py").write_text(ADD)
    dynasaur("add", "add.py")
    edits("Add two", "Sum two")
    assert dynasaur("edit", "add")[:2] == (0, "add.py\tkept\tv2, 1/1 tests, active\n")
    assert "Sum two numbers." in dynasaur("show", "add")[1]
    assert dynasaur("edit", "add")[2] == "Nothing has changed.\n"
    assert drafts(library) == []


def test_edit_that_breaks_an_action_is_told_and_kept_aside(
    dynasaur: Run, edits: Callable[..., None], library: Path
) -> None:
    Path("add.py").write_text(ADD)
    dynasaur("add", "add.py")
    edits("a + b", "a - b")
    status, said, hint = dynasaur("edit", "add")
    assert status == 1
    assert "add.py\tnot kept\t" in said
    assert "-1" in said
    (draft,) = drafts(library)
    assert hint == f"Your text is in {draft / 'add.py'}.\n"
    assert "a - b" in (draft / "add.py").read_text()
    assert dynasaur("show", "add")[1] == ADD


def test_file_of_the_library_that_is_no_action_is_mended(
    dynasaur: Run, edits: Callable[..., None], library: Path
) -> None:
    library.mkdir()
    (library / "add.py").write_text(ADD.replace("(a: int", "((a: int"))
    edits("((a", "(a")
    status, said, errors = dynasaur("edit", "add")
    assert (status, said) == (0, "add.py\tkept\tv1, 1/1 tests, active\n"), errors
    assert (library / "add.py").read_text() == ADD


def test_version_that_came_meanwhile_is_not_overwritten(
    dynasaur: Run, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("add.py").write_text(ADD)
    dynasaur("add", "add.py")
    theirs = ADD.replace("Add two", "Theirs: add two")
    code = f"import pathlib, sys; pathlib.Path({str(library / 'add.py')!r}).write_text({theirs!r}); "
    (library.parent / "editor.py").write_text(code + "pathlib.Path(sys.argv[1]).write_text('mine')")
    monkeypatch.setenv("EDITOR", f"{sys.executable} {library.parent / 'editor.py'}")
    status, _, said = dynasaur("edit", "add")
    assert status == 1
    assert "'add' became v2 meanwhile. Your text is in " in said
    assert dynasaur("show", "add")[1] == theirs


@pytest.mark.parametrize(("editor", "wrong"), [("no-such-editor", "does not start"), ("false", "ended with status 1")])
def test_editor_that_fails_changes_nothing(
    dynasaur: Run, monkeypatch: pytest.MonkeyPatch, editor: str, wrong: str
) -> None:
    Path("add.py").write_text(ADD)
    dynasaur("add", "add.py")
    monkeypatch.setenv("EDITOR", editor)
    status, _, said = dynasaur("edit", "add")
    assert status == 1
    assert wrong in said
    assert "\tv1\t" in dynasaur("list")[1]


def test_without_a_terminal_no_editor_is_waited_for(
    dynasaur: Run, library: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("add.py").write_text(ADD)
    dynasaur("add", "add.py")
    monkeypatch.delenv("EDITOR", raising=False)
    status, _, said = dynasaur("edit", "add")
    assert status == 1
    assert "no terminal to edit in. Set EDITOR" in said
    assert drafts(library) == []


def test_file_is_tested_without_being_kept(dynasaur: Run) -> None:
    Path("add.py").write_text(ADD.replace("a + b", "a - b"))
    Path("untyped.py").write_text("def untyped(a):\n    return a\n")
    Path("binary.py").write_bytes(b"\xff\x00")
    status, said, _ = dynasaur("test", "add.py", "untyped.py", "binary.py", "gone.py", "--json")
    assert status == 1
    by_name = {tried["name"]: " ".join(tried["failures"]) for tried in json.loads(said)}
    assert "Got: -1" in " ".join(by_name["add.py"].split())
    assert "'a'" in by_name["untyped.py"]
    assert "cannot be read" in by_name["binary.py"]
    assert "cannot be read" in by_name["gone.py"]
    assert json.loads(dynasaur("list", "--json")[1]) == []


def test_file_uses_what_the_library_has(dynasaur: Run) -> None:
    Path("twice.py").write_text(TWICE)
    assert "it uses 'add' from actions" in dynasaur("test", "twice.py")[1]
    Path("add.py").write_text(ADD)
    dynasaur("add", "add.py")
    assert dynasaur("test", "twice.py")[:2] == (0, "twice.py\t1/1 tests\t\n")


def test_watched_files_are_tested_on_each_save(tmp_path: Path, library: Path, require: Callable[[str], None]) -> None:
    require("jail")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "add.py").write_text(ADD)
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(library), "DYNASAUR_SANDBOX": "jail"}
    watching = subprocess.Popen(
        [*PROGRAM, "actions", "watch", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert watching.stdout
    try:
        assert watching.stdout.readline() == "add.py\tright\t1/1 tests\n"
        (folder / "add.py").write_text(ADD.replace("a + b", "a - b"))
        assert watching.stdout.readline().startswith("add.py\twrong\t")
        (folder / "new.tmp").write_text(ADD)
        (folder / "new.tmp").rename(folder / "add.py")
        assert watching.stdout.readline() == "add.py\tright\t1/1 tests\n"
        (folder / "add.py").unlink()
        (folder / "twice.py").write_text(TWICE)
        assert watching.stdout.readline().startswith("twice.py\twrong\tit uses 'add'")
    finally:
        watching.send_signal(signal.SIGINT)
        _, errors = watching.communicate(timeout=30)
    assert watching.returncode == 130
    assert errors == ""


def test_what_is_not_there_cannot_be_watched(dynasaur: Run) -> None:
    assert dynasaur("watch", "gone.py") == (1, "", "dynasaur-mcp: There is no 'gone.py'.\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("dynasaur-mcp se", ["serve", "sessions", "setup"]),
        ("dynasaur-mcp actions ", ["new", "edit", "watch", "list", "show"]),
        ("dynasaur-mcp actions show a", ["add"]),
        ("dynasaur-mcp actions list --j", ["--json"]),
        ("dynasaur-mcp setup cu", ["cursor"]),
        ("dynasaur-mcp setup re", ["remove"]),
        ("dynasaur-mcp serve --timeout", ["--timeout-seconds"]),
        ("dynasaur-mcp config --pack", ["--packages", "--packages-allowed", "--packages-bytes"]),
    ],
)
def test_shell_is_told_how_a_command_can_go_on(
    library: Path, monkeypatch: pytest.MonkeyPatch, words: str, expected: list[str]
) -> None:
    library.mkdir()
    (library / "add.py").write_text(ADD)
    asked = {"_DYNASAUR_MCP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    environment = {**os.environ, **asked, "DYNASAUR_LIBRARY": str(library)}
    ran = subprocess.run(
        PROGRAM, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert set(expected) <= set(ran.stdout.split()), ran.stderr
