"""Who hears of trouble in a company: addresses, chats and kinds of trouble; and a message to try it.

The same as `notify` of the tenant file, stored in the company's options. Read `actors/notices.py` for what is told and when.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import uuid4

from pydantic_core import PydanticCustomError
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from actors.notices import Plan, made_for
from adapters.base import Adapter
from adapters.registry import adapters
from gateway.domain.ids import Kind, TenantId
from gateway.domain.notices import KINDS, OF_INSTALLATION, TITLES
from gateway.notify_block import MOST_PLACES, email_address
from gateway.store.audit import difference, insert_audit
from gateway.store.notices import insert_messages
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import lock_options, set_options
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

NAME = "notify"
SHOWN = tuple(kind for kind in KINDS if kind in TITLES and kind not in OF_INSTALLATION)
"""What a company can be told of today; the others are accepted in the tenant file."""


def _able() -> dict[Kind, Adapter]:
    return {kind: one for kind, one in adapters().items() if one.notice is not None}


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text[:4000].splitlines() if line.strip()][: MOST_PLACES + 1]


def read_form(form: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What was sent, as it is stored, and by field the first value that is none."""
    values: dict[str, Any] = {}
    wrong: dict[str, str] = {}
    emails = _lines(form.get("email", ""))
    for text in emails:
        try:
            email_address(text)
        except ValueError:
            wrong.setdefault("email", text)
    values["email"] = [text.lower() for text in emails]
    for kind, adapter in _able().items():
        values[kind] = _lines(form.get(kind, ""))
        for text in values[kind]:
            assert adapter.notice is not None
            try:
                adapter.notice(text, "")
            except (ValueError, PydanticCustomError):
                wrong.setdefault(kind, text)
    for name, found in values.items():
        if len(found) > MOST_PLACES:
            wrong.setdefault(name, found[-1])
    values["when"] = [kind for kind in SHOWN if form.get(f"when.{kind}") == "1"]
    return values, wrong


async def _save(conn: Connection, number: TenantId, values: Mapping[str, Any], person: str) -> None:
    options = await lock_options(conn, number)
    before = options.get(NAME)
    kept = {name: found for name, found in values.items() if found}
    # Kinds of trouble that the page does not show stay as the file has them.
    hidden = [kind for kind in (before or {}).get("when", KINDS) if kind not in SHOWN]
    kept["when"] = [*values["when"], *hidden]
    after = kept if any(name != "when" for name in kept) else None
    if before == after:
        return
    fresh = {name: value for name, value in options.items() if name != NAME} | ({NAME: after} if after else {})
    await set_options(conn, number, fresh)
    old, new = difference(before, after)
    await insert_audit(conn, number, person, "notify.changed", "", old=old, new=new)


def notify_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/notify`."""
    pages = Blueprint("notify", __name__, url_prefix="/t/<number>/notify")
    pages.before_request(partial(look_around, gate))
    site = gate.site
    deps = site.deps

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    @pages.get("")
    async def page(number: str) -> Response:
        flash, stored = flashed("refused"), tenant().options.get(NAME) or {}
        given = flash.body["values"] if flash is not None else stored
        texts = {name: "\n".join(map(str, given.get(name, ()))) for name in ("email", *_able())}
        return site.page(
            "notify.html", texts=texts, when=given.get("when", KINDS), kinds=SHOWN, able=_able(), mail=deps.mail,
            wrong=flash.body["wrong"] if flash is not None else {}, stored=bool(stored),
            connected={kind: any(one.enabled for one in tenant().of_kind(kind)) for kind in _able()},
        )  # fmt: skip

    @pages.post("")
    async def save(number: str) -> Answer:
        values, wrong = read_form(await request.form)
        home = f"/t/{number}/notify"
        if wrong:
            flash = Flash(kind="refused", body={"values": values, "wrong": wrong})
            return await lead_on(deps, gate.token(), home, flash, tenant=tenant().number)
        await deps.db.tenant(tenant().number, _save, tenant().number, values, person())
        await deps.modules.refresh(tenant().number)
        return await lead_on(deps, gate.token(), home, note("notify.saved"), tenant=tenant().number)

    @pages.post("/test")
    async def test(number: str) -> Answer:
        who, t = tenant(), viewer().t
        plan = Plan.of(who.options.get(NAME) or {}, adapters())
        subject = t("notify.test_subject", name=who.name)
        text = f"{subject}\n\n{t('notify.test_text')}\n{deps.public_url}/t/{who.number}/notify"
        made = made_for(plan, adapters(), who, who.number, f"test {uuid4()}", subject, text, mail=deps.mail)
        await deps.db.engine(insert_messages, made)
        for one in made:
            if one.integration is not None:
                deps.ring(who.number, one.integration)
        said = note("notify.tested", n=len(made)) if made else note("notify.nobody", tone="bad")
        return await lead_on(deps, gate.token(), f"/t/{number}/notify", said, tenant=who.number)

    return pages
