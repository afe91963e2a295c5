"""Internal numbers: who of an outside system's users has which, and the company's numbers themselves.

One page in two places: below `/t/<number>/extensions` for people, who also edit the numbers, and below `/<kind>-admin/`
for whoever came by the module's link and sees nothing else. What is saved here is saved there in the same step, or the
page shows why it waits. No outside system is known here by name. A little over 400 lines, since both places are one
page. Read `actors/crm/registration.py` for the operations.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from urllib.parse import urlencode

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from actors.crm.registration import Reading, Registrations, Saved, Synced, SyncResult, registered_as
from actors.crm.registration_changes import StoredMap
from adapters.abilities import CrmUser, statuses_of
from adapters.base import Adapter
from adapters.registry import Linked
from gateway.domain.configuration import Phone, is_device_name
from gateway.domain.extensions import differences
from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.internal_numbers import InternalNumberRules, wrong_with
from gateway.domain.posts import Invalid
from gateway.domain.text import has_control, texts_of
from gateway.store.audit import difference, insert_audit
from gateway.store.crm_registrations import StatusLine, select_phones
from gateway.store.postgres.pool import Connection
from gateway.store.tenants import delete_phone, select_phone, upsert_phone
from gateway.web.pages.confirm import confirm_page
from gateway.web.pages.integrations import pbx_card, slots_of
from gateway.web.pages.module_home import add_home, home_of
from gateway.web.session.auth import Gate
from gateway.web.session.embedded import ModuleGate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, Site, tenant, viewer

PAGE = 50
MOST_OFFERED = 20
"""Unlisted numbers that the page offers to add."""
_NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
"""What may be removed; `internal_numbers` defines what may be saved."""
_LONGEST_OWNER = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One user as the page shows them."""

    user: CrmUser
    number: str = ""
    theirs: str | None = None
    """The number over there where it differs, empty for none; None where both agree."""
    unknown: bool = False
    """The other side does not know this user."""
    not_exist: bool = False
    """The other side reported that this number belongs to nobody."""
    status: str = ""
    said: StatusLine | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a button has done."""

    saved: Saved | None = None
    synced: Synced | None = None
    statuses: Mapping[str, SyncResult] | None = None
    problems: Sequence[tuple[str, Mapping[str, str]]] = ()
    """Fields and what is wrong with them, by language."""


def lines_of(stored: StoredMap, reading: Reading) -> list[Line]:
    """Every user, by name; those who left last. Without an answer from there, those whom our map names."""
    known = {user.user_id: user for user in reading.users}
    for user_id in [*stored.extensions, *stored.statuses]:
        known.setdefault(user_id, CrmUser(user_id=user_id, name=user_id, active=not reading.users))
    there = reading.held.extensions if reading.held is not None else None
    differ = (
        {one.user_id: one.theirs or "" for one in differences(stored.extensions, there)} if there is not None else {}
    )
    ours = {user.user_id for user in reading.users}
    made = []
    for user in known.values():
        number, row = stored.extensions.get(user.user_id, ""), stored.statuses.get(user.user_id)
        # A status not yet sent there is shown as stored here; otherwise theirs, with our time where they agree.
        status = row.status if row is not None and (not row.reported or not user.status) else user.status
        made.append(
            Line(
                user=user, number=number, theirs=differ.get(user.user_id),
                unknown=bool(reading.users) and user.user_id not in ours, not_exist=bool(number) and number in stored.not_exist,
                status=status, said=row if row is not None and row.status == status else None,
            )
        )  # fmt: skip
    made.sort(
        key=lambda line: (not line.user.active, line.user.name.casefold(), len(line.user.user_id), line.user.user_id)
    )
    return made


def found(lines: Iterable[Line], looked: str) -> list[Line]:
    """The users a person looks for, by name, e-mail address, group, number or id."""
    lower = looked.casefold()
    return [
        line for line in lines
        if lower in line.user.name.casefold() or lower in line.user.email.casefold() or lower == line.user.user_id
        or (line.number and line.number.startswith(lower)) or any(lower in group.casefold() for group in line.user.groups)
    ]  # fmt: skip


def changes_of(form: Mapping[str, str], new: str, old: str) -> dict[str, str | None]:
    """What a person has changed: fields are named by the user, and beside each stands what it was."""
    changed: dict[str, str | None] = {}
    for name, value in form.items():
        user = name.removeprefix(new)
        if name.startswith(new) and 0 < len(user) <= 64 and value != form.get(old + user, ""):
            changed[user] = value.strip() or None
    return changed


@dataclass(frozen=True)
class ExtensionsPage:
    """Draws and serves the page for one integration's module, wherever it stands."""

    site: Site
    linked: Linked

    @property
    def modules(self) -> Registrations:
        """The operations on registrations."""
        return self.site.deps.modules

    async def show(self, at: str, here: str, status: int = 200, **more: Any) -> Response:
        """The page. `at` is where its forms go, `here` its own address with a query begun."""
        number = tenant().number
        reading = await self.modules.read(number, self.linked)
        stored = await self.modules.stored(number, self.linked)
        lines = lines_of(stored, reading)
        names = {line.user.user_id: line.user.name for line in lines}
        looked = "".join(c for c in request.args.get("q", "").strip()[:80] if c.isprintable())
        shown = found(lines, looked) if looked else lines
        page = max(1, int(text) if (text := request.args.get("page", "1")).isdecimal() and len(text) < 6 else 1)
        first = (page - 1) * PAGE
        link = here + ("&" if "?" in here else "?")
        query = {"q": looked} if looked else {}
        return self.site.page(
            "extensions.html", status, adapter=self.linked.adapter, key=self.linked.key, kept=stored, reading=reading, names=names, action=at, looked=looked,
            lines=shown[first : first + PAGE], total=len(shown), result=_read_result(), statuses=statuses_of(self.linked.adapter),
            here=here,
            holders={held: names.get(user, user) for user, held in stored.extensions.items()},
            before=link + urlencode({**query, "page": page - 1}) if page > 1 else None,
            after=link + urlencode({**query, "page": page + 1}) if first + PAGE < len(shown) else None,
            differ=sum(1 for line in lines if line.theirs is not None), **more,
        )  # fmt: skip

    async def save(self, who: str) -> Result:
        """Numbers first, then statuses."""
        form, number = await request.form, tenant().number
        saved, problems = None, list[tuple[str, Mapping[str, str]]]()
        statuses: dict[str, SyncResult] = {}
        if changes := changes_of(form, "n-", "w-"):
            try:
                saved = await self.modules.save(number, self.linked, changes, who)
            except Invalid as error:
                problems += [(field, texts_of(text)) for field, text in error.problems]
        for user, status in changes_of(form, "s-", "v-").items() if statuses_of(self.linked.adapter) else ():
            try:
                statuses[user] = await self.modules.set_status(number, self.linked, user, status or "", who)
            except Invalid as error:
                problems += [(field, texts_of(text)) for field, text in error.problems]
        return Result(saved=saved, statuses=statuses, problems=problems)

    async def sync(self, who: str) -> Result:
        """Compares and settles."""
        return Result(synced=await self.modules.sync(tenant().number, self.linked, who))


def _flash_of(result: Result) -> Flash:
    return Flash(kind="result", body=to_jsonable_python(result))


def _read_result() -> Result:
    """What the last button has done, where it led here."""
    flash = flashed("result")
    return _RESULT.validate_python(flash.body) if flash is not None else Result()


_RESULT = TypeAdapter(Result)


def _who() -> str:
    session = viewer().session
    return session.email if session is not None else ""


def module_pages(gate: Gate, adapter: Adapter) -> Blueprint:
    """The pages below `/<kind>-admin/`, for whoever comes by the module's link."""
    door = ModuleGate(gate, adapter)
    pages = Blueprint(f"module_{adapter.kind}", __name__, url_prefix=door.home)
    pages.before_request(door.look)

    @pages.before_request
    async def around() -> None:
        await look_around(gate, door.token())

    def page() -> ExtensionsPage:
        """The page of the integration whose link opened the session."""
        session = viewer().session
        assert session is not None
        assert session.scope is not None
        return ExtensionsPage(gate.site, Linked(session.scope, adapter))

    def here() -> tuple[str, str]:
        return f"{door.home}/extensions", door.page_of(tenant().number)

    @pages.route("/", methods=["GET", "POST"])
    async def enter() -> Answer:
        form = await request.form if request.method == "POST" else {}
        number = str(request.args.get("enterprise_number") or form.get("enterprise_number") or "")
        token = str(request.args.get("token") or form.get("token") or "")
        if token or request.method == "POST":
            return await door.open(number, token)
        if viewer().session is not None and number in ("", tenant().number):
            found = page()
            home = await home_of(gate.site, found.linked, door.home)
            return await found.show(*here(), home=home)
        if await door.is_persons(number):
            return redirect(f"/t/{number}/extensions?{urlencode({'kind': adapter.kind})}", 303)
        return gate.site.page("module_refused.html", 401)

    add_home(pages, door, adapter)

    @pages.post("/extensions/save")
    async def save() -> Answer:
        if (refusal := await door.needs_session()) is not None:
            return refusal
        return await lead_on(gate.site.deps, door.token(), here()[1], _flash_of(await page().save(_who())))

    @pages.post("/extensions/sync")
    async def sync() -> Answer:
        if (refusal := await door.needs_session()) is not None:
            return refusal
        return await lead_on(gate.site.deps, door.token(), here()[1], _flash_of(await page().sync(_who())))

    @pages.post("/preferences")
    async def preferences() -> Answer:
        return await door.needs_session() or await door.prefer()

    @pages.post("/logout")
    async def logout() -> Answer:
        return await door.needs_session() or await door.leave()

    return pages


def extensions_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/extensions`, for the company's people."""
    pages = Blueprint("extensions", __name__, url_prefix="/t/<number>")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    def chosen(key: str | None) -> Linked | None:
        set_up = deps.modules.set_up(tenant())
        if key is None:
            return set_up[0] if set_up else None
        return next((linked for linked in set_up if linked.key == key), None)

    def at(linked: Linked) -> tuple[str, str]:
        home = f"/t/{tenant().number}/extensions"
        return f"{home}/{linked.key}", f"{home}?{urlencode({'kind': linked.key})}"

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(deps, gate.token(), onward, flash)

    def phone_form() -> Mapping[str, Any]:
        """The form of a number: empty, one that is listed (`?edit=`), or what was not accepted a moment ago."""
        empty = {"number": "", "owner": "", "endpoints": "", "error": "", "error_at": "", "edited": False}
        if (flash := flashed("phone")) is not None:
            return {**empty, **flash.body}
        wanted = request.args.get("edit", "")
        listed = next((phone for phone in tenant().phones if phone.number == wanted), None)
        if listed is None:
            seen = {name: request.args.get(name, "")[:64] for name in ("number", "endpoints")}
            return {**empty, **seen} if _NUMBER.fullmatch(seen["number"]) else empty
        ends = ", ".join(listed.endpoints)
        return {**empty, "number": listed.number, "owner": listed.owner, "endpoints": ends, "edited": True}

    async def unlisted() -> Sequence[Mapping[str, Any]]:
        """Numbers that calls of this company's PBXes had and that nobody has listed, each once, the newest first."""
        slots, known = await slots_of(site, tenant().number), {phone.number for phone in tenant().phones}
        found: dict[str, Mapping[str, Any]] = {}
        for card in (pbx_card(slots, tenant().number, pbx) for pbx in tenant().pbxes):
            for one in card.unlisted:
                if one["number"] not in known:
                    found.setdefault(str(one["number"]), one)
        return sorted(found.values(), key=lambda one: str(one["at"]), reverse=True)[:MOST_OFFERED]

    async def show(kind: str | None) -> Response:
        linked = chosen(kind)
        if linked is None:
            if kind is not None:
                abort(404)
            phones = await deps.db.tenant(tenant().number, select_phones, tenant().number)
            return site.page("phones.html", phones=phones, phone=phone_form(), unlisted=await unlisted())
        return await ExtensionsPage(site, linked).show(
            *at(linked), phone=phone_form(), others=deps.modules.set_up(tenant()), unlisted=await unlisted()
        )

    def needed(kind: str) -> ExtensionsPage:
        linked = chosen(kind)
        if linked is None:
            abort(404)
        return ExtensionsPage(site, linked)

    @pages.get("/extensions")
    async def extensions(number: str) -> Response:
        return await show(request.args.get("kind"))

    @pages.post("/extensions/<key>/save")
    async def save(number: str, key: str) -> Answer:
        page = needed(key)
        return await lead(at(page.linked)[1], _flash_of(await page.save(_who())))

    @pages.post("/extensions/<key>/sync")
    async def sync(number: str, key: str) -> Answer:
        page = needed(key)
        return await lead(at(page.linked)[1], _flash_of(await page.sync(_who())))

    @pages.post("/phones")
    async def save_phone(number: str) -> Answer:
        form = await request.form
        sent = {name: form.get(name, "").strip() for name in ("number", "owner", "endpoints")}
        ends = _devices(sent["endpoints"])
        reason = wrong_with(sent["number"], tenant().country, InternalNumberRules.of(tenant().options))
        wrong = (
            "number" if reason is not None
            else "owner" if len(sent["owner"]) > _LONGEST_OWNER or has_control(sent["owner"])
            else "endpoints" if len(ends) > 20 or not all(map(is_device_name, ends))
            else ""
        )  # fmt: skip
        if wrong:
            typed = {name: value[:2000] for name, value in sent.items()}
            text = f"phones.wrong_{wrong}" + (f"_{reason}" if wrong == "number" else "")
            page = f"/t/{number}/extensions{_query()}"  # without a fragment, else browsers ignore `autofocus`
            return await lead(page, Flash(kind="phone", body={**typed, "error": text, "error_at": wrong}))
        await deps.db.tenant(
            tenant().number, _save_phone, tenant().number, Phone(sent["number"], sent["owner"], ends), _who()
        )
        await deps.modules.refresh(tenant().number)
        return await lead(_back(number), note("phones.saved", number=sent["number"]))

    @pages.get("/phones/remove")
    async def confirm_remove(number: str) -> Response:
        wanted, t = request.args.get("number", ""), viewer().t
        phone = next((phone for phone in tenant().phones if phone.number == wanted), None)
        if phone is None:
            abort(404)
        title = t("phones.remove_title", number=f"{phone.number} {phone.owner}".strip())
        return confirm_page(
            site, title=title, text=t("phones.remove_text"), action=f"/t/{number}/phones/remove{_query()}",
            fields={"number": wanted}, button=t("phones.remove"), back=_back(number),
        )  # fmt: skip

    @pages.post("/phones/remove")
    async def remove_phone(number: str) -> Answer:
        form = await request.form
        gone = form.get("number", "")
        if not _NUMBER.fullmatch(gone):
            abort(404)
        if form.get("sure") != "1":
            query = {"number": gone, **({"kind": kind} if (kind := request.args.get("kind", "")) else {})}
            return redirect(f"/t/{number}/phones/remove?{urlencode(query)}", 303)
        for linked in deps.modules.set_up(tenant()):
            held = (await deps.modules.stored(tenant().number, linked)).extensions
            if owners := {user: None for user, extension in held.items() if extension == gone}:
                await deps.modules.save(tenant().number, linked, owners, _who())
        await deps.db.tenant(tenant().number, _remove_phone, tenant().number, gone, _who())
        await deps.modules.refresh(tenant().number)
        return await lead(_back(number), note("phones.removed", number=gone))

    return pages


def _devices(text: str) -> tuple[str, ...]:
    """Names with commas between them, for a name may hold a space; with a number among them spaces will do."""
    spaced = "," not in text and any(part.isdecimal() for part in text.split())
    return tuple(dict.fromkeys(part.strip() for part in (text.split() if spaced else text.split(",")) if part.strip()))


def _query() -> str:
    """`?kind=` of the page that this request belongs to."""
    kind = request.args.get("kind", "")
    known = registered_as(IntegrationKey(kind)) is not None and kind in tenant().integrations
    return f"?{urlencode({'kind': kind})}" if known else ""


def _back(number: str) -> str:
    return f"/t/{number}/extensions{_query()}#phones"


async def _save_phone(conn: Connection, number: TenantId, phone: Phone, who: str) -> None:
    known = await select_phone(conn, number, phone.number)
    await upsert_phone(conn, number, phone.number, phone.owner, phone.endpoints)
    old, new = difference(known, {"owner": phone.owner, "endpoints": list(phone.endpoints)})
    await insert_audit(conn, number, who, "phone.saved", phone.number, phone.owner, old=old, new=new)


async def _remove_phone(conn: Connection, number: TenantId, phone: str, who: str) -> None:
    known = await select_phone(conn, number, phone)
    await delete_phone(conn, number, phone)
    await insert_audit(conn, number, who, "phone.removed", phone, old=known)
