-- Some messengers do not say in their updates who writes. A job looks it up, once for each conversation; its name stands in
-- actors/chats/naming.py too.

ALTER TABLE conversations ADD COLUMN named_at timestamptz;    -- when the messenger was asked who it is
CREATE INDEX conversations_unnamed ON conversations (tenant_id, integration_type) WHERE name = '' AND username = '' AND named_at IS NULL;

-- Integrations without the job have no row to make due.
CREATE FUNCTION names_due() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
BEGIN
    UPDATE integration_jobs j SET due_at = now()
    FROM (SELECT DISTINCT tenant_id, integration_type FROM added WHERE name = '' AND username = '') a
    WHERE j.tenant_id = a.tenant_id AND j.integration_type = a.integration_type AND j.name = 'names';
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION names_due() FROM PUBLIC;
CREATE TRIGGER names_due AFTER INSERT ON conversations REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION names_due();
