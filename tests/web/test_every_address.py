"""Every address that the app has, walked from its own map: pages, documents, fragments, and every POST, in both languages.

Nothing here names an address but those that cannot be filled from the world: one that somebody adds is walked too, and one
with an argument that nobody knows fails the test until it is given a value.
"""

import html
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
import trio

from adapters.registry import adapters, integrations
from gateway.domain.configuration import Tenant
from gateway.domain.events import Result
from gateway.domain.ids import Kind
from gateway.domain.profile import Profile
from gateway.domain.text import Bilingual
from gateway.store import members, messages, users
from gateway.store.audit import insert_audit
from gateway.store.business_profiles import upsert_profile
from gateway.store.call_orders import NewOrder, admit, finish_order
from gateway.store.catalog_items import upsert_items
from gateway.store.dead_letters import DeadLetterRow, insert_dead_letters
from gateway.store.files.blobs import FolderBlobs
from gateway.store.files.recording_files import RecordingFiles
from gateway.store.outbox import Outcome
from gateway.store.postgres.pool import Connection
from gateway.web.api.crm_callbacks import callback_addresses
from gateway.web.api.extensions import ModuleCallers, module_addresses
from gateway.web.api.uploads import upload_addresses
from gateway.web.content.catalog import read_item
from gateway.web.content.prompts import save_version
from gateway.web.http.hypercorn_server import mount
from tests.sound import wav
from tests.web.api.held_gateway import Gateway
from tests.web.api.test_crm_callbacks import Here
from tests.web.chats import fill_chats
from tests.web.deals import fill_deals
from tests.web.orders import fill_orders
from tests.web.world import CSRF, HASHED, JUNE, World, answered, ended, play, ringing

LANGUAGES = ("en", "ru")
PROMPTS: dict[str, str] = {}
"""The id of the prompt of this test's company."""
STREAMS = frozenset(
    {"/t/<number>/calls/live", "/t/<number>/inbox/live", "/t/<number>/orders/live", "/t/<number>/alerts"}
)
"""They do not end by themselves."""


class Place:
    """The app with all of its addresses over a world with something of everything, and what fills their arguments."""

    def __init__(self, app: Any, world: World, arguments: Mapping[str, Mapping[str, str]]) -> None:
        self.app, self.world, self.arguments = app, world, arguments

    def path(self, rule: Any) -> str:
        """A rule's address with its arguments filled in."""
        path = str(rule.rule)
        for name in rule.arguments:
            known = self.arguments[name]
            value = next((value for mark, value in known.items() if mark in path), known[""])
            path = re.sub(rf"<(?:[^<>:]+:)?{name}>", value, path)
        return path

    def rules(self, method: str) -> list[Any]:
        """Those that take a method."""
        return [rule for rule in self.app.url_map.iter_rules() if method in (rule.methods or ())]


PROMPT = "# Role\nYou are {{business_name}}. {{nobody}}\n# Rules\nBe kind.\n"


async def _fill(conn: Connection) -> None:
    june = Tenant(JUNE, "June", ZoneInfo("Europe/Minsk"), "BY", "ru")
    hours = [
        {"days": ["mon", "tue"], "from": "09:00", "to": "18:00"},
        {"days": ["sat"], "from": "10:00", "to": "26:00"},
    ]
    await upsert_profile(conn, JUNE, Profile.model_validate({"working_hours": hours, "holidays": ["2026-12-31"]}))
    await upsert_items(
        conn,
        JUNE,
        [read_item({"id": "main", "name": "Anna", "price": "12.50", "image_url": "https://june.example/a.jpg"}, "BYN")],
    )
    for content in (PROMPT.replace("{{nobody}}", ""), PROMPT):
        saved = await save_version(conn, june.number, "main", content, (), "", "admin@june.example")
    PROMPTS["id"] = saved.prompt.prompt_id
    from gateway.domain.dialling import Rules

    order = NewOrder(
        order_id="gw-1", call_id="gw-1", pbx="main", asked_by="retailcrm", extension="150", number="+375296254071"
    )
    await admit(conn, JUNE, order, Rules())
    await finish_order(conn, JUNE, order.order_id, "refused", "no_device")
    for action, target, detail in (
        ("config.changed", "retailcrm", "api_key: *** -> *** changed, domain"), ("config.changed", "telegram", "enabled: true"),
        ("pbx.changed", "main", "host, secret: *** -> *** changed"), ("call.refused", "150 -> +7916", "not_allowed"),
        ("status.set", "19", "dinner"), ("extensions.saved", "retailcrm", "19: - -> 150"), ("phone.saved", "150", "Anna"),
    ):  # fmt: skip
        await insert_audit(conn, JUNE, "admin@june.example", action, target, detail)


@pytest.fixture
async def place(world: World, tmp_path: Path) -> Place:
    calls = await play(world)
    recording_files = RecordingFiles(
        world.db, FolderBlobs(tmp_path / "recordings", trio.CapacityLimiter(4)), tmp_path / "in", world.cache.sealer
    )
    recording_files.clean_spool()
    sound = ringing(world.call_id(), datetime.now(UTC), "+375291110000", "100", ["150"])
    await world.keep(JUNE, [sound, answered(sound, "150"), ended(sound, 10, Result.ANSWERED, "150")],
                     [{"integration": Kind("retailcrm"), "kind": kind} for kind in ("in", "hangup", "upload")])  # fmt: skip
    await world.deliver(
        JUNE, "retailcrm", Outcome(state="failed", status="failed", error="400", request="x", response="y")
    )
    async with await recording_files.new_file() as incoming:
        await incoming.write(wav(2.0))
        await recording_files.keep(JUNE, await incoming.finish("a.wav"), sound.call_id, [], "a.wav")
    await world.db.tenant(JUNE, _fill)
    await world.db.engine(
        insert_dead_letters, [DeadLetterRow(JUNE, "tenant/0367", '{"x": 1}', "ValueError: a bug")], "1.0"
    )
    here, gateway = Here(), Gateway()

    def nobody(token: str | None) -> Tenant | None:
        return None

    addresses = gateway.addresses(
        *callback_addresses(here.deps(), integrations()),
        *module_addresses(ModuleCallers(world.deps.modules, secure_cookies=False)),
        *upload_addresses(recording_files, nobody),
    )
    app = world.app_with(recording_files=recording_files, mounts=(partial(mount, addresses=addresses),))
    await world.db.engine(users.upsert_user, JUNE, "second@0367.example", HASHED)
    person = (await world.db.engine(members.list_members, JUNE))[1]
    chats = await fill_chats(world)
    orders = await fill_orders(world, chats, "main")
    await fill_deals(world, "main")
    said = await world.db.tenant(JUNE, messages.select_messages, JUNE, chats.anna, 1)
    recording = str(recording_files.signer(JUNE).recording_id(sound.call_id))
    return Place(app, world, {
        "number": {"": "0367"}, "kind": {"": "retailcrm"}, "key": {"": "retailcrm"}, "call_id": {"": calls[5].call_id},
        "name": {"/static/": "style.css", "/recordings/": recording, "/pbxes/": "main", "/deals/": "main", "": "main"},
        "recording": {"": recording}, "user_id": {"": str(person.user_id)}, "item": {"": "main"},
        "prompt": {"": PROMPTS["id"]}, "chat": {"": str(chats.anna)}, "contact": {"": str(chats.contact)}, "reply": {"": str(chats.reply)},
        "message": {"": str(said[0].id)}, "action": {"": "take"}, "ident": {"": str(orders.order)},
    })  # fmt: skip


QUERIES = {
    "/t/<number>/phones/remove": "number=150", "/t/<number>/keys/revoke": "hint=", "/login/once": "token=x",
    "/t/<number>/extensions": "edit=150", "/welcome": "token=x", "/login": "another=1", "/t/<number>/orders": "view=list", "/t/<number>/orders/part": "view=list", "/t/<number>/orders/new": "kind=booking", "/t/<number>/integrations/another": "kind=telegram&name=support",
}  # fmt: skip


async def everything(place: Place, language: str, session: str | None) -> dict[str, tuple[int, str, str]]:
    """What every GET answers: the rule to status, kind of content, and text."""
    client = place.app.test_client()
    if session is not None:
        client.set_cookie("localhost", "session", session)
    client.set_cookie("localhost", "language", language)
    found = {}
    for rule in place.rules("GET"):
        if str(rule.rule) in STREAMS:
            continue
        for query in dict.fromkeys(("", QUERIES.get(str(rule.rule), ""))):
            answer = await client.get(place.path(rule) + (f"?{query}" if query else ""))
            found[f"{rule.rule} {query}".strip()] = (
                answer.status_code, answer.content_type or "", (await answer.get_data()).decode("utf-8", "replace")
            )  # fmt: skip
    return found


@pytest.mark.slow
@pytest.mark.parametrize("language", LANGUAGES)
async def test_every_page_and_document_opens(place: Place, language: str) -> None:
    for session in (None, await place.world.session(JUNE), await place.world.session(None, acting=JUNE)):
        answers = await everything(place, language, session)
        broken = {rule: status for rule, (status, _, _) in answers.items() if status >= 500 and rule not in ("/ready",)}
        assert broken == {}
    shown = {rule for rule, (status, kind, _) in answers.items() if status == 200 and kind.startswith("text/html")}
    assert len(shown) > 25
    assert {"/api/docs", "/t/<number>/calls/<path:call_id>", "/t/<number>/pbxes/<name>", "/operators/actors"} <= shown


FORMS: Mapping[str, Mapping[str, str]] = {
    "": {},
    "empty": {"name": "", "number": "", "phone": "", "extension": "", "bot_token": "", "s.host": "", "do": "register"},
    "odd": {"name": "new", "number": "12a", "phone": "x", "extension": "999", "domain": "ftp://x", "s.host": "a b",
            "s.number_format": "other", "do": "delete", "hint": "x", "letter": "1", "tenant": "0367", "user_extensions": "a = 1"},
    "sure": {"sure": "1", "number": "153", "hint": "none", "do": "deactivate", "enabled": "1", "name": "third", "scope": "call",
             "s.host": "198.51.100.7", "s.username": "u", "s.secret": "p", "as_of": "2020-01-01T00:00:00+00:00"},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
async def test_every_form_leads_on_and_the_page_behind_it_takes_a_change_of_language(place: Place, form: str) -> None:
    """No POST of a page is answered by a page: what comes is a redirect, or a refusal of the request itself."""
    ours = [rule for rule in place.rules("POST") if str(rule.rule).startswith(("/t/", "/operators", "/preferences"))]
    assert len(ours) > 20
    for rule in ours:
        client = place.app.test_client()
        client.set_cookie("localhost", "session", await place.world.session(None, acting=JUNE))
        client.set_cookie("localhost", "language", "en")
        answer = await client.post(place.path(rule), form={**FORMS[form], "csrf": CSRF})
        assert answer.status_code in (303, 400, 404), (rule.rule, answer.status_code)
        if answer.status_code != 303:
            continue
        page = await client.get(answer.location.partition("#")[0])
        text = await page.get_data(as_text=True)
        assert page.status_code in (200, 303, 404), (rule.rule, answer.location)
        if page.status_code != 200:
            continue
        onward = re.search(r'name="next" value="([^"]+)"', text)
        assert onward is not None
        assert re.search('<nav id="menu" aria-label="(Sections|Разделы)">', text)
        changed = await client.post(
            "/preferences", form={"csrf": CSRF, "language": "ru", "next": html.unescape(onward[1])}
        )
        again = await client.get(changed.location)
        assert again.status_code in (200, 404), (rule.rule, changed.location)  # 404: removed by this very form


# What is read -------------------------------------------------------------------------------------------------------

SYSTEMS = {re.escape(one.title) for one in adapters().values() if not isinstance(one.title, Bilingual)}
# Names, examples and words of other systems, which no language changes; and what outside systems answered.
SAME = re.compile(
    rf"{'|'.join(sorted(SYSTEMS))}|"
    r"Asterisk(?: Call Manager/[\d.]+)?|API|PBX|CRM|HTTP\S*|AMI|OpenAI|TLS|JSON|CSV|PostgreSQL|IT|KiB|MiB|"
    r"@BotFather|AAE…|Maple|June|Ltd|EN|RU|English|Русский|UTC|id|Gateway|main|pjsip\.conf|manager\.conf|"
    r"Caller|https?://\S+|\S+@\S+|\S*[_./\\{}<>=]\S*|[a-z]+-\d+|plus|e-mail|Latin|"
    r"BYN|CSV|UTF|Windows|asterisk -rx 'manager reload'|gateway apply|write = reporting|from-internal|sales|Anna|anna_k|support|bitrix24(?::2)?"
)


def visible(page: str) -> list[str]:
    """The pieces of text that a person reads: between tags, and in labels and hints; without code, times and lists of
    names that people or systems gave."""
    body = re.sub(r"(?s)<(script|style|pre|code|textarea|noscript)\b.*?</\1>", " ", page.partition("<body")[2])
    body = re.sub(r'(?s)<(\w+)[^>]*\bclass="[^"]*(?:number|owner|ext|mail|detail|whose[\w-]*|email|brand|error|detail|heard|name|about|c-line)'
                  r'[^"]*"[^>]*>.*?</\1>', " ", body)  # fmt: skip
    body = re.sub(
        r"(?s)<title>.*?</title>|<option\b[^>]*>\d.*?</option>|<option>.*?</option>|<time\b.*?</time>", " ", body
    )
    attributes = re.findall(r'(?:aria-label|title|placeholder)="([^"]*)"', body)
    pieces = re.sub(r"<[^>]+>", "\n", body).split("\n") + attributes
    return [text for piece in pieces if (text := html.unescape(piece).strip())]


@pytest.mark.slow
async def test_each_page_is_wholly_in_one_language_and_shows_no_raw_code(place: Place) -> None:
    session = await place.world.session(None, acting=JUNE)
    foreign: dict[str, list[str]] = {}
    for language, letters in (("ru", r"[A-Za-z]{3,}"), ("en", r"[А-Яа-яё]{2,}")):
        for rule, (status, kind, page) in (await everything(place, language, session)).items():
            if status != 200 or not kind.startswith("text/html") or rule == "/api/docs":
                continue
            for piece in visible(page):
                people = re.sub(r"[А-ЯЁ][а-яё]+ [А-ЯЁ][а-яё]+", " ", piece) if language == "en" else piece
                if re.search(letters, SAME.sub(" ", people)):
                    foreign.setdefault(f"{language} {rule}", []).append(piece)
                if re.fullmatch(r"[a-z]+(?:[_.][a-z]+)+", piece) and "@" not in piece and piece != "anna_k":
                    foreign.setdefault(f"{language} {rule}", []).append(piece)
    assert foreign == {}


async def test_an_unknown_recording_is_no_error_of_ours(place: Place) -> None:
    client = place.app.test_client()
    assert (await client.get(f"/recordings/file/{uuid4()}")).status_code in (401, 404)
    assert UUID(place.arguments["recording"][""])
