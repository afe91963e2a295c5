"""`make demo` as somebody sees it who starts it twice: its addresses, its links, what plays, what fails, what is left."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.sandbox.product import free_address

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


class Demo:
    """The process and what it printed."""

    def __init__(self, folder: Path, bind: str, intake: str) -> None:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
        self.bind = bind
        self.environment = {**ours, "PYTHONPATH": str(ROOT), "DEMO_RATE": "60"}
        self.folder = folder
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.sandbox.demo"], cwd=folder, text=True, stdout=subprocess.PIPE,
            env={**self.environment, "GATEWAY_BIND": bind, "GATEWAY_INTAKE_BIND": intake},
        )  # fmt: skip
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                self.lines.append(line)

    def line(self, pattern: str) -> str:
        """The first group in the first line that matches, now or later."""
        until = time.monotonic() + 60
        while time.monotonic() < until and self.process.poll() is None:
            if found := re.search(pattern, "".join(list(self.lines))):
                return found.group(1)
            time.sleep(0.05)
        raise AssertionError(f"no {pattern} in\n{''.join(self.lines)}")

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command of the product in another terminal, which knows nothing of the demo's settings."""
        return subprocess.run(
            [sys.executable, "-m", "gateway", *words], cwd=self.folder, env=self.environment, capture_output=True,
            text=True, check=False,
        )  # fmt: skip

    def browser(self, link: str) -> urllib.request.OpenerDirector:
        """Signed in by a link."""
        jar = urllib.request.HTTPCookieProcessor(CookieJar())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), jar)
        opener.open(link, timeout=10).close()
        return opener

    def page(self, who: urllib.request.OpenerDirector, path: str) -> str:
        """A page's text."""
        with who.open(f"http://{self.bind}{path}", timeout=10) as answer:
            return str(answer.read().decode())


@contextmanager
def running_demo(folder: Path) -> Iterator[Demo]:
    """Ends by Ctrl-C, in order."""
    demo = Demo(folder, free_address(0), free_address(0))
    try:
        yield demo
        demo.process.send_signal(signal.SIGINT)
        assert demo.process.wait(30) == 0
    finally:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.reader.join(10)


def until_page(demo: Demo, who: urllib.request.OpenerDirector, path: str, pattern: str) -> str:
    """What the pattern's first group finds on a page, now or later."""
    until = time.monotonic() + 60
    while not (found := re.search(pattern, demo.page(who, path))):
        assert time.monotonic() < until, f"{path} never shows {pattern}"
        time.sleep(0.5)
    return found.group(1)


def write(url: str, who: urllib.request.OpenerDirector | None = None, **form: str) -> str:
    """Posts a form and returns the page that follows."""
    opener = who or urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, data=urlencode(form).encode(), timeout=10) as answer:
        return str(answer.read().decode())


def fetch(url: str) -> str:
    """A page of the sandboxes."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
        return str(answer.read().decode())


def until_recording(demo: Demo, who: urllib.request.OpenerDirector, path: str) -> str:
    """The address of the first recording that plays on the page of any call of a list. A PBX may be late with one of them:
    that one is fetched again later."""
    until = time.monotonic() + 90
    while True:
        for call in re.findall(r'href="(/t/0367/calls/[^"/?]+)"[^>]*>', demo.page(who, path)):
            if found := re.search(r'<audio[^>]*src="([^"]+)"', demo.page(who, call)):
                return found.group(1)
        assert time.monotonic() < until, f"no call of {path} has a recording"
        time.sleep(0.5)


def test_the_demo_from_the_first_start_to_the_second(tmp_path: Path) -> None:
    with running_demo(tmp_path) as demo:
        link = demo.line(r"June, 0367 +(http\S+)")
        assert link.startswith(f"http://{demo.bind}/login/once?token=0367.")
        password = demo.line(r"password (\S+):")
        june, cedar = demo.browser(link), demo.browser(demo.line(r"Cedar, 0369 +(http\S+)"))
        assert "Зарегистрирован" in demo.page(june, "/t/0367/integrations/retailcrm")

        demo.line(r"0367 .*(incoming answered)")
        source = until_recording(demo, june, "/t/0367/calls?result=answered")
        with june.open(f"http://{demo.bind}{source}", timeout=10) as sound:
            assert sound.headers["Content-Type"] == "audio/wav"
            assert len(sound.read()) > 16_000

        # A client writes in messengers, a person answers in the inbox.
        phone = demo.line(r"client's phone.*: (http\S+)/")
        for line, channel in enumerate(("telegram", "", "", "whatsapp", "instagram", "viber", "vk")):
            if not channel:  # the other companies' Telegram
                continue
            write(f"{phone}/{line}", text=f"Есть столик на семь, {channel}?")
            listed = f"/t/0367/inbox?channel={channel}"
            chat = until_page(demo, june, listed, r'href="(/t/0367/inbox/[0-9a-f-]{36})')
            form = until_page(demo, june, chat, r'(?s)<form[^>]*action="[^"]*/messages"(.*?)</form>')
            hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
            answered = write(f"http://{demo.bind}{chat}/messages", june, **hidden, text=f"Да, ждём вас, {channel}!")
            assert f"Есть столик на семь, {channel}?" in answered
            until = time.monotonic() + 60
            while f"Да, ждём вас, {channel}!" not in fetch(f"{phone}/{line}/messages"):
                assert time.monotonic() < until, channel
                time.sleep(0.2)

        until_page(demo, cedar, "/t/0369/integrations/retailcrm", r"(Needs attention)")
        ran = demo.command("doctor")
        failing = [line for line in ran.stdout.splitlines() if line.startswith("FAIL")]
        assert [line.split(":")[0] for line in failing] == ["FAIL  RetailCRM retailcrm of tenant 0369"], ran.stdout
        again = demo.command("user", "link", "admin@june.example")
        assert again.stdout.startswith(f"http://{demo.bind}/login/once?token=0367."), again.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["var"]
    file = tmp_path / "var/demo/password"
    assert (file.read_text().strip(), file.stat().st_mode & 0o777) == (password, 0o600)
    with running_demo(tmp_path) as demo:
        assert demo.line(r"password (\S+):") == password
        json.loads((tmp_path / "var/demo/tenants.json").read_text())
        assert "admin@june.example" in demo.page(june, "/t/0367/calls"), "the session of before is still good"
