"""Edits of JSON with comments: the change is made, every other character stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynasaur_mcp.jsonc import JsonError, find_member, read, remove_member, set_member

PATH = ("servers", "ours")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), VALUES), VALUES, st.sampled_from([None, 2, "\t"]))
def test_member_is_set_and_taken_out_of_any_object(whole: dict[str, Any], value: Any, indent: Any) -> None:
    text = json.dumps(whole, indent=indent, ensure_ascii=False)
    assert read(text) == whole
    changed = set_member(text, ("ours",), value)
    assert json.loads(changed) == {**whole, "ours": value}
    assert json.loads(remove_member(changed, ("ours",))) == {
        name: kept for name, kept in whole.items() if name != "ours"
    }


COMMENTED = [
    "{}",
    "{ }\n",
    "// head\n{\n}\n// tail",
    "{\n  // only a comment\n}\n",
    '{\n  "a": 1 // last\n}\n',
    '{\n  "a": [1, 2, /* in */ 3,], // with a comma\n}\n',
    '{\n\t"servers": {\n\t\t"other": {"command": "x // no comment", "args": ["/* nor */"]} /* one */ // two\n\t}\n}\n',
    '{\r\n    "servers": {\r\n        "other": {},\r\n    },\r\n    "b": "\\"}{"\r\n}\r\n',
    '{"servers": {"other": 1}, "b": 2}',
    '\ufeff{"a": 1}',
]


@pytest.mark.parametrize("text", COMMENTED)
def test_comments_and_layout_stay(text: str) -> None:
    before = read(text)
    changed = set_member(text, PATH, {"command": "c", "args": []})
    assert find_member(changed, PATH) == {"command": "c", "args": []}
    kept = iter(changed)
    assert all(character in kept for character in text if not character.isspace())
    assert ("\r\n" in text) == ("\r\n" in changed)
    assert set_member(changed, PATH, {"command": "c", "args": []}) == changed
    again = remove_member(changed, PATH)
    assert read(again) == before
    if "\n" in text.strip():
        assert again == text


def test_value_that_is_there_is_changed_in_its_place() -> None:
    text = '{\n  "servers": {\n    "ours": {"command": "old"}, // mine\n    "b": 1\n  }\n}\n'
    assert set_member(text, (*PATH, "command"), "new") == text.replace('"old"', '"new"')


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "line 1"),
        ("{", "line 1"),
        ('{"a": 1\n"b": 2}', "line 2: expected a comma"),
        ('{"a" 1}', "colon after 'a'"),
        ("{a: 1}", "double quotes"),
        ('{"a": }', "expected a value"),
        ('{"a": 1}\nx', "line 2: something follows"),
        ('{"a": "\n"}', "line 1"),
        ('{"a": /* open', "line 1"),
        ("[" * 100_000, "too deeply"),
        ('{"a": ' * 100_000, "too deeply"),
        ("[]", "no object"),
        ('{"servers": []}', "'servers' in line 1 is no object"),
        ('{"a": NaN}', "expected a value"),
        ('{"a": 01}', "line 1: expected a comma"),
        ('{"a": \u0661}', "expected a value"),
        ("\x00", "line 1"),
    ],
)
def test_what_cannot_be_changed_is_refused_with_its_line(text: str, wrong: str) -> None:
    with pytest.raises(JsonError, match=wrong):
        set_member(text, PATH, 1)
