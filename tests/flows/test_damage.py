"""A ledger or an index that is damaged, another's or of another release: what a client gets, and what stays."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from mcp import Client, StdioServerParameters, stdio_client

from .conftest import SERVER, Model, environment

pytestmark = pytest.mark.anyio

Damage = Callable[[Path], None]
SOURCE = '''
def raise_by(x: int) -> int:
    """Raise a number by {0}.

    >>> raise_by(1)
    {1}
    """
    return x + {0}
'''
FRESH = '''
def halve(x: float) -> float:
    """Divide in two.

    >>> halve(3.0)
    1.5
    """
    return x / 2
'''


def write_foreign(*, table: str, version: int) -> Damage:
    """A database of somebody else in its place."""

    def damage(path: Path) -> None:
        path.unlink()
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"CREATE TABLE {table} (name TEXT, text TEXT)")
            connection.execute(f"INSERT INTO {table} VALUES ('raise_by', 'precious')")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.commit()

    return damage


def drop_table(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(f"DROP TABLE {'versions' if 'ledger' in path.name else 'documents'}")


def make_newer(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")


DAMAGES: dict[str, Damage] = {
    "deleted": Path.unlink,
    "no bytes": lambda path: path.write_bytes(b"") and None,
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)) and None,
    "cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "garbage": lambda path: path.write_bytes(os.urandom(50_000)) and None,
    "foreign": write_foreign(table="notes", version=0),
    "foreign with such a table": write_foreign(table="actions", version=0),
    "foreign of a low version": write_foreign(table="notes", version=2),
    "foreign of this version": write_foreign(table="notes", version=5),
    "a table less": drop_table,
}


@asynccontextmanager
async def serve(library: Path) -> AsyncIterator[Model]:
    """What the server says on stderr goes to the file `log` beside the library."""
    with (library.parent / "log").open("a") as log:
        server = StdioServerParameters(command=SERVER[0], args=[*SERVER[1:], "serve"], env=environment(library, "jail"))
        async with Client(stdio_client(server, errlog=log), mode="legacy") as client:
            yield Model(client)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, require: Callable[[str], None]) -> Path:
    """A library with an action of two versions, which was called."""
    require("jail")
    library = tmp_path_factory.mktemp("original") / "library"

    async def fill() -> None:
        async with serve(library) as model:
            await model.text("define_action", source=SOURCE.format(1, 2))
            await model.text("define_action", source=SOURCE.format(2, 3), replaces="raise_by", anyway=True)
            assert await model.text("raise_by", x=1) == "3"
            assert "raise_by" in await model.text("search_actions", query="raise a number")

    anyio.run(fill)
    return library


@pytest.fixture
def filled(original: Path, library: Path) -> Path:
    return Path(shutil.copytree(original, library))


def read_foreign(path: Path) -> list[tuple[str, str]]:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        (table,) = connection.execute("SELECT name FROM sqlite_master").fetchone()
        return connection.execute(f"SELECT * FROM {table}").fetchall()


@pytest.mark.parametrize("file", [".ledger.sqlite3", ".index.sqlite3"])
@pytest.mark.parametrize("damage", DAMAGES)
async def test_no_damage_costs_an_action_or_what_is_anothers(filled: Path, file: str, damage: str) -> None:
    DAMAGES[damage](filled / file)
    async with serve(filled) as model:
        assert "raise_by" in await model.text("search_actions", query="raise a number")
        assert await model.text("execute_action", name="raise_by", arguments={"x": 1}) == "3"
        history = await model.text("manage_action", name="raise_by", op="history")
        if file == ".index.sqlite3":
            assert history.startswith("raise_by v2 · active · 1/1 tests · by local")
        assert "now a tool" in await model.text("define_action", source=FRESH)
        assert await model.text("halve", x=3) == "1.5"
        assert "halve" in await model.text("search_actions", query="divide in two")
    assert (filled / "raise_by.py").read_text() == SOURCE.format(2, 3)
    assert "Traceback" not in (filled.parent / "log").read_text()
    if "foreign" in damage and file == ".ledger.sqlite3":
        assert read_foreign(filled / ".ledger.sqlite3.damaged-1") == [("raise_by", "precious")]


async def test_ledger_of_a_newer_release_is_refused_in_one_sentence_and_left_alone(filled: Path) -> None:
    make_newer(filled / ".ledger.sqlite3")
    before = (filled / ".ledger.sqlite3").read_bytes()
    async with serve(filled) as model:
        assert "define_action" in await model.tools()
        for call in (
            model.error("search_actions", query="raise a number"),
            model.error("execute_action", name="raise_by", arguments={"x": 1}),
            model.error("manage_action", name="raise_by", op="history"),
            model.error("define_action", source=FRESH),
        ):
            assert await call == "The library was written by a newer dynasaur-mcp. Upgrade this one."
        assert "2" in await model.text("run_python", code="1 + 1")
    assert (filled / ".ledger.sqlite3").read_bytes() == before
    assert sorted(path.name for path in filled.glob("[a-z]*.py")) == ["raise_by.py"]
    assert "Traceback" not in (filled.parent / "log").read_text()
