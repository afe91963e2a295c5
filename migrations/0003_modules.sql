-- Our modules in outside systems: how we are registered there, and what users of those systems are doing.

CREATE TABLE modules (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    -- What it is to be there; 'deleted' stays only until the other side has heard of it.
    state            text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'active', 'inactive', 'deleted')),
    registration     integer NOT NULL DEFAULT 0,        -- raised by each registration; links and sessions name theirs
    link_key         text NOT NULL DEFAULT '',          -- sealed; signs the link of this registration
    registered_at    timestamptz,
    version          bigint NOT NULL DEFAULT 0,         -- raised by whatever the other side must be told of
    told_version     bigint NOT NULL DEFAULT 0,         -- the last one it has acknowledged
    told_at          timestamptz,
    tried_at         timestamptz,
    problem          text NOT NULL DEFAULT '',          -- why it could not be told: a code, and what was heard
    problem_detail   text NOT NULL DEFAULT '',
    unknown_users    text[] NOT NULL DEFAULT '{}',      -- users of ours that the other side does not know
    saved_at         timestamptz,                       -- when the map was first saved here, or taken over from there
    unread           boolean NOT NULL DEFAULT false,    -- saved before the map over there could be looked at
    PRIMARY KEY (tenant_id, integration_type)
);

CREATE TABLE user_statuses (
    tenant_id        text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    integration_type text NOT NULL,
    user_id          text NOT NULL,
    status           text NOT NULL,
    changed_by       text NOT NULL,                     -- a person's address, or the integration
    changed_at       timestamptz NOT NULL DEFAULT now(),
    told             boolean NOT NULL,                  -- what came from there is never told there
    PRIMARY KEY (tenant_id, integration_type, user_id)
);

-- A session opened by a module's link: it has no person, and sees the pages of that module alone.
ALTER TABLE sessions ADD COLUMN scope text;
ALTER TABLE sessions ADD COLUMN registration integer;
ALTER TABLE sessions ADD CONSTRAINT sessions_scope CHECK ((scope IS NULL) = (registration IS NULL)
                                                          AND (scope IS NULL OR tenant_id IS NOT NULL));

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['modules', 'user_statuses'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant ON %I TO gateway_app '
                       'USING (tenant_id = NULLIF(current_setting(''app.tenant'', true), '''')) '
                       'WITH CHECK (tenant_id = NULLIF(current_setting(''app.tenant'', true), ''''))', name);
        EXECUTE format('CREATE POLICY engine ON %I TO gateway_engine USING (true) WITH CHECK (true)', name);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %I TO gateway_engine', name);
    END LOOP;
END $$;

-- The key is the engine's alone.
GRANT SELECT (tenant_id, integration_type, state, registration, registered_at, version, told_version, told_at, tried_at,
              problem, problem_detail, unknown_users, saved_at, unread) ON modules TO gateway_app;
GRANT INSERT (tenant_id, integration_type, version, saved_at, unread) ON modules TO gateway_app;
GRANT UPDATE (version, saved_at, unread) ON modules TO gateway_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON user_statuses TO gateway_app;

-- Settings hold the map and where we are found: whoever changes them, the other side is told.
CREATE FUNCTION module_outdated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE modules SET version = version + 1
    WHERE tenant_id = NEW.tenant_id AND integration_type = NEW.integration_type AND state <> 'new';
    RETURN NULL;
END $$;
CREATE TRIGGER module AFTER UPDATE ON integrations FOR EACH ROW
    WHEN (OLD.settings IS DISTINCT FROM NEW.settings OR OLD.secrets IS DISTINCT FROM NEW.secrets)
    EXECUTE FUNCTION module_outdated();
