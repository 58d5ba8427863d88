"""The configuration files of MCP clients: where they are, and this server's entry in them.

Formats and places are those that each client documents for its user's own servers. A client whose format depends on its
version (OpenCode) is not here: a wrong guess would break its configuration.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from dynasaur_mcp.errors import DynasaurError
from dynasaur_mcp.jsonc import JsonError, find_member, read, remove_member, set_member

SERVER = "dynasaur"
"""The name of the entry."""
BOM = "\ufeff"
"""What editors on Windows may begin a file with."""
_LONE_NEWLINE = re.compile(r"(?<!\r)\n")
Platform = Literal["linux", "darwin", "win32"]
Entry = dict[str, Any]


class ClientError(DynasaurError):
    """A client's configuration cannot be read or changed; it is as it was."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, as far as it decides where files are."""

    platform: Platform
    home: PurePath
    environment: Mapping[str, str]

    def folder(self, variable: str, *default: str) -> PurePath:
        given = self.environment.get(variable)
        return type(self.home)(given) if given else self.home.joinpath(*default)

    @property
    def applications(self) -> PurePath:
        """Where desktop programs keep their settings."""
        match self.platform:
            case "darwin":
                return self.home / "Library" / "Application Support"
            case "win32":
                return self.folder("APPDATA", "AppData", "Roaming")
        return self.folder("XDG_CONFIG_HOME", ".config")


@dataclass(frozen=True, slots=True)
class Client:
    """An MCP client with a configuration file that can be written."""

    name: str
    title: str
    file: Callable[[Machine], PurePath]
    path: tuple[str, ...] = ("mcpServers",)
    """Where in the file servers stand."""
    says_stdio: bool = False
    """Whether an entry has to name its transport."""
    is_toml: bool = False
    sign: Callable[[Machine], PurePath] | None = None
    """The folder that is there where the client is installed, if not that of the file."""

    def is_installed(self, machine: Machine) -> bool:
        file = Path(self.file(machine))
        return file.exists() or Path(self.sign(machine) if self.sign else file.parent).is_dir()

    def entry(self, command: Sequence[str]) -> Entry:
        stdio = {"type": "stdio"} if self.says_stdio else {}
        return {**stdio, "command": command[0], "args": list(command[1:])}


def _zed(at: Machine) -> PurePath:
    if at.platform == "win32":
        return at.applications / "Zed" / "settings.json"
    return (at.home / ".config" if at.platform == "darwin" else at.applications) / "zed" / "settings.json"


CLIENTS = {
    client.name: client
    for client in (
        Client("claude-desktop", "Claude Desktop", lambda at: at.applications / "Claude/claude_desktop_config.json"),
        Client(
            "claude-code",
            "Claude Code",
            lambda at: at.folder("CLAUDE_CONFIG_DIR") / ".claude.json",
            says_stdio=True,
            sign=lambda at: at.folder("CLAUDE_CONFIG_DIR", ".claude"),
        ),
        Client("vscode", "VS Code", lambda at: at.applications / "Code/User/mcp.json", ("servers",), says_stdio=True),
        Client("cursor", "Cursor", lambda at: at.home / ".cursor/mcp.json"),
        Client(
            "codex",
            "Codex",
            lambda at: at.folder("CODEX_HOME", ".codex") / "config.toml",
            ("mcp_servers",),
            is_toml=True,
        ),
        Client("gemini", "Gemini CLI", lambda at: at.home / ".gemini/settings.json"),
        Client("windsurf", "Windsurf", lambda at: at.home / ".codeium/windsurf/mcp_config.json"),
        Client("zed", "Zed", _zed, ("context_servers",)),
    )
}


def find_machine() -> Machine:
    """This machine, for this user."""
    known: dict[str, Platform] = {"darwin": "darwin", "win32": "win32"}
    return Machine(known.get(sys.platform, "linux"), Path.home(), os.environ)


def server_command(*options: str) -> list[str]:
    """What a client is to start, by absolute paths: it knows neither this shell's PATH nor this environment."""
    program = Path(sys.executable).with_name("dynasaur-mcp.exe" if sys.platform == "win32" else "dynasaur-mcp")
    # -P: clients start servers in folders that are open in them, whose modules must not become the server's.
    start = [str(program)] if program.is_file() else [sys.executable, "-P", "-m", "dynasaur_mcp"]
    return [*start, "serve", *options]


def show_entry(client: Client, command: Sequence[str]) -> str:
    """What would stand in an empty file."""
    return _change(client, "", client.entry(command))


def read_entry(client: Client, machine: Machine) -> Entry | None:
    """The server's entry in a client's file; None where there is none.

    Raises:
        ClientError: the file cannot be read.
    """
    file = Path(client.file(machine))
    found: Any = _parse(client, file, _read(file) or "")
    for name in (*client.path, SERVER):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def write_entry(client: Client, machine: Machine, command: Sequence[str]) -> bool:
    """Put the server into a client's file; whether that changed it. What else an entry has is kept.

    Raises:
        ClientError: the file cannot be read or written; it is as it was.
    """
    return _rewrite(client, machine, client.entry(command))


def remove_entry(client: Client, machine: Machine) -> bool:
    """Take the server out of a client's file; whether it was there.

    Raises:
        ClientError: the file cannot be read or written; it is as it was.
    """
    return _rewrite(client, machine, None)


def _rewrite(client: Client, machine: Machine, entry: Entry | None) -> bool:
    file = Path(client.file(machine)).resolve()  # a link, as those who keep their dotfiles elsewhere have, stays one
    old = _read(file)
    if old is None and entry is None:
        return False
    before = _parse(client, file, old or "")
    try:
        new = _change(client, old or "", entry)
    except JsonError as error:
        raise ClientError(f"{file} is left as it is: {error}.") from None
    if new == (old or ""):
        return False
    # An edit of text that someone depends on is checked before it counts.
    if _without(client, _parse(client, file, new)) != _without(client, before):
        raise ClientError(f"{file} is left as it is: it cannot be changed safely. `--print` shows what to add.")
    try:
        if entry is None and not new.strip("{} \t\r\n") and not _backup(file).exists():
            file.unlink()  # it was made for the entry
        else:
            _write(file, old, new)
    except OSError as error:
        raise ClientError(f"{file} cannot be written: {error.strerror or error}.") from None
    return True


def _parse(client: Client, file: Path, text: str) -> dict[str, Any]:
    try:
        if client.is_toml:
            found: Any = tomlkit.parse(text.removeprefix(BOM)).unwrap()
        else:
            found = read(text) if text.strip(f"{BOM} \t\r\n") else {}
    except (JsonError, TOMLKitError) as error:
        kind = "TOML" if client.is_toml else "JSON"
        raise ClientError(f"{file} is no {kind}, so it is left as it is: {error}. Mend it, then try again.") from None
    if not isinstance(found, dict):
        raise ClientError(f"{file} is left as it is: it holds no object.")
    return found


def _change(client: Client, text: str, entry: Entry | None) -> str:
    """The text with the entry, or without it.

    Raises:
        JsonError: what should hold the servers does not.
    """
    if client.is_toml:
        plain = text.removeprefix(BOM)
        new = _change_toml(client, plain, entry)
        if "\r\n" in text and not _LONE_NEWLINE.search(text):
            new = _LONE_NEWLINE.sub("\r\n", new)
        return text[: len(text) - len(plain)] + new
    text = text if text.strip(f"{BOM} \t\r\n") else "{}\n"
    if entry is None:
        return remove_member(text, (*client.path, SERVER))
    if not isinstance(find_member(text, (*client.path, SERVER)), dict):
        return set_member(text, (*client.path, SERVER), entry)
    for name, value in entry.items():
        text = set_member(text, (*client.path, SERVER, name), value)
    return text


def _change_toml(client: Client, text: str, entry: Entry | None) -> str:
    document = tomlkit.parse(text)
    (name,) = client.path
    servers: Any = document.get(name)
    if servers is not None and not isinstance(servers, dict):
        raise JsonError(f"{name!r} is no table")
    if entry is None:
        if servers is None or SERVER not in servers:
            return text
        del servers[SERVER]
        if not servers:
            del document[name]
        return tomlkit.dumps(document)
    if servers is None:
        servers = document[name] = tomlkit.table(is_super_table=True)
    if not isinstance(servers.get(SERVER), dict):
        if isinstance(servers, InlineTable):
            servers[SERVER] = tomlkit.inline_table()
        else:
            servers[SERVER] = tomlkit.table()
    for key, value in entry.items():
        if servers[SERVER].get(key) != value:
            servers[SERVER][key] = value
    return tomlkit.dumps(document)


def _without(client: Client, whole: dict[str, Any]) -> dict[str, Any]:
    """All but the entry, and but what held nothing else."""
    (name,) = client.path
    servers = whole.get(name)
    others = {key: value for key, value in servers.items() if key != SERVER} if isinstance(servers, dict) else servers
    rest = {key: value for key, value in whole.items() if key != name}
    return rest | ({name: others} if others else {})


def _read(file: Path) -> str | None:
    try:
        return file.read_bytes().decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ClientError(f"{file} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise ClientError(f"{file} is left as it is: it is not UTF-8.") from None


def _write(file: Path, old: str | None, new: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if old is not None:
        _put(_backup(file), old, like=file)
    _put(file, new, like=file if old is not None else None)


def _backup(file: Path) -> Path:
    return file.with_name(f"{file.name}.before-dynasaur")


def _put(file: Path, text: str, like: Path | None) -> None:
    """Whole or not at all, and readable by no more people than before."""
    descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(text.encode())
            stream.flush()
            os.fsync(stream.fileno())
        if like:
            shutil.copymode(like, draft)
        os.replace(draft, file)
    except BaseException:
        os.unlink(draft)
        raise
