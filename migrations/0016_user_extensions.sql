-- Internal numbers of the users of outside systems, in a table of their own: a change of it is no change of settings, which would
-- replace actors. What stood in settings moves here.
-- needs: no gateway of an older version. It looks for the map in settings.

CREATE TABLE user_extensions (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    user_id          text NOT NULL,                     -- as the outside system writes it
    extension        text,                              -- NULL: taken away here, and not to be taken over from there again
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, integration_type, user_id),
    FOREIGN KEY (tenant_id, integration_type) REFERENCES integrations ON DELETE CASCADE
);

-- The owner of the tables is walled in too, unless a superuser.
ALTER TABLE integrations NO FORCE ROW LEVEL SECURITY;
INSERT INTO user_extensions (tenant_id, integration_type, user_id, extension)
SELECT i.tenant_id, i.integration_type, m.key, nullif(btrim(m.value), '')
FROM integrations i
CROSS JOIN LATERAL jsonb_each_text(CASE WHEN jsonb_typeof(i.settings -> 'user_extensions') = 'object'
                                        THEN i.settings -> 'user_extensions' ELSE '{}' END) AS m;
-- Nothing has changed that a cache or an outside system would have to be told of.
SELECT set_config('gateway.resealing', 'on', true);
UPDATE integrations SET settings = settings - 'user_extensions' WHERE settings ? 'user_extensions';
SELECT set_config('gateway.resealing', 'off', true);
ALTER TABLE integrations FORCE ROW LEVEL SECURITY;

ALTER TABLE user_extensions ENABLE ROW LEVEL SECURITY;
ALTER TABLE user_extensions FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON user_extensions TO gateway_app
    USING (tenant_id = NULLIF(current_setting('app.tenant', true), ''))
    WITH CHECK (tenant_id = NULLIF(current_setting('app.tenant', true), ''));
CREATE POLICY engine ON user_extensions TO gateway_engine USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON user_extensions TO gateway_app, gateway_engine;

-- Once a statement, for every integration in it: the caches read the tenant again, and the outside system is to be told.
CREATE FUNCTION extensions_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    one record;
    next_version bigint;
BEGIN
    FOR one IN SELECT tenant_id, array_agg(DISTINCT integration_type) AS keys FROM changed GROUP BY tenant_id LOOP
        next_version := nextval('configuration_version');
        INSERT INTO tenant_versions AS v (tenant_id, version, changed_at)
        VALUES (one.tenant_id, next_version, clock_timestamp())
        ON CONFLICT (tenant_id) DO UPDATE
        SET version = greatest(excluded.version, v.version + 1), changed_at = excluded.changed_at
        RETURNING v.version INTO next_version;
        PERFORM pg_notify('gateway_configuration', json_build_object('table', TG_TABLE_NAME, 'tenant_id', one.tenant_id,
                                                                     'version', next_version)::text);
        UPDATE modules SET version = version + 1
        WHERE tenant_id = one.tenant_id AND integration_type = ANY (one.keys) AND state <> 'new';
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER extensions_added AFTER INSERT ON user_extensions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION extensions_changed();
CREATE TRIGGER extensions_changed AFTER UPDATE ON user_extensions
    REFERENCING NEW TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION extensions_changed();
CREATE TRIGGER extensions_removed AFTER DELETE ON user_extensions
    REFERENCING OLD TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION extensions_changed();

-- The map of an outside system that has none of our registrations is told from its first number on.
GRANT INSERT (state) ON modules TO gateway_app;
