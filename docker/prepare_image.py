"""Run once, as root, while the image is built: compile what a worker imports, take away what it must not have."""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import stat
import sysconfig
from pathlib import Path

SKIPPED = re.compile(r"/(tests?|idle_test|lib2to3|turtledemo)/")


def compile_libraries() -> None:
    """The root is read-only at run time and python:*-slim has no .pyc files: without them each start would be slow."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for folder in (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/opt/worker"):
        if os.path.isdir(folder):
            compileall.compile_dir(folder, quiet=2, rx=SKIPPED, invalidation_mode=mode, workers=0)


def drop_privileged_bits() -> None:
    """No file of the image is setuid or setgid."""
    for folder, names, files in os.walk("/"):
        names[:] = [name for name in names if not os.path.ismount(os.path.join(folder, name))]
        for file in files:
            path = Path(folder, file)
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
                path.chmod(stat.S_IMODE(mode) & ~(stat.S_ISUID | stat.S_ISGID))


def open_workspace() -> None:
    """The tmpfs that is mounted here takes its mode from the folder it covers, whatever its options say."""
    workspace = Path("/workspace")
    workspace.mkdir(exist_ok=True)
    workspace.chmod(0o1777)


if __name__ == "__main__":
    open_workspace()
    compile_libraries()
    drop_privileged_bits()
