-- The journal in partitions by the day of receipt (UTC): retention drops a day instead of deleting its rows one by one.
-- A repeat is known by a table of digests of its own, since no unique key reaches across partitions without the day in it.
-- `gateway.store.postgres.partitions` makes the days ahead and drops the old ones, as the owner of the tables.

-- What makes a repeat, kept for as long as a repeat is known.
CREATE TABLE journal_digests (
    tenant_id   text NOT NULL,
    digest      bytea NOT NULL,                         -- of address, UniqueId and body
    received_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, digest)
);
CREATE INDEX journal_digests_age ON journal_digests (tenant_id, received_at);

ALTER TABLE journal RENAME TO journal_whole;
ALTER TABLE journal_whole RENAME CONSTRAINT journal_pkey TO journal_whole_pkey;
ALTER INDEX journal_pending RENAME TO journal_whole_pending;

-- A plain sequence: before PostgreSQL 17 an identity column and partitions do not go together.
CREATE SEQUENCE journal_ids;
CREATE TABLE journal (
    tenant_id   text NOT NULL,
    journal_id  bigint NOT NULL DEFAULT nextval('journal_ids'),
    address     text NOT NULL,
    unique_id   text NOT NULL,
    digest      bytea NOT NULL,
    body        text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    done_at     timestamptz,
    PRIMARY KEY (tenant_id, journal_id, received_at)
) PARTITION BY RANGE (received_at);
CREATE INDEX journal_pending ON journal (tenant_id, journal_id) WHERE done_at IS NULL;

-- Catches what no day was made for: a clock that is wrong, or a gateway that was away for long.
CREATE TABLE journal_rest PARTITION OF journal DEFAULT;

-- Makes a day's partition behind the same walls as its parent; rows of that day that had fallen into the rest move over.
-- Runs as the tables' owner, in a transaction. Returns whether there was anything to make.
CREATE FUNCTION make_journal_day(day date) RETURNS boolean LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    name text := format('journal_%s', to_char(day, 'YYYYMMDD'));
    first timestamptz := day::timestamp AT TIME ZONE 'UTC';
    behind timestamptz := (day + 1)::timestamp AT TIME ZONE 'UTC';
BEGIN
    IF to_regclass(name) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE journal INCLUDING DEFAULTS)', name);
    -- The policies hold for the owner too, who is no tenant; nobody else sees the table before the commit.
    ALTER TABLE journal_rest NO FORCE ROW LEVEL SECURITY;
    EXECUTE format('WITH moved AS (DELETE FROM journal_rest WHERE received_at >= %L AND received_at < %L RETURNING *) '
                   'INSERT INTO %I SELECT * FROM moved', first, behind, name);
    ALTER TABLE journal_rest FORCE ROW LEVEL SECURITY;
    EXECUTE format('ALTER TABLE journal ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name, first, behind);
    PERFORM wall_in(name);
    RETURN true;
END $$;

CREATE FUNCTION wall_in(name text) RETURNS void LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                   'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                   'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
    EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
END $$;
REVOKE ALL ON FUNCTION make_journal_day(date), wall_in(text) FROM PUBLIC;

SELECT wall_in(name) FROM unnest(ARRAY['journal_digests', 'journal', 'journal_rest']) AS name;
GRANT SELECT, INSERT, UPDATE, DELETE ON journal, journal_digests, journal_rest TO gateway_engine;
GRANT SELECT ON journal TO gateway_app;
GRANT USAGE ON SEQUENCE journal_ids TO gateway_engine;

-- What is here already, with the ids it has.
ALTER TABLE journal_whole NO FORCE ROW LEVEL SECURITY;
ALTER TABLE journal_digests NO FORCE ROW LEVEL SECURITY;
ALTER TABLE journal NO FORCE ROW LEVEL SECURITY;
SELECT make_journal_day(day) FROM (
    SELECT DISTINCT (received_at AT TIME ZONE 'UTC')::date AS day FROM journal_whole
    WHERE received_at > now() - interval '60 days' AND received_at < now() + interval '2 days'
    UNION SELECT (now() AT TIME ZONE 'UTC')::date + ahead FROM generate_series(0, 3) AS ahead
) AS days ORDER BY day;
INSERT INTO journal (tenant_id, journal_id, address, unique_id, digest, body, received_at, done_at)
    SELECT tenant_id, journal_id, address, unique_id, digest, body, received_at, done_at FROM journal_whole ORDER BY journal_id;
INSERT INTO journal_digests (tenant_id, digest, received_at) SELECT tenant_id, digest, received_at FROM journal_whole;
SELECT setval('journal_ids', (SELECT coalesce(max(journal_id), 0) + 1 FROM journal_whole), false);
ALTER TABLE journal_digests FORCE ROW LEVEL SECURITY;
ALTER TABLE journal FORCE ROW LEVEL SECURITY;
DROP TABLE journal_whole;
