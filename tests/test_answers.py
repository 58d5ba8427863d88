"""What `benchmarks/reuse.py` takes for the known answer, and what it does not."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp_types import CallToolResult, TextContent

IsRight = Callable[[Any, Any], bool]


@pytest.fixture
def is_right(monkeypatch: pytest.MonkeyPatch) -> IsRight:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    found: IsRight = importlib.import_module("answers").is_right
    return found


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (0.75, "3/4"),
        (1 / 13, r"\boxed{\frac{1}{13}}"),
        (0.33, "1/3"),
        (5 * 5 * 3.14159265358979, r"$25\pi$"),
        (15504, "15,504"),
        ("1,234", 1234),
        (-12.5, "-$12.50"),
        (25.0, "25%"),
        (0.25, "25%"),
        ("2.5%", "2.5 %"),
        (78.5398, "78.54 cm^2"),
        (28.274, 28.3),
        ("The hypotenuse is 17.0", "17 units"),
        ("There are 45 ways", "45 ways"),
        ("75.00 km/h", "75 km/h"),
        ("9 m2", "9 m^2"),
        (False, "No"),
        ([3.0, 2.0], "x = 2 or x = 3"),
        ([2.0, -2.0], "2 and -2"),
        ("np.float64(2.5)", 2.5),
    ],
)
def test_an_answer_may_be_written_in_another_way(is_right: IsRight, answer: Any, known: Any) -> None:
    assert is_right(answer, known)


@pytest.mark.parametrize(
    ("answer", "known"),
    [
        (0.7, "3/4"),
        (0.34, "1/3"),
        (15505, "15,504"),
        (12.5, "-$12.50"),
        (2.5, "25%"),
        (28.2, "28.3 m"),
        (68.4, 68),
        (68.04, 68.0),
        ("It takes 3 hours", "3 minutes"),
        ("The rope is 5 feet", "5 m"),
        ("3 of 4", "4"),
        ("2 or 3", "2"),
        (2, "2 and 3"),
        (True, "No"),
        (1, "Yes"),
        ([3.0, 2.0], "2 and 3"),
        ([3.0, 2.0], "x = 2, y = 3"),
        ([5], "5"),
        (None, "0"),
        ("hello", "Hello"),
        (5, "9^9^9^9"),
        (5, "1/" * 3000 + "1"),
    ],
)
def test_another_answer_is_wrong(is_right: IsRight, answer: Any, known: Any) -> None:
    assert not is_right(answer, known)


@pytest.mark.parametrize(
    ("text", "structured", "known", "right"),
    [
        ("null", {"result": None}, None, True),
        ('{"a": 1}', {"a": 1}, None, False),
        ("5", None, {}, False),
        ("5", None, "", False),
        ("Done; it printed nothing and its last line has no value.\n\n(session 's', 0.01 s)", None, None, True),
        ("Value:\n4\n\nPrinted:\nso\n5\n\n(session 's', 0.01 s)", None, 5, True),
    ],
)
def test_what_is_not_there_is_no_answer(
    is_right: IsRight, text: str, structured: dict[str, Any] | None, known: Any, right: bool
) -> None:
    result = CallToolResult(content=[TextContent(type="text", text=text)], structured_content=structured)
    answers = importlib.import_module("reuse").read_answers(result)
    assert any(is_right(answer, known) for answer in answers) is right
