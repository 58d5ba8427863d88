"""One step of a session: code run as a notebook cell, in a fork of the session that becomes the session."""

from __future__ import annotations

from _ast import (
    AsyncFor,
    AsyncFunctionDef,
    AsyncWith,
    Expr,
    Expression,
    For,
    FunctionDef,
    If,
    Match,
    Module,
    PyCF_ALLOW_TOP_LEVEL_AWAIT,
    PyCF_ONLY_AST,
    Try,
    TryStar,
    While,
    With,
)
from contextlib import suppress
from os import scandir
from sys import modules
from time import clock_gettime_ns
from types import CodeType, ModuleType

from dynasaur_mcp.sandbox.worker.display import add_figures, display
from dynasaur_mcp.sandbox.worker.imports import add_packages, add_sources, cache_lines, split_lines
from dynasaur_mcp.sandbox.worker.pages import pages
from dynasaur_mcp.sandbox.worker.problems import describe_exception
from dynasaur_mcp.sandbox.worker.rehearsal import rehearse_beginning, rehearse_end
from dynasaur_mcp.sandbox.worker.workspaces import WORKSPACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _ast import stmt
    from types import TracebackType
    from typing import Any

    from dynasaur_mcp.sandbox.worker.forker import Channel

MAX_FILES = 50
_MAX_FILES_LOOKED_AT = 5000
_FLAGS = PyCF_ALLOW_TOP_LEVEL_AWAIT
_COMPOUND = (If, For, AsyncFor, While, With, AsyncWith, Try, TryStar, Match)
_CO_COROUTINE = 0x80
"""Of `inspect`, which a worker's start would wait for."""
_CLOCK_REALTIME_COARSE = 5
"""Of linux/time.h; Python has no name for it."""

_session = ModuleType("__main__")


def run_step(_channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `step`: `code`, `number`, and the `sources` and `folders` its imports need."""
    started = now_ns()
    modules["__main__"] = _session
    filename = f"<step {message['number']}>"
    cache_lines(filename, message["code"])
    try:
        add_sources(message["sources"])
        others = add_packages(message["folders"])
    except BaseException as error:  # boundary: user code may have replaced what these use
        return {"ending": "raised", "error": describe_exception(error)}
    done = execute(message["code"], filename, _session.__dict__)
    files = changed_files(started)
    pages.note()
    return {**done, "other_versions": others, "files": files}


def rehearse_step() -> None:
    """A step that does nothing. It leaves alone `random`, whose numbers are the session's, and open figures."""
    message = rehearse_beginning()
    add_sources({})
    rehearse_end(execute("0", message["op"], {}, shows_figures=False))


def execute(code: str, filename: str, namespace: dict[str, Any], *, shows_figures: bool = True) -> dict[str, Any]:
    """What the `done` frame says of the code itself, run as a cell of a notebook.

    Args:
        shows_figures: Those that are open, which are closed by that.
    """
    done: dict[str, Any] = {"ending": "returned", "shown": "", "error": "", "defined": []}
    statements: list[stmt] = []
    has_run = False
    try:
        tree = _parse(code, filename)
        statements = list(tree.body)
        value = _execute(tree, filename, namespace)
        has_run = True
        shown = display(value)
        if shows_figures:
            add_figures(shown, value)
        done |= {"shown": shown.text, **shown.fields}
        done["defined"] = _public_functions(tree)
    except MemoryError as error:
        done.update(ending="memory", error=describe_exception(error))
    except BaseException as error:  # boundary: user code, SystemExit and KeyboardInterrupt included
        done.update(ending="raised", error=describe_exception(error))
        with suppress(Exception):  # boundary: user code may have replaced what this uses
            if not has_run:
                done["ran"] = _find_what_ran(code, statements, filename, error)
    return done


def _find_what_ran(code: str, statements: list[stmt], filename: str, error: BaseException) -> str:
    """The part of a step that counts: up to the statement that raised, with that if it may have run in part."""
    place = _find_place(error.__traceback__, filename)
    ran = [each for each in statements if (each.end_lineno or 0, each.end_col_offset or 0) <= place]
    ran += [each for each in statements[len(ran) : len(ran) + 1] if place > (0, 0) and isinstance(each, _COMPOUND)]
    if not ran:
        return ""
    *before, last = split_lines(code)[: ran[-1].end_lineno]
    return "".join(before) + last.encode()[: ran[-1].end_col_offset].decode()


def _find_place(trace: TracebackType | None, filename: str) -> tuple[int, int]:
    """Line and column, in bytes, of what the step was at; zeros if nothing of it ran."""
    while trace:
        code = trace.tb_frame.f_code
        if code.co_filename == filename:
            line, _, column, _ = list(code.co_positions())[trace.tb_lasti // 2]
            return line or trace.tb_lineno, column or 0
        trace = trace.tb_next
    return 0, 0


def _parse(code: str, filename: str) -> Module:
    tree = compile(code, filename, "exec", PyCF_ONLY_AST, dont_inherit=True)
    assert isinstance(tree, Module)
    return tree


def _execute(tree: Module, filename: str, namespace: dict[str, Any]) -> Any:
    """Run all statements; the value of the last one if it is an expression, also kept as `_`."""
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], Expr) else None
    codes = [compile(tree, filename, "exec", _FLAGS, dont_inherit=True)] if tree.body else []
    if isinstance(last, Expr):
        codes.append(compile(Expression(last.value), filename, "eval", _FLAGS, dont_inherit=True))
        tree.body.append(last)
    value = None
    for code in codes:
        value = _evaluate(code, namespace)
    if value is not None:
        namespace["_"] = value
    return value


def _evaluate(code: CodeType, namespace: dict[str, Any]) -> Any:
    value = eval(code, namespace)
    if code.co_flags & _CO_COROUTINE:
        import asyncio

        return asyncio.run(value)
    return value


def _public_functions(tree: Module) -> list[str]:
    functions = [node.name for node in tree.body if isinstance(node, FunctionDef | AsyncFunctionDef)]
    return [name for name in dict.fromkeys(functions) if not name.startswith("_")]


def now_ns() -> int:
    """The time by the clock that stamps files, which ticks more coarsely than others."""
    return clock_gettime_ns(_CLOCK_REALTIME_COARSE)


def changed_files(since_ns: int) -> list[dict[str, Any]]:
    """Regular files of the workspace written since then, up to MAX_FILES, by name."""
    found: list[dict[str, Any]] = []
    folders, looked_at = [WORKSPACE], 0
    while folders:
        try:
            with scandir(folders.pop()) as items:
                for item in items:
                    looked_at += 1
                    if looked_at > _MAX_FILES_LOOKED_AT:
                        return found
                    if item.is_dir(follow_symlinks=False):
                        folders.append(item.path)
                    elif item.is_file(follow_symlinks=False):
                        status = item.stat(follow_symlinks=False)
                        if status.st_mtime_ns >= since_ns and len(found) < MAX_FILES:
                            name = item.path.removeprefix(f"{WORKSPACE}/").encode("utf-8", "replace").decode()
                            found.append({"path": name, "size_bytes": status.st_size})
        except OSError:
            continue
    return sorted(found, key=lambda file: str(file["path"]))
