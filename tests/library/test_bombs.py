"""Sources that take a reader's time or memory: each is read or refused within bounds, as the server reads them itself.

Each is read by a process of its own, which the kernel ends where the bounds do not hold.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

READ = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from dynasaur_mcp.errors import ActionInvalid
from dynasaur_mcp.library.closure import extract_function
from dynasaur_mcp.library.reading import read_action
try:
    source = sys.stdin.read()
    if "session" in sys.argv:
        source = extract_function([source], "count_items")
    print(read_action(source, is_new=True).signature)
except ActionInvalid as error:
    print(error)
"""

ACTION = '''\
def count_items(a: int) -> int:
    """Count.

    {text}
    >>> count_items(1)
    1
    """
    return a
'''
PLAIN = ACTION.format(text="All.")
SIGNATURE = "count_items(a: int) -> int"


def with_block(text: str) -> str:
    return f"# /// script\n# {text}\n# ///\n{PLAIN}"


BOMBS = {
    "starts of a block": ("# /// script\n" * 70_000 + PLAIN, "a second `# /// script` block"),
    "parts of a key in a block": (with_block(".".join("a" * 100_000) + " = 1"), "10,000 at most"),
    "lists in lists in a block": (with_block("a = " + "[" * 2000 + "]" * 2000), "is no TOML"),
    "digits of a number in a block": (with_block("a = " + "1" * 5000), "is no TOML"),
    "a list where a block has a table": (with_block("tool = [1]"), "`tool.dynasaur` is no table"),
    "prompts in a line": (ACTION.format(text="As " + ">>> " * 200_000), SIGNATURE),
    "values that are given names": (PLAIN.replace("    return a", "    b = 1\n" * 60_000 + "    return b"), SIGNATURE),
    "imports that nothing uses": (
        "".join(f"import a{number}\n" for number in range(20_000)) + ACTION.format(text="x" * 500_000),
        SIGNATURE,
    ),
    # Read or refused, as the Python has it.
    "functions that are alike": ("def _f(): pass\n" * 60_000 + PLAIN, ""),
    "functions under a coding that is none": ("# coding: none\n" + "def _(): 0\n" * 80_000 + PLAIN, "encoded as none"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_text_that_asks_for_endless_reading_is_read_or_refused(bomb: str) -> None:
    source, said = BOMBS[bomb]
    command = [sys.executable, "-c", READ]
    read = subprocess.run(command, input=source, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert said in read.stdout


def test_step_of_a_session_that_asks_for_endless_reading_is_read_or_refused() -> None:
    # Before Python 3.12 it grows with the square of its parts.
    step = PLAIN + "text = f'" + "{1}" * 300_000 + "'\n"
    command = [sys.executable, "-c", READ, "session"]
    read = subprocess.run(command, input=step, capture_output=True, text=True, check=False)
    assert read.returncode == 0, read.stderr
    assert SIGNATURE in read.stdout or "a step of it takes over 5 s to parse" in read.stdout
