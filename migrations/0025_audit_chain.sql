-- The audit trail is chained: a row's hash covers the row and the hash before it, so that what was changed or taken out is found
-- (`gateway audit verify`). The newest hash of each tenant stands apart, and so does what the oldest row left goes on from.
-- needs: no gateway of an older version. It removes old rows without moving the chain's beginning.

ALTER TABLE audit
    ADD COLUMN actor_kind text NOT NULL DEFAULT 'system'
        CHECK (actor_kind IN ('person', 'key', 'cli', 'operator', 'system')),
    ADD COLUMN source   text NOT NULL DEFAULT '',           -- the address it came from, where there is one
    ADD COLUMN old      jsonb,                              -- what differs, by name; secrets are ***
    ADD COLUMN new      jsonb,
    ADD COLUMN position bigint,                             -- in the tenant's chain, from 1
    ADD COLUMN hash     bytea CHECK (octet_length(hash) = 32);
ALTER TABLE audit ALTER COLUMN at SET DEFAULT clock_timestamp();

-- One row a tenant, and one for operators ('*'). Whoever adds to a trail holds its row, so a chain never forks.
CREATE TABLE audit_chains (
    tenant_id    text PRIMARY KEY,
    position     bigint NOT NULL DEFAULT 0,                 -- of the newest row
    hash         bytea NOT NULL DEFAULT '',
    begins_after bigint NOT NULL DEFAULT 0,                 -- the position of the last row that was pruned
    begins_hash  bytea NOT NULL DEFAULT ''
) WITH (fillfactor = 50);

ALTER TABLE audit_chains ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_chains FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON audit_chains TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON audit_chains TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON audit_chains TO gateway_app, gateway_engine;
GRANT DELETE ON audit_chains TO gateway_engine;

-- A text with its length in bytes before it, so that no two rows read the same; NULL is a length of -1.
CREATE FUNCTION audit_part(part text) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce(int4send(octet_length(convert_to(part, 'UTF8'))) || convert_to(part, 'UTF8'), int4send(-1))
$$;

-- gateway/store/audit_chain.py computes the same from what it reads.
CREATE FUNCTION audit_hash(previous bytea, line audit) RETURNS bytea LANGUAGE sql IMMUTABLE AS $$
    SELECT sha256(previous || audit_part(line.tenant_id) || audit_part(line.position::text)
        || audit_part(((extract(epoch FROM line.at) * 1000000)::bigint)::text)
        || audit_part(line.actor_kind) || audit_part(line.actor) || audit_part(line.source) || audit_part(line.action)
        || audit_part(line.target) || audit_part(line.detail) || audit_part(line.old::text) || audit_part(line.new::text))
$$;

CREATE FUNCTION audit_chained() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    head audit_chains%ROWTYPE;
BEGIN
    UPDATE audit_chains SET position = position + 1 WHERE tenant_id = NEW.tenant_id RETURNING * INTO head;
    IF NOT FOUND THEN
        INSERT INTO audit_chains (tenant_id) VALUES (NEW.tenant_id) ON CONFLICT (tenant_id) DO NOTHING;
        UPDATE audit_chains SET position = position + 1 WHERE tenant_id = NEW.tenant_id RETURNING * INTO head;
    END IF;
    NEW.position := head.position;
    NEW.hash := audit_hash(head.hash, NEW);
    UPDATE audit_chains SET hash = NEW.hash WHERE tenant_id = NEW.tenant_id;
    RETURN NEW;
END $$;

-- Rows of before are chained in the order in which they stand, as they were found.
ALTER TABLE audit NO FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_chains NO FORCE ROW LEVEL SECURITY;
DO $$
DECLARE
    line audit;
    whose text := '';
    last bytea := '';
    place bigint := 0;
BEGIN
    FOR line IN SELECT * FROM audit ORDER BY tenant_id, audit_id LOOP
        IF line.tenant_id <> whose THEN
            whose := line.tenant_id;
            last := '';
            place := 0;
        END IF;
        place := place + 1;
        line.position := place;
        line.actor_kind := CASE WHEN line.actor = 'cli' THEN 'cli' WHEN line.actor LIKE '%@%' THEN 'person'
                                WHEN line.actor LIKE 'gw\_%' THEN 'key' ELSE 'system' END;
        last := audit_hash(last, line);
        UPDATE audit SET position = place, actor_kind = line.actor_kind, hash = last
        WHERE tenant_id = line.tenant_id AND audit_id = line.audit_id;
        INSERT INTO audit_chains AS c (tenant_id, position, hash) VALUES (whose, place, last)
        ON CONFLICT (tenant_id) DO UPDATE SET position = excluded.position, hash = excluded.hash;
    END LOOP;
END $$;
ALTER TABLE audit FORCE ROW LEVEL SECURITY;
ALTER TABLE audit_chains FORCE ROW LEVEL SECURITY;

ALTER TABLE audit ALTER COLUMN position SET NOT NULL, ALTER COLUMN hash SET NOT NULL;
CREATE UNIQUE INDEX audit_position ON audit (tenant_id, position);
CREATE TRIGGER chained BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION audit_chained();
