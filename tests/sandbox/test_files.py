"""Files of a workspace for the server, on each sandbox."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest

from dynasaur_mcp.errors import FileRefused
from dynasaur_mcp.sandbox.files import PIECE_BYTES

from .conftest import OpenPool, run, shown

pytestmark = pytest.mark.anyio


async def pieces(*data: bytes) -> AsyncIterator[bytes]:
    for one in data:
        yield one


async def test_file_goes_in_and_comes_out_whole_with_the_folders_it_lies_in(open_sandbox: OpenPool) -> None:
    data = os.urandom(2 * PIECE_BYTES + 7)
    async with open_sandbox() as pool, pool.session("me") as session:
        assert await session.files.write("a/b\n?.bin", pieces(data[:3], data[3:])) == len(data)
        assert await shown(session, "import os; os.path.getsize('a/b\\n?.bin'), os.listdir('a')") == (
            f"({len(data)}, ['b\\n?.bin'])"
        )
        read = bytearray()
        while (piece := await session.files.read("/workspace/a/b\n?.bin", len(read))).data:
            assert piece.size_bytes == len(data)
            read += piece.data
        assert read == data
        assert (await session.files.read("a/b\n?.bin", 5, 4)).data == data[5:9]
        assert (await session.files.read("a/b\n?.bin", 1 << 40)).data == b""


async def test_file_of_many_short_holes_comes_out_in_large_pieces(open_sandbox: OpenPool) -> None:
    code = """
with open('f', 'wb') as file:
    for number in range(500): file.seek(number << 13); file.write(b'x' * 4096)
    file.seek(20 << 20); file.write(b'y')
"""
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, code)
        read, count = bytearray(), 0
        while (piece := await session.files.read("f", len(read), skips_holes=True)).data:
            read += bytes(piece.offset - len(read)) + piece.data
            count += 1
        assert read == ((b"x" * 4096 + bytes(4096)) * 500).ljust(20 << 20, b"\0") + b"y"
        assert count < 10


async def test_folder_is_listed_by_name_with_kinds_and_sizes(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "import os\nos.mkdir('d'); os.symlink('d', 'l'); open('f', 'w').write('12345')")
        listing = await session.files.list()
        assert [(item.name, item.kind, item.size_bytes) for item in listing.items] == [
            ("d", "folder", 0),
            ("f", "file", 5),
            ("l", "other", 0),
        ]
        assert (await session.files.list("d")).total == 0


@pytest.mark.parametrize(
    "path",
    ["../etc/passwd", "/etc/passwd", "link", "to_root/etc/passwd", "a/../f", "socket", "", "d", "nothing", "f/x", "\0"],
)
async def test_what_is_no_file_beneath_the_workspace_is_neither_read_nor_replaced(
    open_sandbox: OpenPool, path: str
) -> None:
    code = "import os, socket\nos.mkdir('a'); os.mkdir('d'); open('f', 'w').close()\n"
    code += (
        "os.symlink('/etc/passwd', 'link'); os.symlink('/', 'to_root'); socket.socket(socket.AF_UNIX).bind('socket')"
    )
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, code)
        with pytest.raises(FileRefused):
            await session.files.read(path)
        if path != "nothing":
            with pytest.raises(FileRefused):
                await session.files.write(path, pieces(b"x"))
        names = "['a', 'd', 'f', 'link', 'socket', 'to_root']"
        assert await shown(session, "sorted(os.listdir()), os.path.islink('link')") == f"({names}, True)"


async def test_file_too_large_for_the_workspace_leaves_what_was_there(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "open('f', 'w').write('old')")
        with pytest.raises(FileRefused, match="no room"):
            await session.files.write("f", pieces(*[bytes(PIECE_BYTES)] * 9))
        assert await shown(session, "import os; open('f').read(), os.listdir()") == "('old', ['f'])"


async def test_name_that_is_no_unicode_is_listed_and_refused(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "open(b'\\xff', 'w').close()")
        (item,) = (await session.files.list()).items
        assert item.name == "\N{REPLACEMENT CHARACTER}"
        with pytest.raises(FileRefused):
            await session.files.read(item.name)


async def test_folder_of_very_many_files_is_listed_in_part(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool, pool.session("me") as session:
        await run(session, "for n in range(6000): open(f'{n:04}', 'w').close()")
        listing = await session.files.list()
        assert (len(listing.items), listing.total) == (5000, 6000)


async def test_forked_session_has_its_own_files_and_shows_no_others(open_sandbox: OpenPool) -> None:
    async with open_sandbox() as pool:
        async with pool.session("me", "x") as session:
            await session.files.write("f", pieces(b"x"))
        await pool.fork("me", "x", "y")
        async with pool.session("me", "y") as session:
            await session.files.write("f", pieces(b"y"))
            with pytest.raises(FileRefused):
                await session.files.read(".branches/0/f")
        async with pool.session("me", "x") as session:
            assert (await session.files.read("f")).data == b"x"
            assert [item.name for item in (await session.files.list()).items] == ["f"]
