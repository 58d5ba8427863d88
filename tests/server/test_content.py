"""What a client is given for each way that a call can end."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from mcp_types import CallToolResult, ImageContent
from mcp_types.jsonrpc import JSONRPCResponse
from mcp_types.methods import serialize_server_result

from dynasaur_mcp.server import content
from dynasaur_mcp.server.text import clean_text, first_line
from dynasaur_mcp.types import Ending, Entry, Image, Outcome, Schemas, WorkspaceFile

from .conftest import text_of

LIMIT = 300
PICTURE = Image("image/png", "iVBORw0KGgo=")


@dataclass(frozen=True)
class Ended:
    """A run's plain values."""

    outcome: Outcome | None
    output: str = ""
    id: str = "r1"
    session: str = "default"
    entry: Entry | None = None
    started_at: float = 0.0


def called(entry: Entry, outcome: Outcome, *, promised: bool) -> CallToolResult:
    """What a call of an action gave."""
    return content.present_run(Ended(outcome, entry=entry), promised=promised, limit=LIMIT)  # type: ignore[arg-type]


def send(result: CallToolResult) -> dict[str, Any]:
    """As the SDK writes it, in both eras."""
    dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    for version in ("2025-11-25", "2026-07-28"):
        wire = serialize_server_result("tools/call", version, dumped)
        JSONRPCResponse(jsonrpc="2.0", id=1, result=wire).model_dump_json(by_alias=True, exclude_unset=True)
    return json.loads(json.dumps(dumped))  # type: ignore[no-any-return]


def test_action_that_only_returned_gives_its_bare_value(make_entry: Callable[..., Any]) -> None:
    result = called(make_entry(), Outcome(Ending.RETURNED, value=5), promised=True)
    assert text_of(result) == "5"
    assert result.structured_content == {"result": 5}
    assert not result.is_error


def test_returned_text_is_shown_without_quotes(make_entry: Callable[..., Any]) -> None:
    result = called(make_entry(), Outcome(Ending.RETURNED, value="héllo"), promised=True)
    assert text_of(result) == "héllo"


def test_value_that_is_an_object_is_not_wrapped(make_entry: Callable[..., Any]) -> None:
    schema = {"type": "object", "properties": {}}
    entry = make_entry(schemas=Schemas(schema, schema, wraps_result=False))
    result = called(entry, Outcome(Ending.RETURNED, value={"a": 1}), promised=True)
    assert result.structured_content == {"a": 1}
    assert json.loads(text_of(result)) == {"a": 1}


def test_prints_and_notes_have_sections_of_their_own(make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(
        Ending.RETURNED,
        value=5,
        stdout="hello\n",
        stderr="careful\n",
        notes=("Rollback is off.",),
        files=(WorkspaceFile("out/a.csv", 1234),),
        dropped_bytes=9999,
    )
    assert text_of(called(make_entry(), outcome, promised=True)) == (
        "Value:\n5\n\nPrinted:\nhello\n\nPrinted to stderr:\ncareful\n\nFiles in /workspace:\n- out/a.csv (1,234 bytes)"
        "\n\nNotes:\n- Rollback is off.\n- 9,999 bytes printed beyond the limit were dropped."
    )


def test_failed_call_is_text_only(make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(Ending.RAISED, error="ValueError: no", stdout="so far\n", images=(PICTURE,))
    result = called(make_entry(), outcome, promised=True)
    assert result.is_error
    assert result.structured_content is None
    assert [block.type for block in result.content] == ["text"]
    assert text_of(result).startswith("Error:\nValueError: no\n\nPrinted:\nso far")
    assert "1 image left out" in text_of(result)


@pytest.mark.parametrize("ending", [ending for ending in Ending if ending is not Ending.RETURNED])
def test_every_other_ending_is_an_error_that_says_something(ending: Ending, make_entry: Callable[..., Any]) -> None:
    for result in (
        called(make_entry(), Outcome(ending), promised=True),
        content.present_run(Ended(Outcome(ending)), limit=LIMIT),  # type: ignore[arg-type]
    ):
        assert result.is_error
        assert ending.value in text_of(result)


def test_images_come_without_structured_content(make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(Ending.RETURNED, value=5, images=(PICTURE,))
    result = called(make_entry(), outcome, promised=False)
    assert result.structured_content is None
    assert [block.type for block in result.content] == ["text", "image"]


def test_promised_output_schema_is_kept_and_the_image_is_named(make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(Ending.RETURNED, value=5, images=(PICTURE,))
    result = called(make_entry(), outcome, promised=True)
    assert result.structured_content == {"result": 5}
    assert [block.type for block in result.content] == ["text"]
    assert "execute_action" in text_of(result)


def test_long_text_keeps_head_and_tail_and_says_where_the_rest_is() -> None:
    lines = "\n".join(f"line {number}" for number in range(1000))
    result = content.present_run(Ended(Outcome(Ending.RETURNED, stdout=lines)), limit=LIMIT)  # type: ignore[arg-type]
    text = text_of(result)
    assert "line 0\n" in text
    assert "line 999" in text
    assert "characters left out; all of it: resource dynasaur://runs/r1/output" in text
    assert len(text) < LIMIT + 200


def test_long_value_of_a_tool_is_whole_in_the_structured_content(make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(Ending.RETURNED, value="x" * 5000)
    result = called(make_entry(), outcome, promised=True)
    assert result.structured_content == {"result": "x" * 5000}
    assert "all of it: resource dynasaur://runs/r1/output" in text_of(result)
    assert len(text_of(result)) < LIMIT + 200


@pytest.mark.parametrize(
    "hostile",
    ["\ud800", "\x00\x07\x1b[31mred\x1b[0m", "a\u2028b\u202ec", "\x1b]0;title\x07", "\x9b31m", "é\udcff"],
)
def test_hostile_text_never_breaks_the_answer(hostile: str, make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(
        Ending.RETURNED,
        value={hostile: [hostile]},
        shown=hostile,
        stdout=hostile,
        stderr=hostile,
        notes=(hostile,),
        files=(WorkspaceFile(hostile, 1),),
        defined=(hostile,),
    )
    failed = Outcome(Ending.RAISED, error=hostile)
    for result in (
        called(make_entry(), outcome, promised=True),
        called(make_entry(), failed, promised=True),
        content.present_run(Ended(outcome), limit=LIMIT),  # type: ignore[arg-type]
        content.present_run(Ended(failed), limit=LIMIT),  # type: ignore[arg-type]
        content.present_run(Ended(None, hostile), limit=LIMIT),  # type: ignore[arg-type]
        content.result_of_error(hostile),
    ):
        send(result)
        assert all(character.isprintable() or character in "\n\t" for character in text_of(result))


def test_colours_and_carriage_returns_are_taken_out() -> None:
    assert clean_text("\x1b[1;31mred\x1b[0m\r\n10 %\r20 %") == "red\n10 %\n20 %"


def test_value_nested_too_deep_is_an_error_not_a_lost_connection(make_entry: Callable[..., Any]) -> None:
    value: list[Any] = []
    for _ in range(1000):
        value = [value]
    result = called(make_entry(), Outcome(Ending.RETURNED, value=value), promised=True)
    send(result)
    assert result.is_error
    assert "flatten" in text_of(result)


def test_brackets_within_texts_and_lists_side_by_side_are_no_nesting(make_entry: Callable[..., Any]) -> None:
    value = ["[{" * 200, {"]": [[] for _ in range(500)]}]
    result = called(make_entry(), Outcome(Ending.RETURNED, value=value), promised=True)
    assert send(result)["structuredContent"] == {"result": value}


def test_numbers_json_cannot_hold_become_null(make_entry: Callable[..., Any]) -> None:
    outcome = Outcome(Ending.RETURNED, value=[float("nan"), float("inf"), 1.5])
    result = called(make_entry(), outcome, promised=True)
    assert send(result)["structuredContent"] == {"result": [None, None, 1.5]}


def test_run_shows_value_prints_functions_and_session() -> None:
    outcome = Outcome(Ending.RETURNED, shown="42", stdout="hi\n", defined=("clean", "total"), seconds=0.1234)
    text = text_of(content.present_run(Ended(outcome), limit=LIMIT))  # type: ignore[arg-type]
    assert text == (
        "Value:\n42\n\nPrinted:\nhi\n\nFunctions defined: clean, total. Worth keeping? "
        "define_action(from_session='default', name='total')\n\n(session 'default', 0.12 s)"
    )


def test_run_that_defines_thousands_of_functions_names_a_few() -> None:
    defined = tuple(f"f{number}" + "x" * 500 for number in range(5000))
    text = text_of(content.present_run(Ended(Outcome(Ending.RETURNED, defined=defined)), limit=LIMIT))  # type: ignore[arg-type]
    assert "and 4,980 more. Worth keeping? define_action(from_session='default', name='f4999x" in text
    assert len(text) < 2000


def test_silent_run_says_so() -> None:
    assert text_of(content.present_run(Ended(Outcome(Ending.RETURNED)), limit=LIMIT)).startswith("Done;")  # type: ignore[arg-type]


def test_run_shows_its_images() -> None:
    result = content.present_run(Ended(Outcome(Ending.RETURNED, images=(PICTURE,))), limit=LIMIT)  # type: ignore[arg-type]
    assert [block for block in result.content if isinstance(block, ImageContent)]
    assert result.structured_content is None


def test_run_still_going_gives_its_id_and_output_so_far() -> None:
    result = content.present_run(Ended(None, "step 1\n"), limit=LIMIT)  # type: ignore[arg-type]
    assert not result.is_error
    assert "'r1'" in text_of(result)
    assert "check_run" in text_of(result)
    assert "step 1" in text_of(result)


def test_error_for_the_operator_is_one_printable_line() -> None:
    assert first_line(RuntimeError("no docker\nTraceback of ours")) == "no docker"
    assert first_line(RuntimeError()) == "RuntimeError"


def test_link_is_given_to_clients_that_know_links_only() -> None:
    outcome = Outcome(Ending.RETURNED, shown="3 bytes", files=(WorkspaceFile("a b.csv", 3),), links=("a b.csv",))
    new = content.present_run(Ended(outcome), limit=LIMIT, knows_links=True)  # type: ignore[arg-type]
    old = content.present_run(Ended(outcome), limit=LIMIT)  # type: ignore[arg-type]
    assert [block.type for block in new.content] == ["text", "resource_link"]
    assert [block.type for block in old.content] == ["text"]
    assert text_of(new) == text_of(old)
    assert "resource dynasaur://sessions/default/files/a%20b.csv" in text_of(old)
    send(new)


def test_images_that_are_too_large_together_are_left_out_from_the_last() -> None:
    half = Image("image/png", "x" * 500_000)
    result = content.present_run(Ended(Outcome(Ending.RETURNED, images=(half, half, half))), limit=LIMIT)  # type: ignore[arg-type]
    assert [block.type for block in result.content] == ["text", "image", "image"]
    assert "1 image left out" in text_of(result)
