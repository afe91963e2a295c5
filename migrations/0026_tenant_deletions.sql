-- Companies that are being deleted: caches leave them out from the moment of the request, and whoever was stopped midway, or
-- another instance, goes on from here. The row goes last, with the company's own.

CREATE TABLE tenant_deletions (
    tenant_id      text PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    stage          text NOT NULL DEFAULT 'requested' CHECK (stage IN ('requested', 'withdrawn')),
    requested_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    requested_by   text NOT NULL,
    requested_kind text NOT NULL,                       -- as audit.actor_kind
    requested_from text NOT NULL DEFAULT '',
    problems       text[] NOT NULL DEFAULT '{}',        -- what could not be taken back outside
    worker         text NOT NULL DEFAULT '',
    lease_until    timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);

SELECT wall_in('tenant_deletions');
GRANT SELECT, INSERT, UPDATE, DELETE ON tenant_deletions TO gateway_engine;

-- The caches read the company again, and find none.
CREATE TRIGGER configuration AFTER INSERT ON tenant_deletions FOR EACH ROW EXECUTE FUNCTION configuration_changed();

CREATE OR REPLACE FUNCTION audit_is_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.at > now() - interval '364 days'
       AND NOT EXISTS (SELECT FROM tenant_deletions d WHERE d.tenant_id = OLD.tenant_id) THEN
        RAISE EXCEPTION 'the audit trail is kept for a year';
    END IF;
    RETURN OLD;
END $$;
