"""The check of an action before it is kept: it imports, its types have schemas, its tests pass."""

from __future__ import annotations

import ast
import contextlib
import doctest
import importlib
import importlib.util
import inspect
import io
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from dynasaur_mcp.sandbox.worker.forker import Channel
from dynasaur_mcp.sandbox.worker.imports import add_packages, add_sources
from dynasaur_mcp.sandbox.worker.problems import describe_exception, hint_at_package
from dynasaur_mcp.sandbox.worker.relay import forget_environment
from dynasaur_mcp.sandbox.worker.schemas import SchemaError, Signature

MAX_FAILURES = 20
_MAX_FAILURE_CHARACTERS = 2000


def learn_checks(_channel: Channel, _message: dict[str, Any]) -> dict[str, Any]:
    """Job `learn`: be a process that has imported this module, for checks to be forks of."""
    return {"ending": "returned"}


def check_action(channel: Channel, message: dict[str, Any]) -> dict[str, Any]:
    """Job `check`: import `action`, make its schemas, run its tests, all without network. Says each phase first."""
    name = message["action"]
    done: dict[str, Any] = {"ending": "returned", "problems": [], "schemas": None, "passed": 0, "failures": []}
    channel.send({"phase": "import"})
    forget_environment()
    try:
        add_sources(message["sources"])
        add_packages(message["folders"])
        module = importlib.import_module(f"actions.{name}")
        done["schemas"] = Signature(getattr(module, name)).schemas()
        done["problems"] = list(_find_undeclared(message["sources"][name]))
        for test, failure in _run_tests(channel, module):
            if not failure:
                done["passed"] += 1
            elif len(done["failures"]) < MAX_FAILURES:
                done["failures"].append(f"{test}: {failure[:_MAX_FAILURE_CHARACTERS]}")
    except SchemaError as error:
        done.update(problems=[str(error)], is_unfit=True)
    except KeyboardInterrupt:
        done["ending"] = "raised"
    except BaseException as error:  # boundary: importing user code
        done["problems"] = [f"Importing it failed:\n{describe_exception(error)}"]
    return done


def _find_undeclared(source: str) -> Iterator[str]:
    """What functions import when they are called, and would not find. What may fail is tried in a `try`."""
    waiting: list[ast.AST] = [ast.parse(source)]
    missing: dict[str, int] = {}
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            for module in modules:
                if not _is_there(module.partition(".")[0]):
                    missing[module] = node.lineno
        elif not isinstance(node, ast.Try | ast.If):
            waiting += ast.iter_child_nodes(node)
    for module, line in sorted(missing.items(), key=lambda item: item[1]):
        yield f"line {line}: it imports {module!r}, which is not there. {hint_at_package(module)}"


def _is_there(package: str) -> bool:
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except Exception:  # boundary: finders of user code
        return True


def _run_tests(channel: Channel, module: ModuleType) -> Iterator[tuple[str, str]]:
    """Name and failure (empty if it passed) of each docstring with examples and each `test_*` function."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for test in filter(lambda test: test.examples, finder.find(module, module.__name__)):
        name = f"doctest of {test.name.rpartition('.')[2]}"
        channel.send({"phase": name})
        yield name, _run_doctest(test)
    for name, function in list(vars(module).items()):
        if name.startswith("test_") and inspect.isfunction(function):
            channel.send({"phase": name})
            yield name, _run_test(function)


class _Runner(doctest.DocTestRunner):
    """Says of an error what a call that raised it would say: user code only, with a hint."""

    def report_unexpected_exception(
        self, out: Callable[[str], object], test: doctest.DocTest, example: doctest.Example, exc_info: Any
    ) -> None:
        place = f'File "{test.filename}", line {(test.lineno or 0) + example.lineno + 1}, in {test.name}'
        shown, error = (textwrap.indent(text, "    ") for text in (example.source, describe_exception(exc_info[1])))
        out(f"{place}\nFailed example:\n{shown}Exception raised:\n{error}\n")


def _run_doctest(test: doctest.DocTest) -> str:
    report = io.StringIO()
    try:
        runner = _Runner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
        runner.run(test, out=report.write)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # boundary: user code
        return describe_exception(error)
    return report.getvalue().strip().lstrip("*").strip()


def _run_test(function: Any) -> str:
    with contextlib.ExitStack() as stack:
        arguments = {}
        for name in inspect.signature(function).parameters:
            if name != "tmp_path":
                return f"takes {name!r}; a test of an action takes no arguments, or pytest's tmp_path"
            arguments[name] = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            value = function(**arguments)
            if inspect.iscoroutine(value):
                # Imported here: few tests need it, and it is half of what a check has to import.
                importlib.import_module("asyncio").run(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # boundary: user code
            return describe_exception(error)
    return ""
