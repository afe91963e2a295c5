-- Several instances on one database: tenants are hashed to shards, and a shard is what an instance leases.

CREATE TABLE shards (
    shard       integer PRIMARY KEY,
    owner       text,
    epoch       bigint NOT NULL DEFAULT 0,              -- raised by every change of owner; every write names it
    held_since  timestamptz,
    expires_at  timestamptz NOT NULL DEFAULT '-infinity',
    heir        text,                                   -- who is to have it next, and connects already
    heir_ready  boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50);
INSERT INTO shards (shard) SELECT generate_series(0, 255);

CREATE TABLE instances (
    instance    text PRIMARY KEY,
    started_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    leaving     boolean NOT NULL DEFAULT false          -- it stops, and is given nothing more
) WITH (fillfactor = 50);

GRANT SELECT, UPDATE ON shards TO gateway_engine;
GRANT SELECT, INSERT, UPDATE, DELETE ON instances TO gateway_engine;
