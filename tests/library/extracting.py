"""Function `f` of a session, or of a file, put into a file of its own and called there."""

from __future__ import annotations

from typing import Any

from dynasaur_mcp.library.closure import extract_from, extract_function
from dynasaur_mcp.library.modules import Modules, Reference


def extract(*steps: str) -> str:
    return extract_function(steps, "f")


def extract_file(text: str, **others: str) -> str:
    """Function f of package `p`'s module `m`; `others` are modules beside it, `init` the package itself."""
    texts = {f"p.{name}".removesuffix(".init"): other for name, other in {"init": "", "m": text, **others}.items()}
    modules = Modules({name: lambda text=text: text for name, text in texts.items()}, frozenset({"p"}))  # type: ignore[misc]
    return extract_from(modules, Reference("p.m", "f"))


def call(source: str, *arguments: object) -> Any:
    names: dict[str, Any] = {"__name__": "f"}
    exec(compile(source, "f.py", "exec"), names)
    return names["f"](*arguments)
