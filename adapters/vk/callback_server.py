"""The community's callback server that calls us: added, kept as it must be, taken away again.

A community has up to 10 of them, so ours is known by its address. VK asks for a code before it calls: the code is fetched first and
stands in the address (`incoming.confirmation_query`), because it changes with each change of a server. Other servers' keys are in VK's
answers, which are therefore not logged. Source: VK API 5.199, "groups.addCallbackServer" and its neighbours.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from adapters.base import Attempt
from adapters.vk import codec
from adapters.vk.incoming import EVENTS, confirmation_query
from gateway.domain.errors import RemoteProtocolError, Unavailable
from gateway.domain.secret import Secret

if TYPE_CHECKING:
    from adapters.vk.client import VkClient

TITLE = "gateway"
"""At most 14 characters."""


async def ensure(client: "VkClient", hook_url: Secret, attempt: Attempt | None = None) -> bool:
    """Makes VK call `hook_url` with our events. Whether VK has confirmed the address already. Raises what VK's answers come to."""
    ours = await _ours(client, hook_url)
    good = next(
        (one for one in ours if one.status in ("ok", "wait") and Secret(one.key) == client.settings.secret), None
    )
    if good is None:
        number = await _put(client, hook_url, ours[0] if ours else None, attempt)
    else:
        number = good.id
    place = {"group_id": client.settings.group_id, "server_id": str(number)}
    chosen = codec.chosen_events(await client.call("groups.getCallbackSettings", place))
    if not set(EVENTS) <= chosen:
        wanted = {**place, "api_version": codec.VERSION, **dict.fromkeys(EVENTS, "1")}
        await client.call("groups.setCallbackSettings", wanted, attempt, hide=[hook_url])
    if good is not None:
        return good.status == "ok"
    status = next((one.status for one in await _ours(client, hook_url) if one.id == number), "")
    if status == "failed":
        raise Unavailable(
            "VK could not reach our address: it must be public, by https, with a certificate that VK accepts"
        )
    return status == "ok"


async def _put(
    client: "VkClient", hook_url: Secret, known: codec.CallbackServer | None, attempt: Attempt | None
) -> int:
    """Adds our server, or gives the one that is there a fresh code and our key. Returns its number."""
    group = {"group_id": client.settings.group_id}
    found = await client.call("groups.getCallbackConfirmationCode", group)
    code = found.get("code") if isinstance(found, dict) else None
    if not isinstance(code, str) or not code:
        raise RemoteProtocolError("VK gave no confirmation code")
    address = Secret(hook_url.reveal() + confirmation_query(code, client.settings))
    wanted = {**group, "url": address.reveal(), "title": TITLE, "secret_key": client.settings.secret.reveal()}
    hidden = [address, hook_url]
    if known is not None:
        await client.call(
            "groups.editCallbackServer", {**wanted, "server_id": str(known.id)}, attempt, hide=hidden, slow=True
        )
        return known.id
    made = await client.call("groups.addCallbackServer", wanted, attempt, hide=hidden, slow=True)
    number = made.get("server_id") if isinstance(made, dict) else None
    if not isinstance(number, int):
        raise RemoteProtocolError("VK added a server and did not say which")
    return number


async def remove(client: "VkClient", attempt: Attempt | None = None) -> None:
    """Takes our servers away; those of others stay."""
    if client.link.hook_url is None:
        return
    for one in await _ours(client, client.link.hook_url):
        place = {"group_id": client.settings.group_id, "server_id": str(one.id)}
        await client.call("groups.deleteCallbackServer", place, attempt)


async def _ours(client: "VkClient", hook_url: Secret) -> Sequence[codec.CallbackServer]:
    found = await client.call("groups.getCallbackServers", {"group_id": client.settings.group_id})
    return [one for one in codec.read_servers(found) if Secret(one.url.partition("?")[0]) == hook_url]
