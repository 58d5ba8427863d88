"""The server as a process: how fast it can say what it has, and what is left when it or its client dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from dynasaur_mcp.errors import SandboxUnavailable

from .conftest import environment
from .raw import INITIALIZE, RawServer, open_raw


def descendants(server: RawServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def containers_of(server_words: str, **filters: str) -> set[str]:
    from dynasaur_mcp.sandbox.engine import connect

    client = connect()
    try:
        found = client.containers(all=True, filters=filters)
        return {name for one in found for name in one["Names"] if server_words in name}
    finally:
        client.close()


def test_killed_server_leaves_no_process_of_its_jails(library: Path, require: Callable[[str], None]) -> None:
    require("jail")
    with open_raw(environment(library, "jail")) as server:
        server.call("run_python", 2, code="import os\nx = 1")
        server.send("tools/call", {"name": "run_python", "arguments": {"code": "while True: pass"}}, 3)
        server.call("search_actions", 4, query="anything")
        processes = descendants(server)
        assert processes
        server.process.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []


def test_killed_server_leaves_no_container(library: Path, require: Callable[[str], None]) -> None:
    require("docker")
    before = containers_of("dynasaur-")
    with open_raw(environment(library, "docker")) as server:
        server.call("run_python", 2, code="x = 1")
        ours = containers_of("dynasaur-") - before
        assert ours
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        deadline = time.monotonic() + 10
        # One that was made and never started ends by nothing of its own: that one is the next start's.
        while left := ours & containers_of("dynasaur-") - containers_of("dynasaur-", status="created"):
            assert time.monotonic() < deadline, left
    with open_raw(environment(library, "docker")) as server:
        server.call("run_python", 2, code="x = 1")
        assert not ours & containers_of("dynasaur-")


def test_hundred_sessions_of_a_killed_server_are_gone_soon_or_at_the_next_start(library: Path, sandbox: str) -> None:
    env = environment(library, sandbox, sessions=100, wait_seconds=500)
    with open_raw(env) as server:
        assert server.process.stdout
        waiting = set(range(100))
        for number in waiting:
            arguments = {"code": "1", "session": f"s{number}"}
            server.send("tools/call", {"name": "run_python", "arguments": arguments}, number)
        while waiting:
            answer = json.loads(server.process.stdout.readline())
            assert not answer.get("result", {}).get("isError"), answer
            waiting.discard(answer.get("id"))
        processes = descendants(server)
        left = containers_of_server(library)
        assert len(left if sandbox == "docker" else processes) >= 100
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []
    if sandbox == "docker":
        deadline = time.monotonic() + 5
        while containers_of_server(library) and time.monotonic() < deadline:
            pass
    with open_raw(env) as server:
        server.call("run_python", 1, code="1")
        assert len(containers_of_server(library)) <= (2 if sandbox == "docker" else 0)


def containers_of_server(library: Path) -> list[str]:
    """Containers of all servers of the library's cache folder."""
    from dynasaur_mcp.sandbox.docker import HOME_LABEL
    from dynasaur_mcp.sandbox.engine import connect
    from dynasaur_mcp.sandbox.presence import Presence

    with contextlib.suppress(SandboxUnavailable), contextlib.closing(connect()) as client:
        home = Presence(library.parent / "cache" / "servers").home
        return [one["Id"] for one in client.containers(all=True, filters={"label": f"{HOME_LABEL}={home}"})]
    return []


def test_server_whose_client_goes_in_the_middle_of_a_call_ends_with_all_its_own(
    library: Path, require: Callable[[str], None]
) -> None:
    require("jail")
    with open_raw(environment(library, "jail")) as server:
        server.call("run_python", 2, code="x = 1")
        processes = descendants(server)
        server.send("tools/call", {"name": "run_python", "arguments": {"code": "while True: pass"}}, 3)
        assert server.process.stdin
        server.process.stdin.close()
        assert server.process.wait(timeout=15) == 0
        _, alive = psutil.wait_procs(processes, timeout=5)
        assert alive == []


def test_tools_are_listed_where_nothing_can_run_and_calls_say_what_to_install(library: Path) -> None:
    env = environment(library, "docker") | {"DOCKER_HOST": f"unix://{library}/no.sock"}
    with open_raw(env) as server:
        listed = server.request("tools/list", number=2)["result"]["tools"]
        assert len(listed) == 6
        result = server.call("run_python", 3, code="1")["result"]
        assert result["isError"]
        assert "No Docker engine answers" in result["content"][0]["text"]


def test_listing_touches_neither_docker_nor_the_model_nor_the_sandbox(library: Path) -> None:
    code = """
import os, sys
from dynasaur_mcp.cli import main
import dynasaur_mcp.app as app
async def nothing(*_): pass
app._work_behind = nothing
os._exit = lambda status: None
main(["serve"])
heavy = {"docker", "griffe", "sentence_transformers", "torch", "numpy", "typer", "rich", "dynasaur_mcp.sandbox.jail"}
heavy |= {"jwt", "prometheus_client", "dynasaur_mcp.reach", "dynasaur_mcp.server.web", "dynasaur_mcp.server.door"}
print(sorted(heavy & set(sys.modules)), file=sys.stderr)
"""
    messages = [
        {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE},
        {"jsonrpc": "2.0", "method": "notifications/initialized"},
        {"jsonrpc": "2.0", "id": 2, "method": "tools/list"},
    ]
    given = "".join(json.dumps(message) + "\n" for message in messages)
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=given,
        capture_output=True,
        text=True,
        env=environment(library, "jail"),
        timeout=60,
        check=True,
    )
    assert '"id":2' in done.stdout
    assert done.stderr.splitlines()[-1] == "[]"


def test_read_only_library_is_served_until_it_can_be_written_and_a_definition_says_so(
    library: Path, require: Callable[[str], None]
) -> None:
    require("jail")
    from .test_bad_input import GOOD, renamed

    with open_raw(environment(library, "jail")) as server:
        assert not server.call("define_action", 2, source=GOOD)["result"].get("isError")
    if os.geteuid() == 0:
        subprocess.run(["mount", "--bind", str(library), str(library)], check=True)
        subprocess.run(["mount", "-o", "remount,ro,bind", str(library)], check=True)
    else:
        library.chmod(0o555)
    try:
        with open_raw(environment(library, "jail")) as server:
            value = server.call("execute_action", 2, name="triple", arguments={"value": 2})["result"]
            assert value.get("structuredContent") == {"result": 6}, value
            refused = server.call("define_action", 3, source=renamed("other"), anyway=True)["result"]
            assert refused["isError"]
            assert "cannot be written" in refused["content"][0]["text"]
            if os.geteuid() == 0:
                subprocess.run(["mount", "-o", "remount,rw,bind", str(library)], check=True)
            else:
                library.chmod(0o755)
            kept = server.call("define_action", 4, source=renamed("other"), anyway=True)["result"]
            assert not kept.get("isError"), kept
        assert (library / "other.py").exists()
    finally:
        if os.geteuid() == 0:
            subprocess.run(["umount", str(library)], check=True)
        else:
            library.chmod(0o755)


def test_jail_starts_from_an_environment_that_has_a_copy_of_python(
    require: Callable[[str], None], library: Path, tmp_path: Path
) -> None:
    require("jail")
    copied = tmp_path / "copied"
    subprocess.run([sys.executable, "-m", "venv", "--copies", "--without-pip", str(copied)], check=True)
    python = copied / "bin" / "python"
    assert not python.is_symlink()
    file = tmp_path / "double.py"
    file.write_text(
        'def double(x: int) -> int:\n    """Double.\n\n    >>> double(2)\n    4\n    """\n    return 2 * x\n'
    )
    env = environment(library, "jail") | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [str(python), "-m", "dynasaur_mcp", "actions", "test", str(file)]
    done = subprocess.run(command, env=env, cwd=copied, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1/1 tests" in done.stdout
