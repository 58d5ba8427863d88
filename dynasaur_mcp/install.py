"""Commands about this installation: which settings count, which clients know the server."""

from __future__ import annotations

import difflib
import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dynasaur_mcp import __version__
from dynasaur_mcp.clients import (
    CLIENTS,
    Client,
    ClientError,
    find_machine,
    remove_entry,
    server_command,
    show_entry,
    write_entry,
)
from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.serve import make_serve_parser
from dynasaur_mcp.settings import settings_files, trace_settings
from dynasaur_mcp.tables import show_json, show_table

SERVE = server_command("--starter", "--transport", "stdio")
"""What clients are told to start: on stdin and stdout, whatever a settings file or their environment says."""


class TakesSettings(TyperCommand):
    """A command whose options are those of `serve`, which argparse reads: typer is told of them to complete them."""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        options = {option.removeprefix("--").replace("-", "_"): option for option in make_serve_parser().get_options()}

        def stand_in() -> None: ...

        kind = inspect.Parameter.KEYWORD_ONLY
        parameters = [inspect.Parameter(name, kind, default=typer.Option("", text)) for name, text in options.items()]
        vars(stand_in)["__signature__"] = inspect.Signature(parameters)
        stand_in.__annotations__ = dict.fromkeys(options, str)
        helper = typer.Typer(add_completion=False)
        helper.command(add_help_option=False)(stand_in)
        self.params += typer.main.get_command(helper).params
        return super().shell_complete(ctx, incomplete)


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


def _complete_clients(incomplete: str) -> list[str]:
    return [word for word in ("remove", *CLIENTS) if word.startswith(incomplete)]


def setup(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar=f"[remove] [{'|'.join(CLIENTS)}]…", autocompletion=_complete_clients),
    ] = None,
    print_only: Annotated[bool, typer.Option("--print", help="Only show the entry, and where it goes.")] = False,
) -> int:
    """Make this server known to MCP clients: to those named, else to all that are installed. `remove` undoes it.

    The file as it was is kept beside it, as FILE.before-dynasaur.
    """
    words = list(names or [])
    is_removal = words[:1] == ["remove"]
    machine = find_machine()
    chosen = [_find_client(name) for name in words[is_removal:]]
    chosen = chosen or [client for client in CLIENTS.values() if client.is_installed(machine)]
    if not chosen:
        raise ClientError(f"No client was found here. Name one of {', '.join(CLIENTS)}, or add it by hand.")
    rows, failed = [], False
    for client in chosen:
        file = client.file(machine)
        if print_only:
            typer.echo(f"{client.title}: {file}", err=True)
            typer.echo(show_entry(client, SERVE), nl=False)
            continue
        try:
            if is_removal:
                done = "removed" if remove_entry(client, machine) else "was not there"
            else:
                done = "added: start it anew" if write_entry(client, machine, SERVE) else "there already"
        except ClientError as error:
            failed = True
            typer.echo(f"dynasaur-mcp: {client.title}: {error}", err=True)
        else:
            rows.append((client.title, done, str(file)))
    if not print_only:
        show_table(["client", "", "file"], rows)
    return 1 if failed else 0


def _find_client(name: str) -> Client:
    if name in CLIENTS:
        return CLIENTS[name]
    near = difflib.get_close_matches(name, CLIENTS, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"There are {', '.join(CLIENTS)}."
    raise SettingsError(f"No client named {name!r}. {hint}")


def bundle(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="What to write.")] = Path(
        f"dynasaur-mcp-{__version__}.mcpb"
    ),
) -> None:
    """Write this installation as an MCP bundle, which desktop clients install by a click."""
    from dynasaur_mcp.bundle import write_bundle

    write_bundle(file)
    typer.echo(f"{file}\t{file.stat().st_size:,} bytes")
