"""All commands but `serve`: arguments -> Settings -> one function each -> a table.

Those for a server that runs are in `operate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.text import Text

from dynasaur_mcp import __version__
from dynasaur_mcp.audit import audit
from dynasaur_mcp.doctor import Finding, examine, is_fit
from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.exchange import export, import_
from dynasaur_mcp.install import TakesSettings, bundle, config, setup
from dynasaur_mcp.operate import files, ps, sessions
from dynasaur_mcp.options import AsJson, Library, Sandbox
from dynasaur_mcp.records import restore, stale, stats
from dynasaur_mcp.review import approve, list_actions, remove, show_action
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.sweep import sweep
from dynasaur_mcp.tables import show_json, show_table
from dynasaur_mcp.write import add, edit, new, retest, watch

ClickException: Any = typer.BadParameter.__mro__[2]
"""Base of usage errors. typer up to 0.25 uses click's, later ones a copy of it that they do not export."""

app = typer.Typer(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
actions = typer.Typer(help="Look after the library.", invoke_without_command=True)
image = typer.Typer(help="Build the Docker image of the workers.", invoke_without_command=True)
app.add_typer(actions, name="actions")
app.add_typer(image, name="image")
app.add_typer(sessions, name="sessions")
app.add_typer(files, name="files")


def run(arguments: Sequence[str]) -> int:
    """Run the command that `arguments` say; returns its exit status."""
    try:
        status = typer.main.get_command(app)(args=list(arguments), prog_name="dynasaur-mcp", standalone_mode=False)
    except ClickException as error:
        wrong = error.format_message()
        program = error.ctx.command_path if getattr(error, "ctx", None) else "dynasaur-mcp"
        raise SettingsError(
            f"{wrong}{'' if wrong[-1] in '.?' else '.'} `{program} --help` shows what there is."
        ) from None
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
@sessions.callback()
@files.callback()
def start_group(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(cls=TakesSettings, context_settings={"ignore_unknown_options": True}, add_help_option=False)
def serve(options: Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]")] = None) -> int:
    """Serve MCP on stdin and stdout; `serve --help` lists every setting."""
    from dynasaur_mcp.serve import serve  # main() goes there straight; this is for the help, and for run() alone

    return serve(options or [])


@app.command()
def demo(
    sandbox: Sandbox = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the library, and say where it is.")] = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the first steps as an SVG.")] = None,
) -> None:
    """See the main job done by a real client on real data, in seconds."""
    from dynasaur_mcp.demo import run_demo

    read_settings(sandbox=sandbox)  # a wrong one is told here, not by the server in the middle of the story
    run_demo(sandbox=sandbox, keep=keep, picture=picture)


@app.command()
def doctor(library: Library = None, sandbox: Sandbox = None, as_json: AsJson = False) -> int:
    """Check everything the server needs, and say what to do about what is missing."""

    async def consult() -> list[Finding]:
        findings = []
        async for finding in examine(read_settings(library=library, sandbox=sandbox)):
            if not as_json:
                show_finding(finding)
            findings.append(finding)
        return findings

    findings = anyio.run(consult)
    fit = is_fit(findings)
    if as_json:
        show_json([asdict(finding) for finding in findings])
    else:
        typer.echo("The server can work." if fit else "The server cannot work yet: mend each problem.")
    return 0 if fit else 1


@image.command("build")
def build(
    base: Annotated[str | None, typer.Option(metavar="IMAGE", help="An image with Python 3.11 or later.")] = None,
) -> None:
    """Build the image that workers run in."""
    from dynasaur_mcp.sandbox.image import build_image

    async def build() -> str:
        return await build_image(base, on_line=lambda line: typer.echo(line, err=True))

    typer.echo(anyio.run(build))


@app.command()
def gc(
    packages: Annotated[
        bool, typer.Option("--packages", help="Remove all packages not in use; have their versions chosen anew.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what killed servers left behind, and packages beyond their room."""
    swept = anyio.run(partial(sweep, read_settings(), all_packages=packages))
    if as_json:
        show_json([asdict(one) for one in swept])
        return
    rows = [
        (one.sandbox, str(one.workers), str(one.sets), f"{one.bytes / (1 << 20):,.1f} MiB", one.note) for one in swept
    ]
    show_table(["sandbox", "workers", "package sets", "freed", ""], rows)


# In the order that the help lists them: after those above.
app.command()(setup)
app.command(cls=TakesSettings, context_settings={"ignore_unknown_options": True}, add_help_option=False)(config)
app.command()(bundle)
app.command()(stats)
app.command()(audit)
app.command()(ps)
actions.command("list")(list_actions)
actions.command("show")(show_action)
actions.command()(add)
actions.command()(approve)
actions.command()(remove)
actions.command("test")(retest)
actions.command()(new)
actions.command()(edit)
actions.command()(watch)
actions.command("import")(import_)
actions.command("export")(export)
actions.command()(restore)
actions.command()(stale)


def show_finding(finding: Finding) -> None:
    mark, style = (
        ("ok     ", "green") if finding.ok else ("problem", "red") if finding.needed else ("missing", "yellow")
    )
    console = Console()
    console.print(Text.assemble((mark, style), "  ", (finding.what, "bold"), f": {finding.found}"), soft_wrap=True)
    if finding.advice:
        console.print(Text(f"         → {finding.advice}"), soft_wrap=True)
