"""The story with agent frameworks: their own agent makes the calls that a scripted model asks for, one a turn.

So `after` is what its model was shown at the very next turn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Target, drive
from .story import CALLS, check_seen, read_seen


@pytest.mark.parametrize(
    ("client", "script"), [("pydantic_ai", "pydantic_agent.py"), ("openai_agents", "openai_agent.py")]
)
def test_agent_sees_an_action_that_it_defined_at_its_next_turn_and_gets_state_an_error_and_an_image(
    client: str, script: str, target: Target, environment_of: Callable[[str], Path], tmp_path: Path
) -> None:
    task = {**target, "calls": CALLS}
    check_seen(read_seen(drive(environment_of(client), script, task, tmp_path)))
