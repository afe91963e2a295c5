"""The page of a company's profile: what bots tell of it, and its week as a picture and as text.

A day's hours are typed as people write them, "09:00-13:00, 14:00-18:00"; an end before its beginning is the next day's. Read
`gateway/web/content/profile.py` for what is stored.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from quart import Blueprint, request
from quart_trio.wrappers import TrioResponse as Response

from gateway.domain.currency import currency_of
from gateway.domain.posts import Invalid
from gateway.domain.profile import BUSINESS_TYPES, DAY_MIN, DAYS, Profile, clock_text, hours_text, week_of
from gateway.domain.text import Bilingual, texts_of
from gateway.store.prompts import select_active
from gateway.web.content.problems import Problem
from gateway.web.content.profile import get_profile, put_profile
from gateway.web.session.auth import Gate
from gateway.web.session.flash import Flash, lead_on, note
from gateway.web.session.surroundings import flashed, look_around
from gateway.web.site import Answer, tenant, viewer

_PERIOD = re.compile(r"\s*([0-9]{1,2}:[0-9]{2})\s*[-–—]\s*([0-9]{1,2}:[0-9]{2})\s*")
_HOLIDAY = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{4})(?:[\s:,]+(.+))?")
_PLAIN = ("business_type", "description", "phone", "address", "website", "currency")
FIELDS = (*_PLAIN, *(f"hours-{day}" for day in DAYS), "working_hours", "holidays")
_BAD_PERIOD = Bilingual(
    "write periods such as 09:00-13:00, 14:00-18:00, or leave it empty where the company is closed",
    "напишите часы, например 09:00-13:00, 14:00-18:00, или оставьте пустым для выходного",
)
_BAD_HOLIDAY = Bilingual(
    "write one day a line, such as 2026-12-31, with hours behind it where it is not closed: 2027-01-02 12:00-16:00",
    "по одному дню в строке, например 31.12.2026; если не выходной, то с часами: 02.01.2027 12:00-16:00",
)


@dataclass(frozen=True, slots=True)
class Bar:
    """A period in the picture of a week: of the day whose line it is, or the rest of the night before. In minutes."""

    day: int
    start: int
    length: int
    night: bool


def bars(profile: Profile) -> list[Bar]:
    """The week as bars, one line a day; what is past midnight stands on the next day's line."""
    made = []
    for day, periods in enumerate(week_of(profile.working_hours)):
        for one in periods:
            made.append(Bar(day, one.start, min(one.end, DAY_MIN) - one.start, night=False))
            if one.end > DAY_MIN:
                made.append(Bar((day + 1) % len(DAYS), 0, one.end - DAY_MIN, night=True))
    return made


def periods_of(text: str) -> list[tuple[str, str]] | None:
    """A day's periods as people write them; None for what is none."""
    found = []
    for part in filter(str.strip, re.split("[,;]", text)):
        match = _PERIOD.fullmatch(part)
        if match is None:
            return None
        start, end = (f"{hour:0>2}:{minute}" for hour, minute in (one.split(":") for one in match.groups()))
        if end <= start and end < "24:00":
            end = f"{int(end[:2]) + 24:02d}:{end[3:]}"
        found.append((start, end))
    return found


def form_of(profile: Profile) -> dict[str, str]:
    """The fields of the form for a profile."""
    plain = profile.plain()
    values = {name: str(plain[name]) for name in _PLAIN}
    for day, periods in zip(DAYS, week_of(profile.working_hours), strict=True):
        values[f"hours-{day}"] = ", ".join(f"{clock_text(one.start)}-{_end(one.end)}" for one in periods)
    lines = []
    for holiday in profile.holidays:
        period = holiday.period()
        lines.append(holiday.date.isoformat() + (f" {clock_text(period.start)}-{_end(period.end)}" if period else ""))
    return {**values, "holidays": "\n".join(lines)}


def _end(minutes: int) -> str:
    return clock_text(minutes if minutes == DAY_MIN else minutes % DAY_MIN)


def data_of(form: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """A profile's data from the form's fields, and what cannot be read, by field."""
    problems: list[Problem] = []
    data: dict[str, Any] = {name: form.get(name, "") for name in _PLAIN}
    hours: dict[tuple[str, str], list[str]] = {}
    for day in DAYS:
        periods = periods_of(form.get(f"hours-{day}", ""))
        if periods is None:
            problems.append((f"hours-{day}", _BAD_PERIOD))
        for period in periods or ():
            hours.setdefault(period, []).append(day)
    data["working_hours"] = [{"days": days, "from": start, "to": end} for (start, end), days in hours.items()]
    holidays: list[Any] = []
    for line in filter(None, map(str.strip, form.get("holidays", "").splitlines())):
        match = _HOLIDAY.fullmatch(line)
        open_at = periods_of(match[2] or "") if match is not None else None
        if match is None or open_at is None or len(open_at) > 1:
            problems.append(("holidays", _BAD_HOLIDAY))
            break
        date = match[1] if "-" in match[1] else "-".join(f"{int(part):02d}" for part in reversed(match[1].split(".")))
        holidays.append({"date": date, "from": open_at[0][0], "to": open_at[0][1]} if open_at else date)
    return {**data, "holidays": holidays}, problems


def _field_of(path: str) -> str:
    return path.partition("[")[0].partition(".")[0]


def profile_pages(gate: Gate) -> Blueprint:
    """The page `/t/<number>/profile`."""
    pages = Blueprint("profile", __name__, url_prefix="/t/<number>/profile")
    pages.before_request(partial(look_around, gate))
    site, db = gate.site, gate.site.deps.db

    @pages.get("")
    async def profile(number: str) -> Response:
        stored = await get_profile(db, tenant())
        refused = flashed("profile")
        found = refused.body["problems"] if refused is not None else {}
        values = refused.body["values"] if refused is not None else form_of(stored)
        prompt = await db.tenant(tenant().number, select_active, tenant().number)
        return site.page(
            "profile.html", values=values, problems={name: found.get(name) for name in FIELDS}, refused=bool(found), days=DAYS,
            types=BUSINESS_TYPES, bars=bars(stored), week=hours_text(stored, viewer().t.language),
            own_currency=currency_of(tenant().country), prompt_active=prompt is not None,
        )  # fmt: skip

    @pages.post("")
    async def save(number: str) -> Answer:
        form = {name: value[:20_000] for name, value in (await request.form).items() if name != "csrf"}
        data, problems = data_of(form)
        session = viewer().session
        assert session is not None
        try:
            if problems:
                raise Invalid(tuple(problems))
            await put_profile(db, tenant(), data, session.email)
        except Invalid as refused:
            body = {"values": {**form_of(Profile()), **form}, "problems": shown(refused.problems)}
            return await lead_on(site.deps, gate.token(), f"/t/{number}/profile", Flash(kind="profile", body=body))
        return await lead_on(site.deps, gate.token(), f"/t/{number}/profile", note("profile.saved"))

    return pages


def shown(problems: Sequence[Problem]) -> dict[str, Mapping[str, str]]:
    """Problems by field and language; the first of each field."""
    found: dict[str, Mapping[str, str]] = {}
    for path, text in problems:
        found.setdefault(_field_of(path), dict(texts_of(text)))
    return found
