"""Exceptions of user code as text: the traceback of their frames only, with a hint where the cause is known."""

from __future__ import annotations

import sys
import traceback

MAX_CHARACTERS = 20_000
_USER_FILES = ("<step ", "actions/", "<doctest ", "<string>", "/workspace/", "/tmp/")


def describe_exception(error: BaseException) -> str:
    """The traceback. Never raises, whatever the exception's own methods do."""
    try:
        shown = traceback.TracebackException.from_exception(error, limit=-100, compact=True)
        _keep_user_frames(shown)
        lines, hint = "".join(shown.format()), hint_for(error)
    except BaseException:  # boundary: __str__ and friends of user code
        lines = f"{type(error).__name__} (it could not be shown)\n"
        hint = ""
    if len(lines) > MAX_CHARACTERS:
        lines = lines[: MAX_CHARACTERS // 2] + "\n…\n" + lines[-MAX_CHARACTERS // 2 :]
    return (lines + hint).rstrip("\n")


def hint_for(error: BaseException) -> str:
    """What to do about it, in one line, where the cause is known."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        if package == "actions":
            return "Hint: only actions of the library can be imported from `actions`; search_actions finds them.\n"
        if package in sys.stdlib_module_names:
            return ""
        return (
            f"Hint: {package!r} is not installed in the sandbox. An action declares the package it needs at its top:\n"
            f'# /// script\n# dependencies = ["{package}"]\n# ///\n'
        )
    return ""


def _keep_user_frames(shown: traceback.TracebackException | None) -> None:
    """Drop the frames of the worker and of libraries, here and in what it was raised from."""
    while shown:
        shown.stack = traceback.StackSummary.from_list(f for f in shown.stack if f.filename.startswith(_USER_FILES))
        _keep_user_frames(shown.__context__)
        shown = shown.__cause__
