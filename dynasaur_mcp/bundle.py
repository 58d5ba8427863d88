"""An MCP bundle (`.mcpb`) of this installation: one file that a desktop client installs by a click.

Its kind is `uv`: the bundle holds our own code and the names of the packages that it needs, which the client's uv
installs for the machine at hand. Packages in it (the kind `python`) would tie it to one platform: pydantic is compiled.
"""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Iterator
from importlib.metadata import metadata, requires
from pathlib import Path

from dynasaur_mcp import __version__
from dynasaur_mcp.add import find_starter
from dynasaur_mcp.errors import DynasaurError
from dynasaur_mcp.sandbox.image import image_folder
from dynasaur_mcp.server.tools import describe_meta_tools
from dynasaur_mcp.types import JSON

PACKAGE = Path(__file__).parent
MOMENT = (1980, 1, 1, 0, 0, 0)
"""Of every file in it, so that the same code makes the same bundle."""

ENTRY = '''"""Start the server of this bundle, with nothing of the working folder in its way."""

import sys

from dynasaur_mcp.cli import main

sys.exit(main(sys.argv[1:] or ["serve", "--starter", "--transport", "stdio"]))
'''


class BundleError(DynasaurError):
    """The bundle cannot be written."""


def write_bundle(file: Path) -> None:
    """Whole or not at all; what was at `file` is replaced.

    Raises:
        BundleError
    """
    try:
        descriptor, draft = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in sorted(_files()):
                    member = zipfile.ZipInfo(name, MOMENT)
                    member.external_attr = 0o644 << 16
                    archive.writestr(member, data, zipfile.ZIP_DEFLATED)
            os.chmod(draft, 0o644)
            os.replace(draft, file)
        except BaseException:
            os.unlink(draft)
            raise
    except OSError as error:
        raise BundleError(f"{file} cannot be written: {error.strerror}.") from None


def _files() -> Iterator[tuple[str, bytes]]:
    yield "manifest.json", json.dumps(_manifest(), indent=2).encode()
    yield "pyproject.toml", _project().encode()
    yield "server.py", ENTRY.encode()
    for path in sorted(PACKAGE.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"dynasaur_mcp/{path.relative_to(PACKAGE).as_posix()}", path.read_bytes()
    if not (PACKAGE / "starter").is_dir():  # a checkout, which has these elsewhere
        for name, folder in (("starter", find_starter()[0].parent), ("image", image_folder())):
            for path in folder.iterdir():
                if path.is_file():
                    yield f"dynasaur_mcp/{name}/{path.name}", path.read_bytes()


def _manifest() -> dict[str, JSON]:
    about = metadata("dynasaur-mcp")
    start = ["run", "--project", "${__dirname}", "${__dirname}/server.py"]
    return {
        "manifest_version": "0.4",
        "name": "dynasaur-mcp",
        "display_name": "Dynasaur",
        "version": __version__,
        "description": about["Summary"],
        "author": {"name": "dynasaur-mcp contributors"},
        "license": about["License-Expression"],
        "keywords": about["Keywords"].split(","),
        "server": {"type": "uv", "entry_point": "server.py", "mcp_config": {"command": "uv", "args": start}},
        "tools": [{"name": tool.name, "description": tool.description} for tool in describe_meta_tools()],
        "tools_generated": True,
        "compatibility": {
            "platforms": ["darwin", "linux"],
            "runtimes": {"python": about["Requires-Python"]},
        },
    }


def _project() -> str:
    """What uv is to install. Not this package: it stands beside."""
    needed = [text for text in requires("dynasaur-mcp") or () if "extra ==" not in text]
    lines = "".join(f"    {json.dumps(text)},\n" for text in needed)
    return (
        f'[project]\nname = "dynasaur-mcp-bundle"\nversion = "{__version__}"\n'
        f'requires-python = "{metadata("dynasaur-mcp")["Requires-Python"]}"\ndependencies = [\n{lines}]\n'
    )
