"""Commands about this installation: which settings count, which clients know the server."""

from __future__ import annotations

from typing import Annotated

import typer

from dynasaur_mcp.serve import make_serve_parser
from dynasaur_mcp.settings import settings_files, trace_settings
from dynasaur_mcp.tables import show_json, show_table


def config(options: Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]")] = None) -> None:
    """Print every setting as it counts here, and where it comes from; takes the options of `serve`, and --json."""
    parser = make_serve_parser()
    parser.prog, parser.usage = "dynasaur-mcp config", "dynasaur-mcp config [--json] [OPTIONS of serve]"
    parser.description = config.__doc__
    parser.add_argument("--json", action="store_true", help="Print it as JSON.")
    flags = vars(parser.parse_args(options or []))
    as_json, _ = flags.pop("json"), flags.pop("starter")
    settings, origins = trace_settings(**flags)
    values = settings.model_dump(mode="json")  # a secret is asterisks there
    if as_json:
        show_json({name: {"value": value, "from": origins.get(name, "default")} for name, value in values.items()})
        return
    shown = {bool: lambda value: "on" if value else "off"}
    rows = [
        (name, shown.get(type(value), str)("" if value is None else value), origins.get(name, "default"))
        for name, value in values.items()
    ]
    show_table(["setting", "value", "from"], rows)
    for file in settings_files():
        typer.echo(f"{file}: {'read' if file.exists() else 'not there'}", err=True)
