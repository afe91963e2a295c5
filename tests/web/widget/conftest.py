"""Two companies with a widget each."""

from collections.abc import AsyncIterator

import pytest

from gateway.store.postgres.pool import Database
from tests.store.database import db, dsn, postgres
from tests.web.widget.here import Here, open_here

__all__ = ["db", "dsn", "postgres"]


@pytest.fixture
async def here(db: Database) -> AsyncIterator[Here]:
    """The companies, with the actors of their chats running."""
    async with open_here(db) as found:
        yield found
