"""The command `audit`: who did what, and when."""

from __future__ import annotations

import re
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from dynasaur_mcp.app import open_store
from dynasaur_mcp.library.audit import Deed, Record
from dynasaur_mcp.options import AsJson, Library
from dynasaur_mcp.server.text import clean_line
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.tables import show_json, show_table

CHARACTERS = 200
"""Shown of what a client, or the issuer of its token, chose to say of itself."""
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}

Since = Annotated[
    str | None, typer.Option("--since", metavar="WHEN", help="Not before: 30m, 12h, 7d, or a date or time in UTC.")
]


def audit(
    since: Since = None,
    principal: Annotated[str | None, typer.Option("--principal", help="Of this principal only.")] = None,
    action: Annotated[str | None, typer.Option("--action", metavar="NAME", help="About this action only.")] = None,
    kinds: Annotated[
        list[Deed] | None, typer.Option("--kind", metavar="KIND", help=f"{', '.join(Deed)}; may be given again.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many, the last ones.")] = 100,
    library: Library = None,
    as_json: AsJson = False,
) -> None:
    """Show who defined, approved, changed, called and ran what, newest first."""
    after = read_when(since, datetime.now(UTC)) if since else None
    with open_store(read_settings(library=library)) as store:
        records = store.records(since=after, principal=principal, name=action, deeds=kinds or tuple(Deed), limit=limit)
    if as_json:
        show_json([_to_json(record) for record in records])
        return
    columns = ["when (UTC)", "who", "via", "did", "action", "how", "took", "session", "code (SHA-256)"]
    show_table(columns, map(_to_row, records))


def read_when(text: str, now: datetime) -> datetime:
    """
    Raises:
        typer.BadParameter
    """
    if span := re.fullmatch(r"(\d{1,6})([mhd])", text):
        return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: give 30m, 12h, 7d, 2026-07-28 or 2026-07-28T12:00") from None
    return when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)


def _to_row(record: Record) -> tuple[str, ...]:
    return (
        f"{record.at:%Y-%m-%d %H:%M:%S}",
        _clean(record.principal),
        record.via,
        record.deed,
        f"{record.name} v{record.version}" if record.name else "",
        _clean(record.ending or record.note),
        "" if record.seconds is None else f"{record.seconds:,.3f} s",
        _clean(record.session),
        record.sha256[:12],
    )


def _to_json(record: Record) -> dict[str, Any]:
    texts = {key: _clean(value) or None for key, value in asdict(record).items() if isinstance(value, str)}
    return {
        "at": record.at.isoformat(),
        "kind": texts.pop("deed"),
        **texts,
        "version": record.version or None,
        "seconds": record.seconds,
        "code_bytes": record.code_bytes,
    }


def _clean(text: str) -> str:
    return clean_line(text, CHARACTERS)
