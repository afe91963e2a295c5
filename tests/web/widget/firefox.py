"""Firefox as Debian has it, driven by its own protocol (Marionette): commands as JSON with their length before them.

Playwright drives only a Firefox of its own. Source: firefox-source-docs, "testing/marionette/Protocol". Runs in a thread.
"""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.sandbox.product import free_address

START_S = 60.0


class Firefox:
    """One session."""

    def __init__(self, connection: socket.socket) -> None:
        self._file = connection.makefile("rwb")
        self._sent = 0
        self._read()
        self.command("WebDriver:NewSession", {"capabilities": {"alwaysMatch": {"acceptInsecureCerts": True}}})

    def _read(self) -> Any:
        length = b""
        while (digit := self._file.read(1)) != b":":
            assert digit.isdigit(), "Firefox has gone"
            length += digit
        return json.loads(self._file.read(int(length)))

    def command(self, name: str, parameters: dict[str, Any]) -> Any:
        """One command's answer. Raises AssertionError with what Firefox says."""
        self._sent += 1
        text = json.dumps([0, self._sent, name, parameters]).encode()
        self._file.write(str(len(text)).encode() + b":" + text)
        self._file.flush()
        _, _, error, result = self._read()
        assert error is None, error
        return result

    def goto(self, url: str) -> None:
        """Opens a page."""
        self.command("WebDriver:Navigate", {"url": url})

    def run(self, script: str, *given: Any) -> Any:
        """What a script returns, in the page or frame at hand."""
        found = self.command("WebDriver:ExecuteScript", {"script": script, "args": list(given), "newSandbox": False})
        return found["value"]

    def until(self, script: str, *given: Any, within_s: float = 20.0) -> Any:
        """The first thing that a script returns that counts as true."""
        last = time.monotonic() + within_s
        while not (found := self.run(script, *given)):
            assert time.monotonic() < last, script
            time.sleep(0.02)
        return found

    def enter(self, frame: Any) -> None:
        """Goes on in a frame; None is the page."""
        self.command(
            "WebDriver:SwitchToFrame",
            {"element": next(iter(frame.values())), "focus": False} if frame else {"id": None},
        )


@contextmanager
def open_firefox(path: str, folder: Path) -> Iterator[Firefox]:
    """A fresh Firefox without a window."""
    port = int(free_address(0).rpartition(":")[2])
    profile = folder / "profile"
    profile.mkdir()
    (profile / "user.js").write_text(
        f'user_pref("marionette.port", {port});\nuser_pref("intl.accept_languages", "ru");\n'
        'user_pref("browser.shell.checkDefaultBrowser", false);\nuser_pref("datareporting.policy.dataSubmissionEnabled", false);\n'
        'user_pref("network.captive-portal-service.enabled", false);\nuser_pref("app.update.enabled", false);\n'
    )
    browser = subprocess.Popen(
        [path, "--headless", "--marionette", "--no-remote", "--profile", str(profile)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"HOME": str(folder), "PATH": "/usr/bin:/bin", "MOZ_DISABLE_CONTENT_SANDBOX": "1"},
    )  # fmt: skip
    try:
        last = time.monotonic() + START_S
        while True:
            try:
                connection = socket.create_connection(("127.0.0.1", port), timeout=60.0)
                break
            except OSError:
                assert browser.poll() is None, "Firefox did not start"
                assert time.monotonic() < last, "Firefox does not listen"
                time.sleep(0.1)
        with connection:
            yield Firefox(connection)
    finally:
        browser.kill()
        browser.wait()
