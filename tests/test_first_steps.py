"""An installation that is still empty says what to do next, and one that is not says nothing."""

import logging
from pathlib import Path

import pytest

from gateway.first_steps import log_first_steps
from gateway.settings import Settings
from gateway.store.postgres.pool import Database
from gateway.store.users import upsert_user
from tests.store.database import db, dsn, postgres

__all__ = ["db", "dsn", "postgres"]


async def test_an_empty_gateway_says_how_its_first_user_is_made(db: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "gateway.first_steps")
    settings = Settings(bind=("127.0.0.1", 8010))
    await log_first_steps(db, settings, companies=0)
    first, second = caplog.messages
    assert "`gateway user add YOU@example.com --operator`, then open http://127.0.0.1:8010/" in first
    assert "`gateway apply tenants.yaml`" in second

    caplog.clear()
    await log_first_steps(db, Settings(data_dir=Path("/srv/gw")), companies=1)
    assert ["`GATEWAY_DATA_DIR=/srv/gw gateway user add" in text for text in caplog.messages] == [True]

    caplog.clear()
    await db.engine(upsert_user, None, "op@gateway.example", "hash")
    await log_first_steps(db, settings, companies=1)
    assert caplog.messages == []
