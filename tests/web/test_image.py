"""The image of the server itself, and the compose file that runs it.

DYNASAUR_TESTS_IMAGE names an image that was built from docker/server/Dockerfile; without, what runs it is skipped.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import httpx2
import pytest
import yaml

from dynasaur_mcp.sandbox.engine import connect
from dynasaur_mcp.serve import make_serve_parser
from dynasaur_mcp.settings import Settings

from .conftest import ERAS, TOKEN, WebServer

FOLDER = Path(__file__).parents[2] / "docker" / "server"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
SERVICE = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["server"]


def test_commands_of_the_image_and_of_compose_are_right() -> None:
    (command,) = re.findall(r'^CMD \["serve", (.*)\]$', DOCKERFILE, re.MULTILINE)
    for words in (re.findall(r'"([^"]+)"', command), SERVICE["command"][1:]):
        options = make_serve_parser().parse_args(words)
        assert (options.transport, options.host) == ("http", "0.0.0.0")
    named = re.findall(r"\bDYNASAUR_(\w+)=", DOCKERFILE)
    assert named
    assert [name for name in named if name.lower() not in Settings.model_fields] == []


def test_compose_gives_away_no_more_than_the_socket() -> None:
    assert SERVICE["read_only"] is True
    assert SERVICE["cap_drop"] == ["ALL"]
    assert SERVICE["security_opt"] == ["no-new-privileges:true"]
    assert [port for port in SERVICE["ports"] if not port.startswith("127.0.0.1:")] == []
    assert "privileged" not in SERVICE
    assert "USER 1000:1000" in DOCKERFILE


def test_context_of_the_build_holds_what_the_wheel_is_made_of() -> None:
    ignored = (FOLDER.parents[1] / ".dockerignore").read_text().split()
    for name in ("actions", "docker", "dynasaur_mcp", "pyproject.toml", "README.md", "LICENSE"):
        assert f"!{name}" in ignored


@pytest.fixture
def served(tmp_path: Path, require: Callable[[str], None]) -> Iterator[WebServer]:
    """A container of the image, confined as compose does it, on the network of the engine's machine."""
    require("docker")
    image, engine = os.environ.get("DYNASAUR_TESTS_IMAGE"), os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if not image or not engine.startswith("unix://"):
        pytest.skip("DYNASAUR_TESTS_IMAGE names no image, or the engine has no socket here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, mounted = tmp_path / "token", engine.removeprefix("unix://")
    token.write_text(TOKEN)
    token.chmod(0o644)
    options = ["--network", "host", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL"]
    options += ["--security-opt", *SERVICE["security_opt"], "--group-add", str(os.stat(mounted).st_gid)]
    options += ["--volume", f"{mounted}:/var/run/docker.sock", "--volume", f"{token}:/run/secrets/token:ro"]
    command = [word.replace("0.0.0.0", "127.0.0.1") for word in SERVICE["command"]]
    started = ["docker", "run", "--detach", *options, image, *command, "--port", str(port)]
    container = subprocess.run(started, check=True, capture_output=True, text=True).stdout.strip()
    client = connect()
    try:
        yield WebServer(None, f"http://127.0.0.1:{port}", tmp_path / "log")  # type: ignore[arg-type]
    finally:
        client.remove_container(container, force=True, v=True)
        client.close()


@pytest.mark.anyio
@pytest.mark.parametrize("era", ERAS)
async def test_server_in_a_container_runs_code_in_workers_beside_it(served: WebServer, era: str) -> None:
    with anyio.fail_after(60):
        async with served.http() as http:
            while True:
                try:
                    if (await http.get("/readyz")).status_code == 200:
                        break
                except httpx2.ConnectError:
                    await anyio.lowlevel.checkpoint()
    async with served.connect(era) as model:
        code = "import os; sorted(os.listdir('/')), os.getuid()"
        said = await model.text("run_python", code=code)
    (uid,) = re.findall(r", (\d+)\)$", said, re.MULTILINE)
    assert int(uid) >= 20_000
    assert "data" not in said


def test_how_it_is_built_is_in_the_dockerfile() -> None:
    (command,) = re.findall(r"^#   (docker build .*)$", DOCKERFILE, re.MULTILINE)
    words = shlex.split(command)
    assert (FOLDER.parents[1] / words[words.index("-f") + 1]).is_file()
