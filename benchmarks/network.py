"""A request of sandboxed code through the egress proxy, against the same code outside of any sandbox in the same run.

    python benchmarks/network.py [--requests 200] [--megabytes 50] [--sandboxes docker jail]

The web server is on this machine's loopback: what is measured is the way to it.
"""

import argparse
import contextlib
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from peer import OURS, Peer

MEASURE = """
import statistics, time, urllib.request
def timed(url, data=None):
    began = time.perf_counter()
    with urllib.request.urlopen(url, data) as answer:
        assert len(answer.read()) == int(url.rpartition('/')[2])
    return time.perf_counter() - began
megabytes = {megabytes}
timed('{url}/1')
request_ms = statistics.median(timed('{url}/1') for _ in range({requests})) * 1000
down = megabytes / timed(f'{url}/{{megabytes * 1000000}}')
up = megabytes / timed('{url}/2', bytes(megabytes * 1000000))
print(f'measured {{request_ms:.2f}} {{down:.0f}} {{up:.0f}}')
"""


class Answer(BaseHTTPRequestHandler):
    """As many bytes as the path says."""

    def do_GET(self) -> None:
        size = int(self.path.strip("/"))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        self.wfile.write(bytes(size))

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 16)))
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def open_origin() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--requests", type=int, default=200)
    options.add_argument("--megabytes", type=int, default=50)
    options.add_argument("--sandboxes", nargs="*", default=["docker", "jail"], choices=["docker", "jail"])
    given = options.parse_args()
    print(f"{'from':<20} {'request p50 ms':>15} {'down MB/s':>10} {'up MB/s':>10}")
    with open_origin() as host:
        code = MEASURE.format(url=f"http://{host}", requests=given.requests, megabytes=given.megabytes)
        direct = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        show("outside", direct)
        for sandbox in given.sandboxes:
            with tempfile.TemporaryDirectory() as library:
                command = [*OURS, "--library", library, "--sandbox", sandbox, "--network", f"allow:{host}"]
                with Peer([*command, "--timeout-seconds", "300", "--wait-seconds", "300"]) as peer:
                    show(sandbox, peer.call("run_python", code=code)["content"][0]["text"])


def show(name: str, printed: str) -> None:
    found = re.search(r"measured (\S+) (\S+) (\S+)", printed)
    if found is None:
        raise SystemExit(printed)
    print(f"{name:<20} {found[1]:>15} {found[2]:>10} {found[3]:>10}", flush=True)


if __name__ == "__main__":
    main()
