"""`dynasaur-mcp bundle`: an `.mcpb` file that holds all it needs, and works where it is unpacked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters, stdio_client
from packaging.requirements import Requirement

from dynasaur_mcp import __version__
from dynasaur_mcp.cli import main
from dynasaur_mcp.types import META_TOOLS

ROOT = Path(__file__).parents[1]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    file = tmp_path / "made.mcpb"
    assert main(["bundle", str(file)]) == 0
    return file


@pytest.fixture
def unpacked(bundle: Path) -> Path:
    with zipfile.ZipFile(bundle) as archive:
        archive.extractall(bundle.parent / "unpacked")
    return bundle.parent / "unpacked"


def test_bundle_holds_the_code_the_starter_and_the_image(unpacked: Path) -> None:
    for ours, theirs in (("dynasaur_mcp", "."), ("actions", "starter"), ("docker", "image")):
        found = (ROOT / ours).glob("*" if ours == "docker" else "**/*")
        files = [path.relative_to(ROOT / ours) for path in found if path.is_file()]
        expected = [path for path in files if "__pycache__" not in path.parts]
        assert expected
        assert [path for path in expected if not (unpacked / "dynasaur_mcp" / theirs / path).is_file()] == []
    assert list(unpacked.rglob("__pycache__")) == []


def test_manifest_says_what_the_server_is(unpacked: Path) -> None:
    manifest = json.loads((unpacked / "manifest.json").read_text())
    assert manifest["version"] == __version__
    assert [tool["name"] for tool in manifest["tools"]] == list(META_TOOLS)
    assert (unpacked / manifest["server"]["entry_point"]).is_file()
    project = tomllib.loads((unpacked / "pyproject.toml").read_text())["project"]
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == declared["requires-python"]
    assert {"mcp", "typer", "docker", "uv"} <= {Requirement(text).name for text in project["dependencies"]}
    assert not any("extra" in text for text in project["dependencies"])


def test_official_tool_finds_the_bundle_right(unpacked: Path, tmp_path: Path) -> None:
    if not (mcpb := shutil.which("mcpb")):
        pytest.skip("npm install -g @anthropic-ai/mcpb")
    for command in (
        ["validate", str(unpacked / "manifest.json")],
        ["pack", str(unpacked), str(tmp_path / "packed.mcpb")],
    ):
        ran = subprocess.run([mcpb, *command], capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.anyio
async def test_server_of_the_bundle_answers_a_call(
    unpacked: Path, tmp_path: Path, require: Callable[[str], None]
) -> None:
    require("jail")
    manifest = json.loads((unpacked / "manifest.json").read_text())
    uv, run, project, folder, script, *rest = [
        text.replace("${__dirname}", str(unpacked))
        for text in (manifest["server"]["mcp_config"]["command"], *manifest["server"]["mcp_config"]["args"])
    ]
    assert (uv, run, project, folder, rest) == ("uv", "run", "--project", str(unpacked), [])
    # What uv would install is what these tests run on.
    environment = {**os.environ, "DYNASAUR_LIBRARY": str(tmp_path / "library"), "DYNASAUR_SANDBOX": "jail"}
    server = StdioServerParameters(command=sys.executable, args=["-c", START, script], env=environment, cwd=tmp_path)
    async with Client(stdio_client(server)) as client:
        answer = await client.call_tool("run_python", {"code": "6 * 7"})
    assert "42" in "".join(part.text for part in answer.content if part.type == "text")
    assert (tmp_path / "where").read_text() == str(unpacked / "dynasaur_mcp" / "__init__.py")


START = """
import os, runpy, sys
sys.path[0], sys.argv = os.path.dirname(sys.argv[1]), sys.argv[1:]
import dynasaur_mcp
open("where", "w").write(dynasaur_mcp.__file__)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_same_code_makes_the_same_bundle(bundle: Path) -> None:
    before = bundle.read_bytes()
    assert main(["bundle", str(bundle)]) == 0
    assert bundle.read_bytes() == before


def test_bundle_that_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundle", str(tmp_path / "no" / "such.mcpb")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    (tmp_path / "folder.mcpb").mkdir()
    assert main(["bundle", str(tmp_path / "folder.mcpb")]) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "folder.mcpb"]
