"""The page of the profile: saved, drawn, and what was typed is not lost where it is refused."""

import re

from gateway.domain.profile import Profile, hours_text
from gateway.web.content.profile import get_profile
from gateway.web.pages.profile import bars, data_of, form_of, periods_of
from tests.web.conftest import SignIn, submitted
from tests.web.world import CSRF, JUNE, World

HOME = "/t/0367/profile"
FORM = {
    "csrf": CSRF, "business_type": "restaurant", "description": "Пицца\r\nи паста", "phone": "+375 29 111-22-33", "address": "Minsk",
    "website": "https://june.example", "currency": "byn", "hours-mon": "9:00–13:00, 14:00-18:00", "hours-sat": "10:00-02:00",
    "hours-tue": "09:00-13:00; 14:00-18:00", "holidays": "31.12.2026\n2027-01-02 12:00-16:00\n",
}  # fmt: skip


async def test_a_profile_is_saved_and_shown(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    page = await submitted(client, HOME, FORM)
    assert "The profile was saved." in page
    june = world.cache.tenant(JUNE)
    assert june is not None
    profile = await get_profile(world.db, june)
    assert (profile.business_type, profile.currency, profile.description) == ("restaurant", "BYN", "Пицца\r\nи паста")
    assert hours_text(profile, "en") in page
    assert "Mon–Tue 09:00–13:00, 14:00–18:00; Wed–Fri closed; Sat 10:00–02:00; Sun closed" in page
    assert len(re.findall("<rect", page)) == 6, "Monday and Tuesday with a break, Saturday and its night"
    again = data_of(form_of(profile))
    assert again[1] == []
    assert Profile.model_validate(again[0]) == profile


async def test_what_is_refused_stays_in_its_field(world: World, sign_in: SignIn) -> None:
    client = await sign_in()
    wrong = {
        **FORM,
        "website": "june",
        "hours-mon": "all day",
        "hours-sat": "<b>",
        "holidays": "31.12.2026\nsome day",
        "phone": "call",
    }
    page = await submitted(client, HOME, wrong)
    assert page.count('aria-invalid="true"') == 3, "what cannot be read comes first"
    assert 'value="all day"' in page
    assert "&lt;b&gt;" in page
    page = await submitted(client, HOME, {**FORM, "website": "june", "phone": "call", "holidays": "30.02.2026"}, "ru")
    assert page.count('aria-invalid="true"') == 3
    assert "должен быть адрес" in page
    page = await submitted(client, HOME, {**FORM, "hours-sat": "10:00-34:00", "hours-sun": "09:00-12:00"})
    assert 'id="p-working_hours"' in page or 'id="p-hours-sat"' in page
    june = world.cache.tenant(JUNE)
    assert june is not None
    assert await get_profile(world.db, june) == Profile()


def test_periods_as_people_write_them() -> None:
    assert periods_of("9:00-18:00") == [("09:00", "18:00")]
    assert periods_of("18:00—2:00,") == [("18:00", "26:00")]
    assert periods_of("00:00-24:00") == [("00:00", "24:00")]
    assert periods_of("10:00-10:00") == [("10:00", "34:00")]
    assert periods_of(" ") == []
    assert [periods_of(text) for text in ("9-18", "09:00", "x", "09:00-")] == [None] * 4


def test_bars_go_on_in_the_next_line() -> None:
    night = Profile.model_validate({"working_hours": [{"days": ["sun"], "from": "22:00", "to": "26:00"}]})
    assert [(bar.day, bar.start, bar.length, bar.night) for bar in bars(night)] == [
        (6, 1320, 120, False),
        (0, 0, 120, True),
    ]
