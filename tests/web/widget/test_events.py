"""The stream of a visitor: what they missed, then what happens, once each; it ends with its token and for a newer one."""

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import pytest
import trio

from gateway.domain.subjects import Subject
from gateway.web.widget import events
from tests.web.widget.here import ANNA, JUNE, KEYS, Here, company
from tests.web.widget.test_wire import said


class Stream:
    """One open stream."""

    def __init__(self, texts: AsyncIterator[str]) -> None:
        self._texts = texts

    async def next(self, *kinds: str) -> tuple[str, Any]:
        """The next event of these kinds; its id and its data."""
        while True:
            with trio.fail_after(10):
                text = await anext(self._texts)
            fields = dict(line.partition(": ")[::2] for line in text.splitlines() if line)
            if fields.get("event") in kinds:
                return fields["id"], json.loads(fields["data"])

    async def ended(self) -> list[str]:
        """What still comes until it ends."""
        with trio.fail_after(10):
            return [text async for text in self._texts]


@asynccontextmanager
async def listening(here: Here, token: str, last: str = "") -> AsyncIterator[Stream]:
    more: dict[str, Any] = {"last_event_id": last} if last else {}
    response = await here.raw("GET", "/events", token=token, origin=None, sec_fetch_site="same-origin", **more)
    assert response.status == 200
    assert response.content_type.startswith("text/event-stream")
    assert response.events is not None
    async with aclosing(cast(Any, response.events)) as texts:
        yield Stream(texts)


async def test_what_was_missed_comes_first_and_then_what_happens(here: Here) -> None:
    token = await here.visitor()
    conversation = await said(here, token, "one", "two")
    async with listening(here, token, "1") as stream:
        assert (await stream.next("message"))[1]["text"] == "two"
        await here.answers(conversation.id, "three")
        number, message = await stream.next("message")
        assert (number, message["text"], message["author"]) == ("3", "three", "human")
    async with listening(here, token, "3") as stream:
        assert (await stream.next("message", "state"))[1]["answers"] == "human"


async def test_a_first_message_is_seen_by_a_stream_that_was_open_before(here: Here) -> None:
    token = await here.visitor()
    async with listening(here, token) as stream:
        assert (await stream.next("state"))[1]["answers"] == "nobody"
        await here.write(token, "hello", "c1")
        assert (await stream.next("message"))[1]["client_id"] == "c1"


async def test_who_answers_and_who_writes(here: Here) -> None:
    token = await here.visitor()
    conversation = await said(here, token, "hello")
    async with listening(here, token, "1") as stream:
        await stream.next("state")
        await here.conversing.release(here.tenants[JUNE], conversation.id, ANNA, "ai")
        assert (await stream.next("state"))[1]["answers"] == "ai"
        here.typing.wrote(JUNE, conversation.id, "client")
        here.typing.wrote(JUNE, conversation.id, ANNA)
        assert 0 < (await stream.next("typing"))[1]["for_s"] <= 6


async def test_others_conversations_are_not_seen(here: Here) -> None:
    token, other = await here.visitor(), await here.visitor()
    await said(here, token, "hello")
    async with listening(here, token, "1") as stream:
        await stream.next("state")
        theirs = await said(here, other, "not yours")
        here.typing.wrote(JUNE, theirs.id, ANNA)
        await here.write(token, "mine", "c9")
        _, message = await stream.next("message", "typing")
        assert message["text"] == "mine"


async def test_it_ends_with_its_token(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "LOOK_S", 0.01)
    token = await here.visitor()
    conversation = await said(here, token, "hello")
    async with listening(here, token, "1") as stream:
        await stream.next("state")
        here.tenants[JUNE] = company(JUNE, hook_id="another-secret-of-tokens-0123456789")
        here.feed.publish(JUNE, Subject("chat", str(conversation.id)))
        assert [text for text in await stream.ended() if "message" in text] == []
    assert KEYS[JUNE]


async def test_a_newer_stream_takes_the_place_of_the_oldest(here: Here) -> None:
    token = await here.visitor()
    most = 6
    async with listening(here, token) as first:
        await first.next("state")
        async with trio.open_nursery() as nursery:

            async def another(task_status: trio.TaskStatus[None]) -> None:
                async with listening(here, token) as stream:
                    await stream.next("state")
                    task_status.started()
                    await trio.sleep_forever()

            for _ in range(most):
                await nursery.start(another)
            assert any(text.startswith("retry: 60000") for text in await first.ended())
            nursery.cancel_scope.cancel()


async def test_a_quiet_stream_says_that_it_is_there(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.05)
    token = await here.visitor()
    response = await here.raw("GET", "/events", token=token, origin=None)
    assert response.events is not None
    async with aclosing(cast(Any, response.events)) as texts:
        with trio.fail_after(10):
            async for text in texts:
                if text.startswith(": "):
                    return
