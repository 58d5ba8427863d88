"""The demo, as the README has a new user type it first."""

import os
import re
import subprocess
import xml.etree.ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PROGRAM, README

DEMO = [*PROGRAM, "demo"]


@pytest.mark.parametrize("sandbox", ["jail", "docker"])
def test_every_step_of_the_demo_does_what_it_says(sandbox: str, require: Callable[[str], None]) -> None:
    require(sandbox)
    ran = subprocess.run([*DEMO, "--sandbox", sandbox], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for step in ("search finds nothing", "v1, 1/1 tests", "the step is stopped", "search finds the action"):
        assert f"✓ {step}" in ran.stdout
    assert "every step did what it says" in ran.stdout.splitlines()[-1]
    assert ran.stderr == ""
    assert find_missing(transcript_of_the_readme(), ran.stdout.splitlines()) == ""


def transcript_of_the_readme() -> list[str]:
    (text,) = re.findall(r"^```text\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    return [line for line in text.splitlines() if line.strip(" …")]


def find_missing(shortened: list[str], whole: list[str]) -> str:
    """The first line that does not come, in this order; durations do not count, and … stands for any more."""
    rest = iter(whole)
    for line in shortened:
        start = re.sub(r" +[\d,]+ ms$", "", line).removesuffix("…")
        if not any(one.startswith(start) for one in rest):
            return line
    return ""


def test_demo_without_a_sandbox_says_only_that(tmp_path: Path) -> None:
    environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no.sock"}
    ran = subprocess.run([*DEMO, "--sandbox", "docker"], capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 1
    assert re.fullmatch(r"dynasaur-mcp: No Docker engine .*\n", ran.stderr), ran.stderr


def test_demo_with_a_wrong_setting_does_not_start() -> None:
    environment = {**os.environ, "DYNASAUR_TIMEOUT_SECONDS": "soon"}
    ran = subprocess.run(DEMO, capture_output=True, text=True, check=False, env=environment)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"dynasaur-mcp: Wrong setting: timeout_seconds.*\n", ran.stderr), ran.stderr


def test_demo_leaves_its_library_and_draws_itself_when_asked(tmp_path: Path, require: Callable[[str], None]) -> None:
    require("jail")
    ran = subprocess.run(
        [*DEMO, "--sandbox", "jail", "--keep", "--picture", str(tmp_path / "demo.svg")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    library = Path(ran.stdout.split()[-1])
    assert library.is_relative_to(tmp_path)
    assert {path.name for path in library.glob("[a-z]*.py")} == {"total_by_month.py", "save_monthly_totals.py"}
    drawn = xml.etree.ElementTree.parse(tmp_path / "demo.svg").getroot()
    words = " ".join("".join(drawn.itertext()).split())
    assert "Keep the function as a tool" in words
    assert "Compose a second one" not in words
    assert "font-face" not in words


def test_demo_without_a_sandbox_says_so_and_fails(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*DEMO, "--sandbox", "docker"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCKER_HOST": f"unix://{tmp_path}/no.sock"},
    )
    assert ran.returncode == 1
    assert "Docker" in ran.stderr
    assert "Traceback" not in ran.stderr
