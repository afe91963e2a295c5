"""The document is true: whatever is sent to an address for machines, of `/api/v1` or an older one, the answer is one that it lists.

Requests are made from the document: what its schemas allow, and what they do not. One example is one request; each address gets
as many.
"""

import json
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from adapters.registry import integrations
from gateway.store.embedded.embedded import as_login
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.postgres.pool import open_database
from gateway.web.api.crm_callbacks import callback_addresses
from gateway.web.api.extensions import ModuleCallers, module_addresses
from gateway.web.api.hooks import hook_addresses
from gateway.web.api.openapi import openapi
from gateway.web.api.uploads import upload_addresses
from gateway.web.http import guesses
from gateway.web.http.routes import Address, Request, Response, answer
from gateway.web.rest.table import api_addresses
from tests.store.database import Postgres
from tests.web.api.held_gateway import TOKEN, Gateway
from tests.web.api.test_crm_callbacks import CLIENT_ID
from tests.web.api.test_crm_callbacks import Here as Callbacks
from tests.web.api.test_hooks import HOOK, PIGEON
from tests.web.api.test_hooks import Here as Hooks
from tests.web.rest.conftest import Api, make_api
from tests.web.world import CSRF, JUNE, make_world, play

Draw = Callable[[st.SearchStrategy[Any]], Any]
EACH, MANY_EACH = 6, 80
"""Requests to each address: in `make test`, and with the rest."""
MADE: Mapping[str, dict[str, Any]] = {
    "/prompts": {"content": "# Role\nx\n# Rules\ny", "name": "Main"}, "/catalog": {"name": "Tea", "price": 1},
    "/users": {"email": "", "role": "agent"}, "/keys": {"name": "k", "scopes": ["read"]},
}  # fmt: skip
"""What is there before the first request."""
SECRETS = {"Token": TOKEN, "token": TOKEN, "clientId": CLIENT_ID}
ODD = st.sampled_from(
    [
        "",
        "0",
        "-1",
        "x",
        "true",
        "'",
        "é\0",
        "2026-11-21T00:00:00Z",
        "9" * 30,
        "[]",
        "%00",
        "retailcrm",
        "telegram:a",
        "pigeon",
        "0367",
        HOOK,
        TOKEN,
        CLIENT_ID,
        "1763690003.3",
    ]
)
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


def resolved(schema: Any, document: Mapping[str, Any], within: tuple[str, ...] = ()) -> Any:
    """A schema with its references in place; one that is `within` itself allows anything the second time. Formats are left out:
    what makes texts of them wants more packages."""
    if isinstance(schema, list):
        return [resolved(one, document, within) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return {} if name in within else resolved(document["components"]["schemas"][name], document, (*within, name))
    return {
        name: resolved(value, document, within)
        for name, value in schema.items()
        if name not in ("examples", "example", "format", "deprecated")
    }


def valid(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """What a schema allows, of the kinds that our models make."""
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    if "anyOf" in schema:
        return st.one_of([valid(one) for one in schema["anyOf"]])
    match schema.get("type"):
        case "object" if "properties" in schema:
            fields = {name: valid(inner) for name, inner in schema["properties"].items()}
            needed = {name: fields.pop(name) for name in schema.get("required", ())}
            return st.fixed_dictionaries(needed, optional=fields)
        case "object":
            return st.dictionaries(
                st.sampled_from(["bot_token", "domain", "api_key", "x"]) | st.text(max_size=5), JSONS, max_size=3
            )
        case "array":
            least = schema.get("minItems", 0)
            return st.lists(valid(schema["items"]), min_size=least, max_size=least + 2)
        case "string" if "pattern" in schema:
            return st.from_regex(schema["pattern"], fullmatch=True)
        case "string":
            least = schema.get("minLength", 0)
            return st.text(min_size=least, max_size=min(schema.get("maxLength", 20), least + 20))
        case "integer":
            return st.integers(schema.get("minimum"), schema.get("maximum"))
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case _:
            return JSONS


def drawn_text(draw: Draw, schema: Mapping[str, Any]) -> str:
    value = draw(valid(schema) | ODD) if draw(st.booleans()) else draw(ODD)
    return value if isinstance(value, str) else json.dumps(value)


class Asked:
    """What was sent and answered, over all examples."""

    def __init__(self) -> None:
        self.requests = 0
        self.statuses: Counter[int] = Counter()
        self.wrong: list[str] = []

    def check(self, name: str, operation: Mapping[str, Any], got: Response, validators: Mapping[str, Any]) -> None:
        self.requests += 1
        self.statuses[got.status] += 1
        listed = operation["responses"].get(str(got.status))
        if listed is None:
            self.wrong.append(f"{name}: {got.status} is not listed: {got.body[:200]!r}")
            return
        kinds = listed.get("content", {})
        kind = got.content_type.partition(";")[0]
        if not kinds and got.body:
            self.wrong.append(f"{name}: {got.status} has a body")
        elif kinds and got.body and kind not in kinds and "*/*" not in kinds:
            self.wrong.append(f"{name}: {got.status} is {kind}")
        elif "json" in kind and f"{name} {got.status}" in validators:
            for error in validators[f"{name} {got.status}"].iter_errors(json.loads(got.body)):
                self.wrong.append(f"{name}: {got.status}: {error.message[:200]}")


def body_of(draw: Draw, operation: Mapping[str, Any], document: Mapping[str, Any]) -> bytes:
    if "requestBody" not in operation:
        return b""
    how = draw(st.sampled_from(["good", "good", "good", "example", "any", "broken", "none"]))
    content = operation["requestBody"]["content"]["application/json"]
    if how == "good":
        body = draw(valid(resolved(content["schema"], document)))
        if isinstance(body, dict) and draw(st.booleans()):
            body |= {name: secret for name, secret in SECRETS.items() if name in body}
        return json.dumps(body).encode()
    if how == "example":
        return json.dumps(content.get("example", {})).encode()
    return json.dumps(draw(JSONS)).encode() if how == "any" else b"" if how == "none" else draw(st.binary(max_size=30))


def drawn(address: Address, operation: Mapping[str, Any], document: Mapping[str, Any], draw: Draw,
          credentials: list[dict[str, str]], known: list[str]) -> Request:  # fmt: skip
    """A request to an address."""
    params, query, headers = {}, {}, dict(draw(st.sampled_from(credentials)))
    for parameter in operation.get("parameters", ()):
        if "$ref" in parameter:
            parameter = document["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
        where, name = parameter["in"], parameter["name"]
        if where == "path":
            params[name] = draw(st.sampled_from(known) | ODD.filter(lambda text: bool(text) and "/" not in text))
        elif draw(st.integers(0, 2)) == 0:
            text = drawn_text(draw, resolved(parameter["schema"], document))
            if where == "query":
                query[name] = text
            else:
                headers[name.lower()] = "".join(c for c in text if c.isprintable() and c.isascii())
    path = address.path
    for name, value in params.items():
        path = path.replace(f"{{{name}}}", value)
    return Request(
        method=address.method, path=path, params=params, query=query, headers=headers, body=body_of(draw, operation, document),
        peer="127.0.0.1",
    )  # fmt: skip


class Served:
    """The API in a thread with a Trio loop of its own: the examples are drawn outside of it."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._ready = dsn, threading.Event()
        self.addresses: list[Address] = []
        self.credentials: list[dict[str, str]] = []
        self.known: list[str] = []
        """Ids of what is there."""
        self._thread = threading.Thread(target=lambda: trio.run(self._serve), daemon=True)

    def __enter__(self) -> "Served":
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        trio.from_thread.run_sync(self._done.set, trio_token=self._token)
        self._thread.join()

    async def _serve(self) -> None:
        self._token, self._done = trio.lowlevel.current_trio_token(), trio.Event()
        async with open_database(as_login(self._dsn), size=4, engine_size=4) as db:
            api = make_api(await make_world(db))
            await play(api.world)
            self.credentials = [
                *[{"x-api-key": await api.new_key()}] * 6, {"x-api-key": await api.new_key("bot")},
                {"authorization": "Bearer nobody"}, {},
                {"cookie": f"session={await api.world.session(JUNE)}", "x-csrf-token": CSRF},
                {"cookie": f"session={await api.world.session(None)}"},
            ]  # fmt: skip
            api.key = self.credentials[0]["x-api-key"]
            for path, body in MADE.items():
                for _ in range(2):
                    made = await api.ask(
                        "POST",
                        path,
                        {**body, **({"email": f"{len(self.known)}@june.example"} if "email" in body else {})},
                    )
                    self.known.append(made.json["id"])
            with tempfile.TemporaryDirectory() as folder:
                blobs = FolderBlobs(Path(folder) / "recordings", trio.CapacityLimiter(4))
                files = RecordingFiles(db, blobs, Path(folder) / "in", api.world.cache.sealer)
                files.clean_spool()
                self.addresses = self._table(api, files)
                self._ready.set()
                await self._done.wait()

    def _table(self, api: Api, files: RecordingFiles) -> list[Address]:
        """The whole table of addresses, as both listeners have it."""
        gateway, callbacks, hooks = Gateway(), Callbacks(), Hooks()
        others = (
            *callback_addresses(callbacks.deps(), integrations()),
            *hook_addresses(hooks.deps(), {PIGEON.kind: PIGEON}),
            *module_addresses(ModuleCallers(api.world.deps.modules, secure_cookies=False, probe=api.world.deps.probe)),
            *upload_addresses(files, lambda token: api.world.cache.tenant(JUNE) if token == TOKEN else None),
            *api_addresses(api.deps),
        )
        return [one for one in gateway.addresses(*others, operator_open=True) if not one.hidden]

    def ask(self, address: Address, request: Request) -> Response:
        return trio.from_thread.run(self._ask, address, request, trio_token=self._token)

    @staticmethod
    async def _ask(address: Address, request: Request) -> Response:
        pieces = [request.body] if request.body else []

        async def pull() -> bytes:
            await trio.lowlevel.checkpoint()
            return pieces.pop() if pieces else b""

        with trio.fail_after(15):
            got = await answer(address, request, pull)
        if got.events is not None:
            await got.events.aclose()  # type: ignore[attr-defined]
        return got


def ask_many(
    api: Served, address: Address, operation: Mapping[str, Any], document: Mapping[str, Any], asked: Asked,
    validators: Mapping[str, Any], each: int,
) -> None:  # fmt: skip
    """So many requests to one address."""

    name = f"{address.method} {address.path}"

    @seed(crc32(name.encode()))
    @settings(
        max_examples=each, deadline=None, database=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def examples(data: st.DataObject) -> None:
        request = drawn(address, operation, document, data.draw, api.credentials, api.known)
        asked.check(name, operation, api.ask(address, request), validators)

    examples()


@pytest.mark.slow
@pytest.mark.parametrize("each", [EACH, pytest.param(MANY_EACH, marks=[pytest.mark.long, pytest.mark.timeout(900)])])
def test_no_answer_that_the_document_does_not_list(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, each: int
) -> None:
    monkeypatch.setattr(guesses, "BURST", 1_000_000)  # wrong credentials are answered at once
    asked, dsn = Asked(), postgres.new_database()
    with Served(dsn) as api:
        document = openapi(api.addresses)
        validators = {
            f"{method.upper()} {path} {status}": Draft202012Validator(resolved(content["schema"], document))
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
            for status, listed in operation["responses"].items()
            for kind, content in listed.get("content", {}).items()
            if "json" in kind
        }

        for address in api.addresses:
            operation = document["paths"][address.path][address.method.lower()]
            ask_many(api, address, operation, document, asked, validators, each)
    postgres.drop_database(dsn)
    print(
        f"{asked.requests} requests to {len(api.addresses)} addresses, {dict(sorted(asked.statuses.items()))}, "
        f"{len(asked.wrong)} answers not listed"
    )
    assert sorted(set(asked.wrong)) == []
    assert asked.statuses[500] == 0
    assert asked.requests >= 0.8 * each * len(api.addresses), "some take less than so many different requests"
    assert {200, 201, 401, 403, 404, 422} <= asked.statuses.keys(), "the requests do not reach what they are to try"
