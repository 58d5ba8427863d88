"""`dynasaur-mcp setup`: clients' configuration files made, changed, undone, left alone."""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, stdio_client

from dynasaur_mcp.cli import main
from dynasaur_mcp.clients import CLIENTS, Machine, find_machine, write_entry
from dynasaur_mcp.install import SERVE
from dynasaur_mcp.jsonc import find_member

FOLDERS = {name: client.file(Machine("linux", PurePosixPath("."), {})) for name, client in CLIENTS.items()}
"""Each client's file below a home on Linux."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the places below are those of Linux")


@dataclass(frozen=True, slots=True)
class Ran:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Ran]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CONFIG_HOME", "CODEX_HOME", "CLAUDE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def dynasaur(home: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> Ran:
        status = main(["setup", *arguments])
        return Ran(status, *capsys.readouterr())

    return run


def entry_in(file: Path) -> Any:
    text = file.read_text()
    if file.suffix == ".toml":
        return tomllib.loads(text).get("mcp_servers", {}).get("dynasaur")
    found = [find_member(text, (key, "dynasaur")) for key in ("mcpServers", "servers", "context_servers")]
    return next(filter(None, found), None)


@pytest.mark.parametrize("name", CLIENTS)
def test_entry_is_written_once_and_undone(dynasaur: Run, home: Path, name: str) -> None:
    file = home / FOLDERS[name]
    assert dynasaur(name).returncode == 0
    entry = entry_in(file)
    assert [entry["command"], *entry["args"]] == SERVE
    assert Path(entry["command"]).is_absolute()
    written = file.stat()
    again = dynasaur(name)
    assert "\tthere already\t" in again.stdout
    assert file.stat().st_mtime_ns == written.st_mtime_ns
    assert "\tremoved\t" in dynasaur("remove", name).stdout
    assert not file.exists(), "it was made for the entry alone"
    assert "\twas not there\t" in dynasaur("remove", name).stdout


@pytest.mark.parametrize("name", [name for name in CLIENTS if name != "codex"])
def test_other_entries_and_comments_stay_as_they_are(dynasaur: Run, home: Path, name: str) -> None:
    key = CLIENTS[name].path[0]
    text = f'// mine\n{{\n\t"{key}": {{\n\t\t"other": {{"command": "x"}} // kept\n\t}},\n\t"b": [1, 2]\n}}\n'
    file = home / FOLDERS[name]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    file.chmod(0o600)
    assert dynasaur(name).returncode == 0
    assert entry_in(file)
    kept = ("// mine\n", '\n\t\t"other": {"command": "x"}', "// kept\n", '\n\t"b": [1, 2]\n')
    assert [part for part in kept if part not in file.read_text()] == []
    assert file.with_name(file.name + ".before-dynasaur").read_text() == text
    assert [stat.S_IMODE(one.stat().st_mode) for one in file.parent.glob(f"{file.name}*")] == [0o600, 0o600]
    assert dynasaur("remove", name).returncode == 0
    assert file.read_text() == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        '# mine\nmodel = "x"  # why\n',
        '# mine\nmodel = "x"\n\n[mcp_servers.other] # kept\ncommand = "y"\n\n[tail]\na = [\n  1, # one\n]\n',
        '[mcp_servers.other]\ncommand = "y"\n\n[mid]\nb = 1\n\n[mcp_servers.third]\ncommand = "z"\n',
        "mcp_servers = {}\n",
        '[mcp_servers]\nother = { command = "y" }\n',
    ],
    ids=["empty", "no servers", "between others", "servers apart", "inline, empty", "inline"],
)
def test_codex_keeps_its_other_tables_and_comments(dynasaur: Run, home: Path, text: str) -> None:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text(text)
    ran = dynasaur("codex")
    assert ran.returncode == 0, ran.stderr
    assert entry_in(file)["args"] == ["serve", "--starter", "--transport", "stdio"]
    assert all(line in file.read_text() for line in text.splitlines() if "{" not in line)
    assert dynasaur("remove", "codex").returncode == 0
    left, before = tomllib.loads(file.read_text()), tomllib.loads(text)
    assert left == {key: value for key, value in before.items() if value}


def test_toml_of_windows_keeps_its_mark_and_line_ends(dynasaur: Run, home: Path) -> None:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    text = b'\xef\xbb\xbf# mine\r\nmodel = "x"\r\n\r\n[mcp_servers.other]\r\ncommand = "y"\r\n\r\n[tail]\r\nb = 1\r\n'
    file.write_bytes(text)
    assert "\tadded" in dynasaur("codex").stdout
    changed = file.read_bytes()
    assert b"[mcp_servers.dynasaur]\r\ncommand = " in changed
    assert changed.count(b"\n") == changed.count(b"\r\n")
    assert "\tremoved" in dynasaur("remove", "codex").stdout
    assert file.read_bytes() == text


def test_what_the_user_added_to_the_entry_stays(dynasaur: Run, home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text(
        '{"mcpServers": {"dynasaur": {"command": "/old/one", "env": {"DYNASAUR_SESSIONS": "3"} /* few */}}}'
    )
    assert "\tadded" in dynasaur("cursor").stdout
    entry = entry_in(file)
    assert (entry["command"], entry["env"]) == (SERVE[0], {"DYNASAUR_SESSIONS": "3"})
    assert "/* few */" in file.read_text()


@pytest.mark.parametrize(
    "content", [b"{", b'{"a": 01}', b"[]", b'{"mcpServers": 3}', b"\xff\xfe{\x00}\x00", b"\x00" * 1000]
)
def test_broken_file_is_refused_and_left_alone(dynasaur: Run, home: Path, content: bytes) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_bytes(content)
    for words in (["cursor"], ["remove", "cursor"]):
        ran = dynasaur(*words)
        assert ran.returncode == 1
        assert ran.stderr.startswith(f"dynasaur-mcp: Cursor: {file} ")
        assert len(ran.stderr.splitlines()) == 1
        assert "left as it is" in ran.stderr
    assert file.read_bytes() == content
    assert [path.name for path in file.parent.iterdir()] == ["mcp.json"]


def test_broken_toml_is_refused_and_left_alone(dynasaur: Run, home: Path) -> None:
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    for text in ("a = ", "mcp_servers = 3\n"):
        file.write_text(text)
        ran = dynasaur("codex")
        assert ran.returncode == 1
        assert "left as it is" in ran.stderr
        assert file.read_text() == text


def test_one_broken_file_keeps_no_other_client_from_being_set_up(dynasaur: Run, home: Path) -> None:
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").write_text("{")
    (home / ".gemini").mkdir()
    ran = dynasaur()
    assert ran.returncode == 1
    assert entry_in(home / ".gemini" / "settings.json")


def test_without_a_name_those_that_are_installed_are_set_up(dynasaur: Run, home: Path) -> None:
    for folder in (".codex", ".claude", ".config/zed"):
        (home / folder).mkdir(parents=True)
    assert dynasaur().returncode == 0
    assert {name for name in CLIENTS if (home / FOLDERS[name]).exists()} == {"codex", "claude-code", "zed"}


def test_without_any_client_the_names_are_told(dynasaur: Run) -> None:
    ran = dynasaur()
    assert ran.returncode == 1
    assert "No client was found here. Name one of claude-desktop, " in ran.stderr


@pytest.mark.anyio
async def test_entry_is_served_on_stdin_and_stdout_whatever_the_settings_say(dynasaur: Run, home: Path) -> None:
    assert dynasaur("cursor").returncode == 0
    entry = entry_in(home / ".cursor" / "mcp.json")
    config = home / "dynasaur.toml"
    config.write_text('transport = "http"\nport = 0\nlibrary = "library"\n')
    env = {**os.environ, "DYNASAUR_CONFIG": str(config), "DYNASAUR_CACHE": str(home / "cache")}
    server = StdioServerParameters(command=entry["command"], args=entry["args"], env=env)
    async with Client(stdio_client(server), read_timeout_seconds=60) as client:
        assert "run_python" in [tool.name for tool in (await client.list_tools()).tools]


def test_unknown_client_is_refused_with_the_nearest(dynasaur: Run) -> None:
    ran = dynasaur("curser")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "dynasaur-mcp: No client named 'curser'. Did you mean 'cursor'?\n"


def test_unknown_client_that_is_near_to_none_is_refused_with_all(dynasaur: Run) -> None:
    assert dynasaur("nosuch").stderr == f"dynasaur-mcp: No client named 'nosuch'. There are {', '.join(CLIENTS)}.\n"


@pytest.mark.parametrize("name", CLIENTS)
def test_print_shows_the_entry_and_writes_nothing(dynasaur: Run, home: Path, name: str) -> None:
    ran = dynasaur(name, "--print")
    shown = tomllib.loads(ran.stdout) if name == "codex" else json.loads(ran.stdout)
    assert shown[CLIENTS[name].path[0]]["dynasaur"]["args"] == ["serve", "--starter", "--transport", "stdio"]
    assert str(home / FOLDERS[name]) in ran.stderr
    assert list(home.iterdir()) == []


def test_linked_file_stays_a_link(dynasaur: Run, home: Path) -> None:
    (home / "dotfiles").mkdir()
    (home / "dotfiles" / "mcp.json").write_text("{}\n")
    (home / ".cursor").mkdir()
    (home / ".cursor" / "mcp.json").symlink_to(home / "dotfiles" / "mcp.json")
    assert dynasaur("cursor").returncode == 0
    assert (home / ".cursor" / "mcp.json").is_symlink()
    assert entry_in(home / "dotfiles" / "mcp.json")


def test_several_at_once_are_the_same_as_one(home: Path) -> None:
    file = home / ".cursor" / "mcp.json"
    file.parent.mkdir()
    file.write_text('{"mcpServers": {"other": {"command": "x"}}}')
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda _: write_entry(CLIENTS["cursor"], find_machine(), SERVE), range(20)))
    assert list(json.loads(file.read_text())["mcpServers"]) == ["other", "dynasaur"]


def test_file_that_cannot_be_written_is_one_line(dynasaur: Run, home: Path) -> None:
    (home / ".cursor").write_text("no folder")
    ran = dynasaur("cursor")
    assert ran.returncode == 1
    assert len(ran.stderr.splitlines()) == 1
    assert "cannot be written" in ran.stderr
