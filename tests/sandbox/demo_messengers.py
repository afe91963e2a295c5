"""The first company's messengers in `make demo`, beside the Telegram that every company has: WhatsApp, Instagram, Viber and VK.

One account of each is enough to write in. A `Messenger` is a sandbox that serves, what the tenant file says of it, and the client's
chat on the phone. Read `phone.py` for the chats, `demo.py` for the rest of the world.
"""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2
import trio

from tests.sandbox.instagram import Instagram
from tests.sandbox.phone import InstagramLine, Line, ViberLine, VkLine, WhatsappLine
from tests.sandbox.viber import Viber
from tests.sandbox.vk import Vk
from tests.sandbox.whatsapp import Whatsapp, template


async def _nothing(intake: str) -> None:
    """There is nothing to do once the gateway is up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Messenger:
    """An account of the company's in one messenger."""

    kind: str
    url: str
    """Where it serves."""
    settings: Mapping[str, Any]
    """As the tenant file has them."""
    line: Line
    begin: Callable[[str], Awaitable[None]] = _nothing
    """What the messenger does once the gateway's intake is there; ends by itself or when cancelled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose accounts they are, and who writes there."""

    company: str
    phone: str
    language: str
    client: str
    client_id: int
    base: str
    """The gateway's public address."""


async def open_messengers(owner: Owner, nursery: trio.Nursery) -> list[Messenger]:
    """All of them, serving in the nursery."""
    return [await made(owner, nursery) for made in (_whatsapp, _instagram, _viber, _vk)]


def _hook() -> str:
    return secrets.token_urlsafe(32)


async def _whatsapp(owner: Owner, nursery: trio.Nursery) -> Messenger:
    hook = _hook()
    ready = template("order_ready", "Заказ {{1}} готов, ждём вас до {{2}}.", owner.language)
    made = Whatsapp(
        token=f"EAAG{secrets.token_hex(20)}", app_secret=secrets.token_hex(16), display=owner.phone, templates=[ready],
        callback=f"{owner.base.rstrip('/')}/hooks/whatsapp/{hook}",
    )  # fmt: skip
    settings = {
        "phone_number_id": made.number_id, "waba_id": made.waba_id, "access_token": made.token,
        "app_secret": made.app_secret, "webhook_verify_token": secrets.token_urlsafe(16), "hook_id": hook,
    }  # fmt: skip

    async def begin(intake: str) -> None:
        await made.call(f"{intake}/hooks/whatsapp/{hook}")

    line = WhatsappLine(f"{owner.company}, WhatsApp", made, f"375291{owner.client_id:06}", owner.client)
    return Messenger(
        kind="whatsapp", url=await nursery.start(made.serve), settings=settings, line=line, begin=begin
    )  # fmt: skip


async def _instagram(owner: Owner, nursery: trio.Nursery) -> Messenger:
    hook, verify = _hook(), secrets.token_urlsafe(16)
    made = Instagram(token=f"IGAA{secrets.token_hex(20)}", secret=secrets.token_hex(16), now=time.time())
    settings = {
        "page_id": made.account, "access_token": made.token, "app_secret": made.secret, "webhook_verify_token": verify,
        "hook_id": hook,
    }  # fmt: skip

    async def begin(intake: str) -> None:
        while not made.webhook:  # the gateway has not read the company yet
            with suppress(httpx2.HTTPError):
                await made.register(f"{intake}/hooks/instagram/{hook}", verify)
            await trio.sleep(0.5)

    line = InstagramLine(f"{owner.company}, Instagram", made, f"{owner.client_id}001", owner.client)
    return Messenger(
        kind="instagram", url=await nursery.start(made.serve), settings=settings, line=line, begin=begin
    )  # fmt: skip


async def _viber(owner: Owner, nursery: trio.Nursery) -> Messenger:
    made = Viber(token=f"{secrets.token_hex(8)}-{secrets.token_hex(8)}-{secrets.token_hex(8)}")
    settings = {"auth_token": made.token, "sender_name": owner.company, "hook_id": _hook()}
    line = ViberLine(f"{owner.company}, Viber", made, f"{secrets.token_urlsafe(12)}==", owner.client)
    return Messenger(kind="viber", url=await nursery.start(made.serve), settings=settings, line=line)


async def _vk(owner: Owner, nursery: trio.Nursery) -> Messenger:
    made = Vk(token=f"vk1.a.{secrets.token_urlsafe(24)}")
    settings = {"group_id": str(made.group_id), "access_token": made.token}
    line = VkLine(f"{owner.company}, VK", made, owner.client_id, owner.client)
    return Messenger(kind="vk", url=await nursery.start(made.serve), settings=settings, line=line)
