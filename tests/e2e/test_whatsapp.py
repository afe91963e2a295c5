"""A WhatsApp number from end to end: the same conversation as through every channel, against the strict sandbox, with the webhooks that
Meta sends forged, doubled, reordered and late."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio

from tests.e2e.test_chat_files import OGG, PNG, until
from tests.e2e.world import World, open_world
from tests.sandbox.web import Fault
from tests.sandbox.whatsapp import Refusal, Webhook, Whatsapp, template

pytestmark = [pytest.mark.long]

HOOK = "h" * 43
ANNA, LATER, USER = "375291002001", "375291002009", "BY.13491208655302741918"
DAYS_S = 2 * 86_400.0


@dataclass
class Here:
    """A company with a number, its API, and Meta."""

    world: World
    whatsapp: Whatsapp
    client: httpx2.AsyncClient

    async def post(self, webhook: Webhook, *, intake: bool = True) -> int:
        """One webhook, to either listener."""
        base = self.world.intake if intake else self.world.url
        async with httpx2.AsyncClient(trust_env=False) as meta:
            answer = await meta.post(f"{base}/hooks/whatsapp/{HOOK}", content=webhook.body, headers=webhook.headers)
        return answer.status_code

    async def pump(self, *, backwards: bool = False, times: int = 1) -> None:
        """Everything that Meta has to tell, perhaps more than once and in the wrong order."""
        waiting = list(self.whatsapp.webhooks)
        self.whatsapp.webhooks.clear()
        for number, webhook in enumerate((waiting[::-1] if backwards else waiting) * times):
            assert await self.post(webhook, intake=bool(number % 2)) == 200

    async def conversation(self) -> dict[str, Any]:
        """The only one."""
        (found,) = await until(self.client, "/api/v1/conversations", bool)
        return dict(found)

    async def messages(self, true: Any = bool) -> Any:
        """Its messages, once they are so."""
        return await until(self.client, f"/api/v1/conversations/{(await self.conversation())['id']}/messages", true)

    async def send(self, number: int, status: int = 201, **body: Any) -> Any:
        """An answer of a manager."""
        path = f"/api/v1/conversations/{(await self.conversation())['id']}/messages"
        answer = await self.client.post(path, json={"client_id": f"a-{number}", **body})
        assert answer.status_code == status, answer.text
        return answer.json()


@asynccontextmanager
async def opened(folder: Path, **changes: Any) -> AsyncIterator[Here]:
    known = [template("order_ready", "Заказ {{1}} готов"), template("old", "x", status="PAUSED")]
    whatsapp = Whatsapp(rate_limits=False, templates=known)
    async with trio.open_nursery() as nursery:
        url = await nursery.start(whatsapp.serve)
        urls = json.dumps({"whatsapp": url, "telegram": url})
        async with open_world(folder, GATEWAY_PROVIDER_URLS=urls) as world:
            number = {
                "phone_number_id": whatsapp.number_id, "waba_id": whatsapp.waba_id, "access_token": whatsapp.token,
                "app_secret": whatsapp.app_secret, "webhook_verify_token": "our-own-token", "hook_id": HOOK, **changes,
            }  # fmt: skip
            await world.apply(world.tenant(integrations={"whatsapp": number}))
            said = await world.gateway.ask(
                "api-key", "create", "0367", "--name", "test", "--scope", "chat", "--scope", "read"
            )
            key = next(line for line in said.split() if len(line) > 30)
            async with httpx2.AsyncClient(
                trust_env=False, base_url=world.url, headers={"X-API-Key": key}, timeout=20
            ) as client:
                yield Here(world, whatsapp, client)
        nursery.cancel_scope.cancel()


def of(text: str, status: str) -> Any:
    return lambda items: any(one["text"] == text and one["status"] == status for one in items)


async def test_a_whole_conversation(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        whatsapp = here.whatsapp
        query = {"hub.mode": "subscribe", "hub.verify_token": "our-own-token", "hub.challenge": "1158201444"}
        for base in (here.world.url, here.world.intake):
            async with httpx2.AsyncClient(trust_env=False, base_url=base) as meta:
                shaken = await meta.get(f"/hooks/whatsapp/{HOOK}", params=query)
                assert (shaken.status_code, shaken.text) == (200, "1158201444")
                assert (
                    await meta.get(f"/hooks/whatsapp/{HOOK}", params={**query, "hub.verify_token": "x"})
                ).status_code == 403

        # What a client sends, each webhook twice.
        whatsapp.human(ANNA, name="Анна")
        whatsapp.writes(ANNA, "Здравствуйте 👋")
        whatsapp.brings(ANNA, "image", PNG, "image/png", caption="вот такой")
        whatsapp.brings(ANNA, "audio", OGG, "audio/ogg; codecs=opus", voice=True)
        whatsapp.writes(ANNA, type="unsupported", errors=[{"code": 131051}])
        began = trio.current_time()
        await here.pump(times=2)
        items = await here.messages(
            lambda items: (
                len(items) == 4
                and [file["state"] for one in items[1:3] for file in one["attachments"]] == ["stored"] * 2
            )
        )
        print(f"\nfour messages, two with files, stood in the conversation after {trio.current_time() - began:.2f} s")
        assert [one["text"] for one in items] == ["Здравствуйте 👋", "вот такой", "", ""]
        picture, voice = (one["attachments"][0] for one in items[1:3])
        assert ((await here.client.get(picture["url"])).content, voice["kind"]) == (PNG, "voice")
        assert (await here.client.get(voice["url"])).content == OGG
        assert "does not pass on" in items[3]["attachments"][0]["name"]
        assert (await here.conversation())["name"] == "Анна"

        # What we answer, and what becomes of it, backwards and twice.
        await here.send(1, text="Добрый день")
        long = "слово " * 1200
        await here.send(2, text=long, reply_to=items[0]["id"])
        added = (
            await here.client.post("/api/v1/files", files={"file": ("цены.pdf", b"%PDF-1.7 " + PNG, "application/pdf")})
        ).json()
        await here.send(3, text="прайс", attachments=[added["id"]])
        await here.messages(of("прайс", "sent"))
        assert [one.payload["type"] for one in whatsapp.sent] == ["text", "text", "text", "document"]
        assert " ".join(one.payload["text"]["body"] for one in whatsapp.sent[1:3]).split() == long.split()
        assert whatsapp.sent[1].payload["context"]["message_id"].startswith("wamid.")
        for one in whatsapp.sent:
            whatsapp.reads(one.id)
        await here.pump(backwards=True, times=2)
        items = await here.messages(lambda items: [one["status"] for one in items[4:]] == ["read"] * 3)
        assert [one["error"] for one in items[4:]] == [None] * 3
        assert whatsapp.seen, "the client is shown that we have read"

        # Edited, taken back, answered in the phone's own app.
        first = items[0]["provider_id"]
        edit = {"original_message_id": first, "message": {"type": "text", "text": {"body": "Добрый вечер"}}}
        whatsapp.writes(ANNA, type="edit", edit=edit)
        whatsapp.writes(ANNA, type="revoke", revoke={"original_message_id": items[1]["provider_id"]})
        whatsapp.answers_on_the_phone(ANNA, "ответил с телефона")
        await here.pump(times=2)
        items = await here.messages(lambda items: len(items) == 8)
        assert [change["kind"] for one in items[:2] for change in one["changes"]] == ["edited", "deleted"]
        assert (items[7]["author"], items[7]["text"]) == ("elsewhere", "ответил с телефона")

        # Forged and cut.
        genuine = whatsapp.push({"messages": [{"from": "1", "id": "wamid.x", "timestamp": "1", "type": "text"}]})
        whatsapp.webhooks.clear()
        for forged in (
            Webhook(genuine.body, "sha256=00"),
            Webhook(genuine.body[:-2], genuine.signature),
            Webhook(b"", ""),
        ):
            assert await here.post(forged) == 403
        assert await here.post(Webhook(bytes((1 << 20) + 1), "sha256=00")) == 413
        assert len((await here.client.get("/api/v1/conversations")).json()["items"]) == 1


async def test_a_user_id_and_another_number_leave_one_person_with_one_conversation(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        whatsapp = here.whatsapp
        anna = whatsapp.human(ANNA, name="Анна")
        whatsapp.writes(ANNA, "one")
        await here.pump()
        contact = (await here.conversation())["contact"]
        anna.user_id = USER
        whatsapp.writes(ANNA, "two")
        await here.pump()
        await here.messages(lambda items: len(items) == 2)
        anna.hides = True
        whatsapp.writes(ANNA, "three")
        await here.pump()
        await here.messages(lambda items: len(items) == 3)
        await here.send(1, text="to the id")
        await here.messages(of("to the id", "sent"))
        assert whatsapp.sent[-1].payload["recipient"] == USER
        anna.user_id, anna.hides = "", False
        whatsapp.changes_number(ANNA, LATER)
        whatsapp.writes(LATER, "four")
        await here.pump()
        items = await until(
            here.client, "/api/v1/conversations", lambda items: any(one["last_text"] == "four" for one in items)
        )
        assert {one["contact"] for one in items} == {contact}, "one person stays one"


async def test_outside_the_window_a_template_and_what_fails_says_why(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        whatsapp = here.whatsapp
        whatsapp.clock = lambda: time.time() - DAYS_S
        whatsapp.writes(ANNA, "one")
        whatsapp.clock = time.time
        await here.pump()
        known = await here.conversation()
        assert known["window_until"] is None
        refused = await here.send(1, 422, text="hi")
        assert [one["path"] for one in refused["errors"]] == ["text"]
        items = await until(here.client, "/api/v1/templates", bool)
        assert [one["name"] for one in items] == ["order_ready"]
        use = {"name": "order_ready", "language": "ru", "values": {"body.1": "15"}}
        await here.send(2, template=use)
        await here.messages(of("Заказ 15 готов", "sent"))
        await here.pump()
        await here.messages(of("Заказ 15 готов", "delivered"))

        # Taken, and then not delivered; sent again by hand.
        whatsapp.fail_later.append(
            Refusal(131049, "This message was not delivered to maintain healthy ecosystem engagement.")
        )
        sent = await here.send(3, template={**use, "values": {"body.1": "16"}})
        await here.messages(of("Заказ 16 готов", "sent"))
        await here.pump()
        items = await here.messages(of("Заказ 16 готов", "failed"))
        assert items[-1]["error"].startswith("131049: ")
        again = await here.client.post(f"/api/v1/messages/{sent['id']}/retry")
        assert again.status_code == 200
        await here.messages(of("Заказ 16 готов", "sent"))
        assert len(whatsapp.sent) == 3

        # The connection is lost after it left: shown, not repeated, and settled by a status with our token.
        whatsapp.fault, whatsapp.fault_count = Fault.DROP_AFTER, 1
        await here.send(4, template={**use, "values": {"body.1": "17"}})
        await here.messages(of("Заказ 17 готов", "unknown"))
        await here.pump()
        items = await here.messages(of("Заказ 17 готов", "delivered"))
        assert items[-1]["provider_id"] == whatsapp.sent[-1].id
        assert len(whatsapp.sent) == 4


async def test_without_an_app_secret_it_waits_and_takes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, app_secret="") as here:
        here.whatsapp.writes(ANNA, "one")
        assert await here.post(here.whatsapp.webhooks[0]) == 403
        with trio.fail_after(20):
            while True:
                answer = await here.client.get("/api/v1/integrations")
                assert answer.status_code == 200, answer.text
                (found,) = [one for one in answer.json()["items"] if "whatsapp" in json.dumps(one)]
                if found["status"] == "pending":
                    break
                await trio.sleep(0.1)
        assert "секрет приложения" in json.dumps(found, ensure_ascii=False).lower(), "it says what is missing"
