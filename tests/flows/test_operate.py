"""`ps`, `sessions` and `files` against servers that run, as a person types them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import environment
from .test_processes import RawServer, open_raw

ONE_IS_ENOUGH = pytest.mark.parametrize("sandbox", ["jail"], indirect=True)
"""Of what does not depend on the sandbox."""


class Shell:
    """A terminal in which this library's servers are the user's."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dynasaur_mcp", *words],
            capture_output=True,
            text=True,
            env=self.env,
            check=False,
            timeout=120,
        )

    def rows(self, *words: str) -> list[list[str]]:
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return [line.split("\t") for line in done.stdout.splitlines()]

    def fail(self, *words: str) -> str:
        done = self.run(*words)
        assert done.returncode == 1, done
        assert "Traceback" not in done.stderr
        return done.stderr


@pytest.fixture
def server(library: Path, sandbox: str) -> Iterator[RawServer]:
    """A server with session `x`, ready for commands."""
    with open_raw(environment(library, sandbox)) as server:
        server.request("tools/list", number=2)
        server.call("run_python", 3, code="n = 1", session="x")
        socket_folder = library.parent / "cache" / "servers"
        while not any(map(listens, socket_folder.glob("*.sock"))):
            pass
        yield server


@contextlib.contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    """To a socket whose path may be longer than the system takes."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(f"/proc/self/fd/{folder}/{path.name}")
            yield stream
    finally:
        os.close(folder)


def listens(path: Path) -> bool:
    """It is there a moment before."""
    with contextlib.suppress(ConnectionRefusedError), connected(path):
        return True
    return False


@pytest.fixture
def shell(library: Path, sandbox: str) -> Shell:
    return Shell(environment(library, sandbox))


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


def test_files_and_folders_go_in_and_come_out_as_they_were(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    given = tmp_path / "given"
    (given / "inner").mkdir(parents=True)
    big = os.urandom(9 << 20)
    (given / "big.bin").write_bytes(big)
    (given / "empty").touch()
    (given / "inner" / "ümlaut\n?#.txt").write_text("hé")
    (given / "link").symlink_to("/etc/passwd")
    os.mkfifo(given / "pipe")
    done = shell.run("files", "put", str(given), str(given / "big.bin"), "--to", "data", "--session", "x")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("is no regular file: left out") == 2
    code = "import glob\nlen(open('data/big.bin', 'rb').read()), sorted(glob.glob('data/given/**', recursive=True))[1:]"
    text = server.call("run_python", 6, code=code, session="x")["result"]["content"][0]["text"]
    assert str(len(big)) in text
    assert "data/given/inner/ümlaut\\n?#.txt" in text
    assert "link" not in text
    out = tmp_path / "out"
    out.mkdir()
    shell.rows("files", "get", "data", str(out), "--session", "x")
    assert (out / "data" / "big.bin").read_bytes() == big
    assert (out / "data" / "given" / "big.bin").read_bytes() == big
    assert (out / "data" / "given" / "inner" / "ümlaut\n?#.txt").read_text() == "hé"
    assert (out / "data" / "given" / "empty").read_bytes() == b""
    shell.rows("files", "get", "data/given/empty", str(out / "named"), "--session", "x")
    assert (out / "named").read_bytes() == b""


@ONE_IS_ENOUGH
def test_folder_comes_out_without_what_is_no_file_and_says_so(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    code = "import os\nos.mkdir('d')\nos.symlink('/etc/passwd', 'd/link')\nopen('d/f', 'w').write('x')"
    server.call("run_python", 6, code=code, session="x")
    done = shell.run("files", "get", "d", str(tmp_path / "out"), "--session", "x")
    assert (done.returncode, done.stderr) == (0, "'d/link' is no regular file: left out\n")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["f"]


@ONE_IS_ENOUGH
def test_folder_with_more_than_is_listed_says_what_was_left(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    code = "import os\nos.mkdir('d')\nfor n in range(5001): os.symlink('x', f'd/{n}')"
    server.call("run_python", 6, code=code, session="x")
    done = shell.run("files", "get", "d", str(tmp_path / "out"), "--session", "x")
    assert done.stderr.splitlines()[-1] == "'d' has 5001 entries: only the first 5000 were taken"


@ONE_IS_ENOUGH
def test_file_that_cannot_be_asked_for_keeps_no_other_from_coming_out(
    server: RawServer, shell: Shell, tmp_path: Path
) -> None:
    code = "import os\nos.mkdir('d')\nfor n in (b'a', b'b\\xff', b'c'): open(b'd/' + n, 'wb').write(n)"
    server.call("run_python", 6, code=code, session="x")
    done = shell.run("files", "get", "d", str(tmp_path / "out"), "--session", "x")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a", "c"]
    assert done.stderr == "'d/b\ufffd': there is no such file in the workspace. It is left out.\n"
    assert done.returncode == 0


@ONE_IS_ENOUGH
def test_file_put_before_the_first_call_is_there_in_it(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    shell.rows("files", "put", str(tmp_path / "a.txt"))
    text = server.call("run_python", 7, code="open('a.txt').read()")["result"]["content"][0]["text"]
    assert text.startswith("Value:\n'hello'")


def test_nothing_outside_the_workspace_comes_out(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    links = {"link": "/etc/passwd", "inside/link": "/proc/1/environ", "folder_link": "/etc"}
    code = "import os\nos.mkdir('inside')\n" + "".join(f"os.symlink({to!r}, {name!r})\n" for name, to in links.items())
    server.call("run_python", 8, code=code, session="x")
    for path in ("../etc/passwd", "/etc/passwd", "nothing", "folder_link/passwd", *links):
        said = shell.fail("files", "get", path, str(tmp_path / "out"), "--session", "x")
        assert repr(path) in said
        assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out*")) == []


def test_file_that_does_not_fit_is_refused_and_leaves_nothing(
    library: Path, shell: Shell, sandbox: str, tmp_path: Path
) -> None:
    (tmp_path / "big").write_bytes(bytes(6 << 20))
    with open_raw(environment(library, sandbox, workspace_bytes=4 << 20)) as server:
        server.request("tools/list", number=2)
        server.call("run_python", 3, code="n = 1", session="x")
        while shell.run("sessions", "list").stderr:
            pass
        shell.fail("files", "put", str(tmp_path / "big"), "--session", "x")
        code = "import os\nos.listdir('.'), open('f', 'wb').write(bytes(3 << 20))"
        text = server.call("run_python", 9, code=code, session="x")["result"]["content"][0]["text"]
        assert text.startswith(f"Value:\n([], {3 << 20})")


@ONE_IS_ENOUGH
def test_file_that_is_not_there_is_named(server: RawServer, shell: Shell, tmp_path: Path) -> None:
    assert "There is no file" in shell.fail("files", "put", str(tmp_path / "nope"), "--session", "x")


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
