"""Trouble that people are told of: what counts, when a message is due, and its words. Pure.

    in trouble for DEBOUNCE -> told once -> a reminder a day -> well for DEBOUNCE -> told once that it is over

What is due goes into one message; there are at most six an hour, and what does not fit waits and goes into the next one as a sum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from gateway.domain.text import Bilingual, texts_of

Kind = Literal["error", "pending", "backlog", "pbx_offline", "certificate", "ai_limit"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DEBOUNCE = timedelta(minutes=2)
SLOW = timedelta(minutes=10)
"""For what is under way and may take a while."""
REMIND = timedelta(days=1)
PER_HOUR = 6
MOST_LINES = 20

TITLES: dict[str, Bilingual] = {
    "error": Bilingual("does not work", "не работает"),
    "pending": Bilingual("is not connected yet", "ещё не подключено"),
    "backlog": Bilingual("deliveries wait", "доставки ждут"),
    "certificate": Bilingual("the certificate of the public address", "сертификат публичного адреса"),
    "pbx_offline": Bilingual("the PBX is not connected", "АТС не подключена"),
    "ai_limit": Bilingual("the day's budget is being used up", "дневной лимит расходуется"),
}
OF_INSTALLATION: frozenset[Kind] = frozenset({"certificate"})
"""Only operators can have this."""
BEGUN = Bilingual("Trouble", "Неполадка")
OVER = Bilingual("Over", "Устранено")
STILL = Bilingual("Still in trouble", "Всё ещё не устранено")
MORE = Bilingual("… and {n} more", "… и ещё {n}")
SINCE = Bilingual("since", "с")


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is in trouble at this moment."""

    key: str
    kind: Kind
    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """What is stored of a trouble."""

    key: str
    kind: str
    title: str
    detail: str
    since: datetime
    calm_since: datetime | None = None
    told_at: datetime | None = None
    reminded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """What a message is to be about, and what to forget without one."""

    begun: tuple[Notice, ...] = ()
    over: tuple[Notice, ...] = ()
    still: tuple[Notice, ...] = ()
    forgotten: tuple[Notice, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.begun or self.over or self.still)


def patience(kind: str) -> timedelta:
    """How long a trouble lasts before people are told."""
    return SLOW if kind == "pending" else DEBOUNCE


def due(notices: Sequence[Notice], now: datetime) -> Due:
    """What is due at this moment."""
    begun, over, still, forgotten = list[Notice](), list[Notice](), list[Notice](), list[Notice]()
    for one in notices:
        if one.calm_since is not None:
            if now - one.calm_since >= DEBOUNCE:
                (over if one.told_at is not None else forgotten).append(one)
        elif one.told_at is None:
            if now - one.since >= patience(one.kind):
                begun.append(one)
        elif now - (one.reminded_at or one.told_at) >= REMIND:
            still.append(one)
    return Due(tuple(begun), tuple(over), tuple(still), tuple(forgotten))


def has_room(sent: Sequence[datetime], now: datetime) -> bool:
    """Whether one more message may leave in this hour."""
    return sum(now - at < timedelta(hours=1) for at in sent) < PER_HOUR


def subject_of(found: Due, name: str, language: str) -> str:
    """One line about it."""
    first = next(iter((*found.begun, *found.still, *found.over)))
    count = len(found.begun) + len(found.still) + len(found.over)
    head = texts_of(BEGUN if found.begun else STILL if found.still else OVER)[language]
    rest = f" (+{count - 1})" if count > 1 else ""
    return f"{name}: {head}: {first.title}{rest}"


def text_of(found: Due, name: str, url: str, language: str) -> str:
    """The message, plain text."""
    lines = [name]
    for head, notices in ((BEGUN, found.begun), (STILL, found.still), (OVER, found.over)):
        if not notices:
            continue
        lines += ["", f"{texts_of(head)[language]}:"]
        for one in notices[:MOST_LINES]:
            what = texts_of(TITLES[one.kind])[language] if one.kind in TITLES else one.kind
            detail = f": {one.detail[:200]}" if one.detail and head is not OVER else ""
            since = f" ({texts_of(SINCE)[language]} {one.since:%Y-%m-%d %H:%M} UTC)"
            lines.append(f"- {one.title}: {what}{detail}{since}")
        if len(notices) > MOST_LINES:
            lines.append(texts_of(MORE)[language].format(n=len(notices) - MOST_LINES))
    return "\n".join([*lines, "", url])
