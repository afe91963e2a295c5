-- What integrations do by themselves every so often: one row for each job, claimed under a lease by the instance that owns the tenant.

CREATE TABLE integration_jobs (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    name             text NOT NULL,
    due_at           timestamptz NOT NULL,
    lease_until      timestamptz,
    epoch            bigint NOT NULL DEFAULT 0,         -- raised by every claim; whoever finishes names the one it holds
    problem          text NOT NULL DEFAULT '',          -- why the last run came to nothing: a code, and what was received
    detail           text NOT NULL DEFAULT '',
    attempts         integer NOT NULL DEFAULT 0,        -- runs since the last good one
    last_done_at     timestamptz,
    PRIMARY KEY (tenant_id, integration_type, name),
    FOREIGN KEY (tenant_id, integration_type) REFERENCES integrations ON DELETE CASCADE
) WITH (fillfactor = 50);

ALTER TABLE integration_jobs ENABLE ROW LEVEL SECURITY;
ALTER TABLE integration_jobs FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON integration_jobs TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON integration_jobs TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON integration_jobs TO gateway_engine;
GRANT SELECT, INSERT, UPDATE ON integration_jobs TO gateway_app;

-- Makes a job due so many seconds from now, or earlier where it is already; one that runs now runs once more.
CREATE FUNCTION job_due(tenant text, integration text, job text, after_s float8) RETURNS void LANGUAGE sql AS $$
    INSERT INTO integration_jobs AS j (tenant_id, integration_type, name, due_at)
    SELECT i.tenant_id, i.integration_type, job, now() + make_interval(secs => after_s) FROM integrations i
    WHERE i.tenant_id = tenant AND i.integration_type = integration
    ON CONFLICT (tenant_id, integration_type, name) DO UPDATE
    SET due_at = CASE WHEN j.lease_until > now() THEN excluded.due_at ELSE least(j.due_at, excluded.due_at) END, attempts = 0
$$;

-- Whoever commits a change that an outside system is to be notified of does so at once. Should it end in between, or the other side
-- not answer, these jobs (actors/crm/registration_jobs.py) do it.
CREATE FUNCTION registration_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM job_due(NEW.tenant_id, NEW.integration_type, 'registration', 30);
    RETURN NULL;
END $$;
CREATE TRIGGER registration_due_first AFTER INSERT ON modules FOR EACH ROW
    WHEN (NEW.state <> 'new' AND NEW.told_version < NEW.version) EXECUTE FUNCTION registration_due();
CREATE TRIGGER registration_due AFTER UPDATE OF version ON modules FOR EACH ROW
    WHEN (NEW.state <> 'new' AND NEW.told_version < NEW.version AND OLD.version <> NEW.version)
    EXECUTE FUNCTION registration_due();

CREATE FUNCTION status_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM job_due(NEW.tenant_id, NEW.integration_type, 'statuses', 30);
    RETURN NULL;
END $$;
CREATE TRIGGER status_due AFTER INSERT OR UPDATE ON user_statuses FOR EACH ROW
    WHEN (NOT NEW.told) EXECUTE FUNCTION status_due();
