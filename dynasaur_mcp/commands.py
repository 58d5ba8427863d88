"""All commands but `serve`: arguments -> Settings -> one function each -> a table.

A table is drawn on a terminal; in a pipe it is lines of tab-separated values.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import anyio
import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from dynasaur_mcp import __version__
from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.types import Entry, Status

ClickException = typer.BadParameter.__mro__[2]
"""Base of usage errors. typer up to 0.25 uses click's, later ones a copy of it that they do not export."""

Library = Annotated[Path | None, typer.Option("--library", metavar="PATH", help="Folder of the action library.")]
Sandbox = Annotated[Literal["auto", "docker", "jail"] | None, typer.Option("--sandbox", help="Where code runs.")]

app = typer.Typer(add_completion=False, invoke_without_command=True)
actions = typer.Typer(help="Look after the library.", invoke_without_command=True)
image = typer.Typer(help="The Docker image of the workers.", invoke_without_command=True)
app.add_typer(actions, name="actions")
app.add_typer(image, name="image")


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` say; returns its exit status."""
    try:
        status = typer.main.get_command(app)(args=list(arguments), prog_name="dynasaur-mcp", standalone_mode=False)
    except ClickException as error:
        raise SettingsError(f"{error.format_message()} `dynasaur-mcp --help` shows what there is.") from None
    return status if isinstance(status, int) else 0


@app.callback()
def start(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """An MCP server whose tools are a library of Python functions that its clients extend while it runs.

    Without a command it serves MCP on stdin and stdout, as `serve` does; on a terminal it prints this help.
    """
    if version:
        typer.echo(f"dynasaur-mcp {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


@actions.callback()
@image.callback()
def start_group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(context_settings={"ignore_unknown_options": True}, add_help_option=False)
def serve(options: Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]")] = None) -> int:
    """Serve MCP on stdin and stdout; `serve --help` lists every setting."""
    from dynasaur_mcp.cli import serve  # main() comes there by itself; this is for the help, and for run() alone

    return serve(options or [])


@app.command()
def demo(
    sandbox: Sandbox = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the library, and say where it is.")] = False,
) -> None:
    """See the main job done by a real client on real data, in seconds."""
    from dynasaur_mcp.demo import run_demo

    run_demo(sandbox=sandbox, keep=keep)


@app.command()
def doctor(library: Library = None, sandbox: Sandbox = None) -> int:
    """Check everything the server needs, and say what to do about what is missing."""
    from dynasaur_mcp.doctor import examine, is_fit

    findings = anyio.run(examine, read_settings(library=library, sandbox=sandbox))
    for finding in findings:
        mark = "ok     " if finding.ok else "problem"
        line = Text.assemble((mark, "green" if finding.ok else "red"), "  ", (finding.what, "bold"), f": {finding.found}")
        Console().print(line, soft_wrap=True)
        if finding.advice:
            Console().print(Text(f"         → {finding.advice}"), soft_wrap=True)
    return 0 if is_fit(findings) else 1


@actions.command("list")
def list_actions(library: Library = None) -> None:
    """List all actions, and the files that are none."""
    from dynasaur_mcp.app import open_store

    with open_store(read_settings(library=library)) as store:
        rows = [
            (one.name, f"v{one.version}", describe_status(one), str(one.tests), str(one.calls), one.action.summary)
            for one in store.entries()
        ]
        show_table(["name", "version", "status", "tests", "calls", "what it does"], rows)
        for broken in store.broken():
            typer.echo(f"{broken.file} is no action: {'; '.join(map(str, broken.problems))}", err=True)


@actions.command("show")
def show_action(name: Annotated[str, typer.Argument()], library: Library = None) -> None:
    """Print an action's source."""
    from dynasaur_mcp.app import open_store

    with open_store(read_settings(library=library)) as store:
        entry = store.get(name)
    console = Console()
    if console.is_terminal:
        made = f"v{entry.version}, {describe_status(entry)}, {entry.tests}, by {entry.author}, {entry.defined_at:%Y-%m-%d %H:%M} UTC"
        console.print(Text(made, style="dim"))
        console.print(Syntax(entry.action.source, "python", theme="ansi_dark", background_color="default"))
    else:
        typer.echo(entry.action.source, nl=not entry.action.source.endswith("\n"))


@actions.command("test")
def test_actions(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME…]", help="All, when none is given.")] = None,
    library: Library = None,
    sandbox: Sandbox = None,
) -> int:
    """Run the tests of actions in a fresh worker."""
    from dynasaur_mcp.tend import test_actions

    tested = anyio.run(test_actions, read_settings(library=library, sandbox=sandbox), names or [])
    show_table(["name", "tests", "what failed"], [(one.name, one.tests, one.failed) for one in tested])
    return 0 if all(not one.failed for one in tested) else 1
