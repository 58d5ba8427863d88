"""What every client goes through, and what it must have seen by then."""

from __future__ import annotations

from typing import Any

from dynasaur_mcp.types import META_TOOLS

from .conftest import Answer, Seen

DOUBLE = '''\
def double(number: int) -> int:
    """Double a number.

    >>> double(2)
    4
    """
    return 2 * number
'''
PICTURE = """\
import struct, zlib

def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

class Picture:
    def _repr_png_(self):
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
        pixel = chunk(b"IDAT", zlib.compress(bytes([0, 255, 0, 0])))
        return bytes([137]) + b"PNG\\r\\n" + bytes([26, 10]) + head + pixel + chunk(b"IEND", b"")

Picture()
"""
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("define_action", {"source": DOUBLE}),
    ("double", {"number": 21}),
    ("execute_action", {"name": "double", "arguments": {"number": 50}}),
    ("run_python", {"code": "kept = 400"}),
    ("run_python", {"code": "kept + 44"}),
    ("run_python", {"code": "1 / 0"}),
    ("run_python", {"code": PICTURE}),
]


def read_seen(said: dict[str, Any]) -> Seen:
    answers = [Answer(answer["text"], answer["images"], answer["error"]) for answer in said["answers"]]
    return Seen(said["before"], said["after"], answers)


def check_seen(seen: Seen) -> None:
    """All of the story: an action defined, listed and called, state kept, an error, an image."""
    assert set(META_TOOLS) <= set(seen.before), seen
    assert "double" not in seen.before
    assert "double" in seen.after, seen
    check_answers(seen.answers)


def check_answers(answers: list[Answer]) -> None:
    defined, called, executed, kept, state, error, picture = answers
    assert "double" in defined.text, defined
    assert "42" in called.text, called
    assert "100" in executed.text, executed
    assert "444" in state.text, state
    assert "ZeroDivisionError" in error.text, error
    assert error.is_error is not False, error
    assert picture.images == ["image/png"], picture
    assert not any(answer.is_error for answer in (defined, called, executed, kept, state, picture)), answers
