-- Menus that were read from outside systems, one for each integration: what a person has yet to take into the catalog, and what of the
-- catalog came from there.

CREATE TABLE catalog_menus (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    items            jsonb NOT NULL DEFAULT '[]',       -- as it was read last, items of a catalog
    left_out         integer NOT NULL DEFAULT 0,        -- how many could not be read
    read_at          timestamptz,
    taken            jsonb NOT NULL DEFAULT '[]',       -- ids of the catalog's items that came from here
    stopped          jsonb NOT NULL DEFAULT '[]',       -- ids that could not be sold when it was looked at last
    added            integer NOT NULL DEFAULT 0,        -- what taking it would have done then
    changed          integer NOT NULL DEFAULT 0,
    removed          integer NOT NULL DEFAULT 0,
    take_until       timestamptz,                       -- until then the next reading is taken as it comes: somebody has requested it
    take_by          text NOT NULL DEFAULT '',
    PRIMARY KEY (tenant_id, integration_type),
    FOREIGN KEY (tenant_id, integration_type) REFERENCES integrations ON DELETE CASCADE,
    CHECK (jsonb_typeof(items) = 'array' AND jsonb_typeof(taken) = 'array' AND jsonb_typeof(stopped) = 'array')
);

ALTER TABLE catalog_menus ENABLE ROW LEVEL SECURITY;
ALTER TABLE catalog_menus FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON catalog_menus TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON catalog_menus TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE ON catalog_menus TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON catalog_menus TO gateway_engine;
