"""A new operator's first quarter of an hour: an empty folder becomes two companies whose calls reach their CRM."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.first_quarter import CHROMIUM, first_quarter

MOST_CLICKS = 60
"""For two companies with everything; a page that asks for more than it needs, or leads nowhere, shows here."""

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.long,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]


async def test_the_pages_lead_from_nothing_to_calls_in_the_crm(tmp_path: Path) -> None:
    expect.set_options(timeout=20_000)  # a machine with other work
    walk, place = await first_quarter(tmp_path)
    print(walk.table())
    assert walk.complaints == []
    assert sum(step.clicks for step in walk.steps) <= MOST_CLICKS
    for company in place.companies:
        assert len(company.crm.uploads) == 1
        assert company.crm.telephony_enabled
