"""The embedded PostgreSQL server: its binaries, data directory, lock and life."""
