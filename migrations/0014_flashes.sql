-- What a request that changed something has to show on the page it leads to: one row for each such redirect, for minutes.
-- Belongs to one session and is read by that alone; what a person typed and has not saved yet is sealed in it.
CREATE TABLE flashes (
    tenant_id   text REFERENCES tenants ON DELETE CASCADE,   -- of the session; NULL: an operator's
    token_hash  bytea NOT NULL,
    flash_id    text NOT NULL,
    kind        text NOT NULL,
    body        jsonb NOT NULL,
    sealed      jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    UNIQUE NULLS NOT DISTINCT (tenant_id, token_hash, flash_id)
);

ALTER TABLE flashes ENABLE ROW LEVEL SECURITY;
ALTER TABLE flashes FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON flashes TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON flashes TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON flashes TO gateway_engine;
