"""A new messenger and a new CRM go the whole way without a line changed elsewhere: form, login, webhook, session, delivery, job."""

import hashlib
import hmac
import html
import json
import os
import re
from pathlib import Path

import httpx2
import pytest
import trio
import yaml

from tests.e2e.world import World, open_world
from tests.gate.sandboxes import Ledger, Pigeon

ROOT = Path(__file__).parents[2]
PACKAGES = Path(__file__).parent / "packages"
SIGNING_KEY = "a-signing-key-of-the-pigeon-0123456789"
APP_SECRET, VERIFY_TOKEN = "the-secret-of-our-pigeon-app", "a-word-for-the-handshake"
NUMBER = "/t/0367/integrations"


def test_nothing_else_knows_them() -> None:
    """The two names stand in no file of the program, its texts, its migrations or its documents."""
    for folder in ("gateway", "actors", "adapters", "migrations", "docs", "systemd"):
        for path in (ROOT / folder).rglob("*"):
            if (
                path.suffix in (".py", ".toml", ".html", ".js", ".css", ".sql", ".md")
                and "__pycache__" not in path.parts
            ):
                assert not re.search(r"pigeon|ledger", path.read_text("utf-8"), re.IGNORECASE), path


class Person:
    """A browser without a window: cookies, forms with their hidden fields."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        self.client = client
        self.url = url

    async def get(self, path: str, status: int = 200) -> str:
        answer = await self.client.get(path if "://" in path else f"{self.url}{path}", follow_redirects=True)
        assert answer.status_code == status, (path, answer.status_code, answer.text[:500])
        return html.unescape(answer.text)

    async def post(self, path: str, page: str, **fields: str) -> httpx2.Response:
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)
        assert csrf is not None
        return await self.client.post(f"{self.url}{path}", data={"csrf": csrf[1], **fields}, follow_redirects=False)


def hidden(page: str, name: str) -> str:
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found is not None, f"no field {name}"
    return found[1]


async def call(world: World, unique_id: str, phone: str = "+375296254070") -> None:
    fields = {"UniqueId": unique_id, "CallerIDNum": phone, "Extensions": ["150"], "CallType": 0}
    for address in ("/dial", "/bridge", "/hangup"):
        status = {"CallStatus": "2"} if address == "/hangup" else {}
        assert (await world.post(address, **fields, **status)).status_code == 200


async def logged(world: World, part: str) -> int:
    query = "SELECT count(*) FROM integration_logs WHERE integration_type = 'pigeon' AND event_type = 'incoming' AND request_data LIKE $1"
    return int(await world.look(query, f"%{part}%"))


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.pathsep.join(filter(None, (str(PACKAGES), os.environ.get("PYTHONPATH", ""))))
    monkeypatch.setenv("PYTHONPATH", path)
    pigeon, ledger = Pigeon(), Ledger()
    apps = tmp_path / "apps.yaml"
    apps.write_text(
        yaml.safe_dump(
            {
                "ledger": {"client_id": Ledger.CLIENT_ID, "client_secret": Ledger.CLIENT_SECRET},
                "pigeon": {"app_secret": APP_SECRET, "verify_token": VERIFY_TOKEN},
                "meta": {"app_id": 1234567890, "app_secret": "of-meta", "verify_token": "of-meta-too"},
            }
        )
    )
    async with trio.open_nursery() as nursery, open_world(tmp_path, GATEWAY_APPS_FILE=str(apps)) as world:
        pigeon_url, ledger_url = await nursery.start(pigeon.serve), await nursery.start(ledger.serve)
        async with httpx2.AsyncClient(trust_env=False, timeout=20) as client:
            client.cookies.set("language", "en")
            person = Person(client, world.url)
            await world.gateway.ask("user", "add", "anna@june.example", "--tenant", "0367", stdin="four calm otters\n")
            await person.get(await world.gateway.ask("user", "link", "anna@june.example", "--tenant", "0367"))
            await set_up(person, pigeon_url, ledger_url)
            await sign_in_to_pigeon(person, pigeon)
            await sign_in_to_ledger(person, ledger)
            await deliveries(world, pigeon, ledger)
            await webhook(world, client)
            await shared_webhook(world, client, person, pigeon_url)
            await session(world, person, pigeon, pigeon_url)
            await world.wait_for(lambda: ledger.stages_read >= 1, 30)
            page = await person.get(NUMBER)
            assert "Pigeon" in page
            assert "Ledger" in page
            matrix = await world.get("/integrations/0367")
            assert (matrix["integrations"]["pigeon"], matrix["integrations"]["ledger"]) == (True, True)
            assert ledger.violations == []
            written = (world.folder / "gateway.log").read_text()
            for secret in (
                pigeon.token,
                ledger.access,
                ledger.refresh,
                Ledger.CLIENT_SECRET,
                SIGNING_KEY,
                APP_SECRET,
                VERIFY_TOKEN,
            ):
                assert secret not in written
                assert (
                    await world.look(
                        "SELECT count(*) FROM integration_logs WHERE concat(request_data, response_data) LIKE $1",
                        f"%{secret}%",
                    )
                    == 0
                )
        nursery.cancel_scope.cancel()


async def save(person: Person, key: str, **fields: str) -> None:
    page = await person.get(f"{NUMBER}/{key}")
    answer = await person.post(f"{NUMBER}/{key}/settings", page, anyway="1", **fields)
    assert answer.status_code == 303, answer.text[:2000]
    assert "aria-invalid" not in await person.get(str(answer.headers["location"]).partition("#")[0])
    with trio.fail_after(10):
        while "is not set up" in await person.get(f"{NUMBER}/{key}"):
            await trio.sleep(0.1)


async def set_up(person: Person, pigeon_url: str, ledger_url: str) -> None:
    """Their forms, drawn from their settings classes."""
    page = await person.get(f"{NUMBER}/pigeon")
    for name in ("address", "room", "signing_key", "poll", "hook_id"):
        assert f'name="{name}"' in page
    bad = await person.post(f"{NUMBER}/pigeon/settings", page, address="not an address", signing_key=SIGNING_KEY)
    assert bad.status_code == 303
    assert "aria-invalid" in await person.get(str(bad.headers["location"]).partition("#")[0])
    await save(person, "pigeon", address=pigeon_url, room="calls", signing_key=SIGNING_KEY)
    await save(person, "ledger", address=ledger_url, makes="deal")  # with the installation's application


async def sign_in_to_pigeon(person: Person, pigeon: Pigeon) -> None:
    """A phone, a wrong code, the code; a step that is sent twice is done once."""
    login = f"{NUMBER}/pigeon/login"

    async def step(**fields: str) -> httpx2.Response:
        return await person.post(
            login, page, transaction=hidden(page, "transaction"), step=hidden(page, "step"), **fields
        )

    begun = await person.post(login, await person.get(login))
    page = await person.get(str(begun.headers["location"]))
    assert "Whose account is it?" in page
    refused = await step(**{"s.phone": "call me"})
    assert "aria-invalid" in await person.get(str(refused.headers["location"]))
    assert (await step(**{"s.phone": "+375291112233"})).status_code == 303
    assert (await step(**{"s.phone": "+375291112233"})).status_code == 303
    assert len(pigeon.tickets) == 1, "the second click did nothing"
    page = await person.get(str(begun.headers["location"]))
    assert "Enter the code" in page
    assert (await step(**{"s.code": "11111"})).status_code == 303
    page = await person.get(str(begun.headers["location"]))
    assert "That is not the code." in page
    done = await step(**{"s.code": pigeon.code})
    assert (done.status_code, str(done.headers["location"]).partition("?")[0]) == (303, f"{NUMBER}/pigeon")
    assert pigeon.logins == 1
    assert (await person.client.get(f"{person.url}{begun.headers['location']}")).status_code == 410


async def sign_in_to_ledger(person: Person, ledger: Ledger) -> None:
    """There and back by redirects; what comes back twice, or to another session, changes nothing."""
    page = await person.get("/oauth/ledger/start?integration=ledger")
    begun = await person.post(f"{NUMBER}/ledger/login", page)
    led = await person.client.get(f"{person.url}{begun.headers['location']}")
    away = led.headers["refresh"].partition("url=")[2]
    assert away.startswith("http://127.0.0.1:")
    back = await person.client.get(away, follow_redirects=False)
    returned = str(back.headers["location"])
    assert returned.startswith(f"{person.url}/oauth/ledger/callback?")
    async with httpx2.AsyncClient(trust_env=False) as stranger:
        assert (await stranger.get(returned)).status_code == 401
    assert (await person.client.get(returned.replace("state=", "state=x"))).status_code == 410
    done = await person.client.get(returned)
    assert (done.status_code, str(done.headers["location"]).partition("?")[0]) == (303, f"{NUMBER}/ledger")
    assert (await person.client.get(returned)).status_code == 410
    assert ledger.exchanges == 1


async def deliveries(world: World, pigeon: Pigeon, ledger: Ledger) -> None:
    """A call's note and record; an access token that ends is traded once, and the client is made once."""
    await call(world, "900.1")
    await world.wait_for(lambda: bool(pigeon.notes), 30)
    assert (
        pigeon.notes == [{"room": "calls", "text": "+375296254070 -> 150: answered"}]
        or pigeon.notes[0]["room"] == "calls"
    )
    await world.wait_for(lambda: "900.1:call" in ledger.calls, 30)
    ledger.access = "ended-over-there"
    await call(world, "900.2")
    await world.wait_for(lambda: "900.2:call" in ledger.calls, 30)
    assert (ledger.exchanges, len(ledger.spent)) == (2, 1)
    assert ledger.calls["900.1:call"]["client"] == ledger.calls["900.2:call"]["client"] == "1"
    assert ledger.calls["900.1:call"]["as"] == "deal"


async def webhook(world: World, client: httpx2.AsyncClient) -> None:
    """Handshake, signature, durable, known again."""
    export = yaml.safe_load(await world.gateway.ask("export", "0367", "--reveal"))
    hook = f"{world.intake}/hooks/pigeon/{export['tenants'][0]['integrations']['pigeon']['hook_id']}"
    assert (await client.get(hook, params={"challenge": "42"})).text == "42"
    body = json.dumps([{"number": 70_001, "text": "прилетело"}]).encode()
    right = hmac.new(SIGNING_KEY.encode(), body, hashlib.sha256).hexdigest()

    async def send(signature: str) -> tuple[int, str]:
        answer = await client.post(hook, content=body, headers={"X-Pigeon-Signature": signature})
        return answer.status_code, answer.text

    assert [await send(right), await send(right), await send("0" * 64)] == [(200, "coo"), (200, "coo"), (403, "")]
    with trio.fail_after(20):
        while not await logged(world, "прилетело"):
            await trio.sleep(0.1)
    assert await logged(world, "прилетело") == 1


async def shared_webhook(world: World, client: httpx2.AsyncClient, person: Person, address: str) -> None:
    """One address for all accounts of the installation's application; an account can be entered once."""
    fields = {"address": address, "room": "calls", "signing_key": "***", "token": "***", "hook_id": "***"}
    await save(person, "pigeon", account="70-1", **fields)
    page = await person.get(f"{NUMBER}/pigeon:second")
    taken = await person.post(
        f"{NUMBER}/pigeon:second/settings", page, anyway="1", address=address, signing_key=SIGNING_KEY, account=" 70-1"
    )
    assert "can be connected once" in await person.get(str(taken.headers["location"]).partition("#")[0])
    hook = f"{world.intake}/hooks/pigeon"
    assert (await client.get(hook, params={"challenge": "7", "token": VERIFY_TOKEN})).text == "7"
    assert (await client.get(hook, params={"challenge": "7", "token": "x"})).status_code == 403

    async def send(letters: object, key: str = APP_SECRET) -> int:
        body = json.dumps(letters).encode()
        signed = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        return (await client.post(hook, content=body, headers={"X-Pigeon-Signature": signed})).status_code

    ours, another = [{"number": 75_001, "text": "shared letter"}], [{"number": 75_002, "text": "nobody's letter"}]
    assert await send({"70-1": ours, "70-2": another}, SIGNING_KEY) == 403
    with trio.fail_after(20):
        while not await logged(world, "shared letter"):
            assert await send({"70-2": another, "70-1": ours}) == 200
            await trio.sleep(0.1)
    assert await logged(world, "shared letter") == 1
    assert await logged(world, "nobody's letter") == 0
    assert (await world.get("/stats"))["counters"]["hooks_unknown"] >= 1


async def session(world: World, person: Person, pigeon: Pigeon, address: str) -> None:
    """The same by a stream that the client reads."""
    await save(person, "pigeon", address=address, room="calls", signing_key="***", token="***", hook_id="***", poll="1")
    pigeon.write(80_001, "прочитано")
    with trio.fail_after(30):
        while not await logged(world, "прочитано"):
            await trio.sleep(0.1)
