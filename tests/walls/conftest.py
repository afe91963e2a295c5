"""A database with both companies in it, made once a test module."""

from tests.store.database import db, dsn, empty_dsn, postgres

__all__ = ["db", "dsn", "empty_dsn", "postgres"]
