"""How a message is cut into what a messenger takes, and when a window is open."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.channel import Capabilities, Outgoing, OutgoingFile, Unit, length, parts_of, split

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)


def can(limit: int, unit: Unit = "characters", caption: int = 0) -> Capabilities:
    return Capabilities(text_limit=limit, text_unit=unit, caption_limit=caption)


def picture(kind: str = "image") -> OutgoingFile:
    return OutgoingFile(id="1", kind=kind, name="a.jpg", content_type="image/jpeg", size=10)  # type: ignore[arg-type]


@pytest.mark.parametrize("unit", ["characters", "utf16", "bytes"])
def test_the_cut_is_between_words_and_loses_none(unit: Unit) -> None:
    text = "Первый абзац, две строки.\nВторая строка 👍🏽 здесь.\n\nВторой абзац. Ещё предложение и немного слов."
    for limit in (8, 20, 41, 60, 1000):
        pieces = split(text, can(limit, unit))
        assert all(0 < length(piece, unit) <= limit for piece in pieces if len(piece) > 1)
        assert "".join("".join(pieces).split()) == "".join(text.split())


@given(st.text(max_size=300), st.integers(4, 50), st.sampled_from(["characters", "utf16", "bytes"]))
def test_whatever_the_text_nothing_is_lost_and_nothing_too_long(text: str, limit: int, unit: Unit) -> None:
    pieces = split(text, can(limit, unit))
    assert "".join("".join(pieces).split()) == "".join(text.split())
    assert all(length(piece, unit) <= max(limit, 4) for piece in pieces)
    assert all(pieces)


def test_a_paragraph_is_the_best_cut_and_an_emoji_is_not_cut() -> None:
    assert split("one two three\n\nfour five", can(20)) == ["one two three", "four five"]
    family = "👩\u200d👩\u200d👧"
    assert split(f"aaaa{family}bb", can(6)) == ["aaaa", f"{family}b", "b"]


def test_a_file_brings_a_short_text_with_it_and_a_long_one_comes_first() -> None:
    assert [(part.text, part.file is not None, part.token) for part in parts_of(can(100, caption=10), "7", "short", [picture()], token="t")] == [
        ("short", True, "t.0")
    ]  # fmt: skip
    found = parts_of(can(100, caption=10), "7", "longer than ten", [picture(), picture()], reply_to="5", token="t")
    assert [(part.text, part.file is not None, part.reply_to) for part in found] == [
        ("longer than ten", False, "5"), ("", True, ""), ("", True, ""),
    ]  # fmt: skip
    assert len({part.token for part in found}) == 3
    assert [part.text for part in parts_of(can(100, caption=10), "7", "short", [picture("voice")])] == ["short", ""]


def test_a_part_is_the_same_after_it_was_stored() -> None:
    for part in (
        Outgoing(to="7", text="a", token="t.0", reply_to="5"), Outgoing(to="7", file=picture(), token="t.1"),
        Outgoing(to="7", latitude=53.9, longitude=27.5),
    ):  # fmt: skip
        assert Outgoing.read(part.body()) == part


def test_a_window_is_open_for_so_long_after_the_client_wrote() -> None:
    day = Capabilities(text_limit=10, window_s=86400.0)
    assert day.open_at(NOON, NOON + timedelta(hours=23))
    assert not day.open_at(NOON, NOON + timedelta(hours=24))
    assert not day.open_at(None, NOON)
    assert can(10).open_at(None, NOON)
    assert day.window_until(NOON) == NOON + timedelta(days=1)
