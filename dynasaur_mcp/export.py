"""Export: actions as files that need nothing of ours, in a folder or a zip, plain or as an Agent Skill."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from dynasaur_mcp.errors import ActionError, LibraryError
from dynasaur_mcp.library.folder import init_text
from dynasaur_mcp.library.store import Store
from dynasaur_mcp.library.uses import follow_uses, join_requirements
from dynasaur_mcp.types import Entry, Status

MAX_DESCRIPTION = 1024
"""Of a skill, in characters."""
_SKILL_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def export_actions(store: Store, target: Path, names: Sequence[str], *, skill: bool) -> list[Entry]:
    """Write actions, and those they use, to a new folder, or to a file if `target` ends with `.zip`.

    Args:
        names: Empty for all that are not disabled.

    Raises:
        ActionError: `target` exists, an action is missing, or there is none.
        LibraryError: it cannot be written; nothing is there then.
    """
    if target.exists():
        raise ActionError(f"{str(target)!r} exists. Remove it, or choose another name.")
    chosen = list(names) or [entry.name for entry in store.entries() if entry.status is not Status.DISABLED]
    for name in chosen:
        store.get(name)
    uses = follow_uses(store.get, chosen)
    if uses.missing:
        raise ActionError("\n".join(uses.missing.values()))
    entries = sorted(uses.entries, key=lambda entry: entry.name)
    if not entries:
        raise ActionError("The library has no actions to export.")
    files = {f"{entry.name}.py": entry.action.source for entry in entries} | {"__init__.py": init_text()}
    if skill:
        name = _name_skill(target)
        files = {f"scripts/actions/{file}": text for file, text in files.items()}
        files["SKILL.md"] = write_skill(name, entries)
    try:
        _write(target, files)
    except OSError as error:
        raise LibraryError(f"{str(target)!r} cannot be written: {error.strerror}.") from error
    return entries


def _name_skill(target: Path) -> str:
    name = target.stem if target.suffix == ".zip" else target.name
    if not _SKILL_NAME.fullmatch(name) or len(name) > 64:
        hint = "a-z, 0-9 and single hyphens between, 64 characters at most, such as table-tools"
        raise ActionError(f"{name!r} cannot be the name of a skill, which is that of its folder: {hint}.")
    return name


def _write(target: Path, files: Mapping[str, str]) -> None:
    """All or nothing, under its name only when whole."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    # A zip made of the same actions is the same, to the byte.
    try:
        if target.suffix == ".zip":
            with zipfile.ZipFile(draft, "x", zipfile.ZIP_DEFLATED) as archive:
                for path, text in sorted(files.items()):
                    inside = str(PurePosixPath(target.stem, path))
                    archive.writestr(zipfile.ZipInfo(inside, _ZIP_TIME), text, zipfile.ZIP_DEFLATED)
        else:
            for path, text in files.items():
                (draft / path).parent.mkdir(parents=True, exist_ok=True)
                (draft / path).write_bytes(text.encode())
        os.rename(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        draft.unlink(missing_ok=True)


def write_skill(name: str, entries: Sequence[Entry]) -> str:
    """SKILL.md: what the functions do, and how to call them."""
    said = " ".join(f"{entry.name}: {entry.action.summary}" for entry in entries)
    description = f"Tested Python functions. {said}"
    shown = description if len(description) <= MAX_DESCRIPTION else description[: MAX_DESCRIPTION - 1] + "…"
    packages = join_requirements({entry.name: entry.action.requirements for entry in entries})
    needs = f"\nThey need these packages: {', '.join(f'`{each}`' for each in packages)}.\n" if packages else ""
    listed = "\n".join(_describe(entry) for entry in entries)
    return f"""---
name: {name}
description: {_quote(shown)}
---

# {name}

Python functions in `scripts/actions/`, one in each file, with their tests. Call them from Python:

```console
$ PYTHONPATH=scripts python -c "from actions import {entries[0].name}; help({entries[0].name})"
```
{needs}
{listed}"""


def _describe(entry: Entry) -> str:
    examples = "".join(f">>> {line}\n" if n == 0 else f"... {line}\n" for n, line in _first_example(entry))
    shown = f"\n```python\n{examples}```\n" if examples else ""
    return f"## `{entry.action.signature}`\n\n{entry.action.summary}\n{shown}"


def _first_example(entry: Entry) -> list[tuple[int, str]]:
    calling = [example for example in entry.action.examples if f"{entry.name}(" in example]
    return list(enumerate(calling[0].splitlines())) if calling else []


def _quote(text: str) -> str:
    """As a YAML text."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
