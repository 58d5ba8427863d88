"""An engine behind ssh: its socket forwarded by the system's `ssh`, with the user's own settings, keys and agent.

The docker SDK's own ways over ssh give no socket that can be waited for.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

from dynasaur_mcp.errors import SandboxUnavailable

LOGIN_SECONDS = 20.0
_DEFAULT_SOCKET = "/var/run/docker.sock"
_OPTIONS = ("BatchMode=yes", "ExitOnForwardFailure=yes", "ServerAliveInterval=15", "ControlPath=none")


class Forward:
    """A socket here that is one there, until closed."""

    def __init__(self, address: str) -> None:
        """Blocking.

        Args:
            address: `ssh://[user@]host[:port][/path/of/the.sock]`.

        Raises:
            SandboxUnavailable: no `ssh`, no login, no such socket; says what ssh said.
        """
        there = urlsplit(address)
        self._folder = tempfile.TemporaryDirectory(prefix="dynasaur-ssh-")
        self.path = f"{self._folder.name}/docker.sock"
        words = [word for option in _OPTIONS for word in ("-o", option)]
        words += ["-p", str(there.port)] if there.port else []
        words += ["-l", there.username] if there.username else []
        # `cat` ends with its stdin, and ssh with it: a server that is killed leaves no ssh behind.
        command = [
            "ssh",
            *words,
            "-L",
            f"{self.path}:{there.path or _DEFAULT_SOCKET}",
            "--",
            str(there.hostname),
            "cat",
        ]
        try:
            self._ssh = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError:
            self._folder.cleanup()
            raise SandboxUnavailable(f"{address!r} needs the program `ssh`: install OpenSSH's client.") from None
        try:
            self._wait(address)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._ssh.kill()
        self._ssh.communicate()
        self._folder.cleanup()

    def _wait(self, address: str) -> None:
        """Until ssh has made the socket here, which it does after the login."""
        deadline = time.monotonic() + LOGIN_SECONDS
        while not Path(self.path).exists():
            if self._ssh.poll() is not None:
                assert self._ssh.stderr
                said = self._ssh.stderr.read().decode(errors="replace").strip().splitlines()
                why = said[-1] if said else "it ended without a word"
                raise SandboxUnavailable(f"No Docker engine by {address!r}: ssh said {why!r}.")
            if time.monotonic() > deadline:
                raise SandboxUnavailable(f"No Docker engine by {address!r}: no login within {LOGIN_SECONDS:.0f} s.")
            time.sleep(0.05)
