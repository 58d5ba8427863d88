"""`dynasaur-mcp serve`, which is what clients start.

Its options are read with argparse, straight from the fields of `Settings`: each is one and none is forgotten. All other
commands are typer's, in `commands.py`; importing typer and rich takes a tenth of the time a bare MCP server needs to
start, which no client should wait for.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

from dynasaur_mcp.errors import SettingsError
from dynasaur_mcp.settings import Settings, is_secret, read_settings

_KINDS: dict[Any, str] = {Path: "PATH", Path | None: "PATH", int: "NUMBER", float: "NUMBER"}


def serve(arguments: Sequence[str]) -> NoReturn:
    """Serve MCP until stdin ends, or over HTTP until SIGTERM."""
    options = vars(make_serve_parser().parse_args(arguments))
    starter = options.pop("starter")
    settings = read_settings(**options)
    # Imported after the options are read: wrong usage is not worth a second's wait.
    import anyio

    from dynasaur_mcp.app import App
    from dynasaur_mcp.app import serve as serve_with

    async def add_starter(app: App) -> None:
        from dynasaur_mcp.add import add_starter

        await add_starter(app)

    anyio.run(serve_with, settings, add_starter if starter else None)
    # Not by the interpreter's own end: it would wait for the import lock of a thread that is still loading the model.
    sys.stderr.flush()
    os._exit(0)


class ServeParser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def get_options(self) -> list[str]:
        return [option for option in self._option_string_actions if option.startswith("--")]

    def error(self, message: str) -> NoReturn:
        unknown = re.findall(r"(--[\w-]+)", message) if message.startswith("unrecognized") else []
        if unknown:  # without their values: one may be a secret, given in the wrong place
            message = f"unrecognized arguments: {' '.join(unknown)}"
        near = [one for name in unknown for one in difflib.get_close_matches(name, self._option_string_actions, n=1)]
        hint = f" Did you mean {' and '.join(near)}?" if near else ""
        raise SettingsError(f"{message}.{hint} `{self.prog} --help` shows the options.")


def make_serve_parser() -> ServeParser:
    """One option for each setting. What is given stays text, for pydantic to read like the environment; else None."""
    parser = ServeParser(
        prog="dynasaur-mcp serve",
        usage="dynasaur-mcp serve [OPTIONS]",
        allow_abbrev=False,  # `--token` is not short for `--token-file`
        description="Serve MCP on stdin and stdout, or over HTTP with --transport http. Logs go to stderr.",
        epilog="Each option is also an environment variable, --timeout-seconds is DYNASAUR_TIMEOUT_SECONDS, and can "
        "stand in a file dynasaur.toml, as timeout_seconds. The token is no option: all users can see arguments.",
    )
    parser.add_argument("--starter", action="store_true", help="Add those starter actions that the library has not.")
    for name, setting in Settings.model_fields.items():
        if is_secret(name):  # the arguments of a process can be read by every user of the machine
            continue
        option = "--" + name.replace("_", "-")
        words = (setting.description or "").replace("%", "%%")
        default = "" if setting.default_factory or setting.default in ("", False, None) else f" [{setting.default}]"
        if setting.annotation is bool:
            parser.add_argument(option, action="store_true", default=None, help=words)
        else:
            choices = [choice for choice in get_args(setting.annotation) if isinstance(choice, str)]
            shown = "|".join(choices) or _KINDS.get(setting.annotation, "TEXT")
            parser.add_argument(option, metavar=shown, help=words + default)
    return parser
