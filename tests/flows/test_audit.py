"""The audit log, written by real servers and read by the command."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from dynasaur_mcp.library.filestore import FileStore
from tests.web.conftest import start_server

from .conftest import OpenClient
from .test_records import HALVE, run

pytestmark = pytest.mark.anyio

MARKER = "a-word-of-mine-5309"
Line = dict[str, Any]


@pytest.fixture
def sandbox(require: Callable[[str], None]) -> str:
    require("jail")
    return "jail"


def audit(library: Path, *options: str) -> list[Line]:
    """Oldest first."""
    done = run(library, "audit", "--json", *options)
    assert done.returncode == 0, done.stderr
    lines: list[Line] = json.loads(done.stdout)
    assert [line["at"] for line in lines] == sorted((line["at"] for line in lines), reverse=True)
    return lines[::-1]


async def test_each_change_call_and_run_is_on_record_in_its_order(
    open_client: OpenClient, library: Path, sandbox: str
) -> None:
    code = "from actions import halve; halve(2)"
    async with open_client(sandbox) as model:
        await model.text("define_action", source=HALVE)
        await model.text("halve", x=4)
        await model.error("halve", x=0)
        await model.text("run_python", code=code, session="mine")
        for op in ("pin", "unpin", "disable", "enable", "test", "delete"):
            await model.text("manage_action", name="halve", op=op)
        await model.text("manage_action", name="halve", op="rollback", version=1)
        await model.text("define_action", source=HALVE.replace("x / 2 if", "0.5 * x if"), replaces="halve")
    assert run(library, "actions", "remove", "halve").returncode == 0
    (library / "halve.py").write_text(HALVE)
    assert run(library, "actions", "list").returncode == 0
    (library / "halve.py").unlink()
    assert run(library, "actions", "list").returncode == 0
    lines = audit(library)
    assert [(line["kind"], line["version"], line["principal"], line["via"], line["note"]) for line in lines] == [
        ("define", 1, "local", "serve", "active, 1/1 tests"),
        ("call", 1, "local", None, None),
        ("call", 1, "local", None, None),
        ("run", None, "local", None, None),
        ("pin", 1, "local", "serve", None),
        ("unpin", 1, "local", "serve", None),
        ("disable", 1, "local", "serve", "disabled"),
        ("enable", 1, "local", "serve", "active"),
        ("test", 1, "local", "serve", "active, 1/1 tests"),
        ("delete", 1, "local", "serve", None),
        ("rollback", 2, "local", "serve", "to what v1 was: active, 1/1 tests"),
        ("define", 3, "local", "serve", "active, 1/1 tests"),
        ("delete", 3, "local", "command", None),
        ("found", 4, "file", "command", "active, 1/1 tests"),
        ("gone", 4, "file", "command", None),
    ]
    assert [line["ending"] for line in lines if line["kind"] == "call"] == ["returned", "raised"]
    assert {line["name"] for line in lines if line["kind"] != "run"} == {"halve"}
    (ran,) = audit(library, "--kind", "run")
    assert (ran["session"], ran["ending"], ran["name"]) == ("mine", "returned", None)
    assert (ran["sha256"], ran["code_bytes"]) == (hashlib.sha256(code.encode()).hexdigest(), len(code))
    assert ran["request"]
    assert ran["seconds"] > 0


async def test_what_a_person_approves_is_on_record(open_client: OpenClient, library: Path, sandbox: str) -> None:
    async with open_client(sandbox, require_approval=True) as model:
        await model.text("define_action", source=HALVE)
        assert run(library, "actions", "approve", "halve@1").stdout == "halve v1 is active.\n"
        assert run(library, "actions", "approve", "halve@1").stdout == "halve v1 is active already.\n"
        await model.text("halve", x=4)
    lines = audit(library)
    assert [(line["kind"], line["via"], line["note"]) for line in lines] == [
        ("define", "serve", "draft, 1/1 tests"),
        ("approve", "command", "active"),
        ("call", None, None),
    ]


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("raise ValueError(1)", "raised"),
        ("while True: pass", "timeout"),
        ("import os; os._exit(3)", "lost"),
        ("import ctypes; ctypes.string_at(0)", "lost"),
        ("import os, signal; os.kill(os.getppid(), signal.SIGKILL)\nwhile True: pass", None),
    ],
)
async def test_a_run_is_on_record_however_it_ends(
    open_client: OpenClient, library: Path, sandbox: str, code: str, ending: str | None
) -> None:
    async with open_client(sandbox) as model:
        await model.error("run_python", code=code, timeout_seconds=1)
    (ran,) = audit(library)
    assert (ran["kind"], ran["code_bytes"]) == ("run", len(code))
    assert ran["ending"] == ending or ending is None


async def test_what_was_cancelled_is_on_record(open_client: OpenClient, library: Path, sandbox: str) -> None:
    sleep = "import time; print('here'); time.sleep(25)"
    wait = HALVE.replace("    return", f"    if x > 4:\n        {sleep}\n    return")
    async with open_client(sandbox) as model:
        await model.text("define_action", source=wait)
        await model.text("halve", x=4)
        for tool, arguments in (("run_python", {"code": sleep}), ("halve", {"x": 29})):
            with anyio.CancelScope() as scope:

                async def cancel(*_: object, scope: anyio.CancelScope = scope) -> None:
                    scope.cancel()

                await model.client.call_tool(tool, arguments, progress_callback=cancel)
            assert scope.cancelled_caught
            await model.text("run_python", code="0")  # in the same session: the one before is over
        started = await model.text("run_python", code=sleep, background=True)
        found = re.search(r"\b[0-9a-f]{8}\b", started)
        assert found
        assert "cancelled" in await model.error("check_run", run=found[0], cancel=True)
        await model.text("run_python", code="0")
    ended = [(line["kind"], line["name"], line["ending"]) for line in audit(library) if line["code_bytes"] != 1][1:]
    assert ended == [
        ("call", "halve", "returned"),
        ("run", None, "cancelled"),
        ("call", "halve", "cancelled"),
        ("run", None, "cancelled"),
    ]


async def test_what_could_not_be_run_is_on_record_by_why(open_client: OpenClient, library: Path, sandbox: str) -> None:
    async with open_client(sandbox, packages="none") as model:
        await model.text("define_action", source=HALVE)
        await model.error("run_python", code="1", requirements=["no-such-package-5309"])
        await model.error("halve", x="no number")
    assert [(line["kind"], line["ending"]) for line in audit(library)[1:]] == [
        ("run", "RequirementsInvalid"),
        ("call", "ArgumentsInvalid"),
    ]


async def test_each_principal_of_several_servers_is_on_record(
    open_client: OpenClient, library: Path, sandbox: str, tmp_path: Path
) -> None:
    ada, bob = "token-of-ada-0123456789", "token-of-bob-0123456789"
    tokens = tmp_path / "tokens"
    tokens.write_text(f"ada {ada}\nbob {bob}\n")
    with start_server(library, token="", token_file=tokens) as server:
        async with (
            open_client(sandbox) as model,
            server.connect("legacy", ada) as one,
            server.connect("2026-07-28", bob) as two,
        ):
            await one.text("define_action", source=HALVE)
            await two.text("run_python", code="1")
            await two.text("manage_action", name="halve", op="pin")
            await model.text("execute_action", name="halve", arguments={"x": 2})
    who = [(line["principal"], line["kind"]) for line in audit(library)]
    assert who == [("ada", "define"), ("bob", "run"), ("bob", "pin"), ("local", "call")]
    assert audit(library, "--principal", "bob") == audit(library)[1:3]
    assert [line["kind"] for line in audit(library, "--action", "halve")] == ["define", "pin", "call"]
    assert [line["kind"] for line in audit(library, "--limit", "2")] == ["pin", "call"]
    assert [line["kind"] for line in audit(library, "--kind", "pin", "--kind", "run")] == ["run", "pin"]


async def test_neither_code_nor_arguments_nor_results_are_in_the_ledger(
    open_client: OpenClient, library: Path, sandbox: str
) -> None:
    echo = HALVE.replace("x: int) -> float", "text: str) -> str").replace("halve", "echo")
    echo = echo.replace("echo(4)", 'echo("2.0")').replace("2.0\n", "'2.0'\n").replace("x / 2 if x else 1 / 0", "text")
    async with open_client(sandbox, arguments_bytes=0) as model:
        await model.text("define_action", source=echo)
        assert MARKER in await model.text("echo", text=MARKER)
        assert MARKER in await model.text("run_python", code=f"{MARKER!r}")
    assert len(audit(library)) == 3
    assert not [file for file in library.glob(".ledger*") if MARKER.encode() in file.read_bytes()]


def test_records_are_read_by_time_and_shown_as_lines(library: Path) -> None:
    now = datetime.now(UTC)
    with closing(FileStore(library)) as store:
        for principal in ("ann", "\x1b[31mred\x1b[0m\u202e\n2026 admin"):
            run_of = {"principal": principal, "session": "s", "request": "1" * 1000, "ending": "returned"}
            store.record_run(ended_at=datetime.now(UTC), seconds=1.5, **run_of)
    (first, second) = run(library, "audit").stdout.splitlines()
    assert second.split("\t")[1:] == [
        "ann",
        "",
        "run",
        "",
        "returned",
        "1.500 s",
        "s",
        hashlib.sha256().hexdigest()[:12],
    ]
    assert first.split("\t")[1] == "[31mred [0m 2026 admin"
    assert audit(library)[1]["principal"] == "[31mred [0m 2026 admin"
    assert len(audit(library)[1]["request"]) == 100
    for since, count in {
        "1h": 2,
        f"{now - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S}": 2,
        f"{now.astimezone() - timedelta(minutes=1):%Y-%m-%dT%H:%M:%S%z}": 2,
        f"{now + timedelta(days=2):%Y-%m-%d}": 0,
    }.items():
        assert len(audit(library, "--since", since)) == count, since
    wrong = run(library, "audit", "--since", "yesterday")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "'yesterday' is no time" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1
    empty = run(library.parent / "empty", "audit")
    assert (empty.returncode, empty.stdout) == (0, "")
