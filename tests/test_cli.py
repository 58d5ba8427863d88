"""The command line as a user types it: help, wrong usage, what it prints, how it ends."""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dynasaur_mcp import __version__

from .conftest import ADD, PROGRAM, Run, assert_one_line, run_on_a_terminal, write


def test_version_is_printed(dynasaur: Run) -> None:
    ran = dynasaur("--version")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"dynasaur-mcp {__version__}\n", "")


def test_no_arguments_on_a_terminal_print_help() -> None:
    status, said = run_on_a_terminal()
    assert status == 0
    assert all(command in said for command in ("serve", "demo", "doctor", "actions", "image", "gc"))


def test_no_arguments_without_a_terminal_serve_until_the_input_ends(dynasaur: Run) -> None:
    ran = dynasaur()
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr


def test_server_says_in_one_line_where_it_does_not_run() -> None:
    code = "import sys; sys.platform = 'win32'; from dynasaur_mcp.cli import main; sys.exit(main(['serve']))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert_one_line(ran, 2, "WSL")


def test_what_an_action_hides_from_a_terminal_is_shown(dynasaur: Run, tmp_path: Path) -> None:
    source = 'def f() -> int:\n    """Give \\x1b[2K one."""\n    return 1  # \x1b[8mhidden \u202ereversed\n'
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "f.py").write_text(source, encoding="utf-8")
    shown = dynasaur("actions", "show", "f", FORCE_COLOR="1")
    assert shown.returncode == 0, shown.stderr
    assert r"\x1b[8mhidden \u202ereversed" in shown.stdout
    assert "\x1b[8m" not in shown.stdout


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


PRINTING = [["--help"], ["actions", "list", "--json"], ["config"], ["actions", "add", "missing.py"]]


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_output_that_nobody_reads_ends_a_command_without_a_word(tmp_path: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as pipe:
        ran = subprocess.run(
            [*PROGRAM, *arguments],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library")},
        )
    assert (ran.returncode, ran.stderr) == (1, "")


def test_pipe_that_is_closed_in_the_middle_of_the_demo_ends_it_without_a_word() -> None:
    process = subprocess.Popen([*PROGRAM, "demo"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 1


@pytest.mark.parametrize("closed", ["<&-", "</dev/null >&-", "<&- >&- 2>&-"])
def test_server_whose_streams_are_closed_ends_as_without_a_client(tmp_path: Path, closed: str) -> None:
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library")}
    for command in ("serve", ""):
        ran = subprocess.run(
            f"{shlex.join(PROGRAM)} {command} {closed}", shell=True, capture_output=True, env=environment, check=False
        )
        assert (ran.returncode, ran.stdout) == (0, b"")
        assert b"Traceback" not in ran.stderr


def test_characters_that_the_output_has_not_are_escaped(dynasaur: Run, tmp_path: Path) -> None:
    nowhere = f"unix://{tmp_path}/no.sock"
    ran = dynasaur("doctor", PYTHONIOENCODING="ascii", HOME=str(tmp_path), DOCKER_HOST=nowhere)
    assert "\\u2192 start Docker" in ran.stdout
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("arguments", PRINTING, ids=" ".join)
def test_output_that_has_no_room_is_one_line_and_exit_1(tmp_path: Path, arguments: list[str]) -> None:
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library")}
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment
        )
    assert (ran.returncode, len(ran.stderr.splitlines())) == (1, 1), ran.stderr
    assert "No space left on device" in ran.stderr


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
