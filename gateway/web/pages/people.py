"""A company's people: invite, change, reset a password or a second factor, remove. For its admins; auditors see the list.

What is allowed is decided in the store's transaction (`gateway/store/members.py`), where `/api/v1/users` finds it too. Links go by
mail where the installation has it, or are shown once to whoever made them. Read `account.py` for what the invited person then sees.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from uuid import UUID

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.api_keys import KeyOwner
from gateway.domain.people import MEMBER_ROLES, PeopleRefused, Role
from gateway.domain.secret import Secret
from gateway.store import members, own_account, second_factors
from gateway.store.api_keys import select_api_keys
from gateway.store.members import Member
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.invitations import purpose_of, store_link, welcome_link
from gateway.web.session.link_letters import store_letter
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.session.tokens import new_token
from gateway.web.site import Answer, tenant, viewer


def _numbers(text: str) -> list[str]:
    return list(dict.fromkeys(part for part in text.replace(",", " ").split() if part))[:200]


def people_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/people`."""
    pages = Blueprint("people", __name__, url_prefix="/t/<number>/people")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    def person() -> str:
        session = viewer().session
        assert session is not None
        return session.email

    async def lead(onward: str, flash: Flash) -> Answer:
        return await lead_on(deps, gate.token(), onward, flash, tenant=tenant().number)

    async def known(user_id: UUID) -> Member:
        found = await deps.db.engine(members.select_member, tenant().number, user_id)
        if found is None:
            abort(404)
        return found

    async def show_link(member: Member, onward: str) -> Answer:
        if deps.mail and (await request.form).get("by") == "mail":
            await deps.db.engine(store_letter, tenant().number, member, person())
            return await lead(onward, note("people.mailed", who=member.email))
        text, token = new_token(tenant().number)
        await deps.db.engine(store_link, tenant().number, member, token, person())
        body = {"purpose": purpose_of(member), "email": member.email}
        link = Secret(welcome_link(deps.public_url, text))
        return await lead(onward, Flash(kind="key", body=body, secrets={"link": link}))

    def refused(error: PeopleRefused, sent: dict[str, str]) -> Flash:
        return Flash(kind="refused", body={"code": error.code, "field": error.field, **sent})

    @pages.get("")
    async def people(number: str) -> Response:
        lines = await deps.db.engine(members.list_members, tenant().number)
        demanded = await deps.db.engine(own_account.select_demand, tenant().number)
        fresh, flash = flashed("key"), flashed("refused")
        sent = {
            "email": "",
            "name": "",
            "role": Role.AGENT,
            "phones": "",
            "code": "",
            "field": "",
            **(flash.body if flash else {}),
        }
        return site.page(
            "people.html", lines=lines, roles=MEMBER_ROLES, sent=sent, demanded=demanded, by_mail=deps.mail,
            fresh=(fresh.body, fresh.secrets["link"].reveal()) if fresh is not None else None,
        )  # fmt: skip

    def given(form: Mapping[str, str]) -> dict[str, str]:
        return {name: form.get(name, "").strip()[:1000] for name in ("email", "name", "role", "phones")}

    @pages.post("")
    async def invite(number: str) -> Answer:
        sent = given(await request.form)
        try:
            role = Role(sent["role"]) if sent["role"] in MEMBER_ROLES else Role.OPERATOR
            work = partial(
                members.add_member, tenant=tenant().number, email=sent["email"], role=role, by=person(), name=sent["name"],
                phones=_numbers(sent["phones"]),
            )  # fmt: skip
            made = await deps.db.engine(work)
        except PeopleRefused as error:
            return await lead(f"/t/{number}/people", refused(error, sent))
        return await show_link(made, f"/t/{number}/people")

    @pages.post("/second-factor")
    async def demand(number: str) -> Answer:
        demanded = (await request.form).get("demanded") == "1"
        await deps.db.engine(own_account.set_demand, tenant().number, demanded, person())
        return await lead(f"/t/{number}/people", note("people.demanded" if demanded else "people.not_demanded"))

    @pages.get("/<uuid:user_id>")
    async def member(number: str, user_id: UUID) -> Response:
        found, flash, fresh = await known(user_id), flashed("refused"), flashed("key")
        sent = {
            "name": found.name,
            "role": found.role,
            "phones": ", ".join(found.phones),
            "code": "",
            "field": "",
            **(flash.body if flash else {}),
        }
        return site.page(
            "person.html", member=found, sent=sent, roles=MEMBER_ROLES, own=found.email == person(), by_mail=deps.mail,
            fresh=(fresh.body, fresh.secrets["link"].reveal()) if fresh is not None else None,
        )  # fmt: skip

    @pages.post("/<uuid:user_id>")
    async def change(number: str, user_id: UUID) -> Answer:
        sent, home = given(await request.form), f"/t/{number}/people/{user_id}"
        try:
            role = Role(sent["role"]) if sent["role"] in MEMBER_ROLES else None
            work = partial(
                members.change_member, tenant=tenant().number, user_id=user_id, by=person(), role=role, name=sent["name"],
                phones=_numbers(sent["phones"]),
            )  # fmt: skip
            if await deps.db.engine(work) is None:
                abort(404)
        except PeopleRefused as error:
            return await lead(home, refused(error, sent))
        return await lead(home, note("people.saved"))

    @pages.post("/<uuid:user_id>/link")
    async def reset(number: str, user_id: UUID) -> Answer:
        return await show_link(await known(user_id), f"/t/{number}/people/{user_id}")

    @pages.post("/<uuid:user_id>/second-factor")
    async def reset_factor(number: str, user_id: UUID) -> Answer:
        found = await known(user_id)
        if found.email == person():
            return redirect("/account/security", 303)
        await deps.db.engine(second_factors.reset_factor, tenant().number, found.email, person())
        return await lead(f"/t/{number}/people/{user_id}", note("people.factor_reset"))

    @pages.get("/<uuid:user_id>/remove")
    async def confirm_remove(number: str, user_id: UUID) -> Response:
        found, t, home = await known(user_id), viewer().t, f"/t/{number}/people/{user_id}"
        lines, now = await deps.db.tenant(tenant().number, select_api_keys, tenant().number), datetime.now(UTC)
        ending = [one.name for one in lines if one.owner == KeyOwner("person", found.email) and one.in_force(now)]
        text = (
            f"{t('people.remove_text')} {t('people.remove_keys', names=', '.join(ending))}"
            if ending
            else t("people.remove_text")
        )
        return confirm_page(
            site, title=t("people.remove_title", who=found.name or found.email), text=text,
            action=f"{home}/remove", fields={}, button=t("people.remove"), back=home,
        )  # fmt: skip

    @pages.post("/<uuid:user_id>/remove")
    async def remove(number: str, user_id: UUID) -> Answer:
        if (await request.form).get("sure") != "1":
            return redirect(f"/t/{number}/people/{user_id}/remove", 303)
        try:
            gone = await deps.db.engine(
                partial(members.remove_member, tenant=tenant().number, user_id=user_id, by=person())
            )
        except PeopleRefused as error:
            return await lead(f"/t/{number}/people/{user_id}", refused(error, {}))
        if gone is None:
            abort(404)
        return await lead(f"/t/{number}/people", note("people.removed", who=gone.name or gone.email))

    return pages
