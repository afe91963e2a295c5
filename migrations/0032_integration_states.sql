-- When an integration last passed a test, and when something last arrived there: so that what is known of its health survives a
-- restart. Attempts stand in integration_logs; these columns outlive them.
CREATE TABLE integration_states (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    tested_at        timestamptz,                       -- the settings of now passed a test
    changed_at       timestamptz,                       -- settings were stored that had passed none
    synced_at        timestamptz,                       -- the last success of which the log is no longer stored
    PRIMARY KEY (tenant_id, integration_type),
    FOREIGN KEY (tenant_id, integration_type) REFERENCES integrations ON DELETE CASCADE
);

-- Those of before have been at work: nothing is to be said of them until something fails.
ALTER TABLE integrations NO FORCE ROW LEVEL SECURITY;
INSERT INTO integration_states (tenant_id, integration_type, tested_at) SELECT tenant_id, integration_type, now() FROM integrations;
ALTER TABLE integrations FORCE ROW LEVEL SECURITY;

ALTER TABLE integration_states ENABLE ROW LEVEL SECURITY;
ALTER TABLE integration_states FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON integration_states TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON integration_states TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON integration_states TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON integration_states TO gateway_engine;

-- Pages show that a login is under way, and nothing of it.
GRANT SELECT (tenant_id, integration_type, expires_at) ON logins TO gateway_app;
