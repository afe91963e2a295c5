-- Tokens that change by themselves (OAuth and its like), outside an integration's settings: a refresh restarts no actor and
-- is no change of configuration, so no trigger stands here.

CREATE TABLE integration_tokens (
    tenant_id        text NOT NULL,
    integration_type text NOT NULL,
    name             text NOT NULL,
    sealed           text NOT NULL,
    previous_sealed  text NOT NULL DEFAULT '',          -- the one before, until this one has worked
    expires_at       timestamptz,
    version          bigint NOT NULL DEFAULT 1,         -- raised by every new token
    updated_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    exchange_by      text NOT NULL DEFAULT '',          -- who trades it for a new one now, and until when alone
    exchange_until   timestamptz,
    PRIMARY KEY (tenant_id, integration_type, name),
    FOREIGN KEY (tenant_id, integration_type) REFERENCES integrations ON DELETE CASCADE
);

ALTER TABLE integration_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE integration_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON integration_tokens TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON integration_tokens TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON integration_tokens TO gateway_engine;
-- The tokens are the engine's alone; pages see that there is one, and how old it is.
GRANT SELECT (tenant_id, integration_type, name, expires_at, version, updated_at) ON integration_tokens TO gateway_app;
