"""The text of a call from end to end: a posted call, its recording, the summary, and the note in the CRM."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.actors.ai.calls import stereo
from tests.e2e.test_recordings import CALL, keeps_recordings, posted_call, upload
from tests.e2e.world import open_world
from tests.sandbox.llm import KEY as LLM_KEY
from tests.sandbox.llm import MODEL as LLM_MODEL
from tests.sandbox.llm import LanguageModel, said
from tests.sandbox.transcriber import KEY, MODEL, Asked, Transcriber, segment
from tests.sound import dialogue

pytestmark = pytest.mark.long
SUMMARY = "Клиент хотел столик на двоих.\nДальше: Анна подтвердит."


def heard(asked: Asked) -> list[dict[str, Any]]:
    return [segment("Столик на двоих, пожалуйста.", 0.5, 2.0)]


async def test_a_recording_becomes_a_text_a_summary_and_a_note(tmp_path: Path) -> None:
    async with (
        LanguageModel(reply=lambda body: said(SUMMARY)).serving() as model,
        Transcriber(hear=heard).serving() as speech,
        open_world(tmp_path) as world,
    ):
        ai = {
            "llm": {"url": model.url, "api_key": LLM_KEY, "model": LLM_MODEL},
            "calls": {"transcribe": True, "summarise": True, "url": speech.url, "api_key": KEY, "model": MODEL, "first_channel": "client", "min_talk_s": 0},
        }  # fmt: skip
        number = 5001
        world.crm.customers.append({"id": number, "firstName": "Анна", "phones": [{"number": "80296254070"}]})
        await world.apply(keeps_recordings(world, ai=ai))
        await trio.sleep(0.5)
        await posted_call(world)
        assert (await upload(world, stereo(dialogue(4), dialogue(3)))).json() == {"status": "accepted"}

        async def row() -> dict[str, Any]:
            found: str = await world.look(
                "SELECT coalesce((SELECT to_json(t)::text FROM call_transcripts t WHERE tenant_id = $1), '{}')", "0367"
            )
            return dict(json.loads(found))

        await world.wait_for(lambda: world.crm.notes, 60.0)
        (note,) = world.crm.notes
        assert note["customer"] == {"id": number}
        assert note["text"].endswith(f"+375296254070\n{SUMMARY}")
        assert len(speech.asked) == 2, "each side once"
        stored = await row()
        assert (stored["state"], stored["problem"], stored["model"], stored["transcribed_at"] is not None) == (
            "done",
            "",
            MODEL,
            True,
        )
        logged: str = await world.look(
            "SELECT string_agg(d.body || coalesce(l.request_data, '') || coalesce(l.response_data, ''), ' ') FROM deliveries d "
            "JOIN integration_logs l ON l.tenant_id = d.tenant_id AND l.delivery_id = d.delivery_id WHERE d.kind = 'summary' AND d.subject_id = $1",
            CALL,
        )
        assert "***" in logged
        for word in ("толик", "Анна"):
            assert word not in json.dumps(stored, ensure_ascii=False)
            assert word not in logged
        assert speech.refusals == model.refusals == []
        file = await world.gateway.ask("export", "0367")
        assert "first_channel: client" in file
        assert KEY not in file
        assert LLM_KEY not in file
