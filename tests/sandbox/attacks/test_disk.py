"""Attacks on the disk, which is to fill, or to keep a core."""

from __future__ import annotations

import pytest

from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import RUNTIME

from .conftest import Attacked

pytestmark = pytest.mark.anyio


DISKS = {
    "one large file": "with open(F, 'wb') as file:\n    while True: file.write(bytes(1 << 20))",
    "many files": (
        "import itertools\nfor number in itertools.count():\n"
        "    with open(F + str(number), 'wb') as file: file.write(bytes(1 << 20))"
    ),
    "a file that is written, open and removed": (
        "file = open(F, 'wb'); os.unlink(F)\nwhile True: file.write(bytes(1 << 20)); file.flush()"
    ),
    "a mapped file": (
        "file = open(F, 'wb+'); file.truncate(900 << 20)\nblock = mmap.mmap(file.fileno(), 900 << 20)\n"
        "for at in range(0, 900 << 20, 4096): block[at] = 1"
    ),
}


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
@pytest.mark.parametrize("attack", DISKS)
async def test_disk_is_filled_for_the_one_who_fills_it_only(attacked: Attacked, attack: str, folder: str) -> None:
    async with attacked() as target:
        code = f"os.mkdir({folder!r} + '/full')\nF = {folder!r} + '/full/f'\n{DISKS[attack]}"
        outcome = await target.step(code, 20)
        # SIGBUS ends who touches a page for which there is no room.
        assert outcome.ending in (Ending.RAISED, Ending.MEMORY, Ending.LOST), outcome
        if outcome.ending is Ending.RAISED:
            assert any(f"Errno {number}]" in outcome.error for number in (27, 28, 13, 2)), outcome
        # What it holds open is its own too.
        await target.step(
            f"file = block = None; import shutil; shutil.rmtree({folder!r} + '/full', ignore_errors=True)"
        )
        assert await target.value("open('/workspace/f', 'wb').write(bytes(1 << 20))") == str(1 << 20)


@pytest.mark.parametrize("folder", ["/workspace", "/tmp", "/dev/shm"])
async def test_empty_files_are_bounded_too_and_can_be_removed(attacked: Attacked, folder: str) -> None:
    if RUNTIME == "runsc":
        pytest.skip("gVisor keeps files in its own memory, and makes a thousand a second")
    code = """
os.mkdir('many')
number = 0
while True:
    number += 1
    os.close(os.open(f'many/{number}', os.O_CREAT | os.O_WRONLY))
"""
    async with attacked() as target:
        await target.value(f"os.chdir({folder!r})")
        outcome = await target.step(code, 60)
        assert outcome.ending is Ending.MEMORY, outcome
        assert await target.value("len(os.listdir('many')) < 200_000") == "True"
        assert await target.value("import shutil; shutil.rmtree('many'); os.path.exists('many')", 60) == "False"
        assert await target.value("os.mkdir('again'); True") == "True"


async def test_core_is_dumped_nowhere(attacked: Attacked) -> None:
    async with attacked() as target:
        assert (await target.step("os.chdir('/workspace'); os.abort()")).ending is Ending.LOST
        assert await target.value("[name for name in os.listdir('/workspace') if 'core' in name]") == "[]"
