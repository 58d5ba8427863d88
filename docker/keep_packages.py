"""Run in a container without network: compile a set of packages copied into the volume, then give it its name.

`keep_packages.py STAGED FINAL`. The rename is what makes the set visible to workers, so there is never half a set.
Compiling only parses: nothing of the packages runs.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import sys

TESTS = re.compile(r"/tests?/")


def main(staged: str, final: str) -> None:
    compileall.compile_dir(
        staged,
        quiet=2,
        rx=TESTS,
        invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        stripdir=staged,
        prependdir=final,
        workers=0,
    )
    try:
        os.rename(staged, final)
    except OSError:
        # Another server was first.
        shutil.rmtree(staged)
        os.stat(final)


if __name__ == "__main__":
    main(*sys.argv[1:])
