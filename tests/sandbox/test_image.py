"""The image of the workers, built on a real engine."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from dynasaur_mcp.errors import SandboxUnavailable
from dynasaur_mcp.sandbox.docker import Engine
from dynasaur_mcp.sandbox.image import build_image, image_folder, image_tag, wheel_platform, worker_files

from .test_find_engine import make_image_from_nothing

pytestmark = pytest.mark.anyio


async def test_base_without_python_is_refused_by_name(engine: Engine, images: list[str]) -> None:
    make_image_from_nothing(engine, "dynasaur-test-bare:1", images)
    with pytest.raises(SandboxUnavailable, match=r"'dynasaur-test-bare:1' has no working python3"):
        await build_image("dynasaur-test-bare:1")


async def test_base_that_cannot_be_pulled_tells_how_to_make_one(engine: Engine) -> None:
    with pytest.raises(SandboxUnavailable, match=r"build_base\.sh"):
        await build_image("127.0.0.1:9/absent:1")


async def test_image_builds_on_a_base_and_says_what_it_does(engine: Engine) -> None:
    lines: list[str] = []
    before = engine.client.inspect_image(image_tag())["Id"]
    try:
        assert await build_image(engine.image, on_line=lines.append) == image_tag()
    finally:
        built = engine.client.inspect_image(image_tag())["Id"]
        engine.client.tag(before, *image_tag().split(":"))
        if built != before:
            engine.client.remove_image(built)
    assert f"Python {engine.python_version}" in lines[0]
    assert any("Successfully built" in line for line in lines)


def test_image_tag_names_version_and_contents() -> None:
    assert re.fullmatch(r"dynasaur-mcp-worker:[\w.]+-[0-9a-f]{12}", image_tag())
    assert "dynasaur_mcp/sandbox/wire.py" in worker_files()
    assert worker_files()["dynasaur_mcp/__init__.py"] == b""


def test_image_has_the_pydantic_of_the_project() -> None:
    project = tomllib.loads(Path(__file__).parents[2].joinpath("pyproject.toml").read_text())
    wanted = (image_folder() / "requirements.txt").read_text().split()
    assert set(wanted) <= set(project["project"]["dependencies"])


@pytest.mark.parametrize(
    ("machine", "libc", "platform"),
    [
        ("x86_64", "glibc 2.36", "x86_64-manylinux_2_36"),
        ("aarch64", "glibc 2.41", "aarch64-manylinux_2_40"),
        ("arm64", "glibc 2.30", "aarch64-manylinux_2_28"),
        ("x86_64", "", "x86_64-unknown-linux-musl"),
    ],
)
def test_wheels_fit_the_images_libc(machine: str, libc: str, platform: str) -> None:
    assert wheel_platform(machine, libc) == platform
