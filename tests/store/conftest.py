"""The fixtures of `tests.store.postgres`, for this package."""

from tests.store.postgres import db, dsn, empty_dsn, postgres

__all__ = ["db", "dsn", "empty_dsn", "postgres"]
