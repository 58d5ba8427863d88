"""Much at once, slow, endless or never answered: what it costs, and that it ends with its step."""

from __future__ import annotations

from functools import partial

import anyio
import anyio.to_thread
import pytest

from dynasaur_mcp.types import Ending
from tests.sandbox.conftest import OpenPool

from .conftest import run, shown
from .origin import Origin

pytestmark = pytest.mark.anyio


async def test_large_upload_and_download_arrive_whole(open_sandbox: OpenPool, origin: Origin) -> None:
    code = f"""
data = os.urandom(1 << 20) * 50
hashlib.sha256(get('{origin.url}/', data=data)).digest() == hashlib.sha256(data).digest()
"""
    sandbox = open_sandbox(network=(origin.host,), memory_bytes=512 << 20, wall_seconds=60)
    async with sandbox as pool, pool.session("me") as session:
        assert await shown(session, code) == "True"


async def test_fast_server_is_held_up_by_a_slow_reader_who_stalls_no_other(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    code = f"""
slow = urllib.request.urlopen('{origin.url}/endless')
print('begun', flush=True)
answers = [get('{origin.url}/bytes/100000') for _ in range(30)]
[len(answer) for answer in answers] == [100000] * 30
"""
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        assert await shown(session, code) == "True"
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
    # Windows and socket buffers on the way, and no more.
    assert 0 < origin.sent_bytes < 16 << 20


async def test_server_that_never_answers_costs_the_step_its_time_and_no_more(
    open_sandbox: OpenPool, origin: Origin
) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        outcome = await run(session, f"get('{origin.url}/hang')", timeout_seconds=0.5)
        assert outcome.ending is Ending.TIMEOUT
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
        assert await shown(session, f"kept, get('{origin.url}/')") == "(1, b'hello')"


async def test_cancelled_step_closes_its_connections_in_the_middle(open_sandbox: OpenPool, origin: Origin) -> None:
    code = f"""
streams = [urllib.request.urlopen('{origin.url}/endless') for _ in range(4)]
while True:
    for stream in streams: stream.read(1 << 16)
"""
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await run(session, "kept = 1")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, session, code)
            while origin.sent_bytes < 4 << 20:
                await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        assert not session.is_lost
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
        assert await shown(session, f"kept, get('{origin.url}/')") == "(1, b'hello')"


async def test_connections_live_no_longer_than_the_step_that_made_them(open_sandbox: OpenPool, origin: Origin) -> None:
    async with open_sandbox(network=(origin.host,)) as pool, pool.session("me") as session:
        await run(session, f"stream = urllib.request.urlopen('{origin.url}/endless')")
        assert await anyio.to_thread.run_sync(partial(origin.closed.wait, 10))
        assert (await run(session, "while stream.read(1 << 16): pass")).ending in (Ending.RETURNED, Ending.RAISED)
        assert await shown(session, f"get('{origin.url}/')") == "b'hello'"


@pytest.mark.parametrize("number", [50, 100])
async def test_many_connections_at_once_are_all_served(open_sandbox: OpenPool, origin: Origin, number: int) -> None:
    code = f"""
results = []
threading.stack_size(256 << 10)
def fetch(number): results.append(len(get('{origin.url}/bytes/' + str(10000 + number))) - 10000)
threads = [threading.Thread(target=fetch, args=[number]) for number in range({number})]
for thread in threads: thread.start()
for thread in threads: thread.join()
sorted(results) == list(range({number}))
"""
    sandbox = open_sandbox(network=(origin.host,), wall_seconds=30)
    async with sandbox as pool, pool.session("me") as session:
        assert await shown(session, code) == "True"
