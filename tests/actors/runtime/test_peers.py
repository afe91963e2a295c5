"""What instances say to each other: gathered, whole however long, and never a way to be stopped."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from actors.runtime.directory import Slot
from actors.runtime.peers import GATHER_S, Peers
from gateway.domain.errors import Unavailable
from gateway.store.shards import notify


class Wire:
    """The database's notifications: everybody hears everything, the sender too."""

    def __init__(self) -> None:
        self.peers: list[Peers] = []
        self.payloads: list[str] = []
        self.away = False

    async def engine(self, work: Callable[..., Awaitable[Any]], channel: str, payloads: list[str]) -> None:
        await trio.lowlevel.checkpoint()
        assert work is notify
        if self.away:
            raise Unavailable("away")
        for payload in payloads:
            assert len(payload.encode()) < 8000
            self.payloads.append(payload)
            for peers in self.peers:
                peers.received(payload)

    def join(self, name: str) -> Peers:
        peers = Peers(self, name, lambda: len(self.peers) - 1)  # type: ignore[arg-type]
        self.peers.append(peers)
        return peers


async def test_marks_are_gathered_and_each_is_said_once(autojump_clock: MockClock) -> None:
    wire = Wire()
    one, two = wire.join("one"), wire.join("two")
    received: list[list[str]] = []
    two.receive["changed"] = lambda texts: received.append(list(texts))
    one.receive["changed"] = lambda texts: pytest.fail("nobody hears what he has said himself")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, Slot("one"))
        for text in ("a", "b", "a"):
            one.mark("changed", text)
        await trio.sleep(GATHER_S * 2)
        assert received == [["a", "b"]]
        wire.away = True
        one.mark("changed", "c")
        await trio.sleep(1)
        wire.away = False
        one.mark("changed", "d")
        await trio.sleep(1)
        assert received == [["a", "b"], ["d"]]
        nursery.cancel_scope.cancel()


async def test_alone_nothing_is_said(autojump_clock: MockClock) -> None:
    wire = Wire()
    one = wire.join("one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run, Slot("one"))
        one.mark("changed", "a")
        assert await one.ask("slots", "") == []
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert wire.payloads == []


async def test_a_question_has_the_answers_that_came_in_time(autojump_clock: MockClock) -> None:
    wire = Wire()
    one, two, three = (wire.join(name) for name in ("one", "two", "three"))

    async def long(what: Any) -> Any:
        return {"whole": "ё" * 30_000, "what": what}

    async def silent(what: Any) -> Any:
        return None

    two.answer["slots"], three.answer["slots"] = long, silent
    async with trio.open_nursery() as nursery:
        for peers in wire.peers:
            nursery.start_soon(peers.run, Slot(peers.me))
        began = trio.current_time()
        (answer,) = await one.ask("slots", ["tenant/0367", 7])
        assert answer == {"whole": "ё" * 30_000, "what": ["tenant/0367", 7]}
        assert trio.current_time() == began
        assert len(await one.ask("slots", "", all_of_them=True, within_s=2.0)) == 1
        assert trio.current_time() == began + 2.0
        wire.away = True
        assert await one.ask("slots", "") == []
        with pytest.raises(Unavailable):
            await one.emit("order", "0367 gw-1")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "payload",
    ["", "two", "two x", "two x y z {}", "two x 0 1 {", "two x 0 1 []", "two x 0 1 null", 'two x 0 1 {"hear": 5}',
     'two x 0 1 {"hear": {"changed": 5}}', 'two x 0 1 {"ask": "n", "kind": "slots"}', 'two x 0 1 {"ask": 1, "kind": []}',
     'two x 0 1 {"answer": ["list"]}', "two x 9 99999999 {", "two x 0 0 "],
)  # fmt: skip
def test_nonsense_is_passed_over(payload: str) -> None:
    one = Wire().join("one")
    one.receive["changed"] = lambda texts: None
    one.received(payload)
    one.received(payload)
    found: list[list[str]] = []
    one.receive["changed"] = lambda texts: found.append(list(texts))
    one.received("two y 0 1 " + json.dumps({"hear": {"changed": ["a"]}}))
    assert found == [["a"]]


def test_what_never_becomes_whole_is_forgotten() -> None:
    one = Wire().join("one")
    for number in range(10_000):
        one.received(f"two m{number} 0 2 {{")
    assert len(one._partial) <= 52
