"""Where each client has its configuration file, on every platform."""

from __future__ import annotations

from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from dynasaur_mcp.clients import CLIENTS, Machine


@pytest.mark.parametrize(
    ("platform", "home", "environment", "expected"),
    [
        (
            "linux",
            PurePosixPath("/home/u"),
            {},
            {
                "claude-desktop": "/home/u/.config/Claude/claude_desktop_config.json",
                "claude-code": "/home/u/.claude.json",
                "vscode": "/home/u/.config/Code/User/mcp.json",
                "cursor": "/home/u/.cursor/mcp.json",
                "codex": "/home/u/.codex/config.toml",
                "gemini": "/home/u/.gemini/settings.json",
                "windsurf": "/home/u/.codeium/windsurf/mcp_config.json",
                "zed": "/home/u/.config/zed/settings.json",
            },
        ),
        (
            "linux",
            PurePosixPath("/home/u"),
            {"XDG_CONFIG_HOME": "/c", "CODEX_HOME": "/x", "CLAUDE_CONFIG_DIR": "/y", "APPDATA": "/no"},
            {
                "claude-desktop": "/c/Claude/claude_desktop_config.json",
                "claude-code": "/y/.claude.json",
                "vscode": "/c/Code/User/mcp.json",
                "codex": "/x/config.toml",
                "zed": "/c/zed/settings.json",
            },
        ),
        (
            "darwin",
            PurePosixPath("/Users/u"),
            {"XDG_CONFIG_HOME": "/no"},
            {
                "claude-desktop": "/Users/u/Library/Application Support/Claude/claude_desktop_config.json",
                "claude-code": "/Users/u/.claude.json",
                "vscode": "/Users/u/Library/Application Support/Code/User/mcp.json",
                "cursor": "/Users/u/.cursor/mcp.json",
                "codex": "/Users/u/.codex/config.toml",
                "gemini": "/Users/u/.gemini/settings.json",
                "windsurf": "/Users/u/.codeium/windsurf/mcp_config.json",
                "zed": "/Users/u/.config/zed/settings.json",
            },
        ),
        (
            "win32",
            PureWindowsPath("C:/Users/u"),
            {"APPDATA": r"D:\\Roaming"},
            {
                "claude-desktop": r"D:\Roaming\Claude\claude_desktop_config.json",
                "claude-code": r"C:\Users\u\.claude.json",
                "vscode": r"D:\Roaming\Code\User\mcp.json",
                "cursor": r"C:\Users\u\.cursor\mcp.json",
                "codex": r"C:\Users\u\.codex\config.toml",
                "gemini": r"C:\Users\u\.gemini\settings.json",
                "windsurf": r"C:\Users\u\.codeium\windsurf\mcp_config.json",
                "zed": r"D:\Roaming\Zed\settings.json",
            },
        ),
        (
            "win32",
            PureWindowsPath("C:/Users/u"),
            {},
            {"vscode": r"C:\Users\u\AppData\Roaming\Code\User\mcp.json"},
        ),
    ],
    ids=["linux", "linux, elsewhere", "macOS", "Windows", "Windows, bare"],
)
def test_files_are_where_each_platform_has_them(
    platform: Any, home: PurePath, environment: dict[str, str], expected: dict[str, str]
) -> None:
    machine = Machine(platform, home, environment)
    assert {name: str(CLIENTS[name].file(machine)) for name in expected} == expected
