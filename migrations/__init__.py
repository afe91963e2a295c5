"""Numbered SQL, forward only; `gateway.store.postgres.migrate` applies it. A file that was released is never changed again."""
