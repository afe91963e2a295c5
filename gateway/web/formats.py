"""How a person reads values: times in the tenant's zone, durations, telephone numbers, and the tone of a state.

Pure but for the clock, which it is given. A tone ("ok", "busy", "warn", "bad", "calm") picks a colour; the text beside it
states the same, so nothing is shown by colour alone. Read `gateway/web/templates/parts.html` next.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import phonenumbers
from markupsafe import Markup

from gateway.domain.numbers import ANONYMOUS
from gateway.web.translations import Words

TONES = {
    "result": {"answered": "ok", "missed": "bad", "busy": "warn", "failed": "bad", "no_answer": "warn", "cancelled": "calm"},
    "order": {
        "asked": "busy", "taken": "busy", "refused": "bad", "doubtful": "warn", "ringing": "warn", "talking": "ok",
        "answered": "ok", "missed": "bad", "busy": "warn", "failed": "bad", "no_answer": "warn", "cancelled": "calm",
    },
    "order_status": {"new": "warn", "confirmed": "busy", "in_progress": "busy", "done": "ok", "cancelled": "calm"},
    "phase": {"ringing": "warn", "talking": "ok", "ended": "calm", "merged": "calm"},
    "state": {
        "online": "ok", "starting": "busy", "connecting": "busy", "degraded": "warn", "offline": "bad",
        "attention": "bad", "failed": "bad", "stopped": "calm",
    },
    "status": {"active": "ok", "troubled": "warn", "inactive": "calm", "pending": "warn", "error": "bad"},
    "delivery": {
        "done": "ok", "pending": "busy", "failed": "bad", "doubtful": "warn", "expired": "calm", "superseded": "calm",
    },
    "deal": {"success": "ok", "waiting": "busy", "skipped": "calm", "failed": "bad"},
    "deal_verdict": {"create": "ok", "update": "busy", "recreate": "busy", "refused": "bad", "deal_not_found": "bad"},
    "deal_row": {"same": "ok", "changed": "busy", "empty_there": "busy", "refused": "bad"},
    "module": {"active": "ok", "waiting": "warn", "inactive": "calm", "new": "calm", "deleted": "calm"},
    "attempt": {
        "done": "ok", "retry": "warn", "rate_limited": "warn", "waiting": "calm", "attention": "bad", "failed": "bad",
        "expired": "calm", "doubtful": "warn", "bug": "bad",
    },
}  # fmt: skip


def tone(family: str, code: str | None) -> str:
    """The tone of a code; calm for one that is not known."""
    return TONES[family].get(code or "", "calm")


def duration(seconds: float | None) -> str:
    """`m:ss`, from an hour on `h:mm:ss`; empty for None."""
    if seconds is None:
        return ""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


@lru_cache(maxsize=4096)
def phone(number: str) -> str:
    """An E.164 number with its groups apart; anything else as it is."""
    if not number.startswith("+"):
        return number
    try:
        parsed = phonenumbers.parse(number)
    except phonenumbers.NumberParseException:
        return number
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def offset(delta: timedelta) -> str:
    """`+0:04.2`: how long after the beginning."""
    tenths = max(0, round(delta.total_seconds() * 10))
    minutes, rest = divmod(tenths, 600)
    return f"+{minutes}:{rest // 10:02d}.{rest % 10}"


@dataclass(frozen=True)
class Formats:
    """The formats of one reader: their words and the zone of the tenant in view."""

    t: Words
    zone: ZoneInfo
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def clock(self, moment: datetime | None, *, seconds: bool = True) -> Markup:
        """A `<time>`: the hour today, otherwise with its date; the title is UTC to the second."""
        if moment is None:
            return Markup("")
        local = moment.astimezone(self.zone)
        today = self.now().astimezone(self.zone).date()
        text = local.strftime("%H:%M:%S" if seconds else "%H:%M")
        if local.date() != today:
            text = f"{self.day(local)} {text}"
        return self._time(moment, text)

    def exact(self, moment: datetime) -> Markup:
        """A `<time>` to the millisecond."""
        local = moment.astimezone(self.zone)
        return self._time(moment, f"{local:%H:%M:%S}.{local.microsecond // 1000:03d}")

    def full(self, moment: datetime) -> Markup:
        """A `<time>` with its date, whatever the day."""
        local = moment.astimezone(self.zone)
        return self._time(moment, f"{self.day(local, year=True)}, {local:%H:%M:%S}")

    def day(self, local: datetime, *, year: bool = False) -> str:
        """`21 Nov`, `21 ноя`; with the year if requested or not the current one."""
        month = self.t(f"months.{local.month}")
        this_year = self.now().astimezone(self.zone).year
        return f"{local.day} {month} {local.year}" if year or local.year != this_year else f"{local.day} {month}"

    def ago(self, moment: datetime | None) -> Markup:
        """A `<time>` relative to now: how long ago, or in how long."""
        if moment is None:
            return Markup("")
        seconds = round((self.now() - moment).total_seconds())
        return self._time(moment, self.t("time.in" if seconds < 0 else "time.ago", span=self.span(abs(seconds))))

    def span_since(self, moment: datetime) -> Markup:
        """A `<time>` with how long it has been since."""
        return self._time(moment, self.span(max(0.0, (self.now() - moment).total_seconds())))

    def span(self, seconds: float) -> str:
        """`40 s`, `5 min`, `3 h`, `2 days`."""
        whole = round(seconds)
        if whole < 60:
            return self.t("time.s", count=whole)
        if whole < 3600:
            return self.t("time.min", count=whole // 60)
        if whole < 2 * 86400:
            return self.t("time.h", count=whole // 3600)
        return self.t("time.days", n=whole // 86400)

    def size(self, count: int | None) -> str:
        """Bytes as `12 KiB`, `3.4 MiB`, `1.2 GiB`."""
        if count is None:
            return "—"
        value, unit = float(count), "b"
        for larger in ("kib", "mib", "gib", "tib"):
            if value < 1024:
                break
            value, unit = value / 1024, larger
        text = f"{value:.0f}" if unit == "b" or value >= 100 else f"{value:.1f}"
        return self.t(f"size.{unit}", count=text)

    def age(self, moment: datetime) -> str:
        """Seconds since `moment`, for a timer that the page goes on counting."""
        return f"{max(0.0, (self.now() - moment).total_seconds()):.1f}"

    def party(self, number: str) -> str:
        """A number as a person reads it."""
        return self.t("calls.anonymous") if number == ANONYMOUS else phone(number)

    def figure(self, name: str, value: Any) -> str | Markup:
        """One of the values that an actor counts: a name that ends in `_s` is seconds."""
        match value:
            case None:
                return "—"
            case bool():
                return self.t("word.yes" if value else "word.no")
            case datetime():
                return self.ago(value)
            case int() | float() if name.endswith("_s"):
                return (
                    self.t("time.ms", count=round(value * 1000))
                    if abs(value) < 1
                    else self.t("time.s", count=f"{value:.1f}")
                )
            case _:
                return str(value)

    def _time(self, moment: datetime, text: str) -> Markup:
        utc = moment.astimezone(UTC)
        return Markup('<time datetime="{}" title="{} UTC">{}</time>').format(
            utc.isoformat(timespec="milliseconds"), utc.strftime("%Y-%m-%d %H:%M:%S"), text
        )
