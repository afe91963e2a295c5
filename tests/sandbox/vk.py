"""A sandbox VK, strict about forms, versions, tokens, random ids, uploads in three steps, callback confirmation and the long poll.

It owns one make-believe community and the people who write to it. It knows nothing of the gateway. `vk.fault` makes methods misbehave
(`web.Fault`), `vk.poll_failures` the long poll; what no well-behaved client sends is refused and counted in `violations`. Not modelled:
keyboards, group chats' members, wall posts. Long, because it is one method after another.
"""

import hmac
import itertools
import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import httpx2
import trio

from tests.sandbox.web import Drop, Fault, Request, Response, Site, as_html, as_json

VERSION = "5.199"
LONGEST_TEXT, LONGEST_TITLE, LONGEST_SECRET, MOST_SERVERS = 4096, 14, 50, 10
MOST_WAIT_S = 90
KNOWN_EVENTS = frozenset(
    {
        "message_new",
        "message_reply",
        "message_edit",
        "message_allow",
        "message_deny",
        "message_read",
        "message_typing_state",
    }
)
TRIES = 5


class Refusal(Exception):
    """An `error` instead of a `response`, with HTTP 200."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(slots=True, kw_only=True)
class Member:
    """One person."""

    id: int
    first_name: str
    last_name: str = "Петрова"
    allowed: bool = True
    """Whether the community may write to them."""
    seen: list[dict[str, Any]] = field(default_factory=list)
    """What the community has sent."""
    typing: int = 0
    next_number: int = 1
    """Of the conversation's next message."""


@dataclass(slots=True, kw_only=True)
class Server:
    """One callback server of the community."""

    id: int
    url: str
    title: str
    secret_key: str
    status: str = "wait"
    events: set[str] = field(default_factory=set)
    api_version: str = ""


class Vk:
    """`base = await nursery.start(vk.serve)`; then look at `members`, `calls` and `violations`."""

    def __init__(self, token: str = "vk1.a.sandbox", group_id: int = 123456789) -> None:
        self.token, self.group_id = token, group_id
        self.members: dict[int, Member] = {}
        self.messages: dict[int, dict[str, Any]] = {}
        """Whole messages by id."""
        self.servers: dict[int, Server] = {}
        self.calls: list[tuple[str, Mapping[str, str]]] = []
        self.violations: list[str] = []
        self.fault: Fault = Fault.NONE
        self.error: int = 0
        """The code of the next method's error, where it is not 0."""
        self.may_manage = True
        self.hang_s = 30.0
        self.longpoll_events: set[str] | None = None
        """None: switched off."""
        self.queue: list[dict[str, Any]] = []
        self.first_kept = 0
        """Places before it are lost."""
        self.polls = 0
        self.poll_failures: list[int] = []
        """What the next polls fail with."""
        self._key = "key-1"
        self._news = trio.Event()
        self._numbers = itertools.count(1000)
        self._server_numbers = itertools.count(1)
        self._sent: dict[int, int] = {}
        self._uploaded: dict[str, bytes] = {}
        self._saved: set[str] = set()
        self._codes = itertools.count(1)
        self._code = "code0"
        self._methods: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "messages.send": self._send, "messages.setActivity": self._typing, "messages.getById": self._get_messages,
            "messages.markAsRead": self._mark_read, "users.get": self._users, "groups.getById": self._group,
            "groups.setLongPollSettings": self._set_long_poll, "groups.getLongPollServer": self._get_long_poll,
            "groups.getCallbackServers": self._get_servers, "groups.deleteCallbackServer": self._delete_server,
            "groups.getCallbackConfirmationCode": self._confirmation_code, "groups.getCallbackSettings": self._get_events,
            "groups.setCallbackSettings": self._set_events, "photos.getMessagesUploadServer": self._upload_server,
            "photos.saveMessagesPhoto": self._save_photo, "docs.getMessagesUploadServer": self._upload_server, "docs.save": self._save_doc,
        }  # fmt: skip
        self.site = Site(
            {
                ("*", "/method/{name}"): self._method,
                ("*", "/poll"): self._poll,
                ("POST", "/upload/{field}"): self._upload,
            },
            self._not_found,
        )

    async def serve(self, port: int = 0, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the base URL."""
        await self.site.serve(port, task_status=task_status)

    def add(self, person: int, first_name: str = "Анна", *, allowed: bool = True) -> Member:
        """A person of VK."""
        found = self.members[person] = Member(id=person, first_name=first_name, allowed=allowed)
        return found

    # --- what people and administrators do

    async def write(
        self, person: int, text: str = "", *, peer: int = 0, cropped: str | None = None, **more: Any
    ) -> dict[str, Any]:
        """A person writes to the community. `cropped` is what bots are given of the text."""
        self.members[person].allowed = True
        message = self._message(person, peer or person, person, text, 0, **more)
        shown = message if cropped is None else {**message, "text": cropped, "is_cropped": True}
        await self._happens("message_new", {"message": shown, "client_info": {"keyboard": True, "lang_id": 0}})
        return message

    async def edit(self, message: dict[str, Any], text: str) -> None:
        """A person changes a message."""
        message |= {"text": text, "update_time": int(time.time())}
        await self._happens("message_edit", message)

    async def allow(self, person: int, allowed: bool) -> None:
        """A person lets the community write, or does not."""
        self.members[person].allowed = allowed
        await self._happens("message_allow" if allowed else "message_deny", {"user_id": person, "key": ""})

    async def read(self, person: int, number: int) -> None:
        """A person has read up to a message of the community."""
        await self._happens(
            "message_read",
            {"from_id": person, "peer_id": person, "read_message_id": number, "conversation_message_id": 1},
        )

    async def answer_by_hand(self, person: int, text: str, administrator: int = 77) -> dict[str, Any]:
        """An administrator answers in VK itself."""
        message = self._message(
            -self.group_id, person, person, text, 1, random_id=424242, admin_author_id=administrator
        )
        self.members[person].seen.append(message)
        await self._happens("message_reply", message)
        return message

    def _message(self, author: int, peer: int, person: int, text: str, out: int, **more: Any) -> dict[str, Any]:
        member, number = self.members[person], next(self._numbers)
        found = {
            "id": number, "date": int(time.time()), "peer_id": peer, "from_id": author, "text": text, "out": out, "version": 10_000_000 + number,
            "conversation_message_id": member.next_number, "random_id": 0, "attachments": [], "fwd_messages": [], "important": False, **more,
        }  # fmt: skip
        member.next_number += 1
        self.messages[number] = found
        return found

    # --- events

    async def _happens(self, kind: str, content: Mapping[str, Any]) -> None:
        event = {
            "type": kind,
            "group_id": self.group_id,
            "event_id": f"{next(self._numbers):040x}",
            "v": VERSION,
            "object": dict(content),
        }
        if self.longpoll_events is not None and kind in self.longpoll_events:
            self.queue.append(json.loads(json.dumps(event)))
            self._news.set()
            self._news = trio.Event()
        for server in list(self.servers.values()):
            if server.status == "ok" and kind in server.events:
                await self._deliver(server, event)

    async def _deliver(self, server: Server, event: Mapping[str, Any]) -> None:
        body = json.dumps(
            {**event, **({"secret": server.secret_key} if server.secret_key else {})}, ensure_ascii=False
        ).encode()
        for _ in range(TRIES):
            if await self.call_webhook(server.url, body) == (200, b"ok"):
                return
        raise AssertionError("the callback server does not answer with ok")

    async def call_webhook(self, url: str, body: bytes) -> tuple[int, bytes]:
        """One request to a callback server. Status 0 where nobody is there."""
        try:
            async with httpx2.AsyncClient(trust_env=False, timeout=5) as client:
                answer = await client.post(url, content=body, headers={"content-type": "application/json"})
                return answer.status_code, answer.content
        except httpx2.HTTPError:
            return 0, b""

    # --- methods

    async def _method(self, request: Request) -> Response:
        name = request.parts["name"]
        parameters = dict(parse_qsl(request.body.decode("ascii", "replace"), keep_blank_values=True))
        self.calls.append((name, parameters))
        fault, self.fault = self.fault, Fault.NONE
        match fault:
            case Fault.DROP:
                raise Drop
            case Fault.HTTP_500 | Fault.HTTP_503:
                return as_html("<html>oops</html>", 500 if fault is Fault.HTTP_500 else 503)
            case Fault.HTML:
                return as_html("<html>welcome</html>")
            case Fault.EMPTY:
                return Response(200, b"")
        answer: dict[str, Any]
        try:
            answer = {"response": await self._response(request, name, parameters)}
        except Refusal as no:
            repeated = [{"key": key, "value": value} for key, value in parameters.items()]
            answer = {"error": {"error_code": no.code, "error_msg": no.message, "request_params": repeated}}
        if fault is Fault.DROP_AFTER:
            raise Drop
        if fault is Fault.HANG:
            await trio.sleep(self.hang_s)
        return as_json(answer)

    async def _response(self, request: Request, name: str, parameters: Mapping[str, str]) -> Any:
        if request.method != "POST" or request.content_type != "application/x-www-form-urlencoded":
            self._violation(8, f"{request.method} with {request.content_type or 'no type'}")
        if parameters.get("v") != VERSION:
            self._violation(8, "v is missing or another")
        if "access_token" in parameters or request.query:
            self._violation(8, "a token or parameters in the wrong place")
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self.token.encode()):
            raise Refusal(5, "User authorization failed: invalid access_token")
        if self.error:
            code, self.error = self.error, 0
            raise Refusal(code, "as it was told")
        if "group_id" in parameters and parameters["group_id"] != str(self.group_id):
            raise Refusal(203, "Access to group denied")
        if re.search("CallbackS|CallbackC|setLongPoll|addCallback|editCallback", name) and not self.may_manage:
            raise Refusal(15, "Access denied: no rights to manage")
        if name in ("groups.addCallbackServer", "groups.editCallbackServer"):
            return await self._put_server(name, parameters)
        if name not in self._methods:
            self._violation(3, f"unknown method {name}")
        return self._methods[name](parameters)

    def _violation(self, code: int, what: str) -> None:
        self.violations.append(what)
        raise Refusal(code, what)

    def _person(self, parameters: Mapping[str, str]) -> Member:
        member = self.members.get(int(parameters.get("peer_id", "0")))
        if member is None:
            raise Refusal(936, "Contact not found")
        return member

    def _send(self, parameters: Mapping[str, str]) -> Any:
        if (
            not re.fullmatch(r"-?[0-9]{1,10}", parameters.get("random_id", ""))
            or not -(1 << 31) <= int(parameters["random_id"]) < 1 << 31
        ):
            self._violation(100, "random_id is no number of 32 bits")
        number = int(parameters["random_id"])
        if number == 0:
            self._violation(100, "random_id 0 drops no repeats")
        if number in self._sent:
            return self._sent[number]
        member = self._person(parameters)
        text, attached = parameters.get("message", ""), parameters.get("attachment", "")
        if not text and not attached and "lat" not in parameters:
            self._violation(100, "an empty message")
        if len(text) > LONGEST_TEXT:
            self.violations.append("a message that is too long")
            raise Refusal(914, "Message is too long")
        if any(one not in self._saved for one in attached.split(",") if attached):
            self._violation(100, "an attachment that was not saved")
        if "reply_to" in parameters and int(parameters["reply_to"]) not in self.messages:
            self._violation(100, "an answer to no message")
        if not member.allowed:
            raise Refusal(901, "Can't send messages for users without permission")
        kinds = [
            {"type": one[: 5 if one.startswith("photo") else 3], "photo": {}, "doc": {}}
            for one in attached.split(",")
            if attached
        ]
        message = self._message(-self.group_id, member.id, member.id, text, 1, random_id=number, attachments=kinds)
        self._sent[number] = message["id"]
        member.seen.append(
            {
                **message,
                "attachment": attached,
                "reply_to": parameters.get("reply_to", ""),
                "lat": parameters.get("lat", ""),
            }
        )
        return message["id"]

    async def echo(self, person: int) -> None:
        """Reports the community's last message to this person, as VK does after each."""
        number = self.members[person].seen[-1]["id"]
        await self._happens("message_reply", self.messages[number])

    def _typing(self, parameters: Mapping[str, str]) -> Any:
        self._person(parameters).typing += 1
        return 1

    def _mark_read(self, parameters: Mapping[str, str]) -> Any:
        self._person(parameters)
        return 1

    def _get_messages(self, parameters: Mapping[str, str]) -> Any:
        numbers = [int(one) for one in parameters["message_ids"].split(",")]
        items = [self.messages[one] for one in numbers if one in self.messages]
        return {"count": len(items), "items": items}

    def _users(self, parameters: Mapping[str, str]) -> Any:
        wanted = [int(one) for one in parameters["user_ids"].split(",")]
        return [
            {
                "id": one,
                "first_name": self.members[one].first_name,
                "last_name": self.members[one].last_name,
                "screen_name": f"id{one}",
            }
            for one in wanted
            if one in self.members
        ]

    def _group(self, parameters: Mapping[str, str]) -> Any:
        return {"groups": [{"id": self.group_id, "name": "June", "screen_name": "june"}], "profiles": []}

    # --- callback servers

    def _get_servers(self, parameters: Mapping[str, str]) -> Any:
        items = [
            {
                "id": one.id,
                "title": one.title,
                "creator_id": 77,
                "url": one.url,
                "secret_key": one.secret_key,
                "status": one.status,
            }
            for one in self.servers.values()
        ]
        return {"count": len(items), "items": items}

    def _confirmation_code(self, parameters: Mapping[str, str]) -> Any:
        return {"code": self._code}

    async def _put_server(self, name: str, parameters: Mapping[str, str]) -> Any:
        url, title, key = (parameters.get(one, "") for one in ("url", "title", "secret_key"))
        if not re.match("https?://", url) or not 0 < len(title) <= LONGEST_TITLE or len(key) > LONGEST_SECRET:
            self._violation(100, "a callback server without address, or with too long a title or key")
        known = self.servers.get(int(parameters.get("server_id", "0")))
        if name.endswith("addCallbackServer"):
            if len(self.servers) >= MOST_SERVERS:
                raise Refusal(2000, "Servers number limit is reached")
            known = Server(id=next(self._server_numbers), url=url, title=title, secret_key=key)
            self.servers[known.id] = known
        elif known is None:
            raise Refusal(100, "server_id not found")
        known.url, known.title, known.secret_key = url, title, key
        question = json.dumps(
            {"type": "confirmation", "group_id": self.group_id, "event_id": "c", "v": VERSION}
        ).encode()
        known.status = "ok" if await self.call_webhook(url, question) == (200, self._code.encode()) else "failed"
        self._code = f"code{next(self._codes)}"
        return {"server_id": known.id} if name.endswith("addCallbackServer") else 1

    def _delete_server(self, parameters: Mapping[str, str]) -> Any:
        if self.servers.pop(int(parameters["server_id"]), None) is None:
            raise Refusal(100, "server_id not found")
        return 1

    def _get_events(self, parameters: Mapping[str, str]) -> Any:
        server = self.servers[int(parameters["server_id"])]
        return {
            "api_version": server.api_version,
            "events": {name: int(name in server.events) for name in sorted(KNOWN_EVENTS)},
        }

    def _set_events(self, parameters: Mapping[str, str]) -> Any:
        server = self.servers[int(parameters["server_id"])]
        server.events = {name for name in KNOWN_EVENTS if parameters.get(name) == "1"}
        server.api_version = parameters.get("api_version", "")
        return 1

    # --- the long poll

    def _set_long_poll(self, parameters: Mapping[str, str]) -> Any:
        self.longpoll_events = (
            {name for name in KNOWN_EVENTS if parameters.get(name) == "1"} if parameters.get("enabled") == "1" else None
        )
        return 1

    def _get_long_poll(self, parameters: Mapping[str, str]) -> Any:
        if self.longpoll_events is None:
            raise Refusal(15, "Access denied: longpoll for this group is not enabled")
        return {"server": f"{self.site.base}/poll", "key": self._key, "ts": str(len(self.queue))}

    def end_key(self) -> None:
        """The key of the long poll is good no more."""
        self._key = f"{self._key}x"

    async def _poll(self, request: Request) -> Response:
        asked = dict(request.query)
        self.polls += 1
        if asked.get("act") != "a_check" or not 0 < int(asked.get("wait", "0")) <= MOST_WAIT_S:
            self.violations.append("a poll that is none")
            return Response(400, b"")
        if "authorization" in request.headers:
            self.violations.append("the token was sent to the long poll's server")
        if self.poll_failures:
            failed = self.poll_failures.pop(0)
            return as_json({"failed": failed, **({"ts": len(self.queue)} if failed == 1 else {})})
        if not hmac.compare_digest(asked.get("key", "").encode(), self._key.encode()):
            return as_json({"failed": 2})
        ts = int(asked["ts"])
        if ts < self.first_kept:
            return as_json({"failed": 1, "ts": len(self.queue)})
        with trio.move_on_after(int(asked["wait"])):
            while ts >= len(self.queue):
                await self._news.wait()
        return as_json({"ts": str(len(self.queue)), "updates": self.queue[ts:]})

    # --- uploads

    def _upload_server(self, parameters: Mapping[str, str]) -> Any:
        self._person(parameters)
        field_name = "photo" if "type" not in parameters else "file"
        return {"upload_url": f"{self.site.base}/upload/{field_name}?hash=canary-of-the-upload"}

    async def _upload(self, request: Request) -> Response:
        name, content = request.parts["field"], _file_of(request)
        if content is None or name not in content:
            self.violations.append(f"an upload without the field {name}")
            return as_json({"error": "no file", "error_descr": "there is no file in the request"})
        if "authorization" in request.headers:
            self.violations.append("the token was sent to the upload's server")
        if content[name].startswith(b"MZ"):
            return as_json({"error": "unknown error", "error_descr": "invalid extension"})
        mark = f"mark{next(self._numbers)}"
        self._uploaded[mark] = content[name]
        return as_json({"server": 7, "photo": mark, "hash": "h"} if name == "photo" else {"file": mark})

    def _save(self, mark: str, kind: str) -> dict[str, Any]:
        if mark not in self._uploaded:
            self._violation(100, "a file that was not uploaded")
        number = next(self._numbers)
        self._saved.add(f"{kind}-{self.group_id}_{number}_k")
        return {"id": number, "owner_id": -self.group_id, "access_key": "k"}

    def _save_photo(self, parameters: Mapping[str, str]) -> Any:
        if parameters.get("server") != "7" or parameters.get("hash") != "h":
            self._violation(100, "a photo without server and hash")
        return [self._save(parameters.get("photo", ""), "photo")]

    def _save_doc(self, parameters: Mapping[str, str]) -> Any:
        return {"type": "doc", "doc": self._save(parameters.get("file", ""), "doc")}

    @property
    def uploads(self) -> list[bytes]:
        """The files that were uploaded, in their order."""
        return list(self._uploaded.values())

    async def _not_found(self, request: Request) -> Response:
        self.violations.append(f"{request.method} {request.path}")
        return as_html("not found", 404)


def _file_of(request: Request) -> dict[str, bytes] | None:
    """The fields of a multipart form; None for what is none."""
    kind = request.headers.get("content-type", "")
    found = re.fullmatch(r"multipart/form-data; boundary=(\S+)", kind)
    if found is None:
        return None
    fields = dict[str, bytes]()
    for part in request.body.split(f"--{found[1]}".encode())[1:-1]:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        named = re.search(rb'name="([^"]*)"', head)
        if named is not None:
            fields[named[1].decode()] = content.removesuffix(b"\r\n")
    return fields
