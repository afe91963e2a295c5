"""The use of the AI by the API: the same figures as on its page, of the asking company alone."""

import pytest

from tests.web.pages.test_ai import used
from tests.web.rest.conftest import Api
from tests.web.world import MAPLE


async def test_use_by_day_with_its_cost(api: Api) -> None:
    await api.world.db.engine(used)
    found = (await api.ask("GET", "/ai/use")).json
    assert (found["currency"], found["per_day_tokens"]) == (None, 2_000_000)
    assert [(one["prompt"], one["version"], one["answers"], one["not_sent"], one["prompt_tokens"], one["cost"]) for one in found["days"]] == [
        ("Main", 3, 1, 1, 2_000_000, None), ("Main", 4, 1, 0, 10, None),
    ]  # fmt: skip
    assert {(one["cause"], one["reason"], one["conversations"]) for one in found["hand_overs"]} == {
        ("failed", "too_slow", 1), ("abuse", "client_words", 1),
    }  # fmt: skip
    theirs = await api.new_key("read", of=MAPLE)
    assert {one["prompt"] for one in (await api.ask("GET", "/ai/use", x_api_key=theirs)).json["days"]} == {
        "Secret of another"
    }


@pytest.mark.parametrize(
    "query",
    [
        {"since": "x"}, {"since": "2026-01-01", "until": "2020-01-01"}, {"since": "2020-01-01", "until": "2026-01-01"},
        {"until": "0001-01-01"}, {"until": "9999-12-31"}, {"days": "3"},
    ],
)  # fmt: skip
async def test_days_that_make_no_sense(api: Api, query: dict[str, str]) -> None:
    assert (await api.ask("GET", "/ai/use", query=query)).status == 422
