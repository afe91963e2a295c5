"""What an auditor sees of messages: that there was one, and not what it said."""

import json

import pytest

from gateway.domain.people import Role
from gateway.store.outbox import Outcome
from gateway.web.masking import without_texts
from tests.web.world import JUNE, World, play

WORDS = "meet me at noon"


@pytest.mark.parametrize(
    "said",
    [
        'POST /sendMessage\n{"chat_id": 7, "text": "%s"}', '200 {"ok": true, "result": {"message": {"chat": {"id": 7}, "text": "%s"}}}',
        '{"messages": [{"content": "%s"}, {"caption": "%s"}]}', "POST /send\nchat=7&text=meet+me+at+noon", "200 %s", "%s", '{"text": "%s"',
        '{"client_fields": {"nick": "%s"}, "order": {"delivery": "%s"}}', 'POST /rest/x/crm.deal.update\n{"id": 7, "fields": {"UF_CRM_1": "%s"}}',
        '{"message": {"parts": ["%s"]}}', "POST /x\n<xml>%s</xml>",
    ],
)  # fmt: skip
def test_texts_are_masked_wherever_they_stand(said: str) -> None:
    shown = without_texts(said.replace("%s", WORDS))
    assert WORDS not in shown
    assert "noon" not in shown
    assert "***" in shown


def test_the_rest_stays() -> None:
    assert without_texts("") == ""
    assert without_texts("204") == "204"
    shown = without_texts('POST /sendMessage\n{"chat_id": 7, "text": "x", "ok": true}')
    assert shown.startswith("POST /sendMessage\n")
    assert json.loads(shown.partition("\n")[2]) == {"chat_id": 7, "text": "***", "ok": True}


async def test_an_auditors_pages_hold_no_text_of_a_message(world: World) -> None:
    calls = await play(world)
    request = f'POST /sendMessage\n{{"chat_id": 7, "text": "{WORDS}"}}'
    outcome = Outcome(
        state="failed",
        status="failed",
        request=request,
        response=f"400 {WORDS}",
        error=f"refused: {WORDS}",
        note=f"other: {WORDS}",
    )
    await world.deliver(JUNE, "retailcrm", outcome)
    pages = [
        "/t/0367/integrations/retailcrm",
        "/t/0367/deliveries?state=failed",
        "/t/0367/deliveries/list.csv?state=failed",
        *(f"/t/0367/calls/{call.call_id}" for call in calls),
    ]
    seen = {}
    for role in (Role.ADMIN, Role.AUDITOR):
        client = world.app.test_client()
        client.set_cookie("localhost", "session", await world.person(JUNE, f"{role}@june.example", role))
        texts = [str(await (await client.get(path)).get_data(as_text=True)) for path in pages]
        seen[role] = sum(WORDS in text for text in texts)
    assert seen[Role.ADMIN] >= 2
    assert seen[Role.AUDITOR] == 0
