"""Attacks by what code gives back: floods, results too large or too deep, forged frames, false results."""

from __future__ import annotations

import pytest

from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import ADD, call, run

from .conftest import TOOLS, Attacked

pytestmark = pytest.mark.anyio


FLOODS = {
    "stdout": "line = 'x' * 999_999\nfor _ in range(50): print(line)\n'done'",
    "stderr": "line = 'x' * 999_999\nfor _ in range(50): print(line, file=sys.stderr)\n'done'",
    "bytes past Python": "for _ in range(800): os.write(1, b'\\xff\\x00' * 32768)\n'done'",
    "output of a child": "subprocess.run([sys.executable, '-c', 'for _ in range(500): print(\"y\" * 99999)'])\n'done'",
}


@pytest.mark.parametrize("attack", FLOODS)
async def test_flood_of_output_is_capped(attacked: Attacked, attack: str) -> None:
    async with attacked(output_bytes=10_000) as target:
        outcome = await target.step(FLOODS[attack], 30)
        assert outcome.shown == "'done'", outcome
        assert len(outcome.stdout) + len(outcome.stderr) <= 10_000
        assert outcome.dropped_bytes > 40_000_000


async def test_large_and_deep_results_are_refused_or_cut(attacked: Attacked) -> None:
    big = "def give() -> str:\n    return 'x' * 30_000_000\n"
    deep = "def give() -> list:\n    value: list = []\n    for _ in range(100_000): value = [value]\n    return value\n"
    async with attacked(actions=3) as target:
        assert (await call(target.session, "give", big)).ending is Ending.OUTPUT
        assert (await call(target.session, "give", deep)).ending in (Ending.RAISED, Ending.LOST)
        assert len(await target.value("'x' * 30_000_000")) < 1 << 20
        await target.step("class D:\n    def __repr__(self): return 'x' * 10**8\nD()", 20)
        await target.step("value = []\nfor _ in range(100_000): value = [value]\nvalue", 20)


FORGED = {
    "to the server's own channel": (
        "body = json.dumps({'id': 1, 'done': {'ending': 'returned', 'shown': 'FORGED'}}).encode()\n"
        "frame = struct.pack('>I', len(body)) + body\n"
        "for number in range(1024): refused(os.write, number, frame)\n"
        "for pid in others():\n"
        "    for number in range(32):\n"
        "        def write():\n"
        "            with open(f'/proc/{pid}/fd/{number}', 'wb', buffering=0) as file: file.write(frame)\n"
        "        refused(write)\n"
    ),
    "as garbage": "for number in range(3, 1024): refused(os.write, number, b'\\xff' * 100)\n",
    "of no use to anybody": "for number in range(3, 1024): refused(os.write, number, struct.pack('>I', 1 << 31))\n",
}


@pytest.mark.parametrize("attack", FORGED)
async def test_forged_frames_end_at_most_their_own_step(attacked: Attacked, attack: str) -> None:
    async with attacked() as target:
        # What its own step is said to have given it may choose; nothing else.
        await target.step(FORGED[attack] + "'real'", 5)
        outcome = await target.step("40 + 2")
        assert outcome.shown == "42" or outcome.notes[0].startswith("The session's variables are lost"), outcome
        await run(target.session, TOOLS)
        assert (await call(target.session, "add", ADD, first=41)).value == 42


FAKE_DONE = """
import stat
def finish(**done):
    body = json.dumps({"done": done}).encode()
    for number in map(int, os.listdir('/proc/self/fd')):
        try:
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                socket.socket(fileno=number).sendall(struct.pack(">I", len(body)) + body)
        except OSError: pass
"""


@pytest.mark.parametrize(
    "done",
    [
        "ending='misfit'",
        "ending='unknown'",
        "ending='returned', value=float('nan')",
        "ending='x', a='y' * (16 * 2**20 - 60)",
        "ending='returned', value=[[]] * 800_000",
        "ending='returned', shown='y' * (9 * 2**20)",
    ],
    ids=["misfit", "unknown", "not a number", "at the cap", "value over its cap", "text over its cap"],
)
async def test_false_result_ends_its_own_step_only(attacked: Attacked, done: str) -> None:
    async with attacked() as target:
        outcome = await target.step(f"{FAKE_DONE}\nfinish({done})")
        assert outcome.ending is Ending.LOST
        assert not target.session.is_lost


@pytest.mark.parametrize(
    "done",
    [
        "images=[{'mime_type': 'image/png', 'base64': 'AAAA'}] * 5",
        "images=[{'mime_type': 'image/png', 'base64': 'A' * (2 * 2**20)}]",
        "files=[{'path': 'a', 'size_bytes': 1}] * 51",
        "shown='y' * 2**20",
    ],
    ids=["pictures", "a large picture", "files", "text"],
)
async def test_more_than_any_job_gives_is_never_taken_over(attacked: Attacked, done: str) -> None:
    async with attacked() as target:
        outcome = await target.step(f"{FAKE_DONE}\nfinish(ending='returned', {done})")
        assert outcome.ending is Ending.LOST
        assert (outcome.images, outcome.files, outcome.shown) == ((), (), "")
