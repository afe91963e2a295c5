"""Bots Long Poll: one session of polls, from a place in the community's queue that is durable.

    server, place -> poll -> updates durable -> place durable -> poll ...
    failed 1: some is lost, on from the new place    2: a new key, the same place    3: a new key and place

The place is stored after the updates before it, so that a process that dies repeats updates and loses none; without it a restart would
skip whatever came meanwhile. Source: VK, "Bots Long Poll API".
"""

from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from adapters.http import Http, Timeouts
from adapters.inbound import UpdateSink
from adapters.named_addresses import open_named
from adapters.tokens import FreshToken
from adapters.vk import codec, incoming
from gateway.domain.errors import BadSettings, Rejected
from gateway.domain.health import State
from gateway.domain.secret import Secret

if TYPE_CHECKING:
    from adapters.vk.client import VkClient

POLL_S = 25
"""Seconds for which VK holds a poll without updates; it allows 90, and proxies before it 30."""
GRACE_S = 10.0
"""Seconds that an answer may come after that."""
LARGEST_ANSWER = 8 << 20
PLACE = "longpoll"
"""The name under which the place is stored, with the community's number before it: that of another community is none of ours."""


async def run(client: "VkClient", sink: UpdateSink) -> None:
    """Until the session ends. Raises Unavailable, NeedsAttention and RemoteProtocolError."""
    try:
        await _switch_on(client)
        ts = await _stored_place(client)
        while True:
            server = codec.read_server(await client.call("groups.getLongPollServer", _group(client)))
            if not ts:
                ts = server.ts
                await _store_place(client, ts)
            timeouts = Timeouts(
                connect_s=client.settings.connect_timeout_s, read_s=POLL_S + GRACE_S, whole_s=POLL_S + 2 * GRACE_S
            )
            http, path = open_named(client.link, server.url, timeouts, [server.key])
            async with http:
                ts = await _poll_on(client, sink, http, path, server.key, ts)
    except Rejected as error:
        raise BadSettings(error.detail) from None


async def _poll_on(client: "VkClient", sink: UpdateSink, http: Http, path: str, key: str, ts: str) -> str:
    """Polls until the key ends. Returns the place to go on from; empty: that of the next server."""
    while True:
        query = urlencode({"act": "a_check", "key": key, "ts": ts, "wait": POLL_S})
        polled = await http.send(
            "GET", f"{path}{'&' if '?' in path else '?'}{query}", hide=[key], limit=LARGEST_ANSWER,
            read=lambda answer: codec.read_polled(answer.status, answer.raw),
        )  # fmt: skip
        if polled.failed in (1, 3):
            client.link.report(State.DEGRADED, "history_lost", "")
        if polled.failed == 2:
            return ts
        if polled.failed == 3:
            return ""
        if polled.failed == 0:
            found = incoming.updates(polled.updates, client.settings)
            await sink.received(await client.completed(found) if found else ())
        if polled.ts != ts:
            ts = polled.ts
            await _store_place(client, ts)


async def _switch_on(client: "VkClient") -> None:
    """Long Poll with our events, where the token may choose them; else whatever is chosen in the community's settings."""
    chosen = {"enabled": "1", "api_version": codec.VERSION, **dict.fromkeys(incoming.EVENTS, "1")}
    with suppress(
        BadSettings, Rejected
    ):  # a token without the right to manage; that polling is switched off is said by the next method
        await client.call("groups.setLongPollSettings", {**_group(client), **chosen})


async def _stored_place(client: "VkClient") -> str:
    tokens = client.link.tokens
    known = await tokens.current(PLACE) if tokens is not None else None
    group, _, ts = known.value.reveal().partition(":") if known is not None else ("", "", "")
    return ts if group == client.settings.group_id else ""


async def _store_place(client: "VkClient", ts: str) -> None:
    if client.link.tokens is not None:
        await client.link.tokens.put(PLACE, FreshToken(Secret(f"{client.settings.group_id}:{ts}")))


def _group(client: "VkClient") -> dict[str, str]:
    return {"group_id": client.settings.group_id}
