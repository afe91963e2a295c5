"""Speech to text against the strict sandbox: the form it is sent, what is read of the answer, and each way in which a server fails."""

import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import trio

from adapters.http.addresses import SafeDialer
from adapters.llm.client import ModelSettings, ModelTimeouts, open_model
from adapters.llm.protocol import ModelFailed
from adapters.llm.transcription import Heard, transcribe
from gateway.domain.audio import PCM, Format
from gateway.domain.secret import Secret
from gateway.domain.sound import cut_wav
from gateway.domain.transcripts import Segment
from tests.sandbox.transcriber import KEY, MODEL, Transcriber, segment
from tests.sandbox.web import Response, as_html, as_json

QUICK = ModelTimeouts(connect_s=1.0, first_s=0.5, gap_s=0.5, whole_s=0.5)
(PART,) = cut_wav(Format(PCM, 8000, 2, 2), struct.pack("<8000h", *([3000, -3000] * 4000)), last=True).parts


@pytest.fixture
async def server(nursery: trio.Nursery) -> AsyncIterator[Transcriber]:
    made = Transcriber()
    await nursery.start(made.serve)
    yield made
    nursery.cancel_scope.cancel()


async def heard(server: Transcriber, language: str | None = "ru", **more: Any) -> Heard:
    settings = replace(ModelSettings(url=server.url, key=Secret(KEY), model=MODEL), **more)
    async with open_model(settings, QUICK) as model:
        return await transcribe(model, PART, 1.0, language)


async def test_segments_are_read_and_kept_within_the_piece(server: Transcriber) -> None:
    server.hear = lambda asked: [
        segment("Да.", -1.0, 0.5), segment("Нет.\n", 0.5, 99.0), segment("За концом", 2.1, 3.0), segment("", 0.1, 0.2),
        segment("как\x00 так", float("nan"), 0.7),
    ]  # fmt: skip
    found = await heard(server)
    assert found.segments == (
        Segment(0, 0.0, 0.5, "Да."),
        Segment(0, 0.5, 1.0, "Нет."),
        Segment(0, 0.0, 0.7, "как так"),
    )
    assert (found.language, found.model) == ("russian", MODEL)
    assert server.refusals == []


async def test_a_loop_is_one(server: Transcriber) -> None:
    server.hear = lambda asked: [segment("Алло?", n / 10, n / 10 + 0.1) for n in range(8)]
    assert len((await heard(server)).segments) == 1
    server.hear = lambda asked: [segment("Алло?", n / 10, n / 10 + 0.1) for n in range(3)]
    assert len((await heard(server)).segments) == 3, "people do say so"


async def test_parameters_that_a_server_does_not_know_are_left_out(server: Transcriber) -> None:
    server.plain = True
    found = await heard(server)
    assert [one.text for one in found.segments] == ["Здравствуйте, хочу заказать пиццу."]
    assert [one.fields for one in server.asked] == [{"model": MODEL, "response_format": "json", "language": "ru"}]
    server.plain, server.faults = (
        False,
        [as_json({"error": {"message": "language is unknown", "param": "language"}}, 400)],
    )
    await heard(server)
    assert "language" not in server.asked[-1].fields
    await heard(server, None)
    assert "language" not in server.asked[-1].fields


@pytest.mark.parametrize(
    ("answer", "code", "retryable"),
    [
        (as_json({"error": {"message": KEY, "code": "invalid_api_key"}}, 401), "bad_key", False),
        (as_json({"error": {"message": KEY}}, 404), "no_model", False),
        (as_json({"error": {"code": "insufficient_quota"}}, 429), "quota", False),
        (as_json({"error": {"code": "rate_limit_exceeded"}}, 429), "rate_limited", True),
        (as_json({"error": {"message": "corrupted"}}, 400), "refused", False),
        (as_json({"error": {"message": "Maximum content size"}}, 413), "too_long", False),
        (as_json({"error": {"code": "server_error"}}, 200), "unavailable", True),
        (as_json({}, 500), "unavailable", True),
        (as_html("<html>", 200), "unavailable", True),
        (Response(200, b"[1]"), "unavailable", True),
        (Response(200, b"["), "unavailable", True),
        ("silent", "timeout", True),
    ],
)
async def test_what_a_failure_means(server: Transcriber, answer: Response | str, code: str, retryable: bool) -> None:
    server.faults = [answer]
    with pytest.raises(ModelFailed) as failed:
        await heard(server)
    assert (failed.value.code, failed.value.retryable) == (code, retryable)
    assert KEY not in repr(failed.value) + failed.value.detail


async def test_addresses_that_a_company_may_not_reach(server: Transcriber) -> None:
    with pytest.raises(ModelFailed) as failed:
        await heard(server, dial=SafeDialer())
    assert failed.value.code == "no_model"
    assert server.tries == 0


async def test_without_a_key_none_is_sent(server: Transcriber) -> None:
    with pytest.raises(ModelFailed) as failed:
        await heard(server, key=None)
    assert failed.value.code == "bad_key"
