"""Customers: search over names, phones, e-mails and messages, one page a person with everything that was said, edit, merge.

An agent finds those with a conversation that they may see. A typed number never makes one person of two by itself: people merge,
and can undo it. Read `customer_history.py` for the history, `gateway/store/contacts.py` for what is stored.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from quart import Blueprint, abort, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.ids import IntegrationKey, TenantId
from gateway.domain.posts import Invalid
from gateway.domain.text import has_breaking, texts_of
from gateway.store import contact_merges, contacts
from gateway.store.audit import difference, insert_audit
from gateway.store.contacts import Contact
from gateway.store.postgres.pool import Connection
from gateway.web.authors import colleagues_of
from gateway.web.pages.customer_history import read_history, read_moment
from gateway.web.pages.inbox import myself, only_of, reads_texts, words_for
from gateway.web.pages.inbox_view import Person, read_person, read_place, write_place
from gateway.web.rest.contacts import read_emails, read_phones
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

PAGE = 50
MOST_CANDIDATES = 20
LONGEST_NAME = 200


def _values(name: str, phones: Sequence[str], emails: Sequence[str]) -> dict[str, Any]:
    """What the audit compares."""
    return {"name": name, "phones": sorted(phones), "emails": sorted(emails)}


async def _create(
    conn: Connection, number: TenantId, name: str, phones: Sequence[str], emails: Sequence[str], by: str
) -> UUID:
    made = await contacts.insert_contact(conn, number, name, phones, emails)
    await insert_audit(conn, number, by, "contact.created", str(made), new=_values(name, phones, emails))
    return made


async def _change(
    conn: Connection, number: TenantId, contact: UUID, name: str, phones: Sequence[str], emails: Sequence[str], by: str
) -> bool:
    before = await contacts.select_contact(conn, number, contact)
    if before is None:
        return False
    await contacts.update_contact(conn, number, contact, name=name, phones=phones, emails=emails)
    known = _values(before.name, [one.phone for one in before.phones], before.emails)
    old, new = difference(known, _values(name, phones, emails))
    if old or new:
        await insert_audit(conn, number, by, "contact.changed", str(before.id), old=old, new=new)
    return True


async def _merge(conn: Connection, number: TenantId, contact: UUID, other: UUID, by: str) -> bool:
    if await contact_merges.merge_contacts(conn, number, contact, other, by) is None:
        return False
    await insert_audit(conn, number, by, "contact.merged", str(contact), str(other))
    return True


async def _unmerge(conn: Connection, number: TenantId, contact: UUID, by: str) -> UUID | None:
    other = await contact_merges.unmerge(conn, number, contact)
    if other is not None:
        await insert_audit(conn, number, by, "contact.unmerged", str(contact), str(other))
    return other


def customers_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/customers`."""
    pages = Blueprint("customers", __name__, url_prefix="/t/<number>/customers")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def home() -> str:
        return f"/t/{tenant().number}/customers"

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(site.deps, gate.token(), onward, flash)

    async def shared() -> dict[str, Any]:
        return words_for(gate, await colleagues_of(db, tenant().number))

    def looked_for() -> str:
        return "".join(c for c in request.args.get("q", "").strip()[:200] if c.isprintable())

    async def known(contact: UUID, me: str, most: int = 0) -> Person:
        """A person whom the viewer may see; 404 for any other."""
        found = await db.tenant(tenant().number, read_person, tenant(), contact, viewer().only, only_of(me), most=most)
        if found is None:
            abort(404)
        return found

    @pages.get("")
    async def customers(number: str) -> Response:
        me, q, after = await myself(gate), looked_for(), read_place(request.args.get("after", ""))
        work = partial(contacts.search_contacts, only=only_of(me), texts=reads_texts())
        found: list[Contact] = await db.tenant(tenant().number, work, tenant().number, _number_of(q), PAGE + 1, after)
        older = write_place(found[PAGE - 1].updated_at, found[PAGE - 1].id) if len(found) > PAGE else ""
        return site.page("customers.html", found=found[:PAGE], q=q, after=after, older=older, **await shared())

    @pages.get("/new")
    async def new(number: str) -> Response:
        flash = flashed("refused")
        sent = {"name": "", "phones": request.args.get("phone", "")[:64], "emails": "", "problems": []}
        return site.page(
            "customer_edit.html", person=None, sent={**sent, **(flash.body if flash else {})}, **await shared()
        )

    def given(form: Any) -> tuple[str, list[str], list[str]]:
        """Name, phones, e-mails. Raises Invalid."""
        name = form.get("name", "").strip()
        if len(name) > LONGEST_NAME or has_breaking(name):
            raise Invalid((("name", f"one line of at most {LONGEST_NAME} characters"),))
        phones = read_phones(_lines(form.get("phones", "")), tenant().country)
        return name, phones, read_emails(_lines(form.get("emails", "")))

    def refused(form: Any, error: Invalid | None) -> Flash:
        fields = ["name"] if error is None else [field.partition("[")[0] for field, _ in error.problems]
        body: dict[str, Any] = {name: form.get(name, "")[:2000] for name in ("name", "phones", "emails")}
        codes = ["empty"] if error is None else fields
        values = {} if error is None else {field: dict(texts_of(text)) for field, text in error.problems}
        return Flash(kind="refused", body={**body, "problems": codes, "texts": values})

    @pages.post("/new")
    async def create(number: str) -> Answer:
        form = await request.form
        try:
            name, phones, emails = given(form)
        except Invalid as error:
            return await lead(f"{home()}/new", refused(form, error))
        if not name and not phones and not emails:
            return await lead(f"{home()}/new", refused(form, None))
        made = await db.tenant(tenant().number, _create, tenant().number, name, phones, emails, viewer().session_email)
        return await lead(f"{home()}/{made}", note("customers.created"))

    @pages.get("/<uuid:contact>")
    async def customer(number: str, contact: UUID) -> Response:
        me = await myself(gate)
        person = await known(contact, me)
        before = read_moment(request.args.get("before", ""))
        history = await db.tenant(tenant().number, read_history, tenant(), person, viewer().only, before)
        return site.page(
            "customer.html", person=person, history=history, before=before, has_files=site.deps.chat_files is not None,
            **await shared(),
        )  # fmt: skip

    @pages.get("/<uuid:contact>/edit")
    async def edit(number: str, contact: UUID) -> Response:
        person, flash = await known(contact, await myself(gate)), flashed("refused")
        one = person.contact
        sent = {
            "name": one.name, "phones": "\n".join(phone.phone for phone in one.phones), "emails": "\n".join(one.emails), "problems": [],
        }  # fmt: skip
        return site.page(
            "customer_edit.html", person=person, sent={**sent, **(flash.body if flash else {})}, **await shared()
        )

    @pages.post("/<uuid:contact>/edit")
    async def save(number: str, contact: UUID) -> Answer:
        form, person = await request.form, await known(contact, await myself(gate))
        try:
            name, phones, emails = given(form)
        except Invalid as error:
            return await lead(f"{home()}/{contact}/edit", refused(form, error))
        ident = person.contact.id
        company, crm, by = tenant(), site.deps.crm, viewer().session_email

        async def work(conn: Connection) -> Sequence[IntegrationKey]:
            changed = await _change(conn, company.number, ident, name, phones, emails, by)
            return await crm.contact_of_chats(conn, company, ident) if changed else ()

        crm.woken(company, await db.tenant(company.number, work))
        return await lead(f"{home()}/{ident}", note("customers.saved"))

    @pages.get("/<uuid:contact>/merge")
    async def choose(number: str, contact: UUID) -> Response:
        me = await myself(gate)
        person, q = await known(contact, me), looked_for()
        work = partial(contacts.search_contacts, only=only_of(me), texts=reads_texts())
        found: list[Contact] = []
        for text in [q] if q else [*(one.phone for one in person.contact.phones[:5]), *person.contact.emails[:5]]:
            found += await db.tenant(tenant().number, work, tenant().number, _number_of(text), MOST_CANDIDATES)
        others = {one.id: one for one in found if one.id != person.contact.id}
        chosen = None
        if (other := request.args.get("other", "")) and len(other) == 36:
            chosen = await known(_uuid(other), me)
        return site.page(
            "customer_merge.html",
            person=person,
            others=list(others.values())[:MOST_CANDIDATES],
            q=q,
            chosen=chosen,
            **await shared(),
        )

    @pages.post("/<uuid:contact>/merge")
    async def merge(number: str, contact: UUID) -> Answer:
        form, me = await request.form, await myself(gate)
        person, other = await known(contact, me), await known(_uuid(form.get("other", "")), me)
        done = await db.tenant(
            tenant().number, _merge, tenant().number, person.contact.id, other.contact.id, viewer().session_email
        )
        onward = f"{home()}/{person.contact.id}"
        if not done:
            return await lead(onward, note("customers.one_already", "calm"))
        return await lead(onward, note("customers.merged", undo=(f"{onward}/unmerge", {})))

    @pages.post("/<uuid:contact>/unmerge")
    async def unmerge(number: str, contact: UUID) -> Answer:
        person = await known(contact, await myself(gate))
        onward = f"{home()}/{person.contact.id}"
        other = await db.tenant(tenant().number, _unmerge, tenant().number, person.contact.id, viewer().session_email)
        return await lead(onward, note("customers.unmerged") if other else note("customers.nothing_merged", "calm"))

    return pages


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        abort(404)


def _lines(text: str) -> list[str]:
    """What stands on lines of its own, or between commas."""
    return [one.strip() for one in text.replace(",", "\n").replace(";", "\n").split("\n") if one.strip()]


def _number_of(q: str) -> str:
    """A telephone number as people write it, without what stands between its digits; any other text as it is."""
    bare = "".join(c for c in q if c not in " ()-\u00a0")
    return bare if bare.removeprefix("+").isdigit() else q
