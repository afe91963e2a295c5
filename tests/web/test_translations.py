"""The two languages have equal keys, fit their plural forms, and cover every code that the gateway itself makes."""

import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from gateway.domain.calls import Phase
from gateway.domain.events import NAMES, Direction, HungUpBy, Result
from gateway.domain.health import State
from gateway.domain.texts import LANGUAGES, plural, unequal
from gateway.web.formats import TONES, Formats, duration, offset, phone
from gateway.web.site import Asset, _environment
from gateway.web.translations import Words, preferred, words

EN, RU = words("en").texts, words("ru").texts


def test_the_languages_are_equal() -> None:
    """In keys, plural forms and the values that are filled in."""
    assert unequal({"en": EN, "ru": RU}) == []


def test_what_is_unequal_is_found() -> None:
    forms = {"one": "{n} day", "other": "{n} days"}
    assert unequal({"en": {"a": "{x}", "b": "-", "d": forms}, "ru": {"a": "{y}", "c": "-", "d": forms}}) == [
        "b: not in every language",
        "c: not in every language",
        "a: the languages take different values",
        "d: the forms in ru must be few, many, one",
    ]


@pytest.mark.parametrize(
    ("prefix", "codes"),
    [
        ("direction", Direction), ("result", Result), ("hung_up_by", HungUpBy), ("phase", Phase), ("state", State),
        ("state_says", State), ("event", NAMES.values()), ("delivery_state", TONES["delivery"]),
        ("attempt", TONES["attempt"]),
        ("health", ["ready", "unavailable", "rate_limited", "needs_attention", "bad_credentials", "bad_settings",
                    "remote_protocol_error", "local_protocol_error", "database_away", "spooling", "spool_refuses", "parked", "restarting"]),
        ("error", [f"{code}.{part}" for code in (400, 401, 403, 404, 405, 413, 429, 500, 503) for part in ("title", "text")]),
        ("months", range(1, 13)),
    ],
)  # fmt: skip
def test_every_code_of_ours_has_a_text(prefix: str, codes: list[str]) -> None:
    assert [code for code in codes if f"{prefix}.{code}" not in EN] == []


def test_an_unknown_code_is_shown_as_it_is() -> None:
    t = words("en")
    assert t.code("health", "never_heard_of") == "never_heard_of"
    assert t.code("health", "") == ""


def test_a_code_of_an_adapter_has_the_adapters_text() -> None:
    vendor, other = {"health.asleep": "Asleep.", "health.online": "Awake."}, {"health.asleep": "Resting."}
    t = Words("en", {"health.online": "Connected.", "health.ready": "Works."}, {"vendor": vendor, "other": other})
    assert [t.code("health", "asleep", kind) for kind in ("vendor", "other")] == ["Asleep.", "Resting."]
    assert t.code("health", "vendor_asleep") == "Asleep."
    assert t.code("health", "asleep") == "Asleep.", "whoever made it is not known"
    assert t.code("health", "online", "vendor") == "Awake."
    assert [t.code("health", "online", kind) for kind in ("", "other")] == ["Connected.", "Connected."]
    assert t.code("health", "other_ready") == "Works.", "what all share needs no text of the adapter's own"
    assert t.code("health", "asleep", "third") == "asleep"


def test_templates_name_only_texts_that_exist() -> None:
    asset = Asset("text/css", b"", "0")
    env = _environment({"style.css": asset, "live.js": asset, "logo.svg": asset}, {}, "x", dict)
    assert env.loader is not None
    for template in env.loader.list_templates():
        source = env.loader.get_source(env, template)[0]
        env.parse(source)
        for key in re.findall(r'\bt\("([a-z_.0-9]+)"[,)]', source):
            assert key in EN, (template, key)
        assert "safe" not in re.findall(r"\|\s*(\w+)", source)


@pytest.mark.parametrize(
    ("language", "n", "form"),
    [("en", 1, "one"), ("en", 0, "other"), ("en", 11, "other"), ("ru", 1, "one"), ("ru", 21, "one"), ("ru", 11, "many"),
     ("ru", 2, "few"), ("ru", 12, "many"), ("ru", 22, "few"), ("ru", 0, "many"), ("ru", 111, "many")],
)  # fmt: skip
def test_plural_forms(language: str, n: int, form: str) -> None:
    assert plural(language, n) == form


@pytest.mark.parametrize(
    ("header", "language"),
    [("ru-RU,ru;q=0.9,en;q=0.8", "ru"), ("en", "en"), ("de, en;q=0.5, ru;q=0.7", "ru"), ("de", None), ("", None),
     ("en;q=0, ru;q=0.1", "ru"), ("ru;q=x", None), ("*", None)],
)  # fmt: skip
def test_the_browsers_language(header: str, language: str | None) -> None:
    assert preferred(header) == language


def test_formats() -> None:
    assert [duration(s) for s in (None, 0, 4.4, 59.6, 83, 3701)] == ["", "0:00", "0:04", "1:00", "1:23", "1:01:41"]
    assert phone("+375291002001") == "+375 29 100-20-01"
    assert phone("+1") == "+1"
    assert phone("150") == "150"
    assert offset(timedelta(seconds=64.25)) == "+1:04.2"
    now = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
    for language, today, day in (("en", "13:00", "20 Nov"), ("ru", "13:00", "20 ноя")):
        f = Formats(words(language), ZoneInfo("Europe/Minsk"), lambda: now)
        assert str(f.clock(now, seconds=False)).endswith(f">{today}</time>")
        assert 'title="2026-11-21 10:00:00 UTC"' in f.clock(now)
        assert day in f.clock(now - timedelta(days=1))
        assert f.party("anonymous") == f.t("calls.anonymous")
    en = Formats(words("en"), ZoneInfo("UTC"), lambda: now)
    spans = [en.span(s) for s in (5, 90, 7200, 3 * 86400)]
    assert spans == ["5 s", "1 min", "2 h", "3 days"]
    assert "in 1 min" in en.ago(now + timedelta(seconds=61))
    assert [en.figure("lag_s", v) for v in (0.0041, 2.5, None, True)] == ["4 ms", "2.5 s", "—", "yes"]
    assert set(LANGUAGES) == {"en", "ru"}
