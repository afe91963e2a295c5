"""Integrations, calls, deliveries and the audit by the API: what the pages show and do, for one company alone."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gateway.domain.errors import log_code_of
from gateway.domain.events import CallMerged, Direction, Result
from gateway.domain.ids import CallId, IntegrationKey
from gateway.domain.people import Role
from gateway.domain.secret import Secret
from gateway.domain.statuses import Known
from gateway.store import outbox
from gateway.store.integration_states import select_known
from tests.web.pages.test_deliveries import FAILED, finish, keep, row
from tests.web.rest.conftest import Answered, Api
from tests.web.world import JUNE, MAPLE, SECRET_KEY, ended, play, ringing


async def every(api: Api, path: str, **query: Any) -> list[Any]:
    """All items of a list, three at a time."""
    found: list[Any] = []
    cursor: dict[str, str] = {}
    while True:
        got = await api.ask("GET", path, query={**query, **cursor, "limit": 3})
        assert got.status == 200, got.json
        assert len(got.json["items"]) <= 3
        found += got.json["items"]
        if got.json["next"] is None:
            return found
        cursor = {"cursor": got.json["next"]}


def paths(answer: Answered) -> set[str]:
    assert answer.status == 422, answer.json
    return {one["path"] for one in answer.json["errors"]}


# Integrations


async def known(api: Api) -> Mapping[IntegrationKey, Known]:
    """What is stored of how the company's integrations do."""
    return await api.world.db.tenant(JUNE, select_known, JUNE)


async def test_connected_integrations_with_status_and_masked_settings(api: Api) -> None:
    (item,) = (await api.ask("GET", "/integrations")).json["items"]
    assert item.keys() == {
        "key", "provider", "type", "name", "enabled", "settings", "status", "code", "message", "what_to_do", "since", "next_try",
        "last_sync_at",
    }  # fmt: skip
    assert (item["key"], item["type"], item["enabled"], item["settings"]["api_key"]) == (
        "retailcrm",
        "crm",
        True,
        "***",
    )
    assert (item["status"], item["code"]) == ("active", "not_exist_codes")
    assert SECRET_KEY not in str(item)
    theirs = (await api.ask("GET", "/integrations", x_api_key=await api.new_key("read", of=MAPLE))).json["items"][0]
    assert (theirs["status"], theirs["code"]) == ("error", "bad_credentials")
    assert theirs["message"]
    assert theirs["next_try"]
    russian = await api.ask("GET", "/integrations/retailcrm", accept_language="ru")
    english = await api.ask("GET", "/integrations/retailcrm", accept_language="en")
    assert russian.json["message"] != english.json["message"]


async def test_connecting_changing_and_disconnecting(api: Api) -> None:
    token = "700100201:AAEhBP0av28abcdefghijklmnopqrstuvwx"
    settings = {"bot_token": token, "notify_chats": [-1001]}
    made = await api.ask("PUT", "/integrations/telegram:support", {"settings": settings, "name": "Support"})
    assert (made.status, made.json["name"], made.json["settings"]["bot_token"]) == (200, "Support", "***")
    assert (JUNE, "telegram:support") in api.world.tested
    # A masked secret sent back keeps the stored one, and what is not named stays.
    changed = await api.ask(
        "PUT", "/integrations/telegram:support", {"settings": {"bot_token": "***", "notify_chats": [-1002]}}
    )
    assert (changed.status, changed.json["settings"]["notify_chats"], changed.json["name"]) == (200, [-1002], "Support")
    tenant = api.world.cache.tenant(JUNE)
    assert tenant is not None
    assert tenant.integrations[IntegrationKey("telegram:support")].settings["bot_token"] == Secret(token)
    assert made.json["status"] == "pending", "its actor does not run yet"
    assert (await known(api))[IntegrationKey("telegram:support")].worked_at is not None
    off = await api.ask("PUT", "/integrations/telegram:support", {"enabled": False})
    assert (off.json["enabled"], off.json["status"]) == (False, "inactive")
    assert len(await every(api, "/integrations")) == 2
    assert (await api.ask("DELETE", "/integrations/telegram:support")).status == 204
    assert (await api.ask("GET", "/integrations/telegram:support")).status == 404
    assert (await api.ask("DELETE", "/integrations/telegram:support")).status == 404
    trail = await every(api, "/audit")
    assert [one["action"] for one in trail if one["object"] == "telegram:support"][:1] == ["integration.disconnected"]
    assert token not in str(trail)


async def test_what_the_settings_class_refuses_is_named_with_its_path(api: Api) -> None:
    wrong = await api.ask(
        "PUT", "/integrations/telegram", {"settings": {"bot_token": "short", "nothing": 1}, "enable": True}
    )
    assert paths(wrong) == {"enable"}
    wrong = await api.ask("PUT", "/integrations/telegram", {"settings": {"bot_token": "short", "nothing": 1}})
    assert paths(wrong) >= {"settings.bot_token", "settings.nothing"}
    assert (await api.ask("GET", "/integrations/telegram")).status == 404
    for key in ("nobody", "x y", "telegram:"):
        assert (await api.ask("PUT", f"/integrations/{key}", {"settings": {}})).status == 404


async def test_a_stored_secret_is_never_sent_to_another_address(api: Api) -> None:
    moved = await api.ask(
        "PUT", "/integrations/retailcrm", {"settings": {"domain": "https://evil.example", "api_key": "***"}}
    )
    assert paths(moved) == {"settings.api_key"}
    tried = await api.ask(
        "POST", "/integrations/test", {"provider": "retailcrm", "settings": {"domain": "https://evil.example"}}
    )
    assert "settings.api_key" in paths(tried)
    assert api.world.tested == []


async def test_a_failed_test_saves_nothing_unless_it_is_not_wanted(api: Api) -> None:
    settings = {"domain": "https://nowhere.example", "api_key": "another"}
    refused = await api.ask("PUT", "/integrations/retailcrm", {"settings": settings})
    assert (refused.status, refused.json["code"]) == (422, "CONNECTION_FAILED")
    assert (await api.ask("GET", "/integrations/retailcrm")).json["settings"]["domain"] != settings["domain"]
    off = await api.ask("PUT", "/integrations/retailcrm:off", {"settings": settings, "enabled": False})
    assert (off.status, off.json["status"]) == (200, "inactive")
    saved = await api.ask("PUT", "/integrations/retailcrm:b", {"settings": settings}, query={"test": "false"})
    assert (saved.status, saved.json["status"]) == (200, "pending")
    stored = await known(api)
    assert [stored[IntegrationKey(f"retailcrm:{one}")].worked_at for one in ("off", "b")] == [None, None]
    assert (await api.ask("PUT", "/integrations/retailcrm:off", {"enabled": True})).status == 422


async def test_tests_before_and_after_saving(api: Api) -> None:
    good = await api.ask(
        "POST",
        "/integrations/test",
        {"provider": "telegram", "settings": {"bot_token": "700100201:AAEhBP0av28abcdefghijklmnopqrstuvwx"}},
    )
    assert (good.json["success"], good.json["error"]) == (True, None)
    before = (await known(api))[IntegrationKey("retailcrm")].tested_at
    bad = await api.ask(
        "POST",
        "/integrations/test",
        {"provider": "retailcrm", "settings": {"domain": "https://nowhere.example", "api_key": "k"}},
    )
    assert bad.json["success"] is False
    assert "nowhere.example" in bad.json["error"]
    assert paths(await api.ask("POST", "/integrations/test", {"provider": "nobody"})) == {"provider"}
    stored = await api.ask("POST", "/integrations/retailcrm/test")
    assert stored.json["success"] is True
    assert api.world.tested[-1] == (JUNE, "retailcrm")
    after = (await known(api))[IntegrationKey("retailcrm")].tested_at
    assert after is not None
    assert after != before


async def test_attempts(api: Api) -> None:
    await play(api.world)
    for status, error in (("done", None), ("retry", "no answer"), ("done", None), ("attention", "403")):
        outcome = outbox.Outcome(
            state="pending" if status != "done" else "done",
            status=status,
            request="r",
            response="s",
            error=error,
            code=log_code_of(status),
        )
        await api.world.deliver(JUNE, "retailcrm", outcome)
    found = await every(api, "/integrations/retailcrm/logs")
    assert [(one["status"], one["outcome"], one["message"]) for one in found[:4]] == [
        ("error", "attention", "403"), ("success", "done", None), ("error", "retry", "no answer"), ("success", "done", None),
    ]  # fmt: skip
    assert [one["code"] for one in found[:3]] == ["CONFIG_INVALID", None, "CONNECTION_FAILED"]
    assert found[0]["subject"]["kind"] == "call"
    assert (await api.ask("GET", "/integrations/telegram/logs")).status == 404


# Calls


async def test_calls_newest_first_page_by_page_and_one_with_its_events(api: Api) -> None:
    played = await play(api.world)
    found = await every(api, "/calls")
    assert [one["id"] for one in found] == [
        call.call_id for call in sorted(played, key=lambda c: c.started_at, reverse=True)
    ]
    one = (await api.ask("GET", f"/calls/{played[1].call_id}")).json
    assert [event["event"] for event in one["events"]] == ["call_ringing", "call_answered", "call_ended"]
    assert {delivery["integration"] for delivery in one["deliveries"]} == {"retailcrm"}
    assert (await api.ask("GET", "/calls/none")).status == 404
    assert (
        await api.ask("GET", f"/calls/{played[1].call_id}", x_api_key=await api.new_key("read", of=MAPLE))
    ).status == 404


async def test_an_agent_sees_joined_calls_that_are_theirs(api: Api) -> None:
    world, now, ids = api.world, datetime.now(UTC), list[CallId]()
    main = ringing(world.call_id(), now, "+375296000001", "100", ["150"])
    await world.keep(JUNE, [main, ended(main, 30, Result.ANSWERED, "150")])
    for extension in ("150", "151"):
        part = ringing(world.call_id(), now, extension, "152", ["152"], direction=Direction.INTERNAL)
        await world.keep(
            JUNE, [part, CallMerged(call_id=part.call_id, at=now + timedelta(seconds=5), into=main.call_id)]
        )
        ids.append(part.call_id)
    everything = (await api.ask("GET", f"/calls/{main.call_id}")).json
    assert sorted(everything["joined"]) == sorted(ids)
    cookie = await world.person(JUNE, "agent@0367.example", Role.AGENT, ["150"])
    theirs = (await api.ask("GET", f"/calls/{main.call_id}", cookie=f"session={cookie}")).json
    assert theirs["joined"] == [ids[0]]


@pytest.mark.parametrize(
    ("query", "which"),
    [
        ({"result": "busy"}, [3]), ({"direction": "internal"}, [4]), ({"uncertain": "true"}, [6]),
        ({"number": "+375291002003"}, [2]), ({"number": "100200"}, [0, 1, 2, 5, 6, 7, 8, 9]), ({"extension": "152"}, [5, 7]),
        ({"direction": "outgoing", "result": "no_answer"}, [2]),
    ],
)  # fmt: skip
async def test_filters_of_calls(api: Api, query: dict[str, str], which: list[int]) -> None:
    played = await play(api.world)
    found = {one["id"] for one in await every(api, "/calls", **query)}
    wanted = {played[place].call_id for place in which if place < len(played)}
    ended_too = {call.call_id for call in played if call.open}
    assert found - ended_too == wanted - ended_too


async def test_calls_between_moments(api: Api) -> None:
    played = await play(api.world)
    since, until = played[1].started_at, played[3].started_at
    found = await every(api, "/calls", **{"from": since.isoformat(), "to": until.isoformat()})
    assert {one["id"] for one in found} == {played[1].call_id, played[2].call_id}
    wrong = await api.ask(
        "GET", "/calls", query={"from": "yesterday", "result": "good", "limit": "201", "order": "up", "extension": "a"}
    )
    assert paths(wrong) == {"from", "result", "limit", "order", "extension"}


async def test_click_to_call(api: Api) -> None:
    order = {"extension": "150", "phone": "+375296254070"}
    caller = await api.new_key("call")
    placed = await api.ask("POST", "/calls", order, x_api_key=caller)
    assert (placed.status, placed.json) == (200, {"status": "accepted", "id": "gw-1"})
    assert api.world.placed == [(JUNE, "150", "+375296254070", caller[:16])]
    refused = await api.ask("POST", "/calls", {**order, "phone": "+74951234567"})
    assert (refused.status, refused.json["code"], refused.json["reason"]) == (403, "FORBIDDEN", "not_allowed")
    assert (await api.ask("POST", "/calls", order, x_api_key=await api.new_key("read", "write"))).status == 403
    assert (await api.ask("GET", "/calls", x_api_key=caller)).status == 403


# Deliveries


async def test_deliveries_and_retries(api: Api) -> None:
    await keep(api.world, *(row(f"{number}:upload") for number in range(4)))
    await finish(api.world, FAILED)
    found = await every(api, "/deliveries", state="failed")
    assert len(found) == 4
    assert all(one["may_be_retried"] and one["error"] == FAILED.error for one in found)
    assert "canary-secret" not in str(found)
    one = await api.ask("POST", f"/deliveries/{found[0]['id']}/retry")
    assert (one.status, one.json["retried"]) == (200, 1)
    assert api.rung == [(JUNE, "retailcrm")]
    assert (await api.ask("POST", f"/deliveries/{found[0]['id']}/retry")).status == 409
    assert (await api.ask("POST", "/deliveries/999999/retry")).status == 404
    assert (await api.ask("POST", "/deliveries/x/retry")).status == 404
    theirs = await api.new_key("read", "write", of=MAPLE)
    assert (await api.ask("POST", f"/deliveries/{found[1]['id']}/retry", x_api_key=theirs)).status == 404
    assert (await api.ask("POST", "/deliveries/retry", {"filter": {}}, x_api_key=theirs)).json["retried"] == 0
    many = await api.ask("POST", "/deliveries/retry", {"filter": {"integration": "retailcrm"}})
    assert many.json["retried"] == len(found) - 1
    assert paths(await api.ask("POST", "/deliveries/retry", {"filter": {"state": "done", "x": 1}})) == {
        "filter.state",
        "filter.x",
    }
    assert paths(await api.ask("POST", "/deliveries/retry", {})) == {"filter"}
    assert [one["action"] for one in await every(api, "/audit")][:2] == ["delivery.replayed"] * 2


# Cursors


async def test_a_cursor_leads_on_in_its_own_list_of_its_own_company_alone(api: Api) -> None:
    await play(api.world)
    await play(api.world, MAPLE)
    cursor = (await api.ask("GET", "/calls", query={"limit": 2})).json["next"]
    theirs = await api.new_key("read", of=MAPLE)
    assert paths(await api.ask("GET", "/calls", query={"cursor": cursor}, x_api_key=theirs)) == {"cursor"}
    assert paths(await api.ask("GET", "/deliveries", query={"cursor": cursor})) == {"cursor"}
    for mangled in (cursor[:-2], cursor[1:], cursor + "A", cursor.swapcase(), "x", "", "é", "a" * 300):
        assert paths(await api.ask("GET", "/calls", query={"cursor": mangled})) == {"cursor"}, mangled
    assert (await api.ask("GET", "/calls", query={"cursor": cursor})).status == 200
