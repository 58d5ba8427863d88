"""Which arguments of calls are kept, to make the calls again: the last distinct ones, none long or secret."""

from __future__ import annotations

import contextlib
from pathlib import Path

from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.library.ledger import KEPT_ARGUMENTS
from dynasaur_mcp.types import JSON, Ending
from tests.library.conftest import OpenStore, call, put, write_source


def test_arguments_are_those_of_the_last_distinct_calls_that_returned(store: FileStore, open_store: OpenStore) -> None:
    put(store, write_source("add"))
    for number in (*range(KEPT_ARGUMENTS + 5), 7, 7):
        call(store, arguments={"x": number, "how": {"b": 1, "a": [None, "ü\ud800"]}})
    call(store, ending=Ending.RAISED, arguments={"x": 99})
    found = store.recorded_arguments("add", "ann")
    assert [each["x"] for each in found] == [7, *(n for n in reversed(range(5, KEPT_ARGUMENTS + 5)) if n != 7)]
    assert found[0]["how"] == {"a": [None, "ü\ud800"], "b": 1}
    assert open_store().recorded_arguments("add", "ann") == found
    assert store.recorded_arguments("other", "ann") == store.recorded_arguments("add", "bob") == []


def test_long_arguments_and_those_named_like_secrets_are_not_kept(folder: Path) -> None:
    with contextlib.closing(FileStore(folder, arguments_bytes=100)) as store:
        put(store, write_source("add"))
        call(store, arguments={"x": "a" * 99})
        for name in ("password", "apiKey", "api_key", "access_token", "client_secret", "DB_PASSWD"):
            call(store, arguments={"x": 1, name: "hunter2"})
        deep: list[JSON] = []
        for _ in range(100_000):
            deep = [deep]
        call(store, arguments={"x": deep})
        call(store, arguments={"x": 1})
        assert store.recorded_arguments("add", "ann") == [{"x": 1}]
        assert store.get("add").calls == 9
    assert b"hunter2" not in b"".join(path.read_bytes() for path in folder.glob(".ledger*"))


def test_where_none_are_to_be_kept_those_of_before_are_gone_from_the_file_too(folder: Path) -> None:
    with contextlib.closing(FileStore(folder)) as store:
        put(store, write_source("add"))
        call(store, arguments={"x": "confidential"})
    with contextlib.closing(FileStore(folder, arguments_bytes=0)) as store:
        call(store, arguments={"x": "likewise"})
        assert store.recorded_arguments("add", "ann") == []
        assert store.get("add").calls == 2
    files = b"".join(path.read_bytes() for path in folder.glob(".ledger*"))
    assert b"confidential" not in files
    assert b"likewise" not in files
