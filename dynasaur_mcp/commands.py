"""All commands but `serve`: arguments -> Settings -> one function each -> a table.

Those for a server that runs are in `operate`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import typer
from rich.console import Console
from rich.syntax import Syntax
from rich.text import Text

from dynasaur_mcp import __version__
from dynasaur_mcp.add import Added, add_actions, describe, find_starter
from dynasaur_mcp.app import App, open_app, open_store
from dynasaur_mcp.audit import audit
from dynasaur_mcp.doctor import Finding, examine, is_fit
from dynasaur_mcp.errors import ActionError, SettingsError
from dynasaur_mcp.exchange import export, import_
from dynasaur_mcp.install import TakesSettings, bundle, config, setup
from dynasaur_mcp.library.audit import Deed
from dynasaur_mcp.library.change import decide_status
from dynasaur_mcp.library.filestore import FileStore
from dynasaur_mcp.manage import manage_action
from dynasaur_mcp.operate import files, ps, sessions
from dynasaur_mcp.records import restore, stale, stats
from dynasaur_mcp.settings import read_settings
from dynasaur_mcp.sweep import sweep
from dynasaur_mcp.tables import AsJson, show_json, show_row, show_table
from dynasaur_mcp.types import LOCAL, Entry, Status
from dynasaur_mcp.write import Name, complete_actions, edit, new, retest, watch

ClickException: Any = typer.BadParameter.__mro__[2]
"""Base of usage errors. typer up to 0.25 uses click's, later ones a copy of it that they do not export."""

Library = Annotated[Path | None, typer.Option("--library", metavar="PATH", help="Folder of the action library.")]
Sandbox = Annotated[Literal["auto", "docker", "jail"] | None, typer.Option("--sandbox", help="Where code runs.")]

Names = Annotated[list[str], typer.Argument(metavar="NAME…", autocompletion=complete_actions)]

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


@actions.command("list")
def list_actions(library: Library = None, as_json: AsJson = False) -> None:
    """List all actions, and the files that are none."""
    with open_store(read_settings(library=library)) as store:
        entries = store.entries()
        rows = [
            (one.name, f"v{one.version}", describe_status(one), str(one.tests), str(one.calls), one.action.summary)
            for one in entries
        ]
        if as_json:
            show_json([to_json(one) for one in entries])
        elif rows:
            show_table(["name", "version", "status", "tests", "calls", "what it does"], rows)
        else:
            typer.echo("The library has no actions yet: `dynasaur-mcp actions add starter` brings some in.", err=True)
        for broken in store.broken():
            typer.echo(f"{broken.file} is no action: {'; '.join(map(str, broken.problems))}", err=True)


@actions.command("show")
def show_action(name: Name, library: Library = None) -> None:
    """Print an action's source."""
    with open_store(read_settings(library=library)) as store:
        entry = store.get(name)
    Console(stderr=True, soft_wrap=True).print(
        Text(f"{entry.name} {describe(entry)}, by {entry.author}, {entry.defined_at:%Y-%m-%d %H:%M} UTC", style="dim")
    )
    console = Console()
    if console.is_terminal:
        console.print(Syntax(entry.action.source, "python", theme="ansi_dark", background_color="default"))
    else:
        typer.echo(entry.action.source, nl=not entry.action.source.endswith("\n"))


@actions.command("add")
def add(
    files: Annotated[list[str], typer.Argument(metavar="starter|FILE…", help="The starter actions, or files.")],
    library: Library = None,
    sandbox: Sandbox = None,
    replace: Annotated[bool, typer.Option("--replace", help="Make new versions of actions that exist.")] = False,
    anyway: Annotated[bool, typer.Option("--anyway", help="Also of those that do not do what they did.")] = False,
) -> int:
    """Bring actions into the library: each is checked and tested in a sandbox first."""
    paths = [path for file in files for path in (find_starter() if file == "starter" else [Path(file)])]
    author = "starter" if files == ["starter"] else LOCAL

    async def bring() -> list[Added]:
        async with open_app(read_settings(library=library, sandbox=sandbox)) as app:
            added = []
            async for one in add_actions(paths, app, author=author, replace=replace, anyway=anyway):
                show_row(one.file, one.how, one.note, failed=one.failed, room=max(len(path.name) for path in paths))
                added.append(one)
            return added

    added = anyio.run(bring)
    return 1 if any(one.failed for one in added) else 0


@actions.command("approve")
def approve(
    versions: Annotated[list[str], typer.Argument(metavar="NAME@VERSION…", help="As `actions show` gave it.")],
    library: Library = None,
) -> None:
    """Make drafts active whose tests passed: what --require-approval leaves to a person, who read that very version."""
    with open_store(read_settings(library=library)) as store:
        for name, version in [read_version(text, store) for text in versions]:
            approved = store.set_status(name, Status.ACTIVE, expected_version=version, deed=Deed.APPROVE)
            typer.echo(f"{name} v{approved.version} is {approved.status}.")


def read_version(text: str, store: FileStore) -> tuple[str, int]:
    """
    Raises:
        ActionError: that version of it cannot be approved.
    """
    name, _, number = text.partition("@")
    entry = store.get(name)
    shown = f"`dynasaur-mcp actions show {name}` shows it"
    if not number.isdecimal():
        raise ActionError(f"Say which version of {name!r} you read: {name}@{entry.version} is what it is now; {shown}.")
    if number != str(entry.version):
        raise ActionError(f"{name!r} is at version {entry.version} now, not {number[:9]}. Read that first: {shown}.")
    if decide_status(entry.tests) is not Status.ACTIVE:
        raise ActionError(f"{name!r} cannot be approved: {entry.tests}. It needs some, all passed.")
    return name, entry.version


@actions.command("remove")
def remove(names: Names, library: Library = None) -> None:
    """Delete actions. Their history stays, so that `actions restore` can bring them back."""

    async def delete() -> None:
        async with open_app(read_settings(library=library)) as app:
            for entry in [app.store.get(name) for name in names]:
                typer.echo(await manage(entry.name, "delete", app))

    anyio.run(delete)


async def manage(name: str, op: str, app: App) -> str:
    return await manage_action(
        name,
        op,
        version=None,
        principal=LOCAL,
        store=app.store,
        index=app.index,
        pool=app.pool,
        changed=app.changed,
        require_approval=app.settings.require_approval,
    )


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
actions.command("test")(retest)
actions.command()(new)
actions.command()(edit)
actions.command()(watch)
actions.command("import")(import_)
actions.command("export")(export)
actions.command()(restore)
actions.command()(stale)


def to_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "version": entry.version,
        "status": entry.status,
        "pinned": entry.pinned,
        "tests": asdict(entry.tests),
        "calls": entry.calls,
        "author": entry.author,
        "defined_at": entry.defined_at.isoformat(),
        "summary": entry.action.summary,
    }


def describe_status(entry: Entry) -> str:
    return f"{entry.status}, pinned" if entry.pinned else str(entry.status)


def show_finding(finding: Finding) -> None:
    mark, style = (
        ("ok     ", "green") if finding.ok else ("problem", "red") if finding.needed else ("missing", "yellow")
    )
    console = Console()
    console.print(Text.assemble((mark, style), "  ", (finding.what, "bold"), f": {finding.found}"), soft_wrap=True)
    if finding.advice:
        console.print(Text(f"         → {finding.advice}"), soft_wrap=True)
