"""The check of an action before it is kept: it imports, its types have schemas, its tests pass."""

from __future__ import annotations

import asyncio
import contextlib
import doctest
import importlib
import inspect
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from dynasaur_mcp.sandbox.worker.forker import Channel
from dynasaur_mcp.sandbox.worker.imports import add_packages, add_sources
from dynasaur_mcp.sandbox.worker.problems import describe_exception
from dynasaur_mcp.sandbox.worker.relay import forget_environment
from dynasaur_mcp.sandbox.worker.schemas import SchemaError, Signature

MAX_FAILURES = 20
_MAX_FAILURE_CHARACTERS = 2000


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
        for test, failure in _run_tests(channel, module):
            if not failure:
                done["passed"] += 1
            elif len(done["failures"]) < MAX_FAILURES:
                done["failures"].append(f"{test}: {failure[:_MAX_FAILURE_CHARACTERS]}")
    except SchemaError as error:
        done["problems"] = [str(error)]
    except KeyboardInterrupt:
        done["ending"] = "raised"
    except BaseException as error:  # boundary: importing user code
        done["problems"] = [f"Importing it failed:\n{describe_exception(error)}"]
    return done


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


def _run_doctest(test: doctest.DocTest) -> str:
    report = io.StringIO()
    try:
        runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS | doctest.REPORT_ONLY_FIRST_FAILURE)
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
                asyncio.run(value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # boundary: user code
            return describe_exception(error)
    return ""
