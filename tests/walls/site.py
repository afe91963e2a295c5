"""The whole of what both listeners serve, as `gateway run` puts it together, over a database with both companies.

Nothing here names an address: they are found from the app's own map and from the table of machine addresses. What fills their
arguments, and the fields of their queries and bodies, is `VALUES`, by name; the names of fields are found in the sources.
Over 400 lines, half of them that table.
"""

import base64
import hashlib
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode

import trio
from quart_trio import QuartTrio

from actors.runtime.directory import Slot
from adapters.http import SafeDialer
from adapters.registry import integrations
from gateway.app import Gateway
from gateway.cache import ConfigurationCache
from gateway.domain.api_keys import SCOPES, hash_of, hint_of, new_key
from gateway.domain.errors import Unavailable
from gateway.domain.health import State
from gateway.domain.ids import TenantId
from gateway.domain.limiter import Rate
from gateway.domain.secret import Secret
from gateway.settings import Settings
from gateway.store.api_keys import ApiKey, select_key_by_hash
from gateway.store.call_orders import doubt_left_orders
from gateway.store.embedded.embedded import as_login
from gateway.store.files.blobs import FolderBlobs
from gateway.store.postgres.pool import OwnConnection, Session, open_database, open_session
from gateway.store.secrets.seal import MasterKeys
from gateway.web.callers.tokens import Tokens
from gateway.web.http.routes import Address, Request, Table, answer
from gateway.web.session.access import Need, declared
from tests.sound import wav
from tests.walls.rows import (
    Companies,
    Company,
    Context,
    Ids,
    Stage,
    api_key,
    client_id,
    event_token,
    fill_both,
    hook_id,
    new_companies,
)

CSRF = "c" * 43
OPERATOR = "operators-token-that-no-company-has-0123"
ROOT = Path(__file__).parents[2]
STREAM_S = 0.1
UNLIMITED = Rate(1_000_000, 1.0)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")


@dataclass(frozen=True)
class Side:
    """A company with one of its sets of ids: what fills an argument."""

    company: Company
    ids: Ids
    open: Ids
    """The set of the same company whose integration takes webhooks."""

    @property
    def context(self) -> Context:
        """For what is made from both."""
        return Context(self.company, self.ids, "")


VALUES: Mapping[str, Any] = {
    "number": lambda s: s.company.number,
    "tenant": lambda s: s.company.number,
    "enterprise_number": lambda s: s.company.number,
    "key": lambda s: s.ids.key,
    "integration": lambda s: s.ids.key,
    "integration_type": lambda s: s.ids.key,
    "kind": lambda s: s.ids.kind,
    "call_id": lambda s: s.ids.call_id,
    "call": lambda s: s.ids.call_id,
    "calls": lambda s: s.ids.call_id,
    "UniqueId": lambda s: s.ids.call_id,
    "uniqueId": lambda s: s.ids.call_id,
    "recording": lambda s: str(s.ids.recording),
    "file": lambda s: str(s.ids.recording),
    "name": lambda s: s.ids.pbx,
    "pbx": lambda s: s.ids.pbx,
    "letter": lambda s: str(s.ids.row),
    "delivery": lambda s: str(s.ids.row),
    "before": lambda s: str(s.ids.row + 1),
    "update_id": lambda s: 7,
    "hook_id": lambda s: hook_id(s.context),
    "user_id": lambda s: s.ids.name("user"),
    "userId": lambda s: s.ids.name("user"),
    "extension": lambda s: s.ids.phone,
    "code": lambda s: s.ids.phone,
    "phone": lambda s: "+375296254070",
    "email": lambda s: s.ids.email,
    "hint": lambda s: api_key(s.context)[:16],
    "job": lambda s: s.ids.name("job"),
    "done": lambda s: s.ids.name("flash"),
    "path": lambda s: f"tenant/{s.company.number}",
    "next": lambda s: f"/t/{s.company.number}/calls",
    "trunk": lambda s: f"trunk-{s.ids.tag}",
    "order": lambda s: s.ids.name("order"),
    "text": lambda s: s.ids.tag,
    "id": lambda s: s.ids.call_id,
    "item": lambda s: s.ids.name("item"),
    "prompt": lambda s: s.ids.name("prompt"),
    "version": lambda s: "0000",
    "chat": lambda s: str(s.ids.recording),
    "message": lambda s: str(s.ids.recording),
    "contact": lambda s: str(s.ids.recording),
    "other": lambda s: str(s.ids.recording),
    "reply": lambda s: str(s.ids.recording),
    "ident": lambda s: str(s.ids.recording),
    "conversation": lambda s: str(s.ids.recording),
    "open": lambda s: str(s.ids.recording),
    "action": lambda s: "take",
}
"""Arguments of addresses, and fields of queries and bodies, by name. A field that has none gets each of `ANY` in turn."""
IN_PATH: Sequence[tuple[str, str, Any]] = (
    ("/static/", "name", lambda s: "style.css"),
    ("/recordings/file/", "name", lambda s: str(s.ids.recording)),
    ("/api/v1/files/", "id", lambda s: str(s.ids.recording)),
    ("/files/", "id", lambda s: str(s.ids.recording)),
    ("/api/v1/deliveries/", "id", lambda s: str(s.ids.row)),
    ("/api/v1/keys/", "id", lambda s: str(s.ids.recording)),
    *(
        (f"/api/v1/{name}/", "id", lambda s: str(s.ids.recording))
        for name in ("conversations", "messages", "contacts", "files", "orders")
    ),
    ("/api/v1/catalog/", "id", lambda s: s.ids.name("item")),
    ("/api/v1/users/", "id", lambda s: str(s.ids.recording)),
    ("/t/<number>/people/", "user_id", lambda s: str(s.ids.recording)),
    ("/widget/", "id", lambda s: str(s.ids.recording)),
    ("/widget/", "key", lambda s: f"widget-key-{s.company.mark}"),
    ("/widget-files/", "name", lambda s: "frame.js"),
)
"""Arguments that mean something else at addresses that begin so."""
ANY = ("call_id", "recording", "letter", "integration", "number", "user_id", "extension", "name")
CREDENTIALS = (
    "Token",
    "token",
    "clientId",
    "client_id",
    "apiKey",
    "api_key",
    "password",
    "csrf",
    "signature",
    "expires",
)
"""Fields that prove who asks: always the caller's own."""
_FIELD = re.compile(
    r"""(?:\.get\(|\bargs\[|\bform\[|\bquery\[|\bfields\[|\bsent\[)\s*["']([A-Za-z_][\w.-]{0,40})["']"""
)


def field_names() -> list[str]:
    """Every field that some handler reads, found in the sources of the web, the actors and the adapters."""
    names = set()
    for folder in ("gateway/web", "gateway/domain", "adapters"):
        for path in (ROOT / folder).rglob("*.py"):
            names.update(_FIELD.findall(path.read_text("utf-8")))
    return sorted(names - set(CREDENTIALS))


class Nowhere(SafeDialer):
    """Leads to no place: nothing outside answers."""

    async def resolve(self, host: str, port: int) -> str:
        raise Unavailable("nothing is out there")

    async def resolve_web(self, host: str, port: int, *, tls: bool) -> Sequence[str]:
        raise Unavailable("nothing is out there")


@dataclass(frozen=True)
class Answer:
    """A response as it went out."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def whole(self) -> str:
        """All of it in which something could be betrayed."""
        return "\n".join([*(f"{name}: {value}" for name, value in self.headers.items()), self.text])


@dataclass(frozen=True)
class Route:
    """One method of one address."""

    method: str
    rule: str
    arguments: tuple[str, ...]
    machine: bool = False
    intake: bool = False
    served: bool = True
    """False for methods of machine addresses that only answer that they are not taken."""
    need: Need = Need.OWN
    """What the page's line in `access.py` asks for."""

    def __str__(self) -> str:
        return f"{self.method} {self.rule}{' (fast listener)' if self.intake else ''}"

    def path(self, sides: Mapping[str, Side], default: Side) -> str:
        """The address with its arguments from these sides."""
        path = self.rule
        for name in self.arguments:
            side = sides.get(name, default)
            make = next((one for begin, of, one in IN_PATH if of == name and self.rule.startswith(begin)), VALUES[name])
            text = quote(make(side), safe="")
            path = re.sub(rf"<(?:[^<>]+:)?{name}>", text.replace("\\", ""), path)
        return path


@dataclass(frozen=True)
class Person:
    """Who asks, with what proves it."""

    name: str
    side: Side
    cookies: Mapping[str, str] = field(default_factory=dict)
    fields: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    operator: bool = False

    @property
    def machine(self) -> bool:
        """Whether no cookie proves who it is: to pages, that is nobody."""
        return bool(self.fields or self.headers)


_THEMSELVES = ("nobody", "an admin", "an agent", "an auditor", "a module's session", "tokens of the company")
PEOPLE = (
    *_THEMSELVES, *(f"a key with the scope {scope}" for scope in SCOPES), "a token with every scope",
    "an operator", "an operator who acts as the company",
)  # fmt: skip
"""Whoever asks. `Walls.person` makes each."""


@dataclass
class Walls:
    """Everything at once."""

    companies: Companies
    gateway: Gateway
    app: QuartTrio
    addresses: list[Address]
    owner: Session
    keys: Mapping[tuple[TenantId, str], str] = field(default_factory=dict)
    """Of each company a key for every scope, and a token of a key with all of them."""
    operators: Mapping[str, str] = field(default_factory=dict)
    """The random parts of operators' sessions, by the company that they act as."""

    @property
    def a(self) -> Side:
        """A with its first rows."""
        return Side(self.companies.a, self.companies.of_a[0], self.companies.of_a[1])

    @property
    def b(self) -> Side:
        """B with its first rows."""
        return Side(self.companies.b, self.companies.of_b[0], self.companies.of_b[1])

    def rebuild(self) -> None:
        """Puts both listeners together anew: whatever was changed in the code meanwhile is in force."""
        self.addresses = self.gateway.served.machines()
        self.app = self.gateway.served.site(self.addresses)

    def routes(self) -> list[Route]:
        """Every address of both listeners, with each method that it takes."""
        machine: dict[str, set[str]] = {}
        for address in self.addresses:
            machine.setdefault(address.path.replace("{", "<").replace("}", ">"), set()).add(address.method)
        found = [
            Route(
                method,
                rule.rule,
                tuple(sorted(rule.arguments)),
                rule.rule in machine,
                served=method in machine.get(rule.rule, METHODS),
                need=declared(self.app)[str(rule.endpoint)],
            )
            for rule in self.app.url_map.iter_rules()
            for method in METHODS
            if method in (rule.methods or ())
        ]
        found += [
            Route(
                a.method, a.path.replace("{", "<").replace("}", ">"), tuple(re.findall(r"{(\w+)}", a.path)), True, True
            )
            for a in self.addresses
            if a.intake
        ]
        return found

    def person(self, name: str, side: Side) -> Person:
        """One of `PEOPLE`, of this company."""
        sets = self.companies.of_a if side.company is self.companies.a else self.companies.of_b
        company, by_stage = side.company, {ids.stage: ids for ids in sets}

        def member(stage: Stage, cookie: str = "session") -> Person:
            ids = by_stage[stage]
            return Person(name, replace(side, ids=ids), {cookie: f"{company.number}.{ids.secret}"})

        def bearer(text: str) -> Person:
            return Person(name, side, {}, {"clientId": text}, {"authorization": f"Bearer {text}", "x-api-key": text})

        kind, _, scope = name.partition(" with the scope ")
        if scope:
            return bearer(self.keys[company.number, scope])
        token, c = event_token(company), Context(company, sets[0], "")
        made: dict[str, Callable[[], Person]] = {
            "nobody": lambda: Person(name, side),
            "an admin": lambda: member(Stage.CLOSED),
            "an agent": lambda: member(Stage.OPEN),
            "an auditor": lambda: member(Stage.GONE),
            "a module's session": lambda: member(Stage.ODD, "module"),
            "tokens of the company": lambda: Person(
                name, side, {}, {"Token": token, "token": token, "apiKey": api_key(c), "clientId": client_id(c), "client_id": client_id(c)}
            ),
            "a token with every scope": lambda: bearer(self.keys[company.number, "token"]),
            "an operator": lambda: Person(name, side, {"session": f"-.{self.operators['']}"}, operator=True),
            "an operator who acts as the company": lambda: Person(
                name, side, {"session": f"-.{self.operators[company.number]}"}, operator=True
            ),
        }  # fmt: skip
        return made[kind]()

    def colleagues(self, person: Person) -> list[Side]:
        """The other sets of the same company: what an agent may not see of it."""
        sets = self.companies.of_a if person.side.company is self.companies.a else self.companies.of_b
        return [replace(person.side, ids=ids) for ids in sets if ids is not person.side.ids]

    async def ask(
        self, person: Person, route: Route, path: str, query: Mapping[str, str], form: Mapping[str, str] | None,
        *, csrf: str = CSRF, body: bytes = b"",
    ) -> Answer:  # fmt: skip
        """Sends a request the way its listener would, as a form or, to machine addresses, as JSON."""
        query = {**query, **(person.fields if route.machine else {})}
        headers = {"host": "localhost", "x-csrf-token": CSRF, **person.headers}
        if person.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in {**person.cookies, "form": CSRF}.items())
        if form is not None:
            if route.machine:
                headers["content-type"], body = "application/json", json.dumps({**form, **person.fields}).encode()
            else:
                headers["content-type"] = "application/x-www-form-urlencoded"
                body = urlencode({**form, "csrf": csrf}).encode()
        if route.intake:
            return await self._ask_intake(route, path, query, headers, body)
        return await self._ask_app(route, path, query, headers, body)

    async def _ask_intake(
        self, route: Route, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        found = Table([address for address in self.addresses if address.intake]).find(route.method, path)
        assert isinstance(found, tuple), route
        address, params = found
        request = Request(
            method=route.method, path=path, params=params, query=query, headers=headers, body=body, peer="203.0.113.7"
        )
        pieces = [body] if body else []

        async def pull() -> bytes:
            await trio.lowlevel.checkpoint()
            return pieces.pop() if pieces else b""

        response = await answer(address, request, pull)
        return Answer(response.status, dict(response.headers), response.body.decode("utf-8", "replace"))

    async def _ask_app(
        self, route: Route, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> Answer:
        raw = path.encode()
        headers = {**headers, "content-length": str(len(body))} if body else headers
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": route.method, "scheme": "http", "path": unquote(path), "raw_path": raw,
            "query_string": urlencode(query).encode(), "root_path": "", "client": ("203.0.113.7", 1),
            "server": ("localhost", 80), "headers": [(n.encode(), v.encode("latin-1")) for n, v in headers.items()],
        }  # fmt: skip
        started: dict[str, Any] = {}
        pieces: list[bytes] = []
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            await trio.sleep_forever()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            if message["type"] == "http.response.start":
                started.update(message)
                if b"event-stream" in dict(started["headers"]).get(b"content-type", b""):
                    scope_of.deadline = (
                        trio.current_time() + STREAM_S
                    )  # it has no end; what it begins with comes at once
            elif message.get("body"):
                pieces.append(message["body"])

        with trio.move_on_after(10) as scope_of:
            await self.app(scope, receive, send)  # type: ignore[arg-type]
        assert started, f"{route} did not answer"
        return Answer(
            started["status"], {n.decode(): v.decode("latin-1") for n, v in started["headers"]},
            b"".join(pieces).decode("utf-8", "replace"),
        )  # fmt: skip


@asynccontextmanager
async def open_walls(dsn: str, folder: Path, master: MasterKeys) -> AsyncIterator[Walls]:
    """The gateway's parts over a filled database; of its actors only those run that requests wait for."""
    companies = new_companies(master)
    settings = Settings(data_dir=folder, operator_token=Secret(OPERATOR), public_url="http://localhost:8000",
                        api_per_key=UNLIMITED, api_per_address=UNLIMITED)  # fmt: skip
    async with (
        open_session(dsn) as owner,
        open_database(as_login(dsn), size=4, engine_size=4) as db,
        trio.open_nursery() as nursery,
    ):
        await owner.run(fill_both, companies)
        await owner.run(_nobody_is_deleted)
        callers = {kind: adapter.client_id_field for kind, adapter in integrations().items() if adapter.client_id_field}
        hooks = {kind: adapter.hook_id_field for kind, adapter in integrations().items() if adapter.hook_id_field}
        cache = ConfigurationCache(db, master, tuple(integrations()), caller_fields=callers, hook_fields=hooks)
        gateway = Gateway(settings, db, cache, Nowhere(), FolderBlobs(folder / "recordings", trio.CapacityLimiter(4)))
        gateway.recording_files.clean_spool()
        await gateway.posts.spool.open()
        await cache.load()
        gateway.posts.usable.set()
        gateway.database.usable.set()
        services = gateway.services
        _live(gateway, companies)
        await _sounds(gateway, owner, companies)
        await db.engine(doubt_left_orders)  # as dialling does when it starts, for every company
        nursery.start_soon(gateway.posts.run, Slot("system/journal", "journal"))
        nursery.start_soon(services.records.run)
        nursery.start_soon(services.dialling.run, Slot("system/dialling", "dialling"))
        nursery.start_soon(gateway.sign_ins.run, Slot("system/sign-ins", "sign-ins"))
        addresses = gateway.served.machines()
        app = gateway.served.site(addresses)
        yield Walls(
            companies, gateway, app, addresses, owner, await _keys(owner, companies), await _operators(owner, companies)
        )
        nursery.cancel_scope.cancel()
        await gateway.posts.spool.aclose()


async def _keys(owner: Session, of: Companies) -> dict[tuple[TenantId, str], str]:
    """See `Walls.keys`."""
    made = {}
    for company in (of.a, of.b):
        tokens = Tokens(company.master, time.time)
        for name, scopes in (*((scope, (scope,)) for scope in SCOPES), ("token", SCOPES)):
            text = new_key().reveal()
            await owner.run(_insert_key, company.number, hash_of(text), f"{name} {company.mark}", scopes, hint_of(text))
            made[company.number, name] = text
            if name == "token":
                key = await owner.run(_select_key, hash_of(text))
                assert key is not None
                made[company.number, name] = tokens.new(key)
    return made


async def _insert_key(conn: OwnConnection, *values: Any) -> None:
    await conn.execute(
        "INSERT INTO api_keys (tenant_id, key_hash, name, scopes, hint) VALUES ($1, $2, $3, $4, $5)", *values
    )


async def _select_key(conn: OwnConnection, key_hash: bytes) -> ApiKey | None:
    return await select_key_by_hash(conn, key_hash)  # type: ignore[arg-type]


async def _operators(owner: Session, of: Companies) -> dict[str, str]:
    """See `Walls.operators`."""
    made = {}
    for number in ("", of.a.number, of.b.number):
        made[number] = secrets.token_urlsafe(32)
        await owner.run(_insert_operator, f"operator{len(made)}@walls.example", made[number], number or None)
    return made


async def _insert_operator(conn: OwnConnection, email: str, secret: str, acting_as: str | None) -> None:
    await conn.execute("INSERT INTO users (email, password_hash, role) VALUES ($1, '', 'operator')", email)
    await conn.execute(
        "INSERT INTO sessions (token_hash, email, csrf, acting_as, acting_reason, acting_until) "
        "VALUES ($1, $2, $3, $4, 'a reason', now() + interval '1 hour')",
        hashlib.sha256(secret.encode()).digest(), email, CSRF, acting_as,
    )  # fmt: skip


async def _nobody_is_deleted(conn: OwnConnection) -> None:
    """A company that is being deleted exists for nobody."""
    await conn.execute("DELETE FROM tenant_deletions")


async def _sounds(gateway: Gateway, owner: Session, of: Companies) -> None:
    """Recordings that can be heard, each with its company's mark in it, for every row that has one."""
    for company, sets in ((of.a, of.of_a), (of.b, (*of.of_b, *of.of_a))):
        for ids in sets:
            if ids.stage not in (Stage.CLOSED, Stage.OPEN):
                continue
            address = ids.name("address")
            place = f"{company.number}/{hashlib.sha256(ids.tag.encode()).hexdigest()}-{ids.tag[:8]}{ids.tag[:8]}"
            async with await gateway.recording_files.new_file() as incoming:
                await incoming.write(wav(0.1) + company.mark.encode())
                sealed = await incoming.finish("a.wav")
                await gateway.recording_files.blobs.put(sealed, place)
            secret = Secret(base64.b64encode(sealed.key).decode())
            key = company.sealer.seal(secret, table="recording_blobs", column="file_key", row=address)
            await owner.run(_set_blob, company.number, address, place, key, sealed.size)


async def _set_blob(conn: OwnConnection, *values: Any) -> None:
    await conn.execute(
        "UPDATE recording_blobs SET object = $3, file_key = $4, size = $5 WHERE tenant_id = $1 AND address = $2",
        *values,
    )


def _nothing() -> None:
    """What a restart of an actor does here."""


def _live(gateway: Gateway, of: Companies) -> None:
    """The actors of both as the directory has them: in trouble, with details that are theirs alone."""
    for company, sets in ((of.a, of.of_a), (of.b, of.of_b)):
        paths = [f"tenant/{company.number}"]
        paths += [f"tenant/{company.number}/pbx/{ids.pbx}" for ids in sets]
        paths += [f"tenant/{company.number}/integration/{ids.key}" for ids in sets]
        for path in paths:
            slot = Slot(path, f"title {company.mark}")
            slot.restart = _nothing
            slot.report(State.ATTENTION, "bad_credentials", f"detail {company.mark}")
            gateway.services.directory.add(slot)
