-- Click-to-call, API keys, and the trail of who did what.

CREATE TABLE api_keys (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    key_hash    bytea NOT NULL,                         -- SHA-256 of the whole key, which has 178 random bits
    name        text NOT NULL,
    scopes      text[] NOT NULL,
    hint        text NOT NULL,                          -- the key's first characters, to tell one from another
    created_at  timestamptz NOT NULL DEFAULT now(),
    used_at     timestamptz,
    revoked_at  timestamptz,
    PRIMARY KEY (tenant_id, key_hash)
);
-- A key is looked up before its tenant is known; two tenants can never share one.
CREATE UNIQUE INDEX api_keys_hash ON api_keys (key_hash);

-- One row for every call somebody asked us to place and that was allowed. Written before the PBX is asked, so that an
-- order whose answer was lost is never repeated.
CREATE TABLE call_orders (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    order_id    text NOT NULL,                          -- the Uniqueid of the call's first channel
    call_id     text NOT NULL,
    pbx         text NOT NULL,
    asked_by    text NOT NULL,                          -- the integration, an API key's hint, or a person's address
    person      text NOT NULL,                          -- whom the limits count: the internal number that rings
    number      text NOT NULL,
    state       text NOT NULL DEFAULT 'asked' CHECK (state IN ('asked', 'taken', 'refused', 'doubtful')),
    reason      text NOT NULL DEFAULT '',
    asked_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, order_id)
);
CREATE INDEX call_orders_recent ON call_orders (tenant_id, asked_at DESC);
CREATE INDEX call_orders_call ON call_orders (tenant_id, call_id);

-- Who did what, and who was refused what. Written once, never changed.
CREATE TABLE audit (
    tenant_id   text NOT NULL,
    audit_id    bigint GENERATED ALWAYS AS IDENTITY,
    at          timestamptz NOT NULL DEFAULT now(),
    actor       text NOT NULL,                          -- an e-mail address, an integration, an API key's hint, 'cli'
    action      text NOT NULL,                          -- such as call.refused, pbx.changed: a key of the UI's texts
    target      text NOT NULL,
    detail      text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, audit_id)
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['api_keys', 'call_orders', 'audit'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;

GRANT SELECT, INSERT, UPDATE, DELETE ON api_keys TO gateway_engine;
GRANT SELECT (tenant_id, name, scopes, hint, created_at, used_at, revoked_at) ON api_keys TO gateway_app;
GRANT SELECT, INSERT, UPDATE ON call_orders TO gateway_app, gateway_engine;
GRANT DELETE ON call_orders TO gateway_engine;
GRANT SELECT, INSERT ON audit TO gateway_app, gateway_engine;
