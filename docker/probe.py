"""Run in a container of a base image: which Python it has, and for which wheels, as JSON on stdout."""

from __future__ import annotations

import json
import os
import platform
import sys


def find_libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return ""


found = {
    "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    "machine": platform.machine(),
    "libc": find_libc(),
}
sys.stdout.write(json.dumps(found))
