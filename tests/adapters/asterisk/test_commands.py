"""Actions: their headers, and the line they go on, against a PBX of a few lines."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.lowlevel
from trio.testing import memory_stream_pair

from adapters.abilities import CallOrder
from adapters.asterisk import action_connection, commands
from adapters.asterisk.action_connection import ActionLine
from adapters.asterisk.settings import AsteriskSettings
from adapters.base import Link
from gateway.domain.errors import (
    BadCredentials,
    BadSettings,
    Doubtful,
    LocalProtocolError,
    Rejected,
    Unavailable,
)
from tests.adapters.asterisk.test_session import BANNER, SECRET, TENANT, Peer

SETTINGS = AsteriskSettings(
    host="pbx.example", username="gateway", secret=SECRET, trunks=("trunk-0001",), originate_context="inoffice"
)
ORDER = CallOrder(order_id="gw-0b9c7c1e-aaaa-bbbb-cccc-121212121212", extension="150", number="+375296254070")

Serve = Callable[[Peer], Awaitable[None]]


class Pbx:
    """Takes connections one after the other, each served by the next of `served`."""

    def __init__(self, nursery: trio.Nursery, *served: Serve) -> None:
        self.peers: list[Peer] = []
        self._nursery = nursery
        self._served = list(served)

    async def connect(self, link: Link, settings: AsteriskSettings) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        ours, theirs = memory_stream_pair()
        self.peers.append(Peer(theirs))
        self._nursery.start_soon(self._served.pop(0), self.peers[-1])
        return ours

    def actions(self) -> list[str]:
        return [action["Action"] for peer in self.peers for action in peer.actions]


async def log_in(peer: Peer, response: str = "Success") -> None:
    await peer.text_of(BANNER)
    await peer.answer(await peer.action(), response)


async def obey(peer: Peer, response: str = "Success") -> None:
    """Logs in and answers every action."""
    await log_in(peer)
    try:
        while True:
            await peer.answer(await peer.action(), response)
    except (trio.EndOfChannel, trio.BrokenResourceError):
        pass


async def vanish_after(peer: Peer, action: str) -> None:
    """Obeys until one action comes, and is gone without an answer."""
    await log_in(peer)
    while True:
        requested = await peer.action()
        if requested["Action"] == action:
            await peer.hang_up()
            return
        await peer.answer(requested)


@pytest.fixture
async def lines(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Pbx, ActionLine]]:
    def make(*served: Serve) -> tuple[Pbx, ActionLine]:
        pbx = Pbx(nursery, *served)
        monkeypatch.setattr(action_connection, "open_stream", pbx.connect)
        return pbx, ActionLine(Link(TENANT, "main", None, None), SETTINGS)  # type: ignore[arg-type]

    return make


Lines = Callable[..., tuple[Pbx, ActionLine]]


async def test_an_order_is_one_originate_in_the_tenants_context(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    pbx, actions = lines(obey)
    await commands.place(actions, ORDER, SETTINGS, "BY")
    login, originate = pbx.peers[0].actions
    assert login["Events"] == "off"
    del originate["ActionID"]
    assert originate == {
        "Action": "Originate", "Channel": "Local/150@inoffice", "Context": "inoffice", "Exten": "+375296254070",
        "Priority": "1", "CallerID": "+375296254070 <+375296254070>", "Timeout": "30000",
        "ChannelId": ORDER.order_id, "OtherChannelId": ORDER.order_id + "-2", "Async": "true",
    }  # fmt: skip
    await actions.aclose()
    with pytest.raises(Unavailable, match="changed"):
        await commands.place(actions, ORDER, SETTINGS, "BY")
    assert len(pbx.peers) == 1, "no connection that nobody would close"


@pytest.mark.parametrize(
    "order",
    [
        CallOrder(order_id=ORDER.order_id, extension="150&151", number=ORDER.number),
        CallOrder(order_id=ORDER.order_id, extension="150\r\nAction: Command", number=ORDER.number),
        CallOrder(order_id="gw-1\n23456789", extension="150", number=ORDER.number),
    ],
)
async def test_what_is_not_digits_never_reaches_the_wire(
    lines: Lines, order: CallOrder, autojump_clock: trio.abc.Clock
) -> None:
    pbx, actions = lines(obey)
    with pytest.raises(LocalProtocolError):
        await commands.place(actions, order, SETTINGS, "BY")
    assert pbx.actions() == []


async def test_without_a_context_nothing_is_asked(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    pbx, actions = lines(obey)
    with pytest.raises(BadSettings):
        await commands.place(actions, ORDER, SETTINGS.model_copy(update={"originate_context": ""}), "BY")
    assert pbx.actions() == []


async def test_the_connection_is_kept_and_asked_whether_it_lives(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    pbx, actions = lines(obey, obey)
    await commands.place(actions, ORDER, SETTINGS, "BY")
    await commands.place(actions, ORDER, SETTINGS, "BY")
    await trio.sleep(60)
    await commands.place(actions, ORDER, SETTINGS, "BY")
    assert pbx.actions() == ["Login", "Originate", "Originate", "Ping", "Originate"]
    await trio.sleep(action_connection.KEPT_S + 1)
    await commands.place(actions, ORDER, SETTINGS, "BY")
    assert pbx.actions()[-2:] == ["Login", "Originate"]
    await actions.aclose()


async def test_a_connection_that_died_unseen_is_made_anew(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    pbx, actions = lines(partial(vanish_after, action="Ping"), obey)
    await commands.place(actions, ORDER, SETTINGS, "BY")
    await trio.sleep(60)
    await commands.place(actions, ORDER, SETTINGS, "BY")
    assert pbx.actions() == ["Login", "Originate", "Ping", "Login", "Originate"]
    await actions.aclose()


async def test_an_originate_whose_answer_is_lost_is_never_sent_again(
    lines: Lines, autojump_clock: trio.abc.Clock
) -> None:
    pbx, actions = lines(partial(vanish_after, action="Originate"))
    with pytest.raises(Doubtful):
        await commands.place(actions, ORDER, SETTINGS, "BY")
    assert pbx.actions() == ["Login", "Originate"]


async def test_a_pbx_that_says_nothing_is_given_up(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    async def deaf(peer: Peer) -> None:
        await log_in(peer)
        await trio.sleep_forever()

    _, actions = lines(deaf)
    with pytest.raises(Doubtful):
        await commands.place(actions, ORDER, SETTINGS, "BY")


async def test_a_refused_login_sends_nothing_more(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    pbx, actions = lines(partial(log_in, response="Error"))
    with pytest.raises(BadCredentials):
        await commands.place(actions, ORDER, SETTINGS, "BY")
    assert pbx.actions() == ["Login"]


async def test_a_pbx_that_is_away_was_asked_nothing(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    async def away(peer: Peer) -> None:
        await peer.hang_up()

    _, actions = lines(away)
    with pytest.raises(Unavailable):
        await commands.place(actions, ORDER, SETTINGS, "BY")


async def test_what_the_pbx_refuses_is_refused(lines: Lines, autojump_clock: trio.abc.Clock) -> None:
    _, actions = lines(partial(obey, response="Error"))
    with pytest.raises(Rejected):
        await commands.place(actions, ORDER, SETTINGS, "BY")
    await actions.aclose()


def test_an_outcome_is_known_by_its_action_id() -> None:
    answer = {"Event": "OriginateResponse", "ActionID": f"order-{ORDER.order_id}", "Response": "Failure", "Reason": "5"}
    assert commands.order_answer(answer) == (ORDER.order_id, "busy")
    assert commands.order_answer(answer | {"Response": "Success", "Reason": "4"}) == (ORDER.order_id, "")
    assert commands.order_answer(answer | {"ActionID": "somebody-else"}) is None
    for strange in ("order-", "order-gw-\0aaaaaaa", "order-gw-aaaaaaaa\norder-gw-bbbbbbbb", "order-" + "a" * 5000):
        assert commands.order_answer(answer | {"ActionID": strange}) is None, strange
