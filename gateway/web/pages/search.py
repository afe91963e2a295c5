"""Search from every page: calls, what was said in them, people with internal numbers, PBXes and integrations, and the pages of the menu.

Calls come from the store, everything else from memory. Only what the viewer may open is found: the menu's own rules decide on
pages, and an employee finds their own calls. Read `gateway/store/search.py` for how calls are found.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from adapters import registry
from gateway.domain.configuration import Phone, Tenant
from gateway.domain.ids import IntegrationKey, kind_of, titled
from gateway.domain.numbers import beginnings
from gateway.store.call_transcripts import NEWEST
from gateway.store.search import PARTS_OF, find_calls
from gateway.web.navigation import Entry, menu
from gateway.web.pages.transcript import find_spoken
from gateway.web.session.auth import Gate
from gateway.web.session.surroundings import look_around
from gateway.web.site import tenant, viewer
from gateway.web.translations import Words

LONGEST = 80
MOST = 20
"""Results of one group."""


@dataclass(frozen=True, slots=True)
class Place:
    """A PBX or an integration that was found."""

    title: str
    kind: str
    href: str


def asked(text: str) -> str:
    """What was typed, as it is looked for."""
    return "".join(c for c in text.strip()[:LONGEST] if c.isprintable())


def _has(text: str, names: Iterable[str]) -> bool:
    return any(text in name.casefold() for name in names)


def find_people(text: str, phones: Iterable[Phone], only: Sequence[str] | None = None) -> list[Phone]:
    """Internal numbers that begin so, or whose owner's name holds the text."""
    folded = text.casefold()
    return [
        phone for phone in phones
        if (only is None or phone.number in only) and (phone.number.startswith(text) or folded in phone.owner.casefold())
    ][:MOST]  # fmt: skip


def find_places(text: str, who: Tenant) -> list[Place]:
    """PBXes and integrations whose name, key or kind holds the text; those of the company, then what it could connect."""
    home, folded, known = f"/t/{who.number}", text.casefold(), registry.adapters()
    found = [
        Place(pbx.name, known[pbx.kind].title if pbx.kind in known else pbx.kind, f"{home}/pbxes/{pbx.name}")
        for pbx in who.pbxes
        if _has(folded, (pbx.name, pbx.kind, str(pbx.settings.get("host", ""))))
    ]
    could = (IntegrationKey(kind) for kind in registry.integrations())
    keys = list(dict.fromkeys([*who.integrations, *could]))
    for key in keys:
        if (adapter := registry.integrations().get(kind_of(key))) is not None:
            title = titled(adapter.title, key)
            if _has(folded, (title, key)):
                found.append(
                    Place(title, adapter.title if title != adapter.title else "", f"{home}/integrations/{key}")
                )
    return found[:MOST]


def find_pages(text: str, entries: Iterable[Entry], t: Words) -> list[Entry]:
    """Entries of the menu whose name holds the text."""
    return [one for one in entries if text.casefold() in t(f"nav.{one.section.name}").casefold()]


def search_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/search`."""
    pages = Blueprint("search", __name__, url_prefix="/t/<number>/search")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    @pages.get("")
    async def search(number: str) -> Response:
        who, person, text = tenant(), viewer(), asked(request.args.get("q", ""))
        if not text:
            return site.page(
                "search.html", looked="", calls=(), spoken=(), people=(), places=(), entries=(), parts_of=PARTS_OF
            )
        compact = "".join(c for c in text if c not in " ()-\u00a0")
        is_number = compact.removeprefix("+").isdigit() and compact.isascii()
        calls = await db.tenant(
            who.number, find_calls, who.number, compact if is_number else text,
            beginnings(compact, who.country) if is_number else (), MOST, person.only,
        )  # fmt: skip
        keys, spoken = site.deps.cache.sealer(who.number), []
        if keys is not None and not is_number:
            spoken = await db.tenant(who.number, find_spoken, who.number, text, keys, MOST, person.only)
        return site.page(
            "search.html", looked=text, calls=calls, spoken=spoken, newest=NEWEST, people=find_people(text, who.phones, person.only),
            places=find_places(text, who) if person.only is None else (),
            entries=find_pages(text, menu(who, "", operator=person.operator, role=person.role), person.t), parts_of=PARTS_OF,
        )  # fmt: skip

    return pages
