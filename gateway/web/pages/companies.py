"""For operators: a new company by a form. Its fields are judged by the block of the tenant file, with the file's own rules.

    form -> TenantBlock -> one transaction: company, first person, their sign-in link, audit -> shown once

The token for Asterisk hosts and the sign-in link are shown once, sealed with the new company's key until then; the database
holds hashes of them. Read `gateway/tenant_file.py` for the rules.
"""

import secrets
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from zoneinfo import available_timezones

import phonenumbers
import trio
from pydantic import ValidationError
from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.ids import TenantId
from gateway.domain.secret import Secret
from gateway.store import users
from gateway.store.audit import insert_audit
from gateway.store.postgres.pool import Connection
from gateway.store.secrets.seal import new_data_key
from gateway.store.tenants import TenantRow, insert_tenant
from gateway.tenant_file import TenantBlock, token_hash
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.passwords import hash_password
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.session.tokens import login_link, new_token
from gateway.web.site import Answer, viewer

FIELDS = ("number", "name", "country", "timezone", "language", "email")
NEW = "/operators/tenants/new"
START: Mapping[str, str] = MappingProxyType(
    {"number": "", "name": "", "country": "BY", "timezone": "Europe/Minsk", "language": "ru", "email": ""}
)
_LONGEST = 254


def read_company(sent: Mapping[str, str]) -> tuple[TenantBlock | None, list[str]]:
    """The company of a form as a block of the tenant file, or the names of the fields that are wrong. Its first person gets a
    password that nobody knows: they come in by the link."""
    unknown = secrets.token_urlsafe(32)
    data = {
        **{name: sent.get(name, "").strip() for name in FIELDS if name != "email"}, "country": sent.get("country", "").strip().upper(),
        "token": secrets.token_urlsafe(32), "users": [{"email": sent.get("email", "").strip(), "password": unknown}],
    }  # fmt: skip
    try:
        return TenantBlock.model_validate(data), []
    except ValidationError as error:
        wrong = {
            "email" if one["loc"][0] == "users" else str(one["loc"][0]) for one in error.errors(include_input=False)
        }
        return None, [name for name in FIELDS if name in wrong]


async def _create(
    conn: Connection, row: TenantRow, email: str, password_hash: str, link_hash: bytes, person: str
) -> bool:
    """False where the number is taken."""
    async with conn.transaction():
        if not await insert_tenant(conn, row):
            return False
        await users.upsert_user(conn, row.tenant, email, password_hash)
        await users.insert_login_link(conn, row.tenant, link_hash, email)
        await insert_audit(conn, row.tenant, person, "tenant.created", row.tenant, row.name)
        return True


def companies_pages(gate: Gate) -> Blueprint:
    """The pages `/operators/tenants/new` and `/operators/tenants/<number>/created`."""
    pages = Blueprint("companies", __name__, url_prefix="/operators/tenants")
    pages.before_request(partial(look_around, gate))
    site, deps = gate.site, gate.site.deps

    @pages.get("/new")
    async def new() -> Response:
        refused = flashed("refused")
        return site.page(
            "company_new.html", sent={**START, **(refused.body["sent"] if refused is not None else {})},
            wrong=refused.body["wrong"] if refused is not None else {}, fields=FIELDS,
            zones=sorted(zone for zone in available_timezones() if "/" in zone and not zone.startswith(("Etc/", "posix/", "right/"))),
            countries=sorted(phonenumbers.SUPPORTED_REGIONS), may_create=deps.master is not None,
        )  # fmt: skip

    @pages.post("/new")
    async def create() -> Answer:
        form, session = await request.form, viewer().session
        assert session is not None
        sent = {name: form.get(name, "")[:_LONGEST] for name in FIELDS}
        block, wrong = read_company(sent)
        problems = {name: f"company.wrong_{name}" for name in wrong}
        if block is None or deps.master is None:
            return await lead_on(deps, gate.token(), NEW, Flash(kind="refused", body={"sent": sent, "wrong": problems}))
        number, token, user = TenantId(block.number), block.token, block.users[0]
        assert token is not None
        text, link = new_token(number)
        hashed = await trio.to_thread.run_sync(hash_password, user.password, limiter=deps.hash_limiter)
        row = TenantRow(
            number, block.name, block.timezone, block.country, block.language, token_hash(token),
            deps.master.wrap(number, new_data_key()), {}, 0, (), (), (),
        )  # fmt: skip
        if not await deps.db.engine(_create, row, user.email, hashed, link.token_hash, session.email):
            refused = Flash(kind="refused", body={"sent": sent, "wrong": {"number": "company.taken"}})
            return await lead_on(deps, gate.token(), NEW, refused)
        shown = Flash(
            kind="key", body={"name": block.name, "email": user.email},
            secrets={"token": token, "link": Secret(login_link(deps.public_url, text))},
        )  # fmt: skip
        return await lead_on(deps, gate.token(), f"/operators/tenants/{number}/created", shown, tenant=number)

    @pages.get("/<number>/created")
    async def created(number: str) -> Answer:
        shown = flashed("key")
        if shown is None or not shown.secrets:
            return await lead_on(deps, gate.token(), "/operators/tenants", note("company.shown_once", "calm"))
        return site.page("company_created.html", number=number, shown=shown)

    return pages
