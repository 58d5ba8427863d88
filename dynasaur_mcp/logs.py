"""What the server writes on stderr: lines to read, or JSON objects to collect."""

from __future__ import annotations

import logging
import sys
from typing import Literal


def set_up_logging(level: str, form: Literal["text", "json"]) -> None:
    """For the whole process. JSON has what a line is about in fields of their own: see `runs` and `server.handlers`."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_json() if form == "json" else logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _json() -> logging.Formatter:
    from pythonjsonlogger.json import JsonFormatter  # on use: most servers write text

    return JsonFormatter(
        ["asctime", "levelname", "name", "message"],
        rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        datefmt="%Y-%m-%dT%H:%M:%S%z",
    )
