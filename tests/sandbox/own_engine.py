"""A second Docker engine, which tests can stop, fill and start again."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynasaur_mcp.sandbox.docker import image_tag


class OwnEngine:
    """A Docker engine of its own folder, with the workers' image of the tests' engine."""

    def __init__(self, folder: Path, driver: str, data: Path | None = None) -> None:
        self.folder = folder
        self.socket = folder / "docker.sock"
        self.data = data or folder / "data"
        self._driver = driver
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    @property
    def address(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        if self._process:
            return
        places = {"host": self.address, "data-root": self.data, "exec-root": self.folder / "exec"}
        places |= {"pidfile": self.folder / "docker.pid", "storage-driver": self._driver, "bridge": "none"}
        # Not after the folder: containerd refuses what ends in `_`, as a temporary folder's name may.
        places |= {"containerd-namespace": f"dsn{self.port}", "containerd-plugins-namespace": f"dsn{self.port}-p"}
        words = [f"--{name}={value}" for name, value in places.items()]
        words += [f"--host=tcp://127.0.0.1:{self.port}", "--tls=false", "--iptables=false", "--ip-masq=false"]
        words += ["--shutdown-timeout=1"]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(["dockerd", *words], stdout=log, stderr=log)
        ask = ["docker", "--host", self.address, "version"]
        while subprocess.run(ask, capture_output=True, check=False).returncode:
            if self._process.poll() is not None:
                pytest.fail((self.folder / "log").read_text()[-2000:])

    def stop(self) -> None:
        if self._process:
            self._process.terminate()
            self._process.wait(timeout=60)
            self._process = None

    def load_image(self) -> None:
        saved = subprocess.Popen(["docker", "save", image_tag()], stdout=subprocess.PIPE)
        subprocess.run(["docker", "--host", self.address, "load"], stdin=saved.stdout, capture_output=True, check=True)
        assert saved.wait() == 0
        assert saved.stdout
        saved.stdout.close()


@contextmanager
def open_folder() -> Iterator[Path]:
    """Short, as an engine makes sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="dsn"))
    try:
        yield folder
    finally:
        release(folder)


def release(folder: Path) -> None:
    """What an engine left mounted would keep the folder from being removed."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        place = line.split()[1]
        if place.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", place], check=False)
    shutil.rmtree(folder, ignore_errors=True)
