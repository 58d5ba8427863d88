"""The demo, as the README has a new user type it first."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

DEMO = [sys.executable, "-m", "dynasaur_mcp", "demo"]


@pytest.mark.parametrize("sandbox", ["jail", "docker"])
def test_every_step_of_the_demo_does_what_it_says(sandbox: str, require: Callable[[str], None]) -> None:
    require(sandbox)
    ran = subprocess.run([*DEMO, "--sandbox", sandbox], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for step in ("search finds nothing", "v1, 1/1 tests", "the step is stopped", "search finds the action"):
        assert f"✓ {step}" in ran.stdout
    assert "every step did what it says" in ran.stdout.splitlines()[-1]
    assert ran.stderr == ""


def test_demo_leaves_its_library_when_asked(tmp_path: Path, require: Callable[[str], None]) -> None:
    require("jail")
    ran = subprocess.run(
        [*DEMO, "--sandbox", "jail", "--keep"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    library = Path(ran.stdout.split()[-1])
    assert library.is_relative_to(tmp_path)
    assert {path.name for path in library.glob("[a-z]*.py")} == {"total_by_month.py", "save_monthly_totals.py"}


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
