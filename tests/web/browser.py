"""A real browser, told what to do over a pipe (the DevTools protocol)."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
]


class Browser:
    def __init__(self, orders: int, answers: int) -> None:
        self._orders = os.fdopen(orders, "wb", buffering=0)
        self._answers = os.fdopen(answers, "rb", buffering=0)
        self._numbers = itertools.count(1)
        self._buffer = b""

    def tell(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        order = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        self._orders.write(json.dumps(order).encode() + b"\0")
        while (answer := self._next()).get("id") != number:
            pass
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def run(self, url: str, code: str) -> Any:
        """Open a page of its own, and give what the code, a promise, comes to there."""
        target = self.tell("Target.createTarget", url="about:blank")["targetId"]
        session = self.tell("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.tell("Page.enable", session)
        self.tell("Page.navigate", session, url=url)
        while self._next().get("method") != "Page.loadEventFired":
            pass
        ran = self.tell("Runtime.evaluate", session, expression=code, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in ran, ran
        return ran["result"]["value"]

    def close(self) -> None:
        self._orders.close()
        self._answers.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            data = self._answers.read(1 << 16)
            assert data, "the browser ended"
            self._buffer += data
        message, _, self._buffer = self._buffer.partition(b"\0")
        answer: dict[str, Any] = json.loads(message)
        return answer


@contextmanager
def open_browser(folder: Path, names: list[str]) -> Iterator[Browser]:
    """
    Args:
        folder: For its profile, which is new.
        names: Hosts that are this machine.
    """
    their_orders, orders = os.pipe()
    answers, their_answers = os.pipe()
    rules = ",".join(f"MAP {name} 127.0.0.1" for name in names)
    command = ["chromium", *FLAGS, f"--user-data-dir={folder}", f"--host-resolver-rules={rules}"]
    process = subprocess.Popen(
        # It has its pipe at these numbers.
        ["bash", "-c", f'exec "$@" 3<&{their_orders} 4>&{their_answers}', "bash", *command],
        pass_fds=(their_orders, their_answers),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(their_orders)
    os.close(their_answers)
    browser = Browser(orders, answers)
    try:
        yield browser
        browser.tell("Browser.close")
        process.wait(timeout=20)
    finally:
        browser.close()
        process.kill()
        process.wait()
