"""One person's data by hand: handed out as an archive, or erased for good (GDPR articles 15 and 17, 152-FZ). For admins alone.

Both are written down in the audit: that it was done, not what there was. Calls stay: they belong to telephone numbers; their texts go. Read
`gateway/store/personal_export.py` and `gateway/store/personal_data.py` for what is a person's.
"""

import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

import trio
from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.ids import TenantId
from gateway.domain.subjects import Subject
from gateway.store import contacts
from gateway.store.contacts import Contact
from gateway.store.files.chat_files import ChatFiles
from gateway.store.personal_export import export_person, person_files
from gateway.web.pages.confirm import confirm_page
from gateway.web.session.auth import Gate
from gateway.web.session.flash import lead_on, note
from gateway.web.session.surroundings import look_around
from gateway.web.site import Answer, tenant, viewer

AT_ONCE = 2
"""Archives that are made at a time: each holds a file of up to 20 MiB."""


class _Written:
    """What a zip file has written since the last look. It goes nowhere back, so sizes stand behind the files."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, piece: bytes) -> int:
        """The zip file's."""
        self._pieces.append(bytes(piece))
        return len(piece)

    def flush(self) -> None:
        """The zip file's."""

    def taken(self) -> bytes:
        """All of it, once."""
        found = b"".join(self._pieces)
        self._pieces.clear()
        return found


@dataclass(frozen=True, slots=True)
class Room:
    """For how many archives at a time, and the threads that make them."""

    archives: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(AT_ONCE))
    threads: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(AT_ONCE))


async def archive(files: ChatFiles, number: TenantId, data: dict[str, Any], room: Room) -> AsyncIterator[bytes]:
    """A person's data as a zip file, as it is made."""
    written = _Written()
    async with room.archives:
        with zipfile.ZipFile(written, "w") as into:  # type: ignore[call-overload] # it writes and flushes, and needs no more
            async for name, content in person_files(files, number, data, room.threads):
                how = zipfile.ZIP_DEFLATED if name.endswith(".json") else zipfile.ZIP_STORED
                await trio.to_thread.run_sync(partial(into.writestr, name, content, how), limiter=room.threads)
                yield written.taken()
        yield written.taken()


def person_data_pages(gate: Gate) -> Blueprint:
    """The pages `export` and `erase` below `/t/<number>/customers/<contact>`."""
    pages = Blueprint("person_data", __name__, url_prefix="/t/<number>/customers/<uuid:contact>")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db
    room = Room()

    def files() -> ChatFiles:
        found = site.deps.chat_files
        if found is None:
            abort(404)
        return found

    async def known(contact: UUID) -> Contact:
        found: Contact | None = await db.tenant(tenant().number, contacts.select_contact, tenant().number, contact)
        if found is None:
            abort(404)
        return found

    @pages.get("/export")
    async def export(number: str, contact: UUID) -> Response:
        store, response = files(), Response(b"", content_type="application/zip")
        response.headers["Content-Disposition"] = f'attachment; filename="customer-{contact}.zip"'
        response.headers["Cache-Control"] = "no-store"
        if request.method == "HEAD":
            await known(contact)
            return response
        who, keys = tenant().number, site.deps.cache.sealer(tenant().number)
        data = await db.tenant(who, export_person, who, contact, viewer().session_email, keys)
        if data is None:
            abort(404)
        made = Response(archive(store, tenant().number, data, room), headers=response.headers)
        made.timeout = None
        return made

    @pages.get("/erase")
    async def confirm_erase(number: str, contact: UUID) -> Response:
        found, t = await known(contact), viewer().t
        files()
        home = f"/t/{tenant().number}/customers/{found.id}"
        return confirm_page(
            site, title=t("customers.erase_title", name=_name(found) or t("customers.nameless")), text=t("customers.erase_text"),
            action=f"{home}/erase", fields={}, button=t("customers.erase_do"), back=home,
        )  # fmt: skip

    @pages.post("/erase")
    async def erase(number: str, contact: UUID) -> Answer:
        home = f"/t/{tenant().number}/customers"
        if (await request.form).get("sure") != "1":
            return redirect(f"{home}/{contact}/erase", 303)
        erased = await files().erase(tenant().number, contact, viewer().session_email)
        if erased is None:
            abort(404)
        site.deps.feed.publish(tenant().number, Subject("contact", str(contact)))
        return await lead_on(site.deps, gate.token(), home, note("customers.erased"))

    return pages


def _name(one: Contact) -> str:
    return one.name or (one.phones[0].phone if one.phones else one.emails[0] if one.emails else "")
