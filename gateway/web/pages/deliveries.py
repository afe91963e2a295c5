"""The outbox of a company: what waits, what failed and why, and retry of one delivery or of all that match a filter.

A retry is confirmed: the first response lists what exactly would be sent, and only that is sent. It works in batches, each
audited with its result. Read `gateway/store/delivery_pages.py` for what may be replayed.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from quart import Blueprint, abort, redirect, request
from quart_trio.wrappers import TrioResponse as Response

from actors.delivery.replanning import drafts_now, matching
from adapters.base import Draft
from adapters.registry import integrations
from gateway.domain.configuration import Tenant
from gateway.domain.ids import IntegrationKey, TenantId, kind_of, titled
from gateway.domain.secret import MASK
from gateway.store import delivery_pages as store
from gateway.store.audit import insert_audit
from gateway.store.delivery_pages import STATES, Filters, Found, Replayed, Revision
from gateway.store.postgres.pool import Connection, Database
from gateway.web.csv_download import BATCH as CSV_BATCH
from gateway.web.csv_download import batches, csv_download, local_time, separator
from gateway.web.session.auth import Gate
from gateway.web.session.surroundings import look_around
from gateway.web.site import Answer, tenant, viewer
from gateway.web.translations import Words

PAGE = 50
MOST = 10_000
"""Deliveries that one replay looks at."""
BATCH = 500
FIELDS = ("id", "integration", "state", "kind", "call", "since", "until")
_SECRET = re.compile("token|secret|passw|api_?key|client_?id|authorization|signature", re.IGNORECASE)
_HIGHEST = 2**63


def read_filters(sent: Mapping[str, str], who: Tenant) -> Filters:
    """What a person looks for. A value that makes no sense does not narrow, but for an id, which then fits nothing."""

    def day(name: str, plus: int = 0) -> datetime | None:
        try:
            moment = date.fromisoformat(sent.get(name, "")) + timedelta(days=plus)
            return datetime.combine(moment, time(), who.timezone).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def text(name: str) -> str | None:
        return "".join(c for c in sent.get(name, "").strip()[:200] if c.isprintable()) or None

    number = sent.get("id", "")
    usable = number.isascii() and number.isdecimal() and int(number[:20]) < _HIGHEST
    return Filters(
        delivery_id=(int(number) if usable else -1) if number else None,
        integration=text("integration"),
        state=sent.get("state") if sent.get("state") in STATES else None,
        kind=text("kind"),
        call=text("call"),
        since=day("since"),
        until=day("until", 1),
    )


def shown_body(text: str) -> str:
    """A delivery's body as it may be shown: indented, and whatever is named like a secret masked."""

    def masked(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: "***" if _SECRET.search(name) else masked(inner) for name, inner in value.items()}
        return [masked(inner) for inner in value] if isinstance(value, list) else value

    try:
        return json.dumps(masked(json.loads(text)), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return ""


CSV_COLUMNS = (
    "delivery", "integration", "kind", "state", "attempts", "planned", "finished", "next_try", "about", "error", "note",
)  # fmt: skip


def csv_row(one: Found, who: Tenant, t: Words, *, whole: bool) -> list[object]:
    """A delivery as a line of the file. Without `whole` errors and notes, which may quote a message, are masked."""
    adapter = integrations().get(kind_of(IntegrationKey(one.integration)))
    waits = one.state == "pending"
    return [
        one.delivery_id, titled(adapter.title, IntegrationKey(one.integration)) if adapter is not None else one.integration,
        t.code("delivery_kind", one.kind), t.code("delivery_state", one.state), one.attempt,
        local_time(one.created_at, who.timezone), local_time(one.finished_at, who.timezone),
        local_time(one.run_at, who.timezone) if waits else "", one.subject.id or "",
        one.error if whole or not one.error else MASK,
        (t.note(one.note) if whole else MASK) if one.note else "",
    ]  # fmt: skip


def _before(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


async def _seen(
    conn: Connection, number: TenantId, sought: Filters, before: int | None
) -> tuple[list[Found], list[str]]:
    return await store.search_deliveries(conn, number, sought, before, PAGE + 1), await store.select_kinds(conn, number)


async def _replan(conn: Connection, who: Tenant, replayed: Sequence[Replayed]) -> set[int]:
    """Plans waiting deliveries again with the current settings. Returns the ids of those that these settings no longer
    send: they are left as they were, and marked so. A delivery whose call's events are gone is sent unchanged, and marked."""
    calls = sorted({one.call_id for one in replayed if one.call_id is not None})
    events = await store.select_events_of_calls(conn, who.number, calls)
    taken = await store.select_keys_of_calls(conn, who.number, calls)
    planned: dict[tuple[IntegrationKey, str], list[Draft]] = {}
    revisions: list[Revision] = []
    unsent: list[int] = []
    as_planned: list[int] = []
    for one in replayed:
        if one.call_id is None or one.call_id not in events:
            as_planned.append(one.delivery_id)
            continue
        place = one.integration, one.call_id
        if place not in planned:
            planned[place] = drafts_now(who, one.integration, events[one.call_id])
        known = frozenset(key for integration, key in taken if integration == one.integration)
        draft = matching(planned[place], one.key, one.kind, latest_only=one.latest_only, taken=known)
        if draft is None:
            unsent.append(one.delivery_id)
            continue
        taken.add((one.integration, draft.key))
        body = json.dumps(dict(draft.body), ensure_ascii=False)
        revisions.append(Revision(one.delivery_id, draft.key, draft.lane, draft.bucket, body))
    await store.revise_deliveries(conn, who.number, revisions)
    await store.leave_deliveries(conn, who.number, unsent, "not_sent_now")
    await store.note_deliveries(conn, who.number, as_planned, "as_planned")
    return set(unsent)


async def _replay_some(
    conn: Connection, who: Tenant, sought: Filters, as_of: datetime, after: int, most: int, person: str
) -> tuple[int | None, list[IntegrationKey], int]:
    """One batch and its line in the audit, in one transaction; how many were left, too."""
    number = who.number
    last, found = await store.replay_deliveries(conn, number, sought, as_of, after, most)
    left = await _replan(conn, who, found) if found else set()
    replayed = [one.integration for one in found if one.delivery_id not in left]
    if replayed:
        detail = ", ".join(f"{kind}: {count}" for kind, count in sorted(Counter(replayed).items()))
        target = str(sought.delivery_id) if sought.delivery_id is not None else f"{after + 1}-{last}"
        await insert_audit(conn, number, person, "delivery.replayed", target, detail)
    return last, replayed, len(left)


async def replay_all(
    db: Database,
    ring: Callable[[TenantId, IntegrationKey], None],
    who: Tenant,
    sought: Filters,
    as_of: datetime,
    person: str,
) -> tuple[int, int]:
    """Retries what fits and was given up by `as_of`, batch by batch, and rings for it. How many wait again, and how many were left
    because the settings of now no longer send them."""
    after, looked, done, unsent = 0, 0, 0, 0
    while looked < MOST:
        last, replayed, left = await db.tenant(who.number, _replay_some, who, sought, as_of, after, BATCH, person)
        if last is None:
            break
        after, looked, done, unsent = last, looked + BATCH, done + len(replayed), unsent + left
        for kind in set(replayed):
            ring(who.number, kind)
    return done, unsent


def deliveries_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/deliveries`."""
    pages = Blueprint("deliveries", __name__, url_prefix="/t/<number>/deliveries")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def given(sent: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name in FIELDS if (value := sent.get(name, "").strip()[:200])}

    def count(name: str) -> int | None:
        text = request.args.get(name, "")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None

    @pages.get("")
    async def deliveries(number: str) -> Response:
        who, sent, before = tenant(), given(request.args), _before(request.args.get("before", ""))
        found, kinds = await db.tenant(who.number, _seen, who.number, read_filters(sent, who), before)
        older = found[PAGE - 1].delivery_id if len(found) > PAGE else None
        return site.page(
            "deliveries.html", found=[(one, shown_body(one.body)) for one in found[:PAGE]], kinds=kinds, sent=sent,
            states=STATES, integrations=sorted({*integrations(), *who.integrations}), query=urlencode(sent),
            older=urlencode({**sent, "before": older}) if older is not None else None, first=before is None,
            replayed=count("replayed"), unsent=count("unsent"),
        )  # fmt: skip

    @pages.get("/list.csv")
    async def deliveries_csv(number: str) -> Response:
        """What the filters find, all of it, without what was sent."""
        who, t, whole = tenant(), viewer().t, viewer().may_change
        sought = read_filters(given(request.args), who)

        async def read(before: int | None) -> tuple[list[list[object]], int | None]:
            found = await db.tenant(who.number, store.search_deliveries, who.number, sought, before, CSV_BATCH)
            return [csv_row(one, who, t, whole=whole) for one in found], found[-1].delivery_id if len(
                found
            ) == CSV_BATCH else None

        header = [t(f"csv.{name}") for name in CSV_COLUMNS]
        name = f"{who.number} {t('deliveries.title')} {datetime.now(who.timezone):%Y-%m-%d}"
        between = separator(request.args.get("separator"), t.language)
        return csv_download(name, header, batches(read), between=between)

    @pages.get("/replay")
    async def ask(number: str) -> Response:
        who, sent = tenant(), given(request.args)
        as_of = datetime.now(UTC)
        planned, more = await db.tenant(who.number, store.plan_replay, who.number, read_filters(sent, who), as_of, MOST)
        off = {one.integration for one in planned if one.replayed} - {
            kind for kind, link in who.integrations.items() if link.enabled
        }
        return site.page(
            "replay.html", planned=planned, total=sum(one.replayed for one in planned), sent=sent,
            doubtful=sum(one.doubtful for one in planned), late=sum(one.late for one in planned),
            overtaken=sum(one.overtaken for one in planned), more=more, as_of=as_of.isoformat(), off=sorted(off),
            query=urlencode(sent),
        )  # fmt: skip

    @pages.post("/replay")
    async def replay(number: str) -> Answer:
        who, session, form = tenant(), viewer().session, await request.form
        sent = given(form)
        try:
            as_of = datetime.fromisoformat(form.get("as_of", ""))
        except ValueError:
            abort(400)
        if session is None or as_of.tzinfo is None or as_of > datetime.now(UTC):
            abort(400)
        done, unsent = await replay_all(db, site.deps.ring, who, read_filters(sent, who), as_of, session.email)
        more = {"unsent": unsent} if unsent else {}
        return redirect(f"/t/{number}/deliveries?{urlencode({**sent, 'replayed': done, **more})}", 303)

    return pages
