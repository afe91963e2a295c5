-- What a company says of itself to bots: its profile, its catalog and its prompts. None of it is in the configuration that the
-- caches hold; a change raises the tenant's version all the same, by which whoever read it before knows that it is old.

CREATE TABLE business_profiles (
    tenant_id   text PRIMARY KEY REFERENCES tenants ON DELETE CASCADE,
    profile     jsonb NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE catalog_items (
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    item_id     text NOT NULL CHECK (item_id <> ''),
    name        text NOT NULL,
    description text,
    price       numeric NOT NULL CHECK (price >= 0),    -- exact, with the digits of its currency
    currency    text NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    category    text,
    image_url   text,
    available   boolean NOT NULL DEFAULT true,
    attributes  jsonb NOT NULL DEFAULT '{}',
    sort_order  integer NOT NULL DEFAULT 0,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, item_id)
);
CREATE INDEX catalog_items_order ON catalog_items (tenant_id, sort_order, lower(name), item_id);

-- The newest version of each prompt, and which version of which prompt bots get.
CREATE TABLE prompt_templates (
    tenant_id      text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    prompt_id      text NOT NULL,
    name           text NOT NULL DEFAULT 'Основной промт',
    content        text NOT NULL,
    variables      jsonb NOT NULL DEFAULT '[]',
    is_active      boolean NOT NULL DEFAULT false,
    active_version integer,                             -- an older one while the newest is a draft
    version        integer NOT NULL DEFAULT 1,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, prompt_id),
    UNIQUE (tenant_id, name),
    CHECK (is_active = (active_version IS NOT NULL)),
    CHECK (active_version <= version)
);
CREATE UNIQUE INDEX prompt_templates_active ON prompt_templates (tenant_id) WHERE is_active;

-- Every version that was saved. Rows are added, never changed, and go with their prompt.
CREATE TABLE prompt_history (
    tenant_id   text NOT NULL,
    prompt_id   text NOT NULL,
    version     integer NOT NULL,
    content     text NOT NULL,
    variables   jsonb NOT NULL DEFAULT '[]',
    note        text NOT NULL DEFAULT '',
    changed_by  text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, prompt_id, version),
    FOREIGN KEY (tenant_id, prompt_id) REFERENCES prompt_templates ON DELETE CASCADE
);

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['business_profiles', 'catalog_items', 'prompt_templates', 'prompt_history'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
    END LOOP;
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON business_profiles, catalog_items, prompt_templates TO gateway_app, gateway_engine;
GRANT SELECT, INSERT ON prompt_history TO gateway_app, gateway_engine;

-- Once a statement and tenant: an import of ten thousand items is one change.
CREATE FUNCTION content_changed() RETURNS trigger LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
DECLARE
    one text;
    next_version bigint;
BEGIN
    FOR one IN SELECT DISTINCT tenant_id FROM changed LOOP
        next_version := nextval('configuration_version');
        INSERT INTO tenant_versions AS v (tenant_id, version, changed_at)
        VALUES (one, next_version, clock_timestamp())
        ON CONFLICT (tenant_id) DO UPDATE
        SET version = greatest(excluded.version, v.version + 1), changed_at = excluded.changed_at
        RETURNING v.version INTO next_version;
        PERFORM pg_notify('gateway_configuration', json_build_object('table', TG_TABLE_NAME, 'tenant_id', one,
                                                                     'version', next_version)::text);
    END LOOP;
    RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION content_changed() FROM PUBLIC;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['business_profiles', 'catalog_items', 'prompt_templates'] LOOP
        EXECUTE format('CREATE TRIGGER content_added AFTER INSERT ON %I REFERENCING NEW TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION content_changed()', name);
        EXECUTE format('CREATE TRIGGER content_changed AFTER UPDATE ON %I REFERENCING NEW TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION content_changed()', name);
        EXECUTE format('CREATE TRIGGER content_removed AFTER DELETE ON %I REFERENCING OLD TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION content_changed()', name);
    END LOOP;
END $$;

-- A company's integrations have an order: that of connecting, or of its file. The first CRM is the one that bots are given.
CREATE SEQUENCE integration_order;
GRANT USAGE ON SEQUENCE integration_order TO gateway_app, gateway_engine;
ALTER TABLE integrations ADD COLUMN ordinal bigint NOT NULL DEFAULT 0;
ALTER TABLE integrations NO FORCE ROW LEVEL SECURITY;
SELECT set_config('gateway.resealing', 'on', true);
UPDATE integrations i SET ordinal = o.place
FROM (SELECT tenant_id, integration_type, row_number() OVER (ORDER BY tenant_id, integration_type) AS place FROM integrations) AS o
WHERE (i.tenant_id, i.integration_type) = (o.tenant_id, o.integration_type);
SELECT setval('integration_order', 1 + (SELECT count(*) FROM integrations));
SELECT set_config('gateway.resealing', 'off', true);
ALTER TABLE integrations FORCE ROW LEVEL SECURITY;
ALTER TABLE integrations ALTER COLUMN ordinal SET DEFAULT nextval('integration_order');
