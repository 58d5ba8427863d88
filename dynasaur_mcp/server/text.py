"""Texts and values made fit to be sent and read: cleaned, shortened, joined.

Whatever comes from a sandbox is cleaned first: a lone surrogate, or a value nested too deep, would end the whole
connection when the SDK writes the answer.
"""

from __future__ import annotations

import json
import math
import re
from itertools import accumulate

from dynasaur_mcp.types import JSON

MAX_DEPTH = 100
MESSAGE_BYTES = 1_005_000
"""Of what one answer carries: a client of the SDK ends a connection over HTTP at a message of more than 1 MiB."""
_ANSI = re.compile(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level in, or out, as a signed byte."""
_ALL_BUT_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


class TooDeepError(Exception):
    """A value is nested deeper than `MAX_DEPTH`."""


def clean_text(text: str) -> str:
    """Text that is safe in JSON and reads as it prints: colours gone, other control characters escaped."""
    text = _ANSI.sub("", text.replace("\r\n", "\n")).replace("\r", "\n")
    return _UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def clean_value(value: JSON) -> JSON:
    """A value as strict JSON: no lone surrogates, no NaN or infinity (they become null).

    Raises:
        TooDeepError: see there.
    """
    # A walk through a value of 2 MiB keeps the event loop for a second; what is fit, as nearly all is, needs none.
    return value if _is_fit(value) else _clean(value, MAX_DEPTH)


def _is_fit(value: JSON) -> bool:
    """Whether there is nothing to clean. Brackets within texts count as nesting: a walk will tell."""
    try:
        written = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return False
    brackets = written.translate(_STEPS, _ALL_BUT_BRACKETS)
    return max(accumulate(memoryview(brackets).cast("b")), default=0) < MAX_DEPTH


def _clean(value: JSON, depth: int) -> JSON:
    if depth == 0:
        raise TooDeepError
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {_clean(str(key), depth): _clean(item, depth - 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item, depth - 1) for item in value]
    return value


def measure(value: JSON) -> int:
    """Bytes of a value on the wire, where the stateless era over HTTP writes nothing but ASCII."""
    return len(json.dumps(value, separators=(",", ":")))


def fit_message(text: str) -> str:
    """As much of a text, from its beginning, as one answer carries."""
    while (size := measure(text)) > MESSAGE_BYTES:
        text = text[: len(text) * MESSAGE_BYTES // size * 9 // 10]
    return text


def shorten(text: str, limit: int, rest: str) -> str:
    """At most about `limit` characters: head and tail, and between them a line that says where the rest is."""
    if len(text) <= limit:
        return text
    head, tail = text[: limit * 2 // 3], text[-(limit // 3) :]
    return f"{head}\n[… {len(text) - len(head) - len(tail):,} characters left out{rest} …]\n{tail}"


def shorten_to_tail(text: str, limit: int, rest: str) -> str:
    """The newest of a text that is still growing, after a line that says where the rest is."""
    if len(text) <= limit:
        return text
    return f"[… {len(text) - limit:,} characters before this{rest} …]\n{text[-limit:]}"


def clean_line(text: str, limit: int) -> str:
    """One printable line of at most `limit` characters."""
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def show_name(name: str) -> str:
    """A file's name or path; quoted, with escapes, where it has line breaks or orders to a terminal."""
    return name if name.isprintable() else repr(name)


def first_line(error: Exception) -> str:
    """What a model is told of an error that only the operator can mend."""
    return clean_line((str(error).splitlines() or [type(error).__name__])[0], 300)


def section(label: str, text: str) -> str:
    """A labelled text, or nothing where there is none."""
    text = text.rstrip()
    return f"{label}:\n{text}" if text else ""


def join(*sections: str) -> str:
    return "\n\n".join(text for text in sections if text)


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
