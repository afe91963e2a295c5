-- A new master key while everything runs: `gateway keys rotate`.

-- Keys under which nothing may be wrapped any more: a command that began before a rotation's end still holds the old one,
-- and a tenant that it made would be lost with it.
CREATE TABLE retired_master_keys (
    key_id      text PRIMARY KEY CHECK (key_id ~ '^[0-9a-z]{8}$'),
    retired_at  timestamptz NOT NULL DEFAULT now()
);
GRANT SELECT, INSERT ON retired_master_keys TO gateway_engine;

CREATE FUNCTION master_key_in_force() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM retired_master_keys WHERE key_id = split_part(NEW.data_key, ':', 3)) THEN
        RAISE EXCEPTION 'this master key was replaced' USING ERRCODE = '23514', CONSTRAINT = 'master_key_in_force';
    END IF;
    RETURN NULL;
END $$;
-- After, not before: an upsert that meets the row only offers its key.
CREATE TRIGGER master_key AFTER INSERT OR UPDATE OF data_key ON tenants
    FOR EACH ROW EXECUTE FUNCTION master_key_in_force();

-- Ids of the master keys that an instance holds: none is used before every instance has it.
ALTER TABLE instances ADD COLUMN master_keys text[] NOT NULL DEFAULT '{}';

-- What is only sealed anew has not changed: no cache is to read it again, and no outside system to be told.
CREATE OR REPLACE FUNCTION configuration_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text := CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END;
    next_version bigint;
BEGIN
    IF current_setting('gateway.resealing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    next_version := nextval('configuration_version');
    INSERT INTO tenant_versions AS v (tenant_id, version, changed_at)
    VALUES (changed, next_version, clock_timestamp())
    ON CONFLICT (tenant_id) DO UPDATE
    SET version = greatest(excluded.version, v.version + 1), changed_at = excluded.changed_at
    RETURNING v.version INTO next_version;
    -- A hint to re-read, never the data.
    PERFORM pg_notify('gateway_configuration',
                      json_build_object('table', TG_TABLE_NAME, 'tenant_id', changed, 'version', next_version)::text);
    RETURN NULL;
END $$;

DROP TRIGGER module ON integrations;
CREATE TRIGGER module AFTER UPDATE ON integrations FOR EACH ROW
    WHEN ((OLD.settings IS DISTINCT FROM NEW.settings OR OLD.secrets IS DISTINCT FROM NEW.secrets)
          AND current_setting('gateway.resealing', true) IS DISTINCT FROM 'on')
    EXECUTE FUNCTION module_outdated();
