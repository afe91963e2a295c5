"""An Instagram account from end to end: the same conversation as through every channel, against the strict sandbox, by both logins."""

import hashlib
import hmac
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

from tests.e2e.test_chat_files import PNG, until
from tests.e2e.world import World, open_world
from tests.sandbox.instagram import Instagram
from tests.sandbox.web import Fault

pytestmark = [pytest.mark.long]

HOOK, VERIFY, ANN = "h" * 43, "our-own-token", "99001"
M4A = b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom" + bytes(range(256)) * 400


@dataclass
class Here:
    """A company with an account, its API, and Meta."""

    world: World
    insta: Instagram
    client: httpx2.AsyncClient

    @property
    def url(self) -> str:
        return f"{self.world.intake}/hooks/instagram/{HOOK}"

    def file(self, name: str, content_type: str, content: bytes) -> dict[str, Any]:
        """An attachment's payload."""
        self.insta.files[name] = content_type, content
        return {"url": f"{self.insta.site.base}/cdn/{name}?signature=s"}

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

    async def until_so(self, is_so: Any) -> None:
        """Waits for the sandbox."""
        with trio.fail_after(20):
            while not is_so():
                await trio.sleep(0.05)


@asynccontextmanager
async def opened(folder: Path, login: str, **changes: Any) -> AsyncIterator[Here]:
    insta = Instagram(login=login, now=time.time())
    async with trio.open_nursery() as nursery:
        url = await nursery.start(insta.serve)
        urls = json.dumps({"instagram": url, "telegram": url})
        async with open_world(
            folder, GATEWAY_PROVIDER_URLS=urls, GATEWAY_PUBLIC_URL="https://gateway.example"
        ) as world:
            account = {
                "page_id": insta.account, "access_token": insta.token, "app_secret": insta.secret, "webhook_verify_token": VERIFY,
                "hook_id": HOOK, "login": login, **changes,
            }  # fmt: skip
            await world.apply(world.tenant(integrations={"instagram": account}))
            said = await world.gateway.ask(
                "api-key", "create", "0367", "--name", "test", "--scope", "chat", "--scope", "read"
            )
            key = next(line for line in said.split() if len(line) > 30)
            async with httpx2.AsyncClient(
                trust_env=False, base_url=world.url, headers={"X-API-Key": key}, timeout=20
            ) as client:
                yield Here(world, insta, client)
        nursery.cancel_scope.cancel()


def of(text: str, status: str) -> Any:
    return lambda items: any(one["text"] == text and one["status"] == status for one in items)


@pytest.mark.parametrize("login", ["instagram", "facebook"])
async def test_a_whole_conversation(tmp_path: Path, login: str) -> None:
    async with opened(tmp_path, login) as here:
        insta = here.insta
        await here.until_so(lambda: "messages" in insta.subscriptions)
        if login == "instagram":
            await here.until_so(lambda: insta.token.startswith("IGAA-renewed"))
        assert not await insta.register(here.url, "another")
        assert await insta.register(here.url, VERIFY)

        # What a client sends.
        insta.add(ANN, "ann.k")
        began = trio.current_time()
        hello = await insta.write(ANN, "Здравствуйте 👋")
        pictured = await insta.write(ANN, attachments=[{"type": "image", "payload": here.file("a", "image/png", PNG)}])
        await insta.write(ANN, attachments=[{"type": "audio", "payload": here.file("b", "audio/mp4", M4A)}])
        await insta.write(ANN, "сколько?", reply_to={"story": {"id": "17", **here.file("c", "image/png", PNG)}})
        await insta.write(ANN, is_unsupported=True)
        assert await insta.call_webhook(insta.deliveries[-1]) == 200, "and once more"
        items = await here.messages(
            lambda items: (
                len(items) == 5
                and [file["state"] for one in items[1:4] for file in one["attachments"]] == ["stored"] * 3
            )
        )
        print(f"\nfive messages, three with files, stood in the conversation after {trio.current_time() - began:.2f} s")
        assert [one["text"] for one in items] == ["Здравствуйте 👋", "", "", "сколько?", ""]
        picture, voice, story = (one["attachments"][0] for one in items[1:4])
        assert (await here.client.get(picture["url"])).content == (await here.client.get(story["url"])).content == PNG
        assert (await here.client.get(voice["url"])).content == M4A
        assert "does not pass on" in items[4]["attachments"][0]["name"]
        (known,) = await until(here.client, "/api/v1/conversations", lambda found: found[0]["name"])
        assert known["name"] == "Ann Kuzmina"
        assert known["window_until"] is not None

        # What we answer, with echoes of all of it, and what becomes of it.
        await here.send(1, text="Добрый день")
        long = "слово " * 600
        await here.send(2, text=long, reply_to=items[0]["id"])
        added = (
            await here.client.post("/api/v1/files", files={"file": ("цены.pdf", b"%PDF-1.7 " + PNG, "application/pdf")})
        ).json()
        await here.send(3, text="прайс", attachments=[added["id"]])
        await here.messages(of("прайс", "sent"))
        sent = insta.members[ANN].messages
        assert [("attachment" if "attachment" in one else "text") for one in sent] == ["text"] * 9 + ["attachment"]
        assert " ".join(one["text"] for one in sent[1:8]).split() == long.split()
        assert sent[-1]["attachment"]["type"] == "file"
        assert sent[-1]["attachment"]["payload"]["url"].startswith("https://gateway.example/")
        insta.now = time.time()
        await insta.see(ANN, sent[-1]["mid"])
        items = await here.messages(lambda items: [one["status"] for one in items[5:]] == ["read"] * 3)
        assert len(items) == 8, "no echo is a message of its own"
        await here.until_so(lambda: "mark_seen" in insta.members[ANN].actions)

        # Liked, edited, taken back, answered in the app.
        await insta.react(ANN, sent[0]["mid"], "👍")
        await insta.report([insta.item(ANN, message_edit={"mid": hello, "text": "Добрый вечер", "num_edit": 1})])
        await insta.unsend(ANN, pictured)
        await insta.answer(ANN, "ответил из приложения")
        items = await here.messages(lambda items: len(items) == 10)
        assert items[8]["attachments"][0]["name"] == "reaction 👍"
        assert items[8]["reply_to"] == items[5]["id"]
        assert [change["kind"] for one in items[:2] for change in one["changes"]] == ["edited", "deleted"]
        assert (items[9]["author"], items[9]["text"]) == ("elsewhere", "ответил из приложения")

        # Forged, cut, enormous; the test button; what another application answers.
        body = insta.deliveries[-1]
        assert await insta.call_webhook(body, "0" * 64) == 403
        assert await insta.call_webhook(body[:-2]) == 422
        assert await insta.call_webhook(bytes((1 << 20) + 1)) == 413
        button = {
            "object": "instagram",
            "entry": [{"id": "0", "time": 1, "changes": [{"field": "messages", "value": {}}]}],
        }
        assert await insta.call_webhook(json.dumps(button).encode()) == 200
        await insta.report([insta.item(ANN, message={"mid": "theirs", "text": "not for us"})], under="standby")
        bad, good = (
            {"sender": {"id": ANN}, "message": {"mid": "bad"}},
            insta.item(ANN, message={"mid": "good", "text": "дальше"}),
        )
        await insta.report([bad, good])
        items = await here.messages(lambda items: len(items) == 11)
        assert items[10]["text"] == "дальше", "one bad item holds up no other"
        assert len((await here.client.get("/api/v1/conversations")).json()["items"]) == 1
        assert insta.violations == []


async def test_what_fails_says_why_and_what_is_lost_on_its_way_is_settled_by_its_echo(tmp_path: Path) -> None:
    async with opened(tmp_path, "instagram") as here:
        insta = here.insta
        await here.until_so(lambda: "messages" in insta.subscriptions)
        assert await insta.register(here.url, VERIFY)
        insta.add(ANN)
        await insta.write(ANN, "one")
        await here.messages()

        # The connection is lost after it left: it is not repeated, and its echo settles it.
        insta.fault = Fault.DROP_AFTER
        await here.send(1, text="lost and found")
        await here.messages(of("lost and found", "sent"))
        insta.echoes, insta.fault = False, Fault.DROP_AFTER
        await here.send(2, text="lost")
        await here.messages(of("lost", "unknown"))
        assert [one["text"] for one in insta.members[ANN].messages] == ["lost and found", "lost"]
        late = insta.members[ANN].messages[-1]
        await insta.report([insta.echo(ANN, {"mid": late["mid"], "text": "lost"})])
        items = await here.messages(of("lost", "sent"))
        assert len(items) == 3

        # Gone: said in words, and sent again by hand.
        insta.members[ANN].gone = True
        sent = await here.send(3, text="hello?")
        items = await here.messages(of("hello?", "failed"))
        assert items[-1]["error"].startswith("551: ")
        insta.members[ANN].gone = False
        assert (await here.client.post(f"/api/v1/messages/{sent['id']}/retry")).status_code == 200
        await here.messages(of("hello?", "sent"))

        # A day later by the client's clock nothing can be sent, and nobody can be written to first.
        insta.add("99002")
        insta.now -= 2 * 86_400
        await insta.write("99002", "long ago")
        insta.now += 2 * 86_400
        found = await until(here.client, "/api/v1/conversations", lambda items: len(items) == 2)
        (old,) = [one for one in found if one["last_text"] == "long ago"]
        refused = await here.client.post(
            f"/api/v1/conversations/{old['id']}/messages", json={"client_id": "x", "text": "hi"}
        )
        assert refused.status_code == 422
        assert "24 " in refused.text
        first = await here.client.post(
            "/api/v1/messages", json={"channel": "instagram", "to": "99003", "text": "buy", "client_id": "y"}
        )
        assert first.status_code == 422
        assert insta.violations == []


async def test_without_an_app_secret_it_waits_and_takes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path, "instagram", app_secret="") as here:
        body = json.dumps(here.insta.webhook_of([here.insta.item(ANN, message={"mid": "m", "text": "one"})])).encode()
        here.insta.webhook = here.url
        for secret in (b"", here.insta.secret.encode()):
            assert await here.insta.call_webhook(body, hmac.new(secret, body, hashlib.sha256).hexdigest()) == 403
        with trio.fail_after(20):
            while True:
                items = (await here.client.get("/api/v1/integrations")).json()["items"]
                (found,) = [one for one in items if "instagram" in json.dumps(one)]
                if found["status"] == "pending":
                    break
                await trio.sleep(0.1)
        assert "секрет приложения" in json.dumps(found, ensure_ascii=False).lower(), "it says what is missing"
        assert (await here.client.get("/api/v1/conversations")).json()["items"] == []
