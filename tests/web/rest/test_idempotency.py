"""A request with an Idempotency-Key is done once: again, at the same time, after a restart, with another body, by another."""

from datetime import timedelta
from typing import Any

import pytest
import trio

from gateway.domain.ids import TenantId
from gateway.store.call_orders import Admitted
from gateway.store.postgres.pool import Connection, Database
from gateway.web.rest import idempotency
from gateway.web.rest.idempotency import Idempotency
from tests.web.rest.conftest import Api
from tests.web.world import MAPLE

BODY = {"name": "sync", "scopes": ["read"]}
ORDER = {"extension": "150", "phone": "+375296254070"}


async def run(conn: Connection, statement: str) -> list[Any]:
    return list(await conn.fetch(statement))


async def count(db: Database) -> int:
    return len(await db.engine(run, "SELECT FROM api_keys WHERE name = 'sync'"))


async def test_the_same_key_and_body_have_the_same_answer_also_after_a_restart(api: Api) -> None:
    first = await api.ask("POST", "/keys", BODY, idempotency_key="a")
    assert first.status == 201
    restarted = api.changed(idempotency=Idempotency(api.world.db, api.world.cache.sealer))
    for again in (api, restarted):
        got = await again.ask("POST", "/keys", {"scopes": ["read"], "name": "sync"}, idempotency_key="a")
        assert (got.status, got.json) == (201, first.json)
        assert got.headers["Idempotency-Replayed"] == "true"
    assert await count(api.world.db) == 1
    (row,) = await api.world.db.engine(run, "SELECT answer FROM idempotent_requests")
    assert first.json["key"] not in row["answer"], "sealed"
    assert row["answer"].startswith("enc:v1:")


async def test_another_body_or_query_is_a_conflict_and_another_key_another_request(api: Api) -> None:
    await api.ask("POST", "/keys", BODY, idempotency_key="a")
    other = await api.ask("POST", "/keys", {**BODY, "scopes": ["write"]}, idempotency_key="a")
    assert (other.status, other.json["code"]) == (409, "CONFLICT")
    assert (await api.ask("POST", "/keys", BODY, idempotency_key="b")).status == 201
    assert (await api.ask("POST", "/keys", BODY)).status == 201
    assert await count(api.world.db) == 3


async def test_a_key_belongs_to_its_caller_and_its_address(api: Api) -> None:
    mine = await api.ask("POST", "/keys", BODY, idempotency_key="a")
    for of in (TenantId("0367"), MAPLE):
        theirs = await api.ask("POST", "/keys", BODY, idempotency_key="a", x_api_key=await api.new_key(of=of))
        assert theirs.status == 201
        assert theirs.json["id"] != mine.json["id"]
    # A token is the key it was made from.
    token = (await api.ask("POST", "/token")).json["access_token"]
    same = await api.ask("POST", "/keys", BODY, idempotency_key="a", x_api_key=token)
    assert same.json == mine.json


async def test_refusals_are_not_kept(api: Api) -> None:
    assert (await api.ask("POST", "/calls", {**ORDER, "phone": "+74951234567"}, idempotency_key="a")).status == 403
    assert (await api.ask("POST", "/calls", {**ORDER, "phone": ""}, idempotency_key="a")).status == 422
    assert await api.world.db.engine(run, "SELECT FROM idempotent_requests") == []
    assert (await api.ask("POST", "/calls", ORDER, idempotency_key="a")).status == 200


async def test_concurrent_repeats_are_done_once(api: Api) -> None:
    placed, going = 0, trio.Event()

    async def place(tenant: object, **what: str) -> Admitted:
        nonlocal placed
        placed += 1
        await going.wait()
        return Admitted("gw-7")

    slow, answers = api.changed(place=place), list[Any]()

    async def ask() -> None:
        answers.append(await slow.ask("POST", "/calls", ORDER, idempotency_key="a"))

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(ask)
        while not placed:
            await trio.sleep(0.01)
        going.set()
    assert placed == 1
    assert [(one.status, one.json["id"]) for one in answers] == [(200, "gw-7")] * 8


async def test_a_repeat_that_waits_too_long_is_to_come_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "WAIT_S", 0.05)
    monkeypatch.setattr(idempotency, "POLL_S", 0.01)
    begun = trio.Event()

    async def place(tenant: object, **what: str) -> Admitted:
        begun.set()
        await trio.sleep_forever()
        raise AssertionError

    slow = api.changed(place=place)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: slow.ask("POST", "/calls", ORDER, idempotency_key="a"))
        await begun.wait()
        again = await slow.ask("POST", "/calls", ORDER, idempotency_key="a")
        assert (again.status, again.json["retryable"], again.headers["Retry-After"]) == (409, True, "2")
        nursery.cancel_scope.cancel()
    # Given up by its client: it may be sent again.
    assert (await api.ask("POST", "/calls", ORDER, idempotency_key="a")).status == 200


async def test_what_was_stopped_midway(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a kill leaves it: claimed, and nothing more. A key is made anew, for making and storing are one transaction; whether a
    call was placed nobody knows."""
    monkeypatch.setattr(idempotency, "BUSY_S", -1.0)

    async def killed(*_: object, **__: object) -> Any:
        raise SystemExit

    monkeypatch.setattr(Idempotency, "_perform", killed)
    for path, body in (("/keys", BODY), ("/calls", ORDER)):
        with pytest.raises((SystemExit, BaseExceptionGroup)):
            await api.ask("POST", path, body, idempotency_key="a")
    monkeypatch.undo()
    assert (await api.ask("POST", "/keys", BODY, idempotency_key="a")).status == 201
    unknown = await api.ask("POST", "/calls", ORDER, idempotency_key="a")
    assert (unknown.status, unknown.json["retryable"]) == (409, False)
    assert api.world.placed == []


async def test_a_day_later_it_is_a_new_request(api: Api) -> None:
    await api.ask("POST", "/keys", BODY, idempotency_key="a")
    await api.world.db.engine(
        run, f"UPDATE idempotent_requests SET created_at = now() - interval '{timedelta(hours=25)}'"
    )
    assert (await api.ask("POST", "/keys", {**BODY, "scopes": ["write"]}, idempotency_key="a")).status == 201


@pytest.mark.parametrize("key", ["", "x" * 201, "é", "a\tb"])
async def test_what_is_no_key(api: Api, key: str) -> None:
    wrong = await api.ask("POST", "/keys", BODY, idempotency_key=key)
    assert [one["path"] for one in wrong.json["errors"]] == ["Idempotency-Key"]
