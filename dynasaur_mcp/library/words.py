"""Words of names and queries, as the index takes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

_MAX_QUERY_WORDS = 64
_STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        """a about all an and any are as at be been but by can could did do does for from give had has have how i if in
        into is it its let like me my need no not of on or our please so some than that the their them then there these
        they this those to up us use want was we were what when where which who will with would you your""",
    )
)


def read_query(query: str) -> list[str]:
    """Its words in lower case, those that say nothing left out unless there are no others."""
    words = list(dict.fromkeys(re.findall(r"[^\W_]+", split_name(query).lower())))
    return ([word for word in words if word not in _STOP_WORDS] or words)[:_MAX_QUERY_WORDS]


def quote_words(tokens: Sequence[str]) -> str:
    # Only letters and digits are left in a token, and in quotes none of them is FTS5 syntax, not even OR or NEAR.
    return " OR ".join(f'"{token}"' for token in tokens)


def split_name(text: str) -> str:
    """camelCase and snake_case as words."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text).replace("_", " ")
