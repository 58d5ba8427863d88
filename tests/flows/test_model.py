"""Search by meaning behind everything else. A stand-in for sentence-transformers waits where the test wants it to."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from .conftest import Model, OpenClient

pytestmark = pytest.mark.anyio

LIBRARY = """
import os
import numpy


def pass_gate(name):
    if path := os.environ.pop(name, ""):
        with open(path) as gate:
            gate.read()


pass_gate("GATE_OF_LOADING")


class SentenceTransformer:
    def __init__(self, model, local_files_only=False):
        self.dimensions = len(model)

    def encode(self, texts, normalize_embeddings, show_progress_bar):
        pass_gate("GATE_OF_EMBEDDING")
        return numpy.full((len(texts), self.dimensions), self.dimensions**-0.5)
"""
FILES = {
    "sentence_transformers/__init__.py": LIBRARY,
    "torch.py": "def set_num_threads(number): ...",
    "huggingface_hub/__init__.py": "",
    "huggingface_hub/utils.py": "",
    "transformers/__init__.py": "",
    "transformers/utils/__init__.py": "",
    "transformers/utils/logging.py": "",
}
HALVE = 'def halve(x: int) -> float:\n    """Halve a number.\n\n    >>> halve(4)\n    2.0\n    """\n    return x / 2\n'


@pytest.fixture(autouse=True)
def _stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, require: Callable[[str], None]) -> None:
    require("jail")
    pytest.importorskip("numpy")
    for name, text in FILES.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "packages"))


@pytest.fixture
def make_gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    def make_gate(name: str) -> Path:
        os.mkfifo(tmp_path / name)
        monkeypatch.setenv(name, str(tmp_path / name))
        return tmp_path / name

    return make_gate


@asynccontextmanager
async def waiting_at(gate: Path) -> AsyncIterator[None]:
    """The server's model is at this gate, and stays there."""
    with anyio.fail_after(60):
        opened = await anyio.to_thread.run_sync(os.open, gate, os.O_WRONLY)
    try:
        yield
    finally:
        os.close(opened)


async def see_meaning(model: Model) -> None:
    with anyio.fail_after(60):
        while "by words and meaning)" not in await model.text("search_actions", query="halve a number"):
            await anyio.sleep(0.02)


async def test_no_call_waits_for_the_model(open_client: OpenClient, make_gate: Callable[[str], Path]) -> None:
    gate = make_gate("GATE_OF_LOADING")
    async with open_client(model="one") as model:
        await model.tools()
        async with waiting_at(gate):
            await model.text("define_action", source=HALVE)
            assert "halve" in await model.tools()
            assert "by words)" in await model.text("search_actions", query="halve a number")
            assert await model.text("halve", x=3) == "1.5"
            assert "1.5" in await model.text("run_python", code="from actions import halve\nhalve(3)")
        await see_meaning(model)


async def test_changed_model_embeds_all_anew_and_no_call_waits_for_that(
    open_client: OpenClient, make_gate: Callable[[str], Path]
) -> None:
    async with open_client(model="one") as model:
        await model.text("define_action", source=HALVE)
        await model.tools()
        await see_meaning(model)
    gate = make_gate("GATE_OF_EMBEDDING")
    async with open_client(model="another") as model:
        await model.tools()
        async with waiting_at(gate):
            assert "by words)" in await model.text("search_actions", query="halve a number")
            source = (
                HALVE.replace("halve", "take_half")
                .replace("x / 2", "x * 0.5")
                .replace("x:", "y:")
                .replace("x *", "y *")
            )
            await model.text("define_action", source=source, anyway=True)
            assert await model.text("take_half", y=3) == "1.5"
        await see_meaning(model)
