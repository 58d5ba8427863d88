"""Which servers live, as others see it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynasaur_mcp.sandbox.presence import Presence

pytestmark = pytest.mark.anyio


def test_only_a_closed_presence_is_dead(tmp_path: Path) -> None:
    one, other = Presence(tmp_path), Presence(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert one.home == other.home
    assert one.others() == []
    assert one.id
    assert other.others() == [one.id]
    assert other.is_alive(one.id)
    one.close()
    assert not other.is_alive(one.id)
    assert not other.is_alive("never")
    other.forget_dead()
    assert other.is_alive(other.id)
    other.close()
    assert [path.name for path in tmp_path.iterdir()] == ["home"]
