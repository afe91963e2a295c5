"""When people are told of trouble: once when it has lasted, once when it is over, once a day between, never a storm."""

from datetime import UTC, datetime, timedelta

import pytest

from gateway.domain.notices import DEBOUNCE, PER_HOUR, SLOW, Due, Notice, due, has_room, subject_of, text_of

NOW = datetime(2026, 11, 28, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def notice(since: timedelta, *, kind: str = "error", calm: timedelta | None = None, told: timedelta | None = None,
           reminded: timedelta | None = None) -> Notice:  # fmt: skip
    def ago(span: timedelta | None) -> datetime | None:
        return NOW - span if span is not None else None

    return Notice(f"{kind} x", kind, "RetailCRM", "401", NOW - since, ago(calm), ago(told), ago(reminded))


@pytest.mark.parametrize(
    ("one", "part"),
    [
        (notice(DEBOUNCE - SECOND), None),
        (notice(DEBOUNCE), "begun"),
        (notice(DEBOUNCE, kind="pending"), None),
        (notice(SLOW, kind="pending"), "begun"),
        (notice(DEBOUNCE * 9, told=DEBOUNCE), None),
        (notice(DEBOUNCE * 9, told=DEBOUNCE, calm=DEBOUNCE - SECOND), None),
        (notice(DEBOUNCE * 9, told=DEBOUNCE, calm=DEBOUNCE), "over"),
        (notice(DEBOUNCE * 9, calm=DEBOUNCE - SECOND), None),
        (notice(DEBOUNCE * 9, calm=DEBOUNCE), "forgotten"),
        (notice(timedelta(days=3), told=timedelta(days=1)), "still"),
        (notice(timedelta(days=3), told=timedelta(days=2), reminded=timedelta(hours=23)), None),
        (notice(timedelta(days=3), told=timedelta(days=2), reminded=timedelta(days=1)), "still"),
    ],
)
def test_what_is_due(one: Notice, part: str | None) -> None:
    assert due([one], NOW) == (Due(**{part: (one,)}) if part else Due())


def test_six_messages_an_hour() -> None:
    sent = [NOW - timedelta(minutes=n) for n in range(PER_HOUR)]
    assert not has_room(sent, NOW)
    assert has_room(sent[1:], NOW)
    assert has_room([*sent[1:], NOW - timedelta(hours=1)], NOW)


@pytest.mark.parametrize(("language", "begun", "over"), [("en", "Trouble", "Over"), ("ru", "Неполадка", "Устранено")])
def test_the_words(language: str, begun: str, over: str) -> None:
    one = notice(DEBOUNCE)
    found = Due(begun=(one,) * 25, over=(one,))
    text = text_of(found, "June (0367)", "https://gw.example/t/0367/integrations", language)
    assert text.startswith("June (0367)\n")
    assert begun in text
    assert over in text
    assert "2026-11-28 11:58 UTC" in text
    assert text.count("\n- ") == 21, "twenty, and the one that is over"
    assert text.endswith("https://gw.example/t/0367/integrations")
    assert subject_of(found, "June", language) == f"June: {begun}: RetailCRM (+25)"
    assert subject_of(Due(over=(one,)), "June", language) == f"June: {over}: RetailCRM"
