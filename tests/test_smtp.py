"""Mail by SMTP against a small server that refuses what a real one refuses; errors in words, never a password."""

import socketserver
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import trio

from gateway import smtp as module
from gateway.domain.errors import GatewayError, Rejected, Unavailable
from gateway.smtp import Smtp, read_smtp_url


@dataclass
class Server:
    """One SMTP server on loopback. `answers` replaces an answer by the command."""

    answers: dict[str, str] = field(default_factory=dict)
    letters: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    silent: threading.Event | None = None
    port: int = 0


@pytest.fixture
def server() -> Iterator[Server]:
    here = Server()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if here.silent is not None:
                here.silent.wait(20)
                return
            self.say("220 sandbox ESMTP")
            while line := self.rfile.readline():
                words = line.decode().strip()
                command = words.split(":")[0].split()[0].upper() if words else ""
                here.commands.append(words)
                if command in here.answers:
                    self.say(here.answers[command])
                elif command == "EHLO":
                    self.say("250-sandbox\r\n250-AUTH PLAIN\r\n250 SMTPUTF8")
                elif command == "AUTH":
                    self.say("235 ok")
                elif command == "DATA":
                    self.say("354 go on")
                    letter = b""
                    while not letter.endswith(b"\r\n.\r\n"):
                        letter += self.rfile.readline()
                    here.letters.append(letter.decode())
                    self.say("250 taken")
                elif command == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 ok")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as tcp:
        tcp.daemon_threads = True
        here.port = tcp.server_address[1]
        thread = threading.Thread(target=tcp.serve_forever, args=(0.02,))
        thread.start()
        yield here
        if here.silent is not None:
            here.silent.set()
        tcp.shutdown()
        thread.join()


def smtp(server: Server) -> Smtp:
    return Smtp(read_smtp_url(f"smtp://gateway:hunter2@127.0.0.1:{server.port}?from=gateway@example.com"))


async def test_a_letter_arrives(server: Server) -> None:
    await smtp(server).send("it@june.example", "June:\nBcc: eve@x.example неполадка", "Строка\n.\nконец")
    (letter,) = server.letters
    assert "From: gateway@example.com\r\n" in letter
    assert "To: it@june.example\r\n" in letter
    assert "\r\nBcc:" not in letter
    assert "Auto-Submitted: auto-generated" in letter
    assert [one for one in server.commands if one.upper().startswith("RCPT")] == ["rcpt TO:<it@june.example>"]
    await smtp(server).test()
    assert len(server.letters) == 1


@pytest.mark.parametrize(
    ("command", "answer", "kind", "words"),
    [
        ("AUTH", "535 5.7.8 hunter2 is not it", Rejected, "refuses the user or password"),
        ("RCPT", "550 no such mailbox", Rejected, "refuses the recipient (550 no such mailbox)"),
        ("RCPT", "451 greylisted", Unavailable, "451 greylisted"),
        ("MAIL", "421 too many", Unavailable, "421 too many"),
        ("DATA", "554 spam", Rejected, "554 spam"),
    ],
)
async def test_errors_are_words(
    server: Server, command: str, answer: str, kind: type[GatewayError], words: str
) -> None:
    server.answers[command] = answer
    with pytest.raises(kind) as raised:
        await smtp(server).send("it@june.example", "s", "t")
    assert words in raised.value.detail
    assert "hunter2" not in f"{raised.value!r} {raised.value.detail}"


async def test_one_that_is_away_or_silent(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable) as raised:
        await Smtp(read_smtp_url("smtp://127.0.0.1:1?from=a@b.example")).test()
    assert "127.0.0.1:1 does not answer: Connection refused" in raised.value.detail
    monkeypatch.setattr(module, "WHOLE_S", 0.1)
    server.silent = threading.Event()
    with trio.fail_after(5), pytest.raises(Unavailable) as raised:
        await smtp(server).test()
    assert "does not answer in time" in raised.value.detail


@pytest.mark.parametrize(
    "text",
    ["http://h", "smtp://", "smtp://h", "smtp://h?from=a b@c", "smtp://h:x?from=a@b.example", "smtp://h?from=<a@b>"],
)
def test_a_url_that_makes_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=r"must|port"):
        read_smtp_url(text)


def test_a_url() -> None:
    place = read_smtp_url("smtps://me%40x:p%2Fw@mail.example?from=gw@x.example")
    assert (place.host, place.port, place.tls, place.user, place.password.reveal(), place.sender) == (
        "mail.example", 465, True, "me@x", "p/w", "gw@x.example",
    )  # fmt: skip
    assert "p/w" not in repr(place)
