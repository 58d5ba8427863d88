"""Frame in, fork, the child answers, frame out: the least that a sandbox which forks for each call can cost.

The program inside the bare containers and jails: standard library only, nothing of ours. Given to `python3 -c`.
"""

import json
import os


def read(size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(0)
        data += part
    return data


def write(body: bytes) -> None:
    os.write(1, len(body).to_bytes(4, "big") + body)


write(b"")  # ready
while True:
    request = read(int.from_bytes(read(4), "big"))
    if os.fork() == 0:
        given = json.loads(request)
        write(json.dumps({"value": given["a"] + given["b"]}).encode())
        os._exit(0)
    os.wait()
