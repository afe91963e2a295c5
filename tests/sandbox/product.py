"""The product as its own processes, for the demo and the tests: `gateway run` in the background, short commands beside it.

Owns the children it starts and ends them by their own pids. Knows nothing of the sandboxes.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import trio

READY_S = 120.0
STOP_S = 20.0


def free_address(wanted: int) -> str:
    """The loopback address with this port, or with any free one where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"127.0.0.1:{probe.getsockname()[1]}"
    raise OSError("no free port on loopback")


class Gateway:
    """The product's processes: one that runs, and short ones that are asked for something."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        ours = {key: value for key, value in os.environ.items() if not key.startswith("GATEWAY_")}
        self.environment = {**ours, **environment}
        self.log = log

    async def ask(self, *arguments: str, stdin: str = "") -> str:
        """Runs a command to its end, returns what it printed. Raises SystemExit with its words where it failed."""
        done = await trio.run_process(
            [sys.executable, "-m", "gateway", *arguments], env=self.environment, stdin=stdin.encode(),
            capture_stdout=True, capture_stderr=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"gateway {' '.join(arguments)} failed: {done.stderr.decode().strip()}")
        return done.stdout.decode().strip()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[trio.Process]:
        """`gateway run` for as long as the block lasts, in a session of its own so that Ctrl-C comes to us alone."""
        with self.log.open("wb") as out:
            child = await trio.lowlevel.open_process(
                [sys.executable, "-m", "gateway", "run"], env=self.environment, stdin=subprocess.DEVNULL,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        try:
            yield child
        finally:
            with trio.CancelScope(shield=True):
                if child.poll() is None:
                    child.terminate()
                with trio.move_on_after(STOP_S) as patience:
                    await child.wait()
                if patience.cancelled_caught:
                    child.kill()
                    await child.wait()

    async def wait_ready(self, child: trio.Process, url: str) -> None:
        """Waits for /ready. Raises SystemExit with the log's end where the process dies or takes too long."""
        deadline = time.monotonic() + READY_S
        while child.poll() is None and time.monotonic() < deadline:
            if await trio.to_thread.run_sync(_answers, f"{url}/ready"):
                return
            await trio.sleep(0.1)
        end = self.log.read_text("utf-8", "replace").splitlines()[-15:]
        raise SystemExit("\n".join(["the gateway did not get ready:", *end]))


def write_private(file: Path, text: str) -> None:
    """A file with secrets: for its owner alone."""
    file.touch(mode=0o600)
    file.write_text(text, "utf-8")


def _answers(url: str) -> bool:
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
