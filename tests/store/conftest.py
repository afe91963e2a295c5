"""The fixtures of `tests.store.postgres`, for this package."""

from tests.store.database import db, dsn, empty_dsn, postgres

__all__ = ["db", "dsn", "empty_dsn", "postgres"]
