"""`dynasaur-mcp doctor`, on machines with and without what the server needs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

from dynasaur_mcp.sandbox.cgroup import find_place
from tests.conftest import Run, write


def test_doctor_finds_a_working_jail_and_names_broken_files(jailed: Run, tmp_path: Path) -> None:
    (tmp_path / "library").mkdir()
    write(tmp_path / "library", broken="def broken(:\n")
    ran = jailed("doctor")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^ok +jail: a worker answered", ran.stdout, re.MULTILINE), ran.stdout
    assert re.search(r"^ok +library: 0 actions in .*broken\.py: line 1", ran.stdout, re.MULTILINE), ran.stdout


def test_doctor_says_who_holds_the_jails_memory(jailed: Run) -> None:
    place = find_place()
    said = (
        rf"ok +cgroup: .* version {place.version}$" if place.folders else rf"missing +cgroup: .*{place.why_none}\n +→ "
    )
    assert re.search(f"^{said}", jailed("doctor").stdout, re.MULTILINE)


def test_doctor_finds_a_working_engine(dynasaur: Run, require: Callable[[str], None]) -> None:
    require("docker")
    ran = dynasaur("doctor")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^ok +docker: a worker answered", ran.stdout, re.MULTILINE), ran.stdout


def test_doctor_says_what_to_do_without_any_sandbox(dynasaur: Run, tmp_path: Path) -> None:
    ran = dynasaur("doctor", "--sandbox", "docker", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert ran.returncode == 1
    assert re.search(r"^problem +docker: .*\n +→ ", ran.stdout, re.MULTILINE), ran.stdout
    assert "The server cannot work yet" in ran.stdout


def test_doctor_does_not_call_a_problem_what_the_jail_makes_up_for(jailed: Run, tmp_path: Path) -> None:
    ran = jailed("doctor", DYNASAUR_SANDBOX="auto", DOCKER_HOST=f"unix://{tmp_path}/no.sock")
    assert ran.returncode == 0
    assert re.search(r"^missing +docker: .*\n +→ ", ran.stdout, re.MULTILINE), ran.stdout
    assert ran.stdout.endswith("The server can work.\n")


def test_doctor_makes_a_call_through_a_server_and_reads_clients_files(jailed: Run, tmp_path: Path) -> None:
    (tmp_path / ".cursor").mkdir()
    (tmp_path / ".gemini").mkdir()
    (tmp_path / ".codex").mkdir()
    (tmp_path / ".codex" / "config.toml").write_text("broken =")
    (tmp_path / ".cursor" / "mcp.json").write_text('{"mcpServers": {"dynasaur": {"command": "/gone/dynasaur-mcp"}}}')
    own = {"HOME": str(tmp_path), "CODEX_HOME": "", "DYNASAUR_CACHE": str(tmp_path / "cache")}
    ran = jailed("doctor", "--json", **own)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = {finding["what"]: finding for finding in json.loads(ran.stdout)}
    assert found["server"]["ok"]
    assert "a call over stdio took" in found["server"]["found"]
    assert found["cursor"]["found"] == "Cursor starts '/gone/dynasaur-mcp', which is not there"
    assert found["gemini"]["advice"] == "dynasaur-mcp setup gemini"
    assert "config.toml is no TOML" in found["codex"]["found"]
    assert "zed" not in found
    assert not any(found[client]["needed"] for client in ("cursor", "gemini", "codex"))
    jailed("setup", "gemini", **own)
    assert re.search(r"^ok +gemini: Gemini CLI starts /", jailed("doctor", **own).stdout, re.MULTILINE)


def test_doctor_names_the_image_that_workers_run_in(dynasaur: Run, require: Callable[[str], None]) -> None:
    require("docker")
    said = dynasaur("doctor", "--sandbox", "docker").stdout
    assert re.search(r"^ok +image: dynasaur-mcp-worker:\S+, Python 3\.\d+, ", said, re.MULTILINE), said
