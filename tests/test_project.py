"""The project itself: lint, types, layers, what the README says, what the wheel holds."""

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, get_args

import pytest
import typer

from dynasaur_mcp import __version__
from dynasaur_mcp.clients import CLIENTS, Machine, show_entry
from dynasaur_mcp.commands import app
from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.library.reading import read_action
from dynasaur_mcp.serve import make_serve_parser
from dynasaur_mcp.settings import Settings, is_secret
from dynasaur_mcp.types import META_TOOLS
from tests.conftest import README

ROOT = Path(__file__).parents[1]
PROGRAM = "dynasaur-mcp"


def run(*command: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=options.pop("cwd", ROOT), capture_output=True, text=True, check=False, **options)


@pytest.mark.parametrize(
    "arguments",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",)],
    ids=["ruff check", "ruff format", "mypy"],
)
def test_nothing_to_complain_about(arguments: tuple[str, ...]) -> None:
    checked = run(sys.executable, "-m", *arguments)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_data_flows_one_way() -> None:
    checked = run(str(Path(sys.executable).with_name("lint-imports")))
    assert checked.returncode == 0, checked.stdout + checked.stderr


def fenced(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def readme_commands() -> list[str]:
    """Every `dynasaur-mcp …` of the README: in console blocks, and in backticks."""
    lines = [line.removeprefix("$ ") for block in fenced("console") for line in block.splitlines()]
    typed = [part.strip() for line in lines for part in line.split("&&")]
    quoted = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL))
    found = {" ".join(text.split()) for text in (*typed, *quoted)}
    return sorted(text for text in found if text.startswith(f"{PROGRAM} "))


def parse_command(text: str) -> str:
    """The command that the words name; fails when it, or an option of it, does not exist."""
    words = shlex.split(re.sub(r"\[(\w+)…\]|(\w+)…", r"\1\2", text))[1:]
    if words[0] == "serve":
        make_serve_parser().parse_args(words[1:])
        return "serve"
    command: Any = typer.main.get_command(app)
    path: list[str] = []
    while hasattr(command, "commands") and words[0] in command.commands:
        path.append(words.pop(0))
        command = command.commands[path[-1]]
        if not words:
            break
    command.make_context(" ".join(path), words)
    return " ".join(path)


def every_command() -> set[str]:
    top: Any = typer.main.get_command(app)
    names = set()
    for name, command in top.commands.items():
        names |= {f"{name} {inner}" for inner in getattr(command, "commands", {})} or {name}
    return names


@pytest.mark.parametrize("text", readme_commands())
def test_command_of_the_readme_exists(text: str) -> None:
    parse_command(text)


def test_readme_names_every_command() -> None:
    assert {parse_command(text) for text in readme_commands()} - {""} == every_command()


def test_unknown_option_of_serve_is_told_in_one_line() -> None:
    with pytest.raises(SettingsError, match="--nonsense"):
        make_serve_parser().parse_args(["--nonsense"])


def test_every_setting_is_an_option_of_serve() -> None:
    text = make_serve_parser().format_help()
    options = set(re.findall(r"^  --([\w-]+)", text, re.MULTILINE))
    named = {name.replace("_", "-") for name in Settings.model_fields if not is_secret(name)}
    assert options >= named
    assert not options & {name for name in Settings.model_fields if is_secret(name)}


def test_readme_lists_the_settings_as_they_are() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| (.*?) \|$", README.partition("\n## Settings\n")[2], re.MULTILINE)
    folders = {"library": "user data folder", "cache": "user cache folder"}
    expected = []
    for name, setting in Settings.model_fields.items():
        default = folders.get(name) or {"": "", "None": "", "False": "off"}.get(
            str(setting.default), f"`{setting.default}`"
        )
        expected.append((name, default, setting.description))
    assert rows == expected


def test_readme_lists_the_meta_tools() -> None:
    assert set(re.findall(r"^\| `(\w+)` \|", README.partition("\n## Settings\n")[0], re.MULTILINE)) == set(META_TOOLS)


def test_readme_shows_an_action_that_is_one() -> None:
    (source,) = fenced("python")
    action = read_action(source)
    assert action.examples
    assert action.tags == ("text",)


@pytest.mark.parametrize("name", CLIENTS)
def test_readme_says_how_to_configure_each_client(name: str) -> None:
    client = CLIENTS[name]
    (section,) = re.findall(rf"<summary>{client.title}</summary>\n(.*?)\n</details>", README, re.DOTALL)
    (language, text) = re.findall(r"```(json|toml)\n(.*?)```", section, re.DOTALL)[0]
    read = {"json": json.loads, "toml": tomllib.loads}[language]
    expected = show_entry(client, [PROGRAM, "serve", "--starter"])
    assert read(text) == read(expected)
    assert f"`{PROGRAM} setup {name}`" in section
    home, windows = PurePosixPath("~"), PureWindowsPath("C:/home")
    places = [str(client.file(Machine(system, home, {}))) for system in ("linux", "darwin")]
    places.append(str(client.file(Machine("win32", windows, {"APPDATA": "%APPDATA%"}))))
    assert [place for place in places if place.replace("C:\\home", "%USERPROFILE%") not in section] == []


def test_readme_names_no_file_that_is_not_there() -> None:
    named = re.findall(
        r"(?:\]\(|`|`python |\$ |src=.)((?:docker|benchmarks|docs)/[\w./]+|LICENSE|CHANGELOG\.md)", README
    )
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_registry_entry_is_what_the_registry_takes() -> None:
    """By its JSON schema of 2025-12-11, and by what it checks on publishing."""
    entry = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))
    assert re.fullmatch(r"[a-zA-Z0-9.-]+/[a-zA-Z0-9._-]+", entry["name"])
    assert f"mcp-name: {entry['name']}" in README
    assert 1 <= len(entry["description"]) <= 100
    (package,) = entry["packages"]
    assert entry["version"] == package["version"] == __version__
    assert (package["registryType"], package["identifier"], package["transport"]) == (
        "pypi",
        PROGRAM,
        {"type": "stdio"},
    )
    words = [argument["value"] for argument in package["packageArguments"] if argument["type"] == "positional"]
    assert parse_command(shlex.join([PROGRAM, *words])) == "serve"
    for variable in package["environmentVariables"]:
        setting = Settings.model_fields[variable["name"].removeprefix("DYNASAUR_").lower()]
        assert variable["description"] == setting.description
        assert variable.get("choices", []) == list(get_args(setting.annotation))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as pip builds it, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    isolation = ["--no-build-isolation"] if importlib.util.find_spec("hatchling") else []
    built = run(sys.executable, "-m", "pip", "wheel", "--no-deps", *isolation, "--wheel-dir", str(folder), str(ROOT))
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        archive.extractall(folder / "unpacked")
    return folder / "unpacked"


def test_wheel_alone_serves_a_call(wheel: Path, tmp_path: Path, require: Callable[[str], None]) -> None:
    """In an environment of its own, where the wheel is installed and what it needs is seen; no source tree is near."""
    require("jail")
    venv.create(tmp_path / "venv", symlinks=True)
    python, program = tmp_path / "venv/bin/python", tmp_path / "venv/bin/dynasaur-mcp"
    (file,) = wheel.parent.glob("*.whl")
    pip = run(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(file))
    assert pip.returncode == 0, pip.stdout + pip.stderr
    (site,) = (tmp_path / "venv/lib").glob("python*/site-packages")
    (site / "needed.pth").write_text(
        "".join(f"{path}\n" for path in map(Path, sys.path) if path.name == "site-packages")
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    own = {
        "HOME": str(tmp_path),
        "DYNASAUR_LIBRARY": str(tmp_path / "library"),
        "DYNASAUR_CACHE": str(tmp_path / "cache"),
    }
    ran = run(str(program), "doctor", "--json", "--sandbox", "jail", cwd=tmp_path, env=environment | own)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = {finding["what"]: finding["found"] for finding in json.loads(ran.stdout)}
    assert "a call over stdio took" in found["server"]
    assert str(python) in found["python"]
    where = run(
        str(python), "-P", "-c", "import dynasaur_mcp; print(dynasaur_mcp.__file__)", cwd=tmp_path, env=environment
    )
    assert Path(where.stdout.strip()).is_relative_to(site)


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_file()}


def test_wheel_holds_the_starter_the_image_and_the_data(wheel: Path) -> None:
    package = wheel / "dynasaur_mcp"
    assert names_in(package / "starter") == names_in(ROOT / "actions")
    assert names_in(package / "image") == names_in(ROOT / "docker")
    assert names_in(package / "demo_data") == names_in(ROOT / "dynasaur_mcp" / "demo_data")
    assert (package / "py.typed").is_file()
    assert list(wheel.glob("*.dist-info/licenses/LICENSE"))


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    assert {path.name for path in wheel.iterdir() if not path.name.endswith(".dist-info")} == {"dynasaur_mcp"}
    assert [str(path) for path in wheel.rglob("*") if path.name in ("tests", "__pycache__")] == []


def test_program_of_the_wheel_runs_and_finds_its_files(wheel: Path) -> None:
    code = (
        "import dynasaur_mcp.cli, dynasaur_mcp.add, dynasaur_mcp.sandbox.image as image; print(dynasaur_mcp.__file__);"
        "print(len(dynasaur_mcp.add.find_starter()), (image.image_folder() / 'Dockerfile').is_file())"
    )
    environment = {**os.environ, "PYTHONPATH": str(wheel)}
    ran = run(sys.executable, "-P", "-c", code, cwd=wheel.parent, env=environment)
    where, found = ran.stdout.splitlines()
    assert Path(where).is_relative_to(wheel), ran.stderr
    assert found == f"{len(list((ROOT / 'actions').glob('[a-z]*.py')))} True"
