"""The outside systems of the gate, strict: Pigeon takes signed-in notes and hands out letters, Ledger is OAuth and clients by phone."""

import json
import secrets
from typing import Any
from urllib.parse import parse_qsl, urlencode

import trio

from tests.sandbox.web import Request, Response, Site, as_json


class Pigeon:
    """`base = await nursery.start(pigeon.serve)`; then look at `notes`, and `write` letters."""

    def __init__(self) -> None:
        self.notes: list[dict[str, Any]] = []
        self.letters: list[dict[str, Any]] = []
        self.code = "24680"
        self.token = secrets.token_urlsafe(24)
        self.tickets: dict[str, str] = {}
        self.logins = 0
        self._arrived = trio.Event()
        self.site = Site(
            {
                ("POST", "/login"): self._login, ("POST", "/login/code"): self._code, ("GET", "/me"): self._me,
                ("POST", "/notes"): self._note, ("GET", "/letters"): self._letters,
            },
            self._nothing,
        )  # fmt: skip

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the base URL."""
        await self.site.serve(0, task_status=task_status)

    def write(self, number: int, text: str) -> None:
        """A person's letter, for the poll."""
        self.letters.append({"number": number, "text": text})
        self._arrived.set()
        self._arrived = trio.Event()

    def _signed_in(self, request: Request) -> bool:
        return request.headers.get("authorization") == f"Bearer {self.token}"

    async def _nothing(self, request: Request) -> Response:
        return as_json({"error": "no such address"}, 404)

    async def _login(self, request: Request) -> Response:
        ticket = secrets.token_urlsafe(8)
        self.tickets[ticket] = json.loads(request.body)["phone"]
        return as_json({"ticket": ticket})

    async def _code(self, request: Request) -> Response:
        sent = json.loads(request.body)
        if sent.get("ticket") not in self.tickets or sent.get("code") != self.code:
            return as_json({"error": "wrong code"}, 403)
        del self.tickets[sent["ticket"]]
        self.logins += 1
        return as_json({"token": self.token})

    async def _me(self, request: Request) -> Response:
        return as_json({"name": "june"}) if self._signed_in(request) else as_json({"error": "who?"}, 401)

    async def _note(self, request: Request) -> Response:
        if not self._signed_in(request):
            return as_json({"error": "who?"}, 401)
        self.notes.append(json.loads(request.body))
        return as_json({"id": len(self.notes)})

    async def _letters(self, request: Request) -> Response:
        if not self._signed_in(request):
            return as_json({"error": "who?"}, 401)
        after = int(dict(request.query)["after"])
        with trio.move_on_after(2):
            while not any(one["number"] > after for one in self.letters):
                await self._arrived.wait()
        return as_json([one for one in self.letters if one["number"] > after])


class Ledger:
    """`base = await nursery.start(ledger.serve)`; then look at `clients`, `calls` and `stages_read`."""

    CLIENT_ID, CLIENT_SECRET = "the-app", "the-secret-of-the-app-0123456789"

    def __init__(self) -> None:
        self.base = ""
        self.clients: dict[str, int] = {}
        self.calls: dict[str, dict[str, Any]] = {}
        self.stages_read = 0
        self.codes: dict[str, str] = {}
        self.access = ""
        self.refresh = ""
        self.exchanges = 0
        self.spent: list[str] = []
        self.violations: list[str] = []
        self.site = Site(
            {
                ("GET", "/oauth/authorize"): self._authorize, ("POST", "/oauth/token"): self._token,
                ("GET", "/clients"): self._find, ("POST", "/clients"): self._make, ("POST", "/calls"): self._log,
                ("GET", "/stages"): self._stages,
            },
            self._nothing,
        )  # fmt: skip

    async def serve(self, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Runs until cancelled; starts with the base URL."""
        await self.site.serve(0, task_status=task_status)

    async def _nothing(self, request: Request) -> Response:
        return as_json({"error": "no such address"}, 404)

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query)
        if asked.get("client_id") != self.CLIENT_ID:
            return as_json({"error": "unknown app"}, 400)
        code = secrets.token_urlsafe(12)
        self.codes[code] = asked["redirect_uri"]
        back = f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"
        return Response(302, b"", "text/plain", (("Location", back),))

    async def _token(self, request: Request) -> Response:
        form = dict(parse_qsl(request.body.decode()))
        if (form.get("client_id"), form.get("client_secret")) != (self.CLIENT_ID, self.CLIENT_SECRET):
            return as_json({"error": "invalid_client"}, 401)
        if form.get("grant_type") == "authorization_code":
            if self.codes.pop(form.get("code", ""), None) != form.get("redirect_uri"):
                return as_json({"error": "invalid_grant"}, 401)
        elif form.get("refresh_token") in self.spent or form.get("refresh_token") != self.refresh:
            self.violations.append("a refresh token was spent twice, or was none")
            return as_json({"error": "invalid_grant"}, 401)
        else:
            self.spent.append(self.refresh)
        self.exchanges += 1
        self.access, self.refresh = secrets.token_urlsafe(16), secrets.token_urlsafe(16)
        return as_json({"access_token": self.access, "refresh_token": self.refresh, "expires_in": 3600})

    def _allowed(self, request: Request) -> bool:
        return bool(self.access) and request.headers.get("authorization") == f"Bearer {self.access}"

    async def _find(self, request: Request) -> Response:
        if not self._allowed(request):
            return as_json({"error": "expired"}, 401)
        phone = dict(request.query)["phone"]
        return as_json([{"id": self.clients[phone]}] if phone in self.clients else [])

    async def _make(self, request: Request) -> Response:
        if not self._allowed(request):
            return as_json({"error": "expired"}, 401)
        phone = json.loads(request.body)["phone"]
        if phone in self.clients:
            self.violations.append(f"a second client for {phone}")
        self.clients[phone] = len(self.clients) + 1
        return as_json({"id": self.clients[phone]}, 201)

    async def _log(self, request: Request) -> Response:
        if not self._allowed(request):
            return as_json({"error": "expired"}, 401)
        sent = json.loads(request.body)
        self.calls.setdefault(sent["key"], sent)
        return as_json({"id": list(self.calls).index(sent["key"]) + 1}, 201)

    async def _stages(self, request: Request) -> Response:
        if not self._allowed(request):
            return as_json({"error": "expired"}, 401)
        self.stages_read += 1
        return as_json([{"id": 1, "name": "New"}])
