"""Print values as text that says all of them, for whoever compares them with those of another process."""

from __future__ import annotations

import sys
from contextlib import suppress
from hashlib import sha256
from json import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, NoReturn

_MOST_PARTS = 20_000
_MOST_CHARACTERS = 1_000_000
_SHOWN_CHARACTERS = 200


def print_values(namespace: Mapping[str, Any], names: Iterable[str]) -> NoReturn:
    """Print one line of JSON: by name, the beginning of a value's text and a digest of all of it. What has no such text
    is left out.

    Raises:
        SystemExit: always, as open figures are left for the next step to show by one that raises.
    """
    told = {}
    for name in names:
        with suppress(Exception):  # boundary: user code says what a value's text is
            text = _tell(namespace[name], [_MOST_PARTS])
            told[name] = [text[:_SHOWN_CHARACTERS], sha256(text.encode(errors="replace")).hexdigest()]
    sys.stdout.write(f"{dumps(told)}\n")
    raise SystemExit


def _tell(value: Any, left: list[int]) -> str:
    left[0] -= 1
    if left[0] < 0 or (isinstance(value, str | bytes | bytearray) and len(value) > _MOST_CHARACTERS):
        raise ValueError("too large")
    kind = type(value)
    if kind.__module__ == "__main__" or callable(value):
        raise ValueError("no text says all of it")
    if isinstance(value, dict):
        inner = ", ".join(f"{_tell(key, left)}: {_tell(each, left)}" for key, each in value.items())
    elif isinstance(value, list | tuple):
        inner = ", ".join(_tell(each, left) for each in value)
    elif isinstance(value, set | frozenset):
        inner = ", ".join(sorted(_tell(each, left) for each in value))
    elif hasattr(value, "__array__"):
        # Its own text is cut, and rounded as its library was told to.
        if value.size > left[0]:
            raise ValueError("too large")
        inner = _tell(value.__array__().tolist(), left)
    else:
        text = repr(value)
        # A set in it may be in any order.
        if " at 0x" in text or ("{" in text and not isinstance(value, str | bytes | bytearray)):
            raise ValueError("no text says all of it")
        return text
    return f"{kind.__name__}({inner})"
