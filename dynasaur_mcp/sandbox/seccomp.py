"""The system call filter of both sandboxes: `docker/seccomp.json`, a list of what is allowed.

An engine is sent the file's text. For the jail it is compiled here to the classic BPF program that bubblewrap takes,
as runc and libseccomp do it for a container: one architecture only, arguments compared in 64 bits, and ENOSYS for calls
newer than all that are listed, so that libc falls back to older ones. Of Docker's format, what the file uses is known.

Numbers of system calls are Linux's stable ABI, in `syscalls.csv`.
"""

from __future__ import annotations

import csv
import errno
import functools
import json
import platform
import struct
from pathlib import Path
from typing import Any

from dynasaur_mcp.sandbox.image import image_folder

_AUDIT_ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _AND, _JUMP_EQUAL, _JUMP_GREATER, _RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16
"""Where they are in `struct seccomp_data`; each argument has eight bytes, the low four first."""
_KILL, _ALLOW, _ERROR = 0x80000000, 0x7FFF0000, 0x00050000


def profile_text() -> str:
    """The profile as Docker's option `seccomp` takes it."""
    return (image_folder() / "seccomp.json").read_text(encoding="utf-8")


@functools.cache
def build_filter(machine: str = "") -> bytes | None:
    """The program for this machine (or another); None where its system calls are not known here.

    Raises:
        ValueError: the profile has something that is not known here.
    """
    machine = machine or platform.machine()
    if machine not in _AUDIT_ARCHES:
        return None
    profile = json.loads(profile_text())
    if profile["defaultAction"] != "SCMP_ACT_ERRNO":
        raise ValueError("the profile is no list of what is allowed")
    numbers = read_numbers(machine)
    rules = [
        (numbers[name], _compile_arguments(rule.get("args", [])), _action_of(rule))
        for rule in profile["syscalls"]
        for name in rule["names"]
        if name in numbers
    ]
    program = [
        _instruction(_LOAD, _ARCH),
        _instruction(_JUMP_EQUAL, _AUDIT_ARCHES[machine], 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER),
        # The numbers of x32, x86_64's other ABI, are higher still.
        _instruction(_JUMP_GREATER, max(number for number, _, _ in rules), 0, 1),
        _instruction(_RETURN, _ERROR | errno.ENOSYS),
    ]
    # Those without arguments first: a rule with arguments leaves one of them where the number was.
    for number, conditions, action in sorted(rules, key=lambda rule: bool(rule[1])):
        if conditions:
            program.append(_instruction(_LOAD, _NUMBER))
        program += [_instruction(_JUMP_EQUAL, number, 0, len(conditions) + 1), *conditions]
        program.append(_instruction(_RETURN, action))
    return b"".join([*program, _instruction(_RETURN, _ERROR | errno.EPERM)])


def read_numbers(machine: str) -> dict[str, int]:
    """Number of each system call that the architecture has, by name."""
    with Path(__file__).with_name("syscalls.csv").open(encoding="ascii", newline="") as file:
        return {row["name"]: int(row[machine]) for row in csv.DictReader(file) if row[machine]}


def _action_of(rule: dict[str, Any]) -> int:
    match rule["action"]:
        case "SCMP_ACT_ALLOW":
            return _ALLOW
        case "SCMP_ACT_ERRNO":
            return _ERROR | int(rule.get("errnoRet", errno.EPERM))
        case other:
            raise ValueError(f"the profile has the action {other!r}")


def _compile_arguments(conditions: list[dict[str, Any]]) -> list[bytes]:
    """Instructions that go on where all hold, and jump over the rule's action where one does not."""
    words = [word for condition in conditions for word in _words_of(condition)]
    program: list[bytes] = []
    # From the last to the first, as each jumps over those behind it.
    for offset, mask, wanted in reversed(words):
        program = [
            _instruction(_LOAD, offset),
            _instruction(_AND, mask),
            _instruction(_JUMP_EQUAL, wanted, 0, len(program) + 1),
            *program,
        ]
    return program


def _words_of(condition: dict[str, Any]) -> list[tuple[int, int, int]]:
    """Both halves of an argument: its offset, the bits that count, what they must be."""
    match condition["op"]:
        case "SCMP_CMP_EQ":
            mask, wanted = (1 << 64) - 1, condition["value"]
        case "SCMP_CMP_MASKED_EQ":
            mask, wanted = condition["value"], condition["valueTwo"]
        case other:
            raise ValueError(f"the profile compares by {other!r}")
    low = _ARGUMENTS + 8 * condition["index"]
    return [(low + 4 * half, mask >> 32 * half & 0xFFFFFFFF, wanted >> 32 * half & 0xFFFFFFFF) for half in (0, 1)]


def _instruction(code: int, operand: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, operand)
