"""What is kept of a call's arguments, so that the call can be made again when its action is replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from dynasaur_mcp.types import JSON

_SECRET = re.compile(r"passw|secret|credential|token|api_?key|private_?key|authorization|cookie", re.IGNORECASE)


def write_arguments(arguments: Mapping[str, JSON], most_bytes: int) -> str | None:
    """As JSON that is the same for the same arguments; None where they are too long, or one is named like a secret."""
    if most_bytes <= 0 or any(_SECRET.search(name) for name in arguments):
        return None
    try:
        text = json.dumps(arguments, sort_keys=True)
    except (TypeError, ValueError, RecursionError):
        return None
    return text if len(text) <= most_bytes else None
