"""The client's phone in `make demo`: every messenger of every company on one page, in which one writes as the client.

A `Line` is one chat: how a text is written in it, and what stands in it. The page holds no script: the chat is a frame that
loads itself anew, so that what one types stays.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from html import escape
from typing import Any, Protocol
from urllib.parse import parse_qs

import trio

from tests.sandbox.instagram import Instagram
from tests.sandbox.telegram import Bot, Telegram
from tests.sandbox.viber import Viber
from tests.sandbox.vk import Vk
from tests.sandbox.web import Request, Response, Site, as_html
from tests.sandbox.whatsapp import Whatsapp

LONGEST = 4000
WITHIN_S = 20.0
STYLE = """body{font:16px/1.45 system-ui,sans-serif;max-width:34rem;margin:1.5rem auto;padding:0 1rem;color:#1d2530}
a{color:#0b57d0}li{margin:.4rem 0}iframe{width:100%;height:60vh;border:1px solid #c5ccd6;border-radius:.6rem}
p{white-space:pre-wrap;overflow-wrap:anywhere;background:#eef3f9;border-radius:.8rem;padding:.5rem .9rem;margin:.4rem 4rem .4rem 0}
p.own{background:#d8f0dc;margin:.4rem 0 .4rem 4rem}small{display:block;color:#5b6673}
form{display:flex;gap:.5rem;margin:.6rem 0}input{flex:1;font:inherit;padding:.4rem}button{font:inherit;padding:.4rem 1rem}"""


@dataclass(frozen=True, slots=True)
class Written:
    """One message of a chat. `at` is in seconds since the epoch."""

    at: float
    own: bool
    """Whether the client wrote it."""
    text: str


class Line(Protocol):
    """One chat of the client's."""

    @property
    def title(self) -> str:
        """The messenger and who is at the other end."""
        ...

    async def write(self, text: str) -> None:
        """Sends a text as the client."""
        ...

    def written(self) -> Sequence[Written]:
        """Everything in the chat, oldest first."""
        ...


@dataclass
class TelegramLine:
    """A private chat with a bot."""

    title: str
    telegram: Telegram
    bot: Bot
    person: int
    name: str
    own: list[Written] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.telegram.add_chat(self.person, self.name)

    async def write(self, text: str) -> None:
        """Queues the update for whoever polls the bot."""
        chat = self.telegram.chats[self.person]
        number, chat.next_id = chat.next_id, chat.next_id + 1
        who = {"id": self.person, "is_bot": False, "first_name": self.name}
        message = {"message_id": number, "date": int(time.time()), "chat": chat.as_json(), "from": who, "text": text}
        self.telegram.push({"message": message}, self.bot)
        self.own.append(Written(time.time(), True, text))

    def written(self) -> Sequence[Written]:
        """Both sides."""
        answers = [Written(one.date, False, one.text) for one in self.telegram.messages(self.person)]
        return sorted([*self.own, *answers], key=lambda one: one.at)


@dataclass
class WhatsappLine:
    """A chat with a company's number."""

    title: str
    whatsapp: Whatsapp
    number: str
    name: str
    own: list[Written] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.whatsapp.human(self.number, name=self.name)

    async def write(self, text: str) -> None:
        """Queues the webhook."""
        self.whatsapp.writes(self.number, text)
        self.own.append(Written(time.time(), True, text))

    def written(self) -> Sequence[Written]:
        """Both sides."""
        answers = [Written(one.at, False, one.text) for one in self.whatsapp.sent if one.to == self.number]
        return sorted([*self.own, *answers], key=lambda one: one.at)


@dataclass
class InstagramLine:
    """A chat with a company's account. `came`: when each answer was seen first, for they bear no time; so in the next two."""

    title: str
    instagram: Instagram
    person: str
    name: str
    own: list[Written] = field(default_factory=list)
    came: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.instagram.add(self.person, self.name.split()[0].lower()).name = self.name

    async def write(self, text: str) -> None:
        """Calls the webhook."""
        self.own.append(Written(time.time(), True, text))
        self.instagram.now = time.time()
        await _once(lambda: self.instagram.webhook and "messages" in self.instagram.subscriptions)
        await self.instagram.write(self.person, text)

    def written(self) -> Sequence[Written]:
        """Both sides."""
        return _chat(self.own, self.came, self.instagram.members[self.person].messages)


@dataclass
class ViberLine:
    """A chat with a bot."""

    title: str
    viber: Viber
    person: str
    name: str
    own: list[Written] = field(default_factory=list)
    came: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.viber.add(self.person, self.name)

    async def write(self, text: str) -> None:
        """Calls the webhook."""
        self.own.append(Written(time.time(), True, text))
        await _once(lambda: self.viber.webhook)
        await self.viber.write(self.person, {"type": "text", "text": text})

    def written(self) -> Sequence[Written]:
        """Both sides."""
        return _chat(self.own, self.came, self.viber.members[self.person].messages)


@dataclass
class VkLine:
    """A chat with a community."""

    title: str
    vk: Vk
    person: int
    name: str
    own: list[Written] = field(default_factory=list)
    came: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        first, _, last = self.name.partition(" ")
        self.vk.add(self.person, first).last_name = last

    async def write(self, text: str) -> None:
        """Hands the event to whoever polls."""
        self.own.append(Written(time.time(), True, text))
        await _once(lambda: self.vk.longpoll_events)
        await self.vk.write(self.person, text)

    def written(self) -> Sequence[Written]:
        """Both sides."""
        return _chat(self.own, self.came, self.vk.members[self.person].seen)


class Phone:
    """`base = await nursery.start(phone.site.serve)`; then open it in a browser."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.site = Site(
            {
                ("GET", "/"): self._list,
                ("GET", "/{number}"): self._chat,
                ("POST", "/{number}"): self._write,
                ("GET", "/{number}/messages"): self._messages,
            },
            _nothing,
        )

    def _line(self, request: Request) -> Line | None:
        number = request.parts["number"]
        return self.lines[int(number)] if number.isdecimal() and int(number) < len(self.lines) else None

    async def _list(self, request: Request) -> Response:
        links = "".join(
            f'<li><a href="/{number}">{escape(line.title)}</a></li>' for number, line in enumerate(self.lines)
        )
        return _page("Write as a client", f"<h1>Write as a client</h1><ul>{links}</ul>")

    async def _chat(self, request: Request) -> Response:
        if (line := self._line(request)) is None:
            return await _nothing(request)
        number, title = request.parts["number"], escape(line.title)
        return _page(
            line.title,
            f'<h1>{title}</h1><iframe src="/{number}/messages" title="Messages"></iframe><form method="post">'
            f'<input name="text" maxlength="{LONGEST}" aria-label="Message" autocomplete="off" autofocus required>'
            '<button>Send</button></form><a href="/">All chats</a>',
        )

    async def _messages(self, request: Request) -> Response:
        if (line := self._line(request)) is None:
            return await _nothing(request)
        bubbles = "".join(
            f"<p{' class=own' if one.own else ''}>{escape(one.text)}"
            f"<small>{time.strftime('%H:%M:%S', time.localtime(one.at))}</small></p>"
            for one in reversed(line.written()[-50:])
        )
        refresh = '<meta http-equiv="refresh" content="2">'
        return _page("Messages", bubbles or "<small>nothing yet</small>", refresh)

    async def _write(self, request: Request) -> Response:
        line = self._line(request)
        text = parse_qs(request.body.decode("utf-8", "replace")).get("text", [""])[0].strip()[:LONGEST]
        if line is None:
            return await _nothing(request)
        if text:
            with trio.move_on_after(WITHIN_S), suppress(AssertionError):  # the gateway does not take it now
                await line.write(text)
        return Response(303, b"", "text/plain", (("Location", f"/{request.parts['number']}"),))


async def _once(is_so: Callable[[], object]) -> None:
    """Waits until the gateway has said where the messenger's news go to."""
    while not is_so():
        await trio.sleep(0.2)


def _chat(own: Sequence[Written], came: list[float], answers: Sequence[Mapping[str, Any]]) -> Sequence[Written]:
    """Both sides, oldest first."""
    came += [time.time()] * (len(answers) - len(came))
    shown = [Written(at, False, str(one.get("text") or "(a file)")) for at, one in zip(came, answers, strict=True)]
    return sorted([*own, *shown], key=lambda one: one.at)


def _page(title: str, body: str, head: str = "") -> Response:
    return as_html(
        f'<!doctype html><html lang="en"><meta charset="utf-8">{head}<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><body>{body}</body></html>"
    )


async def _nothing(request: Request) -> Response:
    return Response(404, b"", "text/plain")
