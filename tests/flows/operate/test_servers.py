"""`ps`, `sessions` and `gc` against servers that run, were killed, or never were."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.flows.conftest import environment
from tests.flows.raw import RawServer, open_raw

from .conftest import ONE_IS_ENOUGH, Shell, connected


def test_workers_of_a_running_server_are_listed(server: RawServer, shell: Shell, sandbox: str) -> None:
    rows = shell.rows("ps")
    held = [row for row in rows if row[3] == "x"]
    assert [row[:2] for row in held] == [[str(server.process.pid), sandbox]]
    assert held[0][4] == "local"
    assert held[0][5].startswith("idle ")
    assert held[0][6].endswith(" MiB")
    told = json.loads(shell.run("ps", "--json").stdout)
    (one,) = [one for each in told["servers"] for one in each["held"] if each["pid"] == server.process.pid]
    assert (one["name"], one["principal"], one["is_busy"]) == ("x", "local", False)
    assert one["memory_bytes"] > 1 << 20


def test_sessions_are_listed_and_closed(server: RawServer, shell: Shell, library: Path) -> None:
    (row,) = shell.rows("sessions", "list")
    assert (row[0], row[1], row[4], row[5]) == ("x", "local", str(server.process.pid), str(library))
    (told,) = json.loads(shell.run("sessions", "list", "--json").stdout)
    assert (told["name"], told["server"], told["library"]) == ("x", server.process.pid, str(library))
    assert "No session 'y' of 'local'" in shell.fail("sessions", "close", "y")
    assert shell.rows("sessions", "close", "x") == [["Session 'x' is closed."]]
    assert shell.run("sessions", "list").stderr == "No session is open.\n"
    text = server.call("run_python", 4, code="'n' in globals()", session="x")["result"]["content"][0]["text"]
    assert text.startswith("Value:\nFalse")
    assert "the one before was closed" in text


@ONE_IS_ENOUGH
def test_session_at_work_is_listed_as_such(server: RawServer, shell: Shell) -> None:
    server.send("tools/call", {"name": "run_python", "arguments": {"code": "while True: pass", "session": "x"}}, 5)
    while (row := shell.rows("sessions", "list")[0])[2] != "at work":
        pass
    assert row[3] == ""


@ONE_IS_ENOUGH
def test_no_server_is_said_in_one_line(shell: Shell) -> None:
    assert shell.run("ps").stderr == "No server runs.\n"
    assert shell.run("sessions", "list").stderr == "No server runs.\n"
    assert shell.fail("sessions", "close", "x") == "dynasaur-mcp: No server runs.\n"
    assert shell.fail("files", "get", "x") == "dynasaur-mcp: No server runs.\n"


@ONE_IS_ENOUGH
def test_one_of_several_servers_is_chosen_by_its_process_id(
    server: RawServer, shell: Shell, library: Path, sandbox: str
) -> None:
    with open_raw(environment(library, sandbox)) as other:
        other.request("tools/list", number=2)
        other.call("run_python", 3, code="n = 2", session="x")
        while len(shell.rows("sessions", "list")) < 2:
            pass
        assert "More than one server" in shell.fail("sessions", "close", "x")
        shell.rows("sessions", "close", "x", "--server", str(other.process.pid))
        (row,) = shell.rows("sessions", "list")
        assert row[4] == str(server.process.pid)


@ONE_IS_ENOUGH
def test_file_for_a_session_too_many_is_refused_with_the_command_that_makes_room(
    library: Path, shell: Shell, sandbox: str, tmp_path: Path
) -> None:
    (tmp_path / "a").touch()
    with open_raw(environment(library, sandbox, sessions=1)) as server:
        server.request("tools/list", number=2)
        server.call("run_python", 3, code="1", session="x")
        told = shell.fail("files", "put", str(tmp_path / "a"), "--session", "y")
    assert "All 1 sessions are in use" in told
    assert "`dynasaur-mcp sessions close`" in told
    assert "manage_action" not in told


@ONE_IS_ENOUGH
def test_killed_server_is_listed_no_more(server: RawServer, shell: Shell) -> None:
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    assert shell.run("sessions", "list").stderr == "No server runs.\n"


@ONE_IS_ENOUGH
def test_socket_of_a_server_is_for_its_user_only(server: RawServer, library: Path) -> None:
    (path,) = (library.parent / "cache" / "servers").glob("*.sock")
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_mode & 0o077 == 0


@ONE_IS_ENOUGH
def test_nonsense_on_the_socket_harms_nobody(server: RawServer, shell: Shell, library: Path) -> None:
    (path,) = (library.parent / "cache" / "servers").glob("*.sock")
    for nonsense in (
        b"\xff" * 100,
        b"",
        b"\0\0\0\2{}",
        b"\0\0\0\x0c" + b'{"op": "no"}',
        b"\0\0\0\2[]",
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        with connected(path) as stream:
            stream.sendall(nonsense)
    assert len(shell.rows("sessions", "list")) == 1


@ONE_IS_ENOUGH
def test_leftovers_of_a_killed_server_are_listed_and_removed(
    library: Path, shell: Shell, require: Callable[[str], None]
) -> None:
    require("docker")
    from dynasaur_mcp.sandbox.docker import HOME_LABEL, SERVER_LABEL, image_tag
    from dynasaur_mcp.sandbox.engine import connect
    from dynasaur_mcp.sandbox.presence import Presence

    presence = Presence(library.parent / "cache" / "servers")
    client = connect()
    labels = {SERVER_LABEL: "dead", HOME_LABEL: presence.home}
    container = client.create_container_from_config(
        {"Image": image_tag(), "Labels": labels}, f"dynasaur-left-{os.getpid()}"
    )
    try:
        assert [row[:3] for row in shell.rows("ps")] == [["gone", "docker", f"dynasaur-left-{os.getpid()}"]]
        assert shell.rows("gc")[0][1] == "1"
        assert shell.run("ps").stderr == "No server runs.\n"
    finally:
        if client.containers(all=True, filters={"id": container["Id"]}):
            client.remove_container(container["Id"], force=True)
        client.close()


@ONE_IS_ENOUGH
def test_groups_of_a_killed_server_go_with_the_next_one_or_gc_and_those_of_others_stay(
    library: Path, shell: Shell, require: Callable[[str], None]
) -> None:
    require("jail")
    from dynasaur_mcp.sandbox.cgroup import find_place
    from dynasaur_mcp.sandbox.presence import Presence

    place = find_place()
    if not place.folders:
        pytest.skip(place.why_none)

    def groups() -> set[str]:
        prefix = f"dynasaur-{Presence(library.parent / 'cache' / 'servers').home}-"
        return {path.name for folder in place.folders.values() for path in folder.glob(f"{prefix}*")}

    def leave() -> set[str]:
        before = groups()
        with open_raw(env) as server:
            server.call("run_python", 2, code="1")
            return groups() - before

    env = environment(library, "jail", warm_workers=0)
    with open_raw(env) as other:
        other.call("run_python", 2, code="n = 1")
        others = groups()
        first = leave()
        assert first
        assert first <= groups()
        second = leave()
        assert second
        assert groups() == others | second
        assert [row[:3] for row in shell.rows("ps") if row[0] == "gone"] == [["gone", "jail", *second]]
        assert shell.rows("gc")[1][1] == "1"
        assert groups() == others
        assert other.call("run_python", 3, code="n")["result"]["content"][0]["text"].startswith("Value:\n1")
