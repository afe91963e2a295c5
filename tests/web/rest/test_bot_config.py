"""`GET /api/v1/bot-config`: who gets it, and how it is told that nothing has changed."""

import pytest
import trio

from gateway.domain.ids import TenantId
from gateway.web.callers.key_changes import revoke_keys
from gateway.web.rest.bot_config import BotConfig
from tests.web.rest.conftest import Answered, Api
from tests.web.world import CSRF, JUNE

WHERE = "/bot-config"


async def get(api: Api, key: str, *tags: str) -> Answered:
    headers = {"if_none_match": ", ".join(tags)} if tags else {}
    return await api.ask("GET", WHERE, authorization=f"Bearer {key}", query={}, **headers)


async def test_a_key_in_a_header_opens_it(api: Api) -> None:
    key = await api.new_key("bot")
    token = (await api.ask("POST", "/token", x_api_key=key)).json["access_token"]
    for headers in (
        {"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"}, {"x_api_key": key},
        {"authorization": f"Bearer {token}"},
    ):  # fmt: skip
        got = await api.ask("GET", WHERE, None, query={}, **headers)
        assert (got.status, got.json["business_id"]) == (200, "0367")
        assert "RateLimit-Remaining" in got.headers
        BotConfig.model_validate(got.json)


async def test_nothing_else_does(api: Api) -> None:
    key, cookie = await api.new_key("bot"), await api.world.session(JUNE)
    for headers in (
        {"authorization": ""}, {"authorization": "Bearer "}, {"authorization": f"Basic {key}"},
        {"authorization": "Bearer gw_live_other"}, {"cookie": f"session={cookie}", "x_csrf_token": CSRF},
    ):  # fmt: skip
        got = await api.ask("GET", WHERE, query={"key": key, "api_key": key, "token": key}, **headers)
        assert (got.status, got.json["code"]) == (401, "AUTH_FAILED")
        assert key.encode() not in got.body
    other = await api.new_key("call", "read", "write")
    assert (await get(api, other)).status == 403


@pytest.mark.slow
async def test_a_revoked_key_is_none_within_a_second(api: Api) -> None:
    key = await api.new_key("bot")
    assert (await get(api, key)).status == 200
    await api.world.db.engine(revoke_keys, JUNE, key[:16], "cli")
    with trio.fail_after(1.0):
        while (got := await get(api, key)).status != 401:
            await trio.sleep(0.02)
    assert got.json["code"] == "AUTH_FAILED"


async def test_what_has_not_changed_is_not_sent_again(api: Api) -> None:
    key = await api.new_key("bot")
    first = await get(api, key)
    tag = first.headers["ETag"]
    assert tag == f'"{first.json["version"]}"'
    for tags in ((tag,), (f"W/{tag}",), ('"x"', tag), ("*",)):
        again = await get(api, key, *tags)
        assert (again.status, again.body, again.headers["ETag"]) == (304, b"", tag)
    assert (await get(api, key, '"x"')).status == 200
    assert (await api.ask("PUT", "/profile", {"business_type": "retail"})).status == 200
    await api.world.cache.invalidate(TenantId(JUNE))
    changed = await get(api, key, tag)
    assert (changed.status, changed.json["business_type"]) == (200, "retail")


@pytest.mark.parametrize("name", ["catalog", "prompt"])
async def test_it_shows_what_programs_save(api: Api, name: str) -> None:
    key = await api.new_key("bot")
    tag = (await get(api, key)).headers["ETag"]
    if name == "catalog":
        await api.ask("POST", "/catalog", {"id": "m", "name": "Margherita", "price": "12.50"})
    else:
        await api.ask("POST", "/prompts", {"content": "# Role\nx\n# Rules\ny {{business_name}}"})
    await api.world.cache.invalidate(TenantId(JUNE))
    changed = await get(api, key, tag)
    assert changed.status == 200
    if name == "catalog":
        assert changed.json["catalog"] == (await api.ask("GET", "/catalog")).json["items"]
    else:
        assert changed.json["prompt"].endswith("y June")
        assert changed.json["prompt_source"]["version"] == 1
