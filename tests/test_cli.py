"""The command line, each command as a user types it: a process of its own, on real folders and in a real sandbox."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dynasaur_mcp import __version__

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
Run = Callable[..., subprocess.CompletedProcess[str]]

ADD = '''def add(a: int, b: int) -> int:
    """Add two numbers.

    Examples:
        >>> add(1, 2)
        3
    """
    return a + b
'''
TWICE = '''from actions import add


def twice(a: int) -> int:
    """Double a number.

    Examples:
        >>> twice(4)
        8
    """
    return add(a, a)
'''
PROGRAM = [sys.executable, "-m", "dynasaur_mcp"]


@pytest.fixture
def dynasaur(tmp_path: Path) -> Run:
    """Runs a command on a library of the test's own."""
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library"), "COLUMNS": "120"}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            env=environment | more,
        )

    return run


@pytest.fixture
def jailed(dynasaur: Run, require: Callable[[str], None]) -> Run:
    """The same, with code in the jail."""
    require("jail")
    return lambda *arguments, **more: dynasaur(*arguments, **{"DYNASAUR_SANDBOX": "jail"} | more)


def write(folder: Path, **sources: str) -> list[str]:
    for name, source in sources.items():
        (folder / f"{name}.py").write_text(source)
    return [str(folder / f"{name}.py") for name in sources]


def assert_one_line(ran: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert ran.returncode == status, ran.stdout + ran.stderr
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1, ran.stderr
    assert all(word in ran.stderr for word in ("dynasaur-mcp: ", *words)), ran.stderr


def test_version_is_printed(dynasaur: Run) -> None:
    ran = dynasaur("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"dynasaur-mcp {__version__}\n", "")


def run_on_a_terminal(*arguments: str) -> tuple[int, str]:
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*PROGRAM, *arguments], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    said = b""
    try:
        while data := os.read(ours, 1 << 16):
            said += data
    except OSError:  # Linux says EIO when the other side is closed
        pass
    finally:
        os.close(ours)
    return process.wait(), said.decode()


def test_no_arguments_on_a_terminal_print_help() -> None:
    status, said = run_on_a_terminal()
    assert status == 0
    assert all(command in said for command in ("serve", "demo", "doctor", "actions", "image", "gc"))


def test_no_arguments_without_a_terminal_serve_until_the_input_ends(dynasaur: Run) -> None:
    ran = dynasaur()
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


@pytest.mark.parametrize("group", ["actions", "image"])
def test_group_without_a_command_prints_its_help(dynasaur: Run, group: str) -> None:
    ran = dynasaur(group)
    assert ran.returncode == 0
    assert "Usage" in ran.stdout


def test_help_of_serve_lists_the_settings(dynasaur: Run) -> None:
    ran = dynasaur("serve", "--help")
    assert ran.returncode == 0
    assert "--timeout-seconds" in ran.stdout
    assert "--starter" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "blamed"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "--nonsense"),
        (["actions", "nonsense"], "nonsense"),
        (["actions", "show"], "NAME"),
        (["actions", "list", "--nonsense"], "--nonsense. `dynasaur-mcp actions list --help`"),
        (["demo", "--sandbox", "moon"], "moon"),
        (["serve", "--nonsense"], "--nonsense"),
        (["serve", "leftover"], "leftover"),
        (["serve", "--sandbox", "moon"], "sandbox"),
        (["serve", "--timeout-seconds", "soon"], "timeout_seconds"),
        (["serve", "--sessions", "0", "--cpus", "none"], "cpus"),
        (["serve", "--packages", "listed", "--packages-allowed", "numpy,./here"], "'./here'"),
        (["serve", "--packages-allowed", "numpy"], "packages=listed"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line_and_exit_2(dynasaur: Run, arguments: list[str], blamed: str) -> None:
    assert_one_line(dynasaur(*arguments), 2, blamed)


def test_wrong_environment_is_one_line_and_exit_2(dynasaur: Run) -> None:
    assert_one_line(dynasaur("actions", "list", DYNASAUR_MEMORY_BYTES="plenty"), 2, "memory_bytes", "plenty")


def test_unusable_library_is_one_line_and_exit_1(dynasaur: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (["actions", "list"], ["serve"]):
        assert_one_line(dynasaur(*arguments, "--library", str(tmp_path / "file")), 1, "library")


@pytest.mark.parametrize("arguments", [["--help"], ["actions", "list", "--json"], ["config"]], ids=" ".join)
def test_output_that_has_no_room_is_one_line_and_exit_1(tmp_path: Path, arguments: list[str]) -> None:
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library")}
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1), ran.stderr
    assert "No space left on device" in ran.stderr


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


def test_list_is_a_table_on_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", add=ADD)
    status, said = run_on_a_terminal("actions", "list", "--library", str(tmp_path / "library"))
    assert status == 0
    assert "Add two numbers." in said
    assert "\t" not in said


@pytest.mark.parametrize(
    ("command", "found"),
    [
        ("actions list", [{"name": "add", "status": "draft", "version": 1}]),
        ("actions stale --days 0", [{"name": "add", "last_use": None, "calls": 0}]),
        ("actions restore", []),
        ("stats", {"total": {"actions": 1}}),
        ("ps", {"servers": []}),
        ("sessions list", []),
        ("gc", [{"sandbox": "docker"}, {"sandbox": "jail", "workers": 0}]),
        ("config", {"sessions": {"value": 16, "from": "default"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_lists_something_is_json_on_demand(dynasaur: Run, tmp_path: Path, command: str, found: Any) -> None:
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", add=ADD)
    nowhere = {"DYNASAUR_CACHE": str(tmp_path / "cache"), "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    ran = dynasaur(*command.split(), "--json", **nowhere)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    if isinstance(found, list):
        assert [{key: said[at][key] for key in one} for at, one in enumerate(found)] == found
        assert len(said) == len(found)
    else:
        assert all(said[key] == value or value.items() <= said[key].items() for key, value in found.items())


def test_gc_says_how_many_leftovers_it_removed(dynasaur: Run) -> None:
    ran = dynasaur("gc")
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"^jail\t0\t", ran.stdout, re.MULTILINE), ran.stdout


def test_gc_removes_packages_on_demand_and_has_them_resolved_anew(jailed: Run, tmp_path: Path) -> None:
    file = tmp_path / "need_six.py"
    file.write_text(
        "# /// script\n# dependencies = ['six']\n# ///\nimport six\n\ndef need_six() -> str:\n"
        '    """Name a package.\n\n    >>> need_six()\n    \'six\'\n    """\n    return six.__name__\n'
    )
    own = {"DYNASAUR_CACHE": str(tmp_path / "cache"), "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    assert jailed("actions", "add", str(file), **own).returncode == 0
    assert re.search(r"^jail\t0\t0\t0\.0 MiB\t", jailed("gc", **own).stdout, re.MULTILINE)
    ran = jailed("gc", "--packages", **own)
    assert re.search(r"^jail\t0\t1\t0\.\d MiB\t", ran.stdout, re.MULTILINE), ran.stdout
    assert list((tmp_path / "cache" / "resolved").glob("*/*")) == []


def test_image_is_not_built_without_an_engine(dynasaur: Run, tmp_path: Path) -> None:
    assert_one_line(dynasaur("image", "build", DOCKER_HOST=f"unix://{tmp_path}/no.sock"), 1, "No Docker engine")


def test_interrupted_server_ends_without_a_traceback(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "serve", "--library", str(tmp_path / "library")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(
        '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},'
        '"clientInfo":{"name":"test","version":"1"}}}\n'
    )
    process.stdin.flush()
    assert '"id":1' in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)
    assert "Traceback" not in said
    assert process.returncode in (0, 130)
