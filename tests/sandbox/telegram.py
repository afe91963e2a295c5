"""A sandbox Telegram Bot API, strict about envelopes, texts, limits and the one-poller rule.

It owns make-believe bots and chats and remembers the last state of every message. It knows nothing of the gateway.
`telegram.fault` makes it misbehave (`web.Fault`). The page `/` shows the chats as a person sees them; tokens are not
on it. Not modelled: Markdown, albums, and the delivery of updates to a webhook. Long, because it is one method after
another.
"""

import json
import math
import re
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import trio
from werkzeug.http import parse_options_header

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

MAX_TEXT = 4096
BURST = 5
TAGS = {
    "b": "b", "strong": "b", "i": "i", "em": "i", "u": "u", "ins": "u", "s": "s", "strike": "s", "del": "s",
    "code": "code", "pre": "pre", "a": "a", "blockquote": "blockquote", "span": "span", "tg-spoiler": "span",
    "tg-emoji": "span",
}  # fmt: skip
UPLOADS = {
    "sendphoto": "photo", "sendvoice": "voice", "sendaudio": "audio", "sendvideo": "video", "senddocument": "document",
}  # fmt: skip
"""Methods with a file, and its field."""
NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
NOT_MODIFIED = (
    "Bad Request: message is not modified: specified new message content and reply markup are exactly the same as a "
    "current content and reply markup of the message"
)
OTHER_POLLER = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
WEBHOOK_ACTIVE = (
    "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"
)
_ENTITY = re.compile(r"&(?:#x([0-9a-fA-F]+)|#(\d+)|([a-z]+));?")
_ATTRIBUTE = re.compile(r"""([a-zA-Z0-9-]+)\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))|([a-zA-Z0-9-]+)""")


class Refusal(Exception):
    """An answer that says no."""

    def __init__(self, code: int, description: str, **parameters: int) -> None:
        super().__init__(description)
        self.code, self.description, self.parameters = code, description, parameters

    def response(self) -> Response:
        """Telegram's error envelope; the HTTP status equals the code."""
        body: dict[str, Any] = {"ok": False, "error_code": self.code, "description": self.description}
        headers: tuple[tuple[str, str], ...] = ()
        if self.parameters:
            body["parameters"] = self.parameters
        if "retry_after" in self.parameters:
            headers = (("Retry-After", str(self.parameters["retry_after"])),)
        return as_json(body, self.code, headers)


def units(text: str) -> int:
    """The length Telegram counts in: UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def _entities_error(what: str) -> Refusal:
    return Refusal(400, f"Bad Request: can't parse entities: {what}")


def parse_html(source: str) -> tuple[str, str]:
    """The plain text of a message in HTML parse mode, and a page-safe rendering of it. Refuses what Telegram refuses."""
    plain: list[str] = []
    safe: list[str] = []
    open_tags: list[tuple[str, str]] = []
    at = 0
    while at < len(source):
        here = len(source[:at].encode())
        char = source[at]
        if char == "&" and (entity := _ENTITY.match(source, at)):
            hexadecimal, decimal, name = entity.groups()
            text = NAMED.get(name, "") if name else chr(int(hexadecimal, 16) if hexadecimal else int(decimal))
            text = text or entity.group()
            plain.append(text)
            safe.append(escape(text))
            at = entity.end()
        elif char != "<":
            plain.append(char)
            safe.append(escape(char))
            at += 1
        else:
            end = source.find(">", at)
            if end < 0:
                raise _entities_error(f"Unclosed start tag at byte offset {here}")
            inside = source[at + 1 : end]
            at = end + 1
            if inside.startswith("/"):
                name = inside[1:].strip().lower()
                if not open_tags:
                    raise _entities_error(f"Unexpected end tag at byte offset {here}")
                opened, shown = open_tags.pop()
                if name and name != opened:
                    raise _entities_error(
                        f'Unmatched end tag at byte offset {here}, expected "</{opened}>", found "</{name}>"'
                    )
                safe.append(f"</{shown}>")
                continue
            name = re.split(r"[\s/]", inside, maxsplit=1)[0].lower()
            if name not in TAGS:
                raise _entities_error(f'Unsupported start tag "{name}" at byte offset {here}')
            attributes = {
                found[0].lower(): found[1] or found[2] or found[3]
                for found in _ATTRIBUTE.findall(inside[len(name) :])
                if found[0]
            }
            if name == "span" and attributes.get("class") != "tg-spoiler":
                raise _entities_error(f'Tag "span" must have class "tg-spoiler" at byte offset {here}')
            open_tags.append((name, TAGS[name]))
            link = attributes.get("href", "")
            if name == "a" and urlsplit(link).scheme in ("http", "https", "tel", "tg"):
                safe.append(f'<a href="{escape(link)}" rel="noreferrer">')
            else:
                safe.append(f"<{TAGS[name]}>")
    if open_tags:
        raise _entities_error(f'Can\'t find end tag corresponding to start tag "{open_tags[-1][0]}"')
    return "".join(plain), "".join(safe)


@dataclass(slots=True, kw_only=True)
class Message:
    """The last state of one message, and how it came to it."""

    message_id: int
    date: int
    bot: str
    text: str
    shown: str
    source: str
    markup: Any = None
    topic: int | None = None
    edits: int = 0
    edited_at: float | None = None


@dataclass(slots=True, kw_only=True)
class Chat:
    """One chat. `forbidden` is the text of a 403 for whoever writes to it; `migrated_to` sends writers elsewhere."""

    id: int
    title: str
    type: str
    status: str = "administrator"
    """What the bots are here: creator, administrator, member, restricted, left or kicked."""
    can_post_messages: bool = True
    forbidden: str | None = None
    migrated_to: int | None = None
    closed_topics: set[int] = field(default_factory=set)
    """Topics in which only administrators who manage topics may write; 1 is General."""
    topics: set[int] = field(default_factory=set)
    """The topics of a forum group, General (1) among them; empty: the group is no forum."""
    silent: bool = False
    """Whether plain members may not write."""
    messages: dict[int, Message] = field(default_factory=dict)
    next_id: int = 1
    tokens: float = float(BURST)
    filled_at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The chat as a message carries it."""
        name = {"first_name": self.title} if self.type == "private" else {"title": self.title}
        return {"id": self.id, "type": self.type, **name, **({"is_forum": True} if self.topics else {})}


@dataclass(slots=True)
class Bot:
    """One bot: its updates that wait, its webhook, and the poll that is parked."""

    id: int
    username: str
    updates: deque[dict[str, Any]] = field(default_factory=deque)
    next_update: int = 910_001
    webhook: dict[str, Any] = field(default_factory=dict)
    allowed: list[str] = field(default_factory=list)
    parked: trio.CancelScope | None = None
    arrived: trio.Event = field(default_factory=trio.Event)
    usurped: str = ""

    def as_json(self) -> dict[str, Any]:
        """The bot as a User."""
        return {"id": self.id, "is_bot": True, "first_name": self.username, "username": self.username}


@dataclass(slots=True, kw_only=True)
class Raw:
    """One call of a method as it came, without the token, and the status it was answered with (None: not answered)."""

    at: float
    wall: float
    bot: str | None
    method: str
    params: Mapping[str, Any]
    status: int | None = None
    description: str = ""


Method = Callable[[Bot, Mapping[str, Any]], Awaitable[Any]]


class Telegram:
    """All bots and chats. `base = await nursery.start(telegram.serve, port)`; then look at `chats` and `calls`."""

    def __init__(self, tokens: Mapping[str, str] | None = None, *, rate_limits: bool = True) -> None:
        self.bots = {
            token: Bot(int(token.split(":")[0]), username)
            for token, username in (tokens or {"700100200:sandbox-token": "shop_bot"}).items()
        }
        self.rate_limits = rate_limits
        """About one message a second and chat, five at once; an edit counts as one."""
        self.chats: dict[int, Chat] = {}
        self.calls: deque[Raw] = deque(maxlen=100_000)
        self.fault: Fault | str = Fault.NONE
        self.fault_count: int | None = None
        self.hang_s = 30.0
        self.allow_http_webhook = False
        self.clock: Callable[[], float] = time.monotonic
        """What the limits go by."""
        self.methods: dict[str, Method] = {
            "getme": self._get_me,
            "sendmessage": self._send_message,
            "editmessagetext": self._edit_message_text,
            "getchat": self._get_chat,
            "getchatmember": self._get_chat_member,
            "sendchataction": self._send_chat_action,
            "setwebhook": self._set_webhook,
            "deletewebhook": self._delete_webhook,
            "getwebhookinfo": self._get_webhook_info,
            "getupdates": self._get_updates,
            "getfile": self._get_file,
            "sendlocation": self._send_location,
            **{name: partial(self._send_file, field) for name, field in UPLOADS.items()},
        }
        self.files: dict[str, StoredFile] = {}
        """By file_id: what clients sent, and what the bot uploaded."""
        self.file_expires: set[str] = set()
        """Paths whose hour is over."""
        self.site = Site(
            {
                ("GET", "/"): self._page,
                ("*", "/bot{token}/{method}"): self._call,
                ("GET", "/file/bot{token}/{folder}/{name}"): self._download,
            },
            self._not_found,
        )

    @property
    def base(self) -> str:
        """The base URL, once it serves."""
        return self.site.base

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the API's base URL."""
        await self.site.serve(port, task_status=task_status)

    def add_chat(self, chat_id: int, title: str = "Chat", type: str | None = None) -> Chat:
        """A chat that every bot is in. The kind is read from the id unless told."""
        kind = type or ("private" if chat_id > 0 else "supergroup" if chat_id <= -(10**12) else "group")
        chat = self.chats[chat_id] = Chat(
            id=chat_id, title=title, type=kind, status="member" if kind != "channel" else "administrator"
        )
        return chat

    def push(self, update: dict[str, Any], bot: Bot | None = None) -> int:
        """Queues an update (its payload, such as `{"message": ...}`) for one bot, or the first; returns its id."""
        target = bot or next(iter(self.bots.values()))
        number = target.next_update
        target.next_update += 1
        target.updates.append({"update_id": number, **update})
        target.arrived.set()
        target.arrived = trio.Event()
        return number

    def messages(self, chat_id: int) -> list[Message]:
        """The messages of a chat in the order in which they were first sent."""
        return list(self.chats[chat_id].messages.values())

    # --- what every call goes through

    async def _call(self, request: Request) -> Response:
        bot = self.bots.get(request.parts["token"])
        method = request.parts["method"].lower()
        params = self._params(request)
        raw = Raw(at=request.at, wall=request.wall, bot=bot.username if bot else None, method=method, params=params)
        self.calls.append(raw)
        fault = self._take_fault()
        match fault:
            case Fault.DROP:
                raise Drop
            case Fault.HTML:
                raw.status = 502
                return as_html("<html><body>502 Bad Gateway</body></html>", 502)
            case Fault.EMPTY:
                raw.status = 200
                return Response(200, b"")
        try:
            if fault in (Fault.HTTP_500, Fault.SUCCESS_FALSE, Fault.HTTP_503):
                raise Refusal(500, "Internal Server Error: restart")
            if bot is None:
                raise Refusal(401, "Unauthorized")
            if method not in self.methods:
                raise Refusal(404, "Not Found")
            result = await self.methods[method](bot, params)
        except Refusal as no:
            raw.description = no.description
            response = no.response()
        else:
            response = as_json({"ok": True, **(result if isinstance(result, Described) else {"result": result})})
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        raw.status = response.status
        return response

    def _take_fault(self) -> Fault:
        fault = Fault(self.fault)
        if fault is not Fault.NONE and self.fault_count is not None:
            self.fault_count -= 1
            if self.fault_count <= 0:
                self.fault, self.fault_count = Fault.NONE, None
        return fault

    def _params(self, request: Request) -> dict[str, Any]:
        params: dict[str, Any] = dict(request.query)
        if request.content_type == "application/json":
            try:
                body = json.loads(request.body or b"{}")
            except ValueError:
                body = None
            params.update(body if isinstance(body, dict) else {})
        elif request.content_type == "application/x-www-form-urlencoded":
            params.update(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        elif request.content_type == "multipart/form-data":
            params.update(read_form(request.headers["content-type"], request.body))
        return params

    async def _not_found(self, request: Request) -> Response:
        return Refusal(404, "Not Found").response()

    # --- chats and messages

    def _chat(self, params: Mapping[str, Any]) -> Chat:
        given = str(params.get("chat_id", ""))
        if not given:
            raise Refusal(400, "Bad Request: chat_id is empty")
        chat = self.chats.get(int(given)) if re.fullmatch(r"-?\d{1,18}", given) else None
        if chat is None:
            raise Refusal(400, "Bad Request: chat not found")
        return chat

    def _writable(self, params: Mapping[str, Any]) -> Chat:
        chat = self._chat(params)
        if chat.migrated_to is not None:
            raise Refusal(
                400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=chat.migrated_to
            )
        if chat.forbidden is not None:
            raise Refusal(403, chat.forbidden)
        if chat.status in ("left", "kicked"):
            said = "is not a member of" if chat.status == "left" else "was kicked from"
            raise Refusal(403, f"Forbidden: bot {said} the {chat.type} chat")
        mute = chat.status == "restricted" or (chat.type == "channel" and chat.status == "administrator")
        if (mute and not chat.can_post_messages) or (
            chat.status == "member" and (chat.silent or chat.type == "channel")
        ):
            raise Refusal(400, "Bad Request: not enough rights to send text messages to the chat")
        return chat

    def _topic(self, chat: Chat, params: Mapping[str, Any]) -> int | None:
        """The topic a message is for; refuses what is not there, and what is closed to plain members."""
        given = params.get("message_thread_id")
        if given is not None and not re.fullmatch(r"[1-9]\d{0,9}", str(given)):
            raise Refusal(400, "Bad Request: invalid message thread identifier specified")
        if given is not None and (int(given) == 1 or int(given) not in chat.topics):
            raise Refusal(400, "Bad Request: message thread not found")
        topic = int(given) if given is not None else (1 if chat.topics else None)
        if topic in chat.closed_topics and chat.status not in ("administrator", "creator"):
            raise Refusal(400, "Bad Request: TOPIC_CLOSED")
        return topic if given is not None else None

    def _spend(self, chat: Chat) -> None:
        now = self.clock()
        chat.tokens = min(BURST, chat.tokens + (now - chat.filled_at))
        chat.filled_at = now
        if self.rate_limits and chat.tokens < 1:
            wait = max(1, math.ceil(1 - chat.tokens))
            raise Refusal(429, f"Too Many Requests: retry after {wait}", retry_after=wait)
        chat.tokens -= 1

    def _text(self, params: Mapping[str, Any]) -> tuple[str, str]:
        source = params.get("text")
        if not isinstance(source, str) or not source:
            raise Refusal(400, "Bad Request: message text is empty")
        mode = str(params.get("parse_mode", "")).lower()
        if mode == "html":
            plain, shown = parse_html(source)
        elif mode:
            raise Refusal(400, "Bad Request: unsupported parse_mode")
        else:
            plain, shown = source, escape(source)
        if not plain.strip():
            raise Refusal(400, "Bad Request: text must be non-empty")
        if units(plain.strip()) > MAX_TEXT:
            raise Refusal(400, "Bad Request: message is too long")
        return plain, shown

    def _reported(self, bot: Bot, chat: Chat, message: Message) -> dict[str, Any]:
        reported = {
            "message_id": message.message_id, "date": message.date, "chat": chat.as_json(), "from": bot.as_json(),
            "text": message.text,
        }  # fmt: skip
        if message.topic is not None:
            reported |= {"message_thread_id": message.topic, "is_topic_message": True}
        if message.edited_at is not None:
            reported["edit_date"] = int(message.edited_at)
        return reported

    async def _get_me(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        return {**bot.as_json(), "can_join_groups": True, "can_read_all_group_messages": False}

    async def _send_message(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._writable(params)
        topic = self._topic(chat, params)
        plain, shown = self._text(params)
        self._spend(chat)
        message = Message(
            message_id=chat.next_id, date=int(time.time()), bot=bot.username, text=plain, shown=shown,
            source=params["text"], markup=params.get("reply_markup"), topic=topic,
        )  # fmt: skip
        chat.next_id += 1
        chat.messages[message.message_id] = message
        while len(chat.messages) > 10_000:
            del chat.messages[next(iter(chat.messages))]
        return self._reported(bot, chat, message)

    # --- files

    def add_file(self, data: bytes, name: str, size: int | None = None) -> dict[str, Any]:
        """A file that a client has sent, as a message names it. `size` is what is said, where that differs."""
        number = f"file{len(self.files) + 1}"
        self.files[number] = StoredFile(data, name, f"documents/{number}.bin")
        return {
            "file_id": number,
            "file_unique_id": f"u{number}",
            "file_size": len(data) if size is None else size,
            "file_name": name,
        }

    async def _get_file(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        known = self.files.get(str(params.get("file_id", "")))
        if known is None:
            raise Refusal(400, "Bad Request: invalid file_id")
        if len(known.data) > 20 << 20:
            raise Refusal(400, "Bad Request: file is too big")
        self.file_expires.discard(known.path)
        number = str(params["file_id"])
        return {
            "file_id": number,
            "file_unique_id": f"u{number}",
            "file_size": len(known.data),
            "file_path": known.path,
        }

    async def _download(self, request: Request) -> Response:
        if request.parts["token"] not in self.bots:
            return Refusal(401, "Unauthorized").response()
        path = f"{request.parts['folder']}/{request.parts['name']}"
        for known in self.files.values():
            if known.path == path and path not in self.file_expires:
                return Response(200, known.data, "application/octet-stream")
        return Refusal(404, "Not Found").response()

    async def _send_location(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._writable(params)
        if not all(re.fullmatch(r"-?\d{1,3}(\.\d+)?", str(params.get(name, ""))) for name in ("latitude", "longitude")):
            raise Refusal(400, "Bad Request: can't parse location")
        return self._posted(bot, chat, params, f"[{params['latitude']}, {params['longitude']}]", {})

    async def _send_file(self, field: str, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._writable(params)
        given = params.get(field)
        if not isinstance(given, StoredFile):
            raise Refusal(400, f"Bad Request: there is no {field} in the request")
        if not given.data:
            raise Refusal(400, "Bad Request: file must be non-empty")
        if field == "photo" and not given.data.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF", b"GIF8")):
            raise Refusal(400, "Bad Request: IMAGE_PROCESS_FAILED")
        if field == "photo" and len(given.data) > 10 << 20:
            raise Refusal(400, "Bad Request: file is too big")
        caption = str(params.get("caption", ""))
        if units(caption) > 1024:
            raise Refusal(400, "Bad Request: message caption is too long")
        known = self.add_file(given.data, given.name)
        return self._posted(
            bot, chat, params, f"[{field}] {caption}".strip(), {field: [known] if field == "photo" else known}
        )

    def _posted(self, bot: Bot, chat: Chat, params: Mapping[str, Any], text: str, more: Mapping[str, Any]) -> Any:
        self._spend(chat)
        message = Message(
            message_id=chat.next_id, date=int(time.time()), bot=bot.username, text=text, shown=escape(text), source=text,
            topic=self._topic(chat, params),
        )  # fmt: skip
        chat.next_id += 1
        chat.messages[message.message_id] = message
        return {**self._reported(bot, chat, message), **more}

    async def _edit_message_text(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._writable(params)
        given = str(params.get("message_id", ""))
        if not given.isdigit():
            raise Refusal(400, "Bad Request: message identifier is not specified")
        message = chat.messages.get(int(given))
        if message is None:
            raise Refusal(400, "Bad Request: message to edit not found")
        if message.bot != bot.username:
            raise Refusal(400, "Bad Request: message can't be edited")
        plain, shown = self._text(params)
        if (shown, params.get("reply_markup")) == (message.shown, message.markup):
            raise Refusal(400, NOT_MODIFIED)
        self._spend(chat)
        message.text, message.shown, message.source = plain, shown, params["text"]
        message.markup = params.get("reply_markup")
        message.edits += 1
        message.edited_at = time.time()
        return self._reported(bot, chat, message)

    async def _send_chat_action(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._writable(params)
        if chat.type == "channel":
            raise Refusal(400, "Bad Request: CHANNEL_INVALID")
        if params.get("action") not in ("typing", "upload_photo", "record_voice", "upload_voice", "upload_document"):
            raise Refusal(400, "Bad Request: wrong parameter action in request")
        self._topic(chat, params)
        return True

    async def _get_chat(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._chat(params)
        if chat.migrated_to is not None:
            raise Refusal(
                400, "Bad Request: group chat was upgraded to a supergroup chat", migrate_to_chat_id=chat.migrated_to
            )
        if chat.status in ("left", "kicked") and chat.type != "channel":
            raise Refusal(403, f"Forbidden: bot was kicked from the {chat.type} chat")
        rights = {"permissions": {"can_send_messages": not chat.silent}} if chat.type in ("group", "supergroup") else {}
        return {**chat.as_json(), "accent_color_id": 0, "max_reaction_count": 11, **rights}

    async def _get_chat_member(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        chat = self._chat(params)
        user = str(params.get("user_id", ""))
        if not re.fullmatch(r"\d{1,16}", user):
            raise Refusal(400, "Bad Request: invalid user_id specified")
        if int(user) != bot.id:
            return {"user": {"id": int(user), "is_bot": False, "first_name": "Someone"}, "status": "member"}
        member: dict[str, Any] = {"user": bot.as_json(), "status": chat.status}
        if chat.status == "administrator" and chat.type == "channel":
            member["can_post_messages"] = chat.can_post_messages
        if chat.status == "restricted":
            member |= {"is_member": True, "can_send_messages": chat.can_post_messages}
        return member

    # --- updates

    async def _set_webhook(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        url = str(params.get("url", ""))
        if not url:
            return await self._delete_webhook(bot, params)
        address = urlsplit(url)
        if address.scheme != "https" and not self.allow_http_webhook:
            raise Refusal(400, "Bad Request: bad webhook: An HTTPS URL must be provided for webhook")
        if (address.port or 443) not in (443, 80, 88, 8443) and not self.allow_http_webhook:
            raise Refusal(400, "Bad Request: bad webhook: Webhook can be set up only on ports 80, 88, 443 or 8443")
        secret = str(params.get("secret_token", ""))
        if len(secret) > 256:
            raise Refusal(400, "Bad Request: secret token is too long")
        if not re.fullmatch(r"[A-Za-z0-9_-]*", secret):
            raise Refusal(400, "Bad Request: secret token contains unallowed characters")
        bot.webhook = {"url": url, "secret_token": secret}
        self._allow(bot, params)
        if params.get("drop_pending_updates") in (True, "true", "True", "1"):
            bot.updates.clear()
        self._unpark(bot, "Conflict: terminated by setWebhook request")
        return Described(result=True, description="Webhook was set")

    async def _delete_webhook(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        had = bool(bot.webhook)
        bot.webhook = {}
        if params.get("drop_pending_updates") in (True, "true", "True", "1"):
            bot.updates.clear()
        return Described(result=True, description="Webhook was deleted" if had else "Webhook is already deleted")

    async def _get_webhook_info(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        return {
            "url": bot.webhook.get("url", ""), "has_custom_certificate": False,
            "pending_update_count": len(bot.updates),
        }  # fmt: skip

    async def _get_updates(self, bot: Bot, params: Mapping[str, Any]) -> Any:
        if bot.webhook:
            raise Refusal(409, WEBHOOK_ACTIVE)
        offset = self._number(params, "offset", 0)
        limit = min(max(self._number(params, "limit", 100), 1), 100)
        timeout = min(max(self._number(params, "timeout", 0), 0), 50)
        self._allow(bot, params)
        if offset < 0:
            while len(bot.updates) > -offset:
                bot.updates.popleft()
        else:
            while bot.updates and bot.updates[0]["update_id"] < offset:
                bot.updates.popleft()
        if not bot.updates and timeout:
            self._unpark(bot, OTHER_POLLER)
            with trio.move_on_after(timeout) as scope:
                bot.parked = scope
                while not self._wanted(bot):
                    await bot.arrived.wait()
            if bot.parked is scope:
                bot.parked = None
            elif bot.usurped:
                raise Refusal(409, bot.usurped)
        return self._wanted(bot)[:limit]

    def _unpark(self, bot: Bot, why: str) -> None:
        """The older poll loses, with 409."""
        if bot.parked is not None:
            bot.usurped = why
            bot.parked.cancel()
            bot.parked = None

    def _wanted(self, bot: Bot) -> list[dict[str, Any]]:
        if not bot.allowed:
            return list(bot.updates)
        return [update for update in bot.updates if any(name in update for name in bot.allowed)]

    def _allow(self, bot: Bot, params: Mapping[str, Any]) -> None:
        allowed = params.get("allowed_updates")
        if isinstance(allowed, str):
            try:
                allowed = json.loads(allowed)
            except ValueError:
                raise Refusal(400, "Bad Request: can't parse allowed updates JSON object") from None
        if isinstance(allowed, list):
            bot.allowed = [str(name) for name in allowed]

    def _number(self, params: Mapping[str, Any], name: str, default: int) -> int:
        try:
            return int(params.get(name, default))
        except (TypeError, ValueError):
            return default

    # --- the page

    async def _page(self, request: Request) -> Response:
        parts = []
        for chat in self.chats.values():
            bubbles = []
            for message in list(chat.messages.values())[-25:]:
                edits = f", edited {message.edits} times" if message.edits > 1 else ", edited" if message.edits else ""
                when = time.strftime("%H:%M:%S", time.localtime(message.edited_at or message.date))
                bubbles.append(f"<div>{message.shown}<small>{escape(message.bot)}, {when}{edits}</small></div>")
            parts.append(
                f"<section><h2>{escape(chat.title)}</h2>{''.join(reversed(bubbles)) or '<p>nothing yet</p>'}</section>"
            )
        return as_html(
            f"""<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<meta name="viewport" content="width=device-width"><title>Sandbox Telegram</title>
<style>body{{font:15px/1.45 system-ui;margin:1.5rem;color:#1d2530}}section{{max-width:34rem}}
div{{white-space:pre-wrap;background:#eef3f9;border-radius:.8rem;padding:.5rem .9rem;margin:.4rem 0}}
small{{display:block;color:#5b6673}}</style><h1>Sandbox Telegram</h1>{"".join(parts)}</html>"""
        )


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file, and the path that getFile gives."""

    data: bytes
    name: str
    path: str = ""


def read_form(content_type: str, body: bytes) -> dict[str, Any]:
    """The parts of a form; files as `StoredFile`."""
    boundary = parse_options_header(content_type)[1].get("boundary", "")
    found: dict[str, Any] = {}
    for part in body.split(b"--" + boundary.encode())[1:-1]:
        head, _, data = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        lines = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        options = parse_options_header({name.lower(): value for name, value in lines.items()}["content-disposition"])[1]
        data = data.removesuffix(b"\r\n")
        found[options["name"]] = StoredFile(data, options["filename"]) if "filename" in options else data.decode()
    return found


class Described(dict[str, Any]):
    """A result that brings a description."""
