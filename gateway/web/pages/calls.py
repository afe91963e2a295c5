"""Calls: those of this moment, the history with its filters, and one call with everything known of it.

Each handler reads the request, makes one crossing to the store, and renders.
Read `live.py` next for the rows that move.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from quart import Blueprint, abort, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.calls import Call
from gateway.domain.configuration import Tenant
from gateway.domain.events import Direction, Result
from gateway.domain.ids import CallId, TenantId, utc_text
from gateway.domain.numbers import outside
from gateway.domain.people import is_of, took_part
from gateway.domain.subjects import call_subject
from gateway.store import call_pages as store
from gateway.store import integration_logs
from gateway.store.call_pages import DayFigures, DeliveryLine, EventLine, Filters, Place
from gateway.store.call_transcripts import TranscriptRow, select_transcripts
from gateway.store.calls import select_open_calls
from gateway.store.conversations import select_by_phones
from gateway.store.postgres.pool import Connection
from gateway.store.recordings import RecordingLine, select_call_recordings, select_recorded
from gateway.web.csv_download import BATCH, batches, csv_download, local_time, separator
from gateway.web.formats import duration
from gateway.web.pages import transcript
from gateway.web.pages.inbox import myself, only_of
from gateway.web.pages.live import day_begins, live_calls
from gateway.web.pages.player import note_link, players, recording_name, retry, short_link, without_address
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer
from gateway.web.translations import Words

PAGE = 50
TRUNKS_OF = timedelta(days=30)
_FIELDS = ("q", "direction", "result", "extension", "trunk", "since", "until", "uncertain")


@dataclass(frozen=True, slots=True)
class Overview:
    """What the page of calls shows."""

    live: list[Call]
    found: list[Call]
    figures: DayFigures
    trunks: list[str]
    recorded: set[str]
    """Ids of those that can be listened to."""


@dataclass(frozen=True, slots=True)
class DeliveryView:
    """One delivery with its attempts."""

    line: DeliveryLine
    attempts: list[integration_logs.LogLine]


@dataclass(frozen=True, slots=True)
class Whole:
    """Everything known of one call."""

    source: str
    call: Call
    events: list[EventLine]
    told: list[DeliveryView]
    merged: list[CallId]
    recordings: list[RecordingLine]
    transcripts: list[TranscriptRow]
    """Of these recordings."""


async def _overview(
    conn: Connection, number: TenantId, filters: Filters, after: Place | None, today: datetime
) -> Overview:
    only = filters.only
    live = [call for _, call in await select_open_calls(conn, number) if only is None or is_of(call, only)]
    found = await store.search_calls(conn, number, filters, after, PAGE + 1)
    figures = await store.select_day_figures(conn, number, today, only)
    trunks = await store.select_trunks(conn, number, today - TRUNKS_OF, only)
    heard = [call.call_id for call in found if only is None or took_part(call, only)]
    recorded = await select_recorded(conn, number, heard)
    return Overview(live, found, figures, list(trunks), recorded)


async def _whole(conn: Connection, number: TenantId, call_id: str, only: Sequence[str] | None) -> Whole | None:
    """`only`: the internal numbers of an agent, who sees neither others' calls nor what systems were sent."""
    found = await store.select_call(conn, number, call_id)
    if found is None or (only is not None and not is_of(found[1], only)):
        return None
    heard = only is None or took_part(found[1], only)
    transcripts = await select_transcripts(conn, number, call_id) if heard else []
    if only is not None:
        return Whole(
            *found,
            events=await store.select_call_events(conn, number, call_id),
            told=[],
            merged=await store.select_merged_calls(conn, number, call_id, only),
            recordings=await select_call_recordings(conn, number, call_id) if heard else [],
            transcripts=transcripts,
        )
    attempts: dict[int | None, list[integration_logs.LogLine]] = {}
    for line in await integration_logs.select_subject_logs(conn, number, call_subject(call_id)):
        attempts.setdefault(line.delivery_id, []).append(line)
    deliveries = await store.select_call_deliveries(conn, number, call_id)
    return Whole(
        *found,
        events=await store.select_call_events(conn, number, call_id),
        told=[DeliveryView(line, attempts.get(line.delivery_id, [])) for line in deliveries],
        merged=await store.select_merged_calls(conn, number, call_id),
        recordings=await select_call_recordings(conn, number, call_id),
        transcripts=transcripts,
    )


def _midnight(day: date, zone: Any) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def read_filters(sent: Mapping[str, str], who: Tenant) -> Filters:
    """What a person looks for. A value that makes no sense does not narrow."""

    def day(name: str, plus: int = 0) -> datetime | None:
        try:
            return _midnight(date.fromisoformat(sent.get(name, "")) + timedelta(days=plus), who.timezone)
        except (ValueError, OverflowError):
            return None

    def text(name: str) -> str:
        return "".join(c for c in sent.get(name, "").strip()[:80] if c.isprintable())

    looked = text("q")
    bare = "".join(c for c in looked if c not in " ()-\u00a0")
    is_number = bare.lstrip("+").isdigit()
    lower = looked.lower()
    return Filters(
        text=bare if is_number else looked,
        e164=outside(bare, who.country) if is_number else None,
        owned=tuple(phone.number for phone in who.phones if lower and lower in phone.owner.lower()),
        direction=sent.get("direction") if sent.get("direction") in tuple(Direction) else None,
        result=sent.get("result") if sent.get("result") in tuple(Result) else None,
        extension=text("extension") or None,
        trunk=text("trunk") or None,
        since=day("since"),
        until=day("until", 1),
        uncertain=sent.get("uncertain") == "1",
    )


def read_place(text: str | None) -> Place | None:
    """The place after which a page begins, from its address."""
    moment, _, call_id = (text or "").partition("~")
    try:
        return Place(datetime.fromtimestamp(int(moment) / 1e6, UTC), call_id) if call_id else None
    except (ValueError, OverflowError, OSError):
        return None


def write_place(call: Call) -> str:
    """The inverse: microseconds, because that is what the store compares."""
    return f"{round(call.started_at.timestamp() * 1e6)}~{call.call_id}"


def event_text(body: Mapping[str, Any], who: Tenant, t: Words) -> str:
    """One event in a sentence."""

    def person(number: Any) -> str:
        owner = who.owner_of(number)
        return f"{number} {owner}".strip() if number else t("calls.nobody")

    match body.get("event"):
        case "call_ringing":
            phones = ", ".join(person(number) for number in body.get("extensions") or ())
            return t("event_says.ringing", who=phones) if phones else t("event_says.begun")
        case "call_answered":
            sentence = t("event_says.answered", who=person(body.get("extension")))
            wait = body.get("wait_s")
            return sentence if wait is None else f"{sentence}, {t('event_says.after', span=duration(wait))}"
        case "call_transferred":
            return t(
                "event_says.transferred", old=person(body.get("from_extension")), new=person(body.get("to_extension"))
            )
        case "call_merged":
            return t("event_says.merged", into=body.get("into"))
        case "call_ended":
            sentence = t("event_says.ended", result=t.code("result", body.get("result")).lower())
            talk = body.get("talk_s")
            return sentence if talk is None else f"{sentence}, {t('event_says.talk', span=duration(talk))}"
        case other:
            return t.code("event", str(other))


CSV_COLUMNS = (
    "call", "began", "direction", "client", "company", "employee", "owner", "talked_last", "rang", "result", "wait_s", "talk_s",
    "line", "queue", "hung_up_by", "uncertain",
)  # fmt: skip


def csv_row(call: Call, who: Tenant, t: Words) -> list[object]:
    """A call as a line of the file: times by the company's clock, numbers as they are stored."""
    company = call.called if call.direction is Direction.INCOMING else ""
    hung_up_by = t.code("hung_up_by", call.hung_up_by) if call.hung_up_by else ""
    return [
        call.call_id, local_time(call.started_at, who.timezone), t(f"direction.{call.direction}"), call.outside, company,
        call.employee, who.owner_of(call.employee) if call.employee else "", call.last_extension, ", ".join(call.rang),
        t.code("result", call.result), None if call.wait_s is None else round(call.wait_s),
        None if call.talk_s is None else round(call.talk_s), call.trunk, call.queue, hung_up_by,
        t("word.yes" if call.uncertain else "word.no"),
    ]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the bar that draws a call: from `x`, `width` of 1000."""

    name: str
    x: int
    width: int


def stretches(call: Call) -> list[Stretch]:
    """How long it rang and how long it was talked, as parts of a bar."""
    end = call.ended_at or datetime.now(UTC)
    whole = (end - call.started_at).total_seconds()
    if whole <= 0:
        return []
    answered = call.answered_at
    turn = (
        1000
        if answered is None
        else round(1000 * min(1.0, max(0.0, (answered - call.started_at).total_seconds() / whole)))
    )
    ring, talk = Stretch("ring", 0, turn), Stretch("talk", turn, 1000 - turn)
    return [part for part in (ring, talk) if part.width > 0]


def calls_pages(gate: Gate) -> Blueprint:
    """The pages below `/t/<number>/calls`."""
    pages = Blueprint("calls", __name__, url_prefix="/t/<number>")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    def sought() -> Filters:
        """What is looked for, of what the viewer may see."""
        return replace(read_filters(request.args, tenant()), only=viewer().only)

    @pages.get("/calls")
    async def calls(number: str) -> Response:
        who = tenant()
        filters = sought()
        after = read_place(request.args.get("after"))
        seen = await db.tenant(who.number, _overview, who.number, filters, after, day_begins(who.timezone))
        sent = {name: request.args.get(name, "") for name in _FIELDS}
        requested = {name: value for name, value in sent.items() if value}
        older = {**requested, "after": write_place(seen.found[PAGE - 1])} if len(seen.found) > PAGE else None
        return site.page(
            "calls.html", seen=seen, found=seen.found[:PAGE], recorded=seen.recorded, sent=sent, older=older and urlencode(older), newest=urlencode(requested), after=after,
            filtered=bool(filters), query=urlencode(requested), directions=tuple(Direction), results=tuple(Result),
        )  # fmt: skip

    @pages.get("/calls.csv")
    async def calls_csv(number: str) -> Response:
        """What the filters find, all of it."""
        who, t, filters = tenant(), viewer().t, sought()

        async def read(after: Place | None) -> tuple[list[list[object]], Place | None]:
            found = await db.tenant(who.number, store.search_calls, who.number, filters, after, BATCH)
            more = Place(found[-1].started_at, found[-1].call_id) if len(found) == BATCH else None
            return [csv_row(call, who, t) for call in found], more

        header = [t(f"csv.{name}") for name in CSV_COLUMNS]
        name = f"{who.number} {t('calls.title')} {datetime.now(who.timezone):%Y-%m-%d}"
        between = separator(request.args.get("separator"), t.language)
        return csv_download(name, header, batches(read), between=between)

    @pages.get("/calls/live")
    async def live(number: str) -> Response:
        if request.method == "HEAD":
            return Response(content_type="text/event-stream; charset=utf-8")
        return live_calls(gate, viewer(), gate.token())

    async def show(call_id: str) -> Response:
        who, flash, link = tenant(), flashed("link"), None
        if flash is not None and (recording_files := site.deps.recording_files) is not None:
            # Made at this moment: the flash names the recording, and no link stands anywhere.
            recording = UUID(flash.body["recording"])
            link = recording, short_link(recording_files, who.number, site.deps.public_url, recording)
        whole = await db.tenant(who.number, _whole, who.number, call_id, viewer().only)
        if whole is None:
            abort(404)
        agent = only_of(await myself(gate))
        chats = await db.tenant(who.number, select_by_phones, who.number, [whole.call.outside], agent)
        lines = [(line, json.loads(line.body)) for line in whole.events]
        events = [
            (line, event_text(body, who, viewer().t), json.dumps(without_address(body), ensure_ascii=False, indent=2))
            for line, body in lines
        ]
        texts = transcript.transcripts(who, whole.transcripts, site.deps.cache.sealer(who.number), viewer().t.language)
        return site.page(
            "call.html", whole=whole, call=whole.call, stretches=stretches(whole.call), utc_text=utc_text, events=events,
            players=players(who, whole.recordings, whole.call, events), link=link,
            recording_name=recording_name(whole.call.recording), chat=chats.get(whole.call.outside), transcripts=texts,
        )  # fmt: skip

    @pages.get("/calls/<path:call_id>")
    async def call(number: str, call_id: str) -> Response:
        return await show(call_id)

    @pages.post("/recordings/<uuid:recording>/link")
    async def link(number: str, recording: UUID) -> Answer:
        who, recording_files, session = tenant(), site.deps.recording_files, viewer().session
        if recording_files is None or session is None:
            abort(404)
        line = await db.tenant(who.number, note_link, who.number, recording, session.email)
        if line is None:
            abort(404)
        if request.headers.get("X-Fragment"):
            text = short_link(recording_files, who.number, site.deps.public_url, recording)
            return Response(text, content_type="text/plain; charset=utf-8")
        onward = f"/t/{number}/calls/{quote(line.call_id)}"
        flash = Flash(kind="link", body={"recording": str(recording), "call": line.call_id})
        return await lead_on(site.deps, gate.token(), onward, flash)

    @pages.post("/recordings/<uuid:recording>/retry")
    async def retry_fetch(number: str, recording: UUID) -> Answer:
        who, session = tenant(), viewer().session
        call_id = await db.tenant(who.number, retry, who.number, recording, session.email if session else "")
        if call_id is None:
            abort(404)
        onward = f"/t/{number}/calls/{quote(call_id)}"
        return await lead_on(site.deps, gate.token(), onward, note("recording.retried"))

    @pages.post("/transcripts/<uuid:recording>/retry")
    async def retry_transcript(number: str, recording: UUID) -> Answer:
        who, session = tenant(), viewer().session
        call_id = await db.tenant(who.number, transcript.retry, who.number, recording, session.email if session else "")
        if call_id is None:
            abort(404)
        onward = f"/t/{number}/calls/{quote(call_id)}"
        return await lead_on(site.deps, gate.token(), onward, note("transcript.retried"))

    return pages
