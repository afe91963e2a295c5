"""The AI operator of a running gateway: a visitor of the widget is answered by a model that calls a tool, asks for a person, and gets one."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.test_api import API, client_of, new_key
from tests.e2e.test_widget import KEY, block, until
from tests.e2e.world import World, open_world
from tests.sandbox.llm import KEY as LLM_KEY
from tests.sandbox.llm import MODEL, LanguageModel, called, said

pytestmark = pytest.mark.long
PROMPT = """# Role
You are the operator of {{business_name}}.
# Rules
Be brief.
# Catalog
{{catalog}}"""


def with_ai(world: World, model: LanguageModel) -> dict[str, Any]:
    found = block(world)
    found["profile"] = {"business_type": "restaurant", "phone": "+375291112233"}
    found["catalog"] = [{"id": "margherita", "name": "Margherita", "price": "12.50"}]
    found["prompts"] = [{"name": "Main", "content": PROMPT, "active": True}]
    found["ai"] = {"enabled": True, "quiet_s": 0.2, "llm": {"url": model.url, "api_key": LLM_KEY, "model": MODEL}}
    return found


async def test_a_visitor_is_answered_and_then_gets_a_person(tmp_path: Path) -> None:
    script = [
        called(("search_catalog", {"query": "margarita"})), said("Margherita is 12.50 BYN. See https://evil.example!"),
        called(("hand_over", {"reason": "asked_for_person", "summary": "Wants to speak about a wedding."})),
    ]  # fmt: skip
    async with LanguageModel(script=script).serving() as model, open_world(tmp_path) as world:
        await world.apply(with_ai(world, model))
        async with httpx2.AsyncClient(trust_env=False, base_url=f"{world.url}/widget/{KEY}", timeout=10) as visitor:
            with trio.fail_after(20):
                while (
                    given := await visitor.post("/session", json={}, headers={"Origin": world.url})
                ).status_code == 404:
                    await trio.sleep(0.05)
            as_visitor = {"Authorization": f"Bearer {given.json()['token']}", "Origin": world.url}
            await visitor.post(
                "/messages", json={"client_id": "c1", "text": "How much is margarita?"}, headers=as_visitor
            )
            found = await until(visitor, "/messages?after=1", lambda found: found["items"], **as_visitor)
            assert [(one["text"], one["author"]) for one in found["items"]] == [("Margherita is 12.50 BYN. See!", "ai")]
            await visitor.post("/messages", json={"client_id": "c2", "text": "A person, please"}, headers=as_visitor)
            found = await until(visitor, "/messages?after=3", lambda found: found["items"], **as_visitor)
            assert [one["author"] for one in found["items"]] == ["system"]
        assert model.refusals == []
        async with client_of(world, await new_key(world, "chat")) as program:
            (one,) = (await program.get(f"{API}/conversations")).json()["items"]
            assert (one["owner"], one["epoch"]) == ("queue", 1)
            items = (await program.get(f"{API}/conversations/{one['id']}/messages")).json()["items"]
            assert items[1]["ai"]["prompt"] == "Main"
            assert (items[1]["ai"]["prompt_version"], items[1]["ai"]["model"], items[1]["ai"]["tools"]) == (
                1,
                MODEL,
                ["search_catalog"],
            )
            assert items[1]["ai"]["removed"] == ["https://evil.example"]
            assert items[0]["ai"] is None
            notes = (await program.get(f"{API}/conversations/{one['id']}")).json()["notes"]
            assert any(note["kind"] == "handed_over" and "wedding" in note["text"] for note in notes)
