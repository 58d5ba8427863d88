"""Attacks by files that are taken out of a workspace, or are put into it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dynasaur_mcp.errors import FileRefused
from tests.sandbox.conftest import RUNTIME

from .conftest import Attacked

pytestmark = pytest.mark.anyio


TAKEN = """
os.mkdir('d'); os.symlink('/etc/passwd', 'link'); os.symlink('/', 'root'); os.symlink('loop', 'loop')
socket.socket(socket.AF_UNIX).bind('socket')
open('a\\nb', 'w').write('odd'); open('real', 'w').write('real'); os.link('real', 'd/hard')
refused(os.mkfifo, 'pipe')
sorted(os.listdir('.'))
"""


async def test_files_taken_out_are_the_workspaces_own(attacked: Attacked) -> None:
    async with attacked() as target:
        await target.value(TAKEN)
        files = target.session.files
        for path in (
            "link",
            "root/etc/passwd",
            "loop",
            "socket",
            "pipe",
            "../etc/passwd",
            "/etc/passwd",
            "d/../../etc/passwd",
        ):
            with pytest.raises(FileRefused):
                await files.read(path)
        assert (await files.read("a\nb")).data == b"odd"
        assert (await files.read("d/hard")).data == b"real"
        kinds = {item.name: item.kind for item in (await files.list()).items}
        assert kinds.pop("pipe", "other") == "other"  # only gVisor lets it be made
        assert kinds == {"a\nb": "file", "d": "folder", "real": "file"} | dict.fromkeys(
            ("link", "root", "loop", "socket"), "other"
        )


async def test_archive_with_hostile_entries_unpacks_within_the_sandbox(attacked: Attacked) -> None:
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, kind, link in (
            ("../../escaped", tarfile.REGTYPE, ""),
            ("/tmp/absolute", tarfile.REGTYPE, ""),
            ("link", tarfile.SYMTYPE, "/etc"),
            ("link/passwd", tarfile.REGTYPE, ""),
            ("device", tarfile.BLKTYPE, ""),
            ("pipe", tarfile.FIFOTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, link
            archive.addfile(member)

    async def pieces() -> AsyncIterator[bytes]:
        yield packed.getvalue()

    code = """
import tarfile
with tarfile.open('hostile.tar') as archive:
    for member in archive:
        refused(lambda: archive.extract(member, '/workspace/out'))
refused(lambda: open('/etc/passwd', 'a')), os.path.exists('/escaped')
"""
    async with attacked() as target:
        await target.session.files.write("hostile.tar", pieces())
        assert await target.value(code) == "(True, False)"
        listed = {item.name: item.kind for item in (await target.session.files.list("out")).items}
        # gVisor lets anybody make nodes, which lead to no device of the host.
        nodes = {"device", "pipe"} if RUNTIME == "runsc" else set()
        assert {name for name, kind in listed.items() if kind != "other"} == set()
        assert set(listed) <= {"link"} | nodes
