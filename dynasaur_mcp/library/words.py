"""Words of names and queries, as the index takes them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_MAX_QUERY_WORDS = 64
_MAX_CHARACTERS = 20_000
_MAX_PARTS = 8
_PART_WORDS = 3
"""Words that say something, at least, for a part of a query to be a need of its own."""
_BETWEEN_PARTS = re.compile(
    r"""(?<=[.!?;。！？；])\s+|(?<=[。！？；])|\n+|[,;]?\s+(?:and\s+)?(?:then|also|finally|afterwards|additionally|after\s+that)\b,?""",
    re.IGNORECASE,
)
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about all an and any are as at be been but by can could did do does for from give had has have how i if in
        into is it its let like me my need no not of on or our please so some than that the their them then there these
        they this those to up us use want was we were what when where which who will with would you your""",
    )
)
"""What they are shared with, they say nothing about."""
_UNSPACED = re.compile(
    "[\u1100-\u11ff\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]+"
)
"""Chinese, Japanese and Korean characters: not every word of theirs is told from the next by a space."""

_WORD = re.compile("(?:[^\\W_]|[\u0300-\u036f])+")
"""With accents that stand by themselves, as the dot does that casefolding an İ leaves: the index passes over them."""


def read_query(query: str) -> list[str]:
    """Its words in lower case, those that say nothing left out unless there are no others."""
    text = _UNSPACED.sub(lambda run: f" {' '.join(_pair(run[0]) or run[0])} ", split_name(query).casefold())
    words = list(dict.fromkeys(_WORD.findall(text)))
    return ([word for word in words if word not in STOP_WORDS] or words)[:_MAX_QUERY_WORDS]


def spread_text(text: str) -> str:
    """A text as its words are indexed, so that `read_query` of any part of it has words that are in it."""
    return _UNSPACED.sub(lambda run: f" {' '.join((*run[0], *_pair(run[0])))} ", text.casefold())


def _pair(run: str) -> list[str]:
    """Each two characters that stand side by side."""
    return [run[start : start + 2] for start in range(len(run) - 1)]


def clean_text(text: str) -> str:
    """As much of it as is searched, each letter with its accents in one character, as macOS does not write them, and
    without what a database or a tokenizer chokes on: lone surrogates, NUL.
    """
    text = unicodedata.normalize("NFC", text[:_MAX_CHARACTERS])
    return text.encode("utf-8", "replace").decode().replace("\0", " ")


def read_parts(query: str) -> list[str]:
    """The needs that it names, sentence by sentence; none where it names only one."""
    parts = [part.strip() for part in _BETWEEN_PARTS.split(query)]
    parts = [part for part in parts if len(read_query(part)) >= _PART_WORDS][:_MAX_PARTS]
    return parts if len(parts) > 1 else []


def quote_words(tokens: Sequence[str]) -> str:
    # Only letters and digits are left in a token, and in quotes none of them is FTS5 syntax, not even OR or NEAR.
    return " OR ".join(f'"{token}"' for token in tokens)


def split_name(text: str) -> str:
    """camelCase and snake_case as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).replace("_", " ")
