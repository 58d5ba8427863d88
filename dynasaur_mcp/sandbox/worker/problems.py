"""Exceptions of user code as text: the traceback of their frames only, with a hint where the cause is known."""

from __future__ import annotations

import errno
import os
import sys
from _socket import gaierror
from linecache import getline
from traceback import StackSummary, TracebackException

from dynasaur_mcp.sandbox.worker.workspaces import ASIDE, WORKSPACE

MAX_CHARACTERS = 20_000
_MAX_CHAIN = 60
_MAX_NAMES = 10
_NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EADDRNOTAVAIL)
PACKAGES = {
    "bs4": "beautifulsoup4",
    "Crypto": "pycryptodome",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "fitz": "pymupdf",
    "google.protobuf": "protobuf",
    "jwt": "pyjwt",
    "magic": "python-magic",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "usb": "pyusb",
    "yaml": "pyyaml",
}
"""Modules whose package has another name, as it is in the index."""

_USER_FILES = ("<step ", "actions/", "<doctest ", "<string>", "/workspace/", "/tmp/")

hosts: tuple[str, ...] = ()
"""That code may reach."""


def describe_exception(error: BaseException) -> str:
    """The traceback. Never raises, whatever the exception's own methods do."""
    try:
        shown = TracebackException.from_exception(error, limit=-100, compact=True)
        if isinstance(error, SyntaxError) and not error.text:
            # What only the compiler finds, after the parser, knows its line by number alone.
            shown.text = getline(str(error.filename), error.lineno or 0)
        _keep_user_frames(shown)
        lines, hint = "".join(shown.format()), hint_for(error)
    except BaseException:  # boundary: __str__ and friends of user code, or an import without a descriptor left for it
        lines, hint = _describe_last_line(error), ""
    if len(lines) > MAX_CHARACTERS:
        lines = lines[: MAX_CHARACTERS // 2] + "\n…\n" + lines[-MAX_CHARACTERS // 2 :]
    return (lines + hint).rstrip("\n")


def _describe_last_line(error: BaseException) -> str:
    try:
        return "".join(TracebackException.from_exception(error, limit=0, compact=True).format_exception_only())
    except BaseException:  # boundary: as above
        return f"{type(error).__name__} (it could not be shown)\n"


def hint_for(error: BaseException) -> str:
    """What to do about it, in one line, where the cause is known."""
    hints = (_hint_at_missing, _hint_at_network, _hint_at_files, _hint_at_magic)
    return next(filter(None, (hint(error) for hint in hints)), "")


def _hint_at_missing(error: BaseException) -> str:
    module = _missing_module(error)
    return hint_at_package(module) if module else ""


def hint_at_package(module: str) -> str:
    """How to have a module that is missing; empty where it is no package's."""
    package = module.partition(".")[0]
    if package == "actions":
        return "Hint: only actions of the library can be imported from `actions`; search_actions finds them.\n"
    named = PACKAGES.get(module) or PACKAGES.get(package, package)
    # `pandas.nope` is not missing for want of pandas.
    is_there = module != package and module not in PACKAGES and package in sys.modules
    if is_there or package in sys.stdlib_module_names:
        return ""
    return (
        f'Hint: {package!r} is not installed here. For a step: run_python(requirements=["{named}"]). '
        f'An action declares it at its top:\n# /// script\n# dependencies = ["{named}"]\n# ///\n'
    )


def _hint_at_files(error: BaseException) -> str:
    """Of a file that is not there: what is, the likeliest first."""
    if not isinstance(error, FileNotFoundError) or not isinstance(error.filename, str):
        return ""
    if _is_of_a_program(error):
        return f"Hint: the sandbox has no program {error.filename[:60]!r}.\n"
    there = sorted(name for name in os.listdir(WORKSPACE) if name != ASIDE)
    if not there:
        return "Hint: /workspace is empty.\n"
    import difflib

    near = difflib.get_close_matches(os.path.basename(error.filename), there[:5000], n=3, cutoff=0.5)
    names = [*near, *(name for name in there if name not in near)]
    more = f" and {len(names) - _MAX_NAMES:,} more" if len(names) > _MAX_NAMES else ""
    return f"Hint: in /workspace there is {', '.join(repr(name)[:60] for name in names[:_MAX_NAMES])}{more}.\n"


def _is_of_a_program(error: OSError) -> bool:
    """Whether it is what was to be run that is not there; not the folder to run it in."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    if trace is None or trace.tb_frame.f_globals.get("__name__") != "subprocess":
        return False
    return bool(trace.tb_frame.f_locals.get("cwd") != error.filename)


def _hint_at_magic(error: BaseException) -> str:
    """Of a line that only IPython or a shell understands: how to have what it is for."""
    if not isinstance(error, SyntaxError) or not str(error.filename).startswith("<step "):
        return ""
    line = (error.text or "").strip()
    words = line.lstrip("!%").split()
    if "install" in words and {"pip", "pip3"} & set(words):
        names = [word for word in words[words.index("install") + 1 :] if not word.startswith("-")]
        wanted = ", ".join(f'"{name}"' for name in names) or "…"
        return f"Hint: packages come with the call: run_python(requirements=[{wanted}]).\n"
    if not line.startswith(("!", "%")):
        return ""
    shell = "; subprocess.run(…, shell=True) runs a command" if os.path.exists("/bin/sh") else ", and without a shell"
    return f"Hint: this is Python without IPython's ! and %{shell}.\n"


def _missing_module(error: BaseException) -> str:
    """The module whose absence it tells of; libraries that can do without one raise an ImportError of their own."""
    for one in (error, error.__cause__) if isinstance(error, ImportError) else ():
        if isinstance(one, ModuleNotFoundError) and one.name:
            return one.name
    return ""


def _comes_of_no_network(error: BaseException) -> bool:
    """Clients of HTTP wrap what the system said in errors of their own, some as the cause, some as an argument."""
    chain: list[object] = [error]
    for one in chain:
        if isinstance(one, gaierror) or (isinstance(one, OSError) and one.errno in _NO_NETWORK):
            return True
        if isinstance(one, BaseException) and len(chain) < _MAX_CHAIN:
            chain += [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args[:3]]
    return False


def _hint_at_network(error: BaseException) -> str:
    if not _comes_of_no_network(error):
        return ""
    allowed = "The operator of the server allows hosts with --network allow:HOST,…\n"
    if hosts and "http_proxy" in os.environ:
        client = "aiohttp looks there with trust_env=True"
        return f"Hint: only HTTP(S) by the proxy in $HTTP_PROXY gets out ({client}), to {', '.join(hosts)}. {allowed}"
    return f"Hint: the sandbox has no network, and 127.0.0.1 is its own. {allowed}"


def _keep_user_frames(shown: TracebackException | None) -> None:
    """Drop the frames of the worker and of libraries, here and in what it was raised from."""
    while shown:
        shown.stack = StackSummary.from_list(f for f in shown.stack if f.filename.startswith(_USER_FILES))
        _keep_user_frames(shown.__context__)
        shown = shown.__cause__
